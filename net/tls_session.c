/*
 * What a client remembers of the servers that it was connected to: the last session of each host.
 *
 * A table of a fixed number of places; the one that was not used for longest makes room. A session
 * of TLS 1.3 is used once (RFC 8446 appendix C.4), and every connection brings a new one. Only
 * sessions whose certificate was verified for that host get here, for resuming does not verify
 * again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/tls.h"

int zk__tls_sessions_init(zk__tls_sessions *sessions, int max)
{
    if (max < 0) return 0;
    sessions->max = max ? (size_t)max : 256;
    sessions->all = calloc(sessions->max, sizeof *sessions->all);
    return sessions->all ? 0 : -ENOMEM;
}

void zk__tls_sessions_done(zk__tls_sessions *sessions)
{
    for (size_t i = 0; sessions->all && i < sessions->max; i++)
        SSL_SESSION_free(sessions->all[i].session);
    free(sessions->all);
}

/* The host's place; NULL if it has none. */
static zk__tls_session *find(zk__tls_sessions *sessions, const char *host)
{
    for (size_t i = 0; i < sessions->max; i++) {
        zk__tls_session *place = &sessions->all[i];
        if (place->session && !strcmp(place->host, host)) return place;
    }
    return NULL;
}

static zk__tls_session *make_room(zk__tls_sessions *sessions)
{
    zk__tls_session *oldest = sessions->all;
    for (size_t i = 0; i < sessions->max; i++) {
        zk__tls_session *place = &sessions->all[i];
        if (!place->session) return place;
        if (place->used < oldest->used) oldest = place;
    }
    return oldest;
}

/* Called by OpenSSL when the server has sent a session. returns 1: it is kept. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    zk__tls_stream *s = SSL_get_app_data(ssl);
    zk_tls *tls = s->tls;
    if (!tls->is_insecure && SSL_get_verify_result(ssl) != X509_V_OK) return 0;
    if (!SSL_SESSION_is_resumable(session)) return 0;
    pthread_mutex_lock(&tls->lock);
    zk__tls_session *place = find(&tls->sessions, s->host);
    if (!place) place = make_room(&tls->sessions);
    SSL_SESSION *old = place->session;
    place->session = session;
    place->used = ++tls->sessions.clock;
    memcpy(place->host, s->host, strlen(s->host) + 1);
    pthread_mutex_unlock(&tls->lock);
    SSL_SESSION_free(old);
    return 1;
}

void zk__tls_session_renew(SSL *ssl)
{
    const zk__tls_stream *s = SSL_get_app_data(ssl);
    if (!s->tls->sessions.all || !SSL_session_reused(ssl) || SSL_version(ssl) >= TLS1_3_VERSION) {
        return;
    }
    SSL_SESSION *session = SSL_get1_session(ssl);
    if (session && !on_session(ssl, session)) SSL_SESSION_free(session);
}

void zk__tls_sessions_use(const zk_tls *tls, SSL_CTX *ctx)
{
    if (!tls->sessions.all) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        return;
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
}

static bool is_fresh(const SSL_SESSION *session)
{
    long seconds = SSL_SESSION_get_timeout(session);
    unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(session);
    if (hint && (long)hint < seconds) seconds = (long)hint;
    return time(NULL) - SSL_SESSION_get_time(session) < seconds;
}

void zk__tls_session_offer(zk_tls *tls, SSL *ssl, const char *host)
{
    if (!tls->sessions.all) return;
    SSL_SESSION *session = NULL;
    pthread_mutex_lock(&tls->lock);
    zk__tls_session *place = find(&tls->sessions, host);
    if (place) {
        session = place->session;
        place->used = ++tls->sessions.clock;
        bool is_for_once = SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
        if (is_for_once || !is_fresh(session)) {
            place->session = NULL;
        } else {
            SSL_SESSION_up_ref(session);
        }
    }
    pthread_mutex_unlock(&tls->lock);
    if (session && is_fresh(session)) SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
}
