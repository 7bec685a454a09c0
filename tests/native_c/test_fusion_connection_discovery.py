"""Connection discovery against SciPy and scikit-learn, on whichever twin runs, and twin by twin."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import native_c
from native_c import extension, fusion
from native_c.errors import InvalidArgument, NativeError
from tests import hostile

MOST = float(np.finfo(np.float32).max)
PAIRS = ("i", "j", "similarity", "strength")


def discover(embeddings: Any, modalities: Any = None, **options: Any) -> dict[str, Any]:
    labels = np.zeros(len(embeddings), int) if modalities is None else modalities
    return native_c.run(fusion.connection_discovery(embeddings, labels, **options))


def windows(num: int, dim: int, seed: int = 1) -> NDArray[np.float32]:
    """Make embeddings in a few loose clusters, so that similarities are of all sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    spread = rng.uniform(0.2, 2.0, (num, 1))
    noisy = centres[rng.integers(0, 5, num)] + spread * rng.normal(size=(num, dim))
    return noisy.astype(np.float32)


def cosines(embeddings: Any) -> NDArray[np.float32]:
    """Return all similarities by SciPy in float64, rounded to float32."""
    exact = np.asarray(embeddings, np.float64)
    return (1.0 - cdist(exact, exact, "cosine")).astype(np.float32)


def pairs_of(found: dict[str, Any]) -> list[tuple[int, int]]:
    return list(zip(found["i"].tolist(), found["j"].tolist(), strict=True))


def pairs_where(kept: NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(kept, 1))]


def best_of(similarities: Any, allowed: Any, top_k: int, threshold: float) -> Any:
    """Return which pairs the definition keeps: one row at a time, by Python's stable sort."""
    kept = np.zeros(similarities.shape, bool)
    for i, row in enumerate(similarities):
        others = [j for j in range(len(row)) if allowed[i, j] and row[j] >= np.float32(threshold)]
        kept[i, sorted(others, key=lambda j: -row[j])[:top_k]] = True
    return kept | kept.T


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key].tobytes() == other[key].tobytes() for key in PAIRS)


