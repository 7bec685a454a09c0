/* cases_fusion.c - the cases of fusion.h: see cases.h. */
#include <stddef.h>

#include "cases.h"
#include "check.h"
#include "core.h"
#include "fusion.h"

/* Pairs that a case may find: its thresholds keep it below. */
#define MOST_PAIRS 40000

typedef struct {
    int32_t *first, *second;
    float *similarity;
} pairs;

static pairs take_pairs(case_run *run, int64_t n) {
    return (pairs){case_output(run, n * 4), case_output(run, n * 4), case_output(run, n * 4)};
}

/* Step to the end with little room, moving what each step found behind the rest. */
static int64_t step_to_end(void *scratch, int64_t room, pairs tile, pairs all, int *status) {
    int64_t found = 0, kept = 0;
    double progress;
    do {
        *status = nc_fusion_discovery_step(scratch, 0.0, room, tile.first, tile.second,
                                           tile.similarity, &found, &progress);
        CHECK(kept + found <= MOST_PAIRS);
        for (int64_t i = 0; i < found; i++, kept++) {
            all.first[kept] = tile.first[i];
            all.second[kept] = tile.second[i];
            all.similarity[kept] = tile.similarity[i];
        }
        found = 0;
    } while (*status == NC_AGAIN);
    return kept;
}

static int discover(case_run *run, int64_t n, int64_t d, float threshold, int64_t top_k,
                    int across) {
    static int32_t first[MOST_PAIRS], second[MOST_PAIRS];
    static float similarity[MOST_PAIRS];
    pairs all = {first, second, similarity};
    top_k = top_k < n ? top_k : n > 0 ? n - 1 : 0;
    const float *rows = case_floats(run, n * d, -1, 1);
    const int32_t *modalities = across ? case_indices(run, n, 0, 2) : NULL;
    int64_t n_bytes = nc_fusion_discovery_bytes(n, d, top_k);
    /* With room for one tile, each is worked on alone: the many that threads share need more. */
    int64_t room = top_k > 0 ? 0 : nc_fusion_discovery_room(n) * (n < 300 ? 1 : 16);
    void *scratch = case_output(run, n_bytes);
    if (n_bytes == 0)
        return NC_INVALID;
    int status =
        nc_fusion_discovery_begin(scratch, n_bytes, n, d, rows, modalities, threshold, top_k);
    if (status != NC_OK)
        return status;
    int64_t kept = step_to_end(scratch, room, take_pairs(run, room), all, &status);
    if (status != NC_OK)
        return status;
    int64_t count = nc_fusion_discovery_count(scratch);
    pairs out = take_pairs(run, count);
    status = top_k > 0 ? nc_fusion_discovery_gather(scratch, out.first, out.second, out.similarity)
                       : nc_fusion_discovery_place(scratch, kept, first, second, similarity,
                                                   out.first, out.second, out.similarity);
    case_add(run, out.first, count * 4);
    case_add(run, out.second, count * 4);
    case_add(run, out.similarity, count * 4);
    int64_t zeros = nc_fusion_discovery_zero_rows(scratch);
    case_add(run, &zeros, sizeof zeros);
    return status;
}

KERNEL_CASE(discovery_of_rows, .pooled = 500, .fused = 1) {
    return discover(run, n, 6, 0.96f, 0, 0);
}

KERNEL_CASE(discovery_across_modalities, .pooled = 500, .fused = 1) {
    return discover(run, n, 6, 0.96f, 0, 1);
}

KERNEL_CASE(discovery_of_columns, .least = 1, .fused = 1) {
    return discover(run, 19, n, 0.0f, 0, 0);
}

KERNEL_CASE(discovery_of_nearest_rows, .pooled = 500) {
    return discover(run, n, 7, -1.0f, 3, 1);
}

KERNEL_CASE(discovery_of_nearest_in_columns, .least = 1) {
    return discover(run, 19, n, -1.0f, 2, 0);
}

KERNEL_CASE(strength, .pooled = 70000) {
    const int32_t *first = case_indices(run, n, 0, 99), *second = case_indices(run, n, 0, 99);
    const float *similarity = case_floats(run, n, -1, 1);
    const int64_t *times = case_wholes(run, 100, -100000, 100000);
    float *out = case_output(run, n * (int64_t)sizeof *out);
    int status = nc_fusion_strength(n, first, second, similarity, times, 60000.0, out);
    case_add(run, out, n * (int64_t)sizeof *out);
    return status;
}
