/*
 * The commands on documents: create, read, update, put, delete, stat, ls.
 *
 * A write reads its whole input first, and is one transaction. read, delete and stat take several ids: one that
 * fails is reported, the others are worked on, and the exit code is that of the first failure.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

/* ---- Writes ---- */

typedef int (*write_fn)(docdb_db *db, const char *id, const void *data, size_t bytes, uint64_t *version);

static int write_document(struct cli *cli, docdb_db *db, const struct input *input, write_fn write) {
    const char *id = cli->operands[1];
    uint64_t version = 0;
    int status;
    if (cli->options[OPTION_IF_VERSION].given) {
        status = docdb_put_if(db, id, cli->options[OPTION_IF_VERSION].number, input->data, input->bytes, &version);
    } else {
        status = write(db, id, input->data, input->bytes, &version);
    }
    if (status != DOCDB_OK) {
        return report_status(cli, status, cli->operands[0], id);
    }
    if (cli->options[OPTION_VERBOSE].given) {
        output_printf(cli, "%" PRIu64 "\n", version);
    }
    return EXIT_CODE_OK;
}

static int command_write(struct cli *cli, write_fn write) {
    docdb_limits limits;
    struct input input = {0};
    docdb_db *db = NULL;
    int code = runtime_limits(cli, &limits);
    if (code == EXIT_CODE_OK) {
        code = input_read(cli, cli->operand_count > 2 ? cli->operands[2] : NULL, limits.max_doc_bytes,
                          input_document_advice(cli), &input);
    }
    if (code == EXIT_CODE_OK) {
        code = runtime_open_db(cli, cli->operands[0], 0, &db);
    }
    if (code == EXIT_CODE_OK) {
        code = write_document(cli, db, &input, write);
    }
    docdb_db_close(db);
    input_fini(&input);
    return code;
}

int command_create(struct cli *cli) { return command_write(cli, docdb_create); }

int command_update(struct cli *cli) { return command_write(cli, docdb_update); }

int command_put(struct cli *cli) { return command_write(cli, docdb_put); }

/* ---- Several ids ---- */

/* Works on one id of an open database. Returns an exit code, after saying what failed. */
typedef int (*each_fn)(struct cli *cli, docdb_db *db, const char *id);

static int for_each_id(struct cli *cli, unsigned db_flags, each_fn each) {
    docdb_db *db = NULL;
    int code = runtime_open_db(cli, cli->operands[0], db_flags, &db);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    for (int i = 1; i < cli->operand_count && output_ok(cli); i++) {
        int each_code = each(cli, db, cli->operands[i]);
        code = code == EXIT_CODE_OK ? each_code : code;
    }
    docdb_db_close(db);
    return code;
}

static int read_one(struct cli *cli, docdb_db *db, const char *id) {
    docdb_doc *doc = NULL;
    int status = docdb_read(db, id, &doc);
    if (status != DOCDB_OK) {
        return report_status(cli, status, cli->operands[0], id);
    }
    output_bytes(cli, docdb_doc_data(doc), docdb_doc_bytes(doc));
    docdb_doc_release(doc);
    return EXIT_CODE_OK;
}

int command_read(struct cli *cli) { return for_each_id(cli, DOCDB_DB_READ_ONLY, read_one); }

static int delete_one(struct cli *cli, docdb_db *db, const char *id) {
    uint64_t version = 0;
    int status = cli->options[OPTION_IF_VERSION].given
                     ? docdb_delete_if(db, id, cli->options[OPTION_IF_VERSION].number, &version)
                     : docdb_delete(db, id, &version);
    if (status != DOCDB_OK) {
        return report_status(cli, status, cli->operands[0], id);
    }
    if (cli->options[OPTION_VERBOSE].given) {
        output_printf(cli, "%" PRIu64 "\n", version);
    }
    return EXIT_CODE_OK;
}

int command_delete(struct cli *cli) {
    const struct option_value *expected = &cli->options[OPTION_IF_VERSION];
    if (expected->given && cli->operand_count > 2) {
        return report(cli, EXIT_CODE_USAGE, "--if-version goes with one ID: every version is of one document");
    }
    if (expected->given && expected->number == 0) {
        return report(cli, EXIT_CODE_USAGE,
                      "--if-version 0 means a document that does not exist: it can't be deleted");
    }
    return for_each_id(cli, 0, delete_one);
}

/* ---- What is known of documents ---- */

