/*
 * Addresses: text to socket address and back.
 *
 * Parsing is strict, so that an address reads the same here and anywhere else: inet_pton takes only
 * the four-part decimal form of IPv4 without leading zeros, and the port has one spelling. Every
 * zk_addr that zk_addr_parse makes is zeroed first, so equal text gives equal bytes.
 *
 * Zones (RFC 4007) exist only for link-local scopes; the kernel ignores a zone anywhere else, so
 * parsing refuses it there, and formatting and comparing skip it. A zone of digits is always an
 * interface's number, even if an interface is so named, and a name of digits is therefore written
 * as its number.
 */
#include <zokio/addr.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <zokio/error.h>

/* What an error quotes of the text. */
#define QUOTED "\"%.120s\""

static const socklen_t unix_header = offsetof(struct sockaddr_un, sun_path);
static const size_t unix_name_bytes_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

_Static_assert(sizeof("unix:./") + sizeof(((struct sockaddr_un *)0)->sun_path) <=
                   ZK_ADDR_TEXT_BYTES,
               "every Unix address fits");
_Static_assert(INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof("[%]:65535") <= ZK_ADDR_TEXT_BYTES,
               "every IPv6 address fits");

static bool is_digits(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
    }
    return true;
}

/* A decimal number in its only spelling: digits, the first not '0' unless it is alone. */
static bool parse_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    if (*text == '\0' || !is_digits(text) || (text[0] == '0' && text[1] != '\0')) return false;

    uint64_t number = 0;
    for (; *text != '\0'; text++) {
        number = number * 10 + (uint64_t)(*text - '0');
        if (number > max) return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static bool has_zone(const struct in6_addr *ip)
{
    return IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_MC_LINKLOCAL(ip) ||
           IN6_IS_ADDR_MC_NODELOCAL(ip);
}

static int parse_unix(const char *text, const char *name, zk_addr *ret_addr)
{
    size_t size = strlen(name);
    bool is_abstract = name[0] == '@';

    if (size == 0 || (is_abstract && size == 1))
        return zk_fail(ZK_E_ADDR, QUOTED " has no name after \"unix:\"", text);
    /* The '@' stands for the NUL that opens an abstract name, so it is to be counted only then. */
    if (size - is_abstract > unix_name_bytes_max)
        return zk_fail(ZK_E_ADDR, QUOTED " has a name that is longer than %zu bytes", text,
                       unix_name_bytes_max);

    zk_addr addr = {.size = unix_header + (socklen_t)size + !is_abstract};
    addr.un.sun_family = AF_UNIX;
    memcpy(addr.un.sun_path, name, size);
    if (is_abstract) addr.un.sun_path[0] = '\0';
    *ret_addr = addr;
    return 0;
}

static int parse_ipv4(const char *text, const char *host, uint16_t port, zk_addr *ret_addr)
{
    zk_addr addr = {.size = sizeof(addr.in)};
    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &addr.in.sin_addr) != 1)
        return zk_fail(ZK_E_ADDR, QUOTED " does not begin with a numeric IPv4 address", text);
    *ret_addr = addr;
    return 0;
}

/*
 * As if_nametoindex, which however reports ENOENT for every failure to open a socket. The kernel
 * would cut a name at a colon (the aliases of old); no interface's name has one.
 */
static int interface_index(const char *name, uint32_t *ret_index)
{
    struct ifreq request = {0};
    size_t size = strlen(name);
    if (size >= sizeof(request.ifr_name) || strchr(name, ':') != NULL) return -ENODEV;
    memcpy(request.ifr_name, name, size);

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int rc = ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -errno : 0;
    close(fd);
    if (rc == 0) *ret_index = (uint32_t)request.ifr_ifindex;
    return rc;
}

