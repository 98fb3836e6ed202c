/*
 * TLS streams: handshakes that succeed, that fail and that never end, and how connections end. What
 * all streams do is tested with them, in stream.c.
 */
#include "tests/net/tls_ends.h"
#include "tests/net/tls_renegotiate.h"

#include "net/socket.h"
#include "net/tls.h"

static void raw_write(zk_stream *inner, const void *data, size_t size)
{
    cr_assert_ok(zk_stream_write(inner, data, size));
}

/* What lies below a TLS stream. */
static zk_stream *inner_of(zk_stream *stream) { return ((zk__tls_stream *)(void *)stream)->inner; }
static SSL *engine_of(zk_stream *stream) { return ((zk__tls_stream *)(void *)stream)->ssl; }

static ends connected(zk_tls_server server, zk_tls_client client)
{
    return connect_tls(server, client, open_pair());
}

/* ---- handshakes ---- */

/* Both versions, and what is said about the connection. */
ZK_ASYNC_TEST(tls, two_sides_shake_hands_and_talk)
{
    static const zk_tls_version versions[] = {ZK_TLS_1_2, ZK_TLS_1_3};
    for (int i = 0; i < 2; i++) {
        ends e = connected((zk_tls_server){0}, (zk_tls_client){.version_max = versions[i]});
        talk(&e);
        zk_tls_info a, b;
        cr_assert_ok(zk_tls_info_get(e.a, &a));
        cr_assert_ok(zk_tls_info_get(e.b, &b));
        cr_assert(a.version == (int)versions[i] && b.version == (int)versions[i]);
        cr_assert(a.is_peer_verified && !b.is_peer_verified);
        cr_assert(!a.is_resumed && !b.is_resumed && !a.alpn.size);
        cr_assert_str_eq(a.cipher, b.cipher);
        cr_assert(b.server_name.size == 9 && !memcmp(b.server_name.data, "localhost", 9));
        ends_close(&e);
    }
}

ZK_ASYNC_TEST(tls, only_tls_streams_tell_about_tls)
{
    ends e = open_pair();
    zk_tls_info info;
    zk_tls_peer peer;
    zk_arena arena = {0};
    cr_assert_rc(zk_tls_info_get(e.a, &info), -EINVAL);
    cr_assert_rc(zk_tls_peer_get(e.a, &arena, &peer), -EINVAL);
    ends_close(&e);
}

ZK_ASYNC_TEST(tls, each_side_needs_its_own_configuration)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    ends e = open_pair();
    zk_stream *stream = NULL;
    cr_assert_rc(zk_tls_accept(p.client, e.b, &stream), ZK_E_CONFIG);
    cr_assert_rc(zk_tls_connect(p.server, e.a, "localhost", &stream), ZK_E_CONFIG);
    cr_assert_rc(zk_tls_connect(p.client, e.a, "", &stream), ZK_E_CONFIG);
    cr_assert_rc(zk_tls_connect(p.client, e.a, NULL, &stream), ZK_E_CONFIG);
    cr_assert_null(stream, "untouched");
    ends_close(&e);
    pki_done(&p);
}

/* A flight of a handshake that no buffer holds: the certificate's chain is 90 kB. */
ZK_ASYNC_TEST(tls, a_long_chain_of_certificates_passes)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    for (int i = 0; i < 180; i++)
        pem_write(p.leaf.cert_file, "a", NULL, p.ca.certificate);
    cr_assert_ok(zk_tls_reload(p.server));
    handshake h = shake_hands(p.server, p.client, "localhost", open_pair());
    cr_assert_rc(h.server, 0, "%.200s", h.server_trail);
    cr_assert_rc(h.client, 0, "%.200s", h.client_trail);
    talk(&h.e);
    ends_close(&h.e);
    pki_done(&p);
}

/* ---- what is no handshake ---- */

/* The server's result for a client that sends these bytes and ends. */
static int accept_raw(const void *data, size_t size, bool is_ending, char *trail)
{
    pki p = pki_new((zk_tls_server){.handshake_timeout_ms = 50}, (zk_tls_client){0});
    ends e = open_pair();
    zk_stream *stream = NULL;
    if (size) raw_write(e.a, data, size);
    if (is_ending) cr_assert_ok(zk_stream_shutdown(e.a));
    int rc = zk_tls_accept(p.server, e.b, &stream);
    snprintf(trail, 512, "%s", zk_trail());
    cr_assert_null(stream, "untouched");
    ends_close(&e);
    pki_done(&p);
    return rc;
}

