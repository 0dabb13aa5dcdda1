/* See wal.h. */
#include "engine/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"

#define PATH_BYTES       4096
#define BUFFER_BYTES     (LIMIT_BATCH_BYTES + WAL_BLOCK_BYTES)
#define ZERO_CHUNK_BYTES ((size_t)1 << 20)

void wal_file_path(const char *directory, uint64_t number, char *out, size_t bytes) {
    (void)snprintf(out, bytes, "%s/%016" PRIx64 ".wal", directory, number);
}

int wal_init(struct wal *wal, const struct docdb_os *os, const struct log *log, const char *data_directory,
             uint64_t store_id, uint64_t file_bytes) {
    *wal = (struct wal){.os = os, .log = log, .store_id = store_id, .file_bytes = file_bytes, .file = -1};
    mutex_init(&wal->mutex);
    condition_init(&wal->made);
    void *buffer = NULL;
    if (asprintf(&wal->directory, "%s/wal", data_directory) < 0) {
        wal->directory = NULL;
        return DOCDB_ERR_MEMORY;
    }
    if (posix_memalign(&buffer, WAL_BLOCK_BYTES, BUFFER_BYTES) != 0) {
        return DOCDB_ERR_MEMORY;
    }
    wal->buffer = buffer;
    return DOCDB_OK;
}

void wal_fini(struct wal *wal) {
    if (wal->file >= 0) {
        (void)os_close(wal->os, wal->file);
    }
    free(wal->files);
    free(wal->buffer);
    free(wal->directory);
    condition_fini(&wal->made);
    mutex_fini(&wal->mutex);
    wal->files = NULL;
    wal->buffer = NULL;
    wal->directory = NULL;
    wal->file = -1;
}

int wal_adopt(struct wal *wal, const struct wal_file *file) {
    mutex_lock(&wal->mutex);
    int status = DOCDB_ERR_MEMORY;
    struct wal_file *files = realloc(wal->files, (wal->file_count + 1) * sizeof *files);
    if (files != NULL) {
        files[wal->file_count++] = *file;
        wal->files = files;
        atomic_fetch_add(&wal->disk_bytes, file->file_bytes);
        status = DOCDB_OK;
    }
    mutex_unlock(&wal->mutex);
    return status;
}

/* ---- Making files ---- */

/* Fills the file with zeros from `from` on, so that every block of it is allocated and written once. */
static int zero_fill(struct wal *wal, int file, uint64_t bytes) {
    uint8_t *zeros = calloc(1, ZERO_CHUNK_BYTES);
    if (zeros == NULL) {
        return -ENOMEM;
    }
    int rc = os_allocate(wal->os, file, 0, bytes);
    if (rc == -EOPNOTSUPP) {
        rc = 0;
    }
    for (uint64_t at = 0; rc == 0 && at < bytes;) {
        size_t chunk = bytes - at < ZERO_CHUNK_BYTES ? (size_t)(bytes - at) : ZERO_CHUNK_BYTES;
        rc = os_pwrite(wal->os, file, zeros, chunk, at);
        at += chunk;
    }
    free(zeros);
    return rc;
}

/* Writes and syncs the header (and, in a new file, the zeros) of `made` under a temporary name. */
static int file_write_new(struct wal *wal, const char *path, const struct wal_file *made, bool reuse) {
    uint8_t *block = NULL;
    int file = os_open(wal->os, path, OS_READ | OS_WRITE | (reuse ? 0 : OS_CREATE | OS_TRUNCATE));
    int rc = file < 0 ? file : 0;
    if (rc == 0 && !reuse) {
        rc = zero_fill(wal, file, made->file_bytes);
    }
    if (rc == 0) {
        block = calloc(1, WAL_BLOCK_BYTES);
        rc = block == NULL ? -ENOMEM : 0;
    }
    if (rc == 0) {
        wal_file_header_encode(&(struct wal_file_header){.store_id = wal->store_id,
                                                         .number = made->number,
                                                         .start_lsn = made->start_lsn,
                                                         .file_bytes = made->file_bytes},
                               block);
        rc = os_pwrite(wal->os, file, block, WAL_BLOCK_BYTES, 0);
    }
    if (rc == 0) {
        rc = os_sync(wal->os, file);
    }
    free(block);
    if (file >= 0) {
        (void)os_close(wal->os, file);
    }
    return rc;
}

