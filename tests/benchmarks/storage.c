/*
 * The storage engine at rest and at work: how long opening takes after a clean stop and after kill -9, and what
 * space and latency are under endless uniform overwrite, with compaction and without. Prints figures; asserts
 * nothing.
 *
 * Usage: storage [startup [DOCUMENTS]] [overwrite [MEGABYTES [SECONDS]]]
 * (default: startup 1000000 overwrite 256 10; in a temporary directory below TEST_TMP or /tmp)
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "docdb.h"
#include "tests/lib/temp.h"

#define DOC_BYTES     128
#define LARGER_BYTES  1024
#define TXN_OPS       1000
#define WRITERS       4
#define LATENCIES_MAX 4000000u
#define MEBIBYTE      ((uint64_t)1 << 20)
#define SAMPLE_NS     100000000L
#define OPENINGS      3
#define NO_COMPACTION (256u << 20) /* bytes of a segment: a run that wastes less than that is never compacted */

static double now_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void must(int ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "storage: %s failed\n", what);
        exit(1);
    }
}

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static docdb *store_open(const char *directory, uint64_t segment_bytes) {
    docdb *runtime = NULL;
    docdb_error error;
    docdb_options options = {.segment_bytes = segment_bytes};
    if (docdb_open(directory, &options, &runtime, &error) != DOCDB_OK) {
        (void)fprintf(stderr, "storage: %s\n", error.message);
        exit(1);
    }
    return runtime;
}

static docdb_db *database_open(docdb *runtime) {
    docdb_db *db = NULL;
    must(docdb_db_open(runtime, "bench", DOCDB_DB_CREATE, &db) == DOCDB_OK, "opening the database");
    return db;
}

/* ---- Start-up ---- */

/* Puts documents number from..to-1, many in a transaction. */
static void documents_put(docdb_db *db, uint64_t from, uint64_t to, size_t bytes) {
    char data[LARGER_BYTES];
    char id[32];
    memset(data, 'x', sizeof data);
    while (from < to) {
        docdb_txn *txn = NULL;
        must(docdb_begin(db, DOCDB_TXN_BLIND, &txn) == DOCDB_OK, "a transaction");
        for (int i = 0; i < TXN_OPS && from < to; i++, from++) {
            (void)snprintf(id, sizeof id, "%010" PRIu64, from);
            must(docdb_txn_put(txn, id, data, bytes) == DOCDB_OK, "a put");
        }
        must(docdb_commit(txn, NULL) == DOCDB_OK, "a commit");
    }
}

/* Runs `work` in a process of its own, which is killed behind it unless it exits. */
static void in_child(void (*work)(const char *directory, uint64_t documents), const char *directory,
                     uint64_t documents) {
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        work(directory, documents);
        (void)kill(getpid(), SIGKILL);
    }
    int status;
    must(waitpid(child, &status, 0) == child, "waiting");
    must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL, "the child");
}

static void fill_and_close(const char *directory, uint64_t documents) {
    docdb *runtime = store_open(directory, 0);
    docdb_db *db = database_open(runtime);
    documents_put(db, 0, documents, DOC_BYTES);
    docdb_db_close(db);
    must(docdb_close(runtime) == DOCDB_OK, "closing");
    _exit(0);
}

/* Small transactions until the log is about as long as it gets before a checkpoint starts, or for long enough. */
static void write_and_die(const char *directory, uint64_t documents) {
    docdb *runtime = store_open(directory, 0);
    docdb_db *db = database_open(runtime);
    docdb_stats stats = {0};
    uint64_t random = 88172645463325252u;
    uint64_t checkpoints = 0;
    uint64_t written = 0; /* when the last checkpoint was seen */
    do {
        uint64_t from = random_next(&random) % (documents - TXN_OPS / 10);
        documents_put(db, from, from + TXN_OPS / 10, DOC_BYTES);
        must(docdb_get_stats(runtime, &stats) == DOCDB_OK, "stats");
        written = stats.checkpoints != checkpoints ? stats.wal_written_bytes : written;
        checkpoints = stats.checkpoints;
    } while (stats.wal_written_bytes < written + 120 * MEBIBYTE && stats.wal_written_bytes < 1024 * MEBIBYTE);
}

