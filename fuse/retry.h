/*
 * Who will come back: threads whose OPEN or truncate was answered with ESTALE.
 *
 * The kernel's VFS walks the path once more when a file system answers ESTALE: it asks LOOKUP for the last name
 * (twice: to revalidate the entry it has, and, that having failed, for a new one), then repeats the request. That
 * is how a writer gets a node of its own: remember the thread, answer ESTALE, hand the private node to that
 * thread's LOOKUP. A thread that never comes back (it was killed) leaves its mark behind; marks are few, bounded,
 * and harmless: they cost a later LOOKUP of the same name by the same thread its cache entry, no more.
 */
#ifndef DOCDB_FUSE_RETRY_H
#define DOCDB_FUSE_RETRY_H

#include <stdint.h>
#include <sys/types.h>

#include "base/thread.h"

enum retry_kind { RETRY_NONE, RETRY_READ, RETRY_WRITE };

enum {
    RETRY_SETS = 256, /* by thread id */
    RETRY_WAYS = 8,   /* threads of one set that can be on their way at once */
    RETRY_LIFE_MS = 5000,
};

struct retry {
    pid_t thread;
    enum retry_kind kind;
    const void *directory; /* compared, never followed */
    int64_t since_ns;
};

struct retries {
    struct mutex mutex; /* innermost */
    struct retry sets[RETRY_SETS][RETRY_WAYS] GUARDED_BY(mutex);
};

void retries_init(struct retries *retries);
void retries_fini(struct retries *retries);
void retries_add(struct retries *retries, pid_t thread, const void *directory, enum retry_kind kind);
enum retry_kind retries_find(struct retries *retries, pid_t thread, const void *directory);
void retries_remove(struct retries *retries, pid_t thread, const void *directory);

#endif
