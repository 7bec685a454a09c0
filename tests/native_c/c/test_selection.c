/* test_selection.c - order statistics against qsort, on every level, for data that samples
 * misjudge.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "check.h"
#include "core.h"
#include "selection.h"
#include "sort.h"

#define MOST 140000
#define ORDERS 101

static double values[MOST], copy[MOST], sorted[MOST];
static uint64_t state;

static uint64_t scatter(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static double uniform(void) {
    return (double)(scatter(state++) >> 11) * 0x1p-53;
}

/* The places that the first sample of a series, of so many points, looks at: what is there misleads
 * it. */
static void mislead(int64_t n, int64_t points, double by) {
    for (int64_t i = 0; i < points; i++) {
        int64_t first = i * n / points, width = (i + 1) * n / points - first;
        values[first + (int64_t)(((scatter((uint64_t)i) >> 32) * (uint64_t)width) >> 32)] += by;
    }
}

static double a_normal(int64_t i, int64_t n) {
    (void)i, (void)n;
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}

static double a_cauchy(int64_t i, int64_t n) {
    return a_normal(i, n) / a_normal(i, n);
}

static double a_digit(int64_t i, int64_t n) {
    (void)i, (void)n;
    return floor(10 * uniform());
}

static double mostly_one_value(int64_t i, int64_t n) {
    return uniform() < 0.7 ? 0.25 : a_normal(i, n);
}

/* One value fills the quarter below the median, so that the ranks around it lie on both sides. */
static double a_step(int64_t i, int64_t n) {
    return i < n / 4 ? -1 - uniform() : i < n / 2 ? 0 : 1 + uniform();
}

static double one_of_two(int64_t i, int64_t n) {
    return i < n / 2 ? 1 : 2;
}

static double a_constant(int64_t i, int64_t n) {
    (void)i, (void)n;
    return -3.5;
}

static double ascending(int64_t i, int64_t n) {
    (void)n;
    return (double)i;
}

static double descending(int64_t i, int64_t n) {
    return (double)(n - i);
}

static double an_organ_pipe(int64_t i, int64_t n) {
    return (double)(i < n - i ? i : n - i);
}

static double last_bits(int64_t i, int64_t n) {
    (void)i, (void)n;
    return 1 + floor(40 * uniform()) * 0x1p-52;
}

static double offset_with_outlier(int64_t i, int64_t n) {
    return i == n / 3 ? 1e300 : 1e9 + a_normal(i, n);
}

static double zeros_of_both_signs(int64_t i, int64_t n) {
    return i % 5 == 0 ? a_normal(i, n) : i % 2 ? -0.0 : 0.0;
}

static double half_infinite(int64_t i, int64_t n) {
    return i % 2 ? (double)INFINITY : i % 8 == 0 ? -(double)INFINITY : a_normal(i, n);
}

static double subnormal(int64_t i, int64_t n) {
    return a_normal(i, n) * 1e-310;
}

typedef double (*family)(int64_t, int64_t);
static const family families[] = {
    a_normal,
    a_cauchy,
    a_digit,
    mostly_one_value,
    a_step,
    one_of_two,
    a_constant,
    ascending,
    descending,
    an_organ_pipe,
    last_bits,
    subnormal,
    offset_with_outlier,
    zeros_of_both_signs,
    half_infinite,
};
#define FAMILIES (int)(sizeof families / sizeof *families)

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* n_orders ranks spread from the first to the last. */
static void make_ranks(int64_t n, nc_order *orders, int64_t n_orders) {
    for (int64_t i = 0; i < n_orders; i++)
        orders[i].rank = n_orders == 1 ? (n - 1) / 2 : i * (n - 1) / (n_orders - 1);
}

