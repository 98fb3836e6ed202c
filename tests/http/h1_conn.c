/*
 * The life of a connection: keep-alive, pipelining, refusals, deadlines, clients that go, draining.
 */
#include "tests/http/fixture.h"

static int slept; /* what the last sleep returned; 1: it goes on */

static int sleeps(zk_request *req, zk_response *res)
{
    (void)req;
    slept = 1;
    slept = zk_sleep(ZK_MS(100));
    return slept < 0 ? slept : zk_respond(res, 200, NULL, NULL, 0);
}

static int sleeps_long(zk_request *req, zk_response *res)
{
    (void)req;
    slept = 1;
    slept = zk_sleep(ZK_SEC(100));
    return slept < 0 ? slept : zk_respond(res, 200, NULL, NULL, 0);
}

static const zk_route routes[] = {
    {"GET", "/", nothing, NULL},
    {"POST", "/", nothing, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {"GET", "/long", sleeps_long, NULL},
    {0},
};

/* ---- keep-alive and pipelining ---- */

ZK_HTTP_TEST(h1_conn, goes_on_or_ends_as_rfc_9112_9_3_says, .routes = routes)
{
    static const exchange_row rows[] = {
        {"HTTP/1.1", GET("/") GET("/"), EMPTY EMPTY, false},
        {"the client ends it", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET("/"),
         LAST_EMPTY, true},
        {"whatever the case", "GET / HTTP/1.1\r\nHost: a\r\nconnection: CLOSE, x\r\n\r\n",
         LAST_EMPTY, true},
        {"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", LAST_EMPTY, true},
        {"close is stronger than keep-alive",
         "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", LAST_EMPTY, true},
        {"RFC 9112 2.2: an empty line before a request", GET("/") "\r\n" GET("/"), EMPTY EMPTY,
         false},
        {"an upgrade that is ignored",
         "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" GET("/"),
         EMPTY EMPTY, false},
        {"RFC 9110 9.3.6: CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
         LAST_PAGE("14", "404 Not Found"), true},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(h1_conn, pipelined_requests_are_answered_in_one_send, .routes = routes)
{
    char wanted[50 * sizeof EMPTY] = "";
    wire c, *w = &c;
    wire_open(w, f);
    for (int i = 0; i < 50; i++) {
        wire_send(w, GET("/"));
        memcpy(wanted + (size_t)i * (sizeof EMPTY - 1), EMPTY, sizeof EMPTY);
    }
    cr_assert_wire(w, wanted, false);
    cr_assert_eq(w->sends, 1, "%d sends", w->sends);
    wire_close(w);
}

ZK_HTTP_TEST(h1_conn, a_response_leaves_before_the_next_handler_waits, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/") GET("/") GET("/sleeps") GET("/") GET("/"));
    cr_assert_wire(w, EMPTY EMPTY, false);
    cr_assert_eq(w->sends, 1);
    pass_ms(101);
    cr_assert_wire(w, EMPTY EMPTY EMPTY, false);
    cr_assert_eq(w->sends, 2);
    wire_close(w);
}

ZK_HTTP_TEST(h1_conn, a_client_with_endless_requests_does_not_starve_others, .routes = routes)
{
    wire flood, other;
    wire_open(&flood, f);
    wire_open(&other, f);
    for (int i = 0; i < 2000; i++) {
        wire_send(&flood, GET("/") GET("/") GET("/"));
        if (i == 1000) {
            wire_send(&other, GET("/"));
            const char *text = wire_take(&other);
            cr_assert_str_eq(text, EMPTY, "%s", text);
        }
        if (i % 50 == 0) wire_collect(&flood);
    }
    wire_collect(&flood);
    cr_assert_eq(common_fields_strip(flood.text, &flood.size), 6000);
    wire_close(&flood);
    wire_close(&other);
}

/* ---- what is refused ---- */

#define POST_BOTH                                                                                  \
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"

ZK_HTTP_TEST(h1_conn, what_is_no_request_is_refused_once, .routes = routes)
{
    static const exchange_row rows[] = {
        {"RFC 9112 3.2: no Host", "GET / HTTP/1.1\r\n\r\n" GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"RFC 9112 6.3: two framings", POST_BOTH "0\r\n\r\n" GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"RFC 9112 5.1: white space before the colon",
         "GET / HTTP/1.1\r\nHost : a\r\n\r\n" GET("/"), LAST_PAGE("16", "400 Bad Request"), true},
        {"RFC 9112 5.2: a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n" GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"RFC 9112 2.2: bare LF", "GET / HTTP/1.1\nHost: a\n\n" GET("/"),
         LAST_PAGE("16", "400 Bad Request"), true},
        {"TLS", "\x16\x03\x01\x02", LAST_PAGE("16", "400 Bad Request"), true},
        {"RFC 9110 9.1: a method that is none", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n" GET("/"),
         LAST_PAGE("20", "501 Not Implemented"), true},
        {"RFC 9112 6.1: a coding that is not known",
         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" GET("/"),
         LAST_PAGE("20", "501 Not Implemented"), true},
        {"RFC 9110 15.6.6: a version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n" GET("/"),
         LAST_PAGE("31", "505 HTTP Version Not Supported"), true},
        {"behind good ones", GET("/") GET("/") "x\r\n\r\n" GET("/"),
         EMPTY EMPTY LAST_PAGE("16", "400 Bad Request"), true},
    };
    cr_assert_exchanges(f, rows);
}

ZK_HTTP_TEST(h1_conn, heads_over_a_limit_are_refused, .routes = routes, .header_bytes_max = 128,
             .header_count_max = 4, .target_bytes_max = 16)
{
    static const exchange_row rows[] = {
        {"at the limits", "GET /?0123456789abc HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
         EMPTY, false},
        {"RFC 9110 15.5.15: the target", GET("/?0123456789abcdef") GET("/"),
         LAST_PAGE("17", "414 URI Too Long"), true},
        {"RFC 6585 5: the count",
         "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n" GET("/"),
         LAST_PAGE("36", "431 Request Header Fields Too Large"), true},
        {"RFC 6585 5: the bytes",
         "GET / HTTP/1.1\r\nHost: a\r\nA: 0123456789012345678901234567890123456789\r\n"
         "B: 0123456789012345678901234567890123456789\r\nC: 012345678901234567890\r\n\r\n" GET("/"),
         LAST_PAGE("36", "431 Request Header Fields Too Large"), true},
    };
    cr_assert_exchanges(f, rows);
}

/* The client gets to read the response although it is still sending. */
ZK_HTTP_TEST(h1_conn, a_refused_client_may_go_on_sending_for_a_while, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, "x\r\n\r\n");
    for (int i = 0; i < 100; i++) {
        wire_send(w, "more and more and more");
        settle();
    }
    cr_assert_eq(f->shard.conn_count, 1u);
    cr_assert_wire(w, LAST_PAGE("16", "400 Bad Request"), true);
    pass_ms(1900);
    wire_send(w, "more");
    settle();
    cr_assert_eq(f->shard.conn_count, 1u, "it still listens");
    pass_ms(200);
    cr_assert_eq(f->shard.conn_count, 0u, "not for ever");
    wire_close(w);
}

/* ---- deadlines ---- */

ZK_HTTP_TEST(h1_conn, an_idle_one_is_closed, .routes = routes, .idle_timeout_ms = 1000)
{
    wire c, *w = &c;
    wire_open(w, f);
    for (int i = 0; i < 3; i++) {
        pass_ms(900);
        wire_send(w, GET("/"));
        cr_assert_wire(w, EMPTY, false);
    }
    pass_ms(900);
    cr_assert_wire(w, "", false);
    pass_ms(200);
    cr_assert_wire(w, "", true);
    wire_close(w);
}

ZK_HTTP_TEST(h1_conn, one_that_never_sends_is_closed, .routes = routes, .idle_timeout_ms = 1000)
{
    wire c, *w = &c;
    wire_open(w, f);
    pass_ms(1100);
    cr_assert_wire(w, "", true);
    wire_close(w);
}

ZK_HTTP_TEST(h1_conn, no_timeout_is_no_timeout, .routes = routes, .idle_timeout_ms = -1,
             .header_timeout_ms = -1)
{
    wire c, *w = &c;
    wire_open(w, f);
    pass_ms(100000000);
    wire_send(w, "GET / HT");
    pass_ms(100000000);
    wire_send(w, "TP/1.1\r\nHost: a\r\n\r\n");
    cr_assert_wire(w, EMPTY, false);
    wire_close(w);
}

/* RFC 9110 section 15.5.9. Each byte that arrives must not buy more time. */
ZK_HTTP_TEST(h1_conn, a_slow_head_gets_408, .routes = routes, .header_timeout_ms = 1000)
{
    static const int steps_ms[] = {1100, 90, 7};
    for (size_t i = 0; i < ROWS(steps_ms); i++) {
        wire c, *w = &c;
        wire_open(w, f);
        wire_send(w, GET("/"));
        cr_assert_wire(w, EMPTY, false);
        pass_ms(2000); /* idle: that does not count */
        int passed = 0;
        wire_send(w, "GET /");
        settle();
        while (passed + steps_ms[i] < 600) { /* real time passes, too */
            pass_ms(steps_ms[i]);
            passed += steps_ms[i];
            wire_send(w, "a");
            cr_assert_wire(w, "", false);
        }
        pass_ms(1002 - passed);
        cr_assert_wire(w, LAST_PAGE("20", "408 Request Timeout"), true);
        wire_close(w);
    }
}

ZK_HTTP_TEST(h1_conn, the_time_for_a_head_begins_anew_with_each, .routes = routes,
             .header_timeout_ms = 1000)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, "GET ");
    for (int i = 0; i < 5; i++) {
        pass_ms(600);
        wire_send(w, "/ HTTP/1.1\r\nHost: a\r\n\r\nGET ");
        cr_assert_wire(w, EMPTY, false);
    }
    pass_ms(1100);
    cr_assert_wire(w, LAST_PAGE("20", "408 Request Timeout"), true);
    wire_close(w);
}

