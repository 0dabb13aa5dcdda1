/*
 * A verification that a connection has open.
 *
 * Its steps and its end wait for the disk, so they run on libuv's thread pool, one at a time (`busy`). The handle
 * and a step under way each hold a use of it; the last to let go closes it, on the thread pool too. The loop does
 * not end before that is done. The struct belongs to the loop's thread, `verify` to the step under way.
 */
#ifndef DOCDB_SERVER_VERIFY_H
#define DOCDB_SERVER_VERIFY_H

#include <stdbool.h>
#include <uv.h>

#include "docdb.h"

struct loop;

struct open_verify {
    docdb_verify *verify; /* NULL until it is open */
    struct loop *loop;
    unsigned users;
    bool busy; /* a step is under way */
    uv_work_t closing;
};

/* With one use, and not open yet. NULL: out of memory, or too many on this server. */
struct open_verify *open_verify_create(struct loop *loop);
void open_verify_acquire(struct open_verify *open);
void open_verify_release(struct open_verify *open);

#endif
