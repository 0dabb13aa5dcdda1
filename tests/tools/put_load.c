/*
 * Writes documents until it is told to stop or the server goes away, and says which writes were acknowledged:
 *
 *     put_load WHERE DB THREADS DOCS BASE LIMIT SEED
 *
 * WHERE is what docdb_open takes. Each thread owns DOCS documents, "load.THREAD.DOC", and writes versions of them:
 * BASE + 1, BASE + 2 ... of each, in order, one write in flight. A thread with an even number writes one document a
 * transaction; one with an odd number writes GROUP neighbours in one transaction, all of the same version. Every
 * DELETE_EVERY-th version is a deletion. It stops after LIMIT transactions a thread (0: never) or at the first
 * error.
 *
 * A version's contents tell which it is: one line that names database, thread, document, version and length, over
 * and over, cut at the length. A line has LINE_BYTES bytes, an odd number, so that a document that holds parts of
 * two versions, or parts of one at the wrong place, does not look like any version.
 *
 * On stdout, each line in one write, before the thread's next transaction:
 *     ack THREAD DOC VERSION BYTES...     acknowledged; one length a document, "-" for a deletion
 *     end THREAD DOC VERSION STATUS       the thread has ended; STATUS is OK, or the error of that transaction
 * So at most one transaction a thread was attempted and not acknowledged, and its "end" line names it.
 *
 * Exit code: 0 after the limit, 1 after an error of a write, 2 when it could not start.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "docdb.h"

enum {
    THREADS_MAX = 64,
    GROUP = 3,
    DELETE_EVERY = 7,
    LINE_BYTES = 79,
    BYTES_MAX = 1 << 20,
    PAUSE_NS_MAX = 2000000, /* leaves the machine to the others now and then */
};

struct load {
    docdb_db *db;
    unsigned docs;
    uint64_t base;
    uint64_t limit;
};

struct writer {
    const struct load *load;
    pthread_t thread;
    unsigned number;
    uint64_t random;
    uint64_t *versions; /* newest attempted version of each document */
    char *buffer;       /* BYTES_MAX */
    int status;
};

