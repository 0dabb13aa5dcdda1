/* See names.h. */
#include "base/names.h"

#include <string.h>

#include "docdb.h"

bool id_valid(const char *id, size_t bytes) {
    if (bytes == 0 || bytes > DOCDB_ID_BYTES_MAX) {
        return false;
    }
    if (id[0] == '.' && (bytes == 1 || (bytes == 2 && id[1] == '.'))) {
        return false;
    }
    return memchr(id, '/', bytes) == NULL && memchr(id, '\0', bytes) == NULL;
}

bool name_valid(const char *name, size_t bytes) {
    if (bytes == 0 || bytes > DOCDB_NAME_BYTES_MAX || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        char c = name[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                  c == '-' || c == '.';
        if (!ok) {
            return false;
        }
    }
    return true;
}
