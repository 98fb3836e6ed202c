/*
 * Resolving names against a DNS server of the test's own, on a thread with a blocking socket.
 */
#include "tests/async.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include <zokio/dns.h>
#include <zokio/tcp.h>

#include "net/dns.h"
#include "net/dns_answer.h"

typedef struct server {
    int fd, listener;
    char servers[64];
    pthread_t thread;
    atomic_int queries;
} server;

/*
 * The first label says what is answered: "two" A and AAAA, "four" A only, "none" NXDOMAIN with an
 * SOA record, "empty" no data, "fail" SERVFAIL, "refuse" REFUSED, "junk" a cut message, "mute"
 * nothing, "half" A, and nothing to AAAA, "tcp" the truncated bit over UDP and both addresses over
 * TCP.
 */
static size_t answer(const uint8_t *q, size_t size, uint8_t *a, bool is_tcp)
{
    size_t at = 12;
    while (q[at])
        at += 1u + q[at];
    int type = q[at + 2];
    size_t end = at + 5;
    char label[16] = {0};
    memcpy(label, q + 13, q[12] < 15 ? q[12] : 15);
    if (!strcmp(label, "mute") || size < end) return 0;
    memcpy(a, q, end);
    memset(a + 6, 0, 6);
    a[2] = 0x81;
    a[3] = 0x80;
    if (!strcmp(label, "junk")) {
        a[7] = 1;
        return end;
    }
    if (!strcmp(label, "fail")) a[3] |= 2;
    if (!strcmp(label, "refuse")) a[3] |= 5;
    if (!strcmp(label, "tcp") && !is_tcp) a[2] |= 2;
    if (!strcmp(label, "none")) {
        static const uint8_t soa[] = {0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0, 0, 0, 0,
                                      1,    0,  0, 0, 1, 0, 0, 0, 1, 0,  0, 0,  1, 0, 0, 0, 30};
        a[3] |= 3;
        a[9] = 1;
        memcpy(a + end, soa, sizeof soa);
        return end + sizeof soa;
    }
    bool has_v6 = !strcmp(label, "two") || (!strcmp(label, "tcp") && is_tcp);
    bool has_v4 = has_v6 || !strcmp(label, "four") || !strcmp(label, "half");
    if (!strcmp(label, "half") && type == 28) return 0;
    if (type == 1 && has_v4) {
        static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1};
        a[7] = 1;
        memcpy(a + end, record, sizeof record);
        end += sizeof record;
    } else if (type == 28 && has_v6) {
        static const uint8_t record[] = {0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16};
        a[7] = 1;
        memcpy(a + end, record, sizeof record);
        memset(a + end + sizeof record, 0, 16);
        a[end + sizeof record + 15] = 1;
        end += sizeof record + 16;
    }
    return end;
}

static void *server_udp(void *arg)
{
    server *s = arg;
    uint8_t q[512], a[1024];
    struct sockaddr_in from;
    for (;;) {
        socklen_t from_size = sizeof from;
        ssize_t n = recvfrom(s->fd, q, sizeof q, 0, (struct sockaddr *)&from, &from_size);
        if (n <= 1) return NULL; /* one byte: the end of the test */
        atomic_fetch_add(&s->queries, 1);
        size_t size = answer(q, (size_t)n, a, false);
        if (size) sendto(s->fd, a, size, 0, (struct sockaddr *)&from, from_size);
    }
}

static void *server_tcp(void *arg)
{
    server *s = arg;
    uint8_t q[512], a[1024];
    int fd;
    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        ssize_t n;
        while (recv(fd, q, 2, MSG_WAITALL) == 2 &&
               (n = recv(fd, q, (size_t)(q[0] << 8 | q[1]), MSG_WAITALL)) > 12) {
            size_t size = answer(q, (size_t)n, a + 2, true);
            a[0] = (uint8_t)(size >> 8);
            a[1] = (uint8_t)size;
            send(fd, a, size + 2, MSG_NOSIGNAL);
        }
        close(fd);
    }
    return NULL;
}

/* One port for both protocols: the one that UDP is given may be taken by somebody else's TCP. */
static int sockets_bind(server *s)
{
    for (int tries = 0; tries < 100; tries++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof in;
        s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert(bind(s->fd, (struct sockaddr *)&in, size) == 0);
        cr_assert(getsockname(s->fd, (struct sockaddr *)&in, &size) == 0);
        if (bind(s->listener, (struct sockaddr *)&in, size) == 0) return ntohs(in.sin_port);
        close(s->fd);
        close(s->listener);
    }
    cr_assert_fail("no port is free for both UDP and TCP");
    return -1;
}

