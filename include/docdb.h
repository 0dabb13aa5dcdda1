/*
 * DocDB: a file-based ACID document store.
 *
 * One runtime holds many databases; a database maps a doc id to a document, an opaque blob. The same
 * verbs work embedded (docdb_open("./data", ...)) and over a socket (docdb_open("unix:/tmp/docdb.sock", ...)).
 *
 * Guarantees
 *   - A commit that returned DOCDB_OK survives `kill -9` and power loss.
 *   - A transaction becomes visible as a whole, at one commit_seq; a reader sees whole versions only.
 *   - A commit that was refused (any error but DOCDB_ERR_IO and DOCDB_ERR_DISCONNECTED) never comes back after a
 * restart.
 *   - Readers never wait for writers.
 *
 * Conventions
 *   - Every function that can fail returns an int: DOCDB_OK (0) or a negative DOCDB_ERR_ value (docdb_error_name,
 *     docdb_error_text, docdb_error_errno). Out parameters are written on success only, unless said otherwise.
 *   - Handles are opaque. What open, begin, read and scan return is the caller's, and goes back through the
 * matching close, commit or abort, release and close. Those accept NULL and do nothing.
 *   - A runtime (docdb), a database (docdb_db) and a document (docdb_doc) may be used by any number of threads at
 *     once. A transaction, a scan and a backup belong to one thread at a time.
 *   - Close whatever was opened from a runtime before closing the runtime.
 *   - Strings are NUL-terminated bytes; ids and names are copied, documents too.
 *   - Sizes are in bytes, times in nanoseconds since 1970-01-01 UTC, durations in milliseconds.
 */
#ifndef DOCDB_H
#define DOCDB_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DOCDB_VERSION_MAJOR 0
#define DOCDB_VERSION_MINOR 1
#define DOCDB_VERSION_PATCH 0
#define DOCDB_VERSION       "0.1.0"

#if defined(__GNUC__)
#define DOCDB_CHECKED __attribute__((warn_unused_result))
#define DOCDB_PUBLIC  __attribute__((visibility("default")))
#else
#define DOCDB_CHECKED
#define DOCDB_PUBLIC
#endif

/* ---- Limits (users see these; the engine's inner bounds stand in src/base/limits.h) ------------------------- */

#define DOCDB_ID_BYTES_MAX           255 /* an id is a file name, and NAME_MAX is 255 */
#define DOCDB_NAME_BYTES_MAX         64  /* a database's name */
#define DOCDB_DOC_BYTES_DEFAULT      (64u << 20)
#define DOCDB_DOC_BYTES_MAX          (1u << 30) /* a document is held whole in memory while it is written */
#define DOCDB_TXN_OPS_MAX            10000      /* keeps one transaction from holding the commit path for long */
#define DOCDB_TXN_TIMEOUT_MS_DEFAULT 5000
#define DOCDB_TXN_TIMEOUT_MS_MAX     60000

/* ---- Errors ------------------------------------------------------------------------------------------------- */

