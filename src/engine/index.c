/* See index.h. */
#include "engine/index.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "engine/segments.h"

#define SLOTS_FIRST      8u
#define SCAN_LOOK_FACTOR 8u  /* entries looked at for one that is asked for, before the lock is let go */
#define LOAD_AHEAD       32u /* entries whose slots are on their way from memory while the index is loaded */

/* A version that is not the newest of its entry. */
struct version {
    struct version *older;
    docdb_info info;
    docdb_doc *doc; /* one reference, or NULL */
    struct location location;
    bool tombstone;
};

/* What few entries have: older versions, or a modification time that is not the commit time. */
struct more {
    docdb_doc *doc; /* of the newest version: one reference, or NULL */
    int64_t mtime_ns;
    struct version *older;
};

/* The newest version of an entry, or an older one, looked at alike. */
struct sight {
    const struct entry *entry; /* NULL: `version` is it */
    struct version *version;
};

/* ---- Entries ---- */

static size_t entry_bytes(size_t id_bytes) { return offsetof(struct entry, id) + id_bytes + 1; }

static char *held_load(const struct entry *entry) {
    return atomic_load_explicit(&entry->held, memory_order_relaxed);
}

static void held_store(struct entry *entry, void *held) {
    atomic_store_explicit(&entry->held, held, memory_order_relaxed);
}

static struct more *entry_more(const struct entry *entry) {
    char *held = held_load(entry);
    return ((uintptr_t)held & 1) != 0 ? (void *)(held - 1) : NULL;
}

static docdb_doc *entry_resident(const struct entry *entry) {
    const struct more *more = entry_more(entry);
    return more != NULL ? more->doc : (void *)held_load(entry);
}

static void entry_set_resident(struct entry *entry, docdb_doc *doc) {
    struct more *more = entry_more(entry);
    if (more != NULL) {
        more->doc = doc;
    } else {
        held_store(entry, doc);
    }
}

static struct version *entry_older(const struct entry *entry) {
    const struct more *more = entry_more(entry);
    return more == NULL ? NULL : more->older;
}

bool entry_has_older(const struct entry *entry) { return entry_older(entry) != NULL; }

docdb_info entry_info(const struct entry *entry) {
    const struct more *more = entry_more(entry);
    return (docdb_info){.version = entry->seq,
                        .bytes = entry->bytes,
                        .commit_time_ns = entry->commit_time_ns,
                        .mtime_ns = more == NULL ? entry->commit_time_ns : more->mtime_ns};
}

static struct location entry_location(const struct entry *entry) {
    return (struct location){.segment = entry->segment, .offset = entry->offset};
}

/* ---- Life ---- */

struct index *index_create(const atomic_uint_fast64_t *published, struct segments *segments) {
    struct index *index = aligned_alloc(_Alignof(struct index), sizeof *index);
    if (index == NULL) {
        return NULL;
    }
    memset(index, 0, sizeof *index);
    index->published = published;
    index->segments = segments;
    arena_init(&index->arena);
    order_init(&index->order, &index->arena);
    for (size_t i = 0; i < INDEX_SHARDS; i++) {
        rwlock_init(&index->shards[i].lock);
    }
    rwlock_init(&index->order_lock);
    return index;
}

static void older_free(struct version *version) {
    while (version != NULL) {
        struct version *older = version->older;
        docdb_doc_release(version->doc);
        free(version);
        version = older;
    }
}

void index_destroy(struct index *index) NO_THREAD_SAFETY_ANALYSIS {
    if (index == NULL) {
        return;
    }
    struct order_cursor cursor = order_seek(&index->order, "", 0, false);
    arena_name name;
    while ((name = order_next(&cursor)) != 0) {
        struct entry *entry = arena_at(&index->arena, name);
        docdb_doc_release(entry_resident(entry));
        older_free(entry_older(entry));
        free(entry_more(entry));
    }
    for (size_t i = 0; i < INDEX_SHARDS; i++) {
        free(index->shards[i].slots);
        rwlock_fini(&index->shards[i].lock);
    }
    free(index->dirty[0].entries);
    free(index->dirty[1].entries);
    order_fini(&index->order);
    arena_fini(&index->arena);
    rwlock_fini(&index->order_lock);
    free(index->pending);
    free(index);
}

