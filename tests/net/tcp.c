/*
 * Listening, accepting and connecting: addresses, errors, shortages, and what is cancelled.
 */
#include "tests/net/streams.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "net/tcp.h"

static zk_addr parse(const char *text)
{
    zk_addr addr;
    cr_assert_ok(zk_addr_parse(text, &addr));
    return addr;
}

static zk_listener *listen_on(const char *text, zk_addr *ret_addr)
{
    zk_listener *listener;
    zk_addr addr = parse(text);
    cr_assert_rc(zk_listen(&addr, NULL, &listener), 0, "%s", text);
    cr_assert_ok(zk_listener_addr(listener, ret_addr));
    return listener;
}

/* A socket of the test's own, connected without the runtime. */
static int connect_raw(const zk_addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && connect(fd, &addr->sa, addr->size) == 0);
    return fd;
}

/* ---- listening ---- */

ZK_ASYNC_TEST(tcp, port_0_becomes_a_port)
{
    static const char *const rows[] = {"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", ":0"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_listener *listener;
        zk_addr addr = parse(rows[i]), bound;
        int rc = zk_listen(&addr, NULL, &listener);
        if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) continue; /* a machine without IPv6 */
        cr_assert_rc(rc, 0, "%s", rows[i]);
        cr_assert_ok(zk_listener_addr(listener, &bound));
        cr_assert_neq(zk_addr_port(&bound), 0, "%s", rows[i]);
        zk_listener_close(listener);
    }
    zk_listener_close(NULL);
}

ZK_ASYNC_TEST(tcp, a_port_in_use_is_refused_unless_it_is_shared)
{
    zk_addr addr;
    zk_listener *other = NULL, *a, *b;
    zk_listener *listener = listen_on("127.0.0.1:0", &addr);
    cr_assert_rc(zk_listen(&addr, NULL, &other), -EADDRINUSE);
    cr_assert_null(other, "untouched");
    zk_listener_close(listener);
    cr_assert_rc(zk_listen(&addr, NULL, &other), 0, "again, at once");
    zk_listener_close(other);
    zk_listen_options shared = {.is_port_shared = true};
    cr_assert_ok(zk_listen(&addr, &shared, &a));
    cr_assert_ok(zk_listen(&addr, &shared, &b));
    zk_listener_close(a);
    zk_listener_close(b);
}

ZK_ASYNC_TEST(tcp, a_unix_socket_s_file_comes_and_goes)
{
    char path[80], text[100];
    snprintf(path, sizeof path, "/tmp/zokio-test-%d.sock", (int)getpid());
    snprintf(text, sizeof text, "unix:%s", path);
    zk_addr addr;
    zk_listener *listener = listen_on(text, &addr), *other;
    cr_assert_rc(zk_listen(&addr, NULL, &other), -EADDRINUSE, "somebody listens");
    int fd = connect_raw(&addr);
    zk_stream *stream;
    for (int i = 0; i < 2; i++) { /* the look whether somebody listens was a connection, too */
        cr_assert_ok(zk_accept(listener, &stream));
        zk_stream_close(stream);
    }
    close(fd);
    zk_listener_close(listener);
    cr_assert(access(path, F_OK), "removed");

    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(stale >= 0 && !bind(stale, &addr.sa, addr.size));
    close(stale);
    cr_assert_ok(zk_listen(&addr, NULL, &other));
    close(connect_raw(&addr));
    zk_listener_close(other);
    cr_assert(access(path, F_OK), "removed");

    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(file, 0);
    close(file);
    cr_assert_rc(zk_listen(&addr, NULL, &other), -EADDRINUSE, "not a socket");
    cr_assert(!access(path, F_OK), "left alone");
    unlink(path);
}

/* ---- accepting ---- */

typedef struct acceptor {
    zk_listener *listener;
    int rc, accepted;
} acceptor;

static int accept_one(void *arg)
{
    acceptor *s = arg;
    zk_stream *stream;
    s->rc = zk_accept(s->listener, &stream);
    if (s->rc < 0) return s->rc;
    s->accepted++;
    zk_stream_close(stream);
    return 0;
}

