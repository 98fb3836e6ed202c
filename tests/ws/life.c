/*
 * The life of a server's sockets: deadlines, slow clients, the ends, and calls at the wrong time.
 * The clock is the test's own.
 */
#include "tests/ws/talk.h"

#include "ws/connection.h"

static int result;        /* of what a handler was about */
static int code;          /* zk_ws_close_code then */
static char reason[128];  /* zk_ws_close_reason */
static int ends;          /* how often that was told */
static zk_ws_options own; /* what handlers accept with */
static zk_ws *current;    /* the last accepted */
static bool is_held;      /* on_message waits at "?" */

static void told(zk_ws *ws, int rc)
{
    result = rc;
    code = zk_ws_close_code(ws);
    snprintf(reason, sizeof reason, "%s", zk_ws_close_reason(ws));
    ends++;
}

/* Receives until it is over. */
static int listens(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_accept(req, res, &own, &ws);
    if (rc < 0) return rc;
    current = ws;
    while ((rc = zk_ws_recv(ws, &m)) > 0)
        continue;
    told(ws, rc);
    return rc;
}

static int on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)ws, (void)context;
    if (m->size && m->data[0] == '?') {
        while (is_held)
            cr_assert_ok(zk_yield());
    }
    return m->size && m->data[0] == '!' ? -EIO : 0;
}

static void on_close(zk_ws *ws, void *context, int rc)
{
    (void)context;
    told(ws, rc);
}

static int parks(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {on_message, on_close};
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    if (rc < 0) return rc;
    current = ws;
    rc = zk_ws_park(ws, &handlers, NULL);
    if (rc >= 0) cr_assert_rc(zk_ws_park(ws, &handlers, NULL), ZK_E_WS_STATE);
    return rc;
}

/* Returns at once, with what the query says. */
static int returns(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    if (rc < 0) return rc;
    rc = zk_ws_send_text(ws, "last words");
    return zk_request_query(req).size ? -EIO : rc;
}

static int closes(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    if (rc < 0) return rc;
    rc = zk_ws_send_text(ws, "last words");
    if (rc >= 0) rc = zk_ws_close(ws, 4000, "enough");
    told(ws, rc);
    return 0;
}

enum { FLOOD = 2000, FLOOD_BYTES = 1000 };

/* Sends more than a client takes that does not read: each message has its number in front. */
static int floods(zk_request *req, zk_response *res)
{
    static char text[FLOOD_BYTES + 1];
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    memset(text, '.', FLOOD_BYTES);
    for (int i = 0; i < FLOOD && rc >= 0; i++) {
        snprintf(text, 8, "%06d", i);
        text[6] = ' ';
        rc = zk_ws_send(ws, ZK_WS_BINARY, text, FLOOD_BYTES);
    }
    if (rc >= 0) rc = zk_ws_flush(ws);
    told(ws, rc);
    return rc;
}

static const zk_route routes[] = {
    {"GET", "/listens", listens, NULL}, {"GET", "/parks", parks, NULL},
    {"GET", "/returns", returns, NULL}, {"GET", "/closes", closes, NULL},
    {"GET", "/floods", floods, NULL},   {0},
};

