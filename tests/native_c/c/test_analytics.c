/* test_analytics.c - statistics of series whose statistics are known in closed form. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "analytics.h"
#include "check.h"
#include "core.h"

#define MOST 100003

static double values[MOST], scratch[2 * MOST + 100000];
static const double percentiles[] = {100, 0, 12.5};
static double at[3], at_first[3];

static nc_basic_statistics describe(int64_t n, int64_t ddof) {
    nc_basic_statistics found;
    CHECK(nc_analytics_basic_statistics_scratch(n, 3) <=
          (int64_t)(sizeof scratch / sizeof *scratch));
    CHECK(nc_analytics_basic_statistics(n, values, 3, percentiles, ddof, scratch, &found, at) ==
          NC_OK);
    return found;
}

static int close_to(double found, double expected, double relative) {
    return fabs(found - expected) <= relative * fabs(expected);
}

/* offset + step * (0, 1, ..., n - 1) in an order that mixes blocks and chunks. */
static void make_progression(int64_t n, double offset, double step) {
    for (int64_t i = 0; i < n; i++)
        values[i * 40009 % n] = offset + step * (double)i;
}

static void check_progression(int64_t n, double offset, double step) {
    make_progression(n, offset, step);
    nc_basic_statistics s = describe(n, 0);
    double size = (double)n, last = size - 1;
    CHECK(s.count == n && s.missing == 0 && s.infinite == 0);
    CHECK(close_to(s.mean, offset + step * last / 2, 1e-15));
    CHECK(close_to(s.variance, step * step * (size * size - 1) / 12, 1e-14));
    CHECK(close_to(s.std, step * sqrt((size * size - 1) / 12), 1e-14));
    CHECK(close_to(s.sem, s.std / sqrt(size), 1e-15));
    CHECK(fabs(s.skewness) < 1e-13);
    CHECK(close_to(s.kurtosis, -6 * (size * size + 1) / (5 * (size * size - 1)), 1e-13));
    CHECK(s.min == offset && s.max == offset + step * last && s.range == step * last);
    CHECK(s.median == offset + step * last / 2);
    CHECK(s.iqr == step * last / 2);
    CHECK(at[0] == s.max && at[1] == s.min && at[2] == offset + step * last / 8);
}

/* All numbers below are exact in binary: steps are powers of two, and n - 1 is divisible by 8. */
static void progressions_have_their_closed_forms(void) {
    static const int64_t sizes[] = {9, 2049, 32777, 100001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_progression(sizes[i], 0, 1);
        check_progression(sizes[i], 1e9, 0x1p-10);
        check_progression(sizes[i], -0x1p500, 0x1p470);
        check_progression(sizes[i], 0, 0x1p-300);
    }
}

static void extremes_of_the_range_stay_inside(void) {
    make_progression(2049, -0x1p1023, 0x1p1012);
    nc_basic_statistics s = describe(2049, 0);
    CHECK(close_to(s.std, 0x1p1012 * sqrt((2049.0 * 2049 - 1) / 12), 1e-14));
    CHECK(s.variance == (double)INFINITY);
    CHECK(close_to(s.kurtosis, -6 * (2049.0 * 2049 + 1) / (5 * (2049.0 * 2049 - 1)), 1e-13));
}

static void the_bits_do_not_depend_on_levels_or_threads(void) {
    for (int64_t i = 0; i < MOST; i++)
        values[i] = sin((double)(i * i % 7919)) * exp((double)(i % 13)) + 1e6;
    CHECK(nc_set_threads(1) == NC_OK && nc_set_simd(NC_SIMD_PORTABLE) == NC_OK);
    nc_basic_statistics first = describe(MOST, 1);
    memcpy(at_first, at, sizeof at);
    ON_EACH_LEVEL for (int threads = 1; threads <= 7; threads += 2) {
        CHECK(nc_set_threads(threads) == NC_OK);
        nc_basic_statistics found = describe(MOST, 1);
        CHECK(memcmp(&found, &first, sizeof found) == 0);
        CHECK(memcmp(at, at_first, sizeof at) == 0);
    }
}

static void arguments_outside_their_range_are_refused(void) {
    static const double wrong[] = {-0.5, 100.5, (double)NAN};
    nc_basic_statistics s;
    for (int i = 0; i < 3; i++)
        CHECK(nc_analytics_basic_statistics(5, values, 1, wrong + i, 0, scratch, &s, at) ==
              NC_INVALID);
    CHECK(nc_analytics_basic_statistics(-1, values, 0, wrong, 0, scratch, &s, at) == NC_INVALID);
    CHECK(nc_analytics_basic_statistics(5, values, -1, wrong, 0, scratch, &s, at) == NC_INVALID);
    CHECK(nc_analytics_basic_statistics(5, values, 0, wrong, -1, scratch, &s, at) == NC_INVALID);
}

static void without_percentiles_there_is_no_order(void) {
    make_progression(2049, 1e9, 1);
    nc_basic_statistics all = describe(2049, 1), s;
    CHECK(nc_analytics_basic_statistics(2049, values, 0, NULL, 1, NULL, &s, NULL) == NC_OK);
    CHECK(isnan(s.median) && isnan(s.iqr) && isnan(s.mad));
    CHECK(s.sum == all.sum && s.mean == all.mean && s.kurtosis == all.kurtosis && s.max == all.max);
    CHECK(nc_analytics_basic_statistics(2049, values, 1, NULL, 1, NULL, &s, at) == NC_INVALID);
}

static void nothing_and_nan_have_no_statistics(void) {
    nc_basic_statistics s = describe(0, 1);
    CHECK(s.count == 0 && s.sum == 0 && isnan(s.mean) && isnan(s.min) && isnan(at[0]));
    make_progression(100, 0, 1);
    values[7] = (double)NAN;
    values[50] = -(double)INFINITY;
    s = describe(100, 1);
    CHECK(s.count == 99 && s.missing == 1 && s.infinite == 1);
    CHECK(isnan(s.sum) && isnan(s.max) && isnan(s.median) && isnan(at[2]));
}

int main(void) {
    progressions_have_their_closed_forms();
    extremes_of_the_range_stay_inside();
    the_bits_do_not_depend_on_levels_or_threads();
    arguments_outside_their_range_are_refused();
    without_percentiles_there_is_no_order();
    nothing_and_nan_have_no_statistics();
    return 0;
}
