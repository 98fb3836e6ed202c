/*
 * TLS streams: handshakes, who is trusted, and how connections end.
 */
#include "tests/net/tls.h"

/* ---- handshakes ---- */

/* The first thing: both sides are connected, and bytes pass both ways. */
ZK_ASYNC_TEST(tls, two_sides_shake_hands_and_talk)
{
    char buf[16];
    ends e = open_tls_over(open_pair());
    cr_assert_ok(zk_stream_write(e.a, "hello", 5));
    cr_assert_ok(read_exactly(e.b, buf, 5));
    cr_assert(!memcmp(buf, "hello", 5));
    cr_assert_ok(zk_stream_write(e.b, "back", 4));
    cr_assert_ok(read_exactly(e.a, buf, 4));
    cr_assert(!memcmp(buf, "back", 4));
    zk_tls_info info;
    cr_assert_ok(zk_tls_info_get(e.a, &info));
    cr_assert_eq(info.version, 13);
    cr_assert(info.is_peer_verified);
    cr_assert_rc(zk_stream_shutdown(e.a), 0);
    cr_assert_rc(zk_stream_read(e.b, buf, 1), 0);
    ends_close(&e);
}
