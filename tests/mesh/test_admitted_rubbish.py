"""Somebody who is let in sends a node rubbish of every kind; a good caller of that node does not feel it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dingo_zmq.mesh import keys
from tests.support import PATIENCE, Mesh, Program

TASKS, ROUNDS = 10_000, 20
GROWTH = 128 * 1024 * 1024
"""bytes that the node may have taken at most, beyond what it had before"""
SERVED = """
from dingo_zmq import App
app = App("mesh")

@app.task
def square(number: int) -> int:
    return number * number
"""
OPEN = ("--insecure-lan", "--bind", "127.0.0.1")


def most_memory(pid: int) -> int:
    """Return how many bytes a process had at most until now."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


@pytest.mark.parametrize("keyed", [True, False], ids=["with the key", "where there is none"])
def test_a_good_caller_finishes_all_its_tasks_beside_an_intruder(mesh: Mesh, tmp_path: Path, keyed: bool) -> None:
    file = tmp_path / "squares.py"
    file.write_text(SERVED)
    node = mesh.node("one", "--threads", "2", *(() if keyed else OPEN), target=file)
    app = mesh.app() if keyed else mesh.app(insecure_lan=True, bind=["127.0.0.1"])
    assert app.call("square", 3).result(PATIENCE) == 9
    children = node.children()
    before = most_memory(children[0])

    intruder = rubbish(mesh, node, keyed=keyed)
    share = TASKS // ROUNDS
    for number in range(ROUNDS):
        numbers = range(number * share, (number + 1) * share)
        assert list(app.map("square", numbers)) == [n * n for n in numbers]
        intruder.line(f"round {number + 1}.")

    assert app.ledger().ok == TASKS + 1
    assert intruder.process.poll() is None
    assert node.children() == children
    assert most_memory(children[0]) - before < GROWTH
    assert "Traceback" not in node.err


def rubbish(mesh: Mesh, node: Program, *, keyed: bool) -> Program:
    """Start the intruder."""
    words = [Mesh.address(node), mesh.name, "1"]
    if keyed:
        path = keys.local_key(mesh.settings["DINGO_ZMQ_CONFIG_DIR"]).path
        words.append(str(path))
    command = [sys.executable, "-m", "tests.rubbish", *words]
    intruder = Program(command=command, env={**mesh.env, "PYTHONPATH": str(Path(__file__).parents[2])})
    mesh.programs.append(intruder)
    return intruder
