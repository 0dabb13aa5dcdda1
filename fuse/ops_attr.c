/*
 * Attributes: stat, and what sets them (GETATTR, SETATTR, STATFS).
 *
 * A version's attributes never change, so the kernel keeps them for an hour; a directory's are invalidated by
 * commits that add or remove a member; a writer's private node has a timeout of 0 and shows the staged size.
 *
 * SETATTR
 *   mode, owner   accepted and ignored: they are the mount's
 *   size, handle  ftruncate: changes the stage
 *   size, path    truncate: one transaction. It is done on a private node that the ESTALE way provides, for two
 * reasons: the kernel changes the size of the node that it asked about, which readers share; and it holds that
 * node's lock meanwhile, for which an unlink (that holds the directory's lock, for which a notification waits) may
 * wait. times         kept as the document's time: with the next commit when the file is being written, else one
 * transaction. That one may run on a shared node, so its acknowledgement does not wait for a notification; the
 * reply carries the new time, which covers the moment until the notification is delivered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/os.h"
#include "fuse/internal.h"

#define BLOCK_BYTES 512    /* of st_blocks, whatever the file system */
#define IO_BYTES    131072 /* what cp and cat use for a read or write */
#define NS_PER_S    1000000000

int errno_of(int status) { return docdb_error_errno(status); }

static struct timespec time_of(int64_t ns) {
    struct timespec time = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    if (time.tv_nsec < 0) {
        time.tv_sec--;
        time.tv_nsec += NS_PER_S;
    }
    return time;
}

static void attr_directory(const struct mount *mount, ino_t ino, nlink_t links, int64_t time_ns,
                           struct stat *attr) {
    memset(attr, 0, sizeof *attr);
    attr->st_ino = ino;
    attr->st_mode = S_IFDIR | 0755;
    attr->st_nlink = links;
    attr->st_uid = mount->uid;
    attr->st_gid = mount->gid;
    attr->st_blksize = IO_BYTES;
    attr->st_mtim = time_of(time_ns);
    attr->st_ctim = attr->st_mtim;
    attr->st_atim = attr->st_mtim;
}

void attr_root(struct mount *mount, struct stat *attr) {
    mutex_lock(&mount->tree.mutex);
    int64_t time_ns = mount->tree.root_mtime_ns;
    mutex_unlock(&mount->tree.mutex);
    attr_directory(mount, FUSE_ROOT_ID, 1, time_ns, attr); /* 1 link: "subdirectories are not counted" */
}

bool attr_database(struct mount *mount, struct database *database, struct stat *attr) {
    docdb_db_info info;
    tree_attributes_given(&mount->tree, &database->directory);
    if (docdb_db_stat(database->handle, &info) != DOCDB_OK) {
        return false;
    }
    attr_directory(mount, ino_of_database(database->name), 2, info.change_time_ns, attr);
    return true;
}

