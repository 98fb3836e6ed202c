/*
 * Who is trusted: certificates, names, authorities, on both sides; and what a server shows to whom.
 */
#include "tests/net/tls_ends.h"

#include "net/tls.h"

/* A handshake over a pair; both ends are closed again. */
static handshake try_hands(zk_tls *server, zk_tls *client, const char *host)
{
    handshake h = shake_hands(server, client, host, open_pair());
    if (h.client >= 0 && h.server >= 0) {
        char byte; /* in TLS 1.3 the server's refusal comes behind the client's handshake */
        cr_assert_ok(zk_stream_write(h.e.b, "x", 1));
        cr_assert_rc(zk_stream_read(h.e.a, &byte, 1), 1);
    }
    ends_close(&h.e);
    return h;
}

static zk_tls *server_with(const issued *made)
{
    zk_tls *tls;
    zk_tls_certificate certificates[] = {{made->cert_file, made->key_file, NULL}, {0}};
    zk_tls_server options = {.certificates = certificates};
    cr_assert_rc(zk_tls_server_new(&options, &tls), 0, "%.200s", zk_trail());
    return tls;
}

static zk_tls *client_with(zk_tls_client options)
{
    zk_tls *tls;
    cr_assert_rc(zk_tls_client_new(&options, &tls), 0, "%.200s", zk_trail());
    return tls;
}

/* ---- the server's certificate ---- */

ZK_ASYNC_TEST(tls_trust, a_certificate_is_for_its_hosts_only)
{
    static const struct {
        const char *host;
        int rc;
    } rows[] = {
        {"localhost", 0},
        {"LocalHost", 0},
        {"localhost.", 0},
        {"a.example.org", 0},
        {"A.Example.ORG", 0},
        {"127.0.0.1", 0},
        {"example.org", ZK_E_TLS_HOST},
        {"a.b.example.org", ZK_E_TLS_HOST},
        {"localhost.example.com", ZK_E_TLS_HOST},
        {"127.0.0.2", ZK_E_TLS_HOST},
        {"[::1]", ZK_E_TLS_HOST},
        {"leaf", ZK_E_TLS_HOST}, /* its common name, which counts for nothing */
    };
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        handshake h = try_hands(p.server, p.client, rows[i].host);
        cr_assert_rc(h.client, rows[i].rc, "%s: %.150s", rows[i].host, h.client_trail);
        cr_assert_rc(h.server, rows[i].rc ? ZK_E_TLS_ALERT : 0, "%s", rows[i].host);
        if (rows[i].rc) cr_assert(strstr(h.client_trail, "mismatch"), "%s", h.client_trail);
    }
    pki_done(&p);
}

/* What is wrong with a certificate is found, unless the client wants to be blind. */
ZK_ASYNC_TEST(tls_trust, a_certificate_that_is_not_good_is_refused)
{
    issued ca = issue("ca", NULL, NULL), other = issue("other", NULL, NULL);
    issued middle = issue("middle", &ca, NULL); /* no authority, and signs all the same */
    issued twin = issue("ca", NULL, NULL);      /* of the same name, with another key */
    pem_write(ca.cert_file, "w", NULL, ca.certificate);
    const issued leaves[] = {
        issue("by-a-twin", &twin, "DNS:localhost"),
        issue("unknown", &other, "DNS:localhost"),
        issue("self-signed", NULL, "DNS:localhost"),
        issue("by-a-leaf", &middle, "DNS:localhost"),
        issue_valid("expired", &ca, "DNS:localhost", -30, -1),
        issue_valid("early", &ca, "DNS:localhost", 1, 30),
    };
    static const int rcs[] = {ZK_E_TLS_CERTIFICATE, ZK_E_TLS_CERTIFICATE, ZK_E_TLS_CERTIFICATE,
                              ZK_E_TLS_CERTIFICATE, ZK_E_TLS_EXPIRED,     ZK_E_TLS_EXPIRED};
    zk_tls *client = client_with((zk_tls_client){.ca_file = ca.cert_file});
    zk_tls *blind = client_with((zk_tls_client){.insecure_skip_verification = true});
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        zk_tls *server = server_with(&leaves[i]);
        handshake h = try_hands(server, client, "localhost");
        cr_assert_rc(h.client, rcs[i], "%s: %.150s", leaves[i].cert_file, h.client_trail);
        cr_assert(strstr(h.client_trail, "TLS handshake with localhost: "), "%s", h.client_trail);
        cr_assert_rc(h.server, ZK_E_TLS_ALERT, "%s", leaves[i].cert_file);
        h = shake_hands(server, blind, "whoever", open_pair());
        cr_assert_rc(h.client, 0, "%s: %.150s", leaves[i].cert_file, h.client_trail);
        zk_tls_info info;
        cr_assert_ok(zk_tls_info_get(h.e.a, &info));
        cr_assert(!info.is_peer_verified);
        ends_close(&h.e);
        zk_tls_free(server);
    }
    zk_tls_free(client);
    zk_tls_free(blind);
}

