/* See checkpoint.h. */
#include "engine/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "engine/index_file.h"
#include "engine/manifest.h"

#define PATH_BYTES 4096
#define MOVES_MAX  1024u /* documents appended to a segment before they are synced and relocated */
#define RETRY_MS   1000  /* after a checkpoint that failed */

/* What a checkpoint is of: taken at one moment. */
struct checkpoint {
    struct engine *engine;
    struct snapshot snapshot;
    struct commit_position position;
    uint32_t next_database_id;
    uint64_t number;
    struct database **databases;
    size_t database_count;
};

/* A document that was appended to a segment and is not yet synced. */
struct move {
    char id[DOCDB_ID_BYTES_MAX + 1];
    uint64_t version;
    struct location location;
};

/* The walk through one database. */
struct walk {
    struct checkpoint *checkpoint;
    struct database *database;
    struct index_writer writer;
    struct index_item *items;
    struct move *moves;
    size_t move_count;
};

/* ---- One database ---- */

/* Makes the appended documents durable and tells the index where they are. */
static int moves_flush(struct walk *walk) {
    struct engine *engine = walk->checkpoint->engine;
    if (walk->move_count == 0) {
        return DOCDB_OK;
    }
    int status = segments_sync(&walk->database->segments);
    for (size_t i = 0; i < walk->move_count && status == DOCDB_OK; i++) {
        bool evict = atomic_load_explicit(&engine->resident_bytes, memory_order_relaxed) > LIMIT_RESIDENT_BYTES;
        index_relocate(walk->database->index, walk->moves[i].id, walk->moves[i].version, walk->moves[i].location,
                       evict);
    }
    walk->move_count = 0;
    return status;
}

static int item_write(struct walk *walk, struct index_item *item) {
    struct index_view *view = &item->view;
    int status = DOCDB_OK;
    if (view->location.segment == 0) {
        if (walk->move_count == MOVES_MAX) {
            status = moves_flush(walk);
        }
        if (status == DOCDB_OK) {
            status = segments_append(&walk->database->segments, item->id, view->doc, &view->info, &view->location);
        }
        if (status == DOCDB_OK) {
            struct move *move = &walk->moves[walk->move_count++];
            memcpy(move->id, item->id, sizeof move->id);
            move->version = view->info.version;
            move->location = view->location;
        }
    }
    if (status == DOCDB_OK) {
        status = index_writer_add(&walk->writer, &(struct index_file_entry){.id = item->id,
                                                                            .info = view->info,
                                                                            .checksum = view->checksum,
                                                                            .location = view->location});
    }
    return status;
}

static int documents_write(struct walk *walk) {
    char from[DOCDB_ID_BYTES_MAX + 1] = "";
    bool end = false;
    bool after = false;
    int status = DOCDB_OK;
    while (!end && status == DOCDB_OK) {
        size_t count = index_scan(walk->database->index, from, strlen(from), after, NULL,
                                  walk->checkpoint->snapshot.seq, true, walk->items, LIMIT_SCAN_CHUNK, from, &end);
        after = true;
        for (size_t i = 0; i < count; i++) {
            if (status == DOCDB_OK) {
                status = item_write(walk, &walk->items[i]);
            }
            docdb_doc_release(walk->items[i].view.doc);
        }
    }
    return status == DOCDB_OK ? moves_flush(walk) : status;
}

static int index_file_finish(struct walk *walk) {
    struct segment *segments = NULL;
    size_t count = 0;
    int status = segments_list(&walk->database->segments, &segments, &count);
    if (status != DOCDB_OK) {
        index_writer_abort(&walk->writer);
        return status;
    }
    status = index_writer_finish(&walk->writer,
                                 &(struct index_file_header){.store_id = walk->checkpoint->engine->store_id,
                                                             .database_id = walk->database->id,
                                                             .commit_seq = walk->checkpoint->snapshot.seq},
                                 segments, count);
    free(segments);
    return status;
}

static int directory_make(struct engine *engine, const char *path) {
    char parent[PATH_BYTES];
    int rc = os_mkdir(engine->os, path);
    (void)snprintf(parent, sizeof parent, "%s/db", engine->directory);
    if (rc == 0 || rc == -EEXIST) { /* it may be left from a checkpoint that failed before this */
        rc = os_sync_directory(engine->os, parent);
    }
    return error_from_os(rc);
}

