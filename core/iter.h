/*
 * What a kind of iterator provides.
 */
#ifndef ZOKIO_CORE_ITER_H
#define ZOKIO_CORE_ITER_H

#include <zokio/iter.h>

#include "core/task.h"

struct zk__iter_ops {
    const char *kind;
    int (*next)(zk_iter *iter, void *ret_item);
    /* Ends what it has started; its source, and its own memory, are closed by zk_iter_close. */
    void (*close)(zk_iter *iter);
};

/* The head of every iterator. */
struct zk_iter {
    const struct zk__iter_ops *ops;
    zk__worker *worker;
    size_t item_bytes;
    zk_iter *source; /* NULL, or what it takes its items from */
};

/* Memory for an iterator, its head filled in. returns 0, -ENOMEM, -EINVAL, ZK_E_NO_RUNTIME. */
int zk__iter_new(const struct zk__iter_ops *ops, size_t bytes, size_t item_bytes,
                 zk_iter **ret_iter);

/* The scope of an iterator's own tasks: inside the current one. Ended by zk__iter_scope_end. */
void zk__iter_scope_begin(zk_scope *scope);
void zk__iter_scope_end(zk_scope *scope);

#endif