static int parse_zone(const char *text, const char *zone, uint32_t *ret_scope_id)
{
    if (is_digits(zone)) {
        if (!parse_number(zone, UINT32_MAX, ret_scope_id) || *ret_scope_id == 0)
            return zk_fail(ZK_E_ADDR, QUOTED " has a zone that is not an interface's number", text);
        return 0;
    }

    int rc = interface_index(zone, ret_scope_id);
    if (rc == -ENODEV)
        return zk_fail(ZK_E_ADDR, QUOTED " has a zone that is no interface of this machine", text);
    return rc < 0 ? zk_fail(rc, "looking up the zone of " QUOTED, text) : 0;
}

/* host: what stands between the brackets; it is cut at its '%'. */
static int parse_ipv6(const char *text, char *host, uint16_t port, zk_addr *ret_addr)
{
    char *zone = strchr(host, '%');
    if (zone != NULL) *zone++ = '\0';

    zk_addr addr = {.size = sizeof(addr.in6)};
    addr.in6.sin6_family = AF_INET6;
    addr.in6.sin6_port = htons(port);
    if (inet_pton(AF_INET6, host, &addr.in6.sin6_addr) != 1)
        return zk_fail(ZK_E_ADDR, QUOTED " has no IPv6 address in its brackets", text);

    if (zone != NULL) {
        if (!has_zone(&addr.in6.sin6_addr))
            return zk_fail(ZK_E_ADDR, QUOTED " has a zone but is not link-local", text);
        int rc = parse_zone(text, zone, &addr.in6.sin6_scope_id);
        if (rc < 0) return rc;
    }
    *ret_addr = addr;
    return 0;
}

int zk_addr_parse(const char *text, zk_addr *ret_addr)
{
    static const char unix_prefix[] = "unix:";

    if (text == NULL || *text == '\0') return zk_fail(ZK_E_ADDR, "the address is empty");
    if (strncmp(text, unix_prefix, sizeof(unix_prefix) - 1) == 0)
        return parse_unix(text, text + sizeof(unix_prefix) - 1, ret_addr);

    /* The last bracket: an interface's name may contain one, the port may not. */
    bool is_bracketed = *text == '[';
    const char *host = text + is_bracketed;
    const char *host_end = strrchr(text, is_bracketed ? ']' : ':');
    if (host_end == NULL)
        return zk_fail(ZK_E_ADDR, QUOTED " has no %s", text,
                       is_bracketed ? "closing bracket" : "port");

    const char *colon = host_end + is_bracketed;
    if (*colon != ':') return zk_fail(ZK_E_ADDR, QUOTED " has no port after its bracket", text);
    if (!is_bracketed && memchr(host, ':', (size_t)(host_end - host)) != NULL)
        return zk_fail(ZK_E_ADDR, QUOTED " needs brackets around its IPv6 address", text);

    uint32_t port;
    if (!parse_number(colon + 1, UINT16_MAX, &port))
        return zk_fail(ZK_E_ADDR, QUOTED " does not end with a port from 0 to 65535", text);

    char buf[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    size_t host_size = (size_t)(host_end - host);
    if (host_size >= sizeof(buf))
        return zk_fail(ZK_E_ADDR, QUOTED " is longer than an address can be", text);
    memcpy(buf, host, host_size);
    buf[host_size] = '\0';

    if (is_bracketed) return parse_ipv6(text, buf, (uint16_t)port, ret_addr);
    if (host_size == 0 || strcmp(buf, "*") == 0) {
        buf[0] = buf[1] = ':';
        buf[2] = '\0';
        return parse_ipv6(text, buf, (uint16_t)port, ret_addr);
    }
    return parse_ipv4(text, buf, (uint16_t)port, ret_addr);
}

static sa_family_t family(const zk_addr *addr)
{
    socklen_t need = offsetof(struct sockaddr, sa_data);
    if (addr->size >= need) {
        switch (addr->sa.sa_family) {
        case AF_INET: need = sizeof(addr->in); break;
        case AF_INET6: need = sizeof(addr->in6); break;
        default: break;
        }
    }
    return addr->size >= need ? addr->sa.sa_family : AF_UNSPEC;
}

static uint32_t zone(const struct sockaddr_in6 *in6)
{
    return has_zone(&in6->sin6_addr) ? in6->sin6_scope_id : 0;
}

/*
 * A Unix socket's name: with its leading NUL if it is abstract, without a closing one if it is a
 * path, empty if the socket has none. For a path that fills sun_path the kernel reports a size
 * beyond the structure.
 */
static zk_str unix_name(const zk_addr *addr)
{
    size_t size = addr->size > unix_header ? addr->size - unix_header : 0;
    if (size > sizeof(addr->un.sun_path)) size = sizeof(addr->un.sun_path);
    if (size > 0 && addr->un.sun_path[0] != '\0') size = strnlen(addr->un.sun_path, size);
    return (zk_str){addr->un.sun_path, size};
}

static size_t format_unix(zk_str name, char *text)
{
    if (name.size == 0 || name.data[0] != '\0') {
        /* A path that begins with '@' would read as an abstract name. */
        const char *prefix = name.size > 0 && name.data[0] == '@' ? "./" : "";
        return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "unix:%s%.*s", prefix, (int)name.size,
                                name.data);
    }

    size_t size = (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "unix:");
    for (size_t i = 0; i < name.size; i++)
        text[size++] = name.data[i] == '\0' ? '@' : name.data[i];
    text[size] = '\0';
    return size;
}

