/*
 * A connection of an HTTP/2 server: the engine's bytes in and out, and a task for each stream.
 *
 *   parked --bytes: read and taken by the engine, in the poller's callback--> parked
 *                     \--a head is whole--> a task runs the handler
 *   at the end of each batch of tasks --> what the engine has to send leaves in one call
 *                     \--no room--> a task sends the rest, and then what has come up meanwhile
 *
 * Connections are read one after the other, by the shard's pump: a task that reads one, lets the
 * handlers of its requests run, sends their responses, and turns to the next. What a request has
 * touched is still in the processor's cache when its response is made and its memory used again.
 *
 * So a connection needs no task and no buffer of its own while it is read: only when its client
 * does not take what it is sent. Frames of all streams leave together.
 *
 *   LIVE --the client's end, an error, GOAWAY sent and all sent--> DEAD --last task ends--> freed
 *
 * Dead, the engine is gone, the handlers' scopes are cancelled, and what they still do finds that
 * out.
 */
#include "http/h2_conn.h"

#include <errno.h>
#include <string.h>

#include "core/arena.h"
#include "core/task.h"
#include "http/h2.h"
#include "http/h2_tunnel.h"

enum { READS_PER_TURN = 4, SENDS_PER_TURN = 16, COPY_MAX = 512, HANDLERS_EXCESS = 2 };
static const zk_time look_again = ZK_SEC(1);

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
    bool is_draining;                      /* GOAWAY has been announced */
    bool is_final;                         /* and has said which streams are the last */
    bool is_served;                        /* the pump sends when the handlers have run */
    zk_time active;                        /* when the last stream has ended */
    zk__h2_conn *ready_next, **ready_link; /* in the shard's list; ready_link: NULL outside */
    size_t unsent_size;
    char *unsent;
};

static zk__h2_conn *conn_of(zk__h2 *h2) { return (zk__h2_conn *)(void *)h2; }

static const zk_server *config_of(const zk__h2_conn *c) { return c->conn->shard->config; }

/* At the end of this batch of tasks what the engine has is sent. */
static void touch(zk__h2_conn *c)
{
    if (!c->is_dead && !c->is_served) zk__hook_arm(zk__worker_self(), &c->flush_hook);
}

void zk__h2_touch(zk__h2_stream *s) { touch(s->conn); }

/* ---- the end ---- */

static void conn_free(zk__h2_conn *c)
{
    zk__scope_unlink(&c->scope);
    zk_free(c->unsent);
    zk__conn *conn = c->conn;
    conn->h2 = NULL;
    zk_free(c);
    zk__conn_close(conn);
}

/* It is not to be read any more, or has been. */
static void ready_remove(zk__h2_conn *c)
{
    zk__shard *shard = c->conn->shard;
    if (!c->ready_link) return;
    *c->ready_link = c->ready_next;
    if (c->ready_next) {
        c->ready_next->ready_link = c->ready_link;
    } else {
        shard->h2_ready_end = c->ready_link;
    }
    c->ready_link = NULL;
}

static void conn_end(zk__h2_conn *c)
{
    if (c->is_dead) return;
    c->is_dead = true;
    ready_remove(c);
    if (c->is_served) c->conn->shard->h2_served = NULL;
    zk_stream_unpark(c->conn->stream);
    zk_stream_on_hangup(c->conn->stream, NULL, NULL);
    zk__hook_disarm(zk__worker_self(), &c->flush_hook);
    zk__h2_done(&c->h2);
    zk__scope_cancel_as(&c->scope, -ECANCELED);
    if (!c->holds) conn_free(c);
}

/* A hold on the connection has gone. */
static void conn_release(zk__h2_conn *c)
{
    if (--c->holds == 0 && c->is_dead) conn_free(c);
}

/* ---- sending ---- */

static int write_rest(void *arg)
{
    zk__h2_conn *c = arg;
    return zk_stream_write(c->conn->stream, c->unsent, c->unsent_size);
}

static int writer_run(void *arg)
{
    zk__h2_conn *c = arg;
    zk_task *me = zk__lane.current;
    me->scope = &c->scope;
    c->scope.owner = me;
    int timeout_ms = config_of(c)->write_timeout_ms;
    int rc = c->is_dead ? -ECANCELED
                        : zk_timeout(timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms), write_rest, c);
    me->scope = c->scope.parent;
    zk_free(c->unsent);
    c->unsent = NULL;
    c->is_writing = false;
    if (rc < 0) conn_end(c);
    touch(c);
    conn_release(c);
    return 0;
}

