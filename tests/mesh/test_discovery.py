"""Finding nodes by multicast, by files, by a list, and by all of them together."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import queue
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingo_zmq.errors import ConfigError, PeerError, UsageError
from dingo_zmq.mesh.discovery import (
    Announcement,
    Changed,
    DirectoryAnnouncer,
    DirectorySource,
    Emit,
    Event,
    Finder,
    Found,
    Gone,
    Source,
    StaticSource,
    ZeroconfAnnouncer,
    ZeroconfSource,
    board,
    zeroconf_announcer,
    zeroconf_source,
)
from dingo_zmq.mesh.discovery.multicast import SERVICE_TYPE
from dingo_zmq.mesh.discovery.port import from_fields, split_tcp, to_fields
from dingo_zmq.mesh.discovery.txt import decode_txt, encode_txt

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0


def announcement(node: str = "n1", mesh: str = "m", incarnation: str = "aa", port: int = 47100) -> Announcement:
    tasks, reports = (f"tcp://127.0.0.1:{port}",), (f"tcp://127.0.0.1:{port + 1}",)
    return Announcement(node, "bench/1", mesh, incarnation, 1, tasks, reports, "d1")


class Heard:
    """A listener that keeps the events about some nodes (all, unless told) for whoever waits for them."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes
        self.events: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        node = event.node if isinstance(event, Gone) else event.announcement.node
        if not self.nodes or node in self.nodes:
            self.events.put(event)

    def next(self, timeout: float = PATIENCE) -> Event:
        return self.events.get(timeout=timeout)

    def all(self) -> list[Event]:
        return [self.events.get_nowait() for _ in range(self.events.qsize())]


@contextlib.contextmanager
def listening(source: Source, *nodes: str) -> Iterator[Heard]:
    heard = Heard(*nodes)
    source.start(heard)
    try:
        yield heard
    finally:
        source.stop()


@contextlib.contextmanager
def child(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says a line when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline()
        yield process
        process.kill()


# -- announcements -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"node": ""},
        {"node": "x" * 201},
        {"name": "a\nb"},
        {"mesh": 5},
        {"incarnation": "XY"},
        {"incarnation": "a" * 33},
        {"version": -1},
        {"version": True},
        {"version": "1"},
        {"tasks": ()},
        {"tasks": (), "reports": ()},
        {"tasks": ["tcp://127.0.0.1:1"]},
        {"tasks": ("tcp://127.0.0.1:0",)},
        {"tasks": ("tcp://127.0.0.1:047100",)},
        {"tasks": ("tcp://127.0.0.1:70000",)},
        {"tasks": ("tcp://0.0.0.0:5",)},
        {"tasks": ("tcp://*:5",)},
        {"tasks": ("tcp://a;tcp://b:5",)},
        {"tasks": ("inproc://x",)},
        {"tasks": (5,)},
        {"tasks": ("tcp://a:1",) * 17, "reports": ("tcp://a:2",) * 17},
    ],
)
def test_what_cannot_be_an_announcement_is_refused(change: dict[str, Any]) -> None:
    fields = to_fields(announcement()) | change

    with pytest.raises(UsageError):
        Announcement(**fields)
    with pytest.raises(PeerError):
        from_fields(fields | ({"tasks": fields["reports"] * 2} if isinstance(fields["tasks"], list) else {}))


def test_fields_survive_json() -> None:
    told = announcement()

    assert from_fields(json.loads(json.dumps(to_fields(told) | {"of a later version": 1}))) == told


@pytest.mark.parametrize("text", ["tcp://bench-3.local:1", "tcp://[fe80::1%eth0]:47100", "tcp://10.0.0.1:65535"])
def test_an_address_is_split_into_host_and_port(text: str) -> None:
    host, port = split_tcp(text)

    assert f"tcp://{host}:{port}" == text


# -- TXT records ---------------------------------------------------------------------------------------------


def test_a_record_survives_the_way() -> None:
    told = replace(
        announcement(),
        tasks=("tcp://10.0.0.7:47100", "tcp://[fd00::7]:47100", "tcp://gate.lan:9000", "tcp://1.2.3.4:5"),
        reports=("tcp://10.0.0.7:47101", "tcp://[fd00::7]:47101", "tcp://gate.lan:80", "tcp://1.2.3.5:5"),
    )

    assert decode_txt("n1", encode_txt(told)) == told
    assert encode_txt(told, turn=1) != encode_txt(told, turn=2)


