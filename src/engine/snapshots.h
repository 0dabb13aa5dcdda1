/*
 * The published commit_seq, and the snapshots that readers hold.
 *
 * Publishing a batch is one store of `published`: from then on new snapshots see it. The horizon is the oldest
 * commit_seq that any open snapshot sees: versions that a newer one at or below the horizon replaced are garbage.
 */
#ifndef DOCDB_ENGINE_SNAPSHOTS_H
#define DOCDB_ENGINE_SNAPSHOTS_H

#include <stdatomic.h>

#include "base/thread.h"

struct snapshot {
    uint64_t seq;
    struct snapshot *previous;
    struct snapshot *next;
};

struct snapshots {
    atomic_uint_fast64_t published;
    struct mutex mutex;
    struct snapshot *oldest GUARDED_BY(mutex); /* in order of seq, as published only grows */
    struct snapshot *newest GUARDED_BY(mutex);
    unsigned count GUARDED_BY(mutex);
};

void snapshots_init(struct snapshots *snapshots, uint64_t published);
void snapshots_fini(struct snapshots *snapshots);

/* Registers a snapshot of what is published now. False: LIMIT_SNAPSHOTS are open. */
bool snapshot_acquire(struct snapshots *snapshots, struct snapshot *snapshot);
/* Returns true when that may have moved the horizon. */
bool snapshot_release(struct snapshots *snapshots, struct snapshot *snapshot);

uint64_t snapshots_horizon(struct snapshots *snapshots);
unsigned snapshots_count(struct snapshots *snapshots);

#endif
