/*
 * fusion_connection_discovery_template.h - cosine similarities, tile by tile; no parameters.
 *
 * Rows are normalised once and packed into panels, so that both sides of a product are read from
 * the same copy: PANEL rows side by side, term after term. A block of ROWS x PANEL similarities
 * lives in registers: each term loads VECTORS vectors of one panel and broadcasts ROWS numbers of
 * another.
 *
 *   level      registers   LANES  ROWS  VECTORS  sums + loads + broadcast
 *   avx512     32 x 64 B      16     8        3  24 + 3 + 1
 *   avx2       16 x 32 B       8     4        3  12 + 3 + 1
 *   neon       32 x 16 B       4     4        6  24 + 6 + 1
 *   portable   16 x 16 B       4     4        2   8 + 2 + 1, a product in one more
 *
 * Order of summation: TERMS terms in order by fused multiply-add (portable: multiply, then add),
 * and these sums in order. It depends on neither the tile nor the side of a row, so similarity (i,
 * j) has the bits of (j, i), equal rows have equal bits, and the levels with a fused multiply-add
 * agree.
 *
 * Rows that fit one tile are not packed (portable: they are), for to transpose them costs a third
 * as much as to multiply them: FEW x FEW similarities at a time run along the terms. Of those the
 * order of summation is another, that of LANES_OF_FEW, for which all of the above holds as well.
 * 50 rows of 768 terms take 15 us by AVX-512 on a Zen 5, not 28.5 (2026).
 */
#if NC_LEVEL_AVX512
#  define VECTOR __m512
#  define LANES 16
#  define ROWS 8
#  define VECTORS 3
#  define FEW 4
#  define ZERO _mm512_setzero_ps()
#  define LOAD(p) _mm512_loadu_ps(p)
#  define STORE(p, v) _mm512_storeu_ps(p, v)
#  define SPLAT(x) _mm512_set1_ps(x)
#  define ADD_PRODUCT(a, b, sum) _mm512_fmadd_ps(a, b, sum)
#  define LEAST(a, b) _mm512_min_ps(a, b)
#  define HITS(v, bound) ((uint32_t)_mm512_cmp_ps_mask(v, bound, _CMP_GE_OQ))
#elif NC_LEVEL_AVX2
#  define VECTOR __m256
#  define LANES 8
#  define ROWS 4
#  define VECTORS 3
#  define FEW 2
#  define ZERO _mm256_setzero_ps()
#  define LOAD(p) _mm256_loadu_ps(p)
#  define STORE(p, v) _mm256_storeu_ps(p, v)
#  define SPLAT(x) _mm256_set1_ps(x)
#  define ADD_PRODUCT(a, b, sum) _mm256_fmadd_ps(a, b, sum)
#  define LEAST(a, b) _mm256_min_ps(a, b)
#  define HITS(v, bound) ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(v, bound, _CMP_GE_OQ)))
#elif NC_LEVEL_NEON
#  define VECTOR float32x4_t
#  define LANES 4
#  define ROWS 4
#  define VECTORS 6
#  define FEW 2
#  define ZERO vdupq_n_f32(0.0f)
#  define LOAD(p) vld1q_f32(p)
#  define STORE(p, v) vst1q_f32(p, v)
#  define SPLAT(x) vdupq_n_f32(x)
#  define ADD_PRODUCT(a, b, sum) vfmaq_f32(sum, a, b)
#  define LEAST(a, b) vminq_f32(a, b)
#  define HITS(v, bound)                                                                           \
    ((uint32_t)vaddvq_u32(vandq_u32(vcgeq_f32(v, bound), (uint32x4_t){1, 2, 4, 8})))
