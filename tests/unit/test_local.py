"""Tasks on the threads of this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dingo_zmq import App, Code, Status, current_task
from dingo_zmq.errors import Busy, TaskCancelled, TaskFailed, TaskShutdown

PATIENCE = 10.0


@dataclass
class Row:
    a: int
    b: float = 0.5


@pytest.fixture
def app() -> Iterator[App]:
    app = App("local", threads=2)
    yield app
    app.close(wait=False)


class Held:
    """A function that waits to be let go, and tells that it has begun."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.free = threading.Event()
        self.ran: list[int] = []

    def __call__(self, number: int = 0) -> int:
        self.ran.append(number)
        self.began.release()
        self.free.wait(PATIENCE)
        return number


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.free.set()


def test_what_goes_in_and_out_is_corrected(app: App) -> None:
    @app.task
    def row(row: Row, rows: list[Row]) -> tuple[Row, ...]:
        return (row, *rows)

    assert row.call(Row(1), [Row(2, 1)]).result(PATIENCE) == (Row(1), Row(2, 1.0))


def test_nothing_is_copied(app: App) -> None:
    thing = object()
    app.register("same", lambda value: value)
    assert app.call("same", thing).result(PATIENCE) is thing


def test_coroutine_functions(app: App) -> None:
    @app.task
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert list(later.map(range(100))) == list(range(1, 101))
    assert asyncio.run(later.acall(1)) == 2


