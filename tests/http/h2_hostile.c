/*
 * The HTTP/2 server under attack: real frames over real sockets. Of each attack three things are
 * shown: the offender is told to go, with the right code, or its streams are reset; the server's
 * memory stays within a bound; a client on another connection is answered within a second
 * meanwhile.
 */
#include "tests/http/siege.h"

/* ---- handlers ---- */

static struct {
    int begun, now, most;
} handlers;

static char large[1024 * 1024];

static int hello(zk_request *req, zk_response *res)
{
    (void)req;
    return zk_respond_text(res, 200, "hello");
}

static int counted(int rc)
{
    handlers.now--;
    return rc;
}

static void count(void)
{
    handlers.begun++;
    if (++handlers.now > handlers.most) handlers.most = handlers.now;
}

static int sleeps(zk_request *req, zk_response *res)
{
    count();
    int rc = zk_sleep(ZK_SEC(3600));
    return counted(rc < 0 ? rc : hello(req, res));
}

/* One that takes no notice of its client's leaving. */
static int stubborn(zk_request *req, zk_response *res)
{
    count();
    ZK_SHIELD {
        (void)zk_sleep(ZK_SEC(20));
    }
    return counted(hello(req, res));
}

static int sends_large(zk_request *req, zk_response *res)
{
    (void)req;
    count();
    return counted(zk_respond(res, 200, NULL, large, sizeof large));
}

static int sends_pieces(zk_request *req, zk_response *res)
{
    (void)req;
    count();
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (int i = 0; i < 1000 && rc >= 0; i++)
        rc = zk_response_write(res, large, 1000);
    return counted(rc);
}

static int reads(zk_request *req, zk_response *res)
{
    char part[1000];
    ssize_t n;
    count();
    while ((n = zk_body_read(req, part, sizeof part)) > 0)
        continue;
    return counted(n < 0 ? (int)n : hello(req, res));
}

static const zk_route routes[] = {
    {"GET", "/", hello, NULL},
    {"GET", "/sleeps", sleeps, NULL},
    {"GET", "/stubborn", stubborn, NULL},
    {"GET", "/large", sends_large, NULL},
    {"GET", "/pieces", sends_pieces, NULL},
    {"POST", "/", reads, NULL},
    {"POST", "/sleeps", sleeps, NULL},
    {0},
};

/* ---- floods ---- */

typedef struct flood {
    const char *name, *settings, *before, *unit; /* '#': the id of a stream, a new one each time */
    const char *log;                             /* of what is received, among others */
    bool is_deaf;                                /* the client reads nothing until it is over */
} flood;

enum { FLOOD_UNITS = 100000, UNITS_AT_ONCE = 50, FLOOD_MEMORY_BYTES = 600 * 1024 };

/* The script with its ids. */
static void put_unit(h2_bytes *b, const char *script, uint32_t id)
{
    char text[512];
    size_t size = 0;
    for (; *script; script++) {
        if (*script == '#') {
            size += (size_t)snprintf(text + size, sizeof text - size, "%u", id);
        } else {
            text[size++] = *script;
        }
        cr_assert_lt(size, sizeof text - 16);
    }
    text[size] = '\0';
    h2_bytes unit = h2_script(text);
    h2_put(b, unit.data, unit.size);
    free(unit.data);
}

/* Sends what the socket takes. returns false if the server has ended the connection. */
static bool push(h2_client *c, h2_bytes *b)
{
    ssize_t n = b->size ? zk_stream_try_write(c->w.stream, b->data, b->size) : 0;
    if (n == -EAGAIN) return true;
    if (n == -EPIPE || n == -ECONNRESET) return false;
    cr_assert_ok(n);
    b->size -= (size_t)n;
    memmove(b->data, b->data + n, b->size);
    return true;
}

