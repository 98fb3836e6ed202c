/*
 * Serving: configuration, listeners, accepting, and stopping.
 *
 * zk_serve opens a listening socket per worker (the kernel spreads connections over them:
 * SO_REUSEPORT), then runs a shard on each. Stopping begins with a write to `stop_fd`, by a signal
 * handler or zk_serving_drain: the waiting zk_serve tells each shard, which stops accepting, closes
 * what is idle and waits for the rest.
 *
 *   serving --stop--> draining --last connection ends, or drain_timeout: cancelled--> done
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/task.h"
#include "http/h1_conn.h"
#include "http/secure.h"
#include "http/shard.h"
#include "net/network.h"
#include "net/tcp.h"

enum { ACCEPTS_PER_TURN = 32, SERVERS_MAX = 16 };

typedef struct shard_task {
    zk__shard shard;
    zk__msg drain_msg;
    zk_scope *accepting;
    zk__worker *worker;
} shard_task;

struct zk_serving {
    zk_server config;
    zk__route_table *routes;
    zk_tls *tls; /* NULL: none */
    zk__network *announcers;
    int announcer_count;
    zk_addr addr;
    zk__io stop_io;     /* an eventfd */
    zk__worker *worker; /* that zk_serve was called on */
    int shard_count;
    shard_task *shards;
    int answers_due; /* of shards that were told to stop */
    zk_task *answers_joiner;
};

/* ---- signals ---- */

/* The stop_fd + 1 of each server that SIGTERM and SIGINT stop, and SIGHUP has read its files; 0:
 * free. Without TLS there are no files, and SIGHUP is left alone: a terminal that is closed ends
 * the server. */
static atomic_int stop_fds[SERVERS_MAX];
static atomic_int signals_seen;
static int signal_users, reload_users;
static struct sigaction old_term, old_int, old_hup;
static pthread_mutex_t signal_lock = PTHREAD_MUTEX_INITIALIZER;

/* What is added to the eventfd. */
static const uint64_t to_stop = 1, to_reload = (uint64_t)1 << 32;

static void stop_fd_write(int fd, uint64_t what)
{
    if (write(fd, &what, sizeof what) < 0) return; /* full: it is stopping already */
}

static void on_signal(int number)
{
    int saved = errno;
    bool is_reload = number == SIGHUP;
    if (!is_reload && atomic_fetch_add(&signals_seen, 1) > 0) _exit(128 + number);
    for (int i = 0; i < SERVERS_MAX; i++) {
        int fd = atomic_load(&stop_fds[i]) - 1;
        if (fd >= 0) stop_fd_write(fd, is_reload ? to_reload : to_stop);
    }
    errno = saved;
}

static int signals_attach(int fd, bool has_files)
{
    int rc = -EMFILE;
    pthread_mutex_lock(&signal_lock);
    for (int i = 0; i < SERVERS_MAX && rc < 0; i++) {
        if (atomic_load(&stop_fds[i])) continue;
        atomic_store(&stop_fds[i], fd + 1);
        rc = 0;
    }
    if (!rc && signal_users++ == 0) {
        atomic_store(&signals_seen, 0);
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(SIGTERM, &action, &old_term);
        sigaction(SIGINT, &action, &old_int);
    }
    if (!rc && has_files && reload_users++ == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigaction(SIGHUP, &action, &old_hup);
    }
    pthread_mutex_unlock(&signal_lock);
    return rc;
}

static void signals_detach(int fd, bool has_files)
{
    pthread_mutex_lock(&signal_lock);
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (atomic_load(&stop_fds[i]) != fd + 1) continue;
        atomic_store(&stop_fds[i], 0);
        if (--signal_users == 0) {
            sigaction(SIGTERM, &old_term, NULL);
            sigaction(SIGINT, &old_int, NULL);
        }
        break;
    }
    if (has_files && --reload_users == 0) sigaction(SIGHUP, &old_hup, NULL);
    pthread_mutex_unlock(&signal_lock);
}

/* ---- configuration ---- */

#define DEFAULT(field, value)                                                                      \
    if (!config->field) config->field = (value)