static void attr_file(const struct mount *mount, ino_t ino, uint64_t bytes, struct stat *attr) {
    memset(attr, 0, sizeof *attr);
    attr->st_ino = ino;
    attr->st_mode = S_IFREG | 0644;
    attr->st_nlink = 1;
    attr->st_uid = mount->uid;
    attr->st_gid = mount->gid;
    attr->st_size = (off_t)bytes;
    attr->st_blocks = (blkcnt_t)((bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    attr->st_blksize = IO_BYTES;
}

void attr_document(const struct mount *mount, const struct document *document, struct stat *attr) {
    attr_file(mount, document->ino, document->info.bytes, attr);
    attr->st_mtim = time_of(document->mtime_ns);
    attr->st_ctim = time_of(document->info.commit_time_ns);
    attr->st_atim = attr->st_mtim;
    if (document->node.kind == NODE_WRITER) {
        /* Programs expect the inode number of the path they opened (vim refuses to write otherwise), so the
         * last-close rule tells the private nodes of one version apart by what nobody looks at: the access time. */
        attr->st_atim.tv_nsec = document->mark;
    }
}

/* The handle that writes through a private node, referenced; or NULL. */
static struct handle *writer_acquire(struct mount *mount, const struct document *document) {
    mutex_lock(&mount->tree.mutex);
    struct handle *handle = document->writer;
    if (handle != NULL) {
        handle_acquire(handle);
    }
    mutex_unlock(&mount->tree.mutex);
    return handle;
}

/* A document as it is for the one who asks: the committed version, or what its writer has staged. */
static double attr_now(struct mount *mount, struct document *document, struct stat *attr) {
    mutex_lock(&mount->tree.mutex);
    attr_document(mount, document, attr);
    mutex_unlock(&mount->tree.mutex);
    if (document->node.kind != NODE_WRITER) {
        return MOUNT_CACHE_S;
    }
    struct handle *handle = writer_acquire(mount, document);
    if (handle != NULL) {
        mutex_lock(&handle->mutex);
        attr->st_size = (off_t)handle_bytes(handle);
        attr->st_blocks = (attr->st_size + BLOCK_BYTES - 1) / BLOCK_BYTES;
        if (handle->mtime_set) {
            attr->st_mtim = time_of(handle->mtime_ns);
        } else if (handle->dirty) {
            attr->st_mtim = time_of(os_realtime_ns(docdb_os_default()));
        }
        mutex_unlock(&handle->mutex);
        handle_release(mount, handle);
    }
    return 0;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    (void)file; /* the private node knows its handle, and fstat does not send it */
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, ino);
    struct stat attr;
    double timeout = MOUNT_CACHE_S;
    if (node->kind == NODE_ROOT) {
        tree_attributes_given(&mount->tree, &mount->tree.root);
        attr_root(mount, &attr);
    } else if (node->kind == NODE_DATABASE) {
        if (!attr_database(mount, database_of(node), &attr)) {
            (void)fuse_reply_err(req, ENOENT);
            return;
        }
    } else {
        timeout = attr_now(mount, document_of(node), &attr);
    }
    (void)fuse_reply_attr(req, &attr, timeout);
}

/* ---- Times of a document that nobody is writing through this node ---- */

struct time_request {
    struct mount *mount;
    fuse_req_t req;
    struct document *document; /* the kernel holds it until the reply */
    int64_t mtime_ns;
};

static void time_done(void *arg, int status, uint64_t commit_seq) {
    (void)commit_seq;
    struct time_request *request = arg;
    struct mount *mount = request->mount;
    if (status == DOCDB_OK) {
        struct stat attr;
        mutex_lock(&mount->tree.mutex);
        request->document->mtime_ns = request->mtime_ns;
        mutex_unlock(&mount->tree.mutex);
        double timeout = attr_now(mount, request->document, &attr);
        (void)fuse_reply_attr(request->req, &attr, timeout);
    } else {
        (void)fuse_reply_err(request->req, errno_of(status));
    }
    free(request);
    commits_end(&mount->commits);
}

static void time_commit(struct mount *mount, fuse_req_t req, struct document *document, int64_t mtime_ns) {
    docdb_txn *txn = NULL;
    if (!commits_begin(&mount->commits)) {
        (void)fuse_reply_err(req, EIO);
        return;
    }
    struct time_request *request = malloc(sizeof *request);
    int status =
        request == NULL ? DOCDB_ERR_MEMORY : docdb_begin(document->database->handle, DOCDB_TXN_BLIND, &txn);
    if (status == DOCDB_OK) {
        status = docdb_txn_set_mtime(txn, document->id, mtime_ns);
    }
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        free(request);
        (void)fuse_reply_err(req, errno_of(status));
        commits_end(&mount->commits);
        return;
    }
    *request = (struct time_request){.mount = mount, .req = req, .document = document, .mtime_ns = mtime_ns};
    if (document->node.kind != NODE_WRITER) {
        docdb_txn_set_origin(txn, &mount->origins.later);
    }
    docdb_commit_async(txn, time_done, request);
}

