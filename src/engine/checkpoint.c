/* See checkpoint.h. */
#include "engine/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "engine/collect.h"
#include "engine/index_file.h"
#include "engine/maintenance.h"

#define PATH_BYTES      4096
#define MOVES_MAX       16384u /* documents appended to a segment before they are synced and relocated */
#define UNSYNCED_BYTES  ((uint64_t)8 << 20) /* and bytes of them */
#define SETTLE_CHUNK    256u                /* entries settled under one hold of `apply` */
#define HOUSEKEEP_EVERY 4096u               /* entries between two looks at what else the thread has to do */

/* A document that was appended to a segment and is not yet synced. */
struct move {
    const struct entry *entry;
    uint64_t version;
    struct location location;
};

/* What is written of one database. */
struct part {
    struct checkpoint *checkpoint;
    struct database *database;
    struct dirty_list dirty;
    uint32_t *dead; /* segments that go with this checkpoint */
    size_t dead_count;

    struct index_writer writer;
    struct segment_appender appender;
    size_t move_count;
    uint64_t unsynced_end; /* of the appender, at the last sync */

    uint64_t runs[INDEX_RUNS_MAX + 1]; /* as they will be, with their sizes */
    uint64_t run_bytes[INDEX_RUNS_MAX + 1];
    size_t run_count;
    bool is_written; /* there is a new run */
};

/* What a checkpoint is of: taken at one moment. */
struct checkpoint {
    struct engine *engine;
    struct snapshot snapshot;
    struct commit_position position;
    uint32_t next_database_id;
    struct part *parts;
    size_t part_count;
    struct move *moves; /* of the part that is being written */
};

static bool part_dropped(const struct part *part) { return atomic_load(&part->database->dropped); }

/* ---- Documents ---- */

/* Makes the appended documents durable and tells the index where they are. */
static int moves_flush(struct part *part) {
    struct engine *engine = part->checkpoint->engine;
    if (part->move_count == 0) {
        return DOCDB_OK;
    }
    int status = appender_sync(&part->appender);
    for (size_t i = 0; i < part->move_count && status == DOCDB_OK; i++) {
        const struct move *move = &part->checkpoint->moves[i];
        bool evict = atomic_load_explicit(&engine->resident_bytes, memory_order_relaxed) > engine->memory_bytes;
        (void)index_relocate(part->database->index, move->entry->id, move->version, move->location, evict);
    }
    part->move_count = 0;
    if (status == DOCDB_OK && appender_is_full(&part->appender, database_segment_bytes(part->database))) {
        appender_close(&part->appender);
    }
    maintenance_housekeep(engine);
    return status;
}

static int document_append(struct part *part, const struct entry *entry, struct index_item *item) {
    struct index_view *view = &item->view;
    uint64_t segment_bytes = database_segment_bytes(part->database);
    int status = DOCDB_OK;
    bool full = part->appender.segment != NULL &&
                file_writer_end(&part->appender.writer) - part->appender.synced_end > UNSYNCED_BYTES;
    if (part->move_count == MOVES_MAX || full) {
        status = moves_flush(part);
    }
    if (status == DOCDB_OK) {
        status = appender_append(&part->appender, segment_bytes, item->id, view->doc, &view->info, &view->location);
    }
    if (status == DOCDB_OK) {
        part->checkpoint->moves[part->move_count++] =
            (struct move){.entry = entry, .version = view->info.version, .location = view->location};
    }
    return status;
}

/* Writes what the snapshot sees of a dirty entry. */
static int entry_write(struct part *part, const struct entry *entry) {
    struct index_item item;
    uint64_t seq = part->checkpoint->snapshot.seq;
    bool tombstone = index_dirty_item(part->database->index, entry, seq, &item) == DIRTY_DELETED;
    if (tombstone && part->run_count == 0) {
        return DOCDB_OK; /* nothing below that it would hide */
    }
    int status = DOCDB_OK;
    if (!tombstone && item.view.location.segment == 0) {
        status = document_append(part, entry, &item);
    }
    docdb_doc_release(item.view.doc);
    if (status != DOCDB_OK) {
        return status;
    }
    struct index_file_entry out = {.id = item.id,
                                   .id_bytes = (uint8_t)strlen(item.id),
                                   .tombstone = tombstone,
                                   .info = item.view.info,
                                   .location = item.view.location};
    if (tombstone) {
        out.info.version = seq;
    }
    return index_writer_add(&part->writer, &out);
}

