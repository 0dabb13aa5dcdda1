/* A transaction that is refused before it is looked at (no room for its batch) gives back everything, its snapshot
 * too. */
#include <stdlib.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

#define DOC_BYTES (3u << 20)

static void a_refused_transaction_gives_back_its_snapshot(void **state) {
    (void)state;
    struct sim_disk *disk = sim_disk_create();
    struct test_log log = {0};
    docdb *runtime = NULL;
    docdb_db *db = NULL;
    docdb_txn *txn = NULL;
    docdb_stats stats;
    char *bytes = calloc(1, DOC_BYTES);
    assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_db_open(runtime, "db", DOCDB_DB_CREATE, &db), DOCDB_OK);
    sim_disk_set_capacity(disk, sim_disk_used(disk));
    unsigned refused = 0;
    for (int i = 0; i < 60; i++) { /* the WAL files that exist fill up, then there is no room */
        assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "a", bytes, DOC_BYTES), DOCDB_OK);
        int status = docdb_commit(txn, NULL);
        assert_true(status == DOCDB_OK || status == DOCDB_ERR_NO_SPACE);
        refused += status == DOCDB_ERR_NO_SPACE;
    }
    assert_true(refused > 0);
    assert_int_equal(docdb_get_stats(runtime, &stats), DOCDB_OK);
    assert_int_equal(stats.snapshots, 0);
    assert_int_equal(stats.refused, refused);
    sim_disk_set_capacity(disk, 0);
    assert_int_equal(docdb_put(db, "a", "room", 4, NULL), DOCDB_OK);
    docdb_db_close(db);
    assert_int_equal(docdb_close(runtime), DOCDB_OK);
    sim_disk_destroy(disk);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_transaction_gives_back_its_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