static void print_json_info(struct cli *cli, const char *id, const docdb_info *info) {
    char committed[OUTPUT_TIME_BYTES];
    char mtime[OUTPUT_TIME_BYTES];
    output_printf(cli, "{");
    output_json_id(cli, id);
    output_printf(cli,
                  ", \"bytes\": %" PRIu64 ", \"version\": %" PRIu64 ", \"commit_time\": \"%s\", \"mtime\": \"%s\"}",
                  info->bytes, info->version, output_time(info->commit_time_ns, 9, committed),
                  output_time(info->mtime_ns, 9, mtime));
}

static void print_info(struct cli *cli, const char *id, const docdb_info *info) {
    char time[OUTPUT_TIME_BYTES];
    char escaped[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)];
    output_printf(cli, "id           %s\n", output_escape(id, escaped, sizeof escaped));
    output_printf(cli, "bytes        %" PRIu64 "\n", info->bytes);
    output_printf(cli, "version      %" PRIu64 "\n", info->version);
    output_printf(cli, "commit time  %s\n", output_time(info->commit_time_ns, 9, time));
    output_printf(cli, "mtime        %s\n", output_time(info->mtime_ns, 9, time));
}

static int stat_all(struct cli *cli, docdb_db *db) {
    bool json = cli->options[OPTION_JSON].given;
    int code = EXIT_CODE_OK;
    bool first = true;
    for (int i = 1; i < cli->operand_count && output_ok(cli); i++) {
        const char *id = cli->operands[i];
        docdb_info info;
        int status = docdb_stat(db, id, &info);
        if (status != DOCDB_OK) {
            int failed = report_status(cli, status, cli->operands[0], id);
            code = code == EXIT_CODE_OK ? failed : code;
            continue;
        }
        if (json) {
            output_printf(cli, first ? "\n  " : ",\n  ");
            print_json_info(cli, id, &info);
        } else {
            output_printf(cli, first ? "" : "\n");
            print_info(cli, id, &info);
        }
        first = false;
    }
    return code;
}

int command_stat(struct cli *cli) {
    docdb_db *db = NULL;
    int code = runtime_open_db(cli, cli->operands[0], DOCDB_DB_READ_ONLY, &db);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    bool json = cli->options[OPTION_JSON].given;
    output_printf(cli, json ? "[" : "");
    code = stat_all(cli, db);
    output_printf(cli, json ? "\n]\n" : "");
    docdb_db_close(db);
    return code;
}

static void list_entry(struct cli *cli, const docdb_entry *entry, bool first) {
    if (cli->options[OPTION_JSON].given) {
        output_printf(cli, first ? "\n  " : ",\n  ");
        print_json_info(cli, entry->id, &entry->info);
        return;
    }
    if (cli->options[OPTION_LONG].given) {
        char time[OUTPUT_TIME_BYTES];
        output_printf(cli, "%12" PRIu64 " %10" PRIu64 "  %s  ", entry->info.bytes, entry->info.version,
                      output_time(entry->info.mtime_ns, 3, time));
    }
    output_name(cli, entry->id);
}

static int list_all(struct cli *cli, docdb_scan *scan) {
    docdb_entry entry;
    bool first = true;
    int status = docdb_scan_next(scan, &entry);
    while (status == DOCDB_OK && output_ok(cli)) {
        list_entry(cli, &entry, first);
        first = false;
        status = docdb_scan_next(scan, &entry);
    }
    if (status != DOCDB_OK && status != DOCDB_ERR_END) {
        return report_status(cli, status, cli->operands[0], NULL);
    }
    return EXIT_CODE_OK;
}

int command_ls(struct cli *cli) {
    docdb_db *db = NULL;
    docdb_scan *scan = NULL;
    int code = runtime_open_db(cli, cli->operands[0], DOCDB_DB_READ_ONLY, &db);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    docdb_scan_options options = {
        .prefix = cli->options[OPTION_PREFIX].text,
        .after = cli->options[OPTION_AFTER].text,
        .limit = cli->options[OPTION_LIMIT].number,
    };
    int status = docdb_scan_open(db, &options, &scan);
    if (status == DOCDB_OK) {
        bool json = cli->options[OPTION_JSON].given;
        output_printf(cli, json ? "[" : "");
        code = list_all(cli, scan);
        output_printf(cli, json ? "\n]\n" : "");
    } else {
        code = report_status(cli, status, cli->operands[0], NULL);
    }
    docdb_scan_close(scan);
    docdb_db_close(db);
    return code;
}
