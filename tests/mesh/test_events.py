"""Events of a mesh: what becomes of nodes and tasks, told as it happens."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from dingo_zmq import Code, Event, EventCode, EventStream, Level, Origin, Status, marshal
from dingo_zmq.mesh import keys
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tests.support import PATIENCE, Context, FakeNode, Gate, Mesh, wait_until

HOG = """
import ctypes, os, socket
from dingo_zmq import App

app = App("mesh")

@app.task
def hog(port: int) -> int:
    "Keep the GIL until the gate opens: only libzmq's own threads go on."
    with socket.create_connection(("127.0.0.1", port)) as visit:
        visit.sendall(f"hog\\t{os.getpid()}\\t1\\n".encode())
        return ctypes.PyDLL(None).recv(visit.fileno(), ctypes.create_string_buffer(1), 1, 0)
"""

LISTENS = """
from dingo_zmq import App, Level

app = App("mesh")
app.listen("worker", Level.INFO, callback=lambda event: print("heard:", event.text, flush=True))

@app.task
def spoil() -> int:
    raise LookupError("rotten")
"""


def until(stream: EventStream, true: Callable[[Event], bool]) -> Event:
    """Return the next event of a kind, and pass by those before it."""
    while not true(event := stream.get(PATIENCE)):
        pass
    return event


def coded(stream: EventStream, code: EventCode) -> Event:
    return until(stream, lambda event: event.code is code)


def known(event: Event) -> tuple[str, str, str, str, str]:
    return event.origin, event.level.name, event.node, event.name, event.id


# ---------------------------------------------------------------------- nodes that come and go


def test_found_lost_and_what_is_sent_again(mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mesh.node("one", "--threads", "1")
    app = mesh.app()
    with caplog.at_level(logging.INFO, "dingo_zmq"), app.listen("caller", Level.INFO) as stream:
        first = stream.get(PATIENCE)  # waiting for it starts the App
        assert (first.code, first.text, *known(first)) == (
            EventCode.FOUND,
            "one: found",
            "caller",
            "INFO",
            "one",
            "",
            "",
        )
        result = app.call("kill_once", str(tmp_path / "once"))
        again = stream.get(PATIENCE), stream.get(PATIENCE)
        assert result.result(PATIENCE) == 2
        found = coded(stream, EventCode.FOUND)
    lost = next(event for event in again if event.code is EventCode.LOST)
    assert known(lost) == ("caller", "WARNING", "one", "", "")
    sent = next(event for event in again if event.code is EventCode.REDELIVERED)
    assert known(sent) == ("caller", "INFO", "one", "kill_once", "1")
    assert sent.text == "one: task kill_once id 1 is sent again: the node was lost"
    assert [record.getMessage() for record in caplog.records] == [e.text for e in (first, *again, found)]


def test_gone_in_good_order(mesh: Mesh) -> None:
    node = mesh.node("one")
    app = mesh.app()
    stream = app.listen(level=Level.INFO)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert node.stop() == 0
    assert coded(stream, EventCode.GONE).text == "one: gone: it has ended"


def test_a_node_that_keeps_the_gil_is_busy(mesh: Mesh, gate: Gate) -> None:
    file = mesh.folder / "hog.py"
    file.write_text(HOG)
    mesh.node("one", target=file)
    app = mesh.app()
    stream = app.listen(level=Level.INFO)
    result = app.call("hog", gate.port)
    visitor = gate.next()
    busy = coded(stream, EventCode.BUSY)
    assert busy.text.startswith("one: silent for ")
    assert busy.text.endswith(" s; it gets no new tasks until it answers")
    assert [peer.state for peer in app.peers()] == ["silent"]
    visitor.go()
    assert coded(stream, EventCode.FOUND).text == "one: answers again"
    assert result.result(PATIENCE) == 0


def test_a_node_with_another_key_refuses_us(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.node("one")
    monkeypatch.setenv("DINGO_ZMQ_CONFIG_DIR", str(tmp_path))
    event = coded(mesh.app().listen(), EventCode.REFUSED)
    assert known(event) == ("caller", "WARNING", "one", "", "")
    assert "locked out: it has another key" in event.text


# ---------------------------------------------------------------------- what comes in


def greeted(fake: FakeNode) -> m.Hello:
    """Welcome a caller as soon as it can hear it."""
    hello = fake.hello()
    fake.subscription(hello.caller.encode())
    fake.publish(hello.caller, fake.welcome(hello))
    return hello


def test_what_a_strange_node_sends_is_told(mesh: Mesh, context: Context) -> None:
    fake = FakeNode(context, mesh.key())
    app = mesh.app(peers=[fake.address])
    task = app.declare("fake", lambda: 1)
    stream = app.listen(level=Level.DEBUG)
    result = task.options(monitor_progress=True).call()
    hello = greeted(fake)

    def report(status: Status, body: bytes, kept: int) -> None:
        item = (kept, "fake", 1, 1, int(status), body)
        fake.publish(hello.caller, m.Reports(hello.link, {}, (0, 0), [item]))

    coded(stream, EventCode.FOUND)
    fake.xpub.send(f"{hello.caller}/\0?".encode())
    dropped = coded(stream, EventCode.DROPPED)
    assert (dropped.level, dropped.text) == (Level.DEBUG, "dropped: unknown kind of message")
    report(Status.PROGRESS, b"\xc1", 0)
    decode = coded(stream, EventCode.DECODE)
    assert known(decode) == ("caller", "DEBUG", "fake", "fake", "1")
    assert decode.text.startswith("fake: task fake id 1: dropped a progress report: ")
    report(Status.FAIL, b"\xc1", 1)
    decode = coded(stream, EventCode.DECODE)
    assert known(decode) == ("caller", "INFO", "fake", "fake", "1")
    assert decode.text.startswith("fake: task fake id 1: the failure cannot be read: ")
    assert decode.error is not None
    report(Status.FAIL, b"\xc1", 1)
    repeated = coded(stream, EventCode.REPEATED)
    assert known(repeated) == ("caller", "DEBUG", "fake", "", "")
    assert repeated.text == "fake: 1 report came twice or too late"
    assert result.wait(PATIENCE).failure is not None


def test_a_return_that_does_not_fit_is_told(mesh: Mesh, context: Context) -> None:
    fake = FakeNode(context, mesh.key())
    app = mesh.app(peers=[fake.address])

    def stub() -> int: ...  # type: ignore[empty-body]

    stream = app.listen(level=Level.INFO)
    result = app.declare("fake", stub).call()
    hello = greeted(fake)
    coded(stream, EventCode.FOUND)
    item = (1, "fake", 1, 1, int(Status.SUCCESS), marshal.encode("three")[0])
    fake.publish(hello.caller, m.Reports(hello.link, {}, (0, 0), [item]))
    event = coded(stream, EventCode.DECODE)
    assert known(event) == ("caller", "INFO", "fake", "fake", "1")
    assert event.text.startswith("fake: task fake id 1: the return does not fit: fake(), parameter 'return'")
    failure = result.wait(PATIENCE).failure
    assert failure is not None
    assert failure.code is Code.DECODE


# ---------------------------------------------------------------------- a node


def test_what_a_node_tells(mesh: Mesh) -> None:
    app, caller = mesh.app(), mesh.app()

    @app.task
    def half(number: int) -> float:
        if number % 2:
            raise LookupError(f"{number} is odd")
        return number / 2

    app.serve(name="here")
    stream = app.listen("worker", Level.INFO)
    caller.call("half", 3).wait(PATIENCE)
    failed = stream.get(PATIENCE)
    assert (failed.code, *known(failed)) == (EventCode.FAILED, "worker", "INFO", "", "half", "1")
    assert failed.text == "task half id 1 failed: LookupError: 3 is odd"
    assert failed.caller == caller.engine().id
    assert isinstance(failed.error, LookupError)
    caller.call("half", "x").wait(PATIENCE)
    decode = stream.get(PATIENCE)
    assert (decode.code, decode.id) == (EventCode.DECODE, "2")
    assert "half(), parameter 'number': expected int" in decode.text


def test_what_a_node_cannot_read_is_told(mesh: Mesh, context: Context) -> None:
    app = mesh.app()
    app.register("add", lambda a, b: a + b)
    app.serve(name="here")
    stream = app.listen("node", Level.DEBUG)
    push = context.socket(zmq.PUSH)
    keys.secure_client(push, mesh.key())
    wait_until(lambda: [peer.state for peer in app.peers()] == ["ready"], "ourselves")
    push.connect(app.peers()[0].address)
    push.send(b"?")
    event = stream.get(PATIENCE)
    assert (event.code, *known(event)) == (EventCode.DROPPED, "node", "DEBUG", "", "", "")
    assert event.text == "dropped: unknown kind of message"


def test_what_a_node_does_not_take_is_told(mesh: Mesh, context: Context) -> None:
    app = mesh.app()
    app.register("add", lambda a, b: a + b)
    app.serve(name="here")
    stream = app.listen("node", Level.DEBUG)
    push = context.socket(zmq.PUSH)
    keys.secure_client(push, mesh.key())
    wait_until(lambda: [peer.state for peer in app.peers()] == ["ready"], "ourselves")
    push.connect(app.peers()[0].address)

    def say(message: m.Message) -> None:
        push.send(wire.encode(message))

    say(m.Hello(b"12345678", "stranger", 1, b"", "lab", [m.VERSION]))
    refused = coded(stream, EventCode.REFUSED)
    assert (refused.level, refused.caller) == (Level.WARNING, "stranger")
    assert refused.text == f"caller stranger: not let in: here belongs to mesh {mesh.name!r}, not 'lab'"
    say(m.Hello(b"12345678", "me", 1, b"", mesh.name, [m.VERSION]))
    for _ in range(2):
        say(
            m.Tasks(b"12345678", "me", 0, {}, [("add", 1, "t1", 1, None, marshal.encode_arguments((1, 2), {})[0])])
        )
    repeated = coded(stream, EventCode.REPEATED)
    assert (repeated.level, repeated.caller) == (Level.DEBUG, "me")
    assert repeated.text == "caller me: 1 task came twice or too late: dropped"


def test_a_file_that_is_served_may_listen(mesh: Mesh) -> None:
    file = mesh.folder / "listens.py"
    file.write_text(LISTENS)
    node = mesh.node("one", target=file)
    assert mesh.app().call("spoil").wait(PATIENCE).fail
    assert node.line("heard: ", "out") == "heard: task spoil id 1 failed: LookupError: rotten"
    assert node.stop() == 0


# ---------------------------------------------------------------------- programs that listen


def test_a_handler_that_raises_is_told(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    mesh.node("one")
    app = mesh.app()

    def bad(value: object) -> None:
        raise ValueError(f"not {value}")

    with app.listen() as stream:
        result = app.call("add", 2, 3).on_ok(bad)
        event = stream.get(PATIENCE)
    assert (event.code, *known(event)) == (EventCode.HANDLER, "handler", "ERROR", "", "add", result.id)
    assert (event.text, repr(event.error)) == (
        f"a callback of {result!r} failed: ValueError: not 5",
        "ValueError('not 5')",
    )
    assert [record.getMessage() for record in caplog.records] == [event.text]


def test_a_callback_may_call_and_wait(mesh: Mesh) -> None:
    """Not on the thread that does all I/O."""
    mesh.node("one")
    app = mesh.app()
    sums: list[int] = []
    done = threading.Event()

    def hear(event: Event) -> None:
        sums.append(app.call("add", 1, 1).result(PATIENCE))
        done.set()

    app.listen(Origin.CALLER, Level.INFO, callback=hear)
    app.peers()
    assert done.wait(PATIENCE)
    assert sums == [2]


def test_a_stream_that_nobody_reads_holds_nobody_up(mesh: Mesh) -> None:
    node = mesh.node("one")
    app = mesh.app()
    full = app.listen(level=Level.INFO, size=1)
    stream = app.listen(level=Level.INFO)
    coded(stream, EventCode.FOUND)
    os.kill(node.children()[0], signal.SIGKILL)
    coded(stream, EventCode.LOST)
    coded(stream, EventCode.FOUND)
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert full.dropped >= 2
    app.close()
    assert [event.text for event in full] == ["one: found"]
    assert list(stream) == []


def test_an_app_that_only_listens(mesh: Mesh) -> None:
    mesh.node("one")
    script = mesh.script(
        """
import asyncio
from dingo_zmq import App, Level

async def main():
    with App("mesh") as app:
        async for event in app.listen("caller", level=Level.INFO):
            print(event.text)
            break

asyncio.run(main())
"""
    )
    assert script.wait() == 0, script
    assert (script.out, script.err) == ("one: found\n", "")


def test_apps_hear_their_own_events_only(mesh: Mesh) -> None:
    mesh.node("one")
    one, two = mesh.app(), mesh.app()
    first, second = one.listen(level=Level.INFO), two.listen(level=Level.INFO)
    coded(first, EventCode.FOUND)
    one.call("add", 1).on_ok(lambda _: 1 / 0)
    coded(first, EventCode.HANDLER)
    assert coded(second, EventCode.FOUND)
    two.close()
    assert list(second) == []
