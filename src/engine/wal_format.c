/* See wal_format.h and docs/ondisk_format.md. */
#include "engine/wal_format.h"

#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/names.h"
#include "docdb.h"

#define FILE_MAGIC             UINT64_C(0x314c415742444344) /* "DCDBWAL1" */
#define RECORD_MAGIC           UINT32_C(0x4e585444)         /* "DTXN" */
#define FILE_HEADER_USED_BYTES 48u                          /* up to and with its checksum */
#define META_BYTES_MAX         ((uint64_t)DOCDB_TXN_OPS_MAX * (WAL_OP_HEADER_BYTES + 512))
#define DOCS_BYTES_MAX         ((uint64_t)4 << 30) /* well above any max_txn_bytes: a larger size is damage */

/* file header: 0 magic u64, 8 version u32, 12 zero u32, 16 store_id u64, 24 number u64, 32 start_lsn u64, 40
 * file_bytes u64, 48 checksum u64 of bytes 0..47; the rest of the block is zero. */
void wal_file_header_encode(const struct wal_file_header *header, uint8_t *out) {
    memset(out, 0, WAL_BLOCK_BYTES);
    put_u64(out, FILE_MAGIC);
    put_u32(out + 8, WAL_FORMAT_VERSION);
    put_u64(out + 16, header->store_id);
    put_u64(out + 24, header->number);
    put_u64(out + 32, header->start_lsn);
    put_u64(out + 40, header->file_bytes);
    put_u64(out + FILE_HEADER_USED_BYTES, checksum(out, FILE_HEADER_USED_BYTES));
}

enum wal_header_status wal_file_header_decode(const uint8_t *in, struct wal_file_header *out) {
    if (get_u64(in) != FILE_MAGIC) {
        return WAL_HEADER_BAD;
    }
    if (get_u32(in + 8) > WAL_FORMAT_VERSION) {
        return WAL_HEADER_NEWER;
    }
    if (get_u64(in + FILE_HEADER_USED_BYTES) != checksum(in, FILE_HEADER_USED_BYTES)) {
        return WAL_HEADER_BAD;
    }
    out->store_id = get_u64(in + 16);
    out->number = get_u64(in + 24);
    out->start_lsn = get_u64(in + 32);
    out->file_bytes = get_u64(in + 40);
    bool sane = out->file_bytes > WAL_BLOCK_BYTES && out->file_bytes % WAL_BLOCK_BYTES == 0;
    return sane ? WAL_HEADER_OK : WAL_HEADER_BAD;
}

/* record header: 0 magic u32, 4 zero u32, 8 lsn u64, 16 commit_seq u64, 24 commit_time_ns i64, 32 durable_lsn u64,
 * 40 prev_checksum u64, 48 database_id u32, 52 op_count u32, 56 meta_bytes u64, 64 docs_bytes u64, 72 zero u64, 80
 * checksum u64. */
#define RECORD_CHECKSUM_OFFSET 80u

static uint64_t record_checksum(const uint8_t *in, const uint8_t *meta, uint64_t meta_bytes) {
    return checksum_seeded(meta, meta_bytes, checksum(in, RECORD_CHECKSUM_OFFSET));
}

void wal_record_header_encode(struct wal_record_header *header, const uint8_t *meta, uint8_t *out) {
    put_u32(out, RECORD_MAGIC);
    put_u32(out + 4, 0);
    put_u64(out + 8, header->lsn);
    put_u64(out + 16, header->commit_seq);
    put_i64(out + 24, header->commit_time_ns);
    put_u64(out + 32, header->durable_lsn);
    put_u64(out + 40, header->prev_checksum);
    put_u32(out + 48, header->database_id);
    put_u32(out + 52, header->op_count);
    put_u64(out + 56, header->meta_bytes);
    put_u64(out + 64, header->docs_bytes);
    put_u64(out + 72, 0);
    header->checksum = record_checksum(out, meta, header->meta_bytes);
    put_u64(out + RECORD_CHECKSUM_OFFSET, header->checksum);
}

