/* optimization.c - public functions of optimization.h. */
#include "optimization.h"

#include <stdlib.h>

#include "pool.h"
#include "variates.h"

#if NC_X86
#  include <immintrin.h>
#endif

/* The stream of the bandits' random numbers; streams keep operations with one seed apart. */
#define BANDIT_STREAM 1

/* Doubles per vector of the widest level: work arrays are padded to it. */
#define BANDIT_LANES 8

/* Steps whose widths (UCB1) are computed together, and draws (Thompson): both stay in the cache. */
#define BANDIT_TILE 256

/* One call: the arguments of nc_optimization_bandit_steps and its work space. */
typedef struct {
    const nc_bandit *bandit;
    int64_t n_arms, n_steps;
    int64_t first_arm; /* of a longer row, for the addresses of draws; 0 but for a part of one */
    uint64_t first_step;
    const double *outcomes;
    int64_t *counts;
    double *reward_sums, *means;
    int64_t *chosen;
    double *rewards;
    int64_t n_padded; /* n_arms up to a multiple of BANDIT_LANES */
    double *work;     /* BANDIT_WORK_ROWS rows of n_padded, then draws of Thompson */
    double highest;   /* the odds of Thompson's last choice */
    int status;
} bandit_job;

#define BANDIT_WORK_ROWS 5
#define BANDIT_DRAW_ROWS 4

/* Steps per tile of draws, at least one. */
static int64_t steps_per_tile(const bandit_job *job) {
    return job->n_padded < BANDIT_TILE ? BANDIT_TILE / job->n_padded : 1;
}

/* Pay the choice of step s and learn from it. */
static inline void learn(bandit_job *job, int64_t s, int64_t arm) {
    double reward = job->outcomes[s * job->n_arms + arm];
    job->rewards[s] = reward;
    job->counts[arm] += 1;
    job->reward_sums[arm] += reward;
    job->means[arm] = job->reward_sums[arm] / (double)job->counts[arm];
}

/* The scale of the UCB1 bounds when `pulls` pulls were made in all; with none, no arm uses it. */
NC_INLINE double ucb1_width(double exploration, int64_t pulls) {
    return exploration * __builtin_sqrt(nc_log(nc_double_of_count(pulls > 1 ? pulls : 1)));
}

static int64_t total_pulls(int64_t n_arms, const int64_t *counts) {
    int64_t total = 0;
    for (int64_t i = 0; i < n_arms; i++)
        total += counts[i];
    return total;
}

/* The lowest index of the highest mean. */
static int64_t best_mean(int64_t n_arms, const double *means) {
    int64_t best = 0;
    for (int64_t i = 1; i < n_arms; i++)
        best = means[i] > means[best] ? i : best;
    return best;
}

static double softmax_weight(const bandit_job *job, int64_t arm, double highest) {
    return nc_exp((job->means[arm] - highest) / job->bandit->temperature);
}

/* Weights of all arms against the highest mean, which is returned. */
static double softmax_weights(const bandit_job *job, double *weights) {
    double highest = job->means[best_mean(job->n_arms, job->means)];
    for (int64_t i = 0; i < job->n_arms; i++)
        weights[i] = softmax_weight(job, i, highest);
    return highest;
}

static double sum(int64_t n, const double *values) {
    double total = 0.0;
    for (int64_t i = 0; i < n; i++)
        total += values[i];
    return total;
}

static nc_address address_of(const bandit_job *job, int64_t s) {
    return (nc_address){job->bandit->seed, BANDIT_STREAM, job->first_step + (uint64_t)s};
}

static double beta_of(const nc_bandit *bandit, int64_t count, double reward_sum) {
    double failures = (double)count - reward_sum;
    return bandit->prior_beta + (failures > 0.0 ? failures : 0.0);
}

#define NC_TEMPLATE "optimization_multi_armed_bandit_template.h"
#include "each_level.h"

