/*
 * A connection of an HTTP/2 server: the engine's bytes in and out. What the streams do
 * with them is in h2_transport.c.
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
 *                                                                   \--refused--> lingers (h1_conn)
 *
 * Dead, the engine is gone, the handlers' scopes are cancelled, and what they still do finds that
 * out.
 */
#include <errno.h>
#include <string.h>

#include "core/task.h"
#include "http/h2_internal.h"
#include "http/h2_tunnel.h"

enum { READS_PER_TURN = 4, SENDS_PER_TURN = 16 };
static const zk_time look_again = ZK_SEC(1);

/* ---- the end ---- */

static void conn_free(zk__h2_conn *c)
{
    zk__scope_unlink(&c->scope);
    zk_free(c->unsent);
    zk__conn *conn = c->conn;
    bool is_refused = c->is_refused;
    conn->h2 = NULL;
    zk_free(c);
    if (is_refused) {
        zk__conn_resume(conn, true, false); /* lest a reset overtakes the GOAWAY */
    } else {
        zk__conn_close(conn);
    }
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
void zk__h2_conn_release(zk__h2_conn *c)
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
    int timeout_ms = zk__h2_conn_config(c)->write_timeout_ms;
    int rc = c->is_dead ? -ECANCELED
                        : zk_timeout(timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms), write_rest, c);
    me->scope = c->scope.parent;
    zk_free(c->unsent);
    c->unsent = NULL;
    c->is_writing = false;
    if (rc < 0) conn_end(c);
    zk__h2_conn_touch(c);
    zk__h2_conn_release(c);
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
            zk__h2_conn_touch(c);
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
        zk__h2_conn_touch(c);
    } else if (ZK_UNLIKELY(is_over(c))) {
        c->is_refused |= !c->has_ended && !c->h2.is_terminated;
        conn_end(c);
    }
}

/* ---- deadlines ---- */

static zk_time after_ms(zk_time from, int ms) { return ms < 0 ? INT64_MAX : from + ZK_MS(ms); }

static zk_time grace_end(const zk__h2_conn *c)
{
    return c->half_closed ? after_ms(c->half_closed, zk__h2_conn_config(c)->half_close_grace_ms)
                          : INT64_MAX;
}

static zk_time deadline_of(const zk__h2_conn *c)
{
    if (c->h2.stream_count || c->h2.frame_since) {
        zk_time next = zk_now() + look_again;
        return next < grace_end(c) ? next : grace_end(c);
    }
    return after_ms(c->active, zk__h2_conn_config(c)->idle_timeout_ms);
}

/* A client that does not take what it asked for gives up its streams; those whose handlers wait for
 * it are told by out_wait. */
static void slow_streams_reset(zk__h2_conn *c)
{
    int timeout_ms = zk__h2_conn_config(c)->write_timeout_ms;
    for (zk__h2_stream *s = c->h2.streams; s; s = s->next) {
        bool waits = s->out.is_begun && s->out.size && !s->has_ended && !s->is_out_awaited;
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
        zk_now() >= after_ms(c->h2.frame_since, zk__h2_conn_config(c)->header_timeout_ms)) {
        zk__h2_calm(&c->h2);
    } else if (c->h2.stream_count) {
        slow_streams_reset(c);
    } else if (zk_now() >= after_ms(c->active, zk__h2_conn_config(c)->idle_timeout_ms)) {
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

/* The client is told why, and not heard any more. Who is calmed does not stop for that. */
static void refuse(zk__h2_conn *c)
{
    c->has_ended = true;
    c->is_refused = !c->h2.is_calmed;
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
            refuse(c);
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
    zk__h2_conn_touch(c);
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
    zk__h2_conn_release(c);
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
        zk__h2_conn_release(next);
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

/* ---- its life ---- */

/* What has come already, and then the rest. */
static void conn_begin(zk__h2_conn *c, const void *data, size_t size)
{
    if (c->is_dead) return;
    int rc = size ? zk__h2_recv(&c->h2, (void *)(uintptr_t)data, size) : 0;
    if (rc == ZK_E_HTTP_SYNTAX) {
        refuse(c);
        zk__h2_conn_touch(c);
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
    int rc = zk__h2_init(&c->h2, shard, &zk__h2_stream_events);
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
    zk__h2_conn_release(c);
    return 0;
}

void zk__h2_conn_drain(zk__conn *conn)
{
    zk__h2_conn *c = conn->h2;
    if (c->is_dead || c->is_draining) return;
    c->is_draining = true;
    zk__h2_tunnels_drain(&c->h2);
    if (c->h2.stream_count) zk__h2_goaway(&c->h2, false);
    zk__h2_conn_touch(c);
}

void zk__h2_conn_abort(zk__conn *conn) { conn_end(conn->h2); }