uint64_t index_memory(struct index *index) {
    uint64_t bytes = sizeof *index + atomic_load(&index->arena.bytes) + atomic_load(&index->more_bytes) +
                     atomic_load(&index->slot_bytes);
    rwlock_lock_shared(&index->order_lock);
    bytes += index->order.bytes;
    rwlock_unlock_shared(&index->order_lock);
    return bytes;
}

/* ---- Shards: open addressing ----
 *
 * A slot holds 32 bits of the id's hash and the entry's name. The hash, scaled to the table's size, says where an
 * entry would like to be; it is there or in one of the slots behind, with no empty one between. So a table may have
 * any size, and grows without a look at the ids. */

static uint64_t hash_id(const char *id, size_t id_bytes) { return checksum_seeded(id, id_bytes, 0); }

static struct index_shard *shard_of(struct index *index, uint64_t hash) { return &index->shards[hash >> 56]; }
_Static_assert(INDEX_SHARDS == 256, "the top 8 bits of the hash choose the shard");

static uint64_t slot_make(uint64_t hash, arena_name name) { return hash << 32 | name; }
static arena_name slot_name(uint64_t slot) { return (arena_name)slot; }
static uint32_t slot_home(uint64_t slot, uint32_t count) { return (uint32_t)((slot >> 32) * count >> 32); }
static uint32_t slot_after(uint32_t at, uint32_t count) { return at + 1 == count ? 0 : at + 1; }

static struct entry *shard_find(const struct index *index, const struct index_shard *shard, uint64_t hash,
                                const char *id, size_t id_bytes, arena_name *name) REQUIRES_SHARED(shard->lock) {
    if (shard->slot_count == 0) {
        return NULL;
    }
    uint32_t tag = (uint32_t)hash;
    uint32_t at = slot_home(slot_make(hash, 0), shard->slot_count);
    for (uint64_t slot; (slot = shard->slots[at]) != 0; at = slot_after(at, shard->slot_count)) {
        if ((uint32_t)(slot >> 32) == tag) {
            struct entry *entry = arena_at(&index->arena, slot_name(slot));
            if (entry->id_bytes == id_bytes && memcmp(entry->id, id, id_bytes) == 0) {
                if (name != NULL) {
                    *name = slot_name(slot);
                }
                return entry;
            }
        }
    }
    return NULL;
}

static void slot_insert(uint64_t *slots, uint32_t count, uint64_t slot) {
    uint32_t at = slot_home(slot, count);
    while (slots[at] != 0) {
        at = slot_after(at, count);
    }
    slots[at] = slot;
}

static bool shard_resize(struct index *index, struct index_shard *shard, uint32_t count) REQUIRES(shard->lock) {
    uint64_t *slots = calloc(count, sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < shard->slot_count; i++) {
        if (shard->slots[i] != 0) {
            slot_insert(slots, count, shard->slots[i]);
        }
    }
    atomic_fetch_add_explicit(&index->slot_bytes, (count - shard->slot_count) * sizeof *slots,
                              memory_order_relaxed);
    free(shard->slots);
    shard->slots = slots;
    shard->slot_count = count;
    return true;
}

/* Grows the table when four of five slots are used, by a quarter: full enough to be small, empty enough to be fast.
 */
static bool shard_make_room(struct index *index, struct index_shard *shard) REQUIRES(shard->lock) {
    uint32_t count = shard->slot_count;
    if (shard->entry_count + 1 <= count - count / 5 && count != 0) {
        return true;
    }
    uint32_t grown = count < SLOTS_FIRST ? SLOTS_FIRST : count + count / 4;
    return shard_resize(index, shard, grown) || shard->entry_count + 1 < count;
}

static void shard_insert(struct index_shard *shard, uint64_t hash, arena_name name) REQUIRES(shard->lock) {
    slot_insert(shard->slots, shard->slot_count, slot_make(hash, name));
    shard->entry_count++;
}

