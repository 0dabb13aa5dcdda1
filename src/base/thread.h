/*
 * Mutexes, reader-writer locks and condition variables that clang's thread-safety analysis understands: `make lint`
 * fails when a lock is not given back, taken twice, or missing where a function REQUIRES it. Thin wrappers of
 * pthreads, which has no such marks. A pthread call here can fail only by misuse, so a failure aborts.
 */
#ifndef DOCDB_BASE_THREAD_H
#define DOCDB_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define THREAD_ATTRIBUTE(x)
#endif
#define CAPABILITY(name) THREAD_ATTRIBUTE(capability(name))
/* Says which lock beside it guards a field. For the reader: in C, clang before version 20 can't look up a member
 * named in a field's attribute, so what is checked is the functions (REQUIRES, ACQUIRE, RELEASE). */
#define GUARDED_BY(lock)
#define REQUIRES(...)             THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...)      THREAD_ATTRIBUTE(requires_shared_capability(__VA_ARGS__))
#define ACQUIRE(...)              THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...)       THREAD_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...)              THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...)       THREAD_ATTRIBUTE(release_shared_capability(__VA_ARGS__))
#define EXCLUDES(...)             THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS THREAD_ATTRIBUTE(no_thread_safety_analysis)

struct CAPABILITY("mutex") mutex {
    pthread_mutex_t pthread;
};

void mutex_init(struct mutex *mutex);
void mutex_fini(struct mutex *mutex);
void mutex_lock(struct mutex *mutex) ACQUIRE(*mutex);
void mutex_unlock(struct mutex *mutex) RELEASE(*mutex);

/* Many readers or one writer. */
struct CAPABILITY("rwlock") rwlock {
    pthread_rwlock_t pthread;
};

void rwlock_init(struct rwlock *lock);
void rwlock_fini(struct rwlock *lock);
void rwlock_lock_shared(struct rwlock *lock) ACQUIRE_SHARED(*lock);
void rwlock_unlock_shared(struct rwlock *lock) RELEASE_SHARED(*lock);
void rwlock_lock(struct rwlock *lock) ACQUIRE(*lock);
void rwlock_unlock(struct rwlock *lock) RELEASE(*lock);

struct condition {
    pthread_cond_t pthread;
};

void condition_init(struct condition *condition);
void condition_fini(struct condition *condition);
void condition_wait(struct condition *condition, struct mutex *mutex) REQUIRES(*mutex);
/* False when timeout_ms passed (on the monotonic clock) before a wake-up. */
bool condition_wait_ms(struct condition *condition, struct mutex *mutex, int64_t timeout_ms) REQUIRES(*mutex);
void condition_signal(struct condition *condition);
void condition_broadcast(struct condition *condition);

/* Starts a thread with all signals blocked (signals are the main thread's business) and a name of at most 15 bytes
 * for debuggers and `top -H`. Returns 0 or a negative errno value. Join it with thread_join. */
int thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *arg);
void thread_join(pthread_t thread);

#endif
