/*
 * The commands backup and restore. A backup is pulled from the runtime, chunk by chunk, and goes to a directory
 * (copy.c) or into a tar on stdout (tar.c); restoring writes a directory from either. A directory that `docdb
 * backup` wrote is a data directory by itself, restoring it is a copy that checks what it copies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/copy.h"

static bool is_dash(const char *operand) { return strcmp(operand, "-") == 0; }

/* ---- Backup ---- */

struct backup {
    struct cli *cli;
    docdb_backup *source;
    struct progress progress;
    struct copy *copy; /* one of the two */
    struct tar_writer *tar;
    uint64_t commit_seq;
};

static int backup_failed(struct cli *cli, int status) {
    char hint[DETAIL_BYTES + 64];
    return report(cli, report_exit_code(status), "the backup failed: %s%s", docdb_error_text(status),
                  report_hint(cli, status, NULL, hint, sizeof hint));
}

/* Pulls all of the backup into its target. */
static int chunks_copy(struct backup *backup) {
    docdb_backup_chunk chunk;
    int code = EXIT_CODE_OK;
    int status = docdb_backup_next(backup->source, &chunk);
    while (status == DOCDB_OK && code == EXIT_CODE_OK) {
        backup->commit_seq = chunk.commit_seq;
        code = backup->copy != NULL
                   ? copy_write(backup->copy, chunk.path, chunk.file_bytes, chunk.offset, chunk.data, chunk.bytes)
                   : tar_write(backup->tar, &chunk);
        progress_step(&backup->progress, chunk.done_bytes, chunk.total_bytes);
        if (code == EXIT_CODE_OK) {
            status = docdb_backup_next(backup->source, &chunk);
        }
    }
    progress_end(&backup->progress);
    return code != EXIT_CODE_OK || status == DOCDB_ERR_END ? code : backup_failed(backup->cli, status);
}

static int backup_run(struct backup *backup) {
    int status = docdb_backup_open(backup->cli->runtime, &backup->source);
    if (status != DOCDB_OK) {
        return backup_failed(backup->cli, status);
    }
    progress_begin(&backup->progress, backup->cli, "backup");
    int code = chunks_copy(backup);
    docdb_backup_close(backup->source);
    return code;
}

static int backup_to_directory(struct cli *cli, const char *directory) {
    struct copy copy;
    struct backup backup = {.cli = cli, .copy = &copy};
    int code = copy_open(&copy, cli, directory);
    if (code == EXIT_CODE_OK) {
        code = backup_run(&backup);
    }
    if (code == EXIT_CODE_OK) {
        code = copy_finish(&copy);
    }
    copy_close(&copy);
    if (code == EXIT_CODE_OK) {
        output_printf(cli, "%" PRIu64 "\n", backup.commit_seq);
    }
    return code;
}

static int backup_to_stdout(struct cli *cli) {
    struct tar_writer tar;
    struct backup backup = {.cli = cli, .tar = &tar};
    if (isatty(STDOUT_FILENO) == 1) {
        return report(cli, EXIT_CODE_USAGE,
                      "stdout is a terminal; redirect it to a file or a pipe, or name a directory");
    }
    int code = tar_open(&tar, cli);
    if (code == EXIT_CODE_OK) {
        code = backup_run(&backup);
    }
    if (code == EXIT_CODE_OK) {
        code = tar_finish(&tar);
    }
    tar_close(&tar);
    return code;
}

int command_backup(struct cli *cli) {
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    return is_dash(cli->operands[0]) ? backup_to_stdout(cli) : backup_to_directory(cli, cli->operands[0]);
}

/* ---- Restoring a directory ---- */

/* The directory of a backup. It is walked twice: first to see that it holds a backup and nothing else, and how
 * much. */
struct source {
    struct cli *cli;
    const char *directory;
    char shown[512];
    int root;
    struct copy *copy; /* NULL: the first walk */
    struct progress progress;
    uint64_t total_bytes;
    uint64_t done_bytes;
    uint8_t *buffer;
};

static int source_failed(const struct source *source, const char *what, const char *name) {
    int error = errno;
    return report(source->cli, copy_exit_code(error), "can't %s %s/%s: %s", what, source->shown, name,
                  strerror(error));
}

static int source_refuse(const struct source *source, const char *name, const char *why) {
    char escaped[256];
    return report(source->cli, EXIT_CODE_UNUSABLE, "%s is no backup of DocDB: %s %s", source->shown,
                  output_escape(name, escaped, sizeof escaped), why);
}

static int file_copy(struct source *source, const char *name, int file, uint64_t file_bytes) {
    uint64_t offset = 0;
    int code = EXIT_CODE_OK;
    do {
        ssize_t got = read(file, source->buffer, COPY_BUFFER_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return source_failed(source, "read", name);
        }
        if (got == 0 && offset < file_bytes) {
            return source_refuse(source, name, "became shorter while it was read");
        }
        code = copy_write(source->copy, name, file_bytes, offset, source->buffer, (size_t)got);
        offset += (uint64_t)got;
        source->done_bytes += (uint64_t)got;
        progress_step(&source->progress, source->done_bytes, source->total_bytes);
    } while (code == EXIT_CODE_OK && offset < file_bytes);
    return code;
}

