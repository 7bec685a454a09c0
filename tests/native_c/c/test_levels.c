/* test_levels.c - the levels that run are those that the processor has, and the best is taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "core.h"

static const char *const names[NC_SIMD_LEVELS] = {"portable", "avx2", "avx512", "neon"};

/* Whether a word is among those of a text. */
static int has_word(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
        int starts = at == text || strchr(" \t:", at[-1]) != NULL;
        if (starts && strchr(" \t\n", at[length]) != NULL)
            return 1;
    }
    return 0;
}

#if defined(__x86_64__) && defined(__linux__)
/* What the kernel says of the first processor. */
static const char *flags_of_the_processor(void) {
    static char line[1 << 14];
    FILE *file = fopen("/proc/cpuinfo", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) && strncmp(line, "flags", 5) != 0)
        line[0] = '\0';
    fclose(file);
    return line;
}

static int is_expected_here(int level) {
    static const char *const needed[NC_SIMD_LEVELS][9] = {
        [NC_SIMD_PORTABLE] = {"sse2"},
        [NC_SIMD_AVX2] = {"avx2", "fma", "bmi2"},
        [NC_SIMD_AVX512] = {"avx2", "fma", "bmi2", "avx512f", "avx512dq", "avx512bw", "avx512vl",
                            "avx512cd"},
        [NC_SIMD_NEON] = {"no such flag"},
    };
    const char *flags = flags_of_the_processor();
    for (int i = 0; needed[level][i]; i++)
        if (!has_word(flags, needed[level][i]))
            return 0;
    return 1;
}
#else
static int is_expected_here(int level) {
#  if defined(__aarch64__)
    return level == NC_SIMD_PORTABLE || level == NC_SIMD_NEON;
#  else
    return level == NC_SIMD_PORTABLE;
#  endif
}
#endif

/* An emulator shows the processor of its host, so whoever runs us in one names the levels. */
static int is_expected(int level) {
    const char *told = getenv("NC_EXPECTED_LEVELS");
    return told ? has_word(told, names[level]) : is_expected_here(level);
}

int main(void) {
    int best = NC_SIMD_PORTABLE;
    for (int level = 0; level < NC_SIMD_LEVELS; level++) {
        CHECK(nc_simd_supported(level) == is_expected(level));
        best = is_expected(level) ? level : best;
    }
    CHECK(nc_simd_level() == best);
    printf("the best level is %s\n", names[best]);
    for (int level = -1; level <= NC_SIMD_LEVELS; level++) {
        int before = nc_simd_level();
        if (nc_simd_supported(level)) {
            CHECK(nc_set_simd(level) == NC_OK && nc_simd_level() == level);
        } else {
            CHECK(nc_set_simd(level) == NC_UNSUPPORTED && nc_simd_level() == before);
        }
    }
    CHECK(!nc_simd_supported(-1) && !nc_simd_supported(NC_SIMD_LEVELS));
    return 0;
}
