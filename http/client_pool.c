/*
 * A client's connections on one worker, see client_pool.h.
 *
 *   (none) --dial--> in use --give--> idle (parked) --take--> in use
 *                      |                 \--bytes, the end, too long--> closed
 *                      \--broken--> closed
 *
 * Idle ones are taken newest first, so that those beyond what is needed grow old. Anything that
 * arrives on an idle connection ends it: nobody has asked, so it cannot be an answer.
 *
 * `count` of an origin is how many places of its limit are taken. Who finds no place waits in line;
 * a connection that becomes free, or its place, is handed to the first in line.
 */
#include "http/client_pool.h"

#include <string.h>

#include "http/client_greeting.h"
#include "http/client_local.h"
#include "http/client_via.h"
#include "http/dial.h"
#include "http/h2_client.h"
#include "net/stream.h"

enum { TALKS_KEPT = 8, ORIGINS_KEPT = 256 };

struct zk__hop_wait {
    zk__wait wait;
    zk__hop_wait *next, **link;
    zk__origin *origin;
    zk__hop *got; /* NULL: a place to make one in */
};

/* ---- talks ---- */

static zk__talk *talk_new(const zk__hop_limits *limits)
{
    size_t in_bytes = (size_t)limits->header_bytes_max + ZK__HOP_IN_EXTRA_BYTES;
    size_t field_bytes = limits->header_count_max * sizeof(zk_field);
    zk__talk *t = zk_alloc(sizeof *t + 2 * field_bytes + in_bytes);
    if (!t) return NULL;
    t->fields = (zk_field *)(void *)(t + 1);
    t->trailers = t->fields + limits->header_count_max;
    t->in = (char *)(t->trailers + limits->header_count_max);
    t->in_capacity = in_bytes;
    return t;
}

static zk__talk *talk_take(zk__pool *pool)
{
    zk__talk *t = pool->talks;
    if (t) {
        pool->talks = t->next;
        zk__spare_taken(&pool->spare_talks);
    } else {
        t = talk_new(&pool->limits);
        if (!t) return NULL;
    }
    zk__h1_response_init(&t->h1, &(zk__h1_limits){
                                     .head_bytes_max = pool->limits.header_bytes_max,
                                     .fields_max = pool->limits.header_count_max,
                                 });
    return t;
}

void zk__talk_give(zk__pool *pool, zk__talk *t)
{
    t->next = pool->talks;
    pool->talks = t;
    zk__spare_given(&pool->spare_talks);
}

static void talk_free_one(zk__spare *spare)
{
    zk__pool *pool = (zk__pool *)(void *)((char *)spare - offsetof(zk__pool, spare_talks));
    zk__talk *t = pool->talks;
    pool->talks = t->next;
    zk_free(t);
}

/* ---- the line ---- */

static void line_remove(zk__hop_wait *w)
{
    *w->link = w->next;
    if (w->next) {
        w->next->link = w->link;
    } else {
        w->origin->waiting_end = w->link;
    }
}

static void line_cancel(zk__wait *wait)
{
    line_remove((zk__hop_wait *)(void *)wait);
    zk__wait_end(wait, -ECANCELED);
}

/* Hands a connection, or NULL for a place, to the first in line. returns whether there was one. */
static bool line_serve(zk__origin *o, zk__hop *hop)
{
    zk__hop_wait *w = o->waiting;
    if (!w) return false;
    line_remove(w);
    w->got = hop;
    zk__wait_end(&w->wait, 0);
    return true;
}

static int line_wait(zk__origin *o, zk__hop **ret_hop)
{
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    static const zk__wait_kind kind = {.name = "place in a connection pool", .is_by_tasks = true};
    zk__hop_wait w = {.wait.cancel = line_cancel, .wait.kind = &kind, .origin = o};
    w.link = o->waiting_end;
    *w.link = &w;
    o->waiting_end = &w.next;
    rc = (int)zk__wait_for(&w.wait);
    if (rc < 0) return rc;
    *ret_hop = w.got;
    return 0;
}

/* ---- links ---- */

/* The place of a connection is free. */
static void place_free(zk__origin *o)
{
    if (!line_serve(o, NULL)) o->count--;
}

static void hop_free(zk__hop *l)
{
    zk__origin *o = l->origin;
    zk_stream_close(l->stream);
    if (l->talk) zk__talk_give(o->pool, l->talk);
    zk_free(l->greeting);
    zk_free(l);
    place_free(o);
}

