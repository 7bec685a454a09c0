/* test_mcts.c - UCB1 against its formula, with the same bits on every level and number of threads.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "core.h"
#include "mcts.h"

#define NODES 30011
#define CHILDREN 5
#define SIZE (NODES * CHILDREN)

static int has_counts = 1; /* without them, nodes of few children take another way */
static int64_t visits[SIZE], parents[NODES], counts[NODES], chosen[NODES], chosen_first[NODES];
static double sums[SIZE], scores[SIZE], scores_first[SIZE];

static void make_tree(void) {
    for (int64_t node = 0; node < NODES; node++) {
        parents[node] = 1;
        counts[node] = node % (CHILDREN + 1);
        for (int64_t i = node * CHILDREN; i < (node + 1) * CHILDREN; i++) {
            visits[i] = i * 7919 % 23;
            sums[i] = (double)(i * 104729 % 1000) / 7.0 - 60.0;
            parents[node] += visits[i];
        }
    }
}

static int select_all(double exploration) {
    return nc_mcts_ucb1_selection(NODES, CHILDREN, visits, sums, parents,
                                  has_counts ? counts : NULL, exploration, scores, chosen);
}

static void check_node(int64_t node) {
    int64_t best = -1, count = has_counts ? counts[node] : CHILDREN;
    for (int64_t c = 0; c < CHILDREN; c++) {
        int64_t i = node * CHILDREN + c;
        double n = (double)visits[i];
        double bound = sums[i] / n + 1.25 * sqrt(log((double)parents[node]) / n);
        double expected = c >= count ? -INFINITY : visits[i] == 0 ? INFINITY : bound;
        CHECK(scores[i] == expected ||
              fabs(scores[i] - expected) <= 1e-13 * fabs(expected) + 1e-13);
        if (c < count && (best < 0 || scores[i] > scores[node * CHILDREN + best]))
            best = c;
    }
    CHECK(chosen[node] == best);
}

static void the_formula_holds_with_the_same_bits_everywhere(void) {
    CHECK(nc_set_threads(1) == NC_OK && select_all(1.25) == NC_OK);
    for (int64_t node = 0; node < NODES; node++)
        check_node(node);
    memcpy(scores_first, scores, sizeof scores);
    memcpy(chosen_first, chosen, sizeof chosen);
    ON_EACH_LEVEL for (int threads = 1; threads <= 7; threads += 2) {
        CHECK(nc_set_threads(threads) == NC_OK && select_all(1.25) == NC_OK);
        CHECK(memcmp(scores, scores_first, sizeof scores) == 0);
        CHECK(memcmp(chosen, chosen_first, sizeof chosen) == 0);
    }
}

/* Put a wrong value at the end of an array, which must be found there on every level. */
#define CHECK_REFUSED(place, wrong)                                                                \
    do {                                                                                           \
        __typeof__(place) kept = (place);                                                          \
        (place) = (wrong);                                                                         \
        ON_EACH_LEVEL CHECK(select_all(1.25) == NC_INVALID);                                       \
        (place) = kept;                                                                            \
        CHECK(select_all(1.25) == NC_OK);                                                          \
    } while (0)

static void what_is_out_of_range_is_refused(void) {
    counts[NODES - 1] = CHILDREN;
    CHECK_REFUSED(visits[SIZE - 1], -1);
    CHECK_REFUSED(visits[SIZE - 1], INT64_MIN);
    CHECK_REFUSED(sums[SIZE - 1], NAN);
    CHECK_REFUSED(sums[SIZE - 1], INFINITY);
    CHECK_REFUSED(sums[SIZE - 1], -INFINITY);
    CHECK_REFUSED(parents[NODES - 1], -1);
    CHECK_REFUSED(parents[NODES - 1], 0);
    if (has_counts) {
        CHECK_REFUSED(counts[NODES - 1], -1);
        CHECK_REFUSED(counts[NODES - 1], CHILDREN + 1);
    }
    CHECK(select_all(-1.0) == NC_INVALID);
    CHECK(select_all(NAN) == NC_INVALID);
    CHECK(select_all(INFINITY) == NC_INVALID);
    CHECK(nc_mcts_ucb1_selection(-1, 0, visits, sums, parents, NULL, 1, scores, chosen) ==
          NC_INVALID);
}

int main(void) {
    make_tree();
    for (has_counts = 0; has_counts < 2; has_counts++) {
        the_formula_holds_with_the_same_bits_everywhere();
        what_is_out_of_range_is_refused();
    }
    nc_stop_threads();
    return 0;
}
