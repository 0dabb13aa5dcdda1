/*
 * The protocol's encoders and decoders: what is encoded decodes to the same; whatever else comes in is named as
 * wrong, and nothing outside the given bytes is read (run under AddressSanitizer: every body is a heap block of its
 * exact size).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "protocol/protocol.h"
#include "tests/lib/cmocka_all.h"

#define BUFFER_BYTES 4096

/* ---- A generator whose seed reruns a test ---- */

struct random {
    uint64_t state;
};

static uint64_t random_next(struct random *random) {
    random->state += 0x9e3779b97f4a7c15u;
    uint64_t z = random->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t random_below(struct random *random, size_t limit) { return (size_t)(random_next(random) % limit); }

static struct random random_start(const char *test) {
    const char *given = getenv("DOCDB_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("%s: DOCDB_SEED=%llu\n", test, (unsigned long long)seed);
    return (struct random){seed};
}

/* ---- Every decoder, as one function of bytes ---- */

static const char *decode_frame(const void *body, size_t bytes) {
    struct frame frame;
    if (bytes < FRAME_BYTES) {
        return "short";
    }
    frame_decode(&frame, body);
    const char *as_request = frame_check_request(&frame, 1u << 20);
    const char *as_reply = frame_check_reply(&frame);
    return as_request != NULL ? as_request : as_reply;
}

static const char *decode_hello_request(const void *body, size_t bytes) {
    struct hello_request out;
    return hello_request_decode(&out, body, bytes);
}

static const char *decode_hello_reply(const void *body, size_t bytes) {
    struct hello_reply out;
    const char *problem = hello_reply_decode(&out, body, bytes);
    assert_true(strnlen(out.server_version, sizeof out.server_version) < sizeof out.server_version);
    return problem;
}

static const char *decode_id(const void *body, size_t bytes) {
    struct text out;
    return id_decode(&out, body, bytes);
}

static const char *decode_db_request(const void *body, size_t bytes) {
    struct db_request out;
    return db_request_decode(&out, body, bytes);
}

static const char *decode_begin(const void *body, size_t bytes) {
    uint32_t flags;
    return begin_decode(&flags, body, bytes);
}

static const char *decode_batch(const void *body, size_t bytes) {
    uint32_t count = 0;
    const char *problem = batch_check(&count, body, bytes);
    if (problem == NULL) { /* then each write decodes */
        struct wire_reader reader;
        wire_reader_init(&reader, body, bytes);
        (void)wire_read_u32(&reader, "");
        for (uint32_t i = 0; i < count; i++) {
            struct write_view view;
            write_read(&view, &reader);
        }
        assert_null(wire_reader_finish(&reader));
    }
    return problem;
}

static const char *decode_info(const void *body, size_t bytes) {
    docdb_info out;
    return info_decode(&out, body, bytes);
}

static const char *decode_db_info(const void *body, size_t bytes) {
    docdb_db_info out;
    return db_info_decode(&out, body, bytes);
}

static const char *decode_backup_chunk(const void *body, size_t bytes) {
    docdb_backup_chunk out;
    struct text path;
    return backup_chunk_decode(&out, &path, body, bytes);
}

static const char *decode_scan_request(const void *body, size_t bytes) {
    struct scan_request out;
    return scan_request_decode(&out, body, bytes);
}

static const char *decode_entry(const void *body, size_t bytes) {
    struct wire_reader reader;
    struct text id;
    docdb_info info;
    const void *data;
    wire_reader_init(&reader, body, bytes);
    entry_read(&id, &info, &data, true, &reader);
    return wire_reader_finish(&reader);
}

static const char *decode_stats(const void *body, size_t bytes) {
    docdb_stats out;
    return stats_decode(&out, body, bytes);
}

static const char *decode_verify_event(const void *body, size_t bytes) {
    struct verify_event_view out;
    return verify_event_decode(&out, body, bytes);
}

static const char *decode_commit_seq(const void *body, size_t bytes) {
    uint64_t out;
    return commit_seq_decode(&out, body, bytes);
}

typedef const char *(*decoder)(const void *body, size_t bytes);
static const decoder decoders[] = {
    decode_frame,        decode_hello_request, decode_hello_reply, decode_id,         decode_db_request,
    decode_begin,        decode_batch,         decode_info,        decode_db_info,    decode_scan_request,
    decode_backup_chunk, decode_entry,         decode_stats,       decode_commit_seq,
};
#define DECODERS (sizeof decoders / sizeof decoders[0])

/* Decodes a copy that ends where its memory ends. */
static const char *decode_exact(decoder decode, const void *body, size_t bytes) {
    void *copy = malloc(bytes == 0 ? 1 : bytes);
    assert_non_null(copy);
    memcpy(copy, body, bytes);
    const char *problem = decode(copy, bytes);
    free(copy);
    return problem;
}

/* A body that decodes must not decode when any number of its last bytes is missing. */
static void assert_every_truncation_is_named(decoder decode, const void *body, size_t bytes) {
    assert_null(decode_exact(decode, body, bytes));
    for (size_t cut = 0; cut < bytes; cut++) {
        assert_non_null(decode_exact(decode, body, cut));
    }
}

/* A body of messages that may not grow must not decode when a byte follows it. */
static void assert_surplus_is_named(decoder decode, const uint8_t *body, size_t bytes) {
    uint8_t longer[BUFFER_BYTES + 1];
    memcpy(longer, body, bytes);
    longer[bytes] = 0;
    assert_non_null(decode_exact(decode, longer, bytes + 1));
}

/* ---- Round trips ---- */

static void frame_header_survives_encoding(void **state) {
    (void)state;
    struct frame in = {.body_bytes = 0x01020304,
                       .op = OP_READ,
                       .flags = FRAME_REPLY | FRAME_END,
                       .status = -17,
                       .request_id = 0xa1a2a3a4,
                       .handle = 0xb1b2b3b4};
    uint8_t at[FRAME_BYTES];
    struct frame out;
    frame_encode(at, &in);
    frame_decode(&out, at);
    assert_int_equal(out.body_bytes, in.body_bytes);
    assert_int_equal(out.op, in.op);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.status, in.status);
    assert_int_equal(out.request_id, in.request_id);
    assert_int_equal(out.handle, in.handle);
    static const uint8_t expected[FRAME_BYTES] = {4,    3,    2,    1,    7,    5,    0xef, 0xff,
                                                  0xa4, 0xa3, 0xa2, 0xa1, 0xb4, 0xb3, 0xb2, 0xb1};
    assert_memory_equal(at, expected, FRAME_BYTES);
}

static void broken_frame_headers_are_named(void **state) {
    (void)state;
    const struct frame good = {.op = OP_READ, .body_bytes = 10};
    assert_null(frame_check_request(&good, 10));
    struct frame bad = good;
    bad.body_bytes = 11;
    assert_string_equal(frame_check_request(&bad, 10), "a body longer than max_request_bytes");
    bad = good;
    bad.op = OP_COUNT;
    assert_string_equal(frame_check_request(&bad, 10), "unknown operation");
    bad.op = 0;
    assert_string_equal(frame_check_request(&bad, 10), "unknown operation");
    bad.op = OP_ERROR;
    assert_string_equal(frame_check_request(&bad, 10), "unknown operation");
    bad = good;
    bad.flags = FRAME_REPLY;
    assert_string_equal(frame_check_request(&bad, 10), "flags that a request cannot have");
    bad.flags = FRAME_NO_REPLY;
    assert_string_equal(frame_check_request(&bad, 10), "NO_REPLY on an operation that is always answered");
    bad.op = OP_ABORT;
    assert_null(frame_check_request(&bad, 10));
    bad = good;
    bad.status = -1;
    assert_string_equal(frame_check_request(&bad, 10), "a status in a request");

    const struct frame reply = {.op = OP_READ, .flags = FRAME_REPLY, .body_bytes = REPLY_BODY_BYTES_MAX};
    assert_null(frame_check_reply(&reply));
    bad = reply;
    bad.body_bytes++;
    assert_non_null(frame_check_reply(&bad));
    bad = reply;
    bad.status = 1;
    assert_non_null(frame_check_reply(&bad));
    bad = reply;
    bad.flags = 0;
    assert_non_null(frame_check_reply(&bad));
    bad.op = OP_ERROR;
    assert_null(frame_check_reply(&bad));
}

static void hello_survives_encoding(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    hello_request_encode(&writer, &(struct hello_request){1, 3});
    struct hello_request request;
    assert_null(hello_request_decode(&request, body, writer.bytes));
    assert_int_equal(request.version_min, 1);
    assert_int_equal(request.version_max, 3);
    assert_every_truncation_is_named(decode_hello_request, body, writer.bytes);
    assert_surplus_is_named(decode_hello_request, body, writer.bytes);
    body[0] = 'd';
    assert_string_equal(hello_request_decode(&request, body, writer.bytes),
                        "the hello does not bear DocDB's magic");

    struct hello_reply in = {
        .version = 1,
        .max_request_bytes = 99,
        .server_version = "1.2.3",
        .limits = {
            .max_doc_bytes = 1u << 30, .max_txn_bytes = 1ull << 31, .max_txn_ops = 10000, .txn_timeout_ms = 60000}};
    struct hello_reply out;
    wire_writer_init(&writer, body, sizeof body);
    hello_reply_encode(&writer, &in);
    assert_null(hello_reply_decode(&out, body, writer.bytes));
    assert_int_equal(out.version, 1);
    assert_int_equal(out.max_request_bytes, 99);
    assert_string_equal(out.server_version, "1.2.3");
    assert_memory_equal(&out.limits, &in.limits, sizeof in.limits);
    assert_every_truncation_is_named(decode_hello_reply, body, writer.bytes);
    assert_null(hello_reply_decode(&out, body, writer.bytes + 8)); /* a newer server may say more */
}

static void ids_and_names_survive_encoding(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    char longest[DOCDB_ID_BYTES_MAX + 1];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *ids[] = {"1", "\xff\x01 ü", longest};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct text id;
        wire_writer_init(&writer, body, sizeof body);
        id_encode(&writer, ids[i]);
        assert_null(id_decode(&id, body, writer.bytes));
        assert_string_equal(id.text, ids[i]);
        assert_every_truncation_is_named(decode_id, body, writer.bytes);
        assert_surplus_is_named(decode_id, body, writer.bytes);
    }
    struct db_request request;
    wire_writer_init(&writer, body, sizeof body);
    db_request_encode(&writer, DOCDB_DB_CREATE, "notes");
    assert_null(db_request_decode(&request, body, writer.bytes));
    assert_int_equal(request.flags, DOCDB_DB_CREATE);
    assert_string_equal(request.name.text, "notes");
    assert_every_truncation_is_named(decode_db_request, body, writer.bytes);
}

