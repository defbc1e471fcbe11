"""Meshes of real processes for tests: nodes, callers, and gates at which tasks can be held."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import zmq
from click.testing import CliRunner

from dingo_zmq import App, Ledger, marshal
from dingo_zmq.cli import main
from dingo_zmq.mesh import keys
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire

PATIENCE = 30.0
"""seconds after which a test gives up waiting for something"""
MILLISECONDS = int(PATIENCE * 1000)

SERVED = Path(__file__).parent / "served.py"
PREFIX = "DINGO_ZMQ_"

M = TypeVar("M", bound=m.Message)


def wait_until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Look again and again, for what nobody tells us of (files, processes of others)."""
    deadline = time.monotonic() + patience
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        threading.Event().wait(0.01)
    return value


def settled(ledger: Ledger) -> Ledger:
    """Check that every task called is settled, and return the ledger."""
    assert ledger.called == ledger.ok + ledger.failed + ledger.cancelled + ledger.expired, ledger
    assert (ledger.open, ledger.tasks) == (0, ()), ledger
    return ledger


class Program:
    """
    A command in a process of its own; its lines can be waited for.

    Args:
        words: after ``python -m dingo_zmq``, or a whole command line if `command` is given.
        env: its environment.
    """

    def __init__(self, *words: str, env: dict[str, str], command: list[str] | None = None) -> None:
        self.command = command or [sys.executable, "-m", "dingo_zmq", *map(str, words)]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.pid = self.process.pid
        self._news = threading.Condition()
        self._lines: list[tuple[str, str]] = []
        self._shown = 0
        self._readers = [
            threading.Thread(
                target=self._read, args=(name, stream), daemon=True, name=f"reads {name} of {self.pid}"
            )
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self._lines.append((name, line.rstrip("\n")))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def line(self, text: str, stream: str = "") -> str:
        """Wait for a line with `text` in it, and return it."""

        def found() -> str | None:
            return next((line for name, line in self._lines if text in line and stream in ("", name)), None)

        def over() -> bool:
            return found() is not None or not any(reader.is_alive() for reader in self._readers)

        with self._news:
            deadline = time.monotonic() + PATIENCE
            while not over() and time.monotonic() < deadline:
                self._news.wait(0.5)  # the end of a reader is not told
            line = found()
        assert line is not None, f"no line with {text!r}\n{self}"
        return line

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"does not end\n{self}", pytrace=False)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """End it and its children, whatever they do."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)

    @property
    def out(self) -> str:
        """What it has printed on stdout."""
        return "".join(f"{line}\n" for name, line in self._lines if name == "out")

    @property
    def err(self) -> str:
        """What it has printed on stderr."""
        lines = [line for name, line in self._lines if name == "err"]
        return "".join(f"{line}\n" for line in lines if "runs as root" not in line)

    def children(self) -> list[int]:
        """Return the pids of its child processes, Linux only."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    def show(self) -> None:
        """Print what it has printed since the last time, for whoever reads a failure."""
        lines, self._shown = self._lines[self._shown :], len(self._lines)
        if lines:
            print(f"--- {self._title()}", *(f"{name}: {line}" for name, line in lines), sep="\n")

    def _title(self) -> str:
        code = self.process.poll()
        state = "running" if code is None else f"ended with {code}"
        return f"{' '.join(self.command[1:])} (pid {self.pid}, {state})"

    def __str__(self) -> str:
        return "\n".join([self._title(), *(f"{name}: {line}" for name, line in self._lines)])


class Ran(NamedTuple):
    """What a command in this process came to."""

    code: int
    out: str
    err: str