/* X(name, value, errno, text): the values are part of the socket protocol and never change. */
#define DOCDB_ERRORS(X)                                                                                            \
    X(INVALID, -1, EINVAL, "invalid argument")                                                                     \
    X(BAD_ID, -2, EINVAL, "bad doc id: 1 to 255 bytes, no '/' and no NUL, not '.' or '..'")                        \
    X(BAD_NAME, -3, EINVAL, "bad database name: 1 to 64 of A-Z a-z 0-9 _ - . and not starting with '.'")           \
    X(NOT_FOUND, -4, ENOENT, "no such document")                                                                   \
    X(EXISTS, -5, EEXIST, "the document exists already")                                                           \
    X(NO_DATABASE, -6, ENOENT, "no such database")                                                                 \
    X(DATABASE_EXISTS, -7, EEXIST, "the database exists already")                                                  \
    X(NOT_EMPTY, -8, ENOTEMPTY, "the database is not empty")                                                       \
    X(CONFLICT, -9, EBUSY, "conflict: the document was changed by another commit; read it again and retry")        \
    X(DOC_TOO_LARGE, -10, EFBIG, "the document is larger than the limit (--max-doc-size)")                         \
    X(TXN_TOO_LARGE, -11, E2BIG, "the transaction is larger than its limits (operations or --max-txn-bytes)")      \
    X(TXN_TIMEOUT, -12, ETIMEDOUT, "the transaction was open for longer than its timeout")                         \
    X(NO_SPACE, -14, ENOSPC, "no space left on the device of the data directory")                                  \
    X(MEMORY, -15, ENOMEM, "out of memory, or over the memory cap")                                                \
    X(IO, -16, EIO, "an input/output error of the data directory")                                                 \
    X(READ_ONLY, -17, EROFS, "the store is read-only")                                                             \
    X(CORRUPT, -18, EUCLEAN, "damaged data: a checksum does not match")                                            \
    X(LOCKED, -19, EWOULDBLOCK, "the data directory is in use by another process")                                 \
    X(NEWER_FORMAT, -20, EPROTONOSUPPORT, "the data directory was written by a newer version of DocDB")            \
    X(NO_DIRECTORY, -21, ENOTDIR, "no such directory")                                                             \
    X(PERMISSION, -22, EACCES, "permission denied")                                                                \
    X(UNREACHABLE, -23, ECONNREFUSED, "no server answers on the socket")                                           \
    X(DISCONNECTED, -24, ECONNRESET, "the server went away; a write in flight may or may not have been committed") \
    X(PROTOCOL, -25, EPROTO, "the other side broke the protocol")                                                  \
    X(UNSUPPORTED, -26, EOPNOTSUPP, "not supported here")                                                          \
    X(CLOSING, -27, ESHUTDOWN, "the runtime is shutting down")                                                     \
    X(BUSY, -28, EAGAIN, "a limit on things open at once is reached; try again later")                             \
    X(END, -29, ENODATA, "the end of the scan")

enum {
    DOCDB_OK = 0,
#define DOCDB_ERROR_ENUM(name, value, errno_value, text) DOCDB_ERR_##name = (value),
    DOCDB_ERRORS(DOCDB_ERROR_ENUM)
#undef DOCDB_ERROR_ENUM
};

/* What went wrong, in one line a person can act on. Filled by functions that take a docdb_error, on failure only.
 */
typedef struct docdb_error {
    int status; /* the DOCDB_ERR_ value that the function returned */
    char message[512];
} docdb_error;

/* "CONFLICT" for DOCDB_ERR_CONFLICT, "OK" for 0, "UNKNOWN" for a value that is none. Static strings. Thread-safe.
 */
DOCDB_PUBLIC const char *docdb_error_name(int status);
/* One line of text for a status. Static strings. Thread-safe. */
DOCDB_PUBLIC const char *docdb_error_text(int status);
/* The errno that says the same best (0 for DOCDB_OK, EIO for a value that is none). Thread-safe. */
DOCDB_PUBLIC int docdb_error_errno(int status);
/* DOCDB_VERSION of the library that runs. */
DOCDB_PUBLIC const char *docdb_version(void);

/* ---- Handles ------------------------------------------------------------------------------------------------ */

typedef struct docdb docdb;               /* a runtime: a data directory opened, or a connection to a server */
typedef struct docdb_db docdb_db;         /* a database of a runtime */
typedef struct docdb_txn docdb_txn;       /* a transaction of one database */
typedef struct docdb_doc docdb_doc;       /* one version of a document, pinned */
typedef struct docdb_scan docdb_scan;     /* an ordered scan over one snapshot */
typedef struct docdb_backup docdb_backup; /* a copy of the store that is being taken */

