/*
 * What a worker keeps for its WebSockets: receive buffers that are not in use, the limits that many
 * sockets have in common, random bytes, and what compressing needs for a while.
 */
#ifndef ZOKIO_WS_POOL_H
#define ZOKIO_WS_POOL_H

#include "ws/connection.h"

enum { ZK__WS_IN_BYTES = 16 * 1024 }; /* of a buffer at first */

/* A receive buffer: see receive.c. */
struct zk__ws_in {
    zk__ws_in *next; /* in the worker's pool */
    size_t capacity;
    size_t message, message_end; /* the message so far */
    size_t begin, end;
    bool has_message; /* some of it has come */
    char data[];
};

/* One as large as any that were given back last; what is in it is not cleared. returns NULL: no
 * memory. */
zk__ws_in *zk__ws_in_take(void);
void zk__ws_in_give(zk__ws_in *in);

#endif
