"""What the tests of the kernels share: the extension where there is one, and its settings."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import native_c
from native_c import extension
from native_c.errors import ExtensionMissing


@pytest.fixture
def compiled() -> Iterator[Any]:
    """Yield the package of the C twins, with threads and instruction set as before afterwards."""
    try:
        package = extension.load()
    except ExtensionMissing as error:
        pytest.skip(str(error))
    before = extension.info()
    yield package
    extension.set_simd(before["simd"])
    extension.set_threads(before["threads"])


@pytest.fixture
def on_each_level(compiled: Any) -> Callable[[Callable[[], Any]], list[Any]]:
    """Return a function that calls another in C once on every instruction set of this machine."""

    def call(function: Callable[[], Any]) -> list[Any]:
        answers = []
        with native_c.use_backend("compiled"):
            for level in extension.supported_simd():
                extension.set_simd(level)
                answers.append(function())
        return answers

    return call
