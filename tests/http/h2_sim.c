/*
 * The HTTP/2 server on the simulated network: many seeds of clients that ask, send and change their
 * minds, over connections that cut reads and writes short, break, and fail.
 *
 * The client is nghttp2's own, so what the server says is checked by somebody else. Every stream
 * that ends well has had the right bytes, all of them; without faults all that are not given up
 * end well. Nothing is left behind: zk_sim_run sees sockets and memory.
 */
#include <errno.h>

#include "tests/http/h2_frames.h"
#include "tests/http/sim_site.h"

enum { CONNECTIONS = 3, STREAMS = 12, BODY_MAX = 100000 };

static char pattern_at(size_t i) { return (char)('a' + i % 26); }

static int nap(void)
{
    return zk_sim_random() % 4 ? 0 : zk_sleep((zk_time)(zk_sim_random() % (uint64_t)ZK_MS(20)));
}

static size_t random_size(void)
{
    size_t limit = zk_sim_random() % 3 ? 2000 : BODY_MAX;
    return (size_t)(zk_sim_random() % limit);
}

/* ---- the server ---- */

static const char *pattern(void)
{
    static char bytes[BODY_MAX];
    if (!bytes[0]) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = pattern_at(i);
    }
    return bytes;
}

static int whole(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    if (rc >= 0) rc = nap();
    return rc < 0 ? rc : zk_respond(res, 200, "text/plain", pattern(), size);
}

static int pieces(zk_request *req, zk_response *res)
{
    uint64_t size;
    int rc = zk_request_param_u64(req, "size", &size);
    if (rc >= 0) rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    for (size_t at = 0, n; rc >= 0 && at < size; at += n) {
        n = 1 + (size_t)(zk_sim_random() % 30000);
        if (n > size - at) n = size - at;
        rc = zk_response_write(res, pattern() + at, n);
        if (rc >= 0) rc = nap();
        if (rc >= 0 && zk_sim_random() % 4 == 0) rc = zk_response_flush(res);
    }
    return rc < 0 ? rc : zk_response_trailer(res, "x-end", "1");
}

static int echoes(zk_request *req, zk_response *res)
{
    char part[3000];
    ssize_t n;
    int rc = zk_response_begin(res, 200, NULL, ZK_LENGTH_UNKNOWN);
    while (rc >= 0 && (n = zk_body_read(req, part, sizeof part)) != 0) {
        rc = n < 0 ? (int)n : zk_response_write(res, part, (size_t)n);
        if (rc >= 0) rc = nap();
    }
    return rc;
}

static int whole_echo(zk_request *req, zk_response *res)
{
    zk_str body;
    int rc = zk_body(req, &body);
    return rc < 0 ? rc : zk_respond(res, 200, NULL, body.data, body.size);
}

static const zk_route routes[] = {
    {"GET", "/whole/{size}", whole, NULL},
    {"GET", "/pieces/{size}", pieces, NULL},
    {"POST", "/echo/{size}", echoes, NULL},
    {"POST", "/whole/{size}", whole_echo, NULL},
    {0},
};

typedef struct site {
    sim_site server;
    bool is_faulty, is_hostile;
    int done, given_up, cut_off;
} site;

/* ---- a client ---- */

typedef struct visitor visitor;

typedef struct visit_stream {
    visitor *visitor;
    size_t size, sent, received;
    bool is_given_up, is_closed;
} visit_stream;

struct visitor {
    site *site;
    zk_stream *stream;
    nghttp2_session *session;
    visit_stream streams[STREAMS];
    int opened, open;
    int wrong; /* what should not have come */
};

static ssize_t upload(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                      uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)session, (void)id, (void)context;
    visit_stream *s = source->ptr;
    size_t n = s->size - s->sent < size ? s->size - s->sent : size;
    memcpy(buf, pattern() + s->sent, n);
    s->sent += n;
    if (s->sent == s->size) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags;
    visitor *v = context;
    visit_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (!s || size > s->size - s->received || memcmp(data, pattern() + s->received, size) != 0) {
        v->wrong = __LINE__;
        return 0;
    }
    s->received += size;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)session, (void)frame, (void)flags;
    visitor *v = context;
    bool is_status = name_size == 7 && !memcmp(name, ":status", 7);
    if (is_status && (value_size != 3 || memcmp(value, "200", 3) != 0)) {
        if (!v->site->is_faulty) v->wrong = __LINE__;
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *context)
{
    visitor *v = context;
    visit_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (!s) return 0;
    v->open--;
    s->is_closed = true;
    if (s->is_given_up) {
        v->site->given_up++;
    } else if (!error) {
        v->site->done++;
        if (s->received != s->size && !v->site->is_faulty) v->wrong = __LINE__;
    } else {
        v->site->cut_off++;
    }
    return 0;
}

