/*
 * The stage: responses that are put off to the end of a batch arrive whole, in order, and before
 * anything else that is sent.
 */
#include "tests/http/fixture.h"

enum { BODY_BYTES = 2000 };

static int two_thousand(zk_request *req, zk_response *res)
{
    static char body[BODY_BYTES];
    zk_str digit = zk_request_param(req, "digit");
    memset(body, digit.data[0], sizeof body);
    return zk_respond(res, 200, NULL, body, sizeof body);
}

static int large(zk_request *req, zk_response *res)
{
    static char body[40000];
    (void)req;
    memset(body, 'L', sizeof body);
    return zk_respond(res, 200, NULL, body, sizeof body);
}

static int late(zk_request *req, zk_response *res)
{
    (void)req;
    int rc = zk_sleep(ZK_MS(100));
    return rc < 0 ? rc : zk_respond_text(res, 200, "late");
}

static const zk_route routes[] = {
    {"GET", "/two/{digit}", two_thousand, NULL},
    {"GET", "/large", large, NULL},
    {"GET", "/late", late, NULL},
    {0},
};

/* The bodies in what was received, each run of a letter as "1x2000 ". */
static void bodies(const wire *w, char *out, size_t size)
{
    out[0] = '\0';
    const char *at = w->text;
    while ((at = strstr(at, "\r\n\r\n"))) {
        at += 4;
        size_t run = strspn(at, (char[]){*at, '\0'});
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%cx%zu ", *at, run);
    }
}

static void send_two(wire *w, char digit)
{
    char text[64];
    snprintf(text, sizeof text, "GET /two/%c HTTP/1.1\r\nHost: a\r\n\r\n", digit);
    wire_send(w, text);
    settle();
}

/* What a client does not take at once waits for it, and what comes later waits behind that. */
ZK_HTTP_TEST(stage, what_does_not_fit_is_sent_when_the_client_reads, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    char expected[256] = "";
    for (char digit = '0'; digit < '0' + 12; digit++) { /* of 2 kB each, into a pipe of 16 KiB */
        send_two(w, digit);
        snprintf(expected + strlen(expected), 16, "%cx%d ", digit, BODY_BYTES);
    }
    char got[256];
    wire_collect(w);
    bodies(w, got, sizeof got);
    cr_assert_str_eq(got, expected);
    wire_close(w);
}

/* A client that has ended its side still gets all of it. */
ZK_HTTP_TEST(stage, the_rest_arrives_after_the_client_s_end, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    for (char digit = '0'; digit < '0' + 9; digit++)
        send_two(w, digit);
    cr_assert_ok(zk_stream_shutdown(w->stream));
    settle();
    wire_collect(w);
    char got[256];
    bodies(w, got, sizeof got);
    cr_assert_str_eq(got, "0x2000 1x2000 2x2000 3x2000 4x2000 5x2000 6x2000 7x2000 8x2000 ");
    cr_assert(w->is_closed);
    wire_close(w);
}

/* A large response, and one that is made while its task waits, do not overtake what is staged. */
ZK_HTTP_TEST(stage, what_is_sent_otherwise_comes_behind_what_is_staged, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    for (int i = 0; i < 3; i++) {
        wire_send(w, "GET /two/7 HTTP/1.1\r\nHost: a\r\n\r\n");
        zk_yield(); /* its task runs; the batch is not over */
        wire_send(w, i == 0 ? "GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
                            : "GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
        wire_collect(w);
        pass_ms(110);
        wire_collect(w);
    }
    char got[256];
    bodies(w, got, sizeof got);
    cr_assert_str_eq(got, "7x2000 Lx40000 7x2000 lx1 7x2000 lx1 ");
    wire_close(w);
}

/* A client that is gone when its response is due takes nobody else's with it. */
ZK_HTTP_TEST(stage, a_client_that_is_gone_does_not_hold_up_the_others, .routes = routes)
{
    wire gone, left;
    wire_open(&gone, f);
    wire_open(&left, f);
    wire_send(&gone, "GET /two/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    wire_send(&left, "GET /two/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    gone.write_error = -EPIPE;
    settle();
    wire_collect(&left);
    char got[256];
    bodies(&left, got, sizeof got);
    cr_assert_str_eq(got, "2x2000 ");
    cr_assert_eq(f->shard.conn_count, 1u);
    wire_close(&gone);
    wire_close(&left);
}
