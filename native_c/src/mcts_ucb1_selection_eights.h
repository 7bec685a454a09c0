/*
 * mcts_ucb1_selection_eights.h - UCB1 for nodes of up to eight children by AVX-512, eight nodes at
 * a time; a part of mcts_ucb1_selection_template.h.
 *
 * Eight nodes of k children are k whole vectors. A permutation puts the logs of the parents next to
 * the children, others put child c of the eight nodes side by side to choose: only the scores go
 * through memory. What bounds the speed is the square root, 7.5 cycles a vector on a Zen 5, so the
 * two quotients come from one reciprocal and multiplications, which fill the time that it takes:
 * 1,000 nodes of 5 children take 2.1 us, not 5.4 (2026). To refine roots likewise is no gain, for
 * each fused operation takes the place of two others.
 */

typedef uint64_t NC_NAME(bits) __attribute__((vector_size(8 * UCB1_LOGS), aligned(8), may_alias));
typedef double NC_NAME(reals) __attribute__((vector_size(8 * UCB1_LOGS), aligned(8), may_alias));

/*
 * nc_log of UCB1_LOGS counts from 1 to 2^29: the same operations without those for other numbers.
 * Each operation is two vectors wide, because one chain of them would wait for its own results.
 */
NC_TARGET NC_INLINE void NC_NAME(ucb1_log)(const int64_t *counts, double *logs) {
    NC_NAME(reals) x = (NC_NAME(reals))(*(const NC_NAME(bits) *)counts | 0x4330000000000000u);
    NC_NAME(bits) bits = (NC_NAME(bits))(x - 0x1p52);
    NC_NAME(bits) exponent = (bits + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu)) >> 52;
    NC_NAME(reals) m = (NC_NAME(reals))(bits - (exponent << 52) + 0x3FF0000000000000u);
    NC_NAME(reals) k = (NC_NAME(reals))(exponent | 0x4330000000000000u) - (0x1p52 + 1023.0);
    NC_NAME(reals) y;
    NC_LOG_OF_PARTS(NC_NAME(reals), m, k, y);
    *(NC_NAME(reals) *)logs = y;
}

/*
 * a / b, correctly rounded, given y = (1 + e) / b with |e| < 2^-41.9 and b a count up to 2^29: the
 * residual a - b q has less than 53 bits and so is exact, and what is rounded in the end is off by
 * 2^-83 of the quotient, which comes no nearer than 2^-83 to the middle of two doubles.
 * A residual underflows where 0 < |a| < 2^-900.
 */
NC_TARGET NC_INLINE __m512d NC_NAME(ucb1_quotient)(__m512d a, __m512d b, __m512d y) {
    __m512d q = _mm512_mul_pd(a, y);
    return _mm512_fmadd_pd(_mm512_fnmadd_pd(q, b, a), y, q);
}

/* Scores of eight nodes of k children each; what is wrong with their numbers is added up. */
NC_TARGET NC_INLINE void NC_NAME(ucb1_score_eight)(const int k, const int64_t *visits,
                                                   const double *sums, __m512d log,
                                                   __m512d exploration, double *scores,
                                                   __m512i *counts, __m512d *zero) {
    const __m512d one = _mm512_set1_pd(1.0), infinity = _mm512_set1_pd((double)INFINITY);
#pragma GCC unroll 8
    for (int v = 0, at = 0; v < k; v++, at += 8) {
        __m512i node = _mm512_setr_epi64(at / k, (at + 1) / k, (at + 2) / k, (at + 3) / k,
                                         (at + 4) / k, (at + 5) / k, (at + 6) / k, (at + 7) / k);
        __m512i count = _mm512_loadu_si512(visits + at);
        __m512d b = _mm512_cvtepi64_pd(count), sum = _mm512_loadu_pd(sums + at);
        __m512d y = _mm512_rcp14_pd(b), e = _mm512_fnmadd_pd(b, y, one);
        y = _mm512_fmadd_pd(_mm512_fmadd_pd(e, e, e), y, y);
        __m512d mean = NC_NAME(ucb1_quotient)(sum, b, y);
        __m512d width = NC_NAME(ucb1_quotient)(_mm512_permutexvar_pd(node, log), b, y);
        width = _mm512_mul_pd(exploration, _mm512_sqrt_pd(width));
        /* NaN without visits: the instruction then answers its second operand. */
        _mm512_storeu_pd(scores + at, _mm512_min_pd(_mm512_add_pd(mean, width), infinity));
        *counts = _mm512_or_si512(*counts, count);
        *zero = _mm512_fmadd_pd(sum, _mm512_setzero_pd(), *zero); /* NaN if sum is not finite */
    }
}

