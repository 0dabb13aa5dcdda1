/* See arena.h. */
#include "engine/arena.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CHUNKS 4u
#define CHUNKS_MAX   (UINT32_MAX / ARENA_UNITS_CHUNK)

void arena_init(struct arena *arena) {
    memset(arena, 0, sizeof *arena);
    atomic_init(&arena->chunks, NULL);
    atomic_init(&arena->bytes, 0);
}

void arena_fini(struct arena *arena) {
    char **chunks = atomic_load(&arena->chunks);
    for (uint32_t i = 0; i < arena->chunk_count; i++) {
        free(chunks[i]);
    }
    for (size_t i = 0; i < arena->old_table_count; i++) {
        free(arena->old_tables[i]);
    }
    free(arena->old_tables);
    free(chunks);
    arena_init(arena);
}

static size_t units_of(size_t bytes) { return (bytes + ARENA_UNIT - 1) / ARENA_UNIT; }

/* Makes the table of chunks longer. A reader may be in the old one, so it stays. */
static bool table_grow(struct arena *arena) {
    char **old = atomic_load_explicit(&arena->chunks, memory_order_relaxed);
    uint32_t capacity = arena->chunk_capacity == 0 ? FIRST_CHUNKS : arena->chunk_capacity * 2;
    char **table = calloc(capacity, sizeof *table);
    char ***old_tables = realloc(arena->old_tables, (arena->old_table_count + 1) * sizeof *old_tables);
    if (old_tables != NULL) {
        arena->old_tables = old_tables;
    }
    if (table == NULL || old_tables == NULL) {
        free(table);
        return false;
    }
    if (old != NULL) {
        memcpy(table, old, arena->chunk_count * sizeof *table);
        old_tables[arena->old_table_count++] = old;
    }
    atomic_store_explicit(&arena->chunks, table, memory_order_release);
    arena->chunk_capacity = capacity;
    atomic_fetch_add_explicit(&arena->bytes, capacity * sizeof *table, memory_order_relaxed);
    return true;
}

static bool chunk_add(struct arena *arena) {
    if (arena->chunk_count == CHUNKS_MAX || (arena->chunk_count == arena->chunk_capacity && !table_grow(arena))) {
        return false;
    }
    char *chunk = malloc(ARENA_CHUNK_BYTES);
    if (chunk == NULL) {
        return false;
    }
    atomic_load_explicit(&arena->chunks, memory_order_relaxed)[arena->chunk_count++] = chunk;
    /* The first unit of all has the name 0, which is none. */
    arena->used_units = arena->chunk_count == 1 ? 1 : 0;
    atomic_fetch_add_explicit(&arena->bytes, ARENA_CHUNK_BYTES, memory_order_relaxed);
    return true;
}

/* A freed piece holds the name of the next one of its size. */
static arena_name list_pop(struct arena *arena, size_t units) {
    arena_name name = arena->free_lists[units];
    if (name != 0) {
        memcpy(&arena->free_lists[units], arena_at(arena, name), sizeof(arena_name));
    }
    return name;
}

static void list_push(struct arena *arena, arena_name name, size_t units) {
    memcpy(arena_at(arena, name), &arena->free_lists[units], sizeof(arena_name));
    arena->free_lists[units] = name;
}

arena_name arena_alloc(struct arena *arena, size_t bytes) {
    size_t units = units_of(bytes);
    arena_name name = list_pop(arena, units);
    if (name != 0) {
        return name;
    }
    if (arena->chunk_count == 0 || arena->used_units + units > ARENA_UNITS_CHUNK) {
        size_t left = arena->chunk_count == 0 ? 0 : ARENA_UNITS_CHUNK - arena->used_units;
        arena_name rest =
            left == 0 ? 0 : (arena->chunk_count - 1) * (arena_name)ARENA_UNITS_CHUNK + arena->used_units;
        if (!chunk_add(arena)) {
            return 0;
        }
        if (left > 0) {
            list_push(arena, rest, left);
        }
    }
    name = (arena->chunk_count - 1) * (arena_name)ARENA_UNITS_CHUNK + arena->used_units;
    arena->used_units += (uint32_t)units;
    return name;
}

void arena_free(struct arena *arena, arena_name name, size_t bytes) { list_push(arena, name, units_of(bytes)); }
