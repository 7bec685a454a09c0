/* test_pool.c - every chunk runs once, whoever calls, from wherever, however many threads there
 * are. */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core.h"
#include "pool.h"

#define MAX_CHUNKS 500
#define CALLERS 4

typedef struct {
    atomic_int runs[MAX_CHUNKS];
    int nested;
} tally;

static void count_chunk(void *ctx, int64_t chunk) {
    tally *counts = ctx;
    atomic_fetch_add(&counts->runs[chunk], 1);
    if (counts->nested) {
        tally inner = {.nested = 0};
        nc_pool_run(3, count_chunk, &inner);
        CHECK(inner.runs[0] == 1 && inner.runs[1] == 1 && inner.runs[2] == 1);
    }
}

static void check_run(int64_t n_chunks, int nested) {
    tally counts = {.nested = nested};
    nc_pool_run(n_chunks, count_chunk, &counts);
    for (int64_t chunk = 0; chunk < MAX_CHUNKS; chunk++)
        CHECK(counts.runs[chunk] == (chunk < n_chunks));
}

static void every_chunk_runs_once(void) {
    for (int threads = 1; threads <= 7; threads++) {
        CHECK(nc_set_threads(threads) == NC_OK);
        CHECK(nc_get_threads() == threads);
        for (int64_t n_chunks = 0; n_chunks <= MAX_CHUNKS; n_chunks += n_chunks < 9 ? 1 : 97) {
            check_run(n_chunks, 0);
            int64_t expected = n_chunks < threads ? n_chunks : threads;
            CHECK(nc_threads_used() == (expected < 1 ? 1 : expected));
        }
    }
}

static void a_limit_out_of_range_is_refused(void) {
    CHECK(nc_set_threads(3) == NC_OK);
    CHECK(nc_set_threads(0) == NC_INVALID);
    CHECK(nc_set_threads(-1) == NC_INVALID);
    CHECK(nc_set_threads(257) == NC_INVALID);
    CHECK(nc_get_threads() == 3);
}

static void check_inner_is_inline(void *ctx, int64_t chunk) {
    (void)chunk;
    nc_pool_run(3, count_chunk, ctx);
    CHECK(nc_threads_used() == 1);
}

static void a_call_within_a_call_runs_inline(void) {
    CHECK(nc_set_threads(4) == NC_OK);
    tally counts = {.nested = 0};
    nc_pool_run(50, check_inner_is_inline, &counts);
    CHECK(nc_threads_used() == 4);
    CHECK(counts.runs[0] == 50 && counts.runs[1] == 50 && counts.runs[2] == 50);
    check_run(50, 1);
}

static void *call_often(void *unused) {
    for (int i = 0; i < 100; i++)
        check_run(1 + i % 60, i % 10 == 0);
    return unused;
}

static void callers_do_not_wait_for_one_another(void) {
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        CHECK(pthread_create(&callers[i], NULL, call_often, NULL) == 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
}

static void stopped_threads_start_again(void) {
    for (int i = 0; i < 5; i++) {
        nc_stop_threads();
        check_run(100, 0);
    }
    nc_stop_threads();
    nc_stop_threads();
}

static atomic_int calling;

static void *call_until_told(void *unused) {
    while (atomic_load(&calling))
        check_run(20, 0);
    return unused;
}

static void start_callers(pthread_t *callers) {
    atomic_store(&calling, 1);
    for (int i = 0; i < CALLERS; i++)
        CHECK(pthread_create(&callers[i], NULL, call_until_told, NULL) == 0);
}

static void end_callers(pthread_t *callers) {
    atomic_store(&calling, 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
}

static void threads_can_be_stopped_while_others_call(void) {
    pthread_t callers[CALLERS];
    start_callers(callers);
    for (int i = 0; i < 50; i++) {
        nc_stop_threads();
        check_run(20, 0);
    }
    end_callers(callers);
    nc_stop_threads();
}

static void the_limit_can_change_while_others_call(void) {
    pthread_t callers[CALLERS];
    start_callers(callers);
    for (int i = 0; i < 200; i++) {
        CHECK(nc_set_threads(1 + i % 7) == NC_OK);
        check_run(20, 0);
    }
    end_callers(callers);
    CHECK(nc_set_threads(4) == NC_OK);
}

static void sleeping_threads_wake_up(void) {
    for (int i = 0; i < 5; i++) {
        usleep(2000);
        check_run(100, 0);
    }
}

/* Fork; the child runs jobs on threads of its own and ends, and so does the parent. */
static void check_fork(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_run(100, 0);
        int used = nc_threads_used();
        nc_stop_threads();
        check_run(100, 0);
        _exit(used == 4 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_run(100, 0);
}

static void a_child_of_one_thread_has_threads_of_its_own(void) {
    nc_stop_threads();
    check_fork();
}

static void a_child_of_many_threads_has_threads_of_its_own(void) {
    check_run(100, 0);
    for (int i = 0; i < 3; i++)
        check_fork();
}

/* The child finds the pool as a call in its middle left it: locks held, chunks half done. */
static void a_fork_in_the_middle_of_calls_does_no_harm(void) {
    pthread_t callers[CALLERS];
    start_callers(callers);
    for (int i = 0; i < 20; i++)
        check_fork();
    end_callers(callers);
}

/* Fork; the child ends as programs do, by exit(), while threads sleep, spin and work. */
static void a_program_may_end_while_its_threads_work(void) {
    nc_stop_threads();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_t callers[CALLERS];
        check_run(100, 0);
        start_callers(callers);
        usleep(2000);
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check_mask(void *ctx, int64_t chunk) {
    sigset_t mask;
    (void)chunk;
    usleep(1000); /* so that others get chunks, too */
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (!pthread_equal(pthread_self(), *(pthread_t *)ctx))
        CHECK(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT));
    else
        CHECK(!sigismember(&mask, SIGTERM));
}

static void signals_are_left_to_the_program(void) {
    pthread_t caller = pthread_self();
    nc_pool_run(20, check_mask, &caller);
}

int main(void) {
    every_chunk_runs_once();
    a_limit_out_of_range_is_refused();
    a_call_within_a_call_runs_inline();
    callers_do_not_wait_for_one_another();
    stopped_threads_start_again();
    sleeping_threads_wake_up();
    threads_can_be_stopped_while_others_call();
    the_limit_can_change_while_others_call();
    a_child_of_one_thread_has_threads_of_its_own();
    if (!CHILDREN_MAY_NOT_START_THREADS) {
        a_child_of_many_threads_has_threads_of_its_own();
        a_fork_in_the_middle_of_calls_does_no_harm();
    }
    a_program_may_end_while_its_threads_work();
    signals_are_left_to_the_program();
    nc_stop_threads();
    return 0;
}
