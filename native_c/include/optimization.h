/* optimization.h - kernels that choose what to try next. Conventions: core.h. */
#ifndef NC_OPTIMIZATION_H
#define NC_OPTIMIZATION_H

#include "core.h"

/* cffi: begin */

/* How a multi-armed bandit chooses. Equal scores go to the lowest index. */
enum nc_bandit_policy {
    NC_BANDIT_UCB1 = 0,           /* mean + exploration sqrt(log(pulls of all) / pulls) */
    NC_BANDIT_THOMPSON = 1,       /* the largest draw of the Beta posteriors; rewards in [0, 1] */
    NC_BANDIT_EPSILON_GREEDY = 2, /* the best mean, or with probability epsilon any arm */
    NC_BANDIT_SOFTMAX = 3,        /* with probability proportional to exp(mean / temperature) */
    NC_BANDIT_POLICIES = 4
};

/* A policy and its parameters; those of other policies are not read. */
typedef struct {
    int policy;
    double exploration;             /* 0 to 1e300 */
    double epsilon;                 /* 0 to 1 */
    double temperature;             /* above 0, finite */
    double prior_alpha, prior_beta; /* 1e-300 to 1e300 */
    uint64_t seed;                  /* key of the random numbers */
} nc_bandit;

/*
 * Fold n observed rewards into the state of k arms, in their order.
 *
 *   arms         [n], 0 to k - 1
 *   rewards      [n], finite
 *   counts       in and out [k]
 *   reward_sums  in and out [k]
 *
 * Returns NC_OK, or NC_INVALID for an arm that does not exist.
 */
int nc_optimization_bandit_observe(int64_t n, const int64_t *arms, const double *rewards,
                                   int64_t n_arms, int64_t *counts, double *reward_sums);

/*
 * Choose n_steps arms one after the other.
 *
 *   n_arms       k, at least 1
 *   first_step   number of choices made before. Choice number s takes its random numbers at the
 *                address (seed, s) (variates.h), so n steps in one call are n calls of one step.
 *   outcomes     [n_steps, k], what each arm pays at each step, finite, in [0, 1] for
 *                NC_BANDIT_THOMPSON: each choice is paid, counted and learned from. NULL: choices
 *                pay nothing and reward_sums and means stay; the UCB1 policy counts each of them as
 *                a pull that paid the mean, so that a batch spreads, and no other policy counts
 *                them. So pass copies.
 *   counts       in and out [k], zero or more, with n_steps in all at most 2^62
 *   reward_sums  in and out [k], finite, in [0, counts] for NC_BANDIT_THOMPSON
 *   means        in and out [k], reward_sums / counts, and 0 where counts is 0
 *   chosen       out [n_steps]
 *   rewards      out [n_steps] with outcomes; without, any pointer
 *
 * Returns NC_OK, NC_NO_MEMORY, or NC_INVALID for an unknown policy, no arms, a parameter of the
 * policy outside its range, or a sum or a chosen outcome of NC_BANDIT_THOMPSON outside its own.
 */
int nc_optimization_bandit_steps(const nc_bandit *bandit, int64_t n_arms, int64_t n_steps,
                                 uint64_t first_step, const double *outcomes, int64_t *counts,
                                 double *reward_sums, double *means, int64_t *chosen,
                                 double *rewards);

/*
 * One step of NC_BANDIT_THOMPSON among some arms of a row that is too long for one call: draw the
 * odds of their posteriors.
 *
 *   step         number of the choice, as first_step above
 *   first_arm    number of the first of them in the row, zero or more
 *   n_arms       how many they are, at least 1
 *   counts       [n_arms], of these arms, zero or more
 *   reward_sums  [n_arms], in [0, counts]
 *   highest      out: the highest odds
 *   arm          out: the lowest arm of these odds, numbered in the row
 *
 * The highest of all parts, and the first of equal ones, is the choice that a call of one step for
 * the whole row makes. Other statuses as above; NC_INVALID for any other policy.
 */
int nc_optimization_bandit_draw(const nc_bandit *bandit, uint64_t step, int64_t first_arm,
                                int64_t n_arms, const int64_t *counts, const double *reward_sums,
                                double *highest, int64_t *arm);

/*
 * What the policy thinks of each arm, into scores [k]: the upper confidence bound of UCB1 (inf for
 * an arm without pulls), the posterior mean of NC_BANDIT_THOMPSON, and the probability to be chosen
 * next of the other two. Other arguments and statuses as above.
 */
int nc_optimization_bandit_scores(const nc_bandit *bandit, int64_t n_arms, const int64_t *counts,
                                  const double *reward_sums, const double *means, double *scores);

/* cffi: end */

#endif
