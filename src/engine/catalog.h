/*
 * The catalog: which databases there are. And struct database itself.
 *
 * A database is reference-counted: the catalog holds one reference, each handle, transaction, scan and reclaim item
 * another. Its files and its index live until the last goes; `dropped` is set when its drop is published.
 *
 * Threads: any may look up; only the commit thread (and recovery) adds and removes. `lock` guards the table.
 */
#ifndef DOCDB_ENGINE_CATALOG_H
#define DOCDB_ENGINE_CATALOG_H

#include "engine/index.h"
#include "engine/segments.h"

struct database {
    atomic_uint references;
    uint32_t id;
    char name[DOCDB_NAME_BYTES_MAX + 1];
    struct index *index;
    struct segments segments;
    uint64_t segment_bytes;        /* see docdb_options */
    struct segment_appender large; /* the commit path's: documents that go to a segment at once */
    atomic_bool dropped;
    atomic_int_fast64_t change_time_ns;     /* a document was added or removed */
    atomic_uint_fast64_t newest_commit_seq; /* the last commit that changed it */

    /* The checkpoint's. */
    uint64_t runs[INDEX_RUNS_MAX + 1]; /* numbers of its index files, the base first */
    uint64_t run_bytes[INDEX_RUNS_MAX + 1];
    size_t run_count;
    uint64_t checkpoint_seq;               /* what they hold */
    atomic_uint_fast64_t index_file_bytes; /* of all of them */

    /* Recovery's: the first commit that could not be replayed, or DOCDB_OK. */
    int replay_status;
    uint64_t replay_failed_seq;
    uint64_t replay_failed_lsn;
};

struct catalog {
    struct rwlock lock;
    struct database **table GUARDED_BY(lock); /* in order of name */
    size_t count GUARDED_BY(lock);
    size_t capacity GUARDED_BY(lock);
};

void catalog_init(struct catalog *catalog);
/* Drops the catalog's references. */
void catalog_fini(struct catalog *catalog);

/* A database with a reference for the caller, or NULL. */
struct database *catalog_find(struct catalog *catalog, const char *name);
struct database *catalog_find_id(struct catalog *catalog, uint32_t id);
size_t catalog_count(struct catalog *catalog);
/* All databases, each with a reference for the caller; *out from malloc. Returns DOCDB_OK or MEMORY. */
int catalog_list(struct catalog *catalog, struct database ***out, size_t *count);
void catalog_list_free(struct database **list, size_t count);

/* Makes room for one more, so that the next catalog_add can't fail. Returns DOCDB_OK, BUSY or MEMORY. */
int catalog_reserve(struct catalog *catalog);
/* Takes over the caller's reference. catalog_reserve came before. */
void catalog_add(struct catalog *catalog, struct database *database);
/* Removes it from the table and gives up the catalog's reference. */
void catalog_remove(struct catalog *catalog, struct database *database);

/* Sets the runs that the manifest's newest one stands for. The checkpoint's and recovery's. */
void database_set_runs(struct database *database, const uint64_t *runs, const uint64_t *run_bytes,
                       size_t run_count);

/* How long a segment of the database may become, given how much it holds. */
uint64_t database_segment_bytes(const struct database *database);

/* A database that is in no catalog yet, with one reference. `data_directory` is the runtime's. NULL: out of memory.
 */
struct database *database_create(const struct docdb_os *os, const struct log *log, const char *data_directory,
                                 uint64_t store_id, uint32_t id, const char *name,
                                 const atomic_uint_fast64_t *published, atomic_uint *open_files,
                                 uint64_t segment_bytes);
struct database *database_acquire(struct database *database);
void database_release(struct database *database);

/* "<data directory>/db/<id, 8 hex digits>" */
void database_path(const char *data_directory, uint32_t id, char *out, size_t bytes);

#endif
