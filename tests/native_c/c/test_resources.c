/*
 * test_resources.c - no kernel keeps memory or threads, and each bears that there is none: without
 * memory it says so, with fewer threads it gives the same bits.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "check.h"
#include "core.h"
#include "failing.h"

#define CALLS 1000
#define POOLED_CALLS 20
#define THREADS 7

/* A size at which a call takes some microseconds, and one that every kernel accepts. */
#define SMALL 33

static void a_thousand_calls_keep_nothing(void) {
    CHECK(nc_set_threads(3) == NC_OK);
    for (const kernel_case *one = case_first(); one; one = one->next) {
        uint64_t digest = case_digest(one, SMALL, GUARD_AFTER);
        int64_t blocks = failing_blocks();
        failing_set(FAILING_THREADS, 0, 0);
        for (int call = 0; call < CALLS; call++)
            case_check_digest(case_digest(one, SMALL, GUARD_AFTER), digest);
        CHECK(failing_blocks() == blocks);
        CHECK(failing_calls(FAILING_THREADS) == 0);
    }
}

static void threads_are_started_once_and_kept(void) {
    for (const kernel_case *one = case_first(); one; one = one->next) {
        if (!one->pooled)
            continue;
        uint64_t digest = case_digest(one, one->pooled, GUARD_AFTER);
        int64_t blocks = failing_blocks();
        failing_set(FAILING_THREADS, 0, 0);
        for (int call = 0; call < POOLED_CALLS; call++)
            case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
        CHECK(failing_blocks() == blocks);
        CHECK(failing_calls(FAILING_THREADS) == 0);
    }
}

/* Make allocations from the n-th to the last-th fail; whether the call got as far as the n-th. */
static int call_without_memory(const kernel_case *one, int64_t size, int64_t n, int64_t last,
                               uint64_t expected) {
    uint64_t digest;
    int64_t blocks = failing_blocks();
    failing_set(FAILING_MEMORY, n, last);
    int status = case_call(one, size, GUARD_AFTER, &digest);
    int reached = failing_calls(FAILING_MEMORY) >= n;
    failing_set(FAILING_MEMORY, 0, 0);
    CHECK(status == (reached ? NC_NO_MEMORY : NC_OK));
    CHECK(failing_blocks() == blocks);
    case_check_digest(case_digest(one, size, GUARD_AFTER), expected);
    return reached;
}

/* Fail each allocation of a case alone, and with all that follow; return how many there are. */
static int64_t fail_each_allocation(const kernel_case *one, int64_t size) {
    uint64_t digest = case_digest(one, size, GUARD_AFTER);
    int64_t n = 1;
    while (call_without_memory(one, size, n, n, digest)) {
        call_without_memory(one, size, n, INT64_MAX, digest);
        n++;
    }
    return n - 1;
}

static void where_memory_ends_a_kernel_says_so_and_goes_on_later(void) {
    int64_t n_failed = 0;
    for (const kernel_case *one = case_first(); one; one = one->next) {
        n_failed += fail_each_allocation(one, SMALL);
        if (one->pooled)
            n_failed += fail_each_allocation(one, one->pooled);
    }
    CHECK(n_failed > 0);
}

static void where_threads_end_the_others_do_the_work(void) {
    for (const kernel_case *one = case_first(); one; one = one->next) {
        if (!one->pooled)
            continue;
        CHECK(nc_set_threads(THREADS) == NC_OK);
        uint64_t digest = case_digest(one, one->pooled, GUARD_AFTER);
        int used = nc_threads_used();
        for (int n = 1; n < THREADS; n++) {
            nc_stop_threads();
            failing_set(FAILING_THREADS, n, INT64_MAX);
            case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
            CHECK(nc_threads_used() == (n < used ? n : used));
            nc_stop_threads();
            failing_set(FAILING_THREADS, n, n); /* once: the next part of the call has threads */
            case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
            failing_set(FAILING_THREADS, 0, 0);
            case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
            CHECK(nc_threads_used() == used);
        }
    }
}

/* Without it a forked child would wait for threads that it does not have. In a child of this very
 * process, for handlers are registered once. */
static void without_a_fork_handler_there_are_no_threads(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const kernel_case *one = case_first();
        while (!one->pooled)
            one = one->next;
        CHECK(nc_set_threads(1) == NC_OK);
        uint64_t digest = case_digest(one, one->pooled, GUARD_AFTER);
        CHECK(nc_set_threads(THREADS) == NC_OK);
        failing_set(FAILING_FORK_HANDLERS, 1, INT64_MAX);
        failing_set(FAILING_THREADS, 0, 0);
        case_check_digest(case_digest(one, one->pooled, GUARD_AFTER), digest);
        _exit(nc_threads_used() == 1 && failing_calls(FAILING_THREADS) == 0 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    without_a_fork_handler_there_are_no_threads();
    a_thousand_calls_keep_nothing();
    threads_are_started_once_and_kept();
    where_memory_ends_a_kernel_says_so_and_goes_on_later();
    where_threads_end_the_others_do_the_work();
    nc_stop_threads();
    return 0;
}
