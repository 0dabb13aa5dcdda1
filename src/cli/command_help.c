/* `docdb help` and `docdb version`: printed from the tables, to stdout. */
#include <ctype.h>
#include <string.h>

#include "cli/cli.h"

static void print_option(struct cli *cli, const struct option *option) {
    char form[64];
    (void)snprintf(form, sizeof form, "%c%c%s--%s%s%s", option->letter != 0 ? '-' : ' ',
                   option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ", " : "  ", option->name,
                   option->value != NULL ? " " : "", option->value != NULL ? option->value : "");
    output_printf(cli, "  %-26s %s\n", form, option->help);
}

static void print_overview(struct cli *cli) {
    size_t count;
    const struct command *commands = table_commands(&count);
    output_printf(cli,
                  "docdb %s: a file-based ACID document store\n\n"
                  "docdb COMMAND [OPTION...] [OPERAND...]\n\n",
                  docdb_version());
    for (size_t i = 0; i < count; i++) {
        char form[64];
        (void)snprintf(form, sizeof form, "%s %s", commands[i].name, commands[i].operands);
        output_printf(cli, "  %-26s %s\n", strlen(form) > 26 ? commands[i].name : form, commands[i].summary);
    }
    output_printf(cli, "\nThe data is where --socket PATH (of a server) or --data-dir DIR says, or DOCDB_SOCKET or "
                       "DOCDB_DATA_DIR.\n"
                       "`docdb help COMMAND` explains one; `man docdb` explains all.\n");
}

static void print_command(struct cli *cli, const struct command *command) {
    output_printf(cli, "docdb %s%s%s\n\n%c%s.\n", command->name, command->operands[0] != '\0' ? " " : "",
                  command->operands, toupper((unsigned char)command->summary[0]), command->summary + 1);
    if (command->details[0] != '\0') {
        output_printf(cli, "%s\n", command->details);
    }
    output_printf(cli, "\n");
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        if (command->options & 1u << id) {
            print_option(cli, table_option(id));
        }
    }
}

static void print_exit_codes(struct cli *cli) {
    output_printf(cli, "Exit codes:\n");
#define PRINT_EXIT_CODE(name, value, text) output_printf(cli, "  %3d  %s\n", (value), (text));
    EXIT_CODES(PRINT_EXIT_CODE)
#undef PRINT_EXIT_CODE
    output_printf(cli,
                  "  130, 143, 129  a second SIGINT, SIGTERM or SIGHUP ended the server before it had shut down\n"
                  "\nWhen a command works on several documents or databases it goes on after a failure, and exits "
                  "with the code of\n"
                  "the first. Each failure is one line on stderr.\n");
}

static void print_environment(struct cli *cli) {
    output_printf(
        cli,
        "DOCDB_SOCKET    the default of --socket\n"
        "DOCDB_DATA_DIR  the default of --data-dir\n"
        "\nAn option beats both variables; of the two variables the socket is taken. `docdb serve` uses both.\n");
}

int command_help(struct cli *cli) {
    if (cli->operand_count == 0) {
        print_overview(cli);
        return EXIT_CODE_OK;
    }
    const char *topic = cli->operands[0];
    const struct command *command = table_command(topic);
    if (command != NULL) {
        print_command(cli, command);
    } else if (strcmp(topic, "exit-codes") == 0) {
        print_exit_codes(cli);
    } else if (strcmp(topic, "environment") == 0) {
        print_environment(cli);
    } else {
        char escaped[256];
        return report(cli, EXIT_CODE_USAGE, "no such command or topic: %s; `docdb help` lists the commands",
                      output_escape(topic, escaped, sizeof escaped));
    }
    return EXIT_CODE_OK;
}

int command_version(struct cli *cli) {
    output_printf(cli, "docdb %s\n", docdb_version());
    return EXIT_CODE_OK;
}
