"""``dingo-zmq node`` as a person starts it, and the front door: help and version."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import dingo_zmq
from dingo_zmq import App
from dingo_zmq.cli import main
from tests.support import PATIENCE, SERVED, Gate, Mesh, wait_until

GOOD = """
from dingo_zmq import App
app = App("mesh")

@app.task
def add(a: int, b: int = 5) -> int:
    return a + b
"""


def test_it_says_who_it_is_and_what_to_try(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(GOOD)
    node = mesh.program("node", str(file), "--name", "bench")
    first, second = node.line("node ", "out"), node.line("try: ", "out")
    assert first.startswith("node bench: add at tcp://127.0.0.1:")
    assert f"mesh {mesh.name}" in first
    assert "this host only" in first
    assert second == "try: dingo-zmq call add 2"
    call = mesh.run(*second.split()[2:])
    assert call.out == "7\n"
    assert node.stop() == 0
    assert "Traceback" not in node.err


@pytest.mark.parametrize("mode", ["App()", 'App("local")', 'App("mesh")'])
def test_it_serves_whatever_mode_the_app_has(mesh: Mesh, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(GOOD.replace('App("mesh")', mode))
    mesh.node(target=file)
    assert mesh.app().call("add", 1).result(PATIENCE) == 6


def test_a_module_by_its_name(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "some_tasks.py").write_text(GOOD)
    node = mesh.program("node", "some_tasks:app", PYTHONPATH=str(tmp_path))
    node.line("node ", "out")
    assert mesh.app().call("add", 1).result(PATIENCE) == 6


def test_a_file_may_import_its_neighbours(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("FIVE = 5\n")
    file = tmp_path / "tasks.py"
    file.write_text(
        GOOD.replace("b: int = 5", "b: int = FIVE").replace("App\n", "App\nfrom neighbour import FIVE\n", 1)
    )
    mesh.node(target=file)
    assert mesh.app().call("add", 1).result(PATIENCE) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_like_it\n", ["cannot import", "ModuleNotFoundError", "nothing_like_it", "line 1"]),
        ("x = 1\ny = (\n", ["cannot import", "SyntaxError"]),
        ("raise SystemExit(0)\n", ["cannot import", "SystemExit"]),
        ("1 / 0\n", ["cannot import", "ZeroDivisionError", "line 1"]),
        ("x = 1\n", ["makes no App", 'app = App("mesh")']),
        ("from dingo_zmq import App\napp = App()\n", ["nothing to serve", "@app.task"]),
        ("from dingo_zmq import App\none = App()\ntwo = App()\n", ["several Apps", "one, two"]),
        ("from dingo_zmq import App\napp = App()\napp.declare('add')\n", ["nothing to serve"]),
    ],
    ids=["import", "syntax", "exit", "error", "no app", "no function", "two apps", "declared"],
)
def test_a_file_that_cannot_be_served(mesh: Mesh, tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    node = mesh.run("node", str(file))
    assert (node.wait(), node.out) == (2, "")
    assert "error: " in node.err
    for word in words:
        assert word in node.err
    assert "Traceback" not in node.err


def test_several_processes_that_cannot_start(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import nothing_like_it\n")
    node = mesh.run("node", str(file), "--processes", "3")
    assert (node.wait(), node.out) == (2, "")
    assert "nothing_like_it" in node.err


def test_one_of_two_apps(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(GOOD + "other = App()\n")
    node = mesh.program("node", f"{file}:app")
    node.line("node ", "out")
    assert mesh.app().call("add", 1).result(PATIENCE) == 6
    wrong = mesh.run("node", f"{file}:third")
    assert wrong.wait() == 2
    assert "has no App named 'third'; hint" not in wrong.err
    assert "has no App named 'third'" in wrong.err
    assert "app, other" in wrong.err


@pytest.mark.parametrize("target", ["there_is_no_such_file.py", "there_is_no_such_module", ""])
def test_a_target_that_is_not_there(mesh: Mesh, target: str) -> None:
    node = mesh.run("node", target)
    assert node.wait() == 2
    assert "error: " in node.err
    assert "Traceback" not in node.err


@pytest.mark.parametrize(
    "words",
    [
        [str(SERVED), "--discovery", "telepathy"],
        [str(SERVED), "--name", "a" * 201],
        [str(SERVED), "--name", "a\nb"],
        [str(SERVED), "--tag", ""],
        [str(SERVED), "--mesh", "a" * 201],
    ],
    ids=["discovery", "name", "lines", "tag", "mesh"],
)
def test_what_a_node_cannot_be_told(mesh: Mesh, words: list[str]) -> None:
    node = mesh.run("node", *words)
    assert node.wait() == 2
    assert "rror: " in node.err
    assert "Traceback" not in node.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        [str(SERVED), "--threads", "0"],
        [str(SERVED), "--port", "70000"],
        [str(SERVED), "--port", "40000", "--processes", "2"],
        [str(SERVED), "--grace", "-1"],
    ],
    ids=["nothing", "threads", "port", "one port for two", "grace"],
)
def test_wrong_usage(mesh: Mesh, words: list[str]) -> None:
    node = mesh.invoke("node", *words)
    assert node.code == 2
    assert "Error: " in node.err


def test_the_threads_that_the_app_was_given(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(GOOD.replace('App("mesh")', 'App("mesh", threads=3)'))
    mesh.node(target=file)
    app = mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6
    assert [peer.slots for peer in app.peers()] == [3]


def test_a_node_that_cannot_start_again_after_its_file_broke(mesh: Mesh, tmp_path: Path) -> None:
    """It goes on trying: the file may be mended."""
    file = tmp_path / "tasks.py"
    file.write_text(GOOD + "import os\n@app.task(max_losses=1)\ndef die() -> None:\n    os._exit(1)\n")
    node = mesh.node(target=file)
    app = mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6
    file.write_text("broken = (\n")
    app.options(max_losses=1, at_most_once=True).call("die").wait(PATIENCE)
    node.line("SyntaxError", "err")
    waiting = app.call("add", 2)
    file.write_text(GOOD)
    assert waiting.result(PATIENCE) == 7
    assert node.stop() == 0


def test_a_log_of_what_happens(mesh: Mesh) -> None:
    node = mesh.node("talks", "--log-level", "info")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert "draining" in node.err


# ---------------------------------------------------------------------- the front door


def test_version() -> None:
    ran = CliRunner().invoke(main, ["--version"])
    assert (ran.exit_code, ran.output.strip()) == (0, f"dingo-zmq, version {dingo_zmq.__version__}")


def test_the_installed_command(mesh: Mesh) -> None:
    command = Path(sys.executable).parent / "dingo-zmq"
    if not command.exists():
        pytest.skip("not installed")
    from tests.support import Program

    program = Program(env=mesh.env, command=[str(command), "--version"])
    assert program.wait() == 0
    assert dingo_zmq.__version__ in program.out


@pytest.mark.parametrize("word", ["-h", "--help"])
@pytest.mark.parametrize("command", ["", "node", "call", "peers", "watch", "keygen", "config", "doctor"])
def test_help_shows_an_example(command: str, word: str) -> None:
    ran = CliRunner().invoke(main, [*filter(None, [command]), word], prog_name="dingo-zmq")
    assert ran.exit_code == 0
    assert f"Usage: dingo-zmq {command}".strip() in ran.output
    example = f"dingo-zmq {command or 'call'} "
    assert any(
        line.strip().startswith(example) or f"  {example}".rstrip() in line for line in ran.output.splitlines()[1:]
    )
    assert "node-process" not in ran.output


def test_an_unknown_command() -> None:
    ran = CliRunner().invoke(main, ["nod"])
    assert ran.exit_code == 2
    assert "No such command" in ran.output


def test_a_traceback_only_when_asked_for(mesh: Mesh) -> None:
    plain = mesh.invoke("call", "add", "1", "--discovery", "telepathy")
    assert (plain.code, plain.out) == (2, "")
    node = mesh.run("-v", "call", "add", "1", "--discovery", "telepathy")
    assert "Traceback" in node.err
    assert json.dumps("telepathy")[1:-1] in node.err


# ---------------------------------------------------------------------- who may come


def test_it_says_how_to_let_others_in(mesh: Mesh) -> None:
    node = mesh.node("bench")
    assert node.line("node ", "out").endswith(f"mesh {mesh.name}, this host only (no mesh key)")
    assert node.line("to let other machines in: dingo-zmq keygen, then start it again; copy the key to them")


def test_without_any_key(mesh: Mesh) -> None:
    node = mesh.node("bench", "--insecure-lan", "--bind", "127.0.0.1")
    assert node.line("node ", "out").endswith("NO KEY: anybody on this host can run tasks")
    assert node.line("try: ", "out") == "try: dingo-zmq call --insecure-lan add 2"
    assert "WARNING" in node.line("NO KEY", "err")
    assert "to let other machines in" not in node.out
    assert mesh.invoke("call", "add", "2", "3", "--insecure-lan").out == "5\n"
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bind", "192.0.2.1"], "'192.0.2.1'"),
        (["--bind", "no-such-interface"], "no-such-interface"),
        (["--advertise", "bench-3.local"], "needs a mesh key"),
        (["--key", "/no/such/mesh.key"], "/no/such/mesh.key"),
        (["--key", "/no/such/mesh.key", "--insecure-lan"], "--insecure-lan means no key at all"),
    ],
    ids=["address", "interface", "advertise", "key", "key and none"],
)
def test_what_cannot_be_opened(mesh: Mesh, words: list[str], said: str) -> None:
    node = mesh.run("node", str(SERVED), *words)
    assert (node.wait(), node.out) == (2, "")
    assert said in node.err
    assert "Traceback" not in node.err
    assert len(node.err.splitlines()) <= 5


# ---------------------------------------------------------------------- files that change


def ready(app: App) -> set[str]:
    return {peer.node for peer in app.peers() if peer.state == "ready"}


def test_a_changed_file_is_served_anew(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("FIVE = 5\n")
    file = tmp_path / "tasks.py"
    text = GOOD.replace("App\n", "App\nimport neighbour\n", 1).replace("a + b", "a + b + 0 * neighbour.FIVE")
    file.write_text(text)
    node = mesh.node("bench", "--processes", "2", "--reload", target=file)
    app = mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6
    wait_until(lambda: len(ready(app)) == 2, "two nodes")
    before = ready(app)

    file.write_text(text.replace("a + b", "a - b"))
    wait_until(lambda: len(now := ready(app)) == 2 and not now & before, "two others")
    assert str(file) in node.line("process 1 is started anew", "err")
    node.line("process 2 is started anew", "err")
    assert app.call("add", 1).result(PATIENCE) == -4

    (tmp_path / "neighbour.py").write_text("FIVE = (\n")
    assert "SyntaxError" in node.line("neighbour.py changed, but the old one goes on", "err")
    assert app.call("add", 1).result(PATIENCE) == -4
    count = node.err.count("is started anew")
    (tmp_path / "neighbour.py").write_text("FIVE = 10\n")
    wait_until(lambda: node.err.count("is started anew") == count + 2, "both again")
    assert app.call("add", 1).result(PATIENCE) == -4
    assert node.err.count("the old one goes on") == 1
    assert node.stop() == 0


def test_a_file_that_fails_when_it_is_imported_is_tried_again_when_it_changes(mesh: Mesh, tmp_path: Path) -> None:
    """At once, not when the pause between two starts is over, which has grown by then."""
    neighbour, file = tmp_path / "neighbour.py", tmp_path / "tasks.py"
    neighbour.write_text("FIVE = 5\n")
    file.write_text(
        GOOD.replace("App\n", "App\nfrom neighbour import FIVE\n", 1).replace("a + b", "a + b + 0 * FIVE")
    )
    node = mesh.node("bench", "--reload", target=file)
    app = mesh.app()
    assert app.call("add", 1).result(PATIENCE) == 6

    neighbour.write_text("FIVE = SIX\n")
    assert "cannot import" in node.line("NameError", "err")
    node.line("it is started again in 3.2 s", "err")
    failures = node.err.count("it is started again")
    file.write_text(GOOD.replace("a + b", "a - b"))
    assert node.line("process 1 is started again: ", "err").endswith(f"{file} changed")
    assert app.call("add", 1).result(PATIENCE) == -4
    assert node.err.count("it is started again") == failures
    assert node.stop() == 0


def test_running_tasks_finish_before_it_is_served_anew(mesh: Mesh, tmp_path: Path, gate: Gate) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(SERVED.read_text())
    node = mesh.node("bench", "--reload", target=file)
    app = mesh.app()
    held = app.call("wait_at", gate.port)
    visitor = gate.next()
    file.write_text(SERVED.read_text() + "\n# another one\n")
    node.line("process 1 is started anew", "err")
    assert not held.done()
    visitor.go()
    assert held.result(PATIENCE) == ""
    assert app.call("add", 1).result(PATIENCE) == 6
    assert node.stop() == 0
