/*
 * Tasks on one worker: async and await, spawning, yielding, and what happens when memory is short.
 * Scopes and cancellation are in scope.c, more than one worker in donate.c.
 */
#include "tests/async.h"

#include "core/leak.h"
#include "core/task.h"

/* ---- async and await ---- */

static int one_more(void *arg) { return *(int *)arg + 1; }

static int yields_then_one_more(void *arg)
{
    for (int i = 0; i < 3; i++)
        cr_assert_ok(zk_yield());
    return one_more(arg);
}

ZK_ASYNC_TEST(task, await_returns_the_result_of_a_call_in_place)
{
    zk_future f;
    zk_async(&f, one_more, &(int){41});
    cr_assert_rc(zk_await(&f), 42);
    cr_assert_rc(zk_await(&f), 42, "the second time");
}

ZK_ASYNC_TEST(task, await_returns_the_result_of_a_task_that_waited)
{
    zk_future f;
    zk_async(&f, yields_then_one_more, &(int){41});
    cr_assert_ok(zk_yield());
    cr_assert_rc(zk_await(&f), 42);
    cr_assert_rc(zk_await(&f), 42, "the second time");
}

typedef struct note {
    char *text;
    char letter;
    bool yields;
} note;

static int take_note(void *arg)
{
    note *n = arg;
    if (n->yields) cr_assert_ok(zk_yield());
    n->text[strlen(n->text)] = n->letter;
    return n->letter;
}

/* Starts a, b and c, lets the main task do `act`, and awaits them in the order given. */
ZK_ASYNC_TEST(task, futures_run_in_place_or_oldest_first)
{
    static const struct row {
        const char *name, *awaits, *wanted;
        bool main_yields, tasks_yield;
    } rows[] = {
        {"newest first: each in place", "cba", "cba", false, false},
        {"oldest first: each in place", "abc", "abc", false, false},
        {"from the middle", "bac", "bac", false, false},
        {"started by a wait: oldest first", "cba", "abc", true, false},
        {"started by a wait", "bca", "abc", true, false},
        {"those that wait, newest first", "cba", "cab", false, true},
        {"those that wait, started by a wait", "cba", "abc", true, true},
    };
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        char text[8] = "";
        zk_future f[3];
        note notes[3];
        for (int i = 0; i < 3; i++) {
            notes[i] = (note){text, (char)('a' + i), row->tasks_yield};
            zk_async(&f[i], take_note, &notes[i]);
        }
        if (row->main_yields) cr_assert_ok(zk_yield());
        for (int i = 0; i < 3; i++) {
            cr_assert_rc(zk_await(&f[row->awaits[i] - 'a']), row->awaits[i], "%s", row->name);
        }
        cr_assert_str_eq(text, row->wanted, "%s: %s", row->name, text);
    }
}

static int yield_times(void *arg)
{
    int rc = 0;
    for (int i = *(int *)arg; i > 0 && rc == 0; i--)
        rc = zk_yield();
    return rc;
}

static int await_yields(void *arg)
{
    int *runs = arg;
    zk_future f;
    ++*runs;
    zk_async(&f, yield_times, &(int){10});
    return zk_await(&f);
}

/* The loop runs a task, which awaits another in place, which waits: it is not to be run again by
 * who awaits it. */
ZK_ASYNC_TEST(task, a_future_whose_own_one_waits_is_run_once)
{
    zk_future first, second;
    int runs = 0;
    zk_async(&first, yield_times, &(int){1});
    zk_async(&second, await_yields, &runs);
    cr_assert_ok(zk_await(&first));
    cr_assert_ok(zk_await(&second));
    cr_assert_eq(runs, 1);
}

static int fibonacci(void *arg)
{
    int n = *(int *)arg;
    if (n < 2) {
        if (zk_yield() < 0) return -1;
        return n;
    }
    zk_future a, b;
    zk_async(&a, fibonacci, &(int){n - 1});
    zk_async(&b, fibonacci, &(int){n - 2});
    int sum = zk_await(&a);
    return sum + zk_await(&b);
}

ZK_ASYNC_TEST(task, futures_nest) { cr_assert_rc(fibonacci(&(int){16}), 987); }

