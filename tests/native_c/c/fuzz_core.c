/* fuzz_core.c - log and exp of any number against libm, draws in any grouping against single ones.
 */
#include "elementary.h"
#include "fuzz.h"
#include "random.h"

#define MOST 600

/* Within 3 units in the last place of libm, which is within 1 of the truth. */
static int is_near(double found, double libm) {
    if (isnan(libm) || isinf(libm) || isnan(found))
        return isnan(libm) ? isnan(found) : found == libm;
    int64_t apart = (int64_t)(nc_bits_of_double(found) - nc_bits_of_double(libm));
    return llabs(apart) <= 3 || fabs(found - libm) <= 3 * 0x1p-1074;
}

static void check_map(int (*map)(int64_t, const double *, double *), double (*libm)(double),
                      int64_t n, const double *values) {
    double *found = TAKE(double, n), *first = TAKE(double, n);
    CHECK(nc_set_simd(NC_SIMD_PORTABLE) == NC_OK && map(n, values, first) == NC_OK);
    for (int64_t i = 0; i < n; i++)
        CHECK(is_near(first[i], libm(values[i])));
    ON_EACH_LEVEL {
        CHECK(map(n, values, found) == NC_OK);
        for (int64_t i = 0; i < n; i++)
            CHECK(memcmp(found + i, first + i, sizeof *found) == 0 || isnan(first[i]));
    }
    free(found), free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    offer from = offer_of(data, size);
    int64_t n = next_in(&from, 0, MOST);
    double *values = TAKE(double, n);
    for (int64_t i = 0; i < n; i++)
        values[i] = next_double(&from);
    check_map(nc_elementary_log, log, n, values);
    check_map(nc_elementary_exp, exp, n, values);
    uint64_t seed = next_word(&from), stream = next_word(&from), begin = next_word(&from);
    uint64_t *words = TAKE(uint64_t, n);
    CHECK(nc_random_words(seed, stream, begin, n, words) == NC_OK);
    CHECK(nc_random_uniform(seed, stream, begin, n, values) == NC_OK);
    for (int64_t i = 0; i < n; i++) {
        CHECK(words[i] == nc_random_word(seed, stream, begin + (uint64_t)i));
        CHECK(values[i] == (double)(words[i] >> 11) * 0x1p-53);
    }
    free(values), free(words);
    return 0;
}
