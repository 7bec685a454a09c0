/* cells.h - order statistics of a series by counting it in cells of equal width. */
#ifndef NC_CELLS_H
#define NC_CELLS_H

#include <stdint.h>

#include "selection.h"

/* A series whose values were counted; all its memory is scratch of the caller. */
typedef struct {
    const double *values;
    int64_t n, grain, n_chunks;
    double origin, scale; /* x lies in cell (x - origin) scale, or in the first or the last */
    int64_t n_cells;
    uint16_t *cell_of; /* [n], and beyond, up to a whole vector, a cell that nobody looks for */
    uint32_t *counts;  /* [n_chunks, n_cells] */
    int64_t *before;   /* [n_cells + 1]: values in the cells before each */
    double *found;     /* room for what is looked for */
} nc_cells;

/* Doubles of scratch that nc_cells_count needs for n values. */
int64_t nc_cells_scratch(int64_t n);

/*
 * Count values [n], without NaN, in cells that suit the orders [n_orders, at least 1], which ascend
 * by rank. Values and scratch stay in use until the last question. Returns 0, with nothing counted,
 * where cells would not help: the series is short, or a sample of it lies in few cells.
 */
int nc_cells_count(nc_cells *cells, const double *values, int64_t n, const nc_order *orders,
                   int64_t n_orders, double *scratch);

/*
 * Fill in `orders` [n_orders], which ascend by rank, exactly as nc_select does. Returns 0, with
 * nothing of use in `orders`, where the cells of some hold too much of the series: nc_select is
 * quicker then.
 */
int nc_cells_select(const nc_cells *cells, nc_order *orders, int64_t n_orders);

/* The same for one order of |values - centre|, centre finite. */
int nc_cells_select_deviation(const nc_cells *cells, double centre, nc_order *order);

#endif
