/*
 * Opening what a command works on: a server's socket or a data directory, and a database there.
 *
 * A data directory is open in one process once, so a command that works embedded opens it as late and closes it as
 * early as it can: `docdb read a | docdb put b` works on one directory, because put reads all of its input first.
 */
#include <string.h>

#include "cli/cli.h"

/* docdb_open takes a directory or "unix:PATH"; a directory may be called that, too. */
static int where(const struct cli *cli, char *buffer, size_t bytes) {
    int length;
    if (cli->socket != NULL) {
        length = snprintf(buffer, bytes, "unix:%s", cli->socket);
    } else if (strncmp(cli->data_dir, "unix:", 5) == 0) {
        length = snprintf(buffer, bytes, "./%s", cli->data_dir);
    } else {
        length = snprintf(buffer, bytes, "%s", cli->data_dir);
    }
    return length >= 0 && (size_t)length < bytes ? EXIT_CODE_OK
                                                 : report(cli, EXIT_CODE_USAGE, "the path is too long: %s", buffer);
}

void runtime_log(void *arg, docdb_log_level level, const char *line) {
    struct detail *detail = arg;
    if (level == DOCDB_LOG_WARNING) {
        (void)fprintf(stderr, "docdb: warning: %s\n", line);
    } else if (level == DOCDB_LOG_ERROR) {
        mutex_lock(&detail->mutex);
        if (detail->text[0] == '\0') {
            (void)snprintf(detail->text, sizeof detail->text, "%s", line);
        }
        mutex_unlock(&detail->mutex);
    }
}

int runtime_open(struct cli *cli, unsigned flags) {
    char path[4096 + 8];
    if (cli->runtime != NULL) {
        return EXIT_CODE_OK;
    }
    int code = where(cli, path, sizeof path);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    docdb_options options = {
        .flags = flags & RUNTIME_MAY_CREATE ? 0 : DOCDB_OPEN_EXISTING,
        .max_doc_bytes = cli->options[OPTION_MAX_DOC_SIZE].number,
        .log = runtime_log,
        .log_arg = cli->detail,
    };
    docdb_error error = {0};
    int status = docdb_open(path, &options, &cli->runtime, &error);
    if (status != DOCDB_OK) {
        char detail[DETAIL_BYTES];
        bool detailed = report_take_detail(cli->detail, detail, sizeof detail);
        return report(cli, report_exit_code(status), "%s%s%s", error.message, detailed ? ": " : "", detail);
    }
    return EXIT_CODE_OK;
}

int runtime_open_db(struct cli *cli, const char *name, unsigned flags, docdb_db **out) {
    unsigned runtime_flags = 0;
    if (cli->options[OPTION_CREATE_DB].given) {
        flags |= DOCDB_DB_CREATE;
        runtime_flags = RUNTIME_MAY_CREATE;
    }
    int code = runtime_open(cli, runtime_flags);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = docdb_db_open(cli->runtime, name, flags, out);
    return status == DOCDB_OK ? EXIT_CODE_OK : report_status(cli, status, name, NULL);
}

int runtime_limits(struct cli *cli, docdb_limits *out) {
    if (cli->socket != NULL) {
        int code = runtime_open(cli, 0);
        if (code == EXIT_CODE_OK) {
            docdb_get_limits(cli->runtime, out);
        }
        return code;
    }
    const struct option_value *max_doc = &cli->options[OPTION_MAX_DOC_SIZE];
    uint64_t max_doc_bytes = max_doc->given ? max_doc->number : DOCDB_DOC_BYTES_DEFAULT;
    *out = (docdb_limits){
        .max_doc_bytes = max_doc_bytes,
        .max_txn_bytes = 2 * max_doc_bytes, /* the default of docdb_options */
        .max_txn_ops = DOCDB_TXN_OPS_MAX,
        .txn_timeout_ms = DOCDB_TXN_TIMEOUT_MS_DEFAULT,
    };
    return EXIT_CODE_OK;
}

int runtime_close(struct cli *cli) {
    if (cli->runtime == NULL) {
        return DOCDB_OK;
    }
    int status = docdb_close(cli->runtime);
    cli->runtime = NULL;
    if (status != DOCDB_OK && status != DOCDB_ERR_NO_SPACE) {
        char hint[DETAIL_BYTES + 64];
        (void)report(cli, 0,
                     "warning: nothing is lost, but no checkpoint was written, the next start takes longer: %s%s",
                     docdb_error_text(status), report_hint(cli, status, NULL, hint, sizeof hint));
    }
    return status;
}
