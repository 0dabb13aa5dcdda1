/*
 * docdb.h over a socket: every verb answers as the embedded engine does, from several threads at once, blocking and
 * pipelined. Engine, server and client run in this process, with a real socket between them.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/event.h"
#include "base/thread.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/socket_fixture.h"

struct test {
    struct fixture fixture;
    docdb *client;
    docdb_db *db;
};

static int setup(void **state) {
    struct test *test = calloc(1, sizeof *test);
    assert_non_null(test);
    fixture_open(&test->fixture);
    test->client = fixture_connect(&test->fixture);
    test->db = open_db(test->client, "notes");
    *state = test;
    return 0;
}

static int teardown(void **state) {
    struct test *test = *state;
    docdb_db_close(test->db);
    assert_int_equal(docdb_close(test->client), DOCDB_OK);
    fixture_close(&test->fixture);
    free(test);
    return 0;
}

/* ---- One operation at a time ---- */

static void writes_answer_as_embedded(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    uint64_t first = 0;
    uint64_t second = 0;
    docdb_info info;
    assert_int_equal(docdb_create(db, "a", "one", 3, &first), DOCDB_OK);
    assert_true(first > 0);
    assert_int_equal(docdb_create(db, "a", "two", 3, NULL), DOCDB_ERR_EXISTS);
    assert_reads(db, "a", "one");
    assert_int_equal(docdb_update(db, "a", "three", 5, &second), DOCDB_OK);
    assert_true(second > first);
    assert_int_equal(docdb_update(db, "b", "x", 1, NULL), DOCDB_ERR_NOT_FOUND);
    assert_reads(db, "a", "three");
    assert_int_equal(docdb_stat(db, "a", &info), DOCDB_OK);
    assert_true(info.version == second);
    assert_int_equal(info.bytes, 5);
    assert_true(info.commit_time_ns > 0);
    assert_int_equal(docdb_put(db, "empty", NULL, 0, NULL), DOCDB_OK);
    assert_reads(db, "empty", "");

    assert_int_equal(docdb_put_if(db, "a", first, "no", 2, NULL), DOCDB_ERR_CONFLICT);
    assert_int_equal(docdb_put_if(db, "a", second, "yes", 3, &first), DOCDB_OK);
    assert_int_equal(docdb_put_if(db, "new", 0, "n", 1, NULL), DOCDB_OK);
    assert_int_equal(docdb_put_if(db, "new", 0, "n", 1, NULL), DOCDB_ERR_CONFLICT);
    assert_int_equal(docdb_delete_if(db, "a", second, NULL), DOCDB_ERR_CONFLICT);
    assert_int_equal(docdb_delete_if(db, "a", first, NULL), DOCDB_OK);
    assert_missing(db, "a");
    assert_int_equal(docdb_delete(db, "a", NULL), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(docdb_delete(db, "new", NULL), DOCDB_OK);
    assert_int_equal(docdb_stat(db, "new", &info), DOCDB_ERR_NOT_FOUND);
}

static void ids_of_every_byte_survive(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    char id[DOCDB_ID_BYTES_MAX + 1];
    size_t bytes = 0;
    for (int c = 1; c <= 255; c++) {
        if (c != '/') {
            id[bytes++] = (char)c;
        }
    }
    id[bytes++] = 'x';
    id[bytes] = '\0';
    assert_int_equal(bytes, DOCDB_ID_BYTES_MAX);
    assert_put(db, id, "odd");
    assert_reads(db, id, "odd");
    assert_int_equal(docdb_put(db, "a/b", "x", 1, NULL), DOCDB_ERR_BAD_ID);
}

static void databases_answer_as_embedded(void **state) {
    struct test *test = *state;
    docdb_db *db = NULL;
    docdb_db_info info;
    docdb_db_info *list = NULL;
    size_t count = 0;
    assert_int_equal(docdb_db_open(test->client, "other", 0, &db), DOCDB_ERR_NO_DATABASE);
    assert_int_equal(docdb_db_open(test->client, ".bad", DOCDB_DB_CREATE, &db), DOCDB_ERR_BAD_NAME);
    assert_int_equal(docdb_db_open(test->client, "notes", DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &db),
                     DOCDB_ERR_DATABASE_EXISTS);
    db = open_db(test->client, "other");
    assert_put(db, "a", "12345");
    assert_int_equal(docdb_db_stat(db, &info), DOCDB_OK);
    assert_string_equal(info.name, "other");
    assert_int_equal(info.documents, 1);
    assert_int_equal(info.document_bytes, 5);
    assert_int_equal(docdb_db_list(test->client, &list, &count), DOCDB_OK);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].name, "notes");
    assert_string_equal(list[1].name, "other");
    assert_int_equal(list[1].documents, 1);
    docdb_db_list_free(list);

    docdb_db *read_only = NULL;
    assert_int_equal(docdb_db_open(test->client, "other", DOCDB_DB_READ_ONLY, &read_only), DOCDB_OK);
    assert_int_equal(docdb_put(read_only, "b", "x", 1, NULL), DOCDB_ERR_READ_ONLY);
    assert_reads(read_only, "a", "12345");
    docdb_db_close(read_only);

    assert_int_equal(docdb_db_drop(test->client, "other", DOCDB_DROP_IF_EMPTY), DOCDB_ERR_NOT_EMPTY);
    assert_int_equal(docdb_db_drop(test->client, "other", 0), DOCDB_OK);
    assert_int_equal(docdb_db_drop(test->client, "other", 0), DOCDB_ERR_NO_DATABASE);
    assert_int_equal(docdb_put(db, "b", "x", 1, NULL), DOCDB_ERR_NO_DATABASE);
    docdb_db_close(db);
}

