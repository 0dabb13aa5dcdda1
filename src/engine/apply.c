/* See apply.h. */
#include "engine/apply.h"

#include <string.h>

const struct entry *apply_live(const struct apply *apply, const char *id, size_t id_bytes) {
    const struct entry *entry = index_lookup(apply->database->index, id, id_bytes);
    return entry == NULL || !entry_is_live(entry) ? NULL : entry;
}

/* The version before was this transaction's own: nobody will ever see it. */
static void supersede(struct apply *apply, const struct entry *entry) {
    for (size_t i = apply->count; i-- > 0;) {
        if (apply->applied[i].entry == entry) {
            apply->applied[i].superseded = true;
            break;
        }
    }
}

static int install(struct apply *apply, struct entry *entry, const struct index_version *version) {
    struct applied applied = {.entry = entry,
                              .info = version->info,
                              .tombstone = version->tombstone,
                              .created = !entry_is_live(entry),
                              .replaces = entry->seq != 0};
    bool own = entry->seq == apply->commit_seq;
    int status = index_install(apply->database->index, entry, version);
    if (status == DOCDB_OK) {
        if (own) {
            supersede(apply, entry);
        }
        apply->applied[apply->count++] = applied;
    }
    return status;
}

static docdb_info info_new(const struct apply *apply, uint64_t bytes, int64_t mtime_ns) {
    return (docdb_info){.version = apply->commit_seq,
                        .bytes = bytes,
                        .commit_time_ns = apply->commit_time_ns,
                        .mtime_ns = mtime_ns == 0 ? apply->commit_time_ns : mtime_ns};
}

int apply_put(struct apply *apply, const char *id, size_t id_bytes, docdb_doc *doc, int64_t mtime_ns) {
    struct entry *entry = index_ensure(apply->database->index, id, id_bytes);
    int status = DOCDB_ERR_MEMORY;
    if (entry != NULL) {
        doc->info = info_new(apply, doc->info.bytes, mtime_ns);
        status = install(apply, entry, &(struct index_version){.info = doc->info, .doc = doc});
    }
    if (status != DOCDB_OK) {
        docdb_doc_release(doc);
    }
    return status;
}

int apply_put_at(struct apply *apply, const char *id, size_t id_bytes, uint64_t bytes, struct location location,
                 int64_t mtime_ns) {
    struct entry *entry = index_ensure(apply->database->index, id, id_bytes);
    return entry == NULL
               ? DOCDB_ERR_MEMORY
               : install(apply, entry,
                         &(struct index_version){.info = info_new(apply, bytes, mtime_ns), .location = location});
}

int apply_delete(struct apply *apply, const char *id, size_t id_bytes) {
    struct entry *entry = index_lookup(apply->database->index, id, id_bytes);
    if (entry == NULL || !entry_is_live(entry)) {
        return DOCDB_ERR_NOT_FOUND;
    }
    return install(apply, entry,
                   &(struct index_version){.info = {.version = apply->commit_seq,
                                                    .commit_time_ns = apply->commit_time_ns,
                                                    .mtime_ns = apply->commit_time_ns},
                                           .tombstone = true});
}

/* A new document with the bytes of the live document `id`, for a new version of them. It is resident, except when
 * it was evicted just now: then it is read. */
static int doc_of(const struct apply *apply, const char *id, size_t id_bytes, docdb_doc **out) {
    const struct entry *entry = apply_live(apply, id, id_bytes);
    if (entry == NULL) {
        return DOCDB_ERR_NOT_FOUND;
    }
    struct index_view view = {.info = entry_info(entry)};
    view.doc = entry_doc(apply->database->index, entry, &view.location);
    docdb_doc *doc = NULL;
    int status = engine_load(apply->engine, apply->database, entry->id, &view, &doc);
    if (status != DOCDB_OK) {
        return status;
    }
    *out = doc_create_alias(doc);
    docdb_doc_release(doc);
    if (*out == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    (*out)->info.mtime_ns = view.info.mtime_ns;
    doc_account(*out, &apply->engine->resident_bytes);
    return DOCDB_OK;
}

int apply_rename(struct apply *apply, const char *from, size_t from_bytes, const char *to, size_t to_bytes) {
    docdb_doc *doc = NULL;
    int status = doc_of(apply, from, from_bytes, &doc);
    if (status == DOCDB_OK) {
        status = apply_delete(apply, from, from_bytes);
        if (status != DOCDB_OK) {
            docdb_doc_release(doc);
            return status;
        }
        status = apply_put(apply, to, to_bytes, doc, doc->info.mtime_ns);
    }
    return status;
}

int apply_exchange(struct apply *apply, const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    docdb_doc *doc_a = NULL;
    docdb_doc *doc_b = NULL;
    int status = doc_of(apply, a, a_bytes, &doc_a);
    if (status == DOCDB_OK) {
        status = doc_of(apply, b, b_bytes, &doc_b);
    }
    if (status != DOCDB_OK) {
        docdb_doc_release(doc_a);
        return status;
    }
    status = apply_put(apply, a, a_bytes, doc_b, doc_b->info.mtime_ns);
    if (status != DOCDB_OK) {
        docdb_doc_release(doc_a);
        return status;
    }
    return apply_put(apply, b, b_bytes, doc_a, doc_a->info.mtime_ns);
}

int apply_set_mtime(struct apply *apply, const char *id, size_t id_bytes, int64_t mtime_ns) {
    docdb_doc *doc = NULL;
    struct entry *entry = index_lookup(apply->database->index, id, id_bytes);
    if (entry == NULL || !entry_is_live(entry)) {
        return DOCDB_ERR_NOT_FOUND;
    }
    struct location location;
    docdb_doc_release(entry_doc(apply->database->index, entry, &location));
    if (location.segment != 0) {
        /* The new version shares the record of the old one; its bytes need not be in memory. */
        return apply_put_at(apply, id, id_bytes, entry_info(entry).bytes, location, mtime_ns);
    }
    int status = doc_of(apply, id, id_bytes, &doc);
    return status == DOCDB_OK ? apply_put(apply, id, id_bytes, doc, mtime_ns) : status;
}

void apply_undo(struct apply *apply) {
    while (apply->count > 0) {
        index_unwind(apply->database->index, apply->applied[--apply->count].entry);
    }
}

void apply_finish(struct apply *apply, struct reclaimer *reclaimer) {
    for (size_t i = 0; i < apply->count; i++) {
        const struct applied *applied = &apply->applied[i];
        bool garbage = applied->replaces || applied->tombstone;
        if (garbage && !applied->superseded) {
            reclaimer_add(reclaimer, apply->database, applied->entry, apply->commit_seq);
        }
    }
}
