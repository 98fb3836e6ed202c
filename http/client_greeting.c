/*
 * Greetings, see client_greeting.h.
 */
#include "http/client_greeting.h"

#include <errno.h>
#include <string.h>

#include <zokio/alloc.h>

bool zk__greeting_make(zk__greeting *greeting, int version, const zk_stream *client)
{
    zk_addr from, to;
    if (zk_stream_peer(client, &from) < 0 || zk_stream_local(client, &to) < 0) return false;
    greeting->size = zk__proxy_header_write(version, &from, &to, greeting->bytes);
    return true;
}

int zk__greeting_send(int version, const zk__greeting *greeting, zk_stream *stream,
                      zk__greeting **ret_own)
{
    zk__greeting *own = NULL;
    if (!greeting) {
        char bytes[ZK__PROXY_HEADER_BYTES];
        return zk_stream_write(stream, bytes, zk__proxy_header_write(version, NULL, NULL, bytes));
    }
    own = zk_alloc(sizeof *own);
    if (!own) return -ENOMEM;
    memcpy(own, greeting, offsetof(zk__greeting, bytes) + greeting->size);
    int rc = zk_stream_write(stream, own->bytes, own->size);
    if (rc < 0) {
        zk_free(own);
    } else {
        *ret_own = own;
    }
    return rc;
}

bool zk__greeting_equal(const zk__greeting *a, const zk__greeting *b)
{
    if (!a || !b) return a == b;
    return a->size == b->size && !memcmp(a->bytes, b->bytes, a->size);
}
