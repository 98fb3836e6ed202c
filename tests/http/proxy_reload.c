/*
 * Replacing the upstreams of a running proxy.
 */
#include "tests/http/policy.h"

static const zk_upstream first_two[] = {{"127.0.0.1:9000", 1}, {"127.0.0.1:9001", 1}, {0}};
static const zk_upstream last_two[] = {{"127.0.0.1:9001", 3}, {"127.0.0.1:9002", 1}, {0}};

static zk__upstream_use *use_of(const char *name)
{
    zk__proxy_view *v = zk__proxy_worker_get(pol.proxy)->view;
    for (int i = 0; i < v->count; i++)
        if (!strcmp(v->at[i]->upstream->name, name)) return v->at[i];
    return NULL;
}

/* New requests go to the new upstreams, by the new weights. */
POLICY_TEST(proxy_reload, takes_effect_at_once, .upstreams = first_two)
{
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked == 2 && sites[1].asked == 2 && sites[2].asked == 0);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    for (int i = 0; i < 8; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked == 2 && sites[1].asked == 8 && sites[2].asked == 2);
    return 0;
}

/* A request in progress finishes on an upstream that has gone; then its connection closes. */
POLICY_TEST(proxy_reload, lets_requests_in_progress_finish, .upstreams = first_two)
{
    sites[0].delay = sites[1].delay = ZK_MS(100);
    later a, b;
    ask_later(&a);
    ask_later(&b);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(50)) == 0);
    ZK_SIM_CHECK(sites[0].asked == 1 && sites[1].asked == 1);
    zk__origin *gone = use_of("127.0.0.1:9000")->origin;
    zk__origin *kept = use_of("127.0.0.1:9001")->origin;
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    ZK_SIM_CHECK(!use_of("127.0.0.1:9000"));
    ZK_SIM_CHECK(gone->count == 1 && kept->count == 1);
    zk_await(&a.future);
    zk_await(&b.future);
    ZK_SIM_CHECK(a.got.status == 200 && b.got.status == 200);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(5)) == 0);
    ZK_SIM_CHECK(gone->count == 0 && gone->keepers == 0);
    ZK_SIM_CHECK(kept->idle_count == 1);
    return 0;
}

/* Idle connections of what has gone are closed without a request having to come. */
POLICY_TEST(proxy_reload, closes_idle_connections, .upstreams = first_two)
{
    ZK_SIM_CHECK(ask("/").status == 200 && ask("/").status == 200);
    zk__origin *gone = use_of("127.0.0.1:9000")->origin;
    ZK_SIM_CHECK(gone->idle_count == 1);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    ZK_SIM_CHECK(gone->count == 0);
    /* When it comes back it is used as before. */
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, first_two) == 0);
    ZK_SIM_CHECK(ask("/").status == 200 && ask("/").status == 200);
    ZK_SIM_CHECK(use_of("127.0.0.1:9000")->origin->idle_count == 1);
    return 0;
}

/* Who stays keeps its failures and its ejection; who comes back is taken for new. */
POLICY_TEST(proxy_reload, keeps_what_is_known, .upstreams = first_two, .failures_max = 1)
{
    sites[1].breaks = true;
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[1].asked == 1 && pol.turned_out == 1);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").site == 2);
    ZK_SIM_CHECK(sites[1].asked == 1);
    static const zk_upstream without[] = {{"127.0.0.1:9002", 0}, {0}};
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, without) == 0);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    sites[1].breaks = false;
    int before = sites[1].asked;
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[1].asked == before + 3);
    return 0;
}

