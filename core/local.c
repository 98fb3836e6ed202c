/*
 * Task-local values: bindings in force, a list from the innermost out.
 *
 * A scope has the bindings of its parent, and with ZK_LOCAL one more. A task that runs on another
 * worker sees those of the scope that it was started in: they do not change while it runs.
 */
#include <zokio/sync.h>

zk_scope *zk__scope_enter_binding(zk_scope *scope, struct zk__binding *binding,
                                  const zk_local *local, void *value)
{
    zk__scope_enter(scope);
    *binding = (struct zk__binding){.outer = scope->bindings, .local = local, .value = value};
    scope->bindings = binding;
    return scope;
}

void *zk_local_get(const zk_local *local)
{
    const zk_scope *scope = zk__lane.current->scope;
    const struct zk__binding *b = scope ? scope->bindings : NULL;
    while (b && b->local != local)
        b = b->outer;
    return b ? b->value : NULL;
}
