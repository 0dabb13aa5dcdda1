/*
 * The verbs of docdb.h: check the arguments, then hand the call to the engine or to the client.
 *
 * Here, and only here, one-operation writes become one-operation transactions, and the blocking commit becomes a
 * wait for the asynchronous one; so there is one commit path, whoever writes and wherever the runtime is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/backend.h"
#include "base/error.h"
#include "base/event.h"
#include "base/names.h"
#include "client/client.h"
#include "docdb.h"
#include "engine/engine.h"
#include "engine/verify.h"

#define SOCKET_PREFIX "unix:"

/* ---- Arguments ---- */

static bool id_ok(const char *id) { return id != NULL && id_valid(id, strnlen(id, DOCDB_ID_BYTES_MAX + 1)); }

static bool name_ok(const char *name) {
    return name != NULL && name_valid(name, strnlen(name, DOCDB_NAME_BYTES_MAX + 1));
}

static bool flags_ok(unsigned flags, unsigned known) { return (flags & ~known) == 0; }

/* ---- Runtime ---- */

static int options_check(const docdb_options *options, docdb_error *error) {
    if (!flags_ok(options->flags, DOCDB_OPEN_EXISTING)) {
        return error_set(error, DOCDB_ERR_INVALID, "unknown flags in docdb_options: %#x", options->flags);
    }
    if (options->max_doc_bytes > DOCDB_DOC_BYTES_MAX) {
        return error_set(error, DOCDB_ERR_INVALID, "the document limit is at most %u bytes", DOCDB_DOC_BYTES_MAX);
    }
    if (options->txn_timeout_ms > DOCDB_TXN_TIMEOUT_MS_MAX) {
        return error_set(error, DOCDB_ERR_INVALID, "the transaction timeout is at most %d ms",
                         DOCDB_TXN_TIMEOUT_MS_MAX);
    }
    return DOCDB_OK;
}

int docdb_open(const char *where, const docdb_options *options, docdb **out, docdb_error *error) {
    static const docdb_options defaults = {0};
    if (options == NULL) {
        options = &defaults;
    }
    if (where == NULL || where[0] == '\0' || out == NULL) {
        return error_set(error, DOCDB_ERR_INVALID, "no data directory or socket to open");
    }
    int status = options_check(options, error);
    if (status != DOCDB_OK) {
        return status;
    }
    if (strncmp(where, SOCKET_PREFIX, strlen(SOCKET_PREFIX)) == 0) {
        return client_open(where + strlen(SOCKET_PREFIX), options, out, error);
    }
    return engine_open(where, options, out, error);
}

int docdb_close(docdb *runtime) { return runtime == NULL ? DOCDB_OK : runtime->backend->close(runtime); }

int docdb_checkpoint(docdb *runtime) {
    return runtime == NULL ? DOCDB_ERR_INVALID : runtime->backend->checkpoint(runtime);
}

void docdb_get_limits(docdb *runtime, docdb_limits *out) { runtime->backend->get_limits(runtime, out); }

int docdb_get_stats(docdb *runtime, docdb_stats *out) {
    if (runtime == NULL || out == NULL) {
        return DOCDB_ERR_INVALID;
    }
    return runtime->backend->get_stats(runtime, out);
}

/* ---- Databases ---- */

int docdb_db_open(docdb *runtime, const char *name, unsigned flags, docdb_db **out) {
    if (runtime == NULL || out == NULL ||
        !flags_ok(flags, DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE | DOCDB_DB_READ_ONLY) ||
        ((flags & DOCDB_DB_EXCLUSIVE) && !(flags & DOCDB_DB_CREATE))) {
        return DOCDB_ERR_INVALID;
    }
    if (!name_ok(name)) {
        return DOCDB_ERR_BAD_NAME;
    }
    return runtime->backend->db_open(runtime, name, flags, out);
}

void docdb_db_close(docdb_db *db) {
    if (db != NULL) {
        db->backend->db_close(db);
    }
}

const char *docdb_db_name(const docdb_db *db) { return db->name; }

