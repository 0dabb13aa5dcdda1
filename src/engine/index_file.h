/*
 * The index file of one database: what a checkpoint knows of each document and where it is, in order of id, so that
 * opening reads no document. docs/ondisk_format.md is the specification.
 *
 * Written front to back by one index_writer; the header, which makes it valid, comes last. Read front to back by
 * index_file_read.
 */
#ifndef DOCDB_ENGINE_INDEX_FILE_H
#define DOCDB_ENGINE_INDEX_FILE_H

#include "base/log.h"
#include "base/os.h"
#include "engine/segments.h"

struct index_file_entry {
    const char *id; /* NUL-terminated */
    docdb_info info;
    uint64_t checksum;
    struct location location;
};

struct index_writer {
    const struct docdb_os *os;
    int file;
    uint8_t *page;
    size_t page_bytes;
    uint32_t page_entries;
    uint64_t offset;
    uint64_t entry_count;
};

/* Creates the file. Errors: IO, NO_SPACE, MEMORY. On DOCDB_OK: index_writer_finish or index_writer_abort. */
int index_writer_open(struct index_writer *writer, const struct docdb_os *os, const char *path);
int index_writer_add(struct index_writer *writer, const struct index_file_entry *entry);

struct index_file_header {
    uint64_t store_id;
    uint32_t database_id;
    uint64_t commit_seq;
};
/* Adds the table of segments and the header, syncs and closes. The file's name is not yet durable. */
int index_writer_finish(struct index_writer *writer, const struct index_file_header *header,
                        const struct segment *segments, size_t segment_count);
void index_writer_abort(struct index_writer *writer);

/* What index_file_read calls: first for each segment, then for each entry, in order of id. A non-zero return ends
 * it. */
struct index_file_reader {
    void *arg;
    int (*segment)(void *arg, uint32_t number, uint64_t bytes);
    int (*entry)(void *arg, const struct index_file_entry *entry);
};
/* Reads and checks the whole file; header->commit_seq is set, the other fields must match. Errors: CORRUPT (logged
 * with file and offset), NEWER_FORMAT, IO, MEMORY, and what the callbacks return. */
int index_file_read(const struct docdb_os *os, const struct log *log, const char *path,
                    struct index_file_header *header, const struct index_file_reader *reader);

/* "<database directory>/<number, 16 hex digits>.idx" */
void index_file_path(const char *directory, uint64_t number, char *out, size_t bytes);

#endif
