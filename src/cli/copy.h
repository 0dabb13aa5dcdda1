/*
 * A data directory that is being written from a backup: by `docdb backup DIR` and by `docdb restore`.
 *
 * Happy path: copy_open makes the directory, which must not exist or be empty; copy_write stores the parts of one
 * file after the other; copy_finish gives MANIFEST its name. Each file is synced before the next begins, MANIFEST
 * is written as MANIFEST.tmp and renamed when all else is durable: whatever ends this early leaves no data
 * directory behind.
 *
 * What is written may come from anywhere (a tar that a stranger made, a server), so only names that a backup has
 * are taken, each once, and no file is ever opened that was there before.
 *
 * Failure: reported where it happens; copy_close then removes what was made, and only that.
 */
#ifndef DOCDB_CLI_COPY_H
#define DOCDB_CLI_COPY_H

#include "cli/cli.h"

#define COPY_NAME_BYTES   48 /* of a path in a backup: "db/IIIIIIII/CCCCCCCCCCCCCCCC.idx" */
#define COPY_BUFFER_BYTES DOCDB_BACKUP_CHUNK_BYTES_MAX

enum copy_kind {
    COPY_NONE,     /* nothing that a backup has */
    COPY_TOP,      /* "db", "wal" */
    COPY_DATABASE, /* "db/IIIIIIII" */
    COPY_DATA,     /* a segment or an index file */
    COPY_MANIFEST, /* the last file */
};
/* What a path in a backup is. Directories may end with a slash. */
enum copy_kind copy_kind(const char *path);

struct copy {
    struct cli *cli;
    const char *directory; /* as the user called it; escaped for messages: */
    char shown[512];
    bool made; /* the directory was not there */
    bool done;
    int root; /* the directory, or -1 */

    char name[COPY_NAME_BYTES]; /* of the file that is being written; "" between two files */
    int file;                   /* or -1 */
    uint64_t offset;            /* so much of it is written */
    bool has_manifest;

    char (*made_files)[COPY_NAME_BYTES]; /* to be removed on failure */
    size_t made_count;
    size_t made_capacity;
};

/* All return exit codes, after saying what failed. copy_close is due whatever copy_open returns. */
int copy_open(struct copy *copy, struct cli *cli, const char *directory);
/* Stores a part of a file, which has `file_bytes` bytes. Offset 0 begins a file; the part that reaches its end ends
 * it.
 */
int copy_write(struct copy *copy, const char *path, uint64_t file_bytes, uint64_t offset, const void *data,
               size_t bytes);
/* Makes the directory a data directory, durably. Fails when MANIFEST did not come. */
int copy_finish(struct copy *copy);
void copy_close(struct copy *copy);

/* The exit code for an errno value of a file. */
int copy_exit_code(int error);

/* ---- Tar (tar.c) ---- */

struct archive;
struct tar_writer {
    struct cli *cli;
    struct archive *archive;
};

/* Begins a tar on stdout. Return exit codes; a failure of stdout is in cli->output_errno, to be told by main. */
int tar_open(struct tar_writer *tar, struct cli *cli);
int tar_write(struct tar_writer *tar, const docdb_backup_chunk *chunk);
int tar_finish(struct tar_writer *tar);
/* Without tar_finish: the tar has no end, and no reader takes it for whole. */
void tar_close(struct tar_writer *tar);

/* Writes the files of a tar on stdin. */
struct progress;
int tar_restore(struct copy *copy, struct progress *progress);

/* ---- Progress (progress.c): a line on stderr when that is a terminal, else nothing ---- */

struct progress {
    struct cli *cli;
    const char *what;
    uint64_t total; /* 0: unknown */
    bool is_shown;
    int64_t start_ns;
    int64_t drawn_ns; /* 0: never */
};
void progress_begin(struct progress *progress, struct cli *cli, const char *what);
void progress_step(struct progress *progress, uint64_t done, uint64_t total);
/* Clears the line, for whatever is said next. */
void progress_end(struct progress *progress);

#endif
