/*
 * Open files: OPEN and CREATE, READ and WRITE, FLUSH, FSYNC and RELEASE.
 *
 * OPEN for reading pins the version that the node stands for. When another version is newest by now and nobody has
 * that one pinned, ESTALE sends the thread through the path again, and its LOOKUP pins what it finds.
 *
 * OPEN for writing wants a private node (else O_TRUNC would set the size of the node that readers share to 0, for
 * everybody: empty reads and SIGBUS): on a shared node it is answered with ESTALE, and the thread comes back with a
 * node of its own. Writers bypass the page cache (direct_io), so a shared mapping of a file open for writing is
 * refused by the kernel with ENODEV.
 *
 * CREATE makes a private node for a document that does not exist before the commit.
 *
 * A reply is the last use of a request's nodes and handles, unless the thread holds a reference of its own: the
 * kernel may have sent their FORGET or RELEASE to another thread before the call that replies has returned.
 *
 * WRITE changes the stage only. FLUSH asks the last-close rule; FSYNC commits; RELEASE commits what is left, except
 * when a writer was killed. Their replies come from the commit's completion.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "fuse/internal.h"

static struct handle *handle_of(const struct fuse_file_info *file) {
    return (struct handle *)(uintptr_t)file->fh; /* NOLINT(performance-no-int-to-ptr): our own address */
}

static bool opens_for_writing(const struct fuse_file_info *file) { return (file->flags & O_ACCMODE) != O_RDONLY; }

static void file_set_handle(struct mount *mount, struct fuse_file_info *file, struct handle *handle) {
    file->fh = (uintptr_t)handle;
    atomic_fetch_add_explicit(&mount->tree.created, 1, memory_order_release); /* as for nodes: see tree_node */
}

/* ---- OPEN for reading ---- */

/* The version that a reader of this node sees, pinned once more; NULL, with DOCDB_OK: it is not the newest any
 * more. */
static int document_pin(struct mount *mount, struct document *document, docdb_doc **out) {
    docdb_doc *doc = NULL;
    mutex_lock(&mount->tree.mutex);
    if (document->doc != NULL) {
        doc = docdb_doc_acquire(document->doc);
    }
    mutex_unlock(&mount->tree.mutex);
    int status = DOCDB_OK;
    if (doc == NULL) {
        status = docdb_read(document->database->handle, document->id, &doc);
        if (status == DOCDB_ERR_NOT_FOUND) {
            status = DOCDB_OK;
            doc = NULL;
        } else if (status == DOCDB_OK && document->node.kind == NODE_VERSION &&
                   docdb_doc_info(doc)->version != document->info.version) {
            docdb_doc_release(doc);
            doc = NULL;
        }
    }
    *out = doc;
    return status;
}

/* A version stays pinned at its node while it is open, so that it can be opened again (/proc/self/fd) after a
 * replace. */
static void document_opened(struct mount *mount, struct document *document, docdb_doc *doc) {
    mutex_lock(&mount->tree.mutex);
    document->opens++;
    if (document->doc == NULL) {
        document->doc = docdb_doc_acquire(doc);
    }
    mutex_unlock(&mount->tree.mutex);
}

static void document_closed(struct mount *mount, struct document *document) {
    docdb_doc *doc = NULL;
    mutex_lock(&mount->tree.mutex);
    if (--document->opens == 0) {
        doc = document->doc;
        document->doc = NULL;
    }
    mutex_unlock(&mount->tree.mutex);
    docdb_doc_release(doc);
}

static void reply_open_reader(fuse_req_t req, struct handle *handle, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    bool shared = handle->document->node.kind == NODE_VERSION;
    file_set_handle(mount, file, handle);
    file->keep_cache = shared; /* one node, one version: what is cached stays right */
    file->direct_io = !shared; /* a writer's file opened again through /proc/self/fd */
    file->noflush = 1;
    if (fuse_reply_open(req, file) == -ENOENT) { /* interrupted: there will be no RELEASE */
        if (shared) {
            document_closed(mount, handle->document);
        }
        handle_release(mount, handle);
    }
}

/* Must a reader of this node come back with another one? */
static bool reader_comes_back(struct mount *mount, struct document *document, const docdb_doc *doc, pid_t thread) {
    if (doc == NULL) {
        return true; /* the version is not the newest any more, and nobody has it pinned */
    }
    if (document->node.kind == NODE_VERSION) {
        return false;
    }
    mutex_lock(&mount->tree.mutex);
    bool writing = document->writer != NULL;
    if (!writing && thread == 0) {
        document->info = *docdb_doc_info(doc); /* it cannot be told from other threads: what it has must do */
    }
    mutex_unlock(&mount->tree.mutex);
    /* A private node nobody writes through: from a mark that was left behind. Its attributes are those of its
     * LOOKUP. With a writer it was reached through /proc/self/fd, and coming back would find it again. */
    return !writing && thread != 0;
}

