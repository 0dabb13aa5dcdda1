/* See txn.h. */
#include "engine/txn.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/limits.h"
#include "engine/handles.h"

/* ---- Life ---- */

static void txn_destroy(struct txn *txn) {
    struct txn_op *op = txn->first;
    while (op != NULL) {
        struct txn_op *next = op->next;
        docdb_doc_release(op->doc);
        free(op);
        op = next;
    }
    for (size_t i = 0; i < txn->local_count; i++) {
        docdb_doc_release(txn->locals[i].doc);
    }
    free(txn->locals);
    free(txn->meta);
    free(txn->apply.applied);
    database_release(txn->database);
    free(txn);
}

static void snapshot_drop(struct txn *txn) {
    if (txn->has_snapshot) {
        txn->has_snapshot = false;
        if (snapshot_release(&txn->engine->snapshots, &txn->snapshot)) {
            engine_reclaim(txn->engine);
        }
    }
}

int txn_begin(docdb_db *db, unsigned flags, docdb_txn **out) {
    struct handle *handle = handle_of(db);
    struct engine *engine = handle->engine;
    int status = handle_check(handle);
    if (status != DOCDB_OK) {
        return status;
    }
    struct txn *txn = calloc(1, sizeof *txn);
    if (txn == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    txn->api = (docdb_txn){.backend = db->backend, .db = db, .flags = flags};
    txn->engine = engine;
    if (!(flags & DOCDB_TXN_BLIND)) {
        if (!snapshot_acquire(&engine->snapshots, &txn->snapshot)) {
            free(txn);
            return DOCDB_ERR_BUSY;
        }
        txn->has_snapshot = true;
        txn->deadline_ns = os_monotonic_ns(engine->os) + (int64_t)engine->limits.txn_timeout_ms * 1000000;
    }
    txn->database = database_acquire(handle->database);
    *out = &txn->api;
    return DOCDB_OK;
}

void txn_abort(docdb_txn *api) {
    struct txn *txn = txn_of(api);
    snapshot_drop(txn);
    txn_destroy(txn);
}

void txn_set_origin(docdb_txn *api, const void *origin) { txn_of(api)->origin = origin; }

int txn_check_open(const struct txn *txn) {
    if (atomic_load_explicit(&txn->database->dropped, memory_order_acquire)) {
        return DOCDB_ERR_NO_DATABASE;
    }
    bool late = txn->has_snapshot && os_monotonic_ns(txn->engine->os) > txn->deadline_ns;
    return late ? DOCDB_ERR_TXN_TIMEOUT : DOCDB_OK;
}

/* ---- What the transaction wrote ---- */

/* The first slot whose id is >= the id. */
static size_t local_slot(const struct txn *txn, const char *id) {
    size_t low = 0;
    size_t high = txn->local_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(txn->locals[middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct txn_local *txn_local_find(const struct txn *txn, const char *id) {
    size_t slot = local_slot(txn, id);
    bool found = slot < txn->local_count && strcmp(txn->locals[slot].id, id) == 0;
    return found ? &txn->locals[slot] : NULL;
}

static bool locals_reserve(struct txn *txn, size_t more) {
    if (txn->local_capacity - txn->local_count >= more) {
        return true;
    }
    size_t capacity = txn->local_capacity == 0 ? 8 : txn->local_capacity * 2;
    struct txn_local *locals = realloc(txn->locals, capacity * sizeof *locals);
    if (locals == NULL) {
        return false;
    }
    txn->locals = locals;
    txn->local_capacity = capacity;
    return true;
}

/* Notes a write; takes over one reference of doc. locals_reserve came before; id is an operation's. */
static void local_set(struct txn *txn, const char *id, docdb_doc *doc, int64_t mtime_ns) {
    size_t slot = local_slot(txn, id);
    if (slot < txn->local_count && strcmp(txn->locals[slot].id, id) == 0) {
        docdb_doc_release(txn->locals[slot].doc);
    } else {
        memmove(&txn->locals[slot + 1], &txn->locals[slot], (txn->local_count - slot) * sizeof *txn->locals);
        txn->local_count++;
    }
    txn->locals[slot] = (struct txn_local){.id = id, .doc = doc};
    if (doc != NULL) {
        txn->locals[slot].info = (docdb_info){.bytes = doc->info.bytes, .mtime_ns = mtime_ns};
    }
}

/* ---- Reads ---- */

/* A document of the transaction's own as its reader sees it: not committed, so without a version. */
static int local_read(const struct txn_local *local, docdb_doc **out) {
    if (local->doc == NULL) {
        return DOCDB_ERR_NOT_FOUND;
    }
    docdb_doc *doc = doc_create_alias(local->doc);
    if (doc == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    doc->info = local->info;
    *out = doc;
    return DOCDB_OK;
}

/* What the transaction sees of an id, own writes included, without a check of its state. */
static int see(struct txn *txn, const char *id, docdb_doc **out) {
    const struct txn_local *local = txn_local_find(txn, id);
    if (local != NULL) {
        return local_read(local, out);
    }
    struct index_view view;
    if (!index_find(txn->database->index, id, strlen(id), txn->snapshot.seq, true, &view)) {
        return DOCDB_ERR_NOT_FOUND;
    }
    return engine_load(txn->engine, txn->database, id, &view, out);
}

static int see_info(struct txn *txn, const char *id, docdb_info *out) {
    const struct txn_local *local = txn_local_find(txn, id);
    if (local != NULL) {
        *out = local->info;
        return local->doc == NULL ? DOCDB_ERR_NOT_FOUND : DOCDB_OK;
    }
    struct index_view view;
    if (!index_find(txn->database->index, id, strlen(id), txn->snapshot.seq, false, &view)) {
        return DOCDB_ERR_NOT_FOUND;
    }
    *out = view.info;
    return DOCDB_OK;
}

int txn_read(docdb_txn *api, const char *id, docdb_doc **out) {
    struct txn *txn = txn_of(api);
    int status = txn_check_open(txn);
    return status == DOCDB_OK ? see(txn, id, out) : status;
}

int txn_stat(docdb_txn *api, const char *id, docdb_info *out) {
    struct txn *txn = txn_of(api);
    int status = txn_check_open(txn);
    docdb_info info;
    if (status == DOCDB_OK) {
        status = see_info(txn, id, &info);
    }
    if (status == DOCDB_OK) {
        *out = info;
    }
    return status;
}

/* ---- Writes ---- */

/* A rename to itself changes nothing; its precondition is checked all the same. */
static bool is_no_op(const struct txn_op *op) { return op->to != NULL && strcmp(op->id, op->to) == 0; }

static bool is_put(enum write_kind kind) {
    return kind == WRITE_PUT || kind == WRITE_CREATE || kind == WRITE_UPDATE || kind == WRITE_PUT_IF;
}

/* Does the precondition of an operation hold, given what its id looks like? A document that the transaction wrote
 * itself has no version yet, so no comparison holds for it. */
static int precondition(enum write_kind kind, bool exists, uint64_t version, uint64_t expected) {
    switch (kind) {
    case WRITE_CREATE:
        return exists ? DOCDB_ERR_EXISTS : DOCDB_OK;
    case WRITE_UPDATE:
    case WRITE_DELETE:
    case WRITE_RENAME:
    case WRITE_SET_MTIME:
        return exists ? DOCDB_OK : DOCDB_ERR_NOT_FOUND;
    case WRITE_PUT_IF:
    case WRITE_DELETE_IF:
        return (exists ? version == expected && expected != 0 : expected == 0) ? DOCDB_OK : DOCDB_ERR_CONFLICT;
    case WRITE_PUT:
    default:
        return DOCDB_OK;
    }
}

/* The precondition of a rename's target. */
static int precondition_to(unsigned flags, bool exists) {
    if (flags & DOCDB_RENAME_NOREPLACE) {
        return exists ? DOCDB_ERR_EXISTS : DOCDB_OK;
    }
    if (flags & DOCDB_RENAME_EXCHANGE) {
        return exists ? DOCDB_OK : DOCDB_ERR_NOT_FOUND;
    }
    return DOCDB_OK;
}

/* Against the snapshot and the writes before. */
static int check_now(struct txn *txn, const struct write *write) {
    docdb_info info = {0};
    int seen = see_info(txn, write->id, &info);
    int status = precondition(write->kind, seen == DOCDB_OK, info.version, write->expected);
    if (status == DOCDB_OK && write->to != NULL && strcmp(write->id, write->to) != 0) {
        docdb_info to;
        status = precondition_to(write->flags, see_info(txn, write->to, &to) == DOCDB_OK);
    }
    return status;
}

static int check_limits(const struct txn *txn, const struct write *write, uint64_t bytes) {
    const docdb_limits *limits = &txn->engine->limits;
    if (write->bytes > limits->max_doc_bytes) {
        return DOCDB_ERR_DOC_TOO_LARGE;
    }
    if (txn->op_count >= limits->max_txn_ops || bytes > limits->max_txn_bytes - txn->bytes) {
        return DOCDB_ERR_TXN_TOO_LARGE;
    }
    return DOCDB_OK;
}

/* The operation with copies of everything it needs. */
static int op_create(struct txn *txn, const struct write *write, struct txn_op **out) {
    size_t id_bytes = strlen(write->id);
    size_t to_bytes = write->to == NULL ? 0 : strlen(write->to);
    struct txn_op *op = malloc(sizeof *op + id_bytes + 1 + to_bytes + 1);
    if (op == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    *op = (struct txn_op){.kind = write->kind,
                          .flags = write->flags,
                          .expected = write->expected,
                          .mtime_ns = write->mtime_ns,
                          .id_bytes = (uint8_t)id_bytes,
                          .to_bytes = (uint8_t)to_bytes};
    memcpy(op->id, write->id, id_bytes + 1);
    if (write->to != NULL) {
        op->to = op->id + id_bytes + 1;
        memcpy(op->to, write->to, to_bytes + 1);
    }
    if (is_put(write->kind)) {
        op->doc = write->bytes > LIMIT_INLINE_DOC_BYTES ? doc_create_large(write->bytes) : doc_create(write->bytes);
        if (op->doc == NULL) {
            free(op);
            return DOCDB_ERR_MEMORY;
        }
        memcpy(op->doc->data, write->data, write->bytes);
        op->doc->checksum = checksum(write->data, write->bytes);
        doc_account(op->doc, &txn->engine->resident_bytes);
    }
    *out = op;
    return DOCDB_OK;
}

/* Brings what the transaction sees of the written ids up to date. `moved` and `swapped` are the documents before
 * the write. */
static void locals_note(struct txn *txn, struct txn_op *op, docdb_doc *moved, docdb_doc *swapped) {
    switch (op->kind) {
    case WRITE_DELETE:
    case WRITE_DELETE_IF:
        local_set(txn, op->id, NULL, 0);
        break;
    case WRITE_SET_MTIME:
        local_set(txn, op->id, moved, op->mtime_ns);
        break;
    case WRITE_RENAME:
        if (is_no_op(op)) {
            docdb_doc_release(moved);
            docdb_doc_release(swapped);
            break;
        }
        local_set(txn, op->to, moved, moved->info.mtime_ns);
        local_set(txn, op->id, swapped, swapped == NULL ? 0 : swapped->info.mtime_ns);
        break;
    default:
        local_set(txn, op->id, docdb_doc_acquire(op->doc), 0);
        break;
    }
}

/* The documents that a rename or a new mtime moves, pinned, as the transaction sees them. */
static int pin_sources(struct txn *txn, const struct write *write, docdb_doc **moved, docdb_doc **swapped) {
    int status = DOCDB_OK;
    if (write->kind == WRITE_RENAME || write->kind == WRITE_SET_MTIME) {
        status = see(txn, write->id, moved);
    }
    if (status == DOCDB_OK && write->kind == WRITE_RENAME && (write->flags & DOCDB_RENAME_EXCHANGE)) {
        status = see(txn, write->to, swapped);
    }
    return status;
}

/* A blind rename or mtime needs its document resident when the commit thread comes to it, which must not wait for a
 * disk. */
static void warm(const struct txn *txn, const char *id) {
    struct index_view view;
    docdb_doc *doc = NULL;
    if (index_find(txn->database->index, id, strlen(id), INDEX_NEWEST, true, &view) &&
        engine_load(txn->engine, txn->database, id, &view, &doc) == DOCDB_OK) {
        docdb_doc_release(doc);
    }
}

static void op_append(struct txn *txn, struct txn_op *op, uint64_t bytes) {
    if (txn->last != NULL) {
        txn->last->next = op;
    } else {
        txn->first = op;
    }
    txn->last = op;
    txn->op_count++;
    txn->bytes += bytes;
    txn->meta_bytes_max += wal_op_bytes(op->id_bytes, op->to_bytes);
    txn->docs_bytes += op->doc == NULL ? 0 : round_up(op->doc->info.bytes, 8);
}

int txn_write(docdb_txn *api, const struct write *write) {
    struct txn *txn = txn_of(api);
    uint64_t bytes = strlen(write->id) + (write->to == NULL ? 0 : strlen(write->to)) + write->bytes;
    bool blind = (api->flags & DOCDB_TXN_BLIND) != 0;
    docdb_doc *moved = NULL;
    docdb_doc *swapped = NULL;
    struct txn_op *op = NULL;
    int status = txn_check_open(txn);
    if (status == DOCDB_OK) {
        status = check_limits(txn, write, bytes);
    }
    if (status == DOCDB_OK && !blind) {
        status = check_now(txn, write);
        if (status == DOCDB_OK) {
            status = locals_reserve(txn, 2) ? pin_sources(txn, write, &moved, &swapped) : DOCDB_ERR_MEMORY;
        }
    }
    if (status == DOCDB_OK) {
        status = op_create(txn, write, &op);
    }
    if (status != DOCDB_OK) {
        docdb_doc_release(moved);
        docdb_doc_release(swapped);
        return status;
    }
    op_append(txn, op, bytes);
    if (!blind) {
        locals_note(txn, op, moved, swapped);
    } else if (write->kind == WRITE_RENAME || write->kind == WRITE_SET_MTIME) {
        warm(txn, write->id);
    }
    return DOCDB_OK;
}

/* ---- Committing: the caller's thread ---- */

struct txn *txn_of_request(struct request *request) {
    return (struct txn *)((char *)request - offsetof(struct txn, request));
}

static void txn_complete(struct request *request) {
    struct txn *txn = txn_of_request(request);
    snapshot_drop(txn); /* a batch that was refused as a whole never came to txn_apply */
    txn->done(txn->done_arg, request->status, request->commit_seq);
    txn_destroy(txn);
}

static void ack_released(docdb_ack *ack) {
    struct request *request = (struct request *)((char *)ack - offsetof(struct request, ack));
    request->complete(request);
}

static enum wal_op_kind wal_kind(const struct txn_op *op) {
    switch (op->kind) {
    case WRITE_DELETE:
    case WRITE_DELETE_IF:
        return WAL_OP_DELETE;
    case WRITE_RENAME:
        return op->flags & DOCDB_RENAME_EXCHANGE ? WAL_OP_EXCHANGE : WAL_OP_RENAME;
    case WRITE_SET_MTIME:
        return WAL_OP_SET_MTIME;
    default:
        return op->in_segment ? WAL_OP_PUT_IN_SEGMENT : WAL_OP_PUT;
    }
}

/* Which documents go to a segment instead of the WAL: the large ones, and all when they are many together. Returns
 * the bytes that stay for the WAL. */
static uint64_t documents_divide(struct txn *txn) {
    uint64_t in_wal = txn->docs_bytes;
    for (struct txn_op *op = txn->first; op != NULL; op = op->next) {
        if (op->doc != NULL && (doc_is_large(op->doc) || txn->docs_bytes > LIMIT_INLINE_TXN_BYTES)) {
            op->in_segment = true;
            in_wal -= round_up(op->doc->info.bytes, 8);
        }
    }
    return in_wal;
}

/* Encodes the operation table and takes the memory that the commit thread will need. */
static int prepare(struct txn *txn) {
    txn->meta = malloc(txn->meta_bytes_max == 0 ? 1 : (size_t)txn->meta_bytes_max);
    txn->apply.applied = malloc(2 * (size_t)txn->op_count * sizeof *txn->apply.applied);
    if (txn->meta == NULL || txn->apply.applied == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (struct txn_op *op = txn->first; op != NULL; op = op->next) {
        if (is_no_op(op)) {
            continue;
        }
        op->meta_at = txn->meta_bytes;
        txn->meta_bytes += wal_op_encode(&(struct wal_op){.kind = wal_kind(op),
                                                          .id_bytes = op->id_bytes,
                                                          .second_id_bytes = op->to_bytes,
                                                          .doc_bytes = op->doc == NULL ? 0 : op->doc->info.bytes,
                                                          .doc_checksum = op->doc == NULL ? 0 : op->doc->checksum,
                                                          .mtime_ns = op->mtime_ns,
                                                          .id = op->id,
                                                          .second_id = op->to},
                                         txn->meta + txn->meta_bytes);
        txn->wal_op_count++;
    }
    return DOCDB_OK;
}

/* Does it do nothing but delete? Then it may use what is reserved on a full disk. */
static bool txn_frees(const struct txn *txn) {
    bool frees = true;
    for (const struct txn_op *op = txn->first; op != NULL && frees; op = op->next) {
        frees = op->kind == WRITE_DELETE || op->kind == WRITE_DELETE_IF;
    }
    return frees;
}

void txn_commit_async(docdb_txn *api, docdb_commit_fn done, void *arg) {
    struct txn *txn = txn_of(api);
    struct engine *engine = txn->engine;
    int status = txn_check_open(txn);
    uint64_t in_wal = documents_divide(txn);
    txn->done = done;
    txn->done_arg = arg;
    if (status == DOCDB_OK && txn->op_count > 0) {
        status = atomic_load(&engine->read_only) ? DOCDB_ERR_READ_ONLY : prepare(txn);
    }
    txn->request = (struct request){.kind = REQUEST_TXN,
                                    .wal_bytes = WAL_RECORD_HEADER_BYTES + txn->meta_bytes_max + in_wal,
                                    .bytes = WAL_RECORD_HEADER_BYTES + txn->meta_bytes_max + txn->docs_bytes,
                                    .frees = txn_frees(txn),
                                    .status = status,
                                    .commit_seq = txn->snapshot.seq,
                                    .complete = txn_complete};
    ack_init(&txn->request.ack, ack_released);
    if (status == DOCDB_OK && txn->op_count > 0) {
        status = commit_queue_submit(&engine->queue, &txn->request);
        if (status == DOCDB_OK) {
            return;
        }
        txn->request.status = status;
    }
    txn_complete(&txn->request);
}

/* ---- Committing: the commit thread ---- */

/* Did another commit change the id since the snapshot? */
static int check_conflict(const struct txn *txn, const char *id, size_t id_bytes) {
    if (!txn->has_snapshot) {
        return DOCDB_OK;
    }
    const struct entry *entry = index_lookup(txn->database->index, id, id_bytes);
    bool changed = entry != NULL && entry->seq > txn->snapshot.seq && entry->seq != txn->apply.commit_seq;
    return changed ? DOCDB_ERR_CONFLICT : DOCDB_OK;
}

static int check_at_commit(const struct txn *txn, const struct txn_op *op) {
    int status = check_conflict(txn, op->id, op->id_bytes);
    if (status == DOCDB_OK && op->to != NULL) {
        status = check_conflict(txn, op->to, op->to_bytes);
    }
    if (status != DOCDB_OK) {
        return status;
    }
    const struct entry *live = apply_live(&txn->apply, op->id, op->id_bytes);
    status = precondition(op->kind, live != NULL, live == NULL ? 0 : live->seq, op->expected);
    if (status == DOCDB_OK && op->kind == WRITE_RENAME && !is_no_op(op)) {
        status = precondition_to(op->flags, apply_live(&txn->apply, op->to, op->to_bytes) != NULL);
    }
    return status;
}

static int op_apply(struct txn *txn, struct txn_op *op) {
    docdb_doc *doc = op->doc;
    switch (op->kind) {
    case WRITE_DELETE:
    case WRITE_DELETE_IF:
        return apply_delete(&txn->apply, op->id, op->id_bytes);
    case WRITE_RENAME:
        if (is_no_op(op)) {
            return DOCDB_OK;
        }
        if (op->flags & DOCDB_RENAME_EXCHANGE) {
            return apply_exchange(&txn->apply, op->id, op->id_bytes, op->to, op->to_bytes);
        }
        return apply_rename(&txn->apply, op->id, op->id_bytes, op->to, op->to_bytes);
    case WRITE_SET_MTIME:
        return apply_set_mtime(&txn->apply, op->id, op->id_bytes, op->mtime_ns);
    default:
        /* The log needs it after this, so the operation keeps a reference. */
        op->applied_at = txn->apply.count;
        return apply_put(&txn->apply, op->id, op->id_bytes, docdb_doc_acquire(doc), 0);
    }
}

int txn_apply(struct txn *txn, uint64_t commit_seq, int64_t commit_time_ns) {
    struct applied *applied = txn->apply.applied;
    int status = atomic_load(&txn->database->dropped) ? DOCDB_ERR_NO_DATABASE : DOCDB_OK;
    txn->apply = (struct apply){.engine = txn->engine,
                                .database = txn->database,
                                .commit_seq = commit_seq,
                                .commit_time_ns = commit_time_ns,
                                .applied = applied};
    if (status == DOCDB_OK) {
        status = index_reserve(txn->database->index, 2 * (size_t)txn->op_count);
    }
    for (struct txn_op *op = txn->first; op != NULL && status == DOCDB_OK; op = op->next) {
        status = check_at_commit(txn, op);
        if (status == DOCDB_OK) {
            status = op_apply(txn, op);
        }
    }
    if (status != DOCDB_OK) {
        apply_undo(&txn->apply);
    }
    if (txn->has_snapshot) {
        /* Validated: the snapshot has served. What that frees is reclaimed with the batch. */
        txn->has_snapshot = false;
        (void)snapshot_release(&txn->engine->snapshots, &txn->snapshot);
    }
    return status;
}
