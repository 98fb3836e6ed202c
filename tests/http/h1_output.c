/*
 * How responses leave: gathered, flushed, held back by a client that reads slowly, and given up for
 * one that does not read.
 */
#include "tests/http/fixture.h"

#define CHUNKED_HEAD "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static size_t produced; /* bytes that the handler has been rid of */
static int write_result;

/* So many bytes, the k-th of which is k % 251, in pieces of `piece`. */
static int produce(zk_response *res, size_t size, size_t piece)
{
    static unsigned char data[251 * 400];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i % 251);
    int rc = 0;
    for (produced = 0; produced < size && rc >= 0;) {
        size_t n = piece < size - produced ? piece : size - produced;
        rc = zk_response_write(res, data + produced % 251, n);
        if (rc >= 0) produced += n;
    }
    return write_result = rc;
}

static size_t total, piece;

static int of_known_length(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, (int64_t)total);
    return rc < 0 ? rc : produce(res, total, piece);
}

static int in_chunks(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    return rc < 0 ? rc : produce(res, total, piece);
}

static int whole(zk_request *req, zk_response *res)
{
    char *data = zk_arena_alloc(zk_request_arena(req), total);
    cr_assert(data);
    for (size_t i = 0; i < total; i++)
        data[i] = (char)(i % 251);
    return zk_respond(res, 200, NULL, data, total);
}

/* Three events, a second apart. */
static int events(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (int i = 0; i < 3 && rc >= 0; i++) {
        rc = zk_response_write(res, "ev", 2);
        if (rc >= 0) rc = zk_response_write(res, "ent", 3);
        if (rc >= 0) rc = zk_sleep(ZK_SEC(1));
    }
    return rc;
}

static int flushes(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, 4));
    cr_assert_ok(zk_response_flush(res));
    cr_assert_ok(zk_response_write(res, "ab", 2));
    cr_assert_ok(zk_response_flush(res));
    cr_assert_ok(zk_response_flush(res));
    return zk_response_write(res, "cd", 2);
}

static int from_a_child(void *arg) { return zk_response_write(arg, "child", 5); }

/* The child runs on a stack of its own once the parent waits. */
static int with_a_child(zk_request *req, zk_response *res)
{
    (void)req;
    cr_assert_ok(zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN));
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, from_a_child, (void *)res));
        cr_assert_ok(zk_sleep(ZK_SEC(1)));
    }
    return zk_response_write(res, "parent", 6);
}

static const zk_route routes[] = {
    {"GET", "/known", of_known_length, NULL},
    {"GET", "/chunks", in_chunks, NULL},
    {"GET", "/whole", whole, NULL},
    {"GET", "/events", events, NULL},
    {"GET", "/flushes", flushes, NULL},
    {"GET", "/child", with_a_child, NULL},
    {0},
};

/* Where the body begins. */
static size_t head_size(const wire *w)
{
    const char *end = memmem(w->text, w->size, "\r\n\r\n", 4);
    cr_assert(end);
    return (size_t)(end - w->text) + 4;
}

/* Undoes the chunks behind the head, in place. */
static void unchunk(wire *w)
{
    size_t at = head_size(w), to = at;
    for (;;) {
        char *end;
        size_t n = strtoul(w->text + at, &end, 16);
        cr_assert(!memcmp(end, "\r\n", 2));
        at = (size_t)(end - w->text) + 2;
        cr_assert_leq(at + n + 2, w->size);
        memmove(w->text + to, w->text + at, n);
        to += n, at += n;
        cr_assert(!memcmp(w->text + at, "\r\n", 2));
        at += 2;
        if (!n) break;
    }
    cr_assert_eq(at, w->size, "something behind the last chunk");
    w->size = to;
}

static void check_body(const wire *w)
{
    size_t begin = head_size(w);
    cr_assert_eq(w->size - begin, total);
    for (size_t i = 0; i < total; i++) {
        cr_assert(w->text[begin + i] == (char)(i % 251), "byte %zu", i);
    }
}

ZK_HTTP_TEST(h1_output, bodies_of_any_size_arrive_whole, .routes = routes)
{
    static const size_t totals[] = {0, 1, 4095, 4096, 4097, 16383, 16384, 16385, 1000000};
    static const size_t pieces[] = {1, 251, 4096, 4097, 16384, 100000};
    static const char *const gets[] = {GET("/known"), GET("/chunks"), GET("/whole")};
    for (size_t i = 0; i < ROWS(totals) * ROWS(pieces) * ROWS(gets); i++) {
        total = totals[i / ROWS(gets) / ROWS(pieces)];
        piece = pieces[i / ROWS(gets) % ROWS(pieces)];
        const char *get = gets[i % ROWS(gets)];
        if (total / piece > 20000) continue;
        wire c, *w = &c;
        wire_open(w, f);
        wire_send(w, get);
        wire_collect(w);
        cr_assert(!w->is_closed, "%s %zu %zu", get, total, piece);
        if (i % ROWS(gets) == 1) unchunk(w);
        check_body(w);
        wire_close(w);
    }
}

