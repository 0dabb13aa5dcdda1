/*
 * Backups on a simulated disk: whatever goes on while one is taken, it opens as exactly one state of the store, the
 * one after the commit that it names; and what it kept from being removed is removed when it is closed.
 */
#include <errno.h>
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

#define COPY "/copy"

/* ---- Storing a backup ---- */

static void directory_make(const struct docdb_os *os, const char *path) {
    int rc = os_mkdir(os, path);
    assert_true(rc == 0 || rc == -EEXIST);
}

/* Makes the directories of a backup's file. */
static void directories_make(const struct docdb_os *os, const char *path) {
    char directory[128];
    directory_make(os, COPY);
    directory_make(os, COPY "/db");
    directory_make(os, COPY "/wal");
    if (strncmp(path, "db/", 3) == 0) {
        (void)snprintf(directory, sizeof directory, "%s/%.11s", COPY, path); /* "db/IIIIIIII" */
        directory_make(os, directory);
    }
}

static void chunk_store(const struct docdb_os *os, const docdb_backup_chunk *chunk) {
    char path[128];
    directories_make(os, chunk->path);
    (void)snprintf(path, sizeof path, "%s/%s", COPY, chunk->path);
    int file = os_open(os, path, OS_WRITE | OS_CREATE | (chunk->offset == 0 ? OS_EXCLUSIVE : 0u));
    assert_true(file >= 0);
    assert_int_equal(os_pwrite(os, file, chunk->data, chunk->bytes, chunk->offset), 0);
    assert_int_equal(os_close(os, file), 0);
}

/* What a backup must say of itself, chunk after chunk. */
struct progress {
    char path[64]; /* of the last chunk */
    uint64_t end;  /* where it ended in its file */
    uint64_t file_bytes;
    uint64_t done_bytes;
    uint64_t total_bytes;
    uint64_t commit_seq;
};

static void progress_check(struct progress *progress, const docdb_backup_chunk *chunk) {
    bool same = strcmp(progress->path, chunk->path) == 0;
    assert_true(chunk->bytes <= DOCDB_BACKUP_CHUNK_BYTES_MAX);
    assert_string_not_equal(progress->path, "MANIFEST"); /* nothing comes behind it: it is one chunk here */
    if (same) {
        assert_int_equal(chunk->offset, progress->end);
    } else {
        assert_int_equal(chunk->offset, 0);
        assert_int_equal(progress->end, progress->file_bytes);
    }
    assert_int_equal(chunk->done_bytes, progress->done_bytes + chunk->bytes);
    if (progress->total_bytes != 0) {
        assert_int_equal(chunk->total_bytes, progress->total_bytes);
        assert_int_equal(chunk->commit_seq, progress->commit_seq);
    }
    (void)snprintf(progress->path, sizeof progress->path, "%s", chunk->path);
    progress->end = chunk->offset + chunk->bytes;
    progress->file_bytes = chunk->file_bytes;
    progress->done_bytes = chunk->done_bytes;
    progress->total_bytes = chunk->total_bytes;
    progress->commit_seq = chunk->commit_seq;
}

/* Stores the next chunk. False: that was all. */
static bool backup_step(const struct docdb_os *os, docdb_backup *backup, struct progress *progress) {
    docdb_backup_chunk chunk;
    int status = docdb_backup_next(backup, &chunk);
    if (status == DOCDB_ERR_END) {
        assert_string_equal(progress->path, "MANIFEST");
        assert_int_equal(progress->done_bytes, progress->total_bytes);
        assert_int_equal(docdb_backup_next(backup, &chunk), DOCDB_ERR_END);
        return false;
    }
    assert_int_equal(status, DOCDB_OK);
    progress_check(progress, &chunk);
    chunk_store(os, &chunk);
    return true;
}

