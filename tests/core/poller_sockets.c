/*
 * The pollers, on real descriptors: writing, connecting, accepting, forgetting. Each behaviour is
 * asked of every backend.
 */
#include "tests/core/poller_ops.h"

#include <sys/resource.h>

/* ---- writing and connecting ---- */

static ssize_t wait_write(waiter *w)
{
    static char data[100000];
    return op_write(w->io, data, sizeof data);
}

ON_EACH_BACKEND(a_write_waits_for_room)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        fill(fds[0]);
        wait_and_cancel(&(waiter){.run = wait_write, .io = &io});
        waiter w = {.run = wait_write, .io = &io};
        ZK_SCOPE(scope) {
            waiter_start(&scope, &w);
            static char buf[65536];
            while (!w.is_done) {
                while (read(fds[1], buf, sizeof buf) > 0)
                    ;
                turns();
            }
        }
        cr_assert_gt(w.result, 0);
        forget(&io);
        close(fds[1]);
    }
}

/* A half-closed peer is reported all the time: the waiting must not become a busy loop. */
ON_EACH_BACKEND(waiting_beside_a_peer_that_sends_no_more_costs_no_turns)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        io.on_hangup = on_hangup;
        poller()->ops->watch(poller(), &io);
        cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
        fill(fds[0]);
        waiter w = {.run = wait_write, .io = &io};
        ZK_SCOPE(scope) {
            waiter_start(&scope, &w);
            char buf[16];
            cr_assert_eq(op_read(&io, buf, sizeof buf), 0);
            turns();
            uint64_t before = zk__worker_self()->polls;
            cr_assert_ok(zk_sleep(ZK_MS(5)));
            cr_assert_leq(zk__worker_self()->polls - before, 8);
            cr_assert_not(w.is_done);
            zk_scope_cancel(&scope);
        }
        forget(&io);
        close(fds[1]);
    }
}

ON_EACH_BACKEND(a_dead_peer_ends_a_waiting_write)
{
    int fds[2];
    tcp_pair(fds);
    zk__io io;
    zk__io_init(&io, fds[0], STREAM);
    fill(fds[0]);
    waiter w = {.run = wait_write, .io = &io};
    ZK_SCOPE(scope) {
        waiter_start(&scope, &w);
        reset(fds[1]);
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_assert(w.result == -ECONNRESET || w.result == -EPIPE, "%zd", w.result);
    forget(&io);
}

ON_EACH_BACKEND(connecting_succeeds_or_is_refused)
{
    struct sockaddr_in addr = {0};
    int listener = listen_tcp(&addr);
    for (int is_refused = 0; is_refused < 2; is_refused++) {
        zk__io io;
        zk__io_init(&io, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), STREAM);
        zk__op op = {.code = ZK__OP_CONNECT, .io = &io};
        op.addr = (struct sockaddr *)&addr;
        op.addr_size = sizeof addr;
        cr_assert_eq(zk__op_run(&op), is_refused ? -ECONNREFUSED : 0);
        if (!is_refused) cr_assert_eq(op_write(&io, "x", 1), 1);
        forget(&io);
        close(listener);
    }
}

/* ---- accepting ---- */

ON_EACH_BACKEND(all_who_connect_are_accepted)
{
    enum { COUNT = 200 };
    struct sockaddr_in addr = {0};
    zk__io io;
    zk__io_init(&io, listen_tcp(&addr), ZK__IO_SOCKET);
    for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
        int clients[COUNT];
        waiter w = {.run = wait_accept, .io = &io};
        ZK_SCOPE(scope) {
            if (is_waiting) waiter_start(&scope, &w);
            for (int i = 0; i < COUNT; i++)
                clients[i] = connect_raw(&addr);
            cr_assert_ok(zk_scope_wait(&scope));
        }
        for (int i = 0; i < COUNT; i++) {
            int fd = (int)(is_waiting && i == 0 ? w.result : op_accept(&io));
            cr_assert_geq(fd, 0, "connection %d: %s", i, strerror(-fd));
            cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
            close(fd);
        }
        for (int i = 0; i < COUNT; i++)
            close(clients[i]);
    }
    forget(&io);
}

ON_EACH_BACKEND(a_cancelled_accept_loses_no_connection)
{
    struct sockaddr_in addr = {0};
    zk__io io;
    zk__io_init(&io, listen_tcp(&addr), ZK__IO_SOCKET);
    for (int late = 0; late < 2; late++) {
        int client = -1;
        waiter w = {.run = wait_accept, .io = &io};
        ZK_SCOPE(scope) {
            waiter_start(&scope, &w);
            if (!late) client = connect_raw(&addr);
            zk_scope_cancel(&scope);
        }
        cr_assert_eq(w.result, -ECANCELED);
        if (late) client = connect_raw(&addr);
        int fd = (int)op_accept(&io);
        cr_assert_geq(fd, 0);
        close(fd);
        close(client);
    }
    forget(&io);
}

