/*
 * A connection: bytes in, frames to request.c; replies in, bytes out. Belongs to its loop's thread; no locks.
 *
 * Back-pressure: a connection with too many requests in flight, or too many bytes of them or of replies that the
 * client has not taken, is not read from, and what was read already waits, until that has gone down; so does every
 * one while the loop has too much in flight altogether. So neither a slow reader nor a fast writer costs the others
 * more than these bounds.
 *
 * Life: open -> draining (nothing more is read; closes when all is answered and sent) -> closed (the socket is
 * gone) -> destroyed, which waits for requests that the engine still works on. What a client had open ends when its
 * connection is closed.
 */
#ifndef DOCDB_SERVER_CONNECTION_H
#define DOCDB_SERVER_CONNECTION_H

#include <stdbool.h>
#include <uv.h>

#include "protocol/protocol.h"
#include "server/handles.h"

struct loop;
struct reply;

enum connection_state { CONNECTION_OPEN, CONNECTION_DRAINING, CONNECTION_CLOSED };

struct connection {
    uv_pipe_t pipe;
    struct loop *loop;
    struct connection *next;
    struct connection *previous;
    struct connection *next_dirty;
    enum connection_state state;
    bool greeted; /* the hello is done */
    bool dirty;
    bool reading;
    struct handles handles;

    uint8_t *input; /* bytes that no whole frame was made of yet, or that wait for back-pressure to end */
    size_t input_bytes;
    size_t input_capacity;

    unsigned requests;    /* in flight: taken, and not answered yet */
    size_t request_bytes; /* of them, and of the transactions that they commit */

    struct reply *replies; /* not sent yet, oldest first */
    struct reply **replies_end;
    size_t reply_bytes;  /* of all replies that are not sent yet */
    size_t first_offset; /* so much of the oldest is sent */
    bool writing;        /* `write` is under way, with the first `write_replies` of them */
    unsigned write_replies;
    uv_write_t write;
};

/* Accepts a connection from the loop's listener. Where that is not possible, it is closed. */
void connection_accept(struct loop *loop, uv_stream_t *listener);
/* Stops reading; closes when what is in flight is answered and sent. */
void connection_drain(struct connection *connection);
/* Closes at once. What the engine works on is finished, unanswered. */
void connection_close(struct connection *connection);
/* Takes waiting input, sends replies, turns reading on or off: called by the loop for each dirty connection. */
void connection_settle(struct connection *connection);
/* Has the connection settled before the loop sleeps. */
void connection_touch(struct connection *connection);

/* ---- For request.c ---- */

/* A reply with room for a body of `capacity` bytes; NULL: out of memory. */
struct reply *reply_create(size_t capacity);
void reply_destroy(struct reply *reply);
uint8_t *reply_body(struct reply *reply);

/*
 * Queues a reply to `request`, which it takes over: `header` says status, handle and flags, `body_bytes` of its
 * body are used. document (may be NULL) is sent after them, from where it lies; this reference to it is taken over,
 * too.
 */
struct reply_header {
    int status;
    uint32_t handle;
    unsigned flags;
};
void connection_reply(struct connection *connection, const struct frame *request, struct reply_header header,
                      struct reply *reply, size_t body_bytes, docdb_doc *document);
/* A reply without a body. */
void connection_reply_status(struct connection *connection, const struct frame *request, int status);
/* Answers a broken frame with an ERROR frame that says `problem`, and drains. */
void connection_refuse(struct connection *connection, const struct frame *request, int status, const char *problem);

/* A request of `bytes` bytes that is not answered at once is in flight between these two. The second may destroy
 * the connection. */
void connection_request_begin(struct connection *connection, size_t bytes);
void connection_request_end(struct connection *connection, size_t bytes);

#endif
