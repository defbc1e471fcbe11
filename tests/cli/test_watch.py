"""``dingo-zmq watch``."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from dingo_zmq import marshal
from dingo_zmq.protocol import messages as m
from dingo_zmq.protocol import wire
from tests.support import PATIENCE, Context, FakeNode, Mesh, Program


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


def watching(mesh: Mesh, *words: str) -> Program:
    """Start it, and let something happen until it sees that: all that it asked for is known to the node then."""
    probe = mesh.app()
    watch = mesh.program("watch", *words)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert probe.call("echo", "is anybody watching?").result(PATIENCE)
        if "anybody" in watch.out:
            return watch
        assert watch.process.poll() is None, watch
    raise AssertionError(f"it sees nothing\n{watch}")


def seen(watch: Program, text: str) -> list[str]:
    """Return the lines about a task or caller, without the time."""
    lines = [line for line in watch.out.splitlines() if text in line]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    return [line.split(" ", 1)[1] for line in lines]


def test_lines_of_all_tasks(shared: Mesh) -> None:
    watch = watching(shared)
    app = shared.app()
    here = app.engine().id
    assert app.call("steps", 2).result(PATIENCE) == 2
    app.call("spoil", "rotten").wait(PATIENCE)
    watch.line("spoil/2 FAIL", "out")
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130
    assert watch.err == ""
    assert seen(watch, here) == [
        f"{here}/steps/1 SENT",
        f"{here}/steps/1 PROGRESS",
        f"{here}/steps/1 PROGRESS 50% step 1",
        f"{here}/steps/1 PROGRESS 100% step 2",
        f"{here}/steps/1 SUCCESS 2",
        f"{here}/spoil/2 SENT",
        f"{here}/spoil/2 PROGRESS",
        f"{here}/spoil/2 FAIL served.Spoiled: it was rotten",
    ]


@pytest.mark.parametrize(
    ("task", "ids"),
    [
        ("", ["a/add/2", "a/add/20", "a/echo/2", "ab/add/2"]),
        ("a", ["a/add/2", "a/add/20", "a/echo/2"]),
        ("a/", ["a/add/2", "a/add/20", "a/echo/2"]),
        ("a/add", ["a/add/2", "a/add/20"]),
        ("a/add/2", ["a/add/2"]),
    ],
)
def test_a_task_or_a_part_of_one(mesh: Mesh, context: Context, task: str, ids: list[str]) -> None:
    fake = FakeNode(context, mesh.key())
    watch = mesh.program("watch", *filter(None, [task]), "--peer", fake.address, "--discovery", "none")
    assert fake.subscription(b"watch/") == f"watch/{task.rstrip('/')}/".replace("//", "/").encode()
    hello = fake.hello()
    fake.publish(hello.caller, fake.welcome(hello))

    def publish(id_: str, value: str) -> None:
        body = marshal.encode(value)[0]
        report = m.Reports(bytes(8), {}, (0, 0), [(1, id_.split("/")[1], 1, 1, 3, body)])
        fake.publish(f"watch/{id_}", report)

    for id_ in ("a/add/2", "a/add/20", "a/echo/2", "ab/add/2"):
        publish(id_, "first")
    publish(ids[0], "last")
    watch.line("last", "out")
    assert seen(watch, "first") == [f"{id_} SUCCESS 'first'" for id_ in ids]
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130


def test_rubbish_is_told_or_dropped(mesh: Mesh, context: Context) -> None:
    fake = FakeNode(context, mesh.key())
    watch = mesh.program("watch", "--peer", fake.address, "--discovery", "none")
    fake.subscription(b"watch/")
    hello = fake.hello()
    fake.publish(hello.caller, fake.welcome(hello))
    topic = "watch/a/add/2"
    for status in (1, 2, 3, 4, 5):
        for body in (b"", b"\xc1", b"\x92\x01", b"\xa9\x1b[31mred"):
            fake.publish(topic, m.Reports(bytes(8), {}, (0, 0), [(1, "add", 1, 1, status, body)]))
    fake.publish(topic, m.Reports(bytes(8), {}, (0, 0), []))
    fake.publish(topic, m.Missing(bytes(8), {}))
    fake.xpub.send(b"watch/\0U\x01")
    fake.xpub.send(b"watch/\xff/\xfe/\0" + wire.encode(m.Reports(bytes(8), {}, (0, 0), [(1, "a", 1, 1, 1, b"")])))
    fake.publish(topic, m.Reports(bytes(8), {}, (0, 0), [(1, "add", 1, 1, 3, b"\xa4last")]))
    watch.line("last", "out")
    assert watch.process.poll() is None
    assert "\x1b" not in watch.out
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130
    assert "Traceback" not in watch.err


def test_large_values_are_cut(shared: Mesh) -> None:
    watch = watching(shared)
    app = shared.app()
    app.call("echo", "x" * 200_000).result(PATIENCE)
    app.call("zeros", 200_000).result(PATIENCE)
    watch.line("zeros/2 SUCCESS", "out")
    assert max(map(len, watch.out.splitlines())) < 300


def test_it_ends_after_the_time_it_was_given(mesh: Mesh) -> None:
    watch = mesh.run("watch", "--seconds", "0.1")
    assert (watch.wait(), watch.out) == (0, "")


def test_nobody_yet(mesh: Mesh) -> None:
    watch = mesh.invoke("watch", "--seconds", "0.1")
    assert watch.err == f"no node of mesh '{mesh.name}' was found yet; still looking\n"


def test_a_node_that_locks_us_out(
    shared: Mesh, node: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINGO_ZMQ_CONFIG_DIR", str(tmp_path))
    first, second = shared.invoke("watch", "--seconds", "1").err.splitlines()
    assert first.startswith(f"one at {shared.address(node)}: locked out")
    assert second == f"no node of mesh '{shared.name}' has answered yet; still looking"
