/*
 * Network addresses: an IPv4 or IPv6 address with its port, or the name of a Unix socket.
 */
#ifndef ZOKIO_ADDR_H
#define ZOKIO_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <zokio/base.h>

ZK_BEGIN

/** An address, ready for the socket calls: pass `&addr->sa` and `addr->size`. */
typedef struct zk_addr {
    socklen_t size;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
} zk_addr;

/** Room for the longest text that zk_addr_format writes, its NUL included. */
enum { ZK_ADDR_TEXT_BYTES = 128 };

/**
 * Reads an address. Numbers only: names are DNS's. Never suspends.
 *
 *     "127.0.0.1:8080"        IPv4; "0.0.0.0:8080" is every IPv4 address of this machine
 *     "[::1]:80"              IPv6, always in brackets
 *     "[fe80::1%eth0]:80"     with a zone, only where one means something (link-local unicast, and
 *                             link- or interface-local multicast): an interface's name or number
 *     ":8080", "*:8080"       every address of this machine, IPv6 and IPv4; the same as "[::]:8080"
 *     "unix:/run/app.sock"    a Unix socket's path, up to 107 bytes
 *     "unix:@name"            a name in Linux's abstract namespace, up to 107 bytes
 *
 * The port cannot be left out; a listener takes port 0 as "any free one". Nothing may stand before
 * or behind the address, and no number has a sign or a leading zero.
 *
 * @param ret_addr  untouched on failure
 * @return 0; ZK_E_ADDR (the trail says what is wrong); -EMFILE and the like when the kernel could
 *         not be asked for the interface of a zone
 */
ZK_API int zk_addr_parse(const char *text, zk_addr *ret_addr) ZK_NODISCARD;

/**
 * Writes the address, NUL-terminated, in the form that zk_addr_parse reads: what it parsed comes
 * back as an equal address. Never suspends.
 *
 * Three things that only a kernel can hand out have no such form: a Unix socket without a name
 * gives "unix:", a NUL inside an abstract name shows as '@', and a family other than these three
 * gives "?".
 *
 * @return the text's length, always below ZK_ADDR_TEXT_BYTES
 */
ZK_API size_t zk_addr_format(const zk_addr *addr, char text[ZK_ADDR_TEXT_BYTES]);

/** The port; 0 for a Unix socket. Never suspends. */
ZK_API uint16_t zk_addr_port(const zk_addr *addr);

/**
 * Whether both name the same endpoint. Never suspends.
 *
 * An IPv4 address equals its IPv4-mapped IPv6 form, for that is how a socket that serves both
 * families reports an IPv4 peer. Zones count where they mean something, flow labels never do.
 */
ZK_API bool zk_addr_equal(const zk_addr *a, const zk_addr *b);

ZK_END
#endif
