/* See checksum.h. */
#include "base/checksum.h"

#include <xxhash.h>

uint64_t checksum(const void *data, size_t bytes) { return XXH3_64bits(bytes == 0 ? "" : data, bytes); }

uint64_t checksum_seeded(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes == 0 ? "" : data, bytes, seed);
}

/* The library's own state is aligned by the library, so it is kept behind a cast instead of in a struct of ours. */
struct checksum_stream *checksum_stream_create(void) {
    return (struct checksum_stream *)XXH3_createState();
}

void checksum_stream_destroy(struct checksum_stream *stream) { (void)XXH3_freeState((XXH3_state_t *)stream); }

void checksum_stream_reset(struct checksum_stream *stream) { (void)XXH3_64bits_reset((XXH3_state_t *)stream); }

void checksum_stream_add(struct checksum_stream *stream, const void *data, size_t bytes) {
    (void)XXH3_64bits_update((XXH3_state_t *)stream, data, bytes);
}

uint64_t checksum_stream_value(const struct checksum_stream *stream) {
    return XXH3_64bits_digest((const XXH3_state_t *)stream);
}
