/*
 * The segments of one database: append-only files that hold checkpointed documents.
 *
 * A checkpoint appends (segments_append, segments_sync); readers read single records (segments_read), each checked
 * against its checksums. What lies beyond the recorded end of a segment was written by a checkpoint that did not
 * finish; the next one overwrites it.
 *
 * Threads: one appender at a time (the checkpoint); any number of readers. `lock` guards the table of segments; a
 * file stays open until the database's last reference goes, so a reader uses it without the lock.
 */
#ifndef DOCDB_ENGINE_SEGMENTS_H
#define DOCDB_ENGINE_SEGMENTS_H

#include "base/doc.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "engine/index.h"

struct segment {
    uint32_t number;
    int file;
    uint64_t bytes; /* its recorded end */
    bool synced;    /* up to there, at least once */
    bool failed;    /* a write or sync of it failed: no more is appended */
};

struct segments {
    const struct docdb_os *os;
    const struct log *log;
    char *directory; /* of the database */
    uint64_t store_id;
    uint32_t database_id;

    struct rwlock lock;
    struct segment *table GUARDED_BY(lock); /* in order of number */
    size_t count GUARDED_BY(lock);

    /* The appender's. */
    uint8_t *buffer; /* what is appended to the last segment and not written yet; NULL until the first append */
    size_t buffered;
    uint64_t write_offset;
    bool appending;
};

int segments_init(struct segments *segments, const struct docdb_os *os, const struct log *log,
                  const char *directory, uint64_t store_id, uint32_t database_id);
void segments_fini(struct segments *segments);

/* Opens segment `number`, of which `bytes` bytes are recorded. Errors: CORRUPT (missing, short, or not ours;
 * logged), IO, MEMORY. */
int segments_adopt(struct segments *segments, uint32_t number, uint64_t bytes);

/* A copy of the table; *out is the caller's, from malloc. */
int segments_list(struct segments *segments, struct segment **out, size_t *count);
uint64_t segments_bytes(struct segments *segments);

/* Appends a document and tells where it will be once segments_sync has returned DOCDB_OK. Errors: IO, NO_SPACE,
 * MEMORY; then call segments_rollback. */
int segments_append(struct segments *segments, const char *id, const docdb_doc *doc, const docdb_info *info,
                    struct location *out);
/* Makes what was appended durable, and its end the recorded one. */
int segments_sync(struct segments *segments);
/* Forgets what was appended since the last sync, after a failure. */
void segments_rollback(struct segments *segments);

/* Reads the document of `view` at its location, checks it, and returns it with one reference.
 * Errors: CORRUPT (logged with file and offset), IO, MEMORY. */
int segments_read(struct segments *segments, const char *id, const struct index_view *view, docdb_doc **out);

/* "<directory>/<number, 8 hex digits>.seg" */
void segment_path(const char *directory, uint32_t number, char *out, size_t bytes);

#endif
