"""``dingo-zmq keys``: what it writes, and what it says where that cannot be."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh import guests, keys
from dingo_zmq.protocol.guests import guest_name
from tests.support import Mesh


@pytest.fixture
def lab(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """A mesh with a mesh key, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    assert mesh.invoke("keygen").code == 0
    return mesh


def entry(name: str = "ann") -> Path:
    return keys.mesh_key_path().parent / "guests" / f"{name}.toml"


def problem(lab: Mesh, *words: str) -> str:
    """Return the error of a command that cannot be, which says what to do about it."""
    ran = lab.invoke("keys", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert "\nhint: " in ran.err
    return ran.err


def test_a_guest_is_added_listed_and_revoked(lab: Mesh, tmp_path: Path) -> None:
    ran = lab.invoke("keys", "add", "ann", "--functions", "add, echo", "--max-open", "7", "--rate", "2.5")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"guest ann may run add, echo; its key is in {tmp_path / 'ann.key'}\n")
    mesh, guest = keys.find_key(), keys.load_key("ann.key", "guest")
    assert (guest.server, guest.is_guest) == (mesh.public, True)
    assert keys.key_id(guest) == keys.key_id(mesh)
    assert mesh.secret not in Path("ann.key").read_bytes()
    assert guest.secret not in entry().read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (Path("ann.key"), entry())] == [0o600] * 2
    assert stat.S_IMODE(entry().parent.stat().st_mode) == 0o700

    assert lab.invoke("keys", "list").out.splitlines()[0] == "ann: add, echo (7 open, 2.5 tasks/s)"
    (told,) = json.loads(lab.invoke("keys", "list", "--json").out)
    assert told == {
        "name": "ann",
        "functions": ["add", "echo"],
        "max_open": 7,
        "rate": 2.5,
        "public": guest.public.decode(),
        "caller": guest_name(guest.public),
    }

    assert lab.invoke("keys", "revoke", "ann").code == 0
    assert not entry().exists()
    assert lab.invoke("keys", "list").out.startswith("0 guests in ")


