/*
 * kTLS. Each test holds on any kernel: where that does not encrypt, OpenSSL does, and nobody else
 * sees a difference. ZOKIO_TEST_KTLS says that the kernel has to: ./dev test --ktls boots one.
 */
#include "tests/net/tls_ends.h"

#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <zokio/file.h>

#include "net/tls.h"

enum { SIZE = 5 << 20 };
static char content[SIZE];

static void content_make(void)
{
    uint32_t x = 1;
    for (size_t i = 0; i < SIZE; i++) {
        x = x * 1664525 + 1013904223;
        content[i] = (char)(x >> 24);
    }
}

static zk__tls_stream *tls_of(zk_stream *stream) { return (zk__tls_stream *)(void *)stream; }

static bool is_sent_by_kernel(const zk_stream *stream)
{
    zk_tls_info info;
    cr_assert_ok(zk_tls_info_get(stream, &info));
    return info.is_sent_by_kernel;
}

/* Asks the kernel itself. */
static bool kernel_has_it(void)
{
    ends e = open_tcp();
    cr_assert_ok(zk_stream_try_write(e.a, "", 0));
    bool has_it = !setsockopt(e.a->ops->io(e.a)->fd, IPPROTO_TCP, TCP_ULP, "tls", 4);
    cr_assert(has_it || !getenv("ZOKIO_TEST_KTLS"), "this kernel has no TLS");
    ends_close(&e);
    return has_it;
}

/* Both sides may have the kernel encrypt. */
static ends open_both(zk_tls_version version)
{
    ends e = connect_tls((zk_tls_server){.ktls = true},
                         (zk_tls_client){.ktls = true, .version_max = version}, open_tcp());
    bool has_it = kernel_has_it();
    cr_assert(is_sent_by_kernel(e.a) == has_it && is_sent_by_kernel(e.b) == has_it);
    return e;
}

static const zk_tls_version versions[] = {ZK_TLS_1_2, ZK_TLS_1_3};
enum { VERSIONS = sizeof versions / sizeof *versions };

/* ---- who encrypts ---- */

ZK_ASYNC_TEST(tls_kernel, both_sides_talk_and_end_cleanly)
{
    char byte;
    for (int i = 0; i < VERSIONS; i++) {
        ends e = open_both(versions[i]);
        for (int k = 0; k < 100; k++)
            talk(&e);
        cr_assert_ok(zk_stream_shutdown(e.a));
        cr_assert_rc(zk_stream_write(e.a, "x", 1), -EPIPE);
        cr_assert_rc(zk_stream_read(e.b, &byte, 1), 0);
        cr_assert_ok(zk_stream_write(e.b, "y", 1));
        zk_stream_close(e.b);
        cr_assert_rc(zk_stream_read(e.a, &byte, 1), 1);
        cr_assert_rc(zk_stream_read(e.a, &byte, 1), 0);
        zk_stream_close(e.a);
    }
}

/* Only TCP sockets are for that; it is off unless asked for. */
ZK_ASYNC_TEST(tls_kernel, other_streams_and_the_default_are_as_ever)
{
    zk_tls_server server = {.ktls = true};
    zk_tls_client client = {.ktls = true};
    ends all[] = {
        connect_tls(server, client, open_pair()),
        connect_tls(server, client, open_unix()),
        connect_tls(server, client, open_tls_over(open_tcp())),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cr_assert(!is_sent_by_kernel(all[i].a) && !is_sent_by_kernel(all[i].b), "%zu", i);
        talk(&all[i]);
        ends_close(&all[i]);
    }
    if (getenv("ZOKIO_TEST_KTLS")) return; /* there it is the default */
    ends e = connect_tls((zk_tls_server){0}, client, open_tcp());
    cr_assert(!is_sent_by_kernel(e.b) && is_sent_by_kernel(e.a) == kernel_has_it());
    talk(&e);
    ends_close(&e);
}

ZK_ASYNC_TEST(tls_kernel, every_cipher_that_we_offer_is_known)
{
    static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};
    static const char *const ciphers[] = {"ECDHE+AES128+AESGCM", "ECDHE+AES256+AESGCM",
                                          "ECDHE+CHACHA20"};
    bool has_it = kernel_has_it();
    for (int i = 0; i < 3 * VERSIONS; i++) {
        pki p = pki_new((zk_tls_server){.ktls = true},
                        (zk_tls_client){.ktls = true, .version_max = versions[i % VERSIONS]});
        SSL_CTX *ctx = p.client->set->identities[0].ctx;
        cr_assert(SSL_CTX_set_ciphersuites(ctx, suites[i / VERSIONS]) > 0);
        cr_assert(SSL_CTX_set_cipher_list(ctx, ciphers[i / VERSIONS]) > 0);
        handshake h = shake_hands(p.server, p.client, "localhost", open_tcp());
        cr_assert_rc(h.client, 0, "%.200s", h.client_trail);
        cr_assert(is_sent_by_kernel(h.e.a) == has_it && is_sent_by_kernel(h.e.b) == has_it, "%d %s",
                  i, suites[i / VERSIONS]);
        talk(&h.e);
        ends_close(&h.e);
        pki_done(&p);
    }
}

