/*
 * SQLite: a table of id and data in WAL mode with synchronous=FULL, so that each commit syncs the WAL. A session is
 * a connection with its statements prepared once.
 *
 * One writer at a time commits; the others wait in SQLite's own busy handler, but no more than a few at once: the
 * rest queue before they call SQLite. With a hundred in there the rate falls, and some get no turn for many
 * seconds; with one alone each commit pays for a switch of threads. Measured, a few is the best for SQLite.
 *
 * Small documents live in the primary key's tree itself (WITHOUT ROWID), which SQLite's documentation advises for
 * rows below a twentieth of a page; large ones in a table with a rowid. Pages are the default's 4 KiB; the cache is
 * large enough for the documents of point_read.
 */
#include <semaphore.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "tests/benchmarks/lib/bench.h"

#define SMALL_DOC_BYTES 204
#define WRITERS_MAX     8
#define BUSY_MS         600000                      /* longer than any turn: a writer is never turned away */
#define CACHE_PRAGMA    "PRAGMA cache_size=-262144" /* KiB */

struct store {
    char *path;
    sqlite3 *connection; /* keeps the WAL from being removed between sessions */
    sem_t writers;       /* how many more may write or wait to write in SQLite */
};

struct session {
    struct store *store;
    sqlite3 *connection;
    sqlite3_stmt *put;
    sqlite3_stmt *get;
    sqlite3_stmt *scan;
    sqlite3_stmt *begin;
    sqlite3_stmt *commit;
};

static void must(int rc, sqlite3 *connection, const char *what) {
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        bench_die("sqlite: %s: %s", what, connection != NULL ? sqlite3_errmsg(connection) : sqlite3_errstr(rc));
    }
}

static void run(sqlite3 *connection, const char *sql) {
    must(sqlite3_exec(connection, sql, NULL, NULL, NULL), connection, sql);
}

static sqlite3 *connect(const char *path) {
    sqlite3 *connection = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    must(sqlite3_open_v2(path, &connection, flags, NULL), connection, "opening");
    must(sqlite3_busy_timeout(connection, BUSY_MS), connection, "setting the busy timeout");
    run(connection, "PRAGMA journal_mode=WAL");
    run(connection, "PRAGMA synchronous=FULL");
    run(connection, CACHE_PRAGMA);
    return connection;
}

static void *sqlite_open(const char *directory, size_t doc_bytes) {
    struct store *store = bench_alloc(1, sizeof *store);
    /* Its counters of memory take a process-wide lock. Refused when SQLite runs already, which has them off then.
     */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    store->path = sqlite3_mprintf("%s/bench.sqlite", directory);
    store->connection = connect(store->path);
    (void)sem_init(&store->writers, 0, WRITERS_MAX);
    run(store->connection, doc_bytes <= SMALL_DOC_BYTES
                               ? "CREATE TABLE IF NOT EXISTS doc(id BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"
                               : "CREATE TABLE IF NOT EXISTS doc(id BLOB PRIMARY KEY, data BLOB)");
    return store;
}

static void sqlite_close(void *opened) {
    struct store *store = opened;
    must(sqlite3_close(store->connection), store->connection, "closing");
    (void)sem_destroy(&store->writers);
    sqlite3_free(store->path);
    free(store);
}

static sqlite3_stmt *prepare(sqlite3 *connection, const char *sql) {
    sqlite3_stmt *statement = NULL;
    must(sqlite3_prepare_v3(connection, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), connection, sql);
    return statement;
}

static void *session_open(void *opened) {
    struct store *store = opened;
    struct session *session = bench_alloc(1, sizeof *session);
    session->store = store;
    session->connection = connect(store->path);
    session->put = prepare(session->connection, "REPLACE INTO doc(id, data) VALUES(?1, ?2)");
    session->get = prepare(session->connection, "SELECT data FROM doc WHERE id = ?1");
    session->scan = prepare(session->connection, "SELECT id, data FROM doc ORDER BY id");
    session->begin = prepare(session->connection, "BEGIN IMMEDIATE");
    session->commit = prepare(session->connection, "COMMIT");
    return session;
}

static void session_close(void *opened) {
    struct session *session = opened;
    sqlite3_stmt *statements[] = {session->put, session->get, session->scan, session->begin, session->commit};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        (void)sqlite3_finalize(statements[i]);
    }
    must(sqlite3_close(session->connection), session->connection, "closing a connection");
    free(session);
}

/* One step and a reset: all of a statement without rows. */
static void step(struct session *session, sqlite3_stmt *statement, const char *what) {
    must(sqlite3_step(statement), session->connection, what);
    must(sqlite3_reset(statement), session->connection, what);
}

/* Outside of a transaction of its own, a statement is one. A get's rows are let go first: they hold a snapshot. */
static void write_one(struct session *session, const struct peer_doc *doc) {
    (void)sqlite3_reset(session->get);
    must(sqlite3_bind_blob64(session->put, 1, doc->id, doc->id_bytes, SQLITE_STATIC), session->connection, "bind");
    must(sqlite3_bind_blob64(session->put, 2, doc->data, doc->bytes, SQLITE_STATIC), session->connection, "bind");
    step(session, session->put, "a put");
}

static void writer_enter(struct store *store) {
    while (sem_wait(&store->writers) != 0) {
    }
}

static void writer_leave(struct store *store) { (void)sem_post(&store->writers); }

static void put(void *opened, const struct peer_doc *doc) {
    struct session *session = opened;
    writer_enter(session->store);
    write_one(session, doc);
    writer_leave(session->store);
}

static void put_many(void *opened, const struct peer_doc *docs, size_t count) {
    struct session *session = opened;
    writer_enter(session->store);
    step(session, session->begin, "BEGIN");
    for (size_t i = 0; i < count; i++) {
        write_one(session, &docs[i]);
    }
    step(session, session->commit, "COMMIT");
    writer_leave(session->store);
}

static void settle(void *opened) {
    struct store *store = opened;
    run(store->connection, "PRAGMA wal_checkpoint(TRUNCATE)");
}

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    size_t id_bytes = strlen(id);
    (void)sqlite3_reset(session->get);
    must(sqlite3_bind_blob64(session->get, 1, id, id_bytes, SQLITE_STATIC), session->connection, "bind");
    int rc = sqlite3_step(session->get);
    must(rc, session->connection, "a get");
    if (rc != SQLITE_ROW) {
        return false;
    }
    *out = (struct peer_doc){.id = id,
                             .id_bytes = id_bytes,
                             .data = sqlite3_column_blob(session->get, 0),
                             .bytes = (size_t)sqlite3_column_bytes(session->get, 0)};
    return true;
}

static void scan(void *opened, peer_visit_fn visit, void *arg) {
    struct session *session = opened;
    int rc = SQLITE_OK;
    while ((rc = sqlite3_step(session->scan)) == SQLITE_ROW) {
        struct peer_doc doc = {.id = sqlite3_column_blob(session->scan, 0),
                               .id_bytes = (size_t)sqlite3_column_bytes(session->scan, 0),
                               .data = sqlite3_column_blob(session->scan, 1),
                               .bytes = (size_t)sqlite3_column_bytes(session->scan, 1)};
        visit(arg, &doc);
    }
    must(rc, session->connection, "a scan");
    must(sqlite3_reset(session->scan), session->connection, "a scan");
}

const struct peer peer_sqlite = {.name = "sqlite",
                                 .open = sqlite_open,
                                 .close = sqlite_close,
                                 .session_open = session_open,
                                 .session_close = session_close,
                                 .put = put,
                                 .put_many = put_many,
                                 .settle = settle,
                                 .get = get,
                                 .scan = scan};
