/*
 * Negotiating permessage-deflate (RFC 7692 section 7.1): offers, answers, and what they come to.
 */
#ifndef ZOKIO_WS_EXTENSION_H
#define ZOKIO_WS_EXTENSION_H

#include <zokio/ws.h>

/* What was agreed on, from the view of one side. */
typedef struct zk__ws_agreed {
    bool is_on;
    bool keeps_out, keeps_in; /* the window, from message to message */
    uint8_t out_bits;         /* of our window, 9..15 */
    uint8_t in_bits;          /* of the peer's, at most; 8..15 */
} zk__ws_agreed;

enum { ZK__WS_EXTENSION_BYTES = 160 };

/*
 * Chooses among a client's offers (the values of Sec-WebSocket-Extensions, one by one, as long as
 * none was taken). returns whether one was; *ret_agreed is what it comes to, and `answer` what is
 * to be said.
 */
bool zk__ws_offer_choose(zk_str offers, const zk_ws_deflate *own, zk__ws_agreed *ret_agreed,
                         char answer[ZK__WS_EXTENSION_BYTES]);

/* Writes a client's offer. */
void zk__ws_offer_write(const zk_ws_deflate *own, char offer[ZK__WS_EXTENSION_BYTES]);

/* Whether a server's answer agrees with that offer, and what it comes to. */
bool zk__ws_answer_take(zk_str answer, const zk_ws_deflate *own, zk__ws_agreed *ret_agreed);

#endif
