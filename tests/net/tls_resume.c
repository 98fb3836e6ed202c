/*
 * Resumption: a server's tickets and their keys, a client's memory of its servers.
 */
#include "tests/net/tls_ends.h"

#include "tests/sim.h"

/* Connects once and reads what the server sends behind the handshake. returns whether the session
 * was resumed, which both sides must agree about. */
static bool is_resumed(zk_tls *server, zk_tls *client, const char *host)
{
    char byte;
    zk_tls_info a, b;
    handshake h = shake_hands(server, client, host, open_pair());
    cr_assert_rc(h.client, 0, "%.150s", h.client_trail);
    cr_assert_rc(h.server, 0, "%.150s", h.server_trail);
    cr_assert_ok(zk_tls_info_get(h.e.a, &a));
    cr_assert_ok(zk_tls_info_get(h.e.b, &b));
    cr_assert_eq(a.is_resumed, b.is_resumed);
    cr_assert(a.is_peer_verified, "resumed or not");
    cr_assert_ok(zk_stream_write(h.e.b, "x", 1));
    cr_assert_rc(zk_stream_read(h.e.a, &byte, 1), 1);
    ends_close(&h.e);
    return a.is_resumed;
}

static const zk_tls_version versions[] = {ZK_TLS_1_2, ZK_TLS_1_3};

ZK_ASYNC_TEST(tls_resume, a_second_connection_resumes)
{
    for (int i = 0; i < 2; i++) {
        pki p = pki_new((zk_tls_server){0}, (zk_tls_client){.version_max = versions[i]});
        cr_assert(!is_resumed(p.server, p.client, "localhost"));
        for (int j = 0; j < 3; j++)
            cr_assert(is_resumed(p.server, p.client, "localhost"), "%d, %d", i, j);
        cr_assert(!is_resumed(p.server, p.client, "a.example.org"), "another host");
        cr_assert(is_resumed(p.server, p.client, "A.example.org."), "by its other spelling");
        cr_assert_ok(zk_tls_reload(p.server));
        cr_assert(is_resumed(p.server, p.client, "localhost"), "tickets outlive certificates");
        pki_done(&p);
    }
}

ZK_ASYNC_TEST(tls_resume, either_side_may_not_want_to)
{
    pki p = pki_new((zk_tls_server){.ticket_rotation_s = -1}, (zk_tls_client){0});
    cr_assert(!is_resumed(p.server, p.client, "localhost"));
    cr_assert(!is_resumed(p.server, p.client, "localhost"));
    pki_done(&p);
    p = pki_new((zk_tls_server){0}, (zk_tls_client){.sessions_max = -1});
    cr_assert(!is_resumed(p.server, p.client, "localhost"));
    cr_assert(!is_resumed(p.server, p.client, "localhost"));
    pki_done(&p);
}

ZK_ASYNC_TEST(tls_resume, a_client_remembers_so_many_hosts)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){.sessions_max = 2});
    cr_assert(!is_resumed(p.server, p.client, "a.example.org"));
    cr_assert(!is_resumed(p.server, p.client, "b.example.org"));
    cr_assert(is_resumed(p.server, p.client, "a.example.org"));
    cr_assert(!is_resumed(p.server, p.client, "c.example.org"), "in the place of b");
    cr_assert(is_resumed(p.server, p.client, "a.example.org"));
    cr_assert(!is_resumed(p.server, p.client, "b.example.org"));
    pki_done(&p);
}

/* Another server does not know the key. */
ZK_ASYNC_TEST(tls_resume, a_ticket_of_another_server_is_worth_nothing)
{
    for (int i = 0; i < 2; i++) {
        pki p = pki_new((zk_tls_server){0}, (zk_tls_client){.version_max = versions[i]});
        zk_tls *other;
        zk_tls_certificate certificates[] = {{p.leaf.cert_file, p.leaf.key_file, NULL}, {0}};
        cr_assert_ok(zk_tls_server_new(&(zk_tls_server){.certificates = certificates}, &other));
        cr_assert(!is_resumed(p.server, p.client, "localhost"));
        cr_assert(!is_resumed(other, p.client, "localhost"));
        cr_assert(is_resumed(other, p.client, "localhost"));
        zk_tls_free(other);
        pki_done(&p);
    }
}

