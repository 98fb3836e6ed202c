/*
 * Watch: one value, its version, and a line of who waits for another version.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <zokio/channel.h>

#include "core/budget.h"
#include "core/waiter.h"

struct zk_watch {
    zk__guard guard;
    zk__line line;
    size_t value_bytes;
    uint64_t version;
    const zk_site *setter; /* of the task that has set it last, which may be over; for dumps */
    bool is_closed;
    char value[];
};

int zk_watch_new(size_t value_bytes, const void *value, zk_watch **ret_watch)
{
    if (!zk__worker_self()) return ZK_E_NO_RUNTIME;
    if (!value_bytes || value_bytes > PTRDIFF_MAX - sizeof(zk_watch)) return -EINVAL;
    zk_watch *w = zk_alloc(sizeof *w + value_bytes);
    if (!w) return -ENOMEM;
    *w = (zk_watch){.value_bytes = value_bytes, .version = 1};
    memcpy(w->value, value, value_bytes);
    *ret_watch = w;
    return 0;
}

void zk_watch_free(zk_watch *watch) { zk_free(watch); }

int zk_watch_set(zk_watch *watch, const void *value)
{
    zk__guard_enter(&watch->guard);
    bool is_closed = watch->is_closed;
    watch->setter = zk__lane.current->site;
    if (!is_closed) {
        memcpy(watch->value, value, watch->value_bytes);
        watch->version++;
        zk__line_wake_all(&watch->line, 0);
    }
    zk__guard_leave(&watch->guard);
    return is_closed ? ZK_E_CLOSED : 0;
}

uint64_t zk_watch_get(zk_watch *watch, void *ret_value)
{
    zk__guard_enter(&watch->guard);
    memcpy(ret_value, watch->value, watch->value_bytes);
    uint64_t version = watch->version;
    zk__guard_leave(&watch->guard);
    return version;
}

static void describe(const zk__wait *wait, zk__wait_detail *detail)
{
    zk_watch *w = (zk_watch *)(void *)zk__guard_waited_for(wait);
    zk__guard_enter(&w->guard);
    uint64_t version = w->version;
    const zk_site *setter = w->setter;
    zk__guard_leave(&w->guard);
    zk__detail_add(detail, "version %" PRIu64 ", %s", version,
                   setter ? "last set by " : "not set since it was made");
    if (setter) zk__detail_add_site(detail, setter);
}

int zk_watch_changed(zk_watch *watch, uint64_t *version, void *ret_value)
{
    static const zk__wait_kind kind = {.name = "watch", .is_by_tasks = true, .describe = describe};
    for (;;) {
        int rc = zk__spend();
        if (rc < 0) return rc;
        zk__guard_enter(&watch->guard);
        bool has_changed = watch->version != *version;
        if (has_changed) {
            memcpy(ret_value, watch->value, watch->value_bytes);
            *version = watch->version;
        }
        if (has_changed || watch->is_closed) {
            zk__guard_leave(&watch->guard);
            return has_changed ? 0 : ZK_E_CLOSED;
        }
        rc = zk__line_wait(&watch->guard, &watch->line, NULL, &kind);
        if (rc < 0) return rc;
    }
}

void zk_watch_close(zk_watch *watch)
{
    zk__guard_enter(&watch->guard);
    watch->is_closed = true;
    zk__line_wake_all(&watch->line, 0); /* they look again */
    zk__guard_leave(&watch->guard);
}
