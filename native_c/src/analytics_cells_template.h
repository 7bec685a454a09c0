/*
 * analytics_cells_template.h - the two passes over a series in cells: count them, and collect what
 * lies in a few of them; no parameters.
 *
 * Counting one value means reading, adding to and writing one counter: where the next value has the
 * same cell, that has to wait for the write. So neighbours count in tables of their own.
 */

/* Fill in the cell of each value, and add to counts [n_cells]. */
NC_TARGET static void NC_NAME(cells_count)(const nc_cells *cells, const double *values, int64_t n,
                                           uint16_t *cell_of, uint32_t *counts) {
    uint32_t tables[CELLS_TABLES][CELLS_MOST];
    double origin = cells->origin, scale = cells->scale, last = (double)(cells->n_cells - 1);
    for (int t = 0; t < CELLS_TABLES; t++)
        memset(tables[t], 0, (size_t)cells->n_cells * sizeof **tables);
    for (int64_t first = 0; first < n; first += CELLS_TILE) {
        int64_t size = n - first < CELLS_TILE ? n - first : CELLS_TILE;
        const double *x = values + first;
        uint16_t *cell = cell_of + first;
        for (int64_t i = 0; i < size; i++) {
            double at = (x[i] - origin) * scale;
            at = at > 0 ? at : 0;
            at = at < last ? at : last;
            cell[i] = (uint16_t)(int32_t)at;
        }
        int64_t i = 0;
        for (; i + CELLS_TABLES <= size; i += CELLS_TABLES)
            for (int t = 0; t < CELLS_TABLES; t++)
                tables[t][cell[i + t]]++;
        for (; i < size; i++)
            tables[0][cell[i]]++;
    }
    for (int64_t c = 0; c < cells->n_cells; c++) {
        uint32_t count = 0;
        for (int t = 0; t < CELLS_TABLES; t++)
            count += tables[t][c];
        counts[c] = count;
    }
}

/* Bit i of 32: whether cell_of[i] lies in one of the ranges that are looked for. */
#if NC_LEVEL_AVX512
NC_TARGET NC_INLINE uint32_t NC_NAME(cells_marks)(const cells_plan *plan, const uint16_t *cell_of) {
    __m512i cells = _mm512_loadu_si512(cell_of);
    __mmask32 marks = 0;
    for (int r = 0; r < plan->n_ranges; r++) {
        __m512i above = _mm512_sub_epi16(cells, _mm512_set1_epi16((short)plan->first[r]));
        marks |= _mm512_cmple_epu16_mask(above, _mm512_set1_epi16((short)plan->width[r]));
    }
    return marks;
}
#else
#  if NC_LEVEL_AVX2
#    define CELLS_LANES 16
#  else
#    define CELLS_LANES 8
#  endif
#  define CELLS_VECTORS (32 / CELLS_LANES)
typedef uint16_t NC_NAME(cell_lanes)
    __attribute__((vector_size(2 * CELLS_LANES), aligned(2), may_alias));
typedef int16_t NC_NAME(cell_marks) __attribute__((vector_size(2 * CELLS_LANES)));
typedef uint64_t NC_NAME(cell_words) __attribute__((vector_size(2 * CELLS_LANES)));

NC_TARGET NC_INLINE uint32_t NC_NAME(cells_marks)(const cells_plan *plan, const uint16_t *cell_of) {
    NC_NAME(cell_marks) marks[CELLS_VECTORS] = {{0}};
    for (int r = 0; r < plan->n_ranges; r++)
        for (int v = 0; v < CELLS_VECTORS; v++) {
            NC_NAME(cell_lanes) cells = *(const NC_NAME(cell_lanes) *)(cell_of + CELLS_LANES * v);
            marks[v] |= (NC_NAME(cell_marks))((cells - plan->first[r]) <= plan->width[r]);
        }
    NC_NAME(cell_words) any = {0};
    for (int v = 0; v < CELLS_VECTORS; v++)
        any |= (NC_NAME(cell_words))marks[v];
    uint64_t some = 0;
    for (int w = 0; w < CELLS_LANES / 4; w++)
        some |= any[w];
    if (!some)
        return 0;
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (uint32_t)(marks[i / CELLS_LANES][i % CELLS_LANES] & 1) << i;
    return bits;
}
#  undef CELLS_LANES
#  undef CELLS_VECTORS
#endif

/* Append each value that lies in a range to the list of that range, whose end is in `ends`. */
NC_TARGET static void NC_NAME(cells_collect)(const cells_plan *plan, const double *values,
                                             const uint16_t *cell_of, int64_t n, double **ends) {
    for (int64_t first = 0; first < n; first += 32)
        for (uint32_t marks = NC_NAME(cells_marks)(plan, cell_of + first); marks;
             marks &= marks - 1) {
            int64_t i = first + __builtin_ctz(marks);
            *ends[plan->list_of[cell_of[i]]]++ = values[i];
        }
}
