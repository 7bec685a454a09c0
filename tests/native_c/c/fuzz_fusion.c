/*
 * fuzz_fusion.c - connection discovery of any rows, against its definition. Terms are small whole
 * numbers, so that a float64 sum of products is exact in any order and ties are many.
 */
#include "fusion.h"
#include "fuzz.h"

#define MOST_ROWS 130 /* two blocks of tiles */
#define MOST_TERMS 80

typedef struct {
    int64_t n, d, top_k, n_pairs;
    float *rows, threshold, *exact, *similarity;
    int32_t *labels, *first, *second;
} discovery;

static float exact_of(const discovery *job, int64_t i, int64_t j) {
    double xy = 0, xx = 0, yy = 0;
    for (int64_t k = 0; k < job->d; k++) {
        double x = (double)job->rows[i * job->d + k], y = (double)job->rows[j * job->d + k];
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    if (xx == 0 || yy == 0)
        return 0;
    double cosine = xy / (sqrt(xx) * sqrt(yy));
    return (float)(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

static int is_a_pair(const discovery *job, int64_t i, int64_t j) {
    return i != j && !(job->labels && job->labels[i] == job->labels[j]) &&
           job->exact[i * job->n + j] >= job->threshold;
}

/* Whether j is among the top_k of i, by counting what comes before it. */
static int ranks(const discovery *job, int64_t i, int64_t j) {
    int64_t before = 0;
    float own = job->exact[i * job->n + j];
    for (int64_t other = 0; other < job->n; other++) {
        float found = job->exact[i * job->n + other];
        before += is_a_pair(job, i, other) && (found > own || (found == own && other < j));
    }
    return before < job->top_k;
}

static void check_pairs(const discovery *job) {
    int64_t at = 0;
    for (int64_t i = 0; i < job->n; i++)
        for (int64_t j = i + 1; j < job->n; j++) {
            if (!is_a_pair(job, i, j) || (job->top_k > 0 && !ranks(job, i, j) && !ranks(job, j, i)))
                continue;
            CHECK(at < job->n_pairs && job->first[at] == i && job->second[at] == j);
            float off = fabsf(job->similarity[at] - job->exact[i * job->n + j]);
            CHECK(off <= (job->top_k > 0 ? 0.0f : 1e-6f));
            at++;
        }
    CHECK(at == job->n_pairs);
}

/* Run a discovery with room for so many tiles; the pairs are in fresh arrays of the exact size. */
static int discover(discovery *job, int64_t n_tiles) {
    int64_t n_bytes = nc_fusion_discovery_bytes(job->n, job->d, job->top_k);
    int64_t room = job->top_k > 0 ? 0 : nc_fusion_discovery_room(job->n) * n_tiles;
    int64_t most = job->n * (job->n - 1) / 2, found = 0, kept = 0;
    void *scratch = take_bytes(n_bytes);
    int32_t *first = TAKE(int32_t, room), *second = TAKE(int32_t, room);
    int32_t *all_first = TAKE(int32_t, most), *all_second = TAKE(int32_t, most);
    float *similarity = TAKE(float, room), *all_similarity = TAKE(float, most);
    double progress;
    int status = nc_fusion_discovery_begin(scratch, n_bytes, job->n, job->d, job->rows, job->labels,
                                           job->threshold, job->top_k);
    CHECK(status == NC_OK);
    do {
        status = nc_fusion_discovery_step(scratch, 0.0, room, first, second, similarity, &found,
                                          &progress);
        for (int64_t p = 0; p < found; p++, kept++) {
            all_first[kept] = first[p];
            all_second[kept] = second[p];
            all_similarity[kept] = similarity[p];
        }
        found = 0;
    } while (status == NC_AGAIN);
    if (status == NC_OK) {
        job->n_pairs = nc_fusion_discovery_count(scratch);
        job->first = TAKE(int32_t, job->n_pairs);
        job->second = TAKE(int32_t, job->n_pairs);
        job->similarity = TAKE(float, job->n_pairs);
        CHECK(job->top_k > 0
                  ? nc_fusion_discovery_gather(scratch, job->first, job->second, job->similarity) ==
                        NC_OK
                  : nc_fusion_discovery_place(scratch, kept, all_first, all_second, all_similarity,
                                              job->first, job->second, job->similarity) == NC_OK);
    }
    free(scratch), free(first), free(second), free(similarity);
    free(all_first), free(all_second), free(all_similarity);
    return status;
}

static void make_rows(offer *from, discovery *job) {
    int finite = next_byte(from) % 8 != 0, range = 1 << next_byte(from) % 7;
    job->rows = TAKE(float, job->n * job->d);
    for (int64_t i = 0; i < job->n * job->d; i++) {
        job->rows[i] = (float)next_in(from, -range, range);
        if (!finite && next_byte(from) == 0)
            job->rows[i] = next_byte(from) % 2 ? NAN : INFINITY;
    }
    for (int64_t i = 1; i < job->n; i++) /* copies, which are as similar as can be */
        if (next_byte(from) % 4 == 0)
            memcpy(job->rows + i * job->d, job->rows + next_in(from, 0, i - 1) * job->d,
                   (size_t)job->d * sizeof *job->rows);
}

/* A sixteenth, or the similarity of two rows, or its neighbour: where rounding decides. */
static void make_threshold(offer *from, discovery *job) {
    job->threshold = (float)next_in(from, -16, 16) / 16;
    int kind = next_byte(from) % 4;
    if (kind == 0 || job->n < 2)
        return;
    float found = job->exact[next_in(from, 0, job->n - 1) * job->n + next_in(from, 0, job->n - 1)];
    float near = kind == 1 ? found : nextafterf(found, kind == 2 ? -2.0f : 2.0f);
    if (near >= -1 && near <= 1) /* not a NaN either */
        job->threshold = near;
}

static int rows_are_finite(const discovery *job) {
    for (int64_t i = 0; i < job->n * job->d; i++)
        if (!isfinite(job->rows[i]))
            return 0;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    offer from = offer_of(data, size);
    discovery job = {.n = next_in(&from, 0, next_byte(&from) % 8 ? 40 : MOST_ROWS),
                     .d = next_in(&from, 1, next_byte(&from) % 8 ? 20 : MOST_TERMS)};
    job.top_k = next_byte(&from) % 2 && job.n > 1 ? next_in(&from, 1, job.n - 1) : 0;
    make_rows(&from, &job);
    int expected = rows_are_finite(&job) ? NC_OK : NC_INVALID;
    job.labels = next_byte(&from) % 2 ? TAKE(int32_t, job.n) : NULL;
    for (int64_t i = 0; job.labels && i < job.n; i++)
        job.labels[i] = (int32_t)next_in(&from, 0, 2);
    job.exact = TAKE(float, job.n *job.n);
    for (int64_t i = 0; i < job.n; i++)
        for (int64_t j = 0; j < job.n; j++)
            job.exact[i * job.n + j] = exact_of(&job, i, j);
    make_threshold(&from, &job);
    int64_t n_tiles = next_in(&from, 1, 3);
    CHECK(nc_set_threads((int)next_in(&from, 1, 3)) == NC_OK);
    ON_EACH_LEVEL {
        CHECK(discover(&job, n_tiles) == expected);
        if (expected == NC_OK) {
            check_pairs(&job);
            free(job.first), free(job.second), free(job.similarity);
        }
    }
    free(job.rows), free(job.labels), free(job.exact);
    return 0;
}
