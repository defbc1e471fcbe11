"""``dingo-zmq keygen``."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dingo_zmq.mesh import keys
from tests.support import PATIENCE, Mesh


def test_it_goes_where_it_is_looked_for(mesh: Mesh) -> None:
    ran = mesh.invoke("keygen")
    path = keys.mesh_key_path()
    key = keys.load_key(path, "mesh")
    assert (ran.code, ran.err) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lines = ran.out.splitlines()
    assert lines[0] == f"mesh key {keys.key_id(key)} is in {path}; keep it secret"
    assert "ssh bench-2 'umask 077; mkdir -p .config/dingo-zmq'" in ran.out
    assert f"scp -p {path} bench-2:.config/dingo-zmq/mesh.key" in ran.out
    assert "by themselves" in lines[-1]
    assert key.secret.decode() not in ran.out
    assert keys.find_key() == key


def test_it_overwrites_nothing(mesh: Mesh) -> None:
    assert mesh.invoke("keygen").code == 0
    before = keys.mesh_key_path().read_bytes()
    again = mesh.invoke("keygen")
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith(f"error: {keys.mesh_key_path()} exists already")
    assert "\nhint: " in again.err
    assert keys.mesh_key_path().read_bytes() == before


def test_a_file_of_ones_own(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = mesh.invoke("keygen", "new/lab.key")
    path = tmp_path / "new" / "lab.key"
    assert ran.code == 0
    assert keys.load_key(path).kind == "mesh"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ran.out.splitlines()[-1].endswith(f"--key {path}")
    assert not keys.mesh_key_path().exists()


@pytest.mark.parametrize("name", ["file/x.key", "."])
def test_a_place_that_cannot_be(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    ran = mesh.invoke("keygen", name)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")


def test_a_node_says_which_key_it_has(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "lab.key"
    assert mesh.invoke("keygen", str(path)).code == 0
    key = keys.load_key(path)
    node = mesh.node("bench", "--key", str(path), "--bind", "127.0.0.1")
    told = f", mesh {mesh.name}, key {keys.key_id(key)}, this host only (--bind)"
    assert node.line("node ", "out").endswith(told)
    assert node.line("try: ", "out") == f"try: dingo-zmq call --key {path} add 2"
    assert "to let other machines in" not in node.out
    assert mesh.invoke("call", "add", "2", "3", "--key", str(path)).out == "5\n"
    assert mesh.app(key=str(path)).call("add", 2, 3).result(PATIENCE) == 5
    assert node.stop() == 0
