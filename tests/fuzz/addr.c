/*
 * Addresses. Input: the text of an address.
 *
 * What parses has a valid size, formats to a text that parses to the same bytes again, and
 * formatting that gives the same text. What does not parse leaves the result untouched.
 */
#include <stdlib.h>
#include <string.h>

#include <zokio/addr.h>
#include <zokio/error.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fields(const zk_addr *addr)
{
    switch (addr->sa.sa_family) {
    case AF_INET:
        CHECK(addr->size == sizeof(addr->in));
        CHECK(zk_addr_port(addr) == ntohs(addr->in.sin_port));
        break;
    case AF_INET6:
        CHECK(addr->size == sizeof(addr->in6));
        CHECK(zk_addr_port(addr) == ntohs(addr->in6.sin6_port));
        break;
    case AF_UNIX:
        CHECK(addr->size > offsetof(struct sockaddr_un, sun_path) + 1);
        CHECK(addr->size <= sizeof(addr->un));
        CHECK(zk_addr_port(addr) == 0);
        break;
    default: abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512], first[ZK_ADDR_TEXT_BYTES], second[ZK_ADDR_TEXT_BYTES];
    zk_addr addr, again;

    if (size >= sizeof(text)) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';

    memset(&addr, 0x5a, sizeof(addr));
    memset(&again, 0x5a, sizeof(again));
    int rc = zk_addr_parse(text, &addr);
    if (rc != 0) {
        CHECK(rc == ZK_E_ADDR);
        CHECK(memcmp(&addr, &again, sizeof(addr)) == 0);
        return 0;
    }
    check_fields(&addr);

    size_t first_size = zk_addr_format(&addr, first);
    CHECK(first_size == strlen(first) && first_size < sizeof(first));
    CHECK(zk_addr_parse(first, &again) == 0);
    CHECK(memcmp(&addr, &again, sizeof(addr)) == 0);
    CHECK(zk_addr_equal(&addr, &again) && zk_addr_equal(&again, &addr));
    CHECK(zk_addr_format(&again, second) == first_size && strcmp(first, second) == 0);

    /* A Unix name is taken as it is; an IP address has one canonical text, and it is short. */
    if (addr.sa.sa_family == AF_UNIX)
        CHECK(strcmp(first, text) == 0);
    else
        CHECK(first_size < 80);
    return 0;
}
