/*
 * A proxy in front of simulated upstreams, in virtual time: for the tests of its policies.
 *
 *     POLICY_TEST(suite, name, (zk_proxy_options){...})
 *     {
 *         sites[1].delay = ZK_MS(100);
 *         ZK_SIM_CHECK(ask("/").status == 200);
 *         return 0;
 *     }
 *
 * Each site listens on an address of its own and does what its struct says at the moment.
 */
#ifndef ZOKIO_TESTS_HTTP_POLICY_H
#define ZOKIO_TESTS_HTTP_POLICY_H

#include "tests/sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zokio/client.h>
#include <zokio/proxy.h>
#include <zokio/server.h>

#include "http/proxy.h"

enum { SITES = 4 };

typedef struct site {
    zk_time delay; /* before it answers */
    int status;    /* 0: 200 */
    bool breaks;   /* closes the connection instead of an answer */
    int asked, finished, canceled, connections;
    zk_serving *serving;
} site;

static site sites[SITES];
static const char *const site_addresses[SITES] = {"127.0.0.1:9000", "127.0.0.1:9001",
                                                  "127.0.0.1:9002", "127.0.0.1:9003"};

static struct policy {
    zk_proxy *proxy;
    zk_client *client;
    zk_serving *serving;
    char reason[256]; /* of the last request that failed */
    int tries;        /* of the last request */
    int turned_out, turned_well;
    char said[256]; /* the last that on_health was told */
} pol;

static inline int site_answer(zk_request *req, zk_response *res)
{
    site *s = zk_request_context(req);
    s->asked++;
    if (s->delay) {
        int rc = zk_sleep(s->delay);
        if (rc < 0) s->canceled++;
        if (rc < 0) return rc;
    }
    s->finished++;
    char text[32];
    snprintf(text, sizeof text, "%d", (int)(s - sites));
    if (!s->breaks) return zk_respond_text(res, s->status ? s->status : 200, text);
    res->state = ZK__RESPONSE_BEGUN; /* of which nothing was sent: the connection is broken off */
    return -EIO;
}

static inline int policy_forward(zk_request *req, zk_response *res)
{
    return zk_proxy_run(pol.proxy, req, res);
}

static inline int policy_metrics(zk_request *req, zk_response *res)
{
    return zk_proxy_metrics(pol.proxy, req, res);
}

static const zk_route site_routes[] = {{NULL, "/{path...}", site_answer, NULL}, {0}};
static const zk_route policy_routes[] = {
    {"GET", "/metrics", policy_metrics, NULL},
    {NULL, "/{path...}", policy_forward, NULL},
    {0},
};

static inline void policy_on_access(void *context, const zk_proxy_access *access)
{
    (void)context;
    pol.tries = access->tries;
    snprintf(pol.reason, sizeof pol.reason, "%s", access->reason ? access->reason : "");
}

static inline void policy_on_health(void *context, const char *upstream, bool is_well,
                                    const char *reason)
{
    (void)context;
    if (is_well) {
        pol.turned_well++;
    } else {
        pol.turned_out++;
    }
    snprintf(pol.said, sizeof pol.said, "%s %s: %s", upstream, is_well ? "well" : "out", reason);
}

static inline void site_listening(void *context, zk_serving *s) { ((site *)context)->serving = s; }

static inline void policy_listening(void *context, zk_serving *s)
{
    (void)context;
    pol.serving = s;
}

static inline int site_run(void *arg)
{
    int i = (int)(intptr_t)arg;
    int rc = zk_serve(&(zk_server){
        .listen = site_addresses[i],
        .routes = site_routes,
        .context = &sites[i],
        .on_listening = site_listening,
        .no_signals = true,
        .drain_timeout_ms = 10,
    });
    sites[i].serving = NULL;
    return rc == -ECANCELED ? 0 : rc;
}

static inline int policy_serve(void *arg)
{
    (void)arg;
    int rc = zk_serve(&(zk_server){
        .listen = "127.0.0.1:80",
        .routes = policy_routes,
        .on_listening = policy_listening,
        .no_signals = true,
        .drain_timeout_ms = 10,
    });
    return rc == -ECANCELED ? 0 : rc;
}

