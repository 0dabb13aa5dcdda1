/* See copy.h. */
#include "cli/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST           "MANIFEST"
#define MANIFEST_TEMPORARY "MANIFEST.tmp"

int copy_exit_code(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
        return EXIT_CODE_LIMIT;
    case EACCES:
    case EPERM:
    case EROFS:
        return EXIT_CODE_PERMISSION;
    case ENOENT:
    case ENOTDIR:
        return EXIT_CODE_NOT_FOUND;
    default:
        return EXIT_CODE_FAILED;
    }
}

/* ---- Names ---- */

/* Skips exactly `count` hex digits as DocDB writes them; NULL when there are others. */
static const char *hex_skip(const char *text, size_t count) {
    return text != NULL && strspn(text, "0123456789abcdef") == count ? text + count : NULL;
}

enum copy_kind copy_kind(const char *path) {
    static const char *const tops[] = {"db", "db/", "wal", "wal/"};
    for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++) {
        if (strcmp(path, tops[i]) == 0) {
            return COPY_TOP;
        }
    }
    if (strcmp(path, MANIFEST) == 0) {
        return COPY_MANIFEST;
    }
    const char *rest = strncmp(path, "db/", 3) == 0 ? hex_skip(path + 3, 8) : NULL;
    if (rest == NULL) {
        return COPY_NONE;
    }
    if (rest[0] == '\0' || strcmp(rest, "/") == 0) {
        return COPY_DATABASE;
    }
    const char *segment = rest[0] == '/' ? hex_skip(rest + 1, 8) : NULL;
    const char *run = rest[0] == '/' ? hex_skip(rest + 1, 16) : NULL;
    bool is_data = (segment != NULL && strcmp(segment, ".seg") == 0) || (run != NULL && strcmp(run, ".idx") == 0);
    return is_data ? COPY_DATA : COPY_NONE;
}

/* ---- The directory ---- */

static int failed(const struct copy *copy, const char *what, const char *name) {
    int error = errno;
    return report(copy->cli, copy_exit_code(error), "can't %s %s%s%s: %s", what, copy->shown,
                  name[0] != '\0' ? "/" : "", name, strerror(error));
}

static int sync_directory(const struct copy *copy, const char *name) {
    int directory = openat(copy->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fsync(directory) != 0) {
        int code = failed(copy, "sync the directory", name);
        if (directory >= 0) {
            (void)close(directory);
        }
        return code;
    }
    (void)close(directory);
    return EXIT_CODE_OK;
}

static int check_empty(const struct copy *copy) {
    int file = openat(copy->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = file < 0 ? NULL : fdopendir(file);
    if (listing == NULL) {
        int code = failed(copy, "list the directory", "");
        if (file >= 0) {
            (void)close(file);
        }
        return code;
    }
    bool empty = true;
    const struct dirent *entry;
    while ((entry = readdir(listing)) != NULL) { /* NOLINT(concurrency-mt-unsafe): a listing of our own */
        empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    }
    (void)closedir(listing);
    return empty ? EXIT_CODE_OK
                 : report(copy->cli, EXIT_CODE_REFUSED,
                          "the directory %s is not empty; name one that is, or that does not exist", copy->shown);
}

int copy_open(struct copy *copy, struct cli *cli, const char *directory) {
    *copy = (struct copy){.cli = cli, .directory = directory, .root = -1, .file = -1};
    (void)output_escape(directory, copy->shown, sizeof copy->shown);
    copy->made = mkdir(directory, 0700) == 0;
    if (!copy->made && errno == ENOENT) {
        return report(cli, EXIT_CODE_NOT_FOUND,
                      "can't create the directory %s: its parent directory does not exist; create it first",
                      copy->shown);
    }
    if (!copy->made && errno != EEXIST) {
        return failed(copy, "create the directory", "");
    }
    copy->root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy->root < 0) {
        return failed(copy, "open the directory", "");
    }
    int code = check_empty(copy);
    if (code != EXIT_CODE_OK) {
        copy->done = true; /* nothing is ours */
        return code;
    }
    if (mkdirat(copy->root, "db", 0700) != 0) {
        return failed(copy, "create", "db");
    }
    return mkdirat(copy->root, "wal", 0700) == 0 ? EXIT_CODE_OK : failed(copy, "create", "wal");
}

/* ---- Files ---- */

static int refuse(const struct copy *copy, const char *path, const char *why) {
    char escaped[256];
    return report(copy->cli, EXIT_CODE_UNUSABLE, "this is no backup of DocDB: %s %s; nothing was kept",
                  output_escape(path, escaped, sizeof escaped), why);
}

/* Remembers a file that is about to be made. */
static bool made_add(struct copy *copy, const char *name) {
    if (copy->made_count == copy->made_capacity) {
        size_t capacity = copy->made_capacity == 0 ? 64 : 2 * copy->made_capacity;
        void *files = realloc(copy->made_files, capacity * sizeof *copy->made_files);
        if (files == NULL) {
            return false;
        }
        copy->made_files = files;
        copy->made_capacity = capacity;
    }
    (void)snprintf(copy->made_files[copy->made_count++], COPY_NAME_BYTES, "%s", name);
    return true;
}

