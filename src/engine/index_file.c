/* See index_file.h and docs/ondisk_format.md. */
#include "engine/index_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/names.h"

#define MAGIC                  UINT64_C(0x3158444942444344) /* "DCDBIDX1" */
#define PAGE_MAGIC             UINT32_C(0x47415044)         /* "DPAG" */
#define FORMAT_VERSION         1u
#define HEADER_BYTES           80u
#define HEADER_CHECKSUM_OFFSET 72u
#define PAGE_HEADER_BYTES      24u
#define PAGE_BYTES_MAX         ((size_t)64 << 10) /* header included */
#define ENTRY_HEADER_BYTES     56u
#define SEGMENT_ENTRY_BYTES    16u

void index_file_path(const char *directory, uint64_t number, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/%016" PRIx64 ".idx", directory, number);
}

/* ---- Writing ---- */

int index_writer_open(struct index_writer *writer, const struct docdb_os *os, const char *path) {
    *writer = (struct index_writer){.os = os, .offset = HEADER_BYTES, .page_bytes = PAGE_HEADER_BYTES, .file = -1};
    writer->page = malloc(PAGE_BYTES_MAX);
    if (writer->page == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    writer->file = os_open(os, path, OS_READ | OS_WRITE | OS_CREATE | OS_TRUNCATE);
    if (writer->file < 0) {
        free(writer->page);
        return error_from_os(writer->file);
    }
    return DOCDB_OK;
}

void index_writer_abort(struct index_writer *writer) {
    (void)os_close(writer->os, writer->file);
    free(writer->page);
}

/* page: 0 magic u32, 4 entry_count u32, 8 bytes of the page u32, 12 zero u32, 16 checksum u64 of bytes 0..15 and of
 * the entries. */
static uint64_t page_checksum(const uint8_t *page, size_t bytes) {
    return checksum_seeded(page + PAGE_HEADER_BYTES, bytes - PAGE_HEADER_BYTES, checksum(page, 16));
}

static int page_write(struct index_writer *writer) {
    if (writer->page_entries == 0) {
        return DOCDB_OK;
    }
    put_u32(writer->page, PAGE_MAGIC);
    put_u32(writer->page + 4, writer->page_entries);
    put_u32(writer->page + 8, (uint32_t)writer->page_bytes);
    put_u32(writer->page + 12, 0);
    put_u64(writer->page + 16, page_checksum(writer->page, writer->page_bytes));
    int rc = os_pwrite(writer->os, writer->file, writer->page, writer->page_bytes, writer->offset);
    writer->offset += writer->page_bytes;
    writer->page_bytes = PAGE_HEADER_BYTES;
    writer->page_entries = 0;
    return error_from_os(rc);
}

/* entry: 0 segment u32, 4 id_bytes u8, 5..7 zero, 8 offset u64, 16 version u64, 24 commit_time_ns i64, 32 mtime_ns
 * i64, 40 doc_bytes u64, 48 doc_checksum u64, 56 id. Not padded. */
int index_writer_add(struct index_writer *writer, const struct index_file_entry *entry) {
    size_t id_bytes = strlen(entry->id);
    if (writer->page_bytes + ENTRY_HEADER_BYTES + id_bytes > PAGE_BYTES_MAX) {
        int status = page_write(writer);
        if (status != DOCDB_OK) {
            return status;
        }
    }
    uint8_t *out = writer->page + writer->page_bytes;
    put_u32(out, entry->location.segment);
    put_u32(out + 4, (uint32_t)id_bytes);
    put_u64(out + 8, entry->location.offset);
    put_u64(out + 16, entry->info.version);
    put_i64(out + 24, entry->info.commit_time_ns);
    put_i64(out + 32, entry->info.mtime_ns);
    put_u64(out + 40, entry->info.bytes);
    put_u64(out + 48, entry->checksum);
    memcpy(out + ENTRY_HEADER_BYTES, entry->id, id_bytes);
    writer->page_bytes += ENTRY_HEADER_BYTES + id_bytes;
    writer->page_entries++;
    writer->entry_count++;
    return DOCDB_OK;
}

/* The table behind the pages: number u32, zero u32, bytes u64 for each segment. */
static int segments_write(struct index_writer *writer, const struct segment *segments, size_t count,
                          uint64_t *checksum_out) {
    uint8_t *table = calloc(count + 1, SEGMENT_ENTRY_BYTES);
    if (table == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        put_u32(table + i * SEGMENT_ENTRY_BYTES, segments[i].number);
        put_u64(table + i * SEGMENT_ENTRY_BYTES + 8, segments[i].bytes);
    }
    *checksum_out = checksum(table, count * SEGMENT_ENTRY_BYTES);
    int rc = os_pwrite(writer->os, writer->file, table, count * SEGMENT_ENTRY_BYTES, writer->offset);
    free(table);
    return error_from_os(rc);
}

/* header: 0 magic u64, 8 version u32, 12 database_id u32, 16 store_id u64, 24 commit_seq u64, 32 entry_count u64,
 * 40 pages_end u64 (where the table of segments begins), 48 segment_count u32, 52 zero u32, 56 checksum of that
 * table u64, 64 zero u64, 72 checksum u64 of bytes 0..71. */
int index_writer_finish(struct index_writer *writer, const struct index_file_header *header,
                        const struct segment *segments, size_t segment_count) {
    uint8_t out[HEADER_BYTES] = {0};
    uint64_t table_checksum = 0;
    int status = page_write(writer);
    if (status == DOCDB_OK) {
        status = segments_write(writer, segments, segment_count, &table_checksum);
    }
    put_u64(out, MAGIC);
    put_u32(out + 8, FORMAT_VERSION);
    put_u32(out + 12, header->database_id);
    put_u64(out + 16, header->store_id);
    put_u64(out + 24, header->commit_seq);
    put_u64(out + 32, writer->entry_count);
    put_u64(out + 40, writer->offset);
    put_u32(out + 48, (uint32_t)segment_count);
    put_u64(out + 56, table_checksum);
    put_u64(out + HEADER_CHECKSUM_OFFSET, checksum(out, HEADER_CHECKSUM_OFFSET));
    if (status == DOCDB_OK) {
        status = error_from_os(os_pwrite(writer->os, writer->file, out, sizeof out, 0));
    }
    if (status == DOCDB_OK) {
        status = error_from_os(os_sync(writer->os, writer->file));
    }
    index_writer_abort(writer); /* closes and frees: there is nothing left to take back */
    return status;
}

/* ---- Reading ---- */

struct reading {
    const struct docdb_os *os;
    const struct log *log;
    const char *path;
    int file;
    uint64_t entry_count;
    uint64_t pages_end;
    uint32_t segment_count;
    uint64_t table_checksum;
    uint8_t *page;
};

static int damaged(const struct reading *reading, uint64_t offset, const char *what) {
    log_error(reading->log, "damaged data: %s in %s at offset %" PRIu64, what, reading->path, offset);
    return DOCDB_ERR_CORRUPT;
}

/* Reads exactly so many bytes; less is damage. */
static int read_exactly(const struct reading *reading, void *out, size_t bytes, uint64_t offset) {
    int64_t got = os_pread(reading->os, reading->file, out, bytes, offset);
    if (got < 0) {
        log_error(reading->log, "reading %s failed: %s", reading->path, strerror((int)-got));
        return error_from_os(got);
    }
    return (size_t)got == bytes ? DOCDB_OK : damaged(reading, offset, "the file is too short");
}

static int header_read(struct reading *reading, struct index_file_header *header) {
    uint8_t in[HEADER_BYTES];
    int status = read_exactly(reading, in, sizeof in, 0);
    if (status != DOCDB_OK) {
        return status;
    }
    if (get_u64(in) != MAGIC) {
        return damaged(reading, 0, "no index file header");
    }
    if (get_u32(in + 8) > FORMAT_VERSION) {
        return DOCDB_ERR_NEWER_FORMAT;
    }
    if (get_u64(in + HEADER_CHECKSUM_OFFSET) != checksum(in, HEADER_CHECKSUM_OFFSET) ||
        get_u32(in + 12) != header->database_id || get_u64(in + 16) != header->store_id) {
        return damaged(reading, 0, "the header does not match");
    }
    header->commit_seq = get_u64(in + 24);
    reading->entry_count = get_u64(in + 32);
    reading->pages_end = get_u64(in + 40);
    reading->segment_count = get_u32(in + 48);
    reading->table_checksum = get_u64(in + 56);
    return DOCDB_OK;
}

static int segments_read_table(const struct reading *reading, const struct index_file_reader *reader) {
    size_t bytes = (size_t)reading->segment_count * SEGMENT_ENTRY_BYTES;
    uint8_t *table = malloc(bytes + 1);
    if (table == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int status = read_exactly(reading, table, bytes, reading->pages_end);
    if (status == DOCDB_OK && checksum(table, bytes) != reading->table_checksum) {
        status = damaged(reading, reading->pages_end, "the table of segments does not match its checksum");
    }
    for (uint32_t i = 0; i < reading->segment_count && status == DOCDB_OK; i++) {
        const uint8_t *in = table + (size_t)i * SEGMENT_ENTRY_BYTES;
        status = reader->segment(reader->arg, get_u32(in), get_u64(in + 8));
    }
    free(table);
    return status;
}

static int page_entries_read(const struct reading *reading, size_t bytes, uint32_t count, uint64_t offset,
                             const struct index_file_reader *reader) {
    char id[DOCDB_ID_BYTES_MAX + 1];
    const uint8_t *in = reading->page + PAGE_HEADER_BYTES;
    const uint8_t *end = reading->page + bytes;
    int status = DOCDB_OK;
    for (uint32_t i = 0; i < count && status == DOCDB_OK; i++) {
        size_t left = (size_t)(end - in);
        uint8_t id_bytes = left >= ENTRY_HEADER_BYTES ? get_u8(in + 4) : 0;
        if (left < ENTRY_HEADER_BYTES || left - ENTRY_HEADER_BYTES < id_bytes ||
            !id_valid((const char *)in + ENTRY_HEADER_BYTES, id_bytes)) {
            return damaged(reading, offset, "an impossible entry");
        }
        memcpy(id, in + ENTRY_HEADER_BYTES, id_bytes);
        id[id_bytes] = '\0';
        struct index_file_entry entry = {
            .id = id,
            .info = {.version = get_u64(in + 16),
                     .commit_time_ns = get_i64(in + 24),
                     .mtime_ns = get_i64(in + 32),
                     .bytes = get_u64(in + 40)},
            .checksum = get_u64(in + 48),
            .location = {.segment = get_u32(in), .offset = get_u64(in + 8)},
        };
        status = reader->entry(reader->arg, &entry);
        in += ENTRY_HEADER_BYTES + id_bytes;
    }
    return status;
}

static int pages_read(const struct reading *reading, const struct index_file_reader *reader) {
    uint64_t offset = HEADER_BYTES;
    uint64_t entries = 0;
    while (offset < reading->pages_end) {
        int status = read_exactly(reading, reading->page, PAGE_HEADER_BYTES, offset);
        if (status != DOCDB_OK) {
            return status;
        }
        uint32_t count = get_u32(reading->page + 4);
        size_t bytes = get_u32(reading->page + 8);
        if (get_u32(reading->page) != PAGE_MAGIC || bytes < PAGE_HEADER_BYTES || bytes > PAGE_BYTES_MAX) {
            return damaged(reading, offset, "no page header");
        }
        status = read_exactly(reading, reading->page + PAGE_HEADER_BYTES, bytes - PAGE_HEADER_BYTES,
                              offset + PAGE_HEADER_BYTES);
        if (status == DOCDB_OK && get_u64(reading->page + 16) != page_checksum(reading->page, bytes)) {
            status = damaged(reading, offset, "a page does not match its checksum");
        }
        if (status == DOCDB_OK) {
            status = page_entries_read(reading, bytes, count, offset, reader);
        }
        if (status != DOCDB_OK) {
            return status;
        }
        entries += count;
        offset += bytes;
    }
    return entries == reading->entry_count ? DOCDB_OK : damaged(reading, offset, "entries are missing");
}

int index_file_read(const struct docdb_os *os, const struct log *log, const char *path,
                    struct index_file_header *header, const struct index_file_reader *reader) {
    struct reading reading = {.os = os, .log = log, .path = path};
    reading.file = os_open(os, path, OS_READ);
    if (reading.file < 0) {
        log_error(log, "can't open the index file %s: %s", path, strerror(-reading.file));
        return reading.file == -ENOENT ? DOCDB_ERR_CORRUPT : error_from_os(reading.file);
    }
    reading.page = malloc(PAGE_BYTES_MAX);
    int status = reading.page == NULL ? DOCDB_ERR_MEMORY : header_read(&reading, header);
    if (status == DOCDB_OK) {
        status = segments_read_table(&reading, reader);
    }
    if (status == DOCDB_OK) {
        status = pages_read(&reading, reader);
    }
    free(reading.page);
    (void)os_close(os, reading.file);
    return status;
}
