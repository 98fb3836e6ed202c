/*
 * permessage-deflate: see deflate.h.
 *
 * A window (z_stream) is 256 KiB for compressing and 40 KiB for inflating, so one is kept with a
 * connection only where both sides have agreed to carry it from message to message. Else it is
 * taken from the worker's pool for the time of a message.
 */
#include "ws/deflate.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "core/worker.h"
#include "ws/connection.h"

enum { KEPT = 4, MEMORY_LEVEL = 8, LEVEL = 6, BYTES_MIN = 64, OUT_FIRST = 1024 };

/* What ends each message, and is not sent (RFC 7692 section 7.2.1). */
static const char tail[4] = {0, 0, (char)0xFF, (char)0xFF};

typedef struct zk__ws_window {
    struct zk__ws_window *next;
    z_stream z;
    int level, bits; /* of one that compresses */
} window;

typedef struct windows {
    window *out, *in;
    int out_count, in_count;
} windows;

/* ---- windows ---- */

static void *z_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return zk_alloc((size_t)count * size);
}

static void z_free(void *context, void *memory)
{
    (void)context;
    zk_free(memory);
}

static windows *pool_get(void)
{
    void **place = zk__ws_deflate_pool();
    if (place && !*place) *place = zk_alloc_zeroed(sizeof(windows));
    return place ? *place : NULL;
}

static window *window_new(void)
{
    window *w = zk_alloc_zeroed(sizeof *w);
    if (!w) return NULL;
    w->z.zalloc = z_alloc;
    w->z.zfree = z_free;
    return w;
}

/* What zlib did not take is not kept. */
static window *window_made(window *w, int rc)
{
    if (rc == Z_OK) return w;
    zk_free(w);
    return NULL;
}

static window *out_new(int level, int bits)
{
    window *w = window_new();
    if (!w) return NULL;
    w->level = level;
    w->bits = bits;
    return window_made(
        w, deflateInit2(&w->z, level, Z_DEFLATED, -bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY));
}

static window *in_new(void)
{
    window *w = window_new();
    /* The largest reads what was written with any. */
    return w ? window_made(w, inflateInit2(&w->z, -15)) : NULL;
}

static void window_free(window *w, int (*end)(z_stream *))
{
    if (w) (void)end(&w->z);
    zk_free(w);
}

static void out_free(window *w) { window_free(w, deflateEnd); }
static void in_free(window *w) { window_free(w, inflateEnd); }

static window *out_take(const zk__ws_deflate *d)
{
    windows *pool = pool_get();
    for (window **link = pool ? &pool->out : NULL; link && *link; link = &(*link)->next) {
        window *w = *link;
        if (w->level != d->level || w->bits != d->agreed.out_bits) continue;
        *link = w->next;
        pool->out_count--;
        return w;
    }
    return out_new(d->level, d->agreed.out_bits);
}

static void out_give(window *w)
{
    windows *pool = pool_get();
    if (!pool || pool->out_count == KEPT || deflateReset(&w->z) != Z_OK) {
        out_free(w);
        return;
    }
    w->next = pool->out;
    pool->out = w;
    pool->out_count++;
}

static window *in_take(void)
{
    windows *pool = pool_get();
    window *w = pool ? pool->in : NULL;
    if (!w) return in_new();
    pool->in = w->next;
    pool->in_count--;
    return w;
}

static void in_give(window *w)
{
    windows *pool = pool_get();
    if (!pool || pool->in_count == KEPT || inflateReset(&w->z) != Z_OK) {
        in_free(w);
        return;
    }
    w->next = pool->in;
    pool->in = w;
    pool->in_count++;
}

void zk__ws_deflate_pool_free(void *memory)
{
    windows *pool = memory;
    for (window *w = pool ? pool->out : NULL, *next; w; w = next) {
        next = w->next;
        out_free(w);
    }
    for (window *w = pool ? pool->in : NULL, *next; w; w = next) {
        next = w->next;
        in_free(w);
    }
    zk_free(pool);
}

/* ---- a connection's ---- */

zk__ws_deflate *zk__ws_deflate_new(const zk__ws_agreed *agreed, const zk_ws_deflate *own)
{
    zk__ws_deflate *d = zk_alloc_zeroed(sizeof *d);
    if (!d) return NULL;
    d->agreed = *agreed;
    d->level = own->level >= 1 && own->level <= 9 ? own->level : LEVEL;
    d->bytes_min = own->bytes_min ? own->bytes_min : BYTES_MIN;
    d->tail_left = sizeof tail;
    return d;
}

void zk__ws_deflate_free(zk__ws_deflate *d)
{
    if (!d) return;
    out_free(d->out);
    in_free(d->in);
    zk_free(d);
}

