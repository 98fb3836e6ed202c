/*
 * wss: the same over TLS; whose certificate is trusted, and what large messages make of records.
 */
#include "tests/ws/talk.h"

#include "tests/net/tls_certs.h"

static int wss_connect(zk_tls *tls, const server *s, const char *host, const char *path,
                       zk_ws **ret_ws)
{
    char url[256], address[64];
    snprintf(url, sizeof url, "wss://%s:%u%s", host, zk_addr_port(&s->addr), path);
    snprintf(address, sizeof address, "127.0.0.1:%u", zk_addr_port(&s->addr));
    return zk_ws_connect(url, &(zk_ws_options){.tls = tls, .connect = address}, ret_ws);
}

static void echo_over(zk_tls *tls, const server *s, const char *path)
{
    static const size_t sizes[] = {0, 5, 126, 20000, 70000, 500000};
    zk_ws *ws;
    zk_ws_message m;
    char *data = malloc(500000);
    for (size_t i = 0; i < 500000; i++)
        data[i] = (char)(i * 2654435761u >> 24);
    cr_assert_ok(wss_connect(tls, s, "one.example", path, &ws));
    for (size_t i = 0; i < ROWS(sizes); i++) {
        cr_assert_ok(zk_ws_send(ws, ZK_WS_BINARY, data, sizes[i]));
        cr_assert_rc(zk_ws_recv(ws, &m), 1);
        cr_assert(m.size == sizes[i] && !memcmp(m.data, data, m.size), "%zu", sizes[i]);
    }
    cr_assert_ok(zk_ws_close(ws, 1000, "done"));
    cr_assert_eq(zk_ws_close_code(ws), 1000);
    zk_ws_free(ws);
    free(data);
}

ZK_ASYNC_TEST(ws_secure, echoes_over_tls)
{
    issued ca = issue("ca", NULL, NULL);
    issued one = issue("one", &ca, "DNS:one.example");
    const zk_tls_certificate certificates[] = {{one.cert_file, one.key_file, NULL}, {0}};
    zk_tls_server tls = {.certificates = certificates};
    zk_tls *trust;
    zk_ws *ws;
    cr_assert_ok(zk_tls_client_new(&(zk_tls_client){.ca_file = ca.cert_file}, &trust));
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = echo_routes, .tls = &tls});
        echo_over(trust, &s, "/loop");
        echo_over(trust, &s, "/parked");
        echo_over(trust, &s, "/pieces");
        cr_assert_rc(wss_connect(trust, &s, "two.example", "/loop", &ws), ZK_E_TLS_HOST);
        cr_assert_rc(wss_connect(NULL, &s, "one.example", "/loop", &ws), ZK_E_TLS_CERTIFICATE);
        server_stop(&s);
    }
    zk_tls_free(trust);
}
