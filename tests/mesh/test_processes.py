"""Node processes and their supervisor: names, restarts, draining, and what dies with what."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import zmq

from dingo_zmq import App
from dingo_zmq.mesh import connections, sockets
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program, closed_port, wait_until


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ready(app: App, *names: str) -> None:
    """Wait until just these nodes can take tasks."""
    wanted = sorted(names)
    app.engine().wait_for(lambda peers: sorted(p.name for p in peers if p.state == "ready") == wanted, PATIENCE)
    assert sorted(peer.name for peer in app.peers() if peer.state == "ready") == wanted


@pytest.fixture
def app(mesh: Mesh) -> App:
    return mesh.app()


def pids(app: App, gate: Gate, count: int) -> dict[int, int]:
    """Hold `count` tasks at once and return in how many processes they run."""
    results = [app.call("wait_at", gate.port) for _ in range(count)]
    visitors = [gate.next() for _ in range(count)]
    for visitor in visitors:
        visitor.go()
    for result in results:
        result.result(PATIENCE)
    found = [visitor.pid for visitor in visitors]
    return {pid: found.count(pid) for pid in found}


# ---------------------------------------------------------------------- several of them


def test_two_processes_are_two_nodes_and_dead_ones_start_again(mesh: Mesh, app: App, gate: Gate) -> None:
    node = mesh.node("twin", "--processes", "2", "--threads", "1")
    assert node.line("node ", "out").startswith("node twin/1, twin/2: add, ")
    ready(app, "twin/1", "twin/2")
    before = pids(app, gate, 2)
    assert sorted(before) == sorted(node.children())
    assert set(before.values()) == {1}

    killed = next(iter(before))
    os.kill(killed, signal.SIGKILL)
    line = node.line("it is started again", "err")
    assert "was ended by SIGKILL" in line
    after = wait_until(lambda: len(now := pids(app, gate, 2)) == 2 and now, "two processes again")
    assert killed not in after
    assert len(set(after) & set(before)) == 1
    ready(app, "twin/1", "twin/2")
    assert node.stop() == 0


def test_a_killed_process_costs_no_task(mesh: Mesh, app: App, tmp_path: Path) -> None:
    node = mesh.node("twin", "--processes", "2", "--threads", "2")
    ready(app, "twin/1", "twin/2")
    mark = app.declare("mark", served.mark)
    results = [mark.call(tmp_path / "marks", str(number)) for number in range(400)]
    os.kill(results[20].result(PATIENCE), signal.SIGKILL)
    assert all(result.result(PATIENCE) for result in results)
    lines = (tmp_path / "marks").read_text().split()
    assert set(lines) == {str(number) for number in range(400)}
    assert node.process.poll() is None


def test_a_task_killed_with_its_node_goes_to_another(mesh: Mesh, app: App, gate: Gate) -> None:
    nodes = {name: mesh.node(name, "--threads", "1") for name in ("left", "right")}
    ready(app, "left", "right")
    result = app.call("wait_at", gate.port, "survives")
    visitor = gate.next()
    victim = next(node for node in nodes.values() if visitor.pid in node.children())
    os.kill(victim.pid, signal.SIGKILL)
    visitor.gone()
    again = gate.next()
    assert again.attempt == 2
    assert again.pid not in (visitor.pid, *victim.children())
    again.go()
    assert result.result(PATIENCE) == "survives"
    assert (result.attempt, nodes[result.node]) != (1, victim)


def test_killing_one_of_two_nodes_loses_nothing(mesh: Mesh, app: App, tmp_path: Path) -> None:
    nodes = {name: mesh.node(name, "--threads", "2") for name in ("left", "right")}
    ready(app, "left", "right")
    mark = app.declare("mark", served.mark)
    results = [mark.call(tmp_path / "marks", str(number)) for number in range(600)]
    once = [mark.options(at_most_once=True).call(tmp_path / "once", str(number)) for number in range(100)]
    next(result for result in results if result.result(PATIENCE) and result.node == "left")
    os.kill(nodes["left"].pid, signal.SIGKILL)
    assert all(result.result(PATIENCE) for result in results)
    assert set((tmp_path / "marks").read_text().split()) == {str(number) for number in range(600)}

    unknown = [result for result in once if result.wait(PATIENCE).fail]
    assert all(result.failure and result.failure.code.name == "UNKNOWN" for result in unknown)
    ran = (tmp_path / "once").read_text().split()
    assert len(ran) == len(set(ran))
    assert len(ran) + len(unknown) >= 100


# ---------------------------------------------------------------------- draining


def test_sigterm_drains(mesh: Mesh, app: App, gate: Gate) -> None:
    """The running task finishes and its result arrives; queued ones run elsewhere; the exit code is 0."""
    first = mesh.node("first", "--threads", "1")
    ready(app, "first")
    wait_at = app.declare("wait_at", served.wait_at)
    running = wait_at.call(gate.port, "running")
    visitor = gate.next()
    queued = [app.call("add", number) for number in range(10)]
    second = mesh.node("second", "--threads", "1")
    ready(app, "first", "second")

    first.signal(signal.SIGTERM)
    assert [result.result(PATIENCE) for result in queued] == list(range(5, 15))
    assert {result.node for result in queued} == {"second"}
    assert first.process.poll() is None
    visitor.go()
    assert running.result(PATIENCE) == "running"
    assert running.node == "first"
    assert running.attempt == 1
    assert first.wait() == 0
    assert app.call("add", 1).result(PATIENCE) == 6
    assert second.process.poll() is None
    assert first.err == ""


def test_draining_takes_no_new_tasks(mesh: Mesh, app: App, gate: Gate) -> None:
    first = mesh.node("first", "--threads", "2")
    ready(app, "first")
    running = app.call("wait_at", gate.port)
    visitor = gate.next()
    first.signal(signal.SIGINT)
    wait_until(lambda: [peer.state for peer in app.peers()] == ["draining"], "draining")
    waiting = app.call("add", 1)
    assert "first is draining" in waiting.why()
    visitor.go()
    running.result(PATIENCE)
    assert first.wait() == 0
    assert waiting.cancel()


@pytest.mark.parametrize("count", ["1", "2"])
def test_an_idle_node_ends_at_once(mesh: Mesh, app: App, count: str) -> None:
    node = mesh.node("idle", "--processes", count)
    children = node.children()
    assert app.call("add", 1).result(PATIENCE) == 6
    assert node.stop() == 0
    assert not any(map(alive, children))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(mesh: Mesh, app: App, gate: Gate, number: signal.Signals) -> None:
    node = mesh.node("stuck", "--threads", "1")
    result = app.call("wait_at", gate.port)
    visitor = gate.next()
    node.signal(number)
    wait_until(lambda: [peer.state for peer in app.peers()] == ["draining"], "draining")
    assert node.process.poll() is None
    node.signal(number)
    assert node.wait() == 1
    visitor.gone()
    assert not result.done()


def test_the_grace_time_ends(mesh: Mesh, app: App, gate: Gate) -> None:
    node = mesh.node("stuck", "--threads", "1", "--grace", "0.2")
    app.call("wait_at", gate.port)
    visitor = gate.next()
    assert node.stop() == 1
    visitor.gone()
    assert "grace" in node.err


def test_answers_are_flushed_before_the_end(mesh: Mesh, app: App, gate: Gate) -> None:
    node = mesh.node("last", "--threads", "1")
    result = app.declare("zeros", served.zeros).call(1000)
    result.result(PATIENCE)
    held = app.call("wait_at", gate.port, "x" * 100_000)
    visitor = gate.next()
    node.signal(signal.SIGTERM)
    visitor.go()
    assert node.wait() == 0
    assert held.result(PATIENCE) == "x" * 100_000


# ---------------------------------------------------------------------- the supervisor


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_children_do_not_outlive_their_supervisor(
    mesh: Mesh, app: App, gate: Gate, number: signal.Signals
) -> None:
    node = mesh.node("parent", "--processes", "2", "--threads", "1")
    ready(app, "parent/1", "parent/2")
    for _ in range(2):
        app.call("wait_at", gate.port)
    visitors = [gate.next(), gate.next()]
    assert sorted(visitor.pid for visitor in visitors) == sorted(node.children())
    node.signal(number)
    assert node.wait() == -number
    for visitor in visitors:
        visitor.gone()
    wait_until(lambda: not any(alive(visitor.pid) for visitor in visitors), "the end of the children")


def test_a_child_told_to_end_by_hand_drains_and_is_replaced(mesh: Mesh, app: App, gate: Gate) -> None:
    node = mesh.node("parent", "--threads", "1")
    result = app.call("wait_at", gate.port, "done")
    visitor = gate.next()
    os.kill(visitor.pid, signal.SIGTERM)
    wait_until(lambda: [peer.state for peer in app.peers()] == ["draining"], "draining")
    visitor.go()
    assert result.result(PATIENCE) == "done"
    node.line("it is started again", "err")
    assert app.call("who").result(PATIENCE)[0] != visitor.pid


def test_the_port_that_was_asked_for(mesh: Mesh, app: App) -> None:
    port = closed_port()
    node = mesh.node("fixed", "--port", str(port))
    assert f"tcp://127.0.0.1:{port}" in node.line("node ", "out")
    assert mesh.app(peers=[f"tcp://127.0.0.1:{port}"], discovery=[]).call("add", 1).result(PATIENCE) == 6
    taken = mesh.run("node", str(served.__file__), "--port", str(port))
    assert taken.wait() == 2
    assert f"error: cannot listen on 127.0.0.1:{port}: Address already in use" in taken.err
    assert "hint: another port with --port" in taken.err
    assert app.call("add", 1).result(PATIENCE) == 6


def test_a_node_and_its_caller_find_each_other_after_a_restart_on_the_same_port(mesh: Mesh) -> None:
    """A static peer is the same address with a new incarnation: open tasks are sent again."""
    port = closed_port()
    app = mesh.app(peers=[f"tcp://127.0.0.1:{port}"], discovery=[])
    waiting = app.call("add", 1)
    node = mesh.node("fixed", "--port", str(port))
    assert waiting.result(PATIENCE) == 6
    node.end()
    during = app.call("add", 2)
    mesh.node("fixed", "--port", str(port))
    assert during.result(PATIENCE) == 7


def test_zeroconf_alone_finds_a_node(mesh: Mesh) -> None:
    node: Program = mesh.program("node", str(served.__file__), "--name", "far", "--discovery", "zeroconf")
    node.line("node far")
    app = mesh.app(discovery=["zeroconf"])
    assert app.call("add", 1).result(PATIENCE) == 6
    assert [peer.sources for peer in app.peers()] == [("zeroconf",)]
    assert node.stop() == 0


def test_a_stopped_node_is_silent_and_not_locked_out(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WORDLESS_SECONDS", 0.5)
    monkeypatch.setitem(sockets._OPTIONS, zmq.HANDSHAKE_IVL, 1000)
    node = mesh.node()
    (child,) = node.children()
    app = mesh.app()
    failed = []
    happened = connections.Connections._happened

    def listen(self: Any, connection: Any, side: Any, event: int, now: float) -> None:
        happened(self, connection, side, event, now)
        failed.append(event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)

    monkeypatch.setattr(connections.Connections, "_happened", listen)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    os.kill(child, signal.SIGSTOP)
    try:
        wait_until(lambda: sum(failed) > 2 * connections.FAILURES, "handshakes have failed", 2 * PATIENCE)
        assert app.peers()[0].state in ("silent", "apart", "greeting")
    finally:
        os.kill(child, signal.SIGCONT)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
