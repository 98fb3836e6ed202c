/*
 * Hubs: who gets what, in which order, and what becomes of who is slow or goes.
 */
#include "tests/ws/talk.h"

#include <zokio/hub.h>

static zk_hub *hub;
static zk_ws_options own;
static zk_ws *_Atomic last;

static int on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)context;
    char topic[64];
    /* "+topic" subscribes, "-topic" ends that, the rest is published to "all" */
    snprintf(topic, sizeof topic, "%.*s", m->size ? (int)m->size - 1 : 0, m->data + 1);
    if (m->size && m->data[0] == '+') return zk_hub_subscribe(hub, ws, topic);
    if (m->size && m->data[0] == '-') return zk_hub_unsubscribe(hub, ws, topic);
    return zk_hub_publish(hub, "all", m->type, m->data, m->size);
}

static int joins(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {.on_message = on_message};
    zk_ws *ws;
    int rc = zk_ws_accept(req, res, &own, &ws);
    last = ws;
    return rc < 0 ? rc : zk_ws_park(ws, &handlers, NULL);
}

static const zk_route routes[] = {{"GET", "/", joins, NULL}, {0}};

static void join(wire *w, fixture *f, const char *frames)
{
    talk_open(w, f, ASK("/") "\r\n");
    talk_send(w, frames, 0);
    settle();
}

static void hub_open(void) { cr_assert_ok(zk_hub_new(&hub)); }

ZK_HTTP_TEST(ws_hub, subscribers_get_what_is_published, .routes = routes)
{
    wire a, b, c;
    hub_open();
    join(&a, f, "T:+all");
    join(&b, f, "T:+all T:+all T:+more");
    join(&c, f, "T:+more");
    cr_assert_eq(zk_hub_subscribers_here(hub, "all"), 2u);
    cr_assert_eq(zk_hub_subscribers_here(hub, "more"), 2u);
    cr_assert_eq(zk_hub_subscribers_here(hub, "none"), 0u);
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "one", 3));
    cr_assert_ok(zk_hub_publish(hub, "more", ZK_WS_BINARY, "two", 3));
    cr_assert_ok(zk_hub_publish(hub, "none", ZK_WS_TEXT, "three", 5));
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "", 0));
    cr_assert_rc(zk_hub_publish(hub, "all", ZK_WS_TEXT, "\xff", 1), ZK_E_WS_TEXT);
    talk_expect(&a, "T:one T:", "a");
    talk_expect(&b, "T:one B:two T:", "b");
    talk_expect(&c, "B:two", "c");
    talk_send(&b, "T:-all T:-none T:-all", 0);
    settle();
    talk_send(&b, "T:said", 0);
    talk_expect(&a, "T:said", "a");
    talk_expect(&b, "", "b");
    wire_close(&a);
    wire_close(&b);
    wire_close(&c);
    settle();
    cr_assert_eq(zk_hub_subscribers_here(hub, "more"), 0u);
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "late", 4));
    zk_hub_free(hub);
}

/* A hub that its owner has given up lives on for those who have subscribed. */
ZK_HTTP_TEST(ws_hub, a_hub_ends_before_its_sockets, .routes = routes)
{
    wire a;
    hub_open();
    join(&a, f, "T:+all");
    zk_hub_free(hub);
    talk_send(&a, "P:x", 0);
    talk_expect(&a, "O:x", "a");
    wire_close(&a);
}

enum { MANY = 700, MANY_SLOW = 300 };

