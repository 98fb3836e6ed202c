/*
 * A client of HTTP/2 made of single frames, for the tests of the server.
 *
 * What it sends is a script, what it has received is a log: one frame a line, in words.
 *
 *   script: "headers.eh 1 GET:/ x-a=b; data.e 3 'hello'; window 0 u32:10; raw hex:0000"
 *     an item:  TYPE[.FLAGS] STREAM PAYLOAD...    items are parted by "; "
 *     flags:    e END_STREAM or ACK, h END_HEADERS, p PADDED, q PRIORITY
 *     payload:  'text', u8:N, u16:N, u32:N, zeros:N, hex:DIGITS, name=value (a literal of HPACK),
 *               GET:/path (the four fields of a request), len:N (a wrong length in the head)
 *     "raw PAYLOAD" is no frame but bytes
 *   log: "headers 1 200 content-length=5\n" "data 1 5 end hello\n" "reset 1 CANCEL\n"
 *
 * Server, Date and Content-Type are left out of the log; the server's SETTINGS are checked and left
 * out when a client opens.
 */
#ifndef ZOKIO_TESTS_HTTP_H2_FRAMES_H
#define ZOKIO_TESTS_HTTP_H2_FRAMES_H

#include "tests/http/fixture.h"

#include <nghttp2/nghttp2.h>

/* Letters, of which bodies are made: is_in_pattern says whether those that came are. */
static inline const char *h2_pattern(void)
{
    static char letters[400 * 1024];
    for (size_t i = 0; !letters[sizeof letters - 1] && i < sizeof letters; i++)
        letters[i] = (char)('a' + i % 26);
    return letters;
}

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
/* What the server says first: its SETTINGS, and the connection's window above 64 KiB. The
 * acknowledgement of the client's comes between if those have come together with the preface. */
#define H2_SETTINGS "settings 3=128 4=262144 6=16384 8=1 9=1\n"
#define H2_WINDOW "window 0 983041\n"
#define H2_GREETING H2_SETTINGS "ack\n" H2_WINDOW
#define GOAWAY(code) "goaway 0 " code "\n"

typedef struct h2_bytes {
    uint8_t *data;
    size_t size, capacity;
} h2_bytes;

