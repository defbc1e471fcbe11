"""`App("local", wire=True)`: in one process, but everything is encoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dingo_zmq import App, Code, current_task
from dingo_zmq.errors import ArgumentError, BodyTooLarge, EncodeError, TaskFailed

PATIENCE = 10.0


@pytest.fixture
def app() -> Iterator[App]:
    app = App("local", wire=True, threads=2, limit=100_000)
    yield app
    app.close(wait=False)


class Thing:
    """What cannot travel."""

    @staticmethod
    def make() -> Any:
        return Thing()


def test_what_cannot_travel_is_found_at_the_call(app: App) -> None:
    app.register("same", lambda value: value)
    for bad in (Thing(), [Thing()], open, 2**70):
        with pytest.raises(EncodeError):
            app.call("same", bad)
    plain = App("local")
    plain.register("same", lambda value: value)
    thing = Thing()
    assert plain.call("same", thing).result(PATIENCE) is thing
    plain.close()


@pytest.mark.parametrize("coroutine", [False, True])
def test_a_return_that_cannot_travel_fails_the_task(app: App, coroutine: bool) -> None:
    async def later() -> Any:
        return Thing()

    app.register("make", later if coroutine else Thing.make)
    failure = app.call("make").wait(PATIENCE).failure
    assert failure is not None
    assert failure.code is Code.ENCODE
    assert "make(), return: a value of type Thing cannot travel" in failure.message


def test_values_come_as_they_would_from_far_away(app: App) -> None:
    app.register("same", lambda value: value)
    shared = {"a": (1, 2), "b": [3]}
    got = app.call("same", shared).result(PATIENCE)
    assert got == {"a": [1, 2], "b": [3]}  # no type is known, so a tuple comes as a list
    assert got["b"] is not shared["b"]


def test_functions_do_not_share_memory_with_their_callers(app: App) -> None:
    @app.task
    def fill(data: bytearray) -> bytearray:
        data[:] = b"x" * len(data)
        return data

    for size in (10, 70_000):
        mine = bytearray(size)
        assert fill.call(mine).result(PATIENCE) == b"x" * size
        assert mine == bytes(size)


def test_types_are_checked_as_ever(app: App) -> None:
    @app.task
    def add(a: int, b: int = 5) -> int:
        return a + b if b else "none"  # type: ignore[return-value]

    assert add.call(1, b=2).result(PATIENCE) == 3
    with pytest.raises(ArgumentError, match="expected int, got str '1'"):
        add.call("1")  # type: ignore[arg-type]
    with pytest.raises(TaskFailed, match="expected int, got str 'none'"):
        add.call(1, 0).result(PATIENCE)


def test_the_body_limit_holds(app: App) -> None:
    app.register("size", len)
    app.register("make", lambda: bytes(200_000))
    with pytest.raises(BodyTooLarge, match="over the body limit of 100,000"):
        app.call("size", bytes(200_000))
    with pytest.raises(TaskFailed, match="the return takes 200,0.. bytes, over the body limit"):
        app.call("make").result(PATIENCE)


def test_failures_and_progress_are_encoded_too(app: App) -> None:
    @app.task
    def work() -> None:
        current_task().progress(1, "\ud800 half")
        raise ValueError("long " * 10_000)

    result = work.options(monitor_progress=True).call()
    assert [report.value for report in result.reports(PATIENCE)][2] == (1.0, "\\ud800 half")
    assert result.failure is not None
    assert result.failure.type == "ValueError"
    assert len(result.failure.message) < 5000


def test_ids_are_counted_as_in_local_mode(app: App) -> None:
    app.register("one", lambda: 1)
    assert [app.call("one").id for _ in range(3)] == ["1", "2", "3"]
