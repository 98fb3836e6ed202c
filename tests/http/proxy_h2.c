/*
 * Clients of HTTP/2 at the proxy: what they ask is put into HTTP/1.1 for the upstream.
 */
#include "tests/http/h2_frames.h"

#include "tests/http/origin.h"

#include <zokio/proxy.h>

static origin o;
static zk_proxy *proxy;

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

static void open_both(const step *steps, int count)
{
    static zk_upstream upstreams[2];
    origin_open(&o, steps, count);
    upstreams[0].address = o.address;
    cr_assert_ok(zk_proxy_new(&(zk_proxy_options){.upstreams = upstreams}, &proxy));
}

static void close_both(void)
{
    zk_proxy_free(proxy);
    origin_until(o.open == 0);
    origin_close(&o);
}

/* A request becomes one of HTTP/1.1: cookies in one field, a body of unknown length in chunks. */
ZK_HTTP_TEST(proxy_h2, requests_are_translated, .routes = routes)
{
    h2_client c;
    open_both(NULL, 0);
    h2_open(&c, f);
    h2_send(&c, "headers.eh 1 GET:/x?y cookie=a=b cookie=c=d x-one=1");
    origin_until(o.step_at == 0 && o.log_size > 0);
    for (int i = 0; i < 20; i++)
        settle();
    cr_assert_h2(&c, "headers 1 200 content-length=2 via=1.1 zokio\ndata 1 2 end ok\n");
    cr_expect(strstr(o.log, "GET /x?y HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nx-one: 1\r\n"),
              "%s", o.log);
    o.log_size = 0;
    h2_send(&c, "headers.h 3 :method=POST :scheme=http :authority=a :path=/; data 3 'he'; "
                "data.e 3 'llo'");
    origin_until(strstr(o.log, "\r\n0\r\n\r\n"));
    for (int i = 0; i < 20; i++)
        settle();
    cr_assert_h2(&c, "headers 3 200 content-length=2 via=1.1 zokio\ndata 3 2 end ok\n");
    cr_expect(strstr(o.log, "Transfer-Encoding: chunked\r\n"), "%s", o.log);
    h2_close(&c);
    close_both();
}

/* An extended CONNECT becomes an Upgrade with a key of the proxy's own, and a tunnel. */
ZK_HTTP_TEST(proxy_h2, websockets_are_carried, .routes = routes)
{
    static const step steps[] = {
        {.answer =
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: x\r\nX-A: b\r\n\r\nhi"},
        {.answer = "yo"},
    };
    h2_client c;
    open_both(steps, 2);
    h2_open(&c, f);
    h2_send(&c,
            "headers.h 1 :method=CONNECT :protocol=websocket :scheme=http :authority=a :path=/c "
            "sec-websocket-version=13");
    origin_until(o.step_at == 1);
    for (int i = 0; i < 20; i++)
        settle();
    cr_assert_h2(&c, "headers 1 200 x-a=b via=1.1 zokio\ndata 1 2 hi\n");
    h2_send(&c, "data 1 'there' hex:0d0a0d0a");
    origin_until(o.step_at == 2);
    for (int i = 0; i < 20; i++)
        settle();
    cr_assert_h2(&c, "data 1 2 yo\n");
    cr_expect(!strncmp(o.log, "GET /c HTTP/1.1\r\nHost: a\r\nsec-websocket-version: 13\r\n", 50));
    cr_expect(strstr(o.log, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "));
    cr_expect(strstr(o.log, "\r\n\r\nthere"), "%s", o.log);
    h2_close(&c);
    close_both();
}

/* Answers with trailers, many at once over few connections: fields stay with their answer. */
ZK_HTTP_TEST(proxy_h2, answers_keep_their_fields, .routes = routes)
{
    static step steps[40];
    static char answers[40][160];
    for (int i = 0; i < 40; i++) {
        snprintf(answers[i], sizeof answers[i],
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Number: %d\r\n\r\n"
                 "1\r\n!\r\n0\r\nX-Trailer: %d\r\n\r\n",
                 i, i);
        steps[i] = (step){.answer = answers[i]};
    }
    h2_client c;
    open_both(steps, 40);
    h2_open(&c, f);
    for (int i = 0; i < 40; i++) {
        char script[64], wanted[256];
        snprintf(script, sizeof script, "headers.eh %d GET:/", 2 * i + 1);
        h2_send(&c, script);
        origin_until(o.step_at == i + 1);
        for (int k = 0; k < 8; k++)
            settle();
        snprintf(wanted, sizeof wanted,
                 "headers %d 200 x-number=%d via=1.1 zokio\ndata %d 1 !\nheaders %d "
                 "x-trailer=%d end\n",
                 2 * i + 1, i, 2 * i + 1, 2 * i + 1, i);
        cr_assert_h2(&c, wanted);
    }
    h2_close(&c);
    close_both();
}