/* A ticket comes as a record of its own kind, from a side whose data goes past OpenSSL. */
ZK_ASYNC_TEST(tls_kernel, sessions_are_resumed)
{
    for (int i = 0; i < VERSIONS; i++) {
        pki p = pki_new((zk_tls_server){.ktls = true, .tickets = 3},
                        (zk_tls_client){.ktls = true, .version_max = versions[i]});
        for (int k = 0; k < 3; k++) {
            handshake h = shake_hands(p.server, p.client, "localhost", open_tcp());
            zk_tls_info info;
            cr_assert_rc(h.client, 0, "%.200s", h.client_trail);
            cr_assert_ok(zk_tls_info_get(h.e.b, &info));
            cr_assert(info.is_resumed == (k > 0) && info.is_sent_by_kernel == kernel_has_it());
            talk(&h.e);
            ends_close(&h.e);
        }
        pki_done(&p);
    }
}

/* ---- bytes ---- */

typedef struct sending {
    zk_stream *to;
    zk_file *file; /* NULL: content */
} sending;

/* Pieces of all sizes, also of several parts. */
static int send_task(void *arg)
{
    sending *s = arg;
    size_t piece = 1, done = 0;
    while (done < SIZE) {
        size_t n = piece < SIZE - done ? piece : SIZE - done, half = n / 3;
        struct iovec iov[] = {{content + done, half}, {content + done + half, n - half}};
        int rc = s->file && piece % 2 ? zk_stream_send_file(s->to, s->file, (int64_t)done, n)
                                      : zk_stream_writev(s->to, iov, 2);
        if (rc < 0) return rc;
        done += n;
        piece = piece * 3 % 300007 + 1;
    }
    return zk_stream_shutdown(s->to);
}

/* What is there from `done` to `size`, and the end. */
static void receive_all(zk_stream *from, size_t done, size_t size)
{
    static char buf[100000];
    for (;;) {
        ssize_t n = zk_stream_read(from, buf, sizeof buf);
        cr_assert_ok(n);
        if (!n) break;
        cr_assert(done + (size_t)n <= size && !memcmp(buf, content + done, (size_t)n), "%zu", done);
        done += (size_t)n;
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_yield());
    }
    cr_assert(done == size, "%zu of %zu", done, size);
}

/* Either side, and a receiver that is slower than the sender. */
ZK_ASYNC_TEST(tls_kernel, much_arrives_as_it_was_written)
{
    content_make();
    for (int i = 0; i < 2 * VERSIONS; i++) {
        ends e = open_both(versions[i / 2]);
        sending s = {i % 2 ? e.a : e.b, NULL};
        zk_future f;
        zk_async(&f, send_task, &s);
        receive_all(i % 2 ? e.b : e.a, 0, SIZE);
        cr_assert_ok(zk_await(&f));
        ends_close(&e);
    }
}

static zk_file *file_make(void)
{
    zk_file *file;
    if (!folder[0]) folder_make();
    content_make();
    cr_assert_ok(zk_file_write_all(in_folder("content"), content, SIZE, NULL));
    cr_assert_ok(zk_file_open(in_folder("content"), O_RDONLY, 0, &file));
    return file;
}

/* Between other writes, which it must not overtake. */
ZK_ASYNC_TEST(tls_kernel, files_arrive_as_they_are)
{
    zk_file *file = file_make();
    for (int i = 0; i < VERSIONS; i++) {
        ends e = open_both(versions[i]);
        sending s = {e.b, file};
        zk_future f;
        zk_async(&f, send_task, &s);
        receive_all(e.a, 0, SIZE);
        cr_assert_ok(zk_await(&f));
        cr_assert_rc(zk_stream_send_file(e.b, file, 0, 10), -EPIPE);
        ends_close(&e);
    }
    cr_assert_ok(zk_file_close(file));
}

/* It is the kernel that copies: user space has not read the file. */
ZK_ASYNC_TEST(tls_kernel, a_file_is_sent_by_sendfile)
{
    zk_file *file = file_make();
    ends e = open_both(ZK_TLS_1_3);
    ssize_t n = zk__stream_send_file_some(e.b, file, 0, 1000);
    cr_assert_rc(n, kernel_has_it() ? 1000 : -EOPNOTSUPP);
    ends_close(&e);
    cr_assert_ok(zk_file_close(file));
}

/* ---- full sockets ---- */

static size_t fill(zk_stream *to)
{
    size_t done = 0;
    for (;;) {
        ssize_t n = zk_stream_try_write(to, content + done, 30011);
        if (n == -EAGAIN) return done;
        cr_assert_gt(n, 0);
        done += (size_t)n;
        cr_assert(done + 30011 < SIZE);
    }
}

