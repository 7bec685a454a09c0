"""JSON schemas of requests and results, with the comment above each field as its description."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

_COMMENT = re.compile(r"\s*#: ?(.*)")
_FIELD = re.compile(r"\s*(\w+)\s*:")


def schema_of(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of a request or result."""
    schema: dict[str, Any] = TypeAdapter(cls).json_schema()
    comments = {name: text for kind in reversed(cls.__mro__) for name, text in _comments(kind)}
    for name, field in schema.get("properties", {}).items():
        said = [comments.get(name, ""), _form(field.pop("description", ""))]
        field["description"] = " ".join(filter(None, said))
    return schema


def _form(description: str) -> str:
    # What a field says of its own form ("float64 array") follows what its author says of it.
    return f"({description})" if description else ""


def _comments(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield each field of a class with the `#:` lines above it, joined."""
    try:
        lines = inspect.getsource(cls).splitlines()
    except (OSError, TypeError):  # built in, or without its source
        return
    gathered: list[str] = []
    for line in lines:
        if comment := _COMMENT.fullmatch(line):
            gathered.append(comment[1])
        else:
            if gathered and (field := _FIELD.match(line)):
                yield field[1], " ".join(gathered)
            gathered = []