/* Writing is the backpressure. */
ZK_HTTP_TEST(h1_output, a_handler_is_held_back_by_a_client_that_does_not_read, .routes = routes,
             .write_timeout_ms = 1000)
{
    static const char *const gets[] = {GET("/known"), GET("/chunks")};
    total = 100 * 1000 * 1000;
    piece = 50000;
    for (size_t i = 0; i < ROWS(gets); i++) {
        static char part[16384];
        size_t received = 0;
        wire c, *w = &c;
        wire_open(w, f);
        wire_send(w, gets[i]);
        while (received < total) {
            settle();
            cr_assert_leq(produced, received + piece + 64 * 1024);
            if (received < 200000) pass_ms(900); /* slow, but it takes some */
            ssize_t n = zk_stream_try_read(w->stream, part, sizeof part);
            cr_assert_gt(n, 0);
            received += (size_t)n;
        }
        wire_collect(w);
        cr_assert_eq(produced, total);
        cr_assert_rc(write_result, 0);
        wire_close(w);
    }
}

ZK_HTTP_TEST(h1_output, a_client_that_does_not_read_is_given_up, .routes = routes,
             .write_timeout_ms = 1000)
{
    wire c, *w = &c;
    total = 10 * 1000 * 1000;
    piece = 1000;
    wire_open(w, f);
    wire_send(w, GET("/known"));
    pass_ms(900);
    cr_assert_eq(f->shard.conn_count, 1u);
    pass_ms(200);
    cr_assert_rc(write_result, ZK_E_HTTP_TIMEOUT);
    cr_assert_eq(f->shard.conn_count, 0u);
    wire_collect(w);
    cr_assert(w->is_closed);
    wire_close(w);
}

ZK_HTTP_TEST(h1_output, pipelined_responses_wait_for_their_reader_too, .routes = routes,
             .write_timeout_ms = 1000)
{
    wire c, *w = &c;
    total = 12000;
    wire_open(w, f);
    for (int i = 0; i < 5; i++)
        wire_send(w, GET("/whole"));
    settle();
    pass_ms(900);
    wire_collect(w);
    cr_assert_eq(common_fields_strip(w->text, &w->size), 5);
    wire_close(w);
}

ZK_HTTP_TEST(h1_output, pieces_leave_when_the_handler_waits, .routes = routes)
{
    static const char *const wanted[] = {
        CHUNKED_HEAD "2\r\nev\r\n3\r\nent\r\n",
        "2\r\nev\r\n3\r\nent\r\n",
        "2\r\nev\r\n3\r\nent\r\n",
        "0\r\n\r\n",
    };
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/events"));
    for (int i = 0; i < 4; i++) {
        cr_assert_wire(w, wanted[i], false, "%d", i);
        cr_assert_eq(w->sends, i + 1, "gathered: %d", w->sends);
        pass_ms(1001);
    }
    wire_close(w);
}

ZK_HTTP_TEST(h1_output, a_client_that_goes_ends_a_stream_of_events, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/events"));
    wire_take(w);
    wire_close(w);
    cr_assert_eq(f->shard.conn_count, 0u);
}

ZK_HTTP_TEST(h1_output, flush_sends_what_there_is, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/flushes"));
    cr_assert_wire(w, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", false);
    cr_assert_eq(w->sends, 3, "%d sends", w->sends);
    wire_close(w);
}

ZK_HTTP_TEST(h1_output, another_task_may_write, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/child"));
    cr_assert_wire(w, CHUNKED_HEAD "5\r\nchild\r\n", false);
    pass_ms(1001);
    cr_assert_wire(w, "6\r\nparent\r\n0\r\n\r\n", false);
    wire_close(w);
}

/* ---- streams that take one byte at a time ---- */

static ssize_t one_byte_writev(zk_stream *stream, const struct iovec *iov, int iov_count,
                               bool try_only)
{
    (void)iov_count;
    struct iovec one = {iov->iov_base, iov->iov_len ? 1 : 0};
    return wire_writev(stream, &one, 1, try_only);
}

ZK_HTTP_TEST(h1_output, short_writes_change_nothing, .routes = routes)
{
    total = 20000;
    piece = 5000;
    static const char *const gets[] = {GET("/known"), GET("/chunks"), GET("/whole")};
    for (size_t i = 0; i < ROWS(gets); i++) {
        wire c, *w = &c;
        wire_open(w, f);
        w->ops.writev = one_byte_writev;
        wire_send(w, gets[i]);
        wire_collect(w);
        if (i == 1) unchunk(w);
        check_body(w);
        cr_assert_gt(w->sends, 20000);
        wire_close(w);
    }
}
