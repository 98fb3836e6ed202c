/*
 * A connection of an HTTP/1.1 server.
 *
 * zk__conn is what an idle connection is: a few pointers and a timer. zk__session is what it
 * borrows from the shard while it is being served: buffers, parser, request and response.
 */
#ifndef ZOKIO_HTTP_H1_CONN_H
#define ZOKIO_HTTP_H1_CONN_H

#include "http/exchange.h"
#include "http/h1.h"
#include "http/shard.h"

enum { ZK__H1_OUT_BYTES = 16 * 1024, ZK__H1_IN_EXTRA_BYTES = 8 * 1024, ZK__H1_ARENA_BYTES = 2048 };

enum zk__conn_phase {
    ZK__CONN_IDLE,    /* parked, between requests */
    ZK__CONN_HEAD,    /* parked with part of a head in `partial` */
    ZK__CONN_LATE,    /* that part has not become whole in time */
    ZK__CONN_ACTIVE,  /* a task serves it */
    ZK__CONN_SHAKING, /* a task sees to what comes before HTTP: see conn_introduce.c */
    ZK__CONN_H2,      /* it speaks HTTP/2: see h2_conn.c */
    ZK__CONN_OTHER,   /* it has left HTTP: see upgrade.h */
    /* parked; what still comes is discarded so that the client gets to read the last response */
    ZK__CONN_LINGER,
};

/* Some bytes that are kept. */
typedef struct zk__bytes {
    uint32_t size;
    char data[];
} zk__bytes;

/* What each request needs comes first: all in one cache line, for zk_alloc aligns what has a
 * multiple of its size. */
struct zk__conn {
    zk__shard *shard;
    zk_stream *stream;
    union {
        zk__session *session; /* while ACTIVE */
        zk_scope *shaking;    /* while SHAKING: around that */
    };
    zk_time deadline;     /* INT64_MAX: none */
    zk_time timer_due;    /* when the timer fires, maybe earlier than that; INT64_MAX: never */
    zk__bytes *partial;   /* of a head, while parked; NULL: none */
    zk__bytes *unsent;    /* of staged bytes: what the client has not taken yet */
    uint8_t phase;        /* enum zk__conn_phase */
    bool is_staged;       /* bytes of it are in the shard's stage */
    bool has_served;      /* a request of HTTP/1.1 */
    bool has_begun;       /* what comes before HTTP is done */
    bool is_secured;      /* the TLS handshake is a part of it */
    bool has_head_begun;  /* head_deadline is that of a head that has begun to arrive */
    uint16_t ready_place; /* in the shard's list of what was received; 0: in none */
    zk_time head_deadline;
    zk__timer timer;
    zk__conn *next, **link;
    union { /* in that phase */
        struct zk__h2_conn *h2;
        struct zk__upgrade *upgrade;
    };
};

_Static_assert(sizeof(zk__conn) % 64 == 0 || sizeof(void *) != 8, "is not aligned any more");
_Static_assert(offsetof(zk__conn, ready_place) < 64, "is not in the first cache line");

struct zk__session {
    zk__session *next; /* in the shard's pool */
    zk__conn *conn;
    zk__stack *stack; /* that its task runs on */
    bool is_leader;   /* its task serves what has arrived together; see h1_batch.c */
    zk_scope scope;   /* of the task; cancelled when the client is gone */
    zk__h1 h1;
    /* Of the request's head, what is asked for later. */
    uint8_t minor, framing;
    bool keep_alive, is_upgrade;
    zk_request req;
    zk_response res;
    size_t in_begin, in_end; /* received and not yet consumed */
    size_t in_capacity;
    size_t body_base; /* where bytes of a body may be put: behind the head, which has to stay */
    zk_str span;      /* body bytes parsed, not yet taken */
    size_t out_size;
    bool is_chunked;    /* the response's body is */
    bool owes_continue; /* the client waits for a 100 before it sends the body */
    char *in;
    zk_field *fields, *trailers;
    const char *arena_start; /* what arena.next is while the arena is not used */
    char arena_block[ZK__H1_ARENA_BYTES];
    char out[ZK__H1_OUT_BYTES];
};

