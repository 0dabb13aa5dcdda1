/*
 * Reads of a store that holds many small documents, all in memory: point reads in random order with one and two
 * threads, and an ordered scan with the documents. DocDB and its peers, in one run with the same documents.
 *
 * Usage: point_read [--quick] [--only PEER,...] [DIRECTORY]
 *
 * The stores are loaded, settled (checkpointed, compacted), closed and opened again. Then every document of every
 * store is read and checked, by a scan and by its id, which also brings it into memory. What is timed after that
 * looks at both ends of each document only. A point read sees the newest version: it has a snapshot of its own.
 *
 * Plain files take part when they are named (--only files,...): a million of them take minutes to make.
 *
 * Asserts no figures: exits with 0 unless something fails to work or a document is not what was put.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/benchmarks/lib/bench.h"
#include "tests/benchmarks/lib/payload.h"
#include "tests/benchmarks/lib/rounds.h"
#include "tests/lib/temp.h"

#define DOC_BYTES   128
#define LOAD_DOCS   5000 /* a transaction of the load */
#define STEP_READS  64   /* reads between looks at the clock's flag */
#define THREADS_MAX 2

static const uint32_t full_docs = 1000000;
static const uint32_t quick_docs = 100000;

static const struct rounds_plan full_plan = {.rounds = 9, .seconds = 1.0};
static const struct rounds_plan quick_plan = {.rounds = 3, .seconds = 0.2};

/* Design, "Numbers to reach". */
static const struct rounds_target read_targets[ROUNDS_TARGETS] = {{"lmdb", 3.0}};
static const struct rounds_target scan_targets[ROUNDS_TARGETS] = {{"lmdb", 1.0}};

static const struct peer *const peers[] = {&peer_docdb, &peer_sqlite, &peer_lmdb, &peer_rocksdb, &peer_files, NULL};
static const char usual[] = "docdb,sqlite,lmdb,rocksdb";

/* A thread that reads all documents in an order of its own, again and again. */
struct reader {
    const struct peer *peer;
    void *session;
    const struct payload_id *ids; /* in that order; shared by the stores */
    uint32_t docs;
    uint32_t next;
    uint64_t seen; /* what was looked at: without it the compiler could leave the looking out */
};

struct contender {
    const struct peer *peer;
    char *directory;
    void *store;
    uint32_t docs;
    unsigned threads; /* of the present row */
    struct reader readers[THREADS_MAX];
};

/* ---- Loading and checking, untimed ---- */

static void load(const struct contender *contender) {
    static char data[LOAD_DOCS][DOC_BYTES];
    static struct payload_id ids[LOAD_DOCS];
    static struct peer_doc docs[LOAD_DOCS];
    void *session = contender->peer->session_open(contender->store);
    for (uint32_t first = 0; first < contender->docs; first += LOAD_DOCS) {
        uint32_t count = contender->docs - first < LOAD_DOCS ? contender->docs - first : LOAD_DOCS;
        for (uint32_t i = 0; i < count; i++) {
            ids[i] = payload_id(first + i);
            payload_fill(data[i], DOC_BYTES, first + i);
            payload_stamp(data[i], DOC_BYTES, first + i, 1);
            docs[i] = (struct peer_doc){
                .id = ids[i].text, .id_bytes = PAYLOAD_ID_BYTES, .data = data[i], .bytes = DOC_BYTES};
        }
        contender->peer->put_many(session, docs, count);
    }
    contender->peer->session_close(session);
    if (contender->peer->settle != NULL) {
        contender->peer->settle(contender->store);
    }
}

struct check {
    const char *peer;
    uint32_t next; /* the number of the document that the scan visits next */
};

static void check(const char *peer, uint32_t number, const struct peer_doc *doc) {
    struct payload_id id = payload_id(number);
    if (doc->id_bytes != PAYLOAD_ID_BYTES || memcmp(doc->id, id.text, PAYLOAD_ID_BYTES) != 0) {
        bench_die("%s: the scan visits %.*s and not %s", peer, (int)doc->id_bytes, doc->id, id.text);
    }
    if (doc->bytes != DOC_BYTES || !payload_matches(doc->data, doc->bytes, number, number, 1)) {
        bench_die("%s: the document %s is not what was put", peer, id.text);
    }
}

static void check_visit(void *arg, const struct peer_doc *doc) {
    struct check *state = arg;
    check(state->peer, state->next++, doc);
}

static void check_all(const struct contender *contender) {
    struct check state = {.peer = contender->peer->name};
    void *session = contender->peer->session_open(contender->store);
    contender->peer->scan(session, check_visit, &state);
    if (state.next != contender->docs) {
        bench_die("%s: the scan ends after %u of %u documents", state.peer, state.next, contender->docs);
    }
    for (uint32_t number = 0; number < contender->docs; number++) {
        struct peer_doc doc;
        if (!contender->peer->get(session, payload_id(number).text, &doc)) {
            bench_die("%s: the document %u is missing", state.peer, number);
        }
        check(state.peer, number, &doc);
    }
    contender->peer->session_close(session);
}

