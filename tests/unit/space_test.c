/*
 * Space: what is not needed any more is given back, on disk and in memory. On the real disk, with small limits.
 *
 * Where the background does it, the tests wait for it, and fail when it does not come about.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/thread.h"
#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/store_model.h"
#include "tests/lib/temp.h"

#define MEBIBYTE     ((uint64_t)1 << 20)
#define WAIT_SECONDS 60 /* before something that should happen counts as not happening */

struct fixture {
    char *base;
    char *directory;
    docdb *runtime;
    docdb_db *db;
};

static void start(struct fixture *fixture, const docdb_options *options) {
    docdb_error error = {0};
    if (docdb_open(fixture->directory, options, &fixture->runtime, &error) != DOCDB_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(docdb_db_open(fixture->runtime, "docs", DOCDB_DB_CREATE, &fixture->db), DOCDB_OK);
}

static void stop(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
}

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->base = temp_make();
    fixture->directory = temp_path(fixture->base, "data");
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    free(fixture->directory);
    temp_remove(fixture->base);
    free(fixture);
    return 0;
}

/* Bytes that the files below `path` with that ending take on the disk. */
static uint64_t disk_bytes(const char *path, const char *suffix) {
    char name[4096];
    uint64_t bytes = 0;
    DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        struct stat stat;
        size_t length = strlen(entry->d_name);
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || lstat(name, &stat) != 0) {
            continue; /* it may have gone just now */
        }
        if (S_ISDIR(stat.st_mode)) {
            bytes += disk_bytes(name, suffix);
        } else if (length >= strlen(suffix) && strcmp(entry->d_name + length - strlen(suffix), suffix) == 0) {
            bytes += (uint64_t)stat.st_blocks * 512;
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return bytes;
}

static uint64_t db_bytes(const struct fixture *fixture) {
    return disk_bytes(fixture->directory, ".seg") + disk_bytes(fixture->directory, ".idx");
}