def test_only_what_means_something_elsewhere_is_in_a_record() -> None:
    tasks = ("ipc:///run/dingo/t", "tcp://10.0.0.7:1", "tcp://[fe80::1%eth0]:1")
    reports = ("ipc:///run/dingo/r", "tcp://10.0.0.7:2", "tcp://[fe80::1%eth0]:2")
    told = replace(announcement(), tasks=tasks, reports=reports)

    assert decode_txt("n1", encode_txt(told)).candidates == (("tcp://10.0.0.7:1", "tcp://10.0.0.7:2"),)
    with pytest.raises(ConfigError, match="no TCP address"):
        encode_txt(replace(told, tasks=tasks[:1], reports=reports[:1]))


def test_what_is_too_long_for_a_record_is_refused() -> None:
    with pytest.raises(ConfigError, match="too long"):
        encode_txt(replace(announcement(), name="\N{SNOWMAN}" * 100))
    many = tuple(f"tcp://{'x' * 60}:{port}" for port in range(1, 17))
    with pytest.raises(ConfigError, match="too long together"):
        encode_txt(replace(announcement(), tasks=many, reports=many))


@given(st.binary(max_size=300) | st.lists(st.binary(max_size=40)).map(lambda pairs: pack(*pairs)))
def test_rubbish_in_a_record_is_the_mistake_of_a_peer(record: bytes) -> None:
    with contextlib.suppress(PeerError):
        decode_txt("n1", record)


def pack(*pairs: bytes) -> bytes:
    return b"".join(bytes([len(pair)]) + pair for pair in pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        (b"v=1", b"m=m"),
        (b"v=1", b"e0=h:1,2"),
        (b"v=one", b"m=m", b"e0=h:1,2"),
        ("v=\N{SUPERSCRIPT TWO}".encode(), b"m=m", b"e0=h:1,2"),
        (b"v=1", b"m=m", b"e0=h:1"),
        (b"v=1", b"m=m", b"e0=h:1,"),
        (b"v=1", b"m=m", b"e0=h:1,99999"),
        (b"v=1", b"m=m", b"e0=*:1,2"),
        (b"v=1", b"m=\x00", b"e0=h:1,2"),
        (b"v=1", b"m=\xff", b"e0=h:1,2"),
        (b"v=1", b"m=m", b"i=zz", b"e0=h:1,2"),
        (b"v=1", b"m=m", b"e0=h:1,2", b"x" * 255, b"x" * 255, b"x" * 255, b"x" * 255),
    ],
)
def test_a_record_that_says_too_little_or_too_much_is_refused(pairs: tuple[bytes, ...]) -> None:
    with pytest.raises(PeerError):
        decode_txt("n1", pack(*pairs))


# -- zeroconf ------------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> str:
    return f"n{secrets.token_hex(6)}"


@contextlib.contextmanager
def announcing(period: float = 30.0) -> Iterator[ZeroconfAnnouncer]:
    announcer = ZeroconfAnnouncer(period=period)
    try:
        yield announcer
    finally:
        announcer.close()


def test_importing_discovery_does_not_import_zeroconf() -> None:
    code = "import sys, dingo_zmq.mesh.discovery; print('zeroconf' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "False\n"


def test_a_node_is_found_changed_and_gone(node: str) -> None:
    first = announcement(node)
    second = replace(first, incarnation="bb")
    with listening(ZeroconfSource(), node) as heard, announcing() as announcer:
        announcer.announce(first)
        assert heard.next() == Found(first, "zeroconf")
        announcer.announce(first)  # nothing new
        announcer.announce(second)
        assert heard.next() == Changed(second, "zeroconf")
        announcer.withdraw(node)
        announcer.withdraw(node)
        announcer.withdraw("unknown")
        assert heard.next() == Gone(node, "zeroconf")


def test_a_node_that_was_there_before_the_caller_is_found(node: str) -> None:
    with announcing() as announcer:
        announcer.announce(announcement(node))
        announcer.wait_open()
        with listening(ZeroconfSource(), node) as heard:
            assert heard.next() == Found(announcement(node), "zeroconf")


def test_a_node_that_comes_back_at_once_is_found_again(node: str) -> None:
    with listening(ZeroconfSource(), node) as heard, announcing() as announcer:
        for _ in range(3):
            announcer.announce(announcement(node))
            assert heard.next() == Found(announcement(node), "zeroconf")
            announcer.withdraw(node)
            assert heard.next() == Gone(node, "zeroconf")
        announcer.announce(announcement(node))
        assert heard.next() == Found(announcement(node), "zeroconf")


