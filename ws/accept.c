/*
 * The server's handshake: what is asked for, whether it may be had, and the answer; over HTTP/1.1
 * (RFC 6455 section 4.2) and HTTP/2 (RFC 8441 section 5).
 */
#include <string.h>

#include "ws/connection.h"
#include "ws/handshake.h"

/* Answers a request that does not become a WebSocket. */
static int refuse(zk_response *res, int status, const char *why)
{
    int rc = zk_respond_status(res, status);
    return rc < 0 ? rc : zk_fail(ZK_E_WS_HANDSHAKE, "%s", why);
}

/* The answer to who does not speak the protocol, or another version of it. */
static int refuse_upgrade(zk_request *req, zk_response *res, const char *why)
{
    int rc = zk_response_header(res, "Sec-WebSocket-Version", "13");
    if (rc >= 0 && zk_request_version(req) < 20) {
        rc = zk__response_header(res, "Upgrade", ZK_STR("websocket"));
        if (rc >= 0) rc = zk__response_header(res, "Connection", ZK_STR("Upgrade"));
    }
    return rc < 0 ? rc : refuse(res, 426, why);
}

/* The only field of that name; empty: there is none, or more than one. */
static zk_str single(const zk_request *req, const char *name)
{
    zk_str value = {NULL, 0};
    int count = 0;
    for (size_t i = 0; i < zk_request_header_count(req); i++) {
        zk_field field = zk_request_header_at(req, i);
        if (!zk__name_equal(field.name, name, strlen(name))) continue;
        value = field.value;
        count++;
    }
    return count == 1 ? value : (zk_str){NULL, 0};
}

/* ---- the origin ---- */

static bool is_text(zk_str a, const char *b) { return zk__name_equal(a, b, strlen(b)); }

/* A page's own host: what is behind "://" is what the request was sent to. */
static bool is_same_origin(const zk_request *req, zk_str origin)
{
    zk_str host = zk_request_host(req);
    const char *at = memmem(origin.data, origin.size, "://", 3);
    if (!at) return false;
    zk_str own = {at + 3, origin.size - (size_t)(at + 3 - origin.data)};
    return host.size && zk__name_equal(own, host.data, host.size);
}

static bool origin_is_allowed(const zk_request *req, const zk_ws_options *options)
{
    zk_str origin = zk_request_header(req, "Origin");
    if (!origin.data) return true;
    const char *const *allowed = options ? options->origins : NULL;
    if (!allowed) return is_same_origin(req, origin);
    for (; *allowed; allowed++) {
        if (!strcmp(*allowed, "*") || is_text(origin, *allowed)) return true;
    }
    return false;
}

/* ---- the subprotocol ---- */

/* Whether the client offers it; names are compared as they are (RFC 6455 section 4.1). */
static bool is_offered(const zk_request *req, const char *protocol)
{
    size_t size = strlen(protocol);
    for (size_t i = 0; i < zk_request_header_count(req); i++) {
        zk_field field = zk_request_header_at(req, i);
        zk_str part;
        if (!is_text(field.name, "Sec-WebSocket-Protocol")) continue;
        while (zk__ws_list_next(&field.value, &part)) {
            if (part.size == size && !memcmp(part.data, protocol, size)) return true;
        }
    }
    return false;
}

/* returns 0, -ENOMEM, ZK_E_HTTP_FIELD. */
static int protocol_choose(zk_ws *ws, const zk_request *req, zk_response *res,
                           const char *const *protocols)
{
    for (; protocols && *protocols; protocols++) {
        if (!is_offered(req, *protocols)) continue;
        size_t size = strlen(*protocols);
        ws->protocol = zk_alloc(size + 1);
        if (!ws->protocol) return -ENOMEM;
        memcpy(ws->protocol, *protocols, size + 1);
        return zk_response_header(res, "Sec-WebSocket-Protocol", *protocols);
    }
    return 0;
}

/* ---- compression ---- */

/* returns 0, -ENOMEM. */
static int deflate_choose(zk_ws *ws, const zk_request *req, zk_response *res,
                          const zk_ws_deflate *own)
{
    zk__ws_agreed agreed;
    char answer[ZK__WS_EXTENSION_BYTES];
    for (size_t i = 0; i < zk_request_header_count(req); i++) {
        zk_field field = zk_request_header_at(req, i);
        if (!is_text(field.name, "Sec-WebSocket-Extensions")) continue;
        if (!zk__ws_offer_choose(field.value, own, &agreed, answer)) continue;
        ws->deflate = zk__ws_deflate_new(&agreed, own);
        if (!ws->deflate) return -ENOMEM;
        ws->reader.allows_deflate = true;
        return zk_response_header(res, "Sec-WebSocket-Extensions", answer);
    }
    return 0;
}