static void open_reader(fuse_req_t req, struct document *document, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    pid_t thread = fuse_req_ctx(req)->pid;
    docdb_doc *doc = NULL;
    int status = document_pin(mount, document, &doc);
    if (status != DOCDB_OK) {
        (void)fuse_reply_err(req, errno_of(status));
        return;
    }
    if (reader_comes_back(mount, document, doc, thread)) {
        docdb_doc_release(doc);
        retries_add(&mount->retries, thread, document->database, RETRY_READ);
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    retries_remove(&mount->retries, thread, document->database);
    struct handle *handle = handle_open(mount, document, doc, O_RDONLY);
    if (handle == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    if (document->node.kind == NODE_VERSION) {
        document_opened(mount, document, doc);
    }
    reply_open_reader(req, handle, file);
}

/* ---- OPEN for writing, CREATE ---- */

/* Makes the handle of a private node. NULL: *error says why. */
static struct handle *writer_open(fuse_req_t req, struct document *document, int open_flags, int *error) {
    struct mount *mount = mount_of(req);
    docdb_doc *doc = NULL;
    *error = ENOMEM;
    if (!(open_flags & O_TRUNC)) {
        int status = docdb_read(document->database->handle, document->id, &doc);
        if (status != DOCDB_OK && status != DOCDB_ERR_NOT_FOUND) {
            *error = errno_of(status);
            return NULL;
        }
        if (status == DOCDB_ERR_NOT_FOUND) {
            doc = NULL;
        }
    }
    struct handle *handle = handle_open(mount, document, doc, open_flags);
    if (handle == NULL) {
        return NULL;
    }
    handle->opener = fuse_req_ctx(req)->pid;
    handle->opener_group = lastclose_process(handle->opener);
    mutex_lock(&mount->tree.mutex);
    document->writer = handle;
    mutex_unlock(&mount->tree.mutex);
    return handle;
}

/* The kernel lets go of the handle; what is staged must have been dealt with. */
static void writer_close(struct mount *mount, struct handle *handle) {
    mutex_lock(&mount->tree.mutex);
    if (handle->document->writer == handle) {
        handle->document->writer = NULL;
    }
    mutex_unlock(&mount->tree.mutex);
    handle_release(mount, handle);
}

static void open_writer(fuse_req_t req, struct document *document, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    pid_t thread = fuse_req_ctx(req)->pid;
    if (document->node.kind != NODE_WRITER) {
        retries_add(&mount->retries, thread, document->database, RETRY_WRITE);
        (void)fuse_reply_err(req, ESTALE);
        return;
    }
    retries_remove(&mount->retries, thread, document->database);
    int error = 0;
    struct handle *handle = writer_open(req, document, file->flags, &error);
    if (handle == NULL) {
        (void)fuse_reply_err(req, error);
        return;
    }
    file_set_handle(mount, file, handle);
    file->direct_io = 1;
    if (fuse_reply_open(req, file) == -ENOENT) {
        writer_close(mount, handle);
    }
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, ino);
    if (node->kind == NODE_ROOT || node->kind == NODE_DATABASE) {
        (void)fuse_reply_err(req, EISDIR);
    } else if (opens_for_writing(file)) {
        open_writer(req, document_of(node), file);
    } else {
        open_reader(req, document_of(node), file);
    }
}

/* CREATE in a database: answers with a private node and its handle. */
static void create_document(fuse_req_t req, struct database *database, const char *id,
                            struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    docdb_info info;
    int status = docdb_stat(database->handle, id, &info);
    if (status != DOCDB_OK && status != DOCDB_ERR_NOT_FOUND) {
        (void)fuse_reply_err(req, errno_of(status));
        return;
    }
    bool missing = status == DOCDB_ERR_NOT_FOUND;
    if (!missing && (file->flags & O_EXCL)) {
        (void)fuse_reply_err(req, EEXIST);
        return;
    }
    struct document *document = tree_create_writer(&mount->tree, database, id, missing ? NULL : &info);
    int error = ENOMEM;
    int flags = file->flags;
    if (!opens_for_writing(file)) {
        flags |= O_RDWR; /* O_CREAT|O_RDONLY creates an empty document; the kernel lets nobody write to it */
    }
    struct handle *handle = document == NULL ? NULL : writer_open(req, document, flags, &error);
    if (handle == NULL) {
        if (document != NULL) {
            tree_forget(&mount->tree, &document->node, 1);
        }
        (void)fuse_reply_err(req, error);
        return;
    }
    mutex_lock(&handle->mutex);
    handle->missing = missing;
    handle->exclusive = (file->flags & O_EXCL) != 0;
    /* A new document is committed even when nothing is written to it, as a create: O_TRUNC of what was not there is
     * no change, so that it does not empty what another creates meanwhile. */
    handle->dirty = handle->dirty || missing;
    handle->changed = handle->changed && !missing;
    mutex_unlock(&handle->mutex);
    file_set_handle(mount, file, handle);
    file->direct_io = 1;
    struct fuse_entry_param entry;
    entry_document(mount, document, false, &entry);
    if (fuse_reply_create(req, &entry, file) == -ENOENT) {
        writer_close(mount, handle);
        tree_forget(&mount->tree, &document->node, 1);
    }
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file) {
    (void)mode;
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, parent);
    if (node->kind != NODE_DATABASE) {
        (void)fuse_reply_err(req, EPERM); /* the root holds databases only */
    } else if (strlen(name) > DOCDB_ID_BYTES_MAX) {
        (void)fuse_reply_err(req, ENAMETOOLONG);
    } else {
        create_document(req, database_of(node), name, file);
    }
}

