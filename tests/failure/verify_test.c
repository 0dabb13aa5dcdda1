/*
 * A verification finds nothing in a sound store, and of a damaged one says what is damaged: file, offset, database
 * and document; once, and nothing else. What it does not find changes nothing that is read.
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
#define DOCS        10
#define DOC_BYTES   1500u
#define LARGE_BYTES (300u << 10)
#define LARGE       50 /* the number of the large document */
#define DAMAGES_MAX 64
#define WAL_FILE(n) "/data/wal/000000000000000" #n ".wal"
#define SEGMENT     "/data/db/00000001/00000001.seg"
#define DATABASE    "/data/db/00000001"
#define MANIFEST    "/data/MANIFEST"

struct fixture {
    struct sim_disk *disk;
    struct test_log log;
    docdb *runtime;
    docdb_db *db;
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

static void stop(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    fixture->runtime = NULL;
}

static void stop_without_checkpoint(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    test_store_crash(fixture->disk, fixture->runtime, 1);
    fixture->runtime = NULL;
}

/* ---- What a verification says ---- */

struct damage {
    char file[256];
    uint64_t offset;
    char database[DOCDB_NAME_BYTES_MAX + 1];
    char id[DOCDB_ID_BYTES_MAX + 1];
    char what[256];
};

struct report {
    struct damage damages[DAMAGES_MAX];
    size_t count;
    uint64_t documents;
    uint64_t total_bytes;
};

static void report_take(struct report *report, const docdb_verify_event *event) {
    struct damage *damage = &report->damages[report->count % DAMAGES_MAX];
    report->documents = event->documents;
    report->total_bytes = event->total_bytes;
    assert_true(event->done_bytes <= event->total_bytes);
    if (event->kind == DOCDB_VERIFY_DAMAGE) {
        report->count++;
        damage->offset = event->offset;
        (void)snprintf(damage->file, sizeof damage->file, "%s", event->file);
        (void)snprintf(damage->database, sizeof damage->database, "%s", event->database);
        (void)snprintf(damage->id, sizeof damage->id, "%s", event->id);
        (void)snprintf(damage->what, sizeof damage->what, "%s", event->what);
    }
    assert_int_equal(event->damages, report->count);
}

/* Reads all events, and closes the verification. */
static void report_read(struct report *report, docdb_verify *verify) {
    docdb_verify_event event = {0};
    uint64_t done_bytes = 0;
    int status = docdb_verify_next(verify, &event);
    *report = (struct report){.count = 0};
    for (; status == DOCDB_OK; status = docdb_verify_next(verify, &event)) {
        assert_true(event.done_bytes >= done_bytes);
        done_bytes = event.done_bytes;
        report_take(report, &event);
    }
    assert_int_equal(status, DOCDB_ERR_END);
    assert_int_equal(docdb_verify_next(verify, &event), DOCDB_ERR_END);
    assert_int_equal(done_bytes, report->total_bytes);
    docdb_verify_close(verify);
}

static void report_print(const struct report *report) {
    for (size_t i = 0; i < report->count && i < DAMAGES_MAX; i++) {
        const struct damage *damage = &report->damages[i];
        print_message("  %s offset %" PRIu64 " \"%s\" \"%s\": %s\n", damage->file, damage->offset, damage->database,
                      damage->id, damage->what);
    }
}

static void verify_offline(struct sim_disk *disk, struct report *report) {
    docdb_options options = {.os = sim_disk_os(disk)};
    docdb_error error = {0};
    docdb_verify *verify = NULL;
    if (docdb_verify_directory("/data", &options, &verify, &error) != DOCDB_OK) {
        fail_msg("docdb_verify_directory: %s", error.message);
    }
    report_read(report, verify);
    assert_int_equal(sim_disk_open_files(disk), 0);
}

static void verify_online(docdb *runtime, struct report *report) {
    docdb_verify *verify = NULL;
    assert_int_equal(docdb_verify_open(runtime, &verify), DOCDB_OK);
    report_read(report, verify);
}

static void check_sound(const struct report *report, const char *when) {
    if (report->count != 0) {
        report_print(report);
        fail_msg("%s: %zu damages in a sound store", when, report->count);
    }
}

/* There must be this damage, and no other. */
static void check_one(const struct report *report, const char *file, uint64_t offset, const char *database,
                      const char *id, const char *when) {
    const struct damage *damage = &report->damages[0];
    if (report->count != 1 || strcmp(damage->file, file) != 0 || damage->offset != offset ||
        strcmp(damage->database, database) != 0 || strcmp(damage->id, id) != 0) {
        report_print(report);
        fail_msg("%s: %zu damages instead of one, of %s at offset %" PRIu64 ", \"%s\" \"%s\"", when, report->count,
                 file, offset, database, id);
    }
}

/* Damages one byte; there must be one damage then, and none when that is undone. */
static void check_flip(struct fixture *fixture, const char *path, uint64_t at, uint8_t bits, uint64_t offset,
                       const char *database, const char *id) {
    struct report report;
    char when[300];
    (void)snprintf(when, sizeof when, "%s with byte %" PRIu64 " damaged by %02x", path, at, bits);
    assert_true(sim_disk_flip(fixture->disk, path, at, bits));
    verify_offline(fixture->disk, &report);
    check_one(&report, path, offset, database, id, when);
    assert_true(sim_disk_flip(fixture->disk, path, at, bits));
}

/* ---- Looking into files ---- */

static uint64_t file_bytes(struct fixture *fixture, const char *path) {
    struct os_stat stat = {0};
    assert_int_equal(os_stat(sim_disk_os(fixture->disk), path, &stat), 0);
    return stat.bytes;
}

static void file_read(struct fixture *fixture, const char *path, uint8_t *out, size_t bytes, uint64_t offset) {
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    int file = os_open(os, path, OS_READ);
    assert_int_equal(os_pread(os, file, out, bytes, offset), bytes);
    assert_int_equal(os_close(os, file), 0);
}

/* Where a document's bytes are in the segment. */
static uint64_t document_find(struct fixture *fixture, unsigned number) {
    uint64_t bytes = file_bytes(fixture, SEGMENT);
    uint8_t *segment = malloc(bytes);
    uint8_t data[DOC_BYTES];
    file_read(fixture, SEGMENT, segment, bytes, 0);
    model_fill(number, data, sizeof data);
    const uint8_t *found = memmem(segment, bytes, data, sizeof data);
    assert_non_null(found);
    uint64_t at = (uint64_t)(found - segment);
    free(segment);
    return at;
}

static void run_path(struct fixture *fixture, size_t nth, char *out, size_t bytes) {
    assert_true(sim_disk_find(fixture->disk, DATABASE, ".idx", nth, out, bytes));
}

/* ---- Sound stores ---- */

/* The power may go meanwhile: then what it says does not count. */
static void verify_online_unless_off(struct sim_disk *disk, docdb *runtime) {
    struct report report;
    verify_online(runtime, &report);
    if (!sim_disk_is_off(disk)) {
        check_sound(&report, "online");
    }
}

/* One life of a store, which ends by a crash, in the middle of anything when the seed is odd; the files are
 * verified in it and after it. */
static void live_and_crash(struct sim_disk *disk, struct test_log *log, struct workload *workload, uint64_t seed) {
    struct report report;
    docdb *runtime = NULL;
    char why[512];
    assert_int_equal(test_store_open(disk, log, &runtime, NULL), DOCDB_OK);
    if (!workload_settle(workload, runtime, why, sizeof why)) {
        fail_msg("%s", why);
    }
    if (seed % 2 == 1) {
        sim_disk_power_off_at(disk, sim_disk_operations(disk) + 1 + sim_random(&seed) % 400, seed % 4 == 1);
    }
    int status = DOCDB_OK;
    for (unsigned i = 1; i <= 120 && status == DOCDB_OK; i++) {
        status = workload_step(workload, runtime);
        if (status != DOCDB_OK && !sim_disk_is_off(disk)) {
            fail_msg("%s", workload->last);
        }
        if (i % 40 == 0) {
            verify_online_unless_off(disk, runtime);
        }
    }
    test_store_crash(disk, runtime, seed);
    verify_offline(disk, &report);
    check_sound(&report, "after a crash");
}

static void a_sound_store_is_sound(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned round = 0; round < test_rounds(6, 200); round++) {
        struct sim_disk *disk = sim_disk_create();
        struct test_log log = {.next = 0};
        struct workload workload;
        struct report report;
        docdb *runtime = NULL;
        workload_init(&workload, seed + round);
        workload.large_bytes = LARGE_BYTES;
        workload.large_one_in = 10;
        workload.checkpoint_one_in = 15;
        for (unsigned life = 0; life < 4; life++) {
            live_and_crash(disk, &log, &workload, seed + round + life);
        }
        assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
        verify_offline(disk, &report);
        check_sound(&report, "after closing");
        sim_disk_destroy(disk);
    }
}