/* Writes the segments' new documents and the index file of one database. Durable when it returns DOCDB_OK. */
static int database_write(struct checkpoint *checkpoint, struct database *database) {
    struct engine *engine = checkpoint->engine;
    struct walk walk = {.checkpoint = checkpoint, .database = database};
    char directory[PATH_BYTES];
    char path[PATH_BYTES];
    database_path(engine->directory, database->id, directory, sizeof directory);
    index_file_path(directory, checkpoint->number, path, sizeof path);
    walk.items = malloc(LIMIT_SCAN_CHUNK * sizeof *walk.items);
    walk.moves = malloc(MOVES_MAX * sizeof *walk.moves);
    int status = walk.items == NULL || walk.moves == NULL ? DOCDB_ERR_MEMORY : directory_make(engine, directory);
    if (status == DOCDB_OK) {
        status = index_writer_open(&walk.writer, engine->os, path);
    }
    if (status == DOCDB_OK) {
        status = documents_write(&walk);
        if (status == DOCDB_OK) {
            status = index_file_finish(&walk);
        } else {
            index_writer_abort(&walk.writer);
        }
    }
    if (status == DOCDB_OK) {
        status = error_from_os(os_sync_directory(engine->os, directory));
    }
    if (status != DOCDB_OK) {
        segments_rollback(&database->segments);
    }
    free(walk.items);
    free(walk.moves);
    return status;
}

/* ---- The whole ---- */

/* Takes the snapshot, the place in the log after it, and the databases of that moment. */
static int checkpoint_take(struct engine *engine, struct checkpoint *checkpoint)
    REQUIRES(engine->checkpoint_mutex) {
    /* Each try has a number of its own: the manifest of one that failed may be on the disk all the same, and names
     * its files. */
    *checkpoint = (struct checkpoint){.engine = engine, .number = ++engine->checkpoint_number};
    mutex_lock(&engine->position_mutex);
    bool acquired = snapshot_acquire(&engine->snapshots, &checkpoint->snapshot);
    checkpoint->position = engine->position;
    checkpoint->next_database_id = engine->position_next_database_id;
    int status = acquired ? catalog_list(&engine->catalog, &checkpoint->databases, &checkpoint->database_count)
                          : DOCDB_ERR_BUSY;
    mutex_unlock(&engine->position_mutex);
    if (acquired && status != DOCDB_OK) {
        (void)snapshot_release(&engine->snapshots, &checkpoint->snapshot);
    }
    return status;
}

/* The manifest of a checkpoint whose files are written. */
static int manifest_fill(const struct checkpoint *checkpoint, const bool *written, struct manifest *out) {
    *out = (struct manifest){.store_id = checkpoint->engine->store_id,
                             .checkpoint_number = checkpoint->number,
                             .commit_seq = checkpoint->snapshot.seq,
                             .replay = checkpoint->position.wal,
                             .next_database_id = checkpoint->next_database_id,
                             .database_count = (uint32_t)checkpoint->database_count};
    out->databases = calloc(checkpoint->database_count + 1, sizeof *out->databases);
    if (out->databases == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < checkpoint->database_count; i++) {
        const struct database *database = checkpoint->databases[i];
        struct manifest_database *entry = &out->databases[i];
        entry->id = database->id;
        memcpy(entry->name, database->name, sizeof entry->name);
        entry->checkpoint_number = written[i] ? checkpoint->number : database->checkpoint_number;
        entry->checkpoint_seq = written[i] ? checkpoint->snapshot.seq : database->checkpoint_seq;
        entry->change_time_ns = atomic_load(&database->change_time_ns);
    }
    return DOCDB_OK;
}

