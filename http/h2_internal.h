/*
 * A connection of HTTP/2, as its two halves know it: h2_conn.c moves the bytes, h2_transport.c runs
 * the handlers of its streams.
 */
#ifndef ZOKIO_HTTP_H2_INTERNAL_H
#define ZOKIO_HTTP_H2_INTERNAL_H

#include "core/task.h"
#include "http/h2.h"
#include "http/h2_conn.h"

typedef struct zk__h2_conn zk__h2_conn;
struct zk__h2_conn {
    zk__h2 h2;
    zk__conn *conn;
    zk__hook flush_hook;
    zk_scope scope;      /* of the task that writes */
    uint32_t holds;      /* tasks of streams, the one that writes, and who is at work on it */
    zk_time half_closed; /* when the client has ended its side; 0: it has not */
    bool is_dead;
    bool is_writing;                       /* a task does */
    bool has_ended;                        /* the client sends no more */
    bool is_refused;                       /* it does, but nobody listens any more */
    bool is_draining;                      /* GOAWAY has been announced */
    bool is_final;                         /* and has said which streams are the last */
    bool is_served;                        /* the pump sends when the handlers have run */
    zk_time active;                        /* when the last stream has ended */
    zk__h2_conn *ready_next, **ready_link; /* in the shard's list; ready_link: NULL outside */
    size_t unsent_size;
    char *unsent;
};

static inline zk__h2_conn *zk__h2_conn_of(zk__h2 *h2) { return (zk__h2_conn *)(void *)h2; }

static inline const zk_server *zk__h2_conn_config(const zk__h2_conn *c)
{
    return c->conn->shard->config;
}

/* At the end of this batch of tasks what the engine has is sent. */
static inline void zk__h2_conn_touch(zk__h2_conn *c)
{
    if (!c->is_dead && !c->is_served) zk__hook_arm(zk__worker_self(), &c->flush_hook);
}

/* A hold on the connection has gone; without any a dead one is freed. */
void zk__h2_conn_release(zk__h2_conn *c);

/* What happens to the streams of a connection: tasks for their handlers. */
extern const struct zk__h2_events zk__h2_stream_events;

#endif
