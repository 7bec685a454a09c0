/*
 * pool.c - the thread pool: lazy, forgotten after fork, and never in anyone's way.
 *
 * One job runs at a time. Its owner opens it by storing its number in `open_job`; workers that see
 * the number claim chunks from one counter until none is left, and so does the owner. A worker
 * counts itself in `n_inside` before it looks whether the job is still open, and the owner closes
 * the job before it looks whether anyone is inside: whichever comes first, no worker touches a job
 * after its owner returned. All these accesses are sequentially consistent, which that needs.
 *
 * Workers that find nothing spin for a short while (a kernel is often followed by another), then
 * sleep on `job_opened`. The owner spins likewise for the last chunks, then sleeps on `job_left`.
 */
#if !defined(_GNU_SOURCE)
#    define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core.h"
#include "pool.h"

#define MAX_THREADS 256
/* Pauses before a sleep: 27 us on a Zen 5, twice that on a Xeon, whose pause takes 140 cycles. A
   sleep and a wake-up cost about as much (32 us on average, measured on two cores), so spinning at
   most doubles the price of a miss. */
#define SPINS 1000

static pthread_mutex_t owner_lock = PTHREAD_MUTEX_INITIALIZER; /* held by the job's owner */
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER; /* guards both conditions */
static pthread_cond_t job_opened = PTHREAD_COND_INITIALIZER;   /* workers wait here */
static pthread_cond_t job_left = PTHREAD_COND_INITIALIZER;     /* the owner waits here */

static pthread_t workers[MAX_THREADS - 1];
static int n_workers; /* started so far; under owner_lock */
static atomic_int thread_limit;

static atomic_llong open_job; /* number of the open job, or 0 */
static atomic_int n_inside;   /* workers between joining a job and leaving it */
static atomic_int n_sleeping;
static atomic_int stopping;
static long long last_job; /* under owner_lock */

/* The job: written while nobody is inside, read by those who are. */
static nc_chunk_fn job_fn;
static void *job_ctx;
static int64_t job_chunks;
static int job_workers; /* workers numbered below this take part */
static atomic_llong next_chunk;

static _Thread_local int threads_used = 1;

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work_on_chunks(void) {
    for (;;) {
        int64_t chunk = atomic_fetch_add_explicit(&next_chunk, 1, memory_order_relaxed);
        if (chunk >= job_chunks)
            return;
        job_fn(job_ctx, chunk);
    }
}

/* Wait until a job other than `done` is open, and return its number; 0 when the pool stops. */
static long long wait_for_job(long long done) {
    for (int spin = 0; spin < SPINS && !atomic_load(&stopping); spin++) {
        long long job = atomic_load(&open_job);
        if (job != 0 && job != done)
            return job;
        pause_briefly();
    }
    long long job = 0;
    pthread_mutex_lock(&sleep_lock);
    atomic_fetch_add(&n_sleeping, 1);
    while (!atomic_load(&stopping)) {
        job = atomic_load(&open_job);
        if (job != 0 && job != done)
            break;
        job = 0;
        pthread_cond_wait(&job_opened, &sleep_lock);
    }
    atomic_fetch_sub(&n_sleeping, 1);
    pthread_mutex_unlock(&sleep_lock);
    return job;
}

static void leave_job(void) {
    if (atomic_fetch_sub(&n_inside, 1) != 1)
        return;
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_signal(&job_left);
    pthread_mutex_unlock(&sleep_lock);
}

static void *worker_main(void *number) {
    long long job = 0;
    while ((job = wait_for_job(job)) != 0) {
        atomic_fetch_add(&n_inside, 1);
        if (atomic_load(&open_job) == job && (int)(intptr_t)number < job_workers)
            work_on_chunks();
        leave_job();
    }
    return NULL;
}

/* In the child of a fork only the forking thread lives: start from nothing. */
static void forget_threads(void) {
    owner_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    sleep_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    job_opened = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    job_left = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    n_workers = 0;
    atomic_store(&open_job, 0);
    atomic_store(&n_inside, 0);
    atomic_store(&n_sleeping, 0);
    atomic_store(&stopping, 0);
}

static int forks_are_safe; /* whether a forked child forgets the threads that it does not have */

static void register_fork_handler(void) {
    forks_are_safe = pthread_atfork(NULL, NULL, forget_threads) == 0;
}

/* Have `wanted` workers if the system allows, and return how many there are, at most `wanted`. */
static int start_workers(int wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    if (!forks_are_safe)
        return 0;
    if (n_workers >= wanted)
        return wanted;
    /* Threads inherit the mask: signals are for the threads of the program, never for these. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n_workers < wanted &&
           pthread_create(&workers[n_workers], NULL, worker_main, (void *)(intptr_t)n_workers) == 0)
        n_workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n_workers < wanted ? n_workers : wanted;
}

static void open_to_workers(void) {
    atomic_store(&open_job, ++last_job);
    if (atomic_load(&n_sleeping) > 0) {
        pthread_mutex_lock(&sleep_lock);
        pthread_cond_broadcast(&job_opened);
        pthread_mutex_unlock(&sleep_lock);
    }
}

static void close_to_workers(void) {
    atomic_store(&open_job, 0);
    for (int spin = 0; spin < SPINS && atomic_load(&n_inside) != 0; spin++)
        pause_briefly();
    if (atomic_load(&n_inside) == 0)
        return;
    pthread_mutex_lock(&sleep_lock);
    while (atomic_load(&n_inside) != 0)
        pthread_cond_wait(&job_left, &sleep_lock);
    pthread_mutex_unlock(&sleep_lock);
}

static void run_inline(int64_t n_chunks, nc_chunk_fn fn, void *ctx) {
    for (int64_t chunk = 0; chunk < n_chunks; chunk++)
        fn(ctx, chunk);
    threads_used = 1; /* last, because fn may have run an inner call */
}

void nc_pool_run(int64_t n_chunks, nc_chunk_fn fn, void *ctx) {
    int threads = nc_get_threads();
    if (threads > n_chunks)
        threads = (int)n_chunks;
    if (threads <= 1 || pthread_mutex_trylock(&owner_lock) != 0) {
        run_inline(n_chunks, fn, ctx);
        return;
    }
    job_fn = fn;
    job_ctx = ctx;
    job_chunks = n_chunks;
    job_workers = start_workers(threads - 1);
    atomic_store(&next_chunk, 0);
    threads = job_workers + 1;
    open_to_workers();
    work_on_chunks();
    close_to_workers();
    pthread_mutex_unlock(&owner_lock);
    threads_used = threads;
}

static int count_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int nc_get_threads(void) {
    int limit = atomic_load_explicit(&thread_limit, memory_order_relaxed);
    if (limit == 0) {
        int found = count_processors();
        found = found < 1 ? 1 : found > MAX_THREADS ? MAX_THREADS : found;
        atomic_compare_exchange_strong(&thread_limit, &limit, found);
        limit = atomic_load(&thread_limit);
    }
    return limit;
}

int nc_set_threads(int n_threads) {
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return NC_INVALID;
    atomic_store(&thread_limit, n_threads);
    return NC_OK;
}

int nc_threads_used(void) {
    return threads_used;
}

void nc_stop_threads(void) {
    pthread_mutex_lock(&owner_lock);
    atomic_store(&stopping, 1);
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&job_opened);
    pthread_mutex_unlock(&sleep_lock);
    while (n_workers > 0)
        pthread_join(workers[--n_workers], NULL);
    atomic_store(&stopping, 0);
    pthread_mutex_unlock(&owner_lock);
}
