/*
 * optimization_multi_armed_bandit_template.h - the steps of UCB1 and Thompson sampling; no
 * parameters.
 *
 * Steps follow one another, so what counts is the time from one choice to the next, not throughput:
 * what does not depend on the last choice (logarithms, random numbers) is computed in tiles ahead,
 * and a step is left with one formula per arm and the search of the maximum, both in full vectors.
 * Rows of work are padded with arms that score -inf. Every score has one fixed formula, and the
 * lowest index of the maximum is one number, so levels do not change the bits.
 */

/* clang-format off */
#if NC_LEVEL_AVX512
#  define LANES 8
#  define lanes __m512d
#  define lanes_load _mm512_load_pd
#  define lanes_store _mm512_store_pd
#  define lanes_fill _mm512_set1_pd
#  define lanes_add _mm512_add_pd
#  define lanes_multiply _mm512_mul_pd
#  define lanes_max _mm512_max_pd
#  define lanes_highest _mm512_reduce_max_pd
#  define lanes_equal(a, b) ((uint64_t)_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ))
/* `a` with lane number `lane` replaced by that of `b`; unchanged where there is no such lane. */
#  define lanes_replace(a, b, lane)                                                                \
      _mm512_mask_mov_pd(a, (__mmask8)((uint64_t)(lane) < 8 ? 1u << (lane) : 0u), b)
#elif NC_LEVEL_AVX2
#  define LANES 4
#  define lanes __m256d
#  define lanes_load _mm256_load_pd
#  define lanes_store _mm256_store_pd
#  define lanes_fill _mm256_set1_pd
#  define lanes_add _mm256_add_pd
#  define lanes_multiply _mm256_mul_pd
#  define lanes_max _mm256_max_pd
#  define lanes_equal(a, b) ((uint64_t)_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)))
#  define lanes_replace(a, b, lane)                                                                \
      _mm256_blendv_pd(a, b, _mm256_castsi256_pd(_mm256_cmpeq_epi64(                               \
          _mm256_set1_epi64x(lane), _mm256_setr_epi64x(0, 1, 2, 3))))
#else
#  define LANES 1
#  define lanes double
#  define lanes_load(p) (*(p))
#  define lanes_store(p, a) (*(p) = (a))
#  define lanes_fill(a) (a)
#  define lanes_add(a, b) ((a) + (b))
#  define lanes_multiply(a, b) ((a) * (b))
#  define lanes_max(a, b) ((a) > (b) ? (a) : (b))
#  define lanes_highest(a) (a)
#  define lanes_equal(a, b) ((uint64_t)((a) == (b)))
#  define lanes_replace(a, b, lane) ((lane) == 0 ? (b) : (a))
#endif
/* clang-format on */

#if NC_LEVEL_AVX2
NC_TARGET static inline double NC_NAME(lanes_highest)(lanes a) {
    __m128d half = _mm_max_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_max_sd(half, _mm_unpackhi_pd(half, half)));
}
#  define lanes_highest NC_NAME(lanes_highest)
#endif

/* The lowest index at which values [n_padded] equal `highest`, which is one of them. */
NC_TARGET static inline int64_t NC_NAME(find)(const double *values, int64_t n_padded,
                                              double highest) {
    lanes wanted = lanes_fill(highest);
    for (int64_t group = 0; group < n_padded; group += 64) {
        uint64_t found = 0;
        for (int64_t i = 0; i < 64 && group + i < n_padded; i += LANES)
            found |= lanes_equal(lanes_load(values + group + i), wanted) << i;
        if (found)
            return group + __builtin_ctzll(found);
    }
    return 0;
}

/*
 * UCB1. The score of arm i is means[i] + width roots[i], with width = exploration sqrt(log pulls)
 * for all arms and roots[i] = 1 / sqrt(counts[i]); an arm without pulls scores inf + width 1.
 * The mean and root of the arm that changed last are kept in registers and enter the rows one step
 * late: a vector load that follows a narrower store to the same place waits for it to retire.
 */
