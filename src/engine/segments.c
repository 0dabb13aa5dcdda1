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

#define PATH_BYTES   4096
#define BUFFER_BYTES ((size_t)1 << 20)

void segment_path(const char *directory, uint32_t number, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/%08" PRIx32 ".seg", directory, number);
}

int segments_init(struct segments *segments, const struct docdb_os *os, const struct log *log,
                  const char *directory, uint64_t store_id, uint32_t database_id) {
    *segments = (struct segments){.os = os, .log = log, .store_id = store_id, .database_id = database_id};
    rwlock_init(&segments->lock);
    segments->directory = strdup(directory);
    return segments->directory == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

void segments_fini(struct segments *segments) NO_THREAD_SAFETY_ANALYSIS {
    for (size_t i = 0; i < segments->count; i++) {
        (void)os_close(segments->os, segments->table[i].file);
    }
    free(segments->table);
    free(segments->buffer);
    free(segments->directory);
    rwlock_fini(&segments->lock);
}

/* ---- The table ---- */

static int table_add(struct segments *segments, const struct segment *segment) {
    rwlock_lock(&segments->lock);
    struct segment *table = realloc(segments->table, (segments->count + 1) * sizeof *table);
    if (table != NULL) {
        table[segments->count++] = *segment;
        segments->table = table;
    }
    rwlock_unlock(&segments->lock);
    return table == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

static bool table_find(struct segments *segments, uint32_t number, struct segment *out) {
    rwlock_lock_shared(&segments->lock);
    size_t low = 0;
    size_t high = segments->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (segments->table[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < segments->count && segments->table[low].number == number;
    if (found) {
        *out = segments->table[low];
    }
    rwlock_unlock_shared(&segments->lock);
    return found;
}

static bool table_last(struct segments *segments, struct segment *out) {
    rwlock_lock_shared(&segments->lock);
    bool found = segments->count > 0;
    if (found) {
        *out = segments->table[segments->count - 1];
    }
    rwlock_unlock_shared(&segments->lock);
    return found;
}

int segments_list(struct segments *segments, struct segment **out, size_t *count) {
    rwlock_lock_shared(&segments->lock);
    *count = segments->count;
    *out = malloc((segments->count + 1) * sizeof **out);
    if (*out != NULL && segments->count > 0) {
        memcpy(*out, segments->table, segments->count * sizeof **out);
    }
    rwlock_unlock_shared(&segments->lock);
    return *out == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

uint64_t segments_bytes(struct segments *segments) {
    uint64_t bytes = 0;
    rwlock_lock_shared(&segments->lock);
    for (size_t i = 0; i < segments->count; i++) {
        bytes += segments->table[i].bytes;
    }
    rwlock_unlock_shared(&segments->lock);
    return bytes;
}

/* Reads and checks the header of an open segment that must hold `bytes` bytes. */
static int header_check(struct segments *segments, int file, const char *path, uint32_t number, uint64_t bytes) {
    uint8_t in[SEGMENT_HEADER_BYTES];
    struct segment_header header = {0};
    struct os_stat stat = {0};
    int64_t got = os_pread(segments->os, file, in, sizeof in, 0);
    int rc = got < 0 ? (int)got : os_fstat(segments->os, file, &stat);
    if (rc != 0) {
        log_error(segments->log, "reading the segment %s failed: %s", path, strerror(-rc));
        return error_from_os(rc);
    }
    int status = (size_t)got < sizeof in ? DOCDB_ERR_CORRUPT : segment_header_decode(in, &header);
    if (status == DOCDB_ERR_NEWER_FORMAT) {
        log_error(segments->log, "the segment %s was written by a newer version of DocDB; use that version", path);
    } else if (status != DOCDB_OK || header.store_id != segments->store_id ||
               header.database_id != segments->database_id || header.number != number || stat.bytes < bytes) {
        log_error(segments->log,
                  "damaged data: the header of the segment %s does not match, or it is shorter than %" PRIu64
                  " bytes",
                  path, bytes);
        status = DOCDB_ERR_CORRUPT;
    }
    return status;
}

int segments_adopt(struct segments *segments, uint32_t number, uint64_t bytes) {
    char path[PATH_BYTES];
    segment_path(segments->directory, number, path, sizeof path);
    int file = os_open(segments->os, path, OS_READ | OS_WRITE);
    if (file < 0) {
        log_error(segments->log, "can't open the segment %s: %s", path, strerror(-file));
        return file == -ENOENT ? DOCDB_ERR_CORRUPT : error_from_os(file);
    }
    int status = header_check(segments, file, path, number, bytes);
    if (status == DOCDB_OK) {
        status =
            table_add(segments, &(struct segment){.number = number, .file = file, .bytes = bytes, .synced = true});
    }
    if (status != DOCDB_OK) {
        (void)os_close(segments->os, file);
    }
    return status;
}

/* ---- Appending ---- */

static int buffer_write(struct segments *segments) {
    struct segment last;
    if (segments->buffered == 0 || !table_last(segments, &last)) {
        return DOCDB_OK;
    }
    int rc = os_pwrite(segments->os, last.file, segments->buffer, segments->buffered, segments->write_offset);
    if (rc != 0) {
        log_error(segments->log, "writing to segment %08" PRIx32 " of %s failed: %s", last.number,
                  segments->directory, strerror(-rc));
        return error_from_os(rc);
    }
    segments->write_offset += segments->buffered;
    segments->buffered = 0;
    return DOCDB_OK;
}

static int buffer_append(struct segments *segments, const void *data, size_t bytes) {
    while (bytes > 0) {
        size_t chunk = BUFFER_BYTES - segments->buffered < bytes ? BUFFER_BYTES - segments->buffered : bytes;
        memcpy(segments->buffer + segments->buffered, data, chunk);
        segments->buffered += chunk;
        data = (const uint8_t *)data + chunk;
        bytes -= chunk;
        if (segments->buffered == BUFFER_BYTES) {
            int status = buffer_write(segments);
            if (status != DOCDB_OK) {
                return status;
            }
        }
    }
    return DOCDB_OK;
}

static int segment_make(struct segments *segments, uint32_t number) {
    char path[PATH_BYTES];
    uint8_t header[SEGMENT_HEADER_BYTES];
    segment_path(segments->directory, number, path, sizeof path);
    int file = os_open(segments->os, path, OS_READ | OS_WRITE | OS_CREATE | OS_TRUNCATE);
    if (file < 0) {
        log_error(segments->log, "can't create the segment %s: %s", path, strerror(-file));
        return error_from_os(file);
    }
    segment_header_encode(&(struct segment_header){.store_id = segments->store_id,
                                                   .database_id = segments->database_id,
                                                   .number = number},
                          header);
    int rc = os_pwrite(segments->os, file, header, sizeof header, 0);
    int status = error_from_os(rc);
    if (status == DOCDB_OK) {
        status =
            table_add(segments, &(struct segment){.number = number, .file = file, .bytes = SEGMENT_HEADER_BYTES});
    }
    if (status != DOCDB_OK) {
        (void)os_close(segments->os, file);
        (void)os_unlink(segments->os, path);
        return status;
    }
    segments->write_offset = SEGMENT_HEADER_BYTES;
    return DOCDB_OK;
}

/* Makes the last segment one that `bytes` more bytes may go to. */
static int appendable(struct segments *segments, uint64_t bytes) {
    struct segment last = {0};
    if (segments->buffer == NULL) {
        segments->buffer = malloc(BUFFER_BYTES);
        if (segments->buffer == NULL) {
            return DOCDB_ERR_MEMORY;
        }
    }
    bool exists = table_last(segments, &last);
    if (!segments->appending) {
        segments->appending = true;
        segments->write_offset = last.bytes;
        segments->buffered = 0;
    }
    uint64_t end = segments->write_offset + segments->buffered;
    if (exists && !last.failed && (end <= SEGMENT_HEADER_BYTES || end + bytes <= LIMIT_SEGMENT_BYTES)) {
        return DOCDB_OK;
    }
    int status = segments_sync(segments);
    segments->appending = true;
    return status == DOCDB_OK ? segment_make(segments, last.number + 1) : status;
}

int segments_append(struct segments *segments, const char *id, const docdb_doc *doc, const docdb_info *info,
                    struct location *out) {
    static const uint8_t zeros[8];
    uint8_t header[SEGMENT_RECORD_HEADER_BYTES];
    struct segment last;
    size_t id_bytes = strlen(id);
    uint64_t bytes = segment_record_bytes(id_bytes, info->bytes);
    int status = appendable(segments, bytes);
    if (status != DOCDB_OK || !table_last(segments, &last)) {
        return status;
    }
    *out = (struct location){.segment = last.number, .offset = segments->write_offset + segments->buffered};
    segment_record_encode(
        &(struct segment_record){.info = *info, .checksum = doc->checksum, .id_bytes = (uint8_t)id_bytes}, id,
        header);
    status = buffer_append(segments, header, sizeof header);
    if (status == DOCDB_OK) {
        status = buffer_append(segments, id, id_bytes);
    }
    if (status == DOCDB_OK) {
        status = buffer_append(segments, doc->data, (size_t)info->bytes);
    }
    if (status == DOCDB_OK) {
        status = buffer_append(segments, zeros, (size_t)(bytes - sizeof header - id_bytes - info->bytes));
    }
    return status;
}

int segments_sync(struct segments *segments) {
    struct segment last;
    if (!segments->appending || !table_last(segments, &last)) {
        return DOCDB_OK;
    }
    int status = buffer_write(segments);
    if (status == DOCDB_OK) {
        int rc = os_sync(segments->os, last.file);
        if (rc != 0) {
            log_error(segments->log, "syncing segment %08" PRIx32 " of %s failed: %s", last.number,
                      segments->directory, strerror(-rc));
            status = error_from_os(rc);
        }
    }
    if (status == DOCDB_OK) {
        rwlock_lock(&segments->lock);
        segments->table[segments->count - 1].bytes = segments->write_offset;
        segments->table[segments->count - 1].synced = true;
        rwlock_unlock(&segments->lock);
        segments->appending = false;
    }
    return status;
}

void segments_rollback(struct segments *segments) {
    if (!segments->appending) {
        return;
    }
    segments->buffered = 0;
    segments->appending = false;
    rwlock_lock(&segments->lock);
    if (segments->count > 0) {
        /* After a failed write or sync the kernel may hold for clean what never reached the disk, so nothing more
         * goes to this file. One that was never synced holds nothing that counts; its number is used again. */
        struct segment *last = &segments->table[segments->count - 1];
        last->failed = true;
        if (!last->synced) {
            (void)os_close(segments->os, last->file);
            segments->count--;
        }
    }
    rwlock_unlock(&segments->lock);
}

/* ---- Reading ---- */

static int read_damaged(const struct segments *segments, const char *id, const struct index_view *view,
                        const char *what) {
    log_error(segments->log,
              "damaged data: %s in %s/%08" PRIx32 ".seg at offset %" PRIu64 ", document \"%s\" version %" PRIu64,
              what, segments->directory, view->location.segment, view->location.offset, id, view->info.version);
    return DOCDB_ERR_CORRUPT;
}

int segments_read(struct segments *segments, const char *id, const struct index_view *view, docdb_doc **out) {
    struct segment segment;
    struct segment_record record;
    uint8_t head[SEGMENT_RECORD_HEADER_BYTES + DOCDB_ID_BYTES_MAX];
    size_t id_bytes = strlen(id);
    size_t head_bytes = SEGMENT_RECORD_HEADER_BYTES + id_bytes;
    if (!table_find(segments, view->location.segment, &segment)) {
        return read_damaged(segments, id, view, "no such segment");
    }
    docdb_doc *doc = doc_create((size_t)view->info.bytes);
    if (doc == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int64_t got = os_pread(segments->os, segment.file, head, head_bytes, view->location.offset);
    int64_t got_doc = got < 0 ? got
                              : os_pread(segments->os, segment.file, doc->data, (size_t)view->info.bytes,
                                         view->location.offset + head_bytes);
    int status = DOCDB_OK;
    if (got_doc < 0) {
        log_error(segments->log, "reading %s/%08" PRIx32 ".seg at offset %" PRIu64 " failed: %s",
                  segments->directory, view->location.segment, view->location.offset, strerror((int)-got_doc));
        status = DOCDB_ERR_IO;
    } else if ((size_t)got < head_bytes || !segment_record_decode(head, head_bytes, &record) ||
               record.id_bytes != id_bytes || memcmp(head + SEGMENT_RECORD_HEADER_BYTES, id, id_bytes) != 0 ||
               record.info.version != view->info.version || record.info.bytes != view->info.bytes) {
        status = read_damaged(segments, id, view, "the record's header does not match");
    } else if ((uint64_t)got_doc < view->info.bytes ||
               checksum(doc->data, (size_t)view->info.bytes) != record.checksum ||
               record.checksum != view->checksum) {
        status = read_damaged(segments, id, view, "the document's checksum does not match");
    }
    if (status != DOCDB_OK) {
        docdb_doc_release(doc);
        return status;
    }
    doc->info = view->info;
    doc->checksum = record.checksum;
    *out = doc;
    return DOCDB_OK;
}
