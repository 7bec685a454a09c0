"""The life of a worker, as far as it shows without one."""

import logging

import pytest

import native_c
from workers import lifecycle


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_one_line_tells_what_a_worker_computes_with_at_any_usual_log_level(level, caplog) -> None:
    with caplog.at_level(level, lifecycle.logger.name):
        lifecycle.tell()
    (record,) = caplog.records
    assert record.levelno == level
    assert f"gristmill: backend {native_c.info()['backend']}, simd " in record.message
