/* See backup.h. */
#include "engine/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "engine/checkpoint.h"
#include "engine/collect.h"
#include "engine/index_file.h"
#include "engine/segments.h"

#define PATH_BYTES      4096
#define NAME_BYTES      48  /* "db/IIIIIIII/CCCCCCCCCCCCCCCC.idx" */
#define CHECKPOINTS_MAX 100 /* each may come upon a drop, but not for ever */

struct backup_file {
    char name[NAME_BYTES]; /* relative to the data directory */
    uint64_t bytes;
};

struct backup {
    docdb_backup api;
    struct engine *engine;
    bool holds; /* the files: to be released */

    uint64_t commit_seq;
    struct backup_file *files; /* in the order in which they are read; MANIFEST comes after them */
    size_t file_count;
    size_t file_capacity;
    uint8_t *manifest;
    size_t manifest_bytes;
    uint64_t total_bytes;

    size_t at; /* the file that is being read; file_count: MANIFEST; above: the end */
    uint64_t offset;
    uint64_t done_bytes;
    int file; /* files[at], or -1 */
    uint8_t *buffer;
};

/* ---- Opening ---- */

/* Adds a file by its whole path. */
static int file_add(struct backup *backup, const char *path, uint64_t bytes) {
    if (backup->file_count == backup->file_capacity) {
        size_t capacity = backup->file_capacity == 0 ? 64 : 2 * backup->file_capacity;
        struct backup_file *files = realloc(backup->files, capacity * sizeof *files);
        if (files == NULL) {
            return DOCDB_ERR_MEMORY;
        }
        backup->files = files;
        backup->file_capacity = capacity;
    }
    struct backup_file *file = &backup->files[backup->file_count++];
    (void)snprintf(file->name, sizeof file->name, "%s", path + strlen(backup->engine->directory) + 1);
    file->bytes = bytes;
    backup->total_bytes += bytes;
    return DOCDB_OK;
}

static int database_add(struct backup *backup, const struct manifest_database *entry) {
    struct engine *engine = backup->engine;
    struct index_file_header expected = {.store_id = engine->store_id, .database_id = entry->id};
    struct index_file_set set;
    char directory[PATH_BYTES];
    char path[PATH_BYTES + 64];
    if (entry->checkpoint_number == 0) {
        return DOCDB_OK; /* it is empty */
    }
    database_path(engine->directory, entry->id, directory, sizeof directory);
    int status = index_file_open(engine->os, &engine->log, directory, entry->checkpoint_number, &expected, &set);
    if (status != DOCDB_OK) {
        return status;
    }
    for (size_t i = 0; i < set.segment_count && status == DOCDB_OK; i++) {
        segment_path(directory, set.segments[i].number, path, sizeof path);
        status = file_add(backup, path, set.segments[i].bytes);
    }
    for (size_t i = 0; i < set.run_count && status == DOCDB_OK; i++) {
        index_file_path(directory, set.runs[i], path, sizeof path);
        status = file_add(backup, path, set.run_bytes[i]);
    }
    index_file_set_fini(&set);
    return status;
}

/* Takes the newest checkpoint and holds its files. END: it is not whole without its log. */
static int checkpoint_hold(struct engine *engine, struct backup *backup) REQUIRES(engine->checkpoint_mutex) {
    struct manifest manifest = engine->manifest;
    if (manifest.lacks_dropped) {
        return DOCDB_ERR_END;
    }
    if (engine->file_holds >= LIMIT_BACKUPS) {
        return DOCDB_ERR_BUSY;
    }
    manifest.replay = (struct wal_position){0};
    int status = manifest_encode(&manifest, &backup->manifest, &backup->manifest_bytes);
    for (uint32_t i = 0; i < manifest.database_count && status == DOCDB_OK; i++) {
        status = database_add(backup, &manifest.databases[i]);
    }
    if (status == DOCDB_OK) {
        backup->commit_seq = manifest.commit_seq;
        backup->total_bytes += backup->manifest_bytes;
        backup->holds = true;
        collect_hold(engine);
    }
    return status;
}