static void pause_ms(long ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* Waits until the databases take no more than that. */
static void wait_for_space(const struct fixture *fixture, uint64_t bytes, const char *when) {
    uint64_t now = db_bytes(fixture);
    for (int i = 0; i < WAIT_SECONDS * 100 && now > bytes; i++) {
        pause_ms(10);
        now = db_bytes(fixture);
    }
    if (now > bytes) {
        fail_msg("%s: %" PRIu64 " bytes on disk, expected at most %" PRIu64, when, now, bytes);
    }
}

/* The document of a number in its nth form. */
static void put(docdb_db *db, uint64_t number, uint64_t form, size_t bytes) {
    char id[32];
    uint8_t *data = malloc(bytes);
    (void)snprintf(id, sizeof id, "%08" PRIu64, number);
    model_fill(number * 1000003 + form, data, bytes);
    assert_int_equal(docdb_put(db, id, data, bytes, NULL), DOCDB_OK);
    free(data);
}

static void check(docdb_db *db, uint64_t number, uint64_t form, size_t bytes) {
    char id[32];
    uint8_t *data = malloc(bytes);
    docdb_doc *doc = NULL;
    (void)snprintf(id, sizeof id, "%08" PRIu64, number);
    model_fill(number * 1000003 + form, data, bytes);
    assert_int_equal(docdb_read(db, id, &doc), DOCDB_OK);
    assert_int_equal(docdb_doc_bytes(doc), bytes);
    assert_memory_equal(docdb_doc_data(doc), data, bytes);
    docdb_doc_release(doc);
    free(data);
}

static docdb_stats stats_of(const struct fixture *fixture) {
    docdb_stats stats;
    assert_int_equal(docdb_get_stats(fixture->runtime, &stats), DOCDB_OK);
    return stats;
}

/* ---- Dropping ---- */

static void a_dropped_database_frees_its_space_without_a_checkpoint(void **state) {
    struct fixture *fixture = *state;
    docdb_doc *pinned = NULL;
    start(fixture, NULL);
    for (uint64_t i = 0; i < 40; i++) {
        put(fixture->db, i, 0, i % 2 == 0 ? MEBIBYTE : 1000);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    for (uint64_t i = 40; i < 50; i++) {
        put(fixture->db, i, 0, MEBIBYTE); /* only the log names these */
    }
    assert_int_equal(docdb_read(fixture->db, "00000000", &pinned), DOCDB_OK);
    assert_true(db_bytes(fixture) > 30 * MEBIBYTE);
    uint64_t checkpoints = stats_of(fixture).checkpoints;
    assert_int_equal(docdb_db_drop(fixture->runtime, "docs", 0), DOCDB_OK);
    wait_for_space(fixture, 0, "after the drop");
    assert_int_equal(stats_of(fixture).checkpoints, checkpoints);
    assert_int_equal(docdb_doc_bytes(pinned), MEBIBYTE);
    docdb_doc_release(pinned);

    docdb_db *again = NULL;
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_db_open(fixture->runtime, "docs", DOCDB_DB_CREATE, &again), DOCDB_OK);
    assert_int_equal(docdb_read(again, "00000000", &doc), DOCDB_ERR_NOT_FOUND);
    put(again, 1, 7, MEBIBYTE);
    docdb_db_close(again);
    stop(fixture);
    start(fixture, NULL);
    assert_int_equal(docdb_read(fixture->db, "00000000", &doc), DOCDB_ERR_NOT_FOUND);
    check(fixture->db, 1, 7, MEBIBYTE);
    stop(fixture);
}

/* ---- The log ---- */

struct writer {
    docdb_db *db;
    uint64_t first;
    atomic_bool stop;
};

static void *writer_main(void *arg) {
    struct writer *writer = arg;
    for (uint64_t i = 0; i < 300; i++) {
        put(writer->db, writer->first + i % 50, i, 100000);
    }
    return NULL;
}

/* With small files, a reader that holds an old snapshot all the while, and more written than the limit many times.
 */
static void the_log_never_exceeds_its_limit_by_more_than_a_file(void **state) {
    struct fixture *fixture = *state;
    struct writer writers[3];
    pthread_t threads[3];
    docdb_scan *scan = NULL;
    docdb_entry entry;
    uint64_t peak = 0;
    start(fixture, &(docdb_options){.wal_limit_bytes = 16 * MEBIBYTE});
    put(fixture->db, 99999, 0, 100);
    assert_int_equal(docdb_scan_open(fixture->db, NULL, &scan), DOCDB_OK);
    for (size_t i = 0; i < 3; i++) {
        writers[i] = (struct writer){.db = fixture->db, .first = i * 100};
        assert_int_equal(thread_start(&threads[i], "writer", writer_main, &writers[i]), 0);
    }
    while (stats_of(fixture).commits < 901) {
        uint64_t now = disk_bytes(fixture->directory, ".wal") + disk_bytes(fixture->directory, ".tmp");
        peak = now > peak ? now : peak;
        pause_ms(1);
    }
    for (size_t i = 0; i < 3; i++) {
        thread_join(threads[i]);
    }
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK); /* the snapshot is what it was */
    assert_string_equal(entry.id, "00099999");
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
    docdb_scan_close(scan);
    assert_true(stats_of(fixture).wal_written_bytes > 60 * MEBIBYTE);
    if (peak > 20 * MEBIBYTE) {
        fail_msg("the log took %" PRIu64 " bytes with a limit of 16 MiB and files of 4 MiB", peak);
    }
    stop(fixture);
}

