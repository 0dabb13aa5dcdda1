/* See connection.h. */
#include "server/connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/bounds.h"
#include "server/loop.h"
#include "server/request.h"

struct reply {
    struct reply *next;
    docdb_doc *document; /* sent after the head, or NULL */
    size_t head_bytes;
    uint8_t head[]; /* the frame's header and the body up to the document */
};

static size_t reply_bytes(const struct reply *reply) {
    return reply->head_bytes + (reply->document == NULL ? 0 : docdb_doc_bytes(reply->document));
}

void connection_touch(struct connection *connection) {
    if (!connection->dirty && connection->state != CONNECTION_CLOSED) {
        connection->dirty = true;
        connection->next_dirty = connection->loop->dirty;
        connection->loop->dirty = connection;
    }
}

static void dirty_remove(struct connection *connection) {
    struct connection **at = &connection->loop->dirty;
    while (*at != NULL && *at != connection) {
        at = &(*at)->next_dirty;
    }
    if (*at == connection) {
        *at = connection->next_dirty;
    }
    connection->dirty = false;
}

/* ---- The end ---- */

static void replies_drop(struct connection *connection, unsigned count) {
    for (unsigned i = 0; i < count && connection->replies != NULL; i++) {
        struct reply *reply = connection->replies;
        connection->replies = reply->next;
        connection->reply_bytes -= reply_bytes(reply);
        reply_destroy(reply);
    }
    if (connection->replies == NULL) {
        connection->replies_end = &connection->replies;
    }
}

/* Once the socket is gone and the engine has finished all requests of this connection. */
static void connection_destroy(struct connection *connection) {
    struct loop *loop = connection->loop;
    if (connection->dirty) {
        dirty_remove(connection);
    }
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        loop->connections = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    free(connection);
    loop->connection_count--;
    loop_connection_gone(loop);
}

static void on_closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    handles_fini(&connection->handles);
    replies_drop(connection, UINT32_MAX);
    free(connection->input);
    connection->input = NULL;
    connection->pipe.data = NULL; /* says that this has run */
    if (connection->requests == 0) {
        connection_destroy(connection);
    }
}

void connection_close(struct connection *connection) {
    if (connection->state != CONNECTION_CLOSED) {
        connection->state = CONNECTION_CLOSED;
        uv_close((uv_handle_t *)&connection->pipe, on_closed);
    }
}

void connection_drain(struct connection *connection) {
    if (connection->state == CONNECTION_OPEN) {
        connection->state = CONNECTION_DRAINING;
        connection->input_bytes = 0;
        connection_touch(connection);
    }
}

void connection_request_begin(struct connection *connection, size_t bytes) {
    connection->requests++;
    connection->request_bytes += bytes;
    connection->loop->requests++;
    connection->loop->request_bytes += bytes;
}

void connection_request_end(struct connection *connection, size_t bytes) {
    connection->requests--;
    connection->request_bytes -= bytes;
    connection->loop->requests--;
    connection->loop->request_bytes -= bytes;
    connection_touch(connection);
    if (connection->state == CONNECTION_CLOSED && connection->pipe.data == NULL && connection->requests == 0) {
        connection_destroy(connection);
    }
}

/* ---- Out ---- */

struct reply *reply_create(size_t capacity) {
    struct reply *reply = malloc(sizeof *reply + FRAME_BYTES + capacity);
    if (reply != NULL) {
        reply->next = NULL;
        reply->document = NULL;
        reply->head_bytes = FRAME_BYTES;
    }
    return reply;
}

void reply_destroy(struct reply *reply) {
    if (reply != NULL) {
        docdb_doc_release(reply->document);
        free(reply);
    }
}

uint8_t *reply_body(struct reply *reply) { return reply->head + FRAME_BYTES; }

static void reply_queue(struct connection *connection, struct reply *reply) {
    *connection->replies_end = reply;
    connection->replies_end = &reply->next;
    connection->reply_bytes += reply_bytes(reply);
    connection_touch(connection);
}

