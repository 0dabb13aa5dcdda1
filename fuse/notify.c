/*
 * The observer of commits: has the kernel's caches invalidated before a commit is acknowledged.
 *
 * The commit thread calls notify_observe for each published commit. It asks node.c, change by change, whether the
 * kernel may know the name or the directory's attributes, and posts a notification for each that it may. With at
 * least one posted, the acknowledgement waits (DOCDB_OBSERVE_LATER) until all of the commit's notifications are
 * delivered.
 *
 * Two lanes: notify_inval_entry waits for the directory's inode lock, which a LOOKUP, CREATE, UNLINK ... holds
 * until we reply, so nothing that such a request waits for may stand behind it: neither a request thread nor the
 * acknowledgement of a commit that the request itself made. notify_inval_inode waits for nothing, so its lane may
 * hold up any acknowledgement, mkdir's too.
 *
 * Commits with the origin `kernel` (unlink, mknod) post no notification of names, those with `later` (rename,
 * utimens) post them and do not wait. mkdir and rmdir have no origin: mount.directory_requests tells theirs. The
 * kernel drops the directory's attributes by itself when such a request succeeds.
 *
 * Failures: without memory for a notification the entry stays cached for its timeout; it is logged. A notification
 * that the kernel refuses (ENOENT: it does not know the name) is delivered.
 */
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "fuse/internal.h"

/* The acknowledgement of one commit and those who still hold it up. */
struct ack_hold {
    docdb_ack *ack;
    atomic_uint holders; /* the observer while it runs, and each notification that must come first */
    bool later;          /* the ack is ours to release; written by the observer before its own reference goes */
};

struct entry_task {
    struct task task; /* first */
    struct mount *mount;
    struct entry_notice notice;
    struct ack_hold *hold; /* NULL: nobody waits */
};

struct attribute_task {
    struct task task; /* first */
    struct mount *mount;
    struct directory *directory;
    struct ack_hold *hold;
};

static void hold_release(struct ack_hold *hold) {
    if (hold != NULL && atomic_fetch_sub_explicit(&hold->holders, 1, memory_order_acq_rel) == 1) {
        if (hold->later) {
            docdb_ack_release(hold->ack);
        }
        free(hold);
    }
}

static void entry_task_run(struct task *task) {
    struct entry_task *entry = (struct entry_task *)task;
    struct mount *mount = entry->mount;
    const char *name = name_text(entry->notice.name);
    (void)fuse_lowlevel_notify_inval_entry(mount->session, node_id(&mount->tree, &entry->notice.parent->node), name,
                                           strlen(name));
    tree_entry_notified(&mount->tree, &entry->notice);
    hold_release(entry->hold);
    free(entry);
}

static void attribute_task_run(struct task *task) {
    struct attribute_task *attribute = (struct attribute_task *)task;
    struct mount *mount = attribute->mount;
    /* A negative offset: attributes only. */
    (void)fuse_lowlevel_notify_inval_inode(mount->session, node_id(&mount->tree, &attribute->directory->node), -1,
                                           0);
    tree_attributes_notified(&mount->tree, attribute->directory);
    hold_release(attribute->hold);
    free(attribute);
}

static struct ack_hold *hold_acquire(struct ack_hold *hold) {
    if (hold != NULL) {
        atomic_fetch_add_explicit(&hold->holders, 1, memory_order_relaxed);
    }
    return hold;
}

static void entry_post(struct mount *mount, const struct entry_notice *notice, struct ack_hold *hold) {
    struct entry_task *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        log_error(&mount->log, "out of memory: %s may be seen in its old version through the mount for %.0f s",
                  name_text(notice->name), MOUNT_CACHE_S);
        tree_entry_notified(&mount->tree, notice);
        return;
    }
    *entry = (struct entry_task){.task = {.run = entry_task_run}, .mount = mount, .notice = *notice};
    entry->hold = hold_acquire(hold);
    lane_post(&mount->entry_lane, &entry->task);
}

static void attribute_post(struct mount *mount, struct directory *directory, struct ack_hold *hold) {
    struct attribute_task *attribute = malloc(sizeof *attribute);
    if (attribute == NULL) {
        log_error(&mount->log, "out of memory: a directory's times may be old through the mount for %.0f s",
                  MOUNT_CACHE_S);
        tree_attributes_notified(&mount->tree, directory);
        return;
    }
    *attribute = (struct attribute_task){
        .task = {.run = attribute_task_run}, .mount = mount, .directory = directory, .hold = hold_acquire(hold)};
    lane_post(&mount->attribute_lane, &attribute->task);
}

/* Is this the doing of a mkdir or rmdir that is under way? */
static bool own_directory_request(struct mount *mount, const char *name, bool creates) {
    mutex_lock(&mount->state);
    const struct directory_request *request = mount->directory_requests;
    while (request != NULL && (request->creates != creates || strcmp(request->name, name) != 0)) {
        request = request->next;
    }
    mutex_unlock(&mount->state);
    return request != NULL;
}

static void observe_database(struct mount *mount, const docdb_commit_event *event, bool dropped,
                             struct ack_hold *hold) {
    struct entry_notice notice;
    struct directory *directory = NULL;
    bool own = own_directory_request(mount, event->db_name, !dropped);
    tree_root_changed(&mount->tree, os_realtime_ns(docdb_os_default()));
    if (tree_database_changed(&mount->tree, event->db_name, dropped, !own, &notice)) {
        entry_post(mount, &notice, hold);
    }
    if (!own && tree_attributes_changed(&mount->tree, NULL, &directory)) {
        attribute_post(mount, directory, hold);
    }
}

int notify_observe(void *arg, const docdb_commit_event *event, docdb_ack *ack) {
    struct mount *mount = arg;
    bool kernel = event->origin == &mount->origins.kernel;
    bool later = event->origin == &mount->origins.later;
    bool members_changed = false;
    struct ack_hold *hold = malloc(sizeof *hold);
    if (hold != NULL) {
        *hold = (struct ack_hold){.ack = ack};
        atomic_init(&hold->holders, 1);
    }
    for (size_t i = 0; i < event->change_count; i++) {
        const docdb_change *change = &event->changes[i];
        struct entry_notice notice;
        if (change->kind == DOCDB_CHANGE_DB_CREATE || change->kind == DOCDB_CHANGE_DB_DROP) {
            observe_database(mount, event, change->kind == DOCDB_CHANGE_DB_DROP, hold);
            continue;
        }
        members_changed = members_changed || change->kind == DOCDB_CHANGE_DELETE || change->created;
        if (tree_document_changed(&mount->tree, event->db_name, change->id, !kernel, &notice)) {
            entry_post(mount, &notice, later ? NULL : hold);
        }
    }
    struct directory *directory = NULL;
    if (members_changed && !kernel && !later && tree_attributes_changed(&mount->tree, event->db_name, &directory)) {
        attribute_post(mount, directory, hold);
    }
    if (hold == NULL) {
        return DOCDB_OBSERVED;
    }
    /* Ours is one reference; more mean that a notification is under way or was delivered just now: then the last
     * one to let go, maybe this thread, releases the acknowledgement. */
    hold->later = atomic_load_explicit(&hold->holders, memory_order_acquire) > 1;
    int answer = hold->later ? DOCDB_OBSERVE_LATER : DOCDB_OBSERVED;
    hold_release(hold);
    return answer;
}