#define OPEN(w, path) talk_open((w), f, ASK(path) "\r\n")
#define WITH_BOTH(name)                                                                            \
    static void name(fixture *f, const char *request);                                             \
    ZK_HTTP_TEST(ws_life, name##_in_a_loop, .routes = routes) { name(f, ASK("/listens") "\r\n"); } \
    ZK_HTTP_TEST(ws_life, name##_parked, .routes = routes) { name(f, ASK("/parks") "\r\n"); }      \
    static void name(fixture *f, const char *request)

/* ---- the ends ---- */

/* The client closes: it is told with which code and why. */
WITH_BOTH(a_close_of_the_client)
{
    wire w;
    talk_open(&w, f, request);
    talk_send(&w, "T:a X:3000,why", 0);
    talk_expect(&w, "X:3000", "the answer");
    cr_assert(w.is_closed && result == 0 && code == 3000 && !strcmp(reason, "why") && ends == 1);
    wire_close(&w);
}

/* The connection ends without a close. */
WITH_BOTH(an_end_without_a_close)
{
    wire w;
    talk_open(&w, f, request);
    talk_send(&w, "T:a", 0);
    wire_close(&w);
    settle();
    cr_assert_rc(result, ZK_E_CLOSED);
    cr_assert(code == 1006 && ends == 1);
}

/* In the middle of a message, or of a head, it is no other end. */
WITH_BOTH(an_end_within_a_message)
{
    static const char *const starts[] = {"t:a", "=81", "=81fe01"};
    for (size_t i = 0; i < ROWS(starts); i++) {
        wire w;
        ends = 0;
        talk_open(&w, f, request);
        talk_send(&w, starts[i], 0);
        settle();
        wire_close(&w);
        settle();
        cr_assert_rc(result, ZK_E_CLOSED);
        cr_assert(code == 1006 && ends == 1);
    }
}

/* What was wrong is told to both. */
WITH_BOTH(a_protocol_error)
{
    wire w;
    talk_open(&w, f, request);
    talk_send(&w, "=8380", 0);
    talk_expect(&w, "X:1002", "the error");
    cr_assert_rc(result, ZK_E_WS_PROTOCOL);
    cr_assert(code == 1006 && ends == 1 && w.is_closed);
    wire_close(&w);
}

/* A server that stops says 1001 and waits for the answer. */
WITH_BOTH(the_server_stops)
{
    wire w;
    talk_open(&w, f, request);
    f->shard.is_draining = true;
    zk__conn_drain(f->shard.conns);
    talk_expect(&w, "X:1001", "going away");
    cr_assert(!w.is_closed && !ends);
    talk_send(&w, "T:late X:1001", 0);
    wire_collect(&w);
    cr_assert(w.is_closed && result == 0 && code == 1001 && ends == 1);
    wire_close(&w);
}

/* Its time being over, it waits for nobody. */
WITH_BOTH(the_server_is_cut_off)
{
    wire w;
    talk_open(&w, f, request);
    f->shard.is_draining = f->shard.is_aborting = true;
    zk__conn_abort(f->shard.conns);
    settle();
    wire_collect(&w);
    cr_assert(w.is_closed && ends == 1);
    cr_assert(result == -ECANCELED);
    wire_close(&w);
}

ZK_HTTP_TEST(ws_life, a_handler_that_returns_closes, .routes = routes)
{
    static const struct {
        const char *request, *wanted;
    } rows[] = {
        {ASK("/returns") "\r\n", "T:last words X:1000"},
        {ASK("/returns?error") "\r\n", "T:last words X:1011"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        wire w;
        wire_open(&w, f);
        wire_send(&w, rows[i].request);
        talk_skip_head(&w);
        talk_expect(&w, rows[i].wanted, "the end");
        cr_assert(!w.is_closed);
        talk_send(&w, "X:1000", 0);
        wire_collect(&w);
        cr_assert(w.is_closed);
        wire_close(&w);
    }
}

ZK_HTTP_TEST(ws_life, an_error_of_on_message_closes, .routes = routes)
{
    wire w;
    OPEN(&w, "/parks");
    talk_send(&w, "T:fine T:!", 0);
    talk_expect(&w, "X:1011", "the end");
    talk_send(&w, "X:1011", 0);
    wire_collect(&w);
    cr_assert(w.is_closed && result == -EIO && ends == 1);
    wire_close(&w);
}

/* A close of the handler's waits for the answer, behind what was sent. */
ZK_HTTP_TEST(ws_life, a_close_of_the_server, .routes = routes)
{
    wire w;
    wire_open(&w, f);
    wire_send(&w, ASK("/closes") "\r\n");
    talk_skip_head(&w);
    talk_expect(&w, "T:last words X:4000,enough", "the close");
    talk_send(&w, "T:not_read P:x X:4001", 0);
    wire_collect(&w);
    cr_assert(w.is_closed && result == 0 && code == 4001);
    wire_close(&w);
}

/* ---- other tasks, while it is parked ---- */

static int close_current(void *arg)
{
    int *rc = arg;
    *rc = zk_ws_close(current, 4000, "enough");
    return 0;
}

/* Whether its own task is in on_message or there is none, and however many close it. */
static void closed_by_others(fixture *f, bool is_busy)
{
    wire w;
    int rcs[2] = {1, 1};
    OPEN(&w, "/parks");
    is_held = is_busy;
    talk_send(&w, "T:?", 0);
    settle();
    ZK_SCOPE(s) {
        for (int i = 0; i < 2; i++)
            cr_assert_ok(zk_spawn(&s, close_current, (void *)&rcs[i]));
        talk_expect(&w, "X:4000,enough", "the close");
        cr_assert(rcs[0] == 1 && rcs[1] == 1 && !ends && !w.is_closed);
        talk_send(&w, "T:not_read X:4001", 0);
        settle();
        cr_assert(rcs[0] == 0 && rcs[1] == 0 && ends == !is_busy);
        is_held = false;
        cr_assert_ok(zk_scope_wait(&s));
    }
    wire_collect(&w);
    cr_assert(w.is_closed && ends == 1 && result == 0 && code == 4001);
    wire_close(&w);
}

ZK_HTTP_TEST(ws_life, another_task_closes_an_idle_one, .routes = routes)
{
    closed_by_others(f, false);
}

ZK_HTTP_TEST(ws_life, another_task_closes_one_that_is_busy, .routes = routes)
{
    closed_by_others(f, true);
}

static int flood_current(void *arg)
{
    int *ret_rc = arg, rc;
    static char text[FLOOD_BYTES];
    while ((rc = zk_ws_send(current, ZK_WS_BINARY, text, sizeof text)) >= 0)
        continue;
    *ret_rc = rc;
    return 0;
}

/* It is over while other tasks wait in it, to send or for an answer to their close. */
ZK_HTTP_TEST(ws_life, what_waits_in_one_that_is_over, .routes = routes)
{
    for (int is_lost = 0; is_lost < 2; is_lost++) {
        wire w;
        int sent = 1, closed = 1;
        ends = 0;
        OPEN(&w, "/parks");
        ZK_SCOPE(s) {
            for (int i = 0; i < 3; i++)
                cr_assert_ok(zk_spawn(&s, flood_current, (void *)&sent));
            settle();
            cr_assert(sent == 1 && !ends);
            if (is_lost) {
                cr_assert_ok(zk_spawn(&s, close_current, (void *)&closed));
                settle();
                wire_close(&w);
            } else {
                talk_send(&w, "X:1000", 0);
                wire_collect(&w);
            }
            cr_assert_ok(zk_scope_wait(&s));
        }
        settle();
        cr_assert(ends == 1 && sent < 0 && (is_lost ? closed < 0 : closed == 1));
        if (!is_lost) wire_close(&w);
    }
}

/* ---- deadlines ---- */

/* A silent client is pinged, and given up if it stays silent. */
WITH_BOTH(a_client_that_answers_no_ping)
{
    wire w;
    talk_open(&w, f, request);
    pass_ms(29000);
    talk_expect(&w, "", "too early");
    pass_ms(2000);
    talk_expect(&w, "P:", "the ping");
    pass_ms(19000);
    cr_assert(!ends);
    pass_ms(3000);
    wire_collect(&w);
    cr_assert(w.is_reset && ends == 1 && code == 1006);
    cr_assert_rc(result, ZK_E_WS_TIMEOUT);
    wire_close(&w);
}

/* Anything that it says is as good as a pong. */
WITH_BOTH(a_client_that_lives)
{
    static const char *const signs[] = {"O:", "T:a", "t:a", "P:"};
    wire w;
    talk_open(&w, f, request);
    for (size_t i = 0; i < ROWS(signs); i++) {
        pass_ms(31000);
        char *out = talk_take(&w, false);
        cr_assert(strstr(out, "P:"), "%s", signs[i]);
        free(out);
        talk_send(&w, i == 3 ? "C:b" : signs[i], 0);
        pass_ms(15000);
        cr_assert(!ends, "%s", signs[i]);
    }
    talk_send(&w, "X:1000", 0);
    wire_collect(&w);
    cr_assert(w.is_closed && result == 0);
    wire_close(&w);
}

/* A close that nobody answers is waited for a while. */
ZK_HTTP_TEST(ws_life, a_close_without_an_answer, .routes = routes)
{
    wire w;
    wire_open(&w, f);
    wire_send(&w, ASK("/closes") "\r\n");
    wire_collect(&w);
    pass_ms(4000);
    cr_assert(!ends);
    pass_ms(2000);
    wire_collect(&w);
    cr_assert(ends == 1 && (w.is_closed || w.is_reset));
    cr_assert_rc(result, ZK_E_WS_TIMEOUT);
    wire_close(&w);
}

/* ---- slow clients ---- */

/* Messages wait for the client, who gets all of them. */
ZK_HTTP_TEST(ws_life, a_slow_client_is_waited_for, .routes = routes)
{
    wire w;
    own = (zk_ws_options){.send_queue_bytes_max = 20000};
    OPEN(&w, "/listens");
    wire_close(&w);
    settle();
    ends = 0;
    wire_open(&w, f);
    wire_send(&w, ASK("/floods") "\r\n");
    settle();
    cr_assert(!ends);
    size_t total = 0;
    char buf[50000];
    for (ssize_t n; !ends || (n = zk_stream_try_read(w.stream, buf, sizeof buf)) > 0;) {
        n = zk_stream_try_read(w.stream, buf, sizeof buf);
        if (n > 0) total += (size_t)n;
        if (n <= 0) settle();
        if (n == 0) break;
    }
    cr_assert_rc(result, 0);
    cr_assert_geq(total + sizeof buf, (size_t)FLOOD * (FLOOD_BYTES + 4));
    wire_close(&w);
}

/* One that takes nothing is given up. */
ZK_HTTP_TEST(ws_life, a_client_that_takes_nothing, .routes = routes)
{
    wire w;
    own = (zk_ws_options){.send_queue_bytes_max = 20000, .write_timeout_ms = 7000};
    wire_open(&w, f);
    wire_send(&w, ASK("/floods") "\r\n");
    settle();
    pass_ms(6000);
    cr_assert(!ends);
    pass_ms(2000);
    cr_assert_rc(result, ZK_E_SLOW);
    cr_assert_eq(ends, 1);
    wire_close(&w);
}

ZK_HTTP_TEST(ws_life, a_slow_client_is_given_up, .routes = routes)
{
    wire w;
    own = (zk_ws_options){.send_queue_bytes_max = 20000, .slow = ZK_WS_SLOW_CLOSE};
    wire_open(&w, f);
    wire_send(&w, ASK("/floods") "\r\n");
    settle();
    cr_assert(ends == 1);
    cr_assert_rc(result, ZK_E_SLOW);
    wire_close(&w);
}

/* More than the limit at once, and nobody is slow: it leaves earlier. */
static int bursts(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    for (int i = 0; i < 100 && rc >= 0; i++)
        rc = zk_ws_send_text(ws, "ten bytes.");
    return result = rc;
}

static const zk_route burst_routes[] = {{"GET", "/", bursts, NULL}, {0}};

ZK_HTTP_TEST(ws_life, a_burst_is_not_slowness, .routes = burst_routes)
{
    static const zk_ws_slow ways[] = {ZK_WS_SLOW_CLOSE, ZK_WS_SLOW_DROP};
    for (size_t i = 0; i < ROWS(ways); i++) {
        wire w;
        own = (zk_ws_options){.send_queue_bytes_max = 100, .slow = ways[i]};
        result = 1;
        wire_open(&w, f);
        wire_send(&w, ASK("/") "\r\n");
        talk_skip_head(&w);
        cr_assert_rc(result, 0);
        cr_assert_eq(w.size, 100 * 12u + 4); /* and the close */
        wire_close(&w);
        settle();
    }
}

/* The oldest are dropped: what it gets first was under way, what it gets last is the last. */
ZK_HTTP_TEST(ws_life, a_slow_client_loses_the_oldest, .routes = routes)
{
    wire w;
    own = (zk_ws_options){.send_queue_bytes_max = 20000, .slow = ZK_WS_SLOW_DROP};
    wire_open(&w, f);
    wire_send(&w, ASK("/floods") "\r\n");
    settle();
    wire_collect(&w);
    settle();
    wire_collect(&w);
    cr_assert_rc(result, 0);
    char *behind = strstr(w.text, "\r\n\r\n");
    size_t at = (size_t)(behind + 4 - w.text);
    int last = -1, count = 0, gaps = 0;
    while (w.size - at >= 4 + FLOOD_BYTES && (uint8_t)w.text[at] == 0x82) {
        int number = atoi(w.text + at + 4);
        cr_assert_gt(number, last);
        gaps += number != last + 1;
        last = number;
        count++;
        at += 4 + FLOOD_BYTES;
    }
    cr_assert_eq(last, FLOOD - 1);
    cr_assert(gaps >= 1 && count < FLOOD / 2, "%d messages, %d gaps", count, gaps);
    wire_close(&w);
}

/* Pings whose answers are not read end at a limit. */
WITH_BOTH(a_flood_of_pings)
{
    wire w;
    talk_open(&w, f, request);
    bytes ping = frames_of("P*125", true);
    size_t at = 0;
    for (int quiet = 0; quiet < 100 && !ends;) {
        ssize_t n = zk_stream_try_write(w.stream, ping.data + at, ping.size - at);
        if (n == -EPIPE) break;
        at = n > 0 ? (at + (size_t)n) % ping.size : at;
        quiet = n > 0 ? 0 : quiet + 1;
        if (!at || n < 0) settle();
    }
    free(ping.data);
    if (!ends) pass_ms(31000); /* so long it may take to read why */
    cr_assert_rc(result, ZK_E_LIMIT);
    wire_close(&w);
}

/* ---- what is held ---- */

/* Between messages a parked socket has no buffer, no queue and no task; with part of a message it
 * has a buffer. */
ZK_HTTP_TEST(ws_life, an_idle_parked_socket_holds_nothing, .routes = routes)
{
    wire w;
    OPEN(&w, "/parks");
    cr_assert(!current->in && !current->out && !current->has_task && !f->shard.conns->session);
    talk_send(&w, "T:a P:x", 0);
    talk_expect(&w, "O:x", "the pong");
    cr_assert(!current->in && !current->out && !current->has_task);
    talk_send(&w, "t:a", 0);
    settle();
    cr_assert(current->in && !current->has_task);
    talk_send(&w, "C:b", 0);
    settle();
    cr_assert(!current->in);
    wire_close(&w);
}

/* ---- at the wrong time ---- */

static int states(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    char buf[8];
    int rc = zk_ws_accept(req, res, NULL, &ws);
    if (rc < 0) return rc;
    zk_ws *again;
    cr_assert(zk_ws_accept(req, res, NULL, &again) < 0);
    cr_assert_rc(zk_ws_read(ws, buf, sizeof buf), ZK_E_WS_STATE);
    cr_assert_rc(zk_ws_write(ws, "a", 1), ZK_E_WS_STATE);
    cr_assert_rc(zk_ws_send_end(ws), ZK_E_WS_STATE);
    cr_assert_rc(zk_ws_send(ws, ZK_WS_TEXT, "\xff", 1), ZK_E_WS_TEXT);
    cr_assert_rc(zk_ws_ping(ws, NULL, 126), -EINVAL);
    cr_assert_rc(zk_ws_close(ws, 1005, NULL), -EINVAL);
    cr_assert_rc(zk_ws_close(ws, 0, "why"), -EINVAL);
    cr_assert_rc(zk_ws_close(ws, 1000, "\xff"), -EINVAL);
    cr_assert_rc(zk_ws_close(ws, 999, NULL), -EINVAL);
    cr_assert_eq(zk_ws_close_code(ws), 0);
    cr_assert_ok(zk_ws_send_begin(ws, ZK_WS_TEXT));
    cr_assert_rc(zk_ws_send_begin(ws, ZK_WS_TEXT), ZK_E_WS_STATE);
    cr_assert_rc(zk_ws_send_text(ws, "x"), ZK_E_WS_STATE);
    cr_assert_ok(zk_ws_write(ws, "\xe2\x82", 2));
    cr_assert_rc(zk_ws_send_end(ws), ZK_E_WS_TEXT);
    cr_assert_rc(zk_ws_write(ws, "a", 1), ZK_E_WS_TEXT);
    cr_assert_ok(zk_ws_write(ws, "\xac", 1));
    cr_assert_ok(zk_ws_ping(ws, "in", 2));
    cr_assert_ok(zk_ws_send_end(ws));
    cr_assert_ok(zk_ws_send_begin(ws, ZK_WS_BINARY));
    cr_assert_ok(zk_ws_send_end(ws));
    rc = zk_ws_recv(ws, &m);
    cr_assert_rc(rc, 0);
    cr_assert_rc(zk_ws_recv(ws, &m), 0);
    cr_assert_rc(zk_ws_send_text(ws, "x"), ZK_E_CLOSED);
    cr_assert_rc(zk_ws_send_begin(ws, ZK_WS_TEXT), ZK_E_CLOSED);
    cr_assert_rc(zk_ws_ping(ws, NULL, 0), ZK_E_CLOSED);
    cr_assert_rc(zk_ws_close(ws, 1000, NULL), 0);
    told(ws, 0);
    return 0;
}

static const zk_route state_routes[] = {{"GET", "/", states, NULL}, {0}};

ZK_HTTP_TEST(ws_life, calls_at_the_wrong_time, .routes = state_routes)
{
    wire w;
    wire_open(&w, f);
    wire_send(&w, ASK("/") "\r\n");
    talk_skip_head(&w);
    talk_expect(&w, "P:in T:€ B:", "the messages");
    talk_send(&w, "X:1000", 0);
    talk_expect(&w, "X:1000", "the end");
    cr_assert(w.is_closed && ends == 1);
    wire_close(&w);
}
