/*
 * test_bounds.c - no kernel touches a byte beside its arrays, at sizes around those of vectors,
 * tiles and blocks, on every level; and what it answers depends on neither the place of its arrays
 * nor, where the headers say so, the level.
 */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "check.h"
#include "core.h"

static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 2047, 2048, 2049};

static const int threads[] = {2, 3, 7};

static void check_size(const kernel_case *one, int64_t n) {
    uint64_t digests[2] = {0};
    int known[2] = {0};
    ON_EACH_LEVEL for (int side = 0; side < GUARD_SIDES; side++) {
        uint64_t digest = case_digest(one, n, (enum guard_side)side);
        int kind = one->fused && case_level_is_fused();
        if (known[kind])
            case_check_digest(digest, digests[kind]);
        digests[kind] = digest;
        known[kind] = 1;
    }
}

static void every_kernel_stays_within_its_arrays(void) {
    for (const kernel_case *one = case_first(); one; one = one->next) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            check_size(one, sizes[s]);
        for (int64_t n = one->block - 1; one->block && n <= one->block + 1; n++)
            check_size(one, n);
    }
}

static void no_thread_leaves_its_chunks(void) {
    for (const kernel_case *one = case_first(); one; one = one->next)
        if (one->pooled)
            ON_EACH_LEVEL {
                CHECK(nc_set_threads(1) == NC_OK);
                uint64_t digest = case_digest(one, one->pooled, GUARD_AFTER);
                for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                    CHECK(nc_set_threads(threads[t]) == NC_OK);
                    case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
                    CHECK(nc_threads_used() > 1);
                }
            }
}

#define WAS_STOPPED 3

static void leave(int signal_number) {
    (void)signal_number;
    _exit(WAS_STOPPED);
}

/* Whether a child is stopped that reads or writes at a place of guarded memory of 100 bytes. */
static int is_stopped(enum guard_side side, int64_t place, int writes) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, leave);
        signal(SIGBUS, leave);
        guarded memory = guard_make(100, side);
        if (writes)
            guard_forbid_writing(&memory);
        volatile char *at = memory.data + place;
        if (writes)
            *at = 1;
        else
            (void)*at;
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status) == WAS_STOPPED;
}

static void the_guards_are_awake(void) {
    CHECK(!is_stopped(GUARD_AFTER, 0, 0) && !is_stopped(GUARD_AFTER, 99, 0));
    CHECK(!is_stopped(GUARD_BEFORE, 0, 0) && !is_stopped(GUARD_BEFORE, 99, 0));
    CHECK(is_stopped(GUARD_AFTER, 100, 0) && is_stopped(GUARD_BEFORE, -1, 0));
    CHECK(is_stopped(GUARD_AFTER, 0, 1) && is_stopped(GUARD_BEFORE, 99, 1));
}

int main(void) {
    the_guards_are_awake();
    every_kernel_stays_within_its_arrays();
    no_thread_leaves_its_chunks();
    nc_stop_threads();
    return 0;
}
