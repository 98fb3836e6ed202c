/*
 * Hedging: a second try beside a slow first one.
 */
#include "tests/http/policy.h"

static const zk_upstream one[] = {{"127.0.0.1:9000", 1}, {0}};
static const zk_upstream two[] = {{"127.0.0.1:9000", 1}, {"127.0.0.1:9001", 1}, {0}};

static zk__upstream_use *use_of(int i) { return zk__proxy_worker_get(pol.proxy)->view->at[i]; }

/* The budget begins with ten. */
static double budget(void) { return zk__proxy_worker_get(pol.proxy)->retry_tokens; }

/* The second answers first: the first is cancelled, and its connection closed. */
POLICY_TEST(proxy_hedge, takes_the_second_answer, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = ZK_SEC(10);
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 200 && a.site == 1);
    ZK_SIM_CHECK(a.took >= ZK_MS(50) && a.took < ZK_MS(70));
    ZK_SIM_CHECK(sites[0].asked == 1 && sites[1].asked == 1 && pol.tries == 2);
    ZK_SIM_CHECK(use_of(0)->origin->count == 0 && use_of(0)->active == 0);
    ZK_SIM_CHECK(use_of(1)->origin->idle_count == 1 && use_of(1)->active == 0);
    ZK_SIM_CHECK(use_of(0)->failures == 0); /* to be slow is no failure */
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_total ") == 1);
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_won_total ") == 1);
    ZK_SIM_CHECK(budget() < 9.5);
    return 0;
}

/* The first answers first: the second is cancelled. */
POLICY_TEST(proxy_hedge, takes_the_first_answer, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = ZK_MS(100);
    sites[1].delay = ZK_SEC(10);
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 200 && a.site == 0 && a.took < ZK_MS(120));
    ZK_SIM_CHECK(sites[1].asked == 1);
    ZK_SIM_CHECK(use_of(1)->origin->count == 0);
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_total ") == 1);
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_won_total ") == 0);
    return 0;
}

/* Who answers in time is asked alone. */
POLICY_TEST(proxy_hedge, waits_for_the_delay, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = sites[1].delay = ZK_MS(30);
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked == 2 && sites[1].asked == 2);
    return 0;
}

/* What may not be done twice, or has nowhere else to go, is not hedged. */
POLICY_TEST(proxy_hedge, is_for_safe_methods, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = sites[1].delay = ZK_MS(200);
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH"};
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask_as(methods[i], "/", NULL).status == 200);
    ZK_SIM_CHECK(sites[0].asked + sites[1].asked == 4);
    for (int i = 0; i < 2; i++)
        ZK_SIM_CHECK(ask_as(i ? "OPTIONS" : "HEAD", "/", NULL).status == 200);
    ZK_SIM_CHECK(sites[0].asked + sites[1].asked == 8);
    ZK_SIM_CHECK(zk_proxy_reload(pol.proxy, one) == 0);
    int before = sites[0].asked;
    ZK_SIM_CHECK(ask("/").status == 200 && sites[0].asked == before + 1);
    return 0;
}

/* The first fails while the second is under way: the second's answer is taken. */
POLICY_TEST(proxy_hedge, outlives_a_failure, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = ZK_MS(80);
    sites[0].breaks = true;
    sites[1].delay = ZK_MS(100);
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 200 && a.site == 1);
    ZK_SIM_CHECK(use_of(0)->failures == 1 && use_of(1)->failures == 0);
    return 0;
}

/* A failure before the delay is an ordinary one, and retried. */
POLICY_TEST(proxy_hedge, leaves_failures_to_retries, .upstreams = two, .hedge_ms = 50)
{
    sites[0].breaks = true;
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 200 && a.site == 1 && a.took < ZK_MS(50));
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_total ") == 0);
    ZK_SIM_CHECK(metric("zokio_proxy_retries_total ") == 1);
    return 0;
}

/* Both fail: the client is told, once; and a third is tried if there is one. */
POLICY_TEST(proxy_hedge, fails_when_both_do, .upstreams = two, .hedge_ms = 50)
{
    for (int i = 0; i < 2; i++) {
        sites[i].breaks = true;
        sites[i].delay = ZK_MS(100);
    }
    ZK_SIM_CHECK(ask("/").status == 502);
    ZK_SIM_CHECK(pol.tries == 2 && *pol.reason);
    return 0;
}

POLICY_TEST(proxy_hedge, goes_on_when_both_fail, .hedge_ms = 50)
{
    for (int i = 0; i < 2; i++) {
        sites[i].breaks = true;
        sites[i].delay = ZK_MS(100);
    }
    answer a = ask("/");
    ZK_SIM_CHECK(a.status == 200 && a.site == 2 && pol.tries == 3);
    return 0;
}