def test_what_a_killed_forwarder_announced_is_forgotten(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (zeroconf_announcer, zeroconf_source):
        monkeypatch.setattr(module, "STAND_IN_TTL", 1)
    monkeypatch.setattr(zeroconf_source, "_STALE_SECONDS", 0.05)
    monkeypatch.setattr(zeroconf_source, "_ASK_TIMES", 0)
    stand_in = replace(announcement(node), path=("0123abcd",))
    with listening(ZeroconfSource(), node) as heard, announcing() as announcer:
        announcer.announce(stand_in)
        assert heard.next() == Found(stand_in, "zeroconf")
        assert heard.next() == Gone(node, "zeroconf", "0123abcd")
        announcer.announce(replace(stand_in, digest="d2"))
        assert heard.next() == Found(replace(stand_in, digest="d2"), "zeroconf")


def test_one_announcer_speaks_for_many_nodes(node: str) -> None:
    nodes = [f"{node}-{i}" for i in range(20)]
    with listening(ZeroconfSource(), *nodes) as heard, announcing() as announcer:
        for name in nodes:
            announcer.announce(announcement(name))
        assert {heard.next().announcement.node for _ in nodes} == set(nodes)  # type: ignore[union-attr]
        announcer.withdraw(nodes[7])
        assert heard.next() == Gone(nodes[7], "zeroconf")
        announcer.close()
        assert {heard.next().node for _ in nodes[1:]} == set(nodes) - {nodes[7]}  # type: ignore[union-attr]


def test_starting_and_ending_are_quick(node: str) -> None:
    with listening(ZeroconfSource(), node) as heard:
        began = time.monotonic()
        announcer = ZeroconfAnnouncer()
        announcer.announce(announcement(node))
        started = time.monotonic() - began
        heard.next()
        began = time.monotonic()
        announcer.withdraw(node)
        withdrawn = time.monotonic() - began
        announcer.announce(announcement(node))
        began = time.monotonic()
        announcer.close()
        announcer.close()
        closed = time.monotonic() - began

    assert started < 0.5
    assert withdrawn < 0.8
    assert closed < 0.8


def test_ending_before_it_was_open_leaves_nothing() -> None:
    announcer = ZeroconfAnnouncer()
    announcer.close()
    source = ZeroconfSource()
    source.stop()
    source = ZeroconfSource()
    source.start(Heard())
    source.stop()
    source.stop()


def test_the_announcement_is_told_again_and_again(node: str) -> None:
    with multicast_listener() as listener, announcing(period=0.2) as announcer:
        announcer.announce(announcement(node))
        told = 0
        while told < 8:  # three at first
            told += node.encode() in listener.recv(9000)


@contextlib.contextmanager
def multicast_listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("", 5353))
        group = struct.pack("4s4s", socket.inet_aton("224.0.0.251"), socket.inet_aton("127.0.0.1"))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        listener.settimeout(PATIENCE)
        yield listener


@pytest.mark.parametrize("interface", ["203.0.113.7", "nonsense"])
def test_an_interface_that_is_not_ours_is_told(interface: str, caplog: pytest.LogCaptureFixture) -> None:
    source, announcer = ZeroconfSource([interface]), ZeroconfAnnouncer([interface])
    with listening(source), pytest.raises(ConfigError, match=f"cannot open zeroconf.*{interface}"):
        source.wait_open()
    with pytest.raises(ConfigError, match=interface):
        announcer.wait_open()
    announcer.announce(announcement())  # finding by multicast is optional
    announcer.withdraw("n1")
    announcer.close()

    assert f"cannot open zeroconf on {interface}" in caplog.text


def test_no_interface_at_all_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="interfaces"):
        ZeroconfSource([])
    with pytest.raises(ConfigError, match="interfaces"):
        ZeroconfAnnouncer("127.0.0.1")


def test_an_id_that_cannot_be_a_label_is_refused() -> None:
    with announcing() as announcer, pytest.raises(UsageError, match="node id"):
        announcer.announce(announcement("tcp://127.0.0.1:47100"))


RECORDS = [
    b"",
    b"\x00",
    b"\xff" * 300,
    pack(b"v=1", b"m=\xff"),
    pack(b"v=1", b"m=m", b"e0=*:1,2"),
    b"\xffabc",
]


