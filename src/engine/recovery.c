/* See recovery.h. */
#include "engine/recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/limits.h"
#include "engine/apply.h"
#include "engine/collect.h"
#include "engine/index_file.h"
#include "engine/manifest.h"
#include "engine/wal_reader.h"

#define PATH_BYTES 4096

/* ---- A new store ---- */

static int subdirectory_make(struct engine *engine, const char *name, docdb_error *error) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", engine->directory, name);
    int rc = os_mkdir(engine->os, path);
    if (rc != 0 && rc != -EEXIST) {
        return error_set(error, error_from_os(rc), "can't create %s: %s", path, strerror(-rc));
    }
    return DOCDB_OK;
}

int recovery_create_store(struct engine *engine, docdb_error *error) {
    int status = subdirectory_make(engine, "wal", error);
    if (status == DOCDB_OK) {
        status = subdirectory_make(engine, "db", error);
    }
    if (status != DOCDB_OK) {
        return status;
    }
    /* Before the manifest, which makes this a store: its name may become durable on its own. */
    int rc = os_sync_directory(engine->os, engine->directory);
    if (rc != 0) {
        return error_set(error, error_from_os(rc), "can't sync %s: %s", engine->directory, strerror(-rc));
    }
    /* Names the store, so that a file of another is never taken for one of ours. */
    uint64_t store_id =
        (uint64_t)os_realtime_ns(engine->os) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)os_monotonic_ns(engine->os);
    struct manifest manifest = {.store_id = store_id, .next_database_id = 1};
    status = manifest_write(engine->os, engine->directory, &manifest);
    if (status != DOCDB_OK) {
        return error_set(error, status, "can't write %s/MANIFEST: %s", engine->directory, docdb_error_text(status));
    }
    return DOCDB_OK;
}

/* ---- Progress ---- */

#define PROGRESS_LOOK 65536u /* steps between two looks at the clock */
#define PROGRESS_NS   INT64_C(1000000000)

/* Work that is logged once a second while it goes on. */
struct progress {
    const struct engine *engine;
    char what[DOCDB_NAME_BYTES_MAX + 64];
    const char *unit;
    uint64_t all;
    uint64_t done;
    uint64_t looked; /* done at the last look */
    int64_t logged_ns;
};

static void progress_init(struct progress *progress, const struct engine *engine, const char *what,
                          const char *unit, uint64_t all) {
    *progress =
        (struct progress){.engine = engine, .unit = unit, .all = all, .logged_ns = os_monotonic_ns(engine->os)};
    (void)snprintf(progress->what, sizeof progress->what, "%s", what);
}

static void progress_step(struct progress *progress, uint64_t steps) {
    progress->done += steps;
    if (progress->done - progress->looked < PROGRESS_LOOK) {
        return;
    }
    progress->looked = progress->done;
    int64_t now_ns = os_monotonic_ns(progress->engine->os);
    if (now_ns - progress->logged_ns >= PROGRESS_NS) {
        progress->logged_ns = now_ns;
        log_info(&progress->engine->log, "%s: %" PRIu64 " of %" PRIu64 " %s", progress->what, progress->done,
                 progress->all, progress->unit);
    }
}

/* ---- The checkpoint ---- */

/* The documents of one database, on their way from its index files into its index. */
struct loading {
    struct engine *engine;
    struct database *database;
    const struct index_file_set *set;
    int64_t *live_bytes; /* of the segments with the numbers from first_segment on */
    uint32_t first_segment;
    uint32_t segment_span;
    struct progress progress;
};

static int loading_entry(void *arg, const struct index_file_entry *in) {
    struct loading *loading = arg;
    uint32_t slot = in->location.segment - loading->first_segment;
    if (slot >= loading->segment_span) {
        log_error(&loading->engine->log,
                  "damaged data: an index file of database \"%s\" names a segment that it does not list",
                  loading->database->name);
        return DOCDB_ERR_CORRUPT;
    }
    loading->live_bytes[slot] += (int64_t)segment_record_bytes(in->id_bytes, in->info.bytes);
    progress_step(&loading->progress, 1);
    return index_load_add(loading->database->index, in->id, in->id_bytes, &in->info, in->location);
}

