"""The image and the services of a deployment, run on this host as a container engine would."""

import base64
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from gristmill.server import free_port
from producers import Client, mcts
from tests.deploy.image import NOBODY, Image, context
from tests.deploy.service import COMPOSE, Service

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

PASSWORD = "5ec2e7"
SMALL: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Build the image where every user may read it, and nobody but us write."""
    base = Path(tempfile.mkdtemp(prefix="gristmill-image-"))
    base.chmod(0o755)
    try:
        image = Image(base)
        image.build()
        for name in ("redis_password", "flower_password"):
            (image.root / "run/secrets" / name).write_text(PASSWORD)
        (image.root / "data").mkdir()
        if os.getuid() == 0:
            for place in ("data", "tmp"):  # a volume and a tmpfs: the container's user may write
                os.chown(image.root / place, NOBODY, NOBODY)
        (image.root / image.directory.lstrip("/")).chmod(0o555)
        yield image
    finally:
        shutil.rmtree(base)


@pytest.fixture(scope="session")
def services(image: Image, tmp_path_factory) -> Iterator[dict[str, Service]]:
    """Start every service in the order of the file, each once those before it are healthy."""
    redis_port, flower_port = free_port(), free_port()
    words = {
        "redis-server -": f"redis-server --port {redis_port} -",
        "redis-cli": f"redis-cli -p {redis_port}",
        "5555": str(flower_port),
    }
    logs = tmp_path_factory.mktemp("services")
    started: dict[str, Service] = {}
    with ExitStack() as stack:
        for name in COMPOSE["services"]:
            service = Service(image, name, words, logs / name)
            place = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis_port)}
            service.environment |= {"TMPDIR": str(image.root / "tmp"), **place}
            if name == "redis":  # an image of its own, of which the host has the programs
                service.environment["PATH"] += f":{Path(shutil.which('redis-server') or '').parent}"
            assert service.health() != 0, f"{name} is healthy before it runs"
            started[name] = stack.enter_context(service)
            service.wait_until_healthy()
        yield started


def url(services: dict[str, Service]) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{services['redis'].environment['REDIS_PORT']}/0"


def status(services: dict[str, Service], path: str, login: str = "") -> int:
    port = services["flower"].text("5555")
    openers = [urllib.request.ProxyHandler({})]
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.build_opener(*openers).open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_build_sees_what_it_needs_and_nothing_else() -> None:
    seen = {str(path) for path in context()}
    assert {
        "setup.py",
        "native_c/src/pool.c",
        "celeryconfig.py",
        "requirements/worker.lock",
    } <= seen
    for word in (".git", ".venv", "tests/", "secrets", ".so", "__pycache__", "docs/", "build/"):
        assert not [path for path in seen if word in path], word


def test_the_image_has_the_kernels_and_no_compiler(image: Image) -> None:
    path = image.variables()["PATH"]
    assert shutil.which("celery", path=path) == str(image.root / "opt/gristmill/bin/celery")
    assert [name for name in ("cc", "gcc", "c99", "clang") if shutil.which(name, path=path)] == []
    assert list(image.root.glob("opt/gristmill/lib/python3*/site-packages/native_c/_kernels*.so"))
    assert not (image.root / "source").exists()
    uid, _, _gid = image.user.partition(":")
    assert int(uid) > 0


def test_the_services_are_healthy_and_answer_a_job(services: dict[str, Service]) -> None:
    with Client(url(services), timeout=60):
        result = mcts.ucb1_selection(**SMALL)
    assert result.chosen.tolist() == [0]
    assert result.backend == "compiled"


def test_redis_keeps_jobs_and_refuses_strangers(services: dict[str, Service], image: Image) -> None:
    with redis.Redis.from_url(url(services), decode_responses=True) as client:
        asked = ("appendonly", "maxmemory-policy", "maxmemory", "dir")
        found = {name: client.config_get(name)[name] for name in asked}
    assert found == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(2**30),
        "dir": str(image.root / "data"),
    }
    stranger = redis.Redis.from_url(url(services).replace(PASSWORD, "wrong"))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    said = " ".join(Path(f"/proc/{services['redis'].process.pid}/cmdline").read_text().split("\0"))
    assert PASSWORD not in said


def test_flower_asks_for_the_login_of_its_secret(services: dict[str, Service]) -> None:
    assert status(services, "/tasks") == 401
    assert status(services, "/tasks", "gristmill:wrong") == 401
    assert status(services, "/tasks", f"gristmill:{PASSWORD}") == 200


def test_no_service_runs_as_root_or_may_write_where_it_runs(services, image: Image) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    for service in services.values():
        told = Path(f"/proc/{service.process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in told
        assert "CapEff:\t0000000000000000" in told
        assert "NoNewPrivs:\t1" in told
    written = [path for path in image.root.rglob("*") if path.lstat().st_uid == NOBODY]
    assert {path.relative_to(image.root).parts[0] for path in written} <= {"data", "tmp"}


def test_each_service_stops_within_its_grace(services: dict[str, Service]) -> None:
    assert services["flower"].stop() == 0
    assert services["worker"].stop() == 0
    assert services["redis"].stop() == 0
    assert all(service.health() != 0 for service in services.values())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_hardened_and_watched(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
    assert service["stop_grace_period"]
    assert service["restart"] == "unless-stopped"
    assert "user" in service or "build" in service
