/*
 * The server under attack and under shortage: random bytes, slow and idle crowds, every allocation
 * failing in turn. And that it allocates nothing while all is well.
 */
#include "tests/http/fixture.h"

static int echoes(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = zk_body(req, &body);
    if (rc < 0) return rc;
    zk_str value = zk_request_header(req, "x-echo"), query;
    if (value.data && (rc = zk_response_header_n(res, "X-Echo", value)) < 0) return rc;
    rc = zk_request_query_get(req, "q", &query);
    return rc < 0 ? rc : zk_respond(res, 200, "text/plain", body.data, body.size);
}

static int streams(zk_request *req, zk_response *res)
{
    int rc = echo_by(req, res, 64);
    return rc < 0 ? rc : zk_response_trailer(res, "X-T", "end");
}

static const zk_route routes[] = {
    {"GET", "/", echoes, NULL},
    {"POST", "/", echoes, NULL},
    {"POST", "/s", streams, NULL},
    {"GET", "/{a}/{b...}", echoes, NULL},
    {0},
};

#define ECHO_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n\r\n"

/* The server is well. */
static void check_alive(fixture *f)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/"));
    cr_assert_wire(w, ECHO_EMPTY, false);
    wire_close(w);
}

/* ---- random bytes ---- */

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % bound);
}

static const char *const seeds[] = {
    GET("/"),
    GET("/a/b%20c/../d?q=%41&x"),
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    ("POST /s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
     "4;a=b\r\nabcd\r\n0\r\n\r\n"),
    "POST /s HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Echo: 1\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
};

/* A few requests with some bytes changed, doubled, or lost. */
static size_t mutate(char *text, size_t capacity)
{
    size_t size = 0;
    for (uint32_t n = 1 + random_below(3); n > 0; n--) {
        const char *seed = seeds[random_below(ROWS(seeds))];
        memcpy(text + size, seed, strlen(seed));
        size += strlen(seed);
    }
    for (uint32_t n = random_below(6); n > 0; n--) {
        size_t at = random_below((uint32_t)size), rest = size - at;
        size_t some = 1 + random_below(8);
        switch (random_below(4)) {
        case 0: text[at] = (char)random_below(256); break;
        case 1: text[at] ^= (char)(1 << random_below(8)); break;
        case 2:
            if (some < rest && size + some < capacity) {
                memmove(text + at + some, text + at, rest);
                size += some;
            }
            break;
        default:
            if (some < rest) {
                memmove(text + at, text + at + some, rest - some);
                size -= some;
            }
        }
    }
    return size;
}

/*
 * What has come is a row of responses, the last of which may be cut: nothing but "HTTP/1.1 ddd"
 * begins one.
 */
static void check_responses(const wire *w, uint64_t seed)
{
    if (!w->size) return;
    cr_assert(w->size > 12 && !memcmp(w->text, "HTTP/1.1 ", 9), "seed %llu: %.100s",
              (unsigned long long)seed, w->text);
}

ZK_HTTP_TEST(hostile, random_bytes_do_no_harm, .routes = routes)
{
    static char text[8192];
    uint64_t first = (uint64_t)zk__clock();
    fprintf(stderr, "random_bytes_do_no_harm: first seed %llu\n", (unsigned long long)first);
    for (uint64_t seed = first; seed < first + 3000; seed++) {
        random_state = seed;
        size_t size;
        if (seed % 4) {
            size = mutate(text, sizeof text);
        } else {
            size = random_below(300);
            for (size_t i = 0; i < size; i++)
                text[i] = (char)random_below(256);
        }
        wire c, *w = &c;
        wire_open(w, f);
        wire_send_n(w, text, size, seed % 3 ? 0 : 1 + random_below((uint32_t)size + 1));
        /* A third stays, a third ends its side, a third is gone before the answer. */
        uint32_t how = random_below(3);
        if (how == 1) cr_assert_ok(zk_stream_shutdown(w->stream));
        if (how < 2) wire_collect(w);
        check_responses(w, seed);
        wire_close(w);
        if (how == 1) cr_assert_eq(f->shard.conn_count, 0u, "seed %llu", (unsigned long long)seed);
    }
    pass_ms(100000);
    check_alive(f);
}

