/* See index_file.h and docs/ondisk_format.md. */
#include "engine/index_file.h"

#include <assert.h>
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
#define PAGES_OFFSET           FILE_WRITER_BLOCK_BYTES
#define PAGE_HEADER_BYTES      24u
#define PAGE_BYTES_MAX         ((size_t)64 << 10) /* header included */
#define ENTRY_HEADER_BYTES     32u
#define ENTRY_BYTES_MIN        (ENTRY_HEADER_BYTES + 1u)
#define ENTRY_DELETED          1u
#define ENTRY_HAS_MTIME        2u
#define RUN_BYTES              8u
#define SEGMENT_BYTES          16u
#define PATH_BYTES             4096

/* What is read at once: the disk's full speed, and it still fits into the processor's caches. */
#define WINDOW_BYTES ((size_t)1 << 20)

void index_file_path(const char *directory, uint64_t number, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/%016" PRIx64 ".idx", directory, number);
}

/* page: 0 magic u32, 4 entry_count u32, 8 bytes of the page u32, 12 zero u32, 16 checksum u64 of bytes 0..15 and of
 * the entries. */
static uint64_t page_checksum(const uint8_t *page, size_t bytes) {
    return checksum_seeded(page + PAGE_HEADER_BYTES, bytes - PAGE_HEADER_BYTES, checksum(page, 16));
}

/* ---- Writing ---- */

