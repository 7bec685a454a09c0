/* cases_optimization.c - the cases of optimization.h: see cases.h. */
#include <string.h>

#include "cases.h"
#include "optimization.h"

static nc_bandit with_policy(int policy) {
    return (nc_bandit){.policy = policy,
                       .exploration = 1.4,
                       .epsilon = 0.2,
                       .temperature = 0.3,
                       .prior_alpha = 0.5,
                       .prior_beta = 2.0,
                       .seed = 11};
}

/* Play n_steps with or without outcomes, from a state with and without pulls. */
static int play(case_run *run, int policy, int64_t n_arms, int64_t n_steps, int with_outcomes) {
    nc_bandit bandit = with_policy(policy);
    int64_t arms_bytes = n_arms * 8, steps_bytes = n_steps * 8;
    const double *outcomes = with_outcomes ? case_doubles(run, n_steps * n_arms, 0, 1) : NULL;
    int64_t *counts = case_output(run, arms_bytes);
    double *sums = case_output(run, arms_bytes), *means = case_output(run, arms_bytes);
    for (int64_t i = 0; i < n_arms; i++) {
        counts[i] = i % 4;
        sums[i] = (double)(i % 4) / 3.0;
        means[i] = counts[i] ? sums[i] / (double)counts[i] : 0.0;
    }
    int64_t *chosen = case_output(run, steps_bytes);
    double *rewards = case_output(run, with_outcomes ? steps_bytes : 0);
    int status = nc_optimization_bandit_steps(&bandit, n_arms, n_steps, 3, outcomes, counts, sums,
                                              means, chosen, rewards);
    case_add(run, counts, arms_bytes);
    case_add_doubles(run, sums, n_arms);
    case_add_doubles(run, means, n_arms);
    case_add(run, chosen, steps_bytes);
    case_add_doubles(run, rewards, with_outcomes ? n_steps : 0);
    return status;
}

KERNEL_CASE(bandit_ucb1_among_arms, .least = 1) {
    return play(run, NC_BANDIT_UCB1, n, 7, 1);
}

KERNEL_CASE(bandit_thompson_among_arms, .least = 1) {
    return play(run, NC_BANDIT_THOMPSON, n, 7, 1);
}

KERNEL_CASE(bandit_epsilon_greedy_among_arms, .least = 1) {
    return play(run, NC_BANDIT_EPSILON_GREEDY, n, 7, 1);
}

KERNEL_CASE(bandit_softmax_among_arms, .least = 1) {
    return play(run, NC_BANDIT_SOFTMAX, n, 7, 1);
}

KERNEL_CASE(bandit_ucb1_in_steps) {
    return play(run, NC_BANDIT_UCB1, 5, n, 0);
}

KERNEL_CASE(bandit_thompson_in_steps) {
    return play(run, NC_BANDIT_THOMPSON, 5, n, 0);
}

KERNEL_CASE(bandit_epsilon_greedy_in_steps) {
    return play(run, NC_BANDIT_EPSILON_GREEDY, 5, n, 0);
}

KERNEL_CASE(bandit_softmax_in_steps) {
    return play(run, NC_BANDIT_SOFTMAX, 5, n, 0);
}

KERNEL_CASE(bandit_draw, .least = 1) {
    nc_bandit bandit = with_policy(NC_BANDIT_THOMPSON);
    const int64_t *counts = case_wholes(run, n, 2, 9);
    const double *sums = case_doubles(run, n, 0, 2);
    double *highest = case_output(run, sizeof *highest);
    int64_t *arm = case_output(run, sizeof *arm);
    int status = nc_optimization_bandit_draw(&bandit, 3, 1000, n, counts, sums, highest, arm);
    case_add_doubles(run, highest, 1);
    case_add(run, arm, sizeof *arm);
    return status;
}

KERNEL_CASE(bandit_scores, .least = 1) {
    const int64_t *counts = case_wholes(run, n, 2, 9);
    const double *sums = case_doubles(run, n, 0, 2), *means = case_doubles(run, n, 0, 1);
    double *scores = case_output(run, n * (int64_t)sizeof *scores);
    for (int policy = 0; policy < NC_BANDIT_POLICIES; policy++) {
        nc_bandit bandit = with_policy(policy);
        int status = nc_optimization_bandit_scores(&bandit, n, counts, sums, means, scores);
        if (status != NC_OK)
            return status;
        case_add_doubles(run, scores, n);
    }
    return NC_OK;
}

KERNEL_CASE(bandit_observe) {
    const int64_t *arms = case_wholes(run, n, 0, 6);
    const double *rewards = case_doubles(run, n, -5, 5);
    int64_t *counts = case_output(run, 7 * (int64_t)sizeof *counts);
    double *sums = case_output(run, 7 * (int64_t)sizeof *sums);
    memset(counts, 0, 7 * sizeof *counts);
    memset(sums, 0, 7 * sizeof *sums);
    int status = nc_optimization_bandit_observe(n, arms, rewards, 7, counts, sums);
    case_add(run, counts, 7 * (int64_t)sizeof *counts);
    case_add_doubles(run, sums, 7);
    return status;
}