/* Bytes and the timer in one turn of the loop: one of them wins, and both are done with. */
ZK_HTTP_TEST(h1_conn, bytes_that_arrive_at_the_deadline_are_served, .routes = routes,
             .idle_timeout_ms = 1000, .header_timeout_ms = 1000)
{
    zk__worker *worker = zk__worker_self();
    for (int is_partial = 0; is_partial < 2; is_partial++) {
        wire c, *w = &c;
        wire_open(w, f);
        if (is_partial) wire_send(w, "GET / HTTP/1.1\r\n");
        settle();
        wire_send(w, is_partial ? "Host: a\r\n\r\n" : GET("/"));
        time_passed += ZK_MS(1100);
        worker->now = zk__clock();
        zk__wheel_advance(&worker->wheel, worker->now);
        cr_assert_wire(w, EMPTY, false, "%d", is_partial);
        pass_ms(1100);
        cr_assert_wire(w, "", true, "%d", is_partial);
        wire_close(w);
    }
}

ZK_HTTP_TEST(h1_conn, a_lingering_one_ends_although_bytes_arrive_at_its_deadline, .routes = routes)
{
    zk__worker *worker = zk__worker_self();
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, "x\r\n\r\n");
    wire_take(w);
    wire_send(w, "more");
    time_passed += ZK_MS(2100);
    worker->now = zk__clock();
    zk__wheel_advance(&worker->wheel, worker->now);
    settle();
    pass_ms(10);
    cr_assert_eq(f->shard.conn_count, 0u);
    wire_close(w);
}

