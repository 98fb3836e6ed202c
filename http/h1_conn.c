/*
 * The life of an HTTP/1.1 connection on the server's side.
 *
 *          +--------- timeout: close ---------+
 *          |                                  |
 *   IDLE (parked) --bytes--> ACTIVE (a task) --nothing left--> IDLE
 *                              |   |    \--part of a head--> HEAD (parked) --bytes--> ACTIVE
 *                              |   |                           \--timeout--> LATE (a task: 408)
 *                              |   \--error response--> LINGER (parked) --end, timeout--> closed
 *                              \--close--> closed
 *
 * Parked, a connection is struct zk__conn and its stream; nothing else. Bytes spawn a task, which
 * borrows a session, reads without waiting, answers all whole requests that are there, sends the
 * responses together, and ends as soon as nothing more is to be read. It keeps its stack only if a
 * handler waits.
 *
 * One timer per connection, and no work for it per request: `deadline` moves, the timer stays where
 * it is, and when it fires too early it is set again.
 */
#include "http/h1_conn.h"

#include <errno.h>
#include <string.h>

#include "core/arena.h"
#include "core/task.h"
#include "http/h2_conn.h"
#include "http/upgrade.h"
#include "net/stream.h"

enum { LINGER_BYTES = 1024 * 1024, ROUNDS = 16 };
static const zk_time linger_time = ZK_SEC(2);

/* What a connection's task leaves behind. */
typedef enum verdict {
    PARK,
    CLOSE,
    LINGER,
    ABORT,
    HANDED_OVER, /* the connection is no longer this file's */
    GONE,        /* the same: HTTP/2's, which may have ended it already */
} verdict;

/* ---- opening, closing, deadlines ---- */

void zk__conn_close(zk__conn *c)
{
    zk__shard *shard = c->shard;
    /* first: should the flush find it broken, it is not to be closed twice */
    zk_stream_unpark(c->stream);
    if (ZK_UNLIKELY(c->is_staged)) zk__stage_flush(shard);
    if (ZK_UNLIKELY(c->ready_place)) zk__batch_forget(c);
    zk__wheel_remove(&zk__worker_self()->wheel, &c->timer);
    zk_stream_close(c->stream);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    zk_free(c->partial);
    zk_free(c->unsent);
    zk_free(c);
    shard->conn_count--;
    zk__wait **waiting = shard->is_draining ? &shard->drainer : &shard->acceptor;
    zk__wait *wait = *waiting;
    if (wait && (!shard->is_draining || !shard->conn_count)) {
        *waiting = NULL;
        zk__wait_end(wait, 0);
    }
}

/* An earlier timer stays and finds out that it is. */
static __attribute__((noinline)) void timer_move(zk__conn *c, zk_time when)
{
    zk__wheel *wheel = &zk__worker_self()->wheel;
    zk__wheel_remove(wheel, &c->timer);
    zk__wheel_add(wheel, &c->timer, when);
    c->timer_due = when;
}

static inline void conn_deadline(zk__conn *c, zk_time deadline)
{
    c->deadline = deadline;
    if (ZK_UNLIKELY(deadline < c->timer_due)) timer_move(c, deadline);
}

void zk__conn_deadline(zk__conn *c, zk_time deadline) { conn_deadline(c, deadline); }

static inline zk_time after_ms(int ms)
{
    return ms < 0 ? INT64_MAX : zk__worker_self()->now + ZK_MS(ms);
}

static void on_timer(zk__timer *timer)
{
    zk__conn *c = (zk__conn *)(void *)((char *)timer - offsetof(zk__conn, timer));
    c->timer_due = INT64_MAX;
    if (c->deadline == INT64_MAX) return;
    /* Bytes have arrived in this very turn: a task is on its way, which will see to the deadline
     * when it parks. */
    bool has_task = c->phase >= ZK__CONN_ACTIVE && c->phase <= ZK__CONN_OTHER;
    bool is_coming = !has_task && !c->stream->on_ready;
    if (is_coming) return;
    if (zk_now() < c->deadline) {
        timer_move(c, c->deadline);
        return;
    }
    c->deadline = INT64_MAX;
    switch (c->phase) {
    case ZK__CONN_IDLE:
    case ZK__CONN_LINGER: zk__conn_close(c); break;
    case ZK__CONN_HEAD:
        c->phase = ZK__CONN_LATE;
        zk_stream_unpark(c->stream);
        zk__conn_start(c);
        break;
    case ZK__CONN_H2: zk__h2_conn_timer(c); break;
    default: zk__conn_cancel(c); /* the grace of a half-closed client is over */
    }
}