/* More than are served at once: all get all, in order, also if some go meanwhile. */
ZK_HTTP_TEST(ws_hub, many_subscribers, .routes = routes)
{
    wire *w = calloc(MANY, sizeof *w);
    char topic[16];
    cr_assert(w);
    hub_open();
    for (int i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "T:+all T:+%d", i);
        join(&w[i], f, topic);
    }
    cr_assert_eq(zk_hub_subscribers_here(hub, "all"), (size_t)MANY);
    for (int i = 0; i < 5; i++)
        cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, &"01234"[i], 1));
    for (int i = 0; i < MANY; i += 7)
        wire_close(&w[i]);
    cr_assert_ok(zk_hub_publish(hub, "699", ZK_WS_TEXT, "own", 3));
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "5", 1));
    for (int i = 0; i < MANY; i++) {
        if (i % 7 == 0) continue;
        talk_expect(&w[i], i == 699 ? "T:0 T:1 T:2 T:3 T:4 T:own T:5" : "T:0 T:1 T:2 T:3 T:4 T:5",
                    "one of many");
        wire_close(&w[i]);
    }
    settle();
    cr_assert_eq(zk_hub_subscribers_here(hub, "all"), 0u);
    zk_hub_free(hub);
    free(w);
}

/* Who does not read loses the oldest, or is given up; the others do not notice. */
static void slow_subscribers(fixture *f, zk_ws_slow slow, size_t more)
{
    wire a, b, *others = calloc(more + 1, sizeof *others);
    static char text[1000];
    cr_assert(others);
    hub_open();
    own = (zk_ws_options){.send_queue_bytes_max = 10000, .slow = slow};
    for (size_t i = 0; i < more; i++)
        join(&others[i], f, "T:+all");
    join(&a, f, "T:+all");
    join(&b, f, "T:+all");
    size_t got = 0;
    for (int i = 0; i < 100; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, text, sizeof text));
        settle();
        wire_collect(&b);
        got += b.size;
        b.size = 0;
    }
    cr_assert_eq(got, (size_t)100 * 1004);
    bool is_given_up = slow == ZK_WS_SLOW_CLOSE;
    settle();
    cr_assert_eq(zk_hub_subscribers_here(hub, "all"), is_given_up ? 1 : 2 + more);
    if (!is_given_up) {
        cr_assert_lt(zk_ws_queued_bytes(last), (size_t)12000);
        wire_collect(&a);
        settle();
        wire_collect(&a);
        cr_assert(a.size > 16000 && a.size < 40000 && !a.is_closed, "%zu", a.size);
        cr_assert_eq(a.text[a.size - 1], 'a' + 99 % 26);
    }
    wire_close(&a);
    wire_close(&b);
    for (size_t i = 0; i < more; i++)
        wire_close(&others[i]);
    settle();
    zk_hub_free(hub);
    free(others);
}

/* To few it is queued, to many it is sent as far as it goes. */
static void slow_subscriber(fixture *f, zk_ws_slow slow)
{
    slow_subscribers(f, slow, 0);
    slow_subscribers(f, slow, MANY_SLOW);
}

ZK_HTTP_TEST(ws_hub, who_is_slow_loses_the_oldest, .routes = routes)
{
    slow_subscriber(f, ZK_WS_SLOW_DROP);
}
ZK_HTTP_TEST(ws_hub, nobody_is_waited_for, .routes = routes)
{
    slow_subscriber(f, ZK_WS_SLOW_WAIT);
}
ZK_HTTP_TEST(ws_hub, who_is_slow_is_given_up, .routes = routes)
{
    slow_subscriber(f, ZK_WS_SLOW_CLOSE);
}

/* ---- who knows that it has joined misses nothing ---- */

static wire *joining;

static int subscribes(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {.on_message = on_message};
    zk_ws *ws;
    char c;
    cr_assert_ok(zk_ws_accept(req, res, NULL, &ws));
    /* Others run here at the same time: what they publish in answer to the 101 would be lost. */
    cr_assert_rc((int)zk_stream_try_read(joining->stream, &c, 1), -EAGAIN);
    cr_assert_ok(zk_hub_subscribe(hub, ws, "all"));
    return zk_ws_park(ws, &handlers, NULL);
}

static int says_page(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "page");
}

static const zk_route subscribe_routes[] = {
    {"GET", "/", subscribes, NULL},
    {"GET", "/page", says_page, NULL},
    {0},
};

