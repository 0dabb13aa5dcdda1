/*
 * What a connection has open: databases, transactions, scans, verifications and backups, under numbers that the
 * client uses.
 *
 * A database that is closed while commits, transactions or scans of it are under way stays open until they have
 * ended (`users`). A transaction's scans end before it. A backup is read and closed on libuv's thread pool, since
 * both may wait for the disk or for a checkpoint: while it is read it stays open (`users`), too. handles_fini ends
 * everything. Belongs to the loop's thread; no locks.
 */
#ifndef DOCDB_SERVER_HANDLES_H
#define DOCDB_SERVER_HANDLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "docdb.h"
#include "server/verify.h"

struct open_db {
    docdb_db *db;
    unsigned users; /* the handle itself, and whatever is under way with it */
};

struct open_txn {
    docdb_txn *txn;
    struct open_db *db;
    size_t bytes; /* of the writes in it, as they came */
};

struct open_scan {
    docdb_scan *scan;
    struct open_db *db;
    struct open_txn *txn; /* or NULL */
    bool with_docs;
    int pending; /* the error that ended the last reply early, to be told by the next; or 0 */
};

struct open_backup {
    docdb_backup *backup;
    uv_loop_t *uv;
    unsigned users; /* the handle itself, and the thread that reads it */
    bool reading;   /* one chunk at a time */
    uv_work_t closing;
};

struct handle_slot;

struct handles {
    struct handle_slot *slots;
    uint32_t slot_count;
    uint32_t open_count;
};

void handles_init(struct handles *handles);
void handles_fini(struct handles *handles);

/* Each takes over what it is given, gets a number for it, and returns 0 (taking over nothing) when the limit or
 * memory does not allow it. The transaction and the scan become users of their database. */
uint32_t handles_add_db(struct handles *handles, docdb_db *db);
uint32_t handles_add_txn(struct handles *handles, struct open_db *db, docdb_txn *txn);
uint32_t handles_add_scan(struct handles *handles, const struct open_scan *scan);
/* Takes over one use of it. */
uint32_t handles_add_verify(struct handles *handles, struct open_verify *verify);
uint32_t handles_add_backup(struct handles *handles, uv_loop_t *uv, docdb_backup *backup);

/* NULL when the number is not open or is of another kind. */
struct open_db *handles_db(const struct handles *handles, uint32_t handle);
struct open_txn *handles_txn(const struct handles *handles, uint32_t handle);
struct open_scan *handles_scan(const struct handles *handles, uint32_t handle);
struct open_verify *handles_verify(const struct handles *handles, uint32_t handle);
struct open_backup *handles_backup(const struct handles *handles, uint32_t handle);

/* False when it is not open or is of another kind. */
bool handles_close_db(struct handles *handles, uint32_t handle);
bool handles_abort_txn(struct handles *handles, uint32_t handle);
bool handles_close_scan(struct handles *handles, uint32_t handle);
bool handles_close_verify(struct handles *handles, uint32_t handle);
bool handles_close_backup(struct handles *handles, uint32_t handle);

/* Takes a transaction out, to be committed: its scans are closed, the transaction is the caller's, and so is one
 * use of its database (open_db_release). NULL when it is not open or is of another kind. */
docdb_txn *handles_take_txn(struct handles *handles, uint32_t handle, struct open_db **db);

void open_db_acquire(struct open_db *db);
void open_db_release(struct open_db *db);

/* The last release closes it, on the thread pool. */
void open_backup_acquire(struct open_backup *backup);
void open_backup_release(struct open_backup *backup);

#endif
