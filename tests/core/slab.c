/*
 * The allocator, at the level of heaps: what it hands out, what it costs, what comes back, and what
 * happens without memory. Tests about chunks end early where calls pass through (ASan).
 */
#include "tests/test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/slab.h"

enum { PAGE_BYTES = 4096, CONNECTIONS = 5000, CONNECTION_BYTES = 320 };

static uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static zk__heap *heap_new(const zk_allocator *allocator)
{
    zk__heap *heap = zk__heap_new(allocator);
    cr_assert_not_null(heap);
    return heap;
}

static size_t live_objects(const zk__heap *heap) { return zk__heap_stats_read(heap).live_objects; }

static size_t chunk_bytes(const zk__heap *heap) { return zk__heap_stats_read(heap).chunk_bytes; }

/* How many of the pages from `start` on have memory behind them. */
static size_t resident_pages(const void *start, size_t pages)
{
    unsigned char is_resident[64];
    cr_assert_leq(pages, sizeof is_resident);
    cr_assert_eq(mincore((void *)(uintptr_t)start, pages * PAGE_BYTES, is_resident), 0);
    size_t count = 0;
    for (size_t i = 0; i < pages; i++)
        count += is_resident[i] & 1;
    return count;
}

static char *chunk_start(const void *ptr)
{
    return (char *)((uintptr_t)ptr & ~(uintptr_t)(ZK__CHUNK_BYTES - 1));
}

ZK_TEST(slab, a_size_gets_the_smallest_class_that_holds_it)
{
    size_t bytes[ZK__CLASSES], count = 0;
    for (size_t size = 16; size <= 256; size += 16)
        bytes[count++] = size;
    for (size_t power = 256; power < ZK__CLASS_MAX_BYTES; power *= 2) {
        for (size_t quarter = 1; quarter <= 4; quarter++)
            bytes[count++] = power + quarter * power / 4;
    }
    cr_assert_eq(count, ZK__CLASSES);
    unsigned expected = 0;
    for (size_t size = 1; size <= ZK__CLASS_MAX_BYTES; size++) {
        if (size > bytes[expected]) expected++;
        cr_assert_eq(zk__class_of(size), expected, "size %zu: class %u", size, zk__class_of(size));
    }
}

