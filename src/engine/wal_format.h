/*
 * The bytes of a WAL file and of a record in it. docs/ondisk_format.md is the specification; this and wal_format.c
 * are the only code that knows the offsets.
 *
 * File:   a header of WAL_BLOCK_BYTES, then batches. LSNs count the bytes after the headers, through all files.
 * Batch:  records one after the other, the first at a multiple of WAL_BLOCK_BYTES, zeros up to the next multiple.
 * So the record that follows one stands right behind it or at the next multiple; the chain of checksums tells
 * which. A batch may go on in the next file. Record: one transaction: header, operation table (meta), documents;
 * each part padded to 8 bytes.
 */
#ifndef DOCDB_ENGINE_WAL_FORMAT_H
#define DOCDB_ENGINE_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAL_BLOCK_BYTES         ((uint64_t)4096) /* what a direct write must be aligned to on every disk of today */
#define WAL_FORMAT_VERSION      1u
#define WAL_RECORD_HEADER_BYTES 88u
#define WAL_OP_HEADER_BYTES     40u

struct wal_file_header {
    uint64_t store_id;   /* of the manifest: a file of another store is not ours */
    uint64_t number;     /* 1, 2, 3, ...: the order of the files */
    uint64_t start_lsn;  /* the LSN of the first byte after the header */
    uint64_t file_bytes; /* header included; a multiple of WAL_BLOCK_BYTES */
};

enum wal_header_status { WAL_HEADER_OK, WAL_HEADER_BAD, WAL_HEADER_NEWER };

/* Writes WAL_BLOCK_BYTES bytes. */
void wal_file_header_encode(const struct wal_file_header *header, uint8_t *out);
/* Reads WAL_BLOCK_BYTES bytes. */
enum wal_header_status wal_file_header_decode(const uint8_t *in, struct wal_file_header *out);

struct wal_record_header {
    uint64_t lsn; /* of its first byte: a record left from a file's earlier life has another */
    uint64_t commit_seq;
    int64_t commit_time_ns;
    uint64_t durable_lsn;   /* everything below was on disk when this was written */
    uint64_t prev_checksum; /* the checksum field of the record before it: the chain that makes the log one log */
    uint32_t database_id;
    uint32_t op_count;
    uint64_t meta_bytes; /* padded */
    uint64_t docs_bytes; /* padded */
    uint64_t checksum;   /* of the header before this field and of the meta; documents have their own */
};

/* Writes WAL_RECORD_HEADER_BYTES bytes; computes header->checksum over the header and the meta. */
void wal_record_header_encode(struct wal_record_header *header, const uint8_t *meta, uint8_t *out);
/* Reads WAL_RECORD_HEADER_BYTES bytes. False when it is no record header at all (its magic or its sizes are
 * impossible). */
bool wal_record_header_decode(const uint8_t *in, struct wal_record_header *out);
/* Does the checksum match the header's bytes `in` and the meta? */
bool wal_record_valid(const uint8_t *in, const uint8_t *meta, const struct wal_record_header *header);
/* Header, meta and documents. */
uint64_t wal_record_bytes(const struct wal_record_header *header);

enum wal_op_kind {
    WAL_OP_PUT = 1,             /* id, document */
    WAL_OP_DELETE = 2,          /* id */
    WAL_OP_RENAME = 3,          /* id = from, second id = to */
    WAL_OP_EXCHANGE = 4,        /* both ids */
    WAL_OP_SET_MTIME = 5,       /* id, mtime */
    WAL_OP_CREATE_DATABASE = 6, /* id = its name; the record's database_id is the new one */
    WAL_OP_DROP_DATABASE = 7,   /* the record's database_id */
    WAL_OP_PUT_IN_SEGMENT = 8,  /* id, document; its bytes are in a segment */
};

struct wal_op {
    enum wal_op_kind kind;
    uint8_t id_bytes;
    uint8_t second_id_bytes;
    uint64_t doc_bytes;
    uint64_t doc_checksum;
    int64_t mtime_ns; /* PUT: 0 means the commit time */
    uint32_t segment; /* PUT_IN_SEGMENT: where its record is */
    uint32_t offset;  /* in units of 8 bytes */
    const char *id;   /* not NUL-terminated */
    const char *second_id;
};

/* What wal_op_encode writes for such an operation, padding included. */
uint64_t wal_op_bytes(size_t id_bytes, size_t second_id_bytes);
uint64_t wal_op_encode(const struct wal_op *op, uint8_t *out);
/* Sets segment and offset of an operation that was encoded at `at`. */
void wal_op_place(uint8_t *at, uint32_t segment, uint32_t offset);
/* Reads the operation at *offset of the meta and moves *offset past it. The ids point into the meta. False:
 * impossible bytes. */
bool wal_op_decode(const uint8_t *meta, uint64_t meta_bytes, uint64_t *offset, struct wal_op *out);

#endif
