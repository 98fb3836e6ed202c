/*
 * The pollers, on real descriptors: reading, hang-ups, the poll itself, choosing a backend. Each
 * behaviour is asked of every backend.
 */
#include "tests/core/poller_ops.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- reading ---- */

ON_EACH_BACKEND(a_read_gets_what_is_there_or_comes_later)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        char buf[16];
        cr_assert_eq(write(fds[1], "early", 5), 5);
        cr_assert_eq(op_read(&io, buf, sizeof buf), 5);
        cr_assert_arr_eq(buf, "early", 5);
        for (int round = 0; round < 3; round++) {
            waiter w = {.run = wait_read, .io = &io};
            ZK_SCOPE(scope) {
                waiter_start(&scope, &w);
                cr_assert_eq(write(fds[1], "late", 4), 4);
                cr_assert_ok(zk_scope_wait(&scope));
            }
            cr_assert_eq(w.result, 4);
            cr_assert_arr_eq(w.buf, "late", 4);
        }
        forget(&io);
        close(fds[1]);
    }
}

enum { PUMP_BYTES = 400000 };

static int pump(void *arg)
{
    static uint8_t data[PUMP_BYTES];
    for (size_t i = 0; i < PUMP_BYTES; i++)
        data[i] = pattern(i);
    for (size_t sent = 0, size = 1; sent < PUMP_BYTES; size = size * 7 % 30011) {
        ssize_t n = op_write(arg, data + sent, size < PUMP_BYTES - sent ? size : PUMP_BYTES - sent);
        cr_assert_gt(n, 0);
        sent += (size_t)n;
    }
    return shutdown(((zk__io *)arg)->fd, SHUT_WR) ? -errno : 0;
}

ON_EACH_BACKEND(bytes_arrive_in_order_in_pieces_of_any_size)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io from, to;
        zk__io_init(&from, fds[0], STREAM);
        zk__io_init(&to, fds[1], STREAM);
        static uint8_t buf[30000];
        ZK_SCOPE(scope) {
            cr_assert_ok(zk_spawn(&scope, pump, (void *)&from));
            size_t received = 0, size = 1;
            for (ssize_t n; (n = op_read(&to, buf, size)) != 0; size = size * 5 % 29989) {
                cr_assert_gt(n, 0, "after %zu bytes: %zd", received, n);
                for (ssize_t i = 0; i < n; i++)
                    cr_assert_eq(buf[i], pattern(received + (size_t)i), "byte %zu", received);
                received += (size_t)n;
            }
            cr_assert_eq(received, PUMP_BYTES);
        }
        forget(&from);
        forget(&to);
    }
}

ON_EACH_BACKEND(a_cancelled_read_takes_nothing)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        for (int round = 0; round < 3; round++) {
            wait_and_cancel(&(waiter){.run = round % 2 ? wait_readable : wait_read, .io = &io});
            cr_assert_eq(write(fds[1], "abc", 3), 3);
            turns();
            char buf[16];
            cr_assert_eq(op_read(&io, buf, 2), 2);
            cr_assert_eq(op_read(&io, buf + 2, sizeof buf - 2), 1);
            cr_assert_arr_eq(buf, "abc", 3);
        }
        forget(&io);
        close(fds[1]);
    }
}

ON_EACH_BACKEND(readable_is_told_without_taking_anything)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        for (int round = 0; round < 3; round++) {
            waiter w = {.run = wait_readable, .io = &io};
            char buf[16];
            ZK_SCOPE(scope) {
                waiter_start(&scope, &w);
                cr_assert_eq(write(fds[1], "abc", 3), 3);
                cr_assert_ok(zk_scope_wait(&scope));
            }
            cr_assert_eq(w.result, 0);
            zk__op op = {.code = ZK__OP_READ, .io = &io, .buf = buf, .size = sizeof buf};
            cr_assert_eq(poller()->ops->attempt(poller(), &op), 3);
            cr_assert_eq(poller()->ops->attempt(poller(), &op), -EAGAIN);
        }
        forget(&io);
        close(fds[1]);
    }
}

