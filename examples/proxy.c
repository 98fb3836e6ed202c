/*
 * A reverse proxy:
 *
 *     proxy LISTEN UPSTREAM... [--OPTION VALUE]...
 *     proxy --config FILE [--OPTION VALUE]...
 *
 * An upstream is "http://host:port", "https://host", "h2c://host:port", "host:port" or
 * "unix:/path", with its weight behind a '*' if that is not 1: "10.0.0.1:80*3". None is needed with
 * --connect, which makes it a forward proxy for that host and port. Every option may stand in the
 * file, too: "--slow-start 30s" is the line "slow-start = 30s". `--help` lists them.
 *
 * SIGHUP reads the file again: its upstreams take the place of those before, without a request
 * being lost. A file with an error changes nothing. Errors go to standard error, the log to
 * standard output.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zokio/zokio.h>

#include <zokio/proxy.h>
#include <zokio/proxy_config.h>
#include <zokio/rate_limit.h>

typedef struct program {
    char **words; /* of the command line */
    const char *file;
    zk_proxy_config *config;
    zk_rate_limit *limit;
    zk_proxy *proxy;
} program;

/* ---- what is told ---- */

static void complain(const char *what, int rc)
{
    const char *trail = zk_trail();
    fprintf(stderr, "proxy: %s%s\n", what, *trail ? trail : zk_strerror(rc));
}

static void on_access(void *context, const zk_proxy_access *access)
{
    char line[4096];
    const program *p = context;
    const char *format = p->config->log;
    size_t size = (!strcmp(format, "json")     ? zk_proxy_log_json
                   : !strcmp(format, "common") ? zk_proxy_log_common
                                               : zk_proxy_log_line)(access, line, sizeof line - 1);
    line[size] = '\n';
    fwrite(line, 1, size + 1, stdout);
}

static void on_health(void *context, const char *upstream, bool is_well, const char *reason)
{
    (void)context;
    fprintf(stderr, "proxy: upstream %s is %s: %s\n", upstream, is_well ? "well" : "out", reason);
}