static void limits_and_stats_are_the_servers(void **state) {
    struct test *test = *state;
    docdb_limits here;
    docdb_limits there;
    docdb_stats stats;
    docdb_get_limits(test->client, &here);
    docdb_get_limits(test->fixture.engine, &there);
    assert_memory_equal(&here, &there, sizeof here);
    assert_put(test->db, "a", "12");
    assert_int_equal(docdb_checkpoint(test->client), DOCDB_OK);
    assert_int_equal(docdb_get_stats(test->client, &stats), DOCDB_OK);
    assert_int_equal(stats.databases, 1);
    assert_int_equal(stats.documents, 1);
    assert_int_equal(stats.document_bytes, 2);
    assert_true(stats.checkpoints >= 1);
    assert_int_equal(stats.read_only, 0);
    assert_string_equal(stats.read_only_reason, "");
}

static int never_called(void *arg, const docdb_commit_event *event, docdb_ack *ack) {
    (void)arg;
    (void)event;
    (void)ack;
    fail_msg("an observer over a socket was called");
    return DOCDB_OBSERVED;
}

static void observers_are_unsupported(void **state) {
    struct test *test = *state;
    docdb_observer *observer = NULL;
    assert_int_equal(docdb_observe(test->client, never_called, NULL, &observer), DOCDB_ERR_UNSUPPORTED);
}

static void large_document_survives_both_ways(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    const size_t bytes = (20u << 20) + 7;
    unsigned char *data = malloc(bytes);
    assert_non_null(data);
    uint32_t value = 1;
    for (size_t i = 0; i < bytes; i++) {
        value = value * 1664525u + 1013904223u;
        data[i] = (unsigned char)(value >> 24);
    }
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_put(db, "large", data, bytes, NULL), DOCDB_OK);
    assert_int_equal(docdb_read(db, "large", &doc), DOCDB_OK);
    assert_int_equal(docdb_doc_bytes(doc), bytes);
    assert_int_equal(memcmp(docdb_doc_data(doc), data, bytes), 0);
    docdb_doc_release(doc);

    docdb_scan *scan = NULL;
    docdb_entry entry;
    assert_put(db, "larger", "small, behind the large one");
    assert_int_equal(docdb_scan_open(db, &(docdb_scan_options){.flags = DOCDB_SCAN_DOCS}, &scan), DOCDB_OK);
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
    assert_string_equal(entry.id, "large");
    assert_int_equal(docdb_doc_bytes(entry.doc), bytes);
    assert_int_equal(memcmp(docdb_doc_data(entry.doc), data, bytes), 0);
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
    assert_string_equal(entry.id, "larger");
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
    docdb_scan_close(scan);
    free(data);
}

