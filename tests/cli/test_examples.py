"""The small examples: a pool, and a worker with its caller."""

from __future__ import annotations

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
