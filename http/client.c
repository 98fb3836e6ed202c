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
    c->has_h2 = ZK__H2 && !o->no_h2;
    if (o->h2c && (!ZK__H2 || o->no_h2)) return zk_fail(ZK_E_CONFIG, "h2c without HTTP/2");
    c->cookies = o->cookies;
    c->redirects_max = span(o->redirects_max, 10);
    return 0;
}

static int tls_new(const zk_client *c, const zk_tls_client *options, zk_tls **ret_tls)
{
    static const char *const both[] = {"h2", "http/1.1", NULL};
    zk_tls_client tls = *options;
    tls.alpn = c->has_h2 ? both : both + 1;
    return zk__dial_tls_new(&tls, ret_tls);
}

/* What secures a connection for that URL; NULL: nothing does. The system's store of certificates
 * takes tens of milliseconds to read, so a client that was given none does that when it first needs
 * it. Any worker may be here. */
static int tls_for(zk_client *c, const zk_url *url, zk_tls **ret_tls)
{
    bool is_secure = url->is_secure && !c->local;
    *ret_tls = is_secure ? __atomic_load_n(&c->tls, __ATOMIC_ACQUIRE) : NULL;
    if (!is_secure || *ret_tls) return 0;
    zk_tls *made;
    int rc = tls_new(c, &(zk_tls_client){0}, &made);
    if (rc < 0) return rc;
    if (__atomic_compare_exchange_n(&c->tls, ret_tls, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        *ret_tls = made;
    } else { /* another worker was quicker: *ret_tls is its */
        zk__dial_tls_free(made);
    }
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
    if (!rc && o->tls) rc = tls_new(c, o->tls, &c->tls);
    if (rc == -EOPNOTSUPP) rc = 0; /* built without: https fails later */
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

int zk__client_origin(zk_client *c, zk__pool *pool, const zk_url *url, const char *connect,
                      const zk__via **ret_via, zk__origin **ret_origin)
{
    zk_tls *tls;
    int rc = tls_for(c, url, &tls);
    if (rc < 0) return rc;
    const zk__via *via = connect ? NULL : zk__via_for(&c->vias, url);
    char address[ZK_URL_AUTHORITY_BYTES];
    zk__url_address(url, address);
    /* Through a proxy plain requests go to that itself, whatever their origin. */
    *ret_via = tls ? NULL : via;
    const char *to = connect ? connect : *ret_via ? via->address : address;
    zk_str at = {to, strlen(to)};
    *ret_origin = c->is_h2c && !tls && !via
                      ? zk__pool_origin_h2c(pool, at)
                      : zk__pool_origin(pool, at, tls, url->host, tls ? via : NULL);
    return *ret_origin ? 0 : -ENOMEM;
}

int zk__client_origin_ws(zk_client *c, zk__pool *pool, const zk_url *url, const char *connect,
                         bool is_http1, zk__origin **ret_origin)
{
    zk_tls *tls;
    int rc = tls_for(c, url, &tls);
    if (rc < 0) return rc;
    const zk__via *via = connect ? NULL : zk__via_for(&c->vias, url);
    char address[ZK_URL_AUTHORITY_BYTES];
    zk__url_address(url, address);
    const char *to = connect ? connect : address;
    zk_str at = {to, strlen(to)};
    *ret_origin = is_http1                    ? zk__pool_origin_http1(pool, at, tls, url->host, via)
                  : !tls && !via && c->is_h2c ? zk__pool_origin_h2c(pool, at)
                                              : zk__pool_origin(pool, at, tls, url->host, via);
    return *ret_origin ? 0 : -ENOMEM;
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