int docdb_db_drop(docdb *runtime, const char *name, unsigned flags) {
    if (runtime == NULL || !flags_ok(flags, DOCDB_DROP_IF_EMPTY)) {
        return DOCDB_ERR_INVALID;
    }
    if (!name_ok(name)) {
        return DOCDB_ERR_BAD_NAME;
    }
    return runtime->backend->db_drop(runtime, name, flags);
}

int docdb_db_list(docdb *runtime, docdb_db_info **out, size_t *count) {
    if (runtime == NULL || out == NULL || count == NULL) {
        return DOCDB_ERR_INVALID;
    }
    return runtime->backend->db_list(runtime, out, count);
}

void docdb_db_list_free(docdb_db_info *list) { free(list); }

int docdb_db_stat(docdb_db *db, docdb_db_info *out) {
    return db == NULL || out == NULL ? DOCDB_ERR_INVALID : db->backend->db_stat(db, out);
}

/* ---- Reads ---- */

int docdb_read(docdb_db *db, const char *id, docdb_doc **out) {
    if (db == NULL || out == NULL) {
        return DOCDB_ERR_INVALID;
    }
    return id_ok(id) ? db->backend->read(db, id, out) : DOCDB_ERR_BAD_ID;
}

int docdb_stat(docdb_db *db, const char *id, docdb_info *out) {
    if (db == NULL || out == NULL) {
        return DOCDB_ERR_INVALID;
    }
    return id_ok(id) ? db->backend->stat(db, id, out) : DOCDB_ERR_BAD_ID;
}

/* ---- Transactions ---- */

int docdb_begin(docdb_db *db, unsigned flags, docdb_txn **out) {
    if (db == NULL || out == NULL || !flags_ok(flags, DOCDB_TXN_BLIND)) {
        return DOCDB_ERR_INVALID;
    }
    return db->backend->begin(db, flags, out);
}

static int txn_read_check(const docdb_txn *txn, const char *id, const void *out) {
    if (txn == NULL || out == NULL || (txn->flags & DOCDB_TXN_BLIND)) {
        return DOCDB_ERR_INVALID;
    }
    return id_ok(id) ? DOCDB_OK : DOCDB_ERR_BAD_ID;
}

int docdb_txn_read(docdb_txn *txn, const char *id, docdb_doc **out) {
    int status = txn_read_check(txn, id, out);
    return status != DOCDB_OK ? status : txn->backend->txn_read(txn, id, out);
}

int docdb_txn_stat(docdb_txn *txn, const char *id, docdb_info *out) {
    int status = txn_read_check(txn, id, out);
    return status != DOCDB_OK ? status : txn->backend->txn_stat(txn, id, out);
}

static int txn_write(docdb_txn *txn, struct write *write) {
    if (txn == NULL || (write->data == NULL && write->bytes != 0)) {
        return DOCDB_ERR_INVALID;
    }
    if (!id_ok(write->id) || (write->kind == WRITE_RENAME && !id_ok(write->to))) {
        return DOCDB_ERR_BAD_ID;
    }
    if (txn->db->flags & DOCDB_DB_READ_ONLY) {
        return DOCDB_ERR_READ_ONLY;
    }
    if (write->data == NULL) {
        write->data = "";
    }
    return txn->backend->txn_write(txn, write);
}

int docdb_txn_create(docdb_txn *txn, const char *id, const void *data, size_t bytes) {
    return txn_write(txn, &(struct write){.kind = WRITE_CREATE, .id = id, .data = data, .bytes = bytes});
}

int docdb_txn_update(docdb_txn *txn, const char *id, const void *data, size_t bytes) {
    return txn_write(txn, &(struct write){.kind = WRITE_UPDATE, .id = id, .data = data, .bytes = bytes});
}

int docdb_txn_put(docdb_txn *txn, const char *id, const void *data, size_t bytes) {
    return txn_write(txn, &(struct write){.kind = WRITE_PUT, .id = id, .data = data, .bytes = bytes});
}

int docdb_txn_put_if(docdb_txn *txn, const char *id, uint64_t expected, const void *data, size_t bytes) {
    return txn_write(
        txn, &(struct write){.kind = WRITE_PUT_IF, .id = id, .data = data, .bytes = bytes, .expected = expected});
}

