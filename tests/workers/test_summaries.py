"""The line that monitors show of a job's arguments: readable, short, and without data."""

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from workers.summaries import CHARACTERS, shorten

#: What a stock client sends as the repr of its arguments, and what is shown of it, by hand.
SHOWN = {
    "()": "()",
    "{}": "{}",
    "[[1, 2, 3]]": "[[1, 2, 3]]",
    "[[1, 2, 3, 4, 5]]": "[[1, 2, 3, ...]]",
    "([1.5, -2e-05, nan, inf], 'ucb1')": "([1.5, -2e-05, nan, ...], 'ucb1')",
    "(1, 2, 3, 4, 5)": "(1, 2, 3, 4, 5)",
    "{'visits': [[1, 2], [3, 4], [5, 6], [7, 8]], 'exploration': 0.25}": (
        "{'visits': [[1, 2], [3, 4], [5, 6], ...], 'exploration': 0.25}"
    ),
    "{'values': [1.0, 2.0, 3.0, 4..., ...]}": "{'values': [1.0, 2.0, 3.0, ...]}",
    "[b'\\x00\\xff\\'[,', b\"\\x00\"]": "[bytes, bytes]",
    "[b'00fffe00fffe": "[bytes",
    f"{{'name': '{'x' * 99}', 'k': 1}}": f"{{'name': '{'x' * 35}...', 'k': 1}}",
    "values=float64[100000] 800 kB, ddof=0": "values=float64[100000] 800 kB, ddof=0",
    "a\x00b\x1b[31m": "a?b?[31m",
    "evil\u202egpj.exe \u2066\u200b\u2028": "evil?gpj.exe ?",
    "]]]) , }": "]]]) , }",
}


@pytest.mark.parametrize("text", SHOWN)
def test_arguments_are_shown_short(text: str) -> None:
    assert shorten(text) == SHOWN[text]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_any_client_says_is_one_short_line_without_bytes(arguments) -> None:
    shown = shorten(saferepr(arguments, 1024))
    assert len(shown) <= CHARACTERS
    assert "\n" not in shown


@given(st.text(max_size=3000))
def test_any_text_at_all_becomes_a_short_line(text: str) -> None:
    shown = shorten(text)
    assert len(shown) <= CHARACTERS
    assert not set(map(ord, shown)) & set(range(32))