enum { MANY = ZK_TEST_TSAN ? 5000 : 10000 }; /* TSan: 8,128 threads and stacks */
static zk_future many[MANY];
static int many_args[MANY];

static void many_start(zk_fn *fn)
{
    for (int i = 0; i < MANY; i++) {
        many_args[i] = i;
        zk_async(&many[i], fn, &many_args[i]);
    }
}

ZK_ASYNC_TEST(task, ten_thousand_futures_are_awaited_in_any_order)
{
    for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
        for (int is_reverse = 0; is_reverse < 2; is_reverse++) {
            many_start(is_waiting ? yields_then_one_more : one_more);
            for (int i = 0; i < MANY; i++) {
                int k = is_reverse ? MANY - 1 - i : i;
                cr_assert_rc(zk_await(&many[k]), k + 1, "%d %d", is_waiting, is_reverse);
            }
        }
    }
}

/* Awaited oldest first they pass through the run queue, which without a wait nobody empties. */
ZK_ASYNC_TEST(task, awaited_futures_leave_the_run_queue)
{
    for (int i = 0; i < 100000; i++) {
        zk_future a, b;
        zk_async(&a, one_more, &(int){1});
        zk_async(&b, one_more, &(int){2});
        cr_assert(zk_await(&a) == 2 && zk_await(&b) == 3);
    }
    cr_assert_leq(zk__lane.worker->tail - zk__lane.worker->head, 4u);
}

static int set_flag(void *arg)
{
    *(bool *)arg = true;
    return 0;
}

ZK_ASYNC_TEST(task, a_yield_lets_pending_futures_run)
{
    bool has_run = false;
    zk_future f;
    zk_async(&f, set_flag, &has_run);
    cr_assert_ok(zk_yield());
    cr_assert(has_run);
    cr_assert_ok(zk_await(&f));
}

static int take_turns(void *arg)
{
    note *n = arg;
    for (int i = 0; i < 3; i++) {
        n->text[strlen(n->text)] = n->letter;
        cr_assert_ok(zk_yield());
    }
    return 0;
}

