/*
 * One try of forwarding a request: out to the upstream, and what it answers back to the client.
 *
 * The task of the handler sends the request and then the response. A body that is not in memory yet
 * is sent by a second task beside it, so that an answer may come before the request has ended. The
 * writes of each wait for who they write to: so each side is read no faster than the other takes.
 */
#include <errno.h>
#include <string.h>

#include "http/client_greeting.h"
#include "http/proxy.h"

enum { PIECE_BYTES = 16 * 1024, LONG_BYTES = 64 * 1024 };

/* ---- the request's body ---- */

typedef struct upload {
    zk__proxy_try *try;
    zk_request *req;
    zk_scope *scope; /* of the exchange */
} upload;

static int upload_piece(zk__hop *hop, const zk_request *req, const char *data, size_t size)
{
    return req->body_length < 0 ? zk__hop_write_chunk(hop, data, size)
                                : zk__hop_write(hop, data, size);
}

static int upload_end(zk__hop *hop, const zk_request *req)
{
    int rc = 0;
    if (req->body_length < 0) {
        rc = zk__hop_put(hop, "0\r\n", 3);
        for (size_t i = 0; i < req->trailer_count && !rc; i++) {
            const zk_field *field = &req->trailers[i];
            rc = zk__hop_put(hop, field->name.data, field->name.size);
            if (!rc) rc = zk__hop_put(hop, ": ", 2);
            if (!rc) rc = zk__hop_put(hop, field->value.data, field->value.size);
            if (!rc) rc = zk__hop_put(hop, "\r\n", 2);
        }
        if (!rc) rc = zk__hop_put(hop, "\r\n", 2);
    }
    if (!rc) rc = zk__hop_flush(hop);
    hop->is_request_done = !rc;
    return rc;
}

/*
 * Sends the body as it comes. An upstream that takes no more may still answer, so that is no
 * failure of the exchange; a client that gives up is.
 */
static int upload_run(void *arg)
{
    upload *u = arg;
    zk__hop *hop = u->try->hop;
    char piece[PIECE_BYTES];
    u->try->is_body_begun = true;
    for (;;) {
        ssize_t n = zk_body_read(u->req, piece, sizeof piece);
        if (n < 0) {
            u->try->is_client_gone = n != -ECANCELED;
            return (int)n;
        }
        int rc = n ? upload_piece(hop, u->req, piece, (size_t)n) : upload_end(hop, u->req);
        if (!rc && n) rc = zk__hop_flush(hop);
        if (rc == -ECANCELED) return rc;
        if (rc < 0 || !n) return 0;
    }
}

/* ---- the response ---- */

static char *big_take(zk__proxy_worker *w)
{
    return w->big_count ? w->big[--w->big_count] : zk_alloc(ZK__PROXY_BIG_BYTES);
}

static void big_give(zk__proxy_worker *w, char *big)
{
    if (big && w->big_count < ZK__PROXY_BIG_KEPT) {
        w->big[w->big_count++] = big;
    } else {
        zk_free(big);
    }
}

/* A long body without framing of its own: through a large buffer, so with few calls. */
static int body_direct(zk__proxy_worker *w, zk__hop *hop, zk_response *res)
{
    char *big = big_take(w);
    if (!big) return -ENOMEM;
    int rc = 0;
    while (!rc && zk__hop_is_direct(hop)) {
        ssize_t n = zk__hop_read(hop, big, ZK__PROXY_BIG_BYTES);
        if (n == 0) break;
        rc = n < 0 ? (int)n : zk_response_write(res, big, (size_t)n);
    }
    big_give(w, big);
    return rc;
}

static int body_forward(zk__proxy_worker *w, zk__hop *hop, zk_response *res)
{
    for (;;) {
        if (zk__hop_is_direct(hop) && hop->talk->h1.body_left > LONG_BYTES) {
            int rc = body_direct(w, hop, res);
            if (rc < 0) return rc;
            continue;
        }
        zk_str span;
        int rc = zk__hop_span(hop, &span);
        if (rc <= 0) return rc;
        rc = zk_response_write(res, span.data, span.size);
        if (rc < 0) return rc;
    }
}

/* Whether the whole body has come with the head. */
static bool is_here(const zk__talk *t)
{
    return t->answer.framing == ZK__H1_LENGTH && t->h1.body_left <= t->in_end - t->in_begin;
}

