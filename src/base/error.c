/* See error.h and the X-macro DOCDB_ERRORS in docdb.h. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const char *docdb_error_name(int status) {
    switch (status) {
    case DOCDB_OK:
        return "OK";
#define CASE(name, value, errno_value, text)                                                                       \
    case (value):                                                                                                  \
        return #name;
        DOCDB_ERRORS(CASE)
#undef CASE
    default:
        return "UNKNOWN";
    }
}

const char *docdb_error_text(int status) {
    switch (status) {
    case DOCDB_OK:
        return "no error";
#define CASE(name, value, errno_value, text)                                                                       \
    case (value):                                                                                                  \
        return text;
        DOCDB_ERRORS(CASE)
#undef CASE
    default:
        return "unknown error";
    }
}

int docdb_error_errno(int status) {
    switch (status) {
    case DOCDB_OK:
        return 0;
#define CASE(name, value, errno_value, text)                                                                       \
    case (value):                                                                                                  \
        return errno_value;
        DOCDB_ERRORS(CASE)
#undef CASE
    default:
        return EIO;
    }
}

const char *docdb_version(void) { return DOCDB_VERSION; }

int error_from_os(int64_t rc) {
    if (rc >= 0) {
        return DOCDB_OK;
    }
    switch (-rc) {
    case ENOSPC:
    case EDQUOT:
        return DOCDB_ERR_NO_SPACE;
    case EACCES:
    case EPERM:
        return DOCDB_ERR_PERMISSION;
    case EROFS:
        return DOCDB_ERR_READ_ONLY;
    case ENOMEM:
        return DOCDB_ERR_MEMORY;
    default:
        return DOCDB_ERR_IO;
    }
}

int error_set(docdb_error *error, int status, const char *format, ...) {
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        error->status = status;
        (void)vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
    }
    return status;
}
