/* The receiving half of a link: the reader thread. See link.h. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/doc.h"
#include "client/link.h"
#include "client/link_inside.h"

/* ---- Calls ---- */

void call_init(struct call *call, void (*done)(struct call *call)) {
    *call = (struct call){.done = done};
    event_init(&call->event);
}

void call_fini(struct call *call) {
    if (call->body != call->small) {
        free(call->body);
    }
    call->body = NULL;
    docdb_doc_release(call->document);
    call->document = NULL;
}

/* Hands the call to its waiter, who may be gone with it at once, or puts its callback among those due. */
static void call_finish(struct link *link, struct call *call, int status) {
    call->status = status;
    if (call->done != NULL) {
        call->next = NULL;
        *link->due_end = call;
        link->due_end = &call->next;
        return;
    }
    call->finished = true;
    event_set(&call->event);
}

static void due_run(struct link *link) {
    while (link->due != NULL) {
        struct call *call = link->due;
        link->due = call->next;
        if (link->due == NULL) {
            link->due_end = &link->due;
        }
        call->done(call);
    }
}

/* ---- The end ---- */

/* Nothing more will come: ends every call. */
static void reader_end(struct link *link) {
    link->ended = true;
    mutex_lock(&link->mutex);
    link_break_locked(link);
    mutex_unlock(&link->mutex);
    for (struct call *call = link_call_any(link); call != NULL; call = link_call_any(link)) {
        call_finish(link, call, DOCDB_ERR_DISCONNECTED);
    }
}

/* The server broke the protocol, or said that this side did. */
static bool reader_complain(struct link *link, const char *what, const char *detail) {
    log_error(&link->log, "the connection to the server on %s is given up: %s%s", link->path, what, detail);
    return false;
}

/* ---- Bytes ---- */

/* Some bytes to `buffer`; 0 when the connection has ended. */
static size_t receive_some(struct link *link, void *buffer, size_t bytes) {
    for (;;) {
        ssize_t count = recv(link->socket, buffer, bytes, 0);
        if (count >= 0 || errno != EINTR) {
            return count < 0 ? 0 : (size_t)count;
        }
    }
}

/* Exactly so many bytes: first what the input buffer holds, then straight from the socket. */
static bool receive(struct link *link, void *to, size_t bytes) {
    uint8_t *at = to;
    size_t buffered = link->input_end - link->input_at;
    size_t copied = buffered < bytes ? buffered : bytes;
    if (copied != 0) {
        memcpy(at, link->input + link->input_at, copied);
        link->input_at += copied;
    }
    while (copied < bytes) {
        size_t count = receive_some(link, at + copied, bytes - copied);
        if (count == 0) {
            return false;
        }
        copied += count;
    }
    return true;
}

static bool receive_nowhere(struct link *link, size_t bytes) {
    uint8_t scrap[4096];
    while (bytes != 0) {
        size_t part = bytes < sizeof scrap ? bytes : sizeof scrap;
        if (!receive(link, scrap, part)) {
            return false;
        }
        bytes -= part;
    }
    return true;
}

/* Waits until there is something to read, and sends meanwhile where the reader is the sender. */
static void wait_for_input(struct link *link) {
    for (;;) {
        mutex_lock(&link->mutex);
        bool sending = link->sender == SENDER_READER;
        mutex_unlock(&link->mutex);
        if (!sending) {
            return; /* receiving waits by itself */
        }
        struct pollfd events = {.fd = link->socket, .events = POLLIN | POLLOUT};
        if (poll(&events, 1, -1) < 0 && errno != EINTR) {
            return;
        }
        if (events.revents & POLLOUT) {
            mutex_lock(&link->mutex);
            link_send_queued(link, SENDER_READER);
            mutex_unlock(&link->mutex);
        }
        if (events.revents & ~POLLOUT) {
            return;
        }
    }
}

/* ---- Replies ---- */

/* Receives the info and the document of a READ. False: the connection is done for. */
static bool receive_document(struct link *link, const struct frame *frame, struct call *call, int *status) {
    uint8_t head[INFO_BYTES];
    docdb_info info;
    if (frame->body_bytes < INFO_BYTES || !receive(link, head, INFO_BYTES)) {
        return false;
    }
    size_t bytes = frame->body_bytes - INFO_BYTES;
    if (info_decode(&info, head, INFO_BYTES) != NULL || info.bytes != bytes) {
        return reader_complain(link, "a document whose length is not the one that goes with it", "");
    }
    docdb_doc *document = doc_create(bytes);
    if (document == NULL) {
        *status = DOCDB_ERR_MEMORY;
        return receive_nowhere(link, bytes);
    }
    document->info =
        info; /* its checksum stays 0: nothing on this side of the socket is checked against the disk */
    call->document = document;
    return receive(link, document->data, bytes);
}

