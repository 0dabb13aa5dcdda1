/* The commands on the runtime itself: stats and checkpoint. Stats are printed from the one list DOCDB_STATS of
 * docdb.h. */
#include <inttypes.h>

#include "cli/cli.h"

static void print_json_stats(struct cli *cli, const docdb_stats *stats) {
    output_printf(cli, "{\n");
#define PRINT_JSON(field, text) output_printf(cli, "  \"%s\": %" PRIu64 ",\n", #field, stats->field);
    DOCDB_STATS(PRINT_JSON)
#undef PRINT_JSON
    output_printf(cli, "  \"read_only_reason\": ");
    output_json_string(cli, stats->read_only_reason);
    output_printf(cli, "\n}\n");
}

static void print_stats(struct cli *cli, const docdb_stats *stats) {
#define PRINT_LINE(field, text) output_printf(cli, "%-24s %16" PRIu64 "  %s\n", #field, stats->field, (text));
    DOCDB_STATS(PRINT_LINE)
#undef PRINT_LINE
    if (stats->read_only) {
        output_printf(cli, "read-only because: %s\n", stats->read_only_reason);
    }
}

int command_stats(struct cli *cli) {
    docdb_stats stats;
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = docdb_get_stats(cli->runtime, &stats);
    if (status != DOCDB_OK) {
        return report(cli, report_exit_code(status), "%s", docdb_error_text(status));
    }
    if (cli->options[OPTION_JSON].given) {
        print_json_stats(cli, &stats);
    } else {
        print_stats(cli, &stats);
    }
    return EXIT_CODE_OK;
}

int command_checkpoint(struct cli *cli) {
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = docdb_checkpoint(cli->runtime);
    if (status != DOCDB_OK) {
        char hint[DETAIL_BYTES + 64];
        return report(cli, report_exit_code(status), "the checkpoint failed: %s; nothing is lost%s",
                      docdb_error_text(status), report_hint(cli, status, NULL, hint, sizeof hint));
    }
    return EXIT_CODE_OK;
}
