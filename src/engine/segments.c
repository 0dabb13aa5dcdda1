/* See segments.h. */
#include "engine/segments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/limits.h"
#include "engine/segment_format.h"

#define PATH_BYTES         4096
#define ALLOCATE_BYTES_MAX ((uint64_t)4 << 20) /* space is reserved ahead in such steps, and trimmed at the end */
#define SHARE_MAX          0.9 /* a segment with more live bytes gives too little back: less than a new one can waste */
#define ALLOCATE_SHARE     8u /* or so small a part of a full segment */

void segment_path(const char *directory, uint32_t number, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/%08" PRIx32 ".seg", directory, number);
}

int segments_init(struct segments *segments, const struct docdb_os *os, const struct log *log,
                  const char *directory, const char *name, uint64_t store_id, uint32_t database_id,
                  atomic_uint *open_files) {
    *segments = (struct segments){.os = os,
                                  .log = log,
                                  .store_id = store_id,
                                  .database_id = database_id,
                                  .open_files = open_files,
                                  .next_number = 1};
    rwlock_init(&segments->lock);
    segments->directory = strdup(directory);
    segments->name = strdup(name);
    return segments->directory == NULL || segments->name == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

void segments_fini(struct segments *segments) NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < segments->count; i++) {
        segment_release(segments, segments->table[i]);
    }
    free(segments->table);
    free(segments->name);
    free(segments->directory);
    rwlock_fini(&segments->lock);
}

/* ---- A segment ---- */

static struct segment *segment_create(uint32_t number, uint64_t bytes) {
    struct segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        return NULL;
    }
    segment->number = number;
    segment->file = -1;
    atomic_init(&segment->bytes, bytes);
    atomic_init(&segment->references, 1);
    mutex_init(&segment->mutex);
    return segment;
}

static void file_close(const struct segments *segments, struct segment *segment) REQUIRES(segment->mutex) {
    (void)os_close(segments->os, segment->file);
    segment->file = -1;
    atomic_fetch_sub_explicit(segments->open_files, 1, memory_order_relaxed);
}

