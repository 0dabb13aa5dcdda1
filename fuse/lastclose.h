/*
 * The last-close rule: does this FLUSH end the file write?
 *
 * The kernel sends a FLUSH whenever some process closes some descriptor of an open file, and never says whether it
 * was the last one. A commit too early publishes half of what `{ a; b; } > doc` writes; one too late (RELEASE comes
 * after close has returned) breaks "after close returned, everyone sees it". /proc tells the difference, with
 * traps: see lastclose.c.
 */
#ifndef DOCDB_FUSE_LASTCLOSE_H
#define DOCDB_FUSE_LASTCLOSE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/thread.h"

struct fuse_req;
struct handle;
struct mount;

enum lastclose_verdict {
    LASTCLOSE_COMMIT, /* the last close: commit, then answer */
    LASTCLOSE_KEEP,   /* not the last one: answer, keep what is staged */
    LASTCLOSE_ABORT,  /* a writer died by a signal: never commit */
};

struct lastclose_job;

struct lastclose {
    struct mount *mount;
    struct mutex mutex; /* innermost */
    struct condition posted;
    struct condition watched;
    struct lastclose_job *
        first GUARDED_BY(mutex); /* not decided yet, oldest first; the first may be being looked at */
    struct lastclose_job *last GUARDED_BY(mutex);
    struct lastclose_job *looking GUARDED_BY(mutex); /* by the scanner, or NULL */
    uint64_t posted_count GUARDED_BY(mutex);
    bool closing GUARDED_BY(mutex);
    uint32_t device_major; /* of the mount, as statx shows it; immutable once requests come */
    uint32_t device_minor;
    pthread_t scanner;
    pthread_t watch;
};

/* Starts the threads. Returns 0 or a negative errno value. */
int lastclose_open(struct lastclose *lastclose, struct mount *mount);
/* Ends them; jobs not decided are given up (LASTCLOSE_KEEP). */
void lastclose_close(struct lastclose *lastclose);
/* The process of a thread; the thread itself when that cannot be told. Never blocks. */
pid_t lastclose_process(pid_t thread);
/* Decides about a FLUSH of a handle that has something to commit, and hands it to commit_flush_decided, now or
 * later, on any thread. */
void lastclose_decide(struct lastclose *lastclose, struct handle *handle, struct fuse_req *req, pid_t thread,
                      uint64_t owner);

#endif
