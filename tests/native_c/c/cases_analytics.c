/* cases_analytics.c - the cases of analytics.h: see cases.h. */
#include <stddef.h>

#include "analytics.h"
#include "cases.h"

static int describe(case_run *run, int64_t n, const double *values, int64_t n_percentiles) {
    static const double anywhere;
    const double *percentiles = case_doubles(run, n_percentiles, 0, 100);
    if (!percentiles) /* NULL has a meaning of its own here, see below */
        percentiles = &anywhere;
    int64_t size = nc_analytics_basic_statistics_scratch(n, n_percentiles);
    double *scratch = case_output(run, size * (int64_t)sizeof *scratch);
    double *at = case_output(run, n_percentiles * (int64_t)sizeof *at);
    nc_basic_statistics *found = case_output(run, sizeof *found);
    int status =
        nc_analytics_basic_statistics(n, values, n_percentiles, percentiles, 1, scratch, found, at);
    case_add(run, &found->count, 3 * sizeof found->count);
    case_add_doubles(run, &found->sum, (int64_t)(sizeof *found - 3 * sizeof found->count) / 8);
    case_add_doubles(run, at, n_percentiles);
    return status;
}

KERNEL_CASE(basic_statistics_of_values, .pooled = 140001, .block = 4096) {
    return describe(run, n, case_doubles(run, n, -1e3, 1e9), 5);
}

KERNEL_CASE(basic_statistics_of_extremes, .pooled = 70001, .block = 4096) {
    return describe(run, n, case_doubles(run, n, -1e308, 1e308), 2);
}

KERNEL_CASE(basic_statistics_of_a_constant, .pooled = 70001, .block = 4096) {
    return describe(run, n, case_doubles(run, n, 3, 3), 5);
}

KERNEL_CASE(basic_statistics_at_percentiles) {
    return describe(run, 1500, case_doubles(run, 1500, 0, 1), n);
}

KERNEL_CASE(basic_statistics_without_orders, .pooled = 140001, .block = 4096) {
    const double *values = case_doubles(run, n, -5, 7);
    nc_basic_statistics *found = case_output(run, sizeof *found);
    int status = nc_analytics_basic_statistics(n, values, 0, NULL, 0, NULL, found, NULL);
    case_add(run, &found->count, 3 * sizeof found->count);
    case_add_doubles(run, &found->sum, (int64_t)(sizeof *found - 3 * sizeof found->count) / 8);
    return status;
}
