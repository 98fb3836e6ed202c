/*
 * Hosts files. Input: a file's content, also read as a DNS message for its SOA record.
 *
 * Nothing is read outside the input, every name in the table is found, and a name once written in
 * its own form stays as it is.
 */
#include <stdlib.h>
#include <string.h>

#include <zokio/task.h>

#include "net/dns_answer.h"
#include "net/hosts.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As a task: only workers have memory. */
static int check(void *arg)
{
    const uint8_t *data = ((zk_str *)arg)->size ? (const void *)((zk_str *)arg)->data : NULL;
    size_t size = ((zk_str *)arg)->size;
    char name[ZK__HOST_NAME_MAX + 1], again[ZK__HOST_NAME_MAX + 1];
    zk__ip ips[ZK__HOST_ADDRS_MAX];
    zk__hosts hosts = {0};
    CHECK(zk__hosts_parse(&hosts, (const char *)data, size) == 0);
    CHECK(zk__hosts_find(&hosts, "localhost", ips, ZK__HOST_ADDRS_MAX) <= hosts.count);
    if (zk__host_name((const char *)data, size, name)) {
        CHECK(zk__host_name(name, strlen(name), again) && !strcmp(name, again));
    }
    CHECK(zk__dns_negative_lifetime(data, size) >= 0);
    zk__hosts_done(&hosts);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zk_str input = {(const char *)data, size};
    CHECK(zk_run(&(zk_config){.workers = 1, .no_crash_report = true}, check, &input) == 0);
    return 0;
}