static uint64_t compactions(docdb *runtime) {
    docdb_stats stats;
    assert_int_equal(docdb_get_stats(runtime, &stats), DOCDB_OK);
    return stats.compactions;
}

static void a_store_that_is_compacted_is_sound(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    uint64_t random = test_seed();
    for (unsigned i = 0; i < 8; i++) {
        put(fixture, i, LARGE_BYTES);
    }
    for (unsigned i = 8; i < 300; i++) {
        put(fixture, i, 3000);
    }
    /* Until some segments were emptied; a verification now and then looks on. */
    for (unsigned turn = 0; compactions(fixture->runtime) < 5; turn++) {
        assert_true(turn < 20000);
        put(fixture, 8 + (unsigned)(sim_random(&random) % 292), 3000 + turn % 100);
        if (turn % 50 == 0) {
            verify_online(fixture->runtime, &report);
            check_sound(&report, "while it is compacted");
            assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
        }
    }
    verify_online(fixture->runtime, &report);
    check_sound(&report, "online, after compaction");
    stop_without_checkpoint(fixture);
    verify_offline(fixture->disk, &report);
    check_sound(&report, "offline, after compaction and a crash");
}

static void documents_are_counted_and_a_store_in_use_is_locked(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    docdb_options options = {.os = sim_disk_os(fixture->disk)};
    docdb_error error = {0};
    docdb_verify *verify = NULL;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    assert_int_equal(docdb_delete(fixture->db, "doc00", NULL), DOCDB_OK);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    assert_int_equal(docdb_verify_directory("/data", &options, &verify, &error), DOCDB_ERR_LOCKED);
    verify_online(fixture->runtime, &report);
    check_sound(&report, "online");
    assert_int_equal(report.documents, DOCS - 1);
    assert_int_equal(docdb_verify_directory("/none", &options, &verify, &error), DOCDB_ERR_NO_DIRECTORY);
    assert_int_equal(docdb_verify_open(NULL, &verify), DOCDB_ERR_INVALID);
    assert_int_equal(docdb_verify_directory(NULL, NULL, &verify, NULL), DOCDB_ERR_INVALID);
    stop(fixture);
    verify_offline(fixture->disk, &report);
    check_sound(&report, "offline");
    assert_int_equal(report.documents, DOCS - 1);
    docdb_verify_close(NULL);
}