static int entries_write(struct part *part) {
    int status = DOCDB_OK;
    index_dirty_sort(&part->dirty);
    for (size_t i = 0; i < part->dirty.count && status == DOCDB_OK; i++) {
        if (i % HOUSEKEEP_EVERY == 0) {
            maintenance_housekeep(part->checkpoint->engine);
        }
        status = part_dropped(part) ? DOCDB_ERR_NO_DATABASE : entry_write(part, part->dirty.entries[i]);
    }
    return status == DOCDB_OK ? moves_flush(part) : status;
}

/* ---- Runs ---- */

static uint64_t number_next(struct engine *engine) REQUIRES(engine->checkpoint_mutex) {
    return ++engine->checkpoint_number;
}

/* Finishes a run that stands on the first `below` runs of the part, and makes it the newest one. */
static int run_finish(struct part *part, struct index_writer *writer, size_t below, uint64_t number) {
    const struct engine *engine = part->checkpoint->engine;
    struct segment_extent *segments = NULL;
    size_t count = 0;
    struct index_file_header header = {.store_id = engine->store_id,
                                       .database_id = part->database->id,
                                       .number = number,
                                       .commit_seq = part->checkpoint->snapshot.seq};
    int status = segments_list(&part->database->segments, part->dead, part->dead_count, &segments, &count);
    if (status != DOCDB_OK) {
        index_writer_abort(writer);
        return status;
    }
    status = index_writer_finish(writer, &header, part->runs, below, segments, count);
    free(segments);
    if (status == DOCDB_OK) {
        part->runs[below] = number;
        part->run_bytes[below] = header.file_bytes;
        part->run_count = below + 1;
    }
    return status;
}

static int run_create(struct part *part, struct index_writer *writer, const char *directory, uint64_t number) {
    char path[PATH_BYTES];
    index_file_path(directory, number, path, sizeof path);
    int status = index_writer_open(writer, part->checkpoint->engine->os, path);
    if (status != DOCDB_OK) {
        log_error(&part->checkpoint->engine->log, "can't create the index file %s of database \"%s\": %s", path,
                  part->database->name, docdb_error_text(status));
    }
    return status;
}

/* From which run on the runs are worth merging: each of them is no larger than those above it together. */
static size_t merge_from(const struct part *part) {
    size_t from = part->run_count - 1;
    uint64_t above = part->run_bytes[from];
    while (from > 0 && (part->run_bytes[from - 1] <= above || from > INDEX_RUNS_MAX - 1)) {
        from--;
        above += part->run_bytes[from];
    }
    return from;
}

struct merging {
    struct part *part;
    struct index_writer writer;
    uint32_t count;
};

static int merge_entry(void *arg, const struct index_file_entry *entry) {
    struct merging *merging = arg;
    if (merging->count++ % HOUSEKEEP_EVERY == 0) {
        maintenance_housekeep(merging->part->checkpoint->engine);
        if (part_dropped(merging->part)) {
            return DOCDB_ERR_NO_DATABASE;
        }
    }
    return index_writer_add(&merging->writer, entry);
}

