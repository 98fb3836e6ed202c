/*
 * Lists of the handshake.
 */
#include "ws/handshake.h"

#include <string.h>

#include "http/exchange.h"

/* ---- lists ---- */

static bool is_space(char c) { return c == ' ' || c == '\t'; }

bool zk__ws_list_next(zk_str *list, zk_str *ret)
{
    while (list->size) {
        const char *comma = memchr(list->data, ',', list->size);
        size_t size = comma ? (size_t)(comma - list->data) : list->size;
        zk_str part = {list->data, size};
        list->data += size + (comma ? 1 : 0);
        list->size -= size + (comma ? 1 : 0);
        while (part.size && is_space(part.data[0]))
            part.data++, part.size--;
        while (part.size && is_space(part.data[part.size - 1]))
            part.size--;
        if (!part.size) continue;
        *ret = part;
        return true;
    }
    return false;
}

bool zk__ws_list_has(zk_str list, const char *word)
{
    zk_str part;
    while (zk__ws_list_next(&list, &part)) {
        if (zk__name_equal(part, word, strlen(word))) return true;
    }
    return false;
}
