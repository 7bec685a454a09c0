"""Arrays inside the message, behind the interface of a store."""

import numpy as np
import pytest

from contract import codec, payloads
from contract.errors import InvalidRequest, MessageError
from contract.payloads import InlinePayloads, Payloads

INLINE: Payloads = InlinePayloads()


def test_everything_stays_in_the_message() -> None:
    fields = {"values": np.arange(3), "name": "a", "none": None}
    packed, references = INLINE.pack(fields)
    assert packed == fields
    assert packed is not fields
    assert references == {}
    assert INLINE.unpack(packed, references) == fields


def test_a_reference_without_a_store_leads_nowhere() -> None:
    with pytest.raises(MessageError, match=r"^references: a, b outside the message, expected arr"):
        INLINE.unpack({}, {"b": "1", "a": "2"})


def test_more_bytes_than_a_message_holds_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(payloads, "MAX_BYTES", 16)
    INLINE.pack({"a": np.zeros(1), "b": np.zeros(1), "c": "x" * 100})
    with pytest.raises(InvalidRequest, match=r"^request: 24 bytes, expected at most 16$"):
        INLINE.pack({"a": np.zeros(1), "b": np.zeros(2)})


def test_the_largest_arrays_leave_room_for_the_rest_of_the_message() -> None:
    assert codec.INLINE.max_bytes > payloads.MAX_BYTES
