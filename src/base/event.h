/*
 * A one-shot event that one thread waits for: how a blocking commit waits for its asynchronous one.
 * A futex word, so that it costs nothing to create, may live on the waiter's stack, and may be gone as soon as
 * event_wait has returned (the setter touches the memory no more; its wake-up goes to the address alone).
 */
#ifndef DOCDB_BASE_EVENT_H
#define DOCDB_BASE_EVENT_H

#include <stdatomic.h>

struct event {
    atomic_uint state;
};

void event_init(struct event *event);
/* Once. Everything written before it is seen after event_wait. */
void event_set(struct event *event);
void event_wait(struct event *event);

#endif
