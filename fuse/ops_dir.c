/*
 * Listing directories.
 *
 * A database is listed by an ordered scan that the open directory keeps, so each entry costs the same wherever it
 * is, and a directory of any size is never held whole. READDIRPLUS looks every id up as LOOKUP does (node.c), so
 * that what it hands the kernel obeys the same protocol; a document that was deleted since the scan began is left
 * out.
 *
 * The offset of an entry is its number in the listing. The kernel often asks again from the middle of the last
 * reply (the caller's buffer was full), so the ids of the last reply are kept. Any other jump (seekdir) starts a
 * new scan and skips. Order is bytewise and the scan is one snapshot, so an entry that is neither added nor removed
 * appears exactly once.
 *
 * Failures: what the scan reports; entries already collected are delivered first.
 * Locks: listing.mutex (the kernel sends one READDIR a description at a time, so nobody waits for it), then
 * tree.mutex.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/internal.h"

#define OFFSET_FIRST 2       /* after "." (1) and ".." (2) */
#define REPLY_MAX    262144u /* bytes of one reply */

/* The last reply's entries: a version and an id each. */
struct kept {
    char *records; /* 8 bytes of version, then the id with its NUL */
    size_t used;
    size_t capacity;
};

struct listing {
    struct mutex mutex;
    struct listing *next_open; /* in struct listings */
    struct listing *previous_open;
    struct database *database; /* NULL: the root. The kernel holds its node while the directory is open */
    docdb_scan *scan GUARDED_BY(mutex);
    docdb_db_info *databases GUARDED_BY(mutex); /* the root's listing */
    size_t database_count GUARDED_BY(mutex);
    bool started GUARDED_BY(mutex);
    struct kept kept GUARDED_BY(mutex);
    uint64_t first GUARDED_BY(mutex); /* number of the first kept entry */
    uint64_t next GUARDED_BY(mutex);  /* number of the entry that the scan gives next */
};

/* What one reply is made of. */
struct reply {
    fuse_req_t req;
    struct mount *mount;
    bool plus;
    char *data;
    size_t used;
    size_t capacity;
    struct node **given; /* nodes that the kernel gets a lookup of */
    size_t given_count;
};

static struct listing *listing_of(const struct fuse_file_info *file) {
    return (struct listing *)(uintptr_t)file->fh; /* NOLINT(performance-no-int-to-ptr): our own address */
}

static void listing_stop(struct listing *listing) REQUIRES(listing->mutex) {
    docdb_scan_close(listing->scan);
    listing->scan = NULL;
    docdb_db_list_free(listing->databases);
    listing->databases = NULL;
    listing->database_count = 0;
    listing->kept.used = 0;
    listing->first = 0;
    listing->next = 0;
    listing->started = false;
}

static void listing_link(struct listings *listings, struct listing *listing) {
    mutex_lock(&listings->mutex);
    listing->next_open = listings->first;
    if (listing->next_open != NULL) {
        listing->next_open->previous_open = listing;
    }
    listings->first = listing;
    mutex_unlock(&listings->mutex);
}

static void listing_destroy(struct listings *listings, struct listing *listing) {
    mutex_lock(&listings->mutex);
    if (listing->previous_open != NULL) {
        listing->previous_open->next_open = listing->next_open;
    } else {
        listings->first = listing->next_open;
    }
    if (listing->next_open != NULL) {
        listing->next_open->previous_open = listing->previous_open;
    }
    mutex_unlock(&listings->mutex);
    mutex_lock(&listing->mutex);
    listing_stop(listing);
    free(listing->kept.records);
    mutex_unlock(&listing->mutex);
    mutex_fini(&listing->mutex);
    free(listing);
}

void listings_init(struct listings *listings) {
    mutex_init(&listings->mutex);
    mutex_lock(&listings->mutex);
    listings->first = NULL;
    mutex_unlock(&listings->mutex);
}

void listings_fini(struct listings *listings) {
    for (;;) {
        mutex_lock(&listings->mutex);
        struct listing *listing = listings->first;
        mutex_unlock(&listings->mutex);
        if (listing == NULL) {
            break;
        }
        listing_destroy(listings, listing);
    }
    mutex_fini(&listings->mutex);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    struct node *node = tree_node(&mount->tree, ino);
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    mutex_init(&listing->mutex);
    listing->database = node->kind == NODE_ROOT ? NULL : database_of(node);
    listing_link(&mount->listings, listing);
    file->fh = (uintptr_t)listing;
    atomic_fetch_add_explicit(&mount->tree.created, 1, memory_order_release); /* as for nodes: see tree_node */
    if (fuse_reply_open(req, file) == -ENOENT) { /* interrupted: there will be no RELEASEDIR */
        listing_destroy(&mount->listings, listing);
    }
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    listing_destroy(&mount->listings, listing_of(file));
    (void)fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file) {
    (void)ino;
    (void)data_only;
    (void)file;
    (void)fuse_reply_err(req, 0); /* every commit was durable when it was answered */
}