ON_EACH_BACKEND(the_end_follows_the_data_and_stays)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
            int fds[2];
            pair(kind, fds);
            zk__io io;
            zk__io_init(&io, fds[0], STREAM);
            if (is_waiting) wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
            cr_assert_eq(write(fds[1], "abc", 3), 3);
            cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
            turns();
            char buf[16];
            cr_assert_eq(op_readable(&io), 0);
            cr_assert_eq(op_read(&io, buf, sizeof buf), 3);
            for (int i = 0; i < 3; i++) {
                cr_assert_eq(op_readable(&io), 0);
                cr_assert_eq(op_read(&io, buf, sizeof buf), 0);
            }
            cr_assert_eq(op_write(&io, "x", 1), 1);
            forget(&io);
            close(fds[1]);
        }
    }
}

/* The kernel's multishot receive loses some of these ends (liburing issue 1549). */
ON_EACH_BACKEND(an_end_or_reset_close_behind_data_is_not_missed)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        for (int round = 0; round < 100; round++) {
            int fds[2];
            pair(kind, fds);
            zk__io io;
            zk__io_init(&io, fds[0], STREAM);
            waiter w = {.run = wait_read, .io = &io};
            ZK_SCOPE(scope) {
                waiter_start(&scope, &w);
                cr_assert_eq(write(fds[1], "abc", 3), 3);
                if (round % 2 && kind == TCP) {
                    reset(fds[1]);
                } else {
                    cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
                }
                cr_assert_ok(zk_scope_wait(&scope));
            }
            cr_assert(w.result == 3 || w.result == -ECONNRESET, "round %d: %zd", round, w.result);
            ssize_t n = op_read(&io, w.buf, sizeof w.buf);
            cr_assert(n == 0 || n == -ECONNRESET, "round %d: %zd", round, n);
            forget(&io);
            if (!(round % 2 && kind == TCP)) close(fds[1]);
        }
    }
}

ON_EACH_BACKEND(a_reset_ends_a_waiting_read)
{
    int fds[2];
    tcp_pair(fds);
    zk__io io;
    zk__io_init(&io, fds[0], STREAM);
    waiter w = {.run = wait_read, .io = &io};
    ZK_SCOPE(scope) {
        waiter_start(&scope, &w);
        reset(fds[1]);
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_assert_eq(w.result, -ECONNRESET);
    forget(&io);
}

/* A read stops where an urgent byte was: what follows it is there nevertheless. */
ON_EACH_BACKEND(what_follows_an_urgent_byte_is_not_forgotten)
{
    int fds[2];
    char buf[16];
    tcp_pair(fds);
    zk__io io;
    zk__io_init(&io, fds[0], STREAM);
    wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
    cr_assert_eq(write(fds[1], "abc", 3), 3);
    cr_assert_eq(send(fds[1], "!", 1, MSG_OOB), 1);
    cr_assert_eq(write(fds[1], "def", 3), 3);
    turns();
    ssize_t n = op_read(&io, buf, sizeof buf);
    while (n < 6) {
        ssize_t more = op_read(&io, buf + n, sizeof buf - (size_t)n);
        cr_assert_gt(more, 0);
        n += more;
    }
    cr_assert_arr_eq(buf, "abcdef", 6);
    forget(&io);
    close(fds[1]);
}

static void drain(zk__io *io, size_t expected)
{
    static uint8_t buf[7001];
    for (size_t received = 0; received < expected;) {
        ssize_t n = op_read(io, buf, sizeof buf);
        cr_assert_gt(n, 0, "after %zu of %zu bytes: %zd", received, expected, n);
        for (ssize_t i = 0; i < n; i++)
            cr_assert_eq(buf[i], pattern(received + (size_t)i), "byte %zu", received);
        received += (size_t)n;
    }
}

ON_EACH_BACKEND(who_does_not_read_is_sent_no_more_and_loses_nothing)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        for (int round = 0; round < 2; round++) {
            wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
            drain(&io, fill(fds[1]));
        }
        fill(fds[1]);
        forget(&io);
        close(fds[1]);
    }
}