ZK_HTTP_TEST(hostile, writes_that_fail_anywhere_do_no_harm, .routes = routes)
{
    static const char post[] =
        "POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    static const int errors[] = {-EPIPE, -ECONNRESET, -ETIMEDOUT, -ENOBUFS};
    for (size_t i = 0; i < ROWS(errors); i++) {
        for (int at = 0; at < 4; at++) {
            wire c, *w = &c;
            wire_open(w, f);
            if (at == 0) w->write_error = errors[i];
            wire_send(w, GET("/") GET("/"));
            settle();
            if (at == 1) w->write_error = errors[i];
            wire_send(w, post);
            settle();
            if (at == 2) w->write_error = errors[i];
            if (!w->is_closed) wire_send(w, "3\r\nabc\r\n");
            settle();
            if (at == 3) w->write_error = errors[i];
            wire_send(w, "0\r\n\r\n");
            settle();
            cr_assert_eq(f->shard.conn_count, 0u, "%d at %d", errors[i], at);
            wire_close(w);
        }
    }
    check_alive(f);
}

/* ---- crowds, over real sockets ---- */

static int connect_and_send(const server *s, const char *text)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0, "socket: %s", strerror(errno));
    cr_assert(!connect(fd, &s->addr.sa, s->addr.size), "connect: %s", strerror(errno));
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    return fd;
}

ZK_ASYNC_TEST(hostile, others_are_served_among_slow_and_idle_crowds)
{
    enum { SLOW = 500, IDLE = 5000, ROUNDS = 20 };
    static const char slow_text[] = "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: 0123456789";
    static int fds[SLOW + IDLE];
    struct rlimit limit;
    cr_assert(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    cr_assert(!setrlimit(RLIMIT_NOFILE, &limit));
    cr_assert_geq(limit.rlim_cur, 2u * (SLOW + IDLE) + 100);
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        for (int i = 0; i < SLOW + IDLE; i++) {
            fds[i] = connect_and_send(&s, i < SLOW ? "G" : GET("/"));
            if (i % 64 == 0) settle();
        }
        for (int round = 1; round < ROUNDS; round++) {
            zk_stream *c = tcp_open(&s);
            tcp_send(c, GET("/"));
            tcp_expect(c, ECHO_EMPTY, false);
            zk_stream_close(c);
            for (int i = 0; i < SLOW; i++) {
                cr_assert_eq(send(fds[i], slow_text + round, 1, MSG_NOSIGNAL), 1);
            }
        }
        /* The idle ones have had their response, and the slow ones are told. */
        char text[512];
        for (int i = SLOW; i < SLOW + IDLE; i++) {
            cr_assert_gt(recv(fds[i], text, sizeof text, MSG_DONTWAIT), 0, "client %d", i);
        }
        for (int i = 0; i < 20; i++)
            settle();
        pass_ms(10100);
        for (int i = 0; i < 20; i++)
            settle();
        for (int i = 0; i < SLOW; i++) {
            ssize_t n = recv(fds[i], text, sizeof text - 1, MSG_DONTWAIT);
            cr_assert_gt(n, 0, "client %d", i);
            cr_assert(!memcmp(text, "HTTP/1.1 408", 12));
        }
        for (int i = 0; i < SLOW + IDLE; i++)
            close(fds[i]);
        server_stop(&s);
    }
}

/* ---- allocations ---- */

/* With the sanitizer each zk_alloc is a malloc, so that it sees them. */
#if !ZK__ASAN && !ZK__TSAN
static atomic_long malloc_calls;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);

void *malloc(size_t size)
{
    atomic_fetch_add(&malloc_calls, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&malloc_calls, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    atomic_fetch_add(&malloc_calls, 1);
    return __libc_realloc(ptr, size);
}

static void exchange_posts(zk_stream *c, int count)
{
    static const char request[] = "POST /?q=%41 HTTP/1.1\r\nHost: a\r\nX-Echo: hi\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    char text[1024];
    for (int i = 0; i < count; i++) {
        cr_assert_ok(zk_stream_write(c, request, sizeof request - 1));
        ssize_t n = zk_stream_read(c, text, sizeof text);
        cr_assert(n > 5 && !memcmp(text, "HTTP/1.1 200 OK", 15) &&
                  !memcmp(text + n - 5, "hello", 5));
    }
}

static int thousand_requests_run(void *unused)
{
    (void)unused;
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        zk_stream *c = tcp_open(&s);
        long before = atomic_load(&malloc_calls);
        cr_assert_gt(before, 0L, "nothing is counted");
        exchange_posts(c, 20);
        before = atomic_load(&malloc_calls);
        exchange_posts(c, 1000);
        cr_assert_eq(atomic_load(&malloc_calls) - before, 0L);
        zk_stream_close(c);
        server_stop(&s);
    }
    return 0;
}

