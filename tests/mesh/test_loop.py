"""The loop thread is a worker too: what it runs must never keep the I/O waiting for long."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from time import monotonic

import pytest
import zmq

from dingo_zmq import App
from dingo_zmq.mesh.poll import SelectorPoll
from dingo_zmq.mesh.reactor import SETTLED, Reactor

DEADLINE = 20


@pytest.fixture(params=[1, 2])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    """An App that serves and calls in this process."""
    app = App("mesh", threads=request.param, discovery=["directory"])
    yield app
    app.close(wait=False)


def test_a_short_function_that_suddenly_blocks_does_not_stop_the_node(app: App) -> None:
    """What was quick a hundred times waits once: the stand-by thread goes on with the I/O."""
    gate, inside = threading.Event(), threading.Event()

    def quick(block: bool) -> str:
        if block:
            inside.set()
            assert gate.wait(DEADLINE)
        return threading.current_thread().name

    async def other(x: int) -> int:
        return x + 1

    task, free = app.register("quick", quick), app.register("other", other)
    app.serve(name="both")
    names = {task.call(False).result(DEADLINE) for _ in range(100)}
    assert any(name.startswith("dingo-io") for name in names), "the loop thread took none of them"

    blocked = task.call(True)
    assert inside.wait(DEADLINE)
    assert [free.call(x).result(DEADLINE) for x in range(20)] == list(range(1, 21))
    assert not blocked.done()
    gate.set()
    blocked.result(DEADLINE)
    assert task.call(False).result(DEADLINE)


def test_tasks_longer_than_a_look_hand_the_loop_back(app: App) -> None:
    """Long and short tasks in turns, from several threads: each is answered, once."""
    lock = threading.Lock()
    ran: list[int] = []

    def mixed(number: int) -> int:
        if number % 7 == 0:
            threading.Event().wait(0.006)
        with lock:
            ran.append(number)
        return number * 2

    task = app.register("mixed", mixed)
    app.serve(name="both")
    results = [task.call(number) for number in range(400)]
    assert [result.result(DEADLINE) for result in results] == [2 * n for n in range(400)]
    assert sorted(ran) == list(range(400))


def test_a_task_can_call_and_wait_for_another(app: App) -> None:
    """A task of the loop thread that waits for a task: the stand-by thread sees to it."""

    async def inner(x: int) -> int:
        return x * x

    inner_task = app.register("inner", inner)

    def outer(x: int) -> int:
        return inner_task.call(x).result(DEADLINE) + 1

    task = app.register("outer", outer)
    app.serve(name="both")
    assert [task.call(x).result(DEADLINE) for x in range(60)] == [x * x + 1 for x in range(60)]


def test_closing_while_the_loop_thread_works_does_not_hang(app: App) -> None:
    """The App ends though a task of it does not."""
    gate, inside = threading.Event(), threading.Event()

    def stuck() -> None:
        inside.set()
        gate.wait(DEADLINE)

    task = app.register("stuck", stuck)
    app.serve(name="both")
    result = task.call()
    assert inside.wait(DEADLINE)
    app.close(wait=False)
    assert result.failure is not None
    assert result.failure.code.name == "SHUTDOWN"
    gate.set()


def test_coroutine_functions_can_have_workers_of_their_own(app: App) -> None:
    """Two slots for a coroutine function: never more than two at a time, and all are done."""
    running = most = 0

    async def counted(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        return number

    task = app.register("counted", counted)
    app.allocate("counted", 2)
    app.serve(name="both")
    assert [result.result(DEADLINE) for result in [task.call(n) for n in range(50)]] == list(range(50))
    assert 1 <= most <= 2


def test_where_there_is_no_epoll_selectors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop works on what all platforms have."""
    monkeypatch.setattr("dingo_zmq.mesh.reactor.new_poll", SelectorPoll)
    with App("mesh", discovery=["directory"]) as app:
        task = app.register("double", lambda x: 2 * x)
        app.serve(name="both")
        assert [task.call(x).result(DEADLINE) for x in range(50)] == [2 * x for x in range(50)]


class Rounds:
    """A part that counts how often it works; `due` is set once it has at the time that it asked for."""

    def __init__(self) -> None:
        self.wakeup = float("inf")
        self.count = 0
        self.due = threading.Event()

    def open(self, reactor: Reactor) -> None: ...

    def pending(self) -> bool:
        return False

    def work(self, now: float) -> bool:
        self.count += 1
        if now >= self.wakeup:
            self.wakeup = float("inf")
            self.due.set()
        return False

    def hand_out(self) -> None: ...

    def close(self, now: float) -> None: ...


@pytest.fixture
def rounds() -> Iterator[tuple[Reactor, Rounds]]:
    """A loop with one part."""
    reactor, part = Reactor(zmq.Context(), "dingo-test", lambda: None), Rounds()
    reactor.parts.append(part)
    reactor.start()
    yield reactor, part
    assert reactor.stop(DEADLINE)


def test_parts_rest_where_all_that_came_is_settled_but_no_longer_than_they_asked(
    rounds: tuple[Reactor, Rounds],
) -> None:
    reactor, part = rounds
    reading, writing = os.pipe()
    came = threading.Semaphore(0)

    def read() -> object:
        for _ in os.read(reading, 1000):
            came.release()
        return SETTLED

    reactor.ask(lambda: reactor.watch_fd(reading, read))
    before = reactor.ask(lambda: part.count)
    for _ in range(100):
        os.write(writing, b"x")
        assert came.acquire(timeout=DEADLINE)
    assert reactor.ask(lambda: part.count) - before < 5

    reactor.ask(lambda: setattr(part, "wakeup", monotonic() + 0.1))
    end = monotonic() + DEADLINE
    while not part.due.is_set():
        os.write(writing, b"x")
        assert came.acquire(timeout=DEADLINE)
        assert monotonic() < end, "it never rests for good, and comes to nothing else"
    reactor.ask(lambda: reactor.unwatch_fd(reading))
    os.close(reading)
    os.close(writing)