zk_stream *zk__hop_leave(zk__hop *l)
{
    zk_stream *stream = l->stream;
    l->stream = NULL;
    hop_free(l);
    return stream;
}

static void idle_remove(zk__hop *l)
{
    zk__origin *o = l->origin;
    *l->link = l->next;
    if (l->next) {
        l->next->link = l->link;
    } else {
        o->idle_last = l->link == &o->idle
                           ? NULL
                           : (zk__hop *)(void *)((char *)l->link - offsetof(zk__hop, next));
    }
    __atomic_store_n(&o->idle_count, o->idle_count - 1, __ATOMIC_RELAXED); /* for metrics */
}

static void idle_end(zk__hop *l)
{
    idle_remove(l);
    hop_free(l);
}

static void on_unasked(void *context) { idle_end(context); }

static void on_timer(zk__timer *timer)
{
    zk__origin *o = (zk__origin *)(void *)((char *)timer - offsetof(zk__origin, timer));
    while (o->idle_last && o->idle_last->idle_until <= zk_now())
        idle_end(o->idle_last);
    if (o->idle_last) {
        zk__wheel_add(&zk__worker_self()->wheel, &o->timer, o->idle_last->idle_until);
    }
}

static void idle_add(zk__hop *l)
{
    zk__origin *o = l->origin;
    const zk__hop_limits *limits = &o->pool->limits;
    l->idle_until =
        limits->idle_timeout_ms < 0 ? INT64_MAX : zk_now() + ZK_MS(limits->idle_timeout_ms);
    l->next = o->idle;
    l->link = &o->idle;
    if (l->next) {
        l->next->link = &l->next;
    } else {
        o->idle_last = l;
    }
    o->idle = l;
    __atomic_store_n(&o->idle_count, o->idle_count + 1, __ATOMIC_RELAXED);
    if (!zk__timer_is_pending(&o->timer) && l->idle_until != INT64_MAX) {
        zk__wheel_add(&zk__worker_self()->wheel, &o->timer, l->idle_until);
    }
}

/* Bytes behind the response are no answer to anything that was asked. */
static bool is_reusable(const zk__hop *l)
{
    const zk__talk *t = l->talk;
    return !l->is_broken && l->is_request_done && t->h1.state == ZK__H1_DONE &&
           t->in_begin == t->in_end;
}

/* To the next who waits for it, among the idle ones, or away. */
static void hop_settle(zk__hop *l, bool is_good)
{
    zk__origin *o = l->origin;
    l->is_reused = true;
    /* A greeted one is nobody else's, so it makes room for who waits. */
    bool is_wanted = l->greeting && o->waiting;
    if (is_good && !is_wanted && line_serve(o, l)) return;
    if (!is_good || is_wanted || o->is_retired || o->idle_count >= o->pool->limits.idle_max ||
        zk_stream_park(l->stream, on_unasked, l)) {
        hop_free(l);
        return;
    }
    if (l->talk) zk__talk_give(o->pool, l->talk);
    l->talk = NULL;
    idle_add(l);
}

void zk__hop_give(zk__hop *l) { hop_settle(l, is_reusable(l)); }

zk__talk *zk__hop_part(zk__hop *l)
{
    zk__talk *t = l->talk;
    bool is_good = is_reusable(l);
    l->talk = NULL;
    hop_settle(l, is_good);
    return t;
}

/* ---- taking ---- */

static int put_text(zk__hop *l, const char *text) { return zk__hop_put(l, text, strlen(text)); }

/* CONNECT (RFC 9110 section 9.3.6): behind its 2xx the connection is one to the origin. */
static int tunnel_ask(zk__hop *l)
{
    const zk__origin *o = l->origin;
    zk__hop_ask(l, ZK__H1_ASKED_CONNECT, false);
    int rc = put_text(l, "CONNECT ");
    if (!rc) rc = put_text(l, o->address);
    if (!rc) rc = put_text(l, " HTTP/1.1\r\nHost: ");
    if (!rc) rc = put_text(l, o->address);
    if (!rc && o->via->authorization) rc = put_text(l, "\r\nProxy-Authorization: ");
    if (!rc && o->via->authorization) rc = put_text(l, o->via->authorization);
    if (!rc) rc = put_text(l, "\r\n\r\n");
    if (!rc) rc = zk__hop_flush(l);
    if (!rc) rc = zk__hop_answer(l);
    if (rc < 0) return zk_fail(rc, "the proxy %s", o->via->address);
    const zk__talk *t = l->talk;
    if (!t->answer.is_switched) {
        return zk_fail(ZK_E_HTTP_TUNNEL, "the proxy %s answers %d", o->via->address,
                       t->answer.status);
    }
    /* In TLS the client speaks first. */
    return t->in_begin == t->in_end ? 0 : ZK_E_HTTP_SYNTAX;
}

