"""multi_armed_bandit against textbook loops, SciPy's distributions and the theory of regret."""

import math
from collections.abc import Generator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy import special, stats

import native_c
from native_c import optimization
from native_c.bandit import POLICIES


def bandit(counts: Any, reward_sums: Any, policy: str = "ucb1", **rest: Any) -> dict[str, Any]:
    return native_c.run(optimization.multi_armed_bandit(counts, reward_sums, policy, **rest))


def bernoulli(num_steps: int, chances: Any, seed: int = 0) -> NDArray[np.float64]:
    chances = np.asarray(chances)
    uniforms = np.random.default_rng(seed).random((num_steps, chances.size))
    return (uniforms < chances).astype(float)


def textbook_ucb1(
    counts: Any, sums: Any, outcomes: Any, exploration: float = math.sqrt(2.0)
) -> list[int]:
    """Play UCB1 as the paper says it, one arm and one step at a time."""
    counts, sums, chosen = list(counts), list(sums), []
    for row in outcomes:
        if 0 in counts:
            arm = counts.index(0)
        else:
            log_pulls = math.log(sum(counts))
            bounds = [
                total / count + exploration * math.sqrt(log_pulls / count)
                for total, count in zip(sums, counts, strict=True)
            ]
            arm = bounds.index(max(bounds))
        chosen.append(arm)
        counts[arm] += 1
        sums[arm] += row[arm]
    return chosen


# UCB1


@pytest.mark.parametrize("num_arms", [1, 2, 3, 7, 8, 9, 20, 63, 64, 65, 130])
def test_ucb1_plays_as_the_textbook_loop(num_arms: int) -> None:
    outcomes = np.random.default_rng(num_arms).normal(size=(400, num_arms))
    zeros = np.zeros(num_arms, int)
    answer = bandit(zeros, zeros, outcomes=outcomes)
    assert answer["chosen"].tolist() == textbook_ucb1(zeros, zeros, outcomes)


@pytest.mark.parametrize("exploration", [0.0, 0.3, 5.0])
def test_ucb1_weighs_exploration(exploration: float) -> None:
    outcomes = np.random.default_rng(1).random((300, 6))
    counts, sums = [3, 0, 5, 1, 0, 2], [1.0, 0.0, 4.0, 0.5, 0.0, 2.0]
    answer = bandit(counts, sums, outcomes=outcomes, exploration=exploration)
    assert answer["chosen"].tolist() == textbook_ucb1(counts, sums, outcomes, exploration)


def test_ucb1_first_plays_each_arm_once_lowest_index_first() -> None:
    assert bandit([0, 4, 0, 0], [0, 4.0, 0, 0], num_selections=3)["chosen"].tolist() == [0, 2, 3]


def test_a_batch_of_ucb1_counts_its_choices_as_pulls_that_paid_the_mean() -> None:
    counts, sums = np.array([4, 9, 2, 0]), np.array([2.0, 6.0, 1.5, 0.0])
    means = np.array([0.5, 6 / 9, 0.75, 0.0])
    answer = bandit(counts, sums, num_selections=25)
    pulls, expected = counts.copy(), []
    for _ in range(25):
        with np.errstate(divide="ignore"):
            bounds = means + np.sqrt(2 * np.log(pulls.sum()) / pulls)
        expected.append(int(np.argmax(bounds)))
        pulls[expected[-1]] += 1
    assert answer["chosen"].tolist() == expected
    assert answer["counts"].tolist() == counts.tolist()
    assert answer["reward_sums"].tolist() == sums.tolist()


def test_the_regret_of_ucb1_is_logarithmic_and_within_the_bound_of_its_authors() -> None:
    chances, num_steps, num_runs = np.array([0.9, 0.8, 0.8, 0.6, 0.3]), 4000, 12
    gaps = 0.9 - chances
    regret = np.zeros(num_steps)
    for seed in range(num_runs):
        outcomes = bernoulli(num_steps, chances, seed)
        chosen = bandit(np.zeros(5, int), np.zeros(5), outcomes=outcomes)["chosen"]
        regret += gaps[chosen].cumsum() / num_runs
    # Auer, Cesa-Bianchi and Fischer 2002, theorem 1.
    wide = gaps[gaps > 0]
    times = np.array([500, 1000, 2000, 4000])
    bound = 8 * np.log(times) * (1 / wide).sum() + (1 + math.pi**2 / 3) * wide.sum()
    assert (regret[times - 1] < bound).all()
    # Linear regret would double each time, logarithmic adds about the same.
    assert regret[3999] - regret[1999] < 0.7 * regret[1999]


