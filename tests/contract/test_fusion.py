"""The request and result of connection_discovery: what is accepted, and which words refuse."""

from typing import Any

import numpy as np
import pytest

from contract import codec
from contract.errors import InvalidRequest
from contract.fusion import ConnectionDiscoveryRequest, connection_discovery
from native_c.fusion import MAX_PAIRS
from tests import hostile

ARRAYS: dict[str, Any] = {
    "embeddings": np.array([[1.5, 0.0, -2.0], [2.0, 2.0, 0.25], [0.0, 0.0, 0.0]]),
    "modalities": np.array([3, 0, 3]),
    "timestamps_ms": np.array([0, 10_000, 20_000]),
}


def test_a_request_needs_only_embeddings_and_modalities() -> None:
    request = connection_discovery.build([[1, 2], [3, 4]], ["text", "audio"])
    assert isinstance(request, ConnectionDiscoveryRequest)
    assert np.asarray(request.embeddings).dtype == np.float32
    assert (request.timestamps_ms, request.top_k, request.cross_modal_only) == (None, None, False)
    assert (request.threshold, request.time_scale_ms) == (0.3, 60_000.0)


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("name", ARRAYS)
def test_any_layout_becomes_the_same_native_array(name: str, kind: str) -> None:
    request = connection_discovery.build(**{**ARRAYS, name: hostile.SAME[kind](ARRAYS[name])})
    field = getattr(request, name)
    assert field.flags.c_contiguous
    assert field.flags.aligned
    assert field.dtype.isnative
    np.testing.assert_array_equal(field, ARRAYS[name])


REFUSED = [
    (name, kind)
    for name in ARRAYS
    for kind in hostile.REFUSED
    if (name, kind) not in {("timestamps_ms", "none_at_all"), ("modalities", "strings")}
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: .*, expected "):
        connection_discovery.build(**{**ARRAYS, name: hostile.REFUSED[kind](ARRAYS[name])})


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_embeddings_that_are_not_finite_are_refused(kind: str) -> None:
    wrong = hostile.NOT_FINITE[kind](ARRAYS["embeddings"])
    with pytest.raises(InvalidRequest, match=r"^embeddings: 1 of 9 not finite"):
        connection_discovery.build(**{**ARRAYS, "embeddings": wrong})


@pytest.mark.parametrize(
    "names",
    [
        ["text", "audio", "text"],
        ("text", "audio", "text"),
        np.array(["text", "audio", "text"]),
        np.array(["text", "audio", "text"], dtype=object),
    ],
)
def test_names_of_modalities_become_codes_in_alphabetical_order(names: Any) -> None:
    request = connection_discovery.build(np.ones((3, 2)), names)
    assert request.modalities.dtype == np.int32
    assert request.modalities.tolist() == [1, 0, 1]


def test_codes_of_modalities_stay_what_they_are() -> None:
    request = connection_discovery.build(np.ones((3, 2)), [7, -1, 7])
    assert request.modalities.tolist() == [7, -1, 7]
    again = connection_discovery.build(request.embeddings, request.modalities)
    assert again.modalities.tolist() == [7, -1, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.ones((3, 0))}, "embeddings: shape [3, 0], expected at least one column"),
        (
            {"embeddings": [[0.0], [1e39], [0.0]]},
            "embeddings: 1 of 3 too large for float32 (first at [1, 0])",
        ),
        ({"modalities": ["a", "b"]}, "modalities: 2 elements, expected 3, one for each embedding"),
        ({"modalities": ["a", 1, "b"]}, "modalities: 1 among names, expected names only, or int"),
        ({"modalities": ["a", None, "b"]}, "modalities: None among names, expected names only"),
        ({"modalities": [1, 2, 2**31]}, "modalities: 1 of 3 not whole int32 numbers (first at 2)"),
        ({"timestamps_ms": [1, 2]}, "timestamps_ms: 2 elements, expected 3, one for each embed"),
        ({"timestamps_ms": [0.5, 1, 2]}, "timestamps_ms: 1 of 3 not whole int64 numbers"),
        ({"threshold": 1.5}, "threshold: 1.5, expected less than or equal to 1"),
        ({"threshold": float("nan")}, "threshold: nan, expected a finite number"),
        ({"top_k": 0}, "top_k: 0, expected greater than or equal to 1"),
        ({"top_k": 2.5}, "top_k: 2.5, expected a valid integer"),
        ({"time_scale_ms": 0.0}, "time_scale_ms: 0.0, expected greater than 0"),
        ({"time_scale_ms": float("inf")}, "time_scale_ms: inf, expected a finite number"),
        ({"cross_modal_only": "perhaps"}, "cross_modal_only: 'perhaps', expected a valid boolean"),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        connection_discovery.build(**{**ARRAYS, **change})
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("num", [0, 1])
def test_no_window_and_one_window_are_accepted(num: int) -> None:
    request = connection_discovery.build(np.ones((num, 4)), ["text"] * num, np.zeros(num, int))
    assert request.embeddings.shape == (num, 4)
    assert request.modalities.shape == (num,)


def test_inputs_stay_untouched() -> None:
    copies = {name: array.copy() for name, array in ARRAYS.items()}
    connection_discovery.build(**ARRAYS)
    for name, copy in copies.items():
        np.testing.assert_array_equal(ARRAYS[name], copy)


def test_the_schema_takes_names_or_integers_for_modalities() -> None:
    field = connection_discovery.json_schema()["request"]["properties"]["modalities"]
    assert [kind["items"] for kind in field["anyOf"]] == [{"type": "string"}, {"type": "integer"}]


def test_a_result_becomes_lists_for_json() -> None:
    answer = connection_discovery.read_result(
        {
            "i": [0],
            "j": [1],
            "similarity": [0.5],
            "strength": [0.25],
            "num_windows": 2,
            "num_pairs_considered": 1,
            "backend": "fallback",
            "simd": "none",
            "threads": 1,
            "kernel_seconds": 0.0,
            "queue_seconds": 0.0,
        }
    )
    found = answer.to_dict()
    assert (found["i"], found["j"], found["similarity"], found["strength"]) == (
        [0],
        [1],
        [0.5],
        [0.25],
    )


def test_the_largest_answer_fits_a_message() -> None:
    names = ("i", "j", "similarity", "strength")
    one = {name: np.zeros(1, np.int32 if name in "ij" else np.float32) for name in names}
    bytes_a_pair = sum(array.nbytes for array in one.values())
    rest = len(codec.encode(one)) - bytes_a_pair
    assert MAX_PAIRS * bytes_a_pair + 100 * rest <= codec.INLINE.max_bytes
