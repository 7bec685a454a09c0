/* fuzz_analytics.c - statistics of any series, against sums in long double and a full sort. */
#include "analytics.h"
#include "fuzz.h"

#define MOST_VALUES 12000
#define MOST_PERCENTILES 70

typedef struct {
    int64_t n, n_percentiles, ddof;
    double *values, *sorted, *percentiles, *at, *scratch;
} series;

/* A few numbers, repeated, ascending or disturbed, so that ties and runs come up. */
static void make_values(offer *from, series *s) {
    int64_t n_drawn = next_in(from, 1, 40);
    double drawn[40];
    int shape = next_byte(from) % 4, moderate = next_byte(from) % 4 != 0;
    for (int64_t i = 0; i < n_drawn; i++)
        drawn[i] = moderate ? next_moderate(from) : next_double(from);
    for (int64_t i = 0; i < s->n; i++) {
        double value = drawn[shape == 1 ? i * n_drawn / s->n : i % n_drawn];
        if (shape == 2)
            value = next_moderate(from);
        if (shape == 3)
            value += (double)(i * 7919 % 257) * 0x1p-8;
        s->values[i] = value;
    }
}

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* numpy.percentile's rule, of a sorted series. */
static double percentile_of(const double *sorted, int64_t n, double q) {
    double h = q / 100 * (double)(n - 1), low = floor(h), t = h - low;
    double a = sorted[(int64_t)low], b = sorted[(int64_t)low + 1 < n ? (int64_t)low + 1 : n - 1];
    double d = b - a;
    return t < 0.5 ? a + d * t : b - d * (1 - t);
}

/* The value in the middle of a sorted series, or between the two that are. */
static double middle_of(const double *sorted, int64_t n) {
    double low = sorted[(n - 1) / 2], high = sorted[n / 2], sum = low + high;
    if (n % 2)
        return low;
    return isinf(sum) && isfinite(low) && isfinite(high) ? low / 2 + high / 2 : sum / 2;
}

/* Whether a double is as near to a number as it must be; beyond all doubles, infinity is. */
static int is_near(double found, long double expected, long double off) {
    if (isinf(found))
        return fabsl(expected) + off > 0x1.fffffffffffffp1023L && (found > 0) == (expected > 0);
    return fabsl((long double)found - expected) <= off;
}

static void check_orders(const series *s, const nc_basic_statistics *found) {
    memcpy(s->sorted, s->values, (size_t)s->n * sizeof *s->sorted);
    qsort(s->sorted, (size_t)s->n, sizeof *s->sorted, by_value);
    CHECK(found->min == s->sorted[0] && found->max == s->sorted[s->n - 1]);
    if (found->infinite || found->max - found->min > 1e300)
        return;
    double largest = fmax(fabs(found->min), fabs(found->max));
    for (int64_t i = 0; i < s->n_percentiles; i++) {
        double expected = percentile_of(s->sorted, s->n, s->percentiles[i]);
        CHECK(fabs(s->at[i] - expected) <= 0x1p-50 * largest);
        CHECK(s->at[i] >= found->min && s->at[i] <= found->max);
    }
    double iqr = percentile_of(s->sorted, s->n, 75) - percentile_of(s->sorted, s->n, 25);
    CHECK(fabs(found->iqr - iqr) <= 0x1p-50 * largest && found->range == found->max - found->min);
    CHECK(found->median == middle_of(s->sorted, s->n));
    for (int64_t i = 0; i < s->n; i++)
        s->sorted[i] = fabs(s->values[i] - found->median);
    qsort(s->sorted, (size_t)s->n, sizeof *s->sorted, by_value);
    CHECK(found->mad == middle_of(s->sorted, s->n));
}

/*
 * Two passes in long double, the second of which corrects the first's mean. The limits are those of
 * the operation's page for series in which all roundings err to one side, as fuzzers find them.
 */
