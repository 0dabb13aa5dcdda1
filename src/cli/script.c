/*
 * Parsing of `docdb txn` scripts: see script.h for the grammar.
 *
 * Words are unescaped in place and NUL-terminated over the blank or quote that ends them; documents are read from
 * their files at once, so that the transaction itself waits for nothing. Memory is bounded by the limits of a
 * transaction: once for the text of the script, once for the documents of files.
 */
#include "cli/script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 4 /* the longest operation: put-if ID VERSION FILE, rename FROM TO noreplace */

struct word {
    char *text; /* NUL-terminated; text may hold NULs of \x00, too */
    size_t bytes;
};

/* ---- Words ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes the escape at `from`, behind its backslash. Returns how many bytes it takes, or 0 when it is none. */
static size_t unescape(const char *from, const char *end, char *out) {
    static const char letters[] = "ntr\\\"";
    static const char bytes[] = "\n\t\r\\\"";
    if (from == end) {
        return 0;
    }
    const char *letter = *from != '\0' ? strchr(letters, *from) : NULL;
    if (letter != NULL) {
        *out = bytes[letter - letters];
        return 1;
    }
    if (*from != 'x' || end - from < 3 || hex_value(from[1]) < 0 || hex_value(from[2]) < 0) {
        return 0;
    }
    *out = (char)(hex_value(from[1]) * 16 + hex_value(from[2]));
    return 3;
}

/* Takes a quoted word; *at is behind its first quote, and afterwards behind its last. */
static int take_quoted(const struct cli *cli, char **at, const char *end, struct word *out) {
    char *from = *at;
    char *to = from;
    out->text = to;
    while (from < end && *from != '"') {
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        size_t taken = unescape(from + 1, end, to);
        if (taken == 0) {
            return report(cli, EXIT_CODE_USAGE, "an unknown escape: write \\n \\t \\r \\\\ \\\" or \\xHH");
        }
        to++;
        from += 1 + taken;
    }
    if (from == end) {
        return report(cli, EXIT_CODE_USAGE, "a quote is not closed");
    }
    from++;
    if (from < end && !is_blank(*from)) {
        return report(cli, EXIT_CODE_USAGE, "a blank is missing after a closing quote");
    }
    out->bytes = (size_t)(to - out->text);
    *to = '\0';
    *at = from;
    return EXIT_CODE_OK;
}

static int take_bare(const struct cli *cli, char **at, const char *end, struct word *out) {
    char *from = *at;
    out->text = from;
    while (from < end && !is_blank(*from)) {
        if (*from == '"' || *from == '\0') {
            return report(cli, EXIT_CODE_USAGE,
                          "a word with quotes, blanks or NULs in it goes in double quotes, as \\\" or \\x00");
        }
        from++;
    }
    out->bytes = (size_t)(from - out->text);
    *at = from;
    return EXIT_CODE_OK;
}

/* Splits a line into words. *end of the line is writable: it is its newline, or the NUL behind the script. */
static int split_line(const struct cli *cli, char *at, char *end, struct word words[WORDS_MAX], size_t *count) {
    *count = 0;
    if (at < end && end[-1] == '\r') {
        end--;
    }
    for (;;) {
        while (at < end && is_blank(*at)) {
            at++;
        }
        if (at == end || (*count == 0 && *at == '#')) {
            return EXIT_CODE_OK;
        }
        if (*count == WORDS_MAX) {
            return report(cli, EXIT_CODE_USAGE, "too many words");
        }
        bool quoted = *at == '"';
        at += quoted;
        struct word *word = &words[(*count)++];
        int code = quoted ? take_quoted(cli, &at, end, word) : take_bare(cli, &at, end, word);
        if (code != EXIT_CODE_OK) {
            return code;
        }
        if (!quoted) {
            bool last = at == end;
            *at = '\0';
            at += last ? 0 : 1;
        }
    }
}

/* ---- Operations ---- */

