/*
 * Damage on the disk is found, named, and never served: one flipped bit anywhere that matters, and files that are
 * missing. What is not damaged stays readable.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

#define BLOCK       4096u
#define DOCS        12
#define DOC_BYTES   1500u
#define WAL_FILE(n) "/data/wal/000000000000000" #n ".wal"
#define SEGMENT     "/data/db/00000001/00000001.seg"
#define MANIFEST    "/data/MANIFEST"

struct fixture {
    struct sim_disk *disk;
    struct test_log log;
    docdb *runtime;
    docdb_db *db;
    docdb_error error;
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->disk = sim_disk_create();
    *state = fixture;
    return test_store_open(fixture->disk, &fixture->log, &fixture->runtime, NULL) != DOCDB_OK ||
           docdb_db_open(fixture->runtime, "docs", DOCDB_DB_CREATE, &fixture->db) != DOCDB_OK;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    docdb_db_close(fixture->db);
    (void)docdb_close(fixture->runtime);
    sim_disk_destroy(fixture->disk);
    free(fixture);
    return 0;
}

static void put(struct fixture *fixture, unsigned number, size_t bytes) {
    char id[16];
    uint8_t *data = malloc(bytes);
    (void)snprintf(id, sizeof id, "doc%02u", number);
    model_fill(number, data, bytes);
    assert_int_equal(docdb_put(fixture->db, id, data, bytes, NULL), DOCDB_OK);
    free(data);
}

static int read_status(struct fixture *fixture, unsigned number) {
    char id[16];
    docdb_doc *doc = NULL;
    (void)snprintf(id, sizeof id, "doc%02u", number);
    int status = docdb_read(fixture->db, id, &doc);
    if (status == DOCDB_OK) {
        uint8_t data[DOC_BYTES];
        model_fill(number, data, sizeof data);
        assert_int_equal(docdb_doc_bytes(doc), sizeof data);
        assert_memory_equal(docdb_doc_data(doc), data, sizeof data);
        docdb_doc_release(doc);
    }
    return status;
}

/* Ends the store without a checkpoint: all documents are in the WAL alone. */
static void stop_without_checkpoint(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    test_store_crash(fixture->disk, fixture->runtime, 1);
    fixture->runtime = NULL;
}

static void stop(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    fixture->runtime = NULL;
}

static int start(struct fixture *fixture) {
    memset(&fixture->error, 0, sizeof fixture->error);
    int status = test_store_open(fixture->disk, &fixture->log, &fixture->runtime, &fixture->error);
    if (status != DOCDB_OK) {
        fixture->runtime = NULL;
        assert_int_equal(sim_disk_open_files(fixture->disk), 0);
        assert_int_equal(fixture->error.status, status);
        return status;
    }
    return docdb_db_open(fixture->runtime, "docs", 0, &fixture->db);
}

static void check_all(struct fixture *fixture, unsigned count) {
    for (unsigned i = 0; i < DOCS; i++) {
        assert_int_equal(read_status(fixture, i), i < count ? DOCDB_OK : DOCDB_ERR_NOT_FOUND);
    }
}

/* The store must refuse to open, saying so with these words; and open again once the damage is undone. */
static void check_refused(struct fixture *fixture, const char *path, uint64_t offset, uint8_t bits, int expected,
                          const char *word) {
    assert_true(sim_disk_flip(fixture->disk, path, offset, bits));
    int status = start(fixture);
    if (status != expected || strstr(fixture->error.message, word) == NULL) {
        fail_msg("%s with offset %" PRIu64 " damaged by %02x: open says %s \"%s\", expected %s and \"%s\"", path,
                 offset, bits, docdb_error_name(status), fixture->error.message, docdb_error_name(expected), word);
    }
    assert_true(sim_disk_flip(fixture->disk, path, offset, bits));
}