/* ---- The sequence of entries ---- */

static int kept_add(struct kept *kept, const char *id, uint64_t version) {
    size_t bytes = sizeof version + strlen(id) + 1;
    if (kept->used + bytes > kept->capacity) {
        size_t capacity = kept->capacity * 2 + bytes + 4096;
        char *records = realloc(kept->records, capacity);
        if (records == NULL) {
            return DOCDB_ERR_MEMORY;
        }
        kept->records = records;
        kept->capacity = capacity;
    }
    memcpy(kept->records + kept->used, &version, sizeof version);
    memcpy(kept->records + kept->used + sizeof version, id, bytes - sizeof version);
    kept->used += bytes;
    return DOCDB_OK;
}

static const char *record_id(const char *record) { return record + sizeof(uint64_t); }

static size_t record_bytes(const char *record) { return sizeof(uint64_t) + strlen(record_id(record)) + 1; }

static int listing_start(struct listing *listing, struct mount *mount) REQUIRES(listing->mutex) {
    listing_stop(listing);
    int status = listing->database == NULL
                     ? docdb_db_list(mount->runtime, &listing->databases, &listing->database_count)
                     : docdb_scan_open(listing->database->handle, NULL, &listing->scan);
    listing->started = status == DOCDB_OK;
    return status;
}

/* Fetches one more entry behind the kept ones. DOCDB_ERR_END after the last. */
static int listing_fetch(struct listing *listing) REQUIRES(listing->mutex) {
    int status = DOCDB_ERR_END;
    if (listing->database == NULL) {
        if (listing->next < listing->database_count) {
            status = kept_add(&listing->kept, listing->databases[listing->next].name, 0);
        }
    } else if (listing->scan != NULL) {
        docdb_entry entry;
        status = docdb_scan_next(listing->scan, &entry);
        if (status == DOCDB_OK) {
            status = kept_add(&listing->kept, entry.id, entry.info.version);
        } else if (status == DOCDB_ERR_END) {
            docdb_scan_close(listing->scan); /* lets go of its snapshot, however long the directory stays open */
            listing->scan = NULL;
        }
    }
    listing->next += status == DOCDB_OK ? 1 : 0;
    return status;
}

/* Lets go of the first kept entries, up to number `number`. */
static void listing_consume(struct listing *listing, uint64_t number) REQUIRES(listing->mutex) {
    size_t at = 0;
    while (listing->first < number && at < listing->kept.used) {
        at += record_bytes(listing->kept.records + at);
        listing->first++;
    }
    if (at > 0) {
        memmove(listing->kept.records, listing->kept.records + at, listing->kept.used - at);
        listing->kept.used -= at;
    }
}

/* Makes entry `number` the first kept one, or the next to be fetched. */
static int listing_seek(struct listing *listing, struct mount *mount, uint64_t number) REQUIRES(listing->mutex) {
    if (!listing->started || number == 0 || number < listing->first) {
        int status = listing_start(listing, mount);
        if (status != DOCDB_OK) {
            return status;
        }
    }
    listing_consume(listing, number);
    while (listing->next < number) {
        int status = listing_fetch(listing);
        if (status != DOCDB_OK) {
            return status;
        }
        listing_consume(listing, listing->next);
    }
    return DOCDB_OK;
}

/* ---- Replies ---- */

/* Adds an entry to the reply; false: there is no more room. node is NULL where the kernel gets no lookup. */
static bool reply_add(struct reply *reply, const char *name, const struct fuse_entry_param *entry,
                      struct node *node, off_t offset) {
    size_t room = reply->capacity - reply->used;
    char *at = reply->data + reply->used;
    size_t bytes = reply->plus ? fuse_add_direntry_plus(reply->req, at, room, name, entry, offset)
                               : fuse_add_direntry(reply->req, at, room, name, &entry->attr, offset);
    if (bytes > room) {
        return false;
    }
    reply->used += bytes;
    if (node != NULL) {
        reply->given[reply->given_count++] = node;
    }
    return true;
}

