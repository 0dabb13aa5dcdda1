/*
 * The tables of options and commands: parsing, help and the man page's test all go by them, so that a new command
 * is one entry here and one function.
 */
#include <string.h>

#include "cli/cli.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static const struct option options[OPTION_COUNT] = {
    [OPTION_DATA_DIR] = {"data-dir", 0, OPTION_KIND_TEXT, "DIR", "the data directory, used by this process itself",
                         0, 0},
    [OPTION_SOCKET] = {"socket", 0, OPTION_KIND_TEXT, "PATH", "the socket of a server", 0, 0},
    [OPTION_MOUNT] = {"mount", 0, OPTION_KIND_TEXT, "DIR", "also mount the databases as directories of files there",
                      0, 0},
    [OPTION_MAX_DOC_SIZE] = {"max-doc-size", 0, OPTION_KIND_SIZE, "SIZE",
                             "the largest document (default 64M, at most 1G)", 1, DOCDB_DOC_BYTES_MAX},
    [OPTION_MAX_TXN_BYTES] = {"max-txn-bytes", 0, OPTION_KIND_SIZE, "SIZE",
                              "the largest transaction (default twice --max-doc-size, at most 2G)", 1, 2 * GIB},
    [OPTION_TXN_TIMEOUT] = {"txn-timeout", 0, OPTION_KIND_DURATION, "TIME",
                            "how long a transaction may be open (default 5s, at most 60s)", 1,
                            DOCDB_TXN_TIMEOUT_MS_MAX},
    [OPTION_WAL_LIMIT] = {"wal-limit", 0, OPTION_KIND_SIZE, "SIZE",
                          "what the WAL may take on disk (default 256M, at least 16M)", 16 * MIB, 1024 * GIB},
    [OPTION_MEMORY] = {"memory", 0, OPTION_KIND_SIZE, "SIZE",
                       "documents that are on disk stay in memory up to so many bytes (default 1G)", 1 * MIB,
                       1024 * GIB},
    [OPTION_SOCKET_MODE] = {"socket-mode", 0, OPTION_KIND_MODE, "MODE",
                            "the socket's permission bits (default 0600)", 1, 0777},
    [OPTION_JSON] = {"json", 0, OPTION_KIND_FLAG, NULL, "print JSON", 0, 0},
    [OPTION_LONG] = {"long", 'l', OPTION_KIND_FLAG, NULL, "also print what is known of each", 0, 0},
    [OPTION_NULL] = {"null", '0', OPTION_KIND_FLAG, NULL, "end each name with a NUL instead of a newline", 0, 0},
    [OPTION_PREFIX] = {"prefix", 0, OPTION_KIND_TEXT, "P", "only ids that begin with P", 0, 0},
    [OPTION_AFTER] = {"after", 0, OPTION_KIND_TEXT, "ID", "only ids after ID", 0, 0},
    [OPTION_LIMIT] = {"limit", 0, OPTION_KIND_NUMBER, "N", "at most N of them", 1, UINT64_MAX},
    [OPTION_IF_VERSION] = {"if-version", 0, OPTION_KIND_NUMBER, "N",
                           "only if the document's version is N (put: 0 for no such document)", 0, UINT64_MAX},
    [OPTION_CREATE_DB] = {"create-db", 0, OPTION_KIND_FLAG, NULL,
                          "create the database (and the data directory) if missing", 0, 0},
    [OPTION_IF_EMPTY] = {"if-empty", 0, OPTION_KIND_FLAG, NULL, "only if it holds no document", 0, 0},
    [OPTION_VERBOSE] = {"verbose", 'v', OPTION_KIND_FLAG, NULL, "print the version of each commit", 0, 0},
    [OPTION_HELP] = {"help", 'h', OPTION_KIND_FLAG, NULL, "print help", 0, 0},
    [OPTION_VERSION] = {"version", 0, OPTION_KIND_FLAG, NULL, "print the version", 0, 0},
};

#define BIT(id) (1u << OPTION_##id)
#define WHERE   (BIT(DATA_DIR) | BIT(SOCKET) | BIT(HELP))
#define WRITES  (WHERE | BIT(MAX_DOC_SIZE) | BIT(VERBOSE))