/* Without a word said about it a client verifies, with the system's authorities. */
ZK_ASYNC_TEST(tls_trust, verification_is_the_default)
{
    zk_tls *client;
    issued ca = issue("ca", NULL, NULL), leaf = issue("leaf", &ca, "DNS:localhost");
    zk_tls *server = server_with(&leaf);
    cr_assert_ok(zk_tls_client_new(NULL, &client));
    handshake h = try_hands(server, client, "localhost");
    cr_assert_rc(h.client, ZK_E_TLS_CERTIFICATE, "%.150s", h.client_trail);
    zk_tls_free(client);
    /* Where the system's store is, is what the environment says. */
    setenv("SSL_CERT_FILE", ca.cert_file, 1);
    cr_assert_ok(zk_tls_client_new(NULL, &client));
    h = try_hands(server, client, "localhost");
    cr_assert_rc(h.client, 0, "%.150s", h.client_trail);
    zk_tls_free(client);
    zk_tls_free(server);
}

/* ---- names ---- */

static const char *shown_to(zk_tls *server, zk_tls *client, const char *host)
{
    static char name[64];
    zk_arena arena = {0};
    zk_tls_peer peer;
    handshake h = shake_hands(server, client, host, open_pair());
    cr_assert_rc(h.client, 0, "%s: %.150s", host, h.client_trail);
    cr_assert_ok(zk_tls_peer_get(h.e.a, &arena, &peer));
    snprintf(name, sizeof name, "%.*s", (int)peer.common_name.size, peer.common_name.data);
    zk_arena_done(&arena);
    ends_close(&h.e);
    return name;
}

ZK_ASYNC_TEST(tls_trust, a_server_shows_the_certificate_for_the_name)
{
    issued made[] = {
        issue("default", NULL, "DNS:default.example"),
        issue("wild", NULL, "DNS:*.example.org,DNS:example.org"),
        issue("exact", NULL, "DNS:www.example.org"),
        issue("deep", NULL, "DNS:*.www.example.org"),
        issue("second", NULL, "DNS:example.org"),
    };
    static const struct {
        const char *host, *shown;
    } rows[] = {
        {"default.example", "default"}, {"nobody.example", "default"},
        {"127.0.0.1", "default"},       {"a.example.org", "wild"},
        {"example.org", "wild"},        {"www.example.org", "exact"},
        {"WWW.Example.Org", "exact"},   {"a.www.example.org", "deep"},
        {"a.b.example.org", "default"}, {"org", "default"},
    };
    zk_tls_certificate certificates[6] = {0};
    for (int i = 0; i < 5; i++)
        certificates[i] = (zk_tls_certificate){made[i].cert_file, made[i].key_file, NULL};
    zk_tls_server options = {.certificates = certificates};
    zk_tls *server, *client = client_with((zk_tls_client){.insecure_skip_verification = true});
    cr_assert_ok(zk_tls_server_new(&options, &server));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_assert_str_eq(shown_to(server, client, rows[i].host), rows[i].shown, "%s", rows[i].host);
    zk_tls_free(server);
    zk_tls_free(client);
}

/* ---- stapling ---- */

