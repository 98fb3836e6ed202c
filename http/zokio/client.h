/*
 * The HTTP client: a request, its response, and the connections in between.
 *
 *     zk_fetch *page;
 *     int rc = zk_get("https://example.org/", &page);
 *     if (!rc) rc = zk_fetch_body(page, &text);
 *     ...
 *     zk_fetch_close(page);
 *
 * An exchange has no deadline but those of its limits and of the scope that it is made in: put it
 * into ZK_WITHIN. Cancelling the scope breaks it off.
 */
#ifndef ZOKIO_CLIENT_H
#define ZOKIO_CLIENT_H

#include <zokio/cookies.h>
#include <zokio/http.h>
#include <zokio/tls.h>
#include <zokio/url.h>

ZK_BEGIN

/** A client: its connections and its limits, for any number of requests on all workers. */
typedef struct zk_client zk_client;

/** A request and its response. It belongs to the worker that it was opened on. */
typedef struct zk_fetch zk_fetch;

/**
 * How a client works. A limit of 0 is the default named beside it; -1 (for the unsigned ones
 * UINT32_MAX, UINT64_MAX) is none. The limits on headers size a buffer, so they have a ceiling: 1
 * GiB and 1,048,576 fields.
 */
typedef struct zk_client_options {
    const zk_tls_client *tls; /* NULL: the system's certificates. Its alpn is the client's own */
    const char *user_agent;   /* NULL: "zokio", "": none */
    /* per origin (scheme, host and port) and worker; who needs more waits. 256 */
    uint32_t connections_max;
    uint32_t idle_connections_max; /* of these kept for the next request: 64 */
    int idle_timeout_ms;           /* for how long: 60,000 */
    int connect_timeout_ms;        /* name, connection and TLS, and waiting for a place: 10,000 */
    int answer_timeout_ms;         /* from the request to the response's header: 60,000 */
    int body_timeout_ms;           /* without any byte of the body: 30,000 */
    int write_timeout_ms;          /* without the server taking a byte: 30,000 */
    uint32_t header_bytes_max;     /* status line and header section: 32 KiB */
    uint32_t header_count_max;     /* 128 */
    uint64_t body_bytes_max;       /* read whole by zk_fetch_body: 16 MiB */
    /* do not ask for gzip and br; else bodies are decoded if the request has no Accept-Encoding of
     * its own, and limits are on what they become */
    bool no_decoding;
    /* NULL, or where cookies are kept: those that answers set are said to whom they are for, unless
     * a request has a Cookie field of its own. It has to outlive the client */
    zk_cookies *cookies;
    /* NULL, or: requests go to the routes of this server, in memory, whatever host they name; for
     * tests. It has to outlive the client, which can be used on its own worker only */
    const struct zk_server *server;
    /* to go through: "http://user:password@host:port"; "": none; NULL: as the environment says
     * (http_proxy, https_proxy, all_proxy, no_proxy). Never for localhost and 127.0.0.0/8 */
    const char *proxy;
    bool no_h2; /* HTTP/1.1 only; else over TLS HTTP/2 if the server has it */
    bool h2c;   /* plain http by HTTP/2, from servers known to speak it; not through a proxy */
    int redirects_max; /* followed: 10; -1: none, they are responses like others */
} zk_client_options;

/**
 * Makes a client. Reads certificates in place: blocks its thread for that. Never suspends.
 *
 * @param options  NULL for the defaults
 * @return 0; ZK_E_CONFIG (a limit is out of range), what zk_tls_client_new returns, -ENOMEM,
 *         ZK_E_NO_RUNTIME
 */
ZK_API int zk_client_new(const zk_client_options *options, zk_client **ret_client) ZK_NODISCARD;

/**
 * Closes its idle connections and frees it; NULL is allowed. None of its exchanges may be open.
 * Never suspends, unless it has a `server`: then sometimes, for its handlers to end.
 */
ZK_API void zk_client_free(zk_client *client);

/** A header field to be sent. */
typedef struct zk_header {
    const char *name, *value;
} zk_header;

/** What is asked for. Only `url` has to be set. All of it is copied but for the body. */
typedef struct zk_fetch_options {
    const char *url;          /* "https://example.org/path?query"; without user information */
    const char *method;       /* NULL: GET, or POST with a body */
    const zk_header *headers; /* ended by {0}; NULL: none */
    const char *content_type; /* NULL: none */
    const void *body;         /* has to last until zk_fetch_open returns */
    size_t body_size;
    bool is_streamed;            /* the body follows by zk_fetch_write; `body` is not used */
    int64_t body_length;         /* of that: ZK_LENGTH_UNKNOWN, or exactly so many bytes */
    const char *connect;         /* NULL, or the address to connect to instead of the URL's host:
                            "127.0.0.1:8080", "unix:/run/app.sock" */
    const char *user, *password; /* basic authentication; NULL: none */
    const char *bearer_token;    /* NULL: none */
} zk_fetch_options;

