/*
 * Request targets and query strings. Input: a byte that picks the method, then the target.
 *
 * A path that is let through begins with '/', is not longer than the target, and holds no control
 * byte, no backslash and no dot segment; it comes out of its own percent-encoded form unchanged.
 * The result never depends on whether there is memory to spare, but for -ENOMEM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zokio/error.h>

#include "http/path.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) abort();                                                                 \
    } while (0)

enum { TARGET_BYTES_MAX = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_equal(zk_str a, zk_str b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Outside zk_run an arena has only the memory that it is given. */
static zk_arena arena_over(char *buffer, size_t size)
{
    return (zk_arena){.next = buffer, .end = buffer + size};
}

static void check_path(zk_str path)
{
    CHECK(path.size > 0 && path.data[0] == '/');
    for (size_t i = 0, segment = 1; i <= path.size; i++) {
        if (i < path.size) {
            uint8_t c = (uint8_t)path.data[i];
            CHECK(c >= 0x20 && c != 0x7f && c != '\\');
        }
        if (i == 0 || (i < path.size && path.data[i] != '/')) continue;
        CHECK(!is_equal((zk_str){path.data + segment, i - segment}, ZK_STR(".")));
        CHECK(!is_equal((zk_str){path.data + segment, i - segment}, ZK_STR("..")));
        segment = i + 1;
    }
}

static size_t percent_encode(zk_str path, char *out)
{
    static const char digits[] = "0123456789aBcDeF";
    char *to = out;
    for (size_t i = 0; i < path.size; i++) {
        uint8_t c = (uint8_t)path.data[i];
        if (c == '/' || c == '.' || (c >= 'a' && c <= 'z')) {
            *to++ = (char)c;
            continue;
        }
        *to++ = '%';
        *to++ = digits[c >> 4];
        *to++ = digits[c & 15];
    }
    return (size_t)(to - out);
}

static void check_encoded_form(zk_str path)
{
    static char encoded[3 * TARGET_BYTES_MAX];
    _Alignas(16) static char memory[sizeof(encoded) + 16];
    zk_arena arena = arena_over(memory, sizeof(memory));
    zk__target again;

    size_t size = percent_encode(path, encoded);
    CHECK(zk__target_parse(ZK_STR("GET"), (zk_str){encoded, size}, &arena, &again) == 0);
    CHECK(is_equal(again.path, path));
    CHECK(again.query.size == 0 && again.authority.size == 0);
}

static bool lies_in(zk_str part, zk_str whole)
{
    return part.data >= whole.data && part.data + part.size <= whole.data + whole.size;
}

static void check_target(zk_str method, zk_str target)
{
    _Alignas(16) static char memory[TARGET_BYTES_MAX + 16];
    zk_arena arena = arena_over(memory, sizeof(memory)), none = {0};
    zk__target got, untouched, poor;
    memset(&got, 0x5a, sizeof(got));
    untouched = poor = got;

    int rc = zk__target_parse(method, target, &arena, &got);
    int poor_rc = zk__target_parse(method, target, &none, &poor);
    CHECK(rc == 0 || rc == ZK_E_HTTP_PATH);
    if (rc != 0) {
        CHECK(memcmp(&got, &untouched, sizeof(got)) == 0);
        CHECK(poor_rc == rc || poor_rc == -ENOMEM);
        return;
    }
    CHECK(poor_rc == (arena.next == memory ? 0 : -ENOMEM));
    CHECK(got.query.size == 0 || lies_in(got.query, target));
    CHECK(got.authority.size == 0 || lies_in(got.authority, target));

    if (is_equal(method, ZK_STR("CONNECT"))) {
        CHECK(got.path.size == 0 && is_equal(got.authority, target));
        return;
    }
    CHECK(got.path.size <= target.size);
    if (is_equal(method, ZK_STR("OPTIONS")) && is_equal(got.path, ZK_STR("*"))) return;
    check_path(got.path);
    check_encoded_form(got.path);
}

static void check_query(zk_str query)
{
    _Alignas(16) static char memory[TARGET_BYTES_MAX + 16];
    static char decoded[TARGET_BYTES_MAX];
    zk_arena arena = arena_over(memory, sizeof(memory));
    zk_str value = {decoded, 0};

    for (int plus_is_space = 0; plus_is_space < 2; plus_is_space++) {
        ptrdiff_t size = zk__percent_decode(query, decoded, plus_is_space);
        CHECK(size == ZK_E_HTTP_PATH || (size >= 0 && (size_t)size <= query.size));
    }

    int rc = zk__query_find(query, ZK_STR("a"), &arena, &value);
    CHECK(rc == 0 || rc == 1 || rc == ZK_E_HTTP_PATH);
    CHECK(rc == 1 || (value.data == decoded && value.size == 0));
    if (rc == 1) CHECK(value.size < query.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > TARGET_BYTES_MAX) return 0;

    /* A copy of the exact size, so that AddressSanitizer sees a read beyond either end. */
    char *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, data, size);
    zk_str target = {copy + 1, size - 1};

    static const zk_str methods[] = {{"GET", 3}, {"OPTIONS", 7}, {"CONNECT", 7}};
    check_target(methods[data[0] % 3], target);
    check_query(target);
    free(copy);
    return 0;
}
