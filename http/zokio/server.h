/*
 * The HTTP server: routes, limits, and serving until told to stop.
 */
#ifndef ZOKIO_SERVER_H
#define ZOKIO_SERVER_H

#include <zokio/http.h>
#include <zokio/tls.h>

ZK_BEGIN

/**
 * A route. The pattern is made of literal segments, "{name}" for one segment, and at its end
 * "{name...}" for all the rest. The most specific pattern wins, whatever the order. GET answers
 * HEAD and OPTIONS too; a path that exists with other methods only gives 405 with Allow.
 */
typedef struct zk_route {
    const char *method; /* NULL: any */
    const char *pattern;
    zk_handler *handler;
    zk_middleware *const *with; /* NULL, or a NULL-terminated list, outermost first */
} zk_route;

/** A running server, see zk_server.on_listening. */
typedef struct zk_serving zk_serving;

/**
 * What to serve, and within which limits. A limit of 0 is the default named beside it; -1 (for the
 * unsigned ones UINT32_MAX, UINT64_MAX) is none. The limits on headers size a buffer, so they have
 * a ceiling: 1 GiB and 1,048,576 fields.
 */
typedef struct zk_server {
    const char *listen;     /* "127.0.0.1:8080", ":8080", "unix:/path", see zk_addr_parse */
    const zk_route *routes; /* ends with {0} */
    /* around every route and error page; NULL, or a NULL-terminated list */
    zk_middleware *const *with;
    void *context;           /* yours, see zk_request_context */
    const char *server_name; /* of the Server field; NULL: "zokio", "": none */
    const zk_config *config; /* of the runtime that zk_serve starts */
    /* NULL: no TLS, and HTTP/1.1 and HTTP/2 (with prior knowledge) on one port. Else TLS only; its
     * alpn is "h2", "http/1.1" unless it says otherwise. SIGHUP reads its files again */
    const zk_tls_server *tls;

    /* Called once when requests are being accepted, on the calling task. */
    void (*on_listening)(void *context, zk_serving *serving);
    /* NULL, or a NULL-terminated list of networks: "10.0.0.0/8", "::1", "unix" for Unix sockets.
     * Connections from there begin with a header of the PROXY protocol, version 1 or 2, and the
     * client's address is what it says; those from elsewhere begin with the request (or TLS). */
    const char *const *proxy_protocol_from;

    /* Called for each handler that failed and each request that was refused, before the response;
     * for logs. With a NULL `req` when reading the files of `tls` again has failed, and when a
     * connection is closed because of its header of the PROXY protocol. */
    void (*on_error)(void *context, const zk_request *req, int rc, const char *what);

    uint32_t header_bytes_max;      /* request line and header section: 16 KiB */
    uint32_t header_count_max;      /* 100 */
    uint32_t target_bytes_max;      /* the request target: 8 KiB */
    uint64_t body_bytes_max;        /* read whole by zk_body: 1 MiB */
    uint64_t body_stream_bytes_max; /* read in pieces: 1 GiB */
    uint32_t h2_streams_max;        /* at once on a connection of HTTP/2: 128 */
    uint32_t connections_max;       /* at once; more wait in the kernel's queue: 65,536 */
    int idle_timeout_ms;            /* between requests: 75,000 */
    /* from a request's first byte to the end of its header section, and for that of the PROXY
     * protocol: 10,000 */
    int header_timeout_ms;
    int body_timeout_ms;           /* without any byte of the body: 30,000 */
    int body_rate_min_bytes_per_s; /* after five seconds of grace: 256 */
    int write_timeout_ms;          /* without the client taking a byte: 30,000 */
    /* for the handler of a client that has shut its side down: 1,000 */
    int half_close_grace_ms;
    int drain_timeout_ms; /* for requests in progress when the server stops: 30,000 */
    bool is_port_shared;  /* other processes may listen on the port too (SO_REUSEPORT) */
    bool no_signals;      /* leave SIGTERM and SIGINT alone, and SIGHUP with `tls` */
} zk_server;

/**
 * Serves until SIGTERM or SIGINT, zk_serving_drain, or the end of the scope: stops accepting, lets
 * requests in progress finish, and returns. A second signal ends the process at once. Outside
 * zk_run it starts a runtime for itself and blocks; in a task it suspends.
 *
 * @return 0; ZK_E_ADDR, ZK_E_HTTP_ROUTE, ZK_E_CONFIG (zk_trail says more);
 *         -EADDRINUSE, -EACCES and other system errors; -ECANCELED, -ETIMEDOUT
 */
ZK_API int zk_serve(const zk_server *server);

/**
 * The address that the server listens on (with the port that the system chose for 0). Never
 * suspends.
 */
ZK_API zk_addr zk_serving_addr(const zk_serving *serving);

/**
 * Begins to stop the server, as SIGTERM does. Any thread; from a signal handler too. Never
 * suspends.
 */
ZK_API void zk_serving_drain(zk_serving *serving);

/**
 * Reads the files of zk_server.tls again, as SIGHUP does; connections that begin from now on use
 * them. Blocks its thread for that. Any thread. Never suspends.
 *
 * @return as zk_tls_reload: if it fails, all stays as it was; -EOPNOTSUPP: there is no TLS
 */
ZK_API int zk_serving_reload(zk_serving *serving) ZK_NODISCARD;

ZK_END
#endif
