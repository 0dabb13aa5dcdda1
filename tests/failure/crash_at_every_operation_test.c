/*
 * The power goes at any operation of the disk: what was acknowledged is there, the transaction in flight is there
 * whole or not at all, and nothing else is.
 *
 * Each round: a new disk, several lives. A life opens the store (perhaps dying while it opens), checks it against
 * the model, works at random until the power goes, and closes. In the first life of the rounds the power goes at
 * each operation in turn. At the end: a clean close, and one more look.
 *
 * SEED=n reruns the same rounds (the maintenance thread's operations fall where they fall, so not exactly).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

enum how { POWER_LOSS, KILL_THEN_POWER_LOSS };

/* What varies between the tests. */
struct plan {
    enum how how;
    bool direct;           /* does the disk have direct I/O? */
    unsigned large_one_in; /* documents of up to large_bytes; with many of them the WAL's files are used again */
    size_t large_bytes;
    unsigned rounds;
};

/* What the store did over all rounds of a test. */
struct done {
    uint64_t checkpoints;
    uint64_t compactions;
};

struct round {
    struct done *done;
    struct sim_disk *disk;
    struct workload workload;
    struct test_log log;
    uint64_t random;
    enum how how;
    unsigned life;
    char history[1024]; /* what happened, for the message */
    char why[600];
};

static void note(struct round *round, const char *what, uint64_t at) {
    size_t used = strlen(round->history);
    (void)snprintf(round->history + used, sizeof round->history - used, " %s@%" PRIu64, what, at);
}

static bool failed(struct round *round, const char *what) {
    fprintf(stderr, "  %s: %s\n  history:%s\n", what, round->why, round->history);
    test_log_print(&round->log);
    return false;
}

static int store_open(struct round *round, docdb **runtime) {
    docdb_error error = {0};
    int status = test_store_open(round->disk, &round->log, runtime, &error);
    (void)snprintf(round->why, sizeof round->why, "%s (%s)", error.message, docdb_error_name(status));
    return status;
}

/* The end of a life: the power comes back, or (a kill) only the process is new, and the power goes a moment later,
 * at some operation of the next life. */
static void die(struct round *round) {
    if (round->how == KILL_THEN_POWER_LOSS && sim_random(&round->random) % 2 == 0) {
        note(round, "kill", sim_disk_operations(round->disk));
        sim_disk_kill(round->disk);
        return;
    }
    note(round, "crash", sim_disk_operations(round->disk));
    sim_disk_crash(round->disk, sim_random(&round->random));
}

static void count(struct round *round, docdb *runtime) {
    docdb_stats stats;
    if (docdb_get_stats(runtime, &stats) == DOCDB_OK) {
        round->done->checkpoints += stats.checkpoints;
        round->done->compactions += stats.compactions;
    }
}

/* Opens, dying while it opens up to twice. False: the store can't be opened, or leaks. */
static bool open_and_settle(struct round *round, docdb **runtime) {
    for (int deaths = 0; deaths < 2 && sim_random(&round->random) % 3 == 0; deaths++) {
        uint64_t at = sim_disk_operations(round->disk) + 1 + sim_random(&round->random) % 24;
        sim_disk_power_off_at(round->disk, at, sim_random(&round->random) % 2 == 0);
        note(round, "open-dies", at);
        if (store_open(round, runtime) == DOCDB_OK) {
            (void)docdb_close(*runtime);
        } else if (!sim_disk_is_off(round->disk)) {
            return failed(round, "the store can't be opened");
        }
        if (sim_disk_open_files(round->disk) != 0) {
            return failed(round, "files are left open");
        }
        die(round);
    }
    note(round, "open", sim_disk_operations(round->disk));
    if (store_open(round, runtime) != DOCDB_OK) {
        return failed(round, "the store can't be opened");
    }
    if (!workload_settle(&round->workload, *runtime, round->why, sizeof round->why)) {
        (void)docdb_close(*runtime);
        return failed(round, "the store is not what it should be");
    }
    return true;
}

