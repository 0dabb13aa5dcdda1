/*
 * The engine as a backend of docdb.h: opening and closing a data directory, and the verbs that are not transactions
 * or scans.
 *
 * Opening: directory -> lock -> recovery (or a new store) -> threads. Closing goes the other way, with a checkpoint
 * in between.
 */
#include "engine/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "engine/backup.h"
#include "engine/checkpoint.h"
#include "engine/commit.h"
#include "engine/handles.h"
#include "engine/lock.h"
#include "engine/maintenance.h"
#include "engine/recovery.h"
#include "engine/scan.h"
#include "engine/txn.h"
#include "engine/verify.h"

#define PATH_BYTES            4096
#define CHECKPOINT_RATE_FIRST ((uint64_t)50 << 20) /* bytes of log a second, until one was measured */

/* ---- Shared with the rest of the engine ---- */

void engine_fail(struct engine *engine, const char *format, ...) {
    char reason[sizeof engine->failure];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    mutex_lock(&engine->failure_mutex);
    bool first = engine->failure[0] == '\0';
    if (first) {
        memcpy(engine->failure, reason, sizeof reason);
    }
    mutex_unlock(&engine->failure_mutex);
    atomic_store(&engine->read_only, true);
    if (first) {
        log_error(&engine->log, "the store is read-only from now on: %s", reason);
    }
}

int engine_load(struct engine *engine, struct database *database, const char *id, struct index_view *view,
                docdb_doc **out) {
    docdb_doc *doc = NULL;
    int status = DOCDB_ERR_END;
    for (bool found = true; found && status == DOCDB_ERR_END;) {
        if (view->doc != NULL) {
            *out = view->doc;
            return DOCDB_OK;
        }
        status = segments_read(&database->segments, id, view, &doc);
        if (status == DOCDB_ERR_END && atomic_load(&database->dropped)) {
            return DOCDB_ERR_NO_DATABASE;
        }
        /* Compaction moved the record, and its old segment is gone. */
        found = status == DOCDB_ERR_END &&
                index_find_version(database->index, id, strlen(id), view->info.version, view);
    }
    if (status != DOCDB_OK) {
        return status;
    }
    atomic_fetch_add_explicit(&engine->segment_reads, 1, memory_order_relaxed);
    doc_account(doc, &engine->resident_bytes);
    if (atomic_load_explicit(&engine->resident_bytes, memory_order_relaxed) <= engine->memory_bytes) {
        index_make_resident(database->index, id, view->info.version, doc);
    }
    *out = doc;
    return DOCDB_OK;
}

/* ---- Opening and closing ---- */

static void limits_set(struct engine *engine, const docdb_options *options) {
    docdb_limits *limits = &engine->limits;
    limits->max_doc_bytes = options->max_doc_bytes != 0 ? options->max_doc_bytes : DOCDB_DOC_BYTES_DEFAULT;
    limits->max_txn_bytes = options->max_txn_bytes != 0 ? options->max_txn_bytes : 2 * limits->max_doc_bytes;
    limits->max_txn_bytes = limits->max_txn_bytes < 2 * (uint64_t)DOCDB_DOC_BYTES_MAX
                                ? limits->max_txn_bytes
                                : 2 * (uint64_t)DOCDB_DOC_BYTES_MAX;
    limits->max_txn_ops = DOCDB_TXN_OPS_MAX;
    limits->txn_timeout_ms = options->txn_timeout_ms != 0 ? options->txn_timeout_ms : DOCDB_TXN_TIMEOUT_MS_DEFAULT;
    uint64_t wal_limit = options->wal_limit_bytes != 0 ? options->wal_limit_bytes : LIMIT_WAL_LIMIT_DEFAULT;
    engine->wal_limit_bytes = wal_limit > LIMIT_WAL_LIMIT_MIN ? wal_limit : LIMIT_WAL_LIMIT_MIN;
    engine->memory_bytes = options->memory_bytes != 0 ? options->memory_bytes : LIMIT_RESIDENT_BYTES_DEFAULT;
    uint64_t segment = options->segment_bytes != 0 ? options->segment_bytes : LIMIT_SEGMENT_BYTES_DEFAULT;
    segment = segment < LIMIT_SEGMENT_BYTES ? segment : LIMIT_SEGMENT_BYTES;
    engine->segment_bytes = segment > LIMIT_SEGMENT_BYTES_MIN ? segment : LIMIT_SEGMENT_BYTES_MIN;
}

