/*
 * The keys by which the two sides of a WebSocket's handshake know each other (RFC 6455 section 4).
 * A proxy needs them, too, where one of its sides has none (RFC 8441).
 */
#ifndef ZOKIO_HTTP_WEBSOCKET_KEY_H
#define ZOKIO_HTTP_WEBSOCKET_KEY_H

#include <zokio/http.h>

enum { ZK__WS_KEY_BYTES = 24, ZK__WS_ACCEPT_BYTES = 28 };

/* The answer to a Sec-WebSocket-Key. */
void zk__ws_accept_key(const char key[ZK__WS_KEY_BYTES], char accept[ZK__WS_ACCEPT_BYTES]);

/* A key of 16 bytes, in base64. */
void zk__ws_key_encode(const uint8_t bytes[16], char key[ZK__WS_KEY_BYTES]);
/* Whether it is one. */
bool zk__ws_key_is_valid(zk_str key);

#endif