/* What is known of a version of a document. */
typedef struct docdb_info {
    uint64_t version;       /* the commit_seq that wrote it; never 0 */
    uint64_t bytes;         /* its length */
    int64_t commit_time_ns; /* when it was committed */
    int64_t mtime_ns;       /* the document's time: the commit time unless the writer set another */
} docdb_info;

/* ---- Runtime ------------------------------------------------------------------------------------------------ */

typedef enum docdb_log_level {
    DOCDB_LOG_ERROR,
    DOCDB_LOG_WARNING,
    DOCDB_LOG_INFO,
    DOCDB_LOG_DEBUG
} docdb_log_level;
/* Gets each log line, without a newline. Called from any thread; must not call DocDB. */
typedef void (*docdb_log_fn)(void *arg, docdb_log_level level, const char *line);

enum {
    DOCDB_OPEN_EXISTING = 1 << 0, /* fail with NO_DIRECTORY instead of creating a data directory */
};

/* Zero means the default for every field, so `docdb_options o = {0};` is the default set. Over a socket only log,
 * log_arg and flags are used: the limits are the server's. */
typedef struct docdb_options {
    unsigned flags;         /* DOCDB_OPEN_ values */
    uint64_t max_doc_bytes; /* the largest document: 1 to DOCDB_DOC_BYTES_MAX, default DOCDB_DOC_BYTES_DEFAULT */
    uint64_t
        max_txn_bytes; /* the largest transaction, ids and documents: default 2 x max_doc_bytes, at most 2 GiB */
    uint32_t txn_timeout_ms; /* 1 to DOCDB_TXN_TIMEOUT_MS_MAX, default DOCDB_TXN_TIMEOUT_MS_DEFAULT */
    uint64_t
        wal_limit_bytes; /* what the WAL's files take together, and one file more at most: at least 16 MiB, default
                            256 MiB. A checkpoint starts at half of it; beyond that writers are slowed */
    uint64_t memory_bytes;  /* documents that are on disk stay in memory too up to so many: default 1 GiB */
    uint64_t segment_bytes; /* a segment takes no more documents from there on, or a 32nd of its database if that
                               is more: 64 KiB to 256 MiB, default 8 MiB. Space in segments that is neither live nor
                               worth compacting is a few of them */
    docdb_log_fn log;       /* default: errors and warnings go to stderr */
    void *log_arg;
    const struct docdb_os *os; /* the disk and the clock (src/base/os.h), for tests; default: the real ones */
} docdb_options;

/*
 * Opens a data directory (created when missing, its parent must exist) or connects to a server ("unix:PATH").
 * options and error may be NULL. The runtime is the caller's: docdb_close. A directory is open in one process once.
 * Errors: INVALID, NO_DIRECTORY, PERMISSION, LOCKED (message names the owner's pid), NEWER_FORMAT, CORRUPT, IO,
 * NO_SPACE, MEMORY; of a socket: UNREACHABLE, PERMISSION, PROTOCOL.
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_open(const char *where, const docdb_options *options, docdb **out,
                                          docdb_error *error);

/*
 * Finishes what was submitted, writes a checkpoint (embedded), and frees the runtime, whatever it returns.
 * An error says that the checkpoint failed: nothing is lost, the next open replays more.
 */
DOCDB_PUBLIC int docdb_close(docdb *runtime);

/* Moves what is committed from the WAL into the databases' segments, and returns when that is durable.
 * Errors: IO, NO_SPACE, READ_ONLY, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_checkpoint(docdb *runtime);

/* The limits in force (over a socket: the server's). */
typedef struct docdb_limits {
    uint64_t max_doc_bytes;
    uint64_t max_txn_bytes;
    uint32_t max_txn_ops;
    uint32_t txn_timeout_ms;
} docdb_limits;
DOCDB_PUBLIC void docdb_get_limits(docdb *runtime, docdb_limits *out);

/* Counters since the runtime was opened, and gauges. X(field, text): the one list that stats are printed from and
 * sent by. Its order is part of the socket protocol, so it only grows at its end. */