static int tunnel_open(zk__origin *o, zk_stream **ret_stream)
{
    zk__hop l = {.origin = o};
    int rc = zk__dial(o->via->address, &l.stream);
    if (rc < 0) return rc;
    l.talk = talk_take(o->pool);
    rc = -ENOMEM;
    if (l.talk) {
        zk__hop_begin(&l);
        rc = tunnel_ask(&l);
        zk__talk_give(o->pool, l.talk);
    }
    if (rc < 0) zk_stream_close(l.stream);
    if (!rc) *ret_stream = l.stream;
    return rc;
}

static int stream_open(zk__origin *o, const zk__greeting *greeting, zk__greeting **ret_own,
                       zk_stream **ret_stream)
{
    zk__local *local = o->pool->local;
    zk_stream *stream;
    int rc = local    ? zk__local_dial(local, &stream)
             : o->via ? tunnel_open(o, &stream)
                      : zk__dial(o->address, &stream);
    if (ZK_UNLIKELY(rc >= 0 && o->pool->limits.proxy_protocol)) {
        rc = zk__greeting_send(o->pool->limits.proxy_protocol, greeting, stream, ret_own);
        if (rc < 0) zk_stream_close(stream);
    }
    if (rc >= 0 && o->tls) {
        zk_stream *inner = stream;
        rc = zk__dial_tls(o->tls, o->speaks == ZK__SPEAKS_HTTP1, inner, o->host, &stream);
        if (rc < 0) zk_stream_close(inner);
        if (rc < 0) rc = zk_fail(rc, "TLS with %s", o->address);
    }
    if (rc < 0) return rc;
    o->pool->opened++;
    *ret_stream = stream;
    return 0;
}

/* Makes a connection in a place that has been taken. */
static int hop_open(zk__origin *o, const zk__greeting *greeting, zk__hop **ret_hop)
{
    zk__hop *l = zk_alloc_zeroed(sizeof *l);
    if (!l) return -ENOMEM;
    l->origin = o;
    int rc = stream_open(o, greeting, &l->greeting, &l->stream);
    bool is_h2 = rc >= 0 && (o->speaks == ZK__SPEAKS_H2 || (o->tls && zk__dial_is_h2(l->stream)));
    if (rc >= 0) o->is_h2 = is_h2;
    if (is_h2) rc = zk__h2_link_new(o, l->stream);
    if (rc < 0 || is_h2) {
        zk_free(l->greeting);
        zk_free(l);
        *ret_hop = NULL;
        return rc;
    }
    *ret_hop = l;
    return 0;
}

/* An idle connection to be used. */
static zk__hop *idle_take(zk__origin *o, const zk__greeting *greeting)
{
    zk__hop *l = o->idle;
    while (l && ZK_UNLIKELY(l->greeting != greeting) && !zk__greeting_equal(l->greeting, greeting))
        l = l->next;
    if (!l) return NULL;
    idle_remove(l);
    zk_stream_unpark(l->stream);
    return l;
}

/* With HTTP/2 one connection is made, for all that wait. */
static uint32_t places_max(const zk__origin *o)
{
    return o->is_h2 ? 1 : o->pool->limits.connections_max;
}

/* returns 0 with a connection or, *ret_hop being NULL, a place to make one in. */
static int place_take(zk__origin *o, bool must_be_new, zk__hop **ret_hop)
{
    *ret_hop = NULL;
    if (o->count < places_max(o)) {
        o->count++;
        return 0;
    }
    if (must_be_new && o->idle_last) {
        idle_end(o->idle_last);
        o->count++;
        return 0;
    }
    for (;;) {
        int rc = line_wait(o, ret_hop);
        if (rc < 0 || !*ret_hop || !must_be_new) return rc;
        hop_free(*ret_hop); /* and its place goes to the next, who may be us */
        if (o->count < places_max(o)) {
            o->count++;
            *ret_hop = NULL;
            return 0;
        }
    }
}

