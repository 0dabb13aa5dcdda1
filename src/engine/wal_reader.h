/*
 * The write-ahead log: reading it at recovery.
 *
 * wal_reader_next yields the records that follow a position, as long as each is the valid successor of the one
 * before. wal_reader_check_tail tells a torn tail from damage.
 */
#ifndef DOCDB_ENGINE_WAL_READER_H
#define DOCDB_ENGINE_WAL_READER_H

#include "engine/wal.h"

struct wal_reader {
    const struct docdb_os *os;
    const struct log *log;
    const char *directory;  /* "<data directory>/wal" */
    struct wal_file *files; /* in order of number, without gaps; from malloc */
    size_t file_count;

    struct wal_position position; /* the end of the last valid record */

    /* The last record. */
    struct wal_record_header header;
    uint8_t *meta;
    uint64_t docs_lsn; /* where its documents are */

    /* One open file, and a window of the log. */
    int file;
    size_t file_index;
    uint8_t *window;
    uint64_t window_lsn;
    size_t window_bytes;
};

/* Finds the files of the store, and prepares to read from `position`. `error` gets a message. Errors: CORRUPT (a
 * gap, a header that can't be read), NEWER_FORMAT, IO, MEMORY. On failure too: wal_reader_close. */
int wal_reader_open(struct wal_reader *reader, const struct docdb_os *os, const struct log *log,
                    const char *directory, uint64_t store_id, struct wal_position position, docdb_error *error);
void wal_reader_close(struct wal_reader *reader);

/* The next record into reader->header and reader->meta. Returns DOCDB_OK; END when there is no valid successor; IO,
 * MEMORY. */
int wal_reader_next(struct wal_reader *reader);
/* A document of the last record, `offset` bytes behind reader->docs_lsn. The caller's reference. It was checked by
 * wal_reader_next. */
int wal_reader_doc(struct wal_reader *reader, uint64_t offset, const struct wal_op *op, docdb_doc **out);

/* After END: DOCDB_OK when the rest of the log is the tail of a crash, CORRUPT (with a message) when it is damage.
 */
int wal_reader_check_tail(struct wal_reader *reader, docdb_error *error);

#endif
