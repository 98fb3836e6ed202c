/*
 * An exchange of the client: asking, trying again, following redirects, and the response's body.
 *
 *   open --> SENDING (streamed) --answer--> ANSWERED --body read: the hop goes back--> ANSWERED
 *      \---> SENT ----------------answer----/
 *
 * An error of the connection sticks. The hop is given back as soon as the body has been read; what
 * it has received stays with the exchange (the talk), so fields and trailers live on.
 */
#include "http/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/exchange.h"

enum { DISCARD_MAX = 64 * 1024, TRIES_MAX = 3, RAW_BYTES = 16 * 1024 };

static zk_str str(const char *text) { return (zk_str){text, strlen(text)}; }

static bool is_text(zk_str s, const char *text)
{
    return s.size == strlen(text) && !memcmp(s.data, text, s.size);
}

/* ---- sending ---- */

static int put_str(zk__hop *l, zk_str s) { return zk__hop_put(l, s.data, s.size); }

static int put_field(zk__hop *l, zk_str name, zk_str value)
{
    int rc = put_str(l, name);
    if (!rc) rc = zk__hop_put(l, ": ", 2);
    if (!rc) rc = put_str(l, value);
    return rc ? rc : zk__hop_put(l, "\r\n", 2);
}

/* RFC 9110 section 8.6: a method that expects a body says so even if there is none. */
static bool says_length(const zk__ask *ask)
{
    return ask->has_body || is_text(ask->method, "POST") || is_text(ask->method, "PUT") ||
           is_text(ask->method, "PATCH");
}

static int head_send(zk__hop *l, const zk__ask *ask)
{
    char host[ZK_URL_AUTHORITY_BYTES], length[32];
    int rc = put_str(l, ask->method);
    if (!rc) rc = zk__hop_put(l, " ", 1);
    size_t host_size = zk_url_authority(&ask->url, host);
    if (!rc && ask->via) rc = put_str(l, ZK_STR("http://"));
    if (!rc && ask->via) rc = zk__hop_put(l, host, host_size);
    if (!rc) rc = put_str(l, ask->url.path);
    if (!rc && ask->url.query.data) rc = zk__hop_put(l, "?", 1);
    if (!rc && ask->url.query.data) rc = put_str(l, ask->url.query);
    if (!rc) rc = put_str(l, ZK_STR(" HTTP/1.1\r\n"));
    if (!rc && !zk__field_find(ask->fields, ask->field_count, "host")) {
        rc = put_field(l, ZK_STR("Host"), (zk_str){host, host_size});
    }
    if (!rc && ask->via && ask->via->authorization) {
        rc = put_field(l, ZK_STR("Proxy-Authorization"), str(ask->via->authorization));
    }
    if (!rc && ask->cookie.data) rc = put_field(l, ZK_STR("Cookie"), ask->cookie);
    for (size_t i = 0; i < ask->field_count && !rc; i++)
        rc = put_field(l, ask->fields[i].name, ask->fields[i].value);
    if (!rc && ask->has_body && ask->body_length < 0) {
        rc = put_str(l, ZK_STR("Transfer-Encoding: chunked\r\n"));
    } else if (!rc && says_length(ask)) {
        int n = snprintf(length, sizeof length, "%lld", (long long)ask->body_length);
        rc = put_field(l, ZK_STR("Content-Length"), (zk_str){length, (size_t)n});
    }
    return rc ? rc : zk__hop_put(l, "\r\n", 2);
}

/* The hop is not needed any more. */
static void hop_part(zk_fetch *f)
{
    if (!f->hop) return;
    f->talk = zk__hop_part(f->hop);
    f->hop = NULL;
}

static void hop_break(zk_fetch *f)
{
    if (f->hop) f->hop->is_broken = true;
    hop_part(f);
}

static void talk_drop(zk_fetch *f)
{
    zk__h2_call_free(f->call);
    f->call = NULL;
    hop_part(f);
    if (f->talk) zk__talk_give(f->pool, f->talk);
    f->talk = NULL;
}

