/*
 * What both sides' handshakes need (RFC 6455 section 4).
 */
#ifndef ZOKIO_WS_HANDSHAKE_H
#define ZOKIO_WS_HANDSHAKE_H

#include "http/websocket_key.h"

/* The next of a comma-separated list, without white space around it; *list is what is left.
 * returns false at the end. */
bool zk__ws_list_next(zk_str *list, zk_str *ret);

/* Whether the list has this word, whatever its case. */
bool zk__ws_list_has(zk_str list, const char *word);

#endif