static docdb *copy_open(struct sim_disk *disk, struct test_log *log) {
    docdb *runtime = NULL;
    docdb_error error = {0};
    docdb_options options = {.flags = DOCDB_OPEN_EXISTING,
                             .os = sim_disk_os(disk),
                             .log = test_log_write,
                             .log_arg = log,
                             .wal_limit_bytes = 16u << 20};
    if (docdb_open(COPY, &options, &runtime, &error) != DOCDB_OK) {
        test_log_print(log);
        fail_msg("the backup can't be opened: %s", error.message);
    }
    return runtime;
}

struct removal {
    const struct docdb_os *os;
    const char *directory;
};

static int name_remove(void *arg, const char *name) {
    const struct removal *removal = arg;
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", removal->directory, name);
    if (os_unlink(removal->os, path) != 0) {
        struct removal below = {.os = removal->os, .directory = path};
        (void)os_list(removal->os, path, name_remove, &below);
        assert_int_equal(os_rmdir(removal->os, path), 0);
    }
    return 0;
}

static void copy_remove(struct sim_disk *disk) {
    struct removal removal = {.os = sim_disk_os(disk), .directory = COPY};
    assert_int_equal(os_list(removal.os, COPY, name_remove, &removal), 0);
    assert_int_equal(os_rmdir(removal.os, COPY), 0);
}

/* ---- One thread, with a model ---- */

static void steps_run(struct workload *workload, docdb *runtime, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        int status = workload_step(workload, runtime);
        if (status != DOCDB_OK) {
            fail_msg("%s: %s", workload->last, docdb_error_name(status));
        }
    }
}

/* The copy holds the model, and can be written to as any other. */
static void copy_check(struct sim_disk *disk, struct test_log *log, const struct model *model, uint64_t seed) {
    char why[400];
    docdb_db *db = NULL;
    for (unsigned i = 0; i < 2; i++) {
        docdb *runtime = copy_open(disk, log);
        if (i == 0 && !model_matches(runtime, model, why, sizeof why)) {
            fail_msg("the backup is not the state it was taken of: %s; SEED=%" PRIu64, why, seed);
        }
        assert_int_equal(docdb_db_open(runtime, "more", DOCDB_DB_CREATE, &db), DOCDB_OK);
        assert_int_equal(docdb_put(db, i == 0 ? "a" : "b", "text", 4, NULL), DOCDB_OK);
        docdb_db_close(db);
        docdb_db_info *list = NULL;
        size_t count = 0;
        assert_int_equal(docdb_db_list(runtime, &list, &count), DOCDB_OK);
        docdb_db_list_free(list);
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
    }
    copy_remove(disk);
}

/* Between two chunks the store goes on: transactions, checkpoints, compaction, databases that come and go. */
static void a_backup_is_the_state_of_the_moment_it_was_opened(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    struct sim_disk *disk = sim_disk_create();
    struct test_log log = {0};
    struct workload workload;
    docdb *runtime = NULL;
    workload_init(&workload, seed);
    assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
    for (unsigned round = 0; round < test_rounds(25, 400); round++) {
        docdb_backup *backup = NULL;
        struct progress progress = {0};
        steps_run(&workload, runtime, (unsigned)(sim_random(&workload.random) % 60));
        assert_int_equal(docdb_backup_open(runtime, &backup), DOCDB_OK);
        struct model model = workload.model;
        do {
            steps_run(&workload, runtime, (unsigned)(sim_random(&workload.random) % 40));
        } while (backup_step(sim_disk_os(disk), backup, &progress));
        docdb_backup_close(backup);
        copy_check(disk, &log, &model, seed);
    }
    char why[400];
    assert_true(model_matches(runtime, &workload.model, why, sizeof why));
    assert_int_equal(docdb_close(runtime), DOCDB_OK);
    assert_int_equal(sim_disk_open_files(disk), 0);
    sim_disk_destroy(disk);
}

/* ---- Many threads ---- */

#define THREADS 3
#define TXNS    4000

struct writer {
    docdb_db *db;
    atomic_bool *stop;
    pthread_t thread;
    unsigned number;
    uint64_t count;
    uint64_t commit_seqs[TXNS + 1]; /* of value 1, 2 ... */
};

