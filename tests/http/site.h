/*
 * A whole server of HTTPS over real sockets, and its clients.
 */
#ifndef ZOKIO_TESTS_HTTP_SITE_H
#define ZOKIO_TESTS_HTTP_SITE_H

#include "tests/http/h2_frames.h"

#include "tests/net/tls_certs.h"

#include <zokio/tls.h>

#include "net/tls.h"

static const char *const h1_only[] = {"http/1.1", NULL};
static const char *const h2_first[] = {"h2", "http/1.1", NULL};

/* ---- the server ---- */

/* Scheme, version, whether the client is known and by which name. */
static inline int tells(zk_request *req, zk_response *res)
{
    char text[256];
    zk_tls_info info = {0};
    zk_tls_peer peer = {0};
    const zk_stream *stream = zk_request_stream(req);
    zk_str scheme = zk_request_scheme(req);
    int rc = zk_tls_info_get(stream, &info);
    if (rc >= 0) {
        rc = zk_tls_peer_get(stream, zk_request_arena(req), &peer);
        if (rc < 0 && rc != -ENODATA) return rc;
    }
    int size = snprintf(text, sizeof text, "%.*s %d %d %s %.*s", (int)scheme.size, scheme.data,
                        zk_request_version(req), info.version,
                        info.is_peer_verified && peer.is_verified ? "known" : "unknown",
                        (int)peer.common_name.size, peer.common_name.data);
    return zk_respond(res, 200, NULL, text, (size_t)size);
}

static int body_rc; /* what reading a body has given; 1: nothing yet */

static inline int takes(zk_request *req, zk_response *res)
{
    zk_str body;
    body_rc = 1;
    body_rc = zk_body(req, &body);
    return body_rc < 0 ? body_rc : zk_respond(res, 200, NULL, body.data, body.size);
}

static inline int sleeps(zk_request *req, zk_response *res)
{
    int rc = zk_sleep(ZK_SEC(10));
    return rc < 0 ? rc : nothing(req, res);
}

enum { LARGE_BYTES = 100 * 1000 };

static inline int large(zk_request *req, zk_response *res)
{
    (void)req;
    static char data[LARGE_BYTES];
    return zk_respond(res, 200, NULL, data, sizeof data);
}

static const zk_route routes[] = {
    {"GET", "/", nothing, NULL},      {"GET", "/large", large, NULL},
    {"GET", "/tells", tells, NULL},   {"POST", "/takes", takes, NULL},
    {"GET", "/sleeps", sleeps, NULL}, {0},
};

typedef struct site {
    server s;
    issued ca, leaf;
    zk_tls_certificate certificates[2];
    zk_tls_server tls;
} site;

/* Everything but the server itself. */
static inline void site_init(site *x, zk_tls_server tls)
{
    tls.ktls = getenv("ZOKIO_TEST_KTLS") != NULL; /* see ./dev test --ktls */
    x->ca = issue("ca", NULL, NULL);
    x->leaf = issue("leaf", &x->ca, "DNS:localhost");
    x->certificates[0] = (zk_tls_certificate){x->leaf.cert_file, x->leaf.key_file, NULL};
    x->certificates[1] = (zk_tls_certificate){0};
    x->tls = tls;
    x->tls.certificates = x->certificates;
    if (tls.client_verify) x->tls.client_ca_file = x->ca.cert_file;
}

/* A test with a site `x`, whose server is stopped at its end unless the test has done so. */
#define SITE_TEST(suite, name, options, ...)                                                       \
    static void zk__site_##name(site *x);                                                          \
    ZK_ASYNC_TEST(suite, name)                                                                     \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            static site zk__x;                                                                     \
            site_init(&zk__x, (zk_tls_server)options);                                             \
            server_start(&zk__x.s, &scope,                                                         \
                         &(zk_server){.routes = routes, .tls = &zk__x.tls, ##__VA_ARGS__});        \
            cr_assert_rc(zk__x.s.rc, 1);                                                           \
            zk__site_##name(&zk__x);                                                               \
            if (zk__x.s.rc == 1) server_stop(&zk__x.s);                                            \
        }                                                                                          \
    }                                                                                              \
    static void zk__site_##name(site *x)

static inline void settle_long(void)
{
    for (int i = 0; i < 20; i++)
        settle();
}

/* ---- clients ---- */

static inline zk_tls *client_new(zk_tls_client options)
{
    options.ktls = getenv("ZOKIO_TEST_KTLS") != NULL;
    zk_tls *tls;
    cr_assert_rc(zk_tls_client_new(&options, &tls), 0, "%.200s", zk_trail());
    return tls;
}

/* One that believes anything, and resumes nothing, so that it sees the certificate each time. */
static inline zk_tls *blind_new(const char *const *alpn)
{
    return client_new((zk_tls_client){
        .insecure_skip_verification = true,
        .alpn = alpn,
        .sessions_max = -1,
    });
}

static inline zk_stream *secure_open(const site *x, zk_tls *tls)
{
    zk_stream *tcp = tcp_open(&x->s), *stream;
    cr_assert_rc(zk_tls_connect(tls, tcp, "localhost", &stream), 0, "%.200s", zk_trail());
    return stream;
}

static inline void h2_client_begin(h2_client *c, zk_stream *stream)
{
    *c = (h2_client){.is_in_pattern = true, .w.capacity = 1024, .w.text = malloc(1024)};
    cr_assert(c->w.text && !nghttp2_hd_inflate_new(&c->inflater));
    c->w.stream = stream;
    h2_bytes b = {0}, frames = h2_script("settings 0; settings.e 0");
    h2_put(&b, H2_PREFACE, sizeof H2_PREFACE - 1);
    h2_put(&b, frames.data, frames.size);
    wire_send_n(&c->w, b.data, b.size, 0);
    free(b.data);
    free(frames.data);
    settle_long();
    /* With TLS 1.2 the server's side is done first, so that it does not wait for the preface. */
    const char *log = h2_take(c);
    cr_assert(!strcmp(log, H2_GREETING) || !strcmp(log, H2_SETTINGS H2_WINDOW "ack\n"), "%s", log);
}

static inline void h2_client_open(h2_client *c, const site *x, zk_tls *tls)
{
    h2_client_begin(c, secure_open(x, tls));
}

#define H2_GET(path) ":method=GET :scheme=https :authority=localhost :path=" path

/* Whom the server says it is in a new handshake. */
static inline const char *shown(const site *x)
{
    static char name[64];
    zk_arena arena = {0};
    zk_tls_peer peer;
    zk_tls *blind = blind_new(h1_only);
    zk_stream *c = secure_open(x, blind);
    cr_assert_ok(zk_tls_peer_get(c, &arena, &peer));
    snprintf(name, sizeof name, "%.*s", (int)peer.common_name.size, peer.common_name.data);
    zk_arena_done(&arena);
    zk_stream_close(c);
    zk_tls_free(blind);
    return name;
}

/* The site's files, or one of them, become another certificate's. */
static inline void renew(site *x, const issued *by, bool with_key)
{
    pem_write(x->leaf.cert_file, "w", NULL, by->certificate);
    if (with_key) pem_write(x->leaf.key_file, "w", by->key, NULL);
}

#endif
