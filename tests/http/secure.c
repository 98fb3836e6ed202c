/*
 * HTTP over TLS: what is agreed upon in the handshake, certificates that change while the server
 * runs, clients that do not finish, and whom a handler sees. Over real sockets.
 */
#include "tests/http/h2_frames.h"

#include "tests/net/tls_certs.h"

#include <zokio/tls.h>

#include "net/tls.h"

#define EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static const char *const h1_only[] = {"http/1.1", NULL};
static const char *const h2_first[] = {"h2", "http/1.1", NULL};

/* ---- the server ---- */

/* Scheme, version, whether the client is known and by which name. */
static int tells(zk_request *req, zk_response *res)
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

static int takes(zk_request *req, zk_response *res)
{
    zk_str body;
    body_rc = 1;
    body_rc = zk_body(req, &body);
    return body_rc < 0 ? body_rc : zk_respond(res, 200, NULL, body.data, body.size);
}

static int sleeps(zk_request *req, zk_response *res)
{
    int rc = zk_sleep(ZK_SEC(10));
    return rc < 0 ? rc : nothing(req, res);
}

static const zk_route routes[] = {
    {"GET", "/", nothing, NULL},
    {"GET", "/tells", tells, NULL},
    {"POST", "/takes", takes, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {0},
};

typedef struct site {
    server s;
    issued ca, leaf;
    zk_tls_certificate certificates[2];
    zk_tls_server tls;
} site;

/* Everything but the server itself. */
static void site_init(site *x, zk_tls_server tls)
{
    x->ca = issue("ca", NULL, NULL);
    x->leaf = issue("leaf", &x->ca, "DNS:localhost");
    x->certificates[0] = (zk_tls_certificate){x->leaf.cert_file, x->leaf.key_file, NULL};
    x->certificates[1] = (zk_tls_certificate){0};
    x->tls = tls;
    x->tls.certificates = x->certificates;
    if (tls.client_verify) x->tls.client_ca_file = x->ca.cert_file;
}

/* A test with a site `x`, whose server is stopped at its end unless the test has done so. */
#define SITE_TEST(name, options, ...)                                                              \
    static void zk__site_##name(site *x);                                                          \
    ZK_ASYNC_TEST(secure, name)                                                                    \
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

static void settle_long(void)
{
    for (int i = 0; i < 20; i++)
        settle();
}

/* ---- clients ---- */

static zk_tls *client_new(zk_tls_client options)
{
    zk_tls *tls;
    cr_assert_rc(zk_tls_client_new(&options, &tls), 0, "%.200s", zk_trail());
    return tls;
}

/* One that believes anything, and resumes nothing, so that it sees the certificate each time. */
static zk_tls *blind_new(const char *const *alpn)
{
    return client_new((zk_tls_client){
        .insecure_skip_verification = true,
        .alpn = alpn,
        .sessions_max = -1,
    });
}

static zk_stream *secure_open(const site *x, zk_tls *tls)
{
    zk_stream *tcp = tcp_open(&x->s), *stream;
    cr_assert_rc(zk_tls_connect(tls, tcp, "localhost", &stream), 0, "%.200s", zk_trail());
    return stream;
}

static void h2_client_open(h2_client *c, const site *x, zk_tls *tls)
{
    *c = (h2_client){.is_in_pattern = true, .w.capacity = 1024, .w.text = malloc(1024)};
    cr_assert(c->w.text && !nghttp2_hd_inflate_new(&c->inflater));
    c->w.stream = secure_open(x, tls);
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

#define H2_GET(path) ":method=GET :scheme=https :authority=localhost :path=" path

/* Whom the server says it is in a new handshake. */
static const char *shown(const site *x)
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
static void renew(site *x, const issued *by, bool with_key)
{
    pem_write(x->leaf.cert_file, "w", NULL, by->certificate);
    if (with_key) pem_write(x->leaf.key_file, "w", by->key, NULL);
}

/* ---- protocols ---- */

/* RFC 7301, and RFC 9113 section 3.2: one port, and the client's offer decides. */
SITE_TEST(both_protocols_share_a_port, {0})
{
    static const struct {
        const char *const *alpn;
        zk_tls_version version;
        bool is_h2;
        const char *text;
    } rows[] = {
        {NULL, ZK_TLS_1_3, false, "https 11 13 unknown "},
        {h1_only, ZK_TLS_1_3, false, "https 11 13 unknown "},
        {h1_only, ZK_TLS_1_2, false, "https 11 12 unknown "},
        {h2_first, ZK_TLS_1_3, true, "https 20 13 unknown "},
        {h2_first, ZK_TLS_1_2, true, "https 20 12 unknown "},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char wanted[256];
        zk_tls *tls = client_new((zk_tls_client){
            .ca_file = x->ca.cert_file, .alpn = rows[i].alpn, .version_max = rows[i].version});
        if (rows[i].is_h2) {
            h2_client c;
            h2_client_open(&c, x, tls);
            h2_send(&c, "headers.eh 1 " H2_GET("/tells"));
            settle_long();
            snprintf(wanted, sizeof wanted, "headers 1 200 content-length=20\ndata 1 20 end %s\n",
                     rows[i].text);
            h2_check(&c, wanted, rows[i].text);
            h2_close(&c);
        } else {
            zk_stream *c = secure_open(x, tls);
            tcp_send(c, GET("/tells"));
            snprintf(wanted, sizeof wanted, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n%s",
                     rows[i].text);
            tcp_expect(c, wanted, false);
            tcp_send(c, GET("/") GET("/nowhere"));
            tcp_expect(c, EMPTY PAGE("14", "404 Not Found"), false);
            zk_stream_close(c);
        }
        zk_tls_free(tls);
    }
}

/* What is spoken is what was agreed upon, whatever the first bytes look like. */
SITE_TEST(nobody_speaks_another_protocol_than_agreed, {0})
{
    char text[512];
    zk_tls *tls = blind_new(NULL);
    zk_stream *c = secure_open(x, tls);
    tcp_send(c, H2_PREFACE);
    ssize_t n = zk_stream_read(c, text, sizeof text);
    cr_assert(n > 12 && !memcmp(text, "HTTP/1.1 501 ", 13), "%.*s", (int)n, text);
    zk_stream_close(c);
    zk_tls_free(tls);

    tls = blind_new(h2_first);
    h2_client h2 = {.w.capacity = 1024, .w.text = malloc(1024)};
    cr_assert(!nghttp2_hd_inflate_new(&h2.inflater));
    h2.w.stream = secure_open(x, tls);
    wire_send(&h2.w, GET("/"));
    settle_long();
    const char *log = h2_take(&h2);
    cr_assert(strstr(log, GOAWAY("PROTOCOL_ERROR")), "%s", log);
    cr_assert(h2.w.is_closed && !strstr(log, "headers"), "%s", log);
    h2_close(&h2);
    zk_tls_free(tls);
}

SITE_TEST(a_client_of_other_protocols_only_is_refused, {0})
{
    static const char *const other[] = {"smtp", NULL};
    zk_tls *tls = blind_new(other);
    zk_stream *tcp = tcp_open(&x->s), *stream;
    cr_assert_rc(zk_tls_connect(tls, tcp, "localhost", &stream), ZK_E_TLS_ALERT);
    cr_assert(strstr(zk_trail(), "no application protocol"), "%s", zk_trail());
    zk_stream_close(tcp);
    zk_tls_free(tls);
}

/* Who types http:// for https:// gets to read why that does not work. */
SITE_TEST(plain_http_is_told_that_this_is_tls, {0})
{
    zk_stream *c = tcp_open(&x->s);
    tcp_send(c, GET("/"));
    tcp_expect(c,
               "HTTP/1.1 400 Bad Request\r\nContent-Length: 24\r\n" CLOSE_FIELD TEXT_TYPE
               "\r\nThis port is for HTTPS.\n",
               true);
    zk_stream_close(c);
    cr_assert_str_eq(shown(x), "leaf");
}

/* The end of a body without a length is the end of the connection: a clean one. */
SITE_TEST(ends_are_clean, {0})
{
    char byte;
    zk_tls *tls = blind_new(NULL);
    zk_stream *c = secure_open(x, tls);
    tcp_send(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    tcp_expect(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE_FIELD "\r\n", true);
    zk_stream_close(c);

    c = secure_open(x, tls);
    pass_ms(75001);
    cr_assert_rc(zk_stream_read(c, &byte, 1), 0, "the idle timeout");
    zk_stream_close(c);
    zk_tls_free(tls);
}

/* A body that is cut off is none, whether the client says that it ends or not. */
SITE_TEST(bodies_that_are_cut_off_are_errors, {0})
{
    zk_tls *tls = blind_new(NULL);
    for (int is_clean = 0; is_clean < 2; is_clean++) {
        zk_stream *c = secure_open(x, tls);
        body_rc = 0;
        tcp_send(c, "POST /takes HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        settle_long();
        cr_assert_eq(body_rc, 1);
        zk_stream *below = is_clean ? c : zk__tls_stream_of(c)->inner;
        cr_assert_ok(zk_stream_shutdown(below));
        settle_long();
        cr_assert_rc(body_rc, is_clean ? ZK_E_CLOSED : ZK_E_TLS_TRUNCATED);
        zk_stream_close(c);
    }
    zk_tls_free(tls);
}

/* ---- new certificates ---- */

/* A connection goes on with what it has; who comes now sees the new one. */
SITE_TEST(certificates_are_renewed_while_connections_live, {0})
{
    issued second = issue("second", &x->ca, "DNS:localhost");
    zk_tls *tls = client_new((zk_tls_client){.ca_file = x->ca.cert_file, .alpn = h1_only});
    zk_tls *h2 = client_new((zk_tls_client){.ca_file = x->ca.cert_file, .alpn = h2_first});
    zk_stream *old = secure_open(x, tls);
    h2_client old_h2;
    h2_client_open(&old_h2, x, h2);
    tcp_send(old, GET("/"));
    tcp_expect(old, EMPTY, false);

    renew(x, &second, true);
    cr_assert_str_eq(shown(x), "leaf", "nobody has said so");
    cr_assert_rc(zk_serving_reload(x->s.serving), 0, "%.200s", zk_trail());
    cr_assert_str_eq(shown(x), "second");
    tcp_send(old, GET("/"));
    tcp_expect(old, EMPTY, false);
    h2_send(&old_h2, "headers.eh 1 " H2_GET("/"));
    settle_long();
    cr_assert_h2(&old_h2, "headers 1 200 content-length=0 end\n");
    zk_stream_close(old);
    h2_close(&old_h2);
    zk_tls_free(tls);
    zk_tls_free(h2);
}

SITE_TEST(a_broken_certificate_changes_nothing, {0})
{
    issued second = issue("second", &x->ca, "DNS:localhost");
    renew(x, &second, false);
    cr_assert_rc(zk_serving_reload(x->s.serving), ZK_E_TLS_FILE);
    cr_assert(strstr(zk_trail(), x->leaf.key_file), "%s", zk_trail());
    cr_assert(strstr(zk_trail(), "key values mismatch"), "%s", zk_trail());
    cr_assert_str_eq(shown(x), "leaf");
    unlink(x->leaf.cert_file);
    cr_assert_rc(zk_serving_reload(x->s.serving), ZK_E_TLS_FILE);
    cr_assert(strstr(zk_trail(), "No such file"), "%s", zk_trail());
    cr_assert_str_eq(shown(x), "leaf");
    renew(x, &second, true);
    cr_assert_rc(zk_serving_reload(x->s.serving), 0, "%.200s", zk_trail());
    cr_assert_str_eq(shown(x), "second");
}

ZK_ASYNC_TEST(secure, without_tls_there_is_nothing_to_reload)
{
    ZK_SCOPE(scope) {
        server s;
        server_start(&s, &scope, &(zk_server){.routes = routes});
        cr_assert_rc(zk_serving_reload(s.serving), -EOPNOTSUPP);
        zk_stream *c = tcp_open(&s);
        tcp_send(c, GET("/tells"));
        tcp_expect(c,
                   "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n"
                   "http 11 0 unknown ",
                   false);
        zk_stream_close(c);
        server_stop(&s);
    }
}

static int reload_errors;
static char reload_said[512];

static void on_error(void *context, const zk_request *req, int rc, const char *what)
{
    (void)context;
    if (req || rc != ZK_E_TLS_FILE) return;
    snprintf(reload_said, sizeof reload_said, "%s", what);
    reload_errors++;
}

static int serve_with_signals(void *arg)
{
    server *s = arg;
    s->config.no_signals = false;
    return server_run(s);
}

/* SIGHUP has the files read again; what is wrong with them is reported, and ends nothing. */
ZK_ASYNC_TEST(secure, sighup_reads_the_files_again)
{
    static site x;
    ZK_SCOPE(scope) {
        site_init(&x, (zk_tls_server){0});
        x.s = (server){.rc = 1};
        x.s.config = (zk_server){
            .listen = "127.0.0.1:0",
            .routes = routes,
            .tls = &x.tls,
            .on_error = on_error,
            .on_listening = server_listening,
            .context = &x.s,
        };
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&scope, &options, serve_with_signals, &x.s));
        while (!x.s.serving && x.s.rc == 1)
            settle();
        cr_assert_rc(x.s.rc, 1);
        issued second = issue("second", &x.ca, "DNS:localhost");
        renew(&x, &second, false);
        cr_assert(!raise(SIGHUP));
        for (int i = 0; i < 1000000 && !reload_errors; i++)
            settle();
        cr_assert_eq(reload_errors, 1);
        cr_assert(strstr(reload_said, x.leaf.key_file), "%s", reload_said);
        cr_assert_str_eq(shown(&x), "leaf");
        renew(&x, &second, true);
        cr_assert(!raise(SIGHUP));
        for (int i = 0; i < 1000 && strcmp(shown(&x), "second") != 0; i++)
            settle();
        cr_assert_str_eq(shown(&x), "second");
        cr_assert_eq(reload_errors, 1);
        cr_assert(!raise(SIGTERM));
        while (x.s.rc == 1)
            settle();
        cr_assert_rc(x.s.rc, 0);
    }
}

/* ---- handshakes that do not end ---- */

/* The kernel tells a server of a connection when its first byte has come. */
static void begin_hello(zk_stream *tcp, size_t size)
{
    static const char hello[64] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    cr_assert_ok(zk_stream_write(tcp, hello, size));
}

/* They have the time of a handshake, not that of an idle connection, and make room for others. */
SITE_TEST(handshakes_have_their_time, {.handshake_timeout_ms = 3000}, .connections_max = 2)
{
    char byte;
    zk_stream *silent = tcp_open(&x->s), *slow = tcp_open(&x->s);
    begin_hello(silent, 1);
    begin_hello(slow, 60);
    settle_long();
    pass_ms(2900);
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), -EAGAIN);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), -EAGAIN);
    pass_ms(200);
    settle_long();
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), 0);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), 0);
    cr_assert_str_eq(shown(x), "leaf");
    zk_stream_close(silent);
    zk_stream_close(slow);
}

