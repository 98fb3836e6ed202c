/*
 * What a TLS client begins with. Input: the bytes that a server gets, also read as a table of names
 * and a host.
 *
 * The handshake ends with an error (nobody makes a whole one by chance), within its limits. The
 * table finds what a plain reading of RFC 6125 finds.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zokio/task.h>
#include <zokio/tls.h>

#include "net/tls_names.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static zk_tls *server;

/* ---- certificates ---- */

static void issue(const char *path, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    CHECK(key && x);
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    CHECK(san && X509_add_ext(x, san, -1) > 0 && X509_sign(x, key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    CHECK(file && PEM_write_X509(file, x) > 0);
    CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) > 0);
    CHECK(fclose(file) == 0);
    X509_EXTENSION_free(san);
    X509_free(x);
    EVP_PKEY_free(key);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    char folder[] = "/tmp/zokio-fuzz-XXXX"
                    "XX",
         paths[2][64];
    CHECK(mkdtemp(folder));
    for (int i = 0; i < 2; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%d.pem", folder, i);
    issue(paths[0], "DNS:localhost");
    issue(paths[1], "DNS:*.example.org,DNS:example.org");
    zk_tls_certificate certificates[] = {{paths[0], NULL, NULL}, {paths[1], NULL, NULL}, {0}};
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    zk_tls_server options = {.certificates = certificates, .alpn = alpn};
    CHECK(zk_tls_server_new(&options, &server) == 0);
    unlink(paths[0]);
    unlink(paths[1]);
    rmdir(folder);
    return 0;
}

/* ---- names ---- */

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static bool is_same(zk_str a, zk_str b)
{
    if (a.size != b.size) return false;
    for (size_t i = 0; i < a.size; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) return false;
    }
    return true;
}

static zk_str behind(zk_str s, size_t n) { return (zk_str){s.data + n, s.size - n}; }

static bool is_usable(zk_str name, size_t from)
{
    return name.size > from && name.size - from <= ZK__TLS_NAME_MAX &&
           !memchr(name.data + from, '*', name.size - from) && !memchr(name.data, '\0', name.size);
}

/* Whether a name of a certificate is for a host: 2 by itself, 1 as a wildcard. */
static int matches(zk_str name, zk_str host)
{
    if (name.size && name.data[0] == '*') {
        const char *dot = memchr(host.data, '.', host.size);
        if (!dot || name.size < 2 || name.data[1] != '.' || !is_usable(name, 1)) return 0;
        return is_same(behind(name, 1), behind(host, (size_t)(dot - host.data))) ? 1 : 0;
    }
    return is_usable(name, 0) && name.data[0] != '.' && is_same(name, host) ? 2 : 0;
}

enum { NAMES_MAX = 16 };

/* The input's lines: a host, behind it names. */
static void check_names(const char *data, size_t size)
{
    zk_str lines[NAMES_MAX + 1];
    int count = 0;
    while (size && count <= NAMES_MAX) {
        const char *end = memchr(data, '\n', size);
        size_t n = end ? (size_t)(end - data) : size;
        lines[count++] = (zk_str){data, n};
        n += end != NULL;
        data += n;
        size -= n;
    }
    if (!count) return;
    zk__tls_names names = {0};
    zk_str host = lines[0];
    if (host.size && host.data[host.size - 1] == '.') host.size--;
    bool is_host = host.size && host.size <= ZK__TLS_NAME_MAX && host.data[0] != '.';
    int wanted = -1, best = 0;
    for (int i = 1; i < count; i++) {
        CHECK(zk__tls_names_add(&names, lines[i].data, lines[i].size, i) == 0);
        int how = is_host ? matches(lines[i], host) : 0;
        if (how <= best) continue;
        best = how;
        wanted = i;
    }
    zk__tls_names_sort(&names);
    CHECK(zk__tls_names_find(&names, lines[0].data, lines[0].size) == wanted);
    zk__tls_names_done(&names);
}

/* ---- the handshake ---- */

static int check_hello(void *arg)
{
    const zk_str *input = arg;
    zk_stream *a, *b, *stream;
    CHECK(zk_stream_pair(&a, &b) == 0);
    CHECK(!input->size || zk_stream_try_write(a, input->data, input->size) > 0);
    CHECK(zk_stream_shutdown(a) == 0);
    CHECK(zk_tls_accept(server, b, &stream) < 0);
    zk_stream_close(a);
    zk_stream_close(b);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size) memcpy(copy, data, size);
    check_names(copy, size);
    zk_str input = {copy, size};
    CHECK(zk_run(&(zk_config){.workers = 1, .no_crash_report = true}, check_hello, &input) == 0);
    free(copy);
    return 0;
}
