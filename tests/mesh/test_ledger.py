"""The ledger of a mesh App: counts that balance whatever happens, and who holds what is open."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq import Code, chain
from dingo_zmq.errors import Busy, Closed, UsageError
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program, settled, wait_until


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


def test_every_outcome_is_counted_once(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    held = [app.call("wait_at", gate.port) for _ in range(2)]
    visitors = [gate.next() for _ in held]
    app.options(expires=0.05).call("doze", 0.0)
    unwanted = app.call("nothing")
    assert unwanted.cancel()
    results = [app.call("add", n) for n in range(5)] + [app.call("spoil", "x"), app.call("echo")]
    results += [app.call("lie"), app.options(at_most_once=True).call("add", 1)]
    ignored = app.options(ignore_report=True).call("spoil", "y")
    assert ignored.ok
    stream = app.stream("count", 3)
    nowhere = app.call("nothing")
    tasks = {task.id: task for task in app.ledger().tasks}
    assert {tasks[result.id].holder for result in held} == {"one"}
    assert all(tasks[result.id].started and tasks[result.id].attempt == 1 for result in held)
    waiting = tasks[nowhere.id]
    assert (waiting.name, waiting.holder, waiting.attempt, waiting.started) == ("nothing", "", 0, False)
    assert 0 <= waiting.age < PATIENCE
    for visitor in visitors:
        visitor.go()
    for result in (*held, *results, stream.result):
        result.wait(PATIENCE)
    add, spoil = app.declare("add", served.add), app.declare("spoil", served.spoil)
    assert chain(add.bind(1), add.bind(1)).call().result(PATIENCE) == 7
    assert chain(spoil.bind("z"), add.bind()).call().wait(PATIENCE).failure is not None
    assert nowhere.cancel()
    wait_until(lambda: not app.ledger().open, "all are settled")
    app.close()
    ledger = settled(app.ledger())
    assert (ledger.called, ledger.cancelled, ledger.expired + ledger.ok) == (19, 2, 13)
    failed = {code: n for code, n in ledger.codes.items() if code not in (Code.CANCELLED, Code.EXPIRED)}
    assert failed == {Code.RAISED: 3, Code.DECODE: 1}


def test_a_cancelled_task_is_not_open_though_its_node_has_not_told(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    result = app.call("wait_at", gate.port)
    visitor = gate.next()
    assert result.cancel()
    assert str(app.ledger()) == "called 1 = 0 ok + 0 failed + 1 cancelled + 0 expired + 0 open"
    visitor.go()
    app.close()
    assert settled(app.ledger()).cancelled == 1


def test_lost_nodes_and_poison(mesh: Mesh) -> None:
    app = mesh.app()
    mesh.node("lost", "--processes", "2", "--threads", "1")
    results = [app.call("die"), *(app.call("add", n) for n in range(20))]
    for result in results:
        result.wait(PATIENCE)
    app.close()
    assert settled(app.ledger()).codes == {Code.POISON: 1}
    assert app.ledger().ok == 20


def test_calls_that_raise_are_not_counted(shared: Mesh, gate: Gate) -> None:
    app = shared.app(max_open=2)
    held = [app.call("wait_at", gate.port) for _ in range(2)]
    visitors = [gate.next() for _ in held]

    async def turned_away() -> None:
        with pytest.raises(Busy):
            app.call("add", 1)

    import asyncio

    asyncio.run(turned_away())
    waiting = threading.Thread(target=lambda: app.call("add", 1).wait(PATIENCE))
    waiting.start()
    wait_until(lambda: app.engine().calls.room.waiting, "a call waits")
    assert (app.ledger().called, app.ledger().open) == (2, 2)
    for visitor in visitors:
        visitor.go()
    waiting.join(PATIENCE)
    app.close()
    assert str(settled(app.ledger())).startswith("called 3 = 3 ok")


def test_the_bound_of_bytes(shared: Mesh, gate: Gate) -> None:
    """A call waits for its bytes, or raises; one body alone may be larger."""
    app = shared.app(max_open_bytes=100_000)
    assert app.call("length", bytes(300_000)).result(PATIENCE) == 300_000
    held = app.call("wait_at", gate.port, "x" * 90_000)
    visitor = gate.next()
    done: list[int] = []
    waiting = threading.Thread(target=lambda: done.append(app.call("length", bytes(90_000)).result(PATIENCE)))
    waiting.start()
    wait_until(lambda: app.engine().calls.space.waiting, "a call waits")
    assert (app.ledger().called, app.ledger().open) == (2, 1)
    assert app.call("add", 1).result(PATIENCE) == 6
    visitor.go()
    waiting.join(PATIENCE)
    assert done == [90_000]
    assert held.result(PATIENCE) == "x" * 90_000
    app.close()
    assert settled(app.ledger()).ok == 4
    hasty = shared.app(max_open_bytes=100_000, full="raise")
    hasty.call("nothing", bytes(90_000))
    with pytest.raises(Busy, match="100,000 bytes of large arguments are open"):
        hasty.call("nothing", bytes(90_000))
    assert hasty.ledger().called == 1


class Twice:
    def new_id(self, name: str) -> str:
        return "same"


def test_an_id_maker_that_repeats_itself(shared: Mesh) -> None:
    app = shared.app(id_maker=Twice())
    app.call("nothing")
    for _ in range(3):
        with pytest.raises(UsageError, match="is open already"):
            app.call("nothing")
    wait_until(lambda: app.ledger().open == 1, "only one is open")
    assert app.ledger().called == 1


def test_it_balances_in_the_middle_of_load(shared: Mesh) -> None:
    app = shared.app()
    over, wrong, looks = threading.Event(), list[Any](), list[int]()

    def look() -> None:
        before = app.ledger()
        while not over.is_set():
            now = app.ledger()
            sums = now.ok + now.failed + now.cancelled + now.expired + now.open
            if now.called != sums or now.open < len(now.tasks) or now.ok < before.ok:
                wrong.append(now)
                return
            before = now
            looks.append(now.called)

    def call() -> None:
        for n in range(100):
            results = [app.call("add", n), app.call("spoil", "x"), app.call("add", n)]
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
    assert len(looks) > 1
    app.close()
    ledger = settled(app.ledger())
    assert (ledger.called, ledger.failed, ledger.ok + ledger.cancelled) == (900, 300, 600)


def test_a_call_that_waits_for_bytes_at_the_end_is_no_task(shared: Mesh, gate: Gate) -> None:
    app = shared.app(max_open_bytes=100_000)
    held = app.call("nothing", bytes(90_000))
    failed: list[Exception] = []

    def call() -> None:
        try:
            app.call("nothing", bytes(90_000))
        except Closed as exc:
            failed.append(exc)

    waiting = threading.Thread(target=call)
    waiting.start()
    wait_until(lambda: app.engine().calls.space.waiting, "a call waits")
    app.close(wait=False)
    waiting.join(PATIENCE)
    assert len(failed) == 1
    assert held.done()
    assert str(app.ledger()) == "called 1 = 0 ok + 1 failed + 0 cancelled + 0 expired + 0 open"


INTERRUPTED = """
import signal, sys, threading
from dingo_zmq import App