static size_t format_ipv6(const struct sockaddr_in6 *in6, char *text)
{
    char ip[INET6_ADDRSTRLEN], name[IF_NAMESIZE];
    unsigned port = ntohs(in6->sin6_port);
    uint32_t scope_id = zone(in6);

    (void)inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
    if (scope_id == 0) return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "[%s]:%u", ip, port);
    if (if_indextoname(scope_id, name) == NULL || is_digits(name))
        return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "[%s%%%u]:%u", ip, scope_id, port);
    return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "[%s%%%s]:%u", ip, name, port);
}

size_t zk_addr_format(const zk_addr *addr, char text[ZK_ADDR_TEXT_BYTES])
{
    char ip[INET_ADDRSTRLEN];

    switch (family(addr)) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &addr->in.sin_addr, ip, sizeof(ip));
        return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "%s:%u", ip, ntohs(addr->in.sin_port));
    case AF_INET6: return format_ipv6(&addr->in6, text);
    case AF_UNIX: return format_unix(unix_name(addr), text);
    default: return (size_t)snprintf(text, ZK_ADDR_TEXT_BYTES, "?");
    }
}

uint16_t zk_addr_port(const zk_addr *addr)
{
    switch (family(addr)) {
    case AF_INET: return ntohs(addr->in.sin_port);
    case AF_INET6: return ntohs(addr->in6.sin6_port);
    default: return 0;
    }
}

/* The address as IPv6 has it; IPv4 in its mapped form (RFC 4291 section 2.5.5.2). */
static struct in6_addr ipv6_form(const zk_addr *addr)
{
    if (family(addr) == AF_INET6) return addr->in6.sin6_addr;

    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&ip.s6_addr[12], &addr->in.sin_addr, sizeof(addr->in.sin_addr));
    return ip;
}

bool zk_addr_equal(const zk_addr *a, const zk_addr *b)
{
    sa_family_t a_family = family(a), b_family = family(b);
    bool a_is_ip = a_family == AF_INET || a_family == AF_INET6;
    bool b_is_ip = b_family == AF_INET || b_family == AF_INET6;

    if (a_is_ip && b_is_ip) {
        struct in6_addr a_ip = ipv6_form(a), b_ip = ipv6_form(b);
        return memcmp(&a_ip, &b_ip, sizeof(a_ip)) == 0 && zk_addr_port(a) == zk_addr_port(b) &&
               (a_family != AF_INET6 || b_family != AF_INET6 || zone(&a->in6) == zone(&b->in6));
    }
    if (a_family != b_family) return false;
    if (a_family == AF_UNIX) {
        zk_str a_name = unix_name(a), b_name = unix_name(b);
        return a_name.size == b_name.size && memcmp(a_name.data, b_name.data, a_name.size) == 0;
    }
    return a_family == AF_UNSPEC;
}
