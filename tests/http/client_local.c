/*
 * A client whose requests go to a server's routes, in memory: for tests of handlers.
 */
#include "tests/http/fixture.h"

#include <zokio/client.h>

static int cancelled;

static int echo(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = zk_body(req, &body);
    return rc < 0 ? rc : zk_respond(res, 200, "text/plain", body.data, body.size);
}

static int user(zk_request *req, zk_response *res)
{
    zk_str name = zk_request_param(req, "name");
    *(int *)zk_request_context(req) += 1;
    return zk_respond(res, 200, "text/plain", name.data, name.size);
}

static int never(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    int rc = zk_sleep(ZK_SEC(3600));
    cancelled += rc == -ECANCELED;
    return rc;
}

static const zk_route routes[] = {
    {"POST", "/echo", echo, NULL},
    {"GET", "/users/{name}", user, NULL},
    {"GET", "/never", never, NULL},
    {0},
};

/* A request reaches its handler as over a socket, whatever host it names; and no socket is made. */
ZK_ASYNC_TEST(client_local, calls_the_routes)
{
    int calls = 0;
    zk_server tested = {.routes = routes, .context = &calls};
    zk_client *c;
    zk_fetch *f;
    zk_str body;
    cr_assert_ok(zk_client_new(&(zk_client_options){.server = &tested}, &c));
    for (int i = 0; i < 3; i++) {
        cr_assert_ok(zk_fetch_open(
            c, &(zk_fetch_options){.url = "https://anybody.example/users/ann?x=y"}, &f));
        cr_expect_eq(zk_fetch_status(f), 200);
        cr_assert_ok(zk_fetch_body(f, &body));
        cr_expect_str_eq(body.data, "ann");
        zk_fetch_close(f);
    }
    cr_expect_eq(calls, 3);
    static char large[200000];
    memset(large, 'x', sizeof large);
    zk_fetch_options post = {.url = "http://a/echo", .body = large, .body_size = sizeof large};
    cr_assert_ok(zk_fetch_open(c, &post, &f));
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_eq(body.size, sizeof large);
    zk_fetch_close(f);
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = "http://a/none"}, &f));
    cr_expect_eq(zk_fetch_status(f), 404);
    zk_fetch_close(f);
    zk_client_free(c);
}

/* A handler that is still at it is cancelled with its request, with the client at the latest. */
ZK_ASYNC_TEST(client_local, cancels_what_is_not_wanted)
{
    zk_server tested = {.routes = routes};
    zk_client *c;
    zk_fetch *f;
    cr_assert_ok(zk_client_new(&(zk_client_options){.server = &tested}, &c));
    ZK_WITHIN(ZK_MS(1))
        cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = "http://a/never"}, &f),
                     -ETIMEDOUT);
    zk_client_free(c);
    cr_expect_eq(cancelled, 1);
}

/* What is no server is no client either. */
ZK_ASYNC_TEST(client_local, needs_good_routes)
{
    static const zk_route bad[] = {{"GET", "no slash", echo, NULL}, {0}};
    zk_server tested = {.routes = bad};
    zk_client *c;
    cr_assert_rc(zk_client_new(&(zk_client_options){.server = &tested}, &c), ZK_E_HTTP_ROUTE);
}
