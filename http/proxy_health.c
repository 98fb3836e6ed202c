/*
 * How the upstreams are: by what becomes of requests, and by asking.
 *
 *   well --failures_max in a row--> ejected for a while --the time is over--> well, but
 *     one more failure ejects it again, for twice as long; one success forgets all that
 *
 *   up --health_threshold checks failed--> down --as many succeeded--> up
 *
 * Who is back from either, or whose circuit has closed (proxy_breaker.c), starts slowly.
 */
#include <errno.h>
#include <stdio.h>

#include "http/proxy.h"

static void say(const zk_proxy *p, const zk__upstream *u, bool is_well, const char *reason)
{
    if (p->options.on_health) p->options.on_health(p->options.context, u->name, is_well, reason);
}

/* Slow start: from that moment on its share of the requests grows. */
static void ramp(const zk_proxy *p, zk__upstream *u, zk_time from)
{
    if (p->options.slow_start_ms > 0) atomic_store(&u->ramp_from, from);
}

static void eject(zk_proxy *p, zk__upstream *u, int rc)
{
    int before = atomic_fetch_add(&u->ejections, 1);
    int64_t ms = p->options.ejection_ms;
    for (int i = 0; i < before && ms < p->options.ejection_max_ms; i++)
        ms *= 2;
    if (ms > p->options.ejection_max_ms) ms = p->options.ejection_max_ms;
    zk_time until = zk_now() + ZK_MS(ms);
    ramp(p, u, until);
    atomic_store(&u->ejected_until, until);
    say(p, u, false, zk_strerror(rc));
}

/* What the circuit breaker makes of it. */
static void judge(zk_proxy *p, zk__upstream *u, zk__breaker_ticket *ticket, int rc, int status)
{
    const zk_proxy_options *o = &p->options;
    bool is_bad = rc < 0 || (o->breaker_status_min > 0 && status >= o->breaker_status_min);
    int state = zk__breaker_judge(&u->breaker, o, zk_now(), ticket,
                                  is_bad ? ZK__OUTCOME_BAD : ZK__OUTCOME_GOOD);
    if (ZK_LIKELY(state < 0)) return;
    bool is_closed = state == ZK__BREAKER_CLOSED;
    if (is_closed) ramp(p, u, zk_now());
    say(p, u, is_closed, is_closed ? "the circuit has closed" : "the circuit has opened");
}

void zk__proxy_note(zk_proxy *p, zk__upstream *u, zk__breaker_ticket *ticket, int rc, int status)
{
    if (p->options.breaker_percent > 0) judge(p, u, ticket, rc, status);
    if (ZK_LIKELY(rc >= 0)) {
        /* Read before writing: usually nothing changes, and the line stays shared. */
        if (ZK_LIKELY(!atomic_load_explicit(&u->failures, memory_order_relaxed))) return;
        atomic_store(&u->failures, 0);
        atomic_store(&u->ejections, 0);
        if (atomic_exchange(&u->ejected_until, 0)) say(p, u, true, "it answers");
        return;
    }
    int failures = atomic_fetch_add(&u->failures, 1) + 1;
    bool is_out = atomic_load(&u->ejected_until) > zk_now();
    if (p->options.failures_max > 0 && failures >= p->options.failures_max && !is_out) {
        eject(p, u, rc);
    }
}

/* ---- checks ---- */

typedef struct check {
    zk_proxy *proxy;
    zk__upstream *upstream; /* held */
    zk_client *client;
} check;

/* returns 0: it is well. */
static int ask(check *c, char *reason, size_t reason_size)
{
    const zk__upstream *u = c->upstream;
    char url[ZK_URL_AUTHORITY_BYTES + 1024];
    int size = snprintf(url, sizeof url, "http%s://%s%s", u->is_secure ? "s" : "", u->authority,
                        c->proxy->health_path);
    if (size < 0 || (size_t)size >= sizeof url) return ZK_E_HTTP_URL;
    zk_fetch *f;
    int rc = 0;
    ZK_WITHIN(ZK_MS(c->proxy->options.health_timeout_ms))
        rc = zk_fetch_open(c->client, &(zk_fetch_options){.url = url, .connect = u->address}, &f);
    if (rc < 0) {
        snprintf(reason, reason_size, "%s", zk_strerror(rc));
        return rc;
    }
    int status = zk_fetch_status(f);
    zk_fetch_close(f);
    if (status >= 200 && status < 400) return 0;
    snprintf(reason, reason_size, "the check gave status %d", status);
    return ZK_E_CLOSED;
}

static void check_once(check *c)
{
    zk_proxy *p = c->proxy;
    zk__upstream *u = c->upstream;
    char reason[128];
    int rc = ask(c, reason, sizeof reason);
    if (rc == -ECANCELED) return;
    u->passed = rc ? 0 : u->passed + 1;
    u->failed = rc ? u->failed + 1 : 0;
    bool is_down = atomic_load(&u->is_down);
    if (!is_down && u->failed >= p->options.health_threshold) {
        atomic_store(&u->is_down, true);
        say(p, u, false, reason);
    } else if (is_down && u->passed >= p->options.health_threshold) {
        ramp(p, u, zk_now());
        atomic_store(&u->is_down, false);
        atomic_store(&u->failures, 0);
        atomic_store(&u->ejected_until, 0);
        say(p, u, true, "the checks pass");
    }
}

static int check_run(void *arg)
{
    check *c = arg;
    check_once(c);
    atomic_store(&c->upstream->is_being_checked, false);
    zk__upstream_drop(c->upstream);
    return 0;
}

/* Asks each upstream of now that is not being asked already. */
static int check_all(zk_proxy *p, zk_scope *checks, zk_client *const clients[2])
{
    zk__upstream_set *set = zk__upstream_set_take(p);
    int rc = 0;
    for (int i = 0; i < set->count && !rc; i++) {
        zk__upstream *u = set->at[i];
        if (atomic_exchange(&u->is_being_checked, true)) continue;
        atomic_fetch_add(&u->holders, 1);
        check c = {.proxy = p, .upstream = u, .client = clients[u->is_h2c]};
        zk_spawn_options spawn = {.arg_bytes = sizeof c, .is_pinned = true};
        rc = zk_spawn_with(checks, &spawn, check_run, &c);
        if (!rc) continue;
        atomic_store(&u->is_being_checked, false);
        zk__upstream_drop(u);
    }
    zk__upstream_set_give(set);
    return rc;
}

int zk_proxy_check(zk_proxy *p)
{
    if (!p->health_path) return zk_fail(ZK_E_CONFIG, "the proxy has no health_path");
    zk_client *clients[2] = {NULL, NULL}; /* the other one speaks HTTP/2 without TLS */
    zk_client_options options = {.idle_connections_max = 1, .redirects_max = -1};
    if (p->options.client) options.tls = p->options.client->tls;
    int rc = zk_client_new(&options, &clients[0]);
    if (rc < 0) return rc;
    clients[0]->limits.proxy_protocol = p->options.proxy_protocol;
    /* No certificates are read for it, since it looks at none. */
    const zk_tls_client blind = {.insecure_skip_verification = true};
    options.tls = &blind;
    options.h2c = true;
    if (ZK__H2) rc = zk_client_new(&options, &clients[1]);
    ZK_SCOPE(checks) {
        while (!rc) {
            rc = check_all(p, &checks, clients);
            if (!rc) rc = zk_sleep(ZK_MS(p->options.health_interval_ms));
        }
        zk_scope_cancel(&checks);
    }
    zk_client_free(clients[0]);
    zk_client_free(clients[1]);
    return rc;
}
