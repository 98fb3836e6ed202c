/*
 * Names to addresses: literals, the hosts file, the cache, and c-ares for the rest.
 *
 * A worker has a resolver per set of options, each with a channel of c-ares, a cache and a table of
 * hosts; nothing is shared between workers. The channel's sockets are c-ares's own, which opens and
 * closes them; they are watched by an epoll descriptor of the resolver, and that one is what the
 * worker's poller knows. So c-ares may close a socket at any moment without the poller in between.
 *
 *   zk_resolve --> query (one per name, on the heap) --> A and AAAA in parallel --> cache
 *        \--> waiter (in the caller's frame), linked to the query until it ends or is cancelled
 *
 * c-ares calls back from within its functions, also from ares_search itself. The callbacks only
 * note what came and make tasks ready. A query whose waiters have all left runs on and fills the
 * cache.
 */
#include <ares.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zokio/dns.h>

#include "core/worker.h"
#include "net/dns.h"
#include "net/dns_answer.h"
#include "net/dns_cache.h"

enum { CACHE_ENTRIES = 1024, RESOLVERS_MAX = 8, SERVERS_BYTES = 256, PATH_BYTES = 256 };
enum { HOSTS_BYTES_MAX = 1 << 20, TIMEOUT_MS = 2000, TRIES = 3 };
enum { LATE_MS = 50 }; /* RFC 8305 section 3 */
static const char resolv_conf[] = "/etc/resolv.conf";

/* By what a file is known to be unchanged. */
typedef struct stamp {
    struct timespec changed;
    off_t size;
    ino_t inode;
} stamp;

typedef struct config {
    char servers[SERVERS_BYTES], hosts_path[PATH_BYTES]; /* zeroed behind their ends */
    int timeout_ms, tries;
} config;

typedef struct resolver resolver;
typedef struct query query;

typedef struct waiter {
    zk__wait wait;
    query *query;
    struct waiter *next, **link; /* among the query's; link is NULL once it has left */
    zk_addr *addrs;
    size_t capacity;
    bool is_asleep; /* not while it starts the query itself */
} waiter;

struct query {
    resolver *resolver;
    query *next, **link; /* among the resolver's */
    waiter *waiters;
    int pending;               /* callbacks to come, and one while it is being started */
    zk__dns_answer answers[2]; /* A, AAAA */
    zk__timer late;            /* set when there are IPv4 addresses and the others are awaited */
    bool is_late;              /* it has fired: those are the answer until the query ends */
    char name[ZK__HOST_NAME_MAX + 2];
};

struct resolver {
    resolver *next;
    config config;
    ares_channel channel; /* NULL: to be made */
    zk__io io;            /* the epoll descriptor */
    zk__op ready;
    bool is_armed;
    zk__timer timer;
    query *queries;
    zk__hosts hosts;
    stamp hosts_stamp, conf_stamp;
    zk__dns_cache cache;
};

static zk__poller *poller(void) { return &zk__worker_self()->poller; }

/* ---- files that may change ---- */

static stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return (stamp){.size = -1};
    return (stamp){st.st_mtim, st.st_size, st.st_ino};
}