ZK_ASYNC_TEST(tcp, a_cancelled_accept_loses_no_connection)
{
    zk_addr addr;
    acceptor s = {.listener = listen_on("127.0.0.1:0", &addr)};
    int connections = 0, cancelled = 0;
    for (int round = 0; round < 50; round++) {
        ZK_SCOPE(scope) {
            cr_assert_ok(zk_spawn(&scope, accept_one, (void *)&s));
            if (round % 2) turns(1);
            close(connect_raw(&addr));
            connections++;
            if (round % 3 == 0) turns(1);
            zk_scope_cancel(&scope);
            (void)zk_scope_wait(&scope);
        }
        if (s.rc == -ECANCELED) cancelled++;
        ZK_WITHIN(0) {
            cr_assert_rc(accept_one(&s), -ETIMEDOUT);
        }
    }
    cr_assert_gt(cancelled, 0);
    while (s.accepted < connections)
        cr_assert_ok(accept_one(&s));
    ZK_WITHIN(ZK_MS(1)) {
        cr_assert_rc(accept_one(&s), -ETIMEDOUT, "one too many");
    }
    zk_listener_close(s.listener);
}

/* Descriptors run out while connections wait, and come back later. */
ZK_ASYNC_TEST(tcp, accepting_pauses_while_there_are_no_descriptors)
{
    enum { MANY = 20 };
    zk_addr addr;
    acceptor s = {.listener = listen_on("127.0.0.1:0", &addr)};
    int clients[MANY];
    for (int i = 0; i < MANY; i++)
        clients[i] = connect_raw(&addr);
    struct rlimit old;
    cr_assert(!getrlimit(RLIMIT_NOFILE, &old));
    int lowest_free = dup(STDERR_FILENO);
    close(lowest_free);
    struct rlimit tight = {(rlim_t)lowest_free, old.rlim_max};
    cr_assert(!setrlimit(RLIMIT_NOFILE, &tight));

    zk_future f;
    zk_async(&f, accept_one, &s);
    uint64_t polls = zk__lane.worker->polls;
    zk_time cpu_before, cpu_after;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    cpu_before = ZK_SEC(usage.ru_utime.tv_sec) + ZK_US(usage.ru_utime.tv_usec);
    cr_assert_ok(zk_sleep(ZK_MS(200)));
    getrusage(RUSAGE_SELF, &usage);
    cpu_after = ZK_SEC(usage.ru_utime.tv_sec) + ZK_US(usage.ru_utime.tv_usec);
    cr_assert_lt(zk__lane.worker->polls - polls, 50u, "it spins: %llu turns",
                 (unsigned long long)(zk__lane.worker->polls - polls));
    cr_assert_lt(cpu_after - cpu_before, ZK_MS(100));
    cr_assert_eq(s.accepted, 0);
    cr_assert(!setrlimit(RLIMIT_NOFILE, &old));
    cr_assert_ok(zk_await(&f));
    while (s.accepted < MANY)
        cr_assert_ok(accept_one(&s));
    for (int i = 0; i < MANY; i++)
        close(clients[i]);
    zk_listener_close(s.listener);
}

static bool is_memory_gone;

static void *scarce_alloc(void *context, size_t size)
{
    (void)context;
    return is_memory_gone ? NULL : aligned_alloc(16, (size + 15) & ~(size_t)15);
}

static void scarce_free(void *context, void *ptr, size_t size)
{
    (void)context, (void)size;
    free(ptr);
}

static int accept_while_memory_is_gone(void *arg)
{
    (void)arg;
    zk_addr addr;
    acceptor s = {.listener = listen_on("127.0.0.1:0", &addr)};
    int client = connect_raw(&addr);
    zk_future f;
    is_memory_gone = true;
    zk_async(&f, accept_one, &s);
    cr_assert_ok(zk_sleep(ZK_MS(20)));
    cr_assert_eq(s.accepted, 0);
    is_memory_gone = false;
    cr_assert_ok(zk_await(&f));
    cr_assert_eq(s.accepted, 1, "the connection that came meanwhile");
    char byte;
    cr_assert_eq(read(client, &byte, 1), 0);
    close(client);
    zk_listener_close(s.listener);
    return 0;
}

ZK_TEST(tcp, no_connection_is_lost_for_want_of_memory)
{
    static const zk_allocator scarce = {scarce_alloc, scarce_free, NULL};
    zk_config config = {.workers = 1, .allocator = &scarce};
    cr_assert_ok(zk_run(&config, accept_while_memory_is_gone, NULL));
}

ZK_ASYNC_TEST(tcp, a_pausing_accept_can_be_cancelled)
{
    zk_addr addr;
    acceptor s = {.listener = listen_on("127.0.0.1:0", &addr)};
    int client = connect_raw(&addr);
    struct rlimit old, tight;
    cr_assert(!getrlimit(RLIMIT_NOFILE, &old));
    tight = (struct rlimit){0, old.rlim_max};
    ZK_SCOPE(scope) {
        cr_assert_ok(zk_spawn(&scope, accept_one, (void *)&s));
        setrlimit(RLIMIT_NOFILE, &tight);
        turns(3);
        zk_scope_cancel(&scope);
        int rc = zk_scope_wait(&scope);
        setrlimit(RLIMIT_NOFILE, &old);
        cr_assert_rc(rc, -ECANCELED);
    }
    cr_assert_ok(accept_one(&s));
    close(client);
    zk_listener_close(s.listener);
}

