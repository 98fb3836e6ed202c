/*
 * The HTTP/2 engine of a server: nghttp2, with what it leaves open closed (RFC 9113). It does no
 * I/O: zk__h2_recv takes the client's bytes, zk__h2_send gives bytes for it.
 *
 *   stream:   FIELDS --head is whole: on_request--> OPEN --both sides ended, or reset--> CLOSED
 *
 * nghttp2 is never entered from its own callbacks: what they find out is kept in the stream, and
 * the events below tell the owner, who may make tasks ready but not call the engine.
 *
 * Frames that cost a client little and us something are paid from an account (`credit`) that grows
 * with what is sent to it and with time. Empty, the connection ends with ENHANCE_YOUR_CALM. That
 * covers floods of SETTINGS, PING, PRIORITY, empty DATA, WINDOW_UPDATE and resets, those that it
 * makes us send too (CVE-2023-44487, CVE-2025-8671), and of CONTINUATION. See h2_account.c.
 */
#ifndef ZOKIO_HTTP_H2_H
#define ZOKIO_HTTP_H2_H

#include "http/exchange.h"
#include "http/h2_received.h"
#include "http/shard.h"

typedef struct zk__h2 zk__h2;
typedef struct zk__h2_stream zk__h2_stream;

enum {
    ZK__H2_PREFACE_BYTES = 24,
    ZK__H2_ARENA_BYTES = 1024,
    ZK__H2_OUT_BYTES_MAX = 16 * 1024,  /* of a stream's body, gathered */
    ZK__H2_SEND_BYTES_MIN = 2 * 16384, /* room that zk__h2_send needs */
    ZK__H2_STREAM_WINDOW_BYTES = 256 * 1024,
    ZK__H2_WINDOW_BYTES = 1024 * 1024,
    ZK__H2_HEADS = 4,
    ZK__H2_KNOWN = 8,
    ZK__H2_KNOWN_SMALL = 32, /* with a zero */
};

/* What happens to a stream. Called from within zk__h2_recv and zk__h2_send. */
struct zk__h2_events {
    /* The head is whole, or stream->refused says why it is not accepted. */
    void (*on_request)(zk__h2_stream *stream);
    /* There is more of its body, or the end. */
    void (*on_body)(zk__h2_stream *stream);
    /* What was gathered in `out` has been taken. */
    void (*on_room)(zk__h2_stream *stream);
    /* nghttp2 has forgotten it; error: of HTTP/2, 0: all went well. The engine has, too. */
    void (*on_closed)(zk__h2_stream *stream, uint32_t error);
};

/* A head as it has been compressed, as long as that holds. */
typedef struct zk__h2_head {
    uint16_t status;
    uint8_t type_size, size; /* size 0: it holds no more */
    uint8_t block[4];
    char type[32];
} zk__h2_head;

/* A field that requests have had, as long as nghttp2 gives the same objects for it: it has been
 * found well-formed. They are held, so that their addresses mean nothing else. */
typedef struct zk__h2_known {
    struct nghttp2_rcbuf *name, *value; /* value NULL: nothing is known */
    zk_str name_text;                   /* of RFC 7541's own table */
    const char *text;
    uint32_t size;
    char small[ZK__H2_KNOWN_SMALL]; /* the text again, for a copy without a loop, if it fits */
    uint32_t cost;                  /* as RFC 9113 section 6.5.2 counts */
    uint16_t said;                  /* of enum zk__h2_said: what it tells */
} zk__h2_known;

struct zk__h2 {
    struct nghttp2_session *session;
    const struct zk__h2_events *events;
    zk__shard *shard;
    zk_stream *transport; /* for requests to ask for the peer */
    zk__h2_stream *streams;
    /* Found once for several callbacks: whose header block is being received (NULL: nobody's), and
     * whose DATA was sent last. Gone with the stream. */
    zk__h2_stream *block, *sent;
    uint32_t stream_count;
    int32_t credit;
    zk_time credited; /* when it last grew by time */
    /* When the frame, or the header block, that is being received has begun; 0: none is. */
    zk_time frame_since;
    uint8_t head[9], head_size; /* of that frame, and how much of it is there */
    uint32_t payload_left;      /* of it, still to come */
    uint32_t continuations;     /* of the header block */
    bool is_in_block;
    uint8_t host_size;
    char host[31];                    /* one that has been found valid */
    uint32_t header_bytes;            /* of the header block that is being received */
    uint32_t header_count;            /* fields of it so far */
    bool is_calmed;                   /* has been told to calm down */
    bool is_terminated;               /* by zk__h2_terminate; otherwise by nghttp2, for an error */
    zk__h2_known known[ZK__H2_KNOWN]; /* by their place in the header block */
    /* Sending; see h2_send.c. */
    struct nghttp2_hd_deflater *deflater; /* made when it is needed */
    uint32_t owed;     /* bytes by which nghttp2 takes the client's window for larger than it is */
    uint32_t wholes;   /* streams whose is_whole is set */
    bool is_starved;   /* by `owed`: bodies wait for the window */
    bool is_replaced;  /* the frame that nghttp2 gives next has been sent in another form */
    bool has_settings; /* of the client's, which are being received */
    /* Frames that are sent before others; NULL: none. */
    char *carry;
    size_t carry_begin, carry_size;
    /* Of the zk__h2_send that runs. */
    char *out;
    size_t out_size, out_capacity;
    int64_t heads_second; /* the Date of these */
    zk__h2_head heads[ZK__H2_HEADS];
};

