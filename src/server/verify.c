/* See verify.h. */
#include "server/verify.h"

#include <stdlib.h>

#include "server/bounds.h"
#include "server/loop.h"

struct open_verify *open_verify_create(struct loop *loop) {
    struct open_verify *open = loop->verifications < SERVER_VERIFICATIONS_MAX ? calloc(1, sizeof *open) : NULL;
    if (open != NULL) {
        open->loop = loop;
        open->users = 1;
        loop->verifications++;
    }
    return open;
}

void open_verify_acquire(struct open_verify *open) { open->users++; }

static void destroy(struct open_verify *open) {
    open->loop->verifications--;
    free(open);
}

static void close_work(uv_work_t *work) {
    struct open_verify *open = work->data;
    docdb_verify_close(open->verify);
}

static void close_after_work(uv_work_t *work, int cancelled) {
    (void)cancelled; /* nothing cancels it */
    destroy(work->data);
}

void open_verify_release(struct open_verify *open) {
    if (--open->users != 0) {
        return;
    }
    if (open->verify == NULL) {
        destroy(open);
        return;
    }
    open->closing.data = open;
    (void)uv_queue_work(&open->loop->uv, &open->closing, close_work,
                        close_after_work); /* fails without work only */
}
