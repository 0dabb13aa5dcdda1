/* See snapshots.h. */
#include "engine/snapshots.h"

#include <stddef.h>

#include "base/limits.h"

void snapshots_init(struct snapshots *snapshots, uint64_t published) {
    *snapshots = (struct snapshots){0};
    atomic_init(&snapshots->published, published);
    mutex_init(&snapshots->mutex);
}

void snapshots_fini(struct snapshots *snapshots) { mutex_fini(&snapshots->mutex); }

bool snapshot_acquire(struct snapshots *snapshots, struct snapshot *snapshot) {
    mutex_lock(&snapshots->mutex);
    bool room = snapshots->count < LIMIT_SNAPSHOTS;
    if (room) {
        /* Under the mutex, so that a horizon computed before is not above it. */
        snapshot->seq = atomic_load_explicit(&snapshots->published, memory_order_acquire);
        snapshot->next = NULL;
        snapshot->previous = snapshots->newest;
        if (snapshots->newest != NULL) {
            snapshots->newest->next = snapshot;
        } else {
            snapshots->oldest = snapshot;
        }
        snapshots->newest = snapshot;
        snapshots->count++;
    }
    mutex_unlock(&snapshots->mutex);
    return room;
}

bool snapshot_release(struct snapshots *snapshots, struct snapshot *snapshot) {
    mutex_lock(&snapshots->mutex);
    bool was_oldest = snapshot->previous == NULL;
    if (snapshot->previous != NULL) {
        snapshot->previous->next = snapshot->next;
    } else {
        snapshots->oldest = snapshot->next;
    }
    if (snapshot->next != NULL) {
        snapshot->next->previous = snapshot->previous;
    } else {
        snapshots->newest = snapshot->previous;
    }
    snapshots->count--;
    mutex_unlock(&snapshots->mutex);
    return was_oldest;
}

uint64_t snapshots_horizon(struct snapshots *snapshots) {
    mutex_lock(&snapshots->mutex);
    uint64_t horizon = snapshots->oldest != NULL
                           ? snapshots->oldest->seq
                           : atomic_load_explicit(&snapshots->published, memory_order_acquire);
    mutex_unlock(&snapshots->mutex);
    return horizon;
}

unsigned snapshots_count(struct snapshots *snapshots) {
    mutex_lock(&snapshots->mutex);
    unsigned count = snapshots->count;
    mutex_unlock(&snapshots->mutex);
    return count;
}
