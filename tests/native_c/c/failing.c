/* failing.c - what stands in for the C library's functions: see failing.h. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "failing.h"

static struct {
    atomic_llong calls;
    int64_t first, last;
} kinds[FAILING_KINDS];

static atomic_llong n_blocks;

void failing_set(enum failing_kind kind, int64_t first, int64_t last) {
    kinds[kind].first = first;
    kinds[kind].last = last;
    atomic_store(&kinds[kind].calls, 0);
}

int64_t failing_calls(enum failing_kind kind) {
    return atomic_load(&kinds[kind].calls);
}

int64_t failing_blocks(void) {
    return atomic_load(&n_blocks);
}

static int fails(enum failing_kind kind) {
    int64_t call = atomic_fetch_add(&kinds[kind].calls, 1) + 1;
    return kinds[kind].first > 0 && call >= kinds[kind].first && call <= kinds[kind].last;
}

/* Count the block that an allocation gave, if it gave one. */
static void *counted(void *block) {
    if (block)
        atomic_fetch_add(&n_blocks, 1);
    return block;
}

static void *out_of_memory(void) {
    errno = ENOMEM;
    return NULL;
}

/* The names are the linker's. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *block);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __real_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

void *__wrap_malloc(size_t size) {
    return fails(FAILING_MEMORY) ? out_of_memory() : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails(FAILING_MEMORY) ? out_of_memory() : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size) {
    if (fails(FAILING_MEMORY))
        return out_of_memory();
    void *moved = __real_realloc(block, size);
    return block ? moved : counted(moved);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return fails(FAILING_MEMORY) ? out_of_memory() : counted(__real_aligned_alloc(alignment, size));
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size) {
    if (fails(FAILING_MEMORY))
        return ENOMEM;
    int error = __real_posix_memalign(block, alignment, size);
    if (error == 0)
        counted(*block);
    return error;
}

void __wrap_free(void *block) {
    if (block)
        atomic_fetch_sub(&n_blocks, 1);
    __real_free(block);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
    if (fails(FAILING_THREADS))
        return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}

int __wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    if (fails(FAILING_FORK_HANDLERS))
        return ENOMEM;
    return __real_pthread_atfork(prepare, parent, child);
}
