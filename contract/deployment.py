"""Where a deployment lives: its broker's address and the names of the keys it uses there."""

import os
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from contract.errors import InvalidRequest

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"

#: Environment variables that producers and workers read alike.
URL_VARIABLE: Final = "GRISTMILL_URL"
PREFIX_VARIABLE: Final = "GRISTMILL_PREFIX"

_SCHEMES = ("redis", "rediss", "unix")

#: A backend's scheme, and our transport's for the same place.
_BROKER_SCHEMES = {"redis": "gristmill", "rediss": "gristmills", "socket": "gristmill+socket"}
_PREFIX_ENDINGS = ":_-."  # Celery's result backend adds "_" to a prefix without one of these


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One set of queues, results and keys on one Redis; a second prefix is a second deployment."""

    #: `redis://[:password@]host[:port][/db]`, `rediss://` for TLS, or `unix:///path[?db=0]`.
    url: str = DEFAULT_URL
    #: Text before every key of the deployment. Defaults to none.
    prefix: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that no client could use."""
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES:
            raise InvalidRequest(f"url: {self.safe_url!r}, expected redis://, rediss:// or unix://")
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
        """The address without its password, for logs and errors."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(
            netloc=f"***@{host}" if "@" in parts.netloc else host, query=""
        ).geturl()

    @property
    def broker_url(self) -> str:
        """The address of the queues, with our transport's scheme."""
        scheme, _, place = self.backend_url.partition("://")
        return f"{_BROKER_SCHEMES[scheme]}://{place}"

    @property
    def backend_url(self) -> str:
        """The address in the spelling of Celery's result backends."""
        parts = urlsplit(self.url)
        if parts.scheme != "unix":
            return self.url
        query = parse_qs(parts.query)
        database = query.get("db", ["0"])[0]
        password = query.get("password", [parts.password or ""])[0]
        login = f":{quote(password, safe='')}@" if password else ""
        return f"socket://{login}{parts.path}?virtual_host={database}"

    @property
    def tls_settings(self) -> dict[str, Any]:
        """Celery's settings for TLS, which it does not take from a URL; the peer is verified."""
        if not self.url.startswith("rediss:"):
            return {}
        verified = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        return {"broker_use_ssl": verified, "redis_backend_use_ssl": verified}

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

    def wake_key(self, job_id: str) -> str:
        """Return the list that gets an element when a job has ended."""
        return self.key("wake", job_id)
