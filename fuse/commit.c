/*
 * From what a handle has staged to a commit, and from its completion to the reply.
 *
 * The happy path of a close: FLUSH -> lastclose.c says "commit" -> a blind transaction with one put (and the time,
 * when one was set) -> docdb_commit_async -> the engine publishes it, the observer has the kernel's cache
 * invalidated -> commit_done, on a thread of the runtime, answers the FLUSH. No thread of ours waits.
 *
 * Appends and truncate(path) read the newest version first and write with put_if: they are edits. They run on the
 * edit lane, one at a time for each document, so that a conflict can only come from a writer elsewhere; then the
 * edit starts over.
 *
 * A handle has one commit under way; others of it wait behind it, in order.
 *
 * Failures: the error of a commit is answered to FLUSH and FSYNC. After a FLUSH the staged bytes are dropped (close
 * has reported that they are not stored, so they must not turn up later); after an FSYNC they stay, and the close
 * tries again. A RELEASE has nobody to tell: the log has it. After commits_stop nothing staged is committed.
 *
 * Locks: handle.mutex while the write set is filled; commits.mutex for the lists. Neither while a commit is
 * submitted or a request answered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"

#define EDIT_ATTEMPTS 1000 /* conflicts with writers elsewhere before an append or truncate fails with EBUSY */

struct commit {
    struct task task; /* first */
    struct mount *mount;
    enum commit_cause cause;
    fuse_req_t req;            /* NULL: nobody waits */
    struct handle *handle;     /* referenced; NULL for COMMIT_TRUNCATE */
    struct document *document; /* the handle's; COMMIT_TRUNCATE: held by the request, and by us */
    struct commit *behind;     /* the next commit of this handle (handle.mutex) */
    struct commit *next_edit;  /* in commits.edits, or waiting for the edit before it (commits.mutex) */
    struct commit *waiting;    /* edits of the same document that wait for this one (commits.mutex) */
    uint64_t bytes;            /* COMMIT_TRUNCATE: the new size */
    size_t appended;           /* bytes of the stage that this attempt appends */
    unsigned attempts;
    bool ours_if_exists; /* it only created the document: that it exists is fine */
};

static void commit_run(struct commit *commit);
static void edit_run(struct task *task);

/* ---- Counting ---- */

void commits_init(struct commits *commits) {
    mutex_init(&commits->mutex);
    condition_init(&commits->none);
    mutex_lock(&commits->mutex);
    commits->active = 0;
    commits->edits = NULL;
    commits->stopping = false;
    mutex_unlock(&commits->mutex);
}

void commits_fini(struct commits *commits) {
    condition_fini(&commits->none);
    mutex_fini(&commits->mutex);
}

bool commits_begin(struct commits *commits) {
    mutex_lock(&commits->mutex);
    bool begun = !commits->stopping;
    commits->active += begun ? 1 : 0;
    mutex_unlock(&commits->mutex);
    return begun;
}

void commits_end(struct commits *commits) {
    mutex_lock(&commits->mutex);
    if (--commits->active == 0) {
        condition_broadcast(&commits->none);
    }
    mutex_unlock(&commits->mutex);
}

void commits_stop(struct commits *commits) {
    mutex_lock(&commits->mutex);
    commits->stopping = true;
    while (commits->active != 0) {
        condition_wait(&commits->none, &commits->mutex);
    }
    mutex_unlock(&commits->mutex);
}

/* ---- The end of a commit ---- */

static void commit_next_task(struct task *task) { commit_run((struct commit *)task); }

static void reply_truncated(struct commit *commit, int status) {
    struct mount *mount = commit->mount;
    docdb_info info;
    if (status == DOCDB_OK) {
        status = docdb_stat(commit->document->database->handle, commit->document->id, &info);
    }
    if (status != DOCDB_OK) {
        (void)fuse_reply_err(commit->req, errno_of(status));
        return;
    }
    struct stat attr;
    mutex_lock(&mount->tree.mutex);
    commit->document->info = info;
    commit->document->info.bytes = commit->bytes; /* what this call made, whatever was committed since */
    commit->document->mtime_ns = info.mtime_ns;
    mutex_unlock(&mount->tree.mutex);
    attr_document(mount, commit->document, &attr);
    (void)fuse_reply_attr(commit->req, &attr, 0);
}

