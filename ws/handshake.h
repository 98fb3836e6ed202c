/*
 * What both sides' handshakes need (RFC 6455 section 4).
 */
#ifndef ZOKIO_WS_HANDSHAKE_H
#define ZOKIO_WS_HANDSHAKE_H

#include <zokio/http.h>

enum { ZK__WS_KEY_BYTES = 24, ZK__WS_ACCEPT_BYTES = 28 };

/* The answer to a Sec-WebSocket-Key. */
void zk__ws_accept_key(const char key[ZK__WS_KEY_BYTES], char accept[ZK__WS_ACCEPT_BYTES]);

/* A key of 16 bytes, in base64. */
void zk__ws_key_encode(const uint8_t bytes[16], char key[ZK__WS_KEY_BYTES]);
/* Whether it is one. */
bool zk__ws_key_is_valid(zk_str key);

/* The next of a comma-separated list, without white space around it; *list is what is left.
 * returns false at the end. */
bool zk__ws_list_next(zk_str *list, zk_str *ret);

/* Whether the list has this word, whatever its case. */
bool zk__ws_list_has(zk_str list, const char *word);

#endif