/* tries_max and the budget bind hedges, too. */
POLICY_TEST(proxy_hedge, obeys_the_tries, .upstreams = two, .hedge_ms = 50, .tries_max = 1)
{
    sites[0].delay = sites[1].delay = ZK_MS(100);
    ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked + sites[1].asked == 1);
    return 0;
}

POLICY_TEST(proxy_hedge, obeys_the_budget, .upstreams = two, .hedge_ms = 50,
            .retry_percent_max = 10)
{
    sites[0].delay = sites[1].delay = ZK_MS(100);
    for (int i = 0; i < 100; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    int total = sites[0].asked + sites[1].asked;
    ZK_SIM_CHECK(total >= 115 && total <= 121); /* ten at first, and a tenth */
    return 0;
}

/* A client that leaves ends both. */
POLICY_TEST(proxy_hedge, ends_with_its_client, .upstreams = two, .hedge_ms = 50)
{
    sites[0].delay = sites[1].delay = ZK_SEC(100);
    int status = 0;
    ZK_WITHIN(ZK_MS(100))
        status = ask("/").status;
    ZK_SIM_CHECK(status == -ETIMEDOUT);
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(3)) == 0);
    ZK_SIM_CHECK(use_of(0)->active == 0 && use_of(1)->active == 0);
    ZK_SIM_CHECK(use_of(0)->origin->count == 0 && use_of(1)->origin->count == 0);
    ZK_SIM_CHECK(use_of(0)->failures == 0 && use_of(1)->failures == 0);
    return 0;
}

/* The delay follows the answers: nothing is hedged before enough are known, then what is slower
 * than they were. */
POLICY_TEST(proxy_hedge, follows_a_percentile, .upstreams = two, .hedge_percentile = 95)
{
    sites[0].delay = ZK_SEC(1);
    ZK_SIM_CHECK(ask("/").site == 0); /* nothing is known */
    sites[0].delay = sites[1].delay = ZK_MS(20);
    for (int i = 0; i < 110; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(metric("zokio_proxy_hedges_total ") <= 6);
    sites[0].delay = sites[1].delay = ZK_SEC(10);
    later l;
    ask_later(&l);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(80)) == 0);
    sites[0].delay = sites[1].delay = 0;
    ZK_SIM_CHECK(use_of(0)->active == 1 && use_of(1)->active == 1);
    zk_await(&l.future);
    ZK_SIM_CHECK(l.got.status == 200);
    return 0;
}

/* The percentile is within a bucket of the true one, whatever the scale. */
ZK_TEST(proxy_hedge, knows_percentiles)
{
    static const zk_time scales[] = {ZK_US(1), ZK_US(37), ZK_MS(1), ZK_MS(90), ZK_SEC(1)};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        zk__latency l = {0};
        for (int k = 0; k < 99; k++)
            zk__proxy_latency_add(&l, scales[i] * (k % 100 + 1), 90);
        cr_expect_eq(l.at_least, 0, "too few");
        for (int k = 99; k < 20000; k++)
            zk__proxy_latency_add(&l, scales[i] * (k % 100 + 1), 90);
        double share = (double)l.at_least / (double)(scales[i] * 90);
        cr_expect(share > 0.95 && share < 1.3, "scale %zu: %f", i, share);
    }
    /* What is beyond all buckets is in the last. */
    zk__latency l = {0};
    for (int k = 0; k < 100; k++)
        zk__proxy_latency_add(&l, INT64_MAX, 90);
    cr_expect(l.at_least > ZK_SEC(1000));
}

/* It forgets: what was slow once is not expected for ever. */
ZK_TEST(proxy_hedge, forgets)
{
    zk__latency l = {0};
    for (int k = 0; k < 3000; k++)
        zk__proxy_latency_add(&l, ZK_SEC(1), 50);
    cr_expect(l.at_least > ZK_MS(900));
    for (int k = 0; k < 6000; k++)
        zk__proxy_latency_add(&l, ZK_MS(1), 50);
    cr_expect(l.at_least < ZK_MS(2));
}

/* With faults of all kinds each request has one whole answer, or none. */
static int faulty(void *arg)
{
    (void)arg;
    int wrong = 0;
    for (int i = 0; i < SITES; i++)
        sites[i].delay = (zk_time)(zk_sim_random() % 20) * ZK_MS(1);
    for (int i = 0; i < 20; i++) {
        answer a = ask("/");
        wrong += a.status == 200 && a.site < 0;
    }
    ZK_SIM_CHECK(wrong == 0);
    return 0;
}

static int faulty_start(void *arg)
{
    (void)arg;
    int rc = policy_run(&(zk_proxy_options){.hedge_ms = 5, .retry_percent_max = -1}, faulty);
    /* A site may not have been able to listen. */
    return rc == -EMFILE || rc == -ECANCELED ? 0 : rc;
}

ZK_TEST(proxy_hedge, survives_faults)
{
    zk_test_seeds("http/proxy_hedge", 12, &ZK_SIM_FAULTS, faulty_start, NULL);
}