/* Empties the slot, and moves up what would not be found behind an empty one. */
static void shard_remove(struct index_shard *shard, uint64_t hash, arena_name name) REQUIRES(shard->lock) {
    uint32_t count = shard->slot_count;
    uint32_t hole = slot_home(slot_make(hash, 0), count);
    while (slot_name(shard->slots[hole]) != name) {
        hole = slot_after(hole, count);
    }
    for (uint32_t at = slot_after(hole, count); shard->slots[at] != 0; at = slot_after(at, count)) {
        uint32_t home = slot_home(shard->slots[at], count);
        uint32_t from_home = at >= home ? at - home : at + count - home;
        uint32_t from_hole = at >= hole ? at - hole : at + count - hole;
        if (from_home >= from_hole) {
            shard->slots[hole] = shard->slots[at];
            hole = at;
        }
    }
    shard->slots[hole] = 0;
    shard->entry_count--;
}

/* ---- What a reader sees ---- */

/* The newest version at or below seq; false when there is none, or it is a tombstone. */
static bool entry_visible(const struct entry *entry, uint64_t seq, struct sight *out) {
    if (entry->seq <= seq) {
        *out = (struct sight){.entry = entry};
        return entry->seq != 0 && (entry->flags & ENTRY_TOMBSTONE) == 0;
    }
    struct version *version = entry_older(entry);
    while (version != NULL && version->info.version > seq) {
        version = version->older;
    }
    *out = (struct sight){.version = version};
    return version != NULL && !version->tombstone;
}

static docdb_doc *doc_reference(docdb_doc *doc) { return doc == NULL ? NULL : docdb_doc_acquire(doc); }

static void view_fill(struct index_view *view, const struct sight *sight, bool with_doc) {
    docdb_doc *doc;
    if (sight->entry != NULL) {
        view->info = entry_info(sight->entry);
        view->location = entry_location(sight->entry);
        doc = entry_resident(sight->entry);
    } else {
        view->info = sight->version->info;
        view->location = sight->version->location;
        doc = sight->version->doc;
    }
    view->doc = with_doc ? doc_reference(doc) : NULL;
}

bool index_find(struct index *index, const char *id, size_t id_bytes, uint64_t seq, bool with_doc,
                struct index_view *out) {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    struct sight sight;
    rwlock_lock_shared(&shard->lock);
    if (seq == INDEX_NEWEST) {
        /* Loaded under the lock: what the reclaimer freed before we got it was below the published commit of then.
         */
        seq = atomic_load_explicit(index->published, memory_order_acquire);
    }
    const struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    bool found = entry != NULL && entry_visible(entry, seq, &sight);
    if (found) {
        view_fill(out, &sight, with_doc);
    }
    rwlock_unlock_shared(&shard->lock);
    if (with_doc) {
        atomic_fetch_add_explicit(&shard->reads, 1, memory_order_relaxed);
    }
    return found;
}

/* The version that commit `version` wrote. False: there is none, or it is a tombstone. */
static bool entry_version(const struct entry *entry, uint64_t version, struct sight *out) {
    if (entry->seq == version) {
        *out = (struct sight){.entry = entry};
        return version != 0 && entry_is_live(entry);
    }
    struct version *at = entry_older(entry);
    while (at != NULL && at->info.version != version) {
        at = at->older;
    }
    *out = (struct sight){.version = at};
    return at != NULL && !at->tombstone;
}

bool index_find_version(struct index *index, const char *id, size_t id_bytes, uint64_t version,
                        struct index_view *out) {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    struct sight sight;
    rwlock_lock_shared(&shard->lock);
    const struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    bool found = entry != NULL && entry_version(entry, version, &sight);
    if (found) {
        view_fill(out, &sight, true);
    }
    rwlock_unlock_shared(&shard->lock);
    return found;
}

