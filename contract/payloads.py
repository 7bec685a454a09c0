"""Where the arrays of a request travel: the seam that a payload store fills."""

from collections.abc import Mapping
from typing import Any, Protocol

from contract.errors import MessageError


class Payloads(Protocol):
    """Moves arrays between a request's fields and a place outside the message."""

    def pack(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the fields that stay in the message, and references to those that do not."""

    def unpack(self, fields: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
        """Return all fields again; raise `MessageError` when a reference leads nowhere."""


class InlinePayloads:
    """Leaves every array in the message."""

    def pack(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return all fields and no references."""
        return dict(fields), {}

    def unpack(self, fields: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
        """Return the fields; a reference means that the sender has a store and we have none."""
        if references:
            names = ", ".join(sorted(references))
            raise MessageError(
                f"references: {names} outside the message, expected arrays inside it"
            )
        return dict(fields)
