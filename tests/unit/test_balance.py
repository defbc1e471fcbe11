"""The ledger that balances, in local and remote mode; `tests.mesh.test_ledger` has the mesh."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq import App, Code, Ledger, chain, current_task, group
from dingo_zmq.errors import Busy, Closed, UsageError
from dingo_zmq.local_broker import LocalBackend, LocalBroker
from tests.support import PATIENCE, settled, wait_until


class Steps:
    """Functions of every outcome, one of which waits to be let go."""

    def __init__(self) -> None:
        self.began, self.free = threading.Semaphore(0), threading.Event()

    def fine(self, n: int = 0) -> int:
        return n

    def bad(self) -> int:
        raise ValueError("no")

    def flaky(self) -> int:
        if current_task().attempt == 1:
            raise ValueError("once")
        return 1

    def held(self) -> None:
        self.began.release()
        self.free.wait(PATIENCE)

    def count(self, most: int) -> Iterator[int]:
        yield from range(most)


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    yield steps
    steps.free.set()


@pytest.fixture(params=["local", "wire", "remote"])
def app(request: pytest.FixtureRequest, steps: Steps) -> Iterator[App]:
    mode = request.param
    app = App("remote" if mode == "remote" else "local", threads=1, wire=mode == "wire")
    for name in ("fine", "bad", "flaky", "held", "count"):
        app.register(name, getattr(steps, name))
    if mode == "remote":
        app.use(LocalBroker())
        app.use(LocalBackend())
        app.serve()
    yield app
    app.close(wait=False)


def test_before_the_first_call(app: App) -> None:
    assert app.ledger().called == app.ledger().open == 0


def test_every_outcome_is_counted_once(app: App, steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    held = app.call("held")
    assert steps.began.acquire(timeout=PATIENCE)
    late = app.options(expires=0.05).call("fine")
    unwanted = app.call("fine")
    results = [app.call("fine", n) for n in range(5)] + [app.call("bad")]
    retried = app.options(retries=1).call("flaky")
    app.options(ignore_report=True).call("fine")
    app.options(ignore_report=True).call("bad")
    stream = app.stream("count", 3)
    assert unwanted.cancel(running=True)
    with pytest.raises(UsageError):
        app.options(nonsense=1).call("fine")
    late.wait(PATIENCE)
    (first,) = [task for task in app.ledger().tasks if task.name == "held"]
    assert (first.id, first.attempt) == (held.id, 1)
    assert first.started
    assert 0 < first.age < PATIENCE
    steps.free.set()
    for result in (*results, unwanted, retried, stream.result):
        result.wait(PATIENCE)
    assert list(stream) == [0, 1, 2]
    wait_until(lambda: not app.ledger().open, "all are settled")
    app.close()
    ledger = settled(app.ledger())
    assert str(ledger) == "called 13 = 9 ok + 2 failed + 1 cancelled + 1 expired + 0 open"
    assert ledger.codes == {Code.RAISED: 2, Code.CANCELLED: 1, Code.EXPIRED: 1}
    assert f"closed; {ledger}" in caplog.text


def test_what_is_open_at_the_end_is_warned_of(app: App, steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    results = [app.call("held") for _ in range(3)]
    assert steps.began.acquire(timeout=PATIENCE)
    assert (app.ledger().open, len(app.ledger().tasks)) == (3, 3)
    app.close(wait=False)
    assert all(result.nok for result in results)
    assert settled(app.ledger()).codes == {Code.SHUTDOWN: 3}
    assert "closed; 3 tasks ended with FAIL/SHUTDOWN; called 3 = 0 ok + 3 failed" in caplog.text
    with pytest.raises(Closed):
        app.call("fine")
    assert app.ledger().called == 3


def test_flows_are_counted_by_their_tasks(app: App) -> None:
    fine = app._tasks["fine"]
    assert chain(fine.bind(1), fine.bind(), fine.bind()).call().result(PATIENCE) == 1
    assert group(fine.bind(n) for n in range(4)).call().result(PATIENCE) == [0, 1, 2, 3]
    assert app.call("fine", app.call("fine", 7)).result(PATIENCE) == 7
    assert chain(app._tasks["bad"].bind(), fine.bind()).call().wait(PATIENCE).failure is not None
    app.close()
    assert str(settled(app.ledger())).startswith("called 10 = 9 ok + 1 failed")


def test_it_balances_in_the_middle_of_load(app: App) -> None:
    """Whoever looks, from whatever thread; what has ended stays so."""
    over, wrong = threading.Event(), list[Any]()

    def look() -> None:
        before = Ledger()
        while not over.is_set():
            now = app.ledger()
            sums = now.ok + now.failed + now.cancelled + now.expired + now.open
            rising = all(getattr(now, name) >= getattr(before, name) for name in ("called", "ok", "failed"))
            if now.called != sums or now.open < len(now.tasks) or not rising:
                wrong.append((before, now))
                return
            before = now

    def call() -> None:
        for n in range(100):
            results = [app.call("fine", n), app.call("bad"), app.call("fine", n)]
            results[2].cancel()
            for result in results:
                result.wait(PATIENCE)

    threads = [threading.Thread(target=call) for _ in range(3)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join(PATIENCE)
    over.set()
    threads[-1].join(PATIENCE)
    assert wrong == []
    wait_until(lambda: not app.ledger().open, "all are settled")
    ledger = settled(app.ledger())
    assert (ledger.called, ledger.failed, ledger.ok + ledger.cancelled) == (900, 300, 600)


def test_at_the_bound_a_call_raises_if_told_to(steps: Steps) -> None:
    with App("local", threads=1, max_open=2, full="raise") as app:
        app.register("held", steps.held)
        app.register("fine", steps.fine)
        results = [app.call("held") for _ in range(2)]
        with pytest.raises(Busy, match=r"2 tasks are open, and call\(\) is not to wait"):
            app.call("held")
        assert app.ledger().called == 2
        steps.free.set()
        for result in results:
            result.result(PATIENCE)
        fine = app._tasks["fine"]  # what a flow sends itself has been admitted
        assert chain(fine.bind(1), fine.bind()).call().result(PATIENCE) == 1
    with pytest.raises(UsageError, match="full must be one of wait, raise"):
        App("local", full="fall over")


@pytest.mark.parametrize(
    ("mode", "told_by"), [("local", "variables"), ("remote", "variables"), ("remote", "file")]
)
def test_a_bound_that_the_program_has_not_given(mode: str, told_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if told_by == "file":
        (Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "config.toml").write_text('max_open = 2\nfull = "raise"\n')
    else:
        monkeypatch.setenv("DINGO_ZMQ_MAX_OPEN", "2")
        monkeypatch.setenv("DINGO_ZMQ_FULL", "raise")
    for given, most in (({}, 2), ({"max_open": 3}, 3)):
        for flows in (False, True):
            app, steps = App(mode, **given), Steps()
            held = app.register("held", steps.held)
            if mode == "remote":
                app.use(LocalBroker())
                app.use(LocalBackend())
            call = chain(held.bind()).call if flows else held.call
            for _ in range(most):
                call()
            with pytest.raises(Busy, match=rf"{most} tasks are open, and call\(\) is not to wait"):
                call()
            steps.free.set()
            app.close(wait=False)


def test_at_the_bound_of_bytes(steps: Steps) -> None:
    """One body alone may be larger; in remote mode here, the mesh does it likewise."""
    app = App("remote", threads=1, max_open_bytes=100_000, full="raise")
    app.use(LocalBroker())
    app.use(LocalBackend())
    app.register("length", len)
    app.register("held", lambda data: steps.held())
    app.serve()
    assert app.call("length", bytes(300_000)).result(PATIENCE) == 300_000
    held = app.call("held", bytes(90_000))
    with pytest.raises(Busy, match="100,000 bytes of large arguments are open"):
        app.call("length", bytes(90_000))
    assert app.call("held", b"small").name == "held"
    assert app.ledger().called == 3
    steps.free.set()
    held.result(PATIENCE)
    wait_until(lambda: app.ledger().open == 0, "all are settled")
    assert app.call("length", bytes(90_000)).result(PATIENCE) == 90_000
    app.close()
    assert settled(app.ledger()).ok == 4


class Twice:
    def new_id(self, name: str) -> str:
        return "same"


def test_calls_that_raise_are_not_counted(steps: Steps) -> None:
    app = App("local", threads=1, id_maker=Twice())
    app.register("held", steps.held)
    app.call("held")
    with pytest.raises(UsageError, match="is open already"):
        app.call("held")
    assert str(app.ledger()) == "called 1 = 0 ok + 0 failed + 0 cancelled + 0 expired + 1 open"
    steps.free.set()
    app.close()
    assert settled(app.ledger()).ok == 1


def test_without_a_store_what_was_sent_is_ok() -> None:
    app = App("remote")
    app.use(producer=LocalBroker())
    for _ in range(3):
        app.options(ignore_report=True).call("fine")
    assert str(settled(app.ledger())).startswith("called 3 = 3 ok")
    app.close()
