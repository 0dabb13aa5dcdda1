/* The real disk and clock: one thin function a system call. See os.h. */
#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* A single read or write moves at most 2 GiB less a page on Linux; stay well below and loop. */
#define IO_CHUNK_BYTES ((size_t)1 << 30)

static int real_open(void *ctx, const char *path, unsigned flags) {
    (void)ctx;
    int oflags = O_CLOEXEC;
    if ((flags & OS_READ) && (flags & OS_WRITE)) {
        oflags |= O_RDWR;
    } else if (flags & OS_WRITE) {
        oflags |= O_WRONLY;
    } else {
        oflags |= O_RDONLY;
    }
    oflags |= (flags & OS_CREATE) ? O_CREAT : 0;
    oflags |= (flags & OS_EXCLUSIVE) ? O_EXCL : 0;
    oflags |= (flags & OS_TRUNCATE) ? O_TRUNC : 0;
    oflags |= (flags & OS_DIRECT) ? O_DIRECT : 0;
    oflags |= (flags & OS_DSYNC) ? O_DSYNC : 0;
    int file;
    do {
        file = open(path, oflags, 0600);
    } while (file < 0 && errno == EINTR);
    return file < 0 ? -errno : file;
}

static int real_close(void *ctx, int file) {
    (void)ctx;
    /* Linux frees the descriptor even when close fails, so there is nothing to retry. */
    return close(file) != 0 && errno != EINTR ? -errno : 0;
}