#define DOCDB_STATS(X)                                                                                             \
    X(databases, "databases")                                                                                      \
    X(documents, "documents in all databases")                                                                     \
    X(document_bytes, "bytes of those documents")                                                                  \
    X(commit_seq, "newest published commit_seq")                                                                   \
    X(durable_commit_seq, "newest commit_seq that is on disk")                                                     \
    X(checkpoint_commit_seq, "newest commit_seq that the checkpoint holds")                                        \
    X(commits, "transactions committed")                                                                           \
    X(conflicts, "commits refused with CONFLICT")                                                                  \
    X(refused, "commits refused for any other reason")                                                             \
    X(batches, "WAL batches written: one sync each")                                                               \
    X(wal_bytes, "bytes of WAL files on disk")                                                                     \
    X(wal_written_bytes, "bytes written to the WAL")                                                               \
    X(segment_bytes, "bytes of segment files on disk")                                                             \
    X(checkpoints, "checkpoints finished")                                                                         \
    X(reads, "documents read")                                                                                     \
    X(segment_reads, "documents read from a segment on disk")                                                      \
    X(resident_bytes, "bytes of documents in memory")                                                              \
    X(snapshots, "snapshots open")                                                                                 \
    X(recovered_txns, "transactions replayed from the WAL when the runtime was opened")                            \
    X(recovery_us, "microseconds that opening took")                                                               \
    X(read_only, "1 when the runtime is read-only")                                                                \
    X(segment_live_bytes, "bytes of segments that hold documents in use")                                          \
    X(index_file_bytes, "bytes of index files on disk")                                                            \
    X(index_bytes, "bytes of memory that the index takes")                                                         \
    X(compactions, "segments compacted")                                                                           \
    X(compacted_bytes, "bytes of documents that compaction moved")                                                 \
    X(throttled_us, "microseconds that batches were slowed because the WAL was long")

typedef struct docdb_stats {
#define DOCDB_STATS_FIELD(field, text) uint64_t field;
    DOCDB_STATS(DOCDB_STATS_FIELD)
#undef DOCDB_STATS_FIELD
    char read_only_reason[256]; /* empty unless read_only */
} docdb_stats;
/* Errors: DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_get_stats(docdb *runtime, docdb_stats *out);

/* ---- Databases ---------------------------------------------------------------------------------------------- */

enum {
    DOCDB_DB_CREATE = 1 << 0,    /* create the database when it is missing: one durable commit */
    DOCDB_DB_EXCLUSIVE = 1 << 1, /* with CREATE: fail with DATABASE_EXISTS when it is not missing */
    DOCDB_DB_READ_ONLY = 1 << 2, /* refuse writes through this handle with READ_ONLY */
};

/* Opens a database. The handle is the caller's: docdb_db_close. A database dropped meanwhile answers NO_DATABASE
 * to every operation of its handles, also after one of the same name was created.
 * Errors: BAD_NAME, NO_DATABASE, DATABASE_EXISTS, BUSY (too many databases), and those of a commit. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_db_open(docdb *runtime, const char *name, unsigned flags, docdb_db **out);
DOCDB_PUBLIC void docdb_db_close(docdb_db *db);
/* The name it was opened with; lives as long as the handle. */
DOCDB_PUBLIC const char *docdb_db_name(const docdb_db *db);

enum {
    DOCDB_DROP_IF_EMPTY = 1 << 0, /* fail with NOT_EMPTY when the database holds a document */
};
/* Drops a database and its documents: one durable commit. Pinned documents stay readable until released.
 * Errors: BAD_NAME, NO_DATABASE, NOT_EMPTY, and those of a commit. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_db_drop(docdb *runtime, const char *name, unsigned flags);

typedef struct docdb_db_info {
    char name[DOCDB_NAME_BYTES_MAX + 1];
    uint64_t documents;
    uint64_t document_bytes;
    int64_t change_time_ns; /* when a document was last added or removed, or the database created */
} docdb_db_info;
/* All databases, in order of name. *out is the caller's (NULL when *count is 0): docdb_db_list_free.
 * Errors: MEMORY, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_db_list(docdb *runtime, docdb_db_info **out, size_t *count);
DOCDB_PUBLIC void docdb_db_list_free(docdb_db_info *list);
/* One database, newest state. Errors: NO_DATABASE, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_db_stat(docdb_db *db, docdb_db_info *out);

/* ---- Documents: one operation, one transaction -------------------------------------------------------------- */