# Thompson sampling

#: What a steady arm has seen: its Beta posterior has a standard deviation below 5e-10.
STEADY = 2**60


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        (1, 1),
        (0.5, 0.5),
        (0.02, 0.05),
        (0.3, 4),
        (1, 40),
        (2.5, 1),
        (30, 0.2),
        (17, 23),
        (4e6, 1e6),
    ],
)
def test_thompson_draws_from_the_beta_posterior(alpha: float, beta: float) -> None:
    """An arm with this posterior beats a steady one at p as often as its survival function says."""
    num_draws, statistic = 10000, 0.0
    posterior = stats.beta(alpha, beta)
    levels = np.clip(posterior.ppf([0.05, 0.3, 0.6, 0.95]), 1e-6, 1 - 1e-6)
    for seed, p in enumerate(levels):
        answer = bandit(
            [0, STEADY],
            [0.0, p * STEADY],
            "thompson",
            prior_alpha=alpha,
            prior_beta=beta,
            num_selections=num_draws,
            seed=seed,
        )
        chance = posterior.sf(p)
        wins = (answer["chosen"] == 0).sum()
        statistic += (wins - num_draws * chance) ** 2 / (num_draws * chance * (1 - chance))
    assert stats.chi2(levels.size).sf(statistic) > 1e-4


def test_thompson_chooses_as_often_as_the_posteriors_say() -> None:
    counts, sums = np.array([12, 9, 30, 2]), np.array([7.5, 5.0, 15.25, 1.5])
    posteriors = [stats.beta(1 + s, 1 + n - s) for n, s in zip(counts, sums, strict=True)]
    grid = (np.arange(20000) + 0.5) / 20000
    below = np.array([posterior.cdf(grid) for posterior in posteriors])
    chances = [
        (posterior.pdf(grid) * np.delete(below, arm, axis=0).prod(axis=0)).mean()
        for arm, posterior in enumerate(posteriors)
    ]
    assert sum(chances) == pytest.approx(1.0, abs=1e-6)
    answer = bandit(counts, sums, "thompson", num_selections=20000, seed=3)
    observed = np.bincount(answer["chosen"], minlength=4)
    assert stats.chisquare(observed, np.divide(chances, sum(chances)) * 20000).pvalue > 1e-4


@pytest.mark.parametrize("sums", [[0.0, 0.0], [0.001, 0.0], [0.002, 0.001]])
def test_thompson_tells_draws_apart_that_no_double_could_hold(sums: list[float]) -> None:
    # Below a shape a of 0.01 a draw of Beta(a, 1) is often less than the smallest double. Minus its
    # logarithm is exponential with rate a, so of two arms the first wins with a1 / (a1 + a2).
    answer = bandit([1, 1], sums, "thompson", num_selections=20000, seed=8, prior_alpha=1e-4)
    first, second = (1e-4 + total for total in sums)
    chosen = np.bincount(answer["chosen"], minlength=2)
    assert stats.binomtest(int(chosen[0]), 20000, first / (first + second)).pvalue > 1e-3


def test_thompson_learns_the_best_arm() -> None:
    outcomes = bernoulli(1500, [0.2, 0.5, 0.8], seed=5)
    answer = bandit([0, 0, 0], [0, 0, 0], "thompson", outcomes=outcomes, seed=5)
    assert (answer["chosen"][-500:] == 2).mean() > 0.95


@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 1.0, 1e300])
@pytest.mark.parametrize("beta", [1e-300, 1e-9, 1.0, 1e300])
def test_thompson_takes_any_prior(alpha: float, beta: float) -> None:
    state = [4, 0, 0, 2**40], [2.0, 0.0, 0.0, 0.0]
    priors = {"prior_alpha": alpha, "prior_beta": beta}
    answer = bandit(*state, "thompson", num_selections=300, **priors)
    assert set(answer["chosen"]) <= {0, 1, 2, 3}
    if alpha == beta == 1e-300:
        # A posterior of the prior alone is a fair toss between no odds and all, and of two that
        # have all either may have more.
        observed = np.bincount(answer["chosen"], minlength=4)
        assert stats.chisquare(observed[:3], [75, 112.5, 112.5]).pvalue > 1e-4