static void document_over_the_limit_is_refused_and_the_connection_lives(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    char *data = calloc(1, DOCDB_DOC_BYTES_DEFAULT + 1);
    assert_non_null(data);
    docdb_txn *txn = NULL;
    assert_int_equal(docdb_put(db, "a", data, DOCDB_DOC_BYTES_DEFAULT + 1, NULL), DOCDB_ERR_DOC_TOO_LARGE);
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", data, DOCDB_DOC_BYTES_DEFAULT + 1), DOCDB_ERR_DOC_TOO_LARGE);
    docdb_abort(txn);
    assert_int_equal(docdb_put(db, "a", data, DOCDB_DOC_BYTES_DEFAULT, NULL), DOCDB_OK);
    free(data);
}

/* ---- Transactions ---- */

static void batch_commits_as_a_whole_or_not_at_all(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_txn *txn = NULL;
    docdb_info info;
    uint64_t seq = 0;
    assert_put(db, "old", "old");
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", "1", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_create(txn, "b", "2", 1), DOCDB_OK);
    assert_int_equal(docdb_txn_rename(txn, "old", "new", 0), DOCDB_OK);
    assert_int_equal(docdb_txn_set_mtime(txn, "new", 12345), DOCDB_OK);
    assert_int_equal(docdb_commit(txn, &seq), DOCDB_OK);
    assert_reads(db, "a", "1");
    assert_reads(db, "new", "old");
    assert_missing(db, "old");
    assert_int_equal(docdb_stat(db, "new", &info), DOCDB_OK);
    assert_int_equal(info.mtime_ns, 12345);
    assert_true(info.version == seq);

    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "a", "changed", 7), DOCDB_OK);
    assert_int_equal(docdb_txn_create(txn, "b", "3", 1), DOCDB_OK); /* exists: known at the commit */
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_ERR_EXISTS);
    assert_reads(db, "a", "1");

    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    docdb_abort(txn);
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK); /* nothing in it */
}

static void batch_with_too_many_writes_is_refused(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_txn *txn = NULL;
    char id[16];
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    for (int i = 0; i < DOCDB_TXN_OPS_MAX; i++) {
        (void)snprintf(id, sizeof id, "%d", i);
        assert_int_equal(docdb_txn_put(txn, id, "x", 1), DOCDB_OK);
    }
    assert_int_equal(docdb_txn_put(txn, "more", "x", 1), DOCDB_ERR_TXN_TOO_LARGE);
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK); /* what fitted is still there */
    docdb_db_info info;
    assert_int_equal(docdb_db_stat(db, &info), DOCDB_OK);
    assert_int_equal(info.documents, DOCDB_TXN_OPS_MAX);
}

