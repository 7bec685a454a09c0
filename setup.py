"""Builds the C extension of native_c; everything else about the distribution is in pyproject.toml.

The extension is optional: without a working compiler the installation succeeds, says so, and the
kernels run on their NumPy twins. `NATIVE_C_BUILD=skip` leaves it out unasked: the Makefile, which
builds it beside the sources, needs no second one from an editable installation.
"""

import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NOTICE = """
gristmill: the C kernels were not built: {reason}
gristmill: everything works on the NumPy fallback, only slower. To have the kernels, install a C
gristmill: compiler (Debian: apt install gcc libc6-dev) and install gristmill again.
"""


class OptionalBuildExt(build_ext):
    """Turns a failed build into a notice."""

    def build_extension(self, ext: Extension) -> None:
        """Build `ext`, or say on stderr why it is left out."""
        try:
            super().build_extension(ext)
        except Exception as error:  # a missing compiler shows as any of a dozen classes
            sys.stderr.write(NOTICE.format(reason=error))

    def copy_extensions_to_source(self) -> None:
        """Copy what was built beside the sources, which after a failure is nothing."""
        try:
            super().copy_extensions_to_source()
        except OSError as error:
            sys.stderr.write(f"gristmill: no extension to copy: {error}\n")


setup(
    cffi_modules=[]
    if os.environ.get("NATIVE_C_BUILD") == "skip"
    else ["native_c/_build.py:ffibuilder"],
    cmdclass={"build_ext": OptionalBuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
