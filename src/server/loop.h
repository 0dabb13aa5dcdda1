/*
 * One event loop of the server: a thread, its connections, and the door through which other threads hand over what
 * they finished.
 *
 * Everything here belongs to the loop's thread, but for `done` and `stop`, which `mutex` guards. `mutex` is a leaf:
 * nothing is locked inside it. No thread of a loop waits for a commit: commits complete on the engine's thread,
 * which calls loop_complete.
 */
#ifndef DOCDB_SERVER_LOOP_H
#define DOCDB_SERVER_LOOP_H

#include <stdbool.h>
#include <uv.h>

#include "base/log.h"
#include "base/thread.h"
#include "docdb.h"

struct connection;
struct task;

struct loop {
    uv_loop_t uv;
    uv_pipe_t listener;
    uv_async_t wake;     /* something is in `done`, or `stop` was set */
    uv_prepare_t settle; /* before the loop sleeps: sends what the callbacks of this round have queued */
    uv_timer_t drain;
    pthread_t thread;

    docdb *runtime;
    struct log log;
    docdb_limits limits;
    uint32_t max_request_bytes;
    char *read_buffer; /* READ_BUFFER_BYTES, shared by the connections: a read is handled before the next one begins
                        */

    struct connection *connections;
    unsigned connection_count;
    struct connection *dirty; /* those to settle */
    size_t requests;          /* in flight, of all connections, and their bytes */
    size_t request_bytes;
    unsigned verifications;
    bool crowded; /* a connection waits for these to go down */
    bool stopping;

    struct mutex mutex;
    struct task *done GUARDED_BY(mutex); /* newest first */
    bool stop GUARDED_BY(mutex);
};

/* Takes over `listener`, a bound socket, also on failure. Returns a DOCDB_ERR_ value; the reason is logged. */
int loop_start(struct loop *loop, docdb *runtime, const struct log *log, int listener);
/* Answers what is in flight, closes everything and joins the thread. */
void loop_stop(struct loop *loop);

/* Hands a finished task to the loop. From any thread. The task and its connection may be gone when it returns. */
void loop_complete(struct loop *loop, struct task *task);

/* Called by a connection that has just gone. */
void loop_connection_gone(struct loop *loop);

#endif
