/*
 * A client's connection that speaks HTTP/2: many exchanges (calls) at once.
 *
 * It needs no task: what arrives and what finds room is handled on the worker's loop, and tasks
 * that wait for their call are made ready from there.
 */
#ifndef ZOKIO_HTTP_H2_CLIENT_H
#define ZOKIO_HTTP_H2_CLIENT_H

#include <zokio/stream.h>

#include "http/h1_response.h"
#include "http/h2_received.h"

struct zk__origin;
struct zk__ask;

typedef struct zk__h2_link zk__h2_link;

/* One exchange. */
typedef struct zk__h2_call {
    struct zk__h2_call *next, **link; /* of its connection */
    zk__h2_link *conn;                /* NULL once it is over for the connection */
    int32_t id;
    int error;          /* it has been reset, or the connection is lost */
    const char *reset;  /* NULL, or the reason that the server has reset it for */
    bool was_not_begun; /* .. and the server has done nothing about it, as it says or must */
    bool is_sent;       /* the server may know of it */
    bool is_reused;     /* the connection has carried answers before */
    bool has_answer, is_in_ended;
    zk__h1_answer answer; /* with framing LENGTH, TO_END or NO_BODY */
    zk_field *fields, *trailers;
    size_t field_count, field_capacity, trailer_count, header_bytes;
    zk__received in; /* of the body */
    const char *out; /* of the request's body: what has not been taken */
    size_t out_size;
    bool is_out_last, has_body;
    const zk_field *out_trailers;
    size_t out_trailer_count;
    struct zk__wait *reader, *writer;
    struct zk__h2_call_pipe *tunnel; /* NULL, or what it has become */
    zk_arena arena;
} zk__h2_call;

#if ZK__H2

/* Takes over a connection: it becomes origin->h2. The stream is closed with it, or at once if it
 * fails. returns 0, -ENOMEM, errors of the stream. */
int zk__h2_link_new(struct zk__origin *origin, zk_stream *stream);
/* Ends it; calls that are open fail with `error`. */
void zk__h2_link_end(zk__h2_link *link, int error);
/* Ends the origin's connections as soon as they have no calls; there are no new ones on them. */
void zk__h2_links_leave(struct zk__origin *origin);
/* Whether the next call can go to origin->h2, perhaps after others; else another connection is to
 * be made. places_held: by the caller, among those that connections are made in. */
bool zk__h2_has_room(struct zk__origin *origin, uint32_t places_held);

/*
 * Sends a request; with is_streamed its body follows. Never suspends. returns 0, -ENOMEM,
 * ZK_E_CLOSED: the connection takes no more.
 */
int zk__h2_call_open(zk__h2_link *link, const struct zk__ask *ask, zk__h2_call **ret_call);
/* Writes some of the body, or with is_last the end of it; returns when it has been taken. Suspends
 * sometimes. returns 0; the call's error, ZK_E_HTTP_TIMEOUT, -ECANCELED, -ETIMEDOUT */
int zk__h2_call_write(zk__h2_call *call, const void *data, size_t size, bool is_last);
/* Waits for the head of the answer, while another task may be writing. As zk__h2_call_write. */
int zk__h2_call_head(zk__h2_call *call, int timeout_ms);
/* The same for who has written all: what there is of the body is the caller's again. */
int zk__h2_call_answer(zk__h2_call *call, int timeout_ms);
/* Some of the body; 0 at the end. As zk__h2_call_write. */
ssize_t zk__h2_call_read(zk__h2_call *call, void *buf, size_t size);
/* Ends it; NULL is allowed. */
void zk__h2_call_free(zk__h2_call *call);

/* Whether the server takes extended CONNECT (RFC 8441). returns 1, 0; -EAGAIN: it has not said. */
int zk__h2_link_connects(const zk__h2_link *link);
/* Waits until it has. The connection may be gone then. returns 0; the reason why it is lost,
 * -ECANCELED, -ETIMEDOUT */
int zk__h2_link_settings(zk__h2_link *link);
/* Makes an answered call with a `protocol` a byte stream, which owns it then. returns 0, -ENOMEM */
int zk__h2_call_tunnel(zk__h2_call *call, zk_stream **ret_stream);

#else

static inline int zk__h2_link_new(struct zk__origin *to, zk_stream *stream)
{
    (void)to;
    zk_stream_close(stream);
    return ZK_E_HTTP_VERSION;
}
static inline void zk__h2_link_end(zk__h2_link *link, int error) { (void)link, (void)error; }
static inline void zk__h2_links_leave(struct zk__origin *to) { (void)to; }
static inline bool zk__h2_has_room(struct zk__origin *to, uint32_t places_held)
{
    (void)to, (void)places_held;
    return false;
}
static inline int zk__h2_call_open(zk__h2_link *link, const struct zk__ask *ask,
                                   zk__h2_call **ret_call)
{
    (void)link, (void)ask, (void)ret_call;
    return ZK_E_HTTP_VERSION;
}
static inline int zk__h2_call_write(zk__h2_call *call, const void *data, size_t size, bool is_last)
{
    (void)call, (void)data, (void)size, (void)is_last;
    return ZK_E_HTTP_VERSION;
}
static inline int zk__h2_call_head(zk__h2_call *call, int timeout_ms)
{
    (void)call, (void)timeout_ms;
    return ZK_E_HTTP_VERSION;
}
static inline int zk__h2_call_answer(zk__h2_call *call, int timeout_ms)
{
    (void)call, (void)timeout_ms;
    return ZK_E_HTTP_VERSION;
}
static inline ssize_t zk__h2_call_read(zk__h2_call *call, void *buf, size_t size)
{
    (void)call, (void)buf, (void)size;
    return ZK_E_HTTP_VERSION;
}
static inline void zk__h2_call_free(zk__h2_call *call) { (void)call; }
static inline int zk__h2_link_connects(const zk__h2_link *link)
{
    (void)link;
    return 0;
}
static inline int zk__h2_link_settings(zk__h2_link *link)
{
    (void)link;
    return ZK_E_HTTP_VERSION;
}
static inline int zk__h2_call_tunnel(zk__h2_call *call, zk_stream **ret_stream)
{
    (void)call, (void)ret_stream;
    return ZK_E_HTTP_VERSION;
}

#endif

#endif
