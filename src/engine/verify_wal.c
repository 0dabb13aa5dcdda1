/*
 * See verify.h. Here: the write-ahead log of a store that no process has open.
 *
 * Three looks: at the headers of all files; through the chain of records up to where it ends, which tells a torn
 * tail from damage and which databases come and go; and through it again for the documents that records place in
 * segments. (Only the end of the log says which databases count: the files of a dropped one may be gone.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "engine/catalog.h"
#include "engine/verify_job.h"
#include "engine/wal_reader.h"

/* A database that the log creates or drops. */
struct change {
    uint32_t id;
    bool dropped;
    char name[DOCDB_NAME_BYTES_MAX + 1];
};

struct wal_check {
    struct verify_job *job;
    char directory[VERIFY_PATH_BYTES + 8];
    struct wal_reader reader;
    uint64_t read_lsn; /* up to where reading was told as progress */
    uint64_t next_seq;
    struct change *changes;
    size_t change_count;
    bool damaged; /* a file header, or the chain: the rest can't be read */
    int status;   /* of a listing */
};

/* ---- File headers ---- */

static int add_bytes(void *arg, const char *name) {
    struct wal_check *check = arg;
    char path[VERIFY_PATH_BYTES + 300];
    struct os_stat stat = {0};
    (void)snprintf(path, sizeof path, "%s/%s", check->directory, name);
    if (strstr(name, ".wal") != NULL && os_stat(check->job->os, path, &stat) == 0) {
        check->read_lsn += stat.bytes;
    }
    return 0;
}

static void check_init(struct wal_check *check, struct verify_job *job) {
    *check = (struct wal_check){.job = job, .next_seq = job->manifest.commit_seq + 1};
    (void)snprintf(check->directory, sizeof check->directory, "%s/wal", job->directory);
}

uint64_t verify_wal_bytes(struct verify_job *job) {
    struct wal_check check;
    check_init(&check, job);
    (void)os_list(job->os, check.directory, add_bytes, &check);
    return check.read_lsn;
}

/* What is wrong with a file's header; NULL: nothing. */
static const char *header_problem(const struct wal_check *check, const char *path, uint64_t number) {
    const struct docdb_os *os = check->job->os;
    struct wal_file_header header = {0};
    uint8_t block[WAL_BLOCK_BYTES];
    int file = os_open(os, path, OS_READ);
    int64_t got = file < 0 ? file : os_pread(os, file, block, sizeof block, 0);
    if (file >= 0) {
        (void)os_close(os, file);
    }
    if (got < 0) {
        return docdb_error_text(error_from_os(got));
    }
    enum wal_header_status status =
        (size_t)got < sizeof block ? WAL_HEADER_BAD : wal_file_header_decode(block, &header);
    if (status == WAL_HEADER_NEWER) {
        return "a format version that is newer than this program, or damaged";
    }
    if (status == WAL_HEADER_BAD) {
        return "a header that does not match its checksum";
    }
    return header.store_id != check->job->manifest.store_id || header.number != number
               ? "the header of another file"
               : NULL;
}

static int header_check(void *arg, const char *name) {
    struct wal_check *check = arg;
    char path[VERIFY_PATH_BYTES + 300];
    char *end = NULL;
    unsigned long long number = strtoull(name, &end, 16);
    if (strcmp(end, ".wal") != 0) {
        return 0;
    }
    (void)snprintf(path, sizeof path, "%s/%s", check->directory, name);
    const char *what = header_problem(check, path, number);
    if (what != NULL) {
        check->damaged = true;
        check->status = verify_damage(check->job, path, 0, "", "", 0, what);
    }
    return check->status != DOCDB_OK;
}

/* ---- Where in the files ---- */

/* The file that holds `lsn`, and where in it; the directory when there is none. */
static uint64_t lsn_place(const struct wal_check *check, uint64_t lsn, char *path, size_t path_bytes) {
    const struct wal_reader *reader = &check->reader;
    for (size_t i = 0; i < reader->file_count; i++) {
        if (lsn >= reader->files[i].start_lsn && lsn < wal_file_end(&reader->files[i])) {
            wal_file_path(check->directory, reader->files[i].number, path, path_bytes);
            return WAL_BLOCK_BYTES + lsn - reader->files[i].start_lsn;
        }
    }
    (void)snprintf(path, path_bytes, "%s", check->directory);
    return 0;
}

