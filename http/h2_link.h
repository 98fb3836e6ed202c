/*
 * A client's connection of HTTP/2 as its two halves know it: h2_client.c moves the bytes and hears
 * what the server says, h2_call.c is what the tasks that wait for an answer do.
 */
#ifndef ZOKIO_HTTP_H2_LINK_H
#define ZOKIO_HTTP_H2_LINK_H

#include <nghttp2/nghttp2.h>

#include "http/client.h"
#include "http/h2_client_tunnel.h"
#include "http/place.h"
#include "net/stream.h"

enum { ZK__H2_LINK_OUT_BYTES = 64 * 1024 };

struct zk__h2_link {
    zk__h2_link *next, **link; /* of its origin */
    zk__origin *origin;
    zk_stream *stream;
    nghttp2_session *session;
    zk__h2_call *calls;
    uint32_t call_count;
    zk__timer timer; /* ends it when it has been idle for long */
    zk__room room;
    zk__hook hook; /* sends at the end of the batch of tasks what they have given */
    struct settings_wait *settings_waits;
    bool is_full;    /* waits for room */
    bool is_leaving; /* takes no more calls */
    bool has_received, has_settings;
    int *ret_error;  /* NULL, or where to leave why it has ended */
    bool has_served; /* an answer has come on it */
    size_t out_begin, out_end;
    char out[ZK__H2_LINK_OUT_BYTES];
};

static inline const zk__hop_limits *zk__h2_limits(const zk__h2_link *l)
{
    return &l->origin->pool->limits;
}

/* Something has come for who reads. */
static inline void zk__h2_wake_reader(zk__h2_call *c)
{
    zk__place_wake(&c->reader);
    if (c->tunnel) zk__h2_call_tunnel_news(c);
}

static inline void zk__h2_wake_writer(zk__h2_call *c)
{
    zk__place_wake(&c->writer);
    if (c->tunnel) zk__h2_call_tunnel_news(c);
}

/* Sends what there is; a connection that is lost by that is ended. returns false then. */
bool zk__h2_link_push(zk__h2_link *link);
/* It takes no more calls; those that it has not been told of yet will not be. */
void zk__h2_link_leave(zk__h2_link *link);
void zk__h2_call_detach(zk__h2_call *call);

#endif
