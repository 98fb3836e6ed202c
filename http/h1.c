/*
 * The HTTP/1.1 engine, see h1.h: heads, and what fields mean. Bodies are in h1_body.c.
 *
 * Plain heads are the business of h1_quick.c. Any other takes two passes. zk__h1_scan() finds its
 * end and refuses what readers could split into lines differently. llhttp then parses the whole
 * block in one call, and its callbacks apply the rules that llhttp does not know: on_value() sees
 * each field once and whole, check_head() the head as a whole.
 *
 * The verdict depends on the bytes, never on how they arrived. What can be refused early (by the
 * scan, by check_line(), by the limits) is refused at the first byte that shows it; a head that is
 * there as a whole must get the same verdict, so every refusal looks at the request line first, up
 * to that very byte.
 */
#include <string.h>

#include "http/h1_internal.h"
#include "http/h1_scan.h"

#if !LLHTTP_STRICT_MODE
#error "compile with -DLLHTTP_STRICT_MODE=1, llhttp included"
#endif

#define EMPTY_LINE_BYTES_MAX 8
#define METHOD_BYTES_MAX 32

enum line_phase { LINE_METHOD, LINE_TARGET, LINE_VERSION, LINE_DONE };

/* What the fields of a head have said so far. */
enum seen {
    SEEN_HOST = 1 << 0,
    SEEN_CONTENT_LENGTH = 1 << 1,
    SEEN_TRANSFER_ENCODING = 1 << 2,
    SEEN_UPGRADE = 1 << 3,
    SEEN_EXPECT_CONTINUE = 1 << 4,
    SEEN_CLOSE = 1 << 5,
    SEEN_KEEP_ALIVE = 1 << 6,
    SEEN_CONNECTION_UPGRADE = 1 << 7,
};

/* One run of llhttp over a head or a trailer section; the callbacks find it in its data pointer. */
struct parse {
    zk_str target, host;
    zk_str name; /* of the field whose value comes next */
    zk_field *fields;
    uint32_t field_count, fields_max;
    uint64_t content_length;
    unsigned seen; /* enum seen */
    bool is_trailers;
    bool is_complete;
    int error;
    const char *reason; /* of the error */
};

/* Member by member, for gcc clears a structure of this size with a `rep stos`: 10 ns. */
static void parse_init(struct parse *p, const zk__h1 *h1, zk_field *fields, bool is_trailers)
{
    p->target = (zk_str){NULL, 0};
    p->host = (zk_str){NULL, 0};
    p->name = (zk_str){NULL, 0};
    p->fields = fields;
    p->field_count = 0;
    p->fields_max = h1->limits.fields_max;
    p->content_length = 0;
    p->seen = 0;
    p->is_trailers = is_trailers;
    p->is_complete = false;
    p->error = 0;
}

int zk__h1_fail(zk__h1 *h1, int error, const char *reason)
{
    h1->state = ZK__H1_FAILED;
    h1->error = error;
    h1->reason = reason;
    return error;
}

/* From a callback: stops llhttp. */
static int refuse(struct parse *p, int error, const char *reason)
{
    p->error = error;
    p->reason = reason;
    return HPE_USER;
}

/* ---- the request line of a head that is incomplete or has been refused ---- */

static bool is_known_method(zk_str s)
{
    static const zk_str methods[] = {
#define METHOD(number, name, string) [number] = {#string, sizeof(#string) - 1},
        HTTP_METHOD_MAP(METHOD)
#undef METHOD
    };
    /* Those behind it are of ICE, HTTP/2's preface and RTSP. */
    for (size_t i = 0; i <= HTTP_UNLINK; i++)
        if (methods[i].size == s.size && memcmp(methods[i].data, s.data, s.size) == 0) return true;
    return false;
}

/* part: "HTTP/" and what came behind it. */
static int check_version_byte(zk__h1 *h1, const char *part, size_t at)
{
    static const char form[] = "HTTP/d.d\r";
    char c = part[at];
    if (form[at] == 'd' ? !is_class(c, DIGIT) : c != form[at])
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed HTTP version");
    if (c != '\r') return 0;
    if (part[5] != '1' || part[7] > '1')
        return zk__h1_fail(h1, ZK_E_HTTP_VERSION, "HTTP version is neither 1.0 nor 1.1");
    h1->line_phase = LINE_DONE;
    return 0;
}