/* Two listeners on one socket: the one that is closed must not be heard of again. */
ZK_ASYNC_TEST(tcp, a_shared_listener_is_closed_without_the_other)
{
    zk_addr addr;
    acceptor a = {.listener = listen_on("127.0.0.1:0", &addr)}, b = {0};
    for (int round = 0; round < 5; round++) {
        cr_assert_ok(zk__listener_share(a.listener, &b.listener));
        ZK_WITHIN(ZK_US(1)) {
            cr_assert_rc(accept_one(&b), -ETIMEDOUT);
        }
        ZK_WITHIN(ZK_US(1)) {
            cr_assert_rc(accept_one(&a), -ETIMEDOUT);
        }
        zk_listener_close(b.listener);
        close(connect_raw(&addr));
        cr_assert_ok(accept_one(&a));
    }
    zk_listener_close(a.listener);
}

static int echo_bytes(void *arg)
{
    zk_stream *stream = arg;
    char buf[64];
    ssize_t n;
    int rc = 0;
    while (!rc && (n = zk_stream_read(stream, buf, sizeof buf)) > 0) {
        rc = zk_stream_write(stream, buf, (size_t)n);
    }
    zk_stream_close(stream);
    return rc;
}

typedef struct echo_server {
    zk_listener *listener;
    int connections;
} echo_server;

static int serve_echo(void *arg)
{
    echo_server *server = arg;
    int rc = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < server->connections && !rc; i++) {
            zk_stream *stream;
            rc = zk_accept(server->listener, &stream);
            if (!rc) {
                zk_spawn_options pinned = {.is_pinned = true}; /* a stream belongs to its worker */
                rc = zk_spawn_with(&s, &pinned, echo_bytes, stream);
            }
        }
        if (!rc) rc = zk_scope_wait(&s);
    }
    return rc;
}

static int send_and_check(void *arg)
{
    const zk_addr *addr = arg;
    zk_stream *stream;
    int rc = zk_connect(addr, &stream);
    if (rc < 0) return rc;
    for (int i = 0; i < 10 && !rc; i++) {
        char sent[6] = {'h', 'e', 'l', 'l', 'o', (char)('0' + i)}, got[6];
        rc = zk_stream_write(stream, sent, 6);
        if (!rc) rc = read_exactly(stream, got, 6);
        if (!rc && memcmp(sent, got, 6) != 0) rc = -EBADMSG;
    }
    zk_stream_close(stream);
    return rc;
}

static void talk_to_many(int workers)
{
    zk_addr addr;
    echo_server server = {listen_on("127.0.0.1:0", &addr), 500};
    ZK_SCOPE(s) {
        zk_spawn_options here = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&s, &here, serve_echo, &server));
        for (int i = 0; i < server.connections; i++) {
            zk_spawn_options options = {.worker = 1 + i % workers, .arg_bytes = sizeof addr};
            cr_assert_ok(zk_spawn_with(&s, &options, send_and_check, &addr));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    zk_listener_close(server.listener);
}

ZK_ASYNC_TEST(tcp, five_hundred_connections_talk_at_once) { talk_to_many(1); }

ZK_ASYNC_TEST_ON(tcp, connections_of_several_workers_talk_to_one, 3) { talk_to_many(3); }

/* ---- connecting ---- */

ZK_ASYNC_TEST(tcp, nobody_listening_refuses)
{
    zk_addr addr;
    zk_listener_close(listen_on("127.0.0.1:0", &addr));
    zk_stream *stream = NULL;
    cr_assert_rc(zk_connect(&addr, &stream), -ECONNREFUSED);
    cr_assert_null(stream, "untouched");
    addr = parse("unix:@zokio-test-nobody");
    cr_assert_rc(zk_connect(&addr, &stream), -ECONNREFUSED);
    addr = parse("unix:/tmp/zokio-test-no-such-file");
    cr_assert_rc(zk_connect(&addr, &stream), -ENOENT);
    cr_assert_null(stream, "untouched");
}

