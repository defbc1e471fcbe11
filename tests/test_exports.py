"""What a user of the package sees, and what the package loads for it."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import dingo_zmq

NAMES = {"App", "Code", "Failure", "Options", "Report", "Result", "Retries", "Status", "current_task", "errors"}
NAMES |= {"Event", "EventCode", "EventStream", "IDMaker", "Level", "Origin", "SequenceIDs", "UUIDs"}

LOCAL = """
import sys
from dingo_zmq import App

app = App("local")

@app.task
def add(a: int, b: int) -> int:
    return a + b

with app:
    print(add.call(2, 3).result(timeout=5))
print(sorted({"click", "rich", "zeroconf", "zmq"} & set(sys.modules)))
"""


MESH = """
import sys
from dingo_zmq import App

App("local")
print(sorted({"zmq", "dingo_zmq.mesh.engine"} & set(sys.modules)))
App("mesh")
print(sorted({"zmq", "dingo_zmq.mesh.engine"} & set(sys.modules)))
"""


def test_all_names_are_there_and_sorted() -> None:
    assert set(dingo_zmq.__all__) >= NAMES
    assert list(dingo_zmq.__all__) == sorted(dingo_zmq.__all__)
    assert [name for name in dingo_zmq.__all__ if not hasattr(dingo_zmq, name)] == []


def test_all_is_what_the_package_exports() -> None:
    # Submodules become attributes as soon as somebody imports them; `errors` alone is meant to be one.
    exported = {
        name
        for name, value in vars(dingo_zmq).items()
        if not name.startswith("_") and (name == "errors" or not isinstance(value, ModuleType))
    }
    assert exported == set(dingo_zmq.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_exported_is_documented(name: str) -> None:
    assert getattr(dingo_zmq, name).__doc__


def run(text: str) -> tuple[str, str, int]:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout, done.stderr, done.returncode


def test_local_use_loads_no_network() -> None:
    assert run(LOCAL) == ("5\n[]\n", "", 0)


def test_an_app_for_the_mesh_loads_it_at_once() -> None:
    """Not in the middle of its first call."""
    assert run(MESH) == ("[]\n['dingo_zmq.mesh.engine', 'zmq']\n", "", 0)
