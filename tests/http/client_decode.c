/*
 * Compressed answers: decoded on the way, whole or in pieces, within the limits, and never believed
 * to be whole when they are not.
 */
#include "tests/http/fixture.h"

#include <zlib.h>
#include <zokio/client.h>

#if ZK__ZSTD
#include <zstd.h>
#endif

enum { TEXT_BYTES = 300 * 1000 };
static char text[TEXT_BYTES];
static unsigned char packed[TEXT_BYTES];
static size_t packed_size;
static const char *coding;
static bool is_chunked;

enum { WITH_ZSTD = 100 };

static void pack_zstd(void)
{
#if ZK__ZSTD
    ZSTD_CCtx *z = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    packed_size = ZSTD_compress2(z, packed, sizeof packed, text, TEXT_BYTES);
    cr_assert(!ZSTD_isError(packed_size));
    ZSTD_freeCCtx(z);
#endif
}

/* window: as inflateInit2 has it, or WITH_ZSTD. */
static void pack(int window)
{
    for (size_t i = 0; i < TEXT_BYTES; i++)
        text[i] = "The quick brown fox jumps over the lazy dog. "[i * i / 7 % 45];
    if (window == WITH_ZSTD) {
        pack_zstd();
        return;
    }
    z_stream z = {.next_in = (unsigned char *)text,
                  .avail_in = TEXT_BYTES,
                  .next_out = packed,
                  .avail_out = sizeof packed};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed_size = sizeof packed - z.avail_out;
    deflateEnd(&z);
}

static int serve_packed(zk_request *req, zk_response *res)
{
    if (!zk_request_header(req, "accept-encoding").data) return zk_respond_text(res, 200, "plain");
    cr_assert_ok(zk_response_header(res, "Content-Encoding", coding));
    if (!is_chunked) return zk_respond(res, 200, "text/plain", packed, packed_size);
    int rc = zk_response_begin(res, 200, "text/plain", ZK_LENGTH_UNKNOWN);
    for (size_t at = 0; at < packed_size && !rc; at += 777) {
        rc = zk_response_write(res, packed + at, packed_size - at < 777 ? packed_size - at : 777);
    }
    return rc;
}

static const zk_route routes[] = {{NULL, "/", serve_packed, NULL}, {0}};

static void open_url(zk_client *c, const server *s, zk_fetch **ret)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", zk_addr_port(&s->addr));
    cr_assert_ok(zk_fetch_open(c, &(zk_fetch_options){.url = url}, ret));
}

#define DECODE_TEST(name, ...)                                                                     \
    static void decode_test_##name(server *s, zk_client *c);                                       \
    ZK_ASYNC_TEST(client_decode, name)                                                             \
    {                                                                                              \
        ZK_SCOPE(scope) {                                                                          \
            server s;                                                                              \
            zk_client *c;                                                                          \
            server_start(&s, &scope, &(zk_server){.routes = routes});                              \
            cr_assert_ok(zk_client_new(&(zk_client_options){__VA_ARGS__}, &c));                    \
            decode_test_##name(&s, c);                                                             \
            zk_client_free(c);                                                                     \
            server_stop(&s);                                                                       \
        }                                                                                          \
    }                                                                                              \
    static void decode_test_##name(server *s, zk_client *c)

/* Each coding gives the text back, in each framing, whole and piece by piece. */
DECODE_TEST(gives_the_text_back)
{
    static const struct {
        const char *coding;
        int window;
    } rows[] = {
        {"gzip", 31}, {"X-GZIP", 31}, {"deflate", 15}, {"deflate", -15}, {"zstd", WITH_ZSTD}};
    for (size_t i = 0; i < 2 * ROWS(rows); i++) {
        if (!ZK__ZSTD && rows[i / 2].window == WITH_ZSTD) continue;
        coding = rows[i / 2].coding;
        is_chunked = i % 2;
        pack(rows[i / 2].window);
        zk_fetch *f;
        zk_str body;
        open_url(c, s, &f);
        cr_expect_eq(zk_fetch_length(f), -1);
        cr_assert_ok(zk_fetch_body(f, &body));
        cr_expect(body.size == TEXT_BYTES && !memcmp(body.data, text, TEXT_BYTES), "row %zu", i);
        zk_fetch_close(f);
        open_url(c, s, &f);
        char piece[1000];
        size_t at = 0;
        for (ssize_t n; (n = zk_fetch_read(f, piece, sizeof piece)) != 0; at += (size_t)n) {
            cr_assert_ok(n);
            cr_assert(!memcmp(piece, text + at, (size_t)n), "row %zu at %zu", i, at);
        }
        cr_expect_eq(at, (size_t)TEXT_BYTES);
        zk_fetch_close(f);
    }
}

