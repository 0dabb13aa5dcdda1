/* See checksum.h. */
#include "base/checksum.h"

#include <xxhash.h>

uint64_t checksum(const void *data, size_t bytes) { return XXH3_64bits(bytes == 0 ? "" : data, bytes); }

uint64_t checksum_seeded(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes == 0 ? "" : data, bytes, seed);
}
