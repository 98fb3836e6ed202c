/*
 * Request targets: one scan finds where the path ends and whether anything in it needs work. Most
 * need none; then the result points into the target. Else the path is decoded and its dot segments
 * are resolved in one pass over a copy.
 *
 * Both passes see a segment as what stands between two *literal* slashes. A decoded slash is
 * refused, so the slashes of the result are exactly the literal ones, and going back to the last of
 * them undoes one segment.
 */
#include "http/path.h"

#include <errno.h>
#include <string.h>

#include <zokio/error.h>

/* What the scan does at a byte. Those that may stand in a query are below IN_NEITHER. */
enum { PLAIN, DOT, PERCENT, QUESTION_MARK, BACKSLASH, IN_NEITHER };

static const uint8_t byte_class[256] = {
    [0x00 ... 0x20] = IN_NEITHER,
    ['#'] = IN_NEITHER,
    ['%'] = PERCENT,
    ['.'] = DOT,
    ['?'] = QUESTION_MARK,
    ['\\'] = BACKSLASH,
    [0x7f ... 0xff] = IN_NEITHER,
};

static bool is_equal(zk_str a, zk_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes the percent sequence at `at`. returns the byte, or -1 if it is none. */
static int percent_byte(const char *at, const char *end)
{
    if (end - at < 3) return -1;
    int high = hex_digit(at[1]), low = hex_digit(at[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

ptrdiff_t zk__percent_decode(zk_str in, char *out, bool plus_is_space)
{
    if (in.size == 0) return 0;

    const char *at = in.data, *end = in.data + in.size;
    char *to = out;
    while (at < end) {
        char c = *at;
        if (c == '%') {
            int byte = percent_byte(at, end);
            if (byte < 0) return ZK_E_HTTP_PATH;
            *to++ = (char)byte;
            at += 3;
            continue;
        }
        *to++ = c == '+' && plus_is_space ? ' ' : c;
        at++;
    }
    return to - out;
}

/* The end of the segment that begins at `at`. */
static const char *segment_end(const char *at, const char *end)
{
    const char *slash = memchr(at, '/', (size_t)(end - at));
    return slash != NULL ? slash : end;
}

static bool is_dot_segment(const char *at, size_t size)
{
    return (size == 1 && at[0] == '.') || (size == 2 && at[0] == '.' && at[1] == '.');
}

static bool has_dot_segment(zk_str path)
{
    const char *end = path.data + path.size;
    for (const char *at = path.data; at < end;) {
        const char *segment = at + 1;
        at = segment_end(segment, end);
        if (is_dot_segment(segment, (size_t)(at - segment))) return true;
    }
    return false;
}

/*
 * Decodes one segment to `to`. returns the end of what was written; NULL if the segment is refused.
 * Raw bytes have been checked by the scan.
 */
static char *decode_segment(const char *at, const char *end, char *to)
{
    while (at < end) {
        if (*at != '%') {
            *to++ = *at++;
            continue;
        }
        int byte = percent_byte(at, end);
        if (byte < 0x20 || byte == 0x7f || byte == '/' || byte == '\\') return NULL;
        *to++ = (char)byte;
        at += 3;
    }
    return to;
}

/*
 * Decodes a path and resolves its dot segments (RFC 3986 section 5.2.4), into the arena. Not
 * inlined: its registers would be saved for every request.
 */
__attribute__((noinline)) static int rewrite_path(zk_str raw, zk_arena *arena, zk_str *ret_path)
{
    char *out = zk_arena_alloc(arena, raw.size);
    if (out == NULL) return -ENOMEM;

    const char *end = raw.data + raw.size;
    char *to = out;
    for (const char *at = raw.data; at < end;) {
        const char *segment = at + 1;
        at = segment_end(segment, end);

        char *slash = to;
        *to++ = '/';
        to = decode_segment(segment, at, to);
        if (to == NULL) return ZK_E_HTTP_PATH;

        size_t size = (size_t)(to - slash) - 1;
        if (!is_dot_segment(slash + 1, size)) continue;
        if (size == 2) {
            if (slash == out) return ZK_E_HTTP_PATH;
            do
                slash--;
            while (*slash != '/');
        }
        /* The next segment writes this slash; a last one leaves it, for it named a directory. */
        to = at < end ? slash : slash + 1;
    }
    *ret_path = (zk_str){out, (size_t)(to - out)};
    return 0;
}

static bool is_query(zk_str query)
{
    for (size_t i = 0; i < query.size; i++) {
        if (ZK_UNLIKELY(byte_class[(uint8_t)query.data[i]] == IN_NEITHER)) return false;
    }
    return true;
}

/* Whether every byte stands for itself and there is no query: most paths, found without a branch
 * per byte. */
static inline bool is_plain(zk_str text)
{
    uint8_t classes = 0;
    for (size_t i = 0; i < text.size; i++)
        classes |= byte_class[(uint8_t)text.data[i]];
    return classes == PLAIN;
}

/* Parses a path that begins with '/' and its query. */
static int parse_path(zk_str text, zk_arena *arena, zk__target *ret)
{
    const char *data = text.data;
    if (ZK_LIKELY(is_plain(text))) {
        *ret = (zk__target){.path = text, .query = {data + text.size, 0}, .authority = ZK_STR("")};
        return 0;
    }
    bool has_percent = false, has_dot = false;
    size_t i = 1;

    for (; i < text.size; i++) {
        uint8_t class = byte_class[(uint8_t)data[i]];
        if (ZK_LIKELY(class == PLAIN)) continue;
        if (class == QUESTION_MARK) break;
        if (class == DOT)
            has_dot |= data[i - 1] == '/';
        else if (class == PERCENT)
            has_percent = true;
        else
            return ZK_E_HTTP_PATH;
    }

    zk_str path = {data, i};
    zk_str query = {data + text.size, 0};
    if (i < text.size) {
        query = (zk_str){data + i + 1, text.size - i - 1};
        if (!is_query(query)) return ZK_E_HTTP_PATH;
    }
    if (ZK_UNLIKELY(has_percent || (has_dot && has_dot_segment(path)))) {
        zk_str rewritten;
        int rc = rewrite_path(path, arena, &rewritten);
        if (rc < 0) return rc;
        path = rewritten;
    }
    ret->path = path;
    ret->query = query;
    ret->authority = ZK_STR("");
    return 0;
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* The length of the host at the start of an authority: "[...]" or a name; 0 if it is none. */
static size_t host_size(zk_str authority)
{
    size_t i = 0;

    if (authority.size > 0 && authority.data[0] == '[') {
        for (i = 1; i < authority.size; i++) {
            char c = authority.data[i];
            if (c == ']') return i > 1 ? i + 1 : 0;
            if (hex_digit(c) < 0 && c != ':' && c != '.') return 0;
        }
        return 0;
    }
    for (; i < authority.size; i++) {
        char c = authority.data[i];
        if (!is_alphanumeric(c) && (c == '\0' || strchr("-._~!$&'()*+,;=", c) == NULL)) break;
    }
    return i;
}

/* RFC 3986 section 3.2, without user information and percent sequences. */
static bool is_authority(zk_str authority, bool needs_port)
{
    size_t i = host_size(authority);
    if (i == 0) return false;
    if (i == authority.size) return !needs_port;
    if (authority.data[i++] != ':') return false;

    uint32_t port = 0;
    for (; i < authority.size; i++) {
        char c = authority.data[i];
        if (c < '0' || c > '9') return false;
        port = port * 10 + (uint32_t)(c - '0');
        if (port > UINT16_MAX) return false;
    }
    return !needs_port || port > 0;
}

/* The length of "http://" or "https://" at the start of the target; 0 if there is neither. */
static size_t scheme_size(zk_str target)
{
    static const char scheme[] = "https";
    size_t i = 0;

    while (i < 5 && i < target.size && (target.data[i] | 0x20) == scheme[i])
        i++;
    if (i < 4 || target.size - i < 3 || memcmp(target.data + i, "://", 3) != 0) return 0;
    return i + 3;
}

static int parse_absolute(zk_str method, zk_str target, zk_arena *arena, zk__target *ret)
{
    size_t start = scheme_size(target);
    if (start == 0) return ZK_E_HTTP_PATH;

    size_t end = start;
    while (end < target.size && target.data[end] != '/' && target.data[end] != '?')
        end++;
    zk_str authority = {target.data + start, end - start};
    zk_str rest = {target.data + end, target.size - end};
    if (!is_authority(authority, false)) return ZK_E_HTTP_PATH;
    if (rest.size > 0 && rest.data[0] == '/') {
        int rc = parse_path(rest, arena, ret);
        if (rc == 0) ret->authority = authority;
        return rc;
    }

    zk__target out = {.path = ZK_STR("/"), .query = rest, .authority = authority};
    if (rest.size > 0) {
        out.query = (zk_str){rest.data + 1, rest.size - 1};
        if (!is_query(out.query)) return ZK_E_HTTP_PATH;
    } else if (is_equal(method, ZK_STR("OPTIONS"))) {
        out.path = ZK_STR("*");
    }
    *ret = out;
    return 0;
}

int zk__target_parse(zk_str method, zk_str target, zk_arena *arena, zk__target *ret)
{
    if (ZK_UNLIKELY(is_equal(method, ZK_STR("CONNECT")))) {
        if (!is_authority(target, true)) return ZK_E_HTTP_PATH;
        *ret = (zk__target){.path = ZK_STR(""), .query = ZK_STR(""), .authority = target};
        return 0;
    }
    if (ZK_LIKELY(target.size > 0 && target.data[0] == '/')) return parse_path(target, arena, ret);
    if (is_equal(target, ZK_STR("*"))) {
        if (!is_equal(method, ZK_STR("OPTIONS"))) return ZK_E_HTTP_PATH;
        *ret = (zk__target){.path = target, .query = ZK_STR(""), .authority = ZK_STR("")};
        return 0;
    }
    return parse_absolute(method, target, arena, ret);
}

/* Whether a raw name is `name`. returns 1 or 0; ZK_E_HTTP_PATH for a bad percent sequence. */
static int is_name(zk_str raw, zk_str name)
{
    const char *at = raw.data, *end = raw.data + raw.size;
    size_t size = 0;
    bool is_same = true;

    for (; at < end; size++) {
        int byte = *at == '+' ? ' ' : (uint8_t)*at;
        if (*at == '%') {
            byte = percent_byte(at, end);
            if (byte < 0) return ZK_E_HTTP_PATH;
            at += 2;
        }
        at++;
        is_same = is_same && size < name.size && byte == (uint8_t)name.data[size];
    }
    return is_same && size == name.size;
}

static int decode_value(zk_str raw, zk_arena *arena, zk_str *ret_value)
{
    zk_str value = raw;
    if (raw.size > 0 &&
        (memchr(raw.data, '%', raw.size) != NULL || memchr(raw.data, '+', raw.size) != NULL)) {
        char *out = zk_arena_alloc(arena, raw.size);
        if (out == NULL) return -ENOMEM;
        ptrdiff_t size = zk__percent_decode(raw, out, true);
        if (size < 0) return (int)size;
        value = (zk_str){out, (size_t)size};
    }
    *ret_value = value;
    return 1;
}

int zk__query_find(zk_str query, zk_str name, zk_arena *arena, zk_str *ret_value)
{
    if (query.size == 0) return 0;

    const char *end = query.data + query.size;
    for (const char *at = query.data, *pair_end; at < end; at = pair_end + (pair_end < end)) {
        pair_end = memchr(at, '&', (size_t)(end - at));
        if (pair_end == NULL) pair_end = end;
        const char *equals = memchr(at, '=', (size_t)(pair_end - at));
        const char *name_end = equals != NULL ? equals : pair_end;

        if (pair_end > at) {
            int rc = is_name((zk_str){at, (size_t)(name_end - at)}, name);
            if (rc < 0) return rc;
            const char *value = equals != NULL ? equals + 1 : pair_end;
            if (rc == 1)
                return decode_value((zk_str){value, (size_t)(pair_end - value)}, arena, ret_value);
        }
    }
    return 0;
}
