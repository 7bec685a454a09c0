"""A C kernel that keeps failing in a real worker: its callers get NumPy's answers and are told."""

import time

import pytest

from gristmill.metrics import text
from gristmill.server import EmbeddedServer
from native_c import extension
from native_c.errors import ExtensionMissing
from producers import Client, analytics, mcts
from tests.gristmill.test_metrics import read, sample
from tests.integration.test_faults import SMALL
from tests.integration.worker import Worker

pytestmark = pytest.mark.integration


def test_callers_of_a_broken_kernel_get_answers_and_the_operator_hears_of_it(
    server: EmbeddedServer, tmp_path
) -> None:
    try:
        extension.load()
    except ExtensionMissing as error:
        pytest.skip(str(error))
    prefix, options = "broken:", ("--concurrency=1", "-I", "tests.integration.broken_kernel")
    with (
        Worker(
            *(server.url, tmp_path / "log", *options), prefix=prefix, NATIVE_C_BACKEND="compiled"
        ) as worker,
        Client(server.url, prefix=prefix, timeout=30),
    ):
        assert analytics.basic_statistics([1.0, 2.0]).backend == "compiled"
        started = time.monotonic()
        results = [mcts.ucb1_selection(**SMALL) for _ in range(8)]
        assert time.monotonic() - started < 10
        log = worker.log()
        found = read(text(server.url, prefix))
    assert [result.chosen.tolist() for result in results] == [[0]] * 8
    assert {result.backend for result in results} == {"fallback"}
    said = "The C kernel of mcts.ucb1_selection failed (ArithmeticError: the kernel is broken)"
    assert [result.warnings[0].startswith(said) for result in results] == [True] * 3 + [False] * 5
    assert "is left alone for a while" in results[-1].warnings[0]
    assert log.count("(circuit breaker open)") == 1
    operation = "mcts.ucb1_selection"
    for reason, count in (("error", 3), ("breaker", 5), ("unavailable", 0)):
        labels = {"operation": operation, "reason": reason}
        assert sample(found, "fallback_total", **labels) == count
    assert sample(found, "breaker_open", operation=operation) == 1
    assert sample(found, "breaker_total", operation=operation, state="open") == 1
