/*
 * Durable puts: how many documents a second are on disk when put returns, of DocDB and its peers, in one run on one
 * file system with the same documents.
 *
 * Usage: durable_put [--quick] [--only PEER,...] [DIRECTORY]
 *
 * A row is a number of threads and a size. Each thread replaces documents of its own in turn, one put at a time.
 * All stores of a row are open at once and take turns (lib/rounds.h). After each turn each thread's last put is
 * read back and checked; after the row every store is closed and opened again, and the newest version of every
 * document is checked (the bare loop, which has no index, is left out of that).
 *
 * Asserts no figures: exits with 0 unless something fails to work or a document is not what was put.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/benchmarks/lib/bench.h"
#include "tests/benchmarks/lib/payload.h"
#include "tests/benchmarks/lib/rounds.h"
#include "tests/lib/temp.h"

struct row {
    const char *name;
    unsigned threads;
    size_t bytes;
    uint32_t ids; /* documents of each thread */
    struct rounds_target targets[ROUNDS_TARGETS];
};

/* Design, "Numbers to reach": the ratios that DocDB is to hold. */
static const struct row rows[] = {
    {"put 128 B, 1 thread", 1, 128, 1000, {{"sqlite", 1.25}, {"bare", 0.85}}},
    {"put 128 B, 16 threads", 16, 128, 1000, {{"rocksdb", 2.3}, {"bare", 0.85}}},
    {"put 128 B, 100 threads", 100, 128, 1000, {{"rocksdb", 3.5}, {"bare", 0.85}}},
    {"put 1 MiB, 4 threads", 4, 1 << 20, 16, {{"lmdb", 1.5}}},
};

static const struct rounds_plan full_plan = {.rounds = 9, .seconds = 1.5};
static const struct rounds_plan quick_plan = {.rounds = 3, .seconds = 0.3};

static const struct peer *const peers[] = {&peer_docdb, &peer_sqlite, &peer_lmdb, &peer_rocksdb,
                                           &peer_files, &peer_bare,   NULL};

/* A thread's documents. Their contents have the writer's number as their seed. */
struct writer {
    const struct peer *peer;
    void *session;
    uint32_t first; /* its documents' numbers begin here */
    uint32_t ids_count;
    struct payload_id *ids;
    uint64_t *sequences; /* of each document's newest version; 0: never put */
    uint64_t puts;
    void *data;
    size_t bytes;
};

/* A store in a row, with its threads. */
struct contender {
    const struct row *row;
    const struct peer *peer;
    char *directory;
    void *store;
    struct writer *writers;
    void **args; /* the writers, as rounds_threads wants them */
};

/* ---- Checking, outside of what is timed ---- */

static void check(const struct writer *writer, void *session, uint32_t which) {
    struct peer_doc doc;
    if (!writer->peer->get(session, writer->ids[which].text, &doc)) {
        bench_die("%s: the document %s is missing", writer->peer->name, writer->ids[which].text);
    }
    if (doc.bytes != writer->bytes ||
        !payload_matches(doc.data, doc.bytes, writer->first, writer->first + which, writer->sequences[which])) {
        bench_die("%s: the document %s is not what was put", writer->peer->name, writer->ids[which].text);
    }
}

static void check_last_puts(const struct contender *contender) {
    for (unsigned i = 0; i < contender->row->threads; i++) {
        const struct writer *writer = &contender->writers[i];
        if (writer->puts > 0) {
            check(writer, writer->session, (uint32_t)((writer->puts - 1) % writer->ids_count));
        }
    }
}

static void check_all(const struct contender *contender, void *session) {
    for (unsigned i = 0; i < contender->row->threads; i++) {
        for (uint32_t which = 0; which < contender->row->ids; which++) {
            if (contender->writers[i].sequences[which] > 0) {
                check(&contender->writers[i], session, which);
            }
        }
    }
}

