/*
 * The index of one database: id -> versions, newest first.
 *
 * A point read hashes the id to a shard, probes the shard's table and looks at the entry, under the shard's lock;
 * nothing is read from disk under it. A scan walks the ordered tree (order.h) under the order lock. A version
 * becomes visible to a reader when the reader's snapshot reaches its commit_seq, so that a whole batch of
 * transactions is published by one store of the published commit_seq (snapshots.h): the commit thread installs
 * versions here before they are durable, and no one sees them.
 *
 * Memory: an entry holds its newest version itself, and lies in an arena (arena.h) in which 32 bits name it; tables
 * and tree hold those names. So a document that is on disk and has one version costs at most 64 bytes plus its id.
 * Older versions, and a modification time that is not the commit time, are outside, in `struct more`.
 *
 * Dirty entries are those that changed since a checkpoint last looked: installing a version puts the entry on the
 * dirty list, and it stays in the index until a checkpoint is done with it, even when it is deleted.
 *
 * Who changes entries and chains holds `apply` of the engine (the commit thread while it forms a batch, the
 * reclaimer, a checkpoint that settles its dirty entries), and under it the locks below; so whoever holds `apply`
 * may read entries without them. `held` and `location` also change under the shard's lock alone (a checkpoint moves
 * documents, a read makes them resident).
 *
 * Lock order: apply -> order lock -> shard lock -> segments.lock (accounting of live bytes).
 */
#ifndef DOCDB_ENGINE_INDEX_H
#define DOCDB_ENGINE_INDEX_H

#include <stdatomic.h>

#include "base/doc.h"
#include "base/thread.h"
#include "engine/arena.h"
#include "engine/order.h"

#define INDEX_SHARDS 256u

struct segments;
struct pending_slot;

/* Where a document's record is on disk. segment 0: in the WAL alone, and then the document is resident. */
struct location {
    uint32_t segment;
    uint32_t offset; /* in units of LOCATION_UNIT bytes */
};
#define LOCATION_UNIT 8u

static inline uint64_t location_bytes(struct location location) {
    return (uint64_t)location.offset * LOCATION_UNIT;
}

enum entry_flags {
    ENTRY_TOMBSTONE = 1 << 0, /* the newest version is a delete (or, with seq 0, there is none at all) */
};

/* One id with its newest version. Fields are the index's own; others use the functions below. */
struct entry {
    uint64_t seq; /* the commit_seq that wrote the newest version; 0: none (its commit failed) */
    int64_t commit_time_ns;
    char *_Atomic held; /* the resident document (one reference) or NULL; or, one byte behind its address, a struct
                           more. Atomic, as who holds `apply` looks which of the two without the shard's lock */
    uint32_t bytes;
    uint32_t segment;
    uint32_t offset;
    uint8_t flags;
    uint8_t dirty; /* bit n: on dirty list n; read and written under `apply` alone */
    uint8_t id_bytes;
    char id[]; /* NUL-terminated */
};

struct dirty_list {
    struct entry **entries;
    size_t count;
    size_t capacity;
    size_t reserved; /* room kept for entries of the taken list that come back */
};

struct index_shard {
    _Alignas(64) struct rwlock lock;
    uint64_t *slots GUARDED_BY(lock); /* 32 bits of the hash, 32 bits of arena name; 0: empty */
    uint32_t slot_count GUARDED_BY(lock);
    uint32_t entry_count GUARDED_BY(lock);
    atomic_uint_fast64_t reads;
};

struct index {
    struct index_shard shards[INDEX_SHARDS];
    const atomic_uint_fast64_t *published;
    struct segments *segments; /* told when a version that is there goes (segments_live_change) */
    struct arena arena;        /* of entries; changed under the engine's `apply` */
    struct rwlock order_lock;
    struct order order GUARDED_BY(order_lock);
    struct dirty_list dirty[2];          /* under `apply` */
    unsigned dirty_now;                  /* the list that installing adds to */
    atomic_uint_fast64_t live_documents; /* newest version is no tombstone, published or not */
    atomic_uint_fast64_t live_bytes;
    atomic_uint_fast64_t unsaved_bytes; /* of documents that are in the WAL alone, any version */
    atomic_size_t more_bytes;           /* memory of all struct more and older versions */
    atomic_size_t slot_bytes;           /* memory of the shards' tables */

    /* While the index is loaded: entries that are not yet in their shard's table. */
    struct pending_slot *pending;
    size_t pending_count;
    uint64_t loaded_bytes;
};

/* What a reader gets of a version. */
struct index_view {
    docdb_info info;
    docdb_doc *doc; /* the caller's reference, or NULL: not resident, or not asked for */
    struct location location;
};

/* Reads as of the newest published commit. */
#define INDEX_NEWEST UINT64_MAX

/* published: the engine's published commit_seq. segments may be NULL (tests). Returns NULL when out of memory. */
struct index *index_create(const atomic_uint_fast64_t *published, struct segments *segments);
/* Frees everything; no one may use it any more. */
void index_destroy(struct index *index);
/* Bytes that the index takes: arena, tables, tree, versions; not the documents. Any thread; approximate. */
uint64_t index_memory(struct index *index);