/* Small buffers, so that much of what was taken is still on its way. */
static ends open_narrow(zk_tls_version version)
{
    ends e = open_both(version);
    int bytes = 64 * 1024;
    zk_stream *b = tls_of(e.b)->inner, *a = tls_of(e.a)->inner;
    cr_assert(!setsockopt(b->ops->io(b)->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
    cr_assert(!setsockopt(a->ops->io(a)->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
    return e;
}

ZK_ASYNC_TEST(tls_kernel, a_write_that_is_cancelled_has_had_no_effect)
{
    content_make();
    zk_file *file = file_make();
    for (int i = 0; i < 2 * VERSIONS; i++) {
        ends e = open_narrow(versions[i / 2]);
        size_t done = fill(e.b);
        for (int rc = 0; !rc; done += !rc) { /* the receiver's poller may take some more */
            ZK_WITHIN(ZK_MS(20)) {
                rc = i % 2 ? zk_stream_send_file(e.b, file, (int64_t)done, 1)
                           : zk_stream_write(e.b, content + done, 1);
            }
            cr_assert_rc(rc, rc ? -ETIMEDOUT : 0);
        }
        char *got = malloc(done);
        cr_assert_ok(read_exactly(e.a, got, done));
        cr_assert(!memcmp(got, content, done));
        free(got);
        talk(&e);
        ends_close(&e);
    }
    cr_assert_ok(zk_file_close(file));
}

/* What the kernel has taken must not be lost, and the end comes behind it: however much room there
 * is by then. */
ZK_ASYNC_TEST(tls_kernel, closing_loses_nothing_that_was_written)
{
    static char some[40 * 4096];
    content_make();
    for (size_t i = 0; i < 40; i++) {
        ends e = open_narrow(versions[i % VERSIONS]);
        size_t done = fill(e.b), read = i * 4096 < done ? i * 4096 : done;
        cr_assert_ok(read_exactly(e.a, some, read));
        cr_assert(!memcmp(some, content, read));
        zk_stream_close(e.b);
        receive_all(e.a, read, done);
        zk_stream_close(e.a);
    }
}

/* A room is told of to whoever has found none. */
static int room_task(void *arg)
{
    ends *e = arg;
    return (int)zk_stream_splice(e->a, e->b, SIZE);
}

ZK_ASYNC_TEST(tls_kernel, streams_are_spliced_into_it)
{
    content_make();
    ends e = open_both(ZK_TLS_1_3), plain = open_tcp();
    ends between = {plain.b, e.b};
    sending s = {plain.a, NULL};
    zk_future f, g;
    zk_async(&f, send_task, &s);
    zk_async(&g, room_task, &between);
    char *got = malloc(SIZE);
    cr_assert_ok(read_exactly(e.a, got, SIZE));
    cr_assert(!memcmp(got, content, SIZE));
    free(got);
    cr_assert_ok(zk_await(&f));
    cr_assert_rc(zk_await(&g), SIZE);
    ends_close(&e);
    ends_close(&plain);
}

/* ---- keys ---- */

static void update_keys(zk_stream *stream, int kind)
{
    zk__tls_stream *s = tls_of(stream);
    zk__tls_begin(s);
    cr_assert(SSL_key_update(s->ssl, kind) > 0);
    cr_assert(SSL_do_handshake(s->ssl) > 0);
    zk__tls_end(s);
}

/* RFC 8446 section 4.6.3: the peer may change its own keys, and ask for ours to be changed. */
ZK_ASYNC_TEST(tls_kernel, new_keys_are_taken_but_not_made)
{
    if (getenv("ZOKIO_TEST_KTLS")) unsetenv("ZOKIO_TEST_KTLS"); /* the client asks its engine */
    bool has_it = kernel_has_it();
    char byte;
    ends e = connect_tls((zk_tls_server){.ktls = true}, (zk_tls_client){0}, open_tcp());
    cr_assert(is_sent_by_kernel(e.b) == has_it && !is_sent_by_kernel(e.a));
    update_keys(e.a, SSL_KEY_UPDATE_NOT_REQUESTED);
    talk(&e);
    update_keys(e.a, SSL_KEY_UPDATE_REQUESTED);
    if (has_it) {
        cr_assert_ok(zk_stream_write(e.a, "x", 1));
        cr_assert_rc(zk_stream_read(e.b, &byte, 1), 1, "what came with it");
        cr_assert_rc(zk_stream_read(e.b, &byte, 1), -EOPNOTSUPP);
        cr_assert(strstr(zk_trail(), "new keys"), "%s", zk_trail());
        cr_assert_rc(zk_stream_write(e.b, "x", 1), -EOPNOTSUPP);
        cr_assert_rc(zk_stream_read(e.a, &byte, 1), ZK_E_TLS_ALERT);
        cr_assert(strstr(zk_trail(), "internal error"), "%s", zk_trail());
    } else {
        talk(&e);
    }
    ends_close(&e);
}
