/*
 * See verify.h. Here: segments and the records in them.
 *
 * verify_documents takes the merged runs in batches, and reads the records of a batch in the order in which they
 * lie on the disk; neighbours are read together. verify_segment_walk reads whole segments; what the documents'
 * check has told already is in job->known.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/names.h"
#include "engine/segments.h"
#include "engine/verify_job.h"

#define BATCH_ENTRIES  65536u
#define BATCH_ID_BYTES ((size_t)4 << 20)
#define NEIGHBOUR_GAP  ((uint64_t)32 << 10) /* reading over so much is cheaper than another read */

static const char too_short[] = "the file is too short";
static const char unreadable[] = "an input/output error";
static const char missing[] = "its segment is missing";

/* ---- The reader ---- */

int verify_reader_init(struct verify_reader *reader) {
    reader->window = malloc(VERIFY_WINDOW_BYTES);
    reader->stream = checksum_stream_create();
    return reader->window == NULL || reader->stream == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
}

static void reader_close(struct verify_job *job) {
    struct verify_reader *reader = &job->reader;
    if (reader->file >= 0) {
        (void)os_close(job->os, reader->file);
    }
    reader->file = -1;
    reader->path[0] = '\0';
    reader->window_bytes = 0;
}

void verify_reader_fini(struct verify_job *job) {
    reader_close(job);
    checksum_stream_destroy(job->reader.stream);
    free(job->reader.window);
}

bool verify_reader_open(struct verify_job *job, const struct verify_place *place, uint32_t segment) {
    struct verify_reader *reader = &job->reader;
    char path[VERIFY_PATH_BYTES];
    struct os_stat stat = {0};
    segment_path(place->directory, segment, path, sizeof path);
    if (reader->file >= 0 && strcmp(path, reader->path) == 0) {
        return false;
    }
    reader_close(job);
    memcpy(reader->path, path, sizeof path);
    reader->file = os_open(job->os, path, OS_READ);
    reader->rc = reader->file < 0 ? reader->file : os_fstat(job->os, reader->file, &stat);
    reader->file_bytes = stat.bytes;
    if (reader->rc != 0 && reader->file >= 0) {
        (void)os_close(job->os, reader->file);
    }
    if (reader->rc != 0) {
        reader->file = -1;
    }
    return true;
}

static const char *reader_problem(const struct verify_reader *reader) {
    return reader->rc == -ENOENT ? missing : unreadable;
}

/* Makes `bytes` bytes at `offset` be in the window, and finds them at *out. Of a miss, `ahead` bytes are read.
 * *what says why they can't be had. DOCDB_OK or CLOSING. */
static int reader_get(struct verify_job *job, uint64_t offset, size_t bytes, uint64_t ahead, const uint8_t **out,
                      const char **what) {
    struct verify_reader *reader = &job->reader;
    *what = NULL;
    if (offset < reader->window_offset || offset + bytes > reader->window_offset + reader->window_bytes) {
        size_t wanted = ahead < VERIFY_WINDOW_BYTES ? (size_t)ahead : VERIFY_WINDOW_BYTES;
        wanted = wanted < bytes ? bytes : wanted;
        int64_t got = os_pread(job->os, reader->file, reader->window, wanted, offset);
        reader->window_offset = offset;
        reader->window_bytes = got < 0 ? 0 : (size_t)got;
        int status = verify_read(job, reader->window_bytes);
        if (status != DOCDB_OK) {
            return status;
        }
        if (reader->window_bytes < bytes) {
            *what = got < 0 ? unreadable : too_short;
            return DOCDB_OK;
        }
    }
    *out = reader->window + (offset - reader->window_offset);
    return DOCDB_OK;
}

/* ---- One record ---- */

