"""The fixture that the plug-in for pytest gives to users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dingo_zmq import App
from dingo_zmq.testing.plugin import LoopbackMesh

PATIENCE = 30.0

USERS = """
from dingo_zmq import App

app = App("local")

@app.task
def add(a: int, b: int) -> int:
    return a + b

def test_the_sum(dingo_mesh):
    dingo_mesh.serve(app, "bench")
    caller = dingo_mesh.app()
    assert caller.call("add", 2, 3).result(timeout=10) == 5
    assert [peer.name for peer in caller.peers()] == ["bench"]

def test_the_next_one_is_alone(dingo_mesh):
    assert dingo_mesh.app().peers() == []
"""


def test_apps_of_one_mesh_meet(dingo_mesh: LoopbackMesh) -> None:
    node = dingo_mesh.app()
    node.register("where", lambda: os.environ["DINGO_ZMQ_MESH"])
    node.serve(name="here")

    assert dingo_mesh.app().call("where").result(PATIENCE) == dingo_mesh.name


def test_any_app_can_be_served(dingo_mesh: LoopbackMesh) -> None:
    local = App("local")
    local.register("add", lambda a, b: a + b)
    dingo_mesh.serve(local, "one")

    assert dingo_mesh.app().options(node="one").call("add", 1, 2).result(PATIENCE) == 3


def test_a_user_has_it_without_doing_anything(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USERS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