NC_TARGET static void NC_NAME(ucb1_steps)(bandit_job *job) {
    int64_t n_padded = job->n_padded, pulls = total_pulls(job->n_arms, job->counts);
    double *means = job->work, *roots = means + n_padded, *scores = roots + n_padded;
    double widths[BANDIT_TILE];
    for (int64_t i = 0; i < n_padded; i++) {
        int64_t count = i < job->n_arms ? job->counts[i] : 1;
        means[i] = count ? (i < job->n_arms ? job->means[i] : -(double)INFINITY) : (double)INFINITY;
        roots[i] = count ? 1.0 / __builtin_sqrt((double)count) : 1.0;
    }
    int64_t changed = 0;
    double mean = means[0], root = roots[0];
    for (int64_t s = 0; s < job->n_steps; s++) {
        if (s % BANDIT_TILE == 0)
            for (int64_t i = 0; i < BANDIT_TILE; i++)
                widths[i] = ucb1_width(job->bandit->exploration, pulls + s + i);
        double width = widths[s % BANDIT_TILE];
        lanes highest = lanes_fill(-(double)INFINITY), all_width = lanes_fill(width);
        lanes score_of_changed = lanes_fill(mean + width * root);
        for (int64_t i = 0; i < n_padded; i += LANES) {
            lanes bound = lanes_multiply(all_width, lanes_load(roots + i));
            lanes score = lanes_add(lanes_load(means + i), bound);
            score = lanes_replace(score, score_of_changed, changed - i);
            lanes_store(scores + i, score);
            highest = lanes_max(highest, score);
        }
        means[changed] = mean;
        roots[changed] = root;
        int64_t arm = NC_NAME(find)(scores, n_padded, lanes_highest(highest));
        job->chosen[s] = arm;
        if (job->outcomes)
            learn(job, s, arm);
        else
            job->counts[arm] += 1;
        changed = arm;
        mean = job->means[arm];
        root = 1.0 / __builtin_sqrt((double)job->counts[arm]);
    }
}

/*
 * Enter the posterior of an arm into the rows of work: d and c of the gamma variates of its shapes.
 * A shape below 1 gets NaN, which passes no test, so that such an arm always goes to nc_beta_prime.
 */
NC_TARGET static inline void NC_NAME(thompson_posterior)(const bandit_job *job, int64_t arm) {
    double alpha = job->bandit->prior_alpha + job->reward_sums[arm];
    double beta = beta_of(job->bandit, job->counts[arm], job->reward_sums[arm]);
    nc_gamma a = nc_gamma_of_shape(alpha >= 1.0 ? alpha : (double)NAN);
    nc_gamma b = nc_gamma_of_shape(beta >= 1.0 ? beta : (double)NAN);
    double *row = job->work + arm;
    row[0] = a.d;
    row[job->n_padded] = a.c;
    row[2 * job->n_padded] = b.d;
    row[3 * job->n_padded] = b.c;
}

#if NC_LEVEL_AVX512
/* High half of the products of eight words and one; the low halves go to *low. */
NC_TARGET static inline __m512i NC_NAME(multiply_high)(__m512i a, uint64_t b, __m512i *low) {
    const __m512i half = _mm512_set1_epi64(0xFFFFFFFF);
    __m512i b_low = _mm512_set1_epi64((int64_t)(b & 0xFFFFFFFFu));
    __m512i b_high = _mm512_set1_epi64((int64_t)(b >> 32)), a_high = _mm512_srli_epi64(a, 32);
    __m512i least = _mm512_mul_epu32(a, b_low);
    __m512i one = _mm512_mul_epu32(a_high, b_low), other = _mm512_mul_epu32(a, b_high);
    one = _mm512_add_epi64(one, _mm512_srli_epi64(least, 32));
    other = _mm512_add_epi64(other, _mm512_and_si512(one, half));
    *low = _mm512_or_si512(_mm512_slli_epi64(other, 32), _mm512_and_si512(least, half));
    __m512i high = _mm512_add_epi64(_mm512_mul_epu32(a_high, b_high), _mm512_srli_epi64(one, 32));
    return _mm512_add_epi64(high, _mm512_srli_epi64(other, 32));
}

