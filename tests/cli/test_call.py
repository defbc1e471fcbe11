"""``dingo-zmq call``, as a person uses it: what is printed where, and the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dingo_zmq.cli.call import _Wait
from tests.support import PATIENCE, Gate, Mesh, Program, closed_port, file_that_dies


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
        (["add", "--priority", "-2", "-2", "-3"], "-5"),
        (["add", "--", "-2", "-3"], "-5"),
        (["add", "b=4", "2"], "6"),
        (["add", "a=-1", "b=-4", "--json"], "-5"),
        (["gather", "1", "-2", "word=w", "x=1"], "{'first': 1, 'rest': [-2], 'word': 'w', 'words': {'x': '1'}}"),
        (["gather", "1", "--json"], '{"first": 1, "rest": [], "word": "none", "words": {}}'),
        (["echo", "text"], "text"),
        (["echo", "text", "--json"], '"text"'),
        (["echo", '{"a": [1, 2.5, null]}'], "{'a': [1, 2.5, None]}"),
        (["later", "1"], "2"),
        (["count", "3"], "0\n1\n2"),
        (["count", "most=2", "--json", "--timeout", "5"], "0\n1"),
    ],
)
def test_the_result_goes_to_stdout_and_nothing_else_does(shared: Mesh, words: list[str], out: str) -> None:
    call = shared.invoke("call", *words)
    assert (call.code, call.out, call.err) == (0, f"{out}\n", "")


@pytest.mark.parametrize("words", [["add", "2"], ["count", "3"]])
def test_a_result_that_cannot_be_written_is_said_in_a_line(shared: Mesh, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "dingo_zmq", "call", *words]
        done = subprocess.run(command, env=shared.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: the result cannot be written: No space left on device\n"


def test_a_process_of_its_own_prints_the_same(shared: Mesh) -> None:
    call = shared.run("call", "add", "-2", "b=4")
    assert (call.wait(), call.out, call.err) == (0, "2\n", "")


def test_progress_goes_to_stderr(shared: Mesh) -> None:
    call = shared.invoke("call", "steps", "4", "--json")
    assert (call.code, call.out) == (0, "4\n")
    assert call.err == "25% step 1\n50% step 2\n75% step 3\n100% step 4\n"


def test_a_task_with_a_time_limit(shared: Mesh) -> None:
    call = shared.invoke("call", "doze", "--time-limit", "0.1")
    assert (call.code, call.out) == (1, "")
    assert call.err == "error: it ran longer than its time_limit of 0.1 s (on one)\n"
    call = shared.invoke("call", "doze", "--time-limit", "0")
    assert (call.code, call.out) == (2, "")
    assert "0.0 is not in the range x>0" in call.err


def test_a_task_that_is_tried_again(shared: Mesh) -> None:
    call = shared.invoke("call", "spoil", "rotten", "--retries", "1", "--priority", "5", "--expires", "30")
    assert (call.code, call.out) == (1, "")
    first, *rest = call.err.splitlines()
    assert first.startswith("attempt 2 of 2 in ")
    assert any("(the last of 2 attempts)" in line for line in rest)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--expires", "0"], "expires must be seconds"),
        (["--retries", "-1"], "retries must be a whole number"),
        (["--priority", "-9999999"], "priority must be a whole number"),
    ],
)
def test_an_option_that_makes_no_sense(shared: Mesh, words: list[str], said: str) -> None:
    call = shared.invoke("call", "add", "2", *words)
    assert (call.code, call.out) == (2, "")
    assert said in call.err


def test_a_task_that_fails(shared: Mesh) -> None:
    call = shared.invoke("call", "spoil", "rotten")
    assert (call.code, call.out) == (1, "")
    assert call.err == "error: served.Spoiled: it was rotten (on one)\n"
    good_one(shared)


def test_the_traceback_of_a_task_only_when_asked_for(shared: Mesh) -> None:
    call = shared.invoke("-v", "call", "spoil", "\x1b[31mrotten")
    assert (call.code, call.out) == (1, "")
    assert "The traceback on one:" in call.err
    assert "in _deeper" in call.err
    assert call.err.splitlines()[-1].endswith(r"Spoiled: it was \x1b[31mrotten")
    assert "\x1b" not in call.err


def test_an_error_takes_five_lines_at_most_and_moves_no_cursor(shared: Mesh) -> None:
    call = shared.invoke("call", "spoil", "\x1b[2J\nhint: run this\n3\n4\n5\n6\n7")
    assert call.code == 1
    assert call.err.splitlines() == [
        r"error: served.Spoiled: it was \x1b[2J",
        "  hint: run this",
        "  3",
        "  4",
        "... 3 more lines; dingo-zmq -v shows all of it",
    ]


def test_a_terminal_gets_no_control_characters_from_a_result(shared: Mesh) -> None:
    main, side = os.openpty()
    with os.fdopen(side, "w") as terminal, os.fdopen(main, "rb", 0) as screen:
        command = [sys.executable, "-m", "dingo_zmq", "call", "echo", "\x1b[31mred"]
        assert subprocess.run(command, stdout=terminal, timeout=PATIENCE, check=False).returncode == 0
        assert screen.read(100) == b"\\x1b[31mred\r\n"
    assert shared.invoke("call", "echo", "\x1b[31mred").out == "\x1b[31mred\n"  # as it is, for other programs


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
    assert call.err.splitlines() == [
        "error: ad was not done within 0.3 s",
        'cause: no node has "ad"',
        'hint: did you mean "add" (one)?',
    ]


def test_an_unknown_function_and_a_peer_that_is_not_there(shared: Mesh) -> None:
    call = shared.invoke("call", "ad", "2", "--timeout", "0.5", "--peer", f"tcp://127.0.0.1:{closed_port()}")
    assert (call.code, call.out) == (3, "")
    error, cause, hint = call.err.splitlines()
    assert error == "error: ad was not done within 0.5 s"
    assert re.fullmatch(r'cause: no node has "ad"; \S+ is not connected yet', cause)
    assert hint == 'hint: did you mean "add" (one)?'


def test_an_unknown_function_is_told_early_and_may_still_come(mesh: Mesh, tmp_path: Path) -> None:
    mesh.node("bench-3")
    call = mesh.program("call", "ad", "2", "--timeout", str(PATIENCE))
    assert call.line("waiting: ", "err") == 'waiting: no node has "ad"; did you mean "add" (bench-3)?'
    file = tmp_path / "late.py"
    file.write_text("from dingo_zmq import App\napp = App()\n@app.task\ndef ad(a: int) -> int:\n    return a\n")
    mesh.node("late", target=file)
    assert (call.wait(), call.out) == (0, "2\n")


def test_a_name_that_no_function_can_have(shared: Mesh) -> None:
    call = shared.invoke("call", "a/b", "--timeout", "0.3")
    assert call.code == 2
    assert "without '/'" in call.err


def test_no_node_at_all(mesh: Mesh) -> None:
    call = mesh.invoke("call", "add", "2", "--timeout", "0.3")
    assert (call.code, call.out) == (3, "")
    assert call.err.splitlines() == [
        "error: add was not done within 0.3 s",
        f"cause: no node of mesh '{mesh.name}' has been found",
        "hint: start one here with: dingo-zmq node FILE.py; to meet those of other machines, "
        "this one needs their mesh key, which dingo-zmq keygen makes",
    ]


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
    assert call.err.splitlines() == [
        "error: wait_at was not done within 0.5 s",
        "cause: it may be running on one",
        "hint: dingo-zmq peers shows the nodes and what they are doing",
    ]
    good_one(shared)


def test_a_task_that_tells_of_progress_takes_too_long_all_the_same(shared: Mesh, tmp_path: Path) -> None:
    call = shared.invoke("call", "steps_until", str(tmp_path / "never"), "--timeout", "0.5")
    assert call.code == 3
    assert "not yet" in call.err
    assert "error: steps_until was not done within 0.5 s" in call.err.splitlines()
    (tmp_path / "never").touch()


def test_unknown_after_a_loss(mesh: Mesh, tmp_path: Path) -> None:
    mesh.node("victim", target=file_that_dies(tmp_path))
    call = mesh.run("call", "die", "--at-most-once")
    assert (call.wait(), call.out) == (4, "")
    text = "error: the node was lost while the task may have been running; tried on victim (died)"
    assert call.err.splitlines()[-1] == text


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
    assert call.line("waiting: ") == f"waiting: no node of mesh '{mesh.name}' has been found"
    mesh.node("late")
    assert (call.wait(), call.out) == (0, "2\n")


def test_a_call_that_waits_for_a_worker(mesh: Mesh, gate: Gate) -> None:
    mesh.node("narrow", "--threads", "1")
    mesh.app().call("wait_at", gate.port)
    visitor = gate.next()
    call = mesh.program("call", "add", "1", "1", "--timeout", str(PATIENCE))
    call.line("waiting: it is queued or running on narrow", "err")
    visitor.go()
    assert (call.wait(), call.out) == (0, "2\n")


def test_a_call_says_what_it_waits_for_again_when_that_changes(mesh: Mesh, gate: Gate) -> None:
    call = mesh.program("call", "wait_at", str(gate.port), "word=done", "--timeout", str(PATIENCE))
    call.line("waiting: no node of mesh", "err")
    mesh.node("late", "--threads", "1")
    visitor = gate.next()
    call.line("waiting: it may be running on late", "err")
    visitor.go()
    assert (call.wait(), call.out) == (0, "done\n")
    assert len(call.err.splitlines()) == len(set(call.err.splitlines()))


def test_a_task_expires_while_it_waits_for_a_node(mesh: Mesh) -> None:
    call = mesh.invoke("call", "add", "2", "--expires", "0.3", "--timeout", str(PATIENCE))
    assert (call.code, call.out) == (1, "")
    assert call.err.splitlines()[:2] == [
        "error: it was not started within 0.3 s of the call",
        f"cause: no node of mesh '{mesh.name}' has been found",
    ]
    assert mesh.invoke("call", "add", "2", "--expires", "30", "--timeout", "0.3").code == 3


def test_a_task_expires_while_it_waits_for_a_worker(mesh: Mesh, gate: Gate) -> None:
    mesh.node("narrow", "--threads", "1")
    mesh.app().call("wait_at", gate.port)
    gate.next()
    call = mesh.invoke("call", "add", "2", "--expires", "1.5", "--timeout", str(PATIENCE))
    assert (call.code, call.out) == (1, "")
    assert call.err.splitlines()[-1].startswith("error: it was not started within 1.5 s of the call")


def test_what_the_wait_for_a_node_has_left_of_the_time_to_start_is_passed_on() -> None:
    wait = _Wait("add", PATIENCE, str, PATIENCE)
    left = wait.hand_over()
    assert left is not None
    assert 0 < left < PATIENCE
    assert _Wait("add", PATIENCE, str, None).hand_over() is None
    with pytest.raises(SystemExit, match="1"):
        _Wait("add", PATIENCE, str, 1e-9).hand_over()


def test_the_node_can_be_chosen(mesh: Mesh) -> None:
    for name, tags in (("red", ["--tag", "psu"]), ("blue", ["--tag", "psu", "--tag", "fast"])):
        mesh.node(name, "--threads", "1", *tags)
    pids = {
        words: mesh.invoke("call", "who", "--json", *words).out.split(",")[0]
        for words in (("--node", "red"), ("--node", "blue"), ("--need", "psu", "--need", "fast"))
    }
    assert pids["--node", "red"] != pids["--node", "blue"] == pids["--need", "psu", "--need", "fast"]


@pytest.mark.parametrize(
    ("words", "cause", "hint"),
    [
        (["--node", "on"], 'no node is called "on"', 'did you mean "one"?'),
        (
            ["--need", "psu"],
            'no node has the tag "psu", nor any other',
            "dingo-zmq peers shows the nodes and what they are doing",
        ),
    ],
)
def test_a_choice_that_no_node_meets(shared: Mesh, words: list[str], cause: str, hint: str) -> None:
    call = shared.invoke("call", "add", "2", "--timeout", "0.5", *words)
    assert (call.code, call.out) == (3, "")
    assert call.err.splitlines() == ["error: add was not done within 0.5 s", f"cause: {cause}", f"hint: {hint}"]


@pytest.mark.parametrize("words", [["--need", ""], ["--need", "a/b"], ["--node", "a\nb"]])
def test_a_choice_that_cannot_be(shared: Mesh, words: list[str]) -> None:
    call = shared.invoke("call", "add", "2", *words)
    assert (call.code, call.out) == (2, "")
    assert call.err.startswith("error: ")
    assert len(call.err.splitlines()) <= 5


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


def test_a_negative_value_of_an_option(shared: Mesh) -> None:
    call = shared.invoke("call", "--timeout", "-1", "add", "2", "-3")
    assert call.code == 2
    assert "-1.0" in call.err or "-1 " in call.err
    assert "\0" not in call.err