/* Sends unit after unit until the server has had enough. */
static void flood_run(siege *x, const flood *row)
{
    h2_bytes b = {0};
    h2_client *c = &x->bad;
    uint32_t id = 1;
    int units = 0;
    bool is_over = false;
    handlers.begun = 0;
    bad_open(x, row->settings ? row->settings : "");
    put_unit(&b, row->before ? row->before : "", id);
    if (row->before) id += 2;
    for (int turn = 0; !is_over; turn++) {
        if (b.size < 16384) {
            for (int i = 0; i < UNITS_AT_ONCE; i++, id += 2)
                put_unit(&b, row->unit, id);
            units += UNITS_AT_ONCE;
        }
        is_over = !push(c, &b);
        settle();
        if (!row->is_deaf || is_over) {
            while (!c->w.is_closed && wire_pull(&c->w) != -EAGAIN)
                continue;
            h2_log_received(c);
            is_over |= c->w.is_closed;
        }
        if (turn % 8 == 0) check_good(x, row->name);
        cr_assert_lt(units, FLOOD_UNITS, "%s: never ends", row->name);
    }
    cr_assert(strstr(c->log.text, row->log), "%s: received %.*s", row->name, 1000,
              c->log.size > 1000 ? c->log.text + c->log.size - 1000 : c->log.text);
    cr_assert_leq(handlers.begun, 1000, "%s: %d handlers", row->name, handlers.begun);
    check_memory(x, FLOOD_MEMORY_BYTES, row->name);
    check_good(x, row->name);
    free(b.data);
    bad_close(x);
}

#define CALM " ENHANCE_YOUR_CALM\n"

