/*
 * Compressing and inflating messages (RFC 7692 section 7.2), with zlib. Windows that are not kept
 * from message to message come from the worker's pool.
 */
#ifndef ZOKIO_WS_DEFLATE_H
#define ZOKIO_WS_DEFLATE_H

#include "ws/extension.h"

/* What a socket has of it. */
typedef struct zk__ws_deflate {
    zk__ws_agreed agreed;
    int level;
    size_t bytes_min;
    struct zk__ws_window *out, *in; /* NULL: in the pool */
    uint8_t tail_left;              /* of the message that is being inflated */
    /* receive.c's */
    struct zk__ws_in *plain; /* the message that was inflated last; NULL: none */
    uint64_t inflated_bytes; /* of the message that is read in pieces */
} zk__ws_deflate;

/* A buffer that grows. */
typedef struct zk__ws_bytes {
    char *data;
    size_t size, capacity;
} zk__ws_bytes;

/* returns 0; ZK_E_LIMIT: more than max; -ENOMEM. */
int zk__ws_bytes_reserve(zk__ws_bytes *bytes, size_t room, uint64_t max);

#if ZK__ZLIB

/* returns NULL: no memory. */
zk__ws_deflate *zk__ws_deflate_new(const zk__ws_agreed *agreed, const zk_ws_deflate *own);
void zk__ws_deflate_free(zk__ws_deflate *deflate);

/* Whether a message of that size is to be compressed. */
bool zk__ws_deflate_wants(const zk__ws_deflate *deflate, size_t size);

/*
 * Compresses a message to the end of `out`. returns 1; 0: it is better sent as it is; -ENOMEM.
 */
int zk__ws_compress(zk__ws_deflate *deflate, const void *data, size_t size, zk__ws_bytes *out);

/* The message that was compressed last is not sent: what follows must not refer to it. */
void zk__ws_compress_drop(zk__ws_deflate *deflate);

/*
 * Inflates some of a message. *size is what there is, and becomes what was not taken; *room
 * likewise what is left of the room. is_last: the message ends with it.
 * returns 1: the message has ended; 0: more input or room is wanted; ZK_E_WS_DEFLATE, -ENOMEM.
 */
int zk__ws_inflate(zk__ws_deflate *deflate, const char **data, size_t *size, bool is_last,
                   char *out, size_t *room);

/* Gives up the message that is being inflated. */
void zk__ws_inflate_drop(zk__ws_deflate *deflate);

/* What the worker's pool has of it. */
void zk__ws_deflate_pool_free(void *pool);

#else

static inline zk__ws_deflate *zk__ws_deflate_new(const zk__ws_agreed *agreed,
                                                 const zk_ws_deflate *own)
{
    (void)agreed, (void)own;
    return NULL;
}
static inline void zk__ws_deflate_free(zk__ws_deflate *deflate) { (void)deflate; }
static inline bool zk__ws_deflate_wants(const zk__ws_deflate *deflate, size_t size)
{
    (void)deflate, (void)size;
    return false;
}
static inline int zk__ws_compress(zk__ws_deflate *deflate, const void *data, size_t size,
                                  zk__ws_bytes *out)
{
    (void)deflate, (void)data, (void)size, (void)out;
    return 0;
}
static inline int zk__ws_inflate(zk__ws_deflate *deflate, const char **data, size_t *size,
                                 bool is_last, char *out, size_t *room)
{
    (void)deflate, (void)data, (void)size, (void)is_last, (void)out, (void)room;
    return ZK_E_WS_DEFLATE;
}
static inline void zk__ws_compress_drop(zk__ws_deflate *deflate) { (void)deflate; }
static inline void zk__ws_inflate_drop(zk__ws_deflate *deflate) { (void)deflate; }
static inline void zk__ws_deflate_pool_free(void *pool) { (void)pool; }

#endif

#endif
