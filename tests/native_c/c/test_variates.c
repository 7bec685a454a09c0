/* test_variates.c - normals near libm's, moments of beta prime variates, the bound of the squeeze.
 */
#include <math.h>

#include "check.h"
#include "variates.h"

#define DRAWS 40000

static void normals_are_those_of_box_and_muller(void) {
    for (uint64_t i = 0; i < DRAWS; i++) {
        uint64_t words[NC_WORDS_PER_BLOCK];
        double first, second;
        nc_random_block(5, 5, i, words);
        nc_normal_pair(words[0], words[1], &first, &second);
        double radius = sqrt(-2.0 * log(nc_unit_double(words[0]) + 0x1p-53));
        double angle = (nc_unit_double(words[1]) - 0.5) * acos(0.0);
        double near = radius * cos(angle), side = radius * sin(angle);
        double sign = words[1] & 2 ? -1.0 : 1.0, tolerance = 1e-15 * (1.0 + radius);
        CHECK(fabs(first - sign * (words[1] & 1 ? side : near)) <= tolerance);
        CHECK(fabs(second - sign * (words[1] & 1 ? near : side)) <= tolerance);
    }
}

static void normals_of_extreme_words_are_finite(void) {
    for (uint64_t word = 0; word < 4; word++) {
        double first, second;
        nc_normal_pair(word, ~word, &first, &second);
        CHECK(fabs(first) < 9.0 && fabs(second) < 9.0);
        nc_normal_pair(~word, word, &first, &second);
        CHECK(fabs(first) < 1e-7 && fabs(second) < 1e-7);
    }
}

/* Mean and variance of DRAWS variates, each within six standard errors. */
static void check_moments(double alpha, double beta) {
    double n = alpha + beta, mean = alpha / n, variance = mean * (beta / n) / (n + 1.0);
    double total = 0.0, squares = 0.0, fourths = 0.0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        nc_address at = {11, 2, i / 8};
        double odds = nc_beta_prime(&at, i % 8, alpha, beta);
        double x = odds < INFINITY ? odds / (1.0 + odds) : 1.0;
        CHECK(x >= 0.0 && x <= 1.0);
        double z = (x - mean) / sqrt(variance);
        total += z;
        squares += z * z;
        fourths += z * z * z * z;
    }
    CHECK(fabs(total / DRAWS) < 6.0 / sqrt(DRAWS));
    double spread = sqrt(fmax(fourths / DRAWS - 1.0, 1e-6));
    CHECK(fabs(squares / DRAWS - 1.0) < 6.0 * spread / sqrt(DRAWS) + 1e-3);
}

static void beta_variates_of_the_odds_have_their_moments(void) {
    static const double shapes[] = {0.05, 0.4, 1.0, 1.7, 12.0, 3e4, 1e9, 1e15};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            if (fabs(log10(shapes[i] / shapes[j])) < 6.0)
                check_moments(shapes[i], shapes[j]);
}

static void the_tiniest_shapes_give_no_odds_or_all(void) {
    int ones = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        nc_address at = {1, 1, i};
        double odds = nc_beta_prime(&at, 0, 1e-300, 3e-300);
        CHECK(odds < 1e-300 || odds > 1e300);
        ones += odds > 1.0;
    }
    CHECK(fabs(ones - DRAWS * 0.25) < 6.0 * sqrt(DRAWS * 0.25 * 0.75));
}

/* What passes the squeeze must pass the exact test: 1 - 1.8 d t^4 <= exp(3 d h(t)). */
static void the_squeeze_accepts_nothing_that_the_exact_test_refuses(void) {
    for (double d = 2.0 / 3.0; d < 1e8; d *= 1.3)
        for (double t = -0.9999; t < 20.0; t += 0.0011) {
            double squeeze = 1.0 - 1.8 * d * (t * t) * (t * t);
            double h = log1p(t) - t + t * t / 2.0 - t * t * t / 3.0;
            if (fabs(t) < 0.02)
                h = -(t * t) * (t * t) * (0.25 - t / 5.0 + t * t / 6.0 - t * t * t / 7.0);
            CHECK(squeeze <= exp(3.0 * d * h) * (1.0 + 1e-12));
        }
}

int main(void) {
    normals_are_those_of_box_and_muller();
    normals_of_extreme_words_are_finite();
    beta_variates_of_the_odds_have_their_moments();
    the_tiniest_shapes_give_no_odds_or_all();
    the_squeeze_accepts_nothing_that_the_exact_test_refuses();
    return 0;
}
