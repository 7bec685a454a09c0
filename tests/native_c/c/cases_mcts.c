/* cases_mcts.c - the cases of mcts.h: see cases.h. */
#include <stddef.h>

#include "cases.h"
#include "mcts.h"

static int select_children(case_run *run, int64_t n_nodes, int64_t n_children, int counted) {
    int64_t size = n_nodes * n_children;
    const int64_t *visits = case_wholes(run, size, 0, 9);
    const double *sums = case_doubles(run, size, -4, 11);
    const int64_t *parents = case_wholes(run, n_nodes, 1, 1000);
    const int64_t *counts = counted ? case_wholes(run, n_nodes, 0, n_children) : NULL;
    double *scores = case_output(run, size * (int64_t)sizeof *scores);
    int64_t *chosen = case_output(run, n_nodes * (int64_t)sizeof *chosen);
    int status = nc_mcts_ucb1_selection(n_nodes, n_children, visits, sums, parents, counts, 1.25,
                                        scores, chosen);
    case_add_doubles(run, scores, size);
    case_add(run, chosen, n_nodes * (int64_t)sizeof *chosen);
    return status;
}

KERNEL_CASE(ucb1_selection_of_nodes, .pooled = 40000) {
    return select_children(run, n, 5, 0);
}

KERNEL_CASE(ucb1_selection_among_children, .pooled = 70000) {
    return select_children(run, 3, n, 1);
}