bool wal_record_header_decode(const uint8_t *in, struct wal_record_header *out) {
    if (get_u32(in) != RECORD_MAGIC) {
        return false;
    }
    out->lsn = get_u64(in + 8);
    out->commit_seq = get_u64(in + 16);
    out->commit_time_ns = get_i64(in + 24);
    out->durable_lsn = get_u64(in + 32);
    out->prev_checksum = get_u64(in + 40);
    out->database_id = get_u32(in + 48);
    out->op_count = get_u32(in + 52);
    out->meta_bytes = get_u64(in + 56);
    out->docs_bytes = get_u64(in + 64);
    out->checksum = get_u64(in + RECORD_CHECKSUM_OFFSET);
    return out->meta_bytes <= META_BYTES_MAX && out->docs_bytes <= DOCS_BYTES_MAX && out->meta_bytes % 8 == 0 &&
           out->docs_bytes % 8 == 0;
}

bool wal_record_valid(const uint8_t *in, const uint8_t *meta, const struct wal_record_header *header) {
    return record_checksum(in, meta, header->meta_bytes) == header->checksum;
}

uint64_t wal_record_bytes(const struct wal_record_header *header) {
    return WAL_RECORD_HEADER_BYTES + header->meta_bytes + header->docs_bytes;
}

/* operation: 0 kind u8, 1 id_bytes u8, 2 second_id_bytes u8, 3 zero, 8 doc_bytes u64, 16 doc_checksum u64, 24
 * mtime_ns i64, 32 segment u32, 36 offset u32 (PUT_IN_SEGMENT, else zero), 40 id, second id, zeros up to a multiple
 * of 8. */
uint64_t wal_op_bytes(size_t id_bytes, size_t second_id_bytes) {
    return round_up(WAL_OP_HEADER_BYTES + id_bytes + second_id_bytes, 8);
}

uint64_t wal_op_encode(const struct wal_op *op, uint8_t *out) {
    uint64_t bytes = wal_op_bytes(op->id_bytes, op->second_id_bytes);
    memset(out, 0, WAL_OP_HEADER_BYTES);
    memset(out + bytes - 8, 0, 8);
    put_u8(out, (uint8_t)op->kind);
    put_u8(out + 1, op->id_bytes);
    put_u8(out + 2, op->second_id_bytes);
    put_u64(out + 8, op->doc_bytes);
    put_u64(out + 16, op->doc_checksum);
    put_i64(out + 24, op->mtime_ns);
    wal_op_place(out, op->segment, op->offset);
    memcpy(out + WAL_OP_HEADER_BYTES, op->id, op->id_bytes);
    if (op->second_id_bytes > 0) {
        memcpy(out + WAL_OP_HEADER_BYTES + op->id_bytes, op->second_id, op->second_id_bytes);
    }
    return bytes;
}

void wal_op_place(uint8_t *at, uint32_t segment, uint32_t offset) {
    put_u32(at + 32, segment);
    put_u32(at + 36, offset);
}

bool wal_op_decode(const uint8_t *meta, uint64_t meta_bytes, uint64_t *offset, struct wal_op *out) {
    const uint8_t *in = meta + *offset;
    if (meta_bytes - *offset < WAL_OP_HEADER_BYTES) {
        return false;
    }
    uint8_t kind = get_u8(in);
    out->kind = (enum wal_op_kind)kind;
    out->id_bytes = get_u8(in + 1);
    out->second_id_bytes = get_u8(in + 2);
    out->doc_bytes = get_u64(in + 8);
    out->doc_checksum = get_u64(in + 16);
    out->mtime_ns = get_i64(in + 24);
    out->segment = get_u32(in + 32);
    out->offset = get_u32(in + 36);
    uint64_t bytes = wal_op_bytes(out->id_bytes, out->second_id_bytes);
    if (kind < WAL_OP_PUT || kind > WAL_OP_PUT_IN_SEGMENT || meta_bytes - *offset < bytes ||
        out->doc_bytes > DOCS_BYTES_MAX) {
        return false;
    }
    out->id = (const char *)in + WAL_OP_HEADER_BYTES;
    out->second_id = out->id + out->id_bytes;
    *offset += bytes;
    bool two = kind == WAL_OP_RENAME || kind == WAL_OP_EXCHANGE;
    if (two != (out->second_id_bytes > 0) || (two && !id_valid(out->second_id, out->second_id_bytes))) {
        return false;
    }
    switch (out->kind) {
    case WAL_OP_CREATE_DATABASE:
        return name_valid(out->id, out->id_bytes);
    case WAL_OP_DROP_DATABASE:
        return true;
    case WAL_OP_PUT_IN_SEGMENT:
        return out->segment != 0 && id_valid(out->id, out->id_bytes);
    default:
        return id_valid(out->id, out->id_bytes);
    }
}
