/*
 * A durable put of 128 B by one thread, against one bare O_DSYNC write of 4 KiB, interleaved in one run on the same
 * file system. And what group commit makes of more threads. Prints medians and their ratio; asserts nothing.
 *
 * Usage: commit_latency [DIRECTORY] (default: a temporary directory below the working directory)
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "docdb.h"
#include "tests/lib/temp.h"

#define ROUNDS  40
#define OPS     100 /* of each kind a round */
#define SECONDS 2.0

static double now_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
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

static void must(int ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "commit_latency: %s failed\n", what);
        exit(1);
    }
}

/* ---- One thread ---- */

static int bare_file_open(const char *directory) {
    char *path = temp_path(directory, "bare");
    char *zeros = calloc(1, 1 << 20);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    must(file >= 0 && zeros != NULL, "creating the bare file");
    for (int i = 0; i < ROUNDS * OPS * 4096 / (1 << 20) + 1; i++) {
        must(write(file, zeros, 1 << 20) == 1 << 20, "filling the bare file");
    }
    must(fsync(file) == 0, "syncing the bare file");
    (void)close(file);
    file = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
    must(file >= 0, "opening the bare file");
    free(zeros);
    free(path);
    return file;
}

static void one_thread(const char *directory, docdb_db *db) {
    static double bare[ROUNDS * OPS];
    static double put[ROUNDS * OPS];
    char block[4096];
    char id[32];
    int file = bare_file_open(directory);
    memset(block, 'x', sizeof block);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = round * OPS; i < (round + 1) * OPS; i++) {
            double start = now_us();
            must(pwrite(file, block, sizeof block, (off_t)i * 4096) == (ssize_t)sizeof block, "a bare write");
            bare[i] = now_us() - start;
        }
        for (int i = round * OPS; i < (round + 1) * OPS; i++) {
            (void)snprintf(id, sizeof id, "%d", i % 1000);
            double start = now_us();
            must(docdb_put(db, id, block, 128, NULL) == DOCDB_OK, "a put");
            put[i] = now_us() - start;
        }
    }
    (void)close(file);
    double bare_p50 = percentile(bare, ROUNDS * OPS, 0.5);
    double put_p50 = percentile(put, ROUNDS * OPS, 0.5);
    printf("bare O_DSYNC write of 4 KiB     p50 %7.1f us   p99 %7.1f us\n", bare_p50,
           percentile(bare, ROUNDS * OPS, 0.99));
    printf("durable put of 128 B, 1 thread  p50 %7.1f us   p99 %7.1f us   %.2f x\n", put_p50,
           percentile(put, ROUNDS * OPS, 0.99), put_p50 / bare_p50);
}

/* ---- Many threads ---- */

struct writer {
    docdb_db *db;
    int number;
    atomic_bool *stop;
    uint64_t puts;
};

static void *writer_main(void *arg) {
    struct writer *writer = arg;
    char data[128];
    char id[32];
    memset(data, 'x', sizeof data);
    while (!atomic_load(writer->stop)) {
        (void)snprintf(id, sizeof id, "%d.%d", writer->number, (int)(writer->puts % 1000));
        must(docdb_put(writer->db, id, data, sizeof data, NULL) == DOCDB_OK, "a put");
        writer->puts++;
    }
    return NULL;
}

static void many_threads(docdb_db *db, int count) {
    struct writer writers[128];
    pthread_t threads[128];
    atomic_bool stop = false;
    uint64_t puts = 0;
    double start = now_us();
    for (int i = 0; i < count; i++) {
        writers[i] = (struct writer){.db = db, .number = i, .stop = &stop};
        must(thread_start(&threads[i], "writer", writer_main, &writers[i]) == 0, "starting a thread");
    }
    (void)usleep((useconds_t)(SECONDS * 1e6));
    atomic_store(&stop, true);
    for (int i = 0; i < count; i++) {
        thread_join(threads[i]);
        puts += writers[i].puts;
    }
    printf("durable puts of 128 B, %3d threads: %8.0f/s\n", count, (double)puts / ((now_us() - start) / 1e6));
}

int main(int argc, char **argv) {
    docdb *runtime = NULL;
    docdb_db *db = NULL;
    docdb_error error = {0};
    if (argc > 1) {
        must(setenv("TEST_TMP", argv[1], 1) == 0, "setenv");
    } else {
        must(setenv("TEST_TMP", ".", 0) == 0, "setenv");
    }
    char *directory = temp_make();
    char *data = temp_path(directory, "data");
    if (docdb_open(data, NULL, &runtime, &error) != DOCDB_OK) {
        (void)fprintf(stderr, "commit_latency: %s\n", error.message);
        return 1;
    }
    must(docdb_db_open(runtime, "bench", DOCDB_DB_CREATE, &db) == DOCDB_OK, "creating the database");
    one_thread(directory, db);
    static const int counts[] = {1, 4, 16, 100};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        many_threads(db, counts[i]);
    }
    docdb_db_close(db);
    must(docdb_close(runtime) == DOCDB_OK, "closing");
    free(data);
    temp_remove(directory);
    return 0;
}
