"""UCB1 selection against its formula, on whichever twin runs, and the twins against each other."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import native_c
from native_c import extension, mcts
from native_c.errors import InvalidArgument, NativeError
from tests import hostile

INF = math.inf


def textbook(
    visits: Any, value_sums: Any, parent_visits: Any, exploration: float, child_counts: Any
) -> tuple[list[list[float]], list[int]]:
    """Scores and choices by the formula as printed, one child at a time, with libm's log."""
    scores = []
    for row, sums, parent, count in zip(
        visits, value_sums, parent_visits, child_counts, strict=True
    ):
        scores.append([-INF] * len(row))
        for child in range(count):
            n = int(row[child])
            mean_and_bound = n and sums[child] / n + exploration * math.sqrt(math.log(parent) / n)
            scores[-1][child] = mean_and_bound if n else INF
    chosen = [
        row.index(max(row[:count])) if count else -1
        for row, count in zip(scores, child_counts, strict=True)
    ]
    return scores, chosen


def tree(num_nodes: int, num_children: int, seed: int = 1) -> dict[str, Any]:
    """Make a request over random nodes, some of whose children have no visits."""
    rng = np.random.default_rng(seed)
    visits = rng.integers(0, 40, (num_nodes, num_children))
    visits[rng.random(visits.shape) < 0.1] = 0
    return {
        "visits": visits,
        "value_sums": rng.normal(size=visits.shape) * visits,
        "parent_visits": visits.sum(axis=1) + 1,
        "child_counts": rng.integers(0, num_children + 1, num_nodes),
    }


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key].tobytes() == other[key].tobytes() for key in ("scores", "chosen"))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    request = tree(*shape, seed=draw(st.integers(0, 2**32)))
    request["visits"] *= 10 ** draw(st.integers(0, 12))
    request["parent_visits"] = request["visits"].sum(axis=1) + draw(st.integers(1, 5))
    request["exploration"] = draw(st.sampled_from([0.0, 0.5, math.sqrt(2), 1e3]))
    return request


@given(trees())
def test_scores_and_choices_are_those_of_the_textbook(request: dict[str, Any]) -> None:
    found = mcts.ucb1_selection(**request)
    scores, chosen = textbook(**request)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-13, atol=1e-13)
    best = np.take_along_axis(
        np.array(scores), np.maximum(found["chosen"], 0)[:, None], axis=1
    ).ravel()
    expected = np.max(scores, axis=1)
    np.testing.assert_allclose(best, expected, rtol=1e-13, atol=1e-13)
    assert ((found["chosen"] < 0) == (np.array(chosen) < 0)).all()


@given(trees())
def test_the_chosen_child_is_the_first_of_the_highest_scores(request: dict[str, Any]) -> None:
    found = mcts.ucb1_selection(**request)
    for row, count, child in zip(
        found["scores"], request["child_counts"], found["chosen"], strict=True
    ):
        assert child == (row.argmax() if count else -1)


@given(trees())
def test_children_beyond_the_count_change_nothing(request: dict[str, Any]) -> None:
    found = mcts.ucb1_selection(**request)
    beyond = np.arange(request["visits"].shape[1]) >= request["child_counts"][:, None]
    assert (found["scores"][beyond] == -INF).all()
    request["visits"] = np.where(beyond, 7, request["visits"])
    request["value_sums"] = np.where(beyond, 1e300, request["value_sums"])
    assert same_bits(found, mcts.ucb1_selection(**request))


@given(trees(), st.randoms())
def test_nodes_do_not_influence_one_another(request: dict[str, Any], random: Any) -> None:
    order = list(range(len(request["visits"])))
    random.shuffle(order)
    found = mcts.ucb1_selection(**request)
    arrays = {key: value for key, value in request.items() if key != "exploration"}
    shuffled = {key: value[order] for key, value in arrays.items()}
    again = mcts.ucb1_selection(**shuffled, exploration=request["exploration"])
    assert same_bits({key: value[order] for key, value in found.items()}, again)


def test_a_child_without_visits_comes_first() -> None:
    found = mcts.ucb1_selection([[9, 0, 0]], [[9e9, 0.0, 0.0]], [9])
    assert found["scores"].tolist() == [[found["scores"][0, 0], INF, INF]]
    assert found["chosen"].tolist() == [1]


def test_equal_scores_go_to_the_lowest_index() -> None:
    found = mcts.ucb1_selection([[4, 2, 2, 2]], [[0.0, 1.0, 1.0, 1.0]], [10])
    assert found["chosen"].tolist() == [1]


