/*
 * WebSockets over streams of HTTP/2 (RFC 8441). The frames of WebSocket have a key of zeros, so
 * that they can be read.
 */
#include "tests/http/h2_frames.h"

#include "tests/ws/talk.h"

#define CONNECT "headers.h 1 :method=CONNECT :protocol=websocket :scheme=http :authority=a "
#define VERSION "sec-websocket-version=13; "
#define HI "data 1 hex:818200000000 'hi'"
#define SAID_HI "data 1 4 \x81\x02hi\n"
#define BYE "hex:888200000000 u16:1000"
#define SAID_BYE "data 1 4 end \x88\x02\x03\xe8\n"

static const h2_row rows[] = {
    {"it opens", CONNECT ":path=/loop " VERSION, "headers 1 200\n", false},
    {"and echoes", CONNECT ":path=/loop " VERSION HI, "headers 1 200\n" SAID_HI, false},
    {"a frame in two", CONNECT ":path=/loop " VERSION "data 1 hex:8182; data 1 hex:00000000 'hi'",
     "headers 1 200\n" SAID_HI, false},
    {"two in one", CONNECT ":path=/loop " VERSION HI " hex:818200000000 'yo'",
     "headers 1 200\ndata 1 8 \x81\x02hi\x81\x02yo\n", false},
    {"parked", CONNECT ":path=/parked " VERSION HI, "headers 1 200\n" SAID_HI, false},
    {"in pieces", CONNECT ":path=/pieces " VERSION HI, "headers 1 200\ndata 1 6 \x01\x02hi\x80\n",
     false},
    {"a ping", CONNECT ":path=/loop " VERSION "data 1 hex:898100000000 'p'",
     "headers 1 200\ndata 1 3 \x8a\x01p\n", false},
    {"a close ends the stream, not the connection", CONNECT ":path=/loop " VERSION "data 1 " BYE,
     "headers 1 200\n" SAID_BYE "reset 1 NO_ERROR\n", false},
    {"and the client's end with it", CONNECT ":path=/loop " VERSION "data.e 1 " BYE,
     "headers 1 200\n" SAID_BYE "", false},
    {"an error", CONNECT ":path=/loop " VERSION "data 1 hex:838000000000",
     "headers 1 200\ndata 1 18 end \x88\x10\x03\xeaunknown opcode\nreset 1 NO_ERROR\n", false},
    {"no version", CONNECT ":path=/loop",
     "headers 1 426 content-length=21 sec-websocket-version=13\ndata 1 21 end 426 Upgrade "
     "Required\n\nreset 1 NO_ERROR\n",
     false},
    {"another protocol",
     "headers.h 1 :method=CONNECT :protocol=x :scheme=http :authority=a :path=/loop " VERSION,
     "headers 1 426 content-length=21 sec-websocket-version=13\ndata 1 21 end 426 Upgrade "
     "Required\n\nreset 1 NO_ERROR\n",
     false},
    {"a plain request", "headers.eh 1 GET:/loop " VERSION,
     "headers 1 426 content-length=21 sec-websocket-version=13\ndata 1 21 end 426 Upgrade "
     "Required\n\n",
     false},
    {"another origin", CONNECT ":path=/loop origin=http://b " VERSION,
     "headers 1 403 content-length=14\ndata 1 14 end 403 Forbidden\n\nreset 1 NO_ERROR\n", false},
    {"its own", CONNECT ":path=/loop origin=http://a " VERSION, "headers 1 200\n", false},
    {"a reset of the client's", CONNECT ":path=/loop " VERSION HI "; rst 1 u32:8", "", false},
    {"two streams",
     CONNECT ":path=/loop " VERSION
             "headers.h 3 :method=CONNECT :protocol=websocket :scheme=http :authority=a "
             ":path=/parked " VERSION "data 3 hex:818200000000 'yo'; " HI,
     "headers 1 200\nheaders 3 200\ndata 3 4 \x81\x02yo\n" SAID_HI, false},
};

ZK_HTTP_TEST(ws_http2, talk, .routes = echo_routes) { h2_rows_run(f, rows, ROWS(rows), 0); }

/* A stream that the client resets is over for its handler, too; the connection goes on. */
ZK_HTTP_TEST(ws_http2, a_reset_ends_the_socket, .routes = echo_routes)
{
    static const char *const paths[] = {"loop", "parked", "pieces"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        char script[256];
        h2_client c;
        h2_open(&c, f);
        snprintf(script, sizeof script, CONNECT ":path=/%s " VERSION, paths[i]);
        h2_send(&c, script);
        cr_assert_h2(&c, "headers 1 200\n");
        h2_send(&c, "rst 1 u32:8");
        cr_assert_h2(&c, "");
        h2_send(&c, "headers.eh 3 GET:/none");
        cr_assert_h2(&c, "headers 3 404 content-length=14\ndata 3 14 end 404 Not Found\n\n");
        h2_close(&c);
    }
}

