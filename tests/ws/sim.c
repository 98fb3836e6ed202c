/*
 * Both ends on the simulated network: whatever it does, messages come whole, once and in order, and
 * both ends come to an end.
 */
#include "tests/sim.h"

#include <errno.h>
#include <string.h>

#include <zokio/zokio.h>

enum { CLIENTS = 3, MESSAGES = 12 };

typedef struct world {
    zk_serving *serving;
    char url[128];
    int served, clients_left;
    bool is_loop;
    bool is_parked; /* the clients */
    zk_ws_deflate deflate;
    bool has_deflate;
} world;

static world *w;

/* What the i-th message is: its size and bytes follow from the number. */
static size_t fill(char *buf, int client, int i)
{
    static const size_t sizes[] = {0, 1, 20, 125, 126, 1000, 5000, 9000, 20000, 64, 65536, 3};
    size_t size = sizes[i % 12];
    for (size_t k = 0; k < size; k++)
        buf[k] = (char)('a' + (client * 7 + i * 3 + (int)k) % 26);
    return size;
}

static zk_ws_options options_of(void)
{
    return (zk_ws_options){
        .deflate = w->has_deflate ? &w->deflate : NULL,
        .ping_interval_ms = 200,
        .pong_timeout_ms = 2000,
        .send_queue_bytes_max = 4000,
    };
}

static int on_message(zk_ws *ws, void *context, const zk_ws_message *m)
{
    (void)context;
    return zk_ws_send(ws, m->type, m->data, m->size);
}

static void on_close(zk_ws *ws, void *context, int rc)
{
    (void)ws, (void)context, (void)rc;
    w->served--;
}

static int echo(zk_request *req, zk_response *res)
{
    static const zk_ws_handlers handlers = {on_message, on_close};
    zk_ws *ws;
    zk_ws_message m;
    zk_ws_options options = options_of();
    int rc = zk_ws_accept(req, res, &options, &ws);
    if (rc < 0) return rc;
    w->served++;
    if (!w->is_loop) return zk_ws_park(ws, &handlers, NULL);
    while ((rc = zk_ws_recv(ws, &m)) > 0 && (rc = zk_ws_send(ws, m.type, m.data, m.size)) >= 0)
        continue;
    w->served--;
    return rc;
}

static const zk_route routes[] = {{"GET", "/", echo, NULL}, {0}};

/* Sends while it receives. */
typedef struct talk {
    zk_ws *ws;
    int number;
    int received, rc; /* of one that is parked */
    int ends;         /* calls of on_close */
} talk;

static int say(void *arg)
{
    const talk *t = arg;
    static char buf[CLIENTS][65536];
    int rc = 0;
    for (int i = 0; i < MESSAGES && rc >= 0; i++) {
        size_t size = fill(buf[t->number], t->number, i);
        rc = zk_ws_send(t->ws, i % 2 ? ZK_WS_TEXT : ZK_WS_BINARY, buf[t->number], size);
        if (rc >= 0 && zk_sim_random() % 3 == 0) rc = zk_sleep(ZK_MS(zk_sim_random() % 500));
    }
    return rc;
}

/* returns 0; an error of the network's; -EBADMSG if what came is not what was sent. */
static int converse(talk *t)
{
    static char wanted[65536];
    zk_future f;
    int rc = 0;
    zk_async(&f, say, t);
    for (int i = 0; i < MESSAGES && rc >= 0; i++) {
        zk_ws_message m;
        rc = zk_ws_recv(t->ws, &m);
        if (rc == 0) rc = ZK_E_CLOSED;
        if (rc < 0) break;
        size_t size = fill(wanted, t->number, i);
        bool is_right = m.size == size && !memcmp(m.data, wanted, size) &&
                        m.type == (i % 2 ? ZK_WS_TEXT : ZK_WS_BINARY);
        if (!is_right) rc = zk_fail(-EBADMSG, "message %d of %zu bytes", i, m.size);
    }
    int said = zk_await(&f);
    if (rc >= 0 && said >= 0) rc = zk_ws_close(t->ws, 1000, "done");
    return rc < 0 ? rc : said;
}

/* ---- parked, message for message ---- */

