/* See lane.h. */
#include "fuse/lane.h"

static void *lane_main(void *arg) {
    struct lane *lane = arg;
    mutex_lock(&lane->mutex);
    for (;;) {
        while (lane->head == NULL && !lane->closing) {
            condition_wait(&lane->posted, &lane->mutex);
        }
        struct task *task = lane->head;
        if (task == NULL) {
            break;
        }
        lane->head = task->next;
        if (lane->head == NULL) {
            lane->tail = NULL;
        }
        mutex_unlock(&lane->mutex);
        task->run(task);
        mutex_lock(&lane->mutex);
    }
    mutex_unlock(&lane->mutex);
    return NULL;
}

int lane_open(struct lane *lane, const char *thread_name) {
    mutex_init(&lane->mutex);
    condition_init(&lane->posted);
    mutex_lock(&lane->mutex);
    lane->head = NULL;
    lane->tail = NULL;
    lane->closing = false;
    mutex_unlock(&lane->mutex);
    int rc = thread_start(&lane->thread, thread_name, lane_main, lane);
    if (rc != 0) {
        condition_fini(&lane->posted);
        mutex_fini(&lane->mutex);
    }
    return rc;
}

void lane_close(struct lane *lane) {
    mutex_lock(&lane->mutex);
    lane->closing = true;
    condition_signal(&lane->posted);
    mutex_unlock(&lane->mutex);
    thread_join(lane->thread);
    condition_fini(&lane->posted);
    mutex_fini(&lane->mutex);
}

void lane_post(struct lane *lane, struct task *task) {
    task->next = NULL;
    mutex_lock(&lane->mutex);
    if (lane->tail == NULL) {
        lane->head = task;
    } else {
        lane->tail->next = task;
    }
    lane->tail = task;
    condition_signal(&lane->posted);
    mutex_unlock(&lane->mutex);
}