/* ---- a client that goes ---- */

static void on_hangup(void *context, zk_hangup how)
{
    zk__conn *c = context;
    if (c->phase != ZK__CONN_ACTIVE) return;
    if (how == ZK_HANGUP_FULL) {
        zk__conn_cancel(c);
    } else if (c->deadline == INT64_MAX) {
        /* It may have sent all that it had to say and be waiting for the response, or be gone. */
        zk__conn_deadline(c, after_ms(c->shard->config->half_close_grace_ms));
    }
}

void zk__conn_watch(zk__conn *c) { zk_stream_on_hangup(c->stream, on_hangup, c); }

void zk__conn_cancel(zk__conn *c)
{
    if (c->phase == ZK__CONN_SHAKING) {
        zk__scope_cancel_as(c->shaking, -ECANCELED);
    } else if (c->session) {
        zk__scope_cancel_as(&c->session->scope, -ECANCELED);
    }
}

/* ---- serving ---- */

/* Inline, for a plain head is still in registers then. */
static inline __attribute__((always_inline)) int request_fill(zk__session *x,
                                                              const zk__h1_head *head)
{
    zk__conn *c = x->conn;
    zk_request *req = &x->req;
    x->minor = head->minor;
    x->framing = head->framing;
    x->keep_alive = head->keep_alive;
    x->is_upgrade = head->is_upgrade;
    zk__exchange_init(req, &x->res, &zk__h1_transport, c->shard, c->stream);
    req->method = head->method;
    req->raw_target = head->target;
    req->host = head->host;
    req->fields = head->fields;
    req->field_count = head->field_count;
    req->version = 10 + head->minor;
    req->body_length = head->framing == ZK__H1_NO_BODY    ? 0
                       : head->framing == ZK__H1_CHUNKED  ? -1
                       : head->content_length > INT64_MAX ? INT64_MAX
                                                          : (int64_t)head->content_length;
    req->is_body_done = x->h1.state == ZK__H1_DONE;
    x->res.is_asked_oddly = !(head->keep_alive & head->minor & req->is_body_done);
    x->body_base = x->in_begin;
    x->span = (zk_str){NULL, 0};
    x->owes_continue = head->expects_continue && !req->is_body_done && x->in_begin == x->in_end;
    if (ZK_LIKELY(head->is_path_plain)) {
        req->target.path = head->target;
        req->target.query = (zk_str){head->target.data + head->target.size, 0};
        req->target.authority = ZK_STR("");
        return 0;
    }
    int rc = zk__target_parse(req->method, req->raw_target, &req->arena, &req->target);
    if (ZK_UNLIKELY(rc < 0)) {
        req->target = (zk__target){ZK_STR(""), ZK_STR(""), ZK_STR("")};
        return rc;
    }
    /* RFC 9112 section 3.2.2: an absolute form says more than Host. */
    if (ZK_UNLIKELY(req->target.authority.size)) req->host = req->target.authority;
    /* CONNECT. Its client may have sent the other protocol's first bytes already; they must not be
     * read as a request. */
    if (ZK_UNLIKELY(!req->target.path.size)) x->res.is_closing = true;
    return 0;
}

/* What a request is before anything is known of it. */
static void request_fill_nothing(zk_request *req)
{
    req->method = req->raw_target = req->host = ZK_STR("");
    req->target = (zk__target){ZK_STR(""), ZK_STR(""), ZK_STR("")};
    req->fields = NULL;
    req->field_count = 0;
    req->version = 11;
    req->body_length = 0;
    req->is_body_done = true;
}

