/*
 * Running a program on the simulated kernel: seed, clock, order of tasks, memory, the verdict.
 */
#include "core/sim.h"
#include "core/task.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/dump.h"

enum { CHANCES = 1000 };

zk__sim *zk__sim_current;

static const zk_time delay_min_default = ZK_US(10), delay_max_default = ZK_MS(1);
static const zk_time beginning = ZK_SEC(1000000);

/* ---- chance ---- */

uint64_t zk__sim_random(zk__sim *sim)
{
    uint64_t z = sim->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

bool zk__sim_happens(zk__sim *sim, int chance)
{
    return chance > 0 && zk__sim_random(sim) % CHANCES < (uint64_t)chance;
}

bool zk__sim_fails(zk__sim *sim, int chance)
{
    if (!sim->has_begun || !zk__sim_happens(sim, chance)) return false;
    sim->report.faults++;
    return true;
}

void zk__sim_note(zk__sim *sim, uint64_t what, uint64_t detail)
{
    uint64_t z = sim->report.trace ^ (what << 56) ^ detail ^ (uint64_t)sim->now;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    sim->report.trace = z ^ z >> 27;
    sim->report.events++;
}

uint64_t zk_sim_random(void) { return zk__sim_current ? zk__sim_random(zk__sim_current) : 0; }
bool zk_sim_is_running(void) { return zk__sim_current != NULL; }

/* ---- tasks ---- */

void zk__sim_turn(zk__worker *w)
{
    zk__sim *sim = zk__sim_current;
    uint32_t count = w->tail - w->head;
    if (sim->options.is_in_order || !count) return;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(zk__sim_random(sim) % (i + 1));
        zk__entries_swap(w, w->head + i, w->head + j);
    }
    for (uint32_t i = 0; i < count; i++) {
        zk_task *task = zk__entry_task(w->ring[(w->head + i) & w->ring_mask]);
        if (task) task->ring_index = w->head + i;
    }
    /* One at a time, so that what becomes ready meanwhile is shuffled, too. */
    w->turn_goal = w->head + 1;
    if (!w->urgent) w->turn_end = w->turn_goal;
}

int zk__sim_blocking(zk_fn *fn, void *arg)
{
    zk__sim *sim = zk__sim_current;
    int rc = zk_sleep(ZK_US(1 + zk__sim_random(sim) % 10000));
    return rc < 0 ? rc : fn(arg);
}

void zk__sim_stuck(zk__worker *w)
{
    zk__sim *sim = zk__sim_current;
    char text[sizeof sim->stuck];
    zk__dump_stuck(w->runtime, text, sizeof text);
    if (sim->is_stuck) {
        zk__panic("simulation: the program was stuck, was cancelled, and is stuck again: a task "
                  "waits in a ZK_SHIELD, or for one that does not end: %s",
                  text);
    }
    sim->is_stuck = true;
    memcpy(sim->stuck, text, sizeof text);
    zk__scope_cancel_as(&w->root, -ECANCELED);
}

/* ---- memory ---- */

static void *sim_alloc(void *context, size_t size)
{
    return zk__sim_fails(context, zk__sim_current->options.out_of_memory_chance) ? NULL
                                                                                 : malloc(size);
}

static void sim_free(void *context, void *memory, size_t size)
{
    (void)context, (void)size;
    free(memory);
}

/* Counts, and keeps the first for the trail. */
static void on_leak(void *context, const zk_leak *leak)
{
    zk__sim *sim = context;
    if (sim->report.blocks_leaked++) return;
    snprintf(sim->leak, sizeof sim->leak, "the first is of a %s, made by task %s (%s:%d)",
             leak->what, leak->task->name, leak->task->file, leak->task->line);
}

/* ---- the run ---- */

typedef struct program {
    zk_fn *fn;
    void *arg;
    zk__sim *sim;
} program;

static int run_program(void *arg)
{
    program *p = arg;
    p->sim->has_begun = true;
    int rc = p->fn(p->arg);
    p->sim->has_begun = false; /* no faults while all is being cleared away */
    return rc;
}

static int options_read(const zk_sim_options *given, zk_sim_options *ret_options)
{
    zk_sim_options o = given ? *given : (zk_sim_options){0};
    const int chances[] = {o.short_read_chance,   o.short_write_chance,  o.reset_chance,
                           o.refuse_chance,       o.out_of_files_chance, o.out_of_buffers_chance,
                           o.out_of_memory_chance};
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++) {
        if (chances[i] < 0 || chances[i] > CHANCES) return -EINVAL;
    }
    if (!o.delay_min && !o.delay_max) {
        o.delay_min = delay_min_default;
        o.delay_max = delay_max_default;
    }
    if (o.delay_min < 0 || o.delay_max < o.delay_min) return -EINVAL;
    *ret_options = o;
    return 0;
}

static int verdict(const zk__sim *sim, uint64_t seed, int rc)
{
    char context[128];
    const zk_sim_report *r = &sim->report;
    if (sim->is_stuck) {
        rc = ZK_E_STUCK;
        zk__trail_prefix(rc, sim->stuck);
    }
    if (rc >= 0 && (r->sockets_leaked || r->blocks_leaked)) {
        rc = ZK_E_LEAK;
        snprintf(context, sizeof context, "%zu sockets and %zu blocks of memory are left",
                 r->sockets_leaked, r->blocks_leaked);
        if (r->blocks_leaked) zk__trail_prefix(rc, sim->leak);
        zk__trail_prefix(rc, context);
    }
    snprintf(context, sizeof context, "seed %" PRIu64, seed);
    if (rc < 0) zk__trail_prefix(rc, context);
    return rc;
}

int zk_sim_run_report(uint64_t seed, const zk_sim_options *options, zk_fn *main_fn, void *arg,
                      zk_sim_report *ret_report)
{
    zk__sim sim = {.random = seed, .now = beginning};
    int rc = options_read(options, &sim.options);
    if (rc < 0) return rc;
    program p = {.fn = main_fn, .arg = arg, .sim = &sim};
    zk_allocator allocator = {.alloc = sim_alloc, .free = sim_free, .context = &sim};
    zk_config config = {.workers = 1,
                        .poller = "sim",
                        .allocator = &allocator,
                        .finds_leaks = true,
                        .on_leak = on_leak,
                        .on_leak_context = &sim};
    rc = zk__run_simulated(&config, run_program, &p, &sim);
    sim.report.virtual_time = sim.now - beginning;
    *ret_report = sim.report;
    return rc == -EBUSY ? rc : verdict(&sim, seed, rc);
}

int zk_sim_run(uint64_t seed, const zk_sim_options *options, zk_fn *main_fn, void *arg)
{
    zk_sim_report report;
    return zk_sim_run_report(seed, options, main_fn, arg, &report);
}
