/*
 * The circuit breaker of the proxy's upstreams: the switch by itself, and what requests see of it.
 */
#include "tests/http/policy.h"

static const zk_upstream one[] = {{"127.0.0.1:9000", 1}, {0}};
static const zk_upstream two[] = {{"127.0.0.1:9000", 1}, {"127.0.0.1:9001", 1}, {0}};

/* ---- the switch, without a proxy ---- */

static const zk_proxy_options usual = {
    .breaker_percent = 50,
    .breaker_requests_min = 4,
    .breaker_window_ms = 8000,
    .breaker_open_ms = 1000,
    .breaker_trials = 2,
};

/* One request from its beginning to its end. returns what the judgement has changed; -2: it was not
 * let in. */
static int pass(zk__breaker *b, zk_time now, enum zk__breaker_outcome outcome)
{
    zk__breaker_ticket t;
    if (!zk__breaker_enter(b, &usual, now, &t)) return -2;
    int change = zk__breaker_judge(b, &usual, now, &t, outcome);
    zk__breaker_leave(b, &t);
    return change;
}

/* It opens at the share of failures, not before there are enough requests to tell. */
ZK_TEST(proxy_breaker, opens_at_the_share_of_failures)
{
    static const struct {
        const char *requests; /* '+', '-', and 'o' for one that was given up */
        bool opens;           /* at the last */
    } rows[] = {
        {"---", false},   {"----", true},      {"++--", true},        {"+++--", false},
        {"+++---", true}, {"++++++++", false}, {"--++-", true},       {"-+-o-", true},
        {"-oo-", false},  {"---o+", false},    {"++++++----", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk__breaker b = {0};
        zk__breaker_init(&b);
        int change = -1;
        for (const char *c = rows[i].requests; *c; c++) {
            cr_expect_eq(change, -1, "row %zu: too early, before %s", i, c);
            change = pass(&b, ZK_SEC(100),
                          *c == '+'   ? ZK__OUTCOME_GOOD
                          : *c == '-' ? ZK__OUTCOME_BAD
                                      : ZK__OUTCOME_UNKNOWN);
        }
        cr_expect_eq(change, rows[i].opens ? ZK__BREAKER_OPEN : -1, "row %zu", i);
        zk__breaker_done(&b);
    }
}

/* What is older than the window is forgotten. */
ZK_TEST(proxy_breaker, forgets_what_is_old)
{
    zk__breaker b = {0};
    zk__breaker_init(&b);
    zk_time now = ZK_SEC(100);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(pass(&b, now, ZK__OUTCOME_BAD), -1);
    now += ZK_SEC(8);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(pass(&b, now, ZK__OUTCOME_BAD), -1);
    now += ZK_SEC(7);
    cr_expect_eq(pass(&b, now, ZK__OUTCOME_BAD), ZK__BREAKER_OPEN, "these are still there");
    zk__breaker_done(&b);
}

static void open_it(zk__breaker *b, zk_time now)
{
    for (int i = 0; i < 4; i++)
        (void)pass(b, now, ZK__OUTCOME_BAD);
    cr_assert_eq(atomic_load(&b->state), ZK__BREAKER_OPEN);
}

/* Open, it lets nothing in; half open only the trials; when all have succeeded, everything. */
ZK_TEST(proxy_breaker, closes_when_the_trials_succeed)
{
    zk__breaker b = {0};
    zk__breaker_init(&b);
    zk_time now = ZK_SEC(100);
    open_it(&b, now);
    cr_expect(!zk__breaker_admits(&b, &usual, now));
    cr_expect_eq(pass(&b, now + ZK_MS(999), ZK__OUTCOME_GOOD), -2);
    now += ZK_MS(1000);
    cr_expect(zk__breaker_admits(&b, &usual, now));
    zk__breaker_ticket t[3];
    cr_expect(zk__breaker_enter(&b, &usual, now, &t[0]));
    cr_expect_eq(atomic_load(&b.state), ZK__BREAKER_HALF_OPEN);
    cr_expect(zk__breaker_enter(&b, &usual, now, &t[1]));
    cr_expect(!zk__breaker_enter(&b, &usual, now, &t[2]), "there are two trials");
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[0], ZK__OUTCOME_GOOD), -1);
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[0], ZK__OUTCOME_BAD), -1, "said already");
    cr_expect(!zk__breaker_enter(&b, &usual, now, &t[2]), "the second is not over");
    /* Who has left has shown nothing, and leaves the place to another. */
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[1], ZK__OUTCOME_UNKNOWN), -1);
    cr_expect(zk__breaker_enter(&b, &usual, now, &t[2]));
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[2], ZK__OUTCOME_GOOD), ZK__BREAKER_CLOSED);
    cr_expect_eq(pass(&b, now, ZK__OUTCOME_BAD), -1, "the window is a new one");
    cr_expect_eq(atomic_load(&b.opened), 1);
    zk__breaker_done(&b);
}

