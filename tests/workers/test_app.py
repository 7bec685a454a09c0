"""The app of the workers and its settings."""

import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidRequest
from contract.families import FAMILIES
from workers import app


def settings() -> dict[str, Any]:
    """Read the settings anew, as a worker that starts does."""
    return runpy.run_module("celeryconfig")


def test_a_spawned_child_finds_the_app_with_its_tasks() -> None:
    assert pickle.loads(pickle.dumps(app)) is app


def test_a_spawned_child_imports_what_the_worker_was_told_to() -> None:
    before = app.conf.include
    try:
        app.conf.include = ("user.tasks",)
        pickled = pickle.dumps(app)
        app.conf.include = ()  # as in a child that has just begun
        assert pickle.loads(pickled).conf.include == ("user.tasks",)
    finally:
        app.conf.include = before


def test_settings_know_every_family() -> None:
    assert {queue.name for queue in settings()["task_queues"]} == {*FAMILIES, "celery"}
    assert set(settings()["task_routes"]) == {f"{family}.*" for family in FAMILIES}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("worker_prefetch_multiplier", "7", 7),
        ("worker_soft_shutdown_timeout", "1.5", 1.5),
        ("task_acks_late", "false", False),
        ("task_default_queue", "elsewhere", "elsewhere"),
        ("accept_content", '["json"]', ["json"]),
        ("result_expires", "null", None),
    ],
)
def test_the_environment_overrides_a_setting(monkeypatch, name: str, text: str, value: Any) -> None:
    assert settings()[name] != value
    monkeypatch.setenv(f"CELERY_{name.upper()}", text)
    assert settings()[name] == value


def test_settings_follow_the_deployment(monkeypatch) -> None:
    monkeypatch.setenv("GRISTMILL_URL", "rediss://:pw@mill.example.org/3")
    monkeypatch.setenv("GRISTMILL_PREFIX", "east")
    found = settings()
    assert found["broker_url"].startswith("gristmills://:pw@mill.example.org/3?")
    assert found["result_backend"].startswith("contract.results:Backend+rediss://:pw@mill.")
    for options in ("broker_transport_options", "result_backend_transport_options"):
        assert found[options]["global_keyprefix"] == "east:"


def test_a_worker_does_not_start_on_an_address_that_is_none(monkeypatch) -> None:
    monkeypatch.setenv("GRISTMILL_URL", "mill.example.org:6379")
    with pytest.raises(InvalidRequest, match=r"^url: "):
        settings()


def test_nothing_that_runs_what_it_reads_is_accepted() -> None:
    assert set(settings()["accept_content"]) == {"json", "gristmill", "gristmill-batch"}
    assert set(settings()["result_accept_content"]) == {"json", "gristmill"}


def test_a_celeryconfig_of_the_working_directory_does_not_replace_ours(tmp_path: Path) -> None:
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'amqp://elsewhere'\n")
    script = "import workers; print(workers.app.conf.broker_url, workers.app.conf.task_acks_late)"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "GRISTMILL_URL": "redis://127.0.0.1:1/0"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.split() == ["gristmill://127.0.0.1:1/0", "True"], found.stderr
