/* The log: one line an event, handed to the function of docdb_options.log. */
#ifndef DOCDB_BASE_LOG_H
#define DOCDB_BASE_LOG_H

#include "docdb.h"

struct log {
    docdb_log_fn fn; /* NULL: errors and warnings go to stderr */
    void *arg;
};

__attribute__((format(printf, 3, 4))) void log_write(const struct log *log, docdb_log_level level,
                                                     const char *format, ...);

#define log_error(log, ...)   log_write((log), DOCDB_LOG_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_write((log), DOCDB_LOG_WARNING, __VA_ARGS__)
#define log_info(log, ...)    log_write((log), DOCDB_LOG_INFO, __VA_ARGS__)

#endif
