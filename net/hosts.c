/*
 * The hosts file: lines of an address and the names that have it; '#' begins a comment.
 *
 * The table is searched from the front: such files are short, and the file's order is the order of
 * the answer.
 */
#include "net/hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include <zokio/alloc.h>

struct zk__host {
    zk__ip ip;
    char name[ZK__HOST_NAME_MAX + 1];
};

bool zk__host_name(const char *text, size_t size, char ret_name[ZK__HOST_NAME_MAX + 1])
{
    char name[ZK__HOST_NAME_MAX + 1];
    if (size > 0 && text[size - 1] == '.') size--;
    if (size == 0 || size > ZK__HOST_NAME_MAX) return false;
    size_t label = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (c == '.' ? label == 0 : !is_letter || label == 63) return false;
        label = c == '.' ? 0 : label + 1;
        name[i] = c;
    }
    if (label == 0) return false;
    name[size] = '\0';
    memcpy(ret_name, name, size + 1);
    return true;
}

bool zk__ip_parse(const char *text, zk__ip *ret_ip)
{
    zk__ip ip = {.is_v6 = strchr(text, ':') != NULL};
    if (inet_pton(ip.is_v6 ? AF_INET6 : AF_INET, text, ip.bytes) != 1) return false;
    *ret_ip = ip;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Takes the next word off the line; size 0 at its end. */
static zk_str word_take(zk_str *line)
{
    while (line->size > 0 && is_blank(*line->data)) {
        line->data++;
        line->size--;
    }
    zk_str word = {line->data, 0};
    while (word.size < line->size && !is_blank(word.data[word.size]))
        word.size++;
    line->data += word.size;
    line->size -= word.size;
    return word;
}

static int host_add(zk__hosts *hosts, const zk__ip *ip, zk_str word)
{
    char name[ZK__HOST_NAME_MAX + 1];
    if (!zk__host_name(word.data, word.size, name)) return 0;
    if (hosts->count == hosts->capacity) {
        size_t capacity = hosts->capacity ? 2 * hosts->capacity : 16;
        zk__host *grown = zk_alloc(capacity * sizeof *grown);
        if (!grown) return -ENOMEM;
        if (hosts->count) memcpy(grown, hosts->hosts, hosts->count * sizeof *grown);
        zk_free(hosts->hosts);
        hosts->hosts = grown;
        hosts->capacity = capacity;
    }
    zk__host *host = &hosts->hosts[hosts->count++];
    host->ip = *ip;
    memcpy(host->name, name, sizeof name);
    return 0;
}

static int line_parse(zk__hosts *hosts, zk_str line)
{
    char text[INET6_ADDRSTRLEN];
    zk__ip ip;
    zk_str word = word_take(&line);
    if (word.size == 0 || word.size >= sizeof text) return 0;
    memcpy(text, word.data, word.size);
    text[word.size] = '\0';
    if (memchr(text, '\0', word.size) || !zk__ip_parse(text, &ip)) return 0;
    int rc = 0;
    while (rc == 0 && (word = word_take(&line)).size > 0)
        rc = host_add(hosts, &ip, word);
    return rc;
}

int zk__hosts_parse(zk__hosts *hosts, const char *text, size_t size)
{
    zk__hosts_done(hosts);
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t line_size = end ? (size_t)(end - text) : size;
        const char *comment = memchr(text, '#', line_size);
        zk_str line = {text, comment ? (size_t)(comment - text) : line_size};
        int rc = line_parse(hosts, line);
        if (rc < 0) {
            zk__hosts_done(hosts);
            return rc;
        }
        if (!end) break;
        text += line_size + 1;
        size -= line_size + 1;
    }
    return 0;
}

size_t zk__hosts_find(const zk__hosts *hosts, const char *name, zk__ip *ips, size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; i < hosts->count && count < capacity; i++) {
        if (strcmp(hosts->hosts[i].name, name) != 0) continue;
        const zk__ip *ip = &hosts->hosts[i].ip;
        bool is_known = false;
        for (size_t j = 0; j < count && !is_known; j++) {
            is_known = ips[j].is_v6 == ip->is_v6 && !memcmp(ips[j].bytes, ip->bytes, 16);
        }
        if (!is_known) ips[count++] = *ip;
    }
    return count;
}

void zk__hosts_done(zk__hosts *hosts)
{
    zk_free(hosts->hosts);
    *hosts = (zk__hosts){0};
}
