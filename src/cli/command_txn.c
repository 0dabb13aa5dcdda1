/*
 * `docdb txn`: a script's operations as one transaction.
 *
 * The script and its files are read first (script.c). Then, in a transaction: every operation, checked at once, so
 * that one that fails names its line; then the commit. The script reads nothing, so when another commit got in
 * between (CONFLICT from the commit itself) its operations mean the same on the newer state, and it is done again;
 * its own conditions (create, put-if, ...) are checked again, too.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/script.h"

#define TRIES_MAX 100 /* each lost one means that another commit of these documents was won */

static int apply_op(docdb_txn *txn, const struct script_op *op) {
    switch (op->kind) {
    case SCRIPT_PUT:
        return docdb_txn_put(txn, op->id, op->data, op->bytes);
    case SCRIPT_CREATE:
        return docdb_txn_create(txn, op->id, op->data, op->bytes);
    case SCRIPT_UPDATE:
        return docdb_txn_update(txn, op->id, op->data, op->bytes);
    case SCRIPT_PUT_IF:
        return docdb_txn_put_if(txn, op->id, op->expected, op->data, op->bytes);
    case SCRIPT_DELETE:
        return docdb_txn_delete(txn, op->id);
    case SCRIPT_DELETE_IF:
        return docdb_txn_delete_if(txn, op->id, op->expected);
    default:
        return docdb_txn_rename(txn, op->id, op->to, op->flags);
    }
}

static int report_op(struct cli *cli, const struct script_op *op, int status) {
    char id[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)];
    char to[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)] = "";
    cli->line = op->line;
    return report(cli, report_exit_code(status), "%s %s%s%s: %s", op->name, output_escape(op->id, id, sizeof id),
                  op->to != NULL ? " " : "", op->to != NULL ? output_escape(op->to, to, sizeof to) : "",
                  docdb_error_text(status));
}

static int report_commit(struct cli *cli, int status) {
    char hint[DETAIL_BYTES + 64];
    bool unknown = status == DOCDB_ERR_IO || status == DOCDB_ERR_DISCONNECTED;
    return report(cli, report_exit_code(status), "the commit failed: %s%s%s", docdb_error_text(status),
                  unknown ? "" : "; nothing was committed",
                  report_hint(cli, status, cli->operands[0], hint, sizeof hint));
}

/* One try. *conflict: another commit got in between, nothing was reported. */
static int try_script(struct cli *cli, docdb_db *db, const struct script *script, bool *conflict) {
    docdb_txn *txn = NULL;
    uint64_t commit_seq = 0;
    *conflict = false;
    int status = docdb_begin(db, 0, &txn);
    if (status != DOCDB_OK) {
        return report_status(cli, status, cli->operands[0], NULL);
    }
    for (size_t i = 0; i < script->count; i++) {
        status = apply_op(txn, &script->ops[i]);
        if (status != DOCDB_OK) {
            docdb_abort(txn);
            return report_op(cli, &script->ops[i], status);
        }
    }
    status = docdb_commit(txn, &commit_seq);
    if (status == DOCDB_ERR_CONFLICT) {
        *conflict = true;
        return report_exit_code(status);
    }
    if (status != DOCDB_OK) {
        return report_commit(cli, status);
    }
    output_printf(cli, "%" PRIu64 "\n", commit_seq);
    return EXIT_CODE_OK;
}

int command_txn(struct cli *cli) {
    docdb_limits limits;
    docdb_db *db = NULL;
    struct script script = {0};
    int code = runtime_limits(cli, &limits);
    if (code == EXIT_CODE_OK) {
        code = script_read(cli, cli->operand_count > 1 ? cli->operands[1] : NULL, &limits, &script);
    }
    if (code == EXIT_CODE_OK) {
        code = runtime_open_db(cli, cli->operands[0], 0, &db);
    }
    if (code == EXIT_CODE_OK) {
        bool conflict = true;
        for (int tries = 0; conflict && tries < TRIES_MAX; tries++) {
            code = try_script(cli, db, &script, &conflict);
        }
        if (conflict) {
            code = report_commit(cli, DOCDB_ERR_CONFLICT);
        }
    }
    docdb_db_close(db);
    script_fini(&script);
    return code;
}
