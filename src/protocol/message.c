/* The bodies of requests and replies. See protocol.h and docs/protocol.md. */
#include <string.h>

#include "protocol/protocol.h"

/* ---- Texts: u8 length, bytes ---- */

static void text_write(struct wire_writer *writer, const char *text) {
    size_t length = text == NULL ? 0 : strlen(text);
    size_t bytes =
        length < DOCDB_ID_BYTES_MAX ? length : DOCDB_ID_BYTES_MAX; /* checked by the caller long before */
    wire_write_u8(writer, (uint8_t)bytes);
    wire_write_bytes(writer, text, bytes);
}

/* False when there is a NUL inside; *out is empty then. */
static bool text_copy(struct text *out, const void *at, size_t bytes) {
    out->text[0] = '\0';
    if (at == NULL || memchr(at, '\0', bytes) != NULL) {
        return at == NULL;
    }
    memcpy(out->text, at, bytes);
    out->text[bytes] = '\0';
    return true;
}

static bool text_read(struct text *out, struct wire_reader *reader, const char *problem) {
    size_t bytes = wire_read_u8(reader, problem);
    return text_copy(out, wire_read_bytes(reader, bytes, problem), bytes);
}

/* ---- Requests of a database, an id, flags ---- */

void id_encode(struct wire_writer *writer, const char *id) { text_write(writer, id); }

const char *id_decode(struct text *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    (void)text_read(out, &reader, "the body ends inside the id");
    return wire_reader_finish(&reader);
}

void db_request_encode(struct wire_writer *writer, unsigned flags, const char *name) {
    wire_write_u32(writer, flags);
    text_write(writer, name);
}

const char *db_request_decode(struct db_request *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    out->flags = wire_read_u32(&reader, "the body ends inside the flags");
    (void)text_read(&out->name, &reader, "the body ends inside the database's name");
    return wire_reader_finish(&reader);
}

const char *begin_decode(uint32_t *flags, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    *flags = wire_read_u32(&reader, "the body ends inside the flags");
    return wire_reader_finish(&reader);
}

const char *empty_decode(size_t bytes) { return bytes == 0 ? NULL : "a body on an operation that has none"; }

/* ---- Writes ---- */

static bool has_document(enum write_kind kind) {
    return kind == WRITE_PUT || kind == WRITE_CREATE || kind == WRITE_UPDATE || kind == WRITE_PUT_IF;
}

static bool has_expected(enum write_kind kind) { return kind == WRITE_PUT_IF || kind == WRITE_DELETE_IF; }

size_t write_counted_bytes(const struct write *write) {
    size_t bytes = strlen(write->id) + (has_document(write->kind) ? write->bytes : 0);
    return write->kind == WRITE_RENAME ? bytes + strlen(write->to) : bytes;
}

size_t write_encoded_bytes(const struct write *write) { return WRITE_HEAD_BYTES + write_counted_bytes(write); }

void write_encode(struct wire_writer *writer, const struct write *write) {
    size_t id_bytes = strlen(write->id);
    size_t to_bytes = write->kind == WRITE_RENAME ? strlen(write->to) : 0;
    size_t data_bytes = has_document(write->kind) ? write->bytes : 0;
    uint64_t argument = has_expected(write->kind)        ? write->expected
                        : write->kind == WRITE_SET_MTIME ? (uint64_t)write->mtime_ns
                                                         : 0;
    wire_write_u8(writer, (uint8_t)write->kind);
    wire_write_u8(writer, (uint8_t)write->flags);
    wire_write_u8(writer, (uint8_t)id_bytes);
    wire_write_u8(writer, (uint8_t)to_bytes);
    wire_write_u32(writer, (uint32_t)data_bytes);
    wire_write_u64(writer, argument);
    wire_write_bytes(writer, write->id, id_bytes);
    wire_write_bytes(writer, write->to, to_bytes);
    wire_write_bytes(writer, write->data, data_bytes);
}

