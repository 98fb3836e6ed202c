/*
 * The settings of a proxy by name, see zokio/proxy_config.h.
 *
 * A table says of each setting what its value looks like and where it goes; the few that are more
 * than one value have a function. A line is "name = value"; empty ones and those that begin with
 * '#' are skipped, and nothing else is.
 */
#include <zokio/proxy_config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/proxy.h"

enum { FILE_BYTES_MAX = 1 << 20, VALUE_BYTES_MAX = 1000, LIST_MAX = 64 };

typedef struct text text;
struct text {
    text *next;
    char bytes[];
};

/* What is behind a zk_proxy_config. */
typedef struct config {
    zk_proxy_config is; /* first */
    text *texts;
    int upstream_count;
    zk_upstream upstreams[ZK__UPSTREAMS_MAX + 1];
    const char *connect[LIST_MAX + 1], *announcers[LIST_MAX + 1];
    bool is_said[64]; /* in the file that is being read, by setting */
} config;

/* ---- values ---- */

static const char *text_keep(config *c, const char *value, size_t size)
{
    text *t = malloc(sizeof *t + size + 1);
    if (!t) return NULL;
    memcpy(t->bytes, value, size);
    t->bytes[size] = '\0';
    t->next = c->texts;
    c->texts = t;
    return t->bytes;
}

/* Digits, up to `max`, from *at on. */
static bool number_read(const char **at, long max, long *ret)
{
    const char *p = *at;
    long n = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (*p - '0');
        if (n > max) return false;
    }
    *at = p;
    *ret = n;
    return true;
}

/* 0 would be the option's default, so nobody can have meant it. */
static int number_set(const char *value, long max, int *ret)
{
    const char *at = value;
    long n;
    if (!number_read(&at, max, &n) || *at || !n) {
        return zk_fail(ZK_E_CONFIG, "\"%.80s\" is no number from 1 to %ld", value, max);
    }
    *ret = (int)n;
    return 0;
}

/* "250ms", "30s", "5m", "1h" */
static int time_set(const char *value, int *ret_ms)
{
    static const struct {
        const char *unit;
        long ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    const char *at = value;
    long n;
    bool is_number = number_read(&at, INT32_MAX, &n) && n;
    for (size_t i = 0; is_number && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(at, units[i].unit) != 0 || n > INT32_MAX / units[i].ms) continue;
        *ret_ms = (int)(n * units[i].ms);
        return 0;
    }
    return zk_fail(ZK_E_CONFIG, "\"%.80s\" is no time, such as 250ms, 30s, 5m, 1h", value);
}

/* ---- settings that are more than one value ---- */

static int upstream_set(config *c, const char *value)
{
    if (c->upstream_count == ZK__UPSTREAMS_MAX) {
        return zk_fail(ZK_E_CONFIG, "there are %d upstreams already", ZK__UPSTREAMS_MAX);
    }
    const char *star = strrchr(value, '*');
    size_t size = star ? (size_t)(star - value) : strlen(value);
    int weight = 1;
    int rc = star ? number_set(star + 1, 100, &weight) : 0;
    if (rc < 0) return zk_fail(rc, "the weight behind '*'");
    const char *address = text_keep(c, value, size);
    if (!address) return -ENOMEM;
    zk_upstream upstream = {address, weight};
    rc = zk__upstream_check(&upstream);
    if (rc < 0) return rc;
    c->upstreams[c->upstream_count++] = upstream;
    c->is.proxy.upstreams = c->upstreams;
    return 0;
}

static int balance_set(config *c, const char *value)
{
    static const char *const names[] = {"round-robin", "least", "two-choices", "hash"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(value, names[i]) != 0) continue;
        c->is.proxy.balance = (zk_balance)i;
        return 0;
    }
    return zk_fail(ZK_E_CONFIG, "\"%.80s\" is none of round-robin, least, two-choices, hash",
                   value);
}

/* "50ms", "p95" */
static int hedge_set(config *c, const char *value)
{
    zk_proxy_options *o = &c->is.proxy;
    if (*value != 'p') {
        o->hedge_percentile = 0;
        return time_set(value, &o->hedge_ms);
    }
    o->hedge_ms = 0;
    return number_set(value + 1, 99, &o->hedge_percentile);
}

