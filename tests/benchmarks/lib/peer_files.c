/*
 * Plain files, as careful programs replace them: write a new file, fsync it, rename it over the old one, fsync the
 * directory. One directory; a document's id is its file's name. A session has a temporary file's name of its own,
 * which begins with a dot as no id does.
 *
 * It has no snapshots: a scan lists the names first and reads what is there then. A load writes the files without
 * syncs; settle syncs the file system once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/benchmarks/lib/bench.h"

struct store {
    int directory;
    atomic_uint sessions;
};

struct session {
    struct store *store;
    char temporary[32];
    char *buffer; /* what get read last */
    size_t buffer_bytes;
};

static void must(bool ok, const char *what, const char *name) {
    if (!ok) {
        bench_die("files: %s %s: %s", what, name, strerror(errno));
    }
}

static void *files_open(const char *directory, size_t doc_bytes) {
    (void)doc_bytes;
    struct store *store = bench_alloc(1, sizeof *store);
    store->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(store->directory >= 0, "opening", directory);
    return store;
}

static void files_close(void *opened) {
    struct store *store = opened;
    (void)close(store->directory);
    free(store);
}

static void *session_open(void *opened) {
    struct session *session = bench_alloc(1, sizeof *session);
    session->store = opened;
    (void)snprintf(session->temporary, sizeof session->temporary, ".new.%u",
                   atomic_fetch_add(&session->store->sessions, 1));
    return session;
}

static void session_close(void *opened) {
    struct session *session = opened;
    free(session->buffer);
    free(session);
}

static void write_all(int file, const struct peer_doc *doc) {
    const char *data = doc->data;
    for (size_t done = 0; done < doc->bytes;) {
        ssize_t written = write(file, data + done, doc->bytes - done);
        must(written > 0, "writing", doc->id);
        done += (size_t)written;
    }
}

static void put(void *opened, const struct peer_doc *doc) {
    struct session *session = opened;
    int directory = session->store->directory;
    int file = openat(directory, session->temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    must(file >= 0, "creating", session->temporary);
    write_all(file, doc);
    must(fsync(file) == 0, "syncing", session->temporary);
    must(close(file) == 0, "closing", session->temporary);
    must(renameat(directory, session->temporary, directory, doc->id) == 0, "renaming to", doc->id);
    must(fsync(directory) == 0, "syncing the directory of", doc->id);
}

static void put_many(void *opened, const struct peer_doc *docs, size_t count) {
    struct session *session = opened;
    for (size_t i = 0; i < count; i++) {
        int file = openat(session->store->directory, docs[i].id, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
        must(file >= 0, "creating", docs[i].id);
        write_all(file, &docs[i]);
        must(close(file) == 0, "closing", docs[i].id);
    }
}

static void settle(void *opened) {
    struct store *store = opened;
    must(syncfs(store->directory) == 0, "syncing", "the file system");
}

static void buffer_reserve(struct session *session, size_t bytes) {
    if (session->buffer_bytes < bytes) {
        free(session->buffer);
        session->buffer = bench_alloc(1, bytes);
        session->buffer_bytes = bytes;
    }
}

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    struct stat status;
    int file = openat(session->store->directory, id, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT) {
        return false;
    }
    must(file >= 0 && fstat(file, &status) == 0, "opening", id);
    size_t bytes = (size_t)status.st_size;
    buffer_reserve(session, bytes + 1);
    size_t done = 0;
    for (ssize_t got = 1; done < bytes && got != 0; done += (size_t)got) {
        got = read(file, session->buffer + done, bytes - done);
        must(got >= 0, "reading", id);
    }
    (void)close(file);
    *out = (struct peer_doc){.id = id, .id_bytes = strlen(id), .data = session->buffer, .bytes = done};
    return true;
}

static int is_document(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void scan(void *opened, peer_visit_fn visit, void *arg) {
    struct session *session = opened;
    struct dirent **names = NULL;
    struct peer_doc doc;
    int count = scandirat(session->store->directory, ".", &names, is_document, by_name);
    must(count >= 0, "listing", "the directory");
    for (int i = 0; i < count; i++) {
        if (get(session, names[i]->d_name, &doc)) {
            visit(arg, &doc);
        }
        free(names[i]);
    }
    free(names);
}

const struct peer peer_files = {.name = "files",
                                .open = files_open,
                                .close = files_close,
                                .session_open = session_open,
                                .session_close = session_close,
                                .put = put,
                                .put_many = put_many,
                                .settle = settle,
                                .get = get,
                                .scan = scan};
