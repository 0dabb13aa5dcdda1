/*
 * See sim_disk.h.
 *
 * Files and directories are nodes (sim_node.h). The changes of names are one list of the disk, because a rename may
 * concern two directories. Nodes live until a crash or the end: which tables or lists still know one is only asked
 * there.
 */
#include "tests/lib/sim_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "tests/lib/sim_node.h"

#define PATH_BYTES 1024
#define FILES_MAX  512
#define FILE_BASE  1000 /* file numbers begin here, so that one taken for a real descriptor fails */

enum name_change_kind { NAME_ADD, NAME_REMOVE, NAME_RENAME };

struct name_change {
    struct name_change *next;
    enum name_change_kind kind;
    struct node *node;
    struct node *directory;
    char name[NAME_BYTES];
    struct node *to_directory;
    char to_name[NAME_BYTES];
};

struct open_file {
    struct node *node; /* NULL: free */
    unsigned flags;
    bool locks;
    char path[PATH_BYTES];
};

struct sim_disk {
    struct docdb_os os;
    struct mutex mutex;
    struct node *nodes GUARDED_BY(mutex);
    struct node *root GUARDED_BY(mutex);
    struct name_change *name_changes GUARDED_BY(mutex);
    struct open_file files[FILES_MAX] GUARDED_BY(mutex);
    uint64_t random GUARDED_BY(mutex);
    uint64_t operations GUARDED_BY(mutex);
    uint64_t power_off_at GUARDED_BY(mutex);
    bool power_off_partial GUARDED_BY(mutex);
    bool off GUARDED_BY(mutex);
    struct sim_fault fault GUARDED_BY(mutex);
    uint64_t fault_seen GUARDED_BY(mutex);
    uint64_t fault_hits GUARDED_BY(mutex);
    uint64_t capacity GUARDED_BY(mutex);
    uint64_t used GUARDED_BY(mutex);
    bool has_direct GUARDED_BY(mutex);
    int64_t now_ns GUARDED_BY(mutex);
};

/* ---- Names ---- */

/* To the durable tables. A node has one name: a rename that survives takes all older ones away. */
static void name_change_apply(const struct name_change *change) {
    if (change->kind == NAME_ADD) {
        sim_names_set(&change->directory->durable_names, change->name, change->node);
    } else if (change->kind == NAME_REMOVE) {
        sim_names_remove(&change->directory->durable_names, change->name, change->node);
    } else {
        sim_names_remove(&change->directory->durable_names, NULL, change->node);
        sim_names_set(&change->to_directory->durable_names, change->to_name, change->node);
    }
}

static void name_change_note(struct sim_disk *disk, const struct name_change *change) REQUIRES(disk->mutex) {
    struct name_change **end = &disk->name_changes;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = sim_must(malloc(sizeof **end));
    **end = *change;
    (*end)->next = NULL;
}

/* Makes the changes of one directory durable. */
static void name_changes_sync(struct sim_disk *disk, const struct node *directory) REQUIRES(disk->mutex) {
    struct name_change **at = &disk->name_changes;
    while (*at != NULL) {
        struct name_change *change = *at;
        if (change->directory == directory || change->to_directory == directory) {
            name_change_apply(change);
            *at = change->next;
            free(change);
        } else {
            at = &change->next;
        }
    }
}

static void name_changes_forget(struct sim_disk *disk) REQUIRES(disk->mutex) {
    while (disk->name_changes != NULL) {
        struct name_change *change = disk->name_changes;
        disk->name_changes = change->next;
        free(change);
    }
}

/* ---- Nodes and paths ---- */

static struct node *node_create(struct sim_disk *disk, bool is_directory) REQUIRES(disk->mutex) {
    struct node *node = sim_must(calloc(1, sizeof *node));
    node->is_directory = is_directory;
    node->linked = true;
    node->changes_end = &node->changes;
    node->next = disk->nodes;
    disk->nodes = node;
    return node;
}

