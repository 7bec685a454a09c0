"""A deployment's address: all libraries read it alike, and no log shows its password."""

from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from contract.deployment import DEFAULT_URL, Deployment
from contract.errors import InvalidRequest
from contract.results import SCHEME
from contract.transport import Amqp, Transport

DEFAULTS = {"host": "localhost", "port": 6379, "db": 0, "username": None, "password": None}
TLS = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
PUNCTUATION = "p@/:;?#%&=+ []ß"
QUOTED = "p%40%2F%3A%3B%3F%23%25%26%3D%2B%20%5B%5D%C3%9F"

#: Addresses and what they say, by hand.
READ: dict[str, dict[str, Any]] = {
    "redis://": {},
    "redis://h": {"host": "h"},
    "redis://h:7": {"host": "h", "port": 7},
    "redis://h/": {"host": "h"},
    "redis://h:7/3": {"host": "h", "port": 7, "db": 3},
    "redis://h?db=3": {"host": "h", "db": 3},
    "redis:///3": {"db": 3},
    "redis://:pw@h": {"host": "h", "password": "pw"},
    "redis://user:pw@h:7/3": {
        "host": "h",
        "port": 7,
        "db": 3,
        "username": "user",
        "password": "pw",
    },
    f"redis://:{QUOTED}@h/3": {"host": "h", "db": 3, "password": PUNCTUATION},
    "redis://[::1]:7/3": {"host": "::1", "port": 7, "db": 3},
    "redis://:pw@[fe80::1]": {"host": "fe80::1", "password": "pw"},
    "rediss://:pw@h:7/3": {"host": "h", "port": 7, "db": 3, "password": "pw", **TLS},
    "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false": {
        "host": "h",
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    },
    "rediss://h/2?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_certfile=c&ssl_keyfile=k": {
        "host": "h",
        "db": 2,
        "ssl_ca_certs": "/etc/ca.pem",
        "ssl_certfile": "c",
        "ssl_keyfile": "k",
        **TLS,
    },
    "unix:///run/r.sock": {"path": "/run/r.sock"},
    "unix:///run/r.sock?db=4": {"path": "/run/r.sock", "db": 4},
    "unix:///run/a%20b;c.sock": {"path": "/run/a b;c.sock"},
    "unix://:pw@/run/r.sock?db=4": {"path": "/run/r.sock", "db": 4, "password": "pw"},
    f"unix://user:{QUOTED}@/run/r.sock": {
        "path": "/run/r.sock",
        "username": "user",
        "password": PUNCTUATION,
    },
    f"unix:///run/r.sock?username=user&password={QUOTED}": {
        "path": "/run/r.sock",
        "username": "user",
        "password": PUNCTUATION,
    },
}


