"""The life of a worker, as far as it shows without one."""

import logging
import os
from types import SimpleNamespace

import pytest
from celery.concurrency import get_implementation

import native_c
from workers import lifecycle


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_one_line_tells_what_a_worker_computes_with_at_any_usual_log_level(level, caplog) -> None:
    with caplog.at_level(level, lifecycle.logger.name):
        lifecycle.tell()
    (record,) = caplog.records
    assert record.levelno == level
    assert f"gristmill: backend {native_c.info()['backend']}, simd " in record.message


@pytest.mark.parametrize(
    ("threads", "words"), [(1, "1 kernel thread a process"), (8, "8 kernel threads a process")]
)
def test_the_line_counts_threads_and_gives_the_prefix_as_it_was_given(
    threads: int, words: str, monkeypatch, caplog
) -> None:
    made = {"backend": "compiled", "simd": "avx2", "threads": threads, "fallback_reason": ""}
    monkeypatch.setattr(native_c, "info", lambda: made)
    monkeypatch.setenv("GRISTMILL_PREFIX", "reports")
    with caplog.at_level(logging.INFO, lifecycle.logger.name):
        lifecycle.tell()
    assert f", {words}, " in caplog.text
    assert ", prefix reports" in caplog.text
    assert "reports:" not in caplog.text


class Instance(SimpleNamespace):
    """As much of a worker as is known before its pool starts."""

    def __init__(self, pool: str, concurrency: int | None) -> None:
        super().__init__(pool_cls=get_implementation(pool), concurrency=concurrency)


@pytest.mark.parametrize(
    ("pool", "concurrency", "cores", "threads"),
    [
        ("prefork", 1, 8, "8"),
        ("prefork", 2, 8, "4"),
        ("prefork", 3, 8, "2"),
        ("prefork", 8, 8, "1"),
        ("prefork", 16, 8, "1"),
        ("prefork", None, 8, "8"),
        ("processes", 4, 8, "2"),
        ("threads", 4, 8, "8"),
        ("solo", 4, 8, "8"),
        ("prefork", 2, 1, "1"),
    ],
)
def test_the_cores_are_shared_among_the_processes_of_a_pool(
    pool: str, concurrency: int | None, cores: int, threads: str, monkeypatch
) -> None:
    monkeypatch.delenv("NATIVE_C_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    lifecycle.share_cores(Instance(pool, concurrency))
    assert os.environ["NATIVE_C_THREADS"] == threads
    monkeypatch.delenv("NATIVE_C_THREADS")


@pytest.mark.parametrize(("most", "threads"), [(4, "2"), (8, "1"), (16, "1")])
def test_a_worker_that_scales_shares_the_cores_among_its_most_processes(
    most: int, threads: str, monkeypatch
) -> None:
    monkeypatch.delenv("NATIVE_C_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    instance = Instance("prefork", 8)
    instance.autoscale = (most, 1)
    lifecycle.share_cores(instance)
    assert os.environ["NATIVE_C_THREADS"] == threads
    monkeypatch.delenv("NATIVE_C_THREADS")


def test_what_the_environment_says_of_threads_counts(monkeypatch) -> None:
    monkeypatch.setenv("NATIVE_C_THREADS", "3")
    lifecycle.share_cores(Instance("prefork", 1))
    assert os.environ["NATIVE_C_THREADS"] == "3"


def test_a_host_without_affinity_counts_its_cores(monkeypatch) -> None:
    monkeypatch.delenv("NATIVE_C_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    lifecycle.share_cores(Instance("prefork", 2))
    assert os.environ["NATIVE_C_THREADS"] == "3"
    monkeypatch.delenv("NATIVE_C_THREADS")


def test_a_worker_that_cannot_have_the_kernels_asked_for_ends_with_a_line(monkeypatch) -> None:
    def missing() -> None:
        raise native_c.errors.ExtensionMissing("NATIVE_C_BACKEND: compiled, expected an extension")

    monkeypatch.setattr(native_c, "current", missing)
    with pytest.raises(SystemExit, match=r"^gristmill: NATIVE_C_BACKEND: compiled"):
        lifecycle.load_kernels()


def test_a_worker_with_its_kernels_goes_on() -> None:
    lifecycle.load_kernels()


def test_the_line_names_the_deployment_without_its_password(monkeypatch, caplog) -> None:
    monkeypatch.setenv("GRISTMILL_URL", "redis://:s3cr3t@mill.example.org:7/3")
    monkeypatch.setenv("GRISTMILL_PREFIX", "east")
    with caplog.at_level(logging.INFO, lifecycle.logger.name):
        lifecycle.tell()
    assert "broker redis://***@mill.example.org:7/3, prefix east" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_worker_on_the_fallback_says_why(monkeypatch, caplog) -> None:
    made = {**native_c.info(), "backend": "fallback", "fallback_reason": "no extension"}
    monkeypatch.setattr(native_c, "info", lambda: made)
    with caplog.at_level(logging.INFO, lifecycle.logger.name):
        lifecycle.tell()
    assert "backend fallback" in caplog.text
    assert "(no extension)" in caplog.text
