/*
 * Cookie jars for HTTP clients (zk_client_options.cookies).
 */
#ifndef ZOKIO_COOKIES_H
#define ZOKIO_COOKIES_H

#include <zokio/base.h>

ZK_BEGIN

/** Cookies, kept in memory: at most 1,000, of a domain 50, of 4 KiB each; RFC 6265. */
typedef struct zk_cookies zk_cookies;

/** Makes an empty jar. Clients of all workers may share it. On any thread, also outside zk_run.
 * Never suspends. @return 0; -ENOMEM */
ZK_API int zk_cookies_new(zk_cookies **ret_cookies) ZK_NODISCARD;

/** Frees it; NULL is allowed. No client may be using it. Never suspends. */
ZK_API void zk_cookies_free(zk_cookies *cookies);

/** Forgets all cookies. On any thread. Never suspends. */
ZK_API void zk_cookies_clear(zk_cookies *cookies);

/** How many there are. On any thread. Never suspends. */
ZK_API size_t zk_cookies_count(zk_cookies *cookies);

ZK_END
#endif