static const struct command commands[] = {
    {"serve", "", 0, 0,
     WHERE | BIT(MOUNT) | BIT(MAX_DOC_SIZE) | BIT(MAX_TXN_BYTES) | BIT(TXN_TIMEOUT) | BIT(WAL_LIMIT) | BIT(MEMORY) |
         BIT(SOCKET_MODE),
     "serve a data directory on a socket, as a mount, or both",
     "Creates the data directory when it is missing (not its parent), and the mount point likewise. Prints three "
     "lines\n"
     "that show how to use it, logs to stderr, and runs until SIGINT, SIGTERM or SIGHUP; then it answers what is "
     "in\n"
     "flight, unmounts, writes a checkpoint and exits 0. A second signal exits at once, with 128 + its number.\n"
     "Where FUSE cannot be used it says why and serves the socket alone. `docdb --data-dir DIR --socket PATH`, "
     "without\n"
     "a command, means serve.",
     command_serve},
    {"create", "DB ID [FILE|-]", 2, 3, WRITES | BIT(CREATE_DB), "write a new document, from FILE or stdin",
     "Fails with exit code 4 when the document exists.", command_create},
    {"read", "DB ID...", 2, OPERANDS_ANY, WHERE, "print documents to stdout, byte for byte",
     "Several are printed one after the other. One that cannot be read is reported, the others are printed.",
     command_read},
    {"update", "DB ID [FILE|-]", 2, 3, WRITES, "replace a document, from FILE or stdin",
     "Fails with exit code 3 when there is no such document.", command_update},
    {"put", "DB ID [FILE|-]", 2, 3, WRITES | BIT(CREATE_DB) | BIT(IF_VERSION),
     "write a document, new or not, from FILE or stdin",
     "With --if-version N it fails with exit code 4 unless the document's version is N.", command_put},
    {"delete", "DB ID...", 2, OPERANDS_ANY, WHERE | BIT(VERBOSE) | BIT(IF_VERSION), "delete documents",
     "Each is a transaction of its own: one that fails is reported, the others are deleted (`docdb txn` deletes "
     "all or\n"
     "none). --if-version goes with one ID.",
     command_delete},
    {"stat", "DB ID...", 2, OPERANDS_ANY, WHERE | BIT(JSON), "print what is known of documents",
     "With --json an array with an object for each that exists.", command_stat},
    {"ls", "DB", 1, 1, WHERE | BIT(JSON) | BIT(LONG) | BIT(NULL) | BIT(PREFIX) | BIT(AFTER) | BIT(LIMIT),
     "list the documents of a database, in order",
     "With -l: bytes, version, time and id. Ids go to a terminal with control characters escaped, and elsewhere as "
     "they are.",
     command_ls},
    {"txn", "DB [SCRIPT|-]", 1, 2, WHERE | BIT(MAX_DOC_SIZE) | BIT(CREATE_DB),
     "commit a script of operations, from SCRIPT or stdin, as one transaction",
     "One operation a line; empty lines and lines that begin with # are skipped:\n"
     "  put|create|update ID FILE            with the content of FILE\n"
     "  put-text|create-text|update-text ID TEXT\n"
     "  put-if ID VERSION FILE               if the version is VERSION (0: if there is no such document)\n"
     "  put-if-text ID VERSION TEXT\n"
     "  delete ID\n"
     "  delete-if ID VERSION\n"
     "  rename FROM TO [noreplace|exchange]\n"
     "A word with blanks goes in double quotes, where \\n \\t \\r \\\\ \\\" and \\xHH stand for what they do in "
     "C.\n"
     "Prints the commit_seq. An error names its line, and nothing is committed.",
     command_txn},
    {"dbs", "", 0, 0, WHERE | BIT(JSON) | BIT(LONG) | BIT(NULL), "list the databases",
     "With -l: documents, their bytes, the time of the last change, and the name.", command_dbs},
    {"create-db", "DB...", 1, OPERANDS_ANY, WHERE, "create databases",
     "With --data-dir it creates the data directory, too, when that is missing (not its parent).",
     command_create_db},
    {"drop-db", "DB...", 1, OPERANDS_ANY, WHERE | BIT(IF_EMPTY), "drop databases and all their documents",
     "There is no way back. With --if-empty a database that holds documents is kept, with exit code 4.",
     command_drop_db},
    {"stats", "", 0, 0, WHERE | BIT(JSON), "print counters and gauges of the runtime",
     "Of the server with --socket; with --data-dir, of this process's own short use of the directory.",
     command_stats},
    {"checkpoint", "", 0, 0, WHERE, "move what is committed from the WAL into the databases' segments",
     "Returns when that is durable. It happens by itself, too (see --wal-limit); this makes the next start "
     "quicker.",
     command_checkpoint},
    {"verify", "", 0, 0, WHERE | BIT(JSON), "check every file of the data directory for damage",
     "Prints a line for each damage (file, offset, database and document, what is wrong), and a last one with what "
     "was\n"
     "checked; with --json one object a line. Exit code 7 when something is damaged. With --data-dir it also "
     "checks the "
     "WAL,\n"
     "and works on a directory that no command can open; with --socket the server goes on meanwhile.",
     command_verify},
    {"backup", "DIR|-", 1, 1, WHERE, "copy the whole store, while it is in use, to DIR or as a tar to stdout",
     "The copy is the store as it is after one commit: all that was committed before, and nothing half. DIR must "
     "not "
     "exist\n"
     "or be empty; it becomes a data directory, and the commit_seq is printed. `docdb backup - | ssh ... docdb "
     "restore "
     "-`\n"
     "copies to elsewhere. A backup that is interrupted leaves nothing that could be taken for a whole one.",
     command_backup},
    {"restore", "DIR|-", 1, 1, BIT(DATA_DIR) | BIT(HELP),
     "make a new data directory from a backup in DIR, or from a tar on stdin",
     "--data-dir NEW says where; it must not exist or be empty. A backup that is not whole is refused, and so is a "
     "tar that\n"
     "holds anything but a backup.",
     command_restore},
    {"help", "[COMMAND|exit-codes|environment]", 0, 1, BIT(HELP),
     "explain a command, the exit codes or the environment", "", command_help},
    {"version", "", 0, 0, BIT(HELP) | BIT(VERSION), "print the version", "", command_version},
};

const struct option *table_option(enum option_id id) { return &options[id]; }

const struct command *table_commands(size_t *count) {
    *count = sizeof commands / sizeof commands[0];
    return commands;
}

const struct command *table_command(const char *name) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}
