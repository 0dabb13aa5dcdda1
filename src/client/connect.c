/*
 * Connecting to a server: the socket, and the hello, which is one frame out and one in, before the link's reader
 * thread exists.
 *
 * How it fails: nobody answers (UNREACHABLE), the socket is not ours to use (PERMISSION), whoever answers is no
 * DocDB server or speaks another version (PROTOCOL). Each wait has a time limit, so a stuck server cannot hold
 * docdb_open for good.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "client/inside.h"

#define HELLO_TIMEOUT_S 10 /* a server that is merely busy answers in far less */

static int connect_error(docdb_error *error, const char *path, int errnum) {
    switch (errnum) {
    case EACCES:
    case EPERM:
        return error_set(
            error, DOCDB_ERR_PERMISSION,
            "the socket %s may not be used: permission denied; run as the server's user, or start it with "
            "another --socket-mode",
            path);
    case EPROTOTYPE:
        return error_set(error, DOCDB_ERR_PROTOCOL, "the socket %s is of another kind than DocDB's", path);
    case ENOENT:
    case ENOTDIR:
        return error_set(
            error, DOCDB_ERR_UNREACHABLE,
            "no server answers on %s: there is no such socket; start one with: docdb serve --socket %s", path,
            path);
    case ECONNREFUSED:
        return error_set(error, DOCDB_ERR_UNREACHABLE,
                         "no server answers on %s: nobody listens there; start one with: docdb serve --socket %s",
                         path, path);
    default:
        return error_set(error, DOCDB_ERR_UNREACHABLE, "no server answers on %s: %s", path,
                         strerrordesc_np(errnum));
    }
}

static int set_timeout(int socket, time_t seconds) {
    struct timeval limit = {.tv_sec = seconds};
    return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) |
           setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int send_hello(int socket, const char *path, docdb_error *error) {
    uint8_t frame[FRAME_BYTES + SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, frame + FRAME_BYTES, SMALL_BODY_BYTES_MAX);
    hello_request_encode(&writer, &(struct hello_request){PROTOCOL_VERSION, PROTOCOL_VERSION});
    frame_encode(frame, &(struct frame){.op = OP_HELLO, .body_bytes = (uint32_t)writer.bytes});
    size_t bytes = FRAME_BYTES + writer.bytes;
    /* So few bytes go at once into a new connection. A server that has closed it may still have said why: that is
     * read next. */
    if (send(socket, frame, bytes, MSG_NOSIGNAL) != (ssize_t)bytes && errno != EPIPE && errno != ECONNRESET) {
        return connect_error(error, path, errno);
    }
    return DOCDB_OK;
}

/* Exactly so many bytes. */
static int receive(int socket, const char *path, void *to, size_t bytes, docdb_error *error) {
    size_t received = 0;
    while (received < bytes) {
        ssize_t count = recv(socket, (uint8_t *)to + received, bytes - received, 0);
        if (count > 0) {
            received += (size_t)count;
        } else if (count < 0 && errno == EAGAIN) {
            return error_set(error, DOCDB_ERR_UNREACHABLE,
                             "the server on %s did not answer within %d s; if it hangs, restart it", path,
                             HELLO_TIMEOUT_S);
        } else if (count == 0 || errno != EINTR) {
            return error_set(
                error, DOCDB_ERR_UNREACHABLE,
                "the server on %s closed the connection without an answer: it is stopping, or is no DocDB "
                "server",
                path);
        }
    }
    return DOCDB_OK;
}

static int receive_hello(int socket, const char *path, struct hello_reply *hello, docdb_error *error) {
    uint8_t header[FRAME_BYTES];
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct frame frame;
    int status = receive(socket, path, header, sizeof header, error);
    if (status != DOCDB_OK) {
        return status;
    }
    frame_decode(&frame, header);
    if (frame_check_reply(&frame) != NULL || (frame.op != OP_HELLO && frame.op != OP_ERROR) ||
        frame.body_bytes > sizeof body || frame.request_id != 0) {
        return error_set(error, DOCDB_ERR_PROTOCOL, "whoever answers on %s is no DocDB server", path);
    }
    status = receive(socket, path, body, frame.body_bytes, error);
    if (status != DOCDB_OK) {
        return status;
    }
    if (frame.status != DOCDB_OK) {
        return error_set(error, frame.status, "the server on %s refused the connection: %.*s", path,
                         (int)frame.body_bytes, (const char *)body);
    }
    const char *problem =
        frame.op == OP_ERROR ? "an error without a status" : hello_reply_decode(hello, body, frame.body_bytes);
    if (problem == NULL && hello->version != PROTOCOL_VERSION) {
        problem = "it wants a version of the protocol that this client did not offer";
    }
    if (problem != NULL) {
        return error_set(error, DOCDB_ERR_PROTOCOL, "the server on %s broke the protocol: %s", path, problem);
    }
    return DOCDB_OK;
}

int connect_to_server(const char *path, int *out, struct hello_reply *hello, docdb_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= sizeof address.sun_path) {
        return error_set(error, DOCDB_ERR_INVALID, "the socket path has %zu bytes, and must have 1 to %zu: %s",
                         bytes, sizeof address.sun_path - 1, path);
    }
    memcpy(address.sun_path, path, bytes);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made < 0) {
        return connect_error(error, path, errno);
    }
    int status = DOCDB_OK;
    if (set_timeout(made, HELLO_TIMEOUT_S) != 0 ||
        connect(made, (const struct sockaddr *)&address, sizeof address) != 0) {
        status = connect_error(error, path, errno);
    }
    if (status == DOCDB_OK) {
        status = send_hello(made, path, error);
    }
    if (status == DOCDB_OK) {
        status = receive_hello(made, path, hello, error);
    }
    if (status == DOCDB_OK && set_timeout(made, 0) != 0) {
        status = connect_error(error, path, errno);
    }
    if (status != DOCDB_OK) {
        (void)close(made);
        return status;
    }
    *out = made;
    return DOCDB_OK;
}
