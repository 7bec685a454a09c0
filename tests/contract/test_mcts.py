"""The request and result of ucb1_selection: what is accepted, and which words refuse."""

from typing import Any

import numpy as np
import pytest

from contract.errors import InvalidRequest
from contract.mcts import Ucb1SelectionRequest, ucb1_selection
from tests import hostile

ARRAYS: dict[str, Any] = {
    "visits": np.array([[3, 0, 9], [4, 4, 1], [0, 0, 0]]),
    "value_sums": np.array([[1.5, 0.0, -2.0], [2.0, 2.0, 0.25], [0.0, 0.0, 0.0]]),
    "parent_visits": np.array([12, 9, 1]),
    "child_counts": np.array([3, 2, 3]),
}


def test_a_request_needs_only_the_tree() -> None:
    request = ucb1_selection.build([[1, 2]], [[0.5, 1.0]], [3])
    assert isinstance(request, Ucb1SelectionRequest)
    assert request.exploration == np.sqrt(2)
    assert request.child_counts is None


@pytest.mark.parametrize("kind", hostile.SAME)
@pytest.mark.parametrize("name", ARRAYS)
def test_any_layout_becomes_the_same_native_array(name: str, kind: str) -> None:
    request = ucb1_selection.build(**{**ARRAYS, name: hostile.SAME[kind](ARRAYS[name])})
    field = getattr(request, name)
    assert field.dtype == ARRAYS[name].dtype
    assert field.flags.c_contiguous
    assert field.flags.aligned
    np.testing.assert_array_equal(field, ARRAYS[name])


REFUSED = [
    (name, kind)
    for name in ARRAYS
    for kind in hostile.REFUSED
    if (name, kind) != ("child_counts", "none_at_all")  # which may be left out
]


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: .*, expected "):
        ucb1_selection.build(**{**ARRAYS, name: hostile.REFUSED[kind](ARRAYS[name])})


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_values_that_are_not_finite_are_refused(kind: str) -> None:
    wrong = hostile.NOT_FINITE[kind](ARRAYS["value_sums"])
    with pytest.raises(InvalidRequest, match=r"^value_sums: 1 of 9 not finite"):
        ucb1_selection.build(**{**ARRAYS, "value_sums": wrong})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visits": -ARRAYS["visits"]}, "visits: 5 of 9 below 0 (first at [0, 0]), expected"),
        ({"visits": [[1, 2]] * 3}, "value_sums: shape [3, 3], expected [3, 2] as visits"),
        ({"parent_visits": [1, 2]}, "parent_visits: 2 elements, expected 3, one for each row"),
        ({"parent_visits": [12, 0, 1]}, "parent_visits: 0 at node 1, expected at least 1 where"),
        ({"child_counts": [1, 2]}, "child_counts: 2 elements, expected 3, one for each row"),
        ({"child_counts": [3, 2, 4]}, "child_counts: 4, expected at most 3"),
        ({"child_counts": [3, 2, -1]}, "child_counts: 1 of 3 below 0 (first at 2)"),
        ({"exploration": -0.5}, "exploration: -0.5, expected greater than or equal to 0"),
        ({"exploration": float("nan")}, "exploration: nan, expected a finite number"),
        ({"parents": [1]}, "parents: unknown argument"),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ucb1_selection.build(**{**ARRAYS, **change})
    assert str(refused.value).startswith(message)


def test_a_node_without_visited_children_may_have_no_visits_itself() -> None:
    request = ucb1_selection.build([[0, 7], [0, 0]], np.zeros((2, 2)), [0, 0], child_counts=[1, 2])
    assert request.parent_visits.tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_no_nodes_and_no_children_are_accepted(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, int)
    assert ucb1_selection.build(nothing, nothing, np.zeros(shape[0], int)).visits.shape == shape


def test_inputs_stay_untouched() -> None:
    copies = {name: array.copy() for name, array in ARRAYS.items()}
    ucb1_selection.build(**ARRAYS)
    for name, copy in copies.items():
        np.testing.assert_array_equal(ARRAYS[name], copy)


def test_infinite_scores_have_words_in_json() -> None:
    answer = ucb1_selection.read_result(
        {
            "scores": [[np.inf, 1.5, -np.inf]],
            "chosen": [0],
            "backend": "fallback",
            "simd": "none",
            "threads": 1,
            "kernel_seconds": 0.0,
            "queue_seconds": 0.0,
        }
    )
    assert answer.to_dict()["scores"] == [["Infinity", 1.5, "-Infinity"]]
