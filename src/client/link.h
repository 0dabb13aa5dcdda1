/*
 * A link: one connection to a server, shared by any number of threads that send requests, and a reader thread that
 * hands each reply to whoever waits for it.
 *
 * Happy path: a request is a chunk (header and body in one piece of memory). link_send gives it a request id,
 * queues it, and the first thread that finds nobody sending sends what is queued, its own and others' in one call.
 * The reader finds the call by its request id when the reply comes, fills it in, and wakes the waiter or runs its
 * callback.
 *
 * Callbacks run on the reader thread and may use the link. So the reader never blocks on sending (what the socket
 * does not take at once it sends between reads), never waits for room in the queue, and a call that waits on the
 * reader thread reads on by itself; callbacks that become due meanwhile run when the outer one has returned, so
 * they do not nest.
 *
 * How it fails: when the server goes away or breaks the protocol, every call under way ends with DISCONNECTED, and
 * so does every later one, at once. Only the reader ends calls.
 *
 * Locks: `mutex` is a leaf. What is marked "reader" belongs to the reader thread.
 */
#ifndef DOCDB_CLIENT_LINK_H
#define DOCDB_CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/event.h"
#include "base/log.h"
#include "base/thread.h"
#include "docdb.h"
#include "protocol/protocol.h"

/* Most requests under way at once: their ids have 16 bits for the slot. */
#define LINK_CALLS_MAX 65536
/* Bytes queued for sending above which senders wait for room (a larger request goes when the queue has room for
 * anything). */
#define LINK_QUEUE_BYTES_MAX   (1u << 20)
#define LINK_READ_BUFFER_BYTES (64u << 10)
#define LINK_SEND_CHUNKS       64 /* pieces of one send call */
#define CALL_SMALL_BODY_BYTES  64 /* reply bodies up to this need no memory of their own: commits, infos */

/* A request: room for the frame's header, then the body. */
struct chunk {
    struct chunk *next;
    size_t bytes; /* with the header */
    size_t capacity;
    uint8_t data[];
};
/* With room for a body of `capacity` bytes. NULL: out of memory. */
struct chunk *chunk_create(size_t capacity);
/* Makes room for `bytes` more; *chunk moves. False: out of memory, nothing changed. */
bool chunk_reserve(struct chunk **chunk, size_t bytes);
/* Appends to the body; chunk_writer gives a writer over the free room, chunk_wrote takes what it wrote. */
struct wire_writer chunk_writer(struct chunk *chunk);
void chunk_wrote(struct chunk *chunk, const struct wire_writer *writer);
void chunk_destroy(struct chunk *chunk);

/* A request under way and its reply. Lives until link_wait has returned, or until `done` is called. */
struct call {
    void (*done)(struct call *call); /* called on the reader thread; NULL: link_wait waits for it */
    bool wants_document;             /* a READ: the body is an info and a document */
    uint8_t op;

    int status; /* the reply: of the server, or DISCONNECTED, PROTOCOL, MEMORY of this side */
    uint32_t handle;
    uint8_t flags;
    void *body; /* `small`, or from malloc: call_fini frees it */
    size_t body_bytes;
    docdb_doc *document;

    struct event event;
    bool finished;     /* reader */
    struct call *next; /* reader: due callbacks */
    uint8_t small[CALL_SMALL_BODY_BYTES];
};
void call_init(struct call *call, void (*done)(struct call *call));
void call_fini(struct call *call);

struct link_slot {
    struct call *call; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

enum link_sender { SENDER_NONE, SENDER_CALLER, SENDER_READER };

struct link {
    int socket;
    const char *path; /* of the socket, for messages */
    struct log log;
    pthread_t reader;

    struct mutex mutex;
    struct condition room; /* the queue and the slots have room, or the link is broken */
    struct condition idle; /* no call is under way */
    bool broken GUARDED_BY(mutex);
    enum link_sender sender GUARDED_BY(mutex); /* who sends what is queued */
    struct chunk *queue GUARDED_BY(mutex);
    struct chunk **queue_end GUARDED_BY(mutex);
    size_t queue_bytes GUARDED_BY(mutex);
    size_t first_sent GUARDED_BY(mutex); /* bytes of the first chunk that are sent */
    struct link_slot *slots GUARDED_BY(mutex);
    uint32_t slot_count GUARDED_BY(mutex);
    uint32_t free_slot GUARDED_BY(mutex); /* slot_count: none */
    uint32_t calls GUARDED_BY(mutex);     /* under way */

    uint8_t *input; /* reader: LINK_READ_BUFFER_BYTES */
    size_t input_at;
    size_t input_end;
    struct call *due; /* reader: callbacks to run */
    struct call **due_end;
    bool ended; /* reader: nothing more will come */
};

/* Takes over a connected socket on which the hello is done. A DOCDB_ERR_ value; on failure the socket stays the
 * caller's. */
int link_open(struct link *link, int socket, const char *path, const struct log *log);
/* Waits for the calls under way, then closes the socket. No other thread may use the link any more. */
void link_close(struct link *link);

/* Sends a request; takes over the chunk. call may be NULL when flags say NO_REPLY. DISCONNECTED, BUSY and MEMORY:
 * it was not sent, and the call is not under way. */
int link_send(struct link *link, struct chunk *chunk, uint8_t op, uint8_t flags, uint32_t handle,
              struct call *call);
/* Waits until a call without `done` has its reply; returns its status. */
int link_wait(struct link *link, struct call *call);
/* Both; whatever it returns, the call is finished and call_fini is due. NULL for chunk is MEMORY. */
int link_call(struct link *link, struct chunk *chunk, uint8_t op, uint32_t handle, struct call *call);

#endif
