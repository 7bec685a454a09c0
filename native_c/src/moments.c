/* moments.c - blocks of moments on every instruction set, and their combination. */
#include <math.h>
#include <string.h>

#include "dispatch.h"
#include "moments.h"
#include "pool.h"

#if NC_X86
#  include <immintrin.h>
#endif

/* Sums that a block keeps side by side: two of the widest registers hide the time of an addition.
 */
#define MOMENTS_LANES 16
/* Values of a run, whose sums are added up: short runs lose less to rounding than a long one. */
#define MOMENTS_RUN 512
/*
 * Values per block, 32 KB: its second pass reads them from the first-level cache. Larger ones would
 * leave it, smaller ones are combined more often (2,048 took 21 us for 100,000 values, not 18).
 */
#define MOMENTS_BLOCK 4096
/* Values per chunk of the pool, a whole number of blocks: about 8 us of work. */
#define MOMENTS_GRAIN (8 * MOMENTS_BLOCK)
/* Chunks at most, so that their parts fit on the stack: longer series have longer chunks. */
#define MOMENTS_CHUNKS 256

static const nc_moments EMPTY = {.min = (double)INFINITY, .max = -(double)INFINITY};

/* a + b as a rounded sum and its error (Knuth, TAOCP 2, 4.2.2). */
static inline double two_sum(double a, double b, double *error) {
    double sum = a + b, shadow = sum - a;
    *error = (a - (sum - shadow)) + (b - shadow);
    return sum;
}

/* Sum of all lanes, halves upon halves: the one order of every instruction set. */
static inline double sum_of_lanes(double *lanes) {
    for (int n = MOMENTS_LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

static void count_specials(nc_moments *block, const double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        block->missing += isnan(values[i]) != 0;
        block->infinite += isinf(values[i]) != 0;
    }
}

/*
 * The moments of a block from the power sums s[0..3] of its distances from `centre`.
 *
 * The centre is the block's rounded mean, so s[0] is as small as rounding, and the shift to the
 * true mean takes nothing away from the digits of the others.
 */
static void centre_block(nc_moments *block, double centre, const double *s) {
    double shift = s[0] / block->n;
    block->mean = two_sum(centre, shift, &block->mean_low);
    block->m2 = s[1] - shift * s[0];
    block->m3 = s[2] - 3 * shift * s[1] + 2 * shift * shift * s[0];
    block->m4 =
        s[3] - 4 * shift * s[2] + 6 * shift * shift * s[1] - 3 * shift * shift * shift * s[0];
}

#define NC_TEMPLATE "analytics_moments_template.h"
#include "each_level.h"

/*
 * Add the moments of `b` to `a` (Pebay 2008, "Formulas for robust, one-pass parallel computation of
 * covariances and arbitrary-order statistical moments", equations 2.1, 3.1).
 */
static void combine(nc_moments *a, const nc_moments *b) {
    if (b->n == 0)
        return;
    if (a->n == 0) {
        *a = *b;
        return;
    }
    double na = a->n, nb = b->n, n = na + nb;
    double delta = (b->mean - a->mean) + (b->mean_low - a->mean_low);
    double step = delta / n, step2 = step * step, cross = delta * step * na * nb, low;
    a->m4 += b->m4 + cross * step2 * (na * na - na * nb + nb * nb) +
             6 * step2 * (na * na * b->m2 + nb * nb * a->m2) + 4 * step * (na * b->m3 - nb * a->m3);
    a->m3 += b->m3 + cross * step * (na - nb) + 3 * step * (na * b->m2 - nb * a->m2);
    a->m2 += b->m2 + cross;
    a->mean = two_sum(a->mean, step * nb, &low);
    a->mean = two_sum(a->mean, low + a->mean_low, &a->mean_low);
    a->sum = two_sum(a->sum, b->sum, &low);
    a->sum_low += low + b->sum_low;
    a->n = n;
    a->min = b->min < a->min ? b->min : a->min;
    a->max = b->max > a->max ? b->max : a->max;
    a->missing += b->missing;
    a->infinite += b->infinite;
}

typedef struct {
    const double *values;
    int64_t n, grain;
    double scale;
    nc_moments parts[MOMENTS_CHUNKS];
} moments_job;

static void moments_chunk(void *ctx, int64_t chunk) {
    static void (*const block_of[NC_SIMD_LEVELS])(const double *, int64_t, double, nc_moments *) =
        NC_LEVEL_TABLE(moments_block);
    moments_job *job = ctx;
    int level = nc_simd_level();
    int64_t first = chunk * job->grain;
    int64_t last = job->n - first < job->grain ? job->n : first + job->grain;
    nc_moments all = EMPTY;
    for (int64_t i = first; i < last; i += MOMENTS_BLOCK) {
        nc_moments block = EMPTY;
        block_of[level](job->values + i, last - i < MOMENTS_BLOCK ? last - i : MOMENTS_BLOCK,
                        job->scale, &block);
        combine(&all, &block);
    }
    job->parts[chunk] = all;
}

nc_moments nc_moments_of(const double *values, int64_t n, double scale) {
    moments_job job = {.values = values, .n = n, .grain = MOMENTS_GRAIN, .scale = scale};
    while (n > job.grain * MOMENTS_CHUNKS)
        job.grain *= 2;
    int64_t n_chunks = (n + job.grain - 1) / job.grain;
    nc_pool_run(n_chunks, moments_chunk, &job);
    nc_moments all = EMPTY;
    for (int64_t i = 0; i < n_chunks; i++)
        combine(&all, &job.parts[i]);
    return all;
}
