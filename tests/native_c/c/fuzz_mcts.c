/* fuzz_mcts.c - UCB1 over any nodes, against its formula and the ranges of its header. */
#include "fuzz.h"
#include "mcts.h"

typedef struct {
    int64_t n, k;
    int64_t *visits, *parents, *counts, *chosen;
    double *sums, *scores, exploration;
} nodes;

static int is_valid(const nodes *t) {
    for (int64_t i = 0; i < t->n * t->k; i++)
        if (t->visits[i] < 0 || !isfinite(t->sums[i]))
            return 0;
    for (int64_t node = 0; node < t->n; node++) {
        int64_t count = t->counts ? t->counts[node] : t->k, most = 0;
        if (count < 0 || count > t->k || t->parents[node] < 0)
            return 0;
        for (int64_t c = 0; c < count; c++)
            most = t->visits[node * t->k + c] > most ? t->visits[node * t->k + c] : most;
        if (most > 0 && t->parents[node] == 0)
            return 0;
    }
    return t->exploration >= 0 && isfinite(t->exploration);
}

static void check_node(const nodes *t, int64_t node) {
    int64_t count = t->counts ? t->counts[node] : t->k, best = -1;
    for (int64_t c = 0; c < t->k; c++) {
        int64_t i = node * t->k + c;
        double n = (double)t->visits[i], mean = t->sums[i] / n;
        double bound = t->exploration * sqrt(log((double)t->parents[node]) / n);
        if (c >= count)
            CHECK(t->scores[i] == -INFINITY);
        else if (t->visits[i] == 0)
            CHECK(t->scores[i] == INFINITY);
        else
            CHECK(fabs(t->scores[i] - (mean + bound)) <= 0x1p-50 * fmax(fabs(mean), bound) ||
                  !isfinite(mean + bound));
        if (c < count && (best < 0 || t->scores[i] > t->scores[node * t->k + best]))
            best = c;
    }
    CHECK(t->chosen[node] == best || t->scores[node * t->k + best] == -INFINITY);
}

static void make_nodes(offer *from, nodes *t) {
    int wrong = next_byte(from) % 8 == 0, large = next_byte(from) % 8 == 0;
    t->visits = TAKE(int64_t, t->n * t->k);
    t->sums = TAKE(double, t->n * t->k);
    for (int64_t i = 0; i < t->n * t->k; i++) {
        t->visits[i] = next_in(from, wrong && next_byte(from) == 0 ? -1 : 0, 20);
        if (large && next_byte(from) % 16 == 0)
            t->visits[i] = (int64_t)(next_word(from) >> 1);
        t->sums[i] = wrong ? next_double(from) : next_moderate(from);
    }
    t->parents = TAKE(int64_t, t->n);
    t->chosen = TAKE(int64_t, t->n);
    t->scores = TAKE(double, t->n * t->k);
    for (int64_t i = 0; i < t->n; i++)
        t->parents[i] = next_in(from, wrong ? -1 : 1, 1000);
    t->counts = next_byte(from) % 2 ? TAKE(int64_t, t->n) : NULL;
    for (int64_t i = 0; t->counts && i < t->n; i++)
        t->counts[i] = next_in(from, wrong && next_byte(from) == 0 ? -1 : 0, t->k);
    t->exploration = wrong ? next_double(from) : fabs(next_moderate(from));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    offer from = offer_of(data, size);
    nodes t = {.n = next_in(&from, 0, 60), .k = next_in(&from, 0, 40)};
    if (next_byte(&from) % 32 == 0)
        t.n = next_in(&from, 0, 9000), t.k = next_in(&from, 0, 9);
    make_nodes(&from, &t);
    CHECK(nc_set_threads((int)next_in(&from, 1, 3)) == NC_OK);
    int64_t bytes = t.n * t.k * (int64_t)sizeof(double);
    double *first = take_bytes(bytes);
    int expected = is_valid(&t) ? NC_OK : NC_INVALID, known = 0;
    ON_EACH_LEVEL {
        CHECK(nc_mcts_ucb1_selection(t.n, t.k, t.visits, t.sums, t.parents, t.counts, t.exploration,
                                     t.scores, t.chosen) == expected);
        if (expected != NC_OK)
            continue;
        for (int64_t node = 0; node < t.n; node++)
            check_node(&t, node);
        CHECK(!known || memcmp(first, t.scores, (size_t)bytes) == 0);
        memcpy(first, t.scores, (size_t)bytes);
        known = 1;
    }
    free(t.visits), free(t.sums), free(t.parents), free(t.counts);
    free(t.chosen), free(t.scores), free(first);
    return 0;
}
