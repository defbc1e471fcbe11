"""A forwarder on one host: the node is where the callers do not look, and is named to the forwarder."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from dingo_zmq import App
from dingo_zmq.mesh import guests, keys
from dingo_zmq.protocol import messages, wire
from tests import served
from tests.support import PATIENCE, Context, Gate, Mesh, Program, settled, wait_until

FLOOD = 20_000
"""messages, after which those who read them are behind"""


@pytest.fixture
def key(mesh: Mesh) -> keys.Key:
    path = Path(mesh.settings["DINGO_ZMQ_CONFIG_DIR"]) / "mesh.key"
    return keys.save_key(path, keys.new_key("mesh"))


def hidden(mesh: Mesh, name: str, *words: str) -> Program:
    """Start a node that nobody finds by looking."""
    other = mesh.folder / "other"
    other.mkdir(mode=0o700, exist_ok=True)
    command = ("node", served.__file__, "--name", name, "--bind", "127.0.0.1", *words)
    node = mesh.program(*command, DINGO_ZMQ_RUNTIME_DIR=str(other))
    node.line("node ", "out")
    return node


def forwarder(mesh: Mesh, *nodes: Program) -> Program:
    """Start a forwarder, and wait until it passes on all these nodes."""
    left = [word for node in nodes for word in ("--left", mesh.address(node))]
    program = mesh.program("forward", "--name", "gate", *left, "--right", "127.0.0.1")
    count = len(nodes)
    program.line(f"left: {count} of {count} node{'s' if count > 1 else ''} passed on", "out")
    return program


def caller(mesh: Mesh, **settings: object) -> App:
    app = mesh.app(**settings)
    for name in ("add", "echo", "wait_at", "count", "steps"):
        app.register(name, getattr(served, name).__wrapped__)
    return app


def test_all_that_a_caller_does_works_through_it(mesh: Mesh, key: keys.Key, gate: Gate) -> None:
    node = hidden(mesh, "one", "--threads", "2")
    forwarder(mesh, node)
    app = caller(mesh)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    (peer,) = app.peers()
    assert (peer.name, [entry.partition(".")[0] for entry in peer.via]) == ("one", ["gate"])
    assert peer.address != mesh.address(node)
    assert list(app.map("add", range(2000), range(2000))) == [2 * n for n in range(2000)]
    assert app.call("echo", b"x" * 1_000_000).result(PATIENCE) == b"x" * 1_000_000
    assert list(app.stream("count", 100)) == list(range(100))
    result = app.options(at_most_once=True).call("wait_at", gate.port, "a")
    visitor = gate.next()
    visitor.go()
    assert result.result(PATIENCE) == "a"
    shown = mesh.invoke("peers")
    assert "via gate" in shown.out
    app.close()
    assert settled(app.ledger()).ok == 2004


def test_one_that_is_killed_again_and_again_loses_nothing(mesh: Mesh, key: keys.Key, gate: Gate) -> None:
    """A task that runs meanwhile is neither lost nor counted as one that killed its node."""
    nodes = [hidden(mesh, "one", "--threads", "2"), hidden(mesh, "two", "--threads", "2")]
    gateway = forwarder(mesh, *nodes)
    app = caller(mesh)
    held = app.options(at_most_once=True).call("wait_at", gate.port, "held")
    visitor = gate.next()
    for number in range(4):
        results = [app.call("add", n, number) for n in range(300)]
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        gateway = forwarder(mesh, *nodes)
        results += [app.call("add", n, number) for n in range(300, 400)]
        assert [result.result(PATIENCE) for result in results] == [n + number for n in range(400)]
    assert not held.done()
    assert held.why().startswith("it may be running on")
    visitor.go()
    assert held.result(PATIENCE) == "held"
    app.close()
    ledger = settled(app.ledger())
    assert (ledger.called, ledger.ok) == (1601, 1601)


def test_the_tasks_of_a_node_that_dies_go_to_another(mesh: Mesh, key: keys.Key, gate: Gate) -> None:
    first = hidden(mesh, "one", "--threads", "1")
    gateway = forwarder(mesh, first, second := hidden(mesh, "two", "--threads", "1"))
    app = caller(mesh)
    results = [app.call("wait_at", gate.port, word) for word in ("a", "b")]
    visitors = [gate.next(), gate.next()]
    pids = {visitor.pid: visitor for visitor in visitors}
    (dead,) = [pid for pid in first.children() if pid in pids]
    first.signal(signal.SIGKILL)
    pids[dead].gone()
    gateway.line("its ports are closed", "out")
    next(visitor for pid, visitor in pids.items() if pid != dead).go()
    again = gate.next()
    assert again.pid in second.children()
    again.go()
    assert sorted(result.result(PATIENCE) for result in results) == ["a", "b"]
    app.close()
    settled(app.ledger())


def test_a_guest_behind_it(mesh: Mesh, key: keys.Key) -> None:
    """What guests may do holds at the forwarder as at the node."""
    bob = guests.add(key, mesh.folder / "bob.key", "bob", ["add"], 1000, None)
    node = hidden(mesh, "one")
    gateway = forwarder(mesh, node)
    app, guest = caller(mesh), caller(mesh, key=str(bob.path))
    assert app.call("echo", 1).result(PATIENCE) == 1
    assert guest.call("add", 2, 3).result(PATIENCE) == 5
    assert list(guest.map("add", range(300), range(300))) == [2 * n for n in range(300)]
    (peer,) = guest.peers()
    assert list(peer.functions) == ["add"]
    waiting = guest.call("echo", 1)
    wait_until(lambda: 'no node has "echo"' in waiting.why(), "it waits")
    guests.revoke(key, "bob")
    wait_until(lambda: "does not accept our key" in "".join(peer.cause for peer in guest.peers()), "locked out")
    assert "does not accept our key" in guest.call("add", 1).why()
    assert app.call("echo", 2).result(PATIENCE) == 2
    assert gateway.process.poll() is None


@pytest.mark.parametrize("behind", [True, False], ids=["forwarder", "node"])
@pytest.mark.parametrize("junk", [True, False])
def test_a_guest_that_floods_it_keeps_nobody_out(
    mesh: Mesh, key: keys.Key, context: Context, behind: bool, junk: bool
) -> None:
    """What it sends without end is refused, and what others send is heard meanwhile; new ones are let in."""
    bob = guests.add(key, mesh.folder / "bob.key", "bob", ["add"], 1000, None)
    node = hidden(mesh, "one") if behind else mesh.node()
    if behind:
        forwarder(mesh, node)
    app = caller(mesh)
    assert app.call("add", 1, 2).result(PATIENCE) == 3
    (peer,) = app.peers()
    push = context.socket(zmq.PUSH)
    keys.secure_client(push, bob)
    push.setsockopt(zmq.SNDTIMEO, 100)
    push.connect(peer.address)
    refused = wire.encode(messages.Hello(b"x" * 8, "somebody", 1, b"", "default", [1]))
    done, full = threading.Event(), threading.Event()

    def flood() -> None:
        sent = 0
        while not done.is_set():
            with suppress(zmq.Again):
                push.send(b"junk" if junk else refused)
                sent += 1
            if sent == FLOOD:
                full.set()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert full.wait(PATIENCE)
        for number in range(3):
            assert app.call("add", number, 2).result(PATIENCE) == number + 2
            another = caller(mesh)
            assert another.call("add", number, 2).result(PATIENCE) == number + 2
            another.close()
    finally:
        done.set()
        thread.join()


def test_a_long_name_is_no_obstacle(mesh: Mesh, key: keys.Key) -> None:
    name = "x" * 200
    node = hidden(mesh, "one")
    program = mesh.program("forward", "--name", name, "--left", mesh.address(node), "--right", "127.0.0.1")
    program.line("left: 1 of 1 node passed on", "out")
    app = caller(mesh)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    (peer,) = app.peers()
    assert name.startswith(peer.via[0].partition(".")[0])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--left", "lo", "--right", "127.0.0.1"), "both sides are the same network, this machine itself"),
        (("--left", "nope0", "--right", "lo"), "this machine has no address or interface 'nope0'"),
        (("--left", "lo"), "--right is missing"),
        (("--left", "tcp://h:1", "--right", "tcp://h:3"), "both sides only name nodes"),
        (("--left", "tcp://h", "--right", "lo"), "is not the address of a node"),
        (("--left", "lo", "--right", "tcp://h:1", "--left-key", "nowhere.key"), "nowhere.key"),
    ],
)
def test_sides_that_cannot_be_joined(mesh: Mesh, words: tuple[str, ...], text: str) -> None:
    ran = mesh.invoke("forward", *words)
    assert (ran.code, text in ran.err) == (2, True), ran.err
    assert "hint: " in ran.err


def test_the_key_of_a_guest_forwards_nothing(mesh: Mesh, key: keys.Key) -> None:
    bob = guests.add(key, mesh.folder / "bob.key", "bob", ["add"], 1000, None)
    ran = mesh.invoke("forward", "--left", "lo", "--left-key", str(bob.path), "--right", "tcp://127.0.0.1:1")
    assert (ran.code, "a guest cannot forward" in ran.err) == (2, True)
