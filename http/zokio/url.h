/*
 * URLs: absolute ones with the schemes http, https, ws and wss, split into what a client needs.
 */
#ifndef ZOKIO_URL_H
#define ZOKIO_URL_H

#include <zokio/base.h>
#include <zokio/error.h>

ZK_BEGIN

/** The parts of a URL. They point into its text, or to what lives forever. */
typedef struct zk_url {
    zk_str scheme;    /* "http", "https", "ws" or "wss", whatever the case it was written in */
    zk_str user_info; /* what stands before the '@', not decoded; data is NULL without one */
    zk_str host;      /* as written; of an IPv6 address without its brackets */
    zk_str path;      /* not decoded, "/" if it is empty */
    zk_str query;     /* what is behind the '?', not decoded; data is NULL without one */
    uint16_t port;    /* 80 or 443 if there is none */
    bool is_secure;   /* https, wss */
    bool is_ipv6;
} zk_url;

/** Room for what zk_url_authority writes, its NUL included. */
enum { ZK_URL_AUTHORITY_BYTES = 264 };

/**
 * Splits an absolute URL as RFC 3986 writes it. A fragment is checked and dropped. Never suspends.
 *
 * Refused is what another reader could take for something else: bytes that a URL does not have
 * (spaces, control bytes, '\\', '"', '<', '>', '^', '`', '{', '|', '}', those from 0x80 on), a
 * percent sign without two hexadecimal digits, other schemes, no host or one of other than letters,
 * digits, '-', '_' and '.', a host that ends in a number and is no IPv4 address in four plain
 * decimal parts, zones of IPv6 addresses, a port that is empty, 0, too large or has leading zeros.
 *
 * @param ret_url  untouched on failure
 * @return 0; ZK_E_HTTP_URL
 */
ZK_API int zk_url_parse(zk_str text, zk_url *ret_url) ZK_NODISCARD;

/**
 * Writes host and port as they stand in a Host field: in small letters, an IPv6 address in
 * brackets, the port only if it is not the scheme's own. NUL-terminated. Never suspends.
 *
 * @return the length, below ZK_URL_AUTHORITY_BYTES
 */
ZK_API size_t zk_url_authority(const zk_url *url, char text[ZK_URL_AUTHORITY_BYTES]);

ZK_END
#endif
