/*
 * https: the client trusts nobody without reason, and uses TLS connections again.
 */
#include "tests/http/origin.h"

#include <zokio/client.h>
#include <zokio/proxy.h>

#include "http/client_via.h"

#include "tests/net/tls_certs.h"

static int hello(zk_request *req, zk_response *res)
{
    zk_str scheme = zk_request_scheme(req);
    return zk_respond(res, 200, "text/plain", scheme.data, scheme.size);
}

static zk_proxy *proxy;

static int forward(zk_request *req, zk_response *res) { return zk_proxy_run(proxy, req, res); }

static const zk_route routes[] = {{NULL, "/{path...}", hello, NULL}, {0}};
static const zk_route proxy_routes[] = {{NULL, "/{path...}", forward, NULL}, {0}};

static int get(zk_client *c, const server *s, const char *host, char text[64])
{
    char url[128], address[64];
    snprintf(url, sizeof url, "https://%s:%u/", host, zk_addr_port(&s->addr));
    snprintf(address, sizeof address, "127.0.0.1:%u", zk_addr_port(&s->addr));
    zk_fetch *f;
    int rc = zk_fetch_open(c, &(zk_fetch_options){.url = url, .connect = address}, &f);
    if (rc < 0) return rc;
    zk_str body;
    cr_assert_ok(zk_fetch_body(f, &body));
    snprintf(text, 64, "%s", body.data);
    rc = zk_fetch_status(f);
    zk_fetch_close(f);
    return rc;
}

/* A certificate has to be signed by who is trusted, and to be for the host of the URL. */
ZK_ASYNC_TEST(client_tls, verifies_who_answers)
{
    issued ca = issue("ca", NULL, NULL);
    issued one = issue("one", &ca, "DNS:one.example,IP:127.0.0.1");
    const zk_tls_certificate certificates[] = {{one.cert_file, one.key_file, NULL}, {0}};
    zk_tls_server tls = {.certificates = certificates};
    char text[64];
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes, .tls = &tls});
        zk_client *c;
        cr_assert_ok(zk_client_new(NULL, &c));
        cr_assert_rc(get(c, &s, "one.example", text), ZK_E_TLS_CERTIFICATE);
        zk_client_free(c);
        zk_tls_client trust = {.ca_file = ca.cert_file};
        cr_assert_ok(zk_client_new(&(zk_client_options){.tls = &trust}, &c));
        cr_assert_rc(get(c, &s, "two.example", text), ZK_E_TLS_HOST);
        for (int i = 0; i < 3; i++)
            cr_assert_rc(get(c, &s, "ONE.example", text), 200);
        cr_expect_str_eq(text, "https");
        cr_assert_rc(get(c, &s, "127.0.0.1", text), 200);
        zk_client_free(c);
        server_stop(&s);
    }
}

/* The proxy speaks TLS to its upstreams, and verifies them too. */
ZK_ASYNC_TEST(client_tls, proxy_verifies_its_upstreams)
{
    issued ca = issue("ca", NULL, NULL);
    issued one = issue("one", &ca, "IP:127.0.0.1");
    const zk_tls_certificate certificates[] = {{one.cert_file, one.key_file, NULL}, {0}};
    zk_tls_server tls = {.certificates = certificates};
    zk_tls_client trust = {.ca_file = ca.cert_file};
    static const char *const wanted[] = {" 502 ", " 200 "};
    ZK_SCOPE(scope) {
        server s, front;
        server_start(&s, &scope, &(zk_server){.routes = routes, .tls = &tls});
        char address[64];
        snprintf(address, sizeof address, "https://127.0.0.1:%u", zk_addr_port(&s.addr));
        zk_upstream upstreams[] = {{address, 1}, {0}};
        for (int trusts = 0; trusts < 2; trusts++) {
            zk_client_options client = {.tls = trusts ? &trust : NULL};
            cr_assert_ok(zk_proxy_new(
                &(zk_proxy_options){.upstreams = upstreams, .client = &client}, &proxy));
            server_start(&front, &scope, &(zk_server){.routes = proxy_routes});
            zk_stream *stream = tcp_open(&front);
            tcp_send(stream, GET("/"));
            char in[1024];
            ssize_t n = zk_stream_read(stream, in, sizeof in - 1);
            cr_assert_ok(n);
            in[n] = '\0';
            cr_expect(strstr(in, wanted[trusts]), "%s", in);
            zk_stream_close(stream);
            server_stop(&front);
            zk_proxy_free(proxy);
        }
        server_stop(&s);
    }
}

