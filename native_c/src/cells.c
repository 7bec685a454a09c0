/*
 * cells.c - order statistics by one counting pass.
 *
 * The series is cut into cells of equal width over the values that its sample makes likely to hold
 * the wanted ranks; the first and the last cell take what lies beyond. One pass counts it cell by
 * cell. The counts say exactly in which cell each rank lies, and a second pass, over the cells'
 * numbers of two bytes each, collects the few values there. The sample only decides how few: which
 * cell a value is in grows with the value, whatever rounding does, so that the answers are exact.
 *
 * The same counts tell between which distances from a centre half of the series lies, so that the
 * median absolute deviation costs no more than another collection.
 */
#include <math.h>
#include <string.h>

#include "cells.h"
#include "dispatch.h"
#include "pool.h"

#if NC_X86
#  include <immintrin.h>
#endif

/* Cells: their tables fit in the nearest cache; fewer for a short series. */
#define CELLS_MOST 2048
#define CELLS_LEAST 256
#define VALUES_PER_CELL 16
#define CELLS_TABLES 4
/* Values whose cells are computed together, in vectors, before they are counted. */
#define CELLS_TILE 512
/* A cell that no value has: what fills the last vector of a series. */
#define CELLS_NONE UINT16_MAX
#define CELLS_VECTOR 32
/* Values per chunk of the pool, about 10 us of work, and chunks at most. */
#define CELLS_GRAIN 32768
#define CELLS_CHUNKS 256
/* Points of the sample, those at its ends that no range begins or ends at, and the half width of a
 * rank's place in it in standard deviations. */
#define SAMPLE_POINTS 256
#define SAMPLE_ENDS 4
#define SAMPLE_WIDTH 2.4
/* Shorter series than a sample are sorted instead. */
#define VALUES_LEAST (SAMPLE_POINTS + 1)
/* Ranges of cells that one pass collects. */
#define RANGES_MOST 8
/* This part of a series is too much to collect. */
#define COLLECTED_PART 4

typedef struct {
    int n_ranges;
    uint16_t first[RANGES_MOST], width[RANGES_MOST]; /* cells first to first + width */
    uint8_t list_of[CELLS_MOST];                     /* of the cells inside ranges */
} cells_plan;

#define NC_TEMPLATE "analytics_cells_template.h"
#include "each_level.h"

/* ---- counting ---- */

static int64_t grain_for(int64_t n) {
    int64_t grain = CELLS_GRAIN;
    while (n > grain * CELLS_CHUNKS)
        grain *= 2;
    return grain;
}

static int64_t cells_for(int64_t n) {
    int64_t n_cells = CELLS_LEAST;
    while (n_cells < CELLS_MOST && n_cells * VALUES_PER_CELL < n)
        n_cells *= 2;
    return n_cells;
}

static int64_t padded(int64_t n) {
    return (n + CELLS_VECTOR - 1) / CELLS_VECTOR * CELLS_VECTOR;
}

/* Values collected at most: twice, for each list is copied before it is searched. */
static int64_t most_collected(int64_t n) {
    return n / COLLECTED_PART;
}

int64_t nc_cells_scratch(int64_t n) {
    if (n < VALUES_LEAST)
        return 0;
    int64_t n_cells = cells_for(n), n_chunks = (n + grain_for(n) - 1) / grain_for(n);
    return 3 * SAMPLE_POINTS + n_cells + 1 + n_chunks * n_cells / 2 + padded(n) / 4 +
           2 * most_collected(n);
}

/* The cell of any value. */
static int64_t cell_of(const nc_cells *cells, double value) {
    double at = (value - cells->origin) * cells->scale, last = (double)(cells->n_cells - 1);
    return at > 0 ? (int64_t)(at < last ? at : last) : 0;
}

/* Whether the points of the sample show that the cells of most passes hold too much. */
static int is_crowded(const nc_cells *cells, const double *sample, const nc_order *orders,
                      int64_t n_orders) {
    int64_t others = 0, seen = -1;
    for (int64_t i = 0; i < n_orders; i++) {
        int64_t at = (int64_t)((double)orders[i].rank / (double)cells->n * SAMPLE_POINTS);
        int64_t cell = cell_of(cells, sample[at]);
        if (cell == seen)
            continue;
        seen = cell;
        for (int64_t p = at - 1; p >= 0 && cell_of(cells, sample[p]) == cell; p--)
            others++;
        for (int64_t p = at + 1; p < SAMPLE_POINTS && cell_of(cells, sample[p]) == cell; p++)
            others++;
    }
    return others > SAMPLE_POINTS / COLLECTED_PART * (1 + n_orders / RANGES_MOST);
}

