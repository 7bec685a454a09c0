/*
 * variates.h - normal, gamma and beta prime variates that have the same bits on every level and in
 * NumPy.
 *
 * They are made of blocks of Philox (random.h) whose counter is the address of the draw, so that a
 * draw never depends on how many words earlier draws used:
 *
 *   counter = (index + 1, step, trial, part)
 *
 * part 0 holds the trials of a draw, one block each; part 1 the block for shapes below 1. So the
 * trial 0 of indices 0 to n - 1 of a step is numpy.random.Philox(key=[seed, stream],
 * counter=[0, step, 0, 0]).random_raw(4 n). The twin is native_c/fallback/variates.py: the same
 * operations in the same order. Change both or none.
 */
#ifndef NC_VARIATES_H
#define NC_VARIATES_H

#include "elementary.h"
#include "random.h"

/* Where the draws of one decision lie. */
typedef struct {
    uint64_t seed, stream, step;
} nc_address;

NC_INLINE void nc_address_block(const nc_address *at, uint64_t index, uint64_t trial, uint64_t part,
                                uint64_t *out) {
    const uint64_t counter[4] = {index + 1, at->step, trial, part};
    nc_philox(at->seed, at->stream, counter, out);
}

/* As nc_unit_double, by operations that every vector unit has. */
NC_INLINE double nc_unit(uint64_t word) {
    return nc_double_of_count((int64_t)(word >> 11)) * 0x1p-53;
}

/*
 * Two independent standard normals of two words (Box and Muller, "A note on the generation of
 * random normal deviates", 1958): radius sqrt(-2 log u), u in (0, 1], at a random angle. The angle
 * is drawn in [-pi/4, pi/4), where the Taylor series of sine and cosine to the powers 15 and 16 are
 * within 2^-54; the two lowest bits of the word, which the angle does not use, take it to the whole
 * circle: one mirrors it at the diagonal, the other at the origin. Free of branches, so that loops
 * become vector code.
 */
NC_INLINE void nc_normal_pair(uint64_t word0, uint64_t word1, double *first, double *second) {
    double radius = __builtin_sqrt(-2.0 * nc_log(nc_unit(word0) + 0x1p-53));
    double angle = (nc_unit(word1) - 0.5) * 0x1.921fb54442d18p+0; /* pi / 2 */
    double z = angle * angle;
    double s = -1.0 / 1307674368000.0; /* 1 / 15! */
    s = s * z + 1.0 / 6227020800.0;
    s = s * z - 1.0 / 39916800.0;
    s = s * z + 1.0 / 362880.0;
    s = s * z - 1.0 / 5040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    double sine = angle + (angle * z) * s;
    double c = 1.0 / 20922789888000.0; /* 1 / 16! */
    c = c * z - 1.0 / 87178291200.0;
    c = c * z + 1.0 / 479001600.0;
    c = c * z - 1.0 / 3628800.0;
    c = c * z + 1.0 / 40320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    double cosine = 1.0 + z * c;
    uint64_t sign = (word1 & 2u) << 62;
    radius = nc_double_of_bits(nc_bits_of_double(radius) | sign);
    *first = radius * ((word1 & 1u) ? sine : cosine);
    *second = radius * ((word1 & 1u) ? cosine : sine);
}

/* What a gamma variate of a shape >= 1 needs: d = shape - 1/3 and c = 1 / (3 sqrt d). */
typedef struct {
    double d, c;
} nc_gamma;

NC_INLINE nc_gamma nc_gamma_of_shape(double shape) {
    double d = shape - 1.0 / 3.0;
    return (nc_gamma){d, 1.0 / (3.0 * __builtin_sqrt(d))};
}

