/* See segment_format.h and docs/ondisk_format.md. */
#include "engine/segment_format.h"

#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"

#define SEGMENT_MAGIC UINT64_C(0x3147455342444344) /* "DCDBSEG1" */
#define RECORD_MAGIC  UINT32_C(0x434f4444)         /* "DDOC" */

/* header: 0 magic u64, 8 version u32, 12 database_id u32, 16 store_id u64, 24 number u32, 28..55 zero, 56 checksum
 * of 0..55. */
void segment_header_encode(const struct segment_header *header, uint8_t *out) {
    memset(out, 0, SEGMENT_HEADER_BYTES);
    put_u64(out, SEGMENT_MAGIC);
    put_u32(out + 8, SEGMENT_FORMAT_VERSION);
    put_u32(out + 12, header->database_id);
    put_u64(out + 16, header->store_id);
    put_u32(out + 24, header->number);
    put_u64(out + 56, checksum(out, 56));
}

int segment_header_decode(const uint8_t *in, struct segment_header *out) {
    if (get_u64(in) != SEGMENT_MAGIC) {
        return DOCDB_ERR_CORRUPT;
    }
    if (get_u32(in + 8) > SEGMENT_FORMAT_VERSION) {
        return DOCDB_ERR_NEWER_FORMAT;
    }
    if (get_u64(in + 56) != checksum(in, 56)) {
        return DOCDB_ERR_CORRUPT;
    }
    out->database_id = get_u32(in + 12);
    out->store_id = get_u64(in + 16);
    out->number = get_u32(in + 24);
    return DOCDB_OK;
}

uint64_t segment_record_bytes(size_t id_bytes, uint64_t doc_bytes) {
    return round_up(SEGMENT_RECORD_HEADER_BYTES + id_bytes + doc_bytes, 8);
}

uint64_t segment_record_end(const struct segment_record *record) {
    uint64_t alignment = record->data_offset == SEGMENT_BLOCK_BYTES ? SEGMENT_BLOCK_BYTES : 8;
    return round_up(record->data_offset + record->info.bytes, alignment);
}

/* record: 0 magic u32, 4 id_bytes u8, 5..7 zero, 8 version u64, 16 commit_time_ns i64, 24 mtime_ns i64, 32
 * doc_bytes u64, 40 doc_checksum u64, 48 data_offset u32, 52 zero u32, 56 checksum of 0..55 and the id. */
#define RECORD_CHECKSUM_OFFSET 56u

static uint64_t record_checksum(const uint8_t *in, const char *id, size_t id_bytes) {
    return checksum_seeded(id, id_bytes, checksum(in, RECORD_CHECKSUM_OFFSET));
}

void segment_record_encode(const struct segment_record *record, const char *id, uint8_t *out) {
    memset(out, 0, SEGMENT_RECORD_HEADER_BYTES);
    put_u32(out, RECORD_MAGIC);
    put_u8(out + 4, record->id_bytes);
    put_u64(out + 8, record->info.version);
    put_i64(out + 16, record->info.commit_time_ns);
    put_i64(out + 24, record->info.mtime_ns);
    put_u64(out + 32, record->info.bytes);
    put_u64(out + 40, record->checksum);
    put_u32(out + 48, record->data_offset);
    put_u64(out + RECORD_CHECKSUM_OFFSET, record_checksum(out, id, record->id_bytes));
}

bool segment_record_decode(const uint8_t *in, size_t bytes, struct segment_record *out) {
    if (bytes < SEGMENT_RECORD_HEADER_BYTES || get_u32(in) != RECORD_MAGIC) {
        return false;
    }
    out->id_bytes = get_u8(in + 4);
    out->info.version = get_u64(in + 8);
    out->info.commit_time_ns = get_i64(in + 16);
    out->info.mtime_ns = get_i64(in + 24);
    out->info.bytes = get_u64(in + 32);
    out->checksum = get_u64(in + 40);
    out->data_offset = get_u32(in + 48);
    const char *id = (const char *)in + SEGMENT_RECORD_HEADER_BYTES;
    return bytes - SEGMENT_RECORD_HEADER_BYTES >= out->id_bytes && out->info.bytes <= DOCDB_DOC_BYTES_MAX &&
           (out->data_offset == SEGMENT_RECORD_HEADER_BYTES + out->id_bytes ||
            out->data_offset == SEGMENT_BLOCK_BYTES) &&
           get_u64(in + RECORD_CHECKSUM_OFFSET) == record_checksum(in, id, out->id_bytes);
}
