/*
 * Two upstreams that are killed and come back a thousand times, in turn, while clients go on asking
 * through the proxy, over real sockets.
 *
 * Upstreams write down what they have seen of each request, by its number. A kill resets whatever
 * is open, at any moment of a request, and for some turns nobody listens. There always is one
 * upstream that has not been killed since a request began, so:
 *
 *   - a GET whose answer has not begun is answered;
 *   - a POST is seen once at most, and exactly once if it was answered;
 *   - what fails was under way when its upstream was killed, and fails with 502 or, behind the
 *     head, with an answer that breaks off;
 *   - at the end as many descriptors are open, and as much memory is held, as near the beginning.
 */
#include "tests/http/fixture.h"
#include "tests/open_count.h"

#include <errno.h>

#include <zokio/client.h>
#include <zokio/metrics.h>
#include <zokio/proxy.h>

#include "http/proxy.h"

/* About three seconds of work; a machine with other things to do takes some more. */
#undef ZK_TEST_TIMEOUT_S
#define ZK_TEST_TIMEOUT_S 60

enum {
    KILLS = ZK_TEST_ASAN || ZK_TEST_TSAN ? 200 : 1000,
    CLIENTS = 6,
    IDS = 128 * 1024,
    LARGE_BYTES = 40 * 1000,
    PIECES = 8,
};

enum kind { GET_SMALL, GET_LARGE, POST_WHOLE, POST_STREAMED, KINDS };

typedef struct record {
    uint8_t seen;      /* how often an upstream had the whole head */
    bool has_begun;    /* an answer to it */
    bool is_disturbed; /* an upstream was killed meanwhile */
} record;

typedef struct upstream {
    zk_addr addr;
    zk_listener *listener;
    zk_scope *life; /* NULL: it is dead */
    int lives;
} upstream;

static record *records;
static upstream ups[2];
static unsigned next_id, current[CLIENTS], done[CLIENTS];
static unsigned answered[KINDS], refused[KINDS], cut;
static bool is_over;
static uint64_t seed = 1;
static zk_proxy *proxy;
static server front;

static unsigned dice(unsigned sides)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % sides;
}

/* So that a kill finds requests in every state. */
static int turns(unsigned max)
{
    int rc = 0;
    for (unsigned left = dice(max + 1); left && !rc; left--)
        rc = zk_yield();
    return rc;
}

/* ---- the upstreams ---- */

typedef struct conn {
    zk_stream *stream;
    char in[8192];
    size_t size;
} conn;

static int more(conn *c)
{
    ssize_t n = zk_stream_read(c->stream, c->in + c->size, sizeof c->in - 1 - c->size);
    if (n <= 0) return -1;
    c->size += (size_t)n;
    c->in[c->size] = '\0';
    return 0;
}

/* The end of what is at the front, once it is there; NULL: the connection has ended. */
static char *until(conn *c, size_t from, const char *end)
{
    for (char *at; c->size < sizeof c->in - 1;) {
        at = c->size > from ? strstr(c->in + from, end) : NULL;
        if (at) return at + strlen(end);
        if (more(c) < 0) return NULL;
    }
    return NULL;
}

static int answer(conn *c, unsigned id, bool is_large)
{
    char text[256], piece[LARGE_BYTES / PIECES];
    int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
                        is_large ? LARGE_BYTES : 8);
    if (!is_large) size += snprintf(text + size, sizeof text - (size_t)size, "%08u", id);
    int rc = turns(3);
    if (rc) return rc;
    records[id].has_begun = true;
    rc = zk_stream_write(c->stream, text, (size_t)size);
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (char)('a' + (id + i) % 26);
    for (int i = 0; is_large && i < PIECES && !rc; i++) {
        rc = turns(2);
        if (!rc) rc = zk_stream_write(c->stream, piece, sizeof piece);
    }
    return rc;
}

static int serve_one(conn *c)
{
    unsigned id = 0;
    char *end = until(c, 0, "\r\n\r\n");
    if (!end) return -1;
    const char *slash = strchr(c->in, '/');
    bool is_large = slash[1] == 'l', is_post = c->in[0] == 'P';
    id = (unsigned)strtoul(slash + 3, NULL, 10);
    cr_assert(id < IDS);
    records[id].seen++;
    char *chunked = strstr(c->in, "Transfer-Encoding: chunked");
    size_t head = (size_t)(end - c->in);
    if (is_post && chunked && chunked < end) end = until(c, head - 2, "\r\n0\r\n\r\n");
    while (is_post && !chunked && end && c->size < head + 10)
        if (more(c) < 0) end = NULL;
    if (!end) return -1;
    if (is_post && !chunked) end += 10;
    int rc = answer(c, id, is_large);
    c->size -= (size_t)(end - c->in);
    memmove(c->in, end, c->size + 1);
    return rc;
}

