/* Backups over a socket: one chunk a request, so that the server reads no faster than the caller takes. */
#include <stdlib.h>

#include "client/inside.h"

struct client_backup {
    docdb_backup base;
    struct client *client;
    uint32_t handle;   /* the server's number for it */
    struct call reply; /* its body holds the data of the last chunk */
    struct text path;
};

static struct client_backup *backup_of(docdb_backup *backup) { return (struct client_backup *)backup; }

int client_backup_open(docdb *runtime, docdb_backup **out) {
    struct client_backup *backup = calloc(1, sizeof *backup);
    if (backup == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    backup->base.backend = runtime->backend;
    backup->client = (struct client *)runtime;
    int status = client_call_empty(backup->client, OP_BACKUP_OPEN, 0, &backup->reply);
    if (status != DOCDB_OK) {
        call_fini(&backup->reply);
        free(backup);
        return status;
    }
    backup->handle = backup->reply.handle;
    *out = &backup->base;
    return DOCDB_OK;
}

int client_backup_next(docdb_backup *base, docdb_backup_chunk *out) {
    struct client_backup *backup = backup_of(base);
    docdb_backup_chunk chunk = {0};
    call_fini(&backup->reply);
    int status = client_call_empty(backup->client, OP_BACKUP_NEXT, backup->handle, &backup->reply);
    if (status == DOCDB_OK &&
        backup_chunk_decode(&chunk, &backup->path, backup->reply.body, backup->reply.body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    if (status == DOCDB_OK) {
        *out = chunk;
    }
    return status;
}

void client_backup_close(docdb_backup *base) {
    struct client_backup *backup = backup_of(base);
    client_tell(backup->client, OP_BACKUP_CLOSE, backup->handle);
    call_fini(&backup->reply);
    free(backup);
}