ZK_ASYNC_TEST(tls, what_is_no_tls_is_refused)
{
    static const char huge[] = "\x16\x03\x01\x00\x05\x01\xff\xff\xff\x03";
    static const char alert[] = "\x15\x03\x01\x00\x02\x02\x28";
    static const char empty[] = "\x16\x03\x01\x00\x00";
    static const char data[] = "\x17\x03\x03\x00\x05hello";
    static const struct {
        const char *name, *bytes;
        size_t size;
        bool is_ending;
        int rc;
    } rows[] = {
        {"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, false, ZK_E_TLS_NOT_TLS},
        {"garbage", "\xff\xfe\xfd\xfc\xfb\xfa\x01\x02\x03\x04\x05\x06", 12, false,
         ZK_E_TLS_NOT_TLS},
        {"a hello of 16 MB", huge, 10, false, ZK_E_TLS_PROTOCOL},
        {"an alert", alert, 7, false, ZK_E_TLS_PROTOCOL},
        {"an empty record", empty, 5, false, ZK_E_TLS_TIMEOUT},
        {"data", data, 10, false, ZK_E_TLS_PROTOCOL},
        {"nothing", "", 0, true, ZK_E_TLS_TRUNCATED},
        {"half a record", huge, 7, true, ZK_E_TLS_TRUNCATED},
        {"silence", "", 0, false, ZK_E_TLS_TIMEOUT},
        {"half a record and silence", huge, 7, false, ZK_E_TLS_TIMEOUT},
    };
    char trail[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int rc = accept_raw(rows[i].bytes, rows[i].size, rows[i].is_ending, trail);
        cr_assert_rc(rc, rows[i].rc, "%s: %.150s", rows[i].name, trail);
        cr_assert(strstr(trail, "TLS handshake with a client"), "%s: %s", rows[i].name, trail);
    }
}

/* A client that connects to a server of HTTP. */
ZK_ASYNC_TEST(tls, a_server_that_speaks_no_tls_is_refused)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    ends e = open_pair();
    zk_stream *stream;
    raw_write(e.b, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    cr_assert_rc(zk_tls_connect(p.client, e.a, "localhost", &stream), ZK_E_TLS_NOT_TLS);
    ends_close(&e);
    pki_done(&p);
}

static int drip(void *arg)
{
    static const char record[] = "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03";
    zk_stream *stream = arg;
    for (size_t i = 0; i < 100000; i++) {
        char byte = i < 11 ? record[i] : 'x';
        int rc = zk_stream_write(stream, &byte, 1);
        if (rc < 0) return 0;
        rc = zk_sleep(ZK_MS(1));
        if (rc < 0) return rc;
    }
    return 0;
}

/* A byte every millisecond keeps no server busy for longer than it allows. */
ZK_ASYNC_TEST(tls, a_handshake_byte_by_byte_is_ended)
{
    pki p = pki_new((zk_tls_server){.handshake_timeout_ms = 60}, (zk_tls_client){0});
    ends e = open_pair();
    zk_stream *stream;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, drip, e.a));
        cr_assert_rc(zk_tls_accept(p.server, e.b, &stream), ZK_E_TLS_TIMEOUT);
        zk_scope_cancel(&s);
    }
    ends_close(&e);
    pki_done(&p);
}

static int flood(void *arg)
{
    static char record[5 + 16384] = "\x16\x03\x01\x40";
    zk_stream *stream = arg;
    /* Parts of a hello of 128 kB, again and again. */
    for (int i = 0; i < 200; i++) {
        memcpy(record + 5, i ? "" : "\x01\x01\xff\xff", i ? 0 : 4);
        int rc = zk_stream_write(stream, record, sizeof record);
        if (rc < 0) return 0;
    }
    return 0;
}

