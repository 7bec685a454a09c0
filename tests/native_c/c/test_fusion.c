/*
 * test_fusion.c - connection discovery against its definition in float64, with the same pairs on
 * every level and the same bits on every number of threads and in steps of any size.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "core.h"
#include "fusion.h"

#define N 331 /* four blocks of tiles, the last one narrow */
#define D 71  /* one whole sum of 64 terms and a short one */
#define PAIRS (N * (N - 1) / 2)

static float rows[N * D], similarity[PAIRS], buffer_similarity[2 * 96 * 96],
    first_similarity[PAIRS];
static int32_t modalities[N], first[PAIRS], second[PAIRS], buffer_first[2 * 96 * 96],
    buffer_second[2 * 96 * 96], group_first[PAIRS], group_second[PAIRS], first_first[PAIRS],
    first_second[PAIRS];
static float group_similarity[PAIRS];
static char scratch[8 << 20];
static float exact[N][N];

static void make_rows(void) {
    for (int64_t i = 0; i < N; i++) {
        modalities[i] = (int32_t)(i % 3);
        for (int64_t k = 0; k < D; k++)
            rows[i * D + k] = (float)((i * 7919 + k * 104729 + i * k * 13) % 1009) / 300.0f - 1.0f;
    }
    memset(rows + 5 * D, 0, D * sizeof *rows);
    memcpy(rows + 200 * D, rows + 17 * D, D * sizeof *rows);
}

/* Run a whole discovery in steps of one piece of work each; return how many pairs there are. */
static int64_t discover(int64_t n, const int32_t *labels, float threshold, int64_t top_k) {
    int64_t capacity = 2 * nc_fusion_discovery_room(n), found = 0, kept = 0;
    int64_t n_bytes = nc_fusion_discovery_bytes(n, D, top_k);
    double progress = 0, before = 0;
    int status;
    CHECK(n_bytes > 0 && n_bytes <= (int64_t)sizeof scratch);
    CHECK(nc_fusion_discovery_begin(scratch, n_bytes, n, D, rows, labels, threshold, top_k) ==
          NC_OK);
    do {
        status = nc_fusion_discovery_step(scratch, 0.0, capacity, buffer_first, buffer_second,
                                          buffer_similarity, &found, &progress);
        CHECK((status == NC_OK || status == NC_AGAIN) && progress >= before && progress <= 1);
        before = progress;
        memcpy(group_first + kept, buffer_first, (size_t)found * sizeof *buffer_first);
        memcpy(group_second + kept, buffer_second, (size_t)found * sizeof *buffer_second);
        memcpy(group_similarity + kept, buffer_similarity, (size_t)found * sizeof(float));
        kept += found;
        found = 0;
    } while (status == NC_AGAIN);
    CHECK(progress == 1);
    CHECK(nc_fusion_discovery_step(scratch, 0.0, capacity, buffer_first, buffer_second,
                                   buffer_similarity, &found, &progress) == NC_OK &&
          found == 0);
    if (top_k > 0) {
        kept = nc_fusion_discovery_count(scratch);
        CHECK(nc_fusion_discovery_gather(scratch, first, second, similarity) == NC_OK);
    } else {
        CHECK(nc_fusion_discovery_count(scratch) == kept);
        CHECK(nc_fusion_discovery_place(scratch, kept, group_first, group_second, group_similarity,
                                        first, second, similarity) == NC_OK);
    }
    return kept;
}

static float exact_similarity(int64_t i, int64_t j) {
    double xy = 0, xx = 0, yy = 0;
    for (int64_t k = 0; k < D; k++) {
        xy += (double)rows[i * D + k] * rows[j * D + k];
        xx += (double)rows[i * D + k] * rows[i * D + k];
        yy += (double)rows[j * D + k] * rows[j * D + k];
    }
    return xx == 0 || yy == 0 ? 0.0f : (float)(xy / (sqrt(xx) * sqrt(yy)));
}

static void make_exact(void) {
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++)
            exact[i][j] = exact_similarity(i, j);
}

/* Whether j is among the top_k of i, by counting the rows that come before it. */
static int ranks(int64_t n, const int32_t *labels, int64_t i, int64_t j, int64_t top_k) {
    int64_t better = 0;
    for (int64_t other = 0; other < n; other++) {
        if (other == i || (labels && labels[other] == labels[i]))
            continue;
        better += exact[i][other] > exact[i][j] || (exact[i][other] == exact[i][j] && other < j);
    }
    return better < top_k;
}

/* The pairs are those of the definition, in order; similarities are near. */
static void check_pairs(int64_t n, const int32_t *labels, float threshold, int64_t top_k,
                        int64_t kept) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            if (exact[i][j] < threshold || (labels && labels[i] == labels[j]))
                continue;
            if (top_k > 0 && !ranks(n, labels, i, j, top_k) && !ranks(n, labels, j, i, top_k))
                continue;
            CHECK(at < kept && first[at] == i && second[at] == j);
            CHECK(fabsf(similarity[at] - exact[i][j]) <= (top_k > 0 ? 0.0f : 1e-6f));
            at++;
        }
    CHECK(at == kept);
}

static void keep_as_first(int64_t kept) {
    memcpy(first_first, first, (size_t)kept * sizeof *first);
    memcpy(first_second, second, (size_t)kept * sizeof *second);
    memcpy(first_similarity, similarity, (size_t)kept * sizeof *similarity);
}