static void server_start(server *s)
{
    pthread_t tcp;
    *s = (server){0};
    int port = sockets_bind(s);
    cr_assert(listen(s->listener, 8) == 0);
    snprintf(s->servers, sizeof s->servers, "127.0.0.1:%d", port);
    cr_assert(pthread_create(&s->thread, NULL, server_udp, s) == 0);
    cr_assert(pthread_create(&tcp, NULL, server_tcp, s) == 0);
    pthread_detach(tcp); /* ends with the test's process */
}

static zk_resolve_options asking(const server *s)
{
    return (zk_resolve_options){.servers = s->servers, .timeout_ms = 50, .tries = 1};
}

/* Each answer of a server becomes addresses or the error that it means. */
ZK_ASYNC_TEST(dns, answers_become_addresses_or_errors)
{
    static const struct {
        const char *name;
        int rc;
    } rows[] = {
        {"two.test", 2},
        {"FOUR.test.", 1},
        {"tcp.test", 2},
        {"none.test", ZK_E_DNS_NOT_FOUND},
        {"empty.test", ZK_E_DNS_NO_DATA},
        {"fail.test", ZK_E_DNS_SERVER},
        {"refuse.test", ZK_E_DNS_REFUSED},
        {"junk.test", ZK_E_DNS_ANSWER},
        {"mute.test", ZK_E_DNS_TIMEOUT},
        {"localhost", 1},
        {"a.localhost", 2},
        {"10.1.2.3", 1},
        {"::1", 1},
        {"127.1", ZK_E_DNS_NAME},
        {"", ZK_E_DNS_NAME},
        {"a..b", ZK_E_DNS_NAME},
    };
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    char path[] = "/tmp/zokio-hosts-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, "127.0.0.9 localhost\n", 20) == 20);
    options.hosts_path = path;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_addr addrs[4];
        cr_assert_rc(zk_resolve(rows[i].name, &options, addrs, 4), rows[i].rc, "%s", rows[i].name);
        if (rows[i].rc < 0) cr_assert(strstr(zk_trail(), "resolving \""), "%s", zk_trail());
    }
    /* A change of the file is seen. */
    zk_addr addr;
    cr_assert(write(fd, "::1 two.test\n", 13) == 13);
    cr_assert_rc(zk_resolve("two.test", &options, &addr, 1), 1);
    cr_assert_eq(addr.sa.sa_family, AF_INET6);
    close(fd);
    unlink(path);
}

/* Without a descriptor for the file it is not taken for an empty one. */
ZK_ASYNC_TEST(dns, the_hosts_file_is_read_once_it_can_be)
{
    char path[] = "/tmp/zokio-hosts-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, "127.0.0.9 only.hosts.test\n", 26) == 26);
    zk_resolve_options options = {.hosts_path = path, .servers = "127.0.0.1:1"};
    struct rlimit before;
    zk_addr addr;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_max = before.rlim_max});
    int rc = zk_resolve("only.hosts.test", &options, &addr, 1);
    setrlimit(RLIMIT_NOFILE, &before);
    cr_assert_rc(rc, -EMFILE);
    cr_assert_rc(zk_resolve("only.hosts.test", &options, &addr, 1), 1);
    close(fd);
    unlink(path);
}

/* An answer is remembered until it is flushed, a negative one with an SOA record too. */
ZK_ASYNC_TEST(dns, an_answer_is_remembered)
{
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    zk_addr addr;
    for (int i = 0; i < 5; i++) {
        cr_assert_rc(zk_resolve("two.test", &options, &addr, 1), 1);
        cr_assert_rc(zk_resolve("none.test", &options, &addr, 1), ZK_E_DNS_NOT_FOUND);
    }
    cr_assert_eq(atomic_load(&s.queries), 4);
    zk_resolve_flush();
    cr_assert_rc(zk_resolve("two.test", &options, &addr, 1), 1);
    cr_assert_eq(atomic_load(&s.queries), 6);
}

typedef struct ask {
    const zk_resolve_options *options;
    const char *name;
} ask;

static int resolve_one(void *arg)
{
    ask *a = arg;
    zk_addr addr;
    return zk_resolve(a->name, a->options, &addr, 1);
}

/* For how long an answer is good: as long as its records, also when it is remembered; what has no
 * records is looked at again soon. */
