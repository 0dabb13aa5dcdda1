/*
 * Admission control: what slows writers down, and what refuses them, before a batch changes anything.
 *
 * Slows: when the part of the log that no checkpoint covers yet grows beyond half of --wal-limit, each batch waits
 * a little: at three quarters as long as a checkpoint needs for as many bytes, at the limit twice that. So writers
 * come down to the speed of the checkpoint smoothly instead of hitting the wall.
 *
 * Refuses: when the disk has no room for the batch and for the checkpoint that must follow it. So a full disk can
 * still be checkpointed, and what deletes free comes back. A batch that only deletes is never refused here.
 *
 * Threads: under engine.commit_mutex.
 */
#ifndef DOCDB_ENGINE_ADMISSION_H
#define DOCDB_ENGINE_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

struct admission {
    int64_t looked_ns;   /* when the free space was looked at last (monotonic) */
    uint64_t left_bytes; /* of it, after what was admitted since and what a checkpoint needs */
    uint64_t look_below; /* look again when less is left */
    uint64_t wal_bytes;  /* of the log's files at the last look */
    bool is_short;       /* the last look refused */
};

/* A batch of so many bytes of log, and so many of documents that go to segments. Returns DOCDB_OK, maybe after a
 * wait, or NO_SPACE. */
int admission_check(struct engine *engine, uint64_t wal_bytes, uint64_t placed_bytes, bool frees);

#endif
