/*
 * mcts_ucb1_selection_template.h - UCB1 over a range of nodes; no parameters.
 *
 * Each child takes two divisions and a square root, which bound the speed, so all of them are done
 * in full vectors over the flat [n, k] array, whatever k is: a tile of children first gets the log
 * of its parent next to each child. The choice is a scan per node afterwards, over scores that are
 * still in the cache. Each score has one fixed formula, so tiles and levels do not change its bits.
 *
 * AVX-512 has a way of its own for most nodes of few children: mcts_ucb1_selection_eights.h.
 */

/* The log of the parent of each child in [begin, end), into logs [end - begin + UCB1_SPILL]. */
NC_TARGET static void NC_NAME(ucb1_logs)(const ucb1_job *job, int64_t begin, int64_t end,
                                         double *logs) {
    double of_node[UCB1_TILE + 1];
    int64_t k = job->n_children, node = begin / k, n = (end - 1) / k - node + 1;
    for (int64_t i = 0; i < n; i++)
        of_node[i] = nc_log(nc_double_of_count(job->parent_visits[node + i]));
    if (k <= UCB1_SPILL) { /* then the tile has whole nodes, and each takes one store */
        for (int64_t i = 0; i < n; i++)
            for (int64_t lane = 0; lane < UCB1_SPILL; lane++)
                logs[i * k + lane] = of_node[i];
        return;
    }
    for (int64_t i = 0, child = begin; i < n; i++) {
        int64_t stop = (node + i + 1) * k < end ? (node + i + 1) * k : end;
        /* Whole vectors spill into the next node's children, which are written after. */
        for (; child < stop; child += UCB1_SPILL)
            for (int64_t lane = 0; lane < UCB1_SPILL; lane++)
                logs[child - begin + lane] = of_node[i];
        child = stop;
    }
}

/* Scores of children [begin, end) as if each node had k; nonzero when a range is not kept. */
NC_TARGET static int NC_NAME(ucb1_scores)(const ucb1_job *job, int64_t begin, int64_t end) {
    double logs[UCB1_TILE + UCB1_SPILL];
    NC_NAME(ucb1_logs)(job, begin, end, logs);
    const int64_t *restrict visits = job->visits + begin;
    const double *restrict sums = job->value_sums + begin;
    double *restrict scores = job->scores + begin;
    double exploration = job->exploration;
    uint64_t sign_bits = 0;
    for (int64_t i = 0; i < end - begin; i++) {
        double count = nc_double_of_count(visits[i]);
        double score = sums[i] / count + exploration * __builtin_sqrt(logs[i] / count);
        scores[i] = count > 0.0 ? score : (double)INFINITY;
        sign_bits |= (uint64_t)visits[i] | nc_sign_if_not_finite(sums[i]);
    }
    return (int)(sign_bits >> 63);
}

/* Whether any of the first `count` children has visits. */
NC_TARGET static int NC_NAME(ucb1_visited)(const int64_t *visits, int64_t count) {
    for (int64_t c = 0; c < count; c++)
        if (visits[c] > 0)
            return 1;
    return 0;
}

/* The first of the highest of `count` scores, none of them NaN; -1 of none. */
NC_TARGET NC_INLINE int64_t NC_NAME(ucb1_best)(const double *row, int64_t count) {
#if NC_LEVEL_AVX512
    if (count <= 8) {
        __mmask8 exists = (__mmask8)((1u << count) - 1);
        __m512d scores = _mm512_mask_loadu_pd(_mm512_set1_pd(-(double)INFINITY), exists, row);
        __m512d best = _mm512_set1_pd(_mm512_reduce_max_pd(scores));
        unsigned equal = _mm512_mask_cmp_pd_mask(exists, scores, best, _CMP_EQ_OQ);
        return equal ? __builtin_ctz(equal) : -1;
    }
#endif
    double best = -(double)INFINITY;
    int64_t chosen = -1;
    for (int64_t c = 0; c < count; c++) {
        chosen = row[c] > best ? c : chosen;
        best = row[c] > best ? row[c] : best;
    }
    return chosen;
}

/* The choice of nodes [first, last), and -inf for the children that they do not have. */
NC_TARGET static int NC_NAME(ucb1_choices)(const ucb1_job *job, int64_t first, int64_t last) {
    int64_t k = job->n_children;
    const int64_t *child_counts = job->child_counts, *parent_visits = job->parent_visits;
    double *row = job->scores + first * k;
    int64_t *chosen = job->chosen;
    for (int64_t node = first; node < last; node++, row += k) {
        int64_t count = child_counts ? child_counts[node] : k;
        if ((uint64_t)count > (uint64_t)k || parent_visits[node] < 0)
            return 1;
        if (parent_visits[node] == 0 && NC_NAME(ucb1_visited)(job->visits + node * k, count))
            return 1;
        chosen[node] = NC_NAME(ucb1_best)(row, count);
        for (int64_t c = count; c < k; c++)
            row[c] = -(double)INFINITY;
    }
    return 0;
}

#if NC_LEVEL_AVX512
#  include "mcts_ucb1_selection_eights.h"
#endif

NC_TARGET static int NC_NAME(ucb1_nodes)(const ucb1_job *job, int64_t first, int64_t last) {
    int64_t k = job->n_children;
    /* Whole nodes for each tile, and where they are small, in whole vectors. */
    int64_t step = k >= UCB1_TILE ? 1 : k > 0 ? UCB1_TILE / k : UCB1_TILE;
    step -= step > UCB1_SPILL ? step % UCB1_SPILL : 0;
    int wrong = 0;
    for (int64_t node = first; node < last; node += step) {
        int64_t stop = node + step < last ? node + step : last, end = stop * k, rest = node;
#if NC_LEVEL_AVX512
        rest = NC_NAME(ucb1_few)(job, node, stop);
#endif
        for (int64_t begin = rest * k; begin < end; begin += UCB1_TILE)
            wrong |=
                NC_NAME(ucb1_scores)(job, begin, begin + UCB1_TILE < end ? begin + UCB1_TILE : end);
        wrong |= NC_NAME(ucb1_choices)(job, rest, stop);
    }
    return wrong;
}