/*
 * Checks the request line (RFC 9112 section 3) in data[start..size), as far as it goes and from
 * where the last call left off. It accepts at least what parse_head() accepts.
 */
static int check_line(zk__h1 *h1, const char *data, size_t start, size_t size)
{
    if (h1->line_at == 0) h1->line_at = h1->line_part = start;
    while (h1->line_at < size && h1->line_phase != LINE_DONE) {
        const char *part = data + h1->line_part;
        size_t at = h1->line_at++ - h1->line_part;
        char c = part[at];
        switch ((enum line_phase)h1->line_phase) {
        case LINE_METHOD:
            if (c != ' ' ? !is_class(c, TOKEN) : at == 0)
                return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "does not begin with a method");
            if (c == ' ' ? !is_known_method((zk_str){part, at}) : at == METHOD_BYTES_MAX)
                return zk__h1_fail(h1, ZK_E_HTTP_METHOD, "unknown method");
            break;
        case LINE_TARGET:
            if (c != ' ' ? c < '!' || c > '~' : at == 0)
                return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "malformed request line");
            if (c != ' ' && at == h1->limits.target_bytes_max)
                return zk__h1_fail(h1, ZK_E_HTTP_URI_TOO_LONG, "request target too long");
            break;
        default: {
            int rc = check_version_byte(h1, part, at);
            if (rc < 0) return rc;
        }
        }
        if (c == ' ') {
            h1->line_phase++;
            h1->line_part = h1->line_at;
        }
    }
    return 0;
}

/* ---- fields ---- */

static int note_host(struct parse *p, zk_str value)
{
    if (p->seen & SEEN_HOST) return refuse(p, ZK_E_HTTP_SYNTAX, "repeated Host");
    if (!zk__h1_is_host(value)) return refuse(p, ZK_E_HTTP_SYNTAX, "malformed Host");
    p->seen |= SEEN_HOST;
    p->host = value;
    return 0;
}

/* RFC 9110 section 8.6. A list of equal lengths ("5, 5") may be accepted or refused; we refuse. */
static int note_content_length(struct parse *p, zk_str value)
{
    if (p->seen & SEEN_CONTENT_LENGTH)
        return refuse(p, ZK_E_HTTP_SYNTAX, "repeated Content-Length");
    if (!zk__h1_read_length(value, &p->content_length))
        return refuse(p, ZK_E_HTTP_SYNTAX, "malformed Content-Length");
    p->seen |= SEEN_CONTENT_LENGTH;
    return 0;
}

/*
 * RFC 9112 section 6.1: we know chunked alone. A list that has it anywhere but last, or twice, is
 * malformed; any other gets the answer for a coding that we do not know.
 */
int zk__h1_check_codings(zk_str value, const char **ret_reason)
{
    *ret_reason = "malformed Transfer-Encoding";
    if (IS(value, "chunked")) return 0;
    size_t coding_count = 0;
    bool has_chunked = false;
    zk_str member;
    while (next_member(&value, &member)) {
        const char *semicolon = memchr(member.data, ';', member.size);
        size_t size = semicolon != NULL ? (size_t)(semicolon - member.data) : member.size;
        zk_str coding = trim((zk_str){member.data, size});
        bool is_chunked = IS(coding, "chunked");
        if (has_chunked || !zk__h1_is_token(coding) || (is_chunked && semicolon != NULL))
            return ZK_E_HTTP_SYNTAX;
        has_chunked = is_chunked;
        coding_count += !is_chunked;
    }
    if (coding_count == 0) return ZK_E_HTTP_SYNTAX;
    *ret_reason = "transfer coding other than chunked";
    return ZK_E_HTTP_CODING;
}

static int note_transfer_encoding(struct parse *p, zk_str value)
{
    if (p->seen & SEEN_TRANSFER_ENCODING)
        return refuse(p, ZK_E_HTTP_SYNTAX, "repeated Transfer-Encoding");
    p->seen |= SEEN_TRANSFER_ENCODING;
    const char *reason;
    int rc = zk__h1_check_codings(value, &reason);
    return rc < 0 ? refuse(p, rc, reason) : 0;
}

