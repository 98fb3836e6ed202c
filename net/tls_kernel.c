/*
 * kTLS: the kernel encrypts what is sent, so that files can go to the socket without being copied
 * through user space (see Documentation/networking/tls.rst of Linux).
 *
 * During the handshake OpenSSL offers the keys of what is sent through the BIO. If the inner stream
 * is a TCP socket of a kernel that takes them, the connection is in the kernel from then on: data
 * is written to the socket as it is, past OpenSSL, and the kernel makes records of it. Records of
 * other kinds (alerts, tickets) still come from OpenSSL; they are gathered in the worker's buffer,
 * each behind its type and its size, and sent one by one with a control message. What is received
 * is decrypted by OpenSSL as ever.
 *
 * A peer may ask for new keys (KeyUpdate, RFC 8446 section 4.6.3). Linux 6.1 takes none, and
 * OpenSSL 3.0 would change its own, which nothing is encrypted with any more. So that is refused,
 * with an alert. That the peer changes its own keys is OpenSSL's affair, as all that is received.
 *
 * The kernel holds the last record back when the socket is full, and a socket that is shut down
 * then loses it. So the last one of all, close_notify, goes only when there is room: then those
 * before it have left.
 */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "net/tls.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

enum { RECORD_HEAD_BYTES = 3 };

static const struct zk__kernel *kernel(void) { return zk__worker_self()->poller.ops->kernel; }

static int socket_of(const zk__tls_stream *s) { return s->inner->ops->io(s->inner)->fd; }

/* ---- keys ---- */

/* What the kernel wants to have for a cipher; 0: not known here. */
static socklen_t keys_size(const struct tls_crypto_info *keys)
{
    if (keys->version != TLS_1_2_VERSION && keys->version != TLS_1_3_VERSION) return 0;
    switch (keys->cipher_type) {
    case TLS_CIPHER_AES_GCM_128: return sizeof(struct tls12_crypto_info_aes_gcm_128);
    case TLS_CIPHER_AES_GCM_256: return sizeof(struct tls12_crypto_info_aes_gcm_256);
#ifdef TLS_CIPHER_CHACHA20_POLY1305
    case TLS_CIPHER_CHACHA20_POLY1305: return sizeof(struct tls12_crypto_info_chacha20_poly1305);
#endif
    default: return 0;
    }
}

/* Sends what was written under the keys before. returns whether all of it has left. */
static bool out_flush(zk__tls_stream *s)
{
    zk__tls_worker *w = s->worker;
    size_t done = 0;
    while (done < w->out_size) {
        ssize_t n = zk_stream_try_write(s->inner, w->out + done, w->out_size - done);
        if (n < 0) break; /* whatever it is, zk__tls_end finds it, too */
        done += (size_t)n;
    }
    w->out_size -= done;
    memmove(w->out, w->out + done, w->out_size);
    return !w->out_size;
}

bool zk__tls_kernel_start(zk__tls_stream *s, const void *keys)
{
    socklen_t size = keys_size(keys);
    if (!size || s->is_in_kernel || s->pending || s->write_rc) return false;
    if (!s->inner->ops->io || kernel() != &zk__kernel_system) return false;
    if (!out_flush(s)) return false;
    int fd = socket_of(s);
    if (kernel()->set_option(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") < 0) return false;
    if (kernel()->set_option(fd, SOL_TLS, TLS_TX, keys, size) < 0) return false;
    s->is_in_kernel = true;
    return true;
}

/* ---- records ---- */

static void record_put(zk__tls_worker *w, uint8_t type, const char *data, size_t size)
{
    uint16_t short_size = (uint16_t)size;
    char *to = w->out + w->out_size;
    to[0] = (char)type;
    memcpy(to + 1, &short_size, sizeof short_size);
    memcpy(to + RECORD_HEAD_BYTES, data, size);
    w->out_size += RECORD_HEAD_BYTES + size;
}

bool zk__tls_kernel_add(zk__tls_stream *s, const char *data, size_t size)
{
    zk__tls_worker *w = s->worker;
    uint8_t type = s->record_type ? s->record_type : SSL3_RT_APPLICATION_DATA;
    size_t room = ZK__TLS_OUT_BYTES - w->out_size;
    s->record_type = 0;
    if (size > ZK__TLS_RECORD_BYTES || room < RECORD_HEAD_BYTES + size) return false;
    record_put(w, type, data, size);
    return true;
}

int zk__tls_kernel_check(zk__tls_stream *s)
{
    static const char internal_error[] = {SSL3_AL_FATAL, SSL_AD_INTERNAL_ERROR};
    size_t room = ZK__TLS_OUT_BYTES - s->worker->out_size;
    if (ZK_LIKELY(SSL_get_key_update_type(s->ssl) == SSL_KEY_UPDATE_NONE)) return 0;
    if (room >= RECORD_HEAD_BYTES + sizeof internal_error) {
        record_put(s->worker, SSL3_RT_ALERT, internal_error, sizeof internal_error);
    }
    s->reason = "the peer wants new keys, which the kernel does not take";
    return s->read_rc = -EOPNOTSUPP;
}

/* returns bytes; -EAGAIN; an error. */
static ssize_t record_send(int fd, uint8_t type, const char *data, size_t size)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof type)];
    } control = {.header = {
                     .cmsg_level = SOL_TLS,
                     .cmsg_type = TLS_SET_RECORD_TYPE,
                     .cmsg_len = CMSG_LEN(sizeof type),
                 }};
    struct iovec iov = {(void *)data, size};
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = control.header.cmsg_len,
    };
    memcpy(CMSG_DATA(&control.header), &type, sizeof type);
    for (;;) {
        ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) return n;
        if (errno != EINTR) return -errno;
    }
}

ssize_t zk__tls_kernel_send(zk__tls_stream *s, const char *data, size_t size)
{
    uint16_t record_size;
    (void)size;
    ZK_ASSERT(size > RECORD_HEAD_BYTES);
    memcpy(&record_size, data + 1, sizeof record_size);
    ZK_ASSERT((size_t)RECORD_HEAD_BYTES + record_size <= size);
    ssize_t n = record_send(socket_of(s), (uint8_t)data[0], data + RECORD_HEAD_BYTES, record_size);
    if (n < 0) return n;
    /* The kernel takes such a record as a whole or not at all, but when its memory is short. */
    return n == record_size ? RECORD_HEAD_BYTES + n : -ENOMEM;
}

bool zk__tls_kernel_has_room(zk__tls_stream *s)
{
    struct pollfd p = {.fd = socket_of(s), .events = POLLOUT};
    return poll(&p, 1, 0) != 0;
}
