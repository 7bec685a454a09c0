/* fusion_vectors.h - what the kernels of fusion need of vectors, at any instruction set. */
#ifndef NC_FUSION_VECTORS_H
#define NC_FUSION_VECTORS_H

#include "dispatch.h"

#if NC_X86
#  include <immintrin.h>
#elif NC_ARM64
#  include <arm_neon.h>
#endif

typedef float four_floats __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__clang__)
#  define SHUFFLE(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#else
typedef int32_t four_ints __attribute__((vector_size(16)));
#  define SHUFFLE(x, y, a, b, c, d) __builtin_shuffle(x, y, (four_ints){a, b, c, d})
#endif

NC_INLINE void transpose_four(four_floats x[4]) {
    four_floats a = SHUFFLE(x[0], x[1], 0, 4, 1, 5), b = SHUFFLE(x[0], x[1], 2, 6, 3, 7);
    four_floats c = SHUFFLE(x[2], x[3], 0, 4, 1, 5), d = SHUFFLE(x[2], x[3], 2, 6, 3, 7);
    x[0] = SHUFFLE(a, c, 0, 1, 4, 5);
    x[1] = SHUFFLE(a, c, 2, 3, 6, 7);
    x[2] = SHUFFLE(b, d, 0, 1, 4, 5);
    x[3] = SHUFFLE(b, d, 2, 3, 6, 7);
}

NC_INLINE float least(float a, float b) {
    return a < b ? a : b;
}

/*
 * What turns the terms of a row into those of its unit vector: two factors, the first a power of
 * two, so that float32 holds the other for any row, and rows that differ by a power of two alone
 * come to the same bits. A row of zeros stays zeros.
 */
typedef struct {
    float first, second;
} nc_scale;

NC_INLINE nc_scale scale_of(double norm) {
    float first = norm < 0x1p-62 ? 0x1p64f : norm > 0x1p62 ? 0x1p-64f : 1.0f;
    return (nc_scale){first, norm > 0 ? (float)(1 / (norm * (double)first)) : 0.0f};
}

NC_INLINE float scaled_by(nc_scale scale, float term) {
    return term * scale.first * scale.second;
}

/*
 * Sum of products in float64. A product of two floats is exact there, so only the order of the sums
 * counts, and 16 partial sums fix it.
 */
NC_INLINE double dot(const float *x, const float *y, int64_t n) {
    double sums[16] = {0};
    int64_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (int s = 0; s < 16; s++)
            sums[s] += (double)x[k + s] * (double)y[k + s];
    for (int s = 0; k < n; k++, s++)
        sums[s] += (double)x[k] * (double)y[k];
    for (int half = 8; half > 0; half /= 2)
        for (int s = 0; s < half; s++)
            sums[s] += sums[s + half];
    return sums[0];
}

#endif
