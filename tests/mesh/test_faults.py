"""What befalls single processes: killers, no memory, and long stops of nodes and callers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from dingo_zmq import App, Code, Result, Status, Try
from dingo_zmq.errors import TaskFailed, TaskPoisoned, TaskUnknown
from dingo_zmq.mesh import sockets
from dingo_zmq.protocol import roster
from dingo_zmq.protocol.caller import Caller
from dingo_zmq.protocol.starter import SLOW_SECONDS
from tests import served
from tests.mesh.test_processes import ready
from tests.support import PATIENCE, SERVED, Gate, Mesh, Visitor, wait_until

LOST_SECONDS = 3.5
"""instead of the usual five"""
QUICK_OPTIONS = {
    zmq.HEARTBEAT_IVL: 200,
    zmq.HEARTBEAT_TIMEOUT: 600,
    zmq.HEARTBEAT_TTL: 600,
    zmq.RECONNECT_IVL_MAX: 200,
}
QUICK = """
from dingo_zmq.mesh import sockets
from dingo_zmq.protocol import node as serving, roster

sockets._OPTIONS.update({options})
roster.LOST_SECONDS = {lost}
serving.FORGET_SECONDS = {forget}
"""


def decider(app: App) -> Caller:
    return app.engine().caller.decider


def visit(gate: Gate, word: str, aside: dict[str, Visitor]) -> Visitor:
    """Wait for a task with this word; others that come to the gate are put aside."""
    while word not in aside:
        visitor = gate.next()
        aside[visitor.word] = visitor
    return aside.pop(word)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from doing anything."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# ---------------------------------------------------------------------- killers


def test_a_killer_costs_its_neighbours_nothing_and_is_poison(mesh: Mesh, gate: Gate) -> None:
    """It aborts, is killed, and reads where it must not, each time on a node that then serves on."""
    nodes = [f"bench/{number}" for number in (1, 2, 3)]
    mesh.node("bench", "--processes", "3", "--threads", "3")
    app = mesh.app()
    ready(app, *nodes)
    names = {app.options(node=name).call("who").result(PATIENCE)[0]: name for name in nodes}
    aside: dict[str, Visitor] = {}
    wait_at = app.declare("wait_at", served.wait_at)
    killer = app.declare("fall", served.fall).call(gate.port, ["abort", "kill", "segfault"])
    visitor = visit(gate, "fall", aside)
    home = names[visitor.pid]
    neighbour = wait_at.options(node=home).call(gate.port, "neighbour")
    once = wait_at.options(node=home, at_most_once=True).call(gate.port, "once")
    first = visit(gate, "neighbour", aside)
    visit(gate, "once", aside)
    wait_until(lambda: "may be running" in killer.why(), "the killer is known to run")

    visitor.go()
    with pytest.raises(TaskUnknown, match=f"; tried on {home}") as unknown:
        once.result(PATIENCE)
    assert unknown.value.history == (Try(home, 1, "died"),)
    for attempt in (2, 3):
        visitor = visit(gate, "fall", aside)
        assert visitor.attempt == attempt
        assert killer.why().count("(died)") == attempt - 1
        visitor.go()
    with pytest.raises(TaskPoisoned) as poisoned:
        killer.result(PATIENCE)
    tries = poisoned.value.history
    assert [(each.attempt, each.end) for each in tries] == [(1, "died"), (2, "died"), (3, "died")]
    assert len({each.node for each in tries}) >= 2
    assert str(poisoned.value).endswith("; tried on " + ", ".join(f"{each.node} (died)" for each in tries))

    again = visit(gate, "neighbour", aside)
    assert (again.attempt, again.pid != first.pid) == (2, True)
    again.go()
    assert neighbour.result(PATIENCE) == "neighbour"
    for name in nodes:
        assert app.options(node=name).call("add", 1).result(PATIENCE) == 6
    assert decider(app).ledger.open == 0


def test_no_memory_left_fails_the_task_alone(mesh: Mesh, gate: Gate) -> None:
    node = mesh.node("one", "--threads", "2")
    app = mesh.app()
    neighbour = app.call("wait_at", gate.port, "neighbour")
    visitor = gate.next()
    with pytest.raises(TaskFailed, match="^MemoryError") as caught:
        app.call("hoard", 64 << 20).result(PATIENCE)
    assert (caught.value.failure.code, caught.value.failure.node) == (Code.RAISED, "one")
    visitor.go()
    assert neighbour.result(PATIENCE) == "neighbour"
    assert app.call("who").result(PATIENCE)[0] == visitor.pid
    assert node.children() == [visitor.pid]


def test_one_of_four_nodes_is_killed_under_load(mesh: Mesh, tmp_path: Path) -> None:
    mesh.node("four", "--processes", "4", "--threads", "1")
    app = mesh.app()
    ready(app, *(f"four/{number}" for number in range(1, 5)))
    mark = app.declare("mark", served.mark)
    settled: list[Result[int]] = []
    plain = [mark.call(tmp_path / "plain", str(number)) for number in range(400)]
    once = [mark.options(at_most_once=True).call(tmp_path / "once", str(number)) for number in range(100)]
    for result in (*plain, *once):
        result.add_done_callback(settled.append)  # type: ignore[arg-type]
    os.kill(plain[0].result(PATIENCE), signal.SIGKILL)
    assert all(result.result(PATIENCE) for result in plain)
    assert set((tmp_path / "plain").read_text().split()) == set(map(str, range(400)))

    unknown = [result for result in once if result.wait(PATIENCE).fail]
    assert {result.wait(0).failure.code for result in unknown} <= {Code.UNKNOWN}  # type: ignore[union-attr]
    ran = (tmp_path / "once").read_text().split()
    assert len(ran) == len(set(ran))
    assert 100 - len(unknown) <= len(ran) <= 100
    wait_until(lambda: len(settled) >= 500, "all were told")  # some time after they are done
    assert len(settled) == len(set(settled)) == 500
    assert decider(app).ledger.open == 0


# ---------------------------------------------------------------------- a lane that turns slow


def test_a_lane_that_turns_slow_does_not_keep_others_from_the_workers(mesh: Mesh, gate: Gate) -> None:
    """Hundreds of quick tasks suddenly take long at a node; the first worker that is free is for others."""
    mesh.node("one", "--threads", "2")
    slow, other = mesh.app(), mesh.app()
    at_gate = slow.declare("at_gate", served.at_gate)
    assert all(at_gate.map([0] * 2000))
    results = [at_gate.call(gate.port) for _ in range(300)]
    visitors = [gate.next() for _ in range(2)]
    (peer,) = decider(slow).peers.values()
    wait_until(lambda: (peer.lanes["at_gate"].run_time or 0) > SLOW_SECONDS, "the node knows that they take long")
    assert peer.in_flight() > 10
    told = {"monitor_progress": True}
    waiting = [other.options(**told).call("add", 1), slow.options(**told).call("length", bytes(6))]
    assert [next(result.reports(PATIENCE)).status for result in waiting] == [Status.SENT] * 2  # they are there
    visitors[0].go()
    assert [result.result(PATIENCE) for result in waiting] == [6, 6]
    assert sum(result.done() for result in results) <= 1
    gate.open()
    assert all(result.result(PATIENCE) for result in results)


# ---------------------------------------------------------------------- stopped nodes


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers of this process notice sooner that a node does not answer."""
    monkeypatch.setattr(roster, "LOST_SECONDS", LOST_SECONDS)
    for option, milliseconds in QUICK_OPTIONS.items():
        monkeypatch.setitem(sockets._OPTIONS, option, milliseconds)