/* Fills the item if the snapshot sees the entry. */
static bool item_fill(struct index *index, const struct entry *entry, uint64_t seq, bool with_docs,
                      struct index_item *item) {
    struct index_shard *shard = shard_of(index, hash_id(entry->id, entry->id_bytes));
    struct sight sight;
    rwlock_lock_shared(&shard->lock);
    bool found = entry_visible(entry, seq, &sight);
    if (found) {
        view_fill(&item->view, &sight, with_docs);
    }
    rwlock_unlock_shared(&shard->lock);
    if (found) {
        memcpy(item->id, entry->id, entry->id_bytes + 1u);
    }
    return found;
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
        arena_name name = order_next(&cursor);
        const struct entry *entry = name == 0 ? NULL : arena_at(&index->arena, name);
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

void index_make_resident(struct index *index, const char *id, uint64_t version, docdb_doc *doc) {
    size_t id_bytes = strlen(id);
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    struct sight sight;
    rwlock_lock(&shard->lock);
    struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    if (entry != NULL && entry_version(entry, version, &sight)) {
        if (sight.entry == NULL) {
            struct version *at = sight.version;
            at->doc = at->doc == NULL ? docdb_doc_acquire(doc) : at->doc;
        } else if (entry_resident(entry) == NULL) {
            entry_set_resident(entry, docdb_doc_acquire(doc));
        }
    }
    rwlock_unlock(&shard->lock);
}

/* ---- Accounting ---- */

/* A version came (sign 1) or went (sign -1), wherever in its chain. */
static void version_account(struct index *index, size_t id_bytes, uint64_t bytes, bool tombstone,
                            struct location location, int sign) {
    if (tombstone) {
        return;
    }
    if (location.segment != 0) {
        if (index->segments != NULL) {
            int64_t record = (int64_t)segment_record_bytes(id_bytes, bytes);
            segments_live_change(index->segments, location.segment, sign * record);
        }
    } else if (sign > 0) {
        atomic_fetch_add_explicit(&index->unsaved_bytes, bytes, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&index->unsaved_bytes, bytes, memory_order_relaxed);
    }
}

/* The newest version of an entry counts among the live documents. */
static void live_account(struct index *index, const struct entry *entry, int sign) {
    if (!entry_is_live(entry)) {
        return;
    }
    if (sign > 0) {
        atomic_fetch_add_explicit(&index->live_documents, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&index->live_bytes, entry->bytes, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&index->live_documents, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&index->live_bytes, entry->bytes, memory_order_relaxed);
    }
}

static void more_account(struct index *index, size_t bytes, int sign) {
    if (sign > 0) {
        atomic_fetch_add_explicit(&index->more_bytes, bytes, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&index->more_bytes, bytes, memory_order_relaxed);
    }
}

/* Frees versions that were cut off their entry. */
static void versions_destroy(struct index *index, size_t id_bytes, struct version *version) {
    while (version != NULL) {
        struct version *older = version->older;
        version_account(index, id_bytes, version->info.bytes, version->tombstone, version->location, -1);
        more_account(index, sizeof *version, -1);
        docdb_doc_release(version->doc);
        free(version);
        version = older;
    }
}

/* ---- Moving records ---- */

bool index_relocate(struct index *index, const char *id, uint64_t version, struct location location, bool evict) {
    size_t id_bytes = strlen(id);
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    docdb_doc *evicted = NULL;
    struct location before = {0};
    uint64_t bytes = 0;
    struct sight sight;
    rwlock_lock(&shard->lock);
    struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    bool found = entry != NULL && entry_version(entry, version, &sight);
    if (found && sight.entry != NULL) {
        before = entry_location(entry);
        bytes = entry->bytes;
        entry->segment = location.segment;
        entry->offset = location.offset;
        if (evict) {
            evicted = entry_resident(entry);
            entry_set_resident(entry, NULL);
        }
    } else if (found) {
        struct version *at = sight.version;
        before = at->location;
        bytes = at->info.bytes;
        at->location = location;
        if (evict) {
            evicted = at->doc;
            at->doc = NULL;
        }
    }
    rwlock_unlock(&shard->lock);
    if (found) {
        version_account(index, id_bytes, bytes, false, location, 1);
        version_account(index, id_bytes, bytes, false, before, -1);
    }
    docdb_doc_release(evicted);
    return found;
}

static bool location_equal(struct location a, struct location b) {
    return a.segment == b.segment && a.offset == b.offset;
}

bool index_is_at(struct index *index, const char *id, size_t id_bytes, struct location location) {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    rwlock_lock_shared(&shard->lock);
    const struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    bool found = entry != NULL && entry_is_live(entry) && location_equal(entry_location(entry), location);
    const struct version *version = entry == NULL ? NULL : entry_older(entry);
    while (!found && version != NULL) {
        found = !version->tombstone && location_equal(version->location, location);
        version = version->older;
    }
    rwlock_unlock_shared(&shard->lock);
    return found;
}

static void dirty_add(struct index *index, struct entry *entry);

bool index_move(struct index *index, const char *id, size_t id_bytes, struct location from, struct location to) {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    size_t moved = 0;
    uint64_t bytes = 0;
    rwlock_lock(&shard->lock);
    struct entry *entry = shard_find(index, shard, hash, id, id_bytes, NULL);
    if (entry != NULL && entry_is_live(entry) && location_equal(entry_location(entry), from)) {
        entry->segment = to.segment;
        entry->offset = to.offset;
        bytes = entry->bytes;
        moved++;
    }
    for (struct version *at = entry == NULL ? NULL : entry_older(entry); at != NULL; at = at->older) {
        if (!at->tombstone && location_equal(at->location, from)) {
            at->location = to;
            bytes = at->info.bytes;
            moved++;
        }
    }
    rwlock_unlock(&shard->lock);
    for (size_t i = 0; i < moved; i++) {
        version_account(index, id_bytes, bytes, false, to, 1);
        version_account(index, id_bytes, bytes, false, from, -1);
    }
    if (moved > 0) {
        dirty_add(index, entry);
    }
    return moved > 0;
}

/* ---- Dirty lists ---- */

static uint8_t dirty_bit(unsigned list) { return (uint8_t)(1u << list); }

static bool entry_is_dirty(const struct entry *entry) { return entry->dirty != 0; }

static bool dirty_reserve(struct dirty_list *list, size_t more) {
    size_t needed = list->count + list->reserved + more;
    if (needed <= list->capacity) {
        return true;
    }
    size_t capacity = list->capacity * 2 > needed ? list->capacity * 2 : needed;
    struct entry **entries = realloc(list->entries, capacity * sizeof(struct entry *));
    if (entries == NULL) {
        return false;
    }
    list->entries = entries;
    list->capacity = capacity;
    return true;
}

/* Its room was reserved. */
static void dirty_add(struct index *index, struct entry *entry) {
    struct dirty_list *list = &index->dirty[index->dirty_now];
    uint8_t bit = dirty_bit(index->dirty_now);
    if ((entry->dirty & bit) == 0) {
        assert(list->count < list->capacity);
        entry->dirty |= bit;
        list->entries[list->count++] = entry;
    }
}

int index_reserve(struct index *index, size_t installs) {
    return dirty_reserve(&index->dirty[index->dirty_now], installs) ? DOCDB_OK : DOCDB_ERR_MEMORY;
}

int index_dirty_take(struct index *index, struct dirty_list *out) {
    struct dirty_list *now = &index->dirty[index->dirty_now];
    struct dirty_list *next = &index->dirty[1 - index->dirty_now];
    if (!dirty_reserve(next, now->count)) {
        return DOCDB_ERR_MEMORY;
    }
    next->reserved = now->count;
    *out = *now;
    *now = (struct dirty_list){0};
    index->dirty_now = 1 - index->dirty_now;
    return DOCDB_OK;
}

size_t index_dirty_count(const struct index *index) { return index->dirty[index->dirty_now].count; }

static int by_id(const void *a, const void *b) {
    const struct entry *left = *(struct entry *const *)a;
    const struct entry *right = *(struct entry *const *)b;
    return strcmp(left->id, right->id); /* an id has no NUL in it */
}

void index_dirty_sort(struct dirty_list *list) {
    if (list->count > 1) {
        qsort(list->entries, list->count, sizeof(struct entry *), by_id);
    }
}

enum dirty_state index_dirty_item(struct index *index, const struct entry *entry, uint64_t seq,
                                  struct index_item *item) {
    if (item_fill(index, entry, seq, true, item)) {
        return DIRTY_LIVE;
    }
    memcpy(item->id, entry->id, entry->id_bytes + 1u);
    item->view = (struct index_view){0};
    return DIRTY_DELETED;
}

static void entry_remove(struct index *index, struct entry *entry);

void index_dirty_settle(struct index *index, struct entry **entries, size_t count, uint64_t seq) {
    uint8_t taken = dirty_bit(1 - index->dirty_now);
    index->dirty[index->dirty_now].reserved -= count;
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = entries[i];
        entry->dirty &= (uint8_t)~taken;
        if (entry->seq > seq) {
            dirty_add(index, entry);
        } else if (!entry_is_live(entry) && !entry_has_older(entry) && !entry_is_dirty(entry)) {
            entry_remove(index, entry);
        }
    }
}

