"""The hosts and LANs themselves: what the other tests here rely on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests import lan as harness
from tests.lan import Capture, Frame, Host, Namespace, Net, parse_frame
from tests.relay import Relay, Weather
from tests.support import PATIENCE, Program, wait_until

LISTEN = """
import socket
listener = socket.create_server(("", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening as", socket.gethostname(), socket.gethostbyname(socket.gethostname()), flush=True)
while True:
    connection = listener.accept()[0]
    connection.sendall(b"hello")
    connection.close()
"""

RUN_TO_BE_KILLED = """
import pathlib, secrets, sys, threading
from tests.lan import Net
net = Net(pathlib.Path(sys.argv[1]))
host = net.host("a", net.lan())
program = host.script("import threading; print('here', flush=True); threading.Event().wait()")
program.line("here")
print(host.number, flush=True)
threading.Event().wait()
"""


def hear(host: Host, address: str) -> bytes:
    """Connect to `LISTEN` and return what it says."""

    def connect() -> bytes:
        with socket.create_connection((address, 7000), timeout=0.5) as connection:
            return connection.recv(9)

    return host.inside(connect)


def hears(host: Host, address: str) -> bytes:
    """Return the same, as soon as it can be reached: a link may take its time, and so may a busy machine."""

    def once() -> bytes | None:
        try:
            return hear(host, address)
        except OSError:
            return None

    return wait_until(once, f"{host.name} reaches {address}")


def users(namespace: int) -> list[str]:
    """Return the processes in a network namespace."""
    found = []
    for each in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found += [each.parts[2]] * (each.stat().st_ino == namespace)
        except OSError:  # gone
            continue
    return found


def test_hosts_reach_each_other_unless_they_are_cut_off(net: Net) -> None:
    lan, other = net.lan(), net.lan()
    a, b, c, far = net.host("a", lan), net.host("b", lan), net.host("c", lan), net.host("far", other)
    listening = b.script(LISTEN).line("listening")

    assert listening == "listening as b 127.0.1.1"
    assert hears(a, b.address) == hears(b, b.address) == hears(b, "127.0.1.1") == b"hello"
    assert hears(a, f"{b.link_local()}%lan0") == b"hello"
    with pytest.raises(OSError, match="unreachable"):
        hear(far, b.address)
    lan.cut(b)
    with pytest.raises(TimeoutError):
        hear(a, b.address)
    lan.cut(c)
    assert hears(a, b.address) == b"hello"
    lan.heal()
    lan.plug(b, up=False)
    with pytest.raises(TimeoutError):
        hear(a, b.address)
    lan.plug(b)
    b.link(up=False)
    with pytest.raises(OSError):  # noqa: PT011 (no route or time out, as the kernel likes)
        hear(a, b.address)
    b.link(up=True)
    assert hears(a, b.address) == b"hello"


def test_addresses_and_interfaces_come_and_go(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan, ipv6=False)
    b.script(LISTEN).line("listening")
    old, new = b.address, lan.free_address()
    assert "inet6" not in b.command("ip", "address", "show", "lan0")
    b.remove_address(old)
    b.add_address(new)
    assert hears(a, new) == b"hello"
    assert b.address == new
    assert b.join(lan) == "lan1"
    b.remove_interface("lan0")
    assert hears(a, b.addresses["lan1"]) == b"hello"


def test_frames_are_seen(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    capture = b.capture()

    def send(address: str) -> None:
        family, kind, *_, target = socket.getaddrinfo(address, 7002, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sender:
            sender.bind(("", 7001))
            sender.sendto(b"ping", target)

    a.inside(send, b.address)
    a.inside(send, f"{b.link_local()}%lan0")
    expected = [
        Frame("udp", a.address, b.address, (7001, 7002), b"ping"),
        Frame("udp", a.link_local(), b.link_local(), (7001, 7002), b"ping"),
    ]
    for each in expected:
        capture.wait_for(lambda frame: frame == each, str(each))


def test_tcp_frames_are_understood(net: Net) -> None:
    a = net.host("a", net.lan())
    a.script(LISTEN).line("listening")
    capture = a.inside(Capture, "lo")
    hear(a, a.address)

    assert capture.wait_for(lambda frame: bool(frame.payload), "what it said").payload == b"hello"
    capture.close()
    assert parse_frame(bytes(12) + b"\x08\x06" + bytes(28)).protocol == "0x0806"


def tell(host: Host, other: Host, word: bytes = b"ping") -> None:
    """Send a datagram."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(word, (other.address, 7002))

    host.inside(send)


def words(capture: Capture) -> list[bytes]:
    """Return what was told and has arrived."""
    return [frame.payload for frame in capture.frames() if 7002 in frame.ports and not frame.outgoing]


def test_ways_can_be_cut_in_one_direction_and_between_two(net: Net) -> None:
    lan = net.lan()
    a, b, c = (net.host(name, lan, ipv6=False) for name in "abc")
    captures = {host.name: host.capture() for host in (a, b, c)}

    def arrived(after: int) -> set[str]:
        """Have each tell every other, and return which of those words arrived."""
        pairs = [(one, other) for one in (a, b, c) for other in (a, b, c) if one is not other]
        for one, other in pairs:
            tell(one, other, f"{one.name}{other.name}{after}".encode())
        wait_until(lambda: lan.lost() >= after, "the others are lost")
        found = {word.decode() for capture in captures.values() for word in words(capture)}
        return {word[:2] for word in found if word.endswith(str(after))}

    lan.forget([7003])  # which nobody uses
    everything = {"ab", "ac", "ba", "bc", "ca", "cb"}
    wait_until(lambda: arrived(0) == everything, "everybody knows everybody")
    lan.cut(b, way="in")
    assert arrived(2) == everything - {"ab", "cb"}
    lan.cut_ways((a, b), (c, a), (a, c))
    assert arrived(3) == everything - {"ab", "ca", "ac"}
    lan.lossy(99, "udp dport 7002")
    wait_until(lambda: tell(a, b) or lan.lost() >= 3, "some are lost by chance")


def test_a_firewall_forgets_a_connection(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)
    b.script(LISTEN).line("listening")
    with a.inside(socket.socket) as connection:
        connection.bind(("", 7003))
        connection.settimeout(0.3)
        lan.forget([7003])
        with pytest.raises(TimeoutError):
            connection.connect((b.address, 7000))
    assert lan.lost() > 0
    assert hears(a, b.address) == b"hello"


def test_a_relay_joins_two_lans_well_or_badly(net: Net) -> None:
    lan, behind = net.lan(), net.lan()
    a, b = net.host("a", lan, ipv6=False), net.host("b", behind, ipv4=False, ipv6=False)
    b.add_address(lan.free_address())
    b.script(LISTEN).line("listening")
    with contextlib.closing(Relay((lan, behind), Weather(), seed=1)) as relay:
        assert hears(a, b.address) == b"hello"
        capture, numbers = b.capture(), [str(number).encode() for number in range(50)]
        relay.weather = Weather(delay=0.05, jitter=0.05, doubled=1.0)
        for word in numbers:
            tell(a, b, word)
        wait_until(lambda: len(words(capture)) == 2 * len(numbers), "each arrives twice")
        assert sorted(words(capture)) == sorted(2 * numbers)
        assert words(capture) != sorted(words(capture), key=int)
        assert relay.overtaken > 0
        relay.weather = Weather(loss=1.0)
        tell(a, b)
        wait_until(lambda: relay.lost > 0, "a frame is lost")
        assert b"ping" not in words(capture)
    with pytest.raises(OSError):  # noqa: PT011 (no route or time out, as the kernel likes)
        hear(a, b.address)


def mdns(host: Host) -> None:
    """Send something to where mDNS goes."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.address))
            sender.sendto(b"hello", ("224.0.0.251", 5353))
            sender.sendto(b"hello", ("224.0.0.251", 5354))

    host.inside(send)


def test_multicast_can_be_blocked(net: Net) -> None:
    lan = net.lan()
    a, b = net.host("a", lan), net.host("b", lan)

    def heard(port: int) -> list[Frame]:
        return [frame for frame in capture.frames() if port in frame.ports]

    capture = b.capture()
    mdns(a)
    capture.wait_for(lambda frame: 5354 in frame.ports, "before")
    assert len(heard(5353)) == 1
    lan.no_multicast()
    mdns(a)
    wait_until(lambda: len(heard(5354)) == 2, "the other port is not blocked")
    assert len(heard(5353)) == 1
    a.no_multicast()
    with pytest.raises(PermissionError):
        mdns(a)


def test_nothing_is_left(net: Net, session_folder: Path) -> None:
    witness, short = Namespace(), Net(session_folder / "short")
    a = short.host("a", short.lan())
    witness.ip(f"link add inside type veth peer name outside netns {a.path}", "link set inside up")
    program = a.script(LISTEN)
    program.line("listening")
    number = a.number
    assert str(program.pid) in users(number)
    short.close()
    short.close()

    assert users(number) == []
    # The kernel takes its end of the pair away together with the namespace.
    wait_until(lambda: "inside" not in witness.command("ip", "link"), "the namespace is gone")
    witness.close()


def test_nothing_is_left_of_a_run_that_is_killed(net: Net, tmp_path: Path) -> None:
    root = str(Path(harness.__file__).parent.parent)
    command = [sys.executable, "-c", RUN_TO_BE_KILLED, str(tmp_path)]
    run = Program(command=command, env={**os.environ, "PYTHONPATH": root})
    number = int(wait_until(lambda: run.out, "the namespace's number", PATIENCE))
    assert len(users(number)) == 1
    run.signal(signal.SIGKILL)
    run.end()

    wait_until(lambda: users(number) == [], "its program is ended by the kernel")


def test_where_there_can_be_none_a_test_is_skipped_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "obstacle", lambda: "no wine")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no wine"):
        harness.require_namespaces()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no wine"):
        harness.require_namespaces()