static void epsilon_greedy_steps(bandit_job *job) {
    uint64_t words[NC_WORDS_PER_BLOCK];
    for (int64_t s = 0; s < job->n_steps; s++) {
        nc_address at = address_of(job, s);
        nc_address_block(&at, 0, 0, 0, words);
        /* The product is below n_arms: 1 - 2^-53 times a whole number never rounds up to it. */
        int64_t arm = nc_unit(words[0]) < job->bandit->epsilon
                          ? (int64_t)(nc_unit(words[1]) * (double)job->n_arms)
                          : best_mean(job->n_arms, job->means);
        job->chosen[s] = arm;
        if (job->outcomes)
            learn(job, s, arm);
    }
}

/*
 * The first arm whose running sum of weights passes u times their total. As u <= 1 - 2^-53, the
 * product stays below the total, so there always is one, and its weight is not zero.
 */
static int64_t softmax_choice(const bandit_job *job, int64_t s, const double *weights) {
    uint64_t words[NC_WORDS_PER_BLOCK];
    nc_address at = address_of(job, s);
    nc_address_block(&at, 0, 0, 0, words);
    double target = nc_unit(words[0]) * sum(job->n_arms, weights), running = weights[0];
    int64_t arm = 0;
    while (running <= target)
        running += weights[++arm];
    return arm;
}

static void softmax_steps(bandit_job *job) {
    double *weights = job->work, highest = softmax_weights(job, weights);
    for (int64_t s = 0; s < job->n_steps; s++) {
        int64_t arm = softmax_choice(job, s, weights);
        job->chosen[s] = arm;
        if (!job->outcomes)
            continue;
        double before = job->means[arm];
        learn(job, s, arm);
        /* Only a new highest mean changes the weights of the others. */
        if (before == highest || job->means[arm] > highest)
            highest = softmax_weights(job, weights);
        else
            weights[arm] = softmax_weight(job, arm, highest);
    }
}

static void bandit_run(void *ctx, int64_t chunk) {
    static void (*const ucb1[NC_SIMD_LEVELS])(bandit_job *) = NC_LEVEL_TABLE(ucb1_steps);
    static void (*const thompson[NC_SIMD_LEVELS])(bandit_job *) = NC_LEVEL_TABLE(thompson_steps);
    bandit_job *job = ctx;
    (void)chunk;
    switch (job->bandit->policy) {
    case NC_BANDIT_UCB1:
        ucb1[nc_simd_level()](job);
        break;
    case NC_BANDIT_THOMPSON:
        thompson[nc_simd_level()](job);
        break;
    case NC_BANDIT_EPSILON_GREEDY:
        epsilon_greedy_steps(job);
        break;
    default:
        softmax_steps(job);
    }
}

/* Play the steps of a job that is complete but for its work space; returns a status. */
static int bandit_play(bandit_job *job) {
    job->n_padded = (job->n_arms + BANDIT_LANES - 1) / BANDIT_LANES * BANDIT_LANES;
    job->status = NC_OK;
    int64_t rows = BANDIT_WORK_ROWS;
    if (job->bandit->policy == NC_BANDIT_THOMPSON)
        rows += BANDIT_DRAW_ROWS * steps_per_tile(job);
    job->work = aligned_alloc(64, (size_t)(rows * job->n_padded) * sizeof *job->work);
    if (!job->work)
        return NC_NO_MEMORY;
    nc_pool_run(1, bandit_run, job);
    free(job->work);
    return job->status;
}

static int in_range(double value, double low, double high) {
    return value >= low && value <= high;
}

static int bandit_is_valid(const nc_bandit *bandit, int64_t n_arms) {
    if (n_arms < 1)
        return 0;
    switch (bandit->policy) {
    case NC_BANDIT_UCB1:
        return in_range(bandit->exploration, 0.0, 1e300);
    case NC_BANDIT_THOMPSON:
        return in_range(bandit->prior_alpha, 1e-300, 1e300) &&
               in_range(bandit->prior_beta, 1e-300, 1e300);
    case NC_BANDIT_EPSILON_GREEDY:
        return in_range(bandit->epsilon, 0.0, 1.0);
    case NC_BANDIT_SOFTMAX:
        return bandit->temperature > 0.0 && bandit->temperature < (double)INFINITY;
    }
    return 0;
}

