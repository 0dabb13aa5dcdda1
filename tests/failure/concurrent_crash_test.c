/*
 * Several threads commit asynchronously while the power goes: after reopening, what is there of each thread is a
 * prefix of what it submitted, and at least what was acknowledged to it.
 *
 * Transaction number s of a thread writes s into two documents, "last" and one of a few more in turn, so the state
 * after any prefix is known.
 */
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"

#define THREADS 4
#define SLOTS   7
#define WINDOW  16 /* commits of a thread in flight */
#define TXNS    150

struct writer {
    docdb_db *db;
    pthread_t thread;
    unsigned number;
    uint64_t random;
    atomic_uint_fast64_t submitted;
    atomic_uint_fast64_t acknowledged; /* all up to it */
    atomic_uint_fast64_t finished;     /* acknowledged or refused */
    atomic_bool refused;
    atomic_bool disordered; /* an acknowledgement after a refusal, or out of order */
};

static void committed(void *arg, int status, uint64_t commit_seq) {
    struct writer *writer = arg;
    uint64_t finished = atomic_fetch_add(&writer->finished, 1);
    (void)commit_seq;
    if (status != DOCDB_OK) {
        atomic_store(&writer->refused, true);
    } else if (atomic_load(&writer->refused)) {
        atomic_store(&writer->disordered, true);
    } else {
        atomic_store(&writer->acknowledged, finished + 1);
    }
}

static void slot_id(const struct writer *writer, uint64_t slot, char *out, size_t bytes) {
    if (slot == SLOTS) {
        (void)snprintf(out, bytes, "t%u-last", writer->number);
    } else {
        (void)snprintf(out, bytes, "t%u-%" PRIu64, writer->number, slot);
    }
}

/* The number, padded so that it differs in length and goes through several sectors. */
static size_t value_make(uint64_t value, uint8_t *out) {
    size_t bytes = 8 + (size_t)(value * 37 % 1800);
    model_fill(value, out, bytes);
    memcpy(out, &value, sizeof value);
    return bytes;
}

static bool submit(struct writer *writer, uint64_t value) {
    docdb_txn *txn = NULL;
    char id[32];
    uint8_t data[2048];
    size_t bytes = value_make(value, data);
    if (docdb_begin(writer->db, DOCDB_TXN_BLIND, &txn) != DOCDB_OK) {
        return false;
    }
    slot_id(writer, SLOTS, id, sizeof id);
    int status = docdb_txn_put(txn, id, data, bytes);
    slot_id(writer, value % SLOTS, id, sizeof id);
    if (status == DOCDB_OK) {
        status = docdb_txn_put(txn, id, data, bytes);
    }
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        return false;
    }
    atomic_store(&writer->submitted, value);
    docdb_commit_async(txn, committed, writer);
    return true;
}

static void *writer_main(void *arg) {
    struct writer *writer = arg;
    uint64_t from = atomic_load(&writer->submitted);
    for (uint64_t value = from + 1; value <= from + TXNS && !atomic_load(&writer->refused); value++) {
        while (value - atomic_load(&writer->finished) > WINDOW) {
            sched_yield();
        }
        if (!submit(writer, value)) {
            break;
        }
    }
    return NULL;
}

/* Databases come and go while checkpoints run. */
static void *dropper_main(void *arg) {
    docdb *runtime = arg;
    int status = DOCDB_OK;
    for (unsigned i = 0; i < 20 && status == DOCDB_OK; i++) {
        docdb_db *db = NULL;
        status = docdb_db_open(runtime, "passing", DOCDB_DB_CREATE, &db);
        if (status == DOCDB_OK) {
            status = docdb_put(db, "x", "y", 1, NULL);
            docdb_db_close(db);
        }
        if (status == DOCDB_OK && i % 4 != 3) {
            status = docdb_db_drop(runtime, "passing", 0);
        }
    }
    return NULL;
}

static uint64_t value_read(docdb_db *db, const char *id) {
    docdb_doc *doc = NULL;
    uint8_t expected[2048];
    uint64_t value = 0;
    int status = docdb_read(db, id, &doc);
    if (status == DOCDB_ERR_NOT_FOUND) {
        return 0;
    }
    assert_int_equal(status, DOCDB_OK);
    assert_true(docdb_doc_bytes(doc) >= sizeof value);
    memcpy(&value, docdb_doc_data(doc), sizeof value);
    size_t bytes = value_make(value, expected);
    assert_int_equal(docdb_doc_bytes(doc), bytes);
    assert_memory_equal(docdb_doc_data(doc), expected, bytes);
    docdb_doc_release(doc);
    return value;
}