static void files_stay_while_an_online_verification_is_open(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    docdb_verify *verify = NULL;
    docdb_verify *unread = NULL;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, LARGE_BYTES);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    assert_int_equal(docdb_verify_open(fixture->runtime, &verify), DOCDB_OK);
    assert_int_equal(docdb_verify_open(fixture->runtime, &unread), DOCDB_OK);
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    assert_int_equal(docdb_db_drop(fixture->runtime, "docs", 0), DOCDB_OK);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    report_read(&report, verify);
    check_sound(&report, "while its database was dropped");
    assert_int_equal(report.documents, DOCS);
    docdb_verify_close(unread); /* not read to its end: its thread waits, and is told */
    char path[256];
    assert_false(sim_disk_find(fixture->disk, DATABASE, ".seg", 0, path, sizeof path));
}

/* ---- One flipped bit ---- */

static void a_damaged_document_is_named(void **state) {
    struct fixture *fixture = *state;
    char id[16];
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop(fixture);
    /* Header: magic, id_bytes, version, times, length, checksums, data_offset. Id. First and last of the bytes. */
    static const unsigned offsets[] = {0, 3, 4, 8, 17, 30, 32, 39, 40, 48, 56, 63, 64, 68, 69, 69 + DOC_BYTES - 1};
    for (unsigned i = 0; i < DOCS; i++) {
        uint64_t record = document_find(fixture, i) - 64 - 5;
        (void)snprintf(id, sizeof id, "doc%02u", i);
        for (size_t j = 0; j < sizeof offsets / sizeof offsets[0]; j++) {
            check_flip(fixture, SEGMENT, record + offsets[j], (uint8_t)(1u << (i + j) % 8), record, "docs", id);
        }
    }
}

