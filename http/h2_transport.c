/*
 * The streams of a connection of HTTP/2: a task for each request, and how its handler reads the
 * body and sends the response.
 *
 *   a head is whole --> a task --handler returns--> the stream is nghttp2's until all is sent
 *                         \--the stream is reset--> its scope is cancelled, calls fail
 *
 * The handler waits in two places, for bytes of the body and for room in what is gathered of the
 * response; the engine's events wake it. A stream outlives its connection for as long as it has a
 * task: without `h2` there is nothing more to be had or to be sent.
 */
#include "http/h2_internal.h"
#include "http/h2_tunnel.h"

#include <errno.h>
#include <string.h>

#include "core/arena.h"
#include "http/place.h"

enum { HANDLERS_EXCESS = 2, IN_BYTES_KEPT = 16 * 1024 };

/* ---- a stream's task ---- */

/* Extended CONNECT has a path, an ordinary one an authority only (RFC 8441 section 4). */
static int target_fill(zk_request *req, const zk__h2_stream *s)
{
    bool is_connect = req->method.size == 7 && !memcmp(req->method.data, "CONNECT", 7);
    zk_str method = is_connect && s->protocol.size ? ZK_STR("GET") : req->method;
    if (is_connect && !s->protocol.size) req->raw_target = req->host;
    req->method = method; /* routes are the same as those of an Upgrade */
    return zk__target_parse(method, req->raw_target, &req->arena, &req->target);
}

static int stream_serve(zk__h2_stream *s)
{
    zk_request *req = &s->req;
    const char *why = "the header section is too large";
    int rc = s->refused;
    if (ZK_LIKELY(!rc)) {
        why = "the request target is not valid";
        rc = target_fill(req, s);
    }
    if (ZK_LIKELY(!rc)) return zk__exchange_run(req, &s->res);
    req->target = (zk__target){ZK_STR(""), ZK_STR(""), ZK_STR("")};
    rc = zk__exchange_refuse(req, &s->res, rc, why);
    s->res.is_closing = false; /* the others have done nothing wrong */
    return rc;
}

/* Nobody serves it any more. */
void zk__h2_stream_finish(zk__h2_stream *s)
{
    zk__h2_conn *c = s->conn;
    s->is_kept = false;
    if (ZK_UNLIKELY(s->tunnel != NULL)) zk__h2_tunnel_end(s);
    s->has_task = false;
    if (s->h2) {
        size_t unread = zk__received_size(&s->in);
        if (unread) zk__h2_consumed(s, unread);
        s->in.begin = s->in.end = 0;
        if (ZK_UNLIKELY(s->has_ended && !s->is_in_ended)) zk__h2_reset(s, ZK__H2_DONE);
        if (ZK_UNLIKELY(s->res.is_closing)) zk__h2_conn_drain(c->conn);
        zk__h2_conn_touch(c);
    } else {
        zk__h2_stream_free(s);
    }
    zk__h2_conn_release(c);
}

static int stream_run(void *arg)
{
    zk__h2_stream *s = arg;
    zk_task *me = zk__lane.current;
    if (ZK_LIKELY(s->h2 && !s->is_reset)) {
        me->scope = &s->scope;
        s->scope.owner = me;
        if (stream_serve(s) < 0) zk__h2_reset(s, ZK__H2_FAILED);
        me->scope = s->scope.parent;
    }
    s->is_kept = s->tunnel && s->req.upgrade_end == ZK__UPGRADE_KEEP;
    if (ZK_LIKELY(!s->is_kept)) {
        zk__h2_stream_finish(s);
    } else if (!s->h2 && s->conn->conn->shard->is_aborting) {
        zk__h2_tunnel_abort(s); /* the end came while the handler was there */
    }
    return 0;
}

static void on_request(zk__h2_stream *s)
{
    static const zk_site site = {"http2 stream", __FILE__, __LINE__};
    zk__h2_conn *c = zk__h2_conn_of(s->h2);
    s->conn = c;
    s->req.transport = &zk__h2_transport;
    /* Handlers of streams that the client has reset may take a while to end. */
    if (c->holds / HANDLERS_EXCESS >= zk__h2_conn_config(c)->h2_streams_max) {
        zk__h2_reset(s, ZK__H2_REFUSED);
        return;
    }
    if (zk__spawn_pinned(c->conn->shard->scope, stream_run, s, &site) < 0) {
        zk__h2_reset(s, ZK__H2_FAILED);
        return;
    }
    s->has_task = true;
    c->holds++;
}