bool zk__ws_deflate_wants(const zk__ws_deflate *d, size_t size) { return size >= d->bytes_min; }

/* ---- out ---- */

static int compress_to(window *w, const void *data, size_t size, zk__ws_bytes *out)
{
    const char *at = data;
    w->z.avail_in = 0;
    do {
        if (!w->z.avail_in) {
            /* zlib counts in unsigned. */
            size_t part = size < (1u << 30) ? size : 1u << 30;
            w->z.next_in = (unsigned char *)(uintptr_t)at;
            w->z.avail_in = (unsigned)part;
            at += part;
            size -= part;
        }
        int rc = zk__ws_bytes_reserve(out, OUT_FIRST, UINT64_MAX);
        if (rc < 0) return rc;
        size_t room = out->capacity - out->size;
        if (room > 1u << 30) room = 1u << 30;
        w->z.next_out = (unsigned char *)out->data + out->size;
        w->z.avail_out = (unsigned)room;
        if (deflate(&w->z, size ? Z_NO_FLUSH : Z_SYNC_FLUSH) == Z_STREAM_ERROR) return -ENOMEM;
        out->size += room - w->z.avail_out;
    } while (size || w->z.avail_in || !w->z.avail_out);
    return 0;
}

int zk__ws_compress(zk__ws_deflate *d, const void *data, size_t size, zk__ws_bytes *out)
{
    window *w = d->out ? d->out : out_take(d);
    if (!w) return -ENOMEM;
    size_t begin = out->size;
    int rc = compress_to(w, data, size, out);
    bool is_kept = d->agreed.keeps_out && rc >= 0;
    d->out = is_kept ? w : NULL;
    if (!is_kept) out_give(w);
    if (rc < 0) return rc;
    size_t made = out->size - begin;
    if (made >= sizeof tail && !memcmp(out->data + out->size - sizeof tail, tail, sizeof tail)) {
        out->size -= sizeof tail;
        made -= sizeof tail;
    }
    /* A window that is kept has the message in it: the peer's must have it as well. */
    return is_kept || made < size;
}

void zk__ws_compress_drop(zk__ws_deflate *d)
{
    if (d->out) out_give(d->out);
    d->out = NULL;
}

/* ---- in ---- */

void zk__ws_inflate_drop(zk__ws_deflate *d)
{
    if (d->in && !d->agreed.keeps_in) {
        in_give(d->in);
        d->in = NULL;
    }
    d->tail_left = sizeof tail;
}

/* One step over some input. returns 0, an error. */
static int step(z_stream *z, const char **data, size_t *size, char **out, size_t *room)
{
    unsigned in = *size < 1u << 30 ? (unsigned)*size : 1u << 30;
    unsigned space = *room < 1u << 30 ? (unsigned)*room : 1u << 30;
    z->next_in = (unsigned char *)(uintptr_t)*data;
    z->avail_in = in;
    z->next_out = (unsigned char *)*out;
    z->avail_out = space;
    int rc = inflate(z, Z_SYNC_FLUSH);
    *data += in - z->avail_in;
    *size -= in - z->avail_in;
    *out += space - z->avail_out;
    *room -= space - z->avail_out;
    /* A final block may be followed by others (RFC 7692 section 7.2.3.4). */
    if (rc == Z_STREAM_END) rc = inflateReset(z);
    if (rc == Z_OK || rc == Z_BUF_ERROR) return 0;
    return rc == Z_MEM_ERROR ? -ENOMEM : ZK_E_WS_DEFLATE;
}

int zk__ws_inflate(zk__ws_deflate *d, const char **data, size_t *size, bool is_last, char *out,
                   size_t *room)
{
    if (!d->in && !(d->in = in_take())) return -ENOMEM;
    while (*size && *room) {
        int rc = step(&d->in->z, data, size, &out, room);
        if (rc < 0) return rc;
    }
    if (*size || !is_last) return 0;
    while (d->tail_left) {
        const char *at = tail + sizeof tail - d->tail_left;
        size_t left = d->tail_left;
        int rc = step(&d->in->z, &at, &left, &out, room);
        if (rc < 0) return rc;
        if (left == d->tail_left) return 0; /* no room */
        d->tail_left = (uint8_t)left;
    }
    /* What zlib has inside still wants room. */
    const char *none = tail;
    size_t nothing = 0;
    if (!*room) return 0;
    int rc = step(&d->in->z, &none, &nothing, &out, room);
    if (rc < 0) return rc;
    if (!*room) return 0;
    zk__ws_inflate_drop(d);
    return 1;
}
