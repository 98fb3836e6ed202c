/*
 * Which upstream gets a request, and which gets none for a while.
 */
#include "tests/http/proxying.h"

#include <errno.h>
#include <unistd.h>

/* How many requests each origin has been sent. */
static int asked(const origin *o)
{
    int count = 0;
    for (const char *at = o->log; (at = strstr(at, " HTTP/1.1\r\n")); at++)
        count++;
    return count;
}

static void open_all(void)
{
    for (int i = 0; i < ORIGINS; i++)
        origin_open(&origins[i], NULL, 0);
}

static const char *status(void) { return talk(GET("/")) + 9; }

/* In turn, by weight. */
ZK_ASYNC_TEST(proxy_upstreams, are_asked_in_turn_by_weight)
{
    open_all();
    zk_upstream upstreams[] = {
        {origins[0].address, 3}, {origins[1].address, 1}, {origins[2].address, 0}, {0}};
    proxy_open((zk_proxy_options){.upstreams = upstreams});
    for (int i = 0; i < 10; i++)
        cr_expect(!strncmp(status(), "200", 3));
    cr_expect_eq(asked(&origins[0]), 6);
    cr_expect_eq(asked(&origins[1]), 2);
    cr_expect_eq(asked(&origins[2]), 2);
    proxy_close();
}

/* A key stays with its upstream; when that goes, only its keys move. */
ZK_ASYNC_TEST(proxy_upstreams, keep_their_keys)
{
    open_all();
    proxy_open((zk_proxy_options){.balance = ZK_BALANCE_HASH, .hash_header = "X-Key"});
    zk__proxy_worker *w = zk__proxy_worker_get(px.proxy);
    const uint64_t none[4] = {0};
    int moved = 0, of_first = 0, before[300];
    for (int i = 0; i < 300; i++) {
        before[i] = zk__proxy_pick(w->view, (uint64_t)i * 7919, none);
        cr_assert_eq(zk__proxy_pick(w->view, (uint64_t)i * 7919, none), before[i]);
        of_first += before[i] == 0;
    }
    cr_expect(of_first > 60 && of_first < 140, "%d of 300", of_first);
    atomic_store(&zk__proxy_worker_get(px.proxy)->view->at[0]->upstream->is_down, true);
    for (int i = 0; i < 300; i++) {
        int now = zk__proxy_pick(w->view, (uint64_t)i * 7919, none);
        cr_expect_neq(now, 0);
        moved += before[i] != 0 && now != before[i];
    }
    cr_expect_eq(moved, 0);
    /* Bounded load: the busiest gives keys away. */
    w->active = 30;
    w->view->at[1]->active = 28;
    for (int i = 0; i < 300; i++)
        cr_expect_eq(zk__proxy_pick(w->view, (uint64_t)i * 7919, none), 2);
    w->active = w->view->at[1]->active = 0;
    proxy_close();
}

/* The one with the fewest requests, by weight; and of two at random the better. */
ZK_ASYNC_TEST(proxy_upstreams, share_by_what_they_have_to_do)
{
    static const zk_balance balances[] = {ZK_BALANCE_LEAST, ZK_BALANCE_TWO_CHOICES};
    const uint64_t none[4] = {0};
    for (size_t k = 0; k < ROWS(balances); k++) {
        open_all();
        proxy_open((zk_proxy_options){.balance = balances[k]});
        zk__proxy_worker *w = zk__proxy_worker_get(px.proxy);
        w->view->at[0]->active = 5;
        w->view->at[1]->active = 3;
        w->view->at[2]->active = 9;
        int counts[3] = {0};
        for (int i = 0; i < 300; i++)
            counts[zk__proxy_pick(w->view, 0, none)]++;
        cr_expect_eq(counts[2], 0);
        cr_expect(balances[k] == ZK_BALANCE_LEAST ? counts[1] == 300
                                                  : counts[1] > 150 && counts[0] > 50,
                  "%d %d %d", counts[0], counts[1], counts[2]);
        w->view->at[0]->active = w->view->at[1]->active = w->view->at[2]->active = 0;
        proxy_close();
    }
}

