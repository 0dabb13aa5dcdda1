/* See wal_reader.h. */
#include "engine/wal_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/error.h"

#define PATH_BYTES   4096
#define WINDOW_BYTES ((size_t)1 << 20)
#define NO_FILE      SIZE_MAX

/* ---- Finding the files ---- */

struct listing {
    struct wal_reader *reader;
    uint64_t store_id;
    docdb_error *error;
    int status;
};

static int file_header_read(struct listing *listing, const char *path, struct wal_file_header *header) {
    struct wal_reader *reader = listing->reader;
    uint8_t block[WAL_BLOCK_BYTES];
    int file = os_open(reader->os, path, OS_READ);
    int64_t got = file < 0 ? file : os_pread(reader->os, file, block, sizeof block, 0);
    if (file >= 0) {
        (void)os_close(reader->os, file);
    }
    if (got < 0) {
        return error_set(listing->error, error_from_os(got), "can't read the WAL file %s: %s", path,
                         strerror((int)-got));
    }
    enum wal_header_status found =
        (size_t)got < sizeof block ? WAL_HEADER_BAD : wal_file_header_decode(block, header);
    if (found == WAL_HEADER_NEWER) {
        return error_set(listing->error, DOCDB_ERR_NEWER_FORMAT,
                         "the WAL file %s was written by a newer version of DocDB; use that version", path);
    }
    if (found == WAL_HEADER_BAD || header->store_id != listing->store_id) {
        return error_set(listing->error, DOCDB_ERR_CORRUPT,
                         "damaged data: the header of the WAL file %s %s; restore it from a backup", path,
                         found == WAL_HEADER_BAD ? "can't be read" : "belongs to another store");
    }
    return DOCDB_OK;
}

static int file_found(void *arg, const char *name) {
    struct listing *listing = arg;
    struct wal_reader *reader = listing->reader;
    char path[PATH_BYTES];
    char *end = NULL;
    struct wal_file_header header = {0};
    unsigned long long number = strtoull(name, &end, 16);
    if (strcmp(end, ".wal") != 0) {
        return 0;
    }
    (void)snprintf(path, sizeof path, "%s/%s", reader->directory, name);
    listing->status = file_header_read(listing, path, &header);
    if (listing->status == DOCDB_OK && header.number != number) {
        listing->status =
            error_set(listing->error, DOCDB_ERR_CORRUPT,
                      "damaged data: the WAL file %s says that it is number %" PRIu64, path, header.number);
    }
    if (listing->status != DOCDB_OK) {
        return 1;
    }
    struct wal_file *files = realloc(reader->files, (reader->file_count + 1) * sizeof *files);
    if (files == NULL) {
        listing->status = error_set(listing->error, DOCDB_ERR_MEMORY, "out of memory while reading the WAL");
        return 1;
    }
    reader->files = files;
    files[reader->file_count++] =
        (struct wal_file){.number = header.number, .start_lsn = header.start_lsn, .file_bytes = header.file_bytes};
    return 0;
}

