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
             uint64_t store_id, uint64_t file_bytes, uint64_t limit_bytes) {
    *wal = (struct wal){
        .os = os, .log = log, .store_id = store_id, .file_bytes = file_bytes, .limit_bytes = limit_bytes};
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

static void file_close(const struct wal *wal, struct wal_file *file) {
    if (file->file >= 0) {
        (void)os_close(wal->os, file->file);
        file->file = -1;
    }
}

void wal_fini(struct wal *wal) {
    for (size_t i = 0; i < wal->file_count; i++) {
        file_close(wal, &wal->files[i]);
    }
    free(wal->files);
    free(wal->buffer);
    free(wal->directory);
    condition_fini(&wal->made);
    mutex_fini(&wal->mutex);
    wal->files = NULL;
    wal->buffer = NULL;
    wal->directory = NULL;
}

int wal_adopt(struct wal *wal, const struct wal_file *file) {
    mutex_lock(&wal->mutex);
    int status = DOCDB_ERR_MEMORY;
    struct wal_file *files = realloc(wal->files, (wal->file_count + 1) * sizeof *files);
    if (files != NULL) {
        wal->files = files;
        files[wal->file_count] = *file;
        files[wal->file_count++].file = -1;
        atomic_fetch_add(&wal->disk_bytes, file->file_bytes);
        status = DOCDB_OK;
    }
    mutex_unlock(&wal->mutex);
    return status;
}

/* ---- Making files ---- */

/* Fills the file with zeros, so that every block of it is allocated and written once. */
static int zero_fill(struct wal *wal, int file, uint64_t bytes) {
    void *zeros = NULL;
    if (posix_memalign(&zeros, WAL_BLOCK_BYTES, ZERO_CHUNK_BYTES) != 0) {
        return -ENOMEM;
    }
    memset(zeros, 0, ZERO_CHUNK_BYTES);
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

static int header_write(const struct wal *wal, int file, const struct wal_file *made) {
    void *block = NULL;
    if (posix_memalign(&block, WAL_BLOCK_BYTES, WAL_BLOCK_BYTES) != 0) {
        return -ENOMEM;
    }
    memset(block, 0, WAL_BLOCK_BYTES);
    wal_file_header_encode(&(struct wal_file_header){.store_id = wal->store_id,
                                                     .number = made->number,
                                                     .start_lsn = made->start_lsn,
                                                     .file_bytes = made->file_bytes},
                           block);
    int rc = os_pwrite(wal->os, file, block, WAL_BLOCK_BYTES, 0);
    free(block);
    return rc;
}

/* Writes and syncs the header (and, in a new file, the zeros) of `made` under a temporary name. */
static int file_write_new(struct wal *wal, const char *path, const struct wal_file *made, bool reuse) {
    unsigned flags = OS_READ | OS_WRITE | (reuse ? 0u : OS_CREATE | OS_TRUNCATE);
    int file = os_open(wal->os, path, flags | OS_DIRECT); /* past the page cache: see file_writer.h */
    if (file == -EINVAL) {
        file = os_open(wal->os, path, flags);
    }
    int rc = file < 0 ? file : 0;
    if (rc == 0 && !reuse) {
        rc = zero_fill(wal, file, made->file_bytes);
    }
    if (rc == 0) {
        rc = header_write(wal, file, made);
    }
    if (rc == 0) {
        rc = os_sync(wal->os, file);
    }
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

/* A spare is counted already, so using it again makes the log no longer. */
static bool limit_reached(const struct wal *wal) REQUIRES(wal->mutex) {
    bool short_of_space = atomic_load(&wal->is_short) && wal->file_count > 0;
    return wal->spare_count == 0 && (short_of_space || atomic_load(&wal->disk_bytes) >= wal->limit_bytes);
}

/* Makes the file after the last one, from a spare if there is one. The mutex is let go meanwhile. */
static int file_make(struct wal *wal) REQUIRES(wal->mutex) {
    struct wal_file made = {.number = 1, .start_lsn = 0, .file_bytes = wal->file_bytes, .file = -1};
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

/* Is the last file half full? */
static bool wants_file(const struct wal *wal) REQUIRES(wal->mutex) {
    if (wal->file_count == 0) {
        return true;
    }
    const struct wal_file *last = &wal->files[wal->file_count - 1];
    uint64_t at = atomic_load_explicit(&wal->write_lsn, memory_order_relaxed);
    return at > last->start_lsn + last->file_bytes / 2 && !limit_reached(wal);
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
    while (gone + 1 < wal->file_count && wal_file_end(&wal->files[gone]) <= lsn) {
        struct wal_file *file = &wal->files[gone];
        file_close(wal, file);
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

/* Direct and synchronous: one system call makes a batch durable, and the page cache is not filled with the log.
 * File systems without O_DIRECT (tmpfs, some FUSE) get a write and a sync. */
static int file_open(const struct wal *wal, struct wal_file *file) {
    char path[PATH_BYTES];
    if (file->file >= 0) {
        return DOCDB_OK;
    }
    wal_file_path(wal->directory, file->number, path, sizeof path);
    file->file = os_open(wal->os, path, OS_WRITE | OS_DIRECT | OS_DSYNC);
    file->direct = file->file >= 0;
    if (file->file == -EINVAL) {
        file->file = os_open(wal->os, path, OS_WRITE);
    }
    if (file->file < 0) {
        int rc = file->file;
        log_error(wal->log, "can't open the WAL file %s: %s", path, strerror(-rc));
        file->file = -1;
        return error_from_os(rc);
    }
    return DOCDB_OK;
}

int wal_start(struct wal *wal, struct wal_position end) {
    struct wal_position position = {.lsn = round_up(end.lsn, WAL_BLOCK_BYTES), .prev_checksum = end.prev_checksum};
    /* The log ends with its last file, or has none yet: the first batch makes the next one, so that opening needs
     * no space. */
    wal->appended = position;
    wal->write_lsn = position.lsn;
    wal->durable_lsn = end.lsn;
    wal->buffered = 0;
    return DOCDB_OK;
}

static uint64_t log_end(const struct wal *wal) REQUIRES(wal->mutex) {
    return wal->file_count == 0 ? 0 : wal_file_end(&wal->files[wal->file_count - 1]);
}

/* Makes files until the log reaches `end`. */
static int files_ensure(struct wal *wal, uint64_t end) REQUIRES(wal->mutex) {
    int status = DOCDB_OK;
    while (status == DOCDB_OK && (wal->file_count == 0 || log_end(wal) < end)) {
        if (wal->making) {
            condition_wait(&wal->made, &wal->mutex);
        } else if (limit_reached(wal)) {
            status = DOCDB_ERR_BUSY;
        } else {
            status = file_make(wal);
        }
    }
    return status;
}

int wal_batch_begin(struct wal *wal, uint64_t bytes, uint64_t reserve) {
    uint64_t end = wal->appended.lsn + round_up(bytes, WAL_BLOCK_BYTES);
    mutex_lock(&wal->mutex);
    int status = files_ensure(wal, end + reserve);
    for (size_t i = 0; i < wal->file_count && status == DOCDB_OK; i++) {
        struct wal_file *file = &wal->files[i];
        if (wal_file_end(file) > wal->appended.lsn && file->start_lsn < end) {
            status = file_open(wal, file);
        } else if (wal_file_end(file) <= wal->write_lsn) {
            file_close(wal, file); /* full */
        }
    }
    mutex_unlock(&wal->mutex);
    return status;
}

/* The open file that holds `lsn`: wal_batch_begin saw to it. */
static struct wal_file file_holding(struct wal *wal, uint64_t lsn) {
    struct wal_file found = {.file = -1};
    mutex_lock(&wal->mutex);
    for (size_t i = wal->file_count; i-- > 0;) {
        if (lsn >= wal->files[i].start_lsn && lsn < wal_file_end(&wal->files[i])) {
            found = wal->files[i];
            break;
        }
    }
    mutex_unlock(&wal->mutex);
    return found;
}

static int file_write(struct wal *wal, const struct wal_file *file, const uint8_t *data, size_t bytes) {
    uint64_t offset = WAL_BLOCK_BYTES + (wal->write_lsn - file->start_lsn);
    int rc = file->file < 0 ? -EBADF : os_pwrite(wal->os, file->file, data, bytes, offset);
    if (rc == 0 && !file->direct) {
        rc = os_sync(wal->os, file->file);
    }
    if (rc != 0) {
        log_error(wal->log, "writing %zu bytes to WAL file %" PRIu64 " at offset %" PRIu64 " failed: %s", bytes,
                  file->number, offset, strerror(-rc));
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
        struct wal_file file = file_holding(wal, wal->write_lsn);
        uint64_t room = file.file < 0 ? 0 : wal_file_end(&file) - wal->write_lsn;
        size_t chunk = wal->buffered - done < room ? wal->buffered - done : (size_t)room;
        int status = file_write(wal, &file, wal->buffer + done, chunk);
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
