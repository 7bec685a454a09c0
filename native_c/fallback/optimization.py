"""The optimization kernels in NumPy; the formulas stand in src/optimization*."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy import float64, int64
from numpy.typing import NDArray

from native_c.bandit import STREAM, Bandit
from native_c.fallback import elementary, variates
from native_c.fallback.variates import Blocks

#: Draws that are computed together, ahead of the steps that use them.
_TILE = 4096

#: Arms that are scored in about 20 ms, steps times arms.
BANDIT_GRAIN = 2**13

#: Arms beyond which a step of Thompson sampling, of some 20 ms then, is made in parts, and the most
#: arms of a part.
BANDIT_ROW = 2**16
BANDIT_PART = 2**13

_Floats = NDArray[float64]
_Counts = NDArray[int64]


class _State(NamedTuple):
    """What is known of each arm, [k]; changed in place."""

    counts: _Counts
    reward_sums: _Floats
    means: _Floats


def bandit_observe(arms: _Counts, rewards: _Floats, counts: _Counts, reward_sums: _Floats) -> None:
    """Fold observed rewards [m] into `counts` and `reward_sums` [k], in their order."""
    np.add.at(counts, arms, 1)
    np.add.at(reward_sums, arms, rewards)


def bandit_steps(
    bandit: Bandit,
    first_step: int,
    outcomes: _Floats | None,
    counts: _Counts,
    reward_sums: _Floats,
    means: _Floats,
    chosen: _Counts,
    rewards: _Floats,
) -> None:
    """Fill `chosen` [n] step by step.

    With `outcomes` [n, k] fill `rewards` [n] too and learn, else count only the choices of UCB1.
    """
    steps = range(first_step, first_step + chosen.size)
    state = _State(counts, reward_sums, means)
    for s, arm in enumerate(_CHOICES[bandit.policy](bandit, steps, state, outcomes is not None)):
        chosen[s] = arm
        if outcomes is not None:
            reward = outcomes[s, arm]
            rewards[s] = reward
            counts[arm] += 1
            reward_sums[arm] += reward
            means[arm] = reward_sums[arm] / counts[arm]
        elif bandit.policy == "ucb1":
            counts[arm] += 1


def bandit_draw(
    bandit: Bandit, step: int, first_arm: int, counts: _Counts, reward_sums: _Floats
) -> tuple[float, int]:
    """Return the highest odds, and the arm, of Thompson's draws for the arms from `first_arm`."""
    blocks, steps = Blocks(bandit.seed, STREAM), range(step, step + 1)
    shapes = _posteriors(bandit, counts, reward_sums)
    trials = _trials(blocks, steps, counts.size, first_arm)
    odds = _odds(blocks, steps, shapes, _gammas(shapes), *trials, first_arm)[0]
    arm = int(np.argmax(odds))
    return float(odds[arm]), first_arm + arm


def bandit_scores(
    bandit: Bandit, counts: _Counts, reward_sums: _Floats, means: _Floats, scores: _Floats
) -> None:
    """Fill `scores` [k] with what the policy thinks of each arm."""
    match bandit.policy:
        case "ucb1":
            bounds, roots = _ucb1_rows(counts, means)
            width = _ucb1_widths(bandit, int(counts.sum()), 1)
            scores[:] = bounds + width * roots
        case "thompson":
            shapes = _posteriors(bandit, counts, reward_sums)
            scores[:] = shapes[0] / (shapes[0] + shapes[1])
        case "epsilon_greedy":
            scores[:] = bandit.epsilon / counts.size
            scores[np.argmax(means)] = bandit.epsilon / counts.size + (1.0 - bandit.epsilon)
        case _:
            weights = _softmax_weights(bandit, means, means.max())
            scores[:] = weights / np.cumsum(weights)[-1]


# The choices of each policy: an iterator that the caller resumes when the state, which it changes
# in place, holds what followed from the last choice.


def _ucb1(bandit: Bandit, steps: range, state: _State, learns: bool) -> Iterator[int]:
    counts, _, means = state
    rows, roots = _ucb1_rows(counts, means)
    widths = _ucb1_widths(bandit, int(counts.sum()), len(steps))
    for width in widths:
        arm = int(np.argmax(rows + width * roots))
        yield arm
        rows[arm] = means[arm]
        roots[arm] = 1.0 / np.sqrt(float64(counts[arm]))


def _ucb1_rows(counts: _Counts, means: _Floats) -> tuple[_Floats, _Floats]:
    """Return means and 1 / sqrt(counts) such that an arm without pulls scores infinity."""
    pulled = counts > 0
    roots = 1.0 / np.sqrt(np.where(pulled, counts, 1).astype(float64))
    return np.where(pulled, means, np.inf), roots


def _ucb1_widths(bandit: Bandit, pulls: int, num_steps: int) -> _Floats:
    """Return the scale of the bounds at each step, after `pulls` pulls before the first."""
    pulls_before = np.maximum(np.arange(pulls, pulls + num_steps), 1).astype(float64)
    widths: _Floats = bandit.exploration * np.sqrt(elementary.log(pulls_before))
    return widths


