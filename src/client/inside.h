/* What the files of the client share: its handles, which begin with those of base/backend.h. */
#ifndef DOCDB_CLIENT_INSIDE_H
#define DOCDB_CLIENT_INSIDE_H

#include "base/backend.h"
#include "client/link.h"

struct client {
    docdb base;
    struct link link;
    docdb_limits limits; /* the server's */
    char *path;
};

struct client_db {
    docdb_db base;
    uint32_t handle; /* the server's number for it */
};

/* Connects and says hello; *out gets the socket, *hello the server's answer. */
int connect_to_server(const char *path, int *out, struct hello_reply *hello, docdb_error *error);

/* A call without a body; the answer is in *call, and call_fini is due. */
int client_call_empty(struct client *client, uint8_t op, uint32_t handle, struct call *call);
/* A call whose body is an id; the caller has initialised *call. */
int client_call_id(struct client *client, uint8_t op, uint32_t handle, const char *id, struct call *call);
/* The answers to READ and STAT, in and out of a transaction. */
int client_read(struct client *client, uint8_t op, uint32_t handle, const char *id, docdb_doc **out);
int client_stat(struct client *client, uint8_t op, uint32_t handle, const char *id, docdb_info *out);
/* Tells the server that something is over; needs no answer, and none when the server is gone. */
void client_tell(struct client *client, uint8_t op, uint32_t handle);

/* The parts of the backend that have files of their own. */
int client_begin(docdb_db *db, unsigned flags, docdb_txn **out);
int client_txn_read(docdb_txn *txn, const char *id, docdb_doc **out);
int client_txn_stat(docdb_txn *txn, const char *id, docdb_info *out);
int client_txn_write(docdb_txn *base, const struct write *write);
void client_txn_set_origin(docdb_txn *txn, const void *origin);
void client_commit_async(docdb_txn *base, docdb_commit_fn done, void *arg);
void client_abort(docdb_txn *base);
uint32_t client_txn_handle(docdb_txn *txn);

int client_scan_open(docdb_db *db, docdb_txn *txn, const docdb_scan_options *options, docdb_scan **out);
int client_scan_next(docdb_scan *base, docdb_entry *out);
void client_scan_close(docdb_scan *base);

int client_verify_open(docdb *runtime, docdb_verify **out);
int client_verify_next(docdb_verify *base, docdb_verify_event *out);
void client_verify_close(docdb_verify *base);
int client_backup_open(docdb *runtime, docdb_backup **out);
int client_backup_next(docdb_backup *base, docdb_backup_chunk *out);
void client_backup_close(docdb_backup *base);

#endif