/* Gives `made` its content and its name; durable when this returns 0. `spare`: the file to use again, or NULL. */
static int file_make_on_disk(struct wal *wal, const struct wal_file *made, const struct wal_file *spare) {
    char temporary[PATH_BYTES];
    char path[PATH_BYTES];
    int rc = 0;
    (void)snprintf(temporary, sizeof temporary, "%s/next.tmp", wal->directory);
    if (spare != NULL) {
        wal_file_path(wal->directory, spare->number, path, sizeof path);
        rc = os_rename(wal->os, path, temporary);
        if (rc == 0) {
            rc = os_sync_directory(wal->os,
                                   wal->directory); /* else a crash could leave the new header under the old name */
        }
    }
    if (rc == 0) {
        rc = file_write_new(wal, temporary, made, spare != NULL);
    }
    if (rc == 0) {
        wal_file_path(wal->directory, made->number, path, sizeof path);
        rc = os_rename(wal->os, temporary, path);
    }
    if (rc == 0) {
        rc = os_sync_directory(wal->os, wal->directory);
    }
    if (rc != 0) {
        log_error(wal->log, "can't make the WAL file %" PRIu64 " in %s: %s", made->number, wal->directory,
                  strerror(-rc));
        (void)os_unlink(wal->os, temporary);
    }
    return rc;
}

