"""Batches: how items are divided among messages, named, and read again."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import batches, codec
from contract.envelope import Envelope
from contract.errors import DeadlineExceeded, InvalidRequest, MessageError
from contract.mcts import Ucb1SelectionRequest, ucb1_selection
from gristmill.testing import in_process

ARGUMENTS: dict[str, Any] = {
    "visits": [[3, 1]],
    "value_sums": [[1.5, 0.25]],
    "parent_visits": [4],
}


@given(st.lists(st.integers(0, 3 * 2**20 // 8), max_size=30), st.integers(0, 1200))
def test_parts_hold_every_item_once_in_order_and_keep_their_limits(
    sizes: list[int], num_small: int
) -> None:
    items: list[dict[str, Any]] = [{"values": np.empty(size)} for size in sizes]
    items += [{"values": np.empty(1)}] * num_small
    parts = list(batches.parts(items))
    assert [id(item) for part in parts for item in part] == [id(item) for item in items]
    for part in parts:
        num_bytes = sum(item["values"].nbytes for item in part)
        assert 1 <= len(part) <= batches.MAX_ITEMS
        assert num_bytes <= batches.MAX_BYTES or len(part) == 1


def test_items_are_named_after_their_batch() -> None:
    assert batches.item_ids("abc", 3) == ["abc.0", "abc.1", "abc.2"]


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "batch: 0 arguments and fields , expected one list of items"),
        ((1,), {"items": []}, "batch: 1 arguments and fields 'items', expected one list"),
        ((), {"items": {}}, "expected one list of items"),
        ((), {"items": [], "more": 1}, "fields 'items', 'more', expected one list of items"),
        ((), {"items": [{}]}, "batch: 1 items, expected 2 as its header says"),
    ],
)
def test_what_is_no_batch_is_refused(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(MessageError, match=r"^batch: ") as caught:
        batches.items_of(args, kwargs, 2)
    assert said in str(caught.value)


def test_an_item_is_a_map_of_fields() -> None:
    with pytest.raises(MessageError, match=r"item: \[1\], expected a map of fields"):
        batches.fields_of_item([1])


# --- The envelope ---


def test_an_envelope_without_items_has_the_header_it_always_had() -> None:
    assert "num_items" not in Envelope().to_header()
    assert Envelope.from_header(Envelope(num_items=3).to_header()).num_items == 3


@pytest.mark.parametrize("value", [-1, batches.MAX_ITEMS + 1, True, "3", 2.0, None])
def test_an_impossible_number_of_items_is_refused(value: Any) -> None:
    with pytest.raises(MessageError, match=r"^num_items: .*, expected 0 to 500$"):
        Envelope.from_header({"version": 1, "num_items": value})
    assert Envelope.count_items({"num_items": value}) == 0


def test_items_are_counted_where_nothing_else_is_right() -> None:
    assert Envelope.count_items({"version": "?", "num_items": 7}) == 7
    assert Envelope.count_items(None) == 0


# --- The serializer ---


def test_a_batch_may_hold_more_elements_than_one_job() -> None:
    items = [[None] * 2**17 for _ in range(9)]
    body = codec.encode(items)
    with pytest.raises(MessageError, match="elements, expected at most"):
        codec.decode(body)
    assert codec.decode(body, codec.BATCH) == items


# --- The call ---


def test_requests_come_as_requests_as_maps_or_as_a_first_argument() -> None:
    ready = ucb1_selection.build(**ARGUMENTS)
    assert isinstance(ready, Ucb1SelectionRequest)
    with in_process():
        jobs = ucb1_selection.submit_many([ready, ARGUMENTS])
        chosen = [job.result().chosen.tolist() for job in jobs]
    assert chosen == [[1], [1]]
    assert len({job.id for job in jobs}) == 2


def test_a_deadline_is_one_for_all() -> None:
    with in_process():
        for job in ucb1_selection.submit_many([ARGUMENTS, ARGUMENTS], deadline_seconds=0):
            with pytest.raises(DeadlineExceeded):
                job.result()


def test_no_requests_are_no_jobs() -> None:
    with in_process():
        assert ucb1_selection.submit_many([]) == []


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({**ARGUMENTS, "visits": "x"}, r"requests\[1\]\.visits: "),
        ({**ARGUMENTS, "colour": 1}, r"requests\[1\]\.colour: unknown argument"),
        ({1: 2}, r"requests\[1\]: a map with keys that are no text, expected argument names"),
        (None, r"requests\[1\]\.visits: dtype object, expected real numbers"),
    ],
)
def test_an_error_names_the_item_and_nothing_is_sent(item: Any, said: str) -> None:
    with in_process() as road:
        with pytest.raises(InvalidRequest, match=said):
            ucb1_selection.submit_many([ARGUMENTS, item])
        assert road._metas == {}