#else
#  define VECTOR four_floats
#  define LANES 4
#  define ROWS 4
#  define VECTORS 2
#  define FEW 0
#  define ZERO ((four_floats){0})
#  define LOAD(p) (*(const four_floats *)(p))
#  define STORE(p, v) (*(four_floats *)(p) = (v))
#  define SPLAT(x) ((four_floats){x, x, x, x})
#  define ADD_PRODUCT(a, b, sum) ((sum) + (a) * (b))
#  define LEAST(a, b)                                                                              \
    ((four_floats){least(a[0], b[0]), least(a[1], b[1]), least(a[2], b[2]), least(a[3], b[3])})
#  define HITS(v, bound)                                                                           \
    ((uint32_t)(v[0] >= bound[0]) | (uint32_t)(v[1] >= bound[1]) << 1 |                            \
     (uint32_t)(v[2] >= bound[2]) << 2 | (uint32_t)(v[3] >= bound[3]) << 3)
#endif
#define PANEL (LANES * VECTORS)

/* Rows of panel p, rounded up to whole vectors; the rows beyond n are zeros. */
NC_INLINE int64_t NC_NAME(width)(const nc_discovery *job, int64_t p) {
    int64_t left = job->n - p * PANEL;
    return left >= PANEL ? PANEL : (left + LANES - 1) / LANES * LANES;
}

/* Write terms [k, k + n_terms) of rows [row, row + 4) times their scales, transposed, to `out`. */
NC_TARGET NC_INLINE void NC_NAME(pack_four)(const nc_discovery *job, int64_t row, int64_t k,
                                            int64_t n_terms, const nc_scale *scales, float *out,
                                            int64_t width) {
    float scaled[4][PACK_TERMS];
    for (int r = 0; r < 4; r++) {
        const float *terms = job->embeddings + (row + r) * job->d + k;
        if (row + r >= job->n)
            memset(scaled[r], 0, sizeof scaled[r]);
        else if (n_terms == PACK_TERMS)
            for (int t = 0; t < PACK_TERMS; t++)
                scaled[r][t] = scaled_by(scales[r], terms[t]);
        else
            for (int64_t t = 0; t < n_terms; t++)
                scaled[r][t] = scaled_by(scales[r], terms[t]);
    }
    int64_t t = 0;
    for (; t + 4 <= n_terms; t += 4) {
        four_floats x[4];
        for (int r = 0; r < 4; r++)
            x[r] = *(const four_floats *)(scaled[r] + t);
        transpose_four(x);
        for (int s = 0; s < 4; s++)
            *(four_floats *)(out + (t + s) * width) = x[s];
    }
    for (; t < n_terms; t++)
        for (int r = 0; r < 4; r++)
            out[t * width + r] = scaled[r][t];
}

#if FEW
/* Measure and normalise the rows of panel p, and add rows of zeros up to a multiple of FEW. */
NC_TARGET static void NC_NAME(normalise)(const nc_discovery *job, int64_t p) {
    int64_t first = p * PANEL, last = first + PANEL < job->n ? first + PANEL : job->n;
    int64_t d = job->d, stride = job->stride;
    for (int64_t i = first; i < last; i++) {
        const float *row = job->embeddings + i * d;
        float *out = job->panels + i * stride;
        job->norms[i] = __builtin_sqrt(dot(row, row, d));
        nc_scale scale = scale_of(job->norms[i]);
        for (int64_t k = 0; k < d; k++)
            out[k] = scaled_by(scale, row[k]);
        for (int64_t k = d; k < stride; k++)
            out[k] = 0;
    }
    memset(job->panels + last * stride, 0,
           (size_t)((last + FEW - 1) / FEW * FEW - last) * (size_t)stride * sizeof(float));
}