static struct engine *engine_create(const char *path, const docdb_options *options) {
    struct engine *engine = aligned_alloc(64, (sizeof *engine + 63) / 64 * 64);
    if (engine == NULL) {
        return NULL;
    }
    memset(engine, 0, sizeof *engine);
    engine->api.backend = &engine_backend;
    engine->os = options->os != NULL ? options->os : docdb_os_default();
    engine->log = (struct log){.fn = options->log, .arg = options->log_arg};
    engine->lock_file = -1;
    limits_set(engine, options);
    catalog_init(&engine->catalog);
    snapshots_init(&engine->snapshots, 0);
    commit_queue_init(&engine->queue);
    observers_init(&engine->observers);
    reclaimer_init(&engine->reclaimer);
    mutex_init(&engine->apply);
    mutex_init(&engine->commit_mutex);
    mutex_init(&engine->complete_mutex);
    mutex_init(&engine->position_mutex);
    mutex_init(&engine->checkpoint_mutex);
    mutex_init(&engine->failure_mutex);
    mutex_init(&engine->maintenance.mutex);
    condition_init(&engine->maintenance.wake);
    condition_init(&engine->maintenance.checkpoint_ended);
    atomic_init(&engine->checkpoint_rate, CHECKPOINT_RATE_FIRST);
    engine->directory = strdup(path);
    return engine;
}

static void engine_destroy(struct engine *engine) NO_THREAD_SAFETY_ANALYSIS {
    if (engine->wal.directory != NULL) {
        wal_fini(&engine->wal);
    }
    reclaimer_fini(&engine->reclaimer);
    catalog_fini(&engine->catalog);
    observers_fini(&engine->observers);
    commit_queue_fini(&engine->queue);
    snapshots_fini(&engine->snapshots);
    condition_fini(&engine->maintenance.checkpoint_ended);
    condition_fini(&engine->maintenance.wake);
    manifest_fini(&engine->manifest);
    mutex_fini(&engine->maintenance.mutex);
    mutex_fini(&engine->failure_mutex);
    mutex_fini(&engine->checkpoint_mutex);
    mutex_fini(&engine->position_mutex);
    mutex_fini(&engine->complete_mutex);
    mutex_fini(&engine->commit_mutex);
    mutex_fini(&engine->apply);
    if (engine->lock_file >= 0) {
        lock_release(engine->os, engine->lock_file); /* last */
    }
    free(engine->directory);
    free(engine);
}

/* Creates the directory if it may. Its name is durable then. */
static int directory_open(struct engine *engine, unsigned flags, docdb_error *error) {
    const char *path = engine->directory;
    char parent[PATH_BYTES];
    struct os_stat stat;
    int rc = os_stat(engine->os, path, &stat);
    if (rc == 0 && !stat.is_directory) {
        return error_set(error, DOCDB_ERR_NO_DIRECTORY, "the data directory %s is not a directory", path);
    }
    if (rc == -ENOENT && !(flags & DOCDB_OPEN_EXISTING)) {
        rc = os_mkdir(engine->os, path);
        if (rc == -ENOENT) {
            return error_set(
                error, DOCDB_ERR_NO_DIRECTORY,
                "can't create the data directory %s: its parent directory does not exist; create it first", path);
        }
        (void)snprintf(parent, sizeof parent, "%s/..", path);
        if (rc == 0) {
            rc = os_sync_directory(engine->os, parent);
        }
    }
    if (rc == -ENOENT) {
        return error_set(error, DOCDB_ERR_NO_DIRECTORY,
                         "no data directory at %s; `docdb serve` and `docdb create-db` create one", path);
    }
    if (rc != 0) {
        return error_set(error, error_from_os(rc), "can't use the data directory %s: %s", path, strerror(-rc));
    }
    return DOCDB_OK;
}

