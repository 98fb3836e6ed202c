/*
 * Whether a request is well-formed, RFC 9113 section 8.
 *
 * nghttp2 could see to that. But then a tenth of a request's time is spent on it, with hosts and
 * methods checked twice: they follow the rules of HTTP/1.1, and some fields have to be told apart
 * here anyway. So nghttp2 is told not to, and here is all that it would check, for requests.
 */
#ifndef ZOKIO_HTTP_H2_MESSAGE_H
#define ZOKIO_HTTP_H2_MESSAGE_H

#include <nghttp2/nghttp2.h>

#include "http/h2.h"

enum zk__h2_said {
    ZK__H2_SAID_METHOD = 1,
    ZK__H2_SAID_SCHEME = 2,
    ZK__H2_SAID_PATH = 4,
    ZK__H2_SAID_AUTHORITY = 8,
    ZK__H2_SAID_PROTOCOL = 16,
    ZK__H2_SAID_HOST = 32,
    ZK__H2_SAID_PRIORITY = 64,
    ZK__H2_SAID_FIELD = 128, /* one that is no pseudo-field */
    ZK__H2_MALFORMED_FIELD = 256,
};

/* Takes notice of a field of the head whose name begins with a colon; the value lies in the
 * stream's arena. returns whether the request may have it there. */
bool zk__h2_pseudo_notice(zk__h2_stream *s, zk_str name, zk_str value);
/*
 * The same for another field. is_name_known: it need not be looked
 * at, byte by byte.
 */
bool zk__h2_field_notice(zk__h2_stream *s, const zk_field *field, bool is_name_known,
                         bool is_trailer);
/* Whether nothing but the field itself is taken notice of, or a pseudo-field has but one value. */
bool zk__h2_is_plain(zk_str name);
/* Whether the head as a whole is well-formed. */
bool zk__h2_head_check(zk__h2_stream *s);
/* Sets s->refused if it is, but is no request that this house serves. */
void zk__h2_request_check(zk__h2_stream *s);
/* What the client says of how urgent it is (RFC 9218 section 5). returns whether it is valid. */
bool zk__h2_priority_of(const zk__h2_stream *s, nghttp2_extpri *ret_priority);

#endif
