/*
 * Asking a worker's thread what it is doing, although it does not come back to its loop: with a
 * signal, whose handler looks.
 */
#ifndef ZOKIO_CORE_ASK_H
#define ZOKIO_CORE_ASK_H

#include "core/backtrace.h"
#include "core/worker.h"

typedef struct zk__answer {
    const zk_task *task;
    const zk_site *site; /* the task may be over by now: to be peeked at */
    bool is_in_task;     /* else in the loop */
    int frame_count;
    void *frames[ZK__FRAMES_MAX];
} zk__answer;

/* Takes a real-time signal that nobody uses. returns 0, -EBUSY (there is none), -errno. */
int zk__ask_open(void);
void zk__ask_close(void);

/* On any thread but the worker's own. returns false if there is no answer, or no signal. */
bool zk__ask(zk__worker *w, zk__answer *ret_answer);

#endif
