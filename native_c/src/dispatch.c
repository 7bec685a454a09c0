/* dispatch.c - picks the instruction set once, and lets it be forced. */
#include <stdatomic.h>

#include "dispatch.h"

#define UNPICKED (-1)

static atomic_int level_in_use = UNPICKED;

const char *nc_version(void) {
    return NC_VERSION;
}

const char *nc_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

#if NC_X86
/* The builtins ask the processor and, by xgetbv, whether the system saves its wide registers. */
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
}

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}
#endif

int nc_simd_supported(int level) {
    switch (level) {
    case NC_SIMD_PORTABLE:
        return 1;
#if NC_X86
    case NC_SIMD_AVX2:
        return has_avx2();
    case NC_SIMD_AVX512:
        return has_avx512();
#elif NC_ARM64
    case NC_SIMD_NEON:
        return 1;
#endif
    default:
        return 0;
    }
}

int nc_simd_level(void) {
    int level = atomic_load_explicit(&level_in_use, memory_order_relaxed);
    if (level != UNPICKED)
        return level;
    /* Threads that come here together find the same level, unless one is just being forced. */
    int best = NC_SIMD_LEVELS - 1;
    while (!nc_simd_supported(best))
        best--;
    atomic_compare_exchange_strong(&level_in_use, &level, best);
    return atomic_load(&level_in_use);
}

int nc_set_simd(int level) {
    if (!nc_simd_supported(level))
        return NC_UNSUPPORTED;
    atomic_store(&level_in_use, level);
    return NC_OK;
}