/* The server has closed the connection. */
static bool is_dead(int rc)
{
    return rc == ZK_E_CLOSED || rc == -ECONNRESET || rc == -EPIPE || rc == ZK_E_TLS_TRUNCATED;
}

static bool is_idempotent(zk_str method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_text(method, names[i])) return true;
    }
    return false;
}

/* Of several codings none is undone: what is left then is told by Content-Encoding. */
static int decoder_choose(zk_fetch *f)
{
    const zk__h1_answer *a = zk__fetch_answer(f);
    zk__decoder_free(f->decoder);
    f->decoder = NULL;
    if (!f->wants_decoding || a->framing == ZK__H1_NO_BODY) return 0;
    const zk_field *coding = zk__field_find(a->fields, a->field_count, "content-encoding");
    if (!coding) return 0;
    int rc = zk__decoder_new(coding->value, &f->decoder);
    if (rc) return rc < 0 ? rc : 0;
    if (!f->raw) f->raw = zk_arena_alloc(&f->arena, RAW_BYTES);
    f->raw_left = (zk_str){f->raw, 0};
    return f->raw ? 0 : -ENOMEM;
}

static int answer_wait_h1(zk_fetch *f)
{
    const zk__hop *l = f->hop;
    int rc = zk__hop_answer(f->hop);
    if (rc < 0 && l->is_reused && !l->has_received && is_dead(rc)) {
        return zk_fail(rc, "%s has ended a kept connection as the request went out",
                       l->origin->address);
    }
    if (rc < 0) return zk_fail(rc, "the answer of %s", l->origin->address);
    if (f->talk->answer.is_switched) { /* nobody has asked for that */
        return zk_fail(ZK_E_HTTP_SYNTAX, "the answer of %s: an upgrade nobody has asked for",
                       f->hop->origin->address);
    }
    return 0;
}

static int cookies_take(zk_fetch *f)
{
    const zk__h1_answer *a = zk__fetch_answer(f);
    int rc = 0;
    for (size_t i = 0; f->client->cookies && i < a->field_count && !rc; i++) {
        if (!zk__name_equal(a->fields[i].name, "set-cookie", 10)) continue;
        rc = zk__cookies_take(f->client->cookies, &f->ask.url, a->fields[i].value);
    }
    return rc;
}

static int answer_wait(zk_fetch *f)
{
    f->state = ZK__FETCH_SENT;
    int rc = f->call ? zk__h2_call_answer(f->call, f->client->limits.answer_timeout_ms)
                     : answer_wait_h1(f);
    if (rc < 0) return rc;
    f->state = ZK__FETCH_ANSWERED;
    rc = cookies_take(f);
    if (!rc) rc = decoder_choose(f);
    if (rc < 0) return rc;
    if (f->hop && zk__hop_is_read(f->hop)) hop_part(f);
    return 0;
}

/* Sends the request, and unless it is streamed waits for the answer. */
static int try_once(zk_fetch *f, bool must_be_new)
{
    zk__origin *o;
    int rc = zk__client_origin(f->client, f->pool, &f->ask.url, f->connect, &f->ask.via, &o);
    if (rc < 0) return rc;
    rc = zk__origin_reach(o, NULL, must_be_new, &f->hop);
    if (rc < 0) return rc;
    if (!f->hop) {
        rc = zk__h2_call_open(o->h2, &f->ask, &f->call);
        return rc < 0 || f->ask.is_streamed ? rc : answer_wait(f);
    }
    f->talk = f->hop->talk;
    f->hop->is_checked = f->ask.is_streamed || !is_idempotent(f->ask.method);
    zk__hop_ask(f->hop, is_text(f->ask.method, "HEAD") ? ZK__H1_ASKED_HEAD : ZK__H1_ASKED_USUAL,
                f->ask.has_body);
    rc = head_send(f->hop, &f->ask);
    if (rc < 0 || f->ask.is_streamed) return rc;
    if (f->ask.body_size) rc = zk__hop_write(f->hop, f->ask.body, f->ask.body_size);
    if (!rc) rc = zk__hop_flush(f->hop);
    f->hop->is_request_done = !rc;
    /* A server may answer and close before it has read all: the answer counts. */
    bool may_have_answered = f->ask.body_size && (rc == -EPIPE || rc == -ECONNRESET);
    return !rc || (may_have_answered && f->hop->has_sent) ? answer_wait(f) : rc;
}

