"""The variates of the NumPy twin against SciPy's distributions; those in C have tests in C."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from native_c.fallback import variates
from native_c.fallback.variates import Blocks


def draw_odds(alpha: float, beta: float, count: int) -> NDArray[np.float64]:
    addresses = [(step, index) for step in range(count // 4) for index in range(4)]
    shapes = np.repeat([[alpha], [beta]], count, axis=1).astype(float)
    return variates.beta_primes(Blocks(21, 3), addresses, shapes)


def test_a_block_is_philox_with_the_address_as_its_counter() -> None:
    counter = np.array([6, 2**63, 3, 1], np.uint64)
    expected = np.random.Philox(key=np.array([9, 4], np.uint64), counter=counter).random_raw(12)
    blocks = Blocks(9, 4)
    blocks.take(1, 5)
    found = blocks.take(2**63, 3, first=6, trial=3, part=1)
    assert found.tolist() == expected.reshape(3, 4).tolist()


def test_normals_are_normal_and_independent() -> None:
    words = Blocks(1, 1).take(0, 100_000)
    first, second = variates.normal_pairs(words[:, 0], words[:, 1])
    assert stats.kstest(first, stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(second, stats.norm.cdf).pvalue > 1e-3
    # Jointly normal and uncorrelated is independent: the angle is even on the circle.
    angles = np.arctan2(second, first) / (2 * np.pi) + 0.5
    assert stats.kstest(angles, stats.uniform.cdf).pvalue > 1e-3
    assert stats.kstest(first**2 + second**2, stats.chi2(2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.5, 80.0, 1e6, 1e12])
@pytest.mark.parametrize("beta", [0.1, 0.9, 1.0, 3.0, 500.0, 1e9])
def test_odds_follow_the_beta_prime_distribution(alpha: float, beta: float) -> None:
    draws = draw_odds(alpha, beta, 4000)
    # The odds of a beta variate above 1/2 say more than the variate: 1 - x of x near 1.
    small = draws < 1.0
    x = np.where(small, draws / (1.0 + draws), 1.0 / (1.0 + draws))
    cdf = np.where(small, stats.beta(alpha, beta).cdf(x), stats.beta(beta, alpha).sf(x))
    assert stats.kstest(cdf, stats.uniform.cdf).pvalue > 1e-4


def test_odds_of_mixed_shapes_are_those_of_each_shape_alone() -> None:
    blocks = Blocks(2, 2)
    shapes = np.array([[0.3, 1.0, 5.0, 40.0, 0.9], [2.0, 1.0, 0.2, 3.0, 0.1]])
    addresses = [(7, 0), (7, 1), (8, 0), (8, 9), (9, 3)]
    together = variates.beta_primes(blocks, addresses, shapes)
    alone = [
        variates.beta_primes(blocks, [at], shapes[:, [i]])[0] for i, at in enumerate(addresses)
    ]
    assert together.tolist() == alone


def test_the_tiniest_shapes_give_next_to_no_odds_or_all_in_their_proportion() -> None:
    draws = draw_odds(1e-300, 3e-300, 4000)
    assert ((draws < 1e-304) | (draws > 1e304)).all()
    assert ((draws > 0.0) & np.isfinite(draws)).all()
    assert len(set(draws)) == 4000
    assert stats.binomtest(int((draws > 1.0).sum()), 4000, 0.25).pvalue > 1e-4
