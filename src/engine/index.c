/* See index.h. */
#include "engine/index.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"

#define BUCKETS_FIRST    8u
#define SCAN_LOOK_FACTOR 8u /* entries looked at for one that is asked for, before the lock is let go */

/* ---- Life ---- */

struct index *index_create(const atomic_uint_fast64_t *published) {
    struct index *index = aligned_alloc(_Alignof(struct index), sizeof *index);
    if (index == NULL) {
        return NULL;
    }
    memset(index, 0, sizeof *index);
    index->published = published;
    for (size_t i = 0; i < INDEX_SHARDS; i++) {
        rwlock_init(&index->shards[i].lock);
    }
    rwlock_init(&index->order_lock);
    return index;
}

struct version *version_create(void) {
    return calloc(1, sizeof(struct version));
}

void version_destroy(struct version *version) {
    if (version != NULL) {
        docdb_doc_release(version->doc);
        free(version);
    }
}

static void entry_destroy(struct entry *entry) {
    struct version *version = entry->newest;
    while (version != NULL) {
        struct version *older = version->older;
        version_destroy(version);
        version = older;
    }
    free(entry);
}

void index_destroy(struct index *index) NO_THREAD_SAFETY_ANALYSIS {
    if (index == NULL) {
        return;
    }
    for (size_t i = 0; i < INDEX_SHARDS; i++) {
        struct index_shard *shard = &index->shards[i];
        for (size_t b = 0; b < shard->bucket_count; b++) {
            struct entry *entry = shard->buckets[b];
            while (entry != NULL) {
                struct entry *next = entry->hash_next;
                entry_destroy(entry);
                entry = next;
            }
        }
        free(shard->buckets);
        rwlock_fini(&shard->lock);
    }
    order_fini(&index->order);
    rwlock_fini(&index->order_lock);
    free(index);
}

/* ---- Shards ---- */

static uint64_t hash_id(const char *id, size_t id_bytes) { return checksum_seeded(id, id_bytes, 0); }

/* The high bits choose the shard, the low bits the bucket. */
static struct index_shard *shard_of(struct index *index, uint64_t hash) {
    return &index->shards[(hash >> 32) % INDEX_SHARDS];
}

static struct entry *shard_find(const struct index_shard *shard, uint64_t hash, const char *id, size_t id_bytes)
    REQUIRES_SHARED(shard->lock) {
    if (shard->bucket_count == 0) {
        return NULL;
    }
    struct entry *entry = shard->buckets[hash & (shard->bucket_count - 1)];
    while (entry != NULL &&
           (entry->hash != hash || entry->id_bytes != id_bytes || memcmp(entry->id, id, id_bytes) != 0)) {
        entry = entry->hash_next;
    }
    return entry;
}

/* Doubles the table when it is full. When there is no memory for that the chains grow instead; only the first table
 * must exist. */
static bool shard_make_room(struct index_shard *shard) REQUIRES(shard->lock) {
    if (shard->entry_count < shard->bucket_count) {
        return true;
    }
    size_t count = shard->bucket_count == 0 ? BUCKETS_FIRST : shard->bucket_count * 2;
    struct entry **buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL) {
        return shard->bucket_count > 0;
    }
    for (size_t b = 0; b < shard->bucket_count; b++) {
        struct entry *entry = shard->buckets[b];
        while (entry != NULL) {
            struct entry *next = entry->hash_next;
            struct entry **head = &buckets[entry->hash & (count - 1)];
            entry->hash_next = *head;
            *head = entry;
            entry = next;
        }
    }
    free(shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
    return true;
}

static void shard_insert(struct index_shard *shard, struct entry *entry) REQUIRES(shard->lock) {
    struct entry **head = &shard->buckets[entry->hash & (shard->bucket_count - 1)];
    entry->hash_next = *head;
    *head = entry;
    shard->entry_count++;
}

static void shard_remove(struct index_shard *shard, const struct entry *entry) REQUIRES(shard->lock) {
    struct entry **at = &shard->buckets[entry->hash & (shard->bucket_count - 1)];
    while (*at != entry) {
        at = &(*at)->hash_next;
    }
    *at = entry->hash_next;
    shard->entry_count--;
}

/* ---- Readers ---- */

static const struct version *chain_visible(const struct version *version, uint64_t seq) {
    while (version != NULL && version->info.version > seq) {
        version = version->older;
    }
    return version == NULL || version->tombstone ? NULL : version;
}