static void commit_finish(struct commit *commit, int status) {
    struct mount *mount = commit->mount;
    struct handle *handle = commit->handle;
    if (handle == NULL) {
        reply_truncated(commit, status);
        tree_release(&mount->tree, &commit->document->node);
    } else {
        mutex_lock(&handle->mutex);
        struct commit *next = commit->behind;
        handle->commit = next;
        mutex_unlock(&handle->mutex);
        if (commit->req != NULL) {
            (void)fuse_reply_err(commit->req, errno_of(status));
        } else if (status != DOCDB_OK) {
            log_error(&mount->log, "cannot commit %s/%s after its last close: %s; what was written to it is lost",
                      commit->document->database->name, commit->document->id, docdb_error_text(status));
        }
        if (next != NULL) {
            next->task.run = commit_next_task;
            lane_post(&mount->edit_lane, &next->task);
        }
        handle_release(mount, handle);
    }
    free(commit);
    commits_end(&mount->commits);
}

/* What a commit did to the handle's state. */
static void handle_committed(struct commit *commit, int status) {
    struct handle *handle = commit->handle;
    mutex_lock(&handle->mutex);
    if (status == DOCDB_OK) {
        handle->missing = false;
        handle->exclusive = false;
        if (handle->appending) {
            stage_consume(&handle->stage, commit->appended);
        }
    } else if (commit->cause == COMMIT_FSYNC || status == DOCDB_ERR_CONFLICT) {
        handle->dirty = true;
        handle->changed = handle->changed || !commit->ours_if_exists;
    } else {
        handle_drop(handle);
        handle->appending = handle->to_end; /* as if opened anew */
        handle->staged = false;
    }
    mutex_unlock(&handle->mutex);
}

/* ---- Whole documents ---- */

static void commit_done(void *arg, int status, uint64_t commit_seq) {
    (void)commit_seq;
    struct commit *commit = arg;
    if (status == DOCDB_ERR_EXISTS && commit->ours_if_exists) {
        status = DOCDB_OK;
    }
    handle_committed(commit, status);
    commit_finish(commit, status);
}

/* From here on the handle is clean, unless it is written to again or the commit fails. */
static void handle_submitted(struct handle *handle) REQUIRES(handle->mutex) {
    handle->dirty = false;
    handle->changed = false;
    handle->mtime_set = false;
    handle->owner_count = 0;
}

static int txn_fill_whole(docdb_txn *txn, struct commit *commit, const struct handle *handle)
    REQUIRES(handle->mutex) {
    const char *id = commit->document->id;
    const void *data = handle->staged ? handle->stage.data : NULL;
    size_t bytes = handle->staged ? handle->stage.bytes : 0;
    commit->ours_if_exists = handle->missing && !handle->exclusive && !handle->changed;
    int status = handle->missing && (handle->exclusive || !handle->changed) ? docdb_txn_create(txn, id, data, bytes)
                                                                            : docdb_txn_put(txn, id, data, bytes);
    if (status == DOCDB_OK && handle->mtime_set) {
        status = docdb_txn_set_mtime(txn, id, handle->mtime_ns);
    }
    return status;
}

static void edit_enter(struct commit *commit);

static void commit_run(struct commit *commit) {
    struct handle *handle = commit->handle;
    docdb_txn *txn = NULL;
    mutex_lock(&handle->mutex);
    if (!handle->dirty || handle->killed) {
        int status = handle->killed ? DOCDB_ERR_IO : DOCDB_OK;
        mutex_unlock(&handle->mutex);
        commit_finish(commit, status);
        return;
    }
    if (handle->appending) {
        mutex_unlock(&handle->mutex);
        edit_enter(commit);
        return;
    }
    int status = docdb_begin(commit->document->database->handle, DOCDB_TXN_BLIND, &txn);
    if (status == DOCDB_OK) {
        status = txn_fill_whole(txn, commit, handle);
    }
    if (status == DOCDB_OK) {
        handle_submitted(handle);
    }
    mutex_unlock(&handle->mutex);
    if (status == DOCDB_OK) {
        docdb_commit_async(txn, commit_done, commit);
        return;
    }
    docdb_abort(txn);
    handle_committed(commit, status);
    commit_finish(commit, status);
}

/* ---- Edits: read the newest version, write with put_if, start over on a conflict ---- */

static bool same_document(const struct commit *a, const struct commit *b) {
    return a->document->database == b->document->database && strcmp(a->document->id, b->document->id) == 0;
}