typedef struct answer {
    int status, site; /* the site that has answered; -1: none */
    int retry_after;  /* seconds; -1: nothing of that was said */
    zk_time took;
    char text[8192];
} answer;

static inline answer ask_as(const char *method, const char *path, const zk_header *headers)
{
    answer a = {.site = -1, .retry_after = -1};
    char url[128];
    zk_fetch *f;
    zk_str body;
    zk_time began = zk_now();
    snprintf(url, sizeof url, "http://127.0.0.1:80%s", path);
    int rc = zk_fetch_open(
        pol.client, &(zk_fetch_options){.url = url, .method = method, .headers = headers}, &f);
    a.took = zk_now() - began;
    a.status = rc;
    if (rc < 0) return a;
    a.status = zk_fetch_status(f);
    zk_str after = zk_fetch_header(f, "retry-after");
    if (after.data) a.retry_after = (int)strtol(after.data, NULL, 10);
    if (zk_fetch_body(f, &body) == 0) {
        snprintf(a.text, sizeof a.text, "%.*s", (int)body.size, body.data);
        if (a.status < 500 && body.size == 1) a.site = body.data[0] - '0';
    }
    zk_fetch_close(f);
    return a;
}

static inline answer ask(const char *path) { return ask_as("GET", path, NULL); }

/* A request beside others: its answer is in `got` when it has come. */
typedef struct later {
    zk_future future;
    answer got;
    bool is_done;
} later;

static inline int later_run(void *arg)
{
    later *l = arg;
    l->got = ask("/");
    l->is_done = true;
    return 0;
}

static inline void ask_later(later *l)
{
    memset(l, 0, sizeof *l);
    zk_async(&l->future, later_run, l);
}

/* The number behind a line of /metrics; -1: there is no such line. */
static inline double metric(const char *name)
{
    answer a = ask("/metrics");
    for (char *line = strtok(a.text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *at = *line == '#' ? NULL : strstr(line, name);
        if (at) return strtod(at + strlen(name), NULL);
    }
    return -1;
}

/* What POLICY_TEST makes: sites and the proxy run, then the test's body. */
static inline int policy_run(const zk_proxy_options *given, zk_fn *body)
{
    static zk_upstream all[SITES + 1];
    memset(&pol, 0, sizeof pol);
    memset(sites, 0, sizeof sites);
    for (int i = 0; i < SITES; i++)
        all[i].address = site_addresses[i];
    zk_proxy_options options = *given;
    if (!options.upstreams) options.upstreams = all;
    options.on_access = policy_on_access;
    options.on_health = policy_on_health;
    int rc = zk_proxy_new(&options, &pol.proxy);
    if (rc < 0) return rc;
    rc = zk_client_new(&(zk_client_options){.redirects_max = -1}, &pol.client);
    if (rc < 0) {
        zk_proxy_free(pol.proxy);
        return rc;
    }
    ZK_SCOPE(scope) {
        for (intptr_t i = 0; i < SITES && !rc; i++)
            rc = zk_spawn(&scope, site_run, (void *)i);
        if (!rc) rc = zk_spawn(&scope, policy_serve, NULL);
        if (!rc) rc = zk_sleep(ZK_MS(10));
        if (!rc) rc = body(NULL);
        zk_scope_cancel(&scope);
    }
    zk_client_free(pol.client);
    zk_proxy_free(pol.proxy);
    return rc;
}

/* options: in parentheses. The body returns 0, or an error to fail. */
#define POLICY_TEST(suite, name, ...)                                                              \
    static int policy_##suite##_##name(void *arg);                                                 \
    static int policy_start_##suite##_##name(void *arg)                                            \
    {                                                                                              \
        (void)arg;                                                                                 \
        return policy_run(&(zk_proxy_options){__VA_ARGS__}, policy_##suite##_##name);              \
    }                                                                                              \
    ZK_TEST(suite, name)                                                                           \
    {                                                                                              \
        zk_test_seeds("http/" #suite, 3, NULL, policy_start_##suite##_##name, NULL);               \
    }                                                                                              \
    static int policy_##suite##_##name(void *arg __attribute__((unused)))

#endif
