/*
 * Cookies, as the client uses them; see <zokio/cookies.h>.
 */
#ifndef ZOKIO_HTTP_COOKIES_H
#define ZOKIO_HTTP_COOKIES_H

#include <zokio/alloc.h>
#include <zokio/cookies.h>
#include <zokio/url.h>

/* Takes the value of a Set-Cookie field that has come from that URL; what is not valid, or not for
 * its host to say, is dropped. returns 0, -ENOMEM. */
int zk__cookies_take(zk_cookies *jar, const zk_url *url, zk_str line);

/* The value of the Cookie field for that URL; data is NULL if there is nothing to say. returns 0,
 * -ENOMEM. */
int zk__cookies_say(zk_cookies *jar, const zk_url *url, zk_arena *arena, zk_str *ret_value);

/* For tests: another clock, in seconds since 1970. */
void zk__cookies_clock(zk_cookies *jar, int64_t (*now)(void));

#endif