ZK_ASYNC_TEST(dns, an_answer_has_a_lifetime)
{
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    zk_addr addrs[4];
    zk_time lifetime = 0;
    cr_expect_eq(zk__resolve_for("four.test", &options, addrs, 4, &lifetime), 1);
    cr_expect(lifetime > ZK_SEC(50) && lifetime <= ZK_SEC(60), "%" PRId64, lifetime);
    cr_expect_eq(zk__resolve_for("FOUR.test", &options, addrs, 4, &lifetime), 1);
    cr_expect(lifetime > ZK_SEC(50) && lifetime <= ZK_SEC(60), "%" PRId64, lifetime);
    cr_expect_eq(zk__resolve_for("127.0.0.1", &options, addrs, 4, &lifetime), 1);
    cr_expect_eq(lifetime, ZK__DNS_LOCAL_LIFETIME);
    cr_expect(zk__resolve_for("localhost", &options, addrs, 4, &lifetime) > 0);
    cr_expect_eq(lifetime, ZK__DNS_LOCAL_LIFETIME);
    lifetime = 7;
    cr_expect_eq(zk__resolve_for("none.test", &options, addrs, 4, &lifetime), ZK_E_DNS_NOT_FOUND);
    cr_expect_eq(lifetime, 7, "untouched");
}

/* Tasks that ask for one name at the same time cost one query for each family. */
ZK_ASYNC_TEST(dns, tasks_share_a_query)
{
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    ask a = {&options, "two.test"};
    ZK_SCOPE(scope) {
        for (int i = 0; i < 50; i++)
            cr_assert_ok(zk_spawn(&scope, resolve_one, &a));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_assert_eq(atomic_load(&s.queries), 2);
}

/* A server that does not answer for IPv6 holds nobody up, neither who asked first nor who asks
 * while the query is still under way. */
ZK_ASYNC_TEST(dns, addresses_do_not_wait_for_the_other_family)
{
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    options.timeout_ms = 100 * 1000; /* the test would be too late */
    ask a = {&options, "half.test"};
    ZK_SCOPE(scope) {
        for (int i = 0; i < 3; i++)
            cr_assert_ok(zk_spawn(&scope, resolve_one, &a));
        cr_assert_ok(zk_scope_wait(&scope));
    }
    cr_assert_rc(resolve_one(&a), 1);
    cr_assert_eq(atomic_load(&s.queries), 2);
}

/* Who gives up leaves the query to the others, and nothing behind. */
ZK_ASYNC_TEST(dns, a_waiter_may_leave)
{
    static server s; /* its threads outlive the test's stack */
    server_start(&s);
    zk_resolve_options options = asking(&s);
    options.timeout_ms = 250;
    ask a = {&options, "mute.test"};
    zk_future stays;
    zk_async(&stays, resolve_one, &a);
    cr_assert_rc(zk_timeout(ZK_MS(5), resolve_one, &a), -ETIMEDOUT);
    ZK_SCOPE(scope) {
        zk_scope_cancel(&scope);
        cr_assert_rc(resolve_one(&a), -ECANCELED);
    }
    cr_assert_rc(zk_await(&stays), ZK_E_DNS_TIMEOUT);
    a.name = "mute2.test"; /* left under way when the runtime ends */
    cr_assert_rc(zk_timeout(ZK_MS(0), resolve_one, &a), -ETIMEDOUT);
    a.name = "mute.other";
    cr_assert_rc(zk_timeout(ZK_MS(5), resolve_one, &a), -ETIMEDOUT);
}

ZK_ASYNC_TEST(dns, options_are_checked)
{
    zk_addr addr;
    zk_resolve_options bad = {.servers = "nonsense"};
    cr_assert_rc(zk_resolve("a.test", &bad, &addr, 1), ZK_E_CONFIG);
    bad = (zk_resolve_options){.timeout_ms = -1};
    cr_assert_rc(zk_resolve("a.test", &bad, &addr, 1), ZK_E_CONFIG);
    cr_assert_rc(zk_resolve("a.test", NULL, &addr, 0), ZK_E_CONFIG);
}

ZK_TEST(dns, outside_of_the_runtime_there_is_none)
{
    zk_addr addr;
    cr_assert_rc(zk_resolve("a.test", NULL, &addr, 1), ZK_E_NO_RUNTIME);
    zk_resolve_flush();
}

/* The lifetime of a negative answer is the smaller one of its SOA record's two; broken messages
 * have none, wherever they are cut. */
ZK_TEST(dns, a_negative_answer_lives_as_its_soa_says)
{
    static const uint8_t q[] = {0, 1, 1,   0,   0,   1,   0, 0, 0, 0, 0,
                                0, 4, 'n', 'o', 'n', 'e', 0, 0, 1, 0, 1};
    uint8_t a[128];
    size_t size = answer(q, sizeof q, a, false);
    cr_assert_eq(zk__dns_negative_lifetime(a, size), ZK_SEC(30));
    for (size_t cut = 0; cut < size; cut++)
        cr_assert_eq(zk__dns_negative_lifetime(a, cut), 0, "cut at %zu", cut);
}
