/*
 * Configurations: options are copied when one is made, files are read then and when it is reloaded.
 *
 * What comes from files is a set, which never changes: each certificate with an SSL_CTX of its own,
 * and the table of names. Reloading makes another set and puts it in the place of the old one;
 * connections that shake hands hold theirs until they are done, and later only the SSL_CTX. All
 * certificates of a server share its other options, so that switching among them by name changes
 * nothing but the certificate.
 */
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zokio/error.h>

enum { ALPN_BYTES_MAX = 1024, OCSP_BYTES_MAX = 64 * 1024, HANDSHAKE_TIMEOUT_MS = 10000 };

/* Forward secrecy and authenticated encryption only. AES-128 first: it is the faster one, and
 * SHA-256 goes with it in the handshake. */
static const char ciphers_1_2[] = "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_1_3[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384:P-521";

/* ---- sets ---- */

static void set_free(zk__tls_set *set)
{
    for (int i = 0; i < set->count; i++) {
        SSL_CTX_free(set->identities[i].ctx);
        free(set->identities[i].ocsp);
    }
    zk__tls_names_done(&set->names);
    free(set->identities);
    free(set);
}

void zk__tls_set_give(zk__tls_set *set)
{
    if (set && atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1) set_free(set);
}

zk__tls_set *zk__tls_set_take(zk_tls *tls)
{
    pthread_mutex_lock(&tls->lock);
    zk__tls_set *set = tls->set;
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&tls->lock);
    return set;
}

static zk__tls_set *set_new(int count)
{
    zk__tls_set *set = calloc(1, sizeof *set);
    if (!set) return NULL;
    set->identities = calloc((size_t)count, sizeof *set->identities);
    if (!set->identities) {
        free(set);
        return NULL;
    }
    set->count = count;
    atomic_init(&set->refs, 1);
    return set;
}

/* ---- what OpenSSL asks during a handshake ---- */

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    const zk__tls_set *set = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name) return SSL_TLSEXT_ERR_NOACK;
    int index = zk__tls_names_find(&set->names, name, strlen(name));
    if (index > 0 && !SSL_set_SSL_CTX(ssl, set->identities[index].ctx)) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return index >= 0 ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int on_status(SSL *ssl, void *arg)
{
    const zk__tls_identity *identity = arg;
    uint8_t *copy = OPENSSL_memdup(identity->ocsp, identity->ocsp_size);
    if (!copy) return SSL_TLSEXT_ERR_NOACK;
    SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)identity->ocsp_size); /* takes it */
    return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_size,
                   const unsigned char *offered, unsigned offered_size, void *arg)
{
    (void)ssl;
    const zk_tls *tls = arg;
    unsigned char *name;
    int rc =
        SSL_select_next_proto(&name, ret_size, tls->alpn, tls->alpn_size, offered, offered_size);
    if (rc != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 section 3.2 */
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

static void on_key_log(const SSL *ssl, const char *line)
{
    const zk__tls_stream *s = SSL_get_app_data(ssl);
    struct iovec iov[] = {{(void *)line, strlen(line)}, {(void *)"\n", 1}};
    /* One call, so that lines of several workers stay whole. It is for debugging; what cannot be
     * written is missed there. */
    ssize_t n = writev(s->tls->key_log_fd, iov, 2);
    (void)n;
}

/* There is nobody to ask for the password of a key. */
static int on_password(char *buf, int size, int is_writing, void *arg)
{
    (void)buf, (void)size, (void)is_writing, (void)arg;
    return -1;
}

/* ---- files ---- */

/* Reads a small file. returns its bytes, to be freed; NULL: the trail says why. */
static uint8_t *file_read(const char *path, size_t max, size_t *ret_size, int *ret_rc)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = fd >= 0 ? malloc(max + 1) : NULL;
    size_t size = 0;
    ssize_t n = 0;
    while (data && size <= max && (n = read(fd, data + size, max + 1 - size)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        size += (size_t)n;
    }
    int error = fd < 0 || n < 0 ? errno : data ? 0 : ENOMEM;
    if (fd >= 0) close(fd);
    if (!error && size > max) error = EFBIG;
    if (!error) {
        *ret_size = size;
        return data;
    }
    free(data);
    *ret_rc = error == ENOMEM ? -ENOMEM
                              : zk_fail(ZK_E_TLS_FILE, "%.300s: %s", path, strerrordesc_np(error));
    return NULL;
}

static int ocsp_load(zk__tls_identity *identity, const char *path)
{
    int rc = 0;
    identity->ocsp = file_read(path, OCSP_BYTES_MAX, &identity->ocsp_size, &rc);
    if (!identity->ocsp) return rc;
    const uint8_t *at = identity->ocsp;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)identity->ocsp_size);
    bool is_whole = response && at == identity->ocsp + identity->ocsp_size;
    bool is_good = is_whole && OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL;
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    if (!is_good) {
        return zk_fail(ZK_E_TLS_FILE, "%.300s: not a successful OCSP response in DER", path);
    }
    SSL_CTX_set_tlsext_status_cb(identity->ctx, on_status);
    SSL_CTX_set_tlsext_status_arg(identity->ctx, identity);
    return 0;
}