static int64_t real_pread(void *ctx, int file, void *buffer, size_t bytes, uint64_t offset) {
    (void)ctx;
    size_t done = 0;
    while (done < bytes) {
        size_t chunk = bytes - done < IO_CHUNK_BYTES ? bytes - done : IO_CHUNK_BYTES;
        ssize_t n = pread(file, (char *)buffer + done, chunk, (off_t)(offset + done));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int real_pwrite(void *ctx, int file, const void *buffer, size_t bytes, uint64_t offset) {
    (void)ctx;
    size_t done = 0;
    while (done < bytes) {
        size_t chunk = bytes - done < IO_CHUNK_BYTES ? bytes - done : IO_CHUNK_BYTES;
        ssize_t n = pwrite(file, (const char *)buffer + done, chunk, (off_t)(offset + done));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (n == 0) {
            return -EIO;
        }
        done += (size_t)n;
    }
    return 0;
}

static int real_sync(void *ctx, int file) {
    (void)ctx;
    /* Not retried: after a failed sync the kernel may have dropped the dirty pages, and a second call would lie. */
    return fdatasync(file) != 0 ? -errno : 0;
}

static int real_truncate(void *ctx, int file, uint64_t bytes) {
    (void)ctx;
    return ftruncate(file, (off_t)bytes) != 0 ? -errno : 0;
}

static int real_allocate(void *ctx, int file, uint64_t offset, uint64_t bytes) {
    (void)ctx;
    int rc;
    do {
        rc = fallocate(file, 0, (off_t)offset, (off_t)bytes);
    } while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

static void stat_fill(const struct stat *st, struct os_stat *out) {
    out->bytes = (uint64_t)st->st_size;
    out->allocated_bytes = (uint64_t)st->st_blocks * 512;
    out->is_directory = S_ISDIR(st->st_mode);
}

static int real_fstat(void *ctx, int file, struct os_stat *out) {
    (void)ctx;
    struct stat st;
    if (fstat(file, &st) != 0) {
        return -errno;
    }
    stat_fill(&st, out);
    return 0;
}

static int real_stat(void *ctx, const char *path, struct os_stat *out) {
    (void)ctx;
    struct stat st;
    if (stat(path, &st) != 0) {
        return -errno;
    }
    stat_fill(&st, out);
    return 0;
}

static int real_rename(void *ctx, const char *from, const char *to) {
    (void)ctx;
    return rename(from, to) != 0 ? -errno : 0;
}

static int real_unlink(void *ctx, const char *path) {
    (void)ctx;
    return unlink(path) != 0 ? -errno : 0;
}

static int real_mkdir(void *ctx, const char *path) {
    (void)ctx;
    return mkdir(path, 0700) != 0 ? -errno : 0;
}

static int real_rmdir(void *ctx, const char *path) {
    (void)ctx;
    return rmdir(path) != 0 ? -errno : 0;
}

static int real_list(void *ctx, const char *path, os_list_fn each, void *arg) {
    (void)ctx;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return -errno;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = each(arg, entry->d_name);
        }
    }
    (void)closedir(dir);
    return rc;
}

static int real_sync_directory(void *ctx, const char *path) {
    (void)ctx;
    int file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    int rc = fsync(file) != 0 ? -errno : 0;
    (void)close(file);
    return rc;
}

static int real_free_bytes(void *ctx, const char *path, uint64_t *out) {
    (void)ctx;
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return -errno;
    }
    *out = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static int real_lock(void *ctx, int file) {
    (void)ctx;
    /* An open-file-description lock: it also excludes a second open in this process, and no unrelated close drops
     * it. Such a lock has no pid; the caller keeps the owner's in the file. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(file, F_OFD_SETLK, &lock) != 0) {
        return errno == EACCES ? -EAGAIN : -errno;
    }
    return 0;
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t real_realtime_ns(void *ctx) {
    (void)ctx;
    return clock_ns(CLOCK_REALTIME);
}

static int64_t real_monotonic_ns(void *ctx) {
    (void)ctx;
    return clock_ns(CLOCK_MONOTONIC);
}

static void real_sleep_ns(void *ctx, int64_t ns) {
    (void)ctx;
    struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

const struct docdb_os *docdb_os_default(void) {
    static const struct docdb_os real = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pwrite = real_pwrite,
        .sync = real_sync,
        .truncate = real_truncate,
        .allocate = real_allocate,
        .fstat = real_fstat,
        .stat = real_stat,
        .rename = real_rename,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .list = real_list,
        .sync_directory = real_sync_directory,
        .free_bytes = real_free_bytes,
        .lock = real_lock,
        .realtime_ns = real_realtime_ns,
        .monotonic_ns = real_monotonic_ns,
        .sleep_ns = real_sleep_ns,
    };
    return &real;
}

int os_open(const struct docdb_os *os, const char *path, unsigned flags) { return os->open(os->ctx, path, flags); }

int os_close(const struct docdb_os *os, int file) { return os->close(os->ctx, file); }

int64_t os_pread(const struct docdb_os *os, int file, void *buffer, size_t bytes, uint64_t offset) {
    return os->pread(os->ctx, file, buffer, bytes, offset);
}

int os_pwrite(const struct docdb_os *os, int file, const void *buffer, size_t bytes, uint64_t offset) {
    return os->pwrite(os->ctx, file, buffer, bytes, offset);
}

int os_sync(const struct docdb_os *os, int file) { return os->sync(os->ctx, file); }

int os_truncate(const struct docdb_os *os, int file, uint64_t bytes) { return os->truncate(os->ctx, file, bytes); }

int os_allocate(const struct docdb_os *os, int file, uint64_t offset, uint64_t bytes) {
    return os->allocate(os->ctx, file, offset, bytes);
}

int os_fstat(const struct docdb_os *os, int file, struct os_stat *out) { return os->fstat(os->ctx, file, out); }

int os_stat(const struct docdb_os *os, const char *path, struct os_stat *out) {
    return os->stat(os->ctx, path, out);
}

int os_rename(const struct docdb_os *os, const char *from, const char *to) { return os->rename(os->ctx, from, to); }

int os_unlink(const struct docdb_os *os, const char *path) { return os->unlink(os->ctx, path); }

int os_mkdir(const struct docdb_os *os, const char *path) { return os->mkdir(os->ctx, path); }

int os_rmdir(const struct docdb_os *os, const char *path) { return os->rmdir(os->ctx, path); }

int os_list(const struct docdb_os *os, const char *path, os_list_fn each, void *arg) {
    return os->list(os->ctx, path, each, arg);
}

int os_sync_directory(const struct docdb_os *os, const char *path) { return os->sync_directory(os->ctx, path); }

int os_free_bytes(const struct docdb_os *os, const char *path, uint64_t *out) {
    return os->free_bytes(os->ctx, path, out);
}

int os_lock(const struct docdb_os *os, int file) { return os->lock(os->ctx, file); }

int64_t os_realtime_ns(const struct docdb_os *os) { return os->realtime_ns(os->ctx); }

int64_t os_monotonic_ns(const struct docdb_os *os) { return os->monotonic_ns(os->ctx); }

void os_sleep_ns(const struct docdb_os *os, int64_t ns) { os->sleep_ns(os->ctx, ns); }
