/* See log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static void log_to_stderr(docdb_log_level level, const char *line) {
    if (level <= DOCDB_LOG_WARNING) {
        (void)fprintf(stderr, "docdb: %s%s\n", level == DOCDB_LOG_WARNING ? "warning: " : "", line);
    }
}

void log_write(const struct log *log, docdb_log_level level, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (log->fn != NULL) {
        log->fn(log->arg, level, line);
    } else {
        log_to_stderr(level, line);
    }
}