static int say_one(const talk *t, int i)
{
    static char buf[CLIENTS][65536];
    size_t size = fill(buf[t->number], t->number, i);
    return zk_ws_send(t->ws, i % 2 ? ZK_WS_TEXT : ZK_WS_BINARY, buf[t->number], size);
}

static int on_answer(zk_ws *ws, void *context, const zk_ws_message *m)
{
    static char wanted[65536];
    talk *t = context;
    size_t size = fill(wanted, t->number, t->received);
    if (m->size != size || memcmp(m->data, wanted, size)) return -EBADMSG;
    if (++t->received == MESSAGES) return zk_ws_close(ws, 1000, "done");
    return say_one(t, t->received);
}

static void on_end(zk_ws *ws, void *context, int rc)
{
    talk *t = context;
    (void)ws;
    t->ends++;
    t->rc = rc;
}

/* The socket is the scope's, or freed. */
static int converse_parked(talk *t)
{
    static const zk_ws_handlers handlers = {on_answer, on_end};
    bool is_short = zk_sim_random() % 4 == 0;
    int rc = say_one(t, 0);
    ZK_WITHIN(is_short ? ZK_MS(zk_sim_random() % 2000) : ZK_SEC(100000)) {
        ZK_SCOPE(scope) {
            if (rc >= 0) rc = zk_ws_park_in(&scope, t->ws, &handlers, t);
            if (rc < 0) break;
            (void)zk_scope_wait(&scope);
            ZK_SIM_CHECK(t->ends == 1);
            return t->rc;
        }
    }
    zk_ws_free(t->ws);
    return rc;
}

static int client(void *arg)
{
    talk t = {.number = *(const int *)arg};
    zk_ws_options options = options_of();
    int rc = zk_ws_connect(w->url, &options, &t.ws);
    if (rc >= 0 && w->is_parked) {
        rc = converse_parked(&t);
    } else if (rc >= 0) {
        rc = converse(&t);
        zk_ws_free(t.ws);
    }
    if (--w->clients_left == 0) zk_serving_drain(w->serving);
    /* Peers behave, so nothing but the network may have been wrong. */
    bool is_ours = rc == -EBADMSG || rc == ZK_E_WS_PROTOCOL || rc == ZK_E_WS_TEXT ||
                   rc == ZK_E_WS_DEFLATE || rc == ZK_E_WS_STATE || rc == ZK_E_LIMIT;
    return is_ours ? rc : 0;
}

static void on_listening(void *context, zk_serving *serving)
{
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr = zk_serving_addr(serving);
    zk_addr_format(&addr, text);
    snprintf(w->url, sizeof w->url, "ws://%.100s/", text);
    w->serving = serving;
    for (int i = 0; i < CLIENTS; i++) {
        if (zk_spawn(context, client, &i) < 0) zk_serving_drain(serving);
    }
}

static int run(void *arg)
{
    (void)arg;
    world here = {.clients_left = CLIENTS};
    w = &here;
    here.is_loop = zk_sim_random() % 2;
    here.is_parked = zk_sim_random() % 3 == 0;
    here.has_deflate = zk_sim_random() % 2;
    here.deflate.keeps_server_context = zk_sim_random() % 2;
    here.deflate.keeps_client_context = zk_sim_random() % 2;
    int rc = 0;
    ZK_SCOPE(clients) {
        rc = zk_serve(&(zk_server){
            .listen = "127.0.0.1:0",
            .routes = routes,
            .context = &clients,
            .on_listening = on_listening,
            .no_signals = true,
        });
        int told = zk_scope_wait(&clients);
        if (rc >= 0 || rc == -EMFILE) rc = told;
    }
    ZK_SIM_CHECK(rc < 0 || here.served == 0);
    return rc;
}

ZK_SIM_TEST(ws_sim, a_network_that_delays, 40, NULL) { return run(arg); }
ZK_SIM_TEST(ws_sim, a_network_with_faults, 120, &ZK_SIM_FAULTS) { return run(arg); }

/* Without memory things fail, but nothing wrong is said, and nothing is left behind. */
ZK_SIM_TEST(ws_sim, memory_that_runs_out, 150, &(const zk_sim_options){.out_of_memory_chance = 4})
{
    int rc = run(arg);
    return rc == -ENOMEM || rc == -ECANCELED ? 0 : rc;
}
