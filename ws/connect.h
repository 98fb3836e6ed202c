/*
 * The client's handshake: what its ways over HTTP/1.1 and HTTP/2 share.
 */
#ifndef ZOKIO_WS_CONNECT_H
#define ZOKIO_WS_CONNECT_H

#include "http/h1_response.h"
#include "ws/connection.h"
#include "ws/handshake.h"

typedef struct zk__ws_connecting {
    const zk_url *url;
    const zk_ws_options *options;
    zk_ws *ws;
    zk_stream *stream; /* NULL: none yet */
    zk_arena arena;
    zk_field *fields; /* of the request, but for those that only HTTP/1.1 has */
    size_t field_count;
    char key[ZK__WS_KEY_BYTES];
} zk__ws_connecting;

/* Takes from an answer what both sides agree on. returns 0; ZK_E_WS_HANDSHAKE, -ENOMEM. */
int zk__ws_answer_agree(zk__ws_connecting *c, const zk__h1_answer *answer);

/*
 * Connects by options->client: if the server speaks HTTP/2, by extended CONNECT (RFC 8441), and the
 * handshake is over; else c->stream is a connection for HTTP/1.1.
 * returns 1: it is over; 0; as zk_ws_connect.
 */
int zk__ws_reach(zk__ws_connecting *c);

#endif
