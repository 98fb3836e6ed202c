/*
 * What a proxy tells about itself: lines of an access log, and figures for Prometheus.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http/proxy.h"

/* ---- access logs ---- */

typedef struct line {
    char *text;
    size_t size, at;
} line;

static void put_char(line *l, char c)
{
    if (l->at + 1 < l->size) l->text[l->at++] = c;
}

static void put_text(line *l, const char *text)
{
    while (*text)
        put_char(l, *text++);
}

static void ZK_PRINTF(2, 3) put_format(line *l, const char *format, ...)
{
    char text[64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_text(l, text);
}

/* What clients sent may hold anything: quotes and control bytes must not end or forge a line. */
static void put_escaped(line *l, zk_str s, bool is_json)
{
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c == '"' || c == '\\') {
            put_char(l, '\\');
            put_char(l, (char)c);
        } else if (c < ' ' || c == 0x7f || (c >= 0x80 && is_json)) {
            put_format(l, is_json ? "\\u%04x" : "\\x%02x", c);
        } else {
            put_char(l, (char)c);
        }
    }
}

static void put_peer(line *l, const zk_request *req)
{
    zk_addr addr;
    char text[ZK_ADDR_TEXT_BYTES];
    if (zk_request_peer(req, &addr) < 0) {
        put_char(l, '-');
        return;
    }
    zk_addr_format(&addr, text);
    char *colon = strrchr(text, ':');
    if (colon && addr.sa.sa_family != AF_UNIX) *colon = '\0';
    put_text(l, text);
}

static const char *version_of(const zk_request *req)
{
    return req->version == 20 ? "2.0" : req->version == 10 ? "1.0" : "1.1";
}

static size_t finish(line *l)
{
    if (l->size) l->text[l->at] = '\0';
    return l->at;
}

static void put_common(line *l, const zk_proxy_access *a)
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    put_peer(l, a->req);
    put_format(l, " - - [%02d/%.3s/%04d:%02d:%02d:%02d +0000] \"", tm.tm_mday,
               months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    put_escaped(l, a->req->method, false);
    put_char(l, ' ');
    put_escaped(l, a->req->raw_target, false);
    put_format(l, " HTTP/%s\" %d %llu", version_of(a->req), a->status,
               (unsigned long long)a->body_bytes);
}

size_t zk_proxy_log_common(const zk_proxy_access *a, char *text, size_t size)
{
    line l = {text, size, 0};
    put_common(&l, a);
    return finish(&l);
}

size_t zk_proxy_log_line(const zk_proxy_access *a, char *text, size_t size)
{
    line l = {text, size, 0};
    put_common(&l, a);
    put_text(&l, " \"");
    put_escaped(&l, zk_request_header(a->req, "referer"), false);
    put_text(&l, "\" \"");
    put_escaped(&l, zk_request_header(a->req, "user-agent"), false);
    put_text(&l, "\" ");
    put_text(&l, a->upstream ? a->upstream : "-");
    put_format(&l, " %lld.%06llds %d", (long long)(a->duration / ZK_SEC(1)),
               (long long)(a->duration % ZK_SEC(1) / 1000), a->tries);
    if (a->reason && *a->reason) {
        put_text(&l, " \"");
        put_escaped(&l, (zk_str){a->reason, strlen(a->reason)}, false);
        put_char(&l, '"');
    }
    return finish(&l);
}

static void put_json(line *l, const char *name, zk_str value)
{
    put_format(l, ",\"%s\":\"", name);
    put_escaped(l, value, true);
    put_char(l, '"');
}