/* write_timeout_ms counts from when there is something to take, not from what was taken last. */
ZK_HTTP_TEST(ws_http2, a_quiet_socket_has_its_time_for_the_next_message, .routes = echo_routes,
             .write_timeout_ms = 3000)
{
    static const char *const paths[] = {"loop", "parked"};
    for (size_t i = 0; i < ROWS(paths); i++) {
        char script[256];
        h2_client c;
        h2_open_with(&c, f, "u16:4 u32:4");
        snprintf(script, sizeof script, CONNECT ":path=/%s " VERSION HI, paths[i]);
        h2_send(&c, script);
        cr_assert_h2(&c, "headers 1 200\n" SAID_HI);
        for (int second = 0; second < 8; second++)
            pass_ms(1000);
        h2_send(&c, HI);
        pass_ms(1001);
        pass_ms(1001);
        cr_assert_h2(&c, "");
        h2_send(&c, "window 1 u32:4");
        cr_assert_h2(&c, SAID_HI);
        h2_send(&c, "rst 1 u32:8");
        h2_close(&c);
    }
}

/* A server that stops closes them with 1001. */
ZK_HTTP_TEST(ws_http2, a_server_that_stops_says_so, .routes = echo_routes)
{
    h2_client c;
    h2_open(&c, f);
    h2_send(&c, CONNECT ":path=/loop " VERSION);
    cr_assert_h2(&c, "headers 1 200\n");
    f->shard.is_draining = true;
    zk__conn_drain(f->shard.conns);
    cr_assert_h2(&c, "goaway 2147483647 NO_ERROR\ndata 1 4 \x88\x02\x03\xe9\n");
    h2_send(&c, "data 1 hex:888200000000 u16:1001");
    settle();
    cr_assert(strstr(h2_take(&c), "data 1 0 end"), "%s", c.log.text);
    h2_close(&c);
}

/* ---- parked ---- */

static int ends, result;
static bool is_slow;

static int on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)context;
    int rc = is_slow ? zk_sleep(ZK_SEC(1000)) : 0;
    return rc < 0 ? rc : zk_ws_send(ws, m->type, m->data, m->size);
}

static void on_close(zk_ws *ws, void *context, int rc)
{
    (void)ws, (void)context;
    ends++;
    result = rc;
}

static int parks(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {on_message, on_close};
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    return rc < 0 ? rc : zk_ws_park(ws, &handlers, NULL);
}

static const zk_route park_routes[] = {
    {"GET", "/parks", parks, NULL},
    {"GET", "/loop", echo_loop, NULL},
    {0},
};

/* Between messages there is no task, as over HTTP/1.1. */
ZK_HTTP_TEST(ws_http2, parked_ones_have_no_task, .routes = park_routes)
{
    h2_client c;
    h2_open(&c, f);
    uint32_t before = f->shard.scope->live;
    h2_send(&c, CONNECT ":path=/loop " VERSION);
    cr_assert_h2(&c, "headers 1 200\n");
    cr_assert_eq(f->shard.scope->live, before + 1);
    h2_send(&c, "rst 1 u32:8");
    cr_assert_h2(&c, "");
    for (int i = 0; i < 3; i++) {
        static const char *const opened[] = {"3", "5", "7"};
        char script[256];
        snprintf(script, sizeof script,
                 "headers.h %s :method=CONNECT :protocol=websocket :scheme=http :authority=a "
                 ":path=/parks " VERSION "data %s hex:818200000000 'hi'",
                 opened[i], opened[i]);
        h2_send(&c, script);
        cr_assert(strstr(h2_take(&c), "\x81\x02hi"), "%s", c.log.text);
        cr_assert_eq(f->shard.scope->live, before);
    }
    h2_send(&c, "data 3 " BYE);
    cr_assert(strstr(h2_take(&c), "data 3 4 end"), "%s", c.log.text);
    cr_assert(ends == 1 && result == 0);
    h2_send(&c, "rst 5 u32:8");
    settle();
    cr_assert(ends == 2 && result == ZK_E_CLOSED);
    cr_assert_eq(f->shard.scope->live, before);
    h2_close(&c); /* and with it the last */
    settle();
    cr_assert(ends == 3 && result == ZK_E_CLOSED);
}

/* A server that stops says so to parked ones, and at last waits for none, busy or not. */
ZK_HTTP_TEST(ws_http2, parked_ones_of_a_server_that_stops, .routes = park_routes)
{
    for (int busy = 0; busy < 2; busy++) {
        h2_client c;
        ends = 0;
        is_slow = busy;
        f->shard.is_draining = f->shard.is_aborting = false;
        h2_open(&c, f);
        h2_send(&c, CONNECT ":path=/parks " VERSION);
        cr_assert_h2(&c, "headers 1 200\n");
        if (busy) h2_send(&c, HI);
        settle();
        f->shard.is_draining = true;
        zk__conn_drain(f->shard.conns);
        cr_assert_h2(&c, "goaway 2147483647 NO_ERROR\ndata 1 4 \x88\x02\x03\xe9\n");
        cr_assert(!ends);
        f->shard.is_aborting = true;
        zk__conn_abort(f->shard.conns);
        settle();
        cr_assert(ends == 1 && result == -ECANCELED, "%d %d", ends, result);
        h2_close(&c);
    }
}
