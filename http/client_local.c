/*
 * A server without sockets, see client_local.h: a shard of its own, whose connections are the other
 * ends of pairs.
 */
#include "http/client_local.h"

#include <errno.h>

#include "http/h1_conn.h"
#include "http/shard.h"

struct zk__local {
    zk_server config;
    zk__shard shard;
    zk__route_table *routes;
    zk_scope scope; /* of the tasks of its connections */
};

static int routes_compile(zk__local *l)
{
    l->routes = zk__route_table_new();
    if (!l->routes) return -ENOMEM;
    const zk_route *route = l->config.routes;
    for (int i = 0; route[i].pattern; i++) {
        const char *reason = "no handler";
        int rc = route[i].handler
                     ? zk__route_table_add(l->routes, route[i].method, route[i].pattern, i, &reason)
                     : ZK_E_HTTP_ROUTE;
        if (rc < 0) return zk_fail(rc, "route \"%s\": %s", route[i].pattern, reason);
    }
    return 0;
}

int zk__local_new(const zk_server *server, zk__local **ret_local)
{
    zk__local *l = zk_alloc_zeroed(sizeof *l);
    if (!l) return -ENOMEM;
    l->config = *server;
    l->config.tls = NULL;
    int rc = zk__server_complete(&l->config);
    if (!rc) rc = routes_compile(l);
    if (rc < 0) {
        if (l->routes) zk__route_table_free(l->routes);
        zk_free(l);
        return rc;
    }
    zk__scope_root_init(&l->scope, &zk__worker_self()->root, zk__worker_self());
    l->shard.config = &l->config;
    l->shard.routes = l->routes;
    l->shard.scope = &l->scope;
    l->shard.conn_max = UINT32_MAX;
    zk__shard_init(&l->shard);
    *ret_local = l;
    return 0;
}

int zk__local_dial(zk__local *l, zk_stream **ret_stream)
{
    zk_stream *own, *served;
    int rc = zk_stream_pair(&own, &served);
    if (rc < 0) return rc;
    zk__conn_open(&l->shard, served);
    *ret_stream = own;
    return 0;
}

void zk__local_free(zk__local *l)
{
    if (!l) return;
    l->shard.is_draining = true;
    for (zk__conn *c = l->shard.conns, *next; c; c = next) {
        next = c->next;
        zk__conn_abort(c);
    }
    ZK_SHIELD {
        while (l->shard.conn_count || l->scope.live)
            if (zk_yield() < 0) (void)zk__pause(ZK_MS(1)); /* out of memory, for now */
    }
    zk__shard_done(&l->shard);
    zk__scope_unlink(&l->scope);
    zk__route_table_free(l->routes);
    zk_free(l);
}