/* Writes what the authority says of a certificate. returns the file. */
static const char *ocsp_write(const char *name, const issued *ca, const issued *of, int status)
{
    static char paths[2][512];
    static int count;
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, of->certificate, ca->certificate);
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0), *later = X509_gmtime_adj(NULL, 86400);
    bool is_revoked = status == V_OCSP_CERTSTATUS_REVOKED;
    cr_assert(OCSP_basic_add1_status(basic, id, status, 0, is_revoked ? now : NULL, now, later));
    cr_assert(OCSP_basic_sign(basic, ca->certificate, ca->key, EVP_sha256(), NULL, 0) > 0);
    OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    char *path = paths[count++ % 2];
    snprintf(path, sizeof *paths, "%s", in_folder(name));
    unsigned char *der = NULL;
    int size = i2d_OCSP_RESPONSE(response, &der);
    FILE *file = fopen(path, "w");
    cr_assert(size > 0 && fwrite(der, 1, (size_t)size, file) == (size_t)size);
    cr_assert(fclose(file) == 0);
    OPENSSL_free(der);
    OCSP_RESPONSE_free(response);
    ASN1_TIME_free(later);
    ASN1_TIME_free(now);
    OCSP_CERTID_free(id);
    OCSP_BASICRESP_free(basic);
    return path;
}

/* Connects with a client that asks for the status. returns the file that it got in the handshake,
 * to be freed; *ret_size is -1 if there was none. */
static uint8_t *stapled_to(zk_tls *server, zk_tls *client, const char *host, long *ret_size)
{
    const unsigned char *stapled;
    SSL_CTX_set_tlsext_status_type(client->set->identities[0].ctx, TLSEXT_STATUSTYPE_ocsp);
    handshake h = shake_hands(server, client, host, open_pair());
    cr_assert_rc(h.client, 0, "%.150s", h.client_trail);
    cr_assert_rc(h.server, 0, "%.150s", h.server_trail);
    SSL *ssl = zk__tls_stream_of(h.e.a)->ssl;
    *ret_size = SSL_get_tlsext_status_ocsp_resp(ssl, &stapled);
    uint8_t *copy = *ret_size > 0 ? OPENSSL_memdup(stapled, (size_t)*ret_size) : NULL;
    ends_close(&h.e);
    return copy;
}

static bool is_file(const char *path, const uint8_t *data, long size)
{
    static uint8_t text[65536];
    FILE *file = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    return size > 0 && n == (size_t)size && !memcmp(text, data, n);
}

/* Each certificate has its own, and none where there is no file; reloading takes a newer one. */
ZK_ASYNC_TEST(tls_trust, ocsp_responses_are_stapled)
{
    issued ca = issue("ca", NULL, NULL);
    issued one = issue("one", &ca, "DNS:one.example"), two = issue("two", &ca, "DNS:two.example");
    issued bare = issue("bare", &ca, "DNS:bare.example");
    const char *first = ocsp_write("one.ocsp", &ca, &one, V_OCSP_CERTSTATUS_GOOD);
    const char *second = ocsp_write("two.ocsp", &ca, &two, V_OCSP_CERTSTATUS_GOOD);
    zk_tls_certificate certificates[] = {{one.cert_file, one.key_file, first},
                                         {two.cert_file, two.key_file, second},
                                         {bare.cert_file, bare.key_file, NULL},
                                         {0}};
    for (int i = 0; i < 2; i++) {
        zk_tls *server;
        cr_assert_ok(zk_tls_server_new(&(zk_tls_server){.certificates = certificates}, &server));
        zk_tls *client = client_with((zk_tls_client){
            .ca_file = ca.cert_file,
            .version_max = i ? ZK_TLS_1_3 : ZK_TLS_1_2,
            .sessions_max = -1,
        });
        long size;
        uint8_t *got = stapled_to(server, client, "one.example", &size);
        cr_assert(is_file(first, got, size), "%d: %ld bytes", i, size);
        OPENSSL_free(got);
        got = stapled_to(server, client, "two.example", &size);
        cr_assert(is_file(second, got, size), "%d: %ld bytes", i, size);
        OPENSSL_free(got);
        cr_assert_null(stapled_to(server, client, "bare.example", &size));
        cr_assert_eq(size, -1);

        uint8_t *old = stapled_to(server, client, "one.example", &size);
        first = ocsp_write("one.ocsp", &ca, &one, V_OCSP_CERTSTATUS_REVOKED);
        second = ocsp_write("two.ocsp", &ca, &two, V_OCSP_CERTSTATUS_GOOD);
        cr_assert(!is_file(first, old, size), "the file is another one");
        OPENSSL_free(old);
        cr_assert_ok(zk_tls_reload(server));
        got = stapled_to(server, client, "one.example", &size);
        cr_assert(is_file(first, got, size), "%d: %ld bytes", i, size);
        OPENSSL_free(got);
        zk_tls_free(client);
        zk_tls_free(server);
    }
}

