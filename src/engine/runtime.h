/*
 * struct engine: what the rooms of the engine share. Each part has its own header with its own story.
 *
 * Locks, in the order in which they are taken (docs/architecture.md has the reasons):
 *   commit_mutex -> complete_mutex; commit_mutex -> (waits for a checkpoint, which takes none of the two)
 *   checkpoint_mutex -> apply -> position_mutex -> catalog.lock -> index.order_lock -> index shard lock ->
 *   segments.lock
 *   wal.mutex, snapshots.mutex, queue.mutex, observers.mutex, maintenance.mutex, failure_mutex: innermost, nothing
 * is taken under them (but observers' callbacks run under observers.mutex)
 */
#ifndef DOCDB_ENGINE_RUNTIME_H
#define DOCDB_ENGINE_RUNTIME_H

#include "base/backend.h"
#include "base/log.h"
#include "base/os.h"
#include "engine/admission.h"
#include "engine/catalog.h"
#include "engine/commit_queue.h"
#include "engine/manifest.h"
#include "engine/observers.h"
#include "engine/reclaim.h"
#include "engine/snapshots.h"
#include "engine/wal.h"

/* The background thread (maintenance.h). */
struct maintenance {
    struct mutex mutex;
    struct condition wake;
    bool wake_wanted GUARDED_BY(mutex);
    bool checkpoint_wanted GUARDED_BY(mutex);
    bool drop_wanted GUARDED_BY(mutex); /* a database was dropped: its space is to be freed */
    struct condition checkpoint_ended;  /* signalled after each attempt */
    bool checkpoint_running GUARDED_BY(mutex);
    uint64_t checkpoint_attempts GUARDED_BY(mutex);
    int checkpoint_status GUARDED_BY(mutex); /* of the last attempt */
    bool stop GUARDED_BY(mutex);
    pthread_t thread;
    bool started;
};

/* What a checkpoint begins from: a commit_seq and where the log goes on after it. */
struct commit_position {
    uint64_t commit_seq;
    struct wal_position wal;
};

/* Threads that take turns at the commit path. With two, one wakes the waiters while the other forms the next batch;
 * but on two cores handing the path over costs more than that gains (docs/performance.md). */
#define COMMIT_THREADS 1u

struct engine {
    docdb api;
    const struct docdb_os *os;
    struct log log;
    char *directory;
    int lock_file;
    uint64_t store_id;
    docdb_limits limits;
    uint64_t wal_limit_bytes;
    uint64_t segment_bytes; /* see docdb_options */
    uint64_t memory_bytes;  /* documents that are on disk are kept in memory up to this */
    atomic_uint open_files; /* segments open for reading */

    struct catalog catalog;
    struct snapshots snapshots;
    struct wal wal;
    struct commit_queue queue;
    struct observers observers;
    struct maintenance maintenance;

    /* Whoever changes entries, chains or the reclaimer holds it; never across a write or a sync. */
    struct mutex apply;
    struct reclaimer reclaimer GUARDED_BY(apply);

    /* The commit path: one batch at a time goes through it, and one at a time is acknowledged behind it. */
    struct mutex commit_mutex;
    struct mutex complete_mutex;
    pthread_t commit_threads[COMMIT_THREADS];
    size_t commit_threads_started;
    uint64_t next_commit_seq GUARDED_BY(commit_mutex);
    uint32_t next_database_id GUARDED_BY(commit_mutex);
    unsigned open_appenders GUARDED_BY(commit_mutex); /* databases with an open segment for large documents */
    struct admission admission GUARDED_BY(commit_mutex);

    /* The newest published commit with its place in the log: taken together by a checkpoint. */
    struct mutex position_mutex;
    struct commit_position position GUARDED_BY(position_mutex);
    uint32_t position_next_database_id GUARDED_BY(position_mutex);

    struct mutex checkpoint_mutex;                           /* one checkpoint at a time */
    uint64_t checkpoint_number GUARDED_BY(checkpoint_mutex); /* the last that was used, for a file or a manifest */
    struct manifest manifest GUARDED_BY(checkpoint_mutex);   /* what is on the disk */
    bool manifest_in_doubt GUARDED_BY(checkpoint_mutex);     /* or maybe the one whose writing failed */
    unsigned file_holds GUARDED_BY(checkpoint_mutex);        /* see collect.h */
    bool collect_wanted GUARDED_BY(checkpoint_mutex);
    struct compaction *compaction GUARDED_BY(checkpoint_mutex); /* the segment being compacted, or NULL */
    atomic_uint_fast64_t checkpoint_seq;
    atomic_uint_fast64_t checkpoint_lsn;
    atomic_uint_fast64_t checkpoint_threshold; /* bytes of log from which on a checkpoint is due */
    atomic_uint_fast64_t checkpoint_rate;      /* bytes of log a second that the last checkpoints got through */

    /* The sticky failure: set once, when a write or sync of the WAL failed. */
    atomic_bool read_only;
    struct mutex failure_mutex;
    char failure[256] GUARDED_BY(failure_mutex);

    atomic_size_t resident_bytes;
    atomic_uint_fast64_t commits;
    atomic_uint_fast64_t conflicts;
    atomic_uint_fast64_t refused;
    atomic_uint_fast64_t batches;
    atomic_uint_fast64_t checkpoints;
    atomic_uint_fast64_t segment_reads;
    atomic_uint_fast64_t compactions;
    atomic_uint_fast64_t compacted_bytes;
    atomic_uint_fast64_t throttled_us;
    uint64_t recovered_txns;
    uint64_t recovery_us;
};

/* The table of verbs that every handle of this backend points to (engine.c). */
extern const struct backend engine_backend;

static inline struct engine *engine_of(docdb *runtime) { return (struct engine *)runtime; }

/* Makes the runtime read-only for good; the first reason stays. */
__attribute__((format(printf, 2, 3))) void engine_fail(struct engine *engine, const char *format, ...);

/* Frees garbage after a snapshot went or a commit was published. */
void engine_reclaim(struct engine *engine);

/* Wakes the background thread. */
void engine_wake_maintenance(struct engine *engine, bool checkpoint_wanted);
/* The same after a drop: the background thread frees the space. */
void engine_free_dropped(struct engine *engine);

/* Reads what `view` describes: the resident document, or from its segment. Consumes view->doc. END: the version is
 * gone, and so is its record (only when no snapshot of the caller's holds it): look the document up again. */
int engine_load(struct engine *engine, struct database *database, const char *id, struct index_view *view,
                docdb_doc **out);

#endif
