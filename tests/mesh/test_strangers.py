"""Raw sockets at a live node and at a live caller: rubbish from holders of the key, and people without it."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from dingo_zmq import App, Status, marshal
from dingo_zmq.mesh import keys
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tests import served
from tests.support import MILLISECONDS, PATIENCE, Context, FakeNode, Mesh, Program, Raw, wait_until


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


@pytest.fixture
def raw(app: App, shared: Mesh, node: Program, context: Context) -> Iterator[Raw]:
    """Somebody who holds the key and has a link; it still works after the test."""
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    yield raw
    raw.send(raw.task(10**6))  # over its credit: refused, but answered, and all before it has been read
    raw.receive(m.Recalled)


# ---------------------------------------------------------------------- rubbish at a node


def test_a_link_spoken_by_hand(raw: Raw) -> None:
    raw.send(raw.task(1))
    status, body = raw.answer()
    assert (status, marshal.decode((body, ()))) == (Status.SUCCESS, 2)


def test_random_bytes(raw: Raw) -> None:
    dice = random.Random(1)
    for kind in ["", *"HTBCRGYWPKMALXU\0\xff"]:
        for _ in range(40):
            raw.send(kind.encode("latin-1") + dice.randbytes(dice.randrange(60)))


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"", b"T", b"H"],
        [b"T", b"", b"x" * 70_000],
        [bytes(1)] * 3000,
        [b"T" + b"\x91" * 5000],
        [b"B" + b"\x81" * 100_000],
        [b"T" + bytes(2_000_000)],
    ],
    ids=["empty", "empties", "kinds", "no record", "many", "deep lists", "deep maps", "long"],
)
def test_frames_that_are_no_message(raw: Raw, frames: list[bytes]) -> None:
    raw.push.send_multipart(frames)


def test_a_first_message_that_comes_in_pieces(app: App, shared: Mesh, node: Program, context: Context) -> None:
    """ZeroMQ says that something waits as soon as it knows who sent it, before there is anything to be read."""
    children = node.children()
    raw = Raw(context, node, shared.key())
    raw.push.send_multipart([b"", bytes(50_000_000)])
    raw.open(shared.name)
    assert node.children() == children


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_a_length_that_nothing_has(raw: Raw, head: bytes) -> None:
    """A few bytes that announce four thousand million items cost no memory."""
    record = msgspec.msgpack.encode([raw.token, raw.name, 0, {}])
    raw.send(b"T" + b"\x95" + record[1:] + head)
    raw.send(b"C" + b"\x92" + record[1:10] + head)
    raw.send(b"C" + b"\x92" + record[1:11] + b"\x81\xa3add" + head)
    raw.send(b"T" + head)


def every_message(raw: Raw, mesh: str) -> list[m.Message]:
    refs = {"add": [1, 2], "echo": [3]}
    item = ("add", 1, "1", 1, m.TaskOptions(at_most_once=True), b"\x92\x01\x02")
    return [
        raw.hello(mesh=mesh),
        m.Tasks(raw.token, raw.name, 0, {"add": 3}, [item, ("echo", 1, "2", 1, None, b"\x91\x01")]),
        m.Beat(raw.token, raw.name, raw.number + 1, 0, {"add": (1, 1, 1)}, refs),
        m.Cancel(raw.token, refs),
        m.Recall(raw.token, refs),
        m.Go(raw.token, refs),
        m.Bye(raw.token),
    ]


def test_every_message_cut_at_every_byte(raw: Raw, shared: Mesh) -> None:
    for message in every_message(raw, shared.name):
        whole = wire.encode(message)
        for length in range(len(whole)):
            raw.send(whole[:length])
            raw.send(whole[:length], b"a buffer")
        raw.send(whole + b"\x01")
        if not isinstance(message, m.Tasks):
            raw.send(whole, b"a buffer")


def test_every_message_with_a_byte_changed(app: App, shared: Mesh, node: Program, context: Context) -> None:
    """Some of them are good ones that mean something else; whatever they mean, others do not feel it."""
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    dice = random.Random(2)
    for message in every_message(raw, shared.name):
        whole = bytearray(wire.encode(message))
        for place in range(len(whole)):
            changed = whole.copy()
            changed[place] = dice.randrange(256)
            raw.send(bytes(changed))
    last = Raw(context, node, shared.key())
    last.open(shared.name)


def test_a_wrong_version(app: App, shared: Mesh, node: Program, context: Context) -> None:
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    raw.token = secrets.token_bytes(8)
    raw.send(raw.hello(mesh=shared.name, versions=[7, 9]))
    refused = raw.receive(m.Refused)
    assert (refused.reason, refused.versions) == (m.REFUSED_VERSION, [m.VERSION])
    assert refused.text == "one speaks protocol version 1, not [7, 9]"


def test_a_newer_caller_that_also_speaks_our_version(
    app: App, shared: Mesh, node: Program, context: Context
) -> None:
    raw = Raw(context, node, shared.key())
    raw.open(shared.name)
    raw.token = secrets.token_bytes(8)
    raw.send(raw.hello(mesh=shared.name, versions=[m.VERSION, 2]))
    while raw.receive(m.Welcome).link != raw.token:
        pass


def test_a_task_for_a_link_that_nobody_opened(raw: Raw) -> None:
    token, raw.token = raw.token, bytes(8)
    raw.send(raw.task(1))
    refused = raw.receive(m.Refused)
    raw.token = token
    assert refused.reason == m.REFUSED_UNKNOWN


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x01", b"\x92\x01", b"\x81\xa4args\x01", b"\xd9", b"\x91" * 3000]
)
def test_a_body_that_is_no_arguments(raw: Raw, body: bytes) -> None:
    raw.send(raw.task(1, body=body))
    status, failure = raw.answer()
    assert status == Status.FAIL
    assert marshal.decode_failure((failure, ())).code.name == "DECODE"


def test_a_function_that_the_node_does_not_have(raw: Raw) -> None:
    raw.send(raw.task(1, name="nothing"))
    recalled = raw.receive(m.Recalled)
    assert (recalled.reason, recalled.refs) == (m.UNKNOWN_FUNCTION, {"nothing": [1]})


def test_messages_on_the_reports_socket_that_are_no_subscriptions(
    app: App, shared: Mesh, node: Program, context: Context
) -> None:
    """An XSUB can send anything there; it takes nothing away from those who watch."""
    watch = Raw(context, node, shared.key())
    watch.watch("watch/", shared.name, shared.app())
    stranger = context.socket(zmq.XSUB)
    keys.secure_client(stranger, shared.key())
    stranger.connect(watch.sub.getsockopt(zmq.LAST_ENDPOINT))
    for message in (b"", b"\x02", b"\x02watch/", b"Xwatch/", bytes(70_000), b"\xff" * 300, b"\x01\xff\xfe/"):
        stranger.send(message)
    stranger.send_multipart([b"\x02watch/", b"\x00watch/", b"\x02watch/"])
    here = f"watch/{app.engine().id}/"
    stranger.send(f"\x01{here}echo/".encode())
    for _ in range(MILLISECONDS // 50):  # until it is heard, and so all before it
        app.call("echo", 1).result(PATIENCE)
        if stranger.poll(50):
            break
    result = app.call("add", 2)
    assert result.result(PATIENCE) == 7
    while watch.watched()[0].split(b"\0")[0] != f"{here}add/{result.id}/".encode():
        pass


# ---------------------------------------------------------------------- rubbish at a caller


def node_messages(token: bytes, hello: m.Hello, fake: FakeNode) -> list[m.Message]:
    refs = {"fake": [1, 2]}
    return [
        fake.welcome(hello),
        m.Reports(token, {"fake": (3, 5)}, (0, 0), [(1, "fake", 9, 1, 3, b"\x01"), (0, "fake", 9, 1, 2, b"")]),
        m.Credit(token, 1, {"fake": (10, 5)}, (0, 0), refs, False),
        m.Missing(token, refs),
        m.Claim(token, refs),
        m.Recalled(token, refs, "busy"),
        m.Pulse("fake", 1, 2, 3, 4),
    ]


@pytest.fixture
def fake(shared: Mesh, context: Context) -> FakeNode:
    return FakeNode(context, shared.key())


def test_rubbish_published_to_a_caller(shared: Mesh, node: Program, fake: FakeNode) -> None:
    """Random bytes, messages cut at every byte, wrong refs and buffers: the caller's other tasks go on."""
    app = shared.app(peers=[fake.address])
    engine = app.engine()
    engine.caller.watcher = lambda *_: None
    engine.subscribe("watch/")
    fake.subscription(b"")
    hello = fake.hello()
    caller = hello.caller
    fake.publish(caller, fake.welcome(hello))
    assert app.call("add", 1, 1).result(PATIENCE) == 2

    dice = random.Random(3)
    topic = f"{caller}/".encode()
    for kind in ["", *"WPKMALXUHT\0"]:
        for _ in range(20):
            fake.xpub.send(topic + b"\0" + kind.encode() + dice.randbytes(dice.randrange(60)))
    fake.xpub.send(topic)
    fake.xpub.send_multipart([topic, b"", b"\0P"])
    for message in node_messages(hello.link, hello, fake):
        whole = wire.encode(message, topic)
        for length in range(len(topic), len(whole)):
            fake.xpub.send(whole[:length])
        fake.xpub.send_multipart([whole, b"a buffer"])
        fake.xpub.send(b"watch/" + whole)
        fake.publish(caller, message)

    # What the fake says last is heard: everything before it has been read.
    result = app.call("fake")
    while not isinstance(tasks := wire.decode_caller(fake.pull.recv_multipart()), m.Tasks):
        pass
    _, number, _, attempt, _, _ = tasks.items[0]
    report = m.Reports(hello.link, {}, (0, 0), [(5, "fake", number, attempt, 3, b"\xa4good")])
    fake.publish(caller, report)
    assert result.result(PATIENCE) == "good"
    assert app.call("add", 1, 2).result(PATIENCE) == 3


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x92\x01", b"\xd9"])
@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAIL])
def test_a_final_report_that_cannot_be_read(shared: Mesh, fake: FakeNode, status: Status, body: bytes) -> None:
    app = shared.app(peers=[fake.address], discovery=[])
    result = app.options(monitor_progress=True).call("fake")
    fake.subscription(b"")
    hello = fake.hello()
    fake.publish(hello.caller, fake.welcome(hello))
    while not isinstance(tasks := wire.decode_caller(fake.pull.recv_multipart()), m.Tasks):
        pass
    _, number, _, attempt, _, _ = tasks.items[0]
    progress = (0, "fake", number, attempt, int(Status.PROGRESS), b"\xc1")
    final = (1, "fake", number, attempt, int(status), body)
    fake.publish(hello.caller, m.Reports(hello.link, {}, (0, 0), [progress, final]))
    report = result.wait(PATIENCE)
    assert report.fail
    assert report.failure is not None
    assert report.failure.node == "fake"