static void transaction_reads_its_snapshot_and_its_own_writes(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_txn *txn = NULL;
    docdb_doc *doc = NULL;
    docdb_info info;
    assert_put(db, "a", "before");
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
    assert_put(db, "a", "after");
    assert_put(db, "c", "after");
    assert_int_equal(docdb_txn_read(txn, "a", &doc), DOCDB_OK);
    assert_memory_equal(docdb_doc_data(doc), "before", 6);
    docdb_doc_release(doc);
    assert_int_equal(docdb_txn_stat(txn, "c", &info), DOCDB_ERR_NOT_FOUND);
    assert_int_equal(docdb_txn_put(txn, "b", "own", 3), DOCDB_OK);
    assert_int_equal(docdb_txn_create(txn, "b", "again", 5), DOCDB_ERR_EXISTS);
    assert_int_equal(docdb_txn_read(txn, "b", &doc), DOCDB_OK);
    assert_memory_equal(docdb_doc_data(doc), "own", 3);
    assert_true(docdb_doc_info(doc)->version == 0);
    docdb_doc_release(doc);
    assert_missing(db, "b");
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    assert_reads(db, "b", "own");
    assert_reads(db, "a", "after");
}

static void first_committer_wins(void **state) {
    struct test *test = *state;
    docdb *other = fixture_connect(&test->fixture);
    docdb_db *other_db = open_db(other, "notes");
    docdb_txn *mine = NULL;
    docdb_txn *theirs = NULL;
    assert_put(test->db, "a", "0");
    assert_int_equal(docdb_begin(test->db, 0, &mine), DOCDB_OK);
    assert_int_equal(docdb_begin(other_db, 0, &theirs), DOCDB_OK);
    assert_int_equal(docdb_txn_put(mine, "a", "mine", 4), DOCDB_OK);
    assert_int_equal(docdb_txn_put(theirs, "a", "theirs", 6), DOCDB_OK);
    assert_int_equal(docdb_commit(theirs, NULL), DOCDB_OK);
    assert_int_equal(docdb_commit(mine, NULL), DOCDB_ERR_CONFLICT);
    assert_reads(test->db, "a", "theirs");
    docdb_db_close(other_db);
    assert_int_equal(docdb_close(other), DOCDB_OK);
}

static void handles_open_at_once_are_bounded_and_reusable(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_txn *txns[2048];
    size_t count = 0;
    int status = DOCDB_OK;
    while (status == DOCDB_OK && count < 2048) {
        status = docdb_begin(db, 0, &txns[count]);
        count += status == DOCDB_OK;
    }
    assert_int_equal(status, DOCDB_ERR_BUSY);
    while (count > 0) {
        docdb_abort(txns[--count]);
    }
    assert_int_equal(docdb_begin(db, 0, &txns[0]), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txns[0], "a", "1", 1), DOCDB_OK);
    assert_int_equal(docdb_commit(txns[0], NULL), DOCDB_OK);
    assert_reads(db, "a", "1");
}

/* ---- Scans ---- */

static void scans_bring_everything_in_order(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    enum { DOCUMENTS = 3000, BYTES = 100 };
    docdb_txn *txn = NULL;
    char id[16];
    char body[BYTES + 1];
    assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    for (int i = 0; i < DOCUMENTS; i++) {
        (void)snprintf(id, sizeof id, "id%05d", i);
        (void)snprintf(body, sizeof body, "%0*d", BYTES, i);
        assert_int_equal(docdb_txn_put(txn, id, body, BYTES), DOCDB_OK);
    }
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    for (unsigned flags = 0; flags <= DOCDB_SCAN_DOCS; flags++) {
        docdb_scan *scan = NULL;
        docdb_entry entry;
        assert_int_equal(docdb_scan_open(db, &(docdb_scan_options){.flags = flags}, &scan), DOCDB_OK);
        assert_put(db, "id00000x", "after the snapshot");
        for (int i = 0; i < DOCUMENTS; i++) {
            (void)snprintf(id, sizeof id, "id%05d", i);
            (void)snprintf(body, sizeof body, "%0*d", BYTES, i);
            assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
            assert_string_equal(entry.id, id);
            assert_int_equal(entry.info.bytes, BYTES);
            assert_true((entry.doc != NULL) == (flags == DOCDB_SCAN_DOCS));
            if (entry.doc != NULL) {
                assert_memory_equal(docdb_doc_data(entry.doc), body, BYTES);
            }
        }
        assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
        assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
        docdb_scan_close(scan);
        assert_int_equal(docdb_delete(db, "id00000x", NULL), DOCDB_OK);
    }
}

