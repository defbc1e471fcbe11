"""Security checks at live nodes and callers; which there are says `tests/test_security_checks.py`."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from dingo_zmq import App, EventCode, Level, Origin, Status, marshal
from dingo_zmq.errors import TaskFailed
from dingo_zmq.mesh import keys
from dingo_zmq.model import Code, Failure
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tests.support import MILLISECONDS, PATIENCE, Context, FakeNode, Gate, Mesh, Program, Raw, closed_port

MIB = 1024 * 1024
OPEN = ("--insecure-lan", "--bind", "127.0.0.1")
ENDED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
ENDED |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2", "--log-level", "debug")


def token_of(app: App) -> bytes:
    """Return the token of the link to its one node: a secret of both."""
    (peer,) = app.engine().caller.decider.peers.values()
    return bytes(peer.token)


def ports_of(node: Program) -> tuple[int, int]:
    port = int(Mesh.address(node).rpartition(":")[2])
    return port, port + 1


def memory(pid: int, what: str = "VmHWM") -> int:
    """Return bytes of a process: what it had at most until now, or VmSize."""
    (kilobytes,) = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


# ---------------------------------------------------------------------- S1 to S6: people without the key


def as_nobody(socket: zmq.Socket[bytes], right: keys.Key) -> None:
    """S1: no security at all."""


def as_user_with_password(socket: zmq.Socket[bytes], right: keys.Key) -> None:
    """S2."""
    socket.plain_username, socket.plain_password = b"admin", right.public


def with_a_random_key(socket: zmq.Socket[bytes], right: keys.Key) -> None:
    """S3."""
    keys.secure_client(socket, keys.new_key("mesh"), right.public)


def for_another_domain(socket: zmq.Socket[bytes], right: keys.Key) -> None:
    """S5: clients have no say in the domain; S3 and S6 with one of their own change nothing."""
    with_a_random_key(socket, right)
    socket.zap_domain = b"*"


def that_expects_another_server(socket: zmq.Socket[bytes], right: keys.Key) -> None:
    """S6."""
    keys.secure_client(socket, right, keys.new_key("mesh").public)


@pytest.mark.parametrize(
    "secured",
    [as_nobody, as_user_with_password, with_a_random_key, for_another_domain, that_expects_another_server],
)
def test_a_stranger_who_knows_all_of_a_link_cannot_speak_for_it(
    app: App,
    shared: Mesh,
    node: Program,
    context: Context,
    gate: Gate,
    tmp_path: Path,
    secured: Callable[[zmq.Socket[bytes], keys.Key], None],
) -> None:
    """He can neither submit, run, cancel nor read."""
    running = app.call("until_cancelled", gate.port)
    visitor = gate.next()
    push, sub = knock(context, node, lambda socket: secured(socket, shared.key()))
    marks, token, name = tmp_path / "marks", token_of(app), app.engine().id
    body = marshal.encode_arguments((str(marks), "stranger"), {})[0]
    refs = {"until_cancelled": [1]}
    for message in (
        m.Tasks(token, name, 0, {}, [("mark", 1, "1", 1, None, body)]),
        m.Cancel(token, refs, True),
        m.Recall(token, refs),
        m.Beat(token, name, 10**6, 10**6, {"until_cancelled": (1, 1, 0)}, {}),
        m.Hello(secrets.token_bytes(8), name, 10**6, b"", shared.name, [m.VERSION]),
        m.Bye(token),
    ):
        with contextlib.suppress(zmq.Again):  # no connection, nowhere to put it
            push.send(wire.encode(message), zmq.NOBLOCK)
    visitor.go()

    assert running.result(PATIENCE) is False
    assert app.call("mark", str(marks), "caller").result(PATIENCE)
    assert marks.read_text() == "caller\n"
    assert sub.poll(0) == 0


def knock(
    context: Context, node: Program, secure: Callable[[zmq.Socket[bytes]], None]
) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """Return sockets of somebody who has tried both ports, and has been turned away at both."""
    sockets = context.socket(zmq.PUSH), context.socket(zmq.SUB)
    sockets[1].subscribe("")
    monitors = [context.monitor(each) for each in sockets]
    for each, port in zip(sockets, ports_of(node), strict=True):
        secure(each)
        each.connect(f"tcp://127.0.0.1:{port}")
    for monitor in monitors:
        event = 0
        while not event & ENDED:
            assert monitor.poll(MILLISECONDS), "nothing happens"
            event = recv_monitor_message(monitor)["event"]
            assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
    return sockets


def test_a_key_that_was_replaced_is_of_no_use(mesh: Mesh, context: Context, tmp_path: Path) -> None:
    """S4: after a theft everybody gets a new key."""
    tmp_path.chmod(0o700)
    old, new = (keys.save_key(tmp_path / name, keys.new_key("mesh")) for name in ("old.key", "new.key"))
    words = ("--port", str(closed_port()), "--bind", "127.0.0.1")
    first = mesh.node("one", "--key", str(old.path), *words)
    thief = mesh.app(key=old.path)
    assert thief.call("add", 1).result(PATIENCE) == 6
    first.stop()
    second = mesh.node("one", "--key", str(new.path), *words)

    result = thief.call("add", 1)
    thief.engine().wait_for(lambda peers: "locked out" in {peer.state for peer in peers}, PATIENCE)
    assert not result.done()
    knock(context, second, lambda socket: keys.secure_client(socket, old, new.public))
    assert mesh.app(key=new.path).call("add", 1).result(PATIENCE) == 6


# ---------------------------------------------------------------------- S7 to S9: without the gatekeeper

UNGUARDED = """
import sys
import zmq
from dingo_zmq import App, errors
from dingo_zmq.mesh import keys

