/*
 * The HTTP/1.1 engine, continued: responses. See h1_response.h.
 *
 * As for requests zk__h1_scan() finds the end of a head first, and refuses what could be split into
 * lines differently. What is left to read are clean lines "name: value", which needs no llhttp;
 * tests/fuzz/h1_response.c holds the two against each other: what is accepted here, llhttp accepts
 * with the same fields and the same end.
 */
#include "http/h1_response.h"

#include <string.h>

#include "http/h1_internal.h"
#include "http/h1_scan.h"

/* What the fields have said so far. */
struct said {
    bool has_length, is_chunked, has_close, has_keep_alive, has_upgrade, has_connection_upgrade;
    uint64_t length;
};

static int note_connection(zk__h1 *h1, struct said *said, zk_str value)
{
    zk_str option;
    while (next_member(&value, &option)) {
        if (!zk__h1_is_token(option))
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed Connection");
        if (IS(option, "close"))
            said->has_close = true;
        else if (IS(option, "keep-alive"))
            said->has_keep_alive = true;
        else if (IS(option, "upgrade"))
            said->has_connection_upgrade = true;
    }
    return 0;
}

static int note_field(zk__h1 *h1, struct said *said, zk_str name, zk_str value)
{
    const char *reason;
    int rc = 0;
    switch (name.size) {
    case 7:
        if (IS(name, "upgrade") && value.size > 0) said->has_upgrade = true;
        return 0;
    case 10: return IS(name, "connection") ? note_connection(h1, said, value) : 0;
    case 14:
        if (!IS(name, "content-length")) return 0;
        if (said->has_length) return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "repeated Content-Length");
        if (!zk__h1_read_length(value, &said->length))
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed Content-Length");
        said->has_length = true;
        return 0;
    case 17:
        if (!IS(name, "transfer-encoding")) return 0;
        if (said->is_chunked)
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "repeated Transfer-Encoding");
        rc = zk__h1_check_codings(value, &reason);
        said->is_chunked = true;
        return rc < 0 ? zk__h1_fail(h1, rc, reason) : 0;
    default: return 0;
    }
}

/*
 * Reads the lines of data[at..end), which end with an empty one; said is NULL for trailers.
 * returns how many fields there are, or an error.
 */
static ptrdiff_t parse_lines(zk__h1 *h1, const char *data, size_t at, size_t end, zk_field *fields,
                             struct said *said)
{
    size_t count = 0;
    while (at + 2 < end) {
        zk_str name = {data + at, 0};
        while (is_class(data[at], TOKEN))
            at++;
        name.size = (size_t)(data + at - name.data);
        if (name.size == 0 || data[at] != ':')
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed field name");
        const char *line_end = memchr(data + at, '\r', end - at);
        zk_str value = trim((zk_str){data + at + 1, (size_t)(line_end - data) - at - 1});
        at = (size_t)(line_end - data) + 2;
        if (count == h1->limits.fields_max)
            return zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "too many fields");
        if (said == NULL && !zk__h1_is_trailer(name))
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "field not allowed in trailers");
        int rc = said != NULL ? note_field(h1, said, name, value) : 0;
        if (rc < 0) return rc;
        if (fields != NULL) fields[count] = (zk_field){name, value};
        count++;
    }
    return (ptrdiff_t)count;
}

/* RFC 9112 section 4, as far as it has arrived. Its last space may be missing: many leave it out
 * when there is no reason. */
static int check_status_line(zk__h1 *h1, const char *data, size_t size)
{
    static const char form[] = "HTTP/d.d ddd";
    for (size_t i = 0; i < size && i < sizeof(form) - 1; i++) {
        bool is_right = form[i] == 'd' ? is_class(data[i], DIGIT) : data[i] == form[i];
        if (!is_right || (i == 9 && data[i] == '0'))
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed status line");
        if (i == 7 && (data[5] != '1' || data[7] > '1'))
            return zk__h1_fail(h1, ZK_E_HTTP_VERSION, "HTTP version is neither 1.0 nor 1.1");
    }
    if (size > 12 && data[12] != ' ' && data[12] != '\r')
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed status line");
    return 0;
}