/* Reads the newest version. The document is pinned: it stays as it is, whatever is committed, until it is released.
 * No copy is made when it is resident. Errors: BAD_ID, NOT_FOUND, NO_DATABASE, CORRUPT, IO, MEMORY, DISCONNECTED.
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_read(docdb_db *db, const char *id, docdb_doc **out);
/* Like docdb_read without the document. Never reads the disk. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_stat(docdb_db *db, const char *id, docdb_info *out);

/* A pinned document's bytes (never NULL) and what is known of it. They live until the document is released. */
DOCDB_PUBLIC const void *docdb_doc_data(const docdb_doc *doc);
DOCDB_PUBLIC size_t docdb_doc_bytes(const docdb_doc *doc);
DOCDB_PUBLIC const docdb_info *docdb_doc_info(const docdb_doc *doc);
/* One more pin, to be released once more. Returns doc. */
DOCDB_PUBLIC docdb_doc *docdb_doc_acquire(docdb_doc *doc);
DOCDB_PUBLIC void docdb_doc_release(docdb_doc *doc);

/*
 * Writes. Each is one durable transaction: when it returns DOCDB_OK the commit is on disk and visible to all.
 * create fails with EXISTS when the document exists, update and delete with NOT_FOUND when it does not, put does
 * either. version (may be NULL) gets the commit_seq. data may be NULL when bytes is 0. They never conflict. Errors
 * of a commit: BAD_ID, DOC_TOO_LARGE, TXN_TOO_LARGE, NO_DATABASE, NO_SPACE, MEMORY, READ_ONLY, IO, CLOSING,
 * DISCONNECTED. After a failed write or sync of the WAL (IO) the runtime is read-only until it is opened again, as
 * docdb_get_stats says, and what the failed commit wrote may or may not be there then. An IO error that leaves it
 * writable (the next WAL file could not be made) and every other error left nothing behind.
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_create(docdb_db *db, const char *id, const void *data, size_t bytes,
                                            uint64_t *version);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_update(docdb_db *db, const char *id, const void *data, size_t bytes,
                                            uint64_t *version);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_put(docdb_db *db, const char *id, const void *data, size_t bytes,
                                         uint64_t *version);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_delete(docdb_db *db, const char *id, uint64_t *version);
/* The compare forms: succeed only while the document's version is `expected` (0: while there is no such document),
 * and fail with CONFLICT otherwise. docdb_delete_if with 0 is INVALID. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_put_if(docdb_db *db, const char *id, uint64_t expected, const void *data,
                                            size_t bytes, uint64_t *version);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_delete_if(docdb_db *db, const char *id, uint64_t expected, uint64_t *version);

/* ---- Transactions ------------------------------------------------------------------------------------------- */

enum {
    /* No snapshot and no reads: a batch of writes that commits as a whole and never conflicts with other commits
     * (its own preconditions may still fail). Reads and scans in it are INVALID. */
    DOCDB_TXN_BLIND = 1 << 0,
};