int docdb_txn_delete(docdb_txn *txn, const char *id) {
    return txn_write(txn, &(struct write){.kind = WRITE_DELETE, .id = id});
}

int docdb_txn_delete_if(docdb_txn *txn, const char *id, uint64_t expected) {
    if (expected == 0) {
        return DOCDB_ERR_INVALID;
    }
    return txn_write(txn, &(struct write){.kind = WRITE_DELETE_IF, .id = id, .expected = expected});
}

int docdb_txn_rename(docdb_txn *txn, const char *from, const char *to, unsigned flags) {
    if (!flags_ok(flags, DOCDB_RENAME_NOREPLACE | DOCDB_RENAME_EXCHANGE) ||
        flags == (DOCDB_RENAME_NOREPLACE | DOCDB_RENAME_EXCHANGE)) {
        return DOCDB_ERR_INVALID;
    }
    return txn_write(txn, &(struct write){.kind = WRITE_RENAME, .id = from, .to = to, .flags = flags});
}

int docdb_txn_set_mtime(docdb_txn *txn, const char *id, int64_t mtime_ns) {
    return txn_write(txn, &(struct write){.kind = WRITE_SET_MTIME, .id = id, .mtime_ns = mtime_ns});
}

void docdb_txn_set_origin(docdb_txn *txn, const void *origin) {
    if (txn != NULL) {
        txn->backend->txn_set_origin(txn, origin);
    }
}

void docdb_commit_async(docdb_txn *txn, docdb_commit_fn done, void *arg) {
    if (txn == NULL) {
        done(arg, DOCDB_ERR_INVALID, 0);
        return;
    }
    txn->backend->commit_async(txn, done, arg);
}

/* What docdb_commit waits for. */
struct commit_wait {
    struct event event;
    int status;
    uint64_t commit_seq;
};

static void commit_wait_done(void *arg, int status, uint64_t commit_seq) {
    struct commit_wait *wait = arg;
    wait->status = status;
    wait->commit_seq = commit_seq;
    event_set(&wait->event);
}

int docdb_commit(docdb_txn *txn, uint64_t *commit_seq) {
    struct commit_wait wait = {0};
    event_init(&wait.event);
    docdb_commit_async(txn, commit_wait_done, &wait);
    event_wait(&wait.event);
    if (wait.status == DOCDB_OK && commit_seq != NULL) {
        *commit_seq = wait.commit_seq;
    }
    return wait.status;
}

void docdb_abort(docdb_txn *txn) {
    if (txn != NULL) {
        txn->backend->abort(txn);
    }
}

/* ---- Writes of one operation ---- */

static int write_one(docdb_db *db, struct write *write, uint64_t *version) {
    docdb_txn *txn = NULL;
    int status = docdb_begin(db, DOCDB_TXN_BLIND, &txn);
    if (status != DOCDB_OK) {
        return status;
    }
    status = txn_write(txn, write);
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        return status;
    }
    return docdb_commit(txn, version);
}

int docdb_create(docdb_db *db, const char *id, const void *data, size_t bytes, uint64_t *version) {
    return write_one(db, &(struct write){.kind = WRITE_CREATE, .id = id, .data = data, .bytes = bytes}, version);
}

int docdb_update(docdb_db *db, const char *id, const void *data, size_t bytes, uint64_t *version) {
    return write_one(db, &(struct write){.kind = WRITE_UPDATE, .id = id, .data = data, .bytes = bytes}, version);
}

int docdb_put(docdb_db *db, const char *id, const void *data, size_t bytes, uint64_t *version) {
    return write_one(db, &(struct write){.kind = WRITE_PUT, .id = id, .data = data, .bytes = bytes}, version);
}

int docdb_delete(docdb_db *db, const char *id, uint64_t *version) {
    return write_one(db, &(struct write){.kind = WRITE_DELETE, .id = id}, version);
}

int docdb_put_if(docdb_db *db, const char *id, uint64_t expected, const void *data, size_t bytes,
                 uint64_t *version) {
    return write_one(
        db, &(struct write){.kind = WRITE_PUT_IF, .id = id, .data = data, .bytes = bytes, .expected = expected},
        version);
}

