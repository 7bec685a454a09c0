"""Which twins run, and what is said when they are not the ones that were hoped for."""

import importlib.util
import inspect
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import native_c
from native_c import backend, extension, mcts, self_test
from native_c.errors import ExtensionMissing, InvalidArgument, UnknownBackend, Unsupported

REQUEST: dict[str, Any] = {"visits": [[3, 1]], "value_sums": [[1.0, 0.5]], "parent_visits": [4]}


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that chooses a backend anew, under the environment it is given."""

    def choose(**environment: str) -> Any:
        for variable in ("NATIVE_C_BACKEND", "NATIVE_C_SIMD", "NATIVE_C_THREADS"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(f"NATIVE_C_{variable}", value)
        monkeypatch.setattr(backend, "_loaded", None)
        monkeypatch.setattr(backend, "_fallback_reason", "")
        return native_c.info()

    return choose


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the extension, as where no compiler was."""
    monkeypatch.setitem(sys.modules, "native_c.compiled", None)


def test_auto_takes_the_kernels_where_they_are(compiled: Any, start: Any) -> None:
    assert start()["backend"] == "compiled"
    assert start(BACKEND="auto")["backend"] == "compiled"
    assert start()["fallback_reason"] == ""


def test_a_missing_extension_means_numpy_with_one_warning(
    start: Any, without_extension: None
) -> None:
    with pytest.warns(RuntimeWarning, match="NumPy fallback: the extension ") as told:
        info = start()
    mcts.ucb1_selection(**REQUEST)  # a second warning would be an error
    assert len(told) == 1
    assert native_c.info() == info
    assert info["backend"] == "fallback"
    assert "the extension " in info["fallback_reason"]


def test_a_demanded_but_missing_extension_is_an_error(start: Any, without_extension: None) -> None:
    with pytest.raises(ExtensionMissing, match="the extension "):
        start(BACKEND="compiled")
    with pytest.raises(ExtensionMissing, match="the extension "), native_c.use_backend("compiled"):
        pass


def test_an_extension_that_was_never_built_is_told_apart(
    start: Any, without_extension: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtensionMissing, match="the extension was not built"):
        start(BACKEND="compiled")


