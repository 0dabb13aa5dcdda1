/*
 * A file or directory of the simulated disk (sim_disk.h): its bytes as they are read, as they are durable, and the
 * changes between the two; a directory's names likewise.
 *
 * Invariant: durable, with all changes in order, is cache (except after a failed sync, which forgets changes).
 * Locks: none here; all of it is under the disk's mutex. Out of memory aborts.
 */
#ifndef DOCDB_TESTS_SIM_NODE_H
#define DOCDB_TESTS_SIM_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES   ((uint64_t)4096)
#define SECTOR_BYTES ((uint64_t)512)
#define NAME_BYTES   256

/* Bytes, sparse: a page that is NULL is zeros. */

struct image {
    uint8_t **pages;
    size_t page_count;
    uint64_t bytes;
};

enum change_kind { CHANGE_WRITE, CHANGE_RESIZE, CHANGE_GROW };

/* A change of a file that is not durable. */
struct change {
    struct change *next;
    enum change_kind kind;
    bool certain;    /* written with OS_DSYNC, behind changes that are not certain */
    uint64_t offset; /* of RESIZE and GROW: the new size */
    size_t bytes;
    uint8_t *data; /* NULL: zeros */
};

struct name_entry {
    char name[NAME_BYTES];
    struct node *node;
};

struct names {
    struct name_entry *entries;
    size_t count;
};

struct node {
    struct node *next; /* of all nodes of the disk */
    bool is_directory;
    bool reachable; /* used by the sweep after a crash */

    struct image cache;
    struct image durable;
    struct change *changes;
    struct change **changes_end;
    uint64_t allocated;
    unsigned opens;
    bool linked;
    bool locked;

    struct names names;
    struct names durable_names;
};

/* `memory`, or the end of the test when it is NULL. */
void *sim_must(void *memory);

size_t sim_image_read(const struct image *image, uint8_t *out, size_t bytes, uint64_t offset);
/* data NULL: zeros. */
void sim_image_write(struct image *image, const uint8_t *data, size_t bytes, uint64_t offset);

/* Does a change, and remembers it unless it is durable at once (`certain`). */
void sim_node_change(struct node *node, enum change_kind kind, const uint8_t *data, size_t bytes, uint64_t offset,
                     bool certain);
/* Makes all changes durable. */
void sim_node_sync(struct node *node);
/* Forgets what is not durable, though it stays readable: what a failed sync does. */
void sim_node_forget(struct node *node);
/* What of the changes survives a crash: mode 0 nothing, 1 all, else each for itself. */
void sim_node_crash(struct node *node, uint64_t mode, uint64_t *random);
void sim_node_destroy(struct node *node);

struct node *sim_names_find(const struct names *names, const char *name);
/* Removes `name` (NULL: any) where it means `node`. */
void sim_names_remove(struct names *names, const char *name, const struct node *node);
void sim_names_set(struct names *names, const char *name, struct node *node);

#endif
