/* Little-endian integers in byte buffers, the one encoding of DocDB's files and frames. Offsets need no alignment.
 */
#ifndef DOCDB_BASE_BYTES_H
#define DOCDB_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put_u8(void *at, uint8_t value) { memcpy(at, &value, 1); }

static inline void put_u16(void *at, uint16_t value) {
    value = htole16(value);
    memcpy(at, &value, sizeof value);
}

static inline void put_u32(void *at, uint32_t value) {
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static inline void put_u64(void *at, uint64_t value) {
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static inline void put_i64(void *at, int64_t value) { put_u64(at, (uint64_t)value); }

static inline uint8_t get_u8(const void *at) {
    uint8_t value;
    memcpy(&value, at, 1);
    return value;
}

static inline uint16_t get_u16(const void *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static inline uint32_t get_u32(const void *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static inline uint64_t get_u64(const void *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

static inline int64_t get_i64(const void *at) { return (int64_t)get_u64(at); }

/* The smallest multiple of `alignment` (a power of two) that is at least `value`. */
static inline uint64_t round_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

#endif