ZK_ASYNC_TEST(tcp, a_connect_in_a_cancelled_scope_is_refused)
{
    char name[64];
    snprintf(name, sizeof name, "unix:@zokio-test-cancelled-%d", (int)getpid());
    const char *const rows[] = {"127.0.0.1:0", name};
    for (size_t i = 0; i < 2; i++) {
        zk_addr addr;
        zk_listener *listener = listen_on(rows[i], &addr);
        zk_stream *stream = NULL;
        ZK_WITHIN(0) {
            cr_assert_rc(zk_connect(&addr, &stream), -ETIMEDOUT, "%s", rows[i]);
        }
        cr_assert_null(stream);
        zk_listener_close(listener);
    }
}

enum { CALLERS = 6 };

/*
 * A listener whose queue is full, for connects that have to wait. How many it takes before is the
 * kernel's affair.
 */
static void wait_for_room(const char *text)
{
    zk_addr addr = parse(text);
    zk_listener *listener;
    connecting c[CALLERS];
    zk_future f[CALLERS];
    zk_listen_options narrow = {.backlog = 1};
    cr_assert_ok(zk_listen(&addr, &narrow, &listener));
    cr_assert_ok(zk_listener_addr(listener, &addr));
    for (int round = 0; round < 2; round++) {
        ZK_SCOPE(s) {
            for (int i = 0; i < CALLERS; i++) {
                c[i] = (connecting){.addr = addr};
                zk_async(&f[i], connect_task, &c[i]);
            }
            turns(20);
            int waiting = 0, accepted = 0;
            for (int i = 0; i < CALLERS; i++)
                waiting += c[i].stream == NULL;
            cr_assert_gt(waiting, 0, "%s", text);
            if (round == 0) zk_scope_cancel(&s);
            ZK_SHIELD {
                zk_stream *stream;
                /* Unix connections are made at once, TCP's when the client tries again. */
                int wanted = round == 0 ? CALLERS - waiting : addr.sa.sa_family == AF_UNIX ? 6 : 1;
                for (; accepted < wanted; accepted++) {
                    cr_assert_ok(zk_accept(listener, &stream));
                    zk_stream_close(stream);
                }
            }
            zk_scope_cancel(&s);
            int refused = 0;
            for (int i = 0; i < CALLERS; i++) {
                int rc = zk_await(&f[i]);
                cr_assert(rc == 0 || rc == -ECANCELED, "%s: %s", text, zk_errname(rc));
                refused += rc < 0;
                if (!rc) zk_stream_close(c[i].stream);
            }
            if (round == 0) cr_assert_eq(refused, waiting, "%s", text);
            if (round == 1 && addr.sa.sa_family == AF_UNIX) cr_assert_eq(refused, 0, "%s", text);
        }
    }
    zk_listener_close(listener);
}

ZK_ASYNC_TEST(tcp, a_connect_that_waits_can_be_cancelled) { wait_for_room("127.0.0.1:0"); }

ZK_ASYNC_TEST(tcp, a_unix_connect_waits_for_room_in_the_queue)
{
    char name[64]; /* of this process: the test runs once per poller, side by side */
    snprintf(name, sizeof name, "unix:@zokio-test-narrow-%d", (int)getpid());
    wait_for_room(name);
}

/* ---- the connection ---- */

ZK_ASYNC_TEST(tcp, a_reset_is_an_error_not_an_end)
{
    for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
        zk_addr addr;
        zk_listener *listener = listen_on("127.0.0.1:0", &addr);
        int fd = connect_raw(&addr);
        zk_stream *stream;
        char byte;
        cr_assert_ok(zk_accept(listener, &stream));
        if (is_waiting)
            ZK_WITHIN(ZK_US(1)) {
                (void)zk_stream_read(stream, &byte, 1);
            }
        struct linger hard = {.l_onoff = 1};
        cr_assert(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
        close(fd);
        cr_assert_rc(zk_stream_read(stream, &byte, 1), -ECONNRESET);
        int rc = zk_stream_write(stream, "x", 1);
        cr_assert(rc == -EPIPE || rc == -ECONNRESET, "%s", zk_errname(rc));
        zk_stream_close(stream);
        zk_listener_close(listener);
    }
}

static int no_delay(int fd)
{
    int value = 0;
    cr_assert(!getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &(socklen_t){sizeof value}));
    return value;
}

/* Small writes must not wait for the peer's acknowledgement. Sockets are found by their number. */
ZK_ASYNC_TEST(tcp, both_ends_send_without_delay)
{
    int first = dup(STDERR_FILENO);
    close(first);
    ends e = open_tcp();
    int found = 0;
    for (int fd = first; fd < first + 8; fd++) {
        struct stat st;
        if (fstat(fd, &st) || !S_ISSOCK(st.st_mode)) continue;
        found++;
        cr_assert(no_delay(fd), "descriptor %d", fd);
        cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    cr_assert_geq(found, 2);
    ends_close(&e);
}
