"""``dingo-zmq config``, and settings in files as commands read them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dingo_zmq import config
from dingo_zmq.mesh import keys
from tests.support import SERVED, Mesh


def rows(text: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for line in text.splitlines() if len(words := line.split()) >= 3}


def test_each_setting_with_its_source(mesh: Mesh) -> None:
    file = Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "config.toml"
    assert mesh.invoke("config").out.startswith(f"file: {file} (not there)\n\n")
    file.write_text('name = "bench-3"\ntags = ["psu", "dmm"]\n')
    ran = mesh.invoke("config", "--grace", "5", "--insecure-lan")
    assert (ran.code, ran.err) == (0, "")
    head, *lines = ran.out.splitlines()
    assert head == f"file: {file}"
    found = rows("\n".join(lines))
    assert set(found) == set(config.SETTINGS)
    assert found["mesh"] == [mesh.name, "DINGO_ZMQ_MESH"]
    assert found["name"] == ["bench-3", str(file)]
    assert found["tags"] == ["psu,", "dmm", str(file)]
    assert found["grace"] == ["5", "--grace"]
    assert found["insecure_lan"] == ["true", "--insecure-lan"]
    assert found["port"] == ["-", "default"]
    columns = {line.index(found[line.split()[0]][-1]) for line in lines if line and "DINGO" in line}
    assert len(columns) == 1


def test_json(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("threads = 3\n")
    told = json.loads(mesh.invoke("config", "--json", "--config", str(file), "--tag", "a", "--tag", "b").out)
    assert told["file"] == {"path": str(file), "found": True}
    assert told["settings"]["threads"] == {"value": 3, "source": str(file)}
    assert told["settings"]["tags"] == {"value": ["a", "b"], "source": "--tag"}
    assert told["unknown"] == {}


def key_told(mesh: Mesh, *words: str) -> tuple[str, str | None, str]:
    """Return what is shown of the key, and the same as JSON."""
    (line,) = [line for line in mesh.invoke("config", *words).out.splitlines() if line.startswith("key ")]
    told = json.loads(mesh.invoke("config", "--json", *words).out)["settings"]["key"]
    assert line.endswith(f"  {told['source']}")
    return line.removeprefix("key").removesuffix(told["source"]).strip(), told["value"], told["source"]


def test_the_key_in_use(mesh: Mesh, tmp_path: Path) -> None:
    """That of the usual place too, which nobody has named."""
    usual, named = Path(os.environ["DINGO_ZMQ_CONFIG_DIR"]) / "mesh.key", str(tmp_path / "lab.key")
    assert key_told(mesh) == ("none: this host only", None, "default")
    assert not usual.parent.joinpath("local.key").exists()
    assert mesh.invoke("keygen").code == 0
    assert key_told(mesh) == (str(usual), str(usual), "usual place")
    assert key_told(mesh, "--insecure-lan") == ("none: anybody on the network", None, "--insecure-lan")
    assert key_told(mesh, "--key", named) == (named, named, "--key")


@pytest.mark.parametrize(
    ("harm", "said", "hint"),
    [
        (lambda key: key.chmod(0o644), "can be read or changed by others (mode 0644)", "chmod 600 {key}"),
        (lambda key: key.write_text("kind = "), "is not a key file, or only a part of one", "copy it again from"),
        (lambda key: key.parent.chmod(0o777), "others may use it (mode 0777)", "chmod 700 {folder}"),
        (lambda key: key.rename(f"{key}.x") and key.symlink_to(f"{key}.x"), "is a symbolic link", "cp -p --rem"),
    ],
    ids=["mode", "content", "folder", "link"],
)
def test_a_key_that_will_not_do_is_an_error_and_a_hint(
    mesh: Mesh, harm: Callable[[Path], object], said: str, hint: str
) -> None:
    assert mesh.invoke("keygen").code == 0
    key = keys.mesh_key_path()
    harm(key)
    ran = mesh.invoke("peers", "--wait", "0")
    error, told = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert error.startswith("error: ")
    assert error.endswith(said)
    assert told.startswith(f"hint: {hint.format(key=key, folder=key.parent)}")


def test_never_a_secret(mesh: Mesh) -> None:
    mesh.invoke("keygen")
    secret = keys.find_key().secret.decode()
    for words in (["config"], ["config", "--json"], ["config", "--key", str(keys.mesh_key_path())]):
        assert secret not in mesh.invoke(*words).out


def test_a_variable_that_means_nothing(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGO_ZMQ_THREDS", "3")
    ran = mesh.invoke("config")
    assert ran.code == 0
    assert ran.err == "warning: DINGO_ZMQ_THREDS means nothing; did you mean DINGO_ZMQ_THREADS?\n"


@pytest.mark.parametrize("command", [["config"], ["peers"], ["call", "add"], ["watch"], ["node", str(SERVED)]])
def test_a_file_that_cannot_be(mesh: Mesh, tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("threads = 'x'\n")
    ran = mesh.invoke(*command, "--config", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        f"error: {file}: threads must be a whole number of at least 1, not 'x'",
        "hint: threads = 8",
    ]
    missing = mesh.invoke(*command, "--config", str(tmp_path / "missing.toml"))
    assert (missing.code, missing.out) == (2, "")
    assert missing.err.startswith("error: there is no file ")
    assert mesh.invoke("config").code == 0  # it was for that command alone


def test_node_and_caller_take_theirs_from_a_file(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(f'mesh = "{mesh.name}-lab"\nname = "bench-3"\nprocesses = 2\n')
    node = mesh.program("node", str(SERVED), "--config", str(file), DINGO_ZMQ_MESH="", DINGO_ZMQ_THREADS="1")
    assert node.line("node ", "out").startswith("node bench-3/1, bench-3/2: add, ")
    assert f"mesh {mesh.name}-lab, " in node.out
    call = mesh.run("call", "add", "2", "3", DINGO_ZMQ_CONFIG=str(file), DINGO_ZMQ_MESH="")
    assert call.out == "5\n"
    assert node.stop() == 0