/* ---- stopping ---- */

SITE_TEST(drains_what_speaks_tls, {0})
{
    zk_tls *h1 = blind_new(h1_only), *h2 = blind_new(h2_first);
    zk_stream *idle = secure_open(x, h1), *busy = secure_open(x, h1);
    h2_client many, quiet;
    h2_client_open(&many, x, h2);
    h2_client_open(&quiet, x, h2);
    tcp_send(idle, GET("/"));
    tcp_expect(idle, EMPTY, false);
    tcp_send(busy, GET("/sleeps"));
    h2_send(&many, "headers.eh 1 " H2_GET("/sleeps"));
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    tcp_expect(idle, "", true);
    const char *log = h2_take(&quiet);
    cr_assert(strstr(log, "NO_ERROR") && quiet.w.is_closed, "%s", log);
    log = h2_take(&many);
    cr_assert(strstr(log, "goaway 2147483647 NO_ERROR") && !many.w.is_closed, "%s", log);
    cr_assert_eq(x->s.rc, 1);
    pass_ms(10001);
    settle_long();
    tcp_expect(busy, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE_FIELD "\r\n", true);
    log = h2_take(&many);
    cr_assert(strstr(log, "headers 1 200") && many.w.is_closed, "%s", log);
    zk_stream_close(idle);
    zk_stream_close(busy);
    h2_close(&many);
    h2_close(&quiet);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    zk_tls_free(h1);
    zk_tls_free(h2);
}