/* Add the lanes of four sums, set or added to `out`. */
NC_TARGET NC_INLINE four_floats NC_NAME(add_lanes)(float lanes[4][LANES_OF_FEW]) {
    four_floats x[4];
    for (int s = 0; s < 4; s++) {
        const four_floats *quarter = (const four_floats *)lanes[s];
        x[s] = (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
    }
    transpose_four(x);
    return (x[0] + x[2]) + (x[1] + x[3]);
}

/* Similarities of FEW rows from `left` on with FEW from `right` on. */
NC_TARGET static void NC_NAME(multiply_few)(int64_t stride, const float *left, const float *right,
                                            float *out) {
    for (int64_t first = 0; first < stride; first += TERMS * LANES_OF_FEW) {
        int64_t end = first + TERMS * LANES_OF_FEW;
        VECTOR sums[FEW][FEW][LANES_OF_FEW / LANES];
        for (int r = 0; r < FEW; r++)
            for (int c = 0; c < FEW; c++)
                for (int v = 0; v < LANES_OF_FEW / LANES; v++)
                    sums[r][c][v] = ZERO;
        for (int64_t k = first; k < end && k < stride; k += LANES_OF_FEW)
            for (int v = 0; v < LANES_OF_FEW / LANES; v++) {
                VECTOR others[FEW];
                for (int c = 0; c < FEW; c++)
                    others[c] = LOAD(right + c * stride + k + v * LANES);
                for (int r = 0; r < FEW; r++) {
                    VECTOR one = LOAD(left + r * stride + k + v * LANES);
                    for (int c = 0; c < FEW; c++)
                        sums[r][c][v] = ADD_PRODUCT(one, others[c], sums[r][c][v]);
                }
            }
        float lanes[FEW * FEW][LANES_OF_FEW];
        for (int s = 0; s < FEW * FEW; s++)
            for (int v = 0; v < LANES_OF_FEW / LANES; v++)
                STORE(lanes[s] + v * LANES, sums[s / FEW][s % FEW][v]);
        for (int s = 0; s < FEW * FEW; s += 4) {
            four_floats four = NC_NAME(add_lanes)(lanes + s);
            for (int t = 0; t < 4; t++) {
                float *at = out + (s + t) / FEW * TILE + (s + t) % FEW;
                *at = first > 0 ? *at + four[t] : four[t];
            }
        }
    }
}

/* Similarities of all rows, none of which is packed: as NC_NAME(tile). */
NC_TARGET static void NC_NAME(tile_of_few)(const nc_discovery *job, float *sums) {
    int64_t stride = job->stride;
    for (int64_t row = 0; row < job->n; row += FEW)
        for (int64_t column = row; column < job->n; column += FEW)
            NC_NAME(multiply_few)(stride, job->panels + row * stride, job->panels + column * stride,
                                  sums + row * TILE + column);
}
#endif

/* Measure, normalise and pack the rows of panel p. A row of zeros stays zeros. */
NC_TARGET static void NC_NAME(pack)(const nc_discovery *job, int64_t p) {
#if FEW
    if (job->stride) {
        NC_NAME(normalise)(job, p);
        return;
    }
#endif
    nc_scale scales[PANEL] = {{0}};
    int64_t first = p * PANEL, width = NC_NAME(width)(job, p), d = job->d;
    for (int64_t r = 0; r < width && first + r < job->n; r++) {
        const float *row = job->embeddings + (first + r) * d;
        job->norms[first + r] = __builtin_sqrt(dot(row, row, d));
        scales[r] = scale_of(job->norms[first + r]);
    }
    float *panel = job->panels + first * d;
    for (int64_t k = 0; k < d; k += PACK_TERMS)
        for (int64_t r = 0; r < width; r += 4)
            NC_NAME(pack_four)(job, first + r, k, d - k < PACK_TERMS ? d - k : PACK_TERMS,
                               scales + r, panel + k * width + r, width);
}

/* Sums over n_terms terms of ROWS rows against n_vectors vectors of rows, set or added to `out`. */
NC_TARGET NC_INLINE void NC_NAME(multiply)(const int n_vectors, int64_t n_terms, const float *left,
                                           int64_t left_width, const float *right,
                                           int64_t right_width, int add, float *out) {
    VECTOR sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < n_vectors; v++)
            sums[r][v] = ZERO;
    for (int64_t k = 0; k < n_terms; k++) {
        VECTOR others[VECTORS];
        for (int v = 0; v < n_vectors; v++)
            others[v] = LOAD(right + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            VECTOR one = SPLAT(left[r]);
            for (int v = 0; v < n_vectors; v++)
                sums[r][v] = ADD_PRODUCT(one, others[v], sums[r][v]);
        }
        left += left_width;
        right += right_width;
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < n_vectors; v++) {
            float *at = out + r * TILE + v * LANES;
            if (add)
                sums[r][v] += LOAD(at);
            STORE(at, sums[r][v]);
        }
}

