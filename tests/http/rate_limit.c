/*
 * Rate limits: buckets, keys, the table, and what a server's clients see.
 */
#include "tests/http/policy.h"

#include <pthread.h>

#include "http/rate_limit.h"

static zk_rate_limit *limit_new(zk_rate_limit_options options)
{
    zk_rate_limit *l;
    cr_assert_ok(zk_rate_limit_new(&options, &l));
    return l;
}

static int take(zk_rate_limit *l, const char *key)
{
    return zk_rate_limit_take(l, (zk_str){key, strlen(key)}, NULL);
}

/* The function of the paper, by its test vector. */
ZK_TEST(rate_limit, hashes_as_siphash)
{
    static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    unsigned char bytes[15];
    for (unsigned char i = 0; i < 15; i++)
        bytes[i] = i;
    cr_expect_eq(zk__siphash(key, bytes, 15), 0xa129ca6149be45e5u);
    cr_expect_eq(zk__siphash(key, bytes, 0), 0x726fdb47dd0e0e31u);
    cr_expect_eq(zk__siphash(key, bytes, 8), 0x93f5f5799a932462u);
}

/* A burst at once, then as many as come back in time. */
ZK_SIM_TEST(rate_limit, gives_a_burst_and_a_rate, 1, NULL)
{
    (void)arg;
    zk_rate_limit *l = limit_new((zk_rate_limit_options){.per_second = 10, .burst = 5});
    for (int i = 0; i < 5; i++)
        ZK_SIM_CHECK(take(l, "a") == 1);
    zk_time wait = 0;
    ZK_SIM_CHECK(zk_rate_limit_take(l, ZK_STR("a"), &wait) == 0);
    ZK_SIM_CHECK(wait > ZK_MS(99) && wait <= ZK_MS(100));
    ZK_SIM_CHECK(take(l, "b") == 1); /* another's bucket is full */
    ZK_SIM_CHECK(zk_sleep(ZK_MS(100)) == 0);
    ZK_SIM_CHECK(take(l, "a") == 1 && take(l, "a") == 0);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(3600)) == 0); /* not more than a bucketful */
    int count = 0;
    while (take(l, "a"))
        count++;
    ZK_SIM_CHECK(count == 5);
    /* Refusals cost nothing: after a second there are ten, as if nobody had asked. */
    for (int i = 0; i < 100; i++)
        ZK_SIM_CHECK(take(l, "a") == 0);
    count = 0;
    zk_time began = zk_now();
    for (int i = 0; i < 1000; i++) {
        ZK_SIM_CHECK(zk_sleep(ZK_MS(1)) == 0);
        count += take(l, "a");
    }
    int wanted = (int)((zk_now() - began) / ZK_MS(100));
    ZK_SIM_CHECK(count == wanted || count == wanted - 1);
    zk_rate_limit_stats s = zk_rate_limit_stats_get(l);
    ZK_SIM_CHECK(s.allowed == (uint64_t)(5 + 1 + 1 + 5 + count) && s.forgotten == 0);
    zk_rate_limit_free(l);
    return 0;
}

/* Without a burst: as many as in a second, but one at least. */
ZK_SIM_TEST(rate_limit, has_a_usual_burst, 1, NULL)
{
    (void)arg;
    static const struct {
        double per_second;
        int burst;
    } rows[] = {{0.0001, 1}, {0.5, 1}, {1, 1}, {7, 7}, {250, 250}, {1e6, 1000000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk_rate_limit *l = limit_new((zk_rate_limit_options){.per_second = rows[i].per_second});
        int count = 0;
        while (take(l, "a"))
            count++;
        zk_rate_limit_free(l);
        if (count != rows[i].burst) return zk_fail(-EBADMSG, "row %zu: %d", i, count);
    }
    return 0;
}

/* A small table forgets who has the least to lose, and counts it. */
ZK_SIM_TEST(rate_limit, keeps_a_bounded_table, 1, NULL)
{
    (void)arg;
    zk_rate_limit *l =
        limit_new((zk_rate_limit_options){.per_second = 1, .burst = 2, .keys_max = 8});
    ZK_SIM_CHECK(take(l, "greedy") == 1 && take(l, "greedy") == 1 && take(l, "greedy") == 0);
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%d", i);
        ZK_SIM_CHECK(take(l, key) == 1);
    }
    ZK_SIM_CHECK(take(l, "greedy") == 0); /* others were forgotten */
    ZK_SIM_CHECK(zk_rate_limit_stats_get(l).forgotten == 93);
    /* Full buckets are forgotten without loss. */
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(2)) == 0);
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof key, "x%d", i);
        ZK_SIM_CHECK(take(l, key) == 1);
    }
    ZK_SIM_CHECK(zk_rate_limit_stats_get(l).forgotten == 93);
    zk_rate_limit_free(l);
    return 0;
}

