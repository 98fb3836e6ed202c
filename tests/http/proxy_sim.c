/*
 * Clients, a proxy and two upstreams on the simulated kernel, with faults by seed.
 *
 * Whatever breaks: an answer belongs to its request and is whole, or the client is told that it is
 * not; a POST is done at most once, and exactly once if it was answered; and at the end nothing is
 * left open.
 */
#include "tests/sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zokio/client.h>
#include <zokio/proxy.h>
#include <zokio/server.h>

enum { CLIENTS = 3, REQUESTS = 6, IDS = CLIENTS * REQUESTS, LARGE_BYTES = 60 * 1000 };

static int done[IDS]; /* how often each POST was done */
static int answered, failed;
static zk_proxy *proxy;
static zk_client *client;
static zk_serving *serving[3];
static bool is_over, restarts;

static char byte_at(unsigned id, size_t i) { return (char)('a' + (id + i * i / 11) % 26); }

/* ---- the upstreams ---- */

static int id_of(zk_request *req, uint64_t *ret) { return zk_request_param_u64(req, "id", ret); }

static int give_small(zk_request *req, zk_response *res)
{
    uint64_t id;
    char text[32];
    int rc = id_of(req, &id);
    if (rc < 0) return rc;
    snprintf(text, sizeof text, "id %u", (unsigned)id);
    return zk_respond_text(res, 200, text);
}

static int give_large(zk_request *req, zk_response *res)
{
    uint64_t id;
    int rc = id_of(req, &id);
    if (rc < 0) return rc;
    bool is_known = zk_sim_random() % 2;
    rc = zk_response_begin(res, 200, NULL, is_known ? LARGE_BYTES : ZK_LENGTH_UNKNOWN);
    char piece[5000];
    for (size_t at = 0; at < LARGE_BYTES && !rc; at += sizeof piece) {
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = byte_at((unsigned)id, at + i);
        rc = zk_response_write(res, piece, sizeof piece);
    }
    return rc;
}

