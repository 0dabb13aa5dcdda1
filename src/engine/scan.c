/* See scan.h. */
#include "engine/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "engine/handles.h"
#include "engine/txn.h"

struct scan {
    docdb_scan api;
    struct engine *engine;
    struct database *database; /* one reference */
    struct txn *txn;           /* whose writes are merged in, or NULL */
    struct snapshot snapshot;  /* of its own, unless txn */
    uint64_t seq;
    bool with_docs;
    bool limited;
    uint64_t left;
    char *prefix; /* or NULL */

    char from[DOCDB_ID_BYTES_MAX + 1]; /* where the next chunk of the index begins */
    bool after;                        /* after it, not at it */
    bool index_end;
    struct index_item items[LIMIT_SCAN_CHUNK];
    size_t count;
    size_t next;

    char last[DOCDB_ID_BYTES_MAX + 1]; /* the last id given out, or where the scan began */
    bool last_given;                   /* ids must be after `last`, not at it */
    docdb_doc *doc;                    /* pinned for the last entry */
};

static struct scan *scan_of(docdb_scan *scan) { return (struct scan *)scan; }

/* The scan begins at the prefix, or after `after` when that is further on. */
static void start_set(struct scan *scan, const docdb_scan_options *options) {
    const char *prefix = options->prefix == NULL ? "" : options->prefix;
    bool after = options->after != NULL && strcmp(options->after, prefix) >= 0;
    (void)snprintf(scan->from, sizeof scan->from, "%s", after ? options->after : prefix);
    scan->after = after;
    memcpy(scan->last, scan->from, sizeof scan->last);
    scan->last_given = after;
}

int scan_open(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out) {
    struct handle *handle = handle_of(db);
    struct txn *own = txn == NULL ? NULL : txn_of(txn);
    int status = own == NULL ? handle_check(handle) : txn_check_open(own);
    if (status != DOCDB_OK) {
        return status;
    }
    struct scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    if (options->prefix != NULL && options->prefix[0] != '\0') {
        scan->prefix = strdup(options->prefix);
        status = scan->prefix == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    if (status == DOCDB_OK && own == NULL) {
        status = snapshot_acquire(&handle->engine->snapshots, &scan->snapshot) ? DOCDB_OK : DOCDB_ERR_BUSY;
    }
    if (status != DOCDB_OK) {
        free(scan->prefix);
        free(scan);
        return status;
    }
    scan->api.backend = db->backend;
    scan->engine = handle->engine;
    scan->database = database_acquire(handle->database);
    scan->txn = own;
    scan->seq = own == NULL ? scan->snapshot.seq : own->snapshot.seq;
    scan->with_docs = (options->flags & DOCDB_SCAN_DOCS) != 0;
    scan->limited = options->limit != 0;
    scan->left = options->limit;
    start_set(scan, options);
    *out = &scan->api;
    return DOCDB_OK;
}

static void items_release(struct scan *scan) {
    for (; scan->next < scan->count; scan->next++) {
        docdb_doc_release(scan->items[scan->next].view.doc);
    }
}

void scan_close(docdb_scan *api) {
    struct scan *scan = scan_of(api);
    items_release(scan);
    docdb_doc_release(scan->doc);
    if (scan->txn == NULL && snapshot_release(&scan->engine->snapshots, &scan->snapshot)) {
        engine_reclaim(scan->engine);
    }
    database_release(scan->database);
    free(scan->prefix);
    free(scan);
}

/* The next entry of the index, not yet taken; NULL at the end. */
static struct index_item *index_peek(struct scan *scan) {
    while (scan->next == scan->count && !scan->index_end) {
        uint64_t wanted = scan->limited && scan->left < LIMIT_SCAN_CHUNK ? scan->left : LIMIT_SCAN_CHUNK;
        scan->next = 0;
        scan->count =
            index_scan(scan->database->index, scan->from, strlen(scan->from), scan->after, scan->prefix, scan->seq,
                       scan->with_docs, scan->items, (size_t)wanted, scan->from, &scan->index_end);
        scan->after = true;
    }
    return scan->next < scan->count ? &scan->items[scan->next] : NULL;
}

/* The first id that the transaction wrote and the scan has not passed; NULL: none. */
static const struct txn_local *local_peek(const struct scan *scan) {
    if (scan->txn == NULL) {
        return NULL;
    }
    size_t low = 0;
    size_t high = scan->txn->local_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(scan->txn->locals[middle].id, scan->last);
        if (order < 0 || (order == 0 && scan->last_given)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == scan->txn->local_count) {
        return NULL;
    }
    const struct txn_local *local = &scan->txn->locals[low];
    bool inside = scan->prefix == NULL || strncmp(local->id, scan->prefix, strlen(scan->prefix)) == 0;
    return inside ? local : NULL;
}

static int give_local(struct scan *scan, const struct txn_local *local, docdb_entry *out) {
    out->info = local->info;
    if (scan->with_docs) {
        scan->doc = doc_create_alias(local->doc);
        if (scan->doc == NULL) {
            return DOCDB_ERR_MEMORY;
        }
        scan->doc->info = local->info;
    }
    return DOCDB_OK;
}

static int give_item(struct scan *scan, struct index_item *item, docdb_entry *out) {
    out->info = item->view.info;
    return scan->with_docs ? engine_load(scan->engine, scan->database, item->id, &item->view, &scan->doc)
                           : DOCDB_OK;
}

int scan_next(docdb_scan *api, docdb_entry *out) {
    struct scan *scan = scan_of(api);
    docdb_doc_release(scan->doc);
    scan->doc = NULL;
    int status = scan->txn != NULL                       ? txn_check_open(scan->txn)
                 : atomic_load(&scan->database->dropped) ? DOCDB_ERR_NO_DATABASE
                                                         : DOCDB_OK;
    if (status == DOCDB_OK && scan->limited && scan->left == 0) {
        return DOCDB_ERR_END;
    }
    while (status == DOCDB_OK) {
        struct index_item *item = index_peek(scan);
        const struct txn_local *local = local_peek(scan);
        if (item == NULL && local == NULL) {
            return DOCDB_ERR_END;
        }
        int order = item == NULL ? 1 : local == NULL ? -1 : strcmp(item->id, local->id);
        (void)snprintf(scan->last, sizeof scan->last, "%s", order < 0 ? item->id : local->id);
        scan->last_given = true;
        if (order <= 0) {
            scan->next++;
        }
        if (order == 0) {
            docdb_doc_release(item->view.doc); /* the transaction's own version hides it */
        }
        if (order >= 0 && local->doc == NULL) {
            continue; /* deleted by the transaction */
        }
        status = order < 0 ? give_item(scan, item, out) : give_local(scan, local, out);
        scan->left -= scan->limited ? 1 : 0;
        out->id = scan->last;
        out->doc = scan->doc;
        return status;
    }
    return status;
}