ZK_ASYNC_TEST(tls, a_hello_has_a_limit)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    ends e = open_pair();
    zk_stream *stream;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, flood, e.a));
        int rc = zk_tls_accept(p.server, e.b, &stream);
        cr_assert_rc(rc, ZK_E_TLS_PROTOCOL, "%.150s", zk_trail());
        zk_stream_close(e.b);
        e.b = NULL;
    }
    ends_close(&e);
    pki_done(&p);
}

/* ---- cancellation ---- */

static int accept_only(void *arg)
{
    connect_job *c = arg;
    return c->rc = zk_tls_accept(c->tls, c->inner, &c->stream);
}

static int connect_only(void *arg)
{
    connect_job *c = arg;
    return c->rc = zk_tls_connect(c->tls, c->inner, "localhost", &c->stream);
}

/* The inner stream stays the caller's. */
ZK_ASYNC_TEST(tls, a_handshake_can_be_cancelled)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    for (int is_client = 0; is_client < 2; is_client++) {
        for (int wait = 0; wait < 4; wait++) {
            ends e = open_pair();
            connect_job c = {.tls = is_client ? p.client : p.server, .inner = e.a};
            ZK_SCOPE(s) {
                cr_assert_ok(zk_spawn(&s, is_client ? connect_only : accept_only, (void *)&c));
                turns(wait);
                zk_scope_cancel(&s);
                (void)zk_scope_wait(&s);
            }
            cr_assert_rc(c.rc, -ECANCELED, "client: %d", is_client);
            ends_close(&e);
            e = open_pair();
            c.inner = e.a;
            ZK_WITHIN(ZK_MS(5)) {
                cr_assert_rc((is_client ? connect_only : accept_only)(&c), -ETIMEDOUT);
            }
            ends_close(&e);
        }
    }
    pki_done(&p);
}

/* ---- ends ---- */

ZK_ASYNC_TEST(tls, an_end_without_close_notify_is_an_error)
{
    char buf[8];
    for (int how = 0; how < 3; how++) {
        ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
        talk(&e);
        cr_assert_ok(zk_stream_write(e.a, "last", 4));
        cr_assert_ok(zk_stream_shutdown(inner_of(e.a)));
        cr_assert_ok(read_exactly(e.b, buf, 4));
        if (how == 1) cr_assert_rc(zk_stream_park(e.b, NULL, NULL), 1);
        ssize_t n = how == 0 ? zk_stream_try_read(e.b, buf, 1) : zk_stream_read(e.b, buf, 1);
        cr_assert_rc(n, ZK_E_TLS_TRUNCATED);
        cr_assert_rc(zk_stream_read(e.b, buf, 1), ZK_E_TLS_TRUNCATED, "for good");
        ends_close(&e);
    }
}

ZK_ASYNC_TEST(tls, one_side_may_end_before_the_other)
{
    char buf[8];
    static const zk_tls_version versions[] = {ZK_TLS_1_2, ZK_TLS_1_3};
    for (int i = 0; i < 4; i++) {
        ends e = connected((zk_tls_server){0}, (zk_tls_client){.version_max = versions[i / 2]});
        zk_stream *first = i % 2 ? e.a : e.b, *second = i % 2 ? e.b : e.a;
        cr_assert_ok(zk_stream_write(first, "bye", 3));
        cr_assert_ok(zk_stream_shutdown(first));
        cr_assert_rc(zk_stream_write(first, "x", 1), -EPIPE);
        cr_assert_ok(read_exactly(second, buf, 3));
        cr_assert_rc(zk_stream_read(second, buf, 1), 0);
        cr_assert_rc(zk_stream_read(second, buf, 1), 0, "again");
        cr_assert_ok(zk_stream_write(second, "answer", 6));
        cr_assert_ok(zk_stream_shutdown(second));
        cr_assert_ok(read_exactly(first, buf, 6));
        cr_assert_rc(zk_stream_read(first, buf, 1), 0);
        ends_close(&e);
    }
}

