/*
 * Byte streams over streams of HTTP/2: see h2_tunnel.h.
 *
 * The tunnel lies in the request's arena. It keeps nothing of its own: what has come and what waits
 * to be sent are in the stream of HTTP/2, with its flow control.
 */
#include "http/h2_tunnel.h"

#include <errno.h>
#include <string.h>

#include "core/worker.h"
#include "http/h2_internal.h"
#include "http/place.h"
#include "net/stream.h"

struct zk__h2_tunnel {
    zk_stream head;
    zk__h2_stream *stream;
    zk__upgrade *upgrade;
    zk__room *room; /* awaited */
};

static struct zk__h2_tunnel *of(const zk_stream *stream)
{
    return (struct zk__h2_tunnel *)(uintptr_t)stream;
}

static bool is_gone(const zk__h2_stream *s) { return !s->h2 || s->is_reset; }

/* ---- a stream's operations ---- */

static int wait_at(zk__wait **place)
{
    static const zk__wait_kind kind = {.name = "tunnel through HTTP/2"};
    return zk__place_wait(place, &kind);
}

static ssize_t read_now(zk__h2_stream *s, void *buf, size_t size)
{
    bool is_empty = !zk__received_size(&s->in);
    if (is_empty) return s->is_in_ended ? 0 : is_gone(s) ? -ECONNRESET : -EAGAIN;
    size_t n = zk__received_take(&s->in, buf, size);
    zk__h2_consumed(s, n);
    zk__h2_conn_touch(s->conn);
    return (ssize_t)n;
}

static ssize_t tunnel_read(zk_stream *stream, void *buf, size_t size, bool try_only)
{
    zk__h2_stream *s = of(stream)->stream;
    for (;;) {
        ssize_t n = read_now(s, buf, size);
        if (n != -EAGAIN || try_only) return n;
        zk__received_free(&s->in);
        n = wait_at(&s->reader);
        if (n < 0) return n;
    }
}

static ssize_t write_now(zk__h2_stream *s, const struct iovec *iov, int iov_count)
{
    if (is_gone(s)) return -ECONNRESET;
    if (s->out.is_last) return -EPIPE;
    if (!s->out.buffer && !(s->out.buffer = zk_alloc(ZK__H2_OUT_BYTES_MAX))) return -ENOMEM;
    size_t begin = s->out.size;
    if (begin == ZK__H2_OUT_BYTES_MAX) return -EAGAIN;
    if (!begin) s->out_since = zk_now(); /* the client's time begins now */
    if (begin && s->out.data != s->out.buffer) memmove(s->out.buffer, s->out.data, begin);
    s->out.data = s->out.buffer;
    for (int i = 0; i < iov_count; i++) {
        size_t room = ZK__H2_OUT_BYTES_MAX - s->out.size;
        size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        if (n) memcpy(s->out.buffer + s->out.size, iov[i].iov_base, n);
        s->out.size += n;
    }
    zk__h2_resume(s);
    zk__h2_conn_touch(s->conn);
    return (ssize_t)(s->out.size - begin);
}

static ssize_t tunnel_writev(zk_stream *stream, const struct iovec *iov, int iov_count,
                             bool try_only)
{
    zk__h2_stream *s = of(stream)->stream;
    for (;;) {
        ssize_t n = write_now(s, iov, iov_count);
        if (n != -EAGAIN || try_only) return n;
        n = wait_at(&s->writer);
        if (n < 0) return n;
    }
}

static int tunnel_shutdown(zk_stream *stream)
{
    zk__h2_stream *s = of(stream)->stream;
    if (is_gone(s)) return -ECONNRESET;
    s->out.is_last = true;
    zk__h2_resume(s);
    zk__h2_conn_touch(s->conn);
    return 0;
}

static void tunnel_reset_on_close(zk_stream *stream)
{
    zk__h2_stream *s = of(stream)->stream;
    zk__h2_reset(s, ZK__H2_FAILED);
    zk__h2_conn_touch(s->conn);
}

/* The stream of HTTP/2 ends with its handler. */
static void tunnel_close(zk_stream *stream) { (void)tunnel_shutdown(stream); }

/* Who is quiet has no buffers. */
static void buffers_free(zk__h2_stream *s)
{
    zk__received_free(&s->in);
    if (s->out.size) return;
    zk_free(s->out.buffer);
    s->out.buffer = NULL;
    s->out.data = NULL;
}

static int tunnel_park(zk_stream *stream)
{
    zk__h2_stream *s = of(stream)->stream;
    if (zk__received_size(&s->in) || s->is_in_ended || is_gone(s)) return 1;
    buffers_free(s);
    return 0;
}

