/* See request.h. Handlers come in the order of enum op; each decodes the whole body before it touches anything. */
#include "server/request.h"

#include <stdlib.h>
#include <string.h>

#include "server/bounds.h"
#include "server/loop.h"

/* One request while it is handled. */
struct request {
    struct connection *connection;
    const struct frame *frame;
    const void *body;
    size_t body_bytes;
};

static struct handles *handles_of(const struct request *request) { return &request->connection->handles; }

/* ---- Answers ---- */

static const char *answer_status(const struct request *request, int status) {
    connection_reply_status(request->connection, request->frame, status);
    return NULL;
}

static const char *answer_handle(const struct request *request, uint32_t handle) {
    connection_reply(request->connection, request->frame, (struct reply_header){.handle = handle}, reply_create(0),
                     0, NULL);
    return NULL;
}

/* For a reply with a small body: writes it with `writer`, then answer_small. NULL: out of memory, which
 * answer_small handles. */
static struct reply *small_begin(struct wire_writer *writer) {
    struct reply *reply = reply_create(SMALL_BODY_BYTES_MAX);
    if (reply != NULL) {
        wire_writer_init(writer, reply_body(reply), SMALL_BODY_BYTES_MAX);
    }
    return reply;
}

static const char *answer_info(const struct request *request, int status, const docdb_info *info) {
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    struct reply *reply = reply_create(INFO_BYTES);
    if (reply != NULL) {
        struct wire_writer writer;
        wire_writer_init(&writer, reply_body(reply), INFO_BYTES);
        info_encode(&writer, info);
    }
    connection_reply(request->connection, request->frame, (struct reply_header){0}, reply, INFO_BYTES, NULL);
    return NULL;
}

/* Takes over the document: a small one is copied into the reply, a large one is sent from where it lies. */
static const char *answer_document(const struct request *request, int status, docdb_doc *document) {
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    size_t bytes = docdb_doc_bytes(document);
    size_t copied = bytes <= REPLY_COPY_BYTES_MAX ? bytes : 0;
    struct reply *reply = reply_create(INFO_BYTES + copied);
    if (reply != NULL) {
        struct wire_writer writer;
        wire_writer_init(&writer, reply_body(reply), INFO_BYTES + copied);
        info_encode(&writer, docdb_doc_info(document));
        wire_write_bytes(&writer, docdb_doc_data(document), copied);
    }
    if (copied == bytes) {
        docdb_doc_release(document);
        document = NULL;
    }
    connection_reply(request->connection, request->frame, (struct reply_header){0}, reply, INFO_BYTES + copied,
                     document);
    return NULL;
}

/* ---- Hello ---- */