class Mesh:
    """
    A mesh of its own: name, key and folders, and everything that was started in it.

    Args:
        folder: where its configuration and runtime folders are; made.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"test-{secrets.token_hex(6)}"
        self.folder = folder
        self.settings = {f"{PREFIX}MESH": self.name, f"{PREFIX}DISCOVERY": "directory"}
        for kind in ("config", "runtime"):
            (folder / kind[0]).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.settings[f"{PREFIX}{kind.upper()}_DIR"] = str(folder / kind[0])
        self.programs: list[Program] = []
        self.apps: list[App] = []

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process in this mesh."""
        rest = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**rest, **self.settings}

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Make this process one of this mesh."""
        for name, value in self.settings.items():
            patch.setenv(name, value)

    def program(self, *words: str, **changes: str) -> Program:
        """Start ``dingo-zmq WORDS``."""
        program = Program(*words, env={**self.env, **changes})
        self.programs.append(program)
        return program

    def script(self, text: str, *words: str) -> Program:
        """Start a Python program, kept in a file as a person would have it."""
        file = self.folder / f"script_{secrets.token_hex(3)}.py"
        file.write_text(text)
        program = Program(
            env={**self.env, "PYTHONPATH": str(SERVED.parent.parent)}, command=[sys.executable, str(file), *words]
        )
        self.programs.append(program)
        return program

    def run(self, *words: str, **changes: str) -> Program:
        """Run ``dingo-zmq WORDS`` to its end."""
        program = self.program(*words, **changes)
        program.wait()
        return program

    def invoke(self, *words: str) -> Ran:
        """Run ``dingo-zmq WORDS`` in this process, which has to be in the mesh; quicker than `run`."""
        ran = CliRunner().invoke(main, words, prog_name="dingo-zmq")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def node(self, name: str = "one", *words: str, target: Path | str = SERVED) -> Program:
        """Start a node and wait until it serves."""
        program = self.program("node", str(target), "--name", name, *words)
        program.line("node ", "out")
        return program

    @staticmethod
    def address(node: Program) -> str:
        """Return where a node takes tasks, as it has printed it."""
        return node.line(" at tcp://", "out").split(" at ")[1].split(",")[0]

    def app(self, **settings: Any) -> App:
        """Return a caller in this mesh, which is closed at the end of the test."""
        app = App("mesh", **{"mesh": self.name, "discovery": ["directory"], **settings})
        self.apps.append(app)
        return app

    def key(self) -> keys.Key:
        """Return the key of this mesh."""
        return keys.local_key(self.settings[f"{PREFIX}CONFIG_DIR"])

    def close_apps(self) -> None:
        while self.apps:
            app = self.apps.pop()
            app.close(wait=False)
            settled(app.ledger())

    def close(self) -> None:
        self.close_apps()
        for program in self.programs:
            program.end()

    def show(self) -> None:
        for program in self.programs:
            program.show()


@pytest.fixture(scope="module")
def module_mesh(session_folder: Path) -> Iterator[Mesh]:
    """A mesh for all tests of a module; they enter it with `shared`."""
    mesh = Mesh(session_folder / f"m{secrets.token_hex(3)}")
    yield mesh
    mesh.close()


@pytest.fixture
def shared(module_mesh: Mesh, own_mesh: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    """The module's mesh; this process is in it, and what a test opens there ends with the test."""
    module_mesh.enter(monkeypatch)
    known = len(module_mesh.programs)
    yield module_mesh
    module_mesh.close_apps()
    for program in module_mesh.programs[known:]:
        program.end()
    module_mesh.show()
    del module_mesh.programs[known:]


@pytest.fixture
def mesh(session_folder: Path, own_mesh: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mesh]:
    """A mesh for one test alone; this process is in it."""
    mesh = Mesh(session_folder / f"t{secrets.token_hex(3)}")
    mesh.enter(monkeypatch)
    yield mesh
    mesh.close()
    mesh.show()


@pytest.fixture
def app(shared: Mesh, node: Program) -> Iterator[App]:
    """A caller linked to the module's `node` before the test, whose calls work after it, to the same processes."""
    app = shared.app()
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    children = node.children()
    yield app
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert node.children() == children