static int count_entries(docdb_db *db, const docdb_scan_options *options) {
    docdb_scan *scan = NULL;
    docdb_entry entry;
    int count = 0;
    assert_int_equal(docdb_scan_open(db, options, &scan), DOCDB_OK);
    while (docdb_scan_next(scan, &entry) == DOCDB_OK) {
        count++;
    }
    docdb_scan_close(scan);
    return count;
}

static void scans_take_prefix_start_and_limit(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    assert_put(db, "a1", "");
    assert_put(db, "a2", "");
    assert_put(db, "a3", "");
    assert_put(db, "b1", "");
    assert_int_equal(count_entries(db, NULL), 4);
    assert_int_equal(count_entries(db, &(docdb_scan_options){.prefix = "a"}), 3);
    assert_int_equal(count_entries(db, &(docdb_scan_options){.prefix = "a", .after = "a1"}), 2);
    assert_int_equal(count_entries(db, &(docdb_scan_options){.after = "a"}), 4);
    assert_int_equal(count_entries(db, &(docdb_scan_options){.limit = 2}), 2);
    assert_int_equal(count_entries(db, &(docdb_scan_options){.prefix = "c"}), 0);
}

static void transaction_scan_sees_its_writes_and_ends_with_it(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_txn *txn = NULL;
    docdb_scan *scan = NULL;
    docdb_entry entry;
    assert_put(db, "a", "");
    assert_put(db, "c", "");
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_OK);
    assert_int_equal(docdb_txn_put(txn, "b", "", 0), DOCDB_OK);
    assert_int_equal(docdb_txn_delete(txn, "c"), DOCDB_OK);
    assert_int_equal(docdb_txn_scan(txn, NULL, &scan), DOCDB_OK);
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
    assert_string_equal(entry.id, "a");
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
    assert_string_equal(entry.id, "b");
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
    docdb_scan_close(scan);
    docdb_abort(txn);
}

/* A document that a scan handed out outlives the scan, when it was acquired. */
static void scanned_document_outlives_the_scan(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    docdb_scan *scan = NULL;
    docdb_entry entry;
    assert_put(db, "a", "kept");
    assert_int_equal(docdb_scan_open(db, &(docdb_scan_options){.flags = DOCDB_SCAN_DOCS}, &scan), DOCDB_OK);
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK);
    docdb_doc *doc = docdb_doc_acquire(entry.doc);
    docdb_scan_close(scan);
    assert_memory_equal(docdb_doc_data(doc), "kept", 4);
    docdb_doc_release(doc);
}

/* ---- Many at once ---- */

enum { THREADS = 8, COMMITS = 500 };

#define HELD_MAX 30 /* below what the server takes from one connection: 8 MiB */

struct worker {
    pthread_t thread;
    docdb_db *db;
    int number;
    atomic_uint left;
    atomic_uint failed;
    struct event done;
};

static void worker_committed(void *arg, int status, uint64_t commit_seq) {
    struct worker *worker = arg;
    if (status != DOCDB_OK || commit_seq == 0) {
        atomic_fetch_add(&worker->failed, 1);
    }
    if (atomic_fetch_sub(&worker->left, 1) == 1) {
        event_set(&worker->done);
    }
}

/* Commits without waiting in between; the counter document shows that commits of one thread keep their order. */
static void *worker_pipelines(void *arg) {
    struct worker *worker = arg;
    char id[32];
    char value[32];
    char counter[32];
    (void)snprintf(counter, sizeof counter, "counter%d", worker->number);
    for (int i = 0; i < COMMITS; i++) {
        docdb_txn *txn = NULL;
        (void)snprintf(id, sizeof id, "t%d.%d", worker->number, i);
        (void)snprintf(value, sizeof value, "%d", i);
        if (docdb_begin(worker->db, DOCDB_TXN_BLIND, &txn) != DOCDB_OK ||
            docdb_txn_create(txn, id, value, strlen(value)) != DOCDB_OK ||
            docdb_txn_put(txn, counter, value, strlen(value)) != DOCDB_OK) {
            atomic_fetch_add(&worker->failed, 1);
        }
        docdb_commit_async(txn, worker_committed, worker);
    }
    event_wait(&worker->done);
    return NULL;
}

