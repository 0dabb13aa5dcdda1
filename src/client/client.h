/* The C client: the backend of docdb.h for "unix:PATH". */
#ifndef DOCDB_CLIENT_CLIENT_H
#define DOCDB_CLIENT_CLIENT_H

#include "docdb.h"

/* Connects to the server at `path`. Contract and errors as docdb_open. */
int client_open(const char *path, const docdb_options *options, docdb **out, docdb_error *error);

#endif