/* Takes over the segments, and makes room for what is counted of each. */
static int loading_segments(struct loading *loading) {
    const struct index_file_set *set = loading->set;
    int status = DOCDB_OK;
    for (size_t i = 0; i < set->segment_count && status == DOCDB_OK; i++) {
        status = segments_adopt(&loading->database->segments, set->segments[i].number, set->segments[i].bytes);
    }
    if (set->segment_count > 0) {
        loading->first_segment = set->segments[0].number;
        loading->segment_span = set->segments[set->segment_count - 1].number - loading->first_segment + 1;
    }
    loading->live_bytes = calloc((size_t)loading->segment_span + 1, sizeof *loading->live_bytes);
    return loading->live_bytes == NULL ? DOCDB_ERR_MEMORY : status;
}

static int index_load(struct loading *loading, const char *directory) {
    struct engine *engine = loading->engine;
    struct index *index = loading->database->index;
    int status = index_load_begin(index, loading->set->entry_count_max);
    if (status == DOCDB_OK) {
        status = index_file_load(engine->os, &engine->log, directory, loading->set, 0, loading_entry, loading);
    }
    if (status == DOCDB_OK) {
        status = index_load_end(index);
    }
    for (size_t i = 0; i < loading->set->segment_count && status == DOCDB_OK; i++) {
        uint32_t number = loading->set->segments[i].number;
        segments_live_change(&loading->database->segments, number,
                             loading->live_bytes[number - loading->first_segment]);
    }
    return status;
}

/* Loads what the run `number` and those below it say. */
static int runs_load(struct engine *engine, struct database *database, uint64_t number) {
    char directory[PATH_BYTES];
    struct index_file_set set;
    struct index_file_header expected = {.store_id = engine->store_id, .database_id = database->id};
    database_path(engine->directory, database->id, directory, sizeof directory);
    int status = index_file_open(engine->os, &engine->log, directory, number, &expected, &set);
    if (status != DOCDB_OK) {
        return status;
    }
    struct loading loading = {.engine = engine, .database = database, .set = &set};
    char what[DOCDB_NAME_BYTES_MAX + 64];
    (void)snprintf(what, sizeof what, "loading database \"%s\"", database->name);
    progress_init(&loading.progress, engine, what, "documents", set.entry_count_max);
    status = loading_segments(&loading);
    if (status == DOCDB_OK) {
        status = index_load(&loading, directory);
    }
    database_set_runs(database, set.runs, set.run_bytes, set.run_count);
    free(loading.live_bytes);
    index_file_set_fini(&set);
    return status;
}

static int database_load(struct engine *engine, const struct manifest_database *from, docdb_error *error) {
    int status = catalog_reserve(&engine->catalog);
    struct database *database =
        status != DOCDB_OK
            ? NULL
            : database_create(engine->os, &engine->log, engine->directory, engine->store_id, from->id, from->name,
                              &engine->snapshots.published, &engine->open_files, engine->segment_bytes);
    if (database == NULL) {
        return error_set(error, DOCDB_ERR_MEMORY, "out of memory while loading database \"%s\"", from->name);
    }
    database->checkpoint_seq = from->checkpoint_seq;
    atomic_store(&database->newest_commit_seq, from->checkpoint_seq);
    atomic_store(&database->change_time_ns, from->change_time_ns);
    if (from->checkpoint_number != 0) {
        status = runs_load(engine, database, from->checkpoint_number);
    }
    if (status != DOCDB_OK) {
        database_release(database);
        return error_set(error, status,
                         "can't load database \"%s\" from %s/db/%08" PRIx32 ": %s (the log has the details)",
                         from->name, engine->directory, from->id, docdb_error_text(status));
    }
    catalog_add(&engine->catalog, database);
    return DOCDB_OK;
}

