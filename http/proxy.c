/*
 * The proxy: its configuration, its parts on the workers, and a request's way through its tries.
 */
#include "http/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/dial.h"
#include "http/shard.h"
#include "http/upgrade.h"

enum { RETRY_TOKENS_MAX = 100 };

/* ---- making one ---- */

static int number(int given, int otherwise) { return given ? given : otherwise; }

static void complete(zk_proxy_options *o)
{
    o->tunnel_timeout_ms = number(o->tunnel_timeout_ms, 600000);
    o->tries_max = number(o->tries_max, 3);
    o->retry_percent_max = number(o->retry_percent_max, 20);
    o->failures_max = number(o->failures_max, 3);
    o->ejection_ms = number(o->ejection_ms, 5000);
    o->ejection_max_ms = number(o->ejection_max_ms, 300000);
    o->health_interval_ms = number(o->health_interval_ms, 2000);
    o->health_timeout_ms = number(o->health_timeout_ms, 2000);
    o->health_threshold = number(o->health_threshold, 2);
}

static char *copy(const char *text, size_t size)
{
    char *own = malloc(size + 1);
    if (!own) return NULL;
    memcpy(own, text, size);
    own[size] = '\0';
    return own;
}

static uint64_t hash_of(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

/* "http://host:port", "https://host", "h2c://host:port", "host:port", "unix:/path" */
static int upstream_fill(zk__upstream *u, const zk_upstream *given)
{
    const char *text = given->address;
    char url_text[1024], address[ZK_URL_AUTHORITY_BYTES + 8], authority[ZK_URL_AUTHORITY_BYTES];
    u->weight = number(given->weight, 1);
    if (u->weight < 1 || u->weight > 100) return zk_fail(ZK_E_CONFIG, "weights are 1 to 100");
    u->hash = hash_of(text);
    u->name = copy(text, strlen(text));
    if (!strncmp(text, "unix:", 5)) {
        zk_addr addr;
        int rc = zk_addr_parse(text, &addr);
        if (rc < 0) return rc;
        u->address = copy(text, strlen(text));
        u->host = copy("localhost", 9);
        u->authority = copy("localhost", 9);
    } else {
        u->is_h2c = !strncmp(text, "h2c://", 6);
        if (u->is_h2c && !ZK__H2) return zk_fail(ZK_E_CONFIG, "h2c without HTTP/2");
        if (u->is_h2c) text += 6;
        bool is_url = strstr(text, "://") != NULL;
        int n = snprintf(url_text, sizeof url_text, "%s%s", is_url ? "" : "http://", text);
        if (n < 0 || (size_t)n >= sizeof url_text) return ZK_E_HTTP_URL;
        zk_url url;
        int rc = zk_url_parse((zk_str){url_text, (size_t)n}, &url);
        if (rc < 0) return zk_fail(rc, "upstream \"%.200s\"", text);
        if (url.user_info.data || url.query.data || url.path.size > 1 ||
            url.scheme.data[0] != 'h') {
            return zk_fail(ZK_E_CONFIG, "upstream \"%.200s\": only scheme, host and port", text);
        }
        snprintf(address, sizeof address, url.is_ipv6 ? "[%.*s]:%u" : "%.*s:%u", (int)url.host.size,
                 url.host.data, url.port);
        size_t size = zk_url_authority(&url, authority);
        u->is_secure = url.is_secure;
        u->address = copy(address, strlen(address));
        u->host = copy(url.host.data, url.host.size);
        u->authority = copy(authority, size);
    }
    return u->name && u->address && u->host && u->authority ? 0 : -ENOMEM;
}

static int upstreams_fill(zk_proxy *p)
{
    const zk_upstream *given = p->options.upstreams;
    while (given && given[p->count].address)
        p->count++;
    if (!p->count && p->connect_allow) return 0;
    if (p->count < 1 || p->count > ZK__UPSTREAMS_MAX) {
        return zk_fail(ZK_E_CONFIG, "a proxy needs 1 to %d upstreams", ZK__UPSTREAMS_MAX);
    }
    p->upstreams = calloc((size_t)p->count, sizeof *p->upstreams);
    if (!p->upstreams) return -ENOMEM;
    bool wants_tls = false;
    for (int i = 0; i < p->count; i++) {
        int rc = upstream_fill(&p->upstreams[i], &given[i]);
        if (rc < 0) return rc;
        if (p->upstreams[i].is_h2c && p->options.proxy_protocol) {
            return zk_fail(ZK_E_CONFIG, "the PROXY protocol names one client, h2c is for many");
        }
        wants_tls = wants_tls || p->upstreams[i].is_secure;
    }
    if (!wants_tls) return 0;
    const zk_client_options *c = p->options.client;
    zk_tls_client tls = c && c->tls ? *c->tls : (zk_tls_client){0};
    static const char *const both[] = {"h2", "http/1.1", NULL};
    bool has_h2 = ZK__H2 && !(c && c->no_h2) && !p->options.proxy_protocol;
    tls.alpn = has_h2 ? both : both + 1;
    return zk__dial_tls_new(&tls, &p->tls);
}

static int texts_fill(zk_proxy *p)
{
    const zk_proxy_options *o = &p->options;
    const char *via = o->via ? o->via : "zokio";
    if (*via && !zk__h1_is_token((zk_str){via, strlen(via)})) {
        return zk_fail(ZK_E_CONFIG, "the name in Via is no token");
    }
    char value[256];
    static const char *const versions[] = {"1.0", "1.1", "2.0"};
    for (int i = 0; i < 3; i++) {
        snprintf(value, sizeof value, "%s %.200s", versions[i], via);
        p->via_values[i] = copy(value, strlen(value));
    }
    p->via = copy(via, strlen(via));
    p->upgrade =
        copy(o->upgrade ? o->upgrade : "websocket", strlen(o->upgrade ? o->upgrade : "websocket"));
    if (o->hash_header) p->hash_header = copy(o->hash_header, strlen(o->hash_header));
    if (o->health_path) p->health_path = copy(o->health_path, strlen(o->health_path));
    if (p->health_path && *p->health_path != '/') {
        return zk_fail(ZK_E_CONFIG, "health_path does not begin with '/'");
    }
    bool is_whole = p->via && p->upgrade && p->via_values[0] && p->via_values[1] &&
                    p->via_values[2] && !p->hash_header == !o->hash_header &&
                    !p->health_path == !o->health_path;
    return is_whole ? 0 : -ENOMEM;
}

int zk_proxy_new(const zk_proxy_options *options, zk_proxy **ret_proxy)
{
    zk_proxy *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    p->options = *options;
    complete(&p->options);
    int rc = zk__client_limits(options->client, &p->limits);
    p->limits.proxy_protocol = options->proxy_protocol;
    if (!rc && (options->proxy_protocol < 0 || options->proxy_protocol > 2)) {
        rc = zk_fail(ZK_E_CONFIG, "there are versions 1 and 2 of the PROXY protocol");
    }
    if (!rc) rc = texts_fill(p);
    if (!rc) rc = zk__proxy_connect_init(p, options->connect_allow);
    if (!rc) rc = upstreams_fill(p);
    p->options.upstreams = NULL;
    p->options.client = options->client;
    if (rc < 0) {
        zk_proxy_free(p);
        return rc;
    }
    *ret_proxy = p;
    return 0;
}

/* ---- a worker's part ---- */

static void worker_free(void *context)
{
    zk__proxy_worker *w = context;
    while (w->big_count)
        zk_free(w->big[--w->big_count]);
    if (w->proxy) atomic_store(&w->proxy->workers[zk_worker_index()], NULL);
    zk_free(w);
}

static zk__proxy_worker *worker_new(zk_proxy *p)
{
    zk__proxy_worker *w = zk_alloc_zeroed(sizeof *w + (size_t)p->count * sizeof *w->uses);
    zk__pool *pool = w ? zk__pool_new(&p->limits) : NULL;
    if (!pool) {
        zk_free(w);
        return NULL;
    }
    w->proxy = p;
    w->pool = pool;
    w->retry_tokens = RETRY_TOKENS_MAX / 10;
    pool->owner = w;
    pool->owner_free = worker_free;
    for (int i = 0; i < p->count; i++) {
        const zk__upstream *u = &p->upstreams[i];
        zk_str address = {u->address, strlen(u->address)}, host = {u->host, strlen(u->host)};
        zk_tls *tls = u->is_secure ? p->tls : NULL;
        w->uses[i].origin = u->is_h2c ? zk__pool_origin_h2c(pool, address)
                                      : zk__pool_origin(pool, address, tls, host, NULL);
        if (!w->uses[i].origin) {
            zk__pool_free(pool);
            return NULL;
        }
        w->uses[i].origin->is_kept = true;
    }
    return w;
}

zk__proxy_worker *zk__proxy_worker_get(zk_proxy *p)
{
    int index = zk_worker_index();
    if (index < 0 || index >= ZK__PROXY_WORKERS_MAX) return NULL;
    zk__proxy_worker *w = atomic_load_explicit(&p->workers[index], memory_order_relaxed);
    if (ZK_UNLIKELY(!w)) {
        w = worker_new(p);
        atomic_store_explicit(&p->workers[index], w, memory_order_release);
    }
    return w;
}

void zk_proxy_free(zk_proxy *p)
{
    if (!p) return;
    for (int i = 0; i < ZK__PROXY_WORKERS_MAX; i++) {
        zk__proxy_worker *w = atomic_load(&p->workers[i]);
        if (!w) continue;
        atomic_store(&p->workers[i], NULL);
        w->proxy = NULL;
        zk__pool_free_on(w->pool, i);
    }
    for (int i = 0; p->upstreams && i < p->count; i++) {
        free(p->upstreams[i].name);
        free(p->upstreams[i].address);
        free(p->upstreams[i].host);
        free(p->upstreams[i].authority);
    }
    free(p->upstreams);
    zk__proxy_connect_done(p);
    free(p->via);
    free(p->upgrade);
    free(p->via_values[0]);
    free(p->via_values[1]);
    free(p->via_values[2]);
    free(p->hash_header);
    free(p->health_path);
    zk__dial_tls_free(p->tls);
    free(p);
}

/* ---- a request ---- */

typedef struct run {
    zk__proxy_worker *w;
    zk_request *req;
    zk_response *res;
    zk__proxy_try try;
    zk_time began;
    int index; /* the upstream; -1: none */
    int tries, rc;
} run;

/* What a failure is to the client; nginx answers the same. */
static int status_of(int rc)
{
    if (rc == ZK_E_HTTP_TIMEOUT || rc == -ETIMEDOUT || rc == ZK_E_TLS_TIMEOUT) return 504;
    if (rc == -EAGAIN || rc == -ENOMEM) return 503;
    return 502;
}

/* The share of requests that may be tried again: so that retries cannot bring down what is weak. */
static bool retry_allowed(zk__proxy_worker *w)
{
    if (w->proxy->options.retry_percent_max < 0) return true;
    if (w->retry_tokens < 1) return false;
    w->retry_tokens -= 1;
    return true;
}

/* Tells what has become of the request to who keeps the log, and counts it. */
static void account(run *r, const char *reason)
{
    static const char gone[] = "the client has left";
    zk__proxy_worker *w = r->w;
    zk_time duration = zk_now() - r->began;
    uint64_t us = (uint64_t)(duration / 1000);
    int status = zk_response_status(r->res);
    bool is_gone = r->rc < 0 && !r->res->status;
    int class = is_gone || status < 100 || status > 599 ? 0 : status / 100;
    int bucket = us < 64 ? 0 : 63 - __builtin_clzll(us) - 5;
    if (bucket > ZK__PROXY_BUCKETS) bucket = ZK__PROXY_BUCKETS;
    zk__count(&w->by_class[class], 1);
    zk__count(&w->buckets[bucket], 1);
    zk__count(&w->duration_us, us);
    zk__count(&w->bytes_out, r->res->written);
    const zk_proxy *p = w->proxy;
    if (ZK_LIKELY(!p->options.on_access)) return;
    zk_proxy_access access = {
        .req = r->req,
        .upstream = r->index >= 0 ? p->upstreams[r->index].name : NULL,
        .status = is_gone ? 499 : status,
        .rc = r->rc,
        .reason = is_gone     ? gone
                  : r->rc < 0 ? reason
                              : NULL,
        .body_bytes = r->res->written,
        .duration = duration,
        .tries = r->tries,
    };
    p->options.on_access(p->options.context, &access);
}

/* Tries upstreams until one has answered or no more are to be tried. returns 0, or the last
 * error. */
static int try_all(run *r, uint64_t key)
{
    zk__proxy_worker *w = r->w;
    const zk_proxy_options *o = &w->proxy->options;
    uint64_t tried[4] = {0, 0, 0, 0};
    int rc = -EAGAIN;
    for (;;) {
        int index = zk__proxy_pick(w, key, tried);
        if (index < 0) return rc;
        r->index = index;
        tried[index / 64] |= 1ull << (index % 64);
        zk__upstream_use *use = &w->uses[index];
        use->active++;
        w->active++;
        r->tries++;
        zk__count(&use->requests, 1);
        rc = zk__proxy_forward(w, index, &r->try, r->req, r->res);
        use->active--;
        w->active--;
        if (ZK_LIKELY(rc >= 0)) return 0;
        /* Who has left, or was sent half an answer, is no sign of a sick upstream. */
        bool is_ours = r->try.is_client_gone || r->res->error || zk_cancelled() < 0;
        if (is_ours) return rc;
        zk__count(&use->failures, 1);
        zk__proxy_note(w->proxy, index, rc);
        bool goes_on = r->try.may_repeat && r->tries < o->tries_max && retry_allowed(w);
        if (!goes_on) return rc;
        if (r->try.hop) zk__hop_give(r->try.hop);
        r->try.hop = NULL;
        zk__count(&w->retries, 1);
    }
}

/* The body, if it has come with the head: then the request can be repeated. */
static void body_look(zk__proxy_try *try, zk_request *req)
{
    try->body = (zk_str){NULL, 0};
    try->has_whole_body = try->protocol.size || req->is_body_done || !req->body_length ||
                          (req->body_length > 0 && req->transport->body_view(req, &try->body));
}

/*
 * The protocol that the request asks to go on with, if it may: a body behind it would be of two
 * minds (is it the request's or the protocol's?), and h2c would let a client past all that looks at
 * requests here.
 */
static zk_str protocol_of(const zk_proxy *p, const zk_request *req)
{
    zk_str protocol = zk__exchange_protocol(req);
    const char *allowed = p->upgrade;
    bool is_allowed = zk__name_equal(protocol, allowed, strlen(allowed)) ||
                      (!strcmp(allowed, "*") && !zk__name_equal(protocol, "h2c", 3));
    /* Over HTTP/2 there is no length, and all that comes is the tunnel's. */
    bool has_body = req->version != 20 && (req->body_length != 0 || !req->is_body_done);
    return is_allowed && !has_body ? protocol : (zk_str){"", 0};
}

static int respond_failure(run *r, int rc, char *reason, size_t reason_size)
{
    const char *trail = zk_trail();
    const char *upstream = r->index >= 0 ? r->w->proxy->upstreams[r->index].name : "none";
    snprintf(reason, reason_size, "upstream %s: %s", upstream,
             rc == -EAGAIN && r->index < 0 ? "none is available"
             : *trail                      ? trail
                                           : zk_strerror(rc));
    if (r->res->state != ZK__RESPONSE_NONE) return rc; /* broken off by the server */
    const zk_server *config = r->req->shard->config;
    if (config->on_error) config->on_error(config->context, r->req, rc, reason);
    r->res->fields = (zk__field_list){NULL, 0, 0};
    return zk_respond_status(r->res, status_of(rc));
}

int zk_proxy_run(zk_proxy *p, zk_request *req, zk_response *res)
{
    run r = {.w = zk__proxy_worker_get(p), .req = req, .res = res, .index = -1};
    if (!r.w) return zk_respond_status(res, 503);
    char reason[512];
    reason[0] = '\0';
    r.began = zk_now();
    double share = p->options.retry_percent_max / 100.0;
    if (r.w->retry_tokens < RETRY_TOKENS_MAX) r.w->retry_tokens += share;
    r.try.protocol = protocol_of(p, req);
    body_look(&r.try, req);
    bool is_connect = !req->target.path.size;
    r.rc = ZK_UNLIKELY(is_connect) ? zk__proxy_connect(p, req, res)
                                   : try_all(&r, zk__proxy_key(p, req));
    int rc = r.rc;
    bool is_gone = rc < 0 && (r.try.is_client_gone || res->error || zk_cancelled() < 0);
    if (ZK_UNLIKELY(rc < 0) && !is_gone) rc = respond_failure(&r, rc, reason, sizeof reason);
    account(&r, reason);
    if (r.try.hop) zk__hop_give(r.try.hop);
    return rc;
}
