/* Scans over a socket: the server's scan, brought over many entries at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "client/inside.h"

struct client_scan {
    docdb_scan base;
    struct client *client;
    uint32_t handle; /* the server's number for it; 0 once it has ended there */
    bool with_docs;
    int pending; /* an error that came with the answer to SCAN, to be told by the first scan_next; or 0 */

    struct call reply; /* its body holds the entries that are left */
    struct wire_reader reader;
    uint32_t left;

    struct text id; /* of the current entry, and its document */
    docdb_doc *document;
};

static struct client_scan *scan_of(docdb_scan *scan) { return (struct client_scan *)scan; }

/* Takes in the reply to SCAN or SCAN_NEXT, which stands in scan->reply. */
static int reply_begin(struct client_scan *scan, int status) {
    scan->left = 0;
    if (status != DOCDB_OK) {
        return status;
    }
    if (scan->reply.flags & FRAME_END) {
        scan->handle = 0;
    }
    wire_reader_init(&scan->reader, scan->reply.body, scan->reply.body_bytes);
    scan->left = wire_read_u32(&scan->reader, "the body ends inside the count");
    return scan->reader.problem == NULL ? DOCDB_OK : DOCDB_ERR_PROTOCOL;
}

int client_scan_open(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out) {
    struct client_scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    scan->base.backend = db->backend;
    scan->client = (struct client *)db->runtime;
    scan->with_docs = (options->flags & DOCDB_SCAN_DOCS) != 0;
    struct chunk *chunk = chunk_create(SMALL_BODY_BYTES_MAX);
    if (chunk != NULL) {
        struct wire_writer writer = chunk_writer(chunk);
        scan_request_encode(&writer, options);
        chunk_wrote(chunk, &writer);
    }
    uint32_t over = txn == NULL ? ((struct client_db *)db)->handle : client_txn_handle(txn);
    call_init(&scan->reply, NULL);
    int status = link_call(&scan->client->link, chunk, txn == NULL ? OP_SCAN : OP_TXN_SCAN, over, &scan->reply);
    scan->handle = scan->reply.handle;
    status = reply_begin(scan, status);
    if (status != DOCDB_OK && scan->handle == 0) {
        call_fini(&scan->reply);
        free(scan);
        return status;
    }
    scan->pending = status; /* the scan is open, but its first document is not to be had */
    *out = &scan->base;
    return DOCDB_OK;
}

static int fetch(struct client_scan *scan) {
    call_fini(&scan->reply);
    return reply_begin(scan, client_call_empty(scan->client, OP_SCAN_NEXT, scan->handle, &scan->reply));
}

static int entry_take(struct client_scan *scan, docdb_entry *out) {
    const void *data = NULL;
    docdb_info info;
    entry_read(&scan->id, &info, &data, scan->with_docs, &scan->reader);
    scan->left--;
    if (scan->reader.problem != NULL) {
        scan->left = 0;
        return DOCDB_ERR_PROTOCOL;
    }
    if (scan->with_docs) {
        scan->document = doc_create((size_t)info.bytes);
        if (scan->document == NULL) {
            return DOCDB_ERR_MEMORY;
        }
        memcpy(scan->document->data, data, (size_t)info.bytes);
        scan->document->info = info;
    }
    *out = (docdb_entry){.id = scan->id.text, .info = info, .doc = scan->document};
    return DOCDB_OK;
}

int client_scan_next(docdb_scan *base, docdb_entry *out) {
    struct client_scan *scan = scan_of(base);
    docdb_doc_release(scan->document);
    scan->document = NULL;
    int status = scan->pending;
    scan->pending = DOCDB_OK;
    while (status == DOCDB_OK && scan->left == 0) {
        status = scan->handle == 0 ? DOCDB_ERR_END : fetch(scan);
    }
    return status == DOCDB_OK ? entry_take(scan, out) : status;
}

void client_scan_close(docdb_scan *base) {
    struct client_scan *scan = scan_of(base);
    if (scan->handle != 0) {
        client_tell(scan->client, OP_SCAN_CLOSE, scan->handle);
    }
    docdb_doc_release(scan->document);
    call_fini(&scan->reply);
    free(scan);
}
