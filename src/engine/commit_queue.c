/* See commit_queue.h. */
#include "engine/commit_queue.h"

#include "base/limits.h"
#include "docdb.h"

/* Is this a thread that takes from a queue? Then it must not wait for itself to make room. */
static _Thread_local bool is_consumer;

void commit_queue_init(struct commit_queue *queue) {
    *queue = (struct commit_queue){0};
    mutex_init(&queue->mutex);
    condition_init(&queue->not_empty);
    condition_init(&queue->room);
}

void commit_queue_fini(struct commit_queue *queue) {
    condition_fini(&queue->room);
    condition_fini(&queue->not_empty);
    mutex_fini(&queue->mutex);
}

static bool is_full(const struct commit_queue *queue) REQUIRES(queue->mutex) {
    return queue->count >= LIMIT_QUEUE_TRANSACTIONS || queue->bytes >= LIMIT_QUEUE_BYTES;
}

int commit_queue_submit(struct commit_queue *queue, struct request *request) {
    int status = DOCDB_OK;
    request->next = NULL;
    mutex_lock(&queue->mutex);
    while (is_full(queue) && !is_consumer && !queue->closed) {
        queue->producers_waiting++;
        condition_wait(&queue->room, &queue->mutex);
        queue->producers_waiting--;
    }
    if (queue->closed) {
        status = DOCDB_ERR_CLOSING;
    } else {
        if (queue->tail != NULL) {
            queue->tail->next = request;
        } else {
            queue->head = request;
        }
        queue->tail = request;
        queue->count++;
        queue->bytes += request->bytes;
        if (queue->consumer_waits) {
            queue->consumer_waits = false;
            condition_signal(&queue->not_empty);
        }
    }
    mutex_unlock(&queue->mutex);
    return status;
}

/* Cuts the first requests off the queue that together make one batch. */
static struct request *batch_cut(struct commit_queue *queue) REQUIRES(queue->mutex) {
    struct request *first = queue->head;
    struct request *last = first;
    size_t count = 1;
    uint64_t bytes = first->bytes;
    while (first->kind == REQUEST_TXN && last->next != NULL && last->next->kind == REQUEST_TXN &&
           count < LIMIT_BATCH_TRANSACTIONS && bytes + last->next->bytes <= LIMIT_BATCH_BYTES) {
        last = last->next;
        count++;
        bytes += last->bytes;
    }
    queue->head = last->next;
    if (queue->head == NULL) {
        queue->tail = NULL;
    }
    last->next = NULL;
    queue->count -= count;
    queue->bytes -= bytes;
    return first;
}

struct request *commit_queue_take(struct commit_queue *queue) {
    struct request *batch = NULL;
    is_consumer = true;
    mutex_lock(&queue->mutex);
    while (queue->head == NULL && !queue->closed) {
        queue->consumer_waits = true;
        condition_wait(&queue->not_empty, &queue->mutex);
    }
    queue->consumer_waits = false;
    if (queue->head != NULL) {
        batch = batch_cut(queue);
        if (queue->producers_waiting > 0 && !is_full(queue)) {
            condition_broadcast(&queue->room);
        }
    }
    mutex_unlock(&queue->mutex);
    return batch;
}

void commit_queue_close(struct commit_queue *queue) {
    mutex_lock(&queue->mutex);
    queue->closed = true;
    condition_broadcast(&queue->not_empty);
    condition_broadcast(&queue->room);
    mutex_unlock(&queue->mutex);
}
