/*
 * From argv to struct cli, by the tables of table.c.
 *
 * Options may stand anywhere, as --name value, --name=value, -l, or -lv; what follows `--` is an operand, and so is
 * `-`. The first operand is the command; without one, --data-dir means serve. An option that is given twice counts
 * once, with its last value. Everything is checked before the command runs, so a mistake in the arguments changes
 * nothing.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define WORD_BYTES_MAX 32 /* longer words are no misspelling of ours */

/* ---- Suggestions ---- */

static size_t least(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* How many letters must be inserted, removed, replaced or swapped to make a word another (Damerau and Levenshtein).
 */
static size_t edit_distance(const char *a, const char *b) {
    size_t rows[WORD_BYTES_MAX + 1][WORD_BYTES_MAX + 1];
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    if (a_bytes > WORD_BYTES_MAX || b_bytes > WORD_BYTES_MAX) {
        return WORD_BYTES_MAX;
    }
    for (size_t i = 0; i <= a_bytes; i++) {
        rows[i][0] = i;
    }
    for (size_t j = 0; j <= b_bytes; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t replace = rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            rows[i][j] = least(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replace);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                rows[i - 2][j - 2] + 1 < rows[i][j]) {
                rows[i][j] = rows[i - 2][j - 2] + 1;
            }
        }
    }
    return rows[a_bytes][b_bytes];
}

/* Near enough to be meant: a third of the word may be wrong. */
static bool is_nearer(const char *word, const char *candidate, size_t *best) {
    size_t distance = edit_distance(word, candidate);
    if (distance >= *best || distance > (strlen(word) + 2) / 3) {
        return false;
    }
    *best = distance;
    return true;
}

static int refuse_command(const struct cli *cli, const char *word) {
    size_t count;
    const struct command *commands = table_commands(&count);
    const char *nearest = NULL;
    size_t best = WORD_BYTES_MAX;
    for (size_t i = 0; i < count; i++) {
        if (is_nearer(word, commands[i].name, &best)) {
            nearest = commands[i].name;
        }
    }
    char escaped[256];
    (void)output_escape(word, escaped, sizeof escaped);
    if (nearest != NULL) {
        return report(cli, EXIT_CODE_USAGE, "no such command: %s; did you mean %s?", escaped, nearest);
    }
    return report(cli, EXIT_CODE_USAGE, "no such command: %s; `docdb help` lists them", escaped);
}

static int refuse_option(const struct cli *cli, const char *word) {
    const char *nearest = NULL;
    size_t best = WORD_BYTES_MAX;
    char name[WORD_BYTES_MAX + 2];
    const char *given = word + strspn(word, "-");
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(given, "="), given);
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        if (is_nearer(name, table_option(id)->name, &best)) {
            nearest = table_option(id)->name;
        }
    }
    char escaped[256];
    (void)output_escape(word, escaped, sizeof escaped);
    escaped[strcspn(escaped, "=")] = '\0';
    if (nearest != NULL) {
        return report(cli, EXIT_CODE_USAGE, "no such option: %s; did you mean --%s?", escaped, nearest);
    }
    return report(
        cli, EXIT_CODE_USAGE,
        "no such option: %s; `docdb help COMMAND` lists them (an operand that begins with - goes after --)",
        escaped);
}

/* ---- Values ---- */

/* How much of `text` is a number, and the number; false when there is none or it is too large. */
static bool parse_digits(const char *text, int base, uint64_t *out, const char **rest) {
    if (!isdigit((unsigned char)text[0])) {
        return false; /* strtoull would take blanks and signs */
    }
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, base);
    *rest = end;
    return errno == 0 && end != text;
}

static bool unit_multiplier(enum option_kind kind, const char *unit, uint64_t *out) {
    static const struct {
        enum option_kind kind;
        const char *unit;
        uint64_t multiplier;
    } units[] = {
        {OPTION_KIND_NUMBER, "", 1},        {OPTION_KIND_MODE, "", 1},         {OPTION_KIND_SIZE, "", 1},
        {OPTION_KIND_SIZE, "K", 1u << 10},  {OPTION_KIND_SIZE, "M", 1u << 20}, {OPTION_KIND_SIZE, "G", 1u << 30},
        {OPTION_KIND_DURATION, "", 1000},   {OPTION_KIND_DURATION, "ms", 1},   {OPTION_KIND_DURATION, "s", 1000},
        {OPTION_KIND_DURATION, "m", 60000},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].kind == kind && strcmp(units[i].unit, unit) == 0) {
            *out = units[i].multiplier;
            return true;
        }
    }
    return false;
}

