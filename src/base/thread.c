/* See thread.h. */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static void must(int rc) {
    if (rc != 0) {
        abort();
    }
}

void mutex_init(struct mutex *mutex) { must(pthread_mutex_init(&mutex->pthread, NULL)); }

void mutex_fini(struct mutex *mutex) { must(pthread_mutex_destroy(&mutex->pthread)); }

void mutex_lock(struct mutex *mutex) NO_THREAD_SAFETY_ANALYSIS { must(pthread_mutex_lock(&mutex->pthread)); }

void mutex_unlock(struct mutex *mutex) NO_THREAD_SAFETY_ANALYSIS { must(pthread_mutex_unlock(&mutex->pthread)); }

void rwlock_init(struct rwlock *lock) {
    pthread_rwlockattr_t attributes;
    must(pthread_rwlockattr_init(&attributes));
    /* glibc's default lets readers starve a writer for good; the commit thread must get its turn. */
    must(pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
    must(pthread_rwlock_init(&lock->pthread, &attributes));
    must(pthread_rwlockattr_destroy(&attributes));
}

void rwlock_fini(struct rwlock *lock) { must(pthread_rwlock_destroy(&lock->pthread)); }

void rwlock_lock_shared(struct rwlock *lock) NO_THREAD_SAFETY_ANALYSIS {
    must(pthread_rwlock_rdlock(&lock->pthread));
}

void rwlock_unlock_shared(struct rwlock *lock) NO_THREAD_SAFETY_ANALYSIS {
    must(pthread_rwlock_unlock(&lock->pthread));
}

void rwlock_lock(struct rwlock *lock) NO_THREAD_SAFETY_ANALYSIS { must(pthread_rwlock_wrlock(&lock->pthread)); }

void rwlock_unlock(struct rwlock *lock) NO_THREAD_SAFETY_ANALYSIS { must(pthread_rwlock_unlock(&lock->pthread)); }

void condition_init(struct condition *condition) {
    pthread_condattr_t attributes;
    must(pthread_condattr_init(&attributes));
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    must(pthread_cond_init(&condition->pthread, &attributes));
    must(pthread_condattr_destroy(&attributes));
}

void condition_fini(struct condition *condition) { must(pthread_cond_destroy(&condition->pthread)); }

void condition_wait(struct condition *condition, struct mutex *mutex) {
    must(pthread_cond_wait(&condition->pthread, &mutex->pthread));
}

bool condition_wait_ms(struct condition *condition, struct mutex *mutex, int64_t timeout_ms) {
    struct timespec until;
    must(clock_gettime(CLOCK_MONOTONIC, &until));
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int rc = pthread_cond_timedwait(&condition->pthread, &mutex->pthread, &until);
    if (rc != ETIMEDOUT) {
        must(rc);
    }
    return rc == 0;
}

void condition_signal(struct condition *condition) { must(pthread_cond_signal(&condition->pthread)); }

void condition_broadcast(struct condition *condition) { must(pthread_cond_broadcast(&condition->pthread)); }

int thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *arg) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    int rc = pthread_create(thread, NULL, main, arg);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (rc == 0) {
        (void)pthread_setname_np(*thread, name);
    }
    return -rc;
}

void thread_join(pthread_t thread) { must(pthread_join(thread, NULL)); }