/* The words after the name: i(d), t(o), v(ersion), f(ile), d(ata as text), m(ode of a rename, may be missing). */
static const struct operation {
    const char *name;
    enum script_kind kind;
    const char *words;
    const char *usage;
} operations[] = {
    {"put", SCRIPT_PUT, "if", "put ID FILE"},
    {"create", SCRIPT_CREATE, "if", "create ID FILE"},
    {"update", SCRIPT_UPDATE, "if", "update ID FILE"},
    {"put-text", SCRIPT_PUT, "id", "put-text ID TEXT"},
    {"create-text", SCRIPT_CREATE, "id", "create-text ID TEXT"},
    {"update-text", SCRIPT_UPDATE, "id", "update-text ID TEXT"},
    {"put-if", SCRIPT_PUT_IF, "ivf", "put-if ID VERSION FILE"},
    {"put-if-text", SCRIPT_PUT_IF, "ivd", "put-if-text ID VERSION TEXT"},
    {"delete", SCRIPT_DELETE, "i", "delete ID"},
    {"delete-if", SCRIPT_DELETE_IF, "iv", "delete-if ID VERSION"},
    {"rename", SCRIPT_RENAME, "itm", "rename FROM TO [noreplace|exchange]"},
};

static const struct operation *find_operation(const char *name) {
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].name, name) == 0) {
            return &operations[i];
        }
    }
    return NULL;
}

/* What parsing one line needs to know. */
struct parser {
    struct cli *cli;
    const docdb_limits *limits;
    struct script *script;
};

static int refuse_word(const struct parser *parser, const struct word *word, const char *what) {
    char escaped[256];
    return report(parser->cli, EXIT_CODE_USAGE, "%s is not %s", output_escape(word->text, escaped, sizeof escaped),
                  what);
}

static int parse_version(const struct parser *parser, const struct word *word, struct script_op *op) {
    char *end = NULL;
    errno = 0;
    op->expected = strtoull(word->text, &end, 10);
    bool digits = word->bytes > 0 && strspn(word->text, "0123456789") == word->bytes;
    if (!digits || errno != 0) {
        return refuse_word(parser, word, "a version");
    }
    if (op->kind == SCRIPT_DELETE_IF && op->expected == 0) {
        return refuse_word(parser, word, "a version of a document that exists");
    }
    return EXIT_CODE_OK;
}

static int parse_rename_mode(const struct parser *parser, const struct word *word, struct script_op *op) {
    if (strcmp(word->text, "noreplace") == 0) {
        op->flags = DOCDB_RENAME_NOREPLACE;
    } else if (strcmp(word->text, "exchange") == 0) {
        op->flags = DOCDB_RENAME_EXCHANGE;
    } else {
        return refuse_word(parser, word, "noreplace or exchange");
    }
    return EXIT_CODE_OK;
}

static int read_document(const struct parser *parser, const struct word *word, struct script_op *op) {
    if (strcmp(word->text, "-") == 0) {
        return report(parser->cli, EXIT_CODE_USAGE,
                      "- can't be the file of a document in a script; use a file, or put-text");
    }
    int code = input_read(parser->cli, word->text, parser->limits->max_doc_bytes,
                          input_document_advice(parser->cli), &op->file);
    op->data = op->file.data;
    op->bytes = op->file.bytes;
    return code;
}

/* An id that holds a NUL must not pass as the shorter one that C sees. */
static int parse_id(const struct parser *parser, const struct word *word, const char **out) {
    if (strlen(word->text) != word->bytes) {
        return report(parser->cli, EXIT_CODE_USAGE, "%s", docdb_error_text(DOCDB_ERR_BAD_ID));
    }
    *out = word->text;
    return EXIT_CODE_OK;
}

static int parse_word(const struct parser *parser, char what, const struct word *word, struct script_op *op) {
    switch (what) {
    case 'i':
        return parse_id(parser, word, &op->id);
    case 't':
        return parse_id(parser, word, &op->to);
    case 'v':
        return parse_version(parser, word, op);
    case 'f':
        return read_document(parser, word, op);
    case 'd':
        op->data = word->text;
        op->bytes = word->bytes;
        return EXIT_CODE_OK;
    default:
        return parse_rename_mode(parser, word, op);
    }
}

