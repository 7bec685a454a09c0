"""Where a deployment lives: its broker's address and the names of the keys it uses there."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

from contract.errors import InvalidRequest

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"

#: Environment variables that producers and workers read alike.
URL_VARIABLE: Final = "GRISTMILL_URL"
PREFIX_VARIABLE: Final = "GRISTMILL_PREFIX"

#: Options of an address, by scheme: those that redis-py, kombu and Celery's backend all read alike.
_OPTIONS: Final = {
    "redis": ("db",),
    "rediss": (
        "db",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    ),
    "unix": ("db", "username", "password"),
}
_VALUES: Final = {
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
}
_FORMS: Final = (
    "redis://[user:password@]host[:port][/db], rediss:// for TLS, or unix:///path[?db=0], "
    "with the special characters of a password percent-encoded"
)

#: How kombu knows our transport in front of each kind of address.
_BROKER_SCHEMES: Final = {"redis": "gristmill", "rediss": "gristmills", "unix": "gristmill+socket"}
_BACKEND_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "socket"}

_PREFIX_ENDINGS = ":_-."  # Celery's result backend adds "_" to a prefix without one of these


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One set of queues, results and keys on one Redis; a second prefix is a second deployment."""

    #: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS (with redis-py's options
    #: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and `ssl_check_hostname`), or
    #: `unix://[user:password@]/path[?db=0]`.
    url: str = field(default=DEFAULT_URL, repr=False)  # it may hold a password
    #: Text before every key of the deployment. Defaults to none.
    prefix: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that no client could use, or that two would read differently."""
        self._address  # noqa: B018  # parses, and so checks
        if self.prefix and self.prefix[-1] not in _PREFIX_ENDINGS:
            object.__setattr__(self, "prefix", f"{self.prefix}:")

    @classmethod
    def from_environment(cls, url: str | None = None, prefix: str | None = None) -> "Deployment":
        """Return the deployment that is given, else the environment's, else the default."""
        if url is None:
            url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
        if prefix is None:
            prefix = os.environ.get(PREFIX_VARIABLE, "")
        return cls(url=url, prefix=prefix)

    @property
    def safe_url(self) -> str:
        """The address without login and options, for logs and errors."""
        return _without_secrets(self.url)

    @property
    def broker_url(self) -> str:
        """The address of the queues, with our transport's scheme."""
        return self._address.spelled(_BROKER_SCHEMES)

    @property
    def backend_url(self) -> str:
        """The address in the spelling of Celery's result backends."""
        return self._address.spelled(_BACKEND_SCHEMES)

    @property
    def transport_options(self) -> dict[str, Any]:
        """Options that broker and result backend must share on both sides."""
        return {"global_keyprefix": self.prefix} if self.prefix else {}

    def key(self, *words: str) -> str:
        """Return the key of ours that `words` name: `<prefix>gristmill:cancel:<id>`."""
        return self.prefix + ":".join(("gristmill", *words))

    def cancel_key(self, job_id: str) -> str:
        """Return the key whose presence asks a job to stop."""
        return self.key("cancel", job_id)

    def replies_key(self, client: str) -> str:
        """Return the list on which workers tell `client` that jobs have ended."""
        return self.key("replies", client)

    def waiting_key(self, job_id: str) -> str:
        """Return the set of clients, beside the submitter, that wait for a job's end."""
        return self.key("waiting", job_id)

    def queue_key(self, queue: str) -> str:
        """Return the list that holds a queue's messages of the usual priority."""
        return f"{self.prefix}{queue}"

    def result_key(self, job_id: str) -> str:
        """Return the key of a job's state and result: Celery's own."""
        return f"{self.prefix}celery-task-meta-{job_id}"

    def inbox_key(self, worker: str) -> str:
        """Return the hash of what `worker` has taken and not acknowledged: tag to raw entry."""
        return self.key("inbox", worker)

    def sent_key(self, job_id: str) -> str:
        """Return the hash of the callbacks that a job has sent and whose end is not stored yet."""
        return self.key("sent", job_id)

    @property
    def leases_key(self) -> str:
        """The sorted set of workers by the end of their lease, in seconds of the broker's clock."""
        return self.key("leases")

    @property
    def counts_key(self) -> str:
        """The hash of what befell entries: `<sha1 of the entry>:lost` and `...:returned`."""
        return self.key("counts")

    @property
    def dead_key(self) -> str:
        """The stream of dead letters."""
        return self.key("dead")

    @property
    def events_key(self) -> str:
        """The hash that counts what is rare and matters."""
        return self.key("events")

    @property
    def breakers_key(self) -> str:
        """The sorted set of open circuit breakers, `<operation> <process>`, by their end."""
        return self.key("breakers")

    def once_key(self, operation: str, key: str) -> str:
        """Return the key that holds the id of the job that an app's idempotency key stands for."""
        return self.key("once", operation, key)

    @cached_property
    def _address(self) -> "_Address":
        return _parse(self.url)