static void a_damaged_wal_record_before_others_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop_without_checkpoint(fixture);
    /* The record of document i is one batch, in block 2 + i of the file: header, database's creation, documents. */
    static const unsigned offsets[] = {0, 3, 8, 17, 40, 50, 60, 81, 88, 92, 100, 128, 140, 700, 1600};
    for (unsigned i = 0; i + 1 < DOCS; i++) {
        for (size_t j = 0; j < sizeof offsets / sizeof offsets[0]; j++) {
            check_refused(fixture, WAL_FILE(1), (2 + i) * BLOCK + offsets[j], (uint8_t)(1u << (i + j) % 8),
                          DOCDB_ERR_CORRUPT, "LSN");
            assert_non_null(strstr(fixture->error.message, "/data/wal"));
        }
    }
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, DOCS);
}

static void a_damaged_last_wal_record_is_a_torn_tail(void **state) {
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop_without_checkpoint(fixture);
    assert_true(sim_disk_flip(fixture->disk, WAL_FILE(1), (1 + DOCS) * BLOCK + 400, 4));
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, DOCS - 1);
    put(fixture, DOCS - 1, DOC_BYTES); /* takes the place of the torn record */
    docdb_db_close(fixture->db);
    test_store_crash(fixture->disk, fixture->runtime, 2);
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, DOCS);
}

static void a_damaged_document_is_corrupt_alone(void **state) {
    struct fixture *fixture = *state;
    uint8_t *segment = calloc(1, 64u << 10);
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop(fixture);
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    int file = os_open(os, SEGMENT, OS_READ);
    int64_t bytes = os_pread(os, file, segment, 64u << 10, 0);
    assert_true(bytes > DOCS * (int64_t)DOC_BYTES);
    (void)os_close(os, file);
    for (unsigned victim = 0; victim < DOCS; victim++) {
        uint8_t data[DOC_BYTES];
        model_fill(victim, data, sizeof data);
        const uint8_t *found = memmem(segment, (size_t)bytes, data, sizeof data);
        assert_non_null(found);
        /* In the bytes, in the id before them, in the record's header. */
        uint64_t at = (uint64_t)(found - segment) + (victim % 3 == 0 ? 700 : 0) - (victim % 3 == 1 ? 2 : 0) -
                      (victim % 3 == 2 ? 40 : 0);
        assert_true(sim_disk_flip(fixture->disk, SEGMENT, at, 16));
        assert_int_equal(start(fixture), DOCDB_OK);
        for (int again = 0; again < 2; again++) {
            for (unsigned i = 0; i < DOCS; i++) {
                assert_int_equal(read_status(fixture, i), i == victim ? DOCDB_ERR_CORRUPT : DOCDB_OK);
            }
        }
        assert_non_null(strstr(fixture->log.lines[(fixture->log.next - 1) % TEST_LOG_LINES], "00000001.seg"));
        docdb_db_close(fixture->db);
        test_store_crash(fixture->disk, fixture->runtime, victim);
        assert_true(sim_disk_flip(fixture->disk, SEGMENT, at, 16));
    }
    free(segment);
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, DOCS);
}

/* Every byte of a file that the store can't do without. */
static void check_every_byte(struct fixture *fixture, const char *path, const char *word, uint64_t from,
                             uint64_t bytes) {
    for (uint64_t at = from; at < bytes; at++) {
        uint8_t bits = (uint8_t)(1u << at % 8);
        bool version = at >= 8 && at < 12; /* a larger number there is a newer format */
        check_refused(fixture, path, at, version ? 0x40 : bits,
                      version ? DOCDB_ERR_NEWER_FORMAT : DOCDB_ERR_CORRUPT, version ? "" : word);
    }
}

static uint64_t file_bytes(struct fixture *fixture, const char *path) {
    struct os_stat stat = {0};
    assert_int_equal(os_stat(sim_disk_os(fixture->disk), path, &stat), 0);
    return stat.bytes;
}

static void a_damaged_manifest_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    put(fixture, 0, DOC_BYTES);
    stop(fixture);
    check_every_byte(fixture, MANIFEST, "MANIFEST", 0, file_bytes(fixture, MANIFEST));
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, 1);
}

/* Where the tables of an index file end: behind it the last block is filled with zeros. */
static uint64_t index_file_end(struct fixture *fixture, const char *path) {
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    uint8_t header[80];
    int file = os_open(os, path, OS_READ);
    assert_int_equal(os_pread(os, file, header, sizeof header, 0), sizeof header);
    assert_int_equal(os_close(os, file), 0);
    return get_u64(header + 48) + get_u32(header + 56) * UINT64_C(8) + get_u32(header + 60) * UINT64_C(16);
}