/* The record that can't be read stands right behind the last one or, where the zeros of a batch's end are, at the
 * next block. */
static uint64_t bad_lsn(const struct wal_check *check) {
    const struct docdb_os *os = check->job->os;
    uint64_t lsn = check->reader.position.lsn;
    char path[VERIFY_PATH_BYTES + 64];
    uint8_t bytes[8] = {0};
    uint64_t offset = lsn_place(check, lsn, path, sizeof path);
    int file = offset == 0 ? -1 : os_open(os, path, OS_READ);
    if (file >= 0) {
        (void)os_pread(os, file, bytes, sizeof bytes, offset);
        (void)os_close(os, file);
    }
    return get_u64(bytes) == 0 ? round_up(lsn, WAL_BLOCK_BYTES) : lsn;
}

static int chain_damaged(struct wal_check *check, uint64_t lsn, const char *what) {
    char path[VERIFY_PATH_BYTES + 64];
    uint64_t offset = lsn_place(check, lsn, path, sizeof path);
    check->damaged = true;
    return verify_damage(check->job, path, offset, "", "", 0, what);
}

/* ---- Databases ---- */

/* The name of a database that is there at the end of the log; NULL: there is none. */
static const char *database_name(const struct wal_check *check, uint32_t id) {
    const struct manifest *manifest = &check->job->manifest;
    const char *name = NULL;
    for (uint32_t i = 0; i < manifest->database_count && name == NULL; i++) {
        name = manifest->databases[i].id == id ? manifest->databases[i].name : NULL;
    }
    for (size_t i = 0; i < check->change_count; i++) {
        if (check->changes[i].id == id) {
            name = check->changes[i].dropped ? NULL : check->changes[i].name;
        }
    }
    return name;
}