/* What stands in a directory without a manifest. */
struct contents {
    bool foreign; /* something that DocDB did not make */
    char example[256];
};

static int contents_see(void *arg, const char *name) {
    struct contents *contents = arg;
    static const char *const ours[] = {"LOCK", "MANIFEST", "MANIFEST.tmp", "wal", "db", "lost+found"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (strcmp(name, ours[i]) == 0) {
            return 0;
        }
    }
    contents->foreign = true;
    (void)snprintf(contents->example, sizeof contents->example, "%s", name);
    return 1;
}

static int wal_file_see(void *arg, const char *name) {
    bool *found = arg;
    *found = *found || strstr(name, ".wal") != NULL;
    return 0;
}

/* Makes a new store when the directory holds none, unless that could hide or mix with something else. */
static int store_ensure(struct engine *engine, unsigned flags, docdb_error *error) {
    char path[PATH_BYTES];
    struct os_stat stat;
    struct contents contents = {0};
    bool has_wal = false;
    (void)snprintf(path, sizeof path, "%s/MANIFEST", engine->directory);
    int rc = os_stat(engine->os, path, &stat);
    if (rc == 0) {
        return DOCDB_OK;
    }
    if (rc != -ENOENT) {
        return error_set(error, error_from_os(rc), "can't read %s: %s", path, strerror(-rc));
    }
    (void)os_list(engine->os, engine->directory, contents_see, &contents);
    (void)snprintf(path, sizeof path, "%s/wal", engine->directory);
    (void)os_list(engine->os, path, wal_file_see, &has_wal);
    if (has_wal) {
        return error_set(error, DOCDB_ERR_CORRUPT,
                         "damaged data: %s has WAL files but no MANIFEST; restore it from a backup",
                         engine->directory);
    }
    if (contents.foreign || (flags & DOCDB_OPEN_EXISTING)) {
        return error_set(
            error, DOCDB_ERR_NO_DIRECTORY,
            "%s is not a data directory of DocDB (it has no MANIFEST%s%s); use an empty or a new directory",
            engine->directory, contents.foreign ? ", but has " : "", contents.example);
    }
    return recovery_create_store(engine, error);
}

static int threads_start(struct engine *engine, docdb_error *error) {
    checkpoint_threshold_set(engine);
    int status = commit_start(engine);
    if (status == DOCDB_OK) {
        status = maintenance_start(engine);
    }
    if (status != DOCDB_OK) {
        return error_set(error, status, "can't start threads for %s", engine->directory);
    }
    engine_wake_maintenance(engine, false);
    return DOCDB_OK;
}

int engine_open(const char *path, const docdb_options *options, docdb **out, docdb_error *error) {
    if (strlen(path) > PATH_BYTES - 64) {
        return error_set(error, DOCDB_ERR_INVALID, "the path of the data directory is too long");
    }
    struct engine *engine = engine_create(path, options);
    if (engine == NULL || engine->directory == NULL) {
        if (engine != NULL) {
            engine_destroy(engine);
        }
        return error_set(error, DOCDB_ERR_MEMORY, "out of memory while opening %s", path);
    }
    int status = directory_open(engine, options->flags, error);
    if (status == DOCDB_OK) {
        status = lock_acquire(engine->os, engine->directory, &engine->lock_file, error);
    }
    if (status == DOCDB_OK) {
        status = store_ensure(engine, options->flags, error);
    }
    if (status == DOCDB_OK) {
        status = recovery_run(engine, error);
    }
    if (status == DOCDB_OK) {
        status = threads_start(engine, error);
    }
    if (status != DOCDB_OK) {
        commit_stop(engine);
        maintenance_stop(engine);
        engine_destroy(engine);
        return status;
    }
    *out = &engine->api;
    return DOCDB_OK;
}

static int engine_close(docdb *runtime) {
    struct engine *engine = engine_of(runtime);
    commit_stop(engine);
    maintenance_stop(engine);
    int status = checkpoint_run(engine);
    engine_destroy(engine);
    return status;
}

static int engine_checkpoint(docdb *runtime) { return checkpoint_run(engine_of(runtime)); }

/* ---- Limits and stats ---- */

