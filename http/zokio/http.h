/*
 * Requests and responses: what a handler sees, whichever version of HTTP carries it.
 *
 * A handler is an async function. It may sleep, query, stream; writing is the backpressure. The
 * request, its arena and every zk_str taken from it live until the handler returns. There is always
 * exactly one response: a handler that returns without one, or with an error before the response
 * has begun, gets an error page sent for it; an error after that breaks the connection off, so that
 * the client cannot mistake half a response for a whole one.
 */
#ifndef ZOKIO_HTTP_H
#define ZOKIO_HTTP_H

#include <zokio/alloc.h>
#include <zokio/stream.h>
#include <zokio/task.h>

ZK_BEGIN

typedef struct zk_request zk_request;
typedef struct zk_response zk_response;

/**
 * Answers a request: 0, or an error < 0, which is reported and, if nothing was sent yet, becomes
 * the response.
 */
typedef int zk_handler(zk_request *req, zk_response *res);

/** What is left to run of a route: further middleware and the handler. */
typedef struct zk_next zk_next;

/**
 * Runs around a handler: does its part before and after `zk_next_run(next)`, or responds itself and
 * does not call it.
 */
typedef int zk_middleware(zk_request *req, zk_response *res, zk_next *next);

/** Runs the rest. Suspends as that does. @return its result */
ZK_API int zk_next_run(zk_next *next);

/** A header or trailer field: the name as it was sent, the value without white space around it. */
typedef struct zk_field {
    zk_str name, value;
} zk_field;

/* ---- the request: none of these suspends, but for the body's functions ----------------------- */

/** "GET" */
ZK_API zk_str zk_request_method(const zk_request *req);

/** The path, percent-decoded, without "." and ".." segments; begins with '/'. */
ZK_API zk_str zk_request_path(const zk_request *req);

/** What is behind the '?', as it was sent; empty if there is none. */
ZK_API zk_str zk_request_query(const zk_request *req);

/** The whole request target, as it was sent. */
ZK_API zk_str zk_request_target(const zk_request *req);

/**
 * The host that the request is for, with its port if one was sent; empty for HTTP/1.0 without one.
 */
ZK_API zk_str zk_request_host(const zk_request *req);

/** HTTP's version: 10, 11 or 20. */
ZK_API int zk_request_version(const zk_request *req);

/** The first header field of that name, whatever its case; data is NULL if there is none. */
ZK_API zk_str zk_request_header(const zk_request *req, const char *name);

/** Number of header fields. */
ZK_API size_t zk_request_header_count(const zk_request *req);

/** One header field, by its place in the order of sending; i < zk_request_header_count. */
ZK_API zk_field zk_request_header_at(const zk_request *req, size_t i);

/**
 * The part of the path that `{name}` stands for in the route; data is NULL if the route has no such
 * name.
 */
ZK_API zk_str zk_request_param(const zk_request *req, const char *name);

/**
 * The parameter as a whole decimal number. @return 0; ZK_E_HTTP_PATH if it is none, or does not fit
 */
ZK_API int zk_request_param_u64(const zk_request *req, const char *name, uint64_t *ret_number);

/**
 * The first `name` in the query string, decoded.
 *
 * @return 1; 0 if it is absent (*ret_value is untouched); ZK_E_HTTP_PATH for a bad percent
 *   sequence; -ENOMEM
 */
ZK_API int zk_request_query_get(zk_request *req, const char *name, zk_str *ret_value);

/** Memory that lives as long as the request. */
ZK_API zk_arena *zk_request_arena(zk_request *req);

/** zk_server.context. */
ZK_API void *zk_request_context(const zk_request *req);

/** "https" if the request has come through TLS, else "http". */
ZK_API zk_str zk_request_scheme(const zk_request *req);

/** The connection that it has come on, to ask it about TLS (zk_tls_info_get, zk_tls_peer_get); not
 * to be read or written. */
ZK_API const zk_stream *zk_request_stream(const zk_request *req);

/** Whether the server is about to stop: what would go on for ever (events, long polls) is to end
 * soon. Never suspends. */
ZK_API bool zk_request_is_draining(const zk_request *req);

/** The client's address. @return 0; -ENOTCONN and other system errors */
ZK_API int zk_request_peer(const zk_request *req, zk_addr *ret_addr);

/**
 * The body's length as announced; -1 if it is sent in chunks of unknown number; 0 without a body.
 */
ZK_API int64_t zk_body_length(const zk_request *req);

/**
 * Reads the whole body. Suspends until it is there.
 *
 * @param ret_body  lives as long as the request
 * @return 0; ZK_E_HTTP_BODY_TOO_LARGE (over zk_server.body_bytes_max); ZK_E_HTTP_SYNTAX;
 *         ZK_E_HTTP_TIMEOUT, ZK_E_SLOW; ZK_E_CLOSED (the client left in the middle); -ENOMEM;
 *         -ECANCELED, -ETIMEDOUT
 */
