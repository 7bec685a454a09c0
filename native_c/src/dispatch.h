/*
 * dispatch.h - which instruction sets this build has, and the table by which a call picks one.
 *
 * A kernel lives in a template header that is compiled once per level:
 *
 *     #define NC_TEMPLATE "mcts_ucb1_selection_template.h"
 *     #include "each_level.h"
 *
 * and a public function picks the variant of the level in use:
 *
 *     static const ucb1_fn ucb1[NC_SIMD_LEVELS] = NC_LEVEL_TABLE(ucb1_range);
 *     ucb1[nc_simd_level()](...);
 */
#ifndef NC_DISPATCH_H
#define NC_DISPATCH_H

#include "core.h"

#if defined(__x86_64__)
#    define NC_X86 1
#elif defined(__aarch64__)
#    define NC_ARM64 1
#endif

/* clang-format off */
#if NC_X86
#  define NC_LEVEL_TABLE(f) {                                                                      \
    [NC_SIMD_PORTABLE] = f##_portable, [NC_SIMD_AVX2] = f##_avx2, [NC_SIMD_AVX512] = f##_avx512 }
#elif NC_ARM64
#  define NC_LEVEL_TABLE(f) { [NC_SIMD_PORTABLE] = f##_portable, [NC_SIMD_NEON] = f##_neon }
#else
#  define NC_LEVEL_TABLE(f) { [NC_SIMD_PORTABLE] = f##_portable }
#endif
/* clang-format on */

/* Inlined into every level's kernel, so that its code uses the instructions of that level. */
#define NC_INLINE static inline __attribute__((always_inline, unused))

#endif