/* Nobody's handshake keeps the server for longer than a second. */
SITE_TEST(handshakes_do_not_hold_up_the_end, {.handshake_timeout_ms = -1})
{
    char byte;
    zk_stream *silent = tcp_open(&x->s), *slow = tcp_open(&x->s);
    begin_hello(silent, 1);
    begin_hello(slow, 60);
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    pass_ms(900);
    cr_assert_eq(x->s.rc, 1);
    pass_ms(200);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    cr_assert_rc(zk_stream_try_read(silent, &byte, 1), 0);
    cr_assert_rc(zk_stream_try_read(slow, &byte, 1), 0);
    zk_stream_close(silent);
    zk_stream_close(slow);
}

typedef struct shake {
    zk_tls *tls;
    zk_stream *inner, *stream;
    int rc;
} shake;

static int shake_run(void *arg)
{
    shake *k = arg;
    k->rc = zk_tls_connect(k->tls, k->inner, "localhost", &k->stream);
    return 0;
}

typedef struct pipe_job {
    zk_stream *to, *from;
} pipe_job;

static int pipe_run(void *arg)
{
    pipe_job *p = arg;
    int64_t n = zk_stream_copy(p->from, p->to);
    int rc = zk_stream_shutdown(p->to); /* the other end may have gone */
    return n < 0 || rc < 0 ? 1 : 0;
}