static void a_large_document_is_written_once(void **state) {
    struct fixture *fixture = *state;
    start(fixture, NULL);
    for (uint64_t i = 0; i < 20; i++) {
        put(fixture->db, i, 0, MEBIBYTE);
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    docdb_stats stats = stats_of(fixture);
    assert_true(stats.wal_written_bytes < MEBIBYTE);
    assert_true(stats.segment_bytes < 21 * MEBIBYTE);
    for (uint64_t i = 0; i < 20; i++) {
        check(fixture->db, i, 0, MEBIBYTE);
    }
    stop(fixture);
}

/* ---- Compaction ---- */

struct reader {
    docdb_db *db;
    atomic_uint_fast64_t *forms; /* the newest acknowledged form of each document */
    uint64_t documents;
    size_t bytes;
    atomic_bool stop;
    atomic_uint_fast64_t reads;
};

/* Reads at random: never an error, and never a form older than what was acknowledged before the read. */
static void *reader_main(void *arg) {
    struct reader *reader = arg;
    uint64_t random = 1;
    while (!atomic_load(&reader->stop)) {
        char id[32];
        docdb_doc *doc = NULL;
        uint64_t number = sim_random(&random) % reader->documents;
        uint64_t form = atomic_load(&reader->forms[number]);
        (void)snprintf(id, sizeof id, "%08" PRIu64, number);
        assert_int_equal(docdb_read(reader->db, id, &doc), DOCDB_OK);
        assert_int_equal(docdb_doc_bytes(doc), reader->bytes);
        uint8_t *data = malloc(reader->bytes);
        bool found = false;
        for (uint64_t i = form; !found && i <= form + 2; i++) {
            model_fill(number * 1000003 + i, data, reader->bytes);
            found = memcmp(data, docdb_doc_data(doc), reader->bytes) == 0;
        }
        assert_true(found || atomic_load(&reader->forms[number]) > form);
        free(data);
        docdb_doc_release(doc);
        atomic_fetch_add(&reader->reads, 1);
    }
    return NULL;
}

static void space_stays_bounded_under_endless_overwrite_and_readers_go_on(void **state) {
    struct fixture *fixture = *state;
    enum { DOCUMENTS = 12000, BYTES = 2000 };
    struct reader reader = {.documents = DOCUMENTS, .bytes = BYTES};
    uint64_t random = test_seed();
    pthread_t thread;
    docdb_options options = {
        .wal_limit_bytes = 16 * MEBIBYTE, .segment_bytes = 512 << 10, .memory_bytes = 2 * MEBIBYTE};
    reader.forms = calloc(DOCUMENTS, sizeof *reader.forms);
    start(fixture, &options);
    reader.db = fixture->db;
    for (uint64_t i = 0; i < DOCUMENTS; i++) {
        put(fixture->db, i, 0, BYTES);
    }
    assert_int_equal(thread_start(&thread, "reader", reader_main, &reader), 0);
    for (uint64_t i = 0; i < 6 * (uint64_t)DOCUMENTS; i++) {
        uint64_t number = sim_random(&random) % DOCUMENTS;
        uint64_t form = atomic_load(&reader.forms[number]) + 1;
        put(fixture->db, number, form, BYTES);
        atomic_store(&reader.forms[number], form);
    }
    atomic_store(&reader.stop, true);
    thread_join(thread);
    assert_true(stats_of(fixture).compactions > 0);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    wait_for_space(fixture, DOCUMENTS * (uint64_t)BYTES * 3 / 2, "after the overwriting");
    stop(fixture);
    start(fixture, &options);
    for (uint64_t i = 0; i < DOCUMENTS; i++) {
        check(fixture->db, i, atomic_load(&reader.forms[i]), BYTES);
    }
    stop(fixture);
    free(reader.forms);
}

static void deleting_everything_and_filling_again_takes_no_more_space(void **state) {
    struct fixture *fixture = *state;
    enum { DOCUMENTS = 3000, BYTES = 2000 };
    start(fixture, &(docdb_options){.wal_limit_bytes = 16 * MEBIBYTE, .segment_bytes = 512 << 10});
    for (uint64_t round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < DOCUMENTS; i++) {
            put(fixture->db, i, round, BYTES);
        }
        assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
        wait_for_space(fixture, DOCUMENTS * (uint64_t)BYTES * 3 / 2, "after filling");
        for (uint64_t i = 0; i < DOCUMENTS; i++) {
            char id[32];
            (void)snprintf(id, sizeof id, "%08" PRIu64, i);
            assert_int_equal(docdb_delete(fixture->db, id, NULL), DOCDB_OK);
        }
        assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
        wait_for_space(fixture, MEBIBYTE, "after deleting all");
    }
    docdb_stats stats = stats_of(fixture);
    assert_int_equal(stats.documents, 0);
    assert_true(stats.index_bytes < MEBIBYTE); /* entries of deleted documents go too */
    stop(fixture);
}

/* ---- Memory ---- */

static void a_data_set_of_ten_times_the_memory_cap_works(void **state) {
    struct fixture *fixture = *state;
    enum { DOCUMENTS = 20000, BYTES = 4000 };
    docdb_options options = {.wal_limit_bytes = 16 * MEBIBYTE, .memory_bytes = 8 * MEBIBYTE};
    start(fixture, &options);
    for (uint64_t i = 0; i < DOCUMENTS; i++) {
        put(fixture->db, i, 0, BYTES);
        if (i % 1000 == 0) {
            assert_true(stats_of(fixture).resident_bytes <
                        28 * MEBIBYTE); /* the cap, and what is in the log alone */
        }
    }
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < DOCUMENTS; i++) {
            check(fixture->db, i, 0, BYTES);
        }
        docdb_stats stats = stats_of(fixture);
        assert_true(stats.document_bytes >= 9 * options.memory_bytes);
        assert_true(stats.resident_bytes <= options.memory_bytes + MEBIBYTE);
        assert_true(stats.segment_reads > DOCUMENTS / 2);
    }
    stop(fixture);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_dropped_database_frees_its_space_without_a_checkpoint),
        TEST(the_log_never_exceeds_its_limit_by_more_than_a_file),
        TEST(a_large_document_is_written_once),
        TEST(space_stays_bounded_under_endless_overwrite_and_readers_go_on),
        TEST(deleting_everything_and_filling_again_takes_no_more_space),
        TEST(a_data_set_of_ten_times_the_memory_cap_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
