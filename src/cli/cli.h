/*
 * The command line: what its files share.
 *
 * main.c makes a struct cli, parse.c fills it from the arguments by the tables of table.c, and the command's
 * function does the work: it opens the runtime (runtime.c) over a socket or embedded, reads input within the
 * document limit (input.c), prints to stdout (output.c), and says on stderr what failed (report.c). Its return
 * value is the exit code.
 *
 * Everything runs on the main thread, but for the log functions (runtime_log, and serve's), which the runtime's
 * threads call. The one lock is that of struct detail, held for a copy of its text.
 */
#ifndef DOCDB_CLI_CLI_H
#define DOCDB_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/thread.h"
#include "docdb.h"

/* ---- Exit codes: documented in docs/man/docdb.1.scd and `docdb help exit-codes`, and never renumbered ---- */

/* X(name, value, text) */
#define EXIT_CODES(X)                                                                                              \
    X(OK, 0, "done")                                                                                               \
    X(FAILED, 1, "failed for a reason that none of the others names, such as an input/output error")               \
    X(USAGE, 2, "used wrongly: an unknown command or option, a bad value, a bad id or database name")              \
    X(NOT_FOUND, 3, "no such document, database, directory or input file")                                         \
    X(REFUSED, 4, "exists already, is not empty, or was changed by another commit")                                \
    X(UNREACHABLE, 5,                                                                                              \
      "no server answers, or the data directory, socket or mount point is in use; nothing was done")               \
    X(LIMIT, 6, "no space left, out of memory, or over a limit; nothing was written")                              \
    X(UNUSABLE, 7, "damaged data, or data written by a newer version")                                             \
    X(PERMISSION, 8, "permission denied, or the store is read-only")                                               \
    X(UNKNOWN, 9, "the server went away: a write in flight may or may not have been committed")

enum exit_code {
#define EXIT_CODE_ENUM(name, value, text) EXIT_CODE_##name = (value),
    EXIT_CODES(EXIT_CODE_ENUM)
#undef EXIT_CODE_ENUM
};

/* ---- The tables (table.c) ---- */

enum option_id {
    OPTION_DATA_DIR,
    OPTION_SOCKET,
    OPTION_MOUNT,
    OPTION_MAX_DOC_SIZE,
    OPTION_MAX_TXN_BYTES,
    OPTION_TXN_TIMEOUT,
    OPTION_WAL_LIMIT,
    OPTION_MEMORY,
    OPTION_SOCKET_MODE,
    OPTION_JSON,
    OPTION_LONG,
    OPTION_NULL,
    OPTION_PREFIX,
    OPTION_AFTER,
    OPTION_LIMIT,
    OPTION_IF_VERSION,
    OPTION_CREATE_DB,
    OPTION_IF_EMPTY,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_COUNT,
};

enum option_kind {
    OPTION_KIND_FLAG,
    OPTION_KIND_TEXT,
    OPTION_KIND_NUMBER,
    OPTION_KIND_SIZE,     /* bytes, with K, M or G (of 1024) */
    OPTION_KIND_DURATION, /* milliseconds, from ms, s (also without a unit) or m */
    OPTION_KIND_MODE,     /* octal permission bits */
};

struct option {
    const char *name; /* without the dashes */
    char letter;      /* its one-letter form, or 0 */
    enum option_kind kind;
    const char *value; /* what help calls its value; NULL for a flag */
    const char *help;
    uint64_t min; /* the range of a number, size, duration or mode */
    uint64_t max;
};

enum { OPERANDS_ANY = -1 };

struct cli;

struct command {
    const char *name;
    const char *operands; /* as help shows them */
    int operands_min;
    int operands_max;    /* or OPERANDS_ANY */
    unsigned options;    /* the options that it takes: bits 1 << enum option_id */
    const char *summary; /* one line */
    const char *details; /* what `docdb help NAME` adds */
    int (*run)(struct cli *cli);
};

const struct option *table_option(enum option_id id);
const struct command *table_commands(size_t *count);
/* NULL when there is none of that name. */
const struct command *table_command(const char *name);

/* ---- What a command gets ---- */

struct option_value {
    bool given;
    const char *text;
    uint64_t number;
};

/* The first error that the runtime logged and that no message has told yet: its threads write it, messages take it.
 */
#define DETAIL_BYTES 512
struct detail {
    struct mutex mutex;
    char text[DETAIL_BYTES] GUARDED_BY(mutex);
};

struct cli {
    const char *program; /* argv[0] */
    const struct command *command;
    struct option_value options[OPTION_COUNT];
    int operand_count;
    char **operands;
    /* Where the data is. serve may have both; every other command has one, and NULL in the other. */
    const char *data_dir;
    const char *socket;
    docdb *runtime; /* opened on first use by runtime_open */
    struct detail *detail;
    int output_errno;    /* why stdout failed, or 0 */
    bool progress_drawn; /* a progress line stands on stderr: cleared before anything is said there */
    size_t
        line; /* of the script that is at fault if something fails, or 0: report says that nothing was committed */
};

/* Parses the arguments. Returns EXIT_CODE_OK, or the exit code after saying what is wrong. Operands are moved to
 * the front of argv, where cli->operands points. */