static void id_with_nul_inside_is_no_other_id(void **state) {
    (void)state;
    struct text id;
    assert_null(id_decode(&id, "\3a\0b", 4));
    assert_string_equal(id.text, ""); /* which docdb.h refuses with BAD_ID; "a" would be another document */
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    scan_request_encode(&writer, &(docdb_scan_options){.prefix = "abc"});
    body[14] = '\0';
    struct scan_request request;
    assert_string_equal(scan_request_decode(&request, body, writer.bytes), "a NUL inside the prefix");
}

static const struct write sample_writes[] = {
    {.kind = WRITE_PUT, .id = "a", .data = "hello", .bytes = 5},
    {.kind = WRITE_CREATE, .id = "b", .data = "", .bytes = 0},
    {.kind = WRITE_UPDATE, .id = "c", .data = "\0\1", .bytes = 2},
    {.kind = WRITE_PUT_IF, .id = "d", .data = "x", .bytes = 1, .expected = UINT64_MAX},
    {.kind = WRITE_DELETE, .id = "e"},
    {.kind = WRITE_DELETE_IF, .id = "f", .expected = 7},
    {.kind = WRITE_RENAME, .id = "g", .to = "hh", .flags = DOCDB_RENAME_EXCHANGE},
    {.kind = WRITE_SET_MTIME, .id = "i", .mtime_ns = -5},
};
#define SAMPLE_WRITES (sizeof sample_writes / sizeof sample_writes[0])