/* What cannot be reached is left out, for longer each time, and taken back when it answers. */
ZK_ASYNC_TEST(proxy_upstreams, are_ejected_and_taken_back)
{
    static const step failing[] = {
        {.after = CLOSE}, {.after = CLOSE}, {.after = CLOSE}, {.after = CLOSE}};
    origin_open(&origins[0], failing, (int)ROWS(failing));
    origin_open(&origins[1], NULL, 0);
    proxy_open((zk_proxy_options){.failures_max = 3, .ejection_ms = 1000});
    for (int i = 0; i < 10; i++)
        cr_expect(!strncmp(status(), "200", 3), "the other has answered");
    cr_expect_eq(asked(&origins[0]), 3, "then it was left out");
    cr_expect_eq(px.turned_out, 1);
    pass_ms(1100);
    for (int i = 0; i < 4; i++)
        status();
    cr_expect_eq(asked(&origins[0]), 4, "one more failure was enough");
    cr_expect_eq(px.turned_out, 2);
    pass_ms(1100);
    for (int i = 0; i < 4; i++)
        status();
    cr_expect_eq(asked(&origins[0]), 4, "for twice as long");
    pass_ms(1000);
    for (int i = 0; i < 4; i++)
        status();
    cr_expect_eq(asked(&origins[0]), 6);
    cr_expect_eq(px.turned_well, 1);
    proxy_close();
}

/* When all are out the one that is due first is tried; when the checks have them down, none. */
ZK_ASYNC_TEST(proxy_upstreams, are_not_given_up_too_early)
{
    static const step failing[] = {{.after = CLOSE}};
    origin_open(&origins[0], failing, (int)ROWS(failing));
    proxy_open((zk_proxy_options){.failures_max = 1});
    cr_expect(!strncmp(status(), "502", 3));
    cr_expect_eq(px.turned_out, 1);
    cr_expect(!strncmp(status(), "200", 3), "there is no other");
    atomic_store(&zk__proxy_worker_get(px.proxy)->view->at[0]->upstream->is_down, true);
    cr_expect(!strncmp(status(), "503", 3));
    cr_expect(strstr(px.reason, "none is available"), "%s", px.reason);
    proxy_close();
}

/* Retries have a budget: what is weak is not brought down by them. */
ZK_ASYNC_TEST(proxy_upstreams, are_not_flooded_with_retries)
{
    static step failing[400];
    for (size_t i = 0; i < ROWS(failing); i++)
        failing[i] = (step){.after = CLOSE};
    for (int i = 0; i < ORIGINS; i++)
        origin_open(&origins[i], failing, (int)ROWS(failing));
    proxy_open((zk_proxy_options){.failures_max = -1});
    for (int i = 0; i < 100; i++)
        cr_expect(!strncmp(status(), "502", 3));
    int total = asked(&origins[0]) + asked(&origins[1]) + asked(&origins[2]);
    cr_expect(total > 110 && total <= 131, "%d", total);
    proxy_close();
}

static int check_run(void *arg)
{
    (void)arg;
    int rc = zk_proxy_check(px.proxy);
    return rc == -ECANCELED ? 0 : rc;
}

/* Checks take an upstream out and back, without a request having to fail. */
ZK_ASYNC_TEST(proxy_upstreams, are_checked)
{
    static const step steps[] = {
        {.answer = OK_ANSWER},
        {.answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"},
        {.answer = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"},
        {.after = CLOSE},
    };
    origin_open(&origins[0], steps, (int)ROWS(steps));
    proxy_open((zk_proxy_options){.health_path = "/up?x", .health_interval_ms = 1000});
    ZK_SCOPE(scope) {
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&scope, &options, check_run, NULL));
        origin_until(origins[0].step_at == 1);
        for (int want = 2; want <= 4; want++) {
            pass_ms(1010);
            origin_until(origins[0].step_at == want);
            settle();
            cr_expect_eq(px.turned_out, want >= 3);
        }
        cr_expect(!strncmp(status(), "503", 3));
        for (int i = 0; i < 2; i++) {
            int before = asked(&origins[0]);
            pass_ms(1010);
            origin_until(asked(&origins[0]) > before);
        }
        origin_until(px.turned_well == 1);
        cr_expect(!strncmp(status(), "200", 3));
        cr_expect(strstr(origins[0].log, "GET /up?x HTTP/1.1\r\n"));
        zk_scope_cancel(&scope);
    }
    proxy_close();
}

