/* See sim_node.h. */
#include "tests/lib/sim_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/sim_disk.h"

uint64_t sim_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void *sim_must(void *memory) {
    if (memory == NULL) {
        perror("sim_disk: out of memory");
        abort();
    }
    return memory;
}

static void image_resize(struct image *image, uint64_t bytes) {
    size_t wanted = (size_t)((bytes + PAGE_BYTES - 1) / PAGE_BYTES);
    for (size_t i = wanted; i < image->page_count; i++) {
        free(image->pages[i]);
    }
    if (wanted > image->page_count) {
        image->pages = sim_must(realloc(image->pages, wanted * sizeof(uint8_t *)));
        memset(image->pages + image->page_count, 0, (wanted - image->page_count) * sizeof(uint8_t *));
    }
    image->page_count = wanted;
    if (bytes < image->bytes && bytes % PAGE_BYTES != 0 && image->pages[wanted - 1] != NULL) {
        memset(image->pages[wanted - 1] + bytes % PAGE_BYTES, 0, PAGE_BYTES - bytes % PAGE_BYTES);
    }
    image->bytes = bytes;
}

static bool all_zeros(const uint8_t *data, size_t bytes) {
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

/* data NULL: zeros. */
void sim_image_write(struct image *image, const uint8_t *data, size_t bytes, uint64_t offset) {
    if (offset + bytes > image->bytes) {
        image_resize(image, offset + bytes);
    }
    while (bytes > 0) {
        uint8_t **page = &image->pages[offset / PAGE_BYTES];
        uint64_t at = offset % PAGE_BYTES;
        size_t chunk = PAGE_BYTES - at < bytes ? (size_t)(PAGE_BYTES - at) : bytes;
        bool zeros = data == NULL || all_zeros(data, chunk);
        if (*page == NULL && !zeros) {
            *page = sim_must(calloc(1, PAGE_BYTES));
        }
        if (zeros && *page != NULL) {
            memset(*page + at, 0, chunk);
        } else if (!zeros) {
            memcpy(*page + at, data, chunk);
        }
        data = data == NULL ? NULL : data + chunk;
        offset += chunk;
        bytes -= chunk;
    }
}

size_t sim_image_read(const struct image *image, uint8_t *out, size_t bytes, uint64_t offset) {
    if (offset >= image->bytes) {
        return 0;
    }
    bytes = image->bytes - offset < bytes ? (size_t)(image->bytes - offset) : bytes;
    for (size_t done = 0; done < bytes;) {
        const uint8_t *page = image->pages[(offset + done) / PAGE_BYTES];
        uint64_t at = (offset + done) % PAGE_BYTES;
        size_t chunk = PAGE_BYTES - at < bytes - done ? (size_t)(PAGE_BYTES - at) : bytes - done;
        if (page == NULL) {
            memset(out + done, 0, chunk);
        } else {
            memcpy(out + done, page + at, chunk);
        }
        done += chunk;
    }
    return bytes;
}

static void image_copy(struct image *to, const struct image *from) {
    image_resize(to, 0);
    image_resize(to, from->bytes);
    for (size_t i = 0; i < from->page_count; i++) {
        if (from->pages[i] != NULL) {
            to->pages[i] = sim_must(malloc(PAGE_BYTES));
            memcpy(to->pages[i], from->pages[i], PAGE_BYTES);
        }
    }
}

static void image_fini(struct image *image) {
    image_resize(image, 0);
    free(image->pages);
    image->pages = NULL;
}

/* ---- Changes of a file ---- */

static void change_apply(struct image *image, const struct change *change) {
    switch (change->kind) {
    case CHANGE_WRITE:
        sim_image_write(image, change->data, change->bytes, change->offset);
        break;
    case CHANGE_RESIZE:
        image_resize(image, change->offset);
        break;
    case CHANGE_GROW:
    default:
        if (change->offset > image->bytes) {
            image_resize(image, change->offset);
        }
        break;
    }
}

/* Any subset of the sectors of a write. */
static void change_apply_torn(struct image *image, const struct change *change, uint64_t *random) {
    for (uint64_t at = change->offset; at < change->offset + change->bytes;) {
        uint64_t next = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        uint64_t end = next < change->offset + change->bytes ? next : change->offset + change->bytes;
        if (sim_random(random) % 2 == 0) {
            const uint8_t *data = change->data == NULL ? NULL : change->data + (at - change->offset);
            sim_image_write(image, data, (size_t)(end - at), at);
        }
        at = end;
    }
}

void sim_node_forget(struct node *node) {
    while (node->changes != NULL) {
        struct change *change = node->changes;
        node->changes = change->next;
        free(change->data);
        free(change);
    }
    node->changes_end = &node->changes;
}

void sim_node_sync(struct node *node) {
    for (const struct change *change = node->changes; change != NULL; change = change->next) {
        change_apply(&node->durable, change);
    }
    sim_node_forget(node);
}

/* Does the change, and remembers it unless it is durable at once. */
void sim_node_change(struct node *node, enum change_kind kind, const uint8_t *data, size_t bytes, uint64_t offset,
                     bool certain) {
    struct change change = {.kind = kind, .certain = certain, .offset = offset, .bytes = bytes};
    if (kind == CHANGE_WRITE && data != NULL && !all_zeros(data, bytes)) {
        change.data = sim_must(malloc(bytes));
        memcpy(change.data, data, bytes);
    }
    change_apply(&node->cache, &change);
    if (certain && node->changes == NULL) {
        change_apply(&node->durable, &change);
        free(change.data);
        return;
    }
    struct change *copy = sim_must(malloc(sizeof *copy));
    *copy = change;
    *node->changes_end = copy;
    node->changes_end = &copy->next;
}

/* What of the changes survives a crash: mode 0 nothing, 1 all, else each for itself. */
void sim_node_crash(struct node *node, uint64_t mode, uint64_t *random) {
    for (const struct change *change = node->changes; change != NULL; change = change->next) {
        uint64_t fate = mode == 0 ? 1 : mode == 1 ? 0 : sim_random(random) % 3;
        if (change->certain || fate == 0) {
            change_apply(&node->durable, change);
        } else if (fate == 2 && change->kind == CHANGE_WRITE) {
            change_apply_torn(&node->durable, change, random);
        }
    }
    sim_node_forget(node);
    image_copy(&node->cache, &node->durable);
}

/* ---- Names ---- */

struct node *sim_names_find(const struct names *names, const char *name) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->entries[i].name, name) == 0) {
            return names->entries[i].node;
        }
    }
    return NULL;
}

void sim_names_remove(struct names *names, const char *name, const struct node *node) {
    for (size_t i = 0; i < names->count; i++) {
        if ((name == NULL || strcmp(names->entries[i].name, name) == 0) && names->entries[i].node == node) {
            names->entries[i--] = names->entries[--names->count];
        }
    }
}

void sim_names_set(struct names *names, const char *name, struct node *node) {
    sim_names_remove(names, name, sim_names_find(names, name));
    names->entries = sim_must(realloc(names->entries, (names->count + 1) * sizeof *names->entries));
    (void)snprintf(names->entries[names->count].name, NAME_BYTES, "%s", name);
    names->entries[names->count++].node = node;
}

void sim_node_destroy(struct node *node) {
    sim_node_forget(node);
    image_fini(&node->cache);
    image_fini(&node->durable);
    free(node->names.entries);
    free(node->durable_names.entries);
    free(node);
}