static size_t sample_batch(uint8_t *body) {
    struct wire_writer writer;
    wire_writer_init(&writer, body, BUFFER_BYTES);
    wire_write_u32(&writer, SAMPLE_WRITES);
    for (size_t i = 0; i < SAMPLE_WRITES; i++) {
        size_t before = writer.bytes;
        write_encode(&writer, &sample_writes[i]);
        assert_int_equal(writer.bytes - before, write_encoded_bytes(&sample_writes[i]));
    }
    return writer.bytes;
}

static void batches_survive_encoding(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    size_t bytes = sample_batch(body);
    uint32_t count = 0;
    assert_null(batch_check(&count, body, bytes));
    assert_int_equal(count, SAMPLE_WRITES);
    struct wire_reader reader;
    wire_reader_init(&reader, body, bytes);
    (void)wire_read_u32(&reader, "");
    for (size_t i = 0; i < SAMPLE_WRITES; i++) {
        const struct write *in = &sample_writes[i];
        struct write_view out;
        write_read(&out, &reader);
        assert_int_equal(out.kind, in->kind);
        assert_int_equal(out.flags, in->flags);
        assert_string_equal(out.id.text, in->id);
        assert_string_equal(out.to.text, in->to == NULL ? "" : in->to);
        assert_int_equal(out.bytes, in->bytes);
        assert_memory_equal(out.data, in->data == NULL ? "" : in->data, in->bytes);
        if (in->kind == WRITE_SET_MTIME) {
            assert_true(out.mtime_ns == in->mtime_ns);
        } else {
            assert_true(out.expected == in->expected);
        }
    }
    assert_null(wire_reader_finish(&reader));
    assert_every_truncation_is_named(decode_batch, body, bytes);
    assert_surplus_is_named(decode_batch, body, bytes);
}

