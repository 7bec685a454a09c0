"""Where the arrays of a request travel: the seam that a payload store fills."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from contract import codec
from contract.errors import InvalidRequest, MessageError

#: Most bytes that the arrays of one message hold together; the rest of it needs little.
MAX_BYTES: Final = codec.INLINE.max_bytes - 2**20


class Payloads(Protocol):
    """Moves arrays between a request's fields and a place outside the message."""

    def pack(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the fields that stay in the message, and references to those that do not.

        Raises `InvalidRequest` for more than fits.
        """

    def unpack(self, fields: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
        """Return all fields again; raise `MessageError` when a reference leads nowhere."""


class InlinePayloads:
    """Leaves every array in the message."""

    def pack(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return all fields and no references; `InvalidRequest` for more than a message holds."""
        arrays = [value for value in fields.values() if isinstance(value, np.ndarray)]
        num_bytes = sum(array.nbytes for array in arrays)
        if num_bytes > MAX_BYTES:
            raise InvalidRequest(f"request: {num_bytes} bytes, expected at most {MAX_BYTES}")
        return dict(fields), {}

    def unpack(self, fields: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields; a reference means that the sender has a store and we have none."""
        if references:
            names = ", ".join(sorted(references))
            raise MessageError(
                f"references: {names} outside the message, expected arrays inside it"
            )
        return dict(fields)
