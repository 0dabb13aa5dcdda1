/*
 * Freeing versions that no snapshot needs any more.
 *
 * Each commit that replaces or deletes a document adds an item: "once the horizon reaches my commit_seq, everything
 * below my version is garbage". Items are in order of commit_seq, so reclaiming looks at the head alone, and costs
 * the same for each item whatever else is stored.
 *
 * Everything here is under the engine's `apply` mutex.
 */
#ifndef DOCDB_ENGINE_RECLAIM_H
#define DOCDB_ENGINE_RECLAIM_H

#include "engine/catalog.h"

struct reclaim_item {
    struct database *database; /* one reference */
    struct entry *entry;
    uint64_t seq;
};

/* A ring of items. */
struct reclaimer {
    struct reclaim_item *items;
    size_t capacity; /* a power of two, or 0 */
    size_t head;
    size_t count;
};

void reclaimer_init(struct reclaimer *reclaimer);
/* Gives up the items' references; the versions go with their databases. */
void reclaimer_fini(struct reclaimer *reclaimer);

/* Makes room for so many more items. False: out of memory. */
bool reclaimer_reserve(struct reclaimer *reclaimer, size_t count);
/* Takes a reference on the database. reclaimer_reserve came before. */
void reclaimer_add(struct reclaimer *reclaimer, struct database *database, struct entry *entry, uint64_t seq);
/* Frees what is garbage at `horizon`, up to `max` items. True: there may be more. */
bool reclaimer_run(struct reclaimer *reclaimer, uint64_t horizon, size_t max);

#endif
