/*
 * Content codings, see client_decode.h: gzip and deflate by zlib, br by brotli, zstd by zstd.
 *
 * The state is made when the first bytes come, so that an answer without a body costs none of it.
 */
#include "http/client_decode.h"

#include <errno.h>
#include <string.h>

#include <zokio/alloc.h>
#include <zokio/error.h>

#include "http/exchange.h"

#if ZK__ZLIB
#include <zlib.h>
#endif
#if ZK__BROTLI
#include <brotli/decode.h>
#endif

#if ZK__ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

enum coding { GZIP, DEFLATE, BROTLI, ZSTD };

/* RFC 9659: what a decoder has to have, and who sends more is to blame. */
enum { ZSTD_WINDOW_LOG_MAX = 23 };

struct zk__decoder {
    enum coding coding;
    bool is_started, is_ended;
#if ZK__ZLIB
    z_stream z;
#endif
#if ZK__BROTLI
    BrotliDecoderState *br;
#endif
#if ZK__ZSTD
    ZSTD_DStream *zs;
#endif
};

const char *zk__decoder_codings(void)
{
    static const char names[] = ""
#if ZK__ZLIB
                                ", gzip, deflate"
#endif
#if ZK__BROTLI
                                ", br"
#endif
#if ZK__ZSTD
                                ", zstd"
#endif
        ;
    return sizeof names > 1 ? names + 2 : NULL;
}

static bool is(zk_str coding, const char *name)
{
    return zk__name_equal(coding, name, strlen(name));
}

int zk__decoder_new(zk_str coding, zk__decoder **ret_decoder)
{
    enum coding which;
    if (ZK__ZLIB && (is(coding, "gzip") || is(coding, "x-gzip"))) {
        which = GZIP;
    } else if (ZK__ZLIB && is(coding, "deflate")) {
        which = DEFLATE;
    } else if (ZK__BROTLI && is(coding, "br")) {
        which = BROTLI;
    } else if (ZK__ZSTD && is(coding, "zstd")) {
        which = ZSTD;
    } else {
        return 1;
    }
    zk__decoder *d = zk_alloc_zeroed(sizeof *d);
    if (!d) return -ENOMEM;
    d->coding = which;
    *ret_decoder = d;
    return 0;
}

/* ---- zlib ---- */

#if ZK__ZLIB

static void *z_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return zk_alloc((size_t)count * size);
}

static void z_free(void *context, void *ptr)
{
    (void)context;
    zk_free(ptr);
}

/* "deflate" is meant to be zlib's format, but some servers send it without its header. */
static int z_start(zk__decoder *d, zk_str in)
{
    d->z.zalloc = z_alloc;
    d->z.zfree = z_free;
    int window = 15 + 16;
    if (d->coding == DEFLATE) {
        bool is_zlib = ((unsigned char)in.data[0] & 15) == Z_DEFLATED;
        window = is_zlib ? 15 : -15;
    }
    if (inflateInit2(&d->z, window) != Z_OK) return -ENOMEM;
    d->is_started = true;
    return 0;
}

static ssize_t z_run(zk__decoder *d, zk_str *in, void *out, size_t size)
{
    int rc = Z_OK;
    d->z.next_out = out;
    d->z.avail_out = size > UINT32_MAX ? UINT32_MAX : (unsigned)size;
    size_t room = d->z.avail_out;
    do {
        /* RFC 1952 section 2.2: a file may be several members, one behind the other. */
        if (d->is_ended) {
            if (d->coding != GZIP || inflateReset(&d->z) != Z_OK) return ZK_E_HTTP_CODING;
            d->is_ended = false;
        }
        d->z.next_in = (unsigned char *)(uintptr_t)in->data;
        d->z.avail_in = in->size > UINT32_MAX ? UINT32_MAX : (unsigned)in->size;
        rc = inflate(&d->z, Z_NO_FLUSH);
        size_t used = (size_t)((const char *)d->z.next_in - in->data);
        *in = (zk_str){in->data + used, in->size - used};
        d->is_ended = rc == Z_STREAM_END;
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
            return rc == Z_MEM_ERROR ? -ENOMEM : ZK_E_HTTP_CODING;
        }
    } while (rc != Z_BUF_ERROR && in->size && d->z.avail_out);
    return (ssize_t)(room - d->z.avail_out);
}

