/*
 * One try of forwarding a request to an upstream that speaks HTTP/2: see proxy_forward.c, which
 * does the same over HTTP/1.1. Each request is a call of a connection that all requests of the
 * worker share; what one of them does not take stays with the upstream, by flow control.
 */
#include <errno.h>
#include <string.h>

#include "http/h2_client.h"
#include "http/proxy.h"
#include "http/shard.h"
#include "http/websocket_key.h"

enum { PIECE_BYTES = 16 * 1024 };

/* ---- the request ---- */

/* Extended CONNECT (RFC 8441). */
static int tunnel_open(const zk__upstream *u, zk__h2_link *link, const zk__proxy_try *try,
                       zk__proxy_head *head, zk__h2_call **ret_call)
{
    size_t count = 0;
    for (size_t i = 0; i < head->count; i++) {
        if (zk__name_equal(head->fields[i].name, "sec-websocket-key", 17)) continue;
        head->fields[count++] = head->fields[i];
    }
    zk__ask ask = {
        .url = {.path = head->target, .is_secure = u->is_secure},
        .method = ZK_STR("CONNECT"),
        .protocol = try->protocol,
        .fields = head->fields,
        .field_count = count,
        .body_length = ZK_LENGTH_UNKNOWN,
        .has_body = true,
        .is_streamed = true,
    };
    return zk__h2_call_open(link, &ask, ret_call);
}

static int call_open(zk__proxy_worker *w, const zk__upstream *u, zk__h2_link *link,
                     const zk__proxy_try *try, zk_request *req, zk__h2_call **ret_call)
{
    zk__proxy_head head;
    int rc = zk__proxy_head_make(w->proxy, u, req, &head);
    if (rc < 0) return rc;
    head.fields[head.count++] = (zk_field){ZK_STR("host"), head.host};
    /* Without it an answer's trailers are not sent to who asks for gRPC. */
    if (zk__proxy_wants_trailers(req)) {
        head.fields[head.count++] = (zk_field){ZK_STR("te"), ZK_STR("trailers")};
    }
    if (try->protocol.size) return tunnel_open(u, link, try, &head, ret_call);
    bool is_streamed = !try->has_whole_body || req->trailer_count;
    bool says_length = zk__field_find(req->fields, req->field_count, "content-length") != NULL;
    zk__ask ask = {
        .url = {.path = head.target, .is_secure = u->is_secure},
        .method = head.method,
        .fields = head.fields,
        .field_count = head.count,
        .body = try->body.data,
        .body_size = is_streamed ? 0 : try->body.size,
        .body_length =
            try->has_whole_body && !req->trailer_count ? (int64_t)try->body.size : req->body_length,
        .has_body = is_streamed || says_length || try->body.size,
        .is_streamed = is_streamed,
    };
    return zk__h2_call_open(link, &ask, ret_call);
}

typedef struct upload {
    zk__proxy_try *try;
    zk__h2_call *call;
    zk_request *req;
} upload;

static int upload_end(zk__h2_call *call, const zk_request *req, zk_str last)
{
    call->out_trailers = req->trailers;
    call->out_trailer_count = req->trailer_count;
    return zk__h2_call_write(call, last.data, last.size, true);
}

/* As for HTTP/1.1: an upstream that takes no more may still answer, a client that gives up ends the
 * exchange. */
static int upload_run(void *arg)
{
    upload *u = arg;
    char piece[PIECE_BYTES];
    u->try->is_body_begun = true;
    for (;;) {
        ssize_t n = zk_body_read(u->req, piece, sizeof piece);
        if (n < 0) {
            u->try->is_client_gone = n != -ECANCELED;
            return (int)n;
        }
        int rc = n ? zk__h2_call_write(u->call, piece, (size_t)n, false)
                   : upload_end(u->call, u->req, (zk_str){NULL, 0});
        if (rc == -ECANCELED) return rc;
        if (rc < 0 || !n) return 0;
    }
}

/* ---- the response ---- */

static int answer_wait(zk__proxy_worker *w, zk__h2_call *call)
{
    int rc = zk__h2_call_head(call, w->proxy->limits.answer_timeout_ms);
    if (rc >= 0 || rc == -ECANCELED || rc == -ETIMEDOUT) return rc;
    return call->reset ? zk_fail(rc, "the stream was reset: %s", call->reset) : rc;
}

static int body_forward(zk__h2_call *call, zk_response *res)
{
    char piece[PIECE_BYTES];
    for (;;) {
        ssize_t n = zk__h2_call_read(call, piece, sizeof piece);
        if (n <= 0) return (int)n;
        int rc = zk_response_write(res, piece, (size_t)n);
        if (rc < 0) return rc;
    }
}

static int answer_forward(zk__proxy_worker *w, zk__h2_call *call, zk_response *res)
{
    const zk__h1_answer *a = &call->answer;
    int rc = zk__proxy_head_take(w->proxy, a, true, res);
    if (rc < 0) return rc;
    bool has_body = a->framing != ZK__H1_NO_BODY;
    size_t size = zk__received_size(&call->in);
    if (has_body && call->is_in_ended && !call->error && !call->trailer_count) {
        return zk_respond(res, a->status, NULL, size ? call->in.bytes + call->in.begin : "", size);
    }
    int64_t length = zk__proxy_length(a, res);
    if (length < ZK_LENGTH_UNKNOWN) return (int)length;
    rc = zk_response_begin(res, a->status, NULL, length);
    if (!rc && has_body) rc = body_forward(call, res);
    return rc < 0 ? rc : zk__proxy_end(res, call->trailers, call->trailer_count);
}