# ---------------------------------------------------------------------- people without the key


def strangers(right: keys.Key) -> dict[str, tuple[keys.Key | None, bytes | None]]:
    wrong = keys.new_key("local")
    return {
        "no key": (None, None),
        "a random key": (wrong, right.public),
        "a random key that expects itself": (wrong, None),
        "the right key that expects another server": (right, wrong.public),
    }


@pytest.mark.parametrize("who", list(strangers(keys.new_key("local"))))
def test_a_stranger_cannot_run_a_task_or_read_a_report(
    app: App, shared: Mesh, node: Program, context: Context, who: str, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    body = marshal.encode_arguments((str(marks), "stranger"), {})[0]
    stranger = Raw(context, node, *strangers(shared.key())[who])
    stranger.sub.subscribe("")
    stranger.push.sndtimeo = 0
    for message in (stranger.hello(mesh=shared.name), stranger.task(1, "mark", body)):
        with contextlib.suppress(zmq.Again):  # no connection, nowhere to put it
            stranger.send(message)
    monitors = [context.monitor(socket) for socket in (stranger.push, stranger.sub)]
    for monitor in monitors:
        wait_for_failure(monitor)

    for number in range(20):
        assert app.call("mark", str(marks), str(number)).result(PATIENCE)

    assert "stranger" not in marks.read_text()
    assert stranger.silent()


def wait_for_failure(monitor: zmq.Socket[bytes]) -> None:
    """Wait until a connection has been tried in vain; fail if it succeeds."""
    from zmq.utils.monitor import recv_monitor_message

    failed = (
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_DISCONNECTED,
    )
    while True:
        assert monitor.poll(MILLISECONDS), "nothing happens"
        event = recv_monitor_message(monitor)["event"]
        assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
        if event in failed:
            return


def test_a_caller_with_another_key_is_told_so(
    shared: Mesh, node: Program, app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DINGO_ZMQ_CONFIG_DIR", str(tmp_path))
    other = shared.app()
    result = other.call("add", 1)
    wait_until(lambda: [peer.state for peer in other.peers()] == ["locked out"], "being locked out")
    why = result.why()
    assert "no node has answered" in why
    assert "key" in why or "locked out" in why


# ---------------------------------------------------------------------- watching


def test_a_plain_subscriber_sees_every_report_of_one_task_and_of_no_other(
    shared: Mesh, node: Program, context: Context
) -> None:
    app = shared.app()
    steps = app.declare("steps", served.steps)
    watcher, probe = Raw(context, node, shared.key()), shared.app()
    topic = f"watch/{app.engine().id}/steps/2/"
    watcher.watch(topic, shared.name, probe)

    results = [steps.call(count) for count in (1, 3, *range(4, 25))]
    assert results[1].id == "2"
    assert [result.result(PATIENCE) for result in results] == [1, 3, *range(4, 25)]

    seen = [watcher.watched() for _ in range(6)]
    assert {wire.topic_of(frames[0]).decode() for frames in seen} == {topic}
    items = [wire.decode_node(frames).items[0] for frames in seen]
    assert [Status(item[4]).name for item in items] == ["SENT", *["PROGRESS"] * 4, "SUCCESS"]
    told = [marshal.decode_progress((item[5], ())) for item in items[2:5]]
    assert told == [(n / 3, f"step {n}") for n in (1, 2, 3)]
    assert marshal.decode((items[-1][5], ())) == 3
    watcher.pass_by(probe)


def test_a_watched_task_that_is_monitored_and_fails(shared: Mesh, node: Program, context: Context) -> None:
    app = shared.app()
    watcher = Raw(context, node, shared.key())
    watcher.watch(f"watch/{app.engine().id}/spoil/1/", shared.name, shared.app())
    result = app.options(monitor_progress=True).call("spoil", "rotten")
    assert result.wait(PATIENCE).fail
    items = [wire.decode_node(watcher.watched()).items[0] for _ in range(3)]
    assert [Status(item[4]).name for item in items] == ["SENT", "PROGRESS", "FAIL"]
    assert "rotten" in marshal.decode_failure((items[-1][5], ())).message
