/* The socket server: a front-end that is written against docdb.h alone. */
#ifndef DOCDB_SERVER_SERVER_H
#define DOCDB_SERVER_SERVER_H

#include <stdint.h>

#include "docdb.h"

struct server;

struct server_options {
    const char *socket_path; /* at most 107 bytes (sockaddr_un) */
    unsigned socket_mode;    /* permission bits of the socket; 0 means 0600 */
    docdb_log_fn log;        /* or NULL */
    void *log_arg;
};

/*
 * Starts serving `runtime` (which must outlive the server) on a socket, on threads of its own. When it returns
 * DOCDB_OK, clients can connect. Errors, each with a message: INVALID (path too long), LOCKED (a live server
 * answers there), EXISTS (the path is something else than a socket), NO_DIRECTORY, PERMISSION, IO, MEMORY.
 */
int server_start(docdb *runtime, const struct server_options *options, struct server **out, docdb_error *error);

/* Stops accepting, answers what is in flight, closes every connection, removes the socket, and frees the server. */
void server_stop(struct server *server);

#endif
