/*
 * A server's part of one worker: its connections, what they share, and its listener. Touched by its worker only.
 */
#ifndef ZOKIO_HTTP_SHARD_H
#define ZOKIO_HTTP_SHARD_H

#include <zokio/server.h>
#include <zokio/tcp.h>

#include "core/worker.h"
#include "http/route_table.h"

typedef struct zk__conn zk__conn;
typedef struct zk__session zk__session;

enum { ZK__COMMON_FIELDS_BYTES = 160 };

typedef struct zk__shard {
    const zk_server *config;        /* with all defaults filled in */
    zk_serving *serving;
    const zk__route_table *routes;
    zk_scope *scope;                /* of the tasks of its connections */
    zk_listener *listener;
    zk__conn *conns;
    uint32_t conn_count, conn_max;
    zk__wait *acceptor;             /* waits for a connection to end, being at conn_max */
    zk__wait *drainer;              /* waits for the last connection to end */
    bool is_draining, is_aborting;
    zk__session *free_sessions;
    uint32_t free_session_count;
    /* "Server: ...\r\nDate: ...\r\n", renewed each second. */
    zk_time common_checked;
    int64_t common_second;
    size_t common_size, date_at;
    char common[ZK__COMMON_FIELDS_BYTES];
} zk__shard;

/* Fills the defaults into a configuration and checks it. returns 0; ZK_E_CONFIG with a trail. */
int zk__server_complete(zk_server *config);

/* Fills in what does not change. */
void zk__shard_init(zk__shard *shard);

/* The header fields that all responses of this moment share. */
static inline zk_str zk__shard_common(zk__shard *shard);
void zk__shard_common_renew(zk__shard *shard);

static inline zk_str zk__shard_common(zk__shard *shard)
{
    if (ZK_UNLIKELY(shard->common_checked != zk_now())) zk__shard_common_renew(shard);
    return (zk_str){shard->common, shard->common_size};
}

#endif