/* ---- reloading ---- */

ZK_ASYNC_TEST(tls_trust, new_certificates_are_taken_over_whole_or_not_at_all)
{
    issued first = issue("site", NULL, "DNS:localhost");
    zk_tls *server = server_with(&first);
    zk_tls *client = client_with((zk_tls_client){.insecure_skip_verification = true});
    handshake old = shake_hands(server, client, "localhost", open_pair());
    cr_assert_rc(old.client, 0);

    issued second = issue("renewed", NULL, "DNS:localhost");
    pem_write(first.cert_file, "w", NULL, second.certificate);
    cr_assert_rc(zk_tls_reload(server), ZK_E_TLS_FILE, "the key is the old one's");
    cr_assert(strstr(zk_trail(), first.key_file), "%s", zk_trail());
    cr_assert_str_eq(shown_to(server, client, "localhost"), "site");
    pem_write(first.key_file, "w", second.key, NULL);
    cr_assert_rc(zk_tls_reload(server), 0, "%.150s", zk_trail());
    cr_assert_str_eq(shown_to(server, client, "localhost"), "renewed");
    unlink(first.cert_file);
    cr_assert_rc(zk_tls_reload(server), ZK_E_TLS_FILE);
    cr_assert(strstr(zk_trail(), "No such file"), "%s", zk_trail());
    cr_assert_str_eq(shown_to(server, client, "localhost"), "renewed");

    char buf[4];
    zk_tls_free(server); /* what is connected holds what it needs */
    zk_tls_free(client);
    cr_assert_ok(zk_stream_write(old.e.a, "ping", 4));
    cr_assert_ok(read_exactly(old.e.b, buf, 4));
    ends_close(&old.e);
}

/* A handshake that has begun ends with what it began with. */
ZK_ASYNC_TEST(tls_trust, reloading_leaves_handshakes_alone)
{
    pki p = pki_new((zk_tls_server){0}, (zk_tls_client){0});
    ends e = open_pair();
    connect_job c = {.tls = p.client, .inner = e.a, .host = "localhost"};
    zk_stream *server;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, connect_run, (void *)&c));
        turns(1);
        cr_assert_ok(zk_tls_reload(p.server));
        cr_assert_ok(zk_tls_reload(p.client));
        cr_assert_rc(zk_tls_accept(p.server, e.b, &server), 0, "%.150s", zk_trail());
        cr_assert_ok(zk_tls_reload(p.server));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_rc(c.rc, 0, "%.150s", c.trail);
    zk_stream_close(c.stream);
    zk_stream_close(server);
    pki_done(&p);
}

/* ---- the client's certificate ---- */

