/*
 * fusion_nearest.h - for each row, a bounded list of the rows most similar to it.
 *
 * A list is a heap of 64-bit keys with the worst on top. A key holds a similarity in its upper half
 * and the other row's complement in the lower one, so that a greater key is a better connection:
 * more similar, then of lower index. The similarity may still be a float32 sum: it is made exact
 * when two are too close to tell which exact one is greater, and in the end. So lists are in exact
 * order always, what they hold in the end does not depend on the order in which keys came, and few
 * exact sums are needed.
 */
#ifndef NC_FUSION_NEAREST_H
#define NC_FUSION_NEAREST_H

#include "fusion_discovery.h"

/* Empty all lists. */
void nc_nearest_clear(nc_discovery *job);

/*
 * Offer `other`, as similar as `found`, to the list of `node`; `exact` says whether that is more
 * than a float32 sum. Safe from any number of threads.
 */
void nc_nearest_offer(const nc_discovery *job, int64_t node, int64_t other, float found, int exact);

/*
 * Make the lists of rows [first, last) exact, remember the worst key of each full one, and order
 * them by index.
 */
void nc_nearest_order(const nc_discovery *job, int64_t first, int64_t last);

/* Once all lists are ordered: count the pairs (i, j), i < j, of each row i into row_starts[i + 1].
 */
void nc_nearest_count(const nc_discovery *job);

/* Write the counted pairs, ordered by (i, j); row_starts holds where each row starts. */
void nc_nearest_gather(const nc_discovery *job, int32_t *first, int32_t *second, float *similarity);

#endif