/* More than the buffers that a backend may have for receiving. */
ON_EACH_BACKEND(hundreds_of_descriptors_become_readable_at_once)
{
    enum { COUNT = 400 };
    static waiter waiters[COUNT];
    static zk__io ios[COUNT];
    int peers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int fds[2];
        unix_pair(fds);
        zk__io_init(&ios[i], fds[0], STREAM);
        peers[i] = fds[1];
    }
    for (int round = 0; round < 3; round++) {
        ZK_SCOPE(scope) {
            for (int i = 0; i < COUNT; i++) {
                waiters[i] = (waiter){.run = i % 2 ? wait_read : wait_readable, .io = &ios[i]};
                cr_assert_ok(zk_spawn(&scope, waiter_run, (void *)&waiters[i]));
            }
            turns();
            for (int i = 0; i < COUNT; i++)
                cr_assert_eq(write(peers[i], &i, sizeof i), sizeof i);
            cr_assert_ok(zk_scope_wait(&scope));
        }
        for (int i = 0; i < COUNT; i++) {
            int got = -1;
            if (i % 2)
                memcpy(&got, waiters[i].buf, sizeof got);
            else
                cr_assert_eq(op_read(&ios[i], &got, sizeof got), sizeof got);
            cr_assert_eq(got, i, "round %d", round);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        forget(&ios[i]);
        close(peers[i]);
    }
}

ON_EACH_BACKEND(a_reader_gets_its_bytes_though_another_stream_takes_all_buffers)
{
    enum { COUNT = 12 };
    zk__io ios[COUNT];
    int peers[COUNT];
    waiter waiters[COUNT];
    static uint8_t much[300000];
    for (int i = 0; i < COUNT; i++) {
        int fds[2];
        unix_pair(fds);
        cr_assert_eq(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)), 0);
        zk__io_init(&ios[i], fds[0], STREAM);
        peers[i] = fds[1];
    }
    wait_and_cancel(&(waiter){.run = wait_read, .io = &ios[0]});
    ZK_SCOPE(scope) {
        for (int i = 1; i < COUNT; i++) {
            waiters[i] = (waiter){.run = i % 2 ? wait_read : wait_readable, .io = &ios[i]};
            waiter_start(&scope, &waiters[i]);
        }
        cr_assert_geq(write(peers[0], much, sizeof much), 200000);
        for (int i = 1; i < COUNT; i++)
            cr_assert_eq(write(peers[i], "x", 1), 1);
        cr_assert_ok(zk_scope_wait(&scope));
    }
    for (int i = 0; i < COUNT; i++) {
        if (i) cr_assert_eq(waiters[i].result, i % 2, "reader %d", i);
        forget(&ios[i]);
        close(peers[i]);
    }
}

/* Forgetting one descriptor has the kernel receive for another: that is before what comes later. */
ON_EACH_BACKEND(bytes_that_the_poller_has_not_seen_yet_are_not_overtaken)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2], others[2];
        zk__io io, other;
        pair(kind, fds);
        pair(kind, others);
        zk__io_init(&io, fds[0], STREAM);
        zk__io_init(&other, others[0], STREAM);
        wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
        wait_and_cancel(&(waiter){.run = wait_read, .io = &other});
        cr_assert_eq(write(fds[1], "abc", 3), 3);
        forget(&other);
        cr_assert_eq(write(fds[1], "def", 3), 3);
        char buf[6];
        for (size_t size = 0; size < sizeof buf;) {
            ssize_t n = op_read(&io, buf + size, sizeof buf - size);
            cr_assert_gt(n, 0);
            size += (size_t)n;
        }
        cr_assert_arr_eq(buf, "abcdef", 6);
        forget(&io);
        close(fds[1]);
        close(others[1]);
    }
}

ON_EACH_BACKEND(pipes_and_datagrams_are_read_as_well)
{
    int fds[2];
    zk__io io;
    waiter w = {.run = wait_read, .io = &io};
    cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    zk__io_init(&io, fds[0], 0);
    wait_and_cancel(&(waiter){.run = wait_readable, .io = &io});
    ZK_SCOPE(scope) {
        waiter_start(&scope, &w);
        cr_assert_eq(write(fds[1], "abc", 3), 3);
        cr_assert_ok(zk_scope_wait(&scope));
        close(fds[1]);
        cr_assert_eq(w.result, 3);
        cr_assert_eq(op_read(&io, w.buf, sizeof w.buf), 0);
    }
    forget(&io);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    zk__io_init(&io, fds[0], ZK__IO_SOCKET);
    w = (waiter){.run = wait_read, .io = &io};
    ZK_SCOPE(scope) {
        waiter_start(&scope, &w);
        cr_assert_eq(write(fds[1], "ab", 2) + write(fds[1], "cde", 3), 5);
        cr_assert_ok(zk_scope_wait(&scope));
        cr_assert_eq(w.result, 2);
        cr_assert_eq(op_readable(&io), 0);
        cr_assert_eq(op_read(&io, w.buf, sizeof w.buf), 3);
    }
    forget(&io);
    close(fds[1]);
}

