/*
 * LMDB with its default sync: each commit syncs the pages and then the meta page. A put is a write transaction. A
 * get renews the session's read transaction, so that it sees the newest version, as DocDB's reads do, and leaves
 * the value where it is in the map until the session's next call.
 */
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "tests/benchmarks/lib/bench.h"

#define MAP_BYTES   ((size_t)16 << 30) /* addresses only: the file grows as needed */
#define READERS_MAX 256

struct store {
    MDB_env *env;
    MDB_dbi dbi;
};

struct session {
    const struct store *store;
    MDB_txn *reader; /* NULL before the first read */
    bool is_reading; /* the reader holds a snapshot; otherwise it is reset */
};

static void must(int rc, const char *what) {
    if (rc != MDB_SUCCESS) {
        bench_die("lmdb: %s: %s", what, mdb_strerror(rc));
    }
}

static MDB_txn *begin(const struct store *store) {
    MDB_txn *txn = NULL;
    must(mdb_txn_begin(store->env, NULL, 0, &txn), "beginning a transaction");
    return txn;
}

static void *lmdb_open(const char *directory, size_t doc_bytes) {
    (void)doc_bytes;
    struct store *store = bench_alloc(1, sizeof *store);
    must(mdb_env_create(&store->env), "mdb_env_create");
    must(mdb_env_set_mapsize(store->env, MAP_BYTES), "mdb_env_set_mapsize");
    must(mdb_env_set_maxreaders(store->env, READERS_MAX), "mdb_env_set_maxreaders");
    /* NOTLS ties a reader to its session instead of its thread. It changes nothing of the sync. */
    must(mdb_env_open(store->env, directory, MDB_NOTLS, 0600), "opening");
    MDB_txn *txn = begin(store);
    must(mdb_dbi_open(txn, NULL, 0, &store->dbi), "mdb_dbi_open");
    must(mdb_txn_commit(txn), "a commit");
    return store;
}

static void lmdb_close(void *opened) {
    struct store *store = opened;
    mdb_env_close(store->env);
    free(store);
}

static void *session_open(void *opened) {
    struct session *session = bench_alloc(1, sizeof *session);
    session->store = opened;
    return session;
}

static void stop_reading(struct session *session) {
    if (session->is_reading) {
        mdb_txn_reset(session->reader);
        session->is_reading = false;
    }
}

static void start_reading(struct session *session) {
    stop_reading(session);
    if (session->reader == NULL) {
        must(mdb_txn_begin(session->store->env, NULL, MDB_RDONLY, &session->reader), "beginning to read");
    } else {
        must(mdb_txn_renew(session->reader), "mdb_txn_renew");
    }
    session->is_reading = true;
}

static void session_close(void *opened) {
    struct session *session = opened;
    if (session->reader != NULL) {
        mdb_txn_abort(session->reader);
    }
    free(session);
}

/* LMDB's values have no const, though it does not write to them. */
static MDB_val value_of(const void *data, size_t bytes) {
    MDB_val value = {.mv_size = bytes};
    memcpy(&value.mv_data, &data, sizeof data);
    return value;
}

static void put_many(void *opened, const struct peer_doc *docs, size_t count) {
    struct session *session = opened;
    stop_reading(session);
    MDB_txn *txn = begin(session->store);
    for (size_t i = 0; i < count; i++) {
        MDB_val key = value_of(docs[i].id, docs[i].id_bytes);
        MDB_val data = value_of(docs[i].data, docs[i].bytes);
        must(mdb_put(txn, session->store->dbi, &key, &data, 0), "a put");
    }
    must(mdb_txn_commit(txn), "a commit");
}

static void put(void *session, const struct peer_doc *doc) { put_many(session, doc, 1); }

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    MDB_val key = value_of(id, strlen(id));
    MDB_val data = {0};
    start_reading(session);
    int rc = mdb_get(session->reader, session->store->dbi, &key, &data);
    if (rc == MDB_NOTFOUND) {
        return false;
    }
    must(rc, "a get");
    *out = (struct peer_doc){.id = id, .id_bytes = key.mv_size, .data = data.mv_data, .bytes = data.mv_size};
    return true;
}

static void scan(void *opened, peer_visit_fn visit, void *arg) {
    struct session *session = opened;
    MDB_cursor *cursor = NULL;
    MDB_val key = {0};
    MDB_val data = {0};
    int rc = MDB_SUCCESS;
    start_reading(session);
    must(mdb_cursor_open(session->reader, session->store->dbi, &cursor), "mdb_cursor_open");
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == MDB_SUCCESS) {
        struct peer_doc doc = {
            .id = key.mv_data, .id_bytes = key.mv_size, .data = data.mv_data, .bytes = data.mv_size};
        visit(arg, &doc);
    }
    must(rc == MDB_NOTFOUND ? MDB_SUCCESS : rc, "a scan");
    mdb_cursor_close(cursor);
}

const struct peer peer_lmdb = {.name = "lmdb",
                               .open = lmdb_open,
                               .close = lmdb_close,
                               .session_open = session_open,
                               .session_close = session_close,
                               .put = put,
                               .put_many = put_many,
                               .get = get,
                               .scan = scan};
