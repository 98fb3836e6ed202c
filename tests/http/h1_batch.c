/*
 * Requests that arrive together are served by one task: who waits, breaks off or sends more than
 * others must not be noticed by these.
 */
#include "tests/http/fixture.h"

enum { MANY = 2 * ZK__READY_MAX + 3 };

static int late(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_sleep(ZK_MS(100));
    return rc < 0 ? rc : zk_respond_text(res, 200, "late");
}

static int yielding(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_yield();
    return rc < 0 ? rc : zk_respond(res, 200, NULL, NULL, 0);
}

static int failing(zk_request *req, zk_response *res)
{
    (void)req, (void)res;
    return zk_fail(-EIO, "of this request");
}

static const zk_route routes[] = {
    {"GET", "/", nothing, NULL},
    {"GET", "/late", late, NULL},
    {"GET", "/yielding", yielding, NULL},
    {"GET", "/failing", failing, NULL},
    {0},
};

/* Opens connections and gives each a first answer, so that they are parked. */
static void wires_open(wire *wires, size_t count, fixture *f)
{
    for (size_t i = 0; i < count; i++) {
        wire_open(&wires[i], f);
        wire_send(&wires[i], GET("/"));
    }
    settle();
    for (size_t i = 0; i < count; i++) {
        cr_assert_str_eq(wire_take(&wires[i]), EMPTY);
    }
}

static void wires_close(wire *wires, size_t count)
{
    for (size_t i = 0; i < count; i++)
        wire_close(&wires[i]);
}

/* The task has several to serve; one that waits takes none of the others with it. */
ZK_HTTP_TEST(h1_batch, a_handler_that_waits_holds_up_nobody, .routes = routes)
{
    wire wires[5];
    wires_open(wires, ROWS(wires), f);
    for (size_t i = 0; i < ROWS(wires); i++)
        wire_send(&wires[i], i % 2 ? GET("/late") : GET("/"));
    settle();
    for (size_t i = 0; i < ROWS(wires); i++)
        cr_assert_str_eq(wire_take(&wires[i]), i % 2 ? "" : EMPTY, "%zu", i);
    pass_ms(110); /* both: they wait at the same time */
    cr_assert_str_eq(wire_take(&wires[1]), OK_TEXT("4", "late"));
    cr_assert_str_eq(wire_take(&wires[3]), OK_TEXT("4", "late"));
    wires_close(wires, ROWS(wires));
}

/* Each of them hands the rest over. */
ZK_HTTP_TEST(h1_batch, all_may_wait, .routes = routes)
{
    wire wires[8];
    wires_open(wires, ROWS(wires), f);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ROWS(wires); i++)
            wire_send(&wires[i], GET("/yielding") GET("/") GET("/yielding"));
        settle();
        for (size_t i = 0; i < ROWS(wires); i++)
            cr_assert_str_eq(wire_take(&wires[i]), EMPTY EMPTY EMPTY, "%zu", i);
    }
    wires_close(wires, ROWS(wires));
}

/* More at once than the list holds: the rest have tasks of their own. */
ZK_HTTP_TEST(h1_batch, more_than_the_list_holds_are_served, .routes = routes)
{
    static wire wires[MANY];
    wires_open(wires, MANY, f);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < MANY; i++)
            wire_send(&wires[i], GET("/"));
        settle();
        for (size_t i = 0; i < MANY; i++)
            cr_assert_str_eq(wire_take(&wires[i]), EMPTY, "%zu", i);
    }
    wires_close(wires, MANY);
}

/* A refused request spoils the session for those behind it, and an error its trail. */
ZK_HTTP_TEST(h1_batch, a_refused_request_concerns_nobody_else, .routes = routes)
{
    wire wires[4];
    wires_open(wires, ROWS(wires), f);
    wire_send(&wires[0], GET("/failing"));
    wire_send(&wires[1], "GET / HTTP/1.1\r\nHost a\r\n\r\n");
    wire_send(&wires[2], GET("/"));
    wire_send(&wires[3], GET("/yielding"));
    settle();
    cr_assert_str_eq(wire_take(&wires[0]), PAGE("26", "500 Internal Server Error"));
    cr_assert_str_eq(wire_take(&wires[1]), LAST_PAGE("16", "400 Bad Request"));
    cr_assert_str_eq(wire_take(&wires[2]), EMPTY);
    cr_assert_str_eq(wire_take(&wires[3]), EMPTY);
    wires_close(wires, ROWS(wires));
}

/* Parts of heads, and more than is received ahead. */
ZK_HTTP_TEST(h1_batch, parts_and_large_requests_are_put_together, .routes = routes)
{
    static char large[3 * ZK__AHEAD_BYTES];
    int size = snprintf(large, sizeof large, "GET / HTTP/1.1\r\nHost: a\r\nX: %0*d\r\n\r\n",
                        2 * ZK__AHEAD_BYTES, 7);
    wire wires[4];
    wires_open(wires, ROWS(wires), f);
    wire_send(&wires[0], "GET /yielding HT");
    wire_send_n(&wires[1], large, (size_t)size, 0);
    wire_send(&wires[2], GET("/") "GET / HT");
    wire_send(&wires[3], GET("/"));
    settle();
    cr_assert_str_eq(wire_take(&wires[0]), "");
    cr_assert_str_eq(wire_take(&wires[1]), EMPTY);
    cr_assert_str_eq(wire_take(&wires[2]), EMPTY);
    cr_assert_str_eq(wire_take(&wires[3]), EMPTY);
    wire_send(&wires[0], "TP/1.1\r\nHost: a\r\n\r\n");
    wire_send(&wires[2], "TP/1.1\r\nHost: a\r\n\r\n" GET("/yielding"));
    settle();
    cr_assert_str_eq(wire_take(&wires[0]), EMPTY);
    cr_assert_str_eq(wire_take(&wires[2]), EMPTY EMPTY);
    wires_close(wires, ROWS(wires));
}

/* One that ends its side in the same moment as others ask. */
ZK_HTTP_TEST(h1_batch, a_client_that_goes_takes_nobody_along, .routes = routes)
{
    wire wires[3];
    wires_open(wires, ROWS(wires), f);
    cr_assert_ok(zk_stream_shutdown(wires[0].stream));
    wire_send(&wires[1], GET("/late"));
    wire_send(&wires[2], GET("/"));
    settle();
    cr_assert_str_eq(wire_take(&wires[0]), "");
    cr_assert(wires[0].is_closed);
    cr_assert_str_eq(wire_take(&wires[2]), EMPTY);
    cr_assert_eq(f->shard.conn_count, 2u);
    zk_stream_close(wires[1].stream); /* its handler is cancelled, and its session spent */
    settle();
    cr_assert_eq(f->shard.conn_count, 1u);
    wire_send(&wires[2], GET("/yielding"));
    settle();
    cr_assert_str_eq(wire_take(&wires[2]), EMPTY);
    wire_close(&wires[2]);
    wire_close(&wires[0]);
    free(wires[1].text);
}
