/*
 * The simulated network: connections as sockets have them, and the HTTP server on it under faults.
 */
#include <errno.h>

#include "tests/http/sim_site.h"

/* ---- connections ---- */

typedef struct world {
    zk_addr addr;
    zk_listener *listener;
    zk_stream *client, *server;
} world;

static int do_connect(void *arg)
{
    world *w = arg;
    return zk_connect(&w->addr, &w->client);
}

static int open_world(world *w, const char *address)
{
    int rc = zk_addr_parse(address, &w->addr);
    if (rc >= 0) rc = zk_listen(&w->addr, NULL, &w->listener);
    if (rc >= 0) rc = zk_listener_addr(w->listener, &w->addr);
    if (rc < 0) return rc;
    zk_future f;
    zk_async(&f, do_connect, w);
    rc = zk_accept(w->listener, &w->server);
    int connected = zk_await(&f);
    return rc < 0 ? rc : connected;
}

static void close_world(world *w)
{
    zk_stream_close(w->client);
    zk_stream_close(w->server);
    zk_listener_close(w->listener);
}

static int write_much(void *arg)
{
    world *w = arg;
    static const char chunk[1000] = "0123456789";
    for (int i = 0; i < 500; i++) {
        int rc = zk_stream_write(w->client, chunk, sizeof chunk);
        if (rc < 0) return rc;
    }
    return zk_stream_shutdown(w->client);
}

/* Half a megabyte arrives whole and in order, held up by the reader's pace, then the end. */
ZK_SIM_TEST(sim_net, bytes_arrive_in_order, 50,
            (&(zk_sim_options){.short_read_chance = 300, .short_write_chance = 300}))
{
    world w = {0};
    (void)arg;
    char buf[3000];
    size_t total = 0;
    zk_future f;
    int rc = open_world(&w, "127.0.0.1:0");
    if (rc < 0) return rc;
    zk_async(&f, write_much, &w);
    ssize_t n;
    while ((n = zk_stream_read(w.server, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++, total++) {
            size_t at = total % 1000;
            ZK_SIM_CHECK(buf[i] == (at < 10 ? (char)('0' + at) : '\0'));
        }
        if (total % 7 == 0) zk_sleep(ZK_MS(1));
    }
    ZK_SIM_CHECK(n == 0 && total == 500000);
    ZK_SIM_CHECK(zk_await(&f) == 0);
    close_world(&w);
    return 0;
}

ZK_SIM_TEST(sim_net, both_ends_have_addresses, 5, NULL)
{
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0", "127.0.0.1:7777",
                                            "unix:@simulated"};
    (void)arg;
    for (int i = 0; i < 4; i++) {
        world w = {0};
        zk_addr a, b;
        int rc = open_world(&w, addresses[i]);
        if (rc < 0) return zk_fail(rc, "%s", addresses[i]);
        ZK_SIM_CHECK(zk_stream_peer(w.client, &a) == 0 && zk_stream_local(w.server, &b) == 0);
        ZK_SIM_CHECK(a.size == b.size && memcmp(&a.sa, &b.sa, a.size) == 0);
        close_world(&w);
    }
    return 0;
}

ZK_SIM_TEST(sim_net, nobody_listens_is_refused, 5, NULL)
{
    zk_addr addr;
    zk_stream *s;
    (void)arg;
    int rc = zk_addr_parse("10.1.2.3:80", &addr);
    if (rc < 0) return rc;
    ZK_SIM_CHECK(zk_connect(&addr, &s) == -ECONNREFUSED);
    zk_listener *one, *two;
    ZK_SIM_CHECK(zk_listen(&addr, NULL, &one) == 0);
    ZK_SIM_CHECK(zk_listen(&addr, NULL, &two) == -EADDRINUSE);
    zk_listener_close(one);
    ZK_SIM_CHECK(zk_connect(&addr, &s) == -ECONNREFUSED);
    return 0;
}