/* Spread the cells over the likely values of the orders; 0 where that would not help. */
static int spread_cells(nc_cells *cells, const nc_order *orders, int64_t n_orders,
                        double *scratch) {
    uint64_t *keys = (uint64_t *)scratch;
    double *sample = scratch + 2 * SAMPLE_POINTS, points = SAMPLE_POINTS, n = (double)cells->n;
    nc_draw_sample(cells->values, cells->n, SAMPLE_POINTS, keys, keys + SAMPLE_POINTS, sample);
    double first = (double)orders[0].rank / n, last = (double)(orders[n_orders - 1].rank + 1) / n;
    double down = first * points - SAMPLE_WIDTH * sqrt(points * first * (1 - first)) - 1;
    double up = last * points + SAMPLE_WIDTH * sqrt(points * last * (1 - last)) + 1;
    double most = SAMPLE_POINTS - 1 - SAMPLE_ENDS;
    double low = sample[(int)(down > SAMPLE_ENDS ? down : SAMPLE_ENDS)];
    double high = sample[(int)(up < most ? up : most)];
    double inner = (double)(cells->n_cells - 2);
    cells->scale = inner / (high - low);
    cells->origin = low - (high - low) / inner;
    return isfinite(high - low) && isfinite(cells->scale) && isfinite(cells->origin) &&
           !is_crowded(cells, sample, orders, n_orders);
}

static void count_chunk(void *ctx, int64_t chunk) {
    static void (*const count_at[NC_SIMD_LEVELS])(const nc_cells *, const double *, int64_t,
                                                  uint16_t *, uint32_t *) =
        NC_LEVEL_TABLE(cells_count);
    const nc_cells *cells = ctx;
    int64_t first = chunk * cells->grain, rest = cells->n - first;
    count_at[nc_simd_level()](cells, cells->values + first,
                              rest < cells->grain ? rest : cells->grain, cells->cell_of + first,
                              cells->counts + chunk * cells->n_cells);
}

int nc_cells_count(nc_cells *cells, const double *values, int64_t n, const nc_order *orders,
                   int64_t n_orders, double *scratch) {
    if (n < VALUES_LEAST)
        return 0;
    *cells = (nc_cells){.values = values, .n = n, .grain = grain_for(n), .n_cells = cells_for(n)};
    cells->n_chunks = (n + cells->grain - 1) / cells->grain;
    if (!spread_cells(cells, orders, n_orders, scratch))
        return 0;
    cells->before = (int64_t *)scratch + 3 * SAMPLE_POINTS;
    cells->counts = (uint32_t *)(cells->before + cells->n_cells + 1);
    cells->cell_of = (uint16_t *)(cells->counts + cells->n_chunks * cells->n_cells);
    cells->found = (double *)(cells->cell_of + padded(n));
    for (int64_t i = n; i < padded(n); i++)
        cells->cell_of[i] = CELLS_NONE;
    nc_pool_run(cells->n_chunks, count_chunk, cells);
    int64_t before = 0;
    for (int64_t c = 0; c < cells->n_cells; c++) {
        cells->before[c] = before;
        for (int64_t chunk = 0; chunk < cells->n_chunks; chunk++)
            before += cells->counts[chunk * cells->n_cells + c];
    }
    cells->before[cells->n_cells] = before;
    return 1;
}

/* ---- collecting ---- */

typedef struct {
    const nc_cells *cells;
    cells_plan plan;
    double *lists[RANGES_MOST]; /* begin of each list */
} collection;

static void collect_chunk(void *ctx, int64_t chunk) {
    static void (*const collect_at[NC_SIMD_LEVELS])(const cells_plan *, const double *,
                                                    const uint16_t *, int64_t, double **) =
        NC_LEVEL_TABLE(cells_collect);
    const collection *all = ctx;
    const nc_cells *cells = all->cells;
    double *ends[RANGES_MOST];
    memcpy(ends, all->lists, sizeof ends);
    for (int r = 0; r < all->plan.n_ranges; r++) {
        int64_t first = all->plan.first[r];
        for (int64_t c = first; c <= first + all->plan.width[r]; c++)
            for (int64_t earlier = 0; earlier < chunk; earlier++)
                ends[all->plan.list_of[c]] += cells->counts[earlier * cells->n_cells + c];
    }
    int64_t first = chunk * cells->grain, rest = cells->n - first;
    collect_at[nc_simd_level()](&all->plan, cells->values + first, cells->cell_of + first,
                                rest < cells->grain ? rest : cells->grain, ends);
}

/* Have the cells first to last collected into a list. */
static void add_range(cells_plan *plan, int64_t first, int64_t last, int list) {
    plan->first[plan->n_ranges] = (uint16_t)first;
    plan->width[plan->n_ranges++] = (uint16_t)(last - first);
    for (int64_t c = first; c <= last; c++)
        plan->list_of[c] = (uint8_t)list;
}

/* ---- orders ---- */

