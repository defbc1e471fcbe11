"""Nothing hangs, however a program ends: each case has a deadline, and leaves neither process nor file."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dingo_zmq import App
from tests.support import PATIENCE, Gate, Mesh, Program, settled, wait_until

SEED = 20
WORK = """
import os, signal, sys, threading
from dingo_zmq import App, errors
from dingo_zmq.local_broker import LocalBackend, LocalBroker

def make(mode, serve=True):
    app = App(mode, **({"discovery": ["directory"]} if mode == "mesh" else {}))
    app.register("add", lambda a, b=5: a + b)
    app.register("stay", threading.Event().wait)
    if mode == "remote":
        app.use(LocalBroker())
        app.use(LocalBackend())
    if serve:
        app.serve()
    return app
"""


@pytest.fixture(autouse=True)
def nothing_is_left(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.close()
    runtime = Path(mesh.settings["DINGO_ZMQ_RUNTIME_DIR"])
    assert [file for file in runtime.rglob("*") if file.is_file()] == []


def ended(script: Program) -> int:
    """Return the exit code of a program that should end by itself, and soon."""
    wait_until(lambda: script.process.poll() is not None, f"ends\n{script}", patience=10.0)
    return script.wait()


@pytest.mark.parametrize("mode", ["local", "remote", "mesh"])
def test_ctrl_c_at_any_instant(mesh: Mesh, mode: str) -> None:
    chance = random.Random(SEED)
    for _ in range(4):
        script = mesh.script(
            WORK
            + """
app = make(sys.argv[1])
print("begins", flush=True)
while True:
    for n in range(20):
        app.call("add", n).result(30)
    list(app.map("add", range(100)))
    app.ledger()
""",
            mode,
        )
        if chance.random() < 0.7:
            script.line("begins")
        threading.Event().wait(chance.random() * 0.3)
        script.signal(signal.SIGINT)
        assert ended(script) in (-signal.SIGINT, 130)
        assert "KeyboardInterrupt" in script.err or not script.err


@pytest.mark.parametrize("mode", ["local", "remote", "mesh"])
@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(3)",
        "threading.Thread(target=sys.exit).start()",
        "threading.Thread(target=app.close, kwargs={'wait': False}).start(); app.close(wait=False)",
        "app.call('add', 1).add_done_callback(lambda _: app.close(wait=False)); app.call('add', 2)",
        "with app: raise SystemExit(3)",
    ],
)
def test_a_program_that_ends_with_open_tasks(mesh: Mesh, mode: str, end: str) -> None:
    script = mesh.script(
        f"{WORK}\napp = make(sys.argv[1])\napp.call('add', 1).result(30)\nopen_ = app.call('stay')\n{end}\n", mode
    )
    assert ended(script) in (0, 3), script
    assert "Traceback" not in script.err


FORK = """
import multiprocessing

app = make(sys.argv[1])
app.call("add", 1).result(30)
open_ = app.call("stay")

def child():
    said = []
    for use in (lambda: app.call("add", 1), app.ledger, lambda: open_.result(), lambda: app.call("add", 2)):
        try:
            use()
        except Exception as exc:
            said.append(f"{type(exc).__name__}: {exc}")
    app.close()
    return said

signal.alarm(20)
pid = os.fork()
if not pid:
    signal.alarm(10)
    print(*child(), sep="\\n", flush=True)
    sys.exit(7)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    print("pool", pool.apply_async(child).get(10)[0][:6])
print("parent", app.call("add", 3).result(10))
app.close(wait=False)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("mode", ["local", "remote", "mesh"])
def test_a_forked_child_is_told_and_its_parent_is_unharmed(mesh: Mesh, mode: str) -> None:
    script = mesh.script(WORK + FORK, mode)
    assert ended(script) == 0, script
    lines = script.out.splitlines()
    cause = "this process was forked from one that uses an App"
    starts = [f"{kind}: {cause}" for kind in ("Closed", "Closed", "TaskShutdown", "Closed")]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=False)] == [True] * 4, script
    assert lines[4:] == ["child 7", "pool Closed", "parent 8"]


def test_close_in_an_event_loop_and_in_two_threads(mesh: Mesh, gate: Gate) -> None:
    mesh.node("one")
    first, second = mesh.app(), mesh.app()
    results = [app.call("wait_at", gate.port) for app in (first, second)]
    visitors = [gate.next() for _ in results]

    async def leave() -> None:
        first.close(wait=False)

    asyncio.run(asyncio.wait_for(leave(), 10.0))
    threads = [threading.Thread(target=second.close, kwargs={"wait": False}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert not any(thread.is_alive() for thread in threads)
    assert all(result.done() for result in results)
    for app in (first, second):
        assert settled(app.ledger()).failed == 1
    for visitor in visitors:
        visitor.go()
    mesh.programs[0].stop()


def test_a_task_that_closes_its_own_app(mesh: Mesh) -> None:
    """It runs on the I/O thread, which is one of the workers."""
    app = App("mesh", mesh=mesh.name, discovery=["directory"], threads=1)
    closed = threading.Event()

    def leave() -> None:
        app.close(wait=False)
        closed.set()

    app.register("leave", leave)
    app.serve()
    result = app.call("leave")
    assert closed.wait(10.0)
    assert result.wait(PATIENCE).failure is not None
