"""Key files, and who the gatekeeper lets in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from dingo_zmq.errors import ConfigError
from dingo_zmq.mesh.keys import (
    DOMAIN,
    Gatekeeper,
    Key,
    load_key,
    local_key,
    new_key,
    save_key,
    secure_client,
    secure_server,
)

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- files ---------------------------------------------------------------------------------------------------


def test_the_local_key_is_made_once(folder: Path) -> None:
    first = local_key(folder / "new")
    again = local_key(folder / "new")

    assert first == again
    assert (first.kind, first.path) == ("local", folder / "new" / "local.key")
    assert zmq.curve_public(first.secret) == first.public
    assert os.listdir(folder / "new") == ["local.key"]


@pytest.mark.parametrize("umask", [0o000, 0o277, 0o777])
def test_modes_do_not_depend_on_the_umask(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        key = local_key(folder / "new")
    finally:
        os.umask(before)

    assert mode(folder / "new") == 0o700
    assert key.path
    assert mode(key.path) == 0o600


def test_the_environment_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGO_ZMQ_CONFIG_DIR", str(folder))

    assert local_key().path == folder / "local.key"


def test_processes_that_make_the_key_at_once_end_with_one(folder: Path) -> None:
    code = "import sys; from dingo_zmq.mesh.keys import local_key; print(flush=True); sys.stdin.readline();"
    code += f"print(local_key({str(folder / 'new')!r}).public.decode())"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout
        child.stdout.readline()
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    keys = {child.communicate(timeout=PATIENCE)[0] for child in children}

    assert keys == {local_key(folder / "new").public.decode() + "\n"}
    assert os.listdir(folder / "new") == ["local.key"]


def test_a_saved_key_is_read_back_and_never_overwritten(folder: Path) -> None:
    key = save_key(folder / "mesh.key", new_key("mesh"))

    assert load_key(folder / "mesh.key") == load_key(str(folder / "mesh.key"), "mesh") == key
    with pytest.raises(ConfigError, match="exists already"):
        save_key(folder / "mesh.key", new_key("mesh"))
    assert load_key(folder / "mesh.key") == key
    assert os.listdir(folder) == ["mesh.key"]


def test_a_key_never_shows_its_secret() -> None:
    key = new_key("mesh")

    assert key.secret.decode() not in repr(key) + str(key)
    assert key.public.decode() in repr(key)


def test_a_missing_file_names_the_command_that_makes_it(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"my key does not exist.*dingo-zmq keygen '.*my key'"):
        load_key(folder / "my key")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_any_bit_for_others_is_refused(folder: Path, bits: int) -> None:
    path = folder / "mesh.key"
    save_key(path, new_key("mesh"))
    path.chmod(bits)

    with pytest.raises(ConfigError, match=rf"mode {bits:04o}.*chmod 600 {path}"):
        load_key(path)


def test_a_link_is_refused(folder: Path) -> None:
    save_key(folder / "mesh.key", new_key("mesh"))
    (folder / "link.key").symlink_to(folder / "mesh.key")

    with pytest.raises(ConfigError, match=r"link\.key is a symbolic link"):
        load_key(folder / "link.key")


def test_a_dangling_link_does_not_become_the_local_key(folder: Path) -> None:
    (folder / "local.key").symlink_to(folder / "elsewhere")

    with pytest.raises(ConfigError, match="symbolic link"):
        local_key(folder)
    assert not (folder / "elsewhere").exists()


def test_a_pipe_is_refused_without_waiting_for_a_writer(folder: Path) -> None:
    os.mkfifo(folder / "mesh.key", 0o600)

    with pytest.raises(ConfigError, match="not a plain file"):
        load_key(folder / "mesh.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_refused(folder: Path) -> None:
    save_key(folder / "mesh.key", new_key("mesh"))
    os.chown(folder / "mesh.key", 12345, -1)

    with pytest.raises(ConfigError, match=r"belongs to user 12345, not to 0.*chown"):
        load_key(folder / "mesh.key")
    (folder / "foreign").mkdir(mode=0o700)
    os.chown(folder / "foreign", 12345, -1)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        local_key(folder / "foreign")
    with pytest.raises(ConfigError, match="who could replace it"):
        local_key(folder / "foreign" / "below")


def test_a_folder_that_others_can_write_is_refused(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)

    with pytest.raises(ConfigError, match=r"mode 0777.*chmod 700"):
        local_key(folder / "open")
    with pytest.raises(ConfigError, match="anybody may write in its parent"):
        local_key(folder / "open" / "below")


def test_a_folder_that_is_none_is_refused(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "link").symlink_to(folder)

    with pytest.raises(ConfigError, match="not a folder"):
        local_key(folder / "file")
    with pytest.raises(ConfigError, match="symbolic link"):
        local_key(folder / "link")
    with pytest.raises(ConfigError, match="cannot use the folder"):
        local_key(folder / "file" / "below")


def test_no_part_of_a_key_file_passes_for_a_key(folder: Path) -> None:
    path = folder / "mesh.key"
    save_key(path, new_key("mesh"))
    whole = path.read_bytes()
    for length in range(len(whole) - 2):  # without the last quote it is not TOML; the newline may be missing
        path.write_bytes(whole[:length])

        with pytest.raises(ConfigError, match=r"mesh\.key.*dingo-zmq keygen"):
            load_key(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"kind = 5\npublic = 6\nsecret = 7\n",
        b'kind = "mesh"\npublic = "a"\nsecret = "b"\n',
        b'kind = "mesh"\npublic = "' + b" " * 40 + b'"\nsecret = "' + b" " * 40 + b'"\n',
        b'kind = "mesh"\npublic = "' + b"~" * 40 + b'"\nsecret = "' + b"~" * 40 + b'"\n',
        b"# " + b"x" * 5000,
        b"kind = " + b"[" * 2000,
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
    ],
)
def test_rubbish_is_no_key_file(folder: Path, content: bytes) -> None:
    path = folder / "mesh.key"
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"mesh\.key is"):
        load_key(path)


def test_a_key_of_the_wrong_kind_is_refused(folder: Path) -> None:
    save_key(folder / "mesh.key", new_key("mesh"))
    text = (folder / "mesh.key").read_text()

    with pytest.raises(ConfigError, match="of kind 'mesh', not a local key"):
        load_key(folder / "mesh.key", "local")
    (folder / "mesh.key").write_text(text.replace('"mesh"', '"robot"'))
    with pytest.raises(ConfigError, match="of kind 'robot', not a local, mesh or guest key"):
        load_key(folder / "mesh.key")


def test_halves_that_do_not_belong_together_are_refused_without_showing_them(folder: Path) -> None:
    mine, other = new_key("mesh"), new_key("mesh")
    path = folder / "mesh.key"
    save_key(path, mine)
    path.write_text(path.read_text().replace(mine.public.decode(), other.public.decode()))

    with pytest.raises(ConfigError, match="does not belong to its secret") as caught:
        load_key(path)
    assert mine.secret.decode() not in str(caught.value)


# -- the gatekeeper, asked directly --------------------------------------------------------------------------


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def ask(context: zmq.Context[zmq.Socket[bytes]], keeper: Gatekeeper, *frames: bytes) -> list[bytes]:
    with context.socket(zmq.REQ) as asking:
        asking.linger = 0
        asking.connect("inproc://zeromq.zap.01")
        asking.send_multipart(frames)
        assert keeper.socket.poll(int(PATIENCE * 1000))
        assert keeper.answer() == 1
        assert asking.poll(int(PATIENCE * 1000))
        return asking.recv_multipart()


def test_a_listed_key_is_admitted_under_its_text(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    key = new_key("mesh")
    keeper = Gatekeeper(context, [key.public])

    answer = ask(context, keeper, b"1.0", b"7", DOMAIN, b"127.0.0.1", b"", b"CURVE", z85.decode(key.public))

    assert answer == [b"1.0", b"7", b"200", b"OK", key.public, b""]
    keeper.admit([])
    answer = ask(context, keeper, b"1.0", b"8", DOMAIN, b"127.0.0.1", b"", b"CURVE", z85.decode(key.public))
    assert answer[1:3] == [b"8", b"400"]
    keeper.close()


KEY = new_key("mesh")
RAW = bytes(z85.decode(KEY.public))


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ([b"1.0", b"7", b"other", b"", b"", b"CURVE", RAW], b"400"),
        ([b"1.0", b"7", b"", b"", b"", b"CURVE", RAW], b"400"),
        ([b"1.0", b"7", b"*", b"", b"", b"CURVE", RAW], b"400"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"NULL"], b"400"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"PLAIN", b"user", b"word"], b"400"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"CURVE", RAW[::-1]], b"400"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"CURVE"], b"500"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"CURVE", RAW, RAW], b"500"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"CURVE", RAW[:31]], b"500"),
        ([b"1.0", b"7", DOMAIN, b"", b"", b"CURVE", KEY.public], b"500"),
        ([b"2.0", b"7", DOMAIN, b"", b"", b"CURVE", RAW], b"500"),
        ([b"1.0", b"7", DOMAIN], b"500"),
        ([b"1.0", b"7"], b"500"),
        ([b""], b"500"),
        ([b"\xff" * 1000], b"500"),
    ],
)
def test_everything_else_is_refused(
    context: zmq.Context[zmq.Socket[bytes]], frames: list[bytes], status: bytes
) -> None:
    keeper = Gatekeeper(context, [KEY.public])

    answer = ask(context, keeper, *frames)

    assert answer[0] == b"1.0"
    assert answer[1:3] == [frames[1] if len(frames) > 1 else b"", status]
    assert answer[4:] == [b"", b""]
    keeper.close()


def test_answering_never_waits_and_survives_the_end(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    keeper = Gatekeeper(context, [])

    assert keeper.answer() == 0
    keeper.close()
    assert keeper.answer() == 0


def test_one_context_has_one_gatekeeper(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    keeper = Gatekeeper(context, [])

    with pytest.raises(ConfigError, match="ZAP handler already"):
        Gatekeeper(context, [])
    keeper.close()


# -- the gatekeeper, with real clients -----------------------------------------------------------------------


class Door:
    """A guarded PULL socket on loopback, and the clients that try it."""

    def __init__(self, server: zmq.Context[zmq.Socket[bytes]], key: Key) -> None:
        self.keeper = Gatekeeper(server, [key.public])
        self.pull = server.socket(zmq.PULL)
        secure_server(self.pull, key)
        self.pull.handshake_ivl = 300  # milliseconds
        self.port = self.pull.bind_to_random_port("tcp://127.0.0.1")
        self.clients = zmq.Context[zmq.Socket[bytes]]()
        self.pushes: list[zmq.Socket[bytes]] = []
        self.monitors: list[zmq.Socket[bytes]] = []

    def knock(self, key: Key | None, server: bytes | None = None) -> zmq.Socket[bytes]:
        """Send the client's public key, and return a socket that tells of its handshake."""
        push = self.clients.socket(zmq.PUSH)
        self.pushes.append(push)
        if key:
            secure_client(push, key, server)
        monitor = push.get_monitor_socket()
        self.monitors.append(monitor)
        push.connect(f"tcp://127.0.0.1:{self.port}")
        push.send(key.public if key else b"let me in")
        return monitor

    def wait_for(self, socket: zmq.Socket[bytes]) -> bool:
        """Run the gatekeeper until the socket is readable."""
        deadline = time.monotonic() + PATIENCE
        poller = zmq.Poller()
        if not self.keeper.socket.closed:
            poller.register(self.keeper.socket, zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(left * 1000) + 1))
            self.keeper.answer()
            if socket in ready:
                return True
        return False

    def outcome(self, monitor: zmq.Socket[bytes]) -> int:
        """Return the event that ended the client's handshake."""
        ends = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
        ends |= zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.DISCONNECTED
        while self.wait_for(monitor):
            event = int(recv_monitor_message(monitor)["event"])
            if event & ends:
                return event
        raise AssertionError("the handshake did not end")

    def close(self) -> None:
        for push in self.pushes:
            push.disable_monitor()
        for socket in self.pushes + self.monitors:
            socket.close(0)
        self.clients.term()
        self.pull.close(0)
        self.keeper.close()


