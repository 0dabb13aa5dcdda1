/*
 * Checkpoints: moving what is committed from the WAL into the databases' segments, and letting go of the WAL before
 * it.
 *
 * A checkpoint takes a snapshot together with the place in the log that follows it. Of each database it takes the
 * list of dirty entries, appends their documents that are only in the WAL to a segment, and writes one index file
 * (a delta) with where they are; small index files are merged (runs_merge in checkpoint.c: the newest ones, as
 * long as they are no larger than those above them together, so that their number stays logarithmic). One new
 * manifest makes all of it the checkpoint that recovery starts from. Commits and reads go on meanwhile; MVCC keeps
 * the snapshot's versions.
 *
 * Failure: before the manifest is replaced the old checkpoint stands, the dirty entries go back to their lists, and
 * what was written is garbage that the next one collects.
 *
 * Threads: one checkpoint at a time (engine.checkpoint_mutex), on any thread.
 */
#ifndef DOCDB_ENGINE_CHECKPOINT_H
#define DOCDB_ENGINE_CHECKPOINT_H

#include "engine/manifest.h"
#include "engine/runtime.h"

/* Runs one checkpoint, or returns at once when there is nothing to do. Any thread. Errors: IO, NO_SPACE, MEMORY,
 * CORRUPT, READ_ONLY. */
int checkpoint_run(struct engine *engine);

/* Makes durable that dropped databases are gone, without a checkpoint of the others, and frees their space. Errors
 * as checkpoint_run. */
int checkpoint_forget_dropped(struct engine *engine);

#endif
