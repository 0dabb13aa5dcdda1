/* What a user of the embedded store may rely on, verb by verb, before and after a restart. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "docdb.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/temp.h"

struct fixture {
    char *directory;
    char *data;
    docdb *runtime;
    docdb_db *db;
};

static void quiet_log(void *arg, docdb_log_level level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

static const docdb_options options = {.log = quiet_log};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->directory = temp_make();
    fixture->data = temp_path(fixture->directory, "data");
    docdb_error error = {0};
    if (docdb_open(fixture->data, &options, &fixture->runtime, &error) != DOCDB_OK) {
        fprintf(stderr, "%s\n", error.message);
        return -1;
    }
    *state = fixture;
    return docdb_db_open(fixture->runtime, "db", DOCDB_DB_CREATE, &fixture->db);
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    docdb_db_close(fixture->db);
    int status = docdb_close(fixture->runtime);
    free(fixture->data);
    temp_remove(fixture->directory);
    free(fixture);
    return status;
}

/* Closes (which checkpoints) and opens again. */
static void restart(struct fixture *fixture) {
    docdb_db_close(fixture->db);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    assert_int_equal(docdb_open(fixture->data, &options, &fixture->runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_db_open(fixture->runtime, "db", 0, &fixture->db), DOCDB_OK);
}

static void check_document(docdb_db *db, const char *id, const char *expected) {
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_read(db, id, &doc), DOCDB_OK);
    assert_int_equal(docdb_doc_bytes(doc), strlen(expected));
    assert_memory_equal(docdb_doc_data(doc), expected, strlen(expected));
    docdb_doc_release(doc);
}

static void check_missing(docdb_db *db, const char *id) {
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_read(db, id, &doc), DOCDB_ERR_NOT_FOUND);
}

static void put(docdb_db *db, const char *id, const char *text) {
    assert_int_equal(docdb_put(db, id, text, strlen(text), NULL), DOCDB_OK);
}

