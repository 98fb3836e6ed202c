/*
 * The client's handshake on the connections of a zk_client: over HTTP/2 by extended CONNECT (RFC
 * 8441), beside the client's requests. A server that has HTTP/2, but not that, is connected to
 * again for HTTP/1.1.
 */
#include "http/client.h"
#include "ws/connect.h"

enum { TRIES_MAX = 3 };

static int answer_check(zk__ws_connecting *c, const zk__h1_answer *a)
{
    if (a->status < 200 || a->status > 299) {
        return zk_fail(ZK_E_WS_HANDSHAKE, "status %d", a->status);
    }
    return zk__ws_answer_agree(c, a);
}

/* Asks on a connection. returns 0; 1: to be tried on another; an error. */
static int ask_once(zk__ws_connecting *c, zk__h2_link *link)
{
    const zk__ask ask = {
        .url = *c->url,
        .method = ZK_STR("CONNECT"),
        .protocol = ZK_STR("websocket"),
        .fields = c->fields,
        .field_count = c->field_count,
        .body_length = ZK_LENGTH_UNKNOWN,
        .has_body = true,
        .is_streamed = true,
    };
    zk__h2_call *call;
    int rc = zk__h2_call_open(link, &ask, &call);
    if (rc < 0) return rc == ZK_E_CLOSED ? 1 : rc;
    rc = zk__h2_call_answer(call, -1);
    bool is_worth_another = call->was_not_begun || (call->is_reused && rc == ZK_E_CLOSED);
    if (!rc) rc = answer_check(c, &call->answer);
    if (!rc) rc = zk__h2_call_tunnel(call, &c->stream);
    if (rc < 0) zk__h2_call_free(call);
    return rc < 0 && is_worth_another ? 1 : rc;
}

/* returns 0: c->stream is there; 1: over HTTP/2, and the handshake is over; an error. */
int zk__ws_reach(zk__ws_connecting *c)
{
    zk_client *client = c->options->client;
    zk__pool *pool = zk__client_pool(client);
    if (!pool) return -ENOMEM;
    bool is_http1 = false;
    for (int tries = 0; tries < TRIES_MAX;) {
        zk__hop *hop;
        zk__origin *o;
        int rc = zk__client_origin_ws(client, pool, c->url, c->options->connect, is_http1, &o);
        if (!rc) rc = zk__origin_reach(o, NULL, true, &hop);
        if (rc < 0) return rc == ZK_E_HTTP_TIMEOUT ? ZK_E_WS_TIMEOUT : rc;
        if (hop) {
            c->stream = zk__hop_leave(hop);
            return 0;
        }
        int connects = zk__h2_link_connects(o->h2);
        if (connects == -EAGAIN) {
            rc = zk__h2_link_settings(o->h2);
            if (rc == ZK_E_CLOSED)
                tries++;
            else if (rc < 0)
                return rc;
        } else if (!connects) {
            is_http1 = true;
        } else {
            rc = ask_once(c, o->h2);
            if (rc <= 0) return rc ? rc : 1;
            tries++;
        }
    }
    return ZK_E_CLOSED;
}