/* Everything up to the new manifest, and what it makes garbage. */
static int checkpoint_write(struct checkpoint *checkpoint) {
    struct engine *engine = checkpoint->engine;
    struct manifest manifest = {0};
    bool *written = calloc(checkpoint->database_count + 1, sizeof *written);
    int status = written == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    for (size_t i = 0; i < checkpoint->database_count && status == DOCDB_OK; i++) {
        struct database *database = checkpoint->databases[i];
        if (atomic_load(&database->newest_commit_seq) > database->checkpoint_seq) {
            status = database_write(checkpoint, database);
            written[i] = true;
        }
    }
    if (status == DOCDB_OK) {
        status = manifest_fill(checkpoint, written, &manifest);
    }
    if (status == DOCDB_OK) {
        status = manifest_write(engine->os, engine->directory, &manifest);
    }
    if (status == DOCDB_OK) {
        for (size_t i = 0; i < checkpoint->database_count; i++) {
            checkpoint->databases[i]->checkpoint_number = manifest.databases[i].checkpoint_number;
            checkpoint->databases[i]->checkpoint_seq = manifest.databases[i].checkpoint_seq;
        }
        checkpoint_collect(engine, &manifest);
    }
    manifest_fini(&manifest);
    free(written);
    return status;
}

static int checkpoint_locked(struct engine *engine) REQUIRES(engine->checkpoint_mutex) {
    struct checkpoint checkpoint;
    int status = checkpoint_take(engine, &checkpoint);
    if (status != DOCDB_OK) {
        return status;
    }
    bool changed = checkpoint.snapshot.seq != atomic_load(&engine->checkpoint_seq);
    if (changed) {
        status = checkpoint_write(&checkpoint);
    }
    if (changed && status == DOCDB_OK) {
        atomic_store(&engine->checkpoint_seq, checkpoint.snapshot.seq);
        atomic_store(&engine->checkpoint_lsn, checkpoint.position.wal.lsn);
        atomic_fetch_add(&engine->checkpoints, 1);
        (void)wal_release(&engine->wal, checkpoint.position.wal.lsn);
    }
    (void)snapshot_release(&engine->snapshots, &checkpoint.snapshot);
    catalog_list_free(checkpoint.databases, checkpoint.database_count);
    engine_reclaim(engine);
    return status;
}

int checkpoint_run(struct engine *engine) {
    if (atomic_load(&engine->read_only)) {
        return DOCDB_ERR_READ_ONLY;
    }
    mutex_lock(&engine->checkpoint_mutex);
    int status = checkpoint_locked(engine);
    if (status != DOCDB_OK) {
        log_error(&engine->log, "the checkpoint failed (%s); nothing is lost, the WAL keeps everything",
                  docdb_error_text(status));
    }
    mutex_unlock(&engine->checkpoint_mutex);
    return status;
}

/* ---- Collecting garbage files ---- */

/* One database's directory. What counts is the manifest, which a crash goes back to, not the catalog of this
 * moment: a database that was dropped since keeps its files until a manifest without it is on the disk. */
struct collecting {
    struct engine *engine;
    const struct manifest *manifest;
    const struct manifest_database *entry; /* NULL: not in the manifest */
    struct segment *segments;              /* of a database that still exists, else NULL: then all are wanted */
    size_t segment_count;
    char directory[PATH_BYTES];
};

static bool segment_wanted(const struct collecting *collecting, uint64_t number) {
    bool wanted = collecting->segments == NULL;
    for (size_t i = 0; i < collecting->segment_count && !wanted; i++) {
        wanted = collecting->segments[i].number == number;
    }
    return wanted;
}

static bool file_wanted(const struct collecting *collecting, const char *name) {
    char *end = NULL;
    unsigned long long number = strtoull(name, &end, 16);
    if (collecting->entry == NULL) {
        return false;
    }
    if (strcmp(end, ".idx") == 0) {
        return number == collecting->entry->checkpoint_number;
    }
    return strcmp(end, ".seg") != 0 ||
           segment_wanted(collecting, number); /* other files are not ours: left alone */
}

static int file_collect(void *arg, const char *name) {
    const struct collecting *collecting = arg;
    char path[PATH_BYTES + 256];
    if (!file_wanted(collecting, name)) {
        (void)snprintf(path, sizeof path, "%s/%s", collecting->directory, name);
        int rc = os_unlink(collecting->engine->os, path);
        if (rc != 0) {
            log_warning(&collecting->engine->log, "can't remove %s, which is not used any more: %s", path,
                        strerror(-rc));
        }
    }
    return 0;
}