/* Contents that another object overwrites, bad alignment and wrong counts all show here. */
ZK_TEST(slab, random_use_never_mixes_objects_up)
{
    enum { SLOTS = 2000, STEPS = 200000 };
    static struct {
        unsigned char *ptr;
        size_t size;
    } slots[SLOTS];
    const char *given = getenv("ZOKIO_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)getpid();
    printf("ZOKIO_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    zk__heap *heap = heap_new(NULL);
    size_t live = 0;

    for (int step = 0; step < STEPS; step++) {
        uint32_t slot = random_next(&seed) % SLOTS, shape = random_next(&seed) % 100;
        size_t size = random_next(&seed) % (shape < 80 ? 600 : shape < 98 ? 9000 : 200000);
        unsigned char mark = (unsigned char)slot;
        unsigned char *old = slots[slot].ptr;
        if (old) {
            size_t old_size = slots[slot].size;
            if (old_size > 0)
                cr_assert(old[0] == mark && old[old_size - 1] == mark, "step %d", step);
            if (shape % 2)
                zk__heap_free_sized(heap, old, old_size);
            else
                zk__heap_free(heap, old);
            slots[slot].ptr = NULL;
            live--;
        } else {
            unsigned char *ptr = zk__heap_alloc(heap, size);
            cr_assert(ptr && (uintptr_t)ptr % 16 == 0, "step %d", step);
            if (size > 0) ptr[0] = ptr[size - 1] = mark;
            slots[slot].ptr = ptr;
            slots[slot].size = size;
            live++;
        }
        if (step % 10000 == 0) cr_assert_eq(live_objects(heap), live, "step %d", step);
    }
    for (size_t i = 0; i < SLOTS; i++)
        zk__heap_free(heap, slots[i].ptr);
    cr_assert_eq(live_objects(heap), 0);
    zk__heap_trim(heap);
    cr_assert_eq(chunk_bytes(heap), 0);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, every_size_is_usable_to_its_last_byte)
{
    zk__heap *heap = heap_new(NULL);
    static unsigned char *ptrs[ZK__CLASS_MAX_BYTES + 1];
    for (size_t size = 1; size <= ZK__CLASS_MAX_BYTES; size++) {
        ptrs[size] = zk__heap_alloc(heap, size);
        cr_assert_not_null(ptrs[size]);
        memset(ptrs[size], (int)(size % 251), size);
    }
    for (size_t size = 1; size <= ZK__CLASS_MAX_BYTES; size++) {
        for (size_t i = 0; i < size; i++)
            cr_assert(ptrs[size][i] == size % 251, "size %zu, byte %zu", size, i);
        zk__heap_free(heap, ptrs[size]);
    }
    zk__heap_free_all(heap);
}

ZK_TEST(slab, sizes_around_the_limits_of_large_objects_are_usable)
{
    static const size_t sizes[] = {ZK__CLASS_MAX_BYTES,
                                   ZK__CLASS_MAX_BYTES + 1,
                                   ZK__CHUNK_OBJECT_MAX_BYTES - 1,
                                   ZK__CHUNK_OBJECT_MAX_BYTES,
                                   ZK__CHUNK_OBJECT_MAX_BYTES + 1,
                                   ZK__CHUNK_BYTES,
                                   ZK__CHUNK_BYTES + 1,
                                   1 << 20,
                                   (1 << 20) + 4095};
    enum { SIZES = sizeof sizes / sizeof sizes[0], ROUNDS = 40 };
    zk__heap *heap = heap_new(NULL);
    static unsigned char *ptrs[ROUNDS][SIZES];
    for (size_t round = 0; round < ROUNDS; round++) { /* headers lie elsewhere in each chunk */
        for (size_t i = 0; i < SIZES; i++) {
            ptrs[round][i] = zk__heap_alloc(heap, sizes[i]);
            cr_assert(ptrs[round][i] && (uintptr_t)ptrs[round][i] % 16 == 0, "row %zu", i);
            memset(ptrs[round][i], (int)(round * SIZES + i), sizes[i]);
        }
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            unsigned char mark = (unsigned char)(round * SIZES + i);
            cr_assert(ptrs[round][i][0] == mark && ptrs[round][i][sizes[i] - 1] == mark, "row %zu",
                      i);
            zk__heap_free(heap, ptrs[round][i]);
        }
    }
    cr_assert_eq(live_objects(heap), 0);
    zk__heap_trim(heap);
    cr_assert_eq(chunk_bytes(heap), 0);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, sizes_that_no_machine_has_are_refused)
{
    static const size_t sizes[] = {SIZE_MAX,    SIZE_MAX - 16,       (size_t)PTRDIFF_MAX + 1,
                                   PTRDIFF_MAX, PTRDIFF_MAX - 65536, (size_t)1 << 62};
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return; /* ASan makes malloc abort */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        cr_assert_null(zk__heap_alloc(heap, sizes[i]), "row %zu", i);
    cr_assert_eq(live_objects(heap), 0);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, what_is_not_used_is_not_touched)
{
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return;
    char *ptr = zk__heap_alloc(heap, CONNECTION_BYTES);
    cr_assert_not_null(ptr);
    ptr[0] = 1;
    size_t pages = ZK__CHUNK_BYTES / PAGE_BYTES;
    cr_assert_eq(resident_pages(chunk_start(ptr), pages), 1);
    cr_assert_leq(resident_pages(heap, sizeof *heap / PAGE_BYTES), 3);
    zk__heap_free_all(heap);
}

static void *connections[CONNECTIONS];

static void connections_make(zk__heap *heap)
{
    for (size_t i = 0; i < CONNECTIONS; i++) {
        connections[i] = zk__heap_alloc(heap, CONNECTION_BYTES);
        cr_assert_not_null(connections[i]);
        memset(connections[i], 1, CONNECTION_BYTES);
    }
}

ZK_TEST(slab, many_connections_cost_little_more_than_their_structs)
{
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return;
    connections_make(heap);
    size_t pages = 0;
    const char *last = NULL;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        char *start = chunk_start(connections[i]); /* chunks come one after the other */
        if (start != last) pages += resident_pages(start, ZK__CHUNK_BYTES / PAGE_BYTES);
        last = start;
    }
    pages += resident_pages(heap, sizeof *heap / PAGE_BYTES);
    double overhead = (double)(pages * PAGE_BYTES) / (CONNECTIONS * CONNECTION_BYTES) - 1;
    cr_assert(overhead > 0 && overhead < 0.05, "overhead %.3f", overhead);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, chunks_that_are_no_longer_used_go_back_to_the_system)
{
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return;
    connections_make(heap);
    cr_assert_geq(chunk_bytes(heap), CONNECTIONS * CONNECTION_BYTES);
    for (size_t i = 0; i < CONNECTIONS; i++)
        zk__heap_free(heap, connections[i]);
    cr_assert_eq(live_objects(heap), 0);
    cr_assert_leq(chunk_bytes(heap), (ZK__CACHED_CHUNKS + 2) * ZK__CHUNK_BYTES);
    zk__heap_trim(heap);
    cr_assert_eq(chunk_bytes(heap), 0);
    zk__heap_free_all(heap);
}