static bool stamp_equal(const stamp *a, const stamp *b)
{
    return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

/* Up to HOSTS_BYTES_MAX. A file that may not be read is as good as none; one that cannot be read
 * for want of descriptors or memory will be there later. */
static int hosts_read(zk__hosts *hosts, const char *path, off_t size)
{
    zk__hosts_done(hosts);
    if (size <= 0) return 0;
    int fd;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
    size_t capacity = size < HOSTS_BYTES_MAX ? (size_t)size : HOSTS_BYTES_MAX, got = 0;
    char *text = zk_alloc(capacity);
    while (text && got < capacity) {
        ssize_t n = read(fd, text + got, capacity - got);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        got += (size_t)n;
    }
    close(fd);
    int rc = text ? zk__hosts_parse(hosts, text, got) : -ENOMEM;
    zk_free(text);
    return rc;
}

static int hosts_refresh(resolver *r)
{
    stamp now = stamp_of(r->config.hosts_path);
    if (stamp_equal(&now, &r->hosts_stamp)) return 0;
    int rc = hosts_read(&r->hosts, r->config.hosts_path, now.size);
    if (rc == 0) r->hosts_stamp = now;
    return rc;
}

/* ---- c-ares in the poller ---- */

static void timer_update(resolver *r)
{
    zk__wheel *wheel = &zk__worker_self()->wheel;
    struct timeval tv;
    zk__wheel_remove(wheel, &r->timer);
    if (!r->channel || !ares_timeout(r->channel, NULL, &tv)) return;
    zk_time span = ZK_SEC(tv.tv_sec) + ZK_US(tv.tv_usec);
    zk__wheel_add(wheel, &r->timer, zk__clock() + span);
}

static void on_timer(zk__timer *timer)
{
    resolver *r = (resolver *)(void *)((char *)timer - offsetof(resolver, timer));
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    timer_update(r);
}

/* One event at a time: handling one may close the socket of the next. */
static void sockets_process(resolver *r)
{
    struct epoll_event event;
    while (r->channel && epoll_wait(r->io.fd, &event, 1, 0) == 1) {
        bool failed = event.events & (EPOLLERR | EPOLLHUP);
        ares_process_fd(r->channel,
                        failed || event.events & EPOLLIN ? event.data.fd : ARES_SOCKET_BAD,
                        event.events & EPOLLOUT ? event.data.fd : ARES_SOCKET_BAD);
    }
}

static void sockets_watch(resolver *r)
{
    while (!r->is_armed) {
        r->ready.code = ZK__OP_READABLE;
        if (!poller()->ops->submit(poller(), &r->ready)) {
            r->is_armed = true;
        } else if (r->ready.result < 0) {
            return; /* no memory: the timer goes on, and the next query tries again */
        } else {
            sockets_process(r);
        }
    }
}

static void on_ready(zk__op *op)
{
    resolver *r = (resolver *)(void *)((char *)op - offsetof(resolver, ready));
    r->is_armed = false;
    if (op->result == -ECANCELED) return;
    sockets_process(r);
    sockets_watch(r);
    timer_update(r);
}

static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
    resolver *r = context;
    struct epoll_event event = {
        .events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0),
        .data.fd = fd,
    };
    if (!readable && !writable) {
        epoll_ctl(r->io.fd, EPOLL_CTL_DEL, fd, NULL);
    } else if (epoll_ctl(r->io.fd, EPOLL_CTL_MOD, fd, &event) && errno == ENOENT) {
        epoll_ctl(r->io.fd, EPOLL_CTL_ADD, fd, &event); /* if it fails, the try times out */
    }
}

static pthread_once_t ares_once = PTHREAD_ONCE_INIT;
static int ares_ready;

static void ares_start(void) { ares_ready = ares_library_init(ARES_LIB_INIT_ALL); }

