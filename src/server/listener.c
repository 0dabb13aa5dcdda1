/*
 * See listener.h.
 *
 * Happy path: look at what is at the path (nothing, or a socket that nobody answers: a crashed server's, which is
 * removed), bind, listen. Two servers that start at once could both find the same stale socket, and the slower one
 * remove the faster one's new socket; so all of it happens under a lock on the directory (flock, gone with the
 * process). Anything that is not a stale socket stays untouched.
 */
#include "server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "server/bounds.h"

#define MODE_DEFAULT 0600u

/* For an errno value of a call on the path. */
static int path_error(docdb_error *error, const char *path, const char *doing, int errnum) {
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return error_set(error, DOCDB_ERR_NO_DIRECTORY,
                         "cannot %s %s: its directory does not exist; create it first", doing, path);
    case EACCES:
    case EPERM:
    case EROFS:
        return error_set(error, DOCDB_ERR_PERMISSION, "cannot %s %s: %s; choose a directory that you may write to",
                         doing, path, strerrordesc_np(errnum));
    case ENOMEM:
        return error_set(error, DOCDB_ERR_MEMORY, "cannot %s %s: out of memory", doing, path);
    default:
        return error_set(error, DOCDB_ERR_IO, "cannot %s %s: %s", doing, path, strerrordesc_np(errnum));
    }
}

/* Locks the directory of `path`; *out gets a file number that holds the lock until it is closed. */
static int directory_lock(const struct sockaddr_un *address, int *out, docdb_error *error) {
    char directory[sizeof address->sun_path] = ".";
    const char *path = address->sun_path;
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        size_t bytes = slash == path ? 1 : (size_t)(slash - path);
        memcpy(directory, path, bytes);
        directory[bytes] = '\0';
    }
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return path_error(error, path, "create the socket", errno);
    }
    int tries = SERVER_LOCK_TRIES;
    while (flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            int status = path_error(error, path, "lock the directory of the socket", errno);
            (void)close(file);
            return status;
        }
        if (--tries == 0) {
            (void)close(file);
            return error_set(
                error, DOCDB_ERR_LOCKED,
                "cannot create the socket %s: another process holds a lock on its directory; try again or "
                "choose another directory",
                path);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    *out = file;
    return DOCDB_OK;
}

static int live_error(int socket, const char *path, docdb_error *error) {
    struct ucred peer = {0};
    socklen_t bytes = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.pid > 0) {
        return error_set(error, DOCDB_ERR_LOCKED,
                         "a server (pid %ld) already answers on %s; stop it or choose another --socket",
                         (long)peer.pid, path);
    }
    return error_set(error, DOCDB_ERR_LOCKED, "a server already answers on %s; stop it or choose another --socket",
                     path);
}

/* DOCDB_OK when nobody answers at the address, which is a socket. */
static int check_stale(const struct sockaddr_un *address, docdb_error *error) {
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return path_error(error, address->sun_path, "look for a server at", errno);
    }
    int status = DOCDB_OK;
    if (connect(probe, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN) {
        status = live_error(probe, address->sun_path, error); /* EAGAIN: its backlog is full */
    } else if (errno != ECONNREFUSED && errno != ENOENT) {
        status = path_error(error, address->sun_path, "look for a server at", errno);
    }
    (void)close(probe);
    return status;
}

/* Makes the path free, or says why it is not. */
static int path_clear(const struct sockaddr_un *address, docdb_error *error) {
    const char *path = address->sun_path;
    struct stat found;
    if (lstat(path, &found) != 0) {
        return errno == ENOENT ? DOCDB_OK : path_error(error, path, "create the socket", errno);
    }
    if (!S_ISSOCK(found.st_mode)) {
        return error_set(error, DOCDB_ERR_EXISTS,
                         "%s exists and is not a socket; it was left as it is: choose another path", path);
    }
    int status = check_stale(address, error);
    if (status == DOCDB_OK && unlink(path) != 0 && errno != ENOENT) {
        status = path_error(error, path, "remove the stale socket", errno);
    }
    return status;
}

static int bind_and_listen(struct listener *listener, const struct sockaddr_un *address, unsigned mode,
                           docdb_error *error) {
    const char *path = address->sun_path;
    struct stat bound;
    /* Linux gives the name the mode of the socket, less the umask: so it is never more open than asked for, not
     * even for a moment; the chmod afterwards gives back what the umask took. */
    if (fchmod(listener->socket, mode) != 0 ||
        bind(listener->socket, (const struct sockaddr *)address, sizeof *address) != 0) {
        return path_error(error, path, "create the socket", errno);
    }
    if (lstat(path, &bound) != 0 || chmod(path, mode) != 0 || listen(listener->socket, SERVER_BACKLOG) != 0) {
        int status = path_error(error, path, "create the socket", errno);
        (void)unlink(path);
        return status;
    }
    listener->device = bound.st_dev;
    listener->inode = bound.st_ino;
    return DOCDB_OK;
}

int listener_open(struct listener *listener, const char *path, unsigned mode, docdb_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = path == NULL ? 0 : strlen(path);
    if (bytes == 0) {
        return error_set(error, DOCDB_ERR_INVALID, "no path for the socket");
    }
    if (bytes >= sizeof address.sun_path) {
        return error_set(error, DOCDB_ERR_INVALID,
                         "the socket path is too long: %zu bytes, and a socket's path has room for %zu: %s", bytes,
                         sizeof address.sun_path - 1, path);
    }
    memcpy(address.sun_path, path, bytes);
    int directory = -1;
    int status = directory_lock(&address, &directory, error);
    if (status != DOCDB_OK) {
        return status;
    }
    status = path_clear(&address, error);
    if (status == DOCDB_OK) {
        listener->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        status = listener->socket < 0 ? path_error(error, path, "create the socket", errno)
                                      : bind_and_listen(listener, &address, mode == 0 ? MODE_DEFAULT : mode, error);
        if (status != DOCDB_OK && listener->socket >= 0) {
            (void)close(listener->socket);
        }
    }
    (void)close(directory);
    return status;
}

void listener_remove(const struct listener *listener, const char *path) {
    struct stat found;
    if (lstat(path, &found) == 0 && found.st_dev == listener->device && found.st_ino == listener->inode) {
        (void)unlink(path);
    }
}