/* "a//b/../c" is "a/c": the text alone decides. */
static void path_normalize(const char *path, char *out) {
    size_t length = 0;
    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        if (part == 2 && memcmp(path, "..", 2) == 0) {
            while (length > 0 && out[--length] != '/') {
            }
        } else if (part > 0 && !(part == 1 && path[0] == '.') && length + part + 2 < PATH_BYTES) {
            out[length++] = '/';
            memcpy(out + length, path, part);
            length += part;
        }
        path += part;
        path += *path == '/';
    }
    out[length] = '\0';
}

/* Finds the directory of a path and the last part of it. NULL: there is no such directory. */
static struct node *path_parent(struct sim_disk *disk, const char *path, char *name) REQUIRES(disk->mutex) {
    char normal[PATH_BYTES];
    struct node *at = disk->root;
    path_normalize(path, normal);
    const char *part = normal;
    name[0] = '\0';
    while (*part == '/') {
        size_t length = strcspn(part + 1, "/");
        (void)snprintf(name, NAME_BYTES, "%.*s", (int)length, part + 1);
        part += 1 + length;
        if (*part == '/') {
            at = sim_names_find(&at->names, name);
            if (at == NULL || !at->is_directory) {
                return NULL;
            }
        }
    }
    return at;
}

static struct node *path_find(struct sim_disk *disk, const char *path) REQUIRES(disk->mutex) {
    char name[NAME_BYTES];
    struct node *parent = path_parent(disk, path, name);
    return parent == NULL ? NULL : name[0] == '\0' ? parent : sim_names_find(&parent->names, name);
}

/* ---- Space ---- */