def test_a_short_stop_of_a_node_costs_nothing(mesh: Mesh, gate: Gate) -> None:
    """It gets no new tasks for a while, and keeps what it has."""
    mesh.node("one", "--threads", "2")
    app = mesh.app()
    running = app.call("wait_at", gate.port, "running")
    visitor = gate.next()
    with stopped(visitor.pid):
        wait_until(lambda: app.peers()[0].state == "silent", "it is suspected")
        meanwhile = app.call("add", 1)
        assert "has been silent" in meanwhile.why()
        visitor.go()
    assert (running.result(PATIENCE), running.attempt) == ("running", 1)
    assert (meanwhile.result(PATIENCE), meanwhile.attempt) == (6, 1)
    assert gate.nobody()


@pytest.mark.parametrize("late", ["counts", "is dropped"])
@pytest.mark.usefixtures("impatient")
def test_the_report_of_a_node_that_was_given_up(mesh: Mesh, gate: Gate, late: str) -> None:
    """It runs on as if nothing had happened; the first final report is the one that counts."""
    nodes = ["bench/1", "bench/2"]
    mesh.node("bench", "--processes", "2", "--threads", "1")
    app = mesh.app()
    ready(app, *nodes)
    names = {app.options(node=name).call("who").result(PATIENCE)[0]: name for name in nodes}
    settled: list[Result[str]] = []
    result = app.declare("wait_at", served.wait_at).call(gate.port, "task")
    result.add_done_callback(settled.append)  # type: ignore[arg-type]
    visitor = gate.next()
    home, other = sorted(nodes, key=lambda name: name != names[visitor.pid])
    with stopped(visitor.pid):
        again = gate.next()
        assert (again.attempt, names[again.pid]) == (2, other)
        assert f"{home} (fell silent" in result.why()
        before = decider(app).late
        if late == "is dropped":
            again.go()
            assert result.result(PATIENCE) == "task"
        visitor.go()
    if late == "is dropped":
        wait_until(lambda: decider(app).late > before, "its report has come")
    assert result.result(PATIENCE) == "task"
    assert result.node == (home if late == "counts" else other)
    again.go()
    for name in nodes:
        assert app.options(node=name).call("add", 1).result(PATIENCE) == 6
    wait_until(lambda: settled, "it was told")
    assert settled == [result]
    assert decider(app).ledger.open == 0


