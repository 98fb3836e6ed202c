/*
 * The HTTP/2 engine, without I/O. Input: a byte that picks the limits, a byte that seeds the pieces
 * and what the handlers do, then what a client sends behind its preface.
 *
 * The bytes arrive in pieces, each in a heap block of just its size; between them requests are
 * answered, read, reset or left alone. What the engine says is whole frames of valid sizes, whose
 * header blocks a client can read. No request is reported whose fields could not be sent over
 * HTTP/1.1, none over its limits; what the connection holds of bodies is within its windows; the
 * memory that it takes is bounded; and all of it is free at the end.
 *
 * When nobody answers anything, the requests and their bodies do not depend on the pieces.
 */
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1.h"
#include "http/h2.h"
#include "http/h2_account.h"
#include "http/h2_conn.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { INPUT_MAX = 65536, STREAMS = 8, FIELDS = 12, BODY = 40000 };
enum { MEMORY_MAX = 2 * ZK__H2_WINDOW_BYTES + 4 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- memory ---- */

static size_t memory_live;

static void *counting_alloc(void *context, size_t size)
{
    (void)context;
    memory_live += size;
    CHECK(memory_live <= MEMORY_MAX);
    return malloc(size);
}

static void counting_free(void *context, void *ptr, size_t size)
{
    (void)context;
    memory_live -= size;
    free(ptr);
}

/* ---- a server ---- */

typedef struct world {
    const uint8_t *input;
    size_t input_size;
    bool is_silent;  /* nobody answers */
    uint32_t random; /* 0: the input comes in one piece */
    zk__h2 h2;
    zk__shard shard;
    zk_server config;
    zk__h2_stream *tasks[4 * STREAMS];
    nghttp2_hd_inflater *inflater;
    uint8_t frame[9 + 16384];
    size_t frame_size;
    uint32_t block_id; /* of the header block that is being received; 0: none */
    bool is_over;
    uint64_t story; /* a hash of the requests and their bodies */
} world;

static world *self;

static uint32_t random_below(uint32_t bound)
{
    self->random = self->random * 1664525u + 1013904223u;
    return (self->random >> 16) % bound;
}

static const char body[BODY];

static void tell(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        self->story = (self->story ^ at[i]) * 1099511628211u;
}

static void check_field(zk_field field)
{
    CHECK(zk__h1_is_token(field.name) && zk__h1_is_field_value(field.value));
    for (size_t i = 0; i < field.name.size; i++)
        CHECK(field.name.data[i] < 'A' || field.name.data[i] > 'Z');
    CHECK(field.name.data[field.name.size] == '\0' && field.value.data[field.value.size] == '\0');
    tell(field.name.data, field.name.size + 1);
    tell(field.value.data, field.value.size + 1);
}

static void on_request(zk__h2_stream *s)
{
    const zk_request *req = &s->req;
    CHECK(s->h2 == &self->h2 && !s->has_task && s->id % 2 == 1);
    tell(&s->id, sizeof s->id);
    tell(&s->refused, sizeof s->refused);
    if (!s->refused) {
        size_t size = 0;
        CHECK(zk__h1_is_token(req->method) && zk__h1_is_host(req->host));
        CHECK(req->field_count <= self->config.header_count_max);
        CHECK(req->raw_target.size <= self->config.target_bytes_max);
        for (size_t i = 0; i < req->field_count; i++) {
            check_field(req->fields[i]);
            size += req->fields[i].name.size + req->fields[i].value.size + 32;
        }
        CHECK(size <= self->config.header_bytes_max);
        tell(req->method.data, req->method.size);
        tell(req->raw_target.data, req->raw_target.size);
    }
    for (size_t i = 0; i < sizeof self->tasks / sizeof *self->tasks; i++) {
        if (self->tasks[i]) continue;
        self->tasks[i] = s;
        s->has_task = true;
        return;
    }
    zk__h2_reset(s, ZK__H2_REFUSED);
}

static void on_body(zk__h2_stream *s)
{
    CHECK(s->h2 == &self->h2);
    CHECK(zk__received_size(&s->in) <= ZK__H2_STREAM_WINDOW_BYTES);
    size_t all = 0;
    for (const zk__h2_stream *each = self->h2.streams; each; each = each->next)
        all += zk__received_size(&each->in);
    CHECK(all <= ZK__H2_WINDOW_BYTES);
}

static void on_room(zk__h2_stream *s) { CHECK(s->out.size == 0); }

static void on_closed(zk__h2_stream *s, uint32_t error)
{
    (void)error;
    CHECK(s->h2 == NULL);
    if (!s->has_task) zk__h2_stream_free(s);
}

static const struct zk__h2_events events = {on_request, on_body, on_room, on_closed};

/* ---- handlers ---- */

static void task_end(zk__h2_stream **place)
{
    zk__h2_stream *s = *place;
    *place = NULL;
    s->has_task = false;
    if (!s->h2) {
        zk__h2_stream_free(s);
        return;
    }
    if (zk__received_size(&s->in)) zk__h2_consumed(s, zk__received_size(&s->in));
    s->in.begin = s->in.end = 0;
    if (s->has_ended && !s->is_in_ended) zk__h2_reset(s, ZK__H2_DONE);
}

static void respond(zk__h2_stream *s)
{
    static const char *const names[] = {"X-A", "x-b"};
    if (s->res.status) return;
    s->res.status = 200 + (int)random_below(10);
    s->res.length = random_below(2) ? -1 : BODY;
    zk_field *fields = zk_arena_alloc(&s->req.arena, 2 * sizeof *fields);
    CHECK(fields);
    for (int i = 0; i < 2; i++) {
        char *name = zk_arena_copy(&s->req.arena, names[i], 3);
        fields[i] = (zk_field){{name, 3}, {"value", 5}};
    }
    s->res.fields = (zk__field_list){fields, 2, 2};
    if (random_below(3) == 0) s->res.trailers = (zk__field_list){fields, 1, 2};
    s->out.data = body;
    s->out.size = random_below(4) ? random_below(BODY) : 0;
    s->out.is_last = random_below(2);
    bool has_body = random_below(4) != 0;
    if (has_body && random_below(2)) {
        int rc = zk__h2_offer(s, body, random_below(600));
        CHECK(rc == 0 || rc == 1);
        if (rc) {
            s->out.is_last = true;
            s->res.trailers.count = 0;
            if (random_below(2)) s->res.fields.count = 0;
        }
    }
    if (zk__h2_respond(s, "text/plain", has_body) < 0) s->out.size = 0;
}

/* Something that a handler may do. */
static void task_step(zk__h2_stream **place)
{
    zk__h2_stream *s = *place;
    uint32_t have = (uint32_t)zk__received_size(&s->in), some;
    switch (random_below(8)) {
    case 0:
    case 1: respond(s); break;
    case 2:
        some = have ? random_below(have) + 1 : 0;
        s->in.begin += some;
        zk__h2_consumed(s, some);
        break;
    case 3:
        if (s->owes_continue && !s->res.status) CHECK(zk__h2_continue(s) == 0);
        break;
    case 4:
        if (!s->out.is_begun || s->out.is_last) break;
        if (!s->out.size) s->out.data = body;
        if (!s->out.size) s->out.size = random_below(BODY);
        s->out.is_last = random_below(2);
        zk__h2_resume(s);
        break;
    case 5:
        if (random_below(8) == 0) zk__h2_reset(s, (enum zk__h2_why)random_below(4));
        break;
    case 6:
        if (s->out.is_begun && !s->out.is_last) zk__h2_reset(s, ZK__H2_FAILED);
        task_end(place);
        break;
    default: break;
    }
}

/* ---- what the engine says ---- */

static void check_block(const uint8_t *at, size_t size, bool is_last)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(self->inflater, &nv, &flags, at, size, is_last);
        CHECK(n >= 0);
        at += n;
        size -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            nghttp2_hd_inflate_end_headers(self->inflater);
            return;
        }
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && !size) return;
    }
}

