"""Decides which twins run: the C kernels or their NumPy stand-ins.

The environment is read once, when a backend is first needed:

- `NATIVE_C_BACKEND`: `auto` (default), `compiled` or `fallback`. `auto` takes the C kernels, and
  falls back with one warning where the extension is missing or fails the start-up self-test;
  `compiled` makes either an error.
- `NATIVE_C_SIMD`: the instruction set to use, one of `portable`, `avx2`, `avx512` and `neon` that this
  processor has. Defaults to the best one.
- `NATIVE_C_THREADS`: the most threads for one call, 1 to 256. Defaults to the processors that this
  process may run on.
"""

import contextlib
import importlib
import os
import pkgutil
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from native_c.errors import (
    ExtensionMissing,
    InvalidArgument,
    NativeError,
    UnknownBackend,
    Unsupported,
)

__version__ = "0.1.0"

CHOICES: Final = ("auto", "compiled", "fallback")
SIMD_LEVELS: Final = ("portable", "avx2", "avx512", "neon")  # in the order of enum nc_simd

#: The families are the modules of compiled/, so a new family is in no list here.
FAMILIES: Final = tuple(
    sorted(
        module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "compiled")])
    )
)


class Backend:
    """One set of twins: `Backend("fallback").mcts` is the module native_c.fallback.mcts."""

    def __init__(self, name: str) -> None:
        """Name the set, `compiled` or `fallback`; its modules load when first used."""
        self.name = name

    def __getattr__(self, family: str) -> ModuleType:
        """Load the family's module; found here only once, as it then is an attribute."""
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
    if name not in CHOICES[1:]:
        raise UnknownBackend(f"backend: {name!r}, expected one of {', '.join(CHOICES[1:])}")
    if name == "compiled":
        _import_extension()
    backend = _COMPILED if name == "compiled" else _FALLBACK
    token = _override.set(backend)
    try:
        yield backend
    finally:
        _override.reset(token)


def info() -> dict[str, Any]:
    """Return what runs here and why: the line that a worker logs at its start.

    Keys: `backend`, `version`, `simd` (the level in use), `simd_supported` (all levels of this
    processor), `threads` (the limit per call), `compiler`, and `fallback_reason` (why `auto` did not
    take the C kernels; empty where it did or was not asked).
    """
    name = current().name
    found: dict[str, Any] = {"backend": name, "version": __version__}
    if name == "fallback":
        numpy_only = {"simd": "none", "simd_supported": (), "threads": 1, "compiler": ""}
        return found | numpy_only | {"fallback_reason": _fallback_reason}
    kernels = _import_extension()
    return found | {
        "simd": SIMD_LEVELS[kernels.lib.nc_simd_level()],
        "simd_supported": _supported(kernels),
        "threads": int(kernels.lib.nc_get_threads()),
        "compiler": kernels.ffi.string(kernels.lib.nc_compiler()).decode(),
        "fallback_reason": "",
    }


def made() -> dict[str, Any]:
    """Return how the last call on this thread was computed: `backend`, `simd` and `threads`."""
    name = current().name
    if name == "fallback":
        return {"backend": name, "simd": "none", "threads": 1}
    lib = _import_extension().lib
    simd = SIMD_LEVELS[lib.nc_simd_level()]
    return {"backend": name, "simd": simd, "threads": int(lib.nc_threads_used())}


def threads_used() -> int:
    """Return how many threads the last kernel called on this thread was spread over."""
    return int(_import_extension().lib.nc_threads_used()) if current() is _COMPILED else 1


def set_threads(count: int) -> None:
    """Use at most `count` threads, 1 to 256, for each call from now on; the fallback uses one.

    Raises InvalidArgument outside that range.
    """
    if not 1 <= count <= 256:
        raise InvalidArgument(f"threads: {count}, expected 1 to 256")
    if current() is _COMPILED:
        _import_extension().lib.nc_set_threads(count)


def set_simd(name: str) -> None:
    """Use the instruction set `name` for each call from now on; results keep their bits.

    Raises Unsupported, naming the levels to choose from, for any other.
    """
    kernels = _import_extension()
    supported = _supported(kernels)
    if name not in supported:
        raise Unsupported(
            f"simd: {name!r}, expected one of {', '.join(supported)} on this processor"
        )
    kernels.lib.nc_set_simd(SIMD_LEVELS.index(name))


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
    choice = os.environ.get("NATIVE_C_BACKEND", "auto")
    if choice not in CHOICES:
        message = f"NATIVE_C_BACKEND: {choice!r}, expected one of {', '.join(CHOICES)}"
        raise UnknownBackend(message)
    if choice == "fallback":
        return _FALLBACK, ""
    try:
        _configure(_import_extension())
        _self_test()
    except ExtensionMissing as error:
        if choice == "compiled":
            raise
        return _FALLBACK, str(error)
    return _COMPILED, ""


def _import_extension() -> ModuleType:
    try:
        kernels = importlib.import_module("native_c.compiled")
    except ImportError as error:
        raise ExtensionMissing(f"the extension does not load: {error}") from error
    version = kernels.ffi.string(kernels.lib.nc_version()).decode()
    if version != __version__:
        raise ExtensionMissing(f"the extension is of version {version}, expected {__version__}")
    return kernels


def _configure(kernels: ModuleType) -> None:
    simd = os.environ.get("NATIVE_C_SIMD")
    if simd:
        supported = _supported(kernels)
        if simd not in supported:
            message = (
                f"NATIVE_C_SIMD: {simd!r}, expected one of {', '.join(supported)} on this processor"
            )
            raise Unsupported(message)
        kernels.lib.nc_set_simd(SIMD_LEVELS.index(simd))
    threads = os.environ.get("NATIVE_C_THREADS")
    if threads:
        if not (threads.isdecimal() and 1 <= int(threads) <= 256):
            raise InvalidArgument(f"NATIVE_C_THREADS: {threads!r}, expected a number from 1 to 256")
        kernels.lib.nc_set_threads(int(threads))


def _supported(kernels: ModuleType) -> tuple[str, ...]:
    levels = enumerate(SIMD_LEVELS)
    return tuple(name for level, name in levels if kernels.lib.nc_simd_supported(level))


def _self_test() -> None:
    """Raise ExtensionMissing unless each case in each facade's SELF_TEST agrees on both twins."""
    for family in FAMILIES:
        for operation, request in importlib.import_module(f"native_c.{family}").SELF_TEST:
            try:
                agree = _agree(
                    _run_on(_COMPILED, operation, request), _run_on(_FALLBACK, operation, request)
                )
            except (NativeError, AttributeError) as error:
                raise ExtensionMissing(
                    f"the self-test of {operation.__name__} failed: {error}"
                ) from error
            if not agree:
                raise ExtensionMissing(
                    f"the self-test of {operation.__name__} disagrees with NumPy"
                )


def _run_on(backend: Backend, operation: Any, request: dict[str, Any]) -> dict[str, Any]:
    from native_c.steps import run

    token = _override.set(backend)
    try:
        return run(operation(**request))
    finally:
        _override.reset(token)


def _agree(ours: dict[str, Any], twin: dict[str, Any]) -> bool:
    """Whether two results agree to 1e-9, far above rounding and far below any defect."""
    return ours.keys() == twin.keys() and all(
        np.shape(ours[key]) == np.shape(twin[key])
        and (
            ours[key] == twin[key]
            if isinstance(ours[key], str | tuple)
            else bool(np.allclose(ours[key], twin[key], rtol=1e-9, atol=1e-12, equal_nan=True))
        )
        for key in ours
    )