/* Answers what is no request, or comes too late, and ends the connection. */
static verdict refuse(zk__session *x, int rc, const char *why)
{
    x->minor = 1;
    x->framing = ZK__H1_NO_BODY;
    x->keep_alive = x->is_upgrade = false;
    x->owes_continue = false;
    zk__exchange_init(&x->req, &x->res, &zk__h1_transport, x->conn->shard, x->conn->stream);
    request_fill_nothing(&x->req);
    rc = zk__exchange_refuse(&x->req, &x->res, rc, why);
    zk__arena_renew(&x->req.arena, x->arena_start);
    if (!rc) rc = zk__h1_flush(x);
    return rc < 0 ? CLOSE : LINGER;
}

/* The connection has left HTTP, and the handler has returned. */
static verdict upgraded(zk__session *x)
{
    zk__conn *c = x->conn;
    zk__arena_renew(&x->req.arena, x->arena_start);
    if (x->req.upgrade_end == ZK__UPGRADE_KEEP) return HANDED_OVER;
    c->phase = ZK__CONN_ACTIVE;
    return x->req.upgrade_end == ZK__UPGRADE_LINGER  ? LINGER
           : x->req.upgrade_end == ZK__UPGRADE_RESET ? ABORT
                                                     : CLOSE;
}

/* One request whose head has been parsed; rc: what request_fill says. returns whether the
 * connection goes on; else *ret says how not. */
static inline __attribute__((always_inline)) bool serve_request(zk__session *x, int rc,
                                                                verdict *ret)
{
    zk__conn *c = x->conn;
    *ret = CLOSE;
    c->has_served = true;
    if (ZK_UNLIKELY(rc < 0)) {
        rc = zk__exchange_refuse(&x->req, &x->res, rc, "the request target is not valid");
    } else {
        rc = zk__exchange_run(&x->req, &x->res);
    }
    if (ZK_UNLIKELY(x->req.upgrade != NULL)) {
        *ret = upgraded(x);
        return false;
    }
    if (c->phase == ZK__CONN_ACTIVE) c->deadline = INT64_MAX;
    bool is_kept = rc >= 0 && !x->res.is_closing;
    bool is_read = x->req.is_body_done || (is_kept && zk__h1_body_discard(x));
    zk__arena_renew(&x->req.arena, x->arena_start);
    if (ZK_LIKELY(is_kept && is_read)) return true;
    /* Responses before a broken one must arrive, too. */
    int flushed = zk__h1_flush(x);
    /* A client that has not asked for the end may be sending more. */
    bool is_surprise = !is_read || x->in_begin < x->in_end || x->keep_alive;
    if (rc >= 0 && flushed >= 0 && is_surprise) *ret = LINGER;
    /* The end of the connection would be the end of the body: nothing but a reset says that it is
     * not. */
    bool is_cut = rc < 0 && x->res.state == ZK__RESPONSE_BEGUN && x->res.length < 0;
    if (is_cut && x->minor == 0) *ret = ABORT;
    return false;
}

static void shift(zk_str *s, size_t by)
{
    if (s->size) s->data -= by;
}

/* Moves a head to where there is room behind it for the framing of its body, unless there is
 * already. */
static void head_to_front(zk__session *x, zk__h1_head *head, size_t size)
{
    size_t by = x->in_begin;
    if (!by || x->in_capacity - by - size >= ZK__H1_IN_EXTRA_BYTES) return;
    memmove(x->in, x->in + by, x->in_end - by);
    x->in_begin = 0;
    x->in_end -= by;
    shift(&head->method, by);
    shift(&head->target, by);
    shift(&head->host, by);
    for (size_t i = 0; i < head->field_count; i++) {
        shift(&head->fields[i].name, by);
        shift(&head->fields[i].value, by);
    }
}

/* Answers the whole requests in the buffer. returns true when more bytes are needed; else *ret says
 * how it ends. */