/* The cell that holds a rank. */
static int64_t cell_at(const nc_cells *cells, int64_t rank) {
    int64_t low = 0, high = cells->n_cells - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (cells->before[middle + 1] > rank)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int64_t rank_above(const nc_cells *cells, int64_t rank) {
    return rank + 1 < cells->n ? rank + 1 : rank;
}

static int64_t n_in(const nc_cells *cells, int64_t first, int64_t last) {
    return cells->before[last + 1] - cells->before[first];
}

/*
 * Collect for as many orders, from the first, as one pass can, and find them. Orders whose cells
 * overlap share a list. Returns their number, 0 where their cells hold too much.
 */
static int64_t select_some(const nc_cells *cells, nc_order *orders, int64_t n_orders) {
    collection all = {.cells = cells};
    int64_t first[RANGES_MOST], last[RANGES_MOST], total = 0, done = 0;
    int list = -1, list_of_order[RANGES_MOST * 8];
    for (; done < n_orders && done < RANGES_MOST * 8; done++) {
        int64_t from = cell_at(cells, orders[done].rank);
        int64_t to = cell_at(cells, rank_above(cells, orders[done].rank));
        if (list < 0 || from > last[list]) {
            if (list + 1 == RANGES_MOST)
                break;
            first[++list] = from;
        }
        last[list] = to;
        list_of_order[done] = list;
    }
    double *end = cells->found;
    for (int l = 0; l <= list; l++) {
        add_range(&all.plan, first[l], last[l], l);
        all.lists[l] = end;
        total += n_in(cells, first[l], last[l]);
        if (total > most_collected(cells->n))
            return 0;
        end = cells->found + total;
    }
    nc_pool_run(cells->n_chunks, collect_chunk, &all);
    for (int64_t i = 0; i < done; i++) {
        int l = list_of_order[i];
        int64_t n = n_in(cells, first[l], last[l]), below = cells->before[first[l]];
        memcpy(end, all.lists[l], (size_t)n * sizeof *end);
        nc_select_in_place(end, n, orders[i].rank - below,
                           rank_above(cells, orders[i].rank) - below, &orders[i]);
    }
    return done;
}

int nc_cells_select(const nc_cells *cells, nc_order *orders, int64_t n_orders) {
    for (int64_t done = 0; done < n_orders;) {
        int64_t found = select_some(cells, orders + done, n_orders - done);
        if (!found)
            return 0;
        done += found;
    }
    return 1;
}

/* ---- deviations ---- */

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t at_least(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The least number of cells to go to both sides of cell `middle` for more than `rank` values. */
static int64_t reach_of(const nc_cells *cells, int64_t middle, int64_t rank) {
    int64_t low = 0, high = cells->n_cells - 1;
    while (low < high) {
        int64_t reach = (low + high) / 2;
        if (n_in(cells, at_least(middle - reach, 0), at_most(middle + reach, cells->n_cells - 1)) >
            rank)
            high = reach;
        else
            low = reach + 1;
    }
    return low;
}

/*
 * Within r cells of the centre's own lie all values nearer than r widths of a cell, and none that
 * are farther than r + 1 widths. So a rank that r cells reach, and no fewer, is at least r - 1 and
 * at most r + 1 widths away, and all that may be it lies in three cells on either side; rounding,
 * which this leaves out of account, is taken into account by looking where the answers' cells are.
 */
int nc_cells_select_deviation(const nc_cells *cells, double centre, nc_order *order) {
    int64_t middle = cell_of(cells, centre), end = cells->n_cells - 1;
    int64_t above = rank_above(cells, order->rank);
    int64_t near = reach_of(cells, middle, order->rank) - 1;
    int64_t far = reach_of(cells, middle, above) + 1;
    int64_t from = at_least(middle - far, 0), to = at_most(middle + far, end);
    int64_t left = at_least(middle - near, 0), right = at_most(middle + near, end);
    int64_t inner = left < right ? n_in(cells, left + 1, right - 1) : 0;
    int64_t n = n_in(cells, from, to) - inner;
    if (n > most_collected(cells->n))
        return 0;
    collection all = {.cells = cells, .lists = {cells->found}};
    if (left < right) {
        add_range(&all.plan, from, left, 0);
        add_range(&all.plan, right, to, 0);
    } else {
        add_range(&all.plan, from, to, 0);
    }
    nc_pool_run(cells->n_chunks, collect_chunk, &all);
    double *found = cells->found;
    for (int64_t i = 0; i < n; i++)
        found[i] = fabs(found[i] - centre);
    if (order->rank < inner || above - inner >= n)
        return 0;
    nc_select_in_place(found, n, order->rank - inner, above - inner, order);
    /* Whatever lies between the two ranges has to be as near as the lower answer, and whatever lies
     * outside as far as the upper one. */
    int between = left >= right || (cell_of(cells, centre - order->lower) <= left &&
                                    cell_of(cells, centre + order->lower) >= right);
    return between && cell_of(cells, centre - order->upper) >= from &&
           cell_of(cells, centre + order->upper) <= to;
}
