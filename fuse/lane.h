/*
 * A lane: one thread that runs tasks in the order in which they were posted.
 *
 * The mount has three, so that no request thread and no commit thread ever waits for what may take long: kernel
 * notifications about names (they wait for a directory's lock), notifications about attributes (they wait for
 * nothing), and reads-then-writes (appends, truncations). A task is embedded in what it works on; run() owns it
 * from then on. A lane is not bounded itself: each task stands for a request that the kernel waits for or for a
 * commit that the engine holds, and both are bounded.
 */
#ifndef DOCDB_FUSE_LANE_H
#define DOCDB_FUSE_LANE_H

#include "base/thread.h"

struct task {
    struct task *next;
    void (*run)(struct task *task);
};

struct lane {
    struct mutex mutex; /* innermost: nothing else is locked under it */
    struct condition posted;
    struct task *head GUARDED_BY(mutex);
    struct task *tail GUARDED_BY(mutex);
    bool closing GUARDED_BY(mutex);
    pthread_t thread;
};

/* Starts the thread. Returns 0 or a negative errno value. */
int lane_open(struct lane *lane, const char *thread_name);
/* Runs what was posted, then ends the thread. Nothing may be posted by others any more. */
void lane_close(struct lane *lane);
void lane_post(struct lane *lane, struct task *task);

#endif
