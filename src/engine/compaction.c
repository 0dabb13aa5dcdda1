/* See compaction.h. */
#include "engine/compaction.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/limits.h"
#include "engine/checkpoint.h"

#define COMPACTION_START 1.15 /* x what is live: from here on it compacts */
#define COMPACTION_FULL  1.30 /* x what is live: from here on without a pause */
#define WINDOW_BYTES     ((size_t)1 << 20)
#define STEP_BYTES       ((uint64_t)1 << 20) /* read in one step, or one record if that is longer */
#define MOVES_MAX        4096u
#define MOVE_CHUNK       128u /* entries told to the index under one hold of `apply` */
#define PAUSE_FACTOR_MAX 8.0  /* a step is followed by a pause of up to so many times its own length */
#define PAUSE_MS_MAX     100.0

/* A record that was appended to the new segment and is not yet synced. */
struct compaction_move {
    char id[DOCDB_ID_BYTES_MAX + 1];
    struct location from;
    struct location to;
};

/* The work on one segment. */
struct compaction {
    struct database *database; /* one reference */
    struct segment *victim;    /* in use by us */
    uint64_t at;               /* the next byte of it to look at */
    uint64_t end;
    struct segment_appender appender;
    struct compaction_move *moves;
    size_t move_count;
    uint8_t *window; /* the bytes of the victim from window_at on */
    uint64_t window_at;
    size_t window_bytes;
};

/* ---- What is worth it ---- */

/* Less than this is not worth the work. */
static uint64_t slack_bytes(const struct database *database) { return database->segment_bytes; }

/* How many times what is live the segments of a database take, those aside that only wait for a checkpoint. */
static double space_factor(struct database *database) {
    double live = (double)segments_live_bytes(&database->segments);
    double dead = (double)segments_dead_bytes(&database->segments);
    double bytes = (double)segments_bytes(&database->segments) - dead - (double)slack_bytes(database);
    return live <= 0.0 ? 1.0 : bytes / live;
}

bool compaction_wants_checkpoint(struct engine *engine) {
    struct database **databases;
    size_t count;
    bool wanted = false;
    if (catalog_list(&engine->catalog, &databases, &count) != DOCDB_OK) {
        return false;
    }
    for (size_t i = 0; i < count && !wanted; i++) {
        uint64_t dead = segments_dead_bytes(&databases[i]->segments);
        wanted = dead > slack_bytes(databases[i]) && dead > segments_live_bytes(&databases[i]->segments) / 16;
    }
    catalog_list_free(databases, count);
    return wanted;
}

/* The segment to compact next: of the database that wastes most, among those that have one worth it. One reference
 * on the database, and the segment is in use; or NULL. */
static struct segment *victim_choose(struct engine *engine, struct database **database) {
    struct database **databases;
    struct segment *chosen = NULL;
    size_t count;
    double most = COMPACTION_START;
    *database = NULL;
    if (catalog_list(&engine->catalog, &databases, &count) != DOCDB_OK) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        double factor = space_factor(databases[i]);
        struct segment *victim = factor > most ? segments_emptiest(&databases[i]->segments) : NULL;
        if (victim != NULL) {
            if (chosen != NULL) {
                segment_unuse(&(*database)->segments, chosen);
            }
            most = factor;
            chosen = victim;
            *database = databases[i];
        }
    }
    *database = chosen == NULL ? NULL : database_acquire(*database);
    catalog_list_free(databases, count);
    return chosen;
}

/* ---- One segment ---- */

static void compaction_end(struct engine *engine) REQUIRES(engine->checkpoint_mutex) {
    struct compaction *compaction = engine->compaction;
    engine->compaction = NULL;
    if (compaction->appender.segment != NULL) {
        appender_abandon(&compaction->appender);
    }
    segment_unuse(&compaction->database->segments, compaction->victim);
    database_release(compaction->database);
    free(compaction->moves);
    free(compaction->window);
    free(compaction);
}

/* Chooses a segment. False: none is worth it, or there is no memory for it. */
static bool compaction_begin(struct engine *engine) REQUIRES(engine->checkpoint_mutex) {
    struct database *database;
    struct segment *victim = victim_choose(engine, &database);
    struct compaction *compaction = victim == NULL ? NULL : calloc(1, sizeof *compaction);
    if (compaction == NULL) {
        if (victim != NULL) {
            segment_unuse(&database->segments, victim);
        }
        database_release(database);
        return false;
    }
    *compaction = (struct compaction){
        .database = database, .victim = victim, .at = SEGMENT_HEADER_BYTES, .end = atomic_load(&victim->bytes)};
    appender_init(&compaction->appender, &database->segments);
    engine->compaction = compaction;
    compaction->moves = malloc(MOVES_MAX * sizeof *compaction->moves);
    compaction->window = malloc(WINDOW_BYTES);
    if (compaction->moves == NULL || compaction->window == NULL) {
        compaction_end(engine);
        return false;
    }
    return true;
}

