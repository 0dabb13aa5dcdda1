/*
 * Observers: called for each published commit, before it is acknowledged.
 *
 * Threads: the commit thread calls; any thread registers, unregisters and releases acks. `mutex` is held during the
 * calls, so that unregistering waits for them.
 */
#ifndef DOCDB_ENGINE_OBSERVERS_H
#define DOCDB_ENGINE_OBSERVERS_H

#include <stdatomic.h>

#include "base/backend.h"
#include "base/limits.h"
#include "base/thread.h"

/* What a commit waits for before it is acknowledged: itself, and each observer that answered "later". */
struct docdb_ack {
    atomic_uint pending;
    void (*released)(docdb_ack *ack); /* called when pending reaches 0; frees it */
};

struct observers;

struct observer {
    docdb_observer api;
    struct observers *observers;
    docdb_observer_fn fn;
    void *arg;
};

struct observers {
    struct mutex mutex;
    struct observer *table[LIMIT_OBSERVERS] GUARDED_BY(mutex);
    atomic_uint count;
};

void observers_init(struct observers *observers);
void observers_fini(struct observers *observers);

/* Returns DOCDB_OK, BUSY or MEMORY. */
int observers_add(struct observers *observers, const struct backend *backend, docdb_observer_fn fn, void *arg,
                  docdb_observer **out);
void observers_remove(docdb_observer *api);
bool observers_any(const struct observers *observers);
/* Calls each. The caller holds one pending of the ack itself. */
void observers_call(struct observers *observers, const docdb_commit_event *event, docdb_ack *ack);

void ack_init(docdb_ack *ack, void (*released)(docdb_ack *ack));

#endif