void connection_reply(struct connection *connection, const struct frame *request, struct reply_header header,
                      struct reply *reply, size_t body_bytes, docdb_doc *document) {
    if (reply == NULL || connection->state == CONNECTION_CLOSED || (request->flags & FRAME_NO_REPLY) != 0) {
        bool unanswerable = reply == NULL;
        docdb_doc_release(document);
        reply_destroy(reply);
        if (unanswerable) {
            connection_close(connection); /* no memory for a reply: an end is better than silence */
        }
        return;
    }
    reply->document = document;
    reply->head_bytes = FRAME_BYTES + body_bytes;
    frame_encode(reply->head, &(struct frame){
                                  .body_bytes = (uint32_t)(reply_bytes(reply) - FRAME_BYTES),
                                  .op = request->op,
                                  .flags = (uint8_t)(FRAME_REPLY | header.flags),
                                  .status = (int16_t)header.status,
                                  .request_id = request->request_id,
                                  .handle = header.handle,
                              });
    reply_queue(connection, reply);
}

void connection_reply_status(struct connection *connection, const struct frame *request, int status) {
    connection_reply(connection, request, (struct reply_header){.status = status}, reply_create(0), 0, NULL);
}

void connection_refuse(struct connection *connection, const struct frame *request, int status,
                       const char *problem) {
    if (connection->state != CONNECTION_OPEN) {
        return;
    }
    log_info(&connection->loop->log, "a client was sent away: %s (operation %u, request %u)", problem,
             (unsigned)request->op, (unsigned)request->request_id);
    size_t bytes = strnlen(problem, MESSAGE_BYTES_MAX);
    struct reply *reply = reply_create(bytes);
    if (reply == NULL) {
        connection_close(connection);
        return;
    }
    frame_encode(reply->head, &(struct frame){
                                  .body_bytes = (uint32_t)bytes,
                                  .op = OP_ERROR,
                                  .status = (int16_t)status,
                                  .request_id = request->request_id,
                              });
    memcpy(reply_body(reply), problem, bytes);
    reply->head_bytes += bytes;
    reply_queue(connection, reply);
    connection_drain(connection);
}

/* A document's bytes for libuv, whose buffers know no const; it only reads them. */
static char *bytes_of(const docdb_doc *document) {
    const void *data = docdb_doc_data(document);
    char *bytes = NULL;
    memcpy(&bytes, &data, sizeof bytes);
    return bytes;
}

/* What to write next, from `first_offset` of the oldest reply on; *replies gets how many of them are in it. */
static unsigned buffers_fill(const struct connection *connection, uv_buf_t *buffers, unsigned *replies) {
    size_t skip = connection->first_offset;
    unsigned count = 0;
    *replies = 0;
    for (struct reply *reply = connection->replies; reply != NULL; reply = reply->next) {
        if (count + 2 > CONNECTION_WRITE_BUFFERS) {
            break;
        }
        size_t head_skip = skip < reply->head_bytes ? skip : reply->head_bytes;
        if (head_skip < reply->head_bytes) {
            buffers[count].base = (char *)reply->head + head_skip;
            buffers[count++].len = reply->head_bytes - head_skip;
        }
        skip -= head_skip;
        if (reply->document != NULL && docdb_doc_bytes(reply->document) > skip) {
            buffers[count].base = bytes_of(reply->document) + skip;
            buffers[count++].len = docdb_doc_bytes(reply->document) - skip;
        }
        skip = 0;
        (*replies)++;
    }
    return count;
}

/* Drops what `bytes` written bytes cover; the rest is remembered in first_offset. */
static void replies_advance(struct connection *connection, size_t bytes) {
    bytes += connection->first_offset;
    while (connection->replies != NULL && reply_bytes(connection->replies) <= bytes) {
        bytes -= reply_bytes(connection->replies);
        replies_drop(connection, 1);
    }
    connection->first_offset = bytes;
}

static void on_written(uv_write_t *write, int status) {
    struct connection *connection = write->data;
    connection->writing = false;
    if (status < 0) {
        connection_close(connection);
        return;
    }
    connection->first_offset = 0;
    replies_drop(connection, connection->write_replies);
    connection_touch(connection);
}