void index_dirty_return(struct index *index, struct dirty_list *list) {
    uint8_t taken = dirty_bit(1 - index->dirty_now);
    index->dirty[index->dirty_now].reserved = 0;
    for (size_t i = 0; i < list->count; i++) {
        list->entries[i]->dirty &= (uint8_t)~taken;
        dirty_add(index, list->entries[i]);
    }
    free(list->entries);
    *list = (struct dirty_list){0};
}

/* ---- Writers ---- */

/* No lock: who holds `apply` is the only one that changes the tables. */
struct entry *index_lookup(struct index *index, const char *id, size_t id_bytes) NO_THREAD_SAFETY_ANALYSIS {
    uint64_t hash = hash_id(id, id_bytes);
    return shard_find(index, shard_of(index, hash), hash, id, id_bytes, NULL);
}

static arena_name entry_create(struct index *index, const char *id, size_t id_bytes) {
    arena_name name = arena_alloc(&index->arena, entry_bytes(id_bytes));
    if (name != 0) {
        struct entry *entry = arena_at(&index->arena, name);
        memset(entry, 0, offsetof(struct entry, id));
        entry->flags = ENTRY_TOMBSTONE;
        entry->id_bytes = (uint8_t)id_bytes;
        memcpy(entry->id, id, id_bytes);
        entry->id[id_bytes] = '\0';
    }
    return name;
}

