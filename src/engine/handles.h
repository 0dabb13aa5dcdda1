/* Handles of databases: docdb_db as this backend has it. */
#ifndef DOCDB_ENGINE_HANDLES_H
#define DOCDB_ENGINE_HANDLES_H

#include "engine/runtime.h"

struct handle {
    docdb_db api;
    struct engine *engine;
    struct database *database; /* one reference */
};

static inline struct handle *handle_of(docdb_db *db) { return (struct handle *)db; }

/* DOCDB_OK, or NO_DATABASE when it was dropped. */
static inline int handle_check(const struct handle *handle) {
    return atomic_load_explicit(&handle->database->dropped, memory_order_acquire) ? DOCDB_ERR_NO_DATABASE
                                                                                  : DOCDB_OK;
}

#endif
