/* See observers.h. */
#include "engine/observers.h"

#include <stdlib.h>

void observers_init(struct observers *observers) {
    *observers = (struct observers){0};
    mutex_init(&observers->mutex);
}

void observers_fini(struct observers *observers) { mutex_fini(&observers->mutex); }

bool observers_any(const struct observers *observers) {
    return atomic_load_explicit(&observers->count, memory_order_acquire) > 0;
}

int observers_add(struct observers *observers, const struct backend *backend, docdb_observer_fn fn, void *arg,
                  docdb_observer **out) {
    struct observer *observer = malloc(sizeof *observer);
    if (observer == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    *observer = (struct observer){.api = {.backend = backend}, .observers = observers, .fn = fn, .arg = arg};
    int status = DOCDB_ERR_BUSY;
    mutex_lock(&observers->mutex);
    for (size_t i = 0; i < LIMIT_OBSERVERS && status != DOCDB_OK; i++) {
        if (observers->table[i] == NULL) {
            observers->table[i] = observer;
            atomic_fetch_add(&observers->count, 1);
            status = DOCDB_OK;
        }
    }
    mutex_unlock(&observers->mutex);
    if (status != DOCDB_OK) {
        free(observer);
        return status;
    }
    *out = &observer->api;
    return DOCDB_OK;
}

void observers_remove(docdb_observer *api) {
    struct observer *observer = (struct observer *)api;
    struct observers *observers = observer->observers;
    mutex_lock(&observers->mutex);
    for (size_t i = 0; i < LIMIT_OBSERVERS; i++) {
        if (observers->table[i] == observer) {
            observers->table[i] = NULL;
            atomic_fetch_sub(&observers->count, 1);
        }
    }
    mutex_unlock(&observers->mutex);
    free(observer);
}

void observers_call(struct observers *observers, const docdb_commit_event *event, docdb_ack *ack) {
    mutex_lock(&observers->mutex);
    for (size_t i = 0; i < LIMIT_OBSERVERS; i++) {
        struct observer *observer = observers->table[i];
        if (observer == NULL) {
            continue;
        }
        /* Counted before the call: the observer may release the ack before it returns. */
        atomic_fetch_add_explicit(&ack->pending, 1, memory_order_relaxed);
        if (observer->fn(observer->arg, event, ack) != DOCDB_OBSERVE_LATER) {
            docdb_ack_release(ack);
        }
    }
    mutex_unlock(&observers->mutex);
}

void ack_init(docdb_ack *ack, void (*released)(docdb_ack *ack)) {
    atomic_init(&ack->pending, 1);
    ack->released = released;
}

void docdb_ack_release(docdb_ack *ack) {
    if (atomic_fetch_sub_explicit(&ack->pending, 1, memory_order_acq_rel) == 1) {
        ack->released(ack);
    }
}