static int checkpoint_take(struct backup *backup) {
    struct engine *engine = backup->engine;
    int status = DOCDB_ERR_END;
    for (unsigned i = 0; i < CHECKPOINTS_MAX && status == DOCDB_ERR_END; i++) {
        status = checkpoint_run(engine);
        if (status == DOCDB_OK) {
            mutex_lock(&engine->checkpoint_mutex);
            status = checkpoint_hold(engine, backup);
            mutex_unlock(&engine->checkpoint_mutex);
        }
    }
    return status == DOCDB_ERR_END ? DOCDB_ERR_BUSY : status;
}

int backup_open(docdb *runtime, docdb_backup **out) {
    struct backup *backup = calloc(1, sizeof *backup);
    if (backup == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    backup->api.backend = &engine_backend;
    backup->engine = engine_of(runtime);
    backup->file = -1;
    backup->buffer = malloc(DOCDB_BACKUP_CHUNK_BYTES_MAX);
    int status = backup->buffer == NULL ? DOCDB_ERR_MEMORY : checkpoint_take(backup);
    if (status != DOCDB_OK) {
        backup_close(&backup->api);
        return status;
    }
    *out = &backup->api;
    return DOCDB_OK;
}

/* ---- Reading ---- */

static int read_failed(const struct backup *backup, int64_t rc, const char *path) {
    bool too_short = rc >= 0;
    log_error(&backup->engine->log, "the backup can't read %s at offset %" PRIu64 ": %s", path, backup->offset,
              too_short ? "damaged data: the file is too short" : strerror((int)-rc));
    return too_short ? DOCDB_ERR_CORRUPT : error_from_os(rc);
}

/* Reads `bytes` bytes of the file that is next into the buffer. */
static int file_read(struct backup *backup, size_t bytes) {
    const struct docdb_os *os = backup->engine->os;
    char path[PATH_BYTES + NAME_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", backup->engine->directory, backup->files[backup->at].name);
    if (backup->file < 0) {
        int file = os_open(os, path, OS_READ);
        if (file < 0) {
            return read_failed(backup, file, path);
        }
        backup->file = file;
    }
    int64_t got = os_pread(os, backup->file, backup->buffer, bytes, backup->offset);
    return got == (int64_t)bytes ? DOCDB_OK : read_failed(backup, got, path);
}

static void file_close(struct backup *backup) {
    if (backup->file >= 0) {
        (void)os_close(backup->engine->os, backup->file);
        backup->file = -1;
    }
}

int backup_next(docdb_backup *api, docdb_backup_chunk *out) {
    struct backup *backup = (struct backup *)api;
    if (backup->at > backup->file_count) {
        return DOCDB_ERR_END;
    }
    bool is_manifest = backup->at == backup->file_count;
    uint64_t file_bytes = is_manifest ? backup->manifest_bytes : backup->files[backup->at].bytes;
    uint64_t left = file_bytes - backup->offset;
    size_t bytes = left < DOCDB_BACKUP_CHUNK_BYTES_MAX ? (size_t)left : DOCDB_BACKUP_CHUNK_BYTES_MAX;
    int status = is_manifest ? DOCDB_OK : file_read(backup, bytes);
    if (status != DOCDB_OK) {
        return status;
    }
    *out = (docdb_backup_chunk){
        .path = is_manifest ? "MANIFEST" : backup->files[backup->at].name,
        .file_bytes = file_bytes,
        .offset = backup->offset,
        .data = is_manifest ? backup->manifest + backup->offset : backup->buffer,
        .bytes = bytes,
        .commit_seq = backup->commit_seq,
        .total_bytes = backup->total_bytes,
        .done_bytes = backup->done_bytes + bytes,
    };
    backup->done_bytes += bytes;
    backup->offset += bytes;
    if (backup->offset == file_bytes) {
        file_close(backup);
        backup->at++;
        backup->offset = 0;
    }
    return DOCDB_OK;
}

/* ---- Closing ---- */

void backup_close(docdb_backup *api) {
    struct backup *backup = (struct backup *)api;
    struct engine *engine = backup->engine;
    file_close(backup);
    if (backup->holds) {
        mutex_lock(&engine->checkpoint_mutex);
        collect_release(engine);
        mutex_unlock(&engine->checkpoint_mutex);
    }
    free(backup->buffer);
    free(backup->manifest);
    free(backup->files);
    free(backup);
}