static int channel_make(resolver *r, int flags, ares_channel *ret_channel)
{
    struct ares_options options = {
        .flags = ARES_FLAG_NOALIASES | flags,
        .timeout = r->config.timeout_ms,
        .tries = r->config.tries,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = r,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    if (*r->config.servers) mask |= ARES_OPT_DOMAINS; /* none: only the system's have some */
    ares_channel channel;
    int status = ares_init_options(&channel, &options, mask);
    if (status != ARES_SUCCESS) return status == ARES_ENOMEM ? -ENOMEM : ZK_E_CONFIG;
    if (*r->config.servers) {
        status = ares_set_servers_ports_csv(channel, r->config.servers);
        if (status != ARES_SUCCESS) {
            ares_destroy(channel);
            return status == ARES_ENOMEM ? -ENOMEM : ZK_E_CONFIG;
        }
    }
    *ret_channel = channel;
    return 0;
}

/*
 * c-ares asks the next server after a SERVFAIL or REFUSED, and in the end says only that nobody
 * was to be had. Where there is just one server nothing is gained by that, so its word is taken.
 */
static int channel_open(resolver *r)
{
    pthread_once(&ares_once, ares_start);
    if (ares_ready != ARES_SUCCESS) return -ENOMEM;
    ares_channel channel;
    struct ares_addr_port_node *servers = NULL;
    r->conf_stamp = stamp_of(resolv_conf);
    int rc = channel_make(r, 0, &channel);
    if (rc < 0) return rc;
    bool is_one =
        ares_get_servers_ports(channel, &servers) == ARES_SUCCESS && servers && !servers->next;
    if (servers) ares_free_data(servers);
    if (is_one) {
        ares_destroy(channel);
        rc = channel_make(r, ARES_FLAG_NOCHECKRESP, &channel);
    }
    if (rc == 0) r->channel = channel;
    return rc;
}

/* The system's servers may have changed; queries that are under way keep the old ones. */
static int channel_refresh(resolver *r)
{
    if (r->channel && !*r->config.servers && !r->queries) {
        stamp now = stamp_of(resolv_conf);
        if (!stamp_equal(&now, &r->conf_stamp)) {
            ares_destroy(r->channel);
            r->channel = NULL;
            zk__dns_cache_flush(&r->cache);
        }
    }
    return r->channel ? 0 : channel_open(r);
}

/* ---- queries ---- */

static int addrs_give(const zk__ip *ips, size_t count, zk_addr *addrs, size_t capacity)
{
    if (count > capacity) count = capacity;
    for (size_t i = 0; i < count; i++)
        addrs[i] = zk__ip_addr(&ips[i]);
    return (int)count;
}

static void waiter_leave(waiter *w)
{
    if (!w->link) return;
    *w->link = w->next;
    if (w->next) w->next->link = w->link;
    w->link = NULL;
}

static void waiter_cancel(zk__wait *wait)
{
    waiter_leave((waiter *)(void *)wait);
    zk__wait_end(wait, -ECANCELED);
}

static void waiters_answer(query *q, const zk__dns_result *result)
{
    while (q->waiters) {
        waiter *w = q->waiters;
        waiter_leave(w);
        int rc = result->rc;
        if (rc == 0) rc = addrs_give(result->ips, result->count, w->addrs, w->capacity);
        if (w->is_asleep) {
            zk__wait_end(&w->wait, rc);
        } else {
            w->wait.result = rc;
        }
    }
}

static void query_finish(query *q)
{
    zk__dns_result result;
    zk__wheel_remove(&zk__worker_self()->wheel, &q->late);
    zk__dns_result_merge(&result, &q->answers[0], &q->answers[1]);
    if (result.is_lasting) {
        zk__dns_cache_put(&q->resolver->cache, q->name, result.rc, result.ips, result.count,
                          result.lifetime, zk__clock());
    }
    waiters_answer(q, &result);
    *q->link = q->next;
    if (q->next) q->next->link = q->link;
    zk_free(q);
}

/* There are servers that never answer a question for IPv6. They must not hold up who could connect
 * already. */
static void on_late(zk__timer *timer)
{
    query *q = (query *)(void *)((char *)timer - offsetof(query, late));
    resolver *r = q->resolver;
    zk__dns_result result;
    q->pending++; /* it may be this worker that is late, and the answer be there */
    sockets_process(r);
    timer_update(r);
    if (--q->pending == 0) {
        query_finish(q);
        return;
    }
    zk__dns_result_merge(&result, &q->answers[0], &q->answers[1]);
    q->is_late = true;
    waiters_answer(q, &result);
}

static void query_answered(query *q, int which, int status, const uint8_t *data, int size)
{
    zk__dns_answer_read(&q->answers[which], which == 1, status, data, size > 0 ? (size_t)size : 0);
    if (--q->pending == 0) {
        query_finish(q);
    } else if (which == 0 && q->answers[0].count) {
        zk__wheel_add(&zk__worker_self()->wheel, &q->late, zk__clock() + ZK_MS(LATE_MS));
    }
}

static void on_a(void *context, int status, int timeouts, unsigned char *data, int size)
{
    (void)timeouts;
    query_answered(context, 0, status, data, size);
}

static void on_aaaa(void *context, int status, int timeouts, unsigned char *data, int size)
{
    (void)timeouts;
    query_answered(context, 1, status, data, size);
}

/* Its callbacks may come before this returns; then the query is gone. */
static void query_start(query *q)
{
    enum { TYPE_A = 1, TYPE_AAAA = 28, CLASS_IN = 1 };
    resolver *r = q->resolver;
    q->pending = 3;
    ares_search(r->channel, q->name, CLASS_IN, TYPE_AAAA, on_aaaa, q);
    ares_search(r->channel, q->name, CLASS_IN, TYPE_A, on_a, q);
    if (--q->pending == 0) query_finish(q);
    sockets_watch(r);
    timer_update(r);
}

static query *query_find(resolver *r, const char *name)
{
    query *q = r->queries;
    while (q && strcmp(q->name, name) != 0)
        q = q->next;
    return q;
}

static query *query_new(resolver *r, const char *name)
{
    query *q = zk_alloc_zeroed(sizeof *q);
    if (!q) return NULL;
    q->resolver = r;
    memcpy(q->name, name, strlen(name) + 1);
    q->late.fire = on_late;
    q->next = r->queries;
    q->link = &r->queries;
    if (q->next) q->next->link = &q->next;
    r->queries = q;
    return q;
}

static int query_wait(resolver *r, const char *name, zk_addr *addrs, size_t capacity)
{
    int rc = channel_refresh(r);
    if (rc >= 0) rc = zk__wait_begin();
    if (rc < 0) return rc;
    query *q = query_find(r, name);
    if (q && q->is_late) return addrs_give(q->answers[0].ips, q->answers[0].count, addrs, capacity);
    bool is_new = !q;
    if (is_new) q = query_new(r, name);
    if (!q) return -ENOMEM;
    static const zk__wait_kind kind = {.name = "resolve"};
    waiter w = {
        .wait.cancel = waiter_cancel,
        .wait.kind = &kind,
        .query = q,
        .next = q->waiters,
        .link = &q->waiters,
        .addrs = addrs,
        .capacity = capacity,
    };
    if (w.next) w.next->link = &w.next;
    q->waiters = &w;
    if (is_new) query_start(q);
    if (!w.link) return (int)w.wait.result; /* it could not even be sent */
    w.is_asleep = true;
    return (int)zk__wait_for(&w.wait);
}

/* ---- resolvers ---- */

static void resolver_free(resolver *r)
{
    /* Ends what is under way; nobody waits for it any more. */
    if (r->channel) ares_destroy(r->channel);
    r->channel = NULL;
    zk__wheel_remove(&zk__worker_self()->wheel, &r->timer);
    if (r->is_armed) poller()->ops->cancel(poller(), &r->ready);
    while (r->is_armed)
        poller()->ops->poll(poller(), ZK_MS(1));
    poller()->ops->forget(poller(), &r->io);
    zk__dns_cache_flush(&r->cache);
    zk__hosts_done(&r->hosts);
    zk_free(r);
}

static void resolvers_done(void *state)
{
    for (resolver *r = state, *next; r; r = next) {
        next = r->next;
        resolver_free(r);
    }
}

static bool config_set(config *c, const zk_resolve_options *o)
{
    const char *servers = o && o->servers ? o->servers : "";
    const char *path = o && o->hosts_path ? o->hosts_path : "/etc/hosts";
    *c = (config){
        .timeout_ms = o && o->timeout_ms ? o->timeout_ms : TIMEOUT_MS,
        .tries = o && o->tries ? o->tries : TRIES,
    };
    size_t servers_size = strlen(servers), path_size = strlen(path);
    if (servers_size >= sizeof c->servers || path_size >= sizeof c->hosts_path) return false;
    memcpy(c->servers, servers, servers_size);
    memcpy(c->hosts_path, path, path_size);
    return c->timeout_ms > 0 && c->tries > 0;
}

/* Drops the last of too many that has nothing to do. */
static void resolvers_trim(zk__slot *slot)
{
    int count = 0;
    resolver **idle = NULL;
    for (resolver **link = (resolver **)&slot->state; *link; link = &(*link)->next) {
        count++;
        if (!(*link)->queries) idle = link;
    }
    if (count < RESOLVERS_MAX || !idle) return;
    resolver *r = *idle;
    *idle = r->next;
    resolver_free(r);
}

static int resolver_get(const zk_resolve_options *options, resolver **ret_resolver)
{
    zk__slot *slot = &zk__worker_self()->slots[ZK__SLOT_NAMES];
    config c;
    if (!config_set(&c, options)) return ZK_E_CONFIG;
    for (resolver *r = slot->state; r; r = r->next) {
        if (strcmp(r->config.servers, c.servers) || strcmp(r->config.hosts_path, c.hosts_path) ||
            r->config.timeout_ms != c.timeout_ms || r->config.tries != c.tries) {
            continue;
        }
        *ret_resolver = r;
        return 0;
    }
    resolvers_trim(slot);
    resolver *r = zk_alloc_zeroed(sizeof *r);
    if (!r) return -ENOMEM;
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        int rc = -errno;
        zk_free(r);
        return rc;
    }
    zk__io_init(&r->io, fd, 0);
    r->config = c;
    r->ready = (zk__op){.code = ZK__OP_READABLE, .io = &r->io, .complete = on_ready};
    r->timer.fire = on_timer;
    r->hosts_stamp.size = -2; /* never read */
    zk__dns_cache_init(&r->cache, CACHE_ENTRIES);
    r->next = slot->state;
    slot->state = r;
    slot->done = resolvers_done;
    *ret_resolver = r;
    return 0;
}