/* Begins a transaction over a snapshot of everything published so far: its reads see that snapshot and its own
 * writes. Its commit fails with CONFLICT when a document it wrote was changed by another commit since (snapshot
 * isolation, first committer wins). After the runtime's txn_timeout_ms every operation answers TXN_TIMEOUT.
 * The transaction is the caller's: docdb_commit, docdb_commit_async or docdb_abort ends it.
 * Errors: INVALID, NO_DATABASE, READ_ONLY, BUSY, MEMORY, CLOSING, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_begin(docdb_db *db, unsigned flags, docdb_txn **out);

DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_read(docdb_txn *txn, const char *id, docdb_doc **out);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_stat(docdb_txn *txn, const char *id, docdb_info *out);

/* Each adds an operation. Operations take effect, and have their preconditions checked, in order: against the
 * snapshot and the writes before them at once, and again at the commit against what is newest then (for a blind
 * transaction: at the commit only). An operation that fails leaves the transaction as it was, but for TXN_TIMEOUT.
 * A document read back inside the transaction that wrote it has version 0 and commit_time_ns 0. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_create(docdb_txn *txn, const char *id, const void *data, size_t bytes);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_update(docdb_txn *txn, const char *id, const void *data, size_t bytes);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_put(docdb_txn *txn, const char *id, const void *data, size_t bytes);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_delete(docdb_txn *txn, const char *id);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_put_if(docdb_txn *txn, const char *id, uint64_t expected, const void *data,
                                                size_t bytes);
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_delete_if(docdb_txn *txn, const char *id, uint64_t expected);

enum {
    DOCDB_RENAME_NOREPLACE = 1 << 0, /* fail with EXISTS when `to` exists */
    DOCDB_RENAME_EXCHANGE = 1 << 1,  /* swap the two; both must exist */
};
/* Moves the document `from` to the id `to`, replacing what is there. A document keeps its bytes and mtime and gets
 * a new version. from == to changes nothing. Errors: NOT_FOUND, EXISTS, INVALID (both flags), and those above. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_rename(docdb_txn *txn, const char *from, const char *to, unsigned flags);

/* Sets the mtime of the document `id`, which must exist, without changing its bytes. It gets a new version. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_set_mtime(docdb_txn *txn, const char *id, int64_t mtime_ns);

/* A tag that observers of the commit see (docdb_commit_event.origin); not looked into. Embedded only. */
DOCDB_PUBLIC void docdb_txn_set_origin(docdb_txn *txn, const void *origin);

/* Called once: when the commit is durable, published and observed (status DOCDB_OK), or refused. Runs on a thread
 * of the runtime: it must be quick, may call DocDB, but must not wait for another commit. */
typedef void (*docdb_commit_fn)(void *arg, int status, uint64_t commit_seq);

/* Commits and frees the transaction, whatever it returns; commit_seq may be NULL. A transaction without writes
 * commits at once, with the commit_seq of its snapshot. Errors: CONFLICT, EXISTS, NOT_FOUND, TXN_TIMEOUT and those
 * of a commit. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_commit(docdb_txn *txn, uint64_t *commit_seq);
/* The same without waiting. The transaction is gone when this returns; every outcome goes to done, which may run
 * before this returns. Commits of one thread take effect in the order of their calls. */
DOCDB_PUBLIC void docdb_commit_async(docdb_txn *txn, docdb_commit_fn done, void *arg);
DOCDB_PUBLIC void docdb_abort(docdb_txn *txn);

/* ---- Scans -------------------------------------------------------------------------------------------------- */

enum {
    DOCDB_SCAN_DOCS = 1 << 0, /* with the documents, not only what is known of them */
};

typedef struct docdb_scan_options {
    unsigned flags;
    const char *prefix; /* only ids that begin with it; NULL: all */
    const char *after;  /* only ids after it, bytewise; it need not exist; NULL: from the start */
    uint64_t limit;     /* at most so many; 0: no limit */
} docdb_scan_options;

typedef struct docdb_entry {
    const char *id; /* lives until the next call on the scan */
    docdb_info info;
    docdb_doc *doc; /* with DOCDB_SCAN_DOCS; pinned until the next call on the scan (docdb_doc_acquire keeps it) */
} docdb_entry;