/* ---- the connection ---- */

static enum zk__upgrade_end returned(zk__upgrade *upgrade, int rc)
{
    zk_ws *ws = (zk_ws *)(void *)upgrade;
    if (ws->handlers) {
        if (zk__ws_park_begin(ws, rc)) return ZK__UPGRADE_KEEP;
    } else if (zk_cancelled()) {
        /* The server's time is over: said, but not waited for. */
        if (!ws->error && !ws->is_close_sent) (void)zk__ws_put_close(ws, 1001, NULL, 0);
        zk__ws_flush_now(ws);
    } else {
        (void)zk__ws_finish(ws, rc < 0 ? 1011 : 1000, NULL, 0);
    }
    enum zk__upgrade_end how = zk__ws_end(ws);
    zk__ws_free(ws);
    return how;
}

static void drain(zk__upgrade *upgrade)
{
    zk_ws *ws = (zk_ws *)(void *)upgrade;
    if (ws->error || ws->is_close_sent) return;
    int rc = zk__ws_put_close(ws, 1001, NULL, 0);
    if (rc < 0) zk__ws_break(ws, rc);
}

static void park_abort(zk__upgrade *upgrade) { zk__ws_park_abort((zk_ws *)(void *)upgrade); }

static const struct zk__upgrade_ops upgrade_ops = {
    .returned = returned,
    .drain = drain,
    .abort = park_abort,
};

static int accept_fields(zk_ws *ws, zk_request *req, zk_response *res, zk_str key,
                         const zk_ws_options *options)
{
    if (zk_request_version(req) < 20) {
        char accept[ZK__WS_ACCEPT_BYTES];
        zk__ws_accept_key(key.data, accept);
        zk_str value = {accept, sizeof accept};
        int rc = zk_response_header_n(res, "Sec-WebSocket-Accept", value);
        if (rc < 0) return rc;
    }
    if (options && options->deflate) {
        int rc = deflate_choose(ws, req, res, options->deflate);
        if (rc < 0) return rc;
    }
    return protocol_choose(ws, req, res, options ? options->protocols : NULL);
}

int zk_ws_accept(zk_request *req, zk_response *res, const zk_ws_options *options, zk_ws **ret_ws)
{
    bool is_http1 = zk_request_version(req) < 20;
    zk_str key = single(req, "Sec-WebSocket-Key");
    if (!is_text(zk_request_method(req), "GET")) return refuse(res, 405, "not a GET");
    if (!zk__ws_list_has(zk__exchange_protocol(req), "websocket")) {
        return refuse_upgrade(req, res, "no WebSocket is asked for");
    }
    if (!is_text(single(req, "Sec-WebSocket-Version"), "13")) {
        return refuse_upgrade(req, res, "another version of WebSocket");
    }
    if (is_http1 && !zk__ws_key_is_valid(key)) return refuse(res, 400, "not a valid key");
    if (is_http1 && zk_body_length(req) != 0) return refuse(res, 400, "a body");
    if (!origin_is_allowed(req, options)) return refuse(res, 403, "the origin is not allowed");
    if (options && options->deflate && !ZK__ZLIB) return ZK_E_WS_DEFLATE;
    zk_ws *ws = zk__ws_new(options, false);
    if (!ws) return -ENOMEM;
    ws->upgrade.ops = &upgrade_ops;
    zk__upgrade_ahead ahead;
    int rc = accept_fields(ws, req, res, key, options);
    if (rc >= 0) rc = zk__exchange_upgrade(res, ZK_STR("websocket"), &ws->upgrade, &ahead);
    if (rc < 0) {
        zk__ws_free(ws);
        return rc;
    }
    zk__ws_open(ws);
    rc = zk__ws_put_head(ws, ahead.unsent);
    if (rc >= 0) rc = zk__ws_receive_ahead(ws, ahead.received.data, ahead.received.size);
    if (rc < 0) zk__ws_break(ws, rc); /* the handler is told when it receives */
    *ret_ws = ws;
    return 0;
}
