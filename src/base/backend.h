/*
 * What stands behind the verbs of docdb.h: the engine for a data directory, the client for a socket.
 *
 * src/api checks every argument (ids, names, flags, NULLs) and calls one of these functions; so a backend sees
 * valid arguments only, and both refuse bad ones alike. Every handle begins with a pointer to its backend's table.
 */
#ifndef DOCDB_BASE_BACKEND_H
#define DOCDB_BASE_BACKEND_H

#include "docdb.h"

enum write_kind {
    WRITE_PUT = 1,
    WRITE_CREATE = 2,
    WRITE_UPDATE = 3,
    WRITE_PUT_IF = 4,
    WRITE_DELETE = 5,
    WRITE_DELETE_IF = 6,
    WRITE_RENAME = 7,
    WRITE_SET_MTIME = 8,
};

/* One write operation of a transaction. The pointers are the caller's and live during the call. */
struct write {
    enum write_kind kind;
    unsigned flags;   /* RENAME: DOCDB_RENAME_ values */
    const char *id;   /* RENAME: from */
    const char *to;   /* RENAME */
    const void *data; /* PUT, CREATE, UPDATE, PUT_IF; never NULL then */
    size_t bytes;
    uint64_t expected; /* PUT_IF, DELETE_IF */
    int64_t mtime_ns;  /* SET_MTIME */
};

struct backend {
    int (*close)(docdb *runtime);
    int (*checkpoint)(docdb *runtime);
    void (*get_limits)(docdb *runtime, docdb_limits *out);
    int (*get_stats)(docdb *runtime, docdb_stats *out);

    int (*db_open)(docdb *runtime, const char *name, unsigned flags, docdb_db **out);
    void (*db_close)(docdb_db *db);
    int (*db_drop)(docdb *runtime, const char *name, unsigned flags);
    int (*db_list)(docdb *runtime, docdb_db_info **out, size_t *count); /* *out comes from malloc */
    int (*db_stat)(docdb_db *db, docdb_db_info *out);

    int (*read)(docdb_db *db, const char *id, docdb_doc **out);
    int (*stat)(docdb_db *db, const char *id, docdb_info *out);

    int (*begin)(docdb_db *db, unsigned flags, docdb_txn **out);
    int (*txn_read)(docdb_txn *txn, const char *id, docdb_doc **out);
    int (*txn_stat)(docdb_txn *txn, const char *id, docdb_info *out);
    int (*txn_write)(docdb_txn *txn, const struct write *write);
    void (*txn_set_origin)(docdb_txn *txn, const void *origin);
    void (*commit_async)(docdb_txn *txn, docdb_commit_fn done, void *arg);
    void (*abort)(docdb_txn *txn);

    int (*scan_open)(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options,
                     docdb_scan **out); /* txn or NULL */
    int (*scan_next)(docdb_scan *scan, docdb_entry *out);
    void (*scan_close)(docdb_scan *scan);

    int (*verify_open)(docdb *runtime, docdb_verify **out);
    int (*verify_next)(docdb_verify *verify, docdb_verify_event *out);
    void (*verify_close)(docdb_verify *verify);
    int (*backup_open)(docdb *runtime, docdb_backup **out);
    int (*backup_next)(docdb_backup *backup, docdb_backup_chunk *out);
    void (*backup_close)(docdb_backup *backup);

    int (*observe)(docdb *runtime, docdb_observer_fn observer, void *arg, docdb_observer **out);
    void (*unobserve)(docdb_observer *observer);
};

/* Each backend's own struct begins with one of these. */
struct docdb {
    const struct backend *backend;
};
struct docdb_db {
    const struct backend *backend;
    docdb *runtime;
    unsigned flags; /* DOCDB_DB_ values it was opened with */
    char name[DOCDB_NAME_BYTES_MAX + 1];
};
struct docdb_txn {
    const struct backend *backend;
    docdb_db *db;
    unsigned flags; /* DOCDB_TXN_ values */
};
struct docdb_scan {
    const struct backend *backend;
};
struct docdb_verify {
    const struct backend *backend;
};
struct docdb_backup {
    const struct backend *backend;
};
struct docdb_observer {
    const struct backend *backend;
};

#endif