/* An identity from a ticket counts, but only as long as its authority does. */
ZK_ASYNC_TEST(tls_resume, tickets_keep_the_client_s_identity)
{
    issued authority = issue("clients", NULL, NULL), alice = issue("alice", &authority, NULL);
    issued next = issue("next", NULL, NULL);
    pki p = pki_new((zk_tls_server){.client_verify = ZK_TLS_VERIFY_REQUEST,
                                    .client_ca_file = authority.cert_file},
                    (zk_tls_client){.cert_file = alice.cert_file, .key_file = alice.key_file});
    cr_assert(!is_resumed(p.server, p.client, "localhost"));
    char byte;
    zk_arena arena = {0};
    zk_tls_peer peer;
    zk_tls_info info;
    handshake h = shake_hands(p.server, p.client, "localhost", open_pair());
    cr_assert_rc(h.server, 0);
    cr_assert_ok(zk_tls_info_get(h.e.b, &info));
    cr_assert(info.is_resumed && info.is_peer_verified);
    cr_assert_ok(zk_tls_peer_get(h.e.b, &arena, &peer));
    cr_assert(peer.is_verified && !memcmp(peer.common_name.data, "alice", 5));
    cr_assert_ok(zk_stream_write(h.e.b, "x", 1));
    cr_assert_rc(zk_stream_read(h.e.a, &byte, 1), 1);
    ends_close(&h.e);
    zk_arena_done(&arena);

    pem_write(authority.cert_file, "a", NULL, next.certificate);
    cr_assert_ok(zk_tls_reload(p.server));
    cr_assert(!is_resumed(p.server, p.client, "localhost"), "others are trusted now");
    pki_done(&p);
}

/* ---- in simulated time ---- */

/* A key encrypts for an hour and is accepted for one more. */
static int rotate(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        pki p = pki_new((zk_tls_server){0}, (zk_tls_client){.version_max = versions[i]});
        cr_assert(!is_resumed(p.server, p.client, "localhost"));
        cr_assert_ok(zk_sleep(ZK_SEC(3500)));
        cr_assert(is_resumed(p.server, p.client, "localhost"), "with the key of the first hour");
        cr_assert_ok(zk_sleep(ZK_SEC(3500)));
        cr_assert(is_resumed(p.server, p.client, "localhost"), "with the key before");
        cr_assert_ok(zk_sleep(ZK_SEC(3500)));
        cr_assert(is_resumed(p.server, p.client, "localhost"), "with the key of 7,000 s");
        cr_assert_ok(zk_sleep(ZK_SEC(7201)));
        cr_assert(!is_resumed(p.server, p.client, "localhost"), "too old");
        pki_done(&p);
    }
    return 0;
}

ZK_TEST(tls_resume, keys_are_rotated)
{
    int rc = zk_sim_run(1, NULL, rotate, NULL);
    cr_assert_rc(rc, 0, "%.200s", zk_trail());
}

/* What is pending when a stream is closed is given up once nobody has taken any for 30 s. */
static int linger(void *arg)
{
    (void)arg;
    static char data[200000];
    ends e = open_tls_over(open_pair());
    ssize_t n = zk_stream_try_write(e.b, data, sizeof data), got = 0;
    cr_assert_gt(n, 0);
    zk_stream_close(e.b);
    cr_assert_ok(zk_sleep(ZK_SEC(29)));
    cr_assert_gt(zk_stream_try_read(e.a, data, 100), 0);
    cr_assert_ok(zk_sleep(ZK_SEC(31)));
    ssize_t piece;
    while ((piece = zk_stream_read(e.a, data, sizeof data)) > 0)
        got += piece;
    cr_assert_rc(piece, ZK_E_TLS_TRUNCATED, "cut off");
    cr_assert_lt(got + 100, n);
    zk_stream_close(e.a);
    return 0;
}