static void sort(int64_t n, int deviations, double centre) {
    for (int64_t i = 0; i < n; i++)
        sorted[i] = deviations ? fabs(values[i] - centre) : values[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
}

/* Compare with `sorted`. */
static void check_found(int64_t n, const nc_order *orders, int64_t n_orders) {
    for (int64_t i = 0; i < n_orders; i++) {
        int64_t rank = orders[i].rank;
        CHECK(orders[i].lower == sorted[rank]);
        CHECK(orders[i].upper == sorted[rank + 1 < n ? rank + 1 : rank]);
        CHECK(!(orders[i].lower == 0 && signbit(orders[i].lower)));
        CHECK(!(orders[i].upper == 0 && signbit(orders[i].upper)));
    }
}

/* Check ranks against a full sort. */
static void check_orders(int64_t n, int deviations, double centre, int64_t n_orders) {
    nc_order orders[ORDERS];
    make_ranks(n, orders, n_orders);
    memcpy(copy, values, (size_t)n * sizeof *values);
    sort(n, deviations, centre);
    double *scratch = malloc((size_t)nc_select_scratch(n, n_orders) * sizeof *scratch);
    nc_select(values, n, deviations, centre, orders, n_orders, scratch);
    free(scratch);
    CHECK(memcmp(copy, values, (size_t)n * sizeof *values) == 0);
    check_found(n, orders, n_orders);
}

/* The same in cells, and then deviations from some centres; returns how many questions of the four
 * were answered. */
static int check_cells(int64_t n, int64_t n_orders) {
    nc_order orders[ORDERS], deviation = {.rank = (n - 1) / 2};
    nc_cells cells;
    int answered = 0;
    make_ranks(n, orders, n_orders);
    sort(n, 0, 0);
    double centres[] = {sorted[(n - 1) / 2], sorted[n / 3], 0.125};
    double *scratch = malloc((size_t)nc_cells_scratch(n) * sizeof *scratch + 1);
    if (nc_cells_count(&cells, values, n, orders, n_orders, scratch)) {
        if (nc_cells_select(&cells, orders, n_orders)) {
            check_found(n, orders, n_orders);
            answered++;
        }
        for (int c = 0; c < 3; c++)
            if (isfinite(centres[c]) && nc_cells_select_deviation(&cells, centres[c], &deviation)) {
                sort(n, 1, centres[c]);
                check_found(n, &deviation, 1);
                answered++;
            }
    }
    free(scratch);
    return answered;
}

static void make(family of, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        values[i] = of(i, n);
}

static void every_family_gives_what_a_sort_gives(void) {
    static const int64_t sizes[] = {1, 2, 3, 63, 64, 65, 1000, 1024, 1025, 3001, 20011};
    for (int f = 0; f < FAMILIES; f++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            make(families[f], sizes[s]);
            for (int64_t n_orders = 1; n_orders <= 9; n_orders += 4)
                check_orders(sizes[s], 0, 0, n_orders);
            check_orders(sizes[s], 1, 0.125, 1);
        }
}

static void many_orders_are_read_off_a_sort(void) {
    for (int f = 0; f < FAMILIES; f++) {
        make(families[f], 5003);
        check_orders(5003, 0, 0, 40);
        check_orders(5003, 0, 0, ORDERS);
    }
}

static void a_misled_sample_costs_time_but_no_answer(void) {
    for (int f = 0; f < FAMILIES; f++)
        for (double by = -1000; by <= 1000; by += 2000) {
            make(families[f], 20011);
            mislead(20011, 1024, by);
            check_orders(20011, 0, 0, 5);
            check_orders(20011, 1, 1, 1);
        }
}

static void long_series_are_cut_into_chunks(void) {
    for (int threads = 1; threads <= 3; threads++) {
        CHECK(nc_set_threads(threads) == NC_OK);
        make(threads == 2 ? a_digit : a_normal, MOST);
        check_orders(MOST, 0, 0, 5);
        check_orders(MOST, 1, 0.5, 1);
    }
    make(a_normal, MOST);
    mislead(MOST, 1024, -1000);
    check_orders(MOST, 0, 0, 5);
}

static void cells_give_what_a_sort_gives(void) {
    static const int64_t sizes[] = {1, 256, 257, 1000, 3001, 20011};
    for (int f = 0; f < FAMILIES; f++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int64_t n_orders = 1; n_orders <= 9; n_orders += 8) {
                make(families[f], sizes[s]);
                check_cells(sizes[s], n_orders);
                mislead(sizes[s], 256, f % 2 ? 1000 : -0.5);
                check_cells(sizes[s], n_orders);
            }
}

static void cells_answer_for_data_that_spread(void) {
    static const family spread[] = {a_normal, a_cauchy, ascending, descending, an_organ_pipe};
    for (int f = 0; f < 5; f++) {
        make(spread[f], 20011);
        CHECK(check_cells(20011, 5) == 4);
        CHECK(check_cells(20011, ORDERS) == 4);
    }
}

static void cells_of_all_chunks_are_put_together(void) {
    for (int threads = 1; threads <= 3; threads++) {
        CHECK(nc_set_threads(threads) == NC_OK);
        make(threads == 2 ? offset_with_outlier : a_normal, MOST);
        CHECK(check_cells(MOST, 5) >= 3);
    }
}

static void keys_order_as_doubles_do(void) {
    static const double ladder[] = {-(double)INFINITY, -1e308, -1, -5e-324, 0, 5e-324, 1, 1e308};
    for (size_t i = 1; i < sizeof ladder / sizeof *ladder; i++) {
        CHECK(nc_key_of(ladder[i - 1]) < nc_key_of(ladder[i]));
        CHECK(nc_value_of(nc_key_of(ladder[i])) == ladder[i]);
    }
    CHECK(nc_key_of(-0.0) == nc_key_of(0.0));
}

int main(void) {
    keys_order_as_doubles_do();
    ON_EACH_LEVEL {
        every_family_gives_what_a_sort_gives();
        a_misled_sample_costs_time_but_no_answer();
        long_series_are_cut_into_chunks();
        cells_give_what_a_sort_gives();
        cells_answer_for_data_that_spread();
        cells_of_all_chunks_are_put_together();
    }
    many_orders_are_read_off_a_sort();
    return 0;
}
