/*
 * The mount's life: checks, session, threads, stop.
 *
 * Start: clear a stale mount (stale.c), make a libfuse session, mount, observe commits, start the request threads.
 * Each of them reads a request from /dev/fuse and calls its op_ function, until the connection ends.
 *
 * Stop: no staged write is committed from then on; wait for the commits under way (their replies are
 * acknowledgements); end the connection; join the request threads; stop observing; drain the lanes; free
 * everything, whatever the kernel still holds.
 *
 * Failures: each step undoes the ones before it. A mount that someone else unmounts ends its threads and stays
 * until mount_stop.
 */
#include "fuse/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fuse/guard.h"
#include "fuse/internal.h"

#define WORKERS_END_MS 2000 /* how long the end of the connection is waited for before threads are cancelled */

int mount_possible(docdb_error *error) {
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        (void)close(fd);
        return DOCDB_OK;
    }
    if (errno == EACCES || errno == EPERM) {
        return error_set(error, DOCDB_ERR_PERMISSION,
                         "/dev/fuse cannot be opened (%s): run as root, or let the user or container use it",
                         strerror(errno));
    }
    return error_set(
        error, DOCDB_ERR_UNSUPPORTED,
        "/dev/fuse cannot be opened (%s): load the kernel module fuse, or give the container the device",
        strerror(errno));
}

/* ---- The session ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn) {
    (void)userdata;
    /* Versions never change under their node, so there is nothing to compare times for. */
    conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
    /* One request instead of two for O_TRUNC; no GETXATTR a write; lookups and listings side by side. */
    conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_PARALLEL_DIROPS |
                                   FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ);
    conn->max_write = MOUNT_WRITE_MAX;
}

/* What is missing is answered with ENOSYS, after which the kernel asks no more: extended attributes (a request a
 * file in `ls -l` otherwise), access, ioctl, copy_file_range, lseek. */
static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
};

/* libfuse writes to stderr what our own error says better. */
static void libfuse_log(enum fuse_log_level level, const char *format, va_list args) {
    (void)level;
    (void)format;
    (void)args;
}