static void check_frame(void)
{
    const uint8_t *head = self->frame;
    size_t size = self->frame_size - 9;
    uint32_t id =
        (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
    CHECK(id % 2 == 1 || id == 0);
    CHECK(!self->block_id || (head[3] == NGHTTP2_CONTINUATION && id == self->block_id));
    switch (head[3]) {
    case NGHTTP2_DATA: CHECK(id); break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: {
        bool is_last = head[4] & NGHTTP2_FLAG_END_HEADERS;
        CHECK(id);
        self->block_id = is_last ? 0 : id;
        check_block(head + 9, size, is_last);
        break;
    }
    case NGHTTP2_RST_STREAM: CHECK(id && size == 4); break;
    case NGHTTP2_SETTINGS: CHECK(!id && size % 6 == 0); break;
    case NGHTTP2_PING: CHECK(!id && size == 8 && head[4] == NGHTTP2_FLAG_ACK); break;
    case NGHTTP2_GOAWAY: CHECK(!id && size >= 8); break;
    case NGHTTP2_WINDOW_UPDATE: CHECK(size == 4); break;
    default: abort();
    }
}

static void check_sent(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        self->frame[self->frame_size++] = data[i];
        if (self->frame_size < 9) continue;
        size_t payload =
            (size_t)self->frame[0] << 16 | (size_t)self->frame[1] << 8 | self->frame[2];
        CHECK(payload <= 16384);
        if (self->frame_size < 9 + payload) continue;
        check_frame();
        self->frame_size = 0;
    }
}

