/*
 * HTTP/2: requests and responses as they go on. Streaming both ways, priorities (RFC 9218), what a
 * handler sees of a client that leaves or is slow, deadlines, and the end of a connection.
 */
#include "tests/http/siege.h"

/* What the last handler has seen. */
static int seen;
static int running;

static int ended(int rc)
{
    running--;
    return seen = rc;
}

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "hello");
}

static int sleeps(zk_request *req, zk_response *res)
{
    running++;
    int rc = zk_sleep(ZK_MS(500));
    return ended(rc < 0 ? rc : hello(req, res));
}

static int echoes(zk_request *req, zk_response *res)
{
    char part[3000];
    ssize_t n;
    running++;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    while (rc >= 0 && (n = zk_body_read(req, part, sizeof part)) != 0) {
        rc = n < 0 ? (int)n : zk_response_write(res, part, (size_t)n);
        if (rc >= 0) rc = zk_response_flush(res);
    }
    return ended(rc);
}

static int reads(zk_request *req, zk_response *res)
{
    zk_str body;
    running++;
    int rc = zk_body(req, &body);
    return ended(rc < 0 ? rc : zk_respond(res, 200, NULL, body.data, body.size));
}

static int big(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    running++;
    return ended(rc < 0 ? rc : zk_respond(res, 200, NULL, h2_pattern(), size));
}

/* More than is gathered, in pieces that are smaller. */
static int pieces(zk_request *req, zk_response *res)
{
    (void)req;
    running++;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (int i = 0; rc >= 0 && i < 100; i++)
        rc = zk_response_write(res, h2_pattern() + 1000 * i, 1000);
    return ended(rc);
}

/* Has no more than 50 ms for the body, and then does without. */
static int hurries(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = 0;
    running++;
    ZK_WITHIN(ZK_MS(50)) {
        rc = zk_body(req, &body);
    }
    seen = rc;
    running--;
    return rc < 0 ? zk_respond_text(res, 200, "too late") : hello(req, res);
}

/* Has no more than 50 ms for the response. */
static int hurries_out(zk_request *req, zk_response *res)
{
    int rc = 0;
    (void)req;
    running++;
    ZK_WITHIN(ZK_MS(50)) {
        rc = zk_respond(res, 200, NULL, h2_pattern(), 100000);
    }
    return ended(rc);
}

/* Has something to say once a minute. */
static int ticks(zk_request *req, zk_response *res)
{
    (void)req;
    running++;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (int i = 0; i < 3 && rc >= 0; i++) {
        rc = zk_response_write(res, "tick", 4);
        if (rc >= 0) rc = zk_response_flush(res);
        if (rc >= 0) rc = zk_sleep(ZK_SEC(60));
    }
    return ended(rc);
}

static int closes(zk_request *req, zk_response *res)
{
    zk_response_close(res);
    return hello(req, res);
}

static int tells_scheme(zk_request *req, zk_response *res)
{
    zk_str scheme = zk_request_scheme(req);
    if (!zk_request_stream(req) || zk_request_version(req) != 20) return -EIO;
    return zk_respond(res, 200, NULL, scheme.data, scheme.size);
}