/* RFC 9112 section 6.3, in its order; what is ambiguous there is refused. */
static int frame(zk__h1 *h1, const struct said *said, enum zk__h1_asked asked,
                 zk__h1_answer *answer)
{
    int status = answer->status;
    bool is_interim = status < 200;
    if (said->is_chunked && answer->minor == 0)
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "Transfer-Encoding in HTTP/1.0");
    if (said->is_chunked && said->has_length)
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "both Transfer-Encoding and Content-Length");
    if ((is_interim || status == 204) && (said->is_chunked || said->length > 0))
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "a body where there must be none");
    if (status == 101 && !(said->has_upgrade && said->has_connection_upgrade))
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "101 without Upgrade");

    bool is_tunnel = asked == ZK__H1_ASKED_CONNECT && status / 100 == 2;
    if (is_tunnel && (said->is_chunked || said->length > 0))
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "a body where there must be none");
    answer->is_switched = status == 101 || is_tunnel;
    answer->has_length = said->has_length;
    answer->content_length = said->length;
    if (is_interim || is_tunnel || asked == ZK__H1_ASKED_HEAD || status == 204 || status == 304)
        answer->framing = ZK__H1_NO_BODY;
    else if (said->is_chunked)
        answer->framing = ZK__H1_CHUNKED;
    else
        answer->framing = said->has_length ? ZK__H1_LENGTH : ZK__H1_TO_END;
    answer->keep_alive = !said->has_close && (answer->minor == 1 || said->has_keep_alive) &&
                         answer->framing != ZK__H1_TO_END && !answer->is_switched;
    return 0;
}

static ptrdiff_t parse_response(zk__h1 *h1, const char *data, size_t end, enum zk__h1_asked asked,
                                zk_field *fields, zk__h1_answer *ret_answer)
{
    const char *line_end = memchr(data, '\r', end);
    size_t line = (size_t)(line_end - data);
    if (line < 12) return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed status line");
    struct said said = {0};
    zk__h1_answer answer = {
        .status = (data[9] - '0') * 100 + (data[10] - '0') * 10 + (data[11] - '0'),
        .minor = (uint8_t)(data[7] - '0'),
        .fields = fields,
    };
    answer.reason = line > 13 ? (zk_str){data + 13, line - 13} : (zk_str){"", 0};
    ptrdiff_t count = parse_lines(h1, data, line + 2, end, fields, &said);
    if (count < 0) return count;
    answer.field_count = (size_t)count;
    int rc = frame(h1, &said, asked, &answer);
    if (rc < 0) return rc;
    h1->framing = answer.framing;
    h1->body_left = answer.framing == ZK__H1_LENGTH ? answer.content_length : UINT64_MAX;
    h1->state = answer.framing == ZK__H1_NO_BODY || h1->body_left == 0 ? ZK__H1_DONE : ZK__H1_BODY;
    h1->scanned = 0;
    *ret_answer = answer;
    return (ptrdiff_t)end;
}

ptrdiff_t zk__h1_parse_response(zk__h1 *h1, const char *data, size_t size, enum zk__h1_asked asked,
                                zk_field *fields, zk__h1_answer *ret_answer)
{
    if (h1->state == ZK__H1_FAILED) return h1->error;
    int rc = check_status_line(h1, data, size);
    if (rc < 0) return rc;
    size_t limit = h1->limits.head_bytes_max, searched = size < limit ? size : limit;
    switch (zk__h1_scan(data, 0, searched, &h1->scanned)) {
    case ZK__H1_SCAN_FOUND: break;
    case ZK__H1_SCAN_BAD:
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX,
                           "bare CR or LF, control byte, or folded line in the head");
    case ZK__H1_SCAN_MORE:
        if (searched < limit) return 0;
        return zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "head too large");
    }
    return parse_response(h1, data, h1->scanned, asked, fields, ret_answer);
}

int zk__h1_response_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                             size_t *ret_count)
{
    ptrdiff_t count = parse_lines(h1, data, 0, size, trailers, NULL);
    if (count < 0) return (int)count;
    if (ret_count != NULL) *ret_count = (size_t)count;
    return 0;
}

bool zk__h1_content_length(zk_str value, uint64_t *ret_length)
{
    return zk__h1_read_length(value, ret_length);
}

int zk__h1_response_end(zk__h1 *h1)
{
    if (h1->state == ZK__H1_FAILED) return h1->error;
    if (h1->framing != ZK__H1_TO_END)
        return zk__h1_fail(h1, ZK_E_CLOSED, "the connection ended within the body");
    h1->state = ZK__H1_DONE;
    return 0;
}

void zk__h1_response_init(zk__h1 *h1, const zk__h1_limits *limits)
{
    *h1 = (zk__h1){.limits = *limits, .reason = "", .is_response = true};
}
