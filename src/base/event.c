/* See event.h. */
#include "base/event.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CLEAR, WAITED_FOR, SET };

static void futex(atomic_uint *word, int operation, unsigned value) {
    (void)syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void event_init(struct event *event) { atomic_init(&event->state, CLEAR); }

void event_set(struct event *event) {
    if (atomic_exchange_explicit(&event->state, SET, memory_order_acq_rel) == WAITED_FOR) {
        futex(&event->state, FUTEX_WAKE, 1);
    }
}

void event_wait(struct event *event) {
    unsigned expected = CLEAR;
    if (!atomic_compare_exchange_strong_explicit(&event->state, &expected, WAITED_FOR, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        return; /* set already */
    }
    while (atomic_load_explicit(&event->state, memory_order_acquire) != SET) {
        futex(&event->state, FUTEX_WAIT, WAITED_FOR);
    }
}