static int note_connection(struct parse *p, zk_str value)
{
    zk_str option;
    while (next_member(&value, &option)) {
        if (!zk__h1_is_token(option)) return refuse(p, ZK_E_HTTP_SYNTAX, "malformed Connection");
        if (IS(option, "close"))
            p->seen |= SEEN_CLOSE;
        else if (IS(option, "keep-alive"))
            p->seen |= SEEN_KEEP_ALIVE;
        else if (IS(option, "upgrade"))
            p->seen |= SEEN_CONNECTION_UPGRADE;
    }
    return 0;
}

/* RFC 9110 section 10.1.1: other expectations are ignored, a 417 is allowed but not required. */
static int note_expect(struct parse *p, zk_str value)
{
    zk_str expectation;
    while (next_member(&value, &expectation))
        if (IS(expectation, "100-continue")) p->seen |= SEEN_EXPECT_CONTINUE;
    return 0;
}

static int note_field(struct parse *p, zk_str name, zk_str value)
{
    switch (name.size) {
    case 4: return IS(name, "host") ? note_host(p, value) : 0;
    case 6: return IS(name, "expect") ? note_expect(p, value) : 0;
    case 7:
        if (IS(name, "upgrade") && value.size > 0) p->seen |= SEEN_UPGRADE;
        return 0;
    case 10: return IS(name, "connection") ? note_connection(p, value) : 0;
    case 14: return IS(name, "content-length") ? note_content_length(p, value) : 0;
    case 17: return IS(name, "transfer-encoding") ? note_transfer_encoding(p, value) : 0;
    default: return 0;
    }
}

/* RFC 9110 section 6.5.1: for framing, routing, authenticating or decoding it is too late here. */
bool zk__h1_is_trailer(zk_str name)
{
#define NAME(literal)                                                                              \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }
    static const zk_str forbidden[] = {
        NAME("authorization"),
        NAME("cache-control"),
        NAME("connection"),
        NAME("content-encoding"),
        NAME("content-length"),
        NAME("content-range"),
        NAME("content-type"),
        NAME("cookie"),
        NAME("expect"),
        NAME("host"),
        NAME("keep-alive"),
        NAME("max-forwards"),
        NAME("proxy-authorization"),
        NAME("range"),
        NAME("te"),
        NAME("trailer"),
        NAME("proxy-connection"),
        NAME("transfer-encoding"),
        NAME("upgrade"),
    };
#undef NAME
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
        if (equals_nocase(name, forbidden[i].data, forbidden[i].size)) return false;
    return true;
}

static int check_trailer(struct parse *p, zk_str name)
{
    return zk__h1_is_trailer(name) ? 0
                                   : refuse(p, ZK_E_HTTP_SYNTAX, "field not allowed in trailers");
}

/* ---- llhttp's callbacks: once per part, with all of it, because the block is contiguous ---- */

static int on_target(llhttp_t *parser, const char *at, size_t size)
{
    struct parse *p = parser->data;
    p->target = (zk_str){at, size};
    return 0;
}

static int on_name(llhttp_t *parser, const char *at, size_t size)
{
    struct parse *p = parser->data;
    if (size == 0 || at[size] != ':') return refuse(p, ZK_E_HTTP_SYNTAX, "malformed field name");
    p->name = (zk_str){at, size};
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t size)
{
    struct parse *p = parser->data;
    if (size > 0 && at[size] != '\r')
        return 0; /* llhttp has found a fault in the value, and reports it when we return */
    if (p->field_count == p->fields_max)
        return refuse(p, ZK_E_HTTP_HEADER_TOO_LARGE, "too many fields");
    while (size > 0 && is_blank(at[size - 1]))
        size--;
    /* llhttp has the place of an empty value on the next line. */
    zk_str value = {size > 0 ? at : p->name.data + p->name.size + 1, size};
    if (p->fields != NULL) p->fields[p->field_count] = (zk_field){p->name, value};
    p->field_count++;
    return p->is_trailers ? check_trailer(p, p->name) : note_field(p, p->name, value);
}

static int on_complete(llhttp_t *parser)
{
    struct parse *p = parser->data;
    p->is_complete = true;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_complete,
    .on_message_complete = on_complete,
};

