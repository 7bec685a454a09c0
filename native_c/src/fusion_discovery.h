/* fusion_discovery.h - the state of one connection discovery, shared by its kernels. */
#ifndef NC_FUSION_DISCOVERY_H
#define NC_FUSION_DISCOVERY_H

#include <stdatomic.h>
#include <stdint.h>

#include "dispatch.h"

/*
 * Rows of a tile of similarities: 96 x 96 floats are 36 KB, and the two blocks of rows behind them,
 * 576 KB at d = 768, stay in a second-level cache of 1 MB. A multiple of every panel's width.
 */
#define TILE 96

/*
 * Terms that one float32 sum runs over before it joins the sum of sums. Short sums keep the error
 * of a similarity near 1e-7 (one running sum of 768 equal terms is off by 1e-5), and 64 terms of a
 * panel and of its partner fit the first-level cache.
 */
#define TERMS 64

/*
 * Sums that a similarity of a few rows keeps side by side: term k joins sum k % LANES_OF_FEW, which
 * runs over TERMS terms, and the sums are added halves upon halves. So it is the same on every
 * level that fuses multiplications and additions.
 */
#define LANES_OF_FEW 16

/* Terms of a row that are packed at a time: some cache lines of it, and of the panel. */
#define PACK_TERMS 64

/* The most tiles between two looks at the clock: enough for the threads of a large machine. */
#define WAVE 16

typedef struct nc_discovery nc_discovery;

/* The kernels of one instruction set. */
typedef struct {
    int64_t panel; /* rows of a full panel; the last one is narrower */
    int takes_few; /* whether the rows of a single tile are better not packed into panels */
    void (*pack)(const nc_discovery *, int64_t);
    int64_t (*find_pairs)(const nc_discovery *, int64_t, int64_t, int32_t *, int32_t *, float *);
    void (*find_nearest)(const nc_discovery *, int64_t, int64_t);
    float (*exact)(const nc_discovery *, int64_t, int64_t);
} nc_discovery_kernels;

struct nc_discovery {
    const float *embeddings;   /* [n, d] */
    const int32_t *modalities; /* [n], or NULL when all pairs are wanted */
    int64_t n, d, top_k;       /* top_k is 0 for every pair above the threshold */
    float threshold;
    float margin; /* no float32 sum is farther from its rounded exact similarity */
    const nc_discovery_kernels *kernels;

    double *norms;         /* [n] */
    float *panels;         /* normalised rows, panel by panel: [term][row of the panel] */
    int64_t stride;        /* 0, or that of normalised rows that lie in panels one by one */
    int64_t *row_starts;   /* [n + 1]: pairs of each row, then where each row's next pair goes */
    uint64_t *nearest;     /* [n, top_k] heaps of keys, the worst on top */
    uint64_t *worst;       /* [n]: the key on top of a full heap, else 0 */
    int32_t *held;         /* [n]: keys in each heap */
    _Atomic float *bounds; /* [n]: a float32 sum below this changes nothing at its node */
    atomic_flag *locks;    /* [n] */

    int64_t n_panels, panels_done;
    int64_t n_tiles, tiles_done;
    int64_t strip, tile_row, tile_column; /* of the next tile */
    int64_t lists_done;
};

NC_INLINE float bound_of(const nc_discovery *job, int64_t node) {
    return atomic_load_explicit(job->bounds + node, memory_order_relaxed);
}

#endif