/* Makes the file after the last one, from a spare if there is one. The mutex is let go meanwhile. */
static int file_make(struct wal *wal) REQUIRES(wal->mutex) {
    struct wal_file made = {.number = 1, .start_lsn = 0, .file_bytes = wal->file_bytes};
    struct wal_file spare;
    struct wal_file *files = realloc(wal->files, (wal->file_count + 1) * sizeof *files);
    if (files == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    wal->files = files;
    if (wal->file_count > 0) {
        made.number = files[wal->file_count - 1].number + 1;
        made.start_lsn = wal_file_end(&files[wal->file_count - 1]);
    }
    bool reuse = wal->spare_count > 0;
    if (reuse) {
        spare = wal->spares[--wal->spare_count];
        made.file_bytes = spare.file_bytes;
    }
    wal->making = true;
    mutex_unlock(&wal->mutex);
    int rc = file_make_on_disk(wal, &made, reuse ? &spare : NULL);
    mutex_lock(&wal->mutex);
    wal->making = false;
    condition_broadcast(&wal->made);
    if (rc != 0) {
        if (reuse) {
            atomic_fetch_sub(&wal->disk_bytes, made.file_bytes);
        }
        return error_from_os(rc);
    }
    /* wal_release may have moved the table meanwhile, but no one else makes it longer. */
    wal->files[wal->file_count++] = made;
    if (!reuse) {
        atomic_fetch_add(&wal->disk_bytes, made.file_bytes);
    }
    return DOCDB_OK;
}

static bool wants_file(const struct wal *wal) REQUIRES(wal->mutex) {
    uint64_t used = atomic_load_explicit(&wal->write_lsn, memory_order_relaxed) - wal->current.start_lsn;
    return wal->file_count == 0 ||
           (wal->files[wal->file_count - 1].number == wal->current.number && used > wal->current.file_bytes / 2);
}

bool wal_wants_file(struct wal *wal) {
    mutex_lock(&wal->mutex);
    bool wanted = wants_file(wal) && !wal->making;
    mutex_unlock(&wal->mutex);
    return wanted;
}

int wal_prepare(struct wal *wal) {
    mutex_lock(&wal->mutex);
    int status = wants_file(wal) && !wal->making ? file_make(wal) : DOCDB_OK;
    mutex_unlock(&wal->mutex);
    return status;
}

int wal_release(struct wal *wal, uint64_t lsn) {
    char path[PATH_BYTES];
    int rc = 0;
    mutex_lock(&wal->mutex);
    size_t gone = 0;
    while (gone + 1 < wal->file_count && wal_file_end(&wal->files[gone]) <= lsn &&
           wal->files[gone].number < wal->current.number) {
        const struct wal_file *file = &wal->files[gone];
        if (wal->spare_count < sizeof wal->spares / sizeof wal->spares[0] && file->file_bytes == wal->file_bytes) {
            wal->spares[wal->spare_count++] = *file;
        } else {
            wal_file_path(wal->directory, file->number, path, sizeof path);
            rc = os_unlink(wal->os, path);
            if (rc != 0 && rc != -ENOENT) {
                log_warning(wal->log, "can't remove the WAL file %s: %s", path, strerror(-rc));
            }
            atomic_fetch_sub(&wal->disk_bytes, file->file_bytes);
        }
        gone++;
    }
    memmove(wal->files, wal->files + gone, (wal->file_count - gone) * sizeof *wal->files);
    wal->file_count -= gone;
    mutex_unlock(&wal->mutex);
    return error_from_os(rc);
}

/* ---- Writing ---- */

static int current_open(struct wal *wal, const struct wal_file *file) {
    char path[PATH_BYTES];
    wal_file_path(wal->directory, file->number, path, sizeof path);
    if (wal->file >= 0) {
        (void)os_close(wal->os, wal->file);
    }
    /* Direct and synchronous: one system call makes a batch durable, and the page cache is not filled with the log.
     * File systems without O_DIRECT (tmpfs, some FUSE) get a write and a sync. */
    wal->file = os_open(wal->os, path, OS_WRITE | OS_DIRECT | OS_DSYNC);
    wal->direct = wal->file >= 0;
    if (wal->file < 0) {
        wal->file = os_open(wal->os, path, OS_WRITE);
    }
    if (wal->file < 0) {
        log_error(wal->log, "can't open the WAL file %s: %s", path, strerror(-wal->file));
        return error_from_os(wal->file);
    }
    mutex_lock(&wal->mutex);
    wal->current = *file;
    mutex_unlock(&wal->mutex);
    return DOCDB_OK;
}

/* Opens the adopted or prepared file that holds `lsn`. */
static int file_holding(struct wal *wal, uint64_t lsn, struct wal_file *out) {
    int status = DOCDB_ERR_NOT_FOUND;
    mutex_lock(&wal->mutex);
    for (size_t i = 0; i < wal->file_count; i++) {
        if (lsn >= wal->files[i].start_lsn && lsn < wal_file_end(&wal->files[i])) {
            *out = wal->files[i];
            status = DOCDB_OK;
            break;
        }
    }
    mutex_unlock(&wal->mutex);
    return status;
}

int wal_start(struct wal *wal, struct wal_position end) {
    struct wal_file file;
    struct wal_position position = {.lsn = round_up(end.lsn, WAL_BLOCK_BYTES), .prev_checksum = end.prev_checksum};
    wal->appended = position;
    wal->write_lsn = position.lsn;
    wal->durable_lsn = end.lsn;
    wal->buffered = 0;
    if (file_holding(wal, position.lsn, &file) == DOCDB_OK) {
        return current_open(wal, &file);
    }
    /* The log ends with its last file, or has none yet: the first batch makes the next one, so that opening needs
     * no space. */
    mutex_lock(&wal->mutex);
    wal->current = wal->file_count > 0
                       ? wal->files[wal->file_count - 1]
                       : (struct wal_file){.start_lsn = position.lsn, .file_bytes = WAL_BLOCK_BYTES};
    mutex_unlock(&wal->mutex);
    return DOCDB_OK;
}

int wal_batch_begin(struct wal *wal, uint64_t bytes) {
    uint64_t end = wal->appended.lsn + round_up(bytes, WAL_BLOCK_BYTES);
    int status = DOCDB_OK;
    mutex_lock(&wal->mutex);
    while (status == DOCDB_OK && (wal->file_count == 0 || wal_file_end(&wal->files[wal->file_count - 1]) < end)) {
        if (wal->making) {
            condition_wait(&wal->made, &wal->mutex);
        } else {
            status = wal->file_count < WAL_FILES_MAX ? file_make(wal) : DOCDB_ERR_NO_SPACE;
        }
    }
    mutex_unlock(&wal->mutex);
    return status;
}

static int file_write(struct wal *wal, const uint8_t *data, size_t bytes) {
    uint64_t offset = WAL_BLOCK_BYTES + (wal->write_lsn - wal->current.start_lsn);
    int rc = os_pwrite(wal->os, wal->file, data, bytes, offset);
    if (rc == 0 && !wal->direct) {
        rc = os_sync(wal->os, wal->file);
    }
    if (rc != 0) {
        log_error(wal->log, "writing %zu bytes to WAL file %" PRIu64 " at offset %" PRIu64 " failed: %s", bytes,
                  wal->current.number, offset, strerror(-rc));
        return DOCDB_ERR_IO;
    }
    wal->write_lsn += bytes;
    atomic_fetch_add_explicit(&wal->written_bytes, bytes, memory_order_relaxed);
    return DOCDB_OK;
}

/* Writes the whole blocks of the buffer, through as many files as they take. */
static int buffer_write(struct wal *wal) {
    size_t done = 0;
    while (done < wal->buffered) {
        uint64_t room = wal_file_end(&wal->current) - wal->write_lsn;
        if (room == 0) {
            struct wal_file next;
            int status = file_holding(wal, wal->write_lsn, &next); /* wal_batch_begin made it */
            if (status == DOCDB_OK) {
                status = current_open(wal, &next);
            }
            if (status != DOCDB_OK) {
                return DOCDB_ERR_IO;
            }
            continue;
        }
        size_t chunk = wal->buffered - done < room ? wal->buffered - done : (size_t)room;
        int status = file_write(wal, wal->buffer + done, chunk);
        if (status != DOCDB_OK) {
            return status;
        }
        done += chunk;
    }
    wal->buffered = 0;
    return DOCDB_OK;
}

static int buffer_append(struct wal *wal, const void *data, size_t bytes) {
    while (bytes > 0) {
        if (wal->buffered == BUFFER_BYTES) {
            int status = buffer_write(wal);
            if (status != DOCDB_OK) {
                return status;
            }
        }
        size_t chunk = BUFFER_BYTES - wal->buffered < bytes ? BUFFER_BYTES - wal->buffered : bytes;
        memcpy(wal->buffer + wal->buffered, data, chunk);
        wal->buffered += chunk;
        data = (const uint8_t *)data + chunk;
        bytes -= chunk;
    }
    return DOCDB_OK;
}

static int buffer_pad(struct wal *wal, uint64_t alignment) {
    static const uint8_t zeros[WAL_BLOCK_BYTES];
    size_t padding = (size_t)(round_up(wal->buffered, alignment) - wal->buffered);
    return buffer_append(wal, zeros, padding);
}

int wal_record_append(struct wal *wal, struct wal_append *append) {
    uint8_t bytes[WAL_RECORD_HEADER_BYTES];
    struct wal_record_header *header = &append->header;
    header->docs_bytes = 0;
    for (size_t i = 0; i < append->doc_count; i++) {
        header->docs_bytes += round_up(append->docs[i]->info.bytes, 8);
    }
    header->lsn = wal->appended.lsn;
    header->durable_lsn = wal->durable_lsn;
    header->prev_checksum = wal->appended.prev_checksum;
    wal_record_header_encode(header, append->meta, bytes);
    wal->appended.lsn += wal_record_bytes(header);
    wal->appended.prev_checksum = header->checksum;

    int status = buffer_append(wal, bytes, sizeof bytes);
    if (status == DOCDB_OK) {
        status = buffer_append(wal, append->meta, (size_t)header->meta_bytes);
    }
    for (size_t i = 0; status == DOCDB_OK && i < append->doc_count; i++) {
        status = buffer_append(wal, append->docs[i]->data, (size_t)append->docs[i]->info.bytes);
        if (status == DOCDB_OK) {
            status = buffer_pad(wal, 8);
        }
    }
    return status;
}

int wal_batch_write(struct wal *wal) {
    int status = buffer_pad(wal, WAL_BLOCK_BYTES);
    if (status == DOCDB_OK) {
        status = buffer_write(wal);
    }
    if (status == DOCDB_OK) {
        wal->durable_lsn = wal->appended.lsn;
        wal->appended.lsn = wal->write_lsn;
    }
    return status;
}
