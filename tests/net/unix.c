/*
 * Descriptors over Unix sockets, pipes, and streams of descriptors.
 */
#include <errno.h>
#include <fcntl.h>

#include <zokio/unix.h>

#include "tests/net/streams.h"

static int open_null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

static int fds_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static ends open_unix_pair(void)
{
    ends e;
    cr_assert_ok(zk_unix_pair(&e.a, &e.b));
    return e;
}

ZK_ASYNC_TEST(unix_socket, descriptors_arrive_with_their_bytes)
{
    ends e = open_unix_pair();
    int pipe_ends[2], got[4], before = 0;
    size_t count = 9;
    char buf[16];
    cr_assert(pipe(pipe_ends) == 0);
    before = fds_open();
    cr_assert_ok(zk_unix_send_fds(e.a, "two", 3, pipe_ends, 2));
    cr_assert_eq(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 4, &count), 3);
    cr_assert_eq(count, 2u);
    cr_assert_eq(fds_open(), before + 2);
    cr_assert(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
    cr_assert(write(got[1], "through", 7) == 7 && read(pipe_ends[0], buf, sizeof buf) == 7);
    cr_assert_ok(zk_stream_write(e.a, "none", 4));
    cr_assert_eq(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 4, &count), 4);
    cr_assert_eq(count, 0u);
    cr_assert_ok(zk_stream_shutdown(e.a));
    cr_assert_eq(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 4, &count), 0);
    ends_close(&e);
}

static int send_later(void *arg)
{
    int fd = open_null();
    int rc = zk_sleep(ZK_MS(1));
    if (rc == 0) rc = zk_unix_send_fds(arg, "x", 1, &fd, 1);
    close(fd);
    return rc;
}

ZK_ASYNC_TEST(unix_socket, a_receive_waits_and_is_cancelled_without_loss)
{
    ends e = open_unix_pair();
    int got[1];
    size_t count = 0;
    char buf[4];
    ssize_t n = 0;
    ZK_WITHIN(ZK_MS(1)) {
        n = zk_unix_recv_fds(e.b, buf, sizeof buf, got, 1, &count);
    }
    cr_assert_rc(n, -ETIMEDOUT);
    for (int i = 0; i < 3; i++) {
        zk_future f;
        zk_async(&f, send_later, e.a);
        cr_assert_eq(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 1, &count), 1);
        cr_assert_eq(count, 1u);
        close(got[0]);
        cr_assert_ok(zk_await(&f));
    }
    ends_close(&e);
}

/* A read stops after bytes with descriptors: what follows them is there nevertheless. */
ZK_ASYNC_TEST(unix_socket, a_plain_reader_reads_on_behind_descriptors)
{
    ends e = open_unix();
    int fd = open_null();
    char buf[16];
    size_t size = 0;
    int rc = 0;
    ZK_WITHIN(ZK_MS(1)) {
        rc = (int)zk_stream_read(e.b, buf, sizeof buf);
    }
    cr_assert_rc(rc, -ETIMEDOUT);
    cr_assert_ok(zk_unix_send_fds(e.a, "abc", 3, &fd, 1));
    cr_assert_ok(zk_stream_write(e.a, "def", 3));
    while (size < 6) {
        ssize_t n = zk_stream_read(e.b, buf + size, sizeof buf - size);
        cr_assert_gt(n, 0);
        size += (size_t)n;
    }
    cr_assert_arr_eq(buf, "abcdef", 6);
    close(fd);
    ends_close(&e);
}

ZK_ASYNC_TEST(unix_socket, surplus_descriptors_are_closed)
{
    ends e = open_unix_pair();
    int fds[3] = {open_null(), open_null(), open_null()}, got[2], before = fds_open();
    size_t count = 7;
    char buf[4];
    cr_assert_ok(zk_unix_send_fds(e.a, "x", 1, fds, 3));
    cr_assert_rc(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 2, &count), -EMSGSIZE);
    cr_assert_eq(fds_open(), before);
    cr_assert_eq(count, 7u);
    ends_close(&e);
}