/* What a head may not hold, kind by kind; NULL: nothing. */
static const char *write_check(enum write_kind kind, unsigned flags, size_t to_bytes, size_t data_bytes,
                               uint64_t argument) {
    if (kind < WRITE_PUT || kind > WRITE_SET_MTIME) {
        return "a write of an unknown kind";
    }
    if (kind != WRITE_RENAME && (flags != 0 || to_bytes != 0)) {
        return "flags or a second id on a write that is not a rename";
    }
    if (!has_document(kind) && data_bytes != 0) {
        return "a document on a write that has none";
    }
    if (!has_expected(kind) && kind != WRITE_SET_MTIME && argument != 0) {
        return "an expected version or a time on a write that has none";
    }
    return NULL;
}

void write_read(struct write_view *out, struct wire_reader *reader) {
    static const char head[] = "the body ends inside the head of a write";
    enum write_kind kind = wire_read_u8(reader, head);
    unsigned flags = wire_read_u8(reader, head);
    size_t id_bytes = wire_read_u8(reader, head);
    size_t to_bytes = wire_read_u8(reader, head);
    size_t data_bytes = wire_read_u32(reader, head);
    uint64_t argument = wire_read_u64(reader, head);
    const char *problem = reader->problem != NULL ? NULL : write_check(kind, flags, to_bytes, data_bytes, argument);
    if (problem != NULL) {
        wire_reader_fail(reader, problem);
    }
    out->kind = kind;
    out->flags = flags;
    out->expected = argument;
    out->mtime_ns = (int64_t)argument;
    (void)text_copy(&out->id, wire_read_bytes(reader, id_bytes, "the body ends inside the id of a write"),
                    id_bytes);
    (void)text_copy(&out->to, wire_read_bytes(reader, to_bytes, "the body ends inside the second id of a write"),
                    to_bytes);
    out->data = wire_read_bytes(reader, data_bytes, "the body ends inside a document");
    out->bytes = out->data == NULL ? 0 : data_bytes;
}

const char *batch_check(uint32_t *count, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    *count = wire_read_u32(&reader, "the body ends inside the count of writes");
    for (uint32_t i = 0; i < *count && reader.problem == NULL; i++) {
        struct write_view view;
        write_read(&view, &reader);
    }
    return wire_reader_finish(&reader);
}

void commit_seq_encode(struct wire_writer *writer, uint64_t commit_seq) { wire_write_u64(writer, commit_seq); }

const char *commit_seq_decode(uint64_t *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    *out = wire_read_u64(&reader, "the body ends inside the commit_seq");
    return wire_reader_finish(&reader);
}

/* ---- What is known of documents and databases ---- */

void info_encode(struct wire_writer *writer, const docdb_info *info) {
    wire_write_u64(writer, info->version);
    wire_write_u64(writer, info->bytes);
    wire_write_u64(writer, (uint64_t)info->commit_time_ns);
    wire_write_u64(writer, (uint64_t)info->mtime_ns);
}

void info_read(docdb_info *out, struct wire_reader *reader) {
    static const char problem[] = "the body ends inside what is known of a document";
    out->version = wire_read_u64(reader, problem);
    out->bytes = wire_read_u64(reader, problem);
    out->commit_time_ns = (int64_t)wire_read_u64(reader, problem);
    out->mtime_ns = (int64_t)wire_read_u64(reader, problem);
}

const char *info_decode(docdb_info *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    info_read(out, &reader);
    return wire_reader_finish(&reader);
}

void db_info_encode(struct wire_writer *writer, const docdb_db_info *info) {
    text_write(writer, info->name);
    wire_write_u64(writer, info->documents);
    wire_write_u64(writer, info->document_bytes);
    wire_write_u64(writer, (uint64_t)info->change_time_ns);
}

void db_info_read(docdb_db_info *out, struct wire_reader *reader) {
    static const char problem[] = "the body ends inside what is known of a database";
    struct text name;
    *out = (docdb_db_info){0};
    (void)text_read(&name, reader, problem);
    size_t name_bytes = strlen(name.text);
    if (name_bytes > DOCDB_NAME_BYTES_MAX) {
        wire_reader_fail(reader, "a database's name longer than any");
        return;
    }
    memcpy(out->name, name.text, name_bytes + 1);
    out->documents = wire_read_u64(reader, problem);
    out->document_bytes = wire_read_u64(reader, problem);
    out->change_time_ns = (int64_t)wire_read_u64(reader, problem);
}

