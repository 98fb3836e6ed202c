/*
 * The HTTP/1.1 engine: bytes in, message heads and body spans out (RFC 9112). It does no I/O and
 * owns no buffer.
 *
 * A head is parsed only once it is there as a whole, in one contiguous run of bytes (the caller
 * keeps what has arrived and calls again with more). So every zk_str of a head points into the
 * caller's buffer, and nothing about a message can depend on where the network split it.
 *
 *   HEAD --zk__h1_parse_head--> BODY --zk__h1_body...--> DONE --zk__h1_next--> HEAD
 *     \-----------------------> DONE  (no body)
 *   any --(bad bytes)--> FAILED: the connection must be closed, for what follows cannot be framed
 */
#ifndef ZOKIO_HTTP_H1_H
#define ZOKIO_HTTP_H1_H

#include <llhttp.h>
#include <zokio/base.h>
#include <zokio/error.h>
#include <zokio/http.h>

typedef struct zk__h1_limits {
    uint32_t head_bytes_max;   /* start line and header section, with their line ends */
    uint32_t target_bytes_max; /* the request target alone */
    uint32_t fields_max;       /* header fields; the same for trailers */
} zk__h1_limits;

enum zk__h1_state { ZK__H1_HEAD, ZK__H1_BODY, ZK__H1_DONE, ZK__H1_FAILED };

/* How the body is framed (RFC 9112 section 6.3). */
enum zk__h1_framing {
    ZK__H1_NO_BODY,
    ZK__H1_LENGTH,
    ZK__H1_CHUNKED,
    ZK__H1_TO_END, /* of the connection; responses only */
};

typedef struct zk__h1_head {
    zk_str method;   /* "GET" */
    zk_str target;   /* the request target as sent */
    zk_str host;     /* the Host field's value; empty for HTTP/1.0 without one */
    uint8_t minor;   /* HTTP/1.minor: 0 or 1 */
    uint8_t framing; /* enum zk__h1_framing */
    bool keep_alive; /* what the message says of the connection: RFC 9112 section 9.3 */
    bool expects_continue;
    bool is_path_plain; /* zk__target_parse() is known to give a path that is the whole target */
    bool is_upgrade;    /* Connection: upgrade with an Upgrade field, or CONNECT */
    uint64_t content_length; /* for ZK__H1_LENGTH */
    size_t field_count;
    zk_field *fields; /* the caller's array, see zk__h1_parse_head() */
} zk__h1_head;

typedef struct zk__h1 {
    llhttp_t parser;
    zk__h1_limits limits;
    enum zk__h1_state state;
    size_t scanned;     /* of an incomplete head, size line or trailers: searched for the end */
    uint64_t body_left; /* of the body for ZK__H1_LENGTH, of the chunk for ZK__H1_CHUNKED */
    /* private to the engine from here on */
    size_t line_at;            /* of an incomplete head: the request line is checked up to here, */
    size_t line_part;          /* and this is where the part in question began */
    void *parser_start;        /* the state of a fresh parser */
    const char *reason;        /* FAILED: in words */
    int error;                 /* FAILED: what every call returns */
    uint32_t extension_excess; /* by how much chunk extensions outweigh the data so far */
    uint8_t line_phase;        /* enum line_phase */
    uint8_t chunk_phase;       /* enum chunk_phase */
    uint8_t framing;           /* enum zk__h1_framing, of the message in state BODY */
    bool is_response;          /* see h1_response.h */
} zk__h1;

/* Makes the engine ready for the first request of a connection. */
void zk__h1_init(zk__h1 *h1, const zk__h1_limits *limits);

/*
 * Parses a head from the start of data[0..size). Empty lines before it are skipped (RFC 9112
 * section 2.2), at most 8 bytes of them; they do not count against head_bytes_max. What can no
 * longer become an acceptable request line is refused at the first byte that shows it, however few
 * have arrived. HTTP/2's preface is refused too (its method is PRI): look for it before. The form
 * of the target is the business of zk__target_parse().
 *
 * With is_upgrade what lies behind the message may be raw bytes of another protocol; the engine is
 * then left in DONE. The message of CONNECT ends with its head (one that announces a body is
 * refused). That of an Upgrade ends with its body: framing, content_length and state are those of
 * any other request, so a server that does not honour the upgrade just carries on.
 *
 * fields: room for limits.fields_max entries; undefined unless a head is returned.
 * returns the length in bytes (> 0) of the head and the empty lines before it: the state is BODY or
 *         DONE, *ret_head is filled and points into data;
 *         0: incomplete, call again with the same bytes and more behind them (at the same or
 *         another address);
 *         ZK_E_HTTP_SYNTAX, ZK_E_HTTP_VERSION, ZK_E_HTTP_METHOD, ZK_E_HTTP_URI_TOO_LONG,
 *         ZK_E_HTTP_HEADER_TOO_LARGE, ZK_E_HTTP_CODING: refused; zk__h1_reason() says why.
 */
ptrdiff_t zk__h1_parse_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                            zk__h1_head *ret_head);

/*
 * The two ways in which that is done. The quick one takes plain heads only. What becomes of any
 * other: the slow one takes it, or without falls_back 0 is returned and nothing but fields[] has
 * changed. See h1_quick.c.
 */
ptrdiff_t zk__h1_quick_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                            zk__h1_head *ret_head, bool falls_back);
ptrdiff_t zk__h1_slow_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                           zk__h1_head *ret_head);

/*
 * Takes body bytes from data[0..size), in state BODY. Call until the state is DONE or it returns 0.
 *
 * ret_span: body bytes found, the last of those consumed; may be empty although bytes were consumed
 *           (chunk framing). Untouched on failure.
 * trailers, ret_trailer_count: trailer fields (room for limits.fields_max) and their number, set
 *           when the state becomes DONE; they point into data. Either may be NULL: trailers are
 *           then checked and dropped.
 * returns bytes consumed, framing included; 0 when more is needed than is there (only in chunk
 *         framing, for a size line and the trailer section must be contiguous: keep the bytes and
 *         call again with more behind them; at most 4096 bytes and head_bytes_max);
 *         ZK_E_HTTP_SYNTAX, ZK_E_HTTP_HEADER_TOO_LARGE (a size line, all chunk extensions or the
 *         trailers over their limit): FAILED.
 */
ptrdiff_t zk__h1_body(zk__h1 *h1, const char *data, size_t size, zk_str *ret_span,
                      zk_field *trailers, size_t *ret_trailer_count);

/* From DONE to HEAD, for the next request on the connection. */
void zk__h1_next(zk__h1 *h1);
/* The same behind a head that zk__h1_quick_head() took: that changes nothing else. */
static inline void zk__h1_quick_next(zk__h1 *h1) { h1->state = ZK__H1_HEAD; }

/* Why the engine FAILED, in a few words for a log; "" if it has not. Lives forever. */
const char *zk__h1_reason(const zk__h1 *h1);

/* RFC 9110 section 5.6.2: a non-empty token. */
bool zk__h1_is_token(zk_str s);
/* Host = uri-host [ ":" port ], RFC 9110 section 7.2; empty if the target has no authority. */
bool zk__h1_is_host(zk_str s);
/* RFC 9110 section 5.5: no control byte but tab; no white space at either end. */
bool zk__h1_is_field_value(zk_str s);

#endif
