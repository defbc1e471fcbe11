"""Opening, closing, forking and leaving: nothing hangs, and everything open is settled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq import Code, Result
from dingo_zmq.errors import Closed, TaskShutdown, UsageError
from tests import served
from tests.support import PATIENCE, Gate, Mesh, Program


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "4")


# ---------------------------------------------------------------------- close


def test_close_without_waiting_settles_what_is_open(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    running = app.call("wait_at", gate.port)
    gate.next()
    nowhere = app.call("nothing")
    app.close(wait=False)
    for result in (running, nowhere):
        with pytest.raises(TaskShutdown, match="closed before") as caught:
            result.result(PATIENCE)
        assert caught.value.failure.code is Code.SHUTDOWN


def test_close_wakes_whoever_waits(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    result = app.call("wait_at", gate.port)
    gate.next()
    called = threading.Event()
    result.add_done_callback(lambda _: called.set())
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            result.result(PATIENCE)
        except BaseException as exc:
            raised.append(exc)

    waiter = threading.Thread(target=wait)
    waiter.start()
    app.close(wait=False)
    waiter.join(PATIENCE)
    assert [type(exc) for exc in raised] == [TaskShutdown]
    assert called.wait(PATIENCE)


def test_a_caller_that_leaves_costs_the_node_nothing(shared: Mesh, gate: Gate, tmp_path: Path) -> None:
    """Its running tasks are told to cancel, its queued ones do not run."""
    leaving, staying = shared.app(), shared.app()
    held = [leaving.call("until_cancelled", gate.port) for _ in range(4)]
    visitors = [gate.next() for _ in range(4)]
    queued = [leaving.call("mark", str(tmp_path / "marks"), "x") for _ in range(20)]
    leaving.close(wait=False)
    assert all(result.nok for result in (*held, *queued))
    staying.call("later", 1).result(PATIENCE)
    for visitor in visitors:
        visitor.go()
    assert [staying.call("add", n).result(PATIENCE) for n in range(20)] == list(range(5, 25))
    assert not (tmp_path / "marks").exists()


def test_close_waits_for_what_is_open(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    result = app.call("wait_at", gate.port, "done")
    visitor = gate.next()
    closer = threading.Thread(target=app.close)
    closer.start()
    visitor.go()
    closer.join(PATIENCE)
    assert not closer.is_alive()
    assert result.result(0) == "done"


def test_close_waits_no_longer_than_told(shared: Mesh, gate: Gate) -> None:
    app = shared.app()
    result = app.call("wait_at", gate.port)
    gate.next()
    app.close(timeout=0.05)
    assert result.nok


def test_a_clean_end_of_a_with_block_waits(shared: Mesh) -> None:
    called: list[int] = []
    with shared.app() as app:
        results = [app.call("add", n) for n in range(500)]
        for result in results:
            result.add_done_callback(lambda result: called.append(result.result(0)))
    assert [result.result(0) for result in results] == list(range(5, 505))
    assert sorted(called) == list(range(5, 505))


def test_an_exception_in_a_with_block_does_not_wait(shared: Mesh, gate: Gate) -> None:
    with pytest.raises(ZeroDivisionError), shared.app() as app:
        result = app.call("wait_at", gate.port)
        gate.next()
        1 / 0  # noqa: B018
    with pytest.raises(TaskShutdown):
        result.result(0)


@pytest.mark.parametrize("started", [True, False], ids=["after a call", "before any"])
def test_use_after_close(shared: Mesh, started: bool) -> None:
    app = shared.app()
    add = app.declare("add", served.add)
    if started:
        add.call(1).result(PATIENCE)
    app.close()
    app.close()
    uses: list[Callable[[], Any]] = [
        lambda: add.call(1),
        lambda: app.call("add", 1),
        lambda: app.call("echo", 1),
        lambda: asyncio.run(add.acall(1)),
        lambda: next(add.map([1])),
        app.peers,
        app.serve,
    ]
    for use in uses:
        with pytest.raises(Closed, match="this App is closed"):
            use()


def test_a_result_can_be_asked_after_close(shared: Mesh) -> None:
    app = shared.app()
    done, open_ = app.call("add", 1), app.call("nothing")
    assert done.result(PATIENCE) == 6
    app.close(wait=False)
    assert done.why() == "done: success on one"
    assert "shutdown" in open_.why()
    assert not open_.cancel()


def test_close_while_others_call(shared: Mesh) -> None:
    """Whatever was accepted is settled, whatever was not says that the App is closed."""
    for _ in range(8):
        app = shared.app()
        add = app.declare("add", served.add)
        add.call(1).result(PATIENCE)
        accepted: list[Result[int]] = []
        raised: list[BaseException] = []
        going = threading.Event()

        def call(add: Any = add, accepted: Any = accepted, raised: Any = raised, going: Any = going) -> None:
            try:
                while True:
                    accepted.append(add.call(1))
                    going.set()
            except BaseException as exc:
                raised.append(exc)

        callers = [threading.Thread(target=call) for _ in range(2)]
        for caller in callers:
            caller.start()
        going.wait(PATIENCE)
        app.close(wait=False)
        for caller in callers:
            caller.join(PATIENCE)
        assert [type(exc) for exc in raised] == [Closed, Closed]
        for result in accepted:
            result.wait(PATIENCE)


def test_close_frees_a_call_that_waits_for_room(shared: Mesh, gate: Gate) -> None:
    app = shared.app(max_open=1)
    wait_at = app.declare("wait_at", served.wait_at)
    wait_at.call(gate.port)
    gate.next()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            wait_at.call(gate.port)
        except BaseException as exc:
            raised.append(exc)

    caller = threading.Thread(target=call)
    caller.start()
    app.close(wait=False)
    caller.join(PATIENCE)
    assert [type(exc) for exc in raised] == [Closed]


def test_close_in_a_callback(shared: Mesh) -> None:
    app = shared.app()
    closed = threading.Event()

    def close(_: object) -> None:
        app.close(wait=False)
        closed.set()

    result = app.call("add", 1)
    result.add_done_callback(close)
    assert closed.wait(PATIENCE)
    assert result.result(0) == 6


def test_a_callback_may_call_and_wait(shared: Mesh) -> None:
    app = shared.app()
    got: list[int] = []
    done = threading.Event()

    def more(result: Result[int]) -> None:
        got.append(app.call("add", result.result(0)).result(PATIENCE))
        done.set()

    app.call("add", 1).add_done_callback(more)
    assert done.wait(PATIENCE)
    assert got == [11]


def test_serving_ends_with_the_app(shared: Mesh) -> None:
    name = f"{shared.name}-end"
    server, caller = shared.app(mesh=name), shared.app(mesh=name)
    server.register("add", served.add.__wrapped__)
    server.serve(name="short")
    assert caller.call("add", 1).result(PATIENCE) == 6
    server.close()
    again = shared.app(mesh=name)
    again.register("add", served.add.__wrapped__)
    again.serve(name="next")
    result = caller.call("add", 2)
    assert result.result(PATIENCE) == 7
    assert result.node == "next"


def test_a_declared_function_cannot_be_served(shared: Mesh) -> None:
    app = shared.app()
    app.declare("add", served.add)
    with pytest.raises(Exception, match="nothing to serve"):
        app.serve()


def test_allocate_comes_before_the_first_call(shared: Mesh) -> None:
    app = shared.app()
    app.call("add", 1).result(PATIENCE)
    app.register("mine", served.add.__wrapped__)
    with pytest.raises(UsageError, match="before the first call"):
        app.allocate("mine", 1)


# ---------------------------------------------------------------------- fork and exit, in programs of their own

START = """
import os, sys, threading
from dingo_zmq import App, errors

