/*
 * Serving over real sockets: what only a kernel brings (resets, full descriptor tables, signals),
 * and how a server starts and stops.
 */
#include "tests/http/fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

static int slept; /* what the last sleep returned; 1: it goes on */

static int sleeps(zk_request *req, zk_response *res)
{
    (void)req;
    slept = 1;
    slept = zk_sleep(ZK_SEC(10));
    return slept < 0 ? slept : zk_respond(res, 200, NULL, NULL, 0);
}

static int closes(zk_request *req, zk_response *res)
{
    zk_response_close(res);
    return nothing(req, res);
}

static int says_peer(zk_request *req, zk_response *res)
{
    zk_addr peer;
    char text[ZK_ADDR_TEXT_BYTES];
    int rc = zk_request_peer(req, &peer);
    if (rc < 0) return rc;
    return zk_respond(res, 200, NULL, text, zk_addr_format(&peer, text));
}

static int streams(zk_request *req, zk_response *res)
{
    (void)req;
    static char data[65536];
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    while (rc >= 0)
        rc = zk_response_write(res, data, sizeof data);
    return slept = rc;
}

static const zk_route routes[] = {
    {"GET", "/", nothing, NULL},
    {"POST", "/", nothing, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {"GET", "/peer", says_peer, NULL},
    {"GET", "/streams", streams, NULL},
    {"GET", "/closes", closes, NULL},
    {0},
};

/* A test with a server `s`, which is stopped at its end unless the test has done so. */
#define SERVER_TEST(name, ...)                                                                     \
    static void zk__serving_##name(server *s);                                                     \
    ZK_ASYNC_TEST(server, name)                                                                    \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            server zk__s;                                                                          \
            server_start(&zk__s, &scope, &(zk_server){.routes = routes, ##__VA_ARGS__});           \
            cr_assert_rc(zk__s.rc, 1);                                                             \
            zk__serving_##name(&zk__s);                                                            \
            if (zk__s.rc == 1) server_stop(&zk__s);                                                \
        }                                                                                          \
    }                                                                                              \
    static void zk__serving_##name(server *s)

static void settle_long(void)
{
    for (int i = 0; i < 20; i++)
        settle();
}

/* ---- clients ---- */

SERVER_TEST(serves_over_tcp)
{
    zk_stream *c = tcp_open(s);
    tcp_send(c, GET("/"));
    tcp_expect(c, EMPTY, false);
    tcp_send(c, GET("/") GET("/nowhere"));
    tcp_expect(c, EMPTY PAGE("14", "404 Not Found"), false);
    zk_stream_close(c);
}

SERVER_TEST(knows_its_clients_address)
{
    zk_addr own;
    char text[ZK_ADDR_TEXT_BYTES], wanted[256];
    zk_stream *c = tcp_open(s);
    cr_assert_ok(zk_stream_local(c, &own));
    size_t size = zk_addr_format(&own, text);
    snprintf(wanted, sizeof wanted, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", size, text);
    tcp_send(c, GET("/peer"));
    tcp_expect(c, wanted, false);
    zk_stream_close(c);
}

/* RFC 9112 section 9.6: a reset would take the response away from the client. */
SERVER_TEST(a_client_that_goes_on_sending_gets_the_last_response)
{
    static char body[300000];
    static const struct row {
        const char *head, *wanted;
    } rows[] = {
        {"@ y\r\n\r\n", LAST_PAGE("16", "400 Bad Request")},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", LAST_EMPTY},
        {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
         LAST_PAGE("14", "404 Not Found")},
        {GET("/closes"), LAST_EMPTY},
    };
    for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
        zk_stream *c = tcp_open(s);
        tcp_send(c, row->head);
        settle_long();
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_stream_write(c, body, sizeof body));
        tcp_expect(c, row->wanted, true);
        zk_stream_close(c);
    }
}