/* RFC 9112 section 9.3.1: an idle connection may be closed at any time, by no fault of the
 * request's. */
static bool may_try_again(const zk_fetch *f, int rc)
{
    const zk__h2_call *c = f->call;
    if (c && c->was_not_begun) return !f->ask.is_streamed;
    if (c) return c->is_reused && !c->has_answer && is_dead(rc) && is_idempotent(f->ask.method);
    const zk__hop *l = f->hop;
    if (!l || !is_dead(rc) || !l->is_reused || l->has_received) return false;
    return !l->has_sent || is_idempotent(f->ask.method);
}

static int exchange(zk_fetch *f)
{
    if (f->client->cookies && !zk__field_find(f->ask.fields, f->ask.field_count, "cookie")) {
        int rc = zk__cookies_say(f->client->cookies, &f->ask.url, &f->arena, &f->ask.cookie);
        if (rc < 0) return rc;
    }
    for (int tries = 1;; tries++) {
        int rc = try_once(f, tries > 1);
        if (rc >= 0) return 0;
        bool goes_on = tries < TRIES_MAX && may_try_again(f, rc);
        hop_break(f);
        talk_drop(f);
        if (!goes_on) return rc;
    }
}

/* Reads and forgets the body of a redirect, if it is short. */
static void body_discard(zk_fetch *f)
{
    zk_str span;
    size_t total = 0;
    while (f->hop && total < DISCARD_MAX) {
        int rc = zk__hop_span(f->hop, &span);
        if (rc <= 0) break;
        total += span.size;
    }
    if (f->hop && !zk__hop_is_read(f->hop)) hop_break(f);
    talk_drop(f);
}

/* Goes on to the last of the redirects. */
static int follow(zk_fetch *f)
{
    for (;;) {
        int rc = zk__fetch_redirect(f);
        if (rc <= 0) return rc;
        body_discard(f);
        f->written = 0;
        rc = exchange(f);
        if (rc < 0) return rc;
    }
}

/* ---- opening and closing ---- */

int zk_fetch_open(zk_client *client, const zk_fetch_options *options, zk_fetch **ret_fetch)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    int rc = client ? 0 : zk__client_implicit(&client);
    if (rc < 0) return rc;
    zk_fetch *f = zk_alloc_zeroed(sizeof *f);
    if (!f) return -ENOMEM;
    f->client = client;
    f->pool = zk__client_pool(client);
    rc = f->pool ? zk__ask_fill(f, options) : -ENOMEM;
    if (!rc) rc = exchange(f);
    if (!rc && f->state == ZK__FETCH_ANSWERED) rc = follow(f);
    if (rc < 0) {
        zk_fetch_close(f);
        return rc;
    }
    *ret_fetch = f;
    return 0;
}

int zk_get(const char *url, zk_fetch **ret_fetch)
{
    return zk_fetch_open(NULL, &(zk_fetch_options){.url = url}, ret_fetch);
}

int zk_post(const char *url, const char *content_type, const void *data, size_t size,
            zk_fetch **ret_fetch)
{
    zk_fetch_options options = {
        .url = url,
        .method = "POST",
        .content_type = content_type,
        .body = data ? data : "",
        .body_size = size,
    };
    return zk_fetch_open(NULL, &options, ret_fetch);
}

void zk_fetch_close(zk_fetch *f)
{
    if (!f) return;
    if (f->hop && f->state == ZK__FETCH_ANSWERED) zk__hop_forget_body(f->hop);
    if (f->state != ZK__FETCH_ANSWERED) hop_break(f);
    talk_drop(f);
    zk__decoder_free(f->decoder);
    zk_arena_done(&f->arena);
    zk_free(f);
}