/* The blocks of nc_philox for eight counters, in place: word w of all of them in c[w]. */
NC_TARGET static inline void NC_NAME(philox)(uint64_t key0, uint64_t key1, __m512i c[4]) {
    for (int round = 0; round < 10; round++) {
        __m512i low0, low1;
        __m512i high0 = NC_NAME(multiply_high)(c[0], 0xD2E7470EE14C6C93u, &low0);
        __m512i high1 = NC_NAME(multiply_high)(c[2], 0xCA5A826395121157u, &low1);
        __m512i k0 = _mm512_set1_epi64((int64_t)key0), k1 = _mm512_set1_epi64((int64_t)key1);
        c[0] = _mm512_xor_si512(_mm512_xor_si512(high1, c[1]), k0);
        c[2] = _mm512_xor_si512(_mm512_xor_si512(high0, c[3]), k1);
        c[1] = low1;
        c[3] = low0;
        key0 += 0x9E3779B97F4A7C15u;
        key1 += 0xBB67AE8584CAA73Bu;
    }
}

/* Eight draws at a time, of one step after the other without a gap. */
NC_TARGET static void NC_NAME(thompson_words)(const bandit_job *job, int64_t s, int64_t n,
                                              double *normals, double *more_normals,
                                              double *uniforms) {
    const __m512i one = _mm512_set1_epi64(1), n_arms = _mm512_set1_epi64(job->n_arms);
    const __m512i first = _mm512_set1_epi64(job->first_arm), end = _mm512_add_epi64(first, n_arms);
    const __m512d grid = _mm512_set1_pd(0x1p-53);
    nc_address at = address_of(job, s);
    __m512i step = _mm512_set1_epi64((int64_t)at.step);
    __m512i index = _mm512_setr_epi64(1, 2, 3, 4, 5, 6, 7, 8); /* of the arm, from 1 */
    index = _mm512_add_epi64(index, first);
    for (int64_t draw = 0; draw < n; draw += 8) {
        __mmask8 there = (__mmask8)(n - draw < 8 ? (1u << (n - draw)) - 1 : 0xFFu), beyond;
        while ((beyond = _mm512_cmpgt_epi64_mask(index, end)) != 0) {
            index = _mm512_mask_sub_epi64(index, beyond, index, n_arms);
            step = _mm512_mask_add_epi64(step, beyond, step, one);
        }
        __m512i c[4] = {index, step, _mm512_setzero_si512(), _mm512_setzero_si512()};
        NC_NAME(philox)(at.seed, at.stream, c);
        _mm512_mask_storeu_epi64(normals + draw, there, c[0]);
        _mm512_mask_storeu_epi64(more_normals + draw, there, c[1]);
        for (int k = 0; k < 2; k++) {
            __m512d unit = _mm512_cvtepu64_pd(_mm512_srli_epi64(c[2 + k], 11));
            _mm512_mask_storeu_pd(uniforms + k * n + draw, there, _mm512_mul_pd(unit, grid));
        }
        index = _mm512_add_epi64(index, _mm512_set1_epi64(8));
    }
}
#else
/* Each draw by itself: products of 64 bits are as fast one by one as in narrower vectors. */
NC_TARGET static void NC_NAME(thompson_words)(const bandit_job *job, int64_t s, int64_t n,
                                              double *normals, double *more_normals,
                                              double *uniforms) {
    for (int64_t draw = 0; draw < n; s++) {
        nc_address at = address_of(job, s);
        for (int64_t i = 0; i < job->n_arms; i++, draw++) {
            uint64_t words[NC_WORDS_PER_BLOCK];
            nc_address_block(&at, (uint64_t)(job->first_arm + i), 0, 0, words);
            normals[draw] = nc_double_of_bits(words[0]);
            more_normals[draw] = nc_double_of_bits(words[1]);
            uniforms[draw] = nc_unit(words[2]);
            uniforms[n + draw] = nc_unit(words[3]);
        }
    }
}
#endif

/* Trial 0 of all arms for n_steps steps from step s: n normals, n normals, n and n uniforms. */
NC_TARGET static void NC_NAME(thompson_draws)(const bandit_job *job, int64_t s, int64_t n_steps,
                                              double *draws) {
    int64_t n = n_steps * job->n_arms;
    double *normals = draws, *more_normals = normals + n, *uniforms = more_normals + n;
    NC_NAME(thompson_words)(job, s, n, normals, more_normals, uniforms);
    for (int64_t i = 0; i < n; i++) {
        double first, second;
        nc_normal_pair(nc_bits_of_double(normals[i]), nc_bits_of_double(more_normals[i]), &first,
                       &second);
        normals[i] = first;
        more_normals[i] = second;
    }
}