/* Has a task send what the client does not take now. returns 0, -ENOMEM. */
static int send_later(zk__h2_conn *c, const char *data, size_t size)
{
    static const zk_site site = {"http2 writer", __FILE__, __LINE__};
    c->unsent = zk_alloc(size);
    if (!c->unsent) return -ENOMEM;
    memcpy(c->unsent, data, size);
    c->unsent_size = size;
    int rc = zk__spawn_pinned(c->conn->shard->scope, writer_run, c, &site);
    if (rc < 0) return rc;
    c->is_writing = true;
    c->holds++;
    return 0;
}

/* Sends what there is, as far as that needs no waiting. returns 0, an error of the connection. */
static int send_ready(zk__h2_conn *c)
{
    char *buf = c->conn->shard->h2_buffer;
    for (int i = 0; !c->is_writing; i++) {
        if (i == SENDS_PER_TURN) {
            touch(c);
            return 0;
        }
        ssize_t size = zk__h2_send(&c->h2, buf, ZK__H2_BUFFER_BYTES);
        if (size <= 0) return (int)size;
        ssize_t sent = zk_stream_try_write(c->conn->stream, buf, (size_t)size);
        if (sent == size) continue;
        if (sent < 0 && sent != -EAGAIN) return (int)sent;
        size_t taken = sent > 0 ? (size_t)sent : 0;
        int rc = send_later(c, buf + taken, (size_t)size - taken);
        if (rc < 0) return rc;
    }
    return 0;
}

/* Whether all has been said. */
static bool is_over(const zk__h2_conn *c)
{
    if (c->is_writing) return false;
    if (c->has_ended && !c->h2.stream_count) return true;
    return !zk__h2_is_alive(&c->h2);
}

static void conn_flush(zk__h2_conn *c)
{
    if (c->is_dead || c->is_served) return;
    if (send_ready(c) < 0) {
        conn_end(c);
        return;
    }
    if (ZK_UNLIKELY(c->is_draining && !c->h2.stream_count && !c->h2.is_calmed)) {
        c->h2.is_calmed = true;
        zk__h2_terminate(&c->h2, 0);
        touch(c);
    } else if (ZK_UNLIKELY(is_over(c))) {
        conn_end(c);
    }
}

/* ---- deadlines ---- */

static zk_time after_ms(zk_time from, int ms) { return ms < 0 ? INT64_MAX : from + ZK_MS(ms); }

static zk_time grace_end(const zk__h2_conn *c)
{
    return c->half_closed ? after_ms(c->half_closed, config_of(c)->half_close_grace_ms) : INT64_MAX;
}

static zk_time deadline_of(const zk__h2_conn *c)
{
    if (c->h2.stream_count || c->h2.frame_since) {
        zk_time next = zk_now() + look_again;
        return next < grace_end(c) ? next : grace_end(c);
    }
    return after_ms(c->active, config_of(c)->idle_timeout_ms);
}

/* A client that does not take what it asked for gives up its streams. */
static void slow_streams_reset(zk__h2_conn *c)
{
    int timeout_ms = config_of(c)->write_timeout_ms;
    for (zk__h2_stream *s = c->h2.streams; s; s = s->next) {
        bool waits = s->out.is_begun && s->out.size && !s->has_ended;
        if (waits && zk_now() >= after_ms(s->out_since, timeout_ms)) zk__h2_reset(s, ZK__H2_TIRED);
    }
}

void zk__h2_conn_timer(zk__conn *conn)
{
    zk__h2_conn *c = conn->h2;
    if (c->is_dead) return;
    if (zk_now() >= grace_end(c)) {
        conn_end(c);
        return;
    }
    /* Those that were on their way when the client was told to come no more are here by now. */
    if (c->is_draining && !c->is_final) {
        c->is_final = true;
        zk__h2_goaway(&c->h2, true);
    }
    if (c->h2.frame_since &&
        zk_now() >= after_ms(c->h2.frame_since, config_of(c)->header_timeout_ms)) {
        zk__h2_calm(&c->h2);
    } else if (c->h2.stream_count) {
        slow_streams_reset(c);
    } else if (zk_now() >= after_ms(c->active, config_of(c)->idle_timeout_ms)) {
        zk__h2_terminate(&c->h2, 0);
    }
    zk__conn_deadline(conn, deadline_of(c));
    conn_flush(c);
}