/* One failed trial opens it again; trials of the time before count no more. */
ZK_TEST(proxy_breaker, opens_again_when_a_trial_fails)
{
    zk__breaker b = {0};
    zk__breaker_init(&b);
    zk_time now = ZK_SEC(100);
    open_it(&b, now);
    now += ZK_SEC(1);
    zk__breaker_ticket t[2];
    cr_expect(zk__breaker_enter(&b, &usual, now, &t[0]) &&
              zk__breaker_enter(&b, &usual, now, &t[1]));
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[0], ZK__OUTCOME_BAD), ZK__BREAKER_OPEN);
    cr_expect_eq(pass(&b, now + ZK_MS(999), ZK__OUTCOME_GOOD), -2);
    now += ZK_SEC(1);
    zk__breaker_ticket fresh;
    cr_expect(zk__breaker_enter(&b, &usual, now, &fresh));
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &t[1], ZK__OUTCOME_BAD), -1, "a late one");
    cr_expect_eq(atomic_load(&b.state), ZK__BREAKER_HALF_OPEN);
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &fresh, ZK__OUTCOME_GOOD), -1);
    cr_expect_eq(pass(&b, now, ZK__OUTCOME_GOOD), ZK__BREAKER_CLOSED);
    cr_expect_eq(atomic_load(&b.opened), 2);
    zk__breaker_done(&b);
}

/* A request that was let in while it was closed has no say in what follows. */
ZK_TEST(proxy_breaker, asks_only_those_of_its_time)
{
    zk__breaker b = {0};
    zk__breaker_init(&b);
    zk_time now = ZK_SEC(100);
    zk__breaker_ticket early;
    cr_expect(zk__breaker_enter(&b, &usual, now, &early));
    open_it(&b, now);
    now += ZK_SEC(1);
    zk__breaker_ticket trial;
    cr_expect(zk__breaker_enter(&b, &usual, now, &trial));
    cr_expect_eq(zk__breaker_judge(&b, &usual, now, &early, ZK__OUTCOME_BAD), -1);
    cr_expect_eq(atomic_load(&b.state), ZK__BREAKER_HALF_OPEN);
    zk__breaker_done(&b);
}

/* More requests than a counter holds keep their share. */
ZK_TEST(proxy_breaker, counts_very_many)
{
    zk__breaker b = {0};
    zk__breaker_init(&b);
    zk_time now = ZK_SEC(100);
    for (int i = 0; i < 1100000; i++)
        cr_assert_eq(pass(&b, now, i % 5 > 2 ? ZK__OUTCOME_BAD : ZK__OUTCOME_GOOD), -1);
    int more = 0;
    while (pass(&b, now, ZK__OUTCOME_BAD) == -1)
        more++;
    cr_expect(more > 50000 && more < 250000, "%d", more);
    zk__breaker_done(&b);
}

/* ---- in the proxy ---- */

/* Failures open the circuit: clients are told at once, with a reason, and the upstream is left
 * alone; trials close it. */
POLICY_TEST(proxy_breaker, spares_who_fails, .upstreams = one, .failures_max = -1,
            .breaker_percent = 50, .breaker_requests_min = 4, .breaker_open_ms = 1000,
            .breaker_trials = 2, .tries_max = 1)
{
    sites[0].breaks = true;
    for (int i = 0; i < 4; i++)
        ZK_SIM_CHECK(ask("/").status == 502);
    ZK_SIM_CHECK(pol.turned_out == 1);
    ZK_SIM_CHECK(!strcmp(pol.said, "127.0.0.1:9000 out: the circuit has opened"));
    ZK_SIM_CHECK(metric("circuit{upstream=\"127.0.0.1:9000\",state=\"open\"}") == 1);
    ZK_SIM_CHECK(metric("circuit{upstream=\"127.0.0.1:9000\",state=\"closed\"}") == 0);
    ZK_SIM_CHECK(ask("/").status == 503 && sites[0].asked == 4);
    ZK_SIM_CHECK(strstr(pol.reason, "0 down, 1 with an open circuit, 0 at the limit"));
    sites[0].breaks = false;
    ZK_SIM_CHECK(zk_sleep(ZK_MS(1000)) == 0);
    ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(metric("circuit{upstream=\"127.0.0.1:9000\",state=\"half-open\"}") == 1);
    ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(!strcmp(pol.said, "127.0.0.1:9000 well: the circuit has closed"));
    ZK_SIM_CHECK(metric("circuit{upstream=\"127.0.0.1:9000\",state=\"closed\"}") == 1);
    ZK_SIM_CHECK(metric("circuit_opened_total{upstream=\"127.0.0.1:9000\"}") == 1);
    return 0;
}

