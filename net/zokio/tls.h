/*
 * TLS 1.2 and 1.3 on any stream: the result is a stream like any other.
 *
 * A zk_tls is a configuration (certificates, whom to trust) for any number of connections, on all
 * workers. Without OpenSSL at build time (meson's option tls) these functions are not there.
 */
#ifndef ZOKIO_TLS_H
#define ZOKIO_TLS_H

#include <zokio/alloc.h>
#include <zokio/base.h>
#include <zokio/stream.h>

ZK_BEGIN

typedef struct zk_tls zk_tls;

typedef enum zk_tls_version {
    ZK_TLS_VERSION_DEFAULT,
    ZK_TLS_1_2 = 12,
    ZK_TLS_1_3 = 13,
} zk_tls_version;

/** A certificate and what belongs to it. Strings are copied, files read by the call. */
typedef struct zk_tls_certificate {
    const char *cert_file; /* PEM: the certificate, behind it its chain */
    const char *key_file;  /* PEM, not encrypted; NULL: it is in cert_file */
    const char *ocsp_file; /* DER: an OCSP response to be stapled; NULL: none */
} zk_tls_certificate;

/** What a server wants to see of its clients' certificates. */
typedef enum zk_tls_verify {
    ZK_TLS_VERIFY_NONE,
    ZK_TLS_VERIFY_REQUEST, /* a client may have none, but not one that is not trusted */
    ZK_TLS_VERIFY_REQUIRE,
} zk_tls_verify;

/** How a server's side does TLS. Only `certificates` has to be set. */
typedef struct zk_tls_server {
    /* ended by {0}. A client that names its host (SNI) gets the first whose subjectAltName has
     * that name, else the first with a wildcard for it ("*.example.org" is for one label only),
     * else the first of all */
    const zk_tls_certificate *certificates;
    const char *const *alpn; /* protocols, ended by NULL, best first; a client that offers others
                                only is refused. NULL: none are negotiated */
    zk_tls_verify client_verify;
    const char *client_ca_file;              /* PEM: who signs the clients' certificates */
    zk_tls_version version_min, version_max; /* DEFAULT: 1.2 to 1.3 */
    int handshake_timeout_ms;                /* 0: 10,000; < 0: none */
    /* how long a key for session tickets is used; it is accepted for as long again. 0: 3,600;
     * < 0: no tickets, so no resumption */
    int ticket_rotation_s;
    int tickets;              /* per full TLS 1.3 handshake; 0: 1 */
    const char *key_log_file; /* the connections' secrets are appended, as SSLKEYLOGFILE */
    /* have the kernel encrypt what is sent on TCP sockets, if it can: then zk_stream_send_file and
     * large files by zk_respond_file do not pass through user space. Where it cannot nothing is
     * different; zk_tls_info says it. A peer that wants new keys (KeyUpdate) is then refused: its
     * connection ends, reading gives -EOPNOTSUPP */
    bool ktls;
} zk_tls_server;

/** How a client's side does TLS. Zero-initialised is a good choice. */
typedef struct zk_tls_client {
    const char *ca_file; /* PEM: whom to trust; NULL: the system's store */
    /* trust whatever certificate a server shows, or any name in it: whoever is on the way can read
     * and change everything */
    bool insecure_skip_verification;
    const char *cert_file, *key_file;        /* PEM: for servers that want one; NULL: none */
    const char *const *alpn;                 /* protocols to offer, ended by NULL; NULL: none */
    zk_tls_version version_min, version_max; /* DEFAULT: 1.2 to 1.3 */
    int handshake_timeout_ms;                /* 0: 10,000; < 0: none */
    int sessions_max; /* hosts whose sessions are kept for resumption; 0: 256; < 0: none */
    const char *key_log_file;
    bool ktls; /* as a server's */
} zk_tls_client;

/**
 * Makes a server's configuration. Reads the files in place, and the first one of a process loads
 * OpenSSL: blocks its thread for that. May be called outside zk_run. Never suspends.
 *
 * @return 0; ZK_E_CONFIG (no certificate, a name that is too long, client verification without
 *         client_ca_file), ZK_E_TLS_FILE (missing, malformed, or the key does not match), -ENOMEM,
 *         -ELIBACC (OpenSSL is not installed); zk_trail says which file and why
 */
ZK_API int zk_tls_server_new(const zk_tls_server *options, zk_tls **ret_tls) ZK_NODISCARD;

/** The same for a client's. @return as zk_tls_server_new */
ZK_API int zk_tls_client_new(const zk_tls_client *options, zk_tls **ret_tls) ZK_NODISCARD;