/* Begins a handshake, has the server told to stop, and goes on. */
static void shake_while_stopping(const site *x, const char *const *alpn)
{
    char part[8], rest[512];
    zk_tls *tls = blind_new(alpn);
    zk_stream *near, *far, *tcp = tcp_open(&x->s);
    cr_assert_ok(zk_stream_pair(&near, &far));
    shake k = {.tls = tls, .inner = near, .rc = 1};
    ZK_SCOPE(scope) {
        cr_assert_ok(zk_spawn(&scope, shake_run, (void *)&k));
        cr_assert_ok(zk_stream_read(far, part, sizeof part));
        cr_assert_ok(zk_stream_write(tcp, part, sizeof part));
        settle_long();
        zk_serving_drain(x->s.serving);
        settle_long();
        pipe_job out = {tcp, far}, in = {far, tcp};
        cr_assert_ok(zk_spawn(&scope, pipe_run, &out));
        cr_assert_ok(zk_spawn(&scope, pipe_run, &in));
        while (k.rc == 1)
            settle();
        cr_assert_rc(k.rc, 0);
        ssize_t n;
        while ((n = zk_stream_read(k.stream, rest, sizeof rest)) > 0)
            continue;
        cr_assert_rc(n, 0, "a clean end");
        zk_stream_close(k.stream);
    }
    zk_stream_close(far);
    zk_stream_close(tcp);
    zk_tls_free(tls);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
}