/* Takes over an accepted stream. Closes it if there is no memory. */
void zk__conn_open(zk__shard *shard, zk_stream *stream);
/* Spawns a task that serves it. */
void zk__conn_start(zk__conn *conn);
/* Before zk__conn_turn; what has been received goes behind what the session then has. */
void zk__conn_begin(zk__conn *conn, zk__session *x);
/*
 * Serves what is there and parks the connection, or ends it.
 * n: bytes that have just been received; 0: the end; or an error
 * returns whether there is more to read at once.
 */
bool zk__conn_turn(zk__conn *conn, zk__session *x, ssize_t n);
/* Ends it now; it must not be parked. */
void zk__conn_close(zk__conn *conn);
/* Something has to happen to it by then; INT64_MAX: nothing. */
void zk__conn_deadline(zk__conn *conn, zk_time deadline);
/* Begins to end it: at once if it is idle, else behind the response in progress. */
void zk__conn_drain(zk__conn *conn);
/* Lets the connection notice that its client goes, while nobody reads. */
void zk__conn_watch(zk__conn *conn);
/* Has a task send bytes for which there was no room just now. returns false if there is no
 * memory. */
bool zk__conn_send_later(zk__conn *conn, const char *data, size_t size);
/* Cancels what it is doing. */
void zk__conn_cancel(zk__conn *conn);
/* Ends it at once. */
void zk__conn_abort(zk__conn *conn);

/* What comes before the first byte of HTTP: the header of the PROXY protocol, TLS. Suspends.
 * returns whether HTTP/1.1 is to follow; else the connection is no longer the caller's. */
bool zk__conn_introduce(zk__conn *conn);
/* What that still has when the server stops. */
static const zk_time zk__last_shake_time = ZK_SEC(1);

/* A session for the current task. returns NULL if there is no memory. */
zk__session *zk__session_enter(zk__shard *shard);
void zk__session_leave(zk__shard *shard, zk__session *x);
/* Makes it as new. returns false if that cannot be. */
bool zk__session_renew(zk__session *x);

/* Called by the poller: receives what a parked connection has got, to be served with others.
 * returns false if it has to be served by itself. */
bool zk__batch_add(zk__conn *conn);
/* The connection ends before that. */
void zk__batch_forget(zk__conn *conn);
/* A leader, whose connection x->conn is, is about to wait. */
void zk__batch_hand_over(zk__session *x);

/* Frees one of the sessions that the shard keeps. */
void zk__session_free_one(zk__spare *spare);

extern const struct zk__transport zk__h1_transport;

/* transport.protocol, upgrade; see upgrade.c. */
zk_str zk__h1_protocol(const zk_request *req);
int zk__h1_upgrade(zk_response *res, zk_str protocol, struct zk__upgrade *upgrade,
                   struct zk__upgrade_ahead *ret_ahead);
/* The head of a 101, gathered. */
int zk__h1_put_switching(zk_response *res, zk_str protocol);
/* Goes on as after a response that ends the connection. */
void zk__conn_resume(zk__conn *conn, bool is_lingering, bool is_reset);

/* Sends what has been gathered. returns 0 or an error of the stream. */
int zk__h1_flush(zk__session *x);
/* Sends what has to leave before anything else. returns as zk__h1_flush */
int zk__h1_send_put_off(zk__session *x);
/* Sends conn->unsent. */
int zk__h1_send_unsent(zk__session *x);
/* The same as zk__h1_flush without waiting; the rest stays. */
void zk__h1_try_flush(zk__session *x);

/* transport.body_read, body_view; see h1_input.c. */
ssize_t zk__h1_body_read(zk_request *req, void *buf, size_t size);
int zk__h1_body_view(zk_request *req, zk_str *ret);
/* Whether what is left of the body is, as far as is known, little enough to be read and
 * forgotten. */
bool zk__h1_body_is_short(const zk__session *x);
/* Reads what the handler has left of the body, if that is little. returns whether the connection
 * can be used again. */
bool zk__h1_body_discard(zk__session *x);

static inline zk__session *zk__session_of(zk_request *req)
{
    return (zk__session *)(void *)((char *)req - offsetof(zk__session, req));
}

/* Something has been gathered in x->out: it is sent at the latest when the task waits. */
static inline void zk__h1_gathered(zk__session *x)
{
    if (ZK_LIKELY(zk__worker_self()->stack == x->stack)) {
        x->stack->on_leave_context = x;
        x->stack->on_leave = (void (*)(void *))zk__h1_try_flush;
    }
}

#endif
