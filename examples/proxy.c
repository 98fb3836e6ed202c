/*
 * A reverse proxy:
 *
 *     proxy LISTEN UPSTREAM... [--balance round-robin|least|two-choices|hash] [--hash-header NAME]
 *           [--health PATH] [--tls CERT KEY] [--log combined|json] [--metrics PATH]
 *           [--upstream-host] [--trust-forwarded] [--tries N] [--connect HOST:PORT]...
 *           [--accept-proxy-protocol NET]... [--send-proxy-protocol v1|v2]
 *
 * An upstream is "http://host:port", "https://host", "h2c://host:port", "host:port" or
 * "unix:/path", with its weight behind a '*' if that is not 1: "10.0.0.1:80*3". --connect makes it
 * a forward proxy for that host and port, too, or just that without upstreams; '*' is all of
 * either. Errors go to standard error, the log to standard output.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zokio/zokio.h>

#include <zokio/proxy.h>

enum { UPSTREAMS_MAX = 64, NETWORKS_MAX = 16, CONNECT_MAX = 64 };

typedef struct settings {
    const char *listen;
    zk_upstream upstreams[UPSTREAMS_MAX + 1];
    zk_tls_certificate certificates[2];
    const char *metrics_path;
    const char *announcers[NETWORKS_MAX + 1]; /* for --accept-proxy-protocol */
    int announcer_count;
    const char *connect[CONNECT_MAX + 1];
    int connect_count;
    bool logs_json;
    zk_proxy_options options;
    zk_proxy *proxy;
} settings;

static int forward(zk_request *req, zk_response *res)
{
    settings *s = zk_request_context(req);
    return zk_proxy_run(s->proxy, req, res);
}

static int metrics(zk_request *req, zk_response *res)
{
    settings *s = zk_request_context(req);
    return zk_proxy_metrics(s->proxy, req, res);
}

static void on_access(void *context, const zk_proxy_access *access)
{
    char line[4096];
    settings *s = context;
    size_t size = s->logs_json ? zk_proxy_log_json(access, line, sizeof line - 1)
                               : zk_proxy_log_line(access, line, sizeof line - 1);
    line[size] = '\n';
    fwrite(line, 1, size + 1, stdout);
}

static void on_health(void *context, const char *upstream, bool is_well, const char *reason)
{
    (void)context;
    fprintf(stderr, "proxy: upstream %s is %s: %s\n", upstream, is_well ? "well" : "out", reason);
}

static void on_error(void *context, const zk_request *req, int rc, const char *what)
{
    (void)context;
    zk_str target = req ? zk_request_target(req) : ZK_STR("");
    fprintf(stderr, "proxy: %.*s: %s (%s)\n", (int)target.size, target.data, what, zk_errname(rc));
}

static void on_listening(void *context, zk_serving *serving)
{
    (void)context;
    char text[ZK_ADDR_TEXT_BYTES];
    zk_addr addr = zk_serving_addr(serving);
    zk_addr_format(&addr, text);
    printf("listening on %s\n", text);
    fflush(stdout);
}

static int check(void *arg)
{
    int rc = zk_proxy_check(arg);
    return rc == -ECANCELED ? 0 : rc;
}

static int serve(void *arg)
{
    settings *s = arg;
    zk_route routes[4] = {
        {NULL, "/{path...}", forward, NULL}, {"CONNECT", "/{path...}", forward, NULL}, {0}};
    if (s->metrics_path) routes[2] = (zk_route){"GET", s->metrics_path, metrics, NULL};
    zk_server server = {
        .listen = s->listen,
        .routes = routes,
        .context = s,
        .on_listening = on_listening,
        .on_error = on_error,
        .body_stream_bytes_max = UINT64_MAX,
        .proxy_protocol_from = s->announcers,
    };
    zk_tls_server tls = {.certificates = s->certificates};
    if (s->certificates[0].cert_file) server.tls = &tls;
    int rc = 0;
    ZK_SCOPE(scope) {
        if (s->options.health_path) rc = zk_spawn(&scope, check, s->proxy);
        if (!rc) rc = zk_serve(&server);
        zk_scope_cancel(&scope);
    }
    return rc;
}

