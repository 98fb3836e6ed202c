/*
 * Cookies of a client (RFC 6265): what Set-Cookie leaves behind, and what Cookie says.
 *
 * A jar is a list in the order in which cookies were made, under a lock: its calls are short, and
 * clients of several workers may share it. There is no list of public suffixes here, so a cookie
 * for a domain is taken only for one with a dot in it that the host itself is in.
 */
#include <zokio/cookies.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/cookies.h"
#include "http/exchange.h"
#include "http/h1.h"

enum { COOKIE_BYTES_MAX = 4096, COOKIES_MAX = 1000, OF_HOST_MAX = 50, HEADER_BYTES_MAX = 8192 };
static const int64_t age_max_s = 400 * 86400; /* RFC 6265bis section 5.5 */

typedef struct cookie cookie;
struct cookie {
    cookie *next;
    int64_t expires; /* seconds since 1970; INT64_MAX: with the jar */
    bool is_host_only, is_secure;
    char *name, *value, *domain, *path; /* domain in small letters */
};

struct zk_cookies {
    pthread_mutex_t lock;
    cookie *first;
    size_t count;
    int64_t (*now)(void); /* for tests */
};

static int64_t now_real(void) { return (int64_t)time(NULL); }

int zk_cookies_new(zk_cookies **ret_cookies)
{
    zk_cookies *jar = calloc(1, sizeof *jar);
    if (!jar) return -ENOMEM;
    pthread_mutex_init(&jar->lock, NULL);
    jar->now = now_real;
    *ret_cookies = jar;
    return 0;
}

void zk__cookies_clock(zk_cookies *jar, int64_t (*now)(void)) { jar->now = now; }

static void cookie_drop(zk_cookies *jar, cookie **at)
{
    cookie *c = *at;
    *at = c->next;
    jar->count--;
    free(c);
}

void zk_cookies_clear(zk_cookies *jar)
{
    pthread_mutex_lock(&jar->lock);
    while (jar->first)
        cookie_drop(jar, &jar->first);
    pthread_mutex_unlock(&jar->lock);
}

void zk_cookies_free(zk_cookies *jar)
{
    if (!jar) return;
    zk_cookies_clear(jar);
    pthread_mutex_destroy(&jar->lock);
    free(jar);
}

size_t zk_cookies_count(zk_cookies *jar)
{
    pthread_mutex_lock(&jar->lock);
    size_t count = jar->count;
    pthread_mutex_unlock(&jar->lock);
    return count;
}

/* ---- dates, RFC 6265 section 5.1.1 ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number of `min` to `max` digits at the front, with no digit behind; -1: there is none. */
static int number(const char **at, const char *end, int min, int max)
{
    int n = 0, digits = 0;
    while (*at < end && is_digit(**at) && digits <= max) {
        n = n * 10 + (**at - '0');
        digits++;
        ++*at;
    }
    return digits >= min && digits <= max ? n : -1;
}

typedef struct moment {
    int hour, minute, second, day, month, year; /* -1: not found yet */
} moment;

static void date_token(moment *m, const char *at, const char *end)
{
    static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    const char *p = at;
    int hour = number(&p, end, 1, 2), minute = -1, second = -1;
    if (hour >= 0 && p < end && *p == ':') {
        p++;
        minute = number(&p, end, 1, 2);
        if (minute >= 0 && p < end && *p == ':') {
            p++;
            second = number(&p, end, 1, 2);
        }
        if (second >= 0 && m->hour < 0) m->hour = hour, m->minute = minute, m->second = second;
        return;
    }
    p = at;
    int n = number(&p, end, 1, 4);
    long digits = p - at;
    if (n >= 0 && digits <= 2 && m->day < 0) {
        m->day = n;
    } else if (n >= 0 && (digits == 2 || digits == 4) && m->year < 0) {
        m->year = digits == 4 ? n : n + (n < 70 ? 2000 : 1900);
    } else if (n < 0 && end - at >= 3 && m->month < 0) {
        for (int i = 0; i < 12; i++) {
            bool is_it = true;
            for (int k = 0; k < 3; k++)
                is_it = is_it && (at[k] | 0x20) == months[3 * i + k];
            if (is_it) m->month = i;
        }
    }
}

static bool date_parse(zk_str text, int64_t *ret_seconds)
{
    moment m = {-1, -1, -1, -1, -1, -1};
    const char *at = text.data, *end = text.data + text.size;
    while (at < end) {
        const char *start = at;
        while (at < end &&
               (is_digit(*at) || *at == ':' || ((*at | 0x20) >= 'a' && (*at | 0x20) <= 'z')))
            at++;
        if (at > start) {
            date_token(&m, start, at);
        } else {
            at++;
        }
    }
    bool is_good = m.hour >= 0 && m.hour < 24 && m.minute < 60 && m.second < 60 && m.day >= 1 &&
                   m.day <= 31 && m.month >= 0 && m.year >= 1601;
    if (!is_good) return false;
    struct tm tm = {.tm_sec = m.second,
                    .tm_min = m.minute,
                    .tm_hour = m.hour,
                    .tm_mday = m.day,
                    .tm_mon = m.month,
                    .tm_year = m.year - 1900};
    *ret_seconds = (int64_t)timegm(&tm);
    return true;
}

