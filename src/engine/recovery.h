/*
 * Recovery: from what is on disk to an engine that can start.
 *
 * The manifest names the checkpoint; each database's index file is loaded; the log is replayed from the place that
 * the manifest names. Replay ends at the first record that is not the valid successor of the one before. If a valid
 * record further on says that the log was durable beyond that point, something in between was damaged: recovery
 * refuses and says where. Otherwise it was the tail of a crash, never acknowledged.
 */
#ifndef DOCDB_ENGINE_RECOVERY_H
#define DOCDB_ENGINE_RECOVERY_H

#include "engine/runtime.h"

/* Makes the files of a new store in the directory, which is empty but for the lock file. */
int recovery_create_store(struct engine *engine, docdb_error *error);

/* Loads the checkpoint, replays the log and starts the WAL. Errors, each with a message: CORRUPT, NEWER_FORMAT, IO,
 * NO_SPACE, MEMORY. */
int recovery_run(struct engine *engine, docdb_error *error);

#endif
