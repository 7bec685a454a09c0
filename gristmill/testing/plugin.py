"""The in-process mode as a pytest fixture: `pytest_plugins = ["gristmill.testing.plugin"]`."""

from collections.abc import Iterator

import pytest

from gristmill.testing import InProcess, in_process


@pytest.fixture
def gristmill_in_process() -> Iterator[InProcess]:
    """Run every operation that the test calls in this process, without Redis or worker."""
    with in_process() as road:
        yield road