def test_thompson_takes_fractional_rewards() -> None:
    outcomes = np.random.default_rng(2).random((50, 3))
    answer = bandit([1, 1, 1], [0.5, 0.25, 1.0], "thompson", outcomes=outcomes)
    posterior = stats.beta(1 + answer["reward_sums"], 1 + answer["counts"] - answer["reward_sums"])
    np.testing.assert_allclose(answer["scores"], posterior.mean(), rtol=1e-14)


# Epsilon-greedy and softmax


@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
def test_epsilon_greedy_explores_with_its_probability(epsilon: float) -> None:
    counts, sums = [2, 2, 2, 2, 2], [1.0, 1.5, 0.5, 0.0, 1.0]
    answer = bandit(counts, sums, "epsilon_greedy", epsilon=epsilon, num_selections=10000, seed=8)
    chances = np.full(5, epsilon / 5)
    chances[1] += 1 - epsilon
    np.testing.assert_allclose(answer["scores"], chances, rtol=1e-15)
    observed = np.bincount(answer["chosen"], minlength=5)
    if epsilon == 0.0:
        assert observed[1] == 10000
    else:
        assert stats.chisquare(observed, chances * 10000).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [0.05, 0.7, 100.0])
def test_softmax_chooses_by_boltzmann_weights(temperature: float) -> None:
    counts, sums = np.array([2, 4, 3, 5]), np.array([1.0, 2.4, 1.2, 2.9])
    answer = bandit(counts, sums, "softmax", temperature=temperature, num_selections=20000, seed=4)
    chances = special.softmax(sums / counts / temperature)
    np.testing.assert_allclose(answer["scores"], chances, rtol=1e-13)
    observed = np.bincount(answer["chosen"], minlength=4)
    assert stats.chisquare(observed, chances * 20000).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [1e-300, 5e-324])
def test_softmax_without_warmth_takes_the_best_mean(temperature: float) -> None:
    sums = [1e300, -1e300, 0.0]
    answer = bandit([1, 1, 1], sums, "softmax", temperature=temperature, num_selections=50)
    assert (answer["chosen"] == 0).all()
    assert answer["scores"].tolist() == [1.0, 0.0, 0.0]


def test_softmax_follows_means_that_rise_and_fall() -> None:
    """Weights are kept between steps, so they are checked against ones made anew each time."""
    outcomes = np.random.default_rng(6).normal(size=(300, 5))
    whole = bandit([0] * 5, [0] * 5, "softmax", outcomes=outcomes, temperature=0.4, seed=6)
    counts, sums, chosen = [0] * 5, [0.0] * 5, []
    for step, row in enumerate(outcomes):
        one = bandit(counts, sums, "softmax", outcomes=[row], temperature=0.4, seed=6, step=step)
        counts, sums = one["counts"], one["reward_sums"]
        chosen.extend(one["chosen"])
    assert whole["chosen"].tolist() == chosen


# The state and the random numbers


@pytest.mark.parametrize("policy", POLICIES)
def test_many_steps_in_one_call_are_as_many_calls_of_one_step(policy: str) -> None:
    outcomes = bernoulli(40, np.linspace(0.1, 0.9, 11), seed=1)
    whole = bandit([0] * 11, [0] * 11, policy, outcomes=outcomes, seed=77, step=5)
    state = {"counts": np.zeros(11, int), "reward_sums": np.zeros(11), "step": 5}
    chosen, rewards = [], []
    for row in outcomes:
        one = bandit(**state, policy=policy, outcomes=row[None], seed=77)
        state = {name: one[name] for name in state}
        chosen.extend(one["chosen"])
        rewards.extend(one["rewards"])
    assert whole["chosen"].tolist() == chosen
    assert whole["rewards"].tolist() == rewards
    for name in state:
        np.testing.assert_array_equal(whole[name], state[name])
    assert whole["step"] == 45


@pytest.mark.parametrize("policy", POLICIES)
def test_learning_afterwards_is_learning_at_once(policy: str) -> None:
    outcomes = bernoulli(30, [0.3, 0.5, 0.6], seed=2)
    whole = bandit([0] * 3, [0] * 3, policy, outcomes=outcomes, seed=1)
    told: dict[str, Any] = {}
    state: dict[str, Any] = {"counts": [0] * 3, "reward_sums": [0] * 3, "step": 0}
    for row, arm in zip(outcomes, whole["chosen"], strict=True):
        asked = bandit(**state, policy=policy, seed=1, **told)
        assert asked["chosen"].tolist() == [arm]
        told = {"arms": asked["chosen"], "rewards": row[asked["chosen"]]}
        state = {name: asked[name] for name in state}


