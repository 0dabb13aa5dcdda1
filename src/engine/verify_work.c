/* See verify.h. Here: the order of the work, the manifest and the index files. */
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "engine/catalog.h"
#include "engine/verify_job.h"

static const char newer_format[] = "a format version that is newer than this program, or damaged";

/* ---- The manifest ---- */

static int manifest_check(struct verify_job *job) {
    char path[VERIFY_PATH_BYTES + 16];
    struct manifest read = {0};
    int status = manifest_read(job->os, job->directory, &read);
    if (status == DOCDB_OK && job->offline) {
        job->manifest = read;
        job->manifest_known = true;
        return DOCDB_OK;
    }
    if (status == DOCDB_OK || verify_is_over(status)) {
        manifest_fini(&read);
        return status;
    }
    (void)snprintf(path, sizeof path, "%s/MANIFEST", job->directory);
    return verify_damage(job, path, 0, "", "", 0,
                         status == DOCDB_ERR_NOT_FOUND      ? "the file is missing"
                         : status == DOCDB_ERR_NEWER_FORMAT ? newer_format
                         : status == DOCDB_ERR_CORRUPT      ? "a manifest that does not match its checksum"
                                                            : docdb_error_text(status));
}

/* ---- The runs of one database ---- */

struct runs_check {
    struct verify_job *job;
    const struct verify_place *place;
    char path[VERIFY_PATH_BYTES + 64];
    bool sound;
};

static int run_entry(void *arg, const struct index_file_entry *entry) {
    struct runs_check *check = arg;
    return verify_read(check->job, 32u + entry->id_bytes);
}

static int run_damaged(void *arg, uint64_t offset, const char *what) {
    struct runs_check *check = arg;
    check->sound = false;
    return verify_damage(check->job, check->path, offset, check->place->database, "", 0, what);
}

/* DOCDB_OK: it was looked at, and what is wrong was told. */
static int run_check(struct runs_check *check, uint64_t number, const struct index_file_header *expected) {
    struct verify_job *job = check->job;
    const char *directory = check->place->directory;
    index_file_path(directory, number, check->path, sizeof check->path);
    int status = index_file_read(job->os, &job->quiet, directory, number, expected, run_entry, run_damaged, check);
    if (status == DOCDB_OK || status == DOCDB_ERR_CORRUPT || verify_is_over(status)) {
        return status == DOCDB_ERR_CORRUPT ? DOCDB_OK : status; /* damage was told */
    }
    return run_damaged(check, status == DOCDB_ERR_NEWER_FORMAT ? 8 : 0,
                       status == DOCDB_ERR_NEWER_FORMAT ? newer_format : docdb_error_text(status));
}

/* Each run alone, then whether they fit each other. check->sound says whether they can be merged. */
static int runs_check(struct runs_check *check, const struct index_file_set *set,
                      const struct index_file_header *expected) {
    struct verify_job *job = check->job;
    struct index_file_set whole;
    int status = DOCDB_OK;
    for (size_t i = 0; i + 1 < set->run_count && status == DOCDB_OK; i++) {
        status = run_check(check, set->runs[i], expected);
    }
    if (status != DOCDB_OK || !check->sound) {
        return status;
    }
    uint64_t newest = set->runs[set->run_count - 1];
    status = index_file_open(job->os, &job->quiet, check->place->directory, newest, expected, &whole);
    if (status == DOCDB_OK) {
        index_file_set_fini(&whole);
        return DOCDB_OK;
    }
    index_file_path(check->place->directory, newest, check->path, sizeof check->path);
    return verify_is_over(status) ? status : run_damaged(check, 0, "runs that do not fit each other");
}

/* ---- One database ---- */

static uint64_t runs_bytes(const struct verify_job *job, const struct verify_place *place,
                           const struct index_file_set *set) {
    char path[VERIFY_PATH_BYTES + 64];
    uint64_t bytes = 0;
    for (size_t i = 0; i < set->run_count; i++) {
        struct os_stat stat = {0};
        index_file_path(place->directory, set->runs[i], path, sizeof path);
        bytes += os_stat(job->os, path, &stat) == 0 ? stat.bytes : 0;
    }
    return bytes;
}

static uint64_t segments_all_bytes(const struct index_file_set *set) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < set->segment_count; i++) {
        bytes += set->segments[i].bytes;
    }
    return bytes;
}

