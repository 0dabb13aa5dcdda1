/* See catalog.h. */
#include "engine/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define PATH_BYTES 4096

/* ---- Databases ---- */

void database_path(const char *data_directory, uint32_t id, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/db/%08" PRIx32, data_directory, id);
}

struct database *database_create(const struct docdb_os *os, const struct log *log, const char *data_directory,
                                 uint64_t store_id, uint32_t id, const char *name,
                                 const atomic_uint_fast64_t *published, atomic_uint *open_files,
                                 uint64_t segment_bytes) {
    char path[PATH_BYTES];
    struct database *database = calloc(1, sizeof *database);
    if (database == NULL) {
        return NULL;
    }
    database_path(data_directory, id, path, sizeof path);
    database->index = index_create(published, &database->segments);
    int status = segments_init(&database->segments, os, log, path, name, store_id, id, open_files);
    appender_init(&database->large, &database->segments);
    if (status != DOCDB_OK || database->index == NULL) {
        segments_fini(&database->segments);
        index_destroy(database->index);
        free(database);
        return NULL;
    }
    atomic_init(&database->references, 1);
    database->id = id;
    database->segment_bytes = segment_bytes;
    (void)snprintf(database->name, sizeof database->name, "%s", name);
    return database;
}

struct database *database_acquire(struct database *database) {
    atomic_fetch_add_explicit(&database->references, 1, memory_order_relaxed);
    return database;
}

void database_release(struct database *database) {
    if (database == NULL || atomic_fetch_sub_explicit(&database->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    appender_close(&database->large);
    index_destroy(database->index);
    segments_fini(&database->segments);
    free(database);
}

void database_set_runs(struct database *database, const uint64_t *runs, const uint64_t *run_bytes,
                       size_t run_count) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < run_count; i++) {
        database->runs[i] = runs[i];
        database->run_bytes[i] = run_bytes[i];
        bytes += run_bytes[i];
    }
    database->run_count = run_count;
    atomic_store(&database->index_file_bytes, bytes);
}

uint64_t database_segment_bytes(const struct database *database) {
    uint64_t bytes = atomic_load_explicit(&database->index->live_bytes, memory_order_relaxed) / LIMIT_SEGMENT_SHARE;
    bytes = bytes > database->segment_bytes ? bytes : database->segment_bytes;
    return bytes < LIMIT_SEGMENT_BYTES ? bytes : LIMIT_SEGMENT_BYTES;
}

/* ---- The table ---- */

void catalog_init(struct catalog *catalog) {
    *catalog = (struct catalog){0};
    rwlock_init(&catalog->lock);
}

void catalog_fini(struct catalog *catalog) NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < catalog->count; i++) {
        database_release(catalog->table[i]);
    }
    free(catalog->table);
    rwlock_fini(&catalog->lock);
}

/* The first slot whose name is >= the name. */
static size_t slot_of(const struct catalog *catalog, const char *name) REQUIRES_SHARED(catalog->lock) {
    size_t low = 0;
    size_t high = catalog->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(catalog->table[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct database *catalog_find(struct catalog *catalog, const char *name) {
    struct database *found = NULL;
    rwlock_lock_shared(&catalog->lock);
    size_t slot = slot_of(catalog, name);
    if (slot < catalog->count && strcmp(catalog->table[slot]->name, name) == 0) {
        found = database_acquire(catalog->table[slot]);
    }
    rwlock_unlock_shared(&catalog->lock);
    return found;
}

struct database *catalog_find_id(struct catalog *catalog, uint32_t id) {
    struct database *found = NULL;
    rwlock_lock_shared(&catalog->lock);
    for (size_t i = 0; i < catalog->count && found == NULL; i++) {
        if (catalog->table[i]->id == id) {
            found = database_acquire(catalog->table[i]);
        }
    }
    rwlock_unlock_shared(&catalog->lock);
    return found;
}

size_t catalog_count(struct catalog *catalog) {
    rwlock_lock_shared(&catalog->lock);
    size_t count = catalog->count;
    rwlock_unlock_shared(&catalog->lock);
    return count;
}

int catalog_list(struct catalog *catalog, struct database ***out, size_t *count) {
    rwlock_lock_shared(&catalog->lock);
    *count = catalog->count;
    *out = malloc((catalog->count + 1) * sizeof(struct database *));
    for (size_t i = 0; *out != NULL && i < catalog->count; i++) {
        (*out)[i] = database_acquire(catalog->table[i]);
    }
    rwlock_unlock_shared(&catalog->lock);
    return *out == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

void catalog_list_free(struct database **list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        database_release(list[i]);
    }
    free(list);
}

int catalog_reserve(struct catalog *catalog) {
    int status = DOCDB_OK;
    rwlock_lock(&catalog->lock);
    if (catalog->count >= LIMIT_DATABASES) {
        status = DOCDB_ERR_BUSY;
    } else if (catalog->count == catalog->capacity) {
        size_t capacity = catalog->capacity == 0 ? 16 : catalog->capacity * 2;
        struct database **table = realloc(catalog->table, capacity * sizeof(struct database *));
        if (table == NULL) {
            status = DOCDB_ERR_MEMORY;
        } else {
            catalog->table = table;
            catalog->capacity = capacity;
        }
    }
    rwlock_unlock(&catalog->lock);
    return status;
}

void catalog_add(struct catalog *catalog, struct database *database) {
    rwlock_lock(&catalog->lock);
    size_t slot = slot_of(catalog, database->name);
    memmove(&catalog->table[slot + 1], &catalog->table[slot], (catalog->count - slot) * sizeof(struct database *));
    catalog->table[slot] = database;
    catalog->count++;
    rwlock_unlock(&catalog->lock);
}

void catalog_remove(struct catalog *catalog, struct database *database) {
    rwlock_lock(&catalog->lock);
    size_t slot = slot_of(catalog, database->name);
    catalog->count--;
    memmove(&catalog->table[slot], &catalog->table[slot + 1], (catalog->count - slot) * sizeof(struct database *));
    rwlock_unlock(&catalog->lock);
    database_release(database);
}