def test_what_is_not_said_has_a_default(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add", "--out", "sub.key").code == 0
    assert keys.load_key("sub.key").is_guest
    assert lab.invoke("keys", "list").out.startswith("ann: add (1,000 open)\n")


def test_a_key_of_ones_own(lab: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    own = str(folder / "lab.key")
    assert lab.invoke("keygen", own).code == 0
    assert lab.invoke("keys", "add", "ann", "--functions", "add", "--key", own).code == 0
    assert (folder / "guests" / "ann.toml").exists()
    assert not entry().exists()
    assert keys.load_key("ann.key").server == keys.load_key(own).public
    assert lab.invoke("keys", "revoke", "ann", "--key", own).code == 0


def test_a_guest_named_twice(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    before = entry().read_bytes(), Path("ann.key").read_bytes()
    assert "there is a guest 'ann' already" in problem(lab, "add", "ann", "--functions", "echo", "--out", "b.key")
    assert not Path("b.key").exists()
    entry().unlink()
    assert "ann.key exists already" in problem(lab, "add", "ann", "--functions", "echo")
    assert not entry().exists()
    assert before[1] == Path("ann.key").read_bytes()


@pytest.mark.parametrize("name", ["", "-x", ".x", "a/b", "..", "a b", "é", "x" * 65, "a\n"])
def test_a_name_that_cannot_be_one(lab: Mesh, name: str) -> None:
    assert "cannot be the name of a guest" in problem(lab, "add", "--functions", "add", "--", name)
    assert "cannot be the name of a guest" in problem(lab, "revoke", "--", name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--functions", "a/b"], "the name of a function"),
        (["--functions", ","], "some function"),
        (["--functions", "add", "--max-open", "0"], "max_open"),
        (["--functions", "add", "--rate", "0"], "rate"),
        (["--functions", "add", "--rate", "nan"], "rate"),
    ],
)
def test_what_a_guest_cannot_be_allowed(lab: Mesh, words: list[str], said: str) -> None:
    ran = lab.invoke("keys", "add", "ann", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert not entry().exists()
    assert not Path("ann.key").exists()


def test_nobody_to_revoke(lab: Mesh) -> None:
    assert "there is no guest 'ann'" in problem(lab, "revoke", "ann")


def test_no_mesh_key(mesh: Mesh) -> None:
    for words in (["add", "ann", "--functions", "add"], ["list"], ["revoke", "ann"]):
        assert "there is no mesh key here" in problem(mesh, *words)


def test_a_guest_key_where_the_mesh_key_should_be(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    assert "is the key of a guest itself" in problem(lab, "list", "--key", "ann.key")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b'public = "',
        b'public = "x"\nfunctions = ["a"]\n',
        b"functions = []\n",
        b"functions = " + b"[" * 2000,
    ],
)
def test_a_broken_entry(lab: Mesh, content: bytes) -> None:
    assert lab.invoke("keys", "add", "bob", "--functions", "add").code == 0
    entry().write_bytes(content)
    entry().chmod(0o600)
    ran = lab.invoke("keys", "list")
    assert (ran.code, ran.out.splitlines()[0]) == (2, "bob: add (1,000 open)")
    assert str(entry()) in ran.err
    assert "hint: copy it again" in ran.err
    assert lab.invoke("keys", "revoke", "ann").code == 0
    assert lab.invoke("keys", "list").code == 0


@pytest.mark.parametrize("more", ["max_open = 0", "max_open = true", "rate = -1", 'rate = "x"', "colour = 1"])
def test_an_entry_with_a_line_that_cannot_be(lab: Mesh, more: str) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    lines = [line for line in entry().read_text().splitlines() if not line.startswith("max_open")]
    entry().write_text("\n".join([*lines, more]))
    ran = lab.invoke("keys", "list")
    assert (ran.code, ran.out.splitlines()[0][:8]) == (2, "0 guests")
    assert more.partition(" ")[0] in ran.err


def test_an_entry_that_others_could_have_written(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    entry().chmod(0o660)
    assert "chmod 600" in lab.invoke("keys", "list").err
    entry().chmod(0o600)
    entry().parent.chmod(0o777)
    assert "chmod 700" in lab.invoke("keys", "list").err


def test_two_entries_with_one_key(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    entry("bob").write_bytes(entry().read_bytes())
    entry("bob").chmod(0o600)
    ran = lab.invoke("keys", "list")
    assert ran.out.startswith("ann: add")
    assert "the same key as guest 'ann'" in ran.err


@pytest.mark.parametrize("name", ["größe", "\N{SNAKE}", 'a"b\\c'])
def test_any_name_of_a_function_can_be_in_an_entry(lab: Mesh, name: str) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", name).code == 0
    ran = lab.invoke("keys", "list")
    assert (ran.code, ran.out.splitlines()[0]) == (0, f"ann: {name} (1,000 open)")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
def test_a_truncated_guest_key(lab: Mesh, share: float) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    path = Path("ann.key")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    ran = lab.invoke("call", "add", "1", "2", "--key", "ann.key")
    assert ran.code == 2
    assert "is not a key file, or only a part of one" in ran.err or "is damaged" in ran.err
    assert "hint: copy it again" in ran.err


def test_a_guest_key_of_the_wrong_kind(lab: Mesh) -> None:
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    with pytest.raises(ConfigError, match="is of kind 'guest', not a mesh key"):
        keys.load_key("ann.key", "mesh")
    with pytest.raises(ConfigError, match="is of kind 'mesh', not a guest key"):
        keys.load_key(keys.mesh_key_path(), "guest")
    text = Path("ann.key").read_text()
    Path("ann.key").write_text(text.replace('server = "', 'server = "x'))
    with pytest.raises(ConfigError, match="its server is no public key"):
        keys.load_key("ann.key")
    lines = [line for line in text.splitlines() if not line.startswith(("kind", "server"))]
    Path("ann.key").write_text("\n".join([*lines, "kind = 'guest'"]))
    with pytest.raises(ConfigError, match="server is missing; hint: copy it again"):
        keys.load_key("ann.key")


# ---------------------------------------------------------------------- what a node makes of the folder


def test_what_was_good_stays_while_a_file_is_broken(lab: Mesh) -> None:
    key = guests.mesh_key()
    listing = guests.entries(key)
    assert (listing.guests, listing.problems) == ({}, {})
    assert not listing.read()
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    assert listing.read()
    good, whole = listing.guests["ann"], entry().read_bytes()
    assert not listing.read()
    entry().write_bytes(whole[:80])
    assert not listing.read()
    assert listing.guests == {"ann": good}
    assert "ann" in listing.problems
    entry().write_bytes(whole.replace(b"1000", b"5"))
    assert listing.read()
    assert (listing.guests["ann"].max_open, listing.problems) == (5, {})
    entry().parent.chmod(0o777)
    assert not listing.read()
    assert (list(listing.guests), list(listing.problems)) == (["ann"], [""])
    entry().parent.chmod(0o700)
    entry().unlink()
    assert listing.read()
    assert (listing.guests, listing.problems) == ({}, {})


def test_a_forwarder_with_a_guest_key(lab: Mesh) -> None:
    """Between loopback and a node named beyond it."""
    assert lab.invoke("keys", "add", "ann", "--functions", "add").code == 0
    words = ["forward", "--left", "127.0.0.1", "--right", "tcp://192.0.2.1:47100", "--right-key", "ann.key"]
    ran = lab.run(*words)
    assert ran.process.returncode == 2
    assert "a guest cannot forward, only call\nhint: --right-key with the mesh key itself" in ran.err
