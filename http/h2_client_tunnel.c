/*
 * Byte streams over calls of a client's HTTP/2 connection: see h2_client_tunnel.h. DATA frames
 * carry the bytes both ways; END_STREAM is the end of a direction.
 *
 *   open --close--> left: what was written is sent, until the server ends it, too --> freed
 *      \--reset_on_close, close--> RST_STREAM, freed
 *
 * What the connection tells it while nghttp2 is at work is passed on by a hook, at the end of the
 * batch of tasks.
 */
#include "http/h2_client_tunnel.h"

#include <errno.h>
#include <string.h>

#include "core/worker.h"
#include "http/place.h"
#include "http/send.h"
#include "net/stream.h"

enum { OUT_BYTES = 16 * 1024, LEFT_MS = 5000 };

struct zk__h2_call_pipe {
    zk_stream head;
    zk__h2_call *call;
    zk__room *room; /* awaited */
    zk__hook hook;
    zk__timer timer; /* how long the server has to end it */
    char *out;       /* what is to be sent; NULL: nothing */
    bool resets, is_left;
};

static zk__h2_call_pipe *of(const zk_stream *stream)
{
    return (zk__h2_call_pipe *)(uintptr_t)stream;
}

static bool is_gone(const zk__h2_call *c) { return !c->conn || c->error; }

/* ---- waiting ---- */

/* Waits for something to happen to the call. */
int zk__h2_call_wait(zk__wait **place, int timeout_ms)
{
    static const zk__wait_kind kind = {.name = "HTTP/2 exchange"};
    zk_scope limit __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&limit, zk__wait_span(timeout_ms));
    return (int)zk__wait_outcome(&limit, zk__place_wait(place, &kind));
}

/* ---- a stream's operations ---- */

static ssize_t read_now(zk__h2_call *c, void *buf, size_t size)
{
    bool is_empty = !zk__received_size(&c->in);
    if (is_empty) return c->is_in_ended ? 0 : is_gone(c) ? -ECONNRESET : -EAGAIN;
    size_t n = zk__received_take(&c->in, buf, size);
    if (c->conn) zk__h2_call_push(c, n);
    return (ssize_t)n;
}

static ssize_t tunnel_read(zk_stream *stream, void *buf, size_t size, bool try_only)
{
    zk__h2_call *c = of(stream)->call;
    for (;;) {
        ssize_t n = read_now(c, buf, size);
        if (n != -EAGAIN || try_only) return n;
        zk__received_free(&c->in);
        n = zk__h2_call_wait(&c->reader, -1);
        if (n < 0) return n;
    }
}

static ssize_t write_now(zk__h2_call_pipe *t, const struct iovec *iov, int iov_count)
{
    zk__h2_call *c = t->call;
    if (is_gone(c)) return -ECONNRESET;
    if (c->is_out_last) return -EPIPE;
    if (!t->out && !(t->out = zk_alloc(OUT_BYTES))) return -ENOMEM;
    size_t begin = c->out_size;
    if (begin == OUT_BYTES) return -EAGAIN;
    if (begin && c->out != t->out) memmove(t->out, c->out, begin);
    c->out = t->out;
    for (int i = 0; i < iov_count; i++) {
        size_t room = OUT_BYTES - c->out_size;
        size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        if (n) memcpy(t->out + c->out_size, iov[i].iov_base, n);
        c->out_size += n;
    }
    zk__h2_call_push(c, 0);
    return (ssize_t)(c->out_size - begin);
}

static ssize_t tunnel_writev(zk_stream *stream, const struct iovec *iov, int iov_count,
                             bool try_only)
{
    zk__h2_call_pipe *t = of(stream);
    for (;;) {
        ssize_t n = write_now(t, iov, iov_count);
        if (n != -EAGAIN || try_only) return n;
        n = zk__h2_call_wait(&t->call->writer, -1);
        if (n < 0) return n;
    }
}

static int tunnel_shutdown(zk_stream *stream)
{
    zk__h2_call *c = of(stream)->call;
    if (is_gone(c)) return -ECONNRESET;
    c->is_out_last = true;
    zk__h2_call_push(c, 0);
    return 0;
}

static void tunnel_reset_on_close(zk_stream *stream) { of(stream)->resets = true; }

static void on_left_long(zk__timer *timer)
{
    zk__h2_call_pipe *t =
        (zk__h2_call_pipe *)(void *)((char *)timer - offsetof(zk__h2_call_pipe, timer));
    zk__h2_call_free(t->call);
}