/* Works until the power goes at operation `at`, or for so many steps. */
static bool work(struct round *round, docdb *runtime, uint64_t at, unsigned steps) {
    int status = DOCDB_OK;
    sim_disk_power_off_at(round->disk, at, sim_random(&round->random) % 2 == 0);
    for (unsigned i = 0; i < steps && status == DOCDB_OK; i++) {
        status = workload_step(&round->workload, runtime);
        if (status != DOCDB_OK && !sim_disk_is_off(round->disk)) {
            (void)snprintf(round->why, sizeof round->why, "%s: %s", round->workload.last, docdb_error_name(status));
            return failed(round, "a step failed");
        }
    }
    if (sim_random(&round->random) % 2 == 0 && !sim_disk_is_off(round->disk)) {
        /* The power holds out until the close, which writes a checkpoint. */
        uint64_t later = sim_disk_operations(round->disk) + 1 + sim_random(&round->random) % 20;
        sim_disk_power_off_at(round->disk, later, sim_random(&round->random) % 2 == 0);
    }
    return true;
}

static bool life(struct round *round, uint64_t at, unsigned steps) {
    docdb *runtime = NULL;
    if (!open_and_settle(round, &runtime)) {
        return false;
    }
    bool good = work(round, runtime, at, steps);
    count(round, runtime);
    int status = docdb_close(runtime);
    if (good && status != DOCDB_OK && !sim_disk_is_off(round->disk)) {
        (void)snprintf(round->why, sizeof round->why, "%s", docdb_error_name(status));
        good = failed(round, "the store can't be closed");
    }
    if (good && sim_disk_open_files(round->disk) != 0) {
        good = failed(round, "files are left open");
    }
    die(round);
    return good;
}

/* One whole round; `first` is the operation at which the power goes in the first life, 0: never. Returns the
 * operations of the first life in *operations. */
static bool round_run(uint64_t seed, uint64_t first, const struct plan *plan, struct done *done,
                      uint64_t *operations) {
    struct round *round = calloc(1, sizeof *round);
    round->done = done;
    round->disk = sim_disk_create();
    round->random = seed ^ first * 31;
    round->how = plan->how;
    sim_disk_set_direct(round->disk, plan->direct);
    workload_init(&round->workload, seed);
    round->workload.large_one_in = plan->large_one_in;
    round->workload.large_bytes = plan->large_bytes;
    docdb *runtime = NULL;
    bool good = store_open(round, &runtime) == DOCDB_OK;
    if (good) {
        good = work(round, runtime, first, 120);
        count(round, runtime);
        (void)docdb_close(runtime);
        die(round);
    }
    *operations = sim_disk_operations(round->disk);
    for (round->life = 1; round->life < 5 && good; round->life++) {
        uint64_t at = sim_disk_operations(round->disk) + 1 + sim_random(&round->random) % 150;
        good = life(round, at, 60);
    }
    for (int again = 0; again < 2 && good; again++) {
        good = open_and_settle(round, &runtime);
        if (good && docdb_close(runtime) != DOCDB_OK) {
            good = failed(round, "a clean close failed");
        }
    }
    sim_disk_destroy(round->disk);
    free(round);
    return good;
}

/* In the first life, `first` counts from the first operation of a new disk: the store's creation dies too. */
static bool creation_dies(uint64_t seed, uint64_t first) {
    struct round *round = calloc(1, sizeof *round);
    round->disk = sim_disk_create();
    round->random = seed + first;
    workload_init(&round->workload, seed);
    docdb *runtime = NULL;
    sim_disk_power_off_at(round->disk, first, first % 2 == 0);
    note(round, "create-dies", first);
    if (store_open(round, &runtime) == DOCDB_OK) {
        (void)docdb_close(runtime);
    }
    die(round);
    bool good = open_and_settle(round, &runtime);
    if (good) {
        good = work(round, runtime, 0, 20);
        (void)docdb_close(runtime);
        die(round);
        good = good && open_and_settle(round, &runtime);
        (void)(good && docdb_close(runtime));
    }
    sim_disk_destroy(round->disk);
    free(round);
    return good;
}