int zk__server_complete(zk_server *config)
{
    static const zk_route no_routes[] = {{0}};
    DEFAULT(listen, "127.0.0.1:8080");
    DEFAULT(routes, no_routes);
    DEFAULT(server_name, "zokio");
    DEFAULT(header_bytes_max, 16 * 1024);
    DEFAULT(header_count_max, 100);
    DEFAULT(target_bytes_max, 8 * 1024);
    DEFAULT(body_bytes_max, 1024 * 1024);
    DEFAULT(body_stream_bytes_max, (uint64_t)1 << 30);
    DEFAULT(h2_streams_max, 128);
    DEFAULT(connections_max, 65536);
    DEFAULT(idle_timeout_ms, 75000);
    DEFAULT(header_timeout_ms, 10000);
    DEFAULT(body_timeout_ms, 30000);
    DEFAULT(body_rate_min_bytes_per_s, 256);
    DEFAULT(write_timeout_ms, 30000);
    DEFAULT(half_close_grace_ms, 1000);
    DEFAULT(drain_timeout_ms, 30000);
    if (config->header_bytes_max > 1u << 30 || config->header_count_max > 1u << 20) {
        return zk_fail(ZK_E_CONFIG, "header_bytes_max or header_count_max");
    }
    zk_str name = {config->server_name, strlen(config->server_name)};
    if (name.size > 64 || !zk__h1_is_field_value(name)) return zk_fail(ZK_E_CONFIG, "server_name");
    return 0;
}

static int routes_compile(zk_serving *serving)
{
    serving->routes = zk__route_table_new();
    if (!serving->routes) return -ENOMEM;
    const zk_route *route = serving->config.routes;
    for (int i = 0; route[i].pattern; i++) {
        const char *reason = "no handler";
        int rc = ZK_E_HTTP_ROUTE;
        if (route[i].handler) {
            rc =
                zk__route_table_add(serving->routes, route[i].method, route[i].pattern, i, &reason);
        }
        if (rc == ZK_E_HTTP_ROUTE) zk_fail(rc, "route \"%s\": %s", route[i].pattern, reason);
        if (rc < 0) return rc;
    }
    return 0;
}

static int announcers_parse(zk_serving *serving)
{
    const char *const *from = serving->config.proxy_protocol_from;
    size_t count = 0;
    while (from && from[count])
        count++;
    if (!count) return 0;
    serving->announcers = zk_alloc(count * sizeof *serving->announcers);
    if (!serving->announcers) return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int rc = zk__network_parse(from[i], &serving->announcers[i]);
        if (rc < 0) return zk_fail(rc, "proxy_protocol_from");
    }
    serving->announcer_count = (int)count;
    return 0;
}

/* ---- listening ---- */

/* Whether the port is free. SO_REUSEPORT alone would let two servers share it without a word. */
static int port_probe(const zk_addr *addr)
{
    zk_listener *probe;
    int rc = zk_listen(addr, NULL, &probe);
    if (rc >= 0) zk_listener_close(probe);
    return rc;
}

static int first_listener_open(zk_serving *serving)
{
    zk__shard *first = &serving->shards[0].shard;
    zk_listen_options options = {
        .is_port_shared = serving->config.is_port_shared,
        .is_client_first = true,
    };
    bool is_tcp = serving->addr.sa.sa_family != AF_UNIX;
    if (serving->shard_count > 1 && is_tcp) {
        int rc = options.is_port_shared ? 0 : port_probe(&serving->addr);
        if (rc < 0) return rc;
        options.is_port_shared = true;
    }
    int rc = zk_listen(&serving->addr, &options, &first->listener);
    return rc < 0 ? rc : zk_listener_addr(first->listener, &serving->addr);
}

/* The listeners of the other workers. They are handed over before they are used, so they may be
 * opened here. */
static int more_listeners_open(zk_serving *serving)
{
    zk_listen_options shared = {.is_port_shared = true, .is_client_first = true};
    int rc = 0;
    for (int i = 1; i < serving->shard_count && rc >= 0; i++) {
        zk_listener **listener = &serving->shards[i].shard.listener;
        rc = serving->addr.sa.sa_family == AF_UNIX
                 ? zk__listener_share(serving->shards[0].shard.listener, listener)
                 : zk_listen(&serving->addr, &shared, listener);
    }
    return rc;
}

/* ---- a shard ---- */

typedef struct shard_wait {
    zk__wait wait;
    zk__shard *shard;
} shard_wait;

static void acceptor_cancel(zk__wait *wait)
{
    ((shard_wait *)(void *)wait)->shard->acceptor = NULL;
    zk__wait_end(wait, -ECANCELED);
}