static int identity_load(SSL_CTX *ctx, const zk__tls_files *files)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, files->cert) <= 0) {
        return zk__tls_file_error(files->cert);
    }
    const char *key = files->key ? files->key : files->cert;
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) <= 0 ||
        SSL_CTX_check_private_key(ctx) <= 0) {
        return zk__tls_file_error(key);
    }
    return 0;
}

/* Adds the DNS names of a certificate to the table. */
static int names_load(zk__tls_names *names, SSL_CTX *ctx, int index)
{
    X509 *certificate = SSL_CTX_get0_certificate(ctx);
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int rc = 0;
    for (int i = 0; !rc && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
        if (name->type != GEN_DNS) continue;
        rc = zk__tls_names_add(names, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                               (size_t)ASN1_STRING_length(name->d.dNSName), index);
    }
    GENERAL_NAMES_free(all);
    ERR_clear_error();
    return rc;
}

/* ---- an SSL_CTX ---- */

/* Tickets hold what was verified: they are void as soon as other authorities are trusted. */
static int session_context_set(const zk_tls *tls, SSL_CTX *ctx)
{
    uint8_t id[SHA256_DIGEST_LENGTH] = "zokio";
    if (tls->verify) {
        size_t size;
        int rc = 0;
        uint8_t *file = file_read(tls->ca_file, 1 << 24, &size, &rc);
        if (!file) return rc;
        bool is_done = EVP_Digest(file, size, id, NULL, EVP_sha256(), NULL) > 0;
        free(file);
        if (!is_done) return zk__tls_error(NULL, NULL);
    }
    return SSL_CTX_set_session_id_context(ctx, id, sizeof id) > 0 ? 0 : zk__tls_error(NULL, NULL);
}

static int verify_set(const zk_tls *tls, SSL_CTX *ctx)
{
    if (tls->is_server ? !tls->verify : tls->is_insecure) return 0;
    if (tls->ca_file) {
        if (SSL_CTX_load_verify_file(ctx, tls->ca_file) <= 0) {
            return zk__tls_file_error(tls->ca_file);
        }
    } else if (SSL_CTX_set_default_verify_paths(ctx) <= 0) {
        return zk__tls_error(NULL, NULL);
    }
    int mode = SSL_VERIFY_PEER;
    if (tls->verify == ZK_TLS_VERIFY_REQUIRE) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, NULL);
    return 0;
}

/* Tells clients which authorities are meant. */
static int client_authorities_set(const zk_tls *tls, SSL_CTX *ctx)
{
    if (!tls->verify) return 0;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(tls->ca_file);
    if (!names) return zk__tls_file_error(tls->ca_file);
    SSL_CTX_set_client_CA_list(ctx, names); /* takes it */
    return 0;
}

static int server_set(const zk_tls *tls, SSL_CTX *ctx, zk__tls_set *set)
{
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, set);
    if (tls->alpn) SSL_CTX_set_alpn_select_cb(ctx, on_alpn, (void *)tls);
    int rc = zk__tls_tickets_use(tls, ctx);
    if (!rc) rc = session_context_set(tls, ctx);
    if (!rc) rc = client_authorities_set(tls, ctx);
    return rc;
}

static int client_set(const zk_tls *tls, SSL_CTX *ctx)
{
    zk__tls_sessions_use(tls, ctx);
    /* returns 0 for success, unlike all others */
    if (tls->alpn && SSL_CTX_set_alpn_protos(ctx, tls->alpn, tls->alpn_size)) {
        return zk__tls_error(NULL, NULL);
    }
    return 0;
}