ZK_ASYNC_TEST(tls_trust, clients_show_who_they_are)
{
    issued ca = issue("ca", NULL, NULL), other = issue("other", NULL, NULL);
    issued alice = issue("alice", &ca, "email:alice@example.org,URI:spiffe://example/alice");
    issued mallory = issue("mallory", &other, NULL);
    issued old = issue_valid("old", &ca, NULL, -30, -1);
    issued leaf = issue("server", &ca, "DNS:localhost");
    const issued *clients[] = {NULL, &alice, &mallory, &old};
    static const int rcs[3][4] = {
        [ZK_TLS_VERIFY_NONE] = {0, 0, 0, 0},
        [ZK_TLS_VERIFY_REQUEST] = {0, 0, ZK_E_TLS_CERTIFICATE, ZK_E_TLS_EXPIRED},
        [ZK_TLS_VERIFY_REQUIRE] = {ZK_E_TLS_CERTIFICATE, 0, ZK_E_TLS_CERTIFICATE, ZK_E_TLS_EXPIRED},
    };
    static const zk_tls_version versions[] = {ZK_TLS_1_2, ZK_TLS_1_3};
    zk_tls_certificate certificates[] = {{leaf.cert_file, leaf.key_file, NULL}, {0}};
    for (int i = 0; i < 3 * 4 * 2; i++) {
        zk_tls_verify verify = (zk_tls_verify)(i / 8);
        const issued *who = clients[i / 2 % 4];
        zk_tls *server;
        zk_tls_server options = {
            .certificates = certificates, .client_verify = verify, .client_ca_file = ca.cert_file};
        cr_assert_ok(zk_tls_server_new(&options, &server));
        zk_tls *client = client_with((zk_tls_client){
            .ca_file = ca.cert_file,
            .cert_file = who ? who->cert_file : NULL,
            .key_file = who ? who->key_file : NULL,
            .version_max = versions[i % 2],
        });
        handshake h = shake_hands(server, client, "localhost", open_pair());
        int rc = rcs[verify][i / 2 % 4];
        cr_assert_rc(h.server, rc, "%d: %.150s", i, h.server_trail);
        zk_tls_info info;
        if (rc < 0) {
            char byte;
            int seen = h.client < 0 ? h.client : (int)zk_stream_read(h.e.a, &byte, 1);
            cr_assert_rc(seen, ZK_E_TLS_ALERT, "%d", i);
        } else {
            cr_assert_ok(zk_tls_info_get(h.e.b, &info));
            cr_assert_eq(info.is_peer_verified, verify && who, "%d", i);
        }
        ends_close(&h.e);
        zk_tls_free(server);
        zk_tls_free(client);
    }
}

static bool is_text(zk_str s, const char *wanted)
{
    return s.size == strlen(wanted) && !memcmp(s.data, wanted, s.size);
}

ZK_ASYNC_TEST(tls_trust, the_peer_s_identity_can_be_read)
{
    issued ca = issue("clients", NULL, NULL);
    issued alice = issue("alice", &ca,
                         "DNS:a.example,email:alice@example.org,URI:spiffe://x/alice,"
                         "IP:192.0.2.1,IP:2001:db8::1");
    pki p = pki_new(
        (zk_tls_server){.client_verify = ZK_TLS_VERIFY_REQUIRE, .client_ca_file = ca.cert_file},
        (zk_tls_client){.cert_file = alice.cert_file, .key_file = alice.key_file});
    handshake h = shake_hands(p.server, p.client, "localhost", open_pair());
    zk_arena arena = {0};
    zk_tls_peer peer;
    static const zk_tls_name_kind kinds_wanted[] = {
        ZK_TLS_NAME_DNS, ZK_TLS_NAME_EMAIL, ZK_TLS_NAME_URI, ZK_TLS_NAME_IP, ZK_TLS_NAME_IP};
    static const char *const wanted[] = {"a.example", "alice@example.org", "spiffe://x/alice",
                                         "192.0.2.1", "2001:db8::1"};
    cr_assert_rc(h.server, 0, "%.150s", h.server_trail);
    cr_assert_ok(zk_tls_peer_get(h.e.b, &arena, &peer));
    cr_assert(peer.is_verified);
    cr_assert(is_text(peer.subject, "CN=alice,O=Zokio"), "%s", peer.subject.data);
    cr_assert(is_text(peer.issuer, "CN=clients,O=Zokio"), "%s", peer.issuer.data);
    cr_assert(is_text(peer.common_name, "alice"));
    cr_assert_eq(peer.name_count, 5u);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(peer.names[i].kind, kinds_wanted[i]);
        cr_assert(is_text(peer.names[i].value, wanted[i]), "%s", peer.names[i].value.data);
    }
    cr_assert_eq(peer.not_after - peer.not_before, 31 * 86400);
    uint8_t digest[32];
    cr_assert(X509_digest(alice.certificate, EVP_sha256(), digest, NULL) > 0);
    cr_assert(!memcmp(digest, peer.fingerprint, sizeof digest));
    cr_assert_eq((int)peer.certificate.size, i2d_X509(alice.certificate, NULL));
    ends_close(&h.e);

    zk_tls *stranger = client_with((zk_tls_client){.insecure_skip_verification = true});
    zk_tls *open = server_with(&p.leaf);
    h = shake_hands(open, stranger, "localhost", open_pair());
    cr_assert_rc(zk_tls_peer_get(h.e.b, &arena, &peer), -ENODATA);
    ends_close(&h.e);
    zk_arena_done(&arena);
    zk_tls_free(stranger);
    zk_tls_free(open);
    pki_done(&p);
}

