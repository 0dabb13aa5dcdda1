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

/* The checksum of what comes in pieces. NULL: out of memory. */
struct checksum_stream;
struct checksum_stream *checksum_stream_create(void);
void checksum_stream_destroy(struct checksum_stream *stream);
void checksum_stream_reset(struct checksum_stream *stream);
void checksum_stream_add(struct checksum_stream *stream, const void *data, size_t bytes);
/* Of all that was added since the last reset: what `checksum` says of it in one piece. */
uint64_t checksum_stream_value(const struct checksum_stream *stream);

#endif