int nc_optimization_bandit_observe(int64_t n, const int64_t *arms, const double *rewards,
                                   int64_t n_arms, int64_t *counts, double *reward_sums) {
    if (n < 0)
        return NC_INVALID;
    for (int64_t i = 0; i < n; i++) {
        int64_t arm = arms[i];
        if (arm < 0 || arm >= n_arms)
            return NC_INVALID;
        counts[arm] += 1;
        reward_sums[arm] += rewards[i];
    }
    return NC_OK;
}

int nc_optimization_bandit_steps(const nc_bandit *bandit, int64_t n_arms, int64_t n_steps,
                                 uint64_t first_step, const double *outcomes, int64_t *counts,
                                 double *reward_sums, double *means, int64_t *chosen,
                                 double *rewards) {
    if (n_steps < 0 || !bandit_is_valid(bandit, n_arms))
        return NC_INVALID;
    bandit_job job = {
        .bandit = bandit,
        .n_arms = n_arms,
        .n_steps = n_steps,
        .first_step = first_step,
        .outcomes = outcomes,
        .counts = counts,
        .reward_sums = reward_sums,
        .means = means,
        .chosen = chosen,
        .rewards = rewards,
    };
    return bandit_play(&job);
}

int nc_optimization_bandit_draw(const nc_bandit *bandit, uint64_t step, int64_t first_arm,
                                int64_t n_arms, const int64_t *counts, const double *reward_sums,
                                double *highest, int64_t *arm) {
    if (!bandit_is_valid(bandit, n_arms) || bandit->policy != NC_BANDIT_THOMPSON || first_arm < 0)
        return NC_INVALID;
    bandit_job job = {
        .bandit = bandit,
        .n_arms = n_arms,
        .n_steps = 1,
        .first_arm = first_arm,
        .first_step = step,
        .counts = (int64_t *)counts, /* without outcomes this policy only reads them */
        .reward_sums = (double *)reward_sums,
        .chosen = arm,
    };
    int status = bandit_play(&job);
    if (status == NC_OK) {
        *highest = job.highest;
        *arm += first_arm;
    }
    return status;
}

int nc_optimization_bandit_scores(const nc_bandit *bandit, int64_t n_arms, const int64_t *counts,
                                  const double *reward_sums, const double *means, double *scores) {
    if (!bandit_is_valid(bandit, n_arms))
        return NC_INVALID;
    bandit_job job = {.bandit = bandit, .n_arms = n_arms, .means = (double *)means};
    double width = 0.0, total = 0.0, chance = bandit->epsilon / (double)n_arms;
    if (bandit->policy == NC_BANDIT_UCB1)
        width = ucb1_width(bandit->exploration, total_pulls(n_arms, counts));
    if (bandit->policy == NC_BANDIT_SOFTMAX) {
        softmax_weights(&job, scores);
        total = sum(n_arms, scores);
    }
    for (int64_t i = 0; i < n_arms; i++) {
        double count = (double)counts[i], alpha = bandit->prior_alpha + reward_sums[i];
        switch (bandit->policy) {
        case NC_BANDIT_UCB1:
            scores[i] =
                counts[i] ? means[i] + width * (1.0 / __builtin_sqrt(count)) : (double)INFINITY;
            break;
        case NC_BANDIT_THOMPSON:
            scores[i] = alpha / (alpha + beta_of(bandit, counts[i], reward_sums[i]));
            break;
        case NC_BANDIT_EPSILON_GREEDY:
            scores[i] = chance;
            break;
        default:
            scores[i] /= total;
        }
    }
    if (bandit->policy == NC_BANDIT_EPSILON_GREEDY)
        scores[best_mean(n_arms, means)] = chance + (1.0 - bandit->epsilon);
    return NC_OK;
}