ZK_API int zk_body(zk_request *req, zk_str *ret_body) ZK_NODISCARD;

/**
 * Reads some of the body. Suspends until at least one byte is there, or the end.
 *
 * @return bytes read (1..size); 0 at the end; errors as zk_body, the limit being
 *   zk_server.body_stream_bytes_max
 */
ZK_API ssize_t zk_body_read(zk_request *req, void *buf, size_t size) ZK_NODISCARD;

/** A trailer field, once the body has been read to its end; data is NULL if there is none. */
ZK_API zk_str zk_request_trailer(const zk_request *req, const char *name);

/* ---- the response ---------------------------------------------------------------------------- */

/**
 * Adds a header field to the response, before it begins. The message's own fields (Content-Length,
 * Transfer-Encoding, Connection, Keep-Alive, Proxy-Connection, Upgrade, TE, Trailer, Date, Server)
 * are the library's.
 * Content-Type replaces the one of zk_respond. Never suspends.
 *
 * @return 0; ZK_E_HTTP_FIELD (not a valid name or value, or the library's); ZK_E_HTTP_STATE (it has
 *   begun); -ENOMEM
 */
ZK_API int zk_response_header(zk_response *res, const char *name, const char *value);

/** As zk_response_header, for a value of known size. */
ZK_API int zk_response_header_n(zk_response *res, const char *name, zk_str value);

/**
 * Sends a whole response. It may be gathered with others of the connection into one send. Suspends
 * sometimes.
 *
 * @param content_type  NULL for none
 * @return 0; ZK_E_HTTP_STATE (a response has begun); -EINVAL (not a final status); -ENOMEM;
 *         -ECANCELED, -ETIMEDOUT, ZK_E_HTTP_TIMEOUT (the client does not read), -EPIPE and other
 *         errors of the stream
 */
ZK_API int zk_respond(zk_response *res, int status, const char *content_type, const void *data,
                      size_t size);

/** Sends a text as "text/plain; charset=utf-8". As zk_respond. */
ZK_API int zk_respond_text(zk_response *res, int status, const char *text);

/** Sends a text as "application/json". As zk_respond. */
ZK_API int zk_respond_json(zk_response *res, int status, const char *json);

/** Sends a text as "text/html; charset=utf-8". As zk_respond. */
ZK_API int zk_respond_html(zk_response *res, int status, const char *html);

/** Sends the short page of a status: "404 Not Found". As zk_respond. */
ZK_API int zk_respond_status(zk_response *res, int status);

/** The length of a body that is not known when its first byte is written. */
#define ZK_LENGTH_UNKNOWN (-1)

/**
 * Begins a response whose body is written piece by piece. With a length exactly so many bytes have
 * to follow; without one the body is sent in chunks (to an HTTP/1.0 client: up to the end of the
 * connection). Suspends sometimes.
 *
 * @param length  bytes, or ZK_LENGTH_UNKNOWN
 * @return as zk_respond
 */
ZK_API int zk_response_begin(zk_response *res, int status, const char *content_type,
                             int64_t length);

/**
 * Writes a piece of the body. Small pieces are gathered; zk_response_flush sends what there is.
 * Suspends while the client does not take it.
 *
 * @return as zk_respond; ZK_E_HTTP_STATE (not begun, or ended), ZK_E_HTTP_LENGTH (more than
 *   announced: nothing of it is sent)
 */
ZK_API int zk_response_write(zk_response *res, const void *data, size_t size);

/** Sends what has been written so far. Suspends sometimes. @return as zk_respond */
ZK_API int zk_response_flush(zk_response *res);

/**
 * Adds a trailer field, sent behind a body of unknown length; not to HTTP/1.0 clients. Between
 * begin and end. Never suspends.
 *
 * @return as zk_response_header
 */
ZK_API int zk_response_trailer(zk_response *res, const char *name, const char *value);

/**
 * Ends the body. Returning 0 from the handler does it, too. Suspends sometimes.
 *
 * @return as zk_respond; ZK_E_HTTP_LENGTH (less than announced: the connection is broken off)
 */
ZK_API int zk_response_end(zk_response *res);

/**
 * Closes the connection behind this response. Before it begins, or it has no effect. Never
 * suspends.
 */
ZK_API void zk_response_close(zk_response *res);

/** The status that was sent; 0 before. Never suspends. */
ZK_API int zk_response_status(const zk_response *res);

/**
 * The reason phrase of a status ("Not Found"), "Unknown" for one that is not registered. Never
 * suspends.
 */
ZK_API const char *zk_status_text(int status);

ZK_END
#endif
