"""Many calls with few open at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dingo_zmq.errors import TaskFailed, UsageError
from dingo_zmq.mapping import mapped
from dingo_zmq.model import Code, Failure
from dingo_zmq.result import Result


class Calls:
    """Makes results that a test settles, and is the owner of them all."""

    def __init__(self) -> None:
        self.made: list[Result[Any]] = []
        self.args: list[tuple[Any, ...]] = []
        self.cancelled: list[str] = []
        self.react: Callable[[Result[Any]], None] = lambda result: None

    def __call__(self, *args: Any) -> Result[Any]:
        result: Result[Any] = Result("f", str(len(self.made)), self)
        self.made.append(result)
        self.args.append(args)
        self.react(result)
        return result

    def cancel(self, result: Result[Any]) -> bool:
        self.cancelled.append(result.id)
        return True

    def why(self, result: Result[Any]) -> str:
        return "it waits"

    def call_soon(self, fn: Callable[..., object], *args: Any) -> None:
        fn(*args)


def at_once(result: Result[Any]) -> None:
    result._succeed(int(result.id))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_every_tuple_is_called_once(calls: Calls, ordered: bool, ahead: int) -> None:
    calls.react = at_once
    assert sorted(mapped(calls, ((n, "x") for n in range(10)), ahead, ordered)) == list(range(10))
    assert calls.args == [(n, "x") for n in range(10)]


@pytest.mark.parametrize("ordered", [True, False])
def test_nothing_is_sent_before_it_is_asked_for_and_no_more_than_allowed(calls: Calls, ordered: bool) -> None:
    calls.react = at_once
    answers = mapped(calls, ((n,) for n in itertools.count()), 3, ordered)
    assert calls.made == []
    for taken in range(1, 5):
        next(answers)
        assert len(calls.made) == taken + 3


@pytest.mark.parametrize("ordered", [True, False])
def test_no_tuples(calls: Calls, ordered: bool) -> None:
    assert list(mapped(calls, [], 3, ordered)) == []


def test_the_order_of_the_arguments(calls: Calls) -> None:
    calls.react = lambda result: len(calls.made) == 3 and [at_once(made) for made in reversed(calls.made)] or None
    assert list(mapped(calls, [(0,), (1,), (2,)], 3, ordered=True)) == [0, 1, 2]


def test_the_order_of_the_ends(calls: Calls) -> None:
    answers = mapped(calls, [(0,), (1,), (2,)], 3, ordered=False)
    calls.react = lambda result: result.id == "2" and at_once(result) or None
    assert next(answers) == 2
    at_once(calls.made[1])
    assert next(answers) == 1
    at_once(calls.made[0])
    assert list(answers) == [0]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failure_is_raised_in_its_place_and_the_rest_cancelled(calls: Calls, ordered: bool) -> None:
    def react(result: Result[Any]) -> None:
        if result.id == "0":
            at_once(result)
        elif result.id == "1":
            result._fail(Failure(Code.RAISED, "bad", "ValueError"))

    calls.react = react
    answers = mapped(calls, ((n,) for n in range(10)), 4, ordered)
    assert next(answers) == 0
    with pytest.raises(TaskFailed, match="bad"):
        next(answers)
    assert "2" in calls.cancelled
    assert list(answers) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_closing_it_cancels_what_is_open(calls: Calls, ordered: bool) -> None:
    calls.react = lambda result: result.id == "0" and at_once(result) or None
    answers: Any = mapped(calls, ((n,) for n in range(10)), 4, ordered)
    next(answers)
    answers.close()
    assert sorted(calls.cancelled) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("bad", [1, 5])
def test_a_call_that_raises_cancels_what_was_sent(calls: Calls, ordered: bool, bad: int) -> None:
    """Wrong arguments in the middle: among the first that are sent, or later."""

    def react(result: Result[Any]) -> None:
        if result.id == str(bad):
            calls.made.pop()
            raise UsageError("wrong")
        if bad == 5:
            at_once(result)

    calls.react = react
    with pytest.raises(UsageError, match="wrong"):
        list(mapped(calls, ((n,) for n in range(10)), 4, ordered))
    assert calls.cancelled == (["0"] if bad == 1 else calls.cancelled)


@pytest.mark.parametrize("ahead", [0, -1])
def test_looking_ahead_by_nothing(calls: Calls, ahead: int) -> None:
    with pytest.raises(UsageError, match="ahead must be at least 1"):
        mapped(calls, [], ahead, ordered=True)
