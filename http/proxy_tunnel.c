/*
 * Upgrades through the proxy (WebSocket and others): once the upstream has agreed, bytes go both
 * ways as they come, until both sides have ended or nothing has come for too long.
 *
 * Over HTTP/1.1 it is an Upgrade, over HTTP/2 an extended CONNECT (RFC 8441), which has no
 * Sec-WebSocket-Key. So for a client of HTTP/2 the proxy brings one of its own to an upstream of
 * HTTP/1.1, and checks nothing of the answer's but keeps it to itself; the other way round it
 * answers the client's.
 */
#include <errno.h>
#include <string.h>

#include "http/proxy.h"
#include "http/upgrade.h"
#include "http/websocket_key.h"
#include "net/stream.h"

enum { PIECE_BYTES = 16 * 1024 };

typedef struct tunnel {
    zk__upgrade upgrade; /* the client's side */
    zk_time last;        /* when something last came, from either side */
    zk_time idle_max;
    bool is_broken; /* one side has gone without an end: so must the other */
} tunnel;

typedef struct way {
    tunnel *tunnel;
    zk_stream *from, *to;
} way;

/* The handler ends with the tunnel; nothing is kept. */
static enum zk__upgrade_end on_returned(zk__upgrade *upgrade, int rc)
{
    const tunnel *t = (const tunnel *)(void *)upgrade;
    return rc < 0 || t->is_broken ? ZK__UPGRADE_RESET : ZK__UPGRADE_CLOSE;
}

/* What is inside says itself when it ends; the server's drain_timeout_ms is the limit. */
static void on_drain(zk__upgrade *upgrade) { (void)upgrade; }
static void on_abort(zk__upgrade *upgrade) { (void)upgrade; }

static const struct zk__upgrade_ops tunnel_ops = {
    .returned = on_returned,
    .drain = on_drain,
    .abort = on_abort,
};

/* As zk_stream_read; ZK_E_HTTP_TIMEOUT when neither side has sent anything for too long. */
static ssize_t read_some(const way *w, void *buf, size_t size)
{
    for (;;) {
        zk_time left = w->tunnel->last + w->tunnel->idle_max - zk_now();
        if (left <= 0) return ZK_E_HTTP_TIMEOUT;
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, left);
        ssize_t n = zk_stream_read(w->from, buf, size);
        if (n == -ECANCELED && wait.parent->reason) return wait.parent->reason;
        if (n != -ETIMEDOUT || wait.parent->reason) return n;
    }
}

static int way_run(void *arg)
{
    way *w = arg;
    char piece[PIECE_BYTES];
    for (;;) {
        ssize_t n = read_some(w, piece, sizeof piece);
        if (n < 0) return (int)n;
        w->tunnel->last = zk_now();
        if (n == 0) return zk_stream_shutdown(w->to) < 0 ? ZK_E_CLOSED : 0;
        int rc = zk_stream_write(w->to, piece, (size_t)n);
        if (rc < 0) return rc;
    }
}

int zk__proxy_carry(const zk_proxy *p, zk_stream *upstream, zk_str early, zk_str protocol,
                    zk_response *res)
{
    tunnel *tun = zk_arena_alloc(&res->req->arena, sizeof *tun); /* outlives this call */
    if (!tun) return -ENOMEM;
    *tun = (tunnel){
        .upgrade.ops = &tunnel_ops,
        .last = zk_now(),
        .idle_max =
            p->options.tunnel_timeout_ms < 0 ? INT64_MAX / 2 : ZK_MS(p->options.tunnel_timeout_ms),
    };
    zk__upgrade_ahead ahead;
    int rc = zk__exchange_upgrade(res, protocol, &tun->upgrade, &ahead);
    if (rc < 0) return rc;
    /* The heads and what came with them go first. */
    zk_stream *client = tun->upgrade.stream;
    struct iovec iov[] = {
        {(void *)(uintptr_t)ahead.unsent.data, ahead.unsent.size},
        {(void *)(uintptr_t)early.data, early.size},
    };
    rc = zk_stream_writev(client, iov, 2);
    if (!rc) rc = zk_stream_write(upstream, ahead.received.data, ahead.received.size);
    if (rc < 0) return rc;
    ZK_SCOPE(scope) {
        way ways[2] = {{tun, client, upstream}, {tun, upstream, client}};
        for (int i = 0; i < 2 && !rc; i++) {
            zk_spawn_options options = {.arg_bytes = sizeof ways[i], .is_pinned = true};
            rc = zk_spawn_with(&scope, &options, way_run, &ways[i]);
        }
        if (!rc) rc = zk_scope_wait(&scope);
        zk_scope_cancel(&scope);
    }
    tun->is_broken = rc < 0;
    if (rc < 0) zk__stream_reset_on_close(upstream);
    /* That one of them has left is no failure of the proxy's. */
    return rc == ZK_E_CLOSED || rc == -ECONNRESET || rc == -EPIPE ? 0 : rc;
}

int zk__proxy_tunnel(const zk_proxy *p, zk__hop *hop, zk_response *res)
{
    zk__talk *t = hop->talk;
    const zk_field *protocol = zk__field_find(t->answer.fields, t->answer.field_count, "upgrade");
    zk_str early = {t->in + t->in_begin, t->in_end - t->in_begin};
    t->in_begin = t->in_end;
    hop->is_broken = true; /* it carries no request any more */
    int rc = zk__proxy_head_take(p, &t->answer, false, res);
    return rc < 0 ? rc : zk__proxy_carry(p, hop->stream, early, protocol->value, res);
}

/* The client of HTTP/1.1 wants to know that its key has been understood. */
static int key_answer(zk_response *res, zk_str protocol)
{
    if (res->req->version == 20 || !zk__name_equal(protocol, "websocket", 9)) return 0;
    char accept[ZK__WS_ACCEPT_BYTES];
    zk__ws_accept_key(zk_request_header(res->req, "Sec-WebSocket-Key").data, accept);
    return zk__response_header(res, "Sec-WebSocket-Accept", (zk_str){accept, sizeof accept});
}

int zk__proxy_tunnel_h2(const zk_proxy *p, zk__h2_call *call, zk_str protocol, zk_response *res)
{
    zk_stream *upstream = NULL;
    int rc = zk__proxy_head_take(p, &call->answer, true, res);
    if (!rc) rc = key_answer(res, protocol);
    if (!rc) rc = zk__h2_call_tunnel(call, &upstream);
    if (rc < 0) {
        zk__h2_call_free(call);
        return rc;
    }
    rc = zk__proxy_carry(p, upstream, (zk_str){"", 0}, protocol, res);
    zk_stream_close(upstream);
    return rc;
}
