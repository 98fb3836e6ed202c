/*
 * UDP: datagrams whole and apart, addresses, batches, errors, cancellation.
 */
#include <errno.h>

#include <zokio/udp.h>

#include "tests/async.h"

static zk_addr address(const char *text)
{
    zk_addr addr;
    cr_assert_ok(zk_addr_parse(text, &addr));
    return addr;
}

static zk_udp *opened(const char *text, zk_addr *ret_addr)
{
    zk_addr addr = address(text);
    zk_udp *udp;
    cr_assert_ok(zk_udp_open(&addr, NULL, &udp));
    cr_assert_ok(zk_udp_local(udp, ret_addr));
    return udp;
}

static const char *const locals[] = {"127.0.0.1:0", "[::1]:0"};

ZK_ASYNC_TEST(udp, datagrams_arrive_whole_with_their_senders_address)
{
    for (int i = 0; i < 2; i++) {
        zk_addr a_addr, b_addr, from;
        zk_udp *a = opened(locals[i], &a_addr), *b = opened(locals[i], &b_addr);
        char buf[100];
        cr_assert_ok(zk_udp_send(a, "one", 3, &b_addr));
        cr_assert_ok(zk_udp_send(a, "", 0, &b_addr));
        cr_assert_ok(zk_udp_send(a, "three", 5, &b_addr));
        cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, &from), 3);
        cr_assert(memcmp(buf, "one", 3) == 0);
        cr_assert(from.size == a_addr.size && memcmp(&from.sa, &a_addr.sa, from.size) == 0);
        cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 0);
        cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 5);
        zk_udp_close(a);
        zk_udp_close(b);
    }
}

typedef struct sender {
    zk_udp *udp;
    zk_addr to;
} sender;

static int send_later(void *arg)
{
    sender *s = arg;
    int rc = zk_sleep(ZK_MS(1));
    return rc < 0 ? rc : zk_udp_send(s->udp, "late", 4, &s->to);
}

ZK_ASYNC_TEST(udp, a_receive_waits_for_its_datagram)
{
    zk_addr a_addr, b_addr;
    zk_udp *a = opened(locals[0], &a_addr), *b = opened(locals[0], &b_addr);
    char buf[100];
    for (int i = 0; i < 3; i++) {
        sender s = {a, b_addr};
        zk_future f;
        zk_async(&f, send_later, &s);
        cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 4);
        cr_assert_ok(zk_await(&f));
    }
    zk_udp_close(a);
    zk_udp_close(b);
}

ZK_ASYNC_TEST(udp, a_cancelled_receive_takes_nothing)
{
    zk_addr a_addr, b_addr;
    zk_udp *a = opened(locals[0], &a_addr), *b = opened(locals[0], &b_addr);
    char buf[100];
    ssize_t n = 0;
    ZK_WITHIN(ZK_MS(1)) {
        n = zk_udp_recv(b, buf, sizeof buf, NULL);
    }
    cr_assert_rc(n, -ETIMEDOUT);
    cr_assert_ok(zk_udp_send(a, "x", 1, &b_addr));
    ZK_WITHIN(0) {
        n = zk_udp_recv(b, buf, sizeof buf, NULL);
    }
    cr_assert_rc(n, -ETIMEDOUT);
    cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 1);
    zk_udp_close(a);
    zk_udp_close(b);
}

ZK_ASYNC_TEST(udp, what_does_not_fit_is_an_error)
{
    zk_addr a_addr, b_addr;
    zk_udp *a = opened(locals[0], &a_addr), *b = opened(locals[0], &b_addr);
    char buf[4];
    static char huge[70000];
    cr_assert_ok(zk_udp_send(a, "12345", 5, &b_addr));
    cr_assert_rc(zk_udp_recv(b, buf, sizeof buf, NULL), -EMSGSIZE);
    cr_assert_ok(zk_udp_send(a, "1234", 4, &b_addr));
    cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 4);
    cr_assert_rc(zk_udp_send(a, huge, sizeof huge, &b_addr), -EMSGSIZE);
    cr_assert_rc(zk_udp_send(a, "x", 1, NULL), -EDESTADDRREQ);
    zk_udp_close(a);
    zk_udp_close(b);
}

/* A connected socket hears from its peer only, and that nobody is there. */
ZK_ASYNC_TEST(udp, a_connected_socket_has_one_peer)
{
    zk_addr a_addr, b_addr, c_addr;
    zk_udp *a = opened(locals[0], &a_addr), *b = opened(locals[0], &b_addr);
    zk_udp *c = opened(locals[0], &c_addr);
    char buf[10];
    cr_assert_ok(zk_udp_connect(a, &b_addr));
    cr_assert_ok(zk_udp_send(c, "stranger", 8, &a_addr));
    cr_assert_ok(zk_udp_send(b, "peer", 4, &a_addr));
    cr_assert_eq(zk_udp_recv(a, buf, sizeof buf, NULL), 4);
    cr_assert_ok(zk_udp_send(a, "hi", 2, NULL));
    cr_assert_eq(zk_udp_recv(b, buf, sizeof buf, NULL), 2);
    zk_udp_close(b);
    cr_assert_ok(zk_udp_send(a, "hi", 2, NULL));
    cr_assert_rc(zk_udp_recv(a, buf, sizeof buf, NULL), -ECONNREFUSED);
    zk_udp_close(a);
    zk_udp_close(c);
}

