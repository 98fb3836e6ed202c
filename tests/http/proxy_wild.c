/*
 * Clients, a proxy and two upstreams on the simulated kernel, where the upstreams do to each
 * request whatever the seed says: die before, during or behind the head, stall, say garbage, close
 * an idle connection, answer before the body has come, listen without accepting. Some clients leave
 * in the middle.
 *
 * Each upstream keeps a book of what it has seen and what it has done about it, so that what a
 * client gets can be judged: an answer is whole and its own, or it is the error that fits; a POST
 * is seen once at most; a GET is lost only if two upstreams have had it, or one had begun to answer
 * or has let the time pass. At the end nothing is left open.
 */
#include "tests/sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zokio/client.h>
#include <zokio/proxy.h>
#include <zokio/server.h>
#include <zokio/tcp.h>

#include "net/stream.h"

enum { CLIENTS = 3, REQUESTS = 8, IDS = CLIENTS * REQUESTS, LARGE_BYTES = 20 * 1000 };

enum deed {
    NOTHING_YET,
    ANSWER,
    ANSWER_CLOSING,  /* and close a little later, without having said so */
    ANSWER_EARLY,    /* before the body has come */
    ANSWER_AND_MORE, /* with bytes behind that nobody has asked for */
    CLOSE_BEFORE,
    RESET_BEFORE,
    CLOSE_IN_HEAD,
    CLOSE_BEHIND_HEAD,
    CLOSE_IN_BODY,
    STALL,
    STALL_IN_HEAD,
    STALL_IN_BODY,
    GARBAGE,
    GARBAGE_IN_BODY,
    DEEDS,
};

/* Whether the answer that the client gets is whole. */
static bool is_kind(enum deed d) { return d >= ANSWER && d <= ANSWER_AND_MORE; }
/* Whether a whole head has been sent. */
static bool has_head(enum deed d)
{
    return is_kind(d) || d == CLOSE_BEHIND_HEAD || d == CLOSE_IN_BODY || d == STALL_IN_BODY ||
           d == GARBAGE_IN_BODY;
}
static bool is_stall(enum deed d) { return d == STALL || d == STALL_IN_HEAD; }
/* Bytes of an answer were sent, so that nobody may try again. */
static bool has_begun(enum deed d) { return has_head(d) || d == CLOSE_IN_HEAD || d == GARBAGE; }

typedef struct page {
    int seen;       /* how often a head has come */
    enum deed last; /* what was done about the last */
} page;

static page book[IDS];
static int counts[DEEDS], answered, failed, left;
static bool is_kind_only, has_faults, is_over;
static zk_proxy *proxy;
static zk_client *client;
static zk_serving *serving;
static zk_scope *life;

static char byte_at(unsigned id, size_t i) { return (char)('a' + (id + i * i / 11) % 26); }

/* ---- the upstreams ---- */

typedef struct conn {
    zk_stream *stream;
    char in[64 * 1024];
    size_t size;
} conn;

static int say(conn *c, const char *text) { return zk_stream_write(c->stream, text, strlen(text)); }

/* Waits until `end` is there behind `from`. returns where it ends, NULL: the connection has. */
static char *until(conn *c, size_t from, const char *end)
{
    for (;;) {
        c->in[c->size] = '\0';
        char *at = c->size > from ? strstr(c->in + from, end) : NULL;
        if (at) return at + strlen(end);
        if (c->size == sizeof c->in - 1) return NULL;
        ssize_t n = zk_stream_read(c->stream, c->in + c->size, sizeof c->in - 1 - c->size);
        if (n <= 0) return NULL;
        c->size += (size_t)n;
    }
}

static int body_write(conn *c, unsigned id, size_t size, bool is_chunked)
{
    char piece[4096 + 16];
    int rc = 0;
    for (size_t at = 0; at < size && !rc;) {
        size_t n = size - at < 4096 ? size - at : 4096;
        int head = is_chunked ? snprintf(piece, 16, "%zx\r\n", n) : 0;
        for (size_t i = 0; i < n; i++)
            piece[(size_t)head + i] = byte_at(id, at + i);
        rc = zk_stream_write(c->stream, piece, (size_t)head + n);
        if (!rc && is_chunked) rc = say(c, "\r\n");
        at += n;
    }
    return rc;
}