/* The bytes of a body that wait to be sent. */
typedef struct zk__h2_out {
    const char *data;
    size_t size;
    char *buffer; /* ZK__H2_OUT_BYTES_MAX, or NULL; data may point into it */
    bool is_last;
    bool is_begun; /* the head has been given to nghttp2, with a body to follow */
} zk__h2_out;

struct zk__h2_stream {
    zk__h2_stream *next, **link; /* of its connection; next: in the shard's pool */
    zk__h2 *h2;                  /* NULL once that has forgotten it */
    struct zk__h2_conn *conn;    /* set with its task */
    int32_t id;
    uint16_t said;     /* of enum zk__h2_said: which fields there were */
    int refused;       /* 0; an error that the head is answered with */
    bool has_task;     /* a handler runs, or is about to; or it is kept */
    bool is_kept;      /* its tunnel goes on, and the handler has returned */
    bool is_reset;     /* we have, or the client has */
    bool has_ended;    /* our END_STREAM has been sent */
    bool owes_interim; /* the head that is sent next is a 100 */
    bool has_head;     /* that of the response has been sent */
    bool is_whole;     /* `out` is all of the body, and leaves with the head */
    uint32_t header_bytes;
    uint32_t field_capacity;
    zk_str scheme, protocol; /* :protocol, of RFC 8441 */
    zk_str other_host;       /* Host beside :authority */
    bool owes_continue;      /* the client waits for a 100 before it sends the body */
    zk_field *fields;
    zk_field *trailers;
    zk_request req;
    zk_response res;
    zk_scope scope;    /* of the task; cancelled when the stream is reset */
    zk__received in;   /* of the request's body */
    uint64_t in_total; /* bytes of it that have come, in all */
    bool is_in_ended;
    zk__wait *reader, *writer;
    zk__h2_out out;
    bool is_out_awaited;          /* by its handler, which then keeps the client's time itself */
    zk_time out_since;            /* when `out` last moved, or got something to move */
    struct zk__h2_tunnel *tunnel; /* NULL: it is HTTP's */
    zk_str type;                  /* of the response's content */
    char arena_block[ZK__H2_ARENA_BYTES];
};

/* returns 0, -ENOMEM. */
int zk__h2_init(zk__h2 *h2, zk__shard *shard, const struct zk__h2_events *events);
/* All streams are closed. */
void zk__h2_done(zk__h2 *h2);

/* Takes what the client has sent, and may change it. returns 0; ZK_E_HTTP_SYNTAX: it is to be
 * closed when what it is to be told has been sent; -ENOMEM. */
int zk__h2_recv(zk__h2 *h2, void *data, size_t size);

/*
 * Fills a buffer of at least ZK__H2_SEND_BYTES_MIN with what is to be sent. returns how many bytes;
 * 0: nothing is to be sent now; -ENOMEM: the connection is lost.
 */
ssize_t zk__h2_send(zk__h2 *h2, char *buf, size_t size);

/* Whether there is any point in keeping the connection. */
bool zk__h2_is_alive(const zk__h2 *h2);
/* Tells the client to begin nothing more here (GOAWAY): first that the end is near, then, with
 * is_final, which streams will still be answered. */
void zk__h2_goaway(zk__h2 *h2, bool is_final);
/* Ends the connection, with an error of HTTP/2. */
void zk__h2_terminate(zk__h2 *h2, uint32_t error);
/* The same with ENHANCE_YOUR_CALM. */
void zk__h2_calm(zk__h2 *h2);

/* Before zk__h2_respond: a body that is small leaves with its head, if the client has room for it.
 * Copies it. returns 1; 0: it has to go another way; -ENOMEM. */
int zk__h2_offer(zk__h2_stream *stream, const void *body, size_t size);
/* Begins the response of a stream. returns 0, -ENOMEM, -ECONNRESET. */
int zk__h2_respond(zk__h2_stream *stream, const char *content_type, bool has_body);
/* Tells the client to send its body. returns 0, -ENOMEM. */
int zk__h2_continue(zk__h2_stream *stream);
/* There is more in stream->out. */
void zk__h2_resume(zk__h2_stream *stream);
/* Why a stream ends before its end. */
enum zk__h2_why {
    ZK__H2_DONE,   /* all is said: the rest of the request is of no use */
    ZK__H2_FAILED, /* the response cannot be had */
    ZK__H2_TIRED,  /* the client does not take the response */
    /* The client's doing, which it pays for. */
    ZK__H2_REFUSED,   /* nothing has been done about the request */
    ZK__H2_MALFORMED, /* it is none */
};
/* Ends it; a stream that is over is left alone. */
void zk__h2_reset(zk__h2_stream *stream, enum zk__h2_why why);
/* The handler has taken bytes of the body: the client may send more. */
void zk__h2_consumed(zk__h2_stream *stream, size_t size);

/* Of a stream that nobody uses any more; the shard may keep it for another. */
void zk__h2_stream_free(zk__h2_stream *stream);

static inline zk__h2_stream *zk__h2_stream_of(zk_request *req)
{
    return (zk__h2_stream *)(void *)((char *)req - offsetof(zk__h2_stream, req));
}

#endif
