/*
 * A client's connection that speaks HTTP/1.1: one exchange after the other.
 *
 * zk__hop is what an idle one is; zk__talk is what it borrows from its pool while it is in use:
 * buffers and the parser. One task may write the request while another reads the response.
 */
#ifndef ZOKIO_HTTP_CLIENT_HOP_H
#define ZOKIO_HTTP_CLIENT_HOP_H

#include <string.h>

#include <zokio/stream.h>

#include "http/h1_response.h"

typedef struct zk__hop zk__hop;
typedef struct zk__talk zk__talk;
typedef struct zk__origin zk__origin;
typedef struct zk__pool zk__pool;

enum { ZK__HOP_OUT_BYTES = 16 * 1024, ZK__HOP_IN_EXTRA_BYTES = 16 * 1024 };

/* What a client's connections are held to; all set. -1: no timeout. */
typedef struct zk__hop_limits {
    uint32_t header_bytes_max, header_count_max;
    uint32_t connections_max, idle_max; /* of an origin, on this worker */
    int connect_timeout_ms;             /* the place in the pool included */
    int answer_timeout_ms;              /* from the request's end to that of the response's head */
    int body_timeout_ms;                /* without any byte of the body */
    int write_timeout_ms;               /* without the server taking a byte */
    int idle_timeout_ms;                /* in the pool */
    int proxy_protocol; /* the version of the header that connections begin with; 0: none */
} zk__hop_limits;

struct zk__talk {
    zk__talk *next; /* in the pool */
    zk__h1 h1;
    zk__h1_answer answer;
    zk_field *fields, *trailers;
    size_t trailer_count;
    size_t in_begin, in_end; /* received and not yet consumed */
    size_t in_capacity;
    size_t body_base; /* behind the head, which has to stay */
    zk_str span;      /* body bytes parsed, not yet taken */
    size_t out_size;
    char *in;
    char out[ZK__HOP_OUT_BYTES];
};

struct zk__hop {
    zk__origin *origin;
    zk_stream *stream;
    zk__talk *talk;        /* while in use */
    zk__hop *next, **link; /* among the idle ones of its origin */
    zk_time idle_until;
    struct zk__greeting *greeting; /* NULL: it may be used for anybody */
    bool is_reused;                /* it has carried an exchange before this one */
    bool has_sent;                 /* bytes of this request may have reached the server */
    bool has_received;             /* bytes of this response have come */
    bool is_request_done;          /* all of it has been sent */
    bool is_broken;                /* nothing can follow */
    bool has_head;                 /* that of the final response has been parsed */
    bool watches; /* for a response, while the request is sent; nobody else reads then */
    /* A kept connection that turns out to have ended before anything was sent is made anew: for
     * requests that cannot be sent twice. */
    bool is_checked;
    enum zk__h1_asked asked;
    int interim_left; /* how many interim responses may come yet */
};

/* Begins an exchange on it. */
void zk__hop_begin(zk__hop *hop);

/* What it is asked for, to be said before the request is sent; with `watches` the functions that
 * send return -EPIPE once a response has come that the request is of no use for. */
void zk__hop_ask(zk__hop *hop, enum zk__h1_asked asked, bool watches);

/* Gathers bytes of a request. Suspends sometimes. returns 0; ZK_E_HTTP_TIMEOUT, -ECANCELED,
 * -ETIMEDOUT, errors of the stream: then the hop is broken. */
static inline int zk__hop_put(zk__hop *hop, const void *data, size_t size);
/* The same where there is not room for all. */
int zk__hop_put_more(zk__hop *hop, const void *data, size_t size);
/* As zk__hop_put; what is large is sent at once from where it lies. */
int zk__hop_write(zk__hop *hop, const void *data, size_t size);
/* As zk__hop_write, as a chunk. */
int zk__hop_write_chunk(zk__hop *hop, const void *data, size_t size);
/* Sends what has been gathered. As zk__hop_put. */
int zk__hop_flush(zk__hop *hop);

/*
 * Waits for the head of the final response, or 101: hop->talk->answer. Suspends sometimes.
 * returns 0, again if it has been here already; ZK_E_HTTP_TIMEOUT; ZK_E_CLOSED (the server has
 *         ended the connection); what zk__h1_parse_response() refuses; -ECANCELED, -ETIMEDOUT;
 *         errors of the stream. The hop is then broken.
 */
int zk__hop_answer(zk__hop *hop);

/*
 * The next piece of the body, where it lies: valid until the next call. Suspends sometimes.
 * returns 1; 0 at the end; errors as zk__hop_answer.
 */
int zk__hop_span(zk__hop *hop, zk_str *ret_span);

/* Some of the body. returns bytes; else as zk__hop_span. */
ssize_t zk__hop_read(zk__hop *hop, void *buf, size_t size);

/* Forgets what is here of the body, without waiting for more. */
void zk__hop_forget_body(zk__hop *hop);

/* Inline, since a head is some thirty pieces. */
static inline int zk__hop_put(zk__hop *hop, const void *data, size_t size)
{
    zk__talk *t = hop->talk;
    if (ZK_UNLIKELY(size > ZK__HOP_OUT_BYTES - t->out_size)) {
        return zk__hop_put_more(hop, data, size);
    }
    if (size) memcpy(t->out + t->out_size, data, size);
    t->out_size += size;
    return 0;
}

/* Whether what comes next can be read straight into a buffer: nothing of the body is here, and it
 * has no framing of its own. */
static inline bool zk__hop_is_direct(const zk__hop *hop)
{
    const zk__talk *t = hop->talk;
    return !t->span.size && t->in_begin == t->in_end && t->h1.state == ZK__H1_BODY &&
           (t->answer.framing == ZK__H1_LENGTH || t->answer.framing == ZK__H1_TO_END);
}

/* Whether the whole body has been read. */
static inline bool zk__hop_is_read(const zk__hop *hop)
{
    return hop->talk->h1.state == ZK__H1_DONE && !hop->talk->span.size;
}

#endif