int64_t zk__proxy_length(const zk__h1_answer *a, const zk_response *res)
{
    bool has_length =
        a->framing == ZK__H1_LENGTH || (a->framing == ZK__H1_NO_BODY && a->has_length);
    if (has_length && a->content_length > INT64_MAX) return ZK_E_HTTP_SYNTAX;
    return has_length                                          ? (int64_t)a->content_length
           : a->framing == ZK__H1_NO_BODY && !res->is_bodiless ? 0
                                                               : ZK_LENGTH_UNKNOWN;
}

int zk__proxy_end(zk_response *res, const zk_field *trailers, size_t count)
{
    if (count && res->length < 0) {
        zk_field *own = zk_arena_alloc(&res->req->arena, count * sizeof *own);
        if (!own) return -ENOMEM;
        memcpy(own, trailers, count * sizeof *own);
        int rc = zk__proxy_fields_own(res, own, count);
        if (rc < 0) return rc;
        res->trailers = (zk__field_list){own, count, count};
    }
    return zk_response_end(res);
}

static int answer_forward(zk__proxy_worker *w, zk__hop *hop, zk_response *res)
{
    zk__talk *t = hop->talk;
    const zk__h1_answer *a = &t->answer;
    int rc = zk__proxy_head_take(w->proxy, a, false, res);
    if (rc < 0) return rc;
    if (ZK_LIKELY(is_here(t))) {
        zk_str body = {"", 0};
        if (t->h1.body_left) rc = zk__hop_span(hop, &body);
        return rc < 0 ? rc : zk_respond(res, a->status, NULL, body.data, body.size);
    }
    int64_t length = zk__proxy_length(a, res);
    if (length < ZK_LENGTH_UNKNOWN) return (int)length;
    rc = zk_response_begin(res, a->status, NULL, length);
    if (!rc && a->framing != ZK__H1_NO_BODY) rc = body_forward(w, hop, res);
    return rc < 0 ? rc : zk__proxy_end(res, t->trailers, t->trailer_count);
}

/* ---- both ---- */

