"""The kernels: arrays in, arrays out. C where it is loaded, NumPy where it is not.

`native_c.mcts.ucb1_selection(...)` and its like are the operations; `info()` says what runs them.
"""

from native_c.backend import (
    FAMILIES as families,
)
from native_c.backend import (
    __version__,
    current,
    info,
    made,
    set_simd,
    set_threads,
    threads_used,
    use_backend,
)
from native_c.steps import run

__all__ = [
    "__version__",
    "current",
    "families",
    "info",
    "made",
    "run",
    "set_simd",
    "set_threads",
    "threads_used",
    "use_backend",
]