@pytest.fixture
def door(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Door]:
    door = Door(context, KEY)
    yield door
    door.close()


def test_the_right_key_gets_through_and_is_known_by_it(door: Door) -> None:
    door.knock(KEY)

    assert door.wait_for(door.pull)
    frame = door.pull.recv(copy=False)
    assert frame.bytes == KEY.public
    assert frame.get("User-Id") == KEY.public.decode()


@pytest.mark.parametrize("who", ["random key", "no key", "wrong server key", "right key, wrong server"])
def test_nobody_else_gets_anything_through(door: Door, who: str) -> None:
    stranger = new_key("mesh")
    clients: dict[str, tuple[Key | None, bytes | None]] = {
        "random key": (stranger, KEY.public),
        "no key": (None, None),
        "wrong server key": (stranger, None),
        "right key, wrong server": (KEY, stranger.public),
    }
    monitor = door.knock(*clients[who])

    assert door.outcome(monitor) != zmq.Event.HANDSHAKE_SUCCEEDED
    door.knock(KEY)
    assert door.wait_for(door.pull)
    assert door.pull.recv() == KEY.public
    assert door.pull.poll(0) == 0


def test_without_a_gatekeeper_nobody_gets_in(door: Door) -> None:
    door.keeper.close()

    assert door.outcome(door.knock(KEY)) != zmq.Event.HANDSHAKE_SUCCEEDED
    assert door.pull.poll(0) == 0


def test_after_the_end_of_the_gatekeeper_nobody_else_gets_in(door: Door) -> None:
    first = door.knock(KEY)
    assert door.wait_for(door.pull)
    assert door.pull.recv() == KEY.public
    assert door.outcome(first) == zmq.Event.HANDSHAKE_SUCCEEDED
    door.keeper.close()

    assert door.outcome(door.knock(KEY)) != zmq.Event.HANDSHAKE_SUCCEEDED
    assert door.pull.poll(0) == 0
