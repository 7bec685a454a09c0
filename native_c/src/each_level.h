/*
 * each_level.h - includes the header named by NC_TEMPLATE once per instruction set of this build.
 *
 * Around each inclusion stand:
 *   NC_NAME(f)          f with the level's suffix: f_portable, f_avx2, f_avx512 or f_neon
 *   NC_TARGET           the attribute that compiles one function for the level; every function of
 *                       a template begins with it
 *   NC_LEVEL_PORTABLE, NC_LEVEL_AVX2, NC_LEVEL_AVX512, NC_LEVEL_NEON
 *                       1 for the level being compiled, else 0
 * Several templates in one source: define NC_TEMPLATE and include this file again.
 */
#include "dispatch.h"

#ifndef NC_TEMPLATE
#    error "define NC_TEMPLATE, the name of a template header, before each_level.h"
#endif

/* By default gcc may halve the vectors, against clock drops that processors no longer have. */
#if defined(__clang__)
#    define NC_WIDE
#else
#    define NC_WIDE ",prefer-vector-width=512"
#endif

#define NC_LEVEL_PORTABLE 1
#define NC_LEVEL_AVX2 0
#define NC_LEVEL_AVX512 0
#define NC_LEVEL_NEON 0
#define NC_TARGET
#define NC_NAME(f) f##_portable
#include NC_TEMPLATE
#undef NC_LEVEL_PORTABLE
#undef NC_TARGET
#undef NC_NAME
#define NC_LEVEL_PORTABLE 0

#if NC_X86
#    undef NC_LEVEL_AVX2
#    define NC_LEVEL_AVX2 1
#    define NC_TARGET __attribute__((target("avx2,fma,bmi2")))
#    define NC_NAME(f) f##_avx2
#    include NC_TEMPLATE
#    undef NC_LEVEL_AVX2
#    undef NC_TARGET
#    undef NC_NAME
#    define NC_LEVEL_AVX2 0

#    undef NC_LEVEL_AVX512
#    define NC_LEVEL_AVX512 1
#    define NC_TARGET                                                                              \
    __attribute__((target("avx2,fma,bmi2,avx512f,avx512dq,avx512bw,avx512vl,"                      \
                          "avx512cd" NC_WIDE)))
#    define NC_NAME(f) f##_avx512
#    include NC_TEMPLATE
#    undef NC_TARGET
#    undef NC_NAME
#elif NC_ARM64
#    undef NC_LEVEL_NEON
#    define NC_LEVEL_NEON 1
#    define NC_TARGET
#    define NC_NAME(f) f##_neon
#    include NC_TEMPLATE
#    undef NC_TARGET
#    undef NC_NAME
#endif

#undef NC_LEVEL_PORTABLE
#undef NC_LEVEL_AVX2
#undef NC_LEVEL_AVX512
#undef NC_LEVEL_NEON
#undef NC_WIDE
#undef NC_TEMPLATE