static bool serve_buffered(zk__session *x, verdict *ret)
{
    zk__conn *c = x->conn;
    while (x->in_begin < x->in_end) {
        const char *data = x->in + x->in_begin;
        size_t size = x->in_end - x->in_begin;
        zk__h1_head plain;
        int rc;
        ptrdiff_t n = zk__h1_quick_head(&x->h1, data, size, x->fields, &plain, false);
        bool is_plain = n > 0;
        if (ZK_LIKELY(is_plain)) {
            x->in_begin += (size_t)n;
            rc = request_fill(x, &plain);
        } else {
            zk__h1_head head; /* were it the same one, both would have to be in memory */
            n = zk__h1_slow_head(&x->h1, data, size, x->fields, &head);
            if (n == 0) break;
            if (n < 0) {
                *ret = refuse(x, (int)n, zk__h1_reason(&x->h1));
                return false;
            }
            if (head.framing == ZK__H1_CHUNKED) head_to_front(x, &head, (size_t)n);
            x->in_begin += (size_t)n;
            rc = request_fill(x, &head);
        }
        c->has_head_begun = false;
        if (!serve_request(x, rc, ret)) return false;
        if (ZK_LIKELY(is_plain)) {
            zk__h1_quick_next(&x->h1);
        } else {
            zk__h1_next(&x->h1);
        }
    }
    size_t rest = x->in_end - x->in_begin;
    if (rest && x->in_begin) memmove(x->in, x->in + x->in_begin, rest);
    x->in_begin = 0;
    x->in_end = rest;
    return true;
}

/*
 * Whether the client begins with HTTP/2's preface (RFC 9113 section 3.4). returns 1: yes; 0: no;
 * -EAGAIN: so far.
 */
static int preface_look(const zk__conn *c, const zk__session *x)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t size = x->in_end < sizeof preface - 1 ? x->in_end : sizeof preface - 1;
    /* Section 3.2: in TLS by ALPN only. */
    if (c->has_served || c->is_secured || memcmp(x->in, preface, size)) return 0;
    return size == sizeof preface - 1 ? 1 : -EAGAIN;
}

/* Answers what is whole, n more bytes having been received. PARK: nothing is left to do but to wait
 * for more. */
static verdict serve(zk__conn *c, zk__session *x, ssize_t n)
{
    if (ZK_UNLIKELY(n <= 0)) return zk__h1_flush(x) >= 0 && n == -EAGAIN ? PARK : CLOSE;
    x->in_end += (size_t)n;
    if (ZK_UNLIKELY(x->in[0] == 'P') && !x->in_begin) {
        int rc = preface_look(c, x);
        if (rc == -EAGAIN) return PARK;
        if (rc) {
            c->phase = ZK__CONN_H2;
            c->session = NULL;
            return zk__h2_conn_start(c, x->in, x->in_end) < 0 ? CLOSE : GONE;
        }
    }
    verdict v;
    if (ZK_UNLIKELY(!serve_buffered(x, &v))) return v;
    bool may_stage = !c->shard->is_draining && !c->unsent;
    if (ZK_LIKELY(may_stage && zk__stage_put(c->shard, c, x->out, x->out_size))) {
        x->out_size = 0;
        return PARK;
    }
    return ZK_LIKELY(zk__h1_flush(x) >= 0) ? PARK : CLOSE;
}

/* ---- parking ---- */

/* Line ends alone begin no request: old clients send one behind a body (RFC 9112 section 2.2). */
static bool is_blank(const char *data, size_t size)
{
    size_t i = 0;
    while (i < size && (data[i] == '\r' || data[i] == '\n'))
        i++;
    return i == size;
}

/* Keeps the part of a head that has arrived, in a buffer of its size. */
static int partial_keep(zk__conn *c, const zk__session *x)
{
    if (!x->in_end) {
        c->phase = ZK__CONN_IDLE;
        conn_deadline(c, after_ms(c->shard->config->idle_timeout_ms));
        return 0;
    }
    c->partial = zk_alloc(sizeof *c->partial + x->in_end);
    if (!c->partial) return -ENOMEM;
    memcpy(c->partial->data, x->in, x->in_end);
    c->partial->size = (uint32_t)x->in_end;
    if (is_blank(x->in, x->in_end)) {
        c->phase = ZK__CONN_IDLE;
        conn_deadline(c, after_ms(c->shard->config->idle_timeout_ms));
        return 0;
    }
    /* A head that was begun before this task keeps the deadline that it has. */
    if (!c->has_head_begun) c->head_deadline = after_ms(c->shard->config->header_timeout_ms);
    c->has_head_begun = true;
    zk__conn_deadline(c, c->head_deadline);
    c->phase = ZK__CONN_HEAD;
    return 0;
}

