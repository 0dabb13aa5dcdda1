/*
 * The segments of one database: append-only files that hold documents.
 *
 * Who appends has a segment_appender: the checkpoint (documents from the WAL), the compaction (documents of
 * segments that are mostly dead) and the commit thread (large documents, which go to a segment instead of the WAL).
 * Readers read single records (segments_read), each checked against its checksums. What lies beyond the recorded
 * end of a segment was written by something that did not finish; it never counts.
 *
 * Each segment knows how many of its bytes are live, that is, belong to a version that the index has. The index
 * keeps that up to date (segments_live_change).
 *
 * Threads: one at a time for each appender; any number of readers and appenders together. `lock` guards the table;
 * a segment has its own mutex for its file. A segment that is removed from the table goes when its last user does.
 */
#ifndef DOCDB_ENGINE_SEGMENTS_H
#define DOCDB_ENGINE_SEGMENTS_H

#include "base/doc.h"
#include "base/file_writer.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "engine/index.h"
#include "engine/index_file.h"
#include "engine/segment_format.h"

struct segment {
    uint32_t number;
    atomic_uint_fast64_t bytes; /* its recorded end; grows while it is appended to */
    atomic_int_fast64_t live_bytes;
    atomic_uint references;
    atomic_uint_fast64_t newest_seq; /* the newest commit whose WAL record names it: until a checkpoint holds that
                                        commit, replay needs the file */
    atomic_bool in_use;              /* an appender or the compaction has it: not to be compacted or removed */
    atomic_bool failed;              /* a write or sync of it failed: no more is appended */
    atomic_bool damaged;             /* a record of it can't be read: not to be compacted, and logged once */
    struct mutex mutex;
    int file GUARDED_BY(mutex); /* open for reading, or -1 */
    unsigned readers GUARDED_BY(mutex);
};

struct segments {
    const struct docdb_os *os;
    const struct log *log;
    char *directory; /* of the database */
    char *name;      /* of the database, for messages */
    uint64_t store_id;
    uint32_t database_id;
    atomic_uint *open_files; /* of all databases: how many segments are open for reading */

    struct rwlock lock;
    struct segment **table GUARDED_BY(lock); /* in order of number */
    size_t count GUARDED_BY(lock);
    uint32_t next_number GUARDED_BY(lock); /* never used before by this process */
};

/* directory and name are copied, the rest must outlive it. */
int segments_init(struct segments *segments, const struct docdb_os *os, const struct log *log,
                  const char *directory, const char *name, uint64_t store_id, uint32_t database_id,
                  atomic_uint *open_files);
void segments_fini(struct segments *segments);

/* Takes over segment `number` of which `bytes` bytes are recorded, found on disk. A known one grows to `bytes`.
 * Errors: CORRUPT (missing, too short, or not ours; logged), IO, MEMORY. */
int segments_adopt(struct segments *segments, uint32_t number, uint64_t bytes);

/* A copy of the table as an index file lists it; *out is the caller's, from malloc. without: numbers to leave out.
 */
int segments_list(struct segments *segments, const uint32_t *without, size_t without_count,
                  struct segment_extent **out, size_t *count);
uint64_t segments_bytes(struct segments *segments);
uint64_t segments_live_bytes(struct segments *segments);

/* A version of so many bytes (segment_record_bytes) came (positive) or went. */
void segments_live_change(struct segments *segments, uint32_t number, int64_t bytes);

/* One reference, or NULL. */
struct segment *segments_find(struct segments *segments, uint32_t number);
void segment_release(struct segments *segments, struct segment *segment);

/* Notes that the WAL record of commit `seq` names the segment. */
void segments_named(struct segments *segments, uint32_t number, uint64_t seq);

/* The numbers of segments without live bytes that no one uses, and that no commit after `seq` names; *out is the
 * caller's, from malloc. */
int segments_dead(struct segments *segments, uint64_t seq, uint32_t **out, size_t *count);
/* Bytes of the segments without live bytes. */
uint64_t segments_dead_bytes(struct segments *segments);
/* The segment with the smallest share of live bytes that is not dead, damaged or in use: what to compact next. One
 * reference, and it is in use from then on (segment_unuse); or NULL when none would give much back. */
struct segment *segments_emptiest(struct segments *segments);
void segment_unuse(struct segments *segments, struct segment *segment);
/* Takes segments out of the table (not from the disk). Their files are closed when the last reader is done. */
void segments_remove(struct segments *segments, const uint32_t *numbers, size_t count);
/* Takes all out: the database was dropped. Reads answer NO_DATABASE from then on. */
void segments_remove_all(struct segments *segments);

/* Reads the document of `view` at its location, checks it, and returns it with one reference. Errors: CORRUPT
 * (logged with file and offset), IO, MEMORY, END: the segment is gone, look the document up again. */
int segments_read(struct segments *segments, const char *id, const struct index_view *view, docdb_doc **out);

/* Reads raw bytes of a segment. Errors: IO (logged), CORRUPT: it is shorter. */
int segment_read_at(struct segments *segments, struct segment *segment, void *out, size_t bytes, uint64_t offset);

/* "<directory>/<number, 8 hex digits>.seg" */
void segment_path(const char *directory, uint32_t number, char *out, size_t bytes);

/* ---- Appending ---- */

struct segment_appender {
    struct segments *segments;
    struct segment *segment; /* the current one, one reference; NULL: none is open */
    struct file_writer writer;
    uint64_t synced_end; /* of the current segment */
};

void appender_init(struct segment_appender *appender, struct segments *segments);
/* Appends a document and tells where it will be once appender_sync has returned DOCDB_OK. One that was made with
 * doc_create_large goes out without a copy. Begins a segment, or goes on with one that is less than half of
 * `segment_bytes_max`, when none is open; it never changes to another by itself (appender_is_full, appender_close).
 * Errors: IO, NO_SPACE, MEMORY; then call appender_abandon. */
int appender_append(struct segment_appender *appender, uint64_t segment_bytes_max, const char *id, docdb_doc *doc,
                    const docdb_info *info, struct location *out);
/* The same for a record that was read from another segment: `record` with its id, and its bytes. */
int appender_append_record(struct segment_appender *appender, uint64_t segment_bytes_max,
                           const struct segment_record *record, const char *id, const void *data,
                           struct location *out);
/* Makes what was appended durable, and its end the recorded one. */
int appender_sync(struct segment_appender *appender);
static inline bool appender_is_full(const struct segment_appender *appender, uint64_t segment_bytes_max) {
    return appender->segment != NULL && appender->synced_end >= segment_bytes_max;
}
/* Closes the current segment, after a sync and after the index was told what is where: without live bytes it is
 * garbage from then on. */
void appender_close(struct segment_appender *appender);
/* After an error, or instead of closing: what was appended since the last sync never counts. A segment without any
 * synced byte is removed from the table. Nothing more is appended to the other. */
void appender_abandon(struct segment_appender *appender);

#endif
