"""Ctrl-C, whenever it comes: programs end, and commands do so with exit code 130 and without a traceback."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import PATIENCE, Mesh, wait_until

# Presses Ctrl-C where a module is about to be imported, at a place where Python loses an exception.
HOOK = """
import signal, sys

class Pressed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            Pressed()

assert {module!r} not in sys.modules
sys.meta_path.insert(0, Finder())
"""

PROGRAM = """
from dingo_zmq import App

app = App("mesh")
print(app.call("add", 2, 3).result())
"""

HALF_MADE = """
import signal
from dingo_zmq import App
from dingo_zmq.mesh.reactor import Reactor

started = Reactor.start

def start(self):
    started(self)
    signal.raise_signal(signal.SIGINT)

Reactor.start = start
app = App("mesh")
try:
    app.call("add", 2, 3)
except KeyboardInterrupt:
    print(app)
"""

# What msgspec imports by itself, and what is imported by this package, by an App and by its first call.
MODULES = ["datetime", "dingo_zmq.app", "zmq", "platformdirs"]
COMMANDS = [["call", "add", "2", "3"], ["peers"], ["watch"]]
IDS = [words[0] for words in COMMANDS]


@pytest.mark.parametrize("module", MODULES)
def test_a_program_that_is_importing(mesh: Mesh, module: str) -> None:
    del mesh.settings["DINGO_ZMQ_CONFIG_DIR"]
    mesh.settings |= {"XDG_CONFIG_HOME": str(mesh.folder), "HOME": str(mesh.folder)}
    program = mesh.script(HOOK.format(module=module) + PROGRAM)
    assert (program.wait(), program.out) == (-signal.SIGINT, "")
    assert program.err.splitlines()[-1] == "KeyboardInterrupt"
    assert "ignored" not in program.err


def test_a_program_whose_engine_is_being_made(mesh: Mesh) -> None:
    """It is made to its end, so that the App knows it and can close it."""
    program = mesh.script(HALF_MADE)
    assert (program.wait(), program.err) == (0, "")
    assert program.out == f'<App mesh "{mesh.name}": 0 nodes, 0 workers, 0 running, 0 queued>\n'


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
@pytest.mark.parametrize("module", ["datetime", "click", "dingo_zmq.cli.watch", "zmq"])
def test_a_command_that_is_importing(mesh: Mesh, tmp_path: Path, words: list[str], module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(module=module))
    command = mesh.run(*words, PYTHONPATH=str(tmp_path))
    assert (command.wait(), command.out, command.err) == (130, "", "")


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
@pytest.mark.parametrize(
    "module", ["dingo_zmq.interrupts", "dingo_zmq.app", "click", "zmq", "dingo_zmq.mesh.engine"]
)
def test_a_command_that_has_imported(mesh: Mesh, words: list[str], module: str) -> None:
    """From the first module of this package on; what comes after that is whatever the machine makes of it."""
    command = mesh.program(*words, PYTHONPROFILEIMPORTTIME="1")
    wait_until(lambda: any(line.endswith(f" {module}") for line in command.err.splitlines()), module)
    command.signal(signal.SIGINT)
    assert (command.wait(), command.out) == (130, "")
    assert "Traceback" not in command.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["call", "add", "2", "3"], "waiting: no node"),
        (["watch"], "still looking"),
        (["call", "steps_until", "/nowhere/at/all"], "not yet"),
        (["peers", "--wait", str(PATIENCE), "--log-level", "info"], "one: found"),
        (["watch", "--log-level", "info"], "one: found"),
    ],
    ids=["call waits", "watch looks", "call is told of progress", "peers looks", "watch follows"],
)
def test_a_command_that_waits(mesh: Mesh, words: list[str], text: str) -> None:
    if "found" in text or "not yet" in text:
        mesh.node("one")
    command = mesh.program(*words)
    command.line(text)
    command.signal(signal.SIGINT)
    assert (command.wait(), command.out) == (130, "")
    assert "Traceback" not in command.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["doze"], "cancelled while it ran (on one)"),
        (["steps_until", "/nowhere/at/all"], "it was asked to stop, and runs on"),
    ],
    ids=["a coroutine", "a thread that does not look"],
)
def test_the_running_task_of_a_call_is_cancelled(mesh: Mesh, words: list[str], said: str) -> None:
    mesh.node("one")
    command = mesh.program("call", *words)
    command.line("not yet" if "steps_until" in words else "running")
    command.signal(signal.SIGINT)
    assert (command.wait(), command.out) == (130, "")
    assert command.err.splitlines()[-1] == said


def test_a_command_that_is_told_to_ignore_it(mesh: Mesh) -> None:
    """As `nohup` and background jobs of scripts are."""
    program = mesh.script(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'dingo_zmq', 'call', 'add', '2', '3'])\n"
    )
    program.line("waiting: ")
    program.signal(signal.SIGINT)
    mesh.node("late")
    assert (program.wait(), program.out) == (0, "5\n")
