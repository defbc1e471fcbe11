"""Guests at live nodes: what their Apps can do, and what raw sockets with their keys cannot."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import zmq

from dingo_zmq import App, Status, marshal
from dingo_zmq.app import serve
from dingo_zmq.errors import ConfigError, JournalError
from dingo_zmq.mesh import guests, keys
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tests import served
from tests.support import MILLISECONDS, PATIENCE, Context, Gate, Mesh, Program, Raw, wait_until

FUNCTIONS = ("add", "echo", "wait_at", "until_cancelled")


def make_key(mesh: Mesh) -> keys.Key:
    """Make a mesh key where the nodes and callers of a mesh look for it."""
    path = Path(mesh.settings["DINGO_ZMQ_CONFIG_DIR"]) / "mesh.key"
    return keys.save_key(path, keys.new_key("mesh"))


def add_guest(
    mesh: Mesh,
    name: str,
    *functions: str,
    max_open: int = 1000,
    rate: float | None = None,
) -> keys.Key:
    """Make a guest of a mesh; the file of its key is in the folder of that."""
    key = keys.load_key(Path(mesh.settings["DINGO_ZMQ_CONFIG_DIR"]) / "mesh.key")
    path = mesh.folder / f"{name}.{secrets.token_hex(3)}.key"
    return guests.add(key, path, name, functions or FUNCTIONS, max_open, rate)


def entry(mesh: Mesh, name: str) -> Path:
    return Path(mesh.settings["DINGO_ZMQ_CONFIG_DIR"]) / "guests" / f"{name}.toml"


def start(mesh: Mesh, name: str = "one", *words: str) -> Program:
    return mesh.node(name, "--bind", "127.0.0.1", "--log-level", "info", *words)


@pytest.fixture(scope="module")
def bob(module_mesh: Mesh) -> keys.Key:
    make_key(module_mesh)
    return add_guest(module_mesh, "bob")


@pytest.fixture(scope="module")
def node(module_mesh: Mesh, bob: keys.Key) -> Program:
    return start(module_mesh, "one", "--threads", "4")


@pytest.fixture
def guest(shared: Mesh, app: App, bob: keys.Key) -> App:
    return shared.app(key=str(bob.path))


@pytest.fixture
def raw(shared: Mesh, app: App, node: Program, bob: keys.Key, context: Context) -> Raw:
    """Somebody with the key of a guest, who speaks by hand and has a link."""
    raw = Raw(context, node, bob)
    raw.open(shared.name)
    return raw


def subscribed(raw: Raw, mesh: str) -> None:
    """Wait until the node has read all subscriptions of a guest: it hears a later one."""
    name, token = raw.name, raw.token
    raw.name, raw.token = f"{name.partition('.')[0]}.{secrets.token_hex(8)}", secrets.token_bytes(8)
    raw.sub.subscribe(f"{raw.name}/")
    raw.open(mesh)
    raw.send(m.Bye(raw.token))
    raw.name, raw.token = name, token


def answered(raw: Raw) -> None:
    """Wait until the node has read all that was said; by then nothing was heard but what is the guest's own."""
    raw.send(raw.task(10**6))  # over its credit
    own = f"{raw.name.partition('.')[0]}."
    while True:
        frames = raw.sub.recv_multipart()
        topic, message = wire.topic_of(frames[0]).decode(), wire.decode_node(frames)
        assert topic.startswith((own, f"watch/{own}", "pulse/")), topic
        if isinstance(message, m.Recalled) and message.refs == {"add": [10**6]}:
            return


# ---------------------------------------------------------------------- an App


def test_a_guest_runs_its_functions(guest: App, bob: keys.Key) -> None:
    assert list(guest.map("add", range(300))) == [number + 5 for number in range(300)]
    assert guest.engine().id.startswith(keys.callers_of(bob))
    data = bytes(200_000)
    assert guest.call("echo", data).result(PATIENCE) == data