const char *db_info_decode(docdb_db_info *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    db_info_read(out, &reader);
    return wire_reader_finish(&reader);
}

/* ---- Scans ---- */

void scan_request_encode(struct wire_writer *writer, const docdb_scan_options *options) {
    wire_write_u32(writer, options->flags);
    wire_write_u64(writer, options->limit);
    text_write(writer, options->prefix);
    text_write(writer, options->after);
}

const char *scan_request_decode(struct scan_request *out, const void *body, size_t bytes) {
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    out->flags = wire_read_u32(&reader, "the body ends inside the flags");
    out->limit = wire_read_u64(&reader, "the body ends inside the limit");
    /* An empty one would mean "all", so one with a NUL inside must not pass as empty. */
    if (!text_read(&out->prefix, &reader, "the body ends inside the prefix")) {
        wire_reader_fail(&reader, "a NUL inside the prefix");
    }
    if (!text_read(&out->after, &reader, "the body ends inside the id to start after")) {
        wire_reader_fail(&reader, "a NUL inside the id to start after");
    }
    return wire_reader_finish(&reader);
}

void entry_head_encode(struct wire_writer *writer, const char *id, const docdb_info *info) {
    info_encode(writer, info);
    text_write(writer, id);
}

void entry_read(struct text *id, docdb_info *info, const void **data, bool with_docs, struct wire_reader *reader) {
    info_read(info, reader);
    (void)text_read(id, reader, "the body ends inside the id of an entry");
    *data = NULL;
    if (with_docs) {
        size_t bytes = info->bytes > SIZE_MAX ? SIZE_MAX : (size_t)info->bytes;
        *data = wire_read_bytes(reader, bytes, "the body ends inside the document of an entry");
    }
}

/* ---- Verifications ---- */

/* A text longer than an id: u16 length, bytes. */
static void long_text_write(struct wire_writer *writer, const char *text, size_t bytes_max) {
    size_t bytes = strnlen(text, bytes_max);
    wire_write_u16(writer, (uint16_t)bytes);
    wire_write_bytes(writer, text, bytes);
}

static void long_text_read(char *out, size_t bytes_max, struct wire_reader *reader, const char *problem) {
    size_t bytes = wire_read_u16(reader, problem);
    const void *at = wire_read_bytes(reader, bytes, problem);
    size_t kept = at == NULL ? 0 : bytes < bytes_max ? bytes : bytes_max;
    if (kept > 0) {
        memcpy(out, at, kept);
    }
    out[kept] = '\0';
}

void verify_event_encode(struct wire_writer *writer, const docdb_verify_event *event) {
    wire_write_u8(writer, (uint8_t)event->kind);
    wire_write_u64(writer, event->done_bytes);
    wire_write_u64(writer, event->total_bytes);
    wire_write_u64(writer, event->documents);
    wire_write_u64(writer, event->damages);
    wire_write_u64(writer, event->offset);
    long_text_write(writer, event->file, VERIFY_FILE_BYTES_MAX);
    text_write(writer, event->database);
    text_write(writer, event->id);
    long_text_write(writer, event->what, VERIFY_WHAT_BYTES_MAX);
}

