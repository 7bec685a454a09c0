/* cases_core.c - the cases of core.h: see cases.h. */
#include "cases.h"
#include "core.h"

KERNEL_CASE(random_words) {
    uint64_t *words = case_output(run, n * (int64_t)sizeof *words);
    int status = nc_random_words(3, 5, 6, n, words);
    case_add(run, words, n * (int64_t)sizeof *words);
    return status;
}

KERNEL_CASE(random_uniform) {
    double *units = case_output(run, n * (int64_t)sizeof *units);
    int status = nc_random_uniform(3, 5, 1, n, units);
    case_add_doubles(run, units, n);
    return status;
}

KERNEL_CASE(elementary_log) {
    const double *values = case_doubles(run, n, -1, 1e3);
    double *out = case_output(run, n * (int64_t)sizeof *out);
    int status = nc_elementary_log(n, values, out);
    case_add_doubles(run, out, n);
    return status;
}

KERNEL_CASE(elementary_exp) {
    const double *values = case_doubles(run, n, -760, 720);
    double *out = case_output(run, n * (int64_t)sizeof *out);
    int status = nc_elementary_exp(n, values, out);
    case_add_doubles(run, out, n);
    return status;
}
