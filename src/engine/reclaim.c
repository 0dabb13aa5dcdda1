/* See reclaim.h. */
#include "engine/reclaim.h"

#include <stdlib.h>

#define CAPACITY_FIRST 1024u

void reclaimer_init(struct reclaimer *reclaimer) { *reclaimer = (struct reclaimer){0}; }

static struct reclaim_item *item_at(const struct reclaimer *reclaimer, size_t position) {
    return &reclaimer->items[(reclaimer->head + position) & (reclaimer->capacity - 1)];
}

void reclaimer_fini(struct reclaimer *reclaimer) {
    for (size_t i = 0; i < reclaimer->count; i++) {
        database_release(item_at(reclaimer, i)->database);
    }
    free(reclaimer->items);
}

bool reclaimer_reserve(struct reclaimer *reclaimer, size_t count) {
    size_t capacity = reclaimer->capacity == 0 ? CAPACITY_FIRST : reclaimer->capacity;
    while (capacity - reclaimer->count < count) {
        capacity *= 2;
    }
    if (capacity == reclaimer->capacity) {
        return true;
    }
    struct reclaim_item *items = malloc(capacity * sizeof *items);
    if (items == NULL) {
        return false;
    }
    for (size_t i = 0; i < reclaimer->count; i++) {
        items[i] = *item_at(reclaimer, i);
    }
    free(reclaimer->items);
    reclaimer->items = items;
    reclaimer->capacity = capacity;
    reclaimer->head = 0;
    return true;
}

void reclaimer_add(struct reclaimer *reclaimer, struct database *database, struct entry *entry, uint64_t seq) {
    *item_at(reclaimer, reclaimer->count) =
        (struct reclaim_item){.database = database_acquire(database), .entry = entry, .seq = seq};
    reclaimer->count++;
}

bool reclaimer_run(struct reclaimer *reclaimer, uint64_t horizon, size_t max) {
    while (reclaimer->count > 0 && max-- > 0) {
        struct reclaim_item item = *item_at(reclaimer, 0);
        if (item.seq > horizon) {
            return false;
        }
        reclaimer->head = (reclaimer->head + 1) & (reclaimer->capacity - 1);
        reclaimer->count--;
        index_reclaim(item.database->index, item.entry, item.seq);
        database_release(item.database);
    }
    return reclaimer->count > 0;
}