/* The time goes with the commit of what is staged. False: nothing is. */
static bool time_stage(struct mount *mount, const struct document *document, int64_t mtime_ns) {
    struct handle *handle = writer_acquire(mount, document);
    if (handle == NULL) {
        return false;
    }
    mutex_lock(&handle->mutex);
    bool dirty = handle->dirty;
    if (dirty) {
        handle->mtime_set = true;
        handle->mtime_ns = mtime_ns;
    }
    mutex_unlock(&handle->mutex);
    handle_release(mount, handle);
    return dirty;
}

/* ---- SETATTR ---- */

/* Sends the thread through the path again, to come back with a private node. */
static void reply_again(struct mount *mount, fuse_req_t req, const struct document *document) {
    retries_add(&mount->retries, fuse_req_ctx(req)->pid, document->database, RETRY_WRITE);
    (void)fuse_reply_err(req, ESTALE);
}

static void truncate_path(struct mount *mount, fuse_req_t req, struct document *document, off_t bytes) {
    pid_t thread = fuse_req_ctx(req)->pid;
    if (document->node.kind != NODE_WRITER) {
        reply_again(mount, req, document);
        return;
    }
    retries_remove(&mount->retries, thread, document->database);
    if ((uint64_t)bytes > mount->staging.document_limit) {
        (void)fuse_reply_err(req, EFBIG);
        return;
    }
    commit_truncate(mount, document, (uint64_t)bytes, req);
}

/* Is the node still what its name stands for? After a rename the kernel shows an old node under a new name for a
 * moment. */
static bool document_current(struct mount *mount, const struct document *document) {
    mutex_lock(&mount->tree.mutex);
    bool current = document->node.kind == NODE_WRITER || document->node.name != NULL;
    mutex_unlock(&mount->tree.mutex);
    return current;
}

static void setattr_document(struct mount *mount, fuse_req_t req, struct document *document,
                             const struct stat *wanted, int which, struct fuse_file_info *file) {
    struct stat attr;
    if (which & FUSE_SET_ATTR_SIZE) {
        struct handle *handle = file == NULL ? NULL : (struct handle *)(uintptr_t)file->fh; /* NOLINT */
        if (handle == NULL) {
            truncate_path(mount, req, document, wanted->st_size);
            return;
        }
        int error = handle->writable ? handle_resize(handle, (uint64_t)wanted->st_size) : EINVAL;
        if (error != 0) {
            (void)fuse_reply_err(req, error);
            return;
        }
    }
    if ((which & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) && !(which & FUSE_SET_ATTR_SIZE)) {
        int64_t mtime_ns = (which & FUSE_SET_ATTR_MTIME_NOW)
                               ? os_realtime_ns(docdb_os_default())
                               : (int64_t)wanted->st_mtim.tv_sec * NS_PER_S + wanted->st_mtim.tv_nsec;
        if (!document_current(mount, document)) {
            reply_again(mount, req, document);
            return;
        }
        if (!time_stage(mount, document, mtime_ns)) {
            time_commit(mount, req, document, mtime_ns);
            return;
        }
    }
    double timeout = attr_now(mount, document, &attr);
    (void)fuse_reply_attr(req, &attr, timeout);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, ino);
    if (node->kind == NODE_ROOT || node->kind == NODE_DATABASE) {
        op_getattr(req, ino, NULL); /* a directory's attributes are the mount's */
        return;
    }
    setattr_document(mount, req, document_of(node), attr, which, file);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino) {
    (void)ino;
    const struct mount *mount = mount_of(req);
    struct statvfs out;
    if (statvfs(mount->data_dir, &out) != 0) {
        (void)fuse_reply_err(req, errno);
        return;
    }
    out.f_namemax = DOCDB_ID_BYTES_MAX;
    (void)fuse_reply_statfs(req, &out);
}