/* Without a path there is nothing to ask for. */
ZK_ASYNC_TEST(proxy_upstreams, are_not_checked_without_a_path)
{
    origin_open(&origins[0], NULL, 0);
    proxy_open((zk_proxy_options){0});
    cr_assert_rc(zk_proxy_check(px.proxy), ZK_E_CONFIG);
    proxy_close();
}

static int echo_scheme(zk_request *req, zk_response *res)
{
    return zk_respond_text(res, 200, zk_request_header(req, "x-forwarded-for").data ? "yes" : "no");
}

static const zk_route unix_routes[] = {{"GET", "/", echo_scheme, NULL}, {0}};

/* A name that has no address costs no request, for nothing can have been sent there; alone it is a
 * bad gateway. (Of a name that ends in digits no server is asked.) */
ZK_ASYNC_TEST(proxy_upstreams, may_have_names_that_mean_nothing)
{
    static const char nowhere[] = "nowhere.test:80", bad[] = "nowhere.123:80";
    origin_open(&origins[0], NULL, 0);
    zk_upstream upstreams[] = {{nowhere, 1}, {origins[0].address, 1}, {0}};
    proxy_open((zk_proxy_options){.upstreams = upstreams});
    memcpy(atomic_load(&px.proxy->set)->at[0]->address, bad, sizeof bad);
    for (int i = 0; i < 8; i++) {
        const char *answer =
            talk(i % 2 ? GET("/") : "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        cr_expect(!strncmp(answer, "HTTP/1.1 200", 12), "%s", answer);
    }
    cr_expect_eq(px.turned_out, 1);
    proxy_close();
    upstreams[1] = (zk_upstream){0};
    proxy_open((zk_proxy_options){.upstreams = upstreams});
    memcpy(atomic_load(&px.proxy->set)->at[0]->address, bad, sizeof bad);
    cr_expect(!strncmp(status(), "502", 3));
    cr_expect(strstr(px.reason, "nowhere"), "%s", px.reason);
    proxy_close();
}

/* An upstream may be a Unix socket. */
ZK_ASYNC_TEST(proxy_upstreams, may_be_unix_sockets)
{
    ZK_SCOPE(scope) {
        server s;
        char address[64];
        snprintf(address, sizeof address, "unix:@zokio-test-%d", (int)getpid());
        server_start(&s, &scope, &(zk_server){.listen = address, .routes = unix_routes});
        zk_upstream upstreams[] = {{address, 1}, {0}};
        proxy_open((zk_proxy_options){.upstreams = upstreams});
        for (int i = 0; i < 3; i++)
            cr_expect(strstr(talk(GET("/")), "yes"));
        proxy_close();
        server_stop(&s);
    }
}

static int ask_on_worker(void *arg)
{
    const zk_addr *addr = arg;
    for (int i = 0; i < 10; i++) {
        zk_stream *stream;
        int rc = zk_connect(addr, &stream);
        if (rc < 0) return rc;
        char in[512];
        rc = zk_stream_write(stream, GET("/"), strlen(GET("/")));
        ssize_t n = rc < 0 ? rc : zk_stream_read(stream, in, sizeof in);
        zk_stream_close(stream);
        if (n < 12 || memcmp(in, "HTTP/1.1 200", 12)) return -EPROTO;
    }
    return 0;
}

/* A proxy serves all workers, each with connections of its own, and is freed for all. */
ZK_ASYNC_TEST_ON(proxy_upstreams, are_asked_by_all_workers, 3)
{
    open_all();
    proxy_open((zk_proxy_options){.balance = ZK_BALANCE_LEAST});
    ZK_SCOPE(scope) {
        for (int i = 0; i < 6; i++)
            cr_assert_ok(zk_spawn_on(&scope, i % 3, ask_on_worker, &px.server.addr));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_expect_eq(asked(&origins[0]) + asked(&origins[1]) + asked(&origins[2]), 60);
    proxy_close();
}