/* Creations and drops of the database "passing", in order of commit. */
#define PASSINGS_MAX 20000
struct history {
    struct mutex mutex;
    size_t count;
    uint64_t commit_seqs[PASSINGS_MAX];
    bool exists[PASSINGS_MAX];
};

static int history_see(void *arg, const docdb_commit_event *event, docdb_ack *ack) {
    struct history *history = arg;
    docdb_change_kind kind = event->changes[0].kind;
    (void)ack;
    if (kind == DOCDB_CHANGE_DB_CREATE || kind == DOCDB_CHANGE_DB_DROP) {
        mutex_lock(&history->mutex);
        assert_true(history->count < PASSINGS_MAX);
        history->commit_seqs[history->count] = event->commit_seq;
        history->exists[history->count++] = kind == DOCDB_CHANGE_DB_CREATE;
        mutex_unlock(&history->mutex);
    }
    return DOCDB_OBSERVED;
}

static void *writer_main(void *arg) {
    struct writer *writer = arg;
    char id[32];
    (void)snprintf(id, sizeof id, "last-%u", writer->number);
    while (writer->count < TXNS && !atomic_load(writer->stop)) {
        uint64_t value = writer->count + 1;
        if (docdb_put(writer->db, id, &value, sizeof value, &writer->commit_seqs[value]) != DOCDB_OK) {
            break;
        }
        writer->count = value;
    }
    return NULL;
}

struct dropper {
    docdb *runtime;
    atomic_bool *stop;
    pthread_t thread;
    int status;
};

static void *dropper_main(void *arg) {
    struct dropper *dropper = arg;
    for (unsigned i = 0; i < PASSINGS_MAX / 2 && dropper->status == DOCDB_OK && !atomic_load(dropper->stop); i++) {
        docdb_db *db = NULL;
        dropper->status = docdb_db_open(dropper->runtime, "passing", DOCDB_DB_CREATE, &db);
        if (dropper->status == DOCDB_OK) {
            dropper->status = docdb_put(db, "x", "y", 1, NULL);
            docdb_db_close(db);
        }
        if (dropper->status == DOCDB_OK) {
            dropper->status = docdb_db_drop(dropper->runtime, "passing", 0);
        }
    }
    return NULL;
}

static uint64_t value_read(docdb_db *db, unsigned number) {
    char id[32];
    docdb_doc *doc = NULL;
    uint64_t value = 0;
    (void)snprintf(id, sizeof id, "last-%u", number);
    int status = docdb_read(db, id, &doc);
    if (status != DOCDB_ERR_NOT_FOUND) {
        assert_int_equal(status, DOCDB_OK);
        memcpy(&value, docdb_doc_data(doc), sizeof value);
        docdb_doc_release(doc);
    }
    return value;
}

/* One backup, while everybody writes; the writers are stopped before it is looked at. */
static void concurrent_round(struct sim_disk *disk, struct test_log *log, docdb *runtime, struct writer *writers,
                             struct history *history) {
    atomic_bool stop = false;
    docdb_backup *backup = NULL;
    struct progress progress = {0};
    struct dropper dropper = {.runtime = runtime, .stop = &stop};
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].stop = &stop;
        assert_int_equal(thread_start(&writers[i].thread, "writer", writer_main, &writers[i]), 0);
    }
    assert_int_equal(thread_start(&dropper.thread, "dropper", dropper_main, &dropper), 0);
    assert_int_equal(docdb_backup_open(runtime, &backup), DOCDB_OK);
    while (backup_step(sim_disk_os(disk), backup, &progress)) {
        assert_int_equal(docdb_checkpoint(runtime), DOCDB_OK);
    }
    docdb_backup_close(backup);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        thread_join(writers[i].thread);
    }
    thread_join(dropper.thread);
    assert_int_equal(dropper.status, DOCDB_OK);

    docdb *copy = copy_open(disk, log);
    docdb_db *db = NULL;
    assert_int_equal(docdb_db_open(copy, "db", 0, &db), DOCDB_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        uint64_t expected = writers[i].count;
        while (expected > 0 && writers[i].commit_seqs[expected] > progress.commit_seq) {
            expected--;
        }
        assert_int_equal(value_read(db, i), expected);
    }
    docdb_db_close(db);
    bool exists = false;
    for (size_t i = 0; i < history->count && history->commit_seqs[i] <= progress.commit_seq; i++) {
        exists = history->exists[i];
    }
    assert_int_equal(docdb_db_open(copy, "passing", 0, &db), exists ? DOCDB_OK : DOCDB_ERR_NO_DATABASE);
    if (exists) {
        docdb_db_close(db);
    }
    assert_int_equal(docdb_close(copy), DOCDB_OK);
    copy_remove(disk);
}