static int by_number(const void *a, const void *b) {
    const struct wal_file *left = a;
    const struct wal_file *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

/* Forgets the files that end before `lsn`, and checks that the rest has no gap and begins at or before it. */
static int files_check(struct wal_reader *reader, uint64_t lsn, docdb_error *error) {
    size_t first = 0;
    if (reader->file_count > 1) {
        qsort(reader->files, reader->file_count, sizeof *reader->files, by_number);
    }
    while (first + 1 < reader->file_count && wal_file_end(&reader->files[first]) <= lsn) {
        first++;
    }
    if (reader->file_count > 0) {
        memmove(reader->files, reader->files + first, (reader->file_count - first) * sizeof *reader->files);
        reader->file_count -= first;
    }
    if (reader->file_count == 0 ? lsn != 0
                                : reader->files[0].start_lsn > lsn || wal_file_end(&reader->files[0]) < lsn) {
        return error_set(error, DOCDB_ERR_CORRUPT,
                         "damaged data: the WAL file that holds LSN %" PRIu64
                         " is missing from %s; restore it from a "
                         "backup",
                         lsn, reader->directory);
    }
    for (size_t i = 1; i < reader->file_count; i++) {
        if (reader->files[i].start_lsn != wal_file_end(&reader->files[i - 1])) {
            return error_set(error, DOCDB_ERR_CORRUPT,
                             "damaged data: a WAL file between numbers %" PRIu64 " and %" PRIu64
                             " is missing from %s; restore it from a backup",
                             reader->files[i - 1].number, reader->files[i].number, reader->directory);
        }
    }
    return DOCDB_OK;
}

int wal_reader_open(struct wal_reader *reader, const struct docdb_os *os, const struct log *log,
                    const char *directory, uint64_t store_id, struct wal_position position, docdb_error *error) {
    *reader = (struct wal_reader){
        .os = os, .log = log, .directory = directory, .position = position, .file = -1, .file_index = NO_FILE};
    struct listing listing = {.reader = reader, .store_id = store_id, .error = error};
    reader->window = malloc(WINDOW_BYTES);
    if (reader->window == NULL) {
        return error_set(error, DOCDB_ERR_MEMORY, "out of memory while reading the WAL");
    }
    int rc = os_list(os, directory, file_found, &listing);
    if (rc < 0) {
        return error_set(error, error_from_os(rc), "can't list %s: %s", directory, strerror(-rc));
    }
    return listing.status != DOCDB_OK ? listing.status : files_check(reader, position.lsn, error);
}

void wal_reader_close(struct wal_reader *reader) {
    if (reader->file >= 0) {
        (void)os_close(reader->os, reader->file);
    }
    free(reader->files);
    free(reader->meta);
    free(reader->window);
    reader->files = NULL;
    reader->meta = NULL;
    reader->window = NULL;
    reader->file = -1;
}

/* ---- Reading bytes of the log ---- */

/* Reads up to `bytes` bytes at `lsn` that are in one file. Returns the count, 0 at the end of the log, or a
 * negative errno value. */
static int64_t file_read(struct wal_reader *reader, uint64_t lsn, uint8_t *out, size_t bytes) {
    size_t i = 0;
    while (i < reader->file_count && lsn >= wal_file_end(&reader->files[i])) {
        i++;
    }
    if (i == reader->file_count) {
        return 0;
    }
    if (i != reader->file_index) {
        char path[PATH_BYTES];
        if (reader->file >= 0) {
            (void)os_close(reader->os, reader->file);
        }
        wal_file_path(reader->directory, reader->files[i].number, path, sizeof path);
        reader->file = os_open(reader->os, path, OS_READ);
        reader->file_index = i;
        if (reader->file < 0) {
            reader->file_index = NO_FILE;
            return reader->file;
        }
    }
    uint64_t room = wal_file_end(&reader->files[i]) - lsn;
    size_t chunk = bytes < room ? bytes : (size_t)room;
    return os_pread(reader->os, reader->file, out, chunk, WAL_BLOCK_BYTES + lsn - reader->files[i].start_lsn);
}

/* Reads exactly so many bytes, through files and the window. Returns DOCDB_OK, END when the log is shorter, or IO.
 */
static int log_read(struct wal_reader *reader, uint64_t lsn, void *out, uint64_t bytes) {
    uint8_t *to = out;
    while (bytes > 0) {
        if (lsn < reader->window_lsn || lsn >= reader->window_lsn + reader->window_bytes) {
            int64_t got = file_read(reader, lsn, reader->window, WINDOW_BYTES);
            if (got < 0) {
                log_error(reader->log, "reading the WAL in %s at LSN %" PRIu64 " failed: %s", reader->directory,
                          lsn, strerror((int)-got));
                return error_from_os(got);
            }
            if (got == 0) {
                return DOCDB_ERR_END;
            }
            reader->window_lsn = lsn;
            reader->window_bytes = (size_t)got;
        }
        uint64_t at = lsn - reader->window_lsn;
        uint64_t chunk = reader->window_bytes - at < bytes ? reader->window_bytes - at : bytes;
        memcpy(to, reader->window + at, (size_t)chunk);
        to += chunk;
        lsn += chunk;
        bytes -= chunk;
    }
    return DOCDB_OK;
}

/* ---- Records ---- */

static uint64_t log_end(const struct wal_reader *reader) {
    return reader->file_count == 0 ? 0 : wal_file_end(&reader->files[reader->file_count - 1]);
}

/* Reads the record header at `lsn` with its meta (from malloc). END: there is no whole record that says it belongs
 * there. */
static int record_read(struct wal_reader *reader, uint64_t lsn, struct wal_record_header *header, uint8_t **meta) {
    uint8_t bytes[WAL_RECORD_HEADER_BYTES];
    *meta = NULL;
    int status = log_read(reader, lsn, bytes, sizeof bytes);
    if (status != DOCDB_OK) {
        return status;
    }
    if (!wal_record_header_decode(bytes, header) || header->lsn != lsn ||
        wal_record_bytes(header) > log_end(reader) - lsn) {
        return DOCDB_ERR_END;
    }
    *meta = malloc((size_t)header->meta_bytes + 1);
    if (*meta == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    status = log_read(reader, lsn + WAL_RECORD_HEADER_BYTES, *meta, header->meta_bytes);
    if (status == DOCDB_OK && !wal_record_valid(bytes, *meta, header)) {
        status = DOCDB_ERR_END;
    }
    if (status != DOCDB_OK) {
        free(*meta);
        *meta = NULL;
    }
    return status;
}

int wal_reader_doc(struct wal_reader *reader, uint64_t offset, const struct wal_op *op, docdb_doc **out) {
    docdb_doc *doc = doc_create((size_t)op->doc_bytes);
    if (doc == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int status = log_read(reader, reader->docs_lsn + offset, doc->data, op->doc_bytes);
    doc->checksum = checksum(doc->data, (size_t)op->doc_bytes);
    if (status == DOCDB_OK && doc->checksum != op->doc_checksum) {
        status = DOCDB_ERR_END;
    }
    if (status != DOCDB_OK) {
        docdb_doc_release(doc);
        return status;
    }
    *out = doc;
    return DOCDB_OK;
}

/* Are all operations of the record readable, and all its documents whole? */
static int record_check(struct wal_reader *reader) {
    uint64_t at = 0;
    uint64_t docs = 0;
    for (uint32_t i = 0; i < reader->header.op_count; i++) {
        struct wal_op op;
        docdb_doc *doc = NULL;
        if (!wal_op_decode(reader->meta, reader->header.meta_bytes, &at, &op)) {
            return DOCDB_ERR_END;
        }
        if (op.kind == WAL_OP_PUT) {
            if (op.doc_bytes > reader->header.docs_bytes - docs) {
                return DOCDB_ERR_END;
            }
            int status = wal_reader_doc(reader, docs, &op, &doc);
            if (status != DOCDB_OK) {
                return status;
            }
            docdb_doc_release(doc);
            docs += round_up(op.doc_bytes, 8);
        }
    }
    return docs == reader->header.docs_bytes ? DOCDB_OK : DOCDB_ERR_END;
}

/* Is the record at `lsn` the successor of the last one? Then it becomes the last one. */
static int successor_read(struct wal_reader *reader, uint64_t lsn) {
    free(reader->meta);
    int status = record_read(reader, lsn, &reader->header, &reader->meta);
    if (status == DOCDB_OK && reader->header.prev_checksum != reader->position.prev_checksum) {
        status = DOCDB_ERR_END;
    }
    if (status == DOCDB_OK) {
        reader->docs_lsn = lsn + WAL_RECORD_HEADER_BYTES + reader->header.meta_bytes;
        status = record_check(reader);
    }
    if (status == DOCDB_OK) {
        reader->position = (struct wal_position){.lsn = lsn + wal_record_bytes(&reader->header),
                                                 .prev_checksum = reader->header.checksum};
    }
    return status;
}

int wal_reader_next(struct wal_reader *reader) {
    uint64_t behind = reader->position.lsn;
    uint64_t next_batch = round_up(behind, WAL_BLOCK_BYTES);
    int status = successor_read(reader, behind);
    if (status == DOCDB_ERR_END && next_batch != behind) {
        status = successor_read(reader, next_batch);
    }
    return status;
}

int wal_reader_check_tail(struct wal_reader *reader, docdb_error *error) {
    uint64_t bad = reader->position.lsn;
    uint64_t end = log_end(reader);
    for (uint64_t lsn = round_up(bad, WAL_BLOCK_BYTES); lsn < end; lsn += WAL_BLOCK_BYTES) {
        struct wal_record_header header;
        uint8_t *meta = NULL;
        int status = record_read(reader, lsn, &header, &meta);
        free(meta);
        if (status == DOCDB_OK && header.durable_lsn > bad) {
            return error_set(error, DOCDB_ERR_CORRUPT,
                             "damaged data: the WAL in %s can't be read at LSN %" PRIu64
                             ", but what follows at LSN %" PRIu64 " (commit %" PRIu64
                             ") shows that it was on disk; restore a backup, or ask for help before "
                             "changing anything",
                             reader->directory, bad, lsn, header.commit_seq);
        }
        if (status != DOCDB_OK && status != DOCDB_ERR_END) {
            return error_set(error, status, "can't read the WAL in %s: %s", reader->directory,
                             docdb_error_text(status));
        }
    }
    return DOCDB_OK;
}
