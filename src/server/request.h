/*
 * Requests: a frame is decoded, checked against what is open, carried out with docdb.h, and answered.
 *
 * What never waits for the disk's sync is answered at once, on the loop's thread. Commits go through
 * docdb_commit_async and are answered when they complete; what blocks in docdb.h on a commit or on much of the
 * disk (creating and dropping databases, checkpoints, verifications, backups) runs on libuv's thread pool. A
 * document that is not in memory is read on the loop's thread.
 */
#ifndef DOCDB_SERVER_REQUEST_H
#define DOCDB_SERVER_REQUEST_H

#include <uv.h>

#include "docdb.h"
#include "protocol/protocol.h"
#include "server/connection.h"

/* A request that is answered later. It is in flight on its connection, which therefore lives as long. */
struct task {
    struct connection *connection;
    struct frame frame;
    struct task *next;  /* in the loop's list of what is done */
    size_t bytes;       /* what it counts for while it is in flight */
    struct open_db *db; /* a use of it is held; or NULL */
    int status;
    uint64_t commit_seq;

    uv_work_t work; /* of those that run on the thread pool; and what these need */
    docdb *runtime;
    struct db_request db_request;
    docdb_db *opened;
    struct open_verify *verify; /* a use of it is held; or NULL */
    docdb_verify_event event;
    docdb_backup *backup_opened;
    bool backup_unwanted;       /* backup_opened has no place: it is to be closed again */
    struct open_backup *backup; /* a use of it is held; or NULL */
    struct reply *reply;        /* made by the work; or NULL */
    size_t reply_bytes;
};

/* Handles a whole frame whose header is valid. NULL, or what is wrong with it (the connection must be refused
 * then). */
const char *request_handle(struct connection *connection, const struct frame *frame, const void *body);

/* Answers a commit that is done, and frees the task. On the loop's thread. */
void request_commit_done(struct task *task);

#endif