/* ---- What is timed ---- */

static uint64_t read_some(void *arg) {
    struct reader *reader = arg;
    struct peer_doc doc;
    for (unsigned i = 0; i < STEP_READS; i++) {
        if (!reader->peer->get(reader->session, reader->ids[reader->next].text, &doc) || doc.bytes != DOC_BYTES) {
            bench_die("%s: the document %s is not there", reader->peer->name, reader->ids[reader->next].text);
        }
        reader->seen ^= payload_touch(doc.data, doc.bytes);
        reader->next = reader->next + 1 < reader->docs ? reader->next + 1 : 0;
    }
    return STEP_READS;
}

static double read_turn(void *arg, double seconds) {
    struct contender *contender = arg;
    void *args[THREADS_MAX];
    for (unsigned i = 0; i < contender->threads; i++) {
        args[i] = &contender->readers[i];
    }
    return rounds_threads(contender->threads, read_some, args, seconds);
}

struct look {
    uint64_t docs;
    uint64_t seen;
};

static void look_visit(void *arg, const struct peer_doc *doc) {
    struct look *look = arg;
    look->docs++;
    look->seen ^= payload_touch(doc->data, doc->bytes);
}

/* Whole scans, as many as it takes. */
static double scan_turn(void *arg, double seconds) {
    struct contender *contender = arg;
    struct reader *reader = &contender->readers[0];
    struct look look = {0};
    uint64_t scans = 0;
    double start = bench_now();
    double elapsed = 0;
    while (elapsed < seconds) {
        contender->peer->scan(reader->session, look_visit, &look);
        scans++;
        elapsed = bench_now() - start;
    }
    if (look.docs != scans * contender->docs) {
        bench_die("%s: a scan did not visit all documents", contender->peer->name);
    }
    reader->seen ^= look.seen;
    return (double)look.docs / elapsed;
}

/* ---- The run ---- */

static struct payload_id *shuffled_ids(uint32_t docs, uint64_t seed) {
    struct payload_id *ids = bench_alloc(docs, sizeof *ids);
    uint32_t *numbers = payload_shuffle(docs, seed);
    for (uint32_t i = 0; i < docs; i++) {
        ids[i] = payload_id(numbers[i]);
    }
    free(numbers);
    return ids;
}

static void contender_open(struct contender *contender, const struct peer *peer, const char *directory,
                           struct payload_id *const *orders, uint32_t docs) {
    *contender =
        (struct contender){.peer = peer, .directory = bench_directory(directory, peer->name), .docs = docs};
    contender->store = peer->open(contender->directory, DOC_BYTES);
    load(contender);
    peer->close(contender->store);
    contender->store = peer->open(contender->directory, DOC_BYTES);
    check_all(contender);
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        contender->readers[i] = (struct reader){
            .peer = peer, .session = peer->session_open(contender->store), .ids = orders[i], .docs = docs};
    }
}

static void contender_close(struct contender *contender) {
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        contender->peer->session_close(contender->readers[i].session);
    }
    contender->peer->close(contender->store);
    temp_remove(contender->directory);
}

static void run_rows(const struct bench *bench, struct contender *contenders, const struct rounds_plan *plan) {
    static const char *const names[THREADS_MAX] = {"point read, 1 thread", "point read, 2 threads"};
    struct rounds_result results[BENCH_PEERS_MAX];
    void *stores[BENCH_PEERS_MAX];
    for (unsigned threads = 1; threads <= THREADS_MAX; threads++) {
        for (size_t i = 0; i < bench->peer_count; i++) {
            contenders[i].threads = threads;
            stores[i] = &contenders[i];
        }
        rounds_run(bench, plan, read_turn, stores, results);
        rounds_print_row(bench, names[threads - 1], results, read_targets);
    }
    rounds_run(bench, plan, scan_turn, stores, results);
    rounds_print_row(bench, "ordered scan with documents", results, scan_targets);
}

static void run(const struct bench *bench) {
    const struct rounds_plan *plan = bench->quick ? &quick_plan : &full_plan;
    uint32_t docs = bench->quick ? quick_docs : full_docs;
    struct contender contenders[BENCH_PEERS_MAX];
    struct payload_id *orders[THREADS_MAX];
    char title[64];
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        orders[i] = shuffled_ids(docs, i);
    }
    for (size_t i = 0; i < bench->peer_count; i++) {
        contender_open(&contenders[i], bench->peers[i], bench->directory, orders, docs);
    }
    (void)snprintf(title, sizeof title, "Documents read a second, of %u x %d B", docs, DOC_BYTES);
    rounds_print_head(bench, title, plan);
    run_rows(bench, contenders, plan);
    for (size_t i = 0; i < bench->peer_count; i++) {
        contender_close(&contenders[i]);
    }
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        free(orders[i]);
    }
}

int main(int argc, char **argv) { return bench_main(argc, argv, peers, usual, run); }