/* What is cut off, damaged or followed by something else is an error. */
DECODE_TEST(notices_what_is_not_whole)
{
    is_chunked = false;
    zk_str body;
    zk_fetch *f;
    for (int k = 0; k < (ZK__ZSTD ? 8 : 4); k++) {
        int i = k % 4;
        coding = k < 4 ? "gzip" : "zstd";
        pack(k < 4 ? 31 : WITH_ZSTD);
        if (i == 0) packed_size -= 1;
        if (i == 1) packed[packed_size / 2] ^= 1;
        if (i == 2) packed[packed_size++] = 'x';
        if (i == 3) packed[0] = 'x';
        open_url(c, s, &f);
        cr_assert_rc(zk_fetch_body(f, &body), ZK_E_HTTP_CODING, "row %d", i);
        zk_fetch_close(f);
    }
    packed_size = 0;
    open_url(c, s, &f);
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_eq(body.size, 0u, "nothing at all is an empty body");
    zk_fetch_close(f);
}

#if ZK__BROTLI
/* There is no encoder here: these bytes are from Node's zlib.brotliCompressSync. */
DECODE_TEST(takes_brotli)
{
    static const char wanted[] = "hello, hello, hello, brotli";
    static const unsigned char bytes[] = {
        0x1b, 0x1a, 0x00, 0xf8, 0x8d, 0x94, 0x6e, 0xde, 0x44, 0x09, 0x52, 0x86, 0xd6, 0x6c, 0x2c,
        0x69, 0x6f, 0xd3, 0x10, 0x49, 0xe4, 0xa9, 0x04, 0x5c, 0x3a, 0xc7, 0x43, 0x8b, 0x66};
    zk_str body;
    zk_fetch *f;
    coding = "br";
    for (int i = 0; i < 3; i++) {
        is_chunked = i == 1;
        packed_size = sizeof bytes - (i == 2);
        memcpy(packed, bytes, packed_size);
        open_url(c, s, &f);
        cr_assert_rc(zk_fetch_body(f, &body), i == 2 ? ZK_E_HTTP_CODING : 0, "row %d", i);
        if (i < 2) cr_assert_str_eq(body.data, wanted);
        zk_fetch_close(f);
    }
}
#endif

/* Two members one behind the other are one text. */
DECODE_TEST(takes_several_members)
{
    for (int i = 0; i < 1 + ZK__ZSTD; i++) {
        coding = i ? "zstd" : "gzip";
        pack(i ? WITH_ZSTD : 31);
        memcpy(packed + packed_size, packed, packed_size);
        packed_size *= 2;
        zk_fetch *f;
        zk_str body;
        open_url(c, s, &f);
        cr_assert_ok(zk_fetch_body(f, &body));
        cr_expect_eq(body.size, 2 * (size_t)TEXT_BYTES);
        zk_fetch_close(f);
    }
}

/* The limit is on what it becomes. */
DECODE_TEST(limits_what_it_becomes, .body_bytes_max = TEXT_BYTES - 1)
{
    for (int i = 0; i < 1 + ZK__ZSTD; i++) {
        coding = i ? "zstd" : "gzip";
        pack(i ? WITH_ZSTD : 31);
        zk_fetch *f;
        zk_str body;
        open_url(c, s, &f);
        cr_assert_rc(zk_fetch_body(f, &body), ZK_E_HTTP_BODY_TOO_LARGE);
        zk_fetch_close(f);
    }
}

/* A window larger than RFC 9659 allows is refused, whatever it would take to decode it. */
DECODE_TEST(refuses_large_windows)
{
    static const unsigned char head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70, 1, 0, 0};
    coding = "zstd";
    is_chunked = false;
    memcpy(packed, head, sizeof head); /* 2^24 bytes, and an empty block */
    packed_size = sizeof head;
    zk_fetch *f;
    zk_str body;
    open_url(c, s, &f);
    int rc = zk_fetch_body(f, &body);
    cr_expect_eq(rc, ZK__ZSTD ? ZK_E_HTTP_CODING : 0);
    zk_fetch_close(f);
}

/* What is not known is left as it is, and who does not want it gets it plain. */
DECODE_TEST(leaves_the_rest_alone)
{
    coding = "other";
    pack(31);
    zk_fetch *f;
    zk_str body;
    open_url(c, s, &f);
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_eq(body.size, packed_size);
    zk_fetch_close(f);
    zk_client *plain;
    cr_assert_ok(zk_client_new(&(zk_client_options){.no_decoding = true}, &plain));
    open_url(plain, s, &f);
    cr_assert_ok(zk_fetch_body(f, &body));
    cr_expect_str_eq(body.data, "plain");
    zk_fetch_close(f);
    zk_client_free(plain);
}