static int refuse_value(const struct cli *cli, const struct option *option, const char *text) {
    static const char *const forms[] = {
        [OPTION_KIND_NUMBER] = "a number",
        [OPTION_KIND_SIZE] = "a size in bytes, such as 1048576, 512K, 64M or 1G",
        [OPTION_KIND_DURATION] = "a time, such as 500ms, 5s or 1m",
        [OPTION_KIND_MODE] = "octal permission bits, such as 0600 or 660",
    };
    char escaped[256];
    return report(cli, EXIT_CODE_USAGE, "--%s %s is not %s", option->name,
                  output_escape(text, escaped, sizeof escaped), forms[option->kind]);
}

static int refuse_range(const struct cli *cli, const struct option *option, const char *text) {
    char escaped[256];
    const char *unit = option->kind == OPTION_KIND_SIZE       ? " bytes"
                       : option->kind == OPTION_KIND_DURATION ? " ms"
                                                              : "";
    (void)output_escape(text, escaped, sizeof escaped);
    if (option->kind == OPTION_KIND_MODE) {
        return report(cli, EXIT_CODE_USAGE, "--%s %s is out of range: %04" PRIo64 " to %04" PRIo64, option->name,
                      escaped, option->min, option->max);
    }
    return report(cli, EXIT_CODE_USAGE, "--%s %s is out of range: %" PRIu64 " to %" PRIu64 "%s", option->name,
                  escaped, option->min, option->max, unit);
}

static int parse_value(struct cli *cli, enum option_id id, const char *text) {
    const struct option *option = table_option(id);
    uint64_t number = 0;
    uint64_t multiplier = 1;
    const char *unit = "";
    if (option->kind == OPTION_KIND_TEXT) {
        if (text[0] == '\0') {
            return report(cli, EXIT_CODE_USAGE, "--%s needs a value that is not empty", option->name);
        }
    } else if (!parse_digits(text, option->kind == OPTION_KIND_MODE ? 8 : 10, &number, &unit) ||
               !unit_multiplier(option->kind, unit, &multiplier)) {
        return refuse_value(cli, option, text);
    } else if (number > UINT64_MAX / multiplier || number * multiplier < option->min ||
               number * multiplier > option->max) {
        return refuse_range(cli, option, text);
    }
    cli->options[id] = (struct option_value){.given = true, .text = text, .number = number * multiplier};
    return EXIT_CODE_OK;
}

/* ---- Options ---- */

/* What is left of argv, and where the next operand goes. */
struct arguments {
    int count;
    char **all;
    int next;
    int operands;
};

static int parse_option(struct cli *cli, enum option_id id, const char *attached, struct arguments *arguments) {
    const struct option *option = table_option(id);
    if (option->kind == OPTION_KIND_FLAG) {
        if (attached != NULL) {
            return report(cli, EXIT_CODE_USAGE, "--%s takes no value", option->name);
        }
        cli->options[id].given = true;
        return EXIT_CODE_OK;
    }
    if (attached == NULL) {
        if (arguments->next == arguments->count) {
            return report(cli, EXIT_CODE_USAGE, "--%s needs a value: --%s %s", option->name, option->name,
                          option->value);
        }
        attached = arguments->all[arguments->next++];
    }
    return parse_value(cli, id, attached);
}

static int parse_long_option(struct cli *cli, const char *word, struct arguments *arguments) {
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    size_t bytes = equals != NULL ? (size_t)(equals - name) : strlen(name);
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        const char *candidate = table_option(id)->name;
        if (strlen(candidate) == bytes && memcmp(candidate, name, bytes) == 0) {
            return parse_option(cli, id, equals != NULL ? equals + 1 : NULL, arguments);
        }
    }
    return refuse_option(cli, word);
}

static int parse_letters(struct cli *cli, const char *word) {
    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        enum option_id id = 0;
        while (id < OPTION_COUNT && table_option(id)->letter != *letter) {
            id++;
        }
        if (id == OPTION_COUNT) {
            return refuse_option(cli, word);
        }
        cli->options[id].given = true; /* all options with a letter are flags */
    }
    return EXIT_CODE_OK;
}

static int parse_words(struct cli *cli, struct arguments *arguments) {
    bool options_end = false;
    while (arguments->next < arguments->count) {
        char *word = arguments->all[arguments->next++];
        int code = EXIT_CODE_OK;
        if (options_end || word[0] != '-' || word[1] == '\0') {
            arguments->all[arguments->operands++] = word;
        } else if (strcmp(word, "--") == 0) {
            options_end = true;
        } else if (word[1] == '-') {
            code = parse_long_option(cli, word, arguments);
        } else {
            code = parse_letters(cli, word);
        }
        if (code != EXIT_CODE_OK) {
            return code;
        }
    }
    return EXIT_CODE_OK;
}

/* ---- The command ---- */