static void engine_get_limits(docdb *runtime, docdb_limits *out) { *out = engine_of(runtime)->limits; }

static void stats_add_database(docdb_stats *stats, struct database *database) {
    stats->documents += atomic_load(&database->index->live_documents);
    stats->document_bytes += atomic_load(&database->index->live_bytes);
    stats->segment_bytes += segments_bytes(&database->segments);
    stats->segment_live_bytes += segments_live_bytes(&database->segments);
    stats->index_bytes += index_memory(database->index);
    stats->index_file_bytes += atomic_load(&database->index_file_bytes);
    for (size_t i = 0; i < INDEX_SHARDS; i++) {
        stats->reads += atomic_load_explicit(&database->index->shards[i].reads, memory_order_relaxed);
    }
}

static int engine_get_stats(docdb *runtime, docdb_stats *out) {
    struct engine *engine = engine_of(runtime);
    struct database **databases = NULL;
    size_t count = 0;
    int status = catalog_list(&engine->catalog, &databases, &count);
    if (status != DOCDB_OK) {
        return status;
    }
    *out = (docdb_stats){.databases = count};
    for (size_t i = 0; i < count; i++) {
        stats_add_database(out, databases[i]);
    }
    catalog_list_free(databases, count);
    out->commit_seq = atomic_load(&engine->snapshots.published);
    out->durable_commit_seq = out->commit_seq; /* published only when durable */
    out->checkpoint_commit_seq = atomic_load(&engine->checkpoint_seq);
    out->commits = atomic_load(&engine->commits);
    out->conflicts = atomic_load(&engine->conflicts);
    out->refused = atomic_load(&engine->refused);
    out->batches = atomic_load(&engine->batches);
    out->wal_bytes = atomic_load(&engine->wal.disk_bytes);
    out->wal_written_bytes = atomic_load(&engine->wal.written_bytes);
    out->checkpoints = atomic_load(&engine->checkpoints);
    out->compactions = atomic_load(&engine->compactions);
    out->compacted_bytes = atomic_load(&engine->compacted_bytes);
    out->throttled_us = atomic_load(&engine->throttled_us);
    out->segment_reads = atomic_load(&engine->segment_reads);
    out->resident_bytes = atomic_load(&engine->resident_bytes);
    out->snapshots = snapshots_count(&engine->snapshots);
    out->recovered_txns = engine->recovered_txns;
    out->recovery_us = engine->recovery_us;
    out->read_only = atomic_load(&engine->read_only);
    mutex_lock(&engine->failure_mutex);
    memcpy(out->read_only_reason, engine->failure, sizeof out->read_only_reason);
    mutex_unlock(&engine->failure_mutex);
    return DOCDB_OK;
}

/* ---- Databases ---- */

/* The database, created if asked for; one reference. */
static int database_ensure(struct engine *engine, const char *name, unsigned flags, struct database **out) {
    for (;;) {
        if (!(flags & DOCDB_DB_EXCLUSIVE)) {
            *out = catalog_find(&engine->catalog, name);
            if (*out != NULL) {
                return DOCDB_OK;
            }
        }
        if (!(flags & DOCDB_DB_CREATE)) {
            return DOCDB_ERR_NO_DATABASE;
        }
        int status = commit_create_database(engine, name);
        if (status != DOCDB_OK && (status != DOCDB_ERR_DATABASE_EXISTS || (flags & DOCDB_DB_EXCLUSIVE))) {
            return status;
        }
        flags &=
            ~(unsigned)DOCDB_DB_EXCLUSIVE; /* it is ours now; look it up, again if someone drops it meanwhile */
    }
}

static int engine_db_open(docdb *runtime, const char *name, unsigned flags, docdb_db **out) {
    struct engine *engine = engine_of(runtime);
    struct handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    int status = database_ensure(engine, name, flags, &handle->database);
    if (status != DOCDB_OK) {
        free(handle);
        return status;
    }
    handle->api = (docdb_db){.backend = &engine_backend, .runtime = runtime, .flags = flags};
    (void)snprintf(handle->api.name, sizeof handle->api.name, "%s", name);
    handle->engine = engine;
    *out = &handle->api;
    return DOCDB_OK;
}