SIEGE_TEST(h2_hostile, floods_of_frames_that_cost_little_are_ended)
{
    static const flood rows[] = {
        {.name = "SETTINGS", .unit = "settings 0", .log = CALM},
        {.name = "SETTINGS, deaf", .unit = "settings 0", .log = CALM, .is_deaf = true},
        {.name = "SETTINGS that change windows",
         .before = "headers.eh 1 GET:/large",
         .unit = "settings 0 u16:4 u32:0; settings 0 u16:4 u32:65535",
         .log = CALM},
        {.name = "PING", .unit = "ping 0 'abcdefgh'", .log = CALM},
        {.name = "PING, deaf", .unit = "ping 0 'abcdefgh'", .log = CALM, .is_deaf = true},
        {.name = "answers to no PING", .unit = "ping.e 0 'abcdefgh'", .log = CALM},
        {.name = "PRIORITY", .unit = "priority # u32:0 u8:1", .log = CALM},
        {.name = "PRIORITY of one stream", .unit = "priority 1 u32:0 u8:1", .log = CALM},
        {.name = "PRIORITY_UPDATE", .unit = "x10 0 u32:1 'u=1'", .log = CALM},
        {.name = "PRIORITY_UPDATE of more streams than there may be (RFC 9218 7.1)",
         .unit = "x10 0 u32:# 'u=1'",
         .log = "goaway 0 PROTOCOL_ERROR\n"},
        {.name = "WINDOW_UPDATE", .unit = "window 0 u32:1", .log = CALM},
        {.name = "WINDOW_UPDATE of a stream",
         .before = "headers.eh 1 GET:/sleeps",
         .unit = "window 1 u32:1",
         .log = CALM},
        {.name = "WINDOW_UPDATE of closed streams",
         .before = "headers.eh 1 GET:/",
         .unit = "window 1 u32:1",
         .log = CALM},
        {.name = "frames of unknown types", .unit = "xee 0", .log = CALM},
        {.name = "empty DATA", .before = "headers.h 1 POST:/", .unit = "data 1", .log = CALM},
        {.name = "empty DATA, nobody reads",
         .before = "headers.h 1 POST:/sleeps",
         .unit = "data 1",
         .log = CALM},
        {.name = "DATA of padding",
         .before = "headers.h 1 POST:/",
         .unit = "data.p 1 u8:2 u16:0",
         .log = CALM},
        {.name = "GOAWAY", .unit = "goaway 0 u32:0 u32:0", .log = "ack\n"},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        flood_run(x, &rows[i]);
}

/* CVE-2024-27983 and its kin. */
SIEGE_TEST(h2_hostile, floods_of_continuation_are_ended)
{
    static const flood rows[] = {
        {.name = "of fields", .before = "headers.e 1 GET:/", .unit = "cont 1 a=b", .log = CALM},
        {.name = "empty", .before = "headers.e 1 GET:/", .unit = "cont 1", .log = CALM},
        {.name = "large",
         .before = "headers.e 1 GET:/",
         .unit = "cont 1 hex:00016101ff zeros:254; cont 1 zeros:16000",
         .log = "goaway "},
        {.name = "of trailers",
         .before = "headers.h 1 POST:/; headers.e 1 a=b",
         .unit = "cont 1 c=d",
         .log = CALM},
        {.name = "by table size updates",
         .before = "headers.e 1",
         .unit = "cont 1 hex:20202020202020202020",
         .log = "goaway "},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        flood_run(x, &rows[i]);
}

/* CVE-2023-44487: requests that are cancelled at once cost their client next to nothing. */
SIEGE_TEST(h2_hostile, rapid_reset_is_ended)
{
    static const flood rows[] = {
        {.name = "a slow handler", .unit = "headers.eh # GET:/sleeps; rst # u32:8", .log = CALM},
        {.name = "a quick handler", .unit = "headers.eh # GET:/; rst # u32:8", .log = CALM},
        {.name = "a large response", .unit = "headers.eh # GET:/large; rst # u32:8", .log = CALM},
        {.name = "of uploads", .unit = "headers.h # POST:/; rst # u32:8", .log = CALM},
        {.name = "no such path", .unit = "headers.eh # GET:/none; rst # u32:8", .log = CALM},
        {.name = "deaf",
         .unit = "headers.eh # GET:/sleeps; rst # u32:8",
         .log = CALM,
         .is_deaf = true},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        flood_run(x, &rows[i]);
}

/* CVE-2025-8671: the same, only that the server is made to reset the streams itself. */
SIEGE_TEST(h2_hostile, made_you_reset_is_ended_in_each_of_its_forms)
{
    static const flood rows[] = {
        {.name = "WINDOW_UPDATE of 0",
         .unit = "headers.eh # GET:/sleeps; window # u32:0",
         .log = "goaway 1 PROTOCOL_ERROR\n"},
        {.name = "a window over 2^31-1",
         .unit = "headers.eh # GET:/sleeps; window # u32:0x7fffffff",
         .log = CALM},
        {.name = "a window over 2^31-1, by SETTINGS",
         .unit = "headers.eh # GET:/sleeps; window # u32:9; settings 0 u16:4 u32:0x7fffffff",
         .log = CALM},
        {.name = "DATA behind the end",
         .unit = "headers.eh # GET:/sleeps; data # 'x'",
         .log = "goaway 1 STREAM_CLOSED\n"},
        {.name = "HEADERS behind the end",
         .unit = "headers.eh # GET:/sleeps; headers.eh # a=b",
         .log = "goaway 1 STREAM_CLOSED\n"},
        {.name = "PRIORITY of the wrong size",
         .unit = "headers.eh # GET:/sleeps; priority # u32:0",
         .log = "goaway 1 FRAME_SIZE_ERROR\n"},
        {.name = "HEADERS that depend on themselves",
         .unit = "headers.ehq # u32:# u8:1 GET:/sleeps",
         .log = "goaway 0 PROTOCOL_ERROR\n"},
        {.name = "more than content-length",
         .unit = "headers.h # POST:/sleeps content-length=1; data # 'xy'",
         .log = CALM},
        {.name = "less than content-length",
         .unit = "headers.h # POST:/sleeps content-length=9; data.e # 'xy'",
         .log = CALM},
        {.name = "a malformed head", .unit = "headers.eh # GET:/sleeps A=b", .log = CALM},
        {.name = "malformed trailers",
         .unit = "headers.h # POST:/sleeps; headers.eh # :path=/",
         .log = CALM},
        {.name = "trailers without an end",
         .unit = "headers.h # POST:/sleeps; headers.h # a=b",
         .log = CALM},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        flood_run(x, &rows[i]);
}

/* Handlers that cannot be stopped are not started without end. */
SIEGE_TEST(h2_hostile, handlers_that_outlive_their_streams_are_counted)
{
    static const flood row = {
        .name = "a handler that goes on",
        .unit = "headers.eh # GET:/stubborn; rst # u32:8",
        .log = CALM,
    };
    for (int i = 0; i < 4; i++)
        flood_run(x, &row);
    cr_assert_leq(handlers.most, 4 * 257);
    pass_ms(20001);
    cr_assert_eq(handlers.now, 0);
}

/* ---- header lists ---- */

/* A literal that goes to the compression's table (RFC 7541 section 6.2.1). */
static void put_indexed(h2_bytes *b, const char *name, size_t value_size)
{
    static char value[8192];
    memset(value, 'v', sizeof value);
    h2_put_number(b, 0x40, 1);
    h2_put_string(b, name, strlen(name));
    h2_put_string(b, value, value_size);
}

static void put_request(h2_bytes *b, const char *words)
{
    char script[256];
    snprintf(script, sizeof script, "raw %s", words);
    h2_bytes head = h2_script(script);
    h2_put(b, head.data, head.size);
    free(head.data);
}

/* Sends a header block as HEADERS, with END_STREAM, and CONTINUATION. */
static void send_block(h2_client *c, uint32_t id, const h2_bytes *block)
{
    h2_bytes b = {0};
    for (size_t at = 0; at == 0 || at < block->size; at += 16384) {
        size_t size = block->size - at < 16384 ? block->size - at : 16384;
        int flags = (at ? 0 : H2_END) | (at + size == block->size ? H2_END_HEADERS : 0);
        h2_put_frame(&b, at ? 9 : 1, flags, id, block->data + at, size);
    }
    wire_send_n(&c->w, b.data, b.size, 0);
    free(b.data);
}

/* 4 KB in the table are told once, and then named by single bytes. */
SIEGE_TEST(h2_hostile, an_hpack_bomb_is_ended)
{
    static const struct {
        int references;
        const char *log;
    } rows[] = {
        {1, "data 1 5 end hello\n"},
        {10, "headers 1 431"}, /* over 16 KiB, and read to its end: the table has to stay right */
        {16000, "goaway 1" CALM},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_bytes block = {0};
        bad_open(x, "");
        put_request(&block, "GET:/");
        put_indexed(&block, "bomb", 4000);
        for (int n = 1; n < rows[i].references; n++)
            h2_put_number(&block, 0x80 | 62, 1);
        send_block(&x->bad, 1, &block);
        wait_for(&x->bad, rows[i].log, "a bomb");
        check_good(x, "a bomb");
        check_memory(x, 200 * 1024, "a bomb");
        free(block.data);
        bad_close(x);
    }
}

/* The limits on their two sides: the client is told, and the next request is a good one. */
SIEGE_TEST(h2_hostile, header_lists_that_are_too_large_get_431)
{
    static const struct {
        const char *name;
        int fields, value_size;
        const char *log;
    } rows[] = {
        {"just enough", 1, 15000, "data 3 5 end hello\n"},
        {"too much", 1, 16384, "data 3 36 end 431 "},
        {"100 fields", 99, 1, "data 3 5 end hello\n"},
        {"101 fields", 101, 1, "data 3 36 end 431 "},
        {"four times too much", 8, 8000, "data 3 36 end 431 "},
        {"five times", 9, 9000, "goaway 3" CALM},
    };
    static char value[20000];
    memset(value, 'v', sizeof value);
    for (size_t i = 0; i < ROWS(rows); i++) {
        h2_bytes block = {0};
        bad_open(x, "");
        h2_send(&x->bad, "headers.eh 1 GET:/");
        put_request(&block, "GET:/");
        for (int n = 0; n < rows[i].fields; n++)
            h2_put_field(&block, "x", 1, value, (size_t)rows[i].value_size);
        send_block(&x->bad, 3, &block);
        wait_for(&x->bad, rows[i].log, rows[i].name);
        check_good(x, rows[i].name);
        check_memory(x, 400 * 1024, rows[i].name);
        if (!strstr(rows[i].log, "goaway")) {
            h2_send(&x->bad, "headers.eh 5 GET:/");
            wait_for(&x->bad, "data 5 5 end hello\n", rows[i].name);
        }
        free(block.data);
        bad_close(x);
    }
}

SIEGE_TEST(h2_hostile, trailers_that_are_too_large_fail_the_body)
{
    h2_bytes block = {0};
    static char value[20000];
    memset(value, 'v', sizeof value);
    bad_open(x, "");
    h2_send(&x->bad, "headers.h 1 POST:/; data 1 'abc'");
    h2_put_field(&block, "x", 1, value, sizeof value);
    send_block(&x->bad, 1, &block);
    wait_for(&x->bad, "headers 1 431", "trailers");
    free(block.data);
    bad_close(x);
}

/* ---- clients that take little, or nothing ---- */

enum { STREAMS = 128 };

static void open_streams(h2_client *c, const char *request, bool is_upload)
{
    h2_bytes b = {0};
    char script[128];
    snprintf(script, sizeof script, "headers.%s # %s", is_upload ? "h" : "eh", request);
    for (uint32_t id = 1; id < 2 * STREAMS; id += 2)
        put_unit(&b, script, id);
    wire_send_n(&c->w, b.data, b.size, 0);
    settle();
    free(b.data);
}

static int count_of(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

/* All streams ask for a megabyte and open their windows by one byte: all is given up after
 * write_timeout_ms, and what waits for the client is bounded meanwhile. */
SIEGE_TEST(h2_hostile, tiny_windows_hold_up_nothing_but_themselves, .write_timeout_ms = 3000)
{
    static const struct {
        const char *request;
        size_t memory_max;
    } rows[] = {
        {"GET:/large", 1024 * 1024},          /* stays where the handler has it */
        {"GET:/pieces", STREAMS * 24 * 1024}, /* ZK__H2_OUT_BYTES_MAX each */
    };
    static const char *const settings[] = {"u16:4 u32:0", "u16:4 u32:1"};
    for (size_t i = 0; i < 2 * ROWS(rows); i++) {
        const char *why = rows[i / 2].request;
        bad_open(x, settings[i % 2]);
        open_streams(&x->bad, why, false);
        check_good(x, why);
        wait_for(&x->bad, "headers 255 200", why);
        cr_assert_eq(handlers.now, STREAMS);
        for (int n = 0; n < 2; n++) {
            pass_ms(1000);
            check_good(x, why);
            cr_assert_eq(handlers.now, STREAMS);
        }
        check_memory(x, rows[i / 2].memory_max, why);
        for (int n = 0; n < 3; n++)
            pass_ms(1000);
        wait_for(&x->bad, "reset 255 ", why);
        cr_assert_eq(count_of(x->bad.log.text, "reset "), STREAMS, "%s", x->bad.log.text);
        cr_assert_eq(handlers.now, 0);
        h2_send(&x->bad, "window 0 u32:1; headers.eh 257 GET:/; window 257 u32:10");
        wait_for(&x->bad, "headers 257 200", why);
        bad_close(x);
    }
}

/* The same with the socket's own window: nothing is read any more. */
SIEGE_TEST(h2_hostile, clients_that_read_nothing_are_left, .write_timeout_ms = 3000)
{
    bad_open(x, "u16:4 u32:0x7fffffff");
    h2_send(&x->bad, "window 0 u32:0x7fff0000");
    open_streams(&x->bad, "GET:/large", false);
    check_good(x, "deaf");
    check_memory(x, 1024 * 1024, "deaf");
    cr_assert_gt(handlers.now, 0);
    pass_ms(3001);
    pass_ms(1001);
    check_good(x, "deaf");
    cr_assert_eq(handlers.now, 0);
    while (!x->bad.w.is_closed) {
        if (wire_pull(&x->bad.w) == -EAGAIN) settle();
        x->bad.w.size = 0;
    }
    bad_close(x);
}

/* Uploads whose handlers do not read fill their windows, the connection's, and no more; those that
 * are read leave no buffers behind. */
SIEGE_TEST(h2_hostile, uploads_are_held_within_the_windows)
{
    static const struct {
        const char *request;
        size_t memory_max;
    } rows[] = {
        {"POST:/sleeps", 4 * 1024 * 1024},
        {"POST:/", STREAMS * 48 * 1024},
    };
    static char zeros[16000];
    for (size_t i = 0; i < ROWS(rows); i++) {
        const char *why = rows[i].request;
        bad_open(x, "");
        wait_for(&x->bad, H2_WINDOW, why);
        open_streams(&x->bad, why, true);
        size_t room = 1024 * 1024;
        for (uint32_t id = 1; id < 2 * STREAMS; id += 2) {
            h2_bytes b = {0};
            size_t total = 0;
            for (; total < 256 * 1024 - sizeof zeros && room >= sizeof zeros;
                 total += sizeof zeros) {
                h2_put_frame(&b, 0, 0, id, zeros, sizeof zeros);
                room -= sizeof zeros;
            }
            wire_send_n(&x->bad.w, b.data, b.size, 0);
            free(b.data);
            settle();
            while (!x->bad.w.is_closed && wire_pull(&x->bad.w) != -EAGAIN)
                continue;
            x->bad.log.size = 0;
            h2_say(&x->bad.log, "%s", "");
            h2_log_received(&x->bad);
            const char *at = x->bad.log.text;
            cr_assert(!strstr(at, "goaway"), "%s", at);
            unsigned more;
            for (; (at = strstr(at, "window 0 ")); at++) {
                cr_assert_eq(sscanf(at, "window 0 %u", &more), 1);
                room += more;
            }
            if (room > 1024 * 1024) room = 1024 * 1024;
            if (id % 16 == 1) check_good(x, why);
        }
        check_memory(x, rows[i].memory_max, why);
        bad_close(x);
        pass_ms(1001);
        cr_assert_eq(handlers.now, 0);
    }
}

/* ---- what never comes to its end ---- */

/* A hundred clients, each in the middle of something, a byte a second. */
SIEGE_TEST(h2_hostile, dripping_clients_are_ended_by_the_time_a_head_may_take)
{
    enum { CLIENTS = 100 };
    static h2_client crowd[CLIENTS];
    static const struct {
        const char *name, *drip, *log;
        size_t drip_at;
        bool is_open;
    } rows[] = {
        {"the preface", H2_PREFACE, NULL, 0, false},
        {"the first SETTINGS", H2_PREFACE "\0\0\6\4\0\0\0\0\0\0\0\0\0\0\0", NULL, 24, false},
        {"the head of a frame", "\0\0\6\4\0\0\0\0\0\0\0\0\0\0\0", CALM, 0, true},
        {"a header block", "\0\0\1\1\1\0\0\0\1\x82\0\0\1\x9\0\0\0\0\1\x84", CALM, 10, true},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t at = rows[i].drip_at;
        x->memory_before = memory.peak = memory.live;
        for (int n = 0; n < CLIENTS; n++) {
            client_open(&crowd[n], &x->s);
            if (rows[i].is_open) h2_greet(&crowd[n], "");
            wire_send_n(&crowd[n].w, rows[i].drip, at, 0);
        }
        for (int second = 0; second < 9; second++) {
            for (int n = 0; n < CLIENTS; n++)
                wire_send_n(&crowd[n].w, rows[i].drip + at, 1, 0);
            at++;
            pass_ms(1000);
            check_good(x, rows[i].name);
        }
        check_memory(x, CLIENTS * 48 * 1024, rows[i].name);
        pass_ms(1001);
        pass_ms(1001);
        for (int n = 0; n < CLIENTS; n++) {
            if (rows[i].log) wait_for(&crowd[n], rows[i].log, rows[i].name);
            for (int turns = 0; !crowd[n].w.is_closed && turns < 1000; turns++) {
                if (wire_pull(&crowd[n].w) == -EAGAIN) settle();
            }
            cr_assert(crowd[n].w.is_closed, "%s: still open", rows[i].name);
            h2_close(&crowd[n]);
        }
    }
}

/* ---- what is sent behind an error ---- */

/* Bytes that are there unread when a socket closes make its end a reset, which may overtake the
 * GOAWAY. */
SIEGE_TEST(h2_hostile, who_is_refused_reads_why_and_an_orderly_end)
{
    enum { BEHIND_BYTES = 400 * 1000 };
    static char behind[BEHIND_BYTES], text[1024];
    static const char wrong[] = "\0\0\1\6\0\0\0\0\0\0"; /* a PING of one byte */
    memset(behind, -1, sizeof behind);                  /* zeros would be a flood of empty frames */
    bad_open(x, "");
    zk_stream *stream = x->bad.w.stream;
    cr_assert_eq(zk_stream_try_write(stream, wrong, sizeof wrong - 1), (ssize_t)sizeof wrong - 1);
    size_t sent = 0;
    for (int idle = 0; sent < BEHIND_BYTES && idle < 100;) {
        ssize_t n = zk_stream_try_write(stream, behind + sent, BEHIND_BYTES - sent);
        if (n == -EAGAIN) {
            settle();
            idle++;
            continue;
        }
        cr_assert_gt(n, 0, "after %zu bytes: %s", sent, zk_strerror((int)n));
        sent += (size_t)n;
    }
    cr_assert_eq(sent, (size_t)BEHIND_BYTES);
    settle();
    cr_assert_ok(zk_stream_shutdown(stream));
    wait_for(&x->bad, "goaway 0 FRAME_SIZE_ERROR\n", "a wrong frame");
    cr_assert_eq(zk_stream_read(stream, text, sizeof text), 0);
    bad_close(x);
}