/* What was written still has to be sent. */
static void tunnel_close(zk_stream *stream)
{
    zk__h2_call_pipe *t = of(stream);
    stream->on_ready = NULL;
    stream->on_hangup = NULL;
    t->room = NULL;
    if (t->resets || tunnel_shutdown(stream) < 0) {
        zk__h2_call_free(t->call);
        return;
    }
    t->is_left = true;
    t->timer.fire = on_left_long;
    zk__wheel_add(&zk__worker_self()->wheel, &t->timer, zk_now() + ZK_MS(LEFT_MS));
    zk__h2_call_tunnel_news(t->call);
}

/* Who is quiet has no buffers. */
static void buffers_free(zk__h2_call_pipe *t)
{
    zk__received_free(&t->call->in);
    if (t->call->out_size) return;
    zk_free(t->out);
    t->out = NULL;
    t->call->out = NULL;
}

static int tunnel_park(zk_stream *stream)
{
    const zk__h2_call *c = of(stream)->call;
    if (zk__received_size(&c->in) || c->is_in_ended || is_gone(c)) return 1;
    buffers_free(of(stream));
    return 0;
}

static void tunnel_unpark(zk_stream *stream) { (void)stream; }

static int tunnel_await_room(zk_stream *stream, zk__room *room)
{
    const zk__h2_call *c = of(stream)->call;
    if (is_gone(c) || c->is_out_last || c->out_size < OUT_BYTES) return 1;
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
    if (stream->on_hangup && is_gone(of(stream)->call)) zk__h2_call_tunnel_news(of(stream)->call);
}

static int tunnel_address(const zk_stream *stream, bool is_peer, zk_addr *ret_addr)
{
    const zk_stream *carrier = zk__h2_call_carrier(of(stream)->call);
    return carrier ? carrier->ops->address(carrier, is_peer, ret_addr) : -ENOTCONN;
}

static const struct zk__stream_ops tunnel_ops = {
    .kind = "http2 client tunnel",
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

/* ---- what the connection tells ---- */

/* Nobody reads what still comes. */
static void left_drop(zk__h2_call *c)
{
    size_t n = zk__received_size(&c->in);
    zk__received_free(&c->in);
    if (n && c->conn) zk__h2_call_push(c, n);
}

/* Each of those that are told may close it. */
static void on_batch_end(zk__hook *hook)
{
    zk__h2_call_pipe *t =
        (zk__h2_call_pipe *)(void *)((char *)hook - offsetof(zk__h2_call_pipe, hook));
    zk__h2_call *c = t->call;
    if (t->is_left) {
        left_drop(c);
        return;
    }
    if (t->room && tunnel_await_room(&t->head, t->room) == 1) {
        zk__room *room = t->room;
        t->room = NULL;
        zk__h2_call_tunnel_news(c); /* the rest, unless it is closed by this */
        room->on_room(room);
        return;
    }
    if (t->head.on_ready) {
        if (zk__received_size(&c->in) || c->is_in_ended || is_gone(c)) zk__stream_ready(&t->head);
    } else if (t->head.on_hangup && is_gone(c)) {
        t->head.on_hangup(t->head.context, ZK_HANGUP_FULL);
    }
}

void zk__h2_call_tunnel_news(zk__h2_call *c) { zk__hook_arm(zk__worker_self(), &c->tunnel->hook); }

void zk__h2_call_tunnel_over(zk__h2_call *c)
{
    if (c->tunnel->is_left) zk__h2_call_free(c);
}

void zk__h2_call_tunnel_free(zk__h2_call *c)
{
    zk__h2_call_pipe *t = c->tunnel;
    c->tunnel = NULL;
    if (t->hook.is_armed) zk__hook_disarm(zk__worker_self(), &t->hook);
    zk__wheel_remove(&zk__worker_self()->wheel, &t->timer);
    zk_free(t->out);
    c->out = NULL;
    c->out_size = 0;
}

int zk__h2_call_tunnel(zk__h2_call *c, zk_stream **ret_stream)
{
    zk__h2_call_pipe *t = zk_arena_alloc(&c->arena, sizeof *t);
    if (!t) return -ENOMEM;
    *t = (zk__h2_call_pipe){
        .head = {.ops = &tunnel_ops, .worker = zk__worker_self()},
        .call = c,
        .hook.run = on_batch_end,
    };
    c->tunnel = t;
    *ret_stream = &t->head;
    return 0;
}
