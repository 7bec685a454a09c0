"""Decides which twins run: the C kernels or their NumPy stand-ins.

The environment is read once, when a backend is first needed:

- `NATIVE_C_BACKEND`: `auto` (default), `compiled` or `fallback`. `auto` takes the C kernels, and
  falls back with one warning where the extension is missing or fails the start-up self-test;
  `compiled` makes either an error.
- `NATIVE_C_SIMD`: the instruction set to use, one of `portable`, `avx2`, `avx512` and `neon` that
  this processor has. Defaults to the best one.
- `NATIVE_C_THREADS`: the most threads for one call, 1 to 256. Defaults to the number of processors
  that this process may run on.
"""

import contextlib
import importlib
import os
import pkgutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from native_c import extension
from native_c.errors import ExtensionMissing, InvalidArgument, UnknownBackend, Unsupported

TWINS: Final = ("compiled", "fallback")

#: The families are the modules of compiled/: a second list would be one more to forget.
FAMILIES: Final = tuple(
    sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent / "compiled")]))
)


class Backend:
    """One set of twins: `Backend("fallback").mcts` is the module native_c.fallback.mcts."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, family: str) -> ModuleType:
        """Load the family's module and keep it as an attribute, so that this runs once for each."""
        if family not in FAMILIES:
            raise AttributeError(f"{family}: not a family, expected one of {', '.join(FAMILIES)}")
        module = importlib.import_module(f"native_c.{self.name}.{family}")
        setattr(self, family, module)
        return module


_COMPILED: Final = Backend("compiled")
_FALLBACK: Final = Backend("fallback")

_override: ContextVar[Backend | None] = ContextVar("native_c_backend", default=None)
_loading = threading.Lock()
_loaded: Backend | None = None
_fallback_reason = ""


def current() -> Backend:
    """Return the twins in force here; on first use, load them as the environment says.

    Raises UnknownBackend, Unsupported or InvalidArgument for a bad value in the environment, and
    ExtensionMissing where NATIVE_C_BACKEND=compiled cannot be had.
    """
    return _override.get() or _loaded or _load()


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """Use the `compiled` or the `fallback` twins within a with-block of this thread or task.

    Raises UnknownBackend for another name, and ExtensionMissing where there is no extension.
    """
    if name not in TWINS:
        raise UnknownBackend(f"backend: {name!r}, expected one of {', '.join(TWINS)}")
    if name == "compiled":
        extension.load()
    backend = _COMPILED if name == "compiled" else _FALLBACK
    token = _override.set(backend)
    try:
        yield backend
    finally:
        _override.reset(token)


def info() -> dict[str, Any]:
    """Return what runs here and why: the line that a worker logs at its start.

    Keys: `backend`; `version`; `simd`, the instruction set in use, and `simd_supported`, all that
    this processor has; `threads`, the limit for one call; `compiler`; `fallback_reason`, why `auto`
    did not take the C kernels, else empty.
    """
    name = current().name
    found = {"backend": name, "version": extension.__version__, "fallback_reason": ""}
    if name == "compiled":
        return found | extension.info()
    numpys = {"simd": "none", "simd_supported": (), "threads": 1, "compiler": ""}
    return found | numpys | {"fallback_reason": _fallback_reason}


def made() -> dict[str, Any]:
    """Return how the last result on this thread was made: `backend`, `simd` and `threads`."""
    name = current().name
    if name == "compiled":
        return {"backend": name} | extension.made()
    return {"backend": name, "simd": "none", "threads": 1}


def fallback_reason() -> str:
    """Return why `auto` did not take the C kernels; empty where it did, or was not asked."""
    return _fallback_reason


def try_again() -> bool:
    """Look again for C kernels that `auto` did not find, or found unsound; tell whether they run.

    An extension that was built since is found; one that was loaded already is tested again. That
    takes as long as a first use, some milliseconds, and changes nothing where there is no reason to
    look. Raises what `current` raises for a bad value in the environment.
    """
    global _loaded, _fallback_reason
    with _loading:
        if not _fallback_reason:
            return False
        importlib.invalidate_caches()
        chosen, reason = _choose()
        if reason:
            _fallback_reason = reason
            return False
        _loaded, _fallback_reason = chosen, ""
        return True


def _load() -> Backend:
    global _loaded, _fallback_reason
    with _loading:
        if _loaded is None:
            _loaded, _fallback_reason = _choose()
            if _fallback_reason:
                message = f"native_c runs on the NumPy fallback: {_fallback_reason}"
                warnings.warn(message, RuntimeWarning, stacklevel=4)
        return _loaded


def _choose() -> tuple[Backend, str]:
    """Return the backend that the environment asks for, and why `auto` had to fall back."""
    choice = _read_word("NATIVE_C_BACKEND", ("auto", *TWINS), UnknownBackend) or "auto"
    simd = _read_word("NATIVE_C_SIMD", extension.SIMD_LEVELS, Unsupported)
    threads = _read_threads()
    if choice == "fallback":
        return _FALLBACK, ""
    from native_c.self_test import run_self_test  # it imports this module, and runs only here

    try:
        extension.load()
        if simd:
            extension.set_simd(simd, "NATIVE_C_SIMD")
        if threads:
            extension.set_threads(threads, "NATIVE_C_THREADS")
        run_self_test()
    except ExtensionMissing as error:
        if choice == "compiled":
            raise
        return _FALLBACK, str(error)
    return _COMPILED, ""


def _read_word(variable: str, legal: Sequence[str], error: type[Exception]) -> str:
    word = os.environ.get(variable, "")
    if word and word not in legal:
        raise error(f"{variable}: {word!r}, expected one of {', '.join(legal)}")
    return word


def _read_threads() -> int:
    count = os.environ.get("NATIVE_C_THREADS", "")
    if count and not (count.isdecimal() and 1 <= int(count) <= extension.MAX_THREADS):
        expected = f"a number from 1 to {extension.MAX_THREADS}"
        raise InvalidArgument(f"NATIVE_C_THREADS: {count!r}, expected {expected}")
    return int(count or 0)