static int request(visitor *v)
{
    static const char *const paths[] = {"/whole/", "/pieces/", "/echo/", "/whole/"};
    visit_stream *s = &v->streams[v->opened++];
    char path[64];
    int kind = (int)(zk_sim_random() % 4);
    *s = (visit_stream){.visitor = v, .size = random_size()};
    int path_size = snprintf(path, sizeof path, "%s%zu", paths[kind], s->size);
#define NV(name, value, value_size)                                                                \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), (value_size), 0 \
    }
    const char *method = kind < 2 ? "GET" : "POST";
    nghttp2_nv nv[] = {
        NV(":method", method, strlen(method)),
        NV(":scheme", "http", 4),
        NV(":authority", "sim", 3),
        NV(":path", path, (size_t)path_size),
    };
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = upload};
    int id = nghttp2_submit_request(v->session, NULL, nv, 4, kind < 2 ? NULL : &body, s);
    if (id < 0) return -ENOMEM;
    v->open++;
    return id;
}

/* Something that a client may do while it waits. */
static int act(visitor *v)
{
    if (v->opened < STREAMS && zk_sim_random() % 2) {
        int id = request(v);
        if (id < 0) return id;
        if (zk_sim_random() % 8 == 0) {
            v->streams[v->opened - 1].is_given_up = true;
            (void)nghttp2_submit_rst_stream(v->session, 0, id, NGHTTP2_CANCEL);
        }
    }
    if (zk_sim_random() % 16 == 0) {
        int32_t id = 2 * (int32_t)(zk_sim_random() % STREAMS) + 1;
        visit_stream *s = nghttp2_session_get_stream_user_data(v->session, id);
        if (s && !s->is_closed && !s->is_given_up) {
            s->is_given_up = true;
            (void)nghttp2_submit_rst_stream(v->session, 0, id, NGHTTP2_CANCEL);
        }
    }
    if (zk_sim_random() % 32 == 0) (void)nghttp2_submit_ping(v->session, 0, NULL);
    return 0;
}

static int talk(visitor *v)
{
    char buf[20000];
    while (v->opened < STREAMS || v->open) {
        const uint8_t *data;
        ssize_t n = act(v);
        while (n >= 0 && (n = nghttp2_session_mem_send(v->session, &data)) > 0)
            n = zk_stream_write(v->stream, data, (size_t)n);
        if (n < 0) return (int)n;
        if (!v->open) continue;
        n = zk_stream_read(v->stream, buf, 1 + (size_t)(zk_sim_random() % sizeof buf));
        if (n == 0) return -ECONNRESET;
        if (n > 0) n = nghttp2_session_mem_recv(v->session, (const uint8_t *)buf, (size_t)n);
        if (n < 0) return (int)n;
        /* It ends the session if the server says something that it must not. */
        if (!nghttp2_session_want_read(v->session)) return -EBADMSG;
    }
    return 0;
}

static int session_open(visitor *v)
{
    static const uint32_t windows[] = {50, 1000, 65535, 1000000};
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks)) return -ENOMEM;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    int rc = nghttp2_session_client_new(&v->session, callbacks, v);
    nghttp2_session_callbacks_del(callbacks);
    if (rc) return -ENOMEM;
    uint32_t window = windows[zk_sim_random() % 4];
    /* Of a window of 50 bytes a large response would be a thousand rounds. */
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
                                         {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    return nghttp2_submit_settings(v->session, 0, settings, 2) ? -ENOMEM : 0;
}

static int visit(void *arg)
{
    visitor v = {.site = *(site **)arg};
    site *s = v.site;
    int rc = zk_connect(&s->server.addr, &v.stream);
    if (rc < 0) {
        s->cut_off++;
        return s->is_faulty ? 0 : rc;
    }
    rc = session_open(&v);
    if (rc >= 0) rc = talk(&v);
    nghttp2_session_del(v.session);
    zk_stream_close(v.stream);
    if (v.wrong) return zk_fail(-EBADMSG, "%s:%d", __FILE__, v.wrong);
    return s->is_faulty && rc != -EBADMSG ? 0 : rc;
}

/* ---- frames that are not quite right ---- */

