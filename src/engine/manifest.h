/*
 * The manifest: the one file that says what the newest checkpoint consists of. It is replaced atomically (written
 * beside, synced, renamed, directory synced), so it is always one whole checkpoint. docs/ondisk_format.md is the
 * specification.
 */
#ifndef DOCDB_ENGINE_MANIFEST_H
#define DOCDB_ENGINE_MANIFEST_H

#include "base/os.h"
#include "docdb.h"
#include "engine/wal.h"

struct manifest_database {
    uint32_t id;
    char name[DOCDB_NAME_BYTES_MAX + 1];
    uint64_t checkpoint_number; /* of its index file; 0: it has none */
    uint64_t checkpoint_seq;
    int64_t change_time_ns;
};

struct manifest {
    uint64_t store_id;
    uint64_t checkpoint_number;
    uint64_t commit_seq;        /* everything up to it is in the index files */
    struct wal_position replay; /* where the log goes on after it */
    uint32_t next_database_id;
    uint32_t database_count;
    struct manifest_database *databases; /* from malloc */
    /* In memory only: databases are left out that commit_seq still had, since they were dropped after it. Together
     * with the log it is whole, on its own it is no state that ever was. */
    bool lacks_dropped;
};

/* Reads <directory>/MANIFEST. Errors: NOT_FOUND, NEWER_FORMAT, CORRUPT, IO, MEMORY. On DOCDB_OK: manifest_fini. */
int manifest_read(const struct docdb_os *os, const char *directory, struct manifest *out);
void manifest_fini(struct manifest *manifest);

/* The bytes of the file, for manifest_write and for backups; *out is the caller's, from malloc. Errors: MEMORY. */
int manifest_encode(const struct manifest *manifest, uint8_t **out, size_t *out_bytes);
/* Replaces the manifest; durable when it returns DOCDB_OK. Errors: IO, NO_SPACE, MEMORY; the old one then stands.
 */
int manifest_write(const struct docdb_os *os, const char *directory, const struct manifest *manifest);

#endif