static double opening_ms(const char *directory, docdb_stats *stats) {
    double start = now_us();
    docdb *runtime = store_open(directory, 0);
    double ms = (now_us() - start) / 1e3;
    must(docdb_get_stats(runtime, stats) == DOCDB_OK, "stats");
    must(docdb_close(runtime) == DOCDB_OK, "closing");
    return ms;
}

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double percentile(double *values, size_t count, double fraction) {
    qsort(values, count, sizeof *values, by_value);
    return values[(size_t)(fraction * (double)(count - 1))];
}

static void startup(const char *directory, uint64_t documents) {
    double clean[OPENINGS];
    double killed[OPENINGS];
    docdb_stats stats;
    uint64_t replayed = 0;
    in_child(fill_and_close, directory, documents);
    for (int i = 0; i < OPENINGS; i++) {
        clean[i] = opening_ms(directory, &stats);
    }
    double bytes_each = (double)stats.index_bytes / (double)stats.documents;
    for (int i = 0; i < OPENINGS; i++) {
        in_child(write_and_die, directory, documents);
        killed[i] = opening_ms(directory, &stats);
        replayed = stats.recovered_txns;
    }
    printf("start-up, %" PRIu64
           " documents of %d B: after a clean stop %.0f ms, after kill -9 %.0f ms (the last with "
           "%" PRIu64 " transactions of %d to replay); index %.1f B a document, ids of 10 B included\n",
           documents, DOC_BYTES, percentile(clean, OPENINGS, 0.5), percentile(killed, OPENINGS, 0.5), replayed,
           TXN_OPS / 10, bytes_each);
}

/* ---- Endless overwrite ---- */

struct overwriting {
    docdb_db *db;
    uint64_t documents;
    atomic_bool stop;
    double *latencies;
    atomic_size_t count;
};

static void *overwrite_main(void *arg) {
    struct overwriting *work = arg;
    char data[LARGER_BYTES];
    char id[32];
    uint64_t random = (uint64_t)(uintptr_t)&data * 2654435761u | 1;
    memset(data, 'y', sizeof data);
    while (!atomic_load(&work->stop)) {
        (void)snprintf(id, sizeof id, "%010" PRIu64, random_next(&random) % work->documents);
        double start = now_us();
        must(docdb_put(work->db, id, data, sizeof data, NULL) == DOCDB_OK, "a put");
        size_t slot = atomic_fetch_add(&work->count, 1);
        if (slot < LATENCIES_MAX) {
            work->latencies[slot] = now_us() - start;
        }
    }
    return NULL;
}

static uint64_t directory_bytes(const char *path, const char *suffix) {
    char name[4096];
    uint64_t bytes = 0;
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        struct stat stat;
        size_t length = strlen(entry->d_name);
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || lstat(name, &stat) != 0) {
            continue;
        }
        if (S_ISDIR(stat.st_mode)) {
            bytes += directory_bytes(name, suffix);
        } else if (length >= strlen(suffix) && strcmp(entry->d_name + length - strlen(suffix), suffix) == 0) {
            bytes += (uint64_t)stat.st_blocks * 512;
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return bytes;
}

struct overwrite_result {
    double p50_us;
    double p99_us;
    double puts_s;
    double space; /* segments and index files, x the bytes of the documents, at the worst moment */
    uint64_t wal_peak;
    docdb_stats stats;
};

static void overwrite_watch(const char *directory, struct overwriting *work, double seconds, double live,
                            struct overwrite_result *out) {
    double start = now_us();
    while (now_us() - start < seconds * 1e6) {
        struct timespec pause = {.tv_nsec = SAMPLE_NS};
        (void)nanosleep(&pause, NULL);
        uint64_t wal = directory_bytes(directory, ".wal");
        double space = (double)(directory_bytes(directory, ".seg") + directory_bytes(directory, ".idx")) / live;
        out->wal_peak = wal > out->wal_peak ? wal : out->wal_peak;
        out->space = space > out->space ? space : out->space;
    }
    atomic_store(&work->stop, true);
    out->puts_s = (double)atomic_load(&work->count) / ((now_us() - start) / 1e6);
}