static const char *const scripts[] = {
    "headers.eh # GET:/whole/10",
    "headers.eh # GET:/pieces/50000",
    "headers.h # POST:/echo/5; data # 'hello'; data.e #",
    "headers.h # POST:/whole/5; data.p # u8:3 'he' zeros:3; headers.eh # x-t=1",
    "headers.e # GET:/whole/1; cont.h # a=b",
    "headers.eh # GET:/whole/90000; rst # u32:8",
    "settings 0 u16:4 u32:100",
    "window 0 u32:70000; window # u32:5",
    "ping 0 'abcdefgh'; priority # u32:0 u8:3; x10 0 u32:1 'u=1'",
};

static h2_bytes mutated(void)
{
    h2_bytes b = {0};
    h2_put(&b, H2_PREFACE, sizeof H2_PREFACE - 1);
    h2_bytes first = h2_script("settings 0; settings.e 0");
    h2_put(&b, first.data, first.size);
    free(first.data);
    size_t greeting = b.size;
    for (unsigned id = 1; id < 12; id += 2) {
        char script[256];
        size_t size = 0;
        for (const char *at = scripts[zk_sim_random() % ROWS(scripts)]; *at; at++) {
            if (*at == '#') {
                size += (size_t)snprintf(script + size, sizeof script - size, "%u", id);
            } else {
                script[size++] = *at;
            }
        }
        script[size] = '\0';
        h2_bytes more = h2_script(script);
        h2_put(&b, more.data, more.size);
        free(more.data);
    }
    for (uint64_t n = zk_sim_random() % 4; n > 0; n--) {
        size_t at = greeting + (size_t)(zk_sim_random() % (b.size - greeting));
        b.data[at] ^= (uint8_t)(1 + zk_sim_random() % 255);
    }
    return b;
}

static int write_all(void *arg)
{
    visitor *v = arg;
    h2_bytes b = mutated();
    int rc = 0;
    for (size_t at = 0, n; at < b.size && rc >= 0; at += n) {
        n = 1 + (size_t)(zk_sim_random() % 200);
        if (n > b.size - at) n = b.size - at;
        rc = zk_stream_write(v->stream, b.data + at, n);
        if (rc >= 0) rc = nap();
    }
    free(b.data);
    return rc;
}

static int read_all(void *arg)
{
    visitor *v = arg;
    char buf[4000];
    ssize_t n;
    while ((n = zk_stream_read(v->stream, buf, sizeof buf)) > 0)
        continue;
    return 0;
}

/* What it gets in return is h2.c's business; here the server has to outlive it. */
static int attack(void *arg)
{
    visitor v = {.site = *(site **)arg};
    if (zk_connect(&v.site->server.addr, &v.stream) < 0) return 0;
    (void)zk_timeout(ZK_SEC(5), write_all, &v);
    (void)zk_timeout((zk_time)(zk_sim_random() % (uint64_t)ZK_SEC(5)), read_all, &v);
    zk_stream_close(v.stream);
    return 0;
}

/* ---- the days ---- */

static int visits(sim_site *its_server)
{
    site *s = (site *)its_server;
    int rc = 0;
    ZK_SCOPE(visitors) {
        for (int i = 0; i < CONNECTIONS && rc >= 0; i++) {
            rc = zk_spawn(&visitors, visit, &s);
            if (rc >= 0 && s->is_hostile) rc = zk_spawn(&visitors, attack, &s);
        }
        int end = zk_scope_wait(&visitors);
        if (rc >= 0) rc = end;
    }
    return rc;
}

static int a_day(void *arg)
{
    site s = *(site *)arg;
    s.server.routes = routes;
    int rc = sim_site_run(&s.server, visits);
    if (rc < 0) return rc;
    ZK_SIM_CHECK(s.is_faulty ||
                 (s.done + s.given_up == CONNECTIONS * STREAMS && s.cut_off == 0 && s.done > 0));
    return 0;
}

ZK_TEST(h2_sim, every_stream_ends_well_on_a_good_network)
{
    zk_test_seeds("h2_sim", 40, NULL, a_day, &(site){.is_faulty = false});
}

ZK_TEST(h2_sim, pieces_of_any_size_make_no_difference)
{
    zk_test_seeds("h2_sim", 40,
                  &(zk_sim_options){.short_read_chance = 400, .short_write_chance = 400}, a_day,
                  &(site){.is_faulty = false});
}

ZK_TEST(h2_sim, broken_connections_leave_nothing_behind)
{
    zk_test_seeds("h2_sim", 80, &ZK_SIM_FAULTS, a_day, &(site){.is_faulty = true});
}

ZK_TEST(h2_sim, hostile_clients_do_not_disturb_the_others)
{
    zk_test_seeds("h2_sim", 80,
                  &(zk_sim_options){.short_read_chance = 200, .short_write_chance = 200}, a_day,
                  &(site){.is_hostile = true});
}
