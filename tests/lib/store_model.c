/* See store_model.h. */
#include "tests/lib/store_model.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/sim_disk.h"

static void *must(void *memory) {
    if (memory == NULL) {
        perror("store_model: out of memory");
        abort();
    }
    return memory;
}

void model_init(struct model *model) { memset(model, 0, sizeof *model); }

void model_fill(uint64_t tag, uint8_t *out, size_t bytes) {
    uint64_t random = tag;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = sim_random(&random);
        memcpy(out + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

const char *model_database_name(size_t database) {
    static const char *const names[MODEL_DATABASES] = {"alpha", "beta.2", "Gamma_3"};
    return names[database];
}

const char *model_id(size_t id, char *out) {
    (void)snprintf(out, MODEL_ID_BYTES, "%02zu-doc", id * 7 % MODEL_IDS);
    if (id % 8 == 7) {
        memset(out + 6, 'x', DOCDB_ID_BYTES_MAX - 6);
        out[DOCDB_ID_BYTES_MAX] = '\0';
    }
    return out;
}

/* ---- Comparing ---- */

__attribute__((format(printf, 3, 4))) static bool differs(char *why, size_t why_bytes, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return false;
}

/* Which of the model's ids this is, or MODEL_IDS. */
static size_t id_number(const char *id) {
    char known[MODEL_ID_BYTES];
    size_t i = 0;
    while (i < MODEL_IDS && strcmp(model_id(i, known), id) != 0) {
        i++;
    }
    return i;
}

static bool bytes_match(const docdb_doc *doc, const struct model_doc *expected) {
    uint8_t *bytes = must(malloc(expected->bytes + 1));
    model_fill(expected->tag, bytes, expected->bytes);
    bool same = docdb_doc_bytes(doc) == expected->bytes && memcmp(docdb_doc_data(doc), bytes, expected->bytes) == 0;
    free(bytes);
    return same;
}

static bool doc_matches(docdb_db *db, const char *id, const struct model_doc *expected, char *why,
                        size_t why_bytes) {
    docdb_doc *doc = NULL;
    int status = docdb_read(db, id, &doc);
    if (!expected->exists && status == DOCDB_ERR_NOT_FOUND) {
        return true;
    }
    if (status != DOCDB_OK || !expected->exists) {
        docdb_doc_release(doc);
        return differs(why, why_bytes, "%s/%.12s: read says %s, the model says it %s", docdb_db_name(db), id,
                       docdb_error_name(status), expected->exists ? "exists" : "does not exist");
    }
    docdb_info info = *docdb_doc_info(doc);
    bool same = bytes_match(doc, expected);
    size_t bytes = docdb_doc_bytes(doc);
    docdb_doc_release(doc);
    if (!same) {
        return differs(why, why_bytes, "%s/%.12s: version %llu has other bytes (%zu, expected %zu of version %llu)",
                       docdb_db_name(db), id, (unsigned long long)info.version, bytes, expected->bytes,
                       (unsigned long long)expected->version);
    }
    if ((expected->mtime_ns != 0 && info.mtime_ns != expected->mtime_ns) ||
        (expected->version != 0 && info.version != expected->version)) {
        return differs(why, why_bytes, "%s/%.12s: version %llu mtime %lld, expected %llu %lld", docdb_db_name(db),
                       id, (unsigned long long)info.version, (long long)info.mtime_ns,
                       (unsigned long long)expected->version, (long long)expected->mtime_ns);
    }
    return true;
}

/* The scan shows the ids of the model, once each, in order. */
static bool scan_matches(docdb_db *db, const struct model_database *expected, size_t count, char *why,
                         size_t why_bytes) {
    docdb_scan *scan = NULL;
    docdb_entry entry;
    char before[MODEL_ID_BYTES] = "";
    size_t seen = 0;
    int status = docdb_scan_open(db, NULL, &scan);
    for (status = status == DOCDB_OK ? docdb_scan_next(scan, &entry) : status; status == DOCDB_OK;
         status = docdb_scan_next(scan, &entry)) {
        size_t id = id_number(entry.id);
        if (id == MODEL_IDS || !expected->docs[id].exists || strcmp(before, entry.id) >= 0) {
            (void)differs(why, why_bytes, "%s: a scan shows %.12s %s", docdb_db_name(db), entry.id,
                          strcmp(before, entry.id) >= 0 ? "out of order" : "which does not exist");
            docdb_scan_close(scan);
            return false;
        }
        (void)snprintf(before, sizeof before, "%s", entry.id);
        seen++;
    }
    docdb_scan_close(scan);
    if (status != DOCDB_ERR_END || seen != count) {
        return differs(why, why_bytes, "%s: a scan ends with %s after %zu of %zu documents", docdb_db_name(db),
                       docdb_error_name(status), seen, count);
    }
    return true;
}

static bool database_matches(docdb *runtime, size_t number, const struct model_database *expected, size_t *total,
                             char *why, size_t why_bytes) {
    docdb_db *db = NULL;
    char id[MODEL_ID_BYTES];
    size_t count = 0;
    int status = docdb_db_open(runtime, model_database_name(number), 0, &db);
    if (status != (expected->exists ? DOCDB_OK : DOCDB_ERR_NO_DATABASE)) {
        docdb_db_close(db);
        return differs(why, why_bytes, "database %s: open says %s, the model says it %s",
                       model_database_name(number), docdb_error_name(status),
                       expected->exists ? "exists" : "does not exist");
    }
    bool same = true;
    for (size_t i = 0; i < MODEL_IDS && same && expected->exists; i++) {
        same = doc_matches(db, model_id(i, id), &expected->docs[i], why, why_bytes);
        count += expected->docs[i].exists;
    }
    same = same && (!expected->exists || scan_matches(db, expected, count, why, why_bytes));
    *total += count;
    docdb_db_close(db);
    return same;
}

bool model_matches(docdb *runtime, const struct model *model, char *why, size_t why_bytes) {
    size_t total = 0;
    size_t databases = 0;
    docdb_stats stats;
    for (size_t i = 0; i < MODEL_DATABASES; i++) {
        if (!database_matches(runtime, i, &model->databases[i], &total, why, why_bytes)) {
            return false;
        }
        databases += model->databases[i].exists;
    }
    int status = docdb_get_stats(runtime, &stats);
    if (status != DOCDB_OK || stats.documents != total || stats.databases != databases) {
        return differs(why, why_bytes, "stats (%s) count %llu documents in %llu databases, expected %zu in %zu",
                       docdb_error_name(status), (unsigned long long)stats.documents,
                       (unsigned long long)stats.databases, total, databases);
    }
    return true;
}

/* ---- The workload ---- */

void workload_init(struct workload *workload, uint64_t seed) {
    memset(workload, 0, sizeof *workload);
    workload->random = seed;
    workload->large_bytes = 200u << 10;
    workload->large_one_in = 12;
    workload->checkpoint_one_in = 25;
}

static uint64_t below(struct workload *workload, uint64_t bound) { return sim_random(&workload->random) % bound; }

static size_t random_bytes(struct workload *workload) {
    if (workload->large_one_in != 0 && below(workload, workload->large_one_in) == 0) {
        return (size_t)below(workload, workload->large_bytes + 1);
    }
    switch (below(workload, 11)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return (size_t)below(workload, 9000);
    default:
        return (size_t)below(workload, 300);
    }
}

static size_t random_existing(struct workload *workload, const struct model_database *database) {
    size_t at = (size_t)below(workload, MODEL_IDS);
    for (size_t i = 0; i < MODEL_IDS; i++, at++) {
        if (database->docs[at % MODEL_IDS].exists) {
            break;
        }
    }
    return at % MODEL_IDS;
}

static int txn_put(struct workload *workload, docdb_txn *txn, struct model_database *database) {
    char id[MODEL_ID_BYTES];
    size_t number = (size_t)below(workload, MODEL_IDS);
    struct model_doc *doc = &database->docs[number];
    bool existed = doc->exists;
    *doc = (struct model_doc){.exists = true, .tag = sim_random(&workload->random)};
    doc->bytes = random_bytes(workload);
    uint8_t *bytes = must(malloc(doc->bytes + 1));
    model_fill(doc->tag, bytes, doc->bytes);
    (void)model_id(number, id);
    int status = below(workload, 2) == 0 ? docdb_txn_put(txn, id, bytes, doc->bytes)
                 : existed               ? docdb_txn_update(txn, id, bytes, doc->bytes)
                                         : docdb_txn_create(txn, id, bytes, doc->bytes);
    free(bytes);
    return status;
}

static int txn_rename(struct workload *workload, docdb_txn *txn, struct model_database *database, size_t from) {
    char from_id[MODEL_ID_BYTES];
    char to_id[MODEL_ID_BYTES];
    size_t to = (size_t)below(workload, MODEL_IDS);
    struct model_doc moved = database->docs[from];
    struct model_doc other = database->docs[to];
    bool exchange = other.exists && below(workload, 2) == 0;
    moved.version = 0;
    other.version = 0;
    if (from != to) {
        database->docs[to] = moved;
        database->docs[from] = exchange ? other : (struct model_doc){0};
    }
    return docdb_txn_rename(txn, model_id(from, from_id), model_id(to, to_id),
                            exchange ? DOCDB_RENAME_EXCHANGE : 0);
}

/* Adds one operation to the transaction and to the model. */
static int txn_operation(struct workload *workload, docdb_txn *txn, struct model_database *database) {
    char id[MODEL_ID_BYTES];
    size_t number = random_existing(workload, database);
    struct model_doc *doc = &database->docs[number];
    uint64_t kind = below(workload, 10);
    if (!doc->exists || kind < 5) {
        return txn_put(workload, txn, database);
    }
    switch (kind) {
    case 5:
    case 6:
        *doc = (struct model_doc){0};
        return docdb_txn_delete(txn, model_id(number, id));
    case 7:
        doc->mtime_ns = (int64_t)below(workload, 1u << 30) * 1000000007 + 1;
        doc->version = 0;
        return docdb_txn_set_mtime(txn, model_id(number, id), doc->mtime_ns);
    default:
        return txn_rename(workload, txn, database, number);
    }
}

/* Fills in the version of what the transaction wrote: documents that are not as they were. */
static void versions_note(struct model_database *now, const struct model_database *before, uint64_t commit_seq) {
    for (size_t i = 0; i < MODEL_IDS; i++) {
        if (now->docs[i].exists && now->docs[i].version == 0 &&
            memcmp(&now->docs[i], &before->docs[i], sizeof now->docs[i]) != 0) {
            now->docs[i].version = commit_seq;
        }
    }
}

static int step_txn(struct workload *workload, docdb *runtime, size_t number) {
    docdb_db *db = NULL;
    docdb_txn *txn = NULL;
    struct model_database *database = &workload->pending.databases[number];
    uint64_t commit_seq = 0;
    uint64_t count = below(workload, 3) == 0 ? 1 + below(workload, 12) : 1;
    unsigned flags = below(workload, 2) == 0 ? DOCDB_TXN_BLIND : 0;
    (void)snprintf(workload->last, sizeof workload->last, "a transaction of %llu in %s", (unsigned long long)count,
                   model_database_name(number));
    int status = docdb_db_open(runtime, model_database_name(number), 0, &db);
    if (status == DOCDB_OK) {
        status = docdb_begin(db, flags, &txn);
    }
    for (uint64_t i = 0; i < count && status == DOCDB_OK; i++) {
        status = txn_operation(workload, txn, database);
        if (status != DOCDB_OK) {
            docdb_abort(txn);
            workload->pending = workload->model;
            txn = NULL;
        }
    }
    if (status == DOCDB_OK) {
        status = docdb_commit(txn, &commit_seq);
    }
    if (status == DOCDB_OK) {
        versions_note(database, &workload->model.databases[number], commit_seq);
        workload->model = workload->pending;
    }
    docdb_db_close(db);
    return status;
}

static int step_create_or_drop(struct workload *workload, docdb *runtime, size_t number) {
    docdb_db *db = NULL;
    bool drop = workload->model.databases[number].exists;
    (void)snprintf(workload->last, sizeof workload->last, "%s of %s", drop ? "drop" : "create",
                   model_database_name(number));
    memset(&workload->pending.databases[number], 0, sizeof workload->pending.databases[number]);
    workload->pending.databases[number].exists = !drop;
    int status =
        drop ? docdb_db_drop(runtime, model_database_name(number), 0)
             : docdb_db_open(runtime, model_database_name(number), DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &db);
    docdb_db_close(db);
    if (status == DOCDB_OK) {
        workload->model = workload->pending;
    }
    return status;
}

/* A transaction whose last operation must fail: nothing of it may ever be seen. */
static int step_refused(struct workload *workload, docdb *runtime, size_t number) {
    docdb_db *db = NULL;
    docdb_txn *txn = NULL;
    char id[MODEL_ID_BYTES];
    (void)snprintf(workload->last, sizeof workload->last, "a transaction to be refused in %s",
                   model_database_name(number));
    int status = docdb_db_open(runtime, model_database_name(number), 0, &db);
    if (status == DOCDB_OK) {
        status = docdb_begin(db, DOCDB_TXN_BLIND, &txn);
    }
    if (status != DOCDB_OK) {
        docdb_db_close(db);
        return status;
    }
    struct model scratch = workload->pending;
    status = txn_operation(workload, txn, &scratch.databases[number]);
    if (status == DOCDB_OK) {
        status = docdb_txn_put_if(txn, model_id(below(workload, MODEL_IDS), id), UINT64_MAX / 2, "no", 2);
    }
    if (status != DOCDB_OK) {
        docdb_abort(txn);
    } else {
        status = docdb_commit(txn, NULL);
    }
    docdb_db_close(db);
    if (status == DOCDB_OK) {
        return DOCDB_ERR_INVALID;
    }
    return status == DOCDB_ERR_CONFLICT ? DOCDB_OK : status;
}

int workload_step(struct workload *workload, docdb *runtime) {
    size_t number = (size_t)below(workload, 100) % 10 < 6 ? 0 : 1 + (size_t)below(workload, MODEL_DATABASES - 1);
    workload->pending = workload->model;
    if (workload->checkpoint_one_in != 0 && below(workload, workload->checkpoint_one_in) == 0) {
        (void)snprintf(workload->last, sizeof workload->last, "a checkpoint");
        return docdb_checkpoint(runtime);
    }
    if (!workload->model.databases[number].exists || below(workload, 30) == 0) {
        return step_create_or_drop(workload, runtime, number);
    }
    if (below(workload, 15) == 0) {
        return step_refused(workload, runtime, number);
    }
    return step_txn(workload, runtime, number);
}

bool workload_settle(struct workload *workload, docdb *runtime, char *why, size_t why_bytes) {
    char why_pending[200];
    if (model_matches(runtime, &workload->model, why, why_bytes)) {
        workload->pending = workload->model;
        return true;
    }
    if (model_matches(runtime, &workload->pending, why_pending, sizeof why_pending)) {
        workload->model = workload->pending;
        return true;
    }
    size_t used = strlen(why);
    (void)snprintf(why + used, why_bytes - used, "; and with %s in flight: %s", workload->last, why_pending);
    return false;
}

/* ---- Odds and ends ---- */

void test_log_write(void *arg, docdb_log_level level, const char *line) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct test_log *log = arg;
    (void)level;
    (void)pthread_mutex_lock(&mutex);
    (void)snprintf(log->lines[log->next++ % TEST_LOG_LINES], sizeof log->lines[0], "%s", line);
    (void)pthread_mutex_unlock(&mutex);
}

void test_log_print(const struct test_log *log) {
    for (unsigned i = 0; i < TEST_LOG_LINES; i++) {
        const char *line = log->lines[(log->next + i) % TEST_LOG_LINES];
        if (line[0] != '\0') {
            fprintf(stderr, "    store: %s\n", line);
        }
    }
}

int test_store_open(struct sim_disk *disk, struct test_log *log, docdb **runtime, docdb_error *error) {
    docdb_options options = {.os = sim_disk_os(disk),
                             .log = test_log_write,
                             .log_arg = log,
                             .wal_limit_bytes = 16u << 20,
                             .segment_bytes = 64u << 10};
    return docdb_open("/data", &options, runtime, error);
}

void test_store_crash(struct sim_disk *disk, docdb *runtime, uint64_t seed) {
    sim_disk_power_off_at(disk, sim_disk_operations(disk) + 1, false);
    (void)docdb_close(runtime);
    sim_disk_crash(disk, seed);
}

uint64_t test_seed(void) {
    const char *given = getenv("SEED");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t state = (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : sim_random(&state) % 1000000000u;
    printf("SEED=%llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    return seed;
}

/* Sanitizers make everything several times slower. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

unsigned test_rounds(unsigned rounds, unsigned rounds_long) {
#ifdef SANITIZED
    rounds = rounds / 5 + 1;
#endif
    return getenv("DOCDB_TEST_LONG") != NULL ? rounds_long : rounds;
}
