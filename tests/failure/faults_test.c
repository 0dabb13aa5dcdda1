/*
 * Faults that are not damage: a disk that can't be read for a while, no descriptors, no permission, a clock that
 * goes back. Each is an error of what needed it, says what it is, and is over when the fault is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

#define DOCS 20

struct fixture {
    struct sim_disk *disk;
    struct test_log log;
    docdb_options options;
    docdb *runtime;
    docdb_db *db;
};

static int start(struct fixture *fixture, docdb_error *error) {
    int status = docdb_open("/data", &fixture->options, &fixture->runtime, error);
    if (status == DOCDB_OK) {
        assert_int_equal(docdb_db_open(fixture->runtime, "docs", DOCDB_DB_CREATE, &fixture->db), DOCDB_OK);
    }
    return status;
}

static void stop(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->disk = sim_disk_create();
    /* Nothing but what is read just now stays in memory. */
    fixture->options = (docdb_options){
        .os = sim_disk_os(fixture->disk), .log = test_log_write, .log_arg = &fixture->log, .memory_bytes = 1};
    *state = fixture;
    return start(fixture, NULL);
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    sim_disk_destroy(fixture->disk);
    free(fixture);
    return 0;
}

static void put(struct fixture *fixture, unsigned number) {
    char id[16];
    uint8_t data[500];
    (void)snprintf(id, sizeof id, "doc%02u", number);
    model_fill(number, data, sizeof data);
    assert_int_equal(docdb_put(fixture->db, id, data, sizeof data, NULL), DOCDB_OK);
}

static int read_status(struct fixture *fixture, unsigned number) {
    docdb_doc *doc = NULL;
    char id[16];
    uint8_t data[500];
    (void)snprintf(id, sizeof id, "doc%02u", number);
    int status = docdb_read(fixture->db, id, &doc);
    if (status == DOCDB_OK) {
        model_fill(number, data, sizeof data);
        assert_int_equal(docdb_doc_bytes(doc), sizeof data);
        assert_memory_equal(docdb_doc_data(doc), data, sizeof data);
        docdb_doc_release(doc);
    }
    return status;
}

/* Documents that are on the disk alone. */
static void fill(struct fixture *fixture) {
    for (unsigned i = 0; i < DOCS; i++) {
        put(fixture, i);
    }
    stop(fixture);
    assert_int_equal(start(fixture, NULL), DOCDB_OK);
}

static bool log_has(const struct fixture *fixture, const char *word) {
    bool found = false;
    for (size_t i = 0; i < TEST_LOG_LINES; i++) {
        found = found || strstr(fixture->log.lines[i], word) != NULL;
    }
    return found;
}

static void check_writable_and_whole(struct fixture *fixture) {
    docdb_stats stats;
    put(fixture, 7);
    for (unsigned i = 0; i < DOCS; i++) {
        assert_int_equal(read_status(fixture, i), DOCDB_OK);
    }
    assert_int_equal(docdb_get_stats(fixture->runtime, &stats), DOCDB_OK);
    assert_int_equal(stats.read_only, 0);
}

static void a_read_that_fails_is_an_error_of_that_read_alone(void **state) {
    struct fixture *fixture = *state;
    fill(fixture);
    sim_disk_fault(fixture->disk,
                   &(struct sim_fault){.kinds = SIM_READ, .path = ".seg", .count = UINT64_MAX, .error = EIO});
    assert_int_equal(read_status(fixture, 3), DOCDB_ERR_IO);
    assert_true(log_has(fixture, "00000001.seg") && log_has(fixture, "doc03"));
    put(fixture, DOCS); /* the log works */
    sim_disk_fault(fixture->disk, NULL);
    check_writable_and_whole(fixture);
    stop(fixture);
}

static void no_descriptors_left_is_an_error_until_there_are_some(void **state) {
    struct fixture *fixture = *state;
    fill(fixture);
    sim_disk_fault(fixture->disk,
                   &(struct sim_fault){.kinds = SIM_OPEN, .path = ".seg", .count = UINT64_MAX, .error = EMFILE});
    assert_int_equal(read_status(fixture, 3), DOCDB_ERR_IO);
    assert_true(log_has(fixture, "Too many open files"));
    put(fixture, DOCS);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_ERR_IO);
    sim_disk_fault(fixture->disk, NULL);
    check_writable_and_whole(fixture);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    stop(fixture);
}

static void files_that_may_not_be_read_refuse_to_open(void **state) {
    struct fixture *fixture = *state;
    static const char *const paths[] = {"MANIFEST", ".idx", ".wal", "LOCK"};
    fill(fixture);
    stop(fixture);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        docdb_error error = {0};
        sim_disk_fault(
            fixture->disk,
            &(struct sim_fault){.kinds = SIM_OPEN, .path = paths[i], .count = UINT64_MAX, .error = EACCES});
        if (start(fixture, &error) != DOCDB_ERR_PERMISSION) {
            fail_msg("without permission for %s: \"%s\"", paths[i], error.message);
        }
        assert_int_equal(sim_disk_open_files(fixture->disk), 0);
        sim_disk_fault(fixture->disk, NULL);
    }
    assert_int_equal(start(fixture, NULL), DOCDB_OK);
    check_writable_and_whole(fixture);
    stop(fixture);
}

/* The simulated disk with a clock of its own. */
static int64_t (*real_time)(void *ctx);
static atomic_int_fast64_t clock_shift_ns;
static int64_t shifted_time(void *ctx) { return real_time(ctx) + atomic_load(&clock_shift_ns); }

static void a_clock_that_goes_back_changes_times_and_nothing_else(void **state) {
    struct fixture *fixture = *state;
    struct docdb_os os = *sim_disk_os(fixture->disk);
    docdb_info before;
    docdb_info after;
    stop(fixture);
    real_time = os.realtime_ns;
    os.realtime_ns = shifted_time;
    fixture->options.os = &os;
    assert_int_equal(start(fixture, NULL), DOCDB_OK);
    fill(fixture);
    assert_int_equal(docdb_stat(fixture->db, "doc07", &before), DOCDB_OK);
    atomic_store(&clock_shift_ns, -INT64_C(86400) * 1000000000);
    put(fixture, 7);
    assert_int_equal(docdb_stat(fixture->db, "doc07", &after), DOCDB_OK);
    assert_true(after.version > before.version);
    assert_true(after.commit_time_ns < before.commit_time_ns);
    stop(fixture);
    assert_int_equal(start(fixture, NULL), DOCDB_OK);
    check_writable_and_whole(fixture);
    stop(fixture);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_read_that_fails_is_an_error_of_that_read_alone),
        TEST(no_descriptors_left_is_an_error_until_there_are_some),
        TEST(files_that_may_not_be_read_refuse_to_open),
        TEST(a_clock_that_goes_back_changes_times_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
