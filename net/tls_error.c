/*
 * OpenSSL's errors as our codes.
 *
 * The queue of errors is the thread's: it is emptied here, right after the call that failed and
 * before the task can be suspended.
 */
#include <errno.h>

#include "net/tls.h"

/* What a verification has found, if that is why it failed. */
static int verify_error(SSL *ssl, const char **ret_reason)
{
    long result = SSL_get_verify_result(ssl);
    *ret_reason = X509_verify_cert_error_string(result);
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return ZK_E_TLS_HOST;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return ZK_E_TLS_EXPIRED;
    case X509_V_ERR_OUT_OF_MEM: return -ENOMEM;
    default: return ZK_E_TLS_CERTIFICATE;
    }
}

static int ssl_error(SSL *ssl, int reason, const char **ret_reason)
{
    /* These are the alerts that the peer has sent. */
    if (reason >= SSL_AD_REASON_OFFSET) return ZK_E_TLS_ALERT;
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return ssl ? verify_error(ssl, ret_reason) : ZK_E_TLS_FILE;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return ZK_E_TLS_CERTIFICATE;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return ZK_E_TLS_TRUNCATED;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER: return ZK_E_TLS_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_APPLICATION_PROTOCOL: return ZK_E_TLS_MISMATCH;
    default: return ZK_E_TLS_PROTOCOL;
    }
}

int zk__tls_error(SSL *ssl, const char **ret_reason)
{
    /* The first is the cause, those behind it say what came of it; but what the protocol makes of
     * it says more than that some arithmetic has failed. */
    unsigned long first = ERR_get_error(), code = first, next = first;
    bool is_memory = false;
    for (; next; next = ERR_get_error()) {
        if (ERR_GET_REASON(next) == ERR_R_MALLOC_FAILURE) is_memory = true;
        if (ERR_GET_LIB(next) == ERR_LIB_SSL && ERR_GET_LIB(code) != ERR_LIB_SSL) code = next;
    }
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    int rc = ZK_E_TLS_PROTOCOL;
    if (ERR_GET_LIB(code) == ERR_LIB_SSL) rc = ssl_error(ssl, ERR_GET_REASON(code), &reason);
    if (is_memory) rc = -ENOMEM;
    if (ret_reason) *ret_reason = reason;
    return rc;
}

int zk__tls_file_error(const char *path)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    int rc = ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? -ENOMEM : ZK_E_TLS_FILE;
    if (ERR_GET_LIB(code) == ERR_LIB_SYS) reason = strerrordesc_np(ERR_GET_REASON(code));
    rc = zk_fail(rc, "%.300s: %s", path, reason ? reason : "not usable");
    ERR_clear_error();
    return rc;
}
