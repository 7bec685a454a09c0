/* mcts.h - kernels of Monte Carlo tree search. Conventions: core.h. */
#ifndef NC_MCTS_H
#define NC_MCTS_H

#include "core.h"

/* cffi: begin */

/*
 * Score the children of n nodes by UCB1 and choose the best one of each.
 *
 *   score = value_sum / visits + exploration sqrt(log(parent_visits) / visits)
 *
 * (Auer, Cesa-Bianchi, Fischer, "Finite-time analysis of the multiarmed bandit problem", 2002, with
 * its constant sqrt(2) as a parameter; Kocsis, Szepesvari, "Bandit based Monte-Carlo planning",
 * 2006.) A child without visits scores inf, and so comes before all others.
 *
 *   n_nodes, n_children  n and k, zero or more
 *   visits               [n, k], zero or more
 *   value_sums           [n, k], finite: the sum of the values that the visits brought
 *   parent_visits        [n], zero or more; at least 1 where a child of the node has visits
 *   child_counts         [n], 0 to k: how many children each node has, counted from its first; the
 *                        others score -inf and are never chosen. NULL: all have k.
 *   exploration          zero or more, finite
 *   scores               out [n, k]
 *   chosen               out [n]: the lowest index of the highest score; -1 without children
 *
 * Returns NC_OK, or NC_INVALID where a range is not kept.
 */
int nc_mcts_ucb1_selection(int64_t n_nodes, int64_t n_children, const int64_t *visits,
                           const double *value_sums, const int64_t *parent_visits,
                           const int64_t *child_counts, double exploration, double *scores,
                           int64_t *chosen);

/* cffi: end */

#endif
