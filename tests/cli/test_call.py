"""``dingo-zmq call``, as a person uses it: what is printed where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import PATIENCE, Gate, Mesh, Program, closed_port


@pytest.fixture(scope="module", autouse=True)
def node(module_mesh: Mesh) -> Program:
    return module_mesh.node("one", "--threads", "2")


def good_one(mesh: Mesh) -> None:
    assert mesh.app().call("add", 2, 3).result(PATIENCE) == 5


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["add", "2", "3"], "5"),
        (["add", "2"], "7"),
        (["add", "-2", "-3"], "-5"),
        (["add", "--", "-2", "-3"], "-5"),
        (["add", "b=4", "2"], "6"),
        (["add", "a=-1", "b=-4", "--json"], "-5"),
        (["gather", "1", "-2", "word=w", "x=1"], "{'first': 1, 'rest': [-2], 'word': 'w', 'words': {'x': '1'}}"),
        (["gather", "1", "--json"], '{"first": 1, "rest": [], "word": "none", "words": {}}'),
        (["echo", "text"], "text"),
        (["echo", "text", "--json"], '"text"'),
        (["echo", '{"a": [1, 2.5, null]}'], "{'a': [1, 2.5, None]}"),
        (["later", "1"], "2"),
    ],
)
def test_the_result_goes_to_stdout_and_nothing_else_does(shared: Mesh, words: list[str], out: str) -> None:
    call = shared.invoke("call", *words)
    assert (call.code, call.out, call.err) == (0, f"{out}\n", "")


def test_a_process_of_its_own_prints_the_same(shared: Mesh) -> None:
    call = shared.run("call", "add", "-2", "b=4")
    assert (call.wait(), call.out, call.err) == (0, "2\n", "")


def test_progress_goes_to_stderr(shared: Mesh) -> None:
    call = shared.invoke("call", "steps", "4", "--json")
    assert (call.code, call.out) == (0, "4\n")
    assert call.err == "25% step 1\n50% step 2\n75% step 3\n100% step 4\n"


def test_a_task_that_fails(shared: Mesh) -> None:
    call = shared.invoke("call", "spoil", "rotten")
    assert (call.code, call.out) == (1, "")
    assert call.err == "error: served.Spoiled: it was rotten (on one)\n"
    good_one(shared)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add", "two"], "add(), parameter 'a': expected int, got the word 'two'"),
        (["add"], "parameter 'a'"),
        (["add", "1", "2", "3"], "at most 2 positional arguments"),
        (["add", "1", "a=2"], "'a'"),
        (["add", "1", "c=2"], "c=2"),
    ],
)
def test_wrong_arguments(shared: Mesh, words: list[str], text: str) -> None:
    call = shared.invoke("call", *words)
    assert (call.code, call.out) == (2, "")
    assert call.err.startswith("error: ")
    assert text in call.err
    assert "Traceback" not in call.err


@pytest.mark.parametrize(
    "words", [[], ["--timeout", "soon", "add"], ["--timeout", "-1", "add"], ["add", "--mesh"]]
)
def test_wrong_usage(shared: Mesh, words: list[str]) -> None:
    call = shared.invoke("call", *words)
    assert (call.code, call.out) == (2, "")
    assert "Error: " in call.err
    assert "Traceback" not in call.err


def test_an_unknown_function(shared: Mesh) -> None:
    call = shared.invoke("call", "ad", "2", "--timeout", "0.3")
    assert (call.code, call.out) == (3, "")
    assert call.err == 'error: ad was not done within 0.3 s: no node has "ad"; did you mean "add" (one)?\n'


def test_a_name_that_no_function_can_have(shared: Mesh) -> None:
    call = shared.invoke("call", "a/b", "--timeout", "0.3")
    assert call.code == 2
    assert "without '/'" in call.err


def test_no_node_at_all(mesh: Mesh) -> None:
    call = mesh.invoke("call", "add", "2", "--timeout", "0.3")
    assert (call.code, call.out) == (3, "")
    assert f"no node of mesh '{mesh.name}' has been found" in call.err


def test_a_peer_that_is_not_there(mesh: Mesh) -> None:
    call = mesh.invoke("call", "add", "2", "--timeout", "0.3", "--peer", f"tcp://127.0.0.1:{closed_port()}")
    assert call.code == 3
    assert "no node has answered yet" in call.err


@pytest.mark.parametrize(
    "peer", ["127.0.0.1:1", "tcp://somewhere", "udp://127.0.0.1:47100", "tcp://127.0.0.1:99999"]
)
def test_an_address_that_is_none(shared: Mesh, peer: str) -> None:
    call = shared.invoke("call", "add", "2", "--timeout", "0.3", "--peer", peer)
    assert call.code == 2
    assert call.err.startswith("error: ")
    assert peer in call.err
    assert "Traceback" not in call.err


def test_a_discovery_that_is_none(shared: Mesh) -> None:
    call = shared.invoke("call", "add", "2", "--timeout", "0.3", "--discovery", "telepathy")
    assert call.code == 2
    assert "telepathy" in call.err


def test_a_node_of_another_mesh(shared: Mesh, node: Program) -> None:
    address = shared.address(node)
    call = shared.invoke("call", "add", "2", "--mesh", "elsewhere", "--peer", address, "--timeout", "0.5")
    assert (call.code, call.out) == (3, "")
    assert f"one belongs to mesh '{shared.name}', not 'elsewhere'" in call.err


def test_a_peer_by_its_address_alone(shared: Mesh, node: Program) -> None:
    address = shared.address(node)
    call = shared.invoke("call", "add", "2", "3", "--peer", address, "--discovery", "none")
    assert (call.code, call.out) == (0, "5\n")


def test_a_task_that_takes_too_long(shared: Mesh, gate: Gate) -> None:
    call = shared.program("call", "wait_at", str(gate.port), "--timeout", "0.5")
    gate.next()
    assert call.wait() == 3
    assert "wait_at was not done within 0.5 s: it may be running on one" in call.err
    good_one(shared)


def test_a_task_that_tells_of_progress_takes_too_long_all_the_same(shared: Mesh, tmp_path: Path) -> None:
    call = shared.invoke("call", "steps_until", str(tmp_path / "never"), "--timeout", "0.5")
    assert call.code == 3
    assert "not yet" in call.err
    assert "was not done within 0.5 s" in call.err.splitlines()[-1]
    (tmp_path / "never").touch()


def test_unknown_after_a_loss(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text(
        "import os\n"
        "from dingo_zmq import App\n"
        "app = App()\n"
        "@app.task(at_most_once=True)\n"
        "def die() -> None:\n"
        "    os._exit(1)\n"
    )
    mesh.node("victim", target=file)
    call = mesh.run("call", "die", "--at-most-once")
    assert (call.wait(), call.out) == (4, "")
    assert call.err.splitlines()[-1] == "error: the node was lost while the task may have been running"


def test_values_that_json_has_not(shared: Mesh, tmp_path: Path) -> None:
    call = shared.invoke("call", "reverse", "abc", "--json")
    assert call.code == 0, call
    json.loads(call.out)
    plain = shared.invoke("call", "reverse", "abc")
    assert plain.out == "b'cba'\n"


def test_control_c(shared: Mesh, gate: Gate) -> None:
    import signal

    call = shared.program("call", "wait_at", str(gate.port))
    gate.next()
    call.signal(signal.SIGINT)
    assert call.wait() == 130
    assert "Traceback" not in call.err


def test_many_at_once(shared: Mesh) -> None:
    calls = [shared.program("call", "add", str(number), "1") for number in range(4)]
    assert [(call.wait(), call.out) for call in calls] == [(0, f"{number + 1}\n") for number in range(4)]


def test_a_call_waits_for_its_node(mesh: Mesh) -> None:
    call = mesh.program("call", "add", "1", "1", "--timeout", str(PATIENCE))
    mesh.node("late")
    assert (call.wait(), call.out) == (0, "2\n")


def test_a_broken_pipe_is_quiet(shared: Mesh) -> None:
    script = shared.script(
        """
import os, subprocess, sys
read, write = os.pipe()
os.close(read)
command = [sys.executable, "-m", "dingo_zmq", "call", "add", "1"]
call = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
print(call.stderr.decode())
"""
    )
    assert script.wait() == 0
    assert "Traceback" not in script.out
