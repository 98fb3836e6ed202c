/*
 * Connecting to a host by name: happy eyeballs (RFC 8305).
 *
 * One task per attempt, all in a scope of this call, so none outlives it. The caller starts them
 * one by one and waits in between, until an attempt ends or the delay is over. The first stream is
 * kept in the record; an attempt that comes in second closes its own.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zokio/dns.h>
#include <zokio/tcp.h>

#include "core/worker.h"
#include "net/hosts.h"

enum { ATTEMPT_DELAY_MS = 250, PORT_TEXT_BYTES = 6 };

typedef struct dial {
    zk_addr addrs[ZK__HOST_ADDRS_MAX];
    int rcs[ZK__HOST_ADDRS_MAX];
    int count, started, ended;
    zk_stream *stream; /* the winner */
    zk__wait *wait;    /* the caller's, while it waits for an attempt to end */
} dial;

typedef struct attempt {
    dial *dial;
    int index;
} attempt;

static const zk_site attempt_site = {"zk_connect_host attempt", __FILE__, __LINE__};

static void dial_wake(dial *d, int rc)
{
    zk__wait *wait = d->wait;
    d->wait = NULL;
    if (wait) zk__wait_end(wait, rc);
}

static int attempt_run(void *arg)
{
    attempt *a = arg;
    dial *d = a->dial;
    zk_stream *stream;
    int rc = zk_connect(&d->addrs[a->index], &stream);
    if (rc >= 0 && d->stream) {
        zk_stream_close(stream);
    } else if (rc >= 0) {
        d->stream = stream;
    }
    d->rcs[a->index] = rc;
    d->ended++;
    dial_wake(d, 0);
    return 0;
}

typedef struct dial_wait {
    zk__wait wait;
    dial *dial;
} dial_wait;

static void wait_cancel(zk__wait *wait)
{
    dial_wake(((dial_wait *)(void *)wait)->dial, -ECANCELED);
}

/* Waits until another attempt has ended. */
static int attempt_wait(dial *d, int ended)
{
    if (d->ended > ended) return 0;
    int rc = zk__wait_begin();
    if (rc < 0) return rc;
    static const zk__wait_kind kind = {.name = "connect to a host"};
    dial_wait w = {.wait.cancel = wait_cancel, .wait.kind = &kind, .dial = d};
    d->wait = &w.wait;
    return (int)zk__wait_for(&w.wait);
}

static void dial_run(dial *d, zk_time delay)
{
    ZK_SCOPE(attempts) {
        int rc = 0;
        while (!d->stream && (d->started < d->count || d->ended < d->started)) {
            bool is_last = d->started == d->count;
            int ended = d->ended;
            if (!is_last) {
                attempt a = {d, d->started};
                zk_spawn_options options = {
                    .site = &attempt_site,
                    .arg_bytes = sizeof a,
                    .is_pinned = true,
                };
                rc = zk_spawn_with(&attempts, &options, attempt_run, &a);
                d->started++;
                if (rc < 0) {
                    d->rcs[a.index] = rc;
                    d->ended++;
                    continue;
                }
            }
            if (is_last) {
                rc = attempt_wait(d, ended);
            } else {
                ZK_WITHIN(delay)
                    rc = attempt_wait(d, ended);
            }
            if (zk_cancelled() < 0 || rc == -ENOMEM) break;
        }
        zk_scope_cancel(&attempts); /* the losers; leaving the block joins them */
    }
}

/* Families in turn, beginning with that of the first address (RFC 8305 section 4). */
static void interleave(dial *d)
{
    zk_addr sorted[ZK__HOST_ADDRS_MAX];
    int next[2] = {0, 0};
    sa_family_t first = d->addrs[0].sa.sa_family;
    for (int i = 0; i < d->count; i++) {
        for (int turn = 0; turn < 2; turn++) {
            int which = (i + turn) % 2;
            int *n = &next[which];
            while (*n < d->count && (d->addrs[*n].sa.sa_family == first) != (which == 0))
                ++*n;
            if (*n == d->count) continue;
            sorted[i] = d->addrs[(*n)++];
            break;
        }
    }
    memcpy(d->addrs, sorted, (size_t)d->count * sizeof *sorted);
}

/* Each attempt's error, the first in front, and the first one's as the result. */
static int dial_fail(dial *d, const char *host)
{
    char text[ZK_ADDR_TEXT_BYTES], list[512];
    size_t size = 0;
    list[0] = '\0';
    for (int i = 0; i < d->count && size < sizeof list; i++) {
        zk_addr_format(&d->addrs[i], text);
        int n = snprintf(list + size, sizeof list - size, "%s%s %s", i ? ", " : "", text,
                         zk_errname(d->rcs[i]));
        size += n > 0 ? (size_t)n : 0;
    }
    return zk_fail(d->rcs[0], "connecting to %.300s (%s)", host, list);
}

/* Splits "name:port". returns false for an address, and for what has no port. */
static bool host_split(const char *host, char *name, uint16_t *ret_port)
{
    const char *colon = strrchr(host, ':');
    if (!colon || host[0] == '[' || colon == host || !strncmp(host, "unix:", 5)) return false;
    size_t size = (size_t)(colon - host);
    if (size > ZK__HOST_NAME_MAX + 1 || memchr(host, ':', size)) return false;
    unsigned port = 0;
    size_t digits = strlen(colon + 1);
    if (digits == 0 || digits >= PORT_TEXT_BYTES) return false;
    for (const char *c = colon + 1; *c; c++) {
        if (*c < '0' || *c > '9') return false;
        port = port * 10 + (unsigned)(*c - '0');
    }
    if (port > UINT16_MAX) return false;
    memcpy(name, host, size);
    name[size] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

static int connect_to(dial *d, const char *host, const zk_connect_options *options,
                      zk_stream **ret_stream)
{
    int delay_ms =
        options && options->attempt_delay_ms ? options->attempt_delay_ms : ATTEMPT_DELAY_MS;
    if (delay_ms < 0) return ZK_E_CONFIG;
    char name[ZK__HOST_NAME_MAX + 2];
    uint16_t port;
    if (!host_split(host, name, &port)) {
        int rc = zk_addr_parse(host, &d->addrs[0]);
        if (rc < 0) return rc;
        d->count = 1;
    } else {
        int rc = zk_resolve(name, options ? options->resolve : NULL, d->addrs, ZK__HOST_ADDRS_MAX);
        if (rc < 0) return rc;
        d->count = rc;
        for (int i = 0; i < d->count; i++)
            d->addrs[i].in.sin_port = htons(port); /* in the same place in sockaddr_in6 */
    }
    interleave(d);
    for (int i = 0; i < d->count; i++)
        d->rcs[i] = -ENOMEM; /* of those that are never started */
    dial_run(d, ZK_MS(delay_ms));
    if (d->stream) {
        zk__bind_to_worker();
        *ret_stream = d->stream;
        return 0;
    }
    int rc = zk_cancelled();
    return rc < 0 ? zk_fail(rc, "connecting to %.300s", host) : dial_fail(d, host);
}

int zk_connect_host(const char *host, const zk_connect_options *options, zk_stream **ret_stream)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    dial *d = zk_alloc_zeroed(sizeof *d);
    if (!d) return -ENOMEM;
    int rc = connect_to(d, host, options, ret_stream);
    zk_free(d);
    return rc;
}
