"""Normal, gamma and beta prime variates with the same bits as src/variates.h: change both or none.

The formulas, their sources and the addresses of the draws stand there.
"""

import numpy as np
from numpy.typing import NDArray

from native_c.fallback import elementary

_HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
_SINE = (
    -1.0 / 1307674368000.0,
    1.0 / 6227020800.0,
    -1.0 / 39916800.0,
    1.0 / 362880.0,
    -1.0 / 5040.0,
    1.0 / 120.0,
    -1.0 / 6.0,
)
_COSINE = (
    1.0 / 20922789888000.0,
    -1.0 / 87178291200.0,
    1.0 / 479001600.0,
    -1.0 / 3628800.0,
    1.0 / 40320.0,
    -1.0 / 720.0,
    1.0 / 24.0,
    -0.5,
)


class Blocks:
    """The blocks of one random stream, four words of 64 bits each, by their addresses."""

    def __init__(self, seed: int, stream: int) -> None:
        """Key the generator, which is made once: moving it is four times cheaper."""
        self._generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
        self._state = self._generator.state

    def take(
        self, step: int, count: int, *, first: int = 0, trial: int = 0, part: int = 0
    ) -> NDArray[np.uint64]:
        """Return the blocks of indices `first` to `first + count - 1` of a step, [count, 4]."""
        self._state["state"]["counter"][:] = first, step, trial, part
        self._generator.state = self._state
        return self._generator.random_raw(4 * count).reshape(count, 4)


def unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return words as doubles in [0, 1), on a grid of 2^-53."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal_pairs(
    words0: NDArray[np.uint64], words1: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two independent standard normals of each pair of words."""
    radius = np.sqrt(-2.0 * elementary.log(unit(words0) + 2.0**-53))
    angle = (unit(words1) - 0.5) * _HALF_PI
    z = angle * angle
    sine = angle + (angle * z) * _polynomial(_SINE, z)
    cosine = 1.0 + z * _polynomial(_COSINE, z)
    mirrored = (words1 & np.uint64(1)).astype(bool)
    radius = np.where((words1 & np.uint64(2)).astype(bool), -radius, radius)
    first, second = np.where(mirrored, sine, cosine), np.where(mirrored, cosine, sine)
    return radius * first, radius * second


def _polynomial(coefficients: tuple[float, ...], z: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * z + coefficient
    return total


def gamma_of_shape(
    shape: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return d = shape - 1/3 and c = 1 / (3 sqrt d) of each shape >= 1."""
    d = shape - 1.0 / 3.0
    return d, 1.0 / (3.0 * np.sqrt(d))


def gamma_squeezed(
    d: NDArray[np.float64],
    c: NDArray[np.float64],
    x: NDArray[np.float64],
    u: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return a gamma variate of each trial that passes the squeeze, and 0 of the others."""
    t = c * x
    v = 1.0 + t
    tx = t * x
    return np.where(u < 1.0 - 0.2 * (tx * tx), d * (v * v * v), 0.0)


def gamma_trial(
    d: NDArray[np.float64],
    c: NDArray[np.float64],
    x: NDArray[np.float64],
    u: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return a gamma variate of each trial that succeeds, and 0 of those that fail."""
    t = c * x
    v = 1.0 + t
    tx = t * x
    log_v, log_u = elementary.log(np.stack([np.where(v > 0.0, v, 1.0), u]))
    small = (t > -(2.0**-6)) & (t < 2.0**-6)
    series = -(t * t) * (t * t) * (0.25 - t * (0.2 - t * (1.0 / 6.0 - t * (1.0 / 7.0))))
    exact = log_v - t + t * t * (0.5 - t * (1.0 / 3.0))
    passes = log_u < 3.0 * d * np.where(small, series, exact)
    passes |= u < 1.0 - 0.2 * (tx * tx)
    return np.where(passes & (v > 0.0), d * (v * v * v), 0.0)


def beta_primes(
    blocks: Blocks, addresses: list[tuple[int, int]], shapes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the beta prime variates of m draws, each a step and an index, of `shapes` [2, m]."""
    below = shapes < 1.0
    d, c = gamma_of_shape(np.where(below, shapes + 1.0, shapes))
    gammas, left, trial = np.zeros(shapes.shape), np.arange(len(addresses)), 0
    while left.size:
        words = _take_each(blocks, [addresses[draw] for draw in left], trial=trial)
        normals = np.stack(normal_pairs(words[:, 0], words[:, 1]))
        tried = gamma_trial(d[:, left], c[:, left], normals, unit(words[:, 2:]).T)
        gammas[:, left] = np.where(gammas[:, left] > 0.0, gammas[:, left], tried)
        left = left[(gammas[:, left] == 0.0).any(axis=0)]
        trial += 1
    odds: NDArray[np.float64] = gammas[0] / gammas[1]
    if not below.any():
        return odds
    words = _take_each(blocks, addresses, part=1)[:, :2].T
    boosts = np.where(below, elementary.log(unit(words) + 2.0**-53) / shapes, 0.0)
    logs = elementary.log(gammas) + boosts
    return np.where(below.any(axis=0), _ordered_exp(logs[0] - logs[1]), odds)


def _ordered_exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(x), beyond +-700 numbers that only have its order."""
    size = np.abs(x)
    near = elementary.exp(np.clip(x, -700.0, 700.0))
    growth = 1.0 + elementary.log(np.maximum(size / 700.0, 1.0))
    return np.where(size <= 700.0, near, np.where(x < 0.0, near / growth, near * growth))


def _take_each(
    blocks: Blocks, addresses: list[tuple[int, int]], *, trial: int = 0, part: int = 0
) -> NDArray[np.uint64]:
    words = [blocks.take(step, 1, first=i, trial=trial, part=part) for step, i in addresses]
    return np.concatenate(words)
