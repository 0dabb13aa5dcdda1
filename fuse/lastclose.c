/*
 * See lastclose.h.
 *
 * A FLUSH of a handle that has something to commit is the last close, unless
 *   (a) the closing process neither opened nor wrote the file (a child that inherited the descriptor),
 *   (b) the opener closes, and only others wrote (they, or their children, may go on),
 *   (c) several processes wrote, and the closing one is not the opener,
 *   (d) the closing process or the opener still has the file open.
 * What is not committed by the last close by these rules is committed by RELEASE. When the closing task is being
 * killed by a signal, nothing is: an exiting task has no memory (statm shows zeros), and then its stat has
 * PF_EXITING and the signal in its exit code. (PF_SIGNALED alone is wrong: a normal exit with other threads alive
 * sets it.)
 *
 * The trap: /proc/PID/stat and /proc/PID/fd block, unkillable, while PID is inside execve closing a close-on-exec
 * descriptor, and that process waits for our answer to its FLUSH. Hence: statm first; never look at a process that
 * neither opened nor wrote; look from a thread of its own (the scanner), with a watch thread that answers "commit"
 * (unless the task was killed: that look never blocks) for every job older than LASTCLOSE_TIMEOUT_MS, whether it is
 * being looked at or still queued behind one that is. The answer frees the other process, and with it the scanner.
 *
 * A server that may not look at another user's /proc/PID/fd (not root) falls back to "the opener's FLUSH commits".
 *
 * A job belongs to the list until someone decides it (takes it off under the mutex); the one who takes it off
 * answers. Locks: lastclose.mutex, not held while looking into /proc or answering.
 */
#include "fuse/lastclose.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/os.h"
#include "fuse/internal.h"

#define LASTCLOSE_TIMEOUT_MS                                                                                       \
    200                    /* a scan takes about 50 us; an execve that waits for us is held up for so long         \
                            */
#define TASK_EXITING 0x4ul /* PF_EXITING of the kernel's task flags */
#define SIGNAL_MASK  0x7f  /* of a wait status */

struct lastclose_job {
    struct lastclose_job *next;
    struct handle *handle; /* referenced */
    fuse_req_t req;
    pid_t thread;
    pid_t opener_group;
    uint64_t ino;
    uint32_t mark; /* the private node's: see attr_document */
    bool is_opener;
    bool wrote;
    unsigned owner_count;
    int64_t posted_ns;
    bool decided; /* by the watch, while the scanner looked: the scanner frees it */
};

/* ---- /proc ---- */

/* Reads a small file of /proc into text (terminated). Returns the length, 0 when it cannot be read. */
static size_t proc_read(pid_t thread, const char *file, char *text, size_t capacity) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)thread, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t bytes = read(fd, text, capacity - 1);
    (void)close(fd);
    text[bytes > 0 ? bytes : 0] = '\0';
    return bytes > 0 ? (size_t)bytes : 0;
}

pid_t lastclose_process(pid_t thread) {
    if (thread <= 0) {
        return 0;
    }
    /* pidfd_open takes the id of a process, not of one of its other threads: the usual case in one short call.
     * Opened and closed without the C library, so that a race detector, which would see only one of the two, sees
     * neither. */
    int fd = (int)syscall(SYS_pidfd_open, thread, 0);
    if (fd >= 0) {
        (void)syscall(SYS_close, fd);
        return thread;
    }
    char text[2048];
    if (proc_read(thread, "status", text, sizeof text) == 0) {
        return thread;
    }
    const char *group = strstr(text, "\nTgid:");
    return group == NULL ? thread : (pid_t)strtol(group + strlen("\nTgid:"), NULL, 10);
}

static bool task_exiting(pid_t thread) {
    char text[128];
    return proc_read(thread, "statm", text, sizeof text) > 1 && text[0] == '0' && text[1] == ' ';
}

/* Of an exiting task only: for others this may block. */
static bool task_killed(pid_t thread) {
    char text[2048];
    size_t bytes = proc_read(thread, "stat", text, sizeof text);
    const char *at = strrchr(text, ')'); /* the command's name may hold anything but ends here */
    if (bytes == 0 || at == NULL) {
        return false;
    }
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == ' ')) {
        text[--bytes] = '\0';
    }
    const char *exit_code = strrchr(text, ' ');
    for (int field = 2; field < 9 && at != NULL; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL || exit_code == NULL) {
        return false;
    }
    unsigned long flags = strtoul(at + 1, NULL, 10);
    return (flags & TASK_EXITING) != 0 && (strtol(exit_code + 1, NULL, 10) & SIGNAL_MASK) != 0;
}

