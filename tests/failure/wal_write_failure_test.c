/*
 * A write or sync of the WAL fails: the commit says IO, the store is read-only from then on and says why, reads go
 * on, and the next open holds everything that was acknowledged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

struct fixture {
    struct sim_disk *disk;
    struct workload workload;
    struct test_log log;
    docdb *runtime;
    char why[512];
};

static void check(struct fixture *fixture, bool good, const char *what, uint64_t seed) {
    if (!good) {
        test_log_print(&fixture->log);
        fail_msg("%s: %s; SEED=%" PRIu64, what, fixture->why, seed);
    }
}

/* Every kind of write is refused, reads are not. */
static void check_read_only(struct fixture *fixture, uint64_t seed) {
    docdb_stats stats;
    docdb_db *db = NULL;
    assert_int_equal(docdb_get_stats(fixture->runtime, &stats), DOCDB_OK);
    assert_int_equal(stats.read_only, 1);
    assert_string_not_equal(stats.read_only_reason, "");
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_ERR_READ_ONLY);
    assert_int_equal(docdb_db_open(fixture->runtime, "another", DOCDB_DB_CREATE, &db), DOCDB_ERR_READ_ONLY);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(docdb_db_open(fixture->runtime, "other", 0, &db), DOCDB_OK);
        assert_int_equal(docdb_put(db, "x", "y", 1, NULL), DOCDB_ERR_READ_ONLY);
        docdb_db_close(db);
        assert_int_equal(docdb_db_drop(fixture->runtime, "other", 0), DOCDB_ERR_READ_ONLY);
    }
    docdb_db_info *list = NULL;
    size_t count = 0;
    assert_int_equal(docdb_db_list(fixture->runtime, &list, &count), DOCDB_OK);
    docdb_db_list_free(list);
    (void)seed;
}

/* Works until the fault strikes; only a commit or a catalog change may meet it. */
static void run_into_fault(struct fixture *fixture, const struct sim_fault *fault, uint64_t seed) {
    int status = DOCDB_OK;
    sim_disk_fault(fixture->disk, fault);
    for (int i = 0; i < 200 && status == DOCDB_OK; i++) {
        status = workload_step(&fixture->workload, fixture->runtime);
    }
    (void)snprintf(fixture->why, sizeof fixture->why, "%s says %s", fixture->workload.last,
                   docdb_error_name(status));
    check(fixture, status == DOCDB_ERR_IO && sim_disk_faults_hit(fixture->disk) > 0, "no IO error", seed);
}

static void fail_once(uint64_t seed, bool direct, struct sim_fault fault, bool kill_only) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    docdb_db *db = NULL;
    fixture->disk = sim_disk_create();
    sim_disk_set_direct(fixture->disk, direct);
    workload_init(&fixture->workload, seed);
    assert_int_equal(test_store_open(fixture->disk, &fixture->log, &fixture->runtime, NULL), DOCDB_OK);
    fixture->workload.checkpoint_one_in = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(workload_step(&fixture->workload, fixture->runtime), DOCDB_OK);
    }
    /* A database beside the model's, removed before the comparison. */
    assert_int_equal(docdb_db_open(fixture->runtime, "other", DOCDB_DB_CREATE, &db), DOCDB_OK);
    docdb_db_close(db);
    run_into_fault(fixture, &fault, seed);
    check_read_only(fixture, seed);
    for (size_t i = 0; i < MODEL_DATABASES; i++) {
        if (fixture->workload.model.databases[i].exists) {
            char id[MODEL_ID_BYTES];
            docdb_doc *doc = NULL;
            assert_int_equal(docdb_db_open(fixture->runtime, model_database_name(i), 0, &db), DOCDB_OK);
            for (size_t j = 0; j < MODEL_IDS; j++) {
                bool exists = fixture->workload.model.databases[i].docs[j].exists;
                assert_int_equal(docdb_read(db, model_id(j, id), &doc), exists ? DOCDB_OK : DOCDB_ERR_NOT_FOUND);
                docdb_doc_release(exists ? doc : NULL);
            }
            docdb_db_close(db);
        }
    }
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_ERR_READ_ONLY);
    assert_int_equal(sim_disk_open_files(fixture->disk), 0);
    if (kill_only) {
        sim_disk_kill(fixture->disk);
    } else {
        sim_disk_crash(fixture->disk, seed * 3 + 1);
    }
    docdb_error error = {0};
    int status = test_store_open(fixture->disk, &fixture->log, &fixture->runtime, &error);
    (void)snprintf(fixture->why, sizeof fixture->why, "%s", error.message);
    check(fixture, status == DOCDB_OK, "the store can't be opened", seed);
    assert_int_equal(docdb_db_drop(fixture->runtime, "other", 0), DOCDB_OK);
    check(fixture, workload_settle(&fixture->workload, fixture->runtime, fixture->why, sizeof fixture->why),
          "after reopening", seed);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(workload_step(&fixture->workload, fixture->runtime), DOCDB_OK);
    }
    check(fixture, model_matches(fixture->runtime, &fixture->workload.model, fixture->why, sizeof fixture->why),
          "writes after reopening", seed);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    sim_disk_destroy(fixture->disk);
    free(fixture);
}

static void a_failed_wal_write_makes_the_store_read_only(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(40, 600); i++) {
        fail_once(seed + i, i % 2 == 0,
                  (struct sim_fault){.kinds = SIM_WRITE,
                                     .path = ".wal",
                                     .skip = i % 5,
                                     .count = i % 3 == 0 ? 1 : UINT64_MAX,
                                     .error = EIO,
                                     .partial_write = i % 4 < 2},
                  i % 8 < 4);
    }
}

static void a_failed_wal_sync_makes_the_store_read_only(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(40, 600); i++) {
        fail_once(seed + i, false,
                  (struct sim_fault){
                      .kinds = SIM_SYNC, .path = ".wal", .skip = i % 5, .count = 1, .error = i % 2 ? EIO : ENOSPC},
                  i % 8 < 4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_wal_write_makes_the_store_read_only),
        cmocka_unit_test(a_failed_wal_sync_makes_the_store_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
