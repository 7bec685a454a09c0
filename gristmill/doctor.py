"""The doctor: looks at this machine and the deployment's server, and says what to do."""

import contextlib
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Literal

import redis

from contract.deployment import Deployment
from contract.errors import InvalidRequest
from gristmill import __version__
from gristmill.missing import AGAIN, how_to_install
from gristmill.server import is_embedded

State = Literal["pass", "warn", "fail"]

OLDEST_PYTHON: Final = (3, 11)

#: Oldest release of each package that will do, and why. pyproject.toml holds the same bounds.
OLDEST_RELEASES: Final[Mapping[str, tuple[tuple[int, ...], str]]] = {
    "celery": ((5, 7), "our worker is built on its 5.7 series"),
    "kombu": ((5, 7), "our transport is built on its 5.7 series"),
    "msgpack": ((1, 2, 3), "earlier ones leak on refused map keys (CVE-2026-114613)"),
    "redis": ((6, 4), "kombu 5.7 needs it"),
    "numpy": ((2, 0), "the kernels' fallback needs it"),
    "flower": ((2, 2), "earlier ones take control requests from other sites (CVE-2022-51020)"),
}

#: Packages that an app or a worker can do without.
OPTIONAL: Final = ("flower",)

#: What an app imports and what a worker does.
ENTRANCES: Final = ("producers", "workers")

#: Seconds that an import may take; on a cold disk some ten are common.
IMPORT_SECONDS: Final = 60.0

#: BLMPOP and LMPOP came with it.
OLDEST_SERVER: Final = (7, 0)

#: Seconds between two clocks that no log reader minds, and that tell of a clock nobody sets.
SKEW_TO_WARN, SKEW_TO_FAIL = 0.5, 30.0

#: Part of the server's memory limit above which a burst may fill it.
MEMORY_TO_WARN: Final = 0.8

#: Why a server of `gristmill up` or of the demo keeps nothing and has no limit.
BY_DESIGN: Final = "by design: this server is private to the command that runs it"


@dataclass(frozen=True)
class Check:
    """What the doctor found about one thing."""

    #: What was looked at.
    name: str
    #: "pass", "warn" (works, with a price) or "fail".
    state: State
    #: What was found, with its unit.
    found: str
    #: What to do about it; "" when it passed.
    advice: str = ""


def examine(url: str | None = None, prefix: str | None = None) -> Iterator[Check]:
    """Yield the checks one by one: this machine's, then those of the server at `url`.

    `url` and `prefix` default to those of the environment. A check that cannot be made fails; none
    raises.
    """
    yield check_python()
    yield from check_imports()
    yield from map(check_package, OLDEST_RELEASES)
    yield check_extension()
    yield check_self_test()
    try:
        deployment = Deployment.from_environment(url, prefix)
    except InvalidRequest as error:
        yield Check("server", "fail", str(error), "correct --url or GRISTMILL_URL")
        return
    yield from check_server(deployment)


def check_python() -> Check:
    """Check that Python is new enough."""
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("Python", "fail", found, "install Python 3.11 or later")
    return Check("Python", "pass", found)


def check_imports() -> Iterator[Check]:
    """Check that what an app imports and what a worker does can be imported.

    In processes of their own, which start as workers do: what this one has loaded hides faults.
    """
    for package in ENTRANCES:
        command = [sys.executable, "-c", f"import {package}"]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            found = f"does not import within {IMPORT_SECONDS:g} s"
            yield Check(package, "fail", found, "look what holds it up: python -X importtime")
            continue
        if ended.returncode == 0:
            yield Check(package, "pass", "imports")
            continue
        reason = (ended.stderr.strip() or f"exit status {ended.returncode}").splitlines()[-1]
        missing = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'", reason)
        advice = how_to_install(missing[1] if missing else package)
        yield Check(package, "fail", f"does not import: {reason}", advice)


def check_package(name: str) -> Check:
    """Check that a package is installed, in a release that will do."""
    oldest, reason = OLDEST_RELEASES[name]
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        if name in OPTIONAL:
            advice = f"{how_to_install(name)}, if this runs workers"
            return Check(name, "warn", "not installed", advice)
        return Check(name, "fail", "not installed", how_to_install(name))
    if release(found) < oldest:
        needed = ".".join(map(str, oldest))
        return Check(name, "fail", found, f"install {name} {needed} or later: {reason}")
    return Check(name, "pass", found)


