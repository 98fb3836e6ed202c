/*
 * Settings of a proxy by name: from lines of a file, and one by one.
 */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <zokio/proxy_config.h>

static zk_proxy_config *config_new(void)
{
    zk_proxy_config *c;
    cr_assert_ok(zk_proxy_config_new(&c));
    return c;
}

static int parse(zk_proxy_config *c, const char *text)
{
    return zk_proxy_config_parse(c, "f", text, strlen(text));
}

/* Each setting goes where it belongs. */
ZK_TEST(proxy_config, reads_all_settings)
{
    static const char text[] = "# a comment\n"
                               "\n"
                               "listen = :8080\n"
                               "upstream = 10.0.0.1:80\n"
                               "  upstream=http://b:81*3  \n"
                               "\tupstream\t=\tunix:/run/a b\n"
                               "balance = two-choices\r\n"
                               "hash-header = X-Key\n"
                               "upstream-host = on\n"
                               "trust-forwarded = off\n"
                               "via = me\n"
                               "upgrade = *\n"
                               "connect = *.example.org:443\n"
                               "connect = *:80\n"
                               "send-proxy-protocol = v2\n"
                               "accept-proxy-protocol = 10.0.0.0/8\n"
                               "tunnel-timeout = 1h\n"
                               "tries = 4\n"
                               "retry-percent = off\n"
                               "hedge = p95\n"
                               "failures = off\n"
                               "ejection = 250ms\n"
                               "ejection-max = 5m\n"
                               "max-active = 100\n"
                               "max-pending = 10\n"
                               "breaker = 50\n"
                               "breaker-requests = 30\n"
                               "breaker-window = 20s\n"
                               "breaker-open = 3s\n"
                               "breaker-trials = 5\n"
                               "breaker-status = off\n"
                               "slow-start = 30s\n"
                               "health = /up?a=b#c\n"
                               "health-interval = 1s\n"
                               "health-timeout = 2s\n"
                               "health-threshold = 3\n"
                               "resolve-retry = 7s\n"
                               "rate-limit = 30/m\n"
                               "rate-burst = 5\n"
                               "rate-header = X-Api-Key\n"
                               "tls = a.pem   b.pem\n"
                               "ktls = on\n"
                               "log = json\n"
                               "metrics = /metrics"; /* no newline */
    zk_proxy_config *c = config_new();
    cr_assert_eq(parse(c, text), 0, "%s", zk_trail());
    const zk_proxy_options *o = &c->proxy;
    cr_expect_str_eq(c->listen, ":8080");
    cr_expect_str_eq(o->upstreams[0].address, "10.0.0.1:80");
    cr_expect_eq(o->upstreams[0].weight, 1);
    cr_expect_str_eq(o->upstreams[1].address, "http://b:81");
    cr_expect_eq(o->upstreams[1].weight, 3);
    cr_expect_str_eq(o->upstreams[2].address, "unix:/run/a b");
    cr_expect_null(o->upstreams[3].address);
    cr_expect_eq(o->balance, ZK_BALANCE_TWO_CHOICES);
    cr_expect_str_eq(o->hash_header, "X-Key");
    cr_expect(o->sends_upstream_host && !o->trusts_forwarded);
    cr_expect_str_eq(o->via, "me");
    cr_expect_str_eq(o->upgrade, "*");
    cr_expect_str_eq(o->connect_allow[1], "*:80");
    cr_expect_null(o->connect_allow[2]);
    cr_expect_eq(o->proxy_protocol, 2);
    cr_expect_str_eq(c->proxy_protocol_from[0], "10.0.0.0/8");
    cr_expect_eq(o->tunnel_timeout_ms, 3600000);
    cr_expect_eq(o->tries_max, 4);
    cr_expect_eq(o->retry_percent_max, -1);
    cr_expect_eq(o->hedge_percentile, 95);
    cr_expect_eq(o->failures_max, -1);
    cr_expect_eq(o->ejection_ms, 250);
    cr_expect_eq(o->ejection_max_ms, 300000);
    cr_expect_eq(o->active_max, 100);
    cr_expect_eq(o->pending_max, 10);
    cr_expect_eq(o->breaker_percent, 50);
    cr_expect_eq(o->breaker_requests_min, 30);
    cr_expect_eq(o->breaker_window_ms, 20000);
    cr_expect_eq(o->breaker_open_ms, 3000);
    cr_expect_eq(o->breaker_trials, 5);
    cr_expect_eq(o->breaker_status_min, -1);
    cr_expect_eq(o->slow_start_ms, 30000);
    cr_expect_str_eq(o->health_path, "/up?a=b#c");
    cr_expect_eq(o->health_interval_ms, 1000);
    cr_expect_eq(o->health_timeout_ms, 2000);
    cr_expect_eq(o->health_threshold, 3);
    cr_expect_eq(o->resolve_retry_ms, 7000);
    cr_expect(c->rate_limit.per_second == 0.5);
    cr_expect_eq(c->rate_limit.burst, 5);
    cr_expect_str_eq(c->rate_limit.header, "X-Api-Key");
    cr_expect_str_eq(c->cert_file, "a.pem");
    cr_expect_str_eq(c->key_file, "b.pem");
    cr_expect(c->ktls);
    cr_expect_str_eq(c->log, "json");
    cr_expect_str_eq(c->metrics_path, "/metrics");
    zk_proxy_config_free(c);
}