/* Options that make no sense. */
ZK_TEST(rate_limit, refuses_bad_options)
{
    static const zk_rate_limit_options rows[] = {
        {.per_second = 0},
        {.per_second = -1},
        {.per_second = 2e6},
        {.per_second = 0.0 / 1.0},
        {.per_second = 1, .burst = -1},
        {.per_second = 0.0001, .burst = 1000000000},
        {.per_second = 1, .keys_max = -1},
        {.per_second = 1, .keys_max = 1 << 27},
        {.per_second = 1, .ipv6_prefix_bits = 129},
        {.per_second = 1, .ipv6_prefix_bits = -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk_rate_limit *l = NULL;
        cr_expect_eq(zk_rate_limit_new(&rows[i], &l), ZK_E_CONFIG, "row %zu", i);
        cr_expect_null(l);
    }
    zk_rate_limit_free(NULL);
}

/* ---- in a server ---- */

static zk_rate_limit *limit;

static int limited(zk_request *req, zk_response *res, zk_next *next)
{
    return zk_rate_limit_run(limit, req, res, next);
}

static zk_str by_query(void *context, zk_request *req)
{
    zk_str key = {NULL, 0};
    *(int *)context += 1;
    (void)zk_request_query_get(req, "who", &key);
    return key;
}

static int fine(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "fine");
}

static int checked(zk_request *req, zk_response *res)
{
    int rc = zk_rate_limit_check(limit, req, res);
    if (rc) return rc < 0 ? rc : 0;
    return zk_respond_text(res, 200, "fine");
}

static const zk_route limited_routes[] = {
    {NULL, "/{path...}", fine, (zk_middleware *[]){limited, NULL}},
    {NULL, "/checked", checked, NULL},
    {0},
};

static int serve_limited(void *arg)
{
    (void)arg;
    int rc = zk_serve(
        &(zk_server){.listen = "127.0.0.1:80", .routes = limited_routes, .no_signals = true});
    return rc == -ECANCELED ? 0 : rc;
}

typedef struct plan {
    zk_rate_limit_options options;
    int (*body)(void);
} plan;

static int with_server(void *arg)
{
    plan *p = arg;
    limit = limit_new(p->options);
    int rc = zk_client_new(&(zk_client_options){.redirects_max = -1}, &pol.client);
    ZK_SCOPE(scope) {
        if (!rc) rc = zk_spawn(&scope, serve_limited, NULL);
        if (!rc) rc = zk_sleep(ZK_MS(10));
        if (!rc) rc = p->body();
        zk_scope_cancel(&scope);
    }
    zk_client_free(pol.client);
    zk_rate_limit_free(limit);
    return rc;
}

static int body_address(void)
{
    for (int i = 0; i < 2; i++)
        ZK_SIM_CHECK(ask(i ? "/checked" : "/x").status == 200);
    for (int i = 0; i < 2; i++) {
        answer a = ask(i ? "/checked" : "/x");
        ZK_SIM_CHECK(a.status == 429 && a.retry_after == 10);
    }
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(10)) == 0);
    ZK_SIM_CHECK(ask("/").status == 200);
    return 0;
}

