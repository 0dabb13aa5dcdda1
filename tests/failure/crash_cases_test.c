/*
 * Small stories of faults and crashes, each told step by step: what the random tests beside it found, kept as the
 * shortest sequence that shows it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

struct fixture {
    struct sim_disk *disk;
    struct test_log log;
    docdb *runtime;
    docdb_db *db;
};

static void start(struct fixture *fixture, unsigned flags) {
    docdb_error error = {0};
    int status = test_store_open(fixture->disk, &fixture->log, &fixture->runtime, &error);
    if (status != DOCDB_OK) {
        test_log_print(&fixture->log);
        fail_msg("the store can't be opened: %s", error.message);
    }
    assert_int_equal(docdb_db_open(fixture->runtime, "db", flags, &fixture->db), DOCDB_OK);
}

static void crash(struct fixture *fixture, uint64_t seed) {
    docdb_db_close(fixture->db);
    fixture->db = NULL;
    test_store_crash(fixture->disk, fixture->runtime, seed);
    assert_int_equal(sim_disk_open_files(fixture->disk), 0);
}

static void fixture_init(struct fixture *fixture) {
    memset(fixture, 0, sizeof *fixture);
    fixture->disk = sim_disk_create();
    start(fixture, DOCDB_DB_CREATE);
}

static void fixture_fini(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    (void)docdb_close(fixture->runtime);
    sim_disk_destroy(fixture->disk);
}

static void put(struct fixture *fixture, const char *id, const char *text) {
    assert_int_equal(docdb_put(fixture->db, id, text, strlen(text), NULL), DOCDB_OK);
}

static void check(struct fixture *fixture, const char *id, const char *text) {
    docdb_doc *doc = NULL;
    int status = docdb_read(fixture->db, id, &doc);
    assert_int_equal(status, text == NULL ? DOCDB_ERR_NOT_FOUND : DOCDB_OK);
    if (status == DOCDB_OK) {
        assert_int_equal(docdb_doc_bytes(doc), strlen(text));
        assert_memory_equal(docdb_doc_data(doc), text, strlen(text));
        docdb_doc_release(doc);
    }
}

/* The first open after the crash replays the drop, but the manifest on the disk still needs the database's files
 * until the next checkpoint: a second crash must find them. */
static void a_drop_that_is_only_in_the_log_keeps_the_files_the_manifest_needs(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture fixture;
        docdb_db *other = NULL;
        fixture_init(&fixture);
        assert_int_equal(docdb_db_open(fixture.runtime, "dropped", DOCDB_DB_CREATE, &other), DOCDB_OK);
        assert_int_equal(docdb_put(other, "a", "x", 1, NULL), DOCDB_OK);
        put(&fixture, "kept", "text");
        assert_int_equal(docdb_checkpoint(fixture.runtime), DOCDB_OK);
        docdb_db_close(other);
        /* No further checkpoint comes through. */
        sim_disk_fault(
            fixture.disk,
            &(struct sim_fault){.kinds = SIM_OPEN, .path = "MANIFEST.tmp", .count = UINT64_MAX, .error = EIO});
        assert_int_equal(docdb_db_drop(fixture.runtime, "dropped", 0), DOCDB_OK);
        for (int crashes = 0; crashes < 3; crashes++) {
            crash(&fixture, seed);
            start(&fixture, 0);
            check(&fixture, "kept", "text");
            assert_int_equal(docdb_db_open(fixture.runtime, "dropped", 0, &other), DOCDB_ERR_NO_DATABASE);
        }
        fixture_fini(&fixture);
    }
}

/* The batch is refused as a whole before any of it is validated; what its transactions hold must go all the same.
 */
static void a_transaction_refused_for_want_of_room_gives_up_its_snapshot(void **state) {
    (void)state;
    struct fixture fixture;
    docdb_stats stats;
    size_t bytes = 3u << 20;
    char *large = calloc(1, bytes);
    int status = DOCDB_OK;
    fixture_init(&fixture);
    put(&fixture, "a", "before");
    sim_disk_set_capacity(fixture.disk, sim_disk_used(fixture.disk));
    for (int i = 0; i < 20 && status == DOCDB_OK; i++) {
        docdb_txn *txn = NULL;
        assert_int_equal(docdb_begin(fixture.db, 0, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "b", large, bytes), DOCDB_OK);
        status = docdb_commit(txn, NULL);
    }
    assert_int_equal(status, DOCDB_ERR_NO_SPACE);
    assert_int_equal(docdb_get_stats(fixture.runtime, &stats), DOCDB_OK);
    assert_int_equal(stats.snapshots, 0);
    check(&fixture, "a", "before");
    free(large);
    fixture_fini(&fixture);
}

