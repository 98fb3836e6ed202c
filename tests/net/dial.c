/*
 * Connecting to a host by its name: the addresses come from a hosts file of the test's own.
 */
#include "tests/async.h"
#include "tests/open_count.h"

#include <errno.h>

#include <zokio/dns.h>
#include <zokio/tcp.h>

static char hosts_path[] = "/tmp/zokio-dial-XXXXXX";
static zk_resolve_options resolve;
static zk_connect_options options;

static void hosts_write(const char *text)
{
    int fd = mkstemp(hosts_path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    resolve = (zk_resolve_options){.hosts_path = hosts_path};
    options = (zk_connect_options){.resolve = &resolve, .attempt_delay_ms = 20};
}

static zk_listener *listen_on(const char *text, int backlog, zk_addr *ret_addr)
{
    zk_listener *listener;
    zk_addr addr;
    cr_assert_ok(zk_addr_parse(text, &addr));
    cr_assert_ok(zk_listen(&addr, &(zk_listen_options){.backlog = backlog}, &listener));
    cr_assert_ok(zk_listener_addr(listener, ret_addr));
    return listener;
}

/* Fills a listener's queue, so that further attempts get no answer. */
static int fill(const zk_addr *addr, zk_stream **streams, int capacity)
{
    int count = 0;
    zk_stream *stream;
    for (; count < capacity; count++) {
        int rc = 0;
        ZK_WITHIN(ZK_MS(30))
            rc = zk_connect(addr, &stream);
        if (rc < 0) return count;
        streams[count] = stream;
    }
    cr_assert_fail("the queue does not fill up");
    return count;
}

/* An address that refuses is passed over at once, and the next one wins. */
ZK_ASYNC_TEST(dial, a_refused_address_is_passed_over)
{
    zk_addr addr;
    zk_listener *listener = listen_on("127.0.0.1:0", 0, &addr);
    char host[64];
    zk_stream *stream;
    hosts_write("127.0.0.2 service\n127.0.0.1 service\n");
    options.attempt_delay_ms = 60000; /* the delay is not waited for */
    snprintf(host, sizeof host, "service:%u", zk_addr_port(&addr));
    cr_assert_rc(zk_connect_host(host, &options, &stream), 0, "%s", zk_trail());
    zk_stream_close(stream);
    snprintf(host, sizeof host, "127.0.0.1:%u", zk_addr_port(&addr));
    cr_assert_ok(zk_connect_host(host, NULL, &stream));
    zk_stream_close(stream);
    zk_listener_close(listener);
    unlink(hosts_path);
}

/* When all fail, the first error is the result, and the trail lists each. */
ZK_ASYNC_TEST(dial, all_errors_are_told)
{
    zk_addr addr;
    zk_stream *stream = NULL;
    zk_listener_close(listen_on("127.0.0.1:0", 0, &addr));
    hosts_write("127.0.0.2 service\n127.0.0.3 service\n");
    char host[64], wanted[128];
    unsigned port = zk_addr_port(&addr);
    snprintf(host, sizeof host, "service:%u", port);
    snprintf(wanted, sizeof wanted, "127.0.0.2:%u ECONNREFUSED, 127.0.0.3:%u ECONNREFUSED", port,
             port);
    cr_assert_rc(zk_connect_host(host, &options, &stream), -ECONNREFUSED);
    cr_assert(strstr(zk_trail(), wanted), "%s", zk_trail());
    cr_assert_rc(zk_connect_host("service", &options, &stream), ZK_E_ADDR);
    cr_assert_rc(zk_connect_host("service:70000", &options, &stream), ZK_E_ADDR);
    cr_assert_rc(zk_connect_host("a..b:1", &options, &stream), ZK_E_DNS_NAME);
    options.attempt_delay_ms = -1;
    cr_assert_rc(zk_connect_host(host, &options, &stream), ZK_E_CONFIG);
    cr_assert_null(stream, "untouched");
    unlink(hosts_path);
}

/* An address that does not answer is overtaken after the delay; the loser is closed. */
ZK_ASYNC_TEST(dial, a_silent_address_is_overtaken)
{
    zk_addr silent, addr;
    zk_stream *fillers[64], *stream;
    zk_listener *full = listen_on("127.0.0.2:0", 1, &silent);
    int count = fill(&silent, fillers, 64);
    char text[64], host[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", zk_addr_port(&silent));
    zk_listener *listener = listen_on(text, 0, &addr);
    hosts_write("127.0.0.2 service\n127.0.0.1 service\n");
    snprintf(host, sizeof host, "service:%u", zk_addr_port(&silent));
    zk_addr warm; /* the resolver's own descriptor is there before they are counted */
    cr_assert_rc(zk_resolve("service", &resolve, &warm, 1), 1);
    int before = open_count();
    cr_assert_rc(zk_connect_host(host, &options, &stream), 0, "%s", zk_trail());
    cr_assert_eq(open_count(), before + 1);
    zk_stream_close(stream);
    zk_listener_close(listener);
    /* Now there is only silence: the deadline ends it, and nothing is left. */
    snprintf(host, sizeof host, "127.0.0.2:%u", zk_addr_port(&silent));
    before = open_count();
    int rc = 0;
    ZK_WITHIN(ZK_MS(30))
        rc = zk_connect_host(host, NULL, &stream);
    cr_assert_rc(rc, -ETIMEDOUT);
    ZK_SCOPE(s) {
        zk_scope_cancel(&s);
        cr_assert_rc(zk_connect_host(host, NULL, &stream), -ECANCELED);
    }
    cr_assert_eq(open_count(), before);
    while (count > 0)
        zk_stream_close(fillers[--count]);
    zk_listener_close(full);
    unlink(hosts_path);
}

ZK_TEST(dial, outside_of_the_runtime_there_is_none)
{
    zk_stream *stream;
    cr_assert_rc(zk_connect_host("127.0.0.1:1", NULL, &stream), ZK_E_NO_RUNTIME);
}
