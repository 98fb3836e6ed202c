/*
 * A request and its response, independent of the version of HTTP that carries them. What differs
 * between versions is behind struct zk__transport.
 */
#ifndef ZOKIO_HTTP_EXCHANGE_H
#define ZOKIO_HTTP_EXCHANGE_H

#include <zokio/server.h>

#include "http/path.h"
#include "http/route_table.h"

typedef struct zk__shard zk__shard;
struct zk__upgrade;
struct zk__upgrade_ahead;

/* How a version of HTTP moves bodies and responses. All may suspend. */
struct zk__transport {
    /* Some body bytes; 0 at the end, which sets req->is_body_done. */
    ssize_t (*body_read)(zk_request *req, void *buf, size_t size);
    /* The rest of the body, if it is in memory already and in one piece: *ret is set and 1
     * returned; else 0. */
    int (*body_view)(zk_request *req, zk_str *ret);
    /* The head, and with is_whole the whole body. The response's fields are set. */
    int (*begin)(zk_response *res, const char *content_type, const void *body, size_t size,
                 bool is_whole);
    int (*write)(zk_response *res, const void *data, size_t size);
    /* NULL, or: some of what follows in the body, from a file and by the kernel. returns how much;
     * -EOPNOTSUPP if it has to be written. */
    ssize_t (*send_file)(zk_response *res, zk_file *file, int64_t offset, uint64_t size);
    int (*flush)(zk_response *res);
    int (*end)(zk_response *res);
    /* The protocol that the client asks to go on with; empty: none. See upgrade.h. */
    zk_str (*protocol)(const zk_request *req);
    /* Makes the head that agrees, and fills in the upgrade. */
    int (*upgrade)(zk_response *res, zk_str protocol, struct zk__upgrade *upgrade,
                   struct zk__upgrade_ahead *ret_ahead);
};

/* What stands together in both is set together, by a few wide stores. */
struct zk_request {
    const struct zk__transport *transport;
    zk__shard *shard;
    zk_stream *stream;
    zk_str method, raw_target, host;
    zk__target target;
    const zk_field *fields;
    size_t field_count;
    int64_t body_length; /* -1: unknown */
    int version;
    bool is_body_done;
    int upgrade_end;             /* enum zk__upgrade_end, when the handler has returned */
    int body_error;              /* sticky */
    uint64_t body_taken;         /* bytes given to the handler */
    zk_time body_waited;         /* for body bytes, in all */
    struct zk__upgrade *upgrade; /* once the connection has left HTTP */
    const zk_field *trailers;
    size_t trailer_count;
    /* The router fills in what it finds, the transport starts the arena. */
    zk_arena arena;
    zk__route_match match;
};

enum zk__response_state { ZK__RESPONSE_NONE, ZK__RESPONSE_BEGUN, ZK__RESPONSE_ENDED };

typedef struct zk__field_list {
    zk_field *fields;
    size_t count, capacity;
} zk__field_list;

struct zk_response {
    zk_request *req;
    enum zk__response_state state;
    int status;
    /* Each keeps it from being written the quick way. */
    union {
        struct {
            bool is_closing;     /* the connection ends behind it */
            bool is_bodiless;    /* HEAD, 204, 304: the body is counted, not sent */
            bool has_fields;     /* of its own, or a content_type */
            bool is_asked_oddly; /* for HTTP/1.1: the request was not a simple one */
        };
        uint32_t specials; /* all of them */
    };
    int error;      /* sticky: the client is gone, or the body did not fit the length */
    int64_t length; /* -1: unknown */
    uint64_t written;
    zk_str content_type; /* set by zk_response_header */
    zk__field_list fields, trailers;
};

/*
 * Makes both ready for a request: all that the transport does not fill in itself. Inline, since
 * every request pays for it; no memset, since most fields are set by the transport anyway.
 */
static inline void zk__exchange_init(zk_request *req, zk_response *res,
                                     const struct zk__transport *transport, zk__shard *shard,
                                     zk_stream *stream)
{
    req->transport = transport;
    req->shard = shard;
    req->stream = stream;
    req->body_error = 0;
    req->body_taken = 0;
    req->body_waited = 0;
    req->upgrade = NULL;
    req->trailers = NULL;
    req->trailer_count = 0;
    req->match.index = -1;
    req->match.path_exists = false;
    req->match.param_count = 0;
    res->req = req;
    res->state = ZK__RESPONSE_NONE;
    res->status = 0;
    res->specials = 0;
    res->error = 0;
    res->length = 0;
    res->written = 0;
    res->content_type = (zk_str){NULL, 0};
    /* One by one: gcc would load the second from the first, just stored in parts, which stalls. */
    res->fields = (zk__field_list){NULL, 0, 0};
    res->trailers = (zk__field_list){NULL, 0, 0};
}

/*
 * Routes the request, runs its handler, and sees to it that there is one whole response. Suspends
 * as the handler does.
 * returns 0; an error that leaves the connection unusable.
 */
int zk__exchange_run(zk_request *req, zk_response *res);

/*
 * As zk_response_write, for bytes of a file that the kernel can send by itself: some of them.
 * returns how many; -EOPNOTSUPP if they have to be written instead.
 */
ssize_t zk__response_send_file(zk_response *res, zk_file *file, int64_t offset, uint64_t size);

/* zk_response_header_n for the fields that are the library's own. */
int zk__response_header(zk_response *res, const char *name, zk_str value);

/* The status that an error gives before a response has begun. */
int zk__status_of_error(int rc);

/* Sends the error page of a request that could not be read. */
int zk__exchange_refuse(zk_request *req, zk_response *res, int rc, const char *why);

/* Whether names are equal but for ASCII case. */
bool zk__name_equal(zk_str a, const char *b, size_t b_size);

/*
 * Waits for more of a body by `wait(arg)`, no longer than the limits on slow clients say; only time
 * spent here counts, not what the handler takes. returns what it returned; ZK_E_HTTP_TIMEOUT,
 * ZK_E_SLOW.
 */
ssize_t zk__body_wait(zk_request *req, ssize_t (*wait)(void *arg), void *arg);

/* The first field of that name, or NULL. */
const zk_field *zk__field_find(const zk_field *fields, size_t count, const char *name);

#endif