static void pipelined_commits_of_many_threads_all_arrive(void **state) {
    struct test *test = *state;
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i].db = test->db;
        workers[i].number = i;
        atomic_init(&workers[i].left, COMMITS);
        atomic_init(&workers[i].failed, 0);
        event_init(&workers[i].done);
        assert_int_equal(thread_start(&workers[i].thread, "worker", worker_pipelines, &workers[i]), 0);
    }
    char id[32];
    char value[32];
    for (int i = 0; i < THREADS; i++) {
        thread_join(workers[i].thread);
        assert_int_equal(atomic_load(&workers[i].failed), 0);
        (void)snprintf(id, sizeof id, "counter%d", i);
        (void)snprintf(value, sizeof value, "%d", COMMITS - 1);
        assert_reads(test->db, id, value);
    }
    docdb_db_info info;
    assert_int_equal(docdb_db_stat(test->db, &info), DOCDB_OK);
    assert_int_equal(info.documents, THREADS * COMMITS + THREADS);
}

/* Blocking writes, reads and transactions of threads that share one connection. */
static void *worker_mixes(void *arg) {
    struct worker *worker = arg;
    char id[32];
    for (int i = 0; i < COMMITS / 5; i++) {
        docdb_txn *txn = NULL;
        docdb_doc *doc = NULL;
        bool ok = true;
        (void)snprintf(id, sizeof id, "m%d.%d", worker->number, i);
        ok = ok && docdb_put(worker->db, id, id, strlen(id), NULL) == DOCDB_OK;
        ok = ok && docdb_read(worker->db, id, &doc) == DOCDB_OK && docdb_doc_bytes(doc) == strlen(id) &&
             memcmp(docdb_doc_data(doc), id, strlen(id)) == 0;
        docdb_doc_release(doc);
        doc = NULL;
        ok = ok && docdb_begin(worker->db, 0, &txn) == DOCDB_OK;
        ok = ok && docdb_txn_read(txn, id, &doc) == DOCDB_OK;
        docdb_doc_release(doc);
        ok = ok && docdb_txn_delete(txn, id) == DOCDB_OK;
        ok = ok && docdb_commit(txn, NULL) == DOCDB_OK;
        ok = ok && docdb_read(worker->db, id, &doc) == DOCDB_ERR_NOT_FOUND;
        if (!ok) {
            atomic_fetch_add(&worker->failed, 1);
        }
    }
    return NULL;
}

static void threads_share_one_connection(void **state) {
    struct test *test = *state;
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i].db = test->db;
        workers[i].number = i;
        atomic_init(&workers[i].failed, 0);
        assert_int_equal(thread_start(&workers[i].thread, "worker", worker_mixes, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(workers[i].thread);
        assert_int_equal(atomic_load(&workers[i].failed), 0);
    }
}

/* A chain of commits in which each completion reads, and starts the next: what callbacks may do. */
struct chain {
    docdb_db *db;
    int left;
    int failed;
    struct event done;
};

static void chain_next(struct chain *chain);

static void chain_committed(void *arg, int status, uint64_t commit_seq) {
    struct chain *chain = arg;
    docdb_doc *doc = NULL;
    (void)commit_seq;
    chain->failed += status != DOCDB_OK;
    chain->failed += docdb_read(chain->db, "chain", &doc) != DOCDB_OK;
    docdb_doc_release(doc);
    if (--chain->left == 0) {
        event_set(&chain->done);
    } else {
        chain_next(chain);
    }
}