/* Starts a scan in bytewise order of ids, over a snapshot of its own. options may be NULL (all, without documents).
 * The scan is the caller's: docdb_scan_close. Errors: BAD_ID, INVALID, NO_DATABASE, BUSY, MEMORY, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_scan_open(docdb_db *db, const docdb_scan_options *options, docdb_scan **out);
/* The same over a transaction's snapshot, its own writes included. Close the scan before the transaction ends;
 * writes made after the scan was opened may or may not be seen by it. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_txn_scan(docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out);
/* The next entry; DOCDB_ERR_END after the last. Errors: CORRUPT, IO, MEMORY (the scan may go on), NO_DATABASE,
 * TXN_TIMEOUT, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_scan_next(docdb_scan *scan, docdb_entry *out);
DOCDB_PUBLIC void docdb_scan_close(docdb_scan *scan);

/* ---- Verification ------------------------------------------------------------------------------------------- */

typedef struct docdb_verify docdb_verify; /* a verification of a whole data directory */

typedef enum docdb_verify_kind {
    DOCDB_VERIFY_PROGRESS = 1, /* nothing new but the counts */
    DOCDB_VERIFY_DAMAGE = 2,   /* something is damaged or missing */
} docdb_verify_kind;

typedef struct docdb_verify_event {
    docdb_verify_kind kind;
    uint64_t done_bytes; /* of total_bytes, which is an estimate; equal in the last event */
    uint64_t total_bytes;
    uint64_t documents; /* checked so far */
    uint64_t damages;   /* reported so far, with this one */
    /* Of DAMAGE; else empty. The strings are never NULL and live until the next call on the verification. */
    const char *file;     /* the path of the damaged or missing file; of a missing WAL file, of its directory */
    uint64_t offset;      /* in the file: of the record, page or header that is hit */
    const char *database; /* its name; empty: the store as a whole is hit */
    const char *id;       /* of the document that is hit; empty: no single one, or it can't be told */
    const char *what;     /* is wrong, in words */
} docdb_verify_event;

/*
 * Starts to verify what the newest checkpoint of an open runtime consists of (embedded or over a socket), while
 * reads and commits go on: the manifest, the index files, the segments, each document in them. What is in the WAL
 * alone is left to the next opening, which checks it. Space that compaction and drops free is given back only when
 * the verification is closed. It may wait for a checkpoint that is being written.
 * The verification is the caller's: docdb_verify_close, before the runtime is closed. One thread at a time.
 * Errors: INVALID, BUSY, MEMORY, DISCONNECTED.
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_verify_open(docdb *runtime, docdb_verify **out);
/*
 * The same for a directory that no process has open, also one that docdb_open refuses as damaged; the WAL is
 * checked too. Changes nothing in it but its LOCK, which is held until docdb_verify_close. Of options (may be NULL)
 * only os is used; error may be NULL. Errors: INVALID, NO_DIRECTORY (none, or not of DocDB), LOCKED, PERMISSION,
 * NO_SPACE, IO, MEMORY.
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_verify_directory(const char *path, const docdb_options *options,
                                                      docdb_verify **out, docdb_error *error);
/* Goes on by about 1 MiB read, or to the next damage, and tells it; DOCDB_ERR_END when all was checked: without a
 * DAMAGE event before it all is sound. Damage is never an error of this function. Errors: IO, MEMORY, DISCONNECTED,
 * PROTOCOL; the verification is over then. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_verify_next(docdb_verify *verify, docdb_verify_event *out);
/* At any time, also before the end. */
DOCDB_PUBLIC void docdb_verify_close(docdb_verify *verify);

/* ---- Backups ------------------------------------------------------------------------------------------------ */

#define DOCDB_BACKUP_CHUNK_BYTES_MAX (1u << 20)

