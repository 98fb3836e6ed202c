/*
 * A server's session tickets: how they are encrypted (RFC 5077 section 4).
 *
 * The keys are made here, never written anywhere, and shared by all workers. One is in use for the
 * rotation's time, and is then kept for as long again for tickets that it has encrypted. Nothing
 * turns them but their use: the first ticket that is due for a new key makes it.
 */
#include <errno.h>
#include <string.h>

#include "net/tls.h"

int zk__tls_tickets_init(zk__tls_tickets *tickets, int rotation_s)
{
    if (rotation_s < 0) return 0;
    tickets->rotation = ZK_SEC(rotation_s ? rotation_s : 3600);
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    return tickets->cipher ? 0 : zk__tls_error(NULL, NULL);
}

void zk__tls_tickets_done(zk__tls_tickets *tickets)
{
    OPENSSL_cleanse(tickets->keys, sizeof tickets->keys);
    EVP_CIPHER_free(tickets->cipher);
}

/* Copies the key to encrypt with; makes a new one if need be. */
static bool key_current(zk__tls_tickets *t, zk__tls_key *ret_key)
{
    zk_time now = zk_now();
    if (!t->keys[0].born || now - t->keys[0].born >= t->rotation) {
        zk__tls_key key;
        if (RAND_bytes(key.name, sizeof key.name) <= 0 ||
            RAND_priv_bytes(key.cipher, sizeof key.cipher) <= 0 ||
            RAND_priv_bytes(key.mac, sizeof key.mac) <= 0) {
            return false;
        }
        key.born = now ? now : 1;
        t->keys[1] = t->keys[0];
        t->keys[0] = key;
        OPENSSL_cleanse(&key, sizeof key);
    }
    *ret_key = t->keys[0];
    return true;
}

/* Copies the key of that name. returns whether it is still accepted. */
static bool key_named(const zk__tls_tickets *t, const uint8_t *name, zk__tls_key *ret_key,
                      bool *ret_is_old)
{
    for (int i = 0; i < 2; i++) {
        const zk__tls_key *key = &t->keys[i];
        if (!key->born || memcmp(key->name, name, sizeof key->name)) continue;
        zk_time age = zk_now() - key->born;
        *ret_key = *key;
        *ret_is_old = age >= t->rotation;
        return age < 2 * t->rotation;
    }
    return false;
}

static bool key_use(const zk__tls_tickets *t, const zk__tls_key *key, const uint8_t *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool is_encrypting)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) > 0 &&
           EVP_CipherInit_ex2(cipher, t->cipher, key->cipher, iv, is_encrypting, NULL) > 0;
}

/* Called by OpenSSL. returns 1; 2: used, but the client is to get a new ticket; 0: no such key; -1:
 * an error. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int is_encrypting)
{
    zk__tls_stream *s = SSL_get_app_data(ssl);
    zk__tls_tickets *t = &s->tls->ticket_keys;
    zk__tls_key key;
    bool is_old = false;
    pthread_mutex_lock(&s->tls->lock);
    bool is_there = is_encrypting ? key_current(t, &key) : key_named(t, name, &key, &is_old);
    pthread_mutex_unlock(&s->tls->lock);
    if (!is_there) return is_encrypting ? -1 : 0;
    if (is_encrypting) {
        memcpy(name, key.name, sizeof key.name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) <= 0) return -1;
    }
    bool is_set = key_use(t, &key, iv, cipher, mac, is_encrypting);
    OPENSSL_cleanse(&key, sizeof key);
    /* In TLS 1.3 a ticket is used once, so there has to be another. */
    return !is_set ? -1 : is_old || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
}

int zk__tls_tickets_use(const zk_tls *tls, SSL_CTX *ctx)
{
    /* All that is needed for resumption is in the tickets. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (!tls->ticket_keys.rotation) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(ctx, 0) > 0 ? 0 : -ENOMEM;
    }
    SSL_CTX_set_timeout(ctx, (long)(tls->ticket_keys.rotation / ZK_SEC(1)));
    if (SSL_CTX_set_num_tickets(ctx, (size_t)tls->tickets) <= 0 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) <= 0) {
        return zk__tls_error(NULL, NULL);
    }
    return 0;
}
