/*
 * Which way of making a batch durable is fastest: a buffered write and fdatasync, a write to a file opened with
 * O_DIRECT|O_DSYNC, or the same write through io_uring. Into a file that is allocated and was written before, as
 * the WAL's are; interleaved; medians. What src/engine/wal.c was chosen by. Prints, asserts nothing.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/temp.h"

#define FILE_BYTES ((size_t)64 << 20)
#define ROUNDS     30
#define OPS        60 /* of each way a round */
#define WAYS       3
#define BATCH_MAX  ((size_t)256 << 10)

static void must(int ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "wal_write: %s failed\n", what);
        exit(1);
    }
}

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

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

struct run {
    int buffered;
    int direct;
    struct io_uring ring;
    char *data;
    size_t bytes;
    size_t at;
};

static void write_buffered(struct run *run) {
    must(pwrite(run->buffered, run->data, run->bytes, (off_t)run->at) == (ssize_t)run->bytes, "a write");
    must(fdatasync(run->buffered) == 0, "a sync");
}

static void write_direct(struct run *run) {
    must(pwrite(run->direct, run->data, run->bytes, (off_t)run->at) == (ssize_t)run->bytes, "a direct write");
}

static void write_ring(struct run *run) {
    struct io_uring_cqe *done = NULL;
    struct io_uring_sqe *entry = io_uring_get_sqe(&run->ring);
    io_uring_prep_write(entry, run->direct, run->data, (unsigned)run->bytes, run->at);
    must(io_uring_submit_and_wait(&run->ring, 1) == 1 && io_uring_wait_cqe(&run->ring, &done) == 0, "io_uring");
    must(done->res == (int)run->bytes, "a write of io_uring");
    io_uring_cqe_seen(&run->ring, done);
}

static void size_run(struct run *run, size_t bytes, bool has_ring) {
    static void (*const ways[WAYS])(struct run *) = {write_buffered, write_direct, write_ring};
    static double us[WAYS][ROUNDS * OPS];
    run->bytes = bytes;
    for (int round = 0; round < ROUNDS; round++) {
        for (int way = 0; way < (has_ring ? WAYS : WAYS - 1); way++) {
            for (int i = 0; i < OPS; i++) {
                run->at = run->at + 2 * bytes > FILE_BYTES ? 0 : run->at + bytes;
                double start = now_us();
                ways[way](run);
                us[way][round * OPS + i] = now_us() - start;
            }
        }
    }
    printf("%4zu KiB made durable: write and fdatasync %.0f us, O_DIRECT|O_DSYNC %.0f us, io_uring", bytes >> 10,
           median(us[0], ROUNDS * OPS), median(us[1], ROUNDS * OPS));
    if (has_ring) {
        printf(" %.0f us (p50)\n", median(us[2], ROUNDS * OPS));
    } else {
        printf(" not to be had here\n");
    }
}

int main(void) {
    char *directory = temp_make();
    char *path = temp_path(directory, "log");
    struct run run = {.buffered = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600)};
    must(posix_memalign((void **)&run.data, 4096, BATCH_MAX) == 0, "memory");
    memset(run.data, 'x', BATCH_MAX);
    for (size_t at = 0; at < FILE_BYTES; at += BATCH_MAX) {
        must(pwrite(run.buffered, run.data, BATCH_MAX, (off_t)at) == (ssize_t)BATCH_MAX, "filling the file");
    }
    must(fsync(run.buffered) == 0, "a sync");
    run.direct = open(path, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
    must(run.direct >= 0, "opening with O_DIRECT");
    bool has_ring = io_uring_queue_init(8, &run.ring, 0) == 0;
    size_run(&run, 4096, has_ring);
    size_run(&run, 64 << 10, has_ring);
    size_run(&run, BATCH_MAX, has_ring);
    if (has_ring) {
        io_uring_queue_exit(&run.ring);
    }
    (void)close(run.direct);
    (void)close(run.buffered);
    free(run.data);
    free(path);
    temp_remove(directory);
    return 0;
}
