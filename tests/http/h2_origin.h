/*
 * A server of HTTP/2 without TLS that does as it is told, made of single frames: for the tests of
 * the client and of the proxy. As origin.h; the language of scripts and of the log is
 * h2_frames.h's.
 *
 * Each request (its HEADERS) takes the next of the steps, whose script is sent with '$' for the
 * number of the stream. Without steps left it answers 204.
 */
#ifndef ZOKIO_TESTS_HTTP_H2_ORIGIN_H
#define ZOKIO_TESTS_HTTP_H2_ORIGIN_H

#include "tests/http/h2_frames.h"

typedef struct h2_step {
    const char *script;
    bool closes;
} h2_step;

typedef struct h2_origin {
    zk_listener *listener;
    char url[64], address[64];
    const char *settings; /* a payload */
    const h2_step *steps;
    int step_count, step_at;
    int connections, open;
    h2_log log; /* of all connections */
    zk_scope scope;
} h2_origin;

typedef struct h2_origin_conn {
    h2_origin *o;
    zk_stream *stream;
    h2_client c; /* as far as it decodes */
    uint8_t in[256 * 1024];
    size_t size;
} h2_origin_conn;

static inline bool h2_origin_send(h2_origin_conn *c, const char *script, uint32_t id)
{
    char text[4096];
    size_t n = 0;
    for (const char *at = script; *at; at++) {
        if (*at == '$') {
            n += (size_t)snprintf(text + n, sizeof text - n, "%u", id);
        } else {
            text[n++] = *at;
        }
        cr_assert(n < sizeof text);
    }
    text[n] = '\0';
    h2_bytes b = h2_script(text);
    int rc = zk_stream_write(c->stream, b.data, b.size);
    free(b.data);
    return rc >= 0;
}

/* returns false when the connection is over. */
static inline bool h2_origin_frame(h2_origin_conn *c, const uint8_t *head, size_t size)
{
    static const h2_step usual = {.script = "headers.eh $ :status=204"};
    h2_origin *o = c->o;
    c->c.log.size = 0;
    h2_log_frame(&c->c, head, head + 9, size);
    if (head[3] != NGHTTP2_SETTINGS && head[3] != NGHTTP2_WINDOW_UPDATE) {
        h2_say(&o->log, "%s", c->c.log.text);
    }
    if (head[3] != NGHTTP2_HEADERS) return true;
    const h2_step *s = o->step_at < o->step_count ? &o->steps[o->step_at++] : &usual;
    return (!s->script || h2_origin_send(c, s->script, h2_number(head + 5, 4))) && !s->closes;
}

static inline int h2_origin_conn_run(void *arg)
{
    h2_origin_conn *c = arg;
    char greeting[256];
    snprintf(greeting, sizeof greeting, "settings 0 %s; settings.e 0", c->o->settings);
    bool goes_on = h2_origin_send(c, greeting, 0), is_greeted = false;
    while (goes_on) {
        ssize_t n = zk_stream_read(c->stream, c->in + c->size, sizeof c->in - c->size);
        if (n <= 0) break;
        c->size += (size_t)n;
        size_t at = 0, whole = sizeof H2_PREFACE - 1;
        if (!is_greeted && c->size < whole) continue;
        if (!is_greeted) at = whole;
        is_greeted = true;
        while (goes_on && c->size - at >= 9 && c->size - at >= 9 + h2_number(c->in + at, 3)) {
            whole = h2_number(c->in + at, 3);
            goes_on = h2_origin_frame(c, c->in + at, whole);
            at += 9 + whole;
        }
        c->size -= at;
        memmove(c->in, c->in + at, c->size);
    }
    c->o->open--;
    zk_stream_close(c->stream);
    nghttp2_hd_inflate_del(c->c.inflater);
    free(c->c.log.text);
    free(c->c.block.data);
    free(c);
    return 0;
}

static inline int h2_origin_run(void *arg)
{
    h2_origin *o = arg;
    zk_stream *stream;
    while (zk_accept(o->listener, &stream) >= 0) {
        o->connections++;
        o->open++;
        h2_origin_conn *c = calloc(1, sizeof *c);
        cr_assert(c);
        c->o = o;
        c->stream = stream;
        h2_init(&c->c);
        zk_spawn_options options = {.is_pinned = true};
        cr_assert_ok(zk_spawn_with(&o->scope, &options, h2_origin_conn_run, c));
    }
    return 0;
}

static inline void h2_origin_open(h2_origin *o, const char *settings, const h2_step *steps,
                                  int step_count)
{
    memset(o, 0, sizeof *o);
    o->settings = settings;
    o->steps = steps;
    o->step_count = step_count;
    h2_say(&o->log, "%s", "");
    zk_addr addr;
    cr_assert_ok(zk_addr_parse("127.0.0.1:0", &addr));
    cr_assert_ok(zk_listen(&addr, NULL, &o->listener));
    cr_assert_ok(zk_listener_addr(o->listener, &addr));
    snprintf(o->address, sizeof o->address, "h2c://127.0.0.1:%u", zk_addr_port(&addr));
    snprintf(o->url, sizeof o->url, "http://127.0.0.1:%u/", zk_addr_port(&addr));
    zk__scope_root_init(&o->scope, zk__lane.current->scope, zk__worker_self());
    zk_spawn_options options = {.is_pinned = true};
    cr_assert_ok(zk_spawn_with(&o->scope, &options, h2_origin_run, o));
    settle();
}

static inline void h2_origin_close(h2_origin *o)
{
    zk_scope_cancel(&o->scope);
    while (o->scope.live)
        settle();
    zk__scope_unlink(&o->scope);
    zk_listener_close(o->listener);
    o->listener = NULL;
    free(o->log.text);
}

#endif