static void a_damaged_large_document_is_named(void **state) {
    struct fixture *fixture = *state;
    static const unsigned offsets[] = {0, 4, 8, 32, 40, 56, 64, 68, BLOCK, BLOCK + 200000, BLOCK + LARGE_BYTES - 1};
    struct report report;
    put(fixture, 0, DOC_BYTES);
    put(fixture, LARGE, LARGE_BYTES);
    put(fixture, 1, DOC_BYTES);
    for (int in_wal = 0; in_wal < 2; in_wal++) {
        if (in_wal == 0) { /* only the log says where it is */
            stop_without_checkpoint(fixture);
        } else {
            assert_int_equal(test_store_open(fixture->disk, &fixture->log, &fixture->runtime, NULL), DOCDB_OK);
            stop(fixture);
        }
        uint64_t record = document_find(fixture, LARGE) - BLOCK;
        for (size_t j = 0; j < sizeof offsets / sizeof offsets[0]; j++) {
            check_flip(fixture, SEGMENT, record + offsets[j], (uint8_t)(1u << j % 8), record, "docs", "doc50");
        }
        check_flip(fixture, SEGMENT, 13, 1, 0, "docs", ""); /* the segment's header */
        /* What is between id and document is never read. */
        assert_true(sim_disk_flip(fixture->disk, SEGMENT, record + 300, 1));
        verify_offline(fixture->disk, &report);
        check_sound(&report, "with damaged padding");
        assert_true(sim_disk_flip(fixture->disk, SEGMENT, record + 300, 1));
    }
}

static void damage_in_what_is_not_in_use_is_said_to_be(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    assert_int_equal(docdb_delete(fixture->db, "doc03", NULL), DOCDB_OK);
    stop(fixture);
    uint64_t record = document_find(fixture, 3) - 64 - 5;
    check_flip(fixture, SEGMENT, record + 300, 1, record, "docs", "doc03");
    check_flip(fixture, SEGMENT, record + 8, 1, record, "docs", ""); /* whose it is can't be told */
    assert_true(sim_disk_flip(fixture->disk, SEGMENT, record + 300, 1));
    verify_offline(fixture->disk, &report);
    assert_non_null(strstr(report.damages[0].what, "not in use"));
}

static void a_damaged_manifest_is_named(void **state) {
    struct fixture *fixture = *state;
    put(fixture, 0, DOC_BYTES);
    stop(fixture);
    for (uint64_t at = 0; at < file_bytes(fixture, MANIFEST); at++) {
        check_flip(fixture, MANIFEST, at, (uint8_t)(1u << at % 8), 0, "", "");
    }
}

static void a_damaged_segment_header_is_named(void **state) {
    struct fixture *fixture = *state;
    put(fixture, 0, DOC_BYTES);
    stop(fixture);
    for (uint64_t at = 0; at < 64; at++) {
        check_flip(fixture, SEGMENT, at, 0x40, 0, "docs", "");
    }
}