static inline void h2_put(h2_bytes *b, const void *data, size_t size)
{
    if (b->capacity - b->size < size) {
        b->capacity = 2 * b->capacity + size + 1024;
        b->data = realloc(b->data, b->capacity);
        cr_assert(b->data);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void h2_put_number(h2_bytes *b, uint64_t n, int size)
{
    for (int i = size - 1; i >= 0; i--)
        h2_put(b, &(uint8_t){(uint8_t)(n >> 8 * i)}, 1);
}

/* ---- HPACK, as far as needed ---- */

static inline void h2_put_string(h2_bytes *b, const char *text, size_t size)
{
    if (size < 127) {
        h2_put_number(b, size, 1);
    } else {
        size_t rest = size - 127;
        h2_put_number(b, 127, 1);
        for (; rest >= 128; rest >>= 7)
            h2_put_number(b, rest % 128 + 128, 1);
        h2_put_number(b, rest, 1);
    }
    h2_put(b, text, size);
}

/* A literal without indexing, with a new name (RFC 7541 section 6.2.2). */
static inline void h2_put_field(h2_bytes *b, const char *name, size_t name_size, const char *value,
                                size_t value_size)
{
    h2_put_number(b, 0, 1);
    h2_put_string(b, name, name_size);
    h2_put_string(b, value, value_size);
}

static inline void h2_put_text_field(h2_bytes *b, const char *name, const char *value)
{
    h2_put_field(b, name, strlen(name), value, strlen(value));
}

/* ---- frames ---- */

enum { H2_END = 1, H2_ACK = 1, H2_END_HEADERS = 4, H2_PADDED = 8, H2_PRIORITY = 32 };

static inline void h2_put_head(h2_bytes *b, size_t size, int type, int flags, uint32_t id)
{
    h2_put_number(b, size, 3);
    h2_put_number(b, (uint64_t)type, 1);
    h2_put_number(b, (uint64_t)flags, 1);
    h2_put_number(b, id, 4);
}

static inline void h2_put_frame(h2_bytes *b, int type, int flags, uint32_t id, const void *payload,
                                size_t size)
{
    h2_put_head(b, size, type, flags, id);
    h2_put(b, payload, size);
}

static const char *const h2_types[] = {
    "data", "headers", "priority", "rst", "settings", "push", "ping", "goaway", "window", "cont",
};

/* ---- scripts ---- */

static inline bool h2_starts(const char **at, const char *prefix)
{
    size_t size = strlen(prefix);
    if (strncmp(*at, prefix, size) != 0) return false;
    *at += size;
    return true;
}

static inline int h2_hex(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

/* One word of a payload. */
static inline const char *h2_put_word(h2_bytes *b, const char *at, long *length)
{
    size_t size = strcspn(at, " ;");
    char path[256];
    if (*at == '\'') {
        size = strcspn(at + 1, "'") + 2;
        h2_put(b, at + 1, size - 2);
        return at + size;
    }
    const char *end = at + size;
    if (h2_starts(&at, "u8:")) {
        h2_put_number(b, strtoull(at, NULL, 0), 1);
    } else if (h2_starts(&at, "u16:")) {
        h2_put_number(b, strtoull(at, NULL, 0), 2);
    } else if (h2_starts(&at, "u32:")) {
        h2_put_number(b, strtoull(at, NULL, 0), 4);
    } else if (h2_starts(&at, "len:")) {
        *length = strtol(at, NULL, 0);
    } else if (h2_starts(&at, "zeros:")) {
        for (long n = strtol(at, NULL, 0); n > 0; n--)
            h2_put_number(b, 0, 1);
    } else if (h2_starts(&at, "hex:")) {
        for (; at + 1 < end; at += 2)
            h2_put_number(b, (uint64_t)(h2_hex(at[0]) * 16 + h2_hex(at[1])), 1);
    } else if (memchr(at, ':', size) && at[0] >= 'A' && at[0] <= 'Z' && !memchr(at, '=', size)) {
        const char *colon = memchr(at, ':', size);
        h2_put_field(b, ":method", 7, at, (size_t)(colon - at));
        h2_put_text_field(b, ":scheme", "http");
        h2_put_text_field(b, ":authority", "a");
        snprintf(path, sizeof path, "%.*s", (int)(end - colon - 1), colon + 1);
        h2_put_text_field(b, ":path", path);
    } else {
        const char *equals = memchr(at, '=', size);
        cr_assert(equals, "no word of a script: %.20s", at);
        h2_put_field(b, at, (size_t)(equals - at), equals + 1, (size_t)(end - equals - 1));
    }
    return end;
}

/* One item. returns what follows it. */
static inline const char *h2_put_item(h2_bytes *b, const char *at)
{
    int type = -1, flags = 0;
    for (int i = 0; i < (int)ROWS(h2_types); i++) {
        size_t size = strlen(h2_types[i]);
        if (!strncmp(at, h2_types[i], size) && (at[size] == ' ' || at[size] == '.')) type = i;
    }
    if (*at == 'x') type = h2_hex(at[1]) * 16 + h2_hex(at[2]);
    bool is_raw = h2_starts(&at, "raw ");
    cr_assert(is_raw || type >= 0, "no frame: %.20s", at);
    uint32_t id = 0;
    if (!is_raw) {
        at += strcspn(at, " .");
        for (; *at && *at != ' '; at++) {
            flags |= *at == 'e'   ? H2_END
                     : *at == 'h' ? H2_END_HEADERS
                     : *at == 'p' ? H2_PADDED
                     : *at == 'q' ? H2_PRIORITY
                                  : 0;
        }
        char *end;
        id = (uint32_t)strtoul(at, &end, 0);
        at = end;
    }
    h2_bytes payload = {0};
    long length = -1;
    while (*at == ' ')
        at++;
    while (*at && *at != ';') {
        at = h2_put_word(&payload, at, &length);
        while (*at == ' ')
            at++;
    }
    if (!is_raw) h2_put_head(b, length < 0 ? payload.size : (size_t)length, type, flags, id);
    h2_put(b, payload.data, payload.size);
    free(payload.data);
    return at;
}

static inline h2_bytes h2_script(const char *script)
{
    h2_bytes b = {0};
    while (*script) {
        while (*script == ' ' || *script == ';')
            script++;
        if (*script) script = h2_put_item(&b, script);
    }
    return b;
}

/* ---- the log ---- */

typedef struct h2_log {
    char *text;
    size_t size, capacity;
} h2_log;

__attribute__((format(printf, 2, 3))) static inline void h2_say(h2_log *log, const char *format,
                                                                ...)
{
    va_list args;
    char line[512];
    va_start(args, format);
    int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (size >= (int)sizeof line) size = sizeof line - 1;
    if (log->capacity - log->size <= (size_t)size) {
        log->capacity = 2 * log->capacity + 4096;
        log->text = realloc(log->text, log->capacity);
        cr_assert(log->text);
    }
    memcpy(log->text + log->size, line, (size_t)size + 1);
    log->size += (size_t)size;
}

/* A client, and what it knows of its connection. */
typedef struct h2_client {
    wire w;
    nghttp2_hd_inflater *inflater;
    h2_log log;
    h2_bytes block;     /* a header block that is not whole yet */
    bool is_last_block; /* with END_STREAM */
    uint64_t body_size; /* of all DATA received */
    bool is_in_pattern; /* all of it: byte i is 'a' + i % 26, on each stream */
    uint64_t stream_sizes[64];
} h2_client;

static inline void h2_log_fields(h2_client *c, const uint8_t *at, size_t size)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(c->inflater, &nv, &flags, at, size, 1);
        cr_assert(n >= 0, "the header block is not valid: %s", nghttp2_strerror((int)n));
        at += n;
        size -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            const char *name = (const char *)nv.name, *value = (const char *)nv.value;
            if (!strcmp(name, ":status")) {
                h2_say(&c->log, " %s", value);
            } else if (!strcmp(name, "date")) {
                cr_assert(is_date(value), "%s", value);
            } else if (strcmp(name, "server") != 0 && strcmp(name, "content-type") != 0) {
                h2_say(&c->log, " %s=%s", name, value);
            }
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) break;
        cr_assert(n || flags & NGHTTP2_HD_INFLATE_EMIT);
    }
    nghttp2_hd_inflate_end_headers(c->inflater);
}

