/* See maintenance.h. */
#include "engine/maintenance.h"

#include "engine/checkpoint.h"
#include "engine/compaction.h"

#define RETRY_MS 1000 /* after a step that failed */

void engine_wake_maintenance(struct engine *engine, bool checkpoint_wanted) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->checkpoint_wanted = maintenance->checkpoint_wanted || checkpoint_wanted;
    if (!maintenance->wake_wanted) {
        maintenance->wake_wanted = true;
        condition_signal(&maintenance->wake);
    }
    mutex_unlock(&maintenance->mutex);
}

void engine_free_dropped(struct engine *engine) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->drop_wanted = true;
    maintenance->wake_wanted = true;
    condition_signal(&maintenance->wake);
    mutex_unlock(&maintenance->mutex);
}

uint64_t checkpoint_debt(struct engine *engine) {
    mutex_lock(&engine->position_mutex);
    uint64_t lsn = engine->position.wal.lsn;
    mutex_unlock(&engine->position_mutex);
    return lsn - atomic_load(&engine->checkpoint_lsn);
}

/* At half of the limit; sooner while there is little data, since what a checkpoint writes at once is, for a while,
 * space on top of what it replaces: a sixteenth of the data keeps that small. */
void checkpoint_threshold_set(struct engine *engine) {
    struct database **databases;
    size_t count;
    uint64_t live = 0;
    if (catalog_list(&engine->catalog, &databases, &count) != DOCDB_OK) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        live += segments_live_bytes(&databases[i]->segments);
    }
    catalog_list_free(databases, count);
    uint64_t least = engine->wal_limit_bytes / 16;
    uint64_t most = engine->wal_limit_bytes / 2;
    uint64_t wanted = live / 16 > least ? live / 16 : least;
    atomic_store(&engine->checkpoint_threshold, wanted < most ? wanted : most);
}

bool checkpoint_due(struct engine *engine) {
    return checkpoint_debt(engine) > atomic_load_explicit(&engine->checkpoint_threshold, memory_order_relaxed);
}

int checkpoint_wait(struct engine *engine) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    /* One that runs already may have begun too early. */
    uint64_t wanted = maintenance->checkpoint_attempts + (maintenance->checkpoint_running ? 2 : 1);
    maintenance->checkpoint_wanted = true;
    maintenance->wake_wanted = true;
    condition_signal(&maintenance->wake);
    while (maintenance->checkpoint_attempts < wanted && maintenance->started && !maintenance->stop) {
        maintenance->checkpoint_wanted = true;
        condition_wait(&maintenance->checkpoint_ended, &maintenance->mutex);
    }
    int status = maintenance->checkpoint_attempts < wanted ? DOCDB_ERR_CLOSING : maintenance->checkpoint_status;
    mutex_unlock(&maintenance->mutex);
    return status;
}

void maintenance_housekeep(struct engine *engine) {
    if (wal_wants_file(&engine->wal)) {
        (void)wal_prepare(&engine->wal); /* a batch that needs the file finds out */
    }
}

static int checkpoint_step(struct engine *engine) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->checkpoint_running = true;
    mutex_unlock(&maintenance->mutex);
    int status = checkpoint_run(engine);
    mutex_lock(&maintenance->mutex);
    maintenance->checkpoint_running = false;
    maintenance->checkpoint_attempts++;
    maintenance->checkpoint_status = status;
    condition_broadcast(&maintenance->checkpoint_ended);
    mutex_unlock(&maintenance->mutex);
    return status;
}

/* One round of work. Returns DOCDB_OK, or what failed. *pause_ms: until the next round, 0 at once, negative: until
 * something wakes the thread. */
static int maintenance_step(struct engine *engine, bool checkpoint_wanted, bool drop_wanted, int64_t *pause_ms) {
    *pause_ms = -1;
    int status = wal_wants_file(&engine->wal) ? wal_prepare(&engine->wal) : DOCDB_OK;
    if (drop_wanted) {
        int dropped = checkpoint_forget_dropped(engine);
        status = status == DOCDB_OK ? dropped : status;
    }
    if (checkpoint_wanted || checkpoint_due(engine) || compaction_wants_checkpoint(engine)) {
        int checkpointed = checkpoint_step(engine);
        status = status == DOCDB_OK ? checkpointed : status;
    }
    if (status == DOCDB_OK) {
        status = compaction_step(engine, pause_ms);
    }
    return status;
}

static void *maintenance_main(void *arg) {
    struct engine *engine = arg;
    struct maintenance *maintenance = &engine->maintenance;
    int64_t pause_ms = -1;
    mutex_lock(&maintenance->mutex);
    while (!maintenance->stop) {
        if (!maintenance->wake_wanted && pause_ms != 0) {
            if (pause_ms < 0) {
                condition_wait(&maintenance->wake, &maintenance->mutex);
                continue;
            }
            (void)condition_wait_ms(&maintenance->wake, &maintenance->mutex, pause_ms);
        }
        bool checkpoint_wanted = maintenance->checkpoint_wanted;
        bool drop_wanted = maintenance->drop_wanted;
        maintenance->wake_wanted = false;
        maintenance->checkpoint_wanted = false;
        maintenance->drop_wanted = false;
        mutex_unlock(&maintenance->mutex);
        pause_ms = -1;
        int status = atomic_load(&engine->read_only)
                         ? DOCDB_OK
                         : maintenance_step(engine, checkpoint_wanted, drop_wanted, &pause_ms);
        mutex_lock(&maintenance->mutex);
        if (status != DOCDB_OK) {
            maintenance->drop_wanted = maintenance->drop_wanted || drop_wanted;
            pause_ms = RETRY_MS;
        }
    }
    mutex_unlock(&maintenance->mutex);
    compaction_stop(engine);
    return NULL;
}

int maintenance_start(struct engine *engine) {
    engine->maintenance.started = true;
    if (thread_start(&engine->maintenance.thread, "docdb-maintain", maintenance_main, engine) != 0) {
        engine->maintenance.started = false;
        return DOCDB_ERR_MEMORY;
    }
    return DOCDB_OK;
}

void maintenance_stop(struct engine *engine) {
    struct maintenance *maintenance = &engine->maintenance;
    mutex_lock(&maintenance->mutex);
    maintenance->stop = true;
    condition_broadcast(&maintenance->wake);
    condition_broadcast(&maintenance->checkpoint_ended);
    mutex_unlock(&maintenance->mutex);
    if (maintenance->started) {
        thread_join(maintenance->thread);
        maintenance->started = false;
    }
}