/* Takes the command's name off the operands. */
static int find_command(struct cli *cli) {
    bool named = cli->operand_count > 0;
    const char *name = "help";
    if (named) {
        name = cli->operands[0];
        cli->operands++;
        cli->operand_count--;
    } else if (cli->options[OPTION_VERSION].given) {
        name = "version";
    } else if (cli->options[OPTION_HELP].given) {
        name = "help";
    } else if (cli->options[OPTION_DATA_DIR].given) {
        name = "serve";
    } else {
        return report(
            cli, EXIT_CODE_USAGE,
            "no command; `docdb help` lists them, and `docdb serve --data-dir DIR --socket PATH` starts a server");
    }
    const struct command *command = table_command(name);
    if (command == NULL) {
        return refuse_command(cli, name);
    }
    if (named && cli->options[OPTION_HELP].given) {
        /* `docdb put --help` is `docdb help put`, whatever else is there */
        cli->operands--;
        cli->operand_count = 1;
        command = table_command("help");
    }
    cli->command = command;
    return EXIT_CODE_OK;
}

static int check_options(const struct cli *cli) {
    if (cli->options[OPTION_HELP].given) {
        return EXIT_CODE_OK;
    }
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        if (cli->options[id].given && !(cli->command->options & 1u << id)) {
            return report(cli, EXIT_CODE_USAGE, "--%s is no option of this command; see: docdb help %s",
                          table_option(id)->name, cli->command->name);
        }
    }
    return EXIT_CODE_OK;
}

static int check_operands(const struct cli *cli) {
    const struct command *command = cli->command;
    if (cli->operand_count < command->operands_min) {
        return report(cli, EXIT_CODE_USAGE, "operands are missing; use: docdb %s %s", command->name,
                      command->operands);
    }
    if (command->operands_max != OPERANDS_ANY && cli->operand_count > command->operands_max) {
        char escaped[256];
        return report(cli, EXIT_CODE_USAGE, "one operand too many: %s; use: docdb %s%s%s",
                      output_escape(cli->operands[command->operands_max], escaped, sizeof escaped), command->name,
                      command->operands[0] != '\0' ? " " : "", command->operands);
    }
    return EXIT_CODE_OK;
}

/* ---- Where the data is ---- */

static const char *environment(const char *name) {
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): there are no other threads yet */
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static int resolve_where(struct cli *cli) {
    const char *data_dir = cli->options[OPTION_DATA_DIR].text;
    const char *socket = cli->options[OPTION_SOCKET].text;
    if (cli->command->options & 1u << OPTION_MOUNT) {
        cli->data_dir = data_dir != NULL ? data_dir : environment("DOCDB_DATA_DIR");
        cli->socket = socket != NULL ? socket : environment("DOCDB_SOCKET");
        return EXIT_CODE_OK;
    }
    if (!(cli->command->options &
          1u << OPTION_SOCKET)) { /* it makes a directory: nothing that a variable should name */
        cli->data_dir = data_dir;
        return data_dir != NULL
                   ? EXIT_CODE_OK
                   : report(cli, EXIT_CODE_USAGE, "where to? give --data-dir NEW, the directory to make");
    }
    if (data_dir != NULL && socket != NULL) {
        return report(
            cli, EXIT_CODE_USAGE,
            "--data-dir and --socket exclude each other: a server (--socket) or the directory itself (--data-dir)");
    }
    if (data_dir == NULL && socket == NULL) {
        socket = environment("DOCDB_SOCKET");
        data_dir = socket == NULL ? environment("DOCDB_DATA_DIR") : NULL;
    }
    if (data_dir == NULL && socket == NULL) {
        return report(cli, EXIT_CODE_USAGE,
                      "where is the data? give --socket PATH of a server or --data-dir DIR, or set DOCDB_SOCKET or "
                      "DOCDB_DATA_DIR");
    }
    if (socket != NULL && cli->options[OPTION_MAX_DOC_SIZE].given) {
        return report(cli, EXIT_CODE_USAGE,
                      "--max-doc-size goes with --data-dir: over a socket the limit is the server's");
    }
    cli->data_dir = data_dir;
    cli->socket = socket;
    return EXIT_CODE_OK;
}

int parse_arguments(struct cli *cli, int argc, char **argv) {
    struct arguments arguments = {
        .count = argc, .all = argv, .next = argc > 0 ? 1 : 0, .operands = argc > 0 ? 1 : 0};
    int code = parse_words(cli, &arguments);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int first = argc > 0 ? 1 : 0;
    cli->operands = argv + first;
    cli->operand_count = arguments.operands - first;
    code = find_command(cli);
    if (code == EXIT_CODE_OK) {
        code = check_options(cli);
    }
    if (code == EXIT_CODE_OK) {
        code = check_operands(cli);
    }
    if (code == EXIT_CODE_OK && (cli->command->options & 1u << OPTION_DATA_DIR)) {
        code = resolve_where(cli);
    }
    return code;
}
