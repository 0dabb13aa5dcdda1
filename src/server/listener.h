/* The server's socket in the file system: bound with the right mode from the start, never stealing a live server's.
 */
#ifndef DOCDB_SERVER_LISTENER_H
#define DOCDB_SERVER_LISTENER_H

#include <sys/types.h>

#include "docdb.h"

struct listener {
    int socket; /* listening */
    dev_t device;
    ino_t inode; /* of the socket's name, so that only our own is removed */
};

/* Errors as server_start. mode 0 means 0600. */
int listener_open(struct listener *listener, const char *path, unsigned mode, docdb_error *error);
/* Removes the name, if it is still ours. The socket itself belongs to whoever it was handed to. */
void listener_remove(const struct listener *listener, const char *path);

#endif
