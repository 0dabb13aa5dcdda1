/*
 * The commit path: from the queue to the disk to the index's readers.
 *
 * One batch is one step (commit_step):
 *   1. reserve   room in the WAL for everything the batch could write; no space refuses the batch, cleanly
 *   2. apply     under `apply`: check each transaction's preconditions, number it, install its versions, unseen
 *   3. log       append one record a transaction, then one write and one sync
 *   4. publish   one store of the newest commit_seq: all of the batch becomes visible
 *   5. observe   call the observers, in commit_seq order
 *   6. complete  acknowledge each transaction whose observers are done with it
 *   7. reclaim   free what no snapshot needs any more
 *
 * Failure: a transaction that fails in 2 is taken back and completed with its error; the others go on. A failure in
 * 3 leaves the tail of the log unknown: the batch is taken back, the runtime is read-only from then on, and nothing
 * more is acknowledged.
 *
 * Threads: one commit thread runs the steps in production; a test may run them itself.
 */
#ifndef DOCDB_ENGINE_COMMIT_H
#define DOCDB_ENGINE_COMMIT_H

#include "engine/runtime.h"

/* Takes one batch from the queue (waiting for it) and carries it through. False: the queue is closed and empty. */
bool commit_step(struct engine *engine);

/* Starts the commit thread. Returns DOCDB_OK or MEMORY. */
int commit_start(struct engine *engine);
/* Lets the queue run empty and ends the thread. */
void commit_stop(struct engine *engine);

/* Creates or drops a database and waits for it. flags: DOCDB_DROP_ values. Errors as docdb_db_open and
 * docdb_db_drop. */
int commit_create_database(struct engine *engine, const char *name);
int commit_drop_database(struct engine *engine, const char *name, unsigned flags);

#endif
