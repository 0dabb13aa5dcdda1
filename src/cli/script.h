/*
 * The scripts of `docdb txn`: lines of operations, parsed whole before anything is done.
 *
 *   script    = { line "\n" }
 *   line      = blank* [ operation | "#" any* ] blank*
 *   operation = word { blank+ word }              as the table in script.c says
 *   word      = bare | quoted
 *   bare      = one or more bytes but blanks and '"'; no escapes
 *   quoted    = '"' { byte | escape } '"'         may be empty
 *   escape    = "\n" | "\t" | "\r" | "\\" | '\"' | "\x" HEX HEX
 *   blank     = space | tab; a "\r" before the newline counts as one
 */
#ifndef DOCDB_CLI_SCRIPT_H
#define DOCDB_CLI_SCRIPT_H

#include "cli/cli.h"

enum script_kind {
    SCRIPT_PUT,
    SCRIPT_CREATE,
    SCRIPT_UPDATE,
    SCRIPT_PUT_IF,
    SCRIPT_DELETE,
    SCRIPT_DELETE_IF,
    SCRIPT_RENAME
};

struct script_op {
    enum script_kind kind;
    unsigned flags; /* RENAME: DOCDB_RENAME_ values */
    size_t line;
    const char *name; /* of the operation, as it was written */
    const char *id;
    const char *to;    /* RENAME */
    uint64_t expected; /* PUT_IF, DELETE_IF */
    const void *data;
    size_t bytes;
    struct input file; /* what data points into, when it came from a file */
};

struct script {
    struct input text; /* what the ops point into: unescaped in place */
    struct script_op *ops;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* of ids and documents, as a transaction counts them */
};

/* Reads the script at `path` ("-" or NULL: stdin) and the files it names. Returns an exit code, after saying what
 * is wrong and on which line. script_fini in both cases. */
int script_read(struct cli *cli, const char *path, const docdb_limits *limits, struct script *out);
void script_fini(struct script *script);

#endif
