"""Handlers of results: what they are called with."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import pytest

from dingo_zmq.errors import ArgumentError, UsageError
from dingo_zmq.invoke import Handler


@dataclass
class Point:
    x: int
    y: float = 0.5


class Pair(NamedTuple):
    a: int
    b: int


def heard_by(wrap: Callable[[list[Any]], Callable[..., object]], value: Any) -> Any:
    heard: list[Any] = []
    Handler(wrap(heard), "on_ok")(value)
    (only,) = heard
    return only


def test_one_parameter_gets_the_value_whatever_it_is() -> None:
    for value in (5, None, (1, 2), [1, 2], Pair(1, 2)):
        assert heard_by(lambda heard: lambda v: heard.insert(0, v), value) is value
        assert heard_by(lambda heard: lambda v, more=5: heard.append(v), value) is value
        assert heard_by(lambda heard: lambda *v: heard.append(v), value) == (value,)
        assert heard_by(lambda heard: heard.append, value) is value


def test_several_parameters_get_the_items_of_a_tuple() -> None:
    assert heard_by(lambda heard: lambda a, b: heard.append([a, b]), (1, "x")) == [1, "x"]
    assert heard_by(lambda heard: lambda a, b, c=5: heard.append([a, b, c]), (1, "x")) == [1, "x", 5]
    assert heard_by(lambda heard: lambda a, b, *c: heard.append([a, b, c]), (1, 2, 3, 4)) == [1, 2, (3, 4)]


def test_no_parameter_is_called_without() -> None:
    assert heard_by(lambda heard: lambda: heard.append("called"), 5) == "called"


def test_what_has_no_signature_gets_the_value() -> None:
    into: queue.SimpleQueue[Any] = queue.SimpleQueue()
    Handler(into.put, "on_ok")((1, 2))
    Handler(int, "on_ok")("5")
    Handler(Point, "on_ok")(5)
    with pytest.raises(ValueError, match="invalid literal"):
        Handler(int, "on_ok")("five")
    assert into.get_nowait() == (1, 2)


@pytest.mark.parametrize("value", [(1, 2, 3), (1,), 5, [1, 2], Pair(1, 2)])
def test_a_value_that_cannot_be_spread_is_an_error(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"pair\(\): expected a tuple of 2 values, got "):
        Handler(pair, "on_ok")(value)


def pair(a: int, b: str) -> None:
    raise AssertionError("not to be called")


def test_parameters_are_corrected_as_returns_are() -> None:
    heard: list[Any] = []

    def on_float(value: float) -> None:
        heard.append(value)

    def on_point(point: Point) -> None:
        heard.append(point)

    def on_both(point: Point, day: date) -> None:
        heard.append((point, day))

    def on_many(*days: date) -> None:
        heard.append(days)

    Handler(on_float, "on_ok")(3)
    Handler(on_point, "on_ok")({"x": 1})
    Handler(on_point, "on_ok")(Point(2, 1))
    Handler(on_both, "on_ok")(({"x": 3}, "2026-02-28"))
    Handler(on_many, "on_ok")("2026-02-28")

    day = date(2026, 2, 28)
    assert heard == [3.0, Point(1), Point(2, 1.0), (Point(3), day), (day,)]
    assert type(heard[0]) is float


def test_a_value_that_does_not_fit_is_an_error_that_names_the_parameter() -> None:
    with pytest.raises(ArgumentError, match=r"pair\(\), parameter 'b': expected str, got int 3"):
        Handler(pair, "on_ok")((1, 3))
    with pytest.raises(ArgumentError, match=r"pair\(\), parameter 'b': expected str, got object "):
        Handler(pair, "on_ok")((1, object()))


def test_a_handler_of_failures_is_not_corrected() -> None:
    heard: list[Any] = []

    def hear(failure: object, word: queue.SimpleQueue[int] | None = None) -> None:
        heard.append(failure)

    Handler(hear, "on_nok", correct=False)("x")
    assert heard == ["x"]


def test_what_can_never_be_called_is_an_error_at_once() -> None:
    def by_name(value: int, *, word: str) -> None: ...

    def strange(value: queue.SimpleQueue[int]) -> None: ...

    def unresolved(value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for fn, text in (
        (5, r"add/1: on_ok: a handler must be callable, not 5"),
        (by_name, r"add/1: on_ok: by_name\(\) needs 'word' by name"),
        (strange, r"strange\(\), parameter 'value': annotation .* is not supported: .*; hint: leave it out"),
        (unresolved, r"an annotation does not resolve"),
    ):
        with pytest.raises(UsageError, match=text):
            Handler(fn, "add/1: on_ok")  # type: ignore[arg-type]