/* The same for a number of vectors known at run time: each has a loop of its own. */
NC_TARGET static void NC_NAME(multiply_any)(int64_t n_vectors, int64_t n_terms, const float *left,
                                            int64_t left_width, const float *right,
                                            int64_t right_width, int add, float *out) {
#define MULTIPLY(v)                                                                                \
    case v:                                                                                        \
        NC_NAME(multiply)(v, n_terms, left, left_width, right, right_width, add, out);             \
        break
    switch (n_vectors) {
        MULTIPLY(1);
        MULTIPLY(2);
#if VECTORS > 2
        MULTIPLY(3);
#endif
#if VECTORS > 3
        MULTIPLY(4);
        MULTIPLY(5);
        MULTIPLY(6);
#endif
    }
#undef MULTIPLY
}

/*
 * Similarities of rows [top, top + TILE) with rows [left, left + TILE), as far as both exist and
 * the row is above the column: sums[(i - top) * TILE + j - left] for i < j.
 */
NC_TARGET static void NC_NAME(tile)(const nc_discovery *job, int64_t top, int64_t left,
                                    float *sums) {
#if FEW
    if (job->stride) {
        NC_NAME(tile_of_few)(job, sums);
        return;
    }
#endif
    int64_t n = job->n, d = job->d;
    int64_t bottom = top + TILE < n ? top + TILE : n, right = left + TILE < n ? left + TILE : n;
    for (int64_t k = 0; k < d; k += TERMS)
        for (int64_t column = left; column < right; column += PANEL) {
            int64_t width = NC_NAME(width)(job, column / PANEL);
            const float *others = job->panels + column * d + k * width;
            for (int64_t row = top; row < bottom && row < column + width; row += ROWS) {
                int64_t p = row / PANEL, row_width = NC_NAME(width)(job, p);
                const float *rows = job->panels + p * PANEL * d + k * row_width + row % PANEL;
                /* Vectors wholly left of the diagonal are pairs seen from their other end. */
                int64_t skip = row > column ? (row - column) / LANES : 0;
                NC_NAME(multiply_any)(width / LANES - skip, d - k < TERMS ? d - k : TERMS, rows,
                                      row_width, others + skip * LANES, width, k > 0,
                                      sums + (row - top) * TILE + (column - left) + skip * LANES);
            }
        }
}

/* Bit c of the result: column c of the LANES from `column` on is right of row i and exists. */
NC_INLINE uint32_t NC_NAME(wanted)(const nc_discovery *job, int64_t i, int64_t column) {
    uint32_t bits = (uint32_t)((UINT64_C(1) << LANES) - 1);
    if (job->n - column < LANES)
        bits = (UINT32_C(1) << (job->n - column)) - 1;
    if (i >= column)
        bits &= ~((UINT32_C(2) << (i - column)) - 1);
    return bits;
}