static int file_visit(struct source *source, const char *name) {
    struct stat st;
    int file = openat(source->root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) {
        return errno == ELOOP    ? source_refuse(source, name, "is a link")
               : errno == ENOENT ? source_refuse(source, name, "is missing, so it is not whole")
                                 : source_failed(source, "open", name);
    }
    int code = EXIT_CODE_OK;
    if (fstat(file, &st) != 0) {
        code = source_failed(source, "look at", name);
    } else if (!S_ISREG(st.st_mode)) {
        code = source_refuse(source, name, "is no file");
    } else if (source->copy == NULL) {
        source->total_bytes += (uint64_t)st.st_size;
    } else {
        code = file_copy(source, name, file, (uint64_t)st.st_size);
    }
    (void)close(file);
    return code;
}

static int directory_visit(struct source *source, const char *name);

/* One name in a directory of the backup, with the path that it has there. */
static int name_visit(struct source *source, const char *path) {
    switch (copy_kind(path)) {
    case COPY_DATA:
        return file_visit(source, path);
    case COPY_TOP:
    case COPY_DATABASE:
        return directory_visit(source, path);
    case COPY_MANIFEST:
        return EXIT_CODE_OK; /* comes last */
    default:
        break;
    }
    if (strcmp(path, "LOCK") == 0) {
        return EXIT_CODE_OK; /* it was opened once; if something was written, there is a WAL, too */
    }
    if (strncmp(path, "wal/", 4) == 0) {
        return source_refuse(source, path,
                             "shows that it was used as a data directory since; `docdb backup` copies that");
    }
    return source_refuse(source, path, "is no file that a backup has");
}

/* All names in a directory; "" is the backup's own. */
static int directory_visit(struct source *source, const char *name) {
    int file = openat(source->root, name[0] == '\0' ? "." : name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = file < 0 ? NULL : fdopendir(file);
    if (listing == NULL) {
        int code = source_failed(source, "list the directory", name);
        if (file >= 0) {
            (void)close(file);
        }
        return code;
    }
    int code = EXIT_CODE_OK;
    const struct dirent *entry = NULL;
    while (code == EXIT_CODE_OK &&
           (entry = readdir(listing)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a listing of our own */
        char path[sizeof entry->d_name + COPY_NAME_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s%s%s", name, name[0] != '\0' ? "/" : "", entry->d_name);
        code = name_visit(source, path);
    }
    (void)closedir(listing);
    return code;
}

static int source_visit(struct source *source) {
    int code = directory_visit(source, "");
    return code == EXIT_CODE_OK ? file_visit(source, "MANIFEST") : code;
}

static int source_open(struct source *source, struct cli *cli, const char *directory) {
    *source = (struct source){.cli = cli, .directory = directory, .root = -1};
    (void)output_escape(directory, source->shown, sizeof source->shown);
    source->buffer = malloc(COPY_BUFFER_BYTES);
    if (source->buffer == NULL) {
        return report(cli, EXIT_CODE_LIMIT, "out of memory");
    }
    source->root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source->root < 0) {
        int error = errno;
        return report(cli, copy_exit_code(error), "can't open the backup %s: %s%s", source->shown, strerror(error),
                      error == ENOTDIR ? "; a tar goes to stdin: docdb restore - <FILE" : "");
    }
    return source_visit(source);
}

static void source_close(struct source *source) {
    if (source->root >= 0) {
        (void)close(source->root);
    }
    free(source->buffer);
}

/* ---- Restore ---- */

static int restore_directory(struct copy *copy, struct source *source) {
    source->copy = copy;
    progress_begin(&source->progress, source->cli, "restore");
    int code = source_visit(source);
    progress_end(&source->progress);
    return code;
}

static int restore_stdin(struct copy *copy) {
    struct progress progress;
    progress_begin(&progress, copy->cli, "restore");
    int code = tar_restore(copy, &progress);
    progress_end(&progress);
    return code;
}

int command_restore(struct cli *cli) {
    const char *from = cli->operands[0];
    struct source source = {.root = -1};
    struct copy copy = {.root = -1, .file = -1};
    int code = is_dash(from) ? EXIT_CODE_OK : source_open(&source, cli, from);
    if (code == EXIT_CODE_OK) {
        code = copy_open(&copy, cli, cli->data_dir);
    }
    if (code == EXIT_CODE_OK) {
        code = is_dash(from) ? restore_stdin(&copy) : restore_directory(&copy, &source);
    }
    if (code == EXIT_CODE_OK) {
        code = copy_finish(&copy);
    }
    copy_close(&copy);
    source_close(&source);
    return code;
}
