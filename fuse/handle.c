/*
 * See handle.h. Nothing here talks to the kernel or commits; what fails is memory (ENOSPC over the budget) and the
 * size limit (EFBIG).
 */
#include "fuse/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"

void handle_list_init(struct handle_list *handles) {
    mutex_init(&handles->mutex);
    mutex_lock(&handles->mutex);
    handles->first = NULL;
    mutex_unlock(&handles->mutex);
}

static void handle_destroy(struct handle *handle) {
    docdb_doc_release(handle->doc);
    mutex_lock(&handle->mutex);
    stage_fini(&handle->stage);
    mutex_unlock(&handle->mutex);
    mutex_fini(&handle->mutex);
    free(handle);
}

void handle_list_fini(struct handle_list *handles, struct tree *tree) {
    mutex_lock(&handles->mutex);
    struct handle *handle = handles->first;
    handles->first = NULL;
    mutex_unlock(&handles->mutex);
    while (handle != NULL) {
        struct handle *next = handle->next;
        tree_release(tree, &handle->document->node);
        handle_destroy(handle);
        handle = next;
    }
    mutex_fini(&handles->mutex);
}

static void handle_init_writer(struct handle *handle, struct mount *mount, int open_flags) {
    mutex_lock(&handle->mutex);
    stage_init(&handle->stage, &mount->staging);
    handle->to_end = (open_flags & O_APPEND) != 0;
    handle->appending = handle->to_end;
    if (handle->writable && (open_flags & O_TRUNC)) {
        handle->appending = false;
        handle->staged = true;
        handle->dirty = true;
        handle->changed = true;
    }
    mutex_unlock(&handle->mutex);
}

struct handle *handle_open(struct mount *mount, struct document *document, docdb_doc *doc, int open_flags) {
    struct handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL) {
        docdb_doc_release(doc);
        return NULL;
    }
    mutex_init(&handle->mutex);
    atomic_init(&handle->references, 1);
    handle->document = document;
    handle->doc = doc;
    handle->writable = (open_flags & O_ACCMODE) != O_RDONLY;
    handle->readable = (open_flags & O_ACCMODE) != O_WRONLY;
    handle_init_writer(handle, mount, open_flags);
    tree_hold(&mount->tree, &document->node);
    mutex_lock(&mount->handles.mutex);
    handle->next = mount->handles.first;
    if (handle->next != NULL) {
        handle->next->previous = handle;
    }
    mount->handles.first = handle;
    mutex_unlock(&mount->handles.mutex);
    return handle;
}

void handle_acquire(struct handle *handle) {
    atomic_fetch_add_explicit(&handle->references, 1, memory_order_relaxed);
}

void handle_release(struct mount *mount, struct handle *handle) {
    if (atomic_fetch_sub_explicit(&handle->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    mutex_lock(&mount->handles.mutex);
    if (handle->previous != NULL) {
        handle->previous->next = handle->next;
    } else {
        mount->handles.first = handle->next;
    }
    if (handle->next != NULL) {
        handle->next->previous = handle->previous;
    }
    mutex_unlock(&mount->handles.mutex);
    tree_release(&mount->tree, &handle->document->node);
    handle_destroy(handle);
}

static uint64_t base_bytes(const struct handle *handle) {
    return handle->doc == NULL ? 0 : docdb_doc_bytes(handle->doc);
}

uint64_t handle_bytes(struct handle *handle) {
    if (handle->appending) {
        return base_bytes(handle) + handle->stage.bytes;
    }
    return handle->staged ? handle->stage.bytes : base_bytes(handle);
}

/* Makes the stage hold the whole document. `bytes` is how large it will be, so that what is cut off is not copied.
 */
static int handle_make_whole(struct handle *handle, uint64_t bytes) REQUIRES(handle->mutex) {
    if (handle->staged && !handle->appending) {
        return 0;
    }
    struct stage whole;
    stage_init(&whole, handle->stage.staging);
    uint64_t base = base_bytes(handle) < bytes ? base_bytes(handle) : bytes;
    int error = base == 0 ? 0 : stage_write(&whole, docdb_doc_data(handle->doc), (size_t)base, 0);
    if (error == 0 && handle->appending) {
        error = stage_write(&whole, handle->stage.data, handle->stage.bytes, base_bytes(handle));
    }
    if (error != 0) {
        stage_fini(&whole);
        return error;
    }
    stage_fini(&handle->stage);
    handle->stage = whole;
    handle->appending = false;
    handle->staged = true;
    return 0;
}

static void handle_mark(struct handle *handle) REQUIRES(handle->mutex) {
    handle->dirty = true;
    handle->changed = true;
    handle->mtime_set = false; /* a change after utimens makes the time its own */
}

static void handle_add_owner(struct handle *handle, uint64_t owner) REQUIRES(handle->mutex) {
    if (!handle_wrote(handle, owner) && handle->owner_count < HANDLE_OWNERS_MAX) {
        handle->owners[handle->owner_count++] = owner;
    }
}

int handle_write(struct handle *handle, const void *data, size_t bytes, uint64_t offset, uint64_t owner) {
    mutex_lock(&handle->mutex);
    int error = handle->killed ? EIO : 0;
    if (error == 0 && handle->appending) {
        /* The kernel's offset says nothing: it is computed from a size that others change. */
        uint64_t base = base_bytes(handle);
        error = base + handle->stage.bytes + bytes > handle->stage.staging->document_limit
                    ? EFBIG
                    : stage_write(&handle->stage, data, bytes, handle->stage.bytes);
    } else if (error == 0) {
        error = handle_make_whole(handle, UINT64_MAX);
        if (error == 0) {
            error = stage_write(&handle->stage, data, bytes, handle->to_end ? handle->stage.bytes : offset);
        }
    }
    if (error == 0) {
        handle_mark(handle);
        handle_add_owner(handle, owner);
    }
    mutex_unlock(&handle->mutex);
    return error;
}

static int handle_resize_locked(struct handle *handle, uint64_t bytes) REQUIRES(handle->mutex) {
    int error = handle->killed ? EIO : handle_make_whole(handle, bytes);
    if (error == 0) {
        error = stage_resize(&handle->stage, bytes);
    }
    if (error == 0) {
        handle_mark(handle);
    }
    return error;
}

int handle_resize(struct handle *handle, uint64_t bytes) {
    mutex_lock(&handle->mutex);
    int error = handle_resize_locked(handle, bytes);
    mutex_unlock(&handle->mutex);
    return error;
}

int handle_extend(struct handle *handle, uint64_t bytes) {
    mutex_lock(&handle->mutex);
    int error = bytes > handle_bytes(handle) ? handle_resize_locked(handle, bytes) : 0;
    mutex_unlock(&handle->mutex);
    return error;
}

bool handle_wrote(const struct handle *handle, uint64_t owner) {
    for (unsigned i = 0; i < handle->owner_count; i++) {
        if (handle->owners[i] == owner) {
            return true;
        }
    }
    return false;
}

void handle_drop(struct handle *handle) {
    stage_fini(&handle->stage);
    handle->dirty = false;
    handle->changed = false;
    handle->mtime_set = false;
    handle->owner_count = 0;
}
