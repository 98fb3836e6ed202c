/*
 * Proxies that a client goes through: which one for which URL, and how to get through it.
 */
#ifndef ZOKIO_HTTP_CLIENT_VIA_H
#define ZOKIO_HTTP_CLIENT_VIA_H

#include <zokio/alloc.h>
#include <zokio/url.h>

/* A proxy. */
typedef struct zk__via {
    char *address;       /* as zk_connect_host takes it */
    char *authorization; /* of Proxy-Authorization; NULL: none */
} zk__via;

/* The proxies of a client. */
typedef struct zk__vias {
    zk__via http, https; /* address is NULL: none */
    char *none_for;      /* no_proxy: "localhost,.example.org"; NULL: nobody */
} zk__vias;

/*
 * Fills in the proxies: `text` for both schemes ("http://user:password@host:port"; "": none), or if
 * that is NULL those of the environment (http_proxy, https_proxy, all_proxy, no_proxy).
 * returns 0, ZK_E_CONFIG, -ENOMEM: zk__vias_done() is to be called all the same.
 */
int zk__vias_init(zk__vias *vias, const char *text);
void zk__vias_done(zk__vias *vias);

/* The proxy for a URL; NULL: none. Never for localhost and addresses of this machine. */
const zk__via *zk__via_for(const zk__vias *vias, const zk_url *url);

/* "Basic " and the base64 of s. NULL: there is no memory. */
char *zk__basic(zk_arena *arena, zk_str s);

#endif