/* Sends what the socket takes at once, and leaves the rest to libuv. */
static void replies_send(struct connection *connection) {
    uv_stream_t *stream = (uv_stream_t *)&connection->pipe;
    uv_buf_t buffers[CONNECTION_WRITE_BUFFERS];
    while (connection->state != CONNECTION_CLOSED && !connection->writing && connection->replies != NULL) {
        unsigned count = buffers_fill(connection, buffers, &connection->write_replies);
        int written = uv_try_write(stream, buffers, count);
        if (written >= 0) {
            replies_advance(connection, (size_t)written);
            continue;
        }
        if (written == UV_EAGAIN) {
            connection->write.data = connection;
            written = uv_write(&connection->write, stream, buffers, count, on_written);
            connection->writing = written == 0;
        }
        if (written < 0) {
            connection_close(connection);
            return;
        }
    }
}

/* ---- In ---- */

static bool may_take_requests(struct connection *connection) {
    struct loop *loop = connection->loop;
    if (connection->state != CONNECTION_OPEN || connection->requests >= CONNECTION_REQUESTS_MAX ||
        connection->request_bytes >= CONNECTION_REQUEST_BYTES_MAX ||
        connection->reply_bytes >= CONNECTION_REPLY_BYTES_MAX) {
        return false; /* what ends this settles the connection again */
    }
    if (loop->requests >= SERVER_REQUESTS_MAX || loop->request_bytes >= SERVER_REQUEST_BYTES_MAX) {
        loop->crowded = true; /* the loop settles it when there is room */
        return false;
    }
    return true;
}

/* Handles the whole frames in `bytes` bytes at `data`, as far as back-pressure lets it; returns how many bytes that
 * were. */
static size_t frames_take(struct connection *connection, const uint8_t *data, size_t bytes) {
    size_t taken = 0;
    while (may_take_requests(connection) && bytes - taken >= FRAME_BYTES) {
        struct frame frame;
        frame_decode(&frame, data + taken);
        const char *problem = frame_check_request(&frame, connection->loop->max_request_bytes);
        if (problem != NULL) {
            connection_refuse(connection, &frame, DOCDB_ERR_PROTOCOL, problem);
            break;
        }
        size_t frame_bytes = FRAME_BYTES + (size_t)frame.body_bytes;
        if (bytes - taken < frame_bytes) {
            break;
        }
        problem = request_handle(connection, &frame, data + taken + FRAME_BYTES);
        if (problem != NULL) {
            connection_refuse(connection, &frame, DOCDB_ERR_PROTOCOL, problem);
            break;
        }
        taken += frame_bytes;
    }
    return connection->state == CONNECTION_OPEN ? taken : bytes;
}

/* Makes the connection's own buffer hold `capacity` bytes. */
static bool input_reserve(struct connection *connection, size_t capacity) {
    if (capacity > connection->input_capacity) {
        uint8_t *input = realloc(connection->input, capacity);
        if (input == NULL) {
            return false;
        }
        connection->input = input;
        connection->input_capacity = capacity;
    }
    return true;
}

/* Takes the frames out of the connection's own buffer; an empty one is freed, so that an idle connection holds
 * none. */
static void input_take(struct connection *connection) {
    size_t taken = frames_take(connection, connection->input, connection->input_bytes);
    size_t left = connection->input_bytes - taken;
    if (connection->state != CONNECTION_OPEN) {
        left = 0;
    }
    if (left == 0) {
        free(connection->input);
        connection->input = NULL;
        connection->input_capacity = 0;
    } else if (taken != 0) {
        memmove(connection->input, connection->input + taken, left);
    }
    connection->input_bytes = left;
}