/* ---- public ---- */

/* RFC 6761 section 6.3: these are this machine, whatever a server says. */
static size_t localhost_find(const char *name, zk__ip ips[2])
{
    static const char suffix[] = ".localhost";
    size_t size = strlen(name), tail = sizeof suffix - 1;
    bool is_local =
        !strcmp(name, suffix + 1) || (size > tail && !strcmp(name + size - tail, suffix));
    if (!is_local) return 0;
    ips[0] = (zk__ip){.is_v6 = true, .bytes = {[15] = 1}};
    ips[1] = (zk__ip){.bytes = {127, 0, 0, 1}};
    return 2;
}

/* What no server is asked for: returns a count, 0 if it is none of that, or an error. */
static int resolve_here(resolver *r, const char *name, const char *key, zk_addr *addrs,
                        size_t capacity)
{
    zk__ip ips[ZK__HOST_ADDRS_MAX];
    int rc = hosts_refresh(r);
    if (rc < 0) return rc;
    size_t count = zk__hosts_find(&r->hosts, name, ips, ZK__HOST_ADDRS_MAX);
    if (count == 0) count = localhost_find(name, ips);
    if (count > 0) return addrs_give(ips, count, addrs, capacity);
    const zk__dns_entry *e = zk__dns_cache_find(&r->cache, key, zk__clock());
    if (!e) return 0;
    return e->rc < 0 ? e->rc : addrs_give(e->ips, e->count, addrs, capacity);
}