static bool is_text(zk_str s, const char *text)
{
    return s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

bool zk__proxy_is_idempotent(const zk_request *req)
{
    zk_str m = req->method;
    return is_text(m, "GET") || is_text(m, "HEAD") || is_text(m, "PUT") || is_text(m, "DELETE") ||
           is_text(m, "OPTIONS") || is_text(m, "TRACE");
}

static int answer_wait(zk__proxy_try *try)
{
    int rc = zk__hop_answer(try->hop);
    if (!rc && try->hop->talk->answer.is_switched && !try->protocol.size) {
        try->hop->is_broken = true;
        return zk_fail(ZK_E_HTTP_SYNTAX, "an upgrade nobody has asked for");
    }
    return rc;
}

/* A request whose body, if any, is in memory. */
static int exchange_whole(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                          zk_request *req, zk_response *res)
{
    zk__hop *hop = try->hop;
    int rc = zk__proxy_head_send(w->proxy, use->upstream, hop, req, try->protocol);
    if (!rc && try->body.size) {
        rc = upload_piece(hop, req, try->body.data, try->body.size);
    }
    if (!rc && try->protocol.size) {
        rc = zk__hop_flush(hop);
        hop->is_request_done = !rc;
    } else if (!rc) {
        rc = upload_end(hop, req);
    }
    if (!rc || (hop->has_sent && (rc == -EPIPE || rc == -ECONNRESET))) {
        int sent = rc;
        rc = answer_wait(try);
        if (rc < 0 && sent < 0) rc = sent;
    }
    if (rc < 0) return rc;
    rc = zk__proxy_answered(w, try, hop->talk->answer.status);
    if (ZK_UNLIKELY(rc < 0)) return rc;
    if (ZK_UNLIKELY(hop->talk->answer.is_switched)) return zk__proxy_tunnel(w->proxy, hop, res);
    return answer_forward(w, hop, res);
}

static int exchange_streamed(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                             zk_request *req, zk_response *res)
{
    zk__hop *hop = try->hop;
    int rc = zk__proxy_head_send(w->proxy, use->upstream, hop, req, try->protocol);
    /* A kept connection may have to be made anew, while nobody reads on it yet. */
    if (!rc && hop->is_reused) rc = zk__hop_flush(hop);
    if (rc < 0) return rc;
    ZK_SCOPE(scope) {
        upload u = {try, req, &scope};
        zk_spawn_options options = {.arg_bytes = sizeof u, .is_pinned = true};
        rc = zk_spawn_with(&scope, &options, upload_run, &u);
        if (!rc) rc = answer_wait(try);
        if (!rc) rc = zk__proxy_answered(w, try, hop->talk->answer.status);
        if (!rc) rc = answer_forward(w, hop, res);
        /* What is left of the body is not wanted any more. */
        zk_scope_cancel(&scope);
    }
    return rc;
}

/* Nothing of a request has left, or it may be repeated and nobody has begun to answer. */
static bool may_repeat(const zk__proxy_try *try, const zk_request *req, int rc)
{
    const zk__hop *hop = try->hop;
    if (rc == -ENOMEM || rc == -ECANCELED || rc == -ETIMEDOUT) return false;
    if (!hop) return true;
    if (try->is_body_begun || !try->has_whole_body || hop->has_received) return false;
    return !hop->has_sent || zk__proxy_is_idempotent(req);
}

static bool is_dead(int rc)
{
    return rc == ZK_E_CLOSED || rc == -ECONNRESET || rc == -EPIPE || rc == ZK_E_TLS_TRUNCATED;
}

/* Connections beside those of HTTP/2. NULL: there is no memory. */
static zk__origin *http1_origin(zk__proxy_worker *w, zk__upstream_use *use)
{
    const zk__origin *o = use->origin;
    if (use->http1) return use->http1;
    zk_str address = {o->address, strlen(o->address)}, host = {o->host, strlen(o->host)};
    use->http1 = zk__pool_origin_http1(w->pool, address, o->tls, host, NULL);
    if (use->http1) zk__origin_keep(use->http1);
    return use->http1;
}

static int forward_once(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                        bool must_be_new, zk_request *req, zk_response *res)
{
    zk__greeting greeting;
    bool is_greeted = w->pool->limits.proxy_protocol != 0;
    if (ZK_UNLIKELY(is_greeted)) {
        is_greeted = zk__greeting_make(&greeting, w->pool->limits.proxy_protocol, req->stream);
    }
    try->hop = NULL;
    zk__origin *origin = ZK_UNLIKELY(try->needs_http1) ? http1_origin(w, use) : use->origin;
    if (!origin) return -ENOMEM;
    bool counts = w->proxy->options.pending_max > 0;
    if (counts) atomic_fetch_add(&use->upstream->breaker.pending, 1);
    int rc = zk__origin_reach(origin, is_greeted ? &greeting : NULL, must_be_new, &try->hop);
    if (counts) atomic_fetch_sub(&use->upstream->breaker.pending, 1);
    try->is_stale = false;
    if (rc >= 0 && !try->hop) return zk__proxy_h2_forward(w, use, try, req, res);
    if (rc >= 0) {
        bool is_head = is_text(req->method, "HEAD");
        zk__hop_ask(try->hop, is_head ? ZK__H1_ASKED_HEAD : ZK__H1_ASKED_USUAL, false);
        try->hop->is_checked = !try->has_whole_body || !zk__proxy_is_idempotent(req);
        rc = try->has_whole_body ? exchange_whole(w, use, try, req, res)
                                 : exchange_streamed(w, use, try, req, res);
    }
    try->may_repeat = rc < 0 && res->state == ZK__RESPONSE_NONE && may_repeat(try, req, rc);
    try->is_stale = try->may_repeat && try->hop && try->hop->is_reused && is_dead(rc);
    return rc;
}

int zk__proxy_forward(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                      zk_request *req, zk_response *res)
{
    try->needs_http1 = false;
    int rc = forward_once(w, use, try, false, req, res);
    if (ZK_UNLIKELY(try->needs_http1)) rc = forward_once(w, use, try, false, req, res);
    /* A pooled connection that the upstream has closed meanwhile is no fault of anybody's. */
    if (ZK_UNLIKELY(rc < 0) && try->is_stale) {
        if (try->hop) try->hop->is_broken = true;
        if (try->hop) zk__hop_give(try->hop);
        rc = forward_once(w, use, try, true, req, res);
    }
    if (try->hop && rc < 0) try->hop->is_broken = true;
    return rc;
}