/* After a failed sync the kernel believes that the bytes are written. A second try must write them again, the
 * header of the new segment too. */
static void a_segment_whose_first_sync_failed_is_written_again(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture fixture;
        fixture_init(&fixture);
        put(&fixture, "a", "text");
        sim_disk_fault(fixture.disk,
                       &(struct sim_fault){.kinds = SIM_SYNC, .path = ".seg", .count = 1, .error = EIO});
        assert_int_equal(docdb_checkpoint(fixture.runtime), DOCDB_ERR_IO);
        assert_int_equal(docdb_checkpoint(fixture.runtime), DOCDB_OK);
        crash(&fixture, seed);
        start(&fixture, 0);
        check(&fixture, "a", "text");
        fixture_fini(&fixture);
    }
}

/* One run: the first checkpoint fails at the sync of directory number `skip`, the second dies at operation `at` of
 * it. */
static void two_checkpoints(uint64_t skip, uint64_t at, uint64_t seed) {
    struct fixture fixture;
    docdb_txn *txn = NULL;
    fixture_init(&fixture);
    put(&fixture, "a", "first");
    put(&fixture, "b", "second");
    sim_disk_fault(
        fixture.disk,
        &(struct sim_fault){.kinds = SIM_SYNC_DIRECTORY, .path = "/data", .skip = skip, .count = 1, .error = EIO});
    (void)!docdb_checkpoint(fixture.runtime);
    sim_disk_fault(fixture.disk, NULL);
    assert_int_equal(docdb_begin(fixture.db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_rename(txn, "a", "c", 0), DOCDB_OK);
    assert_int_equal(docdb_txn_delete(txn, "b"), DOCDB_OK);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    sim_disk_power_off_at(fixture.disk, sim_disk_operations(fixture.disk) + at, false);
    (void)!docdb_checkpoint(fixture.runtime);
    crash(&fixture, seed);
    start(&fixture, 0);
    check(&fixture, "a", NULL);
    check(&fixture, "b", NULL);
    check(&fixture, "c", "first");
    fixture_fini(&fixture);
}

/* The manifest was renamed, but whether its name is durable is not known: its files must stay until the next
 * manifest is, and the directory of a database must be synced even when it exists already. */
static void a_checkpoint_that_failed_at_a_directory_sync_may_be_on_the_disk(void **state) {
    (void)state;
    for (uint64_t skip = 0; skip < 4; skip++) {
        for (uint64_t at = 1; at <= 16; at++) {
            for (uint64_t seed = 0; seed < 4; seed++) {
                two_checkpoints(skip, at, seed);
            }
        }
    }
}

/* A killed process leaves a log that can be read and is not synced. What the next one shows of it stays. */
static void what_is_seen_after_a_kill_survives_a_power_loss(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct fixture fixture;
        docdb_doc *doc = NULL;
        memset(&fixture, 0, sizeof fixture);
        fixture.disk = sim_disk_create();
        sim_disk_set_direct(fixture.disk, false);
        start(&fixture, DOCDB_DB_CREATE);
        put(&fixture, "a", "text");
        /* Killed between the write of the log and its sync. */
        sim_disk_power_off_at(fixture.disk, sim_disk_operations(fixture.disk) + 2, false);
        (void)!docdb_put(fixture.db, "b", "unsynced", 8, NULL);
        docdb_db_close(fixture.db);
        (void)docdb_close(fixture.runtime);
        sim_disk_kill(fixture.disk);
        start(&fixture, 0);
        int before = docdb_read(fixture.db, "b", &doc);
        docdb_doc_release(before == DOCDB_OK ? doc : NULL);
        crash(&fixture, seed);
        start(&fixture, 0);
        check(&fixture, "a", "text");
        check(&fixture, "b", before == DOCDB_OK ? "unsynced" : NULL);
        fixture_fini(&fixture);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drop_that_is_only_in_the_log_keeps_the_files_the_manifest_needs),
        cmocka_unit_test(a_transaction_refused_for_want_of_room_gives_up_its_snapshot),
        cmocka_unit_test(a_segment_whose_first_sync_failed_is_written_again),
        cmocka_unit_test(a_checkpoint_that_failed_at_a_directory_sync_may_be_on_the_disk),
        cmocka_unit_test(what_is_seen_after_a_kill_survives_a_power_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
