"""Says in a line what is not installed, and what brings it."""

from typing import Final

#: The extra of ours that brings a package.
_EXTRAS: Final = {"flower": "worker", "matplotlib": "plot", "prometheus_client": "worker"}

#: The packages of this distribution.
_OURS: Final = ("celeryconfig", "contract", "gristmill", "native_c", "producers", "workers")


def say(error: ImportError) -> str:
    """Return what an import missed: `flower: not installed, expected pip install '...'`."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{error}, expected it to load; {_again()}"
    package = error.name.partition(".")[0]
    return f"{package}: not installed, expected {how_to_install(package)}"


def how_to_install(package: str) -> str:
    """Return the command that installs a package."""
    if package in _OURS:
        return _again()
    extra = _EXTRAS.get(package)
    return f"pip install 'gristmill[{extra}]'" if extra else f"pip install {package}"


def _again() -> str:
    return "pip install --force-reinstall gristmill"
