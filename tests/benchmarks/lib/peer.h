/*
 * A store that the benchmarks measure, DocDB or one of its peers, behind one table of functions, so that every
 * store does the same work in the same order with the same payloads.
 *
 * Happy path: open a store in an empty directory; session_open once for each thread; put, get and scan through the
 * session; session_close, close. Opening the same directory again finds what was put.
 *
 * Durability is the same for all: when put returns, the document survives a loss of power.
 *
 * Failures: a benchmark with a failed operation has no result, so an adapter says on stderr what failed and ends
 * the process (bench_die) instead of returning an error.
 *
 * Threads: a store may be used by any number of threads, a session by one at a time.
 */
#ifndef DOCDB_BENCHMARKS_PEER_H
#define DOCDB_BENCHMARKS_PEER_H

#include <stdbool.h>
#include <stddef.h>

struct peer_doc {
    const char *id; /* of put and get: NUL-terminated; of what a scan visits: only id_bytes count */
    size_t id_bytes;
    const void *data;
    size_t bytes;
};

typedef void (*peer_visit_fn)(void *arg, const struct peer_doc *doc);

struct peer {
    const char *name; /* what --only calls it */
    /* It has no index: get finds the last put of its own session alone, and nothing after a reopening. */
    bool last_put_only;

    /* The directory exists and is the store's alone. doc_bytes is how large the documents will be. */
    void *(*open)(const char *directory, size_t doc_bytes);
    void (*close)(void *store);
    void *(*session_open)(void *store);
    void (*session_close)(void *session);

    /* Durable when it returns. Replaces a document of the same id. */
    void (*put)(void *session, const struct peer_doc *doc);
    /* Many documents at the store's best rate, in one transaction where it has them; durable after settle. NULL:
     * it has no loads and no scans. */
    void (*put_many)(void *session, const struct peer_doc *docs, size_t count);
    /* Brings the store into the shape in which it reads best: no log to look through, no compaction due. NULL: it
     * always is. */
    void (*settle)(void *store);

    /* The newest version. False: there is no such document. out lives until the next call on the session. */
    bool (*get)(void *session, const char *id, struct peer_doc *out);
    /* All documents in bytewise order of ids, of one snapshot where the store has them. Each lives during its
     * visit. */
    void (*scan)(void *session, peer_visit_fn visit, void *arg);
};

extern const struct peer peer_docdb;
extern const struct peer peer_sqlite;
extern const struct peer peer_lmdb;
extern const struct peer peer_rocksdb;
extern const struct peer peer_files;
extern const struct peer peer_bare;

#endif