/* Through a proxy: what is plain in its absolute form, https behind a CONNECT; exceptions go
 * directly. */
ZK_ASYNC_TEST(client_tls, goes_through_a_proxy)
{
    static origin o;
    static const step steps[] = {
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"},
        {.answer = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"},
        {.answer = "HTTP/1.1 200 Go\r\n\r\n", .after = CLOSE},
    };
    origin_open(&o, steps, (int)ROWS(steps));
    char via[128];
    snprintf(via, sizeof via, "http://ann:p%%40ss@%s", o.address);
    zk_client *c;
    zk_fetch *f;
    cr_assert_ok(zk_client_new(&(zk_client_options){.proxy = via}, &c));
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = "http://a.example:81/x?y"}, &f));
    cr_expect_eq(zk_fetch_status(f), 200);
    zk_fetch_close(f);
    cr_expect(strstr(o.log, "GET http://a.example:81/x?y HTTP/1.1\r\nHost: a.example:81\r\n"
                            "Proxy-Authorization: Basic YW5uOnBAc3M=\r\n") == o.log,
              "%s", o.log);
    o.log_size = 0;
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = "https://a.example/"}, &f),
                 ZK_E_HTTP_TUNNEL);
    cr_expect(strstr(o.log, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"
                            "Proxy-Authorization: Basic YW5uOnBAc3M=\r\n\r\n") == o.log,
              "%s", o.log);
    cr_assert_rc(zk_fetch_open(c, &(zk_fetch_options){.url = "https://a.example/"}, &f),
                 ZK_E_TLS_TRUNCATED);
    zk_client_free(c);
    cr_assert_rc(zk_client_new(&(zk_client_options){.proxy = "https://a"}, &c), ZK_E_CONFIG);
    cr_assert_rc(zk_client_new(&(zk_client_options){.proxy = "a b"}, &c), ZK_E_CONFIG);
    origin_until(o.open == 0);
    origin_close(&o);
}

/* Whom the environment excepts. */
ZK_ASYNC_TEST(client_tls, knows_when_to_go_directly)
{
    static const struct {
        const char *url, *via;
    } rows[] = {
        {"http://a.b/", "one:80"},       {"https://a.b/", "two:3128"}, {"http://localhost/", NULL},
        {"http://x.localhost/", NULL},   {"http://127.0.0.9/", NULL},  {"https://[::1]/", NULL},
        {"http://c.d/", NULL},           {"http://x.C.D:8080/", NULL}, {"http://xc.d/", "one:80"},
        {"http://e.f/", NULL},           {"http://x.e.f/", NULL},      {"http://10.0.0.1/", NULL},
        {"http://110.0.0.1/", "one:80"},
    };
    setenv("http_proxy", "one", 1);
    setenv("HTTPS_PROXY", "http://two:3128/", 1);
    setenv("no_proxy", "c.d, .e.f,10.0.0.1", 1);
    zk__vias v;
    cr_assert_ok(zk__vias_init(&v, NULL));
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_url url;
        cr_assert_ok(zk_url_parse((zk_str){rows[i].url, strlen(rows[i].url)}, &url));
        const zk__via *via = zk__via_for(&v, &url);
        cr_expect(rows[i].via ? via && !strcmp(via->address, rows[i].via) : !via, "%s: %s",
                  rows[i].url, via ? via->address : "directly");
    }
    zk__vias_done(&v);
    setenv("no_proxy", "*", 1);
    cr_assert_ok(zk__vias_init(&v, NULL));
    zk_url url;
    cr_assert_ok(zk_url_parse(ZK_STR("http://a.b/"), &url));
    cr_expect(!zk__via_for(&v, &url));
    zk__vias_done(&v);
}
