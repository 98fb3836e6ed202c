/*
 * Reading and writing frames: see frame.h.
 *
 * This is our own and not wslay's frame API: that keeps 4 KiB for each connection, copies every
 * payload through it, and unmasks there byte by byte, which nothing can turn off. The tests compare
 * the two.
 */
#include "ws/frame.h"

#include <string.h>

#include "ws/frame_short.h"
#include "ws/mask.h"

static const char not_utf8[] = "the text is not UTF-8";

static void refuse(zk__ws_event *ev, uint16_t code, const char *reason)
{
    *ev = (zk__ws_event){.kind = ZK__WS_REFUSED, .code = code, .reason = reason};
}

bool zk__ws_code_is_valid(unsigned code)
{
    if (code >= 3000 && code <= 4999) return true;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

/* ---- heads ---- */

/* What is wrong with a head's first byte; NULL: nothing. */
static const char *first_check(const zk__ws_reader *r, uint8_t byte)
{
    uint8_t opcode = byte & 0x0F;
    bool is_data = opcode <= ZK__WS_BINARY;
    if (byte & 0x30) return "a reserved bit is set";
    if (byte & ZK__WS_RSV1) {
        if (!r->allows_deflate) return "a reserved bit is set";
        if (opcode != ZK__WS_TEXT && opcode != ZK__WS_BINARY) return "RSV1 on the wrong frame";
    }
    if (!is_data && (opcode < ZK__WS_CLOSE || opcode > ZK__WS_PONG)) return "unknown opcode";
    if (!is_data && !(byte & ZK__WS_FIN)) return "a control frame in fragments";
    if (opcode == ZK__WS_CONTINUATION && !r->opcode) return "nothing to continue";
    if (is_data && opcode != ZK__WS_CONTINUATION && r->opcode) return "a message in another";
    return NULL;
}

static const char *second_check(const zk__ws_reader *r, uint8_t first, uint8_t byte)
{
    if (r->is_client && (byte & 0x80)) return "a server must not mask";
    if (!r->is_client && !(byte & 0x80)) return "a client has to mask";
    if ((first & 0x08) && (byte & 0x7F) > ZK__WS_CONTROL_BYTES_MAX) {
        return "a control frame is too long";
    }
    return NULL;
}

static uint64_t big_endian(const uint8_t *at, size_t size)
{
    uint64_t n = 0;
    for (size_t i = 0; i < size; i++)
        n = n << 8 | at[i];
    return n;
}

typedef struct head {
    uint8_t first;
    uint64_t size;
    uint8_t key[4];
} head;

/* returns the head's size; 0: it is not whole; or it is refused. */
static size_t head_read(const zk__ws_reader *r, const char *data, size_t size, head *ret,
                        zk__ws_event *ev)
{
    const uint8_t *at = (const uint8_t *)data;
    if (!size) return 0;
    const char *wrong = first_check(r, at[0]);
    if (!wrong && size >= 2) wrong = second_check(r, at[0], at[1]);
    if (wrong) {
        refuse(ev, 1002, wrong);
        return 0;
    }
    if (size < 2) return 0;
    size_t length_bytes = (at[1] & 0x7F) == 126 ? 2 : (at[1] & 0x7F) == 127 ? 8 : 0;
    size_t total = 2 + length_bytes + (r->is_client ? 0 : 4);
    if (size < 2 + length_bytes) return 0;
    uint64_t length = length_bytes ? big_endian(at + 2, length_bytes) : at[1] & 0x7Fu;
    if (length_bytes && length < (length_bytes == 2 ? 126 : 65536)) {
        refuse(ev, 1002, "a length is not written in the shortest way");
        return 0;
    }
    if (length >> 63) {
        refuse(ev, 1002, "a length has its highest bit set");
        return 0;
    }
    if (size < total) return 0;
    ret->first = at[0];
    ret->size = length;
    memset(ret->key, 0, 4);
    if (!r->is_client) memcpy(ret->key, at + total - 4, 4);
    return total;
}

/* ---- control frames ---- */

static void close_read(zk__ws_event *ev)
{
    if (!ev->size) {
        ev->code = 1005;
        return;
    }
    unsigned code = ev->size < 2 ? 0 : (unsigned)big_endian((uint8_t *)ev->data, 2);
    if (ev->size < 2 || !zk__ws_code_is_valid(code)) {
        refuse(ev, 1002, "not a valid close code");
        return;
    }
    zk__utf8 text = 0;
    if (!zk__utf8_take(&text, ev->data + 2, ev->size - 2) || text) {
        refuse(ev, 1007, "the reason is not UTF-8");
        return;
    }
    ev->code = (uint16_t)code;
    ev->data += 2;
    ev->size -= 2;
}

static size_t control_take(const zk__ws_reader *r, head *h, size_t head_size, char *data,
                           size_t size, zk__ws_event *ev)
{
    size_t payload = (size_t)h->size;
    if (size - head_size < payload) return 0;
    char *at = data + head_size;
    if (!r->is_client) zk__ws_mask(at, at, payload, h->key);
    *ev = (zk__ws_event){
        .kind = ZK__WS_CONTROL,
        .opcode = h->first & 0x0F,
        .data = at,
        .size = payload,
    };
    if (ev->opcode == ZK__WS_CLOSE) close_read(ev);
    return head_size + payload;
}

/* ---- data frames ---- */

/* Takes the head over. returns false if the message is too much. */
static bool frame_begin(zk__ws_reader *r, const head *h, zk__ws_event *ev)
{
    uint8_t opcode = h->first & 0x0F;
    if (opcode != ZK__WS_CONTINUATION) {
        r->opcode = opcode;
        r->message_bytes = 0;
        r->fragments = 0;
        r->is_compressed = h->first & ZK__WS_RSV1;
        r->is_fresh = true;
        r->text = 0;
    }
    if (++r->fragments > r->fragments_max) {
        refuse(ev, 1008, "too many fragments");
        return false;
    }
    if (r->message_bytes > r->message_bytes_max ||
        h->size > r->message_bytes_max - r->message_bytes) {
        refuse(ev, 1009, "the message is too large");
        return false;
    }
    r->message_bytes += h->size;
    r->left = h->size;
    r->is_final = h->first & ZK__WS_FIN;
    r->is_in_frame = true;
    memcpy(r->key, h->key, 4);
    return true;
}

/* Some of the payload, perhaps none if it has none. returns bytes consumed. */
static size_t payload_take(zk__ws_reader *r, char *data, size_t size, zk__ws_event *ev)
{
    size_t n = r->left < size ? (size_t)r->left : size;
    if (n && !r->is_client) zk__ws_mask(data, data, n, r->key);
    r->left -= n;
    bool ends_frame = !r->left, is_last = ends_frame && r->is_final;
    ev->kind = ZK__WS_DATA;
    ev->opcode = r->opcode;
    ev->is_first = r->is_fresh;
    ev->is_last = is_last;
    ev->is_compressed = r->is_compressed;
    ev->data = data;
    ev->size = n;
    r->is_fresh = false;
    if (r->opcode == ZK__WS_TEXT && !r->is_compressed) {
        if (!zk__utf8_take(&r->text, data, n) || (is_last && r->text)) {
            refuse(ev, 1007, not_utf8);
            return n;
        }
    }
    if (ends_frame) r->is_in_frame = false;
    if (is_last) r->opcode = 0;
    return n;
}

static inline size_t short_take(zk__ws_reader *r, char *data, size_t size, zk__ws_event *ev)
{
    uint8_t opcode;
    size_t n, taken = zk__ws_short_take(r, data, size, &opcode, &n);
    if (!taken) return 0;
    ev->kind = ZK__WS_DATA;
    ev->opcode = opcode;
    ev->is_first = ev->is_last = true;
    ev->is_compressed = false;
    ev->data = data + ZK__WS_SHORT_HEAD_BYTES;
    ev->size = n;
    zk__utf8 text = 0;
    if (opcode == ZK__WS_TEXT && (!zk__utf8_take(&text, ev->data, n) || text)) {
        refuse(ev, 1007, not_utf8);
    }
    return taken;
}

size_t zk__ws_take(zk__ws_reader *r, char *data, size_t size, zk__ws_event *ev)
{
    ev->kind = ZK__WS_MORE;
    size_t at = 0;
    if (!r->is_in_frame) {
        at = short_take(r, data, size, ev);
        if (ZK_LIKELY(at > 0)) return at;
        head h;
        at = head_read(r, data, size, &h, ev);
        if (!at) return 0;
        if (h.first & 0x08) return control_take(r, &h, at, data, size, ev);
        if (!frame_begin(r, &h, ev)) return at;
    }
    /* The head alone tells nothing yet, unless there is no payload. */
    if (size == at && r->left) return at;
    return at + payload_take(r, data + at, size - at, ev);
}

size_t zk__ws_head(char out[ZK__WS_HEAD_BYTES_MAX], uint8_t first, uint64_t size,
                   const uint8_t key[4])
{
    uint8_t *at = (uint8_t *)out;
    size_t n = 2;
    at[0] = first;
    if (size < 126) {
        at[1] = (uint8_t)size;
    } else {
        size_t length_bytes = size < 65536 ? 2 : 8;
        at[1] = length_bytes == 2 ? 126 : 127;
        for (size_t i = 0; i < length_bytes; i++)
            at[2 + i] = (uint8_t)(size >> 8 * (length_bytes - 1 - i));
        n += length_bytes;
    }
    if (key) {
        at[1] |= 0x80;
        memcpy(at + n, key, 4);
        n += 4;
    }
    return n;
}
