/* The sending half of a link: chunks, the queue, and the slots of calls under way. See link.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "client/link.h"
#include "client/link_inside.h"

/* ---- Chunks ---- */

struct chunk *chunk_create(size_t capacity) {
    struct chunk *chunk = malloc(sizeof *chunk + FRAME_BYTES + capacity);
    if (chunk != NULL) {
        chunk->next = NULL;
        chunk->bytes = FRAME_BYTES;
        chunk->capacity = FRAME_BYTES + capacity;
    }
    return chunk;
}

bool chunk_reserve(struct chunk **chunk, size_t bytes) {
    size_t needed = (*chunk)->bytes + bytes;
    if (needed <= (*chunk)->capacity) {
        return true;
    }
    size_t doubled = (*chunk)->capacity * 2;
    size_t capacity = needed > doubled ? needed : doubled;
    struct chunk *grown = realloc(*chunk, sizeof *grown + capacity);
    if (grown == NULL) {
        return false;
    }
    grown->capacity = capacity;
    *chunk = grown;
    return true;
}

struct wire_writer chunk_writer(struct chunk *chunk) {
    struct wire_writer writer;
    wire_writer_init(&writer, chunk->data + chunk->bytes, chunk->capacity - chunk->bytes);
    return writer;
}

void chunk_wrote(struct chunk *chunk, const struct wire_writer *writer) { chunk->bytes += writer->bytes; }

void chunk_destroy(struct chunk *chunk) { free(chunk); }

/* ---- Slots of calls ---- */

#define SLOT_BITS 16
#define SLOTS_MIN 16