static void rounds_run(const struct plan *plan) {
    uint64_t seed = test_seed();
    uint64_t total = 0;
    struct done done = {0};
    unsigned bad = !round_run(seed, 0, plan, &done, &total);
    for (unsigned i = 0; i < plan->rounds && bad < 3; i++) {
        uint64_t ignored;
        bool all = plan->rounds >= total;
        uint64_t first = 1 + (all ? i % total : i * total / plan->rounds + i % (total / plan->rounds + 1));
        uint64_t round_seed = all ? seed + i / total : seed + i % 7;
        if (!round_run(round_seed, first, plan, &done, &ignored)) {
            fprintf(stderr, "  round %u: seed %" PRIu64 ", power off at operation %" PRIu64 " of %" PRIu64 "\n\n",
                    i, round_seed, first, total);
            bad++;
        }
    }
    if (bad > 0) {
        fail_msg("%u bad rounds; SEED=%" PRIu64, bad, seed);
    }
    printf("  %" PRIu64 " checkpoints, %" PRIu64 " segments compacted\n", done.checkpoints, done.compactions);
    assert_true(done.checkpoints > 0 && done.compactions > 0);
}

static void power_loss_at_any_operation_loses_nothing_acknowledged(void **state) {
    (void)state;
    rounds_run(&(struct plan){.how = POWER_LOSS,
                              .direct = true,
                              .large_one_in = 12,
                              .large_bytes = 200u << 10,
                              .rounds = test_rounds(150, 3000)});
}

static void power_loss_loses_nothing_where_there_is_no_direct_io(void **state) {
    (void)state;
    rounds_run(&(struct plan){.how = POWER_LOSS,
                              .direct = false,
                              .large_one_in = 12,
                              .large_bytes = 200u << 10,
                              .rounds = test_rounds(100, 1500)});
}

/* A process that was killed leaves behind what it wrote and did not sync; the next one must not build on it. */
static void power_loss_after_a_kill_loses_nothing_acknowledged(void **state) {
    (void)state;
    rounds_run(&(struct plan){.how = KILL_THEN_POWER_LOSS,
                              .direct = true,
                              .large_one_in = 12,
                              .large_bytes = 200u << 10,
                              .rounds = test_rounds(150, 1500)});
}

static void kill_and_power_loss_lose_nothing_where_there_is_no_direct_io(void **state) {
    (void)state;
    rounds_run(&(struct plan){.how = KILL_THEN_POWER_LOSS,
                              .direct = false,
                              .large_one_in = 12,
                              .large_bytes = 200u << 10,
                              .rounds = test_rounds(100, 1500)});
}

/* Large documents: the log goes through its files many times, each full of records of its earlier life. */
static void records_of_a_recycled_wal_file_never_come_back(void **state) {
    (void)state;
    rounds_run(&(struct plan){.how = POWER_LOSS,
                              .direct = true,
                              .large_one_in = 2,
                              .large_bytes = 1200u << 10,
                              .rounds = test_rounds(25, 500)});
}

static void power_loss_while_a_store_is_created_leaves_a_usable_directory(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (uint64_t first = 1; first <= 40; first++) {
        if (!creation_dies(seed, first)) {
            fail_msg("power off at operation %" PRIu64 "; SEED=%" PRIu64, first, seed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_loss_at_any_operation_loses_nothing_acknowledged),
        cmocka_unit_test(power_loss_loses_nothing_where_there_is_no_direct_io),
        cmocka_unit_test(power_loss_after_a_kill_loses_nothing_acknowledged),
        cmocka_unit_test(kill_and_power_loss_lose_nothing_where_there_is_no_direct_io),
        cmocka_unit_test(records_of_a_recycled_wal_file_never_come_back),
        cmocka_unit_test(power_loss_while_a_store_is_created_leaves_a_usable_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
