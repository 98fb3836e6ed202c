/*
 * Settings of a proxy. Input: a file's content.
 *
 * Whatever it holds is read or refused with a line number; what was read makes a proxy or is
 * refused with a reason, and reading it twice gives the same.
 */
#include <stdlib.h>
#include <string.h>

#include <zokio/proxy_config.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zk_proxy_config *first, *second;
    zk_proxy *proxy = NULL;
    CHECK(zk_proxy_config_new(&first) == 0 && zk_proxy_config_new(&second) == 0);
    const char *text = size ? (const char *)data : "";
    int rc = zk_proxy_config_parse(first, "f", text, size);
    CHECK(rc == 0 || !strncmp(zk_trail(), "f:", 2));
    CHECK(zk_proxy_config_parse(second, "f", text, size) == rc);
    CHECK(rc || !zk_proxy_config_difference(first, second));
    bool is_plain = rc == 0; /* TLS would read the system's certificates each time */
    for (const zk_upstream *u = first->proxy.upstreams; u && u->address; u++)
        is_plain = is_plain && !strcasestr(u->address, "https:");
    if (is_plain && zk_proxy_new(&first->proxy, &proxy) == 0) {
        CHECK(zk_proxy_reload(proxy, second->proxy.upstreams) == 0);
        zk_proxy_free(proxy);
    }
    zk_proxy_config_free(first);
    zk_proxy_config_free(second);
    return 0;
}
