/*
 * analytics_select_template.h - the one pass of selection: count a series against brackets and copy
 * what lies inside any of them; no parameters.
 *
 * gather(plan, values, n, kept, counts) compares every value with both ends of each closed bracket.
 * kept may be null (count only) or values itself (in place: a value is read before its place is
 * written). The number of brackets is a constant in each copy, so that bounds and counters stay in
 * registers. Counting happens in lanes; the order of what is kept is the order of the series.
 */

#if NC_LEVEL_AVX512

NC_TARGET NC_INLINE __m512d NC_NAME(gather_load)(const double *values, __mmask8 lanes,
                                                 const int deviations, __m512d centre) {
    __m512d x = _mm512_maskz_loadu_pd(lanes, values);
    return deviations ? _mm512_abs_pd(_mm512_sub_pd(x, centre)) : x;
}

NC_TARGET NC_INLINE void NC_NAME(gather_some)(const int k, const int deviations, const int store,
                                              const gather_plan *plan, const double *values,
                                              int64_t n, double *kept, gather_counts *counts) {
    __m512d low[GATHER_MAX], high[GATHER_MAX], centre = _mm512_set1_pd(plan->centre);
    __m512i from[GATHER_MAX], inside[GATHER_MAX], one = _mm512_set1_epi64(1);
    for (int b = 0; b < k; b++) {
        low[b] = _mm512_set1_pd(plan->low[b]);
        high[b] = _mm512_set1_pd(plan->high[b]);
        from[b] = inside[b] = _mm512_setzero_si512();
    }
    double *out = kept;
    for (int64_t i = 0; i < n; i += 8) {
        __mmask8 lanes = n - i < 8 ? (__mmask8)((1U << (n - i)) - 1) : (__mmask8)0xff, keep = 0;
        __m512d x = NC_NAME(gather_load)(values + i, lanes, deviations, centre);
        for (int b = 0; b < k; b++) {
            __mmask8 above = _mm512_mask_cmp_pd_mask(lanes, x, low[b], _CMP_GE_OQ);
            __mmask8 between = _mm512_mask_cmp_pd_mask(above, x, high[b], _CMP_LE_OQ);
            from[b] = _mm512_mask_add_epi64(from[b], above, from[b], one);
            inside[b] = _mm512_mask_add_epi64(inside[b], between, inside[b], one);
            keep |= between;
        }
        if (store) {
            unsigned size = (unsigned)__builtin_popcount(keep);
            __mmask8 front = (__mmask8)((1U << size) - 1);
            _mm512_mask_storeu_pd(out, front, _mm512_maskz_compress_pd(keep, x));
            out += size;
        }
    }
    for (int b = 0; b < k; b++) {
        counts->below[b] = n - _mm512_reduce_add_epi64(from[b]);
        counts->inside[b] = _mm512_reduce_add_epi64(inside[b]);
    }
    counts->kept = out - kept;
}

#else

/* Without compression in registers: tile by tile, each bracket marks what it keeps, then one copy.
 */
NC_TARGET NC_INLINE void NC_NAME(gather_some)(const int k, const int deviations, const int store,
                                              const gather_plan *plan, const double *values,
                                              int64_t n, double *kept, gather_counts *counts) {
    double x[GATHER_TILE], centre = plan->centre, *out = kept;
    int64_t keep[GATHER_TILE];
    for (int b = 0; b < k; b++)
        counts->below[b] = counts->inside[b] = 0;
    for (int64_t first = 0; first < n; first += GATHER_TILE) {
        int64_t size = n - first < GATHER_TILE ? n - first : GATHER_TILE;
        for (int64_t i = 0; i < size; i++) {
            x[i] = deviations ? __builtin_fabs(values[first + i] - centre) : values[first + i];
            keep[i] = 0;
        }
        for (int b = 0; b < k; b++) {
            double low = plan->low[b], high = plan->high[b];
            int64_t below = 0, inside = 0;
            for (int64_t i = 0; i < size; i++) {
                int64_t under = x[i] < low, within = (x[i] >= low) & (x[i] <= high);
                below += under;
                inside += within;
                keep[i] |= within;
            }
            counts->below[b] += below;
            counts->inside[b] += inside;
        }
        for (int64_t i = 0; store && i < size; i++) {
            *out = x[i];
            out += keep[i];
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
