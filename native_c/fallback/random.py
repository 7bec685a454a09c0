"""The draws of native_c's random streams, by NumPy's own Philox4x64-10 (see include/core.h)."""

import numpy as np
from numpy.typing import NDArray

WORDS_PER_BLOCK = 4


def words(seed: int, stream: int, first: int, count: int) -> NDArray[np.uint64]:
    """Return draws `first` to `first + count - 1` of (seed, stream), 64 random bits each.

    Draw 0 onward are `numpy.random.Philox(key=[seed, stream]).random_raw(count)`: NumPy steps its
    counter before each block, so block b, which holds draws 4 b to 4 b + 3, has the counter b + 1.
    """
    block, skip = divmod(first, WORDS_PER_BLOCK)
    key = np.array([seed, stream], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([block, 0, 0, 0], dtype=np.uint64))
    return generator.random_raw(skip + count)[skip:]


def uniform(seed: int, stream: int, first: int, count: int) -> NDArray[np.float64]:
    """Return the same draws as doubles in [0, 1), on a grid of 2^-53."""
    upper = words(seed, stream, first, count) >> np.uint64(11)
    return upper.astype(np.float64) * 2.0**-53
