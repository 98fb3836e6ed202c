/*
 * Cookies: which are kept, for how long, and to whom they are said.
 */
#include "tests/async.h"

#include <stdio.h>

#include "http/cookies.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

static int64_t seconds;
static int64_t now(void) { return seconds; }

static zk_url url_of(const char *text)
{
    zk_url url;
    cr_assert_ok(zk_url_parse((zk_str){text, strlen(text)}, &url));
    return url;
}

static zk_cookies *jar_open(void)
{
    zk_cookies *jar;
    cr_assert_ok(zk_cookies_new(&jar));
    seconds = 1000000000; /* Sun, 09 Sep 2001 01:46:40 GMT */
    zk__cookies_clock(jar, now);
    return jar;
}

static void take(zk_cookies *jar, const char *url, const char *line)
{
    zk_url u = url_of(url);
    cr_assert_ok(zk__cookies_take(jar, &u, (zk_str){line, strlen(line)}));
}

static void expect_said(zk_cookies *jar, const char *url, const char *wanted, const char *row)
{
    zk_arena arena = {0};
    zk_url u = url_of(url);
    zk_str said;
    cr_assert_ok(zk__cookies_say(jar, &u, &arena, &said));
    cr_expect(wanted ? said.data && said.size == strlen(wanted) &&
                           !memcmp(said.data, wanted, said.size)
                     : !said.data,
              "%s at %s: \"%.*s\", not \"%s\"", row, url, (int)said.size,
              said.data ? said.data : "", wanted ? wanted : "");
    zk_arena_done(&arena);
}

