/*
 * What the files of TLS share.
 *
 *   tls.c        a configuration (zk_tls): its options, its certificates, reading them again
 *   tls_names.c  which certificate is for which name
 *   tls_ticket.c, tls_session.c   resumption: a server's keys, a client's memory
 *   tls_io.c     bytes between the engine (OpenSSL's SSL) and the inner stream
 *   tls_stream.c the stream that lies above, handshakes
 *   tls_kernel.c kTLS: the kernel encrypts what is sent
 *   tls_error.c  what OpenSSL says, as our codes
 *   tls_info.c   what a handshake has led to
 *   tls_library.c   OpenSSL itself, loaded when it is first needed
 */
#ifndef ZOKIO_NET_TLS_H
#define ZOKIO_NET_TLS_H

#include <pthread.h>
#include <stdatomic.h>

#include <zokio/tls.h>

#include "core/worker.h"
#include "net/stream.h"
#include "net/tls_library.h"
#include "net/tls_names.h"

enum {
    ZK__TLS_RECORD_BYTES = 16 * 1024, /* of plaintext */
    ZK__TLS_BATCH_BYTES = 4 * ZK__TLS_RECORD_BYTES,
    /* Room for what such a batch becomes, and for a flight of a handshake. */
    ZK__TLS_OUT_BYTES = ZK__TLS_BATCH_BYTES + 4 * 1024,
    ZK__TLS_IN_BYTES = 64 * 1024,
    ZK__TLS_HOST_BYTES = ZK__TLS_NAME_MAX + 1,
    ZK__TLS_KERNEL_BYTES = 256 * 1024, /* that the kernel is given at once */
    ZK__TLS_KERNEL_PIECES = 32,        /* in, if that is not all */
};

/* ---- configuration ---- */

typedef struct zk__tls_files {
    char *cert, *key, *ocsp;
} zk__tls_files;

/* A certificate that is in use. */
typedef struct zk__tls_identity {
    SSL_CTX *ctx;
    uint8_t *ocsp;
    size_t ocsp_size;
} zk__tls_identity;

/* What reloading replaces: never changed, freed when nobody uses it any more. */
typedef struct zk__tls_set {
    atomic_uint refs;
    int count;
    zk__tls_identity *identities; /* the first is the default; a client has only that */
    zk__tls_names names;
} zk__tls_set;

typedef struct zk__tls_key {
    uint8_t name[16], cipher[32], mac[32];
    zk_time born; /* 0: there is no such key */
} zk__tls_key;

typedef struct zk__tls_tickets {
    zk_time rotation;    /* 0: no tickets */
    zk__tls_key keys[2]; /* the one in use, and the one before */
    EVP_CIPHER *cipher;  /* looked up once */
} zk__tls_tickets;

typedef struct zk__tls_session {
    char host[ZK__TLS_HOST_BYTES];
    SSL_SESSION *session; /* NULL: a free place */
    uint64_t used;        /* the higher the later */
} zk__tls_session;

typedef struct zk__tls_sessions {
    zk__tls_session *all; /* NULL: none are kept */
    size_t max;
    uint64_t clock;
} zk__tls_sessions;

struct zk_tls {
    atomic_uint refs;
    bool is_server, is_insecure;
    bool wants_kernel;            /* to encrypt what is sent */
    zk_tls_verify verify;         /* a server's */
    int version_min, version_max; /* as OpenSSL numbers them */
    int handshake_timeout_ms, tickets;
    int file_count;
    zk__tls_files *files;
    char *ca_file;
    uint8_t *alpn; /* as on the wire */
    unsigned alpn_size;
    int key_log_fd;       /* -1: none */
    pthread_mutex_t lock; /* of what follows */
    zk__tls_set *set;
    zk__tls_tickets ticket_keys;
    zk__tls_sessions sessions;
};

void zk__tls_ref(zk_tls *tls);
/* As zk_tls_connect, but if the configuration offers protocols, only HTTP/1.1 is offered. */
int zk__tls_connect_http1(zk_tls *tls, zk_stream *inner, const char *host, zk_stream **ret_stream);
/* The certificates of now, to be given back. */
zk__tls_set *zk__tls_set_take(zk_tls *tls);
void zk__tls_set_give(zk__tls_set *set);

/* ---- resumption ---- */

int zk__tls_tickets_init(zk__tls_tickets *tickets, int rotation_s);
void zk__tls_tickets_done(zk__tls_tickets *tickets);
/* Lets the server of this SSL_CTX use them. */
int zk__tls_tickets_use(const zk_tls *tls, SSL_CTX *ctx);

int zk__tls_sessions_init(zk__tls_sessions *sessions, int max);
void zk__tls_sessions_done(zk__tls_sessions *sessions);
void zk__tls_sessions_use(const zk_tls *tls, SSL_CTX *ctx);
/* Has the connection resume what is known of its host. */
void zk__tls_session_offer(zk_tls *tls, SSL *ssl, const char *host);
/* Keeps the ticket that a resumed session of TLS 1.2 may have got: OpenSSL tells of no such. */
void zk__tls_session_renew(SSL *ssl);

/* ---- connections ---- */

typedef struct zk__tls_stream zk__tls_stream;

/* What the inner stream did not take at once. */
typedef struct zk__tls_pending {
    zk__room room; /* first */
    bool is_awaiting;
    zk__tls_stream *stream;
    char *bytes;
    size_t begin, end;
} zk__tls_pending;