size_t zk_proxy_log_json(const zk_proxy_access *a, char *text, size_t size)
{
    line l = {text, size, 0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    put_format(&l, "{\"time\":%lld.%03ld,\"client\":\"", (long long)now.tv_sec,
               now.tv_nsec / 1000000);
    put_peer(&l, a->req);
    put_char(&l, '"');
    put_json(&l, "method", a->req->method);
    put_json(&l, "target", a->req->raw_target);
    put_json(&l, "host", a->req->host);
    put_format(&l, ",\"version\":\"%s\",\"status\":%d", version_of(a->req), a->status);
    put_format(&l, ",\"bytes\":%llu,\"seconds\":%lld.%06lld,\"tries\":%d",
               (unsigned long long)a->body_bytes, (long long)(a->duration / ZK_SEC(1)),
               (long long)(a->duration % ZK_SEC(1) / 1000), a->tries);
    if (a->upstream) put_json(&l, "upstream", (zk_str){a->upstream, strlen(a->upstream)});
    if (a->reason && *a->reason) put_json(&l, "error", (zk_str){a->reason, strlen(a->reason)});
    zk_str agent = zk_request_header(a->req, "user-agent");
    if (agent.data) put_json(&l, "agent", agent);
    put_char(&l, '}');
    return finish(&l);
}

/* ---- figures ---- */

/* A counter of any worker. */
static uint64_t load(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

typedef struct sums {
    uint64_t by_class[6], buckets[ZK__PROXY_BUCKETS + 1];
    uint64_t retries, hedges, hedges_won, bytes_out, duration_us;
} sums;

static void sum_workers(zk_proxy *p, sums *s)
{
    for (int i = 0; i < zk_worker_count() && i < ZK__PROXY_WORKERS_MAX; i++) {
        const zk__proxy_worker *w = atomic_load(&p->workers[i]);
        if (!w) continue;
        for (int k = 0; k < 6; k++)
            s->by_class[k] += load(&w->by_class[k]);
        for (int k = 0; k <= ZK__PROXY_BUCKETS; k++)
            s->buckets[k] += load(&w->buckets[k]);
        s->retries += load(&w->retries);
        s->hedges += load(&w->hedges);
        s->hedges_won += load(&w->hedges_won);
        s->bytes_out += load(&w->bytes_out);
        s->duration_us += load(&w->duration_us);
    }
}

static int write_line(zk_response *res, const char *format, ...) ZK_PRINTF(2, 3);

static int write_line(zk_response *res, const char *format, ...)
{
    char text[1536];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) return -EINVAL;
    return zk_response_write(res, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static int write_totals(zk_response *res, const sums *s)
{
    static const char *const classes[] = {"left", "1xx", "2xx", "3xx", "4xx", "5xx"};
    int rc = write_line(res, "# HELP zokio_proxy_requests_total Requests by the class of their "
                             "response; left: the client did before.\n"
                             "# TYPE zokio_proxy_requests_total counter\n");
    for (int k = 0; k < 6 && !rc; k++) {
        rc = write_line(res, "zokio_proxy_requests_total{class=\"%s\"} %llu\n", classes[k],
                        (unsigned long long)s->by_class[k]);
    }
    if (!rc) {
        rc = write_line(res,
                        "# TYPE zokio_proxy_retries_total counter\n"
                        "zokio_proxy_retries_total %llu\n"
                        "# HELP zokio_proxy_hedges_total Second tries beside one that was slow.\n"
                        "# TYPE zokio_proxy_hedges_total counter\n"
                        "zokio_proxy_hedges_total %llu\n"
                        "# TYPE zokio_proxy_hedges_won_total counter\n"
                        "zokio_proxy_hedges_won_total %llu\n"
                        "# TYPE zokio_proxy_response_bytes_total counter\n"
                        "zokio_proxy_response_bytes_total %llu\n"
                        "# HELP zokio_proxy_request_seconds Time from a request's header to the "
                        "end of its response.\n"
                        "# TYPE zokio_proxy_request_seconds histogram\n",
                        (unsigned long long)s->retries, (unsigned long long)s->hedges,
                        (unsigned long long)s->hedges_won, (unsigned long long)s->bytes_out);
    }
    uint64_t total = 0;
    for (int k = 0; k < ZK__PROXY_BUCKETS && !rc; k++) {
        total += s->buckets[k];
        rc = write_line(res, "zokio_proxy_request_seconds_bucket{le=\"%.6f\"} %llu\n",
                        (double)(64ull << k) / 1e6, (unsigned long long)total);
    }
    total += s->buckets[ZK__PROXY_BUCKETS];
    if (rc) return rc;
    return write_line(res,
                      "zokio_proxy_request_seconds_bucket{le=\"+Inf\"} %llu\n"
                      "zokio_proxy_request_seconds_sum %.6f\n"
                      "zokio_proxy_request_seconds_count %llu\n",
                      (unsigned long long)total, (double)s->duration_us / 1e6,
                      (unsigned long long)total);
}

/* The state of the circuit is a figure of its own for each name, 1 for the one that it is. */
static int write_circuit(zk_response *res, const char *name, const zk__upstream *u)
{
    int state = atomic_load(&u->breaker.state), rc = 0;
    for (int i = ZK__BREAKER_CLOSED; i <= ZK__BREAKER_HALF_OPEN && !rc; i++) {
        rc = write_line(res, "zokio_proxy_upstream_circuit{upstream=\"%s\",state=\"%s\"} %d\n",
                        name, zk__breaker_state_name(i), i == state);
    }
    if (rc) return rc;
    return write_line(res, "zokio_proxy_upstream_circuit_opened_total{upstream=\"%s\"} %llu\n",
                      name, (unsigned long long)atomic_load(&u->breaker.opened));
}

static int write_rate_limit(zk_response *res, zk_rate_limit *limit)
{
    zk_rate_limit_stats s = zk_rate_limit_stats_get(limit);
    return write_line(res,
                      "# HELP zokio_proxy_rate_limit_total Requests that the rate limit let pass, "
                      "or refused by 429.\n"
                      "# TYPE zokio_proxy_rate_limit_total counter\n"
                      "zokio_proxy_rate_limit_total{verdict=\"allowed\"} %llu\n"
                      "zokio_proxy_rate_limit_total{verdict=\"refused\"} %llu\n"
                      "# TYPE zokio_proxy_rate_limit_forgotten_total counter\n"
                      "zokio_proxy_rate_limit_forgotten_total %llu\n",
                      (unsigned long long)s.allowed, (unsigned long long)s.refused,
                      (unsigned long long)s.forgotten);
}

typedef struct upstream_sums {
    uint64_t requests, failures, active, idle;
} upstream_sums;

/* With the lock, since the workers' views must stay. */
static upstream_sums sum_upstream(zk_proxy *p, const zk__upstream *u)
{
    upstream_sums s = {0};
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < zk_worker_count() && i < ZK__PROXY_WORKERS_MAX; i++) {
        const zk__proxy_worker *w = atomic_load(&p->workers[i]);
        for (int k = 0; w && k < w->view->count; k++) {
            const zk__upstream_use *use = w->view->at[k];
            if (use->upstream != u) continue;
            s.requests += load(&use->requests);
            s.failures += load(&use->failures);
            s.active += __atomic_load_n(&use->active, __ATOMIC_RELAXED);
            s.idle += __atomic_load_n(&use->origin->idle_count, __ATOMIC_RELAXED);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}

static int write_upstream(zk_proxy *p, zk_response *res, zk__upstream *u)
{
    upstream_sums s = sum_upstream(p, u);
    char name[512];
    line l = {name, sizeof name, 0};
    put_escaped(&l, (zk_str){u->name, strlen(u->name)}, false);
    finish(&l);
    int rc = write_line(res,
                        "zokio_proxy_upstream_up{upstream=\"%s\"} %d\n"
                        "zokio_proxy_upstream_requests_total{upstream=\"%s\"} %llu\n"
                        "zokio_proxy_upstream_failures_total{upstream=\"%s\"} %llu\n"
                        "zokio_proxy_upstream_active{upstream=\"%s\"} %llu\n"
                        "zokio_proxy_upstream_idle_connections{upstream=\"%s\"} %llu\n",
                        name, zk__upstream_is_well(u), name, (unsigned long long)s.requests, name,
                        (unsigned long long)s.failures, name, (unsigned long long)s.active, name,
                        (unsigned long long)s.idle);
    return !rc && p->options.breaker_percent > 0 ? write_circuit(res, name, u) : rc;
}

int zk_proxy_metrics(zk_proxy *p, zk_request *req, zk_response *res)
{
    (void)req;
    sums s = {0};
    sum_workers(p, &s);
    int rc =
        zk_response_begin(res, 200, "text/plain; version=0.0.4; charset=utf-8", ZK_LENGTH_UNKNOWN);
    if (!rc) rc = write_totals(res, &s);
    if (!rc && p->options.rate_limit) rc = write_rate_limit(res, p->options.rate_limit);
    if (!rc) {
        rc = write_line(res, "# TYPE zokio_proxy_upstream_up gauge\n"
                             "# TYPE zokio_proxy_upstream_requests_total counter\n"
                             "# TYPE zokio_proxy_upstream_failures_total counter\n"
                             "# TYPE zokio_proxy_upstream_active gauge\n"
                             "# TYPE zokio_proxy_upstream_idle_connections gauge\n");
    }
    if (!rc && p->options.breaker_percent > 0) {
        rc = write_line(res, "# TYPE zokio_proxy_upstream_circuit gauge\n"
                             "# TYPE zokio_proxy_upstream_circuit_opened_total counter\n");
    }
    zk__upstream_set *set = zk__upstream_set_take(p);
    for (int i = 0; i < set->count && !rc; i++)
        rc = write_upstream(p, res, set->at[i]);
    zk__upstream_set_give(set);
    return rc ? rc : zk_response_end(res);
}
