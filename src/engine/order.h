/*
 * The order of the ids of one database: a B+tree in memory whose leaves hold the index's entries, in bytewise order
 * of id.
 *
 * It changes only when an id appears or disappears, never when a document gets a new version. Leaves are linked, so
 * a scan walks them. A leaf or inner node that becomes empty is freed at once; half-empty ones are not merged
 * ("free at empty": Johnson and Shasha, "B-trees with inserts and deletes: why free-at-empty is better than
 * merge-at-half", 1993). Separators are the shortest strings that tell two leaves apart, so inner nodes stay small
 * when ids are long.
 *
 * Not thread-safe: the index guards it with its order lock.
 */
#ifndef DOCDB_ENGINE_ORDER_H
#define DOCDB_ENGINE_ORDER_H

#include <stdbool.h>
#include <stddef.h>

struct entry;
struct order_node;

struct order {
    struct order_node *root; /* NULL: empty */
    size_t count;
};

/* A place in the order. Valid until the order changes. */
struct order_cursor {
    struct order_node *leaf; /* NULL: past the end */
    unsigned slot;
};

void order_init(struct order *order);
/* Frees the tree, not the entries. */
void order_fini(struct order *order);

/* Adds an entry whose id is not there yet. Returns DOCDB_OK, or MEMORY with nothing changed. Ascending ids leave
 * full leaves behind. */
int order_insert(struct order *order, struct entry *entry);
/* Removes an entry that is there. */
void order_remove(struct order *order, const struct entry *entry);
/* The first entry whose id is >= the `bytes` bytes at `id`, or > them when `after`. */
struct order_cursor order_seek(const struct order *order, const char *id, size_t bytes, bool after);
/* The entry at the cursor, NULL past the end; then moves on. */
struct entry *order_next(struct order_cursor *cursor);

#endif
