/*
 * Memory for the entries of one index, in which 32 bits name a piece: half the size of a pointer, and no header of
 * an allocator in front of each.
 *
 * Pieces are cut from chunks of ARENA_CHUNK_BYTES; a freed piece goes to the list of its size and is used again. A
 * piece never moves. Chunks go when the arena goes.
 *
 * Threads: arena_alloc and arena_free by one at a time; arena_at by any number beside them, for names that reached
 * them through a lock (a table of chunks that was replaced stays until the end, so an old one may still be read).
 */
#ifndef DOCDB_ENGINE_ARENA_H
#define DOCDB_ENGINE_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_UNIT 8u /* bytes; names count units */
#define ARENA_CHUNK_BYTES                                                                                          \
    ((size_t)64 << 10) /* below malloc's threshold for mappings, of which a process has few                        \
                        */
#define ARENA_UNITS_CHUNK (ARENA_CHUNK_BYTES / ARENA_UNIT)
#define ARENA_PIECE_MAX   512u /* bytes */

/* A piece of memory; 0 is none. */
typedef uint32_t arena_name;

struct arena {
    char **_Atomic chunks; /* the table; grows by doubling */
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    char ***old_tables; /* kept for readers; freed with the arena */
    size_t old_table_count;
    uint32_t used_units; /* of the last chunk */
    arena_name free_lists[ARENA_PIECE_MAX / ARENA_UNIT + 1];
    atomic_size_t bytes; /* of chunks and tables */
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);

/* 1 to ARENA_PIECE_MAX bytes, aligned to ARENA_UNIT, not zeroed. 0: out of memory, or the 32 GiB that can be named
 * are used up. */
arena_name arena_alloc(struct arena *arena, size_t bytes);
/* `bytes` as they were asked for. */
void arena_free(struct arena *arena, arena_name name, size_t bytes);

static inline void *arena_at(const struct arena *arena, arena_name name) {
    char *const *chunks = atomic_load_explicit(&arena->chunks, memory_order_acquire);
    return chunks[name / ARENA_UNITS_CHUNK] + (size_t)(name % ARENA_UNITS_CHUNK) * ARENA_UNIT;
}

#endif