def release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: (5, 7, 0) of "5.7.0rc1"."""
    numbers = []
    for word in version.split("."):
        digits = word[: len(word) - len(word.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != word:
            break
    return tuple(numbers)


def check_extension() -> Check:
    """Check that the compiled kernels load."""
    import native_c
    from native_c.errors import NativeError

    try:
        with native_c.use_backend("compiled"):
            found = native_c.info()
    except NativeError as error:
        advice = f"install a C compiler, then {AGAIN}; NumPy stands in until then, slower"
        return Check("compiled kernels", "warn", str(error), advice)
    what = f"{found['simd']}, up to {found['threads']} threads a call, {found['compiler']}"
    return Check("compiled kernels", "pass", what)


def check_self_test() -> Check:
    """Say which twins this environment picks, and check that they agree with NumPy."""
    from native_c.errors import NativeError

    try:
        made = kernels()
    except NativeError as error:
        return Check("backend in use", "fail", str(error), advice_on_backend(error))
    if made["backend"] == "compiled":
        return Check("backend in use", "pass", "compiled; its self-test agrees with NumPy")
    reason = made["fallback_reason"] or "asked for by NATIVE_C_BACKEND"
    return Check("backend in use", "warn", f"fallback: {reason}", "see `compiled kernels` above")


def advice_on_backend(error: Exception) -> str:
    """Return what to do where the backend that the environment asks for cannot be had."""
    if isinstance(error, ImportError):
        return f"install a C compiler, then {AGAIN}; or unset NATIVE_C_BACKEND"
    return f"unset or correct {str(error).partition(':')[0]}"


def check_server(deployment: Deployment) -> Iterator[Check]:
    """Yield the checks of the deployment's server; the first says whether it answers at all."""
    client = redis.Redis.from_url(deployment.url, socket_timeout=5.0, socket_connect_timeout=5.0)
    with contextlib.closing(client):
        before = time.perf_counter()
        try:
            client.ping()
            took = time.perf_counter() - before
            info: dict[str, Any] = client.info()
        except redis.RedisError as error:
            advice = "start one with `gristmill up`, or set GRISTMILL_URL to yours"
            yield Check("server", "fail", f"{deployment.safe_url}: {error}", advice)
            return
        yield check_release_of_server(info, deployment.safe_url, took)
        yield check_eviction(info)
        yield check_persistence(info)
        yield check_memory(info)
        yield check_clock(client)
        yield check_workers(client, deployment)


def check_release_of_server(info: Mapping[str, Any], address: str, took: float) -> Check:
    """Check that the server is new enough; `took` is a round trip in seconds."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    found = f"{name} {version} at {address}, answers in {took * 1e3:.1f} ms"
    if release(version) < OLDEST_SERVER:
        return Check("server", "fail", found, "install Redis 7 or Valkey 7.2, or later")
    return Check("server", "pass", found)


def check_eviction(info: Mapping[str, Any]) -> Check:
    """Check that a full server refuses new jobs instead of forgetting old ones."""
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return Check("eviction policy", "pass", policy)
    return Check("eviction policy", "fail", policy, "set maxmemory-policy noeviction")


def check_persistence(info: Mapping[str, Any]) -> Check:
    """Check that queued jobs survive a crash of the server."""
    if info.get("aof_enabled"):
        return Check("append-only file", "pass", "on")
    if is_embedded(info):
        return Check("append-only file", "pass", f"off, {BY_DESIGN}")
    return Check("append-only file", "warn", "off: a crash loses the queues", "set appendonly yes")


def check_memory(info: Mapping[str, Any]) -> Check:
    """Check that the server has memory left for a burst of jobs."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit and is_embedded(info):
        return Check("memory", "pass", f"{used / 2**20:.1f} MiB used, no limit, {BY_DESIGN}")
    if not limit:
        advice = "set maxmemory below the machine's memory, so that the server is never killed"
        return Check("memory", "warn", f"{used / 2**20:.1f} MiB used, no limit", advice)
    found = f"{used / 2**20:.1f} of {limit / 2**20:.1f} MiB used ({used / limit:.0%})"
    if used > MEMORY_TO_WARN * limit:
        return Check("memory", "warn", found, "raise maxmemory, or add workers")
    return Check("memory", "pass", found)


def check_clock(client: redis.Redis, now: Callable[[], float] = time.time) -> Check:
    """Check that this machine's clock agrees with the server's, to half a round trip."""
    before = now()
    seconds, microseconds = client.time()
    after = now()
    skew = (before + after) / 2 - (seconds + microseconds * 1e-6)
    found = f"{skew * 1e3:+.1f} ms against the server, ±{(after - before) / 2 * 1e3:.1f} ms"
    if abs(skew) <= SKEW_TO_WARN:
        return Check("clock", "pass", found)
    state: State = "fail" if abs(skew) > SKEW_TO_FAIL else "warn"
    return Check("clock", state, found, "run an NTP client on both machines")


def check_workers(client: redis.Redis, deployment: Deployment) -> Check:
    """Check that a worker of this deployment is alive; jobs wait without a word where none is."""
    try:
        seconds, _ = client.time()
        alive = client.zcount(deployment.leases_key, seconds, "+inf")
    except redis.RedisError as error:
        return Check("workers alive", "warn", f"not known: {error}", "look at the server")
    if alive:
        return Check("workers alive", "pass", str(alive))
    where = f"prefix {deployment.prefix}" if deployment.prefix else "no prefix"
    advice = "start one with `celery -A workers worker`; until then every job waits"
    return Check("workers alive", "warn", f"none at this server with {where}", advice)


def kernels() -> dict[str, Any]:
    """Return what the kernels run on, `native_c.info()`, without its warning about a fallback."""
    import native_c

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return native_c.info()


def versions() -> dict[str, str]:
    """Return what runs here: Python, the platform, the cores and the release of each package."""
    found = {"gristmill": __version__, "python": platform.python_version()}
    found |= {"platform": platform.platform(), "cores": str(os.cpu_count())}
    for name in (*OLDEST_RELEASES, "pydantic", "cffi"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