static int manifest_load(struct engine *engine, struct manifest *manifest, docdb_error *error) {
    int status = manifest_read(engine->os, engine->directory, manifest);
    switch (status) {
    case DOCDB_OK:
        return DOCDB_OK;
    case DOCDB_ERR_NEWER_FORMAT:
        return error_set(error, status,
                         "the data directory %s was written by a newer version of DocDB than %s; use that version",
                         engine->directory, DOCDB_VERSION);
    case DOCDB_ERR_CORRUPT:
        return error_set(error, status, "damaged data: %s/MANIFEST can't be read; restore it from a backup",
                         engine->directory);
    default:
        return error_set(error, status, "can't read %s/MANIFEST: %s", engine->directory, docdb_error_text(status));
    }
}

/* ---- Replay ---- */

struct replay {
    struct engine *engine;
    struct wal_reader reader;
    struct database *database; /* of the last record, one reference */
    struct applied *applied;
    size_t applied_capacity;
    struct progress progress;
};

/* The database of a record; NULL when it was dropped (a checkpoint may be newer than the drop of it, never older).
 */
static struct database *replay_database(struct replay *replay, uint32_t id) {
    if (replay->database == NULL || replay->database->id != id || atomic_load(&replay->database->dropped)) {
        database_release(replay->database);
        replay->database = catalog_find_id(&replay->engine->catalog, id);
    }
    return replay->database;
}