ZK_TEST(hostile, a_thousand_requests_need_no_malloc)
{
    setenv("ZOKIO_LEAKS", "0", 1); /* what looks for leaks passes all on to malloc */
    cr_assert_ok(zk_test_run(1, thousand_requests_run, NULL));
}

#endif

/* Fails the allocation that `left` counts down to, once or from then on. */
static struct shortage {
    long left; /* < 0: no shortage */
    bool is_lasting;
    long live, failed;
} shortage;

static void *scarce_alloc(void *context, size_t size)
{
    (void)context;
    if (shortage.left >= 0 && shortage.left-- == 0) {
        shortage.failed++;
        if (shortage.is_lasting) shortage.left = 0;
        return NULL;
    }
    void *ptr = malloc(size);
    if (ptr) shortage.live++;
    return ptr;
}

static void scarce_free(void *context, void *ptr, size_t size)
{
    (void)context, (void)size;
    shortage.live--;
    free(ptr);
}

static int run_short(void *arg)
{
    (void)arg;
    ZK_SCOPE(scope) {
        fixture f;
        fixture_open(&f, &scope, &(zk_server){.routes = routes});
        for (long at = 0;; at++) {
            shortage.failed = 0;
            for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
                wire c, *w = &c;
                shortage.left = -1;
                zk__spare_done(&f.shard.spare_sessions); /* so that it is needed anew */
                zk_stream *served;
                *w = (wire){.capacity = 1024, .text = malloc(1024)};
                cr_assert_ok(zk_stream_pair(&w->stream, &served));
                shortage.is_lasting = is_lasting;
                shortage.left = at;
                zk__conn_open(&f.shard, served);
                wire_send(w, "GET / HT");
                settle();
                wire_send(w, "TP/1.1\r\nHost: a\r\nX-Echo: hi\r\n\r\n" GET("/a/%41%42?q=%43"));
                settle();
                wire_send(
                    w, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n");
                static const char data[0x1000];
                wire_send_n(w, data, sizeof data, 0);
                wire_send(w, "\r\n0\r\n\r\n");
                wire_send(w, seeds[4]);
                settle();
                shortage.left = -1;
                wire_collect(w);
                check_responses(w, (uint64_t)at);
                wire_close(w);
                cr_assert_eq(f.shard.conn_count, 0u, "allocation %ld", at);
                check_alive(&f);
            }
            if (!shortage.failed) {
                cr_assert_geq(at, 4L, "only %ld allocations are made", at);
                break;
            }
            cr_assert_lt(at, 1000L);
        }
        fixture_close(&f);
    }
    return 0;
}

ZK_TEST(hostile, every_allocation_may_fail)
{
    static const zk_allocator scarce = {.alloc = scarce_alloc, .free = scarce_free};
    shortage.left = -1;
    cr_assert_ok(zk_run(&(zk_config){.workers = 1, .allocator = &scarce}, run_short, NULL));
    cr_assert_eq(shortage.live, 0L, "%ld blocks are left", shortage.live);
}

static void drain_at_once(void *context, zk_serving *serving)
{
    (void)context;
    zk_serving_drain(serving);
}

static int start_short(void *arg)
{
    (void)arg;
    zk_server config = {
        .listen = "127.0.0.1:0",
        .routes = routes,
        .on_listening = drain_at_once,
        .no_signals = true,
    };
    int rc = -ENOMEM;
    for (long at = 0; rc != 0; at++) {
        cr_assert_lt(at, 100L);
        shortage.left = at;
        rc = zk_serve(&config);
        shortage.left = -1;
        cr_assert(rc == 0 || rc == -ENOMEM, "allocation %ld: %s", at, zk_errname(rc));
        cr_assert(at > 0 || rc < 0);
    }
    return 0;
}

ZK_TEST(hostile, a_server_without_memory_does_not_start)
{
    static const zk_allocator scarce = {.alloc = scarce_alloc, .free = scarce_free};
    shortage.left = -1;
    cr_assert_ok(zk_run(&(zk_config){.workers = 1, .allocator = &scarce}, start_short, NULL));
    cr_assert_eq(shortage.live, 0L, "%ld blocks are left", shortage.live);
}