def said(connection_class: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return where a redis-py connection of these options goes, and as whom."""
    connection = connection_class(**{k: v for k, v in options.items() if k != "max_connections"})
    names = [*DEFAULTS, "path"]
    if isinstance(connection, redis.SSLConnection):
        names += ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"]
    found = {name: getattr(connection, name.removeprefix("ssl_"), None) for name in names}
    if isinstance(connection, redis.SSLConnection):
        words = {0: "none", 1: "optional", 2: "required"}
        found["ssl_cert_reqs"] = words[int(connection.cert_reqs)]
        found["ssl_check_hostname"] = connection.check_hostname
        found |= {name: options.get(name) for name in names if name.startswith("ssl_")}
    found["host"] = "localhost" if found["host"] == "127.0.0.1" else found["host"]
    return {name: value for name, value in found.items() if value is not None}


def read_by_redis(deployment: Deployment) -> dict[str, Any]:
    with redis.Redis.from_url(deployment.url) as client:
        pool = client.connection_pool
        return said(pool.connection_class, pool.connection_kwargs)


def celery(deployment: Deployment) -> Celery:
    return Celery(
        amqp=Amqp,
        set_as_current=False,
        broker=deployment.broker_url,
        backend=f"{SCHEME}+{deployment.backend_url}",
    )


def read_by_kombu(deployment: Deployment) -> dict[str, Any]:
    transport = celery(deployment).connection_for_write().transport
    assert isinstance(transport, Transport)
    channel = transport.Channel.__new__(transport.Channel)  # its __init__ would connect
    channel.connection = transport
    channel.closed = True
    options = channel._connparams()
    return said(options.pop("connection_class"), options)


def read_by_celery(deployment: Deployment) -> dict[str, Any]:
    options = dict(celery(deployment).backend.connparams)
    return said(options.pop("connection_class", redis.Connection), options)


@pytest.mark.parametrize("read", [read_by_redis, read_by_kombu, read_by_celery])
@pytest.mark.parametrize("url", READ)
def test_every_library_reads_an_address_alike(url: str, read) -> None:
    expected = {**DEFAULTS, **READ[url]}
    if "path" in expected:
        del expected["host"], expected["port"]
    known = {name: value for name, value in expected.items() if value is not None}
    assert read(Deployment(url=url)) == known


REFUSED: dict[str, Any] = {
    "no scheme": "localhost:6379",
    "empty": "",
    "http": "http://h",
    "a broker of Celery's": "redis+socket:///run/r.sock",
    "amqp": "amqp://guest:pw@h",
    "database that is a word": "redis://h/queue",
    "negative database": "redis://h/-1",
    "two databases": "redis://h/1?db=1",
    "path below the database": "redis://h/1/2",
    "database in other digits": "redis://h/\u0663",
    "port that is a word": "redis://h:port",
    "port too large": "redis://h:65536",
    "open bracket": "redis://[::1",
    "space in front": " redis://:pw@h",
    "line break": "redis://:pw@h\n/0",
    "control character": "redis://:pw@h\x01",
    "password with a slash": "redis://:pw/pw@h",
    "password with a question mark": "redis://:pw?pw@h",
    "password with an option": "redis://:pw?db=pw@h",
    "password with a hash": "redis://:pw#pw@h",
    "password with a bracket": "redis://:p[w@h",
    "socket without a path": "unix://",
    "socket without a file": "unix:///",
    "socket with two slashes": "unix://run/r.sock",
    "socket with a host": "unix://h/run/r.sock",
    "unknown option": "redis://h?colour=blue",
    "option without a value": "redis://h?db",
    "TLS option without TLS": "redis://h?ssl_cert_reqs=none",
    "unknown TLS policy": "rediss://h?ssl_cert_reqs=CERT_NONE",
    "unknown TLS switch": "rediss://h?ssl_check_hostname=maybe",
    "no text": 5,
    "bytes": b"redis://h",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_address_that_libraries_would_read_differently_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^url: .*, expected ") as caught:
        Deployment(url=REFUSED[name])
    assert "pw" not in str(caught.value).partition(", expected")[0]
    assert caught.value.__cause__ is None


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@h:7/3", "redis://***@h:7/3"),
        (f"redis://user:{SECRET}@h", "redis://***@h"),
        (f"rediss://:{SECRET}@[::1]:7?ssl_keyfile={SECRET}", "rediss://***@[::1]:7"),
        (f"unix://:{SECRET}@/run/r.sock?db=1", "unix://***@/run/r.sock"),
        (f"unix:///run/r.sock?password={SECRET}", "unix:///run/r.sock"),
    ],
)
def test_no_text_about_a_deployment_shows_its_password(url: str, shown: str) -> None:
    deployment = Deployment(url=url)
    assert deployment.safe_url == shown
    assert SECRET not in f"{deployment!r} {deployment}"
    app = celery(deployment)
    assert SECRET not in f"{app.connection_for_write()!r} {app.backend.as_uri()}"


@given(st.text(min_size=1), st.sampled_from(["redis://:{}@h/1", "redis://{}", "unix://:{}@/r"]))
def test_a_badly_written_password_is_not_shown_either(noise: str, form: str) -> None:
    # The password stands between two letters that occur nowhere else.
    url = form.format(f"\u2603{noise}\u2603@h")
    try:
        shown = repr(Deployment(url=url)) + Deployment(url=url).safe_url
    except InvalidRequest as error:
        shown = str(error)
    assert "\u2603" not in shown


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", ""), ("a", "a:"), ("a:", "a:"), ("a_", "a_"), ("a-", "a-"), ("a.", "a."), ("ä/", "ä/:")],
)
def test_a_prefix_ends_where_the_key_begins(given: str, kept: str) -> None:
    deployment = Deployment(prefix=given)
    assert deployment.prefix == kept
    assert deployment.key("a", "b") == f"{kept}gristmill:a:b"
    assert deployment.cancel_key("7") == f"{kept}gristmill:cancel:7"
    assert deployment.replies_key("me") == f"{kept}gristmill:replies:me"
    assert deployment.waiting_key("7") == f"{kept}gristmill:waiting:7"
    assert deployment.inbox_key("w") == f"{kept}gristmill:inbox:w"
    assert deployment.leases_key == f"{kept}gristmill:leases"
    assert deployment.counts_key == f"{kept}gristmill:counts"
    assert deployment.dead_key == f"{kept}gristmill:dead"
    assert deployment.once_key("a.b", "k") == f"{kept}gristmill:once:a.b:k"
    assert deployment.transport_options == ({"global_keyprefix": kept} if kept else {})


def test_celery_keeps_the_prefix_as_it_is() -> None:
    for prefix in ("a", "a:", "a_", "a-", "a."):
        deployment = Deployment(prefix=prefix)
        app = celery(deployment)
        app.conf.result_backend_transport_options = deployment.transport_options
        key = app.backend.get_key_for_task("7").decode()
        assert key == f"{deployment.prefix}celery-task-meta-7"


def test_arguments_come_before_the_environment_and_that_before_defaults(monkeypatch) -> None:
    assert Deployment.from_environment() == Deployment(url=DEFAULT_URL, prefix="")
    monkeypatch.setenv("GRISTMILL_URL", "redis://env/1")
    monkeypatch.setenv("GRISTMILL_PREFIX", "env")
    assert Deployment.from_environment() == Deployment(url="redis://env/1", prefix="env:")
    given = Deployment.from_environment("redis://arg/2", "arg")
    assert given == Deployment(url="redis://arg/2", prefix="arg:")
    assert Deployment.from_environment(prefix="").prefix == ""
    monkeypatch.setenv("GRISTMILL_URL", "")
    assert Deployment.from_environment().url == DEFAULT_URL


def test_deployments_are_values() -> None:
    assert Deployment(prefix="a") == Deployment(prefix="a:")
    assert hash(Deployment(prefix="a")) == hash(Deployment(prefix="a:"))
    assert Deployment(prefix="a") != Deployment(prefix="b")
