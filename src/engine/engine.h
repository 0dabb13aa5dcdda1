/* The engine: the backend of docdb.h for a data directory. */
#ifndef DOCDB_ENGINE_ENGINE_H
#define DOCDB_ENGINE_ENGINE_H

#include "docdb.h"

/* Opens the data directory `path`. Contract and errors as docdb_open. */
int engine_open(const char *path, const docdb_options *options, docdb **out, docdb_error *error);

#endif
