"""The circuit breaker, on a clock of the test's own."""

import threading

from workers.breaker import CLOSED, FAILURES, HALF_OPEN, OPEN, OPEN_SECONDS, WINDOW_SECONDS, Breaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def failing(breaker: Breaker, times: int = FAILURES) -> None:
    for _ in range(times):
        ticket = breaker.admit()
        assert ticket is not None
        breaker.fail(ticket)


def test_the_figures_are_three_a_minute_and_half_a_minute() -> None:
    assert (FAILURES, WINDOW_SECONDS, OPEN_SECONDS) == (3, 60, 30)


def test_three_failures_in_a_minute_open_it() -> None:
    breaker = Breaker(Clock())
    failing(breaker, 2)
    assert breaker.state == CLOSED
    failing(breaker, 1)
    assert breaker.state == OPEN
    assert breaker.admit() is None


def test_failures_further_apart_do_not_open_it() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(20):
        failing(breaker, 1)
        clock.now += WINDOW_SECONDS / 2
    assert breaker.state == CLOSED


def test_successes_between_them_do_not_make_failures_rarer() -> None:
    breaker = Breaker(Clock())
    for _ in range(FAILURES):
        failing(breaker, 1)
        if (ticket := breaker.admit()) is not None:
            breaker.succeed(ticket)
    assert breaker.state == OPEN


def test_after_half_a_minute_one_job_tries_and_the_others_wait() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker)
    clock.now += OPEN_SECONDS - 0.1
    assert breaker.admit() is None
    clock.now += 0.2
    trial = breaker.admit()
    assert trial is not None
    assert breaker.state == HALF_OPEN
    assert [breaker.admit() for _ in range(5)] == [None] * 5
    breaker.succeed(trial)
    assert breaker.state == CLOSED
    assert breaker.admit() is not None


def test_a_trial_that_fails_opens_it_again_for_as_long() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker)
    clock.now += OPEN_SECONDS
    failing(breaker, 1)
    assert breaker.state == OPEN
    clock.now += OPEN_SECONDS - 1
    assert breaker.admit() is None
    clock.now += 1
    assert breaker.admit() is not None


def test_a_trial_that_said_nothing_leaves_it_to_the_next_job() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker)
    clock.now += OPEN_SECONDS
    trial = breaker.admit()
    assert trial is not None
    breaker.give_back(trial)
    assert breaker.state == HALF_OPEN
    assert breaker.admit() is not None


def test_once_closed_it_forgets_what_was() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker)
    clock.now += OPEN_SECONDS
    trial = breaker.admit()
    assert trial is not None
    breaker.succeed(trial)
    failing(breaker, FAILURES - 1)
    assert breaker.state == CLOSED


def test_a_job_from_before_a_change_decides_nothing() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    early = [breaker.admit() for _ in range(4)]
    failing(breaker)
    clock.now += OPEN_SECONDS
    trial = breaker.admit()
    assert trial is not None
    for ticket in early:
        assert ticket is not None
        breaker.succeed(ticket)
        breaker.fail(ticket)
        breaker.give_back(ticket)
    assert breaker.state == HALF_OPEN
    assert breaker.admit() is None


def test_each_change_is_told_once() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    assert breaker.take_changes() == []
    failing(breaker)
    assert breaker.take_changes() == [OPEN]
    clock.now += OPEN_SECONDS
    trial = breaker.admit()
    assert trial is not None
    breaker.succeed(trial)
    assert breaker.take_changes() == [HALF_OPEN, CLOSED]
    assert breaker.take_changes() == []


def test_of_many_threads_one_is_the_trial() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    failing(breaker)
    clock.now += OPEN_SECONDS
    barrier, admitted = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        admitted.append(breaker.admit())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(ticket is not None for ticket in admitted) == 1
