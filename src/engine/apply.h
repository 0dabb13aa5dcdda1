/*
 * What an operation does to the index: used by the commit thread (before the commit is durable) and by recovery
 * alike.
 *
 * Everything here is under the engine's `apply` mutex. Operations of one transaction are applied in order; each
 * installed version is noted, so that a transaction that fails in the middle is taken back whole (apply_undo).
 */
#ifndef DOCDB_ENGINE_APPLY_H
#define DOCDB_ENGINE_APPLY_H

#include "engine/catalog.h"
#include "engine/reclaim.h"
#include "engine/runtime.h"

/* A version that an operation installed. The entry stays while the commit is not complete: it is dirty. */
struct applied {
    struct entry *entry;
    docdb_info info;
    bool tombstone;
    bool created;    /* there was no live document before */
    bool replaces;   /* there was a version before */
    bool superseded; /* a later operation of the same transaction replaced it */
};

/* The transaction that is being applied. */
struct apply {
    struct engine *engine;
    struct database *database;
    uint64_t commit_seq;
    int64_t commit_time_ns;
    struct applied *applied; /* the caller's, with room for two an operation */
    size_t count;
};

/* The entry of an id if its newest version is a live document, else NULL. */
const struct entry *apply_live(const struct apply *apply, const char *id, size_t id_bytes);

/* Each returns DOCDB_OK, NOT_FOUND or MEMORY (or IO, CORRUPT for a rename of a document on disk). */

/* Takes over one reference of doc, whatever it returns; completes doc->info, so nobody else may see it yet.
 * mtime_ns 0: the commit time. */
int apply_put(struct apply *apply, const char *id, size_t id_bytes, docdb_doc *doc, int64_t mtime_ns);
/* The put of a document of so many bytes whose record is on disk already (recovery). */
int apply_put_at(struct apply *apply, const char *id, size_t id_bytes, uint64_t bytes, struct location location,
                 int64_t mtime_ns);
int apply_delete(struct apply *apply, const char *id, size_t id_bytes);
int apply_rename(struct apply *apply, const char *from, size_t from_bytes, const char *to, size_t to_bytes);
int apply_exchange(struct apply *apply, const char *a, size_t a_bytes, const char *b, size_t b_bytes);
int apply_set_mtime(struct apply *apply, const char *id, size_t id_bytes, int64_t mtime_ns);

/* Takes everything back. */
void apply_undo(struct apply *apply);

/* Hands what was replaced to the reclaimer, which has room for apply->count items. */
void apply_finish(struct apply *apply, struct reclaimer *reclaimer);

#endif