static int session_mount(struct mount *mount, docdb_error *error) {
    char program[] = "docdb";
    char option[] = "-o";
    char root[] = "fsname=docdb,subtype=docdb,default_permissions,allow_other";
    char user[] = "fsname=docdb,subtype=docdb,default_permissions";
    char *arguments[] = {program, option, geteuid() == 0 ? root : user, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    fuse_set_log_func(libfuse_log);
    mount->session = fuse_session_new(&args, &operations, sizeof operations, mount);
    fuse_opt_free_args(&args);
    if (mount->session == NULL) {
        return error_set(error, DOCDB_ERR_MEMORY, "cannot mount on %s: no memory for a FUSE session",
                         mount->mount_point);
    }
    errno = 0;
    if (fuse_session_mount(mount->session, mount->mount_point) == 0) {
        return DOCDB_OK;
    }
    int reason = errno;
    fuse_session_destroy(mount->session);
    mount->session = NULL;
    bool refused = reason == EPERM || reason == EACCES;
    return error_set(error, refused ? DOCDB_ERR_PERMISSION : DOCDB_ERR_IO, "cannot mount on %s: %s%s",
                     mount->mount_point, reason == 0 ? "the mount was refused" : strerror(reason),
                     geteuid() == 0 ? "" : " (not root: is fusermount3 installed, and is the directory yours?)");
}

/* ---- Request threads ---- */

static void *worker_main(void *arg) {
    struct mount *mount = arg;
    struct fuse_buf buffer = {.mem = NULL};
    int received = 1;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    while (!fuse_session_exited(mount->session)) {
        (void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL); /* see workers_join */
        received = fuse_session_receive_buf(mount->session, &buffer);
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        if (received == -EINTR) {
            continue;
        }
        if (received <= 0) {
            break;
        }
        fuse_session_process_buf(mount->session, &buffer);
    }
    free(buffer.mem);
    if (received < 0) {
        log_error(&mount->log, "a request thread of the mount %s ends: %s", mount->mount_point,
                  strerror(-received));
    }
    mutex_lock(&mount->state);
    bool last = --mount->workers_running == 0;
    bool unexpected = last && !mount->stopping;
    condition_broadcast(&mount->worker_ended);
    mutex_unlock(&mount->state);
    if (unexpected) {
        log_warning(&mount->log, "%s was unmounted by someone else: nothing is served there any more",
                    mount->mount_point);
    }
    return NULL;
}

static int workers_start(struct mount *mount) {
    for (unsigned i = 0; i < MOUNT_WORKERS; i++) {
        mutex_lock(&mount->state);
        mount->workers_running++;
        mutex_unlock(&mount->state);
        int rc = thread_start(&mount->workers[i], "docdb-fuse", worker_main, mount);
        if (rc != 0) {
            mutex_lock(&mount->state);
            mount->workers_running--;
            mutex_unlock(&mount->state);
            return i == 0 ? rc : 0; /* fewer will do */
        }
        mount->worker_count++;
    }
    return 0;
}

/* The end of the connection wakes the threads. Where it could not be ended while files are open (not root) they are
 * cancelled in their read of /dev/fuse; closing that, later, ends the connection. */
static void workers_join(struct mount *mount) {
    mutex_lock(&mount->state);
    bool in_time = true;
    while (mount->workers_running > 0 && in_time) {
        in_time = condition_wait_ms(&mount->worker_ended, &mount->state, WORKERS_END_MS);
    }
    bool all = mount->workers_running == 0;
    mutex_unlock(&mount->state);
    for (unsigned i = 0; i < mount->worker_count; i++) {
        if (!all) {
            (void)pthread_cancel(mount->workers[i]);
        }
        thread_join(mount->workers[i]);
    }
    mount->worker_count = 0;
}

static void session_unmount(struct mount *mount) {
    if (fuse_session_exited(mount->session)) {
        return; /* someone unmounted it: another mount may be there by now */
    }
    stale_unmount(mount->mount_point);
}

/* ---- Start ---- */

static void mount_destroy(struct mount *mount) {
    listings_fini(&mount->listings);
    if (mount->session != NULL) {
        fuse_session_unmount(mount->session); /* it is unmounted: this frees what libfuse keeps for it */
        fuse_session_destroy(mount->session);
    }
    handle_list_fini(&mount->handles, &mount->tree);
    tree_fini(&mount->tree);
    retries_fini(&mount->retries);
    commits_fini(&mount->commits);
    condition_fini(&mount->worker_ended);
    mutex_fini(&mount->state);
    free(mount->mount_point);
    free(mount->data_dir);
    free(mount);
}

static struct mount *mount_create(docdb *runtime, const struct mount_options *options, docdb_error *error,
                                  int *status) {
    struct mount *mount = calloc(1, sizeof *mount);
    char *mount_point = stale_resolve(options->mount_point);
    char *data_dir = strdup(options->data_dir);
    if (mount == NULL || mount_point == NULL || data_dir == NULL) {
        bool missing = mount_point == NULL && errno != ENOMEM;
        *status =
            missing ? error_set(error, DOCDB_ERR_NO_DIRECTORY, "cannot mount on %s: %s; create the directory",
                                options->mount_point, strerror(errno))
                    : error_set(error, DOCDB_ERR_MEMORY, "cannot mount on %s: out of memory", options->mount_point);
        free(mount);
        free(mount_point);
        free(data_dir);
        return NULL;
    }
    docdb_limits limits;
    docdb_get_limits(runtime, &limits);
    mount->runtime = runtime;
    mount->log = (struct log){.fn = options->log, .arg = options->log_arg};
    mount->mount_point = mount_point;
    mount->data_dir = data_dir;
    mount->uid = geteuid();
    mount->gid = getegid();
    tree_init(&mount->tree, runtime);
    retries_init(&mount->retries);
    handle_list_init(&mount->handles);
    listings_init(&mount->listings);
    commits_init(&mount->commits);
    atomic_init(&mount->staging.used, 0);
    mount->staging.limit = options->staged_bytes_max != 0 ? options->staged_bytes_max : MOUNT_STAGED_BYTES_DEFAULT;
    mount->staging.document_limit = limits.max_doc_bytes;
    mutex_init(&mount->state);
    condition_init(&mount->worker_ended);
    return mount;
}

static int mount_point_check(const struct mount *mount, docdb_error *error) {
    int status = stale_clear(mount->mount_point, &mount->log, error);
    if (status != DOCDB_OK) {
        return status;
    }
    struct stat attr;
    if (stat(mount->mount_point, &attr) != 0) {
        return error_set(error, DOCDB_ERR_NO_DIRECTORY, "cannot mount on %s: %s", mount->mount_point,
                         strerror(errno));
    }
    if (!S_ISDIR(attr.st_mode)) {
        return error_set(error, DOCDB_ERR_NO_DIRECTORY, "cannot mount on %s: it is not a directory",
                         mount->mount_point);
    }
    return DOCDB_OK;
}

/* The helpers' threads. The lanes come up before the first commit is observed. */
static int helpers_open(struct mount *mount, docdb_error *error) {
    int rc = lane_open(&mount->entry_lane, "docdb-entries");
    if (rc != 0) {
        goto no_entry_lane;
    }
    rc = lane_open(&mount->attribute_lane, "docdb-attrs");
    if (rc != 0) {
        goto no_attribute_lane;
    }
    rc = lane_open(&mount->edit_lane, "docdb-edits");
    if (rc != 0) {
        goto no_edit_lane;
    }
    rc = lastclose_open(&mount->lastclose, mount);
    if (rc == 0) {
        return DOCDB_OK;
    }
    lane_close(&mount->edit_lane);
no_edit_lane:
    lane_close(&mount->attribute_lane);
no_attribute_lane:
    lane_close(&mount->entry_lane);
no_entry_lane:
    return error_set(error, DOCDB_ERR_MEMORY, "cannot mount on %s: cannot start a thread: %s", mount->mount_point,
                     strerror(-rc));
}

static void helpers_close(struct mount *mount) {
    lastclose_close(&mount->lastclose);
    lane_close(&mount->edit_lane);
    lane_close(&mount->entry_lane);
    lane_close(&mount->attribute_lane);
}

/* The device number that files of this mount show, from the kernel's cache: nobody serves requests yet. */
static void device_learn(struct mount *mount) {
    struct statx root;
    if (statx(AT_FDCWD, mount->mount_point, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &root) == 0) {
        mount->lastclose.device_major = root.stx_dev_major;
        mount->lastclose.device_minor = root.stx_dev_minor;
    }
}

static int mount_serve(struct mount *mount, docdb_error *error) {
    int status = session_mount(mount, error);
    if (status != DOCDB_OK) {
        return status;
    }
    device_learn(mount);
    status = docdb_observe(mount->runtime, notify_observe, mount, &mount->observer);
    if (status != DOCDB_OK) {
        (void)error_set(error, status, "cannot mount on %s: cannot observe commits: %s", mount->mount_point,
                        docdb_error_text(status));
        return status;
    }
    int rc = workers_start(mount);
    if (rc != 0) {
        docdb_unobserve(mount->observer);
        return error_set(error, DOCDB_ERR_MEMORY, "cannot mount on %s: cannot start a thread: %s",
                         mount->mount_point, strerror(-rc));
    }
    return DOCDB_OK;
}

int mount_start(docdb *runtime, const struct mount_options *options, struct mount **out, docdb_error *error) {
    int status = mount_possible(error);
    if (status != DOCDB_OK) {
        return status;
    }
    struct mount *mount = mount_create(runtime, options, error, &status);
    if (mount == NULL) {
        return status;
    }
    status = mount_point_check(mount, error);
    if (status == DOCDB_OK) {
        status = helpers_open(mount, error);
    }
    if (status != DOCDB_OK) {
        mount_destroy(mount);
        return status;
    }
    status = mount_serve(mount, error);
    if (status != DOCDB_OK) {
        helpers_close(mount);
        mount_destroy(mount);
        return status;
    }
    mount->guard = guard_start(mount->mount_point, mount->lastclose.device_major, mount->lastclose.device_minor);
    if (mount->guard < 0) {
        log_warning(&mount->log,
                    "no guard process for the mount (%s): clients may hang, not fail, if this server is killed",
                    strerror(-mount->guard));
    }
    *out = mount;
    return DOCDB_OK;
}

void mount_stop(struct mount *mount) {
    if (mount == NULL) {
        return;
    }
    mutex_lock(&mount->state);
    mount->stopping = true;
    mutex_unlock(&mount->state);
    commits_stop(&mount->commits);
    session_unmount(mount);
    workers_join(mount);
    guard_stop(mount->guard);
    docdb_unobserve(mount->observer);
    helpers_close(mount);
    mount_destroy(mount);
}