static const zk_route routes[] = {
    {"GET", "/", hello, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {"POST", "/echo", echoes, NULL},
    {"POST", "/", reads, NULL},
    {"GET", "/big/{size}", big, NULL},
    {"GET", "/pieces", pieces, NULL},
    {"POST", "/hurries", hurries, NULL},
    {"GET", "/hurries", hurries_out, NULL},
    {"GET", "/ticks", ticks, NULL},
    {"GET", "/closes", closes, NULL},
    {"GET", "/scheme", tells_scheme, NULL},
    {0},
};

#define HELLO(id) "headers " id " 200 content-length=5\ndata " id " 5 end hello\n"

/* ---- streaming ---- */

ZK_HTTP_TEST(h2_exchange, bytes_go_both_ways_at_once, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 POST:/echo; headers.h 3 POST:/echo");
    cr_assert_h2(&c, "headers 1 200\nheaders 3 200\n");
    h2_send(&c, "data 1 'one'; data 3 'three'");
    cr_assert_h2(&c, "data 1 3 one\ndata 3 5 three\n");
    h2_send(&c, "data 3 'more'");
    cr_assert_h2(&c, "data 3 4 more\n");
    h2_send(&c, "data.e 1; data.e 3 'last'");
    cr_assert_h2(&c, "data 1 0 end\ndata 3 4 end last\n");
    h2_close(&c);
}

/* A client that does not take the response is not sent more; so the handler reads no more of the
 * body, and the client's window stays closed: 256 KiB, and what has been gathered. */
ZK_HTTP_TEST(h2_exchange, a_window_that_is_closed_holds_up_both_directions, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:10");
    h2_send(&c, "headers.h 1 POST:/echo");
    cr_assert_h2(&c, "headers 1 200\n");
    h2_bytes b = {0};
    for (int i = 0; i < 26; i++)
        h2_put_frame(&b, 0, 0, 1, h2_pattern(), 10000);
    wire_send_n(&c.w, b.data, b.size, 0);
    free(b.data);
    const char *log = h2_take(&c);
    cr_assert(!strncmp(log, "data 1 10 ", 10), "%s", log);
    cr_assert(!strstr(log, "window 1"), "the window opens though nobody reads: %s", log);
    cr_assert_eq(running, 1);
    h2_send(&c, "window 1 u32:1000000; window 0 u32:1000000");
    log = h2_take(&c);
    cr_assert_eq(c.body_size, 260000u, "%s", log);
    cr_assert(strstr(log, "window 1 "), "%s", log);
    h2_send(&c, "data.e 1");
    cr_assert_h2(&c, "data 1 0 end\n");
    cr_assert_rc(seen, 0);
    h2_close(&c);
}

/* ---- RFC 9218: priorities ---- */

/* The order in which streams end. */
static void order_of_ends(const char *log, char *order, size_t size)
{
    size_t n = 0;
    for (const char *at = log; *at && n + 2 < size; at = strchr(at, '\n') + 1) {
        unsigned id;
        const char *line_end = strchr(at, '\n'), *end = strstr(at, " end");
        if (sscanf(at, "data %u", &id) == 1 && end && end < line_end) {
            n += (size_t)snprintf(order + n, size - n, "%u ", id);
        }
    }
    order[n] = '\0';
}

/* All wait for the connection's window, and then it opens. */
ZK_HTTP_TEST(h2_exchange, rfc_9218_10_urgent_responses_come_first, .routes = routes)
{
    static const struct {
        const char *name, *in, *order;
    } rows[] = {
        {"by their fields",
         "headers.eh 1 GET:/big/50000 priority=u=6; headers.eh 3 GET:/big/50000 priority=u=1; "
         "headers.eh 5 GET:/big/50000",
         "3 5 1 "},
        {"as they came", "headers.eh 1 GET:/big/50000; headers.eh 3 GET:/big/50000", "1 3 "},
        {"7.1 by PRIORITY_UPDATE",
         "headers.eh 1 GET:/big/50000; headers.eh 3 GET:/big/50000; x10 0 u32:3 'u=0'", "3 1 "},
        {"7.1 PRIORITY_UPDATE before the request",
         "x10 0 u32:3 'u=0'; headers.eh 1 GET:/big/50000; headers.eh 3 GET:/big/50000", "3 1 "},
        {"what is no priority is ignored",
         "headers.eh 1 GET:/big/50000 priority=u=9; headers.eh 3 GET:/big/50000", "1 3 "},
        {"the priorities of RFC 7540 are",
         "headers.ehq 1 u32:0 u8:1 GET:/big/50000; headers.ehq 3 u32:0x80000000 u8:255 "
         "GET:/big/50000",
         "1 3 "},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        char order[64];
        h2_open_with(&c, f, "u16:4 u32:1000000");
        h2_send(&c, "headers.eh 99 GET:/big/65535"); /* closes the connection's window */
        h2_take(&c);
        cr_assert_eq(c.body_size, 65535u);
        h2_bytes b = h2_script(rows[i].in);
        /* Streams above 99. */
        for (size_t at = 0; at + 9 <= b.size;) {
            size_t size = h2_number(b.data + at, 3);
            if (h2_number(b.data + at + 5, 4)) b.data[at + 8] = (uint8_t)(b.data[at + 8] + 100);
            if (b.data[at + 3] == 0x10) b.data[at + 12] = (uint8_t)(b.data[at + 12] + 100);
            at += 9 + size;
        }
        wire_send_n(&c.w, b.data, b.size, 0);
        free(b.data);
        const char *log = h2_take(&c);
        cr_assert(strstr(log, "headers 101 200") && !strstr(log, "data"), "%s", log);
        h2_send(&c, "window 0 u32:1000000");
        order_of_ends(h2_take(&c), order, sizeof order);
        char wanted[64] = "";
        for (const char *at = rows[i].order; *at; at += 2)
            snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), "%d ",
                     100 + *at - '0');
        cr_assert_str_eq(order, wanted, "row \"%s\": \"%s\"", rows[i].name, order);
        h2_close(&c);
    }
}

