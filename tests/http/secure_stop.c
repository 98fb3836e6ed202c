/*
 * HTTP over TLS: handshakes that do not end, and how a server with TLS stops.
 */
#include "tests/http/site.h"
#include "tests/net/tls_renegotiate.h"

/* ---- handshakes that do not end ---- */

/* The kernel tells a server of a connection when its first byte has come. */
static void begin_hello(zk_stream *tcp, size_t size)
{
    static const char hello[64] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    cr_assert_ok(zk_stream_write(tcp, hello, size));
}

/* They have the time of a handshake, not that of an idle connection, and make room for others. */
SITE_TEST(secure_stop, handshakes_have_their_time, {.handshake_timeout_ms = 3000},
          .connections_max = 2)
{
    char byte;
    zk_stream *silent = tcp_open(&x->s), *slow = tcp_open(&x->s);
    begin_hello(silent, 1);
    begin_hello(slow, 60);
    settle_long();
    pass_ms(2900);
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), -EAGAIN);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), -EAGAIN);
    pass_ms(200);
    settle_long();
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), 0);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), 0);
    cr_assert_str_eq(shown(x), "leaf");
    zk_stream_close(silent);
    zk_stream_close(slow);
}

/* Many that never end, and others are served while no time passes. */
SITE_TEST(secure_stop, handshakes_leave_others_alone, {0})
{
    zk_stream *slow[100];
    for (size_t i = 0; i < ROWS(slow); i++) {
        slow[i] = tcp_open(&x->s);
        begin_hello(slow[i], 11 + i % 50);
    }
    settle_long();
    zk_tls *tls = blind_new(h1_only);
    zk_stream *c = secure_open(x, tls);
    for (int i = 0; i < 10; i++) {
        for (size_t j = 0; j < ROWS(slow); j++)
            cr_assert_ok(zk_stream_write(slow[j], "x", 1));
        tcp_send(c, GET("/"));
        tcp_expect(c, EMPTY, false);
    }
    zk_stream_close(c);
    zk_tls_free(tls);
    for (size_t i = 0; i < ROWS(slow); i++)
        zk_stream_close(slow[i]);
}

/* Nor is anybody held up by those who want another handshake; they are told that there is none. */
SITE_TEST(secure_stop, renegotiation_leaves_others_alone, {0})
{
    zk_tls *tls = blind_new(h1_only);
    zk_stream *c = secure_open(x, tls);
    for (int i = 0; i < 20; i++) {
        zk_tls *old = client_new((zk_tls_client){
            .insecure_skip_verification = true, .version_max = ZK_TLS_1_2, .sessions_max = -1});
        zk_stream *asks = secure_open(x, old);
        renegotiate(asks);
        settle();
        char byte;
        cr_assert_lt(zk_stream_read(asks, &byte, 1), 0, "refused");
        cr_assert(strstr(zk_trail(), "no renegotiation"), "%s", zk_trail());
        tcp_send(c, GET("/"));
        tcp_expect(c, EMPTY, false);
        zk_stream_close(asks);
        zk_tls_free(old);
    }
    zk_stream_close(c);
    zk_tls_free(tls);
}

/* ---- stopping ---- */

SITE_TEST(secure_stop, drains_what_speaks_tls, {0})
{
    zk_tls *h1 = blind_new(h1_only), *h2 = blind_new(h2_first);
    zk_stream *idle = secure_open(x, h1), *busy = secure_open(x, h1);
    h2_client many, quiet;
    h2_client_open(&many, x, h2);
    h2_client_open(&quiet, x, h2);
    tcp_send(idle, GET("/"));
    tcp_expect(idle, EMPTY, false);
    tcp_send(busy, GET("/sleeps"));
    h2_send(&many, "headers.eh 1 " H2_GET("/sleeps"));
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    tcp_expect(idle, "", true);
    const char *log = h2_take(&quiet);
    cr_assert(strstr(log, "NO_ERROR") && quiet.w.is_closed, "%s", log);
    log = h2_take(&many);
    cr_assert(strstr(log, "goaway 2147483647 NO_ERROR") && !many.w.is_closed, "%s", log);
    cr_assert_eq(x->s.rc, 1);
    pass_ms(10001);
    settle_long();
    tcp_expect(busy, LAST_EMPTY, true);
    log = h2_take(&many);
    cr_assert(strstr(log, "headers 1 200") && many.w.is_closed, "%s", log);
    zk_stream_close(idle);
    zk_stream_close(busy);
    h2_close(&many);
    h2_close(&quiet);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    zk_tls_free(h1);
    zk_tls_free(h2);
}

/* The server's socket of a connection is one of this process's. */
static int other_end(zk_stream *stream)
{
    zk_addr own, peer;
    cr_assert_ok(zk_stream_local(stream, &own));
    for (int fd = 3; fd < 1000; fd++) {
        socklen_t size = sizeof peer.in;
        bool is_there = !getpeername(fd, &peer.sa, &size) && peer.sa.sa_family == AF_INET;
        if (is_there && peer.in.sin_port == own.in.sin_port) return fd;
    }
    return -1;
}

/* A client whose response is as good as sent: HTTP has closed the connection, and TLS still has its
 * last bytes. The server is draining. returns the client, *ret_size what it has read. */
