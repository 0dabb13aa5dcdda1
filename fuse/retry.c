/* See retry.h. A small set-associative table: a set that is full loses its oldest mark. */
#include "fuse/retry.h"

#include <string.h>

#include "base/os.h"

void retries_init(struct retries *retries) {
    mutex_init(&retries->mutex);
    mutex_lock(&retries->mutex);
    memset(retries->sets, 0, sizeof retries->sets);
    mutex_unlock(&retries->mutex);
}

void retries_fini(struct retries *retries) { mutex_fini(&retries->mutex); }

/* The thread's mark. A thread is in one system call at a time, so it has at most one; but threads outside our PID
 * namespace are all number 0 and share a mark in each directory. */
static struct retry *retry_of(struct retries *retries, pid_t thread, const void *directory)
    REQUIRES(retries->mutex) {
    struct retry *set = retries->sets[(unsigned)thread % RETRY_SETS];
    for (int i = 0; i < RETRY_WAYS; i++) {
        if (set[i].kind != RETRY_NONE && set[i].thread == thread &&
            (thread != 0 || set[i].directory == directory)) {
            return &set[i];
        }
    }
    return NULL;
}

static struct retry *retry_place(struct retries *retries, pid_t thread) REQUIRES(retries->mutex) {
    struct retry *set = retries->sets[(unsigned)thread % RETRY_SETS];
    struct retry *oldest = &set[0];
    for (int i = 0; i < RETRY_WAYS; i++) {
        if (set[i].kind == RETRY_NONE) {
            return &set[i];
        }
        if (set[i].since_ns < oldest->since_ns) {
            oldest = &set[i];
        }
    }
    return oldest;
}

void retries_add(struct retries *retries, pid_t thread, const void *directory, enum retry_kind kind) {
    int64_t now_ns = os_monotonic_ns(docdb_os_default());
    mutex_lock(&retries->mutex);
    struct retry *retry = retry_of(retries, thread, directory);
    if (retry != NULL && thread == 0 && retry->kind == RETRY_WRITE) {
        kind = RETRY_WRITE; /* another thread may want it: a reader can do with a writer's node */
    }
    if (retry == NULL) {
        retry = retry_place(retries, thread);
    }
    *retry = (struct retry){.thread = thread, .kind = kind, .directory = directory, .since_ns = now_ns};
    mutex_unlock(&retries->mutex);
}

enum retry_kind retries_find(struct retries *retries, pid_t thread, const void *directory) {
    enum retry_kind kind = RETRY_NONE;
    mutex_lock(&retries->mutex);
    struct retry *retry = retry_of(retries, thread, directory);
    if (retry != NULL) {
        if (os_monotonic_ns(docdb_os_default()) - retry->since_ns > RETRY_LIFE_MS * INT64_C(1000000)) {
            retry->kind = RETRY_NONE;
        } else if (retry->directory == directory) {
            kind = retry->kind;
        }
    }
    mutex_unlock(&retries->mutex);
    return kind;
}

void retries_remove(struct retries *retries, pid_t thread, const void *directory) {
    mutex_lock(&retries->mutex);
    struct retry *retry = retry_of(retries, thread, directory);
    if (retry != NULL && retry->directory == directory && thread != 0) {
        retry->kind = RETRY_NONE;
    }
    mutex_unlock(&retries->mutex);
}
