/* See temp.h. */
#include "tests/lib/temp.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

char *temp_make(void) {
    const char *base = getenv("TEST_TMP");
    char *path = NULL;
    if (asprintf(&path, "%s/docdb-test.XXXXXX", base != NULL ? base : "/tmp") < 0 || mkdtemp(path) == NULL) {
        perror("temp_make");
        abort();
    }
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void temp_remove(char *path) {
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

char *temp_path(const char *directory, const char *name) {
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) < 0) {
        abort();
    }
    return path;
}
