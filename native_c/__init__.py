"""The kernels: arrays in, arrays out. C where it is loaded, NumPy where it is not.

`native_c.mcts.ucb1_selection(...)` and its like are the operations, one facade module for each
family; `native_c.info()` says what runs them.
"""

import importlib
from types import ModuleType

from native_c.backend import FAMILIES, current, fallback_reason, info, made, try_again, use_backend
from native_c.extension import __version__, set_simd, set_threads
from native_c.steps import run
from native_c.supervision import supervise

__all__ = [
    "__version__",
    "current",
    "fallback_reason",
    "families",
    "info",
    "made",
    "run",
    "set_simd",
    "set_threads",
    "supervise",
    "try_again",
    "use_backend",
]

families = FAMILIES


def __getattr__(name: str) -> ModuleType:
    """Load a family's facade when it is first asked for."""
    if name not in FAMILIES:
        raise AttributeError(f"module 'native_c' has no attribute {name!r}")
    return importlib.import_module(f"native_c.{name}")
