/* Verifications over a socket: the server's, an event a request. */
#include <stdlib.h>

#include "client/inside.h"

struct client_verify {
    docdb_verify base;
    struct client *client;
    uint32_t handle; /* the server's number for it */
    struct verify_event_view event;
};

static struct client_verify *verify_of(docdb_verify *verify) { return (struct client_verify *)verify; }

int client_verify_open(docdb *runtime, docdb_verify **out) {
    struct call call;
    struct client_verify *verify = calloc(1, sizeof *verify);
    if (verify == NULL) {
        return DOCDB_ERR_MEMORY;
    }
    verify->base.backend = runtime->backend;
    verify->client = (struct client *)runtime;
    int status = client_call_empty(verify->client, OP_VERIFY_OPEN, 0, &call);
    verify->handle = call.handle;
    call_fini(&call);
    if (status != DOCDB_OK) {
        free(verify);
        return status;
    }
    *out = &verify->base;
    return DOCDB_OK;
}

int client_verify_next(docdb_verify *base, docdb_verify_event *out) {
    struct client_verify *verify = verify_of(base);
    struct call call;
    int status = client_call_empty(verify->client, OP_VERIFY_NEXT, verify->handle, &call);
    if (status == DOCDB_OK && verify_event_decode(&verify->event, call.body, call.body_bytes) != NULL) {
        status = DOCDB_ERR_PROTOCOL;
    }
    if (status == DOCDB_OK) {
        *out = verify->event.event;
    }
    call_fini(&call);
    return status;
}

void client_verify_close(docdb_verify *base) {
    struct client_verify *verify = verify_of(base);
    client_tell(verify->client, OP_VERIFY_CLOSE, verify->handle);
    free(verify);
}