/* ---- what is negotiated ---- */

ZK_ASYNC_TEST(tls_trust, protocols_are_chosen_by_the_server)
{
    static const char *const h2_first[] = {"h2", "http/1.1", NULL};
    static const char *const h1_first[] = {"http/1.1", "h2", NULL};
    static const char *const other[] = {"smtp", NULL};
    static const struct {
        const char *const *server, *const *client;
        const char *chosen; /* NULL: refused */
    } rows[] = {
        {h2_first, h1_first, "h2"}, {h1_first, h2_first, "http/1.1"}, {h2_first, NULL, ""},
        {NULL, h2_first, ""},       {h2_first, other, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pki p = pki_new((zk_tls_server){.alpn = rows[i].server},
                        (zk_tls_client){.alpn = rows[i].client});
        handshake h = shake_hands(p.server, p.client, "localhost", open_pair());
        zk_tls_info a, b;
        cr_assert_rc(h.server, rows[i].chosen ? 0 : ZK_E_TLS_MISMATCH, "%zu", i);
        cr_assert_rc(h.client, rows[i].chosen ? 0 : ZK_E_TLS_ALERT, "%zu", i);
        if (rows[i].chosen) {
            cr_assert_ok(zk_tls_info_get(h.e.a, &a));
            cr_assert_ok(zk_tls_info_get(h.e.b, &b));
            cr_assert(is_text(a.alpn, rows[i].chosen) && is_text(b.alpn, rows[i].chosen), "%zu", i);
        }
        ends_close(&h.e);
        pki_done(&p);
    }
}

ZK_ASYNC_TEST(tls_trust, a_version_has_to_be_in_common)
{
    pki p = pki_new((zk_tls_server){.version_min = ZK_TLS_1_3},
                    (zk_tls_client){.version_max = ZK_TLS_1_2});
    handshake h = shake_hands(p.server, p.client, "localhost", open_pair());
    cr_assert_rc(h.server, ZK_E_TLS_MISMATCH, "%.150s", h.server_trail);
    cr_assert_rc(h.client, ZK_E_TLS_ALERT, "%.150s", h.client_trail);
    pki_done(&p);
}

/* ---- configurations ---- */

ZK_ASYNC_TEST(tls_trust, a_configuration_that_cannot_work_is_refused)
{
    issued ca = issue("ca", NULL, NULL), leaf = issue("leaf", &ca, NULL);
    issued other = issue("other", &ca, NULL);
    const char *missing = in_folder("missing"), *junk = in_folder("junk");
    const char *locked = in_folder("locked.key");
    FILE *file = fopen(junk, "w");
    fputs("this is no certificate\n", file);
    fclose(file);
    file = fopen(locked, "w");
    PEM_write_PKCS8PrivateKey(file, leaf.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL);
    fclose(file);
    static const char *const empty_name[] = {"", NULL};
    const struct {
        zk_tls_certificate certificate;
        zk_tls_server options;
        int rc;
        const char *said;
    } rows[] = {
        {{NULL, NULL, NULL}, {0}, ZK_E_CONFIG, "without a certificate"},
        {{missing, leaf.key_file, NULL}, {0}, ZK_E_TLS_FILE, "missing: No such file"},
        {{junk, leaf.key_file, NULL}, {0}, ZK_E_TLS_FILE, "junk: "},
        {{leaf.cert_file, missing, NULL}, {0}, ZK_E_TLS_FILE, "missing: No such file"},
        {{leaf.cert_file, NULL, NULL}, {0}, ZK_E_TLS_FILE, "leaf.pem: "},
        {{leaf.cert_file, other.key_file, NULL}, {0}, ZK_E_TLS_FILE, "key values mismatch"},
        {{leaf.cert_file, locked, NULL}, {0}, ZK_E_TLS_FILE, "locked.key: "},
        {{leaf.cert_file, leaf.key_file, missing}, {0}, ZK_E_TLS_FILE, "missing: No such file"},
        {{leaf.cert_file, leaf.key_file, junk}, {0}, ZK_E_TLS_FILE, "OCSP response"},
        {{leaf.cert_file, leaf.key_file, NULL},
         {.client_verify = ZK_TLS_VERIFY_REQUIRE},
         ZK_E_CONFIG,
         "client_ca_file"},
        {{leaf.cert_file, leaf.key_file, NULL},
         {.client_verify = ZK_TLS_VERIFY_REQUIRE, .client_ca_file = junk},
         ZK_E_TLS_FILE,
         "junk: "},
        {{leaf.cert_file, leaf.key_file, NULL}, {.alpn = empty_name}, ZK_E_CONFIG, "ALPN"},
        {{leaf.cert_file, leaf.key_file, NULL}, {.version_min = 11}, ZK_E_CONFIG, "options"},
        {{leaf.cert_file, leaf.key_file, NULL},
         {.version_min = ZK_TLS_1_3, .version_max = ZK_TLS_1_2},
         ZK_E_CONFIG,
         "options"},
        {{leaf.cert_file, leaf.key_file, NULL},
         {.key_log_file = "/nowhere/log"},
         ZK_E_TLS_FILE,
         "/nowhere/log: No such file"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zk_tls *tls = NULL;
        zk_tls_certificate certificates[] = {rows[i].certificate, {0}};
        zk_tls_server options = rows[i].options;
        options.certificates = certificates;
        cr_assert_rc(zk_tls_server_new(&options, &tls), rows[i].rc, "%zu: %.150s", i, zk_trail());
        cr_assert(strstr(zk_trail(), rows[i].said), "%zu: %s", i, zk_trail());
        cr_assert_null(tls, "untouched");
    }
    zk_tls *tls = NULL;
    zk_tls_client client = {.key_file = leaf.key_file};
    cr_assert_rc(zk_tls_client_new(&client, &tls), ZK_E_CONFIG);
    client = (zk_tls_client){.ca_file = missing};
    cr_assert_rc(zk_tls_client_new(&client, &tls), ZK_E_TLS_FILE);
    cr_assert_null(tls, "untouched");
}

/* A configuration may be made before the runtime runs, and freed behind it. */
ZK_TEST(tls_trust, configurations_need_no_runtime)
{
    folder_make();
    issued leaf = issue("leaf", NULL, "DNS:localhost");
    zk_tls *tls;
    zk_tls_certificate certificates[] = {{leaf.cert_file, leaf.key_file, NULL}, {0}};
    cr_assert_ok(zk_tls_server_new(&(zk_tls_server){.certificates = certificates}, &tls));
    zk_stream *stream;
    cr_assert_rc(zk_tls_accept(tls, NULL, &stream), ZK_E_NO_RUNTIME);
    cr_assert_ok(zk_tls_reload(tls));
    zk_tls_free(tls);
    zk_tls_free(NULL);
}

ZK_ASYNC_TEST(tls_trust, secrets_are_logged_on_request)
{
    char path[512];
    if (!folder[0]) folder_make();
    snprintf(path, sizeof path, "%s", in_folder("keys.log"));
    pki p = pki_new((zk_tls_server){.key_log_file = path}, (zk_tls_client){0});
    handshake h = try_hands(p.server, p.client, "localhost");
    cr_assert_rc(h.client, 0);
    struct stat st;
    cr_assert(!stat(path, &st) && (st.st_mode & 0777) == 0600);
    char text[4096];
    FILE *file = fopen(path, "r");
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = '\0';
    fclose(file);
    cr_assert(strstr(text, "CLIENT_HANDSHAKE_TRAFFIC_SECRET "), "%s", text);
    cr_assert(strstr(text, "\nSERVER_TRAFFIC_SECRET_0 "), "%s", text);
    cr_assert_eq(text[size - 1], '\n');
    pki_done(&p);
}