/* A base of 40 documents and a small delta. */
static void two_runs_make(struct fixture *fixture) {
    for (unsigned i = 0; i < 40; i++) {
        put(fixture, i, 100);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    put(fixture, 5, 200);
    assert_int_equal(docdb_delete(fixture->db, "doc06", NULL), DOCDB_OK);
    stop(fixture);
}

static void a_damaged_index_run_is_named(void **state) {
    struct fixture *fixture = *state;
    char path[256];
    uint8_t header[80];
    two_runs_make(fixture);
    for (size_t run = 0; run < 2; run++) {
        run_path(fixture, run, path, sizeof path);
        file_read(fixture, path, header, sizeof header, 0);
        uint64_t pages_end = get_u64(header + 48);
        uint64_t end = pages_end + get_u32(header + 56) * UINT64_C(8) + get_u32(header + 60) * UINT64_C(16);
        for (uint64_t at = 0; at < 80; at++) {
            bool version = at >= 8 && at < 12;
            check_flip(fixture, path, at, version ? 0x40 : (uint8_t)(1u << at % 8), version ? 8 : 0, "docs", "");
        }
        for (uint64_t at = BLOCK; at < pages_end; at += at < BLOCK + 100 ? 1 : 37) {
            check_flip(fixture, path, at, (uint8_t)(1u << at % 8), BLOCK, "docs", "");
        }
        for (uint64_t at = pages_end; at < end; at++) {
            check_flip(fixture, path, at, (uint8_t)(1u << at % 8), pages_end, "docs", "");
        }
    }
}

static void a_damaged_wal_record_is_named(void **state) {
    struct fixture *fixture = *state;
    static const unsigned offsets[] = {0, 3, 8, 17, 40, 50, 60, 81, 88, 92, 128, 140, 700};
    struct report report;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop_without_checkpoint(fixture);
    verify_offline(fixture->disk, &report);
    assert_int_equal(report.documents, DOCS);
    for (unsigned i = 0; i + 1 < DOCS; i++) { /* the record of document i is in block 2 + i of the file */
        for (size_t j = 0; j < sizeof offsets / sizeof offsets[0]; j++) {
            check_flip(fixture, WAL_FILE(1), (2 + i) * BLOCK + offsets[j], (uint8_t)(1u << (i + j) % 8),
                       (2 + i) * BLOCK, "", "");
        }
    }
    for (uint64_t at = 0; at < 56; at++) {
        check_flip(fixture, WAL_FILE(1), at, at >= 8 && at < 12 ? 0x40 : 1, 0, "", "");
    }
    assert_true(sim_disk_flip(fixture->disk, WAL_FILE(1), (1 + DOCS) * BLOCK + 400, 4));
    verify_offline(fixture->disk, &report);
    check_sound(&report, "with a torn tail");
}

static void damage_is_found_online(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    uint64_t record = document_find(fixture, 7) - 64 - 5;
    assert_true(sim_disk_flip(fixture->disk, SEGMENT, record + 100, 1));
    put(fixture, 7, 100); /* the checkpoint still has the old one */
    verify_online(fixture->runtime, &report);
    check_one(&report, SEGMENT, record, "docs", "doc07", "online");
}

/* A disk that can't read is told like damage, and the rest is checked. */
static void what_cannot_be_read_is_named(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop(fixture);
    static const char *const parts[] = {".seg", ".idx", "MANIFEST", ".wal"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        for (uint64_t skip = 0; skip < 3; skip++) {
            sim_disk_fault(
                fixture->disk,
                &(struct sim_fault){
                    .kinds = SIM_READ, .path = parts[i], .skip = skip, .count = UINT64_MAX, .error = EIO});
            verify_offline(fixture->disk, &report);
            bool hit = sim_disk_faults_hit(fixture->disk) > 0;
            if (hit != (report.count > 0) || (hit && strstr(report.damages[0].file, "/data") == NULL)) {
                report_print(&report);
                fail_msg("%s, %" PRIu64 " reads go well: %zu damages", parts[i], skip, report.count);
            }
            sim_disk_fault(fixture->disk, NULL);
        }
    }
    verify_offline(fixture->disk, &report);
    check_sound(&report, "when the disk can read again");
}

/* ---- Files that are missing or short ---- */

static void shorten(struct fixture *fixture, const char *path, uint64_t bytes) {
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    int file = os_open(os, path, OS_READ | OS_WRITE);
    assert_int_equal(os_truncate(os, file, bytes), 0);
    assert_int_equal(os_close(os, file), 0);
}

static void a_missing_file_is_named(void **state) {
    struct fixture *fixture = *state;
    const struct docdb_os *os = sim_disk_os(fixture->disk);
    struct report report;
    char path[256];
    two_runs_make(fixture);
    for (size_t run = 0; run < 2; run++) {
        run_path(fixture, run, path, sizeof path);
        assert_int_equal(os_rename(os, path, "/away"), 0);
        verify_offline(fixture->disk, &report);
        check_one(&report, path, 0, "docs", "", "without a run");
        assert_int_equal(os_rename(os, "/away", path), 0);
    }
    assert_int_equal(os_rename(os, MANIFEST, "/away"), 0);
    verify_offline(fixture->disk, &report);
    check_one(&report, MANIFEST, 0, "", "", "without a manifest");
    assert_int_equal(os_rename(os, "/away", MANIFEST), 0);
    assert_int_equal(os_rename(os, WAL_FILE(1), "/away"), 0);
    verify_offline(fixture->disk, &report);
    check_one(&report, "/data/wal", 0, "", "", "without a log");
    assert_int_equal(os_rename(os, "/away", WAL_FILE(1)), 0);
    assert_int_equal(os_rename(os, SEGMENT, "/away"), 0);
    verify_offline(fixture->disk, &report);
    assert_int_equal(report.count, 1 + 39); /* the file, and each document in it */
    assert_string_equal(report.damages[0].file, SEGMENT);
    assert_string_equal(report.damages[0].id, "");
    assert_string_equal(report.damages[1].id, "doc00");
}

static void a_short_file_is_named(void **state) {
    struct fixture *fixture = *state;
    struct report report;
    char path[256];
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i, DOC_BYTES);
    }
    stop(fixture);
    uint64_t record = document_find(fixture, DOCS - 1) - 64 - 5;
    shorten(fixture, SEGMENT, record + 500);
    verify_offline(fixture->disk, &report);
    assert_int_equal(report.count, 2); /* the file, and the document at its end */
    assert_string_equal(report.damages[0].file, SEGMENT);
    assert_int_equal(report.damages[0].offset, record + 500);
    assert_string_equal(report.damages[1].id, "doc09");
    assert_int_equal(report.damages[1].offset, record);
    run_path(fixture, 0, path, sizeof path);
    shorten(fixture, path, BLOCK + 10);
    verify_offline(fixture->disk, &report);
    check_one(&report, path, BLOCK + 10, "docs", "", "with a short run");
}

