/* fusion.c - public functions of fusion.h. */
#if !defined(_POSIX_C_SOURCE)
#  define _POSIX_C_SOURCE 200809L /* clock_gettime */
#endif
#include <math.h>
#include <string.h>
#include <time.h>

#include "dispatch.h"
#include "fusion.h"
#include "fusion_discovery.h"
#include "fusion_nearest.h"
#include "fusion_vectors.h"
#include "pool.h"

/* Bytes of the columns of one strip of tiles: what should stay in a third-level cache. */
#define STRIP_BYTES (8 << 20)
/* Multiplications between two looks at the clock: 30 ms at the slowest level on one thread. */
#define WAVE_WORK (INT64_C(1) << 29)
/* Numbers of the embeddings packed between two looks at the clock: about 5 ms. */
#define PACK_WORK (INT64_C(1) << 23)
/* Terms of exact similarities between two looks at the clock: about 10 ms on one thread. */
#define LIST_WORK (INT64_C(1) << 27)
/* Rows whose lists are ordered in one chunk of the pool. */
#define LISTS 64

#define NC_TEMPLATE "fusion_connection_discovery_template.h"
#include "each_level.h"

static const nc_discovery_kernels *const kernels[NC_SIMD_LEVELS] = NC_LEVEL_TABLE(&kernels);

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t least_of(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Pairs of a full tile, or of all rows when they are fewer. */
static int64_t tile_room(int64_t n) {
    int64_t side = least_of(n, TILE);
    return side * side;
}

/* ---- scratch ---- */

/* Take `n_bytes` at the next cache line after *used; only count when there is no base. */
static void *take(char *base, int64_t *used, int64_t n_bytes) {
    int64_t at = (*used + 63) / 64 * 64;
    *used = at + n_bytes;
    return base ? base + at : NULL;
}

/* Place the arrays of `job` from `base` on; return the bytes up to their end. */
static int64_t lay_out(nc_discovery *job, char *base) {
    int64_t n = job->n, listed = job->top_k > 0 ? n : 0, used = sizeof *job;
    job->norms = take(base, &used, n * (int64_t)sizeof *job->norms);
    /* Whole vectors of rows, and where all rows fit a tile, of terms too. */
    int64_t terms = n <= TILE ? ceil_div(job->d, 16) * 16 : job->d;
    job->panels = take(base, &used, ceil_div(n, 16) * 16 * terms * (int64_t)sizeof *job->panels);
    job->row_starts = take(base, &used, (n + 1) * (int64_t)sizeof *job->row_starts);
    job->nearest = take(base, &used, listed * job->top_k * (int64_t)sizeof *job->nearest);
    job->worst = take(base, &used, listed * (int64_t)sizeof *job->worst);
    job->held = take(base, &used, listed * (int64_t)sizeof *job->held);
    job->bounds = take(base, &used, listed * (int64_t)sizeof *job->bounds);
    job->locks = take(base, &used, listed * (int64_t)sizeof *job->locks);
    return used;
}

static nc_discovery *job_at(const void *scratch) {
    return (nc_discovery *)(((uintptr_t)scratch + 63) / 64 * 64);
}

static int in_range(int64_t n, int64_t d, int64_t top_k) {
    /* Bytes stay below 2^63 with room to spare. */
    return n >= 0 && n < INT32_MAX && d >= 1 && d <= INT64_C(1) << 56 && top_k >= 0 &&
           (top_k == 0 || top_k < n) && (n == 0 || d <= (INT64_C(1) << 56) / (n + 16));
}

int64_t nc_fusion_discovery_bytes(int64_t n, int64_t d, int64_t top_k) {
    nc_discovery job = {.n = n, .d = d, .top_k = top_k};
    return in_range(n, d, top_k) ? lay_out(&job, NULL) + 64 : 0;
}

int64_t nc_fusion_discovery_room(int64_t n) {
    return tile_room(n);
}

int nc_fusion_discovery_begin(void *scratch, int64_t n_bytes, int64_t n, int64_t d,
                              const float *embeddings, const int32_t *modalities, float threshold,
                              int64_t top_k) {
    if (!in_range(n, d, top_k) || n_bytes < nc_fusion_discovery_bytes(n, d, top_k) ||
        !(threshold >= -1 && threshold <= 1))
        return NC_INVALID;
    nc_discovery *job = job_at(scratch);
    const nc_discovery_kernels *chosen = kernels[nc_simd_level()];
    int64_t n_blocks = ceil_div(n, TILE);
    *job = (nc_discovery){
        .embeddings = embeddings,
        .modalities = modalities,
        .n = n,
        .d = d,
        .top_k = top_k,
        .threshold = threshold,
        /*
         * |sums - exact| <= (4 roundings to normalise + TERMS (twice without fused operations is
         * one more) + one per sum of sums + 1 to round the exact one) * 2^-24, because the sum of
         * |x y| is at most 1; the rest covers the margin's own additions.
         */
        .margin = (float)((double)(TERMS + ceil_div(d, TERMS) + 10) * 0x1p-24),
        .kernels = chosen,
        .stride = chosen->takes_few && n <= TILE ? ceil_div(d, 16) * 16 : 0,
        .n_panels = ceil_div(n, chosen->panel),
        .n_tiles = n_blocks * (n_blocks + 1) / 2,
    };
    lay_out(job, (char *)job);
    memset(job->row_starts, 0, (size_t)(n + 1) * sizeof *job->row_starts);
    if (top_k > 0)
        nc_nearest_clear(job);
    return NC_OK;
}

/* ---- step ---- */

/*
 * Tiles go strip by strip, a strip being some columns of tiles whose rows fit the cache; inside it
 * row by row. So the pairs of each row i come out by ascending j.
 */
typedef struct {
    int64_t top, left, found;
} tile_place;

typedef struct {
    const nc_discovery *job;
    int64_t first_panel;
    int64_t room;
    tile_place tiles[WAVE];
    int32_t *first, *second;
    float *similarity;
} wave;

static void next_tile(nc_discovery *job, tile_place *place) {
    int64_t bytes = TILE * job->d * (int64_t)sizeof(float);
    int64_t columns = bytes > STRIP_BYTES ? 1 : STRIP_BYTES / bytes;
    int64_t begin = job->strip * columns, end = least_of(begin + columns, ceil_div(job->n, TILE));
    place->top = job->tile_row * TILE;
    place->left = job->tile_column * TILE;
    if (++job->tile_column < end)
        return;
    if (++job->tile_row == end) {
        job->tile_row = 0;
        job->strip++;
        begin = end;
    }
    job->tile_column = job->tile_row > begin ? job->tile_row : begin;
}

static void pack_chunk(void *ctx, int64_t chunk) {
    const wave *w = ctx;
    w->job->kernels->pack(w->job, w->first_panel + chunk);
}

static void pairs_chunk(void *ctx, int64_t chunk) {
    wave *w = ctx;
    tile_place *tile = w->tiles + chunk;
    int64_t at = chunk * w->room;
    tile->found = w->job->kernels->find_pairs(w->job, tile->top, tile->left, w->first + at,
                                              w->second + at, w->similarity + at);
}

static void nearest_chunk(void *ctx, int64_t chunk) {
    const wave *w = ctx;
    w->job->kernels->find_nearest(w->job, w->tiles[chunk].top, w->tiles[chunk].left);
}

static void lists_chunk(void *ctx, int64_t chunk) {
    const nc_discovery *job = ctx;
    int64_t first = job->lists_done + chunk * LISTS;
    nc_nearest_order(job, first, least_of(first + LISTS, job->n));
}

static void pack_some(nc_discovery *job) {
    wave w = {.job = job, .first_panel = job->panels_done};
    int64_t n_panels = 1 + PACK_WORK / (job->kernels->panel * job->d);
    n_panels = least_of(n_panels, job->n_panels - job->panels_done);
    nc_pool_run(n_panels, pack_chunk, &w);
    job->panels_done += n_panels;
}

/* Known once all are packed: in float64 the length of a row of finite floats is finite. */
static int rows_are_finite(const nc_discovery *job) {
    for (int64_t i = 0; i < job->n; i++)
        if (!(job->norms[i] < (double)INFINITY))
            return 0;
    return 1;
}

/* Move the pairs of each tile down to those of the tile before, counting them by row. */
static int64_t close_gaps(const wave *w, int64_t n_tiles) {
    int64_t found = 0, *counts = w->job->row_starts + 1;
    for (int64_t t = 0; t < n_tiles; t++) {
        int64_t from = t * w->room, count = w->tiles[t].found;
        if (from != found) {
            memmove(w->first + found, w->first + from, (size_t)count * sizeof *w->first);
            memmove(w->second + found, w->second + from, (size_t)count * sizeof *w->second);
            memmove(w->similarity + found, w->similarity + from,
                    (size_t)count * sizeof *w->similarity);
        }
        for (int64_t p = found; p < found + count; p++)
            counts[w->first[p]]++;
        found += count;
    }
    return found;
}

/* Tiles between two looks at the clock, and as many as their pairs have room for. */
static int64_t wave_size(const nc_discovery *job, int64_t room) {
    int64_t size = least_of(WAVE, 1 + WAVE_WORK / (TILE * TILE * job->d));
    int64_t left = job->n_tiles - job->tiles_done;
    /* No lone tile comes last: the threads of that wave are reported as those of the whole. */
    size = left <= size ? left : size > 2 && left == size + 1 ? size - 1 : size;
    return job->top_k > 0 ? size : least_of(size, room / tile_room(job->n));
}

/* Work on some tiles; return the pairs found. */
static int64_t tiles_some(nc_discovery *job, int64_t n_tiles, int32_t *first, int32_t *second,
                          float *similarity) {
    wave w = {.job = job,
              .room = tile_room(job->n),
              .first = first,
              .second = second,
              .similarity = similarity};
    for (int64_t t = 0; t < n_tiles; t++)
        next_tile(job, w.tiles + t);
    nc_pool_run(n_tiles, job->top_k > 0 ? nearest_chunk : pairs_chunk, &w);
    job->tiles_done += n_tiles;
    return job->top_k > 0 ? 0 : close_gaps(&w, n_tiles);
}

/* Turn the counts of row_starts into starts: where the pairs of each row begin. */
static void add_up(nc_discovery *job) {
    for (int64_t i = 0; i < job->n; i++)
        job->row_starts[i + 1] += job->row_starts[i];
}

static void lists_some(nc_discovery *job) {
    /* A list takes top_k exact similarities; to sort it costs as much as some hundred terms each.
     */
    int64_t n_lists = LISTS * (2 + LIST_WORK / (LISTS * job->top_k * (job->d + 256)));
    int64_t left = job->n - job->lists_done;
    /* As in wave_size, no lone chunk comes last. */
    n_lists = left < n_lists + 2 * LISTS ? left : n_lists;
    nc_pool_run(ceil_div(n_lists, LISTS), lists_chunk, job);
    job->lists_done += n_lists;
    if (job->lists_done == job->n)
        nc_nearest_count(job);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Packing a row costs about as much as 32 of its similarities, ordering a list about as much. */
static double progress_of(const nc_discovery *job) {
    double lists = job->top_k > 0 ? (double)job->n : 0;
    double tile = (double)TILE * TILE, row = 32;
    double packed = row * (double)(job->panels_done * job->kernels->panel);
    double all = row * (double)(job->n_panels * job->kernels->panel) + row * lists +
                 tile * (double)job->n_tiles;
    double done = packed + tile * (double)job->tiles_done + row * (double)job->lists_done;
    return all > 0 ? done / all : 1;
}

static int is_done(const nc_discovery *job) {
    return job->panels_done == job->n_panels && job->tiles_done == job->n_tiles &&
           (job->top_k == 0 || job->lists_done == job->n);
}

/* Do the next piece of work; false where the room left is too small for it. */
static int work(nc_discovery *job, int64_t capacity, int32_t *first, int32_t *second,
                float *similarity, int64_t *n_found) {
    int64_t found = *n_found;
    if (job->panels_done < job->n_panels) {
        pack_some(job);
    } else if (job->tiles_done < job->n_tiles) {
        int64_t n_tiles = wave_size(job, capacity - found);
        if (n_tiles == 0)
            return 0;
        /* Lists write no pairs, so the arrays may be NULL, to which C lets nobody add a zero. */
        if (job->top_k > 0)
            tiles_some(job, n_tiles, NULL, NULL, NULL);
        else
            *n_found += tiles_some(job, n_tiles, first + found, second + found, similarity + found);
    } else {
        lists_some(job);
    }
    return 1;
}

int nc_fusion_discovery_step(void *scratch, double budget_seconds, int64_t capacity, int32_t *first,
                             int32_t *second, float *similarity, int64_t *n_found,
                             double *progress) {
    nc_discovery *job = job_at(scratch);
    int64_t begin = job->top_k > 0 ? 0 : *n_found, found = begin;
    if (job->top_k == 0 && (begin < 0 || capacity - begin < tile_room(job->n)))
        return NC_INVALID;
    double end = seconds_now() + budget_seconds;
    int was_done = is_done(job);
    while (!is_done(job)) {
        if (!work(job, capacity, first, second, similarity, &found))
            break;
        if (job->panels_done == job->n_panels && job->tiles_done == 0 && !rows_are_finite(job))
            return NC_INVALID;
        if (seconds_now() >= end)
            break;
    }
    *n_found += found - begin;
    *progress = progress_of(job);
    if (!is_done(job))
        return NC_AGAIN;
    if (!was_done)
        add_up(job);
    return NC_OK;
}

/* ---- result ---- */

int64_t nc_fusion_discovery_count(const void *scratch) {
    const nc_discovery *job = job_at(scratch);
    return job->row_starts[job->n];
}

int64_t nc_fusion_discovery_zero_rows(const void *scratch) {
    const nc_discovery *job = job_at(scratch);
    int64_t count = 0;
    for (int64_t i = 0; i < job->n; i++)
        count += job->norms[i] == 0;
    return count;
}

int nc_fusion_discovery_place(void *scratch, int64_t n_found, const int32_t *first,
                              const int32_t *second, const float *similarity, int32_t *out_first,
                              int32_t *out_second, float *out_similarity) {
    int64_t *next = job_at(scratch)->row_starts;
    for (int64_t p = 0; p < n_found; p++) {
        int64_t at = next[first[p]]++;
        out_first[at] = first[p];
        out_second[at] = second[p];
        out_similarity[at] = similarity[p];
    }
    return NC_OK;
}

int nc_fusion_discovery_gather(void *scratch, int32_t *out_first, int32_t *out_second,
                               float *out_similarity) {
    nc_discovery *job = job_at(scratch);
    if (job->top_k > 0)
        nc_nearest_gather(job, out_first, out_second, out_similarity);
    return NC_OK;
}
