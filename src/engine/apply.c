/* See apply.h. */
#include "engine/apply.h"

#include <string.h>

const struct version *apply_live(const struct apply *apply, const char *id, size_t id_bytes) {
    const struct entry *entry = index_lookup(apply->database->index, id, id_bytes);
    return entry == NULL || entry->newest->tombstone ? NULL : entry->newest;
}

static void install(struct apply *apply, struct entry *entry, struct version *version) {
    struct version *before = entry->newest;
    if (before != NULL && before->info.version == apply->commit_seq) {
        for (size_t i = apply->count; i-- > 0;) {
            if (apply->applied[i].version == before) {
                apply->applied[i].superseded = true;
                break;
            }
        }
    }
    apply->applied[apply->count++] =
        (struct applied){.entry = entry, .version = version, .created = before == NULL || before->tombstone};
    index_install(apply->database->index, entry, version);
}

int apply_put(struct apply *apply, const char *id, size_t id_bytes, docdb_doc *doc, int64_t mtime_ns) {
    struct version *version = version_create();
    struct entry *entry = version == NULL ? NULL : index_ensure(apply->database->index, id, id_bytes);
    if (entry == NULL) {
        version_destroy(version);
        docdb_doc_release(doc);
        return DOCDB_ERR_MEMORY;
    }
    doc->info.version = apply->commit_seq;
    doc->info.commit_time_ns = apply->commit_time_ns;
    doc->info.mtime_ns = mtime_ns == 0 ? apply->commit_time_ns : mtime_ns;
    version->info = doc->info;
    version->checksum = doc->checksum;
    version->doc = doc;
    install(apply, entry, version);
    return DOCDB_OK;
}

int apply_delete(struct apply *apply, const char *id, size_t id_bytes) {
    if (apply_live(apply, id, id_bytes) == NULL) {
        return DOCDB_ERR_NOT_FOUND;
    }
    struct version *version = version_create();
    if (version == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    version->info.version = apply->commit_seq;
    version->info.commit_time_ns = apply->commit_time_ns;
    version->tombstone = true;
    install(apply, index_lookup(apply->database->index, id, id_bytes), version);
    return DOCDB_OK;
}

/* A new document with the bytes of the live document `id`, for a new version of them. It is resident, except when
 * it was evicted just now: then it is read. */
static int doc_of(const struct apply *apply, const char *id, size_t id_bytes, docdb_doc **out) {
    const struct entry *entry = index_lookup(apply->database->index, id, id_bytes);
    if (entry == NULL || entry->newest->tombstone) {
        return DOCDB_ERR_NOT_FOUND;
    }
    struct index_view view = {.info = entry->newest->info, .checksum = entry->newest->checksum};
    view.doc = index_version_doc(apply->database->index, entry, entry->newest, &view.location);
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
        bool garbage = applied->version->older != NULL || applied->version->tombstone;
        if (garbage && !applied->superseded) {
            reclaimer_add(reclaimer, apply->database, applied->entry, apply->commit_seq);
        }
    }
}
