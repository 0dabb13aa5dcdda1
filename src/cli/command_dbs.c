/*
 * The commands on databases: dbs, create-db, drop-db. Those that take several names go on after a failure, and exit
 * with the code of the first.
 */
#include <inttypes.h>

#include "cli/cli.h"

static void list_database(struct cli *cli, const docdb_db_info *info, bool first) {
    char time[OUTPUT_TIME_BYTES];
    if (cli->options[OPTION_JSON].given) {
        output_printf(cli, first ? "\n  {\"name\": " : ",\n  {\"name\": ");
        output_json_string(cli, info->name);
        output_printf(cli,
                      ", \"documents\": %" PRIu64 ", \"document_bytes\": %" PRIu64 ", \"change_time\": \"%s\"}",
                      info->documents, info->document_bytes, output_time(info->change_time_ns, 9, time));
        return;
    }
    if (cli->options[OPTION_LONG].given) {
        output_printf(cli, "%12" PRIu64 " %15" PRIu64 "  %s  ", info->documents, info->document_bytes,
                      output_time(info->change_time_ns, 3, time));
    }
    output_name(cli, info->name);
}

int command_dbs(struct cli *cli) {
    docdb_db_info *list = NULL;
    size_t count = 0;
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = docdb_db_list(cli->runtime, &list, &count);
    if (status != DOCDB_OK) {
        return report(cli, report_exit_code(status), "can't list the databases: %s", docdb_error_text(status));
    }
    bool json = cli->options[OPTION_JSON].given;
    output_printf(cli, json ? "[" : "");
    for (size_t i = 0; i < count && output_ok(cli); i++) {
        list_database(cli, &list[i], i == 0);
    }
    output_printf(cli, json ? "\n]\n" : "");
    docdb_db_list_free(list);
    return EXIT_CODE_OK;
}

int command_create_db(struct cli *cli) {
    int code = runtime_open(cli, RUNTIME_MAY_CREATE);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    for (int i = 0; i < cli->operand_count; i++) {
        docdb_db *db = NULL;
        int status = docdb_db_open(cli->runtime, cli->operands[i], DOCDB_DB_CREATE | DOCDB_DB_EXCLUSIVE, &db);
        if (status != DOCDB_OK) {
            int failed = report_status(cli, status, cli->operands[i], NULL);
            code = code == EXIT_CODE_OK ? failed : code;
        }
        docdb_db_close(db);
    }
    return code;
}

int command_drop_db(struct cli *cli) {
    unsigned flags = cli->options[OPTION_IF_EMPTY].given ? DOCDB_DROP_IF_EMPTY : 0;
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    for (int i = 0; i < cli->operand_count; i++) {
        int status = docdb_db_drop(cli->runtime, cli->operands[i], flags);
        if (status != DOCDB_OK) {
            int failed = report_status(cli, status, cli->operands[i], NULL);
            code = code == EXIT_CODE_OK ? failed : code;
        }
    }
    return code;
}
