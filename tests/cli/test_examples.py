"""The small examples: a pool, a worker with its caller, a listener, and workers that remember something."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from tests.support import Mesh, Program

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(mesh: Mesh, name: str, *words: str) -> Program:
    program = Program(env=mesh.env, command=[sys.executable, str(EXAMPLES / name), *words])
    mesh.programs.append(program)
    return program


def test_a_pool(mesh: Mesh) -> None:
    program = start(mesh, "pool.py")
    assert (program.wait(), program.err) == (0, "")
    assert program.out.splitlines() == [
        "SENT None",
        "PROGRESS None",
        *[f"PROGRESS ({part}, None)" for part in (0.25, 0.5, 0.75, 1.0)],
        "SUCCESS 444",
        "[0, 1, 4, 9, 16]",
    ]


def test_a_worker_and_its_callers(mesh: Mesh) -> None:
    worker = start(mesh, "worker.py")
    worker.line("serving greet()")
    caller = start(mesh, "caller.py", "ann", "2")
    assert (caller.wait(), caller.err) == (0, "")
    assert caller.out.splitlines() == [
        "SENT ",
        "PROGRESS ",
        "PROGRESS (0.5, 'greeting 1')",
        "PROGRESS (1.0, 'greeting 2')",
        "SUCCESS ['hello ann', 'hello ann']",
    ]
    again = start(mesh, "caller.py")
    assert again.wait() == 0
    assert again.line("SUCCESS") == "SUCCESS ['hello world']"
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0


def test_a_stream_that_its_reader_leaves(mesh: Mesh) -> None:
    node = mesh.node("bench", target=EXAMPLES / "stream.py")
    reader = start(mesh, "stream.py")
    assert (reader.wait(), reader.out, reader.err) == (0, "the largest of bench is 1.000\n", "")
    node.line("measure() has ended")
    assert mesh.run("call", "measure", "2").out == "0.0\n0.09983341664682815\n"


def test_a_listener(mesh: Mesh) -> None:
    listener = start(mesh, "listener.py")
    listener.line("listening")
    node = mesh.node("one")
    listener.line("found: one: found")
    os.kill(node.children()[0], signal.SIGKILL)
    listener.line("lost: one: ")
    node.stop()
    listener.signal(signal.SIGINT)
    assert listener.wait() == 0, listener
    _, *events, last = listener.out.splitlines()
    assert last == "0 events were dropped, since printing was too slow for them"
    assert all(re.match(r"\d\d:\d\d:\d\d (info|warning) +caller: \w+: one: ", each) for each in events)


def test_workers_that_remember(mesh: Mesh) -> None:
    program = start(mesh, "stateful.py")
    assert (program.wait(), program.err) == (0, "")
    assert program.out.splitlines() == [
        "closure: [11, 13, 16]",
        "method: 150 150",
        "a Meter for each worker: [(1, True), (1, True), (1, True)]",
        "a Meter for each worker: [(2, True), (2, True), (2, True)]",
    ]
