/*
 * A bare group-commit loop: what a store could reach that does nothing but make puts durable. No index, no
 * checksums, no recovery.
 *
 * Happy path: a put stands in a queue and sleeps; one thread takes what is in the queue, copies it into one buffer,
 * writes that with one O_DIRECT|O_DSYNC write into a file that was written full of zeros before (so that a write
 * changes nothing in the file system but the file's blocks), and wakes those whose puts were in it. At the end of
 * the file it starts over at its beginning.
 *
 * A session remembers where its last put went, so that it can be read back and checked. Other puts can't be found.
 *
 * Failures: where a file system has no O_DIRECT, the write is O_DSYNC alone.
 * Locks: mutex guards the queue; nobody holds it over a write.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "tests/benchmarks/lib/bench.h"
#include "tests/lib/temp.h"

#define FILE_BYTES   ((size_t)128 << 20)
#define BUFFER_BYTES ((size_t)8 << 20) /* the largest batch */
#define BLOCK_BYTES  ((size_t)4096)    /* the alignment that O_DIRECT wants */

struct record_header {
    size_t id_bytes;
    size_t bytes;
};

struct request {
    struct request *next;
    const struct peer_doc *doc;
    size_t record_bytes;
    size_t offset; /* in the file, once written */
    sem_t done;
};

struct store {
    int file;
    int reader; /* the same file, without O_DIRECT */
    char *buffer;
    size_t file_end;
    pthread_t thread;

    struct mutex mutex;
    struct condition filled;
    struct request *head GUARDED_BY(mutex);
    struct request **tail GUARDED_BY(mutex);
    bool is_closing GUARDED_BY(mutex);
};

struct session {
    struct store *store;
    struct request request;
    char *read_buffer;
};

static void must(bool ok, const char *what) {
    if (!ok) {
        bench_die("bare: %s: %s", what, strerror(errno));
    }
}

/* ---- The loop ---- */

/* Waits for puts and takes as many as fit into one write, in order. NULL: the store is closing. */
static struct request *take_batch(struct store *store) {
    size_t bytes = 0;
    mutex_lock(&store->mutex);
    while (store->head == NULL && !store->is_closing) {
        condition_wait(&store->filled, &store->mutex);
    }
    struct request *batch = store->head;
    struct request **end = &batch;
    while (*end != NULL && bytes + (*end)->record_bytes <= BUFFER_BYTES) {
        bytes += (*end)->record_bytes;
        end = &(*end)->next;
    }
    store->head = *end;
    *end = NULL;
    if (store->head == NULL) {
        store->tail = &store->head;
    }
    mutex_unlock(&store->mutex);
    return batch;
}

static size_t copy_record(char *out, const struct peer_doc *doc) {
    struct record_header header = {.id_bytes = doc->id_bytes, .bytes = doc->bytes};
    memcpy(out, &header, sizeof header);
    memcpy(out + sizeof header, doc->id, doc->id_bytes);
    memcpy(out + sizeof header + doc->id_bytes, doc->data, doc->bytes);
    return sizeof header + doc->id_bytes + doc->bytes;
}