static void view_fill(struct index_view *view, const struct version *version, bool with_doc) {
    view->info = version->info;
    view->checksum = version->checksum;
    view->location = version->location;
    view->doc = with_doc && version->doc != NULL ? docdb_doc_acquire(version->doc) : NULL;
}

bool index_find(struct index *index, const char *id, size_t id_bytes, uint64_t seq, bool with_doc,
                struct index_view *out) {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    const struct version *version = NULL;
    rwlock_lock_shared(&shard->lock);
    if (seq == INDEX_NEWEST) {
        /* Loaded under the lock: what the reclaimer freed before we got it was below the published commit of then.
         */
        seq = atomic_load_explicit(index->published, memory_order_acquire);
    }
    const struct entry *entry = shard_find(shard, hash, id, id_bytes);
    if (entry != NULL) {
        version = chain_visible(entry->newest, seq);
    }
    if (version != NULL) {
        view_fill(out, version, with_doc);
    }
    rwlock_unlock_shared(&shard->lock);
    if (with_doc) {
        atomic_fetch_add_explicit(&shard->reads, 1, memory_order_relaxed);
    }
    return version != NULL;
}

/* Fills the item if the snapshot sees the entry. */
static bool item_fill(struct index *index, const struct entry *entry, uint64_t seq, bool with_docs,
                      struct index_item *item) {
    struct index_shard *shard = shard_of(index, entry->hash);
    rwlock_lock_shared(&shard->lock);
    const struct version *version = chain_visible(entry->newest, seq);
    if (version != NULL) {
        view_fill(&item->view, version, with_docs);
    }
    rwlock_unlock_shared(&shard->lock);
    if (version != NULL) {
        memcpy(item->id, entry->id, entry->id_bytes + 1u);
    }
    return version != NULL;
}

size_t index_scan(struct index *index, const char *from, size_t from_bytes, bool after, const char *prefix,
                  uint64_t seq, bool with_docs, struct index_item *items, size_t max, char *resume, bool *end) {
    size_t prefix_bytes = prefix == NULL ? 0 : strlen(prefix);
    size_t found = 0;
    size_t looks = max * SCAN_LOOK_FACTOR;
    *end = false;
    rwlock_lock_shared(&index->order_lock);
    struct order_cursor cursor = order_seek(&index->order, from, from_bytes, after);
    while (found < max && looks-- > 0) {
        const struct entry *entry = order_next(&cursor);
        if (entry == NULL || (prefix_bytes > 0 &&
                              (entry->id_bytes < prefix_bytes || memcmp(entry->id, prefix, prefix_bytes) != 0))) {
            *end = true;
            break;
        }
        found += item_fill(index, entry, seq, with_docs, &items[found]) ? 1 : 0;
        memcpy(resume, entry->id, entry->id_bytes + 1u);
    }
    rwlock_unlock_shared(&index->order_lock);
    return found;
}

/* The version of `id` that commit `version` wrote, or NULL. */
static struct version *shard_version(const struct index_shard *shard, const char *id, uint64_t version)
    REQUIRES_SHARED(shard->lock) {
    size_t id_bytes = strlen(id);
    const struct entry *entry = shard_find(shard, hash_id(id, id_bytes), id, id_bytes);
    struct version *at = entry == NULL ? NULL : entry->newest;
    while (at != NULL && at->info.version != version) {
        at = at->older;
    }
    return at == NULL || at->tombstone ? NULL : at;
}

void index_make_resident(struct index *index, const char *id, uint64_t version, docdb_doc *doc) {
    struct index_shard *shard = shard_of(index, hash_id(id, strlen(id)));
    rwlock_lock(&shard->lock);
    struct version *at = shard_version(shard, id, version);
    if (at != NULL && at->doc == NULL) {
        at->doc = docdb_doc_acquire(doc);
    }
    rwlock_unlock(&shard->lock);
}

void index_relocate(struct index *index, const char *id, uint64_t version, struct location location, bool evict) {
    struct index_shard *shard = shard_of(index, hash_id(id, strlen(id)));
    docdb_doc *evicted = NULL;
    rwlock_lock(&shard->lock);
    struct version *at = shard_version(shard, id, version);
    if (at != NULL) {
        at->location = location;
        if (evict) {
            evicted = at->doc;
            at->doc = NULL;
        }
    }
    rwlock_unlock(&shard->lock);
    docdb_doc_release(evicted);
}