const char *verify_event_decode(struct verify_event_view *out, const void *body, size_t bytes) {
    static const char counts[] = "the body ends inside the counts of a verification";
    static const char texts[] = "the body ends inside what is damaged";
    struct wire_reader reader;
    docdb_verify_event *event = &out->event;
    wire_reader_init(&reader, body, bytes);
    unsigned kind = wire_read_u8(&reader, counts);
    event->done_bytes = wire_read_u64(&reader, counts);
    event->total_bytes = wire_read_u64(&reader, counts);
    event->documents = wire_read_u64(&reader, counts);
    event->damages = wire_read_u64(&reader, counts);
    event->offset = wire_read_u64(&reader, counts);
    long_text_read(out->file, VERIFY_FILE_BYTES_MAX, &reader, texts);
    (void)text_read(&out->database, &reader, texts);
    (void)text_read(&out->id, &reader, texts);
    long_text_read(out->what, VERIFY_WHAT_BYTES_MAX, &reader, texts);
    if (reader.problem == NULL && kind != DOCDB_VERIFY_PROGRESS && kind != DOCDB_VERIFY_DAMAGE) {
        wire_reader_fail(&reader, "a verification's event of an unknown kind");
    }
    event->kind = kind == DOCDB_VERIFY_DAMAGE ? DOCDB_VERIFY_DAMAGE : DOCDB_VERIFY_PROGRESS;
    event->file = out->file;
    event->database = out->database.text;
    event->id = out->id.text;
    event->what = out->what;
    return wire_reader_finish(&reader);
}

/* ---- Backups ---- */

void backup_chunk_head_encode(struct wire_writer *writer, const docdb_backup_chunk *chunk) {
    wire_write_u64(writer, chunk->commit_seq);
    wire_write_u64(writer, chunk->total_bytes);
    wire_write_u64(writer, chunk->done_bytes);
    wire_write_u64(writer, chunk->file_bytes);
    wire_write_u64(writer, chunk->offset);
    text_write(writer, chunk->path);
}

const char *backup_chunk_decode(docdb_backup_chunk *out, struct text *path, const void *body, size_t bytes) {
    static const char problem[] = "the body ends inside the head of a chunk";
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    out->commit_seq = wire_read_u64(&reader, problem);
    out->total_bytes = wire_read_u64(&reader, problem);
    out->done_bytes = wire_read_u64(&reader, problem);
    out->file_bytes = wire_read_u64(&reader, problem);
    out->offset = wire_read_u64(&reader, problem);
    (void)text_read(path, &reader, problem);
    out->path = path->text;
    out->bytes = reader.left;
    out->data = wire_read_bytes(&reader, reader.left, problem);
    if (reader.problem == NULL && out->bytes > DOCDB_BACKUP_CHUNK_BYTES_MAX) {
        wire_reader_fail(&reader, "a chunk with more data than any");
    }
    if (reader.problem == NULL && (out->offset > out->file_bytes || out->bytes > out->file_bytes - out->offset)) {
        wire_reader_fail(&reader, "a chunk that goes on behind the end of its file");
    }
    return reader.problem;
}

/* ---- Stats ---- */

#define STAT_INDEX(field, text) STAT_##field,
enum { DOCDB_STATS(STAT_INDEX) STAT_COUNT };
#undef STAT_INDEX

void stats_encode(struct wire_writer *writer, const docdb_stats *stats) {
    wire_write_u16(writer, STAT_COUNT);
#define WRITE(field, text) wire_write_u64(writer, stats->field);
    DOCDB_STATS(WRITE)
#undef WRITE
    size_t bytes = strnlen(stats->read_only_reason, sizeof stats->read_only_reason);
    wire_write_u16(writer, (uint16_t)bytes);
    wire_write_bytes(writer, stats->read_only_reason, bytes);
}

const char *stats_decode(docdb_stats *out, const void *body, size_t bytes) {
    static const char problem[] = "the body ends inside the counters";
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    *out = (docdb_stats){0};
    unsigned left = wire_read_u16(&reader, problem);
#define READ(field, text)                                                                                          \
    if (left > 0) {                                                                                                \
        out->field = wire_read_u64(&reader, problem);                                                              \
        left--;                                                                                                    \
    }
    DOCDB_STATS(READ)
#undef READ
    (void)wire_read_bytes(&reader, (size_t)left * sizeof(uint64_t), problem); /* those of a newer server */
    size_t reason_bytes = wire_read_u16(&reader, "the body ends inside the reason");
    const void *reason = wire_read_bytes(&reader, reason_bytes, "the body ends inside the reason");
    if (reason != NULL) {
        size_t room = sizeof out->read_only_reason - 1;
        memcpy(out->read_only_reason, reason, reason_bytes < room ? reason_bytes : room);
    }
    return reader.problem; /* what follows was added by a newer server */
}
