/* fusion_strength.c - how the strength of pairs decays with time. */
#include "elementary.h"
#include "fusion.h"
#include "pool.h"

/* Pairs of one chunk of the pool: about 200 us. */
#define STRENGTH_GRAIN 16384

typedef struct {
    int64_t n;
    const int32_t *first, *second;
    const float *similarity;
    const int64_t *timestamps;
    double time_scale;
    float *strength;
} strength_job;

static void strength_chunk(void *ctx, int64_t chunk) {
    const strength_job *job = ctx;
    int64_t first = chunk * STRENGTH_GRAIN;
    int64_t end = job->n - first < STRENGTH_GRAIN ? job->n : first + STRENGTH_GRAIN;
    for (int64_t p = first; p < end; p++) {
        int64_t a = job->timestamps[job->first[p]], b = job->timestamps[job->second[p]];
        /* Unsigned, because the distance of two int64 may need 64 bits. */
        uint64_t apart = a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
        double decay = nc_exp(-((double)apart / job->time_scale));
        job->strength[p] = (float)((double)job->similarity[p] * decay);
    }
}

int nc_fusion_strength(int64_t n, const int32_t *first, const int32_t *second,
                       const float *similarity, const int64_t *timestamps, double time_scale,
                       float *strength) {
    if (n < 0 || !(time_scale > 0))
        return NC_INVALID;
    strength_job job = {n, first, second, similarity, timestamps, time_scale, strength};
    /* Past the pool when that would not spread it: the discovery's threads remain the last ones. */
    if (n <= STRENGTH_GRAIN)
        strength_chunk(&job, 0);
    else
        nc_pool_run((n + STRENGTH_GRAIN - 1) / STRENGTH_GRAIN, strength_chunk, &job);
    return NC_OK;
}
