/*
 * selection.c - order statistics by sampling, brackets and one pass: for what cells.c declines.
 *
 * A sorted sample of the series, one member of each stratum, places a bracket around every wanted
 * rank, wide enough to miss it about once in a thousand (Floyd and Rivest 1975, "Expected time
 * bounds for selection", carried from one rank to several). One pass over the series counts what
 * is below and inside each bracket, exactly, and keeps what is inside any: a third of 100,000
 * values for five ranks. The inner points of each bracket are a sample of what it holds, already
 * sorted, so they place a tighter bracket there; the few values inside that are narrowed in place.
 * A bracket that missed its rank is known from the counts and replaced by a wider one.
 */
#include <math.h>
#include <string.h>

#include "dispatch.h"
#include "pool.h"
#include "selection.h"
#include "sort.h"

#if NC_X86
#  include <immintrin.h>
#endif

/* Brackets of one pass: with more, bounds and counters no longer fit in 32 vector registers. */
#define GATHER_MAX 6
/* Values that are marked before they are copied: they and their marks stay in the nearest cache. */
#define GATHER_TILE 512
/* Up to this many values, and from this many orders on, a sort is cheaper. */
#define SORT_VALUES 1024
#define SORT_ORDERS 64
/* Values per chunk of the pool, about 15 us of work, and chunks at most: longer series, longer
 * chunks. */
#define GATHER_GRAIN 32768
#define GATHER_CHUNKS 256
/* Points of the first sample: their sort costs 10 ns each and halves what is kept when fourfold. */
#define SAMPLE_LEAST 1024
#define SAMPLE_MOST 16384
/* Points of a sample of what a bracket held, and the number of values from which the larger pays.
 */
#define RESAMPLE_SMALL 64
#define RESAMPLE_LARGE 512
#define RESAMPLE_VALUES 16384
/* So many values end the narrowing: counting each against all costs half a microsecond. */
#define NARROW_FEW 64
/* Half widths of brackets in standard deviations of a rank: a miss of the first costs a whole pass.
 */
#define WIDTH_FIRST 3.2
#define WIDTH_NEXT 2.4
/* Room for a whole vector, or the value that was not kept, behind the last one that was. */
#define SCRATCH_PAD 16

typedef struct {
    int n_brackets, deviations; /* deviations only with one bracket and somewhere to keep */
    double centre, low[GATHER_MAX], high[GATHER_MAX];
} gather_plan;

typedef struct {
    int64_t below[GATHER_MAX], inside[GATHER_MAX], kept;
} gather_counts;

#define NC_TEMPLATE "analytics_select_template.h"
#include "each_level.h"

static void gather(const gather_plan *plan, const double *values, int64_t n, double *kept,
                   gather_counts *counts) {
    static void (*const at_level[NC_SIMD_LEVELS])(const gather_plan *, const double *, int64_t,
                                                  double *, gather_counts *) =
        NC_LEVEL_TABLE(gather);
    at_level[nc_simd_level()](plan, values, n, kept, counts);
}

/* A closed interval of values; from and to are the places of its ends in the sample, or beside it.
 */
typedef struct {
    double low, high;
    int64_t from, to;
} bracket;

static const bracket WHOLE = {.low = -(double)INFINITY, .high = (double)INFINITY};

typedef struct {
    const double *values;
    int64_t n, n_sample;
    int deviations;
    double centre;
    double *kept; /* what the last pass kept; behind it, room for what a bracket holds */
    int64_t n_kept;
    int kept_whole; /* 0 when `kept` holds too much to be used, or was overwritten */
    uint64_t *keys, *spare;
    double *sample;
} selection;

/* ---- sorted samples ---- */

