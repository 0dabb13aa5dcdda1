/*
 * What a crash left mounted.
 *
 * A server that was killed leaves its mount behind, and everything that touches it gets ENOTCONN. Before we mount
 * we look at the mount point in /proc/self/mounts (asking the mount itself could be answered from a cache, or hang)
 * and clear a dead mount of ours: umount2 with MNT_FORCE, which ends requests that hang, then MNT_DETACH.
 *
 * Dead or alive? statfs is never cached, so a thread asks for it: an answer means a live server, an error a dead
 * one. No answer in STALE_TIMEOUT_MS means dead, too: a server that is killed while it notifies the kernel can stay
 * as a zombie which keeps /dev/fuse open, and then its clients hang. (Nobody can be serving the same data
 * directory: its lock is ours by now.)
 *
 * Failures: anything but a dead mount of DocDB is refused with LOCKED.
 */
#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "fuse/internal.h"

#define STALE_TIMEOUT_MS 5000
#define STALE_LAYERS_MAX 16 /* mounts on top of each other that are cleared */

char *stale_resolve(const char *path) {
    char *resolved = realpath(path, NULL);
    if (resolved != NULL || (errno != ENOTCONN && errno != ECONNABORTED && errno != EIO)) {
        return resolved;
    }
    /* A dead mount at the last name: resolve what is before it. */
    char *copy = strdup(path);
    if (copy == NULL) {
        return NULL;
    }
    size_t bytes = strlen(copy);
    while (bytes > 1 && copy[bytes - 1] == '/') {
        copy[--bytes] = '\0';
    }
    char *slash = strrchr(copy, '/');
    const char *last = slash == NULL ? copy : slash + 1;
    char *parent = slash == NULL ? realpath(".", NULL) : NULL;
    if (slash != NULL) {
        *slash = '\0';
        parent = realpath(slash == copy ? "/" : copy, NULL);
    }
    if (parent == NULL || asprintf(&resolved, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last) < 0) {
        resolved = NULL;
    }
    free(parent);
    free(copy);
    return resolved;
}

enum mounted { MOUNTED_NOTHING, MOUNTED_DOCDB, MOUNTED_OTHER };

/* What is on top at the mount point. */
static enum mounted mounted_at(const char *mount_point) {
    enum mounted mounted = MOUNTED_NOTHING;
    FILE *file = setmntent("/proc/self/mounts", "re");
    if (file == NULL) {
        return mounted;
    }
    struct mntent entry;
    char text[PATH_MAX * 2];
    while (getmntent_r(file, &entry, text, sizeof text) != NULL) {
        if (strcmp(entry.mnt_dir, mount_point) == 0) {
            bool ours = strcmp(entry.mnt_type, "fuse.docdb") == 0 && strcmp(entry.mnt_fsname, "docdb") == 0;
            mounted = ours ? MOUNTED_DOCDB : MOUNTED_OTHER;
        }
    }
    (void)endmntent(file);
    return mounted;
}

struct probe {
    struct mutex mutex;
    struct condition done;
    const char *path;
    bool finished GUARDED_BY(mutex);
    bool alive GUARDED_BY(mutex);
};

static void *probe_main(void *arg) {
    struct probe *probe = arg;
    struct statfs out;
    bool alive = statfs(probe->path, &out) == 0;
    mutex_lock(&probe->mutex);
    probe->finished = true;
    probe->alive = alive;
    condition_signal(&probe->done);
    mutex_unlock(&probe->mutex);
    return NULL;
}

static void unmount_with_helper(const char *mount_point) {
    char command[] = "fusermount3";
    char unmount[] = "-u";
    char quiet[] = "-q";
    char lazy[] = "-z";
    char end[] = "--";
    char *path = strdup(mount_point);
    char *arguments[] = {command, unmount, quiet, lazy, end, path, NULL};
    pid_t child = 0;
    if (path != NULL && posix_spawnp(&child, command, NULL, NULL, arguments, environ) == 0) {
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    free(path);
}

void stale_unmount(const char *mount_point) {
    if (geteuid() != 0) {
        unmount_with_helper(mount_point);
        return;
    }
    if (umount2(mount_point, MNT_FORCE | UMOUNT_NOFOLLOW) != 0) { /* busy: but its requests have ended */
        (void)umount2(mount_point, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
}

/* Asks, and when nobody answers clears the mount. True: a live server answered. */
static bool clear_unless_alive(const char *mount_point) {
    struct probe probe = {.path = mount_point};
    pthread_t thread;
    mutex_init(&probe.mutex);
    condition_init(&probe.done);
    bool asked = thread_start(&thread, "docdb-probe", probe_main, &probe) == 0;
    mutex_lock(&probe.mutex);
    bool in_time = true;
    while (asked && !probe.finished && in_time) {
        in_time = condition_wait_ms(&probe.done, &probe.mutex, STALE_TIMEOUT_MS);
    }
    bool alive = !asked || probe.alive;
    mutex_unlock(&probe.mutex);
    if (!alive) {
        stale_unmount(mount_point); /* which also frees a probe that hangs */
    }
    if (asked) {
        thread_join(thread);
    }
    condition_fini(&probe.done);
    mutex_fini(&probe.mutex);
    return alive;
}

int stale_clear(const char *mount_point, const struct log *log, docdb_error *error) {
    for (int layer = 0; layer < STALE_LAYERS_MAX; layer++) {
        switch (mounted_at(mount_point)) {
        case MOUNTED_NOTHING:
            return DOCDB_OK;
        case MOUNTED_OTHER:
            return error_set(error, DOCDB_ERR_LOCKED,
                             "cannot mount on %s: another file system is mounted there; unmount it or use another "
                             "directory",
                             mount_point);
        case MOUNTED_DOCDB:
            if (clear_unless_alive(mount_point)) {
                return error_set(error, DOCDB_ERR_LOCKED,
                                 "cannot mount on %s: a live docdb server is mounted there; stop it or use another "
                                 "directory",
                                 mount_point);
            }
            log_warning(log, "cleared the mount that a server which is gone left at %s", mount_point);
            break;
        }
    }
    return error_set(error, DOCDB_ERR_LOCKED,
                     "cannot mount on %s: a mount that a server left there does not go away; try `umount -l %s`",
                     mount_point, mount_point);
}