app = App("mesh", discovery=["directory"])
"""


def test_a_forked_process_is_told(shared: Mesh) -> None:
    script = shared.script(
        START
        + """
add = app.declare("add")
app.register("own", lambda: 1)
assert add.call(1).result(30) == 6
pid = os.fork()
if not pid:
    for use in (lambda: add.call(1), lambda: app.call("echo", 1), lambda: app.peers(), lambda: app.serve()):
        try:
            use()
        except errors.Closed as exc:
            print(f"{type(exc).__name__}: {exc}")
        else:
            print("nothing was raised")
    own = App("mesh", discovery=["directory"])
    print("own", own.call("add", 2).result(30))
    own.close()
    sys.exit(7)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print("parent", add.call(3).result(30))
"""
    )
    assert script.wait() == 0, script
    lines = script.out.splitlines()
    assert len([line for line in lines if line.startswith("Closed: this process was forked")]) == 4, script
    assert all("spawn" in line for line in lines[:4])
    assert lines[4:] == ["own 7", "child 7", "parent 8"]


def test_a_forked_child_takes_nothing_away_from_a_node(mesh: Mesh) -> None:
    script = mesh.script(
        START
        + """
app.register("add", lambda a: a + 5)
app.serve(name="parent")
pid = os.fork()
if not pid:
    sys.exit(7)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
threading.Event().wait()
"""
    )
    script.line("child 7")
    app = mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6


def test_a_program_with_open_tasks_ends_promptly(shared: Mesh, gate: Gate) -> None:
    script = shared.script(
        START
        + f"""
result = app.options(monitor_progress=True).call("wait_at", {gate.port})
nowhere = app.call("nothing")
result.add_done_callback(lambda r: print("callback", r.nok, flush=True))
print(next(r for r in result.reports(30) if r.status.name == "PROGRESS").status.name, flush=True)
"""
    )
    gate.next()
    assert script.wait() == 0, script
    assert script.out == "PROGRESS\ncallback True\n"
    said = "called 2 = 0 ok + 2 failed + 0 cancelled + 0 expired + 0 open"
    assert script.err == f"closed; 2 tasks ended with FAIL/SHUTDOWN; {said}\n"


def test_a_program_that_ends_by_an_exception_in_its_with_block(shared: Mesh, gate: Gate) -> None:
    script = shared.script(
        START
        + f"""
with app:
    result = app.options(monitor_progress=True).call("wait_at", {gate.port})
    next(r for r in result.reports(30) if r.status.name == "PROGRESS")
    raise ValueError("of our own")
"""
    )
    assert script.wait() == 1, script
    assert script.err.strip().endswith("ValueError: of our own")


def test_a_daemon_thread_that_waits_does_not_keep_the_program(shared: Mesh) -> None:
    script = shared.script(
        START
        + """
result = app.call("nothing")
threading.Thread(target=lambda: result.wait(), daemon=True).start()
"""
    )
    assert script.wait() == 0, script
    assert script.err.startswith("closed; 1 task ended with FAIL/SHUTDOWN; called 1 = 0 ok + 1 failed")


def test_local_mode_needs_neither_zmq_nor_zeroconf(shared: Mesh) -> None:
    script = shared.script(
        """
import sys
from dingo_zmq import App
with App("local") as app:
    print(app.register("add", lambda a, b: a + b).call(2, 3).result(30))
print([name for name in ("zmq", "zeroconf", "asyncio", "rich", "click") if name in sys.modules])
"""
    )
    assert script.wait() == 0, script
    assert script.out.splitlines() == ["5", "[]"]


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, 3000))\n"
        "from dingo_zmq.mesh.sockets import new_context; new_context()\n"
        "print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "3000 3000\n"
