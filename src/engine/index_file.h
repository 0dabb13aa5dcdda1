/*
 * The index files of one database: what checkpoints know of each document and where its record is, in order of id,
 * so that opening reads no document. docs/ondisk_format.md is the specification.
 *
 * An index file is a run: a base that holds every document, or a delta on top of the runs it names, that holds what
 * changed since the one before it (a deleted document as a tombstone). Each run also lists the segments that the
 * database has, so the newest one says it all. (The idea is that of the sorted runs of a log-structured merge tree:
 * O'Neil, Cheng, Gawlick, O'Neil, 1996.)
 *
 * Written front to back by one index_writer; the header, which makes it valid, comes last. Read by merging the
 * runs: index_file_load calls back for each live document once, in order of id, as the newest run has it.
 */
#ifndef DOCDB_ENGINE_INDEX_FILE_H
#define DOCDB_ENGINE_INDEX_FILE_H

#include "base/file_writer.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/index.h"

#define INDEX_RUNS_MAX 16u /* deltas on one base; then a new base is written */

struct index_file_entry {
    const char *id; /* not NUL-terminated */
    uint8_t id_bytes;
    bool tombstone; /* then only id and info.version count */
    docdb_info info;
    struct location location;
};

/* A segment as an index file lists it. */
struct segment_extent {
    uint32_t number;
    uint64_t bytes; /* up to where it is valid */
};

struct index_writer {
    struct file_writer file;
    uint8_t *page;
    size_t page_bytes;
    uint32_t page_entries;
    uint64_t entry_count;
};

/* Creates the file. Errors: IO, NO_SPACE, MEMORY, PERMISSION. On DOCDB_OK: index_writer_finish or
 * index_writer_abort. */
int index_writer_open(struct index_writer *writer, const struct docdb_os *os, const char *path);
/* In ascending order of id. */
int index_writer_add(struct index_writer *writer, const struct index_file_entry *entry);

struct index_file_header {
    uint64_t store_id;
    uint32_t database_id;
    uint64_t number;     /* of the checkpoint that wrote it: the file's name */
    uint64_t commit_seq; /* everything up to it is in this run and those below */
    uint64_t entry_count;
    uint64_t file_bytes; /* set by reading and by finishing */
};
/* Adds the tables of the runs below (oldest first; none: this is a base) and of the segments, and the header; syncs
 * and closes, also on failure. The file's name is not yet durable. header->entry_count and file_bytes are set. */
int index_writer_finish(struct index_writer *writer, struct index_file_header *header, const uint64_t *runs,
                        size_t run_count, const struct segment_extent *segments, size_t segment_count);
void index_writer_abort(struct index_writer *writer);

/* What the newest run of a database says. */
struct index_file_set {
    struct index_file_header newest;
    uint64_t runs[INDEX_RUNS_MAX + 1]; /* numbers, oldest (the base) first, the newest run last */
    uint64_t run_bytes[INDEX_RUNS_MAX + 1];
    size_t run_count;
    uint64_t entry_count_max;        /* of all runs together: at least as many as there are documents */
    struct segment_extent *segments; /* in order of number; from malloc */
    size_t segment_count;
};
/* Reads the headers and tables of run `number` in `directory` and of the runs below it. expected: store_id and
 * database_id must match. Errors: CORRUPT (logged with file and offset), NEWER_FORMAT, IO, MEMORY. On DOCDB_OK:
 * index_file_set_fini. */
int index_file_open(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                    const struct index_file_header *expected, struct index_file_set *out);
/* The same of the newest run alone: those below are listed, but were not looked at, and run_bytes of theirs is 0.
 */
int index_file_open_newest(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                           const struct index_file_header *expected, struct index_file_set *out);
void index_file_set_fini(struct index_file_set *set);

/* Called for each document; a non-zero return ends the load and is returned. */
typedef int (*index_file_fn)(void *arg, const struct index_file_entry *entry);
/* Merges the runs of a set from number `first` of them on; reads and checks every page. With first 0 each document
 * comes, else what is newest of each id in those runs, tombstones too. Errors as index_file_open, and what `each`
 * returns. */
int index_file_load(const struct docdb_os *os, const struct log *log, const char *directory,
                    const struct index_file_set *set, size_t first, index_file_fn each, void *arg);

/* Reads one run alone, front to back, tombstones too; damage is reported through `on_damage` (offset in the file,
 * what is wrong). Behind a damaged page it goes on when that returns 0. CORRUPT: what is damaged is the file or its
 * header, which says where all the rest is; that was reported too. For verify and repair. `on_damage` may be NULL:
 * then any damage is logged, and is CORRUPT. */
typedef int (*index_file_damage_fn)(void *arg, uint64_t offset, const char *what);
int index_file_read(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                    const struct index_file_header *expected, index_file_fn each, index_file_damage_fn on_damage,
                    void *arg);

/* "<database directory>/<number, 16 hex digits>.idx" */
void index_file_path(const char *directory, uint64_t number, char *out, size_t bytes);

#endif