/* ---- both ---- */

static int exchange(zk__proxy_worker *w, zk__proxy_try *try, zk__h2_call *call, zk_request *req,
                    zk_response *res)
{
    int rc = 0;
    bool is_streamed = !try->has_whole_body;
    if (!is_streamed && req->trailer_count) {
        rc = upload_end(call, req, try->body);
        if (rc < 0 && call->has_answer) rc = 0;
    }
    ZK_SCOPE(scope) {
        upload u = {try, call, req};
        zk_spawn_options options = {.arg_bytes = sizeof u, .is_pinned = true};
        if (is_streamed) rc = zk_spawn_with(&scope, &options, upload_run, &u);
        if (!rc) rc = answer_wait(w, call);
        if (!rc) rc = zk__proxy_answered(w, try, call->answer.status);
        if (!rc) rc = answer_forward(w, call, res);
        /* What is left of the body is not wanted any more. */
        zk_scope_cancel(&scope);
    }
    return rc;
}

/* Whether a request that failed may be sent again: the upstream has said that it did nothing about
 * it (RFC 9113 section 8.7), or cannot know of it, or may be asked twice. */
static bool may_repeat(const zk__proxy_try *try, const zk__h2_call *call, const zk_request *req,
                       int rc)
{
    if (rc == -ENOMEM || rc == -ECANCELED || rc == -ETIMEDOUT) return false;
    if (!call) return true;
    if (try->is_body_begun || !try->has_whole_body) return false;
    return call->was_not_begun || (!call->has_answer && zk__proxy_is_idempotent(req));
}

/* Whether the upstream takes extended CONNECT. returns 1, 0; why it is not to be learned. */
static int connects(zk__proxy_worker *w, zk__origin *origin)
{
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    int timeout_ms = w->proxy->limits.answer_timeout_ms, rc = -EAGAIN;
    zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
    while (origin->h2 && (rc = zk__h2_link_connects(origin->h2)) == -EAGAIN) {
        rc = zk__h2_link_settings(origin->h2);
        if (rc == -ETIMEDOUT && !wait.parent->reason) return ZK_E_HTTP_TIMEOUT;
        if (rc < 0) return wait.parent->reason ? wait.parent->reason : rc;
    }
    return origin->h2 ? rc : ZK_E_CLOSED;
}

/* A request to go on with another protocol. As zk__proxy_h2_forward. */
static int upgrade_forward(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                           zk_request *req, zk_response *res)
{
    zk__origin *origin = use->origin;
    zk_str key = zk_request_header(req, "Sec-WebSocket-Key");
    bool is_websocket = zk__name_equal(try->protocol, "websocket", 9);
    if (is_websocket && req->version != 20 && !zk__ws_key_is_valid(key)) {
        return zk_respond_status(res, 400);
    }
    zk__h2_call *call = NULL;
    int rc = connects(w, origin);
    try->may_repeat = try->is_stale = rc == ZK_E_CLOSED;
    if (rc == 0 && origin->tls) {
        try->needs_http1 = true;
        return ZK_E_HTTP_VERSION;
    }
    if (rc == 0) {
        const zk_server *config = req->shard->config;
        const char *reason = "the upstream takes no extended CONNECT (RFC 8441)";
        if (config->on_error) config->on_error(config->context, req, ZK_E_HTTP_VERSION, reason);
        return zk_respond_status(res, 501);
    }
    if (rc > 0) rc = call_open(w, use->upstream, origin->h2, try, req, &call);
    if (!rc) rc = answer_wait(w, call);
    if (!rc) rc = zk__proxy_answered(w, try, call->answer.status);
    if (!rc && call->answer.status / 100 == 2) {
        return zk__proxy_tunnel_h2(w->proxy, call, try->protocol, res);
    }
    if (!rc) rc = answer_forward(w, call, res);
    bool is_undone = call && call->was_not_begun && res->state == ZK__RESPONSE_NONE;
    if (rc < 0 && is_undone) try->may_repeat = try->is_stale = true;
    zk__h2_call_free(call);
    return rc;
}

int zk__proxy_h2_forward(zk__proxy_worker *w, zk__upstream_use *use, zk__proxy_try *try,
                         zk_request *req, zk_response *res)
{
    if (try->protocol.size) return upgrade_forward(w, use, try, req, res);
    zk__h2_call *call = NULL;
    int rc = call_open(w, use->upstream, use->origin->h2, try, req, &call);
    if (rc >= 0) rc = exchange(w, try, call, req, res);
    try->may_repeat = rc < 0 && res->state == ZK__RESPONSE_NONE && may_repeat(try, call, req, rc);
    bool was_lost = call && (call->was_not_begun || (call->is_reused && rc == ZK_E_CLOSED));
    try->is_stale = try->may_repeat && (!call || was_lost);
    zk__h2_call_free(call);
    return rc;
}
