/*
 * Reading a file or stdin whole, up to a limit: what is over it is refused as soon as that is known, before it is
 * read where a file's size says so, so that no input takes more memory than the largest document may.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define FIRST_CAPACITY (64u << 10)                         /* for a pipe; a file's size is known */
#define LIMIT_MAX      (2 * (uint64_t)DOCDB_DOC_BYTES_MAX) /* the largest transaction; more is a server's mistake */

struct reader {
    struct cli *cli;
    int file;
    const char *name; /* for messages */
    uint64_t limit;
    const char *advice;
    char *data;
    size_t bytes;
    size_t capacity;
};

const char *input_document_advice(const struct cli *cli) {
    return cli->socket != NULL ? "the server's --max-doc-size sets it" : "--max-doc-size sets it";
}

static int refuse_too_large(const struct reader *reader) {
    return report(reader->cli, EXIT_CODE_LIMIT, "%s is larger than the limit of %" PRIu64 " bytes (%s)",
                  reader->name, reader->limit, reader->advice);
}

/* Room for more, of which one byte is kept for the NUL: twice as much as before, but never more than the limit and
 * one byte, which shows that there is more than the limit. */
static int reader_grow(struct reader *reader, size_t wanted) {
    size_t most = (size_t)reader->limit + 2;
    size_t capacity = wanted > reader->capacity && wanted < most ? wanted : most;
    char *data = realloc(reader->data, capacity);
    if (data == NULL) {
        return report(reader->cli, EXIT_CODE_LIMIT, "out of memory while reading %s", reader->name);
    }
    reader->data = data;
    reader->capacity = capacity;
    return EXIT_CODE_OK;
}

static int reader_open(struct reader *reader, const char *path) {
    if (path == NULL) {
        return EXIT_CODE_OK;
    }
    reader->file = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->file >= 0) {
        return EXIT_CODE_OK;
    }
    int code = errno == ENOENT || errno == ENOTDIR ? EXIT_CODE_NOT_FOUND
               : errno == EACCES                   ? EXIT_CODE_PERMISSION
                                                   : EXIT_CODE_FAILED;
    return report(reader->cli, code, "can't open %s: %s", reader->name, strerror(errno));
}

/* Sizes the buffer: for a regular file by what is left of it. */
static int reader_prepare(struct reader *reader) {
    struct stat st;
    size_t capacity = FIRST_CAPACITY;
    if (fstat(reader->file, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        off_t at = lseek(reader->file, 0, SEEK_CUR);
        uint64_t left = at >= 0 && at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
        if (left > reader->limit) {
            return refuse_too_large(reader);
        }
        capacity = (size_t)left + 2;
    }
    return reader_grow(reader, capacity);
}

static int reader_fill(struct reader *reader) {
    for (;;) {
        if (reader->bytes > reader->limit) {
            return refuse_too_large(reader);
        }
        if (reader->bytes + 1 >= reader->capacity) {
            int code = reader_grow(reader, reader->capacity * 2);
            if (code != EXIT_CODE_OK) {
                return code;
            }
        }
        ssize_t got = read(reader->file, reader->data + reader->bytes, reader->capacity - 1 - reader->bytes);
        if (got == 0) {
            reader->data[reader->bytes] = '\0';
            return EXIT_CODE_OK;
        }
        if (got > 0) {
            reader->bytes += (size_t)got;
        } else if (errno != EINTR) {
            return report(reader->cli, EXIT_CODE_FAILED, "can't read %s: %s", reader->name, strerror(errno));
        }
    }
}

int input_read(struct cli *cli, const char *path, uint64_t limit, const char *advice, struct input *out) {
    char name[512] = "stdin";
    if (path != NULL && strcmp(path, "-") == 0) {
        path = NULL;
    }
    if (path != NULL) {
        (void)output_escape(path, name, sizeof name);
    }
    struct reader reader = {.cli = cli, .file = STDIN_FILENO, .name = name, .advice = advice};
    reader.limit = limit < LIMIT_MAX ? limit : LIMIT_MAX;
    int code = reader_open(&reader, path);
    if (code == EXIT_CODE_OK) {
        code = reader_prepare(&reader);
    }
    if (code == EXIT_CODE_OK) {
        code = reader_fill(&reader);
    }
    if (reader.file > STDIN_FILENO) {
        (void)close(reader.file);
    }
    if (code != EXIT_CODE_OK) {
        free(reader.data);
        return code;
    }
    *out = (struct input){.data = reader.data, .bytes = reader.bytes};
    return EXIT_CODE_OK;
}

void input_fini(struct input *input) {
    free(input->data);
    *input = (struct input){0};
}