/* One cookie, and what is said of it to another URL. */
ZK_ASYNC_TEST(cookies, are_said_to_whom_they_are_for)
{
    static const struct {
        const char *from, *line, *to, *said;
    } rows[] = {
        {"http://a.b/x/y", "n=v", "http://a.b/x/z", "n=v"},
        {"http://a.b/x/y", "n=v", "http://A.B/x", "n=v"},
        {"http://a.b/x/y", "n=v", "http://a.b/xx", NULL},
        {"http://a.b/x/y", "n=v", "http://a.b/", NULL},
        {"http://a.b/x", "n=v", "http://a.b/", "n=v"},
        {"http://a.b/x", "n=v", "http://a.b:81/", "n=v"},
        {"http://a.b/x", "n=v; path=/", "https://a.b/", "n=v"},
        {"http://a.b/x/y", "n=v; Path=x", "http://a.b/x/z", "n=v"},
        {"http://a.b/", "n=v", "http://c.a.b/", NULL},
        {"http://a.b/", "n=v; Domain=a.b", "http://c.a.b/", "n=v"},
        {"http://a.b/", "n=v; Domain=.A.B", "http://c.a.b/", "n=v"},
        {"http://a.b/", "n=v; Domain=a.b", "http://ca.b/", NULL},
        {"http://c.a.b/", "n=v; Domain=a.b", "http://a.b/", "n=v"},
        {"http://c.a.b/", "n=v; Domain=b", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Domain=c.a.b", "http://c.a.b/", NULL},
        {"http://a.b/", "n=v; Domain=x.y", "http://x.y/", NULL},
        {"http://localhost/", "n=v; Domain=localhost", "http://localhost/", "n=v"},
        {"http://1.2.3.4/", "n=v", "http://1.2.3.4/", "n=v"},
        {"http://1.2.3.4/", "n=v; Domain=3.4", "http://9.9.3.4/", NULL},
        {"http://[::1]/", "n=v", "http://[::1]/", "n=v"},
        {"https://a.b/", "n=v; Secure", "http://a.b/", NULL},
        {"https://a.b/", "n=v; Secure; HttpOnly; SameSite=Lax", "https://a.b/", "n=v"},
        {"http://a.b/", "n=v; Secure", "https://a.b/", NULL},
        {"https://a.b/", "__Host-n=v; Secure; Path=/", "https://a.b/", "__Host-n=v"},
        {"https://a.b/", "__Host-n=v; Secure; Path=/; Domain=a.b", "https://a.b/", NULL},
        {"https://a.b/", "__Host-n=v; Secure", "https://a.b/", NULL},
        {"https://a.b/", "__secure-n=v", "https://a.b/", NULL},
        {"http://a.b/", " n = v w ; x", "http://a.b/", "n=v w"},
        {"http://a.b/", "n=", "http://a.b/", "n="},
        {"http://a.b/", "n=a=b", "http://a.b/", "n=a=b"},
        {"http://a.b/", "=v", "http://a.b/", NULL},
        {"http://a.b/", "n", "http://a.b/", NULL},
        {"http://a.b/", "", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Max-Age=0", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Max-Age=-1", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Max-Age=1x", "http://a.b/", "n=v"},
        {"http://a.b/", "n=v; Max-Age=99999999999999999999999", "http://a.b/", "n=v"},
        {"http://a.b/", "n=v; Expires=Sun, 09 Sep 2001 01:46:40 GMT", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Expires=Sun, 09 Sep 2001 01:46:41 GMT", "http://a.b/", "n=v"},
        {"http://a.b/", "n=v; Expires=Sunday, 09-Sep-01 01:46:41 GMT", "http://a.b/", "n=v"},
        {"http://a.b/", "n=v; Expires=Sun Sep  9 01:46:39 2001", "http://a.b/", NULL},
        {"http://a.b/", "n=v; Expires=09 Sep 2001 25:00:00", "http://a.b/", "n=v"},
        {"http://a.b/", "n=v; Expires=Sun, 09 Sep 2001 01:46:40 GMT; Max-Age=9", "http://a.b/",
         "n=v"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        zk_cookies *jar = jar_open();
        take(jar, rows[i].from, rows[i].line);
        expect_said(jar, rows[i].to, rows[i].said, rows[i].line);
        zk_cookies_free(jar);
    }
}

/* Several at once: longer paths first, then in the order in which they were made. */
ZK_ASYNC_TEST(cookies, are_said_in_order_and_replaced)
{
    zk_cookies *jar = jar_open();
    take(jar, "http://a.b/", "one=1");
    take(jar, "http://a.b/", "two=2; Path=/x");
    take(jar, "http://a.b/", "three=3; Max-Age=10");
    expect_said(jar, "http://a.b/x/y", "two=2; one=1; three=3", "three");
    take(jar, "http://a.b/", "one=new");
    expect_said(jar, "http://a.b/", "three=3; one=new", "replaced");
    take(jar, "http://a.b/", "one=; Max-Age=0");
    expect_said(jar, "http://a.b/", "three=3", "ended");
    seconds += 10;
    expect_said(jar, "http://a.b/", NULL, "over");
    cr_expect_eq(zk_cookies_count(jar), 2u, "what is over goes when another comes");
    take(jar, "http://a.b/", "four=4");
    cr_expect_eq(zk_cookies_count(jar), 2u);
    zk_cookies_clear(jar);
    cr_expect_eq(zk_cookies_count(jar), 0u);
    zk_cookies_free(jar);
}

/* A jar does not grow without bound. */
ZK_ASYNC_TEST(cookies, have_limits)
{
    zk_cookies *jar = jar_open();
    char line[5000], url[64];
    for (int i = 0; i < 200; i++) {
        snprintf(line, sizeof line, "n%d=v", i);
        take(jar, "http://a.b/", line);
    }
    cr_expect_eq(zk_cookies_count(jar), 50u);
    for (int i = 0; i < 1200; i++) {
        snprintf(url, sizeof url, "http://h%d.b/", i);
        take(jar, url, "n=v");
    }
    cr_expect_eq(zk_cookies_count(jar), 1000u);
    expect_said(jar, "http://h1199.b/", "n=v", "the last");
    expect_said(jar, "http://h0.b/", NULL, "the first");
    memset(line, 'x', sizeof line);
    memcpy(line, "n=", 2);
    line[sizeof line - 1] = '\0';
    take(jar, "http://large.b/", line);
    expect_said(jar, "http://large.b/", NULL, "too large");
    zk_cookies_free(jar);
}
