/*
 * The header of the PROXY protocol. Input: what a connection begins with.
 *
 * Given all at once, or piece by piece as much as it wants, the parser says the same and never
 * takes a byte of what is behind the header. What it has read can be written, and is read back as
 * the same.
 */
#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

#include "net/proxy_header.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of the first bytes, so that reading one more is noticed. */
static ptrdiff_t parse(const uint8_t *data, size_t size, size_t *ret_wanted, zk__proxy_header *h)
{
    uint8_t *own = malloc(size ? size : 1);
    CHECK(own);
    if (size) memcpy(own, data, size);
    ptrdiff_t n = zk__proxy_header_parse(own, size, ret_wanted, h);
    free(own);
    return n;
}

static void check_addr(const zk_addr *a)
{
    switch (a->sa.sa_family) {
    case AF_INET: CHECK(a->size == sizeof a->in); break;
    case AF_INET6: CHECK(a->size == sizeof a->in6); break;
    case AF_UNIX:
        CHECK(a->size >= offsetof(struct sockaddr_un, sun_path) && a->size <= sizeof a->un);
        break;
    default: abort();
    }
}

static void check_written(const zk__proxy_header *h, int version)
{
    char text[ZK__PROXY_HEADER_BYTES];
    zk__proxy_header again;
    size_t wanted;
    size_t size = zk__proxy_header_write(version, h->is_own ? NULL : &h->from, &h->to, text);
    CHECK(size <= sizeof text && (version == 2 || size <= ZK__PROXY_V1_BYTES_MAX));
    CHECK(zk__proxy_header_parse(text, size, &wanted, &again) == (ptrdiff_t)size);
    CHECK(again.version == version);
    if (again.is_own) {
        CHECK(h->is_own || (version == 1 && h->from.sa.sa_family == AF_UNIX));
        return;
    }
    CHECK(zk_addr_equal(&again.from, &h->from) && zk_addr_equal(&again.to, &h->to));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zk__proxy_header whole, pieces, untouched;
    size_t wanted = 0;
    memset(&whole, 0x5a, sizeof whole);
    untouched = whole;
    ptrdiff_t n = parse(data, size, &wanted, &whole);
    CHECK(n <= (ptrdiff_t)size && (n >= 0 || n == ZK_E_PROXY_HEADER));
    if (n <= 0) CHECK(!memcmp(&whole, &untouched, sizeof whole));
    if (!n) CHECK(wanted > 0 && size + wanted <= ZK__PROXY_HEADER_BYTES_MAX);

    ptrdiff_t m = 0;
    size_t taken = 0;
    while ((m = parse(data, taken, &wanted, &pieces)) == 0) {
        CHECK(wanted > 0);
        if (wanted > size - taken) break;
        taken += wanted;
    }
    if (n > 0) CHECK(m == n && taken == (size_t)n);
    if (n < 0) CHECK(m <= 0);
    if (n == 0) CHECK(m == 0);
    if (n <= 0) return 0;

    CHECK(whole.version == 1 || whole.version == 2);
    if (!whole.is_own) {
        check_addr(&whole.from);
        check_addr(&whole.to);
    }
    check_written(&whole, 1);
    check_written(&whole, 2);
    return 0;
}