static int ctx_new(const zk_tls *tls, zk__tls_set *set, SSL_CTX **ret_ctx)
{
    SSL_CTX *ctx = SSL_CTX_new(tls->is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx) return zk__tls_error(NULL, NULL);
    *ret_ctx = ctx;
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_default_passwd_cb(ctx, on_password);
    if (SSL_CTX_set_min_proto_version(ctx, tls->version_min) <= 0 ||
        SSL_CTX_set_max_proto_version(ctx, tls->version_max) <= 0 ||
        SSL_CTX_set_cipher_list(ctx, ciphers_1_2) <= 0 ||
        SSL_CTX_set_ciphersuites(ctx, ciphers_1_3) <= 0 ||
        SSL_CTX_set1_groups_list(ctx, groups) <= 0) {
        return zk__tls_error(NULL, NULL);
    }
    if (tls->wants_kernel) SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
    if (tls->key_log_fd >= 0) SSL_CTX_set_keylog_callback(ctx, on_key_log);
    int rc = verify_set(tls, ctx);
    if (rc) return rc;
    return tls->is_server ? server_set(tls, ctx, set) : client_set(tls, ctx);
}

static int set_fill(const zk_tls *tls, zk__tls_set *set)
{
    for (int i = 0; i < set->count; i++) {
        zk__tls_identity *identity = &set->identities[i];
        int rc = ctx_new(tls, set, &identity->ctx);
        if (rc) return rc;
        if (i >= tls->file_count) return 0; /* a client without a certificate */
        const zk__tls_files *files = &tls->files[i];
        rc = identity_load(identity->ctx, files);
        if (!rc && files->ocsp) rc = ocsp_load(identity, files->ocsp);
        if (!rc && tls->is_server) rc = names_load(&set->names, identity->ctx, i);
        if (rc) return rc;
    }
    zk__tls_names_sort(&set->names);
    return 0;
}

int zk_tls_reload(zk_tls *tls)
{
    zk__tls_set *set = set_new(tls->is_server ? tls->file_count : 1);
    if (!set) return -ENOMEM;
    ERR_clear_error();
    int rc = set_fill(tls, set);
    if (rc) {
        set_free(set);
        return rc;
    }
    pthread_mutex_lock(&tls->lock);
    zk__tls_set *old = tls->set;
    tls->set = set;
    pthread_mutex_unlock(&tls->lock);
    zk__tls_set_give(old);
    return 0;
}

/* ---- making one ---- */

void zk__tls_ref(zk_tls *tls) { atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed); }

void zk_tls_free(zk_tls *tls)
{
    if (!tls || atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) != 1) return;
    zk__tls_set_give(tls->set);
    zk__tls_tickets_done(&tls->ticket_keys);
    zk__tls_sessions_done(&tls->sessions);
    for (int i = 0; i < tls->file_count; i++) {
        free(tls->files[i].cert);
        free(tls->files[i].key);
        free(tls->files[i].ocsp);
    }
    free(tls->files);
    free(tls->ca_file);
    free(tls->alpn);
    if (tls->key_log_fd >= 0) close(tls->key_log_fd);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

static int tls_new(bool is_server, zk_tls **ret_tls)
{
    int rc = zk__tls_library_load();
    if (rc < 0) return rc;
    zk_tls *tls = calloc(1, sizeof *tls);
    if (!tls) return -ENOMEM;
    if (pthread_mutex_init(&tls->lock, NULL)) {
        free(tls);
        return -ENOMEM;
    }
    atomic_init(&tls->refs, 1);
    tls->is_server = is_server;
    tls->key_log_fd = -1;
    *ret_tls = tls;
    return 0;
}

static int text_copy(char **to, const char *text)
{
    if (!text) return 0;
    *to = strdup(text);
    return *to ? 0 : -ENOMEM;
}

static int files_copy(zk_tls *tls, const zk_tls_certificate *certificates, int count)
{
    tls->files = calloc((size_t)count, sizeof *tls->files);
    if (!tls->files) return -ENOMEM;
    tls->file_count = count;
    int rc = 0;
    for (int i = 0; !rc && i < count; i++) {
        rc = text_copy(&tls->files[i].cert, certificates[i].cert_file);
        if (!rc) rc = text_copy(&tls->files[i].key, certificates[i].key_file);
        if (!rc) rc = text_copy(&tls->files[i].ocsp, certificates[i].ocsp_file);
    }
    return rc;
}

/* Lays the protocols out as they are on the wire: each behind its size. */
static int alpn_copy(zk_tls *tls, const char *const *names)
{
    if (!names || !names[0]) return 0;
    tls->alpn = malloc(ALPN_BYTES_MAX);
    if (!tls->alpn) return -ENOMEM;
    for (; *names; names++) {
        size_t size = strlen(*names);
        if (!size || size > 255 || tls->alpn_size + 1 + size > ALPN_BYTES_MAX) {
            return zk_fail(ZK_E_CONFIG, "the ALPN protocol \"%.300s\"", *names);
        }
        tls->alpn[tls->alpn_size] = (uint8_t)size;
        memcpy(tls->alpn + tls->alpn_size + 1, *names, size);
        tls->alpn_size += 1 + (unsigned)size;
    }
    return 0;
}

