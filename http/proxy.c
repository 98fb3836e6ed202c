/*
 * The proxy: its configuration, and a request from its arrival to the log.
 */
#include "http/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/dial.h"
#include "http/shard.h"
#include "http/upgrade.h"

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
    o->breaker_requests_min = number(o->breaker_requests_min, 20);
    o->breaker_window_ms = number(o->breaker_window_ms, 10000);
    o->breaker_open_ms = number(o->breaker_open_ms, 5000);
    o->breaker_trials = number(o->breaker_trials, 3);
    o->breaker_status_min = number(o->breaker_status_min, 500);
    o->resolve_retry_ms = number(o->resolve_retry_ms, 5000);
    o->health_interval_ms = number(o->health_interval_ms, 2000);
    o->health_timeout_ms = number(o->health_timeout_ms, 2000);
    o->health_threshold = number(o->health_threshold, 2);
}

static int numbers_check(const zk_proxy_options *o)
{
    if (o->breaker_percent < 0 || o->breaker_percent > 100) {
        return zk_fail(ZK_E_CONFIG, "breaker_percent is 0 to 100");
    }
    if (o->breaker_requests_min < 1 || o->breaker_trials < 1 || o->breaker_open_ms < 1 ||
        o->breaker_window_ms < 8) {
        return zk_fail(ZK_E_CONFIG, "the breaker's numbers are positive, its window 8 ms or more");
    }
    if (o->hedge_percentile < 0 || o->hedge_percentile > 99) {
        return zk_fail(ZK_E_CONFIG, "hedge_percentile is 0 to 99");
    }
    if (o->proxy_protocol < 0 || o->proxy_protocol > 2) {
        return zk_fail(ZK_E_CONFIG, "there are versions 1 and 2 of the PROXY protocol");
    }
    return 0;
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
        p->via_values[i] = strdup(value);
    }
    p->via = strdup(via);
    p->upgrade = strdup(o->upgrade ? o->upgrade : "websocket");
    if (o->hash_header) p->hash_header = strdup(o->hash_header);
    if (o->health_path) p->health_path = strdup(o->health_path);
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
    pthread_mutex_init(&p->lock, NULL);
    p->options = *options;
    complete(&p->options);
    p->has_breaker =
        options->breaker_percent > 0 || options->active_max > 0 || options->pending_max > 0;
    int rc = zk__client_limits(options->client, &p->limits);
    p->limits.proxy_protocol = options->proxy_protocol;
    if (!rc) rc = numbers_check(&p->options);
    if (!rc) rc = texts_fill(p);
    if (!rc) rc = zk__proxy_connect_init(p, options->connect_allow);
    if (!rc) rc = zk__proxy_names_set(p, options->upstreams);
    p->options.upstreams = NULL;
    p->options.client = options->client;
    if (rc < 0) {
        zk_proxy_free(p);
        return rc;
    }
    *ret_proxy = p;
    return 0;
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
    zk__upstream_set_give(atomic_load(&p->set));
    zk__proxy_names_free(p);
    zk__proxy_connect_done(p);
    free(p->via);
    free(p->upgrade);
    free(p->via_values[0]);
    free(p->via_values[1]);
    free(p->via_values[2]);
    free(p->hash_header);
    free(p->health_path);
    zk__dial_tls_free(p->tls);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- a request ---- */

/* What a failure is to the client; nginx answers the same. */
static int status_of(int rc)
{
    if (rc == ZK_E_HTTP_TIMEOUT || rc == -ETIMEDOUT || rc == ZK_E_TLS_TIMEOUT) return 504;
    if (rc == -EAGAIN || rc == -ENOMEM) return 503;
    return 502;
}