static void check_moments(const series *s, const nc_basic_statistics *found) {
    long double sum = 0, magnitude = 0, n = (long double)s->n;
    for (int64_t i = 0; i < s->n; i++) {
        sum += (long double)s->values[i];
        magnitude += fabsl((long double)s->values[i]);
    }
    CHECK(is_near(found->sum, sum, 5e-15L * magnitude));
    CHECK(is_near(found->mean, sum / n, 1e-14L * magnitude / n + 0x1p-1074L));
    long double mean = sum / n, rest = 0, squares = 0;
    for (int64_t i = 0; i < s->n; i++) {
        long double d = (long double)s->values[i] - mean;
        rest += d;
        squares += d * d;
    }
    squares -= rest * rest / n;
    if (s->ddof >= s->n) {
        CHECK(isnan(found->variance) && isnan(found->std) && isnan(found->sem));
        return;
    }
    long double variance = squares / (long double)(s->n - s->ddof);
    /* In long double a series of 1e100 that differ in the last place has but 11 bits more. */
    long double noise = 0x1p-61L * magnitude / n;
    CHECK(is_near(found->variance, variance, 1e-12L * variance + noise * noise * n + 1e-300L));
    long double std = sqrtl(variance > 0 ? variance : 0);
    CHECK(is_near(found->std, std, 1e-12L * std + noise * sqrtl(n) + 1e-150L));
    CHECK(found->sem == found->std / sqrt((double)s->n));
}

/* Skewness and kurtosis, where the spread is no mere rounding of the mean. */
static void check_shape(const series *s, const nc_basic_statistics *found) {
    long double sum = 0, n = (long double)s->n, powers[5] = {0};
    for (int64_t i = 0; i < s->n; i++)
        sum += (long double)s->values[i];
    for (int64_t i = 0; i < s->n; i++) {
        long double d = (long double)s->values[i] - sum / n;
        powers[2] += d * d / n;
        powers[3] += d * d * d / n;
        powers[4] += d * d * d * d / n;
    }
    if (sqrtl(powers[2]) < 1e-3L * fabsl(sum / n) || powers[2] < 1e-250L)
        return;
    long double skewness = powers[3] / (powers[2] * sqrtl(powers[2]));
    long double kurtosis = powers[4] / (powers[2] * powers[2]) - 3;
    CHECK(fabsl((long double)found->skewness - skewness) <= 1e-10L * (1 + fabsl(skewness)));
    CHECK(fabsl((long double)found->kurtosis - kurtosis) <= 1e-10L * (1 + fabsl(kurtosis)));
}

static void check_first(const series *s, const nc_basic_statistics *found) {
    int64_t missing = 0, infinite = 0;
    for (int64_t i = 0; i < s->n; i++) {
        missing += isnan(s->values[i]) != 0;
        infinite += isinf(s->values[i]) != 0;
    }
    CHECK(found->count == s->n - missing && found->missing == missing);
    CHECK(found->infinite == infinite);
    if (missing || s->n == 0) {
        CHECK(isnan(found->mean) && isnan(found->min) && isnan(found->median));
        return;
    }
    check_orders(s, found);
    if (!infinite) {
        check_moments(s, found);
        check_shape(s, found);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    offer from = offer_of(data, size);
    series s = {.n = next_in(&from, 0, 255), .ddof = next_in(&from, 0, 3)};
    if (next_byte(&from) % 8 == 0)
        s.n = next_in(&from, 0, MOST_VALUES);
    s.n_percentiles = next_in(&from, 0, next_byte(&from) % 4 ? 6 : MOST_PERCENTILES);
    s.values = TAKE(double, s.n);
    s.sorted = TAKE(double, s.n);
    s.percentiles = TAKE(double, s.n_percentiles);
    s.at = TAKE(double, s.n_percentiles);
    s.scratch = TAKE(double, nc_analytics_basic_statistics_scratch(s.n, s.n_percentiles));
    double *first_at = TAKE(double, s.n_percentiles);
    make_values(&from, &s);
    for (int64_t i = 0; i < s.n_percentiles; i++)
        s.percentiles[i] = next_unit(&from) * 100;
    nc_basic_statistics first = {.count = -1};
    CHECK(nc_set_threads((int)next_in(&from, 1, 3)) == NC_OK);
    ON_EACH_LEVEL {
        nc_basic_statistics found;
        CHECK(nc_analytics_basic_statistics(s.n, s.values, s.n_percentiles, s.percentiles, s.ddof,
                                            s.scratch, &found, s.at) == NC_OK);
        if (first.count < 0) {
            first = found;
            memcpy(first_at, s.at, (size_t)s.n_percentiles * sizeof *first_at);
            check_first(&s, &found);
        }
        CHECK(memcmp(&first, &found, sizeof found) == 0);
        CHECK(memcmp(first_at, s.at, (size_t)s.n_percentiles * sizeof *first_at) == 0);
    }
    free(s.values), free(s.sorted), free(s.percentiles);
    free(s.at), free(s.scratch), free(first_at);
    return 0;
}