# ---------------------------------------------------------------------- stopped callers

CALLER = """
import json, logging, sys
from collections import Counter
from dingo_zmq import App

logging.basicConfig(level=logging.INFO)
port, file = int(sys.argv[1]), sys.argv[2]
app = App("mesh", discovery=["directory"])
ended = Counter()
held = [app.call("wait_at", port, f"held {n}") for n in range(2)]
once = [app.options(at_most_once=True).call("mark", file, f"once{n}") for n in range(50)]
plain = [app.call("mark", file, f"plain{n}") for n in range(300)]
results = [*held, *once, *plain]
for result in results:
    result.add_done_callback(lambda result: ended.update([(result.name, result.id)]))
print("called", flush=True)
codes = Counter(result.wait(30).failure.code.name if result.wait().fail else "SUCCESS" for result in results)
ledger = app.engine().caller.decider.ledger
app.close()  # by then all callbacks have been called
told = {
    "codes": dict(codes),
    "settled": len(ended),
    "twice": sum(number > 1 for number in ended.values()),
    "open": ledger.open,
    "attempts": [max(result.attempt for result in some) for some in (held, once, plain)],
}
print(json.dumps(told), flush=True)
"""


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_caller_that_was_stopped(mesh: Mesh, gate: Gate, tmp_path: Path, forgotten: bool) -> None:
    """For longer than it takes to lose a node, and even for so long that the node has forgotten it."""
    file = tmp_path / "quick.py"
    options = {int(option): value for option, value in QUICK_OPTIONS.items()}
    quick = QUICK.format(options=options, lost=LOST_SECONDS, forget=LOST_SECONDS if forgotten else 60.0)
    file.write_text(SERVED.read_text() + quick)
    node = mesh.node("one", "--threads", "2", "--log-level", "info", target=file)
    caller = mesh.script(quick + CALLER, str(gate.port), str(tmp_path / "marks"))
    caller.line("called")
    visitors = [gate.next() for _ in range(2)]
    with stopped(caller.pid):
        if forgotten:
            node.line("forgotten", "err")
        else:
            threading.Event().wait(LOST_SECONDS + 1)
        for visitor in visitors:
            visitor.go()
    if forgotten:
        for visitor in [gate.next() for _ in range(2)]:
            assert visitor.attempt == 2
            visitor.go()
    assert caller.wait() == 0, caller
    told = json.loads(caller.line("codes", "out"))
    unknown = told["codes"].pop("UNKNOWN", 0)  # they had their GO, and were forgotten before they started
    assert unknown <= (2 if forgotten else 0)
    assert told.pop("codes") == {"SUCCESS": 352 - unknown}
    attempts = told.pop("attempts")
    assert attempts == [1, 1, 1] or (forgotten and attempts[0] == 2 and max(attempts) == 2)
    assert told == {"settled": 352, "twice": 0, "open": 0}
    assert "busy" not in caller.err, caller  # that is what is said of tasks beyond the credit
    marks = (tmp_path / "marks").read_text().split()
    assert len(marks) == len(set(marks)) == 350 - unknown
