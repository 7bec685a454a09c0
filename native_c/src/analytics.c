/* analytics.c - public functions of analytics.h. */
#include <math.h>
#include <stdlib.h>

#include "analytics.h"
#include "cells.h"
#include "moments.h"
#include "selection.h"

/* Fourth powers of distances in this range neither overflow nor vanish, nor does a sum of them. */
#define LARGE_RANGE 1e60
#define SMALL_RANGE 1e-60

static const double EPSILON = 0x1p-52;

/* ---- moments ---- */

/* The exponent by which to scale a series before its powers are summed; 0 for all but extremes. */
static int exponent_of(double range) {
    if (range == 0 || (range > SMALL_RANGE && range < LARGE_RANGE))
        return 0;
    /* range may have overflowed; and 2^-exponent has to be a double itself. */
    int exponent = isinf(range) ? 1024 : ilogb(range);
    return exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent;
}

static void set_shape(nc_basic_statistics *s, const nc_moments *m) {
    double m2 = m->m2 / m->n, least = EPSILON * m->mean;
    if (m2 <= least * least)
        return;
    s->skewness = m->m3 / m->n / (m2 * sqrt(m2));
    s->kurtosis = m->m4 / m->n / (m2 * m2) - 3;
}

/* Sum to kurtosis of a finite series that is not constant, from its moments. */
static void set_moments(nc_basic_statistics *s, const double *values, const nc_moments *first,
                        int64_t ddof) {
    int exponent = exponent_of(first->max - first->min);
    nc_moments m = exponent ? nc_moments_of(values, s->count, ldexp(1.0, -exponent)) : *first;
    s->sum = first->sum + first->sum_low;
    if (!isfinite(s->sum))
        s->sum = ldexp(m.sum + m.sum_low, exponent);
    s->mean = ldexp(m.mean + m.mean_low, exponent);
    if (ddof < s->count) {
        double variance = m.m2 / (double)(s->count - ddof);
        s->variance = ldexp(variance, 2 * exponent);
        s->std = ldexp(sqrt(variance), exponent);
        s->sem = s->std / sqrt(m.n);
    }
    set_shape(s, &m);
}

static void set_constant(nc_basic_statistics *s, double value, int64_t ddof) {
    s->sum = value * (double)s->count;
    s->mean = value;
    if (ddof < s->count)
        s->variance = s->std = s->sem = 0;
}

static void set_infinite(nc_basic_statistics *s) {
    int both = isinf(s->min) && isinf(s->max) && s->min != s->max;
    s->sum = s->mean = both ? (double)NAN : isinf(s->max) ? s->max : s->min;
}

/* ---- order statistics ---- */

/* Where a percentile lies between two ranks. */
typedef struct {
    int64_t rank;
    double weight; /* of the upper one */
} position;

static position position_of(double percentile, int64_t n) {
    double at = (double)(n - 1) * (percentile / 100);
    if (at >= (double)(n - 1))
        return (position){.rank = n - 1, .weight = 0};
    double rank = floor(at);
    return (position){.rank = (int64_t)rank, .weight = at - rank};
}

static int by_rank(const void *a, const void *b) {
    int64_t left = ((const nc_order *)a)->rank, right = ((const nc_order *)b)->rank;
    return (left > right) - (left < right);
}

static const nc_order *order_at(const nc_order *orders, int64_t n_orders, int64_t rank) {
    nc_order wanted = {.rank = rank};
    return bsearch(&wanted, orders, (size_t)n_orders, sizeof wanted, by_rank);
}

/* numpy.percentile's rounding: from the nearer end. */
static double between(const nc_order *order, double weight) {
    double step = order->upper - order->lower;
    return weight >= 0.5 ? order->upper - step * (1 - weight) : order->lower + step * weight;
}

static double percentile_at(const nc_order *orders, int64_t n_orders, double percentile,
                            int64_t n) {
    position p = position_of(percentile, n);
    return between(order_at(orders, n_orders, p.rank), p.weight);
}

/* The mean of two values; of halves where their sum overflows. */
static double middle(double a, double b) {
    double sum = a + b;
    return isinf(sum) && isfinite(a) && isfinite(b) ? a / 2 + b / 2 : sum / 2;
}

static double median_of(const nc_order *order, int64_t n) {
    return n % 2 ? order->lower : middle(order->lower, order->upper);
}