/* A part of one file of a backup. Its pointers live until the next call on the backup. */
typedef struct docdb_backup_chunk {
    const char *path;     /* of the file, relative to the data directory: "db/00000001/00000001.seg", "MANIFEST" */
    uint64_t file_bytes;  /* the length of the whole file */
    uint64_t offset;      /* where in the file the data begins */
    const void *data;     /* never NULL */
    size_t bytes;         /* at most DOCDB_BACKUP_CHUNK_BYTES_MAX */
    uint64_t commit_seq;  /* what the backup holds: every commit up to it, and nothing of any later one */
    uint64_t total_bytes; /* of all files of the backup */
    uint64_t done_bytes;  /* of those, what came up to the end of this chunk */
} docdb_backup_chunk;

/*
 * Begins a backup of the whole store, while readers and writers go on: writes a checkpoint and keeps its files
 * until the backup is closed, so that each docdb_backup_next finds them as they were. Whoever stores the chunks as
 * files in an empty directory, and makes the empty directories "db" and "wal" in it, has a data directory that
 * docdb_open opens, with the state after one commit: everything that was acknowledged before this call, and maybe
 * more. The backup is the caller's: docdb_backup_close, before the runtime is closed. It belongs to one thread at a
 * time. Disk space that is freed meanwhile is given back when the last backup is closed. Errors: those of
 * docdb_checkpoint, CORRUPT, MEMORY, BUSY (too many backups at once).
 */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_backup_open(docdb *runtime, docdb_backup **out);
/* The next chunk; DOCDB_ERR_END after the last. One file comes after the other, each front to back. The last is
 * MANIFEST, without which no directory is a data directory: so one that is written in this order is never taken for
 * a backup before it is whole. Reading is as slow as the caller. Errors: IO and CORRUPT (a file can't be read, or
 * is too short; logged; the next call tries again), MEMORY, DISCONNECTED. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_backup_next(docdb_backup *backup, docdb_backup_chunk *out);
DOCDB_PUBLIC void docdb_backup_close(docdb_backup *backup);

/* ---- Observers (embedded only) ------------------------------------------------------------------------------ */

typedef enum docdb_change_kind {
    DOCDB_CHANGE_PUT,       /* id has a new version, info says which */
    DOCDB_CHANGE_DELETE,    /* id is gone */
    DOCDB_CHANGE_DB_CREATE, /* the database appeared; id is NULL */
    DOCDB_CHANGE_DB_DROP,   /* the database and all its documents are gone; id is NULL */
} docdb_change_kind;

typedef struct docdb_change {
    docdb_change_kind kind;
    int created; /* PUT: there was no such document before. A rename is a DELETE and a PUT. */
    const char *id;
    docdb_info info;
} docdb_change;

typedef struct docdb_commit_event {
    uint64_t commit_seq;
    const char *db_name;
    const void *origin; /* of docdb_txn_set_origin, or NULL */
    size_t change_count;
    const docdb_change *changes;
} docdb_commit_event;

typedef struct docdb_ack docdb_ack;
enum { DOCDB_OBSERVED = 0, DOCDB_OBSERVE_LATER = 1 };

/* Called for each published commit, in commit_seq order, before the commit is acknowledged. The event lives during
 * the call. It must not block: it runs on the commit thread. It returns DOCDB_OBSERVED, or DOCDB_OBSERVE_LATER and
 * calls docdb_ack_release(ack) later, once, from any thread: until then this commit (and no other) stays
 * unacknowledged. */
typedef int (*docdb_observer_fn)(void *arg, const docdb_commit_event *event, docdb_ack *ack);
typedef struct docdb_observer docdb_observer;

/* Registers an observer for all commits from now on: docdb_unobserve, which returns when no call to it is running.
 * Errors: UNSUPPORTED over a socket, BUSY (too many), MEMORY. */
DOCDB_PUBLIC DOCDB_CHECKED int docdb_observe(docdb *runtime, docdb_observer_fn observer, void *arg,
                                             docdb_observer **out);
DOCDB_PUBLIC void docdb_unobserve(docdb_observer *observer);
DOCDB_PUBLIC void docdb_ack_release(docdb_ack *ack);

#ifdef __cplusplus
}
#endif
#endif