/* ---- hang-ups ---- */

ON_EACH_BACKEND(a_hangup_is_told_while_nobody_reads)
{
    enum { END, RESET, WAYS };
    static const uint32_t expected[] = {ZK__IO_PEER_DONE, ZK__IO_PEER_DONE | ZK__IO_BROKEN};
    for (int row = 0; row < 2 * WAYS * 2; row++) {
        int way = row % 2, has_data = row / 2 % 2, was_read = row / 4;
        int fds[2];
        tcp_pair(fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        if (was_read) wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
        io.on_hangup = on_hangup;
        poller()->ops->watch(poller(), &io);
        poller()->ops->watch(poller(), &io);
        hangup_bits = 0;
        if (has_data) fill(fds[1]); /* to be read before the end is found */
        turns();
        cr_assert_eq(hangup_bits, 0, "row %d: too early", row);
        if (way == END) {
            cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
            turns();
            /* Behind a full window the end has not left the peer yet. */
            if (!has_data) cr_assert_eq(hangup_bits, expected[END], "row %d", row);
        }
        reset(fds[1]);
        turns();
        cr_assert_eq(hangup_bits, expected[RESET], "row %d", row);
        forget(&io);
    }
}

ON_EACH_BACKEND(a_hangup_is_not_told_to_who_reads)
{
    int fds[2];
    tcp_pair(fds);
    zk__io io;
    zk__io_init(&io, fds[0], STREAM);
    io.on_hangup = on_hangup;
    poller()->ops->watch(poller(), &io);
    hangup_bits = 0;
    waiter w = {.run = wait_read, .io = &io};
    ZK_SCOPE(scope) {
        waiter_start(&scope, &w);
        cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
        poller()->ops->poll(poller(), 0);
        cr_assert_eq(hangup_bits, 0);
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_assert_eq(w.result, 0);
    forget(&io);
    close(fds[1]);
}

/* ---- the poll itself ---- */

ON_EACH_BACKEND(a_poll_does_not_end_before_its_time)
{
    static const zk_time spans[] = {1, ZK_US(1), ZK_US(999), ZK_MS(1) + 1, ZK_US(2500)};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        turns();
        zk_time begin = zk__clock();
        poller()->ops->poll(poller(), spans[i]);
        zk_time took = zk__clock() - begin;
        cr_assert_geq(took, spans[i], "row %zu: %lld ns", i, (long long)took);
    }
}

static int nothing(void *arg)
{
    (void)arg;
    return 7;
}

ON_EACH_BACKEND(another_thread_wakes_it)
{
    for (int i = 0; i < 200; i++)
        cr_assert_eq(zk_blocking(nothing, NULL), 7);
    /* Also when it comes first. */
    poller()->ops->wake(poller());
    poller()->ops->poll(poller(), -1);
}

/* ---- choosing a backend ---- */

static const char *name_seen;
static void see_name(void) { name_seen = zk_poller_name(); }

ZK_TEST(poller, the_one_asked_for_is_taken_where_the_system_allows_it)
{
    run_on("epoll", see_name);
    cr_assert_str_eq(name_seen, "epoll");
    unsigned char params[120] = {0};
    long fd = syscall(SYS_io_uring_setup, 1, params);
    run_on("io_uring", see_name);
    cr_assert_str_eq(name_seen, ZK__IO_URING && fd >= 0 ? "io_uring" : "epoll");
    zk_config config = {.workers = 1, .poller = "kqueue"};
    cr_assert_eq(zk_run(&config, nothing, NULL), ZK_E_CONFIG);
}

static void forbid(int call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0, "%s", strerror(errno));
}

static void fall_back_without(int call)
{
    forbid(call);
    run_on("io_uring", see_name);
    cr_assert_str_eq(name_seen, "epoll");
}

ZK_TEST(poller, without_io_uring_setup_it_is_epoll) { fall_back_without(SYS_io_uring_setup); }
ZK_TEST(poller, without_io_uring_enter_it_is_epoll) { fall_back_without(SYS_io_uring_enter); }
ZK_TEST(poller, without_io_uring_register_it_is_epoll) { fall_back_without(SYS_io_uring_register); }
