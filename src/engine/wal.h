/*
 * The write-ahead log: writing.
 *
 * One batch is: wal_batch_begin, then wal_record_append for each transaction, then wal_batch_write, which makes
 * them durable with one write and one sync (more for what exceeds the buffer). Files are of fixed size and full of
 * zeros before they are used, so a sync writes data only. Once the current file is half full, wal_prepare
 * makes the next one in the background.
 *
 * The files together take at most `limit_bytes` and one file more: when that is reached the next file is made only
 * after wal_release let go of old ones.
 *
 * Failure: wal_batch_begin makes and opens the files that the batch needs, so "no space" and the like are found
 * before anything is written, and are clean. Any failure of wal_record_append or wal_batch_write is final: the
 * log's tail is then unknown, and the caller must write no more.
 *
 * Threads: one at a time calls the batch functions (the commit threads, under their mutex); wal_prepare and
 * wal_release may run beside it on another (maintenance). `files` is theirs in common, under `mutex`.
 */
#ifndef DOCDB_ENGINE_WAL_H
#define DOCDB_ENGINE_WAL_H

#include <stdatomic.h>

#include "base/doc.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "engine/wal_format.h"

struct wal_file {
    uint64_t number;
    uint64_t start_lsn;
    uint64_t file_bytes;
    int file;    /* open for writing, or -1 */
    bool direct; /* it was opened with OS_DIRECT | OS_DSYNC: no sync call is needed */
};

/* The LSN behind its last byte. */
static inline uint64_t wal_file_end(const struct wal_file *file) {
    return file->start_lsn + file->file_bytes - WAL_BLOCK_BYTES;
}

/* Where the log ends: what the next record continues. */
struct wal_position {
    uint64_t lsn;
    uint64_t prev_checksum;
};

struct wal {
    const struct docdb_os *os;
    const struct log *log;
    char *directory;
    uint64_t store_id;
    uint64_t file_bytes;  /* of files made from now on */
    uint64_t limit_bytes; /* no file is made when all together take as much */
    atomic_bool is_short; /* the disk is nearly full: files are used again, not made, while that is possible */

    struct mutex mutex;
    struct condition made;                    /* signalled when `making` ends */
    bool making GUARDED_BY(mutex);            /* one thread makes the next file, without holding the mutex */
    struct wal_file *files GUARDED_BY(mutex); /* in order; the last one or more may be prepared and unused */
    size_t file_count GUARDED_BY(mutex);
    struct wal_file spares[2] GUARDED_BY(mutex); /* files released, to be used again by wal_prepare */
    size_t spare_count GUARDED_BY(mutex);

    /* The commit threads'. */
    uint8_t *buffer; /* aligned; LIMIT_BATCH_BYTES and a little */
    size_t buffered;
    atomic_uint_fast64_t write_lsn; /* of buffer[0]; read by others to see how full the file is */
    struct wal_position appended;   /* where the next record goes */
    uint64_t durable_lsn;           /* the end of the last record that is on disk */

    atomic_uint_fast64_t written_bytes;
    atomic_uint_fast64_t disk_bytes;
};

/* Prepares an empty struct; nothing on disk is touched. Returns DOCDB_OK or MEMORY. */
int wal_init(struct wal *wal, const struct docdb_os *os, const struct log *log, const char *data_directory,
             uint64_t store_id, uint64_t file_bytes, uint64_t limit_bytes);
void wal_fini(struct wal *wal);

/* Takes over a file that recovery found, in order of number. Returns DOCDB_OK or MEMORY. */
int wal_adopt(struct wal *wal, const struct wal_file *file);

/* Starts writing at the first multiple of WAL_BLOCK_BYTES from `end`, the end of the last record. Needs no space on
 * the disk. */
int wal_start(struct wal *wal, struct wal_position end);

/* Begins a batch of at most `bytes` bytes of records: makes sure that the files for it, and for `reserve` bytes
 * more, exist, and that those for it are open. Errors, which leave all as it was: NO_SPACE, IO, MEMORY; BUSY: the
 * limit is reached, and wal_release must come first. */
int wal_batch_begin(struct wal *wal, uint64_t bytes, uint64_t reserve);

/* A transaction to append: the header's commit_seq, commit_time_ns, database_id and op_count are set; `meta` is
 * encoded. */
struct wal_append {
    struct wal_record_header header;
    const uint8_t *meta;
    docdb_doc *const *docs; /* in the order of the operations that have one */
    size_t doc_count;
};
/* Returns DOCDB_OK, or what writing a full buffer failed with. */
int wal_record_append(struct wal *wal, struct wal_append *append);

/* Writes and syncs what was appended. On DOCDB_OK wal->appended is where the next batch begins. */
int wal_batch_write(struct wal *wal);

/* Is the current file half full, and none after it? */
bool wal_wants_file(struct wal *wal);
/* Makes the file that follows the current one, if there is none: not on the commit path. Returns DOCDB_OK, NO_SPACE
 * or IO. */
int wal_prepare(struct wal *wal);

/* Releases the files that end at or before `lsn`: two are kept to be used again, the others removed. */
int wal_release(struct wal *wal, uint64_t lsn);

/* PATH of a WAL file: "<data directory>/wal/<number, 16 hex digits>.wal"; the one place that forms the name. */
void wal_file_path(const char *directory, uint64_t number, char *out, size_t bytes);

#endif