/* Tells what has become of the request to who keeps the log, and counts it. */
static void account(zk__proxy_job *j, const char *reason)
{
    static const char gone[] = "the client has left";
    zk__proxy_worker *w = j->worker;
    zk_time duration = zk_now() - j->began;
    uint64_t us = (uint64_t)(duration / 1000);
    int status = zk_response_status(j->res);
    bool is_gone = j->rc < 0 && !j->res->status;
    int class = is_gone || status < 100 || status > 599 ? 0 : status / 100;
    int bucket = us < 64 ? 0 : 63 - __builtin_clzll(us) - 5;
    if (bucket > ZK__PROXY_BUCKETS) bucket = ZK__PROXY_BUCKETS;
    zk__count(&w->by_class[class], 1);
    zk__count(&w->buckets[bucket], 1);
    zk__count(&w->duration_us, us);
    zk__count(&w->bytes_out, j->res->written);
    const zk_proxy *p = w->proxy;
    if (ZK_LIKELY(!p->options.on_access)) return;
    zk_proxy_access access = {
        .req = j->req,
        .upstream = j->try.use ? j->try.use->upstream->name : NULL,
        .status = is_gone ? 499 : status,
        .rc = j->rc,
        .reason = is_gone     ? gone
                  : j->rc < 0 ? reason
                              : NULL,
        .body_bytes = j->res->written,
        .duration = duration,
        .tries = j->tries,
    };
    p->options.on_access(p->options.context, &access);
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

static int respond_failure(zk__proxy_job *j, int rc, char *reason, size_t reason_size)
{
    const char *trail = zk_trail();
    if (!j->try.use && rc == -EAGAIN) {
        size_t size = (size_t)snprintf(reason, reason_size, "upstream: ");
        zk__proxy_refusal(j->view, reason + size, reason_size - size);
    } else {
        snprintf(reason, reason_size, "upstream %s: %s",
                 j->try.use ? j->try.use->upstream->name : "none",
                 *trail ? trail : zk_strerror(rc));
    }
    if (j->res->state != ZK__RESPONSE_NONE) return rc; /* broken off by the server */
    const zk_server *config = j->req->shard->config;
    if (config->on_error) config->on_error(config->context, j->req, rc, reason);
    j->res->fields = (zk__field_list){NULL, 0, 0};
    return zk_respond_status(j->res, status_of(rc));
}

/* returns whether it has been answered: *ret_rc. */
static bool is_too_much(zk__proxy_job *j, int *ret_rc)
{
    int rc = zk_rate_limit_check(j->worker->proxy->options.rate_limit, j->req, j->res);
    if (!rc) return false;
    j->rc = rc < 0 ? rc : ZK_E_LIMIT;
    account(j, "the client's rate limit");
    *ret_rc = rc < 0 ? rc : 0;
    return true;
}

int zk_proxy_run(zk_proxy *p, zk_request *req, zk_response *res)
{
    zk__proxy_job j = {.worker = zk__proxy_worker_get(p), .req = req, .res = res};
    if (!j.worker) return zk_respond_status(res, 503);
    char reason[512];
    reason[0] = '\0';
    j.began = zk_now();
    int rc;
    if (p->options.rate_limit && is_too_much(&j, &rc)) return rc;
    zk__proxy_budget_earn(j.worker);
    j.try.protocol = protocol_of(p, req);
    body_look(&j.try, req);
    j.key = zk__proxy_key(p, req);
    j.view = zk__proxy_view_take(j.worker);
    bool is_connect = !req->target.path.size;
    rc = ZK_UNLIKELY(is_connect) ? zk__proxy_connect(p, req, res) : zk__proxy_tries(&j);
    j.rc = rc;
    bool is_gone = rc < 0 && (j.try.is_client_gone || res->error || zk_cancelled() < 0);
    if (ZK_UNLIKELY(rc < 0) && !is_gone) rc = respond_failure(&j, rc, reason, sizeof reason);
    account(&j, reason);
    if (j.try.hop) zk__hop_give(j.try.hop);
    zk__proxy_view_give(j.view);
    return rc;
}
