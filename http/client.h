/*
 * What the client's files share: the client itself, and an exchange.
 */
#ifndef ZOKIO_HTTP_CLIENT_H
#define ZOKIO_HTTP_CLIENT_H

#include <zokio/client.h>

#include "http/client_decode.h"
#include "http/client_local.h"
#include "http/client_pool.h"
#include "http/client_via.h"
#include "http/cookies.h"
#include "http/h2_client.h"

struct zk_client {
    zk__hop_limits limits;
    uint64_t body_bytes_max;
    int redirects_max;
    bool no_decoding, is_h2c, has_h2;
    zk_cookies *cookies; /* NULL: none are kept */
    zk__vias vias;
    char *user_agent; /* empty: none */
    zk_tls *tls;      /* NULL: not made yet, or the library is built without */
    zk__local *local; /* NULL, or the server in memory */
    int worker_count;
    zk__pool *pools[]; /* by worker, each touched by its own */
};

enum zk__fetch_state {
    ZK__FETCH_SENDING,  /* the body is to follow */
    ZK__FETCH_SENT,     /* all of the request */
    ZK__FETCH_ANSWERED, /* the response's head is there */
};

/* A request as it is to be sent. Everything lives as long as the exchange, but for the body. */
typedef struct zk__ask {
    zk_url url;
    const char *url_text;
    zk_str method, authority;
    zk_field *fields;
    size_t field_count;
    const zk__via *via; /* NULL, or the proxy that it is sent to in plain */
    zk_str protocol;    /* of an extended CONNECT (RFC 8441); empty: it is none */
    zk_str cookie;      /* the field's value, of the jar; data is NULL without */
    const void *body;
    size_t body_size;
    int64_t body_length; /* ZK_LENGTH_UNKNOWN: in chunks; 0 without has_body */
    bool has_body;       /* even if it is empty */
    bool is_streamed;
} zk__ask;

struct zk_fetch {
    zk_client *client;
    zk__pool *pool;
    zk__ask ask;
    enum zk__fetch_state state;
    int error;         /* sticky */
    zk__hop *hop;      /* while it is needed */
    zk__talk *talk;    /* the hop's, or what it has left */
    zk__h2_call *call; /* instead of both, over HTTP/2 */
    uint64_t written;  /* of a streamed body */
    int redirects;
    const char *connect; /* NULL: the URL's host */
    zk_field *trailers;  /* to be sent */
    size_t trailer_count, trailer_capacity;
    bool wants_decoding;  /* the library has asked for a coding, so it has to undo it */
    zk__decoder *decoder; /* NULL: the body is as it is */
    char *raw;            /* of the decoder: bytes received, not decoded yet */
    zk_str raw_left;
    zk_arena arena;
};

/* The limits of those options, NULL for none, with the defaults. returns 0; ZK_E_CONFIG. */
int zk__client_limits(const zk_client_options *options, zk__hop_limits *ret_limits);

/* The current worker's pool of the client. NULL: there is no memory. */
zk__pool *zk__client_pool(zk_client *client);
/* Where a request goes to; *ret_via: the proxy that it is sent to in plain, or NULL. returns 0;
 * -ENOMEM; what zk_tls_client_new returns; -EOPNOTSUPP: https, and the library is built
 * without. */
int zk__client_origin(zk_client *client, zk__pool *pool, const zk_url *url, const char *connect,
                      const zk__via **ret_via, zk__origin **ret_origin);
/* The same for a WebSocket, which goes through proxies by CONNECT. is_http1: HTTP/2 is of no use
 * to it. */
int zk__client_origin_ws(zk_client *client, zk__pool *pool, const zk_url *url, const char *connect,
                         bool is_http1, zk__origin **ret_origin);
/* The client that the current worker has for those who bring none. */
int zk__client_implicit(zk_client **ret_client);

/*
 * Looks at the response of an exchange: makes f->ask the request that it redirects to.
 * returns 1; 0: it is not to be followed; ZK_E_HTTP_REDIRECTS, -ENOMEM.
 */
int zk__fetch_redirect(zk_fetch *f);

/* As zk_url_authority, always with the port: what zk_connect_host takes. */
size_t zk__url_address(const zk_url *url, char text[ZK_URL_AUTHORITY_BYTES]);

/*
 * Resolves a reference against a URL (RFC 3986 section 5.2), into the arena. Bytes that a URL does
 * not have are percent-encoded. returns NULL: it is no reference, or there is no memory.
 */
char *zk__url_resolve(const zk_url *base, zk_str reference, zk_arena *arena);

/* Fills f->ask. returns 0; as zk_fetch_open. */
int zk__ask_fill(zk_fetch *f, const zk_fetch_options *options);
/* Adds a field to a list, both parts copied. returns 0; ZK_E_HTTP_FIELD, -ENOMEM. */
int zk__fields_add(zk_arena *arena, zk_field **list, size_t *count, size_t *capacity, zk_str name,
                   zk_str value);

/* The answer, once it is there. */
static inline const zk__h1_answer *zk__fetch_answer(const zk_fetch *f)
{
    return f->call ? &f->call->answer : f->talk ? &f->talk->answer : NULL;
}

#endif
