/*
 * Nodes and names: what the kernel knows of the mount.
 *
 * A node is what a nodeid stands for: the root, a database, one version of a document (shared by all who look it
 * up) or a private node of one writer. It lives as long as the kernel holds lookups of it or we hold it ourselves;
 * so the memory that nodes take is bounded by the kernel's own caches.
 *
 * A name is an entry of a directory that the kernel may have in its cache, or is just being told. It exists while
 * it has a current node, a request in flight or a notification under way. See node.c for the protocol that keeps
 * the kernel's cache true.
 */
#ifndef DOCDB_FUSE_NODE_H
#define DOCDB_FUSE_NODE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "docdb.h"

struct handle;
struct name;
struct tree;

enum node_kind {
    NODE_ROOT,
    NODE_DATABASE,
    NODE_VERSION, /* one version of a document, for readers; immutable */
    NODE_WRITER,  /* private to one open for writing (or one truncate by path) */
};

struct node {
    enum node_kind kind;
    uint64_t lookups;  /* the kernel's references */
    unsigned holds;    /* ours */
    struct name *name; /* whose current node this is, or NULL */
    struct node *next; /* in tree.nodes, or in a list of garbage */
    struct node *previous;
};

/* The names of one directory that the kernel may know. */
struct directory {
    struct node node;
    struct name **buckets;
    size_t bucket_count; /* 0 or a power of two */
    size_t name_count;
    bool attributes_given;    /* the kernel may have the directory's attributes in its cache */
    unsigned attribute_tasks; /* notifications about them that are under way */
};

struct database {
    struct directory directory; /* first: a node's address is its nodeid */
    docdb_db *handle;
    bool dropped;
    char name[DOCDB_NAME_BYTES_MAX + 1];
};

struct document {
    struct node node;          /* first */
    struct database *database; /* held */
    docdb_info info;           /* VERSION: of that version. WRITER: what was newest when it was handed out */
    uint64_t ino;
    uint32_t mark;         /* WRITER: its own number, below 10^9; see attr_document */
    int64_t mtime_ns;      /* info.mtime_ns, or what was set since through this node */
    docdb_doc *doc;        /* pinned while it is open, or for the thread that comes back to read it */
    unsigned opens;        /* reading handles */
    struct handle *writer; /* WRITER: the handle that was opened last, while it is open */
    char id[];
};

struct tree {
    docdb *runtime;
    /* Guards every field of nodes, names and directories that may change. Held for a few instructions, never across
     * a call of docdb.h or a reply. Locked after listing.mutex; nothing is locked under it. */
    struct mutex mutex;
    struct directory root;
    struct node *nodes GUARDED_BY(mutex); /* all but the root */
    uint64_t writers GUARDED_BY(mutex);   /* private nodes made so far, for their inode numbers */
    int64_t root_mtime_ns GUARDED_BY(mutex);
    atomic_uint created; /* see tree_node */
};

/* A name as a notification needs it. */
struct entry_notice {
    struct name *name; /* in flight until tree_entry_notified */
    struct directory *parent;
};

void tree_init(struct tree *tree, docdb *runtime);
/* Destroys every node, whatever the kernel holds: nothing may use the tree any more. */
void tree_fini(struct tree *tree);

/* nodeids */
struct node *tree_node(struct tree *tree, uint64_t nodeid);
uint64_t node_id(struct tree *tree, const struct node *node);
const char *name_text(const struct name *name);

/* References. Dropping the last one of both kinds destroys the node. */
void tree_hold(struct tree *tree, struct node *node);
void tree_release(struct tree *tree, struct node *node);
void tree_forget(struct tree *tree, struct node *node, uint64_t lookups);

/*
 * Lookups. Each returns a DOCDB_ status and, with DOCDB_OK, a node with one more lookup for the kernel. *cache says
 * whether the kernel may keep the entry (it may not when commits of this very name come too fast to tell).
 */
int tree_lookup_database(struct tree *tree, const char *name, struct database **out, bool *cache);
int tree_lookup_document(struct tree *tree, struct database *database, const char *id, struct document **out,
                         bool *cache);
/* A node of its own for a thread that comes back to write; info is NULL for a document that does not exist yet. */
struct document *tree_create_writer(struct tree *tree, struct database *database, const char *id,
                                    const docdb_info *info);
/* A node of its own for a thread that comes back to read, with the version pinned; consumes doc. */
struct document *tree_create_pinned(struct tree *tree, struct database *database, const char *id, docdb_doc *doc);

/*
 * Commits. What a published change means for the kernel's cache; called by the observer, before the commit is
 * acknowledged. True: the entry must be invalidated, *notice says which; tree_entry_notified must follow. `forget`
 * says whether the change takes the entry away from the kernel: false for what the kernel does itself (unlink).
 */
bool tree_document_changed(struct tree *tree, const char *database, const char *id, bool forget,
                           struct entry_notice *notice);
bool tree_database_changed(struct tree *tree, const char *name, bool dropped, bool forget,
                           struct entry_notice *notice);
void tree_entry_notified(struct tree *tree, const struct entry_notice *notice);
/* True: the attributes of *out (a database, or the root with NULL) are in the kernel's cache and must be
 * invalidated; tree_attributes_notified must follow. */
bool tree_attributes_changed(struct tree *tree, const char *database, struct directory **out);
void tree_attributes_notified(struct tree *tree, struct directory *directory);
/* Before attributes of a directory are read for the kernel. */
void tree_attributes_given(struct tree *tree, struct directory *directory);
void tree_root_changed(struct tree *tree, int64_t now_ns);

/* The inode number that readdir and stat show for a version or a database. */
uint64_t ino_of_version(const char *database, const char *id, uint64_t version);
uint64_t ino_of_database(const char *name);

#endif
