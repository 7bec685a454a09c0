/*
 * elementary.h - log and exp that have the same bits on every instruction set and in NumPy.
 *
 * Where a logarithm steers a choice, its last bit can turn a tie, so libm (whose bits depend on the
 * platform) will not do. These are chains of IEEE additions, multiplications and divisions without
 * contraction, and free of branches, so that loops over them become vector code. The twin in
 * native_c/fallback/elementary.py makes the same operations in the same order: change both or none.
 *
 * The polynomials interpolate their functions at Chebyshev nodes (computed with 80 digits).
 */
#ifndef NC_ELEMENTARY_H
#define NC_ELEMENTARY_H

#include <math.h>
#include <string.h>

#include "dispatch.h"

/* log(2) in two parts: the upper has 41 bits, so that its products with exponents are exact. */
#define NC_LN2_HIGH 0x1.62e42fefa3000p-1
#define NC_LN2_LOW 0x1.3de6af278ece6p-42

NC_INLINE uint64_t nc_bits_of_double(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

NC_INLINE double nc_double_of_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/*
 * The double nearest to a count >= 0, as (double)count, by operations that every vector unit has:
 * its halves become the mantissas of 2^84 + high 2^32 and 2^52 + low; the one addition rounds.
 */
NC_INLINE double nc_double_of_count(int64_t count) {
    uint64_t bits = (uint64_t)count;
    double high = nc_double_of_bits((bits >> 32) | 0x4530000000000000u);
    double low = nc_double_of_bits((bits & 0xFFFFFFFFu) | 0x4330000000000000u);
    return (high - 0x1.00000001p84) + low;
}

/* Bits whose highest is 1 if x is nan or infinite: an exponent of ones carries into it. */
NC_INLINE uint64_t nc_sign_if_not_finite(double x) {
    return (nc_bits_of_double(x) & 0x7FFFFFFFFFFFFFFFu) + 0x0010000000000000u;
}

/*
 * log x = k log 2 + log m with m in [sqrt(1/2), sqrt 2). With f = m - 1 (exact), s = f / (2 + f)
 * and z = s^2: log m = 2 atanh s = f - (f^2/2 - s (f^2/2 + R(z))), R(z) = 2 (z/3 + z^2/5 + ...),
 * for which a polynomial of degree 7 is within 2^-56.6 on [0, 0.0295].
 *
 * NC_LOG_OF_PARTS sets y to k log 2 + log m; `real` is double or a vector of doubles.
 */
#define NC_LOG_OF_PARTS(real, m, k, y)                                                             \
    do {                                                                                           \
        real nc_f = (m) - 1.0;                                                                     \
        real nc_s = nc_f / (2.0 + nc_f);                                                           \
        real nc_z = nc_s * nc_s;                                                                   \
        real nc_r = 0x1.2b584aae78a57p-3 * nc_z + 0x1.39fe606542ddep-3;                            \
        nc_r = nc_r * nc_z + 0x1.7462b4ab2ef6bp-3;                                                 \
        nc_r = nc_r * nc_z + 0x1.c71c62e5800a1p-3;                                                 \
        nc_r = nc_r * nc_z + 0x1.2492492df148dp-2;                                                 \
        nc_r = nc_r * nc_z + 0x1.99999999952e2p-2;                                                 \
        nc_r = nc_r * nc_z + 0x1.5555555555558p-1;                                                 \
        nc_r = nc_r * nc_z;                                                                        \
        real nc_half = 0.5 * nc_f * nc_f;                                                          \
        (y) =                                                                                      \
            (k) * NC_LN2_HIGH - ((nc_half - (nc_s * (nc_half + nc_r) + (k) * NC_LN2_LOW)) - nc_f); \
    } while (0)

NC_INLINE double nc_log(double x) {
    double subnormal = x < 0x1p-1022 ? 1.0 : 0.0;
    double normal = x < 0x1p-1022 ? x * 0x1p54 : x;
    uint64_t bits = nc_bits_of_double(normal);
    uint64_t exponent = (bits + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu)) >> 52;
    double m = nc_double_of_bits(bits - (exponent << 52) + 0x3FF0000000000000u);
    double k = nc_double_of_bits(exponent | 0x4330000000000000u) - (0x1p52 + 1023.0);
    k = k - 54.0 * subnormal;

    double y;
    NC_LOG_OF_PARTS(double, m, k, y);
    y = x < (double)INFINITY ? y : x; /* inf and nan are their own logarithms */
    y = x == 0.0 ? -(double)INFINITY : y;
    return x < 0.0 ? (double)NAN : y;
}

/*
 * exp x = 2^k exp r with k the integer nearest to x / log 2, so |r| <= 0.347: exp r = 1 + r + r^2
 * q(r), q(r) = 1/2 + r/6 + ..., for which a polynomial of degree 9 is within 2^-56.1. 2^k is
 * applied in two halves, because 2^1024 and 2^-1075 are no doubles; a subnormal result rounds once,
 * in the last.
 */
NC_INLINE double nc_exp(double x) {
    const double to_integer = 0x1.8p52; /* adding it leaves the nearest integer in the low bits */
    double bounded = x < -746.0 ? -746.0 : x; /* beyond, the result is 0 or inf all the same */
    bounded = bounded > 710.0 ? 710.0 : bounded;
    double shifted = bounded * 0x1.71547652b82fep+0 + to_integer;
    double k = shifted - to_integer;
    double r = (bounded - k * NC_LN2_HIGH) - k * NC_LN2_LOW;
    double q = 0x1.af389ecfc4b9cp-26;
    q = q * r + 0x1.28917c89a43a7p-22;
    q = q * r + 0x1.71de0db2f6b19p-19;
    q = q * r + 0x1.a019b9149a41cp-16;
    q = q * r + 0x1.a01a01a7c2efep-13;
    q = q * r + 0x1.6c16c17889ef1p-10;
    q = q * r + 0x1.11111111109b5p-7;
    q = q * r + 0x1.5555555553d68p-5;
    q = q * r + 0x1.5555555555556p-3;
    q = q * r + 0x1.0000000000001p-1;
    double y = 1.0 + (r + (r * r) * q);

    uint64_t biased =
        nc_bits_of_double(shifted) - nc_bits_of_double(to_integer) + 2048u; /* k + 2048 */
    uint64_t half = biased >> 1;
    double first = nc_double_of_bits((half - 1u) << 52);           /* 2^(half - 1024) */
    double second = nc_double_of_bits((biased - half - 1u) << 52); /* 2^(biased - half - 1024) */
    return (y * first) * second;
}

#endif
