/*
 * Frames written as text, so that tables show what goes in and out.
 *
 *   "T:hello"   a whole text       "t:hel c:lo C:!"   one in three frames
 *   "B: b:"     binary, likewise   "P:x O:x"          ping, pong
 *   "X: X:1000 X:1000,bye"         close, with a code and a reason
 *   "=8a00"     bytes as they are, in hex     "T*126"    a text of so many 'a's
 *   "z:.. Z:.." text with RSV1, without and with FIN
 *
 * In a payload "_" is a space and "\xHH" escapes of C are the byte; words are parted by spaces.
 * What comes out is written alike, messages joined, refusals as "!1002".
 */
#ifndef ZOKIO_TESTS_WS_FRAMES_H
#define ZOKIO_TESTS_WS_FRAMES_H

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ws/frame.h"
#include "ws/mask.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

typedef struct bytes {
    char *data;
    size_t size, capacity;
} bytes;

static inline void bytes_add(bytes *b, const void *data, size_t size)
{
    if (b->capacity - b->size < size + 1) {
        b->capacity = 2 * b->capacity + size + 64;
        b->data = realloc(b->data, b->capacity);
        cr_assert(b->data);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = '\0';
}

static inline void bytes_text(bytes *b, const char *text) { bytes_add(b, text, strlen(text)); }

/* Adds a frame; masked: as a client sends it. */
static inline void frame_add(bytes *b, uint8_t first, const void *data, size_t size, bool masked)
{
    uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    char head[ZK__WS_HEAD_BYTES_MAX];
    bytes_add(b, head, zk__ws_head(head, first, size, masked ? key : NULL));
    size_t at = b->size;
    bytes_add(b, data, size);
    if (masked) zk__ws_mask(b->data + at, b->data + at, size, key);
}

static inline uint8_t first_byte(char letter)
{
    switch (letter) {
    case 'T': return 0x81;
    case 't': return 0x01;
    case 'Z': return 0xC1;
    case 'z': return 0x41;
    case 'B': return 0x82;
    case 'b': return 0x02;
    case 'C': return 0x80;
    case 'c': return 0x00;
    case 'X': return 0x88;
    case 'P': return 0x89;
    case 'O': return 0x8A;
    default: cr_assert_fail("no such frame: %c", letter); return 0;
    }
}

static inline int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One word of the text above. */
static inline void word_add(bytes *b, const char *word, size_t size, bool masked)
{
    bytes payload = {0};
    bytes_add(&payload, "", 0);
    if (word[0] == '=') {
        for (size_t i = 1; i + 1 < size; i += 2) {
            char byte = (char)(hex_digit(word[i]) << 4 | hex_digit(word[i + 1]));
            bytes_add(b, &byte, 1);
        }
    } else if (word[1] == '*') {
        size_t count = strtoul(word + 2, NULL, 10);
        char *fill = malloc(count + 1);
        memset(fill, 'a', count + 1);
        frame_add(b, first_byte(word[0]), fill, count, masked);
        free(fill);
    } else if (word[0] == 'X' && size > 2) {
        char *rest;
        unsigned code = (unsigned)strtoul(word + 2, &rest, 10);
        char start[2] = {(char)(code >> 8), (char)code};
        bytes_add(&payload, start, 2);
        if (*rest == ',') bytes_add(&payload, rest + 1, size - (size_t)(rest + 1 - word));
        frame_add(b, 0x88, payload.data, payload.size, masked);
    } else {
        bytes_add(&payload, word + 2, size - 2);
        frame_add(b, first_byte(word[0]), payload.data, payload.size, masked);
    }
    free(payload.data);
}

static inline bytes frames_of(const char *text, bool masked)
{
    bytes b = {0};
    bytes_add(&b, "", 0);
    while (*text) {
        size_t size = strcspn(text, " ");
        if (size) word_add(&b, text, size, masked);
        text += size + (text[size] == ' ');
    }
    return b;
}

/* ---- what comes out ---- */

static inline void tell_payload(bytes *out, const char *data, size_t size)
{
    bool is_fill = size > 100;
    for (size_t i = 0; i < size && is_fill; i++)
        is_fill = data[i] == 'a';
    if (!is_fill) {
        bytes_add(out, data, size);
        return;
    }
    char text[32];
    snprintf(text, sizeof text, "%zu", size);
    out->data[out->size - 1] = '*';
    bytes_text(out, text);
}

static inline void tell(bytes *out, const zk__ws_event *ev, bytes *message)
{
    char text[32];
    if (ev->kind == ZK__WS_DATA) {
        bytes_add(message, ev->data, ev->size);
        if (!ev->is_last) return;
        bytes_text(out, ev->is_compressed ? " Z:" : ev->opcode == ZK__WS_TEXT ? " T:" : " B:");
        tell_payload(out, message->data, message->size);
        message->size = 0;
    } else if (ev->kind == ZK__WS_CONTROL && ev->opcode == ZK__WS_CLOSE) {
        bytes_text(out, " X:");
        if (ev->code != 1005) {
            snprintf(text, sizeof text, "%u%s", ev->code, ev->size ? "," : "");
            bytes_text(out, text);
        }
        tell_payload(out, ev->data, ev->size);
    } else if (ev->kind == ZK__WS_CONTROL) {
        bytes_text(out, ev->opcode == ZK__WS_PING ? " P:" : " O:");
        tell_payload(out, ev->data, ev->size);
    } else {
        snprintf(text, sizeof text, " !%u", ev->code);
        bytes_text(out, text);
    }
}

/* Lets a reader take the bytes, so many at a time; 0: all at once. returns what it says. */
static inline char *read_all(zk__ws_reader *r, const bytes *in, size_t step)
{
    bytes out = {0}, message = {0};
    bytes_add(&out, "", 0);
    bytes_add(&message, "", 0);
    /* What has been taken is forgotten, so that nothing points to it. */
    size_t taken = 0, shown = 0;
    bool is_over = false;
    while (shown < in->size && !is_over) {
        shown = step && in->size - shown > step ? shown + step : in->size;
        for (;;) {
            size_t size = shown - taken;
            char *part = malloc(size + 1);
            memcpy(part, in->data + taken, size);
            zk__ws_event ev;
            size_t n = zk__ws_take(r, part, size, &ev);
            cr_assert(n <= size);
            taken += n;
            if (ev.kind != ZK__WS_MORE) tell(&out, &ev, &message);
            free(part);
            is_over = ev.kind == ZK__WS_REFUSED;
            if (is_over || ev.kind == ZK__WS_MORE || taken == shown) break;
        }
    }
    free(message.data);
    return out.data;
}

#endif
