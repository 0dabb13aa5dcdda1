/* See admission.h. */
#include "engine/admission.h"

#include <inttypes.h>

#include "base/limits.h"
#include "engine/maintenance.h"
#include "engine/runtime.h"

#define LOOK_INTERVAL_NS INT64_C(100000000) /* the free space is looked at this often, or when it runs low */
#define LOOK_SHARE       16u                /* or when such a part of what was left was admitted */
#define DELAY_MAX_NS     INT64_C(100000000) /* of one batch */

/* ---- Room on the disk ---- */

/* Looks at the disk. A file system that can't tell is taken to have room. */
static void look(struct engine *engine, int64_t now_ns) {
    struct admission *admission = &engine->admission;
    uint64_t free_bytes = UINT64_MAX;
    uint64_t wanted = LIMIT_SPACE_RESERVE_BYTES + checkpoint_debt(engine);
    if (os_free_bytes(engine->os, engine->directory, &free_bytes) != 0) {
        free_bytes = UINT64_MAX;
    }
    admission->looked_ns = now_ns;
    admission->left_bytes = free_bytes > wanted ? free_bytes - wanted : 0;
    admission->look_below = admission->left_bytes - admission->left_bytes / LOOK_SHARE;
    admission->wal_bytes = atomic_load(&engine->wal.disk_bytes);
}

static int space_check(struct engine *engine, uint64_t bytes) {
    struct admission *admission = &engine->admission;
    int64_t now_ns = os_monotonic_ns(engine->os);
    bool stale =
        admission->is_short || admission->looked_ns == 0 || now_ns - admission->looked_ns >= LOOK_INTERVAL_NS;
    bool changed = admission->left_bytes < admission->look_below + bytes ||
                   admission->wal_bytes != atomic_load(&engine->wal.disk_bytes);
    if (stale || changed) {
        look(engine, now_ns);
    }
    bool was_short = admission->is_short;
    admission->is_short = admission->left_bytes < bytes;
    atomic_store(&engine->wal.is_short, admission->is_short);
    if (admission->is_short) {
        if (!was_short) {
            log_info(&engine->log, "the disk of %s is nearly full: writes are refused, deletes are not",
                     engine->directory);
        }
        engine_wake_maintenance(engine, true); /* what is dead comes back */
        return DOCDB_ERR_NO_SPACE;
    }
    if (was_short) {
        log_info(&engine->log, "the disk of %s has room again", engine->directory);
    }
    admission->left_bytes -= bytes;
    return DOCDB_OK;
}

/* ---- The log's length ---- */

static void slow_down(struct engine *engine, uint64_t wal_bytes) {
    double share = (double)checkpoint_debt(engine) / (double)engine->wal_limit_bytes;
    if (share <= 0.5) {
        return;
    }
    double rate = (double)atomic_load_explicit(&engine->checkpoint_rate, memory_order_relaxed);
    double ns = (double)wal_bytes / rate * 1e9 * (share - 0.5) * 4;
    int64_t delay_ns = ns < (double)DELAY_MAX_NS ? (int64_t)ns : DELAY_MAX_NS;
    atomic_fetch_add_explicit(&engine->throttled_us, (uint64_t)delay_ns / 1000, memory_order_relaxed);
    os_sleep_ns(engine->os, delay_ns);
}

int admission_check(struct engine *engine, uint64_t wal_bytes, uint64_t placed_bytes, bool frees) {
    int status = frees ? DOCDB_OK : space_check(engine, wal_bytes + placed_bytes);
    if (status == DOCDB_OK && !frees) {
        slow_down(engine, wal_bytes);
    }
    return status;
}