/* What is wrong with a record whose header was decoded; NULL: nothing. */
static const char *record_mismatch(const struct verify_found *found, uint64_t offset, uint64_t end,
                                   const struct verify_record *expected) {
    const struct segment_record *record = &found->record;
    if (!id_valid(found->id, record->id_bytes)) {
        return "a record with an impossible id";
    }
    if (record->data_offset == SEGMENT_BLOCK_BYTES && offset % SEGMENT_BLOCK_BYTES != 0) {
        return "a record of a large document that does not begin at a block";
    }
    if (record->data_offset + record->info.bytes > end - offset) {
        return "a record that reaches beyond the segment's end";
    }
    if (expected == NULL) {
        return NULL;
    }
    if (record->id_bytes != expected->id_bytes || memcmp(found->id, expected->id, expected->id_bytes) != 0) {
        return "another document's record";
    }
    if (record->info.bytes != expected->bytes || record->info.version > expected->version) {
        return "the record of another version";
    }
    return NULL;
}

/* The document's bytes, piece by piece. */
static int document_check(struct verify_job *job, uint64_t offset, uint64_t ahead, struct verify_found *found) {
    const uint8_t *data = NULL;
    uint64_t at = offset + found->record.data_offset;
    uint64_t left = found->record.info.bytes;
    checksum_stream_reset(job->reader.stream);
    while (left > 0) {
        uint64_t in_window = job->reader.window_offset + job->reader.window_bytes;
        bool inside = at >= job->reader.window_offset && at < in_window;
        uint64_t piece = inside ? in_window - at : VERIFY_WINDOW_BYTES;
        piece = piece < left ? piece : left;
        uint64_t behind = at - offset < ahead ? ahead - (at - offset) : 0;
        int status = reader_get(job, at, (size_t)piece, behind > left ? behind : left, &data, &found->what);
        if (status != DOCDB_OK || found->what != NULL) {
            return status;
        }
        checksum_stream_add(job->reader.stream, data, (size_t)piece);
        at += piece;
        left -= piece;
    }
    if (checksum_stream_value(job->reader.stream) != found->record.checksum) {
        found->what = "a document that does not match its checksum";
    }
    return DOCDB_OK;
}

int verify_record(struct verify_job *job, uint64_t offset, uint64_t end, uint64_t ahead,
                  const struct verify_record *expected, struct verify_found *found) {
    const uint8_t *head = NULL;
    found->decoded = false;
    found->what = NULL;
    if (offset < SEGMENT_HEADER_BYTES || offset >= end || end - offset < SEGMENT_RECORD_HEADER_BYTES) {
        found->what = end < offset + SEGMENT_RECORD_HEADER_BYTES ? too_short : "an impossible place";
        return DOCDB_OK;
    }
    size_t head_bytes = SEGMENT_RECORD_HEADER_BYTES + DOCDB_ID_BYTES_MAX;
    head_bytes = end - offset < head_bytes ? (size_t)(end - offset) : head_bytes;
    int status = reader_get(job, offset, head_bytes, ahead, &head, &found->what);
    if (status != DOCDB_OK || found->what != NULL) {
        return status;
    }
    if (!segment_record_decode(head, head_bytes, &found->record)) {
        found->what = "a record whose header or id does not match its checksum";
        return DOCDB_OK;
    }
    found->decoded = true;
    memcpy(found->id, head + SEGMENT_RECORD_HEADER_BYTES, found->record.id_bytes);
    found->id[found->record.id_bytes] = '\0';
    found->what = record_mismatch(found, offset, end, expected);
    return found->what == NULL ? document_check(job, offset, ahead, found) : DOCDB_OK;
}

/* ---- What was told ---- */

static void known_add(struct verify_job *job, const struct verify_known *known) {
    if (job->known_count < VERIFY_KNOWN_MAX) {
        job->known[job->known_count++] = *known;
    } else {
        job->known_full = true;
    }
}

static const struct verify_known *known_find(const struct verify_job *job, uint32_t database_id, uint32_t segment,
                                             uint64_t offset) {
    for (size_t i = 0; i < job->known_count; i++) {
        const struct verify_known *known = &job->known[i];
        if (known->database_id == database_id && known->segment == segment && known->offset == offset) {
            return known;
        }
    }
    return NULL;
}

