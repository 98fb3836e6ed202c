/*
 * Masking (RFC 6455 section 5.3): each byte XOR one of the key's four, in turn.
 */
#ifndef ZOKIO_WS_MASK_H
#define ZOKIO_WS_MASK_H

#include <stddef.h>
#include <stdint.h>

/* Masks, or unmasks, from `from` to `to`; both may be the same, else they must not overlap. The
 * key is turned to what the next byte needs. */
void zk__ws_mask(void *to, const void *from, size_t size, uint8_t key[4]);

#endif