/* Every setting that there is, is in the test above and has words for people. */
ZK_TEST(proxy_config, lists_its_settings)
{
    zk_proxy_setting s;
    int count = 0;
    for (; zk_proxy_setting_at(count, &s); count++)
        cr_expect(*s.name && *s.value && *s.what, "%s", s.name);
    cr_expect_eq(count, 39);
    cr_expect(!zk_proxy_setting_at(-1, &s));
}

/* Errors name the file and the line, and say what is wrong. */
ZK_TEST(proxy_config, says_what_is_wrong_and_where)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"listen = a\nbalanc = least\n", "f:2: there is no setting \"balanc\""},
        {"\n\n  nothing\n", "f:3: not of the form name = value"},
        {"= 1\n", "f:1: there is no setting \"\""},
        {"tries = 3\ntries = 3\n", "f:2: tries is there twice"},
        {"tries =\n", "f:1: tries has no value"},
        {"tries = 0\n", "f:1: tries: \"0\" is no number from 1 to"},
        {"tries = -1\n", "\"-1\" is no number"},
        {"tries = 3x\n", "\"3x\" is no number"},
        {"tries = off\n", "\"off\" is no number"},
        {"tries = 99999999999999999999\n", "is no number"},
        {"breaker = 101\n", "is no number from 1 to 100"},
        {"slow-start = 30\n", "\"30\" is no time, such as 250ms, 30s, 5m, 1h"},
        {"slow-start = 30d\n", "is no time"},
        {"slow-start = 99999h\n", "is no time"},
        {"slow-start = 0s\n", "is no time"},
        {"slow-start = s\n", "is no time"},
        {"balance = fair\n", "none of round-robin, least, two-choices, hash"},
        {"upstream-host = yes\n", "neither on nor off"},
        {"hedge = p100\n", "is no number from 1 to 99"},
        {"hedge = p\n", "is no number"},
        {"hedge = 50\n", "is no time"},
        {"rate-limit = 100\n", "is no rate, such as 100/s"},
        {"rate-limit = 0/s\n", "is no rate"},
        {"rate-limit = 5/d\n", "is no rate"},
        {"rate-limit = 5/ss\n", "is no rate"},
        {"tls = cert\n", "tls has two files"},
        {"tls = a b c\n", "tls has two files"},
        {"send-proxy-protocol = v3\n", "neither v1 nor v2"},
        {"log = xml\n", "none of combined, common, json, off"},
        {"upstream = a:80*0\n", "the weight behind '*'"},
        {"upstream = a:80*101\n", "the weight behind '*'"},
        {"upstream = a:80*\n", "the weight behind '*'"},
        {"upstream = http://a/b\n", "only scheme, host and port"},
        {"upstream = http://\n", "f:1: upstream"},
        {"via = a\x01z\n", "a control character (1)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk_proxy_config *c = config_new();
        int rc = parse(c, rows[i].text);
        cr_expect(rc < 0, "row %zu", i);
        const char *trail = zk_trail();
        cr_expect(strstr(trail, rows[i].says), "row %zu: %s", i, trail);
        cr_expect(!strncmp(trail, "f:", 2), "row %zu: %s", i, trail);
        zk_proxy_config_free(c);
    }
}

/* A NUL in a file ends nothing. */
ZK_TEST(proxy_config, sees_behind_a_nul)
{
    zk_proxy_config *c = config_new();
    cr_expect_eq(zk_proxy_config_parse(c, "f", "via = a\0b\n", 10), ZK_E_CONFIG);
    zk_proxy_config_free(c);
}

