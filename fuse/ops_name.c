/*
 * Requests about names: LOOKUP and FORGET, and what makes, removes and moves entries.
 *
 * A LOOKUP answers from the engine's newest state through node.c. For a thread that comes back after ESTALE
 * (retry.h) it hands out a private node instead.
 *
 * UNLINK, RENAME and MKNOD commit asynchronously and are answered from the completion; MKDIR and RMDIR have only a
 * blocking call and hold up one worker each (the kernel sends one at a time, holding the root's lock). While the
 * kernel waits for any of these it holds a directory's lock, so their commits carry an origin that tells notify.c
 * not to wait for that directory.
 */
#include <errno.h>
#include <stdio.h> /* RENAME_ flags */
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"

/* ---- Entries ---- */

void entry_document(struct mount *mount, const struct document *document, bool cache,
                    struct fuse_entry_param *entry) {
    memset(entry, 0, sizeof *entry);
    entry->ino = node_id(&mount->tree, &document->node);
    entry->generation = 1;
    mutex_lock(&mount->tree.mutex);
    attr_document(mount, document, &entry->attr);
    mutex_unlock(&mount->tree.mutex);
    entry->entry_timeout = cache ? MOUNT_CACHE_S : 0;
    entry->attr_timeout = document->node.kind == NODE_VERSION ? MOUNT_CACHE_S : 0;
}

bool entry_database(struct mount *mount, struct database *database, bool cache, struct fuse_entry_param *entry) {
    memset(entry, 0, sizeof *entry);
    entry->ino = node_id(&mount->tree, &database->directory.node);
    entry->generation = 1;
    entry->entry_timeout = cache ? MOUNT_CACHE_S : 0;
    entry->attr_timeout = MOUNT_CACHE_S;
    return attr_database(mount, database, &entry->attr);
}

void reply_entry(fuse_req_t req, struct node *node, const struct fuse_entry_param *entry) {
    struct mount *mount = mount_of(req);
    if (fuse_reply_entry(req, entry) == -ENOENT) { /* interrupted: the kernel did not take the lookup */
        tree_forget(&mount->tree, node, 1);
    }
}

/* ---- LOOKUP and FORGET ---- */

static void reply_database(fuse_req_t req, struct database *database, bool cache) {
    struct mount *mount = mount_of(req);
    struct fuse_entry_param entry;
    if (!entry_database(mount, database, cache, &entry)) {
        tree_forget(&mount->tree, &database->directory.node, 1);
        (void)fuse_reply_err(req, ENOENT);
        return;
    }
    reply_entry(req, &database->directory.node, &entry);
}

static void lookup_database(fuse_req_t req, const char *name) {
    struct mount *mount = mount_of(req);
    struct database *database = NULL;
    bool cache = false;
    int status = tree_lookup_database(&mount->tree, name, &database, &cache);
    if (status != DOCDB_OK) {
        (void)fuse_reply_err(req, status == DOCDB_ERR_BAD_NAME ? ENOENT : errno_of(status));
        return;
    }
    reply_database(req, database, cache);
}

static void reply_document(fuse_req_t req, struct document *document, bool cache) {
    struct fuse_entry_param entry;
    entry_document(mount_of(req), document, cache, &entry);
    reply_entry(req, &document->node, &entry);
}

static void lookup_document(fuse_req_t req, struct database *database, const char *id) {
    struct mount *mount = mount_of(req);
    struct document *document = NULL;
    bool cache = false;
    int status = tree_lookup_document(&mount->tree, database, id, &document, &cache);
    if (status != DOCDB_OK) {
        (void)fuse_reply_err(req, errno_of(status));
        return;
    }
    reply_document(req, document, cache);
}