/* Called by the poller. */
static void on_ready(void *context)
{
    zk__conn *c = context;
    if (ZK_LIKELY(c->phase <= ZK__CONN_HEAD && zk__batch_add(c))) return;
    zk__conn_start(c);
}

/* Reads and forgets what a refused client still sends. returns whether it is to be parked again. */
static bool linger(zk__conn *c)
{
    char scrap[8192];
    for (size_t total = 0; total < LINGER_BYTES;) {
        ssize_t n = zk_stream_try_read(c->stream, scrap, sizeof scrap);
        if (n <= 0) return n == -EAGAIN;
        total += (size_t)n;
    }
    return false;
}

/* Ends the task's part: parks the connection or closes it. returns true if there is more to read at
 * once. */
static __attribute__((noinline)) bool conn_settle(zk__conn *c, verdict v)
{
    if (ZK_UNLIKELY(v == LINGER)) {
        c->phase = ZK__CONN_LINGER;
        zk__conn_deadline(c, zk_now() + linger_time);
        if (zk_stream_shutdown(c->stream) < 0 || !linger(c)) v = CLOSE;
    }
    if (ZK_UNLIKELY(v == ABORT)) {
        zk__stream_reset_on_close(c->stream);
        v = CLOSE;
    }
    if (ZK_LIKELY(v != CLOSE && !c->shard->is_aborting)) {
        /* Its timer may have found it on the way here. */
        if (c->phase == ZK__CONN_LINGER) zk__conn_deadline(c, c->deadline);
        int rc = zk_stream_park(c->stream, on_ready, c);
        if (ZK_LIKELY(rc == 0)) return false;
        if (rc == 1) return true;
    }
    zk__conn_close(c);
    return false;
}

/* ---- the task ---- */

void zk__conn_begin(zk__conn *c, zk__session *x)
{
    x->conn = c;
    c->session = x;
    if (ZK_LIKELY(!c->partial)) return;
    memcpy(x->in, c->partial->data, c->partial->size);
    x->in_end = c->partial->size;
    zk_free(c->partial);
    c->partial = NULL;
}

bool zk__conn_turn(zk__conn *c, zk__session *x, ssize_t n)
{
    uint8_t phase = c->phase;
    c->phase = ZK__CONN_ACTIVE;
    c->deadline = INT64_MAX;
    verdict v = ZK_UNLIKELY(c->unsent && zk__h1_send_unsent(x) < 0) ? CLOSE
                : ZK_UNLIKELY(phase == ZK__CONN_LATE)
                    ? refuse(x, ZK_E_HTTP_TIMEOUT, "the header section did not arrive in time")
                    : serve(c, x, n);
    if (ZK_UNLIKELY(v == GONE)) return false;
    c->session = NULL;
    if (v == PARK && partial_keep(c, x) < 0) v = CLOSE;
    if (ZK_LIKELY(v == PARK && !c->shard->is_draining)) {
        int rc = zk_stream_park(c->stream, on_ready, c);
        if (ZK_LIKELY(rc >= 0)) return rc;
        v = CLOSE;
    }
    if (v == HANDED_OVER) return false;
    if (v == PARK && c->phase == ZK__CONN_IDLE) v = CLOSE; /* draining */
    return conn_settle(c, v);
}

/* Serves what is there. returns whether there is more at once. */
static bool conn_serve(zk__conn *c)
{
    zk__shard *shard = c->shard;
    zk__session *x = zk__session_enter(shard);
    if (!x) {
        zk__conn_close(c);
        return false;
    }
    zk__conn_begin(c, x);
    ssize_t n = 0;
    if (ZK_LIKELY(c->phase != ZK__CONN_LATE)) {
        n = zk_stream_try_read(c->stream, x->in + x->in_end, x->in_capacity - x->in_end);
    }
    bool has_more = zk__conn_turn(c, x, n);
    zk__session_leave(shard, x);
    return has_more;
}

