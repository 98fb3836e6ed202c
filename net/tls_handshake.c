/*
 * Handshakes: accepting and connecting.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "net/tls.h"

/* Goes on with the handshake as far as the input goes. returns 1 when it is done; 0 when it needs
 * more input, or room for output; an error. */
static int step(zk__tls_stream *s)
{
    if (s->read_rc) return s->read_rc;
    zk__tls_begin(s);
    bool wants_input = s->tls->is_server || SSL_want_read(s->ssl);
    if (wants_input && !s->worker->source_size && !s->is_inner_ended) {
        ssize_t n = zk__tls_pull(s, 0);
        if (n < 0) {
            zk__tls_end(s);
            return n == -EAGAIN ? 0 : (int)n;
        }
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(s->ssl);
    if (rc <= 0) {
        switch (SSL_get_error(s->ssl, rc)) {
        case SSL_ERROR_WANT_READ: rc = s->is_inner_ended ? ZK_E_TLS_TRUNCATED : 0; break;
        case SSL_ERROR_WANT_WRITE: rc = 0; break;
        case SSL_ERROR_SYSCALL: rc = ZK_E_TLS_TRUNCATED; break;
        default: rc = zk__tls_error(s->ssl, &s->reason);
        }
        ERR_clear_error();
    }
    if (rc < 0) s->read_rc = rc;
    zk__tls_end(s);
    return rc;
}

static int shake(zk__tls_stream *s)
{
    for (;;) {
        int rc = zk__spend();
        if (rc < 0) return rc;
        rc = step(s);
        if (rc) return rc;
        if (s->write_rc) return s->write_rc;
        if (SSL_want_write(s->ssl)) {
            rc = zk__tls_wait_drained(s);
        } else if (!s->in) {
            rc = zk__tls_wait_readable(s);
        }
        if (rc < 0) return rc;
    }
}

static int shake_within(zk__tls_stream *s)
{
    int timeout_ms = s->tls->handshake_timeout_ms;
    if (timeout_ms < 0) return shake(s);
    int rc = 0;
    ZK_WITHIN(ZK_MS(timeout_ms)) {
        rc = shake(s);
    }
    if (rc == -ETIMEDOUT) return ZK_E_TLS_TIMEOUT;
    return rc == -ECANCELED ? zk_cancelled() : rc;
}

static int fail(zk__tls_stream *s, int rc)
{
    const char *reason = s->reason;
    const char *what = s->tls->is_server ? "TLS handshake with a client" : "TLS handshake with ";
    const char *host = s->tls->is_server ? "" : s->host;
    return reason ? zk_fail(rc, "%s%s: %s", what, host, reason) : zk_fail(rc, "%s%s", what, host);
}

/* What both sides begin with. returns 0; the stream is made. */
static int start(zk_tls *tls, bool is_server, zk_stream *inner, zk__tls_stream **ret_stream)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (tls->is_server != is_server) {
        return zk_fail(ZK_E_CONFIG, "a TLS %s's side with the other's configuration",
                       is_server ? "server" : "client");
    }
    int rc = (int)zk_stream_try_write(inner, NULL, 0); /* makes it the worker's */
    if (rc < 0) return rc;
    zk__tls_stream *s = zk__tls_stream_new(tls, inner);
    if (!s) return -ENOMEM;
    s->worker = zk__tls_worker_get(inner);
    s->set = zk__tls_set_take(tls);
    ERR_clear_error();
    s->ssl = s->worker ? SSL_new(s->set->identities[0].ctx) : NULL;
    if (!s->ssl) {
        ERR_clear_error();
        zk__tls_stream_free(s);
        return -ENOMEM;
    }
    SSL_set_app_data(s->ssl, s);
    BIO_up_ref(s->worker->bio);
    SSL_set_bio(s->ssl, s->worker->bio, s->worker->bio); /* takes one reference */
    *ret_stream = s;
    return 0;
}

/* Does the handshake. On failure the stream is freed. */
static int finish(zk__tls_stream *s, zk_stream **ret_stream)
{
    int rc = shake_within(s);
    if (rc < 0) {
        rc = fail(s, rc);
        zk__tls_stream_free(s);
        return rc;
    }
    zk__tls_set_give(s->set);
    s->set = NULL;
    s->barren_bytes = 0;
    s->is_told = s->is_settled = false;
    zk__bind_to_worker();
    *ret_stream = &s->head;
    return 0;
}

int zk_tls_accept(zk_tls *tls, zk_stream *inner, zk_stream **ret_stream)
{
    zk__tls_stream *s = NULL; /* set if the start succeeds */
    int rc = start(tls, true, inner, &s);
    if (rc < 0) return rc;
    SSL_set_accept_state(s->ssl);
    return finish(s, ret_stream);
}

/* ---- the client's side ---- */

/* Copies the host without a trailing dot or an IPv6 address's brackets, in lower case. */
static int host_copy(zk__tls_stream *s, const char *host)
{
    size_t size = host ? strlen(host) : 0;
    if (size > 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    } else if (size && host[size - 1] == '.') {
        size--;
    }
    if (!size || size > ZK__TLS_NAME_MAX) return ZK_E_CONFIG;
    s->host = zk_alloc(size + 1);
    if (!s->host) return -ENOMEM;
    for (size_t i = 0; i < size; i++)
        s->host[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] | 0x20) : host[i];
    s->host[size] = '\0';
    return 0;
}

/* Has the server's certificate checked for the host, and tells the server which it is. */
static int expect(zk__tls_stream *s)
{
    uint8_t ip[16];
    bool is_ip = inet_pton(AF_INET, s->host, ip) == 1 || inet_pton(AF_INET6, s->host, ip) == 1;
    int ok = 1;
    if (!is_ip) ok = (int)SSL_set_tlsext_host_name(s->ssl, s->host);
    if (ok > 0 && !s->tls->is_insecure) {
        SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                      X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        ok = is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), s->host)
                   : SSL_set1_host(s->ssl, s->host);
    }
    return ok > 0 ? 0 : zk__tls_error(s->ssl, &s->reason);
}

static int tls_connect(zk_tls *tls, bool is_http1, zk_stream *inner, const char *host,
                       zk_stream **ret_stream)
{
    static const uint8_t http1[] = "\x08http/1.1";
    zk__tls_stream *s = NULL; /* set if the start succeeds */
    int rc = start(tls, false, inner, &s);
    if (rc < 0) return rc;
    rc = host_copy(s, host);
    if (!rc) rc = expect(s);
    if (!rc && is_http1 && SSL_set_alpn_protos(s->ssl, http1, sizeof http1 - 1)) rc = -ENOMEM;
    if (rc < 0) {
        zk__tls_stream_free(s);
        return rc == ZK_E_CONFIG ? zk_fail(rc, "the host for a TLS connection") : rc;
    }
    SSL_set_connect_state(s->ssl);
    zk__tls_session_offer(tls, s->ssl, s->host);
    rc = finish(s, ret_stream);
    if (rc >= 0) zk__tls_session_renew(s->ssl);
    return rc;
}

int zk_tls_connect(zk_tls *tls, zk_stream *inner, const char *host, zk_stream **ret_stream)
{
    return tls_connect(tls, false, inner, host, ret_stream);
}

int zk__tls_connect_http1(zk_tls *tls, zk_stream *inner, const char *host, zk_stream **ret_stream)
{
    return tls_connect(tls, tls && tls->alpn, inner, host, ret_stream);
}
