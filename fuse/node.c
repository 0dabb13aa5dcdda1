/*
 * See node.h. How the kernel's cache is kept true, without a request ever waiting for a notification.
 *
 * The kernel caches entries (name -> nodeid) and attributes for an hour. A nodeid stands for one version, whose
 * bytes and attributes never change; so only entries can become wrong, and an entry becomes wrong when a commit
 * changes its document.
 *
 *   LOOKUP   1. lock; find or make the name, count a request in flight, note its generation; unlock
 *            2. ask the engine for the newest version
 *            3. lock; if the generation moved, go to 2; else make that version's node the name's current one;
 * unlock
 *            4. reply
 *   commit   durable, published, then the observer: lock; move the generation; if the name has a current node, or a
 * notification under way, the acknowledgement waits for a new notification; take the node off the name; unlock
 *
 * Why no stale entry outlives an acknowledgement: a LOOKUP either read after the commit was published (then it
 * answers the new version), or its step 3 came before the observer (then the observer found the node and notifies)
 * or after it (then the generation moved and it reads again). The notification may overtake the reply of that
 * LOOKUP on its way to the kernel, and is not lost: notify_inval_entry takes the directory's inode lock, which the
 * kernel holds (shared) from before it sends a LOOKUP or READDIRPLUS until the entry is in place. Only a
 * revalidating LOOKUP runs without that lock, and it installs no entry: it prolongs one, which the notification
 * takes out of the hash so that nobody finds it again.
 *
 * A notification under way counts as "the kernel knows": a second commit of the name must not be acknowledged on
 * the word of the first one's notification before that was delivered.
 *
 * What the kernel does itself (unlink, rmdir, the source of a rename) needs no notification, and must not wait for
 * one, since the kernel holds the directory's lock until we reply. Then the name keeps its node as "maybe known"
 * until the kernel forgets it.
 *
 * Missing documents are not cached (the kernel would have to be told of every create, and never says what it
 * forgot), nor are private nodes of writers: their entries have a timeout of 0.
 *
 * Failures: without memory a LOOKUP answers ENOMEM.
 * Locks: tree.mutex, never across a call of docdb.h.
 */
#include "fuse/node.h"

#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/os.h"

#define ROOT_ID          1u /* FUSE_ROOT_ID */
#define NAME_BUCKETS_MIN 64u
#define MARKS            1000000000u /* nanoseconds of a second */
#define LOOKUP_ATTEMPTS  16          /* so many commits of one document within one LOOKUP: then don't cache */
#define INO_WRITER       (1ull << 63) /* inode numbers of documents not committed yet; all others have this bit clear */

struct name {
    struct name *next; /* in its bucket */
    struct directory *parent;
    struct node *node;   /* the current one, or NULL */
    uint64_t generation; /* commits of this name seen */
    unsigned requests;   /* LOOKUPs in flight */
    unsigned notices;    /* notifications under way */
    uint64_t hash;
    char text[];
};

/* ---- Inode numbers: the same for the same version, also after a restart ---- */

uint64_t ino_of_version(const char *database, const char *id, uint64_t version) {
    uint64_t seed = checksum_seeded(database, strlen(database), version);
    return (checksum_seeded(id, strlen(id), seed) & ~INO_WRITER) | 2; /* never 0 or 1 */
}

uint64_t ino_of_database(const char *name) { return (checksum_seeded(name, strlen(name), 0) & ~INO_WRITER) | 2; }

/* ---- Names (tree.mutex held) ---- */

const char *name_text(const struct name *name) { return name->text; }

static struct name *name_find(const struct directory *directory, const char *text, uint64_t hash) {
    if (directory->bucket_count == 0) {
        return NULL;
    }
    struct name *name = directory->buckets[hash & (directory->bucket_count - 1)];
    while (name != NULL && (name->hash != hash || strcmp(name->text, text) != 0)) {
        name = name->next;
    }
    return name;
}

static bool directory_grow(struct directory *directory) {
    size_t count = directory->bucket_count == 0 ? NAME_BUCKETS_MIN : directory->bucket_count * 2;
    struct name **buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL) {
        return directory->bucket_count != 0; /* longer chains will do */
    }
    for (size_t i = 0; i < directory->bucket_count; i++) {
        struct name *next = NULL;
        for (struct name *name = directory->buckets[i]; name != NULL; name = next) {
            next = name->next;
            struct name **bucket = &buckets[name->hash & (count - 1)];
            name->next = *bucket;
            *bucket = name;
        }
    }
    free(directory->buckets);
    directory->buckets = buckets;
    directory->bucket_count = count;
    return true;
}