static inline uint32_t h2_number(const uint8_t *at, int size)
{
    uint32_t n = 0;
    for (int i = 0; i < size; i++)
        n = n << 8 | at[i];
    return n;
}

static inline void h2_log_data(h2_client *c, uint32_t id, const uint8_t *at, size_t size)
{
    if (id / 2 < ROWS(c->stream_sizes)) {
        uint64_t *total = &c->stream_sizes[id / 2];
        for (size_t i = 0; i < size; i++, ++*total) {
            if (at[i] != 'a' + *total % 26) c->is_in_pattern = false;
        }
    }
    c->body_size += size;
}

static inline const char *h2_error_name(uint32_t code) { return nghttp2_http2_strerror(code); }

/* One whole frame. */
static inline void h2_log_frame(h2_client *c, const uint8_t *head, const uint8_t *at, size_t size)
{
    int type = head[3], flags = head[4];
    uint32_t id = h2_number(head + 5, 4);
    h2_log *log = &c->log;
    const char *end = flags & H2_END ? " end" : "";
    switch (type) {
    case NGHTTP2_DATA:
        h2_log_data(c, id, at, size);
        h2_say(log, "data %u %zu%s", id, size, end);
        if (size && size <= 40) h2_say(log, " %.*s", (int)size, (const char *)at);
        break;
    case NGHTTP2_HEADERS: c->is_last_block = flags & H2_END; __attribute__((fallthrough));
    case NGHTTP2_CONTINUATION:
        h2_put(&c->block, at, size);
        if (!(flags & H2_END_HEADERS)) return;
        h2_say(log, "headers %u", id);
        h2_log_fields(c, c->block.data, c->block.size);
        c->block.size = 0;
        h2_say(log, "%s", c->is_last_block ? " end" : "");
        break;
    case NGHTTP2_RST_STREAM: h2_say(log, "reset %u %s", id, h2_error_name(h2_number(at, 4))); break;
    case NGHTTP2_SETTINGS:
        if (flags & H2_ACK) {
            h2_say(log, "ack");
            break;
        }
        h2_say(log, "settings");
        for (size_t i = 0; i + 6 <= size; i += 6)
            h2_say(log, " %u=%u", h2_number(at + i, 2), h2_number(at + i + 2, 4));
        break;
    case NGHTTP2_PING: h2_say(log, "ping%s %.8s", flags & H2_ACK ? " ack" : "", at); break;
    case NGHTTP2_GOAWAY:
        h2_say(log, "goaway %u %s", h2_number(at, 4), h2_error_name(h2_number(at + 4, 4)));
        break;
    case NGHTTP2_WINDOW_UPDATE: h2_say(log, "window %u %u", id, h2_number(at, 4)); break;
    default: h2_say(log, "type %d", type);
    }
    h2_say(log, "\n");
}

