/*
 * The bytes of a segment file and of a record in it. docs/ondisk_format.md is the specification; this and
 * segment_format.c are the only code that knows the offsets.
 *
 * File:   a header of SEGMENT_HEADER_BYTES, then records one after the other.
 * Record: one version of one document: header, id, bytes; padded to 8 bytes. The record of a large document begins
 * at a block, and so do its bytes: it goes to the disk straight from the writer's memory.
 */
#ifndef DOCDB_ENGINE_SEGMENT_FORMAT_H
#define DOCDB_ENGINE_SEGMENT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "docdb.h"

#define SEGMENT_HEADER_BYTES        64u
#define SEGMENT_RECORD_HEADER_BYTES 64u
#define SEGMENT_FORMAT_VERSION      1u
#define SEGMENT_BLOCK_BYTES         4096u

struct segment_header {
    uint64_t store_id;
    uint32_t database_id;
    uint32_t number;
};

/* Write and read SEGMENT_HEADER_BYTES bytes. Decoding returns DOCDB_OK, NEWER_FORMAT or CORRUPT. */
void segment_header_encode(const struct segment_header *header, uint8_t *out);
int segment_header_decode(const uint8_t *in, struct segment_header *out);

struct segment_record {
    docdb_info info;
    uint64_t checksum;    /* of the document's bytes */
    uint32_t data_offset; /* of the bytes in the record: behind the id, or SEGMENT_BLOCK_BYTES */
    uint8_t id_bytes;
};

/* Header, id, bytes and padding of a record that is not aligned to blocks; what live bytes are counted by. */
uint64_t segment_record_bytes(size_t id_bytes, uint64_t doc_bytes);
/* What a record takes from its first byte to the end of its padding. */
uint64_t segment_record_end(const struct segment_record *record);
/* Writes SEGMENT_RECORD_HEADER_BYTES bytes; the header's own checksum covers it and the id. */
void segment_record_encode(const struct segment_record *record, const char *id, uint8_t *out);
/* Reads a record header with the id behind it; `bytes` are there. False: damaged. */
bool segment_record_decode(const uint8_t *in, size_t bytes, struct segment_record *out);

#endif
