/*
 * A stage: the bytes that one open file has written and not yet committed.
 *
 * All stages of a mount share one budget (struct staging): growing beyond it fails with ENOSPC in the write itself,
 * where a program looks for it, and never later. A stage is guarded by whoever owns it (struct handle's mutex); the
 * budget is atomic.
 */
#ifndef DOCDB_FUSE_STAGE_H
#define DOCDB_FUSE_STAGE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct staging {
    atomic_size_t used;
    size_t limit;
    size_t document_limit; /* max_doc_bytes of the runtime */
};

struct stage {
    struct staging *staging;
    char *data; /* NULL when capacity is 0 */
    size_t bytes;
    size_t capacity; /* what is taken from the budget */
};

void stage_init(struct stage *stage, struct staging *staging);
void stage_fini(struct stage *stage);
/* These return 0, EFBIG (over the document limit) or ENOSPC (over the budget), and change nothing when they fail.
 */
int stage_write(struct stage *stage, const void *data, size_t bytes,
                uint64_t offset);                      /* a gap is filled with zeros */
int stage_resize(struct stage *stage, uint64_t bytes); /* what is new is zeros */
/* Takes the first `bytes` bytes away, and gives memory back when nothing is left. */
void stage_consume(struct stage *stage, size_t bytes);

#endif