def test_a_guest_does_not_run_other_functions(guest: App, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    assert guest.call("add", 1).result(PATIENCE) == 6
    result = guest.call("mark", str(marks), "x")
    wait_until(lambda: "no node has" in result.why(), "the reason")
    assert 'no node has "mark"' in result.why()
    assert not marks.exists()
    (peer,) = guest.peers()
    assert sorted(peer.functions) == sorted(FUNCTIONS)
    result.cancel()


def test_two_processes_of_one_guest(shared: Mesh, guest: App, bob: keys.Key) -> None:
    other = shared.app(key=str(bob.path))
    results = [each.call("add", number) for number in range(20) for each in (guest, other)]
    assert [result.result(PATIENCE) for result in results] == [n + 5 for n in range(20) for _ in range(2)]
    assert guest.engine().id != other.engine().id


def test_the_command_line_of_a_guest(guest: App, shared: Mesh, bob: keys.Key) -> None:
    assert shared.invoke("call", "add", "2", "3", "--key", str(bob.path)).out == "5\n"
    ran = shared.invoke("peers", "--key", str(bob.path))
    assert ran.code == 0
    assert "mark" not in ran.out


def test_a_guest_watches_its_own_tasks(shared: Mesh, app: App, bob: keys.Key) -> None:
    watching = shared.program("watch", "--key", str(bob.path), "--seconds", "60")
    guest = shared.app(key=str(bob.path))
    wait_until(
        lambda: (
            app.call("echo", 1).result(PATIENCE)
            and guest.call("echo", 2).result(PATIENCE)
            and "SUCCESS" in watching.out
        ),
        "the report of a task",
    )
    assert app.engine().id not in watching.out


def test_a_guest_cancels_what_it_runs(guest: App, gate: Gate) -> None:
    result = guest.call("until_cancelled", gate.port)
    visitor = gate.next()
    result.cancel(running=True)
    assert guest.call("add", 1).result(PATIENCE) == 6  # by then the node has read what was sent before
    visitor.go()
    assert result.wait(PATIENCE).value is True


def test_a_guest_cannot_serve(shared: Mesh, bob: keys.Key) -> None:
    ran = shared.run("node", str(Path(served.__file__)), "--key", str(bob.path))
    assert (ran.process.returncode, ran.out) == (2, "")
    assert "is the key of a guest, and a guest cannot serve, only call" in ran.err
    assert "hint: a node needs the mesh key itself" in ran.err
    with pytest.raises(ConfigError, match="a guest cannot serve"):
        serve(shared.app(key=str(bob.path)).engine(), served.app, name="guest")


def test_the_journal_of_a_guest(shared: Mesh, app: App, bob: keys.Key, tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    for life in range(2):
        mine = shared.app(key=str(bob.path), journal=path)
        assert mine.engine().id.startswith(keys.callers_of(bob))
        assert mine.call("add", life).result(PATIENCE) == life + 5
        mine.close()
    with pytest.raises(JournalError, match="the mesh key cannot go on with it"):
        shared.app(journal=path).engine()
    other = str(tmp_path / "other.db")
    holder = shared.app(journal=other)
    assert holder.call("add", 1).result(PATIENCE) == 6
    holder.close()
    with pytest.raises(JournalError, match="the key of this guest cannot go on with it"):
        shared.app(journal=other, key=str(bob.path)).engine()


# ---------------------------------------------------------------------- raw sockets


def test_a_guest_spoken_by_hand(raw: Raw) -> None:
    raw.send(raw.task(1))
    status, body = raw.answer()
    assert (status, marshal.decode((body, ()))) == (Status.SUCCESS, 2)


def test_a_task_of_another_function_comes_back(raw: Raw, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    for name in ("mark", "nothing"):
        raw.send(raw.task(1, name, marshal.encode_arguments((str(marks), "x"), {})[0]))
        recalled = raw.receive(m.Recalled)
        assert (recalled.refs, recalled.reason) == ({name: [1]}, "guest bob may not run it")
    assert not marks.exists()


@pytest.mark.parametrize("what", ["everything", "another caller", "half a name", "watch", "another's watch"])
def test_what_a_guest_may_not_subscribe_to_it_does_not_get(
    raw: Raw, app: App, shared: Mesh, node: Program, context: Context, what: str
) -> None:
    caller = app.engine().id
    topics = {
        "everything": "",
        "another caller": f"{caller}/",
        "half a name": caller[:4],
        "watch": "watch/",
        "another's watch": f"watch/{caller}/",
    }
    raw.sub.subscribe(topics[what])
    subscribed(raw, shared.name)
    watcher = Raw(context, node, keys.find_key())  # so that copies are published
    watcher.watch("watch/", shared.name, shared.app())
    for number in range(20):
        assert app.call("echo", number).result(PATIENCE) == number
    answered(raw)


def test_a_guest_sees_pulses_and_copies_of_its_own_reports(raw: Raw, shared: Mesh) -> None:
    raw.sub.subscribe("pulse/")
    raw.receive(m.Pulse)
    raw.sub.subscribe(f"watch/{raw.name}/")
    subscribed(raw, shared.name)
    raw.send(raw.task(1))
    assert wire.topic_of(raw.watched()[0]).decode() == f"watch/{raw.name}/add/1/"


@pytest.mark.parametrize("whose", ["a holder's", "nobody's", "no process's"])
def test_a_guest_cannot_speak_under_another_name(
    raw: Raw, app: App, node: Program, shared: Mesh, context: Context, whose: str
) -> None:
    listener = Raw(context, node, keys.find_key())
    names = {"a holder's": app.engine().id, "nobody's": "0123456789abcdef", "no process's": raw.name.split(".")[0]}
    name, forged = names[whose], secrets.token_bytes(8)
    listener.sub.subscribe(f"{name}/")
    listener.open(shared.name)
    raw.send(m.Hello(forged, name, 2**50, b"", shared.name, [m.VERSION]))
    raw.send(m.Tasks(forged, name, 0, {}, [("add", 1, "1", 1, None, b"\x91\x01")]))
    raw.send(m.Beat(forged, name, 5, 0, {}, {}))
    answered(raw)
    listener.send(listener.task(10**6))
    while not isinstance(message := wire.decode_node(listener.sub.recv_multipart()), m.Recalled):
        assert getattr(message, "link", b"") != forged


def test_a_guest_cannot_touch_the_tasks_of_another(
    raw: Raw, app: App, node: Program, shared: Mesh, context: Context, gate: Gate
) -> None:
    """It knows the token of a link, however it came by that."""
    other = Raw(context, node, keys.find_key())
    other.open(shared.name)
    body = marshal.encode_arguments((gate.port, "mine"), {})[0]
    other.send(other.task(1, "wait_at", body))
    visitor = gate.next()
    refs: m.Refs = {"wait_at": [1], "add": [1]}
    hello, number = raw.hello(mesh=shared.name, link=other.token), 2**50
    for message in (
        m.Cancel(other.token, refs),
        m.Cancel(other.token, refs, tell=True),
        m.Recall(other.token, refs),
        m.Go(other.token, refs),
        m.Taken(other.token, 9, {}),
        m.Beat(other.token, raw.name, number, 9, {"wait_at": (1, 1, 0)}, {}),
        m.Tasks(other.token, raw.name, 9, {}, [("add", 1, "1", 1, None, b"")]),
        m.Hello(other.token, raw.name, number, b"", shared.name, hello.versions),
        m.Bye(other.token),
    ):
        raw.send(message)
    answered(raw)
    visitor.go()
    status, value = other.answer()
    assert (status, marshal.decode((value, ()))) == (Status.SUCCESS, "mine")
    other.send(other.task(1))
    assert other.answer()[0] == Status.SUCCESS


def test_what_is_no_subscription_muddles_nothing(
    app: App, node: Program, bob: keys.Key, shared: Mesh, context: Context
) -> None:
    """ZeroMQ would take the next connections for others'."""
    stranger = context.socket(zmq.XSUB)
    keys.secure_client(stranger, bob)
    host, _, port = Mesh.address(node).rpartition(":")
    stranger.connect(f"{host}:{int(port) + 1}")
    own = keys.callers_of(bob).encode()
    others = []
    for number in range(20):
        stranger.send_multipart([b"rubbish"] * 3)
        stranger.send(b"\x01" + own + b"%d/" % number)
        others.append(Raw(context, node, keys.find_key() if number % 2 else bob))
        stranger.send(b"rubbish")
    for other in others:
        other.open(shared.name)
        other.send(other.task(1))
        assert other.answer()[0] == Status.SUCCESS
    assert stranger.poll(0) == 0


def test_a_subscription_that_was_refused_takes_nothing_from_those_who_watch(
    app: App, node: Program, bob: keys.Key, shared: Mesh, context: Context
) -> None:
    watcher, probe = Raw(context, node, keys.find_key()), shared.app()
    watcher.watch("watch/", shared.name, probe)
    guest = Raw(context, node, bob)
    guest.open(shared.name)
    guest.sub.subscribe("watch/")
    guest.sub.unsubscribe("watch/")
    guest.sub.subscribe("watch/")
    subscribed(guest, shared.name)
    guest.sub.close(0)
    other = Raw(context, node, keys.find_key())
    other.open(shared.name)
    result = app.call("add", 1)
    assert result.result(PATIENCE) == 6
    while f"/{app.engine().id}/add/{result.id}/" not in wire.topic_of(watcher.watched()[0]).decode():
        pass


def test_the_subscriptions_of_all_come_back_after_a_break(app: App, guest: App, node: Program) -> None:
    for each in (app, guest):
        assert each.call("add", 1).result(PATIENCE) == 6
        connections = each.engine().caller._connections

        def anew(connections: Any = connections) -> None:
            for connection in connections.by_key.values():
                connections._move(connection, (connection.tasks, connection.reports), 0.0)

        each.engine().reactor.ask(anew)
    assert [each.call("add", 2).result(PATIENCE) for each in (app, guest)] == [7, 7]


# ---------------------------------------------------------------------- quota


def test_a_guest_has_so_many_tasks_open_and_no_more(mesh: Mesh, gate: Gate) -> None:
    make_key(mesh)
    key = add_guest(mesh, "ann", max_open=2)
    start(mesh, "one", "--threads", "8")
    guest, holder = mesh.app(key=str(key.path)), mesh.app()
    results = [guest.call("wait_at", gate.port, str(number)) for number in range(6)]
    gate.next(), gate.next()
    wait_until(lambda: "is full" in results[-1].why(), "the reason")
    assert holder.call("add", 1).result(PATIENCE) == 6
    assert gate.nobody()
    gate.open()
    assert [result.result(PATIENCE) for result in results] == [str(number) for number in range(6)]


def test_what_a_guest_sends_too_fast_comes_later(mesh: Mesh) -> None:
    """Nothing is lost; an hour would not do for all, so the node must have held back."""
    make_key(mesh)
    key = add_guest(mesh, "ann", "add", rate=5)
    start(mesh)
    guest, holder = mesh.app(key=str(key.path)), mesh.app()
    results = [guest.call("add", number) for number in range(12)]
    assert holder.call("add", 1).result(PATIENCE) == 6
    assert [result.result(PATIENCE) for result in results] == [number + 5 for number in range(12)]
    many = [guest.call("add", number) for number in range(20_000)]
    assert many[0].result(PATIENCE) == 5
    assert not many[-1].done()
    assert list(holder.map("add", range(100))) == [number + 5 for number in range(100)]
    assert not many[-1].done()


def test_others_are_served_while_a_guest_floods(mesh: Mesh, context: Context) -> None:
    """It sends what it likes; what is over its quota comes back, and is in nobody's way."""
    make_key(mesh)
    key = add_guest(mesh, "ann", "add", max_open=10, rate=100)
    node = start(mesh)
    holder, raw = mesh.app(), Raw(context, node, key)
    raw.open(mesh.name)
    body = marshal.encode_arguments((1, 1), {})[0]
    results = []
    for round in range(50):
        items = [("add", round * 200 + n, str(n), 1, None, body) for n in range(1, 201)]
        raw.send(m.Tasks(raw.token, raw.name, 0, {"add": 200}, items))
        raw.send(b"rubbish")
        results += [holder.call("add", number) for number in range(200)]
    assert [result.result(PATIENCE) for result in results] == [n + 5 for _ in range(50) for n in range(200)]
    answered(raw)
    assert mesh.app(key=str(key.path)).call("add", 1).result(PATIENCE) == 6


# ---------------------------------------------------------------------- revoked, and added again


def revoked(mesh: Mesh, node: Program, name: str) -> bytes:
    """Revoke a guest, wait until the node knows, and return what its entry was."""
    content = entry(mesh, name).read_bytes()
    assert mesh.invoke("keys", "revoke", name).code == 0
    node.line(f"guest {name} is none any more")
    return content


def test_a_revoked_guest_gets_nothing_more(mesh: Mesh, context: Context, gate: Gate) -> None:
    mesh_key = make_key(mesh)
    key = add_guest(mesh, "ann")
    node = start(mesh)
    holder = mesh.app()
    assert holder.call("add", 1).result(PATIENCE) == 6
    watcher = Raw(context, node, mesh_key)
    raw = Raw(context, node, key)
    for each in (raw, watcher):
        each.open(mesh.name)
    raw.sub.subscribe("pulse/")
    raw.receive(m.Pulse)
    monitors = [context.monitor(each) for each in (raw.sub, raw.push)]
    watcher.sub.subscribe(f"{raw.name}/")
    body = marshal.encode_arguments((gate.port,), {})[0]
    raw.send(raw.task(1, "until_cancelled", body))
    visitor = gate.next()
    breaks = holder.listen()

    revoked(mesh, node, "ann")

    await_event(monitors[0], zmq.EVENT_DISCONNECTED)
    while raw.sub.poll(0):
        raw.sub.recv_multipart()
    raw.send(raw.task(2))
    raw.send(raw.hello(mesh=mesh.name))
    await_event(monitors[1], zmq.EVENT_DISCONNECTED)
    for monitor in monitors:
        await_event(monitor, zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    visitor.go()  # it was told to cancel, and ends
    assert [holder.call("add", number).result(PATIENCE) for number in range(50)] == [n + 5 for n in range(50)]
    assert raw.sub.poll(0) == 0
    while watcher.sub.poll(0):
        topic = wire.topic_of(watcher.sub.recv_multipart()[0]).decode()
        assert not topic.startswith(raw.name) or "until" not in topic
    breaks.close()
    assert [event.text for event in breaks if event.node] == []
    assert node.line("somebody who is no guest any more: refused: ")


def await_event(monitor: Any, wanted: int) -> None:
    from zmq.utils.monitor import recv_monitor_message

    while True:
        assert monitor.poll(MILLISECONDS), "nothing happens"
        if recv_monitor_message(monitor)["event"] == wanted:
            return


def test_a_guest_hears_that_it_was_revoked_and_comes_back_by_itself(mesh: Mesh) -> None:
    make_key(mesh)
    key = add_guest(mesh, "ann")
    node = start(mesh)
    guest, holder = mesh.app(key=str(key.path)), mesh.app()
    assert guest.call("add", 1).result(PATIENCE) == 6
    assert holder.call("add", 1).result(PATIENCE) == 6
    content = revoked(mesh, node, "ann")
    wait_until(lambda: [peer.state for peer in guest.peers()] == ["locked out"], "being locked out")
    result = guest.call("add", 2)
    assert "does not accept our key" in result.why()
    assert "does not accept our key" in guest.peers()[0].cause
    ran = mesh.invoke("peers", "--key", str(key.path))
    assert "it does not accept our key" in ran.out + ran.err
    assert holder.call("add", 2).result(PATIENCE) == 7
    assert not result.done()

    entry(mesh, "ann").write_bytes(content)
    entry(mesh, "ann").chmod(0o600)
    assert result.result(PATIENCE) == 7
    assert [peer.state for peer in guest.peers()] == ["ready"]


def test_the_first_guest_of_a_node_that_runs(mesh: Mesh, context: Context) -> None:
    """Those that were there before keep their links, and their subscriptions."""
    make_key(mesh)
    node = start(mesh)
    holder = mesh.app()
    assert holder.call("add", 1).result(PATIENCE) == 6
    events = holder.listen()
    key = add_guest(mesh, "ann", "add")
    guest = mesh.app(key=str(key.path))
    assert guest.call("add", 1).result(PATIENCE) == 6
    assert list(holder.map("add", range(100))) == [number + 5 for number in range(100)]
    raw = Raw(context, node, key)
    raw.open(mesh.name)
    raw.sub.subscribe("")
    subscribed(raw, mesh.name)
    assert list(holder.map("add", range(100))) == [number + 5 for number in range(100)]
    answered(raw)
    events.close()
    assert [event.text for event in events if event.node] == []


def test_an_entry_that_breaks_leaves_the_guest_in(mesh: Mesh) -> None:
    make_key(mesh)
    key = add_guest(mesh, "ann")
    node = start(mesh)
    guest = mesh.app(key=str(key.path))
    assert guest.call("add", 1).result(PATIENCE) == 6
    whole = entry(mesh, "ann").read_bytes()
    entry(mesh, "ann").write_bytes(whole[:70])
    node.line("a guest is not as it should be; what it said before still holds: ")
    assert guest.call("add", 2).result(PATIENCE) == 7
    entry(mesh, "ann").write_bytes(whole.replace(b'"add", ', b'"mark", '))
    wait_until(lambda: "mark" in guest.peers()[0].functions, "other functions")
    assert guest.call("echo", 3).result(PATIENCE) == 3
    assert node.err.count("a guest is not as it should be") == 1