/* Closing with bytes unread breaks the connection, as the kernel does. */
ZK_SIM_TEST(sim_net, closing_with_bytes_unread_resets, 20, NULL)
{
    world w = {0};
    char buf[8];
    (void)arg;
    int rc = open_world(&w, "127.0.0.1:0");
    if (rc < 0) return rc;
    ZK_SIM_CHECK(zk_stream_write(w.client, "hello", 5) == 0);
    ZK_SIM_CHECK(zk_stream_read(w.server, buf, 1) == 1);
    zk_stream_close(w.server);
    w.server = NULL;
    ZK_SIM_CHECK(zk_stream_read(w.client, buf, sizeof buf) == -ECONNRESET);
    ZK_SIM_CHECK(zk_stream_write(w.client, "x", 1) == -EPIPE);
    close_world(&w);
    return 0;
}

/* A cancelled read has taken nothing: what arrives later is the next reader's. */
ZK_SIM_TEST(sim_net, a_cancelled_read_takes_nothing, 20, NULL)
{
    world w = {0};
    char buf[8];
    ssize_t n = 0;
    (void)arg;
    int rc = open_world(&w, "127.0.0.1:0");
    if (rc < 0) return rc;
    ZK_WITHIN(ZK_MS(5)) {
        n = zk_stream_read(w.server, buf, sizeof buf);
    }
    ZK_SIM_CHECK(n == -ETIMEDOUT);
    ZK_SIM_CHECK(zk_stream_write(w.client, "late", 4) == 0);
    ZK_SIM_CHECK(zk_stream_read(w.server, buf, sizeof buf) == 4);
    close_world(&w);
    return 0;
}

/* ---- the HTTP server ---- */

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_sleep(ZK_MS(1));
    return rc < 0 ? rc : zk_respond_text(res, 200, "Hello, World!");
}

static const zk_route routes[] = {{"GET", "/", hello, .with = NULL}, {0}};

typedef struct site {
    sim_site server;
    int answered, cut_off;
} site;

/* Asks three times on one connection. Each answer is whole, or the connection has broken. */
static int visit(void *arg)
{
    site *s = *(site **)arg;
    static const char request[] = "GET / HTTP/1.1\r\nHost: sim\r\n\r\n";
    zk_stream *stream;
    if (zk_connect(&s->server.addr, &stream) < 0) {
        s->cut_off++;
        return 0;
    }
    char buf[1024];
    int rc = 0;
    for (int i = 0; i < 3 && rc >= 0; i++) {
        size_t have = 0;
        const char *end = NULL;
        rc = zk_stream_write(stream, request, sizeof request - 1);
        while (rc >= 0 && !(end = memmem(buf, have, "Hello, World!", 13))) {
            ssize_t n = zk_stream_read(stream, buf + have, sizeof buf - have);
            rc = n > 0 ? 0 : -ECONNRESET;
            if (n > 0) have += (size_t)n;
            if (have >= 15 && memcmp(buf, "HTTP/1.1 200 OK", 15) != 0) rc = -EBADMSG;
        }
        if (rc == -EBADMSG) break;
        if (end) s->answered++;
    }
    if (rc < 0) s->cut_off++;
    zk_stream_close(stream);
    return rc == -EBADMSG ? rc : 0;
}

static int visits(sim_site *server)
{
    int rc = 0;
    ZK_SCOPE(visitors) {
        for (int i = 0; i < 5; i++)
            if (zk_spawn(&visitors, visit, &server) < 0) break;
        rc = zk_scope_wait(&visitors);
    }
    return rc;
}

static int a_day_on_the_web(void *arg)
{
    site s = {.server.routes = routes};
    int *has_faults = arg, rc = sim_site_run(&s.server, visits);
    if (rc < 0) return rc;
    ZK_SIM_CHECK(*has_faults || (s.answered == 15 && s.cut_off == 0));
    return 0;
}

ZK_TEST(sim_net, the_http_server_runs_on_it)
{
    zk_test_seeds("sim_net", 50, NULL, a_day_on_the_web, &(int){false});
}

ZK_TEST(sim_net, the_http_server_survives_faults)
{
    zk_test_seeds("sim_net", 300, &ZK_SIM_FAULTS, a_day_on_the_web, &(int){true});
}