static void tunnel_unpark(zk_stream *stream) { (void)stream; }

static int tunnel_await_room(zk_stream *stream, zk__room *room)
{
    const zk__h2_stream *s = of(stream)->stream;
    if (is_gone(s) || s->out.is_last || s->out.size < ZK__H2_OUT_BYTES_MAX) return 1;
    of(stream)->room = room;
    return 0;
}

static void tunnel_forget_room(zk_stream *stream, zk__room *room)
{
    (void)room;
    of(stream)->room = NULL;
}

static void tunnel_watch(zk_stream *stream)
{
    if (is_gone(of(stream)->stream)) stream->on_hangup(stream->context, ZK_HANGUP_FULL);
}

static int tunnel_address(const zk_stream *stream, bool is_peer, zk_addr *ret_addr)
{
    const zk_stream *carrier = of(stream)->stream->req.stream;
    return carrier->ops->address(carrier, is_peer, ret_addr);
}

static const struct zk__stream_ops tunnel_ops = {
    .kind = "http2 tunnel",
    .read = tunnel_read,
    .writev = tunnel_writev,
    .shutdown = tunnel_shutdown,
    .reset_on_close = tunnel_reset_on_close,
    .close = tunnel_close,
    .park = tunnel_park,
    .unpark = tunnel_unpark,
    .await_room = tunnel_await_room,
    .forget_room = tunnel_forget_room,
    .watch = tunnel_watch,
    .address = tunnel_address,
};

/* ---- what the engine tells ---- */

void zk__h2_tunnel_body(zk__h2_stream *s) { zk__stream_ready(&s->tunnel->head); }

void zk__h2_tunnel_room(zk__h2_stream *s)
{
    zk__room *room = s->tunnel->room;
    s->tunnel->room = NULL;
    if (room) room->on_room(room);
}

void zk__h2_tunnel_closed(zk__h2_stream *s)
{
    struct zk__h2_tunnel *t = s->tunnel;
    zk__h2_tunnel_room(s);
    if (t->head.on_ready) {
        zk__stream_ready(&t->head);
    } else if (t->head.on_hangup) {
        t->head.on_hangup(t->head.context, ZK_HANGUP_FULL);
    }
}

void zk__h2_tunnel_end(zk__h2_stream *s)
{
    if (s->req.upgrade_end == ZK__UPGRADE_RESET) {
        zk__h2_reset(s, ZK__H2_FAILED);
    } else {
        (void)tunnel_shutdown(&s->tunnel->head);
    }
    s->tunnel = NULL;
}

void zk__h2_tunnel_abort(zk__h2_stream *s) { s->tunnel->upgrade->ops->abort(s->tunnel->upgrade); }

zk_scope *zk__h2_upgrade_scope(const zk__upgrade *upgrade)
{
    return of(upgrade->stream)->stream->conn->conn->shard->scope;
}

void zk__h2_upgrade_end(zk__upgrade *upgrade, enum zk__upgrade_end how)
{
    zk__h2_stream *s = of(upgrade->stream)->stream;
    s->req.upgrade_end = how;
    zk__h2_stream_finish(s);
}

void zk__h2_tunnels_drain(zk__h2 *h2)
{
    for (zk__h2_stream *s = h2->streams; s; s = s->next) {
        if (s->tunnel && s->has_task) s->tunnel->upgrade->ops->drain(s->tunnel->upgrade);
    }
}

/* ---- the transport ---- */

zk_str zk__h2_protocol(const zk_request *req)
{
    zk__h2_stream *s = zk__h2_stream_of((zk_request *)(uintptr_t)req);
    return s->protocol.size ? s->protocol : ZK_STR("");
}

int zk__h2_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade,
                   zk__upgrade_ahead *ret_ahead)
{
    (void)protocol; /* the client has named it, and only one */
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    struct zk__h2_tunnel *t = zk_arena_alloc(&s->req.arena, sizeof *t);
    if (!t) return -ENOMEM;
    *t = (struct zk__h2_tunnel){
        .head = {.ops = &tunnel_ops, .worker = zk__worker_self()},
        .stream = s,
        .upgrade = upgrade,
    };
    res->status = 200;
    int rc = zk__h2_respond(s, NULL, true);
    if (rc < 0) return rc;
    s->tunnel = t;
    s->res.is_bodiless = false;
    upgrade->conn = NULL;
    upgrade->stream = &t->head;
    *ret_ahead = (zk__upgrade_ahead){0}; /* the connection sends the head, at the batch's end */
    zk__h2_conn_touch(s->conn);
    return 0;
}
