/*
 * A proxy between real sockets, with upstreams that do as they are told; for the proxy's tests.
 */
#ifndef ZOKIO_TESTS_HTTP_PROXYING_H
#define ZOKIO_TESTS_HTTP_PROXYING_H

#include "tests/http/origin.h"

#include <pthread.h>

#include <zokio/proxy.h>

#include "http/proxy.h"

enum { ORIGINS = 3 };

static struct proxying {
    zk_proxy *proxy;
    server server;
    zk_scope scope;
    int accesses;
    zk_proxy_access access; /* the last; not to be followed */
    char reason[256], line[1024], common[1024], json[1024];
    int turned_out, turned_well;
} px;

static origin origins[ORIGINS];

static inline int proxy_handler(zk_request *req, zk_response *res)
{
    return zk_proxy_run(px.proxy, req, res);
}

static inline int metrics_handler(zk_request *req, zk_response *res)
{
    return zk_proxy_metrics(px.proxy, req, res);
}

static inline void proxy_on_access(void *context, const zk_proxy_access *access)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* any worker may tell */
    (void)context;
    pthread_mutex_lock(&mutex);
    px.accesses++;
    px.access = *access;
    snprintf(px.reason, sizeof px.reason, "%s", access->reason ? access->reason : "");
    zk_proxy_log_line(access, px.line, sizeof px.line);
    zk_proxy_log_common(access, px.common, sizeof px.common);
    const char *full = strchr(px.line, '"'), *common = strchr(px.common, '"'); /* behind the time */
    cr_assert(full && common && !strncmp(full, common, strlen(common)), "%s", px.common);
    zk_proxy_log_json(access, px.json, sizeof px.json);
    pthread_mutex_unlock(&mutex);
}

static inline void proxy_on_health(void *context, const char *upstream, bool is_well,
                                   const char *reason)
{
    (void)context, (void)upstream, (void)reason;
    if (is_well) {
        px.turned_well++;
    } else {
        px.turned_out++;
    }
}

static const zk_route proxy_routes[] = {
    {"GET", "/metrics", metrics_handler, NULL},
    {NULL, "/{path...}", proxy_handler, NULL},
    {0},
};

/* Starts the proxy in front of the origins that are open. options.upstreams: NULL for these. */
static inline void proxy_open(zk_proxy_options options)
{
    static zk_upstream upstreams[ORIGINS + 1];
    memset(&px, 0, sizeof px);
    memset(upstreams, 0, sizeof upstreams);
    for (int i = 0, n = 0; i < ORIGINS; i++)
        if (origins[i].listener) upstreams[n++].address = origins[i].address;
    if (!options.upstreams) options.upstreams = upstreams;
    if (!options.via) options.via = "";
    options.on_access = proxy_on_access;
    options.on_health = proxy_on_health;
    cr_assert_ok(zk_proxy_new(&options, &px.proxy));
    zk__scope_root_init(&px.scope, zk__lane.current->scope, zk__worker_self());
    server_start(&px.server, &px.scope, &(zk_server){.routes = proxy_routes, .server_name = ""});
}

static inline void proxy_close(void)
{
    server_stop(&px.server);
    zk_scope_cancel(&px.scope);
    while (px.scope.live)
        settle();
    zk__scope_unlink(&px.scope);
    zk_proxy_free(px.proxy);
    for (int i = 0; i < ORIGINS; i++) {
        if (!origins[i].listener) continue;
        origin_until(origins[i].open == 0);
        origin_close(&origins[i]);
        origins[i].listener = NULL;
    }
}

/* What a client has received, up to the end or until nothing more comes. */
typedef struct reply {
    char text[64 * 1024];
    size_t size;
    bool is_closed;
    int error;
} reply;

static inline void reply_read(zk_stream *stream, reply *r)
{
    int quiet = 0;
    while (quiet < 200 && !r->is_closed && r->size < sizeof r->text - 1) {
        ssize_t n = zk_stream_try_read(stream, r->text + r->size, sizeof r->text - 1 - r->size);
        if (n == -EAGAIN) {
            /* Enough has come if it looks whole: time is spent only where something is missing. */
            quiet++;
            settle();
            if (quiet > 20 && r->size) break;
            continue;
        }
        if (n <= 0) {
            r->is_closed = true;
            r->error = (int)n;
            break;
        }
        r->size += (size_t)n;
        quiet = 0;
    }
    r->text[r->size] = '\0';
}

/* Takes the Date lines out, for tables. */
static inline const char *reply_text(reply *r)
{
    for (char *at; (at = strstr(r->text, "Date: "));) {
        cr_assert(is_date(at + 6));
        memmove(at, at + 37, strlen(at + 37) + 1);
    }
    return r->text;
}

/* Sends bytes on a connection of their own. returns what came back. */
static inline const char *talk(const char *request)
{
    static reply r;
    memset(&r, 0, sizeof r);
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, request);
    reply_read(stream, &r);
    zk_stream_close(stream);
    return reply_text(&r);
}

/* What an origin was sent, without the fields that name the client. */
static inline const char *log_of(origin *o)
{
    static char text[sizeof o->log];
    size_t n = 0;
    for (const char *at = o->log; *at;) {
        if (!strncmp(at, "X-Forwarded-For: 127.0.0.1\r\n", 28)) {
            at += 28;
        } else if (!strncmp(at, "X-Forwarded-Proto: http\r\n", 25)) {
            at += 25;
        } else if (!strncmp(at, "X-Forwarded-Host: a\r\n", 21)) {
            at += 21;
        } else if (!strncmp(at, "Forwarded: for=127.0.0.1;proto=http;host=\"a\"\r\n", 46)) {
            at += 46;
        } else {
            text[n++] = *at++;
        }
    }
    text[n] = '\0';
    return text;
}

#define expect_text(got, wanted)                                                                   \
    do {                                                                                           \
        const char *zk__got = (got);                                                               \
        cr_expect_str_eq(zk__got, wanted, "---- got\n%s\n---- wanted\n%s\n----", zk__got, wanted); \
    } while (0)

/* A test with one origin that takes these steps: PROXY_TEST(suite, name, (options), steps...). */
#define PROXY_TEST(suite, name, options, ...)                                                      \
    static void proxy_test_##name(void);                                                           \
    ZK_ASYNC_TEST(suite, name)                                                                     \
    {                                                                                              \
        static const step steps[] = {__VA_ARGS__};                                                 \
        origin_open(&origins[0], steps, (int)ROWS(steps));                                         \
        proxy_open((zk_proxy_options)options);                                                     \
        proxy_test_##name();                                                                       \
        proxy_close();                                                                             \
    }                                                                                              \
    static void proxy_test_##name(void)
#define OPTIONS(...)                                                                               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

#endif