/* A backup names a commit: of every writer it has what that one had committed up to there, and a database that was
 * dropped right after it is there. */
static void a_backup_holds_every_commit_up_to_its_own_and_none_after_it(void **state) {
    (void)state;
    struct sim_disk *disk = sim_disk_create();
    struct test_log log = {0};
    struct writer *writers = calloc(THREADS, sizeof *writers);
    struct history *history = calloc(1, sizeof *history);
    docdb_observer *observer = NULL;
    docdb *runtime = NULL;
    docdb_db *db = NULL;
    assert_non_null(writers);
    assert_non_null(history);
    mutex_init(&history->mutex);
    assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_db_open(runtime, "db", DOCDB_DB_CREATE, &db), DOCDB_OK);
    assert_int_equal(docdb_observe(runtime, history_see, history, &observer), DOCDB_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i].db = db;
        writers[i].number = i;
    }
    for (unsigned round = 0; round < test_rounds(30, 300); round++) {
        concurrent_round(disk, &log, runtime, writers, history);
    }
    docdb_unobserve(observer);
    docdb_db_close(db);
    assert_int_equal(docdb_close(runtime), DOCDB_OK);
    mutex_fini(&history->mutex);
    free(history);
    free(writers);
    sim_disk_destroy(disk);
}

/* ---- Small stories ---- */

struct fixture {
    struct sim_disk *disk;
    struct test_log log;
    docdb *runtime;
    docdb_db *db;
};

