/*
 * The blocks that are not freed yet, and the report on those that never are: see leak.h.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "core/leak.h"
#include "core/worker.h"

enum { FRAMES = 12, BACKTRACE_BYTES = 2048 };

/* In front of each block, and of what the heap puts there. */
struct zk__leak_block {
    zk__leak_block *next, **link;
    const char *what;
    const zk_site *site;
    size_t bytes;
    int fd;
    int frame_count;
    void *frames[FRAMES];
    _Alignas(16) char memory[];
};

zk__leaks *zk__leaks_current;

static void *from_malloc(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void to_malloc(void *context, void *ptr, size_t size)
{
    (void)context, (void)size;
    free(ptr);
}

/* Of the frames that lead here, the nearest. */
static void frames_take(zk__leak_block *block)
{
    void *frames[ZK__FRAMES_MAX];
    const zk__worker *w = zk__lane.worker;
    block->frame_count = 0;
    if (!w || !w->stack || !w->stack->base) return;
    zk__stack_span span = {w->stack->base, w->stack->base + w->stack->size};
    int count = zk__frames_walk(__builtin_return_address(0), *(void **)__builtin_frame_address(0),
                                span, frames);
    block->frame_count = count < FRAMES ? count : FRAMES;
    memcpy(block->frames, frames, (size_t)block->frame_count * sizeof *frames);
}

static void *leaks_alloc(void *context, size_t size)
{
    zk__leaks *leaks = context;
    if (size > PTRDIFF_MAX - sizeof(zk__leak_block)) return NULL;
    zk__leak_block *block = leaks->below.alloc(leaks->below.context, sizeof *block + size);
    if (!block) return NULL;
    block->what = "memory";
    block->site = zk__lane.current->site;
    block->bytes = size - ZK__PASS_HEADER_BYTES;
    block->fd = -1;
    frames_take(block);
    pthread_mutex_lock(&leaks->lock);
    block->next = leaks->blocks;
    block->link = &leaks->blocks;
    if (block->next) block->next->link = &block->next;
    leaks->blocks = block;
    pthread_mutex_unlock(&leaks->lock);
    return block->memory;
}

static void block_unlink(zk__leak_block *block)
{
    *block->link = block->next;
    if (block->next) block->next->link = block->link;
}

static void leaks_free(void *context, void *memory, size_t size)
{
    zk__leaks *leaks = context;
    zk__leak_block *block =
        (zk__leak_block *)(void *)((char *)memory - offsetof(zk__leak_block, memory));
    pthread_mutex_lock(&leaks->lock);
    block_unlink(block);
    pthread_mutex_unlock(&leaks->lock);
    leaks->below.free(leaks->below.context, block, sizeof *block + size);
}

void zk__leak_name_slow(void *ptr, const char *what, int fd)
{
    char *memory = (char *)ptr - ZK__PASS_HEADER_BYTES;
    zk__leak_block *block = (zk__leak_block *)(void *)(memory - offsetof(zk__leak_block, memory));
    block->what = what;
    block->fd = fd;
}

void zk__leaks_begin(zk__leaks *leaks, const zk_allocator *below, bool is_below_ours)
{
    *leaks = (zk__leaks){
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .below = below ? *below : (zk_allocator){.alloc = from_malloc, .free = to_malloc},
        /* AddressSanitizer is to see it, too, and to say no. */
        .is_below_ours = below ? is_below_ours : !ZK__HEAP_PASSES_THROUGH,
        .allocator = {.alloc = leaks_alloc, .free = leaks_free, .context = leaks},
    };
    zk__leaks_current = leaks;
}

/* ---- the report ---- */

static void to_stderr(void *context, const zk_leak *leak)
{
    char text[BACKTRACE_BYTES + 512], held[32] = "";
    (void)context;
    if (leak->fd >= 0) snprintf(held, sizeof held, " (descriptor %d)", leak->fd);
    int size =
        snprintf(text, sizeof text, "zokio: leak: %s%s, %zu bytes, made by task %s (%s:%d)\n%s\n",
                 leak->what, held, leak->bytes, leak->task->name, leak->task->file,
                 leak->task->line, leak->backtrace);
    if (size < 0) return;
    if ((size_t)size >= sizeof text) size = sizeof text - 1;
    ssize_t ignored = write(STDERR_FILENO, text, (size_t)size);
    (void)ignored;
}

/* A line for each frame, as far as there is room. */
static void backtrace_write(const zk__leak_block *block, char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < block->frame_count; i++) {
        char line[256];
        zk__frame_describe(block->frames[i], line, sizeof line);
        int n = snprintf(buf + used, size - used, "%s    %s", i ? "\n" : "", line);
        if (n < 0 || (size_t)n >= size - used) {
            buf[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

size_t zk__leaks_end(zk__leaks *leaks, void (*on_leak)(void *context, const zk_leak *leak),
                     void *context)
{
    size_t count = 0;
    zk__leaks_current = NULL;
    for (zk__leak_block *block = leaks->blocks, *next; block; block = next, count++) {
        char backtrace[BACKTRACE_BYTES];
        next = block->next;
        backtrace_write(block, backtrace, sizeof backtrace);
        zk_leak leak = {.what = block->what,
                        .bytes = block->bytes,
                        .fd = block->fd,
                        .task = block->site,
                        .backtrace = backtrace};
        (on_leak ? on_leak : to_stderr)(context, &leak);
        if (leaks->is_below_ours) leaks->below.free(leaks->below.context, block, 0);
    }
    pthread_mutex_destroy(&leaks->lock);
    return count;
}