/* Looks an entry up for READDIRPLUS. NULL, with DOCDB_OK: it is gone, leave it out. */
static struct node *entry_look_up(struct mount *mount, struct database *database, const char *name,
                                  struct fuse_entry_param *entry) {
    bool cache = false;
    if (database != NULL) {
        struct document *document = NULL;
        if (tree_lookup_document(&mount->tree, database, name, &document, &cache) != DOCDB_OK) {
            return NULL;
        }
        entry_document(mount, document, cache, entry);
        return &document->node;
    }
    struct database *found = NULL;
    if (tree_lookup_database(&mount->tree, name, &found, &cache) != DOCDB_OK) {
        return NULL;
    }
    if (!entry_database(mount, found, cache, entry)) {
        tree_forget(&mount->tree, &found->directory.node, 1);
        return NULL;
    }
    return &found->directory.node;
}

/* One entry of the listing; false: there is no more room. */
static bool reply_add_record(struct reply *reply, struct listing *listing, const char *record, uint64_t number) {
    struct fuse_entry_param entry;
    const char *name = record_id(record);
    off_t offset = (off_t)(number + 1 + OFFSET_FIRST);
    if (!reply->plus) {
        uint64_t version = 0;
        memcpy(&version, record, sizeof version);
        memset(&entry, 0, sizeof entry);
        entry.attr.st_mode = listing->database == NULL ? S_IFDIR : S_IFREG;
        entry.attr.st_ino = listing->database == NULL ? ino_of_database(name)
                                                      : ino_of_version(listing->database->name, name, version);
        return reply_add(reply, name, &entry, NULL, offset);
    }
    struct node *node = entry_look_up(reply->mount, listing->database, name, &entry);
    if (node == NULL) {
        return true;
    }
    if (!reply_add(reply, name, &entry, node, offset)) {
        tree_forget(&reply->mount->tree, node, 1);
        return false;
    }
    return true;
}

static int reply_fill(struct reply *reply, struct listing *listing, uint64_t number) REQUIRES(listing->mutex) {
    int status = listing_seek(listing, reply->mount, number);
    size_t at = 0;
    while (status == DOCDB_OK) {
        if (at == listing->kept.used) {
            status = listing_fetch(listing);
            if (status != DOCDB_OK) {
                break;
            }
        }
        const char *record = listing->kept.records + at;
        if (!reply_add_record(reply, listing, record, number)) {
            break;
        }
        at += record_bytes(record);
        number++;
    }
    return status;
}

/* "." and ".." come first. Returns the offset that follows. */
static off_t reply_add_dots(struct reply *reply, fuse_ino_t ino, const struct listing *listing, off_t offset) {
    struct fuse_entry_param entry = {0};
    entry.attr.st_mode = S_IFDIR;
    entry.attr.st_ino = listing->database == NULL ? ino : ino_of_database(listing->database->name);
    if (offset == 0) {
        (void)reply_add(reply, ".", &entry, NULL, 1);
        offset = 1;
    }
    if (offset == 1) {
        entry.attr.st_ino = FUSE_ROOT_ID;
        (void)reply_add(reply, "..", &entry, NULL, 2);
        offset = OFFSET_FIRST;
    }
    return offset;
}

static void directory_read(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file,
                           bool plus) {
    struct mount *mount = mount_of(req);
    (void)tree_node(&mount->tree, ino);
    struct listing *listing = listing_of(file);
    struct reply reply = {.req = req, .mount = mount, .plus = plus};
    reply.capacity = bytes < REPLY_MAX ? bytes : REPLY_MAX;
    reply.data = malloc(reply.capacity);
    reply.given = malloc((reply.capacity / sizeof(struct stat) + 1) * sizeof *reply.given); /* an entry is larger */
    if (reply.data == NULL || reply.given == NULL || offset < 0) {
        (void)fuse_reply_err(req, offset < 0 ? EINVAL : ENOMEM);
        free(reply.data);
        free(reply.given);
        return;
    }
    mutex_lock(&listing->mutex);
    offset = reply_add_dots(&reply, ino, listing, offset);
    int status = reply_fill(&reply, listing, (uint64_t)(offset - OFFSET_FIRST));
    mutex_unlock(&listing->mutex);
    if (reply.used == 0 && status != DOCDB_OK && status != DOCDB_ERR_END) {
        (void)fuse_reply_err(req, errno_of(status));
    } else if (fuse_reply_buf(req, reply.data, reply.used) != 0) {
        for (size_t i = 0; i < reply.given_count; i++) {
            tree_forget(&mount->tree, reply.given[i], 1);
        }
    }
    free(reply.data);
    free(reply.given);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file) {
    directory_read(req, ino, bytes, offset, file, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t offset, struct fuse_file_info *file) {
    directory_read(req, ino, bytes, offset, file, true);
}