/* The choices of eight nodes of k children each, the nodes side by side. */
NC_TARGET NC_INLINE void NC_NAME(ucb1_choose_eight)(const int k, const double *scores,
                                                    int64_t *chosen) {
    __m512d best = _mm512_setzero_pd();
    __m512i winner = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int c = 0; c < k; c++) {
        /* Where child c of each node is: the vector, and in the lowest three bits the lane. */
        __m512i at = _mm512_setr_epi64(c, k + c, 2 * k + c, 3 * k + c, 4 * k + c, 5 * k + c,
                                       6 * k + c, 7 * k + c);
        __m512d score = _mm512_loadu_pd(scores);
        if (k > 1)
            score = _mm512_permutex2var_pd(score, at, _mm512_loadu_pd(scores + 8));
#pragma GCC unroll 8
        for (int v = 2; v < k; v++) {
            unsigned here = 0;
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                here |= (unsigned)((i * k + c) / 8 == v) << i;
            score = _mm512_mask_permutexvar_pd(score, (__mmask8)here, at,
                                               _mm512_loadu_pd(scores + 8 * v));
        }
        __mmask8 better = c ? _mm512_cmp_pd_mask(score, best, _CMP_GT_OQ) : 0xFF;
        winner = _mm512_mask_mov_epi64(winner, better, _mm512_set1_epi64(c));
        best = c ? _mm512_max_pd(best, score) : score;
    }
    _mm512_storeu_si512(chosen, winner);
}

/*
 * Scores and choices of nodes [first, last) of k children each; 0 where a range is left. Each eight
 * nodes are chosen for after the next are scored, which hides how long scores take to come.
 */
NC_TARGET NC_INLINE int NC_NAME(ucb1_eights)(const int k, const ucb1_job *job, int64_t first,
                                             int64_t last, const double *logs) {
    const __m512d exploration = _mm512_set1_pd(job->exploration);
    const int64_t *visits = job->visits + first * k;
    const double *sums = job->value_sums + first * k;
    double *scores = job->scores + first * k;
    int64_t *chosen = job->chosen + first;
    __m512i counts = _mm512_setzero_si512();
    __m512d zero = _mm512_setzero_pd();
    for (int64_t i = 0; i < last - first; i += 8) {
        NC_NAME(ucb1_score_eight)(k, visits + i * k, sums + i * k, _mm512_loadu_pd(logs + i),
                                  exploration, scores + i * k, &counts, &zero);
        if (i > 0)
            NC_NAME(ucb1_choose_eight)(k, scores + (i - 8) * k, chosen + i - 8);
    }
    NC_NAME(ucb1_choose_eight)(k, scores + (last - first - 8) * k, chosen + (last - first - 8));
    return _mm512_reduce_or_epi64(counts) >> UCB1_FEW_BITS == 0 &&
           _mm512_cmp_pd_mask(zero, zero, _CMP_UNORD_Q) == 0;
}

/* Whether a sum of nodes [first, last) is too small for ucb1_quotient. */
NC_TARGET static int NC_NAME(ucb1_tiny)(const ucb1_job *job, int64_t first, int64_t last) {
    const double *sums = job->value_sums;
    int tiny = 0;
    for (int64_t i = first * job->n_children; i < last * job->n_children; i++)
        tiny |= (sums[i] != 0.0) & (__builtin_fabs(sums[i]) < 0x1p-900);
    return tiny;
}

/*
 * Do nodes [first, last) as far as their numbers suit faster ways, and return where that ends.
 *
 * For up to eight children, all of them there and none visited more than 2^29 times. Of 8 nodes and
 * their k vectors of children nothing but the scores then goes through memory.
 */
NC_TARGET static int64_t NC_NAME(ucb1_few)(const ucb1_job *job, int64_t first, int64_t last) {
    double logs[UCB1_TILE];
    const int64_t *parents = job->parent_visits + first;
    int64_t n = (last - first) / 8 * 8;
    if (n < UCB1_LOGS || job->n_children > 8 || job->child_counts || signbit(job->exploration))
        return first;
    uint64_t least = 0, all = ucb1_look_up(parents, n, logs, &least);
    if (all >> UCB1_FEW_BITS)
        return first;
    for (int64_t i = 0; all >= UCB1_KNOWN_LOGS && i < n; i += UCB1_LOGS) {
        int64_t at = i + UCB1_LOGS <= n ? i : n - UCB1_LOGS;
        NC_NAME(ucb1_log)(parents + at, logs + at);
    }
    /* A mean that is tiny counts only beside a width that is. */
    if ((least == 0 || job->exploration < 0x1p-800) && NC_NAME(ucb1_tiny)(job, first, first + n))
        return first;
    switch (job->n_children) {
#define UCB1_FEW(k)                                                                                \
    case k:                                                                                        \
        return NC_NAME(ucb1_eights)(k, job, first, first + n, logs) ? first + n : first
        UCB1_FEW(1);
        UCB1_FEW(2);
        UCB1_FEW(3);
        UCB1_FEW(4);
        UCB1_FEW(5);
        UCB1_FEW(6);
        UCB1_FEW(7);
        UCB1_FEW(8);
#undef UCB1_FEW
    }
    return first;
}
