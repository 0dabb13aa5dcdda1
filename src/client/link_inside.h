/* What the two halves of a link (link_send.c, link_receive.c) share. */
#ifndef DOCDB_CLIENT_LINK_INSIDE_H
#define DOCDB_CLIENT_LINK_INSIDE_H

#include "client/link.h"

/* Takes the call with this request id out of the table; NULL when there is none. */
struct call *link_call_find(struct link *link, uint32_t request_id);
/* Takes any call out of the table; NULL when it is empty. */
struct call *link_call_any(struct link *link);
/* From now on nothing is sent; the reader wakes and ends the calls. */
void link_break_locked(struct link *link) REQUIRES(link->mutex);
/* Sends what is queued. The reader returns while still being the sender when the socket takes no more. */
void link_send_queued(struct link *link, enum link_sender sender) REQUIRES(link->mutex);

#endif