static void wake(zk__wait **place, ssize_t result)
{
    zk__wait *wait = *place;
    if (!wait) return;
    *place = NULL;
    zk__wait_end(wait, result);
}

static void on_body(zk__h2_stream *s)
{
    wake(&s->reader, 0);
    if (ZK_UNLIKELY(s->tunnel != NULL)) zk__h2_tunnel_body(s);
}

static void on_room(zk__h2_stream *s)
{
    wake(&s->writer, 0);
    if (ZK_UNLIKELY(s->tunnel != NULL)) zk__h2_tunnel_room(s);
}

static void on_closed(zk__h2_stream *s, uint32_t error)
{
    if (!s->has_task) {
        if (s->conn) s->conn->active = zk_now();
        zk__h2_stream_free(s);
        return;
    }
    s->conn->active = zk_now();
    wake(&s->reader, 0);
    wake(&s->writer, 0);
    if (ZK_UNLIKELY(s->tunnel && !s->conn->conn->shard->is_aborting)) {
        zk__h2_tunnel_closed(s);
        return;
    }
    if (ZK_UNLIKELY(s->is_kept)) {
        zk__h2_tunnel_abort(s);
        return;
    }
    if (error || s->res.state != ZK__RESPONSE_ENDED) zk__scope_cancel_as(&s->scope, -ECANCELED);
}

const struct zk__h2_events zk__h2_stream_events = {
    .on_request = on_request,
    .on_body = on_body,
    .on_room = on_room,
    .on_closed = on_closed,
};

/* ---- waiting for the client ---- */

static ssize_t body_wait(void *arg)
{
    static const zk__wait_kind kind = {.name = "request body"};
    zk__h2_stream *s = arg;
    return zk__place_wait(&s->reader, &kind);
}

static int room_wait(void *arg)
{
    static const zk__wait_kind kind = {.name = "room for the response"};
    zk__h2_stream *s = arg;
    return zk__place_wait(&s->writer, &kind);
}

static bool is_gone(const zk__h2_stream *s) { return !s->h2 || s->is_reset; }

/* As out_wait. */
static int out_wait_on(zk__h2_stream *s)
{
    int timeout_ms = zk__h2_conn_config(s->conn)->write_timeout_ms;
    while (s->out.size) {
        if (is_gone(s)) return -ECONNRESET;
        zk_time moved = s->out_since, limit = moved + ZK_MS(timeout_ms) - zk_now();
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : limit > 0 ? limit : 0);
        int rc = room_wait(s);
        int outer = wait.parent->reason;
        if (rc == -ETIMEDOUT && !outer && s->out_since > moved) continue;
        if (rc == -ETIMEDOUT && !outer) return ZK_E_HTTP_TIMEOUT;
        if (rc < 0) return is_gone(s) ? -ECONNRESET : outer ? outer : rc;
    }
    return is_gone(s) ? -ECONNRESET : 0;
}

/* Waits until all of `out` has been taken; for as long as some of it is from time to time. */
static int out_wait(zk__h2_stream *s)
{
    zk__h2_conn_touch(s->conn);
    s->is_out_awaited = true;
    int rc = out_wait_on(s);
    s->is_out_awaited = false;
    return rc;
}

/* ---- the transport ---- */

static ssize_t h2_body_read(zk_request *req, void *buf, size_t size)
{
    zk__h2_stream *s = zk__h2_stream_of(req);
    for (;;) {
        if (zk__received_size(&s->in)) {
            size_t n = zk__received_take(&s->in, buf, size);
            zk__h2_consumed(s, n);
            zk__h2_conn_touch(s->conn);
            return (ssize_t)n;
        }
        if (s->is_in_ended) {
            if (req->body_error) return req->body_error;
            req->is_body_done = true;
            return 0;
        }
        if (is_gone(s)) return ZK_E_CLOSED;
        /* A large buffer that holds nothing is not kept while its client takes its time: the
         * windows bound what all streams hold together, and this what they have held. */
        if (s->in.capacity > IN_BYTES_KEPT) zk__received_free(&s->in);
        if (ZK_UNLIKELY(s->owes_continue)) {
            s->owes_continue = false;
            if (s->res.state == ZK__RESPONSE_NONE && zk__h2_continue(s) < 0) return -ENOMEM;
            zk__h2_conn_touch(s->conn);
        }
        ssize_t rc = zk__body_wait(req, body_wait, s);
        if (rc < 0) return is_gone(s) ? ZK_E_CLOSED : rc;
    }
}