/* The name in its own form, and what it is remembered by. */
static int name_read(const char *text, char name[ZK__HOST_NAME_MAX + 1],
                     char key[ZK__HOST_NAME_MAX + 2])
{
    size_t size = strlen(text);
    if (!zk__host_name(text, size, name)) return ZK_E_DNS_NAME;
    const char *last = strrchr(name, '.');
    last = last ? last + 1 : name;
    if (last[strspn(last, "0123456789")] == '\0') return ZK_E_DNS_NAME; /* "127.1" */
    /* A dot at the end keeps the search domains out, so it makes another question. */
    snprintf(key, ZK__HOST_NAME_MAX + 2, "%s%s", name, text[size - 1] == '.' ? "." : "");
    return 0;
}

static int resolve(const char *text, const zk_resolve_options *options, zk_addr *addrs,
                   size_t capacity)
{
    zk__ip ip;
    char name[ZK__HOST_NAME_MAX + 1], key[ZK__HOST_NAME_MAX + 2];
    if (capacity == 0) return ZK_E_CONFIG;
    if (zk__ip_parse(text, &ip)) return addrs_give(&ip, 1, addrs, capacity);
    int bad = name_read(text, name, key);
    if (bad < 0) return bad;
    resolver *r = NULL;
    int rc = resolver_get(options, &r);
    if (rc >= 0) rc = resolve_here(r, name, key, addrs, capacity);
    if (rc != 0) return rc;
    return query_wait(r, key, addrs, capacity);
}

int zk_resolve(const char *name, const zk_resolve_options *options, zk_addr *addresses,
               size_t capacity)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    int rc = zk_cancelled();
    if (rc == 0) rc = resolve(name, options, addresses, capacity);
    return rc < 0 ? zk_fail(rc, "resolving \"%.260s\"", name) : rc;
}

int zk__resolve_for(const char *text, const zk_resolve_options *options, zk_addr *addresses,
                    size_t capacity, zk_time *ret_lifetime)
{
    int rc = zk_resolve(text, options, addresses, capacity);
    if (rc < 0) return rc;
    char name[ZK__HOST_NAME_MAX + 1], key[ZK__HOST_NAME_MAX + 2];
    resolver *r;
    const zk__dns_entry *e = NULL;
    if (!name_read(text, name, key) && !resolver_get(options, &r)) {
        e = zk__dns_cache_find(&r->cache, key, zk__clock());
    }
    *ret_lifetime = e ? e->expires - zk__clock() : ZK__DNS_LOCAL_LIFETIME;
    return rc;
}

void zk_resolve_flush(void)
{
    zk__worker *w = zk__worker_self();
    if (!w) return;
    for (resolver *r = w->slots[ZK__SLOT_NAMES].state; r; r = r->next)
        zk__dns_cache_flush(&r->cache);
}
