/*
 * https: the client trusts nobody without reason, and uses TLS connections again.
 */
#include "tests/http/fixture.h"

#include <zokio/client.h>
#include <zokio/proxy.h>

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
