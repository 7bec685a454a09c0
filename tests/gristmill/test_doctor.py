"""The doctor: every check in each of its states, and the real server once."""

import re
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import redis

import native_c
from contract.deployment import Deployment
from gristmill import doctor
from gristmill.doctor import Check
from gristmill.missing import AGAIN
from gristmill.server import EmbeddedServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(append_only=True, settings={"maxmemory": "100mb"}) as embedded:
        yield embedded


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_sound_server_passes_every_check(server: EmbeddedServer) -> None:
    found = by_name(doctor.check_server(Deployment(url=server.url)))
    assert {name: check.state for name, check in found.items()} == dict.fromkeys(
        ("server", "eviction policy", "append-only file", "memory", "clock"), "pass"
    ) | {"workers alive": "warn"}
    assert server.password not in found["server"].found
    assert found["server"].found.startswith(f"{server.binary.name} ")


def test_the_unix_socket_is_examined_like_the_port(server: EmbeddedServer) -> None:
    found = by_name(doctor.check_server(Deployment(url=server.socket_url)))
    assert found["server"].state == "pass"


def test_a_server_that_loses_jobs_is_told_so() -> None:
    careless = {"maxmemory": "10mb", "maxmemory-policy": "allkeys-lru"}
    with EmbeddedServer(settings=careless) as server:
        found = by_name(doctor.check_server(Deployment(url=server.url)))
    assert found["eviction policy"] == Check(
        "eviction policy", "fail", "allkeys-lru", "set maxmemory-policy noeviction"
    )
    assert found["append-only file"].state == "pass"
    assert "by design" in found["append-only file"].found


@pytest.mark.parametrize(
    ("configuration", "state"),
    [("/tmp/gristmill-x/gristmill-server.conf", "pass"), ("/etc/redis/redis.conf", "warn")],
)
def test_a_server_without_a_file_and_a_limit_is_sound_where_it_is_private(
    configuration: str, state: str
) -> None:
    info = {"config_file": configuration, "aof_enabled": 0, "used_memory": 2**20, "maxmemory": 0}
    assert doctor.check_persistence(info).state == state
    assert doctor.check_memory(info).state == state


def test_what_apps_and_workers_import_is_imported() -> None:
    assert [(check.name, check.state) for check in doctor.check_imports()] == [
        ("producers", "pass"),
        ("workers", "pass"),
    ]