static int conn_run(void *arg)
{
    conn *c = arg;
    while (serve_one(c) == 0)
        continue;
    /* Whoever has killed it wants no clean end. */
    if (zk_cancelled() && dice(4)) zk__stream_reset_on_close(c->stream);
    zk_stream_close(c->stream);
    free(c);
    return 0;
}

static void live(upstream *u)
{
    zk_stream *stream;
    ZK_SCOPE(life) {
        u->life = &life;
        u->lives++;
        while (zk_accept(u->listener, &stream) >= 0) {
            conn *c = calloc(1, sizeof *c);
            cr_assert(c);
            c->stream = stream;
            cr_assert_ok(zk_spawn(&life, conn_run, (void *)c));
        }
        u->life = NULL;
        zk_scope_cancel(&life);
    }
}

static int upstream_run(void *arg)
{
    upstream *u = arg;
    while (!is_over) {
        live(u);
        zk_listener_close(u->listener);
        if (!is_over) (void)turns(4);
        cr_assert_ok(zk_listen(&u->addr, NULL, &u->listener));
    }
    zk_listener_close(u->listener);
    return 0;
}

static void upstream_open(upstream *u)
{
    *u = (upstream){0};
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &u->addr));
    cr_assert_ok(zk_listen(&u->addr, NULL, &u->listener));
    cr_assert_ok(zk_listener_addr(u->listener, &u->addr));
}

/* ---- the clients ---- */

static int fetch(zk_client *client, unsigned id, enum kind kind, zk_fetch **ret)
{
    char url[256], front_text[ZK_ADDR_TEXT_BYTES];
    static const char *const names[] = {"s", "l", "w", "c"};
    zk_addr_format(&front.addr, front_text);
    snprintf(url, sizeof url, "http://%s/%s/%u", front_text, names[kind], id);
    zk_fetch_options options = {.url = url};
    if (kind >= POST_WHOLE) options.method = "POST";
    if (kind == POST_WHOLE) options.body = "0123456789", options.body_size = 10;
    if (kind == POST_STREAMED) options.is_streamed = true, options.body_length = ZK_LENGTH_UNKNOWN;
    int rc = zk_fetch_open(client, &options, ret);
    if (rc < 0 || kind != POST_STREAMED) return rc;
    for (int i = 0; i < 3 && !rc; i++) {
        rc = zk_fetch_write(*ret, "0123456789", 10);
        if (!rc) rc = turns(2);
    }
    if (!rc) rc = zk_fetch_answer(*ret);
    if (rc < 0) zk_fetch_close(*ret);
    return rc;
}

static void check(zk_client *client, unsigned id, enum kind kind)
{
    zk_fetch *f = NULL;
    zk_str body = {"", 0};
    char wanted[16];
    const record *r = &records[id];
    int rc = fetch(client, id, kind, &f), status = 0;
    if (!rc) {
        status = zk_fetch_status(f);
        rc = zk_fetch_body(f, &body);
    }
    snprintf(wanted, sizeof wanted, "%08u", id);
    bool is_whole = kind == GET_LARGE ? body.size == LARGE_BYTES : !strcmp(body.data, wanted);
    if (!rc && status == 200) {
        answered[kind]++;
        cr_assert(is_whole, "%u has another's answer", id);
    } else if (!rc) {
        refused[kind]++;
        cr_assert_eq(status, 502, "%u: status %d", id, status);
    } else {
        cut++;
        cr_assert(kind >= GET_LARGE && r->has_begun, "%u of kind %d: %s", id, kind,
                  zk_strerror(rc));
    }
    bool is_good = !rc && status == 200;
    cr_assert(is_good || r->is_disturbed, "%u of kind %d failed by itself: %d, %d %.*s", id, kind,
              status, rc, (int)body.size, body.data);
    cr_assert(is_good || kind >= POST_WHOLE || r->has_begun, "%u is lost: %.*s", id, (int)body.size,
              body.data);
    if (kind >= POST_WHOLE) cr_assert(r->seen <= 1 && r->seen >= is_good, "%u: %d", id, r->seen);
    if (f) zk_fetch_close(f);
}