static void set_orders(nc_basic_statistics *s, const double *values, int64_t n,
                       const double *percentiles, int64_t n_percentiles, nc_order *orders,
                       double *scratch, double *at_percentiles) {
    int64_t n_orders = 0, n_unique = 0;
    for (int64_t i = 0; i < n_percentiles; i++)
        orders[n_orders++].rank = position_of(percentiles[i], n).rank;
    orders[n_orders++].rank = (n - 1) / 2;
    orders[n_orders++].rank = position_of(25, n).rank;
    orders[n_orders++].rank = position_of(75, n).rank;
    qsort(orders, (size_t)n_orders, sizeof *orders, by_rank);
    for (int64_t i = 0; i < n_orders; i++)
        if (n_unique == 0 || orders[i].rank != orders[n_unique - 1].rank)
            orders[n_unique++] = orders[i];
    nc_cells cells;
    int in_cells = nc_cells_count(&cells, values, n, orders, n_unique, scratch) &&
                   nc_cells_select(&cells, orders, n_unique);
    if (!in_cells)
        nc_select(values, n, 0, 0, orders, n_unique, scratch);
    for (int64_t i = 0; i < n_percentiles; i++)
        at_percentiles[i] = percentile_at(orders, n_unique, percentiles[i], n);
    s->iqr = percentile_at(orders, n_unique, 75, n) - percentile_at(orders, n_unique, 25, n);
    s->median = median_of(order_at(orders, n_unique, (n - 1) / 2), n);
    if (isfinite(s->median)) {
        nc_order deviation = {.rank = (n - 1) / 2};
        if (!in_cells || !nc_cells_select_deviation(&cells, s->median, &deviation))
            nc_select(values, n, 1, s->median, &deviation, 1, scratch);
        s->mad = median_of(&deviation, n);
    }
}

/* ---- the operation ---- */

/* Orders that a call may ask for: the percentiles, the quartiles and the median. */
static int64_t n_orders_of(int64_t n_percentiles) {
    return n_percentiles + 3;
}

int64_t nc_analytics_basic_statistics_scratch(int64_t n, int64_t n_percentiles) {
    int64_t n_orders = n_orders_of(n_percentiles);
    int64_t one = nc_select_scratch(n, 1), all = nc_select_scratch(n, n_orders);
    int64_t most = nc_cells_scratch(n);
    most = one > most ? one : most;
    return 3 * n_orders + (all > most ? all : most);
}

static int all_legal(const double *percentiles, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(percentiles[i] >= 0 && percentiles[i] <= 100))
            return 0;
    return 1;
}

int nc_analytics_basic_statistics(int64_t n, const double *values, int64_t n_percentiles,
                                  const double *percentiles, int64_t ddof, double *scratch,
                                  nc_basic_statistics *statistics, double *at_percentiles) {
    if (n < 0 || n_percentiles < 0 || ddof < 0 || (n_percentiles > 0 && !percentiles) ||
        !all_legal(percentiles, n_percentiles))
        return NC_INVALID;
    const double nan = (double)NAN;
    nc_moments m = nc_moments_of(values, n, 1.0);
    nc_basic_statistics s = {
        .count = n - m.missing,
        .missing = m.missing,
        .infinite = m.infinite,
        .sum = n ? nan : 0,
        .mean = nan,
        .variance = nan,
        .std = nan,
        .sem = nan,
        .min = nan,
        .max = nan,
        .range = nan,
        .median = nan,
        .iqr = nan,
        .mad = nan,
        .skewness = nan,
        .kurtosis = nan,
    };
    for (int64_t i = 0; i < n_percentiles; i++)
        at_percentiles[i] = nan;
    if (n > 0 && m.missing == 0) {
        s.min = m.min + 0.0;
        s.max = m.max + 0.0;
        s.range = s.max - s.min;
        if (m.infinite)
            set_infinite(&s);
        else if (s.range == 0)
            set_constant(&s, s.min, ddof);
        else
            set_moments(&s, values, &m, ddof);
        if (percentiles)
            set_orders(&s, values, n, percentiles, n_percentiles, (nc_order *)scratch,
                       scratch + 3 * n_orders_of(n_percentiles), at_percentiles);
    }
    *statistics = s;
    return NC_OK;
}