ON_EACH_BACKEND(a_closed_listener_leaves_nobody_connected_and_its_port_free)
{
    struct sockaddr_in addr = {0};
    zk__io io;
    for (int round = 0; round < 3; round++) {
        zk__io_init(&io, listen_tcp(&addr), ZK__IO_SOCKET); /* the same port each time */
        waiter w = {.run = wait_accept, .io = &io};
        int clients[3];
        ZK_SCOPE(scope) {
            waiter_start(&scope, &w);
            for (int i = 0; i < 3; i++)
                clients[i] = connect_raw(&addr);
            cr_assert_ok(zk_scope_wait(&scope));
        }
        cr_assert_geq(w.result, 0);
        close((int)w.result);
        forget(&io);
        for (int i = 0; i < 3; i++) {
            char c;
            ssize_t n = recv(clients[i], &c, 1, 0);
            cr_assert(n == 0 || errno == ECONNRESET, "client %d: %s", i, strerror(errno));
            close(clients[i]);
        }
    }
}

ON_EACH_BACKEND(accepting_without_descriptors_fails_and_then_goes_on)
{
    struct sockaddr_in addr = {0};
    zk__io io;
    zk__io_init(&io, listen_tcp(&addr), ZK__IO_SOCKET);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
        waiter w = {.run = wait_accept, .io = &io};
        int client = socket(AF_INET, SOCK_STREAM, 0);
        int taken[64], count = 0;
        ZK_SCOPE(scope) {
            if (is_waiting) waiter_start(&scope, &w);
            while ((taken[count] = dup(client)) >= 0)
                count++;
            cr_assert_eq(connect(client, (struct sockaddr *)&addr, sizeof addr), 0);
            cr_assert_ok(zk_scope_wait(&scope));
        }
        cr_assert_eq(is_waiting ? w.result : op_accept(&io), -EMFILE);
        while (count)
            close(taken[--count]);
        int fd = (int)op_accept(&io);
        cr_assert_geq(fd, 0);
        close(fd);
        close(client);
    }
    forget(&io);
}

/* ---- forgetting ---- */

ON_EACH_BACKEND(a_forgotten_descriptor_is_closed_at_once)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        int fds[2];
        pair(kind, fds);
        zk__io io;
        zk__io_init(&io, fds[0], STREAM);
        wait_and_cancel(&(waiter){.run = wait_read, .io = &io});
        fill(fds[0]);
        wait_and_cancel(&(waiter){.run = wait_write, .io = &io});
        forget(&io);
        static char buf[65536];
        ssize_t n;
        while ((n = read(fds[1], buf, sizeof buf)) > 0)
            ;
        cr_assert_eq(n, 0, "the peer does not see it: %s", strerror(errno));
        close(fds[1]);
    }
}

ON_EACH_BACKEND(a_forgotten_descriptor_is_closed_at_once_among_many_with_news)
{
    enum { COUNT = 100 };
    zk__io ios[COUNT];
    int peers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int fds[2];
        unix_pair(fds);
        zk__io_init(&ios[i], fds[0], STREAM);
        peers[i] = fds[1];
        wait_and_cancel(&(waiter){.run = wait_read, .io = &ios[i]});
    }
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(write(peers[i], "x", 1), 1);
    for (int i = 0; i < COUNT; i++) {
        forget(&ios[i]);
        char c;
        ssize_t n = read(peers[i], &c, 1);
        cr_assert(n == 0 || (n < 0 && errno == ECONNRESET), "peer %d: %s", i, strerror(errno));
        close(peers[i]);
    }
}

static bool is_complete;
static void note_complete(zk__op *op)
{
    (void)op;
    is_complete = true;
}

/* Its memory and its number may serve another descriptor while the kernel still reports on it. */
ON_EACH_BACKEND(nothing_about_a_forgotten_descriptor_reaches_the_next)
{
    for (int kind = UNIX; kind <= TCP; kind++) {
        zk__io io;
        for (int round = 0; round < 20; round++) {
            int fds[2], got = -1;
            pair(kind, fds);
            zk__io_init(&io, fds[0], STREAM);
            io.on_hangup = on_hangup;
            hangup_bits = 0;
            zk__op op = {
                .code = ZK__OP_READ,
                .io = &io,
                .buf = &got,
                .size = sizeof got,
                .complete = note_complete,
            };
            is_complete = false;
            cr_assert_not(poller()->ops->submit(poller(), &op));
            turns();
            cr_assert(!is_complete && !hangup_bits, "round %d", round);
            cr_assert_eq(write(fds[1], &round, sizeof round), sizeof round);
            turns();
            cr_assert(is_complete && op.result == sizeof round && got == round);
            /* Still to be reported when it is forgotten. */
            wait_and_cancel(&(waiter){.run = wait_readable, .io = &io});
            cr_assert_eq(write(fds[1], "old", 3), 3);
            close(fds[1]);
            forget(&io);
            memset(&io, 0xA5, sizeof io);
        }
    }
}