void segment_release(struct segments *segments, struct segment *segment) {
    if (segment == NULL || atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    mutex_lock(&segment->mutex);
    if (segment->file >= 0) {
        file_close(segments, segment);
    }
    mutex_unlock(&segment->mutex);
    mutex_fini(&segment->mutex);
    free(segment);
}

/* The open file of a segment, for one read: segment_done. Negative: an errno value. */
static int segment_use(struct segments *segments, struct segment *segment) {
    char path[PATH_BYTES];
    mutex_lock(&segment->mutex);
    if (segment->file < 0) {
        segment_path(segments->directory, segment->number, path, sizeof path);
        segment->file = os_open(segments->os, path, OS_READ);
        if (segment->file >= 0) {
            atomic_fetch_add_explicit(segments->open_files, 1, memory_order_relaxed);
        } else {
            log_error(segments->log, "can't open the segment %s of database \"%s\": %s", path, segments->name,
                      strerror(-segment->file));
        }
    }
    int file = segment->file;
    segment->readers += file >= 0 ? 1 : 0;
    mutex_unlock(&segment->mutex);
    return file;
}

/* Beyond the bound on open files, who was the last to read closes the file: slower, but it works with any number of
 * segments. */
static void segment_done(struct segments *segments, struct segment *segment) {
    mutex_lock(&segment->mutex);
    segment->readers--;
    if (segment->readers == 0 &&
        atomic_load_explicit(segments->open_files, memory_order_relaxed) > LIMIT_OPEN_SEGMENTS) {
        file_close(segments, segment);
    }
    mutex_unlock(&segment->mutex);
}

/* ---- The table ---- */

/* The first slot whose number is >= the number. */
static size_t slot_of(const struct segments *segments, uint32_t number) REQUIRES_SHARED(segments->lock) {
    size_t low = 0;
    size_t high = segments->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (segments->table[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct segment *table_find(const struct segments *segments, uint32_t number)
    REQUIRES_SHARED(segments->lock) {
    size_t slot = slot_of(segments, number);
    return slot < segments->count && segments->table[slot]->number == number ? segments->table[slot] : NULL;
}

static int table_add(struct segments *segments, struct segment *segment) {
    rwlock_lock(&segments->lock);
    struct segment **table = realloc(segments->table, (segments->count + 1) * sizeof(struct segment *));
    if (table != NULL) {
        segments->table = table;
        size_t slot = slot_of(segments, segment->number);
        memmove(&table[slot + 1], &table[slot], (segments->count - slot) * sizeof(struct segment *));
        table[slot] = segment;
        segments->count++;
        if (segments->next_number <= segment->number) {
            segments->next_number = segment->number + 1;
        }
    }
    rwlock_unlock(&segments->lock);
    return table == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

struct segment *segments_find(struct segments *segments, uint32_t number) {
    rwlock_lock_shared(&segments->lock);
    struct segment *segment = table_find(segments, number);
    if (segment != NULL) {
        atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    }
    rwlock_unlock_shared(&segments->lock);
    return segment;
}

static bool contains(const uint32_t *numbers, size_t count, uint32_t number) {
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        found = numbers[i] == number;
    }
    return found;
}

int segments_list(struct segments *segments, const uint32_t *without, size_t without_count,
                  struct segment_extent **out, size_t *count) {
    rwlock_lock_shared(&segments->lock);
    struct segment_extent *list = malloc((segments->count + 1) * sizeof *list);
    size_t found = 0;
    for (size_t i = 0; list != NULL && i < segments->count; i++) {
        const struct segment *segment = segments->table[i];
        uint64_t bytes = atomic_load(&segment->bytes);
        /* One without a recorded end has nothing that counts yet. */
        if (bytes > 0 && !contains(without, without_count, segment->number)) {
            list[found++] = (struct segment_extent){.number = segment->number, .bytes = bytes};
        }
    }
    rwlock_unlock_shared(&segments->lock);
    *out = list;
    *count = found;
    return list == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

uint64_t segments_bytes(struct segments *segments) {
    uint64_t bytes = 0;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        bytes += atomic_load(&segments->table[i]->bytes);
    }
    rwlock_unlock_shared(&segments->lock);
    return bytes;
}

uint64_t segments_live_bytes(struct segments *segments) {
    int64_t bytes = 0;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        bytes += atomic_load(&segments->table[i]->live_bytes);
    }
    rwlock_unlock_shared(&segments->lock);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

void segments_live_change(struct segments *segments, uint32_t number, int64_t bytes) {
    rwlock_lock_shared(&segments->lock);
    struct segment *segment = table_find(segments, number);
    if (segment != NULL) {
        atomic_fetch_add_explicit(&segment->live_bytes, bytes, memory_order_relaxed);
    }
    rwlock_unlock_shared(&segments->lock);
}

void segments_named(struct segments *segments, uint32_t number, uint64_t seq) {
    rwlock_lock_shared(&segments->lock);
    struct segment *segment = table_find(segments, number);
    if (segment != NULL) {
        atomic_store(&segment->newest_seq, seq); /* commits come in order */
    }
    rwlock_unlock_shared(&segments->lock);
}

int segments_dead(struct segments *segments, uint64_t seq, uint32_t **out, size_t *count) {
    rwlock_lock_shared(&segments->lock);
    uint32_t *numbers = malloc((segments->count + 1) * sizeof *numbers);
    size_t found = 0;
    for (size_t i = 0; numbers != NULL && i < segments->count; i++) {
        const struct segment *segment = segments->table[i];
        if (!atomic_load(&segment->in_use) && atomic_load(&segment->live_bytes) <= 0 &&
            atomic_load(&segment->newest_seq) <= seq) {
            numbers[found++] = segment->number;
        }
    }
    rwlock_unlock_shared(&segments->lock);
    *out = numbers;
    *count = found;
    return numbers == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

uint64_t segments_dead_bytes(struct segments *segments) {
    uint64_t bytes = 0;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        const struct segment *segment = segments->table[i];
        bool dead = !atomic_load(&segment->in_use) && atomic_load(&segment->live_bytes) <= 0;
        bytes += dead ? atomic_load(&segment->bytes) : 0;
    }
    rwlock_unlock_shared(&segments->lock);
    return bytes;
}

/* Takes a segment into use, if no one has it. */
static bool segment_try_use(struct segment *segment) {
    bool expected = false;
    if (!atomic_compare_exchange_strong(&segment->in_use, &expected, true)) {
        return false;
    }
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return true;
}

void segment_unuse(struct segments *segments, struct segment *segment) {
    atomic_store(&segment->in_use, false);
    segment_release(segments, segment);
}

struct segment *segments_emptiest(struct segments *segments) {
    struct segment *best = NULL;
    double best_share = SHARE_MAX;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        struct segment *segment = segments->table[i];
        int64_t live = atomic_load(&segment->live_bytes);
        uint64_t bytes = atomic_load(&segment->bytes);
        /* The header and padding, which a new segment would have too, are not to be gained. */
        double share = bytes == 0 ? 1.0 : (double)(live + (int64_t)SEGMENT_BLOCK_BYTES) / (double)bytes;
        if (live > 0 && share < best_share && !atomic_load(&segment->in_use) && !atomic_load(&segment->damaged)) {
            best = segment;
            best_share = share;
        }
    }
    if (best != NULL && !segment_try_use(best)) {
        best = NULL;
    }
    rwlock_unlock_shared(&segments->lock);
    return best;
}

void segments_remove(struct segments *segments, const uint32_t *numbers, size_t count) {
    rwlock_lock(&segments->lock);
    size_t kept = 0;
    for (size_t i = 0; i < segments->count; i++) {
        struct segment *segment = segments->table[i];
        if (contains(numbers, count, segment->number)) {
            segment_release(segments, segment);
        } else {
            segments->table[kept++] = segment;
        }
    }
    segments->count = kept;
    rwlock_unlock(&segments->lock);
}

void segments_remove_all(struct segments *segments) {
    rwlock_lock(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        segment_release(segments, segments->table[i]);
    }
    segments->count = 0;
    rwlock_unlock(&segments->lock);
}

/* ---- Taking over what is on disk ---- */

/* Reads and checks the header of an open segment that must hold `bytes` bytes. */
static int header_check(struct segments *segments, int file, const char *path, uint32_t number, uint64_t bytes) {
    uint8_t in[SEGMENT_HEADER_BYTES];
    struct segment_header header = {0};
    struct os_stat stat = {0};
    int64_t got = os_pread(segments->os, file, in, sizeof in, 0);
    int64_t rc = got < 0 ? got : os_fstat(segments->os, file, &stat);
    if (rc < 0) {
        log_error(segments->log, "reading the segment %s of database \"%s\" failed: %s", path, segments->name,
                  strerror((int)-rc));
        return error_from_os(rc);
    }
    int status = (size_t)got < sizeof in ? DOCDB_ERR_CORRUPT : segment_header_decode(in, &header);
    if (status == DOCDB_ERR_NEWER_FORMAT) {
        log_error(segments->log, "the segment %s was written by a newer version of DocDB; use that version", path);
    } else if (status != DOCDB_OK || header.store_id != segments->store_id ||
               header.database_id != segments->database_id || header.number != number) {
        log_error(segments->log, "damaged data: the header of the segment %s of database \"%s\" does not match",
                  path, segments->name);
        status = DOCDB_ERR_CORRUPT;
    } else if (stat.bytes < bytes) {
        log_error(segments->log,
                  "damaged data: the segment %s of database \"%s\" has %" PRIu64 " bytes, and %" PRIu64
                  " of it are in use",
                  path, segments->name, stat.bytes, bytes);
        status = DOCDB_ERR_CORRUPT;
    }
    return status;
}

int segments_adopt(struct segments *segments, uint32_t number, uint64_t bytes) {
    char path[PATH_BYTES];
    struct segment *known = segments_find(segments, number);
    if (known != NULL && atomic_load(&known->bytes) >= bytes) {
        segment_release(segments, known);
        return DOCDB_OK;
    }
    segment_path(segments->directory, number, path, sizeof path);
    int file = os_open(segments->os, path, OS_READ);
    if (file < 0) {
        segment_release(segments, known);
        log_error(segments->log, "can't open the segment %s of database \"%s\": %s", path, segments->name,
                  strerror(-file));
        return file == -ENOENT ? DOCDB_ERR_CORRUPT : error_from_os(file);
    }
    int status = header_check(segments, file, path, number, bytes);
    (void)os_close(segments->os, file);
    if (status == DOCDB_OK && known != NULL) {
        atomic_store(&known->bytes, bytes);
    } else if (status == DOCDB_OK) {
        struct segment *segment = segment_create(number, bytes);
        status = segment == NULL ? DOCDB_ERR_MEMORY : table_add(segments, segment);
        if (status != DOCDB_OK) {
            segment_release(segments, segment);
        }
    }
    segment_release(segments, known);
    return status;
}

/* ---- Reading ---- */

static int read_damaged(const struct segments *segments, const char *id, const struct index_view *view,
                        const char *what) {
    log_error(segments->log,
              "damaged data: %s in %s/%08" PRIx32 ".seg at offset %" PRIu64
              ", document \"%s\" of database \"%s\", version %" PRIu64,
              what, segments->directory, view->location.segment, location_bytes(view->location), id, segments->name,
              view->info.version);
    return DOCDB_ERR_CORRUPT;
}

static int read_failed(const struct segments *segments, const char *id, const struct index_view *view, int64_t rc) {
    log_error(segments->log,
              "reading %s/%08" PRIx32 ".seg at offset %" PRIu64 " failed, document \"%s\" of database \"%s\": %s",
              segments->directory, view->location.segment, location_bytes(view->location), id, segments->name,
              strerror((int)-rc));
    return error_from_os(rc);
}

/* A new modification time makes a version without a record of its own, so the record's may be an older one. */
static bool record_matches(const struct segment_record *record, const uint8_t *head, const char *id,
                           size_t id_bytes, const struct index_view *view) {
    return record->id_bytes == id_bytes && memcmp(head + SEGMENT_RECORD_HEADER_BYTES, id, id_bytes) == 0 &&
           record->info.version <= view->info.version && record->info.bytes == view->info.bytes;
}

static int record_read(struct segments *segments, int file, const char *id, const struct index_view *view,
                       docdb_doc *doc) {
    struct segment_record record;
    uint8_t head[SEGMENT_RECORD_HEADER_BYTES + DOCDB_ID_BYTES_MAX];
    size_t id_bytes = strlen(id);
    size_t head_bytes = SEGMENT_RECORD_HEADER_BYTES + id_bytes;
    uint64_t at = location_bytes(view->location);
    int64_t got = os_pread(segments->os, file, head, head_bytes, at);
    if (got < 0) {
        return read_failed(segments, id, view, got);
    }
    if ((size_t)got < head_bytes || !segment_record_decode(head, head_bytes, &record) ||
        !record_matches(&record, head, id, id_bytes, view)) {
        return read_damaged(segments, id, view, "the record's header does not match");
    }
    got = os_pread(segments->os, file, doc->data, (size_t)view->info.bytes, at + record.data_offset);
    if (got < 0) {
        return read_failed(segments, id, view, got);
    }
    doc->info = view->info;
    doc->checksum = record.checksum;
    return (uint64_t)got == view->info.bytes && checksum(doc->data, (size_t)view->info.bytes) == record.checksum
               ? DOCDB_OK
               : read_damaged(segments, id, view, "the document's checksum does not match");
}

int segments_read(struct segments *segments, const char *id, const struct index_view *view, docdb_doc **out) {
    struct segment *segment = segments_find(segments, view->location.segment);
    if (segment == NULL) {
        return DOCDB_ERR_END;
    }
    docdb_doc *doc = doc_create((size_t)view->info.bytes);
    if (doc == NULL) {
        segment_release(segments, segment);
        return DOCDB_ERR_MEMORY;
    }
    int file = segment_use(segments, segment);
    int status = error_from_os(file);
    if (status == DOCDB_OK) {
        status = record_read(segments, file, id, view, doc);
        segment_done(segments, segment);
    }
    segment_release(segments, segment);
    if (status != DOCDB_OK) {
        docdb_doc_release(doc);
        return status;
    }
    *out = doc;
    return DOCDB_OK;
}

int segment_read_at(struct segments *segments, struct segment *segment, void *out, size_t bytes, uint64_t offset) {
    int file = segment_use(segments, segment);
    if (file < 0) {
        return error_from_os(file);
    }
    int64_t got = os_pread(segments->os, file, out, bytes, offset);
    segment_done(segments, segment);
    if (got < 0) {
        log_error(segments->log, "reading %s/%08" PRIx32 ".seg at offset %" PRIu64 " failed: %s",
                  segments->directory, segment->number, offset, strerror((int)-got));
        return error_from_os(got);
    }
    return (size_t)got == bytes ? DOCDB_OK : DOCDB_ERR_CORRUPT;
}

/* ---- Appending ---- */

void appender_init(struct segment_appender *appender, struct segments *segments) {
    *appender = (struct segment_appender){.segments = segments, .writer = {.file = -1}};
}

static int append_failed(const struct segment_appender *appender, int rc, const char *what) {
    if (rc < 0) {
        log_error(appender->segments->log, "%s segment %08" PRIx32 " in %s of database \"%s\" failed: %s", what,
                  appender->segment->number, appender->segments->directory, appender->segments->name,
                  strerror(-rc));
    }
    return error_from_os(rc);
}

/* A segment that may be gone on with, marked as appended to; one reference. */
static struct segment *continuable(struct segments *segments, uint64_t segment_bytes_max) {
    struct segment *found = NULL;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = segments->count; i-- > 0 && found == NULL;) {
        struct segment *segment = segments->table[i];
        /* One without live bytes may be about to go. */
        if (atomic_load(&segment->bytes) < segment_bytes_max / 2 && atomic_load(&segment->live_bytes) > 0 &&
            !atomic_load(&segment->damaged) && !atomic_load(&segment->failed) && segment_try_use(segment)) {
            found = segment;
        }
    }
    rwlock_unlock_shared(&segments->lock);
    return found;
}

/* Makes the database's directory; its name is durable then. */
static int directory_make(struct segments *segments) {
    char parent[PATH_BYTES];
    int rc = os_mkdir(segments->os, segments->directory);
    if (rc == 0 || rc == -EEXIST) { /* it may be left from an attempt that failed before this */
        (void)snprintf(parent, sizeof parent, "%s/..", segments->directory);
        rc = os_sync_directory(segments->os, parent);
    }
    if (rc != 0) {
        log_error(segments->log, "can't create the directory %s of database \"%s\": %s", segments->directory,
                  segments->name, strerror(-rc));
    }
    return rc;
}

/* How much space is reserved ahead: a small part of a segment, so that on a nearly full disk it is not missed. */
static uint64_t allocate_step(uint64_t segment_bytes_max) {
    uint64_t step = segment_bytes_max / ALLOCATE_SHARE;
    return step < ALLOCATE_BYTES_MAX ? step : ALLOCATE_BYTES_MAX;
}

/* Creates the file with its header, which is durable with the first sync of the appender. */
static int segment_create_file(struct segment_appender *appender, const char *path, uint32_t number,
                               uint64_t segment_bytes_max) {
    struct segments *segments = appender->segments;
    uint8_t header[SEGMENT_HEADER_BYTES];
    segment_header_encode(&(struct segment_header){.store_id = segments->store_id,
                                                   .database_id = segments->database_id,
                                                   .number = number},
                          header);
    int rc = file_writer_open(&appender->writer, segments->os, path, allocate_step(segment_bytes_max));
    if (rc == -ENOENT && directory_make(segments) == 0) {
        rc = file_writer_open(&appender->writer, segments->os, path, allocate_step(segment_bytes_max));
    }
    if (rc != 0) {
        return rc;
    }
    rc = file_writer_append(&appender->writer, header, sizeof header);
    if (rc == 0) {
        rc = os_sync_directory(segments->os, segments->directory);
    }
    if (rc != 0) {
        (void)file_writer_close(&appender->writer, false);
        (void)os_unlink(segments->os, path);
    }
    return rc;
}

/* The segment is in the table before its file exists: who collects files that are not used leaves it alone. */
static int segment_begin(struct segment_appender *appender, uint64_t segment_bytes_max) {
    struct segments *segments = appender->segments;
    char path[PATH_BYTES];
    rwlock_lock(&segments->lock);
    uint32_t number = segments->next_number++;
    rwlock_unlock(&segments->lock);
    struct segment *segment = segment_create(number, 0);
    if (segment == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    atomic_store(&segment->in_use, true);
    atomic_store(&segment->references, 2); /* the table's and ours */
    segment_path(segments->directory, number, path, sizeof path);
    int status = table_add(segments, segment);
    if (status != DOCDB_OK) {
        atomic_store(&segment->references, 1);
        segment_release(segments, segment);
        return status;
    }
    int rc = segment_create_file(appender, path, number, segment_bytes_max);
    if (rc != 0) {
        log_error(segments->log, "can't create the segment %s of database \"%s\": %s", path, segments->name,
                  strerror(-rc));
        segments_remove(segments, &number, 1);
        segment_release(segments, segment);
        return error_from_os(rc);
    }
    appender->segment = segment;
    appender->synced_end = 0;
    return DOCDB_OK;
}

static int segment_open(struct segment_appender *appender, uint64_t segment_bytes_max) {
    struct segments *segments = appender->segments;
    char path[PATH_BYTES];
    struct segment *segment = continuable(segments, segment_bytes_max);
    if (segment == NULL) {
        return segment_begin(appender, segment_bytes_max);
    }
    segment_path(segments->directory, segment->number, path, sizeof path);
    int rc = file_writer_continue(&appender->writer, segments->os, path, atomic_load(&segment->bytes),
                                  allocate_step(segment_bytes_max));
    if (rc != 0) {
        segment_unuse(segments, segment);
        return rc == -EMFILE || rc == -ENFILE ? error_from_os(rc) : segment_begin(appender, segment_bytes_max);
    }
    appender->segment = segment;
    appender->synced_end = atomic_load(&segment->bytes);
    return DOCDB_OK;
}

/* Header, id, bytes and padding, through the buffer. */
static int record_write(struct file_writer *writer, const struct segment_record *record, const char *id,
                        const void *data) {
    uint8_t header[SEGMENT_RECORD_HEADER_BYTES];
    segment_record_encode(record, id, header);
    int rc = file_writer_append(writer, header, sizeof header);
    if (rc == 0) {
        rc = file_writer_append(writer, id, record->id_bytes);
    }
    if (rc == 0) {
        rc = file_writer_append(writer, data, (size_t)record->info.bytes);
    }
    return rc == 0 ? file_writer_align(writer, 8) : rc;
}

int appender_append_record(struct segment_appender *appender, uint64_t segment_bytes_max,
                           const struct segment_record *record, const char *id, const void *data,
                           struct location *out) {
    struct segment_record copy = *record;
    copy.data_offset = SEGMENT_RECORD_HEADER_BYTES + copy.id_bytes;
    int status = appender->segment == NULL ? segment_open(appender, segment_bytes_max) : DOCDB_OK;
    if (status != DOCDB_OK) {
        return status;
    }
    *out = (struct location){.segment = appender->segment->number,
                             .offset = (uint32_t)(file_writer_end(&appender->writer) / LOCATION_UNIT)};
    return append_failed(appender, record_write(&appender->writer, &copy, id, data), "writing to");
}

/* The document's memory begins with a block for the header and the id, and its bytes are padded to a block. */
static int append_large(struct segment_appender *appender, const struct segment_record *record, const char *id,
                        docdb_doc *doc, struct location *out) {
    uint8_t *block = doc_header_block(doc);
    size_t bytes = (size_t)segment_record_end(record);
    segment_record_encode(record, id, block);
    memcpy(block + SEGMENT_RECORD_HEADER_BYTES, id, record->id_bytes);
    int rc = file_writer_align(&appender->writer, SEGMENT_BLOCK_BYTES);
    *out = (struct location){.segment = appender->segment->number,
                             .offset = (uint32_t)(file_writer_end(&appender->writer) / LOCATION_UNIT)};
    if (rc == 0) {
        rc = file_writer_append_blocks(&appender->writer, block, bytes);
    }
    return append_failed(appender, rc, "writing to");
}

int appender_append(struct segment_appender *appender, uint64_t segment_bytes_max, const char *id, docdb_doc *doc,
                    const docdb_info *info, struct location *out) {
    uint8_t id_bytes = (uint8_t)strlen(id);
    struct segment_record record = {.info = *info,
                                    .checksum = doc->checksum,
                                    .data_offset = SEGMENT_RECORD_HEADER_BYTES + id_bytes,
                                    .id_bytes = id_bytes};
    if (!doc_is_large(doc)) {
        return appender_append_record(appender, segment_bytes_max, &record, id, doc->data, out);
    }
    int status = appender->segment == NULL ? segment_open(appender, segment_bytes_max) : DOCDB_OK;
    record.data_offset = SEGMENT_BLOCK_BYTES;
    return status == DOCDB_OK ? append_large(appender, &record, id, doc, out) : status;
}

int appender_sync(struct segment_appender *appender) {
    if (appender->segment == NULL || file_writer_end(&appender->writer) == appender->synced_end) {
        return DOCDB_OK;
    }
    int status = append_failed(appender, file_writer_sync(&appender->writer), "syncing");
    if (status == DOCDB_OK) {
        appender->synced_end = file_writer_end(&appender->writer);
        atomic_store(&appender->segment->bytes, appender->synced_end);
    }
    return status;
}

static void appender_let_go(struct segment_appender *appender) {
    segment_unuse(appender->segments, appender->segment);
    appender->segment = NULL;
}

void appender_close(struct segment_appender *appender) {
    if (appender->segment != NULL) {
        int rc = file_writer_close(&appender->writer, true);
        if (rc != 0) { /* what was reserved ahead stays reserved: a loss of space, not of data */
            log_warning(appender->segments->log, "can't trim segment %08" PRIx32 " in %s: %s",
                        appender->segment->number, appender->segments->directory, strerror(-rc));
        }
        appender_let_go(appender);
    }
}

void appender_abandon(struct segment_appender *appender) {
    if (appender->segment == NULL) {
        return;
    }
    /* After a failed write or sync the kernel may hold for clean what never reached the disk, so nothing more goes
     * to this file. */
    uint32_t number = appender->segment->number;
    /* What is not synced never counts; on a full disk its space is needed. */
    (void)os_truncate(appender->segments->os, appender->writer.file, appender->synced_end);
    (void)file_writer_close(&appender->writer, false);
    if (appender->synced_end == 0) {
        char path[PATH_BYTES];
        segments_remove(appender->segments, &number, 1);
        segment_path(appender->segments->directory, number, path, sizeof path);
        (void)os_unlink(appender->segments->os, path);
    } else {
        atomic_store(&appender->segment->failed, true);
    }
    appender_let_go(appender);
}
