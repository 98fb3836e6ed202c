/*
 * The account of a connection of HTTP/2, and the frames that it is charged for: see h2.h.
 *
 * Frames are followed here by their heads alone, before nghttp2 sees them: what each costs, and
 * since when one, or a header block of several, is on its way.
 */
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "core/worker.h"
#include "http/h2.h"
#include "http/h2_account.h"

enum {
    CREDIT_PER_SECOND = 50,
    CONTINUATIONS_MAX = 16,
    UNKNOWN_COST = 2,
    EMPTY_DATA_COST = 4,
    ACK_COST = 1,
    UNKNOWN_TYPE = 0xf5,
};

/* What a frame costs that a client sends, by its type. The response pays for a request's. */
static const uint8_t costs[] = {
    [NGHTTP2_DATA] = 0,         [NGHTTP2_HEADERS] = 2,   [NGHTTP2_PRIORITY] = 1,
    [NGHTTP2_RST_STREAM] = 4,   [NGHTTP2_SETTINGS] = 16, [NGHTTP2_PUSH_PROMISE] = 16,
    [NGHTTP2_PING] = 4,         [NGHTTP2_GOAWAY] = 16,   [NGHTTP2_WINDOW_UPDATE] = 1,
    [NGHTTP2_CONTINUATION] = 4,
};

void zk__h2_calm(zk__h2 *h2)
{
    if (h2->is_calmed) return;
    h2->is_calmed = true;
    zk__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM);
}

void zk__h2_pay(zk__h2 *h2, int cost)
{
    h2->credit -= cost;
    if (ZK_LIKELY(h2->credit >= 0)) return;
    zk_time seconds = (zk_now() - h2->credited) / ZK_SEC(1);
    if (seconds > 0) {
        h2->credited = zk_now();
        zk_time grown = h2->credit + seconds * CREDIT_PER_SECOND;
        h2->credit = grown > ZK__H2_CREDIT_MAX ? ZK__H2_CREDIT_MAX : (int32_t)grown;
    }
    if (h2->credit < 0) zk__h2_calm(h2);
}

/* The preface counts as a frame that has begun. */
void zk__h2_account_init(zk__h2 *h2)
{
    h2->credit = ZK__H2_CREDIT_MAX;
    h2->credited = zk_now();
    h2->payload_left = ZK__H2_PREFACE_BYTES;
    h2->head[3] = NGHTTP2_SETTINGS;
}

static void frame_begun(zk__h2 *h2)
{
    const uint8_t *head = h2->head;
    uint8_t type = head[3], flags = head[4];
    h2->payload_left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    int cost = type < sizeof costs ? costs[type] : UNKNOWN_COST;
    if (ZK_UNLIKELY(type == NGHTTP2_SETTINGS)) {
        if (flags & NGHTTP2_FLAG_ACK) cost = ACK_COST;
        h2->has_settings = true;
    }
    if (type == NGHTTP2_DATA && !h2->payload_left && !(flags & NGHTTP2_FLAG_END_STREAM)) {
        cost = EMPTY_DATA_COST;
    }
    if (cost) zk__h2_pay(h2, cost);
    if (type == NGHTTP2_HEADERS || type == NGHTTP2_CONTINUATION) {
        h2->is_in_block = !(flags & NGHTTP2_FLAG_END_HEADERS);
        h2->continuations = type == NGHTTP2_HEADERS ? 0 : h2->continuations + 1;
        if (h2->continuations > CONTINUATIONS_MAX) zk__h2_calm(h2);
    }
}

/*
 * The client opens the connection's window, whose size nghttp2 does not know: what it takes for
 * more than there is, is taken off. An update of nothing would be an error, so a frame of a type
 * that nobody knows takes its place.
 */
static void update_take(zk__h2 *h2, uint8_t *frame)
{
    static const uint8_t connection[4];
    uint32_t increment;
    memcpy(&increment, frame + 9, sizeof increment);
    increment = __builtin_bswap32(increment) & INT32_MAX;
    if (!increment || memcmp(frame + 5, connection, sizeof connection)) return;
    if (increment <= h2->owed) {
        h2->owed -= increment;
        frame[3] = UNKNOWN_TYPE;
        return;
    }
    increment = __builtin_bswap32(increment - h2->owed);
    h2->owed = 0;
    memcpy(frame + 9, &increment, sizeof increment);
}

bool zk__h2_account(zk__h2 *h2, uint8_t *data, size_t size)
{
    zk_time now = zk_now();
    for (size_t i = 0; i < size;) {
        if (h2->payload_left) {
            size_t n = size - i < h2->payload_left ? size - i : h2->payload_left;
            h2->payload_left -= (uint32_t)n;
            i += n;
            continue;
        }
        /* Many frames may come with a read's end within each, and none of them be late. */
        if (!h2->head_size && !h2->is_in_block) h2->frame_since = now;
        if (ZK_LIKELY(!h2->head_size && size - i >= sizeof h2->head)) {
            memcpy(h2->head, data + i, sizeof h2->head);
            i += sizeof h2->head;
            frame_begun(h2);
            bool is_update = h2->head[3] == NGHTTP2_WINDOW_UPDATE && h2->payload_left == 4;
            if (ZK_UNLIKELY(is_update) && h2->owed && size - i >= 4) {
                update_take(h2, data + i - sizeof h2->head);
            }
            continue;
        }
        h2->head[h2->head_size++] = data[i++];
        if (h2->head_size == sizeof h2->head) {
            h2->head_size = 0;
            frame_begun(h2);
        }
    }
    /* How slowly a body may come is its reader's business. */
    bool is_within =
        h2->head_size || h2->is_in_block || (h2->payload_left && h2->head[3] != NGHTTP2_DATA);
    if (ZK_LIKELY(!is_within)) {
        h2->frame_since = 0;
    } else if (!h2->frame_since) {
        h2->frame_since = now;
    }
    return !h2->is_calmed;
}

void zk__h2_padding_seen(zk__h2 *h2, const nghttp2_frame *frame)
{
    bool is_empty = frame->hd.length && frame->hd.length == frame->data.padlen;
    if (is_empty && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) zk__h2_pay(h2, EMPTY_DATA_COST);
}