struct entry *index_ensure(struct index *index, const char *id, size_t id_bytes) {
    struct entry *entry = index_lookup(index, id, id_bytes);
    if (entry != NULL) {
        return entry;
    }
    arena_name name = entry_create(index, id, id_bytes);
    if (name == 0) {
        return NULL;
    }
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    rwlock_lock(&index->order_lock);
    rwlock_lock(&shard->lock);
    bool ok = shard_make_room(index, shard) && order_insert(&index->order, name) == DOCDB_OK;
    if (ok) {
        shard_insert(shard, hash, name);
    }
    rwlock_unlock(&shard->lock);
    rwlock_unlock(&index->order_lock);
    if (!ok) {
        arena_free(&index->arena, name, entry_bytes(id_bytes));
        return NULL;
    }
    return arena_at(&index->arena, name);
}

/* Takes an entry without a live document or older versions out of the tables and frees it. */
static void entry_remove(struct index *index, struct entry *entry) {
    size_t id_bytes = entry->id_bytes;
    uint64_t hash = hash_id(entry->id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    arena_name name = 0;
    rwlock_lock(&index->order_lock);
    rwlock_lock(&shard->lock);
    (void)shard_find(index, shard, hash, entry->id, id_bytes, &name);
    order_remove(&index->order, name);
    shard_remove(shard, hash, name);
    rwlock_unlock(&shard->lock);
    rwlock_unlock(&index->order_lock);
    if (entry_more(entry) != NULL) {
        more_account(index, sizeof(struct more), -1);
        free(entry_more(entry));
    }
    arena_free(&index->arena, name, entry_bytes(id_bytes));
}

/* The newest version, as one that is not the newest any more. */
static void version_of_entry(const struct entry *entry, struct version *out) {
    *out = (struct version){.older = entry_older(entry),
                            .info = entry_info(entry),
                            .doc = entry_resident(entry),
                            .location = entry_location(entry),
                            .tombstone = !entry_is_live(entry)};
}

/* Makes `version` the newest of an entry; `more` is what it is kept in, or NULL when it needs none. */
static void entry_set(struct entry *entry, const struct index_version *version, struct more *more,
                      struct version *older) {
    entry->seq = version->info.version;
    entry->commit_time_ns = version->info.commit_time_ns;
    entry->bytes = (uint32_t)version->info.bytes;
    entry->segment = version->location.segment;
    entry->offset = version->location.offset;
    entry->flags = (uint8_t)((entry->flags & ~ENTRY_TOMBSTONE) | (version->tombstone ? ENTRY_TOMBSTONE : 0));
    if (more == NULL) {
        held_store(entry, version->doc);
        return;
    }
    *more = (struct more){.doc = version->doc, .mtime_ns = version->info.mtime_ns, .older = older};
    held_store(entry, (char *)more + 1);
}

int index_install(struct index *index, struct entry *entry, const struct index_version *version) {
    struct index_shard *shard = shard_of(index, hash_id(entry->id, entry->id_bytes));
    bool has_version = entry->seq != 0;
    bool needs_more = has_version || version->info.mtime_ns != version->info.commit_time_ns;
    struct version *older = has_version ? malloc(sizeof *older) : NULL;
    struct more *more = entry_more(entry);
    bool makes_more = needs_more && more == NULL;
    if (makes_more) {
        more = malloc(sizeof *more);
    }
    if ((has_version && older == NULL) || (needs_more && more == NULL)) {
        free(older);
        if (makes_more) {
            free(more);
        }
        if (!has_version && !entry_is_dirty(entry)) {
            entry_remove(index, entry);
        }
        return DOCDB_ERR_MEMORY;
    }
    live_account(index, entry, -1);
    more_account(index, (has_version ? sizeof *older : 0) + (makes_more ? sizeof *more : 0), 1);
    rwlock_lock(&shard->lock);
    if (older != NULL) {
        version_of_entry(entry, older);
    }
    entry_set(entry, version, more, older);
    rwlock_unlock(&shard->lock);
    live_account(index, entry, 1);
    version_account(index, entry->id_bytes, version->info.bytes, version->tombstone, version->location, 1);
    dirty_add(index, entry);
    return DOCDB_OK;
}

/* Frees the struct more of an entry that needs it no longer. Under the shard's lock. */
static struct more *more_detach(struct entry *entry) {
    struct more *more = entry_more(entry);
    if (more == NULL || more->older != NULL || more->mtime_ns != entry->commit_time_ns) {
        return NULL;
    }
    held_store(entry, more->doc);
    return more;
}

static void more_destroy(struct index *index, struct more *more) {
    if (more != NULL) {
        more_account(index, sizeof *more, -1);
        free(more);
    }
}

void index_unwind(struct index *index, struct entry *entry) {
    struct index_shard *shard = shard_of(index, hash_id(entry->id, entry->id_bytes));
    struct version *below = entry_older(entry);
    struct index_version before = {.tombstone = true};
    struct version gone;
    live_account(index, entry, -1);
    rwlock_lock(&shard->lock);
    version_of_entry(entry, &gone);
    if (below != NULL) {
        before = (struct index_version){
            .info = below->info, .tombstone = below->tombstone, .doc = below->doc, .location = below->location};
    }
    entry_set(entry, &before, entry_more(entry), below == NULL ? NULL : below->older);
    struct more *unused = more_detach(entry);
    rwlock_unlock(&shard->lock);
    live_account(index, entry, 1);
    version_account(index, entry->id_bytes, gone.info.bytes, gone.tombstone, gone.location, -1);
    docdb_doc_release(gone.doc);
    more_destroy(index, unused);
    if (below != NULL) {
        more_account(index, sizeof *below, -1);
        free(below);
    } else if (!entry_is_dirty(entry)) {
        entry_remove(index, entry);
    }
}

docdb_doc *entry_doc(struct index *index, const struct entry *entry, struct location *location) {
    struct index_shard *shard = shard_of(index, hash_id(entry->id, entry->id_bytes));
    rwlock_lock_shared(&shard->lock);
    docdb_doc *doc = doc_reference(entry_resident(entry));
    *location = entry_location(entry);
    rwlock_unlock_shared(&shard->lock);
    return doc;
}

void index_reclaim(struct index *index, struct entry *entry, uint64_t seq) {
    struct index_shard *shard = shard_of(index, hash_id(entry->id, entry->id_bytes));
    struct version *dead = NULL;
    struct more *more = entry_more(entry);
    rwlock_lock(&shard->lock);
    if (entry->seq <= seq) {
        dead = entry_older(entry);
        if (more != NULL) {
            more->older = NULL;
        }
    } else {
        struct version *keep = entry_older(entry);
        while (keep != NULL && keep->info.version > seq) {
            keep = keep->older;
        }
        if (keep != NULL) {
            dead = keep->older;
            keep->older = NULL;
        }
    }
    struct more *unused = more_detach(entry);
    rwlock_unlock(&shard->lock);
    more_destroy(index, unused);
    versions_destroy(index, entry->id_bytes, dead);
    if (entry->seq == seq && !entry_is_live(entry) && !entry_is_dirty(entry)) {
        entry_remove(index, entry);
    }
}

/* ---- Loading ---- */

struct pending_slot {
    struct index_shard *shard;
    uint64_t hash;
    arena_name name;
};

int index_load_begin(struct index *index, uint64_t expected_entries) NO_THREAD_SAFETY_ANALYSIS {
    /* The hash spreads ids evenly, but not quite: a shard that gets more grows. */
    uint64_t each = expected_entries / INDEX_SHARDS;
    index->pending = malloc(LOAD_AHEAD * sizeof *index->pending);
    if (index->pending == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < INDEX_SHARDS && each > 0; i++) {
        if (!shard_resize(index, &index->shards[i], (uint32_t)(each + each / 3 + SLOTS_FIRST))) {
            return DOCDB_ERR_MEMORY;
        }
    }
    return DOCDB_OK;
}

static int pending_flush(struct index *index) NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < index->pending_count; i++) {
        const struct pending_slot *pending = &index->pending[i];
        if (!shard_make_room(index, pending->shard)) {
            return DOCDB_ERR_MEMORY;
        }
        shard_insert(pending->shard, pending->hash, pending->name);
    }
    index->pending_count = 0;
    return DOCDB_OK;
}