static bool balance_parse(const char *text, zk_balance *ret)
{
    static const char *const names[] = {"round-robin", "least", "two-choices", "hash"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i])) continue;
        *ret = (zk_balance)i;
        return true;
    }
    return false;
}

/* Takes one option with its values. returns how many words; 0: it is none. */
static int option_take(settings *s, char **words)
{
    const char *name = words[0], *value = words[1];
    if (!strcmp(name, "--upstream-host")) return s->options.sends_upstream_host = true;
    if (!strcmp(name, "--trust-forwarded")) return s->options.trusts_forwarded = true;
    if (!value) return 0;
    if (!strcmp(name, "--balance")) return balance_parse(value, &s->options.balance) ? 2 : 0;
    if (!strcmp(name, "--hash-header")) return s->options.hash_header = value, 2;
    if (!strcmp(name, "--health")) return s->options.health_path = value, 2;
    if (!strcmp(name, "--connect") && s->connect_count < CONNECT_MAX) {
        s->connect[s->connect_count++] = value;
        s->options.connect_allow = s->connect;
        return 2;
    }
    if (!strcmp(name, "--metrics")) return s->metrics_path = value, 2;
    if (!strcmp(name, "--tries")) return s->options.tries_max = atoi(value), 2;
    if (!strcmp(name, "--log")) {
        s->logs_json = !strcmp(value, "json");
        s->options.on_access = on_access;
        return 2;
    }
    if (!strcmp(name, "--accept-proxy-protocol")) {
        if (s->announcer_count == NETWORKS_MAX) return 0;
        s->announcers[s->announcer_count++] = value;
        return 2;
    }
    if (!strcmp(name, "--send-proxy-protocol")) {
        s->options.proxy_protocol = !strcmp(value, "v1") ? 1 : !strcmp(value, "v2") ? 2 : 0;
        return s->options.proxy_protocol ? 2 : 0;
    }
    if (strcmp(name, "--tls") || !words[2]) return 0;
    s->certificates[0] = (zk_tls_certificate){.cert_file = value, .key_file = words[2]};
    return 3;
}

static bool settings_parse(settings *s, char **words)
{
    int count = 0;
    while (*words) {
        if (!strncmp(*words, "--", 2)) {
            int taken = option_take(s, words);
            if (!taken) return false;
            words += taken;
        } else if (!s->listen) {
            s->listen = *words++;
        } else if (count < UPSTREAMS_MAX) {
            char *star = strchr(*words, '*');
            if (star) *star++ = '\0';
            s->upstreams[count++] = (zk_upstream){*words++, star ? atoi(star) : 1};
        } else {
            return false;
        }
    }
    return s->listen && (count > 0 || s->connect_count > 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    static settings s;
    s.options = (zk_proxy_options){.upstreams = s.upstreams, .on_health = on_health, .context = &s};
    if (!settings_parse(&s, argv + 1)) {
        fprintf(stderr, "usage: proxy LISTEN UPSTREAM... [--balance HOW] [--hash-header NAME] "
                        "[--health PATH]\n             [--tls CERT KEY] [--log combined|json] "
                        "[--metrics PATH] [--upstream-host]\n             [--trust-forwarded] "
                        "[--tries N] [--connect HOST:PORT]...\n             "
                        "[--accept-proxy-protocol NET] [--send-proxy-protocol v1|v2]\n");
        return 2;
    }
    int rc = zk_proxy_new(&s.options, &s.proxy);
    if (rc >= 0) rc = zk_run(NULL, serve, &s);
    if (rc < 0) fprintf(stderr, "proxy: %s\n", *zk_trail() ? zk_trail() : zk_strerror(rc));
    zk_proxy_free(s.proxy);
    return rc < 0;
}