static int key_log_open(zk_tls *tls, const char *path)
{
    if (!path) return 0;
    tls->key_log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (tls->key_log_fd >= 0) return 0;
    return zk_fail(ZK_E_TLS_FILE, "%.300s: %s", path, strerrordesc_np(errno));
}

/* returns false if that is no range of versions. */
static bool versions_copy(zk_tls *tls, zk_tls_version min, zk_tls_version max)
{
    static const int versions[] = {
        [ZK_TLS_1_2] = TLS1_2_VERSION,
        [ZK_TLS_1_3] = TLS1_3_VERSION,
    };
    if (!min) min = ZK_TLS_1_2;
    if (!max) max = ZK_TLS_1_3;
    if (min < ZK_TLS_1_2 || min > max || max > ZK_TLS_1_3) return false;
    tls->version_min = versions[min];
    tls->version_max = versions[max];
    return true;
}

static int server_fill(zk_tls *tls, const zk_tls_server *options)
{
    int count = 0;
    while (options->certificates && options->certificates[count].cert_file)
        count++;
    if (!count) return zk_fail(ZK_E_CONFIG, "a TLS server without a certificate");
    if (options->client_verify > ZK_TLS_VERIFY_REQUIRE || options->tickets < 0 ||
        !versions_copy(tls, options->version_min, options->version_max)) {
        return zk_fail(ZK_E_CONFIG, "a TLS server's options");
    }
    if (options->client_verify && !options->client_ca_file) {
        return zk_fail(ZK_E_CONFIG, "client certificates without client_ca_file");
    }
    tls->verify = options->client_verify;
    tls->handshake_timeout_ms = options->handshake_timeout_ms;
    tls->tickets = options->tickets ? options->tickets : 1;
    tls->wants_kernel = options->ktls;
    int rc = files_copy(tls, options->certificates, count);
    if (!rc) rc = text_copy(&tls->ca_file, options->client_ca_file);
    if (!rc) rc = alpn_copy(tls, options->alpn);
    if (!rc) rc = key_log_open(tls, options->key_log_file);
    if (!rc) rc = zk__tls_tickets_init(&tls->ticket_keys, options->ticket_rotation_s);
    return rc;
}

static int client_fill(zk_tls *tls, const zk_tls_client *options)
{
    if (!versions_copy(tls, options->version_min, options->version_max) ||
        (options->key_file && !options->cert_file)) {
        return zk_fail(ZK_E_CONFIG, "a TLS client's options");
    }
    tls->is_insecure = options->insecure_skip_verification;
    tls->wants_kernel = options->ktls;
    tls->handshake_timeout_ms = options->handshake_timeout_ms;
    zk_tls_certificate own = {options->cert_file, options->key_file, NULL};
    int rc = own.cert_file ? files_copy(tls, &own, 1) : 0;
    if (!rc) rc = text_copy(&tls->ca_file, options->ca_file);
    if (!rc) rc = alpn_copy(tls, options->alpn);
    if (!rc) rc = key_log_open(tls, options->key_log_file);
    if (!rc) rc = zk__tls_sessions_init(&tls->sessions, options->sessions_max);
    return rc;
}

static int tls_finish(zk_tls *tls, int rc, zk_tls **ret_tls)
{
    if (!tls->handshake_timeout_ms) tls->handshake_timeout_ms = HANDSHAKE_TIMEOUT_MS;
    if (!rc) rc = zk_tls_reload(tls);
    if (rc) {
        zk_tls_free(tls);
        return rc;
    }
    *ret_tls = tls;
    return 0;
}

int zk_tls_server_new(const zk_tls_server *options, zk_tls **ret_tls)
{
    zk_tls *tls;
    int rc = tls_new(true, &tls);
    return rc ? rc : tls_finish(tls, server_fill(tls, options), ret_tls);
}

int zk_tls_client_new(const zk_tls_client *options, zk_tls **ret_tls)
{
    static const zk_tls_client defaults = {0};
    zk_tls *tls;
    int rc = tls_new(false, &tls);
    return rc ? rc : tls_finish(tls, client_fill(tls, options ? options : &defaults), ret_tls);
}
