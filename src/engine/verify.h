/*
 * Verification: is every byte that the store may ever read as it was written?
 *
 * It works from the files alone, through a manifest: the manifest itself, each index run with every page, each
 * segment's header, the record of each document of the merged runs, then each segment front to back for what no
 * document has; offline also the WAL. Damage is reported, with file, offset, database and id, and what can be
 * checked in spite of it is.
 *
 * A verification is a thread that runs ahead of its caller by one event (verify.c); so its parts are plain loops
 * over files (verify_work.c, verify_records.c, verify_wal.c), and verify_next is a wait for the next event.
 *
 * Online it holds the files (collect.h), so that those which its copy of the manifest names stay. Offline it holds
 * the directory's lock.
 *
 * Limits: damage that no document has is told apart from damage that was told with a document's id by a list of
 * those; where it is full (4,096 damaged documents) no more of the former is reported.
 *
 * Memory: one window of 1 MiB, one batch of index entries (7 MiB), and what the index readers take (1 MiB a
 * run).
 */
#ifndef DOCDB_ENGINE_VERIFY_H
#define DOCDB_ENGINE_VERIFY_H

#include "base/backend.h"

/* The engine's part of docdb_verify_open, docdb_verify_directory, docdb_verify_next and docdb_verify_close. */
int verify_open(docdb *runtime, docdb_verify **out);
int verify_directory(const char *path, const docdb_options *options, docdb_verify **out, docdb_error *error);
int verify_next(docdb_verify *verify, docdb_verify_event *out);
void verify_close(docdb_verify *verify);

#endif
