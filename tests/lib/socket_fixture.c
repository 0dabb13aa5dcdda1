/* See socket_fixture.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/cmocka_all.h"
#include "tests/lib/socket_fixture.h"
#include "tests/lib/temp.h"

void no_log(void *arg, docdb_log_level level, const char *line) {
    (void)arg;
    (void)level;
    (void)line;
}

void fixture_open_with(struct fixture *fixture, const docdb_options *options) {
    char data[128];
    docdb_error error = {0};
    *fixture = (struct fixture){0};
    char *directory = temp_make();
    assert_true(strlen(directory) < sizeof fixture->directory);
    (void)snprintf(fixture->directory, sizeof fixture->directory, "%s", directory);
    free(directory);
    (void)snprintf(data, sizeof data, "%s/data", fixture->directory);
    (void)snprintf(fixture->socket_path, sizeof fixture->socket_path, "%s/s.sock", fixture->directory);
    (void)snprintf(fixture->where, sizeof fixture->where, "unix:%s", fixture->socket_path);
    if (docdb_open(data, options, &fixture->engine, &error) != DOCDB_OK) {
        fail_msg("cannot open %s: %s", data, error.message);
    }
    struct server_options server_options = {.socket_path = fixture->socket_path, .log = no_log};
    if (server_start(fixture->engine, &server_options, &fixture->server, &error) != DOCDB_OK) {
        fail_msg("cannot start the server: %s", error.message);
    }
}

void fixture_open(struct fixture *fixture) { fixture_open_with(fixture, NULL); }

void fixture_stop_server(struct fixture *fixture) {
    server_stop(fixture->server);
    fixture->server = NULL;
}

void fixture_close(struct fixture *fixture) {
    fixture_stop_server(fixture);
    assert_int_equal(docdb_close(fixture->engine), DOCDB_OK);
    temp_remove(strdup(fixture->directory));
}

docdb *fixture_connect(const struct fixture *fixture) {
    docdb *runtime = NULL;
    docdb_error error = {0};
    docdb_options options = {.log = no_log};
    if (docdb_open(fixture->where, &options, &runtime, &error) != DOCDB_OK) {
        fail_msg("cannot connect: %s", error.message);
    }
    return runtime;
}

docdb_db *open_db(docdb *runtime, const char *name) {
    docdb_db *db = NULL;
    assert_int_equal(docdb_db_open(runtime, name, DOCDB_DB_CREATE, &db), DOCDB_OK);
    assert_string_equal(docdb_db_name(db), name);
    return db;
}

void assert_put(docdb_db *db, const char *id, const char *text) {
    assert_int_equal(docdb_put(db, id, text, strlen(text), NULL), DOCDB_OK);
}

void assert_reads(docdb_db *db, const char *id, const char *text) {
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_read(db, id, &doc), DOCDB_OK);
    assert_int_equal(docdb_doc_bytes(doc), strlen(text));
    assert_memory_equal(docdb_doc_data(doc), text, strlen(text));
    docdb_doc_release(doc);
}

void assert_missing(docdb_db *db, const char *id) {
    docdb_doc *doc = NULL;
    assert_int_equal(docdb_read(db, id, &doc), DOCDB_ERR_NOT_FOUND);
}

/* ---- Bare sockets ---- */

int raw_connect(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(made >= 0);
    assert_true(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(connect(made, (const struct sockaddr *)&address, sizeof address), 0);
    return made;
}

void raw_send(int socket, const void *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t sent = send(socket, data, bytes, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return; /* the server has heard enough; what it said about it is checked by the receiver */
        }
        assert_true(sent > 0);
        data = (const char *)data + sent;
        bytes -= (size_t)sent;
    }
}

static size_t raw_receive(int socket, void *to, size_t bytes) {
    size_t received = 0;
    while (received < bytes) {
        ssize_t count = recv(socket, (char *)to + received, bytes - received, 0);
        if (count <= 0) {
            break;
        }
        received += (size_t)count;
    }
    return received;
}

void raw_send_frame(int socket, const struct frame *frame, const void *body) {
    uint8_t header[FRAME_BYTES];
    frame_encode(header, frame);
    raw_send(socket, header, sizeof header);
    raw_send(socket, body, frame->body_bytes);
}

void raw_receive_frame(int socket, struct frame *out, uint8_t body[SMALL_BODY_BYTES_MAX]) {
    uint8_t header[FRAME_BYTES];
    assert_int_equal(raw_receive(socket, header, sizeof header), sizeof header);
    frame_decode(out, header);
    assert_null(frame_check_reply(out));
    assert_true(out->body_bytes <= SMALL_BODY_BYTES_MAX);
    assert_int_equal(raw_receive(socket, body, out->body_bytes), out->body_bytes);
}

struct frame raw_call(int socket, uint8_t op, uint32_t handle, const void *body, size_t bytes) {
    uint8_t reply_body[SMALL_BODY_BYTES_MAX];
    struct frame reply;
    struct frame request = {.op = op, .handle = handle, .request_id = 77, .body_bytes = (uint32_t)bytes};
    raw_send_frame(socket, &request, body);
    raw_receive_frame(socket, &reply, reply_body);
    assert_int_equal(reply.op, op);
    assert_int_equal(reply.request_id, 77);
    return reply;
}

void raw_greet(int socket) {
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    hello_request_encode(&writer, &(struct hello_request){1, 1});
    assert_int_equal(raw_call(socket, OP_HELLO, 0, body, writer.bytes).status, DOCDB_OK);
}

uint32_t raw_open_db(int socket, const char *name) {
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    db_request_encode(&writer, DOCDB_DB_CREATE, name);
    struct frame reply = raw_call(socket, OP_OPEN_DB, 0, body, writer.bytes);
    assert_int_equal(reply.status, DOCDB_OK);
    assert_int_not_equal(reply.handle, 0);
    return reply.handle;
}

void raw_assert_refused(int socket, int status, const char *text) {
    uint8_t body[SMALL_BODY_BYTES_MAX + 1];
    struct frame frame;
    raw_receive_frame(socket, &frame, body);
    body[frame.body_bytes] = '\0';
    assert_int_equal(frame.op, OP_ERROR);
    assert_int_equal(frame.status, status);
    if (text != NULL) {
        assert_string_equal((char *)body, text);
    }
    assert_int_equal(raw_receive(socket, body, 1), 0);
}
