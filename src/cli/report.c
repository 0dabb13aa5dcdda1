/*
 * What stderr gets: one line for each thing that failed, that says what failed, on what, why, and what can be done;
 * and the exit code that goes with it.
 */
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

bool report_take_detail(struct detail *detail, char *buffer, size_t bytes) {
    mutex_lock(&detail->mutex);
    (void)snprintf(buffer, bytes, "%s", detail->text);
    detail->text[0] = '\0';
    mutex_unlock(&detail->mutex);
    return buffer[0] != '\0';
}

int report(const struct cli *cli, int exit_code, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char line[32] = "";
    if (cli->line != 0) {
        (void)snprintf(line, sizeof line, "line %zu: ", cli->line);
    }
    const char *outcome = cli->line != 0 ? "; nothing was committed" : "";
    /* One call, so that a line stays whole when several processes share a stderr. */
    (void)fprintf(stderr, "%sdocdb%s%s: %s%s%s\n", cli->progress_drawn ? "\r\033[K" : "",
                  cli->command != NULL ? " " : "", cli->command != NULL ? cli->command->name : "", line, text,
                  outcome);
    return exit_code;
}

int report_exit_code(int status) {
    switch (status) {
    case DOCDB_OK:
        return EXIT_CODE_OK;
    case DOCDB_ERR_INVALID:
    case DOCDB_ERR_BAD_ID:
    case DOCDB_ERR_BAD_NAME:
        return EXIT_CODE_USAGE;
    case DOCDB_ERR_NOT_FOUND:
    case DOCDB_ERR_NO_DATABASE:
    case DOCDB_ERR_NO_DIRECTORY:
        return EXIT_CODE_NOT_FOUND;
    case DOCDB_ERR_EXISTS:
    case DOCDB_ERR_DATABASE_EXISTS:
    case DOCDB_ERR_NOT_EMPTY:
    case DOCDB_ERR_CONFLICT:
        return EXIT_CODE_REFUSED;
    case DOCDB_ERR_UNREACHABLE:
    case DOCDB_ERR_LOCKED:
    case DOCDB_ERR_BUSY:
    case DOCDB_ERR_CLOSING:
        return EXIT_CODE_UNREACHABLE;
    case DOCDB_ERR_NO_SPACE:
    case DOCDB_ERR_MEMORY:
    case DOCDB_ERR_DOC_TOO_LARGE:
    case DOCDB_ERR_TXN_TOO_LARGE:
    case DOCDB_ERR_TXN_TIMEOUT:
        return EXIT_CODE_LIMIT;
    case DOCDB_ERR_CORRUPT:
    case DOCDB_ERR_NEWER_FORMAT:
        return EXIT_CODE_UNUSABLE;
    case DOCDB_ERR_PERMISSION:
    case DOCDB_ERR_READ_ONLY:
        return EXIT_CODE_PERMISSION;
    case DOCDB_ERR_DISCONNECTED:
        return EXIT_CODE_UNKNOWN;
    default:
        return EXIT_CODE_FAILED;
    }
}

static bool command_is(const struct cli *cli, const char *name) { return strcmp(cli->command->name, name) == 0; }

/* Is it one that the runtime logs the reason of? */
static bool is_logged(int status) {
    return status == DOCDB_ERR_NO_SPACE || status == DOCDB_ERR_IO || status == DOCDB_ERR_CORRUPT ||
           status == DOCDB_ERR_MEMORY;
}

static void hint_read_only(struct cli *cli, char *buffer, size_t bytes) {
    docdb_stats stats;
    if (cli->runtime != NULL && docdb_get_stats(cli->runtime, &stats) == DOCDB_OK && stats.read_only) {
        (void)snprintf(buffer, bytes, "; the store is read-only until it is opened again: %s",
                       stats.read_only_reason);
    }
}

const char *report_hint(struct cli *cli, int status, const char *db, char *buffer, size_t bytes) {
    buffer[0] = '\0';
    if (status == DOCDB_ERR_NO_DATABASE && db != NULL) {
        char name[OUTPUT_ESCAPED_BYTES(DOCDB_NAME_BYTES_MAX)];
        (void)snprintf(buffer, bytes, "; `docdb create-db %s` creates it, `docdb dbs` lists what there is",
                       output_escape(db, name, sizeof name));
    } else if (status == DOCDB_ERR_EXISTS && command_is(cli, "create")) {
        (void)snprintf(buffer, bytes, "; `docdb update` or `docdb put` replaces it");
    } else if (status == DOCDB_ERR_NOT_FOUND && command_is(cli, "update")) {
        (void)snprintf(buffer, bytes, "; `docdb create` or `docdb put` creates it");
    } else if (status == DOCDB_ERR_NOT_EMPTY) {
        (void)snprintf(buffer, bytes, "; without --if-empty its documents are dropped with it");
    } else if (status == DOCDB_ERR_READ_ONLY) {
        hint_read_only(cli, buffer, bytes);
    } else if (is_logged(status)) {
        char detail[DETAIL_BYTES];
        if (report_take_detail(cli->detail, detail, sizeof detail)) {
            (void)snprintf(buffer, bytes, ": %s", detail);
        } else {
            hint_read_only(cli, buffer, bytes);
        }
    }
    return buffer;
}

int report_status(struct cli *cli, int status, const char *db, const char *id) {
    char name[OUTPUT_ESCAPED_BYTES(DOCDB_NAME_BYTES_MAX)];
    char doc[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)] = "";
    char hint[DETAIL_BYTES + 64];
    return report(cli, report_exit_code(status), "%s%s%s: %s%s", output_escape(db, name, sizeof name),
                  id != NULL ? "/" : "", id != NULL ? output_escape(id, doc, sizeof doc) : "",
                  docdb_error_text(status), report_hint(cli, status, db, hint, sizeof hint));
}