def test_without_exploration_equal_means_of_other_counts_tie_exactly() -> None:
    found = mcts.ucb1_selection([[49, 1, 7]], [[49.0, 1.0, 7.0]], [57], exploration=0.0)
    assert found["scores"].tolist() == [[1.0, 1.0, 1.0]]
    assert found["chosen"].tolist() == [0]


def test_a_node_without_children_chooses_none() -> None:
    found = mcts.ucb1_selection([[3, 4]], [[1.0, 1.0]], [7], child_counts=[0])
    assert found["scores"].tolist() == [[-INF, -INF]]
    assert found["chosen"].tolist() == [-1]


def test_a_parent_without_visits_is_fine_while_no_child_has_any() -> None:
    found = mcts.ucb1_selection([[0, 5]], [[0.0, 1.0]], [0], child_counts=[1])
    assert found["scores"].tolist() == [[INF, -INF]]


def test_the_default_of_exploration_is_the_square_root_of_two() -> None:
    found = mcts.ucb1_selection([[1]], [[0.0]], [3])
    assert found["scores"][0, 0] == pytest.approx(math.sqrt(2.0 * math.log(3.0)), rel=1e-15)


def test_counts_beyond_two_to_the_53_round_as_python_rounds_them() -> None:
    count = 2**62 + 2**9 - 1
    found = mcts.ucb1_selection([[count]], [[1.0]], [1], exploration=0.0)
    assert found["scores"][0, 0] == 1.0 / float(count)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (4, 0)])
def test_nothing_to_choose_from_is_an_answer(shape: tuple[int, int]) -> None:
    visits = np.zeros(shape, np.int64)
    found = mcts.ucb1_selection(visits, visits, visits.sum(axis=1))
    assert found["scores"].shape == shape
    assert found["chosen"].tolist() == [-1] * shape[0]


ARGUMENTS = ("visits", "value_sums", "parent_visits", "child_counts")


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", hostile.SAME)
def test_any_layout_gives_the_same_bits(kind: str, argument: str) -> None:
    request = tree(6, 4)
    expected = mcts.ucb1_selection(**request)
    passed = hostile.SAME[kind](request[argument])
    assert same_bits(expected, mcts.ucb1_selection(**request | {argument: passed}))
    np.testing.assert_array_equal(passed, request[argument])


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", hostile.REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(kind: str, argument: str) -> None:
    request = tree(6, 4)
    passed = hostile.REFUSED[kind](request[argument])
    if argument == "child_counts" and passed is None:
        return
    with pytest.raises(NativeError, match=rf"^{argument}: .*, expected "):
        mcts.ucb1_selection(**request | {argument: passed})


