/*
 * What a proxy is told by a file or on a command line: one setting after the other, by name.
 *
 *     # proxy.conf
 *     listen = :8080
 *     upstream = 10.0.0.1:9000
 *     upstream = 10.0.0.2:9000*3
 *     balance = least
 *     slow-start = 30s
 *
 * docs/guide/proxy.md has the list of settings. What is not known, said twice, or makes no sense is
 * an error that names the file and the line.
 */
#ifndef ZOKIO_PROXY_CONFIG_H
#define ZOKIO_PROXY_CONFIG_H

#include <zokio/proxy.h>
#include <zokio/rate_limit.h>

ZK_BEGIN

/** All settings. The texts belong to it. Beside the options of the proxy those of its server. */
typedef struct zk_proxy_config {
    zk_proxy_options proxy;
    zk_rate_limit_options rate_limit; /* per_second is 0: there is none */
    const char *listen;               /* NULL: not said */
    const char *cert_file, *key_file; /* NULL: no TLS */
    bool ktls;                        /* as in zk_tls_server */
    const char *metrics_path;         /* NULL: none */
    const char *log;                  /* "combined", "common", "json"; NULL: none */
    /* whose PROXY protocol is believed, ended by NULL, see zk_server; NULL: nobody's */
    const char *const *proxy_protocol_from;
} zk_proxy_config;

/** Makes one in which nothing is said. Never suspends. @return 0, -ENOMEM */
ZK_API int zk_proxy_config_new(zk_proxy_config **ret_config) ZK_NODISCARD;

/** Frees it; NULL is allowed. Never suspends. */
ZK_API void zk_proxy_config_free(zk_proxy_config *config);

/**
 * Makes one setting, in the place of what was said before; "upstream", "connect" and
 * "accept-proxy-protocol" add one. Never suspends.
 *
 * @return 0; ZK_E_CONFIG (zk_trail says what is wrong), -ENOMEM
 */
ZK_API int zk_proxy_config_set(zk_proxy_config *config, const char *name, const char *value)
    ZK_NODISCARD;

/** A setting, for help texts. */
typedef struct zk_proxy_setting {
    const char *name;
    const char
        *value;       /* how it looks: "TIME" (250ms, 30s, 5m, 1h), "N", "PERCENT", "on|off", ... */
    const char *what; /* what it does, and behind the last colon the default */
    bool has_off;     /* the value may be "off", too */
} zk_proxy_setting;

/** The settings there are, from index 0. Never suspends. @return whether there is one */
ZK_API bool zk_proxy_setting_at(int index, zk_proxy_setting *ret_setting);

/**
 * Reads the lines of a file that is in memory. What was read up to an error has been set: the whole
 * is of no use then. Never suspends.
 *
 * @param file  its name, for errors
 * @return as zk_proxy_config_set; the trail begins with "FILE:LINE: "
 */
ZK_API int zk_proxy_config_parse(zk_proxy_config *config, const char *file, const char *text,
                                 size_t size) ZK_NODISCARD;

/**
 * The same for a file, of 1 MiB at most. Blocks its thread for reading; never suspends.
 *
 * @return as zk_proxy_config_parse; -ENOENT, -EACCES and other errors of the system
 */
ZK_API int zk_proxy_config_read(zk_proxy_config *config, const char *path) ZK_NODISCARD;

/**
 * A setting in which the two differ, other than "upstream": one that zk_proxy_reload does not
 * change. Never suspends.
 *
 * @return its name; NULL: there is none
 */
ZK_API const char *zk_proxy_config_difference(const zk_proxy_config *a, const zk_proxy_config *b);

ZK_END
#endif