/*
 * Where to read to: the loop's buffer, or behind the part of a frame that is in the connection's own buffer. That
 * one grows with the bytes that have come, not with the length that the header claims, and never beyond the frame:
 * a claim costs nothing.
 */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)suggested;
    struct connection *connection = handle->data;
    if (connection->input_bytes == 0) {
        *out = uv_buf_init(connection->loop->read_buffer, READ_BUFFER_BYTES);
        return;
    }
    size_t capacity = connection->input_bytes * INPUT_GROWTH;
    capacity = capacity < INPUT_BUFFER_BYTES_MIN ? INPUT_BUFFER_BYTES_MIN : capacity;
    if (connection->input_bytes >= FRAME_BYTES) {
        struct frame frame;
        frame_decode(&frame, connection->input);
        size_t whole = FRAME_BYTES + (size_t)frame.body_bytes;
        assert(whole > connection->input_bytes); /* else reading had stopped: see on_read */
        capacity = capacity > whole ? whole : capacity;
    }
    if (!input_reserve(connection, capacity)) {
        *out = uv_buf_init(NULL, 0); /* on_read gets ENOBUFS */
        return;
    }
    *out = uv_buf_init((char *)connection->input + connection->input_bytes,
                       (unsigned)(capacity - connection->input_bytes));
}

static void reading_set(struct connection *connection, bool reading);

/* Takes what was read, as far as back-pressure lets it, and keeps the rest. */
static void input_add(struct connection *connection, const uint8_t *data, size_t bytes) {
    if (connection->input_bytes != 0) {
        connection->input_bytes += bytes;
        input_take(connection);
        return;
    }
    size_t taken = frames_take(connection, data, bytes);
    if (taken < bytes) {
        if (!input_reserve(connection, bytes - taken)) {
            connection_close(connection);
            return;
        }
        memcpy(connection->input, data + taken, bytes - taken);
        connection->input_bytes = bytes - taken;
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct connection *connection = stream->data;
    if (count == 0) {
        return; /* nothing there after all */
    }
    if (count == UV_EOF) {
        connection_drain(connection); /* a client that only stopped sending still gets its replies */
        return;
    }
    if (count < 0) {
        connection_close(connection);
        return;
    }
    connection_touch(connection);
    input_add(connection, (const uint8_t *)buffer->base, (size_t)count);
    if (!may_take_requests(connection)) {
        /* At once: libuv reads on as long as a read fills its buffer, and there may be whole frames in ours now. */
        reading_set(connection, false);
    }
}

static void reading_set(struct connection *connection, bool reading) {
    if (reading == connection->reading) {
        return;
    }
    connection->reading = reading;
    uv_stream_t *stream = (uv_stream_t *)&connection->pipe;
    if (!reading) {
        (void)uv_read_stop(stream);
    } else if (uv_read_start(stream, on_alloc, on_read) < 0) {
        connection_close(connection);
    }
}

/* Whether a whole frame waits in the connection's own buffer. */
static bool frame_waits(const struct connection *connection) {
    struct frame frame;
    if (connection->input_bytes < FRAME_BYTES) {
        return false;
    }
    frame_decode(&frame, connection->input);
    return connection->input_bytes >= FRAME_BYTES + (size_t)frame.body_bytes;
}

void connection_settle(struct connection *connection) {
    connection->dirty = false;
    do {
        if (connection->input_bytes != 0) {
            input_take(connection); /* what back-pressure held up */
        }
        replies_send(connection);
    } while (may_take_requests(connection) && frame_waits(connection));
    if (connection->state == CONNECTION_DRAINING && connection->requests == 0 && connection->replies == NULL) {
        connection_close(connection);
    }
    if (connection->state != CONNECTION_CLOSED) {
        reading_set(connection, may_take_requests(connection));
    }
}

void connection_accept(struct loop *loop, uv_stream_t *listener) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        log_error(&loop->log, "a client cannot be accepted: out of memory");
        return;
    }
    connection->loop = loop;
    connection->replies_end = &connection->replies;
    handles_init(&connection->handles);
    (void)uv_pipe_init(&loop->uv, &connection->pipe, 0); /* cannot fail */
    connection->pipe.data = connection;
    connection->next = loop->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    loop->connections = connection;
    loop->connection_count++;
    if (uv_accept(listener, (uv_stream_t *)&connection->pipe) < 0) {
        connection_close(connection);
        return;
    }
    if (loop->connection_count > SERVER_CONNECTIONS_MAX) {
        connection_refuse(connection, &(struct frame){0}, DOCDB_ERR_BUSY, "the server has too many connections");
        return;
    }
    connection_touch(connection); /* settling starts the reading */
}
