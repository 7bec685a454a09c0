/* test_elementary.c - log and exp are near libm's, and have one set of bits on every level. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "core.h"
#include "elementary.h"

#define N 20011

static double values[N], first[N], again[N];

/* Distance in units of the last place, for finite doubles of one sign. */
static int64_t ulps_between(double a, double b) {
    int64_t distance = (int64_t)(nc_bits_of_double(a) - nc_bits_of_double(b));
    return distance < 0 ? -distance : distance;
}

static int same(double a, double b) {
    return nc_bits_of_double(a) == nc_bits_of_double(b) || (isnan(a) && isnan(b));
}

static void check(int (*map)(int64_t, const double *, double *), double (*libm)(double)) {
    CHECK(nc_set_simd(NC_SIMD_PORTABLE) == NC_OK);
    CHECK(map(N, values, first) == NC_OK);
    for (int i = 0; i < N; i++) {
        double expected = libm(values[i]);
        CHECK(isfinite(expected) ? ulps_between(first[i], expected) <= 3
                                 : same(first[i], expected));
    }
    ON_EACH_LEVEL {
        memset(again, 0, sizeof again);
        CHECK(map(N, values, again) == NC_OK);
        for (int i = 0; i < N; i++)
            CHECK(same(first[i], again[i]));
    }
    CHECK(map(-1, values, again) == NC_INVALID);
}

int main(void) {
    static const double special[] = {0.0,       -0.0, 1.0,       -1.0,      INFINITY,
                                     -INFINITY, NAN,  0x1p-1074, 0x1p-1022, 0x1.fffffffffffffp1023};
    for (int i = 0; i < N; i++)
        values[i] = ldexp(1.0 + (i * 7919 % N) / (double)N, i * 104729 % 2100 - 1074);
    memcpy(values, special, sizeof special);
    check(nc_elementary_log, log);
    for (int i = 0; i < N; i++)
        values[i] = (i * 7919 % N) / (double)N * 1480.0 - 755.0;
    memcpy(values, special, sizeof special);
    check(nc_elementary_exp, exp);
    for (int64_t i = 0; i < 63; i++)
        for (int64_t step = -2; step <= 2; step++) {
            int64_t count = ((int64_t)1 << i) + step * ((int64_t)1 << i / 3);
            if (count >= 0)
                CHECK(nc_double_of_count(count) == (double)count);
        }
    CHECK(nc_double_of_count(INT64_MAX) == 0x1p63);
    return 0;
}