/* There is room for 256 upstreams, and long lines are refused. */
ZK_TEST(proxy_config, has_limits)
{
    zk_proxy_config *c = config_new();
    for (int i = 0; i < 256; i++)
        cr_assert_eq(zk_proxy_config_set(c, "upstream", "a:80"), 0);
    cr_expect_eq(zk_proxy_config_set(c, "upstream", "a:80"), ZK_E_CONFIG);
    for (int i = 0; i < 64; i++)
        cr_assert_eq(zk_proxy_config_set(c, "connect", "a:80"), 0);
    cr_expect_eq(zk_proxy_config_set(c, "connect", "a:80"), ZK_E_CONFIG);
    static char text[3000];
    memset(text, 'x', sizeof text - 1);
    cr_expect_eq(zk_proxy_config_set(c, "via", text), ZK_E_CONFIG);
    memcpy(text, "via = ", 6);
    cr_expect_eq(parse(c, text), ZK_E_CONFIG);
    zk_proxy_config_free(c);
    zk_proxy_config_free(NULL);
}

/* One by one a setting may be said again: the last counts. */
ZK_TEST(proxy_config, takes_the_last_word)
{
    zk_proxy_config *c = config_new();
    cr_assert_eq(parse(c, "tries = 3\nhedge = p90\n"), 0);
    cr_expect_eq(zk_proxy_config_set(c, "tries", "5"), 0);
    cr_expect_eq(zk_proxy_config_set(c, "hedge", "20ms"), 0);
    cr_expect_eq(zk_proxy_config_set(c, "nothing", "5"), ZK_E_CONFIG);
    cr_expect_eq(c->proxy.tries_max, 5);
    cr_expect(c->proxy.hedge_ms == 20 && c->proxy.hedge_percentile == 0);
    zk_proxy_config_free(c);
}

/* Files: read as they are, up to a limit. */
ZK_TEST(proxy_config, reads_files)
{
    char path[] = "/tmp/zokio-config-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    zk_proxy_config *c = config_new();
    cr_assert_eq(write(fd, "tries = 7\n", 10), 10);
    cr_expect_eq(zk_proxy_config_read(c, path), 0);
    cr_expect_eq(c->proxy.tries_max, 7);
    cr_assert_eq(ftruncate(fd, (1 << 20) + 1), 0);
    cr_expect_eq(zk_proxy_config_read(c, path), ZK_E_CONFIG);
    cr_expect(strstr(zk_trail(), "over 1 MiB"));
    close(fd);
    unlink(path);
    cr_expect_eq(zk_proxy_config_read(c, path), -ENOENT);
    cr_expect(!strncmp(zk_trail(), path, strlen(path)));
    cr_expect_eq(zk_proxy_config_read(c, "/"), -EISDIR);
    zk_proxy_config_free(c);
}

/* What a reload would not change is named. */
ZK_TEST(proxy_config, finds_differences)
{
    static const struct {
        const char *a, *b, *name;
    } rows[] = {
        {"upstream = a:1\n", "upstream = b:1*2\n", NULL},
        {"", "", NULL},
        {"tries = 3\n", "tries = 3\n", NULL},
        {"tries = 3\n", "", "tries"},
        {"via = a\n", "via = a\n", NULL},
        {"via = a\n", "via = b\n", "via"},
        {"", "via = b\n", "via"},
        {"upstream-host = on\n", "", "upstream-host"},
        {"slow-start = 1s\n", "slow-start = 1000ms\n", NULL},
        {"balance = least\n", "", "balance"},
        {"hedge = p50\n", "hedge = p51\n", "hedge"},
        {"hedge = 5ms\n", "", "hedge"},
        {"rate-limit = 60/m\n", "rate-limit = 1/s\n", NULL},
        {"rate-limit = 60/m\n", "", "rate-limit"},
        {"log = json\n", "log = combined\n", "log"},
        {"tls = a b\n", "tls = a c\n", "tls"},
        {"tls = a b\n", "", "tls"},
        {"connect = a:1\n", "connect = a:1\n", NULL},
        {"connect = a:1\n", "connect = a:1\nconnect = b:1\n", "connect"},
        {"", "connect = b:1\n", "connect"},
        {"send-proxy-protocol = v1\n", "", "send-proxy-protocol"},
        {"accept-proxy-protocol = ::/0\n", "", "accept-proxy-protocol"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zk_proxy_config *a = config_new(), *b = config_new();
        cr_assert_eq(parse(a, rows[i].a), 0);
        cr_assert_eq(parse(b, rows[i].b), 0);
        const char *name = zk_proxy_config_difference(a, b);
        cr_expect_str_eq(name ? name : "none", rows[i].name ? rows[i].name : "none", "row %zu", i);
        zk_proxy_config_free(a);
        zk_proxy_config_free(b);
    }
}