static int conn_run(void *arg)
{
    zk__conn *c = arg;
    if (ZK_UNLIKELY(!c->has_begun) && !zk__conn_introduce(c)) return 0;
    for (int round = 1;; round++) {
        bool has_more = ZK_LIKELY(c->phase != ZK__CONN_LINGER)
                            ? conn_serve(c)
                            : conn_settle(c, linger(c) ? PARK : CLOSE);
        if (ZK_LIKELY(!has_more)) return 0;
        /* A client that always has more must not starve the others. */
        if (round % ROUNDS == 0) (void)zk_yield();
    }
}

static int conn_spawn(zk__conn *c)
{
    static const zk_site site = {"http connection", __FILE__, __LINE__};
    return zk__spawn_pinned(c->shard->scope, conn_run, c, &site);
}

void zk__conn_start(zk__conn *c)
{
    if (conn_spawn(c) < 0) zk__conn_close(c);
}

bool zk__conn_send_later(zk__conn *c, const char *data, size_t size)
{
    /* Two responses may have been staged; the second follows the first. */
    size_t before = c->unsent ? c->unsent->size : 0;
    zk__bytes *unsent = zk_alloc(sizeof *unsent + before + size);
    if (!unsent) return false;
    if (before) memcpy(unsent->data, c->unsent->data, before);
    memcpy(unsent->data + before, data, size);
    unsent->size = (uint32_t)(before + size);
    zk_free(c->unsent);
    c->unsent = unsent;
    /* An active connection sends it itself, before anything else. */
    if (!c->stream->on_ready) return true;
    if (conn_spawn(c) < 0) return false;
    zk_stream_unpark(c->stream);
    return true;
}

void zk__conn_open(zk__shard *shard, zk_stream *stream)
{
    zk__conn *c = zk_alloc_zeroed(sizeof *c);
    if (!c) {
        zk_stream_close(stream);
        return;
    }
    c->shard = shard;
    c->stream = stream;
    c->has_begun = !shard->tls && !shard->announcer_count;
    c->timer.fire = on_timer;
    c->deadline = c->timer_due = INT64_MAX;
    c->next = shard->conns;
    c->link = &shard->conns;
    if (c->next) c->next->link = &c->next;
    shard->conns = c;
    shard->conn_count++;
    zk__conn_start(c);
}

void zk__conn_resume(zk__conn *c, bool is_lingering, bool is_reset)
{
    c->phase = ZK__CONN_ACTIVE;
    if (conn_settle(c, is_reset ? ABORT : is_lingering ? LINGER : CLOSE)) zk__conn_start(c);
}

void zk__conn_drain(zk__conn *c)
{
    if (c->phase == ZK__CONN_OTHER) {
        c->upgrade->ops->drain(c->upgrade);
        return;
    }
    if (c->phase == ZK__CONN_H2) {
        zk__h2_conn_drain(c);
        return;
    }
    if (c->phase == ZK__CONN_SHAKING) {
        zk__conn_deadline(c, zk_now() + zk__last_shake_time);
        return;
    }
    /* What has arrived just now is still answered: a task looks, and then closes. */
    if (c->phase != ZK__CONN_IDLE || !c->stream->on_ready) return;
    zk_stream_unpark(c->stream);
    zk__conn_start(c);
}

void zk__conn_abort(zk__conn *c)
{
    if (c->phase == ZK__CONN_H2) {
        zk__h2_conn_abort(c);
    } else if (c->phase == ZK__CONN_OTHER && !c->session) {
        c->upgrade->ops->abort(c->upgrade);
    } else if (c->phase == ZK__CONN_OTHER) {
        zk__conn_cancel(c);
    } else if (c->phase != ZK__CONN_SHAKING && c->stream->on_ready) {
        zk__conn_close(c);
    } else {
        zk__conn_cancel(c);
    }
}
