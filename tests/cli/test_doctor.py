"""``dingo-zmq doctor`` on one machine, where nothing leaves it; see `tests/net/test_doctor.py` for the rest."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support import SERVED, Mesh

LOCAL = ("doctor", "--wait", "1.5")


def test_a_node_of_this_machine(mesh: Mesh) -> None:
    address = mesh.address(mesh.node("bench"))
    text, structured = mesh.program(*LOCAL, str(SERVED)), mesh.program(*LOCAL, "--json")

    assert (text.wait(), text.err) == (0, ""), str(text)
    lines = text.out.splitlines()
    assert lines[-1].startswith("verdict: this machine and 1 node are fine")
    assert lines[0].startswith("warn  key: there is no mesh key in ")
    assert lines[1].startswith("      hint: dingo-zmq keygen")
    assert "ok    multicast: not used (--discovery)" in lines
    assert any(line.startswith(f"ok    node bench: ready at {address}") for line in lines)
    assert any(line.startswith("ok    functions: ") for line in lines)
    assert structured.wait() == 0
    report = json.loads(structured.out)
    assert report["well"]
    assert [each["level"] for each in report["findings"] if each["check"] == "node bench"] == ["ok"]
    assert {tuple(each) for each in report["findings"]} == {("level", "check", "text", "hint", "cause")}


def test_no_node(mesh: Mesh) -> None:
    doctor = mesh.run("doctor", "--wait", "0")

    assert (doctor.wait(), doctor.err) == (1, "")
    assert doctor.out.splitlines()[-3:] == [
        f'FAIL  nodes: none of mesh "{mesh.name}" was found on this machine in 0 s',
        "      hint: start one here with: dingo-zmq node FILE.py; to meet those of other machines, "
        "this one needs their mesh key, which dingo-zmq keygen makes",
        "verdict: no node was found",
    ]


def test_a_key_that_was_made_after_the_node_was_started(mesh: Mesh) -> None:
    mesh.node("early")
    assert mesh.run("keygen").wait() == 0
    doctor = mesh.run(*LOCAL)

    assert doctor.wait() == 1, str(doctor)
    assert doctor.out.splitlines()[-1] == "verdict: early listens on its own machine only"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing.py"], "nothing.py"),
        (["--peer", "bench"], "tcp://192.168.1.20:47100"),
        (["--discovery", "smoke"], "unknown discovery 'smoke'"),
        (["--insecure-lan", "--key", "x.key"], "--insecure-lan"),
    ],
)
def test_wrong_usage(mesh: Mesh, words: list[str], told: str) -> None:
    doctor = mesh.run("doctor", "--wait", "0", *words)

    assert (doctor.wait(), doctor.out) == (2, ""), str(doctor)
    assert told in doctor.err
    assert "Traceback" not in doctor.err


def test_ctrl_c_ends_it_at_once(mesh: Mesh) -> None:
    mesh.node("bench")
    doctor = mesh.program("doctor", "--wait", "600", "--log-level", "info")
    doctor.line("bench: found", "err")
    doctor.signal(signal.SIGINT)

    assert (doctor.wait(), doctor.out) == (130, "")
    assert "Traceback" not in doctor.err
