"""Strangers on the LAN: stale and false records, and programs that are no nodes at all."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable

import pytest

from dingo_zmq.mesh.keys import key_id
from tests.lan import Host, Net, ready
from tests.net.strangers import announce, record
from tests.support import PATIENCE, wait_until

TALKERS = {
    7000: "pass",
    7100: "while data := connection.recv(4096): connection.sendall(data)",
    7200: "connection.recv(1); connection.sendall(b'HTTP/1.1 400 Bad\\r\\n\\r\\n'); connection.close()",
    7300: "connection.sendall(b'220 mail ready\\r\\n' * 1000)",
    7400: "connection.close()",
}
"""what a program at these ports, and those above them, does with a connection"""
TALK = """
import contextlib, socket, threading
def serve(listener):
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],)).start()
kept = []
def talk(connection):
    kept.append(connection)
    with contextlib.suppress(OSError):
        {talk}
for port in ({port}, {port} + 1):
    threading.Thread(target=serve, args=(socket.create_server(("", port)),)).start()
print("listening", flush=True)
"""


def listening(host: Host, *ports: int) -> None:
    """Start some of the programs that are no nodes."""
    programs = [host.script(TALK.format(port=port, talk=TALKERS[port])) for port in ports]
    for program in programs:
        program.line("listening")


def test_addresses_that_are_no_nodes_do_no_harm(net: Net) -> None:
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    listening(c, *TALKERS)
    peers = [f"tcp://{c.address}:{port}" for port in TALKERS]
    words = [word for peer in peers for word in ("--peer", peer)]
    call = a.program("call", "add", "2", "3", *words, "--discovery", "none", "--timeout", "2")
    b.node()
    good = a.program("call", "add", "2", "3", *words)

    assert (good.wait(), good.out) == (0, "5\n")
    assert call.wait() == 3
    assert "no node has answered yet" in call.err
    assert peers[0] in call.err
    assert "Traceback" not in good.err + call.err


def test_records_that_are_stale_do_no_harm(net: Net) -> None:
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    b.node()
    app, key = a.app(), key_id(net.key)
    assert list(ready(app)) == ["b"]
    stale = {
        "dead": record("dead", net.mesh, c.address, key=key),
        "nobody": record("nobody", net.mesh, lan.free_address(), key=key),
        "elsewhere": record("elsewhere", net.mesh, "192.0.2.1", key=key),
    }
    announce(c, stale)
    wait_until(lambda: len(app.peers()) == 1 + len(stale), "it has heard of all of them")

    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert list(app.map("echo", range(1000))) == list(range(1000))
    assert list(ready(app)) == ["b"]


def test_a_record_that_lies_about_a_node_does_no_harm(net: Net) -> None:
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    listening(c, 7100)
    b.node()
    app = a.app()
    node = ready(app)["b"].node
    lie = record(node, net.mesh, c.address, key=key_id(net.key), port=7100)
    seen = a.capture()
    announce(c, {node: lie})
    seen.wait_for(lambda frame: frame.source == c.address and frame.ports[1] == 5353, "the lie")

    for number in range(1000):
        assert app.call("echo", number).result(PATIENCE) == number


def rubbish(net: Net, number: int) -> bytes:
    return secrets.token_bytes(number % 400) if number % 2 else b"\x03v=1\x03m=" + net.mesh[:1].encode()


def other_mesh(net: Net, number: int) -> bytes:
    return record("x", f"{net.mesh}{number}", "10.77.1.250")


def other_key(net: Net, number: int) -> bytes:
    return record("x", net.mesh, "10.77.1.250", key=f"{number:08x}")


def false_address(net: Net, number: int) -> bytes:
    address, port = f"10.77.1.{100 + number % 100}", 30_000 + 2 * (number // 100)
    return record("x", net.mesh, address, key=key_id(net.key), port=port)


@pytest.mark.parametrize("kind", [rubbish, other_mesh, other_key, false_address])
def test_a_thousand_false_records_hide_no_node(net: Net, kind: Callable[[Net, int], bytes]) -> None:
    lan = net.lan()
    a, b, c = net.host("a", lan), net.host("b", lan), net.host("c", lan)
    capture = a.capture()
    command = ["sh", "-c", 'ulimit -Sn 1024 && exec "$@"', "sh", sys.executable, "-m", "dingo_zmq"]  # as usual
    call = a.program(command=[*command, "call", "add", "2", "3"])
    capture.wait_for(lambda frame: frame.outgoing and 5353 in frame.ports, "the caller listens")
    announce(c, {f"false{number}": kind(net, number) for number in range(1000)})
    b.node()

    assert (call.wait(), call.out) == (0, "5\n")
    assert "Traceback" not in call.err
    assert call.err.count("\n") < 50