/* splitmix64: any seed will do, and a seed gives the same sizes again. */
static uint64_t random_next(uint64_t *state) {
    uint64_t value = *state += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* Most documents are small, a few are large. */
static size_t random_bytes(uint64_t *state) {
    static const size_t bounds[] = {256, 256, 256, 512, 4096, 4096, 16384, 16384, 131072};
    uint64_t choice = random_next(state) % 100;
    size_t bound = choice == 0 ? BYTES_MAX : bounds[choice % (sizeof bounds / sizeof bounds[0])];
    return LINE_BYTES + (size_t)(random_next(state) % (bound - LINE_BYTES + 1));
}

/* Fills the buffer with `bytes` bytes of the version's line. */
static void contents_make(const struct writer *writer, unsigned doc, uint64_t version, size_t bytes) {
    char line[LINE_BYTES + 1];
    int length = snprintf(line, sizeof line, "load %s %u %u %" PRIu64 " %zu ", docdb_db_name(writer->load->db),
                          writer->number, doc, version, bytes);
    if (length < 0 || length >= LINE_BYTES) {
        abort(); /* the names are too long for what this is for */
    }
    memset(line + length, '.', (size_t)(LINE_BYTES - 1 - length));
    line[LINE_BYTES - 1] = '\n';
    for (size_t at = 0; at < bytes; at += LINE_BYTES) {
        memcpy(writer->buffer + at, line, bytes - at < LINE_BYTES ? bytes - at : LINE_BYTES);
    }
}

/* One line in one write, so that a kill leaves no half of one and threads do not mix. */
static void say(const char *line) {
    size_t bytes = strlen(line);
    if (write(STDOUT_FILENO, line, bytes) != (ssize_t)bytes) {
        abort(); /* an acknowledgement that nobody hears of would make the test blind */
    }
}

/* Adds the write of one document to the transaction, and its length to the line. */
static int document_add(struct writer *writer, docdb_txn *txn, unsigned doc, uint64_t version, char *line,
                        size_t line_bytes) {
    char id[64];
    size_t used = strlen(line);
    (void)snprintf(id, sizeof id, "load.%u.%u", writer->number, doc);
    if (version % DELETE_EVERY == 0) {
        (void)snprintf(line + used, line_bytes - used, " -");
        return docdb_txn_delete(txn, id);
    }
    size_t bytes = random_bytes(&writer->random);
    contents_make(writer, doc, version, bytes);
    (void)snprintf(line + used, line_bytes - used, " %zu", bytes);
    return docdb_txn_put(txn, id, writer->buffer, bytes);
}

/* The next version of a document (or a group) that starts with `doc`, in one transaction. */
static int transaction_run(struct writer *writer, unsigned doc, unsigned count) {
    char line[256];
    docdb_txn *txn = NULL;
    uint64_t version = ++writer->versions[doc];
    (void)snprintf(line, sizeof line, "ack %u %u %" PRIu64, writer->number, doc, version);
    int status = docdb_begin(writer->load->db, DOCDB_TXN_BLIND, &txn);
    for (unsigned i = 0; i < count && status == DOCDB_OK; i++) {
        status = document_add(writer, txn, doc + i, version, line, sizeof line - 1);
    }
    if (status != DOCDB_OK) {
        docdb_abort(txn);
        return status;
    }
    status = docdb_commit(txn, NULL);
    if (status == DOCDB_OK) {
        (void)strcat(line, "\n");
        say(line);
    }
    return status;
}

static void *writer_main(void *arg) {
    struct writer *writer = arg;
    unsigned count = writer->number % 2 == 0 ? 1 : GROUP;
    unsigned doc = 0;
    char line[128];
    for (uint64_t done = 0; writer->load->limit == 0 || done < writer->load->limit; done++) {
        doc = (unsigned)(random_next(&writer->random) % (writer->load->docs / count)) * count;
        writer->status = transaction_run(writer, doc, count);
        if (writer->status != DOCDB_OK) {
            break;
        }
        struct timespec pause = {.tv_nsec = (long)(random_next(&writer->random) % PAUSE_NS_MAX)};
        (void)nanosleep(&pause, NULL);
    }
    (void)snprintf(line, sizeof line, "end %u %u %" PRIu64 " %s\n", writer->number, doc, writer->versions[doc],
                   docdb_error_name(writer->status));
    say(line);
    return NULL;
}

static void writer_start(struct writer *writer, const struct load *load, unsigned number, uint64_t seed) {
    *writer = (struct writer){.load = load, .number = number, .random = seed * THREADS_MAX + number};
    writer->versions = calloc(load->docs, sizeof *writer->versions);
    writer->buffer = malloc(BYTES_MAX);
    if (writer->versions == NULL || writer->buffer == NULL) {
        abort();
    }
    for (unsigned i = 0; i < load->docs; i++) {
        writer->versions[i] = load->base;
    }
    if (thread_start(&writer->thread, "put-load", writer_main, writer) != 0) {
        abort();
    }
}

static int writers_run(const struct load *load, unsigned threads, uint64_t seed) {
    static struct writer writers[THREADS_MAX];
    int code = 0;
    for (unsigned i = 0; i < threads; i++) {
        writer_start(&writers[i], load, i, seed);
    }
    for (unsigned i = 0; i < threads; i++) {
        thread_join(writers[i].thread);
        code = writers[i].status == DOCDB_OK ? code : 1;
        free(writers[i].versions);
        free(writers[i].buffer);
    }
    return code;
}

int main(int argc, char **argv) {
    docdb *runtime = NULL;
    docdb_error error = {0};
    struct load load = {0};
    if (argc != 8) {
        (void)fprintf(stderr, "usage: put_load WHERE DB THREADS DOCS BASE LIMIT SEED\n");
        return 2;
    }
    unsigned threads = (unsigned)strtoul(argv[3], NULL, 10);
    load.docs = (unsigned)strtoul(argv[4], NULL, 10);
    load.base = strtoull(argv[5], NULL, 10);
    load.limit = strtoull(argv[6], NULL, 10);
    uint64_t seed = strtoull(argv[7], NULL, 10);
    if (threads < 1 || threads > THREADS_MAX || load.docs < GROUP || load.base % DELETE_EVERY != 0) {
        (void)fprintf(stderr, "put_load: needs 1 to %d threads, %d documents or more, a base divisible by %d\n",
                      THREADS_MAX, GROUP, DELETE_EVERY);
        return 2;
    }
    if (docdb_open(argv[1], NULL, &runtime, &error) != DOCDB_OK) {
        (void)fprintf(stderr, "put_load: %s\n", error.message);
        return 2;
    }
    int status = docdb_db_open(runtime, argv[2], DOCDB_DB_CREATE, &load.db);
    if (status != DOCDB_OK) {
        (void)fprintf(stderr, "put_load: cannot open database %s: %s\n", argv[2], docdb_error_text(status));
        (void)docdb_close(runtime);
        return 2;
    }
    int code = writers_run(&load, threads, seed);
    docdb_db_close(load.db);
    (void)docdb_close(runtime);
    return code;
}