/* ---- clients that go ---- */

ZK_HTTP_TEST(h1_conn, a_half_closed_client_gets_its_response, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/") GET("/sleeps"));
    cr_assert_ok(zk_stream_shutdown(w->stream));
    cr_assert_wire(w, EMPTY, false);
    pass_ms(101);
    cr_assert_wire(w, EMPTY, true);
    cr_assert_rc(slept, 0);
    wire_close(w);
}

/*
 * The end may come with the request, before the handler waits, or while it does; on a fresh or on a
 * used connection.
 */
ZK_HTTP_TEST(h1_conn, a_handler_of_a_half_closed_client_has_a_grace, .routes = routes,
             .half_close_grace_ms = 1000)
{
    for (int round = 0; round < 4; round++) {
        bool is_used = round & 1, is_early = round & 2;
        wire c, *w = &c;
        wire_open(w, f);
        if (is_used) {
            wire_send(w, GET("/sleeps"));
            pass_ms(101);
            cr_assert_wire(w, EMPTY, false);
        }
        wire_send(w, GET("/long"));
        if (!is_early) settle();
        cr_assert_ok(zk_stream_shutdown(w->stream));
        pass_ms(900);
        cr_assert_eq(slept, 1, "round %d", round);
        pass_ms(200);
        cr_assert_rc(slept, -ECANCELED, "round %d", round);
        cr_assert_wire(w, PAGE("26", "500 Internal Server Error"), true, "%d", round);
        wire_close(w);
    }
}