/* A chunk that went back to the system must come back in order, wherever it is in its region. */
ZK_TEST(slab, a_trimmed_heap_works_on)
{
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return; /* LeakSanitizer would see what it keeps */
    for (int round = 0; round < 5; round++) {
        connections_make(heap);
        for (size_t i = 0; i < CONNECTIONS; i++) {
            if (i % 1000 != (size_t)round) /* keeps some regions */
                zk__heap_free(heap, connections[i]);
        }
        zk__heap_trim(heap);
        cr_assert_eq(live_objects(heap), (size_t)(round + 1) * (CONNECTIONS / 1000));
    }
    zk__heap_free_all(heap);
}

ZK_TEST(slab, batches_need_no_more_memory_each_time)
{
    enum { BATCH = 256, ROUNDS = 200 };
    zk__heap *heap = heap_new(NULL);
    void *ptrs[BATCH];
    size_t bytes_first = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BATCH; i++)
            ptrs[i] = zk__heap_alloc(heap, 192);
        for (size_t i = 0; i < BATCH; i++) {
            if (round % 2)
                zk__heap_free_sized(heap, ptrs[i], 192);
            else
                zk__heap_free(heap, ptrs[i]);
        }
        if (round == 0) bytes_first = chunk_bytes(heap);
        cr_assert_leq(chunk_bytes(heap), bytes_first, "round %d", round);
    }
    zk__heap_free_all(heap);
}

static void *free_connections(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < CONNECTIONS; i++)
        zk__heap_free(NULL, connections[i]);
    return NULL;
}

ZK_TEST(slab, what_a_foreign_thread_frees_is_used_again)
{
    zk__heap *heap = heap_new(NULL);
    size_t bytes_first = 0;
    for (int round = 0; round < 5; round++) {
        connections_make(heap);
        if (round == 0) bytes_first = chunk_bytes(heap);
        cr_assert_leq(chunk_bytes(heap), bytes_first + ZK__CHUNK_BYTES, "round %d", round);
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, free_connections, NULL), 0);
        pthread_join(thread, NULL);
        cr_assert_eq(live_objects(heap), 0, "round %d", round);
    }
    zk__heap_trim(heap);
    cr_assert_eq(chunk_bytes(heap), 0);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, the_memory_of_a_large_object_freed_elsewhere_is_free_at_once)
{
    enum { SIZE = 1 << 20 };
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return;
    char *ptr = zk__heap_alloc(heap, SIZE);
    cr_assert_not_null(ptr);
    memset(ptr, 1, SIZE);
    char *second_page = chunk_start(ptr) + PAGE_BYTES;
    cr_assert_eq(resident_pages(second_page, 64), 64);
    zk__heap_free(NULL, ptr);
    cr_assert_eq(resident_pages(second_page, 64), 0);
    cr_assert_eq(live_objects(heap), 0);
    zk__heap_free(heap, zk__heap_alloc(heap, SIZE)); /* takes the mapping back, too */
    cr_assert_eq(chunk_bytes(heap), 0);
    zk__heap_free_all(heap);
}