/* Notes an entry for its shard's table, and asks for the memory of its slot, which is seldom in a cache. */
static int pending_add(struct index *index, const char *id, size_t id_bytes,
                       arena_name name) NO_THREAD_SAFETY_ANALYSIS {
    uint64_t hash = hash_id(id, id_bytes);
    struct index_shard *shard = shard_of(index, hash);
    if (shard->slot_count > 0) {
        __builtin_prefetch(&shard->slots[slot_home(slot_make(hash, 0), shard->slot_count)], 1);
    }
    index->pending[index->pending_count++] = (struct pending_slot){.shard = shard, .hash = hash, .name = name};
    return index->pending_count == LOAD_AHEAD ? pending_flush(index) : DOCDB_OK;
}

int index_load_add(struct index *index, const char *id, size_t id_bytes, const docdb_info *info,
                   struct location location) NO_THREAD_SAFETY_ANALYSIS {
    arena_name name = entry_create(index, id, id_bytes);
    struct more *more = NULL;
    bool has_mtime = info->mtime_ns != info->commit_time_ns;
    if (has_mtime) {
        more = malloc(sizeof *more);
    }
    if (name == 0 || (has_mtime && more == NULL)) {
        free(more);
        return DOCDB_ERR_MEMORY;
    }
    struct entry *entry = arena_at(&index->arena, name);
    more_account(index, has_mtime ? sizeof *more : 0, 1);
    entry_set(entry, &(struct index_version){.info = *info, .location = location}, more, NULL);
    if (order_insert(&index->order, name) != DOCDB_OK) {
        free(more);
        return DOCDB_ERR_MEMORY;
    }
    index->loaded_bytes += info->bytes;
    return order_last(&index->order) == name ? pending_add(index, id, id_bytes, name) : DOCDB_ERR_CORRUPT;
}

int index_load_end(struct index *index) NO_THREAD_SAFETY_ANALYSIS {
    int status = pending_flush(index);
    atomic_store(&index->live_documents, index->order.count);
    atomic_store(&index->live_bytes, index->loaded_bytes);
    free(index->pending);
    index->pending = NULL;
    return status;
}