ZK_ASYNC_TEST(udp, batches_go_and_come_together)
{
    enum { COUNT = 100 };
    zk_addr a_addr, b_addr;
    zk_udp *a = opened(locals[0], &a_addr), *b = opened(locals[0], &b_addr);
    zk_datagram out[COUNT], in[COUNT];
    char bytes[COUNT], bufs[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        bytes[i] = (char)i;
        out[i] = (zk_datagram){.data = &bytes[i], .size = 1, .addr = b_addr};
        in[i] = (zk_datagram){.data = bufs[i], .size = sizeof bufs[i]};
    }
    cr_assert_eq(zk_udp_send_batch(a, out, COUNT), ZK_UDP_BATCH_MAX);
    cr_assert_eq(zk_udp_recv_batch(b, in, 10), 10);
    cr_assert_eq(zk_udp_recv_batch(b, in + 10, COUNT - 10), ZK_UDP_BATCH_MAX - 10);
    for (int i = 0; i < ZK_UDP_BATCH_MAX; i++) {
        cr_assert(in[i].size == 1 && bufs[i][0] == (char)i && !in[i].is_truncated);
        cr_assert(memcmp(&in[i].addr.sa, &a_addr.sa, a_addr.size) == 0);
    }
    cr_assert_ok(zk_udp_send(a, "123", 3, &b_addr));
    in[0].size = sizeof bufs[0];
    cr_assert_eq(zk_udp_recv_batch(b, in, 1), 1);
    cr_assert(in[0].is_truncated);
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = zk_udp_recv_batch(b, in, 4);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_rc(zk_udp_recv_batch(b, in, 0), -EINVAL);
    cr_assert_rc(zk_udp_send_batch(a, out, 0), -EINVAL);
    zk_udp_close(a);
    zk_udp_close(b);
}

ZK_ASYNC_TEST(udp, options_are_set_and_errors_told)
{
    zk_addr addr = address("127.0.0.1:0"), file = address("unix:/tmp/x"), bound;
    zk_udp_options options = {.is_port_shared = true,
                              .may_broadcast = true,
                              .receive_buffer_bytes = 100000,
                              .send_buffer_bytes = 100000,
                              .multicast_ttl = 2};
    zk_udp *one, *two;
    cr_assert_ok(zk_udp_open(&addr, &options, &one));
    cr_assert_ok(zk_udp_local(one, &bound));
    cr_assert_ok(zk_udp_open(&bound, &options, &two));
    zk_udp_close(two);
    cr_assert_rc(zk_udp_open(&bound, NULL, &two), -EADDRINUSE);
    cr_assert_rc(zk_udp_open(&file, NULL, &two), -EAFNOSUPPORT);
    zk_addr nowhere = address("127.0.0.1:9"), group = address("239.1.2.3:0");
    cr_assert_rc(zk_udp_join(one, &nowhere), -EINVAL);
    int rc = zk_udp_join(one, &group); /* -ENODEV where no interface takes multicast */
    cr_assert(rc == 0 || rc == -ENODEV, "%d", rc);
    cr_assert(rc < 0 || zk_udp_leave(one, &group) == 0);
    zk_udp_close(one);
    zk_udp_close(NULL);
}

static int use_elsewhere(void *arg)
{
    char buf[4];
    zk_addr addr = address("239.1.2.3:9");
    zk_datagram datagram = {.data = buf, .size = sizeof buf};
    cr_assert_rc(zk_udp_connect(arg, &addr), ZK_E_WORKER);
    cr_assert_rc(zk_udp_join(arg, &addr), ZK_E_WORKER);
    cr_assert_rc(zk_udp_leave(arg, &addr), ZK_E_WORKER);
    cr_assert_rc(zk_udp_local(arg, &addr), ZK_E_WORKER);
    cr_assert_rc(zk_udp_send(arg, "a", 1, NULL), ZK_E_WORKER);
    cr_assert_rc(zk_udp_send_batch(arg, &datagram, 1), ZK_E_WORKER);
    cr_assert_rc(zk_udp_recv_batch(arg, &datagram, 1), ZK_E_WORKER);
    return (int)zk_udp_recv(arg, buf, sizeof buf, NULL);
}

ZK_ASYNC_TEST_ON(udp, another_worker_may_not_use_it, 2)
{
    zk_addr addr;
    zk_udp *udp = opened(locals[0], &addr);
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn_on(&s, 1, use_elsewhere, udp));
        cr_assert_rc(zk_scope_wait(&s), ZK_E_WORKER);
    }
    zk_udp_close(udp);
}