static int parse_operation(const struct parser *parser, const struct word *words, size_t count,
                           struct script_op *op) {
    const struct operation *operation = find_operation(words[0].text);
    if (operation == NULL) {
        return refuse_word(parser, &words[0], "an operation; `docdb help txn` lists them");
    }
    size_t most = strlen(operation->words);
    size_t least = most - (strchr(operation->words, 'm') != NULL ? 1 : 0);
    if (count - 1 < least || count - 1 > most) {
        return report(parser->cli, EXIT_CODE_USAGE, "wrong number of words; use: %s", operation->usage);
    }
    *op = (struct script_op){.kind = operation->kind, .name = operation->name, .line = parser->cli->line};
    int code = EXIT_CODE_OK;
    for (size_t i = 1; i < count && code == EXIT_CODE_OK; i++) {
        code = parse_word(parser, operation->words[i - 1], &words[i], op);
    }
    return code;
}

static size_t id_bytes(const char *id) { return id != NULL ? strlen(id) : 0; }

static int check_limits(const struct parser *parser, const struct script_op *op) {
    struct script *script = parser->script;
    script->bytes += op->bytes + id_bytes(op->id) + id_bytes(op->to);
    if (script->count > parser->limits->max_txn_ops) {
        return report(parser->cli, EXIT_CODE_LIMIT, "a transaction has at most %u operations",
                      parser->limits->max_txn_ops);
    }
    if (op->bytes > parser->limits->max_doc_bytes) {
        return report(parser->cli, EXIT_CODE_LIMIT,
                      "the document is larger than the limit of %" PRIu64 " bytes (%s)",
                      parser->limits->max_doc_bytes, input_document_advice(parser->cli));
    }
    if (script->bytes > parser->limits->max_txn_bytes) {
        return report(parser->cli, EXIT_CODE_LIMIT,
                      "the transaction is larger than the limit of %" PRIu64 " bytes (--max-txn-bytes of serve)",
                      parser->limits->max_txn_bytes);
    }
    return EXIT_CODE_OK;
}

static int add_operation(const struct parser *parser, const struct word *words, size_t count) {
    struct script *script = parser->script;
    if (script->count == script->capacity) {
        size_t capacity = script->capacity == 0 ? 64 : script->capacity * 2;
        struct script_op *ops = realloc(script->ops, capacity * sizeof *ops);
        if (ops == NULL) {
            return report(parser->cli, EXIT_CODE_LIMIT, "out of memory");
        }
        script->ops = ops;
        script->capacity = capacity;
    }
    struct script_op *op = &script->ops[script->count];
    *op = (struct script_op){0};
    script->count++; /* now script_fini frees its file, whatever happens */
    int code = parse_operation(parser, words, count, op);
    return code == EXIT_CODE_OK ? check_limits(parser, op) : code;
}

/* ---- The script ---- */

static int parse_lines(const struct parser *parser) {
    char *at = parser->script->text.data;
    char *end = at + parser->script->text.bytes;
    int code = EXIT_CODE_OK;
    while (at < end && code == EXIT_CODE_OK) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        char *line_end = newline != NULL ? newline : end;
        struct word words[WORDS_MAX];
        size_t count = 0;
        parser->cli->line++;
        code = split_line(parser->cli, at, line_end, words, &count);
        if (code == EXIT_CODE_OK && count > 0) {
            code = add_operation(parser, words, count);
        }
        at = line_end + 1;
    }
    return code;
}

int script_read(struct cli *cli, const char *path, const docdb_limits *limits, struct script *out) {
    *out = (struct script){0};
    int code =
        input_read(cli, path, limits->max_txn_bytes, "a large document goes in a file of its own", &out->text);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    struct parser parser = {.cli = cli, .limits = limits, .script = out};
    code = parse_lines(&parser);
    if (code == EXIT_CODE_OK) {
        cli->line = 0;
    }
    return code;
}

void script_fini(struct script *script) {
    for (size_t i = 0; i < script->count; i++) {
        input_fini(&script->ops[i].file);
    }
    free(script->ops);
    input_fini(&script->text);
    *script = (struct script){0};
}
