"""Many requests in one message: how its items are named, packed and told apart from one job."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from contract.arrays import describe
from contract.errors import MessageError

#: The one field of a batch's message: a list of the items' fields.
ITEMS: Final = "items"

#: Most items of one message: a few milliseconds of the smallest jobs, so that many workers share
#: a large number of them, and one result's wait for its neighbours stays short.
MAX_ITEMS: Final = 500

#: Most bytes that the arrays of one message hold together, unless a single item has more: beyond
#: this a message of its own costs next to nothing beside the copying.
MAX_BYTES: Final = 2**22


def item_id(batch_id: str, index: int) -> str:
    """Return the job id of one item, which nobody needs to send."""
    return f"{batch_id}.{index}"


def item_ids(batch_id: str, num_items: int) -> list[str]:
    """Return the job ids of all items of a batch."""
    return [item_id(batch_id, index) for index in range(num_items)]


def parts(items: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Divide items among messages, in order and as few as the limits allow."""
    part: list[Mapping[str, Any]] = []
    num_bytes = 0
    for fields in items:
        size = sum(value.nbytes for value in fields.values() if isinstance(value, np.ndarray))
        if part and (len(part) == MAX_ITEMS or num_bytes + size > MAX_BYTES):
            yield part
            part, num_bytes = [], 0
        part.append(fields)
        num_bytes += size
    if part:
        yield part


def items_of(
    args: Sequence[Any], kwargs: Mapping[str, Any], num_items: int
) -> list[Mapping[str, Any]]:
    """Return the fields of each item of a batch's message; `MessageError` for what is none."""
    items = kwargs.get(ITEMS)
    if args or set(kwargs) != {ITEMS} or not isinstance(items, list):
        was = f"{len(args)} arguments and fields {', '.join(map(repr, kwargs))}"
        raise MessageError(f"batch: {was}, expected one list of {ITEMS}")
    if len(items) != num_items:
        raise MessageError(f"batch: {len(items)} items, expected {num_items} as its header says")
    return items


def fields_of_item(item: object) -> Mapping[str, Any]:
    """Return the fields that an item holds, or raise `MessageError`."""
    if not isinstance(item, Mapping):
        raise MessageError(f"item: {describe(item)}, expected a map of fields")
    return item
