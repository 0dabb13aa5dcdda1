/*
 * What the files of the mount share: struct mount and the functions between them.
 *
 * Reading order: mount.c (start, stop, threads), node.c (the cache protocol), ops_name.c, ops_dir.c, ops_file.c
 * (what each request does), handle.c (an open file), commit.c (from FLUSH, FSYNC, RELEASE to a commit and back),
 * lastclose.c (is this the last close? was the writer killed?), notify.c (the observer), stale.c (what a crash left
 * mounted), guard.c (a killed server takes its connection with it).
 *
 * Lock order: listing.mutex, then tree.mutex; every other mutex is taken alone. No lock is held while a commit is
 * submitted or waited for, a request answered that others wait for, a notification sent or /proc looked at; only
 * handle.mutex is held while a write set is filled or a staged range is replied, which keeps the stage still.
 */
#ifndef DOCDB_FUSE_INTERNAL_H
#define DOCDB_FUSE_INTERNAL_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "base/log.h"
#include "base/thread.h"
#include "docdb.h"
#include "fuse/handle.h"
#include "fuse/lane.h"
#include "fuse/lastclose.h"
#include "fuse/node.h"
#include "fuse/retry.h"
#include "fuse/stage.h"

enum {
    MOUNT_WORKERS =
        8, /* request threads: more than cores, since a read may wait for the disk and mkdir waits for its commit */
};
#define MOUNT_CACHE_S   3600.0     /* how long the kernel keeps entries and attributes: commits invalidate them */
#define MOUNT_WRITE_MAX (1u << 20) /* bytes of one WRITE: the most that libfuse takes */

/* Commits of the mount itself that must not wait for notifications: the kernel holds a directory's or a document's
 * lock until the reply. A transaction's origin points to one of these. */
struct origins {
    char kernel; /* unlink, mknod: the kernel changes its own cache */
    char later;  /* rename, utimens: a notification follows, and the acknowledgement does not wait for it */
};

/* The mkdir or rmdir that is under way (docdb.h has no origin for those). The kernel holds the root's lock: one at
 * a time. */
struct directory_request {
    struct directory_request *next;
    const char *name;
    bool creates;
};

struct commit;
struct listing;

/* All open directories, for stopping. */
struct listings {
    struct mutex mutex; /* innermost */
    struct listing *first GUARDED_BY(mutex);
};

/* Commits under way, and the read-then-write ones of one document in a queue, so that they don't conflict with each
 * other. */
struct commits {
    struct mutex mutex;
    struct condition none;
    unsigned active GUARDED_BY(mutex);
    struct commit *edits GUARDED_BY(mutex); /* the one of each document that is being done */
    bool stopping GUARDED_BY(mutex);        /* nothing staged is committed any more */
};

struct mount {
    pid_t guard; /* ends the connection when we are killed: guard.c */
    docdb *runtime;
    struct log log;
    char *mount_point; /* absolute */
    char *data_dir;
    struct fuse_session *session;
    docdb_observer *observer;
    uid_t uid;
    gid_t gid;
    struct tree tree;
    struct retries retries;
    struct staging staging;
    struct handle_list handles;
    struct listings listings;
    struct commits commits;
    struct lastclose lastclose;
    struct lane entry_lane;     /* notifications of names: may wait for a directory's lock */
    struct lane attribute_lane; /* notifications of attributes: wait for nothing */
    struct lane edit_lane;      /* commits that read first */
    struct origins origins;

    struct mutex state;
    struct condition worker_ended;
    unsigned workers_running GUARDED_BY(state);
    bool stopping GUARDED_BY(state); /* the end of the connection is our doing */
    struct directory_request *directory_requests GUARDED_BY(state);
    pthread_t workers[MOUNT_WORKERS];
    unsigned worker_count;
};

static inline struct mount *mount_of(fuse_req_t req) { return fuse_req_userdata(req); }

static inline const struct document *document_const(const struct node *node) {
    return (const struct document *)node;
}
static inline struct document *document_of(struct node *node) { return (struct document *)node; }
static inline struct database *database_of(struct node *node) { return (struct database *)node; }

/* ops_name.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
               unsigned flags);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
/* ops_attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which, struct fuse_file_info *file);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
/* ops_dir.c */
void listings_init(struct listings *listings);
/* Closes what the kernel never released. */
void listings_fini(struct listings *listings);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file);
/* ops_file.c */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t bytes, off_t offset,
              struct fuse_file_info *file);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t bytes, struct fuse_file_info *file);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file);

/* Attributes as stat shows them (ops_attr.c). */
void attr_root(struct mount *mount, struct stat *attr);
/* False: the database is gone. */
bool attr_database(struct mount *mount, struct database *database, struct stat *attr);
void attr_document(const struct mount *mount, const struct document *document, struct stat *attr);
/* A looked-up node as a directory entry; cache as tree_lookup_document says. */
void entry_document(struct mount *mount, const struct document *document, bool cache,
                    struct fuse_entry_param *entry);
bool entry_database(struct mount *mount, struct database *database, bool cache, struct fuse_entry_param *entry);
/* Replies with an entry; takes the lookup back when the reply cannot be delivered. */
void reply_entry(fuse_req_t req, struct node *node, const struct fuse_entry_param *entry);
/* The errno for a status, as a name operation answers it. */
int errno_of(int status);

/* commit.c */
enum commit_cause { COMMIT_FLUSH, COMMIT_FSYNC, COMMIT_RELEASE, COMMIT_TRUNCATE };
void commits_init(struct commits *commits);
void commits_fini(struct commits *commits);
/* From here on nothing staged is committed; returns when what was under way is done. */
void commits_stop(struct commits *commits);
/* Counts a commit that is answered from its completion, so that stopping waits for it. False: stopping. */
bool commits_begin(struct commits *commits);
void commits_end(struct commits *commits);
/* Commits what the handle has staged and then answers req (NULL: nobody waits). */
void commit_handle(struct mount *mount, struct handle *handle, enum commit_cause cause, fuse_req_t req);
/* truncate(path): node is the caller's private one; answers req with its attributes. */
void commit_truncate(struct mount *mount, struct document *document, uint64_t bytes, fuse_req_t req);
/* The last-close rule's answer to a FLUSH. */
void commit_flush_decided(struct mount *mount, struct handle *handle, fuse_req_t req,
                          enum lastclose_verdict verdict);

/* notify.c */
int notify_observe(void *arg, const docdb_commit_event *event, docdb_ack *ack);

/* stale.c */
/* Clears a stale mount of ours from `mount_point`, *cleared says if there was one. */
int stale_clear(const char *mount_point, const struct log *log, docdb_error *error);
/* Ends the connection of what is mounted there, whoever has files open, and unmounts it; where we are not root, it
 * is unmounted and the connection ends when the last file is closed. */
void stale_unmount(const char *mount_point);
/* `path` made absolute without asking what is mounted there; NULL: no such directory. Free it. */
char *stale_resolve(const char *path);

#endif