@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_value_sums_that_are_not_finite_are_refused(kind: str) -> None:
    request = tree(6, 4)
    request["value_sums"] = hostile.NOT_FINITE[kind](request["value_sums"])
    with pytest.raises(
        InvalidArgument, match=r"^value_sums: -?(nan|inf) at \[3, 0\], expected fin"
    ):
        mcts.ucb1_selection(**request)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visits": [[-1, 2]]}, "visits: -1 at [0, 0], expected at least 0"),
        ({"visits": [[1.0, 2.0]]}, "visits: dtype float64, expected whole numbers"),
        (
            {"visits": np.array([[2**63, 1]], "u8")},
            f"visits: {2**63}, expected values that fit int64",
        ),
        ({"value_sums": [[1.0]]}, "value_sums: shape [1, 1], expected shape [1, 2] as visits"),
        ({"parent_visits": [-3]}, "parent_visits: -3 at [0], expected at least 0"),
        (
            {"parent_visits": [0]},
            "parent_visits: 0 at [0], expected at least 1 where a child has visits",
        ),
        (
            {"parent_visits": [3, 3]},
            "parent_visits: shape [2], expected shape [1] as the rows of visits",
        ),
        ({"child_counts": [3]}, "child_counts: 3 at [0], expected from 0 to 2"),
        ({"child_counts": [-1]}, "child_counts: -1 at [0], expected from 0 to 2"),
        ({"exploration": -1.0}, "exploration: -1.0, expected a finite number, at least 0"),
        ({"exploration": math.nan}, "exploration: nan, expected a finite number, at least 0"),
        ({"exploration": "1"}, "exploration: '1', expected a finite number, at least 0"),
        ({"exploration": INF}, "exploration: inf, expected a finite number, at least 0"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(changes: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"visits": [[1, 2]], "value_sums": [[0.5, 1.0]], "parent_visits": [3]}
    with pytest.raises(InvalidArgument) as caught:
        mcts.ucb1_selection(**request | changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("shape", [(1, 1), (9, 5), (700, 3), (1, 3000), (3, 1025), (2500, 1)])
def test_the_twins_agree_to_the_bit_on_every_level(on_each_level: Any, shape: Any) -> None:
    request = tree(*shape)
    with native_c.use_backend("fallback"):
        expected = mcts.ucb1_selection(**request)
    for found in on_each_level(lambda: mcts.ucb1_selection(**request)):
        assert same_bits(expected, found)


def hard_numbers(num_nodes: int, num_children: int, seed: int) -> dict[str, Any]:
    """Make nodes whose quotients are hard to round, at the limits of the fast ways to divide."""
    rng = np.random.default_rng(seed)
    shape = num_nodes, num_children
    limits = np.array([0, 1, 2, 3, 2**29 - 1, 2**29 - 3, 99])
    visits = np.where(rng.random(shape) < 0.5, rng.choice(limits, shape), rng.integers(1, 2**29))
    sums = rng.normal(size=shape) * 2.0 ** rng.integers(-890, 1000, shape)
    near = np.nextafter(visits * rng.random(shape).round(8), rng.choice([-INF, INF], shape))
    sums = np.where(rng.random(shape) < 0.5, near, sums)
    sums[rng.random(shape) < 0.1] = rng.choice([0.0, -0.0])
    return {
        "visits": visits,
        "value_sums": sums,
        "parent_visits": rng.choice([2, 3, 1024, 1025, 2**29 - 1], num_nodes),
        "exploration": 0.0 if seed % 3 == 0 else 2.0 ** rng.integers(-300, 20),
    }


@pytest.mark.parametrize("num_children", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_the_twins_agree_to_the_bit_on_numbers_that_are_hard_to_divide(
    on_each_level: Any, num_children: int
) -> None:
    for seed, num_nodes in enumerate((15, 16, 29, 64, 1100)):
        request = hard_numbers(num_nodes, num_children, seed)
        with native_c.use_backend("fallback"):
            expected = mcts.ucb1_selection(**request)
        for found in on_each_level(lambda request=request: mcts.ucb1_selection(**request)):
            assert same_bits(expected, found)


@pytest.mark.parametrize(
    "changes",
    [
        {"visits": 2**29},
        {"visits": 2**62 + 12345},
        {"value_sums": 1e308},
        {"value_sums": 5e-324},
        {"value_sums": -3e-308},
        {"value_sums": 1e-290},
        {"parent_visits": 1},
        {"parent_visits": 2**29 + 1},
        {"parent_visits": 2**62 + 54321},
        {"exploration": -0.0},
        {"exploration": 5e-324},
        {"exploration": 1e-250},
        {"value_sums": 3e-308, "parent_visits": 1},
        {"value_sums": -0.0, "parent_visits": 1, "exploration": -0.0},
        {"value_sums": 7e-310, "exploration": 1e-307},
    ],
)
def test_the_twins_agree_to_the_bit_on_extremes(on_each_level: Any, changes: Any) -> None:
    request = tree(40, 5) | {"child_counts": None, "exploration": 1.5}
    for name, extreme in changes.items():
        if name == "exploration":
            request[name] = extreme
        else:
            request[name].reshape(40, -1)[17, -1] = extreme
    with native_c.use_backend("fallback"):
        expected = mcts.ucb1_selection(**request)
    for found in on_each_level(lambda: mcts.ucb1_selection(**request)):
        assert same_bits(expected, found)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("visits", -1),
        ("value_sums", math.nan),
        ("value_sums", -INF),
        ("parent_visits", -1),
        ("parent_visits", 0),
    ],
)
def test_one_wrong_number_among_many_nodes_is_refused(
    on_each_level: Any, name: str, wrong: float
) -> None:
    request = tree(40, 5) | {"child_counts": None}
    request["visits"][23] = [0, 2, 0, 0, 0]
    request[name].reshape(40, -1)[23, -1] = wrong  # the sum of a child that has no visits

    def refused() -> bool:
        with pytest.raises(InvalidArgument, match=rf"^{name}: .* at \[23"):
            mcts.ucb1_selection(**request)
        return True

    assert all(on_each_level(refused))


def test_the_number_of_threads_does_not_change_the_bits(compiled: Any) -> None:
    request = tree(90_000, 5)
    answers = []
    with native_c.use_backend("compiled"):
        for threads in (1, 2, 3, 7):
            extension.set_threads(threads)
            answers.append(mcts.ucb1_selection(**request))
            assert native_c.made()["threads"] == threads
    assert all(same_bits(answers[0], answer) for answer in answers)


def test_a_thousand_calls_leak_nothing() -> None:
    request = tree(50, 5)
    mcts.ucb1_selection(**request)
    tracemalloc.start()
    for _ in range(1_000):
        mcts.ucb1_selection(**request)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 20_000