static int h2_body_view(zk_request *req, zk_str *ret)
{
    zk__h2_stream *s = zk__h2_stream_of(req);
    if (!s->is_in_ended || req->body_error) return 0;
    *ret = (zk_str){s->in.bytes + s->in.begin, zk__received_size(&s->in)};
    req->body_taken += ret->size;
    zk__h2_consumed(s, ret->size);
    s->in.begin = s->in.end; /* the bytes stay where they are */
    zk__h2_conn_touch(s->conn);
    req->is_body_done = true;
    return 1;
}

/* The client's time begins when there is something for it. */
static void out_starts(zk__h2_stream *s)
{
    if (!s->out.size) s->out_since = zk_now();
}

/* Bytes that fit are copied, so that the handler goes on. */
static int out_gather(zk__h2_stream *s, const void *data, size_t size, size_t capacity)
{
    if (!s->out.buffer && !(s->out.buffer = zk_alloc(capacity))) return -ENOMEM;
    out_starts(s);
    if (s->out.size && s->out.data != s->out.buffer) {
        memmove(s->out.buffer, s->out.data, s->out.size);
    }
    memcpy(s->out.buffer + s->out.size, data, size);
    s->out.data = s->out.buffer;
    s->out.size += size;
    zk__h2_resume(s);
    zk__h2_conn_touch(s->conn);
    return 0;
}

/* Bytes that are too many stay where they are until they have been taken. */
static int out_lend(zk__h2_stream *s, const void *data, size_t size)
{
    out_starts(s);
    s->out.data = data;
    s->out.size = size;
    zk__h2_resume(s);
    int rc = out_wait(s);
    if (rc < 0) {
        s->out.data = NULL; /* they are the caller's again */
        s->out.size = 0;
        zk__h2_reset(s, ZK__H2_FAILED);
        zk__h2_conn_touch(s->conn);
    }
    return rc;
}

static int whole_body(zk__h2_stream *s, const void *body, size_t size)
{
    s->out.is_last = true;
    return size <= ZK__H2_OUT_BYTES_MAX ? out_gather(s, body, size, size) : out_lend(s, body, size);
}

static int h2_begin(zk_response *res, const char *content_type, const void *body, size_t size,
                    bool is_whole)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    /* A success would say that the tunnel is open (RFC 8441 section 5). */
    if (ZK_UNLIKELY(s->protocol.size && res->status / 100 == 2)) {
        res->status = 501;
        res->length = ZK_LENGTH_UNKNOWN;
        res->is_bodiless = true;
    }
    bool has_body = !res->is_bodiless && res->length != 0;
    bool is_taken = false;
    if (is_whole && has_body) {
        int rc = zk__h2_offer(s, body, size);
        if (rc < 0) return rc;
        is_taken = rc;
    }
    int rc = zk__h2_respond(s, content_type, has_body);
    if (rc < 0) return rc;
    zk__h2_conn_touch(s->conn);
    return is_whole && has_body && !is_taken ? whole_body(s, body, size) : 0;
}

static int h2_write(zk_response *res, const void *data, size_t size)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    if (is_gone(s)) return -ECONNRESET;
    if (s->out.size + size > ZK__H2_OUT_BYTES_MAX) {
        int rc = out_wait(s);
        if (rc < 0) return rc;
    }
    return size > ZK__H2_OUT_BYTES_MAX ? out_lend(s, data, size)
                                       : out_gather(s, data, size, ZK__H2_OUT_BYTES_MAX);
}

static int h2_flush(zk_response *res)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    if (is_gone(s)) return -ECONNRESET;
    zk__h2_conn_touch(s->conn);
    return 0;
}

static int h2_end(zk_response *res)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    if (is_gone(s)) return -ECONNRESET;
    s->out.is_last = true;
    if (s->out.is_begun) zk__h2_resume(s);
    zk__h2_conn_touch(s->conn);
    return 0;
}

const struct zk__transport zk__h2_transport = {
    .body_read = h2_body_read,
    .body_view = h2_body_view,
    .begin = h2_begin,
    .write = h2_write,
    .flush = h2_flush,
    .end = h2_end,
    .protocol = zk__h2_protocol,
    .upgrade = zk__h2_upgrade,
};