/* Tells the index where the records are now. */
static int moves_tell(struct engine *engine, struct compaction *compaction) {
    struct index *index = compaction->database->index;
    int status = DOCDB_OK;
    for (size_t at = 0; at < compaction->move_count && status == DOCDB_OK; at += MOVE_CHUNK) {
        size_t left = compaction->move_count - at;
        size_t chunk = left < MOVE_CHUNK ? left : MOVE_CHUNK;
        mutex_lock(&engine->apply);
        status = index_reserve(index, chunk);
        for (size_t i = at; i < at + chunk && status == DOCDB_OK; i++) {
            const struct compaction_move *move = &compaction->moves[i];
            (void)index_move(index, move->id, strlen(move->id), move->from, move->to);
        }
        mutex_unlock(&engine->apply);
    }
    return status;
}

static int moves_flush(struct engine *engine, struct compaction *compaction) {
    int status = appender_sync(&compaction->appender);
    if (status == DOCDB_OK) {
        status = moves_tell(engine, compaction);
    }
    compaction->move_count = 0;
    if (status == DOCDB_OK &&
        appender_is_full(&compaction->appender, database_segment_bytes(compaction->database))) {
        appender_close(&compaction->appender);
    }
    return status;
}

/* The bytes of the victim at `at`, at least `bytes` of them (no more than the window holds), or NULL with *status.
 */
static const uint8_t *victim_bytes(struct compaction *compaction, uint64_t at, size_t bytes, int *status) {
    if (at < compaction->window_at || at + bytes > compaction->window_at + compaction->window_bytes) {
        uint64_t left = compaction->end - at;
        size_t wanted = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        compaction->window_bytes = 0;
        *status = bytes > wanted ? DOCDB_ERR_CORRUPT
                                 : segment_read_at(&compaction->database->segments, compaction->victim,
                                                   compaction->window, wanted, at);
        if (*status != DOCDB_OK) {
            return NULL;
        }
        compaction->window_at = at;
        compaction->window_bytes = wanted;
    }
    return compaction->window + (at - compaction->window_at);
}

static int victim_damaged(struct engine *engine, struct compaction *compaction, const char *what) {
    atomic_store(&compaction->victim->damaged, true);
    log_error(&engine->log,
              "damaged data: %s in segment %08" PRIx32 " of database \"%s\" at offset %" PRIu64
              "; its space can't be given back; `docdb verify` says which documents are hit",
              what, compaction->victim->number, compaction->database->name, compaction->at);
    return DOCDB_ERR_CORRUPT;
}

