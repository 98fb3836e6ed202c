/*
 * Request targets: splitting the path from the query, percent-decoding, and dot segments that
 * cannot escape (RFC 3986 sections 2.1, 3.3 and 5.2.4; RFC 9112 section 3.2).
 */
#ifndef ZOKIO_HTTP_PATH_H
#define ZOKIO_HTTP_PATH_H

#include <zokio/alloc.h>
#include <zokio/base.h>

/* None of these has a NULL `data`, not even when it is empty. */
typedef struct zk__target {
    zk_str path;      /* decoded and normalised: "/..."; "*" for OPTIONS *; empty for CONNECT */
    zk_str query;     /* raw, without the '?'; empty if there is none */
    zk_str authority; /* of an absolute-form target or of CONNECT; else empty */
} zk__target;

/*
 * Splits and decodes a request target in origin form ("/path?query"), absolute form
 * ("http://host/path", "https://..."), asterisk form (only with OPTIONS) or authority form (only
 * with CONNECT, and CONNECT takes no other; the path is then empty). HTTP/2's extended CONNECT (RFC
 * 8441) has a path: pass it with the method "GET". An absolute form without a path has the path
 * "/", or "*" for OPTIONS without a query (RFC 9112 section 3.2.4).
 *
 * The raw path is first split at its literal slashes, then each segment is decoded once, then "."
 * and ".." are resolved on the decoded segments, so "%2e%2e" is ".." too. Empty segments ("//") are
 * kept as they are. The path is never longer than the target.
 *
 * Refused is what another reader could take for something else:
 *   - ".." above the root: refused, not clamped;
 *   - a percent sign without two hexadecimal digits;
 *   - a decoded '/' (it could not be told from a separator) and a '\\', raw or decoded;
 *   - a byte below 0x20 and 0x7f, raw or decoded;
 *   - raw, in the query too: a space, '#', a byte >= 0x80;
 *   - in an authority: user information, a percent sign, no host, a port that is none (CONNECT
 *     needs one).
 * A decoded byte >= 0x80 passes: whether it is UTF-8 is between the client and the handler.
 *
 * When nothing needs decoding or resolving the result points into `target` and the arena is not
 * used.
 *
 * returns 0; ZK_E_HTTP_PATH; -ENOMEM. *ret is untouched on failure.
 */
int zk__target_parse(zk_str method, zk_str target, zk_arena *arena, zk__target *ret);

/*
 * Decodes percent sequences (and '+' to a space if plus_is_space) from in to out, which has room
 * for in.size bytes and may be in.data itself. NUL bytes are let through: the caller decides.
 *
 * returns the decoded length; ZK_E_HTTP_PATH for a bad sequence (what is in out is then undefined).
 */
ptrdiff_t zk__percent_decode(zk_str in, char *out, bool plus_is_space);

/*
 * Finds the first `name` in a query string ("a=1&b=two+words"; names and values are decoded, '+' is
 * a space). A name without '=' has an empty value; empty pairs ("&&") are skipped. Percent
 * sequences are checked in every name up to the one that is found and in its value.
 *
 * ret_value: in the arena, or in query if there was nothing to decode; set only if it is found
 * returns 1 if found; 0 if absent; ZK_E_HTTP_PATH; -ENOMEM.
 */
int zk__query_find(zk_str query, zk_str name, zk_arena *arena, zk_str *ret_value);

#endif
