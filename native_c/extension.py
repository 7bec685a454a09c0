"""The loaded extension: that it is there and fits, its instruction set and its threads."""

import functools
import hashlib
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from native_c.errors import ExtensionMissing, InvalidArgument, Unsupported

__version__: Final = "0.1.0"

#: Names of the instruction sets, in the order of enum nc_simd in core.h.
SIMD_LEVELS: Final = ("portable", "avx2", "avx512", "neon")

#: The most threads that one call can be given, MAX_THREADS of pool.c.
MAX_THREADS: Final = 256


def load() -> ModuleType:
    """Return the package of the compiled twins, with its `lib` and `ffi`.

    Raises ExtensionMissing where the extension was not built, does not load or is left from another
    version.
    """
    try:
        compiled = importlib.import_module("native_c.compiled")
    except ImportError as error:
        if importlib.util.find_spec("native_c._kernels") is None:
            raise ExtensionMissing("the extension was not built") from error
        raise ExtensionMissing(f"the extension does not load: {error}") from error
    _require_fit(compiled, __version__)
    return compiled


@functools.cache
def _require_fit(compiled: ModuleType, expected: str) -> None:
    """Raise ExtensionMissing unless the extension is of the version expected and of our headers.

    A call to a kernel whose arguments have changed since would crash the process.
    """
    version = compiled.ffi.string(compiled.lib.nc_version()).decode()
    if version != expected:
        raise ExtensionMissing(f"the extension is of version {version}, expected {expected}")
    headers = sorted((Path(__file__).parent / "include").glob("*.h"))
    built_by = getattr(compiled.lib, "nc_headers", None)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in headers)).hexdigest()
    # An installed distribution has no headers to compare.
    if headers and (built_by is None or compiled.ffi.string(built_by()).decode() != digest):
        raise ExtensionMissing("the extension is older than its headers, expected `make build`")


def supported_simd() -> tuple[str, ...]:
    """Return the instruction sets that this build and this processor both have."""
    lib = load().lib
    return tuple(name for level, name in enumerate(SIMD_LEVELS) if lib.nc_simd_supported(level))


def set_simd(name: str, argument: str = "simd") -> None:
    """Use the instruction set `name` for each call from now on, in all threads.

    Raises Unsupported, naming the levels to choose from, where this processor lacks it.
    """
    supported = supported_simd()
    if name not in supported:
        legal = f"one of {', '.join(supported)} on this processor"
        raise Unsupported(f"{argument}: {name!r}, expected {legal}")
    load().lib.nc_set_simd(SIMD_LEVELS.index(name))


def set_threads(count: int, argument: str = "threads") -> None:
    """Use at most `count` threads, 1 to 256, for each call from now on; bits do not change.

    Raises InvalidArgument outside that range.
    """
    if not 1 <= count <= MAX_THREADS:
        raise InvalidArgument(f"{argument}: {count}, expected 1 to {MAX_THREADS}")
    load().lib.nc_set_threads(count)


def made() -> dict[str, Any]:
    """Return `simd` and `threads` of the last kernel that was called on this thread."""
    lib = load().lib
    return {"simd": SIMD_LEVELS[lib.nc_simd_level()], "threads": int(lib.nc_threads_used())}


def info() -> dict[str, Any]:
    """Return the part of `native_c.info()` that the extension knows."""
    compiled = load()
    return {
        "simd": SIMD_LEVELS[compiled.lib.nc_simd_level()],
        "simd_supported": supported_simd(),
        "threads": int(compiled.lib.nc_get_threads()),
        "compiler": compiled.ffi.string(compiled.lib.nc_compiler()).decode(),
    }
