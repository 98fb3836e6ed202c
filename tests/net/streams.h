/*
 * Connected pairs of each kind of stream, for tables of behaviours that all have in common.
 */
#ifndef ZOKIO_TESTS_STREAMS_H
#define ZOKIO_TESTS_STREAMS_H

#include "tests/net/ends.h"

#if ZK__TLS
#include "tests/net/tls_ends.h"

static inline ends open_tls_pair(void) { return open_tls_over(open_pair()); }
static inline ends open_tls_tcp(void) { return open_tls_over(open_tcp()); }
static inline ends open_tls_twice(void) { return open_tls_over(open_tls_over(open_pair())); }
#endif

static const struct kind {
    const char *name;
    ends (*open)(void);
    bool has_addresses;
    bool ends_twice; /* closing is seen as an end, and then as a hang-up of what lies below */
} kinds[] = {
    {"pair", open_pair, false, false},
    {"tcp", open_tcp, true, false},
    {"unix", open_unix, true, false},
#if ZK__TLS
    {"TLS over a pair", open_tls_pair, false, true},
    {"TLS over TCP", open_tls_tcp, true, false},
    {"TLS over TLS", open_tls_twice, false, true},
#endif
};

#define EACH_KIND(kind)                                                                            \
    for (const struct kind *kind = kinds; kind < kinds + sizeof kinds / sizeof *kinds; kind++)

/* A test that runs once per kind, with a connected pair `e` that is closed afterwards. */
#define STREAM_TEST(name)                                                                          \
    static void stream_body_##name(const struct kind *kind, ends *e);                              \
    ZK_ASYNC_TEST(stream, name)                                                                    \
    {                                                                                              \
        EACH_KIND(kind) {                                                                          \
            ends e = kind->open();                                                                 \
            stream_body_##name(kind, &e);                                                          \
            ends_close(&e);                                                                        \
        }                                                                                          \
    }                                                                                              \
    static void stream_body_##name(const struct kind *kind, ends *e)

#endif