/* Adds the whole frames of what has been received to the log. */
static inline void h2_log_received(h2_client *c)
{
    const uint8_t *at = (const uint8_t *)c->w.text, *end = at + c->w.size;
    while (end - at >= 9) {
        size_t size = h2_number(at, 3);
        cr_assert_leq(size, (size_t)16384, "a frame of the server's is too long");
        if ((size_t)(end - at) < 9 + size) break;
        h2_log_frame(c, at, at + 9, size);
        at += 9 + size;
    }
    c->w.size = (size_t)(end - at);
    memmove(c->w.text, at, c->w.size);
}

/* All that has been received since the last call. */
static inline const char *h2_take(h2_client *c)
{
    wire_collect(&c->w);
    c->log.size = 0;
    h2_say(&c->log, "%s", "");
    h2_log_received(c);
    return c->log.text;
}

static inline void h2_check(h2_client *c, const char *wanted, const char *row)
{
    const char *got = h2_take(c);
    cr_assert(!strcmp(got, wanted), "row \"%s\"\n---- received\n%s---- wanted\n%s----", row, got,
              wanted);
}

/* The server has sent exactly these frames. */
#define cr_assert_h2(c, wanted) h2_check((c), (wanted), "")

static inline void h2_send(h2_client *c, const char *script)
{
    h2_bytes b = h2_script(script);
    wire_send_n(&c->w, b.data, b.size, 0);
    free(b.data);
}

/* A client that has not connected yet. */
static inline void h2_init(h2_client *c)
{
    *c = (h2_client){.is_in_pattern = true};
    cr_assert(!nghttp2_hd_inflate_new(&c->inflater));
    h2_say(&c->log, "%s", "");
}

/* Connects, and says nothing. */
static inline void h2_connect(h2_client *c, fixture *f)
{
    h2_init(c);
    wire_open(&c->w, f);
}

/* Says what a client says first, with these SETTINGS, as a payload in a script. */
static inline void h2_greet(h2_client *c, const char *settings)
{
    char script[256];
    snprintf(script, sizeof script, "settings 0 %s; settings.e 0", settings);
    h2_bytes b = {0}, frames = h2_script(script);
    h2_put(&b, H2_PREFACE, sizeof H2_PREFACE - 1);
    h2_put(&b, frames.data, frames.size);
    wire_send_n(&c->w, b.data, b.size, 0);
    free(b.data);
    free(frames.data);
}

static inline void h2_open_with(h2_client *c, fixture *f, const char *settings)
{
    h2_connect(c, f);
    h2_greet(c, settings);
    h2_check(c, H2_GREETING, "the greeting");
}

static inline void h2_open(h2_client *c, fixture *f) { h2_open_with(c, f, ""); }

static inline void h2_close(h2_client *c)
{
    wire_close(&c->w);
    nghttp2_hd_inflate_del(c->inflater);
    free(c->log.text);
    free(c->block.data);
}

/* Frames in, frames out, on a connection of their own that has been opened. */
typedef struct h2_row {
    const char *name, *in, *out;
    bool is_closed; /* by the server, afterwards */
} h2_row;

static inline void h2_rows_run(fixture *f, const h2_row *rows, size_t count, size_t piece)
{
    for (const h2_row *row = rows; row < rows + count; row++) {
        h2_client c;
        h2_open(&c, f);
        h2_bytes b = h2_script(row->in);
        wire_send_n(&c.w, b.data, b.size, piece);
        free(b.data);
        h2_check(&c, row->out, row->name);
        cr_assert(c.w.is_closed == row->is_closed, "row \"%s\": the connection is %s", row->name,
                  c.w.is_closed ? "closed" : "open");
        h2_close(&c);
        cr_assert_eq(f->shard.conn_count, 0u, "row \"%s\": the connection stays", row->name);
    }
}

/* Each row whole, and one byte at a time. */
#define cr_assert_h2_rows(f, rows)                                                                 \
    do {                                                                                           \
        h2_rows_run((f), (rows), ROWS(rows), 0);                                                   \
        h2_rows_run((f), (rows), ROWS(rows), 1);                                                   \
    } while (0)

#endif
