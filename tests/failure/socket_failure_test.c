/*
 * What must not go wrong over the socket: broken frames, dying and silent clients, a server that stops, and
 * everything that may stand in the way of a socket's path. Engine, server and clients run in this process, with
 * real sockets between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/event.h"
#include "base/thread.h"
#include "tests/lib/cmocka_all.h"
#include "tests/lib/socket_fixture.h"

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    fixture_close(*state);
    free(*state);
    return 0;
}

/* Waits for what another thread is about to do; the test runner's time limit ends it when that never comes. */
static void pause_briefly(void) { (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); }

static void wait_for_snapshots(docdb *engine, uint64_t wanted) {
    docdb_stats stats;
    do {
        pause_briefly();
        assert_int_equal(docdb_get_stats(engine, &stats), DOCDB_OK);
    } while (stats.snapshots != wanted);
}

/* ---- Broken frames ---- */

struct broken {
    bool greeted;
    struct frame frame; /* body_bytes: those that follow */
    const char *body;
    const char *problem;
};

static const struct broken broken_frames[] = {
    {false, {.op = OP_STATS}, "", "the first frame is not a hello"},
    {false, {.op = OP_HELLO, .body_bytes = 12}, "GET / HTTP/1", "the hello does not bear DocDB's magic"},
    {false, {.op = OP_HELLO, .body_bytes = 3}, "DOC", "the hello ends inside its magic"},
    {true, {.op = OP_HELLO, .body_bytes = 12}, "DOCDB\0\0\0\1\0\1\0", "a second hello"},
    {true, {.op = 0}, "", "unknown operation"},
    {true, {.op = 99}, "", "unknown operation"},
    {true, {.op = OP_ERROR}, "", "unknown operation"},
    {true, {.op = OP_STATS, .flags = FRAME_REPLY}, "", "flags that a request cannot have"},
    {true, {.op = OP_READ, .flags = FRAME_NO_REPLY}, "", "NO_REPLY on an operation that is always answered"},
    {true, {.op = OP_STATS, .status = -4}, "", "a status in a request"},
    {true, {.op = OP_STATS, .body_bytes = 1}, "x", "a body on an operation that has none"},
    {true, {.op = OP_READ, .body_bytes = 3}, "\5ab", "the body ends inside the id"},
    {true, {.op = OP_READ, .body_bytes = 3}, "\1ab", "the body goes on after its last field"},
    {true, {.op = OP_OPEN_DB, .body_bytes = 2}, "ab", "the body ends inside the flags"},
    {true, {.op = OP_BATCH, .body_bytes = 4}, "\1\0\0\0", "the body ends inside the head of a write"},
    {true, {.op = OP_SCAN, .body_bytes = 2}, "ab", "the body ends inside the flags"},
};

static void broken_frame_is_named_and_ends_its_connection_alone(void **state) {
    struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_db *db = open_db(client, "notes");
    for (size_t i = 0; i < sizeof broken_frames / sizeof broken_frames[0]; i++) {
        const struct broken *broken = &broken_frames[i];
        int raw = raw_connect(fixture->socket_path);
        if (broken->greeted) {
            raw_greet(raw);
        }
        raw_send_frame(raw, &broken->frame, broken->body);
        raw_assert_refused(raw, DOCDB_ERR_PROTOCOL, broken->problem);
        assert_int_equal(close(raw), 0);
        assert_put(db, "a", "unaffected");
        assert_reads(db, "a", "unaffected");
    }
    docdb_db_close(db);
    assert_int_equal(docdb_close(client), DOCDB_OK);
}

static void length_over_the_limit_is_refused_before_its_body_comes(void **state) {
    struct fixture *fixture = *state;
    docdb_limits limits;
    uint8_t header[FRAME_BYTES];
    docdb_get_limits(fixture->engine, &limits);
    struct frame frame = {.op = OP_BATCH, .body_bytes = request_body_bytes_max(&limits) + 1};
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    frame_encode(header, &frame);
    raw_send(raw, header, sizeof header);
    raw_assert_refused(raw, DOCDB_ERR_PROTOCOL, "a body longer than max_request_bytes");
    assert_int_equal(close(raw), 0);
}

