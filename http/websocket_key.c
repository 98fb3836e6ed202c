/*
 * Keys of the WebSocket handshake. SHA-1 (RFC 3174) is here because the protocol wants it; it keeps
 * no secret.
 */
#include "http/websocket_key.h"

#include <string.h>

/* ---- SHA-1 ---- */

enum { SHA1_BYTES = 20, SHA1_BLOCK = 64 };

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const uint8_t *block)
{
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
        const uint8_t *at = block + 4 * i;
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999u
                     : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1u
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDCu
                              : (b ^ c ^ d) + 0xCA62C1D6u;
        uint32_t next = rotate(a, 5) + f + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* Of up to 119 bytes: two blocks. */
static void sha1(const void *data, size_t size, uint8_t digest[SHA1_BYTES])
{
    uint8_t blocks[2 * SHA1_BLOCK] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t total = size < SHA1_BLOCK - 8 ? SHA1_BLOCK : 2 * SHA1_BLOCK;
    memcpy(blocks, data, size);
    blocks[size] = 0x80;
    blocks[total - 2] = (uint8_t)(size * 8 >> 8);
    blocks[total - 1] = (uint8_t)(size * 8);
    for (size_t at = 0; at < total; at += SHA1_BLOCK)
        sha1_block(h, blocks + at);
    for (size_t i = 0; i < SHA1_BYTES; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- base64 ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64(const uint8_t *data, size_t size, char *out)
{
    for (size_t i = 0; i < size; i += 3, out += 4) {
        uint32_t n = (uint32_t)data[i] << 16;
        if (i + 1 < size) n |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < size) n |= data[i + 2];
        out[0] = alphabet[n >> 18];
        out[1] = alphabet[n >> 12 & 63];
        out[2] = i + 1 < size ? alphabet[n >> 6 & 63] : '=';
        out[3] = i + 2 < size ? alphabet[n & 63] : '=';
    }
}

void zk__ws_accept_key(const char key[ZK__WS_KEY_BYTES], char accept[ZK__WS_ACCEPT_BYTES])
{
    static const char guid[36] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[ZK__WS_KEY_BYTES + sizeof guid];
    uint8_t digest[SHA1_BYTES];
    memcpy(text, key, ZK__WS_KEY_BYTES);
    memcpy(text + ZK__WS_KEY_BYTES, guid, sizeof guid);
    sha1(text, sizeof text, digest);
    base64(digest, sizeof digest, accept);
}

void zk__ws_key_encode(const uint8_t bytes[16], char key[ZK__WS_KEY_BYTES])
{
    base64(bytes, 16, key);
}

bool zk__ws_key_is_valid(zk_str key)
{
    if (key.size != ZK__WS_KEY_BYTES || memcmp(key.data + 22, "==", 2)) return false;
    for (size_t i = 0; i < 22; i++) {
        if (!key.data[i] || !strchr(alphabet, key.data[i])) return false;
    }
    /* The last character carries two bits. */
    return memchr("AQgw", key.data[21], 4) != NULL;
}
