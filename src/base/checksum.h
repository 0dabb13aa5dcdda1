/* The one checksum of DocDB's files: XXH3, 64 bits, seed 0 (Debian's libxxhash; the algorithm is frozen since
 * 0.8.0). */
#ifndef DOCDB_BASE_CHECKSUM_H
#define DOCDB_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of `bytes` bytes at `data`; data may be NULL when bytes is 0. */
uint64_t checksum(const void *data, size_t bytes);

/* The hash that the in-memory index is keyed by; not stored anywhere. */
uint64_t checksum_seeded(const void *data, size_t bytes, uint64_t seed);

#endif
