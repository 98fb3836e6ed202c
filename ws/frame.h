/*
 * Frames and messages (RFC 6455 section 5), in both roles: bytes in, events out, no I/O and no
 * memory of its own. The fuzzers, the simulation and the sockets drive the same code.
 *
 *   data frames:   head --> payload, as it comes --> head ... the last frame ends the message
 *   control frames between them are taken whole
 *
 * What it refuses it refuses at the first byte that shows it, and says with which code the
 * connection is to be closed.
 */
#ifndef ZOKIO_WS_FRAME_H
#define ZOKIO_WS_FRAME_H

#include <zokio/base.h>

#include "ws/utf8.h"

enum zk__ws_opcode {
    ZK__WS_CONTINUATION = 0x0,
    ZK__WS_TEXT = 0x1,
    ZK__WS_BINARY = 0x2,
    ZK__WS_CLOSE = 0x8,
    ZK__WS_PING = 0x9,
    ZK__WS_PONG = 0xA,
};

enum { ZK__WS_FIN = 0x80, ZK__WS_RSV1 = 0x40 };
enum { ZK__WS_HEAD_BYTES_MAX = 14, ZK__WS_CONTROL_BYTES_MAX = 125 };

typedef enum zk__ws_kind {
    ZK__WS_MORE,    /* bytes are wanted */
    ZK__WS_DATA,    /* some payload of a message */
    ZK__WS_CONTROL, /* a ping, pong or close, see `opcode` */
    ZK__WS_REFUSED, /* `code` and `reason` say why; nothing may follow */
} zk__ws_kind;

/* Only what belongs to its kind is set. */
typedef struct zk__ws_event {
    zk__ws_kind kind;
    uint8_t opcode; /* DATA: TEXT or BINARY */
    bool is_first;  /* DATA: the message begins with it */
    bool is_last;   /* and ends with it */
    bool is_compressed;
    uint16_t code; /* REFUSED; and of a close, 1005 if it has none */
    char *data;    /* payload, unmasked in place; of a close the reason */
    size_t size;
    const char *reason;
} zk__ws_event;

typedef struct zk__ws_reader {
    uint64_t left;          /* payload bytes of the frame still to come */
    uint64_t message_bytes; /* payload bytes of the message's frames so far */
    uint64_t message_bytes_max;
    uint32_t fragments, fragments_max; /* frames of the message */
    uint8_t key[4];
    uint8_t opcode;      /* of the message in progress; 0: none */
    bool is_client;      /* who reads: a client wants no masks, a server wants them */
    bool allows_deflate; /* RSV1 has been negotiated */
    bool is_in_frame;    /* its head has been taken */
    bool is_final;       /* the frame ends the message */
    bool is_compressed;  /* the message is: its text is checked by who inflates it */
    bool is_fresh;       /* nothing of the message has been told */
    zk__utf8 text;
} zk__ws_reader;

/*
 * Takes bytes from data[0..size), which it may change. Heads and control frames have to be in one
 * piece: what it does not consume is to be shown again with more behind it.
 * returns how many bytes were consumed; *ret_event says what they were.
 */
size_t zk__ws_take(zk__ws_reader *reader, char *data, size_t size, zk__ws_event *ret_event);

/*
 * Writes a frame's head: first is opcode, FIN and RSV1. key: NULL for none. returns its size.
 */
size_t zk__ws_head(char head[ZK__WS_HEAD_BYTES_MAX], uint8_t first, uint64_t size,
                   const uint8_t key[4]);

/* Whether the code may stand in a close frame (RFC 6455 section 7.4, IANA's registry). */
bool zk__ws_code_is_valid(unsigned code);

#endif
