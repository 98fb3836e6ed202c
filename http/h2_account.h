/*
 * What a client may do before it is told to calm down: see h2.h and h2_account.c.
 */
#ifndef ZOKIO_HTTP_H2_ACCOUNT_H
#define ZOKIO_HTTP_H2_ACCOUNT_H

#include <nghttp2/nghttp2.h>

#include "http/h2.h"

enum { ZK__H2_CREDIT_MAX = 1000 };

void zk__h2_account_init(zk__h2 *h2);
/* Charges for the frames that begin in these bytes. returns false if the client is to be told to
 * calm down; no more of it is listened to then. */
bool zk__h2_account(zk__h2 *h2, uint8_t *data, size_t size);
/* A frame of DATA that is all padding is an empty one. */
void zk__h2_padding_seen(zk__h2 *h2, const nghttp2_frame *frame);
void zk__h2_pay(zk__h2 *h2, int cost);

static inline void zk__h2_earn(zk__h2 *h2, int amount)
{
    h2->credit += amount;
    if (h2->credit > ZK__H2_CREDIT_MAX) h2->credit = ZK__H2_CREDIT_MAX;
}

#endif