/* The engine has taken something in, or a stream has ended. */
static void deadline_renew(zk__h2_conn *c) { zk__conn_deadline(c->conn, deadline_of(c)); }

/* ---- receiving ---- */

static void on_hangup(void *context, zk_hangup how)
{
    zk__h2_conn *c = context;
    if (how == ZK_HANGUP_FULL) conn_end(c);
}

/* Takes in what has come. returns 0: all of it; 1: there may be more; an error. */
static int receive(zk__h2_conn *c)
{
    char *buf = c->conn->shard->h2_buffer;
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = zk_stream_try_read(c->conn->stream, buf, ZK__H2_BUFFER_BYTES);
        if (n == -EAGAIN) return 0;
        if (n == 0) {
            c->has_ended = true;
            c->half_closed = zk_now();
            /* It has perhaps gone for good, and would not be heard of again. */
            zk_stream_on_hangup(c->conn->stream, on_hangup, c);
            return 0;
        }
        if (n < 0) return (int)n;
        int rc = zk__h2_recv(&c->h2, buf, (size_t)n);
        if (rc == ZK_E_HTTP_SYNTAX) {
            c->has_ended = true; /* it is told why, and not heard any more */
            return 0;
        }
        if (rc < 0) return rc;
        if (n < ZK__H2_BUFFER_BYTES) return 0;
    }
    return 1;
}

static void ready_add(zk__h2_conn *c);

static void on_ready(void *context) { ready_add(context); }

/* Reads, and parks again. */
static void conn_read(zk__h2_conn *c)
{
    int rc = receive(c);
    if (rc < 0) {
        conn_end(c);
        return;
    }
    if (c->is_dead) return;
    deadline_renew(c);
    touch(c);
    if (c->has_ended) return;
    if (rc == 0) {
        rc = zk_stream_park(c->conn->stream, on_ready, c);
        if (rc < 0) {
            conn_end(c);
            return;
        }
    }
    if (rc > 0) ready_add(c); /* others have their turn first */
}

/* It may end in there, and is freed after. */
static void conn_flush_held(zk__h2_conn *c)
{
    c->holds++;
    conn_flush(c);
    conn_release(c);
}

static int pump_run(void *arg);

static int pump_spawn(zk__shard *shard)
{
    static const zk_site site = {"http2 connections", __FILE__, __LINE__};
    int rc = zk__spawn_pinned(shard->scope, pump_run, shard, &site);
    shard->is_pumping = rc >= 0;
    return rc;
}

static int pump_run(void *arg)
{
    zk__shard *shard = arg;
    zk__h2_conn *served = shard->h2_served;
    shard->h2_served = NULL;
    if (served) {
        served->is_served = false;
        conn_flush_held(served);
    }
    zk__h2_conn *next = shard->h2_ready;
    if (next) {
        ready_remove(next);
        next->is_served = true;
        shard->h2_served = next;
        next->holds++;
        conn_read(next);
        conn_release(next);
    }
    if (!shard->h2_served && !shard->h2_ready) {
        shard->is_pumping = false;
        return 0;
    }
    if (pump_spawn(shard) >= 0) return 0;
    /* No memory for that: nobody else would come back to them. */
    if (shard->h2_served) conn_end(shard->h2_served);
    while (shard->h2_ready)
        conn_end(shard->h2_ready);
    return 0;
}

static void ready_add(zk__h2_conn *c)
{
    zk__shard *shard = c->conn->shard;
    if (!shard->h2_ready) shard->h2_ready_end = &shard->h2_ready;
    c->ready_next = NULL;
    c->ready_link = shard->h2_ready_end;
    *c->ready_link = c;
    shard->h2_ready_end = &c->ready_next;
    if (!shard->is_pumping && pump_spawn(shard) < 0) conn_end(c);
}

static void on_batch_end(zk__hook *hook)
{
    conn_flush_held((zk__h2_conn *)(void *)((char *)hook - offsetof(zk__h2_conn, flush_hook)));
}

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

