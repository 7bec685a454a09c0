"""Looks for messages that break what reads them: `make fuzz SECONDS=60`.

    python -m tests.fuzz --seconds 60 [--target request] [--keep]
    python -m tests.fuzz --replay build/fuzz/findings/request-0123abcd

An input that reaches lines which none before it reached is kept and changed further. Inputs that
break something are stored in build/fuzz/findings, and the exit status is 1. With --keep, what
reached new lines is added to tests/fuzz/corpus, whose inputs every run of the tests replays.
"""

import argparse
import functools
import hashlib
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from tests.fuzz.mutation import change
from tests.fuzz.targets import TARGETS, is_finding, seeds

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
FINDINGS = ROOT / "build" / "fuzz" / "findings"

#: The code whose lines guide the search: what reads messages, and what checks and runs requests.
WATCHED = tuple(str(ROOT / name) for name in ("contract", "workers", "native_c"))

#: A message may cost time and memory in proportion to its few kilobytes, not more: one job's limit
#: and a step beyond it, and what it takes to answer the largest request of the fuzzer.
MOST_SECONDS = 5.0
MOST_MEMORY = 4 << 30


class Coverage:
    """Tells whether a call reaches lines that no call before it reached."""

    def __init__(self) -> None:
        self._seen: set[tuple[CodeType, int]] = set()
        self.was_new = False

    def __len__(self) -> int:
        return len(self._seen)

    def watch(self, call: Callable[[bytes], T], data: bytes) -> T:
        """Return what `call` returns; `was_new` then says whether it got somewhere new."""
        self.was_new = False
        watching = sys.gettrace()  # the tests' own coverage, say
        sys.settrace(self._enter)
        try:
            return call(data)
        finally:
            sys.settrace(watching)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(WATCHED) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if place not in self._seen:
            self._seen.add(place)
            self.was_new = True
        return self._line


def outcome(target: Callable[[bytes], None], data: bytes) -> str:
    """Return what is wrong with a target's answer to `data`, or nothing."""
    started = time.monotonic()
    try:
        target(data)
    except Exception as error:
        if is_finding(error):
            return "".join(traceback.format_exception(error))
    took = time.monotonic() - started
    return f"it took {took:.1f} s, expected {MOST_SECONDS} at most" if took > MOST_SECONDS else ""


def corpus_of(name: str) -> Iterator[bytes]:
    """Yield the good inputs of a target and those that were kept."""
    yield from seeds(name)
    for path in sorted((CORPUS / name).glob("*")):
        yield path.read_bytes()


def fuzz(name: str, seconds: float, draw: random.Random, keep: bool) -> int:
    """Fuzz one target for some time; return the number of findings."""
    coverage, inputs = Coverage(), list(corpus_of(name))
    judge = functools.partial(outcome, TARGETS[name])
    for data in inputs:
        coverage.watch(judge, data)
    known, tries, findings = len(inputs), 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and findings < 5:
        # The youngest inputs reached where the others did not: they get half of the tries.
        parent = draw.choice(inputs[-8:] if draw.random() < 0.5 else inputs)
        data = change(parent, inputs, draw)
        wrong = coverage.watch(judge, data)
        inputs += [data] * coverage.was_new
        tries += 1
        if wrong:
            findings += 1
            store(FINDINGS / f"{name}-{digest(data)}", data)
            print(f"finding in {name}: {data[:200]!r}\n{wrong}", flush=True)
    if keep:
        for data in inputs[known:]:
            store(CORPUS / name / digest(data), data)
    print(
        f"{name}: {tries} tries, {len(inputs)} inputs reach {len(coverage)} lines, "
        f"{findings} findings",
        flush=True,
    )
    return findings


def digest(data: bytes) -> str:
    """Return a name for an input."""
    return hashlib.sha256(data).hexdigest()[:16]


def store(path: Path, data: bytes) -> None:
    """Write an input to a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> int:
    """Fuzz the targets one after the other, or replay one input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--seed", type=int, default=None, help="defaults to another every time")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if asked.replay:
        wrong = outcome(TARGETS[asked.replay.name.partition("-")[0]], asked.replay.read_bytes())
        print(wrong or "nothing is wrong with the answer")
        return int(bool(wrong))
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    print(f"fuzzing with --seed {seed}", flush=True)
    names = asked.target or list(TARGETS)
    share = asked.seconds / len(names)
    found = [fuzz(name, share, random.Random(f"{seed} {name}"), asked.keep) for name in names]
    if any(found):
        print(f"{sum(found)} findings are in {FINDINGS}; --replay shows one of them")
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
