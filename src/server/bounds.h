/* Every bound of the server, with the reason for its value. What clients see of them stands in docs/protocol.md. */
#ifndef DOCDB_SERVER_BOUNDS_H
#define DOCDB_SERVER_BOUNDS_H

#include "base/limits.h"

/* Each may hold buffers and handles; far above what one machine's programs open. */
#define SERVER_CONNECTIONS_MAX 4096
/* Connects that wait for accept: a burst of clients that start together. */
#define SERVER_BACKLOG 512
/* How long server_stop waits for clients to take their last replies. */
#define SERVER_DRAIN_MS 10000
/* Times 10 ms: how long to wait for another server that starts in the same directory. */
#define SERVER_LOCK_TRIES 200

/*
 * Requests of all connections in flight, and their bytes: half of what the engine queues, so that a loop's thread
 * that hands over a commit need not wait for room there. One request may go above it.
 */
#define SERVER_REQUESTS_MAX      (LIMIT_QUEUE_TRANSACTIONS / 2)
#define SERVER_REQUEST_BYTES_MAX (LIMIT_QUEUE_BYTES / 2)

/* Verifications open at once: each is a thread and about 10 MiB, and one alone keeps a disk busy. */
#define SERVER_VERIFICATIONS_MAX 4

/* Requests in flight: enough to fill a commit batch from one connection. */
#define CONNECTION_REQUESTS_MAX 1024
/* Bytes of requests in flight. One request may go above it, else it could never run. */
#define CONNECTION_REQUEST_BYTES_MAX (8u << 20)
/* Bytes of replies that the client has not taken. One reply may go above it. */
#define CONNECTION_REPLY_BYTES_MAX (4u << 20)
/* Databases, transactions, scans and backups open at once: a power of two (handles.c). */
#define CONNECTION_HANDLES_MAX 1024
/* Buffers of one write call: replies that finish together leave together. */
#define CONNECTION_WRITE_BUFFERS 64

/* One for the loop: frames in it are handled where they lie. */
#define READ_BUFFER_BYTES (256u << 10)
/* A connection's own buffer, for a frame that came in part, starts with so much, and grows by this factor as bytes
 * arrive. */
#define INPUT_BUFFER_BYTES_MIN 4096
#define INPUT_GROWTH           2

/* Entries of one reply of a scan: large enough to hide the round trip. */
#define SCAN_REPLY_BYTES (64u << 10)
/* A document up to this size is copied into its reply, a larger one is sent from where it lies: a copy is cheaper
 * than one more buffer in the write call. */
#define REPLY_COPY_BYTES_MAX (16u << 10)

#endif
