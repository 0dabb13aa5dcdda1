/*
 * What every benchmark program needs: its command line, a working directory that is removed whatever happens, a
 * clock, and a way to fail.
 *
 * The clock and the disk are the real ones: a benchmark is no place for src/base/os and its faults.
 */
#ifndef DOCDB_BENCHMARKS_BENCH_H
#define DOCDB_BENCHMARKS_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/benchmarks/lib/peer.h"

#define BENCH_PEERS_MAX 8

struct bench {
    const char *directory; /* of this run; everything in it is removed at the end */
    bool quick;            /* smaller numbers: does it work, not how fast is it */
    const struct peer *peers[BENCH_PEERS_MAX];
    size_t peer_count;
};

/*
 * Runs `run` with what the command line asks for: [--quick] [--only PEER,...] [DIRECTORY]. `peers`, which ends with
 * NULL, are those that the program can measure, in the order of its columns; without --only it measures those that
 * `usual` names as --only would (NULL: all). Returns main's exit code: 0, 1 when something failed to work, 2 for a
 * wrong command line.
 *
 * `run` has a process of its own: its death, by a signal or bench_die, leaves one that removes the directory.
 */
int bench_main(int argc, char **argv, const struct peer *const *peers, const char *usual,
               void (*run)(const struct bench *bench));

/* Seconds of the monotonic clock. */
double bench_now(void);
void bench_sleep(double seconds);

/* Says what failed and ends the process. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Memory, zeroed, or the end. */
void *bench_alloc(size_t count, size_t bytes);

/* Makes the directory <directory>/<name>; the caller frees the path. */
char *bench_directory(const char *directory, const char *name);

#endif