static void a_damaged_index_file_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    char path[256];
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop(fixture);
    assert_true(sim_disk_find(fixture->disk, "/data/db/00000001", ".idx", 0, path, sizeof path));
    /* The header, and what is behind the zeros that fill its block. */
    check_every_byte(fixture, path, "docs", 0, 80);
    check_every_byte(fixture, path, "docs", 4096, index_file_end(fixture, path));
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, DOCS);
}

static void a_damaged_wal_file_header_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    put(fixture, 0, DOC_BYTES);
    stop_without_checkpoint(fixture);
    check_every_byte(fixture, WAL_FILE(1), ".wal", 0, 56);
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, 1);
}

static void a_damaged_segment_header_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    put(fixture, 0, DOC_BYTES);
    stop(fixture);
    for (uint64_t at = 0; at < 64; at++) {
        bool version = at >= 8 && at < 12;
        check_refused(fixture, SEGMENT, at, 0x40, version ? DOCDB_ERR_NEWER_FORMAT : DOCDB_ERR_CORRUPT, "docs");
    }
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, 1);
}

/* Moves a file away, expects the refusal, and moves it back. */
static void check_missing(struct fixture *fixture, const char *path, int expected, const char *word) {
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    assert_int_equal(os_rename(os, path, "/away"), 0);
    int status = start(fixture);
    if (status != expected || strstr(fixture->error.message, word) == NULL) {
        fail_msg("without %s open says %s \"%s\", expected %s and \"%s\"", path, docdb_error_name(status),
                 fixture->error.message, docdb_error_name(expected), word);
    }
    assert_int_equal(os_rename(os, "/away", path), 0);
}

static void a_missing_wal_file_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    /* No checkpoint can finish, so the log keeps all its files. */
    sim_disk_fault(fixture->disk,
                   &(struct sim_fault){.kinds = SIM_OPEN, .path = ".idx", .count = UINT64_MAX, .error = EIO});
    for (unsigned i = 0; i < 140; i++) {
        put(fixture, 100 + i, 100u << 10); /* not so large that it goes to a segment */
    }
    put(fixture, 0, DOC_BYTES);
    stop_without_checkpoint(fixture);
    char path[256];
    for (size_t i = 0; i < 3; i++) { /* the loss of the last one can't be noticed */
        assert_true(sim_disk_find(fixture->disk, "/data/wal", ".wal", i, path, sizeof path));
        check_missing(fixture, path, DOCDB_ERR_CORRUPT, "missing");
    }
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, 1);
}

static void a_missing_file_of_the_checkpoint_refuses_to_open(void **state) {
    struct fixture *fixture = *state;
    char path[256];
    put(fixture, 0, DOC_BYTES);
    stop(fixture);
    assert_true(sim_disk_find(fixture->disk, "/data/db/00000001", ".idx", 0, path, sizeof path));
    check_missing(fixture, path, DOCDB_ERR_CORRUPT, "docs");
    check_missing(fixture, SEGMENT, DOCDB_ERR_CORRUPT, "docs");
    check_missing(fixture, MANIFEST, DOCDB_ERR_CORRUPT, "MANIFEST");
    check_missing(fixture, WAL_FILE(1), DOCDB_ERR_CORRUPT, "missing");
    assert_int_equal(start(fixture), DOCDB_OK);
    check_all(fixture, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_damaged_wal_record_before_others_refuses_to_open),
        TEST(a_damaged_last_wal_record_is_a_torn_tail),
        TEST(a_damaged_document_is_corrupt_alone),
        TEST(a_damaged_manifest_refuses_to_open),
        TEST(a_damaged_index_file_refuses_to_open),
        TEST(a_damaged_wal_file_header_refuses_to_open),
        TEST(a_damaged_segment_header_refuses_to_open),
        TEST(a_missing_wal_file_refuses_to_open),
        TEST(a_missing_file_of_the_checkpoint_refuses_to_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