def test_a_demanded_fallback_is_taken_without_a_word(start: Any, without_extension: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = start(BACKEND="fallback")
    assert (info["backend"], info["fallback_reason"]) == ("fallback", "")


def test_an_extension_of_another_version_is_not_used(
    compiled: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "__version__", "9.9.9")
    with pytest.raises(ExtensionMissing, match=r"version .*, expected 9\.9\.9"):
        start(BACKEND="compiled")


def test_kernels_that_disagree_with_numpy_are_not_used(
    compiled: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from native_c.compiled import mcts as kernels

    def wrong(*arguments: Any) -> None:
        arguments[-2].fill(1.0)
        arguments[-1].fill(0)

    monkeypatch.setattr(kernels, "ucb1_selection", wrong)
    with pytest.raises(ExtensionMissing, match=r"mcts\.ucb1_selection disagrees with NumPy"):
        start(BACKEND="compiled")
    with pytest.warns(RuntimeWarning, match="disagrees with NumPy"):
        assert start()["backend"] == "fallback"


def test_kernels_that_fail_the_self_test_are_not_used(
    compiled: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from native_c.compiled import mcts as kernels

    monkeypatch.delattr(kernels, "ucb1_selection")
    with pytest.raises(ExtensionMissing, match=r"self-test of mcts\.ucb1_selection failed"):
        start(BACKEND="compiled")


@pytest.mark.parametrize(
    ("variable", "value", "error", "expected"),
    [
        ("BACKEND", "fast", UnknownBackend, "'fast', expected one of auto, compiled, fallback"),
        ("SIMD", "sse9", Unsupported, "'sse9', expected one of portable, avx2, avx512, neon"),
        ("THREADS", "many", InvalidArgument, "'many', expected a number from 1 to 256"),
        ("THREADS", "0", InvalidArgument, "'0', expected a number from 1 to 256"),
        ("THREADS", "257", InvalidArgument, "'257', expected a number from 1 to 256"),
        ("THREADS", "-1", InvalidArgument, "'-1', expected a number from 1 to 256"),
    ],
)
def test_an_unknown_word_in_the_environment_is_an_error_that_lists_the_legal_ones(
    start: Any, variable: str, value: str, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        start(**{variable: value})
    assert str(caught.value) == f"NATIVE_C_{variable}: {expected}"


def test_an_instruction_set_of_another_processor_is_an_error(compiled: Any, start: Any) -> None:
    foreign = set(extension.SIMD_LEVELS) - set(extension.supported_simd())
    for level in foreign:
        with pytest.raises(
            Unsupported, match=rf"NATIVE_C_SIMD: '{level}', expected one of portabl"
        ):
            start(SIMD=level)


def test_the_environment_sets_instruction_set_and_threads(compiled: Any, start: Any) -> None:
    for level in extension.supported_simd():
        info = start(SIMD=level, THREADS="3")
        assert (info["simd"], info["threads"]) == (level, 3)


def test_the_settings_can_be_changed_and_are_checked(compiled: Any) -> None:
    native_c.set_threads(2)
    native_c.set_simd("portable")
    with native_c.use_backend("compiled"):
        assert native_c.info()["threads"] == 2
        assert native_c.info()["simd"] == "portable"
    with pytest.raises(InvalidArgument, match="threads: 0, expected 1 to 256"):
        native_c.set_threads(0)
    with pytest.raises(Unsupported, match="simd: 'mmx', expected one of portable"):
        native_c.set_simd("mmx")


def test_a_block_can_choose_its_twins(compiled: Any) -> None:
    for name in ("compiled", "fallback", "compiled"):
        with native_c.use_backend(name) as chosen:
            assert native_c.current() is chosen
            assert native_c.info()["backend"] == name
            mcts.ucb1_selection(**REQUEST)
            assert native_c.made()["backend"] == name
            assert native_c.made()["threads"] == 1


def test_a_choice_of_twins_ends_with_its_block_and_stays_in_its_thread(compiled: Any) -> None:
    before = native_c.current().name
    seen = []
    with native_c.use_backend("fallback"):
        thread = threading.Thread(target=lambda: seen.append(native_c.current().name))
        thread.start()
        thread.join()
    assert seen == [before]
    assert native_c.current().name == before


def test_an_unknown_choice_of_twins_is_refused() -> None:
    with pytest.raises(UnknownBackend, match="'auto', expected one of compiled, fallback"):
        native_c.use_backend("auto").__enter__()


@pytest.mark.parametrize("family", native_c.families)
def test_the_self_test_has_a_case_of_every_operation(family: str) -> None:
    facade = getattr(native_c, family)
    tested = {operation.__name__ for operation, _ in facade.SELF_TEST}
    assert tested == signatures(facade).keys()


@pytest.mark.parametrize("family", native_c.families)
def test_the_twins_have_the_same_functions_with_the_same_arguments(
    compiled: Any, family: str
) -> None:
    ours, numpys = (
        signatures(importlib.import_module(f"native_c.{twin}.{family}")) for twin in backend.TWINS
    )
    assert ours
    assert ours == numpys


def signatures(module: ModuleType) -> dict[str, list[str]]:
    """Return the public functions that `module` defines, and the names of their parameters."""
    return {
        name: list(inspect.signature(function).parameters)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_names_that_are_no_family_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="sorcery: not a family, expected one of"):
        _ = native_c.current().sorcery
    with pytest.raises(AttributeError, match="no attribute 'sorcery'"):
        _ = native_c.sorcery


def test_the_self_test_takes_under_twenty_milliseconds_per_family(compiled: Any) -> None:
    self_test.run_self_test()  # the first run imports the modules
    seconds = min(_seconds(self_test.run_self_test) for _ in range(5))
    assert seconds < 0.02 * len(native_c.families)


def _seconds(function: Callable[[], object]) -> float:
    from time import perf_counter

    begin = perf_counter()
    function()
    return perf_counter() - begin


@pytest.mark.parametrize(
    ("numpys", "same"),
    [
        ({"a": np.array([1.0, np.nan])}, True),
        ({"a": np.array([1.0 + 1e-12, np.nan])}, True),
        ({"a": np.array([1.0 + 1e-6, np.nan])}, False),
        ({"a": np.array([1.0])}, False),
        ({"a": np.array([1, 2])}, False),
        ({"b": np.array([1.0, np.nan])}, False),
    ],
)
def test_results_agree_when_names_shapes_and_values_do(numpys: Any, same: bool) -> None:
    assert self_test.agree({"a": np.array([1.0, np.nan])}, numpys) is same


@pytest.mark.parametrize(("numpys", "same"), [((1, "x"), True), ((2, "x"), False)])
def test_values_that_are_no_floats_agree_exactly(numpys: tuple[int, str], same: bool) -> None:
    ours = {"count": 1, "words": ("x",)}
    other = {"count": numpys[0], "words": (numpys[1],)}
    assert self_test.agree(ours, other) is same


def test_the_headers_version_statuses_and_levels_are_those_of_python(compiled: Any) -> None:
    lib = compiled.lib
    assert compiled.ffi.string(lib.nc_version()).decode() == native_c.__version__
    levels = [getattr(lib, f"NC_SIMD_{name.upper()}") for name in extension.SIMD_LEVELS]
    assert levels == list(range(lib.NC_SIMD_LEVELS))
    assert lib.nc_set_threads(extension.MAX_THREADS + 1) == lib.NC_INVALID


def test_a_fresh_process_loads_nothing_until_it_is_asked() -> None:
    script = """
import sys, native_c
assert not [name for name in sys.modules if name.startswith(("native_c._k", "native_c.c"))]
print(native_c.info()["backend"])
"""
    environment = os.environ | {"NATIVE_C_BACKEND": "fallback"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "fallback\n"


def test_threads_that_ask_first_at_once_get_one_answer_and_one_warning(
    start: Any, without_extension: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(backend, "warnings", SimpleNamespace(warn=lambda *a, **k: told.append(a)))
    start()
    monkeypatch.setattr(backend, "_loaded", None)
    told.clear()
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        assert native_c.current().name == "fallback"

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1


@pytest.mark.parametrize("built_by", ["other headers", None])
def test_an_extension_that_is_older_than_its_headers_is_not_called(built_by: str | None) -> None:
    told = {} if built_by is None else {"nc_headers": lambda: built_by.encode()}
    lib = SimpleNamespace(nc_version=lambda: native_c.__version__.encode(), **told)
    ffi = SimpleNamespace(string=lambda text: text)
    with pytest.raises(ExtensionMissing, match=r"older than its headers, expected `make build`"):
        extension._require_fit.__wrapped__(SimpleNamespace(lib=lib, ffi=ffi), native_c.__version__)
