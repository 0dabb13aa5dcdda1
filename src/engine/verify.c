/* See verify.h. Here: opening and closing, the thread, and the events on their way from it to the caller. */
#include "engine/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/thread.h"
#include "engine/collect.h"
#include "engine/lock.h"
#include "engine/verify_job.h"

/* Holds one event. The thread puts it in and waits while it is full; the caller takes it out. */
struct verify_channel {
    struct mutex mutex;
    struct condition changed;
    struct verify_message message GUARDED_BY(mutex);
    bool full GUARDED_BY(mutex);
    bool cancelled GUARDED_BY(mutex); /* the caller wants no more */
    bool ended GUARDED_BY(mutex);     /* the thread is done */
    int status GUARDED_BY(mutex);     /* how it ended */
};

struct verification {
    docdb_verify api;
    struct engine *engine; /* online; else NULL */
    int lock_file;         /* offline; else -1 */
    struct verify_channel channel;
    struct verify_message taken; /* the caller's last event */
    pthread_t thread;
    struct verify_job job; /* the thread's */
};

/* ---- Events ---- */

static int message_put(struct verify_channel *channel, const struct verify_message *message) {
    mutex_lock(&channel->mutex);
    while (channel->full && !channel->cancelled) {
        condition_wait(&channel->changed, &channel->mutex);
    }
    int status = channel->cancelled ? DOCDB_ERR_CLOSING : DOCDB_OK;
    if (status == DOCDB_OK) {
        channel->message = *message;
        channel->full = true;
        condition_broadcast(&channel->changed);
    }
    mutex_unlock(&channel->mutex);
    return status;
}

static int event_put(struct verify_job *job, struct verify_message *message, docdb_verify_kind kind,
                     uint64_t offset) {
    message->event = (docdb_verify_event){.kind = kind,
                                          .done_bytes = job->done_bytes,
                                          .total_bytes = job->total_bytes,
                                          .documents = job->documents,
                                          .damages = job->damages,
                                          .offset = offset};
    return message_put(job->channel, message);
}

int verify_damage(struct verify_job *job, const char *file, uint64_t offset, const char *database, const char *id,
                  size_t id_bytes, const char *what) {
    struct verify_message message = {0};
    (void)snprintf(message.file, sizeof message.file, "%s", file);
    (void)snprintf(message.database, sizeof message.database, "%s", database);
    (void)snprintf(message.what, sizeof message.what, "%s", what);
    memcpy(message.id, id, id_bytes);
    job->damages++;
    return event_put(job, &message, DOCDB_VERIFY_DAMAGE, offset);
}

int verify_read(struct verify_job *job, uint64_t bytes) {
    uint64_t left = job->phase_end - job->done_bytes;
    job->done_bytes += bytes < left ? bytes : left;
    job->unsaid_bytes += bytes;
    if (job->unsaid_bytes < VERIFY_WINDOW_BYTES) {
        return DOCDB_OK;
    }
    struct verify_message message = {0};
    job->unsaid_bytes = 0;
    return event_put(job, &message, DOCDB_VERIFY_PROGRESS, 0);
}

void verify_phase_begin(struct verify_job *job, uint64_t bytes) {
    uint64_t left = job->total_bytes - job->done_bytes;
    job->phase_end = job->done_bytes + (bytes < left ? bytes : left);
}

void verify_phase_end(struct verify_job *job) { job->done_bytes = job->phase_end; }

/* ---- The thread ---- */

static void *verify_main(void *arg) {
    struct verification *verification = arg;
    struct verify_job *job = &verification->job;
    struct verify_channel *channel = &verification->channel;
    int status = verify_reader_init(&job->reader);
    if (status == DOCDB_OK) {
        status = verify_work(job);
    }
    verify_reader_fini(job);
    if (status == DOCDB_OK) { /* the last event has the final counts */
        struct verify_message message = {0};
        job->done_bytes = job->total_bytes;
        status = event_put(job, &message, DOCDB_VERIFY_PROGRESS, 0);
    }
    mutex_lock(&channel->mutex);
    channel->ended = true;
    channel->status = status == DOCDB_OK ? DOCDB_ERR_END : status;
    condition_broadcast(&channel->changed);
    mutex_unlock(&channel->mutex);
    return NULL;
}

