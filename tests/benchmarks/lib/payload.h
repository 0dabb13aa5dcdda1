/*
 * Ids and contents of the benchmarks' documents: the same for every store, made without cost in the timed part, and
 * checkable afterwards.
 *
 * A document says which it is: its number and its sequence number in front, the sequence number again at its end,
 * and between them bytes that its seed decides and that don't compress. So a document that belongs to another id,
 * an older version, or one that is half of each, does not match.
 */
#ifndef DOCDB_BENCHMARKS_PAYLOAD_H
#define DOCDB_BENCHMARKS_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_BYTES_MIN 32 /* and a multiple of 8 */
#define PAYLOAD_ID_BYTES  8

struct payload_id {
    char text[PAYLOAD_ID_BYTES + 1];
};

/* The id of the document with this number, below 100 million: decimal, so in the order of the numbers. */
struct payload_id payload_id(uint32_t number);

void payload_fill(void *out, size_t bytes, uint64_t seed);
void payload_stamp(void *out, size_t bytes, uint64_t number, uint64_t sequence);
bool payload_matches(const void *data, size_t bytes, uint64_t seed, uint64_t number, uint64_t sequence);

/* Looks at both ends of a document, as a reader would who uses it: what is mapped has to be there. */
uint64_t payload_touch(const void *data, size_t bytes);

/* The numbers from 0 to count - 1 in an order that the seed decides. The caller frees them. */
uint32_t *payload_shuffle(uint32_t count, uint64_t seed);

#endif
