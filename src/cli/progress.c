/* See copy.h. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/copy.h"

#define DRAW_NS   INT64_C(100000000) /* between two drawings */
#define BAR_CELLS 24

static int64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* "1.5 GiB" */
static const char *bytes_text(double bytes, char *out, size_t out_bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024.0 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024.0;
        unit++;
    }
    (void)snprintf(out, out_bytes, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}

void progress_begin(struct progress *progress, struct cli *cli, const char *what) {
    *progress =
        (struct progress){.cli = cli, .what = what, .is_shown = isatty(STDERR_FILENO) == 1, .start_ns = now_ns()};
}

static void draw_known(const struct progress *progress, uint64_t done, double rate) {
    char bar[BAR_CELLS + 1];
    char done_text[32];
    char total_text[32];
    char rate_text[32];
    double part = (double)done / (double)progress->total;
    size_t filled = (size_t)(part * BAR_CELLS);
    uint64_t left_s = rate > 0.0 ? (uint64_t)((double)(progress->total - done) / rate + 0.5) : 0;
    memset(bar, '.', BAR_CELLS);
    memset(bar, '#', filled < BAR_CELLS ? filled : BAR_CELLS);
    bar[BAR_CELLS] = '\0';
    (void)fprintf(stderr, "\r%s [%s] %3.0f%%  %s of %s  %s/s  %" PRIu64 ":%02" PRIu64 " left\033[K", progress->what,
                  bar, part * 100.0, bytes_text((double)done, done_text, sizeof done_text),
                  bytes_text((double)progress->total, total_text, sizeof total_text),
                  bytes_text(rate, rate_text, sizeof rate_text), left_s / 60, left_s % 60);
}

void progress_step(struct progress *progress, uint64_t done, uint64_t total) {
    int64_t now = progress->is_shown ? now_ns() : 0;
    if (!progress->is_shown || (progress->drawn_ns != 0 && now - progress->drawn_ns < DRAW_NS)) {
        return;
    }
    double seconds = (double)(now - progress->start_ns) / 1e9;
    double rate = seconds > 0.0 ? (double)done / seconds : 0.0;
    progress->drawn_ns = now;
    progress->total = total;
    progress->cli->progress_drawn = true;
    if (total >= done && total > 0) {
        draw_known(progress, done, rate);
    } else {
        char done_text[32];
        char rate_text[32];
        (void)fprintf(stderr, "\r%s %s  %s/s\033[K", progress->what,
                      bytes_text((double)done, done_text, sizeof done_text),
                      bytes_text(rate, rate_text, sizeof rate_text));
    }
}

void progress_end(struct progress *progress) {
    if (progress->drawn_ns != 0) {
        (void)fprintf(stderr, "\r\033[K");
        progress->drawn_ns = 0;
        progress->cli->progress_drawn = false;
    }
}
