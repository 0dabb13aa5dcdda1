/*
 * RocksDB through its C API. Writes with sync=true: its own group commit, one sync of the WAL a group. Reads with a
 * block cache that holds all documents of point_read and a bloom filter of 10 bits a key; a get pins the value in
 * the cache and copies nothing. Two background threads; all else is the default.
 */
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#include "tests/benchmarks/lib/bench.h"

#define CACHE_BYTES        ((size_t)512 << 20)
#define BLOOM_BITS         10
#define BACKGROUND_THREADS 2

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
};

struct session {
    const struct store *store;
    rocksdb_pinnableslice_t *held; /* what get returned last */
};

static void must(const char *error, const char *what) {
    if (error != NULL) {
        bench_die("rocksdb: %s: %s", what, error);
    }
}

static void *rocksdb_peer_open(const char *directory, size_t doc_bytes) {
    (void)doc_bytes;
    struct store *store = bench_alloc(1, sizeof *store);
    char *error = NULL;
    store->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    store->table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(store->table, store->cache);
    rocksdb_block_based_options_set_filter_policy(store->table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    store->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_increase_parallelism(store->options, BACKGROUND_THREADS);
    rocksdb_options_set_block_based_table_factory(store->options, store->table);
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write, 1);
    store->read = rocksdb_readoptions_create();
    store->db = rocksdb_open(store->options, directory, &error);
    must(error, "opening");
    return store;
}

static void rocksdb_peer_close(void *opened) {
    struct store *store = opened;
    rocksdb_close(store->db);
    rocksdb_readoptions_destroy(store->read);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_options_destroy(store->options);
    rocksdb_block_based_options_destroy(store->table);
    rocksdb_cache_destroy(store->cache);
    free(store);
}

static void *session_open(void *opened) {
    struct session *session = bench_alloc(1, sizeof *session);
    session->store = opened;
    return session;
}

static void release(struct session *session) {
    if (session->held != NULL) {
        rocksdb_pinnableslice_destroy(session->held);
        session->held = NULL;
    }
}

static void session_close(void *opened) {
    release(opened);
    free(opened);
}

static void put(void *opened, const struct peer_doc *doc) {
    struct session *session = opened;
    char *error = NULL;
    release(session);
    rocksdb_put(session->store->db, session->store->write, doc->id, doc->id_bytes, doc->data, doc->bytes, &error);
    must(error, "a put");
}

static void put_many(void *opened, const struct peer_doc *docs, size_t count) {
    struct session *session = opened;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    char *error = NULL;
    release(session);
    for (size_t i = 0; i < count; i++) {
        rocksdb_writebatch_put(batch, docs[i].id, docs[i].id_bytes, docs[i].data, docs[i].bytes);
    }
    rocksdb_write(session->store->db, session->store->write, batch, &error);
    must(error, "a batch");
    rocksdb_writebatch_destroy(batch);
}

/* From the memtable to a table, and all tables into one level. */
static void settle(void *opened) {
    struct store *store = opened;
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    char *error = NULL;
    rocksdb_flushoptions_set_wait(flush, 1);
    rocksdb_flush(store->db, flush, &error);
    must(error, "a flush");
    rocksdb_flushoptions_destroy(flush);
    rocksdb_compact_range(store->db, NULL, 0, NULL, 0);
}

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    char *error = NULL;
    size_t id_bytes = strlen(id);
    size_t bytes = 0;
    release(session);
    session->held = rocksdb_get_pinned(session->store->db, session->store->read, id, id_bytes, &error);
    must(error, "a get");
    if (session->held == NULL) {
        return false;
    }
    const char *data = rocksdb_pinnableslice_value(session->held, &bytes);
    *out = (struct peer_doc){.id = id, .id_bytes = id_bytes, .data = data, .bytes = bytes};
    return true;
}

static void scan(void *opened, peer_visit_fn visit, void *arg) {
    struct session *session = opened;
    char *error = NULL;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(session->store->db, session->store->read);
    for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) {
        struct peer_doc doc = {0};
        doc.id = rocksdb_iter_key(iterator, &doc.id_bytes);
        doc.data = rocksdb_iter_value(iterator, &doc.bytes);
        visit(arg, &doc);
    }
    rocksdb_iter_get_error(iterator, &error);
    must(error, "a scan");
    rocksdb_iter_destroy(iterator);
}

const struct peer peer_rocksdb = {.name = "rocksdb",
                                  .open = rocksdb_peer_open,
                                  .close = rocksdb_peer_close,
                                  .session_open = session_open,
                                  .session_close = session_close,
                                  .put = put,
                                  .put_many = put_many,
                                  .settle = settle,
                                  .get = get,
                                  .scan = scan};
