"""Who gets in, and what leaves a machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dingo_zmq.mesh import keys
from tests.lan import Capture, Host, Net, ready
from tests.support import PATIENCE, wait_until

SECRET = """
from dingo_zmq import App
app = App("mesh")

@app.task
def a_name_to_be_found(argument: str) -> str:
    return argument[::-1]
"""
ARGUMENT = "an-argument-to-be-found"
TOLD = [b"a_name_to_be_found", ARGUMENT.encode(), ARGUMENT[::-1].encode()]


def pair_of_hosts(net: Net, *, key: bool = True) -> tuple[Host, Host]:
    lan = net.lan()
    return net.host("a", lan, key=key, ipv6=False), net.host("b", lan, key=key, ipv6=False)


def said(capture: Capture, protocol: str) -> bytes:
    """Return all that was sent by one protocol, with what belongs together in one piece."""
    flows: dict[tuple[Any, ...], bytes] = {}
    for frame in capture.frames():
        if frame.protocol == protocol:
            flow = frame.source, frame.target, *frame.ports
            flows[flow] = flows.get(flow, b"") + frame.payload
    return b"\n".join(flows.values())


def test_without_a_key_nothing_leaves_the_machine(net: Net) -> None:
    a, b = pair_of_hosts(net, key=False)
    capture = b.capture()
    b.node()
    assert b.run("call", "add", "2", "3").out == "5\n"
    assert list(ready(b.app())) == ["b"]
    assert json.loads(b.run("peers", "--json", "--wait", "0.5").out)[0]["name"] == "b"

    assert [frame for frame in capture.frames() if frame.outgoing] == []
    with pytest.raises(ConnectionRefusedError):
        a.inside(socket.create_connection, (b.address, 47100), PATIENCE)
    call = a.run("call", "add", "2", "3", "--timeout", "0.5")
    assert call.wait() == 3


ASK = """
import socket, struct, sys
question = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
question += b"\\x0a_dingo-zmq\\x04_tcp\\x05local\\0" + struct.pack("!2H", 12, 0x8001)  # answers to us alone
for port in (0, 5353):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            asker.setsockopt(socket.SOL_SOCKET, option, 1)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
        asker.bind((sys.argv[1], port))
        for target in sys.argv[2:]:
            asker.sendto(question, (target, 5353))