enum { THREADS = 3, EXCHANGE_SLOTS = 64, EXCHANGE_STEPS = 30000 };
static _Atomic(uint32_t *) exchange_slots[EXCHANGE_SLOTS];
static zk__heap *exchange_heaps[THREADS];
static atomic_int exchange_errors;

/* Puts objects into slots that all threads share; frees, and checks, what it finds there. */
static void *exchange(void *arg)
{
    size_t self = (size_t)(uintptr_t)arg;
    uint64_t seed = self + 1;
    for (int i = 0; i < EXCHANGE_STEPS; i++) {
        uint32_t words = random_next(&seed) % (i % 1000 ? 100 : 30000) + 2;
        uint32_t *ptr = zk__heap_alloc(exchange_heaps[self], words * sizeof *ptr);
        if (ptr) {
            ptr[0] = words;
            ptr[words - 1] = words;
        }
        _Atomic(uint32_t *) *slot = &exchange_slots[random_next(&seed) % EXCHANGE_SLOTS];
        uint32_t *found = atomic_exchange(slot, ptr);
        if (!ptr || (found && found[found[0] - 1] != found[0])) exchange_errors++;
        zk__heap_free(i % 7 ? exchange_heaps[self] : NULL, found);
    }
    return NULL;
}

ZK_TEST(slab, threads_may_free_each_others_objects)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        exchange_heaps[i] = heap_new(NULL);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, exchange, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(exchange_errors, 0);
    for (size_t i = 0; i < EXCHANGE_SLOTS; i++)
        zk__heap_free(NULL, exchange_slots[i]);
    for (size_t i = 0; i < THREADS; i++) {
        cr_assert_eq(live_objects(exchange_heaps[i]), 0, "heap %zu", i);
        zk__heap_trim(exchange_heaps[i]);
        cr_assert_eq(chunk_bytes(exchange_heaps[i]), 0, "heap %zu", i);
    }
    for (size_t i = 0; i < THREADS; i++)
        zk__heap_free_all(exchange_heaps[i]);
}

/* An allocator that can fail and keeps the balance. */
typedef struct counting {
    int calls_until_failure; /* -1 for never */
    size_t bytes, objects;
} counting;

static void *counting_alloc(void *context, size_t size)
{
    counting *count = context;
    if (count->calls_until_failure == 0) return NULL;
    if (count->calls_until_failure > 0) count->calls_until_failure--;
    count->bytes += size;
    count->objects++;
    return malloc(size);
}

static void counting_free(void *context, void *ptr, size_t size)
{
    counting *count = context;
    count->bytes -= size;
    count->objects--;
    free(ptr);
}

ZK_TEST(slab, a_plugged_allocator_gets_each_call)
{
    counting count = {.calls_until_failure = -1};
    zk__heap *heap = heap_new(&(zk_allocator){counting_alloc, counting_free, &count});
    static const size_t sizes[] = {0, 1, 64, 300, 8192, 8193, 1 << 20};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    void *ptrs[SIZES];
    size_t bytes = 0;
    for (size_t i = 0; i < SIZES; i++) {
        ptrs[i] = zk__heap_alloc(heap, sizes[i]);
        cr_assert(ptrs[i] && (uintptr_t)ptrs[i] % 16 == 0, "row %zu", i);
        memset(ptrs[i], 1, sizes[i]);
        bytes += sizes[i];
        cr_assert(count.objects == i + 1 && count.bytes >= bytes, "row %zu", i);
        cr_assert_eq(live_objects(heap), i + 1, "row %zu", i);
    }
    for (size_t i = 0; i < SIZES; i++) {
        if (i % 2)
            zk__heap_free_sized(heap, ptrs[i], sizes[i]);
        else
            zk__heap_free(i % 4 ? NULL : heap, ptrs[i]);
        cr_assert_eq(count.objects, SIZES - 1 - i, "row %zu", i);
    }
    cr_assert_eq(count.bytes, 0);
    zk__heap_free_all(heap);
}

