/* See stage.h. Growth is by a factor, so that a file written in small pieces is copied a constant number of times.
 */
#include "fuse/stage.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define STAGE_CAPACITY_MIN 4096       /* one page: most documents are small */
#define STAGE_DOUBLING_MAX (1u << 20) /* from here on growth is by a quarter, to waste less of the budget */

void stage_init(struct stage *stage, struct staging *staging) { *stage = (struct stage){.staging = staging}; }

void stage_fini(struct stage *stage) {
    free(stage->data);
    atomic_fetch_sub_explicit(&stage->staging->used, stage->capacity, memory_order_relaxed);
    *stage = (struct stage){.staging = stage->staging};
}

static bool budget_take(struct staging *staging, size_t bytes) {
    size_t used = atomic_load_explicit(&staging->used, memory_order_relaxed);
    do {
        if (used + bytes > staging->limit) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&staging->used, &used, used + bytes, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static int stage_set_capacity(struct stage *stage, size_t capacity) {
    size_t more = capacity - stage->capacity;
    if (!budget_take(stage->staging, more)) {
        return ENOSPC;
    }
    char *data = realloc(stage->data, capacity);
    if (data == NULL) {
        atomic_fetch_sub_explicit(&stage->staging->used, more, memory_order_relaxed);
        return ENOSPC;
    }
    stage->data = data;
    stage->capacity = capacity;
    return 0;
}

static int stage_reserve(struct stage *stage, uint64_t needed) {
    if (needed > stage->staging->document_limit) {
        return EFBIG;
    }
    if (needed <= stage->capacity) {
        return 0;
    }
    size_t more = stage->capacity < STAGE_DOUBLING_MAX ? stage->capacity : stage->capacity / 4;
    size_t capacity = stage->capacity + more > STAGE_CAPACITY_MIN ? stage->capacity + more : STAGE_CAPACITY_MIN;
    if (capacity > stage->staging->document_limit) {
        capacity = stage->staging->document_limit;
    }
    if (capacity < needed) {
        capacity = (size_t)needed;
    }
    int error = stage_set_capacity(stage, capacity);
    /* Near the end of the budget what is needed may fit where twice as much does not. */
    return error == 0 ? 0 : stage_set_capacity(stage, (size_t)needed);
}

int stage_resize(struct stage *stage, uint64_t bytes) {
    int error = stage_reserve(stage, bytes);
    if (error != 0) {
        return error;
    }
    if (bytes > stage->bytes) {
        memset(stage->data + stage->bytes, 0, (size_t)bytes - stage->bytes);
    }
    stage->bytes = (size_t)bytes;
    return 0;
}

int stage_write(struct stage *stage, const void *data, size_t bytes, uint64_t offset) {
    if (bytes == 0) {
        return 0;
    }
    if (offset > stage->staging->document_limit || bytes > stage->staging->document_limit - offset) {
        return EFBIG;
    }
    uint64_t end = offset + bytes;
    int error = end > stage->bytes && offset > stage->bytes ? stage_resize(stage, offset) : 0;
    if (error == 0) {
        error = stage_reserve(stage, end);
    }
    if (error != 0) {
        return error;
    }
    memcpy(stage->data + offset, data, bytes);
    if (end > stage->bytes) {
        stage->bytes = (size_t)end;
    }
    return 0;
}

void stage_consume(struct stage *stage, size_t bytes) {
    if (bytes >= stage->bytes) {
        stage_fini(stage);
        return;
    }
    memmove(stage->data, stage->data + bytes, stage->bytes - bytes);
    stage->bytes -= bytes;
}
