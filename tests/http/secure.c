/*
 * HTTP over TLS: what is agreed upon in the handshake, certificates that change while the server
 * runs, and whom a handler sees. How it stops is in secure_stop.c.
 */
#include "tests/http/site.h"

/* ---- protocols ---- */

/* RFC 7301, and RFC 9113 section 3.2: one port, and the client's offer decides. */
SITE_TEST(secure, both_protocols_share_a_port, {0})
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
SITE_TEST(secure, nobody_speaks_another_protocol_than_agreed, {0})
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

SITE_TEST(secure, a_client_of_other_protocols_only_is_refused, {0})
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
SITE_TEST(secure, plain_http_is_told_that_this_is_tls, {0})
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
SITE_TEST(secure, ends_are_clean, {0})
{
    char byte;
    zk_tls *tls = blind_new(NULL);
    zk_stream *c = secure_open(x, tls);
    tcp_send(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    tcp_expect(c, LAST_EMPTY, true);
    zk_stream_close(c);

    c = secure_open(x, tls);
    pass_ms(75001);
    cr_assert_rc(zk_stream_read(c, &byte, 1), 0, "the idle timeout");
    zk_stream_close(c);
    zk_tls_free(tls);
}

/* A body that is cut off is none, whether the client says that it ends or not. */
SITE_TEST(secure, bodies_that_are_cut_off_are_errors, {0})
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
SITE_TEST(secure, certificates_are_renewed_while_connections_live, {0})
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

SITE_TEST(secure, a_broken_certificate_changes_nothing, {0})
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
        struct sigaction action;
        cr_assert(!sigaction(SIGHUP, NULL, &action) && action.sa_handler == SIG_DFL, "as before");
    }
}

/* ---- who the client is ---- */

SITE_TEST(secure, handlers_see_who_the_client_is, {.client_verify = ZK_TLS_VERIFY_REQUEST})
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
