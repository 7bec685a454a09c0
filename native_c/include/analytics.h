/* analytics.h - kernels of statistics of one series. Conventions: core.h. */
#ifndef NC_ANALYTICS_H
#define NC_ANALYTICS_H

#include "core.h"

/* cffi: begin */

/* Statistics of a series; what each field means: nc_analytics_basic_statistics. */
typedef struct {
    int64_t count;    /* values that are not NaN */
    int64_t missing;  /* NaN; where there is any, everything below but `infinite` is NaN */
    int64_t infinite; /* infinities of either sign */
    double sum, mean, variance, std, sem;
    double min, max, range, median, iqr, mad;
    double skewness, kurtosis;
} nc_basic_statistics;

/* Doubles of work space that nc_analytics_basic_statistics needs. */
int64_t nc_analytics_basic_statistics_scratch(int64_t n, int64_t n_percentiles);

/*
 * Statistics of values [n]: what NumPy and SciPy say of the same array, for special values too.
 *
 *   sum            of blocks of 4096 values, the blocks added with compensation
 *   mean           of the blocks' means, kept to twice the precision: no offset costs digits
 *   variance, std  sum (x - mean)^2 / (n - ddof), and its root; NaN where ddof >= n
 *   sem            std / sqrt(n)
 *   min, max       and range = max - min
 *   median         mean of the two middle values, or the middle one
 *   percentile q   with h = q / 100 (n - 1), between the values of ranks floor(h) and floor(h) + 1
 *                  (Hyndman, Fan 1996, type 7), rounded as numpy.percentile rounds
 *   iqr            percentile 75 - percentile 25
 *   mad            median of |x - median|, not scaled
 *   skewness       m3 / m2^(3/2), and kurtosis m4 / m2^2 - 3, of the central moments m2, m3, m4;
 *                  NaN where m2 <= (2^-52 mean)^2: constant up to rounding (SciPy's rule)
 *
 * No intermediate overflows or underflows while the answer would not: values far from 1 in scale
 * are scaled by a power of two. n = 0 gives a sum of 0 and NaN elsewhere. Infinities are values:
 * infinite or NaN results as the formulas give them.
 *
 *   n, n_percentiles  zero or more
 *   percentiles       [n_percentiles], each in [0, 100]; NULL, with no percentiles, for no order
 *                     statistics: median, iqr and mad are NaN then, in a quarter of the time
 *   ddof              zero or more
 *   scratch           [nc_analytics_basic_statistics_scratch(n, n_percentiles)], any content; not
 *                     used, and may be NULL, where percentiles is NULL
 *   statistics        out
 *   at_percentiles    out [n_percentiles]
 *
 * The same bits on every instruction set. Time O(n).
 * Returns NC_OK, or NC_INVALID where a range is not kept.
 */
int nc_analytics_basic_statistics(int64_t n, const double *values, int64_t n_percentiles,
                                  const double *percentiles, int64_t ddof, double *scratch,
                                  nc_basic_statistics *statistics, double *at_percentiles);

/* cffi: end */

#endif
