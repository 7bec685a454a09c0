/*
 * fusion.h - kernels of the fusion family.
 *
 * Conventions as in core.h.
 */
#ifndef NC_FUSION_H
#define NC_FUSION_H

#include "core.h"

/* cffi: begin */

/*
 * Connection discovery: the pairs (i, j), i < j, of n rows [n, d] whose cosine similarity reaches a
 * threshold and, with top_k > 0, is among the top_k of i or of j (higher first, then lower index).
 *
 * A long kernel, in four parts around one block of scratch memory that the caller owns:
 *
 *   begin   sets the scratch up;
 *   step    works for about its budget, again and again until it returns NC_OK;
 *   place   orders the pairs that the steps wrote (top_k == 0), or
 *   gather  writes the pairs of the lists that the steps kept (top_k > 0).
 *
 * It may be left off at any point: nothing but the scratch belongs to it. The scratch must not move
 * between the calls, and one call at a time may use it. Memory: a copy of the rows, a few numbers a
 * row, and 8 top_k bytes a row.
 *
 * Which pairs are kept does not depend on the order of work, on threads or on the instruction set:
 * it is decided by float64 sums rounded to float32 wherever a float32 sum leaves it open.
 */

/* Bytes of scratch for one discovery, or 0 when a size is out of range (n < 2^31, d >= 1). */
int64_t nc_fusion_discovery_bytes(int64_t n, int64_t d, int64_t top_k);

/* Pairs that one step must have room for at least: its `capacity`. */
int64_t nc_fusion_discovery_room(int64_t n);

/*
 * Set up `scratch` of n_bytes.
 *
 *   embeddings   rows [n, d], finite; read by every step, as is
 *   modalities   [n], or NULL: pairs of equal modality are left out
 *   threshold    smallest similarity kept, in [-1, 1]
 *   top_k        pairs kept per row, or 0 for all; at most n - 1
 *
 * Returns NC_OK, or NC_INVALID.
 */
int nc_fusion_discovery_begin(void *scratch, int64_t n_bytes, int64_t n, int64_t d,
                              const float *embeddings, const int32_t *modalities, float threshold,
                              int64_t top_k);

/*
 * Work until about budget_seconds have passed (at least one piece of work, a few ms at d = 768).
 *
 * With top_k == 0 the pairs found are written to first, second and similarity from *n_found on, and
 * *n_found grows; the step returns early when fewer than nc_fusion_discovery_room(n) places are
 * left of `capacity`. The caller then keeps what was found and begins again at 0. Pairs come out
 * ordered by tiles: see place. With top_k > 0 nothing is written, and the arrays may be NULL.
 *
 * *progress is the part of the work that is done, in [0, 1], never less than before.
 * Returns NC_OK when all is done, NC_AGAIN when there is more, or NC_INVALID when there is no room
 * or when a row is not finite.
 */
int nc_fusion_discovery_step(void *scratch, double budget_seconds, int64_t capacity, int32_t *first,
                             int32_t *second, float *similarity, int64_t *n_found,
                             double *progress);

/* Pairs kept, once step has returned NC_OK. */
int64_t nc_fusion_discovery_count(const void *scratch);

/* Rows of zeros; their similarity with every row is 0. Known once step has returned NC_OK. */
int64_t nc_fusion_discovery_zero_rows(const void *scratch);

/*
 * Put n_found pairs where they belong in the order by (i, j): out_first, out_second and
 * out_similarity have room for all nc_fusion_discovery_count pairs. Called once for each group of
 * pairs, in the order in which the steps wrote them.
 */
int nc_fusion_discovery_place(void *scratch, int64_t n_found, const int32_t *first,
                              const int32_t *second, const float *similarity, int32_t *out_first,
                              int32_t *out_second, float *out_similarity);

/* Write all pairs of the lists, ordered by (i, j). */
int nc_fusion_discovery_gather(void *scratch, int32_t *out_first, int32_t *out_second,
                               float *out_similarity);

/*
 * Strength of n pairs: similarity * exp(-|t_i - t_j| / time_scale), computed in float64.
 *
 *   timestamps   by row, in the unit of time_scale
 *   time_scale   time in which a strength falls to 1/e; above 0
 *
 * Returns NC_OK, or NC_INVALID.
 */
int nc_fusion_strength(int64_t n, const int32_t *first, const int32_t *second,
                       const float *similarity, const int64_t *timestamps, double time_scale,
                       float *strength);

/* cffi: end */

#endif