@dataclass(frozen=True, kw_only=True)
class _Address:
    scheme: str
    username: str
    password: str
    #: Host and port as they stand in the address; empty for a socket.
    place: str
    #: Path of a socket; empty for a host.
    path: str
    database: int
    tls: dict[str, str]

    def spelled(self, schemes: dict[str, str]) -> str:
        """Return the address as kombu and Celery's backends read it, after a scheme of theirs."""
        login = quote(self.username, safe="")
        if self.password:
            login += f":{quote(self.password, safe='')}"
        start = f"{schemes[self.scheme]}://{login + '@' if login else ''}"
        if self.path:
            return f"{start}{quote(self.path)}?virtual_host={self.database}"
        # Celery's backend wants the first of these said, and kombu takes TLS from their presence.
        tls = {"ssl_cert_reqs": "required", **self.tls} if self.scheme == "rediss" else {}
        return f"{start}{self.place}/{self.database}{'?' + urlencode(tls) if tls else ''}"


def _parse(url: object) -> _Address:
    if not isinstance(url, str):
        raise InvalidRequest(f"url: {type(url).__name__}, expected {_FORMS}")
    if url.strip() != url or not url.isprintable():  # urlsplit drops some of it, redis-py does not
        raise _refusal(url)
    parts, options = _split(url)
    *_, place = parts.netloc.rpartition("@")
    is_socket = parts.scheme == "unix"
    path = unquote(parts.path) if is_socket else ""
    if is_socket and (place or path in ("", "/")):
        raise _refusal(url)
    return _Address(
        scheme=parts.scheme,
        username=unquote(parts.username or "") or options.get("username", ""),
        password=unquote(parts.password or "") or options.get("password", ""),
        place=place,
        path=path,
        database=_database(url, options.get("db"), "" if is_socket else parts.path.strip("/")),
        tls={name: value for name, value in options.items() if name.startswith("ssl_")},
    )


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for a port that is no number
        given = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:  # its text may quote a part of the password
        raise _refusal(url) from None
    options = {name: values[-1] for name, values in given.items()}
    if parts.scheme not in _OPTIONS or "@" in parts.path + parts.query or parts.fragment:
        raise _refusal(url)
    for name, value in options.items():
        legal = _OPTIONS[parts.scheme]
        if name not in legal:
            raise InvalidRequest(f"url: option {name!r}, expected one of {', '.join(legal)}")
        if value not in _VALUES.get(name, (value,)):
            expected = " or ".join(_VALUES[name])
            raise InvalidRequest(f"url: {name} {value!r}, expected {expected}")
    return parts, options


def _database(url: str, option: str | None, path: str) -> int:
    text = option or path or "0"
    if (option and path) or not (text.isascii() and text.isdigit()):
        raise _refusal(url)
    return int(text)


def _refusal(url: str) -> InvalidRequest:
    return InvalidRequest(f"url: {_without_secrets(url)!r}, expected {_FORMS}")


def _without_secrets(url: str) -> str:
    """Return an address without login and options, even where it is badly written."""
    scheme, mark, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if not mark or "?" in login:  # no knowing where the password ends
        return f"{scheme if mark else ''}{mark}***"
    return f"{scheme}://{'***@' if at else ''}{place.partition('?')[0].partition('#')[0]}"
