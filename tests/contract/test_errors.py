"""The tree of errors: codes that stay, words, and every way across a process."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery.utils.serialization import get_pickleable_exception

import producers
from contract import errors
from contract.errors import ERRORS, GristmillError

#: Codes are names on the wire, in logs and in metrics: none of these may ever change.
CODES = {
    "error": "GristmillError",
    "invalid_request": "InvalidRequest",
    "message_error": "MessageError",
    "compute_error": "ComputeError",
    "transient_error": "TransientError",
    "internal_error": "InternalError",
    "job_cancelled": "JobCancelled",
    "deadline_exceeded": "DeadlineExceeded",
    "result_timeout": "ResultTimeout",
    "queue_full": "QueueFull",
    "broker_unavailable": "BrokerUnavailable",
}


def test_codes_are_stable() -> None:
    assert {code: error.__name__ for code, error in ERRORS.items()} == CODES


def test_every_error_of_the_module_has_a_code_of_its_own() -> None:
    declared = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, GristmillError)
    ]
    assert {error.code for error in declared} == set(ERRORS)
    assert len(declared) == len(ERRORS)


def test_only_a_transient_error_is_worth_another_try() -> None:
    assert [error for error in ERRORS.values() if error.retryable] == [errors.TransientError]


def test_errors_are_what_python_calls_them_too() -> None:
    assert issubclass(errors.InvalidRequest, ValueError)
    assert issubclass(errors.ResultTimeout, TimeoutError)
    assert issubclass(errors.BrokerUnavailable, ConnectionError)


def test_apps_find_every_error_where_they_find_the_client() -> None:
    for error in ERRORS.values():
        assert getattr(producers, error.__name__) is error
        assert error.__name__ in producers.__all__


@pytest.mark.parametrize("error", ERRORS.values())
def test_each_docstring_says_when_it_is_raised(error: type[GristmillError]) -> None:
    assert error.__doc__ is not None
    assert error.__doc__.startswith("Raised when ")
    assert str(error()) == error.__doc__.splitlines()[0]


ARGUMENTS: list[tuple[Any, ...]] = [
    (),
    ("values: it is so, expected otherwise",),
    ("the message", "Traceback (most recent call last): ..."),
    ("the message", 7, None),
    ("the message", {"a": [1]}, "b", "c", "d"),
    ("",),
    ("umlauts ä and braces {x} %s",),
    (None,),
    (7,),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=len)
@pytest.mark.parametrize("error", ERRORS.values())
def test_an_error_is_its_arguments_on_every_road(error, arguments: tuple[Any, ...]) -> None:
    raised = error(*arguments)
    copies = [
        raised,
        pickle.loads(pickle.dumps(raised)),
        copy.copy(raised),
        copy.deepcopy(raised),
        pickle.loads(pickle.dumps(get_pickleable_exception(raised))),
    ]
    for one in copies:
        assert type(one) is error
        assert one.args == arguments
        expected = str(arguments[0]) if arguments else str(error())
        assert str(one) == expected


@pytest.mark.parametrize("error", ERRORS.values())
def test_an_error_reaches_the_workers_parent_whole(error: type[GristmillError]) -> None:
    try:
        raise error("the message", "detail")
    except GristmillError:
        info = ExceptionInfo()
    carried = pickle.loads(pickle.dumps(info)).exception
    carried = getattr(carried, "exc", carried)
    assert type(carried) is error
    assert carried.args == ("the message", "detail")


def _raise(code: str) -> None:
    raise ERRORS[code]("the message", "detail")


def test_errors_cross_processes_of_the_standard_library() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for code, error in ERRORS.items():
            with pytest.raises(error, match=r"^the message$") as caught:
                pool.submit(_raise, code).result()
            assert caught.value.args == ("the message", "detail")


def test_the_tree_needs_nothing_beyond_the_standard_library() -> None:
    listing = "import sys, contract.errors; print('numpy' in sys.modules, 'celery' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "False"]