static void log_nothing(void *arg, docdb_log_level level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

static struct verification *verification_create(const struct docdb_os *os, const char *directory) {
    struct verification *verification = calloc(1, sizeof *verification);
    if (verification == NULL) {
        return NULL;
    }
    verification->api.backend = &engine_backend;
    verification->lock_file = -1;
    mutex_init(&verification->channel.mutex);
    condition_init(&verification->channel.changed);
    verification->job.os = os;
    verification->job.quiet.fn = log_nothing;
    verification->job.channel = &verification->channel;
    verification->job.reader.file = -1;
    (void)snprintf(verification->job.directory, sizeof verification->job.directory, "%s", directory);
    return verification;
}

/* Without its thread. */
static void verification_destroy(struct verification *verification) {
    struct engine *engine = verification->engine;
    if (engine != NULL) {
        mutex_lock(&engine->checkpoint_mutex);
        collect_release(engine);
        mutex_unlock(&engine->checkpoint_mutex);
    }
    if (verification->lock_file >= 0) {
        lock_release(verification->job.os, verification->lock_file);
    }
    manifest_fini(&verification->job.manifest);
    condition_fini(&verification->channel.changed);
    mutex_fini(&verification->channel.mutex);
    free(verification);
}

static int verification_start(struct verification *verification, docdb_verify **out) {
    int rc = thread_start(&verification->thread, "docdb-verify", verify_main, verification);
    if (rc != 0) {
        verification_destroy(verification);
        return rc == -EAGAIN ? DOCDB_ERR_BUSY : DOCDB_ERR_MEMORY;
    }
    *out = &verification->api;
    return DOCDB_OK;
}

/* ---- Opening ---- */

static int manifest_copy(const struct manifest *from, struct manifest *to) {
    struct manifest_database *databases = calloc(from->database_count + 1u, sizeof *databases);
    if (databases == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    if (from->database_count > 0) {
        memcpy(databases, from->databases, from->database_count * sizeof *databases);
    }
    *to = *from;
    to->databases = databases;
    return DOCDB_OK;
}

int verify_open(docdb *runtime, docdb_verify **out) {
    struct engine *engine = engine_of(runtime);
    struct verification *verification = verification_create(engine->os, engine->directory);
    if (verification == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    mutex_lock(&engine->checkpoint_mutex);
    int status = manifest_copy(&engine->manifest, &verification->job.manifest);
    if (status == DOCDB_OK) {
        collect_hold(engine);
        verification->engine = engine;
    }
    mutex_unlock(&engine->checkpoint_mutex);
    if (status != DOCDB_OK) {
        verification_destroy(verification);
        return status;
    }
    verification->job.manifest_known = true;
    return verification_start(verification, out);
}

static int wal_file_see(void *arg, const char *name) {
    bool *found = arg;
    *found = *found || strstr(name, ".wal") != NULL;
    return 0;
}

/* Is it a data directory, be it a damaged one? */
static int directory_check(const struct docdb_os *os, const char *path, docdb_error *error) {
    char below[VERIFY_PATH_BYTES];
    struct os_stat stat;
    bool has_wal = false;
    int rc = os_stat(os, path, &stat);
    if (rc == -ENOENT || (rc == 0 && !stat.is_directory)) {
        return error_set(error, DOCDB_ERR_NO_DIRECTORY, "no data directory at %s", path);
    }
    if (rc == 0) {
        (void)snprintf(below, sizeof below, "%s/MANIFEST", path);
        rc = os_stat(os, below, &stat);
    }
    if (rc == -ENOENT) {
        (void)snprintf(below, sizeof below, "%s/wal", path);
        (void)os_list(os, below, wal_file_see, &has_wal);
        return has_wal ? DOCDB_OK
                       : error_set(error, DOCDB_ERR_NO_DIRECTORY,
                                   "%s is not a data directory of DocDB (it has no MANIFEST)", path);
    }
    return rc == 0 ? DOCDB_OK : error_set(error, error_from_os(rc), "can't use %s: %s", path, strerror(-rc));
}

int verify_directory(const char *path, const docdb_options *options, docdb_verify **out, docdb_error *error) {
    const struct docdb_os *os = options->os != NULL ? options->os : docdb_os_default();
    if (strlen(path) > VERIFY_PATH_BYTES - 64) {
        return error_set(error, DOCDB_ERR_INVALID, "the path of the data directory is too long");
    }
    int status = directory_check(os, path, error);
    if (status != DOCDB_OK) {
        return status;
    }
    struct verification *verification = verification_create(os, path);
    if (verification == NULL) {
        return error_set(error, DOCDB_ERR_MEMORY, "out of memory while verifying %s", path);
    }
    verification->job.offline = true;
    status = lock_acquire(os, path, &verification->lock_file, error);
    if (status != DOCDB_OK) {
        verification_destroy(verification);
        return status;
    }
    status = verification_start(verification, out);
    return status == DOCDB_OK ? status : error_set(error, status, "can't start to verify %s", path);
}

/* ---- Use ---- */

static struct verification *verification_of(docdb_verify *verify) { return (struct verification *)verify; }

int verify_next(docdb_verify *verify, docdb_verify_event *out) {
    struct verification *verification = verification_of(verify);
    struct verify_channel *channel = &verification->channel;
    struct verify_message *taken = &verification->taken;
    mutex_lock(&channel->mutex);
    while (!channel->full && !channel->ended) {
        condition_wait(&channel->changed, &channel->mutex);
    }
    int status = channel->full ? DOCDB_OK : channel->status;
    if (status == DOCDB_OK) {
        *taken = channel->message;
        channel->full = false;
        condition_broadcast(&channel->changed);
    }
    mutex_unlock(&channel->mutex);
    if (status == DOCDB_OK) {
        taken->event.file = taken->file;
        taken->event.database = taken->database;
        taken->event.id = taken->id;
        taken->event.what = taken->what;
        *out = taken->event;
    }
    return status;
}

void verify_close(docdb_verify *verify) {
    struct verification *verification = verification_of(verify);
    struct verify_channel *channel = &verification->channel;
    mutex_lock(&channel->mutex);
    channel->cancelled = true;
    condition_broadcast(&channel->changed);
    mutex_unlock(&channel->mutex);
    thread_join(verification->thread);
    verification_destroy(verification);
}
