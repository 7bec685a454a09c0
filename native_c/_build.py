"""Builds the extension native_c._kernels from the public headers and all C sources, by cffi."""

import hashlib
import re
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

#: The text between these marks of a public header is what cffi reads.
DECLARATIONS = re.compile(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", re.DOTALL)

#: No contraction and no fast-math, so that bits do not depend on the instruction set. errno and
#: floating-point traps are given up (nobody reads them), without which loops stay scalar.
COMPILE_FLAGS = [
    "-std=c11",
    "-O3",
    "-pthread",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wshadow",
]

#: CPython 3.11 is the oldest one served, and the abi3 tag of the wheel. Free-threaded builds have
#: no stable ABI before 3.15 and get an extension of their own.
LIMITED_API = "0x030B0000"


def read_headers() -> list[Path]:
    """Return the public headers, core.h first because the others use its types."""
    return sorted((HERE / "include").glob("*.h"), key=lambda path: (path.stem != "core", path))


def tell_headers(headers: list[Path]) -> str:
    """Return C that tells by which headers it was built, for the loader to compare."""
    text = b"".join(path.read_bytes() for path in sorted(headers))
    digest = hashlib.sha256(text).hexdigest()
    return f'\nstatic const char *nc_headers(void) {{ return "{digest}"; }}\n'


def make_builder() -> FFI:
    """Return the cffi builder; setup.py names it in `cffi_modules`."""
    headers = read_headers()
    builder = FFI()
    for header in headers:
        for declarations in DECLARATIONS.findall(header.read_text(encoding="utf-8")):
            builder.cdef(declarations)
    builder.cdef("const char *nc_headers(void);")
    root = HERE.parent
    stable = not sysconfig.get_config_var("Py_GIL_DISABLED")
    builder.set_source(
        "native_c._kernels",
        "\n".join(f'#include "{header.name}"' for header in headers) + tell_headers(headers),
        sources=[str(path.relative_to(root)) for path in sorted((HERE / "src").glob("*.c"))],
        depends=[str(path.relative_to(root)) for path in sorted(HERE.glob("*/*.h"))],
        include_dirs=["native_c/include", "native_c/src"],
        define_macros=[("Py_LIMITED_API", LIMITED_API)] if stable else [],
        extra_compile_args=COMPILE_FLAGS,
        extra_link_args=["-pthread"],
        libraries=["m"],
    )
    return builder


ffibuilder = make_builder()
