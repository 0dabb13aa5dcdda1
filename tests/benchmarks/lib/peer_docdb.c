/*
 * DocDB, embedded, with its defaults, through docdb.h alone. One database handle for all threads. A read pins the
 * document and copies nothing; the session releases it at its next call.
 */
#include <stdlib.h>
#include <string.h>

#include "docdb.h"
#include "tests/benchmarks/lib/bench.h"

struct store {
    docdb *runtime;
    docdb_db *db;
};

struct session {
    docdb_db *db;
    docdb_doc *held; /* what get returned last */
};

static void must(int status, const char *what) {
    if (status != DOCDB_OK) {
        bench_die("docdb: %s: %s", what, docdb_error_text(status));
    }
}

static void *docdb_peer_open(const char *directory, size_t doc_bytes) {
    (void)doc_bytes;
    struct store *store = bench_alloc(1, sizeof *store);
    docdb_error error = {0};
    if (docdb_open(directory, NULL, &store->runtime, &error) != DOCDB_OK) {
        bench_die("docdb: %s", error.message);
    }
    must(docdb_db_open(store->runtime, "bench", DOCDB_DB_CREATE, &store->db), "opening the database");
    return store;
}

static void docdb_peer_close(void *opened) {
    struct store *store = opened;
    docdb_db_close(store->db);
    must(docdb_close(store->runtime), "closing");
    free(store);
}

static void *session_open(void *opened) {
    const struct store *store = opened;
    struct session *session = bench_alloc(1, sizeof *session);
    session->db = store->db;
    return session;
}

static void release(struct session *session) {
    docdb_doc_release(session->held);
    session->held = NULL;
}

static void session_close(void *opened) {
    release(opened);
    free(opened);
}

static void put(void *opened, const struct peer_doc *doc) {
    struct session *session = opened;
    must(docdb_put(session->db, doc->id, doc->data, doc->bytes, NULL), "a put");
}

static void put_many(void *opened, const struct peer_doc *docs, size_t count) {
    struct session *session = opened;
    docdb_txn *txn = NULL;
    must(docdb_begin(session->db, DOCDB_TXN_BLIND, &txn), "beginning a transaction");
    for (size_t i = 0; i < count; i++) {
        must(docdb_txn_put(txn, docs[i].id, docs[i].data, docs[i].bytes), "a put in a transaction");
    }
    must(docdb_commit(txn, NULL), "a commit");
}

static void settle(void *opened) {
    struct store *store = opened;
    must(docdb_checkpoint(store->runtime), "a checkpoint");
}

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    release(session);
    int status = docdb_read(session->db, id, &session->held);
    if (status == DOCDB_ERR_NOT_FOUND) {
        return false;
    }
    must(status, "a read");
    *out = (struct peer_doc){.id = id,
                             .id_bytes = strlen(id),
                             .data = docdb_doc_data(session->held),
                             .bytes = docdb_doc_bytes(session->held)};
    return true;
}

static void scan(void *opened, peer_visit_fn visit, void *arg) {
    struct session *session = opened;
    docdb_scan_options options = {.flags = DOCDB_SCAN_DOCS};
    docdb_scan *cursor = NULL;
    docdb_entry entry;
    int status = DOCDB_OK;
    must(docdb_scan_open(session->db, &options, &cursor), "opening a scan");
    while ((status = docdb_scan_next(cursor, &entry)) == DOCDB_OK) {
        struct peer_doc doc = {.id = entry.id,
                               .id_bytes = strlen(entry.id),
                               .data = docdb_doc_data(entry.doc),
                               .bytes = docdb_doc_bytes(entry.doc)};
        visit(arg, &doc);
    }
    must(status == DOCDB_ERR_END ? DOCDB_OK : status, "a scan");
    docdb_scan_close(cursor);
}

const struct peer peer_docdb = {.name = "docdb",
                                .open = docdb_peer_open,
                                .close = docdb_peer_close,
                                .session_open = session_open,
                                .session_close = session_close,
                                .put = put,
                                .put_many = put_many,
                                .settle = settle,
                                .get = get,
                                .scan = scan};
