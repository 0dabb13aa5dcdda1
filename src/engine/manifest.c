/* See manifest.h and docs/ondisk_format.md. */
#include "engine/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/names.h"

#define MAGIC              UINT64_C(0x314e414d42444344) /* "DCDBMAN1" */
#define FORMAT_VERSION     1u
#define HEADER_BYTES       80u
#define CHECKSUM_OFFSET    72u
#define ENTRY_BYTES        96u
#define PATH_BYTES         4096
#define MANIFEST_BYTES_MAX (HEADER_BYTES + (uint64_t)LIMIT_DATABASES * ENTRY_BYTES)

/* header: 0 magic u64, 8 version u32, 12 database_count u32, 16 store_id u64, 24 checkpoint_number u64, 32
 * commit_seq u64, 40 replay_lsn u64, 48 replay_prev_checksum u64, 56 next_database_id u32, 60 zero u32, 64 bytes of
 * the file u64, 72 checksum u64 of the rest: of bytes 0..71 and of the entries. entry: 0 id u32, 4 name_bytes
 * u8, 5..7 zero, 8 checkpoint_number u64, 16 checkpoint_seq u64, 24 change_time_ns i64, 32 name[64]. */
static uint64_t manifest_checksum(const uint8_t *bytes, uint64_t length) {
    return checksum_seeded(bytes + HEADER_BYTES, length - HEADER_BYTES, checksum(bytes, CHECKSUM_OFFSET));
}

static bool entry_decode(const uint8_t *in, struct manifest_database *out) {
    uint8_t name_bytes = get_u8(in + 4);
    if (!name_valid((const char *)in + 32, name_bytes)) {
        return false;
    }
    out->id = get_u32(in);
    out->checkpoint_number = get_u64(in + 8);
    out->checkpoint_seq = get_u64(in + 16);
    out->change_time_ns = get_i64(in + 24);
    memcpy(out->name, in + 32, name_bytes);
    out->name[name_bytes] = '\0';
    return true;
}

static int decode(const uint8_t *bytes, uint64_t length, struct manifest *out) {
    *out = (struct manifest){0};
    if (length < HEADER_BYTES || get_u64(bytes) != MAGIC) {
        return DOCDB_ERR_CORRUPT;
    }
    if (get_u32(bytes + 8) > FORMAT_VERSION) {
        return DOCDB_ERR_NEWER_FORMAT;
    }
    out->database_count = get_u32(bytes + 12);
    if (length != HEADER_BYTES + (uint64_t)out->database_count * ENTRY_BYTES || get_u64(bytes + 64) != length ||
        get_u64(bytes + CHECKSUM_OFFSET) != manifest_checksum(bytes, length)) {
        return DOCDB_ERR_CORRUPT;
    }
    out->store_id = get_u64(bytes + 16);
    out->checkpoint_number = get_u64(bytes + 24);
    out->commit_seq = get_u64(bytes + 32);
    out->replay.lsn = get_u64(bytes + 40);
    out->replay.prev_checksum = get_u64(bytes + 48);
    out->next_database_id = get_u32(bytes + 56);
    out->databases = calloc(out->database_count + 1u, sizeof *out->databases);
    if (out->databases == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < out->database_count; i++) {
        if (!entry_decode(bytes + HEADER_BYTES + (size_t)i * ENTRY_BYTES, &out->databases[i])) {
            manifest_fini(out);
            return DOCDB_ERR_CORRUPT;
        }
    }
    return DOCDB_OK;
}

int manifest_read(const struct docdb_os *os, const char *directory, struct manifest *out) {
    char path[PATH_BYTES];
    struct os_stat stat = {0};
    (void)snprintf(path, sizeof path, "%s/MANIFEST", directory);
    int file = os_open(os, path, OS_READ);
    if (file < 0) {
        return file == -ENOENT ? DOCDB_ERR_NOT_FOUND : error_from_os(file);
    }
    int status = error_from_os(os_fstat(os, file, &stat));
    uint8_t *bytes = NULL;
    if (status == DOCDB_OK && stat.bytes > MANIFEST_BYTES_MAX) {
        status = DOCDB_ERR_CORRUPT;
    }
    if (status == DOCDB_OK) {
        bytes = malloc((size_t)stat.bytes + 1);
        status = bytes == NULL ? DOCDB_ERR_MEMORY : DOCDB_OK;
    }
    if (status == DOCDB_OK) {
        int64_t got = os_pread(os, file, bytes, (size_t)stat.bytes, 0);
        status = got < 0 ? error_from_os(got) : decode(bytes, (uint64_t)got, out);
    }
    free(bytes);
    (void)os_close(os, file);
    return status;
}

void manifest_fini(struct manifest *manifest) {
    free(manifest->databases);
    manifest->databases = NULL;
}

int manifest_encode(const struct manifest *manifest, uint8_t **out, size_t *out_bytes) {
    uint64_t length = HEADER_BYTES + (uint64_t)manifest->database_count * ENTRY_BYTES;
    uint8_t *bytes = calloc(1, (size_t)length);
    if (bytes == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    put_u64(bytes, MAGIC);
    put_u32(bytes + 8, FORMAT_VERSION);
    put_u32(bytes + 12, manifest->database_count);
    put_u64(bytes + 16, manifest->store_id);
    put_u64(bytes + 24, manifest->checkpoint_number);
    put_u64(bytes + 32, manifest->commit_seq);
    put_u64(bytes + 40, manifest->replay.lsn);
    put_u64(bytes + 48, manifest->replay.prev_checksum);
    put_u32(bytes + 56, manifest->next_database_id);
    put_u64(bytes + 64, length);
    for (uint32_t i = 0; i < manifest->database_count; i++) {
        const struct manifest_database *database = &manifest->databases[i];
        uint8_t *entry = bytes + HEADER_BYTES + (size_t)i * ENTRY_BYTES;
        put_u32(entry, database->id);
        put_u8(entry + 4, (uint8_t)strlen(database->name));
        put_u64(entry + 8, database->checkpoint_number);
        put_u64(entry + 16, database->checkpoint_seq);
        put_i64(entry + 24, database->change_time_ns);
        memcpy(entry + 32, database->name, strlen(database->name));
    }
    put_u64(bytes + CHECKSUM_OFFSET, manifest_checksum(bytes, length));
    *out = bytes;
    *out_bytes = (size_t)length;
    return DOCDB_OK;
}

int manifest_write(const struct docdb_os *os, const char *directory, const struct manifest *manifest) {
    char path[PATH_BYTES];
    char temporary[PATH_BYTES];
    uint8_t *bytes = NULL;
    size_t length = 0;
    int status = manifest_encode(manifest, &bytes, &length);
    if (status != DOCDB_OK) {
        return status;
    }
    (void)snprintf(path, sizeof path, "%s/MANIFEST", directory);
    (void)snprintf(temporary, sizeof temporary, "%s/MANIFEST.tmp", directory);
    int file = os_open(os, temporary, OS_WRITE | OS_CREATE | OS_TRUNCATE);
    int rc = file < 0 ? file : os_pwrite(os, file, bytes, length, 0);
    if (rc >= 0) {
        rc = os_sync(os, file);
    }
    if (file >= 0) {
        (void)os_close(os, file);
    }
    if (rc >= 0) {
        rc = os_rename(os, temporary, path);
    }
    if (rc >= 0) {
        rc = os_sync_directory(os, directory);
    }
    free(bytes);
    return error_from_os(rc);
}
