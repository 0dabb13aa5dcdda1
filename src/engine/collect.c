/* See collect.h. */
#include "engine/collect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

/* One database's directory. */
struct collecting {
    struct engine *engine;
    const struct manifest_database *entry; /* NULL: not in the manifest */
    struct database *database;             /* NULL: dropped */
    char directory[PATH_BYTES];
};

static void file_remove(struct engine *engine, const char *path) {
    int rc = os_unlink(engine->os, path);
    if (rc != 0 && rc != -ENOENT) {
        log_warning(&engine->log, "can't remove %s, which is not used any more: %s", path, strerror(-rc));
        engine->collect_wanted = true;
    }
}

static bool run_wanted(const struct collecting *collecting, uint64_t number) {
    bool wanted = collecting->database == NULL; /* the manifest still has it: its newest run names the others */
    for (size_t i = 0; !wanted && i < collecting->database->run_count; i++) {
        wanted = collecting->database->runs[i] == number;
    }
    return wanted;
}

static bool segment_wanted(const struct collecting *collecting, uint64_t number) {
    if (collecting->database == NULL) {
        return true;
    }
    struct segment *segment = segments_find(&collecting->database->segments, (uint32_t)number);
    segment_release(&collecting->database->segments, segment);
    return segment != NULL;
}

static bool file_wanted(const struct collecting *collecting, const char *name) {
    char *end = NULL;
    unsigned long long number = strtoull(name, &end, 16);
    bool is_run = strcmp(end, ".idx") == 0;
    bool is_segment = strcmp(end, ".seg") == 0;
    if (collecting->entry == NULL && collecting->database == NULL) {
        return false;
    }
    if (is_run) {
        return run_wanted(collecting, number);
    }
    return !is_segment || segment_wanted(collecting, number); /* other files are not ours: left alone */
}

static int file_collect(void *arg, const char *name) {
    const struct collecting *collecting = arg;
    char path[PATH_BYTES + 256];
    if (!file_wanted(collecting, name)) {
        (void)snprintf(path, sizeof path, "%s/%s", collecting->directory, name);
        file_remove(collecting->engine, path);
    }
    return 0;
}

static void database_collect(struct collecting *collecting, uint32_t id)
    REQUIRES(collecting->engine->checkpoint_mutex) {
    struct engine *engine = collecting->engine;
    const struct manifest *manifest = &engine->manifest;
    collecting->database = catalog_find_id(&engine->catalog, id);
    collecting->entry = NULL;
    for (uint32_t i = 0; i < manifest->database_count; i++) {
        if (manifest->databases[i].id == id) {
            collecting->entry = &manifest->databases[i];
        }
    }
    database_path(engine->directory, id, collecting->directory, sizeof collecting->directory);
    (void)os_list(engine->os, collecting->directory, file_collect, collecting);
    if (collecting->entry == NULL && collecting->database == NULL) {
        (void)os_rmdir(engine->os, collecting->directory);
    }
    database_release(collecting->database);
}

static int directory_collect(void *arg, const char *name) NO_THREAD_SAFETY_ANALYSIS {
    char *end = NULL;
    unsigned long id = strtoul(name, &end, 16);
    if (*end == '\0' && id != 0) {
        database_collect(arg, (uint32_t)id);
    }
    return 0;
}

void collect_all(struct engine *engine) {
    char path[PATH_BYTES];
    bool may = engine->file_holds == 0 && !engine->manifest_in_doubt;
    struct collecting *collecting = may ? calloc(1, sizeof *collecting) : NULL;
    if (collecting == NULL) {
        engine->collect_wanted = true; /* the next one does it */
        return;
    }
    engine->collect_wanted = false;
    collecting->engine = engine;
    (void)snprintf(path, sizeof path, "%s/db", engine->directory);
    (void)os_list(engine->os, path, directory_collect, collecting);
    free(collecting);
}

void collect_file(struct engine *engine, const char *path) {
    if (engine->file_holds > 0) {
        engine->collect_wanted = true;
    } else {
        file_remove(engine, path);
    }
}

void collect_hold(struct engine *engine) { engine->file_holds++; }

void collect_release(struct engine *engine) {
    engine->file_holds--;
    if (engine->file_holds == 0 && engine->collect_wanted) {
        collect_all(engine);
    }
}