/* Waits until there is room for another connection. */
static int acceptor_wait(zk__shard *shard)
{
    int reason = zk_cancelled();
    if (reason) return reason;
    zk__wait_begin_always();
    shard_wait w = {.wait.cancel = acceptor_cancel, .shard = shard};
    shard->acceptor = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

static void drainer_cancel(zk__wait *wait)
{
    ((shard_wait *)(void *)wait)->shard->drainer = NULL;
    zk__wait_end(wait, -ECANCELED);
}

static int conns_wait(zk__shard *shard)
{
    int rc = zk__wait_begin();
    if (rc < 0 || !shard->conn_count) return rc;
    shard_wait w = {.wait.cancel = drainer_cancel, .shard = shard};
    shard->drainer = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

/* Until there are no connections, and what TLS has taken of their last responses is sent. */
static int drainer_wait(void *arg)
{
    zk__shard *shard = arg;
    int rc = conns_wait(shard);
    return rc < 0 || !shard->tls ? rc : zk__tls_settle();
}

static int accept_all(zk__shard *shard)
{
    for (int accepted = 1;; accepted++) {
        zk_stream *stream = NULL;
        int rc = 0;
        if (shard->conn_count >= shard->conn_max) rc = acceptor_wait(shard);
        if (rc >= 0) rc = zk_accept(shard->listener, &stream);
        if (rc < 0) return rc;
        zk__conn_open(shard, stream);
        /* cancelled: zk_accept will say so */
        if (accepted % ACCEPTS_PER_TURN == 0) (void)zk_yield();
    }
}

/* A shard may end by itself with a message to it under way, so each one is waited for. */
static void on_drain_answer(zk__msg *msg)
{
    shard_task *t = (shard_task *)(void *)((char *)msg - offsetof(shard_task, drain_msg));
    zk_serving *serving = t->shard.serving;
    if (--serving->answers_due == 0 && serving->answers_joiner) {
        zk__ready(zk__worker_self(), serving->answers_joiner);
    }
}

static void on_drain(zk__msg *msg)
{
    shard_task *t = (shard_task *)(void *)((char *)msg - offsetof(shard_task, drain_msg));
    t->shard.is_draining = true;
    if (t->accepting) zk__scope_cancel_as(t->accepting, -ECANCELED);
    msg->run = on_drain_answer;
    zk__post(t->shard.serving->worker, msg);
}

/* Lets connections end by themselves for a while, then ends them. */
static void shard_drain(zk__shard *shard)
{
    shard->is_draining = true;
    for (zk__conn *c = shard->conns, *next; c; c = next) {
        next = c->next;
        zk__conn_drain(c);
    }
    int timeout_ms = shard->config->drain_timeout_ms;
    if (!zk_cancelled()) {
        (void)zk_timeout(timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms), drainer_wait, shard);
    }
    shard->is_aborting = true;
    for (zk__conn *c = shard->conns, *next; c; c = next) {
        next = c->next;
        zk__conn_abort(c);
    }
}

static int shard_run(void *arg)
{
    shard_task *t = arg;
    zk__shard *shard = &t->shard;
    int rc = 0;
    ZK_SCOPE(conns) {
        shard->scope = &conns;
        zk__shard_init(shard);
        ZK_SCOPE(accepting) {
            t->accepting = &accepting;
            if (!shard->is_draining) rc = accept_all(shard);
            t->accepting = NULL;
        }
        zk_listener_close(shard->listener);
        shard->listener = NULL;
        shard_drain(shard);
        zk_scope_cancel(&conns);
        (void)zk_scope_wait(&conns); /* its tasks report to their clients, not here */
        zk__shard_done(shard);
    }
    return rc == -ECANCELED && shard->is_draining ? zk_cancelled() : rc;
}

/* ---- serving ---- */

/* Has to come before the first connection. */
static int tls_open(zk_serving *serving)
{
    static const char *const protocols[] = {ZK__H2 ? "h2" : "http/1.1", "http/1.1", NULL};
    if (!serving->config.tls) return 0;
    zk_tls_server options = *serving->config.tls;
    if (!options.alpn) options.alpn = protocols;
    int rc = zk__tls_server_new(&options, &serving->tls);
    for (int i = 0; i < serving->shard_count && rc >= 0; i++)
        serving->shards[i].shard.tls = serving->tls;
    return rc;
}

static int serving_open(zk_serving *serving)
{
    int rc = zk__server_complete(&serving->config);
    if (rc >= 0) rc = zk_addr_parse(serving->config.listen, &serving->addr);
    if (rc >= 0) rc = routes_compile(serving);
    if (rc >= 0) rc = announcers_parse(serving);
    if (rc < 0) return rc;
    serving->shards = zk_alloc_zeroed((size_t)serving->shard_count * sizeof *serving->shards);
    if (!serving->shards) return -ENOMEM;
    uint32_t share = serving->config.connections_max / (uint32_t)serving->shard_count;
    for (int i = 0; i < serving->shard_count; i++) {
        serving->shards[i].shard.config = &serving->config;
        serving->shards[i].shard.serving = serving;
        serving->shards[i].shard.routes = serving->routes;
        serving->shards[i].shard.announcers = serving->announcers;
        serving->shards[i].shard.announcer_count = serving->announcer_count;
        serving->shards[i].shard.conn_max = share ? share : 1;
        serving->shards[i].drain_msg.run = on_drain;
        serving->shards[i].worker = zk__worker_self()->runtime->workers[i];
    }
    rc = tls_open(serving);
    if (rc < 0) return rc;
    rc = first_listener_open(serving);
    if (rc >= 0) rc = more_listeners_open(serving);
    if (rc < 0) return zk_fail(rc, "listening on %s", serving->config.listen);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return -errno;
    zk__io_init(&serving->stop_io, fd, 0);
    return 0;
}

static void serving_close(zk_serving *serving)
{
    if (serving->shards) {
        for (int i = 0; i < serving->shard_count; i++) {
            zk_listener_close(serving->shards[i].shard.listener);
        }
        zk_free(serving->shards);
    }
    zk__poller *poller = &zk__worker_self()->poller;
    if (serving->stop_io.fd >= 0) poller->ops->forget(poller, &serving->stop_io);
    zk__route_table_free(serving->routes);
    zk__tls_free(serving->tls);
    zk_free(serving->announcers);
}

static int job_reload(void *arg) { return zk_serving_reload(arg); }

static void reload(zk_serving *serving)
{
    const zk_server *config = &serving->config;
    if (!config->tls) return;
    int rc = zk_blocking(job_reload, serving);
    if (rc < 0 && config->on_error) {
        const char *trail = zk_trail();
        config->on_error(config->context, NULL, rc, *trail ? trail : zk_strerror(rc));
    }
}

/* Waits for the word to stop. */
static int stop_wait(zk_serving *serving)
{
    for (;;) {
        uint64_t words;
        zk__op op = {
            .code = ZK__OP_READ,
            .io = &serving->stop_io,
            .buf = &words,
            .size = sizeof words,
        };
        ssize_t n = zk__op_run(&op);
        if (n < 0) return (int)n;
        if (words % to_reload) return 0;
        reload(serving);
    }
}

static int serve_until_stopped(zk_serving *serving)
{
    static const zk_site site = {"http server", __FILE__, __LINE__};
    int rc = 0;
    ZK_SCOPE(shards) {
        for (int i = 0; i < serving->shard_count && !rc; i++) {
            zk_spawn_options options = {.site = &site, .worker = i + 1};
            rc = zk_spawn_with(&shards, &options, shard_run, &serving->shards[i]);
        }
        if (rc < 0) break;
        const zk_server *config = &serving->config;
        if (config->on_listening) config->on_listening(config->context, serving);
        rc = stop_wait(serving);
        if (rc < 0) {
            /* A shard has failed, the scope around is cancelled, or there is no memory. */
            zk_scope_cancel(&shards);
            int failed = zk_scope_wait(&shards);
            if (failed < 0) rc = failed;
            break;
        }
        for (int i = 0; i < serving->shard_count; i++) {
            serving->answers_due++;
            zk__post(serving->shards[i].worker, &serving->shards[i].drain_msg);
        }
        rc = zk_scope_wait(&shards);
        if (serving->answers_due) zk__join(&serving->answers_joiner, NULL);
    }
    return rc;
}

static int serve(void *arg)
{
    const zk_server *server = arg;
    zk_serving serving = {
        .config = *server,
        .stop_io.fd = -1,
        .worker = zk__worker_self(),
        .shard_count = zk_worker_count(),
    };
    int rc = serving_open(&serving);
    if (rc >= 0 && !server->no_signals)
        rc = signals_attach(serving.stop_io.fd, serving.tls != NULL);
    if (rc >= 0) {
        rc = serve_until_stopped(&serving);
        if (!server->no_signals) signals_detach(serving.stop_io.fd, serving.tls != NULL);
    }
    ZK_SHIELD {
        serving_close(&serving);
    }
    return rc;
}

int zk_serve(const zk_server *server)
{
    if (zk__worker_self()) return serve((void *)server);
    return zk_run(server->config, serve, (void *)server);
}

zk_addr zk_serving_addr(const zk_serving *serving) { return serving->addr; }

void zk_serving_drain(zk_serving *serving) { stop_fd_write(serving->stop_io.fd, to_stop); }

int zk_serving_reload(zk_serving *serving)
{
    return serving->tls ? zk__tls_reload(serving->tls) : -EOPNOTSUPP;
}
