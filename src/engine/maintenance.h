/*
 * The background thread: makes the next WAL file in time, frees dropped databases, runs checkpoints when the log
 * has grown, and compacts segments, in this order of urgency and in bounded steps.
 *
 * Threads: everything here may be called by any thread, but maintenance_housekeep only by who runs a checkpoint.
 */
#ifndef DOCDB_ENGINE_MAINTENANCE_H
#define DOCDB_ENGINE_MAINTENANCE_H

#include "engine/runtime.h"

/* Returns DOCDB_OK or MEMORY. */
int maintenance_start(struct engine *engine);
void maintenance_stop(struct engine *engine);

/* What a long step does in between: the next WAL file, if it is time for it. */
void maintenance_housekeep(struct engine *engine);

/* Bytes of log that no checkpoint covers yet. */
uint64_t checkpoint_debt(struct engine *engine);
/* Chooses from how many on a checkpoint is due: after each checkpoint, and when the engine was opened. */
void checkpoint_threshold_set(struct engine *engine);
/* Are they so many that a checkpoint should run? */
bool checkpoint_due(struct engine *engine);
/* Asks the background thread for a checkpoint, waits until an attempt that began after this has ended, and returns
 * its status. CLOSING: there is no background thread. */
int checkpoint_wait(struct engine *engine);

#endif