/* What a closed stream has accepted still arrives, behind it a clean end, without a task's help. */
ZK_ASYNC_TEST(tls, what_is_pending_follows_a_closed_stream)
{
    static char data[100000];
    ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
    size_t accepted = 0, got = 0;
    ssize_t n;
    while ((n = zk_stream_try_write(e.b, data, sizeof data)) > 0)
        accepted += (size_t)n;
    cr_assert_rc(n, -EAGAIN);
    zk_stream_close(e.b);
    e.b = NULL;
    while ((n = zk_stream_read(e.a, data, sizeof data)) > 0)
        got += (size_t)n;
    cr_assert_rc(n, 0);
    cr_assert_eq(got, accepted);
    cr_assert_gt(got, 16384u, "more than the pair holds");
    ends_close(&e);
}

/* The worker ends before that is sent: nothing is left behind. */
ZK_ASYNC_TEST(tls, what_is_pending_ends_with_the_worker)
{
    static char data[100000];
    ends e = open_tls_over(open_tcp());
    int peer = dup(zk__socket_stream_io(inner_of(e.a))->fd); /* open, and nobody reads */
    cr_assert_geq(peer, 0);
    zk_stream_close(e.a);
    while (zk_stream_try_write(e.b, data, sizeof data) > 0)
        continue;
    const zk__tls_worker *w = ((zk__tls_stream *)(void *)e.b)->worker;
    zk_stream_close(e.b);
    cr_assert_not_null(w->closed);
}

/* ---- hostile peers ---- */

ZK_ASYNC_TEST(tls, a_record_that_was_changed_ends_both_sides)
{
    static const char forged[] = "\x17\x03\x03\x00\x14"
                                 "01234567890123456789";
    char buf[8];
    ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
    talk(&e);
    raw_write(inner_of(e.a), forged, sizeof forged - 1);
    cr_assert_rc(zk_stream_read(e.b, buf, 1), ZK_E_TLS_PROTOCOL);
    cr_assert(strstr(zk_trail(), "bad record mac"), "%s", zk_trail());
    cr_assert_rc(zk_stream_write(e.b, "x", 1), ZK_E_TLS_PROTOCOL);
    cr_assert_rc(zk_stream_read(e.a, buf, 1), ZK_E_TLS_ALERT);
    cr_assert(strstr(zk_trail(), "bad record mac"), "%s", zk_trail());
    cr_assert_rc(zk_stream_write(e.a, "x", 1), ZK_E_TLS_ALERT);
    ends_close(&e);
}

/* A peer that has keys renewed for ever and reads none of the answers. */
ZK_ASYNC_TEST(tls, a_flood_of_key_updates_is_ended)
{
    char buf[8];
    ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
    talk(&e);
    SSL *client = engine_of(e.a);
    zk__tls_stream *a = (zk__tls_stream *)(void *)e.a;
    int rounds = 0;
    for (; rounds < 100000; rounds++) {
        zk__tls_begin(a);
        cr_assert(SSL_key_update(client, SSL_KEY_UPDATE_REQUESTED) > 0);
        cr_assert(SSL_do_handshake(client) > 0);
        zk__tls_end(a);
        ssize_t n = zk_stream_try_read(e.b, buf, 1);
        if (n == -EAGAIN) continue;
        cr_assert_rc(n, ZK_E_LIMIT);
        break;
    }
    cr_assert_lt(rounds, 20000);
    ends_close(&e);
}

/* Either side may ask; the other says no by a warning, and goes on as if nothing had been asked. */
ZK_ASYNC_TEST(tls, renegotiation_is_refused)
{
    char buf[8];
    for (int is_server = 0; is_server < 2; is_server++) {
        ends e = connected((zk_tls_server){0}, (zk_tls_client){.version_max = ZK_TLS_1_2});
        zk_stream *asker = is_server ? e.b : e.a, *other = is_server ? e.a : e.b;
        talk(&e);
        renegotiate(asker);
        cr_assert_rc(zk_stream_try_read(other, buf, 1), -EAGAIN);
        cr_assert_ok(zk_stream_write(other, "still", 5));
        cr_assert_eq(SSL_num_renegotiations(engine_of(other)), 0);
        cr_assert(!SSL_renegotiate_pending(engine_of(other)));
        cr_assert_ok(zk_stream_write(other, "here", 4));
        ends_close(&e);
    }
}

