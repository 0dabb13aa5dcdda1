/*
 * See guard.h. Why the kernel does not do this by itself:
 *
 * A server that gets kill -9 while a thread of it waits in notify_inval_entry for a directory's inode lock does not
 * go away. The lock's holder is a client that waits for our reply, and the kernel ends the connection, which would
 * wake it, only when the server's last thread is gone and /dev/fuse is closed. Until then clients hang instead of
 * getting ENOTCONN, and the lock of the data directory and the sockets stay open, so that not even the next server
 * can start.
 *
 * The happy path: fork; the child keeps no file open and asks for a signal when the thread that forked it ends (the
 * main thread, which never waits in such a place); the server stops the child once it has unmounted. When the
 * server dies before that, the child gets the signal and ends the connection with umount2(MNT_FORCE). It keeps the
 * mount busy meanwhile, so that it is not unmounted as well: users are to get ENOTCONN, not the empty directory
 * below.
 *
 * Failures: without the right to unmount (not root), or when the guard is killed too, everything is as without it.
 *
 * Invariant: between fork and _exit only async-signal-safe calls, since the server has threads.
 */
#include "fuse/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_SIGNAL SIGUSR1

struct guarded {
    const char *mount_point;
    unsigned device_major;
    unsigned device_minor;
};

static void connection_end(const struct guarded *guarded) {
    struct statx root;
    int fd = open(guarded->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool ours = fd >= 0 && statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &root) == 0 &&
                root.stx_dev_major == guarded->device_major && root.stx_dev_minor == guarded->device_minor;
    if (ours) {
        (void)umount2(guarded->mount_point, MNT_FORCE | UMOUNT_NOFOLLOW); /* EBUSY, which is as it should be */
    }
}

static _Noreturn void guard_main(const struct guarded *guarded, pid_t server) {
    sigset_t signals;
    int number = 0;
    (void)sigfillset(&signals);
    (void)sigprocmask(SIG_SETMASK, &signals, NULL);
    (void)setsid(); /* Ctrl-C is the server's */
    bool moved = chdir("/") == 0;
    (void)moved; /* else it keeps a directory busy for as long as the server runs, as the server does */
    (void)close_range(0, ~0U, 0);
    (void)prctl(PR_SET_NAME, "docdb-guard");
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, GUARD_SIGNAL);
    if (prctl(PR_SET_PDEATHSIG, GUARD_SIGNAL) == 0 && getppid() == server) {
        while (sigwait(&signals, &number) != 0) {
        }
    }
    connection_end(guarded);
    _exit(0);
}

pid_t guard_start(const char *mount_point, unsigned device_major, unsigned device_minor) {
    struct guarded guarded = {
        .mount_point = mount_point, .device_major = device_major, .device_minor = device_minor};
    pid_t server = getpid();
    pid_t child = fork();
    if (child == 0) {
        guard_main(&guarded, server);
    }
    return child > 0 ? child : -errno;
}

void guard_stop(pid_t guard) {
    if (guard > 0) {
        (void)kill(guard, SIGKILL);
        while (waitpid(guard, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}