/* Reads a live record's document whole and appends it to the new segment. */
static int record_copy(struct engine *engine, struct compaction *compaction, const struct segment_record *record,
                       const char *id, struct location *to) {
    struct segments *segments = &compaction->database->segments;
    uint64_t segment_bytes = database_segment_bytes(compaction->database);
    size_t bytes = (size_t)record->info.bytes;
    bool large = record->data_offset == SEGMENT_BLOCK_BYTES;
    docdb_doc *doc = large ? doc_create_large(bytes) : doc_create(bytes);
    if (doc == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    uint64_t at = compaction->at + record->data_offset;
    int status = DOCDB_OK;
    const uint8_t *window = bytes <= WINDOW_BYTES ? victim_bytes(compaction, at, bytes, &status) : NULL;
    if (window != NULL) {
        memcpy(doc->data, window, bytes);
    } else if (status == DOCDB_OK) {
        status = segment_read_at(segments, compaction->victim, doc->data, bytes, at);
    }
    doc->checksum = record->checksum;
    if (status == DOCDB_ERR_CORRUPT || (status == DOCDB_OK && checksum(doc->data, bytes) != record->checksum)) {
        status = victim_damaged(engine, compaction, "the document's checksum does not match");
    }
    if (status == DOCDB_OK) {
        status = appender_append(&compaction->appender, segment_bytes, id, doc, &record->info, to);
    }
    docdb_doc_release(doc);
    return status;
}

/* Looks at the record at compaction->at and goes on behind it. */
static int record_step(struct engine *engine, struct compaction *compaction) {
    struct segment_record record;
    uint64_t at = compaction->at;
    uint64_t left = compaction->end - at;
    int status = DOCDB_OK;
    size_t head_bytes = SEGMENT_RECORD_HEADER_BYTES + DOCDB_ID_BYTES_MAX;
    head_bytes = left < head_bytes ? (size_t)left : head_bytes;
    const uint8_t *head = victim_bytes(compaction, at, head_bytes, &status);
    if (head == NULL) {
        return status == DOCDB_ERR_CORRUPT ? victim_damaged(engine, compaction, "the file is too short") : status;
    }
    if (left >= 8 && get_u64(head) == 0) {
        compaction->at = round_up(at + 1, SEGMENT_BLOCK_BYTES); /* a gap */
        return DOCDB_OK;
    }
    if (!segment_record_decode(head, head_bytes, &record) || segment_record_end(&record) > left) {
        return victim_damaged(engine, compaction, "the record's header does not match");
    }
    struct compaction_move *move = &compaction->moves[compaction->move_count];
    memcpy(move->id, head + SEGMENT_RECORD_HEADER_BYTES, record.id_bytes);
    move->id[record.id_bytes] = '\0';
    move->from = (struct location){.segment = compaction->victim->number, .offset = (uint32_t)(at / LOCATION_UNIT)};
    if (index_is_at(compaction->database->index, move->id, record.id_bytes, move->from)) {
        status = record_copy(engine, compaction, &record, move->id, &move->to);
        compaction->move_count += status == DOCDB_OK ? 1 : 0;
        atomic_fetch_add_explicit(&engine->compacted_bytes, segment_record_end(&record), memory_order_relaxed);
    }
    compaction->at = at + segment_record_end(&record);
    return status == DOCDB_OK && compaction->move_count == MOVES_MAX ? moves_flush(engine, compaction) : status;
}

/* Goes on with the victim. */
static int segment_step(struct engine *engine) REQUIRES(engine->checkpoint_mutex) {
    struct compaction *compaction = engine->compaction;
    uint64_t stop = compaction->at + STEP_BYTES;
    int status = DOCDB_OK;
    while (status == DOCDB_OK && compaction->at < compaction->end && compaction->at < stop) {
        status =
            atomic_load(&compaction->database->dropped) ? DOCDB_ERR_NO_DATABASE : record_step(engine, compaction);
    }
    bool done = status == DOCDB_OK && compaction->at >= compaction->end;
    if (done) {
        status = moves_flush(engine, compaction);
        if (status == DOCDB_OK) {
            appender_close(&compaction->appender);
            atomic_fetch_add_explicit(&engine->compactions, 1, memory_order_relaxed);
        }
    }
    if (done || status != DOCDB_OK) {
        compaction_end(engine);
    }
    /* Damage concerns its segment only, and a drop ends the work on its database. */
    return status == DOCDB_ERR_CORRUPT || status == DOCDB_ERR_NO_DATABASE ? DOCDB_OK : status;
}

/* The less there is to gain, the longer the pause behind a step that took `ns`. */
static int64_t pause_of(double factor, int64_t ns) {
    double urgency = (factor - COMPACTION_START) / (COMPACTION_FULL - COMPACTION_START);
    urgency = urgency < 0.0 ? 0.0 : urgency > 1.0 ? 1.0 : urgency;
    double ms = (double)ns / 1e6 * PAUSE_FACTOR_MAX * (1.0 - urgency);
    return (int64_t)(ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX);
}

int compaction_step(struct engine *engine, int64_t *pause_ms) {
    int status = DOCDB_OK;
    *pause_ms = -1;
    mutex_lock(&engine->checkpoint_mutex);
    if (engine->compaction != NULL || compaction_begin(engine)) {
        int64_t start_ns = os_monotonic_ns(engine->os);
        double factor = space_factor(engine->compaction->database);
        status = segment_step(engine);
        *pause_ms = pause_of(factor, os_monotonic_ns(engine->os) - start_ns);
    }
    mutex_unlock(&engine->checkpoint_mutex);
    return status;
}

void compaction_stop(struct engine *engine) {
    mutex_lock(&engine->checkpoint_mutex);
    if (engine->compaction != NULL) {
        compaction_end(engine);
    }
    mutex_unlock(&engine->checkpoint_mutex);
}