def test_rubbish_records_are_ignored(node: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dingo_zmq")
    nodes = [node, *(f"{node}-{i}" for i in range(len(RECORDS))), f"{node} _ x", f"{node}.dotted"]
    source = ZeroconfSource()
    with listening(source, *nodes) as heard, announcing() as announcer:
        source.wait_open()
        with foreign_services(nodes[1:], RECORDS):
            announcer.announce(announcement(node))
            assert heard.next() == Found(announcement(node), "zeroconf")
            announcer.announce(announcement(node, incarnation="bb"))
            assert heard.next() == Changed(announcement(node, incarnation="bb"), "zeroconf")
        announcer.withdraw(node)
        assert heard.next() == Gone(node, "zeroconf")

    assert f"ignored what zeroconf says of '{node}-2'" in caplog.text
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@contextlib.contextmanager
def foreign_services(nodes: list[str], records: list[bytes]) -> Iterator[None]:
    """Register services of our type that somebody else made."""
    from zeroconf import ServiceInfo, Zeroconf

    zeroconf = Zeroconf(["127.0.0.1"])
    good = encode_txt(announcement())
    for node, record in zip(nodes, [*records, good, good], strict=True):
        name = f"{node}.{SERVICE_TYPE}"
        info = ServiceInfo(SERVICE_TYPE, name, 9, properties=record, parsed_addresses=["127.0.0.1"])
        assert zeroconf.loop
        sending = zeroconf.async_register_service(info, cooperating_responders=True)
        asyncio.run_coroutine_threadsafe(sending, zeroconf.loop).result(PATIENCE)
    yield
    zeroconf.close()


class Warnings(logging.Handler):
    """Keeps the warnings for whoever waits for them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler = Warnings()
    logging.getLogger("dingo_zmq").addHandler(handler)
    yield handler
    logging.getLogger("dingo_zmq").removeHandler(handler)


def test_the_number_of_nodes_is_bounded(node: str, warnings: Warnings) -> None:
    with listening(ZeroconfSource(limit=0), node) as heard, announcing() as announcer:
        announcer.announce(announcement(node))
        assert "more than 0 nodes" in warnings.lines.get(timeout=PATIENCE)
        announcer.announce(announcement(node, incarnation="bb"))

    assert heard.all() == []
    assert warnings.lines.empty()


TWIN = """
import queue, sys
from dingo_zmq.mesh.discovery import Announcement, Found, ZeroconfAnnouncer, ZeroconfSource
mine, other = sys.argv[1:]
found = queue.Queue()
source, announcer = ZeroconfSource(), ZeroconfAnnouncer()
source.start(found.put)
announcer.announce(Announcement(mine, "", "m", "aa", 1, ("tcp://127.0.0.1:1",), ("tcp://127.0.0.1:2",)))
print("ready", flush=True)
while not isinstance(event := found.get(timeout=10), Found) or event.announcement.node != other:
    pass  # others share the loopback
print("found", flush=True)
sys.stdin.readline()
announcer.close()
source.stop()
"""


def test_processes_find_each_other(node: str) -> None:
    theirs = f"{node}-child"
    with listening(ZeroconfSource(), theirs) as heard, announcing() as announcer:
        announcer.announce(announcement(node))
        with child(TWIN, theirs, node) as process:
            found = heard.next()
            assert isinstance(found, Found)
            assert process.stdout
            assert process.stdout.readline() == "found\n"
            process.communicate("\n", timeout=PATIENCE)
            assert heard.next() == Gone(theirs, "zeroconf")


# -- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return board.board_folder(tmp_path / "run")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[DirectoryAnnouncer]:
    announcer = DirectoryAnnouncer(folder)
    try:
        yield announcer
    finally:
        announcer.close()


def test_a_start_that_a_signal_cuts_off_can_be_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise SystemExit(143)

    source = DirectorySource(folder)
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(threading.Thread, "start", start)
        source.start(lambda event: None)
    source.stop()


def test_a_file_is_found_changed_and_gone(folder: Path) -> None:
    with listening(DirectorySource(folder)) as heard, writing(folder) as announcer:
        announcer.announce(announcement())
        assert heard.next() == Found(announcement(), "directory")
        announcer.announce(announcement(incarnation="bb"))
        assert heard.next() == Changed(announcement(incarnation="bb"), "directory")
        announcer.withdraw("n1")
        announcer.withdraw("n1")
        assert heard.next() == Gone("n1", "directory")
        assert os.listdir(folder) == []


def test_a_node_that_is_there_is_found_before_start_returns(folder: Path) -> None:
    with writing(folder) as announcer:
        announcer.announce(announcement())
        with listening(DirectorySource(folder)) as heard:
            assert heard.all() == [Found(announcement(), "directory")]


def test_quick_changes_are_all_seen_in_the_end(folder: Path) -> None:
    with listening(DirectorySource(folder, check=1000)) as heard, writing(folder) as announcer:
        for i in range(200):
            announcer.announce(announcement(incarnation=f"{i:04x}"))
        while heard.next().announcement.incarnation != f"{199:04x}":  # type: ignore[union-attr]
            pass


def test_a_change_while_the_file_is_looked_at_is_no_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlocked = board._is_unlocked
    with writing(folder) as announcer:
        announcer.announce(announcement(incarnation="aa"))
        changes = iter(["bb"])

        def is_unlocked(fd: int) -> bool:
            for incarnation in changes:
                announcer.announce(announcement(incarnation=incarnation))
            return unlocked(fd)

        monkeypatch.setattr(board, "_is_unlocked", is_unlocked)
        (note,) = board.read_notes(folder, {}, 10).values()
        assert note.announcement.incarnation == "bb"


def test_one_supervisor_speaks_for_its_children(folder: Path) -> None:
    with listening(DirectorySource(folder)) as heard, writing(folder) as announcer:
        for name in ("a", "b", "c"):
            announcer.announce(announcement(name))
        assert {heard.next().announcement.node for _ in range(3)} == {"a", "b", "c"}  # type: ignore[union-attr]
        announcer.withdraw("b")
        assert heard.next() == Gone("b", "directory")
        announcer.close()
        assert {heard.next(), heard.next()} == {Gone("a", "directory"), Gone("c", "directory")}


WRITER = """
import sys
from dingo_zmq.mesh.discovery import Announcement, DirectoryAnnouncer
announcer = DirectoryAnnouncer(sys.argv[1])
announcer.announce(Announcement("n1", "", "m", "aa", 1, ("tcp://127.0.0.1:1",), ("tcp://127.0.0.1:2",)))
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_killed_announcer_is_noticed_and_its_file_removed(folder: Path) -> None:
    with child(WRITER, str(folder)) as process, listening(DirectorySource(folder)) as heard:
        assert isinstance(heard.next(), Found)
        os.kill(process.pid, signal.SIGKILL)

        assert heard.next(2.0) == Gone("n1", "directory")
        assert os.listdir(folder) == []


def test_a_successor_is_not_hurt_by_the_removal_of_the_dead(folder: Path) -> None:
    with child(WRITER, str(folder)) as process:
        process.kill()
        process.wait()
        assert len(os.listdir(folder)) == 1
        with writing(folder) as announcer:
            announcer.announce(announcement(incarnation="bb"))
            with listening(DirectorySource(folder)) as heard:
                assert heard.all() == [Found(announcement(incarnation="bb"), "directory")]
            assert len(os.listdir(folder)) == 1


def test_the_newer_of_two_living_files_of_a_node_counts(folder: Path) -> None:
    with writing(folder) as one, writing(folder) as other:
        one.announce(announcement(incarnation="aa"))
        other.announce(announcement(incarnation="bb"))
        os.utime(next(folder.glob(f"n1.{one._token}.json")), (1, 1))
        with listening(DirectorySource(folder)) as heard:
            assert heard.next() == Found(announcement(incarnation="bb"), "directory")
            other.close()
            assert heard.next() == Changed(announcement(incarnation="aa"), "directory")


def locked(path: Path, content: bytes) -> int:
    """Write a file as a living announcer would hold it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, content)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_rubbish_files_are_ignored(folder: Path) -> None:
    good = to_fields(announcement("liar")) | {"pid": 1}
    contents = [b"", b"{", b"[]", b"\xff", b"[" * 5000, b"x" * 20_000, json.dumps(good).encode()]
    contents += [json.dumps(good | {"pid": "1"}).encode(), json.dumps(good | {"tasks": 5}).encode()]
    fds = [locked(folder / f"r{i}.{i:016x}.json", content) for i, content in enumerate(contents)]
    os.mkfifo(folder / f"pipe.{'0' * 16}.json")
    (folder / f"link.{'0' * 16}.json").symlink_to("/etc/passwd")
    (folder / f"folder.{'0' * 16}.json").mkdir()
    (folder / "README").touch()
    before = sorted(os.listdir(folder))
    with listening(DirectorySource(folder)) as heard, writing(folder) as announcer:
        announcer.announce(announcement())
        assert heard.next() == Found(announcement(), "directory")
        announcer.close()
        assert heard.next() == Gone("n1", "directory")

    assert sorted(os.listdir(folder)) == before
    for fd in fds:
        os.close(fd)


def test_what_the_dead_left_is_cleared_away(folder: Path) -> None:
    for name in (f"n1.{'0' * 16}.json", ".0123.tmp", ".young.tmp"):
        (folder / name).write_bytes(b"{")
        (folder / name).chmod(0o600)
    os.utime(folder / ".0123.tmp", (1, 1))
    with listening(DirectorySource(folder)) as heard:
        assert heard.all() == []

    assert os.listdir(folder) == [".young.tmp"]


def test_the_number_of_files_is_bounded(folder: Path) -> None:
    with writing(folder) as announcer:
        for i in range(5):
            announcer.announce(announcement(f"n{i}"))
        with listening(DirectorySource(folder, limit=3)) as heard:
            assert len(heard.all()) == 3


def test_a_folder_that_is_removed_and_made_again_is_no_end(folder: Path) -> None:
    with listening(DirectorySource(folder)) as heard, writing(folder) as announcer:
        announcer.announce(announcement())
        heard.next()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        assert heard.next() == Gone("n1", "directory")
        announcer.announce(announcement())
        assert heard.next() == Found(announcement(), "directory")


def test_a_folder_that_others_may_use_is_refused(folder: Path) -> None:
    folder.chmod(0o750)
    for make in (DirectorySource, DirectoryAnnouncer):
        with pytest.raises(ConfigError, match="chmod 700"):
            make(folder)


def test_a_folder_that_becomes_open_counts_as_empty(folder: Path) -> None:
    with writing(folder) as announcer, listening(DirectorySource(folder)) as heard:
        announcer.announce(announcement())
        heard.next()
        folder.chmod(0o755)
        assert heard.next() == Gone("n1", "directory")


def test_the_environment_names_the_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGO_ZMQ_RUNTIME_DIR", str(tmp_path / "here"))
    with writing(tmp_path / "here") as announcer:
        announcer.announce(announcement())
        with listening(DirectorySource()) as heard:
            assert isinstance(heard.next(), Found)


def test_without_locks_the_process_id_tells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "fcntl", None)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    dead = to_fields(announcement("n2")) | {"pid": ended.pid}
    (folder / f"n2.{'0' * 16}.json").write_text(json.dumps(dead))
    (folder / f"n2.{'0' * 16}.json").chmod(0o600)
    with writing(folder) as announcer:
        announcer.announce(announcement())
        with listening(DirectorySource(folder)) as heard:
            assert heard.all() == [Found(announcement(), "directory")]
        assert len(os.listdir(folder)) == 1


@pytest.mark.parametrize(("pid", "alive"), [(1, True), (0, False), (-1, False), (10**30, True)])
def test_a_process_id_is_looked_up(pid: int, alive: bool) -> None:
    assert board.pid_exists(pid) is alive
    assert board.pid_exists(os.getpid())


# -- a list --------------------------------------------------------------------------------------------------


def test_a_list_is_found_at_once() -> None:
    with listening(StaticSource(["tcp://a:1", "tcp://[::1]:47100", "tcp://a:1"])) as heard:
        first, second = heard.all()

    assert first == Found(Announcement("tcp://a:1", "", "", "", 0, ("tcp://a:1",), ("tcp://a:2",), ""), "static")
    assert isinstance(second, Found)
    assert second.announcement.candidates == (("tcp://[::1]:47100", "tcp://[::1]:47101"),)


@pytest.mark.parametrize(
    "text", ["", "a:1", "tcp://a", "tcp://a:x", "tcp://*:1", "tcp://a:65535", "ipc://x", "tcp://"]
)
def test_a_bad_address_is_answered_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"tcp://192\.168\.1\.20:47100"):
        StaticSource([text])


# -- every source --------------------------------------------------------------------------------------------


def sources(folder: Path) -> list[Source]:
    return [StaticSource(["tcp://127.0.0.1:1"]), DirectorySource(folder), ZeroconfSource()]


@pytest.mark.parametrize("which", range(3))
def test_a_source_can_be_stopped_from_its_listener(folder: Path, which: int, node: str) -> None:
    source, heard = sources(folder)[which], Heard()
    stopped = threading.Event()

    def stop(event: Event) -> None:
        source.stop()
        heard(event)
        stopped.set()

    with writing(folder) as files, announcing() as announcer:
        files.announce(announcement(node))
        announcer.announce(announcement(node))
        source.start(stop)
        assert stopped.wait(PATIENCE)
    source.stop()

    assert len(heard.all()) == 1


def test_a_listener_that_fails_does_no_harm(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def fail(event: Event) -> None:
        heard(event)
        raise RuntimeError("not my day")

    source = DirectorySource(folder)
    source.start(fail)
    with writing(folder) as announcer:
        announcer.announce(announcement())
        heard.next()
    assert heard.next() == Gone("n1", "directory")
    source.stop()

    assert "not my day" in caplog.text


# -- all together --------------------------------------------------------------------------------------------


class Puppet:
    """A source that says what the test tells it to."""

    def __init__(self, fail: bool = False) -> None:
        self.emit: Emit = lambda event: None
        self.fail = fail
        self.stopped = False

    def start(self, emit: Emit) -> None:
        if self.fail:
            raise ConfigError("no")
        self.emit = emit

    def stop(self) -> None:
        self.stopped = True


@contextlib.contextmanager
def finding() -> Iterator[tuple[Finder, Callable[[Event], None], Heard]]:
    puppet, heard = Puppet(), Heard()
    finder = Finder([puppet], "m")
    finder.start(heard)
    yield finder, puppet.emit, heard
    finder.stop()


def test_a_node_of_two_sources_is_found_once_and_gone_once() -> None:
    told = announcement()
    with finding() as (finder, say, heard):
        say(Found(told, "zeroconf"))
        say(Found(told, "directory"))
        assert finder.sources_of("n1") == ("directory", "zeroconf")
        say(Gone("n1", "directory"))
        assert finder.sources_of("n1") == ("zeroconf",)
        assert finder.nodes == {"n1": told}
        say(Gone("n1", "zeroconf"))
        say(Gone("n1", "zeroconf"))

        assert heard.all() == [Found(told, "zeroconf"), Gone("n1", "zeroconf")]
        assert finder.sources_of("n1") == ()


def test_the_candidates_of_all_sources_are_put_together_nearest_first() -> None:
    far = replace(
        announcement(), tasks=("tcp://10.0.0.7:1", "tcp://a:1"), reports=("tcp://10.0.0.7:2", "tcp://a:2")
    )
    near = replace(
        announcement(), tasks=("ipc:///t", "tcp://10.0.0.7:1"), reports=("ipc:///r", "tcp://10.0.0.7:2")
    )
    both = replace(announcement(), tasks=(*near.tasks, "tcp://a:1"), reports=(*near.reports, "tcp://a:2"))
    with finding() as (_, say, heard):
        say(Found(far, "zeroconf"))
        say(Found(near, "directory"))
        say(Changed(far, "zeroconf"))
        say(Gone("n1", "directory"))

        assert heard.all() == [Found(far, "zeroconf"), Changed(both, "directory"), Changed(far, "directory")]


def test_a_restart_replaces_what_slower_sources_still_say() -> None:
    old, new = announcement(port=1), announcement(incarnation="bb", port=2)
    with finding() as (_, say, heard):
        say(Found(old, "zeroconf"))
        say(Found(old, "directory"))
        say(Changed(new, "directory"))
        say(Changed(new, "zeroconf"))

        assert heard.all() == [Found(old, "zeroconf"), Changed(new, "directory")]


def test_other_meshes_are_remembered_but_not_emitted() -> None:
    other, ours, unknown = announcement("n1", "other"), announcement("n1"), announcement("n3", "")
    with finding() as (finder, say, heard):
        say(Found(other, "zeroconf"))
        say(Found(unknown, "static"))
        assert finder.others == {"n1": other}
        say(Changed(ours, "zeroconf"))
        assert finder.others == {}
        say(Changed(other, "zeroconf"))
        assert finder.others == {"n1": other}
        say(Gone("n1", "zeroconf"))
        assert finder.others == {}

        expected = [Found(unknown, "static"), Found(ours, "zeroconf"), Gone("n1", "zeroconf")]
        assert heard.all() == expected


def test_events_of_many_threads_are_emitted_in_order_and_one_at_a_time() -> None:
    puppet, seen, busy = Puppet(), list[Event](), threading.Lock()

    def listen(event: Event) -> None:
        assert busy.acquire(blocking=False)
        seen.append(event)
        busy.release()

    def say(source: str) -> None:
        for i in range(200):
            puppet.emit(Found(announcement(port=i + 1), source))
            puppet.emit(Gone("n1", source))

    finder = Finder([puppet], "m")
    finder.start(listen)
    threads = [threading.Thread(target=say, args=(f"s{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finder.stop()

    there = False
    for event in seen:
        assert there is not isinstance(event, Found)
        there = not isinstance(event, Gone)
    assert not there


def test_the_finder_can_be_asked_and_stopped_from_its_listener() -> None:
    puppet, asked = Puppet(), list[object]()

    def listen(event: Event) -> None:
        asked.append(finder.sources_of("n1"))
        puppet.emit(Gone("n1", "x"))  # comes later, not within
        finder.stop()

    finder = Finder([puppet], "m")
    finder.start(listen)
    puppet.emit(Found(announcement(), "x"))
    puppet.emit(Found(announcement("n2"), "x"))

    assert asked == [("x",)]
    assert puppet.stopped


def test_stopping_waits_for_a_listener_at_work() -> None:
    puppet, entered, leave, log = Puppet(), threading.Event(), threading.Event(), list[str]()

    def listen(event: Event) -> None:
        entered.set()
        assert leave.wait(PATIENCE)
        log.append("heard")

    def stop() -> None:
        finder.stop()
        log.append("stopped")

    finder = Finder([puppet], "m")
    finder.start(listen)
    threads = [
        threading.Thread(target=puppet.emit, args=(Found(announcement(), "x"),)),
        threading.Thread(target=stop),
    ]
    threads[0].start()
    assert entered.wait(PATIENCE)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()

    assert log == ["heard", "stopped"]


def test_a_listener_that_fails_misses_nothing_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    puppet, heard = Puppet(), Heard()

    def listen(event: Event) -> None:
        heard(event)
        raise RuntimeError("not my day")

    finder = Finder([puppet], "m")
    finder.start(listen)
    puppet.emit(Found(announcement(), "x"))
    puppet.emit(Gone("n1", "x"))
    finder.stop()

    assert len(heard.all()) == 2
    assert "not my day" in caplog.text


def test_more_nodes_than_there_may_be_wait_for_their_turn(caplog: pytest.LogCaptureFixture) -> None:
    puppet, heard = Puppet(), Heard()
    finder = Finder([puppet], "m", most=2)
    finder.start(heard)
    for node in ("n1", "n2", "n3", "n4", "n5"):
        puppet.emit(Found(announcement(node), "x"))
    puppet.emit(Gone("n3", "x"))
    puppet.emit(Changed(announcement("n4", port=47300), "x"))
    puppet.emit(Gone("n1", "x"))
    puppet.emit(Gone("n4", "x"))

    assert heard.all() == [
        Found(announcement("n1"), "x"),
        Found(announcement("n2"), "x"),
        Gone("n1", "x"),
        Found(announcement("n4", port=47300), "x"),
        Gone("n4", "x"),
        Found(announcement("n5"), "x"),
    ]
    assert [record.message for record in caplog.records] == [
        "more than 2 nodes are announced; the rest is not used; hint: max_nodes"
    ]
    assert set(finder.nodes) == {"n2", "n5"}
    finder.stop()


def test_more_nodes_than_the_one_there_may_be(caplog: pytest.LogCaptureFixture) -> None:
    puppet = Puppet()
    finder = Finder([puppet], "m", most=1)
    finder.start(Heard())
    for node in ("n1", "n2"):
        puppet.emit(Found(announcement(node), "x"))
    finder.stop()

    assert [record.message for record in caplog.records] == [
        "more than 1 node is announced; the rest is not used; hint: max_nodes"
    ]


def test_a_source_that_cannot_start_stops_the_others() -> None:
    good = Puppet()

    with pytest.raises(ConfigError):
        Finder([good, Puppet(fail=True)], "m").start(Heard())
    assert good.stopped


def test_real_sources_work_together(folder: Path, node: str) -> None:
    told = announcement(node)
    finder, heard = Finder([DirectorySource(folder), ZeroconfSource()], "m"), Heard(node)
    with writing(folder) as files, announcing() as announcer:
        files.announce(told)
        announcer.announce(told)
        finder.start(heard)
        assert heard.next() == Found(told, "directory")
    assert isinstance(heard.next(), Gone)
    finder.stop()
