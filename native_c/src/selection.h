/* selection.h - order statistics of a series without sorting it. */
#ifndef NC_SELECTION_H
#define NC_SELECTION_H

#include <stdint.h>

/* Two neighbours in sorted order: the values of `rank` (from 0) and of the rank above it. */
typedef struct {
    int64_t rank;
    double lower, upper; /* filled in; equal for the highest rank */
} nc_order;

/* Doubles of scratch that nc_select needs for n values and n_orders orders. */
int64_t nc_select_scratch(int64_t n, int64_t n_orders);

/*
 * Fill in `orders` [n_orders], which ascend by rank, each rank in [0, n), from values [n] without
 * NaN; values stay as they are. With `deviations`, from |values - centre| instead, where no
 * difference may be NaN. Exact: the answers are members of the series (-0.0 as 0.0).
 * Expected time O(n + n_orders), worst O(n log n) in practice: samples are drawn at fixed places.
 */
void nc_select(const double *values, int64_t n, int deviations, double centre, nc_order *orders,
               int64_t n_orders, double *scratch);

/* The same for the ranks `first` and `last` (first or first + 1) of few values, overwriting them.
 */
void nc_select_in_place(double *values, int64_t n, int64_t first, int64_t last, nc_order *order);

/* A sorted sample [m] of values [n], one from each of m strata; keys and spare [m] are scratch. */
void nc_draw_sample(const double *values, int64_t n, int64_t m, uint64_t *keys, uint64_t *spare,
                    double *sample);

#endif