/* For a thread that comes back: a node of its own. */
static void lookup_private(fuse_req_t req, struct database *database, const char *id, enum retry_kind kind) {
    struct mount *mount = mount_of(req);
    struct document *document = NULL;
    int status = DOCDB_OK;
    if (kind == RETRY_WRITE) {
        docdb_info info;
        status = docdb_stat(database->handle, id, &info);
        document = status == DOCDB_OK ? tree_create_writer(&mount->tree, database, id, &info) : NULL;
    } else {
        docdb_doc *doc = NULL;
        status = docdb_read(database->handle, id, &doc);
        document = status == DOCDB_OK ? tree_create_pinned(&mount->tree, database, id, doc) : NULL;
    }
    if (document == NULL) {
        /* The mark stays: after a revalidation that fails the kernel asks once more, and the document may be back.
         */
        (void)fuse_reply_err(req, status == DOCDB_OK ? ENOMEM : errno_of(status));
        return;
    }
    reply_document(req, document, false);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, parent);
    if (node->kind == NODE_ROOT) {
        lookup_database(req, name);
        return;
    }
    if (node->kind != NODE_DATABASE) {
        (void)fuse_reply_err(req, ENOTDIR);
        return;
    }
    if (strlen(name) > DOCDB_ID_BYTES_MAX) {
        (void)fuse_reply_err(req, ENAMETOOLONG);
        return;
    }
    struct database *database = database_of(node);
    enum retry_kind kind = retries_find(&mount->retries, fuse_req_ctx(req)->pid, database);
    if (kind == RETRY_NONE) {
        lookup_document(req, database, name);
    } else {
        lookup_private(req, database, name, kind);
    }
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups) {
    struct mount *mount = mount_of(req);
    tree_forget(&mount->tree, tree_node(&mount->tree, ino), lookups);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    struct mount *mount = mount_of(req);
    for (size_t i = 0; i < count; i++) {
        tree_forget(&mount->tree, tree_node(&mount->tree, forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

/* ---- Databases ---- */

static void directory_request_begin(struct mount *mount, struct directory_request *request) {
    mutex_lock(&mount->state);
    request->next = mount->directory_requests;
    mount->directory_requests = request;
    mutex_unlock(&mount->state);
}

static void directory_request_end(struct mount *mount, struct directory_request *request) {
    mutex_lock(&mount->state);
    struct directory_request **link = &mount->directory_requests;
    while (*link != request) {
        link = &(*link)->next;
    }
    *link = request->next;
    mutex_unlock(&mount->state);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
    (void)mode;
    struct mount *mount = mount_of(req);
    struct directory_request request = {.name = name, .creates = true};
    docdb_db *handle = NULL;
    if (parent != FUSE_ROOT_ID) {
        (void)fuse_reply_err(req, EPERM);
        return;
    }
    if (!commits_begin(&mount->commits)) {
        (void)fuse_reply_err(req, EIO);
        return;
    }
    directory_request_begin(mount, &request);
    int status = docdb_db_open(mount->runtime, name, DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &handle);
    directory_request_end(mount, &request);
    docdb_db_close(handle);
    if (status == DOCDB_OK) {
        lookup_database(req, name); /* what is newest now: it may be gone again */
    } else {
        (void)fuse_reply_err(req, errno_of(status));
    }
    commits_end(&mount->commits);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct mount *mount = mount_of(req);
    struct directory_request request = {.name = name, .creates = false};
    if (parent != FUSE_ROOT_ID) {
        (void)fuse_reply_err(req, ENOTDIR); /* a database holds no directories */
        return;
    }
    if (!commits_begin(&mount->commits)) {
        (void)fuse_reply_err(req, EIO);
        return;
    }
    directory_request_begin(mount, &request);
    int status = docdb_db_drop(mount->runtime, name, DOCDB_DROP_IF_EMPTY);
    directory_request_end(mount, &request);
    (void)fuse_reply_err(req, status == DOCDB_ERR_BAD_NAME ? ENOENT : errno_of(status));
    commits_end(&mount->commits);
}

/* ---- Documents: one transaction, answered from its completion ---- */

struct name_request {
    struct mount *mount;
    fuse_req_t req;
    struct database *database;            /* the kernel holds it until the reply */
    char created[DOCDB_ID_BYTES_MAX + 1]; /* MKNOD: the document to answer with; else empty */
};

static void name_request_done(void *arg, int status, uint64_t commit_seq) {
    (void)commit_seq;
    struct name_request *request = arg;
    struct mount *mount = request->mount;
    if (status == DOCDB_OK && request->created[0] != '\0') {
        lookup_document(request->req, request->database, request->created);
    } else {
        (void)fuse_reply_err(request->req, errno_of(status));
    }
    free(request);
    commits_end(&mount->commits);
}

/* Begins a request's transaction. On failure the request has been answered and NULL is returned. */
static struct name_request *name_request_begin(fuse_req_t req, struct database *database, const void *origin,
                                               docdb_txn **txn) {
    struct mount *mount = mount_of(req);
    if (!commits_begin(&mount->commits)) {
        (void)fuse_reply_err(req, EIO);
        return NULL;
    }
    struct name_request *request = calloc(1, sizeof *request);
    int status = request == NULL ? DOCDB_ERR_MEMORY : docdb_begin(database->handle, DOCDB_TXN_BLIND, txn);
    if (status != DOCDB_OK) {
        free(request);
        (void)fuse_reply_err(req, errno_of(status));
        commits_end(&mount->commits);
        return NULL;
    }
    request->mount = mount;
    request->req = req;
    request->database = database;
    docdb_txn_set_origin(*txn, origin);
    return request;
}

/* Commits, or gives up when the operation itself was refused. */
static void name_request_commit(struct name_request *request, docdb_txn *txn, int status) {
    if (status == DOCDB_OK) {
        docdb_commit_async(txn, name_request_done, request);
        return;
    }
    docdb_abort(txn);
    name_request_done(request, status, 0);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device) {
    (void)device;
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, parent);
    docdb_txn *txn = NULL;
    if (node->kind != NODE_DATABASE || !S_ISREG(mode)) {
        (void)fuse_reply_err(req, EPERM);
        return;
    }
    if (strlen(name) > DOCDB_ID_BYTES_MAX) {
        (void)fuse_reply_err(req, ENAMETOOLONG);
        return;
    }
    struct name_request *request = name_request_begin(req, database_of(node), &mount->origins.kernel, &txn);
    if (request != NULL) {
        memcpy(request->created, name, strlen(name) + 1);
        name_request_commit(request, txn, docdb_txn_create(txn, name, NULL, 0));
    }
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, parent);
    docdb_txn *txn = NULL;
    if (node->kind != NODE_DATABASE) {
        (void)fuse_reply_err(req, EISDIR); /* the root holds databases only */
        return;
    }
    struct name_request *request = name_request_begin(req, database_of(node), &mount->origins.kernel, &txn);
    if (request != NULL) {
        name_request_commit(request, txn, docdb_txn_delete(txn, name));
    }
}

static int rename_check(const struct node *from, const struct node *to, const char *new_name, unsigned flags) {
    if (from->kind != NODE_DATABASE || to->kind != NODE_DATABASE) {
        return EPERM; /* a database keeps its name, and a document stays in a database */
    }
    if (from != to) {
        return EXDEV; /* no transaction spans two databases: mv copies and deletes */
    }
    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        return EINVAL;
    }
    return strlen(new_name) > DOCDB_ID_BYTES_MAX ? ENAMETOOLONG : 0;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
               unsigned flags) {
    struct mount *mount = mount_of(req);
    struct node *from = tree_node(&mount->tree, parent);
    docdb_txn *txn = NULL;
    int error = rename_check(from, tree_node(&mount->tree, new_parent), new_name, flags);
    if (error != 0) {
        (void)fuse_reply_err(req, error);
        return;
    }
    struct name_request *request = name_request_begin(req, database_of(from), &mount->origins.later, &txn);
    if (request != NULL) {
        unsigned how = ((flags & RENAME_NOREPLACE) ? (unsigned)DOCDB_RENAME_NOREPLACE : 0u) |
                       ((flags & RENAME_EXCHANGE) ? (unsigned)DOCDB_RENAME_EXCHANGE : 0u);
        name_request_commit(request, txn, docdb_txn_rename(txn, name, new_name, how));
    }
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
    (void)target;
    (void)parent;
    (void)name;
    (void)fuse_reply_err(req, EPERM);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
    (void)ino;
    (void)parent;
    (void)name;
    (void)fuse_reply_err(req, EPERM);
}