static void edit_enter(struct commit *commit) {
    struct commits *commits = &commit->mount->commits;
    commit->task.run = edit_run;
    commit->waiting = NULL;
    commit->next_edit = NULL;
    mutex_lock(&commits->mutex);
    struct commit *current = commits->edits;
    while (current != NULL && !same_document(current, commit)) {
        current = current->next_edit;
    }
    if (current != NULL) {
        struct commit **last = &current->waiting;
        while (*last != NULL) {
            last = &(*last)->next_edit;
        }
        *last = commit;
    } else {
        commit->next_edit = commits->edits;
        commits->edits = commit;
    }
    mutex_unlock(&commits->mutex);
    if (current == NULL) {
        lane_post(&commit->mount->edit_lane, &commit->task);
    }
}

/* The next edit of the document takes its place. */
static void edit_leave(struct commit *commit) {
    struct commits *commits = &commit->mount->commits;
    mutex_lock(&commits->mutex);
    struct commit **link = &commits->edits;
    while (*link != commit) {
        link = &(*link)->next_edit;
    }
    struct commit *successor = commit->waiting;
    if (successor != NULL) {
        successor->waiting = successor->next_edit;
        successor->next_edit = commit->next_edit;
        *link = successor;
    } else {
        *link = commit->next_edit;
    }
    mutex_unlock(&commits->mutex);
    if (successor != NULL) {
        lane_post(&commit->mount->edit_lane, &successor->task);
    }
}

/* A handle that appended reads on from what it appended to. */
static void handle_rebase(struct commit *commit) {
    docdb_doc *doc = NULL;
    if (docdb_read(commit->document->database->handle, commit->document->id, &doc) != DOCDB_OK) {
        doc = NULL;
    }
    mutex_lock(&commit->handle->mutex);
    docdb_doc *before = doc;
    if (commit->handle->appending) {
        before = commit->handle->doc;
        commit->handle->doc = doc;
    }
    mutex_unlock(&commit->handle->mutex);
    docdb_doc_release(before);
}

static void edit_finish(struct commit *commit, int status) {
    if (commit->handle != NULL) {
        handle_committed(commit, status);
        if (status == DOCDB_OK && commit->appended > 0) {
            handle_rebase(commit);
        }
    }
    edit_leave(commit);
    commit_finish(commit, status);
}

static void edit_done(void *arg, int status, uint64_t commit_seq) {
    (void)commit_seq;
    struct commit *commit = arg;
    if (status == DOCDB_ERR_CONFLICT && ++commit->attempts < EDIT_ATTEMPTS) {
        if (commit->handle != NULL) {
            handle_committed(commit, status);
        }
        lane_post(&commit->mount->edit_lane, &commit->task);
        return;
    }
    edit_finish(commit, status);
}

