/*
 * What a handshake has led to, and who the peer is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "net/tls.h"

static zk_str text(const char *s) { return (zk_str){s ? s : "", s ? strlen(s) : 0}; }

/* Whether what the peer has shown was found good. */
static bool is_verified(const zk__tls_stream *s)
{
    return SSL_get0_peer_certificate(s->ssl) && SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE &&
           SSL_get_verify_result(s->ssl) == X509_V_OK;
}

int zk_tls_info_get(const zk_stream *stream, zk_tls_info *ret_info)
{
    const zk__tls_stream *s = zk__tls_stream_of(stream);
    if (!s) return -EINVAL;
    const unsigned char *alpn;
    unsigned alpn_size;
    SSL_get0_alpn_selected(s->ssl, &alpn, &alpn_size);
    *ret_info = (zk_tls_info){
        .version = SSL_version(s->ssl) == TLS1_3_VERSION ? 13 : 12,
        .cipher = SSL_get_cipher_name(s->ssl),
        .alpn = {alpn_size ? (const char *)alpn : "", alpn_size},
        .server_name = text(SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name)),
        .is_resumed = SSL_session_reused(s->ssl),
        .is_peer_verified = is_verified(s),
        .is_sent_by_kernel = s->is_in_kernel,
    };
    return 0;
}

/* ---- the peer ---- */

/* Copies into the arena. returns false without memory. */
static bool copy(zk_arena *arena, const void *data, size_t size, zk_str *ret)
{
    char *bytes = zk_arena_copy(arena, data, size);
    if (!bytes) return false;
    *ret = (zk_str){bytes, size};
    return true;
}

static bool name_text(zk_arena *arena, const X509_NAME *name, zk_str *ret)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    bool ok = bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0;
    if (ok) {
        long size = BIO_get_mem_data(bio, &data);
        ok = copy(arena, data, size > 0 ? (size_t)size : 0, ret);
    }
    BIO_free(bio);
    return ok;
}

static bool common_name(zk_arena *arena, X509_NAME *subject, zk_str *ret)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    *ret = text("");
    if (at < 0) return true;
    uint8_t *utf8;
    int size =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (size < 0) return false;
    bool ok = copy(arena, utf8, (size_t)size, ret);
    OPENSSL_free(utf8);
    return ok;
}

/* returns 1; 0: a kind that is left out; -1: no memory. */
static int name_take(zk_arena *arena, const GENERAL_NAME *from, zk_tls_name *to)
{
    char ip[INET6_ADDRSTRLEN];
    if (from->type == GEN_IPADD) {
        int size = ASN1_STRING_length(from->d.iPAddress);
        if (size != 4 && size != 16) return 0;
        inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(from->d.iPAddress), ip,
                  sizeof ip);
        to->kind = ZK_TLS_NAME_IP;
        return copy(arena, ip, strlen(ip), &to->value) ? 1 : -1;
    }
    if (from->type != GEN_DNS && from->type != GEN_EMAIL && from->type != GEN_URI) return 0;
    to->kind = from->type == GEN_DNS     ? ZK_TLS_NAME_DNS
               : from->type == GEN_EMAIL ? ZK_TLS_NAME_EMAIL
                                         : ZK_TLS_NAME_URI;
    const ASN1_STRING *string = from->d.ia5;
    return copy(arena, ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string),
                &to->value)
               ? 1
               : -1;
}

static bool names(zk_arena *arena, const X509 *certificate, zk_tls_peer *peer)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int count = all ? sk_GENERAL_NAME_num(all) : 0;
    zk_tls_name *to = zk_arena_alloc(arena, (size_t)(count ? count : 1) * sizeof *to);
    bool ok = to != NULL;
    size_t taken = 0;
    for (int i = 0; ok && i < count; i++) {
        int rc = name_take(arena, sk_GENERAL_NAME_value(all, i), &to[taken]);
        if (rc > 0) taken++;
        ok = rc >= 0;
    }
    GENERAL_NAMES_free(all);
    peer->names = to;
    peer->name_count = taken;
    return ok;
}

static int64_t seconds(const ASN1_TIME *when)
{
    struct tm tm;
    return ASN1_TIME_to_tm(when, &tm) > 0 ? (int64_t)timegm(&tm) : 0;
}

static bool fill(zk_arena *arena, X509 *certificate, zk_tls_peer *peer)
{
    uint8_t *der = NULL;
    int der_size = i2d_X509(certificate, &der);
    bool ok = der_size >= 0 && copy(arena, der, (size_t)der_size, &peer->certificate);
    OPENSSL_free(der);
    peer->not_before = seconds(X509_get0_notBefore(certificate));
    peer->not_after = seconds(X509_get0_notAfter(certificate));
    return ok && X509_digest(certificate, EVP_sha256(), peer->fingerprint, NULL) > 0 &&
           name_text(arena, X509_get_subject_name(certificate), &peer->subject) &&
           name_text(arena, X509_get_issuer_name(certificate), &peer->issuer) &&
           common_name(arena, X509_get_subject_name(certificate), &peer->common_name) &&
           names(arena, certificate, peer);
}

int zk_tls_peer_get(const zk_stream *stream, zk_arena *arena, zk_tls_peer *ret_peer)
{
    const zk__tls_stream *s = zk__tls_stream_of(stream);
    if (!s) return -EINVAL;
    X509 *certificate = SSL_get0_peer_certificate(s->ssl);
    if (!certificate) return -ENODATA;
    zk_tls_peer peer = {.is_verified = is_verified(s)};
    bool ok = fill(arena, certificate, &peer);
    ERR_clear_error();
    if (!ok) return -ENOMEM;
    *ret_peer = peer;
    return 0;
}