/* The directory that a file is in: ".", or "db/IIIIIIII". */
static void parent_name(const char *name, char out[COPY_NAME_BYTES]) {
    const char *slash = strrchr(name, '/');
    (void)snprintf(out, COPY_NAME_BYTES, "%.*s", slash == NULL ? 1 : (int)(slash - name),
                   slash == NULL ? "." : name);
}

static int file_begin(struct copy *copy, const char *path) {
    enum copy_kind kind = copy_kind(path);
    char parent[COPY_NAME_BYTES];
    if (kind != COPY_DATA && kind != COPY_MANIFEST) {
        return refuse(copy, path, "is no file that a backup has");
    }
    if (copy->has_manifest || copy->name[0] != '\0') {
        return refuse(copy, path, copy->has_manifest ? "comes behind MANIFEST" : "comes inside another file");
    }
    (void)snprintf(copy->name, sizeof copy->name, "%s", kind == COPY_MANIFEST ? MANIFEST_TEMPORARY : path);
    parent_name(copy->name, parent);
    if (kind == COPY_DATA && mkdirat(copy->root, parent, 0700) != 0 && errno != EEXIST) {
        return failed(copy, "create", parent);
    }
    copy->file = openat(copy->root, copy->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (copy->file < 0) {
        return errno == EEXIST ? refuse(copy, path, "comes twice") : failed(copy, "create", copy->name);
    }
    if (!made_add(copy, copy->name)) {
        (void)unlinkat(copy->root, copy->name, 0);
        return report(copy->cli, EXIT_CODE_LIMIT, "out of memory");
    }
    copy->offset = 0;
    copy->has_manifest = kind == COPY_MANIFEST;
    return EXIT_CODE_OK;
}

static int file_end(struct copy *copy) {
    char parent[COPY_NAME_BYTES];
    int rc = fsync(copy->file);
    int error = errno;
    if (close(copy->file) != 0 && rc == 0) {
        rc = -1;
        error = errno;
    }
    copy->file = -1;
    if (rc != 0) {
        errno = error;
        return failed(copy, "sync", copy->name);
    }
    parent_name(copy->name, parent);
    copy->name[0] = '\0';
    return sync_directory(copy, parent);
}

int copy_write(struct copy *copy, const char *path, uint64_t file_bytes, uint64_t offset, const void *data,
               size_t bytes) {
    int code = offset == 0 ? file_begin(copy, path) : EXIT_CODE_OK;
    if (code != EXIT_CODE_OK) {
        return code;
    }
    bool is_same = copy->file >= 0 && strcmp(path, copy->has_manifest ? MANIFEST : copy->name) == 0;
    if (!is_same || offset != copy->offset || offset > file_bytes || bytes > file_bytes - offset) {
        return refuse(copy, path, "does not come in one piece");
    }
    for (size_t at = 0; at < bytes;) {
        ssize_t put = write(copy->file, (const char *)data + at, bytes - at);
        if (put < 0 && errno != EINTR) {
            return failed(copy, "write", copy->name);
        }
        at += put > 0 ? (size_t)put : 0;
    }
    copy->offset += bytes;
    return copy->offset == file_bytes ? file_end(copy) : EXIT_CODE_OK;
}

/* ---- The end ---- */

int copy_finish(struct copy *copy) {
    static const char *const synced[] = {"wal", "db", "."};
    if (!copy->has_manifest || copy->name[0] != '\0') {
        return report(copy->cli, EXIT_CODE_UNUSABLE,
                      "the backup is not whole: it ends before its MANIFEST does; nothing was kept");
    }
    for (size_t i = 0; i < sizeof synced / sizeof synced[0]; i++) {
        int code = sync_directory(copy, synced[i]);
        if (code != EXIT_CODE_OK) {
            return code;
        }
    }
    if (renameat(copy->root, MANIFEST_TEMPORARY, copy->root, MANIFEST) != 0) {
        return failed(copy, "rename", MANIFEST_TEMPORARY);
    }
    copy->done = true; /* if a sync fails now, it is there all the same */
    int code = sync_directory(copy, ".");
    return code == EXIT_CODE_OK && copy->made ? sync_directory(copy, "..") : code;
}

/* Removes what was made, and no directory that something else is in. */
static void remove_made(const struct copy *copy) {
    char parent[COPY_NAME_BYTES];
    for (size_t i = 0; i < copy->made_count; i++) {
        (void)unlinkat(copy->root, copy->made_files[i], 0);
        parent_name(copy->made_files[i], parent);
        if (strcmp(parent, ".") != 0) {
            (void)unlinkat(copy->root, parent, AT_REMOVEDIR); /* works behind its last file */
        }
    }
    if (copy->name[0] != '\0') {
        parent_name(copy->name, parent);
        (void)unlinkat(copy->root, parent, AT_REMOVEDIR);
    }
    (void)unlinkat(copy->root, "db", AT_REMOVEDIR);
    (void)unlinkat(copy->root, "wal", AT_REMOVEDIR);
    if (copy->made) {
        (void)rmdir(copy->directory);
    }
}

void copy_close(struct copy *copy) {
    if (copy->file >= 0) {
        (void)close(copy->file);
    }
    if (copy->root >= 0) {
        if (!copy->done) {
            remove_made(copy);
        }
        (void)close(copy->root);
    }
    free(copy->made_files);
}