static int client_run(void *arg)
{
    size_t me = (size_t)(uintptr_t)arg;
    zk_client *client;
    cr_assert_ok(zk_client_new(NULL, &client));
    while (!is_over && next_id < IDS) {
        current[me] = next_id++;
        check(client, current[me], (enum kind)dice(KINDS));
        done[me]++;
    }
    zk_client_free(client);
    return 0;
}

/* ---- the kills ---- */

/* What a kill disturbs has ended when all clients have come to an end twice since. */
static void let_flow(void)
{
    unsigned before[CLIENTS];
    memcpy(before, done, sizeof before);
    for (int i = 0; i < CLIENTS; i++)
        while (done[i] < before[i] + 2)
            cr_assert_ok(zk_yield());
    cr_assert_ok(turns(8));
}

static void kill_one(upstream *u)
{
    int lives = u->lives;
    cr_assert(u->life && next_id < IDS, "%p %u after %d lives", (void *)u->life, next_id, lives);
    for (int i = 0; i < CLIENTS; i++)
        records[current[i]].is_disturbed = true;
    zk_scope_cancel(u->life);
    while (u->lives == lives) {
        /* Nor is it there for those that come while it is away. */
        for (int i = 0; i < CLIENTS; i++)
            records[current[i]].is_disturbed = true;
        cr_assert_ok(zk_yield());
    }
}

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route proxy_routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

static uint64_t heap_bytes(void)
{
    zk_metrics m;
    cr_assert_ok(zk_metrics_read(&m));
    return m.heap_bytes;
}

ZK_ASYNC_TEST(proxy_restarts, lose_nothing_that_could_be_saved)
{
    char addresses[2][ZK_ADDR_TEXT_BYTES];
    zk_upstream upstreams[3] = {{addresses[0], 1}, {addresses[1], 1}, {0}};
    uint64_t heap_early = 0, heap_late = 0;
    int open_early = 0, open_before = open_count();
    records = calloc(IDS, sizeof *records);
    cr_assert(records);
    for (int i = 0; i < 2; i++) {
        upstream_open(&ups[i]);
        zk_addr_format(&ups[i].addr, addresses[i]);
    }
    zk_proxy_options options = {.upstreams = upstreams, .retry_percent_max = -1};
    cr_assert_ok(zk_proxy_new(&options, &proxy));
    ZK_SCOPE(all) {
        for (uintptr_t i = 0; i < 2; i++)
            cr_assert_ok(zk_spawn(&all, upstream_run, (void *)&ups[i]));
        server_start(&front, &all, &(zk_server){.routes = proxy_routes, .server_name = ""});
        ZK_SCOPE(clients) {
            for (uintptr_t i = 0; i < CLIENTS; i++)
                cr_assert_ok(zk_spawn(&clients, client_run, (void *)i));
            for (int i = 0; i < KILLS; i++) {
                let_flow();
                kill_one(&ups[i % 2]);
                if (i == KILLS / 10) heap_early = heap_bytes(), open_early = open_count();
                heap_late = heap_bytes();
            }
            let_flow();
            cr_expect_leq(open_count(), open_early + 4 * CLIENTS);
            is_over = true;
        }
        for (int i = 0; i < 2; i++)
            zk_scope_cancel(ups[i].life);
        server_stop(&front);
    }
    zk_proxy_free(proxy);
    unsigned repeated = 0;
    for (unsigned id = 0; id < next_id; id++)
        repeated += records[id].seen > 1;
    free(records);
    cr_expect_leq(heap_late, heap_early + heap_early / 4, "%llu bytes, then %llu",
                  (unsigned long long)heap_early, (unsigned long long)heap_late);
    cr_expect_leq(open_count(), open_before);
    for (int i = 0; i < KINDS; i++)
        cr_expect_gt(answered[i], (unsigned)KILLS, "kind %d", i);
    /* And it was not for want of trying. */
    unsigned failed = refused[POST_WHOLE] + refused[POST_STREAMED];
    cr_expect(failed > KILLS / 50 && cut > KILLS / 50 && repeated > KILLS / 50,
              "of %u requests %u failed, %u broke off, %u were repeated", next_id, failed, cut,
              repeated);
}