/* ---- Any flip ---- */

#define FILES_MAX 64

/* The files that matter, and the log only when nothing in it does: its end may be torn, which is no damage. */
static size_t files_find(struct sim_disk *disk, bool with_log, char paths[FILES_MAX][256]) {
    static const char *const suffixes[] = {".seg", ".idx"};
    size_t count = with_log && sim_disk_find(disk, "/data/wal", ".wal", 0, paths[1], 256) ? 2 : 1;
    (void)snprintf(paths[0], 256, MANIFEST);
    for (unsigned id = 1; id < 64; id++) {
        char directory[64];
        (void)snprintf(directory, sizeof directory, "/data/db/%08x", id);
        for (size_t i = 0; i < 2; i++) {
            for (size_t nth = 0; count < FILES_MAX; nth++) {
                if (!sim_disk_find(disk, directory, suffixes[i], nth, paths[count], 256)) {
                    break;
                }
                count++;
            }
        }
    }
    return count;
}

static void flip_any(uint64_t seed, unsigned *found) {
    struct sim_disk *disk = sim_disk_create();
    struct test_log log = {.next = 0};
    struct workload workload;
    static char paths[FILES_MAX][256];
    struct report report;
    struct os_stat stat = {0};
    docdb *runtime = NULL;
    uint64_t random = seed;
    char why[512];
    workload_init(&workload, seed);
    workload.large_bytes = LARGE_BYTES;
    workload.large_one_in = 12;
    workload.checkpoint_one_in = 20;
    assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
    for (unsigned i = 0; i < 80; i++) {
        assert_int_equal(workload_step(&workload, runtime), DOCDB_OK);
    }
    if (seed % 2 == 0) {
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
    } else {
        test_store_crash(disk, runtime, seed);
    }
    const char *path = paths[sim_random(&random) % files_find(disk, seed % 2 == 0, paths)];
    assert_int_equal(os_stat(sim_disk_os(disk), path, &stat), 0);
    uint64_t at = sim_random(&random) % (sim_random(&random) % 4 == 0 && stat.bytes > 4500 ? 4500 : stat.bytes);
    assert_true(sim_disk_flip(disk, path, at, (uint8_t)(1u << sim_random(&random) % 8)));
    verify_offline(disk, &report);
    *found += report.count != 0;
    if (report.count == 0) {
        int status = test_store_open(disk, &log, &runtime, NULL);
        if (status != DOCDB_OK || !model_matches(runtime, &workload.model, why, sizeof why)) {
            fail_msg("SEED=%" PRIu64 ": %s with byte %" PRIu64 " damaged is sound, but: %s", seed, path, at,
                     status != DOCDB_OK ? docdb_error_name(status) : why);
        }
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
    }
    sim_disk_destroy(disk);
}

static void every_flip_that_changes_what_is_read_is_found(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    unsigned rounds = test_rounds(60, 5000);
    unsigned found = 0;
    for (unsigned round = 0; round < rounds; round++) {
        flip_any(seed + round, &found);
    }
    print_message("%u of %u flips were damage\n", found, rounds);
    assert_true(found > rounds / 10);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_store_is_sound),
        TEST(a_store_that_is_compacted_is_sound),
        TEST(documents_are_counted_and_a_store_in_use_is_locked),
        TEST(files_stay_while_an_online_verification_is_open),
        TEST(a_damaged_document_is_named),
        TEST(a_damaged_large_document_is_named),
        TEST(damage_in_what_is_not_in_use_is_said_to_be),
        TEST(a_damaged_manifest_is_named),
        TEST(a_damaged_segment_header_is_named),
        TEST(a_damaged_index_run_is_named),
        TEST(a_damaged_wal_record_is_named),
        TEST(damage_is_found_online),
        TEST(what_cannot_be_read_is_named),
        TEST(a_missing_file_is_named),
        TEST(a_short_file_is_named),
        cmocka_unit_test(every_flip_that_changes_what_is_read_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