/* ---- Set-Cookie ---- */

typedef struct attributes {
    zk_str name, value, domain, path;
    bool has_expires, has_age, is_secure;
    int64_t expires, age_s;
} attributes;

static zk_str trim(zk_str s)
{
    while (s.size && (*s.data == ' ' || *s.data == '\t'))
        s.data++, s.size--;
    while (s.size && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Splits at the first `by`. returns whether there was one; without, all is in *left. */
static bool split(zk_str s, char by, zk_str *left, zk_str *right)
{
    const char *at = s.size ? memchr(s.data, by, s.size) : NULL;
    *left = at ? (zk_str){s.data, (size_t)(at - s.data)} : s;
    *right = at ? (zk_str){at + 1, s.size - left->size - 1} : (zk_str){s.data + s.size, 0};
    return at != NULL;
}

static bool is(zk_str a, const char *b) { return zk__name_equal(a, b, strlen(b)); }

static void attribute_note(attributes *a, zk_str name, zk_str value)
{
    if (is(name, "expires")) {
        a->has_expires = date_parse(value, &a->expires);
    } else if (is(name, "max-age")) {
        bool is_negative = value.size && *value.data == '-';
        int64_t n = 0;
        size_t i = is_negative;
        for (; i < value.size && is_digit(value.data[i]); i++)
            if (n < age_max_s) n = n * 10 + (value.data[i] - '0');
        if (i < value.size || i == (size_t)is_negative) return;
        a->has_age = true;
        a->age_s = is_negative ? 0 : n;
    } else if (is(name, "domain")) {
        if (value.size && *value.data == '.') value = (zk_str){value.data + 1, value.size - 1};
        a->domain = value;
    } else if (is(name, "path")) {
        a->path = value.size && *value.data == '/' ? value : (zk_str){NULL, 0};
    } else if (is(name, "secure")) {
        a->is_secure = true;
    }
}

static bool attributes_parse(attributes *a, zk_str line)
{
    zk_str part, rest;
    *a = (attributes){0};
    split(line, ';', &part, &rest);
    if (!split(part, '=', &a->name, &a->value)) return false;
    a->name = trim(a->name);
    a->value = trim(a->value);
    while (rest.size) {
        zk_str name, value;
        split(rest, ';', &part, &rest);
        split(part, '=', &name, &value);
        attribute_note(a, trim(name), trim(value));
    }
    return a->name.size && a->name.size + a->value.size <= COOKIE_BYTES_MAX;
}

/* ---- matching ---- */

static bool is_ip(const zk_url *url)
{
    char text[64];
    struct in_addr ignored;
    if (url->is_ipv6) return true;
    if (url->host.size >= sizeof text) return false;
    memcpy(text, url->host.data, url->host.size);
    text[url->host.size] = '\0';
    return inet_pton(AF_INET, text, &ignored) == 1;
}

/* Section 5.1.3: the host is the domain, or ends with it behind a dot. */
static bool is_in_domain(const zk_url *url, zk_str domain)
{
    zk_str host = url->host;
    if (is(host, "") || domain.size > host.size) return false;
    zk_str tail = {host.data + host.size - domain.size, domain.size};
    if (!zk__name_equal(tail, domain.data, domain.size)) return false;
    return host.size == domain.size || (tail.data[-1] == '.' && !is_ip(url));
}

/* Section 5.1.4. */
static bool is_in_path(zk_str request, const char *path)
{
    size_t size = strlen(path);
    if (request.size < size || memcmp(request.data, path, size)) return false;
    return request.size == size || path[size - 1] == '/' || request.data[size] == '/';
}

static zk_str default_path(zk_str path)
{
    size_t n = path.size;
    while (n > 0 && path.data[n - 1] != '/')
        n--;
    return n > 1 ? (zk_str){path.data, n - 1} : ZK_STR("/");
}

static bool has_prefix(zk_str name, const char *prefix)
{
    size_t size = strlen(prefix);
    return name.size >= size && zk__name_equal((zk_str){name.data, size}, prefix, size);
}

/* Whether the cookie may be set by that host. */
static bool is_allowed(const attributes *a, const zk_url *url)
{
    if (a->is_secure && !url->is_secure) return false;
    if (has_prefix(a->name, "__Secure-") && !a->is_secure) return false;
    bool is_bound = has_prefix(a->name, "__Host-");
    if (is_bound && (!a->is_secure || a->domain.size || !is(a->path, "/"))) return false;
    if (!a->domain.size) return true;
    bool is_host = zk__name_equal(url->host, a->domain.data, a->domain.size);
    bool has_dot = memchr(a->domain.data, '.', a->domain.size) != NULL;
    return is_host || (has_dot && is_in_domain(url, a->domain));
}

/* ---- the jar ---- */

static char *put_text(char **at, zk_str s, bool lowers)
{
    char *text = *at;
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        text[i] = lowers && c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    text[s.size] = '\0';
    *at += s.size + 1;
    return text;
}

static cookie *cookie_new(const attributes *a, const zk_url *url)
{
    zk_str domain = a->domain.size ? a->domain : url->host;
    zk_str path = a->path.data ? a->path : default_path(url->path);
    cookie *c = malloc(sizeof *c + a->name.size + a->value.size + domain.size + path.size + 4);
    if (!c) return NULL;
    char *at = (char *)(c + 1);
    *c = (cookie){.is_host_only = !a->domain.size, .is_secure = a->is_secure};
    c->name = put_text(&at, a->name, false);
    c->value = put_text(&at, a->value, false);
    c->domain = put_text(&at, domain, true);
    c->path = put_text(&at, path, false);
    return c;
}

/* Drops what is over, and the one that the new one replaces; makes room. */
static void jar_prepare(zk_cookies *jar, const cookie *fresh, int64_t now)
{
    size_t of_host = 0;
    cookie **oldest = NULL;
    for (cookie **at = &jar->first; *at;) {
        cookie *c = *at;
        bool is_same = !strcmp(c->name, fresh->name) && !strcmp(c->domain, fresh->domain) &&
                       !strcmp(c->path, fresh->path);
        if (is_same || c->expires <= now) {
            cookie_drop(jar, at);
            continue;
        }
        if (!strcmp(c->domain, fresh->domain) && !of_host++) oldest = at;
        at = &c->next;
    }
    if (of_host >= OF_HOST_MAX) cookie_drop(jar, oldest);
    if (jar->count >= COOKIES_MAX) cookie_drop(jar, &jar->first);
}

int zk__cookies_take(zk_cookies *jar, const zk_url *url, zk_str line)
{
    attributes a;
    if (!attributes_parse(&a, line) || !is_allowed(&a, url)) return 0;
    cookie *c = cookie_new(&a, url);
    if (!c) return -ENOMEM;
    pthread_mutex_lock(&jar->lock);
    int64_t now = jar->now();
    c->expires = a.has_age ? now + a.age_s : a.has_expires ? a.expires : INT64_MAX;
    if (c->expires != INT64_MAX && c->expires > now + age_max_s) c->expires = now + age_max_s;
    jar_prepare(jar, c, now);
    if (c->expires > now) {
        cookie **at = &jar->first;
        while (*at)
            at = &(*at)->next;
        *at = c;
        jar->count++;
    } else {
        free(c);
    }
    pthread_mutex_unlock(&jar->lock);
    return 0;
}

static bool is_for(const cookie *c, const zk_url *url, int64_t now)
{
    zk_str domain = {c->domain, strlen(c->domain)};
    if (c->expires <= now || (c->is_secure && !url->is_secure)) return false;
    if (c->is_host_only && domain.size != url->host.size) return false;
    return is_in_domain(url, domain) && is_in_path(url->path, c->path);
}

int zk__cookies_say(zk_cookies *jar, const zk_url *url, zk_arena *arena, zk_str *ret_value)
{
    char text[HEADER_BYTES_MAX];
    size_t size = 0;
    pthread_mutex_lock(&jar->lock);
    int64_t now = jar->now();
    /* Section 5.4: longer paths first, then the older. */
    for (size_t longest = SIZE_MAX;;) {
        size_t next = 0;
        for (const cookie *c = jar->first; c; c = c->next) {
            size_t path = strlen(c->path);
            if (is_for(c, url, now) && path < longest && path > next) next = path;
        }
        if (!next) break;
        for (const cookie *c = jar->first; c; c = c->next) {
            size_t name = strlen(c->name), value = strlen(c->value);
            if (strlen(c->path) != next || !is_for(c, url, now)) continue;
            if (size + name + value + 4 > sizeof text) continue;
            if (size) text[size++] = ';', text[size++] = ' ';
            memcpy(text + size, c->name, name);
            text[size + name] = '=';
            memcpy(text + size + name + 1, c->value, value);
            size += name + 1 + value;
        }
        longest = next;
    }
    pthread_mutex_unlock(&jar->lock);
    *ret_value = (zk_str){NULL, 0};
    if (!size) return 0;
    char *own = zk_arena_copy(arena, text, size);
    if (!own) return -ENOMEM;
    *ret_value = (zk_str){own, size};
    return 0;
}