enum holding { HOLDS, HOLDS_NOT, HOLDS_UNKNOWN };

/* Has the process this file open? Attributes are asked of the kernel's cache only: a GETATTR would come back to us.
 */
static enum holding task_holds(const struct lastclose *lastclose, pid_t process, const struct lastclose_job *job) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)process);
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return errno == EACCES || errno == EPERM ? HOLDS_UNKNOWN : HOLDS_NOT;
    }
    enum holding holding = HOLDS_NOT;
    const struct dirent *entry = NULL;
    while (holding == HOLDS_NOT && (entry = readdir(directory)) != NULL) {
        struct statx file;
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (statx(dirfd(directory), entry->d_name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO | STATX_ATIME,
                  &file) != 0) {
            if (errno == EACCES || errno == EPERM) {
                holding = HOLDS_UNKNOWN;
            }
            continue;
        }
        if (file.stx_ino == job->ino && file.stx_atime.tv_nsec == job->mark &&
            file.stx_dev_major == lastclose->device_major && file.stx_dev_minor == lastclose->device_minor) {
            holding = HOLDS;
        }
    }
    (void)closedir(directory);
    return holding;
}

static enum lastclose_verdict job_look(const struct lastclose *lastclose, const struct lastclose_job *job) {
    bool exiting = task_exiting(job->thread);
    if (exiting && task_killed(job->thread)) {
        return LASTCLOSE_ABORT;
    }
    if (job->is_opener && job->owner_count > 0 && !job->wrote) {
        return LASTCLOSE_KEEP; /* (b) */
    }
    if (!job->is_opener && job->owner_count > 1) {
        return LASTCLOSE_KEEP; /* (c) */
    }
    enum holding holding = exiting ? HOLDS_NOT : task_holds(lastclose, job->thread, job); /* (d) */
    if (holding == HOLDS_NOT && !job->is_opener) {
        holding = task_holds(lastclose, job->opener_group, job);
    }
    if (holding == HOLDS_UNKNOWN) {
        return job->is_opener ? LASTCLOSE_COMMIT : LASTCLOSE_KEEP;
    }
    return holding == HOLDS ? LASTCLOSE_KEEP : LASTCLOSE_COMMIT;
}

/* ---- Jobs ---- */

static void job_answer(struct lastclose *lastclose, struct handle *handle, fuse_req_t req,
                       enum lastclose_verdict verdict) {
    commit_flush_decided(lastclose->mount, handle, req, verdict);
    handle_release(lastclose->mount, handle);
}

static struct lastclose_job *job_take(struct lastclose *lastclose) REQUIRES(lastclose->mutex) {
    struct lastclose_job *job = lastclose->first;
    if (job != NULL) {
        lastclose->first = job->next;
        if (lastclose->first == NULL) {
            lastclose->last = NULL;
        }
    }
    return job;
}

static void *scanner_main(void *arg) {
    struct lastclose *lastclose = arg;
    mutex_lock(&lastclose->mutex);
    while (!lastclose->closing) {
        struct lastclose_job *job = job_take(lastclose);
        if (job == NULL) {
            condition_wait(&lastclose->posted, &lastclose->mutex);
            continue;
        }
        lastclose->looking = job;
        mutex_unlock(&lastclose->mutex);
        enum lastclose_verdict verdict = job_look(lastclose, job);
        mutex_lock(&lastclose->mutex);
        lastclose->looking = NULL;
        bool decided = job->decided;
        mutex_unlock(&lastclose->mutex);
        if (!decided) {
            job_answer(lastclose, job->handle, job->req, verdict);
        }
        free(job);
        mutex_lock(&lastclose->mutex);
    }
    mutex_unlock(&lastclose->mutex);
    return NULL;
}

/* What is known without a look that may block: was the closing task killed? */
static enum lastclose_verdict verdict_late(pid_t thread) {
    return task_exiting(thread) && task_killed(thread) ? LASTCLOSE_ABORT : LASTCLOSE_COMMIT;
}

/* Answers what is older than the timeout. Called and returns with the mutex held. */
static void watch_answer(struct lastclose *lastclose) REQUIRES(lastclose->mutex) {
    int64_t limit = os_monotonic_ns(docdb_os_default()) - LASTCLOSE_TIMEOUT_MS * INT64_C(1000000);
    struct lastclose_job *looking = lastclose->looking;
    if (looking != NULL && !looking->decided && looking->posted_ns < limit) {
        looking->decided = true;
        struct handle *handle = looking->handle;
        fuse_req_t req = looking->req;
        pid_t thread = looking->thread;
        mutex_unlock(&lastclose->mutex);
        job_answer(lastclose, handle, req, verdict_late(thread));
        mutex_lock(&lastclose->mutex);
    }
    while (lastclose->first != NULL && lastclose->first->posted_ns < limit) {
        struct lastclose_job *job = job_take(lastclose);
        mutex_unlock(&lastclose->mutex);
        job_answer(lastclose, job->handle, job->req, verdict_late(job->thread));
        free(job);
        mutex_lock(&lastclose->mutex);
    }
}

