/*
 * fuzz_optimization.c - bandits of any state: the same choices on every level and in steps of any
 * number, a state that adds up, and UCB1's and the greedy choices by a plain loop.
 */
#include "elementary.h"
#include "fuzz.h"
#include "optimization.h"

#define MOST_ARMS 40
#define MOST_STEPS 300

typedef struct {
    nc_bandit bandit;
    int64_t n_arms, n_steps;
    uint64_t first_step;
    double *outcomes, *sums, *means, *rewards;
    int64_t *counts, *chosen;
} game;

static game copy_of(const game *g) {
    game copy = *g;
    copy.counts = TAKE(int64_t, g->n_arms);
    copy.sums = TAKE(double, g->n_arms);
    copy.means = TAKE(double, g->n_arms);
    copy.chosen = TAKE(int64_t, g->n_steps);
    copy.rewards = TAKE(double, g->n_steps);
    memcpy(copy.counts, g->counts, (size_t)g->n_arms * sizeof *g->counts);
    memcpy(copy.sums, g->sums, (size_t)g->n_arms * sizeof *g->sums);
    memcpy(copy.means, g->means, (size_t)g->n_arms * sizeof *g->means);
    return copy;
}

static void give_back(game *g) {
    free(g->counts), free(g->sums), free(g->means), free(g->chosen), free(g->rewards);
}

/* Play in calls of `at_once` steps. */
static int play(game *g, int64_t at_once) {
    for (int64_t first = 0; first < g->n_steps; first += at_once) {
        int64_t n = at_once < g->n_steps - first ? at_once : g->n_steps - first;
        int status = nc_optimization_bandit_steps(
            &g->bandit, g->n_arms, n, g->first_step + (uint64_t)first,
            g->outcomes ? g->outcomes + first * g->n_arms : NULL, g->counts, g->sums, g->means,
            g->chosen + first, g->rewards + first);
        if (status != NC_OK)
            return status;
    }
    return NC_OK;
}

/* The choice of step s by the formula of the header, from the state before it. */
static int64_t plain_choice(const game *g) {
    int64_t best = 0, pulls = 0;
    double highest = -INFINITY;
    for (int64_t i = 0; i < g->n_arms; i++)
        pulls += g->counts[i];
    double width = g->bandit.exploration * sqrt(nc_log((double)(pulls > 1 ? pulls : 1)));
    for (int64_t i = 0; i < g->n_arms; i++) {
        double score = g->means[i];
        if (g->bandit.policy == NC_BANDIT_UCB1)
            score = g->counts[i] ? score + width * (1.0 / sqrt((double)g->counts[i])) : INFINITY;
        best = score > highest ? i : best;
        highest = score > highest ? score : highest;
    }
    return best;
}

static void learn(game *g, int64_t arm, double reward) {
    g->counts[arm]++;
    g->sums[arm] += reward;
    g->means[arm] = g->sums[arm] / (double)g->counts[arm];
}

/* What was chosen leads from the state before, `g`, to the state after, `played`. */
static void check_game(game *g, const game *played) {
    int policy = g->bandit.policy, batch = !g->outcomes;
    int plain =
        policy == NC_BANDIT_UCB1 || (policy == NC_BANDIT_EPSILON_GREEDY && g->bandit.epsilon == 0);
    for (int64_t s = 0; s < g->n_steps; s++) {
        int64_t arm = played->chosen[s];
        CHECK(arm >= 0 && arm < g->n_arms);
        CHECK(!plain || arm == plain_choice(g));
        if (!batch) {
            CHECK(played->rewards[s] == g->outcomes[s * g->n_arms + arm]);
            learn(g, arm, played->rewards[s]);
        } else if (policy == NC_BANDIT_UCB1) {
            g->counts[arm]++;
        }
    }
    CHECK(memcmp(g->counts, played->counts, (size_t)g->n_arms * sizeof *g->counts) == 0);
    CHECK(memcmp(g->sums, played->sums, (size_t)g->n_arms * sizeof *g->sums) == 0);
    CHECK(memcmp(g->means, played->means, (size_t)g->n_arms * sizeof *g->means) == 0);
}

static void make_game(offer *from, game *g) {
    static const double parameters[] = {1e-300, 1e-10, 0.05, 0.5, 1.0, 2.0, 1e5, 1e300};
    int unit = g->bandit.policy == NC_BANDIT_THOMPSON;
    g->bandit.exploration = fabs(next_moderate(from));
    g->bandit.epsilon = next_unit(from);
    g->bandit.temperature = parameters[next_byte(from) % 8];
    g->bandit.prior_alpha = parameters[next_byte(from) % 8];
    g->bandit.prior_beta = parameters[next_byte(from) % 8];
    g->bandit.seed = next_byte(from);
    g->first_step = next_byte(from) % 8 ? next_byte(from) : next_word(from) >> 2;
    g->counts = TAKE(int64_t, g->n_arms);
    g->sums = TAKE(double, g->n_arms);
    g->means = TAKE(double, g->n_arms);
    for (int64_t i = 0; i < g->n_arms; i++) {
        int64_t count = next_byte(from) % 4 ? next_in(from, 0, 9) : next_in(from, 0, 1 << 30);
        g->counts[i] = count;
        g->sums[i] = unit ? next_unit(from) * (double)count : next_moderate(from);
        g->means[i] = count ? g->sums[i] / (double)count : 0.0;
        if (!count)
            g->sums[i] = 0.0;
    }
    g->outcomes = next_byte(from) % 2 ? TAKE(double, g->n_steps * g->n_arms) : NULL;
    for (int64_t i = 0; g->outcomes && i < g->n_steps * g->n_arms; i++)
        g->outcomes[i] = unit ? next_unit(from) : next_moderate(from);
    g->chosen = TAKE(int64_t, g->n_steps);
    g->rewards = TAKE(double, g->n_steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    offer from = offer_of(data, size);
    game g = {.bandit = {.policy = next_byte(&from) % NC_BANDIT_POLICIES},
              .n_arms = next_in(&from, 1, MOST_ARMS),
              .n_steps = next_in(&from, 0, next_byte(&from) % 8 ? 30 : MOST_STEPS)};
    make_game(&from, &g);
    int64_t at_once = next_in(&from, 1, MOST_STEPS);
    CHECK(nc_set_simd(NC_SIMD_PORTABLE) == NC_OK);
    game first = copy_of(&g);
    CHECK(play(&first, MOST_STEPS) == NC_OK);
    ON_EACH_LEVEL {
        game again = copy_of(&g);
        /* A batch of UCB1 counts its own choices, and is told of them in the next call. */
        CHECK(play(&again, at_once) == NC_OK);
        CHECK(memcmp(first.chosen, again.chosen, (size_t)g.n_steps * sizeof *first.chosen) == 0);
        CHECK(memcmp(first.means, again.means, (size_t)g.n_arms * sizeof *first.means) == 0);
        give_back(&again);
    }
    check_game(&g, &first);
    give_back(&first);
    give_back(&g);
    free(g.outcomes);
    return 0;
}