static void engine_db_close(docdb_db *db) {
    struct handle *handle = handle_of(db);
    database_release(handle->database);
    free(handle);
}

static int engine_db_drop(docdb *runtime, const char *name, unsigned flags) {
    struct engine *engine = engine_of(runtime);
    int status = commit_drop_database(engine, name, flags);
    if (status == DOCDB_OK) {
        engine_free_dropped(engine);
    }
    return status;
}

static void database_info(const struct database *database, docdb_db_info *out) {
    memcpy(out->name, database->name, sizeof out->name);
    out->documents = atomic_load(&database->index->live_documents);
    out->document_bytes = atomic_load(&database->index->live_bytes);
    out->change_time_ns = atomic_load(&database->change_time_ns);
}

static int engine_db_list(docdb *runtime, docdb_db_info **out, size_t *count) {
    struct engine *engine = engine_of(runtime);
    struct database **databases = NULL;
    docdb_db_info *list = NULL;
    size_t found = 0;
    int status = catalog_list(&engine->catalog, &databases, &found);
    if (status == DOCDB_OK && found > 0) {
        list = malloc(found * sizeof *list);
        status = list == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    for (size_t i = 0; i < found && status == DOCDB_OK; i++) {
        database_info(databases[i], &list[i]);
    }
    catalog_list_free(databases, found);
    if (status == DOCDB_OK) {
        *out = list;
        *count = found;
    }
    return status;
}

static int engine_db_stat(docdb_db *db, docdb_db_info *out) {
    const struct handle *handle = handle_of(db);
    int status = handle_check(handle);
    if (status == DOCDB_OK) {
        database_info(handle->database, out);
    }
    return status;
}

/* ---- Reads ---- */

static int engine_read(docdb_db *db, const char *id, docdb_doc **out) {
    const struct handle *handle = handle_of(db);
    struct index_view view;
    int status = DOCDB_ERR_END;
    while (status == DOCDB_ERR_END) { /* while what was found is gone before it could be read */
        status = handle_check(handle);
        if (status == DOCDB_OK) {
            status = index_find(handle->database->index, id, strlen(id), INDEX_NEWEST, true, &view)
                         ? engine_load(handle->engine, handle->database, id, &view, out)
                         : DOCDB_ERR_NOT_FOUND;
        }
    }
    return status;
}

static int engine_stat(docdb_db *db, const char *id, docdb_info *out) {
    const struct handle *handle = handle_of(db);
    struct index_view view;
    int status = handle_check(handle);
    if (status != DOCDB_OK) {
        return status;
    }
    if (!index_find(handle->database->index, id, strlen(id), INDEX_NEWEST, false, &view)) {
        return DOCDB_ERR_NOT_FOUND;
    }
    *out = view.info;
    return DOCDB_OK;
}

/* ---- Observers ---- */

static int engine_observe(docdb *runtime, docdb_observer_fn observer, void *arg, docdb_observer **out) {
    return observers_add(&engine_of(runtime)->observers, &engine_backend, observer, arg, out);
}

const struct backend engine_backend = {
    .close = engine_close,
    .checkpoint = engine_checkpoint,
    .get_limits = engine_get_limits,
    .get_stats = engine_get_stats,
    .db_open = engine_db_open,
    .db_close = engine_db_close,
    .db_drop = engine_db_drop,
    .db_list = engine_db_list,
    .db_stat = engine_db_stat,
    .read = engine_read,
    .stat = engine_stat,
    .begin = txn_begin,
    .txn_read = txn_read,
    .txn_stat = txn_stat,
    .txn_write = txn_write,
    .txn_set_origin = txn_set_origin,
    .commit_async = txn_commit_async,
    .abort = txn_abort,
    .scan_open = scan_open,
    .scan_next = scan_next,
    .scan_close = scan_close,
    .verify_open = verify_open,
    .verify_next = verify_next,
    .verify_close = verify_close,
    .backup_open = backup_open,
    .backup_next = backup_next,
    .backup_close = backup_close,
    .observe = engine_observe,
    .unobserve = observers_remove,
};
