/*
 * See server.h. A server is a socket in the file system and an event loop (several, later) that serves the
 * connections to it.
 *
 * The rooms: listener.c makes the socket, loop.c runs the loop, connection.c turns bytes into frames and back,
 * request.c carries a frame out through docdb.h, handles.c knows what a connection has open.
 */
#include "server/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "server/listener.h"
#include "server/loop.h"

struct server {
    struct loop loop;
    struct listener listener;
    char *path;
};

int server_start(docdb *runtime, const struct server_options *options, struct server **out, docdb_error *error) {
    struct log log = {.fn = options->log, .arg = options->log_arg};
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return error_set(error, DOCDB_ERR_MEMORY, "the server cannot start: out of memory");
    }
    int status = listener_open(&server->listener, options->socket_path, options->socket_mode, error);
    if (status != DOCDB_OK) {
        free(server);
        return status;
    }
    server->path = strdup(options->socket_path);
    if (server->path == NULL) {
        (void)close(server->listener.socket);
        status = DOCDB_ERR_MEMORY;
    } else {
        status = loop_start(&server->loop, runtime, &log, server->listener.socket);
    }
    if (status != DOCDB_OK) {
        listener_remove(&server->listener, options->socket_path);
        free(server->path);
        free(server);
        return error_set(error, status, "the server cannot start on %s: %s", options->socket_path,
                         docdb_error_text(status));
    }
    *out = server;
    return DOCDB_OK;
}

void server_stop(struct server *server) {
    if (server == NULL) {
        return;
    }
    /* First the name: who connects from now on finds no server, instead of one that is about to go. */
    listener_remove(&server->listener, server->path);
    loop_stop(&server->loop);
    free(server->path);
    free(server);
}
