"""Idempotency keys: an app's own name for a job, under which the job is submitted once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Self

from contract import codec
from contract.arrays import describe
from contract.errors import InvalidRequest

#: How long a key stands for its job after the job's end, unless told otherwise, in seconds.
DEFAULT_SECONDS: Final = 3600.0

#: The longest that it may stand, and that it stands for a job that does not end, in seconds: a
#: queue that somebody purges must not leave keys behind for ever.
MAX_SECONDS: Final = 30 * 24 * 3600.0

#: Longest key, in bytes of UTF-8.
MAX_BYTES: Final = 256


@dataclass(frozen=True, kw_only=True)
class Once:
    """A request that is submitted once under its key."""

    key: str
    #: How long the key stands for the job after the job's end, in seconds.
    seconds: float
    #: What tells this request from another one of the same operation.
    digest: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], key: object, seconds: object) -> Self:
        """Name the request with these fields; `InvalidRequest` for no key or no seconds."""
        if not (isinstance(key, str) and key and len(_bytes(key)) <= MAX_BYTES):
            expected = f"text of 1 to {MAX_BYTES} bytes"
            raise InvalidRequest(f"idempotency_key: {describe(key)}, expected {expected}")
        if not (isinstance(seconds, Real) and 0 <= float(seconds) <= MAX_SECONDS):
            expected = f"seconds, 0 to {MAX_SECONDS:.0f}"
            raise InvalidRequest(f"idempotency_seconds: {describe(seconds)}, expected {expected}")
        digest = hashlib.blake2b(codec.encode(dict(fields)), digest_size=16).hexdigest()
        return cls(key=key, seconds=float(seconds), digest=digest)

    def to_value(self, job_id: str) -> str:
        """Return what is stored under the key: the job's id first, then the request's digest."""
        return f"{job_id} {self.digest}"

    def job_of(self, value: str) -> str:
        """Return the id of the job that the key stands for.

        Raises `InvalidRequest` where it was given to another request.
        """
        job_id, _, digest = value.rpartition(" ")
        if digest != self.digest:
            was = f"{describe(self.key)} stands for job {job_id} with another request"
            raise InvalidRequest(f"idempotency_key: {was}, expected the same request")
        return job_id


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no key holds
        return bytes(MAX_BYTES + 1)