/*
 * The odds of a draw of each arm's posterior for step s, from trial 0 of both gamma variates: first
 * by the squeeze, in vectors; what that leaves open by the exact test; what that refuses by
 * nc_beta_prime, which makes the same trial 0 and goes on.
 */
NC_TARGET static void NC_NAME(thompson_odds)(const bandit_job *job, int64_t s,
                                             const double *restrict x, int64_t stride,
                                             double *restrict odds) {
    const double *restrict rows = job->work;
    int64_t n_padded = job->n_padded;
    uint64_t undecided = 0;
    for (int64_t i = 0; i < job->n_arms; i++) {
        double a = nc_gamma_squeezed(rows[i], rows[n_padded + i], x[i], x[2 * stride + i]);
        double b = nc_gamma_squeezed(rows[2 * n_padded + i], rows[3 * n_padded + i], x[stride + i],
                                     x[3 * stride + i]);
        double ratio = a * b > 0.0 ? a / b : -1.0;
        undecided |= nc_bits_of_double(ratio);
        odds[i] = ratio;
    }
    if (!(undecided >> 63))
        return;
    nc_address at = address_of(job, s);
    for (int64_t i = 0; i < job->n_arms; i++) {
        if (odds[i] >= 0.0)
            continue;
        double a = nc_gamma_trial(rows[i], rows[n_padded + i], x[i], x[2 * stride + i]);
        double b = nc_gamma_trial(rows[2 * n_padded + i], rows[3 * n_padded + i], x[stride + i],
                                  x[3 * stride + i]);
        double alpha = job->bandit->prior_alpha + job->reward_sums[i];
        double beta = beta_of(job->bandit, job->counts[i], job->reward_sums[i]);
        uint64_t index = (uint64_t)(job->first_arm + i);
        odds[i] = a * b > 0.0 ? a / b : nc_beta_prime(&at, index, alpha, beta);
    }
}

/* Thompson sampling: draw from each arm's posterior, choose the highest draw. */
NC_TARGET static void NC_NAME(thompson_steps)(bandit_job *job) {
    int64_t n_arms = job->n_arms, n_padded = job->n_padded, tile = steps_per_tile(job);
    double *odds = job->work + 4 * n_padded, *draws = odds + n_padded;
    for (int64_t i = 0; i < n_arms; i++) {
        /* A NaN would fail all trials for ever. */
        if (!(job->reward_sums[i] >= 0.0 && job->reward_sums[i] <= (double)job->counts[i])) {
            job->status = NC_INVALID;
            return;
        }
        NC_NAME(thompson_posterior)(job, i);
    }
    for (int64_t i = n_arms; i < n_padded; i++)
        odds[i] = -(double)INFINITY;
    for (int64_t s = 0; s < job->n_steps; s++) {
        int64_t in_tile = s % tile, left = job->n_steps - (s - in_tile);
        int64_t steps = left < tile ? left : tile;
        if (in_tile == 0)
            NC_NAME(thompson_draws)(job, s, steps, draws);
        NC_NAME(thompson_odds)(job, s, draws + in_tile * n_arms, steps * n_arms, odds);
        lanes highest = lanes_load(odds);
        for (int64_t i = LANES; i < n_padded; i += LANES)
            highest = lanes_max(highest, lanes_load(odds + i));
        job->highest = lanes_highest(highest);
        int64_t arm = NC_NAME(find)(odds, n_padded, job->highest);
        job->chosen[s] = arm;
        if (!job->outcomes)
            continue;
        double reward = job->outcomes[s * n_arms + arm];
        if (!(reward >= 0.0 && reward <= 1.0)) {
            job->status = NC_INVALID;
            return;
        }
        learn(job, s, arm);
        NC_NAME(thompson_posterior)(job, arm);
    }
}

#undef LANES
#undef lanes
#undef lanes_load
#undef lanes_store
#undef lanes_fill
#undef lanes_add
#undef lanes_multiply
#undef lanes_max
#undef lanes_highest
#undef lanes_equal
#undef lanes_replace