static void claims_beyond_the_body_are_named(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    uint32_t count;
    size_t bytes = sample_batch(body);
    put_u32(body, UINT32_MAX); /* more writes than there are */
    assert_non_null(batch_check(&count, body, bytes));
    bytes = sample_batch(body);
    put_u32(body + BATCH_HEAD_BYTES + 4, UINT32_MAX); /* a document longer than the body */
    assert_string_equal(batch_check(&count, body, bytes), "the body ends inside a document");
    bytes = sample_batch(body);
    put_u8(body + BATCH_HEAD_BYTES, 9);
    assert_string_equal(batch_check(&count, body, bytes), "a write of an unknown kind");
}

static void infos_survive_encoding(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    docdb_info info = {.version = 1, .bytes = UINT64_MAX, .commit_time_ns = INT64_MIN, .mtime_ns = -1};
    docdb_info info_out;
    wire_writer_init(&writer, body, sizeof body);
    info_encode(&writer, &info);
    assert_int_equal(writer.bytes, INFO_BYTES);
    assert_null(info_decode(&info_out, body, writer.bytes));
    assert_memory_equal(&info_out, &info, sizeof info);
    assert_every_truncation_is_named(decode_info, body, writer.bytes);
    assert_surplus_is_named(decode_info, body, writer.bytes);

    docdb_db_info db = {.name = "n", .documents = 3, .document_bytes = 4, .change_time_ns = 5};
    docdb_db_info db_out;
    wire_writer_init(&writer, body, sizeof body);
    db_info_encode(&writer, &db);
    assert_null(db_info_decode(&db_out, body, writer.bytes));
    assert_string_equal(db_out.name, "n");
    assert_int_equal(db_out.documents, 3);
    assert_int_equal(db_out.document_bytes, 4);
    assert_int_equal(db_out.change_time_ns, 5);
    assert_every_truncation_is_named(decode_db_info, body, writer.bytes);
}

static void database_name_longer_than_any_is_named(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES] = {255};
    memset(body + 1, 'x', 255 + 24);
    assert_string_equal(decode_exact(decode_db_info, body, 1 + 255 + 24), "a database's name longer than any");
}