"""
JOIN = """
import socket, sys, threading
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    listener.setsockopt(socket.SOL_SOCKET, option, 1)
listener.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("joined", flush=True)
threading.Event().wait()
"""


def test_without_a_key_no_question_is_answered_whoever_else_listens_on_the_machine(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan, ipv6=False), net.host("b", lan, key=False, ipv6=False)
    witness = net.host("witness", lan, ipv6=False)
    b.script(JOIN, b.address).line("joined")
    b.node()
    witness.node()
    capture, asked = b.capture(), a.capture()
    for _ in range(2):
        seen = len(asked.frames())
        ask = a.script(ASK, a.address, "224.0.0.251", b.address, witness.address)
        assert ask.wait() == 0
        wait_until(
            lambda seen=seen: any(
                (frame.protocol, frame.source, frame.target) == ("udp", witness.address, a.address)
                for frame in asked.frames()[seen:]
            ),
            "who has a key answers",
        )

    assert [frame for frame in capture.frames() if frame.outgoing and frame.protocol in ("tcp", "udp")] == []
    assert b.run("call", "add", "2", "3", "--discovery", "zeroconf").out == "5\n"


def test_with_a_key_nothing_can_be_read_but_where_nodes_are(net: Net, tmp_path: Path) -> None:
    a, b = pair_of_hosts(net)
    file = tmp_path / "tasks.py"
    file.write_text(SECRET)
    capture = b.capture()
    b.node(target=file)
    call = a.run("call", "a_name_to_be_found", ARGUMENT)

    assert call.out == f"{ARGUMENT[::-1]}\n"
    by_tcp, by_udp = said(capture, "tcp"), said(capture, "udp")
    assert b"CURVE" in by_tcp
    for word in (*TOLD, net.mesh.encode(), net.key.secret):
        assert word not in by_tcp
    assert b"_dingo-zmq" in by_udp
    assert f"{b.address}:47100".encode() in by_udp
    assert b"127.0.1.1" not in by_udp
    for word in (*TOLD, net.key.secret, net.key.public):
        assert word not in by_udp


def test_without_security_everything_can_be_read(net: Net, tmp_path: Path) -> None:
    a, b = pair_of_hosts(net, key=False)
    file = tmp_path / "tasks.py"
    file.write_text(SECRET)
    capture = b.capture()
    node = b.node("--insecure-lan", target=file)
    call = a.run("call", "--insecure-lan", "a_name_to_be_found", ARGUMENT)

    assert call.out == f"{ARGUMENT[::-1]}\n"
    assert [word for word in TOLD if word not in said(capture, "tcp")] == []
    assert "WARNING" in node.line("NO KEY", "err")
    locked = b.run("call", "a_name_to_be_found", ARGUMENT, "--timeout", "1")  # with a key nobody talks without one
    assert locked.wait() == 3
    assert "key" in locked.err


def test_the_other_key_does_not_fit(net: Net) -> None:
    a, b = pair_of_hosts(net)
    b.node()
    a.key_file.unlink()
    a.mesh_key(keys.new_key("mesh"))
    peers = a.program("peers", "--json")
    table = a.program("peers")
    call = a.program("call", "add", "2", "3", "--timeout", "2")
    named = a.program(
        "call", "--discovery", "none", "--peer", f"tcp://{b.address}:47100", "--timeout", "2", "add", "2", "3"
    )

    assert peers.wait() == table.wait() == 3
    assert [(p["name"], p["state"]) for p in json.loads(peers.out)] == [("b", "locked out")]
    assert "locked out" in table.out
    assert call.wait() == named.wait() == 3
    assert "key" in call.err
    assert "key" in named.err
    a.key_file.unlink()
    a.mesh_key(net.key)
    assert a.run("call", "add", "2", "3").out == "5\n"


def test_a_node_that_gets_the_right_key_is_used_by_whoever_waits(net: Net) -> None:
    a, b = pair_of_hosts(net)
    b.key_file.unlink()
    b.mesh_key(keys.new_key("mesh"))
    first = b.node()
    app = a.app()
    result = app.call("add", 2, 3)
    wait_until(lambda: [peer.state for peer in app.peers()] == ["locked out"], "it is locked out")
    assert "key" in result.why()
    first.stop()
    b.key_file.unlink()
    b.mesh_key(net.key)
    b.node()

    assert result.result(PATIENCE) == 5


def test_a_key_that_is_made_and_copied_is_all_it_takes(net: Net) -> None:
    a, b = pair_of_hosts(net, key=False)
    assert a.run("keygen").wait() == 0
    assert a.key_file.stat().st_mode & 0o777 == 0o600
    elsewhere = b.folder / "copied.key"
    keys.save_key(elsewhere, keys.load_key(a.key_file, "mesh"))
    b.node("--key", str(elsewhere))

    assert a.run("call", "add", "2", "3").out == "5\n"
    again = a.run("keygen")
    assert again.wait() == 2
    assert str(a.key_file) in again.err


def cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def open_to_others(file: Path) -> None:
    file.chmod(0o644)


def make_local(file: Path) -> None:
    file.unlink()
    keys.save_key(file, keys.new_key("local"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [(cut_short, "a part of one"), (open_to_others, "chmod 600"), (make_local, "not a mesh or guest key")],
)
def test_a_key_file_that_will_not_do_is_a_clear_error(
    net: Net, damage: Callable[[Path], None], words: str
) -> None:
    a = net.host("a", net.lan())
    damage(a.key_file)
    programs = [a.program("node", "tests/served.py"), a.program("call", "add", "2", "3"), a.program("peers")]

    for program in programs:
        assert program.wait() == 2
        assert words in program.err
        assert str(a.key_file) in program.err
        assert "Traceback" not in program.err
        assert net.key.secret.decode() not in program.err
