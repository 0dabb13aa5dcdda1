/* From errno values to DOCDB_ERR_ values, and messages for docdb_error. */
#ifndef DOCDB_BASE_ERROR_H
#define DOCDB_BASE_ERROR_H

#include "docdb.h"

/* The status for a negative errno value that a disk call returned; DOCDB_OK for 0 and above. */
int error_from_os(int64_t rc);

/* Fills *error (may be NULL) and returns status, so that `return error_set(error, ...)` reads well. */
__attribute__((format(printf, 3, 4))) int error_set(docdb_error *error, int status, const char *format, ...);

#endif
