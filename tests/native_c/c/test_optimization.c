/* test_optimization.c - bandits against textbook loops, with the same choices on every level. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "core.h"
#include "optimization.h"

#define ARMS 21
#define STEPS 3000

static double outcomes[STEPS * ARMS], sums[ARMS], means[ARMS], rewards[STEPS], scores[ARMS];
static int64_t counts[ARMS], chosen[STEPS], chosen_first[STEPS];

static const nc_bandit plain = {.exploration = 1.4142135623730951,
                                .epsilon = 0.1,
                                .temperature = 0.1,
                                .prior_alpha = 1.0,
                                .prior_beta = 1.0,
                                .seed = 7};

static nc_bandit with_policy(int policy) {
    nc_bandit bandit = plain;
    bandit.policy = policy;
    return bandit;
}

static void make_outcomes(void) {
    CHECK(nc_random_uniform(3, 0, 0, STEPS * ARMS, outcomes) == NC_OK);
    for (int i = 0; i < STEPS * ARMS; i++)
        outcomes[i] = outcomes[i] < 0.1 + 0.03 * (i % ARMS) ? 1.0 : 0.0;
}

static void forget(void) {
    memset(counts, 0, sizeof counts);
    memset(sums, 0, sizeof sums);
    memset(means, 0, sizeof means);
}

static int play(const nc_bandit *bandit, int64_t first, int64_t n) {
    return nc_optimization_bandit_steps(bandit, ARMS, n, (uint64_t)first, outcomes + first * ARMS,
                                        counts, sums, means, chosen + first, rewards + first);
}

static int64_t textbook_ucb1(int64_t pulls, const double *n, const double *total) {
    int64_t best = 0;
    double highest = -INFINITY;
    for (int64_t i = 0; i < ARMS; i++) {
        double bound =
            n[i] > 0 ? total[i] / n[i] + sqrt(2.0 * log((double)pulls) / n[i]) : INFINITY;
        best = bound > highest ? i : best;
        highest = bound > highest ? bound : highest;
    }
    return best;
}

static void ucb1_plays_as_the_textbook_loop(void) {
    nc_bandit bandit = with_policy(NC_BANDIT_UCB1);
    double n[ARMS] = {0}, total[ARMS] = {0};
    forget();
    CHECK(play(&bandit, 0, STEPS) == NC_OK);
    for (int64_t s = 0; s < STEPS; s++) {
        int64_t arm = textbook_ucb1(s, n, total);
        CHECK(chosen[s] == arm && rewards[s] == outcomes[s * ARMS + arm]);
        n[arm] += 1;
        total[arm] += rewards[s];
    }
    for (int64_t i = 0; i < ARMS; i++)
        CHECK((double)counts[i] == n[i] && sums[i] == total[i] && means[i] == sums[i] / n[i]);
}

static void choices_depend_neither_on_the_level_nor_on_the_cut(void) {
    for (int policy = 0; policy < NC_BANDIT_POLICIES; policy++) {
        nc_bandit bandit = with_policy(policy);
        bandit.prior_alpha = 0.5;
        CHECK(nc_set_simd(NC_SIMD_PORTABLE) == NC_OK);
        forget();
        CHECK(play(&bandit, 0, STEPS) == NC_OK);
        memcpy(chosen_first, chosen, sizeof chosen);
        ON_EACH_LEVEL {
            forget();
            for (int64_t first = 0, n = 1; first < STEPS; first += n, n = n * 3 % 257 + 1)
                CHECK(play(&bandit, first, n < STEPS - first ? n : STEPS - first) == NC_OK);
            CHECK(memcmp(chosen, chosen_first, sizeof chosen) == 0);
        }
    }
}

static void parts_of_a_row_choose_as_the_whole_row(void) {
    nc_bandit bandit = with_policy(NC_BANDIT_THOMPSON);
    for (int i = 0; i < 2; i++) {
        bandit.prior_alpha = i ? 0.03 : 1.0;
        for (uint64_t step = 0; step < 40; step++)
            for (int64_t size = 1; size <= ARMS; size += 5)
                ON_EACH_LEVEL {
                    int64_t whole, best = -1, arm;
                    double highest = -INFINITY, odds;
                    for (int64_t a = 0; a < ARMS; a++) {
                        counts[a] = a % 4;
                        sums[a] = (double)(a % 4) / 3.0;
                    }
                    CHECK(nc_optimization_bandit_steps(&bandit, ARMS, 1, step, NULL, counts, sums,
                                                       means, &whole, NULL) == NC_OK);
                    for (int64_t first = 0; first < ARMS; first += size) {
                        int64_t n = size < ARMS - first ? size : ARMS - first;
                        CHECK(nc_optimization_bandit_draw(&bandit, step, first, n, counts + first,
                                                          sums + first, &odds, &arm) == NC_OK);
                        CHECK(arm >= first && arm < first + n && odds > 0);
                        best = odds > highest ? arm : best;
                        highest = odds > highest ? odds : highest;
                    }
                    CHECK(best == whole);
                }
    }
}

static void chances_add_up_to_one(void) {
    for (int policy = NC_BANDIT_EPSILON_GREEDY; policy <= NC_BANDIT_SOFTMAX; policy++) {
        nc_bandit bandit = with_policy(policy);
        double total = 0.0;
        CHECK(nc_optimization_bandit_scores(&bandit, ARMS, counts, sums, means, scores) == NC_OK);
        for (int64_t i = 0; i < ARMS; i++)
            total += scores[i];
        CHECK(fabs(total - 1.0) < 1e-14);
    }
}

/* Each must end, and not in a loop: a NaN passes no test of the samplers. */
static void what_is_out_of_range_is_refused(void) {
    static const double wrong[] = {NAN, INFINITY, -INFINITY, -1.0, 2.0};
    nc_bandit thompson = with_policy(NC_BANDIT_THOMPSON);
    for (int i = 0; i < 5; i++)
        ON_EACH_LEVEL {
            double kept[ARMS];
            forget();
            sums[ARMS - 1] = wrong[i];
            CHECK(play(&thompson, 0, 1) == NC_INVALID);
            forget();
            memcpy(kept, outcomes, sizeof kept);
            for (int64_t arm = 0; arm < ARMS; arm++)
                outcomes[arm] = wrong[i];
            CHECK(play(&thompson, 0, 1) == NC_INVALID);
            memcpy(outcomes, kept, sizeof kept);
            nc_bandit bandit = thompson;
            bandit.prior_beta = i < 4 ? wrong[i] : 0.0;
            CHECK(play(&bandit, 0, 1) == NC_INVALID);
            bandit = with_policy(NC_BANDIT_EPSILON_GREEDY);
            bandit.epsilon = wrong[i];
            CHECK(play(&bandit, 0, 1) == NC_INVALID);
        }
    nc_bandit unknown = with_policy(NC_BANDIT_POLICIES);
    CHECK(play(&unknown, 0, 1) == NC_INVALID);
    CHECK(play(&plain, 0, -1) == NC_INVALID);
    CHECK(nc_optimization_bandit_scores(&unknown, ARMS, counts, sums, means, scores) == NC_INVALID);
    CHECK(nc_optimization_bandit_scores(&plain, 0, counts, sums, means, scores) == NC_INVALID);
    double odds;
    int64_t drawn;
    forget();
    CHECK(nc_optimization_bandit_draw(&plain, 0, 0, ARMS, counts, sums, &odds, &drawn) ==
          NC_INVALID);
    CHECK(nc_optimization_bandit_draw(&thompson, 0, -1, ARMS, counts, sums, &odds, &drawn) ==
          NC_INVALID);
    CHECK(nc_optimization_bandit_draw(&thompson, 0, 0, 0, counts, sums, &odds, &drawn) ==
          NC_INVALID);
    sums[0] = 1.0;
    CHECK(nc_optimization_bandit_draw(&thompson, 0, 0, ARMS, counts, sums, &odds, &drawn) ==
          NC_INVALID);
    for (int64_t arm = -1; arm <= ARMS; arm += ARMS + 1)
        CHECK(nc_optimization_bandit_observe(1, &arm, rewards, ARMS, counts, sums) == NC_INVALID);
}

int main(void) {
    make_outcomes();
    ucb1_plays_as_the_textbook_loop();
    choices_depend_neither_on_the_level_nor_on_the_cut();
    parts_of_a_row_choose_as_the_whole_row();
    chances_add_up_to_one();
    what_is_out_of_range_is_refused();
    return 0;
}
