/*
 * Compaction: giving back the space of documents that were overwritten or deleted.
 *
 * When the segments of a database take more than COMPACTION_START of what is live in them (and a little that does
 * not matter), the segment with the smallest share of live bytes is read front to back; what is still live of it is
 * appended to another segment and made durable; the index is told; and the next checkpoint, which holds the new
 * places, removes the old file. Choosing the emptiest segment first is the greedy policy of log-structured file
 * systems (Rosenblum and Ousterhout, 1992).
 *
 * Happy path: compaction_step again and again, each copying a bounded number of bytes and then asking for a pause,
 * the longer the less there is to gain; so it takes a small share of the disk until space runs away from it.
 *
 * Failure: what was copied and not yet told to the index is dead where it is. A damaged record ends the work on its
 * segment, which is left as it is, for good: other documents of it stay readable. A crash at any point leaves a
 * file that no manifest names, which the next start removes, or one that is partly live.
 *
 * Readers are never waited for: who still reads an old segment holds its file open.
 *
 * Threads: the background thread's, each step under engine.checkpoint_mutex.
 */
#ifndef DOCDB_ENGINE_COMPACTION_H
#define DOCDB_ENGINE_COMPACTION_H

#include "engine/runtime.h"

/* Copies a part of a segment, if any is worth it. *pause_ms: the time to the next step; negative: there is nothing
 * to do until something is committed. Returns DOCDB_OK, or what failed. */
int compaction_step(struct engine *engine, int64_t *pause_ms);
/* Is there so much space in dead segments that a checkpoint should remove them? */
bool compaction_wants_checkpoint(struct engine *engine);
/* Gives up the segment that is being worked on. */
void compaction_stop(struct engine *engine);

#endif