static int change_add(struct wal_check *check, const struct wal_op *op) {
    struct change *changes = realloc(check->changes, (check->change_count + 1) * sizeof *changes);
    if (changes == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    struct change *change = &changes[check->change_count++];
    check->changes = changes;
    *change = (struct change){.id = check->reader.header.database_id, .dropped = op->kind == WAL_OP_DROP_DATABASE};
    size_t bytes = op->id_bytes < DOCDB_NAME_BYTES_MAX ? op->id_bytes : DOCDB_NAME_BYTES_MAX;
    if (!change->dropped) {
        memcpy(change->name, op->id, bytes);
    }
    return DOCDB_OK;
}

/* ---- Records ---- */

/* The document that a record of the log placed in a segment. */
static int placed_check(struct wal_check *check, const struct wal_op *op) {
    struct verify_job *job = check->job;
    struct verify_place place = {.database_id = check->reader.header.database_id};
    struct verify_record expected = {.id = op->id,
                                     .id_bytes = op->id_bytes,
                                     .bytes = op->doc_bytes,
                                     .version = check->reader.header.commit_seq,
                                     .location = {.segment = op->segment, .offset = op->offset}};
    struct verify_found found = {.what = "its segment is missing"};
    int status = DOCDB_OK;
    place.database = database_name(check, place.database_id);
    if (place.database == NULL) {
        return DOCDB_OK; /* it is dropped */
    }
    database_path(job->directory, place.database_id, place.directory, sizeof place.directory);
    if (verify_reader_open(job, &place, op->segment)) { /* no index file may list it yet */
        status = verify_segment_header(job, &place, &(struct segment_extent){.number = op->segment});
    }
    if (status == DOCDB_OK && job->reader.file >= 0) {
        status = verify_record(job, location_bytes(expected.location), job->reader.file_bytes,
                               segment_record_bytes(op->id_bytes, op->doc_bytes), &expected, &found);
    }
    if (status == DOCDB_OK && found.what == NULL && found.record.checksum != op->doc_checksum) {
        found.what = "another document than the log says";
    }
    return status == DOCDB_OK && found.what != NULL ? verify_record_damaged(job, &place, &expected, found.what)
                                                    : status;
}

/* The first time: databases that come and go. The second time: documents. */
static int record_ops(struct wal_check *check, bool second) {
    const struct wal_record_header *header = &check->reader.header;
    uint64_t at = 0;
    int status = DOCDB_OK;
    for (uint32_t i = 0; i < header->op_count && status == DOCDB_OK; i++) {
        struct wal_op op;
        if (!wal_op_decode(check->reader.meta, header->meta_bytes, &at, &op)) {
            return DOCDB_OK; /* wal_reader_next checked it */
        }
        bool is_change = op.kind == WAL_OP_CREATE_DATABASE || op.kind == WAL_OP_DROP_DATABASE;
        bool is_placed = op.kind == WAL_OP_PUT_IN_SEGMENT;
        if (!second && is_change) {
            status = change_add(check, &op);
        } else if (second && is_placed) {
            status = placed_check(check, &op);
        }
        check->job->documents += second && (is_placed || op.kind == WAL_OP_PUT) ? 1 : 0;
    }
    return status;
}

static int chain_read(struct wal_check *check, bool second) {
    struct verify_job *job = check->job;
    int status = wal_reader_next(&check->reader);
    while (status == DOCDB_OK) {
        const struct wal_record_header *header = &check->reader.header;
        status = verify_read(job, check->reader.position.lsn - check->read_lsn);
        check->read_lsn = check->reader.position.lsn;
        if (status == DOCDB_OK && header->commit_seq > job->manifest.commit_seq) {
            if (header->commit_seq != check->next_seq) {
                return second ? DOCDB_OK : chain_damaged(check, header->lsn, "a commit is missing before this one");
            }
            check->next_seq++;
            status = record_ops(check, second);
        }
        if (status == DOCDB_OK) {
            status = wal_reader_next(&check->reader);
        }
    }
    return status == DOCDB_ERR_END ? DOCDB_OK : status;
}

/* One of the two ways through the log. */
static int chain_check(struct wal_check *check, bool second) {
    struct verify_job *job = check->job;
    docdb_error error = {0};
    check->read_lsn = job->manifest.replay.lsn;
    check->next_seq = job->manifest.commit_seq + 1;
    int status = wal_reader_open(&check->reader, job->os, &job->quiet, check->directory, job->manifest.store_id,
                                 job->manifest.replay, &error);
    bool opened = status == DOCDB_OK;
    if (opened) {
        status = chain_read(check, second);
    }
    if (status == DOCDB_OK && !second && !check->damaged) {
        status = wal_reader_check_tail(&check->reader, &error);
    }
    bool is_damage = status != DOCDB_OK && !verify_is_over(status);
    if (is_damage && !opened) { /* a file is missing, or can't be read */
        check->damaged = true;
        status = verify_damage(job, check->directory, 0, "", "", 0, error.message);
    } else if (is_damage) {
        status = chain_damaged(check, bad_lsn(check),
                               status == DOCDB_ERR_CORRUPT
                                   ? "a record that can't be read, though what follows shows that it was on disk"
                                   : docdb_error_text(status));
    }
    wal_reader_close(&check->reader);
    return status;
}

int verify_wal(struct verify_job *job) {
    struct wal_check check;
    check_init(&check, job);
    int rc = os_list(job->os, check.directory, header_check, &check);
    if (rc < 0) {
        return verify_damage(job, check.directory, 0, "", "", 0, "the directory can't be listed");
    }
    int status = check.status;
    if (status == DOCDB_OK && !check.damaged) {
        status = chain_check(&check, false);
    }
    if (status == DOCDB_OK) { /* up to where the chain is whole */
        bool readable = !check.damaged || check.next_seq > job->manifest.commit_seq + 1;
        status = readable ? chain_check(&check, true) : DOCDB_OK;
    }
    free(check.changes);
    return status;
}
