/*
 * A handle: one open file description.
 *
 * A reader pins one version and nothing ever changes. A writer starts from the version that is newest when it is
 * opened, or from nothing (O_TRUNC, a new document), and stages privately:
 *
 *   whole      the stage holds the document as it will be committed; until the first change it is empty and the
 * bytes are those of the pinned version (handle.staged is false) appending  (O_APPEND without O_TRUNC) the stage
 * holds only what was appended; the commit puts it after the version that is newest then, so that concurrent
 * appenders lose nothing
 */
#ifndef DOCDB_FUSE_HANDLE_H
#define DOCDB_FUSE_HANDLE_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/thread.h"
#include "fuse/node.h"
#include "fuse/stage.h"

struct commit;
struct mount;

enum {
    HANDLE_OWNERS_MAX =
        8, /* processes that wrote through one handle that are told apart; more count as "several" all the same */
};

struct handle {
    struct mutex mutex;
    atomic_uint references;    /* the kernel's, and one for each commit under way */
    struct document *document; /* held */
    struct handle *next;       /* in struct handle_list */
    struct handle *previous;
    bool writable; /* immutable */
    bool readable; /* immutable */
    docdb_doc
        *doc; /* the version read; writer: where staging started, or NULL. Changes for a writer only, under mutex */

    /* The rest is a writer's. */
    pid_t opener;       /* immutable: the thread that opened it */
    pid_t opener_group; /* immutable: its process, 0 when unknown */
    struct stage stage GUARDED_BY(mutex);
    bool staged GUARDED_BY(mutex);    /* the stage, not doc, is the contents (or the delta) */
    bool appending GUARDED_BY(mutex); /* the stage is a delta */
    bool to_end GUARDED_BY(mutex);    /* O_APPEND: writes go to the end */
    bool dirty GUARDED_BY(mutex);     /* there is something to commit */
    bool changed GUARDED_BY(mutex);   /* written or truncated since the last commit: more than created */
    bool missing GUARDED_BY(mutex);   /* created by this open, not committed yet */
    bool exclusive GUARDED_BY(mutex); /* O_EXCL, not committed yet */
    bool killed GUARDED_BY(mutex);    /* a writer died by a signal: never commit */
    bool mtime_set GUARDED_BY(mutex);
    int64_t mtime_ns GUARDED_BY(mutex);
    uint64_t
        owners[HANDLE_OWNERS_MAX] GUARDED_BY(mutex); /* lock owners (processes) that wrote since the last commit */
    unsigned owner_count GUARDED_BY(mutex);
    struct commit *commit GUARDED_BY(mutex); /* the one under way; others wait behind it */
};

/* All open handles, for stopping. */
struct handle_list {
    struct mutex mutex; /* innermost */
    struct handle *first GUARDED_BY(mutex);
};

void handle_list_init(struct handle_list *handles);
/* Destroys what the kernel never released. */
void handle_list_fini(struct handle_list *handles, struct tree *tree);

/* A handle with one reference on `document`, which it holds. doc is consumed, may be NULL for a writer. NULL: no
 * memory (doc is released). */
struct handle *handle_open(struct mount *mount, struct document *document, docdb_doc *doc, int open_flags);
void handle_acquire(struct handle *handle);
void handle_release(struct mount *mount, struct handle *handle);

/* What a writer's file is now. */
uint64_t handle_bytes(struct handle *handle) REQUIRES(handle->mutex);
/* These return 0 or an errno value. */
int handle_write(struct handle *handle, const void *data, size_t bytes, uint64_t offset, uint64_t owner)
    EXCLUDES(handle->mutex);
int handle_resize(struct handle *handle, uint64_t bytes) EXCLUDES(handle->mutex);
/* Grows to at least `bytes`. */
int handle_extend(struct handle *handle, uint64_t bytes) EXCLUDES(handle->mutex);
bool handle_wrote(const struct handle *handle, uint64_t owner) REQUIRES(handle->mutex);
/* Forgets what was staged and not committed. */
void handle_drop(struct handle *handle) REQUIRES(handle->mutex);

#endif