static void overwrite_run(const char *directory, uint64_t documents, double seconds, uint64_t segment_bytes,
                          struct overwrite_result *out) {
    docdb *runtime = store_open(directory, segment_bytes);
    struct overwriting work = {.db = database_open(runtime), .documents = documents};
    pthread_t threads[WRITERS];
    *out = (struct overwrite_result){0};
    work.latencies = malloc(LATENCIES_MAX * sizeof *work.latencies);
    must(work.latencies != NULL, "memory");
    documents_put(work.db, 0, documents, LARGER_BYTES);
    must(docdb_checkpoint(runtime) == DOCDB_OK, "a checkpoint");
    for (int i = 0; i < WRITERS; i++) {
        must(thread_start(&threads[i], "writer", overwrite_main, &work) == 0, "a thread");
    }
    overwrite_watch(directory, &work, seconds, (double)documents * LARGER_BYTES, out);
    for (int i = 0; i < WRITERS; i++) {
        thread_join(threads[i]);
    }
    size_t count = atomic_load(&work.count) < LATENCIES_MAX ? atomic_load(&work.count) : LATENCIES_MAX;
    out->p50_us = percentile(work.latencies, count, 0.5);
    out->p99_us = percentile(work.latencies, count, 0.99);
    must(docdb_get_stats(runtime, &out->stats) == DOCDB_OK, "stats");
    docdb_db_close(work.db);
    must(docdb_close(runtime) == DOCDB_OK, "closing");
    free(work.latencies);
}

static void overwrite_print(const char *what, const struct overwrite_result *result) {
    printf("overwrite, %s: %.0f puts/s, p50 %.0f us, p99 %.0f us; disk at most %.2f x the documents, WAL at most "
           "%" PRIu64 " MiB; %" PRIu64 " segments compacted (%" PRIu64 " MiB moved), %" PRIu64
           " checkpoints, slowed %.2f s\n",
           what, result->puts_s, result->p50_us, result->p99_us, result->space, result->wal_peak / MEBIBYTE,
           result->stats.compactions, result->stats.compacted_bytes / MEBIBYTE, result->stats.checkpoints,
           (double)result->stats.throttled_us / 1e6);
}

static void overwrite(const char *directory, uint64_t megabytes, double seconds) {
    struct overwrite_result with;
    struct overwrite_result without;
    uint64_t documents = megabytes * MEBIBYTE / LARGER_BYTES;
    char *first = temp_path(directory, "without");
    char *second = temp_path(directory, "with");
    printf("overwrite: %" PRIu64 " documents of %d B, %d writers\n", documents, LARGER_BYTES, WRITERS);
    overwrite_run(first, documents, seconds < 3 ? seconds : 3, NO_COMPACTION, &without);
    overwrite_print("without compaction (3 s)", &without);
    overwrite_run(second, documents, seconds, 0, &with);
    overwrite_print("with compaction", &with);
    printf("overwrite: p99 with compaction is %.2f x that without\n", with.p99_us / without.p99_us);
    free(first);
    free(second);
}

/* ---- The program ---- */

static bool is_number(const char *text) { return text != NULL && text[0] >= '0' && text[0] <= '9'; }

int main(int argc, char **argv) {
    uint64_t documents = 1000000;
    uint64_t megabytes = 256;
    double seconds = 10;
    bool any = false;
    bool does_startup = false;
    bool does_overwrite = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "startup") == 0) {
            does_startup = any = true;
            documents = is_number(argv[i + 1]) ? strtoull(argv[++i], NULL, 10) : documents;
        } else if (strcmp(argv[i], "overwrite") == 0) {
            does_overwrite = any = true;
            megabytes = is_number(argv[i + 1]) ? strtoull(argv[++i], NULL, 10) : megabytes;
            seconds = is_number(argv[i + 1]) ? strtod(argv[++i], NULL) : seconds;
        } else {
            must(0, argv[i]);
        }
    }
    char *directory = temp_make();
    char *store = temp_path(directory, "startup");
    if (does_startup || !any) {
        startup(store, documents);
    }
    if (does_overwrite || !any) {
        overwrite(directory, megabytes, seconds);
    }
    free(store);
    temp_remove(directory);
    return 0;
}