/* Finds or makes it, with one more request in flight. NULL: no memory. */
static struct name *name_enter(struct directory *directory, const char *text) {
    size_t bytes = strlen(text);
    uint64_t hash = checksum(text, bytes);
    struct name *name = name_find(directory, text, hash);
    if (name == NULL) {
        if (directory->name_count >= directory->bucket_count && !directory_grow(directory)) {
            return NULL;
        }
        name = malloc(sizeof *name + bytes + 1);
        if (name == NULL) {
            return NULL;
        }
        *name = (struct name){.parent = directory, .hash = hash};
        memcpy(name->text, text, bytes + 1);
        struct name **bucket = &directory->buckets[hash & (directory->bucket_count - 1)];
        name->next = *bucket;
        *bucket = name;
        directory->name_count++;
    }
    name->requests++;
    return name;
}

static void name_destroy_if_unused(struct name *name) {
    if (name->node != NULL || name->requests != 0 || name->notices != 0) {
        return;
    }
    struct directory *directory = name->parent;
    struct name **link = &directory->buckets[name->hash & (directory->bucket_count - 1)];
    while (*link != name) {
        link = &(*link)->next;
    }
    *link = name->next;
    directory->name_count--;
    free(name);
}

static void name_leave(struct name *name) {
    name->requests--;
    name_destroy_if_unused(name);
}

static void name_set_node(struct name *name, struct node *node) {
    if (name->node != NULL) {
        name->node->name = NULL;
    }
    name->node = node;
    if (node != NULL) {
        node->name = name;
    }
}

/* ---- Nodes ---- */

struct node *tree_node(struct tree *tree, uint64_t nodeid) {
    /* The address came through the kernel, which orders memory but is unknown to the memory model: this pairs with
     * the release in node_link. */
    (void)atomic_load_explicit(&tree->created, memory_order_acquire);
    if (nodeid == ROOT_ID) {
        return &tree->root.node;
    }
    return (struct node *)(uintptr_t)nodeid; /* NOLINT(performance-no-int-to-ptr) */
}

uint64_t node_id(struct tree *tree, const struct node *node) {
    return node == &tree->root.node ? ROOT_ID : (uint64_t)(uintptr_t)node;
}

static void node_link(struct tree *tree, struct node *node) REQUIRES(tree->mutex) {
    node->previous = NULL;
    node->next = tree->nodes;
    if (tree->nodes != NULL) {
        tree->nodes->previous = node;
    }
    tree->nodes = node;
    atomic_fetch_add_explicit(&tree->created, 1, memory_order_release);
}

static void node_unlink(struct tree *tree, struct node *node) REQUIRES(tree->mutex) {
    if (node->previous != NULL) {
        node->previous->next = node->next;
    } else {
        tree->nodes = node->next;
    }
    if (node->next != NULL) {
        node->next->previous = node->previous;
    }
}

/* Puts the node on the list of garbage when nobody refers to it; a document lets go of its database. */
static void node_collect(struct tree *tree, struct node *node, struct node **garbage) REQUIRES(tree->mutex) {
    while (node != &tree->root.node && node->lookups == 0) {
        struct name *name = node->name;
        if (name != NULL) {
            name_set_node(name, NULL);
            name_destroy_if_unused(name);
        }
        if (node->holds != 0) {
            return;
        }
        node_unlink(tree, node);
        node->next = *garbage;
        *garbage = node;
        if (node->kind == NODE_DATABASE) {
            return;
        }
        struct document *document = (struct document *)node;
        node = &document->database->directory.node;
        node->holds--;
    }
}

/* Without tree.mutex: this calls into DocDB. */
static void garbage_destroy(struct node *garbage) {
    while (garbage != NULL) {
        struct node *node = garbage;
        garbage = node->next;
        if (node->kind == NODE_DATABASE) {
            struct database *database = (struct database *)node;
            docdb_db_close(database->handle);
            free(database->directory.buckets);
        } else {
            docdb_doc_release(((struct document *)node)->doc);
        }
        free(node);
    }
}

void tree_hold(struct tree *tree, struct node *node) {
    mutex_lock(&tree->mutex);
    node->holds++;
    mutex_unlock(&tree->mutex);
}

void tree_release(struct tree *tree, struct node *node) {
    struct node *garbage = NULL;
    mutex_lock(&tree->mutex);
    node->holds--;
    node_collect(tree, node, &garbage);
    mutex_unlock(&tree->mutex);
    garbage_destroy(garbage);
}

void tree_forget(struct tree *tree, struct node *node, uint64_t lookups) {
    struct node *garbage = NULL;
    mutex_lock(&tree->mutex);
    node->lookups -= lookups <= node->lookups ? lookups : node->lookups;
    node_collect(tree, node, &garbage);
    mutex_unlock(&tree->mutex);
    garbage_destroy(garbage);
}