/* Sleeps while nothing is posted, and looks after the jobs a few times a second while something is: no wake-up a
 * job. */
static void *watch_main(void *arg) {
    struct lastclose *lastclose = arg;
    uint64_t seen = 0;
    mutex_lock(&lastclose->mutex);
    while (!lastclose->closing) {
        if (lastclose->looking == NULL && lastclose->first == NULL && lastclose->posted_count == seen) {
            lastclose->posted_count = 0; /* 0: the next one posted wakes the watch */
            seen = 0;
            condition_wait(&lastclose->watched, &lastclose->mutex);
            continue;
        }
        seen = lastclose->posted_count;
        (void)condition_wait_ms(&lastclose->watched, &lastclose->mutex, LASTCLOSE_TIMEOUT_MS / 2);
        watch_answer(lastclose);
    }
    mutex_unlock(&lastclose->mutex);
    return NULL;
}

int lastclose_open(struct lastclose *lastclose, struct mount *mount) {
    lastclose->mount = mount;
    mutex_init(&lastclose->mutex);
    condition_init(&lastclose->posted);
    condition_init(&lastclose->watched);
    int rc = thread_start(&lastclose->scanner, "docdb-lastclose", scanner_main, lastclose);
    if (rc == 0) {
        rc = thread_start(&lastclose->watch, "docdb-watch", watch_main, lastclose);
        if (rc == 0) {
            return 0;
        }
        mutex_lock(&lastclose->mutex);
        lastclose->closing = true;
        condition_broadcast(&lastclose->posted);
        mutex_unlock(&lastclose->mutex);
        thread_join(lastclose->scanner);
    }
    condition_fini(&lastclose->watched);
    condition_fini(&lastclose->posted);
    mutex_fini(&lastclose->mutex);
    return rc;
}

void lastclose_close(struct lastclose *lastclose) {
    mutex_lock(&lastclose->mutex);
    lastclose->closing = true;
    condition_broadcast(&lastclose->posted);
    condition_broadcast(&lastclose->watched);
    mutex_unlock(&lastclose->mutex);
    thread_join(lastclose->watch);
    thread_join(lastclose->scanner);
    mutex_lock(&lastclose->mutex);
    struct lastclose_job *job = NULL;
    while ((job = job_take(lastclose)) != NULL) {
        mutex_unlock(&lastclose->mutex);
        job_answer(lastclose, job->handle, job->req, LASTCLOSE_KEEP);
        free(job);
        mutex_lock(&lastclose->mutex);
    }
    mutex_unlock(&lastclose->mutex);
    condition_fini(&lastclose->watched);
    condition_fini(&lastclose->posted);
    mutex_fini(&lastclose->mutex);
}

void lastclose_decide(struct lastclose *lastclose, struct handle *handle, struct fuse_req *req, pid_t thread,
                      uint64_t owner) {
    bool is_opener = thread == handle->opener || lastclose_process(thread) == handle->opener_group;
    mutex_lock(&handle->mutex);
    bool wrote = handle_wrote(handle, owner);
    unsigned owner_count = handle->owner_count;
    mutex_unlock(&handle->mutex);
    struct lastclose_job *job = is_opener || wrote ? malloc(sizeof *job) : NULL;
    handle_acquire(handle);
    if (job == NULL) {
        job_answer(lastclose, handle, req, LASTCLOSE_KEEP); /* (a); or no memory: RELEASE commits */
        return;
    }
    *job = (struct lastclose_job){
        .handle = handle, .req = req, .thread = thread, .is_opener = is_opener, .wrote = wrote};
    job->opener_group = handle->opener_group;
    job->ino = handle->document->ino;
    job->mark = handle->document->mark;
    job->owner_count = owner_count;
    job->posted_ns = os_monotonic_ns(docdb_os_default());
    mutex_lock(&lastclose->mutex);
    if (lastclose->last == NULL) {
        lastclose->first = job;
    } else {
        lastclose->last->next = job;
    }
    lastclose->last = job;
    if (lastclose->posted_count++ == 0) {
        condition_signal(&lastclose->watched);
    }
    condition_signal(&lastclose->posted);
    mutex_unlock(&lastclose->mutex);
}