int parse_arguments(struct cli *cli, int argc, char **argv);

/* ---- The runtime (runtime.c) ---- */

enum { RUNTIME_MAY_CREATE = 1 << 0 }; /* create the data directory when it is missing */

/* Opens cli->runtime unless it is open. Returns an exit code, after saying what failed. */
int runtime_open(struct cli *cli, unsigned flags);
/* Opens the runtime and a database of it, which the caller closes. flags: DOCDB_DB_ values. */
int runtime_open_db(struct cli *cli, const char *name, unsigned flags, docdb_db **out);
/* The limits that a write will meet. Over a socket this connects; embedded it leaves the data directory alone, so
 * that a command waits for its input without holding the directory's lock. */
int runtime_limits(struct cli *cli, docdb_limits *out);
/* A docdb_log_fn for commands; arg is a struct detail. An error is kept for the message that says what failed
 * because of it; a warning is printed. */
void runtime_log(void *arg, docdb_log_level level, const char *line);
/* NULL-safe. A checkpoint that failed is a warning, and without room for one not even that: what was committed is
 * durable without it. Returns the status of docdb_close. */
int runtime_close(struct cli *cli);

/* ---- Errors (report.c) ---- */

/* Prints "docdb COMMAND: ..." (with the line of the script, if any) as one line on stderr, and returns exit_code.
 */
__attribute__((format(printf, 3, 4))) int report(const struct cli *cli, int exit_code, const char *format, ...);
/* Takes the detail out. False when there is none. */
bool report_take_detail(struct detail *detail, char *buffer, size_t bytes);
/* The exit code for a DOCDB_ERR_ value. */
int report_exit_code(int status);
/* Reports a status of an operation on a database, or a document of it (id may be NULL), with what can be done about
 * it. */
int report_status(struct cli *cli, int status, const char *db, const char *id);
/* More about a status: why, beginning with ": ", or what can be done about it, beginning with "; ", or "". The
 * buffer is the caller's. */
const char *report_hint(struct cli *cli, int status, const char *db, char *buffer, size_t bytes);

/* ---- Input (input.c) ---- */

struct input {
    char *data; /* NUL-terminated beyond its bytes */
    size_t bytes;
};

/* Reads a file ("-" or NULL: stdin) of at most `limit` bytes; `advice` says what to do about a larger one. Returns
 * an exit code, after saying what failed; input_fini is for success only. */
int input_read(struct cli *cli, const char *path, uint64_t limit, const char *advice, struct input *out);
/* The advice for a document. */
const char *input_document_advice(const struct cli *cli);
void input_fini(struct input *input);

/* ---- Output (output.c) ---- */

/* For terminals and messages: control characters, backslashes and bytes that are not UTF-8 as \n, \\, \xHH. */
#define OUTPUT_ESCAPED_BYTES(bytes) ((bytes)*4 + 1)
/* Returns buffer; cut off, but still terminated, when it is too small. */
const char *output_escape(const char *text, char *buffer, size_t bytes);
/* The length of the UTF-8 sequence at `text`, or 0 when it is none. */
size_t output_utf8_length(const char *text, size_t bytes);

/* "2026-01-31T12:00:00.123456789Z", with `digits` (0 to 9) digits of the second. */
#define OUTPUT_TIME_BYTES 64
const char *output_time(int64_t time_ns, int digits, char buffer[OUTPUT_TIME_BYTES]);

/* Everything that goes to stdout goes through these. The first failure is kept in cli->output_errno; after it they
 * do nothing, and a command that prints much looks at output_ok to stop early. */
void output_bytes(struct cli *cli, const void *data, size_t bytes);
__attribute__((format(printf, 2, 3))) void output_printf(struct cli *cli, const char *format, ...);
bool output_ok(const struct cli *cli);
/* An id or name on a line of its own: escaped on a terminal, as it is elsewhere; with --null it ends with a NUL. */
void output_name(struct cli *cli, const char *name);
void output_json_string(struct cli *cli, const char *text);
/* "id": "...", and "id_base64": "..." when the id is not UTF-8. */
void output_json_id(struct cli *cli, const char *id);

/* Flushes stdout. Returns EXIT_CODE_OK, or EXIT_CODE_FAILED or EXIT_CODE_LIMIT (no space) with cli->output_errno
 * set. Says nothing. */
int output_finish(struct cli *cli);

/* ---- The commands ---- */

int command_serve(struct cli *cli);
int command_create(struct cli *cli);
int command_read(struct cli *cli);
int command_update(struct cli *cli);
int command_put(struct cli *cli);
int command_delete(struct cli *cli);
int command_stat(struct cli *cli);
int command_ls(struct cli *cli);
int command_txn(struct cli *cli);
int command_dbs(struct cli *cli);
int command_create_db(struct cli *cli);
int command_drop_db(struct cli *cli);
int command_stats(struct cli *cli);
int command_checkpoint(struct cli *cli);
int command_verify(struct cli *cli);
int command_backup(struct cli *cli);
int command_restore(struct cli *cli);
int command_help(struct cli *cli);
int command_version(struct cli *cli);

#endif