void tree_init(struct tree *tree, docdb *runtime) {
    *tree = (struct tree){.runtime = runtime, .root = {.node = {.kind = NODE_ROOT}}};
    mutex_init(&tree->mutex);
    tree_root_changed(tree, os_realtime_ns(docdb_os_default()));
}

void tree_fini(struct tree *tree) {
    struct node *garbage = NULL;
    mutex_lock(&tree->mutex);
    for (struct node *node = tree->nodes; node != NULL; node = node->next) {
        node->lookups = 0;
        node->holds = 0;
        struct name *name = node->name;
        if (name != NULL) {
            name_set_node(name, NULL);
            name_destroy_if_unused(name);
        }
    }
    garbage = tree->nodes;
    tree->nodes = NULL;
    mutex_unlock(&tree->mutex);
    garbage_destroy(garbage);
    free(tree->root.buckets);
    mutex_fini(&tree->mutex);
}

/* ---- Lookups ---- */

static struct document *document_create(struct database *database, const char *id, enum node_kind kind,
                                        const docdb_info *info) {
    size_t bytes = strlen(id) + 1;
    struct document *document = malloc(sizeof *document + bytes);
    if (document == NULL) {
        return NULL;
    }
    *document = (struct document){.node = {.kind = kind, .lookups = 1}, .database = database, .info = *info};
    document->mtime_ns = info->mtime_ns;
    document->ino = ino_of_version(database->name, id, info->version);
    memcpy(document->id, id, bytes);
    return document;
}

static void document_link(struct tree *tree, struct document *document) REQUIRES(tree->mutex) {
    node_link(tree, &document->node);
    document->database->directory.node.holds++;
}

/* The node of the version that `info` describes, with one more lookup. Makes it the name's current one. */
static struct document *name_document(struct tree *tree, struct database *database, struct name *name,
                                      const docdb_info *info) REQUIRES(tree->mutex) {
    struct document *document = (struct document *)name->node;
    if (document != NULL && document->info.version == info->version) {
        document->node.lookups++;
        return document;
    }
    document = document_create(database, name->text, NODE_VERSION, info);
    if (document == NULL) {
        return NULL;
    }
    document_link(tree, document);
    name_set_node(name, &document->node);
    return document;
}