static bool receive_body(struct link *link, const struct frame *frame, struct call *call, int *status) {
    if (call->wants_document && *status == DOCDB_OK) {
        return receive_document(link, frame, call, status);
    }
    call->body = frame->body_bytes <= sizeof call->small ? call->small : malloc(frame->body_bytes);
    if (call->body == NULL) {
        *status = DOCDB_ERR_MEMORY;
        return receive_nowhere(link, frame->body_bytes);
    }
    call->body_bytes = frame->body_bytes;
    return receive(link, call->body, frame->body_bytes);
}

/* What the server says before it closes the connection. */
static bool receive_error(struct link *link, const struct frame *frame) {
    char text[MESSAGE_BYTES_MAX + 1];
    size_t bytes = frame->body_bytes < MESSAGE_BYTES_MAX ? frame->body_bytes : MESSAGE_BYTES_MAX;
    if (!receive(link, text, bytes)) {
        return false;
    }
    text[bytes] = '\0';
    return reader_complain(link, "the server says: ", text);
}

/* One frame, of which at least the first byte is there. False: the connection is done for. */
static bool receive_frame(struct link *link) {
    uint8_t header[FRAME_BYTES];
    struct frame frame;
    if (!receive(link, header, FRAME_BYTES)) {
        return false;
    }
    frame_decode(&frame, header);
    const char *problem = frame_check_reply(&frame);
    if (problem != NULL) {
        return reader_complain(link, problem, "");
    }
    if (frame.op == OP_ERROR) {
        return receive_error(link, &frame);
    }
    struct call *call = link_call_find(link, frame.request_id);
    if (call == NULL) {
        return reader_complain(link, "a reply to no request", "");
    }
    int status = frame.status;
    bool received = call->op == frame.op
                        ? receive_body(link, &frame, call, &status)
                        : reader_complain(link, "a reply of another operation than the request", "");
    call->handle = frame.handle;
    call->flags = frame.flags;
    call_finish(link, call, received ? status : DOCDB_ERR_DISCONNECTED);
    return received;
}

/* Receives at least one frame, or finds the end. */
static void reader_step(struct link *link) {
    if (link->input_at == link->input_end) {
        wait_for_input(link);
        link->input_at = 0;
        link->input_end = receive_some(link, link->input, LINK_READ_BUFFER_BYTES);
        if (link->input_end == 0) {
            reader_end(link);
            return;
        }
    }
    if (!receive_frame(link)) {
        reader_end(link);
    }
}

static void *reader_main(void *arg) {
    struct link *link = arg;
    while (!link->ended) {
        reader_step(link);
        if (link->input_at == link->input_end) {
            due_run(link); /* once for all replies that came together */
        }
    }
    due_run(link);
    return NULL;
}

/* ---- Waiting ---- */

int link_wait(struct link *link, struct call *call) {
    if (pthread_equal(pthread_self(), link->reader)) {
        while (!call->finished) { /* reader_end finishes every call */
            reader_step(link);
        }
    } else {
        event_wait(&call->event);
    }
    return call->status;
}

int link_call(struct link *link, struct chunk *chunk, uint8_t op, uint32_t handle, struct call *call) {
    int status = chunk == NULL ? DOCDB_ERR_MEMORY : link_send(link, chunk, op, 0, handle, call);
    if (status != DOCDB_OK) {
        call->status = status;
        return status;
    }
    return link_wait(link, call);
}

/* ---- Open and close ---- */

int link_open(struct link *link, int socket, const char *path, const struct log *log) {
    *link = (struct link){.socket = socket, .path = path, .log = *log};
    link->input = malloc(LINK_READ_BUFFER_BYTES);
    if (link->input == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    mutex_init(&link->mutex);
    condition_init(&link->room);
    condition_init(&link->idle);
    mutex_lock(&link->mutex);
    link->queue_end = &link->queue;
    mutex_unlock(&link->mutex);
    link->due_end = &link->due;
    if (thread_start(&link->reader, "docdb-client", reader_main, link) < 0) {
        condition_fini(&link->idle);
        condition_fini(&link->room);
        mutex_fini(&link->mutex);
        free(link->input);
        return DOCDB_ERR_MEMORY;
    }
    return DOCDB_OK;
}

void link_close(struct link *link) {
    mutex_lock(&link->mutex);
    while (link->calls != 0) {
        condition_wait(&link->idle, &link->mutex);
    }
    link_break_locked(link);
    mutex_unlock(&link->mutex);
    thread_join(link->reader);
    (void)close(link->socket);
    mutex_lock(&link->mutex);
    free(link->slots);
    mutex_unlock(&link->mutex);
    condition_fini(&link->idle);
    condition_fini(&link->room);
    mutex_fini(&link->mutex);
    free(link->input);
}