static void random_garbage_disturbs_nobody(void **state) {
    struct fixture *fixture = *state;
    const char *given = getenv("DOCDB_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("random_garbage_disturbs_nobody: DOCDB_SEED=%u\n", seed);
    docdb *client = fixture_connect(fixture);
    docdb_db *db = open_db(client, "notes");
    for (int round = 0; round < 300; round++) {
        uint8_t garbage[300];
        int raw = raw_connect(fixture->socket_path);
        size_t bytes = (size_t)(rand_r(&seed) % (int)sizeof garbage);
        for (size_t i = 0; i < bytes; i++) {
            garbage[i] = (uint8_t)(rand_r(&seed) % (i % FRAME_BYTES == 4 ? OP_COUNT : 256));
        }
        if (round % 2 == 0) {
            raw_greet(raw);
            memset(garbage + 1, 0, 3); /* a length that may be there */
        }
        raw_send(raw, garbage, bytes);
        assert_int_equal(close(raw), 0);
    }
    assert_put(db, "a", "unaffected");
    assert_reads(db, "a", "unaffected");
    docdb_db_close(db);
    assert_int_equal(docdb_close(client), DOCDB_OK);
}

static void other_protocol_version_is_refused_by_name(void **state) {
    struct fixture *fixture = *state;
    int raw = raw_connect(fixture->socket_path);
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    hello_request_encode(&writer, &(struct hello_request){7, 9});
    assert_int_equal(raw_call(raw, OP_HELLO, 0, body, writer.bytes).status, DOCDB_ERR_PROTOCOL);
    assert_int_equal(recv(raw, body, 1, 0), 0);
    assert_int_equal(close(raw), 0);
}

static void frames_arriving_byte_by_byte_are_understood(void **state) {
    struct fixture *fixture = *state;
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t db = raw_open_db(raw, "notes");
    uint8_t frame[FRAME_BYTES + SMALL_BODY_BYTES_MAX];
    uint8_t reply_body[SMALL_BODY_BYTES_MAX];
    struct frame reply;
    struct wire_writer writer;
    wire_writer_init(&writer, frame + FRAME_BYTES, SMALL_BODY_BYTES_MAX);
    wire_write_u32(&writer, 1);
    write_encode(&writer, &(struct write){.kind = WRITE_PUT, .id = "a", .data = "drop by drop", .bytes = 12});
    frame_encode(frame, &(struct frame){.op = OP_BATCH, .handle = db, .body_bytes = (uint32_t)writer.bytes});
    for (size_t i = 0; i < FRAME_BYTES + writer.bytes; i++) {
        raw_send(raw, frame + i, 1);
    }
    raw_receive_frame(raw, &reply, reply_body);
    assert_int_equal(reply.status, DOCDB_OK);
    docdb_db *direct = open_db(fixture->engine, "notes");
    assert_reads(direct, "a", "drop by drop");
    docdb_db_close(direct);
    assert_int_equal(close(raw), 0);
}

static void wrong_handles_are_invalid_and_harmless(void **state) {
    struct fixture *fixture = *state;
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t db = raw_open_db(raw, "notes");
    assert_int_equal(raw_call(raw, OP_READ, 0, "\1a", 2).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_READ, db + 1, "\1a", 2).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_READ, UINT32_MAX, "\1a", 2).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_COMMIT, db, NULL, 0).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_SCAN_NEXT, db, NULL, 0).status, DOCDB_ERR_INVALID);
    uint32_t txn = raw_call(raw, OP_BEGIN, db, "\0\0\0\0", 4).handle;
    assert_int_equal(raw_call(raw, OP_READ, txn, "\1a", 2).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_COMMIT, txn, NULL, 0).status, DOCDB_OK);
    assert_int_equal(raw_call(raw, OP_COMMIT, txn, NULL, 0).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(raw, OP_READ, db, "\1a", 2).status, DOCDB_ERR_NOT_FOUND);
    assert_int_equal(raw_call(raw, OP_READ, db, "\1/", 2).status, DOCDB_ERR_BAD_ID);
    assert_int_equal(raw_call(raw, OP_READ, db, "\0", 1).status, DOCDB_ERR_BAD_ID);
    assert_int_equal(raw_call(raw, OP_CLOSE_DB, db, NULL, 0).status, DOCDB_OK);
    assert_int_equal(raw_call(raw, OP_READ, db, "\1a", 2).status, DOCDB_ERR_INVALID);
    assert_int_equal(close(raw), 0);
}