ZK_ASYNC_TEST(unix_socket, accepted_streams_pass_descriptors_too)
{
    ends e = open_unix();
    int fd = open_null(), got[1];
    size_t count = 0;
    char buf[4];
    zk_unix_peer peer;
    cr_assert_ok(zk_unix_send_fds(e.a, "x", 1, &fd, 1));
    cr_assert_eq(zk_unix_recv_fds(e.b, buf, sizeof buf, got, 1, &count), 1);
    cr_assert_eq(count, 1u);
    cr_assert_ok(zk_unix_peer_of(e.b, &peer));
    cr_assert(peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
    close(got[0]);
    close(fd);
    ends_close(&e);
}

/* Much data goes after the descriptors, held up by the reader. */
static int send_much(void *arg)
{
    static char much[1 << 20];
    int fd = open_null();
    int rc = zk_unix_send_fds(arg, much, sizeof much, &fd, 1);
    close(fd);
    return rc;
}

ZK_ASYNC_TEST(unix_socket, a_large_message_waits_for_its_reader)
{
    ends e = open_unix_pair();
    static char buf[65536];
    int got[1];
    size_t count, total = 0, fds = 0;
    zk_future f;
    zk_async(&f, send_much, e.a);
    while (total < 1 << 20) {
        ssize_t n = zk_unix_recv_fds(e.b, buf, sizeof buf, got, 1, &count);
        cr_assert_gt(n, 0);
        total += (size_t)n;
        if (count) close(got[0]);
        fds += count;
    }
    cr_assert_ok(zk_await(&f));
    cr_assert(total == 1 << 20 && fds == 1);
    ends_close(&e);
}

ZK_ASYNC_TEST(unix_socket, misuse_is_told)
{
    ends tcp = open_tcp(), pair = open_pair(), e = open_unix_pair();
    int fds[1] = {-1}, got[1];
    size_t count;
    char buf[4];
    zk_unix_peer peer;
    cr_assert_rc(zk_unix_send_fds(tcp.a, "x", 1, NULL, 0), -EOPNOTSUPP);
    cr_assert_rc(zk_unix_send_fds(pair.a, "x", 1, NULL, 0), -EOPNOTSUPP);
    cr_assert_rc(zk_unix_recv_fds(pair.a, buf, 1, got, 1, &count), -EOPNOTSUPP);
    cr_assert_rc(zk_unix_send_fds(e.a, "x", 0, NULL, 0), -EINVAL);
    cr_assert_rc(zk_unix_send_fds(e.a, "x", 1, fds, 1), -EBADF);
    cr_assert_rc(zk_unix_send_fds(e.a, "x", 1, fds, ZK_UNIX_FDS_MAX + 1), -EINVAL);
    cr_assert_rc(zk_unix_recv_fds(e.b, buf, 0, got, 1, &count), -EINVAL);
    cr_assert_rc(zk_unix_peer_of(tcp.a, &peer), -EOPNOTSUPP);
    cr_assert_rc(zk_unix_peer_of(pair.a, &peer), -EOPNOTSUPP);
    ends_close(&tcp);
    ends_close(&pair);
    ends_close(&e);
}

/* ---- pipes ---- */

static int write_and_close(void *arg)
{
    static char much[300000];
    zk_stream *writer = arg;
    int rc = zk_stream_write(writer, much, sizeof much);
    zk_stream_close(writer);
    return rc;
}

ZK_ASYNC_TEST(pipe, bytes_go_through_up_to_the_end)
{
    zk_stream *reader, *writer;
    char buf[10000];
    size_t total = 0;
    ssize_t n;
    zk_future f;
    cr_assert_ok(zk_pipe(&reader, &writer));
    zk_async(&f, write_and_close, writer);
    while ((n = zk_stream_read(reader, buf, sizeof buf)) > 0)
        total += (size_t)n;
    cr_assert(n == 0 && total == 300000, "%zd, %zu", n, total);
    cr_assert_ok(zk_await(&f));
    zk_stream_close(reader);
}

ZK_ASYNC_TEST(pipe, each_end_has_one_direction)
{
    zk_stream *reader, *writer;
    char byte;
    ssize_t n = 0;
    cr_assert_ok(zk_pipe(&reader, &writer));
    cr_assert_rc(zk_stream_write(reader, "x", 1), -EBADF);
    cr_assert_rc(zk_stream_read(writer, &byte, 1), -EBADF);
    ZK_WITHIN(ZK_MS(1)) {
        n = zk_stream_read(reader, &byte, 1);
    }
    cr_assert_rc(n, -ETIMEDOUT);
    zk_stream_close(reader);
    cr_assert_rc(zk_stream_write(writer, "x", 1), -EPIPE); /* and no SIGPIPE */
    zk_stream_close(writer);
}

ZK_ASYNC_TEST(pipe, a_descriptor_becomes_a_stream)
{
    int fds[2];
    zk_stream *reader, *writer;
    char buf[4];
    cr_assert(pipe(fds) == 0);
    cr_assert_ok(zk_stream_from_fd(fds[0], &reader));
    cr_assert_ok(zk_stream_from_fd(fds[1], &writer));
    cr_assert_ok(zk_stream_write(writer, "abc", 3));
    cr_assert_eq(zk_stream_read(reader, buf, sizeof buf), 3);
    zk_stream_close(reader);
    zk_stream_close(writer);
    cr_assert_rc(zk_stream_from_fd(-1, &reader), -EBADF);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    cr_assert_rc(zk_stream_from_fd(file, &reader), -EPERM);
    cr_assert_eq(fcntl(file, F_GETFL) & O_NONBLOCK, 0);
    close(file);
}

ZK_TEST(pipe, outside_a_runtime_there_are_none)
{
    zk_stream *a, *b;
    cr_assert_rc(zk_pipe(&a, &b), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_unix_pair(&a, &b), ZK_E_NO_RUNTIME);
    cr_assert_rc(zk_stream_from_fd(0, &a), ZK_E_NO_RUNTIME);
}
