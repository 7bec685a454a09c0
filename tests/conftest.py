"""What all tests share: an environment without a deployment of ours, and patient properties."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from contract.deployment import PREFIX_VARIABLE, URL_VARIABLE
from gristmill.server import EmbeddedServer

# A deployment that happens to be set up in the shell is no place for tests.
for variable in (URL_VARIABLE, PREFIX_VARIABLE):
    os.environ.pop(variable, None)

# A shell that starts the suite in the background has Ctrl-C ignored, and so would every process be
# that a test starts to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure. CI draws the same examples each time; other runs look further.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the suite, begin with the files that wait long."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "integration" not in item.keywords)  # files stay whole


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """Start one server for the tests that do it no harm, each under a prefix of its own."""
    with EmbeddedServer() as server:
        yield server
