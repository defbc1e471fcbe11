"""``dingo-zmq watch``."""

from __future__ import annotations

import re
import signal

import pytest

from dingo_zmq import App
from tests.support import PATIENCE, Mesh, Program


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


def watching(mesh: Mesh, *words: str) -> Program:
    """Start it, and let something happen until it sees that: all that it asked for is known to the node then."""
    probe = mesh.app()
    watch = mesh.program("watch", *words)
    for _ in range(1000):
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


@pytest.mark.parametrize("part", ["CALLER", "CALLER/add", "CALLER/add/2", "CALLER/add/2/"])
def test_a_part_of_all_tasks(shared: Mesh, part: str) -> None:
    """What has been asked for is seen to the end, and nothing else; tasks are repeated until it is heard."""
    app = shared.app()
    here = app.engine().id
    number = 20 if part.count("/") > 1 else 0
    topic = part.replace("CALLER", here).replace("/2", f"/{number}")
    watch = shared.program("watch", topic)
    if not number:
        while not watch.out:
            app.call("add", 1).result(PATIENCE)
            app.call("later", 1).result(PATIENCE)
    else:
        other = watching(shared, )
        other.end()
    while int((last := app.call("add", 2)).id) < number:
        last.result(PATIENCE)
    last.result(PATIENCE)
    line = watch.line(f"/add/{last.id} SUCCESS", "out")
    assert line.endswith(f"{here}/add/{last.id} SUCCESS 7")
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130
    assert all(text.startswith(topic.rstrip("/")) for text in seen(watch, "/"))
    assert seen(watch, f"/add/{last.id} ") == [
        f"{here}/add/{last.id} SENT",
        f"{here}/add/{last.id} PROGRESS",
        f"{here}/add/{last.id} SUCCESS 7",
    ]


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