def secure_server(socket, key):
    if how == "not secured":
        return
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = key.public, key.secret
    if how == "a domain that nobody keeps":
        socket.zap_domain = keys.DOMAIN
    if how == "enforced without a domain":
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

def nobody(self, context, allowed, domain=b""):
    self.socket = context.socket(zmq.REP)

def admit_all(self, frames):
    return [b"1.0", frames[1], b"200", b"OK", b"anybody", b""]

how = sys.argv[1]
if how == "a gatekeeper who lets all in":
    keys.Gatekeeper._judge = admit_all
else:
    keys.secure_server = secure_server
if how in ("no gatekeeper", "a domain that nobody keeps"):
    keys.Gatekeeper.__init__ = nobody
app = App("mesh")
app.register("length", len)
try:
    app.serve()
except errors.ConfigError as exc:
    print(exc)
"""


@pytest.mark.parametrize(
    "how",
    [
        "no gatekeeper",
        "a domain that nobody keeps",
        "enforced without a domain",
        "not secured",
        "a gatekeeper who lets all in",
    ],
)
def test_a_node_that_would_let_anybody_in_does_not_serve(mesh: Mesh, how: str) -> None:
    """S7 and S8: CURVE alone lets in every key, and so does a domain that is enforced and not named."""
    node = mesh.script(UNGUARDED, how)
    assert "lets in a client with " in node.line("so this node does not serve", "out")
    assert node.wait() == 0


# ---------------------------------------------------------------------- S13: reports of others


def test_a_node_cannot_report_what_another_one_runs(
    shared: Mesh, node: Program, context: Context, gate: Gate
) -> None:
    """S13: refs mean something on the link alone that they are told on; what is told elsewhere is only counted."""
    fake = FakeNode(context, shared.key())
    app = shared.app(peers=[fake.address])
    app.engine()
    fake.subscription(b"")
    hello = fake.hello()
    fake.publish(hello.caller, fake.welcome(hello))
    app.engine().wait_for(lambda peers: {peer.state for peer in peers} == {"ready"} and len(peers) == 2, PATIENCE)
    counted = threading.Semaphore(0)
    app.listen(
        Origin.CALLER,
        Level.DEBUG,
        callback=lambda event: counted.release() if event.code == EventCode.REPEATED else None,
    )
    result = app.options(node="one").call("wait_at", gate.port, "the truth")
    visitor = gate.next()
    topic = wire.task_topic(hello.caller, "wait_at", result.id)
    for link in (hello.link, secrets.token_bytes(8), bytes(8)):
        item = (1, "wait_at", 1, 1, int(Status.SUCCESS), b"\xa5a lie")
        fake.xpub.send(wire.encode(m.Reports(link, {"wait_at": (9, 1)}, (0, 0), [item]), topic))
        assert counted.acquire(timeout=PATIENCE)
    assert not result.done()
    visitor.go()
    assert result.result(PATIENCE) == "the truth"


# ---------------------------------------------------------------------- S14 to S16: replay


class Recorder:
    """Passes connections on to a port, and keeps what clients sent."""

    def __init__(self, port: int) -> None:
        self._port, self.sent = port, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                for ends in ((client, server, True), (server, client, False)):
                    self._threads.append(threading.Thread(target=self._pass, args=ends))
                    self._threads[-1].start()

    def _pass(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep:
                    self.sent += data
                target.sendall(data)

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(PATIENCE)


def until_closed(connection: socket.socket) -> bytes:
    """Return what the other side says until it closes the connection."""
    connection.settimeout(PATIENCE)
    said = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := connection.recv(65536):
            said += data
    return said


def heard(raw: Raw, incarnation: bytes) -> m.Beat:
    """Return what tells the node that the answer has been heard, so that it need not stay for that."""
    return m.Beat(raw.token, raw.name, 2, 1, {}, {}, incarnation)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_session_that_was_recorded_says_nothing_twice(
    mesh: Mesh, context: Context, tmp_path: Path, restarted: bool
) -> None:
    """S14, and S16 where the node has been started again."""
    words = ("--port", str(closed_port()))
    node = mesh.node("one", *words)
    recorder = Recorder(ports_of(node)[0])
    raw = Raw(context, node, mesh.key())
    incarnation = raw.open(mesh.name).incarnation
    raw.push.disconnect(Mesh.address(node))
    raw.push.connect(f"tcp://127.0.0.1:{recorder.port}")
    marks = tmp_path / "marks"
    raw.send(raw.task(1, "mark", marshal.encode_arguments((str(marks), "once"), {})[0]))
    assert raw.answer()[0] == Status.SUCCESS
    if restarted:
        raw.send(heard(raw, incarnation))
        node.stop()
        node = mesh.node("one", *words)

    recorder.close()
    assert len(recorder.sent) > 500
    with socket.create_connection(("127.0.0.1", ports_of(node)[0])) as replay:
        replay.sendall(recorder.sent)
        until_closed(replay)
    assert mesh.app().call("add", 1).result(PATIENCE) == 6
    assert marks.read_text() == "once\n"


def test_a_task_that_is_sent_again_is_not_started_again(
    app: App, shared: Mesh, node: Program, context: Context, tmp_path: Path
) -> None:
    """S15: whoever repeats a whole message, on another connection too, has nothing run."""
    raw, other = Raw(context, node, shared.key()), Raw(context, node, shared.key())
    raw.open(shared.name)
    other.open(shared.name)
    marks = tmp_path / "marks"
    task = raw.task(1, "mark", marshal.encode_arguments((str(marks), "once"), {})[0])
    for sender in (raw, raw, other):
        sender.send(task)
    assert raw.answer()[0] == Status.SUCCESS
    for sender in (raw, other):
        sender.send(task)
        sender.send(sender.task(10**6))  # over its credit: refused, but answered, and all before it has been read
        sender.receive(m.Recalled)
    assert app.call("add", 1).result(PATIENCE) == 6
    assert marks.read_text() == "once\n"


def test_what_was_meant_for_an_earlier_incarnation_is_refused(
    mesh: Mesh, context: Context, tmp_path: Path
) -> None:
    """S16: also from somebody who holds the key and repeats what he heard before the restart."""
    words = ("--port", str(closed_port()))
    node = mesh.node("one", *words)
    raw = Raw(context, node, mesh.key())
    incarnation = raw.open(mesh.name).incarnation
    marks = tmp_path / "marks"
    task = raw.task(1, "mark", marshal.encode_arguments((str(marks), "once"), {})[0])
    raw.send(task)
    assert raw.answer()[0] == Status.SUCCESS
    raw.send(heard(raw, incarnation))
    node.stop()
    mesh.node("one", *words)

    believed = raw.hello(mesh=mesh.name, incarnation=incarnation)
    beat = m.Beat(raw.token, raw.name, 9, 0, {"mark": (1, 0, 0)}, {"mark": [1]}, incarnation)
    for message in (task, believed, beat):
        refused: list[m.Refused] = []
        raw.sub.rcvtimeo = 200
        while not refused:  # the sockets connect again by themselves
            raw.send(message)
            with contextlib.suppress(zmq.Again):
                refused.append(raw.receive(m.Refused))
        assert refused[0].reason == m.REFUSED_UNKNOWN
    assert marks.read_text() == "once\n"


# ---------------------------------------------------------------------- S21 to S24: too much of it

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00%s" + bytes(32)
READY = b"\x05READY\x0bSocket-Type" + (4).to_bytes(4, "big") + b"PUSH"
LONG, MORE, COMMAND = 2, 1, 4


def greeted(port: int, mechanism: bytes) -> socket.socket:
    """Return a connection on which a ZMTP greeting was said, and what makes a PUSH of it where there is no key."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(GREETING % mechanism.ljust(20, b"\0"))
    if mechanism == b"NULL":
        connection.sendall(bytes((COMMAND, len(READY))) + READY)
    return connection