/* The output function of splitmix64 (Steele, Lea and Flood 2014): scatters consecutive numbers. */
static inline uint64_t scatter(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline double member(const selection *s, int64_t i) {
    return s->deviations ? fabs(s->values[i] - s->centre) : s->values[i];
}

/* A sorted sample: one member of each of m equal strata, at a scattered place. */
static void draw_sample(const selection *s, int64_t m, uint64_t seed, uint64_t *keys,
                        uint64_t *spare, double *sample) {
    for (int64_t i = 0; i < m; i++) {
        int64_t first = i * s->n / m, width = (i + 1) * s->n / m - first;
        uint64_t draw = scatter(seed * SAMPLE_MOST + (uint64_t)i) >> 32;
        keys[i] = nc_key_of(member(s, first + (int64_t)((draw * (uint64_t)width) >> 32)));
    }
    nc_sort_keys(keys, spare, m);
    for (int64_t i = 0; i < m; i++)
        sample[i] = nc_value_of(keys[i]);
}

void nc_draw_sample(const double *values, int64_t n, int64_t m, uint64_t *keys, uint64_t *spare,
                    double *sample) {
    selection s = {.values = values, .n = n};
    draw_sample(&s, m, 0, keys, spare, sample);
}

/* The part of `outer` that its sample [m] makes likely to hold the shares first to last of it. */
static bracket bracket_inside(bracket outer, const double *sample, int64_t m, double first,
                              double last, double width) {
    double points = (double)m;
    double down = floor(first * points - width * sqrt(points * first * (1 - first)) - 1);
    double up = ceil(last * points + width * sqrt(points * last * (1 - last)) + 1);
    bracket inner = {.low = outer.low, .high = outer.high, .from = -1, .to = m};
    if (down >= 0) {
        inner.from = (int64_t)down;
        inner.low = sample[inner.from];
    }
    if (up < points) {
        inner.to = (int64_t)up;
        inner.high = sample[inner.to];
    }
    return inner;
}

/* ---- narrowing what a bracket held, in place ---- */

/* A series that is ours to overwrite, and the ranks wanted of it: last is first or first + 1. */
typedef struct {
    double *values;
    int64_t n, first, last;
} narrowing;

/* Count against [low, high]; keep only that when it holds both ranks and `most` values or fewer. */
static int narrow_to(narrowing *w, double low, double high, int64_t most, gather_counts *counts) {
    gather_plan plan = {.n_brackets = 1, .low = {low}, .high = {high}};
    gather(&plan, w->values, w->n, NULL, counts);
    int64_t below = counts->below[0], inside = counts->inside[0];
    if (w->first < below || w->last >= below + inside || inside > most)
        return 0;
    if (low < high)
        gather(&plan, w->values, w->n, w->values, counts);
    w->n = inside;
    w->first -= below;
    w->last -= below;
    return 1;
}

/*
 * Split at a pivot into less, equal and greater, and keep the part with the ranks: progress for any
 * data. Ranks on both sides of a border: the pivot is one answer, the other part is kept for the
 * other. Returns 1 when both are found.
 */
static int split_at(narrowing *w, double pivot, nc_order *order, int *found) {
    gather_counts counts;
    gather_plan plan = {.n_brackets = 1, .low = {pivot}, .high = {pivot}};
    gather(&plan, w->values, w->n, NULL, &counts);
    int64_t less = counts.below[0], up_to = less + counts.inside[0];
    if (w->last >= less && w->last < up_to && !(*found & 2)) {
        order->upper = pivot;
        *found |= 2;
        w->last = w->first;
    }
    if (w->first >= less && w->first < up_to && !(*found & 1)) {
        order->lower = pivot;
        *found |= 1;
        w->first = w->last;
    }
    if (*found == 3)
        return 1;
    if (w->last < less)
        narrow_to(w, -(double)INFINITY, nextafter(pivot, -(double)INFINITY), w->n, &counts);
    else
        narrow_to(w, nextafter(pivot, (double)INFINITY), (double)INFINITY, w->n, &counts);
    return 0;
}

static void settle(nc_order *order, int found, double lower, double upper) {
    if (!(found & 1))
        order->lower = lower;
    if (!(found & 2))
        order->upper = upper;
}

/* Count for each of a few values how many are less, and how many at most as large. */
static void count_few(const narrowing *w, int found, nc_order *order) {
    int wanted = 3 & ~found;
    for (int64_t i = 0; wanted; i++) {
        double x = w->values[i];
        int64_t less = 0, up_to = 0;
        for (int64_t j = 0; j < w->n; j++) {
            less += w->values[j] < x;
            up_to += w->values[j] <= x;
        }
        if (wanted & 1 && less <= w->first && w->first < up_to) {
            order->lower = x + 0.0;
            wanted &= ~1;
        }
        if (wanted & 2 && less <= w->last && w->last < up_to) {
            order->upper = x + 0.0;
            wanted &= ~2;
        }
    }
}

/* Find both values of an order in a series that is ours to overwrite. */
static void narrow(narrowing w, nc_order *order) {
    uint64_t keys[RESAMPLE_LARGE], spare[RESAMPLE_LARGE];
    double sample[RESAMPLE_LARGE], width = WIDTH_NEXT;
    int found = 0;
    for (uint64_t round = 1; w.n > NARROW_FEW; round++) {
        selection s = {.values = w.values, .n = w.n};
        int64_t m = w.n < RESAMPLE_VALUES ? RESAMPLE_SMALL : RESAMPLE_LARGE;
        draw_sample(&s, m, round, keys, spare, sample);
        double first = (double)w.first / (double)w.n, last = (double)(w.last + 1) / (double)w.n;
        bracket inner = bracket_inside(WHOLE, sample, m, first, last, width);
        gather_counts counts;
        if (narrow_to(&w, inner.low, inner.high, w.n - w.n / 4, &counts)) {
            if (inner.low == inner.high) {
                settle(order, found, inner.low, inner.low);
                return;
            }
            width = WIDTH_NEXT;
        } else if (counts.inside[0] <= w.n - w.n / 4) {
            width *= 2; /* the same width might miss for ever */
        } else if (split_at(&w, sample[(int64_t)(first * (double)m)], order, &found)) {
            return;
        }
    }
    count_few(&w, found, order);
}

void nc_select_in_place(double *values, int64_t n, int64_t first, int64_t last, nc_order *order) {
    narrow((narrowing){.values = values, .n = n, .first = first, .last = last}, order);
}

/* ---- several orders of the whole series ---- */

typedef struct {
    const selection *s;
    const gather_plan *plan;
    int64_t grain;
    gather_counts counts[GATHER_CHUNKS];
} gather_job;

static void gather_chunk(void *ctx, int64_t chunk) {
    gather_job *job = ctx;
    int64_t first = chunk * job->grain, rest = job->s->n - first;
    gather(job->plan, job->s->values + first, rest < job->grain ? rest : job->grain,
           job->s->kept + first, &job->counts[chunk]);
}

/* One pass over the whole series; what is kept lies together, in the order of the series. */
static void gather_all(selection *s, const gather_plan *plan, gather_counts *counts) {
    gather_job job = {.s = s, .plan = plan, .grain = GATHER_GRAIN};
    while (s->n > job.grain * GATHER_CHUNKS)
        job.grain *= 2;
    int64_t n_chunks = (s->n + job.grain - 1) / job.grain;
    nc_pool_run(n_chunks, gather_chunk, &job);
    *counts = job.counts[0];
    for (int64_t c = 1; c < n_chunks; c++) {
        const gather_counts *part = &job.counts[c];
        memmove(s->kept + counts->kept, s->kept + c * job.grain,
                (size_t)part->kept * sizeof *s->kept);
        counts->kept += part->kept;
        for (int b = 0; b < plan->n_brackets; b++) {
            counts->below[b] += part->below[b];
            counts->inside[b] += part->inside[b];
        }
    }
    s->n_kept = counts->kept;
    s->kept_whole = counts->kept <= s->n / 2;
}

/*
 * Copy what of the series lies in `part` (of bracket b of the pass before) to where it may be
 * overwritten. 0 when the ranks of the order are not among it.
 */
static int copy_part(selection *s, const gather_counts *pass, int b, bracket part,
                     const nc_order *order, narrowing *w) {
    gather_plan plan = {.n_brackets = 1, .low = {part.low}, .high = {part.high}};
    gather_counts counts;
    int64_t dropped = 0;
    if (s->kept_whole) {
        dropped = pass->below[b];
        for (int before = 0; before < b; before++)
            dropped -= pass->inside[before];
        w->values = s->kept + s->n_kept;
        gather(&plan, s->kept, s->n_kept, w->values, &counts);
    } else {
        plan.deviations = s->deviations;
        plan.centre = s->centre;
        w->values = s->kept;
        gather(&plan, s->values, s->n, w->values, &counts);
    }
    int64_t below = dropped + counts.below[0];
    w->n = counts.kept;
    w->first = order->rank - below;
    w->last = (order->rank + 1 < s->n ? order->rank + 1 : order->rank) - below;
    return w->first >= 0 && w->last < w->n;
}

/* Find one order by what the pass counted and kept for its bracket, number b. */
static void find_order(selection *s, const gather_counts *pass, int b, bracket outer,
                       nc_order *order) {
    int64_t below = pass->below[b], inside = pass->inside[b];
    int64_t last = order->rank + 1 < s->n ? order->rank + 1 : order->rank;
    narrowing w;
    if (order->rank < below || last >= below + inside) {
        s->kept_whole = 0;
        copy_part(s, pass, b, WHOLE, order, &w);
    } else {
        if (outer.low == outer.high) {
            order->lower = order->upper = outer.low;
            return;
        }
        bracket inner = bracket_inside(outer, s->sample + outer.from + 1, outer.to - outer.from - 1,
                                       (double)(order->rank - below) / (double)inside,
                                       (double)(last + 1 - below) / (double)inside, WIDTH_NEXT);
        if (!copy_part(s, pass, b, inner, order, &w))
            copy_part(s, pass, b, outer, order, &w);
    }
    narrow(w, order);
}

/* Find at most GATHER_MAX orders with one pass over the series. */
static void find_group(selection *s, nc_order *orders, int n_orders) {
    gather_plan plan = {.deviations = s->deviations, .centre = s->centre};
    bracket brackets[GATHER_MAX];
    int of_order[GATHER_MAX], n_brackets = 0;
    for (int i = 0; i < n_orders; i++) {
        double first = (double)orders[i].rank / (double)s->n;
        double last = (double)(orders[i].rank + 1) / (double)s->n;
        bracket next = bracket_inside(WHOLE, s->sample, s->n_sample, first, last, WIDTH_FIRST);
        bracket *open = n_brackets ? &brackets[n_brackets - 1] : NULL;
        if (open && next.low <= open->high) {
            if (next.to > open->to) {
                open->to = next.to;
                open->high = next.high;
            }
        } else {
            brackets[n_brackets++] = next;
        }
        of_order[i] = n_brackets - 1;
    }
    plan.n_brackets = n_brackets;
    for (int b = 0; b < n_brackets; b++) {
        plan.low[b] = brackets[b].low;
        plan.high[b] = brackets[b].high;
    }
    gather_counts counts;
    gather_all(s, &plan, &counts);
    for (int i = 0; i < n_orders; i++)
        find_order(s, &counts, of_order[i], brackets[of_order[i]], &orders[i]);
}

/* Read all orders off a sorted copy. */
static void sort_all(selection *s, nc_order *orders, int64_t n_orders) {
    for (int64_t i = 0; i < s->n; i++)
        s->keys[i] = nc_key_of(member(s, i));
    nc_sort_keys(s->keys, s->spare, s->n);
    for (int64_t i = 0; i < n_orders; i++) {
        int64_t rank = orders[i].rank;
        orders[i].lower = nc_value_of(s->keys[rank]);
        orders[i].upper = nc_value_of(s->keys[rank + 1 < s->n ? rank + 1 : rank]);
    }
}

static int sorts(int64_t n, int64_t n_orders) {
    return n <= SORT_VALUES || n_orders >= SORT_ORDERS;
}

static int64_t sample_size(int64_t n) {
    int64_t m = SAMPLE_LEAST;
    while (m < SAMPLE_MOST && m * 128 < n)
        m *= 2;
    return m;
}

int64_t nc_select_scratch(int64_t n, int64_t n_orders) {
    return sorts(n, n_orders) ? 2 * n : 3 * sample_size(n) + n + SCRATCH_PAD;
}

void nc_select(const double *values, int64_t n, int deviations, double centre, nc_order *orders,
               int64_t n_orders, double *scratch) {
    selection s = {.values = values, .n = n, .deviations = deviations, .centre = centre};
    s.n_sample = sorts(n, n_orders) ? n : sample_size(n);
    s.keys = (uint64_t *)scratch;
    s.spare = s.keys + s.n_sample;
    if (sorts(n, n_orders)) {
        sort_all(&s, orders, n_orders);
        return;
    }
    s.sample = scratch + 2 * s.n_sample;
    s.kept = s.sample + s.n_sample;
    draw_sample(&s, s.n_sample, 0, s.keys, s.spare, s.sample);
    for (int64_t i = 0; i < n_orders; i += GATHER_MAX)
        find_group(&s, orders + i, (int)(n_orders - i < GATHER_MAX ? n_orders - i : GATHER_MAX));
}