@pytest.mark.parametrize("policy", ["thompson", "epsilon_greedy", "softmax"])
def test_random_choices_repeat_by_seed_and_step_alone(policy: str) -> None:
    def choose(**changed: int) -> list[int]:
        rest = {"num_selections": 200, "temperature": 1.0, "epsilon": 0.9, "seed": 1} | changed
        return list(bandit([3] * 6, [1.5] * 6, policy, **rest)["chosen"])

    assert choose() == choose()
    assert choose(seed=2) != choose()
    assert choose(step=1)[:-1] == choose()[1:]
    assert choose(seed=2**64 - 1, step=2**62) != choose()


def test_observed_rewards_enter_the_state_in_their_order() -> None:
    rng = np.random.default_rng(0)
    arms, rewards = rng.integers(0, 7, 5000), rng.normal(size=5000)
    answer = bandit([2] * 7, [0.5] * 7, arms=arms, rewards=rewards, num_selections=0)
    assert answer["counts"].tolist() == (2 + np.bincount(arms, minlength=7)).tolist()
    for arm in range(7):
        total = 0.5
        for reward in rewards[arms == arm]:
            total += reward
        assert answer["reward_sums"][arm] == total
    np.testing.assert_array_equal(answer["means"], answer["reward_sums"] / answer["counts"])
    assert answer["chosen"].size == answer["rewards"].size == answer["step"] == 0


def test_scores_of_ucb1_are_its_bounds_and_infinite_without_pulls() -> None:
    counts, sums = np.array([5, 0, 1000, 1]), np.array([2.0, 0.0, 730.5, -3.0])
    answer = bandit(counts, sums, exploration=0.9, num_selections=0)
    pulled = counts > 0
    bounds = sums[pulled] / counts[pulled] + 0.9 * np.sqrt(np.log(1006) / counts[pulled])
    np.testing.assert_allclose(answer["scores"][pulled], bounds, rtol=1e-14)
    assert answer["scores"][1] == np.inf
    assert answer["means"][1] == 0.0


@pytest.mark.parametrize("policy", ["ucb1", "epsilon_greedy"])
def test_equal_arms_go_to_the_lowest_index(policy: str) -> None:
    answer = bandit([7] * 20, [3.5] * 20, policy, epsilon=0.0)
    assert answer["chosen"].tolist() == [0]