/* ---- Writers ---- */

/* No lock: who holds `apply` is the only one that changes the tables. */
struct entry *index_lookup(struct index *index, const char *id, size_t id_bytes) NO_THREAD_SAFETY_ANALYSIS {
    uint64_t hash = hash_id(id, id_bytes);
    return shard_find(shard_of(index, hash), hash, id, id_bytes);
}

struct entry *index_ensure(struct index *index, const char *id, size_t id_bytes) {
    struct entry *entry = index_lookup(index, id, id_bytes);
    if (entry != NULL) {
        return entry;
    }
    entry = malloc(sizeof *entry + id_bytes + 1);
    if (entry == NULL) {
        return NULL;
    }
    *entry = (struct entry){.hash = hash_id(id, id_bytes), .id_bytes = (uint8_t)id_bytes};
    memcpy(entry->id, id, id_bytes);
    entry->id[id_bytes] = '\0';
    struct index_shard *shard = shard_of(index, entry->hash);
    rwlock_lock(&index->order_lock);
    rwlock_lock(&shard->lock);
    bool ok = shard_make_room(shard) && order_insert(&index->order, entry) == DOCDB_OK;
    if (ok) {
        shard_insert(shard, entry);
    }
    rwlock_unlock(&shard->lock);
    rwlock_unlock(&index->order_lock);
    if (!ok) {
        free(entry);
        return NULL;
    }
    return entry;
}

/* Counts the newest version of an entry in (sign 1) or out (sign -1) of the live documents. */
static void live_count(struct index *index, const struct version *version, int sign) {
    if (version == NULL || version->tombstone) {
        return;
    }
    if (sign > 0) {
        atomic_fetch_add_explicit(&index->live_documents, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&index->live_bytes, version->info.bytes, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&index->live_documents, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&index->live_bytes, version->info.bytes, memory_order_relaxed);
    }
}

void index_install(struct index *index, struct entry *entry, struct version *version) {
    struct index_shard *shard = shard_of(index, entry->hash);
    live_count(index, entry->newest, -1);
    live_count(index, version, 1);
    rwlock_lock(&shard->lock);
    version->older = entry->newest;
    entry->newest = version;
    rwlock_unlock(&shard->lock);
}

/* Takes an entry without versions out of the tables and frees it. */
static void entry_remove(struct index *index, struct entry *entry) {
    struct index_shard *shard = shard_of(index, entry->hash);
    rwlock_lock(&index->order_lock);
    rwlock_lock(&shard->lock);
    order_remove(&index->order, entry);
    shard_remove(shard, entry);
    rwlock_unlock(&shard->lock);
    rwlock_unlock(&index->order_lock);
    entry_destroy(entry);
}

void index_unwind(struct index *index, struct entry *entry) {
    struct index_shard *shard = shard_of(index, entry->hash);
    struct version *version = entry->newest;
    if (version != NULL) {
        live_count(index, version, -1);
        live_count(index, version->older, 1);
        rwlock_lock(&shard->lock);
        entry->newest = version->older;
        rwlock_unlock(&shard->lock);
        version_destroy(version);
    }
    if (entry->newest == NULL) {
        entry_remove(index, entry);
    }
}

docdb_doc *index_version_doc(struct index *index, const struct entry *entry, const struct version *version,
                             struct location *location) {
    struct index_shard *shard = shard_of(index, entry->hash);
    rwlock_lock_shared(&shard->lock);
    docdb_doc *doc = version->doc == NULL ? NULL : docdb_doc_acquire(version->doc);
    *location = version->location;
    rwlock_unlock_shared(&shard->lock);
    return doc;
}

void index_reclaim(struct index *index, struct entry *entry, uint64_t seq) {
    struct index_shard *shard = shard_of(index, entry->hash);
    struct version *keep = entry->newest;
    while (keep != NULL && keep->info.version > seq) {
        keep = keep->older;
    }
    if (keep == NULL) {
        return;
    }
    rwlock_lock(&shard->lock);
    struct version *dead = keep->older;
    keep->older = NULL;
    rwlock_unlock(&shard->lock);
    while (dead != NULL) {
        struct version *older = dead->older;
        version_destroy(dead);
        dead = older;
    }
    if (keep == entry->newest && keep->tombstone && keep->info.version == seq) {
        entry_remove(index, entry);
    }
}
