"""The plots of results: each kind draws something, with labels, and an unknown kind is refused."""

import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure

from contract.analytics import basic_statistics
from contract.fusion import connection_discovery
from contract.mcts import ucb1_selection
from contract.operation import Result
from contract.optimization import multi_armed_bandit
from gristmill.plots import plot
from gristmill.testing import in_process


@pytest.fixture(autouse=True, scope="module")
def road() -> Iterator[None]:
    with in_process():
        yield


def draw(result: Result) -> Figure:
    """Plot a result, save the figure and return it; the picture must not be empty."""
    figure = Figure()
    axes = figure.subplots()
    plot(result, axes)
    picture = io.BytesIO()
    figure.savefig(picture)
    assert picture.tell() > 3000
    assert axes.get_xlabel()
    return figure


def test_statistics_are_drawn_from_the_smallest_to_the_largest_value() -> None:
    axes = draw(basic_statistics([1.0, 2.0, 3.0, 10.0])).axes[0]
    low, high = axes.get_xlim()
    assert low < 1
    assert high > 10


def test_statistics_without_order_are_drawn_without_percentiles() -> None:
    legend = draw(basic_statistics([1.0, 2.0, 3.0, 10.0], None)).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["range", "mean ± std", "mean"]


def test_connections_are_drawn_as_a_dot_for_each_pair() -> None:
    embeddings = np.random.default_rng(0).normal(size=(20, 4))
    result = connection_discovery(embeddings, [0, 1] * 10)
    figure = draw(result)
    dots = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert dots.tolist() == np.column_stack([result.j, result.i]).tolist()
    assert figure.axes[1].get_ylabel() == "strength"


def test_no_connection_at_all_is_drawn_without_a_scale() -> None:
    assert len(draw(connection_discovery(np.eye(3), [0, 1, 2])).axes) == 1


def test_a_bandit_is_drawn_as_a_bar_for_each_arm() -> None:
    result = multi_armed_bandit([3, 5], [1.0, 4.0], num_selections=10)
    bars = draw(result).axes[0].patches
    assert [bar.get_height() for bar in bars] == result.counts.tolist()  # type: ignore[attr-defined]


def test_selection_is_drawn_with_a_mark_on_each_chosen_child() -> None:
    result = ucb1_selection([[3, 1], [0, 2]], [[1.0, 1.0], [0.0, 1.0]], [4, 2])
    (marks,) = draw(result).axes[0].lines
    assert np.asarray(marks.get_xdata()).tolist() == result.chosen.tolist()


def test_selection_among_children_without_visits_is_drawn_without_a_scale() -> None:
    result = ucb1_selection([[0, 0]], [[0.0, 0.0]], [0])
    assert math.isinf(result.scores[0, 0])
    assert len(draw(result).axes) == 1


def test_a_result_without_a_plot_is_refused() -> None:
    plain = Result(backend="fallback", simd="none", threads=1, kernel_seconds=0, queue_seconds=None)
    with pytest.raises(TypeError, match="expected one of BasicStatisticsResult"):
        plot(plain, Figure().subplots())