/* The answers 5xx count; the limit may be another, or none. */
POLICY_TEST(proxy_breaker, counts_bad_answers, .upstreams = two, .breaker_percent = 50,
            .breaker_requests_min = 4)
{
    sites[0].status = 503;
    for (int i = 0; i < 8; i++)
        ask("/");
    ZK_SIM_CHECK(sites[0].asked == 4);
    for (int i = 0; i < 8; i++)
        ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(sites[0].asked == 4);
    return 0;
}

POLICY_TEST(proxy_breaker, counts_no_answers_if_told_so, .upstreams = one, .breaker_percent = 50,
            .breaker_requests_min = 4, .breaker_status_min = -1)
{
    sites[0].status = 503;
    for (int i = 0; i < 20; i++)
        ZK_SIM_CHECK(ask("/").status == 503);
    ZK_SIM_CHECK(sites[0].asked == 20);
    return 0;
}

/* A limit on requests at once sends the others elsewhere, or away. */
POLICY_TEST(proxy_breaker, limits_what_is_in_progress, .upstreams = two, .active_max = 2)
{
    sites[0].delay = sites[1].delay = ZK_MS(100);
    later l[5];
    for (int i = 0; i < 5; i++)
        ask_later(&l[i]);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(50)) == 0);
    ZK_SIM_CHECK(sites[0].asked == 2 && sites[1].asked == 2);
    ZK_SIM_CHECK(strstr(pol.reason, "2 at the limit"));
    int refused = 0;
    for (int i = 0; i < 5; i++) {
        zk_await(&l[i].future);
        refused += l[i].got.status == 503;
    }
    ZK_SIM_CHECK(refused == 1);
    ZK_SIM_CHECK(ask("/").status == 200);
    return 0;
}

static const zk_client_options narrow = {.connections_max = 1};

/* A limit on those that wait for a connection, too. */
POLICY_TEST(proxy_breaker, limits_what_is_pending, .upstreams = one, .pending_max = 1,
            .client = &narrow)
{
    sites[0].delay = ZK_MS(100);
    later l[3];
    for (int i = 0; i < 3; i++) {
        ask_later(&l[i]);
        ZK_SIM_CHECK(zk_sleep(ZK_MS(20)) == 0);
    }
    for (int i = 0; i < 3; i++)
        zk_await(&l[i].future);
    ZK_SIM_CHECK(l[0].got.status == 200 && l[1].got.status == 200 && l[2].got.status == 503);
    return 0;
}

/* A client that leaves during a trial gives its place back. */
POLICY_TEST(proxy_breaker, survives_clients_that_leave, .upstreams = one, .failures_max = -1,
            .breaker_percent = 50, .breaker_requests_min = 2, .breaker_open_ms = 1000,
            .breaker_trials = 1, .active_max = 1, .tries_max = 1)
{
    sites[0].breaks = true;
    ZK_SIM_CHECK(ask("/").status == 502 && ask("/").status == 502 && ask("/").status == 503);
    sites[0].breaks = false;
    sites[0].delay = ZK_SEC(5);
    ZK_SIM_CHECK(zk_sleep(ZK_MS(1000)) == 0);
    int status = 0;
    ZK_WITHIN(ZK_MS(100))
        status = ask("/").status;
    ZK_SIM_CHECK(status == -ETIMEDOUT);
    sites[0].delay = 0;
    ZK_SIM_CHECK(zk_sleep(ZK_SEC(5)) == 0);
    ZK_SIM_CHECK(ask("/").status == 200);
    ZK_SIM_CHECK(metric("circuit{upstream=\"127.0.0.1:9000\",state=\"closed\"}") == 1);
    return 0;
}

/* Numbers that make no sense are refused. */
ZK_TEST(proxy_breaker, refuses_bad_numbers)
{
    static const zk_proxy_options rows[] = {
        {.upstreams = one, .breaker_percent = 101},     {.upstreams = one, .breaker_percent = -1},
        {.upstreams = one, .breaker_requests_min = -1}, {.upstreams = one, .breaker_trials = -1},
        {.upstreams = one, .breaker_open_ms = -1},      {.upstreams = one, .breaker_window_ms = 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk_proxy *proxy = NULL;
        cr_expect_eq(zk_proxy_new(&rows[i], &proxy), ZK_E_CONFIG, "row %zu", i);
        cr_expect_null(proxy);
    }
}