static int replay_create(struct engine *engine, uint32_t id, const struct wal_op *op, int64_t time_ns) {
    char name[DOCDB_NAME_BYTES_MAX + 1];
    memcpy(name, op->id, op->id_bytes);
    name[op->id_bytes] = '\0';
    int status = catalog_reserve(&engine->catalog);
    struct database *database =
        status != DOCDB_OK
            ? NULL
            : database_create(engine->os, &engine->log, engine->directory, engine->store_id, id, name,
                              &engine->snapshots.published, &engine->open_files, engine->segment_bytes);
    if (database == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    atomic_store(&database->change_time_ns, time_ns);
    catalog_add(&engine->catalog, database);
    engine->next_database_id = id + 1 > engine->next_database_id ? id + 1 : engine->next_database_id;
    return DOCDB_OK;
}

static void replay_drop(struct replay *replay, uint32_t id) {
    struct database *database = replay_database(replay, id);
    if (database != NULL) {
        atomic_store(&database->dropped, true);
        catalog_remove(&replay->engine->catalog, database);
    }
}

static int replay_put(struct replay *replay, struct apply *apply, const struct wal_op *op, uint64_t *docs) {
    docdb_doc *doc = NULL;
    int status = wal_reader_doc(&replay->reader, *docs, op, &doc);
    *docs += round_up(op->doc_bytes, 8);
    if (status != DOCDB_OK) {
        return status;
    }
    doc_account(doc, &replay->engine->resident_bytes);
    return apply_put(apply, op->id, op->id_bytes, doc, op->mtime_ns);
}

/* The record is in a segment, durable before the log named it. Its checksums are checked when it is read. */
static int replay_put_at(struct apply *apply, const struct wal_op *op) {
    struct location location = {.segment = op->segment, .offset = op->offset};
    struct segments *segments = &apply->database->segments;
    struct segment_record record = {.info = {.bytes = op->doc_bytes},
                                    .data_offset = op->doc_bytes > LIMIT_INLINE_DOC_BYTES
                                                       ? SEGMENT_BLOCK_BYTES
                                                       : SEGMENT_RECORD_HEADER_BYTES + op->id_bytes};
    int status = segments_adopt(segments, op->segment, location_bytes(location) + segment_record_end(&record));
    if (status != DOCDB_OK) {
        return status;
    }
    segments_named(segments, op->segment, apply->commit_seq);
    return apply_put_at(apply, op->id, op->id_bytes, op->doc_bytes, location, op->mtime_ns);
}

static int replay_op(struct replay *replay, struct apply *apply, const struct wal_op *op, uint64_t *docs) {
    switch (op->kind) {
    case WAL_OP_PUT:
        return replay_put(replay, apply, op, docs);
    case WAL_OP_PUT_IN_SEGMENT:
        return replay_put_at(apply, op);
    case WAL_OP_DELETE:
        return apply_delete(apply, op->id, op->id_bytes);
    case WAL_OP_RENAME:
        return apply_rename(apply, op->id, op->id_bytes, op->second_id, op->second_id_bytes);
    case WAL_OP_EXCHANGE:
        return apply_exchange(apply, op->id, op->id_bytes, op->second_id, op->second_id_bytes);
    case WAL_OP_SET_MTIME:
        return apply_set_mtime(apply, op->id, op->id_bytes, op->mtime_ns);
    case WAL_OP_CREATE_DATABASE:
        return replay_create(replay->engine, replay->reader.header.database_id, op, apply->commit_time_ns);
    case WAL_OP_DROP_DATABASE:
        replay_drop(replay, replay->reader.header.database_id);
        return DOCDB_OK;
    default:
        return DOCDB_ERR_CORRUPT;
    }
}

static bool is_catalog_op(enum wal_op_kind kind) {
    return kind == WAL_OP_CREATE_DATABASE || kind == WAL_OP_DROP_DATABASE;
}

static bool applied_reserve(struct replay *replay, size_t count) {
    if (count <= replay->applied_capacity) {
        return true;
    }
    struct applied *applied = realloc(replay->applied, count * sizeof *applied);
    if (applied == NULL) {
        return false;
    }
    replay->applied = applied;
    replay->applied_capacity = count;
    return true;
}

/* Does to the index what the record's transaction did. */
static int replay_record(struct replay *replay) {
    struct engine *engine = replay->engine;
    const struct wal_record_header *header = &replay->reader.header;
    uint64_t at = 0;
    uint64_t docs = 0;
    int status = DOCDB_OK;
    struct database *database = replay_database(replay, header->database_id);
    if (database != NULL && index_reserve(database->index, 2 * (size_t)header->op_count) != DOCDB_OK) {
        return DOCDB_ERR_MEMORY;
    }
    if (!applied_reserve(replay, 2 * (size_t)header->op_count + 1) ||
        !reclaimer_reserve(&engine->reclaimer, 2 * (size_t)header->op_count)) {
        return DOCDB_ERR_MEMORY;
    }
    struct apply apply = {.engine = engine,
                          .database = database,
                          .commit_seq = header->commit_seq,
                          .commit_time_ns = header->commit_time_ns,
                          .applied = replay->applied};
    for (uint32_t i = 0; i < header->op_count && status == DOCDB_OK; i++) {
        struct wal_op op;
        if (!wal_op_decode(replay->reader.meta, header->meta_bytes, &at, &op)) {
            return DOCDB_ERR_CORRUPT; /* wal_reader_next checked it */
        }
        if (is_catalog_op(op.kind) || (apply.database != NULL && apply.database->replay_status == DOCDB_OK)) {
            status = replay_op(replay, &apply, &op, &docs);
        }
    }
    if (status == DOCDB_ERR_CORRUPT || status == DOCDB_ERR_NOT_FOUND) {
        /* It counts only if the database is still there at the end: the files of one that was dropped are gone. */
        apply.database->replay_status = DOCDB_ERR_CORRUPT;
        apply.database->replay_failed_seq = header->commit_seq;
        apply.database->replay_failed_lsn = header->lsn;
        apply_undo(&apply);
        return DOCDB_OK;
    }
    if (status == DOCDB_OK && apply.database != NULL) {
        atomic_store(&apply.database->newest_commit_seq, header->commit_seq);
        apply_finish(&apply, &engine->reclaimer);
        (void)reclaimer_run(&engine->reclaimer, header->commit_seq, SIZE_MAX);
    }
    return status;
}

/* Is there a database that could not be replayed and was not dropped later? */
static int replay_check(struct replay *replay, docdb_error *error) {
    struct engine *engine = replay->engine;
    struct database **databases;
    size_t count;
    int status = catalog_list(&engine->catalog, &databases, &count);
    for (size_t i = 0; i < count && status == DOCDB_OK; i++) {
        if (databases[i]->replay_status != DOCDB_OK) {
            status = error_set(error, databases[i]->replay_status,
                               "damaged data: can't replay commit %" PRIu64 " of the WAL in %s at LSN %" PRIu64
                               ", of database \"%s\" (the log has the details)",
                               databases[i]->replay_failed_seq, replay->reader.directory,
                               databases[i]->replay_failed_lsn, databases[i]->name);
        }
    }
    if (databases != NULL) {
        catalog_list_free(databases, count);
    }
    return status;
}

static int replay_all(struct replay *replay, uint64_t checkpoint_seq, docdb_error *error) {
    struct engine *engine = replay->engine;
    int status = wal_reader_next(&replay->reader);
    for (; status == DOCDB_OK; status = wal_reader_next(&replay->reader)) {
        const struct wal_record_header *header = &replay->reader.header;
        if (header->commit_seq <= checkpoint_seq) {
            continue;
        }
        if (header->commit_seq != engine->next_commit_seq) {
            return error_set(
                error, DOCDB_ERR_CORRUPT,
                "damaged data: the WAL in %s goes from commit %" PRIu64 " to commit %" PRIu64 " at LSN %" PRIu64,
                replay->reader.directory, engine->next_commit_seq - 1, header->commit_seq, header->lsn);
        }
        progress_step(&replay->progress, 1);
        status = replay_record(replay);
        if (status != DOCDB_OK) {
            return error_set(error, status,
                             "can't replay commit %" PRIu64 " of the WAL in %s at LSN %" PRIu64 ": %s",
                             header->commit_seq, replay->reader.directory, header->lsn, docdb_error_text(status));
        }
        engine->next_commit_seq++;
        engine->recovered_txns++;
    }
    if (status != DOCDB_ERR_END) {
        return error_set(error, status, "can't read the WAL in %s: %s", replay->reader.directory,
                         docdb_error_text(status));
    }
    status = replay_check(replay, error);
    return status == DOCDB_OK ? wal_reader_check_tail(&replay->reader, error) : status;
}

/* ---- The WAL from here on ---- */

static int stale_wal_remove(void *arg, const char *name) {
    const struct replay *replay = arg;
    char path[PATH_BYTES];
    char *end = NULL;
    unsigned long long number = strtoull(name, &end, 16);
    bool older =
        strcmp(end, ".wal") == 0 && replay->reader.file_count > 0 && number < replay->reader.files[0].number;
    if (older || strcmp(name, "next.tmp") == 0) {
        (void)snprintf(path, sizeof path, "%s/%s", replay->reader.directory, name);
        (void)os_unlink(replay->engine->os, path);
    }
    return 0;
}

static uint64_t wal_file_bytes(const struct engine *engine) {
    uint64_t bytes = round_up(engine->wal_limit_bytes / 4, WAL_BLOCK_BYTES);
    bytes = bytes < LIMIT_WAL_FILE_BYTES ? bytes : LIMIT_WAL_FILE_BYTES;
    return bytes > LIMIT_WAL_FILE_BYTES_MIN ? bytes : LIMIT_WAL_FILE_BYTES_MIN;
}

/*
 * What was read may be in the page cache only: a process that was killed between a write and its sync leaves it so.
 * It is shown to readers and built upon from here on, so it is made durable first.
 */
static int log_sync(struct replay *replay) {
    struct engine *engine = replay->engine;
    char path[PATH_BYTES];
    int rc = 0;
    for (size_t i = 0; i < replay->reader.file_count && rc == 0; i++) {
        if (replay->reader.files[i].start_lsn >= replay->reader.position.lsn) {
            break; /* nothing of it was read */
        }
        wal_file_path(replay->reader.directory, replay->reader.files[i].number, path, sizeof path);
        int file = os_open(engine->os, path, OS_READ | OS_WRITE);
        rc = file < 0 ? file : os_sync(engine->os, file);
        if (file >= 0) {
            (void)os_close(engine->os, file);
        }
    }
    return error_from_os(rc);
}

static int wal_take_over(struct replay *replay, docdb_error *error) {
    struct engine *engine = replay->engine;
    int status = log_sync(replay);
    if (status == DOCDB_OK) {
        (void)os_list(engine->os, replay->reader.directory, stale_wal_remove, replay);
    }
    for (size_t i = 0; i < replay->reader.file_count && status == DOCDB_OK; i++) {
        status = wal_adopt(&engine->wal, &replay->reader.files[i]);
    }
    if (status == DOCDB_OK) {
        status = wal_start(&engine->wal, replay->reader.position);
    }
    if (status != DOCDB_OK) {
        return error_set(error, status, "can't start the WAL in %s: %s", replay->reader.directory,
                         docdb_error_text(status));
    }
    return DOCDB_OK;
}

static int replay_log(struct engine *engine, const struct manifest *manifest, docdb_error *error) {
    struct replay replay = {.engine = engine};
    int status = wal_init(&engine->wal, engine->os, &engine->log, engine->directory, engine->store_id,
                          wal_file_bytes(engine), engine->wal_limit_bytes);
    if (status != DOCDB_OK) {
        return error_set(error, status, "out of memory while opening %s", engine->directory);
    }
    status = wal_reader_open(&replay.reader, engine->os, &engine->log, engine->wal.directory, engine->store_id,
                             manifest->replay, error);
    if (status == DOCDB_OK) {
        mutex_lock(&engine->apply);
        status = replay_all(&replay, manifest->commit_seq, error);
        mutex_unlock(&engine->apply);
    }
    if (status == DOCDB_OK) {
        status = wal_take_over(&replay, error);
    }
    wal_reader_close(&replay.reader);
    database_release(replay.database);
    free(replay.applied);
    return status;
}

/*
 * A process that was killed leaves names that can be seen but are not durable: a manifest just renamed, files just
 * made. Nothing may be built on them, and nothing that an older manifest needs may go, before they are.
 */
static int names_sync(struct engine *engine, docdb_error *error) {
    static const char *const below[] = {"/..", "", "/wal", "/db"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", engine->directory, below[i]);
        int rc = os_sync_directory(engine->os, path);
        bool parent = i == 0; /* it may be unreadable for us; whoever created the directory synced it */
        if (rc != 0 && !(parent && rc == -EACCES)) {
            return error_set(error, error_from_os(rc), "can't sync the directory %s: %s", path, strerror(-rc));
        }
    }
    return DOCDB_OK;
}

int recovery_run(struct engine *engine, docdb_error *error) {
    struct manifest manifest = {0};
    int64_t start_ns = os_monotonic_ns(engine->os);
    int status = names_sync(engine, error);
    if (status == DOCDB_OK) {
        status = manifest_load(engine, &manifest, error);
    }
    if (status != DOCDB_OK) {
        manifest_fini(&manifest);
        return status;
    }
    engine->store_id = manifest.store_id;
    engine->next_database_id = manifest.next_database_id;
    engine->next_commit_seq = manifest.commit_seq + 1;
    for (uint32_t i = 0; i < manifest.database_count && status == DOCDB_OK; i++) {
        status = database_load(engine, &manifest.databases[i], error);
    }
    if (status == DOCDB_OK) {
        status = replay_log(engine, &manifest, error);
    }
    if (status == DOCDB_OK) {
        atomic_store(&engine->snapshots.published, engine->next_commit_seq - 1);
        atomic_store(&engine->checkpoint_seq, manifest.commit_seq);
        atomic_store(&engine->checkpoint_lsn, manifest.replay.lsn);
        mutex_lock(&engine->position_mutex);
        engine->position =
            (struct commit_position){.commit_seq = engine->next_commit_seq - 1, .wal = engine->wal.appended};
        engine->position_next_database_id = engine->next_database_id;
        mutex_unlock(&engine->position_mutex);
        mutex_lock(&engine->checkpoint_mutex);
        engine->checkpoint_number = manifest.checkpoint_number;
        engine->manifest = manifest;
        manifest = (struct manifest){0};
        collect_all(engine);
        mutex_unlock(&engine->checkpoint_mutex);
        engine->recovery_us = (uint64_t)((os_monotonic_ns(engine->os) - start_ns) / 1000);
    }
    manifest_fini(&manifest);
    return status;
}