/* RFC 9218 section 4.2: incremental ones take turns, frame by frame. */
ZK_HTTP_TEST(h2_exchange, rfc_9218_4_2_incremental_responses_take_turns, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:1000000");
    h2_send(&c, "headers.eh 1 GET:/big/65535");
    h2_take(&c);
    h2_send(&c, "headers.eh 3 GET:/big/100000 priority=i; headers.eh 5 GET:/big/100000 priority=i");
    h2_take(&c);
    h2_send(&c, "window 0 u32:1000000");
    const char *log = h2_take(&c);
    unsigned last = 0, turns = 0;
    for (const char *at = log; *at; at = strchr(at, '\n') + 1) {
        unsigned id;
        if (sscanf(at, "data %u", &id) != 1) continue;
        turns += id != last;
        last = id;
    }
    cr_assert_geq(turns, 10u, "%s", log);
    h2_close(&c);
}

/* ---- what a handler sees of its client ---- */

/* The handler waits for the body, or for room, when the client gives the stream up. */
ZK_HTTP_TEST(h2_exchange, a_reset_ends_the_handler_of_its_stream_only, .routes = routes)
{
    static const struct {
        const char *name, *in;
        int seen;
    } rows[] = {
        {"body", "headers.h 1 POST:/", ZK_E_CLOSED},
        {"body, while streaming", "headers.h 1 POST:/echo", ZK_E_CLOSED},
        {"half a body", "headers.h 1 POST:/ content-length=9; data 1 'x'", ZK_E_CLOSED},
        {"window", "headers.eh 1 GET:/big/300000", -ECONNRESET},
        {"window, in pieces", "headers.eh 1 GET:/pieces", -ECONNRESET},
        {"something else", "headers.eh 1 GET:/sleeps", -ECANCELED},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        h2_open_with(&c, f, "u16:4 u32:3");
        h2_send(&c, rows[i].in);
        h2_take(&c);
        cr_assert_eq(running, 1, "%s", rows[i].name);
        seen = 1;
        h2_send(&c, "rst 1 u32:8");
        h2_check(&c, "", rows[i].name);
        cr_assert_eq(running, 0, "%s", rows[i].name);
        cr_assert_rc(seen, rows[i].seen, "%s", rows[i].name);
        h2_send(&c, "headers.eh 3 GET:/; window 3 u32:9");
        cr_assert(strstr(h2_take(&c), "headers 3 200"), "%s", rows[i].name);
        h2_close(&c);
    }
}

/* The same when the whole connection goes; handlers end, streams are freed. */
ZK_HTTP_TEST(h2_exchange, the_end_of_a_connection_ends_its_handlers, .routes = routes,
             .half_close_grace_ms = 200)
{
    static const char *const requests[] = {"headers.h 1 POST:/", "headers.h 1 POST:/echo",
                                           "headers.eh 1 GET:/big/300000",
                                           "headers.eh 1 GET:/pieces", "headers.eh 1 GET:/sleeps"};
    for (size_t i = 0; i < ROWS(requests); i++) {
        h2_client c;
        h2_open_with(&c, f, "u16:4 u32:3");
        h2_send(&c, requests[i]);
        h2_take(&c);
        cr_assert_eq(running, 1, "%s", requests[i]);
        h2_close(&c);
        pass_ms(201);
        cr_assert_eq(running, 0, "%s", requests[i]);
        cr_assert_lt(seen, 0, "%s: %d", requests[i], seen);
    }
}

