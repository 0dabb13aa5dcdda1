/* Temporary directories for tests. */
#ifndef DOCDB_TESTS_TEMP_H
#define DOCDB_TESTS_TEMP_H

/* A new empty directory below TEST_TMP or /tmp; the caller frees the path and removes it with temp_remove. Aborts
 * on failure. */
char *temp_make(void);
/* Removes the directory with everything in it, and frees the path. */
void temp_remove(char *path);
/* "<directory>/<name>", from malloc. */
char *temp_path(const char *directory, const char *name);

#endif
