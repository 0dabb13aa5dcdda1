/*
 * The disk is full: writes are refused with NO_SPACE and leave nothing behind, reads work, the store opens, and
 * writes go on as soon as there is room, without reopening.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

struct fixture {
    struct sim_disk *disk;
    struct workload workload;
    struct test_log log;
    docdb *runtime;
    uint64_t seed;
    char why[512];
};

static void check(struct fixture *fixture, bool good, const char *what) {
    if (!good) {
        test_log_print(&fixture->log);
        fail_msg("%s: %s; SEED=%" PRIu64, what, fixture->why, fixture->seed);
    }
}

static void check_model(struct fixture *fixture, const char *when) {
    docdb_stats stats;
    check(fixture, model_matches(fixture->runtime, &fixture->workload.model, fixture->why, sizeof fixture->why),
          when);
    assert_int_equal(docdb_get_stats(fixture->runtime, &stats), DOCDB_OK);
    assert_int_equal(stats.read_only, 0);
}

static void open_store(struct fixture *fixture, const char *when) {
    docdb_error error = {0};
    int status = test_store_open(fixture->disk, &fixture->log, &fixture->runtime, &error);
    (void)snprintf(fixture->why, sizeof fixture->why, "%s", error.message);
    check(fixture, status == DOCDB_OK, when);
}

/* Works until `refusals` steps were refused; each is OK or NO_SPACE. */
static void work_full(struct fixture *fixture, unsigned refusals) {
    for (unsigned steps = 0; refusals > 0 && steps < 2000; steps++) {
        int status = workload_step(&fixture->workload, fixture->runtime);
        (void)snprintf(fixture->why, sizeof fixture->why, "%s says %s", fixture->workload.last,
                       docdb_error_name(status));
        check(fixture, status == DOCDB_OK || status == DOCDB_ERR_NO_SPACE, "on a full disk");
        refusals -= status != DOCDB_OK;
    }
    check(fixture, refusals == 0, "the disk did not become full");
}

static void fill(struct fixture *fixture, uint64_t seed, uint64_t spare) {
    memset(fixture, 0, sizeof *fixture);
    fixture->seed = seed;
    fixture->disk = sim_disk_create();
    workload_init(&fixture->workload, seed);
    fixture->workload.large_one_in = 3;
    fixture->workload.large_bytes = 900u << 10;
    open_store(fixture, "a new store");
    for (int i = 0; i < 10; i++) {
        assert_int_equal(workload_step(&fixture->workload, fixture->runtime), DOCDB_OK);
    }
    sim_disk_set_capacity(fixture->disk, sim_disk_used(fixture->disk) + spare);
    work_full(fixture, 10);
    check_model(fixture, "full");
}

static void finish(struct fixture *fixture) {
    int status = docdb_close(fixture->runtime);
    check(fixture, status == DOCDB_OK, "the last close");
    sim_disk_destroy(fixture->disk);
}

static void writes_go_on_when_there_is_room_again(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(20, 300); i++) {
        struct fixture fixture;
        uint64_t random = seed + i;
        fill(&fixture, seed + i, sim_random(&random) % (8u << 20));
        sim_disk_set_capacity(fixture.disk, 0);
        for (int step = 0; step < 30; step++) {
            int status = workload_step(&fixture.workload, fixture.runtime);
            (void)snprintf(fixture.why, sizeof fixture.why, "%s says %s", fixture.workload.last,
                           docdb_error_name(status));
            check(&fixture, status == DOCDB_OK, "after room was made");
        }
        check_model(&fixture, "after room was made");
        finish(&fixture);
    }
}