int docdb_delete_if(docdb_db *db, const char *id, uint64_t expected, uint64_t *version) {
    if (expected == 0) {
        return DOCDB_ERR_INVALID;
    }
    return write_one(db, &(struct write){.kind = WRITE_DELETE_IF, .id = id, .expected = expected}, version);
}

/* ---- Scans ---- */

static int scan_options_check(const docdb_scan_options *options) {
    if (!flags_ok(options->flags, DOCDB_SCAN_DOCS)) {
        return DOCDB_ERR_INVALID;
    }
    /* A prefix may be empty, and need not be a whole id; where to start after may be any id. */
    if (options->prefix != NULL && (strnlen(options->prefix, DOCDB_ID_BYTES_MAX + 1) > DOCDB_ID_BYTES_MAX)) {
        return DOCDB_ERR_BAD_ID;
    }
    if (options->after != NULL && (strnlen(options->after, DOCDB_ID_BYTES_MAX + 1) > DOCDB_ID_BYTES_MAX)) {
        return DOCDB_ERR_BAD_ID;
    }
    return DOCDB_OK;
}

static int scan_open(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out) {
    static const docdb_scan_options all = {0};
    if (options == NULL) {
        options = &all;
    }
    int status = scan_options_check(options);
    return status != DOCDB_OK ? status : db->backend->scan_open(db, txn, options, out);
}

int docdb_scan_open(docdb_db *db, const docdb_scan_options *options, docdb_scan **out) {
    return db == NULL || out == NULL ? DOCDB_ERR_INVALID : scan_open(db, NULL, options, out);
}

int docdb_txn_scan(docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out) {
    if (txn == NULL || out == NULL || (txn->flags & DOCDB_TXN_BLIND)) {
        return DOCDB_ERR_INVALID;
    }
    return scan_open(txn->db, txn, options, out);
}

int docdb_scan_next(docdb_scan *scan, docdb_entry *out) {
    return scan == NULL || out == NULL ? DOCDB_ERR_INVALID : scan->backend->scan_next(scan, out);
}

void docdb_scan_close(docdb_scan *scan) {
    if (scan != NULL) {
        scan->backend->scan_close(scan);
    }
}

/* ---- Verification ---- */

int docdb_verify_open(docdb *runtime, docdb_verify **out) {
    return runtime == NULL || out == NULL ? DOCDB_ERR_INVALID : runtime->backend->verify_open(runtime, out);
}

int docdb_verify_directory(const char *path, const docdb_options *options, docdb_verify **out, docdb_error *error) {
    static const docdb_options defaults = {0};
    if (path == NULL || path[0] == '\0' || out == NULL) {
        return error_set(error, DOCDB_ERR_INVALID, "no data directory to verify");
    }
    return verify_directory(path, options != NULL ? options : &defaults, out, error);
}

int docdb_verify_next(docdb_verify *verify, docdb_verify_event *out) {
    return verify == NULL || out == NULL ? DOCDB_ERR_INVALID : verify->backend->verify_next(verify, out);
}

void docdb_verify_close(docdb_verify *verify) {
    if (verify != NULL) {
        verify->backend->verify_close(verify);
    }
}

/* ---- Backups ---- */

int docdb_backup_open(docdb *runtime, docdb_backup **out) {
    return runtime == NULL || out == NULL ? DOCDB_ERR_INVALID : runtime->backend->backup_open(runtime, out);
}

int docdb_backup_next(docdb_backup *backup, docdb_backup_chunk *out) {
    return backup == NULL || out == NULL ? DOCDB_ERR_INVALID : backup->backend->backup_next(backup, out);
}

void docdb_backup_close(docdb_backup *backup) {
    if (backup != NULL) {
        backup->backend->backup_close(backup);
    }
}

/* ---- Observers ---- */

int docdb_observe(docdb *runtime, docdb_observer_fn observer, void *arg, docdb_observer **out) {
    if (runtime == NULL || observer == NULL || out == NULL) {
        return DOCDB_ERR_INVALID;
    }
    return runtime->backend->observe(runtime, observer, arg, out);
}

void docdb_unobserve(docdb_observer *observer) {
    if (observer != NULL) {
        observer->backend->unobserve(observer);
    }
}
