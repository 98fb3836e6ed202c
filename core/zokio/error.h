/*
 * Errors are return values: `-errno` for the system's, and below -4095 the named codes of this page
 * for what protocols and the runtime itself can say. Success pays nothing for any of this.
 */
#ifndef ZOKIO_ERROR_H
#define ZOKIO_ERROR_H

#include <zokio/base.h>

/* NAME, number, text. Numbers are part of the interface: append, never renumber. */
#define ZK_ERRORS(X)                                                                               \
    X(ZK_E_ADDR, -4096, "not a valid address")                                                     \
    X(ZK_E_CONFIG, -4097, "the configuration is not valid")                                        \
    X(ZK_E_CLOSED, -4098, "the other side has closed")                                             \
    X(ZK_E_LIMIT, -4099, "a configured limit was reached")                                         \
    X(ZK_E_SLOW, -4100, "the peer is slower than the configured minimum rate")                     \
    X(ZK_E_NO_RUNTIME, -4101, "called from outside zk_run")                                        \
    X(ZK_E_STUCK, -4103, "all tasks wait for each other")                                          \
    X(ZK_E_LEAK, -4104, "something was not closed or freed")                                       \
    X(ZK_E_WORKER, -4102, "belongs to another worker")                                             \
    X(ZK_E_HTTP_SYNTAX, -4200, "malformed HTTP message")                                           \
    X(ZK_E_HTTP_VERSION, -4201, "unsupported HTTP version")                                        \
    X(ZK_E_HTTP_METHOD, -4202, "unknown HTTP method")                                              \
    X(ZK_E_HTTP_HEADER_TOO_LARGE, -4203, "HTTP header section too large")                          \
    X(ZK_E_HTTP_URI_TOO_LONG, -4204, "HTTP request target too long")                               \
    X(ZK_E_HTTP_BODY_TOO_LARGE, -4205, "HTTP message body too large")                              \
    X(ZK_E_HTTP_TIMEOUT, -4206, "the HTTP message did not arrive in time")                         \
    X(ZK_E_HTTP_STATE, -4207, "the HTTP response is not in a state that allows this call")         \
    X(ZK_E_HTTP_LENGTH, -4208, "the HTTP body does not match the announced length")                \
    X(ZK_E_HTTP_FIELD, -4209, "invalid HTTP field name or value")                                  \
    X(ZK_E_HTTP_ROUTE, -4210, "invalid route pattern")                                             \
    X(ZK_E_HTTP_PATH, -4211, "invalid path in the HTTP request target")                            \
    X(ZK_E_HTTP_CODING, -4212, "unsupported HTTP transfer coding")                                 \
    X(ZK_E_HTTP_URL, -4213, "not a valid absolute URL")                                            \
    X(ZK_E_HTTP_REDIRECTS, -4214, "too many redirects")                                            \
    X(ZK_E_HTTP_TUNNEL, -4215, "the HTTP proxy does not connect")                                  \
    X(ZK_E_PROXY_HEADER, -4216, "no valid header of the PROXY protocol")                           \
    X(ZK_E_DNS_NOT_FOUND, -4300, "there is no such name")                                          \
    X(ZK_E_DNS_NO_DATA, -4301, "the name has no address")                                          \
    X(ZK_E_DNS_SERVER, -4302, "the DNS server failed")                                             \
    X(ZK_E_DNS_REFUSED, -4303, "the DNS server refused to answer")                                 \
    X(ZK_E_DNS_TIMEOUT, -4304, "no DNS server answered in time")                                   \
    X(ZK_E_DNS_NAME, -4305, "not a valid host name")                                               \
    X(ZK_E_DNS_ANSWER, -4306, "malformed DNS answer")                                              \
    X(ZK_E_TLS_FILE, -4400, "a certificate, key or related file cannot be used")                   \
    X(ZK_E_TLS_CERTIFICATE, -4401, "the TLS peer's certificate is missing or not trusted")         \
    X(ZK_E_TLS_EXPIRED, -4402, "the TLS peer's certificate has expired or is not valid yet")       \
    X(ZK_E_TLS_HOST, -4403, "the TLS peer's certificate is for another host")                      \
    X(ZK_E_TLS_ALERT, -4404, "the TLS peer has ended the connection with an alert")                \
    X(ZK_E_TLS_TRUNCATED, -4405, "the TLS peer's data ended without its saying so")                \
    X(ZK_E_TLS_MISMATCH, -4406, "no TLS version, cipher or protocol in common with the peer")      \
    X(ZK_E_TLS_NOT_TLS, -4407, "the peer does not speak TLS")                                      \
    X(ZK_E_TLS_TIMEOUT, -4408, "the TLS handshake was not done in time")                           \
    X(ZK_E_TLS_PROTOCOL, -4409, "malformed or unexpected TLS message")                             \
    X(ZK_E_WS_HANDSHAKE, -4500, "the WebSocket handshake was refused")                             \
    X(ZK_E_WS_PROTOCOL, -4501, "malformed or unexpected WebSocket frame")                          \
    X(ZK_E_WS_TEXT, -4502, "a WebSocket text message is not UTF-8")                                \
    X(ZK_E_WS_TOO_LARGE, -4503, "WebSocket message too large")                                     \
    X(ZK_E_WS_TIMEOUT, -4504, "the WebSocket peer does not answer")                                \
    X(ZK_E_WS_STATE, -4505, "the WebSocket is not in a state that allows this call")               \
    X(ZK_E_WS_DEFLATE, -4506, "malformed compressed WebSocket message")

ZK_BEGIN

enum zk_error {
#define ZK__ERROR_ENUM(name, number, text) name = number,
    ZK_ERRORS(ZK__ERROR_ENUM)
#undef ZK__ERROR_ENUM
};

/**
 * Describes an error code of this library or of the system. Never suspends.
 *
 * @param rc  a negative return value; 0 and above give "success"
 * @return a text that lives forever
 */
ZK_API const char *zk_strerror(int rc);

/** The code's symbolic name ("ECONNRESET", "ZK_E_ADDR"), or "?" if it has none. Never suspends. */
ZK_API const char *zk_errname(int rc);

/**
 * Adds a line of context to the current task's error trail and returns `rc`, so that a failing call
 * reads `return zk_fail(rc, "resolving %s", host);`. Contexts are put in front: the trail reads
 * from the outside in, "loading the page: resolving example.org: ECONNREFUSED (Connection
 * refused)". A different `rc`, or a trail that has been read, starts a new one. The trail follows
 * the error: to who awaits the task, or waits for its scope. Outside a task, and when memory is
 * short, the context is dropped. Never suspends.
 *
 * @return rc
 */
ZK_API int zk_fail(int rc, const char *format, ...) ZK_PRINTF(2, 3);

/**
 * The current task's error trail, "" if there is none. Outside a task: this thread's, which after
 * zk_run is that of its main function, so that a program can say why it ends. Never suspends.
 *
 * @return a text that lives until the task's (or thread's) next zk_fail, or its end
 */
ZK_API const char *zk_trail(void);

ZK_END
#endif