int verify_record_damaged(struct verify_job *job, const struct verify_place *place,
                          const struct verify_record *expected, const char *what) {
    char path[VERIFY_PATH_BYTES];
    uint64_t offset = location_bytes(expected->location);
    known_add(job, &(struct verify_known){.database_id = place->database_id,
                                          .segment = expected->location.segment,
                                          .offset = offset,
                                          .bytes = segment_record_bytes(expected->id_bytes, expected->bytes)});
    segment_path(place->directory, expected->location.segment, path, sizeof path);
    return verify_damage(job, path, offset, place->database, expected->id, expected->id_bytes, what);
}

/* ---- The documents of the merged runs ---- */

struct batch {
    struct verify_job *job;
    const struct verify_place *place;
    const struct index_file_set *set;
    struct verify_record *entries; /* BATCH_ENTRIES; their ids are in ids */
    size_t count;
    char *ids; /* BATCH_ID_BYTES */
    size_t id_bytes;
};

static int by_location(const void *a, const void *b) {
    const struct location *left = &((const struct verify_record *)a)->location;
    const struct location *right = &((const struct verify_record *)b)->location;
    if (left->segment != right->segment) {
        return left->segment > right->segment ? 1 : -1;
    }
    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* The listed segment, or NULL. */
static const struct segment_extent *extent_find(const struct index_file_set *set, uint32_t number) {
    size_t low = 0;
    size_t high = set->segment_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->segments[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < set->segment_count && set->segments[low].number == number ? &set->segments[low] : NULL;
}

static uint64_t record_span_end(const struct verify_record *entry) {
    return location_bytes(entry->location) + segment_record_bytes(entry->id_bytes, entry->bytes);
}

/* How much to read at once from entry `i` on: as far as records lie close together. */
static uint64_t batch_ahead(const struct batch *batch, size_t i) {
    const struct verify_record *first = &batch->entries[i];
    uint64_t start = location_bytes(first->location);
    uint64_t end = record_span_end(first);
    for (size_t j = i + 1; j < batch->count && end - start < VERIFY_WINDOW_BYTES; j++) {
        const struct verify_record *next = &batch->entries[j];
        if (next->location.segment != first->location.segment ||
            location_bytes(next->location) > end + NEIGHBOUR_GAP) {
            break;
        }
        end = record_span_end(next) > end ? record_span_end(next) : end;
    }
    return end - start;
}

static bool in_window(const struct verify_reader *reader, uint64_t offset, uint64_t bytes) {
    return offset >= reader->window_offset && offset + bytes <= reader->window_offset + reader->window_bytes;
}

static int batch_entry(struct batch *batch, size_t i) {
    struct verify_job *job = batch->job;
    const struct verify_record *entry = &batch->entries[i];
    const struct segment_extent *extent = extent_find(batch->set, entry->location.segment);
    struct verify_found found = {.what = "a segment that the index file does not list"};
    uint64_t offset = location_bytes(entry->location);
    int status = DOCDB_OK;
    if (extent != NULL) {
        (void)verify_reader_open(job, batch->place, entry->location.segment);
        found.what = job->reader.file < 0 ? reader_problem(&job->reader) : NULL;
    }
    if (found.what == NULL) {
        bool there = in_window(&job->reader, offset, record_span_end(entry) - offset);
        status = verify_record(job, offset, extent->bytes, there ? 0 : batch_ahead(batch, i), entry, &found);
    }
    job->documents++;
    return status == DOCDB_OK && found.what != NULL ? verify_record_damaged(job, batch->place, entry, found.what)
                                                    : status;
}

static int batch_flush(struct batch *batch) {
    int status = DOCDB_OK;
    if (batch->count > 1) {
        qsort(batch->entries, batch->count, sizeof *batch->entries, by_location);
    }
    for (size_t i = 0; i < batch->count && status == DOCDB_OK; i++) {
        status = batch_entry(batch, i);
    }
    batch->count = 0;
    batch->id_bytes = 0;
    return status;
}

static int batch_add(void *arg, const struct index_file_entry *in) {
    struct batch *batch = arg;
    if (batch->count == BATCH_ENTRIES || BATCH_ID_BYTES - batch->id_bytes < in->id_bytes) {
        int status = batch_flush(batch);
        if (status != DOCDB_OK) {
            return status;
        }
    }
    char *id = batch->ids + batch->id_bytes;
    memcpy(id, in->id, in->id_bytes);
    batch->id_bytes += in->id_bytes;
    batch->entries[batch->count++] = (struct verify_record){.id = id,
                                                            .id_bytes = in->id_bytes,
                                                            .bytes = in->info.bytes,
                                                            .version = in->info.version,
                                                            .location = in->location};
    return verify_read(batch->job, 32u + in->id_bytes);
}

int verify_documents(struct verify_job *job, const struct verify_place *place, const struct index_file_set *set) {
    struct batch batch = {.job = job, .place = place, .set = set};
    batch.entries = malloc(BATCH_ENTRIES * sizeof *batch.entries);
    batch.ids = malloc(BATCH_ID_BYTES);
    int status = batch.entries == NULL || batch.ids == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    if (status == DOCDB_OK) {
        status = index_file_load(job->os, &job->quiet, place->directory, set, 0, batch_add, &batch);
    }
    if (status == DOCDB_OK) {
        status = batch_flush(&batch);
    }
    free(batch.entries);
    free(batch.ids);
    return status;
}

/* ---- Segments as files ---- */

/* What is wrong with the segment's file or header; NULL: nothing. *offset is where. */
static int segment_check(struct verify_job *job, const struct verify_place *place,
                         const struct segment_extent *extent, uint64_t *offset, const char **what) {
    struct verify_reader *reader = &job->reader;
    struct segment_header header = {0};
    const uint8_t *bytes = NULL;
    *offset = 0;
    if (reader->file < 0) {
        *what = reader->rc == -ENOENT ? "the file is missing" : unreadable;
        return DOCDB_OK;
    }
    int status = reader_get(job, 0, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, &bytes, what);
    if (status != DOCDB_OK || *what != NULL) {
        return status;
    }
    int decoded = segment_header_decode(bytes, &header);
    if (decoded != DOCDB_OK) {
        *what = decoded == DOCDB_ERR_NEWER_FORMAT ? "a format version that is newer than this program, or damaged"
                                                  : "a header that does not match its checksum";
    } else if (header.store_id != job->manifest.store_id || header.database_id != place->database_id ||
               header.number != extent->number) {
        *what = "the header of another file";
    } else if (reader->file_bytes < extent->bytes) {
        *offset = reader->file_bytes;
        *what = too_short;
    }
    return DOCDB_OK;
}

int verify_segment_header(struct verify_job *job, const struct verify_place *place,
                          const struct segment_extent *extent) {
    const char *what = NULL;
    uint64_t offset = 0;
    (void)verify_reader_open(job, place, extent->number);
    int status = segment_check(job, place, extent, &offset, &what);
    if (status != DOCDB_OK || what == NULL || known_find(job, place->database_id, extent->number, 0) != NULL) {
        return status;
    }
    known_add(job, &(struct verify_known){.database_id = place->database_id, .segment = extent->number});
    return verify_damage(job, job->reader.path, offset, place->database, "", 0, what);
}

int verify_segment_headers(struct verify_job *job, const struct verify_place *place,
                           const struct index_file_set *set) {
    int status = DOCDB_OK;
    for (size_t i = 0; i < set->segment_count && status == DOCDB_OK; i++) {
        status = verify_segment_header(job, place, &set->segments[i]);
    }
    return status;
}

/* ---- The walk ---- */

struct walk {
    struct verify_job *job;
    const struct verify_place *place;
    uint32_t segment;
    uint64_t at;
    uint64_t end;
    bool sound;
};

static int walk_damaged(const struct walk *walk, const struct verify_found *found) {
    char what[256];
    size_t id_bytes = found->decoded && id_valid(found->id, found->record.id_bytes) ? found->record.id_bytes : 0;
    if (walk->job->known_full) {
        return DOCDB_OK;
    }
    (void)snprintf(what, sizeof what, "%s; %s", found->what,
                   walk->sound ? "not in use: no document of the checkpoint has it"
                               : "whether it is in use can't be told, since an index file is damaged");
    return verify_damage(walk->job, walk->job->reader.path, walk->at, walk->place->database, found->id, id_bytes,
                         what);
}

/* Goes on to the next place from `from` on where a record header is right, or to the end. */
static int walk_find(struct walk *walk, uint64_t from) {
    struct segment_record record;
    const uint8_t *bytes = NULL;
    const char *what = NULL;
    for (walk->at = from; walk->end - walk->at > SEGMENT_RECORD_HEADER_BYTES; walk->at += 8) {
        uint64_t left = walk->end - walk->at;
        size_t head_bytes = SEGMENT_RECORD_HEADER_BYTES + DOCDB_ID_BYTES_MAX;
        head_bytes = left < head_bytes ? (size_t)left : head_bytes;
        int status = reader_get(walk->job, walk->at, head_bytes, left, &bytes, &what);
        if (status != DOCDB_OK) {
            return status;
        }
        if (what != NULL) {
            break;
        }
        if (segment_record_decode(bytes, head_bytes, &record)) {
            return DOCDB_OK;
        }
    }
    walk->at = walk->end;
    return DOCDB_OK;
}

/* Checks what is at walk->at and goes past it. */
static int walk_step(struct walk *walk) {
    struct verify_job *job = walk->job;
    struct verify_found found = {.what = NULL};
    const uint8_t *bytes = NULL;
    uint64_t left = walk->end - walk->at;
    size_t look = left < 8 ? (size_t)left : 8;
    int status = reader_get(job, walk->at, look, left, &bytes, &found.what);
    if (status != DOCDB_OK) {
        return status;
    }
    if (found.what == NULL && memcmp(bytes, "\0\0\0\0\0\0\0\0", look) == 0) {
        walk->at = round_up(walk->at + 1, SEGMENT_BLOCK_BYTES);
        return DOCDB_OK;
    }
    if (found.what == NULL) {
        status = verify_record(job, walk->at, walk->end, left, NULL, &found);
    }
    const struct verify_known *known = status == DOCDB_OK && found.what != NULL
                                           ? known_find(job, walk->place->database_id, walk->segment, walk->at)
                                           : NULL;
    if (status == DOCDB_OK && found.what != NULL && known == NULL) {
        status = walk_damaged(walk, &found);
    }
    if (status != DOCDB_OK) {
        return status;
    }
    if (found.decoded && segment_record_end(&found.record) <= left) {
        walk->at += segment_record_end(&found.record);
        return DOCDB_OK;
    }
    uint64_t skipped = known != NULL && known->bytes < left ? known->bytes : 8;
    return walk_find(walk, skipped < left ? walk->at + skipped : walk->end);
}

int verify_segment_walk(struct verify_job *job, const struct verify_place *place, const struct index_file_set *set,
                        bool sound) {
    int status = DOCDB_OK;
    for (size_t i = 0; i < set->segment_count && status == DOCDB_OK; i++) {
        const struct segment_extent *extent = &set->segments[i];
        struct walk walk = {
            .job = job, .place = place, .segment = extent->number, .at = SEGMENT_HEADER_BYTES, .sound = sound};
        (void)verify_reader_open(job, place, extent->number);
        if (job->reader.file < 0) {
            continue; /* that was told */
        }
        walk.end = extent->bytes < job->reader.file_bytes ? extent->bytes : job->reader.file_bytes;
        while (walk.at < walk.end && status == DOCDB_OK) {
            status = walk_step(&walk);
        }
    }
    return status;
}