static const char *handle_hello(const struct request *request) {
    struct connection *connection = request->connection;
    struct hello_request hello;
    const char *problem = hello_request_decode(&hello, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    if (hello.version_min > PROTOCOL_VERSION || hello.version_max < PROTOCOL_VERSION) {
        static const char text[] = "this server speaks version 1 of the protocol, which the client does not";
        struct reply *reply = reply_create(sizeof text);
        if (reply != NULL) {
            memcpy(reply_body(reply), text, sizeof text - 1);
        }
        connection_reply(connection, request->frame, (struct reply_header){.status = DOCDB_ERR_PROTOCOL}, reply,
                         sizeof text - 1, NULL);
        connection_drain(connection);
        return NULL;
    }
    struct hello_reply answer = {
        .version = PROTOCOL_VERSION,
        .max_request_bytes = connection->loop->max_request_bytes,
        .limits = connection->loop->limits,
        .server_version = DOCDB_VERSION,
    };
    struct wire_writer writer = {0};
    struct reply *reply = small_begin(&writer);
    if (reply != NULL) {
        hello_reply_encode(&writer, &answer);
    }
    connection->greeted = true;
    connection_reply(connection, request->frame, (struct reply_header){0}, reply, writer.bytes, NULL);
    return NULL;
}

/* ---- What is answered later ---- */

static struct task *task_create(const struct request *request) {
    struct task *task = calloc(1, sizeof *task);
    if (task != NULL) {
        task->connection = request->connection;
        task->frame = *request->frame;
        task->bytes = FRAME_BYTES + request->body_bytes;
        task->runtime = request->connection->loop->runtime;
    }
    return task;
}

/* Ends the task. The connection may be gone afterwards. */
static void task_destroy(struct task *task) {
    struct connection *connection = task->connection;
    size_t bytes = task->bytes;
    if (task->db != NULL) {
        open_db_release(task->db);
    }
    if (task->backup != NULL) {
        task->backup->reading = false;
        open_backup_release(task->backup);
    }
    free(task);
    connection_request_end(connection, bytes);
}

/* Reads the next chunk of a backup into a reply. */
static int backup_read(struct task *task) {
    docdb_backup_chunk chunk;
    int status = docdb_backup_next(task->backup->backup, &chunk);
    if (status != DOCDB_OK) {
        return status;
    }
    size_t capacity = BACKUP_CHUNK_HEAD_BYTES_MAX + chunk.bytes;
    task->reply = reply_create(capacity);
    if (task->reply != NULL) {
        struct wire_writer writer;
        wire_writer_init(&writer, reply_body(task->reply), capacity);
        backup_chunk_head_encode(&writer, &chunk);
        wire_write_bytes(&writer, chunk.data, chunk.bytes);
        task->reply_bytes = writer.bytes;
    }
    return DOCDB_OK; /* without a reply the connection ends */
}

/* Runs on a thread of the pool: may wait for commits and the disk. */
static void task_work(uv_work_t *work) {
    struct task *task = work->data;
    const char *name = task->db_request.name.text;
    unsigned flags = task->db_request.flags;
    switch (task->frame.op) {
    case OP_OPEN_DB:
        task->status = docdb_db_open(task->runtime, name, flags, &task->opened);
        break;
    case OP_DROP_DB:
        task->status = docdb_db_drop(task->runtime, name, flags);
        break;
    case OP_VERIFY_OPEN:
        task->status = docdb_verify_open(task->runtime, &task->verify->verify);
        break;
    case OP_VERIFY_NEXT:
        task->status = docdb_verify_next(task->verify->verify, &task->event);
        break;
    case OP_BACKUP_OPEN:
        if (task->backup_unwanted) {
            docdb_backup_close(task->backup_opened);
        } else {
            task->status = docdb_backup_open(task->runtime, &task->backup_opened);
        }
        break;
    case OP_BACKUP_NEXT:
        task->status = backup_read(task);
        break;
    default:
        task->status = docdb_checkpoint(task->runtime);
        break;
    }
}

/* Gives what the work opened a handle. False: it has no place, and the task goes on to close it. */
static bool task_opened(struct task *task, uint32_t *handle) {
    struct connection *connection = task->connection;
    bool closed = connection->state == CONNECTION_CLOSED;
    if (task->opened != NULL) {
        *handle = closed ? 0 : handles_add_db(&connection->handles, task->opened);
        if (*handle == 0) {
            docdb_db_close(task->opened);
            task->status = DOCDB_ERR_BUSY;
        }
    }
    if (task->backup_opened != NULL && !task->backup_unwanted) {
        uv_loop_t *uv = &connection->loop->uv;
        *handle = closed ? 0 : handles_add_backup(&connection->handles, uv, task->backup_opened);
        task->backup_unwanted = *handle == 0;
        task->status = *handle == 0 ? DOCDB_ERR_BUSY : DOCDB_OK;
        return *handle != 0;
    }
    return true;
}

static void task_queue(struct task *task);

static void task_after_work(uv_work_t *work, int cancelled) {
    (void)cancelled; /* nothing cancels these */
    struct task *task = work->data;
    struct connection *connection = task->connection;
    uint32_t handle = 0;
    if (!task_opened(task, &handle)) {
        task_queue(task);
        return;
    }
    bool has_body = task->frame.op == OP_BACKUP_NEXT && task->status == DOCDB_OK;
    connection_reply(connection, &task->frame, (struct reply_header){.status = task->status, .handle = handle},
                     has_body ? task->reply : reply_create(0), task->reply_bytes, NULL);
    task_destroy(task);
}

/* Hands a task to the thread pool; `after` runs on the loop's thread, and ends it. */
static const char *task_start(struct task *task, uv_after_work_cb after) {
    task->work.data = task;
    connection_request_begin(task->connection, task->bytes);
    (void)uv_queue_work(&task->connection->loop->uv, &task->work, task_work, after); /* fails without work only */
    return NULL;
}

static void task_queue(struct task *task) {
    task->work.data = task;
    (void)uv_queue_work(&task->connection->loop->uv, &task->work, task_work,
                        task_after_work); /* fails without work only */
}

/* Runs a request on the thread pool; db_request and backup may be NULL. */
static const char *task_run(const struct request *request, const struct db_request *db_request,
                            struct open_backup *backup) {
    struct task *task = task_create(request);
    if (task == NULL) {
        return answer_status(request, DOCDB_ERR_MEMORY);
    }
    if (db_request != NULL) {
        task->db_request = *db_request;
    }
    if (backup != NULL) {
        task->backup = backup;
        backup->reading = true;
        open_backup_acquire(backup);
    }
    return task_start(task, task_after_work);
}

/* Called by the engine, on any thread, also from inside docdb_commit_async. */
static void on_committed(void *arg, int status, uint64_t commit_seq) {
    struct task *task = arg;
    task->status = status;
    task->commit_seq = commit_seq;
    loop_complete(task->connection->loop, task);
}

void request_commit_done(struct task *task) {
    struct reply *reply = reply_create(sizeof task->commit_seq);
    size_t bytes = 0;
    if (reply != NULL && task->status == DOCDB_OK) {
        struct wire_writer writer;
        wire_writer_init(&writer, reply_body(reply), sizeof task->commit_seq);
        commit_seq_encode(&writer, task->commit_seq);
        bytes = writer.bytes;
    }
    connection_reply(task->connection, &task->frame, (struct reply_header){.status = task->status}, reply, bytes,
                     NULL);
    task_destroy(task);
}

/* Commits `txn`, which it takes over together with one use of `db`; `bytes` are in it besides those of the request.
 */
static const char *commit(const struct request *request, docdb_txn *txn, struct open_db *db, size_t bytes) {
    struct task *task = task_create(request);
    if (task == NULL) {
        docdb_abort(txn);
        open_db_release(db);
        return answer_status(request, DOCDB_ERR_MEMORY);
    }
    task->db = db;
    task->bytes += bytes;
    connection_request_begin(task->connection, task->bytes);
    docdb_commit_async(txn, on_committed, task);
    return NULL;
}

/* ---- Databases ---- */

static const char *handle_open_db(const struct request *request) {
    struct db_request db_request;
    const char *problem = db_request_decode(&db_request, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    if (db_request.flags & DOCDB_DB_EXCLUSIVE) {
        return task_run(request, &db_request, NULL);
    }
    /* One that exists is opened without a commit, so without the thread pool, where checkpoints may be in the way.
     */
    docdb_db *db = NULL;
    unsigned flags = db_request.flags & ~(unsigned)DOCDB_DB_CREATE;
    int status = docdb_db_open(request->connection->loop->runtime, db_request.name.text, flags, &db);
    if (status == DOCDB_ERR_NO_DATABASE && (db_request.flags & DOCDB_DB_CREATE)) {
        return task_run(request, &db_request, NULL);
    }
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    uint32_t handle = handles_add_db(handles_of(request), db);
    if (handle == 0) {
        docdb_db_close(db);
        return answer_status(request, DOCDB_ERR_BUSY);
    }
    return answer_handle(request, handle);
}

static const char *handle_drop_db(const struct request *request) {
    struct db_request db_request;
    const char *problem = db_request_decode(&db_request, request->body, request->body_bytes);
    return problem != NULL ? problem : task_run(request, &db_request, NULL);
}

static const char *handle_checkpoint(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    return problem != NULL ? problem : task_run(request, NULL, NULL);
}

static const char *handle_close_db(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    bool closed = handles_close_db(handles_of(request), request->frame->handle);
    return answer_status(request, closed ? DOCDB_OK : DOCDB_ERR_INVALID);
}

static const char *handle_list_dbs(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    docdb_db_info *list = NULL;
    size_t count = 0;
    int status = docdb_db_list(request->connection->loop->runtime, &list, &count);
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    size_t capacity = sizeof(uint32_t) + count * DB_INFO_BYTES_MAX;
    struct reply *reply = reply_create(capacity);
    struct wire_writer writer = {0};
    if (reply != NULL) {
        wire_writer_init(&writer, reply_body(reply), capacity);
        wire_write_u32(&writer, (uint32_t)count);
        for (size_t i = 0; i < count; i++) {
            db_info_encode(&writer, &list[i]);
        }
    }
    docdb_db_list_free(list);
    connection_reply(request->connection, request->frame, (struct reply_header){0}, reply, writer.bytes, NULL);
    return NULL;
}

static const char *handle_stat_db(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_db *db = handles_db(handles_of(request), request->frame->handle);
    docdb_db_info info;
    int status = db == NULL ? DOCDB_ERR_INVALID : docdb_db_stat(db->db, &info);
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    struct wire_writer writer = {0};
    struct reply *reply = small_begin(&writer);
    if (reply != NULL) {
        db_info_encode(&writer, &info);
    }
    connection_reply(request->connection, request->frame, (struct reply_header){0}, reply, writer.bytes, NULL);
    return NULL;
}

/* ---- Reads ---- */

static const char *handle_read(const struct request *request) {
    struct text id;
    const char *problem = id_decode(&id, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_db *db = handles_db(handles_of(request), request->frame->handle);
    docdb_doc *document = NULL;
    int status = db == NULL ? DOCDB_ERR_INVALID : docdb_read(db->db, id.text, &document);
    return answer_document(request, status, document);
}

static const char *handle_stat(const struct request *request) {
    struct text id;
    const char *problem = id_decode(&id, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_db *db = handles_db(handles_of(request), request->frame->handle);
    docdb_info info = {0};
    int status = db == NULL ? DOCDB_ERR_INVALID : docdb_stat(db->db, id.text, &info);
    return answer_info(request, status, &info);
}

static const char *handle_txn_read(const struct request *request) {
    struct text id;
    const char *problem = id_decode(&id, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_txn *txn = handles_txn(handles_of(request), request->frame->handle);
    docdb_doc *document = NULL;
    int status = txn == NULL ? DOCDB_ERR_INVALID : docdb_txn_read(txn->txn, id.text, &document);
    return answer_document(request, status, document);
}

static const char *handle_txn_stat(const struct request *request) {
    struct text id;
    const char *problem = id_decode(&id, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_txn *txn = handles_txn(handles_of(request), request->frame->handle);
    docdb_info info = {0};
    int status = txn == NULL ? DOCDB_ERR_INVALID : docdb_txn_stat(txn->txn, id.text, &info);
    return answer_info(request, status, &info);
}

/* ---- Transactions ---- */

static int write_apply(docdb_txn *txn, const struct write_view *write) {
    const char *id = write->id.text;
    switch (write->kind) {
    case WRITE_PUT:
        return docdb_txn_put(txn, id, write->data, write->bytes);
    case WRITE_CREATE:
        return docdb_txn_create(txn, id, write->data, write->bytes);
    case WRITE_UPDATE:
        return docdb_txn_update(txn, id, write->data, write->bytes);
    case WRITE_PUT_IF:
        return docdb_txn_put_if(txn, id, write->expected, write->data, write->bytes);
    case WRITE_DELETE:
        return docdb_txn_delete(txn, id);
    case WRITE_DELETE_IF:
        return docdb_txn_delete_if(txn, id, write->expected);
    case WRITE_RENAME:
        return docdb_txn_rename(txn, id, write->to.text, write->flags);
    case WRITE_SET_MTIME:
        return docdb_txn_set_mtime(txn, id, write->mtime_ns);
    default:
        return DOCDB_ERR_INVALID; /* write_read lets no other kind through */
    }
}

static const char *handle_batch(const struct request *request) {
    uint32_t count = 0;
    const char *problem = batch_check(&count, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_db *db = handles_db(handles_of(request), request->frame->handle);
    docdb_txn *txn = NULL;
    int status = db == NULL ? DOCDB_ERR_INVALID : docdb_begin(db->db, DOCDB_TXN_BLIND, &txn);
    struct wire_reader reader;
    wire_reader_init(&reader, request->body, request->body_bytes);
    (void)wire_read_u32(&reader, ""); /* the count, which was checked */
    for (uint32_t i = 0; i < count && status == DOCDB_OK; i++) {
        struct write_view write;
        write_read(&write, &reader);
        status = write_apply(txn, &write);
    }
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        return answer_status(request, status);
    }
    open_db_acquire(db);
    return commit(request, txn, db, 0);
}

static const char *handle_begin(const struct request *request) {
    uint32_t flags = 0;
    const char *problem = begin_decode(&flags, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_db *db = handles_db(handles_of(request), request->frame->handle);
    docdb_txn *txn = NULL;
    int status = db == NULL ? DOCDB_ERR_INVALID : docdb_begin(db->db, flags, &txn);
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    uint32_t handle = handles_add_txn(handles_of(request), db, txn);
    if (handle == 0) {
        docdb_abort(txn);
        return answer_status(request, DOCDB_ERR_BUSY);
    }
    return answer_handle(request, handle);
}

static const char *handle_txn_write(const struct request *request) {
    struct wire_reader reader;
    struct write_view write;
    wire_reader_init(&reader, request->body, request->body_bytes);
    write_read(&write, &reader);
    const char *problem = wire_reader_finish(&reader);
    if (problem != NULL) {
        return problem;
    }
    struct open_txn *txn = handles_txn(handles_of(request), request->frame->handle);
    int status = txn == NULL ? DOCDB_ERR_INVALID : write_apply(txn->txn, &write);
    if (status == DOCDB_OK) {
        txn->bytes += request->body_bytes;
    }
    return answer_status(request, status);
}

static const char *handle_commit(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    const struct open_txn *open = handles_txn(handles_of(request), request->frame->handle);
    if (open == NULL) {
        return answer_status(request, DOCDB_ERR_INVALID);
    }
    size_t bytes = open->bytes;
    struct open_db *db = NULL;
    docdb_txn *txn = handles_take_txn(handles_of(request), request->frame->handle, &db);
    return commit(request, txn, db, bytes);
}

static const char *handle_abort(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    bool aborted = handles_abort_txn(handles_of(request), request->frame->handle);
    return answer_status(request, aborted ? DOCDB_OK : DOCDB_ERR_INVALID);
}

/* ---- Scans ---- */

/* Entries of one reply, while they are collected. */
struct entries {
    struct wire_writer writer;
    uint32_t count;
    docdb_doc *document; /* a large one, the last of the reply */
    bool end;
};

/* Adds entries until the reply is large enough, the scan ends or fails. */
static void entries_collect(struct entries *entries, struct open_scan *scan) {
    while (entries->writer.bytes < SCAN_REPLY_BYTES && entries->document == NULL && !entries->end) {
        docdb_entry entry;
        int status = docdb_scan_next(scan->scan, &entry);
        entries->end = status == DOCDB_ERR_END;
        if (status != DOCDB_OK) {
            scan->pending = entries->end ? DOCDB_OK : status;
            return;
        }
        entry_head_encode(&entries->writer, entry.id, &entry.info);
        entries->count++;
        if (scan->with_docs && docdb_doc_bytes(entry.doc) <= REPLY_COPY_BYTES_MAX) {
            wire_write_bytes(&entries->writer, docdb_doc_data(entry.doc), docdb_doc_bytes(entry.doc));
        } else if (scan->with_docs) {
            entries->document = docdb_doc_acquire(entry.doc);
        }
    }
}

/* Answers with the next entries; a scan that has ended is closed. */
static const char *answer_entries(const struct request *request, uint32_t handle, struct open_scan *scan) {
    if (scan->pending != DOCDB_OK) {
        struct reply_header header = {.status = scan->pending, .handle = handle};
        scan->pending = DOCDB_OK;
        connection_reply(request->connection, request->frame, header, reply_create(0), 0, NULL);
        return NULL;
    }
    size_t capacity = sizeof(uint32_t) + SCAN_REPLY_BYTES + ENTRY_HEAD_BYTES_MAX + REPLY_COPY_BYTES_MAX;
    struct reply *reply = reply_create(capacity);
    struct entries entries = {0};
    if (reply != NULL) {
        wire_writer_init(&entries.writer, reply_body(reply), capacity);
        wire_write_u32(&entries.writer, 0);
        entries_collect(&entries, scan);
        struct wire_writer count;
        wire_writer_init(&count, reply_body(reply), sizeof(uint32_t));
        wire_write_u32(&count, entries.count);
    }
    if (entries.count == 0 && scan->pending != DOCDB_OK) {
        reply_destroy(reply);
        return answer_entries(request, handle, scan); /* tells the error; goes one deep */
    }
    struct reply_header header = {.handle = entries.end ? 0 : handle, .flags = entries.end ? FRAME_END : 0};
    if (entries.end) {
        (void)handles_close_scan(handles_of(request), handle);
    }
    connection_reply(request->connection, request->frame, header, reply, entries.writer.bytes, entries.document);
    return NULL;
}

static const char *handle_scan(const struct request *request) {
    struct scan_request scan_request;
    const char *problem = scan_request_decode(&scan_request, request->body, request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    docdb_scan_options options = {
        .flags = scan_request.flags,
        .prefix = scan_request.prefix.text,
        .after = scan_request.after.text[0] == '\0' ? NULL : scan_request.after.text,
        .limit = scan_request.limit,
    };
    struct open_txn *txn = NULL;
    struct open_db *db = NULL;
    if (request->frame->op == OP_TXN_SCAN) {
        txn = handles_txn(handles_of(request), request->frame->handle);
        db = txn == NULL ? NULL : txn->db;
    } else {
        db = handles_db(handles_of(request), request->frame->handle);
    }
    docdb_scan *scan = NULL;
    int status = db == NULL    ? DOCDB_ERR_INVALID
                 : txn == NULL ? docdb_scan_open(db->db, &options, &scan)
                               : docdb_txn_scan(txn->txn, &options, &scan);
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    uint32_t handle = handles_add_scan(
        handles_of(request),
        &(struct open_scan){
            .scan = scan, .db = db, .txn = txn, .with_docs = (options.flags & DOCDB_SCAN_DOCS) != 0});
    if (handle == 0) {
        docdb_scan_close(scan);
        return answer_status(request, DOCDB_ERR_BUSY);
    }
    return answer_entries(request, handle, handles_scan(handles_of(request), handle));
}

static const char *handle_scan_next(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    uint32_t handle = request->frame->handle;
    struct open_scan *scan = handles_scan(handles_of(request), handle);
    return scan == NULL ? answer_status(request, DOCDB_ERR_INVALID) : answer_entries(request, handle, scan);
}

static const char *handle_scan_close(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    bool closed = handles_close_scan(handles_of(request), request->frame->handle);
    return answer_status(request, closed ? DOCDB_OK : DOCDB_ERR_INVALID);
}

/* ---- Verifications ---- */

static void verify_after_open(uv_work_t *work, int cancelled) {
    (void)cancelled;
    struct task *task = work->data;
    struct connection *connection = task->connection;
    uint32_t handle = 0;
    if (task->status == DOCDB_OK && connection->state != CONNECTION_CLOSED) {
        handle = handles_add_verify(&connection->handles, task->verify);
        task->status = handle == 0 ? DOCDB_ERR_BUSY : DOCDB_OK;
    }
    if (handle == 0) {
        open_verify_release(task->verify); /* else the handle has this use */
    }
    connection_reply(connection, &task->frame, (struct reply_header){.status = task->status, .handle = handle},
                     reply_create(0), 0, NULL);
    task_destroy(task);
}

static const char *handle_verify_open(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct task *task = task_create(request);
    struct open_verify *verify = task == NULL ? NULL : open_verify_create(request->connection->loop);
    if (verify == NULL) {
        int status = task == NULL ? DOCDB_ERR_MEMORY : DOCDB_ERR_BUSY;
        free(task);
        return answer_status(request, status);
    }
    task->verify = verify;
    return task_start(task, verify_after_open);
}

static void verify_after_next(uv_work_t *work, int cancelled) {
    (void)cancelled;
    struct task *task = work->data;
    struct wire_writer writer = {0};
    struct reply *reply = reply_create(task->status == DOCDB_OK ? VERIFY_EVENT_BYTES_MAX : 0);
    if (reply != NULL && task->status == DOCDB_OK) {
        wire_writer_init(&writer, reply_body(reply), VERIFY_EVENT_BYTES_MAX);
        verify_event_encode(&writer, &task->event);
    }
    task->verify->busy = false;
    open_verify_release(task->verify);
    connection_reply(task->connection, &task->frame, (struct reply_header){.status = task->status}, reply,
                     writer.bytes, NULL);
    task_destroy(task);
}

static const char *handle_verify_next(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_verify *verify = handles_verify(handles_of(request), request->frame->handle);
    if (verify == NULL || verify->busy) {
        return answer_status(request, verify == NULL ? DOCDB_ERR_INVALID : DOCDB_ERR_BUSY);
    }
    struct task *task = task_create(request);
    if (task == NULL) {
        return answer_status(request, DOCDB_ERR_MEMORY);
    }
    open_verify_acquire(verify);
    verify->busy = true;
    task->verify = verify;
    return task_start(task, verify_after_next);
}

static const char *handle_verify_close(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    bool closed = handles_close_verify(handles_of(request), request->frame->handle);
    return answer_status(request, closed ? DOCDB_OK : DOCDB_ERR_INVALID);
}

/* ---- Stats ---- */

static const char *handle_stats(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    docdb_stats stats;
    int status = docdb_get_stats(request->connection->loop->runtime, &stats);
    if (status != DOCDB_OK) {
        return answer_status(request, status);
    }
    struct wire_writer writer = {0};
    struct reply *reply = small_begin(&writer);
    if (reply != NULL) {
        stats_encode(&writer, &stats);
    }
    connection_reply(request->connection, request->frame, (struct reply_header){0}, reply, writer.bytes, NULL);
    return NULL;
}

/* ---- Backups ---- */

static const char *handle_backup_open(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    return problem != NULL ? problem : task_run(request, NULL, NULL);
}

static const char *handle_backup_next(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    struct open_backup *backup = handles_backup(handles_of(request), request->frame->handle);
    if (backup == NULL || backup->reading) {
        return answer_status(request, backup == NULL ? DOCDB_ERR_INVALID : DOCDB_ERR_BUSY);
    }
    return task_run(request, NULL, backup);
}

static const char *handle_backup_close(const struct request *request) {
    const char *problem = empty_decode(request->body_bytes);
    if (problem != NULL) {
        return problem;
    }
    bool closed = handles_close_backup(handles_of(request), request->frame->handle);
    return answer_status(request, closed ? DOCDB_OK : DOCDB_ERR_INVALID);
}

/* ---- Which handler ---- */

typedef const char *(*handler)(const struct request *request);

const char *request_handle(struct connection *connection, const struct frame *frame, const void *body) {
    static const handler handlers[OP_COUNT] = {
        [OP_HELLO] = handle_hello,
        [OP_OPEN_DB] = handle_open_db,
        [OP_CLOSE_DB] = handle_close_db,
        [OP_DROP_DB] = handle_drop_db,
        [OP_LIST_DBS] = handle_list_dbs,
        [OP_STAT_DB] = handle_stat_db,
        [OP_READ] = handle_read,
        [OP_STAT] = handle_stat,
        [OP_BATCH] = handle_batch,
        [OP_BEGIN] = handle_begin,
        [OP_TXN_READ] = handle_txn_read,
        [OP_TXN_STAT] = handle_txn_stat,
        [OP_TXN_WRITE] = handle_txn_write,
        [OP_COMMIT] = handle_commit,
        [OP_ABORT] = handle_abort,
        [OP_SCAN] = handle_scan,
        [OP_TXN_SCAN] = handle_scan,
        [OP_SCAN_NEXT] = handle_scan_next,
        [OP_SCAN_CLOSE] = handle_scan_close,
        [OP_STATS] = handle_stats,
        [OP_CHECKPOINT] = handle_checkpoint,
        [OP_VERIFY_OPEN] = handle_verify_open,
        [OP_VERIFY_NEXT] = handle_verify_next,
        [OP_VERIFY_CLOSE] = handle_verify_close,
        [OP_BACKUP_OPEN] = handle_backup_open,
        [OP_BACKUP_NEXT] = handle_backup_next,
        [OP_BACKUP_CLOSE] = handle_backup_close,
    };
    if (connection->greeted != (frame->op != OP_HELLO)) {
        return connection->greeted ? "a second hello" : "the first frame is not a hello";
    }
    struct request request = {
        .connection = connection, .frame = frame, .body = body, .body_bytes = frame->body_bytes};
    return handlers[frame->op](&request);
}
