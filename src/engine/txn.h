/*
 * Transactions: a snapshot, a write set, and what the commit thread needs of it.
 *
 * The write set is an ordered list of operations. A transaction that is not blind also keeps what each written id
 * looks like now (its own reads see it), and checks preconditions when an operation is added; the commit thread
 * checks them again, and the snapshot, against what is newest then. Documents are copied, hashed and encoded by the
 * caller's thread, so that the commit thread only numbers and copies.
 *
 * Threads: a transaction belongs to one thread until it is submitted, then to the commit thread until it is
 * complete.
 */
#ifndef DOCDB_ENGINE_TXN_H
#define DOCDB_ENGINE_TXN_H

#include "engine/apply.h"
#include "engine/runtime.h"

struct txn_op {
    struct txn_op *next;
    enum write_kind kind;
    unsigned flags;
    uint64_t expected;
    int64_t mtime_ns;
    docdb_doc *doc;           /* of a put; the commit thread takes it over */
    bool in_segment;          /* its bytes go to a segment, not to the WAL */
    uint64_t meta_at;         /* of its operation in the table, when in_segment */
    size_t applied_at;        /* of its version in apply.applied, when in_segment */
    struct location location; /* of its record, when in_segment */
    uint8_t id_bytes;
    uint8_t to_bytes;
    char *to;  /* of a rename, else NULL */
    char id[]; /* NUL-terminated; `to` follows */
};

/* What an id that the transaction wrote looks like to it. */
struct txn_local {
    const char *id; /* of an operation of the transaction */
    docdb_doc *doc; /* one reference; NULL: deleted */
    docdb_info info;
};

struct txn {
    docdb_txn api;
    struct engine *engine;
    struct database *database; /* one reference */
    bool has_snapshot;
    struct snapshot snapshot;
    int64_t deadline_ns; /* monotonic */

    struct txn_op *first;
    struct txn_op *last;
    uint32_t op_count;
    uint64_t bytes;           /* ids and documents */
    uint64_t meta_bytes_max;  /* of the record's operation table */
    uint64_t docs_bytes;      /* of the documents, padded */
    struct txn_local *locals; /* in order of id; NULL for a blind transaction */
    size_t local_count;
    size_t local_capacity;

    /* From the submit on. */
    const void *origin;
    docdb_commit_fn done;
    void *done_arg;
    struct request request;
    uint8_t *meta; /* the record's operation table */
    uint64_t meta_bytes;
    uint32_t wal_op_count;
    struct apply apply;
};

static inline struct txn *txn_of(docdb_txn *txn) { return (struct txn *)txn; }

int txn_begin(docdb_db *db, unsigned flags, docdb_txn **out);
int txn_read(docdb_txn *api, const char *id, docdb_doc **out);
int txn_stat(docdb_txn *api, const char *id, docdb_info *out);
int txn_write(docdb_txn *api, const struct write *write);
void txn_set_origin(docdb_txn *api, const void *origin);
void txn_commit_async(docdb_txn *api, docdb_commit_fn done, void *arg);
void txn_abort(docdb_txn *api);

/* DOCDB_OK, or TXN_TIMEOUT when it was open for too long. */
int txn_check_open(const struct txn *txn);
/* What the transaction wrote for an id, or NULL. */
const struct txn_local *txn_local_find(const struct txn *txn, const char *id);

/* ---- The commit thread's, under `apply` ---- */

/* Checks the preconditions and installs the versions; on failure nothing is left of it. */
int txn_apply(struct txn *txn, uint64_t commit_seq, int64_t commit_time_ns);

/* The transaction of a request. */
struct txn *txn_of_request(struct request *request);

#endif