/**
 * Reads all files again; what was given to the constructor stays as it is. Either all of it is
 * taken over by connections that begin from now on, or nothing. Tickets stay valid unless the
 * certificates of client_ca_file have changed. Blocks its thread, so call it by zk_blocking where
 * the files may be slow. On any thread. Never suspends.
 *
 * @return 0; as zk_tls_server_new
 */
ZK_API int zk_tls_reload(zk_tls *tls) ZK_NODISCARD;

/** Gives the configuration up; connections keep what they need of it. NULL is allowed. On any
 * thread. Never suspends. */
ZK_API void zk_tls_free(zk_tls *tls);

/**
 * Does a server's handshake on a connected stream. The result owns `inner` and closes it; on
 * failure it stays the caller's, fit only to be closed. Suspends sometimes.
 *
 * Writes of the result are gathered into records of 16 KiB at most. Its end is clean only if the
 * peer says so (close_notify); else reading it gives ZK_E_TLS_TRUNCATED. Shutting it down or
 * closing it says so to the peer. What could not be sent by the time it is closed is sent in the
 * background for as long as the worker runs and the peer takes something every 30 seconds.
 * Renegotiation is refused. Early data is not used.
 *
 * @return 0; ZK_E_TLS_TIMEOUT; ZK_E_TLS_NOT_TLS, ZK_E_TLS_PROTOCOL, ZK_E_TLS_MISMATCH,
 *         ZK_E_TLS_CERTIFICATE, ZK_E_TLS_EXPIRED (the client's), ZK_E_TLS_ALERT,
 *         ZK_E_TLS_TRUNCATED (it has gone), ZK_E_CONFIG (a client's configuration),
 *         ZK_E_NO_RUNTIME, ZK_E_WORKER, -ECANCELED, -ETIMEDOUT from the scope, -ENOMEM, errors of
 *         the inner stream; zk_trail says more
 */
ZK_API int zk_tls_accept(zk_tls *tls, zk_stream *inner, zk_stream **ret_stream) ZK_NODISCARD;

/**
 * Does a client's handshake. As zk_tls_accept otherwise.
 *
 * A server that refuses the client's certificate does so after the handshake in TLS 1.3: then the
 * first read gives ZK_E_TLS_ALERT.
 *
 * @param host  the name or the IP address that the certificate has to be for; without a port
 * @return as zk_tls_accept; ZK_E_TLS_HOST (the certificate is for others); ZK_E_CONFIG (a server's
 *         configuration, or no host)
 */
ZK_API int zk_tls_connect(zk_tls *tls, zk_stream *inner, const char *host, zk_stream **ret_stream)
    ZK_NODISCARD;

/** What a handshake has led to. The strings live as long as the stream. */
typedef struct zk_tls_info {
    int version;        /* 12, 13 */
    const char *cipher; /* "TLS_AES_128_GCM_SHA256" */
    zk_str alpn;        /* empty: none */
    zk_str server_name; /* that the client has asked for; empty: none */
    bool is_resumed;
    bool is_peer_verified;  /* it has shown a certificate that was found good */
    bool is_sent_by_kernel; /* the kernel encrypts what is sent: see the option `ktls` */
} zk_tls_info;

/** Tells about a TLS stream. Never suspends. @return 0; -EINVAL (another kind of stream) */
ZK_API int zk_tls_info_get(const zk_stream *stream, zk_tls_info *ret_info);

/** Kinds of names in a certificate. */
typedef enum zk_tls_name_kind {
    ZK_TLS_NAME_DNS,
    ZK_TLS_NAME_EMAIL,
    ZK_TLS_NAME_URI,
    ZK_TLS_NAME_IP, /* as text */
} zk_tls_name_kind;

typedef struct zk_tls_name {
    zk_tls_name_kind kind;
    zk_str value;
} zk_tls_name;

/** Who the peer says it is. To be believed if is_verified. */
typedef struct zk_tls_peer {
    zk_str subject, issuer; /* RFC 2253: "CN=alice,O=Example" */
    zk_str common_name;     /* of the subject; empty: none */
    const zk_tls_name *names;
    size_t name_count;
    zk_str certificate;            /* DER */
    uint8_t fingerprint[32];       /* SHA-256 of that */
    int64_t not_before, not_after; /* seconds since 1970 */
    bool is_verified;
} zk_tls_peer;

/**
 * Tells whose certificate the peer has shown. Never suspends.
 *
 * @param arena  where the strings go
 * @return 0; -ENODATA (it has shown none); -EINVAL (another kind of stream); -ENOMEM
 */
ZK_API int zk_tls_peer_get(const zk_stream *stream, zk_arena *arena, zk_tls_peer *ret_peer);

ZK_END
#endif
