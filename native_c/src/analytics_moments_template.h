/*
 * analytics_moments_template.h - moments of one block of at most MOMENTS_BLOCK values; no
 * parameters.
 *
 * Two passes: sum and extremes, then sums of the powers of the distance from the block's mean. Both
 * keep MOMENTS_LANES sums, value i in lane i % MOMENTS_LANES, and add the lanes in one fixed order,
 * so every instruction set does the same additions and gets the same bits. Where the registers
 * cannot hold all lanes, a pass goes over the block (it is in the first-level cache) once for each
 * group of lanes. The second pass is bound by arithmetic, nine operations a value, not by memory.
 */

#if NC_LEVEL_AVX512
#  define MOMENTS_WIDTH 8
#  define MOMENTS_LEAST(a, b) (NC_NAME(lanes)) _mm512_min_pd((__m512d)(a), (__m512d)(b))
#  define MOMENTS_MOST(a, b) (NC_NAME(lanes)) _mm512_max_pd((__m512d)(a), (__m512d)(b))
#elif NC_LEVEL_AVX2
#  define MOMENTS_WIDTH 4
#  define MOMENTS_LEAST(a, b) (NC_NAME(lanes)) _mm256_min_pd((__m256d)(a), (__m256d)(b))
#  define MOMENTS_MOST(a, b) (NC_NAME(lanes)) _mm256_max_pd((__m256d)(a), (__m256d)(b))
#elif NC_X86
#  define MOMENTS_WIDTH 2
#  define MOMENTS_LEAST(a, b) (NC_NAME(lanes)) _mm_min_pd((__m128d)(a), (__m128d)(b))
#  define MOMENTS_MOST(a, b) (NC_NAME(lanes)) _mm_max_pd((__m128d)(a), (__m128d)(b))
#else
#  define MOMENTS_WIDTH 2
#  define MOMENTS_PICK(mask, a, b)                                                                 \
    (NC_NAME(lanes))(((mask) & (NC_NAME(bits))(a)) | (~(mask) & (NC_NAME(bits))(b)))
#  define MOMENTS_LEAST(a, b) MOMENTS_PICK((a) < (b), a, b)
#  define MOMENTS_MOST(a, b) MOMENTS_PICK((a) > (b), a, b)
#endif
#define MOMENTS_VECTORS 2
#define MOMENTS_GROUP (MOMENTS_WIDTH * MOMENTS_VECTORS)

/* A register of doubles; read from any address of doubles. */
typedef double NC_NAME(lanes)
    __attribute__((vector_size(8 * MOMENTS_WIDTH), aligned(8), may_alias));
typedef int64_t NC_NAME(bits) __attribute__((vector_size(8 * MOMENTS_WIDTH)));

/*
 * Sums by lane, and extremes, of the first n values, a multiple of MOMENTS_LANES.
 *
 * A NaN is passed over by the extremes: the instructions answer their second operand then. Extremes
 * are exact, so that their order is free; they fill the time in which the sums wait for themselves.
 */
NC_TARGET static void NC_NAME(moments_sums)(const double *values, int64_t n, double scale,
                                            double *sums, double *least, double *most) {
    NC_NAME(lanes) low[MOMENTS_VECTORS], high[MOMENTS_VECTORS];
    for (int k = 0; k < MOMENTS_VECTORS; k++) {
        low[k] = (NC_NAME(lanes)){0} + (double)INFINITY;
        high[k] = -low[k];
    }
    for (int group = 0; group < MOMENTS_LANES; group += MOMENTS_GROUP) {
        NC_NAME(lanes) sum[MOMENTS_VECTORS] = {{0}};
        for (int64_t first = 0; first < n; first += MOMENTS_RUN) {
            int64_t end = n - first < MOMENTS_RUN ? n : first + MOMENTS_RUN;
            NC_NAME(lanes) run[MOMENTS_VECTORS] = {{0}};
            for (int64_t i = first + group; i < end; i += MOMENTS_LANES)
                for (int k = 0; k < MOMENTS_VECTORS; k++) {
                    NC_NAME(lanes) x = *(const NC_NAME(lanes) *)(values + i + MOMENTS_WIDTH * k);
                    run[k] += x * scale;
                    low[k] = MOMENTS_LEAST(x, low[k]);
                    high[k] = MOMENTS_MOST(x, high[k]);
                }
            for (int k = 0; k < MOMENTS_VECTORS; k++)
                sum[k] += run[k];
        }
        memcpy(sums + group, sum, sizeof sum);
    }
    low[0] = MOMENTS_LEAST(low[0], low[1]);
    high[0] = MOMENTS_MOST(high[0], high[1]);
    for (int l = 0; l < MOMENTS_WIDTH; l++) {
        *least = low[0][l] < *least ? low[0][l] : *least;
        *most = high[0][l] > *most ? high[0][l] : *most;
    }
}