static void fixture_init(struct fixture *fixture) {
    memset(fixture, 0, sizeof *fixture);
    fixture->disk = sim_disk_create();
    assert_int_equal(test_store_open(fixture->disk, &fixture->log, &fixture->runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_db_open(fixture->runtime, "db", DOCDB_DB_CREATE, &fixture->db), DOCDB_OK);
}

static void fixture_fini(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    assert_int_equal(sim_disk_open_files(fixture->disk), 0);
    sim_disk_destroy(fixture->disk);
}

static int name_count(void *arg, const char *name) {
    size_t *count = arg;
    (void)name;
    (*count)++;
    return 0;
}

static size_t files_count(struct fixture *fixture) {
    size_t count = 0;
    (void)os_list(sim_disk_os(fixture->disk), "/data/db/00000001", name_count, &count);
    return count;
}

static void what_a_backup_held_is_removed_when_the_last_one_is_closed(void **state) {
    (void)state;
    struct fixture fixture;
    docdb_backup *first = NULL;
    docdb_backup *second = NULL;
    fixture_init(&fixture);
    assert_int_equal(docdb_put(fixture.db, "a", "text", 4, NULL), DOCDB_OK);
    assert_int_equal(docdb_backup_open(fixture.runtime, &first), DOCDB_OK);
    size_t before = files_count(&fixture);
    assert_int_equal(before, 2);
    /* Dropped and forgotten by a checkpoint: nothing needs the files but the backups. */
    assert_int_equal(docdb_backup_open(fixture.runtime, &second), DOCDB_OK);
    assert_int_equal(docdb_db_drop(fixture.runtime, "db", 0), DOCDB_OK);
    assert_int_equal(docdb_checkpoint(fixture.runtime), DOCDB_OK);
    assert_int_equal(files_count(&fixture), before);
    docdb_backup_close(first);
    assert_int_equal(files_count(&fixture), before);
    struct progress progress = {0};
    while (backup_step(sim_disk_os(fixture.disk), second, &progress)) {
    }
    docdb_backup_close(second);
    while (files_count(&fixture) > 0) {
        sched_yield(); /* the background thread, which was told of the drop, may not have come to it yet */
    }
    fixture_fini(&fixture);
}

static void a_store_without_anything_can_be_backed_up(void **state) {
    (void)state;
    struct sim_disk *disk = sim_disk_create();
    struct test_log log = {0};
    struct progress progress = {0};
    docdb_backup *backup = NULL;
    docdb *runtime = NULL;
    assert_int_equal(test_store_open(disk, &log, &runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_backup_open(runtime, &backup), DOCDB_OK);
    while (backup_step(sim_disk_os(disk), backup, &progress)) {
    }
    docdb_backup_close(backup);
    assert_int_equal(docdb_close(runtime), DOCDB_OK);
    struct model nothing;
    model_init(&nothing);
    copy_check(disk, &log, &nothing, 0);
    sim_disk_destroy(disk);
}

static void a_file_that_cannot_be_read_is_an_error_and_the_next_call_tries_again(void **state) {
    (void)state;
    struct fixture fixture;
    struct progress progress = {0};
    docdb_backup *backup = NULL;
    docdb_backup_chunk chunk;
    fixture_init(&fixture);
    assert_int_equal(docdb_put(fixture.db, "a", "text", 4, NULL), DOCDB_OK);
    assert_int_equal(docdb_backup_open(fixture.runtime, &backup), DOCDB_OK);
    sim_disk_fault(fixture.disk, &(struct sim_fault){.kinds = SIM_READ, .path = ".seg", .count = 1, .error = EIO});
    assert_int_equal(docdb_backup_next(backup, &chunk), DOCDB_ERR_IO);
    while (backup_step(sim_disk_os(fixture.disk), backup, &progress)) {
    }
    docdb_backup_close(backup);
    fixture_fini(&fixture);
}

static void a_checkpoint_that_fails_is_the_error_of_opening(void **state) {
    (void)state;
    struct fixture fixture;
    docdb_backup *backup = NULL;
    fixture_init(&fixture);
    assert_int_equal(docdb_put(fixture.db, "a", "text", 4, NULL), DOCDB_OK);
    sim_disk_fault(fixture.disk, &(struct sim_fault){.kinds = SIM_SYNC, .path = ".seg", .count = 1, .error = EIO});
    assert_int_equal(docdb_backup_open(fixture.runtime, &backup), DOCDB_ERR_IO);
    assert_null(backup);
    assert_int_equal(docdb_backup_open(fixture.runtime, &backup), DOCDB_OK);
    docdb_backup_close(backup);
    fixture_fini(&fixture);
}

static void too_many_backups_at_once_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    docdb_backup *backups[64] = {0};
    size_t count = 0;
    int status = DOCDB_OK;
    fixture_init(&fixture);
    while (status == DOCDB_OK && count < 64) {
        status = docdb_backup_open(fixture.runtime, &backups[count]);
        count += status == DOCDB_OK;
    }
    assert_int_equal(status, DOCDB_ERR_BUSY);
    docdb_backup_close(backups[--count]);
    assert_int_equal(docdb_backup_open(fixture.runtime, &backups[count]), DOCDB_OK);
    for (size_t i = 0; i <= count; i++) {
        docdb_backup_close(backups[i]);
    }
    fixture_fini(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_is_the_state_of_the_moment_it_was_opened),
        cmocka_unit_test(a_backup_holds_every_commit_up_to_its_own_and_none_after_it),
        cmocka_unit_test(what_a_backup_held_is_removed_when_the_last_one_is_closed),
        cmocka_unit_test(a_store_without_anything_can_be_backed_up),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_error_and_the_next_call_tries_again),
        cmocka_unit_test(a_checkpoint_that_fails_is_the_error_of_opening),
        cmocka_unit_test(too_many_backups_at_once_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
