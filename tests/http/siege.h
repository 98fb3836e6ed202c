/*
 * A siege: a server of HTTP/2 with an allocator that counts, an offender (`bad`) and another client
 * (`good`), over real sockets. All of them run on one worker, so what keeps it from the good client
 * is seen.
 */
#ifndef ZOKIO_TESTS_HTTP_SIEGE_H
#define ZOKIO_TESTS_HTTP_SIEGE_H

#include "tests/http/h2_frames.h"

static struct {
    size_t live, peak;
} memory;

static inline void *counting_alloc(void *context, size_t size)
{
    (void)context;
    void *ptr = malloc(size);
    if (ptr) memory.live += size;
    if (memory.live > memory.peak) memory.peak = memory.live;
    return ptr;
}

static inline void counting_free(void *context, void *ptr, size_t size)
{
    (void)context;
    memory.live -= size;
    free(ptr);
}

typedef struct siege {
    server s;
    h2_client bad, good;
    uint32_t good_id;
    size_t memory_before;
} siege;

static inline void client_open(h2_client *c, const server *s)
{
    h2_init(c);
    c->w.capacity = 1024;
    c->w.text = malloc(c->w.capacity);
    cr_assert(c->w.text);
    c->w.stream = tcp_open(s);
}

/* Receives until the log has this text, for a second at most. */
static inline void wait_for(h2_client *c, const char *text, const char *why)
{
    for (zk_time began = zk__clock(); !strstr(c->log.text, text);) {
        cr_assert(zk__clock() - began < ZK_SEC(1) * (ZK_TEST_ASAN ? 4 : 1) && !c->w.is_closed,
                  "%s: \"%s\" does not come; what came: %.300s", why, text, c->log.text);
        if (wire_pull(&c->w) == -EAGAIN) settle();
        h2_log_received(c);
    }
}

/* The other client is answered. */
static inline void check_good(siege *x, const char *why)
{
    char text[64];
    x->good.log.size = 0;
    h2_say(&x->good.log, "%s", "");
    snprintf(text, sizeof text, "headers.eh %u GET:/", x->good_id);
    h2_send(&x->good, text);
    snprintf(text, sizeof text, "data %u 5 end hello\n", x->good_id);
    wait_for(&x->good, text, why);
    x->good_id += 2;
}

static inline void siege_begin(siege *x, zk_scope *scope, const zk_server *config)
{
    server_start(&x->s, scope, config);
    client_open(&x->good, &x->s);
    h2_greet(&x->good, "");
    x->good_id = 1;
    check_good(x, "at the beginning");
}

static inline void siege_end(siege *x)
{
    check_good(x, "at the end");
    h2_close(&x->good);
    server_stop(&x->s);
}

static inline void bad_open(siege *x, const char *settings)
{
    client_open(&x->bad, &x->s);
    h2_greet(&x->bad, settings);
    x->memory_before = memory.peak = memory.live;
}

/* What the offender has cost at most. */
static inline void check_memory(siege *x, size_t bytes_max, const char *why)
{
    cr_assert_leq(memory.peak - x->memory_before, bytes_max, "%s: %zu bytes", why,
                  memory.peak - x->memory_before);
}

static inline void bad_close(siege *x)
{
    h2_close(&x->bad);
    settle();
}

static inline int siege_run(zk_fn *fn)
{
    static const zk_allocator counting = {counting_alloc, counting_free, NULL};
    unsetenv("ZOKIO_WORKERS");
    return zk_run(&(zk_config){.workers = 1, .allocator = &counting}, fn, NULL);
}

/* A test with a server and a good client, `x`. */
#define SIEGE_TEST(suite, name, ...)                                                               \
    static void siege_##name(siege *x);                                                            \
    static int main_##name(void *arg)                                                              \
    {                                                                                              \
        (void)arg;                                                                                 \
        ZK_SCOPE(scope) {                                                                          \
            static siege x;                                                                        \
            siege_begin(&x, &scope, &(zk_server){.routes = routes, __VA_ARGS__});                  \
            siege_##name(&x);                                                                      \
            siege_end(&x);                                                                         \
        }                                                                                          \
        return 0;                                                                                  \
    }                                                                                              \
    ZK_TEST(suite, name)                                                                           \
    {                                                                                              \
        cr_assert_ok(siege_run(main_##name));                                                      \
        cr_assert_eq(memory.live, (size_t)0, "%zu bytes are left", memory.live);                   \
    }                                                                                              \
    static void siege_##name(siege *x)

#endif