int tree_lookup_document(struct tree *tree, struct database *database, const char *id, struct document **out,
                         bool *cache) {
    docdb_info info = {0};
    struct document *document = NULL;
    mutex_lock(&tree->mutex);
    struct name *name = name_enter(&database->directory, id);
    if (name == NULL) {
        mutex_unlock(&tree->mutex);
        return DOCDB_ERR_MEMORY;
    }
    int status = DOCDB_OK;
    int attempts = 0;
    uint64_t generation = 0;
    do {
        generation = name->generation;
        mutex_unlock(&tree->mutex);
        status = docdb_stat(database->handle, id, &info);
        mutex_lock(&tree->mutex);
    } while (name->generation != generation && ++attempts < LOOKUP_ATTEMPTS);
    *cache = name->generation == generation;
    if (status == DOCDB_OK) {
        document = name_document(tree, database, name, &info);
        status = document == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    name_leave(name);
    mutex_unlock(&tree->mutex);
    *out = document;
    return status;
}

static struct database *database_create(const char *name, docdb_db *handle) {
    struct database *database = calloc(1, sizeof *database);
    if (database != NULL) {
        database->directory.node.kind = NODE_DATABASE;
        database->handle = handle;
        memcpy(database->name, name, strlen(name) + 1); /* a database that opened has a valid name */
    }
    return database;
}

/* The name's current database with one more lookup, or NULL when it has none that can be used. */
static struct database *name_database(const struct name *name) {
    struct database *database = (struct database *)name->node;
    if (database == NULL || database->dropped) {
        return NULL;
    }
    database->directory.node.lookups++;
    return database;
}

int tree_lookup_database(struct tree *tree, const char *name, struct database **out, bool *cache) {
    docdb_db *handle = NULL;
    mutex_lock(&tree->mutex);
    struct name *entry = name_enter(&tree->root, name);
    if (entry == NULL) {
        mutex_unlock(&tree->mutex);
        return DOCDB_ERR_MEMORY;
    }
    int status = DOCDB_OK;
    int attempts = 0;
    uint64_t generation = entry->generation;
    struct database *database = name_database(entry);
    while (database == NULL) {
        generation = entry->generation;
        mutex_unlock(&tree->mutex);
        docdb_db_close(handle);
        handle = NULL;
        status = docdb_db_open(tree->runtime, name, 0, &handle);
        mutex_lock(&tree->mutex);
        if (entry->generation != generation && ++attempts < LOOKUP_ATTEMPTS) {
            continue;
        }
        database = name_database(entry); /* another LOOKUP may have been faster */
        if (status != DOCDB_OK || database != NULL) {
            break;
        }
        database = database_create(name, handle);
        if (database == NULL) {
            status = DOCDB_ERR_MEMORY;
            break;
        }
        handle = NULL;
        database->directory.node.lookups = 1;
        node_link(tree, &database->directory.node);
        name_set_node(entry, &database->directory.node);
    }
    *cache = entry->generation == generation;
    name_leave(entry);
    mutex_unlock(&tree->mutex);
    docdb_db_close(handle);
    *out = database;
    return database != NULL ? DOCDB_OK : status;
}

struct document *tree_create_writer(struct tree *tree, struct database *database, const char *id,
                                    const docdb_info *info) {
    int64_t now_ns = os_realtime_ns(docdb_os_default());
    docdb_info none = {.commit_time_ns = now_ns, .mtime_ns = now_ns};
    struct document *document = document_create(database, id, NODE_WRITER, info == NULL ? &none : info);
    if (document == NULL) {
        return NULL;
    }
    mutex_lock(&tree->mutex);
    uint64_t number = ++tree->writers;
    document->mark = (uint32_t)(number % MARKS);
    if (info == NULL) {
        document->ino = INO_WRITER | number;
    }
    document_link(tree, document);
    mutex_unlock(&tree->mutex);
    return document;
}

struct document *tree_create_pinned(struct tree *tree, struct database *database, const char *id, docdb_doc *doc) {
    struct document *document = document_create(database, id, NODE_VERSION, docdb_doc_info(doc));
    if (document == NULL) {
        docdb_doc_release(doc);
        return NULL;
    }
    document->doc = doc;
    mutex_lock(&tree->mutex);
    document_link(tree, document);
    mutex_unlock(&tree->mutex);
    return document;
}

/* ---- Commits ---- */

static struct directory *database_find(struct tree *tree, const char *name) REQUIRES(tree->mutex) {
    const struct name *found = name_find(&tree->root, name, checksum(name, strlen(name)));
    return found == NULL ? NULL : (struct directory *)found->node;
}

static bool name_changed(struct directory *directory, const char *text, bool forget, struct entry_notice *notice) {
    struct name *name = name_find(directory, text, checksum(text, strlen(text)));
    if (name == NULL) {
        return false;
    }
    name->generation++;
    if (!forget || (name->node == NULL && name->notices == 0)) {
        return false;
    }
    name_set_node(name, NULL);
    name->notices++;
    directory->node.holds++;
    *notice = (struct entry_notice){.name = name, .parent = directory};
    return true;
}

bool tree_document_changed(struct tree *tree, const char *database, const char *id, bool forget,
                           struct entry_notice *notice) {
    mutex_lock(&tree->mutex);
    struct directory *directory = database_find(tree, database);
    bool known = directory != NULL && name_changed(directory, id, forget, notice);
    mutex_unlock(&tree->mutex);
    return known;
}

bool tree_database_changed(struct tree *tree, const char *name, bool dropped, bool forget,
                           struct entry_notice *notice) {
    mutex_lock(&tree->mutex);
    struct database *database = (struct database *)database_find(tree, name);
    if (dropped && database != NULL) {
        database->dropped = true;
    }
    bool known = name_changed(&tree->root, name, forget, notice);
    mutex_unlock(&tree->mutex);
    return known;
}

void tree_entry_notified(struct tree *tree, const struct entry_notice *notice) {
    mutex_lock(&tree->mutex);
    notice->name->notices--;
    name_destroy_if_unused(notice->name);
    mutex_unlock(&tree->mutex);
    tree_release(tree, &notice->parent->node);
}

bool tree_attributes_changed(struct tree *tree, const char *database, struct directory **out) {
    mutex_lock(&tree->mutex);
    struct directory *directory = database == NULL ? &tree->root : database_find(tree, database);
    bool known = directory != NULL && (directory->attributes_given || directory->attribute_tasks != 0);
    if (known) {
        directory->attributes_given = false;
        directory->attribute_tasks++;
        directory->node.holds++;
        *out = directory;
    }
    mutex_unlock(&tree->mutex);
    return known;
}

void tree_attributes_notified(struct tree *tree, struct directory *directory) {
    mutex_lock(&tree->mutex);
    directory->attribute_tasks--;
    mutex_unlock(&tree->mutex);
    tree_release(tree, &directory->node);
}

void tree_attributes_given(struct tree *tree, struct directory *directory) {
    mutex_lock(&tree->mutex);
    directory->attributes_given = true;
    mutex_unlock(&tree->mutex);
}

void tree_root_changed(struct tree *tree, int64_t now_ns) {
    mutex_lock(&tree->mutex);
    tree->root_mtime_ns = now_ns;
    mutex_unlock(&tree->mutex);
}
