/* See loop.h. */
#include "server/loop.h"

#include <stdlib.h>
#include <unistd.h>

#include "protocol/protocol.h"
#include "server/bounds.h"
#include "server/connection.h"
#include "server/request.h"

void loop_complete(struct loop *loop, struct task *task) {
    mutex_lock(&loop->mutex);
    bool first = loop->done == NULL;
    task->next = loop->done;
    loop->done = task;
    if (first) {
        /* Inside the lock: once it is released, the loop may answer, find that it is done, and be gone. */
        (void)uv_async_send(&loop->wake);
    }
    mutex_unlock(&loop->mutex);
}

static void on_handle_closed(uv_handle_t *handle) { (void)handle; }

static void handle_close(uv_handle_t *handle) {
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_handle_closed);
    }
}

/* When the last connection of a stopping loop has gone, nothing keeps the loop: uv_run returns. */
void loop_connection_gone(struct loop *loop) {
    if (loop->stopping && loop->connections == NULL) {
        handle_close((uv_handle_t *)&loop->wake);
        handle_close((uv_handle_t *)&loop->settle);
        handle_close((uv_handle_t *)&loop->drain);
    }
}

static void connections_each(struct loop *loop, void (*each)(struct connection *connection)) {
    for (struct connection *connection = loop->connections; connection != NULL; connection = connection->next) {
        each(connection);
    }
}

static void on_drained_too_long(uv_timer_t *timer) {
    struct loop *loop = timer->data;
    log_warning(&loop->log, "%u clients did not take their last replies within %d s: closing them",
                loop->connection_count, SERVER_DRAIN_MS / 1000);
    connections_each(loop, connection_close);
}

static void stop_begin(struct loop *loop) {
    loop->stopping = true;
    handle_close((uv_handle_t *)&loop->listener);
    connections_each(loop, connection_drain);
    (void)uv_timer_start(&loop->drain, on_drained_too_long, SERVER_DRAIN_MS, 0);
    loop_connection_gone(loop);
}

static void on_wake(uv_async_t *wake) {
    struct loop *loop = wake->data;
    mutex_lock(&loop->mutex);
    struct task *newest_first = loop->done;
    loop->done = NULL;
    bool stop = loop->stop;
    mutex_unlock(&loop->mutex);

    struct task *oldest_first = NULL;
    while (newest_first != NULL) {
        struct task *task = newest_first;
        newest_first = task->next;
        task->next = oldest_first;
        oldest_first = task;
    }
    while (oldest_first != NULL) {
        struct task *task = oldest_first;
        oldest_first = task->next;
        request_commit_done(task);
    }
    if (stop && !loop->stopping) {
        stop_begin(loop);
    }
}

static void on_settle(uv_prepare_t *prepare) {
    struct loop *loop = prepare->data;
    /* Half of the bounds, so that those who waited find room for more than one request before all wait again. */
    if (loop->crowded && loop->requests <= SERVER_REQUESTS_MAX / 2 &&
        loop->request_bytes <= SERVER_REQUEST_BYTES_MAX / 2) {
        loop->crowded = false;
        connections_each(loop, connection_touch);
    }
    while (loop->dirty != NULL) {
        struct connection *connection = loop->dirty;
        loop->dirty = connection->next_dirty;
        connection_settle(connection);
    }
}

static void on_connection(uv_stream_t *listener, int status) {
    struct loop *loop = listener->data;
    if (status < 0) {
        log_error(&loop->log, "a client cannot be accepted: %s", uv_strerror(status));
        return;
    }
    connection_accept(loop, listener);
}

static void *loop_main(void *arg) {
    struct loop *loop = arg;
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    return NULL;
}

/* Ends a loop whose thread does not run. */
static void loop_fini(struct loop *loop) {
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT); /* lets handles that are closing close */
    (void)uv_loop_close(&loop->uv);
    mutex_fini(&loop->mutex);
    free(loop->read_buffer);
}

/* Registers the handles; the first that fails says why. */
static int handles_start(struct loop *loop, int listener) {
    int rc = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (rc < 0) {
        (void)close(listener);
        return rc;
    }
    (void)uv_prepare_init(&loop->uv, &loop->settle);
    (void)uv_prepare_start(&loop->settle, on_settle);
    (void)uv_timer_init(&loop->uv, &loop->drain);
    (void)uv_pipe_init(&loop->uv, &loop->listener, 0);
    loop->wake.data = loop;
    loop->settle.data = loop;
    loop->drain.data = loop;
    loop->listener.data = loop;
    rc = uv_pipe_open(&loop->listener, listener);
    if (rc < 0) {
        (void)close(listener);
    } else {
        rc = uv_listen((uv_stream_t *)&loop->listener, SERVER_BACKLOG, on_connection);
    }
    if (rc == 0) {
        rc = thread_start(&loop->thread, "docdb-server", loop_main, loop);
    }
    if (rc < 0) {
        loop->stopping = true;
        loop_connection_gone(loop);
        handle_close((uv_handle_t *)&loop->listener);
    }
    return rc;
}

int loop_start(struct loop *loop, docdb *runtime, const struct log *log, int listener) {
    *loop = (struct loop){.runtime = runtime, .log = *log};
    docdb_get_limits(runtime, &loop->limits);
    loop->max_request_bytes = request_body_bytes_max(&loop->limits);
    loop->read_buffer = malloc(READ_BUFFER_BYTES);
    if (loop->read_buffer == NULL || uv_loop_init(&loop->uv) < 0) {
        free(loop->read_buffer);
        (void)close(listener);
        return DOCDB_ERR_MEMORY;
    }
    mutex_init(&loop->mutex);
    int rc = handles_start(loop, listener);
    if (rc < 0) {
        log_error(log, "the server's event loop cannot start: %s", uv_strerror(rc));
        loop_fini(loop);
        return rc == UV_ENOMEM ? DOCDB_ERR_MEMORY : DOCDB_ERR_IO;
    }
    return DOCDB_OK;
}

void loop_stop(struct loop *loop) {
    mutex_lock(&loop->mutex);
    loop->stop = true;
    (void)uv_async_send(&loop->wake);
    mutex_unlock(&loop->mutex);
    thread_join(loop->thread);
    loop_fini(loop);
}