static zk_stream *last_bytes_open(const site *x, zk_tls *tls, size_t *ret_size)
{
    char data[4096];
    zk_stream *c = secure_open(x, tls);
    int small = 4096, near = zk__socket_stream_io(zk__tls_stream_of(c)->inner)->fd;
    cr_assert(!setsockopt(near, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    cr_assert(!setsockopt(other_end(c), SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    tcp_send(c, "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    cr_assert_eq(x->s.rc, 1);
    const zk__tls_worker *w = zk__worker_self()->slots[ZK__SLOT_TLS].state;
    ssize_t n = 0;
    *ret_size = 0;
    while (!w->closed && (n = zk_stream_read(c, data, sizeof data)) > 0) {
        *ret_size += (size_t)n;
        settle();
    }
    cr_assert(w->closed, "%zu bytes, %zd", *ret_size, n);
    cr_assert_eq(x->s.rc, 1, "the client has not got all");
    return c;
}

SITE_TEST(secure_stop, what_tls_has_taken_is_sent_before_the_end, {0})
{
    static char data[LARGE_BYTES];
    ssize_t n;
    size_t size;
    zk_tls *tls = blind_new(h1_only);
    zk_stream *c = last_bytes_open(x, tls, &size);
    while ((n = zk_stream_read(c, data, sizeof data)) > 0)
        size += (size_t)n;
    cr_assert_rc(n, 0, "a clean end");
    cr_assert_gt(size, (size_t)LARGE_BYTES);
    zk_stream_close(c);
    zk_tls_free(tls);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
}

/* But it waits for that as for requests, and no longer. */
SITE_TEST(secure_stop, what_nobody_takes_does_not_hold_up_the_end, {0}, .drain_timeout_ms = 20000)
{
    size_t size;
    zk_tls *tls = blind_new(h1_only);
    zk_stream *c = last_bytes_open(x, tls, &size);
    pass_ms(20001);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    zk_stream_close(c);
    zk_tls_free(tls);
}

/* Nobody's handshake keeps the server for longer than a second. */
SITE_TEST(secure_stop, handshakes_do_not_hold_up_the_end, {.handshake_timeout_ms = -1})
{
    char byte;
    zk_stream *silent = tcp_open(&x->s), *slow = tcp_open(&x->s);
    begin_hello(silent, 1);
    begin_hello(slow, 60);
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    pass_ms(900);
    cr_assert_eq(x->s.rc, 1);
    pass_ms(200);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), 0);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), 0);
    zk_stream_close(silent);
    zk_stream_close(slow);
}

typedef struct shake {
    zk_tls *tls;
    zk_stream *inner, *stream;
    int rc;
} shake;

static int shake_run(void *arg)
{
    shake *k = arg;
    k->rc = zk_tls_connect(k->tls, k->inner, "localhost", &k->stream);
    return 0;
}

typedef struct pipe_job {
    zk_stream *to, *from;
} pipe_job;

static int pipe_run(void *arg)
{
    pipe_job *p = arg;
    int64_t n = zk_stream_copy(p->from, p->to);
    int rc = zk_stream_shutdown(p->to); /* the other end may have gone */
    return n < 0 || rc < 0 ? 1 : 0;
}

/* Begins a handshake, has the server told to stop, and goes on. */
static void shake_while_stopping(const site *x, const char *const *alpn)
{
    char part[8], rest[512];
    zk_tls *tls = blind_new(alpn);
    zk_stream *near, *far, *tcp = tcp_open(&x->s);
    cr_assert_ok(zk_stream_pair(&near, &far));
    shake k = {.tls = tls, .inner = near, .rc = 1};
    ZK_SCOPE(scope) {
        cr_assert_ok(zk_spawn(&scope, shake_run, (void *)&k));
        cr_assert_ok(zk_stream_read(far, part, sizeof part));
        cr_assert_ok(zk_stream_write(tcp, part, sizeof part));
        settle_long();
        zk_serving_drain(x->s.serving);
        settle_long();
        pipe_job out = {tcp, far}, in = {far, tcp};
        cr_assert_ok(zk_spawn(&scope, pipe_run, &out));
        cr_assert_ok(zk_spawn(&scope, pipe_run, &in));
        while (k.rc == 1)
            settle();
        cr_assert_rc(k.rc, 0);
        ssize_t n;
        while ((n = zk_stream_read(k.stream, rest, sizeof rest)) > 0)
            continue;
        cr_assert_rc(n, 0, "a clean end");
        zk_stream_close(k.stream);
    }
    zk_stream_close(far);
    zk_stream_close(tcp);
    zk_tls_free(tls);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
}

/* It ends well, and then the connection does, as others that are idle. */
SITE_TEST(secure_stop, a_handshake_under_way_is_finished, {0}) { shake_while_stopping(x, h1_only); }
SITE_TEST(secure_stop, a_handshake_under_way_is_finished_for_h2, {0})
{
    shake_while_stopping(x, h2_first);
}

/* The end of the draining is the end of handshakes, too. */
SITE_TEST(secure_stop, handshakes_end_with_the_draining, {.handshake_timeout_ms = -1},
          .drain_timeout_ms = 500)
{
    zk_stream *silent = tcp_open(&x->s);
    begin_hello(silent, 1);
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    pass_ms(501);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    zk_stream_close(silent);
}