ZK_TEST(tls_resume, what_nobody_takes_is_given_up)
{
    int rc = zk_sim_run(1, NULL, linger, NULL);
    cr_assert_rc(rc, 0, "%.200s", zk_trail());
}

typedef struct hunt {
    zk_tls *server, *client;
    zk_addr addr;
    zk_listener *listener;
} hunt;

static int hunt_client(void *arg)
{
    hunt *x = *(hunt **)arg;
    zk_stream *inner, *stream;
    static char data[3000];
    int rc = zk_connect(&x->addr, &inner);
    if (rc < 0) return 0;
    rc = zk_tls_connect(x->client, inner, "localhost", &stream);
    if (rc < 0) {
        zk_stream_close(inner);
        return 0;
    }
    size_t got = 0;
    ssize_t n = 1;
    for (int i = 0; !rc && i < 20; i++)
        rc = zk_stream_write(stream, data, sizeof data);
    if (!rc) rc = zk_stream_shutdown(stream);
    while (!rc && (n = zk_stream_read(stream, data, sizeof data)) > 0)
        got += (size_t)n;
    zk_stream_close(stream);
    /* A clean end has all that was sent before it. */
    return !rc && n == 0 && got != 20 * sizeof data ? -EBADMSG : 0;
}

static int hunt_echo(void *arg)
{
    hunt *x = *(hunt **)arg;
    zk_stream *inner, *stream;
    int rc = zk_accept(x->listener, &inner);
    if (rc < 0) return rc;
    rc = zk_tls_accept(x->server, inner, &stream);
    if (rc < 0) {
        zk_stream_close(inner);
        return 0;
    }
    int64_t copied = zk_stream_copy(stream, stream);
    if (copied >= 0) (void)zk_stream_shutdown(stream);
    zk_stream_close(stream);
    return 0;
}

static int hunt_run(void *arg)
{
    hunt *x = arg;
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &x->addr));
    int rc = zk_listen(&x->addr, NULL, &x->listener);
    if (rc < 0) return 0;
    rc = zk_listener_addr(x->listener, &x->addr);
    ZK_SCOPE(all) {
        for (int i = 0; i < 3 && !rc; i++) {
            ZK_SCOPE(s) {
                (void)zk_spawn(&s, hunt_echo, &x);
                zk_future f;
                zk_async(&f, hunt_client, &x);
                rc = zk_await(&f);
                zk_scope_cancel(&s);
            }
        }
    }
    zk_listener_close(x->listener);
    /* What was closed with something to do is done by then. */
    ZK_SHIELD {
        (void)zk_sleep(ZK_SEC(40));
    }
    return rc == -EBADMSG ? rc : 0;
}

/* Short reads and writes, resets, exhaustion: what arrives is whole, and nothing is left behind. */
ZK_TEST(tls_resume, connections_survive_faults_or_fail_cleanly)
{
    folder_make();
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    hunt x = {.server = p.server, .client = p.client};
    const zk_sim_options kinds_of_faults[] = {
        ZK_SIM_FAULTS,
        {.short_read_chance = 500, .short_write_chance = 500},
        {.out_of_memory_chance = 20},
    };
    for (int i = 0; i < 3; i++) {
        for (uint64_t seed = 1; seed <= 30; seed++) {
            int rc = zk_sim_run(seed, &kinds_of_faults[i], hunt_run, &x);
            bool is_fine = rc == 0 || rc == -ENOMEM;
            cr_assert(is_fine, "%d, seed %d: %s", i, (int)seed, zk_trail());
        }
    }
    pki_done(&p);
}