/* Opens the store again and looks whether everything is there. */
static void check_after_reopening(const struct contender *contender) {
    const struct peer *peer = contender->peer;
    if (peer->last_put_only) {
        return;
    }
    void *store = peer->open(contender->directory, contender->row->bytes);
    void *session = peer->session_open(store);
    check_all(contender, session);
    peer->session_close(session);
    peer->close(store);
}

/* ---- A row ---- */

static uint64_t put_one(void *arg) {
    struct writer *writer = arg;
    uint32_t which = (uint32_t)(writer->puts % writer->ids_count);
    uint64_t sequence = ++writer->puts;
    payload_stamp(writer->data, writer->bytes, writer->first + which, sequence);
    struct peer_doc doc = {
        .id = writer->ids[which].text, .id_bytes = PAYLOAD_ID_BYTES, .data = writer->data, .bytes = writer->bytes};
    writer->peer->put(writer->session, &doc);
    writer->sequences[which] = sequence;
    return 1;
}

static double put_turn(void *arg, double seconds) {
    const struct contender *contender = arg;
    double rate = rounds_threads(contender->row->threads, put_one, contender->args, seconds);
    check_last_puts(contender);
    return rate;
}

static void writer_open(struct writer *writer, const struct contender *contender, unsigned number) {
    const struct row *row = contender->row;
    *writer = (struct writer){.peer = contender->peer,
                              .session = contender->peer->session_open(contender->store),
                              .first = number * row->ids,
                              .ids_count = row->ids,
                              .ids = bench_alloc(row->ids, sizeof *writer->ids),
                              .sequences = bench_alloc(row->ids, sizeof *writer->sequences),
                              .data = bench_alloc(1, row->bytes),
                              .bytes = row->bytes};
    for (uint32_t i = 0; i < row->ids; i++) {
        writer->ids[i] = payload_id(writer->first + i);
    }
    payload_fill(writer->data, writer->bytes, writer->first);
}

static void contender_open(struct contender *contender, const struct row *row, const struct peer *peer,
                           const char *directory) {
    *contender = (struct contender){.row = row, .peer = peer, .directory = bench_directory(directory, peer->name)};
    contender->store = peer->open(contender->directory, row->bytes);
    contender->writers = bench_alloc(row->threads, sizeof *contender->writers);
    contender->args = bench_alloc(row->threads, sizeof *contender->args);
    for (unsigned i = 0; i < row->threads; i++) {
        writer_open(&contender->writers[i], contender, i);
        contender->args[i] = &contender->writers[i];
    }
}

/* With the last check, and without leaving anything on disk. */
static void contender_close(struct contender *contender) {
    for (unsigned i = 0; i < contender->row->threads; i++) {
        contender->peer->session_close(contender->writers[i].session);
    }
    contender->peer->close(contender->store);
    check_after_reopening(contender);
    for (unsigned i = 0; i < contender->row->threads; i++) {
        free(contender->writers[i].ids);
        free(contender->writers[i].sequences);
        free(contender->writers[i].data);
    }
    free(contender->writers);
    free(contender->args);
    temp_remove(contender->directory);
}

static void run_row(const struct bench *bench, const struct rounds_plan *plan, const struct row *row) {
    struct contender contenders[BENCH_PEERS_MAX];
    struct rounds_result results[BENCH_PEERS_MAX];
    void *stores[BENCH_PEERS_MAX];
    for (size_t i = 0; i < bench->peer_count; i++) {
        contender_open(&contenders[i], row, bench->peers[i], bench->directory);
        stores[i] = &contenders[i];
    }
    rounds_run(bench, plan, put_turn, stores, results);
    for (size_t i = 0; i < bench->peer_count; i++) {
        contender_close(&contenders[i]);
    }
    rounds_print_row(bench, row->name, results, row->targets);
}

static void run(const struct bench *bench) {
    const struct rounds_plan *plan = bench->quick ? &quick_plan : &full_plan;
    rounds_print_head(bench, "Durable puts a second", plan);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        run_row(bench, plan, &rows[i]);
    }
}

int main(int argc, char **argv) { return bench_main(argc, argv, peers, NULL, run); }
