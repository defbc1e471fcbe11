"""Processes that run out of file descriptors: what they do goes on, and what they cannot do comes later."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

from dingo_zmq import App
from tests import served
from tests.support import PATIENCE, SERVED, Mesh, Program, closed_port, wait_until

LIMIT, IDLE = 64, 150
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2); "
    "os.execv(sys.executable, [sys.executable, '-m', 'dingo_zmq', *sys.argv[2:]])"
)
START = """
import os, resource, sys, threading
from dingo_zmq import App, errors

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def exhaust(free):
    found = []
    try:
        while True:
            found.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(free):
            os.close(found.pop())
    return found


app = App("mesh")
"""


def low_node(mesh: Mesh, limit: int, *words: str) -> Program:
    command = [sys.executable, "-c", LIMITED, str(limit), "node", str(SERVED), "--name", "low", *words]
    node = Program(env=mesh.env, command=command)
    mesh.programs.append(node)
    return node


def test_a_node_whose_descriptors_strangers_use_up(mesh: Mesh) -> None:
    """Its callers are served; a new one is when the strangers have gone."""
    port = closed_port()
    node = low_node(mesh, LIMIT, "--port", str(port), "--threads", "2")
    node.line("node ", "out")
    (pid,) = node.children()
    app, late = mesh.app(), mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6
    strangers = [socket.create_connection(("127.0.0.1", port + number % 2)) for number in range(IDLE)]
    try:
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= LIMIT, "no descriptor is left")
        assert [app.call("add", number).result(PATIENCE) for number in range(50)] == list(range(5, 55))
        waiting = late.call("add", 2)
    finally:
        for stranger in strangers:
            stranger.close()
    assert waiting.result(PATIENCE) == 7
    assert node.children() == [pid]


def test_a_node_that_cannot_start_says_how_many_it_needs(mesh: Mesh) -> None:
    node = low_node(mesh, 20)
    assert node.wait() == 2
    assert "Traceback" not in node.err
    needed = re.search(r"Too many open files\nhint: .* ulimit -n (\d+) or more$", node.err, re.M)
    assert needed is not None
    for limit in (24, 32, 36, int(needed[1]) - 1):
        node = low_node(mesh, limit)
        assert node.wait() == 2
        assert needed[0] in node.err
    low_node(mesh, int(needed[1])).line("node ", "out")
    assert mesh.app().call("add", 1).result(PATIENCE) == 6


def test_a_node_that_cannot_see_who_is_let_in_does_not_serve(mesh: Mesh) -> None:
    """Its own connections would get no answer, as if nobody were let in."""
    script = mesh.script(
        START
        + """
app.register("one", lambda: 1)
held = exhaust(36)
try:
    app.serve()
except errors.ConfigError as exc:
    print(exc)
"""
    )
    assert script.wait() == 0, script
    assert "that a node needs to see who is let in: Too many open files; hint: " in script.out


def test_a_caller_that_cannot_connect_to_a_new_node(mesh: Mesh, tmp_path: Path) -> None:
    """It goes on with those it has, and with the new one when it can: at whichever step it was stuck."""
    mesh.node("one")
    text = """
add = app.declare("add")
assert add.call(1).result(30) == 6
held = exhaust(int(sys.argv[1]))
print("exhausted", flush=True)
while not os.path.exists(sys.argv[2]):
    threading.Event().wait(0.02)
assert add.call(1).result(30) == 6
for each in held:
    os.close(each)
print(add.options(node="two").call(2).result(30))
"""
    scripts = [mesh.script(START + text, str(free), str(tmp_path / "go")) for free in (1, 2, 4)]
    for script in scripts:
        script.line("exhausted")
    mesh.node("two")
    for script in scripts[:2]:
        script.line("no file descriptor is left to connect to tcp://", "err")
    (tmp_path / "go").touch()
    for script in scripts:
        assert script.wait() == 0, script
        assert script.out == "exhausted\n7\n"


def test_an_app_that_cannot_start(mesh: Mesh) -> None:
    """It says so, instead of being aborted, and starts when it can."""
    mesh.node("one")
    script = mesh.script(
        START
        + """
for free in (4, 8, 14):
    held = exhaust(free)
    try:
        app.call("add", 1)
    except errors.ConfigError as exc:
        print(exc)
    for each in held:
        os.close(each)
print(app.call("add", 1).result(30))
"""
    )
    assert script.wait() == 0, script
    lines = script.out.splitlines()
    assert len(lines) == 4
    assert lines[3] == "6"
    assert all("Too many open files; hint: close some, or raise the limit" in line for line in lines[:3])


def test_what_is_open_after_many_apps_is_what_was_before() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use() -> None:
        app = App("mesh", discovery=["directory"])
        app.declare("add", served.add).call(1)
        app.close(wait=False)

    use()
    before = count()
    for _ in range(5):
        use()
    assert count() == before