/* It ends well, and then the connection does, as others that are idle. */
SITE_TEST(a_handshake_under_way_is_finished, {0}) { shake_while_stopping(x, h1_only); }
SITE_TEST(a_handshake_under_way_is_finished_for_h2, {0}) { shake_while_stopping(x, h2_first); }

/* The end of the draining is the end of handshakes, too. */
SITE_TEST(handshakes_end_with_the_draining, {.handshake_timeout_ms = -1}, .drain_timeout_ms = 500)
{
    zk_stream *silent = tcp_open(&x->s);
    begin_hello(silent, 1);
    settle_long();
    zk_serving_drain(x->s.serving);
    settle_long();
    pass_ms(501);
    settle_long();
    cr_assert_rc(x->s.rc, 0);
    zk_stream_close(silent);
}

/* ---- who the client is ---- */

SITE_TEST(handlers_see_who_the_client_is, {.client_verify = ZK_TLS_VERIFY_REQUEST})
{
    issued alice = issue("alice", &x->ca, NULL);
    for (int i = 0; i < 4; i++) {
        bool is_h2 = i / 2, is_alice = i % 2;
        char wanted[128];
        const char *text = is_alice ? "13 known alice" : "13 unknown ";
        size_t size = 9 + strlen(text);
        zk_tls *tls = client_new((zk_tls_client){
            .ca_file = x->ca.cert_file,
            .cert_file = is_alice ? alice.cert_file : NULL,
            .key_file = is_alice ? alice.key_file : NULL,
            .alpn = is_h2 ? h2_first : h1_only,
        });
        if (is_h2) {
            h2_client c;
            h2_client_open(&c, x, tls);
            h2_send(&c, "headers.eh 1 " H2_GET("/tells"));
            settle_long();
            snprintf(wanted, sizeof wanted,
                     "headers 1 200 content-length=%zu\ndata 1 %zu end https 20 %s\n", size, size,
                     text);
            h2_check(&c, wanted, text);
            h2_close(&c);
        } else {
            zk_stream *c = secure_open(x, tls);
            tcp_send(c, GET("/tells"));
            snprintf(wanted, sizeof wanted,
                     "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\nhttps 11 %s", size, text);
            tcp_expect(c, wanted, false);
            zk_stream_close(c);
        }
        zk_tls_free(tls);
    }
}

/* ---- starting ---- */

ZK_ASYNC_TEST(secure, a_server_without_its_certificate_does_not_start)
{
    ZK_SCOPE(scope) {
        server s;
        zk_tls_certificate certificates[] = {{"/nowhere/cert.pem", NULL, NULL}, {0}};
        zk_tls_server tls = {.certificates = certificates};
        server_start(&s, &scope, &(zk_server){.routes = routes, .tls = &tls});
        cr_assert_rc(s.rc, ZK_E_TLS_FILE);
    }
}