SERVER_TEST(a_half_closed_client_gets_its_response, .half_close_grace_ms = 11000)
{
    static const char *const texts[] = {GET("/"), GET("/sleeps")};
    for (size_t i = 0; i < ROWS(texts); i++) {
        zk_stream *c = tcp_open(s);
        tcp_send(c, texts[i]);
        cr_assert_ok(zk_stream_shutdown(c));
        settle_long();
        if (i) pass_ms(10001);
        tcp_expect(c, EMPTY, true);
        zk_stream_close(c);
    }
}

/* The end comes with the request or later, on a fresh connection or on one that was parked. */
SERVER_TEST(a_handler_of_a_client_that_goes_is_cancelled, .half_close_grace_ms = 1000)
{
    for (int round = 0; round < 8; round++) {
        bool is_used = round & 1, is_early = round & 2, is_reset = round & 4;
        zk_stream *c = tcp_open(s);
        if (is_used) {
            tcp_send(c, GET("/"));
            tcp_expect(c, EMPTY, false);
            settle_long();
        }
        slept = 2;
        tcp_send(c, GET("/sleeps"));
        if (!is_early || is_reset) settle_long();
        if (is_reset) {
            cr_assert_eq(slept, 1);
            tcp_reset(c);
        } else {
            cr_assert_ok(zk_stream_shutdown(c));
            settle_long();
            pass_ms(900);
            cr_assert_eq(slept, 1, "round %d", round);
            pass_ms(200);
        }
        settle_long();
        cr_assert_rc(slept, -ECANCELED, "round %d", round);
        if (!is_reset) zk_stream_close(c);
    }
}

SERVER_TEST(a_reset_in_the_middle_of_a_response_ends_it)
{
    for (int i = 0; i < 20; i++) {
        static char part[100000];
        zk_stream *c = tcp_open(s);
        slept = 1;
        tcp_send(c, GET("/streams"));
        cr_assert_gt(zk_stream_read(c, part, 1 + (size_t)i * 5000), 0);
        tcp_reset(c);
        settle_long();
        cr_assert(slept == -ECONNRESET || slept == -EPIPE || slept == -ECANCELED, "%s",
                  zk_errname(slept));
    }
}

/* ---- limits ---- */

SERVER_TEST(no_more_than_connections_max_are_served, .connections_max = 2)
{
    zk_stream *c[3];
    for (int i = 0; i < 3; i++) {
        c[i] = tcp_open(s);
        tcp_send(c[i], GET("/"));
    }
    tcp_expect(c[0], EMPTY, false);
    tcp_expect(c[1], EMPTY, false);
    char byte;
    settle_long();
    cr_assert_rc(zk_stream_try_read(c[2], &byte, 1), -EAGAIN);
    zk_stream_close(c[0]);
    tcp_expect(c[2], EMPTY, false);
    zk_stream_close(c[1]);
    zk_stream_close(c[2]);
}

/*
 * Takes all descriptors that are left; what fails meanwhile is asserted later, for Criterion needs
 * some itself.
 */
static int descriptors_take(int *fds, int max)
{
    int count = 0;
    while (count < max && (fds[count] = dup(0)) >= 0)
        count++;
    return count;
}

ZK_ASYNC_TEST(server, without_descriptors_it_serves_on_and_accepts_later)
{
    enum { MAX = 100 };
    static const char get[] = GET("/");
    struct rlimit limit;
    int fds[MAX];
    char text[512];
    cr_assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = MAX;
    /* Before the server starts: io_uring keeps the limit that was there when it began to accept. */
    cr_assert(!setrlimit(RLIMIT_NOFILE, &limit));
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        zk_stream *old = tcp_open(&s);
        tcp_send(old, GET("/"));
        tcp_expect(old, EMPTY, false);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert_geq(fd, 0);
        int count = descriptors_take(fds, MAX);
        int rc = connect(fd, &s.addr.sa, s.addr.size);
        ssize_t sent = send(fd, get, sizeof get - 1, 0);
        settle_long();
        pass_ms(100);
        ssize_t early = recv(fd, text, sizeof text, MSG_DONTWAIT);
        ssize_t n = zk_stream_write(old, get, sizeof get - 1);
        if (n == 0) n = zk_stream_read(old, text, sizeof text);
        for (int i = 0; i < count; i++)
            close(fds[i]);
        cr_assert(count > 0 && count < MAX, "%d", count);
        cr_assert(rc == 0 && sent == (ssize_t)sizeof get - 1);
        cr_assert_lt(early, 0, "there was a descriptor");
        cr_assert_gt(n, 0, "the old client is not served: %zd", n);
        pass_ms(100);
        settle_long();
        cr_assert_gt(recv(fd, text, sizeof text, MSG_DONTWAIT), 0);
        close(fd);
        zk_stream_close(old);
        server_stop(&s);
    }
}