@pytest.mark.parametrize("threshold", [-1.0, -0.2, 0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (50, 768), (97, 16), (300, 33), (700, 65)])
def test_the_kept_pairs_are_those_of_scipy(shape: tuple[int, int], threshold: float) -> None:
    embeddings = windows(*shape)
    expected = cosines(embeddings)
    found = discover(embeddings, threshold=threshold)
    assert pairs_of(found) == pairs_where(expected >= np.float32(threshold))
    np.testing.assert_allclose(
        found["similarity"], expected[found["i"], found["j"]], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_each_window_keeps_the_nearest_neighbours_of_scikit_learn(top_k: int) -> None:
    embeddings = windows(400, 24)
    oracle = NearestNeighbors(n_neighbors=top_k + 1, metric="cosine", algorithm="brute")
    exact = embeddings.astype(np.float64)
    _, neighbours = oracle.fit(exact).kneighbors(exact)
    kept = np.zeros((400, 400), bool)
    kept[np.arange(400)[:, None], neighbours] = True
    found = discover(embeddings, threshold=-1.0, top_k=top_k)
    assert pairs_of(found) == pairs_where(kept | kept.T)


@pytest.mark.parametrize("top_k", [None, 1, 4])
@pytest.mark.parametrize("num", [30, 250])
def test_across_modalities_only_pairs_of_two_count(num: int, top_k: int | None) -> None:
    embeddings, modalities = windows(num, 8), np.arange(num) % 7 // 3
    similarities, allowed = cosines(embeddings), modalities[:, None] != modalities
    found = discover(embeddings, modalities, threshold=0.1, top_k=top_k, cross_modal_only=True)
    expected = best_of(similarities, allowed, top_k or num, 0.1)
    assert pairs_of(found) == pairs_where(expected)
    assert found["num_pairs_considered"] == np.triu(allowed).sum()
    assert found["num_windows"] == num


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Make small problems with many exact ties: entries are -1, 0 and 1, and rows repeat."""
    num, dim = draw(st.integers(0, 40)), draw(st.sampled_from([1, 2, 4, 16]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "embeddings": rng.integers(-1, 2, (num, dim)).astype(np.float32),
        "modalities": rng.integers(0, 3, num),
        "threshold": draw(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])),
        "top_k": draw(st.none() | st.integers(1, 45)),
        "cross_modal_only": draw(st.booleans()),
    }


@given(problems())
def test_ties_go_to_the_lowest_index_and_zeros_are_similar_to_nothing(problem: Any) -> None:
    integers, num = problem["embeddings"].astype(int), len(problem["embeddings"])
    products, squares = integers @ integers.T, (integers**2).sum(axis=1)
    norms = np.sqrt(np.maximum(np.outer(squares, squares), 1))  # the root of an exact product
    allowed = ~np.eye(num, dtype=bool)
    if problem["cross_modal_only"]:
        allowed &= problem["modalities"][:, None] != problem["modalities"]
    expected = best_of(
        (products / norms).astype(np.float32),
        allowed,
        problem["top_k"] or num,
        problem["threshold"],
    )
    found = discover(**problem)
    assert pairs_of(found) == pairs_where(expected)
    num_zero = int((squares == 0).sum())
    assert len(found["warnings"]) == (num_zero > 0)
    assert all(str(num_zero) in warning for warning in found["warnings"])


@given(problems(), st.randoms())
def test_the_order_of_windows_changes_only_their_names(problem: Any, random: Any) -> None:
    problem["top_k"] = None  # ties go by index
    order = list(range(len(problem["embeddings"])))
    random.shuffle(order)
    moved = {key: problem[key][order] for key in ("embeddings", "modalities")}
    again = discover(**problem | moved)
    there = [tuple(sorted((order[i], order[j]))) for i, j in pairs_of(again)]
    assert sorted(there) == pairs_of(discover(**problem))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([None, 3]), st.booleans())
def test_the_length_of_embeddings_does_not_count(seed: int, top_k: Any, extreme: bool) -> None:
    embeddings = windows(40, 12, seed)
    exponents = np.random.default_rng(seed).integers(-100, 101, (40, 1)) if extreme else 30
    with np.errstate(under="ignore"):
        scaled = np.ldexp(embeddings, exponents).astype(np.float32)
    options = {"threshold": 0.2, "top_k": top_k}
    assert same_bits(discover(embeddings, **options), discover(scaled, **options))


@pytest.mark.parametrize("scale", [1e30, 1e-30, 3e38, 1e-44])
def test_the_smallest_and_largest_floats_have_similarities(scale: float) -> None:
    embeddings = np.array([[1, 0], [-1, 0], [1, 1], [0, 1]]) * scale
    found = discover(embeddings, threshold=-1.0)
    expected = [-1.0, math.sqrt(0.5), 0.0, -math.sqrt(0.5), 0.0, math.sqrt(0.5)]
    np.testing.assert_allclose(found["similarity"], expected, atol=1e-7)


@pytest.mark.parametrize("dim", [1, 3, 64, 768, 5000])
def test_equal_and_opposite_embeddings_are_found_at_the_ends_of_the_range(dim: int) -> None:
    row = np.random.default_rng(dim).normal(size=dim)
    embeddings = np.array([row, 3.0 * row, -row, np.ones(dim), np.ones(dim)])
    found = discover(embeddings, threshold=1.0)
    assert {(0, 1), (3, 4)} <= set(pairs_of(found))
    assert (found["similarity"] == 1.0).all()
    opposite = discover(embeddings[:3], threshold=-1.0)
    np.testing.assert_allclose(opposite["similarity"], [1.0, -1.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("dim", [64, 768, 5000])
def test_long_sums_of_equal_terms_lose_little(dim: int) -> None:
    scales = np.random.default_rng(0).uniform(0.1, 9.0, (60, 1))
    found = discover(np.ones((60, dim)) * scales, threshold=0.5)
    np.testing.assert_allclose(found["similarity"], 1.0, atol=2e-6)


def test_planted_copies_find_each_other_among_many() -> None:
    embeddings = np.random.default_rng(0).normal(size=(900, 40)).astype(np.float32)
    embeddings[[700, 20, 350]] = embeddings[5]
    found = discover(embeddings, threshold=0.999)
    assert pairs_of(found) == [(5, 20), (5, 350), (5, 700), (20, 350), (20, 700), (350, 700)]
    nearest = discover(embeddings, threshold=0.999, top_k=1)
    assert pairs_of(nearest) == [(5, 20), (5, 350), (5, 700)]


def test_a_hundred_copies_choose_the_first_ones() -> None:
    found = discover(np.tile(windows(1, 50), (100, 1)), top_k=2)
    assert pairs_of(found) == [(0, 1)] + [(i, j) for i in (0, 1) for j in range(2, 100)]
    assert (found["similarity"] == 1.0).all()


@pytest.mark.parametrize("num", [0, 1])
@pytest.mark.parametrize("top_k", [None, 1])
def test_too_few_windows_have_no_pairs(num: int, top_k: int | None) -> None:
    found = discover(np.ones((num, 4)), top_k=top_k, timestamps_ms=np.zeros(num, int))
    assert all(found[key].size == 0 for key in PAIRS)
    assert [found[key].dtype for key in PAIRS] == ["int32", "int32", "float32", "float32"]
    assert (found["num_windows"], found["num_pairs_considered"]) == (num, 0)


def test_rows_of_zeros_are_similar_to_nothing_and_are_told_of() -> None:
    found = discover([[0, 0], [1, 0], [0, -0.0], [1, 1]], threshold=0.0)
    assert found["similarity"].tolist() == pytest.approx([0, 0, 0, 0, math.sqrt(0.5), 0])
    assert found["warnings"] == (
        "2 embeddings are all zeros: such a window has similarity 0 with every other.",
    )
    assert "1 embedding is" in discover([[0.0], [1.0]])["warnings"][0]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=6), st.floats(1e-3, 1e19))
def test_strength_decays_with_the_time_between_two_windows(times: Any, scale: float) -> None:
    embeddings = windows(len(times), 3)
    found = discover(embeddings, timestamps_ms=times, time_scale_ms=scale, threshold=-1.0)
    apart = [abs(times[i] - times[j]) for i, j in pairs_of(found)]
    expected = [s * math.exp(-dt / scale) for s, dt in zip(found["similarity"], apart, strict=True)]
    np.testing.assert_allclose(found["strength"], expected, rtol=1e-6, atol=1e-45)


def test_the_default_time_scale_is_a_minute() -> None:
    found = discover([[1.0], [1.0]], timestamps_ms=[1_700_000_000_000, 1_700_000_060_000])
    assert found["strength"][0] == pytest.approx(math.exp(-1), rel=1e-7)


def test_without_timestamps_strength_is_similarity() -> None:
    found = discover(windows(50, 4))
    assert found["strength"].tobytes() == found["similarity"].tobytes()
    assert not np.shares_memory(found["strength"], found["similarity"])


@pytest.mark.parametrize("top_k", [1, 2, 7])
def test_no_pair_is_kept_without_an_end_that_ranks_it(top_k: int) -> None:
    found = discover(windows(500, 6), threshold=-1.0, top_k=top_k)
    ends = np.concatenate([found["i"], found["j"]])
    degrees = np.bincount(ends, minlength=500)
    assert degrees.min() >= top_k
    assert 500 * top_k / 2 <= found["i"].size <= 500 * top_k


def test_a_top_k_of_all_others_leaves_nothing_out() -> None:
    embeddings = windows(60, 5)
    everything = discover(embeddings, threshold=0.1)
    for top_k in (58, 59, 60, 2**63 - 1):
        found = discover(embeddings, threshold=0.1, top_k=top_k)
        assert pairs_of(found) == pairs_of(everything)


def request_of(kind: str = "") -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        "embeddings": np.round(windows(12, 6).astype(np.float64) * 8) / 8,
        "modalities": rng.integers(0, 3, 12),
        "timestamps_ms": rng.integers(0, 100_000, 12),
    }


@pytest.mark.parametrize("argument", ["embeddings", "modalities", "timestamps_ms"])
@pytest.mark.parametrize("kind", hostile.SAME)
def test_any_layout_gives_the_same_bits(kind: str, argument: str) -> None:
    request = request_of()
    expected = discover(**request, cross_modal_only=True)
    passed = hostile.SAME[kind](request[argument])
    found = discover(**request | {argument: passed}, cross_modal_only=True)
    assert same_bits(expected, found)
    np.testing.assert_array_equal(passed, request[argument])


@pytest.mark.parametrize("argument", ["embeddings", "modalities", "timestamps_ms"])
@pytest.mark.parametrize("kind", hostile.REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(kind: str, argument: str) -> None:
    request = request_of()
    passed = hostile.REFUSED[kind](request[argument])
    if argument == "timestamps_ms" and passed is None:
        return
    with pytest.raises(NativeError, match=rf"^{argument}: .*, expected "):
        native_c.run(fusion.connection_discovery(**request | {argument: passed}))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4"])
@pytest.mark.parametrize("kind", hostile.NOT_FINITE)
def test_embeddings_that_are_not_finite_are_refused(kind: str, dtype: str) -> None:
    embeddings = hostile.NOT_FINITE[kind](windows(9, 4).astype(dtype))
    with pytest.raises(InvalidArgument, match=r"^embeddings: -?(nan|inf) at \[4, 2\], expected fi"):
        discover(embeddings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embeddings": [[1.0], [-1e300]]},
            f"embeddings: -1e+300 at [1, 0], expected from {-MOST} to {MOST}",
        ),
        ({"embeddings": np.ones((2, 0))}, "embeddings: shape [2, 0], expected at least one column"),
        (
            {"modalities": [0]},
            "modalities: shape [1], expected shape [2] as the rows of embeddings",
        ),
        ({"modalities": [0.5, 1]}, "modalities: dtype float64, expected whole numbers"),
        ({"modalities": [0, 2**31]}, f"modalities: {2**31}, expected values that fit int32"),
        (
            {"timestamps_ms": [1, 2, 3]},
            "timestamps_ms: shape [3], expected shape [2] as the rows of embeddings",
        ),
        ({"threshold": 1.01}, "threshold: 1.01, expected a finite number, from -1 to 1"),
        ({"threshold": math.nan}, "threshold: nan, expected a finite number, from -1 to 1"),
        ({"top_k": 0}, "top_k: 0, expected a whole number, at least 1, or None"),
        ({"top_k": 1.5}, "top_k: 1.5, expected a whole number, at least 1, or None"),
        ({"time_scale_ms": 0}, "time_scale_ms: 0.0, expected a number above 0"),
        ({"time_scale_ms": -1.0}, "time_scale_ms: -1.0, expected a finite number, at least 0"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(changes: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"embeddings": [[1.0], [2.0]], "modalities": [0, 0]}
    with pytest.raises(InvalidArgument) as caught:
        native_c.run(fusion.connection_discovery(**request | changes))
    assert str(caught.value) == message


def test_more_pairs_than_an_answer_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "MAX_PAIRS", 1_000)
    assert discover(np.ones((45, 2)))["i"].size == 990
    expected = "threshold: 0.3, which keeps more than 1000 pairs, expected a higher one, or top_k"
    for options in ({}, {"top_k": 30}):
        with pytest.raises(InvalidArgument) as caught:
            discover(np.ones((700, 2)), **options)
        assert str(caught.value) == expected


def test_memory_follows_what_is_kept_not_the_square_of_windows() -> None:
    embeddings = np.random.default_rng(3).normal(size=(6_000, 32)).astype(np.float32)
    for options in ({"threshold": 0.65}, {"threshold": -1.0, "top_k": 2}):
        tracemalloc.start()
        found = discover(embeddings, **options)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0 < found["i"].size < 12_000
        assert peak < 24e6  # a byte for each pair of windows would be 36e6


@pytest.mark.parametrize("options", [{"threshold": 0.9}, {"threshold": -1.0}, {"top_k": 5}])
def test_progress_only_grows_and_ends_at_one(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_patience(monkeypatch)
    embeddings, modalities = windows(1_500, 8), np.zeros(1_500, int)
    steps = list(fusion.connection_discovery(embeddings, modalities, **options))
    assert len(steps) > 3
    assert steps == sorted(steps)
    assert 0 < steps[0] < 1
    assert steps[-1] == 1


def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every step as short as it can be: the C kernels would do all in one."""
    if native_c.info()["backend"] == "compiled":
        monkeypatch.setattr("native_c.compiled.fusion.BUDGET", 0.0)


@pytest.mark.parametrize("top_k", [None, 4])
def test_short_steps_give_the_same_answer(
    top_k: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = windows(1_000, 8)
    options: Any = {"threshold": -0.5, "top_k": top_k, "timestamps_ms": np.arange(1_000) * 9_999}
    expected = discover(embeddings, **options)
    without_patience(monkeypatch)
    monkeypatch.setattr(fusion, "STRENGTHS_A_STEP", 999)
    assert same_bits(expected, discover(embeddings, **options))


def test_leaving_off_midway_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_patience(monkeypatch)
    embeddings, modalities = windows(1_200, 8), np.zeros(1_200, int)

    def start_and_leave() -> None:
        job = fusion.connection_discovery(embeddings, modalities, threshold=-1.0)
        next(job)
        next(job)
        job.close()

    start_and_leave()
    tracemalloc.start()
    for _ in range(20):
        start_and_leave()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 20_000


def test_a_thousand_calls_leak_nothing() -> None:
    embeddings = windows(20, 8)
    discover(embeddings)
    tracemalloc.start()
    for _ in range(1_000):
        discover(embeddings, top_k=3)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 20_000


@pytest.mark.parametrize("top_k", [None, 1, 6])
@pytest.mark.parametrize("shape", [(9, 1), (50, 130), (193, 20), (600, 67)])
def test_the_twins_agree_on_every_level(
    on_each_level: Any, shape: tuple[int, int], top_k: int | None
) -> None:
    embeddings, modalities = windows(*shape), np.arange(shape[0]) % 3
    options = {"threshold": 0.1, "top_k": top_k, "timestamps_ms": np.arange(shape[0]) * 1_000}
    with native_c.use_backend("fallback"):
        expected = discover(embeddings, modalities, cross_modal_only=True, **options)
    answers = on_each_level(
        lambda: discover(embeddings, modalities, cross_modal_only=True, **options)
    )
    for found in answers:
        assert pairs_of(found) == pairs_of(expected)
        np.testing.assert_allclose(found["similarity"], expected["similarity"], atol=1e-6)
        np.testing.assert_allclose(found["strength"], expected["strength"], atol=1e-6)
        if top_k:
            assert same_bits(found, expected)


@pytest.mark.parametrize("top_k", [None, 8])
def test_the_number_of_threads_does_not_change_the_bits(compiled: Any, top_k: int | None) -> None:
    embeddings = windows(1_500, 48)
    answers = []
    with native_c.use_backend("compiled"):
        for threads in (1, 2, 3, 7):
            extension.set_threads(threads)
            answers.append(discover(embeddings, threshold=0.0, top_k=top_k))
    assert all(same_bits(answers[0], answer) for answer in answers)


def test_more_candidates_than_an_answer_can_need_are_refused_before_any_work() -> None:
    embeddings = np.ones((80_000, 1), np.float32)
    modalities = np.zeros(80_000, np.int32)
    with pytest.raises(InvalidArgument, match=r"^top_k: 79998, which keeps .*, expected at most "):
        discover(embeddings, modalities, threshold=-1.0, top_k=79_998)