/* Gives llhttp a whole block; p->error says what came of it. */
static void execute(zk__h1 *h1, struct parse *p, const char *data, size_t size)
{
    h1->parser.data = p;
    llhttp_errno_t rc = llhttp_execute(&h1->parser, data, size);
    h1->parser.data = NULL;
    if (p->error < 0) return;
    if (rc != HPE_OK && rc != HPE_PAUSED_UPGRADE)
        refuse(p, ZK_E_HTTP_SYNTAX, h1->parser.reason);
    else if (!p->is_complete)
        refuse(p, ZK_E_HTTP_SYNTAX, "malformed head");
}

/* ---- the head ---- */

/* After most messages llhttp is back at its start; llhttp_init() costs 8 % of a small head. */
static void reset_parser(zk__h1 *h1)
{
    if (h1->parser._current != h1->parser_start || h1->parser.error != HPE_OK)
        llhttp_init(&h1->parser, HTTP_REQUEST, &settings);
}

/* llhttp takes more than one space, other versions than ours, and methods of other protocols. */
static bool is_request_line(const zk__h1 *h1, const char *line, size_t size, zk_str target)
{
    static const char version[] = " HTTP/1.";
    const char *end = target.data + target.size;
    return target.data - line >= 2 && target.data[-1] == ' ' && target.data[-2] != ' ' &&
           line + size - end > 9 && memcmp(end, version, 8) == 0 &&
           (end[8] == '0' || end[8] == '1') && end[9] == '\r' && h1->parser.method <= HTTP_UNLINK &&
           target.size <= h1->limits.target_bytes_max;
}

/* What only the head as a whole shows. RFC 9112 sections 3.2, 6.1 and 6.3. */
static int check_head(struct parse *p, int minor, bool is_connect)
{
    if (minor == 1 && !(p->seen & SEEN_HOST)) return refuse(p, ZK_E_HTTP_SYNTAX, "no Host");
    if ((p->seen & SEEN_TRANSFER_ENCODING) && minor == 0)
        return refuse(p, ZK_E_HTTP_SYNTAX, "Transfer-Encoding in HTTP/1.0");
    if ((p->seen & SEEN_TRANSFER_ENCODING) && (p->seen & SEEN_CONTENT_LENGTH))
        return refuse(p, ZK_E_HTTP_SYNTAX, "both Transfer-Encoding and Content-Length");
    /* RFC 9110 section 9.3.6: it has no content, and servers disagree on what comes behind it. */
    if (is_connect && ((p->seen & SEEN_TRANSFER_ENCODING) || p->content_length > 0))
        return refuse(p, ZK_E_HTTP_SYNTAX, "CONNECT with a body");
    return 0;
}

/* data[start..end) is a head of well-formed lines. */
static ptrdiff_t parse_head(zk__h1 *h1, const char *data, size_t start, size_t end,
                            zk_field *fields, zk__h1_head *ret_head)
{
    const char *line = data + start;
    struct parse p;
    parse_init(&p, h1, fields, false);
    int minor = 0;
    bool is_connect = false;
    reset_parser(h1);
    execute(h1, &p, line, end - start);
    if (p.error == 0 && !is_request_line(h1, line, end - start, p.target))
        refuse(&p, ZK_E_HTTP_SYNTAX, "malformed request line");
    if (p.error == 0) {
        minor = p.target.data[p.target.size + 8] - '0';
        is_connect = h1->parser.method == HTTP_CONNECT;
        check_head(&p, minor, is_connect);
    }
    if (ZK_UNLIKELY(p.error < 0)) {
        int rc = check_line(h1, data, start, end);
        return rc < 0 ? rc : zk__h1_fail(h1, p.error, p.reason);
    }

    bool is_chunked = (p.seen & SEEN_TRANSFER_ENCODING) != 0;
    bool has_length = (p.seen & SEEN_CONTENT_LENGTH) != 0;
    /* RFC 9110 sections 7.8 and 10.1.1: HTTP/1.0 has neither upgrades nor expectations. */
    bool upgrades = minor == 1 && (p.seen & SEEN_UPGRADE) && (p.seen & SEEN_CONNECTION_UPGRADE);
    *ret_head = (zk__h1_head){
        .method = {line, (size_t)(p.target.data - line) - 1},
        .target = p.target,
        .host = p.host,
        .minor = (uint8_t)minor,
        .framing = is_chunked   ? ZK__H1_CHUNKED
                   : has_length ? ZK__H1_LENGTH
                                : ZK__H1_NO_BODY,
        .keep_alive = !(p.seen & SEEN_CLOSE) && (minor == 1 || (p.seen & SEEN_KEEP_ALIVE)),
        .expects_continue = minor == 1 && (p.seen & SEEN_EXPECT_CONTINUE),
        .is_upgrade = is_connect || upgrades,
        .content_length = p.content_length,
        .field_count = p.field_count,
        .fields = fields,
    };
    h1->framing = ret_head->framing;
    h1->body_left = p.content_length;
    h1->state = is_chunked || p.content_length > 0 ? ZK__H1_BODY : ZK__H1_DONE;
    h1->scanned = 0;
    return (ptrdiff_t)end;
}