/* "100/s", "30/m", "5/h" */
static int rate_limit_set(config *c, const char *value)
{
    const char *at = value;
    long n;
    bool is_good = number_read(&at, 1000000, &n) && n && *at == '/' && at[1] && !at[2];
    int seconds = !is_good ? 0 : at[1] == 's' ? 1 : at[1] == 'm' ? 60 : at[1] == 'h' ? 3600 : 0;
    if (!seconds) {
        return zk_fail(ZK_E_CONFIG, "\"%.80s\" is no rate, such as 100/s, 30/m, 5/h", value);
    }
    c->is.rate_limit.per_second = (double)n / seconds;
    return 0;
}

static int list_add(config *c, const char *list[LIST_MAX + 1], const char *value)
{
    int count = 0;
    while (list[count])
        count++;
    if (count == LIST_MAX) return zk_fail(ZK_E_CONFIG, "there are %d already", LIST_MAX);
    list[count] = text_keep(c, value, strlen(value));
    return list[count] ? 0 : -ENOMEM;
}

static int connect_set(config *c, const char *value)
{
    c->is.proxy.connect_allow = c->connect;
    return list_add(c, c->connect, value);
}

static int announcer_set(config *c, const char *value)
{
    c->is.proxy_protocol_from = c->announcers;
    return list_add(c, c->announcers, value);
}

static int greeting_set(config *c, const char *value)
{
    bool is_v1 = !strcmp(value, "v1");
    if (!is_v1 && strcmp(value, "v2") != 0) {
        return zk_fail(ZK_E_CONFIG, "\"%.80s\" is neither v1 nor v2", value);
    }
    c->is.proxy.proxy_protocol = is_v1 ? 1 : 2;
    return 0;
}

/* "CERT KEY" */
static int tls_set(config *c, const char *value)
{
    size_t size = strcspn(value, " \t");
    const char *key = value + size + strspn(value + size, " \t");
    if (!size || !*key || strpbrk(key, " \t")) {
        return zk_fail(ZK_E_CONFIG, "tls has two files: the certificate and its key");
    }
    c->is.cert_file = text_keep(c, value, size);
    c->is.key_file = text_keep(c, key, strlen(key));
    return c->is.cert_file && c->is.key_file ? 0 : -ENOMEM;
}

static int log_set(config *c, const char *value)
{
    static const char *const formats[] = {"combined", "common", "json"};
    c->is.log = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(value, formats[i])) c->is.log = formats[i];
    if (c->is.log || !strcmp(value, "off")) return 0;
    return zk_fail(ZK_E_CONFIG, "\"%.80s\" is none of combined, common, json, off", value);
}

/* ---- the table ---- */

enum kind { SET, TEXT, FLAG, COUNT, PERCENT, TIME };

typedef struct setting {
    const char *name;
    enum kind kind;
    size_t at;                                /* in zk_proxy_config */
    int (*set)(config *c, const char *value); /* SET */
    const char *value;                        /* how it looks, if that is not the kind's */
    bool has_off;                             /* "off" is -1: without a limit, or not at all */
    const char *what;                         /* for people, with the default behind a colon */
} setting;