def test_an_import_that_fails_is_told_with_what_brings_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kombu.py").write_text("import packaging_of_old")
    (tmp_path / "producers").mkdir()
    (tmp_path / "producers" / "__init__.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)  # before all else on the path of what starts here
    apps, workers = doctor.check_imports()
    assert apps.state == workers.state == "fail"
    assert "ZeroDivisionError" in apps.found
    assert "No module named 'packaging_of_old'" in workers.found
    assert workers.advice == "pip install packaging_of_old"


def test_a_server_that_does_not_answer_fails_without_its_password() -> None:
    url = "redis://:secret@127.0.0.1:1/0"
    (check,) = doctor.check_server(Deployment(url=url))
    assert check.state == "fail"
    assert "127.0.0.1:1" in check.found
    assert "secret" not in check.found
    assert "gristmill up" in check.advice


@pytest.mark.parametrize(
    ("info", "state", "found"),
    [
        ({"redis_version": "6.2.14"}, "fail", "Redis 6.2.14 at here, answers in 1.5 ms"),
        ({"redis_version": "7.0.15"}, "pass", "Redis 7.0.15 at here, answers in 1.5 ms"),
        (
            {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
            "pass",
            "Valkey 9.1.2 at here, answers in 1.5 ms",
        ),
    ],
)
def test_the_release_of_the_server(info: dict[str, Any], state: str, found: str) -> None:
    check = doctor.check_release_of_server(info, "here", 0.0015)
    assert (check.state, check.found) == (state, found)


@pytest.mark.parametrize(
    ("used", "limit", "state", "found"),
    [
        (50, 100, "pass", "50.0 of 100.0 MiB used (50%)"),
        (81, 100, "warn", "81.0 of 100.0 MiB used (81%)"),
        (81, 0, "warn", "81.0 MiB used, no limit"),
    ],
)
def test_the_memory_of_the_server(used: int, limit: int, state: str, found: str) -> None:
    check = doctor.check_memory({"used_memory": used * 2**20, "maxmemory": limit * 2**20})
    assert (check.state, check.found) == (state, found)


@pytest.mark.parametrize(
    ("offset", "state"), [(0.0, "pass"), (-0.4, "pass"), (2.0, "warn"), (-3600.0, "fail")]
)
def test_a_clock_that_is_off_is_told_by_how_much(
    server: EmbeddedServer, offset: float, state: str
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.ping()  # so that the measured round trip opens no connection
        check = doctor.check_clock(client, now=lambda: time.time() + offset)
    assert check.state == state
    told = re.fullmatch(r"([+-][\d.]+) ms against the server, ±([\d.]+) ms", check.found)
    assert told is not None
    assert float(told[1]) == pytest.approx(offset * 1e3, abs=100.0)


def test_workers_count_while_their_leases_last(server: EmbeddedServer) -> None:
    deployment = Deployment(url=server.url, prefix="shop")
    with redis.Redis.from_url(server.url) as client:
        none = doctor.check_workers(client, deployment)
        now = time.time()
        client.zadd(deployment.leases_key, {"here": now + 3600, "gone": now - 3600})
        one = doctor.check_workers(client, deployment)
    assert none.state == "warn"
    assert none.found == "none at this server with prefix shop:"
    assert "celery -A workers worker" in none.advice
    assert one == Check("workers alive", "pass", "1")


def test_what_the_doctor_may_not_read_is_told(server: EmbeddedServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set(Deployment(url=server.url, prefix="odd").leases_key, "no set")
        check = doctor.check_workers(client, Deployment(url=server.url, prefix="odd"))
    assert check.state == "warn"
    assert check.found.startswith("not known: ")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("5.7.0", (5, 7, 0)), ("5.7.0rc1", (5, 7, 0)), ("9.1.post2", (9, 1)), ("7.2-rc1", (7, 2))],
)
def test_the_numbers_of_a_release(version: str, numbers: tuple[int, ...]) -> None:
    assert doctor.release(version) == numbers


def test_the_installed_packages_pass() -> None:
    checks = [doctor.check_package(name) for name in doctor.OLDEST_RELEASES]
    assert {check.state for check in checks} <= {"pass"}


def test_an_old_package_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.2")
    check = doctor.check_package("msgpack")
    assert (check.state, check.found) == ("fail", "1.2.2")
    assert "1.2.3 or later" in check.advice
    assert "CVE-2026-114613" in check.advice


def test_a_missing_package_fails_and_a_missing_flower_warns() -> None:
    missing = mock.patch.object(metadata, "version", side_effect=metadata.PackageNotFoundError)
    with missing:
        assert doctor.check_package("celery").state == "fail"
        assert doctor.check_package("flower").state == "warn"


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().state == "pass"
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert doctor.check_python().state == "fail"


def test_the_bounds_are_those_of_the_packaging() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    written = {
        match[1]: doctor.release(match[2])
        for requirement in [*project["dependencies"], *extras["worker"]]
        if (match := re.match(r"([a-z-]+)>=([\d.]+)", requirement))
    }
    for name, (oldest, _) in doctor.OLDEST_RELEASES.items():
        assert written[name] == oldest, name


def test_missing_kernels_warn_and_say_that_numpy_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> None:
        raise native_c.errors.ExtensionMissing("the extension does not load: no such file")

    monkeypatch.setattr(native_c, "use_backend", refuse)
    check = doctor.check_extension()
    assert (check.state, check.found) == ("warn", "the extension does not load: no such file")
    assert "NumPy" in check.advice


def test_loaded_kernels_say_what_they_run_on() -> None:
    check = doctor.check_extension()
    if check.state == "pass":
        assert re.fullmatch(r"\w+, up to \d+ threads a call, .+", check.found)
    else:
        assert "the extension" in check.found


@pytest.mark.parametrize(
    ("made", "state", "found"),
    [
        (
            {"backend": "compiled", "fallback_reason": ""},
            "pass",
            "compiled; its self-test agrees with NumPy",
        ),
        (
            {"backend": "fallback", "fallback_reason": ""},
            "warn",
            "fallback: asked for by NATIVE_C_BACKEND",
        ),
        (
            {"backend": "fallback", "fallback_reason": "the self-test disagrees"},
            "warn",
            "fallback: the self-test disagrees",
        ),
    ],
)
def test_the_backend_in_use(
    monkeypatch: pytest.MonkeyPatch, made: dict[str, str], state: str, found: str
) -> None:
    monkeypatch.setattr(native_c, "info", lambda: made)
    check = doctor.check_self_test()
    assert (check.state, check.found) == (state, found)


def test_an_unknown_backend_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise native_c.errors.UnknownBackend("NATIVE_C_BACKEND: 'gpu', expected one of auto, ...")

    monkeypatch.setattr(native_c, "info", refuse)
    check = doctor.check_self_test()
    assert check.state == "fail"
    assert "gpu" in check.found


def test_everything_is_examined_and_nothing_raises(server: EmbeddedServer) -> None:
    names = [check.name for check in doctor.examine(server.url)]
    assert names[0] == "Python"
    assert names[-1] == "workers alive"
    assert len(names) == len(set(names))


def test_an_address_that_is_none_fails_in_words() -> None:
    *_, last = doctor.examine("nonsense")
    assert (last.name, last.state) == ("server", "fail")
    assert "expected redis://" in last.found


def test_the_versions_name_this_interpreter() -> None:
    found = doctor.versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["celery"] == metadata.version("celery")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            native_c.errors.Unsupported("NATIVE_C_SIMD: 'x', expected one of y"),
            "unset or correct NATIVE_C_SIMD",
        ),
        (
            native_c.errors.ExtensionMissing("the extension was not built"),
            f"install a C compiler, then {AGAIN}; or unset NATIVE_C_BACKEND",
        ),
    ],
)
def test_a_backend_that_cannot_be_had_fails_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: native_c.errors.NativeError, advice: str
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(native_c, "info", refuse)
    check = doctor.check_self_test()
    assert check == Check("backend in use", "fail", str(error), advice)