/* A bad set is refused with the reason, and the old one stays. */
POLICY_TEST(proxy_reload, refuses_a_bad_set, .upstreams = first_two)
{
    static const struct {
        zk_upstream upstreams[2];
        int rc;
        const char *says;
    } rows[] = {
        {{{NULL, 0}, {0}}, ZK_E_CONFIG, "1 to 256 upstreams"},
        {{{"127.0.0.1:9002", 101}, {0}}, ZK_E_CONFIG, "weights are 1 to 100"},
        {{{"127.0.0.1:9002", -1}, {0}}, ZK_E_CONFIG, "weights are 1 to 100"},
        {{{"http://a/path", 1}, {0}}, ZK_E_CONFIG, "only scheme, host and port"},
        {{{"ftp://a", 1}, {0}}, ZK_E_HTTP_URL, "ftp://a"},
        {{{"unix:", 1}, {0}}, ZK_E_ADDR, "unix:"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = zk_proxy_reload(pol.proxy, rows[i].upstreams);
        const char *trail = zk_trail();
        if (rc != rows[i].rc) return zk_fail(-EBADMSG, "row %zu: %s", i, zk_errname(rc));
        if (!strstr(trail, rows[i].says)) return zk_fail(-EBADMSG, "row %zu: %s", i, trail);
    }
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked == 2 && sites[1].asked == 2);
    return 0;
}

static int reload_run(void *arg)
{
    *(int *)arg = zk_proxy_reload(pol.proxy, last_two);
    return 0;
}

/* Cancellation does not leave it half done. */
POLICY_TEST(proxy_reload, is_not_cut_short, .upstreams = first_two)
{
    ZK_SIM_CHECK(ask("/").status == 200);
    int rc = 1;
    ZK_SCOPE(scope) {
        zk_future f;
        zk_async(&f, reload_run, &rc);
        zk_scope_cancel(&scope);
        zk_await(&f);
    }
    ZK_SIM_CHECK(rc == 0);
    ZK_SIM_CHECK(!use_of("127.0.0.1:9000") && use_of("127.0.0.1:9002"));
    return 0;
}

static int check_run(void *arg)
{
    (void)arg;
    int rc = zk_proxy_check(pol.proxy);
    return rc == -ECANCELED ? 0 : rc;
}

/* The checks follow the set. */
POLICY_TEST(proxy_reload, is_followed_by_the_checks, .upstreams = first_two, .health_path = "/up",
            .health_interval_ms = 1000)
{
    ZK_SCOPE(scope) {
        ZK_SIM_CHECK(zk_spawn(&scope, check_run, NULL) == 0);
        ZK_SIM_CHECK(zk_sleep(ZK_MS(500)) == 0);
        ZK_SIM_CHECK(sites[0].asked == 1 && sites[1].asked == 1 && sites[2].asked == 0);
        ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
        ZK_SIM_CHECK(zk_sleep(ZK_MS(1000)) == 0);
        ZK_SIM_CHECK(sites[0].asked == 1 && sites[1].asked == 2 && sites[2].asked == 1);
        zk_scope_cancel(&scope);
    }
    return 0;
}

/* Figures are of the upstreams of now. */
POLICY_TEST(proxy_reload, shows_in_the_figures, .upstreams = first_two)
{
    ZK_SIM_CHECK(ask("/").status == 200 && ask("/").status == 200);
    ZK_SIM_CHECK(metric("upstream_requests_total{upstream=\"127.0.0.1:9001\"}") == 1);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, last_two) == 0);
    ZK_SIM_CHECK(metric("upstream_requests_total{upstream=\"127.0.0.1:9000\"}") == -1);
    ZK_SIM_CHECK(metric("upstream_requests_total{upstream=\"127.0.0.1:9001\"}") == 1);
    ZK_SIM_CHECK(metric("upstream_requests_total{upstream=\"127.0.0.1:9002\"}") == 0);
    ZK_SIM_CHECK(metric("upstream_up{upstream=\"127.0.0.1:9002\"}") == 1);
    return 0;
}

static struct {
    int answered, failed;
    bool is_over;
} storm;

static int storm_ask(void *arg)
{
    (void)arg;
    while (!storm.is_over) {
        if (ask("/").status == 200) {
            storm.answered++;
        } else {
            storm.failed++;
        }
    }
    return 0;
}

/* Reloads under load cost no request, whatever the order of things. */
POLICY_TEST(proxy_reload, costs_no_request, .upstreams = first_two)
{
    memset(&storm, 0, sizeof storm);
    for (int i = 0; i < SITES; i++)
        sites[i].delay = ZK_MS(1);
    ZK_SCOPE(scope) {
        for (int i = 0; i < 4; i++)
            ZK_SIM_CHECK(zk_spawn(&scope, storm_ask, NULL) == 0);
        for (int i = 0; i < 100; i++) {
            ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, i % 2 ? first_two : last_two) == 0);
            ZK_SIM_CHECK(zk_sleep((zk_time)(zk_sim_random() % 5000000)) == 0);
        }
        storm.is_over = true;
        ZK_SIM_CHECK(zk_scope_wait(&scope) == 0);
    }
    ZK_SIM_CHECK(storm.failed == 0 && storm.answered > 100);
    return 0;
}

