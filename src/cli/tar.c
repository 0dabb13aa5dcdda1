/*
 * Backups as tars. See copy.h.
 *
 * A tar on stdin may be anybody's: libarchive reads its headers, and nothing of them is used but the path, the kind
 * and the length of an entry. copy.c takes only the paths that a backup has; links, devices and holes are refused
 * here.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/copy.h"

/* ---- Writing ---- */

static int write_failed(struct tar_writer *tar) {
    int error = archive_errno(tar->archive);
    tar->cli->output_errno = error != 0 ? error : EIO;
    return error == ENOSPC ? EXIT_CODE_LIMIT : EXIT_CODE_FAILED;
}

static int entry_begin(struct tar_writer *tar, const char *path, unsigned type, uint64_t bytes) {
    struct archive_entry *entry = archive_entry_new();
    if (entry == NULL) {
        return report(tar->cli, EXIT_CODE_LIMIT, "out of memory");
    }
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, type == AE_IFDIR ? 0700 : 0600);
    archive_entry_set_mtime(entry, time(NULL), 0);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    int rc = archive_write_header(tar->archive, entry);
    archive_entry_free(entry);
    return rc == ARCHIVE_OK ? EXIT_CODE_OK : write_failed(tar);
}

int tar_open(struct tar_writer *tar, struct cli *cli) {
    *tar = (struct tar_writer){.cli = cli, .archive = archive_write_new()};
    if (tar->archive == NULL) {
        return report(cli, EXIT_CODE_LIMIT, "out of memory");
    }
    if (archive_write_set_format_pax_restricted(tar->archive) != ARCHIVE_OK ||
        archive_write_open_fd(tar->archive, STDOUT_FILENO) != ARCHIVE_OK) {
        return write_failed(tar);
    }
    int code = entry_begin(tar, "db/", AE_IFDIR, 0);
    return code == EXIT_CODE_OK ? entry_begin(tar, "wal/", AE_IFDIR, 0) : code;
}

int tar_write(struct tar_writer *tar, const docdb_backup_chunk *chunk) {
    int code = chunk->offset == 0 ? entry_begin(tar, chunk->path, AE_IFREG, chunk->file_bytes) : EXIT_CODE_OK;
    if (code != EXIT_CODE_OK) {
        return code;
    }
    la_ssize_t written = chunk->bytes == 0 ? 0 : archive_write_data(tar->archive, chunk->data, chunk->bytes);
    return written == (la_ssize_t)chunk->bytes ? EXIT_CODE_OK : write_failed(tar);
}

int tar_finish(struct tar_writer *tar) {
    return archive_write_close(tar->archive) == ARCHIVE_OK ? EXIT_CODE_OK : write_failed(tar);
}

void tar_close(struct tar_writer *tar) {
    if (tar->archive != NULL) {
        (void)archive_write_fail(tar->archive); /* no end of the tar, if there is none yet */
        (void)archive_write_free(tar->archive);
    }
}

/* ---- Reading ---- */

struct tar_reader {
    struct copy *copy;
    struct progress *progress;
    struct archive *archive;
    uint64_t done_bytes;
    uint8_t *buffer;
};

static int read_failed(const struct tar_reader *tar) {
    const char *why = archive_error_string(tar->archive);
    return report(tar->copy->cli, EXIT_CODE_UNUSABLE,
                  "can't read the tar on stdin: %s; nothing was kept, make the backup again",
                  why != NULL ? why : strerror(archive_errno(tar->archive)));
}

/* What is wrong with an entry, before it is looked at any closer; NULL: nothing. */
static const char *entry_check(struct archive_entry *entry, const char *path) {
    enum copy_kind kind = copy_kind(path);
    if (archive_entry_hardlink(entry) != NULL || archive_entry_symlink(entry) != NULL) {
        return "is a link";
    }
    if (kind == COPY_NONE) {
        return "is no path that a backup has";
    }
    bool is_directory = kind == COPY_TOP || kind == COPY_DATABASE;
    if (archive_entry_filetype(entry) != (is_directory ? AE_IFDIR : AE_IFREG)) {
        return is_directory ? "is no directory" : "is no file";
    }
    if (archive_entry_sparse_count(entry) > 0 || (!is_directory && !archive_entry_size_is_set(entry)) ||
        archive_entry_size(entry) < 0) {
        return "is a file with holes or of no length";
    }
    return NULL;
}

static int file_restore(struct tar_reader *tar, const char *path, uint64_t file_bytes) {
    uint64_t offset = 0;
    int code = EXIT_CODE_OK;
    do {
        la_ssize_t got = archive_read_data(tar->archive, tar->buffer, COPY_BUFFER_BYTES);
        if (got < 0 || (got == 0 && offset < file_bytes)) {
            return read_failed(tar);
        }
        code = copy_write(tar->copy, path, file_bytes, offset, tar->buffer, (size_t)got);
        offset += (uint64_t)got;
        tar->done_bytes += (uint64_t)got;
        progress_step(tar->progress, tar->done_bytes, 0);
    } while (code == EXIT_CODE_OK && offset < file_bytes);
    return code;
}

static int entry_restore(struct tar_reader *tar, struct archive_entry *entry) {
    char escaped[256];
    const char *name = archive_entry_pathname(entry);
    const char *problem = name == NULL ? "is no path that a backup has" : entry_check(entry, name);
    if (problem != NULL) {
        return report(tar->copy->cli, EXIT_CODE_UNUSABLE,
                      "the tar on stdin is no backup of DocDB: %s %s; nothing was kept",
                      output_escape(name != NULL ? name : "an entry", escaped, sizeof escaped), problem);
    }
    char path[COPY_NAME_BYTES]; /* libarchive's lives as long as the entry, which reading its data may change */
    (void)snprintf(path, sizeof path, "%s", name);
    enum copy_kind kind = copy_kind(path);
    return kind == COPY_DATA || kind == COPY_MANIFEST ? file_restore(tar, path, (uint64_t)archive_entry_size(entry))
                                                      : EXIT_CODE_OK; /* directories are made as they are needed */
}

static int entries_restore(struct tar_reader *tar) {
    struct archive_entry *entry = NULL;
    int code = EXIT_CODE_OK;
    while (code == EXIT_CODE_OK) {
        int rc = archive_read_next_header(tar->archive, &entry);
        if (rc == ARCHIVE_EOF) {
            return EXIT_CODE_OK;
        }
        code = rc == ARCHIVE_OK ? entry_restore(tar, entry) : read_failed(tar);
    }
    return code;
}

int tar_restore(struct copy *copy, struct progress *progress) {
    struct tar_reader tar = {.copy = copy, .progress = progress, .archive = archive_read_new()};
    tar.buffer = malloc(COPY_BUFFER_BYTES);
    int code = tar.archive == NULL || tar.buffer == NULL ? report(copy->cli, EXIT_CODE_LIMIT, "out of memory")
                                                         : EXIT_CODE_OK;
    if (code == EXIT_CODE_OK) {
        bool is_open = archive_read_support_format_tar(tar.archive) == ARCHIVE_OK &&
                       archive_read_open_fd(tar.archive, STDIN_FILENO, COPY_BUFFER_BYTES) == ARCHIVE_OK;
        code = is_open ? entries_restore(&tar) : read_failed(&tar);
    }
    if (tar.archive != NULL) {
        (void)archive_read_free(tar.archive);
    }
    free(tar.buffer);
    return code;
}
