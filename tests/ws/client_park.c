/*
 * A client's socket that is parked in a scope: what it holds meanwhile, and its ends. What it says
 * is in client_talk.c.
 */
#include "tests/ws/talk.h"

#include "ws/connection.h"

static const zk_route routes[] = {{"GET", "/", echo_loop, NULL}, {0}};

typedef struct parked {
    char got[64];
    int rc, count;
    bool is_over, closes;
    int answer; /* of on_message */
} parked;

static int on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    parked *p = context;
    p->count++;
    snprintf(p->got, sizeof p->got, "%.*s", (int)m->size, m->data);
    if (p->closes) cr_assert_ok(zk_ws_close(ws, 1000, "enough"));
    return p->answer;
}

static void on_close(zk_ws *ws, void *context, int rc)
{
    parked *p = context;
    (void)ws;
    cr_assert(!p->is_over);
    p->is_over = true;
    p->rc = rc;
}

static const zk_ws_handlers handlers = {on_message, on_close};

static zk_ws *connect_to(const server *s)
{
    char url[256], text[ZK_ADDR_TEXT_BYTES];
    zk_ws *ws;
    zk_addr_format(&s->addr, text);
    snprintf(url, sizeof url, "ws://%s/", text);
    cr_assert_ok(zk_ws_connect(url, NULL, &ws));
    return ws;
}

static void wait_for_count(const parked *p, int count)
{
    for (int i = 0; i < 10000 && p->count < count; i++)
        cr_assert_ok(zk_yield());
    cr_assert_eq(p->count, count);
}

/* Messages come one after the other, and between them there is neither a task nor a buffer. */
ZK_ASYNC_TEST(ws_client_park, an_idle_one_holds_no_stack)
{
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        ZK_SCOPE(scope) {
            parked p = {0};
            zk_ws *ws = connect_to(&s);
            cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, &p));
            for (int i = 1; i <= 3; i++) {
                cr_assert_ok(zk_ws_send_text(ws, "hello"));
                wait_for_count(&p, i);
                for (int turn = 0; turn < 10; turn++)
                    cr_assert_ok(zk_yield());
                cr_assert(!ws->has_task && !ws->in && !ws->scope);
            }
            cr_assert_str_eq(p.got, "hello");
            cr_assert(!p.is_over);
            zk_scope_cancel(&scope);
            cr_assert_rc(zk_scope_wait(&scope), -ECANCELED);
            cr_assert(p.is_over);
        }
        server_stop(&s);
    }
}

ZK_ASYNC_TEST(ws_client_park, it_is_closed_by_its_handler)
{
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        ZK_SCOPE(scope) {
            parked p = {.closes = true};
            zk_ws *ws = connect_to(&s);
            cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, &p));
            cr_assert_ok(zk_ws_send_text(ws, "hello"));
            cr_assert_ok(zk_scope_wait(&scope));
            cr_assert(p.is_over && p.count == 1);
            cr_assert_rc(p.rc, 0);
        }
        server_stop(&s);
    }
}

/* An error of the handler is its end, and not the scope's. */
ZK_ASYNC_TEST(ws_client_park, its_handler_fails)
{
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        ZK_SCOPE(scope) {
            parked p = {.answer = -EIO};
            zk_ws *ws = connect_to(&s);
            cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, &p));
            cr_assert_ok(zk_ws_send_text(ws, "hello"));
            cr_assert_ok(zk_scope_wait(&scope));
            cr_assert(p.is_over);
            cr_assert_rc(p.rc, -EIO);
        }
        server_stop(&s);
    }
}

/* What the server is told when the scope's time is over. */
static int closed_with;

static int tells_the_code(zk_request *req, zk_response *res)
{
    zk_ws *ws;
    zk_ws_message m;
    int rc = zk_ws_accept(req, res, NULL, &ws);
    while (rc >= 0 && (rc = zk_ws_recv(ws, &m)) > 0)
        continue;
    closed_with = zk_ws_close_code(ws);
    return rc;
}

static const zk_route code_routes[] = {{"GET", "/", tells_the_code, NULL}, {0}};

static void cancelled_park(bool has_deadline)
{
    parked p = {0};
    closed_with = 0;
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = code_routes});
        zk_ws *ws = connect_to(&s);
        ZK_WITHIN(has_deadline ? ZK_MS(20) : ZK_SEC(100)) {
            ZK_SCOPE(scope) {
                cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, &p));
                cr_assert_ok(zk_yield());
                if (!has_deadline) zk_scope_cancel(&scope);
                cr_assert_rc(zk_scope_wait(&scope), -ECANCELED);
                cr_assert(p.is_over);
                cr_assert_rc(p.rc, -ECANCELED);
            }
        }
        for (int i = 0; i < 10000 && !closed_with; i++)
            cr_assert_ok(zk_yield());
        cr_assert_eq(closed_with, 1001);
        server_stop(&s);
    }
}

ZK_ASYNC_TEST(ws_client_park, its_scope_is_cancelled) { cancelled_park(false); }
ZK_ASYNC_TEST(ws_client_park, its_scope_has_a_deadline) { cancelled_park(true); }

/* Parks in the outer of two scopes, and leaves that early. */
static void scope_leave_early(const server *s, parked *p)
{
    ZK_SCOPE(scope) {
        zk_ws *ws = connect_to(s);
        ZK_SCOPE(inside)
            cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, p));
        cr_assert_ok(zk_ws_send_text(ws, "hello"));
        wait_for_count(p, 1);
        return;
    }
}

/* Leaving a scope early ends what is parked in it, as it ends tasks. */
ZK_ASYNC_TEST(ws_client_park, its_scope_is_left)
{
    parked p = {0};
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        scope_leave_early(&s, &p);
        cr_assert(p.is_over);
        cr_assert_rc(p.rc, -ECANCELED);
        server_stop(&s);
    }
}

/* The server goes while nobody looks. */
ZK_ASYNC_TEST(ws_client_park, its_server_stops)
{
    parked p = {0};
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        ZK_SCOPE(scope) {
            zk_ws *ws = connect_to(&s);
            cr_assert_ok(zk_ws_park_in(&scope, ws, &handlers, &p));
            server_stop(&s);
            cr_assert_ok(zk_scope_wait(&scope));
        }
    }
    cr_assert(p.is_over);
    cr_assert_rc(p.rc, 0);
}

/* Refused, it stays the caller's. */
ZK_ASYNC_TEST(ws_client_park, a_scope_that_is_over)
{
    ZK_SCOPE(outer) {
        server s;
        server_start(&s, &outer, &(zk_server){.routes = routes});
        zk_ws *ws = connect_to(&s);
        parked p = {0};
        ZK_SCOPE(scope) {
            zk_scope_cancel(&scope);
            cr_assert_rc(zk_ws_park_in(&scope, ws, &handlers, &p), -ECANCELED);
        }
        cr_assert_ok(zk_ws_close(ws, 1000, NULL));
        cr_assert(!p.is_over);
        zk_ws_free(ws);
        server_stop(&s);
    }
}
