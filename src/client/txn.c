/*
 * Transactions over a socket.
 *
 * A blind one is built on this side, as the body of one BATCH frame that goes out at the commit: a put is one round
 * trip. Any other lives on the server, where its snapshot is; each of its operations is a round trip. Limits of a
 * blind one are checked here, as the engine would; everything else is the server's to say.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/os.h"
#include "client/inside.h"

#define BATCH_CAPACITY_MIN 512 /* a small put fits */

struct client_txn {
    docdb_txn base;
    struct client *client;
    uint32_t handle; /* the server's number for it; a blind one has none */

    struct chunk *batch; /* a blind one's writes; else NULL */
    uint32_t writes;
    uint64_t bytes; /* of ids and documents */
    int64_t begun_ns;

    struct call commit;
    docdb_commit_fn done;
    void *done_arg;
};

static struct client_txn *txn_of(docdb_txn *txn) { return (struct client_txn *)txn; }

uint32_t client_txn_handle(docdb_txn *txn) { return txn_of(txn)->handle; }

static void txn_destroy(struct client_txn *txn) {
    chunk_destroy(txn->batch);
    free(txn);
}

/* ---- Begin ---- */

static int begin_blind(struct client_txn *txn) {
    txn->batch = chunk_create(BATCH_CAPACITY_MIN);
    if (txn->batch == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    txn->batch->bytes += BATCH_HEAD_BYTES; /* the count, known at the commit */
    txn->begun_ns = os_monotonic_ns(docdb_os_default());
    return DOCDB_OK;
}

static int begin_on_server(struct client_txn *txn, uint32_t db_handle, unsigned flags) {
    struct call call;
    struct chunk *chunk = chunk_create(sizeof(uint32_t));
    call_init(&call, NULL);
    if (chunk != NULL) {
        struct wire_writer writer = chunk_writer(chunk);
        wire_write_u32(&writer, flags);
        chunk_wrote(chunk, &writer);
    }
    int status = link_call(&txn->client->link, chunk, OP_BEGIN, db_handle, &call);
    txn->handle = call.handle;
    call_fini(&call);
    return status;
}

int client_begin(docdb_db *db, unsigned flags, docdb_txn **out) {
    struct client_txn *txn = malloc(sizeof *txn);
    if (txn == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    txn->base = (docdb_txn){.backend = db->backend, .db = db, .flags = flags};
    txn->client = (struct client *)db->runtime;
    txn->handle = 0;
    txn->batch = NULL;
    txn->writes = 0;
    txn->bytes = 0;
    int status = (flags & DOCDB_TXN_BLIND) ? begin_blind(txn)
                                           : begin_on_server(txn, ((struct client_db *)db)->handle, flags);
    if (status != DOCDB_OK) {
        txn_destroy(txn);
        return status;
    }
    *out = &txn->base;
    return DOCDB_OK;
}

/* ---- Operations ---- */

int client_txn_read(docdb_txn *txn, const char *id, docdb_doc **out) {
    return client_read(txn_of(txn)->client, OP_TXN_READ, txn_of(txn)->handle, id, out);
}

int client_txn_stat(docdb_txn *txn, const char *id, docdb_info *out) {
    return client_stat(txn_of(txn)->client, OP_TXN_STAT, txn_of(txn)->handle, id, out);
}

static int blind_timeout(const struct client_txn *txn) {
    int64_t age_ms = (os_monotonic_ns(docdb_os_default()) - txn->begun_ns) / 1000000;
    return age_ms > txn->client->limits.txn_timeout_ms ? DOCDB_ERR_TXN_TIMEOUT : DOCDB_OK;
}

static int write_blind(struct client_txn *txn, const struct write *write) {
    const docdb_limits *limits = &txn->client->limits;
    int status = blind_timeout(txn);
    if (status != DOCDB_OK) {
        return status;
    }
    uint64_t bytes = txn->bytes + write_counted_bytes(write);
    if (txn->writes >= limits->max_txn_ops || bytes > limits->max_txn_bytes) {
        return DOCDB_ERR_TXN_TOO_LARGE;
    }
    if (!chunk_reserve(&txn->batch, write_encoded_bytes(write))) {
        return DOCDB_ERR_MEMORY;
    }
    struct wire_writer writer = chunk_writer(txn->batch);
    write_encode(&writer, write);
    chunk_wrote(txn->batch, &writer);
    txn->bytes = bytes;
    txn->writes++;
    return DOCDB_OK;
}

static int write_on_server(struct client_txn *txn, const struct write *write) {
    struct call call;
    struct chunk *chunk = chunk_create(write_encoded_bytes(write));
    call_init(&call, NULL);
    if (chunk != NULL) {
        struct wire_writer writer = chunk_writer(chunk);
        write_encode(&writer, write);
        chunk_wrote(chunk, &writer);
    }
    int status = link_call(&txn->client->link, chunk, OP_TXN_WRITE, txn->handle, &call);
    call_fini(&call);
    return status;
}

int client_txn_write(docdb_txn *base, const struct write *write) {
    struct client_txn *txn = txn_of(base);
    if (write->bytes > txn->client->limits.max_doc_bytes) {
        return DOCDB_ERR_DOC_TOO_LARGE;
    }
    return txn->batch != NULL ? write_blind(txn, write) : write_on_server(txn, write);
}

/* A mark for observers, which live in the server's process. */
void client_txn_set_origin(docdb_txn *txn, const void *origin) {
    (void)txn;
    (void)origin;
}

/* ---- The end ---- */

/* Tells the outcome; the transaction is gone before the caller's function runs. */
static void commit_finish(struct client_txn *txn, int status, uint64_t commit_seq) {
    docdb_commit_fn done = txn->done;
    void *arg = txn->done_arg;
    txn_destroy(txn);
    done(arg, status, commit_seq);
}

static void on_commit_reply(struct call *call) {
    struct client_txn *txn = (struct client_txn *)((char *)call - offsetof(struct client_txn, commit));
    uint64_t commit_seq = 0;
    int status = call->status;
    if (status == DOCDB_OK && commit_seq_decode(&commit_seq, call->body, call->body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    call_fini(call);
    commit_finish(txn, status, commit_seq);
}

void client_commit_async(docdb_txn *base, docdb_commit_fn done, void *arg) {
    struct client_txn *txn = txn_of(base);
    struct client_db *db = (struct client_db *)base->db;
    bool blind = txn->batch != NULL;
    txn->done = done;
    txn->done_arg = arg;
    call_init(&txn->commit, on_commit_reply);
    int status = blind ? blind_timeout(txn) : DOCDB_OK;
    if (status == DOCDB_OK && !blind) {
        txn->batch = chunk_create(0); /* the COMMIT frame */
        status = txn->batch == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    if (status == DOCDB_OK) {
        struct chunk *chunk = txn->batch;
        txn->batch = NULL;
        if (blind) {
            put_u32(chunk->data + FRAME_BYTES, txn->writes);
        }
        /* Once it is sent, the reply may end the transaction before this returns. */
        status = link_send(&txn->client->link, chunk, blind ? OP_BATCH : OP_COMMIT, 0,
                           blind ? db->handle : txn->handle, &txn->commit);
    } else if (!blind) {
        client_tell(txn->client, OP_ABORT, txn->handle);
    }
    if (status != DOCDB_OK) {
        commit_finish(txn, status, 0);
    }
}

void client_abort(docdb_txn *base) {
    struct client_txn *txn = txn_of(base);
    if (txn->batch == NULL) {
        client_tell(txn->client, OP_ABORT, txn->handle);
    }
    txn_destroy(txn);
}