#endif

/* ---- brotli ---- */

#if ZK__BROTLI

static void *br_alloc(void *context, size_t size)
{
    (void)context;
    return zk_alloc(size);
}

static void br_free(void *context, void *ptr)
{
    (void)context;
    zk_free(ptr);
}

static ssize_t br_run(zk__decoder *d, zk_str *in, void *out, size_t size)
{
    if (d->is_ended) return in->size ? ZK_E_HTTP_CODING : 0;
    size_t left = size, in_size = in->size;
    const uint8_t *from = (const uint8_t *)(const void *)in->data;
    uint8_t *to = out;
    BrotliDecoderResult rc =
        BrotliDecoderDecompressStream(d->br, &in_size, &from, &left, &to, NULL);
    *in = (zk_str){in->data + (in->size - in_size), in_size};
    d->is_ended = rc == BROTLI_DECODER_RESULT_SUCCESS;
    if (rc == BROTLI_DECODER_RESULT_ERROR) return ZK_E_HTTP_CODING;
    return (ssize_t)(size - left);
}

#endif

/* ---- zstd ---- */

#if ZK__ZSTD

static int zs_start(zk__decoder *d)
{
    d->zs = ZSTD_createDStream();
    if (!d->zs) return -ENOMEM;
    ZSTD_DCtx_setParameter(d->zs, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    d->is_started = true;
    return 0;
}

/* Frames may follow each other (RFC 8878 section 3.1). */
static ssize_t zs_run(zk__decoder *d, zk_str *in, void *out, size_t size)
{
    ZSTD_inBuffer from = {in->data, in->size, 0};
    ZSTD_outBuffer to = {out, size, 0};
    do {
        size_t rc = ZSTD_decompressStream(d->zs, &to, &from);
        if (ZSTD_isError(rc)) {
            bool is_poor = ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation;
            return is_poor ? -ENOMEM : ZK_E_HTTP_CODING;
        }
        d->is_ended = rc == 0;
    } while (from.pos < from.size && to.pos < to.size);
    *in = (zk_str){in->data + from.pos, in->size - from.pos};
    return (ssize_t)to.pos;
}

#endif

/* ---- all ---- */

static int start(zk__decoder *d, zk_str in)
{
    (void)d, (void)in;
#if ZK__BROTLI
    if (d->coding == BROTLI) {
        d->br = BrotliDecoderCreateInstance(br_alloc, br_free, NULL);
        d->is_started = d->br != NULL;
        return d->br ? 0 : -ENOMEM;
    }
#endif
#if ZK__ZSTD
    if (d->coding == ZSTD) return zs_start(d);
#endif
#if ZK__ZLIB
    return z_start(d, in);
#else
    return ZK_E_HTTP_CODING;
#endif
}

ssize_t zk__decoder_run(zk__decoder *d, zk_str *in, bool is_last, void *out, size_t size)
{
    (void)out, (void)size; /* without any library there is nothing to decode */
    if (!d->is_started) {
        /* An empty body is one, whatever its coding is said to be. */
        if (!in->size) return 0;
        int rc = start(d, *in);
        if (rc < 0) return rc;
    }
    ssize_t n = 0;
#if ZK__BROTLI
    if (d->coding == BROTLI) n = br_run(d, in, out, size);
#endif
#if ZK__ZLIB
    bool is_zlib = d->coding == GZIP || d->coding == DEFLATE;
    if (is_zlib && (in->size || !d->is_ended)) n = z_run(d, in, out, size);
#endif
#if ZK__ZSTD
    if (d->coding == ZSTD && (in->size || !d->is_ended)) n = zs_run(d, in, out, size);
#endif
    if (n == 0 && is_last && !(d->is_ended && !in->size)) return ZK_E_HTTP_CODING;
    return n;
}

void zk__decoder_free(zk__decoder *d)
{
    if (!d) return;
#if ZK__ZLIB
    if (d->is_started && (d->coding == GZIP || d->coding == DEFLATE)) inflateEnd(&d->z);
#endif
#if ZK__BROTLI
    if (d->br) BrotliDecoderDestroyInstance(d->br);
#endif
#if ZK__ZSTD
    ZSTD_freeDStream(d->zs);
#endif
    zk_free(d);
}
