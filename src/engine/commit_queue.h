/*
 * The queue in front of the commit threads: bounded, first in, first out.
 *
 * A submitter waits while it is full (back-pressure); a commit thread itself, whose completions may submit, never
 * does.
 */
#ifndef DOCDB_ENGINE_COMMIT_QUEUE_H
#define DOCDB_ENGINE_COMMIT_QUEUE_H

#include "engine/observers.h"

enum request_kind { REQUEST_TXN, REQUEST_CREATE_DATABASE, REQUEST_DROP_DATABASE };

/* What the commit threads work on; embedded in a transaction or in a catalog change. */
struct request {
    struct request *next;
    enum request_kind kind;
    uint64_t bytes;     /* in memory: what queues and batches are bounded by */
    uint64_t wal_bytes; /* at least what its WAL record takes */
    bool frees;         /* it only deletes: it may use the reserve of a full disk */
    docdb_ack ack;
    int status;
    uint64_t commit_seq;
    /* Tells the waiter (status and commit_seq are set) and frees the request. */
    void (*complete)(struct request *request);
};

struct commit_queue {
    struct mutex mutex;
    struct condition not_empty;
    struct condition room;
    struct request *head GUARDED_BY(mutex);
    struct request *tail GUARDED_BY(mutex);
    size_t count GUARDED_BY(mutex);
    uint64_t bytes GUARDED_BY(mutex);
    bool closed GUARDED_BY(mutex);
    bool consumer_waits GUARDED_BY(mutex);
    unsigned producers_waiting GUARDED_BY(mutex);
};

void commit_queue_init(struct commit_queue *queue);
void commit_queue_fini(struct commit_queue *queue);

/* Returns DOCDB_OK, or CLOSING: then it is still the caller's. */
int commit_queue_submit(struct commit_queue *queue, struct request *request);

/* Takes what makes the next batch: at least one request (waiting for it), a catalog change always alone. NULL:
 * closed and empty. The calling thread counts as a commit thread from then on. */
struct request *commit_queue_take(struct commit_queue *queue);

/* Refuses what comes from now on; commit_queue_take hands out what is in it. */
void commit_queue_close(struct commit_queue *queue);

#endif
