/* See lock.h. */
#include "engine/lock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define PATH_BYTES 4096

static int lock_taken(const struct docdb_os *os, const char *directory, int file, docdb_error *error) {
    char pid[32] = "";
    int64_t got = os_pread(os, file, pid, sizeof pid - 1, 0);
    pid[got > 0 ? got : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    return error_set(error, DOCDB_ERR_LOCKED,
                     "the data directory %s is in use by process %s; connect to its socket, or stop it first",
                     directory, pid[0] == '\0' ? "(unknown)" : pid);
}

/* The pid is a courtesy: a full disk must not keep anyone out. */
static int pid_write(const struct docdb_os *os, int file) {
    char pid[32];
    int length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    int rc = os_truncate(os, file, 0);
    if (rc == 0) {
        rc = os_pwrite(os, file, pid, (size_t)length, 0);
    }
    return error_from_os(rc) == DOCDB_ERR_NO_SPACE ? 0 : rc;
}

int lock_acquire(const struct docdb_os *os, const char *directory, int *out, docdb_error *error) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/LOCK", directory);
    int file = os_open(os, path, OS_READ | OS_WRITE | OS_CREATE);
    if (file < 0) {
        return error_set(error, error_from_os(file), "can't open the lock file %s: %s", path, strerror(-file));
    }
    int rc = os_lock(os, file);
    int status = DOCDB_OK;
    if (rc == -EAGAIN) {
        status = lock_taken(os, directory, file, error);
    } else if (rc != 0) {
        status = error_set(error, error_from_os(rc), "can't lock %s: %s", path, strerror(-rc));
    } else if ((rc = pid_write(os, file)) != 0) {
        status = error_set(error, error_from_os(rc), "can't write %s: %s", path, strerror(-rc));
    }
    if (status != DOCDB_OK) {
        (void)os_close(os, file);
        return status;
    }
    *out = file;
    return DOCDB_OK;
}

void lock_release(const struct docdb_os *os, int file) { (void)os_close(os, file); }
