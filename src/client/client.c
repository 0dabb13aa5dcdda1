/*
 * The backend of docdb.h over a socket: runtime, databases, reads. See client.h; transactions are in txn.c, scans
 * in scan.c, verifications in verify.c, backups in backup.c, the connection in link.h.
 *
 * Every verb is one request and its reply; a put is one frame. Nothing is cached, so what a call answers is what
 * the server knew. Any number of threads may call at once: their requests travel together.
 */
#include "client/client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "client/inside.h"

static struct client *client_of(docdb *runtime) { return (struct client *)runtime; }

static struct client_db *db_of(docdb_db *db) { return (struct client_db *)db; }

/* ---- Calls ---- */

int client_call_empty(struct client *client, uint8_t op, uint32_t handle, struct call *call) {
    call_init(call, NULL);
    return link_call(&client->link, chunk_create(0), op, handle, call);
}

int client_call_id(struct client *client, uint8_t op, uint32_t handle, const char *id, struct call *call) {
    struct chunk *chunk = chunk_create(1 + DOCDB_ID_BYTES_MAX);
    if (chunk != NULL) {
        struct wire_writer writer = chunk_writer(chunk);
        id_encode(&writer, id);
        chunk_wrote(chunk, &writer);
    }
    return link_call(&client->link, chunk, op, handle, call);
}

int client_read(struct client *client, uint8_t op, uint32_t handle, const char *id, docdb_doc **out) {
    struct call call;
    call_init(&call, NULL);
    call.wants_document = true;
    int status = client_call_id(client, op, handle, id, &call);
    if (status == DOCDB_OK) {
        *out = call.document;
        call.document = NULL;
    }
    call_fini(&call);
    return status;
}

