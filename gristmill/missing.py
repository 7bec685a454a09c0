"""Says in a line what is not installed, and what brings it."""

from typing import Final

#: The extra of ours that brings a package.
_EXTRAS: Final = {"flower": "worker", "matplotlib": "plot", "prometheus_client": "worker"}

#: The packages of this distribution.
_OURS: Final = ("celeryconfig", "contract", "gristmill", "native_c", "producers", "workers")

#: What puts a broken or incomplete installation of ours right.
AGAIN: Final = "install gristmill again (in a checkout: make build)"


def say(error: ImportError) -> str:
    """Return what an import missed: `flower: not installed, expected pip install '...'`."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{error}, expected it to load; {AGAIN}"
    package = error.name.partition(".")[0]
    return f"{package}: not installed, expected {how_to_install(package)}"


def how_to_install(package: str) -> str:
    """Return the command that installs a package."""
    if package in _OURS:
        return AGAIN
    extra = _EXTRAS.get(package)
    return f"pip install 'gristmill[{extra}]'" if extra else f"pip install {package}"