#define AT(field) offsetof(zk_proxy_config, field)
static const setting settings[] = {
    {"listen", TEXT, AT(listen), NULL, "ADDRESS", false,
     "where clients connect to: \":8080\", \"127.0.0.1:80\", \"unix:/path\""},
    {"upstream", SET, 0, upstream_set, "ADDRESS[*WEIGHT]", false,
     "a server to forward to; as often as there are servers"},
    {"balance", SET, AT(proxy.balance), balance_set, "round-robin|least|two-choices|hash", false,
     "how one of them is chosen: round-robin"},
    {"hash-header", TEXT, AT(proxy.hash_header), NULL, "NAME", false,
     "what \"hash\" goes by: the client's address"},
    {"upstream-host", FLAG, AT(proxy.sends_upstream_host), NULL, NULL, false,
     "Host is the upstream's, not what the client sent: off"},
    {"trust-forwarded", FLAG, AT(proxy.trusts_forwarded), NULL, NULL, false,
     "clients are proxies: keep what they say of theirs: off"},
    {"via", TEXT, AT(proxy.via), NULL, "NAME", false, "the name in Via: zokio"},
    {"upgrade", TEXT, AT(proxy.upgrade), NULL, "PROTOCOL", false,
     "what clients may switch to; \"*\": anything: websocket"},
    {"connect", SET, 0, connect_set, "HOST:PORT", false,
     "where CONNECT may go to, \"*\" for all; as often as there are places: nowhere"},
    {"send-proxy-protocol", SET, AT(proxy.proxy_protocol), greeting_set, "v1|v2", false,
     "tells upstreams the client's address: no"},
    {"accept-proxy-protocol", SET, 0, announcer_set, "NETWORK", false,
     "whose word on the client's address is taken; as often as there are: nobody's"},
    {"tunnel-timeout", TIME, AT(proxy.tunnel_timeout_ms), NULL, NULL, true,
     "without a byte behind an upgrade: 10m"},
    {"tries", COUNT, AT(proxy.tries_max), NULL, NULL, false,
     "of a request, each with another upstream: 3"},
    {"retry-percent", PERCENT, AT(proxy.retry_percent_max), NULL, NULL, true,
     "retries and hedges beside the requests: 20"},
    {"hedge", SET, AT(proxy.hedge_ms), hedge_set, "TIME|pPERCENT", false,
     "a second try beside a slow one, after a time or a percentile: none"},
    {"failures", COUNT, AT(proxy.failures_max), NULL, NULL, true,
     "in a row before an upstream is left out: 3"},
    {"ejection", TIME, AT(proxy.ejection_ms), NULL, NULL, false,
     "for how long, doubling each time: 5s"},
    {"ejection-max", TIME, AT(proxy.ejection_max_ms), NULL, NULL, false, "at most: 5m"},
    {"max-active", COUNT, AT(proxy.active_max), NULL, NULL, false,
     "requests in progress at an upstream: no limit"},
    {"max-pending", COUNT, AT(proxy.pending_max), NULL, NULL, false,
     "of these without a connection: no limit"},
    {"breaker", PERCENT, AT(proxy.breaker_percent), NULL, NULL, false,
     "share of failures that opens the circuit: none"},
    {"breaker-requests", COUNT, AT(proxy.breaker_requests_min), NULL, NULL, false,
     "that it is judged by, at least: 20"},
    {"breaker-window", TIME, AT(proxy.breaker_window_ms), NULL, NULL, false,
     "how long a failure counts: 10s"},
    {"breaker-open", TIME, AT(proxy.breaker_open_ms), NULL, NULL, false,
     "before it is tried again: 5s"},
    {"breaker-trials", COUNT, AT(proxy.breaker_trials), NULL, NULL, false,
     "that have to succeed then: 3"},
    {"breaker-status", COUNT, AT(proxy.breaker_status_min), NULL, NULL, true,
     "answers from here on are failures: 500"},
    {"slow-start", TIME, AT(proxy.slow_start_ms), NULL, NULL, false,
     "until a new upstream has its whole share: none"},
    {"health", TEXT, AT(proxy.health_path), NULL, "PATH", false,
     "what checks ask for; without it there are none"},
    {"health-interval", TIME, AT(proxy.health_interval_ms), NULL, NULL, false,
     "between checks: 2s"},
    {"health-timeout", TIME, AT(proxy.health_timeout_ms), NULL, NULL, false, "of a check: 2s"},
    {"health-threshold", COUNT, AT(proxy.health_threshold), NULL, NULL, false,
     "checks in a row that turn the state: 2"},
    {"resolve-retry", TIME, AT(proxy.resolve_retry_ms), NULL, NULL, false,
     "after a name could not be looked up: 5s"},
    {"rate-limit", SET, AT(rate_limit.per_second), rate_limit_set, "N/s|N/m|N/h", false,
     "requests of a client: no limit"},
    {"rate-burst", COUNT, AT(rate_limit.burst), NULL, NULL, false,
     "and so many at once: as many as in a second"},
    {"rate-header", TEXT, AT(rate_limit.header), NULL, "NAME", false,
     "who the client is: its address"},
    {"tls", SET, AT(cert_file), tls_set, "CERT KEY", false,
     "certificate and key for clients: plain HTTP"},
    {"ktls", FLAG, AT(ktls), NULL, NULL, false,
     "the kernel encrypts what clients are sent, if it can: off"},
    {"log", SET, AT(log), log_set, "combined|common|json|off", false,
     "each request, on standard output: off"},
    {"metrics", TEXT, AT(metrics_path), NULL, "PATH", false,
     "where figures for Prometheus are: nowhere"},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };
_Static_assert(SETTINGS <= sizeof((config *)0)->is_said, "more settings than is_said has room for");

static const setting *setting_find(const char *name, size_t size)
{
    for (int i = 0; i < SETTINGS; i++) {
        const char *own = settings[i].name;
        if (strlen(own) == size && !memcmp(own, name, size)) return &settings[i];
    }
    return NULL;
}

static int flag_set(const char *value, bool *ret)
{
    bool is_on = !strcmp(value, "on");
    if (!is_on && strcmp(value, "off") != 0) {
        return zk_fail(ZK_E_CONFIG, "\"%.80s\" is neither on nor off", value);
    }
    *ret = is_on;
    return 0;
}

static int setting_set(config *c, const setting *s, const char *value)
{
    void *at = (char *)c + s->at;
    if (!*value) return zk_fail(ZK_E_CONFIG, "%s has no value", s->name);
    if (strlen(value) > VALUE_BYTES_MAX) return zk_fail(ZK_E_CONFIG, "%s: too long", s->name);
    int rc = 0;
    if (s->has_off && !strcmp(value, "off")) {
        *(int *)at = -1;
        return 0;
    }
    switch (s->kind) {
    case SET: rc = s->set(c, value); break;
    case TEXT: {
        const char *own = text_keep(c, value, strlen(value));
        if (own) *(const char **)at = own;
        rc = own ? 0 : -ENOMEM;
        break;
    }
    case FLAG: rc = flag_set(value, at); break;
    case COUNT: rc = number_set(value, 1000000000, at); break;
    case PERCENT: rc = number_set(value, 100, at); break;
    case TIME: rc = time_set(value, at); break;
    }
    return rc < 0 ? zk_fail(rc, "%s", s->name) : 0;
}

/* ---- public ---- */

int zk_proxy_config_new(zk_proxy_config **ret_config)
{
    config *c = calloc(1, sizeof *c);
    if (!c) return -ENOMEM;
    *ret_config = &c->is;
    return 0;
}

void zk_proxy_config_free(zk_proxy_config *given)
{
    config *c = (config *)(void *)given;
    if (!c) return;
    while (c->texts) {
        text *t = c->texts;
        c->texts = t->next;
        free(t);
    }
    free(c);
}

bool zk_proxy_setting_at(int index, zk_proxy_setting *ret_setting)
{
    static const char *const looks[] = {"", "TEXT", "on|off", "N", "PERCENT", "TIME"};
    if (index < 0 || index >= SETTINGS) return false;
    const setting *s = &settings[index];
    *ret_setting = (zk_proxy_setting){
        .name = s->name,
        .value = s->value ? s->value : looks[s->kind],
        .what = s->what,
        .has_off = s->has_off,
    };
    return true;
}

int zk_proxy_config_set(zk_proxy_config *given, const char *name, const char *value)
{
    const setting *s = setting_find(name, strlen(name));
    if (!s) return zk_fail(ZK_E_CONFIG, "there is no setting \"%.80s\"", name);
    return setting_set((config *)(void *)given, s, value);
}