/*
 * One trial of Marsaglia and Tsang ("A simple method for generating gamma variables", 2000): for a
 * normal x and a uniform u, d (1 + t)^3 with t = c x is a gamma variate if t > -1 and
 *   log u < x^2 / 2 + d - d (1 + t)^3 + d log (1 + t)^3 = 3 d h(t),
 *   h(t) = log(1 + t) - t + t^2 / 2 - t^3 / 3 = -t^4/4 + t^5/5 - ...
 * The right-hand side is h because x^2 = 9 d t^2; in the form of the paper it loses all digits for
 * shapes over 1e8. Returns the variate, or 0 for a failed trial.
 *
 * Most trials pass the squeeze u < 1 - (t x)^2 / 5, which holds no log: 1 - 1.8 d t^4 stays below
 * exp(3 d h(t)) for all t > -1 and d >= 2/3 (checked on a grid by the tests), and is tighter than
 * the paper's 1 - 0.0331 x^4 for large shapes. It also fails for every t <= -1.
 */
NC_INLINE double nc_gamma_squeezed(double d, double c, double x, double u) {
    double t = c * x, v = 1.0 + t, tx = t * x;
    return u < 1.0 - 0.2 * (tx * tx) ? d * (v * v * v) : 0.0;
}

static inline double nc_gamma_trial(double d, double c, double x, double u) {
    double squeezed = nc_gamma_squeezed(d, c, x, u);
    if (squeezed > 0.0)
        return squeezed;
    double t = c * x, v = 1.0 + t;
    if (!(v > 0.0))
        return 0.0;
    double h;
    if (t > -0x1p-6 && t < 0x1p-6)
        h = -(t * t) * (t * t) * (0.25 - t * (0.2 - t * (1.0 / 6.0 - t * (1.0 / 7.0))));
    else
        h = nc_log(v) - t + t * t * (0.5 - t * (1.0 / 3.0));
    return nc_log(u) < 3.0 * d * h ? d * (v * v * v) : 0.0;
}

/*
 * exp(x) for |x| up to 700; beyond, numbers that go on growing with x, as far as 1e302, and stay
 * normal: odds that all became 0 or inf would lose the order of the draws.
 */
static inline double nc_ordered_exp(double x) {
    double size = x < 0.0 ? -x : x;
    if (size <= 700.0)
        return nc_exp(x);
    double growth = 1.0 + nc_log(size / 700.0);
    return x < 0.0 ? nc_exp(-700.0) / growth : nc_exp(700.0) * growth;
}

/*
 * The beta prime variate of draw `index` at `at`: G(alpha) / G(beta) of two gamma variates, alpha
 * and beta in [1e-300, 1e300]. It is the odds x / (1 - x) of a beta variate x, in the same order,
 * but does not round to 1 what is very near to it. Word 0 and 1 of a trial's block give the normals
 * of both gammas, word 2 and 3 their uniforms; each takes its first trial that passes. A shape
 * below 1 is boosted, G(shape) = G(shape + 1) U^(1 / shape), in logarithms because the power
 * underflows; odds beyond exp(700) have only their order.
 */
static inline double nc_beta_prime(const nc_address *at, uint64_t index, double alpha,
                                   double beta) {
    nc_gamma a = nc_gamma_of_shape(alpha < 1.0 ? alpha + 1.0 : alpha);
    nc_gamma b = nc_gamma_of_shape(beta < 1.0 ? beta + 1.0 : beta);
    double ga = 0.0, gb = 0.0;
    uint64_t words[NC_WORDS_PER_BLOCK];
    for (uint64_t trial = 0; ga == 0.0 || gb == 0.0; trial++) {
        double xa, xb;
        nc_address_block(at, index, trial, 0, words);
        nc_normal_pair(words[0], words[1], &xa, &xb);
        if (ga == 0.0)
            ga = nc_gamma_trial(a.d, a.c, xa, nc_unit(words[2]));
        if (gb == 0.0)
            gb = nc_gamma_trial(b.d, b.c, xb, nc_unit(words[3]));
    }
    if (alpha >= 1.0 && beta >= 1.0)
        return ga / gb;
    nc_address_block(at, index, 0, 1, words);
    double la = nc_log(ga), lb = nc_log(gb);
    if (alpha < 1.0)
        la += nc_log(nc_unit(words[0]) + 0x1p-53) / alpha;
    if (beta < 1.0)
        lb += nc_log(nc_unit(words[1]) + 0x1p-53) / beta;
    return nc_ordered_exp(la - lb);
}

#endif