static void preconditions_of_single_writes_hold(void **state) {
    docdb_db *db = ((struct fixture *)*state)->db;
    uint64_t v1 = 0;
    uint64_t v2 = 0;
    assert_int_equal(docdb_update(db, "a", "x", 1, NULL), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(docdb_delete(db, "a", NULL), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(docdb_create(db, "a", "one", 3, &v1), DOCDB_OK);
    assert_int_equal(docdb_create(db, "a", "two", 3, NULL), DOCDB_ERR_EXISTS);
    check_document(db, "a", "one");
    assert_int_equal(docdb_update(db, "a", "two", 3, &v2), DOCDB_OK);
    assert_true(v2 > v1);
    check_document(db, "a", "two");
    assert_int_equal(docdb_put_if(db, "a", v1, "three", 5, NULL), DOCDB_ERR_CONFLICT);
    assert_int_equal(docdb_put_if(db, "a", 0, "three", 5, NULL), DOCDB_ERR_CONFLICT);
    check_document(db, "a", "two");
    assert_int_equal(docdb_put_if(db, "a", v2, "three", 5, &v1), DOCDB_OK);
    assert_int_equal(docdb_put_if(db, "b", 0, "new", 3, NULL), DOCDB_OK);
    assert_int_equal(docdb_delete_if(db, "a", v2, NULL), DOCDB_ERR_CONFLICT);
    assert_int_equal(docdb_delete_if(db, "a", 0, NULL), DOCDB_ERR_INVALID);
    assert_int_equal(docdb_delete_if(db, "a", v1, NULL), DOCDB_OK);
    check_missing(db, "a");
    check_document(db, "b", "new");
}

static void documents_survive_a_restart(void **state) {
    struct fixture *fixture = *state;
    put(fixture->db, "a", "alpha");
    put(fixture->db, "empty", "");
    put(fixture->db, "gone", "x");
    assert_int_equal(docdb_delete(fixture->db, "gone", NULL), DOCDB_OK);
    docdb_info before;
    docdb_db_info db_before;
    assert_int_equal(docdb_stat(fixture->db, "a", &before), DOCDB_OK);
    assert_int_equal(docdb_db_stat(fixture->db, &db_before), DOCDB_OK);
    for (int round = 0; round < 3; round++) {
        restart(fixture);
        docdb_info after;
        docdb_db_info db_after;
        assert_int_equal(docdb_db_stat(fixture->db, &db_after), DOCDB_OK);
        assert_int_equal(db_before.documents, db_after.documents);
        assert_int_equal(db_before.document_bytes, db_after.document_bytes);
        assert_int_equal(db_before.change_time_ns, db_after.change_time_ns);
        assert_int_equal(docdb_stat(fixture->db, "a", &after), DOCDB_OK);
        assert_memory_equal(&before, &after, sizeof before);
        check_document(fixture->db, "a", "alpha");
        check_document(fixture->db, "empty", "");
        check_missing(fixture->db, "gone");
    }
    put(fixture->db, "a", "beta");
    restart(fixture);
    check_document(fixture->db, "a", "beta");
}

static void a_transaction_reads_its_own_writes_and_nobody_elses(void **state) {
    docdb_db *db = ((struct fixture *)*state)->db;
    put(db, "a", "1");
    docdb_txn *txn = NULL;
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
    put(db, "a", "2");
    put(db, "new", "x");
    assert_int_equal(docdb_txn_read(txn, "a", &doc), DOCDB_OK);
    assert_memory_equal(docdb_doc_data(doc), "1", 1);
    docdb_doc_release(doc);
    assert_int_equal(docdb_txn_read(txn, "new", &doc), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(docdb_txn_put(txn, "b", "own", 3), DOCDB_OK);
    assert_int_equal(docdb_txn_read(txn, "b", &doc), DOCDB_OK);
    assert_int_equal(docdb_doc_info(doc)->version, 0);
    docdb_doc_release(doc);
    check_missing(db, "b");
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    check_document(db, "b", "own");
    check_document(db, "a", "2");
}

static void the_first_committer_wins(void **state) {
    docdb_db *db = ((struct fixture *)*state)->db;
    put(db, "a", "0");
    docdb_txn *first = NULL;
    docdb_txn *second = NULL;
    assert_int_equal(docdb_begin(db, 0, &first), DOCDB_OK);
    assert_int_equal(docdb_begin(db, 0, &second), DOCDB_OK);
    assert_int_equal(docdb_txn_put(first, "a", "1", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_put(first, "x", "1", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_put(second, "y", "2", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_put(second, "a", "2", 1), DOCDB_OK);
    assert_int_equal(docdb_commit(first, NULL), DOCDB_OK);
    assert_int_equal(docdb_commit(second, NULL), DOCDB_ERR_CONFLICT);
    check_document(db, "a", "1");
    check_missing(db, "y");
}

static void a_transaction_that_fails_leaves_nothing(void **state) {
    struct fixture *fixture = *state;
    docdb_db *db = fixture->db;
    docdb_txn *txn = NULL;
    docdb_stats before;
    docdb_stats after;
    put(db, "exists", "old");
    put(db, "other", "old");
    assert_int_equal(docdb_get_stats(fixture->runtime, &before), DOCDB_OK);
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "new", "n", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "other", "changed", 7), DOCDB_OK);
    assert_int_equal(docdb_txn_delete(txn, "other"), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "other", "again", 5), DOCDB_OK);
    assert_int_equal(docdb_txn_create(txn, "exists", "e", 1), DOCDB_OK);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_ERR_EXISTS);
    assert_int_equal(docdb_get_stats(fixture->runtime, &after), DOCDB_OK);
    assert_int_equal(before.documents, after.documents);
    assert_int_equal(before.document_bytes, after.document_bytes);
    check_missing(db, "new");
    check_document(db, "other", "old");
    check_document(db, "exists", "old");
    restart(fixture);
    check_missing(fixture->db, "new");
    check_document(fixture->db, "other", "old");
}

static void several_writes_of_one_document_in_a_transaction_end_as_the_last(void **state) {
    struct fixture *fixture = *state;
    docdb_txn *txn = NULL;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(docdb_begin(fixture->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "a", "1", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_delete(txn, "a"), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "a", "2", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "b", "3", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_delete(txn, "b"), DOCDB_OK);
        assert_int_equal(docdb_txn_delete(txn, "b"), DOCDB_OK);
        assert_int_equal(docdb_commit(txn, NULL), DOCDB_ERR_NOT_FOUND);
        assert_int_equal(docdb_begin(fixture->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "a", "1", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_delete(txn, "a"), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "a", "2", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, "b", "3", 1), DOCDB_OK);
        assert_int_equal(docdb_txn_delete(txn, "b"), DOCDB_OK);
        assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
        check_document(fixture->db, "a", "2");
        check_missing(fixture->db, "b");
    }
    restart(fixture);
    check_document(fixture->db, "a", "2");
    check_missing(fixture->db, "b");
}

static int rename_one(docdb_db *db, const char *from, const char *to, unsigned flags) {
    docdb_txn *txn = NULL;
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    int status = docdb_txn_rename(txn, from, to, flags);
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        return status;
    }
    return docdb_commit(txn, NULL);
}

static void renames_move_replace_and_exchange(void **state) {
    struct fixture *fixture = *state;
    put(fixture->db, "a", "A");
    put(fixture->db, "b", "B");
    restart(fixture); /* so that the documents are on disk, not in memory */
    docdb_db *db = fixture->db;
    assert_int_equal(rename_one(db, "a", "b", DOCDB_RENAME_NOREPLACE), DOCDB_ERR_EXISTS);
    assert_int_equal(rename_one(db, "a", "c", DOCDB_RENAME_EXCHANGE), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(rename_one(db, "none", "c", 0), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(rename_one(db, "a", "b", DOCDB_RENAME_EXCHANGE), DOCDB_OK);
    check_document(db, "a", "B");
    check_document(db, "b", "A");
    assert_int_equal(rename_one(db, "a", "a", 0), DOCDB_OK);
    assert_int_equal(rename_one(db, "a", "b", 0), DOCDB_OK);
    check_missing(db, "a");
    check_document(db, "b", "B");
    assert_int_equal(rename_one(db, "b", "c", DOCDB_RENAME_NOREPLACE), DOCDB_OK);
    for (int round = 0; round < 2; round++) {
        restart(fixture);
        check_missing(fixture->db, "b");
        check_document(fixture->db, "c", "B");
    }
}

static void a_time_that_is_set_stays(void **state) {
    struct fixture *fixture = *state;
    docdb_txn *txn = NULL;
    docdb_info info;
    assert_int_equal(docdb_begin(fixture->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", "text", 4), DOCDB_OK);
    assert_int_equal(docdb_txn_set_mtime(txn, "a", 1234567890123456789), DOCDB_OK);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    assert_int_equal(rename_one(fixture->db, "a", "b", 0), DOCDB_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(docdb_stat(fixture->db, "b", &info), DOCDB_OK);
        assert_int_equal(info.mtime_ns, 1234567890123456789);
        assert_int_equal(info.bytes, 4);
        restart(fixture);
    }
    put(fixture->db, "b", "new");
    assert_int_equal(docdb_stat(fixture->db, "b", &info), DOCDB_OK);
    assert_int_equal(info.mtime_ns, info.commit_time_ns);
}

static void a_pinned_document_stays_as_it_is(void **state) {
    struct fixture *fixture = *state;
    docdb_doc *doc = NULL;
    put(fixture->db, "a", "before");
    assert_int_equal(docdb_read(fixture->db, "a", &doc), DOCDB_OK);
    put(fixture->db, "a", "after!");
    assert_int_equal(docdb_delete(fixture->db, "a", NULL), DOCDB_OK);
    assert_int_equal(docdb_checkpoint(fixture->runtime), DOCDB_OK);
    assert_memory_equal(docdb_doc_data(doc), "before", 6);
    docdb_doc_release(doc);
}

static void scans_are_in_order_over_one_snapshot(void **state) {
    struct fixture *fixture = *state;
    docdb_db *db = fixture->db;
    char id[16];
    for (int i = 999; i >= 0; i--) {
        (void)snprintf(id, sizeof id, "k%03d", i);
        put(db, id, id);
    }
    for (int round = 0; round < 2; round++) {
        docdb_scan *scan = NULL;
        docdb_entry entry;
        assert_int_equal(docdb_scan_open(fixture->db, &(docdb_scan_options){.flags = DOCDB_SCAN_DOCS}, &scan),
                         DOCDB_OK);
        put(fixture->db, "a-later", "x");
        assert_int_equal(docdb_delete(fixture->db, "k500", NULL), DOCDB_OK);
        for (int i = 0; i < 1000; i++) {
            (void)snprintf(id, sizeof id, "k%03d", i);
            assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
            assert_string_equal(entry.id, id);
            assert_memory_equal(docdb_doc_data(entry.doc), id, 4);
        }
        assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
        docdb_scan_close(scan);
        put(fixture->db, "k500", "k500");
        assert_int_equal(docdb_delete(fixture->db, "a-later", NULL), DOCDB_OK);
        docdb_scan_options some = {.prefix = "k12", .after = "k123", .limit = 3};
        assert_int_equal(docdb_scan_open(fixture->db, &some, &scan), DOCDB_OK);
        for (int i = 124; i < 127; i++) {
            (void)snprintf(id, sizeof id, "k%03d", i);
            assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
            assert_string_equal(entry.id, id);
        }
        assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
        docdb_scan_close(scan);
        restart(fixture);
    }
}

static void a_transaction_scans_its_own_writes(void **state) {
    docdb_db *db = ((struct fixture *)*state)->db;
    put(db, "b", "old");
    put(db, "d", "old");
    put(db, "f", "old");
    docdb_txn *txn = NULL;
    docdb_scan *scan = NULL;
    docdb_entry entry;
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", "n", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "d", "changed", 7), DOCDB_OK);
    assert_int_equal(docdb_txn_delete(txn, "b"), DOCDB_OK);
    assert_int_equal(docdb_txn_rename(txn, "f", "g", 0), DOCDB_OK);
    assert_int_equal(docdb_txn_scan(txn, NULL, &scan), DOCDB_OK);
    const char *ids[] = {"a", "d", "g"};
    const uint64_t sizes[] = {1, 7, 3};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
        assert_string_equal(entry.id, ids[i]);
        assert_int_equal(entry.info.bytes, sizes[i]);
    }
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
    docdb_scan_close(scan);
    docdb_abort(txn);
    check_document(db, "f", "old");
}

static void bad_ids_and_names_are_refused(void **state) {
    struct fixture *fixture = *state;
    char id[258];
    memset(id, 'x', 256);
    id[256] = '\0';
    const char *bad[] = {"", ".", "..", "a/b", id};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        docdb_info info;
        assert_int_equal(docdb_put(fixture->db, bad[i], "x", 1, NULL), DOCDB_ERR_BAD_ID);
        assert_int_equal(docdb_stat(fixture->db, bad[i], &info), DOCDB_ERR_BAD_ID);
    }
    id[255] = '\0';
    put(fixture->db, id, "longest");
    put(fixture->db, "...", "three dots");
    put(fixture->db, "\xff\n \t", "any bytes");
    restart(fixture);
    check_document(fixture->db, id, "longest");
    check_document(fixture->db, "...", "three dots");
    check_document(fixture->db, "\xff\n \t", "any bytes");
    docdb_db *db = NULL;
    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    const char *bad_names[] = {"", ".hidden", "a b", "a/b", "\xc3\xa9", name};
    for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++) {
        assert_int_equal(docdb_db_open(fixture->runtime, bad_names[i], DOCDB_DB_CREATE, &db), DOCDB_ERR_BAD_NAME);
    }
}

static void limits_are_kept(void **state) {
    struct fixture *fixture = *state;
    docdb_db_close(fixture->db);
    assert_int_equal(docdb_close(fixture->runtime), DOCDB_OK);
    docdb_options small = {.log = quiet_log, .max_doc_bytes = 1000, .max_txn_bytes = 1500, .txn_timeout_ms = 1};
    assert_int_equal(docdb_open(fixture->data, &small, &fixture->runtime, NULL), DOCDB_OK);
    assert_int_equal(docdb_db_open(fixture->runtime, "db", 0, &fixture->db), DOCDB_OK);
    char bytes[1001] = {0};
    assert_int_equal(docdb_put(fixture->db, "a", bytes, 1001, NULL), DOCDB_ERR_DOC_TOO_LARGE);
    assert_int_equal(docdb_put(fixture->db, "a", bytes, 1000, NULL), DOCDB_OK);
    docdb_txn *txn = NULL;
    assert_int_equal(docdb_begin(fixture->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", bytes, 1000), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "b", bytes, 1000), DOCDB_ERR_TXN_TOO_LARGE);
    docdb_abort(txn);
    assert_int_equal(docdb_begin(fixture->db, 0, &txn), DOCDB_OK);
    (void)usleep(5000);
    assert_int_equal(docdb_txn_put(txn, "a", bytes, 1), DOCDB_ERR_TXN_TIMEOUT);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_ERR_TXN_TIMEOUT);
}

static void databases_are_created_listed_and_dropped(void **state) {
    struct fixture *fixture = *state;
    docdb_db *one = NULL;
    docdb_db *two = NULL;
    docdb_db_info *list = NULL;
    size_t count = 0;
    assert_int_equal(docdb_db_open(fixture->runtime, "one", 0, &one), DOCDB_ERR_NO_DATABASE);
    assert_int_equal(docdb_db_open(fixture->runtime, "one", DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &one), DOCDB_OK);
    assert_int_equal(docdb_db_open(fixture->runtime, "one", DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &two),
                     DOCDB_ERR_DATABASE_EXISTS);
    assert_int_equal(docdb_db_open(fixture->runtime, "one", DOCDB_DB_CREATE | DOCDB_DB_READ_ONLY, &two), DOCDB_OK);
    put(one, "x", "in one");
    assert_int_equal(docdb_put(two, "x", "", 0, NULL), DOCDB_ERR_READ_ONLY);
    check_document(two, "x", "in one");
    check_missing(fixture->db, "x");
    assert_int_equal(docdb_db_list(fixture->runtime, &list, &count), DOCDB_OK);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].name, "db");
    assert_string_equal(list[1].name, "one");
    assert_int_equal(list[1].documents, 1);
    assert_int_equal(list[1].document_bytes, 6);
    docdb_db_list_free(list);
    assert_int_equal(docdb_db_drop(fixture->runtime, "one", DOCDB_DROP_IF_EMPTY), DOCDB_ERR_NOT_EMPTY);
    assert_int_equal(docdb_db_drop(fixture->runtime, "one", 0), DOCDB_OK);
    assert_int_equal(docdb_db_drop(fixture->runtime, "one", 0), DOCDB_ERR_NO_DATABASE);
    assert_int_equal(docdb_put(one, "x", "", 0, NULL), DOCDB_ERR_NO_DATABASE);
    docdb_db_close(one);
    docdb_db_close(two);
    /* The same name again holds nothing old, now and after a restart. */
    assert_int_equal(docdb_db_open(fixture->runtime, "one", DOCDB_DB_CREATE, &one), DOCDB_OK);
    check_missing(one, "x");
    docdb_db_close(one);
    restart(fixture);
    assert_int_equal(docdb_db_open(fixture->runtime, "one", 0, &one), DOCDB_OK);
    check_missing(one, "x");
    docdb_db_close(one);
}

static void a_second_process_is_told_the_owner(void **state) {
    struct fixture *fixture = *state;
    char expected[64];
    (void)snprintf(expected, sizeof expected, "process %ld", (long)getpid());
    pid_t child = fork();
    if (child == 0) {
        docdb *runtime = NULL;
        docdb_error error = {0};
        int status = docdb_open(fixture->data, &options, &runtime, &error);
        _exit(status == DOCDB_ERR_LOCKED && error.status == status && strstr(error.message, expected) != NULL ? 0
                                                                                                              : 1);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

static void a_directory_that_is_no_store_is_left_alone(void **state) {
    struct fixture *fixture = *state;
    docdb *runtime = NULL;
    docdb_error error = {0};
    char *home = temp_path(fixture->directory, "home");
    char *file = temp_path(home, "letter.txt");
    assert_int_equal(mkdir(home, 0700), 0);
    FILE *letter = fopen(file, "w");
    assert_non_null(letter);
    fclose(letter);
    assert_int_equal(docdb_open(home, &options, &runtime, &error), DOCDB_ERR_NO_DIRECTORY);
    assert_non_null(strstr(error.message, "letter.txt"));
    assert_int_equal(docdb_open(file, &options, &runtime, &error), DOCDB_ERR_NO_DIRECTORY);
    char *missing = temp_path(fixture->directory, "no/such");
    assert_int_equal(docdb_open(missing, &options, &runtime, &error), DOCDB_ERR_NO_DIRECTORY);
    free(missing);
    missing = temp_path(fixture->directory, "nothing");
    docdb_options existing = {.log = quiet_log, .flags = DOCDB_OPEN_EXISTING};
    assert_int_equal(docdb_open(missing, &existing, &runtime, &error), DOCDB_ERR_NO_DIRECTORY);
    assert_int_equal(access(missing, F_OK), -1);
    free(missing);
    free(file);
    free(home);
}

struct seen {
    uint64_t last_seq;
    size_t puts;
    size_t deletes;
    size_t created;
    docdb_ack *later;
};

static int see(void *arg, const docdb_commit_event *event, docdb_ack *ack) {
    struct seen *seen = arg;
    assert_true(event->commit_seq > seen->last_seq);
    seen->last_seq = event->commit_seq;
    for (size_t i = 0; i < event->change_count; i++) {
        seen->puts += event->changes[i].kind == DOCDB_CHANGE_PUT;
        seen->deletes += event->changes[i].kind == DOCDB_CHANGE_DELETE;
        seen->created += event->changes[i].kind == DOCDB_CHANGE_PUT && event->changes[i].created;
    }
    if (event->origin == seen) {
        seen->later = ack;
        return DOCDB_OBSERVE_LATER;
    }
    return DOCDB_OBSERVED;
}

static void note_done(void *arg, int status, uint64_t commit_seq) {
    (void)commit_seq;
    *(_Atomic int *)arg = status == DOCDB_OK ? 1 : 2;
}

static void a_commit_waits_for_its_observers(void **state) {
    struct fixture *fixture = *state;
    struct seen seen = {0};
    docdb_observer *observer = NULL;
    docdb_txn *txn = NULL;
    _Atomic int done = 0;
    assert_int_equal(docdb_observe(fixture->runtime, see, &seen, &observer), DOCDB_OK);
    put(fixture->db, "a", "1");
    put(fixture->db, "a", "2");
    assert_int_equal(rename_one(fixture->db, "a", "b", 0), DOCDB_OK);
    assert_int_equal(seen.puts, 3);
    assert_int_equal(seen.created, 2);
    assert_int_equal(seen.deletes, 1);
    assert_int_equal(docdb_begin(fixture->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "slow", "x", 1), DOCDB_OK);
    docdb_txn_set_origin(txn, &seen);
    docdb_commit_async(txn, note_done, &done);
    put(fixture->db, "quick", "y"); /* later in the log, acknowledged before */
    check_document(fixture->db, "slow", "x");
    assert_int_equal(done, 0);
    docdb_ack_release(seen.later);
    assert_int_equal(done, 1);
    docdb_unobserve(observer);
    put(fixture->db, "a", "3");
    assert_int_equal(seen.puts, 5);
}

static void documents_of_every_size_survive(void **state) {
    struct fixture *fixture = *state;
    static const size_t sizes[] = {0, 1, 7, 8, 4095, 4096, 4097, 65536, 1 << 20, (8 << 20) + 13};
    char *bytes = malloc((8 << 20) + 13);
    for (size_t i = 0; i < (8 << 20) + 13; i++) {
        bytes[i] = (char)(i * 2654435761u >> 13);
    }
    char id[16];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)snprintf(id, sizeof id, "%zu", sizes[i]);
        assert_int_equal(docdb_put(fixture->db, id, bytes, sizes[i], NULL), DOCDB_OK);
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            docdb_doc *doc = NULL;
            (void)snprintf(id, sizeof id, "%zu", sizes[i]);
            assert_int_equal(docdb_read(fixture->db, id, &doc), DOCDB_OK);
            assert_int_equal(docdb_doc_bytes(doc), sizes[i]);
            assert_memory_equal(docdb_doc_data(doc), bytes, sizes[i]);
            docdb_doc_release(doc);
        }
        restart(fixture);
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(preconditions_of_single_writes_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(documents_survive_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_reads_its_own_writes_and_nobody_elses, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_committer_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_that_fails_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(several_writes_of_one_document_in_a_transaction_end_as_the_last, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(renames_move_replace_and_exchange, setup, teardown),
        cmocka_unit_test_setup_teardown(a_time_that_is_set_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pinned_document_stays_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(scans_are_in_order_over_one_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_scans_its_own_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_ids_and_names_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(databases_are_created_listed_and_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_process_is_told_the_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_that_is_no_store_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_waits_for_its_observers, setup, teardown),
        cmocka_unit_test_setup_teardown(documents_of_every_size_survive, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