ZK_HTTP_TEST(h2_exchange, a_body_that_does_not_come_gets_408, .routes = routes,
             .body_rate_min_bytes_per_s = -1)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 POST:/; data 1 'x'");
    pass_ms(29000);
    cr_assert_h2(&c, "");
    pass_ms(1001);
    cr_assert_h2(&c, "headers 1 408 content-length=20\ndata 1 20 end 408 Request Timeout\n\n"
                     "reset 1 NO_ERROR\n");
    cr_assert_rc(seen, ZK_E_HTTP_TIMEOUT);
    h2_send(&c, "headers.eh 3 GET:/");
    cr_assert_h2(&c, HELLO("3"));
    h2_close(&c);
}

/* A byte now and then: after five seconds of grace 256 bytes a second are due. */
ZK_HTTP_TEST(h2_exchange, a_body_that_drips_is_too_slow, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 POST:/");
    for (int i = 0; i < 4; i++) {
        h2_send(&c, "data 1 'x'");
        pass_ms(1000);
        cr_assert_h2(&c, "");
    }
    pass_ms(1001);
    const char *log = h2_take(&c);
    cr_assert(!strncmp(log, "headers 1 408 ", 14), "%s", log);
    cr_assert_rc(seen, ZK_E_SLOW);
    h2_close(&c);
}

ZK_HTTP_TEST(h2_exchange, a_handler_may_have_a_deadline_for_the_body, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.h 1 POST:/hurries; data 1 'x'");
    cr_assert_h2(&c, "");
    pass_ms(51);
    cr_assert_h2(&c, "headers 1 200 content-length=8\ndata 1 8 end too late\nreset 1 NO_ERROR\n");
    cr_assert_rc(seen, -ETIMEDOUT);
    h2_send(&c, "headers.h 3 POST:/hurries; data.e 3 'x'");
    cr_assert_h2(&c, HELLO("3"));
    h2_close(&c);
}

ZK_HTTP_TEST(h2_exchange, a_handler_may_have_a_deadline_for_the_response, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:3");
    h2_send(&c, "headers.eh 1 GET:/hurries");
    cr_assert_h2(&c, "headers 1 200 content-length=100000\ndata 1 3 abc\n");
    pass_ms(51);
    cr_assert_h2(&c, "reset 1 INTERNAL_ERROR\n");
    cr_assert_rc(seen, -ETIMEDOUT);
    h2_close(&c);
}

/* write_timeout_ms counts from the last byte that the client has taken. */
ZK_HTTP_TEST(h2_exchange, a_client_that_takes_nothing_loses_its_stream, .routes = routes)
{
    static const struct {
        const char *request;
        int seen;
    } rows[] = {
        {"headers.eh 1 GET:/big/300000", ZK_E_HTTP_TIMEOUT},
        {"headers.eh 1 GET:/pieces", ZK_E_HTTP_TIMEOUT},
        {"headers.eh 1 GET:/big/10000", 0}, /* gathered: the handler has gone */
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        h2_open_with(&c, f, "u16:4 u32:3");
        h2_send(&c, rows[i].request);
        h2_take(&c);
        for (int n = 0; n < 3; n++) {
            pass_ms(29000);
            h2_send(&c, "window 1 u32:1");
            const char *log = h2_take(&c);
            cr_assert(!strncmp(log, "data 1 1 ", 9), "%s: %s", rows[i].request, log);
        }
        pass_ms(29000);
        h2_check(&c, "", rows[i].request);
        pass_ms(1001);
        pass_ms(1001);
        const char *log = h2_take(&c);
        cr_assert(!strncmp(log, "reset 1 ", 8), "%s: %s", rows[i].request, log);
        cr_assert_rc(seen, rows[i].seen, "%s", rows[i].request);
        h2_send(&c, "headers.eh 3 GET:/");
        cr_assert(strstr(h2_take(&c), "headers 3 200"));
        h2_close(&c);
    }
}

