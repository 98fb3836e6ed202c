/*
 * A server's part of one worker: its connections, what they share, and its listener. Touched by its
 * worker only.
 */
#ifndef ZOKIO_HTTP_SHARD_H
#define ZOKIO_HTTP_SHARD_H

#include <zokio/server.h>
#include <zokio/tcp.h>

#include "core/worker.h"
#include "http/route_table.h"
#include "http/spare.h"

typedef struct zk__conn zk__conn;
typedef struct zk__session zk__session;

enum { ZK__COMMON_FIELDS_BYTES = 160, ZK__STATUS_OK_BYTES = 17, ZK__LENGTH_NAME_BYTES = 16 };
enum { ZK__SESSIONS_KEPT = 8 }; /* at least */
enum { ZK__STAGED_MAX = 32, ZK__STAGE_BYTES = 64 * 1024, ZK__STAGED_BYTES_MAX = 4096 };
enum { ZK__READY_MAX = 64, ZK__AHEAD_BYTES = 1500 };

/* Bytes of a connection that wait in the shard's stage. */
typedef struct zk__staged {
    zk__conn *conn;
    uint32_t offset, size;
} zk__staged;

/* A connection that has got something, and what, in the shard's inbox. */
typedef struct zk__arrival {
    zk__conn *conn; /* NULL: it has ended meanwhile */
    uint32_t offset;
    int32_t result; /* of the receiving call */
} zk__arrival;

typedef struct zk__shard {
    const zk_server *config; /* with all defaults filled in */
    zk_serving *serving;
    const zk__route_table *routes;
    zk_tls *tls;     /* NULL: connections are plain */
    /* whose connections begin with a header of the PROXY protocol */
    const struct zk__network *announcers;
    int announcer_count;
    zk_scope *scope; /* of the tasks of its connections */
    zk_listener *listener;
    zk__conn *conns;
    uint32_t conn_count, conn_max;
    zk__wait *acceptor; /* waits for a connection to end, being at conn_max */
    zk__wait *drainer;  /* waits for the last connection to end */
    bool is_draining, is_aborting;
    zk__session *free_sessions;
    zk__spare spare_sessions; /* how many */
    /* Responses that leave together at the end of the batch of tasks; see http/stage.c. */
    zk__hook stage_hook;
    uint32_t staged_count;
    uint32_t staged_bytes;
    zk__staged staged[ZK__STAGED_MAX];
    char *stage; /* ZK__STAGE_BYTES; NULL: nothing is staged */
    /* Connections that wait for their leader; see http/h1_batch.c. */
    bool has_leader;
    uint32_t ready_begin, ready_end;
    uint32_t inbox_used;
    char *inbox; /* ZK__READY_MAX * ZK__AHEAD_BYTES, from the first use on */
    zk__arrival ready[ZK__READY_MAX + 1]; /* one may look at the one behind the last */
    /* What connections of HTTP/2 share: a buffer for what comes and goes, streams for reuse. */
    char *h2_buffer;
    struct zk__h2_conn *h2_ready, **h2_ready_end; /* with something to read, in order */
    struct zk__h2_conn *h2_served;                /* whose requests the pump has started */
    bool is_pumping;
    struct zk__h2_stream *free_h2_streams;
    uint32_t free_h2_stream_count;
    /* "HTTP/1.1 200 OK\r\n", "Server: ...\r\nDate: ...\r\n", renewed each second, and
     * "Content-Length: ". */
    zk_time common_due; /* when it is to be looked at again */
    int64_t common_second;
    size_t common_size, date_at;
    char plain[ZK__STATUS_OK_BYTES + ZK__COMMON_FIELDS_BYTES + ZK__LENGTH_NAME_BYTES];
} zk__shard;

/* Fills the defaults into a configuration and checks it. returns 0; ZK_E_CONFIG with a trail. */
int zk__server_complete(zk_server *config);

/* Fills in what does not change, with config set. */
void zk__shard_init(zk__shard *shard);
/* Frees what the connections, which are all gone, have shared. */
void zk__shard_done(zk__shard *shard);

/* Puts bytes off to the end of the batch. returns false if they have to be sent at once. The
 * connection is about to park. */
bool zk__stage_put(zk__shard *shard, zk__conn *conn, const char *data, size_t size);
/* Sends all that is staged, without waiting; what a client does not take goes to conn->unsent and a
 * task of its own. */
void zk__stage_flush(zk__shard *shard);

/* The header fields that all responses of this moment share. */
static inline zk_str zk__shard_common(zk__shard *shard);
void zk__shard_common_renew(zk__shard *shard);

static inline zk_str zk__shard_common(zk__shard *shard)
{
    if (ZK_UNLIKELY(zk__worker_self()->now >= shard->common_due)) zk__shard_common_renew(shard);
    return (zk_str){shard->plain + ZK__STATUS_OK_BYTES, shard->common_size};
}

/* What a plain response begins with: its status line, these fields, and the name of the length. At
 * least 96 bytes of it may be read. */
static inline zk_str zk__shard_plain(zk__shard *shard)
{
    if (ZK_UNLIKELY(zk__worker_self()->now >= shard->common_due)) zk__shard_common_renew(shard);
    return (zk_str){shard->plain, ZK__STATUS_OK_BYTES + shard->common_size + ZK__LENGTH_NAME_BYTES};
}

/* The Date of this moment, 29 bytes. */
static inline zk_str zk__shard_date(zk__shard *shard)
{
    if (ZK_UNLIKELY(zk__worker_self()->now >= shard->common_due)) zk__shard_common_renew(shard);
    return (zk_str){shard->plain + shard->date_at, 29};
}

#endif
