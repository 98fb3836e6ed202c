/*
 * Leaving HTTP/1.1: see upgrade.h. What HTTP/2 does is in h2_tunnel.c.
 */
#include "http/upgrade.h"

#include <errno.h>

#include "http/h1_conn.h"
#include "http/h2_tunnel.h"
#include "net/stream.h"

zk_str zk__h1_protocol(const zk_request *req)
{
    const zk__session *x = zk__session_of((zk_request *)(uintptr_t)req);
    /* CONNECT looks like one, and asks for something else. */
    if (!x->is_upgrade || x->minor == 0 || !req->target.path.size) return ZK_STR("");
    return zk_request_header(req, "Upgrade");
}

int zk__h1_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade,
                   zk__upgrade_ahead *ret_ahead)
{
    zk__session *x = zk__session_of(res->req);
    zk__conn *c = x->conn;
    if (!res->req->is_body_done) {
        res->state = ZK__RESPONSE_NONE;
        return ZK_E_HTTP_STATE;
    }
    res->status = protocol.size ? 101 : 200;
    int rc = zk__h1_put_switching(res, protocol);
    if (!rc) rc = zk__h1_send_put_off(x);
    if (rc < 0) return rc;
    /* From now on nothing of HTTP looks at the connection. */
    zk__batch_hand_over(x);
    x->stack->on_leave = NULL;
    zk_stream_on_hangup(c->stream, NULL, NULL);
    c->phase = ZK__CONN_OTHER;
    c->deadline = INT64_MAX;
    c->upgrade = upgrade;
    upgrade->conn = c;
    upgrade->stream = c->stream;
    *ret_ahead = (zk__upgrade_ahead){
        .unsent = {x->out, x->out_size},
        .received = {x->in + x->in_begin, x->in_end - x->in_begin},
    };
    x->out_size = 0;
    x->in_begin = x->in_end;
    return 0;
}

zk_scope *zk__upgrade_scope(const zk__upgrade *upgrade)
{
#if ZK__H2
    if (!upgrade->conn) return zk__h2_upgrade_scope(upgrade);
#endif
    return upgrade->conn->shard->scope;
}

void zk__upgrade_end(zk__upgrade *upgrade, enum zk__upgrade_end how)
{
#if ZK__H2
    if (!upgrade->conn) {
        zk__h2_upgrade_end(upgrade, how);
        return;
    }
#endif
    zk__conn_resume(upgrade->conn, how == ZK__UPGRADE_LINGER, how == ZK__UPGRADE_RESET);
}
