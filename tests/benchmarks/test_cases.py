"""Each operation has a benchmark, and each benchmark says what it calls and checks what it gets."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from benchmarks.case import Case, call_text, cases_of, setup_text
from contract.families import FAMILIES, operations

ROOT = Path(__file__).parent.parent.parent
CASES = [case for family in FAMILIES for case in cases_of(family)]


def named(case: Case) -> str:
    return f"{case.operation}, {case.name}"


@pytest.mark.parametrize("operation", operations())
def test_each_operation_has_a_benchmark_that_shows_growth_and_memory(operation: str) -> None:
    assert any(case.operation == operation and case.grows for case in CASES)


def test_no_two_cases_have_one_name() -> None:
    names = [named(case) for case in CASES]
    assert len(set(names)) == len(names)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="family: 'alchemy', expected one of analytics"):
        cases_of("alchemy")


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_case_names_an_operation_of_its_family_and_a_peer(case: Case) -> None:
    assert case.operation in operations()
    assert case in cases_of(case.operation.partition(".")[0])
    assert case.peers


@pytest.mark.parametrize("case", CASES, ids=named)
def test_each_bar_stands_at_a_size_that_is_measured(case: Case) -> None:
    for peer in case.peers:
        assert set(peer.bars) <= set(case.sizes)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_ours_is_verified_at_the_smallest_size(case: Case) -> None:
    data = case.data(min(case.sizes))
    case.verify(case.ours(*data)(), *data)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_oracle_refuses_an_answer_that_is_off(case: Case) -> None:
    data = case.data(min(case.sizes))
    answer = case.ours(*data)()
    changed = {name: value + 1 for name, value in answer.items() if name not in ("warnings",)}
    with pytest.raises(AssertionError):
        case.verify(answer | changed, *data)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_peers_that_are_installed_agree_with_ours(case: Case) -> None:
    data = case.data(min(case.sizes))
    answer = case.ours(*data)()
    for peer in case.peers:
        if is_installed(peer.library):
            peer.agree(peer.prepare(*data)(), answer)


def is_installed(library: str) -> bool:
    try:
        return bool(version(library))
    except PackageNotFoundError:
        return False


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_text_of_each_call_can_be_shown(case: Case) -> None:
    for prepare in (case.ours, *(peer.prepare for peer in case.peers)):
        assert "lambda" not in call_text(prepare)
        assert '"""' not in setup_text(prepare)


def test_each_peer_is_in_the_extra_that_make_bench_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["dependencies"] + project["optional-dependencies"]["bench"]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in extra}
    assert {peer.library for case in CASES for peer in case.peers} <= names


def test_one_version_of_torch_is_asked_for_everywhere() -> None:
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "requirements/torch.txt")]
    versions = re.findall(r"\btorch==([0-9.]+)", "".join(texts))
    versions += re.findall(r'name = "torch"\nversion = "([0-9.]+)"', texts[0])
    assert len(versions) == 4
    assert len(set(versions)) == 1