def file_that_dies(folder: Path) -> Path:
    """Write a file to serve whose one task is at-most-once and ends its process."""
    file = folder / "once.py"
    file.write_text(
        "import os\n"
        "from dingo_zmq import App\n"
        "app = App()\n"
        "@app.task(at_most_once=True)\n"
        "def die() -> None:\n"
        "    os._exit(1)\n"
    )
    return file


class Visitor:
    """A task that waits at a gate."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(PATIENCE)
        with connection.makefile() as lines:
            word, pid, attempt = lines.readline().split("\t")
        self.word, self.pid, self.attempt = word, int(pid), int(attempt)

    def go(self) -> None:
        """Let it pass."""
        self._connection.close()

    def gone(self) -> None:
        """Wait until it is no longer there: its process has ended."""
        with contextlib.suppress(ConnectionResetError):
            assert self._connection.recv(1) == b""


class Gate:
    """Holds the tasks of `served.wait_at` until they may go on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._visitors: list[Visitor] = []

    def next(self) -> Visitor:
        """Wait for the next task to arrive."""
        visitor = Visitor(self._listener.accept()[0])
        self._visitors.append(visitor)
        return visitor

    def nobody(self) -> bool:
        """Return whether no task stands there unseen."""
        self._listener.settimeout(0)
        try:
            self._visitors.append(Visitor(self._listener.accept()[0]))
        except BlockingIOError:
            return True
        finally:
            self._listener.settimeout(PATIENCE)
        return False

    def open(self) -> None:
        """Let all pass who are there and who come later."""
        self._listener.close()
        for visitor in self._visitors:
            visitor.go()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate for tasks, opened at the end."""
    gate = Gate()
    yield gate
    gate.open()


class Context:
    """A ZeroMQ context that keeps its sockets until the end, for what is no dingo-zmq."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        return socket

    def monitor(self, socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        """Return a socket with the events of another one."""
        monitor = socket.get_monitor_socket()
        self._sockets.insert(0, monitor)
        return monitor

    def close(self) -> None:
        for each in self._sockets:
            each.close(0)
        self._context.term()


@pytest.fixture
def context() -> Iterator[Context]:
    """A ZeroMQ context of a test's own."""
    context = Context()
    yield context
    context.close()


class Raw:
    """
    The sockets of a caller that speaks by hand.

    Args:
        context: of the test.
        node: what it talks to.
        key: its own pair, None for no security.
        server: public key that it expects of the node, where it is another one.
    """

    def __init__(self, context: Context, node: Program, key: keys.Key | None, server: bytes | None = None) -> None:
        self.name = keys.callers_of(key) + secrets.token_hex(8)
        self.push, self.sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        address = Mesh.address(node)
        host, _, port = address.rpartition(":")
        for each, endpoint in ((self.push, address), (self.sub, f"{host}:{int(port) + 1}")):
            if key is not None:
                keys.secure_client(each, key, server)
            each.connect(endpoint)
        self.sub.subscribe(f"{self.name}/")
        self.sub.rcvtimeo = self.push.sndtimeo = MILLISECONDS
        self.token = secrets.token_bytes(8)
        self.number = 0

    def hello(self, **changes: Any) -> m.Hello:
        self.number += 1
        fields = {"link": self.token, "caller": self.name, "number": self.number, "incarnation": b""}
        fields |= {"mesh": "", "versions": [m.VERSION], **changes}
        return m.Hello(**fields)

    def send(self, message: m.Message | bytes, *more: bytes) -> None:
        first = message if isinstance(message, bytes) else wire.encode(message)
        self.push.send_multipart([first, *more])

    def receive(self, kind: type[M]) -> M:
        """Wait for a message of one kind; others before it (the node may say Welcome twice) are dropped."""
        while not isinstance(message := wire.decode_node(self.sub.recv_multipart()), kind):
            pass
        return message

    def watched(self) -> list[bytes]:
        """Wait for the next copy of a report."""
        while not (frames := self.sub.recv_multipart())[0].startswith(b"watch/"):
            pass
        return frames

    def watch(self, topic: str, mesh: str, probe: App) -> None:
        """Subscribe, and wait until the node knows it: it has seen a later subscription, to all of `probe`."""
        self.open(mesh)
        self.sub.subscribe(topic)
        self.sub.subscribe(f"watch/{probe.engine().id}/")
        for _ in range(MILLISECONDS // 50):
            probe.call("echo", "is anybody watching?").result(PATIENCE)
            if self.sub.poll(50) and self.sub.recv_multipart()[0].startswith(b"watch/"):
                break
        self.pass_by(probe)

    def pass_by(self, probe: App) -> None:
        """Drop the copies of a task of `probe` and of those before; fail at any other."""
        last = probe.call("echo", "the last one")
        head = f"watch/{probe.engine().id}/echo/"
        while (topic := wire.topic_of(self.watched()[0]).decode()) != f"{head}{last.id}/":
            assert topic.startswith(head)
        for _ in ("PROGRESS", "SUCCESS"):
            assert wire.topic_of(self.watched()[0]).decode() == f"{head}{last.id}/"

    def silent(self) -> bool:
        """Return whether nothing waits."""
        return self.sub.poll(0) == 0

    def open(self, mesh: str) -> m.Welcome:
        """Say hello until the node is heard: our subscription may come after its first answer."""
        for _ in range(MILLISECONDS // 200):
            self.send(self.hello(mesh=mesh))
            self.sub.rcvtimeo = 200
            try:
                return self.receive(m.Welcome)
            except zmq.Again:
                continue
            finally:
                self.sub.rcvtimeo = MILLISECONDS
        raise AssertionError("the node does not answer")

    def task(self, number: int, name: str = "add", body: bytes | None = None) -> m.Tasks:
        body = marshal.encode_arguments((number, 1), {})[0] if body is None else body
        return m.Tasks(self.token, self.name, 0, {}, [(name, number, str(number), 1, None, body)])

    def answer(self) -> tuple[int, Any]:
        """Return status and value of the next report."""
        (item,) = self.receive(m.Reports).items
        return item[4], item[5]


class FakeNode:
    """A node that holds the key and publishes what it likes."""

    def __init__(self, context: Context, key: keys.Key) -> None:
        self.pull, self.xpub = context.socket(zmq.PULL), context.socket(zmq.XPUB)
        port = closed_port()
        for number, each in enumerate((self.pull, self.xpub)):
            each.curve_server = True
            each.curve_publickey, each.curve_secretkey = key.public, key.secret
            each.rcvtimeo = MILLISECONDS
            each.bind(f"tcp://127.0.0.1:{port + number}")
        self.address = f"tcp://127.0.0.1:{port}"

    def hello(self) -> m.Hello:
        """Wait for a caller's hello."""
        while not isinstance(hello := wire.decode_caller(self.pull.recv_multipart()), m.Hello):
            pass
        return hello

    def subscription(self, start: bytes) -> bytes:
        """Wait for a subscription that starts so, and return the whole."""
        while not (frame := self.xpub.recv()).startswith(b"\x01" + start):
            pass
        return frame[1:]

    def welcome(self, hello: m.Hello) -> m.Welcome:
        functions = {"add": (1, "(a, b)", "", False), "fake": (1, "()", "", False)}
        return m.Welcome(
            hello.link, hello.number, "fake-id", b"12345678", "fake", hello.mesh, [], 1 << 20, functions, 1, 1000,
            {"fake": 10}, False,
        )  # fmt: skip

    def publish(self, caller: str, message: m.Message, *more: bytes) -> None:
        self.xpub.send_multipart([wire.encode(message, f"{caller}/".encode()), *more])


def closed_port() -> int:
    """Return the first of two ports that nobody listens on."""
    for first in random.sample(range(20_000, 32_000, 2), 100):  # below those of outgoing connections
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", first))
                two.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first
    raise AssertionError("no free pair of ports")
