/*
 * Certificates for tests, made when a test begins, in a folder that is removed when it ends.
 */
#ifndef ZOKIO_TESTS_TLS_CERTS_H
#define ZOKIO_TESTS_TLS_CERTS_H

#include "tests/core/folder.h"

#include <openssl/pem.h>

#include "net/tls_library.h"

/* Tests call some of the library's functions of OpenSSL before it does. */
static __attribute__((constructor)) void library_load(void)
{
    if (zk__tls_library_load() < 0) abort();
}

typedef struct issued {
    EVP_PKEY *key;
    X509 *certificate;
    char cert_file[128], key_file[128]; /* PEM */
} issued;

/* All that were made, freed at the end. */
static issued all_issued[256];
static int issued_count;

static inline void issued_free_all(void)
{
    while (issued_count) {
        issued_count--;
        EVP_PKEY_free(all_issued[issued_count].key);
        X509_free(all_issued[issued_count].certificate);
    }
}

static inline void extension_add(X509 *certificate, X509 *by, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, by, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    cr_assert(extension && X509_add_ext(certificate, extension, -1) > 0, "%s", value);
    X509_EXTENSION_free(extension);
}

static inline void pem_write(const char *path, const char *mode, EVP_PKEY *key, X509 *certificate)
{
    FILE *file = fopen(path, mode);
    cr_assert(file, "%s", path);
    if (key) cr_assert(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) > 0);
    if (certificate) cr_assert(PEM_write_X509(file, certificate) > 0);
    cr_assert(fclose(file) == 0);
}

/*
 * Makes a certificate NAME.pem and its key NAME.key, valid for the days from `first` to `last`
 * counted from today. by: NULL for an authority, which signs itself. names: NULL or as in
 * "DNS:a.example,IP:127.0.0.1".
 */
static inline issued issue_valid(const char *name, const issued *by, const char *names, int first,
                                 int last)
{
    static long serial = 1;
    issued made = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
    X509 *x = made.certificate;
    cr_assert(made.key && x);
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), first * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(x), last * 86400L);
    X509_set_pubkey(x, made.key);
    X509_NAME *subject = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *)"Zokio", -1, -1,
                               0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    X509 *issuer = by ? by->certificate : x;
    X509_set_issuer_name(x, X509_get_subject_name(issuer));
    extension_add(x, issuer, NID_basic_constraints, by ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (names) extension_add(x, issuer, NID_subject_alt_name, names);
    cr_assert(X509_sign(x, by ? by->key : made.key, EVP_sha256()) > 0);
    if (!folder[0]) folder_make();
    snprintf(made.cert_file, sizeof made.cert_file, "%s/%s.pem", folder, name);
    snprintf(made.key_file, sizeof made.key_file, "%s/%s.key", folder, name);
    pem_write(made.cert_file, "w", NULL, x);
    pem_write(made.key_file, "w", made.key, NULL);
    if (!issued_count) atexit(issued_free_all);
    cr_assert_lt(issued_count, 256);
    return all_issued[issued_count++] = made;
}

static inline issued issue(const char *name, const issued *by, const char *names)
{
    return issue_valid(name, by, names, -1, 30);
}

#endif
