/*
 * Checkpoints: moving what is committed from the WAL into the databases' segments, and letting go of the WAL before
 * it.
 *
 * A checkpoint takes a snapshot together with the place in the log that follows it, walks each changed database
 * through that snapshot, appends the documents that are only in the WAL to a segment, and writes the index file.
 * One new manifest makes all of it the checkpoint that recovery starts from. Commits and reads go on meanwhile;
 * MVCC keeps the snapshot's versions.
 *
 * Failure: before the manifest is replaced the old checkpoint stands, and what was written is garbage that the next
 * one collects.
 */
#ifndef DOCDB_ENGINE_CHECKPOINT_H
#define DOCDB_ENGINE_CHECKPOINT_H

#include "engine/manifest.h"
#include "engine/runtime.h"

/* Runs one checkpoint, or returns at once when nothing was committed since the last. Any thread. Errors: IO,
 * NO_SPACE, MEMORY, CORRUPT. */
int checkpoint_run(struct engine *engine);

/* Removes the files that `manifest`, which is on the disk, does not need: what an unfinished checkpoint left, and
 * dropped databases. What can't be removed is logged and left for the next time. */
void checkpoint_collect(struct engine *engine, const struct manifest *manifest);

/* The background thread: prepares the next WAL file, and runs a checkpoint when the WAL has grown or a database was
 * dropped. */
int maintenance_start(struct engine *engine);
void maintenance_stop(struct engine *engine);

#endif
