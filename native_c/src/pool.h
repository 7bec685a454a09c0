/* pool.h - spreads the chunks of one call over threads. */
#ifndef NC_POOL_H
#define NC_POOL_H

#include <stdint.h>

/* Work on chunk number `chunk`; called once for each chunk, on any thread, in any order. */
typedef void (*nc_chunk_fn)(void *ctx, int64_t chunk);

/*
 * Call fn(ctx, 0), ..., fn(ctx, n_chunks - 1) and return when all have returned.
 *
 * Every kernel goes through here, also one with a single chunk, so that nc_threads_used() tells of
 * the last call. One chunk runs inline on the caller, and so does everything while the pool is
 * busy with another thread's call or with an outer call of this thread: a kernel never waits for
 * another. So that bits do not depend on threads, cut chunks by the size of the problem alone,
 * and combine partial results in the order of the chunks. A chunk should take 20 us or more:
 * waking a sleeping thread costs about that.
 */
void nc_pool_run(int64_t n_chunks, nc_chunk_fn fn, void *ctx);

#endif