@pytest.mark.parametrize("exc", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("coroutine", [False, True])
def test_a_function_that_raises(app: App, exc: BaseException, coroutine: bool) -> None:
    def fails() -> None:
        raise exc

    async def fails_later() -> None:
        raise exc

    app.register("fails", fails_later if coroutine else fails)
    app.register("fine", lambda: 1)
    with pytest.raises(TaskFailed) as caught:
        app.call("fails").result(PATIENCE)
    failure = caught.value.failure
    assert failure.code is Code.RAISED
    assert failure.type.endswith(type(exc).__name__)
    assert "in fails" in failure.traceback
    assert "dingo_zmq" not in failure.traceback
    assert app.call("fine").result(PATIENCE) == 1


def test_a_return_of_the_wrong_type(app: App) -> None:
    @app.task
    def lie() -> int:
        return "three"  # type: ignore[return-value]

    with pytest.raises(TaskFailed, match=r"lie\(\), parameter 'return': expected int, got str 'three'") as caught:
        lie.call().result(PATIENCE)
    assert caught.value.failure.code is Code.DECODE


def test_reports_and_the_current_task(app: App) -> None:
    @app.task
    def steps(count: int) -> str:
        task = current_task()
        for number in range(count):
            task.progress(number / count, f"step {number}")
        return f"{task.name}/{task.id}/{task.attempt}"

    result = steps.options(monitor_progress=True).call(2)
    reports = list(result.reports(PATIENCE))
    assert [report.status for report in reports] == [Status.SENT, *[Status.PROGRESS] * 3, Status.SUCCESS]
    assert [report.value for report in reports[1:]] == [
        None,
        (0.0, "step 0"),
        (0.5, "step 1"),
        f"steps/{result.id}/1",
    ]
    assert [report.status for report in steps.call(2).reports(PATIENCE)] == [Status.SUCCESS]


def test_coroutines_know_their_own_task(app: App) -> None:
    @app.task
    async def who() -> str:
        before = current_task().id
        await asyncio.sleep(0)
        assert current_task().id == before
        return before

    results = [who.call() for _ in range(50)]
    assert [result.result(PATIENCE) for result in results] == [result.id for result in results]


def test_a_queued_task_is_cancelled_and_does_not_run(app: App, held: Held) -> None:
    app.register("held", held)
    running = [app.call("held", -1) for _ in range(2)]
    for _ in running:
        assert held.began.acquire(timeout=PATIENCE)
    queued = [app.call("held", number) for number in range(5)]
    assert "waits for one of the 2 workers" in queued[0].why()
    assert "running" in running[0].why()
    assert all(result.cancel() for result in queued)
    assert not running[0].cancel()
    with pytest.raises(TaskCancelled):
        queued[0].result(PATIENCE)
    held.free.set()
    assert [result.result(PATIENCE) for result in running] == [-1, -1]
    assert app.call("held", 9).result(PATIENCE) == 9
    assert held.ran == [-1, -1, 9]


def test_workers_of_its_own(app: App, held: Held) -> None:
    app.register("held", held)
    app.register("quick", lambda: 1)
    app.allocate("held", 3)
    slow = [app.call("held", number) for number in range(4)]
    for _ in range(3):
        assert held.began.acquire(timeout=PATIENCE)
    assert app.call("quick").result(PATIENCE) == 1
    assert len(held.ran) == 3
    held.free.set()
    assert [result.result(PATIENCE) for result in slow] == [0, 1, 2, 3]


def test_close_waits(app: App, held: Held) -> None:
    app.register("held", held)
    results = [app.call("held", number) for number in range(5)]
    closer = threading.Thread(target=app.close)
    closer.start()
    held.free.set()
    closer.join(PATIENCE)
    assert [result.result(0) for result in results] == list(range(5))


def test_close_without_waiting_settles_all(app: App, held: Held) -> None:
    app.register("held", held)
    results = [app.call("held", number) for number in range(5)]
    assert held.began.acquire(timeout=PATIENCE)
    app.close(wait=False)
    for result in results:
        with pytest.raises(TaskShutdown):
            result.result(0)
    assert len(held.ran) <= 2


def test_close_waits_no_longer_than_told(app: App, held: Held) -> None:
    app.register("held", held)
    result = app.call("held")
    app.close(timeout=0.01)
    assert result.nok


def test_an_exception_in_a_with_block_does_not_wait(held: Held) -> None:
    with pytest.raises(ZeroDivisionError), App("local") as app:
        app.register("held", held)
        result = app.call("held")
        1 / 0  # noqa: B018
    with pytest.raises(TaskShutdown):
        result.result(0)


def test_a_running_coroutine_is_cancelled_by_close(app: App) -> None:
    began, ended = threading.Event(), threading.Event()

    @app.task
    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    result = forever.call()
    assert began.wait(PATIENCE)
    app.close(wait=False)
    assert ended.wait(PATIENCE)
    with pytest.raises(TaskShutdown):
        result.result(0)


def test_close_while_others_call() -> None:
    """Whatever was accepted is settled."""
    for _ in range(30):
        app = App("local", threads=1)
        task = app.register("one", lambda: 1)
        task.call().result(PATIENCE)
        accepted: list[Any] = []
        going = threading.Event()

        def call(task: Any = task, accepted: Any = accepted, going: Any = going) -> None:
            try:
                while True:
                    accepted.append(task.call())
                    going.set()
            except Exception as exc:
                accepted.append(exc)

        caller = threading.Thread(target=call)
        caller.start()
        going.wait(PATIENCE)
        app.close(wait=False)
        caller.join(PATIENCE)
        *results, last = accepted
        assert "closed" in str(last)
        for result in results:
            result.wait(PATIENCE)


def test_callbacks(app: App) -> None:
    got: list[int] = []
    done = threading.Event()
    app.register("one", lambda: 1)

    def more(result: Any) -> None:
        got.append(app.call("one").result(PATIENCE) + result.result(0))
        done.set()

    app.call("one").add_done_callback(more)
    assert done.wait(PATIENCE)
    assert got == [2]


def test_the_end_of_a_with_block_comes_after_all_callbacks() -> None:
    got: list[int] = []
    with App("local") as app:
        task = app.register("double", lambda a: 2 * a)
        for number in range(1000):
            task.call(number).add_done_callback(lambda result: got.append(result.result(0)))
    assert sorted(got) == [2 * number for number in range(1000)]


def test_the_end_of_a_with_block_comes_after_all_results() -> None:
    for _ in range(50):
        with App("local") as app:
            results = [app.register("one", lambda: 1).call()]
        assert results[0].result(0) == 1


def test_many_threads_call(app: App) -> None:
    task = app.register("double", lambda a: 2 * a)
    totals: list[int] = []

    def call() -> None:
        totals.append(sum(result.result(PATIENCE) for result in [task.call(n) for n in range(500)]))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert totals == [2 * sum(range(500))] * 4


def test_the_bound_of_open_tasks_holds_here_too(held: Held) -> None:
    with App("local", threads=1, max_open=2) as app:
        task = app.register("held", held)

        async def main() -> None:
            for _ in range(2):
                task.call()
            with pytest.raises(Busy):
                task.call()
            held.free.set()

        asyncio.run(main())


def test_a_result_tells_when_it_is_late(app: App, held: Held) -> None:
    result = app.register("held", held).call()
    assert held.began.acquire(timeout=PATIENCE)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="it is running in this process"):
        result.result(0)
    assert time.monotonic() - began < PATIENCE