ZK_TEST(slab, a_failing_allocator_leaves_the_heap_intact)
{
    enum { ALLOCS = 20 };
    for (int failing = 0; failing <= ALLOCS; failing++) {
        counting count = {.calls_until_failure = failing};
        zk__heap *heap = heap_new(&(zk_allocator){counting_alloc, counting_free, &count});
        void *ptrs[ALLOCS];
        for (int i = 0; i < ALLOCS; i++) {
            ptrs[i] = zk__heap_alloc(heap, (size_t)i * 700);
            cr_assert_eq(ptrs[i] != NULL, i < failing, "failing from %d: call %d", failing, i);
        }
        cr_assert_eq(live_objects(heap), (size_t)failing);
        for (int i = 0; i < ALLOCS; i++)
            zk__heap_free(heap, ptrs[i]);
        cr_assert(count.objects == 0 && count.bytes == 0, "failing from %d", failing);
        zk__heap_free_all(heap);
    }
}

ZK_TEST(slab, heaps_of_two_kinds_do_not_exist_at_once)
{
    counting count = {.calls_until_failure = -1};
    zk_allocator allocator = {counting_alloc, counting_free, &count};
    zk__heap *plugged = heap_new(&allocator), *second = heap_new(&allocator);
    bool is_sanitized = true;
    zk__heap *builtin = zk__heap_new(NULL);
    if (builtin)
        zk__heap_free_all(builtin); /* passes through as well */
    else
        is_sanitized = false;
    zk__heap_free_all(plugged);
    zk__heap_free_all(second);

    builtin = heap_new(NULL);
    cr_assert_eq(builtin->is_pass_through, is_sanitized);
    zk__heap *refused = zk__heap_new(&allocator);
    cr_assert_eq(refused != NULL, is_sanitized);
    zk__heap_free_all(refused);
    zk__heap_free_all(builtin);
}

static size_t address_space_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return pages * PAGE_BYTES;
}

/* Takes objects until there is no memory. Returns how many; they are a list. */
static size_t exhaust(zk__heap *heap, size_t size, void **ret_list)
{
    void *list = NULL, *ptr;
    size_t count = 0;
    while ((ptr = zk__heap_alloc(heap, size))) {
        *(void **)ptr = list;
        list = ptr;
        count++;
    }
    *ret_list = list;
    return count;
}

/* In a child of its own, which can do little more without memory. Returns the exit status. */
static int run_out_of_memory(zk__heap *heap, size_t size)
{
    enum { SPARE_BYTES = 8 << 20 };
    size_t limit = address_space_bytes() + SPARE_BYTES;
    if (setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit})) return 1;
    size_t counts[2];
    for (int round = 0; round < 2; round++) {
        void *list;
        counts[round] = exhaust(heap, size, &list);
        if (live_objects(heap) != counts[round]) return 2;
        while (list) {
            void *next = *(void **)list;
            zk__heap_free(heap, list);
            list = next;
        }
        if (live_objects(heap) != 0) return 3;
        zk__heap_trim(heap);
        if (chunk_bytes(heap) != 0) return 4;
    }
    if (counts[0] * size < SPARE_BYTES / 5 || counts[1] < counts[0]) return 5;
    while (mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        continue;
    return zk__heap_new(NULL) ? 6 : 0;
}

ZK_TEST(slab, running_out_of_memory_leaves_the_heap_intact)
{
    static const size_t sizes[] = {16, 64, 320, 8192, 20000, 100000};
    zk__heap *heap = heap_new(NULL);
    if (heap->is_pass_through) return;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        pid_t child = fork();
        cr_assert_neq(child, -1);
        if (child == 0) _exit(run_out_of_memory(heap, sizes[i]));
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "size %zu: status %#x", sizes[i],
                  (unsigned)status);
    }
    zk__heap_free_all(heap);
}
