"""Builds the C extension of native_c; everything else about the distribution is in pyproject.toml.

The extension is optional: without a working compiler the installation succeeds, says so, and the
kernels run on their NumPy twins.
"""

import shutil
import sys
import textwrap

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError

NOTICE = """
gristmill: the C kernels were not built: {reason}
gristmill: everything works on the NumPy fallback, only slower. To have the kernels, install a C
gristmill: compiler (Debian: apt install gcc libc6-dev python3-dev) and install gristmill again.
"""


class OptionalBuildExt(build_ext):
    """Turns a failed build into a notice."""

    def build_extensions(self) -> None:
        """Build what can be built, and go on with that alone."""
        self.extensions = [ext for ext in self.extensions if self._is_built(ext)]

    def _is_built(self, ext: Extension) -> bool:
        self.check_extensions_list([ext])
        try:
            self.build_extension(ext)
        except Exception as error:  # a missing compiler shows as any of a dozen classes
            sys.stderr.write(NOTICE.format(reason=self._reason(error)))
            return False
        return True

    def _reason(self, error: Exception) -> str:
        # The error of a failed compiler is its command line; what was wrong stands above.
        program = getattr(self.compiler, "compiler", None)
        if program and isinstance(error, CCompilerError | ExecError):
            missing = "" if shutil.which(program[0]) else ": there is none of that name"
            return f"the C compiler {program[0]} failed{missing}"
        return textwrap.shorten(str(error), 160)


setup(
    cffi_modules=["native_c/_build.py:ffibuilder"],
    cmdclass={"build_ext": OptionalBuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
