/*
 * A sorted table of the names and wildcards of all certificates of a server.
 *
 * A wildcard is its leftmost label alone, and stands for exactly one label (RFC 6125 section
 * 6.4.3): "*.example.org" is kept as ".example.org" and found by cutting a host's first label off.
 * No name begins with a dot, so the two kinds never meet.
 */
#include "net/tls_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

int zk__tls_names_add(zk__tls_names *names, const char *text, size_t size, int index)
{
    if (size && text[0] == '*') {
        text++, size--;
        if (!size || text[0] != '.') return 0;
    } else if (size && text[0] == '.') {
        return 0;
    }
    if (!size || size > ZK__TLS_NAME_MAX || memchr(text, '*', size) || memchr(text, '\0', size)) {
        return 0;
    }
    if (names->count == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 8;
        zk__tls_name *all = realloc(names->all, capacity * sizeof *all);
        if (!all) return -ENOMEM;
        names->all = all;
        names->capacity = capacity;
    }
    char *copy = malloc(size);
    if (!copy) return -ENOMEM;
    for (size_t i = 0; i < size; i++)
        copy[i] = lower(text[i]);
    names->all[names->count++] = (zk__tls_name){copy, (uint32_t)size, index};
    return 0;
}

static int compare_text(const char *a, size_t a_size, const char *b, size_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int compare(const void *a, const void *b)
{
    const zk__tls_name *x = a, *y = b;
    int order = compare_text(x->text, x->size, y->text, y->size);
    return order ? order : x->index - y->index;
}

void zk__tls_names_sort(zk__tls_names *names)
{
    if (names->count) qsort(names->all, names->count, sizeof *names->all, compare);
}

static int find(const zk__tls_names *names, const char *text, size_t size)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const zk__tls_name *name = &names->all[middle];
        if (compare_text(name->text, name->size, text, size) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == names->count) return -1;
    const zk__tls_name *name = &names->all[low];
    return compare_text(name->text, name->size, text, size) ? -1 : name->index;
}

int zk__tls_names_find(const zk__tls_names *names, const char *host, size_t size)
{
    char text[ZK__TLS_NAME_MAX];
    if (size && host[size - 1] == '.') size--; /* the root's dot is never in a certificate */
    if (!size || size > sizeof text || host[0] == '.') return -1;
    for (size_t i = 0; i < size; i++)
        text[i] = lower(host[i]);
    int index = find(names, text, size);
    if (index >= 0) return index;
    const char *dot = memchr(text, '.', size);
    return dot ? find(names, dot, size - (size_t)(dot - text)) : -1;
}

void zk__tls_names_done(zk__tls_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->all[i].text);
    free(names->all);
    *names = (zk__tls_names){0};
}