/* ---- a streamed request ---- */

static int may_write(const zk_fetch *f)
{
    if (f->error) return f->error;
    return f->state == ZK__FETCH_SENDING && f->ask.is_streamed ? 0 : ZK_E_HTTP_STATE;
}

/* Errors stick. */
static int done(zk_fetch *f, int rc) { return rc < 0 ? f->error = rc : rc; }

int zk_fetch_write(zk_fetch *f, const void *data, size_t size)
{
    int rc = may_write(f);
    if (rc < 0 || !size) return rc;
    bool is_known = f->ask.body_length >= 0;
    if (is_known && size > (uint64_t)f->ask.body_length - f->written) return ZK_E_HTTP_LENGTH;
    f->written += size;
    if (f->call) return done(f, zk__h2_call_write(f->call, data, size, false));
    if (!is_known) return done(f, zk__hop_write_chunk(f->hop, data, size));
    return done(f, zk__hop_write(f->hop, data, size));
}

int zk_fetch_flush(zk_fetch *f)
{
    int rc = may_write(f);
    return rc < 0 || f->call ? rc : done(f, zk__hop_flush(f->hop));
}

int zk_fetch_write_trailer(zk_fetch *f, const char *name, const char *value)
{
    int rc = may_write(f);
    if (rc < 0) return rc;
    if (f->ask.body_length >= 0) return ZK_E_HTTP_STATE;
    return zk__fields_add(&f->arena, &f->trailers, &f->trailer_count, &f->trailer_capacity,
                          str(name), str(value));
}

static int body_end(zk_fetch *f)
{
    zk__hop *l = f->hop;
    bool is_known = f->ask.body_length >= 0;
    if (is_known && f->written != (uint64_t)f->ask.body_length) return ZK_E_HTTP_LENGTH;
    if (f->call) {
        f->call->out_trailers = f->trailers;
        f->call->out_trailer_count = f->trailer_count;
        return zk__h2_call_write(f->call, NULL, 0, true);
    }
    if (is_known) return zk__hop_flush(l);
    int rc = zk__hop_put(l, "0\r\n", 3);
    for (size_t i = 0; i < f->trailer_count && !rc; i++)
        rc = put_field(l, f->trailers[i].name, f->trailers[i].value);
    if (!rc) rc = zk__hop_put(l, "\r\n", 2);
    return rc ? rc : zk__hop_flush(l);
}

int zk_fetch_answer(zk_fetch *f)
{
    if (f->state == ZK__FETCH_ANSWERED) return f->error;
    int rc = f->error;
    if (!rc) {
        rc = body_end(f);
        if (f->hop) f->hop->is_request_done = !rc;
    }
    /* A server may answer and close before it has read all: the answer counts. */
    if (!rc || rc == -EPIPE || rc == -ECONNRESET) {
        int sent = rc;
        f->error = 0;
        rc = answer_wait(f);
        if (rc < 0 && sent < 0) rc = sent;
    }
    if (!rc) rc = follow(f);
    return done(f, rc);
}

/* ---- the response ---- */

static const zk__h1_answer *answer(const zk_fetch *f)
{
    return f->state == ZK__FETCH_ANSWERED ? zk__fetch_answer(f) : NULL;
}

int zk_fetch_status(const zk_fetch *f) { return answer(f) ? answer(f)->status : 0; }
int zk_fetch_version(const zk_fetch *f)
{
    return !answer(f) ? 0 : f->call ? 20 : 10 + answer(f)->minor;
}
const char *zk_fetch_url(const zk_fetch *f) { return f->ask.url_text; }
size_t zk_fetch_header_count(const zk_fetch *f) { return answer(f) ? answer(f)->field_count : 0; }
zk_field zk_fetch_header_at(const zk_fetch *f, size_t i) { return answer(f)->fields[i]; }