/* ---- READ and WRITE ---- */

static void reply_range(fuse_req_t req, const char *data, size_t bytes, size_t wanted, off_t offset) {
    size_t there = (uint64_t)offset < bytes ? bytes - (size_t)offset : 0;
    (void)fuse_reply_buf(req, there == 0 ? NULL : data + offset, there < wanted ? there : wanted);
}

/* A delta behind the version it started from: the two parts of the range, one after the other. */
static void reply_appended(fuse_req_t req, const struct handle *handle, size_t wanted, off_t offset)
    REQUIRES(handle->mutex) {
    size_t base = handle->doc == NULL ? 0 : docdb_doc_bytes(handle->doc);
    const char *data = handle->doc == NULL ? NULL : docdb_doc_data(handle->doc);
    if ((uint64_t)offset >= base) {
        reply_range(req, handle->stage.data, handle->stage.bytes, wanted, offset - (off_t)base);
        return;
    }
    struct iovec parts[2];
    size_t first = base - (size_t)offset < wanted ? base - (size_t)offset : wanted;
    size_t second = handle->stage.bytes < wanted - first ? handle->stage.bytes : wanted - first;
    parts[0].iov_base = (void *)(uintptr_t)(data + offset); /* only read; NOLINT(performance-no-int-to-ptr) */
    parts[0].iov_len = first;
    parts[1] = (struct iovec){.iov_base = handle->stage.data, .iov_len = second};
    (void)fuse_reply_iov(req, parts, second == 0 ? 1 : 2);
}

static void reply_writer(fuse_req_t req, struct handle *handle, size_t bytes, off_t offset) {
    mutex_lock(&handle->mutex);
    if (handle->appending) {
        reply_appended(req, handle, bytes, offset);
    } else if (handle->staged) {
        reply_range(req, handle->stage.data, handle->stage.bytes, bytes, offset);
    } else if (handle->doc != NULL) {
        reply_range(req, docdb_doc_data(handle->doc), docdb_doc_bytes(handle->doc), bytes, offset);
    } else {
        (void)fuse_reply_buf(req, NULL, 0);
    }
    mutex_unlock(&handle->mutex);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    struct handle *handle = handle_of(file);
    handle_acquire(handle); /* the reply lets the kernel send RELEASE to another thread */
    if (handle->writable) {
        reply_writer(req, handle, bytes, offset);
    } else {
        reply_range(req, docdb_doc_data(handle->doc), docdb_doc_bytes(handle->doc), bytes, offset);
    }
    handle_release(mount, handle);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t bytes, off_t offset,
              struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    int error = handle_write(handle_of(file), data, bytes, (uint64_t)offset, file->lock_owner);
    if (error != 0) {
        (void)fuse_reply_err(req, error);
    } else {
        (void)fuse_reply_write(req, bytes);
    }
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t bytes,
                  struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0) {
        (void)fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    int error = mode == 0 ? handle_extend(handle_of(file), (uint64_t)offset + (uint64_t)bytes) : 0;
    (void)fuse_reply_err(req, error);
}

/* ---- FLUSH, FSYNC, RELEASE ---- */

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    struct handle *handle = handle_of(file);
    if (!handle->writable) {
        (void)fuse_reply_err(req, 0);
        return;
    }
    mutex_lock(&handle->mutex);
    bool killed = handle->killed;
    bool dirty = handle->dirty;
    bool committing = handle->commit != NULL;
    mutex_unlock(&handle->mutex);
    if (killed || (!dirty && !committing)) {
        (void)fuse_reply_err(req, killed ? EIO : 0);
    } else if (!dirty) {
        commit_handle(mount, handle, COMMIT_FLUSH,
                      req); /* waits for the one under way: it may hold what this process wrote */
    } else {
        lastclose_decide(&mount->lastclose, handle, req, fuse_req_ctx(req)->pid, file->lock_owner);
    }
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file) {
    (void)data_only;
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    struct handle *handle = handle_of(file);
    if (handle->writable) {
        commit_handle(mount, handle, COMMIT_FSYNC, req);
    } else {
        (void)fuse_reply_err(req, 0);
    }
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, ino);
    struct handle *handle = handle_of(file);
    if (!handle->writable) {
        if (node->kind == NODE_VERSION) {
            document_closed(mount, document_of(node));
        }
        handle_release(mount, handle);
        (void)fuse_reply_err(req, 0);
        return;
    }
    mutex_lock(&handle->mutex);
    bool dirty = handle->dirty && !handle->killed;
    mutex_unlock(&handle->mutex);
    if (dirty) {
        commit_handle(mount, handle, COMMIT_RELEASE, NULL);
    }
    writer_close(mount, handle);
    (void)fuse_reply_err(req, 0);
}
