/*
 * The order of the ids of one database: a B+tree in memory whose leaves hold the names of the index's entries (see
 * arena.h), in bytewise order of id.
 *
 * It changes only when an id appears or disappears, never when a document gets a new version. Leaves are linked, so
 * a scan walks them. A leaf or inner node that becomes empty is freed at once; half-empty ones are not merged
 * ("free at empty": Johnson and Shasha, "B-trees with inserts and deletes: why free-at-empty is better than
 * merge-at-half", 1993). Separators are the shortest strings that tell two leaves apart, so inner nodes stay small
 * when ids are long. Ids that come in ascending order go straight to the last leaf and leave full leaves behind.
 *
 * Not thread-safe: the index guards it with its order lock.
 */
#ifndef DOCDB_ENGINE_ORDER_H
#define DOCDB_ENGINE_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/arena.h"

struct order_node;

struct order {
    const struct arena *arena; /* of the entries */
    struct order_node *root;   /* NULL: empty */
    struct order_node *last;   /* the leaf with the greatest ids */
    size_t count;
    size_t bytes; /* memory of the tree */
};

/* A place in the order. Valid until the order changes. */
struct order_cursor {
    struct order_node *leaf; /* NULL: past the end */
    unsigned slot;
};

/* The arena must outlive it. */
void order_init(struct order *order, const struct arena *arena);
/* Frees the tree, not the entries. */
void order_fini(struct order *order);

/* Adds an entry whose id is not there yet. Returns DOCDB_OK, or MEMORY with nothing changed. */
int order_insert(struct order *order, arena_name name);
/* Removes an entry that is there. */
void order_remove(struct order *order, arena_name name);
/* The entry with the greatest id; 0: empty. */
arena_name order_last(const struct order *order);
/* The first entry whose id is >= the `bytes` bytes at `id`, or > them when `after`. */
struct order_cursor order_seek(const struct order *order, const char *id, size_t bytes, bool after);
/* The entry at the cursor, 0 past the end; then moves on. */
arena_name order_next(struct order_cursor *cursor);

#endif