static int hop_get(zk__origin *o, const zk__greeting *greeting, bool must_be_new, zk__hop **ret_hop)
{
    zk__hop *l;
    int rc = place_take(o, must_be_new || greeting, &l);
    if (rc < 0) return rc;
    /* While it has waited for a place another may have found that the server speaks HTTP/2. */
    if (!l && !zk__h2_has_room(o, 1)) rc = hop_open(o, greeting, &l);
    if (rc < 0 || !l) place_free(o);
    if (rc < 0) return rc;
    *ret_hop = l;
    return 0;
}

int zk__hop_redial(zk__hop *l)
{
    zk__origin *o = l->origin;
    zk__greeting *own = NULL;
    zk_stream *stream;
    int timeout_ms = o->pool->limits.connect_timeout_ms;
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
    int rc = stream_open(o, l->greeting, &own, &stream);
    zk_free(own); /* the same as the hop's */
    if (rc == -ETIMEDOUT && wait.reason && !wait.parent->reason) rc = ZK_E_HTTP_TIMEOUT;
    if (rc == -ECANCELED && wait.parent->reason) rc = wait.parent->reason;
    if (rc < 0) return rc;
    if (o->tls && zk__dial_is_h2(stream)) { /* the request has been put into HTTP/1.1 */
        zk_stream_close(stream);
        return ZK_E_CLOSED;
    }
    zk__bind_to_worker();
    zk_stream_close(l->stream);
    l->stream = stream;
    l->is_reused = false;
    return 0;
}

static int hop_get_in_time(zk__origin *o, const zk__greeting *greeting, bool must_be_new,
                           zk__hop **ret_hop)
{
    int timeout_ms = o->pool->limits.connect_timeout_ms;
    zk_scope wait __attribute__((cleanup(zk__scope_leave)));
    zk__scope_enter_within(&wait, timeout_ms < 0 ? INT64_MAX : ZK_MS(timeout_ms));
    int rc = hop_get(o, greeting, must_be_new, ret_hop);
    if (rc == -ETIMEDOUT && wait.reason && !wait.parent->reason) rc = ZK_E_HTTP_TIMEOUT;
    if (rc == -ECANCELED && wait.parent->reason) rc = wait.parent->reason;
    return rc;
}

int zk__origin_reach(zk__origin *o, const zk__greeting *greeting, bool must_be_new,
                     zk__hop **ret_hop)
{
    zk__hop *l = NULL;
    if (!must_be_new && !o->h2) l = idle_take(o, greeting);
    if (!l && !zk__h2_has_room(o, 0)) {
        int rc = hop_get_in_time(o, greeting, must_be_new, &l);
        if (rc < 0 && o->h2 && !zk_cancelled()) rc = 0; /* then that one, which is full */
        if (rc == ZK_E_HTTP_TIMEOUT) return zk_fail(rc, "connecting to %s", o->address);
        if (rc < 0) return rc;
    }
    zk__bind_to_worker();
    if (l && !l->talk) l->talk = talk_take(o->pool);
    if (l && !l->talk) {
        hop_free(l);
        return -ENOMEM;
    }
    if (l && l->is_reused) o->pool->reused++;
    if (l) zk__hop_begin(l);
    *ret_hop = l;
    return 0;
}

/* ---- origins and pools ---- */

static void origin_free(zk__origin **at)
{
    zk__origin *o = *at;
    *at = o->next;
    o->pool->origin_count--;
    zk__wheel_remove(&zk__worker_self()->wheel, &o->timer);
    zk_free(o);
}

/* Forgets the origins that have no connections. */
static void origins_trim(zk__pool *pool)
{
    for (zk__origin **at = &pool->origins; *at;) {
        if ((*at)->count || (*at)->keepers || (*at)->h2_links) {
            at = &(*at)->next;
        } else {
            origin_free(at);
        }
    }
}