def _thompson(bandit: Bandit, steps: range, state: _State, learns: bool) -> Iterator[int]:
    blocks = Blocks(bandit.seed, STREAM)
    shapes = _posteriors(bandit, *state[:2])
    gammas = _gammas(shapes)
    for tile in _tiles(steps, state.counts.size):
        normals, uniforms = _trials(blocks, tile, state.counts.size)
        # Where nothing is learned, the whole tile is drawn at once.
        span = 1 if learns else len(tile)
        for first in range(0, len(tile), span):
            now = slice(first, first + span)
            drawn = _odds(blocks, tile[now], shapes, gammas, normals[:, now], uniforms[:, now])
            for arm in drawn.argmax(axis=1):
                yield int(arm)
            if learns:
                one = slice(arm, arm + 1)
                shapes[:, one] = _posteriors(bandit, state.counts[one], state.reward_sums[one])
                gammas[:, :, one] = _gammas(shapes[:, one])


def _posteriors(bandit: Bandit, counts: _Counts, reward_sums: _Floats) -> _Floats:
    """Return the shapes of the Beta posteriors, [2, k]."""
    failures = np.maximum(counts - reward_sums, 0.0)
    return np.stack([bandit.prior_alpha + reward_sums, bandit.prior_beta + failures])


def _gammas(shapes: _Floats) -> _Floats:
    """Return d and c of the shapes, [2, 2, k]; NaN below 1, so that they pass no test."""
    return np.stack(variates.gamma_of_shape(np.where(shapes >= 1.0, shapes, np.nan)))


def _trials(
    blocks: Blocks, tile: range, num_arms: int, first_arm: int = 0
) -> tuple[_Floats, _Floats]:
    """Return normals and uniforms of the first trial of both shapes, each [2, steps, arms]."""
    words = np.stack([blocks.take(step, num_arms, first=first_arm) for step in tile])
    normals = np.stack(variates.normal_pairs(words[..., 0], words[..., 1]))
    return normals, np.moveaxis(variates.unit(words[..., 2:]), 2, 0)


def _odds(
    blocks: Blocks,
    steps: range,
    shapes: _Floats,
    gammas: _Floats,
    normals: _Floats,
    uniforms: _Floats,
    first_arm: int = 0,
) -> _Floats:
    """Draw the odds of the posteriors, [n, k]: by squeeze, else exact test, else new trials."""
    d, c = gammas
    odds = _ratios(variates.gamma_squeezed(d[:, None], c[:, None], normals, uniforms))
    at, arms = np.nonzero(odds < 0.0)
    if at.size:
        x, u = normals[:, at, arms], uniforms[:, at, arms]
        odds[at, arms] = _ratios(variates.gamma_trial(d[:, arms], c[:, arms], x, u))
        at, arms = np.nonzero(odds < 0.0)
    if at.size:
        places = zip(at.tolist(), arms.tolist(), strict=True)
        addresses = [(steps[s], first_arm + arm) for s, arm in places]
        odds[at, arms] = variates.beta_primes(blocks, addresses, shapes[:, arms])
    return odds


def _ratios(gammas: _Floats) -> _Floats:
    """Return the ratios of pairs of gamma variates [2, ...]; -1 where one is missing."""
    both = (gammas > 0.0).all(axis=0)
    ratios: _Floats = np.full(both.shape, -1.0)
    with np.errstate(over="ignore"):
        np.divide(gammas[0], gammas[1], out=ratios, where=both)
    return ratios


def _epsilon_greedy(bandit: Bandit, steps: range, state: _State, learns: bool) -> Iterator[int]:
    for uniforms in _decisions(bandit, steps):
        explores = uniforms[0] < bandit.epsilon
        best = int(np.argmax(state.means))
        yield int(uniforms[1] * state.means.size) if explores else best


def _softmax(bandit: Bandit, steps: range, state: _State, learns: bool) -> Iterator[int]:
    means = state.means
    highest = means.max()
    weights = _softmax_weights(bandit, means, highest)
    for uniforms in _decisions(bandit, steps):
        running = np.cumsum(weights)
        arm = int(np.searchsorted(running, uniforms[0] * running[-1], side="right"))
        before = means[arm]
        yield arm
        if not learns:
            continue
        if before == highest or means[arm] > highest:
            highest = means.max()
            weights = _softmax_weights(bandit, means, highest)
        else:
            weights[arm] = _softmax_weights(bandit, means[arm : arm + 1], highest)[0]


def _softmax_weights(bandit: Bandit, means: _Floats, highest: float64) -> _Floats:
    with np.errstate(over="ignore"):
        return elementary.exp((means - highest) / bandit.temperature)


def _decisions(bandit: Bandit, steps: range) -> Iterator[_Floats]:
    """Yield the four uniforms of each step."""
    blocks = Blocks(bandit.seed, STREAM)
    for tile in _tiles(steps, 1):
        yield from variates.unit(np.stack([blocks.take(step, 1)[0] for step in tile]))


def _tiles(steps: range, num_draws: int) -> Iterator[range]:
    """Cut the steps, each of `num_draws` draws, into tiles of at least one step."""
    size = max(1, _TILE // num_draws)
    for first in range(0, len(steps), size):
        yield steps[first : first + size]


_CHOICES: dict[str, Callable[..., Iterator[int]]] = {
    "ucb1": _ucb1,
    "thompson": _thompson,
    "epsilon_greedy": _epsilon_greedy,
    "softmax": _softmax,
}
