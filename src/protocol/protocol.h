/*
 * The frames and messages of the socket protocol (docs/protocol.md), encoded and decoded: what server and client
 * share.
 *
 * Pure: no I/O, no allocation, no locks; every field that comes in is checked against the end of its body, so that
 * any bytes may be thrown at it. A decoder returns NULL, or a static text that names what is wrong (the frame is
 * broken then, and the connection with it). Whether an id or a name follows the rules is not checked here:
 * docdb.h's functions do, and answer BAD_ID and BAD_NAME.
 */
#ifndef DOCDB_PROTOCOL_PROTOCOL_H
#define DOCDB_PROTOCOL_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/backend.h"
#include "docdb.h"
#include "protocol/wire.h"

/* ---- Bounds ---- */

#define PROTOCOL_VERSION 1
#define FRAME_BYTES      16
/* The longest body of a reply: a document of any server, and room for the entries of a scan before it. */
#define REPLY_BODY_BYTES_MAX (DOCDB_DOC_BYTES_MAX + (1u << 20))
/* The largest body without a document, a batch, entries or a list in it: a scan request (14 + 2 x 255), a hello,
 * stats. */
#define SMALL_BODY_BYTES_MAX   1024
#define INFO_BYTES             32
#define WRITE_HEAD_BYTES       16 /* of one write, before its ids and document */
#define BATCH_HEAD_BYTES       4
#define HELLO_VERSION_TEXT_MAX 31
#define MESSAGE_BYTES_MAX      400 /* of a line of text in a reply or an ERROR frame */

/* ---- Frames ---- */

enum op {
    OP_HELLO = 1,
    OP_OPEN_DB = 2,
    OP_CLOSE_DB = 3,
    OP_DROP_DB = 4,
    OP_LIST_DBS = 5,
    OP_STAT_DB = 6,
    OP_READ = 7,
    OP_STAT = 8,
    OP_BATCH = 9,
    OP_BEGIN = 10,
    OP_TXN_READ = 11,
    OP_TXN_STAT = 12,
    OP_TXN_WRITE = 13,
    OP_COMMIT = 14,
    OP_ABORT = 15,
    OP_SCAN = 16,
    OP_TXN_SCAN = 17,
    OP_SCAN_NEXT = 18,
    OP_SCAN_CLOSE = 19,
    OP_STATS = 20,
    OP_CHECKPOINT = 21,
    OP_VERIFY_OPEN = 22,
    OP_VERIFY_NEXT = 23,
    OP_VERIFY_CLOSE = 24,
    OP_BACKUP_OPEN = 25,
    OP_BACKUP_NEXT = 26,
    OP_BACKUP_CLOSE = 27,
    OP_COUNT, /* one more than the last operation */
    OP_ERROR = 255,
};

enum {
    FRAME_REPLY = 1 << 0,
    FRAME_NO_REPLY = 1 << 1,
    FRAME_END = 1 << 2,
};

struct frame {
    uint32_t body_bytes;
    uint8_t op;
    uint8_t flags;
    int16_t status;
    uint32_t request_id;
    uint32_t handle;
};

void frame_encode(uint8_t at[FRAME_BYTES], const struct frame *frame);
void frame_decode(struct frame *out, const uint8_t at[FRAME_BYTES]);
/* What is wrong with the header of a request or of a reply, before its body is looked at; NULL: nothing. */
const char *frame_check_request(const struct frame *frame, uint32_t max_body_bytes);
const char *frame_check_reply(const struct frame *frame);

/* The longest request body that a server with these limits needs to take. */
uint32_t request_body_bytes_max(const docdb_limits *limits);

/* ---- Hello ---- */

struct hello_request {
    uint16_t version_min;
    uint16_t version_max;
};
void hello_request_encode(struct wire_writer *writer, const struct hello_request *hello);
const char *hello_request_decode(struct hello_request *out, const void *body, size_t bytes);

struct hello_reply {
    uint16_t version;
    uint32_t max_request_bytes;
    docdb_limits limits;
    char server_version[HELLO_VERSION_TEXT_MAX + 1];
};
void hello_reply_encode(struct wire_writer *writer, const struct hello_reply *hello);
const char *hello_reply_decode(struct hello_reply *out, const void *body, size_t bytes);

/* ---- Ids and names: NUL-terminated here. One with a NUL inside decodes as the empty string, which no rule allows.
 * ---- */

struct text {
    char text[DOCDB_ID_BYTES_MAX + 1];
};
void id_encode(struct wire_writer *writer, const char *id);
const char *id_decode(struct text *out, const void *body, size_t bytes);

