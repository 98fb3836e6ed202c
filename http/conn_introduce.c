/*
 * What comes on a connection before the first byte of HTTP: who it is from, if a proxy in front
 * says so, and the TLS handshake. A task of the connection does both, in the phase SHAKING, within
 * a scope that ends it when the server stops.
 *
 * The header of the PROXY protocol is read to its last byte and not further: what follows is TLS's,
 * which reads from the stream by itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/task.h"
#include "http/h1_conn.h"
#include "http/h2_conn.h"
#include "http/secure.h"
#include "net/network.h"
#include "net/proxy_header.h"
#include "net/socket.h"

/* ---- the header of the PROXY protocol ---- */

/* Whether the peer is one of those who begin with a header; nobody else is believed. returns 1 or
 * 0; an error: it has gone already, as checks do that end with a reset, and nobody knows. */
static int is_announced(const zk__shard *shard, const zk_stream *stream)
{
    zk_addr peer;
    int rc = zk_stream_peer(stream, &peer);
    for (int i = 0; i < shard->announcer_count && !rc; i++)
        rc = zk__network_has(&shard->announcers[i], &peer);
    return rc;
}

static int header_read(zk_stream *stream, zk__proxy_header *header)
{
    char data[ZK__PROXY_HEADER_BYTES_MAX];
    for (size_t size = 0;;) {
        size_t wanted = 0;
        ptrdiff_t whole = zk__proxy_header_parse(data, size, &wanted, header);
        if (whole) return whole < 0 ? (int)whole : 0;
        ssize_t n = zk_stream_read(stream, data + size, wanted);
        if (n <= 0) return n < 0 ? (int)n : size ? ZK_E_PROXY_HEADER : ZK_E_CLOSED;
        size += (size_t)n;
    }
}

/* A connection that ends without a byte is a check of whether somebody listens. */
static void header_report(const zk__conn *c, int rc)
{
    char text[200], peer[ZK_ADDR_TEXT_BYTES] = "?";
    const zk_server *config = c->shard->config;
    zk_addr addr;
    if (rc == ZK_E_CLOSED || rc == -ECANCELED || !config->on_error) return;
    if (zk_stream_peer(c->stream, &addr) >= 0) zk_addr_format(&addr, peer);
    snprintf(text, sizeof text, "the header of the PROXY protocol from %s: %s", peer,
             rc == ZK_E_HTTP_TIMEOUT ? "it did not arrive in time" : zk_strerror(rc));
    config->on_error(config->context, NULL, rc, text);
}

static int header_take(zk__conn *c)
{
    int timeout_ms = c->shard->config->header_timeout_ms;
    zk__proxy_header header;
    int rc = is_announced(c->shard, c->stream);
    if (rc <= 0) return rc;
    {
        zk_scope wait __attribute__((cleanup(zk__scope_leave)));
        zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
        rc = header_read(c->stream, &header);
        if (rc == -ETIMEDOUT && !wait.parent->reason) rc = ZK_E_HTTP_TIMEOUT;
    }
    if (rc < 0) {
        header_report(c, rc);
    } else if (!header.is_own) {
        zk__socket_stream_set_peer(c->stream, &header.from);
    }
    return rc;
}

/* ---- TLS ---- */

/* Who speaks HTTP where TLS is expected is told so. */
static void conn_explain(zk__conn *c)
{
    static const char page[] = "This port is for HTTPS.\n";
    char text[512];
    zk_str common = zk__shard_common(c->shard);
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 400 Bad Request\r\n%.*sContent-Length: %zu\r\n"
                        "Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
                        (int)common.size, common.data, sizeof page - 1, page);
    zk__conn_resume(c, zk_stream_try_write(c->stream, text, (size_t)size) == size, false);
}

/* ---- both ---- */

bool zk__conn_introduce(zk__conn *c)
{
    zk__shard *shard = c->shard;
    int rc = 0;
    c->has_begun = true;
    c->phase = ZK__CONN_SHAKING;
    if (shard->is_draining) zk__conn_deadline(c, zk_now() + zk__last_shake_time);
    ZK_SCOPE(shaking) {
        c->shaking = &shaking;
        if (shard->announcer_count) rc = header_take(c);
        if (rc >= 0 && shard->tls) {
            c->is_secured = true;
            rc = zk__tls_secure(shard->tls, &c->stream);
        }
    }
    c->shaking = NULL;
    c->phase = ZK__CONN_IDLE;
    c->deadline = INT64_MAX;
    if (rc == 0) return true;
    if (rc > 0) {
        c->phase = ZK__CONN_H2;
        rc = zk__h2_conn_start(c, NULL, 0);
    }
    if (rc >= 0) return false;
    zk__trail_drop(zk__lane.current); /* the client knows; others do not care */
    if (rc == ZK_E_TLS_NOT_TLS) {
        conn_explain(c);
    } else {
        zk__conn_close(c);
    }
    return false;
}