/* Merges the newest runs into one. */
static int runs_merge(struct engine *engine, struct part *part, const char *directory)
    REQUIRES(engine->checkpoint_mutex) {
    size_t from = merge_from(part);
    if (from == part->run_count - 1) {
        return DOCDB_OK;
    }
    struct merging merging = {.part = part};
    struct index_file_set set;
    struct index_file_header expected = {.store_id = engine->store_id, .database_id = part->database->id};
    uint64_t newest = part->runs[part->run_count - 1];
    int status = index_file_open(engine->os, &engine->log, directory, newest, &expected, &set);
    if (status != DOCDB_OK) {
        return status;
    }
    uint64_t number = number_next(engine);
    status = run_create(part, &merging.writer, directory, number);
    if (status == DOCDB_OK) {
        status = index_file_load(engine->os, &engine->log, directory, &set, from, merge_entry, &merging);
        if (status == DOCDB_OK) {
            status = run_finish(part, &merging.writer, from, number);
        } else {
            index_writer_abort(&merging.writer);
        }
    }
    index_file_set_fini(&set);
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
static int part_write(struct engine *engine, struct part *part) REQUIRES(engine->checkpoint_mutex) {
    char directory[PATH_BYTES];
    database_path(engine->directory, part->database->id, directory, sizeof directory);
    uint64_t number = number_next(engine);
    size_t below = part->run_count;
    int status = below == 0 ? directory_make(engine, directory) : DOCDB_OK;
    if (status == DOCDB_OK) {
        status = run_create(part, &part->writer, directory, number);
    }
    if (status == DOCDB_OK) {
        status = entries_write(part);
        if (status == DOCDB_OK) {
            status = run_finish(part, &part->writer, below, number);
        } else {
            index_writer_abort(&part->writer);
        }
    }
    if (status == DOCDB_OK) {
        appender_close(&part->appender);
        status = runs_merge(engine, part, directory);
    } else {
        appender_abandon(&part->appender);
    }
    if (status == DOCDB_OK) {
        status = error_from_os(os_sync_directory(engine->os, directory));
    }
    part->is_written = status == DOCDB_OK;
    return status;
}

/* ---- Taking ---- */

static int part_take(struct checkpoint *checkpoint, struct database *database, struct part *part) {
    *part = (struct part){.checkpoint = checkpoint, .database = database, .run_count = database->run_count};
    memcpy(part->runs, database->runs, sizeof part->runs);
    memcpy(part->run_bytes, database->run_bytes, sizeof part->run_bytes);
    appender_init(&part->appender, &database->segments);
    int status = segments_dead(&database->segments, checkpoint->snapshot.seq, &part->dead, &part->dead_count);
    if (status == DOCDB_OK) {
        mutex_lock(&checkpoint->engine->apply);
        status = index_dirty_take(database->index, &part->dirty);
        mutex_unlock(&checkpoint->engine->apply);
    }
    return status;
}

/* Takes the snapshot, the place in the log after it, the databases of that moment and what changed in them. */
static int checkpoint_take(struct checkpoint *checkpoint) {
    struct engine *engine = checkpoint->engine;
    struct database **databases = NULL;
    size_t count = 0;
    mutex_lock(&engine->position_mutex);
    bool acquired = snapshot_acquire(&engine->snapshots, &checkpoint->snapshot);
    checkpoint->position = engine->position;
    checkpoint->next_database_id = engine->position_next_database_id;
    int status = acquired ? catalog_list(&engine->catalog, &databases, &count) : DOCDB_ERR_BUSY;
    mutex_unlock(&engine->position_mutex);
    if (status == DOCDB_OK) {
        checkpoint->parts = calloc(count + 1, sizeof *checkpoint->parts);
        checkpoint->moves = malloc(MOVES_MAX * sizeof *checkpoint->moves);
        status = checkpoint->parts == NULL || checkpoint->moves == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    for (size_t i = 0; i < count && checkpoint->parts != NULL; i++) {
        /* After the snapshot, so that the list has everything that it sees. */
        struct part *part = &checkpoint->parts[checkpoint->part_count++];
        *part = (struct part){.database = database_acquire(databases[i])};
        status = status == DOCDB_OK ? part_take(checkpoint, databases[i], part) : status;
    }
    catalog_list_free(databases, count);
    if (acquired && checkpoint->parts == NULL) {
        (void)snapshot_release(&engine->snapshots, &checkpoint->snapshot);
    }
    return status;
}

/* What is dirty goes back to the index if the checkpoint did not come about. */
static void checkpoint_release(struct checkpoint *checkpoint) {
    struct engine *engine = checkpoint->engine;
    if (checkpoint->parts == NULL) {
        free(checkpoint->moves);
        return;
    }
    for (size_t i = 0; i < checkpoint->part_count; i++) {
        struct part *part = &checkpoint->parts[i];
        if (part->dirty.entries != NULL) {
            mutex_lock(&engine->apply);
            index_dirty_return(part->database->index, &part->dirty);
            mutex_unlock(&engine->apply);
        }
        free(part->dead);
        database_release(part->database);
    }
    (void)snapshot_release(&engine->snapshots, &checkpoint->snapshot);
    free(checkpoint->parts);
    free(checkpoint->moves);
}

static bool part_changed(const struct part *part) { return part->dirty.count > 0 || part->dead_count > 0; }

static bool checkpoint_changed(const struct checkpoint *checkpoint) {
    bool changed = checkpoint->snapshot.seq != atomic_load(&checkpoint->engine->checkpoint_seq);
    for (size_t i = 0; i < checkpoint->part_count && !changed; i++) {
        changed = part_changed(&checkpoint->parts[i]);
    }
    return changed;
}

/* ---- The manifest ---- */

static void manifest_entry_fill(const struct part *part, struct manifest_database *out) {
    const struct database *database = part->database;
    assert(database != NULL);
    *out = (struct manifest_database){
        .id = database->id,
        .checkpoint_number = part->run_count == 0 ? 0 : part->runs[part->run_count - 1],
        .checkpoint_seq = part->is_written ? part->checkpoint->snapshot.seq : database->checkpoint_seq,
        .change_time_ns = atomic_load(&database->change_time_ns)};
    memcpy(out->name, database->name, sizeof out->name);
}

/* The manifest of a checkpoint whose files are written. A database that was dropped meanwhile is left out: the log
 * behind the checkpoint has nothing of it that counts. */
static int manifest_fill(struct engine *engine, const struct checkpoint *checkpoint, struct manifest *out)
    REQUIRES(engine->checkpoint_mutex) {
    *out = (struct manifest){.store_id = engine->store_id,
                             .checkpoint_number = number_next(engine),
                             .commit_seq = checkpoint->snapshot.seq,
                             .replay = checkpoint->position.wal,
                             .next_database_id = checkpoint->next_database_id};
    out->databases = calloc(checkpoint->part_count + 1, sizeof *out->databases);
    if (out->databases == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (size_t i = 0; i < checkpoint->part_count; i++) {
        if (!part_dropped(&checkpoint->parts[i])) {
            manifest_entry_fill(&checkpoint->parts[i], &out->databases[out->database_count++]);
        } else {
            out->lacks_dropped = true;
        }
    }
    return DOCDB_OK;
}

/* Makes the manifest the one on the disk; takes it over, whatever it returns. */
static int manifest_replace(struct engine *engine, struct manifest *manifest) REQUIRES(engine->checkpoint_mutex) {
    engine->manifest_in_doubt = true;
    int status = manifest_write(engine->os, engine->directory, manifest);
    if (status == DOCDB_OK) {
        manifest_fini(&engine->manifest);
        engine->manifest = *manifest;
        engine->manifest_in_doubt = false;
    } else {
        log_error(&engine->log, "can't write %s/MANIFEST: %s", engine->directory, docdb_error_text(status));
        engine->collect_wanted = true;
        manifest_fini(manifest);
    }
    return status;
}

/* ---- After the manifest ---- */

static void part_settle(struct part *part) {
    struct engine *engine = part->checkpoint->engine;
    for (size_t at = 0; at < part->dirty.count; at += SETTLE_CHUNK) {
        size_t chunk = part->dirty.count - at < SETTLE_CHUNK ? part->dirty.count - at : SETTLE_CHUNK;
        mutex_lock(&engine->apply);
        index_dirty_settle(part->database->index, part->dirty.entries + at, chunk, part->checkpoint->snapshot.seq);
        mutex_unlock(&engine->apply);
    }
    free(part->dirty.entries);
    part->dirty = (struct dirty_list){0};
}

/* Removes the runs that were merged and the segments without live documents. */
static void part_collect(struct engine *engine, struct part *part) REQUIRES(engine->checkpoint_mutex) {
    struct database *database = part->database;
    char directory[PATH_BYTES];
    char path[PATH_BYTES];
    database_path(engine->directory, database->id, directory, sizeof directory);
    for (size_t i = 0; i < database->run_count; i++) {
        if (i >= part->run_count || part->runs[i] != database->runs[i]) {
            index_file_path(directory, database->runs[i], path, sizeof path);
            collect_file(engine, path);
        }
    }
    segments_remove(&database->segments, part->dead, part->dead_count);
    for (size_t i = 0; i < part->dead_count; i++) {
        segment_path(directory, part->dead[i], path, sizeof path);
        collect_file(engine, path);
    }
}

static void part_finish(struct engine *engine, struct part *part) REQUIRES(engine->checkpoint_mutex) {
    struct database *database = part->database;
    assert(database != NULL);
    part_settle(part);
    if (!part->is_written || part_dropped(part)) {
        return;
    }
    part_collect(engine, part);
    database_set_runs(database, part->runs, part->run_bytes, part->run_count);
    database->checkpoint_seq = part->checkpoint->snapshot.seq;
}

/* ---- The whole ---- */

/* Writes everything up to the new manifest. */
static int checkpoint_write(struct engine *engine, struct checkpoint *checkpoint)
    REQUIRES(engine->checkpoint_mutex) {
    struct manifest manifest;
    int status = DOCDB_OK;
    for (size_t i = 0; i < checkpoint->part_count && status == DOCDB_OK; i++) {
        struct part *part = &checkpoint->parts[i];
        if (part_changed(part)) {
            status = part_write(engine, part);
            /* What a drop interrupted goes with the database. */
            status = status != DOCDB_OK && part_dropped(part) ? DOCDB_OK : status;
        }
    }
    if (status == DOCDB_OK) {
        status = manifest_fill(engine, checkpoint, &manifest);
    }
    return status == DOCDB_OK ? manifest_replace(engine, &manifest) : status;
}

/* A run that was merged as soon as it was written is in no list: only a look at the directory finds it. */
static bool leaves_files(const struct checkpoint *checkpoint) {
    bool leaves = false;
    for (size_t i = 0; i < checkpoint->part_count && !leaves; i++) {
        const struct part *part = &checkpoint->parts[i];
        leaves = part_dropped(part) || (part->is_written && part->run_count <= part->database->run_count);
    }
    return leaves;
}

static int checkpoint_locked(struct engine *engine, uint64_t *covered) REQUIRES(engine->checkpoint_mutex) {
    struct checkpoint checkpoint = {.engine = engine};
    int status = checkpoint_take(&checkpoint);
    bool changed = status == DOCDB_OK && checkpoint_changed(&checkpoint);
    if (changed) {
        status = checkpoint_write(engine, &checkpoint);
        engine->collect_wanted = engine->collect_wanted || status != DOCDB_OK || leaves_files(&checkpoint);
    }
    if (changed && status == DOCDB_OK) {
        for (size_t i = 0; i < checkpoint.part_count; i++) {
            part_finish(engine, &checkpoint.parts[i]);
        }
        if (engine->collect_wanted) {
            collect_all(engine);
        }
        *covered = checkpoint.position.wal.lsn - atomic_load(&engine->checkpoint_lsn);
        atomic_store(&engine->checkpoint_seq, checkpoint.snapshot.seq);
        atomic_store(&engine->checkpoint_lsn, checkpoint.position.wal.lsn);
        atomic_fetch_add(&engine->checkpoints, 1);
        (void)wal_release(&engine->wal, checkpoint.position.wal.lsn);
    }
    checkpoint_release(&checkpoint);
    engine_reclaim(engine);
    return status;
}

/* How fast checkpoints get through the log: the mean of this one and those before. */
static void rate_note(struct engine *engine, uint64_t bytes, int64_t ns) {
    if (bytes < ((uint64_t)1 << 20) || ns <= 0) {
        return; /* says nothing */
    }
    uint64_t rate = (uint64_t)((double)bytes * 1e9 / (double)ns);
    uint64_t before = atomic_load(&engine->checkpoint_rate);
    atomic_store(&engine->checkpoint_rate, (before + rate) / 2 + 1);
}

int checkpoint_run(struct engine *engine) {
    if (atomic_load(&engine->read_only)) {
        return DOCDB_ERR_READ_ONLY;
    }
    mutex_lock(&engine->checkpoint_mutex);
    uint64_t covered = 0;
    int64_t start_ns = os_monotonic_ns(engine->os);
    int status = checkpoint_locked(engine, &covered);
    if (status != DOCDB_OK) {
        log_error(&engine->log, "the checkpoint failed (%s); nothing is lost, the WAL keeps everything",
                  docdb_error_text(status));
    } else {
        rate_note(engine, covered, os_monotonic_ns(engine->os) - start_ns);
        checkpoint_threshold_set(engine);
    }
    mutex_unlock(&engine->checkpoint_mutex);
    engine_wake_maintenance(engine, false); /* there may be segments to compact now, whoever called */
    return status;
}

/* ---- Dropped databases ---- */

/* The manifest on the disk without the databases that are gone. False: it has none of them. */
static bool manifest_without_dropped(struct engine *engine, struct manifest *out)
    REQUIRES(engine->checkpoint_mutex) {
    *out = engine->manifest;
    out->databases = calloc(engine->manifest.database_count + 1u, sizeof *out->databases);
    out->database_count = 0;
    for (uint32_t i = 0; out->databases != NULL && i < engine->manifest.database_count; i++) {
        struct database *database = catalog_find_id(&engine->catalog, engine->manifest.databases[i].id);
        if (database != NULL) {
            out->databases[out->database_count++] = engine->manifest.databases[i];
        } else {
            out->lacks_dropped = true;
        }
        database_release(database);
    }
    return out->databases != NULL && out->database_count < engine->manifest.database_count;
}

int checkpoint_forget_dropped(struct engine *engine) {
    struct manifest manifest;
    int status = DOCDB_OK;
    mutex_lock(&engine->checkpoint_mutex);
    if (manifest_without_dropped(engine, &manifest)) {
        manifest.checkpoint_number = number_next(engine);
        status = manifest_replace(engine, &manifest);
    } else {
        manifest_fini(&manifest);
    }
    if (status == DOCDB_OK) {
        collect_all(engine);
    }
    mutex_unlock(&engine->checkpoint_mutex);
    return status;
}