app = App(sys.argv[1], **({"discovery": ["directory"]} if sys.argv[1] == "mesh" else {}))
if sys.argv[2:]:
    app = App("mesh", discovery=["directory"], journal=sys.argv[2], max_open_bytes=500_000)
if sys.argv[1] == "local":
    app.register("add", lambda a: a)
app.call("add", 0).result(30)
words = ["add", 1] if len(sys.argv) < 4 else ["length", bytes(100_000)]
main = threading.get_ident()
over = threading.Event()

armed = []

def interrupt(number, frame):
    if armed:
        armed.clear()
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)

def ring():
    while not over.wait(0.002):
        signal.pthread_kill(main, signal.SIGINT)

results, came, ringing = [], 0, threading.Thread(target=ring)
ringing.start()
while came < 30:
    try:
        armed.append(True)
        while True:
            results.append(app.call(*words))
            if len(results) > 1000:
                results.pop(0).wait()
    except KeyboardInterrupt:
        came += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
over.set()
ringing.join()
app.close()
ledger = app.ledger()
assert len(ledger.tasks) == ledger.open == 0
print(ledger)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
@pytest.mark.parametrize("mode", ["local", "mesh", "mesh with a journal", "mesh with a journal, and large"])
def test_calls_that_ctrl_c_cuts_off(shared: Mesh, mode: str, tmp_path: Path) -> None:
    """Each is a task that runs, or none at all."""
    name, journal, large = mode.split(maxsplit=1)[0], "journal" in mode, "large" in mode
    script = shared.script(INTERRUPTED, name, *[str(tmp_path / "tasks.db")][:journal], *["large"][:large])
    assert script.wait() == 0, script
    (line,) = script.out.splitlines()
    assert line.endswith("0 failed + 0 cancelled + 0 expired + 0 open")