int client_stat(struct client *client, uint8_t op, uint32_t handle, const char *id, docdb_info *out) {
    struct call call;
    docdb_info info;
    call_init(&call, NULL);
    int status = client_call_id(client, op, handle, id, &call);
    if (status == DOCDB_OK && info_decode(&info, call.body, call.body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    if (status == DOCDB_OK) {
        *out = info;
    }
    call_fini(&call);
    return status;
}

void client_tell(struct client *client, uint8_t op, uint32_t handle) {
    struct chunk *chunk = chunk_create(0);
    if (chunk != NULL) { /* else it ends with the connection */
        (void)link_send(&client->link, chunk, op, FRAME_NO_REPLY, handle, NULL);
    }
}

static int call_db_request(struct client *client, uint8_t op, const char *name, unsigned flags, struct call *call) {
    struct chunk *chunk = chunk_create(SMALL_BODY_BYTES_MAX);
    call_init(call, NULL);
    if (chunk != NULL) {
        struct wire_writer writer = chunk_writer(chunk);
        db_request_encode(&writer, flags, name);
        chunk_wrote(chunk, &writer);
    }
    return link_call(&client->link, chunk, op, 0, call);
}

/* ---- Runtime ---- */

static int runtime_close(docdb *runtime) {
    struct client *client = client_of(runtime);
    link_close(&client->link);
    free(client->path);
    free(client);
    return DOCDB_OK;
}

static int runtime_checkpoint(docdb *runtime) {
    struct call call;
    int status = client_call_empty(client_of(runtime), OP_CHECKPOINT, 0, &call);
    call_fini(&call);
    return status;
}

static void runtime_get_limits(docdb *runtime, docdb_limits *out) { *out = client_of(runtime)->limits; }

static int runtime_get_stats(docdb *runtime, docdb_stats *out) {
    struct call call;
    docdb_stats stats;
    int status = client_call_empty(client_of(runtime), OP_STATS, 0, &call);
    if (status == DOCDB_OK && stats_decode(&stats, call.body, call.body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    if (status == DOCDB_OK) {
        *out = stats;
    }
    call_fini(&call);
    return status;
}

/* ---- Databases ---- */

static int runtime_db_open(docdb *runtime, const char *name, unsigned flags, docdb_db **out) {
    struct call call;
    struct client_db *db = calloc(1, sizeof *db);
    if (db == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    /* READ_ONLY is a matter of the handle on this side. */
    int status =
        call_db_request(client_of(runtime), OP_OPEN_DB, name, flags & ~(unsigned)DOCDB_DB_READ_ONLY, &call);
    if (status == DOCDB_OK) {
        db->base = (docdb_db){.backend = runtime->backend, .runtime = runtime, .flags = flags};
        memcpy(db->base.name, name, strlen(name) + 1);
        db->handle = call.handle;
        *out = &db->base;
    } else {
        free(db);
    }
    call_fini(&call);
    return status;
}

static void runtime_db_close(docdb_db *db) {
    client_tell(client_of(db->runtime), OP_CLOSE_DB, db_of(db)->handle);
    free(db_of(db));
}

static int runtime_db_drop(docdb *runtime, const char *name, unsigned flags) {
    struct call call;
    int status = call_db_request(client_of(runtime), OP_DROP_DB, name, flags, &call);
    call_fini(&call);
    return status;
}

/* Decodes a list of databases into memory that is the caller's. */
static int list_decode(const struct call *call, docdb_db_info **out, size_t *count) {
    struct wire_reader reader;
    wire_reader_init(&reader, call->body, call->body_bytes);
    size_t claimed = wire_read_u32(&reader, "the body ends inside the count");
    if (claimed > call->body_bytes) {
        return DOCDB_ERR_PROTOCOL; /* each takes more than a byte */
    }
    docdb_db_info *list = claimed == 0 ? NULL : calloc(claimed, sizeof *list);
    if (list == NULL && claimed != 0) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < claimed; i++) {
        db_info_read(&list[i], &reader);
    }
    if (wire_reader_finish(&reader) != NULL) {
        free(list);
        return DOCDB_ERR_PROTOCOL;
    }
    *out = list;
    *count = claimed;
    return DOCDB_OK;
}

static int runtime_db_list(docdb *runtime, docdb_db_info **out, size_t *count) {
    struct call call;
    int status = client_call_empty(client_of(runtime), OP_LIST_DBS, 0, &call);
    if (status == DOCDB_OK) {
        status = list_decode(&call, out, count);
    }
    call_fini(&call);
    return status;
}

static int db_stat(docdb_db *db, docdb_db_info *out) {
    struct call call;
    docdb_db_info info;
    int status = client_call_empty(client_of(db->runtime), OP_STAT_DB, db_of(db)->handle, &call);
    if (status == DOCDB_OK && db_info_decode(&info, call.body, call.body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    if (status == DOCDB_OK) {
        *out = info;
    }
    call_fini(&call);
    return status;
}

/* ---- Documents ---- */

static int db_read(docdb_db *db, const char *id, docdb_doc **out) {
    return client_read(client_of(db->runtime), OP_READ, db_of(db)->handle, id, out);
}

static int db_doc_stat(docdb_db *db, const char *id, docdb_info *out) {
    return client_stat(client_of(db->runtime), OP_STAT, db_of(db)->handle, id, out);
}

/* ---- Observers: the mount's, which lives in the server's process ---- */

static int runtime_observe(docdb *runtime, docdb_observer_fn observer, void *arg, docdb_observer **out) {
    (void)runtime;
    (void)observer;
    (void)arg;
    (void)out;
    return DOCDB_ERR_UNSUPPORTED;
}

static void runtime_unobserve(docdb_observer *observer) { (void)observer; }

/* ---- Open ---- */

static const struct backend client_backend = {
    .close = runtime_close,
    .checkpoint = runtime_checkpoint,
    .get_limits = runtime_get_limits,
    .get_stats = runtime_get_stats,
    .db_open = runtime_db_open,
    .db_close = runtime_db_close,
    .db_drop = runtime_db_drop,
    .db_list = runtime_db_list,
    .db_stat = db_stat,
    .read = db_read,
    .stat = db_doc_stat,
    .begin = client_begin,
    .txn_read = client_txn_read,
    .txn_stat = client_txn_stat,
    .txn_write = client_txn_write,
    .txn_set_origin = client_txn_set_origin,
    .commit_async = client_commit_async,
    .abort = client_abort,
    .scan_open = client_scan_open,
    .scan_next = client_scan_next,
    .scan_close = client_scan_close,
    .verify_open = client_verify_open,
    .verify_next = client_verify_next,
    .verify_close = client_verify_close,
    .backup_open = client_backup_open,
    .backup_next = client_backup_next,
    .backup_close = client_backup_close,
    .observe = runtime_observe,
    .unobserve = runtime_unobserve,
};

int client_open(const char *path, const docdb_options *options, docdb **out, docdb_error *error) {
    struct log log = {.fn = options->log, .arg = options->log_arg};
    struct hello_reply hello;
    int socket = -1;
    int status = connect_to_server(path, &socket, &hello, error);
    if (status != DOCDB_OK) {
        return status;
    }
    struct client *client = calloc(1, sizeof *client);
    char *copy = strdup(path);
    status = client == NULL || copy == NULL ? DOCDB_ERR_MEMORY : link_open(&client->link, socket, copy, &log);
    if (status != DOCDB_OK) {
        (void)close(socket);
        free(copy);
        free(client);
        return error_set(error, status, "cannot connect to %s: %s", path, docdb_error_text(status));
    }
    client->base.backend = &client_backend;
    client->limits = hello.limits;
    client->path = copy;
    *out = &client->base;
    return DOCDB_OK;
}
