/*
 * A server of HTTP on the simulated network, for the tests that visit one under faults.
 */
#ifndef ZOKIO_TESTS_HTTP_SIM_SITE_H
#define ZOKIO_TESTS_HTTP_SIM_SITE_H

#include <errno.h>

#include "tests/sim.h"

#include <zokio/channel.h>
#include <zokio/zokio.h>

typedef struct sim_site {
    const zk_route *routes;
    zk_addr addr; /* these two are set before `is_up` carries a value */
    zk_serving *serving;
    zk_channel *is_up; /* of int; closed when the server has ended */
} sim_site;

static inline void sim_site_listening(void *context, zk_serving *serving)
{
    sim_site *s = context;
    s->addr = zk_serving_addr(serving);
    s->serving = serving;
    (void)zk_channel_try_send(s->is_up, &(int){1});
}

static inline int sim_site_serve(void *arg)
{
    sim_site *s = *(sim_site **)arg;
    zk_server config = {.listen = "127.0.0.1:8080",
                        .routes = s->routes,
                        .context = s,
                        .on_listening = sim_site_listening,
                        .no_signals = true};
    int rc = zk_serve(&config);
    zk_channel_close(s->is_up);
    return rc == -EMFILE || rc == -ENOMEM ? 0 : rc; /* they are among the faults */
}

/* Serves while `visits` runs, then drains. */
static inline int sim_site_run(sim_site *s, int (*visits)(sim_site *))
{
    int up, rc = zk_channel_new(sizeof(int), 1, &s->is_up);
    if (rc < 0) return rc;
    ZK_SCOPE(all) {
        rc = zk_spawn(&all, sim_site_serve, &s);
        if (rc >= 0 && zk_channel_recv(s->is_up, &up) == 0) {
            rc = visits(s);
            zk_serving_drain(s->serving);
        }
        int end = zk_scope_wait(&all);
        if (rc >= 0) rc = end;
    }
    zk_channel_free(s->is_up);
    return rc;
}

#endif
