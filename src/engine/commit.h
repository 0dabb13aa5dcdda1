/*
 * The commit path: from the queue to the disk to the index's readers.
 *
 * One batch is one step (commit_step):
 *   1. reserve   room for everything the batch could write; when there is none it is refused, cleanly
 *   2. apply     under `apply`: check each transaction's preconditions, number it, install its versions, unseen
 *   3. place     append large documents to a segment and sync it
 *   4. log       append one record a transaction, then one write and one sync
 *   5. publish   one store of the newest commit_seq: all of the batch becomes visible
 *   6. observe   call the observers, in commit_seq order
 *   7. complete  acknowledge each transaction whose observers are done with it
 *   8. reclaim   free what no snapshot needs any more
 *
 * Failure: a transaction that fails in 2 is taken back and completed with its error; the others go on. A failure in
 * 3 takes the whole batch back. A failure in 4 leaves the tail of the log unknown: the batch is taken back, the
 * runtime is read-only from then on, and nothing more is acknowledged.
 *
 * Threads: COMMIT_THREADS run steps in turn: 1 to 6 under commit_mutex, the rest beside the next batch of another
 * thread, so that waking a hundred waiters does not hold up the disk. complete_mutex is taken before commit_mutex
 * is given back, so batches complete in order. A test may run steps itself.
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