static void write_batch(struct store *store, struct request *batch) {
    size_t used = 0;
    for (struct request *request = batch; request != NULL; request = request->next) {
        request->offset = used;
        used += copy_record(store->buffer + used, request->doc);
    }
    size_t padded = (used + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    memset(store->buffer + used, 0, padded - used);
    if (store->file_end + padded > FILE_BYTES) {
        store->file_end = 0;
    }
    must(pwrite(store->file, store->buffer, padded, (off_t)store->file_end) == (ssize_t)padded, "a write");
    /* A request is its putter's again once it is woken. */
    for (struct request *next = NULL; batch != NULL; batch = next) {
        next = batch->next;
        batch->offset += store->file_end;
        (void)sem_post(&batch->done);
    }
    store->file_end += padded;
}

static void *loop_main(void *arg) {
    struct store *store = arg;
    for (struct request *batch = NULL; (batch = take_batch(store)) != NULL;) {
        write_batch(store, batch);
    }
    return NULL;
}

/* ---- The store ---- */

static void fill_with_zeros(const char *path, const char *zeros) {
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    must(file >= 0, "creating the file");
    for (size_t done = 0; done < FILE_BYTES; done += BUFFER_BYTES) {
        must(write(file, zeros, BUFFER_BYTES) == (ssize_t)BUFFER_BYTES, "filling the file");
    }
    must(fsync(file) == 0, "syncing the file");
    (void)close(file);
}

static int open_direct(const char *path) {
    int file = open(path, O_WRONLY | O_DSYNC | O_DIRECT | O_CLOEXEC);
    return file >= 0 ? file : open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
}

static void *bare_open(const char *directory, size_t doc_bytes) {
    (void)doc_bytes;
    struct store *store = bench_alloc(1, sizeof *store);
    char *path = temp_path(directory, "log");
    store->buffer = aligned_alloc(BLOCK_BYTES, BUFFER_BYTES);
    must(store->buffer != NULL, "memory");
    memset(store->buffer, 0, BUFFER_BYTES);
    fill_with_zeros(path, store->buffer);
    store->file = open_direct(path);
    store->reader = open(path, O_RDONLY | O_CLOEXEC);
    must(store->file >= 0 && store->reader >= 0, "opening the file");
    free(path);
    mutex_init(&store->mutex);
    condition_init(&store->filled);
    store->tail = &store->head;
    must(thread_start(&store->thread, "bare", loop_main, store) == 0, "starting the loop");
    return store;
}

static void bare_close(void *opened) {
    struct store *store = opened;
    mutex_lock(&store->mutex);
    store->is_closing = true;
    condition_signal(&store->filled);
    mutex_unlock(&store->mutex);
    thread_join(store->thread);
    condition_fini(&store->filled);
    mutex_fini(&store->mutex);
    (void)close(store->reader);
    (void)close(store->file);
    free(store->buffer);
    free(store);
}

static void *session_open(void *opened) {
    struct session *session = bench_alloc(1, sizeof *session);
    session->store = opened;
    (void)sem_init(&session->request.done, 0, 0);
    return session;
}

static void session_close(void *opened) {
    struct session *session = opened;
    (void)sem_destroy(&session->request.done);
    free(session->read_buffer);
    free(session);
}

static void put(void *opened, const struct peer_doc *doc) {
    struct session *session = opened;
    struct store *store = session->store;
    struct request *request = &session->request;
    request->doc = doc;
    request->record_bytes = sizeof(struct record_header) + doc->id_bytes + doc->bytes;
    request->next = NULL;
    must(request->record_bytes <= BUFFER_BYTES, "a document larger than a batch");
    mutex_lock(&store->mutex);
    bool was_empty = store->head == NULL;
    *store->tail = request;
    store->tail = &request->next;
    mutex_unlock(&store->mutex);
    if (was_empty) {
        condition_signal(&store->filled);
    }
    while (sem_wait(&request->done) != 0) {
    }
}

static bool get(void *opened, const char *id, struct peer_doc *out) {
    struct session *session = opened;
    const struct request *request = &session->request;
    struct record_header header;
    size_t id_bytes = strlen(id);
    if (request->record_bytes == 0) {
        return false;
    }
    free(session->read_buffer);
    session->read_buffer = bench_alloc(1, request->record_bytes);
    must(pread(session->store->reader, session->read_buffer, request->record_bytes, (off_t)request->offset) ==
             (ssize_t)request->record_bytes,
         "reading");
    memcpy(&header, session->read_buffer, sizeof header);
    const char *data = session->read_buffer + sizeof header;
    if (header.id_bytes != id_bytes || memcmp(data, id, id_bytes) != 0) {
        return false;
    }
    *out = (struct peer_doc){.id = id, .id_bytes = id_bytes, .data = data + id_bytes, .bytes = header.bytes};
    return true;
}

const struct peer peer_bare = {.name = "bare",
                               .last_put_only = true,
                               .open = bare_open,
                               .close = bare_close,
                               .session_open = session_open,
                               .session_close = session_close,
                               .put = put,
                               .get = get};
