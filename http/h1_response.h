/*
 * The HTTP/1.1 engine for a client: response heads. Bodies are read by zk__h1_body(), the next
 * response after zk__h1_next(), as for requests; see h1.h.
 */
#ifndef ZOKIO_HTTP_H1_RESPONSE_H
#define ZOKIO_HTTP_H1_RESPONSE_H

#include "http/h1.h"

/* What a response may be read as depends on what was asked (RFC 9112 section 6.3). */
enum zk__h1_asked { ZK__H1_ASKED_USUAL, ZK__H1_ASKED_HEAD, ZK__H1_ASKED_CONNECT };

typedef struct zk__h1_answer {
    int status;              /* 100..999 */
    zk_str reason;           /* as sent */
    uint8_t minor;           /* HTTP/1.minor */
    uint8_t framing;         /* enum zk__h1_framing */
    bool keep_alive;         /* the connection may carry another request */
    bool is_switched;        /* 101, or 2xx to CONNECT: raw bytes follow */
    bool has_length;         /* content_length is there; also for HEAD, where no body follows */
    uint64_t content_length; /* as announced */
    size_t field_count;
    zk_field *fields; /* the caller's array */
} zk__h1_answer;

/* Makes the engine ready for the first response of a connection; target_bytes_max is not used. */
void zk__h1_response_init(zk__h1 *h1, const zk__h1_limits *limits);

/*
 * Parses a response head from the start of data[0..size). Interim ones (1xx) are responses of their
 * own: the state is DONE behind them, and zk__h1_next() leads to the next.
 *
 * Refused is all that readers understand differently: what requests are refused for (see
 * zk__h1_parse_head()), and a body where there must be none (RFC 9110 section 8.6, RFC 9112 section
 * 6.1). What can no longer become a response is refused at the first byte that shows it.
 *
 * returns the length of the head; 0: incomplete; ZK_E_HTTP_SYNTAX, ZK_E_HTTP_VERSION,
 *         ZK_E_HTTP_HEADER_TOO_LARGE, ZK_E_HTTP_CODING; as zk__h1_parse_head() otherwise.
 */
ptrdiff_t zk__h1_parse_response(zk__h1 *h1, const char *data, size_t size, enum zk__h1_asked asked,
                                zk_field *fields, zk__h1_answer *ret_answer);

/* Content-Length = 1*DIGIT; false if it is none or does not fit. */
bool zk__h1_content_length(zk_str value, uint64_t *ret_length);

/*
 * The connection has ended, in state BODY. returns 0: that was the body's end, the state is DONE;
 * ZK_E_CLOSED: it was not.
 */
int zk__h1_response_end(zk__h1 *h1);

#endif