struct zk__tls_stream {
    zk_stream head;
    zk_stream *inner;
    SSL *ssl;
    zk_tls *tls;
    struct zk__tls_worker *worker; /* its part of the worker */
    zk__tls_set *set;              /* during the handshake */
    char *in; /* NULL, or what was read of the inner stream and is not used yet */
    uint32_t in_begin, in_end;
    uint32_t barren_bytes; /* that came without anything for the user */
    zk__tls_pending *pending;
    zk__tls_stream *next, **link; /* among the worker's closed ones */
    zk__timer timer;              /* of a closed one */
    zk__room *room;               /* awaited by a connection on top of this */
    zk__wait *reader, *writer;    /* for bytes; for nothing to be pending */
    const char *reason;           /* NULL, or what OpenSSL says of read_rc; lives for ever */
    int read_rc, write_rc;        /* 0, or why it does not go on */
    bool is_shut;                 /* close_notify was written */
    bool is_inner_shut;
    bool is_ended;       /* close_notify was read */
    bool is_told;        /* that there is something to read, and has not read it yet */
    bool is_settled;     /* a client: something has come after the handshake */
    bool is_inner_ended; /* no more bytes come */
    bool is_reset;       /* is to be broken off */
    bool is_in_kernel;   /* what is sent is encrypted there */
    uint8_t record_type; /* of what the engine writes next, in the kernel; 0: data */
    char *host;          /* a client's */
};

/* A worker's: buffers for the call into the engine that is going on, which never waits. */
typedef struct zk__tls_worker {
    struct zk__tls_worker *deeper; /* for connections on top of these */
    BIO *bio;                      /* of all its connections */
    zk__tls_stream *current;       /* whose call that is */
    const char *source;            /* what the engine reads from */
    size_t source_size;
    bool is_source_ended; /* nothing will follow it */
    size_t out_size;
    zk__tls_stream *closed; /* but not done with the inner stream */
    struct zk__tls_settle_wait *settling;
    char in[ZK__TLS_IN_BYTES];
    /* what the engine has written: bytes, or for the kernel records as of zk__tls_kernel_add */
    char out[ZK__TLS_OUT_BYTES];
    char gathered[ZK__TLS_RECORD_BYTES]; /* what a record is made of */
} zk__tls_worker;

/* The calling worker's for a connection on `inner`, made at the first call; NULL: no memory. */
zk__tls_worker *zk__tls_worker_get(const zk_stream *inner);

/*
 * Between these two the engine may be called, and nothing else: what the connection has kept is
 * the engine's input, and what it writes is gathered. zk__tls_end sends that, and keeps what is
 * left of the input. What fails is in read_rc and write_rc.
 */
void zk__tls_begin(zk__tls_stream *s);
void zk__tls_end(zk__tls_stream *s);
/*
 * Between them, and when the last input is used up: reads what the inner stream has, for `want`
 * bytes or so. returns bytes; 0 at the end; -EAGAIN; an error, which is in read_rc, too.
 */
ssize_t zk__tls_pull(zk__tls_stream *s, size_t want);

/* Suspend until there may be input, or until nothing is pending. return 0, -ECANCELED, -ETIMEDOUT,
 * -ENOMEM, the inner stream's errors. */
int zk__tls_wait_readable(zk__tls_stream *s);
int zk__tls_wait_drained(zk__tls_stream *s);
/* Has nothing be pending until the inner stream takes bytes again, so that zk__tls_wait_drained
 * waits for that. returns 0; 1: it takes some already; an error. */
int zk__tls_await_inner(zk__tls_stream *s);

/* returns NULL without memory. */
zk__tls_stream *zk__tls_stream_new(zk_tls *tls, zk_stream *inner);
/* Frees it and what it has, but for the inner stream. */
void zk__tls_stream_free(zk__tls_stream *s);
/* Drops what is pending. */
void zk__tls_pending_free(zk__tls_stream *s);
/* Closes the inner stream, too: now, or once there is nothing left to do on it. */
void zk__tls_finish(zk__tls_stream *s);

/* Suspends until this worker is done with all streams that were closed: has sent what was pending.
 * return 0, -ECANCELED, -ETIMEDOUT, -ENOMEM. */
int zk__tls_settle(void);

/* The stream if it is one of TLS, else NULL. */
const zk__tls_stream *zk__tls_stream_of(const zk_stream *stream);

/* ---- the kernel's part: all within calls into the engine, but for zk__tls_kernel_send ---- */

/* Gives the keys of what is sent, as OpenSSL has them for the kernel, to the inner socket, behind
 * what was written before. returns whether it has taken them; if not, all goes on as it was. */
bool zk__tls_kernel_start(zk__tls_stream *s, const void *keys);
/* Gathers a record that is not data. returns false if there is no room for it. */
bool zk__tls_kernel_add(zk__tls_stream *s, const char *data, size_t size);
/* Refuses what the engine has read if the kernel cannot do it. returns 0; read_rc. */
int zk__tls_kernel_check(zk__tls_stream *s);
/* Sends the first of the records gathered. returns how much of `data` that was; -EAGAIN; an error
 * of the socket. */
ssize_t zk__tls_kernel_send(zk__tls_stream *s, const char *data, size_t size);
/* Whether a record fits now, and all before it has left the kernel's TLS. */
bool zk__tls_kernel_has_room(zk__tls_stream *s);

/* ---- errors ---- */

/* What made the last call fail, from OpenSSL's queue, which is empty afterwards. ssl: NULL or the
 * connection. ret_reason: NULL or a text that lives for ever. */
int zk__tls_error(SSL *ssl, const char **ret_reason);
/* The same for a file that could not be used; adds to the trail. */
int zk__tls_file_error(const char *path);

#endif
