/* moments.h - count, sum, extremes and central moments of a series, combined from its parts. */
#ifndef NC_MOMENTS_H
#define NC_MOMENTS_H

#include <stdint.h>

/*
 * What one pass over a part of a series leaves, enough to combine parts without loss.
 *
 * The mean is the unevaluated sum of two doubles: with an offset of 1e9 the rounding of a single
 * one, 6e-8, would be the larger part of the distance between the means of two parts.
 */
typedef struct {
    double n;              /* number of values */
    double mean, mean_low; /* mean + mean_low is the mean */
    double m2, m3, m4;     /* sums of powers of the distance from the mean */
    double sum, sum_low;   /* sum + sum_low is the sum */
    double min, max;       /* NaN is passed over; infinity and -infinity when there is no value */
    int64_t missing, infinite; /* number of NaN, and of infinities of either sign */
} nc_moments;

/*
 * The moments of scale * values [n]; scale is a power of two, so that it rounds nothing.
 *
 * Where `missing` or `infinite` is above zero, only they, n, min and max have a meaning.
 * The same bits on every instruction set and any number of threads.
 */
nc_moments nc_moments_of(const double *values, int64_t n, double scale);

#endif