/* Sums of the powers 1 to 4 of the distance from `centre`; of the first, which moves the mean, by
 * runs. */
NC_TARGET static void NC_NAME(moments_powers)(const double *values, int64_t n, double scale,
                                              double centre, double sums[4][MOMENTS_LANES]) {
    for (int group = 0; group < MOMENTS_LANES; group += MOMENTS_GROUP) {
        NC_NAME(lanes) power[4][MOMENTS_VECTORS] = {{{0}}};
        for (int64_t first = 0; first < n; first += MOMENTS_RUN) {
            int64_t end = n - first < MOMENTS_RUN ? n : first + MOMENTS_RUN;
            NC_NAME(lanes) run[MOMENTS_VECTORS] = {{0}};
            for (int64_t i = first + group; i < end; i += MOMENTS_LANES)
                for (int k = 0; k < MOMENTS_VECTORS; k++) {
                    NC_NAME(lanes) x = *(const NC_NAME(lanes) *)(values + i + MOMENTS_WIDTH * k);
                    x = x * scale - centre;
                    NC_NAME(lanes) x2 = x * x;
                    run[k] += x;
                    power[1][k] += x2;
                    power[2][k] += x2 * x;
                    power[3][k] += x2 * x2;
                }
            for (int k = 0; k < MOMENTS_VECTORS; k++)
                power[0][k] += run[k];
        }
        for (int p = 0; p < 4; p++)
            memcpy(sums[p] + group, power[p], sizeof power[p]);
    }
}

NC_TARGET static void NC_NAME(moments_block)(const double *values, int64_t n, double scale,
                                             nc_moments *block) {
    double lanes[4][MOMENTS_LANES], sums[4];
    double least = (double)INFINITY, most = -(double)INFINITY;
    int64_t whole = n - n % MOMENTS_LANES;
    NC_NAME(moments_sums)(values, whole, scale, lanes[0], &least, &most);
    for (int64_t i = whole; i < n; i++) {
        lanes[0][i - whole] += values[i] * scale;
        least = values[i] < least ? values[i] : least;
        most = values[i] > most ? values[i] : most;
    }
    block->n = (double)n;
    block->sum = sum_of_lanes(lanes[0]);
    block->min = least * scale;
    block->max = most * scale;
    if (!isfinite(block->sum))
        count_specials(block, values, n);

    double centre = block->sum / block->n;
    NC_NAME(moments_powers)(values, whole, scale, centre, lanes);
    for (int64_t i = whole; i < n; i++) {
        double x = values[i] * scale - centre, x2 = x * x;
        lanes[0][i - whole] += x;
        lanes[1][i - whole] += x2;
        lanes[2][i - whole] += x2 * x;
        lanes[3][i - whole] += x2 * x2;
    }
    for (int p = 0; p < 4; p++)
        sums[p] = sum_of_lanes(lanes[p]);
    centre_block(block, centre, sums);
}

#undef MOMENTS_WIDTH
#undef MOMENTS_VECTORS
#undef MOMENTS_LEAST
#undef MOMENTS_MOST
#undef MOMENTS_PICK
#undef MOMENTS_GROUP
