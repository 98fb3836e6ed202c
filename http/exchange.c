/*
 * One request from its head to the end of its response: routing, middleware, the handler, and the
 * response that is sent when the handler has none.
 */
#include "http/exchange.h"

#include <errno.h>
#include <string.h>

#include "http/shard.h"
#include "http/upgrade.h"

struct zk_next {
    zk_request *req;
    zk_response *res;
    zk_middleware *const *outer; /* the server's, then */
    zk_middleware *const *inner; /* the route's */
    zk_handler *handler;
};

int zk_next_run(zk_next *next)
{
    zk_next rest = *next;
    zk_middleware *run = NULL;
    if (rest.outer && *rest.outer) {
        run = *rest.outer++;
    } else if (rest.inner && *rest.inner) {
        run = *rest.inner++;
    }
    return run ? run(next->req, next->res, &rest) : rest.handler(next->req, next->res);
}

/* ---- what is answered without a handler ---- */

static int not_found(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_status(res, 404);
}

static bool is_method(const zk_request *req, const char *method)
{
    size_t size = strlen(method);
    return req->method.size == size && !memcmp(req->method.data, method, size);
}

/*
 * OPTIONS of a path, or of "*", the server as a whole; and every method that the path does not have
 * (RFC 9110 sections 9.3.7 and 15.5.6).
 */
static __attribute__((noinline)) int other_method(zk_request *req, zk_response *res)
{
    char allow[256];
    size_t size = zk__route_table_allow(req->shard->routes, req->target.path, allow, sizeof allow);
    int rc = zk_response_header_n(res, "Allow", (zk_str){allow, size});
    if (rc < 0) return rc;
    return is_method(req, "OPTIONS") ? zk_respond(res, 204, NULL, NULL, 0)
                                     : zk_respond_status(res, 405);
}

/* CONNECT has no path: the first route that names the method has it. */
static zk_handler *connect_find(zk_request *req, zk_middleware *const **ret_with)
{
    for (const zk_route *route = req->shard->config->routes; route->handler; route++) {
        if (!route->method || strcmp(route->method, "CONNECT") != 0) continue;
        *ret_with = route->with;
        return route->handler;
    }
    return not_found;
}

static zk_handler *handler_find(zk_request *req, zk_middleware *const **ret_with)
{
    zk_str path = req->target.path;
    if (ZK_UNLIKELY(!path.size)) return connect_find(req, ret_with);
    int index = zk__route_table_match(req->shard->routes, req->method, path, &req->match);
    if (ZK_LIKELY(index >= 0)) {
        const zk_route *route = &req->shard->config->routes[index];
        *ret_with = route->with;
        return route->handler;
    }
    if (path.data[0] == '*') return other_method;
    return req->match.path_exists ? other_method : not_found;
}

/* ---- errors ---- */

static void report(zk_request *req, int rc, const char *what)
{
    const zk_server *config = req->shard->config;
    if (config->on_error) config->on_error(config->context, req, rc, what);
}

int zk__exchange_refuse(zk_request *req, zk_response *res, int rc, const char *why)
{
    report(req, rc, why);
    res->is_bodiless = is_method(req, "HEAD");
    zk_response_close(res);
    return zk_respond_status(res, zk__status_of_error(rc));
}

/* The handler is done; makes one whole response of what it has left. */
static __attribute__((noinline)) int complete(zk_request *req, zk_response *res, int rc)
{
    /* What has become of the client is no fault of the handler's; that it wrote too little is. */
    if (rc < 0 && (!res->error || rc == ZK_E_HTTP_LENGTH)) {
        const char *trail = zk_trail();
        report(req, rc, *trail ? trail : zk_strerror(rc));
    }
    if (res->error) return res->error;
    switch (res->state) {
    case ZK__RESPONSE_ENDED: return 0;
    case ZK__RESPONSE_BEGUN:
        /* Half a response must not look like a whole one. */
        if (rc < 0) return res->error = rc;
        rc = zk_response_end(res);
        if (rc == ZK_E_HTTP_LENGTH) report(req, rc, zk_strerror(rc));
        return rc;
    case ZK__RESPONSE_NONE: break;
    }
    if (rc >= 0) report(req, ZK_E_HTTP_STATE, "the handler has not responded");
    /* Fields that were meant for another response do not belong to an error page. */
    res->fields.count = 0;
    res->content_type = (zk_str){NULL, 0};
    return zk_respond_status(res, rc < 0 ? zk__status_of_error(rc) : 500);
}

zk_str zk__exchange_protocol(const zk_request *req) { return req->transport->protocol(req); }

int zk__exchange_upgrade(zk_response *res, zk_str protocol, zk__upgrade *upgrade,
                         zk__upgrade_ahead *ret_ahead)
{
    zk_request *req = res->req;
    if (res->error) return res->error;
    bool is_connect = !protocol.size && !req->target.path.size && is_method(req, "CONNECT");
    bool is_asked = is_connect || zk__exchange_protocol(req).size;
    if (res->state != ZK__RESPONSE_NONE || !is_asked) return ZK_E_HTTP_STATE;
    res->state = ZK__RESPONSE_ENDED;
    res->length = ZK_LENGTH_UNKNOWN;
    int rc = req->transport->upgrade(res, protocol, upgrade, ret_ahead);
    if (rc == ZK_E_HTTP_STATE) return rc;
    if (rc < 0) return res->error = rc;
    req->upgrade = upgrade;
    return 0;
}

/* What the handler of a connection that is not HTTP's any more has left. */
static __attribute__((noinline)) int upgrade_complete(zk_request *req, int rc)
{
    /* That the client is gone is no fault of the handler's. */
    if (rc < 0 && rc != -ECANCELED && rc != ZK_E_CLOSED) {
        const char *trail = zk_trail();
        report(req, rc, *trail ? trail : zk_strerror(rc));
    }
    req->upgrade_end = (int)req->upgrade->ops->returned(req->upgrade, rc);
    return 0;
}

static __attribute__((noinline)) int run_within(zk_request *req, zk_response *res,
                                                zk_middleware *const *outer,
                                                zk_middleware *const *inner, zk_handler *handler)
{
    return zk_next_run(&(zk_next){req, res, outer, inner, handler});
}

int zk__exchange_run(zk_request *req, zk_response *res)
{
    zk_middleware *const *with = NULL;
    if (ZK_UNLIKELY(is_method(req, "HEAD"))) res->is_bodiless = true;
    zk_handler *handler = handler_find(req, &with);
    zk_middleware *const *server_with = req->shard->config->with;
    int rc;
    if (ZK_LIKELY(!with && !server_with)) {
        rc = handler(req, res);
    } else {
        rc = run_within(req, res, server_with, with, handler);
    }
    if (ZK_UNLIKELY(req->upgrade != NULL)) {
        rc = upgrade_complete(req, rc);
    } else if (ZK_UNLIKELY(rc < 0 || res->state != ZK__RESPONSE_ENDED || res->error)) {
        rc = complete(req, res, rc);
    }
    /* The task goes on with other requests, which a trail would be wrong for. */
    if (ZK_UNLIKELY(zk__lane.current->flags & ZK__TASK_TRAIL)) zk__trail_drop(zk__lane.current);
    return rc < 0 ? rc : 0;
}
