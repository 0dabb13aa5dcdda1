/*
 * What goes to stdout: bytes, lines, JSON, times; and the escaping of ids, which may hold any byte but '/' and NUL.
 *
 * A person's terminal never gets a control character from an id. A pipe gets ids as they are, one a line (--null:
 * each with a NUL, for ids with newlines). JSON is always valid UTF-8: in an id that is not, each bad byte is shown
 * as U+FFFD, and "id_base64" holds the exact bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define NS_PER_S 1000000000

/* ---- Bytes ---- */

bool output_ok(const struct cli *cli) { return cli->output_errno == 0; }

void output_bytes(struct cli *cli, const void *data, size_t bytes) {
    if (output_ok(cli) && bytes != 0 && fwrite(data, 1, bytes, stdout) != bytes) {
        cli->output_errno = errno;
    }
}

void output_printf(struct cli *cli, const char *format, ...) {
    if (!output_ok(cli)) {
        return;
    }
    va_list args;
    va_start(args, format);
    if (vprintf(format, args) < 0) {
        cli->output_errno = errno;
    }
    va_end(args);
}

int output_finish(struct cli *cli) {
    if (output_ok(cli) && fflush(stdout) != 0) {
        cli->output_errno = errno;
    }
    if (output_ok(cli)) {
        return EXIT_CODE_OK;
    }
    return cli->output_errno == ENOSPC ? EXIT_CODE_LIMIT : EXIT_CODE_FAILED;
}

/* ---- Escaping ---- */

size_t output_utf8_length(const char *text, size_t bytes) {
    const unsigned char *s = (const unsigned char *)text;
    if (bytes == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || bytes < length) {
        return 0; /* 0xc0 and 0xc1 could only begin an overlong form */
    }
    /* The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF. */
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf) {
            return 0;
        }
    }
    return length;
}

/* Control characters: C0, DEL, and C1, which is U+0080 to U+009F in UTF-8. */
static bool is_control(const char *text, size_t length) {
    unsigned char first = (unsigned char)text[0];
    return first < 0x20 || first == 0x7f || (length == 2 && first == 0xc2 && (unsigned char)text[1] < 0xa0);
}

static size_t escape_byte(char byte, char out[5]) {
    switch (byte) {
    case '\n':
        return (size_t)snprintf(out, 5, "\\n");
    case '\t':
        return (size_t)snprintf(out, 5, "\\t");
    case '\r':
        return (size_t)snprintf(out, 5, "\\r");
    case '\\':
        return (size_t)snprintf(out, 5, "\\\\");
    default:
        return (size_t)snprintf(out, 5, "\\x%02x", (unsigned char)byte);
    }
}

const char *output_escape(const char *text, char *buffer, size_t bytes) {
    size_t at = 0;
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = output_utf8_length(text, left);
        char escaped[5];
        const char *piece = text;
        size_t piece_bytes = length;
        size_t taken = length == 0 ? 1 : length;
        if (length == 0 || text[0] == '\\' || is_control(text, length)) {
            taken = 1; /* the rest of a C1 character is no UTF-8 by itself, and is escaped in its turn */
            piece_bytes = escape_byte(text[0], escaped);
            piece = escaped;
        }
        if (at + piece_bytes >= bytes) {
            break;
        }
        memcpy(buffer + at, piece, piece_bytes);
        at += piece_bytes;
        text += taken;
        left -= taken;
    }
    buffer[at] = '\0';
    return buffer;
}

void output_name(struct cli *cli, const char *name) {
    if (cli->options[OPTION_NULL].given) {
        output_bytes(cli, name, strlen(name) + 1);
    } else if (isatty(STDOUT_FILENO)) {
        char escaped[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)];
        output_printf(cli, "%s\n", output_escape(name, escaped, sizeof escaped));
    } else {
        output_bytes(cli, name, strlen(name));
        output_bytes(cli, "\n", 1);
    }
}

/* ---- JSON ---- */

static void output_json_text(struct cli *cli, const char *text, bool *is_utf8) {
    size_t left = strlen(text);
    output_bytes(cli, "\"", 1);
    while (left > 0) {
        size_t length = output_utf8_length(text, left);
        unsigned char first = (unsigned char)text[0];
        if (length == 0) {
            output_printf(cli, "\\ufffd");
            *is_utf8 = false;
            length = 1;
        } else if (first == '"' || first == '\\') {
            output_printf(cli, "\\%c", first);
        } else if (first < 0x20 || first == 0x7f) {
            output_printf(cli, "\\u%04x", first);
        } else {
            output_bytes(cli, text, length);
        }
        text += length;
        left -= length;
    }
    output_bytes(cli, "\"", 1);
}

void output_json_string(struct cli *cli, const char *text) {
    bool is_utf8 = true;
    output_json_text(cli, text, &is_utf8);
}

static void output_base64(struct cli *cli, const char *text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = (const unsigned char *)text;
    for (size_t left = strlen(text); left > 0;) {
        size_t taken = left < 3 ? left : 3;
        uint32_t bits = (uint32_t)s[0] << 16;
        bits |= taken > 1 ? (uint32_t)s[1] << 8 : 0;
        bits |= taken > 2 ? s[2] : 0;
        char out[4] = {digits[bits >> 18 & 63], digits[bits >> 12 & 63], '=', '='};
        if (taken > 1) {
            out[2] = digits[bits >> 6 & 63];
        }
        if (taken > 2) {
            out[3] = digits[bits & 63];
        }
        output_bytes(cli, out, sizeof out);
        s += taken;
        left -= taken;
    }
}

void output_json_id(struct cli *cli, const char *id) {
    bool is_utf8 = true;
    output_printf(cli, "\"id\": ");
    output_json_text(cli, id, &is_utf8);
    if (!is_utf8) {
        output_printf(cli, ", \"id_base64\": \"");
        output_base64(cli, id);
        output_printf(cli, "\"");
    }
}

/* ---- Times ---- */

const char *output_time(int64_t time_ns, int digits, char buffer[OUTPUT_TIME_BYTES]) {
    int64_t ns = time_ns % NS_PER_S;
    time_t seconds = time_ns / NS_PER_S;
    if (ns < 0) {
        ns += NS_PER_S;
        seconds--;
    }
    struct tm utc;
    if (gmtime_r(&seconds, &utc) == NULL) {
        (void)snprintf(buffer, OUTPUT_TIME_BYTES, "%" PRId64 " ns", time_ns);
        return buffer;
    }
    size_t at = strftime(buffer, OUTPUT_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    if (digits > 0) {
        char fraction[16];
        (void)snprintf(fraction, sizeof fraction, "%09" PRId64, ns);
        at += (size_t)snprintf(buffer + at, OUTPUT_TIME_BYTES - at, ".%.*s", digits, fraction);
    }
    (void)snprintf(buffer + at, OUTPUT_TIME_BYTES - at, "Z");
    return buffer;
}
