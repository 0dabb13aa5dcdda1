/*
 * A verification at work: what its files share. See verify.h for the story.
 *
 * Everything here runs on the verification's own thread. What was found goes out through verify_damage and
 * verify_read, which wait until the caller has taken it; they return CLOSING when the caller wants no more, and
 * then everything returns at once.
 */
#ifndef DOCDB_ENGINE_VERIFY_JOB_H
#define DOCDB_ENGINE_VERIFY_JOB_H

#include "base/checksum.h"
#include "base/log.h"
#include "base/os.h"
#include "docdb.h"
#include "engine/index_file.h"
#include "engine/manifest.h"
#include "engine/segment_format.h"

#define VERIFY_PATH_BYTES   4096
#define VERIFY_WINDOW_BYTES ((size_t)1 << 20) /* what is read at once */
#define VERIFY_KNOWN_MAX    4096u

/* An event on its way, with the strings that it points to. */
struct verify_message {
    docdb_verify_event event;
    char file[VERIFY_PATH_BYTES];
    char database[DOCDB_NAME_BYTES_MAX + 1];
    char id[DOCDB_ID_BYTES_MAX + 1];
    char what[512];
};

/* A record whose damage was reported with its document's id: the walk through the segment passes over it. Offset 0:
 * the file or its header. */
struct verify_known {
    uint32_t database_id;
    uint32_t segment;
    uint64_t offset;
    uint64_t bytes; /* of the record, at least */
};

/* One open segment, and a window of its bytes. */
struct verify_reader {
    int file; /* -1: none */
    int rc;   /* why not: a negative errno value */
    uint64_t file_bytes;
    char path[VERIFY_PATH_BYTES];
    uint8_t *window; /* VERIFY_WINDOW_BYTES */
    uint64_t window_offset;
    size_t window_bytes;
    struct checksum_stream *stream;
};

struct verify_channel;

struct verify_job {
    const struct docdb_os *os;
    struct log quiet; /* what the readers of files would log is told in events instead */
    char directory[VERIFY_PATH_BYTES];
    bool offline;
    bool manifest_known;
    struct manifest manifest;
    struct verify_channel *channel;

    uint64_t done_bytes;
    uint64_t total_bytes;
    uint64_t phase_end;    /* done_bytes when the present phase has ended */
    uint64_t unsaid_bytes; /* read since the last event of progress */
    uint64_t documents;
    uint64_t damages;

    struct verify_reader reader;
    struct verify_known known[VERIFY_KNOWN_MAX];
    size_t known_count;
    bool known_full; /* there were more: what is not in use can't be told from what is */
};

/* What is being looked at, for events. */
struct verify_place {
    uint32_t database_id;
    const char *database; /* its name; "" for files of the store as a whole */
    char directory[VERIFY_PATH_BYTES];
};

/* ---- Events (verify.c) ---- */

/* Reports damage; id is not NUL-terminated and may be empty. DOCDB_OK or CLOSING. */
int verify_damage(struct verify_job *job, const char *file, uint64_t offset, const char *database, const char *id,
                  size_t id_bytes, const char *what);
/* So many bytes were read: tells the progress once in a while. DOCDB_OK or CLOSING. */
int verify_read(struct verify_job *job, uint64_t bytes);
void verify_phase_begin(struct verify_job *job, uint64_t bytes);
void verify_phase_end(struct verify_job *job);
/* A status that ends the verification: not damage, which was reported. */
static inline bool verify_is_over(int status) { return status == DOCDB_ERR_CLOSING || status == DOCDB_ERR_MEMORY; }

/* ---- Records (verify_records.c) ---- */

/* What a record should be. */
struct verify_record {
    const char *id;
    uint8_t id_bytes;
    uint64_t bytes;
    uint64_t version; /* or an older one */
    struct location location;
};
/* What it is. */
struct verify_found {
    const char *what; /* is wrong; NULL: nothing */
    bool decoded;     /* its header is right: record and id say what it claims to be */
    struct segment_record record;
    char id[DOCDB_ID_BYTES_MAX + 1];
};

int verify_reader_init(struct verify_reader *reader);
void verify_reader_fini(struct verify_job *job);
/* Makes the segment the reader's; reader->file is -1 when it can't be opened. False: it was the reader's already.
 */
bool verify_reader_open(struct verify_job *job, const struct verify_place *place, uint32_t segment);
/* Checks the record at `offset` that must end at or before `end`, header, id and document; `expected` may be NULL.
 * On a miss `ahead` bytes are read at once, if there are so many. DOCDB_OK (found->what says more), CLOSING. */
int verify_record(struct verify_job *job, uint64_t offset, uint64_t end, uint64_t ahead,
                  const struct verify_record *expected, struct verify_found *found);
/* Reports a damaged record with the id of its document, and remembers it for the walk. */
int verify_record_damaged(struct verify_job *job, const struct verify_place *place,
                          const struct verify_record *expected, const char *what);

/* Checks the record of each document of the merged runs of `set`. */
int verify_documents(struct verify_job *job, const struct verify_place *place, const struct index_file_set *set);
/* Checks that the segment is there, as long as it should be, and ours; tells what is wrong once. */
int verify_segment_header(struct verify_job *job, const struct verify_place *place,
                          const struct segment_extent *extent);
/* All segments of a set. */
int verify_segment_headers(struct verify_job *job, const struct verify_place *place,
                           const struct index_file_set *set);
/* Walks the segments front to back for damage in what no document has. sound: all index files could be read. */
int verify_segment_walk(struct verify_job *job, const struct verify_place *place, const struct index_file_set *set,
                        bool sound);

/* ---- The log (verify_wal.c) ---- */

/* About how much is read of it. */
uint64_t verify_wal_bytes(struct verify_job *job);
int verify_wal(struct verify_job *job);

/* ---- All of it (verify_work.c) ---- */

/* Runs the whole verification. DOCDB_OK, or what ended it early. */
int verify_work(struct verify_job *job);

#endif
