"""The envelope: what travels beside a request, and headers that are none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.envelope import DELIVERY, HEADER, VERSION, Delivery, Envelope
from contract.errors import DeadlineExceeded, MessageError

EMPTY: dict[str, Any] = {"version": 1, "submitted_at": None, "deadline": None, "references": {}}


def test_the_header_has_its_name_and_version() -> None:
    assert (HEADER, VERSION) == ("gristmill", 1)
    assert Envelope().to_header() == EMPTY


@given(
    st.none() | st.floats(-1e12, 1e12),
    st.none() | st.floats(-1e12, 1e12),
    st.dictionaries(st.text(), st.text()),
)
def test_an_envelope_survives_the_json_of_a_message(submitted, deadline, references) -> None:
    envelope = Envelope(submitted_at=submitted, deadline=deadline, references=references)
    header = json.loads(json.dumps(envelope.to_header(), allow_nan=False))
    assert Envelope.from_header(header) == envelope


@pytest.mark.parametrize(
    "header",
    [
        {"version": 1},
        {"version": 1, "colour": "blue"},
        {"version": 1, "submitted_at": None, "deadline": None, "references": None},
    ],
)
def test_what_is_missing_or_unknown_does_no_harm(header: dict[str, Any]) -> None:
    assert Envelope.from_header(header) == Envelope()


@pytest.mark.parametrize("seconds", [0, 1, 1.5, 1_790_000_000, -1.0, 0.0])
def test_times_are_numbers_of_either_kind(seconds: float) -> None:
    found = Envelope.from_header({"version": 1, "deadline": seconds, "submitted_at": seconds})
    assert found.deadline == found.submitted_at == float(seconds)
    assert isinstance(found.deadline, float)


MALFORMED: list[tuple[object, str]] = [
    (None, "gristmill header: NoneType, expected a map"),
    ("text", "gristmill header: str, expected a map"),
    (b"bytes", "gristmill header: bytes, expected a map"),
    ([], "gristmill header: list, expected a map"),
    (7, "gristmill header: int, expected a map"),
    (True, "gristmill header: bool, expected a map"),
    ({}, "version: None, expected 1 to 1"),
    ({"version": None}, "version: None, expected 1 to 1"),
    ({"version": 0}, "version: 0, expected 1 to 1"),
    ({"version": -1}, "version: -1, expected 1 to 1"),
    ({"version": 2}, "version: 2, expected 1 to 1"),
    ({"version": 10**30}, "version: 1000000000000000000000000000000, expected 1 to 1"),
    ({"version": 10**5000}, "version: int of 16610 bits, expected 1 to 1"),
    ({"version": 1.0}, "version: 1.0, expected 1 to 1"),
    ({"version": "1"}, "version: '1', expected 1 to 1"),
    ({"version": True}, "version: True, expected 1 to 1"),
    ({"version": [1]}, "version: [1], expected 1 to 1"),
    ({"version": "x" * 10_000}, "version: 'xxxxxxxxxxxx...xxxxxxxxxxxxx', expected 1 to 1"),
]
for name in ("submitted_at", "deadline"):
    MALFORMED += [
        ({"version": 1, name: value}, f"{name}: {words}, expected seconds since 1970")
        for value, words in [
            ("soon", "'soon'"),
            ("5", "'5'"),
            (True, "True"),
            ([], "[]"),
            ({}, "{}"),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (float("-inf"), "-inf"),
            (1e300, "1e+300"),
            (10**400, "100000000000000000...0000000000000000000"),
            (10**5000, "int of 16610 bits"),
        ]
    ]
REFERENCES: list[Any] = [0, "", "x", [], ["x"], 7, False, {"visits": 1}, {"visits": None}, {7: "x"}]
MALFORMED += [
    ({"version": 1, "references": value}, "references: ")
    for value in (*REFERENCES, {"visits": ["x"]}, {"visits": {}})
]


@pytest.mark.parametrize(("header", "words"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_header_is_a_message_error(header: object, words: str) -> None:
    with pytest.raises(MessageError) as caught:
        Envelope.from_header(header)
    assert str(caught.value).startswith(words)
    assert ", expected " in str(caught.value)
    assert len(str(caught.value)) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(
    json_values
    | st.fixed_dictionaries(
        {"version": st.just(1)},
        optional={
            "submitted_at": json_values,
            "deadline": json_values,
            "references": json_values,
        },
    )
)
def test_any_json_is_an_envelope_or_a_message_error(header: object) -> None:
    try:
        envelope = Envelope.from_header(header)
    except MessageError:
        return
    assert Envelope.from_header(json.loads(json.dumps(envelope.to_header()))) == envelope


@pytest.mark.parametrize(
    ("deadline_seconds", "deadline"),
    [(None, None), (0, 1000.0), (2.5, 1002.5), (float("inf"), None), (1e300, None)],
)
def test_a_submitted_job_is_dated(deadline_seconds: float | None, deadline: float | None) -> None:
    envelope = Envelope.submitted(1000.0, deadline_seconds, {"visits": "x"})
    assert (envelope.submitted_at, envelope.deadline) == (1000.0, deadline)
    assert envelope.references == {"visits": "x"}
    assert Envelope.from_header(envelope.to_header()) == envelope


def test_a_deadline_is_the_last_moment_that_counts() -> None:
    Envelope(deadline=None).check_deadline(1e12)
    Envelope(deadline=100.0).check_deadline(99.9)
    Envelope(deadline=100.0).check_deadline(100.0)
    with pytest.raises(DeadlineExceeded) as caught:
        Envelope(deadline=100.0).check_deadline(100.25)
    assert str(caught.value) == "deadline: passed 0.250 s ago, expected a result before it"


@given(st.text(), st.text(), st.integers(0), st.integers(0))
def test_a_delivery_survives_the_header_of_a_message(inbox, tag, lost, returned) -> None:
    delivery = Delivery(inbox=inbox, tag=tag, lost=lost, returned=returned)
    assert DELIVERY == "gristmill-delivery"
    assert Delivery.from_header(json.loads(json.dumps(delivery.to_header()))) == delivery


GOOD_DELIVERY = Delivery(inbox="i", tag="t").to_header()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "text",
        [],
        {},
        {**GOOD_DELIVERY, "inbox": 7},
        {**GOOD_DELIVERY, "tag": None},
        {**GOOD_DELIVERY, "lost": "1"},
        {**GOOD_DELIVERY, "returned": 0.5},
        {"inbox": "i", "tag": "t"},
    ],
)
def test_what_our_transport_did_not_write_is_no_delivery(header: object) -> None:
    assert Delivery.from_header(header) is None