ZK_ASYNC_TEST(task, tasks_that_yield_take_turns)
{
    char text[16] = "";
    ZK_SCOPE(s) {
        for (char letter = 'a'; letter <= 'c'; letter++) {
            cr_assert_ok(zk_spawn(&s, take_turns, (&(note){text, letter, false})));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_str_eq(text, "abcabcabc", "%s", text);
}

static int sleep_then_set_flag(void *arg)
{
    cr_assert_ok(zk_sleep(ZK_MS(1)));
    return set_flag(arg);
}

/* Yielding alone never leaves the task, yet timers have to fire. */
ZK_ASYNC_TEST(task, yielding_does_not_starve_timers)
{
    bool is_over = false;
    zk_future f;
    zk_async(&f, sleep_then_set_flag, &is_over);
    while (!is_over)
        cr_assert_ok(zk_yield());
    cr_assert_ok(zk_await(&f));
}

/* ---- spawning ---- */

typedef struct large {
    char bytes[5000];
    int *sum;
} large;

static int add_large(void *arg)
{
    const large *l = arg;
    for (size_t i = 0; i < sizeof l->bytes; i++)
        *l->sum += l->bytes[i];
    return 0;
}

typedef struct small {
    int number;
    int *sum;
} small;

static int add_small(void *arg)
{
    const small *s = arg;
    *s->sum += s->number;
    return 0;
}

ZK_ASYNC_TEST(task, spawn_copies_its_argument)
{
    int sum = 0, large_sum = 0;
    ZK_SCOPE(s) {
        small arg = {.sum = &sum};
        large *big = malloc(sizeof *big);
        cr_assert_not_null(big);
        for (int i = 1; i <= 100; i++) {
            arg.number = i;
            cr_assert_ok(zk_spawn(&s, add_small, &arg));
            memset(big, i, sizeof *big);
            big->sum = &large_sum;
            cr_assert_ok(zk_spawn(&s, add_large, big));
        }
        memset(&arg, 0, sizeof arg);
        memset(big, 0, sizeof *big);
        free(big);
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(sum, 5050);
    cr_assert_eq(large_sum, 5050 * (int)sizeof((large *)0)->bytes);
}

typedef struct aligned_argument {
    _Alignas(16) char bytes[16];
    int *misaligned;
} aligned_argument;

static int check_alignment(void *arg)
{
    aligned_argument *a = arg;
    if ((uintptr_t)a % _Alignof(aligned_argument)) ++*a->misaligned;
    return 0;
}

ZK_ASYNC_TEST(task, a_copied_argument_is_aligned_for_every_type)
{
    int misaligned = 0;
    ZK_SCOPE(s) {
        aligned_argument arg = {.misaligned = &misaligned};
        for (int i = 0; i < 10; i++)
            cr_assert_ok(zk_spawn(&s, check_alignment, &arg));
        struct {
            aligned_argument first;
            char rest[1000];
        } big = {.first = arg};
        for (int i = 0; i < 10; i++)
            cr_assert_ok(zk_spawn(&s, check_alignment, &big));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(misaligned, 0);
}

static int note_pointer(void *arg)
{
    *(void **)arg = arg;
    return 0;
}

static int want_null(void *arg) { return arg ? -EINVAL : 0; }

ZK_ASYNC_TEST(task, spawn_passes_a_void_pointer_as_it_is)
{
    void *seen = NULL, *arg = &seen;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, note_pointer, arg));
        cr_assert_ok(zk_spawn(&s, want_null, NULL));
        cr_assert_ok(zk_spawn(&s, want_null, (const void *)NULL));
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(seen, &seen);
}

typedef struct family {
    zk_scope *scope;
    int left;
} family;

static int have_children(void *arg)
{
    family *f = arg;
    for (int i = 0; i < 2 && f->left > 0; i++) {
        f->left--;
        cr_assert_ok(zk_spawn(f->scope, have_children, arg));
    }
    return f->left % 3 ? 0 : zk_yield();
}

ZK_ASYNC_TEST(task, tasks_spawn_into_their_own_scope)
{
    ZK_SCOPE(s) {
        family f = {&s, 10000};
        cr_assert_ok(zk_spawn(&s, have_children, (void *)&f));
        cr_assert_ok(zk_scope_wait(&s));
        cr_assert_eq(f.left, 0);
    }
}

ZK_ASYNC_TEST(task, spawn_options_out_of_range_are_refused)
{
    static const zk_spawn_options rows[] = {
        {.worker = -1},
        {.worker = 2},
        {.stack_bytes = (size_t)UINT32_MAX + 1},
        {.stack_bytes = SIZE_MAX},
    };
    ZK_SCOPE(s) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            cr_assert_rc(zk_spawn_with(&s, &rows[i], want_null, NULL), -EINVAL, "row %zu", i);
        }
        cr_assert_ok(zk_spawn_with(&s, &(zk_spawn_options){.worker = 1}, want_null, NULL));
        cr_assert_ok(zk_scope_wait(&s));
    }
}

/* ---- many ---- */

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    cr_assert_not_null(file);
    char line[128];
    cr_assert_not_null(fgets(line, sizeof line, file));
    fclose(file);
    size_t pages = 0;
    for (const char *p = strchr(line, ' ') + 1; *p >= '0' && *p <= '9'; p++) {
        pages = pages * 10 + (size_t)(*p - '0');
    }
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

typedef struct crowd {
    int waiting, most;
} crowd;

static int join_the_crowd(void *arg)
{
    crowd *c = arg;
    if (++c->waiting > c->most) c->most = c->waiting;
    int rc = zk_sleep(ZK_SEC(3600));
    c->waiting--;
    return rc;
}