/* The bytes that the edit makes of the newest version (NULL: there is none). Free *out. */
static int edit_bytes(struct commit *commit, const docdb_doc *newest, char **out, size_t *bytes) {
    size_t base = newest == NULL ? 0 : docdb_doc_bytes(newest);
    size_t limit = commit->mount->staging.document_limit;
    struct handle *handle = commit->handle;
    *bytes = handle == NULL ? (size_t)commit->bytes : base + commit->appended;
    if (*bytes > limit) {
        return DOCDB_ERR_DOC_TOO_LARGE;
    }
    char *buffer = calloc(1, *bytes + 1);
    if (buffer == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    if (newest != NULL) {
        memcpy(buffer, docdb_doc_data(newest), base < *bytes ? base : *bytes);
    }
    if (handle != NULL && commit->appended > 0) {
        mutex_lock(&handle->mutex);
        size_t there = handle->stage.bytes < commit->appended ? handle->stage.bytes : commit->appended;
        memcpy(buffer + base, handle->stage.data, there);
        mutex_unlock(&handle->mutex);
    }
    *out = buffer;
    return DOCDB_OK;
}

static int edit_submit(struct commit *commit, const docdb_doc *newest, bool mtime_set, int64_t mtime_ns) {
    docdb_txn *txn = NULL;
    char *buffer = NULL;
    size_t bytes = 0;
    const char *id = commit->document->id;
    int status = edit_bytes(commit, newest, &buffer, &bytes);
    if (status == DOCDB_OK) {
        status = docdb_begin(commit->document->database->handle, DOCDB_TXN_BLIND, &txn);
    }
    if (status == DOCDB_OK) {
        uint64_t expected = newest == NULL ? 0 : docdb_doc_info(newest)->version;
        status = docdb_txn_put_if(txn, id, expected, buffer, bytes);
    }
    if (status == DOCDB_OK && mtime_set) {
        status = docdb_txn_set_mtime(txn, id, mtime_ns);
    }
    free(buffer);
    if (status == DOCDB_OK) {
        docdb_commit_async(txn, edit_done, commit);
    } else {
        docdb_abort(txn);
    }
    return status;
}

static void edit_run(struct task *task) {
    struct commit *commit = (struct commit *)task;
    struct handle *handle = commit->handle;
    docdb_doc *newest = NULL;
    bool mtime_set = false;
    int64_t mtime_ns = 0;
    int status = docdb_read(commit->document->database->handle, commit->document->id, &newest);
    if (status == DOCDB_ERR_NOT_FOUND && handle != NULL) {
        status = DOCDB_OK;
    }
    if (handle != NULL) {
        mutex_lock(&handle->mutex);
        bool whole = !handle->appending;
        if (handle->exclusive && newest != NULL) {
            status = DOCDB_ERR_EXISTS;
        }
        bool nothing = !handle->dirty || handle->killed || (handle->stage.bytes == 0 && newest != NULL);
        if (!whole && !nothing && status == DOCDB_OK) {
            commit->appended = handle->stage.bytes;
            mtime_set = handle->mtime_set;
            mtime_ns = handle->mtime_ns;
            handle_submitted(handle);
        } else if (nothing) {
            handle->dirty = false;
        }
        mutex_unlock(&handle->mutex);
        if (whole) { /* it was truncated since: no longer an append */
            docdb_doc_release(newest);
            edit_leave(commit);
            commit_run(commit);
            return;
        }
        if (nothing && status == DOCDB_OK) {
            docdb_doc_release(newest);
            commit->appended = 0;
            edit_finish(commit, DOCDB_OK);
            return;
        }
    }
    if (status == DOCDB_OK) {
        status = edit_submit(commit, newest, mtime_set, mtime_ns);
    }
    docdb_doc_release(newest);
    if (status != DOCDB_OK) {
        edit_finish(commit, status);
    }
}

/* ---- Entry points ---- */

static struct commit *commit_create(struct mount *mount, enum commit_cause cause, fuse_req_t req) {
    struct commit *commit = calloc(1, sizeof *commit);
    if (commit != NULL) {
        commit->mount = mount;
        commit->cause = cause;
        commit->req = req;
    }
    return commit;
}

void commit_handle(struct mount *mount, struct handle *handle, enum commit_cause cause, fuse_req_t req) {
    int error = EIO; /* stopping */
    struct commit *commit = NULL;
    if (commits_begin(&mount->commits)) {
        commit = commit_create(mount, cause, req);
        if (commit == NULL) {
            error = ENOMEM;
            commits_end(&mount->commits);
        }
    }
    if (commit == NULL) {
        if (req != NULL) {
            (void)fuse_reply_err(req, error);
        }
        return;
    }
    handle_acquire(handle);
    commit->handle = handle;
    commit->document = handle->document;
    mutex_lock(&handle->mutex);
    bool first = handle->commit == NULL;
    struct commit **last = &handle->commit;
    while (*last != NULL) {
        last = &(*last)->behind;
    }
    *last = commit;
    mutex_unlock(&handle->mutex);
    if (first) {
        commit_run(commit);
    }
}

void commit_truncate(struct mount *mount, struct document *document, uint64_t bytes, fuse_req_t req) {
    struct commit *commit = NULL;
    if (commits_begin(&mount->commits)) {
        commit = commit_create(mount, COMMIT_TRUNCATE, req);
        if (commit == NULL) {
            commits_end(&mount->commits);
        }
    }
    if (commit == NULL) {
        (void)fuse_reply_err(req, EIO);
        return;
    }
    tree_hold(&mount->tree, &document->node);
    commit->document = document;
    commit->bytes = bytes;
    edit_enter(commit);
}

void commit_flush_decided(struct mount *mount, struct handle *handle, fuse_req_t req,
                          enum lastclose_verdict verdict) {
    if (verdict == LASTCLOSE_COMMIT) {
        commit_handle(mount, handle, COMMIT_FLUSH, req);
        return;
    }
    if (verdict == LASTCLOSE_ABORT) {
        mutex_lock(&handle->mutex);
        handle->killed = true;
        handle_drop(handle);
        mutex_unlock(&handle->mutex);
        log_info(&mount->log, "a writer of %s/%s was killed: what it staged is dropped",
                 handle->document->database->name, handle->document->id);
    }
    (void)fuse_reply_err(req, 0);
}