/* What is there is the state after some prefix that holds everything acknowledged. */
static void check_prefix(struct writer *writer, docdb_db *db, uint64_t seed) {
    char id[32];
    slot_id(writer, SLOTS, id, sizeof id);
    uint64_t last = value_read(db, id);
    uint64_t acknowledged = atomic_load(&writer->acknowledged);
    uint64_t submitted = atomic_load(&writer->submitted);
    if (last < acknowledged || last > submitted) {
        fail_msg("thread %u: %" PRIu64 " is there; %" PRIu64 " was acknowledged and %" PRIu64
                 " submitted; SEED=%" PRIu64,
                 writer->number, last, acknowledged, submitted, seed);
    }
    for (uint64_t slot = 0; slot < SLOTS; slot++) {
        uint64_t expected = last < slot ? 0 : last - (last - slot) % SLOTS;
        slot_id(writer, slot, id, sizeof id);
        uint64_t value = value_read(db, id);
        if (value != expected) {
            fail_msg("thread %u: %s holds %" PRIu64 " beside last %" PRIu64 ", expected %" PRIu64 "; SEED=%" PRIu64,
                     writer->number, id, value, last, expected, seed);
        }
    }
    assert_false(atomic_load(&writer->disordered));
    atomic_store(&writer->submitted, last);
    atomic_store(&writer->acknowledged, last);
    atomic_store(&writer->finished, last);
    atomic_store(&writer->refused, false);
}

static docdb *store_open(struct sim_disk *disk, struct test_log *log, docdb_db **db, uint64_t seed) {
    docdb *runtime = NULL;
    docdb_error error = {0};
    if (test_store_open(disk, log, &runtime, &error) != DOCDB_OK ||
        docdb_db_open(runtime, "db", DOCDB_DB_CREATE, db) != DOCDB_OK) {
        test_log_print(log);
        fail_msg("opening: %s; SEED=%" PRIu64, error.message, seed);
    }
    return runtime;
}

static void life(struct sim_disk *disk, struct test_log *log, struct writer *writers, uint64_t seed,
                 uint64_t *random) {
    docdb_db *db = NULL;
    docdb *runtime = store_open(disk, log, &db, seed);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].db = db;
        check_prefix(&writers[i], db, seed);
    }
    sim_disk_power_off_at(disk, sim_disk_operations(disk) + 1 + sim_random(random) % 250,
                          sim_random(random) % 2 == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(thread_start(&writers[i].thread, "writer", writer_main, &writers[i]), 0);
    }
    pthread_t dropper;
    assert_int_equal(thread_start(&dropper, "dropper", dropper_main, runtime), 0);
    for (unsigned i = 0; i < 8; i++) {
        (void)!docdb_checkpoint(runtime);
    }
    thread_join(dropper);
    for (unsigned i = 0; i < THREADS; i++) {
        thread_join(writers[i].thread);
    }
    docdb_db_close(db);
    (void)docdb_close(runtime);
    assert_int_equal(sim_disk_open_files(disk), 0);
    sim_disk_crash(disk, sim_random(random));
}

static void each_thread_finds_a_prefix_that_holds_its_acknowledged_commits(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    for (unsigned round = 0; round < test_rounds(30, 500); round++) {
        struct test_log log = {0};
        struct writer writers[THREADS] = {0};
        uint64_t random = seed + round;
        struct sim_disk *disk = sim_disk_create();
        sim_disk_set_direct(disk, round % 3 != 0);
        for (unsigned i = 0; i < THREADS; i++) {
            writers[i].number = i;
        }
        for (unsigned lives = 0; lives < 5; lives++) {
            life(disk, &log, writers, seed + round, &random);
        }
        docdb_db *db = NULL;
        docdb *runtime = store_open(disk, &log, &db, seed + round);
        for (unsigned i = 0; i < THREADS; i++) {
            check_prefix(&writers[i], db, seed + round);
        }
        docdb_db_close(db);
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
        sim_disk_destroy(disk);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_thread_finds_a_prefix_that_holds_its_acknowledged_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
