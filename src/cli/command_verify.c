/*
 * `docdb verify`: checks a whole data directory, that of a server (--socket) or one that no process uses
 * (--data-dir; the engine is not opened then, so it works on one that is refused as damaged).
 *
 * stdout gets a line for each damage and one with the counts; stderr, when it is a terminal, a progress bar.
 */
#include <inttypes.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"

#define BAR_CELLS    30
#define BAR_EVERY_NS INT64_C(100000000)
#define NS_PER_S     INT64_C(1000000000)

struct bar {
    bool shown; /* stderr is a terminal */
    int64_t start_ns;
    int64_t drawn_ns; /* 0: nothing is drawn now */
};

static int64_t now_ns(void) { return os_monotonic_ns(docdb_os_default()); }

static void bar_clear(struct bar *bar) {
    if (bar->drawn_ns != 0) {
        (void)fprintf(stderr, "\r\033[K");
        (void)fflush(stderr);
        bar->drawn_ns = 0;
    }
}

static void bar_draw(struct bar *bar, const docdb_verify_event *event) {
    int64_t now = now_ns();
    if (!bar->shown || now - bar->drawn_ns < BAR_EVERY_NS) {
        return;
    }
    bar->drawn_ns = now;
    char cells[BAR_CELLS + 1];
    double share = event->total_bytes == 0 ? 1.0 : (double)event->done_bytes / (double)event->total_bytes;
    double seconds = (double)(now - bar->start_ns) / (double)NS_PER_S;
    double rate = seconds > 0 ? (double)event->done_bytes / seconds : 0;
    uint64_t left_s = rate > 0 ? (uint64_t)((double)(event->total_bytes - event->done_bytes) / rate) : 0;
    for (int i = 0; i < BAR_CELLS; i++) {
        cells[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
    }
    cells[BAR_CELLS] = '\0';
    (void)fprintf(stderr, "\r[%s] %3d %%  %.1f MiB/s  %" PRIu64 ":%02" PRIu64 " left  %" PRIu64 " documents\033[K",
                  cells, (int)(share * 100), rate / (1 << 20), left_s / 60, left_s % 60, event->documents);
    (void)fflush(stderr);
}

/* ---- Damage ---- */

static void print_json_damage(struct cli *cli, const docdb_verify_event *event) {
    output_printf(cli, "{\"file\": ");
    output_json_string(cli, event->file);
    output_printf(cli, ", \"offset\": %" PRIu64 ", \"database\": ", event->offset);
    output_json_string(cli, event->database);
    output_printf(cli, ", ");
    output_json_id(cli, event->id);
    output_printf(cli, ", \"what\": ");
    output_json_string(cli, event->what);
    output_printf(cli, "}\n");
}

static void print_damage(struct cli *cli, const docdb_verify_event *event) {
    char file[OUTPUT_ESCAPED_BYTES(4096)];
    char id[OUTPUT_ESCAPED_BYTES(DOCDB_ID_BYTES_MAX)];
    if (cli->options[OPTION_JSON].given) {
        print_json_damage(cli, event);
        return;
    }
    output_printf(cli, "%s: offset %" PRIu64 ": ", output_escape(event->file, file, sizeof file), event->offset);
    if (event->database[0] != '\0') {
        output_printf(cli, "%s%s%s: ", event->database, event->id[0] != '\0' ? "/" : "",
                      output_escape(event->id, id, sizeof id));
    }
    output_printf(cli, "%s\n", event->what);
}

static void print_counts(struct cli *cli, const docdb_verify_event *last) {
    if (cli->options[OPTION_JSON].given) {
        output_printf(cli, "{\"documents\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"damages\": %" PRIu64 "}\n",
                      last->documents, last->done_bytes, last->damages);
    } else if (last->damages == 0) {
        output_printf(cli, "%" PRIu64 " documents checked, %" PRIu64 " bytes read: sound\n", last->documents,
                      last->done_bytes);
    } else {
        output_printf(cli, "%" PRIu64 " documents checked, %" PRIu64 " bytes read: %" PRIu64 " damage%s\n",
                      last->documents, last->done_bytes, last->damages, last->damages == 1 ? "" : "s");
    }
}

/* ---- The command ---- */

static int verify_open(struct cli *cli, docdb_verify **out) {
    if (cli->socket == NULL) {
        docdb_error error = {0};
        int status = docdb_verify_directory(cli->data_dir, NULL, out, &error);
        return status == DOCDB_OK ? EXIT_CODE_OK : report(cli, report_exit_code(status), "%s", error.message);
    }
    int code = runtime_open(cli, 0);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = docdb_verify_open(cli->runtime, out);
    return status == DOCDB_OK
               ? EXIT_CODE_OK
               : report(cli, report_exit_code(status), "can't start to verify: %s", docdb_error_text(status));
}

/* Takes all events; *last gets the counts of the last one. */
static int verify_read(struct cli *cli, docdb_verify *verify, docdb_verify_event *last) {
    struct bar bar = {.shown = isatty(STDERR_FILENO) != 0, .start_ns = now_ns()};
    int status = docdb_verify_next(verify, last);
    while (status == DOCDB_OK && output_ok(cli)) {
        if (last->kind == DOCDB_VERIFY_DAMAGE) {
            bar_clear(&bar);
            print_damage(cli, last);
            (void)fflush(stdout); /* told at once, also into a pipe; a failure is found by output_finish */
        }
        bar_draw(&bar, last);
        status = docdb_verify_next(verify, last);
    }
    bar_clear(&bar);
    return status;
}

int command_verify(struct cli *cli) {
    docdb_verify *verify = NULL;
    docdb_verify_event last = {0};
    int code = verify_open(cli, &verify);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    int status = verify_read(cli, verify, &last);
    if (status == DOCDB_ERR_END) {
        print_counts(cli, &last);
        code = last.damages == 0 ? EXIT_CODE_OK : EXIT_CODE_UNUSABLE;
    } else if (status != DOCDB_OK) {
        code = report(cli, report_exit_code(status), "could not verify all of it: %s", docdb_error_text(status));
    }
    docdb_verify_close(verify);
    return code;
}