/* ---- Clients that die or do not listen ---- */

static void client_that_dies_in_a_transaction_leaves_nothing(void **state) {
    struct fixture *fixture = *state;
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t db = raw_open_db(raw, "notes");
    uint32_t txn = raw_call(raw, OP_BEGIN, db, "\0\0\0\0", 4).handle;
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    write_encode(&writer, &(struct write){.kind = WRITE_PUT, .id = "a", .data = "x", .bytes = 1});
    assert_int_equal(raw_call(raw, OP_TXN_WRITE, txn, body, writer.bytes).status, DOCDB_OK);
    wait_for_snapshots(fixture->engine, 1);
    raw_send(raw, "\100\0\0\0", 4); /* dies inside a frame, too */
    assert_int_equal(close(raw), 0);
    wait_for_snapshots(fixture->engine, 0);
    docdb_db *direct = open_db(fixture->engine, "notes");
    assert_missing(direct, "a");
    docdb_db_close(direct);
}

static void client_that_dies_in_a_scan_frees_its_snapshot(void **state) {
    struct fixture *fixture = *state;
    docdb_db *direct = open_db(fixture->engine, "notes");
    docdb_txn *txn = NULL;
    assert_int_equal(docdb_begin(direct, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
    for (int i = 0; i < 5000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%d", i);
        assert_int_equal(docdb_txn_put(txn, id, "", 0), DOCDB_OK);
    }
    assert_int_equal(docdb_commit(txn, NULL), DOCDB_OK);
    docdb_db_close(direct);
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t db = raw_open_db(raw, "notes");
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    wire_writer_init(&writer, body, sizeof body);
    scan_request_encode(&writer, &(docdb_scan_options){0});
    raw_send_frame(raw, &(struct frame){.op = OP_SCAN, .handle = db, .body_bytes = (uint32_t)writer.bytes}, body);
    wait_for_snapshots(fixture->engine, 1);
    assert_int_equal(close(raw), 0);
    wait_for_snapshots(fixture->engine, 0);
}

static void client_that_never_reads_costs_the_others_nothing(void **state) {
    struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_db *db = open_db(client, "notes");
    const size_t bytes = 1u << 20;
    char *large = calloc(1, bytes);
    assert_non_null(large);
    assert_int_equal(docdb_put(db, "large", large, bytes, NULL), DOCDB_OK);
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t handle = raw_open_db(raw, "notes");
    uint8_t frame[FRAME_BYTES + 6];
    frame_encode(frame, &(struct frame){.op = OP_READ, .handle = handle, .body_bytes = 6});
    memcpy(frame + FRAME_BYTES, "\5large", 6);
    /* Asks for far more than any buffer holds; the server stops listening to this one, so most of it stays in the
     * socket. */
    ssize_t sent = 1;
    for (int i = 0; i < 100000 && sent > 0; i++) {
        sent = send(raw, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    assert_int_equal(sent, -1);
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < 100; i++) {
        assert_put(db, "a", "unaffected");
        assert_reads(db, "a", "unaffected");
    }
    assert_int_equal(close(raw), 0);
    docdb_db_close(db);
    assert_int_equal(docdb_close(client), DOCDB_OK);
    free(large);
}

static void client_that_stops_sending_still_gets_its_replies(void **state) {
    struct fixture *fixture = *state;
    int raw = raw_connect(fixture->socket_path);
    raw_greet(raw);
    uint32_t db = raw_open_db(raw, "notes");
    uint8_t body[SMALL_BODY_BYTES_MAX];
    struct wire_writer writer;
    struct frame reply;
    wire_writer_init(&writer, body, sizeof body);
    wire_write_u32(&writer, 1);
    write_encode(&writer, &(struct write){.kind = WRITE_PUT, .id = "a", .data = "x", .bytes = 1});
    for (uint32_t i = 0; i < 10; i++) {
        raw_send_frame(
            raw,
            &(struct frame){.op = OP_BATCH, .handle = db, .request_id = i, .body_bytes = (uint32_t)writer.bytes},
            body);
    }
    assert_int_equal(shutdown(raw, SHUT_WR), 0);
    for (uint32_t i = 0; i < 10; i++) {
        raw_receive_frame(raw, &reply, body);
        assert_int_equal(reply.status, DOCDB_OK);
        assert_int_equal(reply.request_id, i);
    }
    assert_int_equal(recv(raw, body, 1, 0), 0);
    assert_int_equal(close(raw), 0);
}

/* ---- A server that stops ---- */

enum { COMMITS = 400 };

struct outcomes {
    struct event done;
    atomic_uint left;
    int status[COMMITS];
};

struct outcome {
    struct outcomes *all;
    int number;
};

static void on_outcome(void *arg, int status, uint64_t commit_seq) {
    struct outcome *outcome = arg;
    (void)commit_seq;
    outcome->all->status[outcome->number] = status;
    if (atomic_fetch_sub(&outcome->all->left, 1) == 1) {
        event_set(&outcome->all->done);
    }
}

static void *stop_main(void *arg) {
    fixture_stop_server(arg);
    return NULL;
}

static void every_commit_in_flight_gets_an_outcome_when_the_server_stops(void **state) {
    struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_db *db = open_db(client, "notes");
    docdb_doc *doc = NULL;
    char id[16];
    struct outcomes outcomes;
    struct outcome outcome[COMMITS];
    pthread_t stopper;
    event_init(&outcomes.done);
    atomic_init(&outcomes.left, COMMITS);
    for (int i = 0; i < COMMITS; i++) {
        docdb_txn *txn = NULL;
        (void)snprintf(id, sizeof id, "%d", i);
        outcome[i] = (struct outcome){&outcomes, i};
        assert_int_equal(docdb_begin(db, DOCDB_TXN_BLIND, &txn), DOCDB_OK);
        assert_int_equal(docdb_txn_put(txn, id, id, strlen(id)), DOCDB_OK);
        docdb_commit_async(txn, on_outcome, &outcome[i]);
        if (i == COMMITS / 2) {
            assert_int_equal(thread_start(&stopper, "stopper", stop_main, fixture), 0);
        }
    }
    event_wait(&outcomes.done);
    thread_join(stopper);

    docdb_db *direct = open_db(fixture->engine, "notes");
    int acknowledged = 0;
    for (int i = 0; i < COMMITS; i++) {
        (void)snprintf(id, sizeof id, "%d", i);
        if (outcomes.status[i] == DOCDB_OK) {
            assert_reads(direct, id, id);
            acknowledged++;
        } else {
            assert_int_equal(outcomes.status[i], DOCDB_ERR_DISCONNECTED);
        }
    }
    printf("%d of %d commits acknowledged before the stop\n", acknowledged, COMMITS);
    docdb_db_close(direct);

    docdb_txn *txn = NULL;
    docdb_scan *scan = NULL;
    docdb_stats stats;
    assert_int_equal(docdb_put(db, "late", "x", 1, NULL), DOCDB_ERR_DISCONNECTED);
    assert_int_equal(docdb_read(db, "1", &doc), DOCDB_ERR_DISCONNECTED);
    assert_int_equal(docdb_begin(db, 0, &txn), DOCDB_ERR_DISCONNECTED);
    assert_int_equal(docdb_scan_open(db, NULL, &scan), DOCDB_ERR_DISCONNECTED);
    assert_int_equal(docdb_get_stats(client, &stats), DOCDB_ERR_DISCONNECTED);
    docdb_db_close(db);
    assert_int_equal(docdb_close(client), DOCDB_OK);
}

static void handles_end_cleanly_when_the_server_is_gone(void **state) {
    struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_db *db = open_db(client, "notes");
    docdb_txn *txns[3];
    docdb_scan *scan = NULL;
    docdb_doc *doc = NULL;
    docdb_entry entry;
    assert_put(db, "a", "pinned");
    assert_int_equal(docdb_read(db, "a", &doc), DOCDB_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(docdb_begin(db, 0, &txns[i]), DOCDB_OK);
    }
    assert_int_equal(docdb_txn_scan(txns[0], NULL, &scan), DOCDB_OK);
    fixture_stop_server(fixture);
    assert_int_equal(access(fixture->socket_path, F_OK), -1); /* the socket went with the server */
    assert_int_equal(docdb_txn_put(txns[0], "b", "x", 1), DOCDB_ERR_DISCONNECTED);
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_OK); /* had come with the first reply */
    assert_int_equal(docdb_scan_next(scan, &entry), DOCDB_ERR_END);
    docdb_scan_close(scan);
    docdb_abort(txns[0]);
    assert_int_equal(docdb_commit(txns[1], NULL), DOCDB_ERR_DISCONNECTED);
    docdb_abort(txns[2]);
    assert_memory_equal(docdb_doc_data(doc), "pinned", 6);
    docdb_doc_release(doc);
    docdb_db_close(db);
    assert_int_equal(docdb_close(client), DOCDB_OK);
}

/* ---- What stands at the socket's path ---- */

static int start_at(const struct fixture *fixture, const char *path, unsigned mode, struct server **out,
                    docdb_error *error) {
    struct server_options options = {.socket_path = path, .socket_mode = mode, .log = no_log};
    *error = (docdb_error){0};
    int status = server_start(fixture->engine, &options, out, error);
    if (status != DOCDB_OK) {
        assert_int_equal(error->status, status);
        assert_non_null(strstr(error->message, path));
    }
    return status;
}

/* A socket that nobody listens on any more. */
static void leave_stale_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(bind(made, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(made, 1), 0);
    assert_int_equal(close(made), 0);
}

static int connect_status(const char *where, docdb_error *error) {
    docdb *runtime = NULL;
    *error = (docdb_error){0};
    int status = docdb_open(where, NULL, &runtime, error);
    if (status == DOCDB_OK) {
        assert_int_equal(docdb_close(runtime), DOCDB_OK);
    }
    return status;
}

static void stale_socket_is_replaced(void **state) {
    struct fixture *fixture = *state;
    docdb_error error;
    fixture_stop_server(fixture);
    leave_stale_socket(fixture->socket_path);
    assert_int_equal(connect_status(fixture->where, &error), DOCDB_ERR_UNREACHABLE);
    assert_non_null(strstr(error.message, fixture->socket_path));
    assert_int_equal(start_at(fixture, fixture->socket_path, 0, &fixture->server, &error), DOCDB_OK);
    assert_int_equal(connect_status(fixture->where, &error), DOCDB_OK);
}

static void live_server_keeps_its_socket(void **state) {
    struct fixture *fixture = *state;
    struct server *second = NULL;
    docdb_error error;
    char pid[32];
    assert_int_equal(start_at(fixture, fixture->socket_path, 0, &second, &error), DOCDB_ERR_LOCKED);
    (void)snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    assert_non_null(strstr(error.message, pid));
    assert_int_equal(connect_status(fixture->where, &error), DOCDB_OK);
}

static void what_is_no_socket_is_left_alone(void **state) {
    struct fixture *fixture = *state;
    struct server *server = NULL;
    docdb_error error;
    char path[128];
    char text[8] = "";
    (void)snprintf(path, sizeof path, "%s/precious", fixture->directory);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(file, "data", 4), 4);
    assert_int_equal(start_at(fixture, path, 0, &server, &error), DOCDB_ERR_EXISTS);
    assert_int_equal(pread(file, text, sizeof text, 0), 4);
    assert_string_equal(text, "data");
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(start_at(fixture, fixture->directory, 0, &server, &error), DOCDB_ERR_EXISTS);
}

static void unusable_paths_are_refused_with_a_message(void **state) {
    struct fixture *fixture = *state;
    struct server *server = NULL;
    docdb_error error;
    char path[128];
    char where[256];
    (void)snprintf(path, sizeof path, "%s/no/such/s.sock", fixture->directory);
    assert_int_equal(start_at(fixture, path, 0, &server, &error), DOCDB_ERR_NO_DIRECTORY);
    memset(path, 'x', 108);
    path[0] = '/';
    path[108] = '\0';
    assert_int_equal(start_at(fixture, path, 0, &server, &error), DOCDB_ERR_INVALID);
    (void)snprintf(where, sizeof where, "unix:%s", path);
    assert_int_equal(connect_status(where, &error), DOCDB_ERR_INVALID);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(connect_status("unix:", &error), DOCDB_ERR_INVALID);
}

static void server_removes_its_own_socket_only(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(unlink(fixture->socket_path), 0);
    int file = open(fixture->socket_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(close(file), 0);
    fixture_stop_server(fixture);
    assert_int_equal(access(fixture->socket_path, F_OK), 0);
}

static void socket_has_the_mode_that_was_asked_for(void **state) {
    struct fixture *fixture = *state;
    docdb_error error;
    struct stat found;
    assert_int_equal(stat(fixture->socket_path, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0600);
    fixture_stop_server(fixture);
    mode_t before = umask(0077);
    assert_int_equal(start_at(fixture, fixture->socket_path, 0660, &fixture->server, &error), DOCDB_OK);
    (void)umask(before);
    assert_int_equal(stat(fixture->socket_path, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0660);
}

/* ---- Connecting to what is no server ---- */

static void connecting_to_nothing_is_unreachable(void **state) {
    struct fixture *fixture = *state;
    docdb_error error;
    char where[160];
    (void)snprintf(where, sizeof where, "unix:%s/nothing", fixture->directory);
    assert_int_equal(connect_status(where, &error), DOCDB_ERR_UNREACHABLE);
    assert_non_null(strstr(error.message, where + 5));
    assert_non_null(strstr(error.message, "docdb serve"));
    (void)snprintf(where, sizeof where, "unix:%s/data/LOCK", fixture->directory); /* a file */
    assert_int_equal(connect_status(where, &error), DOCDB_ERR_UNREACHABLE);
}

static void connecting_without_permission_says_so(void **state) {
    struct fixture *fixture = *state;
    docdb_error error;
    assert_int_equal(chmod(fixture->socket_path, 0), 0);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(seteuid(65534), 0);
    }
    int status = connect_status(fixture->where, &error);
    if (root) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(status, DOCDB_ERR_PERMISSION);
    assert_non_null(strstr(error.message, fixture->socket_path));
}

struct stranger {
    int listener;
    const char *says;
    size_t bytes;
};

static void *stranger_main(void *arg) {
    struct stranger *stranger = arg;
    char scrap[64];
    int peer = accept(stranger->listener, NULL, NULL);
    (void)recv(peer, scrap, sizeof scrap, 0);
    raw_send(peer, stranger->says, stranger->bytes);
    (void)close(peer);
    return NULL;
}

static int connect_to_stranger(const struct fixture *fixture, const char *says, size_t bytes, docdb_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char where[160];
    pthread_t thread;
    struct stranger stranger = {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), says, bytes};
    (void)snprintf(where, sizeof where, "unix:%s/stranger", fixture->directory);
    memcpy(address.sun_path, where + 5, strlen(where + 5));
    assert_int_equal(bind(stranger.listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(stranger.listener, 1), 0);
    assert_int_equal(thread_start(&thread, "stranger", stranger_main, &stranger), 0);
    int status = connect_status(where, error);
    thread_join(thread);
    assert_int_equal(close(stranger.listener), 0);
    assert_int_equal(unlink(where + 5), 0);
    return status;
}

static void connecting_to_another_kind_of_server_says_so(void **state) {
    static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    static const char busy[] = "\4\0\0\0\377\0\344\377\0\0\0\0\0\0\0\0full";
    docdb_error error;
    assert_int_equal(connect_to_stranger(*state, http, sizeof http - 1, &error), DOCDB_ERR_PROTOCOL);
    assert_int_equal(connect_to_stranger(*state, "", 0, &error), DOCDB_ERR_UNREACHABLE);
    assert_int_equal(connect_to_stranger(*state, busy, sizeof busy - 1, &error), DOCDB_ERR_BUSY);
    assert_non_null(strstr(error.message, "full"));
}

/* ---- Backups ---- */

/* Opens a backup; waits while those of clients that died just now are being let go of. */
static uint32_t raw_open_backup(int socket) {
    struct frame reply = raw_call(socket, OP_BACKUP_OPEN, 0, NULL, 0);
    while (reply.status == DOCDB_ERR_BUSY) {
        pause_briefly();
        reply = raw_call(socket, OP_BACKUP_OPEN, 0, NULL, 0);
    }
    assert_int_equal(reply.status, DOCDB_OK);
    return reply.handle;
}

/* More clients than there may be backups at once: each backup must go with its client, also while it is read. */
static void client_that_dies_in_a_backup_lets_go_of_it(void **state) {
    const struct fixture *fixture = *state;
    docdb_db *db = open_db(fixture->engine, "db");
    assert_put(db, "a", "text");
    docdb_db_close(db);
    for (unsigned i = 0; i < 40; i++) {
        int socket = raw_connect(fixture->socket_path);
        raw_greet(socket);
        uint32_t handle = raw_open_backup(socket);
        for (unsigned reads = 0; reads < i % 4; reads++) {
            raw_send_frame(socket, &(struct frame){.op = OP_BACKUP_NEXT, .request_id = reads, .handle = handle},
                           NULL);
        }
        (void)close(socket);
    }
}

static void backup_ends_with_its_manifest_and_its_handle_is_its_own(void **state) {
    const struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_backup *backup = NULL;
    docdb_backup_chunk chunk = {0};
    char last[64] = "";
    docdb_db *db = open_db(client, "db");
    assert_put(db, "a", "text");
    docdb_db_close(db);
    assert_int_equal(docdb_backup_open(client, &backup), DOCDB_OK);
    int status = docdb_backup_next(backup, &chunk);
    for (; status == DOCDB_OK; status = docdb_backup_next(backup, &chunk)) {
        (void)snprintf(last, sizeof last, "%s", chunk.path);
    }
    assert_int_equal(status, DOCDB_ERR_END);
    assert_string_equal(last, "MANIFEST");
    docdb_backup_close(backup);
    assert_int_equal(docdb_close(client), DOCDB_OK);

    int socket = raw_connect(fixture->socket_path);
    raw_greet(socket);
    uint32_t handle = raw_open_backup(socket);
    uint32_t database = raw_open_db(socket, "db");
    assert_int_equal(raw_call(socket, OP_BACKUP_NEXT, database, NULL, 0).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(socket, OP_CLOSE_DB, handle, NULL, 0).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(socket, OP_BACKUP_CLOSE, handle, NULL, 0).status, DOCDB_OK);
    assert_int_equal(raw_call(socket, OP_BACKUP_NEXT, handle, NULL, 0).status, DOCDB_ERR_INVALID);
    assert_int_equal(raw_call(socket, OP_BACKUP_CLOSE, handle, NULL, 0).status, DOCDB_ERR_INVALID);
    (void)close(socket);
}

static void backup_ends_cleanly_when_the_server_is_gone(void **state) {
    struct fixture *fixture = *state;
    docdb *client = fixture_connect(fixture);
    docdb_backup *backup = NULL;
    docdb_backup_chunk chunk;
    assert_int_equal(docdb_backup_open(client, &backup), DOCDB_OK);
    fixture_stop_server(fixture);
    assert_int_equal(docdb_backup_next(backup, &chunk), DOCDB_ERR_DISCONNECTED);
    docdb_backup_close(backup);
    assert_int_equal(docdb_close(client), DOCDB_OK);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(broken_frame_is_named_and_ends_its_connection_alone),
        TEST(length_over_the_limit_is_refused_before_its_body_comes),
        TEST(random_garbage_disturbs_nobody),
        TEST(other_protocol_version_is_refused_by_name),
        TEST(frames_arriving_byte_by_byte_are_understood),
        TEST(wrong_handles_are_invalid_and_harmless),
        TEST(client_that_dies_in_a_transaction_leaves_nothing),
        TEST(client_that_dies_in_a_scan_frees_its_snapshot),
        TEST(client_that_never_reads_costs_the_others_nothing),
        TEST(client_that_stops_sending_still_gets_its_replies),
        TEST(every_commit_in_flight_gets_an_outcome_when_the_server_stops),
        TEST(handles_end_cleanly_when_the_server_is_gone),
        TEST(client_that_dies_in_a_backup_lets_go_of_it),
        TEST(backup_ends_with_its_manifest_and_its_handle_is_its_own),
        TEST(backup_ends_cleanly_when_the_server_is_gone),
        TEST(stale_socket_is_replaced),
        TEST(live_server_keeps_its_socket),
        TEST(what_is_no_socket_is_left_alone),
        TEST(unusable_paths_are_refused_with_a_message),
        TEST(server_removes_its_own_socket_only),
        TEST(socket_has_the_mode_that_was_asked_for),
        TEST(connecting_to_nothing_is_unreachable),
        TEST(connecting_without_permission_says_so),
        TEST(connecting_to_another_kind_of_server_says_so),
    };
    return cmocka_run_group_tests_name("socket failures", tests, NULL, NULL);
}