/* Takes what there is to send; the windows bound it. */
static void send_all(void)
{
    enum { ROOM = 3 * 16384 };
    char *buf = malloc(ROOM);
    CHECK(buf);
    for (int i = 0;; i++) {
        ssize_t n = zk__h2_send(&self->h2, buf, ROOM);
        CHECK(n >= 0 && n <= ROOM && i < 10000);
        if (n == 0) break;
        check_sent((const uint8_t *)buf, (size_t)n);
    }
    CHECK(self->frame_size == 0 && self->block_id == 0);
    free(buf);
}

/* ---- a connection ---- */

/* Bodies of those who have come, in the order of their coming. */
static void tell_bodies(void)
{
    for (size_t i = 0; i < sizeof self->tasks / sizeof *self->tasks; i++) {
        const zk__h2_stream *s = self->tasks[i];
        if (!s) continue;
        uint8_t flags[2] = {s->h2 != NULL, s->is_in_ended};
        tell(flags, sizeof flags);
        if (zk__received_size(&s->in)) tell(s->in.bytes + s->in.begin, zk__received_size(&s->in));
    }
}

static void receive(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size);
    CHECK(bytes || !size);
    if (size) memcpy(bytes, data, size);
    int rc = zk__h2_recv(&self->h2, bytes, size);
    CHECK(rc == 0 || rc == ZK_E_HTTP_SYNTAX);
    CHECK(self->h2.credit <= ZK__H2_CREDIT_MAX);
    self->is_over = rc < 0;
    free(bytes);
}

static void converse(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bool is_split = self->random != 0;
    receive((const uint8_t *)preface, sizeof preface - 1);
    for (size_t at = 0; at < self->input_size && !self->is_over;) {
        size_t size = self->input_size - at;
        if (is_split) {
            size_t wanted = 1 + random_below(random_below(2) ? 12 : 2000);
            if (wanted < size) size = wanted;
        }
        receive(self->input + at, size);
        at += size;
        if (self->is_silent) continue;
        for (size_t i = 0; i < sizeof self->tasks / sizeof *self->tasks; i++) {
            if (self->tasks[i]) task_step(&self->tasks[i]);
        }
        if (random_below(3)) send_all();
        if (random_below(200) == 0) zk__h2_goaway(&self->h2, random_below(2));
    }
    tell_bodies();
    send_all();
}

static int run(void *arg)
{
    (void)arg;
    ZK_SCOPE(scope) {
        self->shard.scope = &scope;
        CHECK(zk__h2_init(&self->h2, &self->shard, &events) == 0);
        CHECK(!nghttp2_hd_inflate_new(&self->inflater));
        converse();
        zk__h2_done(&self->h2);
        for (size_t i = 0; i < sizeof self->tasks / sizeof *self->tasks; i++) {
            if (self->tasks[i]) task_end(&self->tasks[i]);
        }
        zk__h2_streams_free(&self->shard);
        nghttp2_hd_inflate_del(self->inflater);
    }
    return 0;
}

/* returns the hash of what was understood, 0 if the connection was ended. */
static uint64_t story_of(const uint8_t *data, size_t size, bool is_silent, uint32_t seed)
{
    static const zk_allocator counting = {counting_alloc, counting_free, NULL};
    static world w;
    bool is_tight = data[0] & 1;
    w = (world){
        .input = data + 2,
        .input_size = size - 2,
        .is_silent = is_silent,
        .random = seed,
        .story = 14695981039346656037u,
        .config =
            {
                .server_name = "zokio",
                .header_bytes_max = is_tight ? 256 : 16384,
                .header_count_max = is_tight ? 3 : FIELDS,
                .target_bytes_max = is_tight ? 12 : 2048,
                .h2_streams_max = is_tight ? 2 : STREAMS,
            },
    };
    w.shard.config = &w.config;
    self = &w;
    zk_config config = {.workers = 1, .no_crash_report = true, .allocator = &counting};
    CHECK(zk_run(&config, run, NULL) == 0);
    CHECK(memory_live == 0);
    return w.is_over ? 0 : w.story;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > INPUT_MAX) return 0;
    (void)story_of(data, size, false, data[1] + 1u);
    uint64_t whole = story_of(data, size, true, 0),
             split = story_of(data, size, true, data[1] + 1u);
    CHECK(whole == split || !whole || !split);
    return 0;
}
