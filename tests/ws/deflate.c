/*
 * Compressed messages on a wire: the examples of RFC 7692 section 7.2.3, what is malformed, and
 * bombs. Frames are in hex, with a key of zeros.
 */
#include "tests/ws/talk.h"

#include <zlib.h>

static const zk_ws_deflate keeping = {.keeps_server_context = true, .keeps_client_context = true};
static const zk_ws_deflate lending = {0};
static zk_ws_options options = {
    .message_bytes_max = 131072,
    .stream_bytes_max = 131072,
    .deflate = &keeping,
};

static __attribute__((constructor)) void options_begin(void) { echo_options = &options; }

#define OFFER "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
#define HELLO "=c18700000000f248cdc9c90700"

static const talk_row rows[] = {
    {"Hello", HELLO, "T:Hello", false},
    {"in two frames", "=418300000000f248cd =808400000000c9c90700", "T:Hello", false},
    {"with a ping between", "=418300000000f248cd P:q =808400000000c9c90700", "O:q T:Hello", false},
    {"a block that is not compressed", "=c18b00000000000500faff48656c6c6f00", "T:Hello", false},
    {"a final block", "=c18800000000f348cdc9c9070000", "T:Hello", false},
    {"two blocks", "=c18d00000000f24805000000ffffcac9c90700", "T:Hello", false},
    {"an empty message", "=c1810000000000", "T:", false},
    {"an empty binary one", "=c2810000000000", "B:", false},
    {"binary", "=c28700000000f248cdc9c90700", "B:Hello", false},
    {"several", HELLO " T:plain " HELLO, "T:Hello T:plain T:Hello", false},
    {"a plain one beside it", "T:a", "T:a", false},
    {"plain fragments", "t:a C:b", "T:ab", false},
    {"no such block", "=c18100000000ff", "X:1007", true},
    {"lengths of a block that do not agree", "=c18600000000000500ffff48", "X:1007", true},
    {"a distance beyond the start", "=c18300000000020e00", "X:1007", true},
    {"bytes that mean nothing", "=c18700000000ffffffffffffff", "X:1007", true},
    {"the bit on a continuation", "=418300000000f248cd =c08400000000c9c90700", "X:1002", true},
    {"the bit on a ping", "=c98000000000", "X:1002", true},
    {"the bit on a close", "=c88000000000", "X:1002", true},
    {"another bit beside it", "=e18700000000f248cdc9c90700", "X:1002", true},
};

/* With the window kept, what follows may refer to what was before. */
static const talk_row kept[] = {
    {"the same once more", HELLO " =c18500000000f200110000", "T:Hello T:Hello", false},
    {"and again", HELLO " =c18500000000f200110000 =c18500000000f200110000",
     "T:Hello T:Hello T:Hello", false},
};

static void run_rows(fixture *f, const char *path, const talk_row *at, size_t count, size_t piece)
{
    char request[512];
    snprintf(request, sizeof request, ASK("%s") OFFER, path);
    for (const talk_row *row = at; row < at + count; row++) {
        wire w;
        talk_open(&w, f, request);
        talk_send(&w, row->in, piece);
        talk_expect(&w, row->out, row->name);
        cr_assert(w.is_closed == row->is_closed, "%s", row->name);
        wire_close(&w);
        settle();
    }
}

#define ON_ALL(name, ...)                                                                          \
    ZK_HTTP_TEST(ws_deflate, name##_in_a_loop, .routes = echo_routes)                              \
    {                                                                                              \
        static const char path[] = "/loop";                                                        \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    ZK_HTTP_TEST(ws_deflate, name##_parked, .routes = echo_routes)                                 \
    {                                                                                              \
        static const char path[] = "/parked";                                                      \
        __VA_ARGS__;                                                                               \
    }

ON_ALL(rows_whole, run_rows(f, path, rows, ROWS(rows), 0))
ON_ALL(rows_byte_by_byte, run_rows(f, path, rows, ROWS(rows), 1))
ON_ALL(rows_with_a_window, run_rows(f, path, kept, ROWS(kept), 0))
ON_ALL(rows_from_the_pool, options.deflate = &lending; run_rows(f, path, rows, ROWS(rows), 0))

/* What is wrong is found in pieces as well; what was right before it has been echoed by then. */
ZK_HTTP_TEST(ws_deflate, rows_in_pieces, .routes = echo_routes)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        if (!strstr(rows[i].out, "1007") && i != 2) run_rows(f, "/pieces", &rows[i], 1, 0);
    }
    run_rows(f, "/pieces", kept, ROWS(kept), 0);
}

/* Without having been agreed on, it is a reserved bit. */
ZK_HTTP_TEST(ws_deflate, it_has_to_be_agreed_on, .routes = echo_routes)
{
    static const talk_row row = {"Hello", HELLO, "X:1002", true};
    talk_rows(f, "/loop", &row, 1, 0);
}

/* ---- from zlib ---- */

/* A frame with what zlib makes of so many bytes. */
static bytes compressed(const char *data, size_t size, bool is_text)
{
    z_stream z = {0};
    bytes out = {0};
    size_t bound = size + 1000;
    char *buf = malloc(bound);
    cr_assert(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (unsigned)size;
    z.next_out = (unsigned char *)buf;
    z.avail_out = (unsigned)bound;
    deflate(&z, Z_SYNC_FLUSH);
    frame_add(&out, is_text ? 0xC1 : 0xC2, buf, bound - z.avail_out - 4, true);
    deflateEnd(&z);
    free(buf);
    return out;
}

static void send_filled(fixture *f, const char *path, size_t size, char fill, bool is_text,
                        const char *wanted)
{
    char request[512];
    wire w;
    char *data = malloc(size + 1);
    memset(data, fill, size + 1);
    bytes frame = compressed(data, size, is_text);
    snprintf(request, sizeof request, ASK("%s") OFFER, path);
    talk_open(&w, f, request);
    wire_send_n(&w, frame.data, frame.size, 0);
    settle();
    char *out = talk_take(&w, true);
    if (strchr(out, ',')) *strchr(out, ',') = '\0';
    if (!strncmp(out, " Z:", 3)) out[3] = '\0';
    cr_assert_str_eq(out, wanted, "%zu: %.100s", size, out);
    free(out);
    wire_close(&w);
    settle();
    free(frame.data);
    free(data);
}

/* A message may become as large as is allowed, and no larger, however small it was. */
ON_ALL(bombs, {
    send_filled(f, path, 131072, 'a', true, " Z:");
    send_filled(f, path, 131072, '\0', false, " Z:");
    send_filled(f, path, 131073, 'a', true, " X:1009");
    send_filled(f, path, 131073, '\0', false, " X:1009");
    send_filled(f, path, 10000000, 'a', true, " X:1009");
    send_filled(f, path, 16383, 'a', true, " Z:");
    send_filled(f, path, 16384, 'a', true, " Z:");
    send_filled(f, path, 16385, 'a', true, " Z:");
    send_filled(f, path, 65536, '\xc3', true, " X:1007");
    send_filled(f, path, 100, '\x80', true, " X:1007");
})