int index_writer_open(struct index_writer *writer, const struct docdb_os *os, const char *path) {
    *writer = (struct index_writer){.page_bytes = PAGE_HEADER_BYTES};
    writer->page = aligned_alloc((size_t)FILE_WRITER_BLOCK_BYTES, PAGE_BYTES_MAX);
    if (writer->page == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int rc = file_writer_open(&writer->file, os, path, 0);
    if (rc == 0) { /* the header's place */
        memset(writer->page, 0, (size_t)PAGES_OFFSET);
        rc = file_writer_append(&writer->file, writer->page, (size_t)PAGES_OFFSET);
    }
    if (rc != 0) {
        index_writer_abort(writer);
    }
    return error_from_os(rc);
}

void index_writer_abort(struct index_writer *writer) {
    (void)file_writer_close(&writer->file, false);
    free(writer->page);
    writer->page = NULL;
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
    int rc = file_writer_append(&writer->file, writer->page, writer->page_bytes);
    writer->page_bytes = PAGE_HEADER_BYTES;
    writer->page_entries = 0;
    return error_from_os(rc);
}

/* entry: 0 segment u32, 4 offset in units u32, 8 doc_bytes u32, 12 id_bytes u8, 13 flags u8, 14 zero u16, 16
 * version u64, 24 commit_time_ns i64, 32 mtime_ns i64 only with ENTRY_HAS_MTIME, then the id. Not padded. */
static size_t entry_encode(const struct index_file_entry *entry, uint8_t *out) {
    bool has_mtime = !entry->tombstone && entry->info.mtime_ns != entry->info.commit_time_ns;
    size_t header_bytes = ENTRY_HEADER_BYTES + (has_mtime ? 8 : 0);
    memset(out, 0, ENTRY_HEADER_BYTES);
    put_u8(out + 12, entry->id_bytes);
    put_u64(out + 16, entry->info.version);
    if (entry->tombstone) {
        put_u8(out + 13, ENTRY_DELETED);
    } else {
        put_u32(out, entry->location.segment);
        put_u32(out + 4, entry->location.offset);
        put_u32(out + 8, (uint32_t)entry->info.bytes);
        put_u8(out + 13, has_mtime ? ENTRY_HAS_MTIME : 0);
        put_i64(out + 24, entry->info.commit_time_ns);
    }
    if (has_mtime) {
        put_i64(out + 32, entry->info.mtime_ns);
    }
    memcpy(out + header_bytes, entry->id, entry->id_bytes);
    return header_bytes + entry->id_bytes;
}

int index_writer_add(struct index_writer *writer, const struct index_file_entry *entry) {
    if (writer->page_bytes + ENTRY_HEADER_BYTES + 8 + entry->id_bytes > PAGE_BYTES_MAX) {
        int status = page_write(writer);
        if (status != DOCDB_OK) {
            return status;
        }
    }
    writer->page_bytes += entry_encode(entry, writer->page + writer->page_bytes);
    writer->page_entries++;
    writer->entry_count++;
    return DOCDB_OK;
}

/* The tables behind the pages: run numbers u64; then for each segment number u32, zero u32, bytes u64. */
static int tables_write(struct index_writer *writer, const uint64_t *runs, size_t run_count,
                        const struct segment_extent *segments, size_t segment_count, uint64_t *checksum_out) {
    size_t bytes = run_count * RUN_BYTES + segment_count * SEGMENT_BYTES;
    uint8_t *tables = calloc(1, bytes + 1);
    if (tables == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < run_count; i++) {
        put_u64(tables + i * RUN_BYTES, runs[i]);
    }
    for (size_t i = 0; i < segment_count; i++) {
        uint8_t *out = tables + run_count * RUN_BYTES + i * SEGMENT_BYTES;
        put_u32(out, segments[i].number);
        put_u64(out + 8, segments[i].bytes);
    }
    *checksum_out = checksum(tables, bytes);
    int rc = file_writer_append(&writer->file, tables, bytes);
    free(tables);
    return error_from_os(rc);
}

/* header: 0 magic u64, 8 version u32, 12 database_id u32, 16 store_id u64, 24 number u64, 32 commit_seq u64, 40
 * entry_count u64, 48 pages_end u64 (where the tables begin), 56 run_count u32, 60 segment_count u32, 64 checksum
 * of the tables u64, 72 checksum u64 of bytes 0..71. */
static int header_write(struct index_writer *writer, const struct index_file_header *header, uint64_t pages_end,
                        size_t run_count, size_t segment_count, uint64_t tables_checksum) {
    uint8_t *out = writer->page; /* the last page is out */
    memset(out, 0, (size_t)PAGES_OFFSET);
    put_u64(out, MAGIC);
    put_u32(out + 8, FORMAT_VERSION);
    put_u32(out + 12, header->database_id);
    put_u64(out + 16, header->store_id);
    put_u64(out + 24, header->number);
    put_u64(out + 32, header->commit_seq);
    put_u64(out + 40, header->entry_count);
    put_u64(out + 48, pages_end);
    put_u32(out + 56, (uint32_t)run_count);
    put_u32(out + 60, (uint32_t)segment_count);
    put_u64(out + 64, tables_checksum);
    put_u64(out + HEADER_CHECKSUM_OFFSET, checksum(out, HEADER_CHECKSUM_OFFSET));
    return error_from_os(file_writer_write_at(&writer->file, out, (size_t)PAGES_OFFSET, 0));
}

int index_writer_finish(struct index_writer *writer, struct index_file_header *header, const uint64_t *runs,
                        size_t run_count, const struct segment_extent *segments, size_t segment_count) {
    uint64_t tables_checksum = 0;
    assert(run_count <= INDEX_RUNS_MAX);
    int status = page_write(writer);
    uint64_t pages_end = file_writer_end(&writer->file);
    if (status == DOCDB_OK) {
        status = tables_write(writer, runs, run_count, segments, segment_count, &tables_checksum);
    }
    header->entry_count = writer->entry_count;
    header->file_bytes = file_writer_end(&writer->file);
    if (status == DOCDB_OK) {
        status = error_from_os(file_writer_flush(&writer->file));
    }
    if (status == DOCDB_OK) {
        status = header_write(writer, header, pages_end, run_count, segment_count, tables_checksum);
    }
    if (status == DOCDB_OK) {
        status = error_from_os(file_writer_sync(&writer->file));
    }
    index_writer_abort(writer); /* closes and frees: there is nothing left to take back */
    return status;
}

/* ---- Reading: one run ---- */

/* A run that is read front to back. The window holds the bytes of the file from window_offset on; the page that is
 * being read is whole in it, and entries point into it. */
struct run {
    const struct docdb_os *os;
    const struct log *log;
    int file;
    struct index_file_header header;
    uint64_t pages_end;
    uint32_t run_count;
    uint32_t segment_count;
    uint64_t tables_checksum;

    uint8_t *window;
    uint64_t window_offset;
    size_t window_bytes;
    uint64_t page_offset; /* in the file, of the page being read */
    uint64_t next_page;   /* in the file, of the one behind it */
    const uint8_t *at;    /* the next entry of the page */
    const uint8_t *page_end;
    uint32_t page_entries; /* that are still to come */
    uint64_t entries;      /* of all pages that were read */

    const char *last_id; /* of the entry before this one: in the window or in last_copy */
    uint8_t last_bytes;  /* 0: there was none */
    char last_copy[DOCDB_ID_BYTES_MAX];

    bool has_entry; /* false: the run is at its end */
    struct index_file_entry entry;
    index_file_damage_fn on_damage; /* who wants to hear of damage; NULL: the log */
    void *damage_arg;
    char path[PATH_BYTES];
};

#define IMPOSSIBLE_ENTRY "an impossible entry"
#define WRONG_COUNT      "a wrong count of entries"

static int damaged(const struct run *run, uint64_t offset, const char *what) {
    if (run->on_damage != NULL) {
        int status = run->on_damage(run->damage_arg, offset, what);
        return status != DOCDB_OK ? status : DOCDB_ERR_CORRUPT;
    }
    log_error(run->log, "damaged data: %s in %s at offset %" PRIu64, what, run->path, offset);
    return DOCDB_ERR_CORRUPT;
}

/* Reads exactly so many bytes; less is damage. */
static int read_exactly(const struct run *run, void *out, size_t bytes, uint64_t offset) {
    int64_t got = os_pread(run->os, run->file, out, bytes, offset);
    if (got < 0) {
        log_error(run->log, "reading %s failed: %s", run->path, strerror((int)-got));
        return error_from_os(got);
    }
    return (size_t)got == bytes ? DOCDB_OK : damaged(run, offset, "the file is too short");
}

static uint64_t tables_bytes(const struct run *run) {
    return (uint64_t)run->run_count * RUN_BYTES + (uint64_t)run->segment_count * SEGMENT_BYTES;
}

/* No size of the header is used before this has found it possible for a file so large. */
static int sizes_check(struct run *run) {
    struct os_stat stat;
    int rc = os_fstat(run->os, run->file, &stat);
    if (rc != 0) {
        log_error(run->log, "reading %s failed: %s", run->path, strerror(-rc));
        return error_from_os(rc);
    }
    if (run->pages_end < PAGES_OFFSET || run->run_count > INDEX_RUNS_MAX ||
        run->header.entry_count > (run->pages_end - PAGES_OFFSET) / ENTRY_BYTES_MIN) {
        return damaged(run, 0, "an impossible header");
    }
    if (run->pages_end > stat.bytes || stat.bytes - run->pages_end < tables_bytes(run)) {
        return damaged(run, stat.bytes, "the file is too short");
    }
    run->header.file_bytes = run->pages_end + tables_bytes(run);
    return DOCDB_OK;
}

static int header_read(struct run *run, const struct index_file_header *expected, uint64_t number) {
    uint8_t in[HEADER_BYTES];
    int status = read_exactly(run, in, sizeof in, 0);
    if (status != DOCDB_OK) {
        return status;
    }
    if (get_u64(in) != MAGIC) {
        return damaged(run, 0, "no index file header");
    }
    if (get_u32(in + 8) > FORMAT_VERSION) {
        log_error(run->log, "%s has format version %" PRIu32 ", newer than %u", run->path, get_u32(in + 8),
                  FORMAT_VERSION);
        return DOCDB_ERR_NEWER_FORMAT;
    }
    if (get_u64(in + HEADER_CHECKSUM_OFFSET) != checksum(in, HEADER_CHECKSUM_OFFSET)) {
        return damaged(run, 0, "a header that does not match its checksum");
    }
    run->header = (struct index_file_header){.database_id = get_u32(in + 12),
                                             .store_id = get_u64(in + 16),
                                             .number = get_u64(in + 24),
                                             .commit_seq = get_u64(in + 32),
                                             .entry_count = get_u64(in + 40)};
    run->pages_end = get_u64(in + 48);
    run->run_count = get_u32(in + 56);
    run->segment_count = get_u32(in + 60);
    run->tables_checksum = get_u64(in + 64);
    if (run->header.database_id != expected->database_id || run->header.store_id != expected->store_id ||
        run->header.number != number) {
        return damaged(run, 0, "the header of another file");
    }
    return sizes_check(run);
}

static void run_close(struct run *run) {
    if (run->file >= 0) {
        (void)os_close(run->os, run->file);
    }
    free(run->window);
}

/* Opens a run and reads its header. On an error it is closed. */
static int run_open(struct run *run, const struct docdb_os *os, const struct log *log, const char *directory,
                    uint64_t number, const struct index_file_header *expected) {
    run->os = os;
    run->log = log;
    run->window = NULL;
    run->window_offset = PAGES_OFFSET;
    run->window_bytes = 0;
    run->next_page = PAGES_OFFSET;
    run->page_entries = 0;
    run->entries = 0;
    run->last_bytes = 0;
    run->has_entry = false;
    index_file_path(directory, number, run->path, sizeof run->path);
    run->file = os_open(os, run->path, OS_READ);
    if (run->file < 0) {
        int rc = run->file;
        if (rc == -ENOENT && run->on_damage != NULL) {
            return damaged(run, 0, "the file is missing");
        }
        log_error(log, "can't open the index file %s: %s", run->path, strerror(-rc));
        return rc == -ENOENT ? DOCDB_ERR_CORRUPT : error_from_os(rc);
    }
    int status = header_read(run, expected, number);
    if (status != DOCDB_OK) {
        run_close(run);
    }
    return status;
}

/* What is wrong with the tables, or NULL. */
static const char *tables_check(const struct run *run, const uint8_t *tables) {
    uint64_t above = run->header.number;
    uint32_t below = 0;
    if (checksum(tables, (size_t)tables_bytes(run)) != run->tables_checksum) {
        return "tables that do not match their checksum";
    }
    for (uint32_t i = run->run_count; i-- > 0;) {
        uint64_t number = get_u64(tables + (size_t)i * RUN_BYTES);
        if (number >= above) {
            return "run numbers that do not ascend";
        }
        above = number;
    }
    for (uint32_t i = 0; i < run->segment_count; i++) {
        uint32_t number = get_u32(tables + (size_t)run->run_count * RUN_BYTES + (size_t)i * SEGMENT_BYTES);
        if (number <= below) {
            return "segment numbers that do not ascend";
        }
        below = number;
    }
    return NULL;
}

/* Reads and checks the tables; *out is from malloc. When they are damaged *what says how, and *out is NULL. */
static int tables_read(const struct run *run, uint8_t **out, const char **what) {
    size_t bytes = (size_t)tables_bytes(run); /* no more than the file has */
    uint8_t *tables = malloc(bytes + 1);
    *out = NULL;
    *what = NULL;
    if (tables == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int status = read_exactly(run, tables, bytes, run->pages_end);
    if (status == DOCDB_OK) {
        *what = tables_check(run, tables);
    }
    if (status != DOCDB_OK || *what != NULL) {
        free(tables);
        return status;
    }
    *out = tables;
    return DOCDB_OK;
}

/* ---- Reading: pages and entries ---- */

/* Makes the bytes of the file from `offset` on be in the window: `bytes` of them, or more; no more than
 * PAGE_BYTES_MAX, and the pages have so many. */
static int window_need(struct run *run, uint64_t offset, size_t bytes) {
    size_t skip = (size_t)(offset - run->window_offset);
    if (skip <= run->window_bytes && run->window_bytes - skip >= bytes) {
        return DOCDB_OK;
    }
    if (run->window == NULL) {
        uint64_t all = run->pages_end - PAGES_OFFSET;
        run->window = malloc(all < WINDOW_BYTES ? (size_t)all : WINDOW_BYTES);
        if (run->window == NULL) {
            return DOCDB_ERR_MEMORY;
        }
    }
    if (run->last_bytes > 0 && run->last_id != run->last_copy) {
        memcpy(run->last_copy, run->last_id, run->last_bytes);
        run->last_id = run->last_copy;
    }
    size_t kept = skip < run->window_bytes ? run->window_bytes - skip : 0;
    memmove(run->window, run->window + (kept > 0 ? skip : 0), kept);
    uint64_t left = run->pages_end - offset;
    size_t wanted = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
    run->window_offset = offset;
    run->window_bytes = kept;
    int status = read_exactly(run, run->window + kept, wanted - kept, offset + kept);
    run->window_bytes = status == DOCDB_OK ? wanted : 0;
    return status;
}

/* Brings the page at `offset` into the window and checks all but its entries. *what is NULL when it is good. */
static int page_load(struct run *run, uint64_t offset, const char **what) {
    uint64_t left = run->pages_end - offset;
    run->page_offset = offset;
    *what = NULL;
    if (left < PAGE_HEADER_BYTES + ENTRY_BYTES_MIN) {
        *what = "no room for a page";
        return DOCDB_OK;
    }
    int status = window_need(run, offset, PAGE_HEADER_BYTES);
    if (status != DOCDB_OK) {
        return status;
    }
    const uint8_t *page = run->window + (offset - run->window_offset);
    uint32_t count = get_u32(page + 4);
    size_t bytes = get_u32(page + 8);
    if (get_u32(page) != PAGE_MAGIC || get_u32(page + 12) != 0 || bytes > PAGE_BYTES_MAX || bytes > left ||
        bytes < PAGE_HEADER_BYTES + ENTRY_BYTES_MIN || count == 0) {
        *what = "no page header";
        return DOCDB_OK;
    }
    status = window_need(run, offset, bytes);
    if (status != DOCDB_OK) {
        return status;
    }
    page = run->window + (offset - run->window_offset);
    if (get_u64(page + 16) != page_checksum(page, bytes)) {
        *what = "a page that does not match its checksum";
        return DOCDB_OK;
    }
    run->at = page + PAGE_HEADER_BYTES;
    run->page_end = page + bytes;
    run->page_entries = count;
    run->next_page = offset + bytes;
    return DOCDB_OK;
}

static int id_compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int entry_compare(const struct index_file_entry *a, const struct index_file_entry *b) {
    return id_compare(a->id, a->id_bytes, b->id, b->id_bytes);
}

/* Decodes the next entry of the page. False: an impossible one. */
static bool entry_decode(struct run *run) {
    const uint8_t *in = run->at;
    size_t left = (size_t)(run->page_end - in);
    if (left < ENTRY_BYTES_MIN) {
        return false;
    }
    struct index_file_entry *entry = &run->entry;
    uint8_t flags = get_u8(in + 13);
    size_t header_bytes = ENTRY_HEADER_BYTES + (flags == ENTRY_HAS_MTIME ? 8 : 0);
    entry->id = (const char *)in + header_bytes;
    entry->id_bytes = get_u8(in + 12);
    entry->tombstone = flags == ENTRY_DELETED;
    entry->location = (struct location){.segment = get_u32(in), .offset = get_u32(in + 4)};
    entry->info.bytes = get_u32(in + 8);
    entry->info.version = get_u64(in + 16);
    entry->info.commit_time_ns = get_i64(in + 24);
    if (flags > ENTRY_HAS_MTIME || get_u16(in + 14) != 0 || left < header_bytes ||
        left - header_bytes < entry->id_bytes || entry->info.bytes > DOCDB_DOC_BYTES_MAX ||
        (entry->location.segment == 0) != entry->tombstone ||
        (entry->tombstone && (entry->location.offset | entry->info.bytes) != 0)) {
        return false;
    }
    entry->info.mtime_ns = flags == ENTRY_HAS_MTIME ? get_i64(in + 32) : entry->info.commit_time_ns;
    if (!id_valid(entry->id, entry->id_bytes) ||
        (run->last_bytes > 0 && id_compare(run->last_id, run->last_bytes, entry->id, entry->id_bytes) >= 0)) {
        return false;
    }
    run->last_id = entry->id;
    run->last_bytes = entry->id_bytes;
    run->at = in + header_bytes + entry->id_bytes;
    run->page_entries--;
    return run->page_entries > 0 || run->at == run->page_end;
}

static int run_next_page(struct run *run) {
    const char *what;
    run->has_entry = false;
    if (run->next_page == run->pages_end) {
        return run->entries == run->header.entry_count ? DOCDB_OK : damaged(run, run->pages_end, WRONG_COUNT);
    }
    int status = page_load(run, run->next_page, &what);
    if (status == DOCDB_OK && what != NULL) {
        status = damaged(run, run->page_offset, what);
    }
    if (status == DOCDB_OK) {
        run->entries += run->page_entries;
        run->has_entry = true;
    }
    return status;
}

/* Goes on to the next entry; at the end has_entry is false. */
static int run_next(struct run *run) {
    if (run->page_entries == 0) {
        int status = run_next_page(run);
        if (status != DOCDB_OK || !run->has_entry) {
            return status;
        }
    }
    return entry_decode(run) ? DOCDB_OK : damaged(run, run->page_offset, IMPOSSIBLE_ENTRY);
}

/* ---- Opening ---- */

static int set_fill(struct index_file_set *set, const struct run *newest, const uint8_t *tables) {
    const uint8_t *segments = tables + (size_t)newest->run_count * RUN_BYTES;
    set->newest = newest->header;
    set->run_count = newest->run_count + 1u;
    for (uint32_t i = 0; i < newest->run_count; i++) {
        set->runs[i] = get_u64(tables + (size_t)i * RUN_BYTES);
    }
    set->runs[newest->run_count] = newest->header.number;
    set->run_bytes[newest->run_count] = newest->header.file_bytes;
    set->entry_count_max = newest->header.entry_count;
    set->segments = malloc(newest->segment_count * sizeof *set->segments + 1);
    if (set->segments == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    set->segment_count = newest->segment_count;
    for (size_t i = 0; i < set->segment_count; i++) {
        set->segments[i] = (struct segment_extent){.number = get_u32(segments + i * SEGMENT_BYTES),
                                                   .bytes = get_u64(segments + i * SEGMENT_BYTES + 8)};
    }
    return DOCDB_OK;
}

static int newest_open(struct run *run, struct index_file_set *set) {
    uint8_t *tables;
    const char *what;
    int status = tables_read(run, &tables, &what);
    if (status == DOCDB_OK) {
        status = what != NULL ? damaged(run, run->pages_end, what) : set_fill(set, run, tables);
    }
    free(tables);
    return status;
}

/* Run number `i` of the set must stand on those before it. */
static int below_check(const struct run *run, struct index_file_set *set, size_t i) {
    uint8_t *tables;
    const char *what;
    int status = tables_read(run, &tables, &what);
    bool same = status == DOCDB_OK && what == NULL && run->run_count == i &&
                run->header.commit_seq <= set->newest.commit_seq;
    for (size_t j = 0; j < i && same; j++) {
        same = get_u64(tables + j * RUN_BYTES) == set->runs[j];
    }
    free(tables);
    if (status == DOCDB_OK && !same) {
        status = damaged(run, run->pages_end, what != NULL ? what : "a run that does not fit the one above it");
    }
    set->run_bytes[i] = run->header.file_bytes;
    set->entry_count_max += run->header.entry_count;
    return status;
}

int index_file_open_newest(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                           const struct index_file_header *expected, struct index_file_set *out) {
    struct run run = {.on_damage = NULL};
    *out = (struct index_file_set){0};
    int status = run_open(&run, os, log, directory, number, expected);
    if (status != DOCDB_OK) {
        return status;
    }
    status = newest_open(&run, out);
    run_close(&run);
    if (status != DOCDB_OK) {
        index_file_set_fini(out);
    }
    return status;
}

int index_file_open(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                    const struct index_file_header *expected, struct index_file_set *out) {
    struct run run = {.on_damage = NULL};
    int status = index_file_open_newest(os, log, directory, number, expected, out);
    for (size_t i = 0; i + 1 < out->run_count && status == DOCDB_OK; i++) {
        status = run_open(&run, os, log, directory, out->runs[i], expected);
        if (status == DOCDB_OK) {
            status = below_check(&run, out, i);
            run_close(&run);
        }
    }
    if (status != DOCDB_OK) {
        index_file_set_fini(out);
    }
    return status;
}

void index_file_set_fini(struct index_file_set *set) {
    free(set->segments);
    set->segments = NULL;
}

/* ---- Loading: the merge ---- */

/* The deltas that are not at their end, by their entries: the smallest id first, of equal ones the newest run
 * first.
 */
struct merge {
    struct run *deltas[INDEX_RUNS_MAX];
    size_t count;
    bool tombstones; /* are wanted */
    index_file_fn each;
    void *arg;
};

static void merge_insert(struct merge *merge, struct run *run) {
    size_t from = 0;
    size_t to = merge->count;
    while (from < to) {
        size_t middle = (from + to) / 2;
        const struct run *other = merge->deltas[middle];
        int order = entry_compare(&run->entry, &other->entry);
        if (order < 0 || (order == 0 && run->header.number > other->header.number)) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    memmove(merge->deltas + from + 1, merge->deltas + from, (merge->count - from) * sizeof merge->deltas[0]);
    merge->deltas[from] = run;
    merge->count++;
}

static int merge_advance(struct merge *merge, size_t i) {
    struct run *run = merge->deltas[i];
    merge->count--;
    memmove(merge->deltas + i, merge->deltas + i + 1, (merge->count - i) * sizeof merge->deltas[0]);
    int status = run_next(run);
    if (status == DOCDB_OK && run->has_entry) {
        merge_insert(merge, run);
    }
    return status;
}

static int merge_emit(const struct merge *merge, const struct index_file_entry *entry) {
    return entry->tombstone && !merge->tombstones ? DOCDB_OK : merge->each(merge->arg, entry);
}

/* The first of the deltas is next: hands it out, and passes over what older deltas have of its id. */
static int merge_delta(struct merge *merge) {
    struct run *first = merge->deltas[0];
    int status = DOCDB_OK;
    while (status == DOCDB_OK && merge->count > 1 && entry_compare(&merge->deltas[1]->entry, &first->entry) == 0) {
        status = merge_advance(merge, 1);
    }
    if (status == DOCDB_OK) {
        status = merge_emit(merge, &first->entry);
    }
    return status == DOCDB_OK ? merge_advance(merge, 0) : status;
}

/* All runs are open; `base` is the oldest of them. */
static int merge_runs(struct merge *merge, struct run *base, size_t run_count) {
    int status = run_next(base);
    for (size_t i = 1; i < run_count && status == DOCDB_OK; i++) {
        status = run_next(&base[i]);
        if (status == DOCDB_OK && base[i].has_entry) {
            merge_insert(merge, &base[i]);
        }
    }
    while (status == DOCDB_OK && base->has_entry) {
        int order = merge->count == 0 ? 1 : entry_compare(&merge->deltas[0]->entry, &base->entry);
        status = order > 0 ? merge_emit(merge, &base->entry) : merge_delta(merge);
        if (status == DOCDB_OK && order >= 0) {
            status = run_next(base);
        }
    }
    while (status == DOCDB_OK && merge->count > 0) {
        status = merge_delta(merge);
    }
    return status;
}

int index_file_load(const struct docdb_os *os, const struct log *log, const char *directory,
                    const struct index_file_set *set, size_t first, index_file_fn each, void *arg) {
    struct merge merge = {.tombstones = first > 0, .each = each, .arg = arg};
    size_t count = set->run_count - first;
    struct run *runs = calloc(count, sizeof *runs);
    size_t opened = 0;
    int status = runs == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    while (status == DOCDB_OK && opened < count) {
        status = run_open(&runs[opened], os, log, directory, set->runs[first + opened], &set->newest);
        opened += status == DOCDB_OK;
    }
    if (status == DOCDB_OK) {
        status = merge_runs(&merge, runs, count);
    }
    for (size_t i = 0; i < opened; i++) {
        run_close(&runs[i]);
    }
    free(runs);
    return status;
}

/* ---- Reading one run, damaged or not ---- */

struct checking {
    struct run run;
    void *arg;
    bool skipped; /* a page: the count of entries says nothing then */
};

static int damage_report(const struct checking *checking, uint64_t offset, const char *what) {
    int status = damaged(&checking->run, offset, what);
    return checking->run.on_damage != NULL && status == DOCDB_ERR_CORRUPT ? DOCDB_OK : status;
}

/* Looks at all entries of a page, and goes back to the first. */
static bool page_entries_valid(struct run *run) {
    const uint8_t *at = run->at;
    const char *last_id = run->last_id;
    uint8_t last_bytes = run->last_bytes;
    uint32_t count = run->page_entries;
    bool valid = true;
    while (valid && run->page_entries > 0) {
        valid = entry_decode(run);
    }
    run->at = at;
    run->last_id = last_id;
    run->last_bytes = last_bytes;
    run->page_entries = count;
    return valid;
}

/* Sets next_page to the next page behind a damaged one, whose own size can't be trusted: to where a page header and
 * its checksum are right, else to the end. No id can look like a page, which has zeros in its header. */
static int page_find(struct run *run) {
    const char *what = NULL;
    int status = DOCDB_OK;
    for (uint64_t at = run->page_offset + 1; run->pages_end - at >= PAGE_HEADER_BYTES && status == DOCDB_OK; at++) {
        status = window_need(run, at, PAGE_HEADER_BYTES);
        if (status == DOCDB_OK && get_u32(run->window + (at - run->window_offset)) == PAGE_MAGIC) {
            status = page_load(run, at, &what);
            if (status == DOCDB_OK && what == NULL) {
                run->next_page = at;
                return DOCDB_OK;
            }
        }
    }
    run->next_page = run->pages_end;
    return status;
}

static int page_read(struct checking *checking, index_file_fn each) {
    struct run *run = &checking->run;
    const char *what;
    int status = page_load(run, run->next_page, &what);
    if (status != DOCDB_OK) {
        return status;
    }
    if (what == NULL && !page_entries_valid(run)) {
        what = IMPOSSIBLE_ENTRY;
    }
    if (what != NULL) {
        checking->skipped = true;
        status = damage_report(checking, run->page_offset, what);
        return status == DOCDB_OK ? page_find(run) : status;
    }
    run->entries += run->page_entries;
    while (run->page_entries > 0 && status == DOCDB_OK) {
        (void)entry_decode(run); /* it was valid */
        status = each(checking->arg, &run->entry);
    }
    return status;
}

int index_file_read(const struct docdb_os *os, const struct log *log, const char *directory, uint64_t number,
                    const struct index_file_header *expected, index_file_fn each, index_file_damage_fn on_damage,
                    void *arg) {
    struct checking checking = {.run = {.on_damage = on_damage, .damage_arg = arg}, .arg = arg};
    struct run *run = &checking.run;
    uint8_t *tables;
    const char *what;
    int status = run_open(run, os, log, directory, number, expected);
    if (status != DOCDB_OK) {
        return status;
    }
    status = tables_read(run, &tables, &what);
    free(tables);
    if (status == DOCDB_OK && what != NULL) {
        status = damage_report(&checking, run->pages_end, what);
    }
    while (status == DOCDB_OK && run->next_page < run->pages_end) {
        status = page_read(&checking, each);
    }
    if (status == DOCDB_OK && !checking.skipped && run->entries != run->header.entry_count) {
        status = damage_report(&checking, run->pages_end, WRONG_COUNT);
    }
    run_close(run);
    return status;
}