static void chain_next(struct chain *chain) {
    docdb_txn *txn = NULL;
    chain->failed += docdb_begin(chain->db, DOCDB_TXN_BLIND, &txn) != DOCDB_OK;
    chain->failed += docdb_txn_put(txn, "chain", "link", 4) != DOCDB_OK;
    docdb_commit_async(txn, chain_committed, chain);
}

static void commit_callbacks_may_use_the_connection(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    struct chain chains[16];
    for (int i = 0; i < 16; i++) {
        chains[i] = (struct chain){.db = db, .left = 50};
        event_init(&chains[i].done);
    }
    for (int i = 0; i < 16; i++) {
        chain_next(&chains[i]);
    }
    for (int i = 0; i < 16; i++) {
        event_wait(&chains[i].done);
        assert_int_equal(chains[i].failed, 0);
    }
}

/* Far more than the server takes at once: it stops reading, the client waits, and everything comes through. */
static void back_pressure_loses_nothing(void **state) {
    docdb_db *db = ((struct test *)*state)->db;
    enum { WRITES = 300 };
    const size_t bytes = 256u << 10;
    char *data = malloc(bytes);
    assert_non_null(data);
    memset(data, 'x', bytes);
    struct worker worker = {.db = db};
    atomic_init(&worker.left, WRITES);
    event_init(&worker.done);
    for (int i = 0; i < WRITES; i++) {
        docdb_txn *txn = NULL;
        char id[16];
        (void)snprintf(id, sizeof id, "%d", i % 7);
        assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, id, data, bytes), DOCDB_OK);
        docdb_commit_async(txn, worker_committed, &worker);
    }
    event_wait(&worker.done);
    assert_int_equal(atomic_load(&worker.failed), 0);
    free(data);
}

/* Holds the acknowledgement of commits until the server has as many requests in flight as it takes from one
 * connection, then lets go of all. Runs on a thread of its own, as the writer is held up by then. */
struct holder {
    pthread_t thread;
    struct mutex mutex;
    struct condition full;
    docdb_ack *held[HELD_MAX];
    size_t count;
    size_t wanted; /* 0: nothing is held */
};

static int hold(void *arg, const docdb_commit_event *event, docdb_ack *ack) {
    (void)event;
    struct holder *holder = arg;
    mutex_lock(&holder->mutex);
    bool later = holder->count < holder->wanted;
    if (later) {
        holder->held[holder->count++] = ack;
        condition_signal(&holder->full);
    }
    mutex_unlock(&holder->mutex);
    return later ? DOCDB_OBSERVE_LATER : DOCDB_OBSERVED;
}

static void *hold_until_full(void *arg) {
    struct holder *holder = arg;
    mutex_lock(&holder->mutex);
    while (holder->count < holder->wanted) {
        condition_wait(&holder->full, &holder->mutex);
    }
    mutex_unlock(&holder->mutex);
    (void)usleep(2000); /* the server reads on, as far as it does */
    mutex_lock(&holder->mutex);
    holder->wanted = 0;
    size_t count = holder->count;
    holder->count = 0;
    mutex_unlock(&holder->mutex);
    for (size_t i = 0; i < count; i++) {
        docdb_ack_release(holder->held[i]);
    }
    return NULL;
}

/* Requests of the size of the server's read buffer, while nothing is acknowledged: it stops in the middle of its
 * reads, with whole frames already there. */
