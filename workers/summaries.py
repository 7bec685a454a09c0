"""What the log and monitors such as Flower show of a job's arguments: a short line, no data."""

import re
from typing import Final

#: Elements of a list that are shown, and characters of a text and of the whole.
NUM_ELEMENTS: Final = 3
TEXT_CHARACTERS: Final = 40
CHARACTERS: Final = 300

#: Characters of a client's own summary that are looked at; Celery's clients write 1,024 at most.
_LOOKED_AT: Final = 2048

_TOKEN = re.compile(
    r"""
    (?P<bytes> b(?:'(?:\\.|[^'\\])*'?|"(?:\\.|[^"\\])*"?) )
  | (?P<text> '(?:\\.|[^'\\])*'? | "(?:\\.|[^"\\])*"? )
  | (?P<open> [\[({] ) | (?P<close> [\])}] )
  | (?P<comma> ,\s* )
  | (?P<word> [^\s\[\](){},'"]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Control characters, halves of characters, and what has no look of its own but changes that of
#: others: spaces without width, ends of lines, turns of the direction of writing.
_UNREADABLE = re.compile(
    r"[^\x20-\x7e\xa0-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffc"
    r"\U00010000-\U0010ffff]+"
)


def shorten(text: str) -> str:
    """Return a client's summary of its arguments, cut to what a person reads.

    Stock clients send the repr of their arguments: lists keep three elements, the list of all
    positional arguments excepted, long texts their beginning, and bytes nothing.
    """
    shown: list[str] = []
    elements: list[int] = []  # of each bracket that is open
    hidden_from = 0  # depth of the list whose rest is hidden; 0 for none
    for token in _TOKEN.finditer(text[:_LOOKED_AT]):
        kind, word = token.lastgroup, token.group()
        if kind == "open":
            elements.append(1)
        elif kind == "close" and elements:
            if len(elements) == hidden_from:
                hidden_from = 0
            elements.pop()
        elif kind == "comma" and elements and not hidden_from:
            elements[-1] += 1
            if elements[-1] > NUM_ELEMENTS and len(elements) > 1:
                hidden_from = len(elements)
                shown.append(", ...")
        if not hidden_from:
            shown.append(_brief(kind, word))
    return _cut(_UNREADABLE.sub("?", "".join(shown)), CHARACTERS)


def _brief(kind: str | None, word: str) -> str:
    if kind == "bytes":
        return "bytes"
    if kind == "text" and len(word) > TEXT_CHARACTERS:
        return _cut(word, TEXT_CHARACTERS - 1) + word[0]
    return _cut(word, TEXT_CHARACTERS) if kind == "word" else word


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