static void scans_survive_encoding(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    struct scan_request out;
    wire_writer_init(&writer, body, sizeof body);
    scan_request_encode(&writer, &(docdb_scan_options){
                                     .flags = DOCDB_SCAN_DOCS, .prefix = "p", .after = "pq", .limit = UINT64_MAX});
    assert_null(scan_request_decode(&out, body, writer.bytes));
    assert_int_equal(out.flags, DOCDB_SCAN_DOCS);
    assert_true(out.limit == UINT64_MAX);
    assert_string_equal(out.prefix.text, "p");
    assert_string_equal(out.after.text, "pq");
    assert_every_truncation_is_named(decode_scan_request, body, writer.bytes);

    docdb_info info = {.version = 9, .bytes = 3};
    struct wire_reader reader;
    struct text id;
    docdb_info info_out;
    const void *data;
    wire_writer_init(&writer, body, sizeof body);
    entry_head_encode(&writer, "id", &info);
    wire_write_bytes(&writer, "abc", 3);
    wire_reader_init(&reader, body, writer.bytes);
    entry_read(&id, &info_out, &data, true, &reader);
    assert_null(wire_reader_finish(&reader));
    assert_string_equal(id.text, "id");
    assert_memory_equal(data, "abc", 3);
    assert_every_truncation_is_named(decode_entry, body, writer.bytes);
}

static void verification_events_survive_encoding(void **state) {
    (void)state;
    uint8_t body[VERIFY_EVENT_BYTES_MAX];
    char file[2 * VERIFY_FILE_BYTES_MAX];
    struct wire_writer writer;
    struct verify_event_view out;
    docdb_verify_event event = {.kind = DOCDB_VERIFY_DAMAGE,
                                .done_bytes = 1,
                                .total_bytes = 2,
                                .documents = 3,
                                .damages = 4,
                                .offset = 5,
                                .file = "/data/MANIFEST",
                                .database = "people",
                                .id = "al\xff",
                                .what = "it is gone"};
    wire_writer_init(&writer, body, sizeof body);
    verify_event_encode(&writer, &event);
    assert_null(verify_event_decode(&out, body, writer.bytes));
    assert_int_equal(out.event.kind, event.kind);
    assert_int_equal(out.event.done_bytes, 1);
    assert_int_equal(out.event.total_bytes, 2);
    assert_int_equal(out.event.documents, 3);
    assert_int_equal(out.event.damages, 4);
    assert_int_equal(out.event.offset, 5);
    assert_string_equal(out.event.file, event.file);
    assert_string_equal(out.event.database, event.database);
    assert_string_equal(out.event.id, event.id);
    assert_string_equal(out.event.what, event.what);
    assert_every_truncation_is_named(decode_verify_event, body, writer.bytes);
    assert_surplus_is_named(decode_verify_event, body, writer.bytes);
    body[0] = 3;
    assert_non_null(verify_event_decode(&out, body, writer.bytes));

    /* A text that is too long is cut, so that the body's bound holds. */
    memset(file, 'f', sizeof file);
    file[sizeof file - 1] = '\0';
    event.file = file;
    wire_writer_init(&writer, body, sizeof body);
    verify_event_encode(&writer, &event);
    assert_null(verify_event_decode(&out, body, writer.bytes));
    assert_int_equal(strlen(out.event.file), VERIFY_FILE_BYTES_MAX);
}