static void on_resolve(void *context, const char *upstream, int count, const char *reason)
{
    (void)context;
    if (count < 0) {
        fprintf(stderr, "proxy: upstream %s keeps its addresses: %s\n", upstream, reason);
    } else {
        fprintf(stderr, "proxy: upstream %s: %d address%s\n", upstream, count,
                count == 1 ? "" : "es");
    }
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

/* ---- settings ---- */

/* Takes one option with its values, as if it stood in the file. returns how many words; < 0. */
static int option_take(zk_proxy_config *config, char **words)
{
    const char *name = words[0] + 2, *value = words[1];
    char both[2048];
    int taken = 2;
    bool is_flag = !strcmp(name, "upstream-host") || !strcmp(name, "trust-forwarded");
    bool is_alone = is_flag && !(value && (!strcmp(value, "on") || !strcmp(value, "off")));
    if (is_alone) value = "on", taken = 1;
    if (!value) return zk_fail(ZK_E_CONFIG, "%s needs a value", words[0]);
    if (!strcmp(name, "tls") && words[2]) {
        snprintf(both, sizeof both, "%s %s", value, words[2]);
        value = both;
        taken = 3;
    }
    int rc = zk_proxy_config_set(config, name, value);
    return rc < 0 ? rc : taken;
}

/* The file first, then the command line, which has the last word. */
static int settings_read(const program *p, zk_proxy_config **ret_config)
{
    zk_proxy_config *config;
    int rc = zk_proxy_config_new(&config);
    if (rc < 0) return rc;
    if (p->file) rc = zk_proxy_config_read(config, p->file);
    bool has_listen = p->file != NULL && config->listen;
    for (char **words = p->words; *words && rc >= 0;) {
        if (!strcmp(*words, "--config")) {
            words += 2;
        } else if (!strncmp(*words, "--", 2)) {
            rc = option_take(config, words);
            words += rc > 0 ? rc : 0;
        } else {
            rc = zk_proxy_config_set(config, has_listen ? "upstream" : "listen", *words++);
            has_listen = true;
        }
    }
    if (rc >= 0 && !config->listen) rc = zk_fail(ZK_E_CONFIG, "it is not said where to listen");
    if (rc >= 0 && !config->proxy.upstreams && !config->proxy.connect_allow)
        rc = zk_fail(ZK_E_CONFIG, "there is no upstream");
    if (rc < 0) {
        zk_proxy_config_free(config);
        return rc;
    }
    *ret_config = config;
    return 0;
}

/* Reading a file may take its time: not on a worker. */
typedef struct reading {
    const program *program;
    zk_proxy_config *config;
} reading;

static int read_run(void *arg)
{
    reading *r = arg;
    return settings_read(r->program, &r->config);
}

static void reload(program *p)
{
    reading r = {.program = p};
    int rc = zk_blocking(read_run, &r);
    if (rc >= 0) rc = zk_proxy_reload(p->proxy, r.config->proxy.upstreams);
    if (rc < 0) {
        complain("nothing is changed: ", rc);
    } else {
        const char *other = zk_proxy_config_difference(p->config, r.config);
        if (other) fprintf(stderr, "proxy: \"%s\" is changed by a new start only\n", other);
        fprintf(stderr, "proxy: %s is read\n", p->file);
    }
    zk_proxy_config_free(r.config);
}

/* ---- tasks ---- */

static int forward(zk_request *req, zk_response *res)
{
    program *p = zk_request_context(req);
    return zk_proxy_run(p->proxy, req, res);
}

static int metrics(zk_request *req, zk_response *res)
{
    program *p = zk_request_context(req);
    return zk_proxy_metrics(p->proxy, req, res);
}

static int until_canceled(int rc) { return rc == -ECANCELED ? 0 : rc; }

static int check(void *proxy) { return until_canceled(zk_proxy_check(proxy)); }
static int resolve(void *proxy) { return until_canceled(zk_proxy_resolve(proxy)); }

static int watch(void *arg)
{
    static const int numbers[] = {SIGHUP, 0};
    zk_signals *signals;
    int rc = zk_signals_open(numbers, &signals);
    if (rc < 0) return rc;
    while ((rc = zk_signals_next(signals, NULL)) > 0)
        reload(*(program **)arg);
    zk_signals_close(signals);
    return until_canceled(rc);
}

static int serve(void *arg)
{
    program *p = arg;
    const zk_proxy_config *c = p->config;
    zk_route routes[4] = {
        {NULL, "/{path...}", forward, NULL}, {"CONNECT", "/{path...}", forward, NULL}, {0}};
    if (c->metrics_path) routes[2] = (zk_route){"GET", c->metrics_path, metrics, NULL};
    zk_server server = {
        .listen = c->listen,
        .routes = routes,
        .context = p,
        .on_listening = on_listening,
        .on_error = on_error,
        .body_stream_bytes_max = UINT64_MAX,
        .proxy_protocol_from = c->proxy_protocol_from,
    };
    zk_tls_certificate certificates[2] = {{.cert_file = c->cert_file, .key_file = c->key_file}};
    zk_tls_server tls = {.certificates = certificates, .ktls = c->ktls};
    if (c->cert_file) server.tls = &tls;
    int rc = 0;
    ZK_SCOPE(scope) {
        if (c->proxy.health_path) rc = zk_spawn(&scope, check, p->proxy);
        if (!rc) rc = zk_spawn(&scope, resolve, p->proxy);
        if (!rc && p->file) rc = zk_spawn(&scope, watch, &p);
        if (!rc) rc = zk_serve(&server);
        zk_scope_cancel(&scope);
    }
    return rc;
}

/* ---- the program ---- */

static void help(FILE *to)
{
    fprintf(to,
            "usage: proxy LISTEN UPSTREAM... [--OPTION VALUE]...\n"
            "       proxy --config FILE [--OPTION VALUE]...\n\n"
            "An upstream is http://HOST:PORT, https://HOST, h2c://HOST:PORT, HOST:PORT or\n"
            "unix:PATH, with *WEIGHT behind it if that is not 1. TIME is 250ms, 30s, 5m or 1h.\n"
            "Each option may be a line of the file: \"option = value\". SIGHUP reads the file\n"
            "again and takes over its upstreams.\n\n");
    zk_proxy_setting s;
    for (int i = 0; zk_proxy_setting_at(i, &s); i++) {
        char left[80];
        int size =
            snprintf(left, sizeof left, "--%s %s%s", s.name, s.value, s.has_off ? "|off" : "");
        bool is_long = size > 30;
        fprintf(to, is_long ? "  %s\n" : "  %-31s", left);
        fprintf(to, is_long ? "%33s%s\n" : "%s%s\n", "", s.what);
    }
}

static int start(program *p)
{
    int rc = settings_read(p, &p->config);
    if (rc < 0) return rc;
    zk_proxy_options *o = &p->config->proxy;
    if (p->config->rate_limit.per_second > 0) {
        rc = zk_rate_limit_new(&p->config->rate_limit, &p->limit);
        if (rc < 0) return rc;
    }
    o->rate_limit = p->limit;
    o->on_access = p->config->log ? on_access : NULL;
    o->on_health = on_health;
    o->on_resolve = on_resolve;
    o->context = p;
    rc = zk_proxy_new(o, &p->proxy);
    return rc < 0 ? rc : zk_run(NULL, serve, p);
}

int main(int argc, char **argv)
{
    static program p;
    p.words = argv + 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            help(stdout);
            return 0;
        }
        if (strcmp(argv[i], "--config") != 0) continue;
        if (!argv[i + 1]) p.words = argv + argc; /* nothing is said, which is an error */
        p.file = argv[i + 1];
    }
    if (!*p.words) {
        help(stderr);
        return 2;
    }
    int rc = start(&p);
    if (rc < 0) complain("", rc);
    zk_proxy_free(p.proxy);
    zk_rate_limit_free(p.limit);
    zk_proxy_config_free(p.config);
    return rc < 0;
}
