/* A small process that ends the mount's connection when the server is killed. See guard.c. */
#ifndef DOCDB_FUSE_GUARD_H
#define DOCDB_FUSE_GUARD_H

#include <sys/types.h>

/* Starts the guard of a mount that is there. Call it on the thread whose end means the server's: the main thread.
 * Returns its process id, or a negative errno value: then there is no guard. */
pid_t guard_start(const char *mount_point, unsigned device_major, unsigned device_minor);
/* Ends it. guard may be negative. */
void guard_stop(pid_t guard);

#endif
