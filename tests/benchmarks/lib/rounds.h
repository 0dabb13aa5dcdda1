/*
 * Interleaved rounds: in each round every store has its turn, and a store's figure is the median of its turns. What
 * changes on the machine during the run then meets all of them.
 *
 * Each round has an order of its own (the same in every run), so that none always follows the same one and pays for
 * what that left to do. Before each turn what the others left in the page cache is written out.
 */
#ifndef DOCDB_BENCHMARKS_ROUNDS_H
#define DOCDB_BENCHMARKS_ROUNDS_H

#include <stddef.h>
#include <stdint.h>

#include "tests/benchmarks/lib/bench.h"

#define ROUNDS_MAX 16

/* What a store reached, a second. */
struct rounds_result {
    double median;
    double lowest;
    double highest;
};

/* One turn of about `seconds`; returns operations a second. */
typedef double (*rounds_turn_fn)(void *store, double seconds);

/* So many rounds, of so long turns, after a short warm-up that does not count. results has a place for each of the
 * bench's peers, as `stores`. */
struct rounds_plan {
    unsigned rounds;
    double seconds;
};
void rounds_run(const struct bench *bench, const struct rounds_plan *plan, rounds_turn_fn turn, void *const *stores,
                struct rounds_result *results);

/* Steps in a loop, on a thread each; returns how many operations it did. */
typedef uint64_t (*rounds_step_fn)(void *arg);
/* A turn of `count` threads, each with its own of the `args`: the operations a second of the steps that ended in
 * time. */
double rounds_threads(size_t count, rounds_step_fn step, void *const *args, double seconds);

/* ---- The table ---- */

/* A row's wish: at least `ratio` times what the peer reaches. */
struct rounds_target {
    const char *peer; /* NULL: none */
    double ratio;
};
#define ROUNDS_TARGETS 2

/* The line that names the columns, below `title`. */
void rounds_print_head(const struct bench *bench, const char *title, const struct rounds_plan *plan);
/* A row, and below it DocDB's ratio to each target's peer that took part. */
void rounds_print_row(const struct bench *bench, const char *name, const struct rounds_result *results,
                      const struct rounds_target *targets);

#endif