/* ---- stopping ---- */

SERVER_TEST(drains_idle_clients_at_once_and_busy_ones_when_they_are_done)
{
    zk_stream *idle = tcp_open(s), *busy = tcp_open(s), *late;
    tcp_send(idle, GET("/"));
    tcp_expect(idle, EMPTY, false);
    tcp_send(busy, GET("/sleeps"));
    settle_long();
    zk_serving_drain(s->serving);
    zk_serving_drain(s->serving);
    tcp_expect(idle, "", true);
    cr_assert_rc(zk_connect(&s->addr, &late), -ECONNREFUSED);
    cr_assert_eq(s->rc, 1);
    pass_ms(10001);
    tcp_expect(busy, LAST_EMPTY, true);
    zk_stream_close(idle);
    zk_stream_close(busy);
    settle_long();
    cr_assert_rc(s->rc, 0);
}

/* Bytes behind the request would let the connection linger. */
SERVER_TEST(cancels_what_is_not_done_at_the_end_of_draining, .drain_timeout_ms = 1000)
{
    zk_stream *busy = tcp_open(s), *more = tcp_open(s), *half = tcp_open(s);
    tcp_send(busy, GET("/sleeps"));
    tcp_send(more, GET("/sleeps") GET("/") "GET /");
    tcp_send(half, "GET /");
    settle_long();
    zk_serving_drain(s->serving);
    settle_long();
    pass_ms(900);
    cr_assert_eq(s->rc, 1);
    cr_assert_eq(slept, 1);
    pass_ms(200);
    settle_long();
    cr_assert_rc(s->rc, 0);
    cr_assert_rc(slept, -ECANCELED);
    tcp_expect(busy, LAST_PAGE("26", "500 Internal Server Error"), true);
    tcp_expect(half, "", true);
    pass_ms(10000);
    zk_stream_close(busy);
    zk_stream_close(more);
    zk_stream_close(half);
}

static int drain_from_a_thread(void *arg)
{
    zk_serving_drain(arg);
    return 0;
}

SERVER_TEST(another_thread_may_stop_it)
{
    cr_assert_ok(zk_blocking(drain_from_a_thread, s->serving));
    settle_long();
    cr_assert_rc(s->rc, 0);
}

ZK_ASYNC_TEST(server, ends_with_the_scope_that_it_is_in)
{
    server s;
    zk_stream *idle = NULL, *busy = NULL;
    ZK_SCOPE(scope) {
        server_start(&s, &scope, &(zk_server){.routes = routes});
        idle = tcp_open(&s);
        busy = tcp_open(&s);
        tcp_send(idle, GET("/"));
        tcp_expect(idle, EMPTY, false);
        tcp_send(busy, GET("/sleeps"));
        settle_long();
        zk_scope_cancel(&scope);
    }
    cr_assert_rc(s.rc, -ECANCELED);
    cr_assert_rc(slept, -ECANCELED);
    tcp_expect(idle, "", true);
    zk_stream_close(idle);
    zk_stream_close(busy);
}

static int serve_it(void *arg) { return zk_serve(arg); }

ZK_ASYNC_TEST(server, ends_at_a_deadline)
{
    zk_server config = {.listen = "127.0.0.1:0", .routes = routes, .no_signals = true};
    cr_assert_rc(zk_timeout(ZK_MS(5), serve_it, &config), -ETIMEDOUT);
}