/* What the handler waits for is not the client's fault. */
ZK_HTTP_TEST(h2_exchange, a_client_has_its_time_from_when_there_is_something, .routes = routes)
{
    h2_client c;
    h2_open_with(&c, f, "u16:4 u32:4");
    h2_send(&c, "headers.eh 1 GET:/ticks");
    cr_assert_h2(&c, "headers 1 200\ndata 1 4 tick\n");
    pass_ms(60001);
    for (int i = 0; i < 28; i++)
        pass_ms(1000);
    cr_assert_h2(&c, "");
    h2_send(&c, "window 1 u32:9"); /* nghttp2 sends no end into a window of 0 */
    cr_assert_h2(&c, "data 1 4 tick\n");
    for (int i = 0; i < 32; i++)
        pass_ms(1000);
    cr_assert_h2(&c, "data 1 4 tick\n");
    pass_ms(60100);
    cr_assert_h2(&c, "data 1 0 end\n");
    h2_close(&c);
}

/* ---- the end of a connection ---- */

ZK_HTTP_TEST(h2_exchange, a_client_that_sends_no_more_has_its_grace, .routes = routes)
{
    static const struct {
        int grace_ms;
        const char *out;
    } rows[] = {{1000, HELLO("1")}, {300, ""}};
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_client c;
        f->config.half_close_grace_ms = rows[i].grace_ms;
        h2_open(&c, f);
        h2_send(&c, "headers.eh 1 GET:/sleeps");
        cr_assert_ok(zk_stream_shutdown(c.w.stream));
        pass_ms(301);
        pass_ms(250);
        cr_assert_h2(&c, rows[i].out);
        cr_assert(c.w.is_closed);
        cr_assert_eq(running, 0);
        h2_close(&c);
    }
}

/* zk_response_close: nothing new is begun on the connection, what has begun is finished. */
ZK_HTTP_TEST(h2_exchange, a_response_may_be_the_last, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/sleeps; headers.eh 3 GET:/closes");
    const char *log = h2_take(&c);
    cr_assert(strstr(log, "goaway 2147483647 NO_ERROR\n"), "%s", log);
    cr_assert(strstr(log, "data 3 5 end hello\n"), "%s", log);
    cr_assert(!c.w.is_closed);
    h2_send(&c, "headers.eh 5 GET:/"); /* was on its way */
    cr_assert_h2(&c, HELLO("5"));
    pass_ms(501);
    log = h2_take(&c);
    cr_assert(strstr(log, "data 1 5 end hello\n"), "%s", log);
    cr_assert(strstr(log, "goaway 5 NO_ERROR\n"), "%s", log);
    cr_assert(c.w.is_closed);
    h2_close(&c);
}

ZK_HTTP_TEST(h2_exchange, a_single_response_may_be_the_last, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/closes");
    const char *log = h2_take(&c);
    cr_assert(strstr(log, "data 1 5 end hello\n") && strstr(log, "goaway 1 NO_ERROR\n"), "%s", log);
    cr_assert(c.w.is_closed);
    h2_close(&c);
}

ZK_HTTP_TEST(h2_exchange, a_request_knows_its_connection, .routes = routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/scheme");
    cr_assert_h2(&c, "headers 1 200 content-length=4\ndata 1 4 end http\n");
    h2_close(&c);
}

/* A server that stops: the client is told, what it has begun is answered, and then it is over. */
ZK_ASYNC_TEST(h2_exchange, a_server_that_stops_finishes_its_streams)
{
    ZK_SCOPE(scope) {
        server s;
        h2_client busy, idle;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        client_open(&busy, &s);
        h2_greet(&busy, "");
        client_open(&idle, &s);
        h2_greet(&idle, "");
        wait_for(&idle, "window 0", "idle");
        h2_send(&busy, "headers.eh 1 GET:/sleeps");
        while (running == 0)
            settle();
        zk_serving_drain(s.serving);
        wait_for(&busy, "goaway 2147483647 NO_ERROR\n", "busy");
        wait_for(&idle, "goaway 0 NO_ERROR\n", "idle");
        h2_send(&busy, "headers.eh 3 GET:/"); /* was on its way */
        wait_for(&busy, "data 3 5 end hello\n", "busy");
        pass_ms(501);
        wait_for(&busy, "data 1 5 end hello\n", "busy");
        wait_for(&busy, "goaway 3 NO_ERROR\n", "busy");
        for (int turns = 0; s.rc == 1 && turns < 1000; turns++)
            settle();
        cr_assert_rc(s.rc, 0);
        h2_close(&busy);
        h2_close(&idle);
    }
}
