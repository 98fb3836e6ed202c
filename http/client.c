/*
 * Clients: limits with their defaults, and a pool of connections per worker.
 *
 * Pools belong to their workers. Freeing a client frees its pool here and sends word to the other
 * workers; what does not get there before a worker ends is freed with that.
 */
#include "http/client.h"

#include <string.h>

#include "http/dial.h"

enum { HEADER_BYTES_MAX = 1 << 30, HEADER_COUNT_MAX = 1 << 20 };

static uint32_t number(uint32_t given, uint32_t otherwise) { return given ? given : otherwise; }
static int span(int given_ms, int otherwise_ms) { return given_ms ? given_ms : otherwise_ms; }

int zk__client_limits(const zk_client_options *o, zk__hop_limits *ret_limits)
{
    static const zk_client_options defaults;
    if (!o) o = &defaults;
    zk__hop_limits limits = {
        .header_bytes_max = number(o->header_bytes_max, 32 * 1024),
        .header_count_max = number(o->header_count_max, 128),
        .connections_max = number(o->connections_max, 256),
        .idle_max = number(o->idle_connections_max, 64),
        .connect_timeout_ms = span(o->connect_timeout_ms, 10000),
        .answer_timeout_ms = span(o->answer_timeout_ms, 60000),
        .body_timeout_ms = span(o->body_timeout_ms, 30000),
        .write_timeout_ms = span(o->write_timeout_ms, 30000),
        .idle_timeout_ms = span(o->idle_timeout_ms, 60000),
    };
    if (limits.header_bytes_max > HEADER_BYTES_MAX || limits.header_count_max > HEADER_COUNT_MAX) {
        return zk_fail(ZK_E_CONFIG, "limits on headers have a ceiling");
    }
    *ret_limits = limits;
    return 0;
}

static int complete(const zk_client_options *o, zk_client *c)
{
    int rc = zk__client_limits(o, &c->limits);
    if (rc < 0) return rc;
    c->body_bytes_max = o->body_bytes_max ? o->body_bytes_max : 16 * 1024 * 1024;
    c->no_decoding = o->no_decoding;
    c->is_h2c = o->h2c;
    if (o->h2c && (!ZK__H2 || o->no_h2)) return zk_fail(ZK_E_CONFIG, "h2c without HTTP/2");
    c->cookies = o->cookies;
    c->redirects_max = span(o->redirects_max, 10);
    return 0;
}

static int client_new(const zk_client_options *o, zk_client **ret_client)
{
    int workers = zk_worker_count();
    const char *agent = o->user_agent ? o->user_agent : "zokio";
    size_t agent_size = strlen(agent) + 1;
    zk_client *c = zk_alloc_zeroed(sizeof *c + (size_t)workers * sizeof *c->pools + agent_size);
    if (!c) return -ENOMEM;
    c->worker_count = workers;
    c->user_agent = memcpy(&c->pools[workers], agent, agent_size);
    int rc = complete(o, c);
    if (!rc && !(zk__h1_is_field_value((zk_str){agent, agent_size - 1}))) {
        rc = zk_fail(ZK_E_CONFIG, "user_agent is no field value");
    }
    if (!rc) {
        static const char *const both[] = {"h2", "http/1.1", NULL};
        const char *const *alpn = ZK__H2 && !o->no_h2 ? both : both + 1;
        zk_tls_client tls = o->tls ? *o->tls : (zk_tls_client){0};
        tls.alpn = alpn;
        rc = zk__dial_tls_new(&tls, &c->tls);
        if (rc == -EOPNOTSUPP) rc = 0; /* built without: https fails later */
    }
    if (!rc) rc = zk__vias_init(&c->vias, o->server ? "" : o->proxy);
    if (!rc && o->server) rc = zk__local_new(o->server, &c->local);
    if (rc < 0) {
        zk__vias_done(&c->vias);
        zk__dial_tls_free(c->tls);
        zk_free(c);
        return rc;
    }
    *ret_client = c;
    return 0;
}

int zk_client_new(const zk_client_options *options, zk_client **ret_client)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    return client_new(options ? options : &(zk_client_options){0}, ret_client);
}

void zk_client_free(zk_client *c)
{
    if (!c) return;
    for (int i = 0; i < c->worker_count; i++) {
        zk__pool *pool = __atomic_load_n(&c->pools[i], __ATOMIC_ACQUIRE);
        if (pool) zk__pool_free_on(pool, i);
    }
    zk__local_free(c->local);
    zk__vias_done(&c->vias);
    zk__dial_tls_free(c->tls);
    zk_free(c);
}

zk__pool *zk__client_pool(zk_client *c)
{
    zk__pool **at = &c->pools[zk_worker_index()];
    if (*at) return *at;
    zk__pool *pool = zk__pool_new(&c->limits);
    if (pool) pool->local = c->local;
    __atomic_store_n(at, pool, __ATOMIC_RELEASE);
    return pool;
}

zk__origin *zk__client_origin(zk_client *c, zk__pool *pool, const zk_url *url, const char *connect,
                              const zk__via **ret_via)
{
    const zk__via *via = connect ? NULL : zk__via_for(&c->vias, url);
    char address[ZK_URL_AUTHORITY_BYTES];
    zk__url_address(url, address);
    zk_tls *tls = url->is_secure && !c->local ? c->tls : NULL;
    /* Through a proxy plain requests go to that itself, whatever their origin. */
    *ret_via = tls ? NULL : via;
    const char *to = connect ? connect : *ret_via ? via->address : address;
    if (c->is_h2c && !tls && !via) return zk__pool_origin_h2c(pool, (zk_str){to, strlen(to)});
    return zk__pool_origin(pool, (zk_str){to, strlen(to)}, tls, url->host, tls ? via : NULL);
}

zk__origin *zk__client_origin_ws(zk_client *c, zk__pool *pool, const zk_url *url,
                                 const char *connect, bool is_http1)
{
    const zk__via *via = connect ? NULL : zk__via_for(&c->vias, url);
    char address[ZK_URL_AUTHORITY_BYTES];
    zk__url_address(url, address);
    zk_tls *tls = url->is_secure && !c->local ? c->tls : NULL;
    const char *to = connect ? connect : address;
    zk_str at = {to, strlen(to)};
    if (!tls && !via && c->is_h2c && !is_http1) return zk__pool_origin_h2c(pool, at);
    return is_http1 ? zk__pool_origin_http1(pool, at, tls, url->host, via)
                    : zk__pool_origin(pool, at, tls, url->host, via);
}

/* Called when the worker ends, behind its pools. */
static void implicit_free(void *client)
{
    zk_client *c = client;
    zk__vias_done(&c->vias);
    zk__dial_tls_free(c->tls);
    zk_free(c);
}

int zk__client_implicit(zk_client **ret_client)
{
    struct zk__pools *pools = zk__pools_of_worker();
    if (!pools) return -ENOMEM;
    if (!pools->implicit) {
        zk_client *c;
        int rc = zk_client_new(NULL, &c);
        if (rc < 0) return rc;
        pools->implicit = c;
        pools->implicit_free = implicit_free;
    }
    *ret_client = pools->implicit;
    return 0;
}
