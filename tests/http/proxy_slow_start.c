/*
 * Slow start: an upstream that is new, or back, gets its share little by little.
 */
#include "tests/http/policy.h"

static const zk_upstream one[] = {{"127.0.0.1:9000", 1}, {0}};
static const zk_upstream two[] = {{"127.0.0.1:9000", 1}, {"127.0.0.1:9001", 1}, {0}};
static const zk_upstream unequal[] = {{"127.0.0.1:9000", 3}, {"127.0.0.1:9001", 1}, {0}};

/* How many of the next 110 picks, at this very moment, are of the i-th upstream. */
static int share(int i)
{
    zk__proxy_worker *w = zk__proxy_worker_get(pol.proxy);
    zk__proxy_view *v = zk__proxy_view_take(w);
    static const uint64_t none[4];
    int count = 0;
    for (int k = 0; k < v->count; k++)
        v->at[k]->current_weight = 0;
    for (int k = 0; k < 110; k++)
        count += zk__proxy_pick(v, 0, none) == i;
    zk__proxy_view_give(v);
    return count;
}

/* What is there from the beginning starts at once. */
POLICY_TEST(proxy_slow_start, is_not_for_the_first, .upstreams = two, .slow_start_ms = 10000)
{
    ZK_SIM_CHECK(share(1) == 55);
    return 0;
}

/* From a tenth to the whole, in a straight line. */
POLICY_TEST(proxy_slow_start, grows_from_a_tenth, .upstreams = one, .slow_start_ms = 10000)
{
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, two) == 0);
    ZK_SIM_CHECK(share(1) == 10); /* 1/10 of 11/10 */
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(5)) == 0);
    int half = share(1);
    ZK_SIM_CHECK(half >= 36 && half <= 37);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(5)) == 0);
    ZK_SIM_CHECK(share(1) == 55);
    return 0;
}

/* Who has stayed is not slowed by a reload, and weights count as ever. */
POLICY_TEST(proxy_slow_start, spares_who_stays, .upstreams = two, .slow_start_ms = 10000)
{
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, unequal) == 0);
    int few = share(1);
    ZK_SIM_CHECK(few >= 27 && few <= 28);
    return 0;
}

/* Without the option nobody is slow. */
POLICY_TEST(proxy_slow_start, is_off_unless_wanted, .upstreams = one)
{
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, two) == 0);
    ZK_SIM_CHECK(share(1) == 55);
    return 0;
}

/* Back from an ejection: from the moment at which it may be asked again. */
POLICY_TEST(proxy_slow_start, follows_an_ejection, .upstreams = two, .slow_start_ms = 10000,
            .failures_max = 1, .ejection_ms = 2000)
{
    sites[1].breaks = true;
    ZK_SIM_CHECK(ask("/").site == 0 && ask("/").site == 0);
    ZK_SIM_CHECK(pol.turned_out == 1 && share(1) == 0);
    sites[1].breaks = false;
    ZK_SIM_CHECK(zk_sleep(ZK_MS(2000)) == 0);
    int few = share(1);
    ZK_SIM_CHECK(few >= 9 && few <= 11);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(10000)) == 0);
    ZK_SIM_CHECK(share(1) == 55);
    return 0;
}

static int check_run(void *arg)
{
    (void)arg;
    int rc = zk_proxy_check(pol.proxy);
    return rc == -ECANCELED ? 0 : rc;
}

/* Back because the checks pass. */
POLICY_TEST(proxy_slow_start, follows_the_checks, .upstreams = two, .slow_start_ms = 10000,
            .health_path = "/up", .health_interval_ms = 1000, .health_threshold = 1)
{
    sites[1].status = 500;
    ZK_SCOPE(scope) {
        ZK_SIM_CHECK(zk_spawn(&scope, check_run, NULL) == 0);
        ZK_SIM_CHECK(zk_sleep(ZK_MS(500)) == 0);
        ZK_SIM_CHECK(pol.turned_out == 1 && share(1) == 0);
        sites[1].status = 0;
        ZK_SIM_CHECK(zk_sleep(ZK_MS(1000)) == 0);
        int few = share(1);
        ZK_SIM_CHECK(pol.turned_well == 1 && few >= 9 && few <= 12);
        zk_scope_cancel(&scope);
    }
    return 0;
}

/* Back because its circuit has closed. */
POLICY_TEST(proxy_slow_start, follows_the_circuit, .upstreams = two, .slow_start_ms = 10000,
            .failures_max = -1, .breaker_percent = 50, .breaker_requests_min = 2,
            .breaker_open_ms = 1000, .breaker_trials = 1)
{
    sites[1].breaks = true;
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").site == 0);
    ZK_SIM_CHECK(pol.turned_out == 1);
    sites[1].breaks = false;
    ZK_SIM_CHECK(zk_sleep(ZK_MS(1000)) == 0);
    for (int i = 0; i < 2; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    int few = share(1);
    ZK_SIM_CHECK(pol.turned_well == 1 && few >= 9 && few <= 12);
    return 0;
}