static zk__origin *origin_get(zk__pool *pool, zk_str address, zk_tls *tls, zk_str host,
                              const struct zk__via *via, enum zk__speaks speaks)
{
    for (zk__origin **at = &pool->origins, *o; (o = *at); at = &o->next) {
        bool is_it =
            o->tls == tls && o->via == via && o->speaks == speaks &&
            strlen(o->address) == address.size && !memcmp(o->address, address.data, address.size) &&
            (!tls || (strlen(o->host) == host.size && !memcmp(o->host, host.data, host.size)));
        if (!is_it) continue;
        *at = o->next; /* to the front */
        o->next = pool->origins;
        pool->origins = o;
        return o;
    }
    if (pool->origin_count >= ORIGINS_KEPT) origins_trim(pool);
    zk__origin *o = zk_alloc_zeroed(sizeof *o + address.size + 1 + host.size + 1);
    if (!o) return NULL;
    o->pool = pool;
    o->waiting_end = &o->waiting;
    o->timer.fire = on_timer;
    o->tls = tls;
    o->via = via;
    o->speaks = speaks;
    o->is_h2 = speaks == ZK__SPEAKS_H2;
    memcpy(o->address, address.data, address.size);
    o->host = o->address + address.size + 1;
    if (host.size) memcpy(o->host, host.data, host.size);
    o->next = pool->origins;
    pool->origins = o;
    pool->origin_count++;
    return o;
}

zk__origin *zk__pool_origin(zk__pool *pool, zk_str address, zk_tls *tls, zk_str host,
                            const struct zk__via *via)
{
    return origin_get(pool, address, tls, host, via, ZK__SPEAKS_AGREED);
}

zk__origin *zk__pool_origin_h2c(zk__pool *pool, zk_str address)
{
    return origin_get(pool, address, NULL, (zk_str){"", 0}, NULL, ZK__SPEAKS_H2);
}

zk__origin *zk__pool_origin_http1(zk__pool *pool, zk_str address, zk_tls *tls, zk_str host,
                                  const struct zk__via *via)
{
    return origin_get(pool, address, tls, host, via, ZK__SPEAKS_HTTP1);
}

void zk__origin_close_idle(zk__origin *o)
{
    while (o->idle)
        idle_end(o->idle);
}

void zk__origin_keep(zk__origin *o)
{
    o->keepers++;
    o->is_retired = false;
}

void zk__origin_retire(zk__origin *o)
{
    if (o->keepers > 1) return;
    o->is_retired = true;
    zk__origin_close_idle(o);
    zk__h2_links_leave(o);
}

void zk__origin_release(zk__origin *o)
{
    zk__origin_retire(o);
    o->keepers--;
}

static void pools_done(void *state)
{
    struct zk__pools *all = state;
    while (all->first)
        zk__pool_free(all->first);
    if (all->implicit) all->implicit_free(all->implicit);
    zk_free(all);
}

struct zk__pools *zk__pools_of_worker(void)
{
    zk__slot *slot = &zk__worker_self()->slots[ZK__SLOT_HTTP];
    if (!slot->state) slot->state = zk_alloc_zeroed(sizeof(struct zk__pools));
    slot->done = pools_done;
    return slot->state;
}

zk__pool *zk__pool_new(const zk__hop_limits *limits)
{
    struct zk__pools *all = zk__pools_of_worker();
    zk__pool *pool = all ? zk_alloc_zeroed(sizeof *pool) : NULL;
    if (!pool) return NULL;
    pool->limits = *limits;
    zk__spare_init(&pool->spare_talks, TALKS_KEPT, talk_free_one);
    pool->next = all->first;
    pool->link = &all->first;
    if (pool->next) pool->next->link = &pool->next;
    all->first = pool;
    return pool;
}

void zk__pool_free(zk__pool *pool)
{
    while (pool->origins) {
        zk__origin_close_idle(pool->origins);
        while (pool->origins->h2_links)
            zk__h2_link_end(pool->origins->h2_links, ZK_E_CLOSED);
        ZK_ASSERT(pool->origins->count == 0);
        origin_free(&pool->origins);
    }
    zk__spare_done(&pool->spare_talks);
    *pool->link = pool->next;
    if (pool->next) pool->next->link = pool->link;
    if (pool->owner) pool->owner_free(pool->owner);
    zk_free(pool);
}

static void on_free_message(zk__msg *msg)
{
    zk__pool_free((zk__pool *)(void *)((char *)msg - offsetof(zk__pool, msg)));
}

void zk__pool_free_on(zk__pool *pool, int worker_index)
{
    if (worker_index == zk_worker_index()) {
        zk__pool_free(pool);
        return;
    }
    pool->msg.run = on_free_message;
    zk__post(zk__worker_self()->runtime->workers[worker_index], &pool->msg);
}
