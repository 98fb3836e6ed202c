/*
 * The frame engine of WebSocket, in both roles. Input: a byte of flags (1: as a client, 2: with
 * compression agreed on, 4: tight limits), a byte that seeds the split, then frames.
 *
 * The frames arrive once as a whole and once in pieces, each time in a heap block of just their
 * size, and both must give the same story: messages, control frames, the refusal. Texts are texts,
 * limits hold, no message begins in another. Where wslay is installed, it must read the same bytes
 * out of the frames as far as we accept them.
 */
#include <stdlib.h>
#include <string.h>

#include "ws/frame.h"

#if ZK_FUZZ_WSLAY
#include <wslay/wslay.h>
#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { BYTES_MAX = 16384 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct story {
    size_t size, data_size, control_size;
    bool is_over;
    char bytes[8 * BYTES_MAX];
    char data[BYTES_MAX], control[BYTES_MAX]; /* payloads alone */
} story;

static void tell(story *to, const void *bytes, size_t size)
{
    CHECK(size <= sizeof to->bytes - to->size);
    if (size) memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void tell_number(story *to, uint64_t n) { tell(to, &n, sizeof n); }

static void tell_control(story *to, const zk__ws_event *ev)
{
    CHECK(ev->size <= ZK__WS_CONTROL_BYTES_MAX);
    tell_number(to, 0xC0 | ev->opcode);
    tell_number(to, ev->code);
    tell_number(to, ev->size);
    tell(to, ev->data, ev->size);
    if (ev->opcode == ZK__WS_CLOSE && ev->code != 1005) {
        CHECK(zk__ws_code_is_valid(ev->code));
        to->control[to->control_size++] = (char)(ev->code >> 8);
        to->control[to->control_size++] = (char)ev->code;
    }
    if (ev->size) memcpy(to->control + to->control_size, ev->data, ev->size);
    to->control_size += ev->size;
}

/* Payload in pieces must be told as in one: only where messages begin and end counts. */
static void tell_data(story *to, const zk__ws_event *ev, bool *is_within)
{
    CHECK(ev->is_first == !*is_within);
    CHECK(ev->opcode == ZK__WS_TEXT || ev->opcode == ZK__WS_BINARY);
    *is_within = !ev->is_last;
    if (ev->is_first) tell_number(to, 0xD0 | ev->opcode | (ev->is_compressed ? 0x20u : 0));
    tell(to, ev->data, ev->size);
    if (ev->size) memcpy(to->data + to->data_size, ev->data, ev->size);
    to->data_size += ev->size;
    if (ev->is_last) tell_number(to, to->data_size);
}

static zk__ws_reader reader_of(uint8_t flags)
{
    return (zk__ws_reader){
        .message_bytes_max = flags & 4 ? 100 : 8192,
        .fragments_max = flags & 4 ? 3 : 100,
        .is_client = flags & 1,
        .allows_deflate = flags & 2,
    };
}

/* seed: of the sizes of the pieces; 0 for one piece. */
static void run(uint8_t flags, const uint8_t *data, size_t size, uint32_t seed, story *to)
{
    zk__ws_reader r = reader_of(flags);
    size_t taken = 0, arrived = 0;
    bool is_within = false;
    to->size = to->data_size = to->control_size = 0;
    to->is_over = false;
    while (arrived < size && !to->is_over) {
        size_t piece = size - arrived;
        if (seed) {
            seed = seed * 1664525u + 1013904223u;
            size_t wanted = 1 + (seed >> 16) % (seed >> 31 ? 3 : 40);
            if (wanted < piece) piece = wanted;
        }
        arrived += piece;
        while (taken < arrived && !to->is_over) {
            zk__ws_event ev;
            char *bytes = malloc(arrived - taken);
            CHECK(bytes);
            memcpy(bytes, data + taken, arrived - taken);
            size_t n = zk__ws_take(&r, bytes, arrived - taken, &ev);
            CHECK(n <= arrived - taken);
            CHECK(r.message_bytes <= r.message_bytes_max || ev.kind == ZK__WS_REFUSED);
            taken += n;
            if (ev.kind == ZK__WS_DATA) tell_data(to, &ev, &is_within);
            if (ev.kind == ZK__WS_CONTROL) tell_control(to, &ev);
            if (ev.kind == ZK__WS_REFUSED) {
                CHECK(ev.reason && ev.reason[0] && zk__ws_code_is_valid(ev.code));
                to->is_over = true;
            }
            free(bytes);
            if (ev.kind == ZK__WS_MORE) break;
        }
    }
}

#if ZK_FUZZ_WSLAY

typedef struct source {
    const uint8_t *data;
    size_t size;
} source;

static ssize_t source_read(uint8_t *buf, size_t size, int flags, void *context)
{
    (void)flags;
    source *s = context;
    size_t n = s->size < size ? s->size : size;
    if (!n) return -1;
    memcpy(buf, s->data, n);
    s->data += n;
    s->size -= n;
    return (ssize_t)n;
}

static void compare(const uint8_t *data, size_t size, const story *ours)
{
    static char bytes[BYTES_MAX], controls[BYTES_MAX];
    size_t byte_count = 0, control_count = 0;
    wslay_frame_context_ptr context;
    source from = {data, size};
    const struct wslay_frame_callbacks callbacks = {.recv_callback = source_read};
    CHECK(!wslay_frame_context_init(&context, &callbacks, &from));
    struct wslay_frame_iocb io;
    while (memset(&io, 0, sizeof io), wslay_frame_recv(context, &io) >= 0) {
        bool is_control = io.opcode & 8;
        char *to = is_control ? controls + control_count : bytes + byte_count;
        if (io.data_length) memcpy(to, io.data, io.data_length);
        *(is_control ? &control_count : &byte_count) += io.data_length;
    }
    wslay_frame_context_free(context);
    CHECK(byte_count >= ours->data_size && control_count >= ours->control_size);
    CHECK(!memcmp(bytes, ours->data, ours->data_size));
    CHECK(!memcmp(controls, ours->control, ours->control_size));
}

#else

static void compare(const uint8_t *data, size_t size, const story *ours)
{
    (void)data, (void)size, (void)ours;
}

#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static story whole, split;
    if (size < 2 || size > BYTES_MAX) return 0;
    run(data[0], data + 2, size - 2, 0, &whole);
    run(data[0], data + 2, size - 2, data[1] + 1u, &split);
    CHECK(whole.is_over == split.is_over);
    /* A text may be told up to the piece that goes wrong. */
    size_t common = whole.size < split.size ? whole.size : split.size;
    CHECK(whole.is_over || whole.size == split.size);
    CHECK(!memcmp(whole.bytes, split.bytes, common));
    compare(data + 2, size - 2, &split);
    return 0;
}