/* ---- signals, each in a process of its own ---- */

static void raise_term(void *context, zk_serving *serving)
{
    (void)context, (void)serving;
    raise(SIGTERM);
}

static void raise_int_twice(void *context, zk_serving *serving)
{
    (void)context, (void)serving;
    raise(SIGINT);
    raise(SIGTERM);
}

static int serve_with(void (*on_listening)(void *, zk_serving *))
{
    zk_server config = {
        .listen = "127.0.0.1:0",
        .routes = routes,
        .on_listening = on_listening,
        .config = &(zk_config){.workers = 1},
    };
    return zk_serve(&config);
}

static void raise_hup(void *context, zk_serving *serving)
{
    (void)context, (void)serving;
    raise(SIGHUP);
}

static int hangup(void *arg)
{
    (void)arg;
    signal(SIGHUP, SIG_DFL); /* nohup has had it ignored */
    (void)serve_with(raise_hup);
    return 0;
}

static int first_signal(void *arg)
{
    (void)arg;
    int rc = serve_with(raise_term);
    /* What was there before is there again. */
    struct sigaction action;
    sigaction(SIGTERM, NULL, &action);
    if (rc == 0 && action.sa_handler != SIG_DFL) return 2;
    return rc == 0 ? serve_with(raise_term) != 0 : 1;
}

static int second_signal(void *arg)
{
    (void)arg;
    (void)serve_with(raise_int_twice);
    return 0;
}

ZK_TEST(server, drains_at_the_first_signal_outside_zk_run)
{
    zk_test_child child = zk_test_fork(first_signal, NULL);
    cr_assert_child_ok(child);
}

/* Without TLS there is nothing to read again: a closed terminal ends the server as any program. */
ZK_TEST(server, leaves_sighup_alone)
{
    zk_test_child child = zk_test_fork(hangup, NULL);
    cr_assert(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGHUP, "%x",
              (unsigned)child.status);
}

ZK_TEST(server, ends_the_process_at_the_second_signal)
{
    zk_test_child child = zk_test_fork(second_signal, NULL);
    cr_assert(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 128 + SIGTERM, "%x",
              (unsigned)child.status);
}

/* ---- starting ---- */

static const zk_route no_slash[] = {{"GET", "a", nothing, NULL}, {0}};
static const zk_route twice[] = {
    {"GET", "/a/{x}", nothing, NULL}, {"GET", "/a/{y}", nothing, NULL}, {0}};
static const zk_route no_handler[] = {{"GET", "/a", NULL, NULL}, {0}};

ZK_ASYNC_TEST(server, says_why_it_cannot_start)
{
    static const struct row {
        zk_server config;
        int rc;
        const char *trail;
    } rows[] = {
        {{.listen = "nowhere"}, ZK_E_ADDR, "nowhere"},
        {{.listen = "127.0.0.1:99999"}, ZK_E_ADDR, "99999"},
        {{.listen = "127.0.0.1:0", .routes = no_slash}, ZK_E_HTTP_ROUTE, "route \"a\""},
        {{.listen = "127.0.0.1:0", .routes = twice}, ZK_E_HTTP_ROUTE, "route \"/a/{y}\""},
        {{.listen = "127.0.0.1:0", .routes = no_handler}, ZK_E_HTTP_ROUTE, "no handler"},
        {{.listen = "127.0.0.1:0", .server_name = "a\r\nb"}, ZK_E_CONFIG, "server_name"},
        {{.listen = "127.0.0.1:0", .header_bytes_max = 1u << 31}, ZK_E_CONFIG, "header_bytes_max"},
        {{.listen = "192.0.2.1:1"}, -EADDRNOTAVAIL, "listening on 192.0.2.1:1"},
        {{.listen = "unix:/nowhere/at/all"}, -ENOENT, "listening on unix:/nowhere/at/all"},
    };
    for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
        cr_assert_rc(zk_serve(&row->config), row->rc, "%s", row->trail);
        const char *trail = zk_trail();
        cr_assert(strstr(trail, row->trail), "%s: \"%s\"", row->trail, trail);
    }
}