static void a_full_disk_opens_and_reads(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(20, 300); i++) {
        struct fixture fixture;
        uint64_t random = seed + i;
        fill(&fixture, seed + i, sim_random(&random) % (8u << 20));
        for (int again = 0; again < 3; again++) {
            if (again == 0) {
                int status = docdb_close(fixture.runtime);
                check(&fixture, status == DOCDB_OK || status == DOCDB_ERR_NO_SPACE, "closing on a full disk");
            } else {
                test_store_crash(fixture.disk, fixture.runtime, seed + i + (uint64_t)again);
            }
            sim_disk_set_capacity(fixture.disk, sim_disk_used(fixture.disk));
            open_store(&fixture, "opening on a full disk");
            check_model(&fixture, "after opening on a full disk");
        }
        sim_disk_set_capacity(fixture.disk, 0);
        check(&fixture, workload_step(&fixture.workload, fixture.runtime) == DOCDB_OK, "after room was made");
        check_model(&fixture, "after room was made");
        finish(&fixture);
    }
}

/* What was refused for want of room is not there after a crash, whatever was acknowledged since. */
static void a_refused_write_never_comes_back(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(20, 300); i++) {
        struct fixture fixture;
        uint64_t random = seed + i;
        fill(&fixture, seed + i, sim_random(&random) % (8u << 20));
        sim_disk_set_capacity(fixture.disk, 0);
        for (unsigned step = 0; step < i % 5; step++) {
            check(&fixture, workload_step(&fixture.workload, fixture.runtime) == DOCDB_OK, "after room was made");
        }
        test_store_crash(fixture.disk, fixture.runtime, seed + i);
        open_store(&fixture, "after a crash");
        check_model(&fixture, "after a crash");
        finish(&fixture);
    }
}

/* Fills the disk with documents; returns how many there are. */
static unsigned documents_fill(docdb_db *db, size_t bytes) {
    uint8_t *data = calloc(1, bytes);
    unsigned count = 0;
    int status = DOCDB_OK;
    while (status == DOCDB_OK) {
        char id[16];
        (void)snprintf(id, sizeof id, "%06u", count);
        status = docdb_put(db, id, data, bytes, NULL);
        count += status == DOCDB_OK ? 1 : 0;
    }
    free(data);
    assert_int_equal(status, DOCDB_ERR_NO_SPACE);
    return count;
}

/* No restart, no help from outside: deleting on a full disk works, and after a while there is room again. */
static void deletes_work_on_a_full_disk_and_make_room(void **state) {
    (void)state;
    for (size_t bytes = 1000; bytes <= 300000; bytes *= 300) {
        struct fixture fixture = {.disk = sim_disk_create()};
        docdb_db *db = NULL;
        docdb_info info;
        sim_disk_set_capacity(fixture.disk, 64u << 20);
        open_store(&fixture, "a new store");
        assert_int_equal(docdb_db_open(fixture.runtime, "docs", DOCDB_DB_CREATE, &db), DOCDB_OK);
        unsigned count = documents_fill(db, bytes);
        assert_true((uint64_t)count * bytes > 20u << 20);
        for (unsigned i = 0; i < count; i++) {
            char id[16];
            (void)snprintf(id, sizeof id, "%06u", i);
            if (i % 4 != 0) {
                assert_int_equal(docdb_delete(db, id, NULL), DOCDB_OK);
            }
        }
        int status = DOCDB_ERR_NO_SPACE;
        for (int tries = 0; tries < 30000 && status == DOCDB_ERR_NO_SPACE; tries++) {
            struct timespec pause = {.tv_nsec = 1000000};
            status = docdb_put(db, "new", "x", 1, NULL);
            (void)nanosleep(&pause, NULL);
        }
        assert_int_equal(status, DOCDB_OK);
        for (unsigned i = 0; i < count; i++) {
            char id[16];
            (void)snprintf(id, sizeof id, "%06u", i);
            assert_int_equal(docdb_stat(db, id, &info), i % 4 == 0 ? DOCDB_OK : DOCDB_ERR_NOT_FOUND);
        }
        docdb_db_close(db);
        finish(&fixture);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_go_on_when_there_is_room_again),
        cmocka_unit_test(a_full_disk_opens_and_reads),
        cmocka_unit_test(a_refused_write_never_comes_back),
        cmocka_unit_test(deletes_work_on_a_full_disk_and_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
