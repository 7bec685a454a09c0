"""Every error that native_c raises, and the one table that makes an error of a C status."""

from collections.abc import Mapping
from types import MappingProxyType


class NativeError(Exception):
    """Raised when a kernel cannot do what it was asked; the base of all errors of native_c."""

    def __init__(self, message: str = "") -> None:
        """Keep `message`, or the first line of the class's docstring where there is none."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class InvalidArgument(NativeError, ValueError):
    """Raised when an argument has the wrong type, shape or range."""


class OutOfMemory(NativeError, MemoryError):
    """Raised when there is not enough memory for an array or for a kernel's work space."""


class Singular(NativeError, ArithmeticError):
    """Raised when a matrix has no inverse or no factorization."""


class NotConverged(NativeError, ArithmeticError):
    """Raised when an iteration ends before it meets its tolerance."""


class Unsupported(NativeError, ValueError):
    """Raised when this processor lacks an instruction set that was asked for."""


class UnknownBackend(NativeError, ValueError):
    """Raised when a backend is named that does not exist."""


class ExtensionMissing(NativeError, ImportError):
    """Raised when the compiled backend is demanded and its extension is missing or unsound."""


#: The error of each failing status of core.h. NC_AGAIN is not a failure and never gets here.
ERRORS: Mapping[int, type[NativeError]] = MappingProxyType(
    {1: InvalidArgument, 2: OutOfMemory, 3: Singular, 4: NotConverged, 6: Unsupported}
)


def check(status: int) -> None:
    """Raise the error that a kernel's `status` stands for, or nothing for NC_OK (0)."""
    if status:
        raise ERRORS.get(status, NativeError)()