@pytest.mark.parametrize("policy", POLICIES)
def test_counts_beyond_float64_stay_exact(policy: str) -> None:
    counts = np.array([2**53, 2**53 + 1, 2**61])
    sums = np.array([2.0**52, 2.0**51, 2.0**59])
    answer = bandit(counts, sums, policy, outcomes=np.ones((5, 3)))
    gained = answer["counts"] - counts
    assert gained.tolist() == np.bincount(answer["chosen"], minlength=3).tolist()
    assert np.isfinite(answer["scores"]).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_largest_rewards_stay_finite(policy: str) -> None:
    highest = 1.0 if policy == "thompson" else 1e290
    outcomes = np.full((100, 3), highest)
    outcomes[:, 1] *= 0.0 if policy == "thompson" else -1.0
    answer = bandit([0] * 3, [0] * 3, policy, outcomes=outcomes, exploration=1e300)
    for name in ("reward_sums", "means", "scores"):
        assert np.isfinite(answer[name]).all()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pulls_and_rewards_add_up(data: st.DataObject) -> None:
    num_arms = data.draw(st.integers(1, 12))
    num_steps = data.draw(st.integers(0, 30))
    policy = data.draw(st.sampled_from(POLICIES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    counts = rng.integers(0, 5, num_arms)
    sums = counts * rng.random(num_arms)
    outcomes = rng.random((num_steps, num_arms))
    answer = bandit(counts, sums, policy, outcomes=outcomes, seed=int(rng.integers(2**63)))
    chosen = answer["chosen"]
    assert ((chosen >= 0) & (chosen < num_arms)).all()
    np.testing.assert_array_equal(answer["rewards"], outcomes[np.arange(num_steps), chosen])
    np.testing.assert_array_equal(
        answer["counts"], counts + np.bincount(chosen, minlength=num_arms)
    )
    gained = np.bincount(chosen, weights=answer["rewards"], minlength=num_arms)
    np.testing.assert_allclose(answer["reward_sums"], sums + gained, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10), st.integers(0, 2**32))
def test_renumbered_arms_get_renumbered_choices(num_arms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts, sums = rng.integers(1, 9, num_arms), rng.normal(size=num_arms)
    outcomes, order = rng.normal(size=(60, num_arms)), rng.permutation(num_arms)
    answer = bandit(counts, sums, outcomes=outcomes)
    renumbered = bandit(counts[order], sums[order], outcomes=outcomes[:, order])
    assert answer["chosen"].tolist() == order[renumbered["chosen"]].tolist()


# Long calls


@pytest.mark.parametrize("policy", POLICIES)
def test_a_long_call_is_stepped_and_gives_the_same_answer(policy: str) -> None:
    outcomes = bernoulli(6000, [0.3, 0.4], seed=1)
    work = optimization.multi_armed_bandit([0, 0], [0, 0], policy, outcomes=outcomes, seed=3)
    assert isinstance(work, Generator)
    progress: list[float] = []
    answer = native_c.run(work, progress.append)
    assert progress == sorted(progress)
    assert 0.0 < progress[0] < progress[-1] == 1.0
    parts = [bandit([0, 0], [0, 0], policy, outcomes=outcomes[:2500], seed=3)]
    state = {name: parts[0][name] for name in ("counts", "reward_sums", "step")}
    parts.append(bandit(**state, policy=policy, outcomes=outcomes[2500:], seed=3))
    joined = np.concatenate([part["chosen"] for part in parts])
    np.testing.assert_array_equal(answer["chosen"], joined)


def test_a_long_call_can_be_left() -> None:
    work = optimization.multi_armed_bandit([5, 5], [1.0, 2.0], num_selections=2**25)
    assert isinstance(work, Generator)
    assert 0.0 < next(work) < 0.01
    work.close()


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("prior_alpha", [1.0, 0.03])
def test_a_step_over_many_arms_is_made_in_parts_and_chooses_the_same(
    learns: bool, prior_alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 4, 1000)
    request: dict[str, Any] = {
        "counts": counts,
        "reward_sums": counts * rng.random(1000),
        "policy": "thompson",
        "prior_alpha": prior_alpha,
        "seed": 8,
        "step": 2**40,
        "num_selections": 6,
    }
    if learns:
        request["outcomes"] = rng.random((6, 1000))
    whole = native_c.run(optimization.multi_armed_bandit(**request))
    kernels = native_c.backend.current().optimization
    monkeypatch.setattr(kernels, "BANDIT_ROW", 999)
    monkeypatch.setattr(kernels, "BANDIT_PART", 170)
    work = optimization.multi_armed_bandit(**request)
    assert isinstance(work, Generator)
    progress: list[float] = []
    parts = native_c.run(work, progress.append)
    assert len(progress) >= 36
    assert progress == sorted(progress)
    assert 0.0 < progress[0] < 0.03
    assert progress[-1] == 1.0
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)


def test_one_step_over_many_arms_can_be_left() -> None:
    zeros = np.zeros(2**19, int)
    work = optimization.multi_armed_bandit(zeros, zeros, "thompson")
    assert isinstance(work, Generator)
    assert 0.0 < next(work) < 0.1
    work.close()


def test_many_observed_rewards_are_folded_in_pieces() -> None:
    arms = np.arange(2**20 + 5) % 3
    work = optimization.multi_armed_bandit([0] * 3, [0] * 3, arms=arms, rewards=np.ones(arms.size))
    assert isinstance(work, Generator)
    answer = native_c.run(work)
    assert answer["counts"].tolist() == np.bincount(arms).tolist()


# Both twins


@pytest.mark.parametrize("num_arms", [1, 5, 8, 20, 65])
@pytest.mark.parametrize("policy", POLICIES)
def test_both_twins_and_all_levels_make_the_same_choices(
    policy: str, num_arms: int, on_each_level: Any
) -> None:
    rng = np.random.default_rng(num_arms)
    outcomes = np.round(rng.random((250, num_arms)), 2)
    rest: dict[str, Any] = {"seed": 12345, "prior_alpha": 0.6, "prior_beta": 1.7, "step": 10**12}
    zeros = np.zeros(num_arms, int)

    def both() -> list[Any]:
        replay = bandit(zeros, zeros, policy, outcomes=outcomes, **rest)
        state = replay["counts"], replay["reward_sums"]
        return [replay, bandit(*state, policy, num_selections=100, **rest)]

    with native_c.use_backend("fallback"):
        expected = both()
    for answers in on_each_level(both):
        for answer, wanted in zip(answers, expected, strict=True):
            assert answer.keys() == wanted.keys()
            for name, value in wanted.items():
                np.testing.assert_array_equal(answer[name], value, err_msg=name)