static void check_as_first(int64_t kept) {
    CHECK(memcmp(first_first, first, (size_t)kept * sizeof *first) == 0);
    CHECK(memcmp(first_second, second, (size_t)kept * sizeof *second) == 0);
    CHECK(memcmp(first_similarity, similarity, (size_t)kept * sizeof *similarity) == 0);
}

static void pairs_are_those_of_the_definition_everywhere(void) {
    static const int64_t sizes[] = {2, 16, 47, 50, 97, N};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int64_t top_k = 0; top_k <= 4 && top_k < sizes[s]; top_k += 2)
            for (int across = 0; across < 2; across++)
                ON_EACH_LEVEL {
                    const int32_t *labels = across ? modalities : NULL;
                    float threshold = top_k > 0 ? -1.0f : 0.1f;
                    CHECK(nc_set_threads(1) == NC_OK);
                    int64_t kept = discover(sizes[s], labels, threshold, top_k);
                    check_pairs(sizes[s], labels, threshold, top_k, kept);
                    keep_as_first(kept);
                    for (int threads = 2; threads <= 7; threads += 5) {
                        CHECK(nc_set_threads(threads) == NC_OK);
                        CHECK(discover(sizes[s], labels, threshold, top_k) == kept);
                        check_as_first(kept);
                    }
                }
}

static void a_list_may_hold_all_but_one(void) {
    ON_EACH_LEVEL {
        int64_t kept = discover(60, NULL, -1.0f, 58);
        check_pairs(60, NULL, -1.0f, 58, kept);
    }
}

static void too_few_rows_have_no_pairs(void) {
    ON_EACH_LEVEL CHECK(discover(0, NULL, -1.0f, 0) == 0 && discover(1, NULL, -1.0f, 0) == 0);
}

static void copies_are_found_at_one_and_zeros_counted(void) {
    ON_EACH_LEVEL {
        CHECK(discover(N, NULL, 1.0f, 0) == 1);
        CHECK(first[0] == 17 && second[0] == 200 && similarity[0] == 1.0f);
        CHECK(nc_fusion_discovery_zero_rows(scratch) == 1);
    }
}

static int step_once(float threshold, int64_t capacity) {
    int64_t found = 0, n_bytes = nc_fusion_discovery_bytes(N, D, 0);
    double progress;
    int status = nc_fusion_discovery_begin(scratch, n_bytes, N, D, rows, NULL, threshold, 0);
    if (status != NC_OK)
        return status;
    return nc_fusion_discovery_step(scratch, 10.0, capacity, buffer_first, buffer_second,
                                    buffer_similarity, &found, &progress);
}

static void what_is_out_of_range_is_refused(void) {
    int64_t room = nc_fusion_discovery_room(N);
    CHECK(room == 96 * 96);
    CHECK(step_once(1.0f, 2 * room) == NC_OK);
    CHECK(step_once(1.0f, room - 1) == NC_INVALID);
    CHECK(step_once(NAN, room) == NC_INVALID);
    CHECK(step_once(1.5f, room) == NC_INVALID);
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int w = 0; w < 3; w++)
        ON_EACH_LEVEL {
            float kept = rows[N * D - 1];
            rows[N * D - 1] = wrong[w];
            CHECK(step_once(1.0f, room) == NC_INVALID);
            rows[N * D - 1] = kept;
        }
    CHECK(nc_fusion_discovery_bytes(-1, D, 0) == 0);
    CHECK(nc_fusion_discovery_bytes(N, 0, 0) == 0);
    CHECK(nc_fusion_discovery_bytes(N, D, N) == 0);
    CHECK(nc_fusion_discovery_bytes(INT32_MAX, D, 0) == 0);
    CHECK(nc_fusion_discovery_bytes(N, INT64_MAX / 2, 0) == 0);
    int64_t n_bytes = nc_fusion_discovery_bytes(N, D, 0);
    CHECK(nc_fusion_discovery_begin(scratch, n_bytes - 1, N, D, rows, NULL, 0, 0) == NC_INVALID);
}

static void strength_falls_by_the_time_between(void) {
    static const int64_t times[] = {0, 1000, INT64_MIN, INT64_MAX};
    static const int32_t one[] = {0, 2, 1}, other[] = {1, 3, 1};
    static const float similar[] = {0.5f, 0.5f, -0.25f};
    float strength[3];
    CHECK(nc_fusion_strength(3, one, other, similar, times, 500.0, strength) == NC_OK);
    CHECK(fabs(strength[0] - 0.5 * exp(-2.0)) < 1e-8 && strength[1] == 0 && strength[2] == -0.25f);
    CHECK(nc_fusion_strength(2, one, other, similar, times, 0x1p64, strength) == NC_OK);
    CHECK(fabs(strength[1] - 0.5 * exp(-1.0)) < 1e-7);
    CHECK(nc_fusion_strength(1, one, other, similar, times, 0.0, strength) == NC_INVALID);
    CHECK(nc_fusion_strength(-1, one, other, similar, times, 1.0, strength) == NC_INVALID);
}

int main(void) {
    make_rows();
    make_exact();
    pairs_are_those_of_the_definition_everywhere();
    a_list_may_hold_all_but_one();
    too_few_rows_have_no_pairs();
    copies_are_found_at_one_and_zeros_counted();
    what_is_out_of_range_is_refused();
    strength_falls_by_the_time_between();
    return 0;
}
