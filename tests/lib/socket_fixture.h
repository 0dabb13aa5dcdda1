/*
 * An engine, a server and a client in one process, on a directory of their own: for tests of the socket.
 * Everything asserts; fixture_close removes the directory.
 */
#ifndef DOCDB_TESTS_SOCKET_FIXTURE_H
#define DOCDB_TESTS_SOCKET_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "docdb.h"
#include "protocol/protocol.h"
#include "server/server.h"

struct fixture {
    char directory[96];
    char socket_path[104];
    char where[112]; /* "unix:" and the path */
    docdb *engine;
    struct server *server;
};

void fixture_open(struct fixture *fixture);
/* options may be NULL. */
void fixture_open_with(struct fixture *fixture, const docdb_options *options);
void fixture_close(struct fixture *fixture);
void fixture_stop_server(struct fixture *fixture);

/* A client of the fixture's server. Its log goes nowhere. */
docdb *fixture_connect(const struct fixture *fixture);
docdb_db *open_db(docdb *runtime, const char *name);

void assert_put(docdb_db *db, const char *id, const char *text);
void assert_reads(docdb_db *db, const char *id, const char *text);
void assert_missing(docdb_db *db, const char *id);

/* A log function that drops every line. */
void no_log(void *arg, docdb_log_level level, const char *line);

/* A bare socket connected to the server at `path`; raw_greet does the hello on it. */
int raw_connect(const char *path);
void raw_greet(int socket);
/* Stops quietly where the server has closed the connection: what it said before is for the receiver to check. */
void raw_send(int socket, const void *data, size_t bytes);
void raw_send_frame(int socket, const struct frame *frame, const void *body);
/* The next frame; its body, of at most SMALL_BODY_BYTES_MAX bytes, goes to `body`. */
void raw_receive_frame(int socket, struct frame *out, uint8_t body[SMALL_BODY_BYTES_MAX]);
/* Sends a request, and returns the header of its reply. */
struct frame raw_call(int socket, uint8_t op, uint32_t handle, const void *body, size_t bytes);
/* Opens (creating it) a database; its handle. */
uint32_t raw_open_db(int socket, const char *name);
/* Asserts that an ERROR frame with this text is next, and that the connection ends after it. text may be NULL: any.
 */
void raw_assert_refused(int socket, int status, const char *text);

#endif