static int stream_run(void *arg)
{
    zk__h2_stream *s = arg;
    zk__h2_conn *c = s->conn;
    zk_task *me = zk__lane.current;
    if (ZK_LIKELY(s->h2 && !s->is_reset)) {
        me->scope = &s->scope;
        s->scope.owner = me;
        if (stream_serve(s) < 0) zk__h2_reset(s, ZK__H2_FAILED);
        me->scope = s->scope.parent;
    }
    if (ZK_UNLIKELY(s->tunnel != NULL)) zk__h2_tunnel_end(s);
    s->has_task = false;
    if (s->h2) {
        if (s->in_end > s->in_begin) zk__h2_consumed(s, s->in_end - s->in_begin);
        s->in_begin = s->in_end = 0;
        if (ZK_UNLIKELY(s->has_ended && !s->is_in_ended)) zk__h2_reset(s, ZK__H2_DONE);
        if (ZK_UNLIKELY(s->res.is_closing)) zk__h2_conn_drain(c->conn);
        touch(c);
    } else {
        zk__h2_stream_free(s);
    }
    conn_release(c);
    return 0;
}

static void on_request(zk__h2_stream *s)
{
    static const zk_site site = {"http2 stream", __FILE__, __LINE__};
    zk__h2_conn *c = conn_of(s->h2);
    s->conn = c;
    s->req.transport = &zk__h2_transport;
    /* Handlers of streams that the client has reset may take a while to end. */
    if (c->holds / HANDLERS_EXCESS >= config_of(c)->h2_streams_max) {
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
    if (error || s->res.state != ZK__RESPONSE_ENDED) zk__scope_cancel_as(&s->scope, -ECANCELED);
}

static const struct zk__h2_events events = {
    .on_request = on_request,
    .on_body = on_body,
    .on_room = on_room,
    .on_closed = on_closed,
};

/* ---- waiting for the client ---- */

typedef struct stream_wait {
    zk__wait wait;
    zk__wait **place;
} stream_wait;

static void stream_wait_cancel(zk__wait *wait)
{
    *((stream_wait *)(void *)wait)->place = NULL;
    zk__wait_end(wait, -ECANCELED);
}

static ssize_t body_wait(void *arg)
{
    static const zk__wait_kind kind = {.name = "request body"};
    zk__h2_stream *s = arg;
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    stream_wait w = {.wait = {.cancel = stream_wait_cancel, .kind = &kind}, .place = &s->reader};
    s->reader = &w.wait;
    return zk__wait_for(&w.wait);
}

static int room_wait(void *arg)
{
    static const zk__wait_kind kind = {.name = "room for the response"};
    zk__h2_stream *s = arg;
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    stream_wait w = {.wait = {.cancel = stream_wait_cancel, .kind = &kind}, .place = &s->writer};
    s->writer = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

static bool is_gone(const zk__h2_stream *s) { return !s->h2 || s->is_reset; }

/* Waits until all of `out` has been taken; for as long as some of it is from time to time. */
static int out_wait(zk__h2_stream *s)
{
    int timeout_ms = config_of(s->conn)->write_timeout_ms;
    touch(s->conn);
    while (s->out.size) {
        if (is_gone(s)) return -ECONNRESET;
        zk_time moved = s->out_since;
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
        int rc = room_wait(s);
        int outer = wait.parent->reason;
        if (rc == -ETIMEDOUT && !outer && s->out_since > moved) continue;
        if (rc == -ETIMEDOUT && !outer) return ZK_E_HTTP_TIMEOUT;
        if (rc < 0) return is_gone(s) ? -ECONNRESET : outer ? outer : rc;
    }
    return is_gone(s) ? -ECONNRESET : 0;
}

/* ---- the transport ---- */

static ssize_t h2_body_read(zk_request *req, void *buf, size_t size)
{
    zk__h2_stream *s = zk__h2_stream_of(req);
    for (;;) {
        size_t have = s->in_end - s->in_begin;
        if (have) {
            size_t n = have < size ? have : size;
            memcpy(buf, s->in + s->in_begin, n);
            s->in_begin += (uint32_t)n;
            zk__h2_consumed(s, n);
            touch(s->conn);
            return (ssize_t)n;
        }
        if (s->is_in_ended) {
            if (req->body_error) return req->body_error;
            req->is_body_done = true;
            return 0;
        }
        if (is_gone(s)) return ZK_E_CLOSED;
        ssize_t rc = zk__body_wait(req, body_wait, s);
        if (rc < 0) return is_gone(s) ? ZK_E_CLOSED : rc;
    }
}

static int h2_body_view(zk_request *req, zk_str *ret)
{
    zk__h2_stream *s = zk__h2_stream_of(req);
    if (!s->is_in_ended || req->body_error) return 0;
    *ret = (zk_str){s->in + s->in_begin, s->in_end - s->in_begin};
    req->body_taken += ret->size;
    zk__h2_consumed(s, ret->size);
    s->in_begin = s->in_end; /* the bytes stay where they are */
    touch(s->conn);
    req->is_body_done = true;
    return 1;
}

/* Bytes that fit are copied, so that the handler goes on. */
static int out_gather(zk__h2_stream *s, const void *data, size_t size, size_t capacity)
{
    if (!s->out.buffer && !(s->out.buffer = zk_alloc(capacity))) return -ENOMEM;
    if (s->out.size && s->out.data != s->out.buffer) {
        memmove(s->out.buffer, s->out.data, s->out.size);
    }
    memcpy(s->out.buffer + s->out.size, data, size);
    s->out.data = s->out.buffer;
    s->out.size += size;
    zk__h2_resume(s);
    touch(s->conn);
    return 0;
}

/* Bytes that are too many stay where they are until they have been taken. */
static int out_lend(zk__h2_stream *s, const void *data, size_t size)
{
    s->out.data = data;
    s->out.size = size;
    zk__h2_resume(s);
    int rc = out_wait(s);
    if (rc < 0) {
        s->out.data = NULL; /* they are the caller's again */
        s->out.size = 0;
        zk__h2_reset(s, ZK__H2_FAILED);
        touch(s->conn);
    }
    return rc;
}

static int whole_body(zk__h2_stream *s, const void *body, size_t size)
{
    s->out.is_last = true;
    if (size <= COPY_MAX) {
        s->out.data = zk_arena_copy(&s->req.arena, body, size);
        if (!s->out.data) return -ENOMEM;
        s->out.size = size;
        return 0;
    }
    return size <= ZK__H2_OUT_BYTES_MAX ? out_gather(s, body, size, size) : out_lend(s, body, size);
}

static int h2_begin(zk_response *res, const char *content_type, const void *body, size_t size,
                    bool is_whole)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    bool has_body = !res->is_bodiless && res->length != 0;
    int rc = zk__h2_respond(s, content_type, has_body);
    if (rc < 0) return rc;
    touch(s->conn);
    return is_whole && has_body ? whole_body(s, body, size) : 0;
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
    touch(s->conn);
    return 0;
}

static int h2_end(zk_response *res)
{
    zk__h2_stream *s = zk__h2_stream_of(res->req);
    if (is_gone(s)) return -ECONNRESET;
    s->out.is_last = true;
    if (s->out.is_begun) zk__h2_resume(s);
    touch(s->conn);
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

/* ---- its life ---- */

/* What has come already, and then the rest. */
static void conn_begin(zk__h2_conn *c, const void *data, size_t size)
{
    if (c->is_dead) return;
    int rc = size ? zk__h2_recv(&c->h2, data, size) : 0;
    if (rc == ZK_E_HTTP_SYNTAX) {
        c->has_ended = true;
        touch(c);
    } else if (rc < 0) {
        conn_end(c);
    } else {
        if (c->conn->shard->is_draining) zk__h2_conn_drain(c->conn);
        conn_read(c);
    }
}

int zk__h2_conn_start(zk__conn *conn, const void *data, size_t size)
{
    zk__shard *shard = conn->shard;
    if (!shard->h2_buffer) shard->h2_buffer = zk_alloc(ZK__H2_BUFFER_BYTES);
    zk__h2_conn *c = shard->h2_buffer ? zk_alloc_zeroed(sizeof *c) : NULL;
    if (!c) return -ENOMEM;
    int rc = zk__h2_init(&c->h2, shard, &events);
    if (rc < 0) {
        zk_free(c);
        return rc;
    }
    c->conn = conn;
    c->h2.transport = conn->stream;
    c->flush_hook.run = on_batch_end;
    c->active = zk_now();
    zk__scope_root_init(&c->scope, shard->scope, zk__worker_self());
    conn->h2 = c;
    c->holds++;
    zk_stream_on_hangup(conn->stream, on_hangup, c);
    conn_begin(c, data, size);
    conn_release(c);
    return 0;
}

void zk__h2_conn_drain(zk__conn *conn)
{
    zk__h2_conn *c = conn->h2;
    if (c->is_dead || c->is_draining) return;
    c->is_draining = true;
    zk__h2_tunnels_drain(&c->h2);
    if (c->h2.stream_count) zk__h2_goaway(&c->h2, false);
    touch(c);
}

void zk__h2_conn_abort(zk__conn *conn) { conn_end(conn->h2); }