static int line_read(config *c, const char *line, size_t size)
{
    static const char space[] = " \t\r";
    char name[64], value[VALUE_BYTES_MAX + 2];
    for (; size && strchr(space, line[0]); line++)
        size--;
    for (; size && strchr(space, line[size - 1]);)
        size--;
    if (!size || *line == '#') return 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)line[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
            return zk_fail(ZK_E_CONFIG, "a control character (%d)", byte);
        }
    }
    const char *equal = memchr(line, '=', size);
    if (!equal) return zk_fail(ZK_E_CONFIG, "not of the form name = value");
    size_t name_size = (size_t)(equal - line), value_size = size - name_size - 1;
    while (name_size && strchr(space, line[name_size - 1]))
        name_size--;
    const char *from = equal + 1;
    for (; value_size && strchr(space, *from); from++)
        value_size--;
    if (name_size >= sizeof name || value_size >= sizeof value) {
        return zk_fail(ZK_E_CONFIG, "too long");
    }
    memcpy(name, line, name_size);
    name[name_size] = '\0';
    memcpy(value, from, value_size);
    value[value_size] = '\0';
    const setting *s = setting_find(name, name_size);
    if (!s) return zk_fail(ZK_E_CONFIG, "there is no setting \"%s\"", name);
    bool *is_said = &c->is_said[s - settings];
    bool is_list = s->set == upstream_set || s->set == connect_set || s->set == announcer_set;
    if (*is_said && !is_list) return zk_fail(ZK_E_CONFIG, "%s is there twice", name);
    *is_said = true;
    return setting_set(c, s, value);
}

int zk_proxy_config_parse(zk_proxy_config *given, const char *file, const char *bytes, size_t size)
{
    config *c = (config *)(void *)given;
    memset(c->is_said, 0, sizeof c->is_said);
    int line = 1;
    for (size_t at = 0; at < size; line++) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t length = end ? (size_t)(end - bytes) - at : size - at;
        int rc = line_read(c, bytes + at, length);
        if (rc < 0) return zk_fail(rc, "%.200s:%d", file, line);
        at += length + 1;
    }
    return 0;
}

int zk_proxy_config_read(zk_proxy_config *given, const char *path)
{
    int fd, rc = 0;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        rc = -errno;
        return zk_fail(rc, "%.200s", path);
    }
    size_t size = 0;
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    if (!bytes) rc = -ENOMEM;
    while (!rc && size <= FILE_BYTES_MAX) {
        ssize_t n = read(fd, bytes + size, FILE_BYTES_MAX + 1 - size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = -errno;
        if (n <= 0) break;
        size += (size_t)n;
    }
    close(fd);
    if (!rc && size > FILE_BYTES_MAX) rc = ZK_E_CONFIG;
    if (rc < 0) {
        zk_fail(rc, rc == ZK_E_CONFIG ? "%.200s: over 1 MiB" : "%.200s", path);
    } else {
        rc = zk_proxy_config_parse(given, path, bytes, size);
    }
    free(bytes);
    return rc;
}

static bool texts_equal(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static bool lists_equal(const char *const *a, const char *const *b)
{
    int i = 0;
    while (a && b && a[i] && b[i] && !strcmp(a[i], b[i]))
        i++;
    return !(a && a[i]) && !(b && b[i]);
}

const char *zk_proxy_config_difference(const zk_proxy_config *a, const zk_proxy_config *b)
{
    for (int i = 0; i < SETTINGS; i++) {
        const setting *s = &settings[i];
        const void *x = (const char *)a + s->at, *y = (const char *)b + s->at;
        bool is_equal = true;
        switch (s->kind) {
        case TEXT: is_equal = texts_equal(*(const char *const *)x, *(const char *const *)y); break;
        case FLAG: is_equal = *(const bool *)x == *(const bool *)y; break;
        case COUNT:
        case PERCENT:
        case TIME: is_equal = *(const int *)x == *(const int *)y; break;
        case SET: break;
        }
        if (!is_equal) return s->name;
    }
    const zk_proxy_options *o = &a->proxy, *p = &b->proxy;
    if (o->balance != p->balance) return "balance";
    if (o->hedge_ms != p->hedge_ms || o->hedge_percentile != p->hedge_percentile) return "hedge";
    if (a->rate_limit.per_second != b->rate_limit.per_second) return "rate-limit";
    if (!texts_equal(a->log, b->log)) return "log";
    if (!lists_equal(o->connect_allow, p->connect_allow)) return "connect";
    if (o->proxy_protocol != p->proxy_protocol) return "send-proxy-protocol";
    if (!lists_equal(a->proxy_protocol_from, b->proxy_protocol_from)) {
        return "accept-proxy-protocol";
    }
    bool is_tls = texts_equal(a->cert_file, b->cert_file) && texts_equal(a->key_file, b->key_file);
    return is_tls ? NULL : "tls";
}