ZK_HTTP_TEST(h1_conn, a_client_that_is_gone_cancels_its_handler, .routes = routes)
{
    for (int round = 0; round < 4; round++) {
        bool is_used = round & 1, is_early = round & 2;
        wire c, *w = &c;
        wire_open(w, f);
        if (is_used) {
            wire_send(w, GET("/sleeps"));
            pass_ms(101);
            cr_assert_wire(w, EMPTY, false);
        }
        wire_send(w, GET("/long"));
        if (!is_early) settle();
        wire_close(w);
        cr_assert_rc(slept, -ECANCELED, "round %d", round);
        cr_assert_eq(f->shard.conn_count, 0u, "round %d", round);
    }
}

ZK_HTTP_TEST(h1_conn, a_client_that_goes_in_the_middle_of_a_head_is_forgotten, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, "GET / HTTP/1.1\r\n");
    settle();
    cr_assert_eq(f->shard.conn_count, 1u);
    wire_close(w);
    cr_assert_eq(f->shard.conn_count, 0u);
}

/* ---- draining ---- */

static void drain(fixture *f)
{
    f->shard.is_draining = true;
    for (zk__conn *c = f->shard.conns, *next; c; c = next) {
        next = c->next;
        zk__conn_drain(c);
    }
}

ZK_HTTP_TEST(h1_conn, draining_ends_idle_ones_at_once_and_busy_ones_behind_their_response,
             .routes = routes)
{
    wire idle, busy, half;
    wire_open(&idle, f);
    wire_open(&busy, f);
    wire_open(&half, f);
    wire_send(&busy, GET("/sleeps"));
    wire_send(&half, "GET / HTTP/1.1\r\n");
    settle();
    drain(f);
    wire *w = &idle;
    cr_assert_wire(w, "", true, "idle");
    wire_send(&half, "Host: a\r\n\r\n");
    w = &half;
    cr_assert_wire(w, LAST_EMPTY, true, "half a head");
    pass_ms(101);
    w = &busy;
    cr_assert_wire(w, LAST_EMPTY, true, "busy");
    wire_close(&idle);
    wire_close(&busy);
    wire_close(&half);
}

ZK_HTTP_TEST(h1_conn, draining_still_answers_what_has_just_arrived, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    settle();
    wire_send(w, GET("/"));
    drain(f);
    cr_assert_wire(w, LAST_EMPTY, true);
    wire_close(w);
}

/* ---- memory ---- */

ZK_HTTP_TEST(h1_conn, idle_ones_hold_no_session, .routes = routes)
{
    enum { COUNT = 200 };
    static wire many[COUNT];
    for (int i = 0; i < COUNT; i++) {
        wire_open(&many[i], f);
        wire_send(&many[i], GET("/"));
    }
    settle();
    cr_assert_eq(f->shard.conn_count, (uint32_t)COUNT);
    cr_assert_leq(f->shard.spare_sessions.count, 8u);
    for (zk__conn *c = f->shard.conns; c; c = c->next) {
        cr_assert(!c->session && !c->partial && c->phase == ZK__CONN_IDLE);
    }
    for (int i = 0; i < COUNT; i++)
        wire_close(&many[i]);
}