static int answer(conn *c, unsigned id, bool is_large, enum deed deed)
{
    char head[128];
    size_t size = is_large ? LARGE_BYTES : 10;
    bool is_chunked = deed == GARBAGE_IN_BODY || zk_sim_random() % 2;
    if (is_chunked) {
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    } else {
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    }
    if (deed == CLOSE_IN_HEAD || deed == STALL_IN_HEAD) head[20] = '\0';
    int rc = say(c, head);
    if (rc || deed == CLOSE_IN_HEAD || deed == STALL_IN_HEAD || deed == CLOSE_BEHIND_HEAD)
        return rc;
    bool is_half = deed == CLOSE_IN_BODY || deed == STALL_IN_BODY || deed == GARBAGE_IN_BODY;
    rc = body_write(c, id, is_half ? size / 2 : size, is_chunked);
    if (!rc && deed == GARBAGE_IN_BODY) rc = say(c, "xyz\r\n");
    if (!rc && is_chunked && !is_half) rc = say(c, "0\r\n\r\n");
    if (!rc && deed == ANSWER_AND_MORE)
        rc = say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    return rc;
}

/* returns whether the connection goes on. */
static bool serve_one(conn *c)
{
    char *end = until(c, 0, "\r\n\r\n");
    if (!end) return false;
    bool is_post = c->in[0] == 'P', is_large = strchr(c->in, '/')[1] == 'l';
    unsigned id = (unsigned)strtoul(strchr(c->in, '/') + 3, NULL, 10);
    if (id >= IDS) return false;
    uint64_t random = zk_sim_random();
    enum deed deed = (enum deed)(1 + random % (DEEDS - 1));
    if (is_kind_only || random >> 32 & 1) deed = ANSWER;
    book[id].seen++;
    book[id].last = deed;
    counts[deed]++;
    size_t head = (size_t)(end - c->in);
    bool is_chunked = strstr(c->in, "chunked") != NULL;
    /* POSTs have 10 bytes, or chunks. */
    if (is_post && deed != ANSWER_EARLY && deed != RESET_BEFORE) {
        if (is_chunked) {
            end = until(c, head - 2, "\r\n0\r\n\r\n");
        } else {
            end = until(c, head + 9, "");
            if (end) end = c->in + head + 10;
        }
        if (!end) return false;
    }
    if (random >> 33 & 1) (void)zk_sleep((zk_time)(random >> 54) * 10000);
    if (deed == CLOSE_BEFORE) return false;
    if (deed == RESET_BEFORE) {
        zk__stream_reset_on_close(c->stream);
        return false;
    }
    if (deed == GARBAGE) {
        (void)say(c, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
        return false;
    }
    int rc = deed == STALL ? 0 : answer(c, id, is_large, deed);
    if (deed == STALL || deed == STALL_IN_HEAD || deed == STALL_IN_BODY) {
        char byte;
        while (zk_stream_read(c->stream, &byte, 1) > 0)
            continue;
        return false;
    }
    if (deed == ANSWER_CLOSING) (void)zk_sleep((zk_time)(random >> 50) * 1000);
    if (rc || deed != ANSWER) return false;
    c->size -= (size_t)(end - c->in);
    memmove(c->in, end, c->size);
    return true;
}

static int conn_run(void *arg)
{
    conn *c = arg;
    while (serve_one(c))
        continue;
    zk_stream_close(c->stream);
    zk_free(c);
    return 0;
}

static int upstream_run(void *arg)
{
    zk_addr addr;
    zk_listener *listener;
    zk_stream *stream;
    int rc = zk_addr_parse(arg, &addr);
    do {
        if (!rc) rc = zk_listen(&addr, NULL, &listener);
    } while (rc == -EMFILE && !(rc = zk_sleep(ZK_MS(1))));
    if (rc < 0) return rc;
    ZK_SCOPE(conns) {
        for (;;) {
            /* Now and then it listens, and accepts nobody for a while. */
            if (!is_kind_only && zk_sim_random() % 16 == 0) (void)zk_sleep(ZK_MS(500));
            rc = zk_accept(listener, &stream);
            if (rc == -ECANCELED) break;
            conn *c = rc < 0 ? NULL : zk_alloc(sizeof *c);
            if (!c && rc >= 0) zk_stream_close(stream);
            if (!c) continue;
            c->stream = stream;
            c->size = 0;
            if (zk_spawn(&conns, conn_run, (void *)c) < 0) {
                zk_stream_close(stream);
                zk_free(c);
            }
        }
        zk_listener_close(listener);
        zk_scope_cancel(&conns);
    }
    return 0;
}

/* ---- the clients ---- */

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route proxy_routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

typedef struct outcome {
    int rc, status;
    bool is_right; /* the body is the request's own, and whole */
} outcome;

static int fetch(unsigned id, bool is_post, bool is_streamed, bool is_large, zk_fetch **ret)
{
    char url[64], piece[1000];
    snprintf(url, sizeof url, "http://127.0.0.1:80/%c/%u", is_large ? 'l' : 's', id);
    zk_fetch_options options = {.url = url};
    if (is_post) options.method = "POST", options.body = "0123456789", options.body_size = 10;
    if (is_post && is_streamed) {
        options.body_length = ZK_LENGTH_UNKNOWN;
        options.is_streamed = true;
        options.body = NULL;
        options.body_size = 0;
    }
    int rc = zk_fetch_open(client, &options, ret);
    if (rc < 0 || !is_post || !is_streamed) return rc;
    memset(piece, 'b', sizeof piece);
    for (int i = (int)(zk_sim_random() % 30); i >= 0 && !rc; i--)
        rc = zk_fetch_write(*ret, piece, sizeof piece);
    /* Who cannot send the rest may still be told why. */
    int answer_rc = rc == -ECANCELED || rc == -ETIMEDOUT ? rc : zk_fetch_answer(*ret);
    if (answer_rc < 0) zk_fetch_close(*ret);
    return answer_rc;
}

static outcome ask(unsigned id, bool is_post, bool is_streamed, bool is_large)
{
    outcome o = {0};
    zk_fetch *f;
    zk_str body;
    o.rc = fetch(id, is_post, is_streamed, is_large, &f);
    if (o.rc < 0) return o;
    o.status = zk_fetch_status(f);
    o.rc = zk_fetch_body(f, &body);
    if (!o.rc) {
        o.is_right = body.size == (size_t)(is_large ? LARGE_BYTES : 10);
        for (size_t i = 0; o.is_right && i < body.size; i++)
            o.is_right = body.data[i] == byte_at(id, i);
    }
    zk_fetch_close(f);
    return o;
}

/* What no fault excuses, and what has to be right where the kernel is sound. */
static int judge(unsigned id, bool is_post, outcome o)
{
    const page *p = &book[id];
    if (is_post) ZK_SIM_CHECK(p->seen <= 1);
    /* By each on a connection of the pool, which dies, and on a new one. */
    ZK_SIM_CHECK(p->seen <= 4 || has_faults);
    if (!o.rc && o.status == 200) {
        ZK_SIM_CHECK(o.is_right);
        ZK_SIM_CHECK(is_kind(p->last));
        answered++;
        return 0;
    }
    failed++;
    if (has_faults) return 0;
    /* A break in the body is no answer with an error: it breaks off. */
    if (o.rc) {
        ZK_SIM_CHECK(has_head(p->last) && (!is_kind(p->last) || is_post));
        return 0;
    }
    ZK_SIM_CHECK(o.status == 502 || o.status == 504);
    ZK_SIM_CHECK((o.status == 504) == is_stall(p->last));
    ZK_SIM_CHECK(!is_kind(p->last) || p->last == ANSWER_EARLY || !p->seen);
    if (!is_post) ZK_SIM_CHECK(p->seen >= 2 || has_begun(p->last) || is_stall(p->last));
    return 0;
}

static int client_run(void *arg)
{
    unsigned first = (unsigned)(uintptr_t)arg * REQUESTS;
    for (unsigned id = first; id < first + REQUESTS; id++) {
        uint64_t random = zk_sim_random();
        bool is_post = random & 1, is_streamed = random & 2, is_large = random & 4;
        bool leaves = !is_kind_only && (random >> 8) % 5 == 0;
        outcome o = {0};
        ZK_WITHIN(leaves ? (zk_time)(random >> 40) : ZK_SEC(60))
            o = ask(id, is_post, is_streamed, is_large);
        if (leaves && o.rc == -ETIMEDOUT) {
            left++;
            if (is_post) ZK_SIM_CHECK(book[id].seen <= 1);
            continue;
        }
        int rc = judge(id, is_post, o);
        if (rc < 0) {
            return zk_fail(rc, "%s %u%s: rc %s, status %d; seen %d times, the last deed is %d",
                           is_post ? "POST" : "GET", id, is_streamed ? " in chunks" : "",
                           o.rc ? zk_errname(o.rc) : "0", o.status, book[id].seen, book[id].last);
        }
        if (random >> 50 & 1) (void)zk_sleep((zk_time)(random >> 52) * 10000);
    }
    return 0;
}

static void on_listening(void *context, zk_serving *s)
{
    (void)context;
    serving = s;
}

static int serve(void *arg)
{
    (void)arg;
    int rc = 0;
    do {
        rc = zk_serve(&(zk_server){.listen = "127.0.0.1:80",
                                   .routes = proxy_routes,
                                   .on_listening = on_listening,
                                   .no_signals = true,
                                   .drain_timeout_ms = 50});
        serving = NULL;
    } while (rc == -EMFILE && !is_over && !(rc = zk_sleep(ZK_MS(1))));
    return rc == -ECANCELED ? 0 : rc;
}

static int run(void *arg)
{
    (void)arg;
    static char *const addresses[] = {"127.0.0.1:9001", "127.0.0.1:9002"};
    static const zk_upstream upstreams[] = {{"127.0.0.1:9001", 1}, {"127.0.0.1:9002", 2}, {0}};
    memset(book, 0, sizeof book);
    is_over = false;
    zk_client_options limits = {.answer_timeout_ms = 3000, .body_timeout_ms = 3000};
    /* TLS is not used; reading whom the system trusts would take most of the time. */
    static const zk_tls_client blind = {.insecure_skip_verification = true};
    zk_client_options patient = {
        .answer_timeout_ms = 30000, .body_timeout_ms = 30000, .tls = &blind};
    zk_proxy_options options = {
        .upstreams = upstreams,
        .client = &limits,
        .failures_max = -1,
        .retry_percent_max = -1,
        .balance = (zk_balance)(zk_sim_random() % 3),
    };
    int rc = zk_proxy_new(&options, &proxy);
    if (rc < 0) return rc;
    rc = zk_client_new(&patient, &client);
    if (rc < 0) {
        zk_proxy_free(proxy);
        return rc;
    }
    ZK_SCOPE(servers) {
        life = &servers;
        for (int i = 0; i < 2 && !rc; i++)
            rc = zk_spawn(&servers, upstream_run, (void *)addresses[i]);
        if (!rc) rc = zk_spawn(&servers, serve, NULL);
        (void)zk_sleep(ZK_MS(50));
        ZK_SCOPE(clients) {
            for (uintptr_t i = 0; i < CLIENTS && !rc; i++)
                rc = zk_spawn(&clients, client_run, (void *)i);
            if (!rc) rc = zk_scope_wait(&clients);
        }
        is_over = true;
        if (serving) zk_serving_drain(serving);
        zk_scope_cancel(&servers);
    }
    zk_client_free(client);
    zk_proxy_free(proxy);
    return rc;
}

static void reset_counts(void)
{
    memset(counts, 0, sizeof counts);
    answered = failed = left = 0;
}

/* Whatever upstreams do, the client is told what is so; all of it has happened. */
ZK_TEST(proxy_wild, tells_what_wild_upstreams_do)
{
    reset_counts();
    zk_test_seeds("http/proxy_wild", 80, NULL, run, NULL);
    if (getenv("ZOKIO_SEED")) return;
    for (int i = 1; i < DEEDS; i++)
        cr_expect(counts[i] > 10, "deed %d: %d times", i, counts[i]);
    cr_expect(answered > 500 && failed > 150 && left > 50, "%d, %d, %d", answered, failed, left);
}

/* On a kernel with faults of its own as well, no answer is wrong and no POST is seen twice. */
ZK_TEST(proxy_wild, gives_no_wrong_answers_on_a_bad_day)
{
    has_faults = true;
    zk_test_seeds("http/proxy_wild", 80, &ZK_SIM_FAULTS, run, NULL);
    has_faults = false;
}

/* Pieces of any size are no faults. */
ZK_TEST(proxy_wild, tells_it_in_small_pieces_too)
{
    static const zk_sim_options pieces = {.short_read_chance = 300, .short_write_chance = 300};
    zk_test_seeds("http/proxy_wild", 30, &pieces, run, NULL);
}

/* Upstreams that behave lose nothing. */
ZK_TEST(proxy_wild, loses_nothing_among_the_kind)
{
    is_kind_only = true;
    reset_counts();
    zk_test_seeds("http/proxy_wild", 20, NULL, run, NULL);
    is_kind_only = false;
    cr_expect_eq(failed + left, 0);
}
