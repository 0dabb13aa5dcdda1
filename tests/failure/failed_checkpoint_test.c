/*
 * Something fails beside the commit path (a checkpoint's files, the manifest, a new WAL file) once or a few times,
 * the store goes on, and later the power goes: nothing acknowledged is lost.
 *
 * A checkpoint that failed half-way must leave nothing that the next one trusts: bytes whose sync failed are not on
 * the disk though a read shows them, and a manifest whose directory could not be synced may be there or not.
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

struct round {
    struct sim_disk *disk;
    struct workload workload;
    struct test_log log;
    docdb *runtime;
    uint64_t random;
    char history[1024];
    char why[600];
};

static uint64_t below(struct round *round, uint64_t bound) { return sim_random(&round->random) % bound; }

static bool failed(const struct round *round, const char *what) {
    fprintf(stderr, "  %s: %s\n  history:%s\n", what, round->why, round->history);
    test_log_print(&round->log);
    return false;
}

/* What a fault of the round is. Never a write or sync of a WAL file in use: that is another test. */
static struct sim_fault fault_pick(struct round *round) {
    static const struct sim_fault faults[] = {
        {.kinds = SIM_SYNC, .path = ".seg"},
        {.kinds = SIM_WRITE, .path = ".seg"},
        {.kinds = SIM_OPEN, .path = ".seg"},
        {.kinds = SIM_SYNC, .path = ".idx"},
        {.kinds = SIM_WRITE, .path = ".idx"},
        {.kinds = SIM_OPEN, .path = ".idx"},
        {.kinds = SIM_UNLINK, .path = ".idx"},
        {.kinds = SIM_MKDIR | SIM_SYNC_DIRECTORY, .path = "/db"},
        {.kinds = SIM_CHANGES, .path = "MANIFEST.tmp"},
        {.kinds = SIM_SYNC_DIRECTORY, .path = "/data"},
        {.kinds = SIM_SYNC_DIRECTORY, .path = "/wal"},
        {.kinds = SIM_CHANGES, .path = "next.tmp"},
        {.kinds = SIM_RENAME | SIM_UNLINK | SIM_RMDIR, .path = NULL},
    };
    struct sim_fault fault = faults[below(round, sizeof faults / sizeof faults[0])];
    fault.skip = below(round, 4);
    fault.count = 1 + below(round, 2);
    fault.error = EIO;
    return fault;
}

/* A step may meet the fault: then it says IO, and nothing of it is there, or the store is read-only. Returns false
 * when the store did something wrong; *over when this life is. */
static bool step(struct round *round, bool *over) {
    docdb_stats stats;
    int status = workload_step(&round->workload, round->runtime);
    *over = sim_disk_is_off(round->disk);
    if (status == DOCDB_OK || *over) {
        return true;
    }
    (void)snprintf(round->why, sizeof round->why, "%s says %s", round->workload.last, docdb_error_name(status));
    if (status != DOCDB_ERR_IO || sim_disk_faults_hit(round->disk) == 0 ||
        docdb_get_stats(round->runtime, &stats) != DOCDB_OK) {
        return failed(round, "a step failed");
    }
    *over = stats.read_only != 0;
    if (!*over) {
        round->workload.pending = round->workload.model;
    }
    return true;
}

static bool life(struct round *round) {
    docdb_error error = {0};
    int status = test_store_open(round->disk, &round->log, &round->runtime, &error);
    (void)snprintf(round->why, sizeof round->why, "%s (%s)", error.message, docdb_error_name(status));
    if (status != DOCDB_OK) {
        return failed(round, "the store can't be opened");
    }
    bool over = false;
    bool good = workload_settle(&round->workload, round->runtime, round->why, sizeof round->why) ||
                failed(round, "the store is not what it should be");
    for (unsigned bout = 0; bout < 3 && good && !over; bout++) {
        struct sim_fault fault = fault_pick(round);
        size_t used = strlen(round->history);
        (void)snprintf(round->history + used, sizeof round->history - used, " %x:%s:%" PRIu64, fault.kinds,
                       fault.path == NULL ? "" : fault.path, fault.skip);
        sim_disk_fault(round->disk, &fault);
        if (bout == 2) {
            sim_disk_power_off_at(round->disk, sim_disk_operations(round->disk) + 1 + below(round, 60),
                                  below(round, 2) == 0);
        }
        for (unsigned i = 0; i < 30 && good && !over; i++) {
            good = step(round, &over);
        }
    }
    (void)docdb_close(round->runtime);
    size_t used = strlen(round->history);
    (void)snprintf(round->history + used, sizeof round->history - used, " crash@%" PRIu64,
                   sim_disk_operations(round->disk));
    sim_disk_crash(round->disk, sim_random(&round->random));
    return good;
}

static void failures_beside_the_commit_path_lose_nothing(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < test_rounds(150, 4000); i++) {
        struct round *round = calloc(1, sizeof *round);
        round->disk = sim_disk_create();
        round->random = seed + i;
        workload_init(&round->workload, seed + i);
        round->workload.checkpoint_one_in = 6;
        sim_disk_set_direct(round->disk, i % 4 != 0);
        if (i % 5 == 0) {
            round->workload.large_one_in = 2;
            round->workload.large_bytes = 1200u << 10;
        }
        bool good = true;
        for (unsigned lives = 0; lives < 5 && good; lives++) {
            good = life(round);
        }
        sim_disk_destroy(round->disk);
        free(round);
        if (!good) {
            fail_msg("round %u; SEED=%" PRIu64, i, seed + i);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_beside_the_commit_path_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