@pytest.fixture
def open_node(mesh: Mesh) -> Program:
    """A node without a key: what only its holders can do elsewhere can be done by hand there."""
    return mesh.node("open", *OPEN)


def test_a_frame_of_a_tebibyte_is_not_waited_for(app: App, node: Program, open_node: Program) -> None:
    """S21: neither before somebody was let in nor after."""
    for where, mechanism, flags in (
        (node, b"CURVE", LONG),
        (node, b"CURVE", LONG | COMMAND),
        (node, b"NULL", LONG),
        (open_node, b"NULL", LONG),
        (open_node, b"NULL", LONG | MORE),
    ):
        (pid,) = where.children()
        before = memory(pid)
        for port in ports_of(where):
            with greeted(port, mechanism) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(bytes((flags,)) + (1 << 40).to_bytes(8, "big") + bytes(4096))
                until_closed(connection)
        assert memory(pid) - before < 16 * MIB
        assert where.children() == [pid]


def test_a_frame_over_the_body_limit_breaks_the_connection(mesh: Mesh, context: Context) -> None:
    """S22: what a caller checks before it sends is checked by the node as well."""
    node = mesh.script(LIMITED)
    node.line("serving", "out")
    app = mesh.app()
    assert app.call("length", bytes(MIB // 2)).result(PATIENCE) == MIB // 2
    (found,) = app.peers()
    raw = context.socket(zmq.PUSH)
    keys.secure_client(raw, mesh.key())
    monitor = context.monitor(raw)
    raw.connect(found.address)
    raw.send(b"T" + bytes(4 * MIB))
    event = 0
    while event != zmq.EVENT_DISCONNECTED:
        assert monitor.poll(MILLISECONDS), "the connection stays"
        event = recv_monitor_message(monitor)["event"]
    raw.disconnect(found.address)
    assert app.call("length", b"abc").result(PATIENCE) == 3


LIMITED = """
import threading
from dingo_zmq import App

app = App("mesh", limit=1024 * 1024)
app.register("length", len)
app.serve(name="limited")
print("serving", flush=True)
threading.Event().wait()
"""


def test_a_message_without_an_end_costs_no_task(open_node: Program, mesh: Mesh, gate: Gate) -> None:
    """S23: the memory that a process may have is its bound; at it the connection goes, and all else goes on."""
    app = mesh.app(insecure_lan=True, bind=["127.0.0.1"])
    result = app.call("wait_at", gate.port, "not lost")
    gate.next()
    (pid,) = open_node.children()
    most = memory(pid, "VmSize") + 256 * MIB
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
    frame = bytes((LONG | MORE,)) + MIB.to_bytes(8, "big") + bytes(MIB)
    sent = 0
    with greeted(ports_of(open_node)[0], b"NULL") as connection, contextlib.suppress(ConnectionError):
        while True:
            connection.sendall(frame)
            sent += 1

    assert 128 < sent < 512
    gate.open()
    assert result.result(PATIENCE) == "not lost"
    assert [app.call("add", number).result(PATIENCE) for number in range(20)] == list(range(5, 25))


def test_ten_thousand_connections_that_say_nothing(app: App, node: Program) -> None:
    """S24: callers that have a link do not feel them, and they leave nothing behind."""
    (pid,) = node.children()
    before = memory(pid)
    ports = ports_of(node)
    for number in range(10):
        crowd = [socket.create_connection(("127.0.0.1", ports[each % 2])) for each in range(1000)]
        for half in crowd[::4]:
            half.sendall(GREETING[:10])
        assert app.call("add", number, 1).result(PATIENCE) == number + 1
        for each in crowd:
            each.close()
    assert memory(pid) - before < 64 * MIB


# ---------------------------------------------------------------------- S27: subscriptions


def test_a_hundred_thousand_subscriptions(app: App, shared: Mesh, node: Program, context: Context) -> None:
    """S27: whoever is let in may subscribe as he likes; others get their results as before."""
    (pid,) = node.children()
    before = memory(pid)
    subscriber = context.socket(zmq.XSUB)
    subscriber.sndhwm = 0
    keys.secure_client(subscriber, shared.key())
    subscriber.connect(f"tcp://127.0.0.1:{ports_of(node)[1]}")
    for number in range(100_000):
        subscriber.send(b"\x01%s%012d/" % (b"watch/" if number % 2 else b"", number))
    here = f"watch/{app.engine().id}/"
    subscriber.send(f"\x01{here}".encode())
    while not subscriber.poll(10):  # until that is heard, and so all before it
        app.call("add", 1).result(PATIENCE)
    assert list(app.map("add", range(2000))) == [number + 5 for number in range(2000)]
    assert memory(pid) - before < 128 * MIB


# ---------------------------------------------------------------------- S29 to S32: names that are more than names


def test_a_failure_of_any_type_is_text(shared: Mesh, node: Program, context: Context) -> None:
    """S29: nothing is looked up by what a node says its exception was."""
    fake = FakeNode(context, shared.key())
    app = shared.app(peers=[fake.address], discovery=[])
    results = [app.call("fake") for _ in range(3)]
    fake.subscription(b"")
    hello = fake.hello()
    fake.publish(hello.caller, fake.welcome(hello))
    items: list[m.TaskItem] = []
    while len(items) < len(results):
        if isinstance(tasks := wire.decode_caller(fake.pull.recv_multipart()), m.Tasks):
            items += tasks.items
    types = ["os.system", "builtins.SystemExit", "dingo_zmq.errors.ConfigError"]
    for number, (item, kind) in enumerate(zip(items, types, strict=True), 1):
        body, _ = marshal.encode_failure(Failure(Code.RAISED, "rm -rf /\x1b[2J", kind, "File /etc/passwd"))
        report = (number, "fake", item[1], item[3], int(Status.FAIL), body)
        fake.publish(hello.caller, m.Reports(hello.link, {}, (0, 0), [report]))
    for result, kind in zip(results, types, strict=True):
        with pytest.raises(TaskFailed) as caught:
            result.result(PATIENCE)
        assert type(caught.value) is TaskFailed
        assert caught.value.failure.type == kind
        assert "\x1b" not in str(caught.value)


def test_functions_that_are_not_registered_are_not_looked_for(
    app: App, shared: Mesh, node: Program, context: Context
) -> None:
    """S30."""
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    for name in (
        "os.system",
        "__class__",
        "../../x",
        "served.add",
        "add.__globals__",
        "add\0",
        "app",
        "__import__",
    ):
        raw.send(raw.task(1, name, marshal.encode_arguments(("touch /tmp/x",), {})[0]))
        recalled = raw.receive(m.Recalled)
        assert (recalled.reason, recalled.refs) == (m.UNKNOWN_FUNCTION, {name: [1]})


LINES = ("\x1b[2J\x1b[31m", "a\nCRITICAL false line", "\u202egnp")
WORDS = ("../../etc/passwd", "a/b", "..", "a\0b", *LINES, "x" * 200)


def test_ids_and_names_leave_no_file_and_no_line_of_their_own(
    app: App, shared: Mesh, node: Program, context: Context, tmp_path: Path
) -> None:
    """S31 and S32: as ids of tasks, names of callers and of functions; 4 KiB of them are no message at all."""
    here = set(Path.cwd().iterdir())
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    for number, word in enumerate((*WORDS, "x" * 4096), 1):
        body = marshal.encode_arguments((word,), {})[0]
        raw.send(m.Tasks(raw.token, raw.name, 0, {}, [("spoil", number, word, 1, None, body)]))
        raw.send(m.Tasks(raw.token, word, 0, {word: 1}, [(word, 1, "1", 1, None, b"\x90")]))
        raw.send(raw.hello(caller=word, mesh=word, link=secrets.token_bytes(8)))
        raw.send(m.Tasks(secrets.token_bytes(8), word, 0, {}, []))
    last = Raw(context, node, shared.key())
    last.open(shared.name)
    last.send(last.task(1, "spoil", marshal.encode_arguments(("the end",), {})[0]))
    assert last.answer()[0] == Status.FAIL

    node.line("the end")
    lines = [line for line in node.err.splitlines() if line]
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d .* (DEBUG|INFO|WARNING|ERROR) ", line)] == []
    assert [line for line in lines if not line.isprintable()] == []
    assert set(Path.cwd().iterdir()) == here
    names = [name for _, folders, files in os.walk(shared.folder) for name in (*folders, *files)]
    assert [name for name in names if "passwd" in name or "x" * 100 in name] == []


# ---------------------------------------------------------------------- S33 to S36: what is left behind


def test_the_secret_is_in_its_file_alone(mesh: Mesh, tmp_path: Path) -> None:
    """S33 to S35: not in command lines, environments, logs, core files of processes that crash, nor journals."""
    before = os.umask(0)
    try:
        mesh.invoke("keygen")
        key = keys.find_key()
        node = mesh.node("one", "--processes", "2", "--bind", "127.0.0.1", "--log-level", "debug")
        app = mesh.app(journal=tmp_path / "tasks.db", bind=["127.0.0.1"])
        assert app.call("add", 1).result(PATIENCE) == 6
        assert app.call("segfault").wait(PATIENCE).fail
        with pytest.raises(TaskFailed):
            app.call("spoil", "traceback").result(PATIENCE)
    finally:
        os.umask(before)
    pids = [node.pid, *node.children()]
    assert len(pids) == 3
    assert key.path is not None
    files = [path for folder in (mesh.folder, tmp_path) for path in folder.rglob("*") if path.is_file()]
    told = [Path(f"/proc/{pid}/{what}").read_bytes() for pid in pids for what in ("cmdline", "environ")]
    told += [path.read_bytes() for path in files if path != key.path]
    told += [node.err.encode(), node.out.encode()]
    assert any(b"spoil" in each for each in told)
    assert key.secret in key.path.read_bytes()
    for secret in (key.secret, bytes(z85.decode(key.secret))):
        assert [each[:60] for each in told if secret in each] == []
    # S36: what was made under umask 000 is for nobody else
    assert [path for path in files if path.stat().st_mode & 0o077] == []