static void stats_survive_encoding_and_other_versions(void **state) {
    (void)state;
    uint8_t body[BUFFER_BYTES];
    struct wire_writer writer;
    docdb_stats stats = {0};
    uint64_t next = 1;
#define FILL(field, text) stats.field = next++;
    DOCDB_STATS(FILL)
#undef FILL
    (void)snprintf(stats.read_only_reason, sizeof stats.read_only_reason, "the disk is gone");
    docdb_stats out;
    wire_writer_init(&writer, body, sizeof body);
    stats_encode(&writer, &stats);
    assert_true(writer.bytes <= SMALL_BODY_BYTES_MAX);
    assert_null(stats_decode(&out, body, writer.bytes));
    assert_memory_equal(&out, &stats, sizeof stats);
    assert_every_truncation_is_named(decode_stats, body, writer.bytes);

    /* A server with one counter only, and one with a hundred. */
    wire_writer_init(&writer, body, sizeof body);
    wire_write_u16(&writer, 1);
    wire_write_u64(&writer, 42);
    wire_write_u16(&writer, 0);
    assert_null(stats_decode(&out, body, writer.bytes));
    assert_int_equal(out.databases, 42);
    assert_int_equal(out.documents, 0);
    wire_writer_init(&writer, body, sizeof body);
    wire_write_u16(&writer, 100);
    for (unsigned i = 0; i < 100; i++) {
        wire_write_u64(&writer, i);
    }
    wire_write_u16(&writer, 1);
    wire_write_u8(&writer, 'r');
    assert_null(stats_decode(&out, body, writer.bytes));
    assert_int_equal(out.documents, 1);
    assert_string_equal(out.read_only_reason, "r");
}

static void largest_request_holds_the_largest_transaction(void **state) {
    (void)state;
    docdb_limits limits = {
        .max_doc_bytes = 1u << 30, .max_txn_bytes = 2ull << 30, .max_txn_ops = DOCDB_TXN_OPS_MAX};
    uint64_t needed = BATCH_HEAD_BYTES + limits.max_txn_bytes + (uint64_t)limits.max_txn_ops * WRITE_HEAD_BYTES;
    assert_true(request_body_bytes_max(&limits) >= needed);
    limits.max_txn_bytes = 1; /* one write with a document must fit whatever else is set */
    assert_true(request_body_bytes_max(&limits) >=
                limits.max_doc_bytes + WRITE_HEAD_BYTES + 2 * DOCDB_ID_BYTES_MAX);
}

/* ---- Garbage ---- */

static void random_bytes_never_crash_a_decoder(void **state) {
    (void)state;
    struct random random = random_start(__func__);
    for (int round = 0; round < 20000; round++) {
        uint8_t body[512];
        size_t bytes = random_below(&random, sizeof body + 1);
        for (size_t i = 0; i < bytes; i++) {
            /* Small values are likelier to pass for lengths and kinds, so that decoders get further. */
            body[i] = (uint8_t)(random_below(&random, 3) == 0 ? random_next(&random) : random_below(&random, 9));
        }
        for (size_t i = 0; i < DECODERS; i++) {
            (void)decode_exact(decoders[i], body, bytes);
        }
    }
}

static void mutated_batches_never_crash_the_decoder(void **state) {
    (void)state;
    struct random random = random_start(__func__);
    for (int round = 0; round < 20000; round++) {
        uint8_t body[BUFFER_BYTES];
        size_t bytes = sample_batch(body);
        for (size_t changes = 1 + random_below(&random, 4); changes > 0; changes--) {
            body[random_below(&random, bytes)] = (uint8_t)random_next(&random);
        }
        (void)decode_exact(decode_batch, body, bytes - random_below(&random, 8));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_header_survives_encoding),
        cmocka_unit_test(broken_frame_headers_are_named),
        cmocka_unit_test(hello_survives_encoding),
        cmocka_unit_test(ids_and_names_survive_encoding),
        cmocka_unit_test(id_with_nul_inside_is_no_other_id),
        cmocka_unit_test(batches_survive_encoding),
        cmocka_unit_test(claims_beyond_the_body_are_named),
        cmocka_unit_test(infos_survive_encoding),
        cmocka_unit_test(database_name_longer_than_any_is_named),
        cmocka_unit_test(scans_survive_encoding),
        cmocka_unit_test(verification_events_survive_encoding),
        cmocka_unit_test(stats_survive_encoding_and_other_versions),
        cmocka_unit_test(largest_request_holds_the_largest_transaction),
        cmocka_unit_test(random_bytes_never_crash_a_decoder),
        cmocka_unit_test(mutated_batches_never_crash_the_decoder),
    };
    return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
