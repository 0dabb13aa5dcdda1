/*
 * The index of one database: id -> versions, newest first.
 *
 * A point read hashes the id to a shard and walks the chain of versions there, under the shard's lock; nothing is
 * read from disk under it. A scan walks the ordered tree (order.h) under the order lock. A version becomes visible
 * to a reader when the reader's snapshot reaches its commit_seq, so that a whole batch of transactions is published
 * by one store of the published commit_seq (snapshots.h): the commit thread installs versions here before they are
 * durable, and no one sees them.
 *
 * Who changes entries and chains holds `apply` of the engine (the commit thread while it forms a batch, the
 * reclaimer), and under it the locks below; so whoever holds `apply` may read chains without them. A version's
 * immutable part is written before it is installed; `doc` and `location` change later under the shard's lock (a
 * checkpoint moves documents, a read makes them resident).
 *
 * Lock order: apply -> order lock -> shard lock.
 */
#ifndef DOCDB_ENGINE_INDEX_H
#define DOCDB_ENGINE_INDEX_H

#include <stdatomic.h>

#include "base/doc.h"
#include "base/thread.h"
#include "engine/order.h"

#define INDEX_SHARDS 64u

/* Where a document's bytes are on disk. segment 0: in the WAL alone, and then the document is resident. */
struct location {
    uint32_t segment;
    uint64_t offset;
};

struct version {
    struct version *older;
    docdb_info info;   /* of a tombstone: bytes 0 */
    uint64_t checksum; /* of the bytes */
    bool tombstone;    /* a delete */
    docdb_doc *doc;    /* resident, one reference; NULL for a tombstone */
    struct location location;
};

struct entry {
    struct entry *hash_next;
    struct version *newest; /* never NULL once it is in the index */
    uint64_t hash;
    uint8_t id_bytes;
    char id[]; /* NUL-terminated */
};

struct index_shard {
    _Alignas(64) struct rwlock lock;
    struct entry **buckets GUARDED_BY(lock);
    size_t bucket_count GUARDED_BY(lock); /* a power of two, or 0 */
    size_t entry_count GUARDED_BY(lock);
    atomic_uint_fast64_t reads;
};

struct index {
    struct index_shard shards[INDEX_SHARDS];
    const atomic_uint_fast64_t *published;
    struct rwlock order_lock;
    struct order order GUARDED_BY(order_lock);
    atomic_uint_fast64_t live_documents; /* newest version is no tombstone, published or not */
    atomic_uint_fast64_t live_bytes;
};

/* What a reader gets of a version. */
struct index_view {
    docdb_info info;
    uint64_t checksum;
    docdb_doc *doc; /* the caller's reference, or NULL: not resident, or not asked for */
    struct location location;
};

/* Reads as of the newest published commit. */
#define INDEX_NEWEST UINT64_MAX

/* published: the engine's published commit_seq. Returns NULL when out of memory. */
struct index *index_create(const atomic_uint_fast64_t *published);
/* Frees everything; no one may use it any more. */
void index_destroy(struct index *index);

/* ---- Readers: any thread ---- */

/* The version of `id` that a snapshot at `seq` sees. False: none. with_doc: take a reference on a resident
 * document. */
bool index_find(struct index *index, const char *id, size_t id_bytes, uint64_t seq, bool with_doc,
                struct index_view *out);

/* One entry of a scan. */
struct index_item {
    char id[DOCDB_ID_BYTES_MAX + 1];
    struct index_view view;
};

/* Fills `items` with up to `max` visible entries from the id on (or after it), and looks at no more than a few
 * times `max` entries, so the lock is held for a bounded time. *resume (DOCDB_ID_BYTES_MAX + 1 bytes) gets the last
 * id looked at: go on after it. *end: there is nothing more. `seq` must be held by a snapshot. */
size_t index_scan(struct index *index, const char *from, size_t from_bytes, bool after, const char *prefix,
                  uint64_t seq, bool with_docs, struct index_item *items, size_t max, char *resume, bool *end);

/* Makes a document that was read from disk resident, unless it is already or the version is gone. */
void index_make_resident(struct index *index, const char *id, uint64_t version, docdb_doc *doc);

/* Notes where a checkpoint put a version; drops the resident document when `evict`. */
void index_relocate(struct index *index, const char *id, uint64_t version, struct location location, bool evict);

/* ---- Writers: under `apply` ---- */

/* The entry of `id`, or NULL. */
struct entry *index_lookup(struct index *index, const char *id, size_t id_bytes);
/* The same, created (with no version: install one at once) when missing. NULL: out of memory, nothing changed. */
struct entry *index_ensure(struct index *index, const char *id, size_t id_bytes);
/* Puts a version on top of the chain; the entry owns it then. */
void index_install(struct index *index, struct entry *entry, struct version *version);
/* Takes the newest version off again (its commit failed), frees it, and frees the entry when it was its only one.
 */
void index_unwind(struct index *index, struct entry *entry);
/* A new reference on the resident document of a version, or NULL, and where the bytes are. */
docdb_doc *index_version_doc(struct index *index, const struct entry *entry, const struct version *version,
                             struct location *location);
/* Frees the versions below the one of `seq`, which no snapshot needs; and the entry too when that one is a
 * tombstone and the newest. */
void index_reclaim(struct index *index, struct entry *entry, uint64_t seq);

struct version *version_create(void);
void version_destroy(struct version *version);

#endif