static int space_take(struct sim_disk *disk, struct node *node, uint64_t end) REQUIRES(disk->mutex) {
    uint64_t wanted = (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (wanted <= node->allocated) {
        return 0;
    }
    if (disk->capacity != 0 && disk->used + (wanted - node->allocated) > disk->capacity) {
        return -ENOSPC;
    }
    disk->used += wanted - node->allocated;
    node->allocated = wanted;
    return 0;
}

static void space_give(struct sim_disk *disk, struct node *node, uint64_t end) REQUIRES(disk->mutex) {
    uint64_t kept = (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (kept < node->allocated) {
        disk->used -= node->allocated - kept;
        node->allocated = kept;
    }
}

static void space_give_if_gone(struct sim_disk *disk, struct node *node) REQUIRES(disk->mutex) {
    if (!node->linked && node->opens == 0) {
        space_give(disk, node, 0);
    }
}

/* ---- Faults ---- */

enum verdict { GO, FAIL, LAST }; /* LAST: do it, but nothing of it is durable, and say -EIO */

/* Asks whether an operation may go on; *rc is what it returns otherwise. */
static enum verdict admit(struct sim_disk *disk, unsigned kind, bool counted, const char *path, int *rc)
    REQUIRES(disk->mutex) {
    *rc = -EIO;
    if (disk->off) {
        return FAIL;
    }
    if (counted && ++disk->operations == disk->power_off_at) {
        disk->off = true;
        return disk->power_off_partial ? LAST : FAIL;
    }
    const struct sim_fault *fault = &disk->fault;
    if ((fault->kinds & kind) != 0 && (fault->path == NULL || strstr(path, fault->path) != NULL)) {
        uint64_t seen = disk->fault_seen++;
        if (seen >= fault->skip && seen - fault->skip < fault->count) {
            disk->fault_hits++;
            *rc = -fault->error;
            return FAIL;
        }
    }
    *rc = 0;
    return GO;
}

static struct open_file *file_of(struct sim_disk *disk, int file) REQUIRES(disk->mutex) {
    bool known = file >= FILE_BASE && file < FILE_BASE + FILES_MAX && disk->files[file - FILE_BASE].node != NULL;
    if (!known) {
        fprintf(stderr, "sim_disk: the file number %d is not open\n", file);
        abort();
    }
    return &disk->files[file - FILE_BASE];
}

/* ---- The table: files ---- */

static int open_new(struct sim_disk *disk, const char *path, unsigned flags, struct node **out)
    REQUIRES(disk->mutex) {
    char name[NAME_BYTES];
    struct node *parent = path_parent(disk, path, name);
    struct node *node = parent == NULL ? NULL : sim_names_find(&parent->names, name);
    if (parent == NULL || (node == NULL && !(flags & OS_CREATE))) {
        return -ENOENT;
    }
    if (node != NULL && ((flags & OS_EXCLUSIVE) || node->is_directory)) {
        return node->is_directory ? -EISDIR : -EEXIST;
    }
    if (node == NULL) {
        node = node_create(disk, false);
        sim_names_set(&parent->names, name, node);
        struct name_change change = {.kind = NAME_ADD, .node = node, .directory = parent};
        memcpy(change.name, name, sizeof name);
        name_change_note(disk, &change);
    } else if ((flags & OS_TRUNCATE) && node->cache.bytes > 0) {
        sim_node_change(node, CHANGE_RESIZE, NULL, 0, 0, false);
        space_give(disk, node, 0);
    }
    *out = node;
    return 0;
}

static int sim_open(void *ctx, const char *path, unsigned flags) {
    struct sim_disk *disk = ctx;
    struct node *node = NULL;
    int rc;
    mutex_lock(&disk->mutex);
    const struct node *existing = path_find(disk, path);
    bool counted =
        existing == NULL ? (flags & OS_CREATE) != 0 : (flags & OS_TRUNCATE) != 0 && existing->cache.bytes > 0;
    enum verdict verdict = admit(disk, SIM_OPEN, counted, path, &rc);
    if (verdict != FAIL) {
        int opened = (flags & OS_DIRECT) && !disk->has_direct ? -EINVAL : open_new(disk, path, flags, &node);
        rc = verdict == LAST ? rc : opened;
    }
    if (rc == 0 && node != NULL) {
        int file = 0;
        while (file < FILES_MAX && disk->files[file].node != NULL) {
            file++;
        }
        if (file == FILES_MAX) {
            rc = -EMFILE;
        } else {
            disk->files[file] = (struct open_file){.node = node, .flags = flags};
            (void)snprintf(disk->files[file].path, PATH_BYTES, "%s", path);
            node->opens++;
            rc = FILE_BASE + file;
        }
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static void file_close(struct sim_disk *disk, struct open_file *file) REQUIRES(disk->mutex) {
    struct node *node = file->node;
    node->locked = node->locked && !file->locks;
    node->opens--;
    file->node = NULL;
    space_give_if_gone(disk, node);
}

/* Closing always works, also without power: the process lets go of it. */
static int sim_close(void *ctx, int file) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    file_close(disk, file_of(disk, file));
    mutex_unlock(&disk->mutex);
    return 0;
}

static bool misaligned(const struct open_file *file, const void *buffer, size_t bytes, uint64_t offset) {
    return (file->flags & OS_DIRECT) &&
           ((uintptr_t)buffer % PAGE_BYTES != 0 || bytes % PAGE_BYTES != 0 || offset % PAGE_BYTES != 0);
}

static int64_t sim_pread(void *ctx, int number, void *buffer, size_t bytes, uint64_t offset) {
    struct sim_disk *disk = ctx;
    int rc;
    int64_t got = 0;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    if (admit(disk, SIM_READ, false, file->path, &rc) == GO) {
        bool readable = (file->flags & OS_READ) || !(file->flags & OS_WRITE);
        rc = !readable ? -EBADF : misaligned(file, buffer, bytes, offset) ? -EINVAL : 0;
    }
    if (rc == 0) {
        got = (int64_t)sim_image_read(&file->node->cache, buffer, bytes, offset);
    }
    mutex_unlock(&disk->mutex);
    return rc != 0 ? rc : got;
}

static int sim_pwrite(void *ctx, int number, const void *buffer, size_t bytes, uint64_t offset) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    enum verdict verdict = admit(disk, SIM_WRITE, true, file->path, &rc);
    int allowed = !(file->flags & OS_WRITE) ? -EBADF : misaligned(file, buffer, bytes, offset) ? -EINVAL : 0;
    if (verdict != FAIL && allowed == 0) {
        allowed = space_take(disk, file->node, offset + bytes);
    }
    if (verdict != FAIL && allowed == 0) {
        bool certain = verdict == GO && (file->flags & OS_DSYNC);
        sim_node_change(file->node, CHANGE_WRITE, buffer, bytes, offset, certain);
    } else if (verdict == FAIL && disk->fault.partial_write && !disk->off && allowed == 0 &&
               offset + bytes <= file->node->cache.bytes) {
        size_t part = (size_t)(sim_random(&disk->random) % (bytes / SECTOR_BYTES + 1) * SECTOR_BYTES);
        sim_node_change(file->node, CHANGE_WRITE, buffer, part, offset, false);
    }
    rc = verdict == GO ? allowed : rc;
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_sync(void *ctx, int number) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    enum verdict verdict = admit(disk, SIM_SYNC, true, file->path, &rc);
    if (verdict == GO) {
        sim_node_sync(file->node);
    } else if (!disk->off) {
        sim_node_forget(file->node); /* the kernel believes that they were written */
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_truncate(void *ctx, int number, uint64_t bytes) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    enum verdict verdict = admit(disk, SIM_TRUNCATE, true, file->path, &rc);
    if (verdict != FAIL) {
        sim_node_change(file->node, CHANGE_RESIZE, NULL, 0, bytes, false);
        space_give(disk, file->node, bytes);
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_allocate(void *ctx, int number, uint64_t offset, uint64_t bytes) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    enum verdict verdict = admit(disk, SIM_ALLOCATE, true, file->path, &rc);
    int allowed = verdict == FAIL ? 0 : space_take(disk, file->node, offset + bytes);
    if (verdict != FAIL && allowed == 0) {
        sim_node_change(file->node, CHANGE_GROW, NULL, 0, offset + bytes, false);
    }
    rc = verdict == GO ? allowed : rc;
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_fstat(void *ctx, int number, struct os_stat *out) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    const struct open_file *file = file_of(disk, number);
    int rc = disk->off ? -EIO : 0;
    if (rc == 0) {
        *out = (struct os_stat){.bytes = file->node->cache.bytes, .allocated_bytes = file->node->allocated};
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_lock(void *ctx, int number) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    struct open_file *file = file_of(disk, number);
    int rc = disk->off ? -EIO : file->node->locked && !file->locks ? -EAGAIN : 0;
    if (rc == 0) {
        file->node->locked = true;
        file->locks = true;
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

/* ---- The table: names ---- */

static int sim_stat(void *ctx, const char *path, struct os_stat *out) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    const struct node *node = path_find(disk, path);
    int rc = disk->off ? -EIO : node == NULL ? -ENOENT : 0;
    if (rc == 0) {
        *out = (struct os_stat){
            .bytes = node->cache.bytes, .allocated_bytes = node->allocated, .is_directory = node->is_directory};
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int rename_do(struct sim_disk *disk, const char *from, const char *to) REQUIRES(disk->mutex) {
    struct name_change change = {.kind = NAME_RENAME};
    change.directory = path_parent(disk, from, change.name);
    change.to_directory = path_parent(disk, to, change.to_name);
    if (change.directory == NULL || change.to_directory == NULL) {
        return -ENOENT;
    }
    change.node = sim_names_find(&change.directory->names, change.name);
    struct node *replaced = sim_names_find(&change.to_directory->names, change.to_name);
    if (change.node == NULL) {
        return -ENOENT;
    }
    if (replaced == change.node) {
        return 0;
    }
    sim_names_remove(&change.directory->names, change.name, change.node);
    sim_names_set(&change.to_directory->names, change.to_name, change.node);
    name_change_note(disk, &change);
    if (replaced != NULL) {
        replaced->linked = false;
        space_give_if_gone(disk, replaced);
    }
    return 0;
}

static int sim_rename(void *ctx, const char *from, const char *to) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    enum verdict verdict = admit(disk, SIM_RENAME, true, from, &rc);
    if (verdict != FAIL) {
        int done = rename_do(disk, from, to);
        rc = verdict == GO ? done : rc;
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int remove_do(struct sim_disk *disk, const char *path, bool directory) REQUIRES(disk->mutex) {
    struct name_change change = {.kind = NAME_REMOVE};
    change.directory = path_parent(disk, path, change.name);
    change.node = change.directory == NULL ? NULL : sim_names_find(&change.directory->names, change.name);
    if (change.node == NULL) {
        return -ENOENT;
    }
    if (change.node->is_directory != directory) {
        return directory ? -ENOTDIR : -EISDIR;
    }
    if (change.node->names.count > 0) {
        return -ENOTEMPTY;
    }
    sim_names_remove(&change.directory->names, change.name, change.node);
    name_change_note(disk, &change);
    change.node->linked = false;
    space_give_if_gone(disk, change.node);
    return 0;
}

static int sim_remove(struct sim_disk *disk, const char *path, bool directory) {
    int rc;
    mutex_lock(&disk->mutex);
    enum verdict verdict = admit(disk, directory ? SIM_RMDIR : SIM_UNLINK, true, path, &rc);
    if (verdict != FAIL) {
        int done = remove_do(disk, path, directory);
        rc = verdict == GO ? done : rc;
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_unlink(void *ctx, const char *path) { return sim_remove(ctx, path, false); }

static int sim_rmdir(void *ctx, const char *path) { return sim_remove(ctx, path, true); }

static int mkdir_do(struct sim_disk *disk, const char *path) REQUIRES(disk->mutex) {
    struct name_change change = {.kind = NAME_ADD};
    change.directory = path_parent(disk, path, change.name);
    if (change.directory == NULL) {
        return -ENOENT;
    }
    if (change.name[0] == '\0' || sim_names_find(&change.directory->names, change.name) != NULL) {
        return -EEXIST;
    }
    change.node = node_create(disk, true);
    sim_names_set(&change.directory->names, change.name, change.node);
    name_change_note(disk, &change);
    return 0;
}

static int sim_mkdir(void *ctx, const char *path) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    enum verdict verdict = admit(disk, SIM_MKDIR, true, path, &rc);
    if (verdict != FAIL) {
        int done = mkdir_do(disk, path);
        rc = verdict == GO ? done : rc;
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

/* The callback runs without the lock, over a copy: it may open and remove. */
static int sim_list(void *ctx, const char *path, os_list_fn each, void *arg) {
    struct sim_disk *disk = ctx;
    struct name_entry *copy = NULL;
    size_t count = 0;
    mutex_lock(&disk->mutex);
    const struct node *node = path_find(disk, path);
    int rc = disk->off ? -EIO : node == NULL ? -ENOENT : !node->is_directory ? -ENOTDIR : 0;
    if (rc == 0 && node->names.count > 0) {
        count = node->names.count;
        copy = sim_must(malloc(count * sizeof *copy));
        memcpy(copy, node->names.entries, count * sizeof *copy);
    }
    mutex_unlock(&disk->mutex);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = each(arg, copy[i].name);
    }
    free(copy);
    return rc;
}

static int sim_sync_directory(void *ctx, const char *path) {
    struct sim_disk *disk = ctx;
    int rc;
    mutex_lock(&disk->mutex);
    const struct node *node = path_find(disk, path);
    if (admit(disk, SIM_SYNC_DIRECTORY, true, path, &rc) == GO) {
        rc = node == NULL ? -ENOENT : !node->is_directory ? -ENOTDIR : 0;
        if (rc == 0) {
            name_changes_sync(disk, node);
        }
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int sim_free_bytes(void *ctx, const char *path, uint64_t *out) {
    struct sim_disk *disk = ctx;
    (void)path;
    mutex_lock(&disk->mutex);
    int rc = disk->off ? -EIO : 0;
    if (rc == 0) {
        uint64_t free_bytes = disk->capacity > disk->used ? disk->capacity - disk->used : 0;
        *out = disk->capacity == 0 ? UINT64_MAX / 2 : free_bytes;
    }
    mutex_unlock(&disk->mutex);
    return rc;
}

static int64_t sim_monotonic_ns(void *ctx) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    int64_t now = disk->now_ns += 1000;
    mutex_unlock(&disk->mutex);
    return now;
}

static int64_t sim_realtime_ns(void *ctx) { return INT64_C(1700000000000000000) + sim_monotonic_ns(ctx); }

static void sim_sleep_ns(void *ctx, int64_t ns) {
    struct sim_disk *disk = ctx;
    mutex_lock(&disk->mutex);
    disk->now_ns += ns;
    mutex_unlock(&disk->mutex);
}

/* ---- Life and crashes ---- */

struct sim_disk *sim_disk_create(void) {
    struct sim_disk *disk = sim_must(calloc(1, sizeof *disk));
    mutex_init(&disk->mutex);
    disk->os = (struct docdb_os){.ctx = disk,
                                 .open = sim_open,
                                 .close = sim_close,
                                 .pread = sim_pread,
                                 .pwrite = sim_pwrite,
                                 .sync = sim_sync,
                                 .truncate = sim_truncate,
                                 .allocate = sim_allocate,
                                 .fstat = sim_fstat,
                                 .stat = sim_stat,
                                 .rename = sim_rename,
                                 .unlink = sim_unlink,
                                 .mkdir = sim_mkdir,
                                 .rmdir = sim_rmdir,
                                 .list = sim_list,
                                 .sync_directory = sim_sync_directory,
                                 .free_bytes = sim_free_bytes,
                                 .lock = sim_lock,
                                 .realtime_ns = sim_realtime_ns,
                                 .monotonic_ns = sim_monotonic_ns,
                                 .sleep_ns = sim_sleep_ns};
    mutex_lock(&disk->mutex);
    disk->has_direct = true;
    disk->root = node_create(disk, true);
    mutex_unlock(&disk->mutex);
    return disk;
}

const struct docdb_os *sim_disk_os(struct sim_disk *disk) { return &disk->os; }

void sim_disk_destroy(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    name_changes_forget(disk);
    while (disk->nodes != NULL) {
        struct node *next = disk->nodes->next;
        sim_node_destroy(disk->nodes);
        disk->nodes = next;
    }
    mutex_unlock(&disk->mutex);
    mutex_fini(&disk->mutex);
    free(disk);
}

static void files_close_all(struct sim_disk *disk) REQUIRES(disk->mutex) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        if (disk->files[i].node != NULL) {
            file_close(disk, &disk->files[i]);
        }
    }
}

/* The durable names become the names, from here down. */
static void names_restore(struct node *directory) {
    directory->reachable = true;
    free(directory->names.entries);
    directory->names = (struct names){0};
    for (size_t i = 0; i < directory->durable_names.count; i++) {
        const struct name_entry *entry = &directory->durable_names.entries[i];
        sim_names_set(&directory->names, entry->name, entry->node);
        entry->node->reachable = true;
        if (entry->node->is_directory) {
            names_restore(entry->node);
        }
    }
}

static void nodes_sweep(struct sim_disk *disk) REQUIRES(disk->mutex) {
    struct node **at = &disk->nodes;
    disk->used = 0;
    while (*at != NULL) {
        struct node *node = *at;
        if (!node->reachable) {
            *at = node->next;
            sim_node_destroy(node);
            continue;
        }
        node->reachable = false;
        node->linked = true;
        node->allocated = (node->cache.bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        disk->used += node->allocated;
        at = &node->next;
    }
}

void sim_disk_crash(struct sim_disk *disk, uint64_t seed) {
    uint64_t random = seed;
    uint64_t mode = sim_random(&random) % 6;
    uint64_t names_mode = sim_random(&random) % 6;
    mutex_lock(&disk->mutex);
    files_close_all(disk);
    for (const struct name_change *change = disk->name_changes; change != NULL; change = change->next) {
        if (names_mode == 1 || (names_mode != 0 && sim_random(&random) % 2 == 0)) {
            name_change_apply(change);
        }
    }
    name_changes_forget(disk);
    for (struct node *node = disk->nodes; node != NULL; node = node->next) {
        sim_node_crash(node, mode, &random);
    }
    names_restore(disk->root);
    nodes_sweep(disk);
    disk->random = random;
    disk->off = false;
    disk->power_off_at = 0;
    disk->fault = (struct sim_fault){0};
    mutex_unlock(&disk->mutex);
}

void sim_disk_kill(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    files_close_all(disk);
    disk->off = false;
    disk->power_off_at = 0;
    disk->fault = (struct sim_fault){0};
    mutex_unlock(&disk->mutex);
}

/* ---- Settings and questions ---- */

uint64_t sim_disk_operations(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    uint64_t operations = disk->operations;
    mutex_unlock(&disk->mutex);
    return operations;
}

void sim_disk_power_off_at(struct sim_disk *disk, uint64_t operation, bool partial) {
    mutex_lock(&disk->mutex);
    disk->power_off_at = operation;
    disk->power_off_partial = partial;
    mutex_unlock(&disk->mutex);
}

bool sim_disk_is_off(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    bool off = disk->off;
    mutex_unlock(&disk->mutex);
    return off;
}

void sim_disk_fault(struct sim_disk *disk, const struct sim_fault *fault) {
    mutex_lock(&disk->mutex);
    disk->fault = (struct sim_fault){0};
    if (fault != NULL) {
        disk->fault = *fault;
    }
    disk->fault_seen = 0;
    disk->fault_hits = 0;
    mutex_unlock(&disk->mutex);
}

uint64_t sim_disk_faults_hit(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    uint64_t hits = disk->fault_hits;
    mutex_unlock(&disk->mutex);
    return hits;
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes) {
    mutex_lock(&disk->mutex);
    disk->capacity = bytes;
    mutex_unlock(&disk->mutex);
}

uint64_t sim_disk_used(struct sim_disk *disk) {
    mutex_lock(&disk->mutex);
    uint64_t used = disk->used;
    mutex_unlock(&disk->mutex);
    return used;
}

void sim_disk_set_direct(struct sim_disk *disk, bool has_direct) {
    mutex_lock(&disk->mutex);
    disk->has_direct = has_direct;
    mutex_unlock(&disk->mutex);
}

size_t sim_disk_open_files(struct sim_disk *disk) {
    size_t count = 0;
    mutex_lock(&disk->mutex);
    for (size_t i = 0; i < FILES_MAX; i++) {
        count += disk->files[i].node != NULL;
    }
    mutex_unlock(&disk->mutex);
    return count;
}

bool sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t bits) {
    uint8_t byte = 0;
    mutex_lock(&disk->mutex);
    struct node *node = path_find(disk, path);
    bool found = node != NULL && sim_image_read(&node->cache, &byte, 1, offset) == 1;
    if (found) {
        byte ^= bits;
        sim_image_write(&node->cache, &byte, 1, offset);
        if (offset < node->durable.bytes) {
            sim_image_write(&node->durable, &byte, 1, offset);
        }
    }
    mutex_unlock(&disk->mutex);
    return found;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct name_entry *)a)->name, ((const struct name_entry *)b)->name);
}

bool sim_disk_find(struct sim_disk *disk, const char *directory, const char *suffix, size_t nth, char *out,
                   size_t bytes) {
    bool found = false;
    mutex_lock(&disk->mutex);
    const struct node *node = path_find(disk, directory);
    size_t count = node == NULL ? 0 : node->names.count;
    struct name_entry *copy = sim_must(malloc((count + 1) * sizeof *copy));
    if (count > 0) {
        memcpy(copy, node->names.entries, count * sizeof *copy);
        qsort(copy, count, sizeof *copy, by_name);
    }
    for (size_t i = 0; i < count && !found; i++) {
        size_t length = strlen(copy[i].name);
        if (length >= strlen(suffix) && strcmp(copy[i].name + length - strlen(suffix), suffix) == 0 && nth-- == 0) {
            (void)snprintf(out, bytes, "%s/%s", directory, copy[i].name);
            found = true;
        }
    }
    free(copy);
    mutex_unlock(&disk->mutex);
    return found;
}
