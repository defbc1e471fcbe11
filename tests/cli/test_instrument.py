"""examples/instrument.py on its three terminals: the node that owns the instrument, `watch`, and the caller."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from dingo_zmq import App
from tests.support import PATIENCE, Mesh, Program, wait_until

INSTRUMENT = Path(__file__).parents[2] / "examples" / "instrument.py"


def caller(mesh: Mesh, *words: str) -> Program:
    """Start the example as its own docstring says."""
    program = Program(env=mesh.env, command=[sys.executable, str(INSTRUMENT), *words])
    mesh.programs.append(program)
    return program


def status(app: App) -> dict[str, object]:
    state: dict[str, object] = app.options(needs=["psu"]).call("status").result(PATIENCE)
    return state


def test_three_terminals(mesh: Mesh) -> None:
    mesh.node("other")  # neither the tag nor the function
    mesh.node("bench", "--tag", "psu", target=INSTRUMENT)
    watch = mesh.program("watch")
    app = mesh.app()
    wait_until(lambda: status(app) and "/status/" in watch.out, "watch sees something")

    program = caller(mesh, "--stop", "2", "--points", "5")

    assert program.wait() == 0, program
    assert program.out.splitlines() == [
        " 20%  0.00 V  0.000 mA",
        " 40%  0.50 V  2.273 mA",
        " 60%  1.00 V  4.545 mA",
        " 80%  1.50 V  6.818 mA",
        "100%  2.00 V  9.091 mA",
        "5 points by bench; 2.00 V drives 9.091 mA",
        "the instrument: range 10 mA, 1 scans, 5 readings",
    ]
    assert program.err == ""
    watch.line("/scan/1 SUCCESS [{'voltage': 0.0, 'current': 0.0, 'range': 0.001}", "out")
    seen = [line.split("/scan/1 ")[1] for line in watch.out.splitlines() if "/scan/1 " in line]
    assert seen[:3] == ["SENT", "PROGRESS", "PROGRESS 20% 0.00 V  0.000 mA"]


def test_it_waits_for_the_node_with_the_tag_and_says_so(mesh: Mesh) -> None:
    mesh.node("untagged", target=INSTRUMENT)
    program = caller(mesh, "--points", "2")
    line = program.line("waiting: ", "err")
    assert re.fullmatch(r'waiting: .* is not done after 2 s: no node has the tag "psu", nor any other', line)
    mesh.node("bench", "--tag", "psu", target=INSTRUMENT)
    assert program.wait() == 0, program
    assert program.out.splitlines()[-2] == "2 points by bench; 5.00 V drives 22.727 mA"


def test_ctrl_c_ends_the_scan_at_the_next_point(mesh: Mesh) -> None:
    mesh.node("bench", "--tag", "psu", target=INSTRUMENT)
    program = caller(mesh, "--points", "5000")
    program.line("%  ", "out")
    program.signal(signal.SIGINT)
    assert program.wait() == 130
    assert "Traceback" not in program.err
    app = mesh.app()
    again = app.options(needs=["psu"]).call("scan", 0.0, 1.0, 2, 0.0)
    assert len(again.result(PATIENCE)) == 2  # its one worker is free again
    state = status(app)
    assert state["scans"] == 2
    assert isinstance(state["readings"], int)
    assert state["readings"] < 5000


def test_a_scan_that_makes_no_sense(mesh: Mesh) -> None:
    mesh.node("bench", "--tag", "psu", target=INSTRUMENT)
    program = caller(mesh, "--points", "1")
    assert program.wait() == 1
    assert (program.out, program.err) == (
        "",
        "error: ValueError: a scan has at least 2 points, not 1 (on bench)\n",
    )


def test_several_scans_have_one_worker(mesh: Mesh) -> None:
    mesh.node("bench", "--tag", "psu", target=INSTRUMENT)
    app = mesh.app()
    results = [app.call("scan", 0.0, 1.0, 5, 0.01) for _ in range(4)]
    assert all(len(result.result(PATIENCE)) == 5 for result in results)
    (peer,) = app.peers()
    assert peer.tags == ("psu",)
    assert peer.function_slots["scan"] == 1
    assert peer.function_slots["status"] >= 1