/* ---- on several workers, by real sockets ---- */

static char addresses[3][64]; /* of two upstreams, and the proxy */
static _Atomic(zk_serving *) servings[3];
static _Atomic int right, wrong;

static int say_ok(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "ok");
}

static const zk_route ok_routes[] = {{"GET", "/{path...}", say_ok, NULL}, {0}};

static void on_real(void *context, zk_serving *s)
{
    int i = (int)(intptr_t)context;
    zk_addr addr = zk_serving_addr(s);
    zk_addr_format(&addr, addresses[i]);
    servings[i] = s;
}

static int serve_real(void *arg)
{
    return zk_serve(&(zk_server){
        .listen = "127.0.0.1:0",
        .routes = arg == (void *)2 ? policy_routes : ok_routes,
        .context = arg,
        .on_listening = on_real,
        .no_signals = true,
    });
}

static int ask_real(void *arg)
{
    (void)arg;
    char urls[2][128];
    snprintf(urls[0], sizeof urls[0], "http://%s/", addresses[2]);
    snprintf(urls[1], sizeof urls[1], "http://%s/metrics", addresses[2]);
    for (int i = 0; i < 150; i++) {
        zk_fetch *f;
        zk_str body;
        int rc = zk_fetch_open(pol.client, &(zk_fetch_options){.url = urls[i % 10 == 9]}, &f);
        if (!rc && zk_fetch_body(f, &body) == 0 && zk_fetch_status(f) == 200) {
            atomic_fetch_add(&right, 1);
        } else {
            atomic_fetch_add(&wrong, 1);
        }
        if (!rc) zk_fetch_close(f);
    }
    return 0;
}

static int all_real(void *arg)
{
    (void)arg;
    cr_assert_eq(zk_client_new(NULL, &pol.client), 0);
    ZK_SCOPE(servers) {
        for (intptr_t i = 0; i < 2; i++)
            cr_assert_eq(zk_spawn(&servers, serve_real, (void *)i), 0);
        while (!servings[0] || !servings[1])
            cr_assert_eq(zk_sleep(ZK_MS(1)), 0);
        zk_upstream both[] = {{addresses[0], 1}, {addresses[1], 1}, {0}};
        zk_upstream second[] = {{addresses[1], 2}, {0}};
        cr_assert_eq(zk_proxy_new(&(zk_proxy_options){.upstreams = both}, &pol.proxy), 0);
        cr_assert_eq(zk_spawn(&servers, serve_real, (void *)2), 0);
        while (!servings[2])
            cr_assert_eq(zk_sleep(ZK_MS(1)), 0);
        ZK_SCOPE(clients) {
            for (int i = 0; i < 4; i++)
                cr_assert_eq(zk_spawn_on(&clients, i, ask_real, NULL), 0);
            for (int i = 0; i < 60; i++) {
                cr_assert_eq(zk_proxy_reload(pol.proxy, i % 2 ? both : second), 0);
                cr_assert_eq(zk_sleep(ZK_MS(1)), 0);
            }
            cr_assert_eq(zk_scope_wait(&clients), 0);
        }
        for (int i = 0; i < 3; i++)
            zk_serving_drain(servings[i]);
        cr_assert_eq(zk_scope_wait(&servers), 0);
    }
    zk_proxy_free(pol.proxy);
    zk_client_free(pol.client);
    return 0;
}

/* All workers take over the set while they serve, and none answers wrongly. */
ZK_TEST(proxy_reload, reaches_all_workers)
{
    int rc = zk_run(&(zk_config){.workers = 4}, all_real, NULL);
    cr_expect_eq(rc, 0, "%s", zk_trail());
    cr_expect(atomic_load(&right) == 600 && atomic_load(&wrong) == 0, "%d right, %d wrong",
              atomic_load(&right), atomic_load(&wrong));
}