/* Who asks again and again, each time at the cost of a hello, is cut off. */
ZK_ASYNC_TEST(tls, a_flood_of_renegotiations_is_ended)
{
    char buf[8];
    ends e = connected((zk_tls_server){0}, (zk_tls_client){.version_max = ZK_TLS_1_2});
    talk(&e);
    /* HelloRequests cost the least; a server may send them, so the client is the one to hold out */
    zk__tls_stream *b = (zk__tls_stream *)(void *)e.b;
    SSL_clear_options(b->ssl, SSL_OP_NO_RENEGOTIATION);
    int rounds = 0;
    for (; rounds < 100000; rounds++) {
        zk__tls_begin(b);
        (void)SSL_renegotiate(b->ssl);
        (void)SSL_do_handshake(b->ssl);
        ERR_clear_error();
        zk__tls_end(b);
        ssize_t n = zk_stream_try_read(e.a, buf, 1);
        if (n == -EAGAIN) continue;
        cr_assert_rc(n, ZK_E_LIMIT);
        break;
    }
    cr_assert_lt(rounds, 20000);
    ends_close(&e);
}

typedef struct note {
    int count;
} note;

static void on_ready(void *context) { ((note *)context)->count++; }

/* Parking is about data: tickets, and parts of records, wake nobody. */
ZK_ASYNC_TEST(tls, what_brings_no_data_wakes_nobody)
{
    note n = {0};
    char buf[8];
    ends e = connected((zk_tls_server){.tickets = 4}, (zk_tls_client){0});
    cr_assert_rc(zk_stream_park(e.a, on_ready, &n), 0, "the tickets are there");
    turns(3);
    cr_assert_eq(n.count, 0);
    zk_stream_unpark(e.a);

    zk_stream *link = inner_of(e.a);
    ends split = open_pair();
    ((zk__tls_stream *)(void *)e.a)->inner = split.a; /* to let the record through in pieces */
    cr_assert_ok(zk_stream_write(e.a, "data", 4));
    ssize_t size = zk_stream_read(split.b, buf, sizeof buf);
    cr_assert_rc(size, (int)sizeof buf);
    cr_assert_rc(zk_stream_park(e.b, on_ready, &n), 0);
    raw_write(link, buf, sizeof buf);
    turns(3);
    cr_assert_eq(n.count, 0, "part of a record");
    char rest[64];
    size = zk_stream_read(split.b, rest, sizeof rest);
    cr_assert_gt(size, 0);
    raw_write(link, rest, (size_t)size);
    turns(3);
    cr_assert_eq(n.count, 1);
    cr_assert_rc(zk_stream_try_read(e.b, buf, sizeof buf), 4);
    ((zk__tls_stream *)(void *)e.a)->inner = link;
    ends_close(&split);
    ends_close(&e);
}

#if !ZK__TLS_LINKED

/* What a machine without OpenSSL, or with another one, is told; the one in use stays. */
ZK_ASYNC_TEST(tls, a_library_that_is_not_there)
{
    cr_assert_rc(zk__tls_library_load_from("libssl.so.none"), -ELIBACC);
    cr_assert(strstr(zk_trail(), "libssl.so.none: cannot open"), "%s", zk_trail());
    cr_assert_rc(zk__tls_library_load_from("libc.so.6"), -ELIBACC);
    cr_assert(strstr(zk_trail(), "libc.so.6 has no ASN1_"), "%s", zk_trail());
    ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
    talk(&e);
    ends_close(&e);
}

#endif

/* An idle connection owns no buffer. */
ZK_ASYNC_TEST(tls, idle_connections_own_no_buffers)
{
    note n = {0};
    ends e = connected((zk_tls_server){0}, (zk_tls_client){0});
    for (int i = 0; i < 3; i++)
        talk(&e);
    cr_assert_rc(zk_stream_park(e.b, on_ready, &n), 0);
    const zk__tls_stream *s = (const zk__tls_stream *)(void *)e.b;
    cr_assert(!s->in && !s->pending && !s->set);
    cr_assert_eq(SSL_alloc_buffers(engine_of(e.b)), 1);
    cr_assert_eq(SSL_free_buffers(engine_of(e.b)), 1, "free to go");
    zk_stream_unpark(e.b);
    talk(&e);
    ends_close(&e);
}