static void database_collect(struct collecting *collecting, uint32_t id) {
    struct engine *engine = collecting->engine;
    struct database *database = catalog_find_id(&engine->catalog, id);
    collecting->entry = NULL;
    collecting->segments = NULL;
    collecting->segment_count = 0;
    for (uint32_t i = 0; i < collecting->manifest->database_count; i++) {
        if (collecting->manifest->databases[i].id == id) {
            collecting->entry = &collecting->manifest->databases[i];
        }
    }
    database_path(engine->directory, id, collecting->directory, sizeof collecting->directory);
    if (database == NULL ||
        segments_list(&database->segments, &collecting->segments, &collecting->segment_count) == DOCDB_OK) {
        (void)os_list(engine->os, collecting->directory, file_collect, collecting);
    }
    if (collecting->entry == NULL) {
        (void)os_rmdir(engine->os, collecting->directory);
    }
    free(collecting->segments);
    database_release(database);
}

static int directory_collect(void *arg, const char *name) {
    char *end = NULL;
    unsigned long id = strtoul(name, &end, 16);
    if (*end == '\0' && id != 0) {
        database_collect(arg, (uint32_t)id);
    }
    return 0;
}

void checkpoint_collect(struct engine *engine, const struct manifest *manifest) {
    char path[PATH_BYTES];
    struct collecting *collecting = calloc(1, sizeof *collecting);
    if (collecting == NULL) {
        return; /* the next checkpoint collects */
    }
    collecting->engine = engine;
    collecting->manifest = manifest;
    (void)snprintf(path, sizeof path, "%s/db", engine->directory);
    (void)os_list(engine->os, path, directory_collect, collecting);
    free(collecting);
}

/* ---- The background thread ---- */

void engine_wake_maintenance(struct engine *engine, bool checkpoint_wanted) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->checkpoint_wanted = maintenance->checkpoint_wanted || checkpoint_wanted;
    if (!maintenance->wake_wanted) {
        maintenance->wake_wanted = true;
        condition_signal(&maintenance->wake);
    }
    mutex_unlock(&maintenance->mutex);
}

static bool checkpoint_due(struct engine *engine) {
    mutex_lock(&engine->position_mutex);
    uint64_t lsn = engine->position.wal.lsn;
    mutex_unlock(&engine->position_mutex);
    return lsn - atomic_load(&engine->checkpoint_lsn) > engine->wal_limit_bytes / 2;
}

/* One round of work. Returns DOCDB_OK, or what failed. */
static int maintenance_step(struct engine *engine, bool checkpoint_wanted) {
    int status = wal_wants_file(&engine->wal) ? wal_prepare(&engine->wal) : DOCDB_OK;
    if (status == DOCDB_OK && (checkpoint_wanted || checkpoint_due(engine))) {
        status = checkpoint_run(engine);
    }
    return status;
}

static void *maintenance_main(void *arg) {
    struct engine *engine = arg;
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    while (!maintenance->stop) {
        if (!maintenance->wake_wanted) {
            condition_wait(&maintenance->wake, &maintenance->mutex);
            continue;
        }
        bool checkpoint_wanted = maintenance->checkpoint_wanted;
        maintenance->wake_wanted = false;
        maintenance->checkpoint_wanted = false;
        mutex_unlock(&maintenance->mutex);
        int status = atomic_load(&engine->read_only) ? DOCDB_OK : maintenance_step(engine, checkpoint_wanted);
        mutex_lock(&maintenance->mutex);
        if (status != DOCDB_OK && !maintenance->stop) {
            (void)condition_wait_ms(&maintenance->wake, &maintenance->mutex, RETRY_MS);
        }
    }
    mutex_unlock(&maintenance->mutex);
    return NULL;
}

int maintenance_start(struct engine *engine) {
    if (thread_start(&engine->maintenance.thread, "docdb-maintain", maintenance_main, engine) != 0) {
        return DOCDB_ERR_MEMORY;
    }
    engine->maintenance.started = true;
    return DOCDB_OK;
}

void maintenance_stop(struct engine *engine) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->stop = true;
    condition_broadcast(&maintenance->wake);
    mutex_unlock(&maintenance->mutex);
    if (maintenance->started) {
        thread_join(maintenance->thread);
        maintenance->started = false;
    }
}