/* ---- Readers: any thread ---- */

/* The version of `id` that a snapshot at `seq` sees. False: none. with_doc: take a reference on a resident
 * document. */
bool index_find(struct index *index, const char *id, size_t id_bytes, uint64_t seq, bool with_doc,
                struct index_view *out);
/* The version of `id` that commit `version` wrote. False: it is gone. */
bool index_find_version(struct index *index, const char *id, size_t id_bytes, uint64_t version,
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

/* Notes that the record of a version is now at `location`; drops the resident document when `evict`. False: the
 * version is gone (what is at `location` is dead then). Keeps the segments' live bytes. Any thread, one at a time
 * for one version. */
bool index_relocate(struct index *index, const char *id, uint64_t version, struct location location, bool evict);
/* Is the record of any version of `id` at `location`? A new modification time makes versions that share one. */
bool index_is_at(struct index *index, const char *id, size_t id_bytes, struct location location);

/* ---- Writers: under `apply` ---- */

/* A version to install. */
struct index_version {
    docdb_info info; /* of a tombstone: bytes 0 */
    bool tombstone;
    docdb_doc *doc; /* resident, one reference, which the index takes over on DOCDB_OK; NULL for a tombstone */
    struct location location;
};

/* Makes room for so many installs, so that they and what they put on the dirty list can't fail for it. Returns
 * DOCDB_OK or MEMORY. */
int index_reserve(struct index *index, size_t installs);
/* The entry of `id`, or NULL. It may be one without a live document. */
struct entry *index_lookup(struct index *index, const char *id, size_t id_bytes);
/* The same, created when missing (then with no version: seq 0, a tombstone). NULL: out of memory, nothing changed.
 */
struct entry *index_ensure(struct index *index, const char *id, size_t id_bytes);
/* Puts a version on top of the chain and the entry on the dirty list. Returns DOCDB_OK, or MEMORY with nothing
 * changed (but an entry that never had a version is gone). index_reserve came before. */
int index_install(struct index *index, struct entry *entry, const struct index_version *version);
/* Takes the newest version off again (its commit failed). An entry that has none then stays, as a tombstone with
 * seq 0, while it is dirty. */
void index_unwind(struct index *index, struct entry *entry);
/* Frees the versions below the one of `seq`, which no snapshot needs; and the entry too when that one is a
 * tombstone, the newest, and not dirty. */
void index_reclaim(struct index *index, struct entry *entry, uint64_t seq);

/* What is newest of an entry; the caller holds `apply`. */
static inline bool entry_is_live(const struct entry *entry) { return (entry->flags & ENTRY_TOMBSTONE) == 0; }
docdb_info entry_info(const struct entry *entry);
/* Has it older versions below the newest? */
bool entry_has_older(const struct entry *entry);
/* A new reference on the newest version's resident document, or NULL, and where its record is. */
docdb_doc *entry_doc(struct index *index, const struct entry *entry, struct location *location);

/* ---- Dirty entries: the checkpoint's ---- */

/* Under `apply`: begins a new dirty list and hands out the old one, whose entries stay in the index and keep their
 * place in memory and their id until index_dirty_settle or index_dirty_return. One checkpoint at a time. Returns
 * DOCDB_OK or MEMORY. */
int index_dirty_take(struct index *index, struct dirty_list *out);
/* Anyone: are there dirty entries? (Under `apply`, or approximate.) */
size_t index_dirty_count(const struct index *index);
/* Sorts a taken list by id. No lock. */
void index_dirty_sort(struct dirty_list *list);
/* What a snapshot at `seq` sees of a taken entry. Any thread, no `apply`. */
enum dirty_state {
    DIRTY_LIVE,   /* *item is it, with a reference on the resident document */
    DIRTY_DELETED /* nothing is visible; item->id is set */
};
enum dirty_state index_dirty_item(struct index *index, const struct entry *entry, uint64_t seq,
                                  struct index_item *item);
/* Under `apply`, for any part of a taken list, each entry once: a checkpoint of snapshot `seq` holds them now. An
 * entry that changed since goes to the current list; one that is deleted for good is freed. The list's memory is
 * the caller's to free when all are settled. */
void index_dirty_settle(struct index *index, struct entry **entries, size_t count, uint64_t seq);
/* Under `apply`: the checkpoint failed, all go back to the current list. Frees the list's memory. */
void index_dirty_return(struct index *index, struct dirty_list *list);
/* Under `apply`: every version of `id` whose record is at `from` has it at `to` now, and the entry is on the
 * current dirty list. False: there is none any more. index_reserve came before. */
bool index_move(struct index *index, const char *id, size_t id_bytes, struct location from, struct location to);

/* ---- Loading: before anyone else sees the index ---- */

/* Returns DOCDB_OK or MEMORY. */
int index_load_begin(struct index *index, uint64_t expected_entries);
/* In ascending order of id; entries are not dirty. Returns DOCDB_OK, MEMORY, or CORRUPT when the order is broken.
 * Does not tell the segments about live bytes: the loader does that once for all. */
int index_load_add(struct index *index, const char *id, size_t id_bytes, const docdb_info *info,
                   struct location location);
int index_load_end(struct index *index);

#endif