/* Similarity of rows i and j by float64 sums, rounded to float32: the same bits at every level. */
NC_TARGET static float NC_NAME(exact)(const nc_discovery *job, int64_t i, int64_t j) {
    double norms = job->norms[i] * job->norms[j];
    if (norms == 0)
        return 0;
    double cosine = dot(job->embeddings + i * job->d, job->embeddings + j * job->d, job->d) / norms;
    return (float)(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

/* Write the pairs of a tile that are similar enough; return how many. */
NC_TARGET static int64_t NC_NAME(find_pairs)(const nc_discovery *job, int64_t top, int64_t left,
                                             int32_t *first, int32_t *second, float *similarity) {
    _Alignas(64) float sums[TILE * TILE];
    NC_NAME(tile)(job, top, left, sums);
    int64_t n = job->n, n_found = 0;
    const int32_t *modalities = job->modalities;
    VECTOR bound = SPLAT(job->threshold - job->margin);
    for (int64_t i = top; i < n && i < top + TILE; i++) {
        const float *row = sums + (i - top) * TILE;
        int64_t start = i + 1 > left ? (i + 1 - left) / LANES * LANES + left : left;
        for (int64_t column = start; column < n && column < left + TILE; column += LANES) {
            VECTOR values = LOAD(row + (column - left));
            uint32_t hits = HITS(values, bound) & NC_NAME(wanted)(job, i, column);
            for (; hits; hits &= hits - 1) {
                int64_t j = column + __builtin_ctz(hits);
                if (modalities && modalities[i] == modalities[j])
                    continue;
                float found = row[j - left];
                if (found < job->threshold + job->margin) {
                    found = NC_NAME(exact)(job, i, j);
                    if (found < job->threshold)
                        continue;
                }
                first[n_found] = (int32_t)i;
                second[n_found] = (int32_t)j;
                similarity[n_found++] = found < 1 ? found : 1;
            }
        }
    }
    return n_found;
}

/* Offer the pairs of a tile to the lists of their ends. */
NC_TARGET static void NC_NAME(find_nearest)(const nc_discovery *job, int64_t top, int64_t left) {
    _Alignas(64) float sums[TILE * TILE], bounds[TILE];
    NC_NAME(tile)(job, top, left, sums);
    int64_t n = job->n;
    const int32_t *modalities = job->modalities;
    for (int64_t c = 0; c < TILE; c++)
        bounds[c] = left + c < n ? bound_of(job, left + c) : 2;
    for (int64_t i = top; i < n && i < top + TILE; i++) {
        const float *row = sums + (i - top) * TILE;
        VECTOR bound = SPLAT(bound_of(job, i));
        int64_t start = i + 1 > left ? (i + 1 - left) / LANES * LANES + left : left;
        for (int64_t column = start; column < n && column < left + TILE; column += LANES) {
            VECTOR values = LOAD(row + (column - left)), other = LOAD(bounds + (column - left));
            VECTOR lower = LEAST(bound, other);
            uint32_t hits = HITS(values, lower) & NC_NAME(wanted)(job, i, column);
            for (; hits; hits &= hits - 1) {
                int64_t j = column + __builtin_ctz(hits);
                if (modalities && modalities[i] == modalities[j])
                    continue;
                float found = row[j - left];
                /* The bounds rise while the tile is read. */
                int to_i = found >= bound_of(job, i), to_j = found >= bound_of(job, j);
                if (!to_i && !to_j)
                    continue;
                int exact = found < job->threshold + job->margin;
                if (exact && (found = NC_NAME(exact)(job, i, j)) < job->threshold)
                    continue;
                if (to_i)
                    nc_nearest_offer(job, i, j, found, exact);
                if (to_j)
                    nc_nearest_offer(job, j, i, found, exact);
            }
        }
    }
}

static const nc_discovery_kernels NC_NAME(kernels) = {
    .panel = PANEL,
    .takes_few = FEW > 0,
    .pack = NC_NAME(pack),
    .find_pairs = NC_NAME(find_pairs),
    .find_nearest = NC_NAME(find_nearest),
    .exact = NC_NAME(exact),
};

#undef VECTOR
#undef LANES
#undef ROWS
#undef VECTORS
#undef FEW
#undef ZERO
#undef LOAD
#undef STORE
#undef SPLAT
#undef ADD_PRODUCT
#undef LEAST
#undef HITS
#undef PANEL
