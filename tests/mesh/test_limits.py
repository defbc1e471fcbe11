"""Time limits, cancelling what runs, and workers of one's own: the same program in local mode and in a mesh."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dingo_zmq import App, Code, Result, current_task
from dingo_zmq.errors import SoftTimeLimit, TaskCancelled, TaskTimeout, UnknownFunction, UsageError
from tests.support import PATIENCE, wait_until

FOREVER = 3600.0


@pytest.fixture(params=["local", "mesh"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    app = App("mesh", discovery=["directory"], threads=2) if request.param == "mesh" else App("local", threads=2)
    yield app
    app.close(wait=False)


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """What stuck functions wait for; set at the end."""
    event = threading.Event()
    yield event
    event.set()


def serve(app: App) -> None:
    app.serve(name="both")


def ended(result: Result[Any]) -> tuple[Code, str]:
    """Wait for a failure; return its code and message."""
    failure = result.wait(PATIENCE).failure
    assert failure is not None
    return failure.code, failure.message


# ---------------------------------------------------------------------- time limits


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stuck_thread_is_given_up_and_another_takes_its_place(
    app: App, free: threading.Event, caplog: pytest.LogCaptureFixture, threads: int
) -> None:
    app.threads = threads
    back = threading.Semaphore(0)
    seen = []

    @app.task(time_limit=0.05)
    def stuck() -> None:
        free.wait(PATIENCE)
        seen.append(current_task().cancelled)
        back.release()

    @app.task
    def quick() -> int:
        return 7

    serve(app)
    with caplog.at_level(logging.WARNING):
        results = [stuck.call() for _ in range(5)]
        for result in results:
            assert ended(result) == (Code.TIMEOUT, "it ran longer than its time_limit of 0.05 s")
        with pytest.raises(TaskTimeout, match=r"time_limit of 0\.05 s"):
            results[0].result(0)
        assert quick.call().result(PATIENCE) == 7
    said = f"task stuck id {results[0].id} was ended after 0.05 s (time_limit); its thread goes on, and another"
    assert said in caplog.text
    free.set()
    for _ in range(5):
        assert back.acquire(timeout=PATIENCE)
    assert seen == [True] * 5
    assert [quick.call().result(PATIENCE) for _ in range(5)] == [7] * 5


def test_the_threads_given_up_end_when_they_come_back(app: App, free: threading.Event) -> None:
    gone: list[threading.Thread] = []

    def stuck() -> None:
        gone.append(threading.current_thread())
        free.wait(PATIENCE)

    task = app.register("stuck", stuck, time_limit=0.05)
    app.allocate("stuck", 1)
    serve(app)
    for _ in range(3):
        ended(task.call())
    assert len(set(gone)) == 3
    free.set()
    for thread in gone:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_coroutine_over_its_time_limit_is_cancelled(app: App) -> None:
    cancelled = threading.Event()

    @app.task
    async def sleeps() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    serve(app)
    assert ended(sleeps.options(time_limit=0.05).call())[0] is Code.TIMEOUT
    assert cancelled.wait(PATIENCE)


def test_in_time_nothing_happens(app: App) -> None:
    @app.task(time_limit=FOREVER, soft_time_limit=FOREVER / 2)
    def quick() -> float | None:
        return current_task().deadline

    @app.task(time_limit=FOREVER)
    async def later() -> float | None:
        await asyncio.sleep(0)
        return current_task().deadline

    @app.task
    def free() -> float | None:
        return current_task().deadline

    serve(app)
    now = time.monotonic()
    first, second = quick.call().result(PATIENCE), later.call().result(PATIENCE)
    assert first is not None
    assert now < first - FOREVER / 2 < now + PATIENCE
    assert second is not None
    assert now < second - FOREVER < now + PATIENCE
    assert free.call().result(PATIENCE) is None
    assert [quick.call().result(PATIENCE) is None for _ in range(200)] == [False] * 200


def checks() -> None:
    while True:
        current_task().check()
        time.sleep(0.001)


def tells() -> None:
    while True:
        current_task().progress()
        time.sleep(0.001)


async def waits() -> None:
    await asyncio.sleep(FOREVER)


@pytest.mark.parametrize("function", [checks, tells, waits])
def test_what_lets_the_soft_limit_pass_ends_with_timeout(app: App, function: Callable[[], Any]) -> None:
    task = app.register("task", function, soft_time_limit=0.05)
    serve(app)
    assert ended(task.call()) == (Code.TIMEOUT, "it ran longer than its soft_time_limit of 0.05 s")


def test_who_catches_the_soft_limit_succeeds(app: App) -> None:
    @app.task
    def careful() -> str:
        try:
            checks()
        except SoftTimeLimit as exc:
            current_task().check()  # told once
            current_task().progress()
            return str(exc)

    @app.task
    async def awaiting() -> list[bool]:
        try:
            await asyncio.gather(asyncio.sleep(FOREVER), asyncio.sleep(FOREVER))
        except SoftTimeLimit as exc:
            await asyncio.sleep(0)
            return [isinstance(exc, asyncio.CancelledError)]
        return []

    serve(app)
    said = "it ran longer than its soft_time_limit of 0.05 s"
    assert careful.options(soft_time_limit=0.05, time_limit=FOREVER).call().result(PATIENCE) == said
    assert awaiting.options(soft_time_limit=0.05).call().result(PATIENCE) == [True]
    assert awaiting.options(soft_time_limit=0.05).call().result(PATIENCE) == [True]


def test_a_task_group_is_left_in_order_at_the_soft_limit(app: App) -> None:
    """To asyncio it is a cancellation, so no child is left behind."""
    children: list[asyncio.Task[None]] = []

    @app.task(soft_time_limit=0.05)
    async def group() -> list[bool]:
        try:
            async with asyncio.TaskGroup() as tasks:
                children.append(tasks.create_task(asyncio.sleep(FOREVER)))
        except SoftTimeLimit:
            return [child.cancelled() for child in children]
        return []

    serve(app)
    assert group.call().result(PATIENCE) == [True]


# ---------------------------------------------------------------------- cancelling


class Stuck:
    """A thread that looks whether it is cancelled, once it may."""

    def __init__(self, finish: str) -> None:
        self.began, self.look, self.finish = threading.Event(), threading.Event(), finish

    def __call__(self) -> str:
        self.began.set()
        self.look.wait(PATIENCE)
        task = current_task()
        wait_until(lambda: task.cancelled, "cancelled")
        if self.finish == "check":
            task.check()
        if self.finish == "raise":
            raise ValueError("something else")
        return "done all the same"


def test_a_thread_that_is_cancelled_while_it_runs_may_give_in(app: App) -> None:
    function = Stuck("check")
    task = app.register("stuck", function)
    serve(app)
    result = task.call()
    assert function.began.wait(PATIENCE)
    assert result.cancel(running=True)
    function.look.set()
    assert ended(result) == (Code.CANCELLED, "cancelled while it ran")
    assert result.cancelled()
    with pytest.raises(TaskCancelled, match="while it ran"):
        result.result(0)


@pytest.mark.parametrize("finish", ["return", "raise"])
def test_a_thread_that_is_cancelled_need_not_give_in(app: App, finish: str) -> None:
    function = Stuck(finish)
    task = app.register("stuck", function)
    serve(app)
    result = task.call()
    assert function.began.wait(PATIENCE)
    assert result.cancel(running=True)
    assert not result.done()
    function.look.set()
    if finish == "return":
        assert result.result(PATIENCE) == "done all the same"
    else:
        assert ended(result) == (Code.RAISED, "something else")
    assert not result.cancelled()
    assert not result.cancel(running=True)


def test_a_coroutine_is_cancelled_at_its_await(app: App) -> None:
    began = threading.Semaphore(0)

    @app.task
    async def sleeps(stubborn: bool) -> str:
        began.release()
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            if not stubborn:
                raise
        await asyncio.sleep(0)
        return "stayed"

    serve(app)
    results = [sleeps.call(stubborn) for stubborn in (False, True)]
    for _ in results:
        assert began.acquire(timeout=PATIENCE)
    assert all(result.cancel(running=True) for result in results)
    assert ended(results[0]) == (Code.CANCELLED, "cancelled while it ran")
    assert results[1].result(PATIENCE) == "stayed"


def test_what_has_not_started_is_cancelled_before(app: App, free: threading.Event) -> None:
    began = threading.Semaphore(0)

    @app.task
    def stuck() -> str:
        began.release()
        free.wait(PATIENCE)
        return "free"

    serve(app)
    running = [stuck.call() for _ in range(2)]
    for _ in running:
        assert began.acquire(timeout=PATIENCE)
    waiting = [stuck.call() for _ in range(10)]
    assert all(result.cancel(running=True) for result in waiting)
    for result in waiting:
        assert ended(result) == (Code.CANCELLED, "cancelled before it started")
    free.set()
    assert [result.result(PATIENCE) for result in running] == ["free"] * 2


# ---------------------------------------------------------------------- workers of one's own


class Crowd:
    """A function that tells how many of it run at once."""

    def __init__(self, free: threading.Event) -> None:
        self.began, self.free = threading.Semaphore(0), free
        self.inside = 0

    def __call__(self) -> None:
        self.inside += 1
        self.began.release()
        self.free.wait(PATIENCE)
        self.inside -= 1

    def filled(self, count: int) -> bool:
        """Return whether so many are inside, and no more come."""
        for _ in range(count):
            assert self.began.acquire(timeout=PATIENCE)
        return not self.began.acquire(timeout=0.05)


def test_an_allocation_grows_while_it_serves(app: App, free: threading.Event) -> None:
    crowd = Crowd(free)
    task = app.register("crowd", crowd)
    workers = app.allocate("crowd", 1)
    assert (workers.count, workers.remaining) == (1, 1)
    serve(app)
    results = [task.call() for _ in range(8)]
    assert crowd.filled(1)
    assert workers.remaining == 0
    workers.resize(3)
    assert crowd.filled(2)
    assert (workers.count, workers.remaining, crowd.inside) == (3, 0, 3)
    free.set()
    assert [result.result(PATIENCE) for result in results] == [None] * 8


def test_an_allocation_shrinks_when_workers_are_done(app: App) -> None:
    gates = [threading.Event() for _ in range(8)]
    began = threading.Semaphore(0)
    at_work: set[int] = set()

    def step(number: int) -> None:
        at_work.add(number)
        began.release()
        gates[number].wait(PATIENCE)
        at_work.remove(number)

    task = app.register("step", step)
    workers = app.allocate("step", 3)
    serve(app)
    results = [task.call(number) for number in range(8)]
    for _ in range(3):
        assert began.acquire(timeout=PATIENCE)
    workers.resize(1)
    first, second, third = sorted(at_work)
    gates[first].set()
    gates[second].set()
    assert results[second].wait(PATIENCE).ok
    assert not began.acquire(timeout=0.05)
    assert at_work == {third}
    for gate in gates:
        gate.set()
    assert all(result.wait(PATIENCE).ok for result in results)
    assert workers.remaining == 0


def test_turns_of_a_coroutine_function_are_resized(app: App) -> None:
    started = 0
    let_go: list[asyncio.Event] = []

    async def turn() -> None:
        nonlocal started
        event = asyncio.Event()
        let_go.append(event)
        started += 1
        await event.wait()

    task = app.register("turn", turn)
    workers = app.allocate("turn", 1)
    serve(app)
    results = [task.call() for _ in range(4)]
    wait_until(lambda: started == 1, "one runs")
    workers.resize(3)
    wait_until(lambda: started == 3, "three run")
    assert workers.remaining == 0
    assert all(result.cancel(running=True) for result in results)
    assert {ended(result)[0] for result in results} == {Code.CANCELLED}


def test_each_worker_owns_what_the_factory_makes(app: App, free: threading.Event) -> None:
    made: list[threading.Thread] = []

    class Instrument:
        def __init__(self) -> None:
            made.append(threading.current_thread())
            self.count = 0

        def __call__(self) -> tuple[int, str, bool]:
            self.count += 1
            name = threading.current_thread().name
            free.wait(0.001)
            return self.count, name, threading.current_thread() in made

    def measure() -> tuple[int, str, bool]:
        raise AssertionError("only its signature is used")

    task = app.register("measure", measure)
    app.allocate("measure", 2, factory=Instrument)
    serve(app)
    seen = [result.result(PATIENCE) for result in [task.call() for _ in range(40)]]
    assert all(own for _, _, own in seen)
    assert len(made) == len({name for _, name, _ in seen}) <= 2
    for name in {name for _, name, _ in seen}:
        counts = [count for count, other, _ in seen if other == name]
        assert counts == list(range(1, len(counts) + 1))


def test_a_factory_that_fails(app: App) -> None:
    tries = 0

    def factory() -> Callable[[], int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("no such device")
        return 5 if tries == 2 else lambda: tries  # type: ignore[return-value]

    task = app.register("measure", lambda: 0)
    app.allocate("measure", 1, factory=factory)
    serve(app)
    assert ended(task.call()) == (Code.RAISED, "no such device")
    assert "must be callable, not 5" in ended(task.call())[1]
    assert task.call().result(PATIENCE) == 3
    assert task.call().result(PATIENCE) == 3


def test_allocating_wrongly(app: App) -> None:
    app.register("add", lambda: 0)
    app.register("later", waits)
    app.declare("elsewhere")
    workers = app.allocate("add", 1, 2)
    assert workers.share == app.registry["add"].settings["share"] == 2
    with pytest.raises(UsageError, match="add has workers of its own already; hint"):
        app.allocate("add", 1)
    with pytest.raises(UnknownFunction, match="'elsewhere' is only declared here"):
        app.allocate("elsewhere", 1)
    for count in (0, -1, True, "2", 1.5):
        with pytest.raises(UsageError, match="count must be at least 1, not"):
            app.allocate("later", count)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="count must be at least 1, not"):
            workers.resize(count)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="share must be a whole number of at least 0, not -1"):
        app.allocate("later", 1, -1)
    with pytest.raises(UsageError, match="it is a coroutine function, and has no threads"):
        app.allocate("later", 1, factory=lambda: waits)
    with pytest.raises(UsageError, match="something to call: 5"):
        app.register("sub", lambda: 0)
        app.allocate("sub", 1, factory=5)  # type: ignore[arg-type]
    assert workers.count == 1