static int slots_grow(struct link *link) REQUIRES(link->mutex) {
    uint32_t count = link->slot_count == 0 ? SLOTS_MIN : link->slot_count * 2;
    if (count > LINK_CALLS_MAX) {
        return DOCDB_ERR_BUSY;
    }
    struct link_slot *slots = realloc(link->slots, count * sizeof *slots);
    if (slots == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    for (uint32_t i = link->slot_count; i < count; i++) {
        slots[i] = (struct link_slot){.next_free = i + 1};
    }
    link->slots = slots;
    link->free_slot = link->slot_count;
    link->slot_count = count;
    return DOCDB_OK;
}

static int slot_take(struct link *link, struct call *call, uint32_t *request_id) REQUIRES(link->mutex) {
    if (link->free_slot == link->slot_count) {
        int status = slots_grow(link);
        if (status != DOCDB_OK) {
            return status;
        }
    }
    uint32_t index = link->free_slot;
    struct link_slot *slot = &link->slots[index];
    link->free_slot = slot->next_free;
    slot->call = call;
    slot->generation++;
    link->calls++;
    *request_id = slot->generation << SLOT_BITS | index;
    return DOCDB_OK;
}

static struct call *slot_free(struct link *link, uint32_t index) REQUIRES(link->mutex) {
    struct link_slot *slot = &link->slots[index];
    struct call *call = slot->call;
    slot->call = NULL;
    slot->next_free = link->free_slot;
    link->free_slot = index;
    if (link->calls-- == LINK_CALLS_MAX) {
        condition_broadcast(&link->room);
    }
    if (link->calls == 0) {
        condition_broadcast(&link->idle);
    }
    return call;
}

struct call *link_call_find(struct link *link, uint32_t request_id) {
    uint32_t index = request_id & ((1u << SLOT_BITS) - 1);
    struct call *call = NULL;
    mutex_lock(&link->mutex);
    if (index < link->slot_count && link->slots[index].call != NULL &&
        (link->slots[index].generation << SLOT_BITS | index) == request_id) {
        call = slot_free(link, index);
    }
    mutex_unlock(&link->mutex);
    return call;
}

struct call *link_call_any(struct link *link) {
    struct call *call = NULL;
    mutex_lock(&link->mutex);
    for (uint32_t i = 0; i < link->slot_count && call == NULL && link->calls != 0; i++) {
        if (link->slots[i].call != NULL) {
            call = slot_free(link, i);
        }
    }
    mutex_unlock(&link->mutex);
    return call;
}

/* ---- The queue ---- */

static void queue_add(struct link *link, struct chunk *chunk) REQUIRES(link->mutex) {
    *link->queue_end = chunk;
    link->queue_end = &chunk->next;
    link->queue_bytes += chunk->bytes;
}

/* Drops the first chunks as far as `bytes` sent bytes cover them. */
static void queue_advance(struct link *link, size_t bytes) REQUIRES(link->mutex) {
    bytes += link->first_sent;
    while (link->queue != NULL && link->queue->bytes <= bytes) {
        struct chunk *chunk = link->queue;
        bytes -= chunk->bytes;
        link->queue_bytes -= chunk->bytes;
        link->queue = chunk->next;
        chunk_destroy(chunk);
    }
    if (link->queue == NULL) {
        link->queue_end = &link->queue;
    }
    link->first_sent = bytes;
    if (link->queue_bytes <= LINK_QUEUE_BYTES_MAX) {
        condition_broadcast(&link->room);
    }
}

static size_t queue_parts(struct link *link, struct iovec *parts) REQUIRES(link->mutex) {
    size_t count = 0;
    size_t skip = link->first_sent;
    for (struct chunk *chunk = link->queue; chunk != NULL && count < LINK_SEND_CHUNKS; chunk = chunk->next) {
        parts[count++] = (struct iovec){.iov_base = chunk->data + skip, .iov_len = chunk->bytes - skip};
        skip = 0;
    }
    return count;
}

void link_break_locked(struct link *link) {
    link->broken = true;
    (void)shutdown(link->socket, SHUT_RDWR); /* wakes the reader and a sender that wait on the socket */
    condition_broadcast(&link->room);
    if (link->sender !=
        SENDER_CALLER) { /* else that one holds on to chunks of the queue, and drops it when it is back */
        link->sender = SENDER_NONE;
        queue_advance(link, link->queue_bytes);
        link->first_sent = 0;
    }
}

void link_send_queued(struct link *link, enum link_sender sender) {
    struct iovec parts[LINK_SEND_CHUNKS];
    int flags = MSG_NOSIGNAL | (sender == SENDER_READER ? MSG_DONTWAIT : 0);
    link->sender = sender;
    while (link->queue != NULL && !link->broken) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = queue_parts(link, parts)};
        mutex_unlock(&link->mutex);
        ssize_t sent = sendmsg(link->socket, &message, flags);
        int error = errno;
        mutex_lock(&link->mutex);
        if (sent >= 0) {
            queue_advance(link, (size_t)sent);
        } else if (error == EAGAIN && sender == SENDER_READER) {
            return; /* stays the sender; goes on when the socket has room */
        } else if (error != EINTR) {
            link->broken = true;
        }
    }
    link->sender = SENDER_NONE;
    if (link->broken) {
        link_break_locked(link);
    }
}

int link_send(struct link *link, struct chunk *chunk, uint8_t op, uint8_t flags, uint32_t handle,
              struct call *call) {
    bool on_reader = pthread_equal(pthread_self(), link->reader) != 0;
    uint32_t request_id = 0;
    mutex_lock(&link->mutex);
    while (!on_reader && !link->broken &&
           (link->queue_bytes > LINK_QUEUE_BYTES_MAX || link->calls == LINK_CALLS_MAX)) {
        condition_wait(&link->room, &link->mutex);
    }
    int status = link->broken ? DOCDB_ERR_DISCONNECTED : DOCDB_OK;
    if (status == DOCDB_OK && call != NULL) {
        call->op = op;
        status = slot_take(link, call, &request_id);
    }
    if (status != DOCDB_OK) {
        mutex_unlock(&link->mutex);
        chunk_destroy(chunk);
        return status;
    }
    frame_encode(chunk->data, &(struct frame){
                                  .body_bytes = (uint32_t)(chunk->bytes - FRAME_BYTES),
                                  .op = op,
                                  .flags = flags,
                                  .request_id = request_id,
                                  .handle = handle,
                              });
    queue_add(link, chunk);
    if (link->sender == SENDER_NONE) {
        link_send_queued(link, on_reader ? SENDER_READER : SENDER_CALLER);
    }
    mutex_unlock(&link->mutex);
    return DOCDB_OK;
}