ZK_HTTP_TEST(ws_hub, the_answer_leaves_when_it_has_subscribed, .routes = subscribe_routes)
{
    wire a;
    hub_open();
    joining = &a;
    wire_open(&a, f);
    /* What was answered before goes first. */
    wire_send(&a, "GET /page HTTP/1.1\r\nHost: a\r\n\r\n" ASK("/") "\r\n");
    wire_collect(&a);
    cr_assert(!strncmp(a.text, "HTTP/1.1 200 ", 13), "%s", a.text);
    talk_skip_head(&a);
    cr_assert(!strncmp(a.text, "pageHTTP/1.1 101 ", 17), "%s", a.text);
    talk_skip_head(&a);
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "x", 1));
    talk_expect(&a, "T:x", "what was published");
    wire_close(&a);
    settle();
    zk_hub_free(hub);
}

/* ---- what is published does not go between the pieces of a message ---- */

static int streams(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    if (rc >= 0) rc = zk_hub_subscribe(hub, ws, "all");
    if (rc >= 0) rc = zk_ws_send_begin(ws, ZK_WS_TEXT);
    if (rc >= 0) rc = zk_ws_write(ws, "a", 1);
    if (rc >= 0) rc = zk_ws_recv(ws, &m);
    if (rc >= 0) rc = zk_ws_write(ws, "b", 1);
    if (rc >= 0) rc = zk_ws_send_end(ws);
    return rc >= 0 ? zk_ws_recv(ws, &m) : rc;
}

static const zk_route stream_routes[] = {{"GET", "/", streams, NULL}, {0}};

ZK_HTTP_TEST(ws_hub, pieces_are_not_interrupted, .routes = stream_routes)
{
    wire a;
    hub_open();
    wire_open(&a, f);
    wire_send(&a, ASK("/") "\r\n");
    settle();
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "x", 1));
    cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "y", 1));
    settle();
    talk_send(&a, "T:go", 0);
    talk_skip_head(&a);
    talk_expect(&a, "T:ab T:x T:y", "the whole");
    wire_close(&a);
    settle();
    zk_hub_free(hub);
}

/* ---- over workers ---- */

static int hub_count; /* of messages that a client got */

static int client_run(void *arg)
{
    const char *url = arg;
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_connect(url, NULL, &ws);
    if (rc < 0) return rc;
    rc = zk_ws_send_text(ws, "+all");
    if (rc >= 0) rc = zk_ws_send_text(ws, "hello");
    /* Each says hello once it has subscribed, so there is at least its own. */
    bool has_own = false;
    while (rc >= 0 && !has_own && (rc = zk_ws_recv(ws, &m)) > 0)
        has_own = m.size == 5;
    while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0) {
        if (m.size != 3) continue;
        __atomic_fetch_add(&hub_count, 1, __ATOMIC_RELAXED);
        break;
    }
    if (rc >= 0) rc = zk_ws_close(ws, 1000, NULL);
    zk_ws_free(ws);
    return rc;
}

ZK_ASYNC_TEST_ON(ws_hub, all_workers, 3)
{
    enum { CLIENTS = 24 };
    hub_open();
    ZK_SCOPE(scope) {
        server s;
        char url[256], text[ZK_ADDR_TEXT_BYTES];
        server_start(&s, &scope, &(zk_server){.routes = routes});
        zk_addr_format(&s.addr, text);
        snprintf(url, sizeof url, "ws://%s/", text);
        ZK_SCOPE(clients) {
            for (int i = 0; i < CLIENTS; i++)
                cr_assert_ok(zk_spawn(&clients, client_run, (void *)url));
            for (int i = 0; i < 1000 && __atomic_load_n(&hub_count, __ATOMIC_RELAXED) < CLIENTS;
                 i++) {
                cr_assert_ok(zk_hub_publish(hub, "all", ZK_WS_TEXT, "end", 3));
                cr_assert_ok(zk_sleep(ZK_MS(5)));
            }
            cr_assert_ok(zk_scope_wait(&clients));
        }
        cr_assert_eq(hub_count, CLIENTS);
        server_stop(&s);
    }
    zk_hub_free(hub);
}
