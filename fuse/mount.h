/* The mount: a front-end that serves /dbname/docid files, written against docdb.h and libfuse3's low-level
 * interface alone. */
#ifndef DOCDB_FUSE_MOUNT_H
#define DOCDB_FUSE_MOUNT_H

#include "docdb.h"

struct mount;

#define MOUNT_STAGED_BYTES_DEFAULT (256u << 20) /* writes of all open files that are not yet committed */

struct mount_options {
    const char *mount_point; /* an existing directory */
    const char *data_dir;    /* for statfs: the file system that `df` shows */
    docdb_log_fn log;        /* or NULL */
    void *log_arg;
    uint64_t staged_bytes_max; /* memory for staged writes; a write over it fails with ENOSPC. 0: the default */
};

/* Can FUSE be used here at all? DOCDB_OK, or UNSUPPORTED or PERMISSION with a message that says why. */
int mount_possible(docdb_error *error);

/*
 * Call it on the main thread: a guard process that ends the connection when the server is killed watches the thread
 * that called. Mounts `runtime` (embedded; it must outlive the mount) and serves it on threads of its own. A stale
 * mount that a crash left there is cleared first. When it returns DOCDB_OK the mount can be used. Errors, each with
 * a message: NO_DIRECTORY (missing, or not a directory), LOCKED (something live is mounted there), UNSUPPORTED,
 * PERMISSION, IO, MEMORY.
 */
int mount_start(docdb *runtime, const struct mount_options *options, struct mount **out, docdb_error *error);

/* Drops staged writes, unmounts, waits for the threads and frees the mount. */
void mount_stop(struct mount *mount);

#endif