zk_str zk_fetch_header(const zk_fetch *f, const char *name)
{
    const zk__h1_answer *a = answer(f);
    const zk_field *field = a ? zk__field_find(a->fields, a->field_count, name) : NULL;
    return field ? field->value : (zk_str){NULL, 0};
}

zk_str zk_fetch_trailer(const zk_fetch *f, const char *name)
{
    const zk_field *field = !answer(f) ? NULL
                            : f->call
                                ? zk__field_find(f->call->trailers, f->call->trailer_count, name)
                                : zk__field_find(f->talk->trailers, f->talk->trailer_count, name);
    return field ? field->value : (zk_str){NULL, 0};
}

int64_t zk_fetch_length(const zk_fetch *f)
{
    const zk__h1_answer *a = answer(f);
    if (!a || a->framing == ZK__H1_NO_BODY) return 0;
    if (a->framing != ZK__H1_LENGTH || f->decoder) return -1;
    return a->content_length > INT64_MAX ? INT64_MAX : (int64_t)a->content_length;
}

/* Whether all that was sent has been read. */
static bool is_read(const zk_fetch *f)
{
    const zk__h2_call *c = f->call;
    return c ? c->is_in_ended && !zk__received_size(&c->in) : !f->hop;
}

/* Bytes as they were sent. */
static ssize_t read_raw(zk_fetch *f, void *buf, size_t size)
{
    if (f->call) {
        ssize_t n = zk__h2_call_read(f->call, buf, size);
        return n < 0 ? done(f, (int)n) : n;
    }
    if (!f->hop) return 0;
    ssize_t n = zk__hop_read(f->hop, buf, size);
    if (n < 0) {
        hop_break(f);
        return done(f, (int)n);
    }
    if (zk__hop_is_read(f->hop)) hop_part(f);
    return n;
}

static ssize_t read_decoded(zk_fetch *f, void *buf, size_t size)
{
    for (;;) {
        ssize_t n = zk__decoder_run(f->decoder, &f->raw_left, is_read(f), buf, size);
        if (n < 0) return done(f, (int)n);
        if (n > 0 || is_read(f)) return n;
        if (f->raw_left.size) memmove(f->raw, f->raw_left.data, f->raw_left.size);
        ssize_t got = read_raw(f, f->raw + f->raw_left.size, RAW_BYTES - f->raw_left.size);
        if (got < 0) return got;
        f->raw_left = (zk_str){f->raw, f->raw_left.size + (size_t)got};
    }
}

ssize_t zk_fetch_read(zk_fetch *f, void *buf, size_t size)
{
    if (f->error) return f->error;
    if (f->state != ZK__FETCH_ANSWERED) return ZK_E_HTTP_STATE;
    if (!size) return 0;
    return f->decoder ? read_decoded(f, buf, size) : read_raw(f, buf, size);
}

int zk_fetch_body(zk_fetch *f, zk_str *ret_body)
{
    uint64_t limit = f->client->body_bytes_max;
    int64_t length = zk_fetch_length(f);
    if (length > 0 && (uint64_t)length > limit) return ZK_E_HTTP_BODY_TOO_LARGE;
    size_t capacity = length >= 0 ? (size_t)length + 1 : 4096, size = 0;
    char *data = zk_arena_alloc(&f->arena, capacity);
    while (data) {
        ssize_t n = zk_fetch_read(f, data + size, capacity - 1 - size);
        if (n < 0) return (int)n;
        size += (size_t)n;
        if (size > limit) return ZK_E_HTTP_BODY_TOO_LARGE;
        if (n == 0 && size < capacity - 1) break;
        if (is_read(f) && !f->decoder) break;
        if (size < capacity - 1) continue;
        char *larger = zk_arena_alloc(&f->arena, 2 * capacity);
        if (larger) memcpy(larger, data, size);
        data = larger;
        capacity *= 2;
    }
    if (!data) return -ENOMEM;
    data[size] = '\0';
    *ret_body = (zk_str){data, size};
    return 0;
}