/* vm.max_map_count is 65,530 by default, so the guards must not be mappings of their own. */
ZK_ASYNC_TEST(task, a_hundred_thousand_tasks_wait_and_give_their_memory_back)
{
    /* Instrumented stacks are larger, and the guards' mappings are not what sanitizers are for. */
    int tasks = ZK_TEST_ASAN || ZK_TEST_TSAN ? 5000 : 100000;
    size_t before = resident_bytes();
    crowd c = {0};
    ZK_SCOPE(s) {
        for (int i = 0; i < tasks; i++)
            cr_assert_ok(zk_spawn(&s, join_the_crowd, (void *)&c));
        while (c.waiting < tasks)
            cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    cr_assert(c.waiting == 0 && c.most == tasks);
    /* What is not needed for a second goes back a few at a time. Here the second is over. */
    zk__worker *w = zk__worker_self();
    for (int looks = 0; w->loop_count > 256; looks++) {
        cr_assert_lt(looks, 2000);
        w->loops_look_at = 0;
        zk__loop_stacks_look(w);
    }
    cr_assert_lt(w->ring_mask, 4096u, "the run queue's memory, too");
    if (ZK_TEST_ASAN || ZK_TEST_TSAN || zk__leaks_current) return; /* they keep memory themselves */
    size_t after = resident_bytes();
    cr_assert(after < before + (8 << 20), "%zu MiB before, %zu MiB after", before >> 20,
              after >> 20);
}

static int let_others_run(void *arg)
{
    (void)arg;
    return zk_yield();
}

static long blocks;

static void *count_alloc(void *context, size_t size)
{
    (void)context;
    blocks++;
    return aligned_alloc(16, (size + 15) & ~(size_t)15);
}

static void count_free(void *context, void *ptr, size_t size)
{
    (void)context, (void)size;
    blocks--;
    free(ptr);
}

static int burst(void *arg)
{
    enum { TASKS = 2000, KEPT = 256 };
    (void)arg;
    zk__worker *w = zk__worker_self();
    long before = blocks;
    ZK_SCOPE(s) {
        for (int i = 0; i < TASKS; i++)
            cr_assert_ok(zk_spawn(&s, let_others_run, NULL));
        cr_assert_leq(blocks, before + 4, "what has not begun needs none, unless the queue grows");
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_geq(blocks, before + TASKS);
    for (int looks = 0; w->loop_count > KEPT; looks++) {
        cr_assert_lt(looks, 200);
        w->loops_look_at = 0;
        zk__loop_stacks_look(w);
    }
    cr_assert_leq(blocks, before + KEPT + 4);
    return 0;
}

/* It is kept for the next burst with their stacks, and goes when they go. */
ZK_TEST(task, the_memory_of_many_tasks_that_waited_goes_back_with_their_stacks)
{
    static const zk_allocator counting = {count_alloc, count_free, NULL};
    cr_assert_ok(zk_run(&(zk_config){.workers = 1, .allocator = &counting}, burst, NULL));
    cr_assert_eq(blocks, 0);
}

/* ---- misuse ---- */

static int forget_a_future(void *arg)
{
    (void)arg;
    zk_future f;
    zk_async(&f, want_null, NULL);
    return 0;
}

static int spawn_forgetful(void *arg)
{
    (void)arg;
    ZK_SCOPE(s) {
        zk_spawn(&s, forget_a_future, NULL);
        zk_scope_wait(&s);
    }
    return 0;
}

static int run_forgetful(void *arg) { return zk_test_run(1, spawn_forgetful, arg); }

ZK_TEST(task, a_future_that_is_not_awaited_is_reported_with_the_task_s_name)
{
    zk_test_child child = zk_test_fork(run_forgetful, NULL);
    cr_assert_child_killed(child, SIGABRT, "task forget_a_future (");
}

static int await_nonsense(void *arg)
{
    (void)arg;
    zk_future f = {0};
    return zk_await(&f);
}

static int run_await_nonsense(void *arg) { return zk_test_run(1, await_nonsense, arg); }

ZK_TEST(task, awaiting_what_was_not_started_is_reported)
{
    zk_test_child child = zk_test_fork(run_await_nonsense, NULL);
    cr_assert_child_killed(child, SIGABRT, "zk_async did not start");
}

static int wait_briefly(void *arg)
{
    (void)arg;
    return zk_sleep(ZK_MS(1));
}

static int await_it(void *arg) { return zk_await(arg); }

static int await_twice(void *arg)
{
    zk_future f;
    (void)arg;
    ZK_SCOPE(s) {
        zk_async(&f, wait_briefly, NULL);
        cr_assert_ok(zk_yield()); /* it begins */
        cr_assert_ok(zk_spawn(&s, await_it, (void *)&f));
        zk_await(&f);
        zk_scope_wait(&s);
    }
    return 0;
}

static int run_await_twice(void *arg) { return zk_test_run(1, await_twice, arg); }

/* One of them would wait for ever. */
ZK_TEST(task, a_second_task_that_awaits_the_same_future_is_reported)
{
    zk_test_child child = zk_test_fork(run_await_twice, NULL);
    cr_assert_child_killed(child, SIGABRT, "task await_it awaits wait_briefly (");
}

static int expects_123(void *arg)
{
    int *numbers = arg;
    return numbers[0] == 1 && numbers[1] == 2 && numbers[2] == 3 ? 0 : -EINVAL;
}

static int expects_text(void *arg) { return strcmp(arg, "text") == 0 ? 0 : -EINVAL; }

static int spawn_array_and_text(void *arg)
{
    (void)arg;
    int numbers[] = {1, 2, 3};
    char *text = "text";
    int rc = 0;
    ZK_SCOPE(s) {
        cr_assert_ok(zk_spawn(&s, expects_123, numbers));
        cr_assert_ok(zk_spawn(&s, expects_text, text));
        numbers[2] = 0;
        rc = zk_scope_wait(&s);
    }
    return rc;
}

/* Copying one element of an array, or one character of a text, is never what was meant. */
ZK_TEST(task, an_array_is_copied_whole_and_a_text_is_passed_as_it_is)
{
    cr_assert_ok(zk_test_run(1, spawn_array_and_text, NULL));
}

/* ---- what lies behind a task ---- */

enum { WORDS = 8, SLEEPERS = 300 };

typedef struct words {
    uint64_t word[WORDS];
    int *count;
} words;

static int sleep_with_words(void *arg)
{
    words *own = arg;
    cr_assert_ok(zk_sleep(ZK_MS(1)));
    for (uint64_t i = 0; i < WORDS; i++)
        cr_assert_eq(own->word[i], i ^ 0x5555);
    ++*own->count;
    return 0;
}

static int sleep_for_count(void *arg)
{
    int rc = zk_sleep(ZK_MS(2));
    if (rc == 0) ++*(int *)arg;
    return rc;
}

static int sleep_with_another(void *arg)
{
    zk_future f;
    zk_async(&f, sleep_for_count, arg);
    int rc = sleep_for_count(arg);
    cr_assert_ok(zk_await(&f));
    return rc;
}

/* The record of a sleep lies behind the task: not over a copied argument, and not over that of a
 * task that this one awaits. With more tasks than are looked at ahead of time. */
ZK_ASYNC_TEST(task, sleeping_tasks_keep_their_arguments)
{
    int count = 0;
    words mine = {.count = &count};
    for (uint64_t i = 0; i < WORDS; i++)
        mine.word[i] = i ^ 0x5555;
    ZK_SCOPE(s) {
        for (int i = 0; i < SLEEPERS; i++) {
            cr_assert_ok(zk_spawn(&s, sleep_with_words, &mine));
            cr_assert_ok(zk_spawn(&s, sleep_for_count, (void *)&count));
            cr_assert_ok(zk_spawn(&s, sleep_with_another, (void *)&count));
        }
        cr_assert_ok(zk_scope_wait(&s));
    }
    cr_assert_eq(count, 4 * SLEEPERS);
}

static int sleep_an_hour(void *arg)
{
    int rc = zk_sleep(ZK_SEC(3600));
    ++*(int *)arg;
    return rc;
}

/* Cancellation finds a sleep there, too. */
ZK_ASYNC_TEST(task, sleeping_tasks_without_an_argument_are_cancelled)
{
    int count = 0;
    ZK_SCOPE(s) {
        for (int i = 0; i < SLEEPERS; i++)
            cr_assert_ok(zk_spawn(&s, sleep_an_hour, (void *)&count));
        cr_assert_ok(zk_yield());
        zk_scope_cancel(&s);
        cr_assert_rc(zk_scope_wait(&s), -ECANCELED);
    }
    cr_assert_eq(count, SLEEPERS);
}