/* Takes a body, and says how many of its bytes were right. */
static int take(zk_request *req, zk_response *res)
{
    uint64_t id;
    int rc = id_of(req, &id);
    if (rc < 0) return rc;
    size_t right = 0, at = 0;
    char piece[3000];
    ssize_t n;
    while ((n = zk_body_read(req, piece, sizeof piece)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            right += piece[i] == byte_at((unsigned)id, at++);
    }
    if (n < 0) return (int)n;
    if (id < IDS) done[id]++;
    char text[64];
    snprintf(text, sizeof text, "id %u took %zu of %zu", (unsigned)id, right, at);
    return zk_respond_text(res, 200, text);
}

static const zk_route upstream_routes[] = {
    {"GET", "/small/{id}", give_small, NULL},
    {"GET", "/large/{id}", give_large, NULL},
    {"POST", "/take/{id}", take, NULL},
    {0},
};

/* ---- the proxy ---- */

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route proxy_routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

static void on_listening(void *context, zk_serving *s) { serving[(uintptr_t)context] = s; }

/* Serves until all is over; the upstreams come back after each stop. */
static int serve(void *arg)
{
    size_t which = (size_t)(uintptr_t)arg;
    static const char *const addresses[] = {"127.0.0.1:80", "127.0.0.1:9001", "127.0.0.1:9002"};
    while (!is_over) {
        zk_server server = {
            .listen = addresses[which],
            .routes = which ? upstream_routes : proxy_routes,
            .on_listening = on_listening,
            .context = (void *)(uintptr_t)which,
            .no_signals = true,
            .drain_timeout_ms = 50,
        };
        int rc = zk_serve(&server);
        serving[which] = NULL;
        if (rc == -ECANCELED) return 0;
        if (rc < 0) (void)zk_sleep(ZK_MS(5)); /* out of files, for now */
    }
    return 0;
}

/* ---- the clients ---- */

static int get(unsigned id, bool is_large)
{
    char url[64], wanted[32];
    zk_fetch *f;
    zk_str body;
    snprintf(url, sizeof url, "http://127.0.0.1:80/%s/%u", is_large ? "large" : "small", id);
    int rc = zk_fetch_open(client, &(zk_fetch_options){.url = url}, &f);
    if (rc < 0) return rc;
    int status = zk_fetch_status(f);
    rc = zk_fetch_body(f, &body);
    if (rc < 0 || status != 200) {
        zk_fetch_close(f);
        return rc < 0 ? rc : -EPROTO;
    }
    bool is_right;
    if (is_large) {
        is_right = body.size == LARGE_BYTES;
        for (size_t i = 0; is_right && i < body.size; i++)
            is_right = body.data[i] == byte_at(id, i);
    } else {
        snprintf(wanted, sizeof wanted, "id %u", id);
        is_right = !strcmp(body.data, wanted);
    }
    zk_fetch_close(f);
    return is_right ? 1 : -EBADMSG;
}

static int post(unsigned id, bool is_streamed, size_t size)
{
    char url[64], wanted[64];
    char bytes[2000]; /* of a body sent whole */
    zk_fetch *f;
    zk_str body = {"", 0};
    for (size_t i = 0; i < size && i < sizeof bytes; i++)
        bytes[i] = byte_at(id, i);
    snprintf(url, sizeof url, "http://127.0.0.1:80/take/%u", id);
    zk_fetch_options options = {.url = url, .method = "POST", .body = bytes, .body_size = size};
    if (is_streamed) options.is_streamed = true, options.body_length = ZK_LENGTH_UNKNOWN;
    int rc = zk_fetch_open(client, &options, &f);
    if (rc < 0) return rc;
    for (size_t at = 0; is_streamed && at < size && !rc; at += 1000) {
        char piece[1000];
        size_t n = size - at < sizeof piece ? size - at : sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = byte_at(id, at + i);
        rc = zk_fetch_write(f, piece, n);
    }
    if (is_streamed) rc = zk_fetch_answer(f);
    int status = zk_fetch_status(f);
    if (!rc) rc = zk_fetch_body(f, &body);
    snprintf(wanted, sizeof wanted, "id %u took %zu of %zu", id, size, size);
    bool is_right = !rc && !strcmp(body.data, wanted);
    zk_fetch_close(f);
    if (rc < 0) return rc;
    if (status != 200) return -EPROTO;
    return is_right && done[id] == 1 ? 1 : -EBADMSG;
}

static int ask(void *arg)
{
    unsigned first = (unsigned)(uintptr_t)arg * REQUESTS;
    for (unsigned id = first; id < first + REQUESTS; id++) {
        uint64_t random = zk_sim_random();
        int rc = 0;
        ZK_WITHIN(ZK_SEC(20)) {
            switch (random % 4) {
            case 0: rc = get(id, false); break;
            case 1: rc = get(id, true); break;
            case 2: rc = post(id, false, (random >> 8) % 2000); break;
            default: rc = post(id, true, (random >> 8) % 30000); break;
            }
        }
        if (rc == -EBADMSG) return zk_fail(rc, "request %u has a wrong answer", id);
        if (rc > 0) {
            answered++;
        } else {
            failed++;
        }
        if (random >> 40 & 1) (void)zk_sleep((zk_time)(random >> 48) * 10000);
        /* An upstream restarts now and then. */
        zk_serving *one = serving[1 + (random >> 41 & 1)];
        if (restarts && one && (random >> 42) % 8 == 0) zk_serving_drain(one);
    }
    return 0;
}

static int run(void *arg)
{
    /* Each side of the proxy speaks HTTP/1.1 or HTTP/2. */
    uint64_t versions = ZK__H2 ? zk_sim_random() : 0;
    zk_upstream upstreams[] = {{versions & 1 ? "h2c://127.0.0.1:9001" : "127.0.0.1:9001", 1},
                               {versions & 2 ? "h2c://127.0.0.1:9002" : "127.0.0.1:9002", 2},
                               {0}};
    (void)arg;
    memset(done, 0, sizeof done);
    memset(serving, 0, sizeof serving);
    answered = failed = 0;
    is_over = false;
    /* TLS is not used; reading whom the system trusts would take most of the time. */
    static const zk_tls_client blind = {.insecure_skip_verification = true};
    zk_client_options limits = {.answer_timeout_ms = 3000, .body_timeout_ms = 3000, .tls = &blind};
    limits.h2c = versions & 4;
    zk_proxy_options options = {.upstreams = upstreams, .client = &limits, .ejection_ms = 100};
    options.balance = (zk_balance)(zk_sim_random() % 4);
    int rc = zk_proxy_new(&options, &proxy);
    if (rc < 0) return rc;
    rc = zk_client_new(&limits, &client);
    if (rc < 0) {
        zk_proxy_free(proxy);
        return rc;
    }
    ZK_SCOPE(servers) {
        for (uintptr_t i = 0; i < 3 && !rc; i++)
            rc = zk_spawn(&servers, serve, (void *)i);
        (void)zk_sleep(ZK_MS(50));
        ZK_SCOPE(clients) {
            for (uintptr_t i = 0; i < CLIENTS && !rc; i++)
                rc = zk_spawn(&clients, ask, (void *)i);
            if (!rc) rc = zk_scope_wait(&clients);
        }
        is_over = true;
        for (int i = 0; i < 3; i++)
            if (serving[i]) zk_serving_drain(serving[i]);
        zk_scope_cancel(&servers);
    }
    zk_client_free(client);
    zk_proxy_free(proxy);
    if (rc < 0) return rc;
    for (int i = 0; i < IDS; i++)
        ZK_SIM_CHECK(done[i] <= 1);
    return 0;
}

static int run_quiet(void *arg)
{
    restarts = false;
    int rc = run(arg);
    restarts = true;
    if (rc < 0) return rc;
    ZK_SIM_CHECK(failed == 0);
    ZK_SIM_CHECK(answered == IDS);
    return 0;
}

/* Starting may fail, too, and then has to leave nothing behind. */
static int run_poor(void *arg)
{
    int rc = run(arg);
    return rc == -ENOMEM ? 0 : rc;
}

/* Without faults every request is answered, in whatever order things happen. */
ZK_TEST(proxy_sim, answers_all_without_faults)
{
    zk_test_seeds("http/proxy_sim", 50, NULL, run_quiet, NULL);
}

/* With faults every answer is right. */
ZK_TEST(proxy_sim, answers_are_right_with_faults)
{
    restarts = true;
    zk_test_seeds("http/proxy_sim", 50, &ZK_SIM_FAULTS, run, NULL);
}

/* Upstreams that restart cost requests that may have been done, and no others. */
ZK_TEST(proxy_sim, answers_are_right_when_upstreams_restart)
{
    restarts = true;
    zk_test_seeds("http/proxy_sim", 50, NULL, run, NULL);
    cr_expect(answered > failed, "%d of %d", answered, IDS);
}

/* When memory runs out, too. */
ZK_TEST(proxy_sim, answers_are_right_without_memory)
{
    static const zk_sim_options poor = {.out_of_memory_chance = 3, .short_read_chance = 100};
    restarts = true;
    zk_test_seeds("http/proxy_sim", 80, &poor, run_poor, NULL);
}