struct db_request {
    uint32_t flags;
    struct text name;
};
void db_request_encode(struct wire_writer *writer, unsigned flags, const char *name);
const char *db_request_decode(struct db_request *out, const void *body, size_t bytes);

const char *begin_decode(uint32_t *flags, const void *body, size_t bytes);
/* Of a request that has no body. */
const char *empty_decode(size_t bytes);

/* ---- Writes ---- */

/* A decoded write: its document is a part of the frame's body. */
struct write_view {
    enum write_kind kind;
    unsigned flags;
    uint64_t expected;
    int64_t mtime_ns;
    const void *data;
    size_t bytes;
    struct text id;
    struct text to;
};
/* How many bytes a write takes, and what it counts towards max_txn_bytes. */
size_t write_encoded_bytes(const struct write *write);
size_t write_counted_bytes(const struct write *write);
void write_encode(struct wire_writer *writer, const struct write *write);
/* The next write of a batch, or the only one of a TXN_WRITE; problems go to the reader. */
void write_read(struct write_view *out, struct wire_reader *reader);
/* Walks a whole batch and fills *count; afterwards write_read cannot fail on it (start behind BATCH_HEAD_BYTES). */
const char *batch_check(uint32_t *count, const void *body, size_t bytes);

void commit_seq_encode(struct wire_writer *writer, uint64_t commit_seq);
const char *commit_seq_decode(uint64_t *out, const void *body, size_t bytes);

/* ---- What is known of documents and databases ---- */

void info_encode(struct wire_writer *writer, const docdb_info *info);
void info_read(docdb_info *out, struct wire_reader *reader);
const char *info_decode(docdb_info *out, const void *body, size_t bytes);

#define DB_INFO_BYTES_MAX (1 + DOCDB_NAME_BYTES_MAX + 24)
void db_info_encode(struct wire_writer *writer, const docdb_db_info *info);
void db_info_read(docdb_db_info *out, struct wire_reader *reader);
const char *db_info_decode(docdb_db_info *out, const void *body, size_t bytes);

/* ---- Scans ---- */

struct scan_request {
    uint32_t flags;
    uint64_t limit;
    struct text prefix;
    struct text after;
};
void scan_request_encode(struct wire_writer *writer, const docdb_scan_options *options);
const char *scan_request_decode(struct scan_request *out, const void *body, size_t bytes);

#define ENTRY_HEAD_BYTES_MAX (INFO_BYTES + 1 + DOCDB_ID_BYTES_MAX)
/* An entry without its document, which follows it when the scan is with documents. */
void entry_head_encode(struct wire_writer *writer, const char *id, const docdb_info *info);
/* *data gets the document when with_docs, which is a part of the body; problems go to the reader. */
void entry_read(struct text *id, docdb_info *info, const void **data, bool with_docs, struct wire_reader *reader);

/* ---- Verifications ---- */

#define VERIFY_FILE_BYTES_MAX 4095 /* longer texts are cut */
#define VERIFY_WHAT_BYTES_MAX 511
#define VERIFY_EVENT_BYTES_MAX                                                                                     \
    (1 + 5 * 8 + 2 + VERIFY_FILE_BYTES_MAX + 1 + DOCDB_NAME_BYTES_MAX + 1 + DOCDB_ID_BYTES_MAX + 2 +               \
     VERIFY_WHAT_BYTES_MAX)
/* A decoded event; the pointers in it point to its texts. */
struct verify_event_view {
    docdb_verify_event event;
    char file[VERIFY_FILE_BYTES_MAX + 1];
    char what[VERIFY_WHAT_BYTES_MAX + 1];
    struct text database;
    struct text id;
};
void verify_event_encode(struct wire_writer *writer, const docdb_verify_event *event);
const char *verify_event_decode(struct verify_event_view *out, const void *body, size_t bytes);

/* ---- Backups ---- */

#define BACKUP_CHUNK_HEAD_BYTES_MAX (5 * 8 + 1 + DOCDB_ID_BYTES_MAX)
/* A chunk without its data, which follows it. */
void backup_chunk_head_encode(struct wire_writer *writer, const docdb_backup_chunk *chunk);
/* The chunk's data is a part of the body, its path that of *path. */
const char *backup_chunk_decode(docdb_backup_chunk *out, struct text *path, const void *body, size_t bytes);

/* ---- Stats ---- */

void stats_encode(struct wire_writer *writer, const docdb_stats *stats);
/* Counters that the server does not have are 0, those that this side does not know are left out. */
const char *stats_decode(docdb_stats *out, const void *body, size_t bytes);

#endif