/* Counts the bytes of empty lines in front of a request: some clients send one behind a body. */
static int skip_empty_lines(zk__h1 *h1, const char *data, size_t size, size_t *ret_count)
{
    size_t count = 0;
    while (count < size && data[count] == '\r') {
        if (count == EMPTY_LINE_BYTES_MAX)
            return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "too many empty lines before a request");
        if (count + 1 == size) return 0;
        if (data[count + 1] != '\n') return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX, "bare CR");
        count += 2;
    }
    *ret_count = count;
    return count < size;
}

ptrdiff_t zk__h1_slow_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                           zk__h1_head *ret_head)
{
    if (h1->state == ZK__H1_FAILED) return h1->error;
    size_t start;
    int rc = skip_empty_lines(h1, data, size, &start);
    if (rc <= 0) return rc;

    size_t limit = start + h1->limits.head_bytes_max;
    size_t searched = size < limit ? size : limit;
    if (h1->scanned < start) h1->scanned = start;
    enum zk__h1_scan found = zk__h1_scan(data, start, searched, &h1->scanned);
    if (ZK_LIKELY(found == ZK__H1_SCAN_FOUND))
        return parse_head(h1, data, start, h1->scanned, fields, ret_head);

    rc = check_line(h1, data, start, found == ZK__H1_SCAN_BAD ? h1->scanned : searched);
    if (rc < 0) return rc;
    if (found == ZK__H1_SCAN_BAD)
        return zk__h1_fail(h1, ZK_E_HTTP_SYNTAX,
                           "bare CR or LF, control byte, or folded line in the head");
    if (searched == limit) return zk__h1_fail(h1, ZK_E_HTTP_HEADER_TOO_LARGE, "head too large");
    return 0;
}

ptrdiff_t zk__h1_parse_head(zk__h1 *h1, const char *data, size_t size, zk_field *fields,
                            zk__h1_head *ret_head)
{
    return zk__h1_quick_head(h1, data, size, fields, ret_head, true);
}

/* ---- trailers ---- */

int zk__h1_parse_trailers(zk__h1 *h1, const char *data, size_t size, zk_field *trailers,
                          size_t *ret_count)
{
    if (h1->is_response) return zk__h1_response_trailers(h1, data, size, trailers, ret_count);
    struct parse p;
    parse_init(&p, h1, trailers, true);
    /* The parser has waited for a chunk since the head; behind the last one it takes trailers. */
    llhttp_execute(&h1->parser, "0\r\n", 3);
    execute(h1, &p, data, size);
    if (p.error < 0) return zk__h1_fail(h1, p.error, p.reason);
    if (ret_count != NULL) *ret_count = p.field_count;
    return 0;
}

/* ---- the engine ---- */

void zk__h1_init(zk__h1 *h1, const zk__h1_limits *limits)
{
    *h1 = (zk__h1){.limits = *limits, .reason = ""};
    llhttp_init(&h1->parser, HTTP_REQUEST, &settings);
    h1->parser_start = h1->parser._current;
}

void zk__h1_next(zk__h1 *h1)
{
    if (h1->state == ZK__H1_FAILED) return;
    h1->state = ZK__H1_HEAD;
    h1->scanned = 0;
    h1->line_at = 0;
    h1->line_phase = LINE_METHOD;
    h1->chunk_phase = 0;
    h1->extension_excess = 0;
}

const char *zk__h1_reason(const zk__h1 *h1) { return h1->reason; }
