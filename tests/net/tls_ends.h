/*
 * A server's and a client's configuration that trust each other, and streams made with them.
 */
#ifndef ZOKIO_TESTS_TLS_ENDS_H
#define ZOKIO_TESTS_TLS_ENDS_H

#include "tests/net/ends.h"
#include "tests/net/tls_certs.h"

#include <zokio/tls.h>

/* A client's end in a task of its own: a handshake takes two. */
typedef struct connect_job {
    zk_tls *tls;
    zk_stream *inner, *stream;
    const char *host;
    int rc;
    char trail[512];
} connect_job;

static inline int connect_run(void *arg)
{
    connect_job *c = arg;
    c->rc = zk_tls_connect(c->tls, c->inner, c->host, &c->stream);
    if (c->rc < 0) {
        snprintf(c->trail, sizeof c->trail, "%s", zk_trail());
        zk_stream_close(c->inner); /* the other side is to see that */
    }
    return 0;
}

typedef struct handshake {
    ends e;             /* a: the client's, b: the server's; NULL where it has failed */
    int client, server; /* what the calls returned */
    char client_trail[512], server_trail[512];
} handshake;

/* Both sides' handshakes over `inner`. What fails is closed. */
static inline handshake shake_hands(zk_tls *server, zk_tls *client, const char *host, ends inner)
{
    handshake h = {{NULL, NULL}, 0, 0, "", ""};
    connect_job c = {.tls = client, .inner = inner.a, .host = host};
    zk_future f;
    zk_async(&f, connect_run, &c);
    h.server = zk_tls_accept(server, inner.b, &h.e.b);
    if (h.server < 0) {
        snprintf(h.server_trail, sizeof h.server_trail, "%s", zk_trail());
        zk_stream_close(inner.b);
    }
    cr_assert_ok(zk_await(&f));
    h.client = c.rc;
    h.e.a = c.stream;
    memcpy(h.client_trail, c.trail, sizeof c.trail);
    return h;
}

typedef struct pki {
    issued ca, leaf;
    zk_tls *server, *client;
} pki;

/* An authority, a certificate for "localhost" and 127.0.0.1, and both configurations. */
static inline pki pki_new(zk_tls_server server, zk_tls_client client)
{
    pki p = {0};
    p.ca = issue("ca", NULL, NULL);
    p.leaf = issue("leaf", &p.ca, "DNS:localhost,DNS:*.example.org,IP:127.0.0.1");
    zk_tls_certificate certificates[] = {{p.leaf.cert_file, p.leaf.key_file, NULL}, {0}};
    if (!server.certificates) server.certificates = certificates;
    if (server.client_verify && !server.client_ca_file) server.client_ca_file = p.ca.cert_file;
    /* In a kernel that can do it all tests have it do so. */
    if (getenv("ZOKIO_TEST_KTLS")) server.ktls = client.ktls = true;
    if (!client.ca_file) client.ca_file = p.ca.cert_file;
    cr_assert_rc(zk_tls_server_new(&server, &p.server), 0, "%s", zk_trail());
    cr_assert_rc(zk_tls_client_new(&client, &p.client), 0, "%s", zk_trail());
    return p;
}

static inline void pki_done(pki *p)
{
    zk_tls_free(p->server);
    zk_tls_free(p->client);
}

/* Connected TLS streams over `inner`. */
static inline ends connect_tls(zk_tls_server server, zk_tls_client client, ends inner)
{
    pki p = pki_new(server, client);
    handshake h = shake_hands(p.server, p.client, "localhost", inner);
    cr_assert_rc(h.client, 0, "%.200s", h.client_trail);
    cr_assert_rc(h.server, 0, "%.200s", h.server_trail);
    pki_done(&p);
    return h.e;
}

static inline ends open_tls_over(ends inner)
{
    return connect_tls((zk_tls_server){0}, (zk_tls_client){0}, inner);
}

/* A few words each way. */
static inline void talk(ends *e)
{
    char buf[16];
    cr_assert_ok(zk_stream_write(e->a, "hello", 5));
    cr_assert_ok(read_exactly(e->b, buf, 5));
    cr_assert(!memcmp(buf, "hello", 5));
    cr_assert_ok(zk_stream_write(e->b, "back", 4));
    cr_assert_ok(read_exactly(e->a, buf, 4));
    cr_assert(!memcmp(buf, "back", 4));
}

#endif