static void back_pressure_in_the_middle_of_a_read_loses_nothing(void **state) {
    struct test *test = *state;
    enum { ROUNDS = 40, WRITES = 45 };
    const size_t bytes = 256u << 10;
    struct holder holder = {0};
    docdb_observer *observer = NULL;
    char *data = calloc(1, bytes);
    assert_non_null(data);
    mutex_init(&holder.mutex);
    condition_init(&holder.full);
    assert_int_equal(docdb_observe(test->fixture.engine, hold, &holder, &observer), DOCDB_OK);
    for (int round = 0; round < ROUNDS; round++) {
        struct worker worker = {.db = test->db};
        atomic_init(&worker.left, WRITES);
        event_init(&worker.done);
        mutex_lock(&holder.mutex);
        holder.wanted = HELD_MAX;
        mutex_unlock(&holder.mutex);
        assert_int_equal(thread_start(&holder.thread, "holder", hold_until_full, &holder), 0);
        for (int i = 0; i < WRITES; i++) {
            docdb_txn *txn = NULL;
            assert_int_equal(docdb_begin(test->db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
            assert_int_equal(docdb_txn_put(txn, "a", data, bytes - (size_t)round), DOCDB_OK);
            docdb_commit_async(txn, worker_committed, &worker);
        }
        event_wait(&worker.done);
        thread_join(holder.thread);
        assert_int_equal(atomic_load(&worker.failed), 0);
    }
    docdb_unobserve(observer);
    condition_fini(&holder.full);
    mutex_fini(&holder.mutex);
    free(data);
}

/* Several clients together bring more than the server hands to the engine at once: all wait their turn, all get
 * through. */
static void crowd_of_clients_gets_through(void **state) {
    struct test *test = *state;
    enum { CLIENTS = 8, WRITES = 16 };
    const size_t bytes = 1u << 20;
    char *data = calloc(1, bytes);
    assert_non_null(data);
    docdb *clients[CLIENTS];
    docdb_db *dbs[CLIENTS];
    struct worker workers[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = fixture_connect(&test->fixture);
        dbs[i] = open_db(clients[i], "notes");
        atomic_init(&workers[i].left, WRITES);
        atomic_init(&workers[i].failed, 0);
        event_init(&workers[i].done);
    }
    for (int write = 0; write < WRITES; write++) {
        for (int i = 0; i < CLIENTS; i++) {
            docdb_txn *txn = NULL;
            char id[16];
            (void)snprintf(id, sizeof id, "%d", i);
            assert_int_equal(docdb_begin(dbs[i], DOCDB_TXN_BLIND, &txn), DOCDB_OK);
            assert_int_equal(docdb_txn_put(txn, id, data, bytes), DOCDB_OK);
            docdb_commit_async(txn, worker_committed, &workers[i]);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        event_wait(&workers[i].done);
        assert_int_equal(atomic_load(&workers[i].failed), 0);
        docdb_db_close(dbs[i]);
        assert_int_equal(docdb_close(clients[i]), DOCDB_OK);
    }
    free(data);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(writes_answer_as_embedded),
        TEST(ids_of_every_byte_survive),
        TEST(databases_answer_as_embedded),
        TEST(limits_and_stats_are_the_servers),
        TEST(observers_are_unsupported),
        TEST(large_document_survives_both_ways),
        TEST(document_over_the_limit_is_refused_and_the_connection_lives),
        TEST(batch_commits_as_a_whole_or_not_at_all),
        TEST(batch_with_too_many_writes_is_refused),
        TEST(transaction_reads_its_snapshot_and_its_own_writes),
        TEST(first_committer_wins),
        TEST(handles_open_at_once_are_bounded_and_reusable),
        TEST(scans_bring_everything_in_order),
        TEST(scans_take_prefix_start_and_limit),
        TEST(transaction_scan_sees_its_writes_and_ends_with_it),
        TEST(scanned_document_outlives_the_scan),
        TEST(pipelined_commits_of_many_threads_all_arrive),
        TEST(threads_share_one_connection),
        TEST(commit_callbacks_may_use_the_connection),
        TEST(back_pressure_loses_nothing),
        TEST(back_pressure_in_the_middle_of_a_read_loses_nothing),
        TEST(crowd_of_clients_gets_through),
    };
    return cmocka_run_group_tests_name("socket", tests, NULL, NULL);
}