/* By the client's address: 429 says when to come back. As middleware and in a handler. */
ZK_TEST(rate_limit, answers_429)
{
    plan p = {{.per_second = 0.1, .burst = 2}, body_address};
    zk_test_seeds("http/rate_limit", 3, NULL, with_server, &p);
}

static int body_header(void)
{
    static const zk_header a[] = {{"X-Api-Key", "a"}, {0}}, b[] = {{"x-api-key", "b"}, {0}};
    ZK_SIM_CHECK(ask_as("GET", "/", a).status == 200 && ask_as("GET", "/", a).status == 429);
    ZK_SIM_CHECK(ask_as("GET", "/", b).status == 200 && ask_as("GET", "/", b).status == 429);
    /* Without the field it is the address. */
    ZK_SIM_CHECK(ask("/").status == 200 && ask("/").status == 429);
    return 0;
}

/* By a header field. */
ZK_TEST(rate_limit, goes_by_a_header)
{
    plan p = {{.per_second = 0.1, .header = "X-Api-Key"}, body_header};
    zk_test_seeds("http/rate_limit", 3, NULL, with_server, &p);
}

static int body_callback(void)
{
    ZK_SIM_CHECK(ask("/?who=a").status == 200 && ask("/?who=a").status == 429);
    ZK_SIM_CHECK(ask("/?who=b").status == 200);
    for (int i = 0; i < 5; i++)
        ZK_SIM_CHECK(ask("/").status == 200); /* not limited */
    return 0;
}

/* By what a callback says, which may be that somebody is not limited. */
ZK_TEST(rate_limit, goes_by_a_callback)
{
    int calls = 0;
    plan p = {{.per_second = 0.1, .key = by_query, .context = &calls, .header = "X"},
              body_callback};
    zk_test_seeds("http/rate_limit", 1, NULL, with_server, &p);
    cr_expect_eq(calls, 8);
}

/* In the proxy: before anything is forwarded, with its reason in the log. */
static int proxy_body(void *arg)
{
    (void)arg;
    ZK_SIM_CHECK(ask("/").status == 200);
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 429 && a.retry_after == 1);
    ZK_SIM_CHECK(!strcmp(pol.reason, "the client's rate limit") && pol.tries == 0);
    ZK_SIM_CHECK(metric("rate_limit_total{verdict=\"allowed\"}") == 1);
    ZK_SIM_CHECK(metric("rate_limit_total{verdict=\"refused\"}") == 1);
    int asked = 0;
    for (int i = 0; i < SITES; i++)
        asked += sites[i].asked;
    ZK_SIM_CHECK(asked == 1);
    return 0;
}

static int proxy_start(void *arg)
{
    (void)arg;
    zk_rate_limit *l = limit_new((zk_rate_limit_options){.per_second = 1});
    int rc = policy_run(&(zk_proxy_options){.rate_limit = l}, proxy_body);
    zk_rate_limit_free(l);
    return rc;
}

ZK_TEST(rate_limit, guards_a_proxy)
{
    zk_test_seeds("http/rate_limit", 3, NULL, proxy_start, NULL);
}

/* ---- across workers ---- */

static _Atomic int allowed;

static int take_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5000; i++)
        if (zk_rate_limit_take(limit, ZK_STR("one"), NULL)) atomic_fetch_add(&allowed, 1);
    return 0;
}

static int many_workers(void *arg)
{
    (void)arg;
    ZK_SCOPE(scope) {
        for (int i = 0; i < zk_worker_count(); i++)
            cr_assert_ok(zk_spawn_on(&scope, i, take_many, NULL));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    return 0;
}

/* All workers draw from the same bucket. */
ZK_TEST(rate_limit, is_one_for_all_workers)
{
    limit = limit_new((zk_rate_limit_options){.per_second = 0.0001, .burst = 1000});
    atomic_store(&allowed, 0);
    cr_assert_ok(zk_run(&(zk_config){.workers = 4}, many_workers, NULL));
    cr_expect_eq(atomic_load(&allowed), 1000);
    cr_expect_eq(zk_rate_limit_stats_get(limit).refused, 4 * 5000 - 1000);
    zk_rate_limit_free(limit);
}
