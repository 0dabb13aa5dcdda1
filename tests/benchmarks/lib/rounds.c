/*
 * See rounds.h.
 *
 * A turn of threads: they are started and wait at a gate; the gate opens, the clock starts; after the time a flag
 * stops them. Steps that end after the flag are not counted (their time is not either), so a store whose last
 * operations take long neither gains nor loses by them more than one step a thread.
 */
#include "tests/benchmarks/lib/rounds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "tests/benchmarks/lib/payload.h"

#define PAUSE_SECONDS 0.02 /* before a turn: threads of the one before it end, and wake-ups settle */

/* ---- A turn of threads ---- */

struct gate {
    struct mutex mutex;
    struct condition changed;
    size_t waiting GUARDED_BY(mutex);
    bool is_open GUARDED_BY(mutex);
    atomic_bool stop;
};

struct worker {
    struct gate *gate;
    rounds_step_fn step;
    void *arg;
    pthread_t thread;
    uint64_t operations;
};

static void *worker_main(void *arg) {
    struct worker *worker = arg;
    struct gate *gate = worker->gate;
    mutex_lock(&gate->mutex);
    gate->waiting++;
    condition_broadcast(&gate->changed);
    while (!gate->is_open) {
        condition_wait(&gate->changed, &gate->mutex);
    }
    mutex_unlock(&gate->mutex);
    uint64_t operations = 0;
    uint64_t step = 0;
    while (step = worker->step(worker->arg), !atomic_load_explicit(&gate->stop, memory_order_relaxed)) {
        operations += step;
    }
    worker->operations = operations;
    return NULL;
}

/* Opens the gate when all are there; returns the time. */
static double gate_open(struct gate *gate, size_t count) {
    mutex_lock(&gate->mutex);
    while (gate->waiting < count) {
        condition_wait(&gate->changed, &gate->mutex);
    }
    gate->is_open = true;
    double start = bench_now();
    condition_broadcast(&gate->changed);
    mutex_unlock(&gate->mutex);
    return start;
}

double rounds_threads(size_t count, rounds_step_fn step, void *const *args, double seconds) {
    struct worker *workers = bench_alloc(count, sizeof *workers);
    struct gate gate = {.waiting = 0};
    uint64_t operations = 0;
    mutex_init(&gate.mutex);
    condition_init(&gate.changed);
    for (size_t i = 0; i < count; i++) {
        workers[i] = (struct worker){.gate = &gate, .step = step, .arg = args[i]};
        int rc = thread_start(&workers[i].thread, "bench", worker_main, &workers[i]);
        if (rc != 0) {
            bench_die("can't start a thread: %s", strerror(-rc));
        }
    }
    double start = gate_open(&gate, count);
    bench_sleep(seconds);
    double elapsed = bench_now() - start;
    atomic_store(&gate.stop, true);
    for (size_t i = 0; i < count; i++) {
        thread_join(workers[i].thread);
        operations += workers[i].operations;
    }
    condition_fini(&gate.changed);
    mutex_fini(&gate.mutex);
    free(workers);
    return (double)operations / elapsed;
}

/* ---- Rounds ---- */

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static struct rounds_result result_of(double *rates, unsigned count) {
    qsort(rates, count, sizeof *rates, by_value);
    double middle = rates[count / 2];
    if (count % 2 == 0) {
        middle = (middle + rates[count / 2 - 1]) / 2;
    }
    return (struct rounds_result){.median = middle, .lowest = rates[0], .highest = rates[count - 1]};
}

static void write_out(int directory) {
    if (syncfs(directory) != 0) {
        bench_die("syncfs: %s", strerror(errno));
    }
    bench_sleep(PAUSE_SECONDS);
}

void rounds_run(const struct bench *bench, const struct rounds_plan *plan, rounds_turn_fn turn, void *const *stores,
                struct rounds_result *results) {
    static const double warm_up = 0.25; /* of a turn */
    double rates[BENCH_PEERS_MAX][ROUNDS_MAX];
    unsigned rounds = plan->rounds < ROUNDS_MAX ? plan->rounds : ROUNDS_MAX;
    int directory = open(bench->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        bench_die("can't open %s: %s", bench->directory, strerror(errno));
    }
    for (size_t i = 0; i < bench->peer_count; i++) {
        (void)turn(stores[i], plan->seconds * warm_up);
    }
    for (unsigned round = 0; round < rounds; round++) {
        uint32_t *order = payload_shuffle((uint32_t)bench->peer_count, round);
        for (size_t i = 0; i < bench->peer_count; i++) {
            write_out(directory);
            rates[order[i]][round] = turn(stores[order[i]], plan->seconds);
        }
        free(order);
    }
    for (size_t i = 0; i < bench->peer_count; i++) {
        results[i] = result_of(rates[i], rounds);
    }
    (void)close(directory);
}

/* ---- The table ---- */

void rounds_print_head(const struct bench *bench, const char *title, const struct rounds_plan *plan) {
    printf("%s (medians of %u interleaved rounds of %.1f s, and how far the rounds lie apart)\n%-28s", title,
           plan->rounds, plan->seconds, "");
    for (size_t i = 0; i < bench->peer_count; i++) {
        printf(" %12s", bench->peers[i]->name);
    }
    printf("\n");
}

static const struct rounds_result *result_named(const struct bench *bench, const struct rounds_result *results,
                                                const char *name) {
    for (size_t i = 0; i < bench->peer_count; i++) {
        if (strcmp(bench->peers[i]->name, name) == 0) {
            return &results[i];
        }
    }
    return NULL;
}

static void print_target(double ratio, const struct rounds_target *target) {
    printf("    docdb is %5.2f x %-8s target %4.2f x  ", ratio, target->peer, target->ratio);
    if (ratio >= target->ratio) {
        printf("reached\n");
    } else {
        printf("short by %.2f x (%.0f %% of the target)\n", target->ratio - ratio, 100 * ratio / target->ratio);
    }
}

void rounds_print_row(const struct bench *bench, const char *name, const struct rounds_result *results,
                      const struct rounds_target *targets) {
    printf("%-28s", name);
    for (size_t i = 0; i < bench->peer_count; i++) {
        printf(" %12.0f", results[i].median);
    }
    printf("\n%-28s", "");
    for (size_t i = 0; i < bench->peer_count; i++) {
        char spread[32];
        (void)snprintf(spread, sizeof spread, "-%.0f+%.0f %%",
                       100 * (results[i].median - results[i].lowest) / results[i].median,
                       100 * (results[i].highest - results[i].median) / results[i].median);
        printf(" %12s", results[i].median > 0 ? spread : "-");
    }
    printf("\n");
    const struct rounds_result *docdb = result_named(bench, results, "docdb");
    for (size_t i = 0; i < ROUNDS_TARGETS && targets[i].peer != NULL; i++) {
        const struct rounds_result *other = result_named(bench, results, targets[i].peer);
        if (docdb != NULL && other != NULL && other->median > 0) {
            print_target(docdb->median / other->median, &targets[i]);
        }
    }
    (void)fflush(stdout);
}
