/* See order.h. */
#include "engine/order.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "engine/index.h"

#define FANOUT    64u  /* children of an inner node */
#define LEAF_MAX  252u /* entries of a leaf: as large as an inner node */
#define DEPTH_MAX 16u  /* 32^16 entries: never reached */

/* The shortest string that is greater than everything left of it and not greater than anything right of it. */
struct separator {
    unsigned bytes;
    char id[];
};

struct order_node {
    bool is_leaf;
    unsigned count; /* of entries or children */
    union {
        struct {
            struct order_node *previous;
            struct order_node *next;
            arena_name entries[LEAF_MAX];
        } leaf;
        struct {
            struct order_node *children[FANOUT];
            struct separator
                *separators[FANOUT]; /* [i] is at most every id below children[i]; [0] is NULL: unbounded */
        } inner;
    };
};

/* The way from the root to a leaf: which child was taken in each inner node. */
struct path {
    unsigned depth; /* of inner nodes */
    struct order_node *nodes[DEPTH_MAX];
    unsigned slots[DEPTH_MAX];
};

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int result = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    if (result != 0) {
        return result;
    }
    return (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

void order_init(struct order *order, const struct arena *arena) { *order = (struct order){.arena = arena}; }

static void tree_free(struct order_node *node) {
    if (!node->is_leaf) {
        for (unsigned i = 0; i < node->count; i++) {
            tree_free(node->inner.children[i]);
            free(node->inner.separators[i]);
        }
    }
    free(node);
}

void order_fini(struct order *order) {
    if (order->root != NULL) {
        tree_free(order->root);
    }
    order_init(order, order->arena);
}

static const struct entry *entry_at(const struct order *order, arena_name name) {
    return arena_at(order->arena, name);
}

static struct order_node *node_create(struct order *order, bool is_leaf) {
    struct order_node *node = calloc(1, sizeof *node);
    if (node != NULL) {
        node->is_leaf = is_leaf;
        order->bytes += sizeof *node;
    }
    return node;
}

static void node_destroy(struct order *order, struct order_node *node) {
    order->bytes -= sizeof *node;
    free(node);
}

/* The child of an inner node below which the id belongs: the last one whose separator is <= id. */
static unsigned child_slot(const struct order_node *node, const char *id, size_t bytes) {
    unsigned low = 0;
    unsigned high = node->count - 1;
    while (low < high) {
        unsigned middle = (low + high + 1) / 2;
        const struct separator *separator = node->inner.separators[middle];
        if (compare(separator->id, separator->bytes, id, bytes) <= 0) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static struct order_node *descend(const struct order *order, const char *id, size_t bytes, struct path *path) {
    struct order_node *node = order->root;
    path->depth = 0;
    while (node != NULL && !node->is_leaf) {
        unsigned slot = child_slot(node, id, bytes);
        path->nodes[path->depth] = node;
        path->slots[path->depth++] = slot;
        node = node->inner.children[slot];
    }
    return node;
}

/* The first slot of a leaf whose id is >= the id. */
static unsigned leaf_slot(const struct order *order, const struct order_node *leaf, const char *id, size_t bytes) {
    unsigned low = 0;
    unsigned high = leaf->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct entry *entry = entry_at(order, leaf->leaf.entries[middle]);
        if (compare(entry->id, entry->id_bytes, id, bytes) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- Inserting ---- */

/* What splitting the full nodes of a path needs, taken before anything is changed. */
struct split_supplies {
    unsigned node_count;
    struct order_node *nodes[DEPTH_MAX + 2];
    struct separator *separator;
};

static void supplies_free(struct order *order, struct split_supplies *supplies) {
    for (unsigned i = 0; i < supplies->node_count; i++) {
        node_destroy(order, supplies->nodes[i]);
    }
    free(supplies->separator);
}

static struct separator *separator_between(const struct entry *left, const struct entry *right) {
    unsigned bytes = 0;
    while (bytes < left->id_bytes && bytes < right->id_bytes && left->id[bytes] == right->id[bytes]) {
        bytes++;
    }
    bytes++; /* one more than what they share: left < it <= right */
    struct separator *separator = malloc(sizeof *separator + bytes);
    if (separator != NULL) {
        separator->bytes = bytes;
        memcpy(separator->id, right->id, bytes);
    }
    return separator;
}

static bool supplies_take(struct order *order, struct split_supplies *supplies, const struct path *path,
                          const struct entry *left, const struct entry *right) {
    *supplies = (struct split_supplies){0};
    supplies->separator = separator_between(left, right);
    unsigned full = 1;
    unsigned level = path->depth;
    while (level > 0 && path->nodes[level - 1]->count == FANOUT) {
        full++;
        level--;
    }
    unsigned needed = full + (level == 0 ? 1 : 0); /* and a new root */
    for (unsigned i = 0; i < needed; i++) {
        struct order_node *node = node_create(order, i == 0);
        if (node == NULL) {
            supplies_free(order, supplies);
            return false;
        }
        supplies->nodes[supplies->node_count++] = node;
    }
    if (supplies->separator == NULL) {
        supplies_free(order, supplies);
        return false;
    }
    return true;
}

static void inner_insert(struct order_node *node, unsigned slot, struct order_node *child,
                         struct separator *separator) {
    unsigned moved = node->count - slot;
    memmove(&node->inner.children[slot + 1], &node->inner.children[slot], moved * sizeof(struct order_node *));
    memmove(&node->inner.separators[slot + 1], &node->inner.separators[slot], moved * sizeof(struct separator *));
    node->inner.children[slot] = child;
    node->inner.separators[slot] = separator;
    node->count++;
}

/* Puts `right`, a node split off to the right of the path's last child, into the inner nodes above; splits those
 * that are full. */
static void insert_above(struct order *order, const struct path *path, struct order_node *right,
                         struct split_supplies *supplies) {
    struct separator *separator = supplies->separator;
    unsigned used = 1; /* nodes[0] is the new leaf */
    for (unsigned level = path->depth; level-- > 0;) {
        struct order_node *node = path->nodes[level];
        unsigned slot = path->slots[level] + 1;
        if (node->count < FANOUT) {
            inner_insert(node, slot, right, separator);
            return;
        }
        struct order_node *split = supplies->nodes[used++];
        assert(split != NULL);                                    /* supplies_take counted the full nodes */
        unsigned keep = slot == FANOUT ? FANOUT - 1 : FANOUT / 2; /* ascending inserts leave full nodes behind */
        split->count = FANOUT - keep;
        memcpy(split->inner.children, &node->inner.children[keep], split->count * sizeof(struct order_node *));
        memcpy(split->inner.separators, &node->inner.separators[keep], split->count * sizeof(struct separator *));
        node->count = keep;
        struct separator *up = split->inner.separators[0];
        split->inner.separators[0] = NULL;
        if (slot > keep) {
            inner_insert(split, slot - keep, right, separator);
        } else {
            inner_insert(node, slot, right, separator); /* when slot == keep: to the end of the left half */
        }
        right = split;
        separator = up;
    }
    struct order_node *root = supplies->nodes[used];
    root->count = 2;
    root->inner.children[0] = order->root;
    root->inner.children[1] = right;
    root->inner.separators[1] = separator;
    order->root = root;
}

static void leaf_insert(struct order *order, struct order_node *leaf, unsigned slot, arena_name name) {
    memmove(&leaf->leaf.entries[slot + 1], &leaf->leaf.entries[slot], (leaf->count - slot) * sizeof(arena_name));
    leaf->leaf.entries[slot] = name;
    leaf->count++;
    order->count++;
}

/* Moves the entries from `keep` on to `right`, a new leaf behind it. */
static void leaf_split(struct order *order, struct order_node *leaf, unsigned keep, struct order_node *right) {
    right->count = leaf->count - keep;
    memcpy(right->leaf.entries, &leaf->leaf.entries[keep], right->count * sizeof(arena_name));
    leaf->count = keep;
    right->leaf.previous = leaf;
    right->leaf.next = leaf->leaf.next;
    if (right->leaf.next != NULL) {
        right->leaf.next->leaf.previous = right;
    } else {
        order->last = right;
    }
    leaf->leaf.next = right;
}

static int insert_splitting(struct order *order, const struct path *path, struct order_node *leaf, unsigned slot,
                            arena_name name) {
    /* Split where the halves are even; an insert at the very end keeps the leaf full, as ascending ids fill it. */
    unsigned keep = slot == LEAF_MAX ? LEAF_MAX : LEAF_MAX / 2;
    arena_name first_right = keep == LEAF_MAX ? name : leaf->leaf.entries[keep];
    /* When slot == keep the new one goes to the end of the left half. */
    arena_name last_left = slot == keep && keep != LEAF_MAX ? name : leaf->leaf.entries[keep - 1];
    struct split_supplies supplies;
    if (!supplies_take(order, &supplies, path, entry_at(order, last_left), entry_at(order, first_right))) {
        return DOCDB_ERR_MEMORY;
    }
    struct order_node *right = supplies.nodes[0];
    order->bytes += sizeof *supplies.separator + supplies.separator->bytes;
    insert_above(order, path, right, &supplies);
    leaf_split(order, leaf, keep, right);
    if (keep == LEAF_MAX || slot > keep) {
        leaf_insert(order, right, slot - keep, name);
    } else {
        leaf_insert(order, leaf, slot, name);
    }
    return DOCDB_OK;
}

/* Is the id behind all that are there, and room in the last leaf? */
static bool goes_last(const struct order *order, const struct entry *entry) {
    const struct order_node *last = order->last;
    if (last == NULL || last->count == LEAF_MAX) {
        return false;
    }
    const struct entry *greatest = entry_at(order, last->leaf.entries[last->count - 1]);
    return compare(greatest->id, greatest->id_bytes, entry->id, entry->id_bytes) < 0;
}

int order_insert(struct order *order, arena_name name) {
    const struct entry *entry = entry_at(order, name);
    if (order->root == NULL) {
        order->root = node_create(order, true);
        if (order->root == NULL) {
            return DOCDB_ERR_MEMORY;
        }
        order->last = order->root;
        leaf_insert(order, order->root, 0, name);
        return DOCDB_OK;
    }
    if (goes_last(order, entry)) {
        leaf_insert(order, order->last, order->last->count, name);
        return DOCDB_OK;
    }
    struct path path;
    struct order_node *leaf = descend(order, entry->id, entry->id_bytes, &path);
    unsigned slot = leaf_slot(order, leaf, entry->id, entry->id_bytes);
    if (leaf->count < LEAF_MAX) {
        leaf_insert(order, leaf, slot, name);
        return DOCDB_OK;
    }
    return insert_splitting(order, &path, leaf, slot, name);
}

/* ---- Removing ---- */

static void separator_destroy(struct order *order, struct separator *separator) {
    if (separator != NULL) {
        order->bytes -= sizeof *separator + separator->bytes;
        free(separator);
    }
}

static void inner_remove(struct order *order, struct order_node *node, unsigned slot) {
    separator_destroy(order, node->inner.separators[slot]);
    unsigned moved = node->count - slot - 1;
    memmove(&node->inner.children[slot], &node->inner.children[slot + 1], moved * sizeof(struct order_node *));
    memmove(&node->inner.separators[slot], &node->inner.separators[slot + 1], moved * sizeof(struct separator *));
    node->count--;
    if (slot == 0 && node->count > 0) {
        /* The first child takes everything below its right neighbour, so it needs no bound. */
        separator_destroy(order, node->inner.separators[0]);
        node->inner.separators[0] = NULL;
    }
}

static void leaf_unlink(struct order *order, struct order_node *leaf) {
    if (leaf->leaf.previous != NULL) {
        leaf->leaf.previous->leaf.next = leaf->leaf.next;
    }
    if (leaf->leaf.next != NULL) {
        leaf->leaf.next->leaf.previous = leaf->leaf.previous;
    } else {
        order->last = leaf->leaf.previous;
    }
}

void order_remove(struct order *order, arena_name name) {
    const struct entry *entry = entry_at(order, name);
    struct path path;
    struct order_node *leaf = descend(order, entry->id, entry->id_bytes, &path);
    unsigned slot = leaf_slot(order, leaf, entry->id, entry->id_bytes);
    leaf->count--;
    memmove(&leaf->leaf.entries[slot], &leaf->leaf.entries[slot + 1], (leaf->count - slot) * sizeof(arena_name));
    order->count--;
    if (leaf->count > 0) {
        return;
    }
    leaf_unlink(order, leaf);
    node_destroy(order, leaf);
    for (unsigned level = path.depth; level-- > 0;) {
        struct order_node *node = path.nodes[level];
        inner_remove(order, node, path.slots[level]);
        if (node->count > 0) {
            return;
        }
        node_destroy(order, node);
    }
    order->root = NULL;
}

/* ---- Walking ---- */

arena_name order_last(const struct order *order) {
    return order->last == NULL ? 0 : order->last->leaf.entries[order->last->count - 1];
}

struct order_cursor order_seek(const struct order *order, const char *id, size_t bytes, bool after) {
    struct path path;
    struct order_cursor cursor = {.leaf = descend(order, id, bytes, &path)};
    if (cursor.leaf == NULL) {
        return cursor;
    }
    cursor.slot = leaf_slot(order, cursor.leaf, id, bytes);
    if (after && cursor.slot < cursor.leaf->count) {
        const struct entry *entry = entry_at(order, cursor.leaf->leaf.entries[cursor.slot]);
        cursor.slot += compare(entry->id, entry->id_bytes, id, bytes) == 0 ? 1 : 0;
    }
    return cursor;
}

arena_name order_next(struct order_cursor *cursor) {
    while (cursor->leaf != NULL && cursor->slot >= cursor->leaf->count) {
        cursor->leaf = cursor->leaf->leaf.next;
        cursor->slot = 0;
    }
    return cursor->leaf == NULL ? 0 : cursor->leaf->leaf.entries[cursor->slot++];
}
