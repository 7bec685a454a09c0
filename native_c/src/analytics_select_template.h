/*
 * analytics_select_template.h - the one pass of selection: count a series against brackets and copy
 * what lies inside any of them; no parameters.
 *
 * gather(plan, values, n, kept, counts) compares every value with both ends of each closed bracket.
 * kept may be null (count only) or values itself (in place: a value is read before its place is
 * written). The number of brackets is a constant in each copy, so that bounds and counters stay in
 * registers. What is kept stays in the order of the series.
 *
 * The series goes by in tiles, each marked first and copied then: where a copy's place depends on
 * data that is still on its way from memory, the processor stops reading ahead, and the pass over
 * 10 million values takes three times as long.
 */

#if NC_LEVEL_AVX512

/* Bounds and counters of one bracket, in lanes. */
typedef struct {
    __m512d low, high;
    __m512i from, inside;
} NC_NAME(gather_lanes);

NC_TARGET NC_INLINE __m512d NC_NAME(gather_load)(const double *values, __mmask8 lanes,
                                                 const int deviations, double centre) {
    __m512d x = _mm512_maskz_loadu_pd(lanes, values);
    return deviations ? _mm512_abs_pd(_mm512_sub_pd(x, _mm512_set1_pd(centre))) : x;
}

/* One tile of `size` values; returns the end of what is kept. */
NC_TARGET NC_INLINE double *NC_NAME(gather_tile)(const int k, const int deviations, const int store,
                                                 NC_NAME(gather_lanes) * brackets, double centre,
                                                 const double *values, int64_t size, double *out) {
    const __m512i one = _mm512_set1_epi64(1);
    __mmask8 marks[GATHER_TILE / 8];
    for (int64_t i = 0; i < size; i += 8) {
        __mmask8 lanes = size - i < 8 ? (__mmask8)((1U << (size - i)) - 1) : (__mmask8)0xff;
        __mmask8 mark = 0;
        __m512d x = NC_NAME(gather_load)(values + i, lanes, deviations, centre);
        for (int b = 0; b < k; b++) {
            NC_NAME(gather_lanes) *at = brackets + b;
            __mmask8 above = _mm512_mask_cmp_pd_mask(lanes, x, at->low, _CMP_GE_OQ);
            __mmask8 within = _mm512_mask_cmp_pd_mask(above, x, at->high, _CMP_LE_OQ);
            at->from = _mm512_mask_add_epi64(at->from, above, at->from, one);
            at->inside = _mm512_mask_add_epi64(at->inside, within, at->inside, one);
            mark |= within;
        }
        marks[i / 8] = mark;
    }
    for (int64_t i = 0; store && i < size; i += 8) {
        __mmask8 mark = marks[i / 8];
        __m512d x = NC_NAME(gather_load)(values + i, mark, deviations, centre);
        unsigned n_marked = (unsigned)__builtin_popcount(mark);
        _mm512_mask_storeu_pd(out, (__mmask8)((1U << n_marked) - 1),
                              _mm512_maskz_compress_pd(mark, x));
        out += n_marked;
    }
    return out;
}

NC_TARGET NC_INLINE void NC_NAME(gather_some)(const int k, const int deviations, const int store,
                                              const gather_plan *plan, const double *values,
                                              int64_t n, double *kept, gather_counts *counts) {
    NC_NAME(gather_lanes) brackets[GATHER_MAX];
    for (int b = 0; b < k; b++) {
        brackets[b].low = _mm512_set1_pd(plan->low[b]);
        brackets[b].high = _mm512_set1_pd(plan->high[b]);
        brackets[b].from = brackets[b].inside = _mm512_setzero_si512();
    }
    double *out = kept;
    int64_t i = 0;
    for (; i + GATHER_TILE <= n; i += GATHER_TILE)
        out = NC_NAME(gather_tile)(k, deviations, store, brackets, plan->centre, values + i,
                                   GATHER_TILE, out);
    if (i < n)
        out = NC_NAME(gather_tile)(k, deviations, store, brackets, plan->centre, values + i, n - i,
                                   out);
    for (int b = 0; b < k; b++) {
        counts->below[b] = n - _mm512_reduce_add_epi64(brackets[b].from);
        counts->inside[b] = _mm512_reduce_add_epi64(brackets[b].inside);
    }
    counts->kept = out - kept;
}

#else

/* Without compression in registers: each bracket marks in a loop of its own. */
NC_TARGET NC_INLINE void NC_NAME(gather_some)(const int k, const int deviations, const int store,
                                              const gather_plan *plan, const double *values,
                                              int64_t n, double *kept, gather_counts *counts) {
    double x[GATHER_TILE], centre = plan->centre, *out = kept;
    int64_t marks[GATHER_TILE];
    for (int b = 0; b < k; b++)
        counts->below[b] = counts->inside[b] = 0;
    for (int64_t first = 0; first < n; first += GATHER_TILE) {
        int64_t size = n - first < GATHER_TILE ? n - first : GATHER_TILE;
        for (int64_t i = 0; i < size; i++) {
            x[i] = deviations ? __builtin_fabs(values[first + i] - centre) : values[first + i];
            marks[i] = 0;
        }
        for (int b = 0; b < k; b++) {
            double low = plan->low[b], high = plan->high[b];
            int64_t below = 0, inside = 0;
            for (int64_t i = 0; i < size; i++) {
                int64_t under = x[i] < low, within = (x[i] >= low) & (x[i] <= high);
                below += under;
                inside += within;
                marks[i] |= within;
            }
            counts->below[b] += below;
            counts->inside[b] += inside;
        }
        for (int64_t i = 0; store && i < size; i++) {
            *out = x[i];
            out += marks[i];
        }
    }
    counts->kept = out - kept;
}

#endif

NC_TARGET static void NC_NAME(gather)(const gather_plan *plan, const double *values, int64_t n,
                                      double *kept, gather_counts *counts) {
#define GATHER_CASE(k)                                                                             \
    case k:                                                                                        \
        NC_NAME(gather_some)(k, 0, 1, plan, values, n, kept, counts);                              \
        return
    if (!kept) {
        NC_NAME(gather_some)(1, 0, 0, plan, values, n, kept, counts);
        return;
    }
    if (plan->deviations) {
        NC_NAME(gather_some)(1, 1, 1, plan, values, n, kept, counts);
        return;
    }
    switch (plan->n_brackets) {
        GATHER_CASE(1);
        GATHER_CASE(2);
        GATHER_CASE(3);
        GATHER_CASE(4);
        GATHER_CASE(5);
        GATHER_CASE(6);
    }
#undef GATHER_CASE
}