SERVER_TEST(a_port_is_not_shared_unasked)
{
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr_format(&s->addr, text);
    zk_server second = {.listen = text, .routes = routes, .no_signals = true};
    cr_assert_rc(zk_serve(&second), -EADDRINUSE);
}

ZK_ASYNC_TEST_ON(server, a_port_is_not_shared_unasked_with_several_workers, 2)
{
    ZK_SCOPE(scope) {
        server s;
        char text[ZK_ADDR_TEXT_BYTES];
        server_start(&s, &scope, &(zk_server){.routes = routes});
        zk_addr_format(&s.addr, text);
        zk_server second = {.listen = text, .routes = routes, .no_signals = true};
        cr_assert_rc(zk_serve(&second), -EADDRINUSE);
        server_stop(&s);
    }
}

ZK_ASYNC_TEST_ON(server, two_may_share_a_port_if_both_ask, 2)
{
    ZK_SCOPE(scope) {
        server s, second;
        char text[ZK_ADDR_TEXT_BYTES];
        server_start(&s, &scope, &(zk_server){.routes = routes, .is_port_shared = true});
        zk_addr_format(&s.addr, text);
        server_start(&second, &scope,
                     &(zk_server){.listen = text, .routes = routes, .is_port_shared = true});
        cr_assert_rc(second.rc, 1);
        server_stop(&s);
        server_stop(&second);
    }
}

ZK_ASYNC_TEST(server, serves_on_a_unix_socket)
{
    char path[64], listen[80];
    snprintf(path, sizeof path, "/tmp/zokio-test-%d", (int)getpid());
    snprintf(listen, sizeof listen, "unix:%s", path);
    struct stat st;
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.listen = listen, .routes = routes});
        zk_stream *c = tcp_open(&s);
        tcp_send(c, GET("/"));
        tcp_expect(c, EMPTY, false);
        zk_stream_close(c);
        server_stop(&s);
    }
    cr_assert(stat(path, &st) && errno == ENOENT, "its file is left");
}

/* ---- several workers ---- */

static atomic_int served_by[2];

static int notes_worker(zk_request *req, zk_response *res)
{
    (void)req;
    atomic_fetch_add(&served_by[zk_worker_index() & 1], 1);
    return zk_respond(res, 200, NULL, NULL, 0);
}

static const zk_route noting[] = {{"GET", "/", notes_worker, NULL}, {0}};

static void two_workers(const char *listen)
{
    enum { CLIENTS = 64 };
    ZK_SCOPE(scope) {
        server s;
        zk_stream *c[CLIENTS];
        server_start(&s, &scope, &(zk_server){.listen = listen, .routes = noting});
        for (int i = 0; i < CLIENTS; i++) {
            c[i] = tcp_open(&s);
            tcp_send(c[i], GET("/"));
        }
        for (int i = 0; i < CLIENTS; i++)
            tcp_expect(c[i], EMPTY, false);
        cr_assert_eq(atomic_load(&served_by[0]) + atomic_load(&served_by[1]), CLIENTS);
        zk_serving_drain(s.serving);
        for (int i = 0; i < CLIENTS; i++)
            tcp_expect(c[i], "", true);
        for (int i = 0; i < CLIENTS; i++)
            zk_stream_close(c[i]);
        while (s.rc == 1)
            cr_assert_ok(zk_sleep(ZK_MS(1)));
        cr_assert_rc(s.rc, 0);
    }
}

ZK_ASYNC_TEST_ON(server, two_workers_share_the_connections, 2)
{
    two_workers("127.0.0.1:0");
    cr_assert(atomic_load(&served_by[0]) && atomic_load(&served_by[1]));
}

ZK_ASYNC_TEST_ON(server, two_workers_share_a_unix_socket, 2)
{
    char listen[80];
    snprintf(listen, sizeof listen, "unix:@zokio-test-%d", (int)getpid());
    two_workers(listen);
}
