/*
 * The Server and Date fields of all responses.
 */
#include "tests/http/fixture.h"

#include <stdlib.h>

static const zk_route routes[] = {{"GET", "/", nothing, NULL}, {0}};

/* The moment that a response is dated with, of the Date field's text. */
static time_t date_of(const char *text)
{
    const char *date = strstr(text, "\r\nDate: ");
    struct tm tm = {0};
    cr_assert(date && is_date(date + 8), "%s", text);
    const char *end = strptime(date + 8, "%a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    cr_assert(end, "%s", date);
    char again[64];
    time_t t = timegm(&tm);
    strftime(again, sizeof again, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&t));
    cr_assert(!memcmp(again, date + 8, 29), "%s: the week day is wrong", date);
    return t;
}

static time_t date_of_response(wire *w)
{
    wire_send(w, GET("/"));
    wire_collect(w);
    time_t t = date_of(w->text);
    w->size = 0;
    return t;
}

/* RFC 9110 section 6.6.1. The zone and the locale of the process must not matter. */
ZK_HTTP_TEST(date, is_that_of_the_response, .routes = routes, .idle_timeout_ms = -1)
{
    setenv("TZ", "Asia/Tokyo", 1);
    tzset();
    wire c, *w = &c;
    wire_open(w, f);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time_t first = date_of_response(w);
    cr_assert(first >= now.tv_sec - 1 && first <= now.tv_sec + 2);
    pass_ms(3600 * 1000);
    time_t second = date_of_response(w);
    cr_assert(second - first >= 3599 && second - first <= 3605, "%ld", (long)(second - first));
    wire_close(w);
}

ZK_HTTP_TEST(date, stands_behind_the_server_name, .routes = routes, .server_name = "me/1.0 (x)")
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/"));
    wire_collect(w);
    cr_assert(strstr(w->text, "HTTP/1.1 200 OK\r\nServer: me/1.0 (x)\r\nDate: "), "%s", w->text);
    date_of(w->text);
    wire_close(w);
}

ZK_HTTP_TEST(date, the_server_may_be_nameless, .routes = routes, .server_name = "")
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/"));
    wire_collect(w);
    cr_assert(strstr(w->text, "HTTP/1.1 200 OK\r\nDate: ") && !strstr(w->text, "Server"));
    wire_close(w);
}

ZK_HTTP_TEST(date, is_there_once_in_every_response, .routes = routes)
{
    wire c, *w = &c;
    wire_open(w, f);
    wire_send(w, GET("/") GET("/nothing") "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"
                                          "x\r\n\r\n");
    wire_collect(w);
    cr_assert_eq(common_fields_strip(w->text, &w->size), 4, "%s", w->text);
    cr_assert(!strstr(w->text, "Date"), "%s", w->text);
    wire_close(w);
}
