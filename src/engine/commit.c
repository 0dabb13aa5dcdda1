/* See commit.h. */
#include "engine/commit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/event.h"
#include "engine/maintenance.h"
#include "engine/txn.h"

#define RECLAIM_CHUNK 256u /* items freed under one hold of `apply` */

/* A catalog change; lives on the stack of the thread that waits for it. */
struct catalog_change {
    struct request request;
    const char *name;
    unsigned flags;
    struct database *database; /* created or dropped; one reference while it is worked on */
    struct event done;
};

static struct catalog_change *change_of(struct request *request) { return (struct catalog_change *)request; }

/* ---- Shared with the rest of the engine ---- */

void engine_reclaim(struct engine *engine) {
    bool more = true;
    while (more) {
        uint64_t horizon = snapshots_horizon(&engine->snapshots);
        mutex_lock(&engine->apply);
        more = reclaimer_run(&engine->reclaimer, horizon, RECLAIM_CHUNK);
        mutex_unlock(&engine->apply);
    }
}

/* ---- 2. Apply ---- */

static int create_apply(struct engine *engine, struct catalog_change *change, uint64_t commit_seq, int64_t now_ns) {
    struct database *existing = catalog_find(&engine->catalog, change->name);
    if (existing != NULL) {
        database_release(existing);
        return DOCDB_ERR_DATABASE_EXISTS;
    }
    int status = catalog_reserve(&engine->catalog);
    if (status != DOCDB_OK) {
        return status;
    }
    change->database =
        database_create(engine->os, &engine->log, engine->directory, engine->store_id, engine->next_database_id,
                        change->name, &engine->snapshots.published, &engine->open_files, engine->segment_bytes);
    if (change->database == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    atomic_store(&change->database->change_time_ns, now_ns);
    atomic_store(&change->database->newest_commit_seq, commit_seq);
    engine->next_database_id++;
    return DOCDB_OK;
}

static int drop_apply(struct engine *engine, struct catalog_change *change) {
    change->database = catalog_find(&engine->catalog, change->name);
    if (change->database == NULL) {
        return DOCDB_ERR_NO_DATABASE;
    }
    if ((change->flags & DOCDB_DROP_IF_EMPTY) && atomic_load(&change->database->index->live_documents) > 0) {
        database_release(change->database);
        change->database = NULL;
        return DOCDB_ERR_NOT_EMPTY;
    }
    return DOCDB_OK;
}

static int request_apply(struct engine *engine, struct request *request, uint64_t commit_seq, int64_t now_ns) {
    switch (request->kind) {
    case REQUEST_CREATE_DATABASE:
        return create_apply(engine, change_of(request), commit_seq, now_ns);
    case REQUEST_DROP_DATABASE:
        return drop_apply(engine, change_of(request));
    case REQUEST_TXN:
    default:
        return txn_apply(txn_of_request(request), commit_seq, now_ns);
    }
}

/* Applies the batch's requests; each gets its status and commit_seq. Returns how many were accepted. */
static size_t batch_apply(struct engine *engine, struct request *batch, int64_t now_ns) {
    size_t accepted = 0;
    mutex_lock(&engine->apply);
    for (struct request *request = batch; request != NULL; request = request->next) {
        uint64_t commit_seq = engine->next_commit_seq + accepted;
        request->status = request_apply(engine, request, commit_seq, now_ns);
        if (request->status == DOCDB_OK) {
            request->commit_seq = commit_seq;
            accepted++;
        }
    }
    mutex_unlock(&engine->apply);
    return accepted;
}

static struct request *reverse(struct request *list) {
    struct request *reversed = NULL;
    while (list != NULL) {
        struct request *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

static void request_undo(struct engine *engine, struct request *request) {
    if (request->kind == REQUEST_TXN) {
        apply_undo(&txn_of_request(request)->apply);
        return;
    }
    if (request->kind == REQUEST_CREATE_DATABASE) {
        engine->next_database_id--;
    }
    database_release(change_of(request)->database);
}

/* Takes back what batch_apply installed, newest first, and refuses it with `status`. Returns the batch, in order.
 */
static struct request *batch_undo(struct engine *engine, struct request *batch, int status) {
    struct request *reversed = reverse(batch);
    mutex_lock(&engine->apply);
    for (struct request *request = reversed; request != NULL; request = request->next) {
        if (request->status == DOCDB_OK) {
            request_undo(engine, request);
            request->status = status;
        }
    }
    mutex_unlock(&engine->apply);
    return reverse(reversed);
}

/* ---- 3. Place ---- */

/* Appends the documents of a transaction that go to a segment. */
static int txn_place(struct engine *engine, struct txn *txn) {
    struct segment_appender *appender = &txn->database->large;
    uint64_t segment_bytes = database_segment_bytes(txn->database);
    int status = DOCDB_OK;
    for (struct txn_op *op = txn->first; op != NULL && status == DOCDB_OK; op = op->next) {
        if (op->in_segment) {
            bool begins = appender->segment == NULL;
            const docdb_info *info = &txn->apply.applied[op->applied_at].info;
            status = appender_append(appender, segment_bytes, op->id, op->doc, info, &op->location);
            engine->open_appenders += begins && appender->segment != NULL ? 1 : 0;
        }
    }
    return status;
}

static void appender_give_up(struct engine *engine, struct segment_appender *appender) {
    engine->open_appenders -= appender->segment != NULL ? 1 : 0;
    appender_abandon(appender);
}

/* Writes the documents of the batch that go to segments, and makes them durable. They count once the log names
 * them. */
static int batch_place(struct engine *engine, struct request *batch) {
    int status = DOCDB_OK;
    for (struct request *request = batch; request != NULL && status == DOCDB_OK; request = request->next) {
        if (request->status == DOCDB_OK && request->kind == REQUEST_TXN) {
            status = txn_place(engine, txn_of_request(request));
        }
    }
    for (struct request *request = batch; request != NULL; request = request->next) {
        if (request->status == DOCDB_OK && request->kind == REQUEST_TXN) {
            struct segment_appender *appender = &txn_of_request(request)->database->large;
            if (status == DOCDB_OK) {
                status = appender_sync(appender);
            }
            if (status != DOCDB_OK) {
                appender_give_up(engine, appender);
            }
        }
    }
    return status;
}

/* The log names them: tells the index, before a checkpoint can see the commit. */
static void txn_placed(struct engine *engine, struct txn *txn) {
    bool evict = atomic_load_explicit(&engine->resident_bytes, memory_order_relaxed) > engine->memory_bytes;
    for (struct txn_op *op = txn->first; op != NULL; op = op->next) {
        if (!op->in_segment) {
            continue;
        }
        segments_named(&txn->database->segments, op->location.segment, txn->request.commit_seq);
        if (!txn->apply.applied[op->applied_at].superseded) {
            (void)index_relocate(txn->database->index, op->id, txn->request.commit_seq, op->location, evict);
        }
    }
}

static void batch_placed(struct engine *engine, struct request *batch) {
    for (struct request *request = batch; request != NULL; request = request->next) {
        if (request->status != DOCDB_OK || request->kind != REQUEST_TXN) {
            continue;
        }
        struct txn *txn = txn_of_request(request);
        txn_placed(engine, txn);
        if (appender_is_full(&txn->database->large, database_segment_bytes(txn->database)) ||
            (engine->open_appenders > LIMIT_OPEN_APPENDERS && txn->database->large.segment != NULL)) {
            appender_close(&txn->database->large);
            engine->open_appenders--;
        }
    }
}

/* ---- 4. Log ---- */

static int txn_log(struct engine *engine, struct txn *txn, int64_t now_ns) {
    docdb_doc *few[8];
    docdb_doc **docs = txn->op_count <= 8 ? few : malloc(txn->op_count * sizeof(docdb_doc *));
    if (docs == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    struct wal_append append = {.header = {.commit_seq = txn->request.commit_seq,
                                           .commit_time_ns = now_ns,
                                           .database_id = txn->database->id,
                                           .op_count = txn->wal_op_count,
                                           .meta_bytes = txn->meta_bytes},
                                .meta = txn->meta,
                                .docs = docs};
    for (const struct txn_op *op = txn->first; op != NULL; op = op->next) {
        if (op->in_segment) {
            wal_op_place(txn->meta + op->meta_at, op->location.segment, op->location.offset);
        } else if (op->doc != NULL) {
            docs[append.doc_count++] = op->doc;
        }
    }
    int status = wal_record_append(&engine->wal, &append);
    if (docs != few) {
        free(docs);
    }
    return status;
}

static int change_log(struct engine *engine, struct catalog_change *change, int64_t now_ns) {
    uint8_t meta[WAL_OP_HEADER_BYTES + DOCDB_NAME_BYTES_MAX + 8];
    bool create = change->request.kind == REQUEST_CREATE_DATABASE;
    uint64_t meta_bytes =
        wal_op_encode(&(struct wal_op){.kind = create ? WAL_OP_CREATE_DATABASE : WAL_OP_DROP_DATABASE,
                                       .id_bytes = (uint8_t)strlen(change->name),
                                       .id = change->name},
                      meta);
    struct wal_append append = {.header = {.commit_seq = change->request.commit_seq,
                                           .commit_time_ns = now_ns,
                                           .database_id = change->database->id,
                                           .op_count = 1,
                                           .meta_bytes = meta_bytes},
                                .meta = meta};
    return wal_record_append(&engine->wal, &append);
}

static int batch_log(struct engine *engine, struct request *batch, int64_t now_ns) {
    int status = DOCDB_OK;
    for (struct request *request = batch; request != NULL && status == DOCDB_OK; request = request->next) {
        if (request->status == DOCDB_OK) {
            status = request->kind == REQUEST_TXN ? txn_log(engine, txn_of_request(request), now_ns)
                                                  : change_log(engine, change_of(request), now_ns);
        }
    }
    return status == DOCDB_OK ? wal_batch_write(&engine->wal) : status;
}

/* ---- 5. Publish ---- */

static void request_publish(struct engine *engine, struct request *request, int64_t now_ns) {
    if (request->kind == REQUEST_CREATE_DATABASE) {
        catalog_add(&engine->catalog, database_acquire(change_of(request)->database));
        return;
    }
    if (request->kind == REQUEST_DROP_DATABASE) {
        atomic_store_explicit(&change_of(request)->database->dropped, true, memory_order_release);
        appender_give_up(engine, &change_of(request)->database->large);
        catalog_remove(&engine->catalog, change_of(request)->database);
        return;
    }
    struct txn *txn = txn_of_request(request);
    atomic_store_explicit(&txn->database->newest_commit_seq, request->commit_seq, memory_order_relaxed);
    for (size_t i = 0; i < txn->apply.count; i++) {
        if (txn->apply.applied[i].created || txn->apply.applied[i].tombstone) {
            atomic_store_explicit(&txn->database->change_time_ns, now_ns, memory_order_relaxed);
            break;
        }
    }
}

static void batch_publish(struct engine *engine, struct request *batch, size_t accepted, int64_t now_ns) {
    engine->next_commit_seq += accepted;
    mutex_lock(&engine->position_mutex);
    for (struct request *request = batch; request != NULL; request = request->next) {
        if (request->status == DOCDB_OK) {
            request_publish(engine, request, now_ns);
        }
    }
    engine->position =
        (struct commit_position){.commit_seq = engine->next_commit_seq - 1, .wal = engine->wal.appended};
    engine->position_next_database_id = engine->next_database_id;
    atomic_store_explicit(&engine->snapshots.published, engine->next_commit_seq - 1, memory_order_release);
    mutex_unlock(&engine->position_mutex);
    atomic_fetch_add_explicit(&engine->commits, accepted, memory_order_relaxed);
    atomic_fetch_add_explicit(&engine->batches, 1, memory_order_relaxed);
}

/* ---- 6. Observe ---- */

static void change_observe(struct engine *engine, struct catalog_change *change) {
    bool create = change->request.kind == REQUEST_CREATE_DATABASE;
    docdb_change what = {.kind = create ? DOCDB_CHANGE_DB_CREATE : DOCDB_CHANGE_DB_DROP};
    docdb_commit_event event = {.commit_seq = change->request.commit_seq,
                                .db_name = change->name,
                                .origin = NULL,
                                .change_count = 1,
                                .changes = &what};
    observers_call(&engine->observers, &event, &change->request.ack);
}

static void txn_observe(struct engine *engine, struct txn *txn) {
    docdb_change few[8];
    size_t count = txn->apply.count;
    docdb_change *changes = count <= 8 ? few : malloc(count * sizeof *changes);
    if (changes == NULL) {
        /* The commit stands; an observer that missed it would serve old data, so say so and stop. */
        engine_fail(engine, "out of memory while telling observers of commit %" PRIu64, txn->request.commit_seq);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct applied *applied = &txn->apply.applied[i];
        changes[i] = (docdb_change){.kind = applied->tombstone ? DOCDB_CHANGE_DELETE : DOCDB_CHANGE_PUT,
                                    .id = applied->entry->id,
                                    .info = applied->info,
                                    .created = applied->created};
    }
    docdb_commit_event event = {.commit_seq = txn->request.commit_seq,
                                .db_name = txn->database->name,
                                .origin = txn->origin,
                                .change_count = count,
                                .changes = changes};
    observers_call(&engine->observers, &event, &txn->request.ack);
    if (changes != few) {
        free(changes);
    }
}

static void batch_observe(struct engine *engine, struct request *batch) {
    if (!observers_any(&engine->observers)) {
        return;
    }
    for (struct request *request = batch; request != NULL; request = request->next) {
        if (request->status != DOCDB_OK) {
            continue;
        }
        if (request->kind == REQUEST_TXN) {
            txn_observe(engine, txn_of_request(request));
        } else {
            change_observe(engine, change_of(request));
        }
    }
}

/* ---- 7. Complete, 8. reclaim ---- */

static void batch_complete(struct engine *engine, struct request *batch) {
    while (batch != NULL) {
        struct request *next = batch->next; /* completing frees it */
        if (batch->status == DOCDB_ERR_CONFLICT) {
            atomic_fetch_add_explicit(&engine->conflicts, 1, memory_order_relaxed);
        } else if (batch->status != DOCDB_OK) {
            atomic_fetch_add_explicit(&engine->refused, 1, memory_order_relaxed);
        }
        docdb_ack_release(&batch->ack);
        batch = next;
    }
}

/* Queues what the batch replaced. Its room was reserved before. */
static void batch_finish(struct engine *engine, struct request *batch) {
    mutex_lock(&engine->apply);
    for (struct request *request = batch; request != NULL; request = request->next) {
        if (request->status == DOCDB_OK && request->kind == REQUEST_TXN) {
            apply_finish(&txn_of_request(request)->apply, &engine->reclaimer);
        }
    }
    mutex_unlock(&engine->apply);
}

/* ---- The step ---- */

static void batch_refuse(struct request *batch, int status) {
    for (struct request *request = batch; request != NULL; request = request->next) {
        request->status = status;
    }
}

/* Room in the log's files. When their limit is reached, or the disk is nearly full, a checkpoint lets go of some to
 * be used again; when that is not enough on a nearly full disk, the log takes what is reserved for deletes. */
static int wal_reserve(struct engine *engine, uint64_t bytes, bool frees) {
    uint64_t reserve = frees ? 0 : LIMIT_WAL_RESERVE_BYTES;
    int status = wal_batch_begin(&engine->wal, bytes, reserve);
    while (status == DOCDB_ERR_BUSY) {
        uint64_t lsn = atomic_load(&engine->checkpoint_lsn);
        status = checkpoint_wait(engine);
        bool moved = atomic_load(&engine->checkpoint_lsn) != lsn;
        if (status == DOCDB_OK && moved) {
            status = wal_batch_begin(&engine->wal, bytes, reserve);
        } else if (frees && atomic_exchange(&engine->wal.is_short, false)) {
            status = wal_batch_begin(&engine->wal, bytes, 0);
        } else {
            status = status == DOCDB_OK ? DOCDB_ERR_NO_SPACE : status;
        }
    }
    return status;
}

/* 1. Room in the WAL, on the disk and in the reclaimer for whatever the batch does. */
static int batch_reserve(struct engine *engine, struct request *batch) {
    uint64_t bytes = 0;
    uint64_t placed_bytes = 0;
    size_t versions = 0;
    bool frees = true;
    for (struct request *request = batch; request != NULL; request = request->next) {
        bytes += request->wal_bytes;
        placed_bytes += request->bytes - request->wal_bytes;
        versions += request->kind == REQUEST_TXN ? 2 * (size_t)txn_of_request(request)->op_count : 0;
        frees = frees && request->frees;
    }
    mutex_lock(&engine->apply);
    int status = reclaimer_reserve(&engine->reclaimer, versions) ? DOCDB_OK : DOCDB_ERR_MEMORY;
    mutex_unlock(&engine->apply);
    if (status == DOCDB_OK) {
        status = admission_check(engine, bytes, placed_bytes, frees);
    }
    return status == DOCDB_OK ? wal_reserve(engine, bytes, frees) : status;
}

static void maintain(struct engine *engine) {
    bool checkpoint = checkpoint_due(engine);
    if (checkpoint || wal_wants_file(&engine->wal)) {
        engine_wake_maintenance(engine, checkpoint);
    }
}

/* Everything up to the observers. Returns the batch, in order, for batch_complete. */
static struct request *batch_commit(struct engine *engine, struct request *batch) {
    int64_t now_ns = os_realtime_ns(engine->os);
    int status = atomic_load(&engine->read_only) ? DOCDB_ERR_READ_ONLY : batch_reserve(engine, batch);
    if (status != DOCDB_OK) {
        batch_refuse(batch, status);
        return batch;
    }
    size_t accepted = batch_apply(engine, batch, now_ns);
    if (accepted == 0) {
        return batch;
    }
    status = batch_place(engine, batch);
    if (status != DOCDB_OK) {
        return batch_undo(engine, batch, status);
    }
    status = batch_log(engine, batch, now_ns);
    if (status != DOCDB_OK) {
        mutex_lock(
            &engine->complete_mutex); /* what is durable is acknowledged before anything is refused for this */
        mutex_unlock(&engine->complete_mutex);
        engine_fail(engine, "writing the WAL failed (%s); restart the server once the disk is well",
                    docdb_error_text(status));
        return batch_undo(engine, batch, DOCDB_ERR_IO);
    }
    batch_placed(engine, batch);
    batch_publish(engine, batch, accepted, now_ns);
    batch_observe(engine, batch);
    batch_finish(engine, batch);
    return batch;
}

bool commit_step(struct engine *engine) {
    mutex_lock(&engine->commit_mutex);
    struct request *batch = commit_queue_take(&engine->queue);
    if (batch != NULL) {
        batch = batch_commit(engine, batch);
    }
    bool any = batch != NULL;
    mutex_lock(
        &engine->complete_mutex); /* before the next batch can have it: acknowledged in the order of commits */
    mutex_unlock(&engine->commit_mutex);
    batch_complete(engine, batch);
    mutex_unlock(&engine->complete_mutex);
    if (!any) {
        return false;
    }
    engine_reclaim(engine);
    maintain(engine);
    return true;
}

static void *commit_main(void *arg) {
    struct engine *engine = arg;
    while (commit_step(engine)) {
    }
    return NULL;
}

int commit_start(struct engine *engine) {
    for (size_t i = 0; i < COMMIT_THREADS; i++) {
        if (thread_start(&engine->commit_threads[i], "docdb-commit", commit_main, engine) != 0) {
            return DOCDB_ERR_MEMORY;
        }
        engine->commit_threads_started++;
    }
    return DOCDB_OK;
}

void commit_stop(struct engine *engine) {
    commit_queue_close(&engine->queue);
    for (; engine->commit_threads_started > 0; engine->commit_threads_started--) {
        thread_join(engine->commit_threads[engine->commit_threads_started - 1]);
    }
}

/* ---- Catalog changes ---- */

static void change_complete(struct request *request) { event_set(&change_of(request)->done); }

static void change_ack_released(docdb_ack *ack) {
    struct request *request = (struct request *)((char *)ack - offsetof(struct request, ack));
    request->complete(request);
}

static int change_commit(struct engine *engine, struct catalog_change *change) {
    event_init(&change->done);
    ack_init(&change->request.ack, change_ack_released);
    change->request.bytes = WAL_RECORD_HEADER_BYTES + wal_op_bytes(DOCDB_NAME_BYTES_MAX, 0);
    change->request.wal_bytes = change->request.bytes;
    change->request.frees = change->request.kind == REQUEST_DROP_DATABASE;
    change->request.complete = change_complete;
    int status = commit_queue_submit(&engine->queue, &change->request);
    if (status != DOCDB_OK) {
        return status;
    }
    event_wait(&change->done);
    if (change->request.status == DOCDB_OK) {
        database_release(change->database);
    }
    return change->request.status;
}

int commit_create_database(struct engine *engine, const char *name) {
    struct catalog_change change = {.request = {.kind = REQUEST_CREATE_DATABASE}, .name = name};
    return change_commit(engine, &change);
}

int commit_drop_database(struct engine *engine, const char *name, unsigned flags) {
    struct catalog_change change = {.request = {.kind = REQUEST_DROP_DATABASE}, .name = name, .flags = flags};
    return change_commit(engine, &change);
}
