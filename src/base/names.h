/* The rules for ids and database names. */
#ifndef DOCDB_BASE_NAMES_H
#define DOCDB_BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* `bytes` bytes at `id`: 1 to DOCDB_ID_BYTES_MAX, no '/' and no NUL, not "." or "..". */
bool id_valid(const char *id, size_t bytes);
/* 1 to DOCDB_NAME_BYTES_MAX of A-Z a-z 0-9 _ - . and not starting with '.'. */
bool name_valid(const char *name, size_t bytes);

#endif