/**
 * Sends a request and waits for the header of its response, or with is_streamed sends just the
 * header of the request. Suspends sometimes.
 *
 * Connections are kept and used again. Should the server have closed such a one just when the
 * request went out, it is sent again on a new connection, but only if nothing of it was sent, or if
 * its method is idempotent (RFC 9110 section 9.2.2) and not a byte has come back.
 *
 * Redirects are followed as browsers do: 303 by GET, 301 and 302 of POST by GET, else by the same
 * request. On the way to another origin Authorization, Cookie and Host are dropped. Not followed,
 * but given back as they are: from https to http, to URLs with user information or of other
 * schemes, and those that would need a streamed body again.
 *
 * @param client  NULL: one of the worker's own, with the defaults
 * @return 0; ZK_E_HTTP_URL, ZK_E_HTTP_METHOD, ZK_E_HTTP_FIELD (what was asked for is not valid);
 *         ZK_E_HTTP_TIMEOUT, ZK_E_HTTP_REDIRECTS, ZK_E_HTTP_TUNNEL; ZK_E_CLOSED (the server has
 *         closed without an answer); ZK_E_HTTP_SYNTAX, ZK_E_HTTP_VERSION,
 *         ZK_E_HTTP_HEADER_TOO_LARGE, ZK_E_HTTP_CODING (of the response); what
 *         zk_connect_host, zk_tls_connect and zk_stream_write return; -ECANCELED, -ETIMEDOUT from
 *         the scope; -ENOMEM; ZK_E_NO_RUNTIME
 */
ZK_API int zk_fetch_open(zk_client *client, const zk_fetch_options *options, zk_fetch **ret_fetch)
    ZK_NODISCARD;

/** GETs a URL. As zk_fetch_open. */
ZK_API int zk_get(const char *url, zk_fetch **ret_fetch) ZK_NODISCARD;

/** POSTs some bytes. As zk_fetch_open. */
ZK_API int zk_post(const char *url, const char *content_type, const void *data, size_t size,
                   zk_fetch **ret_fetch) ZK_NODISCARD;

/** Ends the exchange, wherever it is, and frees it; NULL is allowed. Never suspends. */
ZK_API void zk_fetch_close(zk_fetch *fetch);

/* ---- a streamed request ---------------------------------------------------------------------- */

/**
 * Writes a piece of the request's body. Small pieces are gathered; zk_fetch_flush sends what there
 * is. Suspends while the server does not take it.
 *
 * @return 0; ZK_E_HTTP_STATE (the request has ended), ZK_E_HTTP_LENGTH (more than announced:
 *   nothing of it is sent); ZK_E_HTTP_TIMEOUT, -EPIPE and other errors of the stream: an answer may
 *   have come nevertheless, see zk_fetch_answer; -ECANCELED, -ETIMEDOUT
 */
ZK_API int zk_fetch_write(zk_fetch *fetch, const void *data, size_t size) ZK_NODISCARD;

/** Sends what has been written so far. Suspends sometimes. @return as zk_fetch_write */
ZK_API int zk_fetch_flush(zk_fetch *fetch) ZK_NODISCARD;

/**
 * Adds a trailer field, sent behind a body of unknown length. Never suspends.
 *
 * @return 0; ZK_E_HTTP_FIELD; ZK_E_HTTP_STATE (the body has a known length, or has ended); -ENOMEM
 */
ZK_API int zk_fetch_write_trailer(zk_fetch *fetch, const char *name, const char *value)
    ZK_NODISCARD;

/**
 * Ends the request's body, if that is not done yet, and waits for the header of the response.
 * Suspends sometimes.
 *
 * @return as zk_fetch_open; ZK_E_HTTP_LENGTH (less than announced)
 */
ZK_API int zk_fetch_answer(zk_fetch *fetch) ZK_NODISCARD;

/* ---- the response ---------------------------------------------------------------------------- */

/** The status; 0 before there is one. Never suspends. */
ZK_API int zk_fetch_status(const zk_fetch *fetch);

/** HTTP's version that has answered: 10, 11, 20; 0 before. Never suspends. */
ZK_API int zk_fetch_version(const zk_fetch *fetch);

/** The URL that has answered, after redirects; lives as long as the exchange. Never suspends. */
ZK_API const char *zk_fetch_url(const zk_fetch *fetch);

/** The first header field of that name, whatever its case; data is NULL if there is none. It lives
 * as long as the exchange. Never suspends. */
ZK_API zk_str zk_fetch_header(const zk_fetch *fetch, const char *name);

/** Number of header fields. Never suspends. */
ZK_API size_t zk_fetch_header_count(const zk_fetch *fetch);

/** One header field, in the order of sending; i < zk_fetch_header_count. Never suspends. */
ZK_API zk_field zk_fetch_header_at(const zk_fetch *fetch, size_t i);

/** The body's length as announced; -1 if it is not known, or it is to be decoded; 0 without a body.
 * Never suspends. */
ZK_API int64_t zk_fetch_length(const zk_fetch *fetch);

/**
 * Reads some of the body. Suspends until at least one byte is there, or the end.
 *
 * @return bytes read (1..size); 0 at the end; ZK_E_HTTP_STATE (there is no response yet);
 *         ZK_E_CLOSED (it broke off in the middle); ZK_E_HTTP_SYNTAX; ZK_E_HTTP_CODING;
 *         ZK_E_HTTP_TIMEOUT; errors of the stream; -ECANCELED, -ETIMEDOUT
 */
ZK_API ssize_t zk_fetch_read(zk_fetch *fetch, void *buf, size_t size) ZK_NODISCARD;

/**
 * Reads the whole body, or what is left of it. Suspends until it is there.
 *
 * @param ret_body  a NUL stands behind it; lives as long as the exchange
 * @return 0; ZK_E_HTTP_BODY_TOO_LARGE (over zk_client_options.body_bytes_max); else as
 *         zk_fetch_read; -ENOMEM
 */
ZK_API int zk_fetch_body(zk_fetch *fetch, zk_str *ret_body) ZK_NODISCARD;

/** A trailer field, once the body has been read to its end; data is NULL if there is none. Never
 * suspends. */
ZK_API zk_str zk_fetch_trailer(const zk_fetch *fetch, const char *name);

ZK_END
#endif
