/*
 * The disk and the clock, behind one table of functions.
 *
 * Nothing else in DocDB's engine makes a system call that touches a disk or a clock, so a test that passes another
 * table sees, delays, reorders and fails every one of them. docdb_os_default() is the real one.
 *
 * Conventions: every function returns 0 or a count or a file number on success, and a negative errno value on
 * failure. EINTR is retried here and never returned. Paths are absolute or relative to the working directory. All
 * functions are thread-safe; one file number may be used by several threads with pread and pwrite.
 */
#ifndef DOCDB_BASE_OS_H
#define DOCDB_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OS_READ = 1 << 0,      /* open for reading */
    OS_WRITE = 1 << 1,     /* open for writing */
    OS_CREATE = 1 << 2,    /* create when missing (mode 0600) */
    OS_EXCLUSIVE = 1 << 3, /* with OS_CREATE: fail with -EEXIST when not missing */
    OS_TRUNCATE = 1 << 4,  /* empty it */
    OS_DIRECT = 1 << 5, /* O_DIRECT: aligned buffers, offsets and sizes; -EINVAL where the file system has none */
    OS_DSYNC = 1 << 6,  /* O_DSYNC: each write is durable when it returns */
};

struct os_stat {
    uint64_t bytes;
    uint64_t allocated_bytes;
    bool is_directory;
};

/* Called for each name in a directory but "." and ".."; a non-zero return ends the listing and is returned by list.
 */
typedef int (*os_list_fn)(void *arg, const char *name);

struct docdb_os {
    void *ctx; /* handed to every function */

    int (*open)(void *ctx, const char *path, unsigned flags);
    int (*close)(void *ctx, int file);
    /* Both move all the bytes or fail; pread returns the count, less than asked only at the end of the file. */
    int64_t (*pread)(void *ctx, int file, void *buffer, size_t bytes, uint64_t offset);
    int (*pwrite)(void *ctx, int file, const void *buffer, size_t bytes, uint64_t offset);
    int (*sync)(void *ctx, int file); /* fdatasync: data and the size needed to read it back */
    int (*truncate)(void *ctx, int file, uint64_t bytes);
    int (*allocate)(void *ctx, int file, uint64_t offset,
                    uint64_t bytes); /* reserve space; -EOPNOTSUPP where it can't */
    int (*fstat)(void *ctx, int file, struct os_stat *out);

    int (*stat)(void *ctx, const char *path, struct os_stat *out);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path); /* mode 0700 */
    int (*rmdir)(void *ctx, const char *path);
    int (*list)(void *ctx, const char *path, os_list_fn each, void *arg);
    int (*sync_directory)(void *ctx,
                          const char *path); /* makes names created, renamed and unlinked in it durable */
    int (*free_bytes)(void *ctx, const char *path, uint64_t *out);

    /* An exclusive lock on an open file, held until it is closed or the process ends. -EAGAIN when it is taken. */
    int (*lock)(void *ctx, int file);

    int64_t (*realtime_ns)(void *ctx);  /* since 1970, may jump */
    int64_t (*monotonic_ns)(void *ctx); /* never goes back */
    void (*sleep_ns)(void *ctx, int64_t ns);
};

/* The real disk and clock. A static object. */
const struct docdb_os *docdb_os_default(void);

/* Short forms, in the order of the table. */
int os_open(const struct docdb_os *os, const char *path, unsigned flags);
int os_close(const struct docdb_os *os, int file);
int64_t os_pread(const struct docdb_os *os, int file, void *buffer, size_t bytes, uint64_t offset);
int os_pwrite(const struct docdb_os *os, int file, const void *buffer, size_t bytes, uint64_t offset);
int os_sync(const struct docdb_os *os, int file);
int os_truncate(const struct docdb_os *os, int file, uint64_t bytes);
int os_allocate(const struct docdb_os *os, int file, uint64_t offset, uint64_t bytes);
int os_fstat(const struct docdb_os *os, int file, struct os_stat *out);
int os_stat(const struct docdb_os *os, const char *path, struct os_stat *out);
int os_rename(const struct docdb_os *os, const char *from, const char *to);
int os_unlink(const struct docdb_os *os, const char *path);
int os_mkdir(const struct docdb_os *os, const char *path);
int os_rmdir(const struct docdb_os *os, const char *path);
int os_list(const struct docdb_os *os, const char *path, os_list_fn each, void *arg);
int os_sync_directory(const struct docdb_os *os, const char *path);
int os_free_bytes(const struct docdb_os *os, const char *path, uint64_t *out);
int os_lock(const struct docdb_os *os, int file);
int64_t os_realtime_ns(const struct docdb_os *os);
int64_t os_monotonic_ns(const struct docdb_os *os);
void os_sleep_ns(const struct docdb_os *os, int64_t ns);

#endif
