/*
 * The lock of a data directory: one process at a time has it, be it to serve the store or to look at its files.
 *
 * It is a lock on the open file LOCK, so it ends with the process, however that ends. The owner's pid stands in the
 * file as text, for the message that another process gets.
 */
#ifndef DOCDB_ENGINE_LOCK_H
#define DOCDB_ENGINE_LOCK_H

#include "base/os.h"
#include "docdb.h"

/* Locks `directory`; *out is the file, for lock_release. Errors, each with a message: LOCKED (it names the owner's
 * pid), PERMISSION, NO_SPACE, IO. */
int lock_acquire(const struct docdb_os *os, const char *directory, int *out, docdb_error *error);
void lock_release(const struct docdb_os *os, int file);

#endif