static void place_init(struct verify_place *place, const struct verify_job *job,
                       const struct manifest_database *database) {
    place->database_id = database->id;
    place->database = database->name;
    database_path(job->directory, database->id, place->directory, sizeof place->directory);
}

static struct index_file_header header_expected(const struct verify_job *job,
                                                const struct manifest_database *database) {
    return (struct index_file_header){.store_id = job->manifest.store_id, .database_id = database->id};
}

static int set_open(struct verify_job *job, const struct verify_place *place,
                    const struct manifest_database *database, struct index_file_set *out) {
    struct index_file_header expected = header_expected(job, database);
    return index_file_open_newest(job->os, &job->quiet, place->directory, database->checkpoint_number, &expected,
                                  out);
}

/* The index files, the segments' headers, the documents. *sound: all index files could be read. */
static int database_check(struct verify_job *job, const struct manifest_database *database, bool *sound) {
    struct verify_place place;
    struct index_file_set set = {0};
    struct index_file_header expected = header_expected(job, database);
    place_init(&place, job, database);
    struct runs_check check = {.job = job, .place = &place, .sound = true};
    int opened = set_open(job, &place, database, &set);
    verify_phase_begin(job, opened == DOCDB_OK ? 2 * runs_bytes(job, &place, &set) + segments_all_bytes(&set) : 0);
    int status = opened == DOCDB_ERR_MEMORY ? opened : run_check(&check, database->checkpoint_number, &expected);
    if (status == DOCDB_OK && opened == DOCDB_OK) {
        status = runs_check(&check, &set, &expected);
    }
    if (status == DOCDB_OK && opened == DOCDB_OK) {
        status = verify_segment_headers(job, &place, &set);
    }
    if (status == DOCDB_OK && opened == DOCDB_OK && check.sound) {
        status = verify_documents(job, &place, &set);
    }
    *sound = check.sound;
    index_file_set_fini(&set);
    verify_phase_end(job);
    return status;
}

static int database_walk(struct verify_job *job, const struct manifest_database *database, bool sound) {
    struct verify_place place;
    struct index_file_set set = {0};
    place_init(&place, job, database);
    int status = set_open(job, &place, database, &set);
    if (status != DOCDB_OK) {
        return verify_is_over(status) ? status : DOCDB_OK; /* that was told */
    }
    verify_phase_begin(job, segments_all_bytes(&set));
    status = verify_segment_walk(job, &place, &set, sound);
    index_file_set_fini(&set);
    verify_phase_end(job);
    return status;
}

/* ---- All of it ---- */

static uint64_t work_bytes(struct verify_job *job) {
    uint64_t bytes = job->offline ? verify_wal_bytes(job) : 0;
    for (uint32_t i = 0; i < job->manifest.database_count; i++) {
        const struct manifest_database *database = &job->manifest.databases[i];
        struct verify_place place;
        struct index_file_set set = {0};
        place_init(&place, job, database);
        if (database->checkpoint_number != 0 && set_open(job, &place, database, &set) == DOCDB_OK) {
            bytes += 2 * runs_bytes(job, &place, &set) + 2 * segments_all_bytes(&set);
            index_file_set_fini(&set);
        }
    }
    return bytes;
}

/* One after the other: first what documents are in, so that damage is told with their ids; then what is left. */
static int databases_check(struct verify_job *job, bool *sound) {
    const struct manifest *manifest = &job->manifest;
    int status = DOCDB_OK;
    for (uint32_t i = 0; i < manifest->database_count && status == DOCDB_OK; i++) {
        if (manifest->databases[i].checkpoint_number != 0) {
            status = database_check(job, &manifest->databases[i], &sound[i]);
        }
    }
    if (status == DOCDB_OK && job->offline) {
        verify_phase_begin(job, verify_wal_bytes(job));
        status = verify_wal(job);
        verify_phase_end(job);
    }
    for (uint32_t i = 0; i < manifest->database_count && status == DOCDB_OK; i++) {
        if (manifest->databases[i].checkpoint_number != 0) {
            status = database_walk(job, &manifest->databases[i], sound[i]);
        }
    }
    return status;
}

int verify_work(struct verify_job *job) {
    int status = manifest_check(job);
    if (status != DOCDB_OK || !job->manifest_known) {
        return status; /* without a manifest nothing says what else there should be */
    }
    job->total_bytes = work_bytes(job);
    bool *sound = calloc(job->manifest.database_count + 1u, sizeof *sound);
    status = sound == NULL ? DOCDB_ERR_MEMORY : databases_check(job, sound);
    free(sound);
    return status;
}
