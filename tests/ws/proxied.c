/*
 * WebSockets through the proxy: over HTTP/1.1 and HTTP/2 on either side of it.
 */
#include "tests/ws/talk.h"

#include "tests/http/h2_origin.h"

#include "tests/http/proxying.h"

#include <zokio/client.h>

static void converse(bool is_front_h2)
{
    zk_client *client;
    zk_ws *ws;
    zk_ws_message m;
    char url[64];
    static char large[100000];
    memset(large, 'x', sizeof large);
    cr_assert_ok(zk_client_new(&(zk_client_options){.h2c = is_front_h2}, &client));
    snprintf(url, sizeof url, "ws://127.0.0.1:%u/loop", zk_addr_port(&px.server.addr));
    cr_assert_ok(zk_ws_connect(url, &(zk_ws_options){.client = client}, &ws));
    cr_assert_ok(zk_ws_send_text(ws, "hello"));
    cr_assert_ok(zk_ws_recv(ws, &m));
    cr_expect(m.size == 5 && !memcmp(m.data, "hello", 5));
    cr_assert_ok(zk_ws_send(ws, ZK_WS_BINARY, large, sizeof large));
    cr_assert_ok(zk_ws_recv(ws, &m));
    cr_expect(m.size == sizeof large && !memcmp(m.data, large, sizeof large));
    cr_assert_ok(zk_ws_close(ws, 1000, ""));
    zk_ws_free(ws);
    zk_client_free(client);
}

/* Whatever the versions on both sides. */
ZK_ASYNC_TEST(ws_proxied, between_all_versions)
{
    for (int i = 0; i < 4; i++) {
        ZK_SCOPE(scope) {
            server upstream;
            char address[64];
            server_start(&upstream, &scope, &(zk_server){.routes = echo_routes});
            snprintf(address, sizeof address, "%s127.0.0.1:%u", i & 2 ? "h2c://" : "",
                     zk_addr_port(&upstream.addr));
            zk_upstream upstreams[] = {{address, 1}, {0}};
            proxy_open((zk_proxy_options){.upstreams = upstreams});
            converse(i & 1);
            pass_ms(1010); /* of the connection that the client has closed, half_close_grace_ms */
            origin_until(px.accesses == 1);
            cr_expect_eq(px.access.rc, 0);
            cr_expect_eq(px.access.status, i & 1 ? 200 : 101);
            proxy_close();
            server_stop(&upstream);
        }
    }
}

/* ---- an upstream that does as it is told ---- */

static h2_origin o;

static void open_scripted(const char *settings, const h2_step *steps, int count)
{
    static zk_upstream upstreams[2];
    h2_origin_open(&o, settings, steps, count);
    upstreams[0].address = o.address;
    proxy_open((zk_proxy_options){.upstreams = upstreams, .tunnel_timeout_ms = 5000});
}

static void close_scripted(void)
{
    proxy_close();
    origin_until(o.open == 0);
    h2_origin_close(&o);
}

#define UPGRADE(key)                                                                               \
    "GET /c?d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"                \
    "Sec-WebSocket-Version: 13\r\n" key "\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define CONNECTS "u16:8 u32:1"

/* An Upgrade becomes an extended CONNECT, and its key is answered by the proxy (the one of RFC 6455
 * section 1.3). */
ZK_ASYNC_TEST(ws_proxied, upgrades_become_connects)
{
    static const h2_step steps[] = {{.script = "headers.h $ :status=200 x-a=b; data $ 'hi'"}};
    open_scripted(CONNECTS, steps, 1);
    reply r = {0};
    zk_stream *stream = tcp_open(&px.server);
    tcp_send(stream, UPGRADE(KEY) "early");
    reply_read(stream, &r);
    cr_expect_str_eq(reply_text(&r),
                     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                     "Upgrade: websocket\r\nx-a: b\r\n"
                     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhi");
    origin_until(strstr(o.log.text, "data 1 5 early\n"));
    cr_expect(strstr(o.log.text, ":method=CONNECT"), "%s", o.log.text);
    cr_expect(strstr(o.log.text, ":protocol=websocket"));
    cr_expect(strstr(o.log.text, ":path=/c?d"));
    cr_expect(!strstr(o.log.text, "websocket-key"));
    cr_assert_ok(zk_stream_shutdown(stream));
    origin_until(strstr(o.log.text, "data 1 0 end"));
    zk_stream_close(stream);
    close_scripted();
}

/* What cannot be: said with a status, and why it is told to the server's owner. */
ZK_ASYNC_TEST(ws_proxied, refusals)
{
    static const h2_step steps[] = {{.script = "headers.h $ :status=403; data.e $ 'no'"},
                                    {.script = "rst $ u32:2"}};
    open_scripted(CONNECTS, steps, 2);
    cr_expect(!strncmp(talk(UPGRADE("")) + 9, "400", 3), "there is no key");
    cr_expect(!strncmp(talk(UPGRADE("Sec-WebSocket-Key: x\r\n")) + 9, "400", 3));
    const char *got = talk(UPGRADE(KEY));
    cr_expect(!strncmp(got + 9, "403", 3) && strstr(got, "\r\n\r\nno"), "%s", got);
    cr_expect(!strncmp(talk(UPGRADE(KEY)) + 9, "502", 3));
    cr_expect(strstr(px.reason, "INTERNAL_ERROR"), "%s", px.reason);
    close_scripted();
    open_scripted("", NULL, 0);
    cr_expect(!strncmp(talk(UPGRADE(KEY)) + 9, "501", 3), "its settings do not allow it");
    cr_expect_eq(px.turned_out, 0);
    close_scripted();
}

/* A reset of either side ends the other; so does silence. */
ZK_ASYNC_TEST(ws_proxied, ends)
{
    static const h2_step steps[] = {{.script = "headers.h $ :status=200; data $ 'hi'; rst $ u32:2"},
                                    {.script = "headers.h $ :status=200"},
                                    {.script = "headers.h $ :status=200"}};
    open_scripted(CONNECTS, steps, 3);
    for (int i = 0; i < 3; i++) {
        reply r = {0};
        zk_stream *stream = tcp_open(&px.server);
        tcp_send(stream, UPGRADE(KEY));
        origin_until(o.step_at == i + 1);
        for (int k = 0; k < 20; k++)
            settle();
        if (i == 1) {
            tcp_reset(stream);
            origin_until(strstr(o.log.text, "reset 3 CANCEL"));
            continue;
        }
        if (i == 2) pass_ms(5010);
        reply_read(stream, &r);
        cr_expect(r.is_closed && !strncmp(r.text + 9, "101", 3), "%d: %s", i, r.text);
        zk_stream_close(stream);
    }
    close_scripted();
}
